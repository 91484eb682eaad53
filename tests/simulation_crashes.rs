//! The whole target, ended after each write and each flush of a drive in turn while volumes and snapshots change.
//!
//! Goal: a crash between any two writes leaves a change whole or undone, and loses nothing that was told. Method:
//! `sim::target`, short scripts, each run once for every moment and every kind of crash; afterwards everything is read,
//! compared and deleted as at the end of every run of the simulator. A point that fails is printed with the command that
//! replays it.

use sim::target::{CrashPoint, EngineFault, Script, TargetPlan, TargetReport, crash_points, run_crash};
use sim::trial::Violation;
use store::shard::Planted;
use tests::seeds::{self, Outcomes};

/// Runs points of the plan until `enough` have failed.
fn run_points(
    plan: &TargetPlan,
    points: &[CrashPoint],
    enough: usize,
) -> Outcomes<Option<TargetReport>, (CrashPoint, Violation)> {
    seeds::run(points.len() as u64, enough, |seed| {
        let point = points[usize::try_from(seed).unwrap_or(0) % points.len()];
        run_crash(plan, point).map_err(|violation| (point, violation))
    })
}

/// Every moment of a script, with each kind of crash.
fn points(plan: &TargetPlan, script: Script) -> Vec<CrashPoint> {
    let count = crash_points(plan, script).unwrap_or_else(|violation| panic!("{script:?}: {violation}"));
    let of = |after| CrashPoint::CRASHES.into_iter().map(move |crash| CrashPoint { script, after, crash });
    (1..=count).flat_map(of).collect()
}

#[test]
fn a_change_that_is_cut_after_any_write_is_whole_or_undone() {
    let plan = TargetPlan::of_crashes();
    for script in Script::ALL {
        let points = points(&plan, script);
        println!("{script:?}: {} crashes", points.len());
        let Outcomes { failed, reports } = run_points(&plan, &points, 10);
        for (_, (point, violation)) in &failed {
            eprintln!("{point:?}: {violation}\n  replay: cargo run -p sim -- crash {}", point.number());
        }
        assert!(failed.is_empty(), "{script:?}: {} crashes broke a promise", failed.len());
        assert!(points.len() > 50, "{script:?} is short");
        assert!(reports.iter().all(Option::is_some), "{script:?} came to its end before a crash");
    }
}

/// A fault must be found at some moment of the script of snapshots.
fn must_be_caught(name: &str, change: impl Fn(&mut TargetPlan)) {
    let mut plan = TargetPlan::of_crashes();
    change(&mut plan);
    // What goes wrong without a crash is for other tests: that panics here.
    let points = points(&plan, Script::Snapshots);
    let Outcomes { failed, .. } = run_points(&plan, &points, 1);
    match failed.first() {
        Some((_, (point, violation))) => println!("{name}: {point:?}: {violation}"),
        None => panic!("{name}: {} crashes found nothing", points.len()),
    }
}

#[test]
fn a_change_that_is_whole_only_as_a_rule_is_caught() {
    for fault in [EngineFault::RecordBeforeFork, EngineFault::KeepOrphans] {
        must_be_caught(&format!("{fault:?}"), |plan| plan.planted = Some(fault));
    }
}

#[test]
fn a_log_that_is_safe_only_as_a_rule_is_caught() {
    for fault in [Planted::FlushNothing, Planted::ForkWithoutFlush, Planted::ForgetForks] {
        must_be_caught(&format!("{fault:?}"), |plan| plan.shard_options.planted = Some(fault));
    }
}
