//! The directory: what the pool knows of itself beside its blocks. Volumes, snapshots, and identifiers that must not
//! come back.
//!
//! An append log of checksummed frames in one of two halves of a fixed area; when a half is full, what is current goes
//! into the other (`compaction`). Every change is durable (written and flushed) before it is answered; changes that
//! wait together share a frame. Lookups see only what is durable. What is asked of a new change (is the name free, is
//! there room) is answered against everything that was accepted before it, durable or not, so that two changes under
//! way cannot contradict each other.
//!
//! Calling convention: the owner passes events to `handle_*`, then calls [`Directory::run`], then takes outputs with
//! [`Directory::poll_output`] until there is none; `run` is also called after changes were asked for, and again after
//! memory has come free where it could not get any. After [`Output::Failed`] nothing is written any more.

mod compaction;
mod error;
pub(crate) mod format;
mod log;
mod marks;
mod record;
mod recovery;
mod snapshot;
mod table;

pub use error::{Damage, DirectoryError, DirectoryFault};
pub use record::{
    ATTRIBUTES_BYTES_MAX, Access, Limits, NAME_BYTES_MAX, NSID_MAX, RECORD_BYTES_MAX, SectorSize,
    VolumeRecord, VolumeState,
};
pub use snapshot::{Ancestor, SnapshotRecord};

use std::collections::VecDeque;
use std::sync::Arc;

use io::{Buffer, Disk, DiskError, Token};

use self::compaction::{Advance, Compaction};
use self::format::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAMES_OFFSET};
use self::log::{Frame, Log, Place};
use self::marks::{MARKS_ENCODED_MAX, Marks};
use self::record::{KIND_SNAPSHOT, KIND_VOLUME, RECORD_HEADER_BYTES, RawRecord, VOLUME_VERSION};
use self::recovery::Recovery;
use self::snapshot::SNAPSHOT_VERSION;
use self::table::{Conflict, Table};
use crate::pool::step::Stepper;
use crate::pool::{Layout, VolumeId};

/// The directory's machine, on reactor 0.
#[derive(Debug)]
pub struct Directory {
    place: Place,
    steps: Stepper,
    phase: Phase,
    log: Log,
    next_generation: u64,
    /// What is durable.
    durable: Table,
    /// What is durable with everything accepted since.
    planned: Table,
    marks: Marks,
    /// The marks of the last frame.
    marks_logged: Marks,
    /// Accepted changes that are in no frame yet, in order.
    waiting: VecDeque<Change>,
    /// Changes of the frame or snapshot that is being written, in order.
    in_flight: Vec<Change>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

/// What the directory reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Recovery is complete: lookups are true and changes are accepted from now on.
    Ready,
    /// A change is durable and visible, or was refused without effect; after [`DirectoryError::InDoubt`] its fate is
    /// known after the next start.
    Done {
        /// As it was asked.
        tag: u64,
        /// How it ended.
        result: Result<(), DirectoryError>,
    },
    /// Recovery was refused, or a drive failed; the directory stands still.
    Failed(DirectoryFault),
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames appended.
    pub frames: u64,
    /// Changes made durable.
    pub changes: u64,
    /// Compactions that were committed.
    pub compactions: u64,
}

#[derive(Debug)]
enum Phase {
    Recovering(Box<Recovery>),
    Idle,
    Writing,
    Flushing,
    Compacting(Box<Compaction>),
    Failed,
}

/// An accepted change.
#[derive(Debug)]
struct Change {
    tag: u64,
    kind: ChangeKind,
}

#[derive(Debug)]
enum ChangeKind {
    Put(Arc<VolumeRecord>),
    Remove(VolumeId),
    PutSnapshot(Arc<SnapshotRecord>),
    RemoveSnapshot(VolumeId),
    /// Only the marks changed.
    Marks,
}

