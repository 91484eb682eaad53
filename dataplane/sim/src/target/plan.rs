//! What one seed decides about a run of the whole target.

use std::time::Duration;

use engine::BenchNamespace;
use io::DriveShape;
use store::ShardOptions;
use store::pool::SEGMENTS_PER_SHARD_MIN;

use crate::{Faults, Latency, MemoryLimits, Random};

/// A run of the whole target as its seed has it.
#[derive(Clone, Debug)]
pub struct TargetPlan {
    /// The seed.
    pub seed: u64,
    /// Reactors of each life, one number a life.
    pub reactors: Vec<u16>,
    /// The pool's drives.
    pub drives: Vec<DriveShape>,
    /// Shards of the pool.
    pub shards: u16,
    /// Segment size.
    pub segment_bytes: u32,
    /// Settings of each shard.
    pub shard_options: ShardOptions,
    /// Memory of each reactor.
    pub memory: MemoryLimits,
    /// What goes wrong while hosts are served.
    pub faults: Faults,
    /// Of the drives' reads under the load, one in how many fails.
    pub read_error_one_in: u32,
    /// Hosts.
    pub hosts: usize,
    /// I/O queues of each.
    pub queues: u16,
    /// Commands of each host under way at a time.
    pub depth: usize,
    /// Volumes, each with its size in blocks of 4096 bytes and whether its sectors are 4096 bytes.
    pub volumes: Vec<(usize, bool)>,
    /// Whether the load can fill the pool, so that Capacity Exceeded is a fair answer to what needs room.
    pub tight: bool,
    /// Commands of one life.
    pub commands_per_life: u64,
    /// One in how many crashes is a power cut.
    pub power_cut_one_in: u32,
    /// Digests on the connections.
    pub digests: bool,
    /// One in how many turns a host loses its connections.
    pub reconnect_one_in: u32,
    /// One in how many turns a host shuts its controller down in order.
    pub shutdown_one_in: u32,
    /// One in how many turns management changes a volume.
    pub change_one_in: u32,
    /// One in how many turns management takes a snapshot, makes a clone, rolls back, deletes or compares.
    pub images_one_in: u32,
    /// One in how many of these the process ends while it is under way.
    pub aim_one_in: u32,
    /// One in how many turns a drive is to join the pool, and how many it has at most.
    pub grow_one_in: u32,
    /// See [`TargetPlan::grow_one_in`].
    pub drives_max: usize,
    /// One in how many turns a host asks for a command to be aborted.
    pub abort_one_in: u32,
    /// Whether everything is looked at and deleted at the end.
    pub ends_empty: bool,
    /// Namespaces without a store.
    pub bench: Vec<BenchNamespace>,
    /// What the engines do wrong on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<engine::Planted>,
}

