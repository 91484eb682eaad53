//! The shard's segments: what is live in each, what is free, and who may still fill what is left.

use std::collections::{BTreeMap, VecDeque};

use io::{DriveId, Time};

use crate::map::{Freed, LOCATION_BYTES, Location, extent_of};
use crate::record::ALIGNMENT;
use crate::{Layout, SegmentId};

/// The segments that a shard owns.
#[derive(Debug)]
pub(super) struct Space {
    /// Units of a location in a segment, as a power of two.
    segment_bits: u32,
    /// How much of a segment the log may fill.
    log_bytes: u32,
    segments: BTreeMap<SegmentId, Segment>,
    /// Owned, empty, and needed by no root: the log may go on in them.
    free: VecDeque<SegmentId>,
    /// Condemned by the checkpoint under way, and whether the shard keeps them.
    condemned: Vec<(SegmentId, bool)>,
    /// Freed by a durable root, waiting for reads that began before.
    leaving: VecDeque<Leaving>,
    live_bytes: u64,
    /// Of these, live blocks.
    pub(super) blocks: Blocks,
    /// Sealed segments without a live byte, or that cleaning has emptied of blocks: a checkpoint gives them back.
    reclaimable: u32,
    /// Sealed segments that have lost their last live byte since somebody asked, with their generations.
    emptied: Vec<(SegmentId, u64)>,
    pub(super) want: Want,
    /// Bytes that have died, and segments that were granted, since the shard was made.
    pub(super) died_bytes: u64,
    pub(super) granted: u64,
    /// The pool had no segment when it was asked last.
    starved: bool,
    /// Free segments of the pool as it said last, and when it had none to give.
    pool_free: u32,
    refused_at: u32,
    /// Whether the pool said that it has few free segments left.
    pub(super) pool_low: bool,
    /// Whether these are so few that hosts get none.
    pub(super) pool_scarce: bool,
}

/// Live blocks, each counted once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks {
    pub(super) count: u64,
    /// What they take in the log.
    pub(super) bytes: u64,
}

/// One segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) state: State,
    /// Sequence of its first batch.
    pub(super) generation: u64,
    /// Sequence of its last batch so far.
    pub(super) last: u64,
    /// Bytes of blocks, pages and manifest in it that are referred to.
    pub(super) live_bytes: u64,
    /// Cleaning has been through it, or cannot get through it.
    pub(super) cleaned: bool,
    /// Counted in [`Space::reclaimable`].
    reclaimable: bool,
}

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Empty, and may be written.
    Free,
    /// The log's end is in it.
    Open,
    /// Full.
    Sealed,
    /// Empty; a root that says so is on its way, or reads of it have not ended. It will be free.
    Condemned,
    /// The same, but it goes back to the pool: the root does not name it.
    Departing,
}

/// How the shard stands with the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing was asked.
    Nothing,
    /// A segment was asked for.
    Asked,
    /// The pool had none; ask again then.
    Refused(Time),
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    segment: SegmentId,
    /// Reads that began before this ticket may still be reading it.
    ticket: u64,
    keep: bool,
    /// What emptied it is safe from a power cut once this batch is.
    batch: u64,
}

impl Segment {
    fn new(state: State, generation: u64, last: u64) -> Self {
        Self { state, generation, last, live_bytes: 0, cleaned: false, reclaimable: false }
    }
}

