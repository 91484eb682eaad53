//! Replays seeds. `sim SEED` runs the store's trial of one seed again and prints everything that happens; `sim FIRST COUNT`
//! runs many and prints those that fail. With `target` before the numbers it is the whole target instead of the store, with
//! `tight` the target on a small pool, with `resets` the target on connections that break, with `unreadable` the target on
//! drives whose reads fail at times, with `decay` the store on drives of which 40 bits turn over, with `damage` on drives
//! of which 40 blocks become unreadable, with `away` the store while a drive stops answering, with `chain` or `thousand`
//! long chains of snapshots in one shard, with `rollback` the target while hosts watch volumes being rolled back, with
//! `crash` a short script that ends after one of its writes.

use std::process::ExitCode;

use io::Time;
use sim::target::{
    CrashPoint, TargetPlan, TargetTrial, attack_of, run_attack, run_crash, run_rollbacks, run_target_seed,
};
use sim::trial::chain::{ChainPlan, run_chain};
use sim::trial::{Leave, Plan, Trial, Violation, run_seed};

/// What a seed is run on.
#[derive(Clone, Copy)]
enum What {
    Store,
    Target,
    Tight,
    Resets,
    Unreadable,
    Attack,
    Crash,
    Rollback,
    Chain,
    Thousand,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = match arguments.first().map(String::as_str) {
        Some("target") => What::Target,
        Some("tight") => What::Tight,
        Some("resets") => What::Resets,
        Some("unreadable") => What::Unreadable,
        Some("attack") => What::Attack,
        Some("crash") => What::Crash,
        Some("rollback") => What::Rollback,
        Some("chain") => What::Chain,
        Some("thousand") => What::Thousand,
        _ => What::Store,
    };
    let decay_bits = if arguments.iter().any(|text| text == "decay") { 40 } else { 0 };
    let damaged_blocks = if arguments.iter().any(|text| text == "damage") { 40 } else { 0 };
    let leaves = arguments.iter().any(|text| text == "away");
    let plan =
        |seed| Plan { decay_bits, damaged_blocks, leave: leaves.then(|| Leave::of(seed)), ..Plan::new(seed) };
    let numbers: Vec<u64> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => replay(seed, what, plan),
        [first, count] => sweep(first, count, what, plan),
        _ => {
            let what = "[target | tight | resets | unreadable | attack | crash | rollback | decay | damage | away | chain | thousand]";
            eprintln!("usage: sim {what} SEED | sim {what} FIRST COUNT");
            ExitCode::from(2)
        }
    }
}

fn replay(seed: u64, what: What, plan: impl Fn(u64) -> Plan) -> ExitCode {
    let tracer: fn(Time, &str) = |time, line| println!("{:>12} {line}", time.0);
    let result = match what {
        What::Target => replay_target(TargetPlan::new(seed), tracer),
        What::Tight => replay_target(TargetPlan::tight(seed), tracer),
        What::Resets => replay_target(TargetPlan::with_resets(seed), tracer),
        What::Unreadable => replay_target(TargetPlan::with_read_errors(seed), tracer),
        What::Attack => run_attack(&attack_of(seed)).map(|report| format!("{report:#?}")),
        What::Crash => replay_crash(CrashPoint::of(seed), tracer),
        What::Rollback => run_rollbacks(&TargetPlan::of_rollbacks(seed)).map(|report| format!("{report:#?}")),
        What::Chain => run_chain(&ChainPlan::busy(seed)).map(|report| format!("{report:#?}")),
        What::Thousand => run_chain(&ChainPlan::thousand(seed)).map(|report| format!("{report:#?}")),
        What::Store => {
            let mut trial = Trial::new(plan(seed));
            trial.set_tracer(tracer);
            trial.run().map(|report| format!("{report:#?}"))
        }
    };
    match result {
        Ok(report) => {
            println!("seed {seed}: {report}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn replay_target(plan: TargetPlan, tracer: fn(Time, &str)) -> Result<String, Violation> {
    let mut trial = TargetTrial::new(plan);
    trial.set_tracer(tracer);
    trial.run().map(|report| format!("{report:#?}"))
}

fn replay_crash(point: CrashPoint, tracer: fn(Time, &str)) -> Result<String, Violation> {
    let mut trial = TargetTrial::new(TargetPlan::of_crashes());
    trial.set_tracer(tracer);
    trial.run_crash(point).map(|report| format!("{point:?}: {report:#?}"))
}

fn sweep(first: u64, count: u64, what: What, plan: impl Fn(u64) -> Plan) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0_u64;
    for seed in first..first.saturating_add(count) {
        let result: Result<(), Violation> = match what {
            What::Target => run_target_seed(&TargetPlan::new(seed)).map(drop),
            What::Tight => run_target_seed(&TargetPlan::tight(seed)).map(drop),
            What::Resets => run_target_seed(&TargetPlan::with_resets(seed)).map(drop),
            What::Unreadable => run_target_seed(&TargetPlan::with_read_errors(seed)).map(drop),
            What::Attack => run_attack(&attack_of(seed)).map(drop),
            What::Crash => run_crash(&TargetPlan::of_crashes(), CrashPoint::of(seed)).map(drop),
            What::Rollback => run_rollbacks(&TargetPlan::of_rollbacks(seed)).map(drop),
            What::Chain => run_chain(&ChainPlan::busy(seed)).map(drop),
            What::Thousand => run_chain(&ChainPlan::thousand(seed)).map(drop),
            What::Store => run_seed(&plan(seed)).map(drop),
        };
        if let Err(violation) = result {
            println!("seed {seed}: {violation}");
            failed += 1;
        }
    }
    println!("{failed} of {count} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
