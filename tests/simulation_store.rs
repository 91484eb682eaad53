//! The store under random load and crashes, from seeds: a thousand that must pass, and deliberate faults that must not.
//!
//! Goal: nothing answered is lost by a kill, nothing flushed by a power cut, nothing torn or foreign is ever read.
//! Method: `sim::trial` runs shards on drives that reorder, tear and forget, against a model of every block. A seed that
//! fails is printed with the command that replays it. `FERRULE_SEED` moves the range of seeds, `FERRULE_SEEDS` sets how
//! many there are.

use sim::trial::{Account, Leave, Plan, Report, Violation, run_seed};
use store::shard::Planted;
use tests::seeds::{self, Outcomes, number};

/// Seeds of one run.
const SEEDS: u64 = 1000;

/// Seeds of one run in which a drive stops answering.
const AWAY_SEEDS: u64 = 500;

/// Seeds within which a planted fault must show.
const PLANTED_SEEDS: u64 = 1500;

/// Runs seeds of the plan as `change` leaves it, until `enough` have failed.
fn run_seeds(count: u64, enough: usize, change: impl Fn(&mut Plan) + Sync) -> Outcomes<Report, Violation> {
    seeds::run(count, enough, |seed| {
        let mut plan = Plan::new(seed);
        change(&mut plan);
        run_seed(&plan)
    })
}

#[test]
fn a_thousand_seeds_lose_and_spoil_nothing() {
    let count = number("FERRULE_SEEDS", SEEDS);
    let Outcomes { failed, reports } = run_seeds(count, 50, |_| {});
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- {seed}");
    }
    assert!(failed.is_empty(), "{} seeds broke a promise", failed.len());
    let sum = |part: fn(&Report) -> u64| reports.iter().map(part).sum::<u64>();
    let went_through = [
        ("answers", sum(|report| report.answered)),
        ("full pools", sum(|report| report.refused_full)),
        ("kills", sum(|report| report.kills)),
        ("power cuts", sum(|report| report.power_cuts)),
        ("crashes in recovery", sum(|report| report.crashes_in_recovery)),
        ("starts that a drive failed", sum(|report| report.failed_recoveries)),
        ("failed shards", sum(|report| report.failed_shards)),
        ("changes taken back", sum(|report| report.taken_back)),
        ("segments used again", sum(|report| report.released_segments)),
        ("batches found in summaries", sum(|report| report.summarized_batches)),
        ("moved blocks", sum(|report| report.moved_blocks)),
        ("checkpoints", sum(|report| report.checkpoints)),
        ("drives that joined", sum(|report| report.joined)),
        ("snapshots and clones", sum(|report| report.forks)),
    ];
    for (what, times) in went_through {
        println!("{what}: {times}");
        assert!(times > 0 || count < SEEDS, "a thousand seeds without {what} prove less than they should");
    }
}

#[test]
fn decay_is_answered_with_errors_and_never_with_wrong_data() {
    let count = number("FERRULE_SEEDS", 300);
    let Outcomes { failed, .. } = run_seeds(count, 50, |plan| plan.decay_bits = 40);
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- decay {seed}");
    }
    assert!(failed.is_empty(), "{} seeds broke a promise", failed.len());
}

#[test]
fn blocks_that_become_unreadable_are_answered_with_errors_and_never_with_wrong_data() {
    let count = number("FERRULE_SEEDS", 300);
    let Outcomes { failed, reports } = run_seeds(count, 50, |plan| plan.damaged_blocks = 40);
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- damage {seed}");
    }
    assert!(failed.is_empty(), "{} seeds broke a promise", failed.len());
    let unrecovered: u64 = reports.iter().map(|report| report.unrecovered).sum();
    println!("requests that could not read what they had to: {unrecovered}");
    assert!(unrecovered > count, "the blocks that were damaged are none that anybody needs");
}

#[test]
fn a_drive_that_stops_answering_costs_nothing_that_was_durable_and_nobody_waits_for_ever() {
    let count = number("FERRULE_SEEDS", AWAY_SEEDS);
    let Outcomes { failed, reports } = run_seeds(count, 50, |plan| plan.leave = Some(Leave::of(plan.seed)));
    for (seed, violation) in &failed {
        eprintln!("seed {seed}: {violation}\n  replay: cargo run -p sim -- away {seed}");
    }
    assert!(failed.is_empty(), "{} seeds broke a promise", failed.len());
    let sum = |part: fn(&Report) -> u64| reports.iter().map(part).sum::<u64>();
    let went_through = [
        ("drives that left", sum(|report| report.drives_away)),
        ("drives that were back in the same life", sum(|report| report.drives_back)),
        ("requests that went on beside them", sum(|report| report.answered_beside)),
        ("failed shards", sum(|report| report.failed_shards)),
    ];
    for (what, times) in went_through {
        println!("{what}: {times}");
        assert!(
            times > 0 || count < AWAY_SEEDS,
            "{AWAY_SEEDS} seeds without {what} prove less than they should"
        );
    }
}

