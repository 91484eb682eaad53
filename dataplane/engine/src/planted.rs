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
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 10] = [
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
            _ => {}
        }
        plan
    }
}
