//! Cleaning: the live blocks of a segment with few of them are logged again, so that the segment becomes empty.
//!
//! The victim's batch headers say which blocks it got; those that the map still finds there are read, checked against
//! the full checksum of their record, and moved. Its map pages are only marked dirty: the next checkpoint writes them
//! elsewhere. A block that cannot be read stays where it is, and its segment is left alone for a while.
//!
//! Cleaning works in rounds: victims, then the checkpoint that gives them back. A victim is taken only if it gives more
//! than it costs, and if all of it fits into the room that is cleaning's. Costs are estimates, so what a round gave is
//! looked at when it is over: after one that gave nothing there is none until a fair part of a segment has died.

use io::{Buffer, Disk, Extent, Purpose, Time};

use super::admit::Class;
use super::read::ReadFor;
use super::space::State;
use super::{BLOCK_BYTES, Phase, Shard, Space};
use crate::codec::Form;
use crate::map::{FANOUT, LOCATION_BYTES, Location, PAGE_BYTES_MAX};
use crate::record::{ALIGNMENT, BatchHeader, MOVED_BYTES, Malformed, RECORD_BYTES, Record};
use crate::{SegmentId, VolumeId};

/// How many times the wait for a segment passes before what could not be read is tried again.
const FORGIVE_RETRIES: u32 = 1000;

/// Rounds that may leave no more room than one before them.
const FRUITLESS_ROUNDS_MAX: u32 = 8;

/// The segment that is being emptied.
#[derive(Debug)]
pub(super) struct Cleaner<B> {
    victim: Option<Victim<B>>,
    chunk: Option<Chunk<B>>,
    /// Moves wait for room in the log.
    pub(super) lacks_room: bool,
    /// The round under way.
    round: Option<Round>,
    /// Bytes that had died when a round gave nothing.
    exhausted: Option<u64>,
    /// What rounds have come to since something else than cleaning was logged.
    series: Series,
    /// When segments with something unreadable may be tried again.
    forgive_at: Time,
    /// Segments given back to the pool.
    pub(super) released: u64,
}

/// How things stood when the first victim was chosen.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Room, with what is on its way.
    room_bytes: u64,
    requested_bytes: u64,
    granted: u64,
    released: u64,
    checkpoints: u64,
}

/// Rounds between which nothing but cleaning and its checkpoints was logged.
#[derive(Clone, Copy, Debug, Default)]
struct Series {
    requested_bytes: u64,
    granted: u64,
    /// The most room that one of them left.
    best_bytes: u64,
    /// How many have been since then.
    fruitless: u32,
}

#[derive(Debug)]
struct Victim<B> {
    segment: SegmentId,
    state: VictimState,
    /// The batch that is looked at next: its sequence, and its offset in the segment.
    sequence: u64,
    offset: u32,
    /// Its last batch.
    last: u64,
    /// Live blocks of the batches that were looked at, not read yet.
    items: Vec<Item>,
    /// The last batch that holds blocks moved from it.
    moved: u64,
    /// Something in it could not be read.
    damaged: bool,
    /// How many of the items are being read.
    asked: usize,
    /// A read failed, or brought something else than what was written: so many items are read one by one.
    alone: usize,
    /// The header that is read has failed once.
    second_try: bool,
    /// A header of which some records are noted, and the next needs leaves of the map that are missing.
    noting: Option<Noting<B>>,
}

/// A header on its way through the map.
#[derive(Debug)]
struct Noting<B> {
    header: B,
    /// Records that were noted.
    records: usize,
    /// Items that there were before the first of them.
    items: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VictimState {
    /// The next batch's header is to be read, this much of it.
    Header(u32),
    /// Blocks are to be read, or the next header if there are none.
    Blocks,
    /// Something is being read.
    Reading,
    /// Leaves of the map are missing.
    Noting,
    /// Blocks wait in the chunk.
    Moving,
    /// All that was moved is on its way into the map.
    Settling,
}

/// A live block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) lineage: VolumeId,
    pub(super) block: u64,
    pub(super) from: Location,
    pub(super) birth: u64,
    pub(super) form: Form,
    /// Where it is in what was read.
    at: u32,
}

