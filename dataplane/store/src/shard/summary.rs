//! The summary of a segment: the headers and records of its batches once more, in one piece at its end, so that replay
//! reads them at once instead of one after another.
//!
//! A summary is a shortcut and never an authority. It is written when the log has left its segment, without waiting
//! for anything; replay holds what it finds there to the same chain of hashes as what it finds in the log, where it begins
//! and where it ends (between, the checksum of the whole stands for those of the headers and for their chain, which one
//! process wrote), and checks payloads where it would have checked them. A summary that is missing, old, torn or too short
//! costs time, nothing else.
//!
//! All integers are little-endian. It begins at [`crate::Layout::log_bytes`] of its segment.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `FeHEADS\n` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of the whole with this field zero |
//! | 16 | 4 | bytes in all, to the end of the last entry |
//! | 20 | 4 | number of entries |
//! | 24 | 4 | segment |
//! | 28 | 4 | the segment after the next, plus one; 0 where it is not known |
//! | 32 | 16 | pool UUID |
//! | 48 | 8 | generation of the segment |
//! | 56 | 4 | the segment after that, in the same way |
//! | 60 | 4 | the segment after that |
//!
//! An entry is a batch's header with its records, as they stand in the log. The next segment is in the seal, which is the
//! last of them; those after it are where the log was to go on, and may have gone elsewhere: recovery asks for their
//! summaries before it has come to them.

use io::{Buffer, Disk, DiskError, Purpose};

use super::recover::{Recovery, Stage};
use super::{Doing, Failure, Shard, TokenKind};
use crate::pool::bytes::{array, crc32c, put, u32_at, u64_at};
use crate::record::{ALIGNMENT, BatchHeader, HEADER_BYTES};
use crate::{Layout, SegmentId};

const SUMMARY_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"FeHEADS\n";
const CRC_OFFSET: usize = 12;
/// Bytes before the first entry.
const HEAD_BYTES: usize = 64;
/// Where it names the segments after the next.
const COMING_OFFSETS: [usize; 3] = [28, 56, 60];

/// The entries of the segment that the log is in.
#[derive(Debug, Default)]
pub(super) struct Summary {
    bytes: Vec<u8>,
    entries: u32,
    /// An entry did not fit: what follows it is read from the log.
    full: bool,
    /// Segments whose summaries are being written; they must not be used again before.
    pub(super) in_flight: Vec<SegmentId>,
}

impl Summary {
    /// Takes in a batch's header and records, if there is room.
    pub(super) fn note(&mut self, layout: &Layout, entry: &[u8]) {
        let room = (layout.segment_bytes() - layout.log_bytes()) as usize;
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD_BYTES, 0);
        }
        self.full |= self.bytes.len() + entry.len() > room;
        if !self.full {
            self.bytes.extend_from_slice(entry);
            self.entries += 1;
        }
    }

    /// Forgets the entries: the log is in another segment.
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries = 0;
        self.full = false;
    }

    /// Completes the head. `coming` are the segments after the next.
    fn seal(
        &mut self,
        layout: &Layout,
        (segment, generation): (SegmentId, u64),
        coming: impl Iterator<Item = SegmentId>,
    ) {
        let bytes = &mut self.bytes;
        let len = u32::try_from(bytes.len()).expect("a summary is part of a segment");
        put(bytes, 0, &MAGIC);
        put(bytes, 8, &SUMMARY_VERSION.to_le_bytes());
        put(bytes, 16, &len.to_le_bytes());
        put(bytes, 20, &self.entries.to_le_bytes());
        put(bytes, 24, &segment.0.to_le_bytes());
        put(bytes, 32, &layout.identity().pool);
        put(bytes, 48, &generation.to_le_bytes());
        for (offset, id) in COMING_OFFSETS.into_iter().zip(coming) {
            put(bytes, offset, &(id.0 + 1).to_le_bytes());
        }
        let crc = crc32c(&[bytes]);
        put(bytes, CRC_OFFSET, &crc.to_le_bytes());
    }
}

/// What the head of a summary says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    len: u32,
    entries: u32,
    coming: [Option<SegmentId>; COMING_OFFSETS.len()],
}

/// The head of the summary of a segment, if these bytes are one.
fn parse_head(layout: &Layout, segment: SegmentId, generation: u64, bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(..HEAD_BYTES)?;
    let (len, entries) = (u32_at(head, 16), u32_at(head, 20));
    let is_ours = head[..8] == MAGIC
        && u32_at(head, 8) == SUMMARY_VERSION
        && u32_at(head, 24) == segment.0
        && array::<16>(head, 32) == layout.identity().pool
        && u64_at(head, 48) == generation
        && len as usize >= HEAD_BYTES
        && len <= layout.segment_bytes() - layout.log_bytes();
    let coming = COMING_OFFSETS.map(|offset| u32_at(head, offset).checked_sub(1).map(SegmentId));
    is_ours.then_some(Head { len, entries, coming })
}

/// Whether a summary with this head is whole.
fn is_whole(head: Head, bytes: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..head.len as usize) else { return false };
    let crc = crc32c(&[&bytes[..CRC_OFFSET], &[0; 4], &bytes[CRC_OFFSET + 4..]]);
    crc == u32_at(bytes, CRC_OFFSET)
}

