//! The log's end: batches under way, and what each changes in the map once it and all before it are written.

use std::collections::VecDeque;
use std::ops::Range;

use io::{Buffer, Disk, DiskError, DriveId};

use super::{Doing, Failure, Phase, Shard, Space, TokenKind};
use crate::codec::Form;
use crate::map::{Entry, FANOUT, Freed, Location, Map, Needs, Place};
use crate::root::Position;
use crate::{SegmentId, VolumeId};

/// The log's end and what is under way there.
#[derive(Debug)]
pub(super) struct Log {
    /// Where the next batch goes.
    pub(super) head: Position,
    /// The epoch of new batches.
    pub(super) epoch: u64,
    /// Batches that are being written, or wait for one before them, in order.
    in_flight: VecDeque<Batch>,
    /// The last batch that is written with all before it, and so in the map.
    pub(super) applied: u64,
    /// The log after the last applied batch that does not end within a request.
    pub(super) settled: Position,
    /// What records before this LSN did is in the map, and of no later ones.
    pub(super) mapped_lsn: u64,
    /// Effects of the first part of a request whose last part is not written yet.
    deferred: Batch,
    /// Effects that are in the map, of the oldest batch that is not there whole, and of `deferred`.
    effects_done: usize,
    deferred_done: usize,
    /// All of `deferred` is written.
    deferred_whole: bool,
    /// The last batch that changes the map, of those written since recovery.
    pub(super) changed: u64,
    /// Bytes logged since the root was written, and since the last flush.
    pub(super) since_root_bytes: u64,
    pub(super) since_flush_bytes: u64,
    /// Bytes logged for requests.
    pub(super) requested_bytes: u64,
    /// Empty batches, for their vectors' memory.
    spare: Vec<Batch>,
}

/// A batch that is being written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) sequence: u64,
    /// The log after it.
    pub(super) after: Option<Position>,
    pub(super) total_bytes: u32,
    pub(super) records: u32,
    /// Where it is written.
    drive: DriveId,
    segment: SegmentId,
    offset: u32,
    pub(super) written: bool,
    pub(super) effects: Vec<Effect>,
    /// What effects need for each block: its form, or an old place and a form, as words.
    pub(super) words: Vec<u64>,
    /// Requests of which this batch holds the last part.
    pub(super) finished: Vec<u32>,
    /// Whether anything in it is of a request.
    pub(super) requested: bool,
    /// Whether the last request in it goes on in the next batch.
    pub(super) open_group: bool,
}

/// What a record does to the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect {
    pub(super) lsn: u64,
    pub(super) volume: VolumeId,
    /// First block, and the one after the last.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) change: Change,
    /// Whether it waits for the next effect.
    pub(super) more: bool,
}

/// What happens to the blocks of an effect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// They are stored one behind the other from `location` on, in the forms from `words` on.
    Write { lineage: VolumeId, location: Location, words: u32 },
    /// The same for those that are still at the old place beside the form, in every image of the lineage that the
    /// effect names.
    Move { location: Location, words: u32 },
    /// They are not stored any more.
    Unmap,
    /// The volume is gone; the ticket is to be answered once its space is free.
    DropVolume { ticket: Option<u32> },
    /// From now on the image holds what the volume holds.
    Fork { image: VolumeId, read_only: bool },
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            head: Position::START,
            epoch: 1,
            in_flight: VecDeque::new(),
            applied: 0,
            settled: Position::START,
            mapped_lsn: 0,
            deferred: Batch::default(),
            effects_done: 0,
            deferred_done: 0,
            deferred_whole: false,
            changed: 0,
            since_root_bytes: 0,
            since_flush_bytes: 0,
            requested_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// Makes `position` the log's end, everything before it applied.
    pub(super) fn resume(&mut self, position: Position, epoch: u64) {
        self.head = position;
        self.settled = position;
        self.mapped_lsn = position.lsn;
        self.epoch = epoch;
        self.applied = position.sequence - 1;
        self.forget_deferred();
    }

    fn forget_deferred(&mut self) {
        self.deferred.clear();
        self.deferred_whole = false;
        self.deferred_done = 0;
    }

    /// Whether the first part of a request waits for its last.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.effects.is_empty()
    }

    /// An empty batch to fill.
    pub(super) fn take_batch(&mut self) -> Batch {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a batch back that was not filled.
    pub(super) fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare.push(batch);
    }

    /// Batches under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether a batch under way holds something of a request.
    pub(super) fn has_requests_in_flight(&self) -> bool {
        self.in_flight.iter().any(|batch| batch.requested)
    }

    /// Whether the last batch ends within a request.
    pub(super) fn is_group_open(&self) -> bool {
        self.in_flight.back().map_or(!self.deferred.effects.is_empty(), |batch| batch.open_group)
    }

    /// Whether the place is in a batch that is under way, so that nothing can be read there yet.
    pub(super) fn is_writing(&self, space: &Space, place: Place) -> bool {
        self.in_flight.iter().any(|batch| {
            let start = space.location(batch.segment, batch.offset);
            let end = space.location(batch.segment, batch.offset + batch.total_bytes);
            (start..end).contains(&place.location())
        })
    }

    /// The batch with which the last change under way of the blocks will be in the map, 0 where there is none. No
    /// request may be partly logged.
    pub(super) fn pending(&self, volume: VolumeId, first: u64, end: u64) -> u64 {
        let overlaps = |batch: &Batch| {
            batch.effects.iter().any(|effect| {
                effect.volume == volume
                    && first < effect.end
                    && effect.first < end
                    && !matches!(effect.change, Change::Move { .. })
            })
        };
        let mut pending = 0;
        let mut in_open_group = overlaps(&self.deferred);
        for batch in &self.in_flight {
            in_open_group |= overlaps(batch);
            if in_open_group && !batch.open_group {
                pending = batch.sequence;
                in_open_group = false;
            }
        }
        assert!(!in_open_group, "changes are ordered once all of those before are logged");
        pending
    }
}

