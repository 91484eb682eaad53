//! Cleaning: the live blocks of a segment with few of them are logged again, so that the segment becomes empty.
//!
//! The victim's batch headers say which blocks it got; those that the map still finds there are read, checked against
//! the full checksum of their record, and moved. Its map pages are only marked dirty: the next checkpoint writes them
//! elsewhere. A block that cannot be read stays where it is, and its segment is not touched again.

use io::{Buffer, Disk, Extent, Purpose};

use super::read::ReadFor;
use super::space::State;
use super::{BLOCK_BYTES, Phase, Shard};
use crate::checksum::block_crc;
use crate::map::{LOCATION_BYTES, Location};
use crate::record::{ALIGNMENT, BatchHeader, Malformed, Record};
use crate::{SegmentId, VolumeId};

/// The segment that is being emptied.
#[derive(Debug)]
pub(super) struct Cleaner<B> {
    victim: Option<Victim>,
    chunk: Option<Chunk<B>>,
    /// Moves wait for room in the log.
    pub(super) lacks_room: bool,
    /// The last applied batch when no segment was worth cleaning: it is not looked for again before the next.
    fruitless: Option<u64>,
}

#[derive(Debug)]
struct Victim {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VictimState {
    /// The next batch's header is to be read, this much of it.
    Header(u32),
    /// Blocks are to be read, or the next header if there are none.
    Blocks,
    /// Something is being read.
    Reading,
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
    pub(super) crc: u32,
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
        Self { victim: None, chunk: None, lacks_room: false, fruitless: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.victim.is_none()
    }

    pub(super) fn has_moves(&self) -> bool {
        self.chunk.is_some()
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
        let content = chunk.content.chunks_exact(BLOCK_BYTES as usize).skip(place);
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
        if self.cleaner.victim.is_none() && self.wants_cleaning() {
            self.choose_victim();
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
            VictimState::Reading | VictimState::Moving | VictimState::Settling => {}
        }
        if let Some(victim) = &self.cleaner.victim
            && victim.state == VictimState::Settling
            && victim.moved < settled
        {
            self.space.set_cleaned(victim.segment, !victim.damaged);
            self.stats.cleaned_segments += 1;
            self.cleaner.victim = None;
            if self.wants_cleaning() {
                self.choose_victim();
            }
        }
    }

    /// A batch's header was read: its live blocks and pages are noted.
    pub(super) fn on_clean_header(&mut self, bytes: &B, good: bool) {
        let Some(mut victim) = self.cleaner.victim.take() else { return };
        if !good || self.note_live(&mut victim, bytes).is_err() {
            victim.damaged = true;
            victim.state = VictimState::Settling;
        }
        self.cleaner.victim = Some(victim);
    }

    /// Live blocks were read: those that are what their records say wait to be logged.
    pub(super) fn on_clean_blocks(&mut self, mut content: B, good: bool) {
        let Some(victim) = &mut self.cleaner.victim else { return };
        let count = (content.len() / BLOCK_BYTES as usize).min(victim.items.len());
        let mut items = Vec::with_capacity(count);
        for (at, item) in victim.items.drain(..count).enumerate() {
            let start = at * BLOCK_BYTES as usize;
            let block = start..start + BLOCK_BYTES as usize;
            if !good || block_crc(item.block, &content[block.clone()]) != item.crc {
                victim.damaged = true;
                self.stats.checksum_errors += u64::from(good);
                continue;
            }
            content.copy_within(block, items.len() * BLOCK_BYTES as usize);
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
        if self.cleaner.fruitless == Some(self.log.applied) {
            return;
        }
        self.cleaner.fruitless = Some(self.log.applied);
        // Without need, only what is mostly empty is worth a write.
        let usable = self.space.usable_bytes();
        let most =
            if self.space.is_starved() && self.is_short_of_space() { usable * 15 / 16 } else { usable / 2 };
        let Some(segment) = self.space.choose_victim(self.log.settled.sequence, most) else { return };
        let Some(found) = self.space.get(segment) else { return };
        self.cleaner.fruitless = None;
        self.cleaner.victim = Some(Victim {
            segment,
            state: VictimState::Header(ALIGNMENT),
            sequence: found.generation,
            offset: 0,
            last: found.last,
            items: Vec::new(),
            moved: 0,
            damaged: false,
        });
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
        let count = victim.items.len().min(self.options.clean_blocks_max as usize).min(256);
        let Some(buffer) = disk.allocate(count * BLOCK_BYTES as usize, Purpose::Log) else {
            self.retry_for_memory();
            return;
        };
        victim.state = VictimState::Reading;
        let mut extents: Vec<Extent> = Vec::with_capacity(count);
        let mut after = Location(0);
        for (at, item) in (0_u32..).zip(&victim.items[..count]) {
            let (drive, offset) = self.space.place(&self.layout, item.from);
            match extents.last_mut() {
                Some(last) if item.from == after => last.len += BLOCK_BYTES,
                _ => extents.push(Extent { drive, offset, start: at * BLOCK_BYTES, len: BLOCK_BYTES }),
            }
            after = Location(item.from.0 + u64::from(BLOCK_BYTES) / LOCATION_BYTES);
        }
        self.start_raw_read(disk, &extents, buffer, ReadFor::CleanBlocks);
    }

    /// Notes what is live in a batch of the victim, or that more of its header is to be read.
    fn note_live(&mut self, victim: &mut Victim, bytes: &[u8]) -> Result<(), Malformed> {
        let header = BatchHeader::peek(bytes)?;
        let room = self.layout.segment_bytes() - victim.offset;
        if header.header_bytes as usize > bytes.len() && header.header_bytes <= room {
            victim.state = VictimState::Header(header.header_bytes);
            return Ok(());
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
        for (lsn, record) in (header.first_lsn..).zip(header.records(bytes)) {
            self.note_record(victim, lsn, record?);
        }
        victim.offset += header.total_bytes;
        victim.sequence += 1;
        victim.state = VictimState::Blocks;
        Ok(())
    }

    fn note_record(&mut self, victim: &mut Victim, lsn: u64, record: Record<'_>) {
        const SECTORS: u64 = BLOCK_BYTES as u64 / LOCATION_BYTES;
        let place = |payload: u32| self.space.location(victim.segment, victim.offset + payload);
        match record {
            Record::Write { lineage, block, payload, crcs, .. } => {
                for (at, crc) in (0_u64..).zip(crcs.iter()) {
                    let from = Location(place(payload).0 + at * SECTORS);
                    let item = Item { lineage, block: block + at, from, birth: lsn, crc };
                    if self.map.is_live(lineage, item.block, from) {
                        victim.items.push(item);
                    }
                }
            }
            Record::Move { lineage, block, payload, moved } => {
                for (at, moved) in (0_u64..).zip(moved.iter()) {
                    let from = Location(place(payload).0 + at * SECTORS);
                    let item = Item { lineage, block: block + at, from, birth: moved.birth, crc: moved.crc };
                    if self.map.is_live(lineage, item.block, from) {
                        victim.items.push(item);
                    }
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
