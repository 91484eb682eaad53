//! Summaries of segments to which replay is to come: the drive reads them while those before are taken in.
//!
//! A summary names the segments in which the log was to go on. Where it went elsewhere, what was read of them is let go of,
//! and the summary of the right segment is read once replay has come there.

use io::{Buffer, Disk, DiskError, Extent, Purpose};

use super::super::{Failure, Shard, TokenKind};
use super::{Recovery, Stage};
use crate::SegmentId;

/// How far the summary of a segment is to which replay has not come.
#[derive(Debug)]
pub(super) enum Ahead<B> {
    /// It is to be read.
    Wanted,
    /// It is being read.
    Asked,
    /// It was read.
    Here(B),
}

/// Numbers of reads of summaries: this and the segment's.
const SUMMARIES: u64 = 1 << 32;

/// Whether this is the number of a read of a summary.
pub(super) fn is_summary(number: u64) -> bool {
    number >= SUMMARIES
}

impl<B> Recovery<B> {
    /// Replay is to come to these segments after the one in which it is now. What was expected and is not any more is let
    /// go of.
    pub(in super::super) fn expect_summaries(&mut self, coming: impl Iterator<Item = SegmentId>) {
        let mut before = std::mem::take(&mut self.ahead);
        let next = self.replay.segment().map(|(segment, _)| segment);
        for segment in next.into_iter().chain(coming) {
            let found = before.iter().position(|(expected, _)| *expected == segment);
            let is_told_twice = self.ahead.iter().any(|(expected, _)| *expected == segment);
            match found {
                Some(found) => self.ahead.push(before.swap_remove(found)),
                // The next one is asked for as soon as it is its turn, which is now.
                None if Some(segment) == next || is_told_twice => {}
                None => self.ahead.push((segment, Ahead::Wanted)),
            }
        }
    }

    #[cfg(test)]
    pub(in super::super) fn holds_summaries(&self) -> bool {
        self.ahead.iter().any(|(_, ahead)| matches!(ahead, Ahead::Here(_)))
    }

    fn take_ahead(&mut self, segment: SegmentId) -> Option<Ahead<B>> {
        let found = self.ahead.iter().position(|(expected, _)| *expected == segment)?;
        Some(self.ahead.swap_remove(found).1)
    }
}

impl<B: Buffer> Shard<B> {
    /// Replay has come to a segment: its summary is taken in, or waited for, or the first `len` bytes of it are read.
    pub(super) fn read_summary<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        recovery: &mut Recovery<B>,
        segment: SegmentId,
        len: u32,
    ) {
        match recovery.take_ahead(segment) {
            Some(Ahead::Here(bytes)) => {
                if let Err(failure) = self.on_summary(recovery, &bytes) {
                    self.fail(failure);
                }
            }
            Some(Ahead::Asked) => recovery.stage = Stage::Summary,
            Some(Ahead::Wanted) | None => {
                if self.ask_for_summary(disk, segment, len) {
                    recovery.stage = Stage::Summary;
                } else {
                    self.retry_for_memory();
                }
            }
        }
    }

    /// Reads the summaries that are expected. Those for which there is no memory now are not read ahead.
    pub(super) fn read_summaries_ahead<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        recovery: &mut Recovery<B>,
    ) {
        if recovery.lacks_memory {
            return;
        }
        let len = recovery.replay.summary_bytes;
        recovery.ahead.retain_mut(|(segment, ahead)| match ahead {
            Ahead::Wanted => {
                *ahead = Ahead::Asked;
                self.ask_for_summary(disk, *segment, len)
            }
            Ahead::Asked | Ahead::Here(_) => true,
        });
    }

    /// A run of recovery ends: if it found no memory for what must be read, what was read ahead makes way, and nothing is
    /// read ahead until all has found some. Other shards may wait for the same memory.
    pub(in super::super) fn make_way_for_reads(&mut self) {
        let Some(recovery) = &mut self.recovery else { return };
        recovery.lacks_memory = self.memory_retry.is_some();
        if recovery.lacks_memory {
            recovery.ahead.clear();
        }
    }

    /// Reads the first `len` bytes of a summary; false if there is no memory for that.
    fn ask_for_summary<D: Disk<Buffer = B>>(&self, disk: &mut D, segment: SegmentId, len: u32) -> bool {
        let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else { return false };
        let (drive, start) = self.layout.segment_place(segment);
        let extent = Extent { drive, offset: start + u64::from(self.layout.log_bytes()), start: 0, len };
        disk.read(self.token(TokenKind::Recovery, SUMMARIES + u64::from(segment.0)), buffer, &[extent]);
        true
    }

    /// A summary was read, or not: it has only what the log has, too.
    pub(super) fn on_summary_read(
        &mut self,
        recovery: &mut Recovery<B>,
        number: u64,
        bytes: B,
        result: Result<(), DiskError>,
    ) -> Result<(), Failure> {
        let is_at = |segment: SegmentId| u64::from(segment.0) == number - SUMMARIES;
        let is_due =
            recovery.stage == Stage::Summary && recovery.replay.segment().is_some_and(|(at, _)| is_at(at));
        match result {
            Ok(()) if is_due => return self.on_summary(recovery, &bytes),
            Err(_) if is_due => recovery.stage = Stage::ReadHeader(4096),
            Ok(()) => {
                let asked = recovery.ahead.iter_mut().find(|(segment, _)| is_at(*segment));
                if let Some((_, ahead)) = asked {
                    *ahead = Ahead::Here(bytes);
                }
            }
            Err(_) => recovery.ahead.retain(|(segment, _)| !is_at(*segment)),
        }
        Ok(())
    }
}
