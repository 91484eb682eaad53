//! Which segments of the pool are free: the one list that shards do not keep themselves.
//!
//! Shards own segments durably; what no shard lists is free. Reactor 0 asks every shard at start, then grants free
//! segments and takes back those whose release is durable. Grants are spread over the drives in proportion to what
//! each has free. A few segments of the pool are every shard's due, whatever the others want: with them it can write,
//! clean and make checkpoints. Beyond these the last ones are a reserve that only cleaning may use, a fair share for
//! each shard, so that cleaning need not go through segments that are nearly full.

use thiserror::Error;

use crate::pool::{Layout, SegmentId, ShardId};

const FREE: u16 = u16::MAX;
/// Segments that every shard may have, whoever else wants them: what it keeps back for cleaning and checkpoints, and
/// a few to write in.
const DUE_PER_SHARD: u32 = 6;
/// The reserve is the pool divided by this.
const RESERVE_DIVISOR: u32 = 256;
/// A pool with fewer segments than this has none.
const RESERVED_POOL_MIN: u32 = 32;

const _: () = assert!(DUE_PER_SHARD <= crate::pool::SEGMENTS_PER_SHARD_MIN);

/// What a segment is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantPurpose {
    /// What hosts write: refused once only the reserve is left.
    Host,
    /// Cleaning and checkpoints, which free more than they take.
    Cleaning,
}

/// The free list of a pool.
#[derive(Debug)]
pub struct Segments {
    /// The owner of each segment, [`FREE`] where it has none.
    owners: Vec<u16>,
    drives: Vec<DriveSegments>,
    /// Segments that each shard owns, and those of the reserve among them.
    owned: Vec<u32>,
    borrowed: Vec<u32>,
    free: u32,
    /// Segments that shards own less than is their due.
    lacking: u32,
    reserve: u32,
    /// Shards that have not said yet what they own.
    missing: Vec<ShardId>,
    stats: Stats,
}

/// Why what a shard says cannot be true.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SegmentsError {
    /// Two shards list the same segment, or one lists it twice.
    #[error(
        "the pool is damaged: segment {} is owned by shard {} and again by shard {}; restore the drives from a copy",
        segment.0, first.0, second.0
    )]
    OwnedTwice {
        /// The segment.
        segment: SegmentId,
        /// The shard that listed it first.
        first: ShardId,
        /// The shard that listed it again.
        second: ShardId,
    },
    /// The pool has no such segment.
    #[error("the pool is damaged: shard {} lists segment {}, of which there are only {segments}", shard.0, segment.0)]
    OutOfRange {
        /// The shard.
        shard: ShardId,
        /// The segment.
        segment: SegmentId,
        /// How many there are.
        segments: u32,
    },
    /// A shard gives back what is not its own.
    #[error("shard {} gives back segment {}, which it does not own", shard.0, segment.0)]
    NotOwned {
        /// The shard.
        shard: ShardId,
        /// The segment.
        segment: SegmentId,
    },
    /// A shard that does not exist, or has said before what it owns.
    #[error("shard {} is unknown or has been heard before", .0.0)]
    UnexpectedShard(ShardId),
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments granted.
    pub grants: u64,
    /// Segments taken back.
    pub releases: u64,
    /// Grants refused.
    pub refusals: u64,
}

/// The free segments of one drive.
#[derive(Debug)]
struct DriveSegments {
    first: u32,
    count: u32,
    free: u32,
    /// One bit a segment, set where it is free.
    bits: Vec<u64>,
    /// No word before this one has a free segment.
    lowest: usize,
}

