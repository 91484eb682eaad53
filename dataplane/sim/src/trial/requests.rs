//! The load: random requests.

use io::{Memory, Purpose};
use store::{Op, Request, SECTOR_BYTES, VolumeId};

use super::payload::payload;
use super::{Fork, Trial, Volume};
use crate::SimBuffer;
use crate::model::{Change, Part, SECTORS, split};

/// Most changes of one block that are open at a time.
const OPEN_CHANGES_MAX: usize = 5;

/// Longest history of one block, above which no more changes are made until a flush lets it be forgotten.
const HISTORY_MAX: usize = 100;

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) shard: usize,
    pub(crate) volume: VolumeId,
    pub(crate) asked_at: u64,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Read {
        first: u64,
        count: usize,
    },
    Peek,
    /// `whole`: an answer that says it failed means that it has changed nothing.
    Change {
        blocks: Vec<usize>,
        may_be_refused: bool,
        whole: bool,
    },
    Compare {
        expected: Vec<Part>,
        blocks: Vec<usize>,
    },
    Verify,
    Flush,
    Drop,
    Fork {
        image: VolumeId,
    },
}

/// Where a request goes.
#[derive(Clone, Copy)]
struct Target {
    shard: usize,
    // Index of the volume.
    volume: usize,
    first: u64,
    count: usize,
}

/// Makes a request of one kind.
type Ask = fn(&mut Trial, Target) -> bool;

impl Trial {
    /// Makes one request. False if it could not be made now.
    pub(super) fn ask(&mut self) -> bool {
        let mix = self.plan.mix;
        let kinds: [(u64, Ask); 12] = [
            (mix.read, Self::ask_read),
            (mix.write, Self::ask_write),
            (mix.write_zeroes, Self::ask_write_zeroes),
            (mix.deallocate, Self::ask_deallocate),
            (mix.compare, Self::ask_compare),
            (mix.pair, Self::ask_pair),
            (mix.verify, Self::ask_verify),
            (mix.flush, Self::ask_flush),
            (mix.drop_from, Self::ask_drop_from),
            (mix.drop_volume, |trial, target| trial.ask_drop(target.volume)),
            (mix.fork, Self::ask_fork),
            (mix.drop_image, |trial, _| trial.ask_drop_image()),
        ];
        let total = kinds.iter().map(|(weight, _)| weight).sum();
        let mut choice = self.random.below(total);
        let Some(target) = self.choose_target() else { return false };
        for (weight, ask) in kinds {
            if choice < weight {
                return ask(self, target);
            }
            choice -= weight;
        }
        false
    }

    /// A range of a volume that is not being dropped.
    fn choose_target(&mut self) -> Option<Target> {
        let shard = self.random.index(self.seats.len());
        let volume = self.random.index(self.volumes.len());
        let chosen = &self.volumes[volume];
        if chosen.dropping.contains(&true) || chosen.fork.is_some_and(|fork| fork.open > 0) {
            return None;
        }
        let percent = |trial: &mut Self, share: u64| trial.random.below(100) < share;
        let blocks = if percent(self, self.plan.mix.hot) { 4 } else { self.plan.volume_blocks };
        let longest = 1 << self.random.below(6);
        let (first, count) = if percent(self, self.plan.mix.whole_blocks) {
            let first = self.random.index(blocks);
            let count = (self.random.index(longest) + 1).min(self.plan.volume_blocks - first);
            (first * SECTORS, count * SECTORS)
        } else {
            let first = self.random.index(blocks * SECTORS);
            (first, (self.random.index(longest * 4) + 1).min(self.plan.volume_blocks * SECTORS - first))
        };
        Some(Target { shard, volume, first: first as u64, count })
    }

    fn ask_read(&mut self, target: Target) -> bool {
        let bytes = target.count * SECTOR_BYTES as usize;
        // The buffer may be longer than what is read.
        let room = bytes + self.random.index(3) * 512;
        let Some(buffer) = self.io.allocate(room.min(1 << 20).max(bytes), Purpose::Data) else {
            return false;
        };
        let kind = Kind::Read { first: target.first, count: target.count };
        self.submit(target, Op::Read { buffer }, kind, None)
    }

    fn ask_write(&mut self, target: Target) -> bool {
        let zeroes = self.random.one_in(10);
        let number = if zeroes { 0 } else { self.numbers + 1 };
        let volume = self.volumes[target.volume].stamp;
        let numbers = vec![number; target.count];
        let Some(data) = payload(&mut self.io, &mut self.random, &numbers, volume, target.first) else {
            return false;
        };
        let fua = self.random.below(100) < self.plan.mix.fua;
        let change = self.change(zeroes, fua, self.plan.tight);
        self.submit_change(target, Op::Write { data, fua }, change, true)
    }

