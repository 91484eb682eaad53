//! Benches of a shard on a drive in memory: what a batch of the log, an update and a look-up of the map cost a block,
//! with checksums and the copy of the data, without a device; and what a record costs at recovery.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::time::Duration;

use benches::written_shard::{WrittenShard, payload};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use store::ShardOptions;

/// Blocks of the volume.
const BLOCKS: u64 = 32_768;

fn shard(criterion: &mut Criterion) {
    let mut bench = WrittenShard::new(1 << 30, BLOCKS);
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
    bench.map_unwritten();
    group.throughput(Throughput::Elements(32));
    group.bench_function("read 32 blocks of which none was written: map look-up", |bencher| {
        bencher.iter(|| bench.read(32, |block| BLOCKS + (block | 1)));
    });
    group.bench_function("write zeroes to 32 blocks: log records and map update", |bencher| {
        bencher.iter(|| bench.zero(32));
    });
    group.finish();
}

/// Records that are replayed, and how many are logged together.
const RECORDS: u64 = 65_536;
const TOGETHER: u64 = 16;

fn replay(criterion: &mut Criterion) {
    let options = ShardOptions { checkpoint_bytes: u64::MAX / 2, ..ShardOptions::default() };
    let mut bench = WrittenShard::with_options(1 << 30, BLOCKS, options);
    let data = payload(5);
    for _ in 0..RECORDS / TOGETHER {
        let blocks = (0..TOGETHER).map(|_| (bench.random(), data.clone())).collect();
        bench.write(blocks);
    }
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("replay 65,536 records of one block, at random", |bencher| {
        bencher.iter(|| assert!(bench.restart() > RECORDS / 32));
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = shard, replay }
criterion_main!(benches);
