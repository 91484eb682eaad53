//! One connection: two byte pipes with any segmentation, any delay, ends and resets.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use io::{ConnectionId, Event, ListenerId, NetError, NetErrorKind, ReactorId, SendList, Time};

use crate::core::{Core, Delivery, Occurrence, SimEvent};
use crate::net::Listener;
use crate::{SimBuffer, SimSocket};

/// Bytes that are on their way or arrived and unread, each way: what socket buffers hold.
const PIPE_BYTES: usize = 256 * 1024;

/// Most bytes of one [`Event::Received`].
const RECEIVE_BYTES: usize = 64 * 1024;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Target,
    Peer,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: ListenerId,
    pub(crate) owner: Owner,
    pub(crate) to_target: Pipe,
    pub(crate) to_peer: Pipe,
    pub(crate) peer_gone: bool,
    pub(crate) receive: Option<Receive>,
    pub(crate) send: Option<Sending>,
    pub(crate) closing: bool,
    /// It broke by itself.
    pub(crate) was_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// In the backlog, in mail, or in somebody's hand.
    Nobody,
    Reactor(ReactorId, ConnectionId),
    Closed,
}

/// Bytes one way.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    flight: VecDeque<Chunk>,
    pub(crate) arrived: VecDeque<u8>,
    used: usize,
    last: Time,
    end: End,
    finish_sent: bool,
    // Nothing arrives while this is set; what is due meanwhile is owed.
    pub(crate) stalled: bool,
    owed: usize,
}

#[derive(Debug)]
enum Chunk {
    Bytes(Vec<u8>),
    Finish,
    Reset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Open,
    Finished,
    Broken,
}

#[derive(Debug)]
pub(crate) enum Receive {
    Own,
    Into { buffer: SimBuffer, start: usize, end: usize },
}

#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) list: SendList<SimBuffer>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) taken: usize,
}

