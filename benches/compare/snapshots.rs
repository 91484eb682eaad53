//! Rows of snapshots: what taking one costs and disturbs, what the first writes after it cost, reads beside many of
//! them, and what changed between two.
//!
//! What would need more drives than a machine has is injected into the store's own map, which then is the only thing
//! that is measured.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use benches::random::Random;
use dataplane::load::{LoadOptions, LoadReport, Pattern};
use store::VolumeId;
use store::injected::InjectedMap;

use crate::machine::settled;
use crate::rows::{Bar, Bench, Row, Sample, Unit};
use crate::table::median;
use crate::target::Target;

/// The rows, in the order of the table.
pub(crate) static ROWS: &[Row] = &[
    Row {
        what: "snapshot of 64 GiB in the map under writes, against one of 1 GiB",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.2),
        once: false,
        measure: |_| {
            let [small, large] = [1, 64].map(|gib| fork_micros(gib << 18));
            Ok(Sample { ours: large, bound: Some(small), ..Sample::default() })
        },
    },
    Row {
        what: "snapshot through REST of a written volume under writes, against one of 64 MiB",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.2),
        once: true,
        measure: by_rest,
    },
    Row {
        what: "p99.9 of writes in the second around a snapshot, against a second without",
        unit: Unit::Micros,
        bar: Bar::AtMost(3.0),
        once: true,
        measure: disturbance,
    },
    Row {
        what: "4 KiB random write, pool, QD 32, right after a snapshot, against before",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.9),
        once: true,
        measure: first_overwrite,
    },
    Row {
        what: "4 KiB random read, pool, QD 32, beside 24 snapshots with 1 % overwritten in each, against without",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.95),
        once: true,
        measure: beside_many,
    },
    Row {
        what: "4 KiB random read, pool, QD 32, with memory for 10 % of the map, against all of it",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.45),
        once: true,
        measure: with_little_memory,
    },
    Row {
        what: "diff of two snapshots of 1 TiB in the map, 1,000 random blocks",
        unit: Unit::Micros,
        bar: Bar::AtMost(20_000.0),
        once: true,
        measure: |_| Ok(Sample { ours: diffs()[0], ..Sample::default() }),
    },
    Row {
        what: "the same, 10,000 random blocks, against ten times 1,000",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.2),
        once: true,
        measure: |_| Ok(Sample { ours: diffs()[1], bound: Some(diffs()[0] * 10.0), ..Sample::default() }),
    },
    Row {
        what: "the same, 100,000 random blocks, against ten times 10,000",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.2),
        once: true,
        measure: |_| Ok(Sample { ours: diffs()[2], bound: Some(diffs()[1] * 10.0), ..Sample::default() }),
    },
];

