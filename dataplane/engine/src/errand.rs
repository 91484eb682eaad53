//! Changes of volumes and snapshots: each a fixed list of steps, taken one after the other, across the directory, all
//! reactors and all shards.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use io::{Io, Memory, Net};
use store::directory::{DirectoryError, SnapshotRecord, VolumeRecord, VolumeState};
use store::{Outcome as PieceOutcome, VolumeId};
use subsystem::AssociationId;

use crate::action::{ActionError, Outcome};
use crate::engine::Engine;
use crate::job::reactor_of;
use crate::message::{Backing, Message, NamespaceChange, Origin, Piece, Reply, Target, Work};
use crate::shape;
use crate::slab::Slab;
use crate::stripe::Striping;

/// Changes under way.
#[derive(Debug)]
pub(crate) struct Errands {
    table: Slab<Errand>,
    /// Volumes and snapshots that a change needs as they are; a second change waits for nobody, it is refused.
    busy: BTreeSet<VolumeId>,
    /// Errands that somebody waits for.
    awaited: usize,
}

/// What a change is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Volumes and snapshots that nothing else may change meanwhile.
    pub(crate) busy: Vec<VolumeId>,
    /// What is recorded, fenced and answered.
    pub(crate) record: Record,
    /// The volume as it was, where a failure leads back to it.
    pub(crate) before: Option<VolumeRecord>,
    /// What is done.
    pub(crate) steps: Vec<Step>,
    /// What is done instead of the rest once a step has failed.
    pub(crate) undo: Vec<Step>,
}

/// What a change is about.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// Space alone: no record names it any more.
    None,
    /// A volume as it is to be.
    Volume(Box<VolumeRecord>),
    /// A snapshot as it is to be.
    Snapshot(Box<SnapshotRecord>),
}

/// One change.
pub(crate) struct Errand {
    busy: Vec<VolumeId>,
    record: Record,
    before: Option<VolumeRecord>,
    steps: VecDeque<Step>,
    undo: Vec<Step>,
    reply: Option<Reply>,
    /// Pieces of the step that have not ended.
    left: u32,
    /// Forks of the step whose place in their shard's order is not fixed.
    unplaced: u32,
    /// Shards whose fork has been counted as placed.
    placed: BTreeSet<u16>,
    result: PieceOutcome,
}

/// A step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the record durable.
    Record,
    /// Tell every reactor of the record and wait until nothing older runs.
    Fence,
    /// Let no command of the volume begin on any reactor, and wait until none runs. A later [`Step::Fence`] lets go.
    Pause,
    /// Let every command of the volume fail, on every reactor: which image it has shows at the next start.
    Doubt,
    /// Go back to the volume as it was, for the steps that follow.
    Revert,
    /// From now on no reactor acknowledges changes of this namespace, until the forks of the next step have their places.
    Hold(u32),
    /// Make an image of another, in every shard; durable once it is done.
    Fork { from: VolumeId, to: VolumeId, read_only: bool },
    /// Forget all blocks of an image from this byte of the volume on.
    Clear { image: VolumeId, lineage: VolumeId, from_bytes: u64 },
    /// Make what the shards were told so far safe from a power cut.
    Flush,
    /// Tell the host of this association that its controller has shut down.
    TellShutDown(AssociationId),
    /// Answer whoever asked.
    Answer,
    /// Forget an image.
    Drop(VolumeId),
    /// Forget the record of a volume.
    Forget(VolumeId),
    /// Forget the record of a snapshot.
    ForgetSnapshot(VolumeId),
    /// The last step: give back the space of snapshots that were deleted and have no clone left.
    Sweep,
}

impl Plan {
    /// A change of a volume alone.
    pub(crate) fn of_volume(record: VolumeRecord, steps: Vec<Step>) -> Self {
        Self {
            busy: vec![record.id],
            record: Record::Volume(Box::new(record)),
            before: None,
            steps,
            undo: Vec::new(),
        }
    }

    /// Space to be given back, of a volume or snapshot of this id.
    pub(crate) fn of_space(id: VolumeId, steps: Vec<Step>) -> Self {
        Self { busy: vec![id], record: Record::None, before: None, steps, undo: Vec::new() }
    }
}

impl Errands {
    pub(crate) const fn new() -> Self {
        Self { table: Slab::new(), busy: BTreeSet::new(), awaited: 0 }
    }

