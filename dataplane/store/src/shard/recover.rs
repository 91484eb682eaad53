//! Recovery up to the log: the newest root, its manifest, the pages of every map; then a new epoch's root.

mod pages;
mod summaries;

use std::collections::BTreeMap;
use std::ops::Range;

use io::{Buffer, Disk, DiskError, DriveId, Extent, Purpose};

use super::beyond::Beyond;
use super::checkpoint::RootFor;
use super::replay::Replay;
use super::space::State;
use super::{Doing, Failure, Phase, Shard, TokenKind};
use crate::manifest::ManifestEntry;
use crate::map::{LOCATION_BYTES, Location};
use crate::root::{ChunkPlace, Position, ROOT_BYTES, Root, Slot};
use crate::{SegmentId, VolumeId};
use pages::{PAGE_READS, PageRead, PageRef};
use summaries::{Ahead, is_summary};

/// What recovery has found so far.
#[derive(Debug)]
pub(super) struct Recovery<B> {
    pub(super) stage: Stage,
    slots: [Option<Slot>; 2],
    pub(super) root: Option<Root>,
    entries: Vec<ManifestEntry>,
    chunks: Vec<(Location, u64)>,
    /// Pages of the level that is being read, in order of their places, and how many of them were asked for.
    pages: Vec<PageRef>,
    asked: usize,
    /// Ranges of them that could not be read together with others, each of which is to be read by itself.
    apart: Vec<Range<usize>>,
    /// Pages of lower levels.
    below: Vec<PageRef>,
    /// Images that may share blocks, as the manifest tells, and what it calls that was cut off, with its name now.
    cliques: BTreeMap<u32, Vec<VolumeId>>,
    cuts: BTreeMap<VolumeId, VolumeId>,
    reads: Vec<Option<PageRead>>,
    /// Summaries that are read before replay has come to their segments.
    ahead: Vec<(SegmentId, Ahead<B>)>,
    /// The last run found no memory for something that must be read.
    lacks_memory: bool,
    pub(super) replay: Replay,
    pub(super) beyond: Option<Beyond>,
}

/// What is done next, or waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    ReadRoots,
    Roots,
    ReadManifest(ChunkPlace),
    Manifest(ChunkPlace),
    Pages,
    /// So much of the summary of the segment that the log is in is to be read.
    ReadSummary(u32),
    Summary,
    /// So much of the next batch's header is to be read.
    ReadHeader(u32),
    Header,
    /// The log has ended; payloads in its tail are checked.
    ReadTail,
    Tail,
    /// What lies beyond the end is looked at.
    Beyond,
    /// The summary of the segment in which the log goes on is to be made void.
    VoidSummary,
    Voiding,
    Flush,
    Flushing(u32),
    /// The root of the new epoch, or a new shard's first roots.
    WriteRoot(RootFor),
}

