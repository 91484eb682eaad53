//! Segments that are used again without a checkpoint: each rule by itself, and recovery from roots that are older.

use std::collections::BTreeMap;

use super::cleaning::{BLOCKS, assert_holds_after_a_power_cut, overwrite, overwrite_in};
use super::disk::Rng;
use super::world::{World, small_options};
use crate::SegmentId;
use crate::shard::admit::Class;
use crate::shard::space::{Segment, State};
use crate::shard::{Op, ShardOptions};

/// Options with which nothing but want of room asks for a checkpoint soon.
pub(super) fn rare_checkpoints() -> ShardOptions {
    ShardOptions { checkpoint_bytes: 1 << 20, ..small_options() }
}

#[test]
fn segments_that_cleaning_emptied_are_used_again_under_one_root() {
    let world = overwrite(rare_checkpoints(), 8_000, 8, |_| ());
    let (reused, stats) = (world.shard.reuse.count, world.shard.stats());
    println!(
        "{reused} segments used again, {} cleaned, {} checkpoints",
        stats.cleaned_segments, stats.checkpoints
    );
    assert!(reused * 2 > stats.cleaned_segments, "{reused} of {}", stats.cleaned_segments);
    assert!(reused > 4 * stats.checkpoints, "{reused} for {} checkpoints", stats.checkpoints);
    assert_holds_after_a_power_cut(world);
}

/// Goal: a root whose segments were used again since leads to all that is safe. Method: power cuts and kills after a few
/// writes each, most of them between two checkpoints; what is counted is held against a walk through the map.
#[test]
fn a_root_is_good_for_recovery_after_its_segments_were_used_again() {
    let mut reused = 0;
    for seed in 0..4 {
        let mut world = World::new(seed, 24, rare_checkpoints());
        let mut rng = Rng(seed + 77);
        for round in 0..4 {
            world = overwrite_in(world, 400 + rng.below(200), 8, |_| ());
            reused += world.shard.reuse.count;
            world.crash(round % 3 != 0);
            assert!(world.failed.is_none(), "seed {seed}: {:?}", world.failed);
            assert!(world.errors.is_empty(), "seed {seed}: {:?}", world.errors.first());
        }
    }
    println!("{reused} segments used again");
    assert!(reused > 50, "{reused}");
}

/// What is known of the segments that are on their way to be used again.
#[derive(Default)]
struct Watch {
    /// How things stood after the step before: batches and reads begun, segments used again, checkpoints that ended, and
    /// whether none was under way.
    batches: u64,
    reads: u64,
    reused: u64,
    checkpoints: u64,
    is_settled: bool,
    segments: BTreeMap<SegmentId, Segment>,
    /// Of those that are empty, with their generations: the last batch that was begun before.
    empty: BTreeMap<(SegmentId, u64), u64>,
    /// Of those that were let go of: the batch that must be safe, and the read before which all must have ended.
    leaving: BTreeMap<SegmentId, (u64, u64)>,
    let_go: u64,
}

impl Watch {
    /// Holds what a step has done against the rules.
    fn look(&mut self, world: &World) {
        let shard = &world.shard;
        let (is_settled, checkpoints) = (shard.is_root_settled(), shard.stats().checkpoints);
        let reused = shard.reuse.count;
        if !self.is_settled && !is_settled && checkpoints == self.checkpoints {
            assert_eq!(reused, self.reused, "used again while a checkpoint was under way");
        }
        for (id, now) in shard.space.iter() {
            if now.state == State::Sealed {
                if now.live_bytes == 0 {
                    self.empty.entry((id, now.generation)).or_insert(self.batches);
                }
                continue;
            }
            let sealed = self.segments.get(&id).filter(|before| before.state == State::Sealed);
            if let (Some(before), true) = (sealed, is_settled && reused > self.reused) {
                let batch = self.empty.remove(&(id, before.generation)).unwrap_or(self.batches);
                assert!(batch < shard.log.settled.sequence, "records of its time are not in the map");
                let replay = shard.checkpoint.replay_sequence().unwrap();
                assert!(before.last < replay, "replay begins in it or before");
                self.leaving.insert(id, (batch, self.reads));
                self.let_go += 1;
            }
            if now.state != State::Condemned
                && let Some((batch, read)) = self.leaving.remove(&id)
            {
                assert!(batch <= shard.flush.flushed, "what emptied it is not safe");
                assert!(read <= shard.reads.oldest_ticket(), "it is being read");
            }
        }
        self.batches = shard.log.head.sequence - 1;
        self.reads = shard.reads.next_ticket();
        self.segments = shard.space.iter().map(|(id, segment)| (id, *segment)).collect();
        (self.reused, self.checkpoints, self.is_settled) = (reused, checkpoints, is_settled);
    }
}

