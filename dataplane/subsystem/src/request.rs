//! What the target asks of whoever stores the data, and the answer.

use io::{Buffer, Segment, Slice};
use nvme::Status;

/// Names a request to the [`crate::Ports`] that made it; unique as long as it is unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A stretch of a namespace in bytes, a multiple of its logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset_bytes: u64,
    /// Length, not zero.
    pub len_bytes: u64,
}

/// A command that has passed every check: it lies within the namespace, the host may see it, the data is here.
#[derive(Debug)]
pub struct Request<B: Buffer> {
    /// Goes back with [`crate::Ports::complete`], exactly once.
    pub id: RequestId,
    /// The namespace.
    pub nsid: u32,
    /// What to do.
    pub operation: Operation<B>,
}

/// What a request does.
#[derive(Debug)]
pub enum Operation<B: Buffer> {
    /// Read `range` (at most [`crate::limits::TRANSFER_BYTES_MAX`]).
    Read {
        /// Where.
        range: ByteRange,
    },
    /// Write `data` at `offset_bytes`.
    Write {
        /// First byte.
        offset_bytes: u64,
        /// The payload.
        data: Slice<B::Shared>,
        /// Force unit access: answer only once it is on stable media.
        fua: bool,
    },
    /// Make every completed write of the namespace durable.
    Flush,
    /// Make the range read as zeros.
    WriteZeroes {
        /// Where.
        range: ByteRange,
        /// The host wants the blocks deallocated.
        deallocate: bool,
        /// Force unit access.
        fua: bool,
    },
    /// The host needs these ranges no more; they read as zeros afterwards. Never empty.
    Deallocate {
        /// Where, in the host's order; they may overlap.
        ranges: Vec<ByteRange>,
    },
    /// Compare `data` with what is stored at `offset_bytes`: success or Compare Failure.
    Compare {
        /// First byte.
        offset_bytes: u64,
        /// What the host expects.
        data: Slice<B::Shared>,
    },
    /// Compare, then write in the same place, with nothing in between; within one stripe.
    CompareAndWrite {
        /// First byte.
        offset_bytes: u64,
        /// What is compared and written.
        pair: Box<PairData<B::Shared>>,
        /// Force unit access of the write.
        fua: bool,
    },
    /// Check that the range can be read.
    Verify {
        /// Where.
        range: ByteRange,
    },
}

/// The data of a fused pair, of the same length.
#[derive(Debug)]
pub struct PairData<S> {
    /// What the host expects.
    pub compare: Slice<S>,
    /// What to write where it is so.
    pub write: Slice<S>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Completion<B: Buffer> {
    /// How it ended.
    pub status: Status,
    /// What was read: exactly the range's length after a successful Read, else nothing.
    pub data: Pieces<B>,
}

/// One part of what was read.
#[derive(Debug)]
pub enum Piece<B: Buffer> {
    /// A part of a buffer, which goes home once it is sent.
    Owned {
        /// The memory.
        buffer: B,
        /// First byte.
        start: u32,
        /// Length in bytes, not zero.
        len: u32,
    },
    /// A part of shared memory.
    Shared(Slice<B::Shared>),
    /// Zeros that nobody has to store.
    Zeroes {
        /// Length in bytes, not zero.
        len: u32,
    },
}

/// Up to two pieces in order, without an allocation: a command touches at most two stripes.
#[derive(Debug)]
pub struct Pieces<B: Buffer> {
    pieces: [Option<Piece<B>>; 2],
}

impl<B: Buffer> Completion<B> {
    /// An answer without data.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        Self { status, data: Pieces::none() }
    }
}

impl<B: Buffer> Pieces<B> {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { pieces: [None, None] }
    }

    /// One piece.
    #[must_use]
    pub const fn one(piece: Piece<B>) -> Self {
        Self { pieces: [Some(piece), None] }
    }

    /// Two pieces, the first one first.
    #[must_use]
    pub const fn two(first: Piece<B>, second: Piece<B>) -> Self {
        Self { pieces: [Some(first), Some(second)] }
    }

    /// Bytes in all.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let [first, second] = &self.pieces;
        first.as_ref().map_or(0, Piece::len_bytes) + second.as_ref().map_or(0, Piece::len_bytes)
    }

    /// True where there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pieces[0].is_none()
    }

    /// Takes the next piece out.
    #[inline]
    pub fn take(&mut self) -> Option<Piece<B>> {
        let [first, second] = &mut self.pieces;
        let taken = first.take();
        if second.is_some() {
            *first = second.take();
        }
        taken
    }
}

impl<B: Buffer> From<Piece<B>> for Segment<B> {
    #[inline]
    fn from(piece: Piece<B>) -> Self {
        match piece {
            Piece::Owned { buffer, start, len } => Self::Owned { buffer, start, len },
            Piece::Shared(slice) => Self::Shared(slice),
            Piece::Zeroes { len } => Self::Zeroes { len },
        }
    }
}

impl<B: Buffer> Piece<B> {
    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Owned { len, .. } | Self::Zeroes { len } => *len as usize,
            Self::Shared(slice) => slice.len(),
        }
    }
}

#[cfg(test)]
mod test {
    use std::ops::{Deref, DerefMut};

    use super::*;

    /// As large as what a reactor has.
    #[derive(Clone, Debug)]
    struct Handle {
        _words: [u64; 3],
    }

    impl Deref for Handle {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &[]
        }
    }

    impl DerefMut for Handle {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut []
        }
    }

    impl io::Shared for Handle {}

    impl Buffer for Handle {
        type Shared = Self;

        fn share(self) -> Self {
            self
        }
    }

    #[test]
    fn a_request_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Request<Handle>>(), 64);
    }
}
