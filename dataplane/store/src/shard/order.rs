//! The order of changes: a queue in which whole blocks need no care, and guards for what must read before it writes.
//!
//! A partial write, or a compare-and-write, takes its range under a guard: it waits until what is under way for the
//! range is in the map, reads, changes, and goes to the front of the queue as a write of whole blocks. What overlaps a
//! guard waits behind it, in order. Partial writes that arrive meanwhile for the same blocks are merged into it. After
//! it was logged its content stays at hand until it is written, so that the next partial write to the same blocks goes
//! on from the pending version without a wait.

use std::collections::VecDeque;

use io::{Buffer, Disk, Purpose};

use super::admit::Class;
use super::{BLOCK_BYTES, Outcome, Payload, Shard};
use crate::VolumeId;
use crate::map::PageIndex;

/// Changes that are not logged yet.
#[derive(Debug)]
pub(super) struct Order<B: Buffer> {
    /// In the order in which they are to be logged.
    pub(super) queue: VecDeque<u32>,
    /// Those that overlap a guard or one another, in order.
    blocked: VecDeque<u32>,
    pub(super) writes: super::slab::Slab<Write<B>>,
    guards: Vec<Guard>,
    lingering: VecDeque<Lingering<B>>,
    /// Whether the change at the front of the queue is partly logged: nothing may come before the rest of it.
    pub(super) open: bool,
    pub(super) crowd: Crowd,
    /// Bytes that the change at the front of the queue waits for, 0 if it waits for none.
    pub(super) needed_bytes: u64,
    /// Images whose forks are not in the map yet.
    pub(super) forking: Vec<VolumeId>,
    /// What that change is.
    pub(super) waiting: Option<Class>,
}

/// How many requests were open at once when the last batches were begun.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    most: usize,
    /// Of those before.
    before: usize,
    batches: u32,
}

/// A change of one range.
#[derive(Debug)]
pub(super) struct Write<B: Buffer> {
    pub(super) ticket: u32,
    /// Tickets of requests that were merged into this one.
    pub(super) merged: Vec<u32>,
    pub(super) volume: VolumeId,
    /// First block, and the one after the last.
    pub(super) first: u64,
    pub(super) end: u64,
    /// The first block that is not in a batch yet.
    pub(super) next: u64,
    /// Room for all of it has been found.
    pub(super) admitted: bool,
    /// Who may write it. The edges of a Write Zeroes are as privileged as its middle, so that no part is refused after
    /// another was done.
    pub(super) class: Class,
    /// Whether its blocks are compressed.
    pub(super) compress: bool,
    pub(super) source: Source<B>,
}

/// What a change writes.
#[derive(Debug)]
pub(super) enum Source<B: Buffer> {
    /// Whole blocks of a request.
    Data(Payload<B::Shared>),
    /// Whole blocks that were read and changed under a guard.
    Content(B),
    /// Bytes (zeros, if there are none) of which `start` is the offset in the first block, if what is there now equals
    /// `compare`.
    Partial { data: Option<Payload<B::Shared>>, compare: Option<Payload<B::Shared>>, start: u64, len: u64 },
    /// Nothing: the blocks are unmapped.
    Unmap,
    /// The whole volume.
    DropVolume,
    /// An image of the whole volume.
    Fork { image: VolumeId, read_only: bool },
}

/// A range that nothing else may change for now.
#[derive(Clone, Copy, Debug)]
struct Guard {
    volume: VolumeId,
    first: u64,
    end: u64,
    /// The change that it is for.
    write: u32,
    state: GuardState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardState {
    /// Until this batch is in the map.
    Waiting(u64),
    /// Until this leaf of the map is there.
    Missing(PageIndex),
    /// What is there now is being read.
    Reading,
    /// The new content is in the queue.
    Logging,
}

/// What a batch under way writes to a range.
#[derive(Debug)]
struct Lingering<B> {
    volume: VolumeId,
    first: u64,
    end: u64,
    batch: u64,
    content: B,
}

/// How much content may linger.
const LINGERING_MAX: usize = 32;

impl Crowd {
    /// Batches after which what was before them is forgotten.
    const BATCHES: u32 = 16;

