//! One drive: what reads see, what a power cut may take back, which blocks are damaged.
//!
//! Every block that was written since it was last made durable keeps the whole history back to its durable contents,
//! so that a power cut can choose for each block on its own.

use std::collections::{BTreeMap, BTreeSet};

use io::DriveShape;

use crate::Random;

/// How a power cut chooses what becomes of unflushed blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutStyle {
    /// Every block falls back to its durable contents.
    AllLost,
    /// Every block keeps its newest contents, as if the cache had been written out just in time.
    AllKept,
    /// Each block on its own: any version since its durable one.
    EachAlone,
    /// Nearly everything is kept, one block in sixteen is not.
    FewLost,
}

#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) shape: DriveShape,
    current: Vec<u8>,
    unflushed: BTreeMap<u64, History>,
    // Writes whose end has been told to a reactor, counted: the time line that flushes refer to.
    told: u64,
    damaged: BTreeSet<u64>,
    pub(crate) gone: bool,
}

/// The versions of one block since it was last durable.
#[derive(Debug)]
struct History {
    durable: Box<[u8]>,
    versions: Vec<Version>,
    // A flush over it failed: no later flush makes it durable, only another write.
    abandoned: bool,
}

#[derive(Debug)]
struct Version {
    bytes: Box<[u8]>,
    write: u64,
    // Its place among the told writes, once it has been told.
    told: Option<u64>,
}

impl CutStyle {
    /// Any of them.
    #[must_use]
    pub fn choose(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::AllLost,
            1 => Self::AllKept,
            2 => Self::EachAlone,
            _ => Self::FewLost,
        }
    }
}

impl Drive {
    /// # Panics
    /// If the shape is none that a drive can have.
    pub(crate) fn new(shape: DriveShape) -> Self {
        assert!(
            shape.block_bytes == 512 || shape.block_bytes == 4096,
            "a drive's block is 512 or 4096 bytes"
        );
        assert!(shape.size_bytes.is_multiple_of(u64::from(shape.block_bytes)), "a drive is whole blocks");
        let size = usize::try_from(shape.size_bytes).expect("a simulated drive fits into memory");
        Self {
            shape,
            current: vec![0; size],
            unflushed: BTreeMap::new(),
            told: 0,
            damaged: BTreeSet::new(),
            gone: false,
        }
    }

    pub(crate) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        &self.current[at(offset)..][..len]
    }

    /// True where a block of the range cannot be read.
    pub(crate) fn is_damaged(&self, offset: u64, len: usize) -> bool {
        self.damaged.range(self.blocks(offset, len)).next().is_some()
    }

    /// Makes the blocks of the range unreadable until they are written again.
    pub(crate) fn damage(&mut self, offset: u64, len: usize) {
        let blocks = self.blocks(offset, len);
        self.damaged.extend(blocks);
    }

    /// Turns one bit over, durably and without trace: decay of the medium.
    pub(crate) fn flip(&mut self, offset: u64, bit: u8) {
        let block = offset / u64::from(self.shape.block_bytes);
        let within = at(offset % u64::from(self.shape.block_bytes));
        self.current[at(offset)] ^= 1 << bit;
        if let Some(history) = self.unflushed.get_mut(&block) {
            history.durable[within] ^= 1 << bit;
            for version in &mut history.versions {
                version.bytes[within] ^= 1 << bit;
            }
        }
    }

    /// Blocks of the write `write` reach the drive.
    pub(crate) fn land(&mut self, write: u64, offset: u64, bytes: &[u8]) {
        let size = self.shape.block_bytes as usize;
        let first = offset / u64::from(self.shape.block_bytes);
        for (block, bytes) in (first..).zip(bytes.chunks_exact(size)) {
            let place = &mut self.current[at(block) * size..][..size];
            if self.shape.volatile_cache {
                let history = self.unflushed.entry(block).or_insert_with(|| History {
                    durable: place.into(),
                    versions: Vec::new(),
                    abandoned: false,
                });
                history.versions.push(Version { bytes: bytes.into(), write, told: None });
                history.abandoned = false;
            }
            place.copy_from_slice(bytes);
            self.damaged.remove(&block);
        }
    }

    /// The end of the write `write` is told to its reactor now.
    pub(crate) fn tell(&mut self, write: u64, offset: u64, len: usize) {
        self.told += 1;
        let told = self.told;
        let blocks = self.blocks(offset, len);
        for (_, history) in self.unflushed.range_mut(blocks) {
            for version in history.versions.iter_mut().filter(|version| version.write == write) {
                version.told = Some(told);
            }
        }
    }

    /// The process is gone and all its writes have ended, told or not: the next process's flushes cover them.
    pub(crate) fn tell_all(&mut self) {
        self.told += 1;
        for version in self.unflushed.values_mut().flat_map(|history| &mut history.versions) {
            version.told.get_or_insert(self.told);
        }
    }

    /// What a flush that is asked for now must cover.
    pub(crate) fn barrier(&self) -> u64 {
        self.told
    }

    /// A flush succeeded: all that was told up to `barrier` is durable. What came later may still be lost.
    pub(crate) fn make_durable(&mut self, barrier: u64) {
        self.unflushed.retain(|_, history| {
            if history.abandoned {
                return true;
            }
            let covered = |version: &Version| version.told.is_some_and(|told| told <= barrier);
            if let Some(last) = history.versions.iter().rposition(covered) {
                let later = history.versions.split_off(last + 1);
                if let Some(version) = history.versions.pop() {
                    history.durable = version.bytes;
                }
                history.versions = later;
            }
            !history.versions.is_empty()
        });
    }

    /// A flush failed: each block that it should have covered may never become durable any more, as with file
    /// systems that mark pages clean after an error.
    pub(crate) fn fail_flush(&mut self, random: &mut Random) {
        for history in self.unflushed.values_mut() {
            history.abandoned |= random.one_in(2);
        }
    }

    /// The power is cut and comes back.
    pub(crate) fn cut_power(&mut self, style: CutStyle, random: &mut Random) {
        let size = self.shape.block_bytes as usize;
        for (block, history) in std::mem::take(&mut self.unflushed) {
            let newest = history.versions.len();
            let chosen = match style {
                CutStyle::AllLost => 0,
                // Abandoned blocks were dropped from the cache, however lucky the rest is.
                _ if history.abandoned => 0,
                CutStyle::AllKept => newest,
                CutStyle::EachAlone => random.index(newest + 1),
                CutStyle::FewLost if random.one_in(16) => random.index(newest + 1),
                CutStyle::FewLost => newest,
            };
            let bytes = match chosen.checked_sub(1) {
                None => &history.durable,
                Some(version) => &history.versions[version].bytes,
            };
            self.current[at(block) * size..][..size].copy_from_slice(bytes);
        }
    }

    fn blocks(&self, offset: u64, len: usize) -> std::ops::Range<u64> {
        let size = u64::from(self.shape.block_bytes);
        offset / size..(offset + len as u64).div_ceil(size)
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("within a drive that fits into memory")
}

