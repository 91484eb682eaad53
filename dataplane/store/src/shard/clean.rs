//! Cleaning: the live blocks of a segment with few of them are logged again, so that the segment becomes empty.
//!
//! The victim's batch headers say which blocks it got; those that the map still finds there are read, checked against
//! the full checksum of their record, and moved. Its map pages are only marked dirty: the next checkpoint writes them
//! elsewhere. A block that cannot be read stays where it is, and its segment is left alone for a while.

use io::{Buffer, Disk, Extent, Purpose, Time};

use super::admit::Class;
use super::ahead::{Next, Stretch};
use super::read::ReadFor;
use super::rounds::{Round, Series};
use super::space::State;
use super::{Phase, Shard};
use crate::codec::Form;
use crate::map::Location;
use crate::record::ALIGNMENT;
use crate::{SegmentId, VolumeId};

/// How many times the wait for a segment passes before what could not be read is tried again.
const FORGIVE_RETRIES: u32 = 1000;

/// The segment that is being emptied.
#[derive(Debug)]
pub(super) struct Cleaner<B> {
    victim: Option<Victim<B>>,
    chunk: Option<Chunk<B>>,
    /// What was read of the victim in one piece.
    pub(super) stretch: Option<Stretch<B>>,
    /// Moves wait for room in the log.
    pub(super) lacks_room: bool,
    /// The round under way.
    pub(super) round: Option<Round>,
    /// Bytes that had died when a round gave nothing.
    pub(super) exhausted: Option<u64>,
    /// What rounds have come to since something else than cleaning was logged.
    pub(super) series: Series,
    /// When segments with something unreadable may be tried again.
    forgive_at: Time,
    /// Segments given back to the pool.
    pub(super) released: u64,
    /// Bytes that requests had logged when a victim was last chosen.
    begun_at_bytes: Option<u64>,
}

/// Cleaning goes on until so many segments were filled without it.
const SEGMENTS_BUSY: u64 = 16;