    fn ask_write_zeroes(&mut self, target: Target) -> bool {
        let fua = self.random.below(100) < self.plan.mix.fua;
        let change = self.change(true, fua, self.plan.tight);
        self.submit_change(target, Op::WriteZeroes { fua }, change, true)
    }

    fn ask_deallocate(&mut self, target: Target) -> bool {
        let change = self.change(true, false, false);
        self.submit_change(target, Op::Deallocate, change, false)
    }

    fn ask_drop_from(&mut self, target: Target) -> bool {
        let (first, _) = split(target.first);
        let count = (self.plan.volume_blocks - first) * SECTORS - split(target.first).1;
        let change = self.change(true, false, false);
        self.submit_change(Target { count, ..target }, Op::DropFrom, change, false)
    }

    fn ask_compare(&mut self, target: Target) -> bool {
        let (numbers, expected) = self.expectation(target);
        let volume = self.volumes[target.volume].stamp;
        let Some(data) = payload(&mut self.io, &mut self.random, &numbers, volume, target.first) else {
            return false;
        };
        self.submit(target, Op::Compare { data }, Kind::Compare { expected, blocks: Vec::new() }, None)
    }

    fn ask_pair(&mut self, target: Target) -> bool {
        let (numbers, expected) = self.expectation(target);
        let volume = self.volumes[target.volume].stamp;
        let write = vec![self.numbers + 1; target.count];
        let compare = payload(&mut self.io, &mut self.random, &numbers, volume, target.first);
        let write = payload(&mut self.io, &mut self.random, &write, volume, target.first);
        let (Some(compare), Some(write)) = (compare, write) else { return false };
        let fua = self.random.below(100) < self.plan.mix.fua;
        let change = self.change(false, fua, true);
        if self.is_read_only(target) {
            return false;
        }
        let Some(covered) = self.covered(target, false) else { return false };
        let blocks = covered.iter().map(|(block, _)| *block).collect();
        let op = Op::CompareAndWrite { compare, write, fua };
        self.submit(target, op, Kind::Compare { expected, blocks }, Some((change, covered)))
    }

    fn ask_verify(&mut self, target: Target) -> bool {
        self.submit(target, Op::Verify, Kind::Verify, None)
    }

    fn ask_flush(&mut self, target: Target) -> bool {
        self.submit(target, Op::Flush, Kind::Flush, None)
    }

    /// Makes a snapshot or a clone of a volume or image, in every shard.
    fn ask_fork(&mut self, target: Target) -> bool {
        let images = self.volumes.iter().filter(|volume| volume.fork.is_some()).count();
        if images >= self.plan.images {
            return false;
        }
        self.volume_ids += 1;
        let image = VolumeId(self.volume_ids);
        let read_only = !self.random.one_in(3);
        let shards = self.seats.len();
        let mut fork = Fork { read_only, open: 0, failed: false };
        let mut blocks = vec![Vec::new(); shards];
        let mut gone = vec![true; shards];
        for shard in 0..shards {
            let all = Target { shard, first: 0, count: 0, ..target };
            if !self.submit(all, Op::Fork { image, read_only }, Kind::Fork { image }, None) {
                fork.failed = true;
                continue;
            }
            fork.open += 1;
            gone[shard] = false;
            // What was asked for before is in it, unless it is yet to fail; what is asked for later is not.
            blocks[shard].clone_from(&self.volumes[target.volume].blocks[shard]);
        }
        if fork.open == 0 {
            return false;
        }
        self.report.forks += 1;
        let stamp = self.volumes[target.volume].stamp;
        let dropping = vec![false; shards];
        self.volumes.push(Volume { id: image, blocks, dropping, gone, stamp, fork: Some(fork) });
        true
    }

    /// Drops some snapshot or clone.
    fn ask_drop_image(&mut self) -> bool {
        let is_whole = |volume: &Volume| volume.fork.is_some_and(|fork| fork.open == 0);
        let images: Vec<usize> =
            (0..self.volumes.len()).filter(|&index| is_whole(&self.volumes[index])).collect();
        if images.is_empty() {
            return false;
        }
        let image = images[self.random.index(images.len())];
        self.ask_drop(image)
    }

    fn is_read_only(&self, target: Target) -> bool {
        self.volumes[target.volume].fork.is_some_and(|fork| fork.read_only)
    }

    /// Drops a volume in every shard in which that was not done yet.
    pub(super) fn ask_drop(&mut self, volume: usize) -> bool {
        let id = self.volumes[volume].id;
        if self.open.values().any(|open| open.volume == id) {
            return false;
        }
        let mut asked = false;
        for shard in 0..self.seats.len() {
            if self.volumes[volume].gone[shard] {
                continue;
            }
            let target = Target { shard, volume, first: 0, count: 0 };
            if self.submit(target, Op::DropVolume, Kind::Drop, None) {
                asked = true;
            }
            self.volumes[volume].dropping[shard] = true;
        }
        asked
    }