/// What one snapshot takes in a map of so many blocks that is written all the time: the median of many. Each comes alone
/// among much else, as it does in a server: what it uses is in no cache near the core, whatever its volume's size. Without
/// that it would be told how much memory the writes before it have gone through.
fn fork_micros(blocks: u64) -> f64 {
    let mut map = InjectedMap::filled(blocks);
    let mut random = Random::new(blocks);
    let mut took = Vec::new();
    let mut elsewhere = vec![0_u8; ELSEWHERE_BYTES];
    for _ in 0..FORKS {
        (0..WRITES_BETWEEN).for_each(|_| map.overwrite(random.below(blocks)));
        elsewhere.iter_mut().step_by(CACHE_LINE_BYTES).for_each(|byte| *byte = byte.wrapping_add(1));
        std::hint::black_box(&elsewhere);
        let begin = Instant::now();
        map.snapshot();
        took.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    median(took)
}

/// Times of diffs of 1,000, 10,000 and 100,000 blocks in 1 TiB: each the median of several.
fn diffs() -> [f64; 3] {
    static TIMES: OnceLock<[f64; 3]> = OnceLock::new();
    *TIMES.get_or_init(|| {
        let mut map = InjectedMap::filled(TIB_BLOCKS);
        let mut random = Random::new(1);
        [1_000, 10_000, 100_000].map(|count| {
            let base = map.snapshot();
            (0..count).for_each(|_| map.overwrite(random.below(TIB_BLOCKS)));
            let image = map.snapshot();
            median((0..DIFFS).map(|_| diff_micros(&map, base, image, count)).collect())
        })
    })
}

fn diff_micros(map: &InjectedMap, base: VolumeId, image: VolumeId, count: u64) -> f64 {
    let begin = Instant::now();
    let changed = map.diff(base, image, DIFF_LEAVES);
    let took = begin.elapsed().as_secs_f64() * 1e6;
    // A few blocks are chosen twice.
    assert!(changed.blocks <= count && changed.blocks * 1_000 > count * 998, "{changed:?}");
    took
}

/// A server with a volume of half the pool, written whole.
fn written(bench: &Bench) -> Result<(Target, u32), String> {
    let pool_mib = bench.pool_mib()?;
    let target = Target::start_pool(pool_mib, (pool_mib << 20) / 4, bench.cpus(), &[]);
    let volume = target.volume.ok_or("measured with a pool only")?;
    fill(&target, volume, (pool_mib << 20) / 4, |load| load)?;
    Ok((target, volume))
}

/// Writes a volume whole, with what `change` makes of the load.
pub(crate) fn fill(
    target: &Target,
    volume: u32,
    bytes: u64,
    change: impl Fn(LoadOptions) -> LoadOptions,
) -> Result<(), String> {
    let load = |time| {
        let load = target.load(volume, Pattern::Write, 8, time);
        change(LoadOptions { block_bytes: 128 << 10, ramp: Duration::ZERO, ..load })
    };
    let rate = Target::run(&load(Duration::from_secs(1)))?.all.bytes_per_second.max(1.0);
    // A load begins anew at the start of its range.
    let seconds = (bytes as f64 / rate * 1.5).clamp(0.5, 60.0);
    Target::run(&load(Duration::from_secs_f64(seconds))).map(drop)
}

/// Snapshots of a large and of a small volume by turns, while both are written.
fn by_rest(bench: &Bench) -> Result<Sample, String> {
    let (target, large) = written(bench)?;
    let small = target.create_volume("small", 64 << 20);
    fill(&target, small, 64 << 20, |load| load)?;
    let load = target.load(large, Pattern::RandWrite, 8, Duration::from_secs(6));
    let (report, mut times) = std::thread::scope(|scope| {
        let load = scope.spawn(|| Target::run(&load));
        std::thread::sleep(Duration::from_millis(500));
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..15 {
            for (volume, times) in ["compare", "small"].into_iter().zip(&mut times) {
                let begin = Instant::now();
                target.snapshot(&format!("{volume}-{round}"), volume);
                times.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        (load.join().expect("the load ends in order"), times)
    });
    let [large, small] = times.each_mut().map(|times| median(std::mem::take(times)));
    Ok(Sample::of(&report?, large, Some(small)))
}

/// Writes for a second, with a snapshot in its middle and with a request that changes nothing, by turns.
fn disturbance(bench: &Bench) -> Result<Sample, String> {
    let (target, volume) = written(bench)?;
    let p99_9 = |report: &LoadReport| report.all.latency.p99_9 as f64 / 1e3;
    let second = |request: &dyn Fn()| -> Result<f64, String> {
        let options = LoadOptions {
            ramp: Duration::from_millis(300),
            ..target.load(volume, Pattern::RandWrite, 8, Duration::from_secs(1))
        };
        std::thread::scope(|scope| {
            let load = scope.spawn(|| Target::run(&options));
            std::thread::sleep(Duration::from_millis(800));
            request();
            load.join().expect("the load ends in order").map(|report| p99_9(&report))
        })
    };
    let mut rounds = Vec::new();
    for round in 0..SECONDS {
        let without = second(&|| target.look())?;
        let with = second(&|| target.snapshot(&format!("s{round}"), "compare"))?;
        rounds.push((with, without));
    }
    Ok(Sample::of_rounds(&rounds))
}

/// Random writes before and right after a snapshot, by turns; each round's snapshot goes again.
fn first_overwrite(bench: &Bench) -> Result<Sample, String> {
    let (target, volume) = written(bench)?;
    // Short, so that most blocks are written for the first time since the snapshot.
    let load = || LoadOptions {
        ramp: Duration::ZERO,
        ..target.load(volume, Pattern::RandWrite, 32, Duration::from_millis(700))
    };
    let mut rounds = Vec::new();
    for round in 0..SECONDS {
        let before = Target::run(&load())?.all.iops;
        target.snapshot(&format!("s{round}"), "compare");
        rounds.push((Target::run(&load())?.all.iops, before));
        target.delete_snapshot(&format!("s{round}"));
        target.wait_for_space()?;
    }
    Ok(Sample::of_rounds(&rounds))
}

/// Random reads beside 24 snapshots, between which 1 % of the blocks were overwritten, and of a volume that was written
/// alike and has none.
fn beside_many(bench: &Bench) -> Result<Sample, String> {
    let blocks = (bench.pool_mib()? << 20) / 4 / 4096;
    let (beside, without) = (written(bench)?, written(bench)?);
    for number in 0..SNAPSHOTS {
        beside.0.snapshot(&format!("s{number}"), "compare");
        // In both: where blocks lie shall not tell the two apart.
        for (target, volume) in [&beside, &without] {
            scatter(target, *volume, blocks / 100)?;
        }
    }
    by_turns(bench, &beside, &without)
}

/// Random reads of one server's volume against those of another's, round by round. The server that is not asked sleeps.
fn by_turns(
    bench: &Bench,
    (target, volume): &(Target, u32),
    (other, other_volume): &(Target, u32),
) -> Result<Sample, String> {
    let reads = |target: &Target, volume| {
        let load = target.load(volume, Pattern::RandRead, 32, bench.time());
        Target::run(&load)
    };
    let (mut rounds, mut last) = (Vec::new(), None);
    for _ in 0..SECONDS {
        let round = || Ok::<_, String>((reads(target, *volume)?, reads(other, *other_volume)?.all.iops));
        let (ours, bound) = settled(bench.cpus(), round, |_| ())?;
        rounds.push((ours.all.iops, bound));
        last = Some(ours);
    }
    let last = last.ok_or("nothing was measured")?;
    Ok(Sample::of_rounds(&rounds).with_cores_of(&last))
}

/// Random reads of a volume whose map fits into memory, and of another of which a tenth does.
fn with_little_memory(bench: &Bench) -> Result<Sample, String> {
    let pool_mib = bench.pool_mib()?;
    let bytes = (pool_mib << 20) / 4;
    let tenth = bytes / LEAF_BYTES * LEAF_MEMORY_BYTES / 10;
    let start = |arguments: &[&str]| -> Result<(Target, u32), String> {
        let target = Target::start_pool(pool_mib, bytes, bench.cpus(), arguments);
        let volume = target.volume.ok_or("measured with a pool only")?;
        fill(&target, volume, bytes, |load| load)?;
        Target::run(&target.load(volume, Pattern::RandRead, 32, bench.time()))?;
        Ok((target, volume))
    };
    let (whole, little) = (start(&[])?, start(&["--map-memory", &tenth.to_string()])?);
    let missed = || -> Result<[f64; 2], String> {
        Ok([whole.0.metric("store_map_misses_total")?, little.0.metric("store_map_misses_total")?])
    };
    let before = missed()?;
    let sample = by_turns(bench, &little, &whole)?;
    let after = missed()?;
    if after[0] > before[0] {
        return Err(format!("{} leaves were missing although all of the map fits", after[0] - before[0]));
    }
    if after[1] == before[1] {
        return Err("no leaf was missing although a tenth of the map fits".to_owned());
    }
    Ok(sample)
}

/// Overwrites about so many random blocks.
fn scatter(target: &Target, volume: u32, blocks: u64) -> Result<(), String> {
    let from = target.metric("host_written_bytes_total")?;
    while target.metric("host_written_bytes_total")? - from < (blocks * 4096) as f64 {
        let load = target.load(volume, Pattern::RandWrite, 32, Duration::from_millis(100));
        Target::run(&LoadOptions { ramp: Duration::ZERO, seed: blocks ^ from as u64, ..load })?;
    }
    Ok(())
}

/// Bytes of a volume that a leaf of the map covers, and what it takes in memory.
const LEAF_BYTES: u64 = 256 << 10;
const LEAF_MEMORY_BYTES: u64 = 552;
/// Blocks of 1 TiB.
const TIB_BLOCKS: u64 = 1 << 28;
/// Leaves that a diff gives at once, as REST asks for them.
const DIFF_LEAVES: usize = 10_000;
const DIFFS: usize = 9;
const FORKS: usize = 101;
const WRITES_BETWEEN: u64 = 1_000;
/// More than the caches of a core hold.
const ELSEWHERE_BYTES: usize = 64 << 20;
const CACHE_LINE_BYTES: usize = 64;
const SECONDS: usize = 5;
const SNAPSHOTS: u64 = 24;
