//! What the model makes of the shards' answers.

use store::{Outcome, SECTOR_BYTES, VolumeId};

use super::payload::writers;
use super::requests::{Kind, Open};
use super::{Place, Trial, Violation, Volume};
use crate::SimBuffer;
use crate::model::{Block, Part, split};

impl Trial {
    /// A request was answered.
    pub(super) fn answered(
        &mut self,
        shard: usize,
        number: u64,
        outcome: Outcome,
        buffer: Option<SimBuffer>,
    ) -> Result<(), Violation> {
        let now = self.tick();
        self.trace(|_| format!("answer {number} at {now}: {outcome:?}"));
        let open = self.open.remove(&number).ok_or(Violation::StrayAnswer(number))?;
        let is_read = matches!(open.kind, Kind::Read { .. } | Kind::Peek);
        if open.shard != shard || is_read != buffer.is_some() {
            return Err(Violation::StrayAnswer(number));
        }
        self.report.answered += 1;
        self.note_beside(&open, outcome);
        self.check_fairness(number, &open, outcome)?;
        match open.kind {
            Kind::Read { first, count } => match buffer {
                Some(buffer) if outcome == Outcome::Ok => {
                    let bytes = &buffer[..count * SECTOR_BYTES as usize];
                    self.check_read(shard, open.volume, first, bytes, open.asked_at)
                }
                _ => Ok(()),
            },
            Kind::Peek => {
                self.peeked = buffer.filter(|_| outcome == Outcome::Ok).map(|buffer| buffer.to_vec());
                // A shard that has failed is started again.
                let fair = self.peeked.is_some() || outcome == Outcome::Failed;
                if fair { Ok(()) } else { Err(Violation::UnfairAnswer { number, outcome }) }
            }
            Kind::Change { ref blocks, whole, .. } => self.end_change(&open, number, blocks, outcome, whole),
            Kind::Compare { ref expected, ref blocks } => {
                let own = (!blocks.is_empty()).then_some(number);
                self.check_comparison(&open, expected, own, outcome)?;
                self.end_change(&open, number, blocks, outcome, true)
            }
            Kind::Verify => Ok(()),
            Kind::Flush => {
                if outcome == Outcome::Ok {
                    self.note_flush(shard, open.asked_at);
                }
                Ok(())
            }
            Kind::Fork { image } => {
                self.end_fork(shard, image, outcome);
                Ok(())
            }
            Kind::Drop => {
                if outcome == Outcome::Ok {
                    self.note_drop(shard, open.volume);
                }
                Ok(())
            }
        }
    }

    fn check_fairness(&mut self, number: u64, open: &Open, outcome: Outcome) -> Result<(), Violation> {
        let fair = match outcome {
            Outcome::Ok => true,
            Outcome::CompareFailed => matches!(open.kind, Kind::Compare { .. }),
            Outcome::ReadOnly => false,
            Outcome::CapacityExceeded => {
                self.report.refused_full += 1;
                let writes = match &open.kind {
                    Kind::Change { may_be_refused, .. } => *may_be_refused,
                    Kind::Compare { blocks, .. } => !blocks.is_empty(),
                    Kind::Fork { .. } => true,
                    _ => false,
                };
                writes && self.plan.tight
            }
            Outcome::Unrecovered => {
                self.report.unrecovered += 1;
                let reads = !matches!(open.kind, Kind::Flush | Kind::Drop | Kind::Fork { .. });
                reads && (self.may_fail() || self.is_unreadable(open.asked_at))
            }
            // The shard may say only after its last answers that it has failed.
            Outcome::Failed => {
                self.decayed
                    || self.has_drive_left()
                    || self.may_fail_by(|faults| faults.write_error_one_in)
                    || self.may_fail_by(|faults| faults.flush_error_one_in)
            }
        };
        if fair { Ok(()) } else { Err(Violation::UnfairAnswer { number, outcome }) }
    }

    fn check_read(
        &mut self,
        shard: usize,
        volume: VolumeId,
        first: u64,
        bytes: &[u8],
        began: u64,
    ) -> Result<(), Violation> {
        let now = self.tick();
        let place = |block| Place { shard, volume, block };
        let Some(volume) = self.volumes.iter_mut().find(|other| other.id == volume) else { return Ok(()) };
        let found = writers(bytes, volume.stamp, first)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        for part in found {
            let history = &mut volume.blocks[shard][part.block];
            let checked = history.check_read(&part.sectors, part.mask, began, now);
            checked.map_err(|mismatch| Violation::WrongRead(place(part.block), mismatch))?;
        }
        Ok(())
    }

