//! What one seed decides before anything runs: the pool, the shards' settings, the load, the faults, how often it ends.

use std::time::Duration;

use io::DriveShape;
use store::pool::SEGMENTS_PER_SHARD_MIN;
use store::{Geometry, Identity, Layout, ShardOptions};

use crate::{Faults, Latency, Random};

/// Drives that a pool grows to.
pub(crate) const DRIVES_MAX: usize = 4;

/// A trial as its seed has it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The pool's drives.
    pub drives: Vec<DriveShape>,
    /// How the pool is laid out on them.
    pub geometry: Geometry,
    /// Settings of each shard.
    pub shard_options: ShardOptions,
    /// What goes wrong while requests run.
    pub faults: Faults,
    /// What goes wrong during recovery.
    pub recovery: Faults,
    /// What goes wrong during checks.
    pub calm: Faults,
    /// Volumes at a time.
    pub volumes: usize,
    /// Snapshots and clones at a time, at most.
    pub images: usize,
    /// Size of each, in blocks.
    pub volume_blocks: usize,
    /// Requests under way at a time.
    pub depth: usize,
    /// Lives of the process before the last.
    pub crashes: usize,
    /// Most requests of one life.
    pub requests_per_life: u64,
    /// Whether the load can fill the pool, so that Capacity Exceeded is a fair answer.
    pub tight: bool,
    /// How often each kind of request is made.
    pub mix: Mix,
    /// One in how many crashes is a power cut.
    pub power_cut_one_in: u32,
    /// Whether what is written first is compressed, and how often that changes: at one in how many requests.
    pub compress: bool,
    /// See [`Plan::compress`].
    pub switch_one_in: Option<u32>,
    /// One in how many turns of the load a drive joins, while there are fewer than the shard can be given.
    pub join_one_in: u32,
    /// Bits of the drives that turn over before the end; 0 in plans of seeds.
    pub decay_bits: u32,
    /// Blocks of the drives that become unreadable in the last life; 0 in plans of seeds.
    pub damaged_blocks: u32,
    /// Whether a drive stops answering in each life, and whether it is back in the same or in the next; none in plans of
    /// seeds.
    pub leave: Option<Leave>,
}

/// What becomes of a drive that stops answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It comes back, at the next start at the latest.
    ForATime,
    /// It does not.
    ForGood,
}

/// Weights of the kinds of request.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) write_zeroes: u64,
    pub(crate) deallocate: u64,
    pub(crate) compare: u64,
    pub(crate) pair: u64,
    pub(crate) verify: u64,
    pub(crate) flush: u64,
    pub(crate) drop_from: u64,
    pub(crate) drop_volume: u64,
    pub(crate) fork: u64,
    pub(crate) drop_image: u64,
    /// Percent of requests that are of whole blocks.
    pub(crate) whole_blocks: u64,
    /// Percent of requests that go to a few blocks.
    pub(crate) hot: u64,
    /// Percent of writes with FUA.
    pub(crate) fua: u64,
}

impl Plan {
    /// The plan of a seed.
    ///
    /// # Panics
    /// Never: the ranges are such that every pool has a layout.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x5EED);
        let shards = u16::try_from(random.between(1, 3)).expect("at most 3");
        let block_bytes = if random.one_in(3) { 4096 } else { 512 };
        let segment_bytes = 64 << (10 + random.below(3));
        let drive_count = random.between(1, 3);
        let tight = random.one_in(3);
        let volumes = random.index(3) + 1;
        let volume_blocks = 1 << random.between(2, 7);
        // Every block of every volume and as much air again at least; or so little that volumes cannot be filled.
        // Of its own stream, so that seeds without images are what they were before there were any.
        let of_images = &mut Random::new(seed ^ 0xF02C);
        let images = if of_images.one_in(2) { of_images.index(10) + 1 } else { 0 };
        let of_compression = &mut Random::new(seed ^ 0x124);
        let live_bytes = (volumes + images) as u64 * volume_blocks as u64 * 4096 * u64::from(shards);
        let live = live_bytes.div_ceil(u64::from(segment_bytes));
        let segments = if tight {
            u64::from(shards) * (u64::from(SEGMENTS_PER_SHARD_MIN) + random.below(6))
        } else {
            u64::from(shards) * 12 + live * random.between(150, 300) / 100
        };
        let per_drive = segments.div_ceil(drive_count);
        let directory_half_bytes = 256 << 10;
        // What `store::Layout` needs beside the segments of a drive, directory included.
        let overhead = (1 << 20) + 2 * u64::from(directory_half_bytes) + u64::from(shards) * 4096;
        let size_bytes = overhead.next_multiple_of(4096) + per_drive * u64::from(segment_bytes);
        let volatile_cache = !random.one_in(4);
        let shape = DriveShape { size_bytes, block_bytes, volatile_cache };
        let drives = vec![shape; usize::try_from(drive_count).expect("at most 3")];
        let drive_bytes: Vec<u64> = drives.iter().map(|drive| drive.size_bytes).collect();
        let founders = u16::try_from(drive_bytes.len()).expect("a few drives");
        let geometry =
            Geometry { shards, segment_bytes, directory_half_bytes, block_bytes, drive_bytes, founders };
        Self {
            seed,
            drives,
            shard_options: ShardOptions {
                map_bytes_max: map_bytes_max(&mut Random::new(seed ^ 0x3A90)),
                replay_blocks_max: replay_blocks_max(seed),
                replay_blocks_per_run: replay_pace(seed).0,
                replay_ahead_bytes_max: replay_pace(seed).1,
                ..shard_options(random, segment_bytes)
            },
            geometry,
            faults: faults(random, shards),
            recovery: recovery_faults(seed, shards),
            calm: Faults::none(),
            volumes,
            images,
            volume_blocks,
            depth: 1 << random.between(0, 5),
            crashes: random.index(4) + 1,
            requests_per_life: if random.one_in(4) {
                random.between(300, 1500)
            } else {
                random.between(20, 300)
            },
            tight,
            mix: Mix::new(random, images, of_images),
            power_cut_one_in: [1, 2, 3, 0][random.index(4)],
            compress: of_compression.one_in(2),
            switch_one_in: [None, Some(10), Some(100)][of_compression.index(3)],
            join_one_in: [0, 0, 0, 300][Random::new(seed ^ 0x6209).index(4)],
            decay_bits: 0,
            damaged_blocks: 0,
            leave: None,
        }
    }

    /// The pool.
    ///
    /// # Panics
    /// If the plan was changed so that its pool cannot be.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let mut random = Random::new(self.seed ^ 0x1DE4);
        let mut uuid = || {
            let bytes: Vec<u8> = (0..2).flat_map(|_| random.number().to_le_bytes()).collect();
            <[u8; 16]>::try_from(bytes).expect("twice 8 bytes are 16")
        };
        let identity = Identity { pool: uuid(), cluster: uuid(), node: uuid() };
        Layout::new(identity, self.geometry.clone()).expect("plans have room for their pools")
    }
}