impl Space {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            segment_bits: layout.segment_bytes().ilog2() - LOCATION_BYTES.ilog2(),
            log_bytes: layout.log_bytes(),
            segments: BTreeMap::new(),
            free: VecDeque::new(),
            condemned: Vec::new(),
            leaving: VecDeque::new(),
            live_bytes: 0,
            blocks: Blocks::default(),
            reclaimable: 0,
            emptied: Vec::new(),
            want: Want::Nothing,
            died_bytes: 0,
            granted: 0,
            starved: false,
            pool_free: 0,
            refused_at: 0,
            pool_low: false,
            pool_scarce: false,
        }
    }

    /// Takes a free segment into the shard's own.
    pub(super) fn add_free(&mut self, id: SegmentId) {
        let segment = Segment::new(State::Free, 0, 0);
        let before = self.segments.insert(id, segment);
        assert!(before.is_none_or(|segment| segment.state == State::Free));
        if before.is_none() {
            self.free.push_back(id);
        }
    }

    /// Records a segment that the log has used, found at recovery.
    pub(super) fn add_used(&mut self, id: SegmentId, state: State, generation: u64, last: u64) {
        self.free.retain(|&free| free != id);
        match self.segments.get_mut(&id) {
            // The manifest tells of it, and of what is live in it.
            Some(segment) if segment.generation == generation && segment.state != State::Free => {
                segment.state = state;
                segment.last = segment.last.max(last);
            }
            _ => {
                // One of the manifest was emptied and used again since, without a checkpoint.
                if let Some(before) = self.segments.insert(id, Segment::new(state, generation, last)) {
                    self.live_bytes -= before.live_bytes;
                    self.reclaimable -= u32::from(before.reclaimable);
                }
            }
        }
    }

    /// Takes a segment of the manifest into the shard's own, with what was counted in it.
    pub(super) fn load_used(&mut self, id: SegmentId, generation: u64, last: u64, live_bytes: u64) {
        let segment = Segment { live_bytes, ..Segment::new(State::Sealed, generation, last) };
        let before = self.segments.insert(id, segment);
        self.live_bytes += live_bytes;
        self.live_bytes -= before.map_or(0, |segment| segment.live_bytes);
    }

    /// What is live in each segment, for tests.
    pub(super) fn lives_by_segment(&self) -> BTreeMap<SegmentId, u64> {
        self.iter()
            .filter(|(_, found)| found.live_bytes > 0)
            .map(|(id, found)| (id, found.live_bytes))
            .collect()
    }

    /// Whether the log has used a segment since it was free.
    pub(super) fn is_used(&self, id: SegmentId) -> bool {
        self.segments.get(&id).is_some_and(|segment| segment.state != State::Free)
    }

    /// The free segment in which the log shall go on.
    pub(super) fn open_next(&mut self, generation: u64) -> Option<SegmentId> {
        let id = self.free.pop_front()?;
        self.segments.insert(id, Segment::new(State::Open, generation, generation));
        Some(id)
    }

    /// The segment that [`Space::open_next`] will give.
    pub(super) fn peek_next(&self) -> Option<SegmentId> {
        self.free.front().copied()
    }

    /// The segments that it will give, the next one first, unless some are given back to the pool.
    pub(super) fn coming_free(&self) -> impl Iterator<Item = SegmentId> {
        self.free.iter().copied()
    }

    /// The log has left the segment.
    pub(super) fn seal(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.state = State::Sealed;
        }
        self.count_reclaimable(id);
    }

    /// A batch went into the segment.
    pub(super) fn logged(&mut self, id: SegmentId, sequence: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.last = sequence;
        }
    }

    /// Bytes at a location are referred to from now on. False where the segment is none that holds anything.
    pub(super) fn lives(&mut self, location: Location, bytes: u64) -> bool {
        self.lives_in(self.segment_of(location), bytes)
    }

    /// The same in a segment.
    pub(super) fn lives_in(&mut self, id: SegmentId, bytes: u64) -> bool {
        match self.segments.get_mut(&id) {
            Some(segment) if matches!(segment.state, State::Open | State::Sealed) => {
                segment.live_bytes += bytes;
                self.live_bytes += bytes;
                if !segment.cleaned {
                    self.reclaimable -= u32::from(std::mem::take(&mut segment.reclaimable));
                }
                true
            }
            _ => false,
        }
    }

    /// Counts live blocks that are new.
    pub(super) fn count_blocks(&mut self, count: u64, bytes: u64) {
        self.blocks.count += count;
        self.blocks.bytes += bytes;
    }

    /// A block or page is not referred to any more.
    pub(super) fn frees(&mut self, freed: Freed) {
        let (location, bytes) = extent_of(freed);
        if matches!(freed, Freed::Block(_)) {
            self.blocks.count -= 1;
            self.blocks.bytes -= bytes;
        }
        self.dies(location, bytes);
    }

    /// Bytes at a location are not referred to any more.
    pub(super) fn dies(&mut self, location: Location, bytes: u64) {
        self.dies_in(self.segment_of(location), bytes);
    }

    /// The same in a segment.
    pub(super) fn dies_in(&mut self, id: SegmentId, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let segment = self.segments.get_mut(&id).expect("what is live lies in a segment of the shard");
        assert!(segment.live_bytes >= bytes);
        segment.live_bytes -= bytes;
        self.live_bytes -= bytes;
        self.died_bytes += bytes;
        if segment.live_bytes == 0 {
            self.count_reclaimable(id);
        }
    }

    /// Cleaning has been through the segment: it is not a victim again. `emptied` if no blocks are left in it, but
    /// perhaps pages, which the next checkpoint moves.
    pub(super) fn set_cleaned(&mut self, id: SegmentId, emptied: bool) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.cleaned = true;
            if emptied && !std::mem::replace(&mut segment.reclaimable, true) {
                self.reclaimable += 1;
            }
        }
    }

    /// Looks at a segment that may have become reclaimable.
    fn count_reclaimable(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.get_mut(&id)
            && segment.state == State::Sealed
            && segment.live_bytes == 0
            && !std::mem::replace(&mut segment.reclaimable, true)
        {
            self.reclaimable += 1;
        }
        self.note_emptied(id);
    }

    /// Remembers a segment that may have become empty, for those who can use it at once.
    fn note_emptied(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.get(&id)
            && segment.state == State::Sealed
            && segment.live_bytes == 0
        {
            self.emptied.push((id, segment.generation));
        }
    }

    /// The segments that have become empty since this was asked last, with their generations.
    pub(super) fn take_emptied(&mut self) -> std::vec::Drain<'_, (SegmentId, u64)> {
        self.emptied.drain(..)
    }

    /// Whether a segment is empty still, and replay from `replay` on (a batch's sequence) does not need it.
    pub(super) fn is_reusable(&self, id: SegmentId, generation: u64, replay: u64) -> bool {
        self.segments.get(&id).is_some_and(|segment| {
            segment.state == State::Sealed
                && segment.generation == generation
                && segment.live_bytes == 0
                && segment.last < replay
        })
    }

    /// Makes a segment that is empty free once reads of it that began before `ticket` have ended and `batch` is safe.
    pub(super) fn reuse(&mut self, id: SegmentId, ticket: u64, batch: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.state = State::Condemned;
            self.reclaimable -= u32::from(std::mem::take(&mut segment.reclaimable));
            self.leaving.push_back(Leaving { segment: id, ticket, keep: true, batch });
        }
    }

    /// The last batch that departures wait for.
    pub(super) fn departs_after(&self) -> u64 {
        self.leaving.iter().map(|leaving| leaving.batch).max().unwrap_or(0)
    }

    /// Counts the reclaimable segments anew, after recovery has counted what is live.
    pub(super) fn recount(&mut self) {
        for id in self.segments.keys().copied().collect::<Vec<_>>() {
            self.count_reclaimable(id);
        }
    }

    /// The sealed segments that cleaning may go through, with their live bytes: all of their batches are in the map,
    /// where `settled` is the first that is not.
    pub(super) fn victims(&self, settled: u64) -> impl Iterator<Item = (SegmentId, u64)> {
        self.segments.iter().filter_map(move |(&id, segment)| {
            let may = segment.state == State::Sealed
                && !segment.cleaned
                && segment.last < settled
                && segment.live_bytes != 0;
            may.then_some((id, segment.live_bytes))
        })
    }

    /// Lets cleaning try again those segments through which it could not get. Says whether there are any.
    pub(super) fn forgive_damaged(&mut self) -> bool {
        let mut any = false;
        for segment in self.segments.values_mut().filter(|segment| segment.cleaned && !segment.reclaimable) {
            segment.cleaned = false;
            any |= segment.state == State::Sealed;
        }
        any
    }

    /// Condemns every empty segment that replay from `replay` (a batch's sequence) does not need. The pool is to have
    /// back what makes more than `keep` free ones.
    pub(super) fn condemn(&mut self, replay: u64, keep: usize) {
        let mut spare = self.free.len();
        for (&id, segment) in &mut self.segments {
            if segment.state == State::Sealed && segment.live_bytes == 0 && segment.last < replay {
                let keeps = spare < keep;
                spare += usize::from(keeps);
                segment.state = if keeps { State::Condemned } else { State::Departing };
                self.reclaimable -= u32::from(std::mem::take(&mut segment.reclaimable));
                self.condemned.push((id, keeps));
            } else if segment.reclaimable && segment.live_bytes != 0 && segment.last < replay {
                // Something went into the map after cleaning had looked: let it look again.
                segment.reclaimable = false;
                segment.cleaned = false;
                self.reclaimable -= 1;
            }
        }
        while self.free.len() > keep
            && let Some(id) = self.free.pop_back()
            && let Some(segment) = self.segments.get_mut(&id)
        {
            segment.state = State::Departing;
            self.condemned.push((id, false));
        }
    }

    /// The root without the condemned segments is durable: they go to the pool or become free once the reads that
    /// began before `ticket` have ended.
    pub(super) fn depart(&mut self, ticket: u64) {
        let leaving =
            self.condemned.drain(..).map(|(segment, keep)| Leaving { segment, ticket, keep, batch: 0 });
        self.leaving.extend(leaving);
    }

    /// Ends departures whose reads have ended; `oldest` is the ticket of the oldest read under way, and batches up to
    /// `flushed` are safe. What is in `written` waits for a write into it. Gives what goes to the pool.
    pub(super) fn departed(&mut self, oldest: u64, flushed: u64, written: &[SegmentId]) -> Vec<SegmentId> {
        let mut release = Vec::new();
        while let Some(leaving) = self.leaving.front().copied()
            && leaving.ticket <= oldest
            && leaving.batch <= flushed
            && !written.contains(&leaving.segment)
        {
            self.leaving.pop_front();
            self.segments.remove(&leaving.segment);
            if leaving.keep {
                self.add_free(leaving.segment);
            } else {
                release.push(leaving.segment);
            }
        }
        release
    }

    /// The pool's answer to a question for a segment; if it had none, asks again at `retry`.
    pub(super) fn on_grant(&mut self, grant: Option<SegmentId>, retry: Time) {
        self.starved = grant.is_none();
        self.want = if let Some(segment) = grant {
            self.add_free(segment);
            self.granted += 1;
            Want::Nothing
        } else {
            self.refused_at = self.pool_free;
            Want::Refused(retry)
        };
    }

    /// The pool has so many free segments now: where it has got some since it refused one, it may be asked again.
    pub(super) fn on_pool_space(&mut self, free: u32) {
        self.pool_free = free;
        if matches!(self.want, Want::Refused(_)) && free > self.refused_at {
            self.want = Want::Nothing;
        }
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    pub(super) fn get(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(&id)
    }

    /// All segments that the shard owns, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.segments.iter().map(|(&id, segment)| (id, segment))
    }

    pub(super) fn owned(&self) -> u64 {
        self.segments.len() as u64
    }

    pub(super) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Segments that are or can be given back by a checkpoint and are not free yet.
    pub(super) fn coming(&self) -> u64 {
        self.condemned.len() as u64 + self.leaving.len() as u64 + u64::from(self.reclaimable)
    }

    pub(super) fn is_departing(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Segments that are about to depart to the shard itself.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.iter().filter(|leaving| leaving.keep).count()
    }

    pub(super) fn reclaimable(&self) -> u32 {
        self.reclaimable
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of a segment that batches may fill: the last block is kept for the seal.
    pub(super) fn usable_bytes(&self) -> u64 {
        u64::from(self.log_bytes - ALIGNMENT)
    }

    /// The segment in which a location lies.
    pub(super) fn segment_of(&self, location: Location) -> SegmentId {
        SegmentId(u32::try_from(location.0 >> self.segment_bits).unwrap_or(u32::MAX))
    }

    /// The location at `offset` of a segment.
    pub(super) fn location(&self, id: SegmentId, offset: u32) -> Location {
        Location((u64::from(id.0) << self.segment_bits) + u64::from(offset) / LOCATION_BYTES)
    }

    /// Where a location is on the drives.
    pub(super) fn place(&self, layout: &Layout, location: Location) -> (DriveId, u64) {
        let id = self.segment_of(location);
        let (drive, start) = layout.segment_place(id);
        (drive, start + (location.0 & ((1 << self.segment_bits) - 1)) * LOCATION_BYTES)
    }
}
