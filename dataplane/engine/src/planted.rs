//! Deliberately wrong behaviour, compiled in only for the tests of the tests.

use io::{Io, Memory, Net};

use crate::engine::Engine;
use crate::errand::{Plan, Record, Step};
use crate::message::Message;

/// What goes wrong on purpose; the simulator must catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A change is answered before every reactor has drained what it fences.
    AnswerBeforeFence,
    /// A volume that becomes smaller keeps its blocks beyond the new end.
    ForgetClear,
    /// The queues of an association that has ended go on.
    KeepStaleQueues,
    /// A flush asks one shard only.
    FlushOneShard,
    /// The second stripe of a write gets the data of the first.
    RepeatFirstStripe,
    /// A command ends as its last piece did, whatever the others said.
    ForgetOtherPieces,
    /// Changes are acknowledged while a snapshot is cut.
    ForgetHold,
    /// A snapshot is recorded before the shards have made it.
    RecordBeforeFork,
    /// What a rollback replaced is kept.
    KeepReplaced,
    /// A start keeps the images that no record names.
    KeepOrphans,
    /// Commands of a volume go on while it is rolled back.
    RollBackUnderIo,
    /// A clone is made of the volume as it is now.
    CloneOfVolume,
    /// A diff leaves out what the first shard has found.
    DiffWithoutShard,
}

impl Planted {
    /// Those that show only where there are snapshots.
    pub const OF_IMAGES: [Self; 3] = [Self::RollBackUnderIo, Self::CloneOfVolume, Self::DiffWithoutShard];

    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AnswerBeforeFence,
        Self::ForgetClear,
        Self::KeepStaleQueues,
        Self::FlushOneShard,
        Self::RepeatFirstStripe,
        Self::ForgetOtherPieces,
        Self::ForgetHold,
        Self::RecordBeforeFork,
        Self::KeepReplaced,
        Self::KeepOrphans,
        Self::RollBackUnderIo,
        Self::CloneOfVolume,
        Self::DiffWithoutShard,
    ];
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// A change with a step in the wrong place, or without it.
    pub(crate) fn spoil(&self, mut plan: Plan) -> Plan {
        match self.planted {
            Some(Planted::RecordBeforeFork) if matches!(plan.record, Record::Snapshot(_)) => {
                let fork = plan.steps.iter().position(|step| matches!(step, Step::Fork { .. }));
                if let Some(fork) = fork {
                    plan.steps.swap(fork, fork + 1);
                }
            }
            Some(Planted::KeepReplaced) if plan.before.is_some() => {
                plan.steps.retain(|step| !matches!(step, Step::Drop(_)));
            }
            Some(Planted::RollBackUnderIo) if plan.before.is_some() => {
                plan.steps.retain(|step| *step != Step::Pause);
            }
            Some(Planted::CloneOfVolume) if plan.before.is_none() => self.fork_volume(&mut plan),
            _ => {}
        }
        plan
    }

    /// What was to be forked for a volume becomes a volume of the same lineage.
    fn fork_volume(&self, plan: &mut Plan) {
        let Record::Volume(record) = &plan.record else { return };
        let directory = self.lead.as_ref().and_then(|lead| lead.directory.as_ref());
        let mut volumes = directory.into_iter().flat_map(|directory| directory.volumes());
        let Some(live) = volumes.find(|volume| volume.lineage == record.lineage) else { return };
        for step in &mut plan.steps {
            if let Step::Fork { from, .. } = step {
                *from = live.image;
            }
        }
    }
}
