//! A window of replay: what batches of the log write and move, put into the map together and leaf by leaf.
//!
//! Random writes change random leaves, and each is a wait for memory. In a window they are sorted by leaf first. The sort
//! keeps the order of records within a leaf of a lineage, and nothing else matters to what a write or a move does: who else
//! holds a place holds it for the same block of the same lineage. What concerns more than that (deallocations, forks, drops,
//! requests of several records, another epoch, the record from which on replay counts) is put in alone, with no window open.

use std::collections::BTreeMap;

use io::Buffer;

use super::log::{Change, Effect};
use super::space::{Blocks, Space, State};
use super::{BLOCK_BYTES, Shard};
use crate::codec::{Form, UNIT_BYTES};
use crate::map::{Entry, FANOUT, Freed, Location, extent_of};
use crate::record::{BatchHeader, BlockWrite, Malformed, Record, RecordReader};
use crate::{SegmentId, VolumeId};

/// Changes of single blocks that are not in the map yet.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// In the order of their records; once they are sorted, by lineage and leaf, and in that order there.
    changes: Vec<BlockChange>,
    /// Memory for sorting.
    sorting: Vec<BlockChange>,
    /// Old and new places of moves.
    moves: Vec<(Location, Entry)>,
    images: Vec<Image>,
    image_numbers: BTreeMap<(VolumeId, VolumeId), u16>,
    /// The one that was asked for last.
    latest: Option<((VolumeId, VolumeId), u16)>,
    lineages: Vec<VolumeId>,
    lineage_numbers: BTreeMap<VolumeId, u16>,
    /// LSN of its first record.
    first_lsn: u64,
    /// Whether it is sorted and on its way into the map; then so many changes are there, and leaves were asked for of
    /// so many.
    emptying: bool,
    done: usize,
    asked: usize,
    deaths: Deaths,
}

/// A write or a move of one block.
#[derive(Clone, Copy, Debug, Default)]
struct BlockChange {
    block: u64,
    /// Of a write, the map entry; of a move, the number of its places.
    what: u64,
    /// LSN of its record, counted from the window's first.
    lsn: u32,
    /// Number of the image, or [`MOVE`].
    image: u16,
    lineage: u16,
}

/// An image that is written to.
#[derive(Clone, Copy, Debug)]
struct Image {
    volume: VolumeId,
    lineage: VolumeId,
    lineage_number: u16,
    /// Blocks that were written and counted.
    written: u64,
}

/// Bytes that died in each segment, added up for the segments that were met last.
#[derive(Debug)]
struct Deaths {
    slots: Vec<(SegmentId, u64)>,
    /// Blocks among them.
    blocks: Blocks,
}

/// In place of an image: a move.
const MOVE: u16 = u16::MAX;
/// Images of a window.
const IMAGES_MAX: usize = 1 << 15;
/// Changes of which leaves are asked for ahead.
const AHEAD: usize = 512;
/// Bits by which one pass sorts.
const DIGIT_BITS: u32 = 11;
/// Segments whose deaths are added up.
const DEATHS: usize = 1024;

