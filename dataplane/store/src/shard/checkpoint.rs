//! Checkpoints and roots: dirty pages, then the manifest, are logged; what they rest on is flushed; then a root names
//! them, and is flushed itself. Only then is what the new root does not need free.

use io::{Buffer, Disk, DiskError, Purpose};

use super::log::Batch;
use super::{Doing, Failure, Output, Phase, Shard, TokenKind};
use crate::SegmentId;
use crate::checksum;
use crate::manifest::{ManifestEntry, chunk_bytes, encode_chunk};
use crate::map::{Freed, LOCATION_BYTES, Location, PAGE_BYTES_MAX, PageIndex, PageName, Place};
use crate::record::{
    ALIGNMENT, HEADER_BYTES, HEADER_BYTES_MAX, RECORD_BYTES, RecordWriter, UNMAP_RECORD_BYTES, header_bytes,
};
use crate::root::{ChunkPlace, Position, ROOT_BYTES, Root};

use super::space::{Blocks, State};

/// The checkpoint under way, and the root in force.
#[derive(Debug)]
pub(super) struct Checkpoint {
    state: CheckpointState,
    /// The newest root that is durable.
    root: Option<Root>,
    /// The root that is being written.
    next_root: Option<Root>,
    /// Replay will begin here.
    start: Position,
    /// The last batch of the last checkpoint.
    last: u64,
    /// Bytes that had died when the manifest was made.
    died_bytes: u64,
    /// Where the manifest lies, and its bytes: live until the next one.
    chunks: Vec<(Location, u64)>,
    /// Whether pages go before requests when the next batch is composed.
    pages_turn: bool,
    /// How often forks, and what was cut off, have made the checkpoint under way look at the pages again.
    restarts: u32,
    /// How often something had been cut off when it did so last.
    cuts: u64,
    /// The last batch with a move that did less to the map than it may do at replay, 0 if there was none.
    inexact: u64,
}

#[derive(Debug)]
enum CheckpointState {
    Idle,
    /// Dirty pages from this name on are to be logged.
    Pages(PageName),
    /// Entries from a place on are to be logged, after a chunk.
    Manifest {
        entries: Vec<ManifestEntry>,
        at: usize,
        before: Option<ChunkPlace>,
    },
    /// Everything is logged; it is to be durable up to this batch.
    Settling {
        batch: u64,
        manifest: ChunkPlace,
    },
    /// The root is being written, or was.
    Writing(RootFor),
    Written(RootFor),
    Flushing(RootFor),
}

/// What a root is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RootFor {
    /// The first of a new shard, of which there are two.
    Birth,
    /// The log begins in its first segment.
    Open,
    /// A checkpoint.
    Checkpoint,
    /// The end of recovery.
    Recovery,
}

/// While nothing waits for room a checkpoint that is made to give some gives this many times what it takes.
const CHECKPOINT_GAIN: u64 = 24;
/// How often a checkpoint may look at the pages again before forks, and then all changes, wait.
const RESTARTS_MAX: u32 = 16;

impl Checkpoint {
    pub(super) fn new() -> Self {
        Self {
            state: CheckpointState::Idle,
            root: None,
            next_root: None,
            start: Position::START,
            last: 0,
            died_bytes: 0,
            chunks: Vec::new(),
            pages_turn: false,
            restarts: 0,
            cuts: 0,
            inexact: 0,
        }
    }

    /// What it is at, in words.
    pub(super) fn describe(&self) -> String {
        match &self.state {
            CheckpointState::Manifest { entries, at, .. } => format!("manifest {at} of {}", entries.len()),
            state => format!("{state:?}"),
        }
    }

    /// Whether pages or manifest wait to be logged and it is their turn.
    pub(super) fn is_pages_turn(&self) -> bool {
        self.pages_turn && self.is_logging()
    }

    pub(super) fn set_pages_turn(&mut self, pages_turn: bool) {
        self.pages_turn = pages_turn;
    }

    /// The root in force and the places of its manifest, as recovery found them.
    pub(super) fn resume(&mut self, root: Root, chunks: Vec<(Location, u64)>) {
        self.root = Some(root);
        self.chunks = chunks;
    }

    fn is_logging(&self) -> bool {
        matches!(self.state, CheckpointState::Pages(_) | CheckpointState::Manifest { .. })
    }

    /// Whether map pages are being logged: what they name must stay until all of them are.
    pub(super) fn is_logging_pages(&self) -> bool {
        matches!(self.state, CheckpointState::Pages(_))
    }