/// The entries of a summary that is whole.
fn entries(head: Head, bytes: &[u8]) -> impl Iterator<Item = (BatchHeader, &[u8])> {
    let mut rest = &bytes[HEAD_BYTES..head.len as usize];
    let mut left = head.entries;
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let header = BatchHeader::peek(rest).ok()?;
        let (entry, after) = rest.split_at_checked(HEADER_BYTES + header.record_bytes as usize)?;
        rest = after;
        Some((header, entry))
    })
}

impl<B: Buffer> Shard<B> {
    /// The log leaves a segment: writes the summary of what it holds. Without memory for it there is none.
    pub(super) fn write_summary<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        segment: SegmentId,
        generation: u64,
    ) {
        // With fewer, the head costs as much as they would.
        const ENTRIES_MIN: u32 = 3;
        if self.summary.entries >= ENTRIES_MIN {
            self.summary.seal(&self.layout, (segment, generation), self.space.coming_free());
            let len = self.summary.bytes.len().next_multiple_of(ALIGNMENT as usize);
            if let Some(mut buffer) = disk.allocate(len, Purpose::Log) {
                let (filled, rest) = buffer[..len].split_at_mut(self.summary.bytes.len());
                filled.copy_from_slice(&self.summary.bytes);
                rest.fill(0);
                let (drive, start) = self.layout.segment_place(segment);
                let len = u32::try_from(len).expect("a summary is part of a segment");
                self.stats.device_written_bytes += u64::from(len);
                self.summary.in_flight.push(segment);
                let token = self.token(TokenKind::Summary, u64::from(segment.0));
                disk.write(token, drive, start + u64::from(self.layout.log_bytes()), buffer, len);
            }
        }
        self.summary.clear();
    }

    /// A summary was written, or not: nothing depends on it but the time that replay takes.
    pub(super) fn on_summary_written(&mut self, number: u64) {
        self.summary.in_flight.retain(|segment| u64::from(segment.0) != number);
    }

    /// The log goes on where replay ended, over batches that are lost. A summary that still tells of them would be
    /// believed once the new epoch's batches are older than a root, so it must be gone before that epoch's root.
    pub(super) fn void_summary<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) {
        let has_summaries = self.layout.log_bytes() < self.layout.segment_bytes();
        let Some(segment) = self.log.head.segment.filter(|_| has_summaries) else {
            recovery.stage = Stage::Flush;
            return;
        };
        let Some(mut buffer) = disk.allocate(ALIGNMENT as usize, Purpose::Log) else {
            self.retry_for_memory();
            return;
        };
        buffer.fill(0);
        let (drive, start) = self.layout.segment_place(segment);
        recovery.stage = Stage::Voiding;
        let offset = start + u64::from(self.layout.log_bytes());
        disk.write(self.token(TokenKind::Recovery, 0), drive, offset, buffer, ALIGNMENT);
    }

    /// The summary of the segment in which the log goes on is void.
    pub(super) fn on_voided(&mut self, result: Result<(), DiskError>) {
        if let Err(error) = result {
            self.fail(Failure::Disk { doing: Doing::WriteLog, error });
        } else if let Some(recovery) = &mut self.recovery {
            recovery.stage = Stage::Flush;
        }
    }

    /// What may be the summary of the segment in which replay is was read.
    pub(super) fn on_summary(&mut self, recovery: &mut Recovery<B>, bytes: &B) -> Result<(), Failure> {
        recovery.stage = Stage::ReadHeader(ALIGNMENT);
        let Some((segment, generation)) = recovery.replay.segment() else { return Ok(()) };
        let Some(head) = parse_head(&self.layout, segment, generation, bytes) else { return Ok(()) };
        // Lengths differ by little, and a read too short is one more.
        let summary_bytes = recovery.replay.summary_bytes.max(head.len.next_multiple_of(ALIGNMENT));
        recovery.replay.summary_bytes = summary_bytes;
        if head.len as usize > bytes.len() {
            recovery.stage = Stage::ReadSummary(summary_bytes);
            return Ok(());
        }
        if !is_whole(head, bytes) {
            return Ok(());
        }
        let mut entries = entries(head, bytes).peekable();
        while let Some((header, entry)) = entries.next() {
            if header.sequence < recovery.replay.next_sequence() {
                continue;
            }
            // Whoever wrote the next one knew the hash of this one.
            let follower =
                entries.peek().filter(|(next, _)| next.sequence.checked_sub(1) == Some(header.sequence));
            let hash = follower.map_or_else(|| header.hash(entry), |(next, _)| next.previous);
            if !self.take_header(recovery, &header, entry, Some(hash))? {
                break;
            }
            self.stats.summarized_batches += 1;
        }
        // It may be of a time that a crash took back, or too short: then the log itself tells how it goes on.
        if recovery.replay.segment() != Some((segment, generation)) {
            recovery.stage = Stage::ReadSummary(recovery.replay.summary_bytes);
            let coming = head.coming.into_iter().flatten().filter(|&id| self.layout.has_segment(id));
            recovery.expect_summaries(coming);
        }
        Ok(())
    }
}

#[cfg(test)]
mod test;