/// The segment that is being emptied, and how far that has come.
#[derive(Debug)]
pub(super) struct Victim<B> {
    pub(super) segment: SegmentId,
    pub(super) state: VictimState,
    /// The batch that is looked at next: its sequence, and its offset in the segment.
    pub(super) sequence: u64,
    pub(super) offset: u32,
    /// Its last batch.
    last: u64,
    /// Bytes that were live in it when it was chosen.
    live_bytes: u64,
    /// Live blocks of the batches that were looked at, not read yet.
    pub(super) items: Vec<Item>,
    /// The last batch that holds blocks moved from it.
    moved: u64,
    /// Something in it could not be read.
    pub(super) damaged: bool,
    /// How many of the items are being read.
    asked: usize,
    /// A read failed, or brought something else than what was written: so many items are read one by one, and moved
    /// together.
    alone: usize,
    /// The header that is read has failed once.
    second_try: bool,
    /// A header of which some records are noted, and the next needs leaves of the map that are missing.
    noting: Option<Noting<B>>,
    /// It is read in stretches.
    dense: bool,
    /// What was read one by one and is whole.
    gathered: Option<Chunk<B>>,
    /// It was chosen because not even deallocation has room: its moves may have the last segment.
    is_emergency: bool,
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
pub(super) enum VictimState {
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
    pub(super) at: u32,
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

impl<B: Buffer> Chunk<B> {
    /// Adds a block behind those that it has; there is room for it.
    fn push(&mut self, item: Item, bytes: &[u8]) {
        let at = self.items.last().map_or(0, |last| last.at + last.form.bytes());
        let item = Item { at, ..item };
        self.content[item.bytes()].copy_from_slice(bytes);
        self.items.push(item);
    }
}

impl<B: Buffer> Cleaner<B> {
    pub(super) fn new() -> Self {
        Self {
            victim: None,
            chunk: None,
            stretch: None,
            lacks_room: false,
            round: None,
            exhausted: None,
            series: Series::default(),
            forgive_at: Time::default(),
            released: 0,
            begun_at_bytes: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.victim.is_none()
    }

    pub(super) fn has_moves(&self) -> bool {
        self.chunk.is_some()
    }

    /// Bytes that were live in the victim when it was chosen.
    pub(super) fn victim_live(&self) -> u64 {
        self.victim.as_ref().map_or(0, |victim| victim.live_bytes)
    }

    /// Whether anything was cleaned for the last segments' worth of requests.
    pub(super) fn is_busy(&self, requested_bytes: u64, segment_bytes: u64) -> bool {
        self.begun_at_bytes.is_some_and(|begun| requested_bytes - begun < SEGMENTS_BUSY * segment_bytes)
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

    /// Whether it is at a victim that was chosen because not even deallocation has room.
    pub(super) fn is_in_emergency(&self) -> bool {
        self.victim.as_ref().is_some_and(|victim| victim.is_emergency)
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

    /// Leaves blocks where they are that wait to be logged.
    pub(super) fn give_up_chunk(&mut self) {
        self.lacks_room = false;
        if let Some(victim) = self.victim.as_mut().filter(|_| self.chunk.take().is_some()) {
            victim.damaged = true;
            victim.state = VictimState::Blocks;
        }
    }

    /// A stretch was read: the next header is looked for in it, or without it. Says whether it is of use.
    pub(super) fn on_stretch(&mut self, good: bool) -> bool {
        let Some(victim) = &mut self.victim else { return false };
        victim.dense = good;
        victim.state = VictimState::Header(ALIGNMENT);
        good
    }

    /// Forgets what was not logged yet.
    pub(super) fn abandon(&mut self) {
        self.chunk = None;
        self.stretch = None;
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
        while self.step_victim(disk) {}
        let settled = self.log.settled.sequence;
        if let Some(victim) = &self.cleaner.victim
            && victim.state == VictimState::Settling
            && victim.moved < settled
        {
            self.space.set_cleaned(victim.segment, !victim.damaged);
            self.stats.cleaned_segments += 1;
            self.cleaner.victim = None;
            self.cleaner.stretch = None;
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

    /// The victim's next step; false once it must wait for something.
    fn step_victim<D: Disk<Buffer = B>>(&mut self, disk: &mut D) -> bool {
        let Some(victim) = &mut self.cleaner.victim else { return false };
        let is_last = victim.sequence > victim.last;
        let enough = self.options.clean_blocks_max as usize;
        if victim.state == VictimState::Blocks
            && victim.alone == 0
            && (victim.items.is_empty() || victim.items.len() < enough && !is_last)
        {
            // Blocks are gathered from many batches, so that they are logged again under one header.
            victim.state = VictimState::Header(ALIGNMENT);
        }
        match victim.state {
            VictimState::Header(_) if is_last => victim.state = VictimState::Settling,
            VictimState::Header(len) => self.look_at_next_batch(disk, len),
            VictimState::Blocks => self.read_clean_blocks(disk),
            VictimState::Noting => {
                if let Some(noting) = victim.noting.take() {
                    self.note_header(noting);
                }
            }
            VictimState::Reading | VictimState::Moving | VictimState::Settling => return false,
        }
        // What is in memory already is not waited for.
        let victim = self.cleaner.victim.as_ref();
        self.memory_retry.is_none()
            && victim
                .is_some_and(|victim| matches!(victim.state, VictimState::Header(_) | VictimState::Blocks))
    }

    /// Reads the header of the victim's next batch, or first what it needs to have it in memory.
    fn look_at_next_batch<D: Disk<Buffer = B>>(&mut self, disk: &mut D, len: u32) {
        let Some(victim) = &self.cleaner.victim else { return };
        let (segment, offset, noted) = (victim.segment, victim.offset, !victim.items.is_empty());
        let next = if victim.dense { self.next_clean_read(segment, offset, noted) } else { Next::Alone };
        match next {
            Next::Alone | Next::Here => self.read_clean_header(disk, len),
            Next::BlocksFirst => self.read_clean_blocks(disk),
            Next::Ahead => {
                let is_reading = self.read_stretch(disk, segment, offset);
                if let Some(victim) = &mut self.cleaner.victim {
                    victim.dense = is_reading;
                    if is_reading {
                        victim.state = VictimState::Reading;
                    }
                }
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

    /// A header was noted, or more of it is to be read, or it cannot be; before it there were so many items.
    fn end_header(&mut self, items: usize, good: bool) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        if good {
            // That more of it is to be read says nothing of whether all of it can be.
            victim.second_try &= victim.state != VictimState::Blocks;
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
            victim.state = VictimState::Blocks;
            if self.cleaner.stretch.take().is_some() {
                // What is in memory may be wrong in one place: once more, from the drive.
                victim.dense = false;
                return;
            }
            // Once more, one by one: what is whole shall not stay behind for what is not.
            victim.alone = count;
            victim.gathered = Some(Chunk { content, items: Vec::with_capacity(count), next: 0 });
            return;
        }
        if let Some(mut gathered) = victim.gathered.take() {
            for item in victim.items.drain(..count) {
                if good && is_whole(&item) {
                    gathered.push(item, &content[item.bytes()]);
                } else {
                    victim.damaged = true;
                    if good {
                        let (drive, _) = self.layout.segment_place(victim.segment);
                        *self.checksum_errors.entry(drive).or_default() += 1;
                    }
                }
            }
            victim.alone = victim.alone.saturating_sub(count);
            victim.state = VictimState::Blocks;
            if victim.alone > 0 {
                victim.gathered = Some(gathered);
            } else if !gathered.items.is_empty() {
                victim.state = VictimState::Moving;
                self.cleaner.chunk = Some(gathered);
            }
            return;
        }
        let items = victim.items.drain(..count).collect();
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
            // What is moved out of it to the last block is gone as soon as that is in the map.
            self.stats.cleaned_segments += u64::from(victim.moved > 0);
            self.cleaner.victim = None;
            self.cleaner.chunk = None;
            self.cleaner.stretch = None;
        }
    }

    fn choose_victim(&mut self) {
        let waiting = self.order.waiting;
        #[cfg(feature = "planted")]
        if waiting.is_some() && self.is_planted(super::Planted::RestInNeed) {
            return;
        }
        if waiting.is_some()
            && self.now >= self.cleaner.forgive_at
            && self.find_victim(waiting).is_none()
            && self.space.forgive_damaged()
        {
            self.cleaner.forgive_at = self.now + self.options.retry * FORGIVE_RETRIES;
        }
        let Some(segment) = self.find_victim(waiting) else { return };
        let Some(found) = self.space.get(segment) else { return };
        self.cleaner.begun_at_bytes = Some(self.log.requested_bytes);
        self.cleaner.victim = Some(Victim {
            segment,
            state: VictimState::Header(ALIGNMENT),
            sequence: found.generation,
            offset: 0,
            last: found.last,
            live_bytes: found.live_bytes,
            items: Vec::new(),
            moved: 0,
            damaged: false,
            asked: 0,
            alone: 0,
            second_try: false,
            noting: None,
            dense: self.is_dense(found.live_bytes),
            gathered: None,
            is_emergency: waiting == Some(Class::Unmap),
        });
        if self.cleaner.round.is_none() {
            self.cleaner.round = Some(self.begin_round());
        }
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
        let (segment, may_copy) = (victim.segment, !victim.second_try);
        self.start_clean_read(disk, segment, (&[extent], buffer), ReadFor::CleanHeader, may_copy);
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
        let (segment, may_copy) = (victim.segment, victim.alone == 0);
        self.start_clean_read(disk, segment, (&extents, buffer), ReadFor::CleanBlocks, may_copy);
    }
}
