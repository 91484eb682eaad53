//! Forks, single claims: what an image holds, when its place in the order is fixed, what it refuses, what it costs.

use super::world::{World, fill, payload, small_options};
use crate::shard::{DiffLimits, Op, Outcome, Output, ShardOptions};
use crate::{ChangedLeaf, VolumeId};

/// Runs until the request with this tag is answered; gives the answer, and whether its fork was told of before.
pub(super) fn answer_of(world: &mut World, tag: u64) -> (Outcome, bool) {
    let mut forked = false;
    for _ in 0..10_000 {
        world.step_quietly();
        while let Some(output) = world.shard.poll_output() {
            match output {
                Output::Done { tag: found, outcome, .. } if found == tag => return (outcome, forked),
                Output::Forked { tag: found } => forked |= found == tag,
                other => world.take_output(other),
            }
        }
    }
    panic!("request {tag} is never answered");
}

pub(super) fn fork(world: &mut World, source: u64, image: u64, read_only: bool) -> Outcome {
    let tag = 1 << 40 | image;
    world.submit(tag, source, 0, 0, Op::Fork { image: VolumeId(image), read_only });
    let (outcome, forked) = answer_of(world, tag);
    assert_eq!(forked, outcome == Outcome::Ok, "the place in the order is told before the answer");
    outcome
}

fn sectors(value: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * 512];
    bytes.chunks_exact_mut(512).for_each(|sector| fill(sector, value));
    bytes
}

#[test]
fn a_write_after_a_snapshot_leaves_the_snapshot_as_it_was() {
    let mut world = World::new(1, 100, small_options());
    let before = world.write(1, 0, 16, false);
    assert!(world.drain());
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    let after = world.write(1, 0, 8, false);
    assert!(world.drain());
    for _ in 0..2 {
        assert_eq!(world.read_now(1, 0, 8), Some(sectors(after, 8)));
        assert_eq!(world.read_now(2, 0, 16), Some(sectors(before, 16)));
        assert_eq!(world.shard.mapped_bytes(VolumeId(2)), 8192);
        // And after a power cut, because a fork is answered once it is safe.
        world.flush();
        assert!(world.drain());
        world.crash(true);
        world.restart();
        world.settle_recovery();
    }
}

#[test]
fn a_read_only_image_takes_no_changes() {
    let mut world = World::new(1, 100, small_options());
    let value = world.write(1, 0, 8, false);
    assert!(world.drain());
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    let data = || payload(8, 99);
    let changes = [
        (4096, Op::Write { data: data(), fua: false }),
        (4096, Op::WriteZeroes { fua: true }),
        (4096, Op::Deallocate),
        (4096, Op::CompareAndWrite { compare: data(), write: data(), fua: false }),
        (0, Op::DropFrom),
    ];
    for (number, (len, op)) in (500..).zip(changes) {
        world.submit(number, 2, 0, len, op);
        assert_eq!(answer_of(&mut world, number), (Outcome::ReadOnly, false));
    }
    assert_eq!(world.read_now(2, 0, 8), Some(sectors(value, 8)));
    assert_eq!(world.shard.image(VolumeId(2)).map(|image| image.read_only), Some(true));
}

#[test]
fn a_partial_write_that_waits_is_in_the_fork_and_one_that_follows_is_not() {
    let mut world = World::new(1, 100, small_options());
    let whole = world.write(1, 0, 8, false);
    assert!(world.drain());
    let before = world.write(1, 0, 1, false);
    let tag = 1 << 40;
    world.submit(tag, 1, 0, 0, Op::Fork { image: VolumeId(2), read_only: true });
    let after = world.write(1, 1, 2, false);
    assert_eq!(answer_of(&mut world, tag), (Outcome::Ok, true));
    assert!(world.drain());
    let expected = |first: u64, second: u64| [sectors(first, 1), sectors(second, 1)].concat();
    assert_eq!(world.read_now(2, 0, 2), Some(expected(before, whole)));
    assert_eq!(world.read_now(1, 0, 2), Some(expected(before, after)));
}