    /// Whether a fork may be logged now. Forks that come without end must not keep a checkpoint from its end.
    pub(super) fn may_fork(&self) -> bool {
        self.restarts < RESTARTS_MAX || !self.is_logging_pages()
    }

    /// Whether changes may be logged now: without end, what they cut off would keep a checkpoint from its end.
    pub(super) fn may_change(&self) -> bool {
        self.restarts < 2 * RESTARTS_MAX || !self.is_logging_pages()
    }

    /// A fork is being put into the map, and `settled` is the log before it. Pages that were logged may be older than
    /// the fork, and replay would not make those of the new image newer: the checkpoint begins anew, from the fork.
    pub(super) fn on_fork(&mut self, settled: Position) {
        if self.is_logging_pages() {
            self.state = CheckpointState::Pages(PageName::FIRST);
            self.start = settled;
            self.restarts += 1;
        }
    }

    /// A move in this batch is about to do less to the map than it may do at replay. What the manifest counts is as it was
    /// done, so replay must begin behind it.
    pub(super) fn on_inexact(&mut self, batch: u64) {
        self.inexact = batch;
    }

    /// Where the manifest lies, and its bytes.
    pub(super) fn chunks(&self) -> &[(Location, u64)] {
        &self.chunks
    }

    fn is_idle(&self) -> bool {
        matches!(self.state, CheckpointState::Idle)
    }

    /// The batch from which the root in force replays.
    pub(super) fn replay_sequence(&self) -> Option<u64> {
        self.root.map(|root| root.replay.sequence)
    }
}