impl Leave {
    /// Of a seed: half of them each.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        if Random::new(seed ^ 0x60E5).one_in(2) { Self::ForATime } else { Self::ForGood }
    }
}

impl Mix {
    fn new(random: &mut Random, images: usize, of_images: &mut Random) -> Self {
        let [fork, drop_image] = [10, 6].map(|most| if images > 0 { of_images.between(1, most) } else { 0 });
        let mut weight = |most: u64| if random.one_in(4) { 0 } else { random.between(1, most) };
        Self {
            read: 10 + weight(30),
            write: 30 + weight(50),
            write_zeroes: weight(6),
            deallocate: weight(6),
            compare: weight(4),
            pair: weight(10),
            verify: weight(3),
            flush: weight(5),
            drop_from: weight(2),
            drop_volume: weight(1),
            fork,
            drop_image,
            whole_blocks: [0, 20, 50, 100][random.index(4)],
            hot: [0, 50, 90][random.index(3)],
            fua: [0, 0, 10, 50][random.index(4)],
        }
    }
}

/// What recovery puts into the map together: each record alone, a few batches, all that there is.
pub(crate) fn replay_blocks_max(seed: u64) -> u32 {
    let random = &mut Random::new(seed ^ 0x5EA1);
    [0, 1, 1 << random.between(1, 10), 64 << 10, 64 << 10][random.index(5)]
}

/// How much of that one run does, and how much of the log it reads ahead.
pub(crate) fn replay_pace(seed: u64) -> (u32, u32) {
    let random = &mut Random::new(seed ^ 0x9ACE);
    (
        [1, 1 << random.between(1, 10), 512][random.index(3)],
        [0, 1 << random.between(8, 16), 4 << 20][random.index(3)],
    )
}

/// Memory for the map: all that it wants, or so little that a few leaves fit at most.
fn map_bytes_max(random: &mut Random) -> u64 {
    match random.below(4) {
        0..2 => u64::MAX,
        2 => 0,
        _ => random.below(20_000),
    }
}

/// Small bounds, so that each is met often.
fn shard_options(random: &mut Random, segment_bytes: u32) -> ShardOptions {
    let segment = u64::from(segment_bytes);
    let batch_bytes_max = (segment_bytes / 2).min(32 << (10 + random.below(3)));
    ShardOptions {
        requests_max: 1 << random.between(3, 8),
        batches_max: random.index(4) + 1,
        batch_bytes_max,
        batch_bytes_min: if random.one_in(2) { 4096 } else { batch_bytes_max / 2 },
        checkpoint_bytes: segment * random.between(1, 6),
        flush_bytes: (segment / 2) << random.below(3),
        clean_blocks_max: 8 << random.between(0, 4),
        drop_pages_per_run: 1 << random.between(0, 4),
        retry: Duration::from_micros(random.between(50, 5_000)),
        ..ShardOptions::default()
    }
}

/// What fails at a start, in one seed of four; from a stream of its own, so that the others are what they would be.
fn recovery_faults(seed: u64, shards: u16) -> Faults {
    let random = &mut Random::new(seed ^ 0x57AF);
    if !random.one_in(4) {
        return Faults::none();
    }
    Faults {
        read_error_one_in: [0, 50, 1000][random.index(3)],
        write_error_one_in: [0, 20, 100][random.index(3)],
        // As in the load: it takes the writes of every shard with it.
        flush_error_one_in: if shards == 1 { [0, 3, 10][random.index(3)] } else { 0 },
        ..Faults::none()
    }
}

fn faults(random: &mut Random, shards: u16) -> Faults {
    let mut faults = if random.one_in(2) { Faults::rough() } else { Faults::none() };
    if random.one_in(4) {
        // So slow that many operations are under way when it ends.
        faults.disk_latency = Latency { min_ns: 10_000, max_ns: 10_000_000, stall_one_in: 0, stall_ns: 0 };
    }
    if random.one_in(8) {
        faults.read_error_one_in = 200;
    }
    if random.one_in(16) {
        faults.write_error_one_in = 200;
    }
    // A flush that failed takes the writes of every shard with it, although it tells one alone.
    if random.one_in(16) && shards == 1 {
        faults.flush_error_one_in = 30;
    }
    if random.one_in(8) {
        faults.read_flip_one_in = 100;
    }
    faults
}