    /// A batch is begun.
    pub(super) fn note(&mut self, open: usize) {
        self.most = self.most.max(open);
        self.batches += 1;
        if self.batches == Self::BATCHES {
            (self.before, self.most, self.batches) = (self.most, 0, 0);
        }
    }

    /// The most that were open at the last of them.
    pub(super) fn most(&self) -> usize {
        self.most.max(self.before)
    }
}

impl<B: Buffer> Write<B> {
    /// A change that compresses nothing.
    pub(super) fn new(ticket: u32, volume: VolumeId, first: u64, end: u64, source: Source<B>) -> Self {
        let class = match source {
            Source::Data(_)
            | Source::Content(_)
            | Source::Partial { data: Some(_), .. }
            | Source::Fork { .. } => Class::Host,
            Source::Partial { data: None, .. } | Source::Unmap | Source::DropVolume => Class::Unmap,
        };
        let (merged, next) = (Vec::new(), first);
        Self { ticket, merged, volume, first, end, next, admitted: false, class, compress: false, source }
    }

    /// What of it is not in a batch yet takes there, about.
    pub(super) fn bytes_left(&self) -> u64 {
        match self.source {
            Source::Unmap | Source::DropVolume | Source::Fork { .. } => u64::from(BLOCK_BYTES) / 8,
            Source::Data(_) | Source::Content(_) | Source::Partial { .. } => {
                (self.end - self.next) * u64::from(BLOCK_BYTES)
            }
        }
    }

    fn overlaps(&self, volume: VolumeId, first: u64, end: u64) -> bool {
        self.volume == volume && first < self.end && self.first < end
    }

