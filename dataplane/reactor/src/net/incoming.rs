//! Receives of connections: into an offered buffer, into one that is chosen when the socket is readable, or into the
//! caller's; one that finds no buffer waits for its turn.

use io::Event;

use super::{Sockets, cancelled, outcome};
use crate::buffer::ArenaBuffer;
use crate::buffer::arena::{Arena, ZoneId};
use crate::reactor::Ready;
use crate::ring::pool::Pool;
use crate::ring::{Completion, Ring, receive};

/// So many bytes are copied out of an offered buffer, so that a few do not hold a long buffer while they are used:
/// capsules without data.
const COPY_BYTES_MAX: usize = 1 << 10;
/// The same while few buffers are left to offer: a capsule with a block of data too.
const SCARCE_COPY_BYTES_MAX: usize = 8 << 10;

/// The receive of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    None,
    /// Into an offered buffer.
    Offered,
    /// Until the socket is readable; then a buffer is chosen.
    Readiness,
    /// Into a buffer that was chosen when the socket was readable.
    Chosen,
    /// Into the caller's buffer.
    Given,
    /// For the round's sends to be queued, or for a buffer to become free.
    Waiting,
}

impl Sockets {
    pub(super) fn receive<M>(&mut self, ring: &mut Ring, arena: &mut Arena, slot: u32, ready: &mut Ready<M>) {
        let id = self.id(slot);
        let connection = &mut self.connections[slot as usize];
        assert_eq!(connection.receive, Receive::None, "a connection has one receive at a time");
        if connection.closing {
            ready.push_back(Event::Received { connection: id, result: Err(cancelled()) });
            return;
        }
        if self.pool.is_some() {
            // Behind what this round sends, whose receiver waits for it; this one waits for its sender.
            connection.receive = Receive::Waiting;
            self.starting.push(slot);
        } else {
            self.start_receive(ring, arena, slot);
        }
    }

    /// Starts the receives of this round.
    pub(super) fn start_receives(&mut self, ring: &mut Ring, arena: &mut Arena) {
        let mut starting = std::mem::take(&mut self.starting);
        for slot in starting.drain(..) {
            self.start_receive(ring, arena, slot);
        }
        self.starting = starting;
    }

    fn start_receive(&mut self, ring: &mut Ring, arena: &mut Arena, slot: u32) {
        let target = self.target(ring, slot);
        let connection = &mut self.connections[slot as usize];
        match &mut self.pool {
            Some(pool) => {
                if pool.available() == 0 {
                    pool.fill(arena);
                }
                connection.receive = Receive::Offered;
                receive::start_offered(ring, slot, target, pool.buffer_bytes(), connection.more_expected);
            }
            None => {
                connection.receive = Receive::Readiness;
                receive::start_readiness(ring, slot, target);
            }
        }
    }

    pub(super) fn receive_into<M>(
        &mut self,
        ring: &mut Ring,
        slot: u32,
        buffer: ArenaBuffer,
        start: usize,
        end: usize,
        ready: &mut Ready<M>,
    ) {
        assert!(start < end, "a receive takes one byte or more");
        let id = self.id(slot);
        let target = self.target(ring, slot);
        let connection = &mut self.connections[slot as usize];
        assert_eq!(connection.receive, Receive::None, "a connection has one receive at a time");
        if connection.closing {
            ready.push_back(Event::ReceivedInto { connection: id, buffer, result: Err(cancelled()) });
            return;
        }
        connection.receive = Receive::Given;
        self.receives.start_into(ring, slot, target, buffer, start, end);
    }