const _: () = assert!(size_of::<BlockChange>() == 24);

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Changes in it.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it is partly in the map.
    pub(super) fn is_emptying(&self) -> bool {
        self.emptying
    }

    /// Whether it may take in a batch with these LSNs.
    fn has_room(&self, (first_lsn, end_lsn): (u64, u64), blocks_max: u32) -> bool {
        let base = if self.is_empty() { first_lsn } else { self.first_lsn };
        !self.emptying
            && self.changes.len() < blocks_max as usize
            && self.images.len() < IMAGES_MAX
            && self.lineages.len() < IMAGES_MAX
            && u32::try_from(end_lsn - base).is_ok()
    }

    #[inline]
    fn image(&mut self, names: (VolumeId, VolumeId)) -> u16 {
        match self.latest {
            Some((latest, number)) if latest == names => number,
            _ => self.find_image(names),
        }
    }

    fn find_image(&mut self, names: (VolumeId, VolumeId)) -> u16 {
        let number = self.image_numbers.get(&names).copied().unwrap_or_else(|| {
            let number = u16::try_from(self.images.len()).expect("bounded by IMAGES_MAX and a batch");
            let (volume, lineage) = names;
            let lineage_number = self.lineage(lineage);
            self.images.push(Image { volume, lineage, lineage_number, written: 0 });
            self.image_numbers.insert(names, number);
            number
        });
        self.latest = Some((names, number));
        number
    }

    fn lineage(&mut self, lineage: VolumeId) -> u16 {
        *self.lineage_numbers.entry(lineage).or_insert_with(|| {
            self.lineages.push(lineage);
            u16::try_from(self.lineages.len() - 1).expect("bounded by IMAGES_MAX and a batch")
        })
    }

    /// Takes in the writes of single blocks that come next, from this LSN on, in a batch that begins at a location; gives how
    /// many.
    fn write_blocks(&mut self, records: &mut RecordReader<'_>, first_lsn: u64, batch: Location) -> u64 {
        let mut lsn = u32::try_from(first_lsn - self.first_lsn).expect("a window spans as many");
        let first = lsn;
        while let Some(writes) = records.next_blocks() {
            let image = self.image((writes.volume, writes.lineage));
            let lineage = self.images[usize::from(image)].lineage_number;
            let changes = writes.iter().zip(lsn..).map(|(BlockWrite { block, payload, form }, lsn)| {
                let place = Location(batch.0 + u64::from(payload / UNIT_BYTES));
                BlockChange { block, what: Entry::new(place, form).0, lsn, image, lineage }
            });
            self.changes.extend(changes);
            lsn += writes.len();
        }
        u64::from(lsn - first)
    }

    /// Takes in the blocks of a write; gives what they take in the log.
    fn write(
        &mut self,
        names: (VolumeId, VolumeId),
        block: u64,
        lsn: u64,
        (location, forms): (Location, impl Iterator<Item = Form>),
    ) -> u64 {
        let image = self.image(names);
        let lineage = self.images[usize::from(image)].lineage_number;
        let lsn = u32::try_from(lsn - self.first_lsn).expect("a window spans as many");
        let mut to = location;
        for (block, form) in (block..).zip(forms) {
            let what = Entry::new(to, form).0;
            self.changes.push(BlockChange { block, what, lsn, image, lineage });
            to.0 += u64::from(form.units());
        }
        to.bytes_from(location)
    }

    /// Takes in the blocks of a move, old places and forms.
    fn moves(
        &mut self,
        lineage: VolumeId,
        block: u64,
        lsn: u64,
        (location, moved): (Location, impl Iterator<Item = (Location, Form)>),
    ) {
        let lineage = self.lineage(lineage);
        let lsn = u32::try_from(lsn - self.first_lsn).expect("a window spans as many");
        let mut to = location;
        for (block, (from, form)) in (block..).zip(moved) {
            let what = self.moves.len() as u64;
            self.moves.push((from, Entry::new(to, form)));
            self.changes.push(BlockChange { block, what, lsn, image: MOVE, lineage });
            to.0 += u64::from(form.units());
        }
    }

    /// Sorts by lineage and leaf, and lets the rest be in the order in which it is.
    fn sort(&mut self) {
        let Some(&first) = self.changes.first() else { return };
        let differ = self.changes.iter().fold((0, 0), |(leaves, lineages), change| {
            (leaves | change.leaf() ^ first.leaf(), lineages | change.lineage ^ first.lineage)
        });
        self.sort_by(differ.0, BlockChange::leaf);
        self.sort_by(u64::from(differ.1), |change| u64::from(change.lineage));
    }

    /// Sorts by a key of which these bits differ, digit by digit from the lowest.
    fn sort_by(&mut self, differ: u64, key: impl Fn(&BlockChange) -> u64) {
        let bits = u64::BITS - differ.leading_zeros();
        if bits == 0 {
            return;
        }
        let digit_bits = bits.div_ceil(bits.div_ceil(DIGIT_BITS));
        self.sorting.resize(self.changes.len(), BlockChange::default());
        for shift in (0..bits).step_by(digit_bits as usize) {
            let digit = |change: &BlockChange| (key(change) >> shift) as usize & ((1 << digit_bits) - 1);
            let mut starts = [0_u32; 1 << DIGIT_BITS];
            for change in &self.changes {
                starts[digit(change)] += 1;
            }
            let mut start = 0;
            for count in &mut starts {
                start += std::mem::replace(count, start);
            }
            for change in &self.changes {
                let place = &mut starts[digit(change)];
                self.sorting[*place as usize] = *change;
                *place += 1;
            }
            std::mem::swap(&mut self.changes, &mut self.sorting);
        }
    }

    /// What a run does to the map, as far as that tells which leaves it needs.
    fn effect_of(&self, run: &[BlockChange]) -> Option<Effect> {
        let change = *run.first()?;
        let first = run.iter().map(|change| change.block).min()?;
        let end = run.iter().map(|change| change.block).max()? + 1;
        let lsn = self.first_lsn + u64::from(change.lsn);
        let location = Location(0);
        let (volume, change) = match self.images.get(usize::from(change.image)) {
            Some(image) => (image.volume, Change::Write { lineage: image.lineage, location, words: 0 }),
            None => (self.lineages[usize::from(change.lineage)], Change::Move { location, words: 0 }),
        };
        Some(Effect { lsn, volume, first, end, change, more: false })
    }

    fn clear(&mut self) {
        self.changes.clear();
        self.moves.clear();
        self.images.clear();
        self.image_numbers.clear();
        self.latest = None;
        self.lineages.clear();
        self.lineage_numbers.clear();
        self.emptying = false;
        self.done = 0;
        self.asked = 0;
    }
}

