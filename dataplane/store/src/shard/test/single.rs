//! Single claims, each with a world of its own.

use super::disk::Rng;
use super::world::{World, fill, payload, small_options};
use crate::VolumeId;
use crate::shard::{Doing, Failure, Op, Outcome, Output, Request};

/// Every error that the world has found, and that it can go on.
fn assert_good(world: &World) {
    assert!(world.errors.is_empty(), "{:#?}", world.errors);
    assert!(world.failed.is_none(), "{:?}", world.failed);
}

#[test]
fn large_writes_go_in_pairs_where_more_than_two_are_open() {
    let mut world = World::new(5, 40, small_options());
    let under_way = |world: &World| world.disk.being_written().count();
    // With these options a block is as large as a batch must be.
    let submit = |world: &mut World, number: u64| {
        world.write(1, number * 8, number * 8 + 8, false);
        world.shard.run(&mut world.disk, world.now);
    };
    submit(&mut world, 9);
    assert!(world.drain(), "{:?}", world.errors);
    (0..3).for_each(|number| submit(&mut world, number));
    assert_eq!(under_way(&world), 3, "nobody has had more than two open");
    submit(&mut world, 3);
    assert_eq!(under_way(&world), 3, "the fourth waits");
    submit(&mut world, 4);
    assert_eq!(under_way(&world), 4, "for the fifth");
    submit(&mut world, 5);
    assert_eq!(under_way(&world), 4);
    assert!(world.drain(), "the last goes when nothing else is under way: {:?}", world.errors);
    for round in 0..40 {
        submit(&mut world, 0);
        submit(&mut world, 1);
        let waits = under_way(&world) == 1;
        assert!(!waits || round < 32, "two that are always open wait for no third");
        assert!(world.drain(), "{:?}", world.errors);
    }
}

#[test]
fn a_lone_write_costs_two_blocks_of_the_device() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, false);
    assert!(world.drain());
    let (writes, bytes) = (world.disk.writes, world.disk.written_bytes);
    world.write(1, 8, 16, false);
    assert!(world.drain());
    assert_eq!(world.disk.writes - writes, 1);
    assert_eq!(world.disk.written_bytes - bytes, 8192);
}

#[test]
fn what_fits_into_a_batch_is_cut_by_the_end_of_a_segment_alone() {
    let options = crate::ShardOptions { batch_bytes_max: 32 << 10, ..small_options() };
    let mut world = World::new(1, 100, options);
    let ranges: Vec<(u64, u64)> = (0..40).map(|place| (place * 40, (place + 1) * 40)).collect();
    for &(first, end) in &ranges {
        world.write(1, first, end, false);
    }
    assert!(world.drain());
    let segments = world.disk.written_bytes / (56 << 10) + 1;
    let extents = world.disk.extents;
    for &(first, end) in &ranges {
        world.read(1, first, end);
        assert!(world.drain());
    }
    let extents = world.disk.extents - extents;
    assert!(extents <= ranges.len() as u64 + segments, "{extents} pieces in {segments} segments");
    assert_good(&world);
}

#[test]
fn zeros_are_not_stored() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 64, false);
    assert!(world.drain());
    assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 32768);
    world.change(1, 0, 64, 0, super::world::Kind::Write, Op::Write { data: payload(64, 0), fua: false });
    assert!(world.drain());
    assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 0);
    assert_eq!(world.shard.stats().zero_blocks, 8);
    assert_eq!(world.read_now(1, 0, 64).unwrap(), vec![0; 32768]);
}

#[test]
fn partial_writes_to_one_block_share_a_record() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, false);
    assert!(world.drain());
    let bytes = world.disk.written_bytes;
    for sector in 0..8 {
        world.write(1, sector, sector + 1, false);
    }
    assert!(world.drain());
    assert!(world.disk.written_bytes - bytes <= 2 * 8192, "{}", world.disk.written_bytes - bytes);
    let read = world.read_now(1, 0, 8).unwrap();
    for (at, sector) in read.chunks_exact(512).enumerate() {
        let mut expected = [0; 512];
        fill(&mut expected, 2 + at as u64);
        assert_eq!(sector, expected);
    }
    assert_good(&world);
}

