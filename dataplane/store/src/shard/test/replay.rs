//! Replay in windows against replay record by record.
//!
//! Goal: however many changes replay sorts and puts into the map together, the shard is the same afterwards: every entry of
//! every image, what is live in each segment, every sum. Method: random writes of one part and of several, compressed and
//! not, deallocations, snapshots, clones and drops with cleaning and checkpoints beside them; then the process dies, and copies
//! of the drives are recovered with windows of different lengths, with all of the map in memory and with next to none. What
//! lies on the drives then goes on for some more lives, so that replay meets several epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Rng, TestBuffer};
use super::world::{World, payload_at, small_options, step_disk};
use crate::shard::{Op, Outcome, Output, Request, Shard, ShardOptions};
use crate::{SegmentId, ShardId, VolumeId};

/// Blocks of a volume.
const BLOCKS: u64 = 6 * 64;
const SEEDS: std::ops::Range<u64> = 0..12;

/// Whoever writes, and what has been made.
struct Load {
    world: World,
    random: Rng,
    open: BTreeSet<u64>,
    next_tag: u64,
    /// Images that may be written, and those that may not.
    writable: Vec<u64>,
    read_only: Vec<u64>,
    next_image: u64,
}

/// What must be the same.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// Of each image its lineage, entries, bytes written, and units saved.
    images: BTreeMap<u64, (u64, Vec<u64>, u64, u64)>,
    lives: BTreeMap<SegmentId, u64>,
    /// Live, data, stored and mapped bytes, and blocks.
    sums: [u64; 5],
}

impl Load {
    fn new(seed: u64) -> Self {
        let mut random = Rng(seed ^ 0x5EA1);
        let options = ShardOptions {
            checkpoint_bytes: [384 << 10, 1 << 20, 1 << 30][random.below(3) as usize],
            map_bytes_max: [u64::MAX, u64::MAX, 20_000][random.below(3) as usize],
            replay_blocks_max: 1 << random.below(12),
            ..small_options()
        };
        let block_bytes = [512, 4096][random.below(2) as usize];
        let world = World::with_blocks_of(block_bytes, seed, 40, options);
        let (open, read_only) = (BTreeSet::new(), Vec::new());
        Self { world, random, open, next_tag: 1, writable: vec![1, 2], read_only, next_image: 10 }
    }

    fn submit(&mut self, volume: u64, blocks: std::ops::Range<u64>, op: Op<TestBuffer>) {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.open.insert(tag);
        let (offset, len) = (blocks.start * 4096, (blocks.end - blocks.start) * 4096);
        let compress = self.random.chance(50);
        let request = Request { tag, volume: VolumeId(volume), offset, len, compress, op };
        self.world.shard.submit(request).unwrap();
        while self.open.len() > 8 {
            self.step();
        }
    }

    fn step(&mut self) {
        self.world.step_quietly();
        while let Some(output) = self.world.shard.poll_output() {
            match output {
                Output::Done { tag, outcome, .. } => {
                    let is_fine = matches!(outcome, Outcome::Ok | Outcome::CapacityExceeded);
                    assert!(is_fine, "request {tag}: {outcome:?}");
                    self.open.remove(&tag);
                }
                other => self.world.take_output(other),
            }
        }
    }

