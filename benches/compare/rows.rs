//! The rows of the table: what is measured, against which bound, and the bar.

use std::cell::{Cell, OnceCell};
use std::process::Command;
use std::time::Duration;

use dataplane::load::{LoadOptions, LoadReport, Pattern};

use crate::bound::{self, Exchange, READ, WRITE, echo};
use crate::options::Options;
use crate::pool;
use crate::raw::Raw;
use crate::snapshots::fill;
use crate::target::{RAM_BYTES, Target};

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) bar: Bar,
    /// Measured once, because more would tell nothing new.
    pub(crate) once: bool,
    pub(crate) measure: fn(&Bench) -> Result<Sample, String>,
}

/// What the figures of a row are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Iops,
    BytesPerSecond,
    Micros,
    Mebibytes,
    Kibibytes,
    Percent,
    Count,
}

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) ours: f64,
    /// What it is compared with, where it is no figure by itself.
    pub(crate) bound: Option<f64>,
    /// Where the row took rounds by itself: of its ratios, or of its figures.
    pub(crate) rounds: Option<Rounds>,
    pub(crate) target_cores: f64,
    pub(crate) load_cores: f64,
}

/// What several rounds came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

/// What the rows are measured on.
#[derive(Debug)]
pub(crate) struct Bench {
    target: Target,
    raw: Result<Raw, String>,
    time: Duration,
    cpus: (u32, u32),
    pool_mib: u64,
    filled: Cell<bool>,
    ram_filled: Cell<bool>,
    /// What rows that are measured together with another have left for it.
    second: [OnceCell<Result<Sample, String>>; 3],
}

/// The deepest queue.
pub(crate) const DEEP: u16 = 128;

impl Sample {
    /// The ratio to the bound, or the figure itself.
    pub(crate) fn value(&self) -> f64 {
        self.bound.map_or(self.ours, |bound| if bound > 0.0 { self.ours / bound } else { 0.0 })
    }

    pub(crate) fn of(report: &LoadReport, ours: f64, bound: Option<f64>) -> Self {
        Self { ours, bound, ..Self::default() }.with_cores_of(report)
    }

    /// With the cores that were in use in one of the measurements.
    pub(crate) fn with_cores_of(self, report: &LoadReport) -> Self {
        let cores = |cpu: Option<dataplane::load::Cpu>| cpu.map_or(0.0, |cpu| cpu.cores);
        Self { target_cores: cores(report.target_cpu), load_cores: cores(report.load_cpu), ..self }
    }
}

impl Bench {
    /// Starts the server, and writes the file that raw measurements use.
    pub(crate) fn start(options: &Options) -> Self {
        let target = Target::start(options.pool_mib, options.cpus());
        let raw = if options.pool_mib == 0 {
            Err("measured with a pool only".to_owned())
        } else {
            Raw::prepare(&target.folder(), options.pool_mib / 2, options.target_cpu, options.busy_cpu())
        };
        Self {
            target,
            raw,
            time: options.time,
            cpus: options.cpus(),
            pool_mib: options.pool_mib,
            filled: Cell::new(false),
            ram_filled: Cell::new(false),
            second: Default::default(),
        }
    }

    /// A load on the null namespace.
    pub(crate) fn null(&self, pattern: Pattern, depth: u16) -> LoadOptions {
        self.target.load(self.target.null, pattern, depth, self.time)
    }

    /// A load on the RAM namespace.
    pub(crate) fn ram(&self, pattern: Pattern, depth: u16) -> LoadOptions {
        self.target.load(self.target.ram, pattern, depth, self.time)
    }

    /// The echo at `depth`.
    pub(crate) fn echo(&self, exchange: Exchange, depth: usize) -> Result<bound::Echo, String> {
        echo(exchange, depth, self.time, self.cpus).map_err(|error| format!("the echo failed: {error}"))
    }

    /// Size of the pool in MiB.
    pub(crate) fn pool_mib(&self) -> Result<u64, String> {
        if self.pool_mib == 0 { Err("measured with a pool only".to_owned()) } else { Ok(self.pool_mib) }
    }

