//! Drives: reads into parts of one buffer, writes of one buffer, flushes.

use std::fmt;

use crate::{Memory, Token};

/// A drive that was opened when the reactor was made; the same number means the same drive on every reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriveId(pub u16);

/// What a drive is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveShape {
    /// Usable size in bytes, a multiple of `block_bytes`.
    pub size_bytes: u64,
    /// Unit in which it must be addressed and which it writes whole or not at all: 512 or 4096.
    pub block_bytes: u32,
    /// True where an acknowledged write may still be lost by a power cut until a flush: every file, and block
    /// devices whose `queue/write_cache` says `write back`.
    pub volatile_cache: bool,
}

/// A stretch of a drive that goes to a stretch of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it is read from.
    pub drive: DriveId,
    /// Offset on the drive in bytes, a multiple of its block.
    pub offset: u64,
    /// Offset in the buffer in bytes, a multiple of the drive's block.
    pub start: u32,
    /// Length in bytes, a multiple of the drive's block, not zero.
    pub len: u32,
}

/// The drives of the pool. Operations that are under way together complete in any order; a read that overlaps a
/// write under way returns any mixture of blocks before and after it.
pub trait Disk: Memory {
    /// What the drive is like.
    ///
    /// # Panics
    /// If there is no such drive.
    fn drive(&self, drive: DriveId) -> DriveShape;

    /// How many drives there are; their numbers are `0..drives()`.
    fn drives(&self) -> u16;

    /// Reads all `extents` (at most 256 of them, without overlap in the buffer); one [`crate::Event::Read`] comes
    /// when the last has ended. The first error decides the result; the buffer's contents are then unspecified.
    fn read(&mut self, token: Token, buffer: Self::Buffer, extents: &[Extent]);

    /// Writes the first `len` bytes of `buffer` at `offset`; one [`crate::Event::Written`] comes.
    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: Self::Buffer, len: u32);

    /// Makes every write that completed before this call durable; one [`crate::Event::Flushed`] comes. Where the
    /// drive has no volatile cache it comes at once.
    fn flush(&mut self, token: Token, drive: DriveId);
}

/// A disk operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What kind of failure.
    pub kind: DiskErrorKind,
    /// The drive.
    pub drive: DriveId,
    /// Offset of the operation in bytes (0 for a flush).
    pub offset: u64,
    /// Length of the operation in bytes (0 for a flush).
    pub len: u32,
    /// The system's error number, 0 where it gave none.
    pub errno: i32,
}

/// Kinds of disk failure that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// The drive could not read or write these blocks.
    Media,
    /// The drive is gone or refuses everything.
    Gone,
    /// The drive, or the file system under a pool file, has no room.
    NoSpace,
    /// Fewer bytes moved than were asked for, although none failed.
    Short,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DiskErrorKind::Media => "media error",
            DiskErrorKind::Gone => "drive does not answer",
            DiskErrorKind::NoSpace => "no space under the drive",
            DiskErrorKind::Short => "short transfer",
        };
        write!(f, "{what} on drive {} at byte {} for {} bytes", self.drive.0, self.offset, self.len)?;
        if self.errno != 0 {
            write!(f, " (errno {})", self.errno)?;
        }
        Ok(())
    }
}

impl std::error::Error for DiskError {}
