//! The map in less memory than it wants, single claims: what a miss costs, and that memory stays within its bound.

use std::time::Duration;

use super::cleaning::{leaves_of, pages_of};
use super::disk::Rng;
use super::images::fork;
use super::world::{World, small_options};
use crate::VolumeId;
use crate::shard::{Failure, Op, Outcome, ShardOptions};

/// Leaves of the volume, each with one block.
const LEAVES: u64 = 640;
/// Sectors that a leaf covers.
const LEAF: u64 = 64 * 8;
/// Bytes of a leaf in memory, and of what stays of it.
const CONTENT: u64 = 536;
const HEAD: u64 = 16;

/// A volume of many leaves, of which memory holds `share` in a hundred.
fn world(share: u64) -> World {
    let pages_above = LEAVES / 64 + 1;
    let map_bytes_max = (LEAVES + pages_above) * HEAD + (pages_above + LEAVES * share / 100) * CONTENT;
    let mut world = World::new(1, 200, ShardOptions { map_bytes_max, ..small_options() });
    for leaf in 0..LEAVES {
        world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
        while world.issued.len() > 8 {
            world.step();
        }
    }
    assert!(world.drain());
    // Whatever is dirty is written.
    for _ in 0..2000 {
        world.step();
    }
    world
}

#[test]
fn a_read_whose_leaf_is_not_in_memory_costs_one_more_read() {
    let mut world = world(10);
    let mut rng = Rng(7);
    let before = world.shard.stats();
    let reads = 2000;
    for _ in 0..reads {
        let leaf = rng.below(LEAVES);
        let misses = world.shard.stats().map_reads;
        world.read(1, leaf * LEAF, leaf * LEAF + 8);
        assert!(world.drain());
        assert!(world.shard.stats().map_reads <= misses + 1);
    }
    let stats = world.shard.stats();
    let misses = stats.map_reads - before.map_reads;
    println!("{misses} of {reads} reads missed, {} leaves left memory", stats.map_evictions);
    assert!((reads * 80 / 100..reads * 97 / 100).contains(&misses), "{misses} of {reads}");
    // A run of several leaves is one read.
    let before = stats.map_reads;
    world.read(1, 0, 2 * LEAF);
    assert!(world.drain());
    assert!(world.shard.stats().map_reads <= before + 1);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_map_that_fits_is_never_read() {
    let mut world = world(110);
    let mut rng = Rng(7);
    for _ in 0..500 {
        let leaf = rng.below(LEAVES);
        world.read(1, leaf * LEAF, leaf * LEAF + 8);
        assert!(world.drain());
    }
    let stats = world.shard.stats();
    assert_eq!((stats.map_reads, stats.map_misses, stats.map_evictions), (0, 0, 0));
}

/// Goal: writes far from each other, each of which misses, never make the map take more than its bound, a few batches
/// and what a checkpoint has to write apart.
#[test]
fn random_writes_do_not_outgrow_the_memory_of_the_map() {
    let mut world = world(10);
    let bound = world.options.map_bytes_max + (96 << 10);
    let mut rng = Rng(9);
    for _ in 0..3000 {
        let leaf = rng.below(LEAVES);
        world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
        while world.issued.len() > 16 {
            world.step();
            let bytes = world.shard.map_bytes_in_use();
            assert!(bytes <= bound, "{bytes} of {bound}");
        }
    }
    assert!(world.drain());
    world.crash(true);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

/// Goal: a start reads the pages above the leaves and the log's tail, not the map, and what was counted is there again.
#[test]
fn a_start_does_not_read_the_leaves() {
    let mut world = world(110);
    assert!(world.stop());
    let before = world.shard.stats();
    let written = world.shard.written_bytes(VolumeId(1));
    assert_eq!(written, LEAVES * 4096);
    world.crash(false);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
    let after = world.shard.stats();
    // All that was stored is there; that it was read just now has put the leaves into memory.
    assert_eq!((after.live_bytes, after.data_bytes), (before.live_bytes, before.data_bytes));
    assert_eq!(world.shard.written_bytes(VolumeId(1)), written);
    world.restart();
    world.settle_recovery();
    let stats = world.shard.stats();
    assert_eq!((stats.map_reads, stats.mapped_bytes), (0, LEAVES * 4096));
}

/// Goal: what was being given back at a crash is given back after it, and nothing twice. Method: a volume of many leaves
/// and a range of another are given up, a few pages a step, with checkpoints in between; a kill at every part of it.
#[test]
fn what_is_given_back_when_the_process_dies_is_given_back_afterwards() {
    for steps in (0..400).step_by(29) {
        let options = ShardOptions {
            drop_pages_per_run: 1,
            map_bytes_max: if steps % 2 == 0 { 0 } else { u64::MAX },
            checkpoint_bytes: 64 << 10,
            ..small_options()
        };
        let mut world = World::new(steps, 200, options);
        for leaf in 0..100 {
            world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
            world.write(2, leaf * LEAF, leaf * LEAF + 8, false);
            while world.issued.len() > 8 {
                world.step();
            }
        }
        assert!(world.drain());
        world.forget(1, 0, Op::DropVolume);
        world.zero(2, 5 * LEAF, 90 * LEAF + 4, Op::Deallocate);
        for step in 0..steps {
            if step % 40 == 0 {
                world.write(2, step * 8, step * 8 + 64, false);
            }
            world.step();
        }
        world.crash(false);
        assert!(world.errors.is_empty(), "{steps} steps: {:?}", world.errors);
        for _ in 0..2000 {
            world.step();
        }
        world.audit();
        let stats = world.shard.stats();
        assert_eq!(stats.data_bytes, stats.mapped_bytes, "{steps} steps: nothing but the volume is left");
        assert!(world.errors.is_empty(), "{steps} steps: {:?}", world.errors);
    }
}

#[test]
fn what_hosts_have_written_is_known_after_a_kill() {
    let mut world = World::new(1, 200, small_options());
    let volume = VolumeId(1);
    for round in 0..300 {
        world.write(1, round % 7 * 8, round % 7 * 8 + 16, false);
        assert!(world.drain());
    }
    let written = world.shard.written_bytes(volume);
    assert_eq!(written, 300 * 8192);
    assert!(world.shard.stats().checkpoints > 0);
    world.crash(false);
    // What was under way when the last checkpoint was made may be counted twice.
    let known = world.shard.written_bytes(volume);
    assert!((written..=written + 8192).contains(&known), "{known} of {written}");
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

/// A shard that has stopped, with a volume of two leaves; a try to read one takes longer than it counts as unreadable.
fn world_of_slow_reads() -> World {
    // A step takes 100 us.
    let mut world = World::new(1, 20, ShardOptions { retry: Duration::from_micros(50), ..small_options() });
    for leaf in 0..2 {
        world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
        assert!(world.drain());
    }
    assert!(world.stop());
    world
}

fn rot_leaves(world: &mut World) {
    for place in leaves_of(world, VolumeId(1)) {
        world.disk.flip(place, 0x10);
    }
}

#[test]
fn requests_that_need_a_leaf_that_is_slow_to_fail_are_answered() {
    let mut world = world_of_slow_reads();
    rot_leaves(&mut world);
    world.restart();
    world.settle_recovery();
    assert!(world.ready, "{:?}", world.failed);
    world.outcomes.clear();
    world.read(1, 0, 8);
    assert!(world.drain(), "{:?}", world.errors);
    world.write(1, LEAF + 8, LEAF + 16, false);
    assert!(world.drain(), "{:?}", world.errors);
    assert_eq!(world.outcomes.get(&Outcome::Unrecovered), Some(&2));
}

#[test]
fn a_start_that_needs_a_leaf_that_is_slow_to_fail_ends() {
    let mut world = world_of_slow_reads();
    world.restart();
    world.settle_recovery();
    world.write(1, 8, 16, true);
    assert!(world.drain(), "{:?}", world.errors);
    world.disk.kill();
    rot_leaves(&mut world);
    world.restart();
    world.settle_recovery();
    assert!(matches!(world.failed, Some(Failure::CheckpointDamaged { .. })), "{:?}", world.errors);
}

/// Leaves in the first and the last of three blocks that lie one after another, and the place of the one between.
fn leaves_around_a_block(world: &World) -> ([u64; 2], (usize, usize)) {
    let leaves = pages_of(world, VolumeId(1), 0);
    let blocks = leaves.iter().map(|&(leaf, drive, offset)| (leaf, (drive, offset / 4096 * 4096)));
    let found = blocks.clone().find_map(|(first, (drive, block))| {
        let mut last = blocks.clone().filter(|&(_, place)| place == (drive, block + 8192));
        last.next().map(|(last, _)| ([first, last], (drive, block + 4096)))
    });
    found.expect("the leaves of a checkpoint take several blocks")
}

/// A shard that has stopped, with leaves of one block each that one checkpoint has written.
fn world_of_close_leaves() -> World {
    let mut world = World::new(1, 40, ShardOptions { checkpoint_bytes: 1 << 30, ..small_options() });
    for leaf in 0..200 {
        world.write(1, leaf * LEAF, leaf * LEAF + 8, false);
        assert!(world.drain());
    }
    assert!(world.stop());
    world
}

#[test]
fn a_block_between_two_leaves_that_cannot_be_read_fails_neither() {
    let mut world = world_of_close_leaves();
    let (leaves, between) = leaves_around_a_block(&world);
    world.restart();
    world.settle_recovery();
    world.disk.unreadable = Some(between);
    for leaf in leaves {
        world.read(1, leaf * LEAF, leaf * LEAF + 8);
    }
    assert!(world.drain(), "{:?}", world.errors);
    assert!(world.shard.stats().read_errors > 0, "they were read together");
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_block_between_two_leaves_that_cannot_be_read_fails_no_start() {
    let mut world = world_of_close_leaves();
    let (leaves, between) = leaves_around_a_block(&world);
    world.restart();
    world.settle_recovery();
    for leaf in leaves {
        world.write(1, leaf * LEAF + 8, leaf * LEAF + 16, true);
    }
    assert!(world.drain(), "{:?}", world.errors);
    world.disk.kill();
    world.disk.unreadable = Some(between);
    world.restart();
    world.settle_recovery();
    assert!(world.ready, "{:?}", world.failed);
    assert!(world.shard.stats().read_errors > 0, "they were read together");
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

/// Goal: the same where pages above the leaves are read, and what two pages refer to stays one. Method: the pages of one
/// block are written again elsewhere, so that nothing needs that block any more; the others get a snapshot, and some new
/// pages above them.
#[test]
fn a_block_between_two_pages_above_the_leaves_that_cannot_be_read_fails_no_start() {
    // A page right above the leaves for each block.
    let sector = |page: u64| page * 64 * LEAF;
    let mut world = World::new(1, 40, ShardOptions { checkpoint_bytes: 1 << 30, ..small_options() });
    for page in 0..200 {
        world.write(1, sector(page), sector(page) + 8, false);
        assert!(world.drain());
    }
    assert!(world.stop());
    let pages: Vec<(u64, (usize, usize))> = pages_of(&world, VolumeId(1), 1)
        .into_iter()
        .map(|(page, drive, offset)| (page, (drive, offset / 4096 * 4096)))
        .collect();
    let has_pages = |drive, block| pages.iter().any(|&(_, place)| place == (drive, block));
    let mut blocks = pages.iter().map(|&(_, place)| place);
    let between = blocks.find(|&(drive, at)| has_pages(drive, at - 4096) && has_pages(drive, at + 4096));
    let between = between.expect("the pages of a checkpoint take several blocks");
    world.restart();
    world.settle_recovery();
    for &(page, _) in pages.iter().filter(|&&(_, place)| place == between) {
        world.write(1, sector(page), sector(page) + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    for page in [0, 64, 128, 192] {
        world.write(1, sector(page), sector(page) + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    assert!(world.stop());
    world.disk.unreadable = Some(between);
    world.restart();
    world.settle_recovery();
    assert!(world.ready, "{:?}", world.failed);
    world.audit();
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}
