//! The load generator against this crate's own data plane, on the loopback. Goal: what is verified is verified indeed,
//! whatever was negotiated, and what cannot be is refused with its reason.

mod proxy;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use super::clock::Stopwatch;
use super::run::Lanes;
use super::*;
use crate::{Action, Bench, Config, DataPlane, Reactors};
use proxy::Proxy;

const RAM_BYTES: u64 = 64 << 20;

/// A data plane with one namespace in memory, stopped when dropped.
struct Target(Option<DataPlane>);

impl Target {
    fn start() -> Self {
        let config = Config {
            pool: Vec::new(),
            shards: None,
            reactors: Reactors::Count(1),
            listen: vec![([127, 0, 0, 1], 0).into()],
            advertise: Vec::new(),
            discovery: Vec::new(),
            bench: vec![Bench::Ram { size_bytes: RAM_BYTES }],
            ring_features_off: Vec::new(),
            map_memory_bytes: None,
            checkpoint_bytes: None,
        };
        Self(Some(DataPlane::start(&config).unwrap()))
    }

    fn load(&self, pattern: Pattern) -> LoadOptions {
        let identity = self.0.as_ref().unwrap().identity();
        let mut options =
            LoadOptions::new(identity.listen[0], identity.subsystem_nqn.clone(), identity.bench[0].0);
        options.pattern = pattern;
        options.time = Duration::from_millis(200);
        options.waiting = Waiting::Block;
        options
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(plane) = self.0.take() {
            let (done, is_done) = mpsc::channel();
            plane.handle().submit(Action::Stop, move |outcome| done.send(outcome.is_ok()).unwrap());
            assert!(is_done.recv().unwrap());
            plane.wait().unwrap();
        }
    }
}

/// Runs a load as often as a busy machine leaves it no time, a few times, until it has done so much.
fn run_until(options: &LoadOptions, least: u64) -> LoadReport {
    let mut report = None;
    for _ in 0..10 {
        let next = run(options, |_| ControlFlow::Continue(())).unwrap();
        assert!(next.is_clean(), "{next:?}");
        if next.all.ios >= least {
            return next;
        }
        report = Some(next);
    }
    panic!("fewer than {least} commands ten times: {report:?}");
}

fn run_whole(options: &LoadOptions) -> LoadReport {
    run_until(options, 1)
}

#[test]
fn what_a_load_makes_before_it_begins_is_not_measured() {
    let target = Target::start();
    let load = LoadOptions { queue_depth: 64, block_bytes: 256 << 10, ..target.load(Pattern::Write) };
    let (clock, mut opened) = (Stopwatch::start(), Vec::new());
    let association = run::open(0, &load, clock, &mut opened).unwrap();
    let before = clock.now();
    let lanes = Lanes::new(std::slice::from_ref(&load), opened, 1, clock);
    let made = clock.now();
    assert!(lanes.from.since(before) > made.since(before) / 2, "it begins when all is made");
    drop(association);
}

#[test]
fn a_rate_is_kept_and_waits_are_counted_from_when_a_command_was_due() {
    let target = Target::start();
    for (rate, queues) in [(1_000, 1), (2_000, 2)] {
        let load = LoadOptions {
            rate: Some(rate),
            queues,
            time: Duration::from_millis(500),
            ..target.load(Pattern::RandRead)
        };
        let report = run_until(&load, u64::from(rate) / 4);
        // A busy machine may complete the last ones late, none begins early.
        assert!(report.all.ios <= u64::from(rate) / 2 + 2 * u64::from(queues), "{report:?}");
    }
    // Ten thousand times what is possible: every command waits, ever longer.
    let flood = LoadOptions {
        rate: Some(1_000_000_000),
        queue_depth: 4,
        time: Duration::from_millis(200),
        ..target.load(Pattern::RandRead)
    };
    let report = run_whole(&flood);
    assert!(report.all.latency.max > 100_000_000, "{report:?}");
}

#[test]
fn loads_that_run_together_are_counted_apart() {
    let target = Target::start();
    let kept = LoadOptions {
        rate: Some(1_000),
        time: Duration::from_millis(500),
        block_bytes: 8192,
        ..target.load(Pattern::RandRead)
    };
    let flood = LoadOptions {
        queues: 2,
        verify: true,
        range_bytes: Some(4 << 20),
        host_nqn: "nqn.2014-08.org.nvmexpress:uuid:6c6f6164-0000-4000-8000-000000000002".to_owned(),
        host_id: [2; 16],
        ..target.load(Pattern::RandWrite)
    };
    let reports = run_together(&[kept, flood], |_| ControlFlow::Continue(())).unwrap();
    let [kept, flood] = &reports[..] else { panic!("a report each: {reports:?}") };
    assert!(kept.is_clean() && flood.is_clean(), "{reports:?}");
    assert!(kept.reads.ios > 0 && kept.reads.ios <= 502 && kept.writes.ios == 0, "{kept:?}");
    assert!(flood.writes.ios > 0 && flood.reads.ios == 0, "{flood:?}");
    assert_eq!((kept.block_bytes, flood.block_bytes, flood.queues), (8192, 4096, 2));
    assert!(flood.seconds == kept.seconds, "the first one's time holds for all");
    let nothing = run_together(&[], |_| ControlFlow::Continue(()));
    assert!(matches!(nothing, Err(LoadError::Options(_))), "{nothing:?}");
}

