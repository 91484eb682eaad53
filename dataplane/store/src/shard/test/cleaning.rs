//! Cleaning, single claims: what it reads, and what goes into its batches.

use std::collections::{BTreeMap, BTreeSet};

use io::DriveId;

use super::disk::Rng;
use super::images::fork;
use super::reuse::rare_checkpoints;
use super::world::{World, small_options};
use crate::VolumeId;
use crate::record::{BatchHeader, Record};
use crate::shard::admit::Class;
use crate::shard::{Op, Outcome, ShardOptions};

/// Blocks that fill about half of a pool of twice 24 segments.
pub(super) const BLOCKS: u64 = 24 * 15;

/// A pool under random writes, `depth` of them under way, that is told how much it has free; `look` sees each step.
pub(super) fn overwrite(options: ShardOptions, writes: u64, depth: usize, look: impl FnMut(&World)) -> World {
    overwrite_in(World::new(9, 24, options), writes, depth, look)
}

pub(super) fn overwrite_in(
    mut world: World,
    writes: u64,
    depth: usize,
    mut look: impl FnMut(&World),
) -> World {
    world.tells_space = true;
    let mut rng = Rng(4);
    for _ in 0..writes {
        let block = rng.below(BLOCKS);
        world.write(1, block * 8, block * 8 + 8, false);
        while world.issued.len() > depth {
            world.step();
            look(&world);
        }
    }
    assert!(world.drain(), "{:?}", world.errors);
    assert_eq!(world.outcomes.get(&Outcome::CapacityExceeded), None);
    world
}

pub(super) fn assert_holds_after_a_power_cut(mut world: World) {
    world.crash(true);
    assert!(world.failed.is_none(), "{:?}", world.failed);
    assert!(world.errors.is_empty(), "{:?}", world.errors.first());
}

#[test]
fn a_victim_is_read_in_stretches_and_not_batch_by_batch() {
    let world = overwrite(small_options(), 8_000, 8, |_| ());
    let (reads, cleaned) = (world.disk.reads, world.shard.stats().cleaned_segments);
    println!("{reads} reads for {cleaned} segments");
    assert!(cleaned > 100, "{cleaned}");
    // Stretches are longer than these segments; few victims are so empty that they are read batch by batch.
    assert!(reads < 3 * cleaned, "{reads} reads for {cleaned} segments");
    assert_holds_after_a_power_cut(world);
}

#[test]
fn reads_that_end_leave_nothing_behind() {
    let world = overwrite(small_options(), 8_000, 8, |_| ());
    let (reads, kept) = (world.disk.reads, world.shard.reads.spare.len());
    println!("{kept} vectors are kept after {reads} reads");
    assert!(reads > 100, "{reads}");
    // As many as there were reads of hosts under way at a time.
    assert!(kept <= 8, "{kept} vectors are kept after {reads} reads");
}

/// How many batches of a pool under random writes hold moves, and how many of them a single one and nothing else, if reads
/// of more than `most` bytes bring wrong bits.
fn batches_of_moves(most: Option<u32>) -> (usize, usize) {
    let mut seen = BTreeMap::new();
    let mut world = World::new(9, 24, small_options());
    world.disk.flip_reads_over = most;
    let mut world = overwrite_in(world, 4_000, 8, |world| {
        let batches = world.disk.being_written().filter_map(contents);
        let of_moves = batches.filter(|&(_, _, moved)| moved > 0);
        seen.extend(of_moves.map(|(sequence, requested, moved)| (sequence, requested + moved)));
    });
    let single = seen.values().filter(|&&bytes| bytes == 4096).count();
    println!("{} batches of moves, {single} of a single one", seen.len());
    assert!(seen.len() > 100, "{}", seen.len());
    world.disk.flip_reads_over = None;
    assert_holds_after_a_power_cut(world);
    (seen.len(), single)
}

/// Goal: moves that are logged one by one take twice the room that cleaning has counted on, and so what deallocation and
/// the cleaning of an emergency live on. Nothing that a drive does makes them so.
#[test]
fn a_stretch_that_comes_wrong_does_not_make_blocks_be_moved_one_by_one() {
    let (all, single) = batches_of_moves(Some(32 << 10));
    assert!(single * 5 < all, "{single} of {all}");
}