impl Item {
    /// Where its bytes are in what was read.
    fn bytes(&self) -> std::ops::Range<usize> {
        self.at as usize..(self.at + self.form.bytes()) as usize
    }
}

/// Blocks that were read and wait to be logged, one after another in `content`.
#[derive(Debug)]
struct Chunk<B> {
    content: B,
    items: Vec<Item>,
    next: usize,
}

impl<B: Buffer> Cleaner<B> {
    pub(super) fn new() -> Self {
        Self {
            victim: None,
            chunk: None,
            lacks_room: false,
            round: None,
            exhausted: None,
            series: Series::default(),
            forgive_at: Time::default(),
            released: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.victim.is_none()
    }

    pub(super) fn has_moves(&self) -> bool {
        self.chunk.is_some()
    }

    /// What it is at, in words.
    pub(super) fn describe(&self) -> String {
        match &self.victim {
            Some(victim) => format!(
                "{:?} in segment {} (batch {} of {}, lacks room {})",
                victim.state, victim.segment.0, victim.sequence, victim.last, self.lacks_room
            ),
            None => format!("idle (exhausted at {:?}, round {:?})", self.exhausted, self.round),
        }
    }

    /// Blocks that wait to be logged, and the first of them that was not yet.
    pub(super) fn moves(&self) -> Option<(&[Item], usize)> {
        self.chunk.as_ref().map(|chunk| (&chunk.items[..], chunk.next))
    }

    /// `count` blocks of one lineage from `place` on, with their content.
    pub(super) fn items(
        &self,
        place: usize,
        count: usize,
    ) -> Option<(VolumeId, impl Iterator<Item = (&Item, &[u8])>)> {
        let chunk = self.chunk.as_ref()?;
        let items = chunk.items.get(place..place + count)?;
        let content = items.iter().map(|item| &chunk.content[item.bytes()]);
        Some((items.first()?.lineage, items.iter().zip(content)))
    }

    /// All blocks before `place` are in the batch, or were found dead.
    pub(super) fn set_moved(&mut self, place: usize, batch: Option<u64>) {
        let (Some(chunk), Some(victim)) = (&mut self.chunk, &mut self.victim) else { return };
        chunk.next = place;
        victim.moved = batch.unwrap_or(victim.moved);
        if chunk.next == chunk.items.len() {
            self.chunk = None;
            victim.state = VictimState::Blocks;
        }
    }

    /// Forgets what was not logged yet.
    pub(super) fn abandon(&mut self) {
        self.chunk = None;
        self.lacks_room = false;
        if self.victim.as_ref().is_some_and(|victim| victim.state != VictimState::Reading) {
            self.victim = None;
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Does the next step of cleaning, if there is one that need not wait.
    pub(super) fn step_cleaner<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        if matches!(self.phase, Phase::Stopping) {
            self.cleaner.abandon();
            return;
        }
        self.forget_departed_victim();
        self.end_round();
        if self.cleaner.victim.is_none() && self.wants_cleaning() {
            self.choose_victim();
        }
        if self.cleaner.lacks_room && self.is_at_rest() {
            // It has cost more than it seemed to, and nothing is under way that would give it room.
            self.cleaner.abandon();
            self.cleaner.exhausted = Some(self.space.died_bytes);
        }
        let settled = self.log.settled.sequence;
        let Some(victim) = &mut self.cleaner.victim else { return };
        let is_last = victim.sequence > victim.last;
        let enough = self.options.clean_blocks_max as usize;
        if victim.state == VictimState::Blocks
            && (victim.items.is_empty() || victim.items.len() < enough && !is_last)
        {
            // Blocks are gathered from many batches, so that they are logged again under one header.
            victim.state = VictimState::Header(ALIGNMENT);
        }
        match victim.state {
            VictimState::Header(_) if is_last => victim.state = VictimState::Settling,
            VictimState::Header(len) => self.read_clean_header(disk, len),
            VictimState::Blocks => self.read_clean_blocks(disk),
            VictimState::Noting => {
                if let Some(noting) = victim.noting.take() {
                    self.note_header(noting);
                }
            }
            VictimState::Reading | VictimState::Moving | VictimState::Settling => {}
        }
        if let Some(victim) = &self.cleaner.victim
            && victim.state == VictimState::Settling
            && victim.moved < settled
        {
            self.space.set_cleaned(victim.segment, !victim.damaged);
            self.stats.cleaned_segments += 1;
            self.cleaner.victim = None;
            // The next one may begin at once, and so for ever.
            if self.is_round_over() {
                self.count_round();
                self.cleaner.round = None;
            }
            if self.wants_cleaning() {
                self.choose_victim();
            }
        }
    }

    /// A batch's header was read: its live blocks and pages are noted.
    pub(super) fn on_clean_header(&mut self, header: B, good: bool) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        let items = victim.items.len();
        if good {
            self.note_header(Noting { header, records: 0, items });
        } else {
            self.end_header(items, false);
        }
    }

    fn note_header(&mut self, mut noting: Noting<B>) {
        let Some(mut victim) = self.cleaner.victim.take() else { return };
        let result = self.note_live(&mut victim, &noting.header, &mut noting.records);
        let items = noting.items;
        if result == Ok(false) {
            victim.state = VictimState::Noting;
            victim.noting = Some(noting);
        }
        self.cleaner.victim = Some(victim);
        if result != Ok(false) {
            self.end_header(items, result.is_ok());
        }
    }

    /// A header was noted, or cannot be; before it there were so many items.
    fn end_header(&mut self, items: usize, good: bool) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        if good {
            victim.second_try = false;
        } else if !std::mem::replace(&mut victim.second_try, true) {
            victim.items.truncate(items);
            victim.state = VictimState::Header(ALIGNMENT);
        } else {
            victim.damaged = true;
            victim.state = VictimState::Settling;
        }
    }