    /// Where files of a bench may lie.
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.target.folder()
    }

    /// Length of a measurement.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// CPUs of target and load.
    pub(crate) fn cpus(&self) -> (u32, u32) {
        self.cpus
    }

    /// Writes the volume whole once, so that what is read afterwards lies on the drive.
    pub(crate) fn fill(&self) -> Result<(), String> {
        if self.filled.replace(true) {
            return Ok(());
        }
        let options = LoadOptions { block_bytes: 128 << 10, ..self.volume(Pattern::Write, 8)? };
        let rate = Target::run(&options)?.all.bytes_per_second.max(1.0);
        // A load begins anew at the start of its range.
        let seconds = ((self.pool_mib << 20) as f64 / 2.0 / rate * 1.5).clamp(1.0, 60.0);
        Target::run(&LoadOptions { time: Duration::from_secs_f64(seconds), ..options }).map(drop)
    }

    /// Writes the RAM namespace whole once: memory that was never written is not read, but answered with zeros.
    pub(crate) fn fill_ram(&self) -> Result<(), String> {
        if self.ram_filled.replace(true) {
            return Ok(());
        }
        fill(&self.target, self.target.ram, RAM_BYTES, |load| load)
    }

    /// A load on the volume of the pool.
    pub(crate) fn volume(&self, pattern: Pattern, depth: u16) -> Result<LoadOptions, String> {
        let volume = self.target.volume.ok_or("measured with a pool only")?;
        Ok(self.target.load(volume, pattern, depth, self.time))
    }

    /// fio on the file beside the pool.
    pub(crate) fn raw(&self, rw: &str, block: &str, depth: u32) -> Result<crate::raw::Done, String> {
        self.raw.as_ref().map_err(Clone::clone)?.measure(rw, block, depth, self.time)
    }
}