#[test]
fn blocks_that_are_read_one_by_one_are_moved_together() {
    let (all, single) = batches_of_moves(Some(4096));
    assert!(single * 5 < all, "{single} of {all}");
}

/// Goal: what waits for room does not make a checkpoint take it that gives nothing, while a victim is being emptied.
#[test]
fn a_victim_of_an_emergency_is_emptied_before_the_checkpoint_that_frees_it() {
    let mut seen = 0;
    for seed in 0..16 {
        let mut world = World::new(seed, 6, small_options());
        let mut rng = Rng(seed + 1);
        for _ in 0..1_500 {
            let block = rng.below(BLOCKS / 2);
            if rng.below(5) == 0 {
                world.zero(1, block * 8 + 1, block * 8 + 15, Op::WriteZeroes { fua: false });
            } else {
                world.write(1, block * 8, block * 8 + 8, false);
            }
            while world.issued.len() > 8 {
                world.step();
                let shard = &world.shard;
                let is_due = shard.log.since_root_bytes >= world.options.checkpoint_bytes;
                let is_emptying = !shard.cleaner.is_idle() && !shard.cleaner.lacks_room;
                if shard.order.waiting == Some(Class::Unmap) && is_emptying && !is_due {
                    seen += 1;
                    assert!(shard.space.reclaimable() > 0 || !shard.wants_checkpoint());
                }
            }
        }
        assert!(world.drain(), "{:?}", world.errors);
    }
    println!("seen {seen} times");
    assert!(seen > 100, "{seen}");
}

/// Goal: a batch that holds moves holds requests only if they would have had a batch by themselves, ends of segments and
/// want of room apart.
#[test]
fn moves_take_no_few_requests_along() {
    let mut seen = BTreeSet::new();
    let (mut few, mut alone) = (0, 0);
    let least = small_options().batch_bytes_min;
    let world = overwrite(small_options(), 8_000, 8, |world| {
        let batches: Vec<(u64, u32, u32)> = world.disk.being_written().filter_map(contents).collect();
        for &(sequence, requested, moved) in &batches {
            if moved == 0 || !seen.insert(sequence) {
                continue;
            }
            let earlier = batches.iter().any(|&(other, requested, _)| other < sequence && requested > 0);
            few += u64::from(requested > 0 && requested < least && earlier);
            alone += u64::from(requested == 0);
        }
    });
    println!("{few} batches of moves with a few requests, {alone} without");
    assert!(alone > 100 && few * 10 < alone, "{few} with a few requests, {alone} without");
    assert_holds_after_a_power_cut(world);
}

/// Its sequence, and the bytes of blocks of requests and of moves in it, if this is a batch.
fn contents(bytes: &[u8]) -> Option<(u64, u32, u32)> {
    let header = BatchHeader::peek(bytes).ok()?;
    let (mut requested, mut moved) = (0, 0);
    for record in header.records(bytes).flatten() {
        match record {
            Record::Write { forms, .. } => requested += u32::try_from(forms.count()).unwrap() * 4096,
            Record::Move { moved: blocks, .. } => {
                moved += u32::try_from(blocks.iter().count()).unwrap() * 4096
            }
            _ => {}
        }
    }
    Some((header.sequence, requested, moved))
}

#[test]
fn a_shard_that_was_refused_asks_again_as_soon_as_the_pool_has_some() {
    let mut world = World::new(3, 20, small_options());
    let taken = world.free.split_off(&crate::SegmentId(3));
    let mut block = 0;
    while !world.shard.space.is_starved() {
        world.write(1, block * 8, block * 8 + 8, false);
        block += 1;
        for _ in 0..10 {
            world.step();
        }
        assert!(block < 1_000, "the pool never ends");
    }
    let total = world.layout.segments();
    let owned = world.shard.space.owned();
    world.free = taken;
    // No more time passes than the steps take: far less than the wait for a retry.
    let began = world.now;
    world.options.retry = std::time::Duration::from_secs(3600);
    world.shard.options.retry = world.options.retry;
    world.shard.space.want = super::super::space::Want::Refused(began + world.options.retry);
    world.shard.handle_pool_space(0, total);
    world.step();
    assert_eq!(world.shard.space.owned(), owned);
    world.shard.handle_pool_space(u32::try_from(world.free.len()).unwrap(), total);
    for _ in 0..3 {
        world.step();
    }
    assert!(world.shard.space.owned() > owned);
}