impl<M: Send + 'static> Core<M> {
    pub(crate) fn link(&mut self, id: u64) -> &mut Link {
        self.links.get_mut(&id).expect("a link lives while either end does")
    }

    /// # Panics
    /// If the reactor has no such connection, or has closed it: a number that is dead was used.
    pub(crate) fn link_of(&mut self, reactor: ReactorId, connection: ConnectionId) -> u64 {
        let link = self.reactor(reactor).connections.get(&connection.0).copied();
        let link =
            link.unwrap_or_else(|| panic!("{connection:?} is not a connection of reactor {}", reactor.0));
        assert!(!self.link(link).closing, "{connection:?} was closed");
        link
    }

    /// A connection of a peer, on its way to a listener. `None` where nobody listens.
    pub(crate) fn connect(&mut self, peer: SocketAddr, address: SocketAddr) -> Option<u64> {
        let listens =
            |other: &&Listener| other.address.port() == address.port() && same_host(other.address, address);
        let listener = self.listeners.iter().find(listens)?.id;
        let id = self.next_id();
        let link = Link {
            local: address,
            peer,
            listener,
            owner: Owner::Nobody,
            to_target: Pipe::default(),
            to_peer: Pipe::default(),
            peer_gone: false,
            receive: None,
            send: None,
            closing: false,
            was_cut: false,
        };
        self.links.insert(id, link);
        let delay = self.faults.net_latency.draw(&mut self.random);
        self.schedule(delay, Occurrence::Accept { link: id });
        Some(id)
    }

    pub(crate) fn accept(&mut self, id: u64) {
        let Some(Link { listener, local, peer, .. }) = self.links.get(&id) else { return };
        let (listener, local, peer) = (*listener, *local, *peer);
        let reactor = self.listeners.iter().find(|other| other.id == listener).map(|other| other.reactor);
        let socket = SimSocket::new(id, self.dropped.clone());
        let Some(reactor) = reactor else { return drop(socket) };
        self.tell(reactor, Event::Accepted { listener, socket, local, peer });
    }

    /// Puts bytes on their way to `side`, as many as the pipe takes, in segments of random length.
    pub(crate) fn push_bytes(&mut self, id: u64, side: Side, bytes: &[u8]) -> usize {
        let latency = self.faults.net_latency;
        let longest = u64::from(self.faults.net_segment_bytes).max(1);
        let mut taken = 0;
        loop {
            let delay = latency.draw(&mut self.random);
            let length = usize::try_from(self.random.between(1, longest)).expect("a u32");
            let soonest = self.now + Duration::from_nanos(delay);
            let pipe = self.link(id).pipe(side);
            let length = length.min(bytes.len() - taken).min(PIPE_BYTES - pipe.used);
            if length == 0 {
                return taken;
            }
            pipe.flight.push_back(Chunk::Bytes(bytes[taken..taken + length].to_vec()));
            pipe.used += length;
            pipe.last = pipe.last.max(soonest);
            let when = pipe.last;
            taken += length;
            self.schedule_at(when, Occurrence::Arrive { link: id, side });
        }
    }

    /// Sends the end of the stream, or a reset, after what is on its way; a reset overtakes some of it.
    pub(crate) fn push_end(&mut self, id: u64, side: Side, reset: bool) {
        let delay = self.faults.net_latency.draw(&mut self.random);
        let soonest = self.now + Duration::from_nanos(delay);
        let kept = if reset { self.random.number() } else { u64::MAX };
        let pipe = self.link(id).pipe(side);
        if pipe.finish_sent {
            return;
        }
        if reset {
            pipe.drop_flight(kept);
        }
        pipe.finish_sent = true;
        pipe.flight.push_back(if reset { Chunk::Reset } else { Chunk::Finish });
        pipe.last = pipe.last.max(soonest);
        let when = pipe.last;
        self.schedule_at(when, Occurrence::Arrive { link: id, side });
    }

    /// Something reaches one end.
    pub(crate) fn arrive(&mut self, id: u64, side: Side) {
        let broken = self.random.one_in(self.faults.net_reset_one_in);
        let Some(link) = self.links.get_mut(&id) else { return };
        let pipe = link.pipe(side);
        if pipe.stalled {
            pipe.owed += 1;
            return;
        }
        match pipe.flight.pop_front() {
            None => {}
            Some(_) if broken => {
                link.was_cut = true;
                return self.break_link(id);
            }
            Some(Chunk::Bytes(bytes)) => {
                if side == Side::Peer && link.peer_gone {
                    if !link.to_target.stalled {
                        return self.break_link(id);
                    }
                    // The stopped proxy still takes what the target sends to the peer that left.
                    link.to_peer.used -= bytes.len();
                    return self.pump_send(id);
                }
                link.pipe(side).arrived.extend(bytes);
            }
            Some(Chunk::Finish) => pipe.end = End::Finished,
            Some(Chunk::Reset) => return self.break_link(id),
        }
        match side {
            Side::Target => self.pump_receive(id),
            Side::Peer => _ = self.touched.insert(id),
        }
    }

    /// The connection is broken for both ends; what had not been read is lost.
    pub(crate) fn break_link(&mut self, id: u64) {
        let link = self.link(id);
        for side in [Side::Target, Side::Peer] {
            let pipe = link.pipe(side);
            pipe.flight.clear();
            pipe.arrived.clear();
            pipe.used = 0;
            pipe.end = End::Broken;
        }
        self.touched.insert(id);
        self.pump_receive(id);
        self.pump_send(id);
        self.forget_link(id);
    }

    /// Lets what was held back by a stall arrive.
    pub(crate) fn resume(&mut self, id: u64, side: Side) {
        let pipe = self.link(id).pipe(side);
        pipe.stalled = false;
        for _ in 0..std::mem::take(&mut pipe.owed) {
            self.schedule(1, Occurrence::Arrive { link: id, side });
        }
    }

    /// Ends the reactor's receive if something can end it.
    pub(crate) fn pump_receive(&mut self, id: u64) {
        let whole = self.random.one_in(2);
        let part = self.random.number();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Owner::Reactor(reactor, connection) = link.owner else { return };
        let available = link.to_target.arrived.len();
        if available == 0 && link.to_target.end == End::Open {
            return;
        }
        let Some(receive) = link.receive.take() else { return };
        let room = match &receive {
            Receive::Own => RECEIVE_BYTES,
            Receive::Into { start, end, .. } => end - start,
        };
        let most = room.min(available);
        let count = if whole || most == 0 {
            most
        } else {
            1 + usize::try_from(part % most as u64).expect("below a usize")
        };
        let failure = NetError { kind: NetErrorKind::Broken, errno: 104 };
        let broken = count == 0 && link.to_target.end == End::Broken;
        let event = match receive {
            Receive::Own if broken => Event::Received { connection, result: Err(failure) },
            Receive::Own if count == 0 => Event::Received { connection, result: Ok(None) },
            Receive::Own => {
                let Some(mut buffer) = self.reactor(reactor).arena.allocate_received(count) else {
                    self.link(id).receive = Some(Receive::Own);
                    return self.schedule(20_000, Occurrence::Pump { link: id });
                };
                self.link(id).to_target.take(&mut buffer);
                Event::Received { connection, result: Ok(Some(buffer)) }
            }
            Receive::Into { mut buffer, start, .. } => {
                link.to_target.take(&mut buffer[start..start + count]);
                let result = if broken { Err(failure) } else { Ok(count) };
                Event::ReceivedInto { connection, buffer, result }
            }
        };
        self.tell(reactor, event);
        self.touched.insert(id);
    }

    /// Moves the reactor's send on, and ends it if it can be ended.
    pub(crate) fn pump_send(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Owner::Reactor(reactor, connection) = link.owner else { return };
        let Some(mut send) = link.send.take() else { return };
        let result = if link.to_peer.end == End::Broken {
            Err(NetError { kind: NetErrorKind::Broken, errno: 32 })
        } else {
            send.taken += self.push_bytes(id, Side::Peer, &send.bytes[send.taken..]);
            if send.taken < send.bytes.len() {
                self.link(id).send = Some(send);
                return;
            }
            Ok(())
        };
        self.tell(reactor, Event::Sent { connection, list: send.list, result });
    }

    pub(crate) fn start_close(&mut self, id: u64) {
        let delay = self.random.between(1, 50_000);
        self.schedule(delay, Occurrence::Closed { link: id });
    }

    /// Cancels what is under way on a closed connection and says its last word.
    pub(crate) fn end_close(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Owner::Reactor(reactor, connection) = link.owner else { return };
        let failure = NetError { kind: NetErrorKind::Cancelled, errno: 125 };
        let receive = link.receive.take().map(|receive| match receive {
            Receive::Own => Event::Received { connection, result: Err(failure) },
            Receive::Into { buffer, .. } => Event::ReceivedInto { connection, buffer, result: Err(failure) },
        });
        let send =
            link.send.take().map(|send| Event::Sent { connection, list: send.list, result: Err(failure) });
        for event in receive.into_iter().chain(send) {
            self.tell(reactor, event);
        }
        self.tell(reactor, Event::Closed { connection });
        self.reactor(reactor).connections.remove(&connection.0);
        self.shut_target(id);
    }

    /// The target's end is gone: the peer sees the end of the stream, or a reset if the target had unread bytes.
    pub(crate) fn shut_target(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.owner = Owner::Closed;
        let unread = !link.to_target.arrived.is_empty() || !link.to_target.flight.is_empty();
        if link.to_peer.end == End::Open {
            self.push_end(id, Side::Peer, unread);
        }
        self.forget_link(id);
    }

    /// Forgets a connection that has no ends any more.
    pub(crate) fn forget_link(&mut self, id: u64) {
        if self.links.get(&id).is_some_and(|link| link.owner == Owner::Closed && link.peer_gone) {
            self.links.remove(&id);
        }
    }

    /// Closes the sockets that were dropped in nobody's name.
    pub(crate) fn reap_sockets(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        for link in dropped {
            self.shut_target(link);
        }
    }

    fn tell(&mut self, reactor: ReactorId, event: SimEvent<M>) {
        self.reactor(reactor).inbox.push_back((Delivery::Plain, event));
    }
}