/// Every row, in the order of the table.
pub(crate) static ROWS: &[Row] = &[
    Row {
        what: "CPU of the target per 4 KiB null read, QD 128",
        unit: Unit::Micros,
        bar: Bar::AtMost(0.75),
        once: false,
        measure: |bench| {
            let report = Target::run(&bench.null(Pattern::RandRead, DEEP))?;
            let cpu = report.target_cpu.ok_or("the target's use of cores is not known")?;
            Ok(Sample::of(&report, cpu.micros_per_io, None))
        },
    },
    Row {
        what: "4 KiB random read, null, QD 32, against the echo",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.5),
        once: false,
        measure: |bench| against_echo(bench, Pattern::RandRead, 32, 1),
    },
    Row {
        what: "the same, QD 128",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.55),
        once: false,
        measure: |bench| against_echo(bench, Pattern::RandRead, DEEP, 1),
    },
    Row {
        what: "the same over 4 queues of QD 32, against the echo at QD 128",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.5),
        once: false,
        measure: |bench| against_echo(bench, Pattern::RandRead, 32, 4),
    },
    Row {
        what: "QD 1 read latency against the echo's",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.8),
        once: false,
        measure: |bench| latency_against_echo(bench, Pattern::RandRead),
    },
    Row {
        what: "QD 1 write latency against the echo's",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.3),
        once: false,
        measure: |bench| latency_against_echo(bench, Pattern::RandWrite),
    },
    Row {
        what: "QD 32 read with SQ flow control, against without",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.9),
        once: false,
        measure: |bench| {
            against_plain(bench, LoadOptions { sq_flow_control: true, ..bench.null(Pattern::RandRead, 32) })
        },
    },
    Row {
        what: "QD 32 read with header and data digests, against without",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.7),
        once: false,
        measure: |bench| {
            let plain = bench.null(Pattern::RandRead, 32);
            against_plain(bench, LoadOptions { header_digest: true, data_digest: true, ..plain })
        },
    },
    Row {
        what: "4 KiB random write, null, QD 32, against the echo",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.65),
        once: false,
        measure: |bench| against_echo(bench, Pattern::RandWrite, 32, 1),
    },
    Row {
        what: "4 KiB random write, null, QD 128, against the echo",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.6),
        once: false,
        measure: |bench| against_echo(bench, Pattern::RandWrite, DEEP, 1),
    },
    Row {
        what: "4 KiB random read, RAM, QD 32, against null",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.85),
        once: false,
        measure: |bench| {
            bench.fill_ram()?;
            against_plain(bench, bench.ram(Pattern::RandRead, 32))
        },
    },
    Row {
        what: "4 KiB random write, pool, QD 32, against raw",
        unit: Unit::Iops,
        bar: Bar::AtLeast(2.0),
        once: false,
        measure: |bench| against_raw(bench, Pattern::RandWrite, "randwrite"),
    },
    Row {
        what: "4 KiB random read, pool, QD 32, against raw",
        unit: Unit::Iops,
        bar: Bar::AtLeast(0.95),
        once: false,
        measure: |bench| {
            bench.fill()?;
            against_raw(bench, Pattern::RandRead, "randread")
        },
    },
    Row {
        what: "4 KiB random write, pool, QD 1: latency against raw plus transport",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.25),
        once: false,
        measure: |bench| {
            let ours = Target::run(&bench.volume(Pattern::RandWrite, 1)?)?;
            // One after the other: each takes its part of a second.
            let transport_us = 1e6 / bench.echo(WRITE, 1)?.iops;
            let raw = bench.raw("randwrite", "4k", 1)?;
            let bound = raw.mean_us + transport_us;
            Ok(Sample::of(&ours, micros(ours.all.latency.mean), Some(bound)))
        },
    },
    Row {
        what: "4 KiB write with Flush after each, pool, QD 1, against raw with fdatasync",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.3),
        once: false,
        measure: |bench| {
            let ours = Target::run(&LoadOptions { flush: true, ..bench.volume(Pattern::RandWrite, 1)? })?;
            let raw = bench.raw.as_ref().map_err(Clone::clone)?.measure_synced(bench.time)?;
            Ok(Sample::of(&ours, micros(ours.all.latency.mean), Some(raw.mean_us)))
        },
    },
    Row {
        what: "128 KiB sequential write, pool, QD 8, against raw",
        unit: Unit::BytesPerSecond,
        bar: Bar::AtLeast(0.9),
        once: false,
        measure: |bench| sequential_against_raw(bench, Pattern::Write, "write"),
    },
    Row {
        what: "128 KiB sequential read, pool, QD 8, against raw",
        unit: Unit::BytesPerSecond,
        bar: Bar::AtLeast(0.9),
        once: false,
        measure: |bench| {
            bench.fill()?;
            sequential_against_raw(bench, Pattern::Read, "read")
        },
    },
    Row {
        what: "4 KiB random write, pool at 60 % in a steady state, QD 32, against raw",
        unit: Unit::Iops,
        bar: Bar::AtLeast(1.2),
        once: true,
        measure: |bench| first(bench, 0, pool::steady),
    },
    Row {
        what: "bytes to the drive per byte of the host, pool at 60 % in a steady state",
        unit: Unit::Count,
        bar: Bar::AtMost(1.6),
        once: true,
        measure: |bench| second(bench, 0, pool::steady),
    },
    Row {
        what: "bytes to the drive per byte of the host, pool, QD 1",
        unit: Unit::Count,
        bar: Bar::AtMost(2.1),
        once: true,
        measure: |bench| {
            let written = |name| bench.target.metric(name);
            let before = (written("host_written_bytes_total")?, written("device_written_bytes_total")?);
            let ours = Target::run(&bench.volume(Pattern::RandWrite, 1)?)?;
            let after = (written("host_written_bytes_total")?, written("device_written_bytes_total")?);
            Ok(Sample::of(&ours, (after.1 - before.1) / (after.0 - before.0).max(1.0), None))
        },
    },
    Row {
        what: "start after kill -9 in random writes: bytes read, percent of those written",
        unit: Unit::Percent,
        bar: Bar::AtMost(5.0),
        once: true,
        measure: |bench| first(bench, 1, pool::replay),
    },
    Row {
        what: "start after kill -9 in random writes: time of the replay, against the raw read of its bytes",
        unit: Unit::Micros,
        bar: Bar::AtMost(1.5),
        once: true,
        measure: |bench| second(bench, 1, pool::replay),
    },
    Row {
        what: "deallocation of 1 TiB of a written volume",
        unit: Unit::Micros,
        bar: Bar::AtMost(100_000.0),
        once: true,
        measure: |bench| first(bench, 2, pool::emptied),
    },
    Row {
        what: "p99.9 of reads of another volume at 10,000 a second in the second around it, against without",
        unit: Unit::Micros,
        bar: Bar::AtMost(2.0),
        once: true,
        measure: |bench| second(bench, 2, pool::emptied),
    },
    Row {
        what: "system calls of the target per I/O, null read, QD 32",
        unit: Unit::Count,
        bar: Bar::AtMost(0.2),
        once: true,
        measure: syscalls,
    },
    Row {
        what: "CPU of the idle target with 64 connections",
        unit: Unit::Percent,
        bar: Bar::AtMost(1.0),
        once: true,
        measure: |bench| {
            let cores = bench.target.idle_with(64, Duration::from_secs(5));
            Ok(Sample { ours: cores * 100.0, ..Sample::default() })
        },
    },
    Row {
        what: "memory of the idle target",
        unit: Unit::Mebibytes,
        bar: Bar::AtMost(150.0),
        once: true,
        measure: |bench| {
            Ok(Sample { ours: bench.target.idle_bytes as f64 / f64::from(1 << 20), ..Sample::default() })
        },
    },
    Row {
        what: "memory per connection, of 128 admin queues and 128 I/O queues that each write and read, \
               fresh server",
        unit: Unit::Kibibytes,
        bar: Bar::AtMost(256.0),
        once: true,
        measure: |bench| {
            // Another server: on one that has been loaded what connections need is there already.
            let fresh = Target::start(0, bench.cpus);
            let (before, with) = fresh.memory_with(128);
            let each = with.saturating_sub(before) as f64 / 256.0;
            Ok(Sample { ours: each / 1024.0, ..Sample::default() })
        },
    },
];