/// A fault must be found by some seed.
fn must_be_caught(name: &str, change: impl Fn(&mut Plan) + Sync) {
    let Outcomes { failed, .. } = seeds::run(PLANTED_SEEDS, 1, |seed| {
        let mut plan = Plan::new(seed);
        change(&mut plan);
        run_seed(&plan)
    });
    match failed.first() {
        Some((seed, violation)) => println!("{name}: seed {seed}: {violation}"),
        None => panic!("{name}: {PLANTED_SEEDS} seeds found nothing"),
    }
}

macro_rules! planted {
    ($($test:ident: $fault:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                must_be_caught(stringify!($fault), |plan| plan.shard_options.planted = Some(Planted::$fault));
            }
        )*

        #[test]
        fn every_planted_fault_has_its_test() {
            let tested = [$(Planted::$fault),*];
            for fault in Planted::ALL {
                assert!(tested.contains(&fault), "{fault:?} has no test");
            }
        }
    };
}

planted! {
    an_answer_before_the_write_is_caught: AcknowledgeBeforeWritten,
    answers_out_of_order_are_caught: AcknowledgeOutOfOrder,
    a_flush_of_nothing_is_caught: FlushNothing,
    a_root_without_a_flush_is_caught: RootWithoutFlush,
    a_segment_used_again_too_early_is_caught: ReuseTooEarly,
    a_segment_used_again_under_reads_is_caught: ReuseUnderReads,
    a_segment_used_again_under_replay_is_caught: ReuseUnderReplay,
    a_segment_used_again_after_a_cut_is_caught: ReuseInexact,
    a_replay_across_a_gap_is_caught: IgnoreChain,
    a_torn_payload_is_caught: IgnoreTornPayload,
    a_forgotten_pending_version_is_caught: ForgetPendingVersion,
    an_ignored_guard_is_caught: IgnoreGuards,
    a_move_over_newer_data_is_caught: MoveOverwrites,
    an_epoch_that_goes_on_is_caught: KeepEpoch,
    forgotten_unmaps_are_caught: ForgetUnmaps,
    skipped_checksums_are_caught: SkipChecksums,
    a_shared_block_that_is_freed_is_caught: FreeShared,
    a_dead_block_that_is_kept_is_caught: KeepShared,
    a_copy_in_silence_is_caught: CopyInSilence,
    a_move_in_one_image_is_caught: MoveInOneImage,
    images_that_a_drop_left_apart_are_caught: DropConnections,
    forgotten_cliques_are_caught: ForgetCliques,
    forgotten_forks_are_caught: ForgetForks,
    a_fork_without_a_flush_is_caught: ForkWithoutFlush,
    a_compressed_block_moved_as_a_raw_one_is_caught: MovePackedAsRaw,
    a_torn_compressed_block_is_caught: IgnoreTornPacked,
    trust_in_what_decompresses_is_caught: TrustPacked,
    a_changed_leaf_that_leaves_memory_is_caught: EvictDirty,
    a_leaf_read_in_as_nobody_elses_is_caught: LoadAsOwn,
    a_shared_leaf_read_in_twice_is_caught: LoadTwice,
    a_page_forgotten_as_it_leaves_memory_is_caught: ForgetAway,
    a_page_read_in_apart_from_its_leaves_is_caught: LoadApart,
    a_replay_out_of_order_is_caught: ReplayOutOfOrder,
    a_rest_in_need_is_caught: RestInNeed,
}

#[test]
fn a_rest_in_need_is_called_a_standstill_beside_garbage() {
    let Outcomes { failed, .. } = run_seeds(PLANTED_SEEDS, 1, |plan| {
        plan.shard_options.planted = Some(Planted::RestInNeed);
    });
    let (seed, violation) = failed.first().expect("a seed that stands still");
    let Violation::Stalled { accounts, .. } = violation else { panic!("seed {seed}: {violation}") };
    let garbage = |account: &Account| account.open > 0 && account.garbage_bytes > 0;
    assert!(accounts.iter().any(garbage), "seed {seed}: {violation}");
}

#[test]
fn a_drive_that_loses_acknowledged_writes_is_caught() {
    must_be_caught("lost writes", |plan| plan.faults.lost_write_one_in = 50);
}

#[test]
fn a_drive_that_writes_beside_the_place_is_caught() {
    must_be_caught("misdirected writes", |plan| plan.faults.misdirected_write_one_in = 50);
}

#[test]
fn a_drive_that_does_not_flush_is_caught() {
    must_be_caught("false flushes", |plan| plan.faults.false_flush_one_in = 1);
}

#[test]
fn a_model_that_expects_the_wrong_thing_is_caught() {
    // The trial itself fails on purpose: a calm drive whose medium decays while nobody allows for it.
    must_be_caught("decay", |plan| plan.faults.write_flip_one_in = 20);
}