#[test]
fn a_compare_that_differs_changes_nothing() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 16, false);
    assert!(world.drain());
    let before = world.read_now(1, 0, 16).unwrap();
    let op = Op::CompareAndWrite { compare: payload(4, 99), write: payload(4, 100), fua: false };
    world
        .shard
        .submit(Request { tag: 7000, volume: VolumeId(1), offset: 1024, len: 2048, compress: false, op })
        .unwrap();
    let compare = Op::Compare { data: payload(4, 1) };
    world
        .shard
        .submit(Request {
            tag: 7001,
            volume: VolumeId(1),
            offset: 512,
            len: 2048,
            compress: false,
            op: compare,
        })
        .unwrap();
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 2 {
        world.shard.run(&mut world.disk, world.now);
        while let Some(output) = world.shard.poll_output() {
            if let Output::Done { tag, outcome, .. } = output {
                outcomes.insert(tag, outcome);
            }
        }
        if let Some(super::disk::TestEvent::Read(token, buffer, result)) = world.disk.step() {
            world.shard.handle_read(token, buffer, result);
        }
    }
    assert_eq!(outcomes[&7000], Outcome::CompareFailed);
    assert_eq!(outcomes[&7001], Outcome::Ok);
    assert_eq!(world.read_now(1, 0, 16).unwrap(), before);
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    // A checkpoint is under way at some of these, with changes that it does not cover.
    for blocks in (132..262).step_by(7) {
        let mut world = World::new(5, 100, small_options());
        for block in 0..blocks {
            world.write(1 + block % 3, block * 8, block * 8 + 8, false);
            world.step();
        }
        assert!(world.drain());
        assert!(world.stop());
        world.disk.cut_power();
        world.restart();
        world.settle_recovery();
        // Pages, the manifest, and a seal where they met the end of a segment.
        let replayed = world.shard.stats().replayed_batches;
        assert!(replayed <= 3, "{replayed} batches after {blocks} blocks");
        for block in 0..blocks {
            let read = world.read_now(1 + block % 3, block * 8, 8).unwrap();
            assert!(read.iter().any(|&byte| byte != 0));
        }
        assert_good(&world);
    }
}

#[test]
fn a_full_pool_refuses_and_recovers_when_space_returns() {
    let mut world = World::new(3, 20, small_options());
    let mut block = 0;
    while world.outcomes.get(&Outcome::CapacityExceeded).copied().unwrap_or(0) < 20 {
        world.write(1, block * 64, block * 64 + 64, false);
        block += 1;
        assert!(block < 10_000, "a pool of 40 segments is never full");
        assert!(world.drain(), "{:?}", world.errors);
    }
    let held = world.shard.stats().live_bytes;
    assert!(held > 40 * 65536 / 2, "only {held} bytes fit");
    // Deallocation works on the full pool, and afterwards so do writes.
    for at in 0..block {
        if at % 2 == 0 {
            world.zero(1, at * 64, at * 64 + 64, Op::Deallocate);
            assert!(world.drain(), "{:?}", world.errors);
        }
    }
    world.outcomes.clear();
    for at in 0..block / 4 {
        world.write(2, at * 64, at * 64 + 64, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    assert_eq!(world.outcomes.get(&Outcome::CapacityExceeded), None);
    assert_good(&world);
    world.crash(false);
    assert_good(&world);
}

#[test]
fn a_pool_runs_for_ever_at_half_its_size() {
    let mut world = World::new(9, 24, small_options());
    let mut rng = Rng(4);
    let blocks = 24 * 15;
    for _ in 0..12_000 {
        let block = rng.below(blocks);
        world.write(1, block * 8, block * 8 + 8, false);
        while world.issued.len() > 8 {
            world.step();
        }
    }
    assert!(world.drain(), "{:?}", world.errors);
    let stats = world.shard.stats();
    assert_eq!(world.outcomes.get(&Outcome::CapacityExceeded), None);
    assert!(stats.cleaned_segments > 20, "{stats:?}");
    world.crash(true);
    assert_good(&world);
}

#[test]
fn dropping_a_volume_gives_all_its_space_back() {
    let mut world = World::new(11, 60, small_options());
    for block in 0..300 {
        world.write(1, block * 800, block * 800 + 8, false);
        world.write(2, block * 8, block * 8 + 8, false);
        assert!(world.drain());
    }
    world.forget(1, 0, Op::DropVolume);
    assert!(world.drain());
    assert_eq!(world.shard.stats().mapped_bytes, 300 * 4096);
    assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 0);
    let live = world.shard.stats().live_bytes;
    assert!(live <= 300 * 4096 + 200 * 1024, "{live} bytes are live");
    world.crash(false);
    assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 0);
    assert_good(&world);
}

