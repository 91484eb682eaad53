//! What a shard is asked to do, and what it answers.

use std::fmt;

use io::{Buffer, DiskError, DriveId, Shared, Slice};

use crate::{SegmentId, VolumeId};

/// Bytes of a block, the unit in which the store maps and checks data.
pub const BLOCK_BYTES: u32 = 4096;
/// Bytes of a sector, the unit in which requests are made.
pub const SECTOR_BYTES: u32 = 512;
/// The longest request that carries data.
pub const DATA_BYTES_MAX: u64 = 1 << 20;

/// A request for one shard. `offset` and `len` are in bytes of the volume's part in this shard, multiples of 512.
#[derive(Debug)]
pub struct Request<B: Buffer> {
    /// Comes back with the answer.
    pub tag: u64,
    /// Which volume or image; a volume comes into being with its first write.
    pub volume: VolumeId,
    /// First byte.
    pub offset: u64,
    /// Length in bytes: not zero, and at most [`DATA_BYTES_MAX`] where data moves; not looked at by
    /// [`Op::Flush`], [`Op::Fork`], [`Op::DropVolume`] and [`Op::DropFrom`].
    pub len: u64,
    /// Whether the blocks that it writes are compressed where that saves something; blocks of zeros are never stored.
    pub compress: bool,
    /// What to do.
    pub op: Op<B>,
}

/// What a request does. Of overlapping requests that change data the one that was submitted first comes first.
#[derive(Debug)]
pub enum Op<B: Buffer> {
    /// Reads into `buffer`, which is at least `len` bytes long and comes back with the answer, whatever that is.
    /// What was never written, or was deallocated, reads as zeros. What is under way and not yet answered may or may
    /// not be seen, each block as a whole.
    Read {
        /// Where the data goes, from its first byte.
        buffer: B,
    },
    /// Writes `len` bytes, all of them or none.
    Write {
        /// The data.
        data: Payload<B::Shared>,
        /// Force Unit Access: answered only once a power cut cannot take it away.
        fua: bool,
    },
    /// Makes the range read as zeros, exactly; `len` may span the volume.
    WriteZeroes {
        /// As for a write.
        fua: bool,
    },
    /// Gives up the whole blocks within the range; `len` may span the volume. What remains at the edges is untouched.
    Deallocate,
    /// Compares what is stored with `data`.
    Compare {
        /// What is expected.
        data: Payload<B::Shared>,
    },
    /// Compares, and writes if equal, with no other write to the range in between.
    CompareAndWrite {
        /// What is expected.
        compare: Payload<B::Shared>,
        /// What is written then, as long as `compare`.
        write: Payload<B::Shared>,
        /// As for a write.
        fua: bool,
    },
    /// Reads and checks without giving the data to anybody.
    Verify,
    /// Answered once everything that this shard has answered so far is safe from a power cut.
    Flush,
    /// Forgets the volume or image; answered when what it alone held is given back. The caller sends nothing else for
    /// it any more.
    DropVolume,
    /// Forgets all whole blocks from `offset` on.
    DropFrom,
    /// Makes an image of what the volume holds, in a time that does not depend on how much that is. What was answered
    /// before this is submitted is in it, what is submitted after it is not. [`Output::Forked`] tells as soon as its
    /// place in the order is fixed; it is answered once a power cut cannot take it away. Only then the image may be
    /// used.
    Fork {
        /// The image's number, never used before.
        image: VolumeId,
        /// Whether it takes no changes.
        read_only: bool,
    },
}

/// Data of a request in one or more pieces.
#[derive(Clone, Debug)]
pub struct Payload<S> {
    first: Slice<S>,
    rest: Vec<Slice<S>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// What is stored is not what was compared with; nothing was changed.
    CompareFailed,
    /// The image is read-only; nothing was changed.
    ReadOnly,
    /// The pool has no room; nothing was changed.
    CapacityExceeded,
    /// A block cannot be read, or is not what was written.
    Unrecovered,
    /// The shard has stopped, see [`Output::Failed`]. Whether a write happened is not known.
    Failed,
}

/// What a shard tells its driver.
#[derive(Debug)]
pub enum Output<B: Buffer> {
    /// A request has ended.
    Done {
        /// As submitted.
        tag: u64,
        /// How it ended.
        outcome: Outcome,
        /// The buffer of a read.
        buffer: Option<B>,
    },
    /// The place of a [`Op::Fork`] in the order of changes is fixed: what is submitted from now on is not in the image.
    /// Its answer follows.
    Forked {
        /// As submitted.
        tag: u64,
    },
    /// The shard needs a segment; answer with [`super::Shard::handle_grant`]. One question is open at a time.
    WantSegment {
        /// True where the shard needs it to make room; it may then have the pool's last segments.
        cleaning: bool,
    },
    /// The pool may give these segments to any shard: no root refers to them and no read of them is under way.
    Release(Vec<SegmentId>),
    /// Recovery has ended. Requests may be submitted once every shard has reported its segments to the pool.
    Ready {
        /// Every segment that the shard owns, in order.
        segments: Vec<SegmentId>,
        /// Every volume and image of which it has anything, in order. Those that nobody knows are to be dropped.
        volumes: Vec<VolumeId>,
    },
    /// The end of [`super::Shard::checkpoint_and_stop`]: everything is durable and nothing is under way.
    Stopped,
    /// The shard cannot go on; everything that was asked of it has been or will be answered with
    /// [`Outcome::Failed`].
    Failed(Failure),
}

