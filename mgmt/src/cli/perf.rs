//! `ferrule perf`: the load generator on any NVMe/TCP target, with what it has shown as text or JSON.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use dataplane::load::{
    self, Cpu, Direction, LatencyNanos, LoadError, LoadOptions, LoadReport, Pattern, Progress, Waiting,
};

use super::failure::USAGE;
use super::print;
use crate::serve::cpu_list;
use crate::size::parse_size;

/// What to measure, and how.
#[derive(Args, Debug)]
pub(super) struct PerfArgs {
    /// The target's address for I/O queues, such as 127.0.0.1:4420
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_target)]
    target: SocketAddr,
    /// NQN of the subsystem
    #[arg(long, value_name = "NQN")]
    subnqn: String,
    /// Namespace identifier: NSID in `ferrule list volumes`, or as `serve` prints it
    #[arg(long, value_name = "N")]
    nsid: u32,
    /// What to do: randread or read; randwrite, write or randrw, which overwrite what the namespace holds
    #[arg(long, default_value = "randread", value_name = "PATTERN")]
    rw: Pattern,
    /// Share of reads in randrw, in percent
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    rwmixread: u8,
    /// Bytes per command, such as 4k
    #[arg(long, default_value = "4k", value_name = "SIZE", value_parser = parse_block)]
    bs: u32,
    /// Commands that each queue keeps outstanding
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65534))]
    qd: u16,
    /// Commands to begin per second over all queues, each timed from when it was due [default: as many as the depth allows]
    #[arg(long, value_name = "IOPS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// I/O queues
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// Threads that the queues are spread over [default: one a queue]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// CPUs that the threads are pinned to, in turn, such as 0,2,4-7
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpus: Option<Cpus>,
    /// Sleep until data arrives, instead of spinning
    #[arg(long)]
    block: bool,
    /// Length of the measurement in seconds
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = parse_seconds)]
    time: Duration,
    /// Load before the measurement, in seconds
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = parse_seconds)]
    ramp: Duration,
    /// Where on the namespace to begin
    #[arg(long, default_value = "0", value_name = "SIZE", value_parser = parse_bytes)]
    offset: u64,
    /// How much of the namespace to use [default: all from the offset on]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    size: Option<u64>,
    /// Follow each write by a Flush; both count as one
    #[arg(long)]
    flush: bool,
    /// Give each block its address, version and seed; check what is read, and read back what was written
    #[arg(long)]
    verify: bool,
    /// Share of each block written that is words instead of random bytes, in percent; LZ4 halves them
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    words: u8,
    /// Ask for header digests
    #[arg(long)]
    hdr_digest: bool,
    /// Ask for data digests
    #[arg(long)]
    data_digest: bool,
    /// SQ flow control: Linux hosts leave it on; off, a target may spare the response of a read
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sq_flow_control: bool,
    /// NQN of this host
    #[arg(long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// What every random choice follows from
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The target's process, where it is not found by its listening socket
    #[arg(long, value_name = "PID")]
    target_pid: Option<u32>,
    /// How to print the result
    #[arg(short, long, default_value = "human", value_name = "FORMAT")]
    output: Format,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// Runs the load and prints what it has shown. Commands that failed, or data that was wrong, are a failure.
pub(super) fn run(arguments: PerfArgs) -> ExitCode {
    let format = arguments.output;
    let live = std::io::stderr().is_terminal();
    let outcome = load::run(&options(arguments), |progress| {
        if live {
            print::remark(format_args!("\r{}\x1b[K", line(progress)));
        }
        ControlFlow::Continue(())
    });
    if live {
        print::remark("\r\x1b[K");
    }
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            print::complain(&error);
            return ExitCode::from(exit_code(&error));
        }
    };
    let text = match format {
        Format::Human => human(&report),
        Format::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
    };
    let printed = print::answer(&text);
    if report.is_clean() { printed } else { ExitCode::FAILURE }
}

fn options(arguments: PerfArgs) -> LoadOptions {
    let mut options = LoadOptions::new(arguments.target, arguments.subnqn, arguments.nsid);
    options.pattern = arguments.rw;
    options.read_percent = arguments.rwmixread;
    options.block_bytes = arguments.bs;
    options.queue_depth = arguments.qd;
    options.rate = arguments.rate;
    options.queues = arguments.queues;
    options.threads = arguments.threads;
    options.cpus = arguments.cpus.map(|Cpus(cpus)| cpus).unwrap_or_default();
    options.waiting = if arguments.block { Waiting::Block } else { Waiting::Spin };
    options.ramp = arguments.ramp;
    options.time = arguments.time;
    options.offset_bytes = arguments.offset;
    options.range_bytes = arguments.size;
    options.flush = arguments.flush;
    options.verify = arguments.verify;
    options.words_percent = arguments.words;
    options.header_digest = arguments.hdr_digest;
    options.data_digest = arguments.data_digest;
    options.sq_flow_control = arguments.sq_flow_control;
    options.seed = arguments.seed;
    options.target_pid = arguments.target_pid;
    if let Some(hostnqn) = arguments.hostnqn {
        options.host_nqn = hostnqn;
    }
    options
}

/// The exit codes of the whole command line: 2 for what the caller must change, 3 where nobody answers.
fn exit_code(error: &LoadError) -> u8 {
    match error {
        LoadError::Options(_) | LoadError::Name { .. } => USAGE,
        LoadError::Connect { .. } => 3,
        _ => 1,
    }
}

