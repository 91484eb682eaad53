//! Write amplification, counted: random writes of 4 KiB over a volume that takes a share of a pool in memory, in a
//! steady state. Nothing is timed by a clock: the drive is a model with a latency and a rate, so that batches form as
//! they do on a drive, and the same options give the same counts on every machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use benches::memory_drive::{Ended, HeapBuffer, HeapShared, MemoryDrive};
use io::{Buffer as _, Disk, DriveId, DriveShape, Extent, Memory, Purpose, Slice, Time, Token};
use store::{
    Geometry, GrantPurpose, Identity, Layout, Op, Outcome, Output, Payload, Request, Segments, Shard,
    ShardId, ShardOptions, ShardStats, VolumeId,
};

const BLOCK: usize = 4096;
const VOLUME: VolumeId = VolumeId(1);
/// Blocks of one stripe.
const STRIPE_BLOCKS: u64 = 256;
/// How long the model of a host and its connection takes from an answer to the next command.
const THINK_NS: u64 = 20_000;
const USAGE: &str = "amplification [--pool MiB] [--full PERCENT] [--qd N] [--shards N] [--times N] \
                     [--latency-us N] [--rate-mb N] [--trace]";

/// What is counted, and on what.
#[derive(Clone, Copy, Debug)]
struct Options {
    pool_mib: u64,
    full_percent: u64,
    depth: u64,
    shards: u16,
    /// How often the pool's size is written before anything is counted; then it is written once more.
    times: u64,
    latency_us: u64,
    rate_mb: u64,
    /// Show what the first shard is at while it counts.
    trace: bool,
}

/// A drive in memory whose operations take time.
struct Drive {
    memory: MemoryDrive,
    now: u64,
    /// When the model has moved all bytes that it was given.
    busy_until: u64,
    options: Options,
    under_way: BinaryHeap<Reverse<(u64, u64)>>,
    slots: BTreeMap<u64, Ended>,
    number: u64,
    writes: u64,
    reads: u64,
}

/// The pool, its shards, and a host that always has as many writes under way.
struct World {
    drive: Drive,
    shards: Vec<Shard<HeapBuffer>>,
    segments: Segments,
    blocks_per_shard: u64,
    /// Commands that are to begin then.
    thinking: VecDeque<u64>,
    ready: Vec<bool>,
    content: Vec<u8>,
    stamp: u64,
    seed: u64,
    refused: u64,
    /// When each command that is open was submitted, by its tag, and how long those took that have ended.
    begun: BTreeMap<u64, u64>,
    took: Vec<u32>,
    /// Shares of the pool that were not in full segments, when they were looked at.
    spare: Vec<f64>,
}

impl Drive {
    fn later(&mut self) {
        while let Some(ended) = self.memory.poll() {
            let bytes = match &ended {
                Ended::Read(_, buffer) | Ended::Written(_, buffer) => buffer.len() as u64,
                Ended::Flushed(_) => 0,
            };
            let begin = self.busy_until.max(self.now);
            self.busy_until = begin + bytes * 1_000 / self.options.rate_mb;
            let due = self.busy_until + self.options.latency_us * 1_000;
            self.number += 1;
            self.under_way.push(Reverse((due, self.number)));
            self.slots.insert(self.number, ended);
        }
    }

    fn due(&self) -> Option<u64> {
        self.under_way.peek().map(|Reverse((due, _))| *due)
    }

    fn poll(&mut self) -> Option<Ended> {
        let Reverse((due, number)) = *self.under_way.peek()?;
        if due > self.now {
            return None;
        }
        self.under_way.pop();
        self.slots.remove(&number)
    }
}

impl Memory for Drive {
    type Buffer = HeapBuffer;

    fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<HeapBuffer> {
        self.memory.allocate(len, purpose)
    }
}

impl Disk for Drive {
    fn drive(&self, drive: DriveId) -> DriveShape {
        DriveShape { volatile_cache: true, ..self.memory.drive(drive) }
    }

    fn drives(&self) -> u16 {
        1
    }

    fn read(&mut self, token: Token, buffer: HeapBuffer, extents: &[Extent]) {
        self.reads += 1;
        self.memory.read(token, buffer, extents);
        self.later();
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: HeapBuffer, len: u32) {
        self.writes += 1;
        self.memory.write(token, drive, offset, buffer, len);
        self.later();
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        self.memory.flush(token, drive);
        self.later();
    }
}