/// Why a shard has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A drive failed while the shard did this.
    Disk {
        /// What.
        doing: Doing,
        /// How it failed.
        error: DiskError,
    },
    /// A root slot is unreadable as a root. The other may be the older one, which does not tell what happened since.
    RootsDamaged,
    /// A root is of a later format.
    RootVersion(u32),
    /// A root belongs to another pool, shard or layout.
    RootForeign(DriveId),
    /// A part of the checkpoint that the root names is not what was written.
    CheckpointDamaged {
        /// Where it is named to be.
        segment: SegmentId,
        /// Byte offset in the segment.
        offset: u32,
    },
    /// The log ends before what a root says was durable.
    LogDamaged {
        /// The last batch that is whole.
        found: u64,
        /// The batch that the log must reach.
        expected: u64,
    },
}

/// What a shard was doing when a drive failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Appending to the log.
    WriteLog,
    /// Flushing a drive.
    Flush,
    /// Writing a root.
    WriteRoot,
    /// Reading at recovery.
    Recover,
    /// Reading a page of the map.
    ReadMap,
}

impl<S: Shared> Payload<S> {
    /// Data in one piece.
    pub fn new(first: Slice<S>) -> Self {
        Self { first, rest: Vec::new() }
    }

    /// Appends a piece.
    pub fn push(&mut self, piece: Slice<S>) {
        self.rest.push(piece);
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().map(|piece| piece.len()).sum()
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `to.len()` bytes from `offset` on.
    ///
    /// # Panics
    /// If the data ends before that.
    pub(crate) fn copy_to(&self, offset: usize, to: &mut [u8]) {
        let len = to.len();
        let mut done = 0;
        self.visit(offset, len, |bytes| {
            to[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
            true
        });
        assert!(done == len, "a payload is as long as its request");
    }

    /// Whether the bytes from `offset` on are `other`.
    pub(crate) fn equals(&self, offset: usize, other: &[u8]) -> bool {
        let mut done = 0;
        self.visit(offset, other.len(), |bytes| {
            let same = other[done..done + bytes.len()] == *bytes;
            done += bytes.len();
            same
        }) && done == other.len()
    }

    /// The bytes from `offset` on as they lie in one piece, or else copied to `scratch`, which they fill.
    pub(crate) fn in_one_piece<'a>(&'a self, offset: usize, scratch: &'a mut [u8]) -> &'a [u8] {
        let (mut skip, len) = (offset, scratch.len());
        for piece in self.pieces() {
            if skip < piece.len() {
                if let Some(bytes) = piece.get(skip..skip + len) {
                    return bytes;
                }
                break;
            }
            skip -= piece.len();
        }
        self.copy_to(offset, scratch);
        scratch
    }

    /// Whether the `len` bytes from `offset` on are all zero.
    pub(crate) fn is_zero(&self, offset: usize, len: usize) -> bool {
        self.visit(offset, len, crate::pool::bytes::is_zero)
    }

    /// Shows `each` the bytes of the range until it says false; true if it never did.
    fn visit(&self, offset: usize, len: usize, mut each: impl FnMut(&[u8]) -> bool) -> bool {
        let mut skip = offset;
        let mut left = len;
        for piece in self.pieces() {
            if left == 0 {
                break;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = left.min(piece.len() - skip);
            if !each(&piece[skip..skip + take]) {
                return false;
            }
            skip = 0;
            left -= take;
        }
        true
    }

    fn pieces(&self) -> impl Iterator<Item = &Slice<S>> {
        std::iter::once(&self.first).chain(self.rest.iter())
    }
}

impl<S: Shared> From<Slice<S>> for Payload<S> {
    fn from(first: Slice<S>) -> Self {
        Self::new(first)
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteLog => "writing the log",
            Self::Flush => "flushing",
            Self::WriteRoot => "writing a root",
            Self::Recover => "recovering",
            Self::ReadMap => "reading the map",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { doing, error } => write!(f, "{doing} failed: {error}"),
            Self::RootsDamaged => write!(f, "a root slot is damaged, and the other may not be the newer one"),
            Self::RootVersion(version) => {
                write!(
                    f,
                    "the pool has format version {version}, this program reads {} alone: start the program that wrote it, \
                     or move the volumes with export and import",
                    crate::root::ROOT_VERSION
                )
            }
            Self::RootForeign(drive) => write!(f, "the root on drive {} belongs to another pool", drive.0),
            Self::CheckpointDamaged { segment, offset } => {
                write!(f, "the checkpoint is damaged in segment {} at byte {offset}", segment.0)
            }
            Self::LogDamaged { found, expected } => {
                write!(f, "the log ends at batch {found}, although batch {expected} was durable")
            }
        }
    }
}

impl std::error::Error for Failure {}