/// Goal: no recovery and no read needs what is used again. Method: every step is held against each rule of it alone.
#[test]
fn segments_are_used_again_once_nobody_needs_them() {
    let mut let_go = 0;
    for seed in 0..6 {
        let options = ShardOptions { batch_bytes_min: 4096, ..small_options() };
        let mut world = World::new(seed, 24, options);
        world.tells_space = true;
        world.disk.slow_reads = seed % 2 == 1;
        let mut rng = Rng(seed + 3);
        let mut watch = Watch::default();
        for _ in 0..2_000 {
            let block = rng.below(BLOCKS) * 8;
            match rng.below(4) {
                0 => world.read(1, block, block + 8),
                _ => drop(world.write(1, block, block + 8, false)),
            }
            while world.issued.len() > 12 {
                world.step();
                watch.look(&world);
            }
        }
        assert!(world.drain(), "{:?}", world.errors);
        assert!(world.errors.is_empty(), "seed {seed}: {:?}", world.errors.first());
        let_go += watch.let_go;
    }
    println!("{let_go} segments used again");
    assert!(let_go > 100, "{let_go}");
}

/// Goal: what was cut off is given back by and by, which is in no record, so replay may be later with it than the shard was.
#[test]
fn nothing_is_used_again_under_a_root_once_something_was_cut_off() {
    let mut world = overwrite(rare_checkpoints(), 3_000, 8, |_| ());
    let state = |world: &World| (world.shard.map.cuts_begun(), world.shard.stats().checkpoints);
    let (mut last, mut count, mut looked, mut reused) = (state(&world), world.shard.reuse.count, 0, 0);
    let mut rng = Rng(5);
    for round in 0..4_000 {
        if round % 500 == 0 {
            let leaf = rng.below(BLOCKS / 64) * 512;
            world.zero(1, leaf, leaf + 512, Op::Deallocate);
        }
        let block = rng.below(BLOCKS);
        world.write(1, block * 8, block * 8 + 8, false);
        while world.issued.len() > 8 {
            world.step();
            let is = state(&world);
            if is != last {
                reused += world.shard.reuse.count - count;
                (last, count) = (is, world.shard.reuse.count);
            }
            if world.shard.reuse.cuts.is_some_and(|cuts| cuts != is.0) {
                looked += 1;
                assert_eq!(world.shard.reuse.count, count, "round {round}");
            }
        }
    }
    assert!(world.drain(), "{:?}", world.errors);
    println!("looked {looked} times, {reused} segments used again at other times");
    assert!(looked > 100 && reused > 100, "{looked}, {reused}");
    assert_holds_after_a_power_cut(world);
}

/// Goal: room that a shard had made for itself is there after a crash, too, so that a checkpoint finds what was kept for it.
#[test]
fn what_was_free_without_a_checkpoint_is_free_after_recovery() {
    let mut world = overwrite(rare_checkpoints(), 3_000, 8, |_| ());
    let mut rng = Rng(5);
    let mut reused = 0;
    for _ in 0..16 {
        world = overwrite_in(world, 200 + rng.below(200), 8, |_| ());
        // What a cut leaves to be given back does not matter to what was free before.
        world.zero(1, 0, 1024, Op::Deallocate);
        assert!(world.drain());
        let granted = world.shard.space.granted;
        let free = world.shard.space.free_count() as u64;
        world.crash(false);
        assert!(world.errors.is_empty(), "{:?}", world.errors.first());
        world.step();
        let is = world.shard.space.free_count() as u64;
        assert!(is + granted >= free, "{free} were free, {is} are, {granted} were granted");
        if world.shard.stats().checkpoints == 0 {
            reused += world.shard.reuse.count;
        }
    }
    println!("{reused} segments used again by recovery itself");
    assert!(reused > 10, "{reused}");
    assert_holds_after_a_power_cut(world);
}

