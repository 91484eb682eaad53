//! What is checked between the loads: every block after a crash, the pool's space and a clean stop at the end.

use io::ReactorId;
use store::{Miscount, VolumeId};

use super::seats::Phase;
use super::{Cut, Place, Trial, Violation};
use crate::Crash;
use crate::model::{Left, split};
use crate::trial::payload::writers;

/// Segments of a shard that has nothing: those that it keeps to be able to begin, and the log's end.
const EMPTY_SEGMENTS_MAX: usize = store::pool::SEGMENTS_PER_SHARD_MIN as usize + 2;

impl Trial {
    /// Reads every block of every volume, holds it against what the crash may have left, and goes on from there. False
    /// where a shard has failed meanwhile, by what the drives did during recovery.
    pub(super) fn verify(&mut self) -> Result<bool, Violation> {
        let cut = self.cut;
        for shard in 0..self.seats.len() {
            let mut left = Left::default();
            for volume in 0..self.volumes.len() {
                if self.volumes[volume].dropping[shard] {
                    continue;
                }
                let Some(bytes) = self.read_all(shard, volume)? else { return Ok(false) };
                left = self.settle_blocks(shard, volume, &bytes, cut, left)?;
            }
            if let (Some(certain_at), Some(asked_at)) = (left.oldest_lost_certain_at, left.newest_asked_at)
                && certain_at < asked_at
            {
                return Err(Violation::LostFromTheMiddle { shard, certain_at, asked_at });
            }
            if cut == Cut::Power {
                self.flushed_before[shard] = self.clock;
            }
        }
        self.cut = Cut::None;
        Ok(true)
    }

    fn settle_blocks(
        &mut self,
        shard: usize,
        volume: usize,
        bytes: &[u8],
        cut: Cut,
        mut left: Left,
    ) -> Result<Left, Violation> {
        let now = self.tick();
        let (id, stamp) = (self.volumes[volume].id, self.volumes[volume].stamp);
        let place = |block| Place { shard, volume: id, block };
        let found = writers(bytes, stamp, 0)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        let survives = cut.survives(self.flushed_before[shard]);
        for part in found {
            let history = &mut self.volumes[volume].blocks[shard][part.block];
            let more = history
                .settle(&part.sectors, survives, now)
                .map_err(|mismatch| Violation::WrongAfterCrash(place(part.block), mismatch))?;
            self.report.taken_back += u64::from(more.oldest_lost_certain_at.is_some());
            left.newest_asked_at = left.newest_asked_at.max(more.newest_asked_at);
            let lost = [left.oldest_lost_certain_at, more.oldest_lost_certain_at];
            left.oldest_lost_certain_at = lost.into_iter().flatten().min();
        }
        Ok(left)
    }

    /// The bytes of a volume's part; `None` once a shard has failed. The model is not asked: it does not know yet what the
    /// crash has left.
    fn read_all(&mut self, shard: usize, volume: usize) -> Result<Option<Vec<u8>>, Violation> {
        let mut asked = false;
        loop {
            if self.has_failed() {
                return Ok(None);
            }
            if let Some(bytes) = self.peeked.take() {
                return Ok(Some(bytes));
            }
            asked = asked || self.ask_peek(shard, volume);
            self.turn(0)?;
        }
    }

    /// What a shard counts after its recovery, which does not look at the whole map, is what a walk through it finds.
    pub(super) fn audit(&mut self, shard: usize) -> Result<(), Violation> {
        if self.plan.decay_bits > 0 || self.decayed {
            return Ok(());
        }
        let world = &self.world;
        let audit = self.seats[shard].shard.audit(|drive, offset, len| world.contents(drive, offset, len));
        match audit {
            Err(Miscount::Segment { counted, found, .. }) if counted > found && self.may_have_lost_room() => {
                Ok(())
            }
            audit => audit.map_err(|what| Violation::Miscount { shard, what }),
        }
    }

    /// A shard has recovered and says of which volumes it has blocks.
    pub(super) fn meet_volumes(&mut self, shard: usize, volumes: &[VolumeId]) -> Result<(), Violation> {
        for id in volumes {
            let known = self.volumes.iter().any(|volume| volume.id == *id);
            let came_back = if known {
                self.volumes.iter().any(|volume| volume.id == *id && volume.gone[shard])
            } else {
                if !self.dropped.remove(id) && !self.orphans.contains(id) {
                    return Err(Violation::UnknownVolume(shard, *id));
                }
                self.revive(*id);
                true
            };
            if came_back && self.cut == Cut::None && !self.orphans.contains(id) {
                return Err(Violation::UnknownVolume(shard, *id));
            }
            for volume in self.volumes.iter_mut().filter(|volume| volume.id == *id) {
                volume.gone[shard] = false;
            }
        }
        Ok(())
    }

