//! Tickets: each request that changes something has one, and is answered when the last of its parts has ended.

use std::collections::VecDeque;

use io::Buffer;

use super::slab::Slab;
use super::{Outcome, Output, Shard, ShardStats};

/// A request that has not been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) tag: u64,
    /// Parts that have not ended.
    pub(super) parts: u32,
    /// The worst of those that have.
    pub(super) outcome: Outcome,
    /// Answered only once a power cut cannot take it away.
    pub(super) fua: bool,
}

impl<B: Buffer> Shard<B> {
    pub(super) fn new_ticket(&mut self, tag: u64, fua: bool, parts: u32) -> u32 {
        self.tickets.insert(Ticket { tag, parts, outcome: Outcome::Ok, fua })
    }

    /// A part has ended well; the request is answered if it was the last one.
    pub(super) fn finish_part(&mut self, ticket: u32) {
        let Some(held) = self.tickets.get_mut(ticket) else { return };
        held.parts -= 1;
        if held.parts > 0 {
            return;
        }
        if held.fua && held.outcome == Outcome::Ok {
            held.parts = 1;
            held.fua = false;
            self.flush.wait(self.log.applied, ticket);
            return;
        }
        held.parts = 1;
        finish(&mut self.tickets, &mut self.outputs, &mut self.stats, ticket);
    }

    /// A part has failed.
    pub(super) fn fail_part(&mut self, ticket: u32, outcome: Outcome) {
        if let Some(held) = self.tickets.get_mut(ticket) {
            held.outcome = held.outcome.max(outcome);
        }
        self.finish_part(ticket);
    }

    /// Answers a request that had no ticket.
    pub(super) fn answer(&mut self, tag: u64, outcome: Outcome, buffer: Option<B>) {
        self.stats.requests += 1;
        self.outputs.push_back(Output::Done { tag, outcome, buffer });
    }
}

/// Ends one part of a ticket, and answers if it was the last; apart from the shard, for callers that hold its map.
pub(super) fn finish<B: Buffer>(
    tickets: &mut Slab<Ticket>,
    outputs: &mut VecDeque<Output<B>>,
    stats: &mut ShardStats,
    ticket: u32,
) {
    let Some(held) = tickets.get_mut(ticket) else { return };
    held.parts -= 1;
    if held.parts == 0
        && let Some(held) = tickets.remove(ticket)
    {
        stats.requests += 1;
        outputs.push_back(Output::Done { tag: held.tag, outcome: held.outcome, buffer: None });
    }
}
