//! What a load has shown.

use std::collections::BTreeMap;
use std::time::Duration;

use host::nvme::Status;
use serde::Serialize;

use super::histogram::Histogram;
use super::lane::Tally;
use super::options::LoadOptions;

/// How far a load is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the first command.
    pub elapsed: Duration,
    /// Commands that have succeeded.
    pub completed: u64,
    /// Commands that have failed.
    pub errors: u64,
    /// Commands a second since the last report.
    pub iops: f64,
    /// Bytes a second since the last report.
    pub bytes_per_second: f64,
}

/// The result of a load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The target's address.
    pub target: String,
    /// NQN of the subsystem.
    pub subsystem_nqn: String,
    /// The namespace.
    pub nsid: u32,
    /// What was done.
    pub pattern: &'static str,
    /// Bytes per command.
    pub block_bytes: u32,
    /// Commands that each queue kept outstanding.
    pub queue_depth: u16,
    /// Commands a second over all queues that were to begin, where that was limited; latencies are then from
    /// when a command was due.
    pub rate: Option<u32>,
    /// I/O queues.
    pub queues: u16,
    /// SQ flow control was on.
    pub sq_flow_control: bool,
    /// Header digests were on.
    pub header_digest: bool,
    /// Data digests were on.
    pub data_digest: bool,
    /// A Flush followed each write.
    pub flush: bool,
    /// Share of words in what was written, in percent.
    pub words_percent: u8,
    /// What every random choice followed from.
    pub seed: u64,
    /// Length of the measurement in seconds.
    pub seconds: f64,
    /// Reads and writes together.
    pub all: Direction,
    /// Reads alone.
    pub reads: Direction,
    /// Writes alone.
    pub writes: Direction,
    /// Commands that failed, by status; those outside of the measurement too.
    pub errors: BTreeMap<String, u64>,
    /// What was verified, where that was asked for.
    pub verified: Option<Verified>,
    /// System calls of the load per command.
    pub load_syscalls_per_io: f64,
    /// Cores that the load itself used.
    pub load_cpu: Option<Cpu>,
    /// Cores that the target used, where it runs here.
    pub target_cpu: Option<Cpu>,
}

/// Commands of one direction, or of both.
#[derive(Clone, Debug, Serialize)]
pub struct Direction {
    /// Commands that succeeded within the measurement.
    pub ios: u64,
    /// Commands a second.
    pub iops: f64,
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// From submission to completion.
    pub latency: LatencyNanos,
}

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencyNanos {
    /// The least.
    pub min: u64,
    /// The mean.
    pub mean: u64,
    /// The median.
    pub p50: u64,
    /// 90 % are no longer.
    pub p90: u64,
    /// 99 % are no longer.
    pub p99: u64,
    /// 99.9 % are no longer.
    pub p99_9: u64,
    /// 99.99 % are no longer.
    pub p99_99: u64,
    /// The longest.
    pub max: u64,
}

/// What was verified.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Commands whose data was checked.
    pub checked: u64,
    /// Reads of what no load had written, so that there was nothing to check.
    pub unknown: u64,
    /// Those checked whose data was wrong.
    pub mismatches: u64,
    /// What was wrong with the first.
    pub first: Option<String>,
}

/// Use of cores within the measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cpu {
    /// The process.
    pub pid: u32,
    /// Cores in use at a time.
    pub cores: f64,
    /// Microseconds on a core per command, of all loads that ran together.
    pub micros_per_io: f64,
}

/// What a process used while commands completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) pid: u32,
    pub(super) used: Duration,
    /// How long it was watched.
    pub(super) watched: Duration,
}

/// What is known of a measurement besides what its queues counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) time: Duration,
    /// Commands of all loads that ran together.
    pub(super) ios: u64,
    pub(super) load: Option<Usage>,
    pub(super) target: Option<Usage>,
}

impl LoadReport {
    /// Sums up what the queues counted.
    pub(super) fn new(options: &LoadOptions, tally: &Tally, measured: Measured) -> Self {
        let mut all = tally.reads.clone();
        all.merge(&tally.writes);
        let direction = |histogram: &Histogram| Direction::new(histogram, options.block_bytes, measured.time);
        let all = direction(&all);
        let commands = (tally.completed + tally.errors.values().sum::<u64>()).max(1);
        let iops = measured.ios as f64 / measured.time.as_secs_f64().max(1e-9);
        let cpu = |usage: Option<Usage>| usage.map(|usage| Cpu::new(usage, iops));
        Self {
            target: options.target.to_string(),
            subsystem_nqn: options.subsystem_nqn.clone(),
            nsid: options.nsid,
            pattern: options.pattern.name(),
            block_bytes: options.block_bytes,
            queue_depth: options.queue_depth,
            rate: options.rate,
            queues: options.queues,
            sq_flow_control: options.sq_flow_control,
            header_digest: options.header_digest,
            data_digest: options.data_digest,
            flush: options.flush,
            words_percent: options.words_percent,
            seed: options.seed,
            seconds: measured.time.as_secs_f64(),
            reads: direction(&tally.reads),
            writes: direction(&tally.writes),
            errors: tally
                .errors
                .iter()
                .map(|(bits, count)| (Status::from_bits(*bits).to_string(), *count))
                .collect(),
            verified: options.verify.then(|| Verified {
                checked: tally.checked,
                unknown: tally.unknown,
                mismatches: tally.mismatches,
                first: tally.first_mismatch.map(|mismatch| mismatch.to_string()),
            }),
            load_syscalls_per_io: (tally.sends + tally.receives) as f64 / commands as f64,
            load_cpu: cpu(measured.load),
            target_cpu: cpu(measured.target),
            all,
        }
    }

    /// True if no command failed and nothing that was read is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.verified.as_ref().is_none_or(|verified| verified.mismatches == 0)
    }
}

impl Direction {
    fn new(histogram: &Histogram, block_bytes: u32, measured: Duration) -> Self {
        let ios = histogram.count();
        let iops = ios as f64 / measured.as_secs_f64().max(1e-9);
        Self {
            ios,
            iops,
            bytes_per_second: iops * f64::from(block_bytes),
            latency: LatencyNanos {
                min: histogram.min(),
                mean: histogram.mean(),
                p50: histogram.quantile(0.5),
                p90: histogram.quantile(0.9),
                p99: histogram.quantile(0.99),
                p99_9: histogram.quantile(0.999),
                p99_99: histogram.quantile(0.9999),
                max: histogram.max(),
            },
        }
    }
}

impl Cpu {
    fn new(usage: Usage, iops: f64) -> Self {
        let cores = usage.used.as_secs_f64() / usage.watched.as_secs_f64().max(1e-9);
        let micros_per_io = if iops > 0.0 { cores * 1e6 / iops } else { 0.0 };
        Self { pid: usage.pid, cores, micros_per_io }
    }
}
