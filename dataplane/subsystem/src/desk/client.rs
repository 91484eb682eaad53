//! One connection of the desk, from its arrival to its end or its hand-over.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use io::{Buffer, Memory, Slice, Time};
use nvme::Sqe;

use super::connect::Ticket;
use super::{Desk, ListenerKind};
use crate::connection::{Grant, Slot};
use crate::slab::Key;
use crate::{AssociationId, DeskOutput};

/// What the desk knows of a connection.
#[derive(Debug)]
pub(super) struct Client<B: Buffer> {
    pub(super) listener: ListenerKind,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    /// Commands whose data is awaited.
    pub(super) awaiting: BTreeMap<Slot, Sqe>,
    /// A command that waits, and what for.
    pub(super) parked: Option<(Parked<B>, Wait)>,
}

/// What a command waits for before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Memory for its reply.
    ForMemory,
    /// The host, which has not taken earlier replies.
    ForHost,
}

/// A command with its data.
#[derive(Debug)]
pub(super) struct Parked<B: Buffer> {
    pub(super) slot: Slot,
    pub(super) sqe: Sqe,
    pub(super) data: Option<Slice<B::Shared>>,
}

#[derive(Debug)]
pub(super) enum Role {
    /// Before Connect.
    Fresh,
    /// A Connect waits.
    Connecting(Box<Ticket>),
    /// An I/O queue on its way to a reactor.
    Leaving { association: AssociationId, ticket: Box<Ticket> },
    /// The admin queue of this association.
    Admin(AssociationId),
    /// Its association has ended.
    Ended,
}

impl<B: Buffer> Desk<B> {
    /// Reads, answers and sends what one connection has to be read, answered and sent.
    pub(super) fn attend(&mut self, key: Key, now: Time, memory: &mut impl Memory<Buffer = B>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if let Some((parked, _)) = socket.state.parked.take() {
            socket.connection.set_paused(self.stopping);
            if socket.connection.is_open() {
                self.execute(key, parked, now, memory);
            }
        }
        while let Some(arrival) =
            self.sockets.get_mut(key).and_then(|socket| socket.connection.poll_arrival(now, memory))
        {
            self.on_arrival(key, arrival, now, memory);
        }
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let hungry = matches!(socket.state.parked, Some((_, Wait::ForMemory)));
        let mut starved = socket.connection.wants_memory() || hungry;
        let grant = loop {
            match socket.connection.grant(usize::MAX, now, memory) {
                Grant::Granted(_) => {}
                other => break other,
            }
        };
        starved |= grant == Grant::NoMemory;
        if starved {
            self.starved.push(key);
        }
        self.end_lost(key);
        while let Some(output) = self.sockets.poll_io(key, now) {
            self.outputs.push_back(DeskOutput::Socket(output));
        }
        self.leave(key);
        if self.sockets.get(key).is_some_and(|socket| socket.gone) {
            self.sockets.remove(key);
        }
    }

    /// Ends what a connection that no longer reads stood for.
    fn end_lost(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.connection.is_open() && !socket.gone {
            return;
        }
        match std::mem::replace(&mut socket.state.role, Role::Ended) {
            Role::Fresh | Role::Ended => {}
            Role::Connecting(_) => self.waiting.retain(|waiting| *waiting != key),
            Role::Leaving { association, ticket } => self.on_queue_closed(association, ticket.qid()),
            Role::Admin(association) => {
                if let Some(controller) = self.controllers.get_mut(&association) {
                    controller.admin = None;
                }
                self.end(association);
            }
        }
    }
}