    /// Everything is answered, and nothing is under way.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..200_000 {
            let before = (self.world.disk.reads, self.world.disk.writes, self.open.len());
            self.step();
            let after = (self.world.disk.reads, self.world.disk.writes, self.open.len());
            quiet = if before == after && self.open.is_empty() { quiet + 1 } else { 0 };
            if quiet > 2_000 && !self.world.shard.map.is_dropping() {
                return;
            }
        }
        panic!("it comes to no rest: {}", self.world.shard.describe());
    }

    /// One change.
    fn change(&mut self) {
        let volume = self.writable[self.random.below(self.writable.len() as u64) as usize];
        let first = self.random.below(BLOCKS);
        let value = self.next_tag | self.random.below(4) << 40;
        match self.random.below(100) {
            0..70 => {
                let most = [1, 1, 4, 40][self.random.below(4) as usize];
                let end = (first + 1 + self.random.below(most)).min(BLOCKS);
                let data = payload_at(first * 8, (end - first) * 8, value);
                self.submit(volume, first..end, Op::Write { data, fua: false });
            }
            70..90 => {
                let most = if self.random.chance(20) { 200 } else { 5 };
                let end = (first + 1 + self.random.below(most)).min(BLOCKS);
                self.submit(volume, first..end, Op::Deallocate);
            }
            90..95 if self.writable.len() + self.read_only.len() < 7 => self.fork(volume),
            95..98 => {
                let images = if self.random.chance(50) { &mut self.read_only } else { &mut self.writable };
                if images.len() > 1 {
                    let image = images.swap_remove(self.random.below(images.len() as u64) as usize);
                    self.submit(image, 0..0, Op::DropVolume);
                }
            }
            _ => self.submit(volume, 0..0, Op::Flush),
        }
    }

    fn fork(&mut self, volume: u64) {
        let of_read_only = !self.read_only.is_empty() && self.random.chance(50);
        let source = if of_read_only { self.read_only[0] } else { volume };
        let (image, read_only) = (self.next_image, self.random.chance(50));
        self.next_image += 1;
        self.submit(source, 0..0, Op::Fork { image: VolumeId(image), read_only });
        while !self.open.is_empty() {
            self.step();
        }
        if self.world.shard.image(VolumeId(image)).is_some() {
            if read_only { &mut self.read_only } else { &mut self.writable }.push(image);
        }
    }

    /// What recovery makes of a copy of the drives, so many changes a run, and so many bytes of headers ahead.
    fn recovered(
        &self,
        replay_blocks_max: u32,
        map_bytes_max: u64,
        (run, ahead): (u32, u32),
    ) -> (Facts, u64) {
        let mut disk = self.world.disk.copy();
        let options = ShardOptions {
            replay_blocks_max,
            map_bytes_max,
            replay_blocks_per_run: run,
            replay_ahead_bytes_max: ahead,
            ..self.world.options.clone()
        };
        let mut shard = Shard::recover(Arc::clone(&self.world.layout), ShardId(0), 3, options);
        let mut now = self.world.now;
        for _ in 0..400_000 {
            now = now + Duration::from_micros(100);
            step_disk(&mut disk, &mut shard);
            // Before the shard runs again, and gives back or logs what it has memory for.
            while let Some(output) = shard.poll_output() {
                assert!(!matches!(output, Output::Failed(_)), "{output:?}");
                if matches!(output, Output::Ready { .. }) {
                    let misses = shard.stats().map_misses;
                    shard.audit(|drive, offset, len| disk.content(drive, offset, len)).unwrap();
                    return (facts(&mut shard, &disk), misses);
                }
            }
            shard.run(&mut disk, now);
        }
        panic!("recovery is stuck: {}", shard.describe());
    }
}

impl Facts {
    /// What is not the same.
    fn differs_from(&self, other: &Self) -> Option<String> {
        if self.sums != other.sums {
            return Some(format!("sums {:?} for {:?}", self.sums, other.sums));
        }
        if self.lives != other.lives {
            return Some(format!("live bytes {:?} for {:?}", self.lives, other.lives));
        }
        if !self.images.keys().eq(other.images.keys()) {
            return Some(format!("images {:?} for {:?}", self.images.keys(), other.images.keys()));
        }
        let pairs = self.images.values().zip(&other.images);
        pairs
            .map(|(is, (image, shall_be))| (image, is, shall_be))
            .find(|(_, is, shall_be)| is != shall_be)
            .map(|(image, is, shall_be)| {
                let blocks: Vec<usize> = (0..is.1.len()).filter(|&at| is.1[at] != shall_be.1[at]).collect();
                let beside = ((is.0, is.2, is.3), (shall_be.0, shall_be.2, shall_be.3));
                format!("image {image}: {beside:?}, blocks {blocks:?}")
            })
    }
}

fn facts(shard: &mut Shard<TestBuffer>, disk: &super::disk::TestDisk) -> Facts {
    for leaves in [false, true] {
        for (page, place) in shard.map.away(leaves) {
            let (drive, offset) = shard.space.place(&shard.layout, place.location());
            let bytes = disk.content(drive, offset, (place.offset() + place.len()) as usize);
            shard.map.put_back(page, &bytes[place.offset() as usize..]).unwrap();
        }
    }
    let images: Vec<VolumeId> = shard.map.volumes().collect();
    let images = images.into_iter().map(|image| {
        let mut entries = Vec::new();
        shard.map.lookup(image, 0, u32::try_from(BLOCKS).unwrap(), &mut entries);
        let entries: Vec<u64> = entries.into_iter().map(|entry| entry.0).collect();
        let lineage = shard.map.lineage(image).0;
        (image.0, (lineage, entries, shard.written_bytes(image), shard.map.saved_bytes_of(image)))
    });
    let images = images.collect();
    let stats = shard.stats();
    let blocks = shard.space.blocks.count;
    let sums = [stats.live_bytes, stats.data_bytes, stats.stored_bytes, stats.mapped_bytes, blocks];
    Facts { images, lives: shard.space.lives_by_segment(), sums }
}

