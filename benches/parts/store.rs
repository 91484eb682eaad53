//! Benches of a shard on a drive in memory: what a batch of the log, an update and a look-up of the map cost a block,
//! with checksums and the copy of the data, without a device.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use benches::memory_drive::{Ended, HeapBuffer, HeapShared, MemoryDrive};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use io::{Buffer as _, Memory as _, Purpose, Slice, Time};
use store::{
    Geometry, Identity, Layout, Op, Outcome, Output, Payload, Request, SegmentId, Shard, ShardId,
    ShardOptions, VolumeId,
};

/// Blocks of the volume.
const BLOCKS: u64 = 32_768;
const BLOCK: usize = 4096;
const VOLUME: VolumeId = VolumeId(1);

/// A shard, its drive, and the segments that it may have.
struct Bench {
    drive: MemoryDrive,
    shard: Shard<HeapBuffer>,
    free: BTreeSet<SegmentId>,
    now: u64,
    ready: bool,
    ended: u64,
    seed: u64,
}

impl Bench {
    fn new() -> Self {
        let geometry = Geometry {
            shards: 1,
            segment_bytes: 4 << 20,
            directory_half_bytes: 1 << 20,
            block_bytes: 512,
            drive_bytes: vec![1 << 30],
        };
        let identity = Identity { pool: [7; 16], cluster: [8; 16], node: [9; 16] };
        let layout = Arc::new(Layout::new(identity, geometry).expect("the geometry is possible"));
        let free = (0..layout.segments()).map(SegmentId).collect();
        // Checkpoints are another cost; here they come seldom.
        let options = ShardOptions { checkpoint_bytes: 128 << 20, ..ShardOptions::default() };
        let shard = Shard::recover(layout, ShardId(0), 0, options);
        let drive = MemoryDrive::new(1 << 30);
        let mut bench = Self { drive, shard, free, now: 0, ready: false, ended: 0, seed: 1 };
        while !bench.ready {
            bench.turn();
        }
        for first in (0..BLOCKS).step_by(32) {
            bench.write((first..first + 32).map(|block| (block, payload(block))).collect());
        }
        bench
    }

    /// One round of the shard's driver.
    fn turn(&mut self) {
        self.now += 1_000;
        while let Some(ended) = self.drive.poll() {
            match ended {
                Ended::Read(token, buffer) => self.shard.handle_read(token, buffer, Ok(())),
                Ended::Written(token, buffer) => self.shard.handle_written(token, buffer, Ok(())),
                Ended::Flushed(token) => self.shard.handle_flushed(token, Ok(())),
            }
        }
        self.shard.run(&mut self.drive, Time(self.now));
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Done { outcome, buffer, .. } => {
                    assert_eq!(outcome, Outcome::Ok);
                    self.ended += 1;
                    buffer.into_iter().for_each(|buffer| self.drive.recycle(buffer));
                }
                Output::WantSegment { .. } => {
                    let grant = self.free.pop_first();
                    self.shard.handle_grant(grant);
                }
                Output::Release(segments) => self.free.extend(segments),
                Output::Ready { .. } => self.ready = true,
                Output::Stopped | Output::Forked { .. } => {}
                Output::Failed(failure) => panic!("the shard failed: {failure:?}"),
            }
        }
    }

    fn submit(&mut self, block: u64, op: Op<HeapBuffer>) {
        let offset = block * BLOCK as u64;
        let request = Request { tag: block, volume: VOLUME, offset, len: BLOCK as u64, compress: false, op };
        assert!(self.shard.submit(request).is_ok(), "a shard takes what fits its queue");
    }

    fn finish(&mut self, wanted: u64) {
        while self.ended < wanted {
            self.turn();
        }
    }

    fn write(&mut self, blocks: Vec<(u64, Payload<HeapShared>)>) {
        let wanted = self.ended + blocks.len() as u64;
        for (block, data) in blocks {
            self.submit(block, Op::Write { data, fua: false });
        }
        self.finish(wanted);
    }

    /// Makes `count` blocks zeros: records and entries of the map, without data.
    fn zero(&mut self, count: u64) {
        let wanted = self.ended + count;
        for _ in 0..count {
            let block = self.random();
            self.submit(block, Op::WriteZeroes { fua: false });
        }
        self.finish(wanted);
    }

    /// Reads `count` blocks, each where `place` puts a random one.
    fn read(&mut self, count: u64, place: fn(u64) -> u64) {
        let wanted = self.ended + count;
        for _ in 0..count {
            let block = place(self.random());
            let buffer = self.drive.allocate(BLOCK, Purpose::Data).expect("memory is not bounded here");
            self.submit(block, Op::Read { buffer });
        }
        self.finish(wanted);
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % BLOCKS
    }
}

fn payload(block: u64) -> Payload<HeapShared> {
    let bytes: Vec<u8> = (0..BLOCK as u64).map(|at| (at * 131 + block * 7 + 1) as u8).collect();
    Payload::new(Slice::whole(HeapBuffer::from(bytes).share()))
}

fn shard(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let mut group = criterion.benchmark_group("shard");
    for batch in [1, 8, 32] {
        group.throughput(Throughput::Elements(batch));
        let data = payload(5);
        group.bench_function(format!("write {batch} blocks: log batch and map update"), |bencher| {
            let blocks: Vec<u64> = (0..4096).map(|_| bench.random()).collect();
            let mut next = blocks.iter().cycle().copied();
            bencher.iter_batched(
                || (0..batch).filter_map(|_| Some((next.next()?, data.clone()))).collect::<Vec<_>>(),
                |blocks| bench.write(blocks),
                BatchSize::SmallInput,
            );
        });
    }
    for batch in [1, 32] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("read {batch} blocks: map look-up and check"), |bencher| {
            bencher.iter(|| bench.read(batch, |block| block));
        });
    }
    // What was never written costs a way down the map and nothing else, once its leaf is there for a neighbour.
    for leaf in (BLOCKS..2 * BLOCKS).step_by(64) {
        bench.write(vec![(leaf, payload(leaf))]);
    }
    group.throughput(Throughput::Elements(32));
    group.bench_function("read 32 blocks of which none was written: map look-up", |bencher| {
        bencher.iter(|| bench.read(32, |block| BLOCKS + (block | 1)));
    });
    group.bench_function("write zeroes to 32 blocks: log records and map update", |bencher| {
        bencher.iter(|| bench.zero(32));
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = shard }
criterion_main!(benches);