impl Effect {
    /// What putting it into the map needs. Who else holds what it replaces matters only if that is counted.
    pub(super) fn need(&self, map: &Map, counting: bool, needs: &mut Needs) {
        let Self { volume, first, end, .. } = *self;
        match self.change {
            Change::Write { .. } if !counting => {
                map.need_read(volume, first, u32::try_from(end - first).unwrap_or(u32::MAX), needs);
            }
            Change::Write { .. } => map.need_write(volume, first, end, needs),
            Change::Unmap => map.need_unmap(volume, first, end, needs),
            Change::Move { .. } => {
                for leaf in first / FANOUT as u64..end.div_ceil(FANOUT as u64) {
                    map.need_everywhere(volume, leaf, true, needs);
                }
            }
            Change::DropVolume { .. } | Change::Fork { .. } => {}
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            sequence: 0,
            after: None,
            total_bytes: 0,
            records: 0,
            drive: DriveId(0),
            segment: SegmentId(0),
            offset: 0,
            written: false,
            effects: Vec::new(),
            words: Vec::new(),
            finished: Vec::new(),
            requested: false,
            open_group: false,
        }
    }
}

impl Batch {
    fn clear(&mut self) {
        self.sequence = 0;
        self.after = None;
        self.total_bytes = 0;
        self.records = 0;
        self.written = false;
        self.effects.clear();
        self.words.clear();
        self.finished.clear();
        self.requested = false;
        self.open_group = false;
    }

    /// Moves an effect with its words out of `from` to the end of this one.
    fn take(&mut self, from: &Self, effect: Effect) {
        let mut effect = effect;
        let words = u32::try_from(self.words.len()).expect("a request is at most 1 MiB");
        let blocks = usize::try_from(effect.end - effect.first).unwrap_or(0);
        match &mut effect.change {
            Change::Write { words: at, .. } => {
                self.words.extend_from_slice(&from.words[*at as usize..][..blocks]);
                *at = words;
            }
            Change::Move { words: at, .. } => {
                self.words.extend_from_slice(&from.words[*at as usize..][..2 * blocks]);
                *at = words;
            }
            Change::Unmap | Change::DropVolume { .. } | Change::Fork { .. } => {}
        }
        self.effects.push(effect);
    }
}