#[cfg(test)]
mod test {
    use super::*;

    const SHAPE: DriveShape = DriveShape { size_bytes: 4096, block_bytes: 512, volatile_cache: true };

    #[test]
    fn a_flush_covers_what_was_told_before_it_and_nothing_else() {
        let mut drive = Drive::new(SHAPE);
        drive.land(1, 0, &[1; 512]);
        drive.tell(1, 0, 512);
        let barrier = drive.barrier();
        drive.land(2, 0, &[2; 512]);
        drive.tell(2, 0, 512);
        drive.land(3, 512, &[3; 512]);
        drive.make_durable(barrier);
        drive.cut_power(CutStyle::AllLost, &mut Random::new(1));
        assert_eq!(drive.bytes(0, 512), [1; 512]);
        assert_eq!(drive.bytes(512, 512), [0; 512]);
    }

    #[test]
    fn a_flush_of_the_next_process_covers_what_the_last_one_left() {
        let mut drive = Drive::new(SHAPE);
        drive.land(1, 0, &[1; 512]);
        drive.tell_all();
        drive.make_durable(drive.barrier());
        drive.cut_power(CutStyle::AllLost, &mut Random::new(1));
        assert_eq!(drive.bytes(0, 512), [1; 512]);
    }

    #[test]
    fn a_cut_chooses_each_block_alone_among_its_versions() {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let mut drive = Drive::new(SHAPE);
            drive.land(1, 0, &[1; 1024]);
            drive.land(2, 0, &[2; 1024]);
            drive.cut_power(CutStyle::EachAlone, &mut Random::new(seed));
            assert!(drive.bytes(0, 512).windows(2).all(|pair| pair[0] == pair[1]));
            seen.insert((drive.bytes(0, 1)[0], drive.bytes(512, 1)[0]));
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn blocks_under_a_failed_flush_may_be_lost_despite_later_flushes() {
        let mut lost = 0;
        for seed in 0..32 {
            let mut random = Random::new(seed);
            let mut drive = Drive::new(SHAPE);
            drive.land(1, 0, &[1; 512]);
            drive.tell(1, 0, 512);
            drive.fail_flush(&mut random);
            drive.make_durable(drive.barrier());
            drive.cut_power(CutStyle::AllKept, &mut random);
            lost += usize::from(drive.bytes(0, 1) == [0]);
        }
        assert!((1..32).contains(&lost));
    }

    #[test]
    fn damage_lasts_until_the_block_is_written() {
        let mut drive = Drive::new(SHAPE);
        drive.damage(512, 512);
        assert!(drive.is_damaged(0, 1024));
        assert!(!drive.is_damaged(0, 512));
        drive.land(1, 512, &[1; 512]);
        assert!(!drive.is_damaged(0, 1024));
    }
}
