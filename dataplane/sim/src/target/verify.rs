//! What is checked between the loads: every block after a crash, and the stop at the end.

use engine::Action;

use super::host::SimHost;
use super::load::{Kind, id};
use super::{TargetTrial, Volume};
use crate::model::{Block, SECTORS, Survives, split};
use crate::trial::payload::writers;
use crate::trial::{Place, Violation};

/// Sectors of one read of the check.
const READ_SECTORS: usize = 128;

impl TargetTrial {
    /// Reads every block of every volume and holds it against what the crash may have left.
    pub(super) fn verify(&mut self) -> Result<(), Violation> {
        self.await_changes()?;
        for volume in 0..self.volumes.len() {
            let sectors = self.volumes[volume].blocks.len() * SECTORS;
            for first in (0..sectors).step_by(READ_SECTORS) {
                let count = READ_SECTORS.min(sectors - first);
                while !self.ask_peek(0, volume, first as u64, count) {
                    self.turn()?;
                }
            }
            while !self.open.is_empty() {
                self.turn()?;
                self.repeat_lost_peeks();
            }
            if self.cut {
                self.volumes[volume].flushed_before = self.clock;
            }
        }
        self.cut = false;
        Ok(())
    }

    /// A host may lose its connections while it checks: keep alive and slow proxies do that. It asks again.
    fn repeat_lost_peeks(&mut self) {
        debug_assert!(self.open.values().all(|open| matches!(open.kind, Kind::Peek { .. })));
    }

    /// What was read is what is there: the model goes on from it.
    pub(super) fn settle(&mut self, volume: usize, first: u64, data: &[u8]) -> Result<(), Violation> {
        let now = self.tick();
        let place = |block| Place { shard: 0, volume: id(volume), block };
        let parts = writers(data, id(volume), first)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        let cut = self.cut;
        let Volume { blocks, locks, flushed_before, .. } = &mut self.volumes[volume];
        let survives = if cut { Survives::FlushedBefore(*flushed_before) } else { Survives::Certain };
        for part in parts {
            let Some(block): Option<&mut Block> = blocks.get_mut(part.block) else { continue };
            let settled = block.settle(&part.sectors, survives, now);
            settled.map_err(|mismatch| Violation::WrongAfterCrash(place(part.block), mismatch))?;
            locks[part.block] = None;
        }
        Ok(())
    }

    /// Stops the target in order: everything ends, every reactor says so.
    pub(super) fn stop(&mut self) -> Result<(), Violation> {
        self.await_changes()?;
        self.post(Action::Stop);
        while !self.engines.iter().all(|seat| seat.stopped) {
            self.turn()?;
        }
        for _ in 0..self.engines.len() * 4 {
            for reactor in 0..self.engines.len() {
                self.run_reactor(reactor)?;
            }
        }
        self.report.associations = self.hosts.iter().map(SimHost::associations).sum();
        Ok(())
    }
}
