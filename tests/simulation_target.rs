//! The whole target under random load, lost connections, changes by management and crashes, from seeds.
//!
//! Goal: what hosts are told is true, whichever reactor did it and whatever happened since. Method: `sim::target` runs
//! engines on simulated reactors and hosts of the `host` crate on simulated connections. A seed that fails is printed with
//! the command that replays it. `FERRULE_SEED` moves the range of seeds, `FERRULE_TARGET_SEEDS` sets how many there are.

use sim::Random;
use sim::target::{
    EngineFault, TargetPlan, TargetReport, attack_of, run_attack, run_rollbacks, run_target_seed,
};
use sim::trial::Violation;
use store::shard::Planted;
use tests::seeds::{self, Outcomes, number};

/// Seeds of one run.
const SEEDS: u64 = 300;

/// Seeds of rollbacks that hosts watch.
const ROLLBACK_SEEDS: u64 = 20;

/// Seeds with connections that break, and as many with reads that fail.
const FAULTY_SEEDS: u64 = 100;

/// Seeds within which a planted fault must show.
const PLANTED_SEEDS: u64 = 400;

/// Runs seeds of the plan as `change` leaves it, until `enough` have failed.
fn run_seeds(
    count: u64,
    enough: usize,
    change: impl Fn(&mut TargetPlan) + Sync,
) -> Outcomes<TargetReport, Violation> {
    seeds::run(count, enough, |seed| {
        let mut plan = TargetPlan::new(seed);
        change(&mut plan);
        run_target_seed(&plan)
    })
}

#[test]
fn hosts_are_told_the_truth() {
    let count = number("FERRULE_TARGET_SEEDS", SEEDS);
    let Outcomes { failed, reports } = run_seeds(count, 10, |_| {});
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- target {seed}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    let sum = |part: fn(&TargetReport) -> u64| reports.iter().map(part).sum::<u64>();
    let went_through = [
        ("completed commands", sum(|report| report.completed)),
        ("refused commands", sum(|report| report.refused)),
        ("aborted commands", sum(|report| report.aborted)),
        ("halves of fused pairs", sum(|report| report.fused)),
        ("commands lost with their connection", sum(|report| report.lost)),
        ("associations", sum(|report| report.associations)),
        ("changes by management", sum(|report| report.changes)),
        ("crashes", sum(|report| report.crashes)),
        ("snapshots", sum(|report| report.snapshots)),
        ("snapshots that were read", sum(|report| report.cuts)),
        ("clones", sum(|report| report.clones)),
        ("rollbacks", sum(|report| report.rollbacks)),
        ("shutdowns", sum(|report| report.shutdowns)),
        ("diffs", sum(|report| report.diffs)),
        ("drives that joined", sum(|report| report.joined)),
        ("drives that joined and were used", sum(|report| report.drives_used)),
    ];
    for (what, times) in went_through {
        println!("{what}: {times}");
        assert!(times > 0 || count < SEEDS, "no {what} in {count} seeds");
    }
}

#[test]
fn a_hostile_peer_harms_nobody() {
    let count = number("FERRULE_TARGET_SEEDS", SEEDS);
    let Outcomes { failed, reports } = seeds::run(count, 10, |seed| run_attack(&attack_of(seed)));
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- attack {seed}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    for report in &reports {
        assert_eq!(report.associations, report.hosts, "an honest host had to connect again: {report:?}");
    }
    let served: u64 = reports.iter().map(|report| report.completed).sum();
    assert!(served > count, "the honest hosts were served {served} commands beside {count} attacks");
}

/// Seeds of a plan with faults must pass; some of their commands must have met one.
fn cost_only_what_met_them(name: &str, plan: fn(u64) -> TargetPlan, met: fn(&TargetReport) -> u64) {
    let Outcomes { failed, reports } = seeds::run(FAULTY_SEEDS, 10, |seed| run_target_seed(&plan(seed)));
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- {name} {seed}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    let met: u64 = reports.iter().map(met).sum();
    let completed: u64 = reports.iter().map(|report| report.completed).sum();
    println!("{met} commands met a fault, {completed} completed");
    assert!(met > FAULTY_SEEDS && met < completed / 2, "{met} of {completed} commands met a fault");
}