impl Directory {
    /// A directory that reads itself back from the drives; its tokens carry `owner` in their top 16 bits.
    #[must_use]
    pub fn recover(layout: &Layout, owner: u16) -> Self {
        let place = Place::new(layout);
        let mut steps = Stepper::new(owner);
        let (recovery, step) = Recovery::start(place);
        steps.want(step);
        Self {
            place,
            steps,
            phase: Phase::Recovering(Box::new(recovery)),
            log: Log::new(0, 0),
            next_generation: 0,
            durable: Table::default(),
            planned: Table::default(),
            marks: Marks::new(),
            marks_logged: Marks::new(),
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Submits what can be done now.
    pub fn run<D: Disk>(&mut self, disk: &mut D) {
        if matches!(self.phase, Phase::Idle) && !self.waiting.is_empty() {
            self.begin();
        }
        self.steps.run(disk);
    }

    /// A read has ended.
    pub fn handle_read<B: Buffer>(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        self.steps.on_ended(token);
        let Phase::Recovering(recovery) = &mut self.phase else { unreachable!("only recovery reads") };
        match result.map_err(DirectoryFault::from).and_then(|()| recovery.on_read(&buffer)) {
            Ok(step) => self.steps.want(step),
            Err(fault) => self.fail(fault),
        }
    }

    /// A write has ended.
    pub fn handle_written<B: Buffer>(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        drop(buffer);
        self.steps.on_ended(token);
        if let Err(error) = result {
            return self.fail(error.into());
        }
        let step = match &mut self.phase {
            Phase::Recovering(recovery) => recovery.on_written(),
            Phase::Compacting(compaction) => compaction.on_written(),
            Phase::Writing => {
                self.phase = Phase::Flushing;
                self.place.flush()
            }
            Phase::Idle | Phase::Flushing | Phase::Failed => unreachable!("nothing is written in this phase"),
        };
        self.steps.want(step);
    }

    /// A flush has ended.
    pub fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        self.steps.on_ended(token);
        if let Err(error) = result {
            return self.fail(error.into());
        }
        match &mut self.phase {
            Phase::Recovering(recovery) => match recovery.on_flushed() {
                Some(step) => self.steps.want(step),
                None => self.on_recovered(),
            },
            Phase::Compacting(compaction) => match compaction.on_flushed() {
                Advance::Step(step) => self.steps.want(step),
                Advance::Committed(step) => {
                    self.log = compaction.log();
                    self.stats.compactions += 1;
                    self.commit();
                    self.steps.want(step);
                }
                Advance::Finished => self.phase = Phase::Idle,
            },
            Phase::Flushing => {
                self.phase = Phase::Idle;
                self.stats.frames += 1;
                self.commit();
            }
            Phase::Idle | Phase::Writing | Phase::Failed => unreachable!("nothing is flushed in this phase"),
        }
    }

    /// Stores a volume, new or in place of the one with its id. Answered by [`Output::Done`] with `tag`.
    ///
    /// # Panics
    /// Before [`Output::Ready`].
    pub fn put_volume(&mut self, volume: VolumeRecord, tag: u64) {
        if let Err(error) = self.plan_put(volume, tag) {
            self.outputs.push_back(Output::Done { tag, result: Err(error) });
        }
    }

    /// Removes a volume for good. Answered by [`Output::Done`] with `tag`; always has room.
    ///
    /// # Panics
    /// Before [`Output::Ready`].
    pub fn remove_volume(&mut self, id: VolumeId, tag: u64) {
        let result = self.check_open().and_then(|()| self.planned.remove(id).ok_or(DirectoryError::NotFound));
        match result {
            Ok(volume) => {
                self.marks.note_freed(volume.nsid);
                self.waiting.push_back(Change { tag, kind: ChangeKind::Remove(id) });
            }
            Err(error) => self.outputs.push_back(Output::Done { tag, result: Err(error) }),
        }
    }

    /// Stores a snapshot, new or in place of the one with its id. Answered by [`Output::Done`] with `tag`.
    ///
    /// # Panics
    /// Before [`Output::Ready`].
    pub fn put_snapshot(&mut self, snapshot: SnapshotRecord, tag: u64) {
        if let Err(error) = self.plan_put_snapshot(snapshot, tag) {
            self.outputs.push_back(Output::Done { tag, result: Err(error) });
        }
    }

    /// Removes a snapshot for good. Answered by [`Output::Done`] with `tag`; always has room.
    ///
    /// # Panics
    /// Before [`Output::Ready`].
    pub fn remove_snapshot(&mut self, id: VolumeId, tag: u64) {
        let result =
            self.check_open().and_then(|()| self.planned.remove_snapshot(id).ok_or(DirectoryError::NotFound));
        match result {
            Ok(_) => self.waiting.push_back(Change { tag, kind: ChangeKind::RemoveSnapshot(id) }),
            Err(error) => self.outputs.push_back(Output::Done { tag, result: Err(error) }),
        }
    }

    /// Notes that CNTLIDs below `next` are spent. Answered by [`Output::Done`] with `tag`; always has room.
    ///
    /// # Panics
    /// Before [`Output::Ready`].
    pub fn note_cntlid(&mut self, next: u16, tag: u64) {
        match self.check_open() {
            Ok(()) => {
                self.marks.note_cntlid(next);
                self.waiting.push_back(Change { tag, kind: ChangeKind::Marks });
            }
            Err(error) => self.outputs.push_back(Output::Done { tag, result: Err(error) }),
        }
    }

    /// An id that no volume ever had. It is spent for good once a volume with it (or any later change) is durable;
    /// before that nothing may be stored under it.
    pub fn allocate_volume_id(&mut self) -> VolumeId {
        self.marks.allocate_volume()
    }

    /// A shard has an image of this id, whether or not a record names it: nothing else may get the id.
    pub fn note_image(&mut self, id: VolumeId) {
        self.marks.note_volume(id);
    }

    /// An NSID that no volume has, that is none of those `taken` by others, and that, while there are such, no volume had
    /// lately. `None` where all are taken.
    pub fn allocate_nsid(&mut self, taken: impl Fn(u32) -> bool) -> Option<u32> {
        let planned = &self.planned;
        self.marks.allocate_nsid(|nsid| planned.has_nsid(nsid) || taken(nsid))
    }

    /// The next report.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The first CNTLID that is not spent, 1 in a new pool.
    #[must_use]
    pub fn next_cntlid(&self) -> u16 {
        self.marks.next_cntlid()
    }

    /// All volumes, in the order of their ids.
    pub fn volumes(&self) -> impl ExactSizeIterator<Item = &Arc<VolumeRecord>> {
        self.durable.volumes()
    }

    /// The volume with this id.
    #[must_use]
    pub fn volume(&self, id: VolumeId) -> Option<&Arc<VolumeRecord>> {
        self.durable.volume(id)
    }

    /// The volume with this UUID.
    #[must_use]
    pub fn volume_by_uuid(&self, uuid: &[u8; 16]) -> Option<&Arc<VolumeRecord>> {
        self.durable.volume_by_uuid(uuid)
    }

    /// The volume with this NSID.
    #[must_use]
    pub fn volume_by_nsid(&self, nsid: u32) -> Option<&Arc<VolumeRecord>> {
        self.durable.volume_by_nsid(nsid)
    }

    /// The volume with this name in this project; none that is being deleted.
    #[must_use]
    pub fn volume_by_name(&self, project: &str, name: &str) -> Option<&Arc<VolumeRecord>> {
        self.durable.volume_by_name(project, name)
    }

    /// Whether a volume, durable or accepted, has this name in this project.
    #[must_use]
    pub fn has_name(&self, project: &str, name: &str) -> bool {
        self.planned.volume_by_name(project, name).is_some()
            || self.durable.volume_by_name(project, name).is_some()
    }

    /// All snapshots, in the order in which they were taken.
    pub fn snapshots(&self) -> impl ExactSizeIterator<Item = &Arc<SnapshotRecord>> {
        self.durable.snapshots()
    }

    /// The snapshot with this id.
    #[must_use]
    pub fn snapshot(&self, id: VolumeId) -> Option<&Arc<SnapshotRecord>> {
        self.durable.snapshot(id)
    }

    /// The snapshot with this UUID.
    #[must_use]
    pub fn snapshot_by_uuid(&self, uuid: &[u8; 16]) -> Option<&Arc<SnapshotRecord>> {
        self.durable.snapshot_by_uuid(uuid)
    }

    /// Whether a snapshot, durable or accepted, has this name in this project.
    #[must_use]
    pub fn has_snapshot_name(&self, project: &str, name: &str) -> bool {
        self.planned.has_snapshot_name(project, name) || self.durable.has_snapshot_name(project, name)
    }

    /// Whether changes are under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !matches!(self.phase, Phase::Idle | Phase::Failed)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn plan_put(&mut self, volume: VolumeRecord, tag: u64) -> Result<(), DirectoryError> {
        self.check_open()?;
        volume.check().map_err(|(field, rule)| DirectoryError::Invalid { field, rule })?;
        if !self.marks.has_given(volume.id) {
            return Err(DirectoryError::Invalid { field: "id", rule: "as the directory allocated it" });
        }
        let old = self.planned.volume(volume.id);
        if old.is_some_and(|old| {
            old.uuid != volume.uuid
                || old.nsid != volume.nsid
                || old.sector != volume.sector
                || old.lineage != volume.lineage
        }) {
            let field = "uuid, nsid, sector and lineage";
            return Err(DirectoryError::Invalid { field, rule: "fixed for life" });
        }
        self.check_room(old.map_or(0, |old| old.encoded_bytes()), volume.encoded_bytes())?;
        let volume = Arc::new(volume);
        self.planned.put(&volume).map_err(refusal)?;
        self.waiting.push_back(Change { tag, kind: ChangeKind::Put(volume) });
        Ok(())
    }

