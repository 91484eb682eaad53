//! Replay: from the root's position batch by batch, as long as each follows the one before.
//!
//! Headers alone are read where a later batch says that an earlier one was safe from a power cut. In the tail beyond
//! that, a batch may be torn although its header is whole: there payloads are checked too, in order, and the log ends
//! before the first that is not what its records say.
//!
//! The drive comes first: what was read goes into the map while it reads the next, and in small portions, so that it does
//! not wait for them. What waits for its place in the map is bounded.

use std::collections::VecDeque;

use io::Buffer;

use super::headers::{HeaderPlace, Headers};
use super::log::{Batch, Change, Effect};
use super::recover::{Recovery, Stage};
use super::window::Window;
use super::{BLOCK_BYTES, Failure, Shard};
use crate::SegmentId;
use crate::checksum::crc32c;
use crate::codec::Form;
use crate::map::DiskPage;
use crate::record::{ALIGNMENT, BatchHeader, HEADER_BYTES, Malformed, Record};
use crate::root::{Position, Root};

/// Batches of the tail that are read at once have so many bytes at most, unless there is only one.
const TAIL_READ_BYTES: u32 = 1 << 20;

/// How far replay has come.
#[derive(Debug)]
pub(super) struct Replay {
    /// Where the next batch is looked for.
    next: Position,
    /// The log's end as far as it is in the map, or in the window.
    applied: Position,
    /// Batches up to this one were safe from a power cut.
    safe: u64,
    /// Batches beyond the root's durable one must be of this epoch.
    epoch: u64,
    durable: u64,
    /// Epoch of the last batch.
    last_epoch: u64,
    /// Batches that are not in the map or the window, in order: first those that count, then those that are not known to
    /// be safe.
    held: VecDeque<Held>,
    /// How many of them count.
    ready: usize,
    /// Their headers and records.
    headers: Headers,
    /// Bytes of the last summary: as much of the next is read at once.
    pub(super) summary_bytes: u32,
    /// What is on its way into the map together, and a batch that goes there alone.
    window: Window,
    applying: Option<Applying>,
    /// Changes that this run may yet take into the window, or put from there into the map.
    left: u32,
}

/// A batch on its way into the map.
#[derive(Debug)]
struct Applying {
    batch: Batch,
    /// Effects that are there.
    done: usize,
    after: Position,
}

/// A batch of which only the header was looked at.
#[derive(Debug)]
struct Held {
    segment: SegmentId,
    offset: u32,
    header: BatchHeader,
    /// Header and records.
    bytes: HeaderPlace,
    /// The log after it.
    after: Position,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self {
            next: Position::START,
            applied: Position::START,
            safe: 0,
            epoch: 0,
            durable: 0,
            last_epoch: 0,
            held: VecDeque::new(),
            ready: 0,
            headers: Headers::default(),
            summary_bytes: ALIGNMENT,
            window: Window::default(),
            applying: None,
            left: u32::MAX,
        }
    }

    pub(super) fn begin(&mut self, root: &Root) {
        self.next = root.replay;
        self.applied = root.replay;
        self.safe = root.durable;
        self.durable = root.durable;
        self.epoch = root.epoch;
    }

    /// Where `len` bytes of the next batch would be; `None` where the log cannot go on.
    pub(super) fn next_place(&self, len: u32, segment_bytes: u32) -> Option<(SegmentId, u32)> {
        let segment = self.next.segment?;
        let end = self.next.offset.checked_add(len)?;
        (end <= segment_bytes).then_some((segment, self.next.offset))
    }

    /// Where the next batches lie whose payloads must be checked, as many as can be read at once, and their bytes.
    pub(super) fn next_unchecked(&self) -> Option<(SegmentId, u32, u32)> {
        let first = self.held.get(self.ready)?;
        let mut bytes = first.header.total_bytes;
        for batch in self.held.iter().skip(self.ready + 1) {
            let goes_on = batch.segment == first.segment && batch.offset == first.offset + bytes;
            if !goes_on || bytes + batch.header.total_bytes > TAIL_READ_BYTES {
                break;
            }
            bytes += batch.header.total_bytes;
        }
        Some((first.segment, first.offset, bytes))
    }

    /// The segment in which the next batch is looked for, and its generation.
    pub(super) fn segment(&self) -> Option<(SegmentId, u64)> {
        Some((self.next.segment?, self.next.generation))
    }

    /// The next batch that is looked for.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next.sequence
    }

    /// What to read next: a segment's summary where one begins, else a header.
    pub(super) fn next_stage(&self) -> Stage {
        if self.next.offset == 0 {
            Stage::ReadSummary(self.summary_bytes)
        } else {
            Stage::ReadHeader(ALIGNMENT)
        }
    }

    /// A run begins, which may take in or put into the map so many changes.
    pub(super) fn begin_run(&mut self, changes: u32) {
        self.left = changes;
    }

    /// Whether the run has ended because it has done what it may.
    pub(super) fn is_stopped(&self) -> bool {
        self.left == 0
    }

    /// Whether so many bytes of batches wait for their place in the map that none should be read before some have gone,
    /// and some can go.
    pub(super) fn is_ahead(&self, bytes_max: usize) -> bool {
        self.ready > 0 && self.headers.held_bytes() >= bytes_max
    }

    /// The log's end.
    pub(super) fn position(&self) -> Position {
        self.applied
    }

    /// Whether a batch is the one that follows.
    fn follows(&self, header: &BatchHeader, ignore_chain: bool) -> bool {
        let epoch_fits = if header.sequence > self.durable {
            header.epoch == self.epoch
        } else {
            header.epoch <= self.epoch && header.epoch >= self.last_epoch
        };
        let chain_fits = header.previous == self.next.previous
            && header.sequence == self.next.sequence
            && header.generation == self.next.generation
            && header.first_lsn == self.next.lsn
            && epoch_fits;
        // Even a planted fault reads no batch twice.
        let is_later = header.sequence >= self.next.sequence;
        Some(header.segment) == self.next.segment && (chain_fits || ignore_chain && is_later)
    }
}

