//! The reactor's half of connections: listeners, adoption, receives and sends as the seam has them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use io::{ConnectionId, ListenerId, Net, NetError, NetErrorKind, ReactorId, Segment, SendList};

use crate::core::Submission;
use crate::link::{Owner, Receive, Sending, same_host};
use crate::{SimBuffer, SimIo};

/// Connections of one reactor.
const CONNECTIONS: usize = 4096;

/// A connection that belongs to no reactor.
#[derive(Debug)]
pub struct SimSocket {
    link: u64,
    // Where the number goes if this is dropped; `None` once adopted.
    dropped: Option<Arc<Mutex<Vec<u64>>>>,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    pub(crate) address: SocketAddr,
    pub(crate) reactor: ReactorId,
}

impl<M: Send + 'static> Net for SimIo<M> {
    type Socket = SimSocket;

    fn listen(&mut self, listener: ListenerId, address: SocketAddr) -> Result<SocketAddr, NetError> {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        if !(address.ip().is_loopback() || address.ip().is_unspecified()) {
            return Err(NetError { kind: NetErrorKind::AddressNotAvailable, errno: 99 });
        }
        let taken = |port| {
            let clash = |other: &Listener| other.address.port() == port && same_host(other.address, address);
            core.listeners.iter().any(clash)
        };
        let port = match address.port() {
            0 => (40_000..=u16::MAX).find(|port| !taken(*port)),
            port => Some(port).filter(|port| !taken(*port)),
        };
        let port = port.ok_or(NetError { kind: NetErrorKind::AddressInUse, errno: 98 })?;
        let address = SocketAddr::new(address.ip(), port);
        core.listeners.push(Listener { id: listener, address, reactor });
        Ok(address)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let reactor = self.reactor;
        self.core_mut().listeners.retain(|other| other.id != listener || other.reactor != reactor);
    }

    fn adopt(&mut self, mut socket: SimSocket) -> Option<ConnectionId> {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        if core.reactor(reactor).connections.len() == CONNECTIONS {
            drop(core);
            drop(socket);
            return None;
        }
        socket.dropped = None;
        let connection = ConnectionId(core.next_id());
        core.reactor(reactor).connections.insert(connection.0, socket.link);
        core.link(socket.link).owner = Owner::Reactor(reactor, connection);
        Some(connection)
    }

    fn release(&mut self, connection: ConnectionId) -> SimSocket {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        let link = core.link_of(reactor, connection);
        core.reactor(reactor).connections.remove(&connection.0);
        let dropped = core.dropped.clone();
        let state = core.link(link);
        assert!(state.receive.is_none(), "released with a receive under way: {connection:?}");
        assert!(state.send.is_none(), "released with a send under way: {connection:?}");
        state.owner = Owner::Nobody;
        SimSocket::new(link, dropped)
    }

    fn receive(&mut self, connection: ConnectionId) {
        self.begin_receive(connection, Receive::Own);
    }

    fn receive_into(&mut self, connection: ConnectionId, buffer: SimBuffer, start: usize, end: usize) {
        assert!(start < end, "a receive of no bytes");
        assert!(end <= buffer.len(), "a receive beyond its buffer");
        self.begin_receive(connection, Receive::Into { buffer, start, end });
    }

    fn send(&mut self, connection: ConnectionId, list: SendList<SimBuffer>) {
        assert!(list.len_bytes() > 0, "a send of nothing");
        let bytes = flatten(&list);
        let reactor = self.reactor;
        let mut core = self.core_mut();
        let link = core.link_of(reactor, connection);
        let state = core.link(link);
        assert!(state.send.is_none(), "a second send on {connection:?}");
        state.send = Some(Sending { list, bytes, taken: 0 });
        core.reactor(reactor).submitted.push(Submission::Send(link));
    }

    fn close(&mut self, connection: ConnectionId) {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        let link = core.link_of(reactor, connection);
        core.link(link).closing = true;
        core.reactor(reactor).submitted.push(Submission::Close(link));
    }
}

impl<M: Send + 'static> SimIo<M> {
    fn begin_receive(&mut self, connection: ConnectionId, receive: Receive) {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        let link = core.link_of(reactor, connection);
        let state = core.link(link);
        assert!(state.receive.is_none(), "a second receive on {connection:?}");
        state.receive = Some(receive);
        core.reactor(reactor).submitted.push(Submission::Receive(link));
    }
}

impl SimSocket {
    pub(crate) fn new(link: u64, dropped: Arc<Mutex<Vec<u64>>>) -> Self {
        Self { link, dropped: Some(dropped) }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.link);
        }
    }
}

fn flatten(list: &SendList<SimBuffer>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(list.len_bytes());
    for segment in &list.segments {
        let before = bytes.len();
        match segment {
            Segment::Header { start, len } => {
                bytes.extend_from_slice(&list.headers[*start as usize..][..*len as usize]);
            }
            Segment::Owned { buffer, start, len } => {
                bytes.extend_from_slice(&buffer[*start as usize..][..*len as usize]);
            }
            Segment::Shared(slice) => bytes.extend_from_slice(slice),
            Segment::Zeroes { len } => bytes.resize(before + *len as usize, 0),
        }
        assert!(bytes.len() > before, "an empty segment in a send");
    }
    bytes
}