    /// True where nobody waits for a change; space may still be being given back.
    pub(crate) fn is_idle(&self) -> bool {
        self.awaited == 0
    }

    /// True while the volume or snapshot is needed by a change.
    pub(crate) fn is_busy(&self, id: VolumeId) -> bool {
        self.busy.contains(&id)
    }

    /// Adds a change; its first step is still to be taken.
    pub(crate) fn add(&mut self, plan: Plan, reply: Option<Reply>) -> u32 {
        let Plan { busy, record, before, steps, undo } = plan;
        self.busy.extend(busy.iter().copied());
        self.awaited += usize::from(reply.is_some());
        self.table.insert(Errand {
            busy,
            record,
            before,
            steps: steps.into(),
            undo,
            reply,
            left: 0,
            unplaced: 0,
            placed: BTreeSet::new(),
            result: PieceOutcome::Ok,
        })
    }

    fn answer(&mut self, number: u32, result: Result<Outcome, ActionError>) {
        if let Some(reply) = self.table.value(number).reply.take() {
            self.awaited -= 1;
            reply(result);
        }
    }

    fn end(&mut self, number: u32) {
        for id in self.table.remove(number).busy {
            self.busy.remove(&id);
        }
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Takes a change up.
    pub(crate) fn begin_errand(&mut self, plan: Plan, reply: Option<Reply>, io: &mut I) {
        #[cfg(feature = "planted")]
        let plan = self.spoil(plan);
        let Some(lead) = &mut self.lead else { return };
        let number = lead.errands.add(plan, reply);
        self.advance(number, io);
    }

    /// Takes the next step of a change.
    pub(crate) fn advance(&mut self, number: u32, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        let Some(step) = errand.steps.pop_front() else { return lead.errands.end(number) };
        match step {
            #[cfg(feature = "planted")]
            Step::Clear { .. } if self.planted == Some(crate::Planted::ForgetClear) => {
                self.advance(number, io)
            }
            Step::Record | Step::Forget(_) | Step::ForgetSnapshot(_) => self.record(number, step),
            Step::Fence | Step::Pause | Step::Doubt => self.fence(number, step, io),
            Step::Revert => {
                if let Some(before) = errand.before.take() {
                    errand.record = Record::Volume(Box::new(before));
                }
                self.advance(number, io);
            }
            Step::Hold(nsid) => {
                lead.holds.ask(number, lead.reactors);
                self.post.broadcast(io, || Message::Hold { nsid, errand: number });
            }
            Step::Fork { from, to, read_only } => {
                let shards = self.shards();
                if let Some(lead) = &mut self.lead {
                    lead.errands.table.value(number).unplaced = u32::from(shards);
                }
                self.on_all_shards(number, from, io, |_| (0, Work::Fork { image: to, read_only }));
            }
            Step::Clear { image, lineage, from_bytes } => self.clear(number, image, lineage, from_bytes, io),
            Step::Flush => self.on_all_shards(number, VolumeId(0), io, |_| (0, Work::Flush)),
            Step::Drop(image) => self.on_all_shards(number, image, io, |_| (0, Work::DropVolume)),
            Step::Sweep => {
                lead.errands.end(number);
                self.sweep_snapshots(io);
            }
            Step::TellShutDown(association) => {
                lead.desk().on_flushed(association);
                self.advance(number, io);
            }
            Step::Answer => {
                let outcome = lead.outcome(number);
                lead.errands.answer(number, Ok(outcome));
                self.advance(number, io);
            }
        }
    }

    /// A host shuts its controller down: whatever it was told is made safe first. Where that fails the host is not told
    /// that it may let the power go.
    pub(crate) fn flush_for_shutdown(&mut self, association: AssociationId, io: &mut I) {
        let mut steps = vec![Step::Flush, Step::TellShutDown(association)];
        if self.lead.as_ref().is_none_or(|lead| lead.layout.is_none()) {
            steps.remove(0);
        }
        let plan = Plan { busy: Vec::new(), record: Record::None, before: None, steps, undo: Vec::new() };
        self.begin_errand(plan, None, io);
    }

    /// The directory has answered a step of a change.
    pub(crate) fn on_recorded(&mut self, number: u32, result: Result<(), DirectoryError>, io: &mut I) {
        match result {
            Ok(()) => self.advance(number, io),
            Err(DirectoryError::InDoubt) => self.leave_in_doubt(number, io),
            Err(error) => self.fail_errand(number, action_error(error), io),
        }
    }

    /// Every reactor holds back what the change wants to be held back.
    pub(crate) fn on_held(&mut self, number: u32, io: &mut I) {
        if self.lead.as_mut().is_some_and(|lead| lead.holds.answer(&number, true).is_some()) {
            self.advance(number, io);
        }
    }

    /// The fork of a change has its place in a shard's order.
    pub(crate) fn on_placed(&mut self, number: u32, shard: u16, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        if errand.unplaced == 0 || !errand.placed.insert(shard) {
            return;
        }
        errand.unplaced -= 1;
        if errand.unplaced == 0 {
            errand.placed.clear();
            self.post.broadcast(io, || Message::LetGo { errand: number });
        }
    }

    /// A piece of a step has ended.
    pub(crate) fn on_errand_piece(&mut self, number: u32, shard: u16, result: PieceOutcome, io: &mut I) {
        // A fork that failed has no place, and nobody has to wait for it any more.
        self.on_placed(number, shard, io);
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        errand.result = errand.result.max(result);
        errand.left -= 1;
        if errand.left > 0 {
            return;
        }
        match std::mem::replace(&mut errand.result, PieceOutcome::Ok) {
            PieceOutcome::Ok => self.advance(number, io),
            PieceOutcome::CapacityExceeded => {
                let error = ActionError::CapacityExceeded("the pool is full: delete what is not needed");
                self.fail_errand(number, error, io);
            }
            // The record says what shall be; the next start takes the step again.
            _ => self.fail_errand(number, ActionError::Device, io),
        }
    }

    /// A step has failed: what the others did is undone as far as the change knows how.
    fn fail_errand(&mut self, number: u32, error: ActionError, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        lead.errands.answer(number, Err(error));
        let errand = lead.errands.table.value(number);
        errand.steps = std::mem::take(&mut errand.undo).into();
        self.advance(number, io);
    }

    /// Whether the change was recorded shows at the next start, and nothing may be undone that the record may name. That
    /// start drops what it does not name. A volume that has changed its image takes no command until then: what it wrote
    /// to one image would be gone with it.
    fn leave_in_doubt(&mut self, number: u32, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        lead.errands.answer(number, Err(ActionError::Device));
        let errand = lead.errands.table.value(number);
        errand.steps = errand.before.iter().map(|_| Step::Doubt).collect();
        self.advance(number, io);
    }

    /// Space of volumes and snapshots that are gone for hosts: those that are being deleted, and images that no record
    /// names.
    pub(crate) fn resume_deletes(&mut self, orphans: impl IntoIterator<Item = VolumeId>, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let deleting = lead.directory.iter().flat_map(|directory| directory.volumes());
        let mut plans: Vec<Plan> = deleting
            .filter(|volume| volume.state == VolumeState::Deleting)
            .map(|volume| {
                Plan::of_space(
                    volume.id,
                    vec![Step::Drop(volume.image), Step::Forget(volume.id), Step::Sweep],
                )
            })
            .collect();
        plans.extend(orphans.into_iter().map(|image| Plan::of_space(image, vec![Step::Drop(image)])));
        for plan in plans {
            self.begin_errand(plan, None, io);
        }
        self.sweep_snapshots(io);
    }

    /// Snapshots that were deleted and have no clone left: their space is given back.
    fn sweep_snapshots(&mut self, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let Some(directory) = &lead.directory else { return };
        let swept: Vec<Plan> = directory
            .snapshots()
            .filter(|snapshot| snapshot.state == VolumeState::Deleting && !lead.errands.is_busy(snapshot.id))
            .filter(|snapshot| directory.volumes().all(|volume| volume.source != snapshot.uuid))
            .map(|snapshot| {
                Plan::of_space(snapshot.id, vec![Step::Drop(snapshot.id), Step::ForgetSnapshot(snapshot.id)])
            })
            .collect();
        for plan in swept {
            self.begin_errand(plan, None, io);
        }
    }

    /// A step that the directory takes.
    fn record(&mut self, number: u32, step: Step) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        let directory = lead.directory.as_mut().expect("there are volumes only where there is a directory");
        let tag = u64::from(number);
        match (step, &errand.record) {
            (Step::Forget(volume), _) => directory.remove_volume(volume, tag),
            (Step::ForgetSnapshot(snapshot), _) => directory.remove_snapshot(snapshot, tag),
            (_, Record::Volume(record)) => directory.put_volume(VolumeRecord::clone(record), tag),
            (_, Record::Snapshot(record)) => directory.put_snapshot(SnapshotRecord::clone(record), tag),
            (_, Record::None) => unreachable!("a change that is recorded has a record"),
        }
    }