impl World {
    fn new(options: Options) -> Self {
        let pool_bytes = options.pool_mib << 20;
        let wanted = u32::try_from(pool_bytes / 1024).expect("a pool that fits into memory");
        let geometry = Geometry {
            shards: options.shards,
            segment_bytes: wanted.clamp(1 << 20, 64 << 20),
            directory_half_bytes: 1 << 20,
            block_bytes: 512,
            drive_bytes: vec![pool_bytes],
            founders: 1,
        };
        let identity = Identity { pool: [7; 16], cluster: [8; 16], node: [9; 16] };
        let layout = Arc::new(Layout::new(identity, geometry).expect("the geometry is possible"));
        let shards = (0..options.shards)
            .map(|shard| Shard::recover(Arc::clone(&layout), ShardId(shard), shard, ShardOptions::default()));
        let size = usize::try_from(pool_bytes).expect("a pool that fits into memory");
        let drive = Drive {
            memory: MemoryDrive::new(size),
            now: 0,
            busy_until: 0,
            options,
            under_way: BinaryHeap::new(),
            slots: BTreeMap::new(),
            number: 0,
            writes: 0,
            reads: 0,
        };
        let blocks = pool_bytes / 100 * options.full_percent / BLOCK as u64;
        let mut content = vec![0; BLOCK];
        let mut seed = 1_u64;
        for byte in &mut content {
            *byte = u8::try_from(random(&mut seed) >> 56).expect("eight bits");
        }
        let mut world = Self {
            drive,
            shards: shards.collect(),
            segments: Segments::new(&layout),
            blocks_per_shard: blocks / u64::from(options.shards) / STRIPE_BLOCKS * STRIPE_BLOCKS,
            thinking: VecDeque::new(),
            ready: vec![false; usize::from(options.shards)],
            content,
            stamp: 0,
            seed,
            refused: 0,
            begun: BTreeMap::new(),
            took: Vec::new(),
            spare: Vec::new(),
        };
        while !world.ready.iter().all(|ready| *ready) {
            world.turn();
        }
        world
    }

    /// One round of the driver, after whatever comes next.
    fn turn(&mut self) {
        let timeouts =
            self.shards.iter().filter_map(Shard::poll_timeout).map(|time| time.0.max(self.drive.now + 1_000));
        let next = timeouts.chain(self.drive.due()).chain(self.thinking.front().copied()).min();
        self.drive.now = next.unwrap_or(self.drive.now + 1_000).max(self.drive.now);
        while let Some(ended) = self.drive.poll() {
            let token = match &ended {
                Ended::Read(token, _) | Ended::Written(token, _) | Ended::Flushed(token) => *token,
            };
            let shard = &mut self.shards[usize::from(store::shard::owner_of(token))];
            match ended {
                Ended::Read(token, buffer) => shard.handle_read(token, buffer, Ok(())),
                Ended::Written(token, buffer) => shard.handle_written(token, buffer, Ok(())),
                Ended::Flushed(token) => shard.handle_flushed(token, Ok(())),
            }
        }
        while self.thinking.front().is_some_and(|&due| due <= self.drive.now) {
            self.thinking.pop_front();
            self.submit_random();
        }
        for number in 0..self.shards.len() {
            let now = Time(self.drive.now);
            self.shards[number].run(&mut self.drive, now);
            while let Some(output) = self.shards[number].poll_output() {
                self.take(number, output);
            }
        }
    }

    fn take(&mut self, number: usize, output: Output<HeapBuffer>) {
        let shard = ShardId(u16::try_from(number).expect("few shards"));
        match output {
            Output::Done { tag, outcome, .. } => {
                let begun = self.begun.remove(&tag).expect("an open command");
                self.took.push(u32::try_from(self.drive.now - begun).unwrap_or(u32::MAX));
                self.refused += u64::from(outcome != Outcome::Ok);
                self.thinking.push_back(self.drive.now + THINK_NS);
            }
            Output::WantSegment { cleaning } => {
                let purpose = if cleaning { GrantPurpose::Cleaning } else { GrantPurpose::Host };
                let grant = self.segments.grant(shard, purpose);
                self.shards[number].handle_grant(grant);
                self.tell_space();
            }
            Output::Release(segments) => {
                self.segments.release(shard, &segments).expect("a shard gives back its own");
                self.tell_space();
            }
            Output::Ready { segments, .. } => {
                self.ready[number] = true;
                self.segments.own(shard, &segments).expect("a new pool");
            }
            Output::Stopped | Output::Forked { .. } => {}
            Output::Failed(failure) => panic!("the shard failed: {failure:?}"),
        }
    }

    fn tell_space(&mut self) {
        let (free, total) = (self.segments.free(), self.segments.total());
        for shard in &mut self.shards {
            shard.handle_pool_space(free, total);
        }
    }

    fn submit_random(&mut self) {
        let shards = self.shards.len() as u64;
        let block = random(&mut self.seed) / 7 % (self.blocks_per_shard * shards);
        self.submit(block);
    }

    fn submit(&mut self, block: u64) {
        let shards = self.shards.len() as u64;
        let (stripe, within) = (block / STRIPE_BLOCKS, block % STRIPE_BLOCKS);
        let (shard, stripe) = (stripe % shards, stripe / shards);
        let mut bytes = self.content.clone();
        self.stamp += 1;
        self.begun.insert(self.stamp, self.drive.now);
        bytes[..8].copy_from_slice(&self.stamp.to_le_bytes());
        let data = Payload::new(Slice::<HeapShared>::whole(HeapBuffer::from(bytes).share()));
        let offset = (stripe * STRIPE_BLOCKS + within) * BLOCK as u64;
        let op = Op::Write { data, fua: false };
        let request =
            Request { tag: self.stamp, volume: VOLUME, offset, len: BLOCK as u64, op, compress: false };
        let shard = usize::try_from(shard).expect("few shards");
        assert!(self.shards[shard].submit(request).is_ok(), "a shard takes what fits its queue");
    }

