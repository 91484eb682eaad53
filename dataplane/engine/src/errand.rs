//! Changes of volumes: each a fixed list of steps, taken one after the other, across the directory, all reactors and
//! all shards.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use io::{Io, Memory, Net};
use store::directory::{DirectoryError, VolumeRecord, VolumeState};
use store::{Outcome as PieceOutcome, VolumeId};

use crate::action::{ActionError, Outcome};
use crate::engine::Engine;
use crate::job::reactor_of;
use crate::message::{Message, Origin, Piece, Reply, Target, Work};
use crate::shape;
use crate::slab::Slab;
use crate::stripe::Striping;

/// Changes under way.
#[derive(Debug)]
pub(crate) struct Errands {
    table: Slab<Errand>,
    /// Volumes that are being changed; a second change waits for nobody, it is refused.
    busy: BTreeSet<VolumeId>,
    /// Errands that somebody waits for.
    awaited: usize,
}

/// One change.
pub(crate) struct Errand {
    volume: VolumeId,
    record: Option<VolumeRecord>,
    steps: VecDeque<Step>,
    reply: Option<Reply>,
    /// Pieces of the step that have not ended.
    left: u32,
    failed: bool,
}

/// A step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the record durable.
    Record,
    /// Tell every reactor and wait until nothing older runs.
    Fence,
    /// Forget all blocks from this byte of the volume on.
    Clear(u64),
    /// Make what the shards were told so far safe from a power cut.
    Flush,
    /// Answer whoever asked.
    Answer,
    /// Forget all blocks.
    Drop,
    /// Forget the record.
    Forget,
}

impl Errands {
    pub(crate) const fn new() -> Self {
        Self { table: Slab::new(), busy: BTreeSet::new(), awaited: 0 }
    }

    /// True where nobody waits for a change; space may still be being given back.
    pub(crate) fn is_idle(&self) -> bool {
        self.awaited == 0
    }

    /// True while the volume is being changed.
    pub(crate) fn is_busy(&self, volume: VolumeId) -> bool {
        self.busy.contains(&volume)
    }

    /// Adds a change; its first step is still to be taken.
    pub(crate) fn add(
        &mut self,
        volume: VolumeId,
        record: Option<VolumeRecord>,
        steps: impl IntoIterator<Item = Step>,
        reply: Option<Reply>,
    ) -> u32 {
        self.busy.insert(volume);
        self.awaited += usize::from(reply.is_some());
        let steps = steps.into_iter().collect();
        self.table.insert(Errand { volume, record, steps, reply, left: 0, failed: false })
    }

    fn answer(&mut self, number: u32, result: Result<Outcome, ActionError>) {
        if let Some(reply) = self.table.value(number).reply.take() {
            self.awaited -= 1;
            reply(result);
        }
    }

