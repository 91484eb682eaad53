//! What goes into the next batch: group commit of whatever waits.
//!
//! With nothing under way a batch is begun for a lone request at once; with a batch under way the next waits until it
//! is worth a write of its own. A request that does not fit is cut, its last part goes into a later batch, and none of
//! it is in the map before that one is written; until then the log carries nothing but what the request needs.

use io::{Buffer, Disk};

use super::admit::{Admission, Class};
use super::order::Source;
use super::{BLOCK_BYTES, Outcome, Shard};
use crate::record::{
    ALIGNMENT, HEADER_BYTES, HEADER_BYTES_MAX, RECORD_BYTES, UNMAP_RECORD_BYTES, header_bytes,
    move_record_bytes, write_record_bytes,
};

/// What a batch will hold.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) runs: Vec<Run>,
    pub(super) record_bytes: usize,
    /// Blocks of payload.
    pub(super) blocks: usize,
    /// Bytes that the batch may have.
    limit: usize,
    /// Changes at the front of the queue that end in this batch.
    pub(super) ended: usize,
    /// Whether the change after them begins in it.
    pub(super) open: bool,
    /// Items of the cleaner that this batch takes or finds dead.
    pub(super) moves_to: Option<usize>,
}

/// One record of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) kind: RunKind,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Whether the change goes on in the next record.
    pub(super) more: bool,
}

/// Where a record's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunKind {
    /// Blocks of a change.
    Data(u32),
    /// Blocks of a change that are zeros, or that it unmaps.
    Unmap(u32),
    /// A volume is dropped.
    DropVolume(u32),
    /// A volume is forked.
    Fork(u32),
    /// Items of the cleaner, the first of them.
    Move(usize),
}

/// What is to be done with the change at a place of the queue.
enum Look {
    Plan,
    Block,
    Guard,
    Refuse,
    Wait,
}

impl Plan {
    fn reset(&mut self, limit: usize) {
        self.runs.clear();
        *self = Self { runs: std::mem::take(&mut self.runs), limit, ..Self::default() };
    }

    /// Whether a record of `record_bytes` with `blocks` of payload still fits.
    fn fits(&self, record_bytes: usize, blocks: usize) -> bool {
        let records = self.record_bytes + record_bytes;
        let payload = (self.blocks + blocks) * BLOCK_BYTES as usize;
        HEADER_BYTES + records <= HEADER_BYTES_MAX && header_bytes(records) + payload <= self.limit
    }

    fn push(&mut self, run: Run, record_bytes: usize, blocks: usize) {
        self.runs.push(run);
        self.record_bytes += record_bytes;
        self.blocks += blocks;
    }

    /// Bytes of the batch without the payload of moves, 0 where there is nothing else in it.
    pub(super) fn requested_bytes(&self) -> u64 {
        let is_move = |run: &&Run| matches!(run.kind, RunKind::Move(_));
        let moved: u64 = self.runs.iter().filter(is_move).map(|run| run.end - run.first).sum();
        match self.runs.iter().all(|run| is_move(&run)) {
            true => 0,
            false => self.bytes() - moved * u64::from(BLOCK_BYTES),
        }
    }

    /// Bytes of the batch so far.
    fn bytes(&self) -> u64 {
        (header_bytes(self.record_bytes) + self.blocks * BLOCK_BYTES as usize) as u64
    }
}

