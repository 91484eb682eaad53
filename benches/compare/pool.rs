//! Rows of a pool that need a server of their own: nearly full and cleaned all the time, killed and replayed, emptied.

use std::time::{Duration, Instant};

use dataplane::load::{LoadOptions, Pattern};
use tests::association::{Association, Payload, Queue, command};

use crate::machine::settled;
use crate::rows::{Bench, Sample};
use crate::snapshots::fill;
use crate::table::median;
use crate::target::Target;

/// How often the pool's size is written before a steady state is measured.
const PRECONDITION_TIMES: u64 = 3;
/// Share of the pool that the volume takes there, in percent.
const FULL_PERCENT: u64 = 60;
/// Written before the server is killed, at most.
const REPLAY_BYTES: u64 = 4 << 30;
/// More than a shard writes there: no checkpoint may come in between.
const REPLAY_DISTANCE: &str = "1TiB";
/// Size of the volume that is emptied.
const EMPTIED_BYTES: u64 = 1 << 40;
/// Size of the volume that is read meanwhile, and reads a second of it.
const OTHER_BYTES: u64 = 1 << 30;
const OTHER_RATE: u32 = 10_000;
/// How often ours and what it is compared with are measured.
const ROUNDS: usize = 5;
/// Blocks of 4 KiB that one range of a Dataset Management command takes at most here.
const RANGE_BLOCKS: u64 = 1 << 28;

/// A pool at 60 % in a steady state: IOPS against raw by turns, and bytes written to the drive for each of the host's.
pub(crate) fn steady(bench: &Bench) -> Result<(Sample, Sample), String> {
    let pool_mib = bench.pool_mib()? / 2;
    let target = Target::start_pool(pool_mib, (pool_mib << 20) * FULL_PERCENT / 100, bench.cpus(), &[]);
    let volume = target.volume.ok_or("measured with a pool only")?;
    let load = |pattern, depth| target.load(volume, pattern, depth, Duration::from_secs(2));
    Target::run(&LoadOptions { block_bytes: 128 << 10, ..load(Pattern::Write, 8) })?;
    while target.metric("host_written_bytes_total")? < ((pool_mib << 20) * PRECONDITION_TIMES) as f64 {
        Target::run(&load(Pattern::RandWrite, 128))?;
    }
    let written = || -> Result<(f64, f64), String> {
        Ok((target.metric("host_written_bytes_total")?, target.metric("device_written_bytes_total")?))
    };
    let before = written()?;
    let (mut rounds, mut last) = (Vec::new(), None);
    for _ in 0..ROUNDS {
        let round = || {
            let report = Target::run(&load(Pattern::RandWrite, 32))?;
            Ok::<_, String>((report, bench.raw("randwrite", "4k", 32)?.iops))
        };
        let (report, raw) = settled(bench.cpus(), round, |_| ())?;
        rounds.push((report.all.iops, raw));
        last = Some(report);
    }
    let after = written()?;
    let amplification = (after.1 - before.1) / (after.0 - before.0).max(1.0);
    let last = last.ok_or("nothing was measured")?;
    Ok((Sample::of_rounds(&rounds).with_cores_of(&last), Sample { ours: amplification, ..Sample::default() }))
}