/// Goal: an image holds what was written before its fork also where the fork came between the pages of a checkpoint. A
/// leaf that was logged before the write is older than the image, and replay would bring the write to the source alone.
/// While leaves are logged the image's own come last, so that such a fork must come among the pages above them.
#[test]
fn a_write_between_a_logged_leaf_and_a_fork_is_in_the_image_after_a_crash() {
    // A page above the leaves, and with it a leaf, for each block.
    const LEAF: u64 = 64 * 64 * 8;
    // More than are logged at a time.
    let leaves = 2000;
    let options = ShardOptions { batch_bytes_max: 32 << 10, checkpoint_bytes: 1 << 30, ..small_options() };
    let mut world = World::new(1, 800, options);
    for leaf in 0..leaves {
        world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
        while world.issued.len() > 8 {
            world.step();
        }
    }
    assert!(world.drain());
    let before = world.shard.stats();
    world.shard.options.checkpoint_bytes = 4096;
    while !world.shard.checkpoint.describe().contains("level: 1") {
        world.step();
    }
    world.shard.options.checkpoint_bytes = 1 << 30;
    let value = world.write(1, 0, 8, false);
    let tag = 1 << 40;
    world.submit(tag, 1, 0, 0, Op::Fork { image: VolumeId(2), read_only: true });
    let (mut between, mut is_answered) = (None, false);
    while !is_answered {
        world.step_quietly();
        if world.shard.image(VolumeId(2)).is_some() {
            between.get_or_insert(world.shard.checkpoint.is_logging_pages());
        }
        while let Some(output) = world.shard.poll_output() {
            match output {
                Output::Done { tag: found, .. } if found == tag => is_answered = true,
                other => world.take_output(other),
            }
        }
    }
    assert_eq!(between, Some(true), "the fork came between the pages");
    while world.shard.stats().checkpoints == before.checkpoints {
        world.step();
    }
    world.crash(false);
    assert_eq!(world.read_now(2, 0, 8), Some(sectors(value, 8)));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_dropped_snapshot_gives_back_what_it_alone_held() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 64, false);
    assert!(world.drain());
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    let live = world.shard.stats().live_bytes;
    world.write(1, 0, 24, false);
    assert!(world.drain());
    assert_eq!(world.shard.stats().live_bytes, live + 3 * 4096);
    world.submit(7777, 2, 0, 0, Op::DropVolume);
    assert_eq!(answer_of(&mut world, 7777).0, Outcome::Ok);
    assert_eq!(world.shard.stats().live_bytes, live);
    assert_eq!(world.shard.stats().mapped_bytes, 8 * 4096);
}

#[test]
fn an_image_whose_fork_found_no_room_can_be_dropped() {
    let mut world = World::new(1, 20, small_options());
    for block in 0..10_000 {
        if world.outcomes.contains_key(&Outcome::CapacityExceeded) {
            break;
        }
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    // Forks are smaller than writes: some may still fit.
    let refused = (2..100).find(|&image| fork(&mut world, 1, image, true) == Outcome::CapacityExceeded);
    let image = refused.expect("the pool is full at some time");
    world.submit(7777, image, 0, 0, Op::DropVolume);
    assert_eq!(answer_of(&mut world, 7777).0, Outcome::Ok);
    assert!(world.shard.image(VolumeId(image)).is_none());
}

#[test]
fn a_diff_names_the_blocks_that_were_written_since() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 64, false);
    assert!(world.drain());
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    world.write(1, 8, 24, false);
    world.write(1, 512 * 3, 512 * 3 + 8, false);
    assert!(world.drain());
    let limits = DiffLimits { pages: 64, leaves: 100 };
    let mut changed = Vec::new();
    let end = world.shard.diff(Some(VolumeId(2)), VolumeId(1), 0, limits, &mut changed);
    assert_eq!(end, Ok(crate::shard::DiffEnd::Nothing));
    assert_eq!(changed, [ChangedLeaf { leaf: 0, blocks: 0b110 }, ChangedLeaf { leaf: 3, blocks: 1 }]);
    assert!(world.shard.stats().diff_pages <= 6);
}
