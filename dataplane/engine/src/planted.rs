//! Deliberately wrong behaviour, compiled in only for the tests of the tests.

use std::collections::VecDeque;
use std::time::Duration;

use io::{Io, Memory, Net, Time};

use crate::engine::Engine;
use crate::errand::{Plan, Record, Step};
use crate::message::{Message, Piece, Work};

/// How late forks are: long enough for many writes.
const LATE: Duration = Duration::from_millis(5);

/// Forks that have come and are put off, with the time at which they go on.
pub(crate) type LateForks<B> = VecDeque<(Time, Piece<B>)>;

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
    /// Changes are acknowledged while a snapshot is cut, which takes as long as with [`Self::LateForks`].
    ForgetHold,
    /// Slow, not wrong: forks reach the shards of other reactors late.
    LateForks,
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
    /// Segments of a drive that joins are given out before every reactor knows of it.
    GrantBeforeGrown,
}

impl Planted {
    /// Those that show only where there are snapshots.
    pub const OF_IMAGES: [Self; 3] = [Self::RollBackUnderIo, Self::CloneOfVolume, Self::DiffWithoutShard];

    /// All that are wrong.
    pub const ALL: [Self; 14] = [
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
        Self::GrantBeforeGrown,
    ];
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Takes in a piece of another reactor; gives it back where it is not put off.
    pub(crate) fn put_off(&mut self, piece: Piece<I::Buffer>, now: Time) -> Option<Piece<I::Buffer>> {
        let late = matches!(self.planted, Some(Planted::LateForks | Planted::ForgetHold));
        if late && matches!(piece.work, Work::Fork { .. }) {
            self.late_forks.push_back((now + LATE, piece));
            return None;
        }
        Some(piece)
    }

    /// Lets forks go on whose time has come; when that of the next comes.
    pub(crate) fn run_late_forks(&mut self, io: &mut I, now: Time) -> Option<Time> {
        while self.late_forks.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, piece)) = self.late_forks.pop_front() {
                self.route(self.reactor, piece, io);
            }
        }
        self.late_forks.front().map(|(at, _)| *at)
    }

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