    /// Puts the request's bytes over `content`, which begins at block `first`.
    fn patch(&self, first: u64, content: &mut [u8]) {
        let Source::Partial { data, start, len, .. } = &self.source else { return };
        let at = usize::try_from((self.first - first) * u64::from(BLOCK_BYTES) + start)
            .expect("a guard spans at most 1 MiB");
        let to = &mut content[at..at + usize::try_from(*len).expect("at most 1 MiB")];
        match data {
            Some(data) => data.copy_to(0, to),
            None => to.fill(0),
        }
    }
}

impl<B: Buffer> Order<B> {
    /// Whether a partial write could read its edges now.
    pub(super) fn has_ready_guard(&self, applied: u64) -> bool {
        self.guards.iter().any(|guard| matches!(guard.state, GuardState::Waiting(batch) if batch <= applied))
    }

    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            blocked: VecDeque::new(),
            writes: super::slab::Slab::new(),
            guards: Vec::new(),
            lingering: VecDeque::new(),
            open: false,
            crowd: Crowd::default(),
            needed_bytes: 0,
            forking: Vec::new(),
            waiting: None,
        }
    }

    pub(super) fn push(&mut self, write: Write<B>) {
        let id = self.writes.insert(write);
        self.queue.push_back(id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.blocked.clear();
        self.writes.drain().for_each(drop);
        self.guards.clear();
        self.lingering.clear();
    }

    /// Whether the change must wait for a guard, or for a change that already does.
    pub(super) fn is_blocked(&self, id: u32) -> bool {
        if self.guards.is_empty() {
            return false;
        }
        let Some(write) = self.writes.get(id) else { return false };
        if matches!(write.source, Source::Content(_)) {
            return false;
        }
        self.guards.iter().any(|guard| write.overlaps(guard.volume, guard.first, guard.end))
            || self
                .blocked
                .iter()
                .filter_map(|&earlier| self.writes.get(earlier))
                .any(|earlier| write.overlaps(earlier.volume, earlier.first, earlier.end))
    }

    /// Puts a change aside until guards end.
    pub(super) fn block(&mut self, id: u32) {
        self.blocked.push_back(id);
    }

    /// Ends the guard of a change: what waited is looked at again before anything that came later.
    fn end_guard(&mut self, write: u32) {
        self.guards.retain(|guard| guard.write != write);
        while let Some(id) = self.blocked.pop_back() {
            self.put_first(id);
        }
    }

    /// Puts a change at the front of the queue.
    fn put_first(&mut self, id: u32) {
        self.queue.insert(usize::from(self.open), id);
    }

    /// Forgets content that a change of the range makes old.
    fn forget_lingering(&mut self, volume: VolumeId, first: u64, end: u64) {
        self.lingering.retain(|held| held.volume != volume || held.end <= first || end <= held.first);
    }

    /// Takes the pending content of exactly this range.
    fn take_lingering(&mut self, volume: VolumeId, first: u64, end: u64) -> Option<B> {
        let place = self
            .lingering
            .iter()
            .position(|held| held.volume == volume && held.first == first && held.end == end)?;
        self.lingering.remove(place).map(|held| held.content)
    }

    /// Merges partial writes that wait for the guard of `leader` and lie within it, as long as they come next.
    fn merge(&mut self, leader: u32, content: &mut [u8]) {
        let Some(lead) = self.writes.get(leader) else { return };
        let (volume, first, end) = (lead.volume, lead.first, lead.end);
        let mut merged = Vec::new();
        let class = lead.class;
        let mut place = 0;
        while let Some(&id) = self.blocked.get(place) {
            let Some(write) = self.writes.get(id) else { break };
            if !write.overlaps(volume, first, end) {
                place += 1;
                continue;
            }
            let within = first <= write.first && write.end <= end;
            // A host's data that came along with deallocation would have the room that is kept for that.
            let is_alike =
                write.class == class && matches!(write.source, Source::Partial { compare: None, .. });
            if !within || !is_alike {
                break;
            }
            write.patch(first, content);
            merged.push(write.ticket);
            self.blocked.remove(place);
            self.writes.remove(id);
        }
        if let Some(lead) = self.writes.get_mut(leader) {
            lead.merged = merged;
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Takes the range of a partial change, which has left the queue, under a guard.
    pub(super) fn begin_guard(&mut self, id: u32) {
        let Some(write) = self.order.writes.get(id) else { return };
        let (volume, first, end) = (write.volume, write.first, write.end);
        let compares = matches!(write.source, Source::Partial { compare: Some(_), .. });
        #[cfg_attr(not(feature = "planted"), expect(unused_mut, reason = "changed by planted faults alone"))]
        let mut pending = self.log.pending(volume, first, end);
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::ForgetPendingVersion) {
            pending = 0;
        }
        self.order.guards.push(Guard { volume, first, end, write: id, state: GuardState::Waiting(pending) });
        if !compares && let Some(content) = self.order.take_lingering(volume, first, end) {
            self.on_guard_content(id, content, true);
        }
    }

    /// Reads for guards whose range has come to rest.
    pub(super) fn step_guards<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        let applied = self.log.applied;
        self.order.lingering.retain(|held| held.batch > applied);
        let mut place = 0;
        while let Some(guard) = self.order.guards.get(place).copied() {
            place += 1;
            let may_read = match guard.state {
                GuardState::Waiting(batch) => batch <= applied,
                GuardState::Missing(page) => !self.map.is_coming(page),
                GuardState::Reading | GuardState::Logging => false,
            };
            if !may_read {
                continue;
            }
            let count = u32::try_from(guard.end - guard.first).expect("a guard spans at most 1 MiB");
            if !self.has_leaves(|map, needs| map.need_read(guard.volume, guard.first, count, needs)) {
                self.order.guards[place - 1].state = GuardState::Missing(self.pages.needs.missing[0].page);
                continue;
            }
            if self.pages.needs.unreadable.is_some() {
                self.end_guarded(guard.write, Outcome::Unrecovered);
                place = 0;
                continue;
            }
            let blocks = usize::try_from(guard.end - guard.first).expect("a guard spans at most 1 MiB");
            let Some(buffer) = disk.allocate(blocks * BLOCK_BYTES as usize, Purpose::Data) else {
                self.retry_for_memory();
                return;
            };
            self.order.guards[place - 1].state = GuardState::Reading;
            let Some(write) = self.order.writes.get(guard.write) else { continue };
            let edges_only = matches!(write.source, Source::Partial { compare: None, .. });
            self.start_guard_read(disk, guard.write, (guard.volume, guard.first, count), edges_only, buffer);
            // A read of nothing but holes has ended already, and its guard may be elsewhere now.
            place = 0;
        }
    }

    /// Whether a guard waits for a leaf.
    pub(super) fn waits_for_leaves(&self) -> bool {
        self.order.guards.iter().any(|guard| matches!(guard.state, GuardState::Missing(_)))
    }

    /// Keeps in memory what guards have that wait for more.
    pub(super) fn hold_for_guards(&mut self) {
        for guard in &self.order.guards {
            if matches!(guard.state, GuardState::Missing(_)) {
                let count = u32::try_from(guard.end - guard.first).expect("a guard spans at most 1 MiB");
                self.pages.needs.clear();
                self.map.need_read(guard.volume, guard.first, count, &mut self.pages.needs);
                self.pages.held.extend_from_slice(&self.pages.needs.leaves);
            }
        }
    }

    /// What is in the range of a guard now, or that it cannot be read.
    pub(super) fn on_guard_content(&mut self, id: u32, mut content: B, readable: bool) {
        let Some(write) = self.order.writes.get(id) else { return };
        if !readable {
            self.end_guarded(id, Outcome::Unrecovered);
            return;
        }
        if let Source::Partial { compare: Some(expected), start, len, .. } = &write.source {
            let start = usize::try_from(*start).expect("within a block");
            let len = usize::try_from(*len).expect("at most 1 MiB");
            if !expected.equals(0, &content[start..start + len]) {
                self.end_guarded(id, Outcome::CompareFailed);
                return;
            }
        }
        write.patch(write.first, &mut content);
        self.order.merge(id, &mut content);
        if let Some(guard) = self.order.guards.iter_mut().find(|guard| guard.write == id) {
            guard.state = GuardState::Logging;
        }
        if let Some(write) = self.order.writes.get_mut(id) {
            write.source = Source::Content(content);
        }
        self.order.put_first(id);
    }

    /// All of a change is in the batch `sequence`: what waited for it may go on.
    pub(super) fn on_logged(&mut self, id: u32, sequence: u64) -> Option<Write<B>> {
        let mut write = self.order.writes.remove(id)?;
        self.order.forget_lingering(write.volume, write.first, write.end);
        if matches!(write.source, Source::Content(_))
            && let Source::Content(content) = std::mem::replace(&mut write.source, Source::Unmap)
        {
            if self.order.lingering.len() == LINGERING_MAX {
                self.order.lingering.pop_front();
            }
            let (volume, first, end) = (write.volume, write.first, write.end);
            self.order.lingering.push_back(Lingering { volume, first, end, batch: sequence, content });
            self.order.end_guard(id);
        }
        Some(write)
    }

    /// Ends a change that cannot be made, with everything that was merged into it.
    pub(super) fn end_guarded(&mut self, id: u32, outcome: Outcome) {
        self.order.end_guard(id);
        if let Some(write) = self.order.writes.remove(id) {
            if let Source::Fork { image, .. } = write.source {
                // There will be no such image, and whoever asked for it may drop it.
                self.order.forking.retain(|&forking| forking != image);
            }
            self.fail_part(write.ticket, outcome);
            for ticket in write.merged {
                self.fail_part(ticket, outcome);
            }
        }
    }
}
