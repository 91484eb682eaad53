//! Benches of a shard on a drive in memory: what a batch of the log, an update and a look-up of the map cost a block,
//! with checksums and the copy of the data, without a device.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::time::Duration;

use benches::memory_drive::{HeapBuffer, HeapShared};
use benches::shard_driver::{BLOCK, ShardDriver};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use io::{Buffer as _, Slice};
use store::{Op, Payload, ShardOptions};

/// Blocks of the volume.
const BLOCKS: u64 = 32_768;

/// A shard whose volume has been written.
struct Bench {
    driver: ShardDriver,
    seed: u64,
}

impl Bench {
    fn new() -> Self {
        // Checkpoints are another cost; here they come seldom.
        let options = ShardOptions { checkpoint_bytes: 128 << 20, ..ShardOptions::default() };
        let mut bench = Self { driver: ShardDriver::new(1 << 30, options), seed: 1 };
        for first in (0..BLOCKS).step_by(32) {
            bench.write((first..first + 32).map(|block| (block, payload(block))).collect());
        }
        bench
    }

    fn write(&mut self, blocks: Vec<(u64, Payload<HeapShared>)>) {
        let wanted = self.driver.ended() + blocks.len() as u64;
        for (block, data) in blocks {
            self.driver.submit(block, BLOCK, false, Op::Write { data, fua: false });
        }
        self.driver.finish(wanted);
    }

    /// Makes `count` blocks zeros: records and entries of the map, without data.
    fn zero(&mut self, count: u64) {
        let wanted = self.driver.ended() + count;
        for _ in 0..count {
            let block = self.random();
            self.driver.submit(block, BLOCK, false, Op::WriteZeroes { fua: false });
        }
        self.driver.finish(wanted);
    }

    /// Reads `count` blocks, each where `place` puts a random one.
    fn read(&mut self, count: u64, place: fn(u64) -> u64) {
        let wanted = self.driver.ended() + count;
        for _ in 0..count {
            let block = place(self.random());
            self.driver.submit_read(block);
        }
        self.driver.finish(wanted);
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