#[test]
fn a_target_that_answers_no_shutdown_costs_no_report() {
    let target = Target::start();
    let one = target.load(Pattern::RandRead);
    // Two associations, and a queue of each.
    let proxy = Proxy::start(one.target, 4);
    let one = LoadOptions { target: proxy.address, ..one };
    let other = LoadOptions {
        host_nqn: "nqn.2014-08.org.nvmexpress:uuid:6c6f6164-0000-4000-8000-000000000002".to_owned(),
        host_id: [2; 16],
        ..one.clone()
    };
    let reports = run_together(&[one, other], |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(LoadReport::is_clean), "{reports:?}");
    assert_eq!(proxy.shutdowns(), 2, "both are shut down all the same");
}

#[test]
fn what_no_load_has_written_is_not_counted_as_checked() {
    let target = Target::start();
    let reads = LoadOptions { verify: true, ..target.load(Pattern::RandRead) };
    let verified = run_whole(&reads).verified.unwrap();
    assert!(verified.checked == 0 && verified.unknown > 0, "{verified:?}");
}

#[test]
fn what_one_load_wrote_another_verifies() {
    let target = Target::start();
    let range =
        LoadOptions { range_bytes: Some(4 << 20), verify: true, queues: 2, ..target.load(Pattern::RandRw) };
    let report = run_whole(&range);
    assert!(
        report.verified.is_some_and(|verified| verified.checked > report.reads.ios / 2),
        "reads are checked"
    );
    let reads = LoadOptions { pattern: Pattern::RandRead, seed: 2, ..range.clone() };
    assert_eq!(run_whole(&reads).verified.unwrap().mismatches, 0);
    // Stamps are of logical blocks, not of commands.
    let moved = LoadOptions { block_bytes: 8192, ..reads };
    assert_eq!(
        run_whole(&moved).verified.unwrap().mismatches,
        0,
        "any size of command reads the same blocks"
    );
}

#[test]
fn writes_are_verified_whatever_was_negotiated() {
    let target = Target::start();
    for (digests, sq_flow_control, block_bytes, flush, words_percent) in [
        (false, false, 4096, true, 50),
        (true, false, 131_072, false, 0),
        (true, true, 16_384, true, 100),
        (false, true, 512 << 10, false, 0),
    ] {
        let options = LoadOptions {
            header_digest: digests,
            data_digest: digests,
            sq_flow_control,
            block_bytes,
            flush,
            words_percent,
            verify: true,
            range_bytes: Some(32 << 20),
            threads: Some(1),
            queues: 2,
            queue_depth: 8,
            ..target.load(Pattern::RandWrite)
        };
        let report = run_whole(&options);
        assert!(report.verified.unwrap().checked > 0, "what was written is read back");
    }
}

#[test]
fn a_load_ends_early_when_progress_says_so() {
    let target = Target::start();
    let options = LoadOptions {
        time: Duration::from_secs(60),
        progress_interval: Duration::from_millis(100),
        ..target.load(Pattern::RandRead)
    };
    let report = run(&options, |progress| {
        if progress.completed > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(report.unwrap().seconds < 30.0);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let target = Target::start();
    let good = target.load(Pattern::RandRead);
    let refusal =
        |options: &LoadOptions| run(options, |_| ControlFlow::Continue(())).unwrap_err().to_string();
    for (options, reason) in [
        (LoadOptions { block_bytes: 1000, ..good.clone() }, "no multiple of the logical block"),
        (LoadOptions { block_bytes: 64 << 20, ..good.clone() }, "more than the"),
        (LoadOptions { queue_depth: 65_000, ..good.clone() }, "outside 1..="),
        (LoadOptions { queues: 0, ..good.clone() }, "at least one queue"),
        (LoadOptions { nsid: 7, ..good.clone() }, "namespace 7 does not exist"),
        (
            LoadOptions { offset_bytes: RAM_BYTES, range_bytes: Some(4096), ..good.clone() },
            "beyond the namespace",
        ),
        (LoadOptions { range_bytes: Some(4096), verify: true, ..good.clone() }, "has room for 1 commands"),
        (LoadOptions { subsystem_nqn: String::new(), ..good.clone() }, "is not an NQN"),
        (LoadOptions { subsystem_nqn: "nqn.none".to_owned(), ..good.clone() }, "Connect refused"),
    ] {
        let said = refusal(&options);
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(refusal(&LoadOptions { target: nobody, ..good }).contains("cannot connect"));
}