fn line(progress: &Progress) -> String {
    let mut line = format!(
        "{:.0} s  {}  {}",
        progress.elapsed.as_secs_f64(),
        iops(progress.iops),
        bandwidth(progress.bytes_per_second)
    );
    if progress.errors > 0 {
        let _ = write!(line, "  {} failed", progress.errors);
    }
    line
}

fn human(report: &LoadReport) -> String {
    let queues = if report.queues == 1 { "1 queue".to_owned() } else { format!("{} queues", report.queues) };
    let mut text = format!(
        "{} of {} bytes, {queues} of depth {}, {:.1} s, namespace {} of {}\n",
        report.pattern, report.block_bytes, report.queue_depth, report.seconds, report.nsid, report.target
    );
    let with = [
        (report.header_digest, "header digests"),
        (report.data_digest, "data digests"),
        (report.sq_flow_control, "SQ flow control"),
        (report.flush, "a Flush after each write"),
    ];
    let mut with: Vec<_> = with.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect();
    with.extend(
        report.rate.map(|rate| format!("at most {rate} commands a second, timed from when they were due")),
    );
    if !with.is_empty() {
        let _ = writeln!(text, "with      {}", with.join(", "));
    }
    for (name, direction) in [("reads", &report.reads), ("writes", &report.writes)] {
        if direction.ios > 0 {
            describe(&mut text, name, direction);
        }
    }
    if report.all.ios == 0 {
        text += "no command succeeded\n";
    }
    cpu(&mut text, "target", report.target_cpu);
    cpu(&mut text, "load", report.load_cpu);
    if let Some(verified) = &report.verified {
        let _ = write!(text, "verified  {} commands, {} wrong", verified.checked, verified.mismatches);
        text += &verified.first.as_ref().map_or_else(String::new, |first| format!(": {first}"));
        text.push('\n');
        if verified.unknown > 0 {
            let _ = writeln!(text, "unknown   {} commands read what no load has written", verified.unknown);
        }
    }
    for (status, count) in &report.errors {
        let _ = writeln!(text, "failed    {count} with {status}");
    }
    text
}

fn describe(text: &mut String, name: &str, direction: &Direction) {
    let rate = (iops(direction.iops), bandwidth(direction.bytes_per_second));
    let _ = writeln!(text, "{name:8}  {}  {}", rate.0, rate.1);
    let LatencyNanos { min, mean, p50, p90, p99, p99_9, p99_99, max } = direction.latency;
    let us = |nanos: u64| format!("{:.1}", nanos as f64 / 1e3);
    let columns = [
        ("min", min),
        ("mean", mean),
        ("p50", p50),
        ("p90", p90),
        ("p99", p99),
        ("p99.9", p99_9),
        ("p99.99", p99_99),
        ("max", max),
    ];
    let columns: Vec<String> = columns.iter().map(|(name, value)| format!("{name} {}", us(*value))).collect();
    let _ = writeln!(text, "  latency in us  {}", columns.join("  "));
}

fn cpu(text: &mut String, name: &str, cpu: Option<Cpu>) {
    if let Some(Cpu { cores, micros_per_io, .. }) = cpu {
        let _ = writeln!(text, "{name:8}  {cores:.2} cores, {micros_per_io:.2} us of CPU a command");
    }
}

fn iops(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2} M IOPS", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.1} k IOPS", rate / 1e3),
        rate => format!("{rate:.0} IOPS"),
    }
}

fn bandwidth(rate: f64) -> String {
    if rate >= 1e9 { format!("{:.2} GB/s", rate / 1e9) } else { format!("{:.1} MB/s", rate / 1e6) }
}

fn parse_target(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; expected ADDR:PORT"))?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

fn parse_block(text: &str) -> Result<u32, String> {
    u32::try_from(parse_bytes(text)?).map_err(|_| "a command moves less than 4 GiB".to_owned())
}

/// Numbers of CPUs, of which one argument has many.
#[derive(Clone, Debug)]
struct Cpus(Vec<u32>);

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    cpu_list(text).map(Cpus).ok_or_else(|| "expected a list of CPUs such as 0,2,4-7".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod test {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        perf: PerfArgs,
    }

    fn parse(words: &str) -> Result<LoadOptions, String> {
        let words = format!("perf --target 127.0.0.1:4420 --subnqn nqn.a --nsid 3 {words}");
        let line = Line::try_parse_from(words.split_whitespace()).map_err(|error| error.to_string())?;
        Ok(options(line.perf))
    }

    #[test]
    fn words_become_options() {
        let options = parse(
            "--rw randrw --bs 128k --qd 8 --rate 20000 --queues 4 --time 1.5 --verify --words 60 --sq-flow-control \
             --cpus 4,0-2",
        )
        .unwrap();
        assert_eq!(
            (options.pattern, options.block_bytes, options.queue_depth),
            (Pattern::RandRw, 131_072, 8)
        );
        assert_eq!((options.queues, options.time), (4, Duration::from_millis(1_500)));
        assert_eq!((options.rate, options.words_percent), (Some(20_000), 60));
        assert!(options.verify && options.sq_flow_control && !options.header_digest);
        assert_eq!(options.waiting, Waiting::Spin);
        assert_eq!(options.cpus, [4, 0, 1, 2]);
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in [
            "--rw trim",
            "--bs 4q",
            "--cpus 2-1",
            "--qd 0",
            "--rate 0",
            "--queues 0",
            "--time -1",
            "--time x",
            "--rwmixread 101",
            "--words 101",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
