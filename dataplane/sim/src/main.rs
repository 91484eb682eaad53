//! `sim SEED` runs the trial of one seed again and prints everything that happens; `sim FIRST COUNT` runs many and
//! prints the seeds that fail.

use std::process::ExitCode;

use io::Time;
use sim::trial::{Plan, Trial, run_seed};

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => replay(seed),
        [first, count] => sweep(first, count),
        _ => {
            eprintln!("usage: sim SEED | sim FIRST COUNT");
            ExitCode::from(2)
        }
    }
}

fn replay(seed: u64) -> ExitCode {
    let mut trial = Trial::new(Plan::new(seed));
    trial.set_tracer(|time: Time, line: &str| println!("{:>12} {line}", time.0));
    match trial.run() {
        Ok(report) => {
            println!("seed {seed}: {report:#?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn sweep(first: u64, count: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0_u64;
    for seed in first..first.saturating_add(count) {
        if let Err(violation) = run_seed(&Plan::new(seed)) {
            println!("seed {seed}: {violation}");
            failed += 1;
        }
    }
    println!("{failed} of {count} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