    /// Live blocks were read: those that are what their records say wait to be logged.
    pub(super) fn on_clean_blocks(&mut self, content: B, good: bool) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        let count = victim.asked.min(victim.items.len());
        let is_whole = |item: &Item| item.form.is_of(item.block, &content[item.bytes()]);
        if victim.alone == 0 && !(good && victim.items[..count].iter().all(is_whole)) {
            // Once more, one by one: what is whole shall not stay behind for what is not.
            victim.alone = count;
            victim.state = VictimState::Blocks;
            return;
        }
        victim.alone = victim.alone.saturating_sub(count);
        let mut items = Vec::with_capacity(count);
        for item in victim.items.drain(..count) {
            if !good || !is_whole(&item) {
                victim.damaged = true;
                self.stats.checksum_errors += u64::from(good);
                continue;
            }
            items.push(item);
        }
        if items.is_empty() {
            victim.state = VictimState::Blocks;
            return;
        }
        victim.state = VictimState::Moving;
        self.cleaner.chunk = Some(Chunk { content, items, next: 0 });
    }

    /// A victim may become empty by itself, and then be gone before cleaning is through with it.
    fn forget_departed_victim(&mut self) {
        let Some(victim) = &self.cleaner.victim else { return };
        let is_there = self
            .space
            .get(victim.segment)
            .is_some_and(|found| found.state == State::Sealed && found.last == victim.last);
        if !is_there && victim.state != VictimState::Reading {
            self.cleaner.victim = None;
            self.cleaner.chunk = None;
        }
    }

    fn choose_victim(&mut self) {
        let waiting = self.order.waiting;
        if waiting.is_some()
            && self.now >= self.cleaner.forgive_at
            && self.find_victim(waiting).is_none()
            && self.space.forgive_damaged()
        {
            self.cleaner.forgive_at = self.now + self.options.retry * FORGIVE_RETRIES;
        }
        let Some(segment) = self.find_victim(waiting) else { return };
        let Some(found) = self.space.get(segment) else { return };
        self.cleaner.victim = Some(Victim {
            segment,
            state: VictimState::Header(ALIGNMENT),
            sequence: found.generation,
            offset: 0,
            last: found.last,
            items: Vec::new(),
            moved: 0,
            damaged: false,
            asked: 0,
            alone: 0,
            second_try: false,
            noting: None,
        });
        if self.cleaner.round.is_none() {
            self.cleaner.round = Some(self.begin_round());
        }
    }

    fn begin_round(&self) -> Round {
        Round {
            room_bytes: self.room_bytes() + self.space.coming() * self.space.usable_bytes(),
            requested_bytes: self.log.requested_bytes,
            granted: self.space.granted,
            released: self.cleaner.released,
            checkpoints: self.stats.checkpoints,
        }
    }

    /// Looks at what a round of cleaning has given, once it is over.
    fn end_round(&mut self) {
        let Some(round) = self.cleaner.round.filter(|_| self.is_round_over()) else { return };
        let usable = self.space.usable_bytes();
        let is = self.begin_round();
        let gave = is.room_bytes + is.requested_bytes - round.requested_bytes
            + (is.released - round.released) * usable;
        let took = round.room_bytes + (is.granted - round.granted) * usable;
        self.cleaner.round = None;
        self.cleaner.exhausted = (gave <= took).then_some(self.space.died_bytes);
        self.count_round();
    }

    fn is_round_over(&self) -> bool {
        self.cleaner.victim.is_none()
            && self.cleaner.round.is_some_and(|round| self.stats.checkpoints != round.checkpoints)
    }

    /// One round may seem to give what the next takes again. A row of them that leaves no more room than before is as
    /// good as one that gave nothing, whatever died by moving about.
    fn count_round(&mut self) {
        let is = self.begin_round();
        let series = &mut self.cleaner.series;
        let goes_on = (series.requested_bytes, series.granted) == (is.requested_bytes, is.granted);
        if !goes_on || self.map.is_dropping() {
            *series =
                Series { requested_bytes: is.requested_bytes, granted: is.granted, ..Series::default() };
        }
        if is.room_bytes >= series.best_bytes + self.space.usable_bytes() / 16 {
            series.best_bytes = is.room_bytes;
            series.fruitless = 0;
        } else {
            series.fruitless += 1;
        }
    }

    /// Whether cleaning has gone round in circles since anything else was logged.
    fn is_fruitless(&self) -> bool {
        let series = &self.cleaner.series;
        series.fruitless >= FRUITLESS_ROUNDS_MAX
            && (series.requested_bytes, series.granted) == (self.log.requested_bytes, self.space.granted)
            && !self.map.is_dropping()
    }

    /// Whether nothing is under way that could give room to what lacks it.
    fn is_at_rest(&self) -> bool {
        self.log.in_flight() == 0
            && self.is_root_settled()
            && !self.wants_checkpoint()
            && !self.space.is_departing()
            && !self.map.is_dropping()
    }

    /// The segment that is cleaned next for a change that waits for room, if any is worth it and fits: the one with the
    /// least live bytes. Without need that is only one that is mostly empty; so it is in an emergency, when not even
    /// deallocation has room.
    pub(super) fn find_victim(&self, waiting: Option<Class>) -> Option<SegmentId> {
        let usable = self.space.usable_bytes();
        let least_gain = usable / 16;
        let is_emergency = waiting == Some(Class::Unmap);
        if !is_emergency
            && (self.cleaner.exhausted.is_some_and(|died| self.space.died_bytes - died < least_gain)
                || self.is_fruitless())
        {
            return None;
        }
        let settled = self.log.settled.sequence;
        let (segment, live) = self.space.victims(settled).min_by_key(|&(_, live)| live)?;
        let is_urgent = waiting == Some(Class::Host) && self.space.is_starved();
        let dearest = if is_urgent { usable - least_gain } else { usable / 2 };
        let kept = self.floor_bytes(Class::Clean) + if is_emergency { 0 } else { usable };
        let budget = self.room_bytes().saturating_sub(kept);
        let cost = self.clean_cost_bytes(live);
        if cost > dearest.min(budget) {
            return None;
        }
        if is_emergency || self.space.reclaimable() > 0 || usable - cost >= self.checkpoint_cost_bytes() {
            return Some(segment);
        }
        // All that can be cleaned before the next checkpoint must give more than that takes.
        let mut lives: Vec<u64> = self.space.victims(settled).map(|(_, live)| live).collect();
        lives.sort_unstable();
        let (mut spent, mut gain) = (0, 0);
        for cost in lives.into_iter().map(|live| self.clean_cost_bytes(live)) {
            spent += cost;
            if cost > dearest || spent > budget {
                break;
            }
            gain += usable - cost;
        }
        (gain >= self.checkpoint_cost_bytes()).then_some(segment)
    }

    /// What it costs to move so many live bytes: themselves, headers, and the pages that name them.
    fn clean_cost_bytes(&self, live: u64) -> u64 {
        let block = u64::from(BLOCK_BYTES);
        let blocks = live.div_ceil(block);
        let batch = u64::from(self.options.batch_bytes_max) - block;
        let batches = live.div_ceil(batch.min(u64::from(self.options.clean_blocks_max) * block));
        let records = blocks * (RECORD_BYTES + MOVED_BYTES) as u64;
        let pages = (blocks + 1).min(self.map.pages() - self.map.dirty_pages()) * PAGE_BYTES_MAX as u64;
        live.next_multiple_of(block) + batches * block + records / block * block + pages
    }

    /// What a checkpoint costs that has no dirty pages but those of cleaning.
    fn checkpoint_cost_bytes(&self) -> u64 {
        4 * u64::from(ALIGNMENT) + (self.space.owned() + self.map.manifest_entries()) * 32
    }

    fn read_clean_header<D: Disk<Buffer = B>>(&mut self, disk: &mut D, len: u32) {
        let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else {
            self.retry_for_memory();
            return;
        };
        let Some(victim) = &mut self.cleaner.victim else { return };
        victim.state = VictimState::Reading;
        let (drive, start) = self.layout.segment_place(victim.segment);
        let extent = Extent { drive, offset: start + u64::from(victim.offset), start: 0, len };
        self.start_raw_read(disk, &[extent], buffer, ReadFor::CleanHeader);
    }

    fn read_clean_blocks<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        let most = if victim.alone > 0 { 1 } else { self.options.clean_blocks_max.min(256) };
        let count = victim.items.len().min(most as usize);
        let len: u32 = victim.items[..count].iter().map(|item| item.form.bytes()).sum();
        let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else {
            self.retry_for_memory();
            return;
        };
        victim.state = VictimState::Reading;
        victim.asked = count;
        let mut extents: Vec<Extent> = Vec::with_capacity(count);
        let mut after = Location(0);
        let mut start = 0;
        for item in &mut victim.items[..count] {
            let (drive, offset) = self.space.place(&self.layout, item.from);
            let len = item.form.bytes();
            match extents.last_mut() {
                Some(last) if item.from == after => last.len += len,
                _ => extents.push(Extent { drive, offset, start, len }),
            }
            item.at = start;
            start += len;
            after = Location(item.from.0 + u64::from(item.form.units()));
        }
        self.start_raw_read(disk, &extents, buffer, ReadFor::CleanBlocks);
    }

    /// Notes what is live in a batch of the victim, from one of its records on, or that more of its header is to be read.
    /// False if leaves are missing for the next record.
    fn note_live(
        &mut self,
        victim: &mut Victim<B>,
        bytes: &[u8],
        noted: &mut usize,
    ) -> Result<bool, Malformed> {
        let header = BatchHeader::peek(bytes)?;
        let room = self.layout.segment_bytes() - victim.offset;
        if header.header_bytes as usize > bytes.len() && header.header_bytes <= room {
            victim.state = VictimState::Header(header.header_bytes);
            return Ok(true);
        }
        header.verify(bytes)?;
        let is_expected = header.pool == self.layout.identity().pool
            && header.shard == self.shard
            && header.segment == victim.segment
            && header.sequence == victim.sequence
            && header.total_bytes <= room;
        if !is_expected {
            return Err(Malformed);
        }
        for (lsn, record) in (header.first_lsn..).zip(header.records(bytes)).skip(*noted) {
            let record = record?;
            if !self.has_leaves_of(victim, &record) {
                return Ok(false);
            }
            victim.damaged |= self.pages.needs.unreadable.is_some();
            self.note_record(victim, lsn, record);
            *noted += 1;
        }
        victim.offset += header.total_bytes;
        victim.sequence += 1;
        victim.state = VictimState::Blocks;
        Ok(true)
    }

    /// Whether the leaves of the map are there that tell what is live of a record.
    fn has_leaves_of(&mut self, victim: &Victim<B>, record: &Record<'_>) -> bool {
        let leaves = |block: u64, count: u64| block / FANOUT as u64..(block + count).div_ceil(FANOUT as u64);
        let (segment, offset) = (victim.segment, victim.offset);
        let page_place = |space: &Space, payload: u32| {
            let within = payload % LOCATION_BYTES as u32;
            (space.location(segment, offset + payload - within), within)
        };
        match record {
            Record::Write { lineage, block, forms, .. } => self.has_leaves(|map, needs| {
                leaves(*block, forms.count())
                    .for_each(|leaf| map.need_everywhere(*lineage, leaf, false, needs));
            }),
            Record::Move { lineage, block, moved, .. } => self.has_leaves(|map, needs| {
                leaves(*block, moved.iter().count() as u64)
                    .for_each(|leaf| map.need_everywhere(*lineage, leaf, false, needs));
            }),
            Record::Page { lineage, level, index, payload, .. } => {
                let place = page_place(&self.space, *payload);
                self.has_leaves(|map, needs| map.need_mark(*lineage, *level, *index, place, needs))
            }
            _ => true,
        }
    }

    fn note_record(&mut self, victim: &mut Victim<B>, lsn: u64, record: Record<'_>) {
        let place = |payload: u32| self.space.location(victim.segment, victim.offset + payload);
        let mut note = |lineage: VolumeId, block: u64, from: &mut Location, birth: u64, form: Form| {
            if self.map.is_live(lineage, block, *from) == Some(true) {
                victim.items.push(Item { lineage, block, from: *from, birth, form, at: 0 });
            }
            from.0 += u64::from(form.units());
        };
        match record {
            Record::Write { lineage, block, payload, forms, .. } => {
                let mut from = place(payload);
                for (block, form) in (block..).zip(forms.iter()) {
                    note(lineage, block, &mut from, lsn, form);
                }
            }
            Record::Move { lineage, block, payload, moved } => {
                let mut from = place(payload);
                for (block, moved) in (block..).zip(moved.iter()) {
                    note(lineage, block, &mut from, moved.birth, moved.form);
                }
            }
            Record::Page { lineage, level, index, payload, .. } => {
                let location = place(payload & !(LOCATION_BYTES as u32 - 1));
                self.map.mark_dirty(lineage, level, index, (location, payload % LOCATION_BYTES as u32));
            }
            Record::Unmap { .. }
            | Record::Manifest { .. }
            | Record::Seal { .. }
            | Record::DropVolume { .. }
            | Record::Fork { .. } => {}
        }
    }
}
