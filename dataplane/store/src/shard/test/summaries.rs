//! Summaries that recovery reads before it has come to their segments.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{Rng, TestBuffer, TestDisk};
use super::world::{World, layout, small_options, step_disk};
use crate::checksum::crc32c;
use crate::map::Entry;
use crate::shard::{Output, Shard, ShardOptions};
use crate::{ShardId, VolumeId};

/// Blocks of the volume, and of each write.
const BLOCKS: u64 = 1024;
const WRITE: u64 = 8;

/// A process that was killed when it had written to many segments, with no checkpoint between.
fn killed() -> World {
    let options = ShardOptions { checkpoint_bytes: 1 << 30, ..small_options() };
    killed_after_writes(World::with_layout(layout(32, 512 << 10, 512), 1, options))
}

fn killed_after_writes(mut world: World) -> World {
    let mut rng = Rng(5);
    for _ in 0..340 {
        let first = rng.below(BLOCKS / WRITE) * WRITE;
        world.write(1, first * 8, (first + WRITE) * 8, false);
        while world.issued.len() > 6 {
            world.step();
        }
    }
    assert!(world.drain(), "{:?}", world.errors);
    world.disk.kill();
    world
}

/// What recovery makes of the drives, and how it comes to that.
#[derive(Debug)]
struct Recovered {
    entries: Vec<Entry>,
    batches: u64,
    of_summaries: u64,
    reads: u64,
    /// The most reads that were under way.
    together: usize,
}

fn recovered(world: &World, disk: TestDisk) -> Recovered {
    recovered_while(world, disk, |_, _| ())
}

/// As above; `change` changes the drives before each run.
fn recovered_while(
    world: &World,
    mut disk: TestDisk,
    mut change: impl FnMut(&Shard<TestBuffer>, &mut TestDisk),
) -> Recovered {
    let options = world.options.clone();
    let mut shard = Shard::recover(Arc::clone(&world.layout), ShardId(0), 3, options);
    let (mut now, mut together, before) = (world.now, 0, disk.reads);
    for _ in 0..100_000 {
        now = now + Duration::from_micros(100);
        step_disk(&mut disk, &mut shard);
        if let Some(output) = shard.poll_output() {
            assert!(matches!(output, Output::Ready { .. }), "{output:?}");
            shard.audit(|drive, offset, len| disk.content(drive, offset, len)).unwrap();
            let mut entries = Vec::new();
            shard.map.lookup(VolumeId(1), 0, u32::try_from(BLOCKS).unwrap(), &mut entries);
            let stats = shard.stats();
            let (batches, of_summaries) = (stats.replayed_batches, stats.summarized_batches);
            return Recovered { entries, batches, of_summaries, reads: disk.reads - before, together };
        }
        change(&shard, &mut disk);
        shard.run(&mut disk, now);
        together = together.max(disk.being_read());
    }
    panic!("recovery is stuck: {}", shard.describe());
}

/// Gives every summary on the drives other segments to name, in their numbers plus one.
fn rename(disk: &mut TestDisk, mut named: impl FnMut() -> u32) -> usize {
    disk.change_blocks(b"FeHEADS\n", |summary| {
        for offset in [28, 56, 60] {
            summary[offset..offset + 4].copy_from_slice(&named().to_le_bytes());
        }
        summary[12..16].fill(0);
        let len = u32::from_le_bytes(summary[16..20].try_into().unwrap()) as usize;
        let crc = crc32c(&summary[..len]);
        summary[12..16].copy_from_slice(&crc.to_le_bytes());
        true
    })
}

/// Goal: the drive has something to read while summaries are taken in, and what it reads is what comes next: those whom the
/// last summaries name before the log came there are all that is read in vain.
#[test]
fn summaries_of_what_comes_next_are_read_together() {
    let world = killed();
    let found = recovered(&world, world.disk.copy());
    println!("{} batches, {} of summaries, {} reads", found.batches, found.of_summaries, found.reads);
    assert!(found.of_summaries * 10 > found.batches * 8 && found.of_summaries > 100);
    assert_eq!(found.together, 4, "one that is waited for, and those of three segments after the next");
    let mut unnamed = world.disk.copy();
    rename(&mut unnamed, || 0);
    let alone = recovered(&world, unnamed);
    println!("{} reads where nothing is named, {} at once", alone.reads, alone.together);
    assert!(alone.together < 4 && found.reads <= alone.reads + 3, "{} for {}", found.reads, alone.reads);
}

/// Goal: a summary's word on where the log went is a hint. Method: the same log with others in its summaries, on drives that
/// end reads in any order, with memory refused now and then; recovery comes to the same each time.
#[test]
fn segments_that_are_named_wrongly_cost_reads_and_nothing_else() {
    let world = killed();
    let right = recovered(&world, world.disk.copy());
    let mut rng = Rng(7);
    for round in 0..60 {
        let mut disk = world.disk.copy();
        disk.rng = Rng(round);
        disk.refuse_percent = [0, 30][usize::try_from(round % 2).unwrap()];
        let most = [2, 40, 1 << 32][usize::try_from(round % 3).unwrap()];
        let changed = rename(&mut disk, || u32::try_from(rng.below(most)).unwrap());
        assert!(changed > 20, "{changed} summaries");
        let found = recovered(&world, disk);
        assert_eq!(found.entries, right.entries, "round {round}");
        assert_eq!((found.batches, found.of_summaries), (right.batches, right.of_summaries), "round {round}");
    }
}

/// Goal: what is read ahead takes no memory from what must be read. Method: a log whose replay needs leaves of the map at
/// once, and no memory as long as a summary is held that was read ahead.
#[test]
fn summaries_that_were_read_ahead_make_way_for_leaves() {
    let options = ShardOptions { checkpoint_bytes: 1 << 30, replay_ahead_bytes_max: 4096, ..small_options() };
    let mut world = World::with_layout(layout(32, 512 << 10, 512), 1, options);
    for first in (0..BLOCKS).step_by(64) {
        world.write(1, first * 8, first * 8 + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    assert!(world.stop());
    world.restart();
    world.settle_recovery();
    let world = killed_after_writes(world);
    let right = recovered(&world, world.disk.copy());
    let mut refused = 0;
    let found = recovered_while(&world, world.disk.copy(), |shard, disk| {
        let is_held = shard.recovery.as_ref().is_some_and(|recovery| recovery.holds_summaries());
        disk.refuse_percent = if is_held { 100 } else { 0 };
        refused += u32::from(is_held);
    });
    println!("no memory in {refused} runs, {} reads for {}", found.reads, right.reads);
    assert!(refused > 0);
    assert_eq!((found.entries, found.batches), (right.entries, right.batches));
}
