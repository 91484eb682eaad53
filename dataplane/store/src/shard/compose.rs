//! What goes into the next batch: group commit of whatever waits.
//!
//! With nothing under way a batch is begun for a lone request at once, unless the pool is being cleaned and others were
//! just answered; with a batch under way the next waits until it is worth a write of its own. A request that does not
//! fit is cut, its last part goes into a later batch, and none of it is in the map before that one is written; until
//! then the log carries nothing but what the request needs.

use io::{Buffer, Disk};

use super::admit::{Admission, Class};
use super::order::{Source, Write};
use super::{BLOCK_BYTES, Outcome, Shard};
use crate::codec::{Form, Packer, UNIT_BYTES};
use crate::pool::bytes::is_zero;
use crate::record::{
    ALIGNMENT, HEADER_BYTES, HEADER_BYTES_MAX, RECORD_BYTES, UNMAP_RECORD_BYTES, header_bytes,
    move_record_bytes, write_record_bytes,
};

/// What a batch will hold.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) runs: Vec<Run>,
    pub(super) record_bytes: usize,
    /// Bytes of blocks that are stored as they are, and of compressed ones, which come behind them.
    pub(super) raw_bytes: usize,
    packed_bytes: usize,
    /// Compressed blocks of changes.
    pub(super) packer: Packer,
    /// Their forms.
    pub(super) forms: Vec<Form>,
    /// Where a block that lies in pieces is put together.
    scratch: Vec<u8>,
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
    /// Bytes of its payload.
    pub(super) bytes: usize,
}

/// Where a record's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunKind {
    /// Blocks of a change, as they are.
    Data(u32),
    /// Blocks of a change, compressed: where their forms begin in the plan, and their bytes.
    Packed { id: u32, forms: usize, start: usize },
    /// Blocks of a change that are zeros, or that it unmaps.
    Unmap(u32),
    /// A volume is dropped.
    DropVolume(u32),
    /// A volume is forked.
    Fork(u32),
    /// Items of the cleaner, the first of them, and whether they are compressed.
    Move(usize, bool),
}

/// How a block of a change is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storing {
    /// Not at all: it is zeros.
    Zero,
    Raw,
    Packed(Form),
}

/// What is to be done with the change at a place of the queue.
enum Look {
    Plan,
    Block,
    Guard,
    Refuse(Outcome),
    Wait,
}

impl Plan {
    fn reset(&mut self, limit: usize) {
        self.runs.clear();
        self.forms.clear();
        self.packer.clear();
        (self.record_bytes, self.raw_bytes, self.packed_bytes) = (0, 0, 0);
        (self.limit, self.ended, self.open, self.moves_to) = (limit, 0, false, None);
    }

    /// Whether a record of `record_bytes` with so much payload still fits.
    fn fits(&self, record_bytes: usize, raw_bytes: usize, packed_bytes: usize) -> bool {
        let records = self.record_bytes + record_bytes;
        let payload = self.raw_bytes + raw_bytes + whole_blocks(self.packed_bytes + packed_bytes);
        HEADER_BYTES + records <= HEADER_BYTES_MAX && header_bytes(records) + payload <= self.limit
    }

    fn push(&mut self, run: Run, record_bytes: usize) {
        if run.is_packed() {
            self.packed_bytes += run.bytes;
        } else {
            self.raw_bytes += run.bytes;
        }
        self.runs.push(run);
        self.record_bytes += record_bytes;
    }

    /// Bytes of payload, a multiple of a block.
    pub(super) fn payload_bytes(&self) -> usize {
        self.raw_bytes + whole_blocks(self.packed_bytes)
    }

    /// Bytes of the batch without the payload of moves, 0 where there is nothing else in it.
    pub(super) fn requested_bytes(&self) -> u64 {
        let is_move = |run: &&Run| matches!(run.kind, RunKind::Move(..));
        let moved: usize = self.runs.iter().filter(is_move).map(|run| run.bytes).sum();
        match self.runs.iter().all(|run| is_move(&run)) {
            true => 0,
            false => self.bytes() - moved as u64,
        }
    }

    /// Bytes of the batch so far.
    fn bytes(&self) -> u64 {
        (header_bytes(self.record_bytes) + self.payload_bytes()) as u64
    }
}

impl Run {
    /// Whether a block that is stored so may be the next of the run.
    fn is_like(&self, storing: Storing) -> bool {
        match storing {
            Storing::Zero => matches!(self.kind, RunKind::Unmap(_)),
            Storing::Raw => matches!(self.kind, RunKind::Data(_)),
            Storing::Packed(_) => matches!(self.kind, RunKind::Packed { .. }),
        }
    }