    fn fence(&mut self, number: u32, step: Step, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        let record = match (&errand.record, &errand.before) {
            (_, Some(before)) if matches!(step, Step::Pause | Step::Doubt) => before,
            (Record::Volume(record), _) => record,
            (Record::Snapshot(_) | Record::None, _) => unreachable!("hosts see volumes alone"),
        };
        let mut change = shape::change(record);
        if let NamespaceChange::Set(_, backing, _) = &mut change {
            match step {
                Step::Pause => *backing = Backing::Paused,
                Step::Doubt => *backing = Backing::InDoubt,
                _ => {}
            }
        }
        let fence = self.broadcast_namespace(change, io);
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::Planted::AnswerBeforeFence) {
            return self.advance(number, io);
        }
        self.lead.as_mut().expect("as above").fence_errand(fence, number);
    }

    /// Forgets every block of an image from `from_bytes` on, in every shard.
    fn clear(&mut self, number: u32, image: VolumeId, lineage: VolumeId, from_bytes: u64, io: &mut I) {
        let shards = self.shards();
        let mut ends = vec![0; usize::from(shards)];
        for stretch in Striping::new(lineage.0, shards).ranges(0, from_bytes) {
            ends[usize::from(stretch.shard)] = stretch.offset + stretch.len;
        }
        self.on_all_shards(number, image, io, |shard| (ends[usize::from(shard)], Work::DropFrom));
    }

    fn on_all_shards(
        &mut self,
        number: u32,
        image: VolumeId,
        io: &mut I,
        work: impl Fn(u16) -> (u64, Work<I::Buffer>),
    ) {
        let shards = self.shards();
        let Some(lead) = &mut self.lead else { return };
        lead.errands.table.value(number).left = u32::from(shards);
        for shard in (0..shards).map(store::ShardId) {
            let (offset, work) = work(shard.0);
            let (from, origin) = (self.reactor, Origin::Errand { number, shard: shard.0 });
            let target = Target::Shard { shard, image, compress: false };
            let piece = Piece { from, origin, target, offset, len: 0, work };
            self.route(reactor_of(shard, self.reactors), piece, io);
        }
    }

    pub(crate) fn shards(&self) -> u16 {
        let layout = self.lead.as_ref().and_then(|lead| lead.layout.as_ref());
        layout.expect("there are volumes only where there is a pool").shards()
    }
}