impl<B: Buffer> Shard<B> {
    /// Begins a checkpoint if one is due, and takes the steps that are not batches.
    pub(super) fn step_checkpoint<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        match self.checkpoint.state {
            CheckpointState::Idle if self.wants_checkpoint() => {
                self.checkpoint.start = self.log.settled;
                self.checkpoint.state = CheckpointState::Pages(PageName::FIRST);
                self.checkpoint.restarts = 0;
                self.checkpoint.cuts = self.map.cuts_begun();
                self.log.since_root_bytes = 0;
            }
            CheckpointState::Settling { batch, manifest } if self.log.applied >= batch => {
                self.flush.want(batch);
                #[cfg(feature = "planted")]
                if self.is_planted(super::Planted::RootWithoutFlush) {
                    self.flush.resume(batch);
                }
                if self.flush.flushed >= batch {
                    let replay = self.checkpoint.start;
                    self.write_root(disk, RootFor::Checkpoint, replay, batch, Some(manifest));
                }
            }
            CheckpointState::Written(reason) => {
                let Some(root) = &self.checkpoint.next_root else { return };
                let (drive, _) = self.layout.root_slots(self.shard)[slot_of(root)];
                disk.flush(self.token(TokenKind::RootFlush, root.sequence), drive);
                self.checkpoint.state = CheckpointState::Flushing(reason);
            }
            _ => {}
        }
    }

    /// Whether nothing was logged since the root in force was made, all that was given back is told, and replay from it
    /// meets no change, if there is room for that.
    pub(super) fn is_checkpointed(&self) -> bool {
        let nothing_new =
            self.log.head.segment.is_none() || self.log.head.sequence == self.checkpoint.last + 1;
        self.checkpoint.is_idle() && nothing_new && !self.has_given_back() && !self.has_to_replay()
    }

    /// Whether replay from the root in force would meet changes, logged while its checkpoint was under way, and there is
    /// room for another: it saves nothing but time.
    fn has_to_replay(&self) -> bool {
        self.checkpoint.replay_sequence().is_some_and(|replay| self.log.changed >= replay)
            && self.checkpoint_bytes_needed() <= self.room_bytes()
    }

    /// Whether a checkpoint would tell of room although nothing was logged since the last: what a drop gives back step by
    /// step is in no record.
    fn has_given_back(&self) -> bool {
        self.log.head.segment.is_some() && self.space.died_bytes != self.checkpoint.died_bytes
    }

    /// Logs a batch of the checkpoint under way; false if there is none, or it must wait.
    pub(super) fn write_checkpoint<D: Disk<Buffer = B>>(&mut self, disk: &mut D) -> bool {
        match self.checkpoint.state {
            CheckpointState::Pages(from) => self.write_pages(disk, from),
            CheckpointState::Manifest { .. } => self.write_manifest(disk),
            _ => false,
        }
    }

    /// Gives the log its first segment: a root names it before anything is written there.
    pub(super) fn open_log<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        if !self.checkpoint.is_idle() {
            return;
        }
        let head = self.log.head;
        let Some(segment) = self.space.peek_next() else { return };
        let replay = Position { segment: Some(segment), offset: 0, generation: head.sequence, ..head };
        if self.write_root(disk, RootFor::Open, replay, head.sequence - 1, None) {
            let opened = self.space.open_next(head.sequence);
            assert!(opened == Some(segment));
        }
    }

    /// Writes the next root into the slot that does not hold the newest; false if there is no memory for it now.
    pub(super) fn write_root<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        reason: RootFor,
        replay: Position,
        durable: u64,
        manifest: Option<ChunkPlace>,
    ) -> bool {
        let Some(mut buffer) = disk.allocate(ROOT_BYTES, Purpose::Log) else {
            self.retry_for_memory();
            return false;
        };
        let sequence = self.checkpoint.root.map_or(0, |root| root.sequence) + 1;
        let root = Root { sequence, epoch: self.log.epoch, durable, replay, manifest };
        root.encode(&self.layout, self.shard, &mut buffer);
        let (drive, offset) = self.layout.root_slots(self.shard)[slot_of(&root)];
        self.checkpoint.next_root = Some(root);
        self.checkpoint.state = CheckpointState::Writing(reason);
        self.stats.device_written_bytes += ROOT_BYTES as u64;
        disk.write(self.token(TokenKind::Root, sequence), drive, offset, buffer, ROOT_BYTES as u32);
        true
    }

    pub(super) fn on_root_written(&mut self, result: Result<(), DiskError>) {
        if let Err(error) = result {
            self.fail(Failure::Disk { doing: Doing::WriteRoot, error });
        } else if let CheckpointState::Writing(reason) = self.checkpoint.state {
            self.checkpoint.state = CheckpointState::Written(reason);
        }
    }

    /// A root is durable.
    pub(super) fn on_root_flushed(&mut self) {
        let CheckpointState::Flushing(reason) = self.checkpoint.state else { return };
        let Some(root) = self.checkpoint.next_root.take() else { return };
        self.checkpoint.state = CheckpointState::Idle;
        self.checkpoint.root = Some(root);
        match reason {
            RootFor::Birth if root.sequence == 1 => {}
            RootFor::Birth | RootFor::Recovery => self.become_ready(),
            RootFor::Open => self.log.resume(root.replay, self.log.epoch),
            RootFor::Checkpoint => {
                self.stats.checkpoints += 1;
                self.checkpoint.last = root.durable;
                #[cfg(feature = "planted")]
                if self.is_planted(super::Planted::ReuseUnderReads) {
                    self.space.depart(0);
                }
                self.space.depart(self.reads.next_ticket());
            }
        }
    }

    /// Whether a root write is under way.
    pub(super) fn is_root_settled(&self) -> bool {
        self.checkpoint.is_idle()
    }

    fn become_ready(&mut self) {
        if !matches!(self.phase, Phase::Recovering) {
            return;
        }
        self.phase = Phase::Running;
        self.recovery = None;
        self.checkpoint.died_bytes = self.space.died_bytes;
        self.reuse_recovered();
        let segments = self.space.iter().map(|(id, _)| id).collect();
        let volumes = self.map.volumes().collect();
        self.outputs.push_back(Output::Ready { segments, volumes });
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        if !matches!(self.phase, Phase::Running | Phase::Stopping) || self.log.head.segment.is_none() {
            return false;
        }
        let something_new = self.log.head.sequence > self.checkpoint.last + 1;
        let stopping = matches!(self.phase, Phase::Stopping) && self.is_idle();
        if stopping && (something_new || self.has_given_back() || self.has_to_replay()) {
            return true;
        }
        if something_new && self.log.since_root_bytes >= self.options.checkpoint_bytes {
            return true;
        }
        if something_new && self.has_many_dirty() {
            return true;
        }
        if !self.wants_cleaning() {
            return false;
        }
        // A checkpoint costs the same however much it gives back: let cleaning go as far as it can before, unless what
        // there is will do.
        let reclaimable = self.space.reclaimable().saturating_sub(self.reused_soon());
        let gross = u64::from(reclaimable) * self.space.usable_bytes();
        let needed = self.checkpoint_bytes_needed();
        let is_enough = gross >= needed * CHECKPOINT_GAIN;
        // What lacks room may get it from the segments that hold nothing but records of what is in the map by now. Not
        // while a victim is being emptied, or anything else is under way that may give room: a checkpoint that gives
        // nothing takes what they, or deallocation, can go on with.
        let waits = self.order.waiting == Some(super::admit::Class::Unmap);
        let lacks_room = self.is_quiet() && (self.cleaner.lacks_room || waits && self.cleaner.is_idle());
        reclaimable > 0 && (is_enough || self.cleaner.is_idle()) || lacks_room && something_new
    }

    /// Whether a checkpoint is under way or begins with the next step.
    pub(super) fn has_checkpoint_coming(&self) -> bool {
        !self.checkpoint.is_idle() || self.wants_checkpoint()
    }

    /// Logs a batch of dirty pages from `from` on, level by level from the leaves; those that map nothing are taken out
    /// of the map instead.
    fn write_pages<D: Disk<Buffer = B>>(&mut self, disk: &mut D, from: PageName) -> bool {
        let Some(limit) = self.batch_limit(disk, u64::from(3 * ALIGNMENT)) else { return false };
        // More cannot be dirty than is now, so that memory and header are large enough whatever is picked.
        let dirty = usize::try_from(self.map.dirty_pages()).unwrap_or(usize::MAX);
        let records_max = (HEADER_BYTES_MAX - HEADER_BYTES) / RECORD_BYTES;
        let header_bytes = header_bytes(dirty.min(records_max).min(limit as usize / 256) * RECORD_BYTES);
        let most = header_bytes + dirty.min(limit as usize).saturating_mul(PAGE_BYTES_MAX);
        let most = most.next_multiple_of(ALIGNMENT as usize).min(limit as usize);
        let Some(mut buffer) = disk.allocate(most, Purpose::Log) else {
            self.retry_for_memory();
            return false;
        };
        let (header, payload) = buffer.split_at_mut(header_bytes);
        let mut writer = RecordWriter::new(header);
        let mut filled = 0;
        let mut at = from;
        let level_max = self.map.level_max();
        let mut next = from;
        while let Some((name, index)) = self.map.next_page(&mut next, level_max) {
            let Some(page) = self.map.disk_page(name, index) else {
                let place = self.map.prune(name, index);
                if place.is_somewhere() {
                    self.space.frees(Freed::Page(place));
                }
                continue;
            };
            let len = page.len_bytes();
            if !writer.has_room(RECORD_BYTES) || filled + len > payload.len() {
                break;
            }
            let crc = page.encode(&mut payload[filled..filled + len]);
            let offset = as_u32(header_bytes + filled);
            self.place_page(name, index, offset, as_u32(len), crc);
            writer.page(page.lineage, name.level, name.index, offset, as_u32(len));
            filled += len;
            at = next;
        }
        let records = writer.finish();
        if filled == 0 {
            return self.end_pages() && self.write_manifest(disk);
        }
        let total = (header_bytes + filled).next_multiple_of(ALIGNMENT as usize);
        payload[filled..total - header_bytes].fill(0);
        self.checkpoint.state = CheckpointState::Pages(at);
        let batch = self.log.take_batch();
        self.send_batch(disk, batch, buffer, total, records, None);
        true
    }

    /// Notes where a page will be: `offset` bytes into the batch that comes next.
    fn place_page(&mut self, name: PageName, index: PageIndex, offset: u32, len: u32, crc: u32) {
        let head = self.log.head;
        let segment = head.segment.expect("a batch is composed only once there is a segment");
        let within = (head.offset + offset) % LOCATION_BYTES as u32;
        let location = self.space.location(segment, head.offset + offset - within);
        let before = self.map.set_written(name, index, Place::new(location, within, len, crc));
        if before.is_somewhere() {
            self.space.frees(Freed::Page(before));
        }
        self.space.lives(location, u64::from(len));
        self.stats.page_written_bytes += u64::from(len);
    }

    /// All pages are logged: the manifest is made, or pages are looked at again if the map has grown upwards so that
    /// a root page was never written. The same if something was cut off since they were looked at first: what replay
    /// will do to the image does not reach it any more, so it must be written as it is. And behind a move that did less
    /// than it may do at replay: false as long as replay cannot begin there.
    fn end_pages(&mut self) -> bool {
        if self.checkpoint.start.sequence <= self.checkpoint.inexact {
            let is_behind = self.log.settled.sequence > self.checkpoint.inexact;
            if is_behind {
                self.checkpoint.start = self.log.settled;
                self.checkpoint.restarts += 1;
                self.checkpoint.state = CheckpointState::Pages(PageName::FIRST);
            }
            return is_behind;
        }
        let cuts = self.map.cuts_begun();
        let mut places = self.map.roots().map(|root| root.2).chain(self.map.cut_roots().map(|root| root.2));
        if self.checkpoint.cuts != cuts || places.any(|place| !place.is_somewhere()) {
            self.checkpoint.restarts += u32::from(self.checkpoint.cuts != cuts);
            self.checkpoint.cuts = cuts;
            self.checkpoint.state = CheckpointState::Pages(PageName::FIRST);
            return true;
        }
        drop(places);
        for (location, bytes) in self.checkpoint.chunks.drain(..) {
            self.space.dies(location, bytes);
        }
        self.checkpoint.died_bytes = self.space.died_bytes;
        self.space.condemn(self.checkpoint.start.sequence, self.keep_segments());
        self.begin_reuse();
        let images = self.map.roots().flat_map(|(head, level, place)| {
            let count = self.map.root_count(head.image);
            let bytes = self.written_bytes(head.image);
            let written = ManifestEntry::Written { image: head.image, bytes };
            [ManifestEntry::Image { head, level, place, count }, written]
        });
        let cuts = self.map.cut_roots().map(|(head, level, place)| {
            let count = self.map.root_count(head.name);
            ManifestEntry::Cut { head, level, place, count }
        });
        #[cfg(feature = "planted")]
        let none = self.is_planted(super::Planted::ForgetCliques);
        #[cfg(not(feature = "planted"))]
        let none = false;
        let cliques = self.map.cliques().filter(|_| !none);
        let members = (0_u32..)
            .zip(cliques)
            .flat_map(|(clique, members)| members.map(move |image| ManifestEntry::Member { clique, image }));
        let segments = self.space.iter().filter(|(_, segment)| segment.state != State::Departing).map(
            |(segment, found)| ManifestEntry::Segment {
                segment,
                in_use: matches!(found.state, State::Open | State::Sealed),
                generation: found.generation,
                last: found.last,
                live_bytes: found.live_bytes,
            },
        );
        let Blocks { count: blocks, bytes: block_bytes } = self.space.blocks;
        let totals = ManifestEntry::Totals { counted: self.log.mapped_lsn, blocks, block_bytes };
        let entries = images.chain(cuts).chain(members).chain(segments).chain([totals]).collect();
        self.checkpoint.state = CheckpointState::Manifest { entries, at: 0, before: None };
        true
    }

    /// Logs a chunk of the manifest.
    fn write_manifest<D: Disk<Buffer = B>>(&mut self, disk: &mut D) -> bool {
        let Some(limit) = self.batch_limit(disk, u64::from(2 * ALIGNMENT)) else { return false };
        let CheckpointState::Manifest { entries, at, before } = &self.checkpoint.state else { return true };
        let header_bytes = header_bytes(UNMAP_RECORD_BYTES);
        let most = (limit as usize - header_bytes) / chunk_bytes(0) - 1;
        let end = entries.len().min(at + most);
        let len = chunk_bytes(end - at);
        let total = (header_bytes + len).next_multiple_of(ALIGNMENT as usize);
        let Some(mut buffer) = disk.allocate(total, Purpose::Log) else {
            self.retry_for_memory();
            return false;
        };
        let head = self.log.head;
        let segment = head.segment.expect("a batch is composed only once there is a segment");
        let (header, payload) = buffer.split_at_mut(header_bytes);
        payload[len..].fill(0);
        encode_chunk(&entries[*at..end], *before, &mut payload[..len]);
        let crc = checksum::crc32c(&payload[..len]);
        let mut writer = RecordWriter::new(header);
        writer.manifest(as_u32(header_bytes), as_u32(len), crc);
        let records = writer.finish();
        let place = ChunkPlace { segment, offset: head.offset + as_u32(header_bytes), len: as_u32(len), crc };
        let is_last = end == entries.len();
        if let CheckpointState::Manifest { at, before, .. } = &mut self.checkpoint.state {
            *at = end;
            *before = Some(place);
        }
        if is_last {
            self.checkpoint.state = CheckpointState::Settling { batch: head.sequence, manifest: place };
        }
        let location = self.space.location(segment, place.offset);
        self.space.lives(location, len as u64);
        self.checkpoint.chunks.push((location, len as u64));
        let batch: Batch = self.log.take_batch();
        self.send_batch(disk, batch, buffer, total, records, None);
        true
    }
}

/// Where the chunks of a manifest lie, for the count of what is live.
pub(super) fn chunk_extent(space: &super::Space, place: &ChunkPlace) -> (Location, u64) {
    let segment: SegmentId = place.segment;
    (space.location(segment, place.offset), u64::from(place.len))
}

fn slot_of(root: &Root) -> usize {
    usize::from(root.sequence % 2 == 1)
}

fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is at most 1 MiB")
}
