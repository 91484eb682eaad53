//! What is checked between the loads: every block after a crash, and the stop at the end.

use std::time::Duration;

use engine::Action;
use io::{Clock, Io};

use super::host::SimHost;
use super::load::{Kind, id};
use super::{Chunk, Seat, TargetTrial, Volume};
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
            self.let_somebody_in(volume)?;
            let sectors = self.volumes[volume].blocks.len() * SECTORS;
            for first in (0..sectors).step_by(READ_SECTORS) {
                let count = READ_SECTORS.min(sectors - first);
                self.unverified.push(Chunk { volume, first: first as u64, count });
            }
        }
        while !self.unverified.is_empty() {
            for chunk in self.unverified.clone() {
                let asked = self.open.values().any(|open| {
                    open.volume == chunk.volume
                        && matches!(open.kind, Kind::Peek { first, .. } if first == chunk.first)
                });
                let host =
                    self.volumes[chunk.volume].allowed_since.iter().position(|since| *since != u64::MAX);
                if let (false, Some(host)) = (asked, host) {
                    self.ask_peek(host, chunk.volume, chunk.first, chunk.count);
                }
            }
            self.turn()?;
        }
        if self.cut {
            for volume in &mut self.volumes {
                volume.flushed_before = self.clock;
            }
        }
        self.cut = false;
        Ok(())
    }

    /// Puts everybody on a volume's list if nobody is.
    fn let_somebody_in(&mut self, volume: usize) -> Result<(), Violation> {
        if self.volumes[volume].allowed_since.iter().all(|since| *since == u64::MAX) {
            self.ask_acl(volume, vec![true; self.hosts.len()]);
            self.await_changes()?;
        }
        Ok(())
    }

    /// What was read is what is there: the model goes on from it.
    pub(super) fn settle(&mut self, volume: usize, first: u64, data: &[u8]) -> Result<(), Violation> {
        let now = self.tick();
        let place = |block| Place { shard: 0, volume: id(volume), block };
        let parts = writers(data, id(volume), first)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        self.unverified.retain(|chunk| (chunk.volume, chunk.first) != (volume, first));
        let cut = self.cut;
        let open = &self.open;
        let Volume { blocks, locks, flushed_before, .. } = &mut self.volumes[volume];
        let survives = if cut { Survives::FlushedBefore(*flushed_before) } else { Survives::Certain };
        for part in parts {
            let Some(block): Option<&mut Block> = blocks.get_mut(part.block) else { continue };
            if locks[part.block].is_some_and(|tag| open.contains_key(&tag)) {
                continue;
            }
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
        // Closes take a moment, and bring the last buffers back.
        for Seat { io, .. } in &mut self.engines {
            let deadline = io.now() + Duration::from_millis(1);
            while io.now() < deadline {
                io.poll(Some(deadline), &mut Vec::new()).expect("a look at the world always succeeds");
            }
        }
        self.report.associations = self.hosts.iter().map(SimHost::associations).sum();
        Ok(())
    }
}