impl BlockChange {
    fn leaf(&self) -> u64 {
        self.block / FANOUT as u64
    }
}

/// The changes from one on that are of the same kind and the same leaf of the same image.
fn run_from(changes: &[BlockChange], at: usize) -> &[BlockChange] {
    let rest = changes.get(at..).unwrap_or_default();
    let Some(first) = rest.first() else { return rest };
    let is_alike = |change: &BlockChange| {
        (change.leaf(), change.image, change.lineage) == (first.leaf(), first.image, first.lineage)
    };
    &rest[..rest.iter().position(|change| !is_alike(change)).unwrap_or(rest.len())]
}

impl Default for Deaths {
    fn default() -> Self {
        Self { slots: vec![(SegmentId(0), 0); DEATHS], blocks: Blocks::default() }
    }
}

impl Deaths {
    fn add(&mut self, space: &mut Space, freed: Freed) {
        let Freed::Block(_) = freed else { return space.frees(freed) };
        let (location, bytes) = extent_of(freed);
        let id = space.segment_of(location);
        let slot = &mut self.slots[id.0 as usize % DEATHS];
        if slot.0 != id {
            let (before, died) = std::mem::replace(slot, (id, 0));
            space.dies_in(before, died);
        }
        slot.1 += bytes;
        self.blocks.count += 1;
        self.blocks.bytes += bytes;
    }

    /// Tells all of them.
    fn tell(&mut self, space: &mut Space) {
        for (id, died) in &mut self.slots {
            space.dies_in(*id, std::mem::take(died));
        }
        let Blocks { count, bytes } = std::mem::take(&mut self.blocks);
        space.blocks.count -= count;
        space.blocks.bytes -= bytes;
    }
}

impl<B: Buffer> Shard<B> {
    /// Takes a batch at `offset` of its segment into the window; false if the window must be empty first, or the batch
    /// holds what no window takes in. An error if it cannot be read.
    pub(super) fn collect(
        &mut self,
        window: &mut Window,
        header: &BatchHeader,
        (offset, bytes): (u32, &[u8]),
    ) -> Result<bool, Malformed> {
        let end_lsn = header.first_lsn + u64::from(header.record_count);
        // In a window all is counted, or nothing is.
        let is_alike = self.uncounted.is_none_or(|uncounted| end_lsn <= uncounted.until);
        let has_room = window.has_room((header.first_lsn, end_lsn), self.options.replay_blocks_max);
        if !is_alike || !has_room || header.epoch != self.log.epoch || self.log.has_deferred() {
            return Ok(false);
        }
        let before = (window.changes.len(), window.moves.len());
        if before.0 == 0 {
            window.first_lsn = header.first_lsn;
            // Memory that is not used costs nothing.
            window.changes.reserve(self.options.replay_blocks_max as usize);
        }
        let batch = self.space.location(header.segment, offset);
        let place = |payload: u32| self.space.location(header.segment, offset + payload);
        let (mut stored, mut next) = (Blocks::default(), None);
        let mut records = header.records(bytes);
        let mut lsn = header.first_lsn;
        loop {
            let blocks = window.write_blocks(&mut records, lsn, batch);
            stored.count += blocks;
            stored.bytes += blocks * u64::from(BLOCK_BYTES);
            lsn += blocks;
            let Some(record) = records.next() else { break };
            let fits = match record? {
                Record::Write { volume, lineage, block, more: false, payload, forms } => {
                    let names = (volume, lineage);
                    stored.count += forms.count();
                    stored.bytes += window.write(names, block, lsn, (place(payload), forms.iter()));
                    true
                }
                Record::Move { lineage, block, payload, moved } => {
                    let moved = moved.iter().map(|moved| (moved.from, moved.form));
                    window.moves(lineage, block, lsn, (place(payload), moved));
                    true
                }
                Record::Seal { next: to } => {
                    if header.record_count != 1 {
                        return Err(Malformed);
                    }
                    next = Some(to);
                    // What the window holds may empty it first.
                    before.0 == 0 || !self.space.is_used(to)
                }
                Record::Page { .. } | Record::Manifest { .. } => true,
                Record::Write { .. }
                | Record::Unmap { .. }
                | Record::DropVolume { .. }
                | Record::Fork { .. } => false,
            };
            if !fits {
                window.changes.truncate(before.0);
                window.moves.truncate(before.1);
                return Ok(false);
            }
            lsn += 1;
        }
        self.space.logged(header.segment, header.sequence);
        if self.uncounted.is_none() && stored.count > 0 {
            // All of it before what it replaces, which may lie there, too.
            self.space.lives_in(header.segment, stored.bytes);
            self.space.count_blocks(stored.count, stored.bytes);
        }
        if let Some(next) = next {
            self.on_replayed_seal(header, next);
        }
        self.on_replayed_batch(header);
        Ok(true)
    }