    fn stats(&self) -> ShardStats {
        let mut sum = ShardStats::default();
        for shard in &self.shards {
            let stats = shard.stats();
            sum.written_bytes += stats.written_bytes;
            sum.device_written_bytes += stats.device_written_bytes;
            sum.page_written_bytes += stats.page_written_bytes;
            sum.moved_blocks += stats.moved_blocks;
            sum.cleaned_segments += stats.cleaned_segments;
            sum.checkpoints += stats.checkpoints;
            sum.batches += stats.batches;
            sum.live_bytes += stats.live_bytes;
            sum.owned_bytes += stats.owned_bytes;
        }
        sum
    }

    /// Notes what share of the pool is in no full segment.
    fn look_at_room(&mut self, options: Options) {
        let full: u64 =
            self.shards.iter().map(|shard| shard.garbage_bytes() + shard.stats().live_bytes).sum();
        self.spare.push(1.0 - full as f64 * 64.0 / 63.0 / (options.pool_mib << 20) as f64);
    }

    /// Fills the volume, then writes so many bytes at random.
    fn run(&mut self, bytes: u64, options: Options) {
        let until = self.stats().written_bytes + bytes;
        if self.thinking.is_empty() {
            self.thinking.extend((0..options.depth).map(|_| self.drive.now));
        }
        while self.stats().written_bytes < until {
            for _ in 0..64 {
                self.turn();
            }
            self.look_at_room(options);
            if options.trace && self.stats().written_bytes > options.pool_mib << 20 {
                let text = self.shards[0].describe();
                println!("{} {}", self.drive.now / 1000, text.split(", segments").next().unwrap_or_default());
            }
        }
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        pool_mib: 1024,
        full_percent: 60,
        depth: 32,
        shards: 4,
        times: 3,
        latency_us: 60,
        rate_mb: 1_000,
        trace: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--trace" {
            options.trace = true;
            continue;
        }
        let value: u64 = arguments.next().and_then(|value| value.parse().ok()).ok_or(USAGE)?;
        match name.as_str() {
            "--pool" => options.pool_mib = value,
            "--full" => options.full_percent = value,
            "--qd" => options.depth = value,
            "--shards" => options.shards = u16::try_from(value).map_err(|_| USAGE)?,
            "--times" => options.times = value,
            "--latency-us" => options.latency_us = value,
            "--rate-mb" => options.rate_mb = value,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

fn main() -> Result<(), String> {
    let options = options()?;
    let mut world = World::new(options);
    let size = options.pool_mib << 20;
    world.run(size * options.times, options);
    let (before, began) = (world.stats(), world.drive.now);
    let (writes, reads) = (world.drive.writes, world.drive.reads);
    world.took.clear();
    world.spare.clear();
    world.run(size, options);
    let after = world.stats();
    let host = (after.written_bytes - before.written_bytes) as f64;
    let part = |bytes: u64| bytes as f64 / host;
    let device = part(after.device_written_bytes - before.device_written_bytes);
    let moved = part((after.moved_blocks - before.moved_blocks) * BLOCK as u64);
    let pages = part(after.page_written_bytes - before.page_written_bytes);
    let cleaned = after.cleaned_segments - before.cleaned_segments;
    let segment = f64::from(wanted_segment(options));
    println!("to the drive per byte of the host: {device:.3}");
    println!(
        "  host 1, moved {moved:.3}, pages {pages:.3}, headers and the rest {:.3}",
        device - 1.0 - moved - pages
    );
    println!(
        "live in a cleaned segment: {:.3}; cleaned {cleaned}, checkpoints {}, blocks of the host a batch {:.1}",
        moved * host / (cleaned.max(1) as f64 * segment),
        after.checkpoints - before.checkpoints,
        host / BLOCK as f64 / (after.batches - before.batches) as f64,
    );
    println!(
        "live {:.3} of the pool, owned {:.3}, refused {}; model: {:.0} k/s, {} writes, {} reads",
        after.live_bytes as f64 / size as f64,
        after.owned_bytes as f64 / size as f64,
        world.refused,
        host / BLOCK as f64 / ((world.drive.now - began) as f64 / 1e6),
        world.drive.writes - writes,
        world.drive.reads - reads,
    );
    let blocks = host / BLOCK as f64;
    world.took.sort_unstable();
    let at = |share: usize| f64::from(world.took[world.took.len() * share / 1000]) / 1e3;
    println!(
        "for each block of the host {:.3} writes and {:.3} reads of the drive; took {:.0} us, p99 {:.0}, p99.9 {:.0}; \
         {:.4} of the pool not in full segments",
        (world.drive.writes - writes) as f64 / blocks,
        (world.drive.reads - reads) as f64 / blocks,
        at(500),
        at(990),
        at(999),
        world.spare.iter().sum::<f64>() / world.spare.len() as f64,
    );
    Ok(())
}

fn wanted_segment(options: Options) -> u32 {
    u32::try_from(options.pool_mib * 1024).unwrap_or(u32::MAX).clamp(1 << 20, 64 << 20)
}