impl Link {
    pub(crate) fn pipe(&mut self, side: Side) -> &mut Pipe {
        match side {
            Side::Target => &mut self.to_target,
            Side::Peer => &mut self.to_peer,
        }
    }
}

impl Pipe {
    pub(crate) fn end(&self) -> End {
        self.end
    }

    pub(crate) fn is_finished_by_sender(&self) -> bool {
        self.finish_sent
    }

    /// Moves arrived bytes out; the caller knows that there are enough.
    pub(crate) fn take(&mut self, place: &mut [u8]) {
        let count = place.len();
        for (to, from) in place.iter_mut().zip(self.arrived.drain(..count)) {
            *to = from;
        }
        self.used -= count;
    }

    /// Loses the tail of what is on its way. Its arrivals find nothing.
    fn drop_flight(&mut self, chance: u64) {
        let keep = usize::try_from(chance % (self.flight.len() as u64 + 1)).expect("below a usize");
        for chunk in self.flight.drain(keep..) {
            if let Chunk::Bytes(bytes) = chunk {
                self.used -= bytes.len();
            }
        }
    }
}

/// True where a listener at one address takes connections to the other.
pub(crate) fn same_host(listening: SocketAddr, address: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    listening.is_ipv4() == address.is_ipv4()
        && (listening.ip() == address.ip() || any(listening.ip()) || any(address.ip()))
}