    /// Bytes of a record of so many blocks.
    fn record_bytes(&self, blocks: u64) -> usize {
        let blocks = usize::try_from(blocks).expect("a change of data is at most 1 MiB");
        match self.kind {
            RunKind::Data(_) => write_record_bytes(blocks, false),
            RunKind::Packed { .. } => write_record_bytes(blocks, true),
            RunKind::Unmap(_) | RunKind::Fork(_) => UNMAP_RECORD_BYTES,
            RunKind::DropVolume(_) => RECORD_BYTES,
            RunKind::Move(..) => move_record_bytes(blocks),
        }
    }

    /// Whether its payload lies among the compressed blocks.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.kind, RunKind::Packed { .. } | RunKind::Move(_, true))
    }
}

fn whole_blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES as usize)
}

impl<B: Buffer> Shard<B> {
    /// Begins as many batches as there is work and room for.
    pub(super) fn compose<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        self.step_gather();
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

    /// Whether what waits is worth a batch.
    fn has_enough_for_a_batch(&self) -> bool {
        // Moves leave requests the last place among the batches under way.
        let may_move = self.log.in_flight() + 1 < self.options.batches_max.max(2);
        may_move && self.cleaner.has_moves() && !self.moves_ride() || self.has_enough_requests()
    }

    /// Whether the requests that wait are worth a batch: any while none of requests is under way, else enough of them.
    fn has_enough_requests(&self) -> bool {
        if !self.log.has_requests_in_flight() {
            return !self.order.queue.is_empty() && !self.gathers();
        }
        let (least, company) = (self.least_bytes(), self.least_requests());
        let (mut bytes, mut requests) = (0, 0);
        self.waiting().any(|write| {
            let (more_bytes, more_requests) = match write.source {
                // Acknowledgements may be waiting for its place in the order.
                Source::Fork { .. } => (least, company),
                _ => (write.bytes_left(), 1),
            };
            bytes += more_bytes;
            requests += more_requests;
            bytes >= least && requests >= company
        })
    }

    /// What waits, in the order in which it is to be logged.
    fn waiting(&self) -> impl Iterator<Item = &Write<B>> {
        self.order.queue.iter().filter_map(|&id| self.order.writes.get(id))
    }

    /// How much must wait to be worth a batch beside those under way.
    fn least_bytes(&self) -> u64 {
        // Every batch has a header. While there is room that is cheaper than to wait for more.
        let least = u64::from(self.options.batch_bytes_min);
        let least = if self.cleans() { least * 2 } else { least / 4 };
        // A drive that has several gains by one more only if that is long.
        least << (self.log.in_flight() / 4)
    }

    /// How many requests must wait to be worth one, however long they are: two cost little more than one to hand over and
    /// to end. Hosts that have no more than two open would wait for nothing, and what fills a batch needs no company.
    fn least_requests(&self) -> u32 {
        let pair = 2 * self.waiting().next().map_or(0, Write::bytes_left);
        let fits = pair + u64::from(2 * ALIGNMENT) <= u64::from(self.options.batch_bytes_max);
        if fits && self.order.crowd.most() > 2 { 2 } else { 1 }
    }

