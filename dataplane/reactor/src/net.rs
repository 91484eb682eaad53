//! The reactor's sockets: listeners, and a table of connections with at most one receive and one send each.

mod incoming;
mod listener;

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use io::{ConnectionId, Event, ListenerId, Net, NetError, NetErrorKind, SendList, Time};

use crate::Reactor;
use crate::buffer::ArenaBuffer;
use crate::buffer::arena::Arena;
use crate::reactor::Ready;
use crate::ring::pool::Pool;
use crate::ring::receive::Receives;
use crate::ring::send::Sends;
use crate::ring::{Completion, Kind, Ring, Target};
use incoming::Receive;
use listener::Listener;

/// A connection that belongs to no reactor; dropping it closes it.
#[derive(Debug)]
pub struct OwnedSocket(TcpStream);

/// All sockets of a reactor.
pub(crate) struct Sockets {
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
    free: Vec<u32>,
    connections_max: usize,
    /// Where connections begin in the ring's table of files.
    files_start: u32,
    sends: Sends,
    receives: Receives,
    pool: Option<Pool>,
    receive_bytes: usize,
    /// Connections whose receive starts once this round's sends are queued.
    starting: Vec<u32>,
    /// Connections whose receive waits for a buffer, in order.
    waiting: VecDeque<u32>,
    /// Connections that are closing and have nothing under way.
    ended: Vec<u32>,
    pub(crate) counters: Counters,
}

/// What sockets count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) accepted: u64,
    pub(crate) receive_waits: u64,
}

/// A place in the table; it is taken while it has a socket.
struct Connection {
    socket: Option<TcpStream>,
    /// Counts the connections that had this place.
    generation: u32,
    receive: Receive,
    sending: bool,
    closing: bool,
    /// The last receive left bytes in the socket.
    more_expected: bool,
}

impl Sockets {
    pub(crate) fn new(
        files_start: u32,
        connections_max: u32,
        receive_bytes: usize,
        pool: Option<Pool>,
    ) -> Self {
        Self {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            connections_max: connections_max as usize,
            files_start,
            sends: Sends::default(),
            receives: Receives::default(),
            pool,
            receive_bytes,
            starting: Vec::new(),
            waiting: VecDeque::new(),
            ended: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// True while a receive waits for a buffer, or an accept for its time: the reactor must look again soon.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When a listener that ran into a limit accepts again.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.listeners.iter().filter_map(Listener::deadline).min()
    }

    /// Does what buffers, time and ended operations allow; called before each submission.
    pub(crate) fn prepare<M>(&mut self, ring: &mut Ring, arena: &mut Arena, now: Time, ready: &mut Ready<M>) {
        let connections = self.connections();
        if let Some(pool) = &mut self.pool {
            pool.set_receives(connections);
            pool.fill(arena);
        }
        self.start_receives(ring, arena);
        self.restart_waiting(ring, arena);
        self.prepare_listeners(ring, now);
        while let Some(slot) = self.ended.pop() {
            let connection = self.id(slot);
            self.retire(ring, slot);
            ready.push_back(Event::Closed { connection });
        }
    }

    /// Takes the completion of an operation on a connection.
    pub(crate) fn complete<M>(
        &mut self,
        ring: &mut Ring,
        arena: &mut Arena,
        completion: Completion,
        ready: &mut Ready<M>,
    ) {
        let slot = completion.key.slot;
        match completion.key.kind {
            Kind::Receive => self.complete_offered(arena, completion, ready),
            Kind::Readiness => self.complete_readiness(ring, arena, slot, ready),
            Kind::ReceiveInto => self.complete_into(ring, completion, ready),
            Kind::Send => self.complete_send(ring, completion, ready),
            Kind::Accept | Kind::Bell | Kind::Cancel | Kind::Message | Kind::Transfer => {}
        }
    }

    /// Lets go of memory that the kernel may still touch, because a ring did not come to rest.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sends));
        std::mem::forget(std::mem::take(&mut self.receives));
        std::mem::forget(self.pool.take());
    }