    pub(super) fn complete_offered<M>(
        &mut self,
        arena: &mut Arena,
        completion: Completion,
        ready: &mut Ready<M>,
    ) {
        let slot = completion.key.slot;
        let id = self.id(slot);
        let connection = &mut self.connections[slot as usize];
        connection.receive = Receive::None;
        connection.more_expected = completion.more_to_receive();
        let pool = self.pool.as_mut().expect("offered receives are made only with a pool");
        let len = usize::try_from(completion.result).unwrap_or(0);
        let taken = completion.offered_buffer().and_then(|buffer| pool.take(buffer, len));
        let result = match (taken, outcome(completion.result, connection.closing)) {
            (Some(buffer), Ok(len)) if len > 0 => {
                self.counters.received_bytes += len as u64;
                Ok(Some(hand_over(pool, arena, buffer)))
            }
            (taken, outcome) => {
                if let Some(buffer) = taken {
                    pool.give(buffer);
                }
                if completion.result == -libc::ENOBUFS && !connection.closing {
                    connection.receive = Receive::Waiting;
                    connection.more_expected = true;
                    self.waiting.push_back(slot);
                    self.counters.receive_waits += 1;
                    return;
                }
                outcome.map(|_| None)
            }
        };
        ready.push_back(Event::Received { connection: id, result });
        self.note_end(slot);
    }

    pub(super) fn complete_readiness<M>(
        &mut self,
        ring: &mut Ring,
        arena: &mut Arena,
        slot: u32,
        ready: &mut Ready<M>,
    ) {
        let id = self.id(slot);
        let connection = &mut self.connections[slot as usize];
        if connection.closing {
            connection.receive = Receive::None;
            ready.push_back(Event::Received { connection: id, result: Err(cancelled()) });
            self.note_end(slot);
            return;
        }
        connection.receive = Receive::Waiting;
        if !self.start_chosen(ring, arena, slot) {
            self.waiting.push_back(slot);
            self.counters.receive_waits += 1;
        }
    }

    /// Receives from a readable socket into a buffer that is chosen now; false where there is none.
    fn start_chosen(&mut self, ring: &mut Ring, arena: &mut Arena, slot: u32) -> bool {
        let Some(buffer) = arena.allocate_in(self.receive_bytes, ZoneId::Receive) else { return false };
        let target = self.target(ring, slot);
        self.connections[slot as usize].receive = Receive::Chosen;
        let end = buffer.len();
        self.receives.start_into(ring, slot, target, buffer, 0, end);
        true
    }

    pub(super) fn complete_into<M>(&mut self, ring: &mut Ring, completion: Completion, ready: &mut Ready<M>) {
        let slot = completion.key.slot;
        let id = self.id(slot);
        let target = self.target(ring, slot);
        let connection = &mut self.connections[slot as usize];
        let was = std::mem::replace(&mut connection.receive, Receive::None);
        connection.more_expected = completion.more_to_receive();
        let mut buffer = self.receives.take(slot);
        let result = outcome(completion.result, connection.closing);
        if let Ok(len) = result {
            self.counters.received_bytes += len as u64;
        }
        if was == Receive::Chosen {
            if matches!(completion.result, EAGAIN | EINTR) && !connection.closing {
                // Readable, yet nothing there: wait again, without the buffer.
                connection.receive = Receive::Readiness;
                receive::start_readiness(ring, slot, target);
                return;
            }
            let result = result.map(|len| {
                buffer.truncate(len);
                (len > 0).then_some(buffer)
            });
            ready.push_back(Event::Received { connection: id, result });
        } else {
            ready.push_back(Event::ReceivedInto { connection: id, buffer, result });
        }
        self.note_end(slot);
    }

    /// Starts receives that waited, as many as there are buffers.
    pub(super) fn restart_waiting(&mut self, ring: &mut Ring, arena: &mut Arena) {
        let mut room = self.pool.as_ref().map_or(usize::MAX, Pool::available);
        while room > 0
            && let Some(slot) = self.waiting.front().copied()
        {
            if self.pool.is_some() {
                self.start_receive(ring, arena, slot);
                room -= 1;
            } else if !self.start_chosen(ring, arena, slot) {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

/// The buffer that a caller gets for what arrived in an offered one.
fn hand_over(pool: &mut Pool, arena: &mut Arena, offered: ArenaBuffer) -> ArenaBuffer {
    let copy_bytes_max = if pool.is_scarce() { SCARCE_COPY_BYTES_MAX } else { COPY_BYTES_MAX };
    if offered.len() <= copy_bytes_max
        && let Some(mut copy) = arena.allocate_in(offered.len(), ZoneId::Receive)
    {
        copy.copy_from_slice(&offered);
        pool.give(offered);
        return copy;
    }
    offered
}

const EAGAIN: i32 = -libc::EAGAIN;
const EINTR: i32 = -libc::EINTR;
