//! Where everything lies on the drives of a pool: pure arithmetic on what the superblocks record, the same in every
//! shard and after every restart.
//!
//! ```text
//! every drive                                                   drive 0 has the directory in between
//! 0          64 KiB        960 KiB      1 MiB                                           size - tail    size
//! | superblock | first root  | superblock | directory | directory | segment | segment | ... | second root |
//! | copy 0     | slots       | copy 1     | half 0    | half 1    | n       | n + 1   |     | slots       |
//! ```

use std::fmt;

use io::DriveId;

/// Bytes that lie together in one shard: stripe `s` of volume `v` belongs to shard `(s + v) mod shards`.
pub const STRIPE_BYTES: u32 = 1 << 20;
/// Size of one root slot of a shard.
pub const ROOT_SLOT_BYTES: u32 = 4096;
/// Size of one superblock copy; what it says fits into its first 512 bytes, which no drive tears.
pub const SUPERBLOCK_BYTES: u32 = 4096;
/// Offsets of the two superblock copies on every drive.
pub const SUPERBLOCK_OFFSETS: [u64; 2] = [0, 960 << 10];
/// Drives that one pool can have; bounded by what a superblock of 512 bytes can describe.
pub const DRIVES_MAX: usize = 32;
/// Shards that one pool can have; bounded by the room for their root slots.
pub const SHARDS_MAX: u16 = 128;
/// Segment sizes, each a power of two.
pub const SEGMENT_BYTES_MIN: u32 = 64 << 10;
/// The largest segment.
pub const SEGMENT_BYTES_MAX: u32 = 64 << 20;
/// Sizes of one directory half, each a multiple of 4096.
pub const DIRECTORY_HALF_BYTES_MIN: u32 = 256 << 10;
/// The largest directory half.
pub const DIRECTORY_HALF_BYTES_MAX: u32 = 64 << 20;
/// A pool has at least this many segments for each shard: the one that it writes, four that it keeps free to clean and
/// to go on with, two of the pool's reserve, and one for data.
pub const SEGMENTS_PER_SHARD_MIN: u32 = 8;

/// What every drive gives up at its start.
pub(crate) const HEAD_BYTES: u64 = 1 << 20;
const ROOT_SLOTS_OFFSET: u64 = 64 << 10;
const ALIGNMENT: u64 = 4096;

const _: () = assert!(ROOT_SLOTS_OFFSET >= SUPERBLOCK_OFFSETS[0] + SUPERBLOCK_BYTES as u64);
const _: () = assert!(
    ROOT_SLOTS_OFFSET + SHARDS_MAX as u64 * ROOT_SLOT_BYTES as u64 <= SUPERBLOCK_OFFSETS[1],
    "the first root slots end before the second superblock"
);
const _: () = assert!(SUPERBLOCK_OFFSETS[1] + SUPERBLOCK_BYTES as u64 <= HEAD_BYTES);

/// A segment of the pool, `0..Layout::segments()`, numbered through all drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// A shard of the pool, `0..Layout::shards()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A volume as shards know it; given by the directory, from 1, and never used again for another volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u64);

/// Whose the pool is. RFC 9562 byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The pool, new with every format; part of what every checksummed structure on it is seeded with.
    pub pool: [u8; 16],
    /// The cluster, which names the subsystem that hosts see.
    pub cluster: [u8; 16],
    /// The node.
    pub node: [u8; 16],
}

/// What is fixed when a pool is made, from which every place follows. Only drives can join later, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// How many shards, 1 to [`SHARDS_MAX`].
    pub shards: u16,
    /// Size of a segment, a power of two from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u32,
    /// Size of one half of the directory's area.
    pub directory_half_bytes: u32,
    /// The largest addressable block of all drives, 512 or 4096: nothing is placed at a finer grain.
    pub block_bytes: u32,
    /// Sizes of the drives in the pool's order, as they were when they joined it.
    pub drive_bytes: Vec<u64>,
    /// With how many drives the pool was made, the first ones; root slots lie on these, so that drives that join later
    /// move nothing. 1 to the number of drives.
    pub founders: u16,
}

/// One drive's share of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveLayout {
    /// Bytes of the drive that the pool uses: its size when it joined.
    pub size_bytes: u64,
    /// The number of its first segment.
    pub first_segment: SegmentId,
    /// How many segments it has.
    pub segments: u32,
    /// Where its first segment begins.
    pub data_start: u64,
    /// Where its second root slots begin.
    pub(crate) tail_start: u64,
}

/// Every place of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    identity: Identity,
    geometry: Geometry,
    drives: Vec<DriveLayout>,
    segments: u32,
}

/// The part of drive 0 that the directory writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryArea {
    /// The drive.
    pub drive: DriveId,
    /// Where its two halves begin.
    pub halves: [u64; 2],
    /// Size of one half.
    pub half_bytes: u32,
}