    fn plan_put_snapshot(&mut self, snapshot: SnapshotRecord, tag: u64) -> Result<(), DirectoryError> {
        self.check_open()?;
        snapshot.check().map_err(|(field, rule)| DirectoryError::Invalid { field, rule })?;
        if !self.marks.has_given(snapshot.id) {
            return Err(DirectoryError::Invalid { field: "id", rule: "as the directory allocated it" });
        }
        let old = self.planned.snapshot(snapshot.id);
        self.check_room(old.map_or(0, |old| old.encoded_bytes()), snapshot.encoded_bytes())?;
        let snapshot = Arc::new(snapshot);
        self.planned.put_snapshot(&snapshot).map_err(refusal)?;
        self.waiting.push_back(Change { tag, kind: ChangeKind::PutSnapshot(snapshot) });
        Ok(())
    }

    /// What does not grow always has room, so that a full directory can be emptied.
    fn check_room(&self, before: usize, after: usize) -> Result<(), DirectoryError> {
        let total = self.planned.encoded_bytes() - before + after;
        if after > before && snapshot_bytes_max(total) > self.place.half_bytes as usize / 4 * 3 {
            return Err(DirectoryError::CapacityExceeded);
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), DirectoryError> {
        match self.phase {
            Phase::Recovering(_) => panic!("changes are asked for after Output::Ready"),
            Phase::Failed => Err(DirectoryError::Failed),
            Phase::Idle | Phase::Writing | Phase::Flushing | Phase::Compacting(_) => Ok(()),
        }
    }

    /// Puts as many waiting changes as fit into one frame; where not even one fits, all of them into a snapshot.
    fn begin(&mut self) {
        let mut frame = self.log.frame(&self.place);
        let marks_room = if self.marks == self.marks_logged { 0 } else { MARKS_ENCODED_MAX };
        // A frame of marks alone needs their room as well, and one without any still needs a record.
        while let Some(change) =
            self.waiting.pop_front_if(|change| frame.has_room(change.encoded_bytes() + marks_room))
        {
            change.push(&mut frame);
            self.in_flight.push(change);
        }
        if self.in_flight.is_empty() {
            self.in_flight.extend(self.waiting.drain(..));
            self.marks_logged = self.marks.clone();
            let generation = self.next_generation;
            self.next_generation += 1;
            let (compaction, step) =
                Compaction::start(self.place, &self.log, generation, &self.planned, &self.marks);
            self.phase = Phase::Compacting(Box::new(compaction));
            return self.steps.want(step);
        }
        if marks_room > 0 || frame.is_empty() {
            frame.push(&self.marks.to_raw());
            self.marks_logged = self.marks.clone();
        }
        let step = self.log.append(&self.place, frame);
        self.phase = Phase::Writing;
        self.steps.want(step);
    }

    /// What was in flight is durable.
    fn commit(&mut self) {
        for change in self.in_flight.drain(..) {
            match &change.kind {
                ChangeKind::Put(volume) => {
                    self.durable
                        .put(volume)
                        .expect("accepted in this order, so it contradicts nothing durable");
                }
                ChangeKind::Remove(id) => {
                    self.durable.remove(*id);
                }
                ChangeKind::PutSnapshot(snapshot) => {
                    self.durable
                        .put_snapshot(snapshot)
                        .expect("accepted in this order, so it contradicts nothing durable");
                }
                ChangeKind::RemoveSnapshot(id) => {
                    self.durable.remove_snapshot(*id);
                }
                ChangeKind::Marks => {}
            }
            self.stats.changes += 1;
            self.outputs.push_back(Output::Done { tag: change.tag, result: Ok(()) });
        }
    }

    fn on_recovered(&mut self) {
        let Phase::Recovering(recovery) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("only a recovery is recovered from")
        };
        let recovered = recovery.finish();
        self.log = recovered.log;
        self.next_generation = recovered.next_generation;
        self.planned = recovered.table.clone();
        self.durable = recovered.table;
        self.marks = recovered.marks.clone();
        self.marks_logged = recovered.marks;
        self.outputs.push_back(Output::Ready);
    }