    /// Reads the whole of a volume's part into `peeked`, unchecked: after a crash the model has to be told what is there.
    pub(super) fn ask_peek(&mut self, shard: usize, volume: usize) -> bool {
        let count = self.plan.volume_blocks * SECTORS;
        let bytes = count * SECTOR_BYTES as usize;
        let Some(buffer) = self.io.allocate(bytes, Purpose::Data) else { return false };
        self.submit(Target { shard, volume, first: 0, count }, Op::Read { buffer }, Kind::Peek, None)
    }

    /// Reads one block.
    pub(super) fn ask_block(&mut self, shard: usize, volume: usize, block: usize) -> bool {
        self.ask_read(Target { shard, volume, first: (block * SECTORS) as u64, count: SECTORS })
    }

    fn change(&mut self, zeroes: bool, fua: bool, optional: bool) -> Change {
        Change {
            number: self.numbers + 1,
            mask: 0,
            zeroes,
            asked_at: 0,
            optional: optional || self.may_fail(),
            certain_at: None,
            answered_at: None,
            fua,
        }
    }

    /// Whether reads of the drives may fail, and with them whatever must read first.
    pub(super) fn may_fail(&self) -> bool {
        self.decayed || self.plan.faults.read_error_one_in > 0 || self.plan.faults.read_flip_one_in > 0
    }

    /// What to compare with: usually what is there.
    fn expectation(&mut self, target: Target) -> (Vec<u64>, Vec<Part>) {
        let blocks = &self.volumes[target.volume].blocks[target.shard];
        let mut numbers: Vec<u64> = (target.first..)
            .take(target.count)
            .map(|sector| {
                let (block, within) = split(sector);
                blocks[block].newest()[within]
            })
            .collect();
        if self.random.one_in(4) {
            let index = self.random.index(numbers.len());
            numbers[index] = self.random.below(self.numbers + 1);
        }
        let expected = Part::of_run(target.first, numbers.iter().copied());
        (numbers, expected)
    }

    /// The blocks of a range with the sectors in it; `blocks_only`: only those that lie in it wholly. `None` if a block has
    /// too much going on already.
    fn covered(&self, target: Target, blocks_only: bool) -> Option<Vec<(usize, u8)>> {
        let blocks = &self.volumes[target.volume].blocks[target.shard];
        let run = std::iter::repeat_n(0, target.count);
        let parts = Part::of_run(target.first, run).into_iter();
        let mut covered: Vec<(usize, u8)> = parts.map(|part| (part.block, part.mask)).collect();
        covered.retain(|(_, mask)| !blocks_only || *mask == u8::MAX);
        let busy = covered.iter().any(|(block, _)| {
            blocks[*block].open_changes() >= OPEN_CHANGES_MAX || blocks[*block].history_len() >= HISTORY_MAX
        });
        (!busy).then_some(covered)
    }

    fn submit_change(
        &mut self,
        target: Target,
        op: Op<SimBuffer>,
        change: Change,
        may_be_refused: bool,
    ) -> bool {
        if self.is_read_only(target) {
            return false;
        }
        let whole = matches!(op, Op::Write { .. });
        let blocks_only = matches!(op, Op::Deallocate | Op::DropFrom);
        let Some(covered) = self.covered(target, blocks_only) else { return false };
        let blocks = covered.iter().map(|(block, _)| *block).collect();
        self.submit(target, op, Kind::Change { blocks, may_be_refused, whole }, Some((change, covered)))
    }

    /// Hands a request to its shard, and to the model if it was taken.
    fn submit(
        &mut self,
        target: Target,
        op: Op<SimBuffer>,
        kind: Kind,
        change: Option<(Change, Vec<(usize, u8)>)>,
    ) -> bool {
        let number = self.numbers + 1;
        if let Some(one_in) = self.plan.switch_one_in
            && self.switches.one_in(one_in)
        {
            self.compress = !self.compress;
        }
        let volume = self.volumes.get(target.volume).map_or(VolumeId(0), |volume| volume.id);
        let request = Request {
            tag: number,
            volume,
            offset: target.first * u64::from(SECTOR_BYTES),
            len: target.count as u64 * u64::from(SECTOR_BYTES),
            compress: self.compress,
            op,
        };
        if self.seats[target.shard].shard.submit(request).is_err() {
            return false;
        }
        self.seats[target.shard].due = true;
        self.numbers = number;
        let asked_at = self.tick();
        self.trace(|_| {
            format!(
                "ask {number} at {asked_at}: shard {} volume {} sectors {}+{} {kind:?}",
                target.shard, volume.0, target.first, target.count
            )
        });
        if let Some((change, covered)) = change {
            let blocks = &mut self.volumes[target.volume].blocks[target.shard];
            for (block, mask) in covered {
                blocks[block].begin(Change { mask, asked_at, ..change.clone() });
            }
        }
        self.open.insert(number, Open { shard: target.shard, volume, asked_at, kind });
        true
    }
}
