//! Why drives cannot be opened as a pool: what was found, and what to do about it.

use std::fmt;

use io::{DiskError, DriveId};
use thiserror::Error;

use super::{DRIVES_MAX, GeometryError};
use crate::superblock::FORMAT_VERSION;

/// Why a pool was refused. Drives are numbered from 0 in the order in which they were given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    /// Every drive is blank and formatting was not allowed.
    #[error("the drives are blank: nothing was ever stored on them; allow formatting to make a pool of them")]
    Blank,
    /// One drive is blank and others are a pool.
    #[error(
        "drive {} is blank, but the other drives belong to a pool that expects its own drive there: give the \
         drive that was there before", .0.0
    )]
    BlankMember(DriveId),
    /// A drive addresses larger blocks than the pool was made for.
    #[error(
        "drive {} has blocks of {found} bytes and the pool was made for {expected}: use a drive with blocks of \
         {expected} bytes", drive.0
    )]
    BlockBytes {
        /// The drive.
        drive: DriveId,
        /// Bytes of a block that the drive has.
        found: u32,
        /// Bytes of a block that the pool was made for.
        expected: u32,
    },
    /// Neither superblock of a drive is whole.
    #[error(
        "both superblocks of drive {} are damaged: the drive held a pool; restore it from a copy, or make its first and \
         last MiB zero to use it anew", .0.0
    )]
    Damaged(DriveId),
    /// Superblocks of one pool contradict each other.
    #[error(
        "drive {} carries the pool's UUID and contradicts drive {} about its shape: one of them is an old copy; give \
         the one that was in use", drive.0, other.0
    )]
    Disagree {
        /// The drive.
        drive: DriveId,
        /// The drive that it contradicts.
        other: DriveId,
    },
    /// A drive could not be read, written or flushed.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// A drive was given twice, or is a copy of another.
    #[error("drives {} and {} are the same drive of the pool, or copies of each other: give it once", first.0, second.0)]
    Duplicate {
        /// The drive.
        first: DriveId,
        /// The drive again.
        second: DriveId,
    },
    /// More drives than the pool has.
    #[error(
        "the pool has {expected} drives and {given} were given, of which the others are not blank: leave them out, or \
         make their first and last MiB zero to let them join"
    )]
    Extra {
        /// How many drives the pool has.
        expected: u16,
        /// How many were given.
        given: u16,
    },
    /// A drive needs features that this program does not have.
    #[error(
        "drive {} needs features {features:#x} of a newer ferrule: start the ferrule that wrote it", drive.0
    )]
    Features {
        /// The drive.
        drive: DriveId,
        /// A bit for each.
        features: u64,
    },
    /// A drive is neither blank nor of a pool.
    #[error(
        "drive {} is not a ferrule pool and not blank (byte {offset}): check the path; if its contents may be lost, \
         make its first and last MiB zero, for example with blkdiscard --zeroout", drive.0
    )]
    Foreign {
        /// The drive.
        drive: DriveId,
        /// Where something was found, within 64 KiB.
        offset: u64,
    },
    /// The drives have no room for what was asked.
    #[error("{0}")]
    Geometry(#[from] GeometryError),
    /// Drives of the pool were not given.
    #[error("the pool has {expected} drives and these were not given: {missing}; give all of them")]
    Missing {
        /// How many drives the pool has.
        expected: u16,
        /// Which of them are missing.
        missing: DriveSet,
    },
    /// Drives of different pools.
    #[error("drives {} and {} belong to different pools: give the drives of one", first.0, second.0)]
    Mixed {
        /// A drive of one.
        first: DriveId,
        /// A drive of another.
        second: DriveId,
    },
    /// A drive is smaller than it was.
    #[error(
        "drive {} has {found} bytes and had {expected} when the pool was made: part of the pool is cut off; restore \
         its size before anything else", drive.0
    )]
    Shrunk {
        /// The drive.
        drive: DriveId,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it had.
        expected: u64,
    },
    /// More drives than a pool can have, or none.
    #[error("{0} drives were given and a pool has 1 to {DRIVES_MAX}")]
    TooManyDrives(u16),
    /// The format of a pool was cut short, and formatting was not allowed now.
    #[error("making the pool was interrupted and nothing was stored yet: allow formatting to make it anew")]
    Unfinished,
    /// A format that this program does not know.
    #[error(
        "drive {} has format {version} and this ferrule knows {FORMAT_VERSION}: start the ferrule that wrote it", drive.0
    )]
    Version {
        /// The drive.
        drive: DriveId,
        /// The version found.
        version: u32,
    },
    /// The drives were given in another order.
    #[error(
        "drive {} is the pool's drive {}: give the drives in the pool's order", given.0, actual.0
    )]
    WrongOrder {
        /// Where it was given.
        given: DriveId,
        /// What it is.
        actual: DriveId,
    },
}

/// Drives of a pool, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriveSet(pub u32);

impl fmt::Display for DriveSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, drive) in (0..32).filter(|drive| self.0 >> drive & 1 == 1).enumerate() {
            write!(f, "{}{drive}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

const _: () = assert!(DRIVES_MAX <= 32, "a drive set has a bit for each drive");