impl<B: Buffer> Shard<B> {
    /// What may be the header of the next batch was read.
    pub(super) fn on_header(&mut self, recovery: &mut Recovery<B>, bytes: &B) -> Result<(), Failure> {
        recovery.stage = Stage::ReadTail;
        let Ok(header) = BatchHeader::peek(bytes) else { return Ok(()) };
        if header.header_bytes as usize > bytes.len() {
            if self.is_next(&recovery.replay, &header) {
                recovery.stage = Stage::ReadHeader(header.header_bytes);
            }
            return Ok(());
        }
        if self.take_header(recovery, &header, bytes, None)? {
            recovery.stage = recovery.replay.next_stage();
        }
        Ok(())
    }

    /// Whether a header says that its batch is the next of the log.
    fn is_next(&self, replay: &Replay, header: &BatchHeader) -> bool {
        #[cfg(feature = "planted")]
        let ignore_chain = self.is_planted(super::Planted::IgnoreChain);
        #[cfg(not(feature = "planted"))]
        let ignore_chain = false;
        let is_ours = header.pool == self.layout.identity().pool && header.shard == self.shard;
        let end = u64::from(replay.next.offset) + u64::from(header.total_bytes);
        is_ours
            && replay.follows(header, ignore_chain)
            && end <= u64::from(self.layout.segment_bytes())
            && header.total_bytes <= 1 << 20
    }