impl TargetPlan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x7A26);
        let of_images = &mut Random::new(seed ^ 0x1AA6E);
        let small = |random: &mut Random, low, high| u16::try_from(random.between(low, high)).unwrap_or(1);
        let lives = random.between(1, 3);
        let block_bytes = if random.one_in(3) { 4096 } else { 512 };
        let volatile_cache = !random.one_in(4);
        let shape = DriveShape { size_bytes: 48 << 20, block_bytes, volatile_cache };
        let volume = |random: &mut Random| {
            let blocks = [8, 64, 300, 520][random.index(4)];
            (blocks, random.one_in(2))
        };
        let plan = Self {
            seed,
            reactors: (0..=lives).map(|_| small(random, 1, 3)).collect(),
            drives: vec![shape; random.index(2) + 1],
            shards: small(random, 1, 5),
            segment_bytes: 256 << 10,
            shard_options: ShardOptions {
                batch_bytes_max: 64 << 10,
                checkpoint_bytes: random.between(256, 2048) << 10,
                flush_bytes: 256 << 10,
                retry: Duration::from_millis(1),
                // Of its own stream, so that seeds are otherwise what they were.
                map_bytes_max: [u64::MAX, 0, 100_000][Random::new(seed ^ 0x3A90).index(3)],
                replay_blocks_max: crate::trial::replay_blocks_max(seed),
                replay_blocks_per_run: crate::trial::replay_pace(seed).0,
                replay_ahead_bytes_max: crate::trial::replay_pace(seed).1,
                ..ShardOptions::default()
            },
            memory: MemoryLimits::default(),
            faults: if random.one_in(2) { Faults::rough() } else { Faults::none() },
            read_error_one_in: 0,
            hosts: random.index(3) + 1,
            queues: small(random, 1, 3),
            depth: 1 << random.between(0, 4),
            volumes: (0..random.between(1, 3)).map(|_| volume(random)).collect(),
            tight: false,
            commands_per_life: random.between(20, 150),
            power_cut_one_in: [0, 1, 2][random.index(3)],
            digests: random.one_in(3),
            reconnect_one_in: [0, 0, 300, 1000][random.index(4)],
            change_one_in: [0, 300, 1000][random.index(3)],
            shutdown_one_in: [0, 0, 300][of_images.index(3)],
            images_one_in: [0, 10, 25, 60][of_images.index(4)],
            aim_one_in: [0, 3, 10][of_images.index(3)],
            abort_one_in: [0, 20, 200][random.index(3)],
            grow_one_in: [0, 0, 0, 500][Random::new(seed ^ 0x6209).index(4)],
            drives_max: 4,
            ends_empty: true,
            bench: Vec::new(),
            #[cfg(feature = "planted")]
            planted: None,
        };
        if of_images.one_in(4) { plan.with_slow_mail(of_images) } else { plan }
    }

    /// A pool that is hardly larger than its shards need, and long lives.
    #[must_use]
    pub fn tight(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x7169);
        let plan = Self::new(seed);
        let segments = u64::from(plan.shards) * (u64::from(SEGMENTS_PER_SHARD_MIN) + random.below(5));
        // What the pool needs beside its segments.
        let size_bytes = (2 << 20) + segments * u64::from(plan.segment_bytes);
        Self {
            drives: vec![DriveShape { size_bytes, ..plan.drives[0] }],
            volumes: plan.volumes.iter().map(|(_, large)| (520, *large)).collect(),
            tight: true,
            commands_per_life: random.between(200, 1000),
            depth: plan.depth.max(4),
            // A snapshot is a write, and would be refused.
            images_one_in: 0,
            grow_one_in: [0, 1000][random.index(2)],
            ..plan
        }
    }

    /// Connections that break by themselves now and then.
    #[must_use]
    pub fn with_resets(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x4E5E);
        let mut plan = Self::new(seed);
        plan.faults.net_reset_one_in = [2000, 20_000][random.index(2)];
        plan
    }

    /// Drives whose reads fail at times under the load. Management asks for nothing meanwhile: it has no answer for what
    /// cannot be read.
    #[must_use]
    pub fn with_read_errors(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x4EAD);
        Self {
            read_error_one_in: [20, 100][random.index(2)],
            change_one_in: 0,
            images_one_in: 0,
            grow_one_in: 0,
            ..Self::new(seed)
        }
    }

    /// Drives and connections are quick, mail between reactors is slow: a host can do much in other shards while a change
    /// is on its way to the last of them.
    #[must_use]
    pub fn with_slow_mail(mut self, random: &mut Random) -> Self {
        self.faults = Faults {
            disk_latency: Latency { min_ns: 1_000, max_ns: 5_000, ..Latency::fixed(0) },
            net_latency: Latency { min_ns: 1_000, max_ns: 5_000, ..Latency::fixed(0) },
            mail_latency: Latency { min_ns: 1_000, max_ns: 500_000, ..Latency::fixed(0) },
            ..Faults::none()
        };
        let some = |random: &mut Random| u16::try_from(random.between(2, 4)).unwrap_or(2);
        self.reactors.iter_mut().for_each(|reactors| *reactors = some(random));
        self.shards = self.shards.max(some(random));
        self.volumes.iter_mut().for_each(|(blocks, _)| *blocks = 520);
        self.images_one_in = 10;
        self
    }
}
