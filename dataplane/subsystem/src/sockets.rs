//! The connections of one machine: who is who, which need attention, when deadlines are due.

use std::collections::{BTreeMap, VecDeque};

use io::{Buffer, ConnectionId, NetError, SendList, Time};

use crate::connection::{Connection, SocketOp};
use crate::slab::{Key, Slab};
use crate::{SocketOutput, TransportStats, limits};

/// A connection with what its owner knows of it.
#[derive(Debug)]
pub(crate) struct Socket<B: Buffer, T> {
    pub(crate) id: ConnectionId,
    pub(crate) connection: Connection<B>,
    pub(crate) state: T,
    /// The last event has come; the number is dead.
    pub(crate) gone: bool,
    /// In the list of those that need attention.
    attention: bool,
}

#[derive(Debug)]
pub(crate) struct Sockets<B: Buffer, T> {
    slab: Slab<Socket<B, T>>,
    keys: BTreeMap<ConnectionId, Key>,
    attention: VecDeque<Key>,
    /// No connection's deadline is before this.
    deadline: Option<Time>,
    stats: TransportStats,
}

impl<B: Buffer, T> Sockets<B, T> {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(),
            keys: BTreeMap::new(),
            attention: VecDeque::new(),
            deadline: None,
            stats: TransportStats::default(),
        }
    }

    pub(crate) fn insert(&mut self, id: ConnectionId, connection: Connection<B>, state: T) -> Key {
        let key = self.slab.insert(Socket { id, connection, state, gone: false, attention: false });
        let earlier = self.keys.insert(id, key);
        assert!(earlier.is_none(), "a connection's number is not reused while it is known");
        self.note(key);
        key
    }

    /// Takes a connection out, whatever state it is in.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Socket<B, T>> {
        let mut socket = self.slab.remove(key)?;
        self.stats.add(&socket.connection.take_stats());
        if !socket.gone {
            self.keys.remove(&socket.id);
        }
        Some(socket)
    }

    pub(crate) fn handle_received(&mut self, id: ConnectionId, result: Result<Option<B>, NetError>) {
        if let Some((key, socket)) = self.find(id) {
            socket.connection.on_received(result);
            self.note(key);
        }
    }

    pub(crate) fn handle_received_into(
        &mut self,
        id: ConnectionId,
        buffer: B,
        result: Result<usize, NetError>,
    ) {
        if let Some((key, socket)) = self.find(id) {
            socket.connection.on_received_into(buffer, result);
            self.note(key);
        }
    }

    pub(crate) fn handle_sent(&mut self, id: ConnectionId, list: SendList<B>, result: Result<(), NetError>) {
        if let Some((key, socket)) = self.find(id) {
            socket.connection.on_sent(list, result);
            self.note(key);
        }
    }

    /// The connection is gone; its entry stays for the owner to remove.
    pub(crate) fn handle_closed(&mut self, id: ConnectionId) -> Option<Key> {
        let key = self.keys.remove(&id)?;
        let socket = self.slab.get_mut(key)?;
        socket.gone = true;
        self.note(key);
        Some(key)
    }

    /// Puts a connection on the list of those that need attention.
    pub(crate) fn note(&mut self, key: Key) {
        if let Some(socket) = self.slab.get_mut(key)
            && !socket.attention
        {
            socket.attention = true;
            self.attention.push_back(key);
        }
    }

    /// The next connection that needs attention.
    pub(crate) fn poll_attention(&mut self) -> Option<Key> {
        while let Some(key) = self.attention.pop_front() {
            if let Some(socket) = self.slab.get_mut(key) {
                socket.attention = false;
                return Some(key);
            }
        }
        None
    }

    /// The next thing for the socket to do.
    pub(crate) fn poll_io(&mut self, key: Key, now: Time) -> Option<SocketOutput<B>> {
        let socket = self.slab.get_mut(key)?;
        if socket.gone {
            return None;
        }
        let connection = socket.id;
        let output = match socket.connection.poll_io(now) {
            Some(SocketOp::Receive) => SocketOutput::Receive { connection },
            Some(SocketOp::ReceiveInto { buffer, start, end }) => {
                SocketOutput::ReceiveInto { connection, buffer, start, end }
            }
            Some(SocketOp::Send(list)) => SocketOutput::Send { connection, list },
            Some(SocketOp::Close) => SocketOutput::Close { connection },
            None => {
                self.stats.add(&socket.connection.take_stats());
                if let Some(deadline) = socket.connection.deadline() {
                    self.deadline = Some(self.deadline.map_or(deadline, |earliest| earliest.min(deadline)));
                }
                return None;
            }
        };
        Some(output)
    }

    /// Closes connections whose deadline has passed.
    pub(crate) fn check_deadlines(&mut self, now: Time) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let mut earliest: Option<Time> = None;
        let mut due = Vec::new();
        for (key, socket) in self.slab.iter_mut() {
            if socket.gone {
                continue;
            }
            match socket.connection.deadline() {
                Some(deadline) if deadline <= now => {
                    socket.connection.on_deadline(now);
                    due.push(key);
                }
                Some(deadline) => earliest = Some(earliest.map_or(deadline, |e| e.min(deadline))),
                None => {}
            }
        }
        self.deadline = earliest.map(|earliest| earliest.max(now + limits::DEADLINE_TICK));
        due.into_iter().for_each(|key| self.note(key));
    }

    /// When [`Self::check_deadlines`] is due.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Socket<B, T>> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Socket<B, T>> {
        self.slab.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Socket<B, T>)> {
        self.slab.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Socket<B, T>)> {
        self.slab.iter_mut()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.slab.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn owns(&self, id: ConnectionId) -> bool {
        self.keys.contains_key(&id)
    }

    pub(crate) const fn stats(&self) -> &TransportStats {
        &self.stats
    }

    /// True when no connection that is still there has anything to send or is sending.
    pub(crate) fn is_sent(&self) -> bool {
        self.slab.iter().all(|(_, socket)| socket.gone || socket.connection.is_sent())
    }

    fn find(&mut self, id: ConnectionId) -> Option<(Key, &mut Socket<B, T>)> {
        let key = *self.keys.get(&id)?;
        Some((key, self.slab.get_mut(key)?))
    }
}