impl<B: Buffer> Shard<B> {
    /// Writes a batch whose bytes are ready at the log's end.
    pub(super) fn write_batch<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        mut batch: Batch,
        buffer: B,
        hash: u64,
        next: Option<SegmentId>,
    ) {
        let head = self.log.head;
        let segment = head.segment.expect("a batch is composed only once there is a segment");
        let (drive, start) = self.layout.segment_place(segment);
        let lsn = head.lsn + u64::from(batch.records);
        let total = batch.total_bytes;
        self.log.head = Position {
            offset: head.offset + total,
            sequence: head.sequence + 1,
            previous: hash,
            lsn,
            ..head
        };
        self.space.logged(segment, batch.sequence);
        if !batch.effects.is_empty() {
            self.log.changed = batch.sequence;
        }
        if let Some(next) = next {
            let generation = self.log.head.sequence;
            let opened = self.space.open_next(generation);
            assert!(opened == Some(next));
            self.log.head = Position { segment: opened, offset: 0, generation, ..self.log.head };
        }
        batch.after = Some(self.log.head);
        self.log.since_root_bytes += u64::from(total);
        self.log.since_flush_bytes += u64::from(total);
        self.stats.batches += 1;
        self.stats.device_written_bytes += u64::from(total);
        batch.drive = drive;
        batch.segment = segment;
        batch.offset = head.offset;
        let token = self.token(TokenKind::Batch, batch.sequence);
        disk.write(token, drive, start + u64::from(head.offset), buffer, total);
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::AcknowledgeBeforeWritten) {
            self.acknowledge(&batch);
            batch.finished.clear();
        }
        self.log.in_flight.push_back(batch);
    }

    /// A batch was written: everything that is now written without a gap goes into the map and is answered.
    pub(super) fn on_batch_written(&mut self, sequence: u64, result: Result<(), DiskError>) {
        if let Err(error) = result {
            self.fail(Failure::Disk { doing: Doing::WriteLog, error });
            return;
        }
        let Some(first) = self.log.in_flight.front().map(|batch| batch.sequence) else { return };
        let Some(batch) = usize::try_from(sequence.wrapping_sub(first))
            .ok()
            .and_then(|place| self.log.in_flight.get_mut(place))
        else {
            return;
        };
        batch.written = true;
        self.flush.on_written(batch.drive);
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::AcknowledgeOutOfOrder) {
            self.acknowledge_early(sequence);
        }
        self.apply_written();
    }

    /// Puts batches into the map that are written with all before them, and answers. Where a leaf of the map is missing
    /// that is as far as it goes for now.
    pub(super) fn apply_written(&mut self) {
        while !self.is_failed() && self.log.in_flight.front().is_some_and(|batch| batch.written) {
            let Some(mut batch) = self.log.in_flight.pop_front() else { return };
            if !self.apply_batch(&batch) {
                self.log.in_flight.push_front(batch);
                return;
            }
            self.acknowledge(&batch);
            if !batch.finished.is_empty() {
                self.flush.on_answered();
            }
            batch.clear();
            self.log.spare.push(batch);
        }
    }

    /// Puts what is not there yet of a batch into the map; false if something is missing for it.
    fn apply_batch(&mut self, batch: &Batch) -> bool {
        while let Some(&effect) = batch.effects.get(self.log.effects_done) {
            if !self.apply(batch, effect) {
                return false;
            }
            self.log.effects_done += 1;
        }
        self.log.effects_done = 0;
        self.log.applied = batch.sequence;
        if let (false, Some(after)) = (batch.open_group, batch.after) {
            self.log.settled = after;
        }
        true
    }

    /// Puts what a record did into the map, once all of its request is there. False if a leaf is missing for it: it has
    /// been asked for, and the same effect is to be applied again later.
    pub(super) fn apply(&mut self, batch: &Batch, effect: Effect) -> bool {
        if self.log.deferred.effects.is_empty() && !effect.more {
            let may = self.may_apply(effect);
            if may {
                self.apply_now(batch, effect);
            }
            return may;
        }
        let mut deferred = std::mem::take(&mut self.log.deferred);
        if !self.log.deferred_whole {
            deferred.take(batch, effect);
            self.log.deferred_whole = !effect.more;
        }
        while self.log.deferred_whole
            && let Some(&effect) = deferred.effects.get(self.log.deferred_done)
        {
            if !self.may_apply(effect) {
                self.log.deferred = deferred;
                return false;
            }
            self.apply_now(&deferred, effect);
            self.log.deferred_done += 1;
        }
        if self.log.deferred_whole {
            self.log.deferred_whole = false;
            self.log.deferred_done = 0;
            deferred.clear();
        }
        self.log.deferred = deferred;
        true
    }

    /// Whether the leaves are there that an effect needs. What cannot be read ends the shard: the change is made, and
    /// where is lost.
    pub(super) fn may_apply(&mut self, effect: Effect) -> bool {
        self.count_from(effect.lsn);
        let counting = self.uncounted.is_none();
        if !self.map.has_away() {
            return true;
        }
        let has_leaves = self.has_leaves(|map, needs| effect.need(map, counting, needs));
        if let (Some(place), true) = (self.pages.needs.unreadable, has_leaves) {
            // Replay must move what was moved: the old place may be in use again.
            if !matches!(effect.change, Change::Move { .. }) || self.phase == Phase::Recovering {
                self.fail(self.lost_page(place));
                return false;
            }
            self.reuse.on_inexact();
            self.checkpoint.on_inexact(self.log.applied + 1);
        }
        has_leaves
    }

    /// Forgets the first part of a request whose last part never came.
    pub(super) fn forget_deferred(&mut self) {
        self.log.forget_deferred();
    }

    fn apply_now(&mut self, batch: &Batch, effect: Effect) {
        let Effect { lsn, volume, first, end, change, .. } = effect;
        self.log.mapped_lsn = lsn + 1;
        let counting = self.uncounted.is_none();
        let space = &mut self.space;
        let map = &mut self.map;
        let mut freed = |freed| {
            if counting {
                space.frees(freed);
            }
        };
        match change {
            Change::Write { lineage, location, words } => {
                let words = batch.words[words as usize..].iter();
                let forms = words.map(|&word| Form::from_word(word));
                let end_location =
                    map_blocks(map, (volume, lineage), first..end, (location, forms), lsn, &mut freed);
                if counting {
                    let bytes = end_location.bytes_from(location);
                    space.lives(location, bytes);
                    space.count_blocks(end - first, bytes);
                }
            }
            Change::Move { location, words } => {
                let words = batch.words[words as usize..].chunks_exact(2);
                let count = usize::try_from(end - first).unwrap_or(0);
                let mut to = location;
                let moves = words.take(count).map(|words| {
                    let form = Form::from_word(words[1]);
                    let entry = Entry::new(to, form);
                    to.0 += u64::from(form.units());
                    (Location(words[0]), entry)
                });
                #[cfg(feature = "planted")]
                let moves = {
                    let overwrites = self.options.planted == Some(super::Planted::MoveOverwrites);
                    // Only where it is planted: the leaf may not be in memory.
                    let now = |block: u64, from: Location| {
                        let entry = overwrites.then(|| map.entry(volume, block));
                        entry.filter(|entry| entry.is_mapped()).map_or(from, Entry::location)
                    };
                    let moves = (first..).zip(moves).map(|(block, (from, to))| (now(block, from), to));
                    moves.collect::<Vec<_>>().into_iter()
                };
                map.move_blocks(volume, first, moves, lsn, |from, to| {
                    if counting {
                        space.dies(from, u64::from(to.bytes()));
                        space.lives(to.location(), u64::from(to.bytes()));
                    }
                });
            }
            Change::Unmap => map.unmap(volume, first, end, lsn, &mut freed),
            Change::DropVolume { ticket } => {
                if !map.drop_volume(volume, ticket)
                    && let Some(ticket) = ticket
                {
                    self.finish_part(ticket);
                }
            }
            Change::Fork { image, read_only } => {
                map.fork(volume, image, read_only, lsn);
                self.order.forking.retain(|&forking| forking != image);
                self.checkpoint.on_fork(self.log.settled);
            }
        }
    }

    fn acknowledge(&mut self, batch: &Batch) {
        self.gather.on_answered(batch.finished.len());
        for &ticket in &batch.finished {
            self.finish_part(ticket);
        }
    }

    #[cfg(feature = "planted")]
    fn acknowledge_early(&mut self, sequence: u64) {
        if let Some(place) = self.log.in_flight.iter().position(|batch| batch.sequence == sequence) {
            let finished = std::mem::take(&mut self.log.in_flight[place].finished);
            for ticket in finished {
                self.finish_part(ticket);
            }
        }
    }
}

/// Maps blocks that are stored from a location on, in these forms, leaf by leaf. Gives where they end.
fn map_blocks(
    map: &mut Map,
    names: (VolumeId, VolumeId),
    blocks: Range<u64>,
    (mut to, mut forms): (Location, impl Iterator<Item = Form>),
    lsn: u64,
    freed: &mut impl FnMut(Freed),
) -> Location {
    let mut first = blocks.start;
    while first < blocks.end {
        let end = blocks.end.min((first / FANOUT as u64 + 1) * FANOUT as u64);
        let entries = (first..end).zip(forms.by_ref()).map(|(block, form)| {
            let entry = Entry::new(to, form);
            to.0 += u64::from(form.units());
            (block, entry)
        });
        map.set_all(names, entries, lsn, freed);
        first = end;
    }
    to
}