#[test]
fn rotten_data_is_never_returned() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, false);
    world.write(1, 8, 16, false);
    assert!(world.drain());
    let mut first = [0; 512];
    fill(&mut first, 1);
    assert_eq!(world.disk.rot(&first), 1);
    assert!(world.read_now(1, 0, 8).is_none());
    assert_eq!(world.errors.len(), 1);
    assert!(world.errors[0].contains("Unrecovered"), "{}", world.errors[0]);
    assert_eq!(world.shard.stats().checksum_errors, 1);
    assert_eq!(world.shard.checksum_errors().collect::<Vec<_>>(), [(io::DriveId(0), 1)]);
    assert!(world.read_now(1, 8, 8).is_some());
}

#[cfg(feature = "planted")]
#[test]
fn skipped_checksums_are_caught_by_rotten_data() {
    let planted = Some(crate::shard::Planted::SkipChecksums);
    let mut world = World::new(1, 100, crate::ShardOptions { planted, ..small_options() });
    world.write(1, 0, 8, false);
    assert!(world.drain());
    let good = world.read_now(1, 0, 8).unwrap();
    let mut first = [0; 512];
    fill(&mut first, 1);
    assert_eq!(world.disk.rot(&first), 1);
    assert_ne!(world.read_now(1, 0, 8).unwrap(), good);
}

#[test]
fn a_failed_log_write_or_flush_stops_the_shard() {
    for flush in [false, true] {
        let mut world = World::new(1, 100, small_options());
        world.write(1, 0, 8, false);
        assert!(world.drain());
        world.write(1, 8, 16, false);
        if flush {
            assert!(world.drain());
            world.flush();
            world.disk.fail_flush = true;
        } else {
            world.disk.fail_write = true;
        }
        while world.failed.is_none() {
            world.step();
        }
        assert!(world.drain());
        let doing = if flush { Doing::Flush } else { Doing::WriteLog };
        assert!(matches!(world.failed, Some(Failure::Disk { doing: what, .. }) if what == doing));
        assert_eq!(world.outcomes[&Outcome::Failed], 1);
        world.write(1, 0, 8, false);
        world.step();
        assert_eq!(world.outcomes[&Outcome::Failed], 2);
    }
}

#[test]
fn a_flush_of_what_is_safe_is_answered_at_once() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, true);
    assert!(world.drain());
    let flushes = world.shard.stats().flushes;
    world.flush();
    world.shard.run(&mut world.disk, world.now);
    assert!(matches!(world.shard.poll_output(), Some(Output::Done { outcome: Outcome::Ok, .. })));
    assert_eq!(world.shard.stats().flushes, flushes);
}

#[test]
fn a_host_that_flushes_after_each_write_is_not_waited_for() {
    let mut world = World::new(1, 100, small_options());
    let write = |world: &mut World| {
        world.write(1, 0, 8, false);
        assert!(world.drain());
        world.shard.run(&mut world.disk, world.now);
        world.shard.stats().flushes
    };
    for _ in 0..4 {
        let before = world.shard.stats().flushes;
        assert_eq!(write(&mut world), before, "nobody has asked yet");
        world.flush();
        assert!(world.drain());
    }
    let before = world.shard.stats().flushes;
    assert_eq!(write(&mut world), before + 1, "the flush is begun before it is asked for");
    world.flush();
    assert!(world.drain());
    assert_eq!(world.shard.stats().flushes, before + 1, "and it was the one");
    write(&mut world);
    let once_more = write(&mut world);
    for _ in 0..5 {
        assert_eq!(write(&mut world), once_more, "the host has given it up");
    }
    assert_good(&world);
}