    fn end(&mut self, number: u32) {
        let errand = self.table.remove(number);
        self.busy.remove(&errand.volume);
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Takes the next step of a change.
    pub(crate) fn advance(&mut self, number: u32, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        let volume = errand.volume;
        let Some(step) = errand.steps.pop_front() else { return lead.errands.end(number) };
        match step {
            Step::Record => {
                let record = errand.record.clone().expect("a change that is recorded has a record");
                let directory =
                    lead.directory.as_mut().expect("there are volumes only where there is a directory");
                directory.put_volume(record, u64::from(number));
            }
            Step::Fence => {
                let record = errand.record.as_ref().expect("a change that hosts see has a record");
                let change = shape::change(record);
                let fence = self.broadcast_namespace(change, io);
                #[cfg(feature = "planted")]
                if self.planted == Some(crate::Planted::AnswerBeforeFence) {
                    return self.advance(number, io);
                }
                self.lead.as_mut().expect("as above").fence_errand(fence, number);
            }
            #[cfg(feature = "planted")]
            Step::Clear(_) if self.planted == Some(crate::Planted::ForgetClear) => self.advance(number, io),
            Step::Clear(size_bytes) => self.clear(number, volume, size_bytes, io),
            Step::Flush => self.on_all_shards(number, volume, io, |_| (0, Work::Flush)),
            Step::Drop => self.on_all_shards(number, volume, io, |_| (0, Work::DropVolume)),
            Step::Answer => {
                let outcome = match &errand.record {
                    Some(record) if record.state == VolumeState::Available => {
                        Outcome::Volume(Box::new(shape::to_management(record)))
                    }
                    Some(_) | None => Outcome::Done,
                };
                lead.errands.answer(number, Ok(outcome));
                self.advance(number, io);
            }
            Step::Forget => {
                let directory =
                    lead.directory.as_mut().expect("there are volumes only where there is a directory");
                directory.remove_volume(volume, u64::from(number));
            }
        }
    }

    /// The directory has answered a step of a change.
    pub(crate) fn on_recorded(&mut self, number: u32, result: Result<(), DirectoryError>, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        if let Err(error) = result {
            lead.errands.answer(number, Err(action_error(error)));
            return lead.errands.end(number);
        }
        self.advance(number, io);
    }

    /// A piece of a step has ended.
    pub(crate) fn on_errand_piece(&mut self, number: u32, result: PieceOutcome, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let errand = lead.errands.table.value(number);
        errand.failed |= result != PieceOutcome::Ok;
        errand.left -= 1;
        if errand.left > 0 {
            return;
        }
        if errand.failed {
            // The record says what shall be; the next start takes the step again.
            lead.errands.answer(number, Err(ActionError::Device));
            return lead.errands.end(number);
        }
        self.advance(number, io);
    }

    /// Space of volumes that are gone for hosts: those that are being deleted, and those that no record names.
    pub(crate) fn resume_deletes(&mut self, orphans: impl IntoIterator<Item = VolumeId>, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let deleting = lead.directory.iter().flat_map(|directory| directory.volumes());
        let deleting: Vec<_> =
            deleting.filter(|volume| volume.state == VolumeState::Deleting).map(|volume| volume.id).collect();
        let mut begun: Vec<u32> = deleting
            .into_iter()
            .map(|id| lead.errands.add(id, None, [Step::Drop, Step::Forget], None))
            .collect();
        begun.extend(orphans.into_iter().map(|id| lead.errands.add(id, None, [Step::Drop], None)));
        for number in begun {
            self.advance(number, io);
        }
    }

    /// Forgets every block of the volume from `size_bytes` on, in every shard.
    fn clear(&mut self, number: u32, volume: VolumeId, size_bytes: u64, io: &mut I) {
        let shards = self.shards();
        let mut ends = vec![0; usize::from(shards)];
        for stretch in Striping::new(volume.0, shards).ranges(0, size_bytes) {
            ends[usize::from(stretch.shard)] = stretch.offset + stretch.len;
        }
        self.on_all_shards(number, volume, io, |shard| (ends[usize::from(shard)], Work::DropFrom));
    }

    fn on_all_shards(
        &mut self,
        number: u32,
        volume: VolumeId,
        io: &mut I,
        work: impl Fn(u16) -> (u64, Work<I::Buffer>),
    ) {
        let shards = self.shards();
        let Some(lead) = &mut self.lead else { return };
        lead.errands.table.value(number).left = u32::from(shards);
        for shard in (0..shards).map(store::ShardId) {
            let (offset, work) = work(shard.0);
            let (from, origin) = (self.reactor, Origin::Errand(number));
            let piece = Piece { from, origin, target: Target::Shard(shard, volume), offset, len: 0, work };
            self.route(reactor_of(shard, self.reactors), piece, io);
        }
    }

    fn shards(&self) -> u16 {
        let layout = self.lead.as_ref().and_then(|lead| lead.layout.as_ref());
        layout.expect("there are volumes only where there is a pool").shards()
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand")
            .field("volume", &self.volume)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

fn action_error(error: DirectoryError) -> ActionError {
    match error {
        DirectoryError::CapacityExceeded => ActionError::CapacityExceeded("the pool's directory is full"),
        DirectoryError::Failed => ActionError::Device,
        DirectoryError::Invalid { field, rule } => ActionError::Invalid { field, rule },
        DirectoryError::NameTaken | DirectoryError::UuidTaken | DirectoryError::NsidTaken => {
            ActionError::Exists
        }
        DirectoryError::NotFound => ActionError::NotFound,
    }
}
