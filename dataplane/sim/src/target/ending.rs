//! The ends of lives: what is there after a crash, what everything holds at the end, and that nothing is left once
//! everything was deleted.

use std::time::Duration;

use engine::{Action, Outcome};
use io::{Clock, Io, ReactorId};

use super::host::SimHost;
use super::manage::Change;
use super::{Seat, TargetReport, TargetTrial};
use crate::model::SECTORS;
use crate::trial::Violation;

/// Virtual time after which what was deleted must have left nothing behind.
const SPACE_TIME_MAX: Duration = Duration::from_secs(10);

impl TargetTrial {
    /// Every snapshot holds what it must, diffs and usage are right; once everything is deleted nothing is left, not even
    /// after the next start; every buffer is home.
    pub(super) fn finish(mut self) -> Result<TargetReport, Violation> {
        if self.plan.ends_empty {
            self.come_to_rest()?;
            self.verify()?;
            self.look_at_snapshots()?;
            self.check_usage()?;
            self.delete_everything()?;
            self.await_space()?;
        }
        self.stop()?;
        let ran = self.live_bytes();
        self.check_buffers()?;
        if self.plan.ends_empty {
            // However it ends then: everything was safe.
            self.crash(self.plan.reactors[0]);
            self.begin_life(self.plan.reactors[0])?;
            // Recovery takes over what was counted.
            let found = self.live_bytes();
            let differs = |(shard, (ran, found)): (usize, (&u64, &u64))| {
                (ran != found).then_some((shard, *ran, *found))
            };
            if let Some((shard, ran, found)) = ran.iter().zip(&found).enumerate().find_map(differs) {
                return Err(Violation::Miscounted { shard, ran, found });
            }
            self.meet_what_is_there()?;
            self.await_space()?;
            self.stop()?;
            self.check_buffers()?;
        }
        self.count_used();
        self.report.hosts = self.hosts.len() as u64;
        self.report.associations = self.hosts.iter().map(SimHost::associations).sum();
        Ok(self.report)
    }

    /// Holds what management knows after a crash against what it was asked for.
    pub(super) fn meet_what_is_there(&mut self) -> Result<(), Violation> {
        let Outcome::Snapshots(snapshots) = self.ask_told(Action::ListSnapshots)? else { unreachable!() };
        let Outcome::Volumes(volumes) = self.ask_told(Action::ListVolumes)? else { unreachable!() };
        self.meet_snapshots(&snapshots)?;
        self.meet_volumes(&volumes)?;
        self.check_drives()
    }

    /// Asks a question and waits for its answer.
    pub(super) fn ask_told(&mut self, action: Action) -> Result<Outcome, Violation> {
        let question = self.post(action);
        self.changes.insert(question, Change::Told);
        loop {
            self.turn()?;
            if let Some(outcome) = self.told.take() {
                return Ok(outcome);
            }
        }
    }