/// A pool that is being cleaned, with nothing under way; and one with room.
fn cleaned_and_fresh() -> [World; 2] {
    let mut cleaned = overwrite(small_options(), 4_000, 8, |_| ());
    for _ in 0..1_000 {
        cleaned.step();
    }
    assert!(cleaned.shard.cleans() && cleaned.shard.cleaner.is_idle());
    let mut fresh = World::new(9, 24, small_options());
    fresh.write(1, 0, 8, false);
    assert!(fresh.drain());
    [cleaned, fresh]
}

/// Sequences of the batches under way that hold something of requests, with the blocks of these.
fn batches_of_requests(world: &World) -> BTreeMap<u64, u32> {
    let batches = world.disk.being_written().filter_map(contents);
    batches
        .filter(|&(_, requested, _)| requested > 0)
        .map(|(sequence, requested, _)| (sequence, requested / 4096))
        .collect()
}

/// Submits single blocks, one after another, while the first is being written; gives the batches that all of them took.
fn batches_of_single_blocks(world: &mut World, blocks: u64) -> BTreeMap<u64, u32> {
    let mut seen = BTreeMap::new();
    for block in 0..blocks {
        world.write(1, block * 8, block * 8 + 8, false);
        world.shard.run(&mut world.disk, world.now);
        seen.append(&mut batches_of_requests(world));
    }
    while !world.issued.is_empty() {
        world.step();
        seen.append(&mut batches_of_requests(world));
    }
    assert_eq!(seen.values().map(|&count| u64::from(count)).sum::<u64>(), blocks);
    seen
}

#[test]
fn while_a_pool_is_cleaned_all_that_came_during_a_batch_shares_the_next() {
    let [mut cleaned, mut fresh] = cleaned_and_fresh();
    let sizes = |seen: BTreeMap<u64, u32>| seen.into_values().collect::<Vec<u32>>();
    assert_eq!(sizes(batches_of_single_blocks(&mut cleaned, 4)), [1, 3]);
    // Where nothing is cleaned a header is cheaper than to wait.
    assert_eq!(sizes(batches_of_single_blocks(&mut fresh, 4)), [1, 1, 1, 1]);
}

