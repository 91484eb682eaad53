//! Short scripts during which the process ends after each write and each flush of a drive in turn, so that no moment between
//! two of them is left to chance: once for each the script runs up to there, ends, starts again and must hold what it was
//! told, to the end at which nothing is left.

use std::time::Duration;

use io::DriveShape;
use store::ShardOptions;

use super::load::Range;
use super::{TargetPlan, TargetReport, TargetTrial};
use crate::model::SECTORS;
use crate::trial::Violation;
use crate::{Crash, CutStyle, Faults, MemoryLimits};

/// What happens until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Snapshots between writes, and one of them deleted.
    Snapshots,
    /// Clones of a snapshot and of a clone's.
    Clones,
    /// A volume goes back, twice.
    Rollbacks,
    /// Volumes and snapshots go in the wrong order.
    Deletes,
    /// A volume becomes smaller and larger.
    Sizes,
    /// Compression is switched on and off between writes of the same blocks.
    Compression,
    /// The start after a kill.
    Start,
}

/// Where a script is cut, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// The script.
    pub script: Script,
    /// Writes and flushes that end before the crash, from 1.
    pub after: u64,
    /// How the process ends.
    pub crash: Crash,
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Snapshots,
        Self::Clones,
        Self::Rollbacks,
        Self::Deletes,
        Self::Sizes,
        Self::Compression,
        Self::Start,
    ];
}

impl CrashPoint {
    /// Ways to end.
    pub const CRASHES: [Crash; 3] =
        [Crash::Kill, Crash::PowerCut(CutStyle::AllLost), Crash::PowerCut(CutStyle::EachAlone)];

    /// The point of a number: see [`Self::number`].
    #[must_use]
    pub fn of(number: u64) -> Self {
        let choose = |number: u64, count: usize| usize::try_from(number).unwrap_or(0) % count;
        Self {
            script: Script::ALL[choose(number / 10 % 10, Script::ALL.len())],
            after: number / 100,
            crash: Self::CRASHES[choose(number % 10, Self::CRASHES.len())],
        }
    }

    /// By which the point is replayed: how many writes and flushes, a digit for the script, a digit for the crash.
    #[must_use]
    pub fn number(&self) -> u64 {
        let script = Script::ALL.iter().position(|other| *other == self.script).unwrap_or(0);
        let crash = Self::CRASHES.iter().position(|other| *other == self.crash).unwrap_or(0);
        self.after * 100 + script as u64 * 10 + crash as u64
    }
}

/// Runs a script up to a point on a plan of [`TargetPlan::of_crashes`]; `None` where the script ends before. A panic of the
/// code under test is a violation too.
///
/// # Errors
/// The first promise that was broken.
pub fn run_crash(plan: &TargetPlan, point: CrashPoint) -> Result<Option<TargetReport>, Violation> {
    let plan = plan.clone();
    crate::trial::catch(move || TargetTrial::new(plan).run_crash(point))
}

/// How many writes and flushes a script has: one crash point each.
///
/// # Errors
/// The first promise that was broken.
pub fn crash_points(plan: &TargetPlan, script: Script) -> Result<u64, Violation> {
    const NEVER: u64 = u64::MAX / 2;
    let plan = plan.clone();
    crate::trial::catch(move || {
        let mut trial = TargetTrial::new(plan);
        trial.play(CrashPoint { script, after: NEVER, crash: Crash::Kill })?;
        let begun = trial.interrupt_at.map_or(0, |at| at - NEVER);
        Ok(trial.world.writes_ended() - begun)
    })
}

impl TargetPlan {
    /// Two volumes of which one lies in every shard, and a log that makes a checkpoint every few writes.
    #[must_use]
    pub fn of_crashes() -> Self {
        Self {
            reactors: vec![2],
            drives: vec![DriveShape { size_bytes: 12 << 20, block_bytes: 512, volatile_cache: true }],
            shards: 2,
            shard_options: ShardOptions {
                batch_bytes_max: 64 << 10,
                checkpoint_bytes: 128 << 10,
                flush_bytes: 64 << 10,
                retry: Duration::from_millis(1),
                ..ShardOptions::default()
            },
            memory: MemoryLimits::default(),
            faults: Faults::none(),
            hosts: 1,
            queues: 1,
            depth: 8,
            volumes: vec![(300, false), (8, true)],
            digests: false,
            ..Self::new(0)
        }
    }
}

impl TargetTrial {
    /// See [`run_crash`].
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run_crash(mut self, point: CrashPoint) -> Result<Option<TargetReport>, Violation> {
        match self.play(point) {
            Err(Violation::Interrupted) => {}
            Err(violation) => return Err(violation),
            Ok(()) => return Ok(None),
        }
        self.end_process(point.crash, self.plan.reactors[0]);
        self.begin_life(self.plan.reactors[0])?;
        self.meet_what_is_there()?;
        self.ask_again();
        self.meet_hosts()?;
        self.verify()?;
        self.finish().map(Some)
    }