impl<B: io::Buffer> crate::lead::Lead<B> {
    /// The namespace that a change rolled back, whose hosts are to be told although it looks as before.
    pub(crate) fn rolled_back(&mut self, number: u32) -> bool {
        let errand = self.errands.table.value(number);
        matches!((&errand.record, &errand.before), (Record::Volume(now), Some(before)) if now.image != before.image)
    }

    fn outcome(&mut self, number: u32) -> Outcome {
        match self.errands.table.value(number).record.clone() {
            Record::Volume(record) if record.state == VolumeState::Available => {
                Outcome::Volume(Box::new(self.managed(&record)))
            }
            Record::Snapshot(record) if record.state == VolumeState::Available => {
                Outcome::Snapshot(Box::new(shape::to_snapshot(&record)))
            }
            Record::Volume(_) | Record::Snapshot(_) | Record::None => Outcome::Done,
        }
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("busy", &self.busy).field("steps", &self.steps).finish_non_exhaustive()
    }
}

fn action_error(error: DirectoryError) -> ActionError {
    match error {
        DirectoryError::CapacityExceeded => ActionError::CapacityExceeded("the pool's directory is full"),
        DirectoryError::Failed | DirectoryError::InDoubt => ActionError::Device,
        DirectoryError::Invalid { field, rule } => ActionError::Invalid { field, rule },
        DirectoryError::NameTaken | DirectoryError::UuidTaken | DirectoryError::NsidTaken => {
            ActionError::Exists
        }
        DirectoryError::NotFound => ActionError::NotFound,
    }
}