    /// Goes on by a batch of which header and records are in `bytes`; false if it is not the next. `hash` is theirs, if
    /// they are known to be as they were written.
    pub(super) fn take_header(
        &mut self,
        recovery: &mut Recovery<B>,
        header: &BatchHeader,
        bytes: &[u8],
        hash: Option<u64>,
    ) -> Result<bool, Failure> {
        let replay = &mut recovery.replay;
        if !self.is_next(replay, header) {
            return Ok(false);
        }
        let Some(hash) = hash.or_else(|| header.verify(bytes).ok()) else { return Ok(false) };
        let lsn = header.first_lsn + u64::from(header.record_count);
        let mut after = Position {
            segment: replay.next.segment,
            offset: replay.next.offset + header.total_bytes,
            generation: header.generation,
            sequence: header.sequence + 1,
            previous: hash,
            lsn,
        };
        // A seal is alone in its batch; what else there is will be read when the batch counts.
        if header.record_count == 1
            && let Some(Ok(Record::Seal { next })) = header.records(bytes).next()
        {
            if !self.layout.has_segment(next) {
                return Err(damaged(header));
            }
            after.segment = Some(next);
            after.offset = 0;
            after.generation = header.sequence + 1;
        }
        replay.last_epoch = header.epoch;
        replay.safe = replay.safe.max(header.flushed);
        let bytes = replay.headers.push(&bytes[..HEADER_BYTES + header.record_bytes as usize]);
        let (segment, offset) = (header.segment, replay.next.offset);
        replay.held.push_back(Held { segment, offset, header: *header, bytes, after });
        replay.next = after;
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::IgnoreTornPayload) {
            replay.safe = u64::MAX;
        }
        while replay.held.get(replay.ready).is_some_and(|batch| batch.header.sequence <= replay.safe) {
            replay.ready += 1;
        }
        Ok(true)
    }

    /// Whole batches of the tail were read: those that are what their records say count, up to the first that is not,
    /// before which the log ends.
    pub(super) fn on_tail(&mut self, recovery: &mut Recovery<B>, bytes: &B) -> Result<(), Failure> {
        let replay = &mut recovery.replay;
        recovery.stage = Stage::ReadTail;
        #[cfg(feature = "planted")]
        let skips_packed = self.is_planted(super::Planted::IgnoreTornPacked);
        #[cfg(not(feature = "planted"))]
        let skips_packed = false;
        let mut rest: &[u8] = bytes;
        while let Some(batch) = replay.held.get(replay.ready)
            && let Some((bytes, after)) = rest.split_at_checked(batch.header.total_bytes as usize)
        {
            rest = after;
            let is_whole = bytes.starts_with(replay.headers.get(batch.bytes))
                && payloads_are_whole(&batch.header, bytes, skips_packed);
            if !is_whole {
                replay.held.truncate(replay.ready);
                break;
            }
            replay.ready += 1;
        }
        Ok(())
    }

    /// Puts the batches that count into the window, and from there into the map as often as it is full; what no window
    /// takes in goes into the map alone. False as long as leaves are missing for that, or the run has done what it may.
    pub(super) fn apply_ready(&mut self, replay: &mut Replay) -> bool {
        loop {
            if !self.apply_alone(replay) {
                return false;
            }
            if replay.window.is_emptying() && !self.empty_window(&mut replay.window, &mut replay.left) {
                return false;
            }
            let Some(next) = replay.held.front().filter(|_| replay.ready > 0) else { return true };
            if replay.left == 0 {
                return false;
            }
            let bytes = replay.headers.get(next.bytes);
            let before = replay.window.len();
            let collected = self.collect(&mut replay.window, &next.header, (next.offset, bytes));
            match collected {
                Ok(true) => {
                    replay.applied = next.after;
                    let taken = replay.window.len() - before;
                    replay.left = replay.left.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                }
                Ok(false) if !replay.window.is_empty() => {
                    if !self.empty_window(&mut replay.window, &mut replay.left) {
                        return false;
                    }
                    continue;
                }
                Ok(false) if header_is_sound(&next.header, bytes) => {
                    let batch = self.begin_batch(next, bytes);
                    for &effect in &batch.effects {
                        let counting = self.uncounted.is_none_or(|uncounted| effect.lsn >= uncounted.until);
                        self.prefetch(|map, needs| effect.need(map, counting, needs));
                    }
                    replay.applying = Some(Applying { batch, done: 0, after: next.after });
                }
                // The checksum is right: this was written, but not by this format.
                Ok(false) | Err(Malformed) => {
                    self.fail(damaged(&next.header));
                    return false;
                }
            }
            replay.headers.pop(next.bytes);
            replay.held.pop_front();
            replay.ready -= 1;
        }
    }

    /// The same for all of them: nothing is left in the window.
    pub(super) fn apply_all(&mut self, replay: &mut Replay) -> bool {
        self.apply_ready(replay) && self.empty_window(&mut replay.window, &mut replay.left)
    }

    /// Puts the rest of a batch into the map that goes there alone.
    fn apply_alone(&mut self, replay: &mut Replay) -> bool {
        while let Some(applying) = &mut replay.applying {
            let Some(&effect) = applying.batch.effects.get(applying.done) else {
                replay.applied = applying.after;
                self.log.recycle(replay.applying.take().map(|done| done.batch).unwrap_or_default());
                break;
            };
            if !self.apply(&applying.batch, effect) {
                return false;
            }
            applying.done += 1;
            replay.left = replay.left.saturating_sub(1);
            self.count_replayed(effect);
        }
        true
    }

    /// Counts what hosts wrote since the manifest was made, in whole blocks.
    fn count_replayed(&mut self, effect: Effect) {
        match effect.change {
            _ if self.uncounted.is_some_and(|uncounted| effect.lsn < uncounted.until) => {}
            Change::Write { .. } => {
                let bytes = (effect.end - effect.first) * u64::from(BLOCK_BYTES);
                *self.written.entry(effect.volume).or_default() += bytes;
            }
            Change::DropVolume { .. } => drop(self.written.remove(&effect.volume)),
            Change::Move { .. } | Change::Unmap | Change::Fork { .. } => {}
        }
    }

    /// Makes a batch of the log what it was before it was written.
    fn begin_batch(&mut self, held: &Held, bytes: &[u8]) -> Batch {
        let header = &held.header;
        if header.epoch != self.log.epoch {
            // What the epoch before left unfinished stays unfinished.
            self.forget_deferred();
            self.log.epoch = header.epoch;
        }
        let mut batch = self.log.take_batch();
        self.space.logged(header.segment, header.sequence);
        for (lsn, record) in (header.first_lsn..).zip(header.records(bytes).flatten()) {
            let place = |payload: u32| self.space.location(header.segment, held.offset + payload);
            let words = u32::try_from(batch.words.len()).expect("a header is at most 32 KiB");
            let effect = match record {
                Record::Write { volume, lineage, block, more, payload, forms } => {
                    batch.words.extend(forms.iter().map(Form::to_word));
                    let change = Change::Write { lineage, location: place(payload), words };
                    Some(Effect { lsn, volume, first: block, end: block + forms.count(), change, more })
                }
                Record::Move { lineage, block, payload, moved } => {
                    batch.words.extend(moved.iter().flat_map(|moved| [moved.from.0, moved.form.to_word()]));
                    let end = block + (batch.words.len() as u64 - u64::from(words)) / 2;
                    let change = Change::Move { location: place(payload), words };
                    Some(Effect { lsn, volume: lineage, first: block, end, change, more: false })
                }
                Record::Unmap { volume, first, end, more } => {
                    Some(Effect { lsn, volume, first, end, change: Change::Unmap, more })
                }
                Record::DropVolume { volume } => {
                    let change = Change::DropVolume { ticket: None };
                    Some(Effect { lsn, volume, first: 0, end: u64::MAX, change, more: false })
                }
                Record::Fork { volume, image, read_only } => {
                    let change = Change::Fork { image, read_only };
                    Some(Effect { lsn, volume, first: 0, end: u64::MAX, change, more: false })
                }
                Record::Seal { next } => {
                    self.on_replayed_seal(header, next);
                    None
                }
                Record::Page { .. } | Record::Manifest { .. } => None,
            };
            #[cfg(feature = "planted")]
            let effect = effect.filter(|effect| match effect.change {
                Change::Unmap => !self.is_planted(super::Planted::ForgetUnmaps),
                Change::Fork { .. } => !self.is_planted(super::Planted::ForgetForks),
                _ => true,
            });
            batch.effects.extend(effect);
        }
        self.on_replayed_batch(header);
        batch
    }
}