/// A geometry that no pool can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Blocks are 512 or 4096 bytes.
    BlockBytes(u32),
    /// Not a multiple of 4096 within its bounds.
    DirectoryHalfBytes(u32),
    /// No drive, or more than [`DRIVES_MAX`].
    Drives(usize),
    /// Made with none, or with more drives than there are.
    Founders(u16),
    /// Not a power of two within its bounds.
    SegmentBytes(u32),
    /// None, or more than [`SHARDS_MAX`].
    Shards(u16),
    /// A drive has no room for the fixed areas and one segment.
    DriveTooSmall {
        /// The drive.
        drive: DriveId,
        /// Its size in bytes.
        size_bytes: u64,
        /// The smallest size that would do.
        needed_bytes: u64,
    },
    /// Fewer than [`SEGMENTS_PER_SHARD_MIN`] segments for each shard.
    TooFewSegments {
        /// Segments that fit on the drives.
        segments: u64,
        /// Segments that are needed.
        needed: u32,
    },
    /// More segments than a segment's number can name.
    TooManySegments(u64),
}

impl Layout {
    /// Places everything.
    ///
    /// # Errors
    /// When the geometry is out of bounds or the drives have no room for it.
    pub fn new(identity: Identity, geometry: Geometry) -> Result<Self, GeometryError> {
        geometry.check_bounds()?;
        let mut drives = Vec::with_capacity(geometry.drive_bytes.len());
        let mut first_segment = 0_u64;
        for (drive, &size_bytes) in (0..).map(DriveId).zip(&geometry.drive_bytes) {
            let data_start = geometry.data_start(drive);
            let segment_bytes = u64::from(geometry.segment_bytes);
            let needed_bytes = data_start + segment_bytes + geometry.tail_bytes();
            if size_bytes < needed_bytes {
                return Err(GeometryError::DriveTooSmall { drive, size_bytes, needed_bytes });
            }
            let tail_start = size_bytes / ALIGNMENT * ALIGNMENT - geometry.tail_bytes();
            let segments = (tail_start - data_start) / segment_bytes;
            let next = first_segment + segments;
            let (Ok(first), Ok(count), Ok(_)) =
                (u32::try_from(first_segment), u32::try_from(segments), u32::try_from(next))
            else {
                return Err(GeometryError::TooManySegments(next));
            };
            let first_of_drive = SegmentId(first);
            drives.push(DriveLayout {
                size_bytes,
                first_segment: first_of_drive,
                segments: count,
                data_start,
                tail_start,
            });
            first_segment = next;
        }
        let needed = u32::from(geometry.shards) * SEGMENTS_PER_SHARD_MIN;
        if first_segment < u64::from(needed) {
            return Err(GeometryError::TooFewSegments { segments: first_segment, needed });
        }
        let segments =
            u32::try_from(first_segment).map_err(|_| GeometryError::TooManySegments(first_segment))?;
        Ok(Self { identity, geometry, drives, segments })
    }

    /// Whose the pool is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was fixed when the pool was made.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.geometry.shards
    }

    /// Size of a segment in bytes, a power of two.
    #[must_use]
    pub fn segment_bytes(&self) -> u32 {
        self.geometry.segment_bytes
    }

    /// How much of a segment the log may fill; what is left, 1/64, is for a summary of it. Segments below 256 KiB have
    /// no summary.
    #[must_use]
    pub fn log_bytes(&self) -> u32 {
        let summary_bytes = self.geometry.segment_bytes / 64 / 4096 * 4096;
        self.geometry.segment_bytes - summary_bytes
    }

    /// The finest grain at which anything is placed: 512 or 4096.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.geometry.block_bytes
    }

    /// How many segments all drives have together.
    #[must_use]
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// The drives, in the order of their numbers.
    #[must_use]
    pub fn drives(&self) -> &[DriveLayout] {
        &self.drives
    }

    /// Where a segment begins; it ends [`Layout::segment_bytes`] later, on the same drive.
    ///
    /// # Panics
    /// If the pool has no such segment: check numbers read from a drive with [`Layout::has_segment`] first.
    #[must_use]
    pub fn segment_place(&self, segment: SegmentId) -> (DriveId, u64) {
        assert!(self.has_segment(segment));
        // The drive is the last whose first segment is not beyond this one.
        let index = self.drives.partition_point(|drive| drive.first_segment <= segment) - 1;
        let drive = &self.drives[index];
        let within = u64::from(segment.0 - drive.first_segment.0);
        let number = u16::try_from(index).expect("a pool has at most DRIVES_MAX drives");
        (DriveId(number), drive.data_start + within * u64::from(self.geometry.segment_bytes))
    }

    /// Whether the pool has a segment of this number.
    #[must_use]
    pub fn has_segment(&self, segment: SegmentId) -> bool {
        segment.0 < self.segments
    }

    /// The two places of a shard's root, each [`ROOT_SLOT_BYTES`] long: one near the start of a drive, one at the end
    /// of the next drive (of the same, where there is only one), of those that the pool was made with. Zeros where none
    /// was written yet.
    ///
    /// # Panics
    /// If the pool has no such shard.
    #[must_use]
    pub fn root_slots(&self, shard: ShardId) -> [(DriveId, u64); 2] {
        assert!(shard.0 < self.geometry.shards);
        let count = self.geometry.founders;
        let first = shard.0 % count;
        let second = (shard.0 + 1) % count;
        let within = u64::from(shard.0) * u64::from(ROOT_SLOT_BYTES);
        [
            (DriveId(first), ROOT_SLOTS_OFFSET + within),
            (DriveId(second), self.drives[usize::from(second)].tail_start + within),
        ]
    }

    /// The directory's place.
    #[must_use]
    pub fn directory(&self) -> DirectoryArea {
        let half_bytes = self.geometry.directory_half_bytes;
        DirectoryArea {
            drive: DriveId(0),
            halves: [HEAD_BYTES, HEAD_BYTES + u64::from(half_bytes)],
            half_bytes,
        }
    }
}