impl<B: Buffer> Recovery<B> {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::ReadRoots,
            slots: [None; 2],
            root: None,
            entries: Vec::new(),
            chunks: Vec::new(),
            pages: Vec::new(),
            asked: 0,
            apart: Vec::new(),
            below: Vec::new(),
            cliques: BTreeMap::new(),
            cuts: BTreeMap::new(),
            reads: vec![None; PAGE_READS],
            ahead: Vec::new(),
            lacks_memory: false,
            replay: Replay::new(),
            beyond: None,
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Starts what recovery can do now.
    pub(super) fn run_recovery<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        let Some(mut recovery) = self.recovery.take() else { return };
        self.step_recovery(disk, &mut recovery);
        if self.phase == Phase::Recovering {
            self.recovery = Some(recovery);
        }
    }

    /// A read of recovery ended.
    pub(super) fn on_recovery_read(&mut self, number: u64, buffer: B, result: Result<(), DiskError>) {
        let Some(mut recovery) = self.recovery.take() else { return };
        self.stats.recovery_read_bytes += buffer.len() as u64;
        let outcome = match (recovery.stage, result) {
            _ if is_summary(number) => self.on_summary_read(&mut recovery, number, buffer, result),
            (Stage::Pages, Err(error)) => Self::on_failed_pages(&mut recovery, number, error),
            (Stage::Beyond, Err(_)) => {
                Self::on_unreadable_beyond(&mut recovery);
                Ok(())
            }
            (_, Err(error)) => Err(Failure::Disk { doing: Doing::Recover, error }),
            (Stage::Roots, _) => self.on_root_slot(&mut recovery, number, &buffer),
            (Stage::Manifest(place), _) => self.on_manifest(&mut recovery, place, &buffer),
            (Stage::Pages, _) => self.on_pages(&mut recovery, number, &buffer),
            (Stage::Header, _) => self.on_header(&mut recovery, &buffer),
            (Stage::Tail, _) => self.on_tail(&mut recovery, &buffer),
            (Stage::Beyond, _) => self.on_beyond(&mut recovery, &buffer),
            _ => Ok(()),
        };
        match outcome {
            Ok(()) => self.recovery = Some(recovery),
            Err(failure) => self.fail(failure),
        }
    }

    /// A drive was flushed during recovery.
    pub(super) fn on_recovery_flushed(&mut self) {
        if let Some(recovery) = &mut self.recovery
            && let Stage::Flushing(pending) = &mut recovery.stage
        {
            *pending -= 1;
            if *pending == 0 {
                recovery.stage = Stage::WriteRoot(RootFor::Recovery);
            }
        }
    }

    fn step_recovery<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) {
        recovery.replay.begin_run(self.options.replay_blocks_per_run);
        let ahead_max = self.options.replay_ahead_bytes_max as usize;
        loop {
            // Of what waits for its place in the map, some must go before more is read.
            if recovery.replay.is_ahead(ahead_max) && !self.apply_ready(&mut recovery.replay) {
                return;
            }
            let goes_on = self.step_stage(disk, recovery);
            self.read_summaries_ahead(disk, recovery);
            if !goes_on || self.phase != Phase::Recovering || self.memory_retry.is_some() {
                break;
            }
        }
        // The drive reads what comes next of the log meanwhile.
        match recovery.stage {
            _ if self.phase != Phase::Recovering => {}
            // In the tail it has more to do than the processor, which need not wait for a full window.
            Stage::Tail => drop(self.apply_all(&mut recovery.replay)),
            _ => drop(self.apply_ready(&mut recovery.replay)),
        }
    }

    /// Does what the stage says; whether the next can be begun at once.
    fn step_stage<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) -> bool {
        match recovery.stage {
            Stage::ReadRoots => self.read_roots(disk, recovery),
            Stage::ReadManifest(place) => {
                let len = place.len.next_multiple_of(4096);
                let next = Stage::Manifest(place);
                self.read_for_recovery(disk, recovery, (place.segment, place.offset, len), next);
            }
            Stage::Pages => self.read_pages(disk, recovery),
            Stage::ReadSummary(len) => match recovery.replay.segment() {
                Some((segment, _)) if self.layout.log_bytes() < self.layout.segment_bytes() => {
                    self.read_summary(disk, recovery, segment, len);
                }
                _ => recovery.stage = Stage::ReadHeader(4096),
            },
            Stage::ReadHeader(len) => match recovery.replay.next_place(len, self.layout.segment_bytes()) {
                Some((segment, offset)) => {
                    self.read_for_recovery(disk, recovery, (segment, offset, len), Stage::Header);
                }
                None => recovery.stage = Stage::ReadTail,
            },
            Stage::ReadTail => match recovery.replay.next_unchecked() {
                Some(place) => self.read_for_recovery(disk, recovery, place, Stage::Tail),
                None => return self.end_tail(disk, recovery),
            },
            Stage::VoidSummary => self.void_summary(disk, recovery),
            Stage::Flush => {
                let mut pending = 0;
                for drive in (0..disk.drives()).map(DriveId) {
                    disk.flush(self.token(TokenKind::Recovery, 0), drive);
                    pending += 1;
                }
                self.stats.flushes += 1;
                recovery.stage = Stage::Flushing(pending);
            }
            Stage::WriteRoot(reason) if self.is_root_settled() => {
                let old = recovery.root;
                let replay = old.map_or(Position::START, |root| root.replay);
                let durable = self.log.applied;
                self.write_root(disk, reason, replay, durable, old.and_then(|root| root.manifest));
            }
            Stage::WriteRoot(_)
            | Stage::Roots
            | Stage::Manifest(_)
            | Stage::Summary
            | Stage::Header
            | Stage::Tail
            | Stage::Beyond
            | Stage::Voiding
            | Stage::Flushing(_) => {}
        }
        matches!(
            recovery.stage,
            Stage::ReadSummary(_)
                | Stage::ReadHeader(_)
                | Stage::ReadTail
                | Stage::VoidSummary
                | Stage::Flush
        )
    }

    /// Every payload in the tail was looked at: once all is in the map, what lies beyond the log's end is, too, and replay
    /// ends. Whether it has.
    fn end_tail<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) -> bool {
        if !self.apply_all(&mut recovery.replay) || self.read_beyond(disk, recovery) {
            return false;
        }
        let ended = self.end_replay(recovery);
        if let Err(failure) = ended {
            self.fail(failure);
        }
        ended.is_ok()
    }

    pub(super) fn read_for_recovery<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        recovery: &mut Recovery<B>,
        (segment, offset, len): (SegmentId, u32, u32),
        then: Stage,
    ) {
        let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else {
            self.retry_for_memory();
            return;
        };
        let (drive, start) = self.layout.segment_place(segment);
        let extent = Extent { drive, offset: start + u64::from(offset), start: 0, len };
        recovery.stage = then;
        disk.read(self.token(TokenKind::Recovery, 0), buffer, &[extent]);
    }

    fn read_roots<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) {
        let (Some(first), Some(second)) =
            (disk.allocate(ROOT_BYTES, Purpose::Log), disk.allocate(ROOT_BYTES, Purpose::Log))
        else {
            self.retry_for_memory();
            return;
        };
        let slots = self.layout.root_slots(self.shard);
        for (number, ((drive, offset), buffer)) in (0..).zip(slots.into_iter().zip([first, second])) {
            let extent = Extent { drive, offset, start: 0, len: ROOT_BYTES as u32 };
            disk.read(self.token(TokenKind::Recovery, number), buffer, &[extent]);
        }
        recovery.stage = Stage::Roots;
    }

    fn on_root_slot(&mut self, recovery: &mut Recovery<B>, number: u64, bytes: &B) -> Result<(), Failure> {
        let slot = usize::try_from(number).expect("two slots") % 2;
        recovery.slots[slot] = Some(Root::parse(&self.layout, self.shard, bytes));
        let [Some(first), Some(second)] = recovery.slots else { return Ok(()) };
        // A slot is written whole or not at all, so one that is damaged beside a root has rotted; it may have been the
        // newer one, and what only the older one names may have been reused since.
        let damaged = [first, second].contains(&Slot::Damaged);
        let mut newest: Option<Root> = None;
        for (found, (drive, _)) in [first, second].into_iter().zip(self.layout.root_slots(self.shard)) {
            match found {
                Slot::Version(version) => return Err(Failure::RootVersion(version)),
                Slot::Foreign => return Err(Failure::RootForeign(drive)),
                Slot::Root(root) if newest.is_none_or(|newest| newest.sequence < root.sequence) => {
                    newest = Some(root);
                }
                Slot::Root(_) | Slot::Blank | Slot::Damaged => {}
            }
        }
        if damaged && newest.is_some() {
            return Err(Failure::RootsDamaged);
        }
        let Some(root) = newest else {
            // A shard is ready only once both slots were written: with a blank one nothing was ever stored.
            if first != Slot::Blank && second != Slot::Blank {
                return Err(Failure::RootsDamaged);
            }
            recovery.stage = Stage::WriteRoot(RootFor::Birth);
            return Ok(());
        };
        recovery.root = Some(root);
        recovery.replay.begin(&root);
        recovery.stage = match root.manifest {
            Some(place) => Stage::ReadManifest(place),
            None => {
                self.begin_replay(recovery, &root);
                Stage::ReadSummary(4096)
            }
        };
        Ok(())
    }

    /// The map is the root's: the log is replayed on it.
    fn begin_replay(&mut self, recovery: &Recovery<B>, root: &Root) {
        if let Some(segment) = root.replay.segment {
            self.space.add_used(segment, State::Open, root.replay.generation, root.replay.sequence);
        }
        self.checkpoint.resume(*root, recovery.chunks.clone());
        if let Some(uncounted) = &mut self.uncounted {
            uncounted.cuts = self.map.cuts_begun();
        }
        self.resume_reuse();
        self.log.epoch = root.epoch;
    }

    /// Records from `lsn` on come into the map: where the manifest counts no further, counting begins.
    pub(super) fn count_from(&mut self, lsn: u64) {
        if let Some(uncounted) = self.uncounted.filter(|uncounted| lsn >= uncounted.until) {
            self.uncounted = None;
            let space = &mut self.space;
            self.map.forget_new_cuts(uncounted.cuts, &mut |freed| space.frees(freed));
            self.map.forget_hints();
        }
    }

    /// Everything is in the map: what lives of the manifest is counted, and a new epoch begins.
    fn end_replay(&mut self, recovery: &mut Recovery<B>) -> Result<(), Failure> {
        let Some(root) = recovery.root else { return Ok(()) };
        let end = recovery.replay.position();
        let found = end.sequence - 1;
        if found < root.durable {
            return Err(Failure::LogDamaged { found, expected: root.durable });
        }
        self.forget_deferred();
        self.count_from(u64::MAX);
        for &(location, bytes) in &recovery.chunks {
            if !self.space.lives(location, bytes) {
                let offset = location.0 * LOCATION_BYTES % u64::from(self.layout.segment_bytes());
                let offset = u32::try_from(offset).expect("within a segment");
                return Err(Failure::CheckpointDamaged { segment: self.space.segment_of(location), offset });
            }
        }
        self.space.recount();
        #[cfg_attr(not(feature = "planted"), expect(unused_mut, reason = "changed by planted faults alone"))]
        let mut epoch = root.epoch + 1;
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::KeepEpoch) {
            epoch = root.epoch;
        }
        self.log.resume(end, epoch);
        self.flush.resume(found);
        recovery.stage = Stage::VoidSummary;
        Ok(())
    }
}