    fn fail(&mut self, fault: DirectoryFault) {
        self.phase = Phase::Failed;
        let in_doubt = self.in_flight.drain(..).map(|change| (change, DirectoryError::InDoubt));
        let untouched = self.waiting.drain(..).map(|change| (change, DirectoryError::Failed));
        for (change, error) in in_doubt.chain(untouched) {
            self.outputs.push_back(Output::Done { tag: change.tag, result: Err(error) });
        }
        self.outputs.push_back(Output::Failed(fault));
    }
}

impl Change {
    fn encoded_bytes(&self) -> usize {
        match &self.kind {
            ChangeKind::Put(volume) => volume.encoded_bytes(),
            ChangeKind::PutSnapshot(snapshot) => snapshot.encoded_bytes(),
            ChangeKind::Remove(_) | ChangeKind::RemoveSnapshot(_) => RECORD_HEADER_BYTES,
            // Where the marks are as they were logged, they are logged again, so that the frame has a record.
            ChangeKind::Marks => MARKS_ENCODED_MAX,
        }
    }

    fn push(&self, frame: &mut Frame) {
        match &self.kind {
            ChangeKind::Put(volume) => frame.push(&volume.to_raw()),
            ChangeKind::Remove(id) => frame.push(&RawRecord::removal(KIND_VOLUME, VOLUME_VERSION, id.0)),
            ChangeKind::PutSnapshot(snapshot) => frame.push(&snapshot.to_raw()),
            ChangeKind::RemoveSnapshot(id) => {
                frame.push(&RawRecord::removal(KIND_SNAPSHOT, SNAPSHOT_VERSION, id.0));
            }
            ChangeKind::Marks => {}
        }
    }
}

fn refusal(conflict: Conflict) -> DirectoryError {
    match conflict {
        Conflict::Name => DirectoryError::NameTaken,
        Conflict::Nsid => DirectoryError::NsidTaken,
        Conflict::Uuid => DirectoryError::UuidTaken,
    }
}

/// Where a snapshot of `records` bytes and the marks ends at most.
fn snapshot_bytes_max(records: usize) -> usize {
    // Every frame but the last is filled until the next record, which may be the longest, does not fit; then it is
    // padded to at most 4096 bytes.
    const FILLED_MIN: usize =
        (FRAME_BYTES_MAX - FRAME_HEADER_BYTES) as usize - RECORD_HEADER_BYTES - RECORD_BYTES_MAX;
    let bytes = records + MARKS_ENCODED_MAX;
    let frames = bytes / FILLED_MIN + 1;
    FRAMES_OFFSET as usize + bytes + frames * (FRAME_HEADER_BYTES as usize + 4095)
}

#[cfg(test)]
mod test;