impl Segments {
    /// The list of a pool of which no shard has been heard yet.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let drives: Vec<DriveSegments> = layout
            .drives()
            .iter()
            .map(|drive| DriveSegments::all_free(drive.first_segment.0, drive.segments))
            .collect();
        Self {
            owners: vec![FREE; layout.segments() as usize],
            drives,
            owned: vec![0; usize::from(layout.shards())],
            borrowed: vec![0; usize::from(layout.shards())],
            free: layout.segments(),
            lacking: DUE_PER_SHARD * u32::from(layout.shards()),
            reserve: reserve_of(layout),
            missing: (0..layout.shards()).map(ShardId).collect(),
            stats: Stats::default(),
        }
    }

    /// Drives have joined: `layout` has all that was there, and more behind it, which is free.
    ///
    /// # Panics
    /// If it has not.
    pub fn grow(&mut self, layout: &Layout) {
        assert!(layout.segments() >= self.total() && layout.drives().len() >= self.drives.len());
        for drive in &layout.drives()[self.drives.len()..] {
            self.drives.push(DriveSegments::all_free(drive.first_segment.0, drive.segments));
        }
        self.free += layout.segments() - self.total();
        self.owners.resize(layout.segments() as usize, FREE);
        self.reserve = reserve_of(layout);
    }

    /// A shard says, once, what it owns.
    ///
    /// # Errors
    /// When that contradicts the pool or another shard: the pool must not be used then.
    pub fn own(&mut self, shard: ShardId, owned: &[SegmentId]) -> Result<(), SegmentsError> {
        let position = self.missing.iter().position(|&missing| missing == shard);
        let Some(position) = position else { return Err(SegmentsError::UnexpectedShard(shard)) };
        self.missing.swap_remove(position);
        for &segment in owned {
            let segments = self.total();
            let owner = self.owners.get(segment.0 as usize).copied();
            let owner = owner.ok_or(SegmentsError::OutOfRange { shard, segment, segments })?;
            if owner != FREE {
                return Err(SegmentsError::OwnedTwice { segment, first: ShardId(owner), second: shard });
            }
            self.drive_of(segment).take(segment.0);
            self.take(shard, segment);
        }
        Ok(())
    }

    /// Gives a shard a free segment; `None` where there is none for this purpose.
    ///
    /// # Panics
    /// Before every shard has been heard, when nobody can know what is free.
    pub fn grant(&mut self, shard: ShardId, purpose: GrantPurpose) -> Option<SegmentId> {
        assert!(self.is_ready());
        let own_lack = DUE_PER_SHARD.saturating_sub(self.owned[usize::from(shard.0)]);
        let spoken_for = self.lacking - own_lack;
        let is_reserve = own_lack == 0 && self.free <= self.reserve + spoken_for;
        let share = self.reserve / u32::try_from(self.borrowed.len()).expect("at most SHARDS_MAX shards");
        let borrowed = &mut self.borrowed[usize::from(shard.0)];
        let is_refused = match purpose {
            _ if own_lack > 0 => self.free == 0,
            GrantPurpose::Host => is_reserve,
            GrantPurpose::Cleaning => self.free <= spoken_for || (is_reserve && *borrowed >= share),
        };
        if is_refused {
            self.stats.refusals += 1;
            return None;
        }
        if is_reserve {
            *borrowed += 1;
        }
        // The fullest share of free segments first; of equal ones the drive with more free, then the first.
        let drive = self
            .drives
            .iter_mut()
            .rev()
            .filter(|drive| drive.free > 0)
            .max_by(|a, b| {
                let shares =
                    (u64::from(a.free) * u64::from(b.count)).cmp(&(u64::from(b.free) * u64::from(a.count)));
                shares.then(a.free.cmp(&b.free))
            })
            .expect("a free segment is on a drive");
        let segment = SegmentId(drive.take_lowest());
        self.take(shard, segment);
        self.stats.grants += 1;
        Some(segment)
    }

    /// Takes back segments whose release the shard has made durable.
    ///
    /// # Errors
    /// At the first segment that the shard does not own; those before it are free.
    pub fn release(&mut self, shard: ShardId, released: &[SegmentId]) -> Result<(), SegmentsError> {
        for &segment in released {
            if self.owners.get(segment.0 as usize) != Some(&shard.0) {
                return Err(SegmentsError::NotOwned { shard, segment });
            }
            self.owners[segment.0 as usize] = FREE;
            self.drive_of(segment).give_back(segment.0);
            self.free += 1;
            let owned = &mut self.owned[usize::from(shard.0)];
            *owned -= 1;
            self.lacking += u32::from(*owned < DUE_PER_SHARD);
            let borrowed = &mut self.borrowed[usize::from(shard.0)];
            *borrowed = borrowed.saturating_sub(1);
            self.stats.releases += 1;
        }
        Ok(())
    }

    /// Whether every shard has been heard.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }

    /// Free segments, the reserve included.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free
    }

    /// All segments of the pool.
    #[must_use]
    pub fn total(&self) -> u32 {
        u32::try_from(self.owners.len()).expect("segments are numbered by u32")
    }

    /// Segments kept back for cleaning.
    #[must_use]
    pub fn reserve(&self) -> u32 {
        self.reserve
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Notes that a free segment, which was taken from its drive, is the shard's.
    fn take(&mut self, shard: ShardId, segment: SegmentId) {
        self.owners[segment.0 as usize] = shard.0;
        self.free -= 1;
        let owned = &mut self.owned[usize::from(shard.0)];
        self.lacking -= u32::from(*owned < DUE_PER_SHARD);
        *owned += 1;
    }

    fn drive_of(&mut self, segment: SegmentId) -> &mut DriveSegments {
        let index = self.drives.partition_point(|drive| drive.first <= segment.0) - 1;
        &mut self.drives[index]
    }
}

/// Segments of a pool that are kept back for cleaning, as many for each shard.
fn reserve_of(layout: &Layout) -> u32 {
    let least = u32::from(layout.segments() >= RESERVED_POOL_MIN);
    let share = (layout.segments() / RESERVE_DIVISOR).div_ceil(u32::from(layout.shards())).max(least);
    share * u32::from(layout.shards())
}

impl DriveSegments {
    fn all_free(first: u32, count: u32) -> Self {
        let mut bits = vec![u64::MAX; count.div_ceil(64) as usize];
        if let Some(last) = bits.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        Self { first, count, free: count, bits, lowest: 0 }
    }

    fn take(&mut self, segment: u32) {
        let (word, bit) = self.bit(segment);
        assert_ne!(self.bits[word] & bit, 0);
        self.bits[word] &= !bit;
        self.free -= 1;
    }

    fn give_back(&mut self, segment: u32) {
        let (word, bit) = self.bit(segment);
        assert_eq!(self.bits[word] & bit, 0);
        self.bits[word] |= bit;
        self.free += 1;
        self.lowest = self.lowest.min(word);
    }

    fn take_lowest(&mut self) -> u32 {
        while self.bits[self.lowest] == 0 {
            self.lowest += 1;
        }
        let word = u32::try_from(self.lowest).expect("segments are numbered by u32");
        let segment = self.first + word * 64 + self.bits[self.lowest].trailing_zeros();
        self.take(segment);
        segment
    }

    fn bit(&self, segment: u32) -> (usize, u64) {
        let within = segment - self.first;
        ((within / 64) as usize, 1 << (within % 64))
    }
}

#[cfg(test)]
mod test;