/// A batch that was there cannot be read.
fn damaged(header: &BatchHeader) -> Failure {
    Failure::LogDamaged { found: header.sequence - 1, expected: header.sequence }
}

/// Whether all records of a batch can be read, and a seal is alone.
fn header_is_sound(header: &BatchHeader, bytes: &[u8]) -> bool {
    header.records(bytes).all(|record| match record {
        Ok(Record::Seal { .. }) => header.record_count == 1,
        Ok(_) => true,
        Err(Malformed) => false,
    })
}

/// Whether every payload of a batch is what its record says.
fn payloads_are_whole(header: &BatchHeader, bytes: &[u8], skips_packed: bool) -> bool {
    let slice = |payload: u32, len: u32| &bytes[payload as usize..][..len as usize];
    let blocks_fit = |payload: u32, first: u64, forms: &mut dyn Iterator<Item = Form>| {
        let mut at = payload;
        forms.zip(first..).all(|(form, block)| {
            let stored = slice(at, form.bytes());
            at += form.bytes();
            skips_packed && form.is_packed() || form.is_of(block, stored)
        })
    };
    header.records(bytes).flatten().all(|record| match record {
        Record::Write { block, payload, forms, .. } => blocks_fit(payload, block, &mut forms.iter()),
        Record::Move { block, payload, moved, .. } => {
            blocks_fit(payload, block, &mut moved.iter().map(|moved| moved.form))
        }
        Record::Page { payload, len, .. } => {
            DiskPage::parse(slice(payload, len)).is_ok_and(|(page, _)| page.len_bytes() == len as usize)
        }
        Record::Manifest { payload, len, crc } => crc32c(slice(payload, len)) == crc,
        Record::Unmap { .. } | Record::Seal { .. } | Record::DropVolume { .. } | Record::Fork { .. } => true,
    })
}