#[test]
fn a_flush_for_somebody_else_makes_writes_safe_without_another() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, false);
    assert!(world.drain());
    let flushes = world.shard.stats().flushes;
    world.shard.join_flush(&mut world.disk, 0);
    assert_eq!(world.shard.stats().flushes, flushes, "no drive of the shard's is flushed");
    world.shard.join_flush(&mut world.disk, 3);
    world.shard.join_flush(&mut world.disk, 3);
    assert_eq!(world.shard.stats().flushes, flushes + 1, "joined once");
    for _ in 0..100 {
        world.step();
    }
    world.flush();
    world.shard.run(&mut world.disk, world.now);
    assert!(matches!(world.shard.poll_output(), Some(Output::Done { outcome: Outcome::Ok, .. })));
    assert_eq!(world.shard.stats().flushes, flushes + 1);
}

#[test]
fn more_requests_than_the_limit_are_given_back() {
    let mut world = World::new(1, 100, crate::ShardOptions { requests_max: 2, ..small_options() });
    world.write(1, 0, 8, false);
    world.write(1, 8, 16, false);
    let request =
        Request { tag: 9, volume: VolumeId(1), offset: 0, len: 4096, compress: false, op: Op::Verify };
    assert_eq!(world.shard.submit(request).unwrap_err().tag, 9);
    assert!(world.drain());
}

#[test]
fn a_megabyte_is_all_or_nothing_across_segments() {
    for seed in 0..40 {
        let mut world = World::new(seed, 60, small_options());
        for _ in 0..3 {
            world.write(1, 0, 2048, false);
            world.write(1, 1000, 3048, false);
            for _ in 0..seed {
                world.step();
            }
        }
        world.crash(seed % 2 == 0);
        assert_good(&world);
    }
}

#[test]
fn a_stop_ends_although_writes_wait_for_room() {
    let mut world = World::new(21, 8, small_options());
    for block in 0..1500 {
        world.write(1, block * 8, block * 8 + 8, false);
        if block % 50 == 0 {
            world.step();
        }
    }
    assert!(world.stop(), "{}", world.shard.describe());
    assert!(world.outcomes[&Outcome::CapacityExceeded] > 0);
    world.restart();
    world.settle_recovery();
    assert!(world.ready);
}

