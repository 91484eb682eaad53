//! Long chains of snapshots in one shard, from seeds.
//!
//! Goal: a thousand snapshots, clones of clones, drops in any order with cleaning on: every image reads what it held, and
//! what the shard maps is what the images hold, not a block more or less. Method: `sim::trial::chain`, a shard on a
//! simulated drive beside a plain model. `FERRULE_SEED` moves the range of seeds, `FERRULE_CHAIN_SEEDS` sets how many busy
//! ones there are; `cargo run -p sim -- thousand SEED` and `chain SEED` replay one.

use sim::trial::chain::{ChainPlan, ChainReport, run_chain};
use tests::seeds::{self, Outcomes, number};

fn must_pass(count: u64, plan: impl Fn(u64) -> ChainPlan + Sync) -> Vec<ChainReport> {
    let Outcomes { failed, reports } = seeds::run(count, 10, |seed| run_chain(&plan(seed)));
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    reports
}

#[test]
fn a_thousand_snapshots_hold_what_they_held_and_leave_nothing_behind() {
    for report in must_pass(1, ChainPlan::thousand) {
        println!("{report:?}");
        assert!(report.images_max > 1000, "{} images at a time", report.images_max);
        assert!(report.kills > 0 && report.moved_blocks > 0, "{report:?}");
    }
}

#[test]
fn forks_while_pages_are_logged_survive_kills() {
    let reports = must_pass(number("FERRULE_CHAIN_SEEDS", 12), ChainPlan::busy);
    println!("{} kills", reports.iter().map(|report| report.kills).sum::<u64>());
}