#[test]
fn while_a_pool_is_cleaned_a_batch_waits_for_those_who_were_just_answered() {
    let [mut world, _] = cleaned_and_fresh();
    // It may have been in vain before.
    for block in 0..128 {
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    let sizes = |world: &World| batches_of_requests(world).into_values().collect::<Vec<u32>>();
    let submit = |world: &mut World, block: u64| {
        world.write(1, block * 8, block * 8 + 8, false);
        world.shard.run(&mut world.disk, world.now);
    };
    submit(&mut world, 0);
    submit(&mut world, 1);
    while world.issued.len() == 2 {
        world.step();
    }
    assert_eq!(sizes(&world), []);
    submit(&mut world, 2);
    assert_eq!(sizes(&world), [2]);
    submit(&mut world, 3);
    while world.issued.len() == 3 {
        world.step();
    }
    // Nobody comes this time.
    world.now = world.shard.poll_timeout().expect("a batch that waits has a deadline");
    world.shard.run(&mut world.disk, world.now);
    assert_eq!(sizes(&world), [1]);
    assert!(world.drain(), "{:?}", world.errors);
}

#[test]
fn waiting_for_those_who_do_not_come_is_given_up() {
    let [mut world, _] = cleaned_and_fresh();
    let mut waits = 0;
    for _ in 0..200 {
        for block in 0..2 {
            world.write(1, block * 8, block * 8 + 8, false);
            world.shard.run(&mut world.disk, world.now);
        }
        while world.issued.len() == 2 {
            world.step();
        }
        waits += u64::from(batches_of_requests(&world).is_empty() && !world.issued.is_empty());
        assert!(world.drain(), "{:?}", world.errors);
    }
    println!("{waits} waits");
    assert!((1..20).contains(&waits), "{waits}");
}

/// Goal: requests and moves share headers, unless moves alone make the room that requests are about to lack.
#[test]
fn moves_go_with_requests_while_there_is_room() {
    let mut seen = BTreeSet::new();
    let (mut alone, mut together) = (0, 0);
    let world = overwrite(small_options(), 8_000, 8, |world| {
        for (sequence, requested, moved) in world.disk.being_written().filter_map(contents) {
            if moved > 0 && seen.insert(sequence) {
                alone += u64::from(requested == 0 && world.shard.moves_ride());
                together += u64::from(requested > 0);
            }
        }
    });
    println!("{together} batches of moves with requests, {alone} without while there was room");
    assert!(together > 100 && alone * 10 < together, "{together} with requests, {alone} without");
    assert_holds_after_a_power_cut(world);
}

/// Where the pages of a lineage and a level are that the log has, all versions of them: index, drive and offset.
pub(super) fn pages_of(world: &World, lineage: VolumeId, level: u8) -> Vec<(u64, usize, usize)> {
    let mut places = Vec::new();
    for (drive, shape) in (0..).zip(world.layout.drives()) {
        let bytes = world.disk.content(DriveId(drive), 0, usize::try_from(shape.size_bytes).unwrap());
        for at in (0..bytes.len()).step_by(4096) {
            let Ok(header) = BatchHeader::peek(&bytes[at..]) else { continue };
            places.extend(header.records(&bytes[at..]).flatten().filter_map(|record| match record {
                Record::Page { lineage: of, level: at_level, index, payload, .. }
                    if (of, at_level) == (lineage, level) =>
                {
                    Some((index, usize::from(drive), at + payload as usize))
                }
                _ => None,
            }));
        }
    }
    places
}

/// A byte of each leaf of a lineage.
pub(super) fn leaves_of(world: &World, lineage: VolumeId) -> Vec<(usize, usize)> {
    let leaves = pages_of(world, lineage, 0);
    leaves.into_iter().map(|(_, drive, offset)| (drive, offset + 20)).collect()
}

/// Goal: a block that replay might not be able to move is not moved. Method: leaves that only a snapshot has rot, and the
/// segments of what they share with the volume are cleaned; the process dies again and again.
#[test]
fn what_a_leaf_that_cannot_be_read_may_name_is_not_moved() {
    const LEAVES: u64 = 60;
    let options = ShardOptions { map_bytes_max: 8 << 10, ..rare_checkpoints() };
    let mut world = World::new(31, 24, options);
    world.tells_space = true;
    let leaf = |number: u64, block: u64| (number * 64 + block) * 8;
    for number in 0..LEAVES {
        for block in 0..2 {
            world.write(1, leaf(number, block), leaf(number, block) + 8, false);
            // What is overwritten later, so that there is something to clean.
            world.write(3, (number * 2 + block) * 8, (number * 2 + block) * 8 + 8, false);
        }
        assert!(world.drain());
    }
    // The snapshot keeps the leaves that are written here, the volume gets others.
    assert!(world.stop());
    world.restart();
    world.settle_recovery();
    let leaves = leaves_of(&world, VolumeId(1));
    assert_eq!(fork(&mut world, 1, 2, true), Outcome::Ok);
    for number in 0..LEAVES {
        world.write(1, leaf(number, 1), leaf(number, 1) + 8, false);
        assert!(world.drain());
    }
    assert!(world.stop());
    for place in leaves {
        world.disk.flip(place, 0x10);
    }
    world.restart();
    world.settle_recovery();
    let mut rng = Rng(8);
    let mut cleaned = 0;
    for _ in 0..30 {
        for _ in 0..60 {
            let block = rng.below(BLOCKS / 2);
            world.write(3, block * 8, block * 8 + 8, false);
            assert!(world.drain(), "{:?}", world.errors);
        }
        cleaned += world.shard.stats().cleaned_segments;
        world.disk.kill();
        world.restart();
        world.settle_recovery();
        assert!(world.ready, "{:?}", world.failed);
    }
    assert!(cleaned > 20, "{cleaned} segments were cleaned");
    for number in 0..LEAVES {
        assert!(world.read_now(1, leaf(number, 0), 8).is_some(), "{:?}", world.errors);
    }
}