/// Changes a run, and bytes ahead.
const PACES: [(u32, u32); 4] = [(512, 1 << 20), (1, 1 << 20), (7, 3_000), (100, 0)];

#[test]
fn windows_of_any_length_make_the_shard_what_records_one_by_one_make_it() {
    let (mut moved, mut missed, mut checkpoints, mut compared) = (0, 0, 0, 0);
    for seed in SEEDS {
        let mut load = Load::new(seed);
        for life in 0..3 {
            for _ in 0..100 + load.random.below(400) {
                load.change();
            }
            load.settle();
            let stats = load.world.shard.stats();
            (moved, checkpoints) = (moved + stats.moved_blocks, checkpoints + stats.checkpoints);
            load.world.disk.kill();
            let before = facts(&mut load.world.shard, &load.world.disk);
            let (alone, _) = load.recovered(0, u64::MAX, (u32::MAX, 0));
            let is_same = before.images.iter().all(|(image, (lineage, entries, _, saved))| {
                alone
                    .images
                    .get(image)
                    .is_some_and(|found| (found.0, &found.1, found.3) == (*lineage, entries, *saved))
            });
            assert!(is_same && before.images.len() == alone.images.len(), "seed {seed}, life {life}");
            for map_bytes_max in [u64::MAX, 0] {
                for blocks_max in [0, 1, 3, 40, 1 << 16] {
                    let pace = PACES[compared % PACES.len()];
                    let (together, misses) = load.recovered(blocks_max, map_bytes_max, pace);
                    let case = format!(
                        "seed {seed}, life {life}, {blocks_max} together, map {map_bytes_max}, pace {pace:?}"
                    );
                    assert_eq!(together.differs_from(&alone), None, "{case}");
                    missed += misses;
                    compared += 1;
                }
            }
            load.world.restart();
            load.world.settle_recovery();
            load.open.clear();
            assert!(load.world.ready && load.world.errors.is_empty(), "seed {seed}: {:?}", load.world.errors);
        }
    }
    assert!(moved > 1_000 && checkpoints > 20, "{moved} moves, {checkpoints} checkpoints");
    assert!(missed > 1_000, "{missed} leaves were read in {compared} recoveries");
}

#[test]
fn recovery_reads_on_while_changes_wait_for_their_place_in_the_map() {
    let options = ShardOptions { checkpoint_bytes: 1 << 30, ..small_options() };
    let mut world = World::new(1, 120, options);
    world.settle_recovery();
    for block in 0..2_000 {
        let first = block * 7 % BLOCKS * 8;
        world.write(1, first, first + 8, false);
    }
    assert!(world.drain());
    // Runs of one change each, until most of what recovery reads was asked for.
    let runs = |ahead: u32| {
        let mut disk = world.disk.copy();
        let before = disk.reads;
        let options = ShardOptions {
            replay_blocks_max: 16,
            replay_blocks_per_run: 1,
            replay_ahead_bytes_max: ahead,
            ..world.options.clone()
        };
        let mut shard = Shard::recover(Arc::clone(&world.layout), ShardId(0), 3, options);
        let mut asked = vec![0];
        while shard.poll_output().is_none() {
            step_disk(&mut disk, &mut shard);
            shard.run(&mut disk, world.now);
            asked.push(disk.reads - before);
        }
        let all = *asked.last().unwrap();
        (asked.iter().position(|&reads| reads >= all * 3 / 4).unwrap(), all)
    };
    let (ahead, reads) = runs(1 << 20);
    let (behind, _) = runs(0);
    println!("{reads} reads, most of them after {ahead} runs, or after {behind} where nothing is read ahead");
    assert!(reads > 300 && ahead as u64 <= reads, "a read a run, as long as there is something to read");
    assert!(behind >= 2 * ahead, "what was read is in the window or the map before the next read");
}