/// Measures two rows at once.
type Both = fn(&Bench) -> Result<(Sample, Sample), String>;

/// The first of two rows that are measured at once; keeps the other.
fn first(bench: &Bench, place: usize, both: Both) -> Result<Sample, String> {
    let measured = both(bench);
    let second = measured.as_ref().map(|(_, second)| *second).map_err(Clone::clone);
    // Rows like these are measured once.
    let _ = bench.second[place].set(second);
    measured.map(|(first, _)| first)
}

/// The other one, measured now if the first was left out.
fn second(bench: &Bench, place: usize, both: Both) -> Result<Sample, String> {
    bench.second[place].get_or_init(|| both(bench).map(|(_, second)| second)).clone()
}

fn exchange_of(pattern: Pattern) -> Exchange {
    if pattern.writes() { WRITE } else { READ }
}

fn against_echo(bench: &Bench, pattern: Pattern, depth: u16, queues: u16) -> Result<Sample, String> {
    let options = LoadOptions { queues, threads: Some(1), ..bench.null(pattern, depth) };
    let ours = Target::run(&options)?;
    let depth = usize::from(depth) * usize::from(queues);
    let bound = bench.echo(exchange_of(pattern), depth)?;
    Ok(Sample::of(&ours, ours.all.iops, Some(bound.iops)))
}

fn latency_against_echo(bench: &Bench, pattern: Pattern) -> Result<Sample, String> {
    let ours = Target::run(&bench.null(pattern, 1))?;
    let bound = bench.echo(exchange_of(pattern), 1)?;
    Ok(Sample::of(&ours, micros(ours.all.latency.p50), Some(bound.p50_us)))
}

/// A load against a plain read of the null namespace at QD 32.
fn against_plain(bench: &Bench, options: LoadOptions) -> Result<Sample, String> {
    let ours = Target::run(&options)?;
    let plain = Target::run(&bench.null(Pattern::RandRead, 32))?;
    Ok(Sample::of(&ours, ours.all.iops, Some(plain.all.iops)))
}

fn against_raw(bench: &Bench, pattern: Pattern, rw: &str) -> Result<Sample, String> {
    let ours = Target::run(&bench.volume(pattern, 32)?)?;
    let raw = bench.raw(rw, "4k", 32)?;
    Ok(Sample::of(&ours, ours.all.iops, Some(raw.iops)))
}

fn sequential_against_raw(bench: &Bench, pattern: Pattern, rw: &str) -> Result<Sample, String> {
    let options = LoadOptions { block_bytes: 128 << 10, ..bench.volume(pattern, 8)? };
    let ours = Target::run(&options)?;
    let raw = bench.raw(rw, "128k", 8)?;
    Ok(Sample::of(&ours, ours.all.bytes_per_second, Some(raw.iops * f64::from(128 << 10))))
}

/// Counts the target's system calls by perf, over the same time as the load's measurement.
fn syscalls(bench: &Bench) -> Result<Sample, String> {
    let options = bench.null(Pattern::RandRead, 32);
    let pid = bench.target.pid();
    let seconds = (options.ramp + options.time).as_secs_f64();
    let perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string(), "--", "sleep"])
        .arg(seconds.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| format!("perf does not run: {error}"))?;
    let report = Target::run(&options)?;
    let output = perf.wait_with_output().map_err(|error| format!("perf failed: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("raw_syscalls")).unwrap_or_default();
    let count: f64 = line
        .split(',')
        .next()
        .and_then(|count| count.parse().ok())
        .ok_or("perf counts no system calls here")?;
    Ok(Sample::of(&report, count / (report.all.iops * seconds), None))
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