impl Geometry {
    /// Whether this is `earlier` with drives that have joined since.
    pub(crate) fn extends(&self, earlier: &Self) -> bool {
        let has_more = self.drive_bytes.len() > earlier.drive_bytes.len();
        let drive_bytes = earlier.drive_bytes.clone();
        has_more
            && self.drive_bytes.starts_with(&drive_bytes)
            && Self { drive_bytes, ..self.clone() } == *earlier
    }

    /// Bytes at the end of every drive that hold second root slots.
    fn tail_bytes(&self) -> u64 {
        u64::from(self.shards) * u64::from(ROOT_SLOT_BYTES)
    }

    fn data_start(&self, drive: DriveId) -> u64 {
        let directory_bytes = if drive.0 == 0 { 2 * u64::from(self.directory_half_bytes) } else { 0 };
        let grain = u64::from(self.segment_bytes.min(STRIPE_BYTES));
        (HEAD_BYTES + directory_bytes).next_multiple_of(grain)
    }

    fn check_bounds(&self) -> Result<(), GeometryError> {
        if self.shards == 0 || self.shards > SHARDS_MAX {
            return Err(GeometryError::Shards(self.shards));
        }
        if !self.segment_bytes.is_power_of_two()
            || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
        {
            return Err(GeometryError::SegmentBytes(self.segment_bytes));
        }
        if !self.directory_half_bytes.is_multiple_of(4096)
            || !(DIRECTORY_HALF_BYTES_MIN..=DIRECTORY_HALF_BYTES_MAX).contains(&self.directory_half_bytes)
        {
            return Err(GeometryError::DirectoryHalfBytes(self.directory_half_bytes));
        }
        if self.block_bytes != 512 && self.block_bytes != 4096 {
            return Err(GeometryError::BlockBytes(self.block_bytes));
        }
        if self.drive_bytes.is_empty() || self.drive_bytes.len() > DRIVES_MAX {
            return Err(GeometryError::Drives(self.drive_bytes.len()));
        }
        if self.founders == 0 || usize::from(self.founders) > self.drive_bytes.len() {
            return Err(GeometryError::Founders(self.founders));
        }
        Ok(())
    }
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockBytes(bytes) => write!(f, "blocks of {bytes} bytes: only 512 and 4096 are supported"),
            Self::DirectoryHalfBytes(bytes) => write!(
                f,
                "directory halves of {bytes} bytes: a multiple of 4096 from {DIRECTORY_HALF_BYTES_MIN} to \
                 {DIRECTORY_HALF_BYTES_MAX} is needed"
            ),
            Self::Drives(count) => write!(f, "{count} drives: a pool has 1 to {DRIVES_MAX}"),
            Self::Founders(count) => write!(f, "made with {count} drives, which the pool does not have"),
            Self::SegmentBytes(bytes) => write!(
                f,
                "segments of {bytes} bytes: a power of two from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} is needed"
            ),
            Self::Shards(count) => write!(f, "{count} shards: a pool has 1 to {SHARDS_MAX}"),
            Self::DriveTooSmall { drive, size_bytes, needed_bytes } => write!(
                f,
                "drive {} is too small: it has {size_bytes} bytes and needs at least {needed_bytes}",
                drive.0
            ),
            Self::TooFewSegments { segments, needed } => write!(
                f,
                "the drives have room for {segments} segments and the pool's shards need at least {needed}: use \
                 larger drives, smaller segments or fewer shards"
            ),
            Self::TooManySegments(segments) => {
                write!(f, "{segments} segments are more than a pool can number: use larger segments")
            }
        }
    }
}

impl std::error::Error for GeometryError {}

#[cfg(test)]
mod test;