    /// Drops again what was being dropped at the crash, and what came back.
    pub(super) fn drop_again(&mut self) {
        for volume in 0..self.volumes.len() {
            if self.volumes[volume].dropping.contains(&true) {
                self.ask_drop(volume);
            }
        }
    }

    /// Waits until no request is open.
    pub(super) fn settle_requests(&mut self) -> Result<(), Violation> {
        while !self.open.is_empty() {
            self.turn(0)?;
        }
        Ok(())
    }

    /// Drops all volumes and flushes.
    pub(super) fn drop_everything(&mut self) -> Result<(), Violation> {
        self.plan.volumes = 0;
        while !self.volumes.is_empty() {
            for volume in 0..self.volumes.len() {
                self.ask_drop(volume);
            }
            self.turn(0)?;
            self.settle_requests()?;
        }
        Ok(())
    }

    /// What a shard counted as live while it ran is what a walk through its map finds: no live block was forgotten, no
    /// dead one kept. Then it starts again.
    pub(super) fn check_counts(&mut self) -> Result<(), Violation> {
        self.stop()?;
        for shard in 0..self.seats.len() {
            self.audit(shard)?;
        }
        self.seats.clear();
        self.world.crash(Crash::Kill);
        self.begin_life();
        self.recover(false)?;
        self.verify().map(drop)
    }

    /// Nothing is mapped any more.
    pub(super) fn check_mapped(&mut self) -> Result<(), Violation> {
        for _ in 0..2_000 {
            self.turn(0)?;
            if self.seats.iter().all(|seat| seat.shard.stats().mapped_bytes == 0) {
                break;
            }
        }
        self.check_space()
    }

    /// A pool from which everything was dropped lists no volume, maps nothing after the next start either, and its
    /// shards own little more than the pool owes each.
    pub(super) fn check_empty(&mut self) -> Result<(), Violation> {
        if let Some(volume) = self.volumes.first() {
            return Err(Violation::UnknownVolume(0, volume.id));
        }
        for shard in 0..self.seats.len() {
            let segments = self.pool.owned_by(shard);
            if segments > EMPTY_SEGMENTS_MAX && !self.may_have_lost_room() {
                return Err(Violation::SpaceLost { shard, mapped_bytes: 0, segments });
            }
        }
        self.check_space()
    }

    fn check_space(&self) -> Result<(), Violation> {
        for (shard, seat) in self.seats.iter().enumerate() {
            let mapped_bytes = seat.shard.stats().mapped_bytes;
            let segments = self.pool.owned_by(shard);
            if mapped_bytes > 0 {
                return Err(Violation::SpaceLost { shard, mapped_bytes, segments });
            }
        }
        Ok(())
    }

    /// Every buffer is home once the shards are gone.
    pub(super) fn check_buffers(&mut self) -> Result<(), Violation> {
        self.seats.clear();
        match self.world.buffers_out(ReactorId(0)) {
            0 => Ok(()),
            count => Err(Violation::BuffersLost(count)),
        }
    }

    /// Reads every block, each on its own, so that one that cannot be read hides no other.
    pub(super) fn read_everything(&mut self) -> Result<(), Violation> {
        for shard in 0..self.seats.len() {
            for volume in 0..self.volumes.len() {
                if self.volumes[volume].dropping[shard] || self.seats[shard].phase != Phase::Ready {
                    continue;
                }
                for block in 0..self.plan.volume_blocks {
                    while !self.ask_block(shard, volume, block) {
                        self.turn(0)?;
                    }
                    self.settle_requests()?;
                }
            }
        }
        Ok(())
    }

    /// Stops every shard in order.
    pub(super) fn stop(&mut self) -> Result<(), Violation> {
        for seat in &mut self.seats {
            seat.shard.checkpoint_and_stop();
            seat.phase = Phase::Stopping;
            seat.due = true;
        }
        while self.seats.iter().any(|seat| seat.phase != Phase::Stopped) {
            self.turn(0)?;
        }
        Ok(())
    }
}