    fn check_comparison(
        &mut self,
        open: &Open,
        expected: &[Part],
        own: Option<u64>,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let Some(volume) = self.volumes.iter().find(|other| other.id == open.volume) else { return Ok(()) };
        let blocks = &volume.blocks[open.shard];
        let may = |part: &Part| blocks[part.block].may_compare(&part.sectors, part.mask, open.asked_at, own);
        let fair = match outcome {
            Outcome::Ok => expected.iter().all(|each| may(each).0),
            Outcome::CompareFailed => expected.iter().any(|each| may(each).1),
            _ => true,
        };
        let block = expected.first().map_or(0, |part| part.block);
        let place = Place { shard: open.shard, volume: open.volume, block };
        if fair { Ok(()) } else { Err(Violation::WrongComparison(place, outcome)) }
    }

    fn end_change(
        &mut self,
        open: &Open,
        number: u64,
        blocks: &[usize],
        outcome: Outcome,
        whole: bool,
    ) -> Result<(), Violation> {
        let now = self.clock;
        // Images that were forked after it was asked for have it in their histories too.
        let all = self.volumes.iter_mut().map(|volume| &mut volume.blocks[open.shard]);
        for history in all.flat_map(|all| all.iter_mut().enumerate()).filter(|(at, _)| blocks.contains(at)) {
            let history = history.1;
            match outcome {
                Outcome::Ok => history.confirm(number, now),
                Outcome::Failed => history.doubt(number),
                Outcome::Unrecovered if !whole => history.doubt(number),
                Outcome::CompareFailed
                | Outcome::ReadOnly
                | Outcome::CapacityExceeded
                | Outcome::Unrecovered => {
                    if !history.revoke(number) {
                        return Err(Violation::SeenAndDenied { number });
                    }
                }
            }
        }
        Ok(())
    }

    /// A flush that was asked for at `asked_at` has ended.
    fn note_flush(&mut self, shard: usize, asked_at: u64) {
        let flushed = &mut self.flushed_before[shard];
        *flushed = (*flushed).max(asked_at);
        let flushed = *flushed;
        let oldest_read = self.open.values().map(|open| open.asked_at).min().unwrap_or(u64::MAX);
        for volume in &mut self.volumes {
            for block in &mut volume.blocks[shard] {
                block.trim(flushed, oldest_read);
            }
        }
    }

    /// A shard has made an image, or has refused to.
    fn end_fork(&mut self, shard: usize, image: VolumeId, outcome: Outcome) {
        let Some(index) = self.volumes.iter().position(|volume| volume.id == image) else { return };
        let volume = &mut self.volumes[index];
        let Some(fork) = &mut volume.fork else { return };
        fork.open -= 1;
        if outcome == Outcome::Ok {
            // No power cut takes the image away, nor anything in it.
            volume.blocks[shard].iter_mut().for_each(Block::secure);
        } else {
            fork.failed = true;
            volume.gone[shard] = true;
            if outcome == Outcome::Failed {
                // Whether it was made shows at the next start.
                self.orphans.insert(image);
            }
        }
        if fork.open == 0 && fork.failed {
            volume.dropping.fill(true);
            if volume.gone.iter().all(|gone| *gone) {
                self.volumes.remove(index);
            } else {
                self.ask_drop(index);
            }
        }
    }

    fn note_drop(&mut self, shard: usize, id: VolumeId) {
        let Some(volume) = self.volumes.iter_mut().find(|other| other.id == id) else { return };
        volume.gone[shard] = true;
        volume.blocks[shard].clear();
        if volume.gone.iter().all(|gone| *gone) {
            self.volumes.retain(|other| other.id != id);
            self.dropped.insert(id);
            let writable = |volume: &&Volume| volume.fork.is_none_or(|fork| !fork.read_only);
            if self.volumes.iter().filter(writable).count() < self.plan.volumes {
                self.make_volume();
            }
        }
    }
}