    fn adopt(&mut self, ring: &mut Ring, socket: TcpStream) -> Option<ConnectionId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.connections.len() < self.connections_max => {
                self.connections.push(Connection::new());
                u32::try_from(self.connections.len() - 1).ok()?
            }
            None => return None,
        };
        if let Err(error) = ring.set_file(self.files_start + slot, Some(socket.as_raw_fd())) {
            tracing::warn!(%error, "a connection cannot be put into the ring's table of files");
            self.free.push(slot);
            return None;
        }
        self.connections[slot as usize].socket = Some(socket);
        Some(self.id(slot))
    }

    /// Takes a connection out of the table.
    fn retire(&mut self, ring: &mut Ring, slot: u32) -> Option<TcpStream> {
        if let Err(error) = ring.set_file(self.files_start + slot, None) {
            tracing::warn!(%error, "a connection cannot be taken from the ring's table of files");
        }
        let connection = &mut self.connections[slot as usize];
        let generation = connection.generation.wrapping_add(1);
        let socket = connection.socket.take();
        *connection = Connection { generation, ..Connection::new() };
        self.free.push(slot);
        socket
    }

    fn send<M>(&mut self, ring: &mut Ring, slot: u32, list: SendList<ArenaBuffer>, ready: &mut Ready<M>) {
        assert!(!list.is_empty(), "a send is not empty");
        let id = self.id(slot);
        let target = self.target(ring, slot);
        let connection = &mut self.connections[slot as usize];
        assert!(!connection.sending, "a connection has one send at a time");
        if connection.closing {
            ready.push_back(Event::Sent { connection: id, list, result: Err(cancelled()) });
            return;
        }
        connection.sending = true;
        self.sends.start(ring, slot, target, list);
    }

    fn close<M>(&mut self, slot: u32, ready: &mut Ready<M>) {
        let id = self.id(slot);
        let connection = &mut self.connections[slot as usize];
        if connection.closing {
            return;
        }
        connection.closing = true;
        if connection.receive == Receive::Waiting {
            connection.receive = Receive::None;
            self.waiting.retain(|waiting| *waiting != slot);
            self.starting.retain(|starting| *starting != slot);
            ready.push_back(Event::Received { connection: id, result: Err(cancelled()) });
        }
        // This ends what is under way, submitted or not, on every kernel.
        if let Some(socket) = &connection.socket {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.note_end(slot);
    }

    fn complete_send<M>(&mut self, ring: &mut Ring, completion: Completion, ready: &mut Ready<M>) {
        let Some(sent) = self.sends.complete(ring, completion, &mut self.counters.sent_bytes) else { return };
        let slot = sent.connection;
        let connection = &mut self.connections[slot as usize];
        connection.sending = false;
        let result = match sent.result {
            Ok(()) => Ok(()),
            Err(_) if connection.closing => Err(cancelled()),
            Err(errno) => Err(net_error(errno)),
        };
        let connection = self.id(slot);
        ready.push_back(Event::Sent { connection, list: sent.list, result });
        self.note_end(slot);
    }

    /// Notes a closing connection that has nothing under way any more.
    fn note_end(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if connection.closing && !connection.sending && connection.receive == Receive::None {
            self.ended.push(slot);
        }
    }

    fn target(&self, ring: &Ring, slot: u32) -> Target {
        let socket = self.connections[slot as usize].socket.as_ref().expect("the place is taken");
        ring.target(self.files_start + slot, socket.as_raw_fd())
    }

    fn id(&self, slot: u32) -> ConnectionId {
        let generation = self.connections[slot as usize].generation;
        ConnectionId(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The place of a connection.
    fn slot(&self, id: ConnectionId) -> u32 {
        let slot = id.0 as u32;
        let known = self.connections.get(slot as usize).is_some_and(|connection| {
            connection.socket.is_some() && connection.generation == (id.0 >> 32) as u32
        });
        assert!(known, "{id:?} is not a connection of this reactor");
        slot
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            socket: None,
            generation: 0,
            receive: Receive::None,
            sending: false,
            closing: false,
            more_expected: false,
        }
    }
}

fn outcome(result: i32, closing: bool) -> Result<usize, NetError> {
    match usize::try_from(result) {
        // What `close` did to the stream looks like its end.
        Ok(0) if closing => Err(cancelled()),
        Ok(len) => Ok(len),
        Err(_) if closing => Err(cancelled()),
        Err(_) => Err(net_error(-result)),
    }
}

fn cancelled() -> NetError {
    NetError { kind: NetErrorKind::Cancelled, errno: libc::ECANCELED }
}

fn net_error(errno: i32) -> NetError {
    let kind = match errno {
        libc::EADDRINUSE => NetErrorKind::AddressInUse,
        libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT => NetErrorKind::AddressNotAvailable,
        libc::ECANCELED => NetErrorKind::Cancelled,
        libc::ECONNRESET
        | libc::EPIPE
        | libc::ETIMEDOUT
        | libc::ENOTCONN
        | libc::ECONNABORTED
        | libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::ENETDOWN => NetErrorKind::Broken,
        libc::EACCES | libc::EPERM => NetErrorKind::Denied,
        _ => NetErrorKind::Other,
    };
    NetError { kind, errno }
}

impl From<TcpStream> for OwnedSocket {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl<M: Send + 'static> Net for Reactor<M> {
    type Socket = OwnedSocket;

    fn listen(&mut self, listener: ListenerId, address: SocketAddr) -> Result<SocketAddr, NetError> {
        self.sockets
            .listen(&mut self.ring, listener, address)
            .map_err(|error| net_error(error.raw_os_error().unwrap_or(0)))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.sockets.unlisten(listener);
    }

    fn adopt(&mut self, socket: OwnedSocket) -> Option<ConnectionId> {
        self.sockets.adopt(&mut self.ring, socket.0)
    }

    fn release(&mut self, connection: ConnectionId) -> OwnedSocket {
        let slot = self.sockets.slot(connection);
        let known = &self.sockets.connections[slot as usize];
        assert_eq!(known.receive, Receive::None, "a connection with a receive under way cannot be released");
        assert!(!known.sending, "a connection with a send under way cannot be released");
        assert!(!known.closing, "a connection that closes cannot be released");
        let socket = self.sockets.retire(&mut self.ring, slot);
        OwnedSocket(socket.expect("the place is taken"))
    }

    fn receive(&mut self, connection: ConnectionId) {
        let slot = self.sockets.slot(connection);
        self.sockets.receive(&mut self.ring, &mut self.arena, slot, &mut self.ready);
    }

    fn receive_into(&mut self, connection: ConnectionId, buffer: ArenaBuffer, start: usize, end: usize) {
        let slot = self.sockets.slot(connection);
        self.sockets.receive_into(&mut self.ring, slot, buffer, start, end, &mut self.ready);
    }

    fn send(&mut self, connection: ConnectionId, list: SendList<ArenaBuffer>) {
        let slot = self.sockets.slot(connection);
        self.sockets.send(&mut self.ring, slot, list, &mut self.ready);
    }

    fn close(&mut self, connection: ConnectionId) {
        let slot = self.sockets.slot(connection);
        self.sockets.close(slot, &mut self.ready);
    }
}