    /// The log goes on in another segment.
    pub(super) fn on_replayed_seal(&mut self, header: &BatchHeader, next: SegmentId) {
        self.space.seal(header.segment);
        let generation = header.sequence + 1;
        self.space.add_used(next, State::Open, generation, generation);
    }

    pub(super) fn on_replayed_batch(&mut self, header: &BatchHeader) {
        self.stats.replayed_batches += 1;
        self.log.since_root_bytes += u64::from(header.total_bytes);
    }

    /// Puts what the window holds into the map, about `left` changes at most; false as long as leaves are missing for
    /// that, or not all is there.
    pub(super) fn empty_window(&mut self, window: &mut Window, left: &mut u32) -> bool {
        if !window.emptying {
            #[cfg(feature = "planted")]
            if self.is_planted(super::Planted::ReplayOutOfOrder) {
                window.changes.reverse();
            }
            window.sort();
            window.emptying = true;
        }
        while window.done < window.changes.len() {
            if *left == 0 {
                return false;
            }
            self.ask_ahead(window);
            let done = window.done;
            if !self.apply_run(window) {
                return false;
            }
            *left = left.saturating_sub(u32::try_from(window.done - done).unwrap_or(u32::MAX));
        }
        window.deaths.tell(&mut self.space);
        for image in window.images.iter().filter(|image| image.written > 0) {
            *self.written.entry(image.volume).or_default() += image.written * u64::from(BLOCK_BYTES);
        }
        window.clear();
        true
    }

    /// Asks for leaves that changes need which come soon.
    fn ask_ahead(&mut self, window: &mut Window) {
        if !self.map.has_away() || window.asked > window.done + AHEAD / 2 {
            return;
        }
        let counting = self.uncounted.is_none();
        window.asked = window.asked.max(window.done);
        while window.asked < window.changes.len().min(window.done + AHEAD) {
            let run = run_from(&window.changes, window.asked);
            if let Some(effect) = window.effect_of(run) {
                self.prefetch(|map, needs| effect.need(map, counting, needs));
            }
            window.asked += run.len();
        }
    }

    /// Puts the next run into the map; false if leaves are missing for that.
    fn apply_run(&mut self, window: &mut Window) -> bool {
        let run = run_from(&window.changes, window.done);
        if self.map.has_away()
            && let Some(effect) = window.effect_of(run)
            && !self.may_apply(effect)
        {
            return false;
        }
        let Some(&first) = run.first() else { return true };
        let len = run.len();
        let counting = self.uncounted.is_none();
        if first.image == MOVE {
            self.apply_moves(window, run);
        } else {
            let image = &mut window.images[usize::from(first.image)];
            let lsn = window.first_lsn + run.last().map_or(0, |change| u64::from(change.lsn));
            let (space, deaths) = (&mut self.space, &mut window.deaths);
            let blocks = run.iter().map(|change| (change.block, Entry(change.what)));
            self.map.set_all((image.volume, image.lineage), blocks, lsn, &mut |freed| {
                if counting {
                    deaths.add(space, freed);
                }
            });
            image.written += if counting { len as u64 } else { 0 };
        }
        window.done += len;
        true
    }

    fn apply_moves(&mut self, window: &Window, run: &[BlockChange]) {
        let Some(first) = run.first() else { return };
        let lineage = window.lineages[usize::from(first.lineage)];
        let counting = self.uncounted.is_none();
        let (map, space) = (&mut self.map, &mut self.space);
        let moves = run.iter().map(|change| {
            let (from, entry) = window.moves[change.what as usize];
            (change.block, from, entry, window.first_lsn + u64::from(change.lsn))
        });
        #[cfg(feature = "planted")]
        let moves = {
            let overwrites = self.options.planted == Some(super::Planted::MoveOverwrites);
            let now = |block: u64, from: Location| match map.entry(lineage, block) {
                entry if overwrites && entry.is_mapped() => entry.location(),
                _ => from,
            };
            let moves = moves.map(|(block, from, entry, lsn)| (block, now(block, from), entry, lsn));
            moves.collect::<Vec<_>>().into_iter()
        };
        map.move_all(lineage, moves, |from, to| {
            if counting {
                space.dies(from, u64::from(to.bytes()));
                space.lives(to.location(), u64::from(to.bytes()));
            }
        });
    }
}
