//! What is read for the model: every block after a crash, clones, volumes that were rolled back.

use super::load::{Kind, id};
use super::{Chunk, TargetTrial, Volume};
use crate::model::{Block, SECTORS, Survives, split};
use crate::trial::payload::writers;
use crate::trial::{Place, Violation};

/// Sectors of one read of the check.
const READ_SECTORS: usize = 128;

impl TargetTrial {
    /// Reads every block of every volume and holds it against what the crash may have left.
    pub(super) fn verify(&mut self) -> Result<(), Violation> {
        self.await_changes()?;
        self.unverified.clear();
        for volume in 0..self.volumes.len() {
            if !self.volumes[volume].gone {
                self.let_somebody_in(volume)?;
                self.read_all_of(volume);
            }
        }
        self.await_reads()?;
        if self.cut {
            for volume in &mut self.volumes {
                volume.flushed_before = self.clock;
            }
        }
        self.cut = false;
        Ok(())
    }

    /// All of a volume is to be read.
    pub(super) fn read_all_of(&mut self, volume: usize) {
        self.unverified.retain(|chunk| chunk.volume != volume);
        let sectors = self.volumes[volume].blocks.len() * SECTORS;
        for first in (0..sectors).step_by(READ_SECTORS) {
            let count = READ_SECTORS.min(sectors - first);
            self.unverified.push(Chunk { volume, first: first as u64, count });
        }
    }

    /// Waits until everything is read that is to be.
    pub(super) fn await_reads(&mut self) -> Result<(), Violation> {
        while !self.unverified.is_empty() {
            self.ask_unverified();
            self.turn()?;
        }
        Ok(())
    }

    /// Whether something of a volume is still to be read.
    pub(super) fn is_unverified(&self, volume: usize) -> bool {
        self.unverified.iter().any(|chunk| chunk.volume == volume)
    }

    /// Reads what is to be read, as far as nothing is under way that could change it.
    pub(super) fn ask_unverified(&mut self) {
        for chunk in self.unverified.clone() {
            let asked = self.open.values().any(|open| {
                open.volume == chunk.volume
                    && matches!(open.kind, Kind::Peek { first, .. } if first == chunk.first)
            });
            let host = self.volumes[chunk.volume].allowed_since.iter().position(|since| *since != u64::MAX);
            if let (false, Some(host)) = (asked || !self.is_quiet(chunk.volume), host) {
                self.ask_peek(host, chunk.volume, chunk.first, chunk.count);
            }
        }
    }

    /// Puts everybody on a volume's list if nobody is.
    pub(super) fn let_somebody_in(&mut self, volume: usize) -> Result<(), Violation> {
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
        let parts = writers(data, self.stamp(volume), first)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        self.unverified.retain(|chunk| (chunk.volume, chunk.first) != (volume, first));
        if self.volumes[volume].first_read.is_some() {
            return self.note_first_read(volume, &parts);
        }
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
}
