//! A look beyond the log's end at recovery: a crash ends the log where no later batch can know of what is missing.
//!
//! Every batch says up to where the log was safe from a power cut when it was written. One of the same stretch of the log
//! that says so of the batch at the end proves that this one was there and has rotted. Then the shard must not go on: what
//! was flushed would be gone without a word. Batches follow each other closely, so the search gives up where none begins
//! within two of the longest. It goes on where a seal says; what lies behind a seal that is itself the missing batch
//! cannot be found. No more can what lies in a block that cannot be read: such a block is passed over, for most likely
//! it holds nothing, and a shard that never starts again would lose all the rest.

use io::{Buffer, Disk};

use super::recover::{Recovery, Stage};
use super::{Failure, Shard};
use crate::SegmentId;
use crate::record::{ALIGNMENT, BatchHeader, Record};
use crate::root::Position;

/// Where the search is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beyond {
    /// Sequence of the missing batch.
    missing: u64,
    /// Batches that were found have lower sequences than the next: seals that name each other lead nowhere.
    found: u64,
    /// The segment that is looked at, and its generation.
    segment: SegmentId,
    generation: u64,
    /// Offset in the segment at which a batch may begin.
    next: u32,
    /// Offset up to which the next batch must begin.
    until: u32,
    /// What is read at a time: less where a part cannot be read.
    window: u32,
}

/// How far apart two batches can begin at most, twice.
const REACH_BYTES: u32 = 2 << 20;
/// What is read at a time; more than a header can have.
const WINDOW_BYTES: u32 = 128 << 10;

impl Beyond {
    fn new(end: Position, segment: SegmentId) -> Self {
        let next = end.offset.saturating_add(ALIGNMENT);
        let until = next.saturating_add(REACH_BYTES);
        Self {
            missing: end.sequence,
            found: end.sequence,
            segment,
            generation: end.generation,
            next,
            until,
            window: WINDOW_BYTES,
        }
    }

    /// What was last looked at cannot be read: next less of it, down to a block, which is left out.
    fn narrow(&mut self) {
        if self.window > ALIGNMENT {
            self.window /= 2;
        } else {
            self.next += ALIGNMENT;
            self.window = WINDOW_BYTES;
        }
    }

    /// Looks for batches in what was read from `next` on. The batch that was safe when one of them was written, if that
    /// is the missing one or a later one.
    fn look(&mut self, window: &[u8], is_ours: impl Fn(&BatchHeader) -> bool) -> Option<u64> {
        let start = self.next;
        while let Some(bytes) = window.get((self.next - start) as usize..).filter(|bytes| !bytes.is_empty()) {
            let header = BatchHeader::peek(bytes).ok().filter(|header| {
                is_ours(header)
                    && header.segment == self.segment
                    && header.generation == self.generation
                    && header.sequence > self.found
                    && header.sequence < u64::MAX
            });
            let Some(header) = header else {
                self.next += ALIGNMENT;
                continue;
            };
            if header.header_bytes as usize > bytes.len() && self.next > start {
                // It is read again from its beginning.
                return None;
            }
            if header.verify(bytes).is_err() {
                self.next += ALIGNMENT;
                continue;
            }
            if header.flushed >= self.missing {
                return Some(header.flushed);
            }
            self.found = header.sequence;
            self.next = self.next.saturating_add(header.total_bytes);
            self.until = self.next.saturating_add(REACH_BYTES);
            let seal = header.records(bytes).flatten().find_map(|record| match record {
                Record::Seal { next } => Some(next),
                _ => None,
            });
            if let Some(next) = seal {
                let generation = header.sequence + 1;
                *self = Self { segment: next, generation, next: 0, until: REACH_BYTES, ..*self };
                return None;
            }
        }
        None
    }
}

impl<B: Buffer> Shard<B> {
    /// Reads what lies beyond the log's end; false once there is nothing more to look at.
    pub(super) fn read_beyond<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        recovery: &mut Recovery<B>,
    ) -> bool {
        let end = recovery.replay.position();
        let Some(segment) = end.segment else { return false };
        let beyond = *recovery.beyond.get_or_insert_with(|| Beyond::new(end, segment));
        let most = beyond.until.min(self.layout.segment_bytes());
        if beyond.next >= most || !self.layout.has_segment(beyond.segment) {
            return false;
        }
        let len = beyond.window.min(self.layout.segment_bytes() - beyond.next);
        self.read_for_recovery(disk, recovery, (beyond.segment, beyond.next, len), Stage::Beyond);
        true
    }

    /// What lies beyond the log's end cannot be read.
    pub(super) fn on_unreadable_beyond(recovery: &mut Recovery<B>) {
        recovery.stage = Stage::ReadTail;
        if let Some(beyond) = &mut recovery.beyond {
            beyond.narrow();
        }
    }

    /// What lies beyond the log's end was read.
    pub(super) fn on_beyond(&mut self, recovery: &mut Recovery<B>, bytes: &B) -> Result<(), Failure> {
        recovery.stage = Stage::ReadTail;
        let Some(beyond) = &mut recovery.beyond else { return Ok(()) };
        let (pool, shard) = (self.layout.identity().pool, self.shard);
        let is_ours = |header: &BatchHeader| header.pool == pool && header.shard == shard;
        match beyond.look(bytes, is_ours) {
            Some(expected) => Err(Failure::LogDamaged { found: beyond.missing - 1, expected }),
            None => Ok(()),
        }
    }
}
