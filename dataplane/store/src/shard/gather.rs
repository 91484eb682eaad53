//! How long requests are gathered for the next batch while segments are being cleaned.
//!
//! Every batch has a header of a block, and while the pool is cleaned each byte of the log costs several. A host that was
//! just answered soon sends its next request. If a batch began at once with what waited meanwhile, requests would fall
//! into groups that wait for each other, each with a header of its own. So the next one waits for as many as were open when
//! the last was answered, but no longer than that one took. Where that is in vain a few times, it is tried less often.

use io::{Buffer, Time};

use super::admit::Class;
use super::order::Source;
use super::{BLOCK_BYTES, Shard};

/// What is expected of those who were answered.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Requests that were answered since batches were last composed.
    answered: usize,
    /// When the batch was begun that holds them.
    begun: Time,
    /// As many requests as were open then are waited for, until then.
    expected: usize,
    until: Time,
    /// How many there were when the next batch began to wait for more.
    held: Option<usize>,
    /// How often in a row none came in time, and how many batches go without waiting for that.
    in_vain: u32,
    rest: u32,
}

/// No batch waits longer than this.
const WAIT_NS_MAX: u64 = 200_000;
/// Waiting in vain is tried again after at most 2 to this power batches.
const IN_VAIN_MAX: u32 = 6;

impl Gather {
    /// A batch was written and answers so many requests.
    pub(super) fn on_answered(&mut self, requests: usize) {
        self.answered += requests;
    }

    /// A batch begins while as many requests are open as `waiting`.
    pub(super) fn on_begun(&mut self, now: Time, waiting: usize) {
        self.begun = now;
        self.rest = self.rest.saturating_sub(1);
        match self.held.take() {
            Some(held) if waiting <= held => {
                self.in_vain = (self.in_vain + 1).min(IN_VAIN_MAX);
                self.rest = 1 << self.in_vain;
            }
            Some(_) => self.in_vain = 0,
            None => {}
        }
    }

    /// Whether more are expected in a moment than the `waiting` ones.
    fn expects_more(&self, now: Time, waiting: usize) -> bool {
        self.rest == 0 && waiting < self.expected && now < self.until
    }
}

impl<B: Buffer> Shard<B> {
    /// Notes how many requests are open once some were answered, and whether the next batch waits for more.
    pub(super) fn step_gather(&mut self) {
        let answered = std::mem::take(&mut self.gather.answered);
        if answered > 0 {
            let took = self.now.0.saturating_sub(self.gather.begun.0);
            self.gather.expected = answered + self.order.queue.len();
            self.gather.until = Time(self.now.0 + took.min(WAIT_NS_MAX));
        }
        let waiting = self.order.queue.len();
        if waiting > 0 && !self.log.has_requests_in_flight() && self.gathers() {
            self.gather.held.get_or_insert(waiting);
        }
    }

    /// Whether the next batch waits for requests that are expected in a moment.
    pub(super) fn gathers(&self) -> bool {
        self.cleans() && self.gather.expects_more(self.now, self.order.queue.len())
    }

    /// When it will not wait any longer.
    pub(super) fn gather_timeout(&self) -> Option<Time> {
        let waits = !self.order.queue.is_empty() && self.gathers() || self.cleaner.has_moves();
        (waits && !self.log.has_requests_in_flight() && self.now < self.gather.until)
            .then_some(self.gather.until)
    }

    /// Whether moves wait for requests with which they share a header.
    pub(super) fn moves_ride(&self) -> bool {
        let has_requests =
            self.log.has_requests_in_flight() || !self.order.queue.is_empty() || self.now < self.gather.until;
        let least = self.floor_bytes(Class::Host) + self.space.usable_bytes() / 2;
        has_requests && self.order.needed_bytes == 0 && self.room_bytes() >= least
    }

    /// Bytes of moves that go with the requests that wait, in a batch of at most `limit`: somewhat more than it takes to
    /// have as much room again as they need.
    pub(super) fn share_of_moves(&self, limit: usize) -> usize {
        let block = u64::from(BLOCK_BYTES);
        let waiting: u64 = self
            .order
            .queue
            .iter()
            .filter_map(|&id| self.order.writes.get(id))
            .map(|write| match write.source {
                Source::Data(_) | Source::Content(_) => (write.end - write.next) * block,
                _ => 0,
            })
            .sum();
        let live = self.cleaner.victim_live();
        let dead = self.space.usable_bytes().saturating_sub(live).max(1);
        let limit = limit as u64;
        let requested = (waiting + block).min(limit);
        let share = requested * live / dead * 3 / 2;
        usize::try_from(share.clamp(block, limit / 2)).unwrap_or(limit as usize)
    }

    /// Whether segments are being cleaned, so that what a batch has beside its payload costs most.
    pub(super) fn cleans(&self) -> bool {
        self.cleaner.is_busy(self.log.requested_bytes, self.space.usable_bytes())
    }
}