#[test]
fn connections_that_break_cost_the_commands_on_them_and_nothing_else() {
    cost_only_what_met_them("resets", TargetPlan::with_resets, |report| report.lost);
}

#[test]
fn reads_that_fail_cost_the_commands_that_need_them_and_nothing_else() {
    cost_only_what_met_them("unreadable", TargetPlan::with_read_errors, |report| report.unreadable);
}

#[test]
fn a_rollback_is_one_moment_on_every_queue() {
    let Outcomes { failed, reports } =
        seeds::run(ROLLBACK_SEEDS, 10, |seed| run_rollbacks(&TargetPlan::of_rollbacks(seed)));
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- rollback {seed}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    assert!(reports.iter().all(|report| report.rollbacks > 1));
}

/// A fault of the store shows at the hosts too.
fn must_be_caught(fault: Planted) {
    let Outcomes { failed, .. } =
        run_seeds(PLANTED_SEEDS, 1, |plan| plan.shard_options.planted = Some(fault));
    match failed.first() {
        Some((seed, violation)) => println!("{fault:?}: seed {seed}: {violation}"),
        None => panic!("{fault:?}: {PLANTED_SEEDS} seeds found nothing"),
    }
}

/// Makes what a fault spoils happen often.
fn aim(fault: EngineFault, plan: &mut TargetPlan) {
    match fault {
        EngineFault::KeepStaleQueues => plan.reconnect_one_in = 100,
        EngineFault::ForgetHold => {
            let mut random = Random::new(plan.seed);
            *plan = plan.clone().with_slow_mail(&mut random);
        }
        EngineFault::CloneOfVolume | EngineFault::DiffWithoutShard => plan.images_one_in = 10,
        EngineFault::RecordBeforeFork | EngineFault::KeepOrphans => {
            (plan.images_one_in, plan.aim_one_in) = (10, 2);
        }
        EngineFault::GrantBeforeGrown => {
            let mut random = Random::new(plan.seed);
            let tight = TargetPlan { grow_one_in: 100, ..TargetPlan::tight(plan.seed) };
            *plan = tight.with_slow_mail(&mut random);
        }
        EngineFault::AnswerBeforeFence
        | EngineFault::ForgetClear
        | EngineFault::FlushOneShard
        | EngineFault::RepeatFirstStripe
        | EngineFault::ForgetOtherPieces
        | EngineFault::KeepReplaced
        | EngineFault::RollBackUnderIo
        | EngineFault::LateForks => {}
    }
}

/// Faults of the engine itself.
fn engine_must_be_caught(fault: EngineFault) {
    // Every run of rollbacks is aimed at this one.
    let is_watched = fault == EngineFault::RollBackUnderIo;
    let count = if is_watched { 1 } else { PLANTED_SEEDS };
    let Outcomes { failed, .. } = seeds::run(count, 1, |seed| {
        let mut plan = if is_watched { TargetPlan::of_rollbacks(seed) } else { TargetPlan::new(seed) };
        aim(fault, &mut plan);
        plan.planted = Some(fault);
        if is_watched { run_rollbacks(&plan) } else { run_target_seed(&plan) }
    });
    match failed.first() {
        Some((seed, violation)) => println!("{fault:?}: seed {seed}: {violation}"),
        None => panic!("{fault:?}: {count} seeds found nothing"),
    }
}

#[test]
fn every_fault_of_the_engine_is_caught() {
    for fault in EngineFault::ALL.into_iter().filter(|fault| !EngineFault::OF_IMAGES.contains(fault)) {
        engine_must_be_caught(fault);
    }
}

#[test]
fn every_fault_of_rollbacks_clones_and_diffs_is_caught() {
    for fault in EngineFault::OF_IMAGES {
        engine_must_be_caught(fault);
    }
}

#[test]
fn an_answer_before_the_write_is_caught() {
    must_be_caught(Planted::AcknowledgeBeforeWritten);
}

#[test]
fn a_flush_of_nothing_is_caught() {
    must_be_caught(Planted::FlushNothing);
}

#[test]
fn forgotten_unmaps_are_caught() {
    must_be_caught(Planted::ForgetUnmaps);
}