#[test]
fn a_full_pool_of_unreadable_segments_refuses_and_still_deallocates() {
    let mut world = World::new(22, 20, small_options());
    // Every second block of each segment is overwritten, so that cleaning would have much to gain if it could read.
    for block in (0..200).chain((0..200).filter(|block| block % 2 == 0)) {
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    for value in 0..400 {
        let mut sector = [0; 512];
        fill(&mut sector, value + 1);
        world.disk.rot(&sector);
    }
    let mut block = 1000;
    while world.outcomes.get(&Outcome::CapacityExceeded).copied().unwrap_or(0) < 20 {
        world.write(2, block * 8, block * 8 + 64, false);
        block += 8;
        assert!(block < 10_000, "a pool of 40 segments is never full");
        assert!(world.drain(), "{:?}", world.errors);
    }
    world.forget(1, 0, Op::DropVolume);
    assert!(world.drain(), "{:?}", world.errors);
    world.outcomes.clear();
    for block in 0..100 {
        world.write(2, block * 8, block * 8 + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    assert_eq!(world.outcomes.get(&Outcome::CapacityExceeded), None);
}

/// Goal: a header of several blocks that cannot be read is given up after two tries, as one of a single block is, and not
/// read for ever. Method: the second block rots of every header that has one, which those of checkpoints have; then the
/// pool is filled.
#[test]
fn a_full_pool_of_unreadable_long_headers_refuses_and_still_deallocates() {
    let mut world = World::new(22, 40, crate::ShardOptions { checkpoint_bytes: 2 << 20, ..small_options() });
    // A leaf for each block; every second is overwritten, so that cleaning would have much to gain if it could read.
    let leaf = 64 * 8;
    for number in (0..300).chain((0..300).filter(|number| number % 2 == 0)) {
        world.write(1, number * leaf, number * leaf + 8, false);
        assert!(world.drain(), "{:?}", world.errors);
    }
    let rotten = world.disk.change_blocks(b"FeBATCH\n", |header| {
        // Its records.
        let is_long = u32::from_le_bytes(header[28..32].try_into().unwrap()) > 4096 + 100;
        header[4096 + 100] ^= u8::from(is_long);
        is_long
    });
    println!("{rotten} headers");
    assert!(rotten > 0, "no header is longer than a block");
    let mut block = 1000;
    while world.outcomes.get(&Outcome::CapacityExceeded).copied().unwrap_or(0) < 20 {
        world.write(2, block * 8, block * 8 + 64, false);
        block += 8;
        assert!(block < 10_000, "the pool is never full");
        assert!(world.drain(), "{:?}", world.errors);
    }
    world.forget(1, 0, Op::DropVolume);
    assert!(world.drain(), "{:?}", world.errors);
}

#[test]
fn a_log_that_found_no_memory_to_begin_loses_no_segment() {
    let mut world = World::new(23, 20, small_options());
    world.disk.refuse_percent = 100;
    world.write(1, 0, 8, false);
    for _ in 0..200 {
        world.step();
    }
    world.disk.refuse_percent = 0;
    assert!(world.drain(), "{:?}", world.errors);
    let described = world.shard.describe();
    assert_eq!(described.matches(":Open").count(), 1, "{described}");
}

#[test]
fn a_rotten_batch_that_was_flushed_is_damage_and_not_the_end_of_the_log() {
    // The eighth batch is the seal of the first segment.
    for rotten in [1, 2, 3, 4, 5, 6, 7, 9] {
        let mut world = World::new(24, 20, small_options());
        for block in 0..10 {
            world.write(1, block * 8, block * 8 + 8, false);
            assert!(world.drain());
            if block == 7 {
                world.flush();
                assert!(world.drain());
            }
        }
        world.disk.kill();
        assert_eq!(world.disk.rot_batch(rotten), 2, "batch {rotten} is in the image and on the medium");
        world.restart();
        while world.failed.is_none() && !world.ready {
            world.step();
        }
        let expected = Failure::LogDamaged { found: rotten - 1, expected: 9 };
        assert_eq!(world.failed, Some(expected));
    }
}

#[test]
fn a_rotten_batch_that_nobody_knew_to_be_flushed_is_the_end_of_the_log() {
    let mut world = World::new(25, 20, small_options());
    for block in 0..10 {
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain());
    }
    world.disk.kill();
    assert!(world.disk.rot_batch(10) > 0);
    world.restart();
    world.settle_recovery();
    assert!(world.failed.is_none() && world.ready);
    assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 8 * 4096);
}

#[test]
fn a_block_behind_the_end_of_the_log_that_cannot_be_read_fails_no_start() {
    let mut world = World::new(25, 20, small_options());
    for block in 0..10 {
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain());
    }
    let (drive, payload) = world.disk.last_payload();
    for behind in 2..6 {
        world.disk.kill();
        world.disk.unreadable = Some((drive, payload + behind * 4096));
        world.restart();
        world.settle_recovery();
        assert!(world.ready, "{behind}: {:?}", world.failed);
        assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 10 * 4096);
    }
}

#[test]
fn a_rotten_batch_that_was_flushed_is_damage_though_the_block_behind_it_cannot_be_read() {
    let mut world = World::new(24, 20, small_options());
    let mut payloads = Vec::new();
    for block in 0..10 {
        world.write(1, block * 8, block * 8 + 8, false);
        assert!(world.drain());
        payloads.push(world.disk.last_payload());
        if block == 7 {
            world.flush();
            assert!(world.drain());
        }
    }
    world.disk.kill();
    assert_eq!(world.disk.rot_batch(2), 2);
    world.disk.unreadable = Some(payloads[1]);
    world.restart();
    while world.failed.is_none() && !world.ready {
        world.step();
    }
    assert_eq!(world.failed, Some(Failure::LogDamaged { found: 1, expected: 9 }));
}