    /// Everybody may see everything, and nothing is under way any more.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.await_changes()?;
        for volume in 0..self.volumes.len() {
            if !self.volumes[volume].gone {
                self.ask_acl(volume, vec![true; self.hosts.len()]);
            }
        }
        self.await_changes()?;
        self.rest()
    }

    /// Waits until nothing is under way and everything is read that is to be.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        while !(self.open.is_empty() && self.doubts.is_empty() && self.unverified.is_empty()) {
            self.ask_unverified();
            self.turn()?;
        }
        Ok(())
    }

    /// Reads every snapshot, by a clone of each, and asks what any two of them differ in.
    fn look_at_snapshots(&mut self) -> Result<(), Violation> {
        let there: Vec<usize> = (0..self.snapshots.len()).filter(|at| !self.snapshots[*at].gone).collect();
        for snapshot in &there {
            self.ask_clone(*snapshot);
            self.await_changes()?;
            self.await_reads()?;
        }
        for (place, snapshot) in there.iter().enumerate() {
            let older = there[..place].iter().filter(|base| self.may_be_compared(**base, *snapshot));
            let bases: Vec<Option<usize>> = older.map(|base| Some(*base)).chain([None]).collect();
            for base in bases {
                self.ask_diff(base, *snapshot);
                self.await_changes()?;
            }
        }
        Ok(())
    }

    /// What volumes and snapshots are said to map is what they hold.
    fn check_usage(&mut self) -> Result<(), Violation> {
        let Outcome::Snapshots(snapshots) = self.ask_told(Action::ListSnapshots)? else { unreachable!() };
        let Outcome::Volumes(volumes) = self.ask_told(Action::ListVolumes)? else { unreachable!() };
        let bytes = |sectors: &mut dyn Iterator<Item = [u64; SECTORS]>| {
            sectors.filter(|sectors| *sectors != [0; SECTORS]).count() as u64 * 4096
        };
        let check = |name: &str, told: u64, expected: u64| {
            let name = name.to_owned();
            if told == expected { Ok(()) } else { Err(Violation::WrongUsage { name, told, expected }) }
        };
        for volume in self.volumes.iter().filter(|volume| !volume.gone) {
            let made = volumes.iter().find(|made| made.spec.uuid == volume.spec.uuid);
            let told = made.map_or(0, |made| made.usage.logical_used_bytes);
            let expected = bytes(&mut volume.blocks.iter().map(|block| block.held().sectors));
            check(&volume.spec.name, told, expected)?;
        }
        for snapshot in self.snapshots.iter().filter(|snapshot| !snapshot.gone) {
            let made = snapshots.iter().find(|made| made.spec.uuid == snapshot.uuid);
            let told = made.map_or(0, |made| made.usage.logical_used_bytes);
            let held = snapshot.held.as_deref().unwrap_or_default();
            let expected = bytes(&mut held.iter().map(|held| held.sectors));
            check(&format!("snapshot {}", snapshot.uuid.0[0]), told, expected)?;
        }
        Ok(())
    }

    /// Deletes all volumes and snapshots in any order.
    fn delete_everything(&mut self) -> Result<(), Violation> {
        let volumes = (0..self.volumes.len()).filter(|at| !self.volumes[*at].gone).map(|at| (true, at));
        let snapshots = (0..self.snapshots.len()).filter(|at| !self.snapshots[*at].gone);
        let mut left: Vec<(bool, usize)> = volumes.chain(snapshots.map(|at| (false, at))).collect();
        while !left.is_empty() {
            let (is_volume, at) = left.swap_remove(self.random.index(left.len()));
            if is_volume {
                self.ask_delete(at);
            } else {
                self.ask_snapshot_delete(at);
            }
            if self.random.one_in(2) {
                self.await_changes()?;
            }
        }
        self.await_changes()
    }

    /// Waits until no shard maps anything.
    fn await_space(&mut self) -> Result<(), Violation> {
        let began = self.world.now();
        loop {
            let shards = self.engines.iter().flat_map(|seat| seat.engine.own_shards());
            let full =
                shards.map(|shard| (shard.id(), shard.stats())).find(|(_, stats)| stats.mapped_bytes > 0);
            let Some((shard, stats)) = full else { return Ok(()) };
            if self.world.now().since(began) > SPACE_TIME_MAX {
                let (shard, mapped_bytes) = (usize::from(shard.0), stats.mapped_bytes);
                return Err(Violation::SpaceLost { shard, mapped_bytes, segments: 0 });
            }
            self.turn()?;
        }
    }

    /// What each shard counts as live, in order.
    fn live_bytes(&self) -> Vec<u64> {
        let shards = self.engines.iter().flat_map(|seat| seat.engine.own_shards());
        let mut live: Vec<_> = shards.map(|shard| (shard.id(), shard.stats().live_bytes)).collect();
        live.sort_unstable();
        live.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Stops the target in order: everything ends, every reactor says so.
    fn stop(&mut self) -> Result<(), Violation> {
        self.await_changes()?;
        self.post(Action::Stop);
        self.stopping = true;
        while !self.engines.iter().all(|seat| seat.stopped) {
            self.turn()?;
        }
        // Closes take a moment, and bring the last buffers back.
        for Seat { io, .. } in &mut self.engines {
            let deadline = io.now() + Duration::from_millis(1);
            while io.now() < deadline {
                io.poll(Some(deadline), &mut Vec::new()).expect("a look at the world always succeeds");
            }
        }
        Ok(())
    }

    fn check_buffers(&mut self) -> Result<(), Violation> {
        let reactors = u16::try_from(self.engines.len()).expect("a few reactors");
        self.engines.clear();
        match (0..reactors).map(|reactor| self.world.buffers_out(ReactorId(reactor))).sum() {
            0 => Ok(()),
            count => Err(Violation::BuffersLost(count)),
        }
    }
}