impl<B: Buffer> Shard<B> {
    /// Begins as many batches as there is work and room for.
    pub(super) fn compose<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        if self.order.queue.is_empty() {
            self.order.needed_bytes = 0;
            self.order.waiting = None;
        }
        while !self.is_failed() && self.log.in_flight() < self.options.batches_max {
            let pages_first = self.checkpoint.is_pages_turn() && !self.log.is_group_open();
            if pages_first && self.write_checkpoint(disk) {
                self.checkpoint.set_pages_turn(false);
                continue;
            }
            let wrote = self.has_enough_for_a_batch() && self.write_requests(disk);
            self.checkpoint.set_pages_turn(true);
            if wrote {
                continue;
            }
            if pages_first || self.log.is_group_open() || !self.write_checkpoint(disk) {
                return;
            }
        }
    }

    /// Whether what waits is worth a batch: anything while none is under way, else enough of it.
    fn has_enough_for_a_batch(&self) -> bool {
        if self.log.in_flight() == 0 {
            return !self.order.queue.is_empty() || self.cleaner.has_moves();
        }
        if self.cleaner.has_moves() {
            return true;
        }
        let mut bytes = 0;
        self.order.queue.iter().filter_map(|&id| self.order.writes.get(id)).any(|write| {
            bytes += match write.source {
                Source::Unmap | Source::DropVolume => u64::from(BLOCK_BYTES) / 8,
                // Acknowledgements may be waiting for its place in the order.
                Source::Fork { .. } => u64::from(self.options.batch_bytes_min),
                _ => (write.end - write.next) * u64::from(BLOCK_BYTES),
            };
            bytes >= u64::from(self.options.batch_bytes_min)
        })
    }

    /// Writes one batch of requests and moves; false if there is nothing that can go now.
    fn write_requests<D: Disk<Buffer = B>>(&mut self, disk: &mut D) -> bool {
        let Some(limit) = self.batch_limit(disk, u64::from(2 * ALIGNMENT)) else { return false };
        let mut plan = std::mem::take(&mut self.plan);
        plan.reset(limit as usize);
        self.plan_batch(&mut plan);
        let wrote = !plan.runs.is_empty() && self.emit(disk, &plan);
        if let (true, Some(moves_to)) = (plan.runs.is_empty(), plan.moves_to) {
            // All that was looked at is dead by now.
            self.cleaner.set_moved(moves_to, None);
        }
        self.plan = plan;
        wrote
    }

    /// The most that a batch may have at the log's end, at least `least`; goes on to another segment for that. `None`
    /// while there is none.
    pub(super) fn batch_limit<D: Disk<Buffer = B>>(&mut self, disk: &mut D, least: u64) -> Option<u32> {
        let head = self.log.head;
        let Some(segment) = head.segment else {
            self.open_log(disk);
            return None;
        };
        let left = self.layout.log_bytes() - head.offset - ALIGNMENT;
        if u64::from(left) >= least {
            return Some(left.min(self.options.batch_bytes_max));
        }
        let next = self.space.peek_next()?;
        if !self.write_seal(disk, segment, next) || self.is_failed() {
            return None;
        }
        let left = self.layout.log_bytes() - self.log.head.offset - ALIGNMENT;
        Some(left.min(self.options.batch_bytes_max))
    }

    fn plan_batch(&mut self, plan: &mut Plan) {
        // Requests that wait for room are best served by whole batches of moves.
        let moves_alone = self.order.queue.is_empty() || self.order.needed_bytes > 0;
        self.order.needed_bytes = 0;
        self.order.waiting = None;
        if !self.log.is_group_open() {
            self.plan_moves(plan, if moves_alone { plan.limit } else { plan.limit / 4 });
        }
        let mut place = 0;
        while let Some(&id) = self.order.queue.get(place) {
            match self.look_at(id, plan) {
                Look::Plan => {
                    let planned = plan.runs.len();
                    if !self.plan_write(id, plan) {
                        plan.open = plan.runs.len() > planned;
                        break;
                    }
                    place += 1;
                }
                Look::Wait => break,
                // What changes the queue's front must not do so under the feet of what is planned.
                Look::Block | Look::Guard | Look::Refuse if place > 0 => break,
                Look::Block => {
                    self.order.queue.pop_front();
                    self.order.block(id);
                }
                Look::Guard => {
                    self.order.queue.pop_front();
                    self.begin_guard(id);
                }
                Look::Refuse => {
                    self.order.queue.pop_front();
                    self.end_guarded(id, Outcome::CapacityExceeded);
                }
            }
        }
        plan.ended = place;
    }

    fn look_at(&mut self, id: u32, plan: &Plan) -> Look {
        let Some(write) = self.order.writes.get(id) else { return Look::Wait };
        if write.admitted {
            return Look::Plan;
        }
        #[cfg(feature = "planted")]
        let ignores_guards =
            self.is_planted(super::Planted::IgnoreGuards) && matches!(write.source, Source::Data(_));
        #[cfg(not(feature = "planted"))]
        let ignores_guards = false;
        if !ignores_guards && self.order.is_blocked(id) {
            return Look::Block;
        }
        let blocks = match write.source {
            Source::Partial { .. } => return Look::Guard,
            Source::Fork { .. } if !self.checkpoint.may_fork() => return Look::Wait,
            Source::Unmap | Source::DropVolume | Source::Fork { .. } => 0,
            Source::Data(_) | Source::Content(_) => write.end - write.first,
        };
        let bytes = self.cost_bytes(blocks);
        let class = write.class;
        match self.admit(class, bytes, plan.bytes()) {
            Admission::Yes => {
                if let Some(write) = self.order.writes.get_mut(id) {
                    write.admitted = true;
                }
                Look::Plan
            }
            Admission::Wait => {
                self.order.needed_bytes = bytes + plan.bytes();
                self.order.waiting = Some(class);
                Look::Wait
            }
            Admission::No => Look::Refuse,
        }
    }

    /// What logging so many blocks may take: headers, and what is lost at the ends of segments.
    fn cost_bytes(&self, blocks: u64) -> u64 {
        let block = u64::from(BLOCK_BYTES);
        let bytes = (blocks + blocks / 16 + 1) * block;
        bytes + (bytes / self.space.usable_bytes() + 1) * 2 * block
    }

    /// Plans what is left of a change; false if some of it did not fit.
    fn plan_write(&self, id: u32, plan: &mut Plan) -> bool {
        let Some(write) = self.order.writes.get(id) else { return true };
        let is_zero = |block: u64| {
            let at = usize::try_from(block - write.first).expect("at most 1 MiB") * BLOCK_BYTES as usize;
            match &write.source {
                Source::Data(data) => data.is_zero(at, BLOCK_BYTES as usize),
                Source::Content(content) => {
                    crate::pool::bytes::is_zero(&content[at..at + BLOCK_BYTES as usize])
                }
                Source::Partial { .. } | Source::Unmap | Source::DropVolume | Source::Fork { .. } => true,
            }
        };
        let single = |kind| Run { kind, first: write.first, end: write.end, more: false };
        match write.source {
            Source::Unmap if plan.fits(UNMAP_RECORD_BYTES, 0) => {
                plan.push(single(RunKind::Unmap(id)), UNMAP_RECORD_BYTES, 0);
                return true;
            }
            Source::DropVolume if plan.fits(RECORD_BYTES, 0) => {
                plan.push(single(RunKind::DropVolume(id)), RECORD_BYTES, 0);
                return true;
            }
            Source::Fork { .. } if plan.fits(UNMAP_RECORD_BYTES, 0) => {
                plan.push(single(RunKind::Fork(id)), UNMAP_RECORD_BYTES, 0);
                return true;
            }
            Source::Unmap | Source::DropVolume | Source::Fork { .. } => return false,
            Source::Data(_) | Source::Content(_) | Source::Partial { .. } => {}
        }
        let mut first = write.next;
        while first < write.end {
            let zero = is_zero(first);
            let record = |count: usize| if zero { UNMAP_RECORD_BYTES } else { write_record_bytes(count) };
            let blocks = |count: usize| if zero { 0 } else { count };
            if !plan.fits(record(1), blocks(1)) {
                return false;
            }
            let mut count = 1;
            let mut end = first + 1;
            while end < write.end && is_zero(end) == zero && plan.fits(record(count + 1), blocks(count + 1)) {
                count += 1;
                end += 1;
            }
            let kind = if zero { RunKind::Unmap(id) } else { RunKind::Data(id) };
            plan.push(Run { kind, first, end, more: end < write.end }, record(count), blocks(count));
            first = end;
        }
        true
    }

    /// Plans moves of the cleaner that fill at most `share` bytes.
    fn plan_moves(&mut self, plan: &mut Plan, share: usize) {
        let Some((items, from)) = self.cleaner.moves() else {
            self.cleaner.lacks_room = false;
            return;
        };
        let mut place = from;
        while let Some(item) = items.get(place) {
            let is_live = |place: usize| {
                items.get(place).is_some_and(|item| self.map.is_live(item.lineage, item.block, item.from))
            };
            if !is_live(place) {
                place += 1;
                plan.moves_to = Some(place);
                continue;
            }
            let mut count = 1;
            while let Some(next) = items.get(place + count)
                && next.lineage == item.lineage
                && next.block == item.block + count as u64
                && is_live(place + count)
                && plan.fits(move_record_bytes(count + 1), count + 1)
                && (plan.blocks + count + 1) * BLOCK_BYTES as usize <= share
            {
                count += 1;
            }
            let over_share = plan.blocks > 0 && (plan.blocks + count) * BLOCK_BYTES as usize > share;
            let bytes = (count as u64) * u64::from(2 * BLOCK_BYTES);
            if over_share
                || !plan.fits(move_record_bytes(count), count)
                || self.admit(Class::Clean, bytes + u64::from(2 * ALIGNMENT), plan.bytes()) != Admission::Yes
            {
                break;
            }
            let run = Run {
                kind: RunKind::Move(place),
                first: item.block,
                end: item.block + count as u64,
                more: false,
            };
            plan.push(run, move_record_bytes(count), count);
            place += count;
            plan.moves_to = Some(place);
        }
        self.cleaner.lacks_room = plan.moves_to.is_none();
    }
}
