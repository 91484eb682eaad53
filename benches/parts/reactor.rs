//! Benches of the reactor's parts: buffers of the arena, copies of memory that lasts, and a message to another reactor and
//! back.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use benches::random::Random;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use io::Shared as _;
use io::{
    Buffer as _, Clock as _, Event, Io as _, Lane, Lasting as _, Mail as _, Memory as _, Purpose, ReactorId,
};
use reactor::{Cpu, DriveSet, Placement, Reactor, ReactorConfig, ReactorSeed};

fn seeds(count: u32, spin_max: Duration) -> Vec<ReactorSeed<u64>> {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let reactors = (0..count).map(|id| Cpu { number: id % cpus, core: id % cpus, node: 0 }).collect();
    let placement = Placement { reactors, others: Vec::new(), nodes: 1 };
    let config = ReactorConfig {
        arena_bytes: 32 << 20,
        pin: count <= cpus,
        spin_max,
        ..ReactorConfig::new(DriveSet::none(), count as usize)
    };
    reactor::build(&config, &placement).expect("io_uring is there").seeds
}

fn start(seed: ReactorSeed<u64>) -> Reactor<u64> {
    seed.start().expect("a reactor starts")
}

fn arena(criterion: &mut Criterion) {
    let seed = seeds(1, Duration::ZERO).remove(0);
    let mut reactor = start(seed);
    let mut group = criterion.benchmark_group("arena");
    for len in [512, 4096, 131_072] {
        group.bench_function(format!("allocate and drop {len} bytes"), |bencher| {
            bencher.iter(|| reactor.allocate(len, Purpose::Data));
        });
    }
    group.bench_function("hold 32 of 4096 bytes", |bencher| {
        let mut held = Vec::with_capacity(32);
        bencher.iter(|| {
            held.extend((0..32).filter_map(|_| reactor.allocate(4096, Purpose::Data)));
            held.clear();
        });
    });
    group.bench_function("share 4096 bytes twice", |bencher| {
        bencher.iter(|| {
            let shared = reactor.allocate(4096, Purpose::Data).expect("the arena has room").share();
            (shared.clone(), shared)
        });
    });
    group.finish();
}

/// What the copy of a block costs at the least: out of memory that no cache holds, the same fetched ahead, as reads of a
/// namespace in memory are, and out of a cache.
fn copies(criterion: &mut Criterion) {
    const CHUNK_BYTES: usize = 64 << 10;
    const BLOCK_BYTES: usize = 4096;
    /// Blocks that are copied together, as commands that came together.
    const TOGETHER: usize = 16;
    let mut reactor = start(seeds(1, Duration::ZERO).remove(0));
    let chunks: Vec<_> = (0..(1 << 30) / CHUNK_BYTES)
        .map(|_| {
            let mut buffer = reactor.allocate_lasting(CHUNK_BYTES).expect("the machine has 1 GiB");
            buffer.fill(1);
            buffer.share()
        })
        .collect();
    let mut into = vec![0; 256 * BLOCK_BYTES];
    let mut group = criterion.benchmark_group("copies");
    group.throughput(Throughput::Elements(TOGETHER as u64));
    for (name, count, ahead) in [
        ("16 blocks out of 1 GiB", chunks.len(), false),
        ("16 blocks out of 1 GiB, fetched ahead", chunks.len(), true),
        ("16 blocks out of 64 KiB", 1, false),
    ] {
        let mut random = Random::new(1);
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let places: [_; TOGETHER] = std::array::from_fn(|_| {
                    let chunk = random.below(count as u64) as usize;
                    (chunk, random.below((CHUNK_BYTES / BLOCK_BYTES) as u64) as usize * BLOCK_BYTES)
                });
                if ahead {
                    places.iter().for_each(|(chunk, start)| chunks[*chunk].expect_read(*start));
                }
                for (chunk, start) in places {
                    into[next..next + BLOCK_BYTES]
                        .copy_from_slice(&chunks[chunk][start..start + BLOCK_BYTES]);
                    next = (next + BLOCK_BYTES) % into.len();
                }
            });
        });
    }
    group.finish();
}

/// Sends what comes back to its sender until told to stop.
fn echo(seed: ReactorSeed<u64>, stop: &AtomicBool) {
    let mut reactor = start(seed);
    let mut events = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let deadline = reactor.now() + Duration::from_millis(50);
        reactor.poll(Some(deadline), &mut events).expect("the ring works");
        for event in events.drain(..) {
            if let Event::Mail { from: Some(from), message } = event {
                assert!(reactor.post(from, Lane::Reply, message).is_ok(), "an answer is never refused");
            }
        }
    }
}

/// A message there and back, `width` of them at a time. On one CPU it measures the switch between threads too.
fn mailbox(criterion: &mut Criterion) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut seeds = seeds(2, Duration::from_millis(1));
    let other = seeds.pop().expect("two were made");
    let (ready, is_ready) = mpsc::channel();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        ready.send(()).expect("the bench waits for it");
        echo(other, &stopped);
    });
    is_ready.recv().expect("the other thread runs");
    let mut reactor = start(seeds.remove(0));
    let mut events = Vec::new();
    let mut group = criterion.benchmark_group("mailbox");
    for width in [1_u64, 32] {
        group.throughput(Throughput::Elements(width));
        group.bench_function(format!("{width} there and back"), |bencher| {
            bencher.iter_custom(|rounds| {
                let begin = Instant::now();
                for _ in 0..rounds {
                    exchange(&mut reactor, &mut events, width);
                }
                begin.elapsed()
            });
        });
    }
    group.finish();
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("the other reactor ends in order");
}

fn exchange(reactor: &mut Reactor<u64>, events: &mut Vec<io::EventOf<Reactor<u64>>>, width: u64) {
    for message in 0..width {
        assert!(reactor.post(ReactorId(1), Lane::Request, message).is_ok(), "the box has credit");
    }
    let mut back = 0;
    while back < width {
        let deadline = reactor.now() + Duration::from_secs(10);
        reactor.poll(Some(deadline), events).expect("the ring works");
        back += events.drain(..).filter(|event| matches!(event, Event::Mail { .. })).count() as u64;
    }
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

// The first leaves this thread pinned to one CPU: what needs two must come before it knows of one only.
criterion_group! { name = benches; config = config(); targets = mailbox, arena, copies }
criterion_main!(benches);