/// Goal: what is given back while a manifest is made may be given back in another order at replay.
#[test]
fn a_root_that_was_made_while_something_was_given_back_is_not_exact() {
    let mut world = overwrite(rare_checkpoints(), 500, 8, |_| ());
    world.zero(1, 0, BLOCKS * 8, Op::Deallocate);
    while !world.shard.map.is_dropping() {
        world.step();
    }
    world.shard.begin_reuse();
    assert_eq!(world.shard.reuse.cuts, None);
    world.shard.resume_reuse();
    assert_eq!(world.shard.reuse.cuts, None);
    while world.shard.map.is_dropping() {
        world.step();
    }
    world.shard.begin_reuse();
    assert_eq!(world.shard.reuse.cuts, Some(1));
}

/// Goal: a record that did less than it may do at replay ends it for as long as a replay may meet the record, which is until
/// the second manifest at the latest.
#[test]
fn nothing_is_used_again_until_replay_cannot_meet_a_record_that_did_less() {
    let mut world = overwrite(rare_checkpoints(), 3_000, 8, |_| ());
    for _ in 0..3 {
        world.shard.reuse.on_inexact();
        let (count, checkpoints) = (world.shard.reuse.count, world.shard.stats().checkpoints);
        let (mut waited, mut after) = (0, 0);
        world = overwrite_in(world, 1_500, 8, |world| {
            let made = world.shard.stats().checkpoints - checkpoints;
            if made < 2 && world.shard.is_root_settled() {
                waited += 1;
                assert_eq!(world.shard.reuse.count, count);
            }
            after = world.shard.reuse.count - count;
        });
        println!("waited for {waited} steps, used {after} segments again then");
        assert!(waited > 0 && after > 0);
    }
}

/// Goal: replay does not meet a move that did less than it may do there while it counts nothing, because the manifest has
/// counted what the move did.
#[test]
fn a_checkpoint_replays_from_behind_a_move_that_did_less() {
    let mut world = overwrite(rare_checkpoints(), 3_000, 8, |_| ());
    let mut rng = Rng(5);
    let (mut marked, mut seen) = (None, 0);
    for _ in 0..20_000 {
        while world.issued.len() < 8 {
            let block = rng.below(BLOCKS);
            world.write(1, block * 8, block * 8 + 8, false);
        }
        world.step();
        let checkpoints = world.shard.stats().checkpoints;
        if let Some((batch, _)) = marked.take_if(|(_, before)| checkpoints > *before) {
            let replay = world.shard.checkpoint.replay_sequence();
            assert!(replay > Some(batch), "replay from {replay:?} meets batch {batch}");
            seen += 1;
        }
        // The batch that is applied next, anew with each step up to the one in which a checkpoint begins.
        if world.shard.is_root_settled() {
            let batch = world.shard.log.applied + 1;
            world.shard.checkpoint.on_inexact(batch);
            marked = Some((batch, checkpoints));
        }
    }
    println!("{seen} checkpoints");
    assert!(seen > 50);
    assert!(world.drain(), "{:?}", world.errors);
    assert_holds_after_a_power_cut(world);
}

/// Goal: who stops ends what was submitted, also where writes wait for the room that segments to be used again would give.
#[test]
fn a_stop_with_writes_that_wait_for_room_ends() {
    let mut stopped = 0;
    for seed in 0..24 {
        let mut world = World::new(seed, 24, rare_checkpoints());
        world.tells_space = true;
        let mut rng = Rng(seed + 5);
        for number in 0.. {
            let block = rng.below(BLOCKS * 5 / 4);
            world.write(1, block * 8, block * 8 + 8, false);
            while world.issued.len() > 16 {
                world.step();
            }
            let waits = world.shard.order.waiting == Some(Class::Host);
            stopped += u64::from(waits);
            if number > 1_500 && waits || number > 4_000 {
                break;
            }
        }
        assert!(world.stop(), "seed {seed}: {:?}", world.errors);
        assert!(world.issued.is_empty(), "seed {seed}: {:?}", world.issued);
    }
    assert!(stopped > 0, "nothing ever waited");
}