/// A server that is killed after gigabytes of random writes without a checkpoint: the share of them that the next start
/// reads beside what the map needs, and its time against the raw read of those bytes.
pub(crate) fn replay(bench: &Bench) -> Result<(Sample, Sample), String> {
    // Nothing of the log is given back before a checkpoint.
    let pool_mib = bench.pool_mib()? * 4 / 3;
    let volume_bytes = (pool_mib << 20) / 8;
    let distance = ["--checkpoint-distance", REPLAY_DISTANCE];
    let mut target = Target::start_pool(pool_mib, volume_bytes, bench.cpus(), &distance);
    let volume = target.volume.ok_or("measured with a pool only")?;
    let goal = REPLAY_BYTES.min((pool_mib << 20) / 2) as f64;
    while target.metric("host_written_bytes_total")? < goal {
        Target::run(&target.load(volume, Pattern::RandWrite, 128, Duration::from_secs(1)))?;
    }
    let written = target.metric("device_written_bytes_total")?;
    if target.metric("store_checkpoints_total")? > 0.0 {
        return Err("a checkpoint came in between: take a larger pool".to_owned());
    }
    // A start makes no checkpoint, so that every crash finds the same log.
    let mut crashed = Vec::new();
    for _ in 0..ROUNDS {
        target.kill();
        crashed.push((target.time_to_start(false), target.metric("store_recovery_read_bytes_total")?));
    }
    let idle = median((0..ROUNDS).map(|_| target.time_to_start(true).as_secs_f64()).collect());
    let (mut rounds, mut shares) = (Vec::new(), Vec::new());
    if median(crashed.iter().map(|(took, _)| took.as_secs_f64()).collect()) <= idle {
        return Err("starts without a replay took as long: too much else runs here".to_owned());
    }
    for (took, read) in crashed {
        let raw = bench.raw("read", "128k", 8)?;
        let raw_seconds = read / (raw.iops * f64::from(128 << 10));
        // What a start costs that has nothing to replay is not the replay's.
        rounds.push(((took.as_secs_f64() - idle).max(0.0) * 1e6, raw_seconds * 1e6));
        shares.push(read / written * 100.0);
    }
    Ok((Sample::of_figures(&shares), Sample::of_rounds(&rounds)))
}

/// A TiB of a written volume is deallocated: how long that takes, and p99.9 of reads of another volume in the second
/// around it against a second without it, by turns. The reads keep a rate and are timed from when they were due: a
/// stall counts for every one that it delays, not only for those that happen to be under way.
pub(crate) fn emptied(bench: &Bench) -> Result<(Sample, Sample), String> {
    let pool_mib = bench.pool_mib()?;
    let target = Target::start_pool(pool_mib, EMPTIED_BYTES, bench.cpus(), &[]);
    let emptied = target.volume.ok_or("measured with a pool only")?;
    let other = target.create_volume("other", OTHER_BYTES);
    fill(&target, other, OTHER_BYTES, |load| load)?;
    let reads = LoadOptions {
        rate: Some(OTHER_RATE),
        ..target.load(other, Pattern::RandRead, 32, Duration::from_secs(1))
    };
    let second = |request: &mut dyn FnMut()| {
        std::thread::scope(|scope| {
            let load = scope.spawn(|| Target::run(&reads));
            std::thread::sleep(reads.ramp + reads.time / 2);
            request();
            let report = load.join().expect("the load ends in order")?;
            Ok::<_, String>(report.all.latency.p99_9 as f64 / 1e3)
        })
    };
    let association = Association::connect(&target.identity(99));
    let mut queue = association.io_queue(1);
    let (mut times, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        Target::run(&target.load(emptied, Pattern::RandWrite, 64, Duration::from_secs(1)))?;
        let control = second(&mut || ())?;
        let meanwhile = second(&mut || {
            let took = deallocate(&mut queue, emptied, EMPTIED_BYTES / 4096);
            times.push(took.as_secs_f64() * 1e6);
        })?;
        rounds.push((meanwhile, control));
    }
    Ok((Sample::of_figures(&times), Sample::of_rounds(&rounds)))
}

/// Deallocates all blocks of a namespace by one Dataset Management command.
fn deallocate(queue: &mut Queue, nsid: u32, blocks: u64) -> Duration {
    const DATASET_MANAGEMENT: u8 = 0x09;
    const DEALLOCATE: u32 = 1 << 2;
    let mut data = vec![0; 4096];
    let ranges = blocks.div_ceil(RANGE_BLOCKS);
    for (range, entry) in (0..ranges).zip(data.chunks_exact_mut(16)) {
        let first = range * RANGE_BLOCKS;
        let count = u32::try_from((blocks - first).min(RANGE_BLOCKS)).expect("below 2^32");
        entry[4..8].copy_from_slice(&count.to_le_bytes());
        entry[8..].copy_from_slice(&first.to_le_bytes());
    }
    let mut entry = command(DATASET_MANAGEMENT, nsid);
    let last = u32::try_from(ranges - 1).expect("at most 256 ranges");
    entry[40..44].copy_from_slice(&last.to_le_bytes());
    entry[44..48].copy_from_slice(&DEALLOCATE.to_le_bytes());
    let begin = Instant::now();
    let reply = queue.run(entry, Payload::InCapsule(&data));
    assert_eq!(reply.status, 0, "Dataset Management succeeds");
    begin.elapsed()
}