    /// Does what the script says.
    fn play(&mut self, point: CrashPoint) -> Result<(), Violation> {
        self.begin_life(self.plan.reactors[0])?;
        self.make_volumes()?;
        self.meet_hosts()?;
        if point.script != Script::Start {
            self.interrupt_after(point.after);
        }
        match point.script {
            Script::Snapshots => self.play_snapshots(),
            Script::Clones => self.play_clones(),
            Script::Rollbacks => self.play_rollbacks(),
            Script::Deletes => self.play_deletes(),
            Script::Sizes => self.play_sizes(),
            Script::Compression => self.play_compression(),
            Script::Start => self.play_start(point.after),
        }?;
        self.await_changes()?;
        self.rest()
    }

    fn interrupt_after(&mut self, writes: u64) {
        self.interrupt_at = Some(self.world.writes_ended() + writes);
    }

    fn play_snapshots(&mut self) -> Result<(), Violation> {
        for round in 0..2 {
            self.put(0, 16 * round, 8)?;
            self.put(0, 250, 12)?;
            self.take(0)?;
            self.put(0, 4, 8)?;
            self.put(0, 254, 4)?;
            self.take(0)?;
            self.put(0, 0, 16)?;
            self.ask_snapshot_delete(round);
            self.put(0, 255, 2)?;
            self.await_changes()?;
        }
        self.take(0)
    }

    fn play_clones(&mut self) -> Result<(), Violation> {
        self.put(0, 250, 12)?;
        self.take(0)?;
        self.ask_clone(0);
        self.put(0, 248, 8)?;
        self.await_changes()?;
        self.await_reads()?;
        self.put(2, 252, 8)?;
        self.take(2)?;
        self.ask_clone(1);
        self.await_changes()?;
        self.await_reads()?;
        self.put(3, 250, 4)?;
        self.rest()?;
        self.ask_delete(2);
        self.put(3, 256, 4)?;
        self.await_changes()
    }

    fn play_rollbacks(&mut self) -> Result<(), Violation> {
        self.put(0, 250, 12)?;
        self.take(0)?;
        // A first look tells the model what the snapshot holds.
        self.ask_clone(0);
        self.await_changes()?;
        self.await_reads()?;
        for _ in 0..4 {
            self.put(0, 248, 12)?;
            self.rest()?;
            self.ask_rollback(0, 0);
            self.await_changes()?;
            self.rest()?;
        }
        self.put(0, 254, 4)
    }

    fn play_deletes(&mut self) -> Result<(), Violation> {
        self.put(0, 250, 12)?;
        self.take(0)?;
        self.put(0, 254, 4)?;
        self.take(0)?;
        self.put(0, 0, 8)?;
        self.rest()?;
        self.ask_snapshot_delete(0);
        self.ask_delete(0);
        self.put(1, 0, 8)?;
        self.await_changes()?;
        self.ask_snapshot_delete(1);
        self.put(1, 2, 4)?;
        self.await_changes()
    }

    fn play_sizes(&mut self) -> Result<(), Violation> {
        self.put(0, 90, 12)?;
        self.put(0, 288, 12)?;
        self.rest()?;
        let sizes = [(100, 92), (400, 392), (255, 240), (520, 254), (1, 0), (257, 249)];
        for (blocks, first) in sizes {
            let count = 8.min(blocks - first);
            self.ask_size(0, blocks);
            self.await_changes()?;
            self.put(0, first, count)?;
            self.rest()?;
        }
        Ok(())
    }

    fn play_compression(&mut self) -> Result<(), Violation> {
        for round in 0..6 {
            self.put(0, 250 - round, 12)?;
            self.ask_compression_of(0, round % 2 == 0);
            self.put(0, round, 8)?;
            self.await_changes()?;
        }
        self.take(0)?;
        self.put(0, 252, 8)
    }

    fn play_start(&mut self, after: u64) -> Result<(), Violation> {
        self.play_clones()?;
        self.put(0, 0, 16)?;
        self.ask_snapshot(0);
        self.turn()?;
        self.end_process(Crash::Kill, self.plan.reactors[0]);
        self.interrupt_after(after);
        self.begin_life(self.plan.reactors[0])?;
        self.meet_what_is_there()?;
        self.ask_again();
        self.meet_hosts()?;
        self.verify()?;
        self.put(0, 250, 12)?;
        self.take(3)
    }

    /// Writes blocks of a volume; the answer is not waited for.
    fn put(&mut self, volume: usize, first: usize, count: usize) -> Result<(), Violation> {
        let range = Range { volume, first: (first * SECTORS) as u64, count: count * SECTORS };
        while !self.ask_write(0, range) {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes a snapshot.
    fn take(&mut self, volume: usize) -> Result<(), Violation> {
        self.ask_snapshot(volume);
        self.await_changes()
    }
}
