//! What cleaning reads of its victim: a stretch of the segment at once, of which headers and live blocks are then
//! taken, instead of one operation for every header and every run of live blocks.
//!
//! Where little is live that would read much for nothing: such victims, and what could not be read in one piece, are
//! read header by header and run by run.

use io::{Buffer, Disk, Extent, Purpose};

use super::Shard;
use super::read::ReadFor;
use crate::SegmentId;
use crate::record::{ALIGNMENT, BatchHeader};

/// The most that is read at once.
const STRETCH_BYTES: u32 = 512 << 10;
/// Victims of which less than this share is live are not read in stretches.
const SPARSE_DIVISOR: u64 = 8;

/// A part of a segment in memory.
#[derive(Debug)]
pub(super) struct Stretch<B> {
    segment: SegmentId,
    /// Where it begins in the segment.
    offset: u32,
    bytes: B,
}

impl<B: Buffer> Stretch<B> {
    /// `len` bytes at `offset` of the segment, if all of them are here.
    fn part(&self, segment: SegmentId, offset: u32, len: u32) -> Option<&[u8]> {
        let start = offset.checked_sub(self.offset)? as usize;
        self.bytes.get(start..start + len as usize).filter(|_| segment == self.segment)
    }
}

/// How the next batch of the victim is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// By itself.
    Alone,
    /// It is in memory.
    Here,
    /// With what comes behind it, now.
    Ahead,
    /// The same, once the blocks that were noted are taken out of what is in memory.
    BlocksFirst,
}

impl<B: Buffer> Shard<B> {
    /// Whether so many live bytes are worth a look at all of a segment.
    pub(super) fn is_dense(&self, live: u64) -> bool {
        live >= self.space.usable_bytes() / SPARSE_DIVISOR
    }

    /// How the batch at `offset` of the victim is to be read; `noted` if live blocks were found that are not read yet.
    pub(super) fn next_clean_read(&self, segment: SegmentId, offset: u32, noted: bool) -> Next {
        let stretch = self.cleaner.stretch.as_ref().filter(|stretch| stretch.segment == segment);
        let head = stretch.and_then(|stretch| stretch.part(segment, offset, ALIGNMENT));
        let batch = head.map(|head| BatchHeader::peek(head).map_or(ALIGNMENT, |header| header.total_bytes));
        match (stretch, batch) {
            (Some(stretch), Some(batch)) if stretch.part(segment, offset, batch).is_some() => Next::Here,
            (Some(stretch), _) if stretch.offset == offset => Next::Alone,
            _ if noted => Next::BlocksFirst,
            _ => Next::Ahead,
        }
    }

    /// Reads the victim from `offset` on; false if there is no memory for that.
    pub(super) fn read_stretch<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        segment: SegmentId,
        offset: u32,
    ) -> bool {
        self.cleaner.stretch = None;
        let len = self.layout.log_bytes().saturating_sub(offset).min(STRETCH_BYTES);
        let Some(buffer) = (len > 0).then(|| disk.allocate(len as usize, Purpose::Log)).flatten() else {
            return false;
        };
        let (drive, start) = self.layout.segment_place(segment);
        let extent = Extent { drive, offset: start + u64::from(offset), start: 0, len };
        self.start_raw_read(disk, &[extent], buffer, ReadFor::CleanAhead { segment, offset });
        true
    }

    /// A stretch was read.
    pub(super) fn on_clean_ahead(&mut self, segment: SegmentId, offset: u32, bytes: B, good: bool) {
        if self.cleaner.on_stretch(good) {
            self.cleaner.stretch = Some(Stretch { segment, offset, bytes });
        }
    }

    /// Reads parts of the victim for cleaning, from memory if `may_copy` and all of them are there.
    pub(super) fn start_clean_read<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        segment: SegmentId,
        (extents, mut buffer): (&[Extent], B),
        purpose: ReadFor<B>,
        may_copy: bool,
    ) {
        let (_, start) = self.layout.segment_place(segment);
        let found = |extent: &Extent| {
            let offset = u32::try_from(extent.offset - start).ok()?;
            self.cleaner.stretch.as_ref()?.part(segment, offset, extent.len)
        };
        if !may_copy || !extents.iter().all(|extent| found(extent).is_some()) {
            self.start_raw_read(disk, extents, buffer, purpose);
            return;
        }
        for extent in extents {
            if let Some(bytes) = found(extent) {
                buffer[extent.start as usize..][..extent.len as usize].copy_from_slice(bytes);
            }
        }
        match purpose {
            ReadFor::CleanHeader => self.on_clean_header(buffer, true),
            ReadFor::CleanBlocks => self.on_clean_blocks(buffer, true),
            _ => unreachable!("cleaning reads headers and blocks"),
        }
    }
}