    /// Writes one batch of requests and moves; false if there is nothing that can go now.
    fn write_requests<D: Disk<Buffer = B>>(&mut self, disk: &mut D) -> bool {
        let Some(limit) = self.batch_limit(disk, u64::from(2 * ALIGNMENT)) else { return false };
        let mut plan = std::mem::take(&mut self.plan);
        plan.reset(limit as usize);
        self.plan_batch(&mut plan);
        let wrote = !plan.runs.is_empty() && self.emit(disk, &plan);
        if wrote {
            self.order.crowd.note(self.tickets.len());
        }
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
        let moves_alone =
            self.order.queue.is_empty() || self.order.needed_bytes > 0 || !self.has_enough_requests();
        self.order.needed_bytes = 0;
        self.order.waiting = None;
        if !self.log.is_group_open() {
            self.plan_moves(plan, if moves_alone { plan.limit } else { self.share_of_moves(plan.limit) });
        }
        if !plan.runs.is_empty() && !self.has_enough_requests() {
            // Moves do not take a few requests along that would make a fuller batch a moment later.
            return;
        }
        let mut place = 0;
        while let Some(&id) = self.order.queue.get(place) {
            if place > 0 && self.waits_for_next(id, plan) {
                break;
            }
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
                Look::Block | Look::Guard | Look::Refuse(_) if place > 0 => break,
                Look::Block => {
                    self.order.queue.pop_front();
                    self.order.block(id);
                }
                Look::Guard => {
                    self.order.queue.pop_front();
                    self.begin_guard(id);
                }
                Look::Refuse(outcome) => {
                    self.order.queue.pop_front();
                    self.end_guarded(id, outcome);
                }
            }
        }
        plan.ended = place;
    }

    /// Whether a change should rather go into the next batch, which takes it whole. Cut at the end of this one it would be
    /// answered with the next all the same, and lie in two pieces, which costs every read of it.
    fn waits_for_next(&self, id: u32, plan: &Plan) -> bool {
        let Some(write) = self.order.writes.get(id) else { return false };
        let is_data = matches!(write.source, Source::Data(_) | Source::Content(_)) && !write.compress;
        if !is_data {
            return false;
        }
        let blocks = usize::try_from(write.end - write.first).expect("a change of data is at most 1 MiB");
        let (record_bytes, bytes) = (write_record_bytes(blocks, false), blocks * BLOCK_BYTES as usize);
        let most = header_bytes(record_bytes) + bytes;
        !plan.fits(record_bytes, bytes, 0) && most <= self.options.batch_bytes_max as usize
    }

    fn look_at(&mut self, id: u32, plan: &Plan) -> Look {
        let Some(write) = self.order.writes.get(id) else { return Look::Wait };
        if write.admitted {
            return Look::Plan;
        }
        if !self.checkpoint.may_change() {
            return Look::Wait;
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
        if let Some(look) = self.look_at_map(id) {
            return look;
        }
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
            Admission::No => Look::Refuse(Outcome::CapacityExceeded),
        }
    }

    /// Whether the map is ready for a change: a leaf that cannot be read is found out before anything is logged, and what
    /// differs from what was written must not outgrow memory.
    fn look_at_map(&mut self, id: u32) -> Option<Look> {
        let write = self.order.writes.get(id)?;
        if self.has_too_many_dirty() && self.has_checkpoint_coming() {
            return Some(Look::Wait);
        }
        let (volume, first, end) = (write.volume, write.first, write.end);
        let has_leaves = match write.source {
            _ if !self.map.has_away() => return None,
            Source::Data(_) | Source::Content(_) => {
                self.has_leaves(|map, needs| map.need_write(volume, first, end, needs))
            }
            Source::Unmap => self.has_leaves(|map, needs| map.need_unmap(volume, first, end, needs)),
            Source::Partial { .. } | Source::DropVolume | Source::Fork { .. } => return None,
        };
        if !has_leaves {
            return Some(Look::Wait);
        }
        self.pages.needs.unreadable.map(|_| Look::Refuse(Outcome::Unrecovered))
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
        let (kind, record_bytes) = match write.source {
            Source::Unmap => (RunKind::Unmap(id), UNMAP_RECORD_BYTES),
            Source::DropVolume => (RunKind::DropVolume(id), RECORD_BYTES),
            Source::Fork { .. } => (RunKind::Fork(id), UNMAP_RECORD_BYTES),
            Source::Data(_) | Source::Content(_) | Source::Partial { .. } => {
                return self.plan_blocks(id, write, plan);
            }
        };
        let fits = plan.fits(record_bytes, 0, 0);
        if fits {
            let run = Run { kind, first: write.first, end: write.end, more: false, bytes: 0 };
            plan.push(run, record_bytes);
        }
        fits
    }

    /// Plans the blocks of a change that are left: a record for each stretch of blocks that are stored alike.
    fn plan_blocks(&self, id: u32, write: &Write<B>, plan: &mut Plan) -> bool {
        let mut open: Option<Run> = None;
        let mut all_fit = true;
        for block in write.next..write.end {
            let storing = self.storing(write, block, plan);
            let (raw, packed) = match storing {
                Storing::Zero => (0, 0),
                Storing::Raw => (BLOCK_BYTES as usize, 0),
                Storing::Packed(form) => (0, form.bytes() as usize),
            };
            if let Some(run) = &mut open
                && run.is_like(storing)
            {
                let (so_far_raw, so_far_packed) =
                    if run.is_packed() { (0, run.bytes) } else { (run.bytes, 0) };
                let record_bytes = run.record_bytes(run.end + 1 - run.first);
                if plan.fits(record_bytes, so_far_raw + raw, so_far_packed + packed) {
                    run.end += 1;
                    run.bytes += raw + packed;
                    if let Storing::Packed(form) = storing {
                        plan.forms.push(form);
                    }
                    continue;
                }
            }
            if let Some(run) = open.take() {
                plan.push(run, run.record_bytes(run.end - run.first));
            }
            let kind = match storing {
                Storing::Zero => RunKind::Unmap(id),
                Storing::Raw => RunKind::Data(id),
                Storing::Packed(_) => {
                    RunKind::Packed { id, forms: plan.forms.len(), start: plan.packer.filled() - packed }
                }
            };
            let run = Run { kind, first: block, end: block + 1, more: true, bytes: raw + packed };
            if !plan.fits(run.record_bytes(1), raw, packed) {
                if let Storing::Packed(form) = storing {
                    plan.packer.take_back(form);
                }
                all_fit = false;
                break;
            }
            if let Storing::Packed(form) = storing {
                plan.forms.push(form);
            }
            open = Some(run);
        }
        if let Some(mut run) = open {
            run.more = run.end < write.end;
            plan.push(run, run.record_bytes(run.end - run.first));
        }
        all_fit
    }

    /// How a block of a change is stored; compresses it if it is to be.
    fn storing(&self, write: &Write<B>, block: u64, plan: &mut Plan) -> Storing {
        const BLOCK: usize = BLOCK_BYTES as usize;
        let at = usize::try_from(block - write.first).expect("at most 1 MiB") * BLOCK;
        let is_zero = match &write.source {
            Source::Data(data) => data.is_zero(at, BLOCK),
            Source::Content(content) => is_zero(&content[at..at + BLOCK]),
            Source::Partial { .. } | Source::Unmap | Source::DropVolume | Source::Fork { .. } => true,
        };
        if is_zero {
            return Storing::Zero;
        }
        if !write.compress || self.layout.block_bytes() > UNIT_BYTES {
            return Storing::Raw;
        }
        plan.scratch.resize(BLOCK, 0);
        let bytes = match &write.source {
            Source::Data(data) => data.in_one_piece(at, &mut plan.scratch),
            Source::Content(content) => &content[at..at + BLOCK],
            Source::Partial { .. } | Source::Unmap | Source::DropVolume | Source::Fork { .. } => {
                return Storing::Zero;
            }
        };
        plan.packer.pack(block, bytes).map_or(Storing::Raw, Storing::Packed)
    }

    /// Plans moves of the cleaner that fill at most `share` bytes.
    fn plan_moves(&mut self, plan: &mut Plan, share: usize) {
        let Some(end) = self.movable() else {
            self.cleaner.lacks_room = false;
            return;
        };
        if self.pages.needs.unreadable.is_some() {
            // What is moved without that leaf, replay could not move if it cannot read it either.
            self.cleaner.give_up_chunk();
            return;
        }
        let Some((items, from)) = self.cleaner.moves() else {
            self.cleaner.lacks_room = false;
            return;
        };
        // However much more they take than they seemed to: an emergency must have something to begin with.
        let kept = if self.cleaner.is_in_emergency() { 0 } else { self.space.usable_bytes() / 2 };
        let floor_bytes = self.floor_bytes(Class::Clean) + kept;
        let items = &items[..end];
        let mut place = from;
        while let Some(item) = items.get(place) {
            let is_live = |place: usize| {
                // What is not known is moved; where it is dead that does nothing.
                items
                    .get(place)
                    .is_some_and(|item| self.map.is_live(item.lineage, item.block, item.from) != Some(false))
            };
            if !is_live(place) {
                place += 1;
                plan.moves_to = Some(place);
                continue;
            }
            let packed = item.form.is_packed();
            let sizes = |bytes: usize| if packed { (0, bytes) } else { (bytes, 0) };
            let fits = |plan: &Plan, count: usize, bytes: usize| {
                let (raw, packed) = sizes(bytes);
                plan.fits(move_record_bytes(count), raw, packed)
            };
            // What is moved, and the pages that name it.
            let has_room = |plan: &Plan, bytes: usize| {
                let needed = 2 * whole_blocks(bytes) as u64 + u64::from(2 * ALIGNMENT);
                needed + plan.bytes() + floor_bytes <= self.room_bytes()
            };
            let mut count = 1;
            let mut bytes = item.form.bytes() as usize;
            while let Some(next) = items.get(place + count)
                && next.lineage == item.lineage
                && next.block == item.block + count as u64
                && next.form.is_packed() == packed
                && is_live(place + count)
                && fits(plan, count + 1, bytes + next.form.bytes() as usize)
                && plan.payload_bytes() + bytes + next.form.bytes() as usize <= share
                && has_room(plan, bytes + next.form.bytes() as usize)
            {
                count += 1;
                bytes += next.form.bytes() as usize;
            }
            let over_share = plan.payload_bytes() > 0 && plan.payload_bytes() + bytes > share;
            if over_share || !fits(plan, count, bytes) || !has_room(plan, bytes) {
                break;
            }
            let run = Run {
                kind: RunKind::Move(place, packed),
                first: item.block,
                end: item.block + count as u64,
                more: false,
                bytes,
            };
            plan.push(run, move_record_bytes(count));
            place += count;
            plan.moves_to = Some(place);
        }
        self.cleaner.lacks_room = plan.moves_to.is_none();
    }
}
