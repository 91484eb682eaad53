//! Real files through the ring: with every feature, without any, with each alone and each missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use io::{Disk, DiskErrorKind, DriveId, Event, Extent, Io, Memory, Purpose, Token};
use reactor::{Feature, Features, ReactorConfig};
use support::{Scratch, config, feature_sets, pattern, patterned, poll_for, single, until};

const BLOCK: u32 = 4096;

#[test]
fn what_was_written_and_flushed_is_read_back_in_parts_whatever_features_are_on() {
    let scratch = Scratch::new("disk-features");
    let drives = scratch.drives(2, 8);
    for (round, features) in feature_sets().into_iter().enumerate() {
        println!("{features}");
        let mut reactor = single(&config(features, drives.clone()));
        let seed = round as u8;
        for drive in 0..2 {
            let buffer = patterned(&mut reactor, 64 << 10, seed ^ (drive as u8) << 7);
            reactor.write(Token(u64::from(drive)), DriveId(drive), 1 << 20, buffer, 64 << 10);
        }
        let mut left = 2;
        until(&mut reactor, |_, event| match event {
            Event::Written { result, buffer, .. } => {
                assert_eq!(result, Ok(()));
                assert_eq!(buffer.len(), 64 << 10);
                left -= 1;
                (left == 0).then_some(())
            }
            _ => None,
        });
        reactor.flush(Token(9), DriveId(1));
        let result = until(&mut reactor, |_, event| match event {
            Event::Flushed { token: Token(9), result } => Some(result),
            _ => None,
        });
        assert_eq!(result, Ok(()));
        // Blocks 3 and 1 of drive 1 and blocks 8 to 9 of drive 0, in that order.
        let parts = [(1_u16, 3_u32, 1_u32), (1, 1, 1), (0, 8, 2)];
        let mut start = 0;
        let extents = parts.map(|(drive, block, count)| {
            let offset = (1 << 20) + u64::from(block * BLOCK);
            let extent = Extent { drive: DriveId(drive), offset, start, len: count * BLOCK };
            start += count * BLOCK;
            extent
        });
        let buffer = reactor.allocate(start as usize, Purpose::Data).unwrap();
        reactor.read(Token(77), buffer, &extents);
        let buffer = until(&mut reactor, |_, event| match event {
            Event::Read { token: Token(77), buffer, result } => {
                assert_eq!(result, Ok(()));
                Some(buffer)
            }
            _ => None,
        });
        let mut read = buffer.chunks(BLOCK as usize);
        for (drive, block, count) in parts {
            let written: Vec<u8> = pattern(seed ^ (drive as u8) << 7).take(64 << 10).collect();
            for block in block..block + count {
                let at = (block * BLOCK) as usize;
                assert_eq!(read.next().unwrap(), &written[at..at + BLOCK as usize]);
            }
        }
    }
}

#[test]
fn many_more_operations_than_the_queue_has_entries_all_end() {
    let scratch = Scratch::new("disk-many");
    let drives = scratch.drives(1, 8);
    for features in [Features::all(), Features::none()] {
        let config = ReactorConfig { submission_entries: 8, ..config(features, drives.clone()) };
        let mut reactor = single(&config);
        let count = 1000_u64;
        for number in 0..count {
            let buffer = patterned(&mut reactor, BLOCK as usize, number as u8);
            reactor.write(Token(number), DriveId(0), number * u64::from(BLOCK), buffer, BLOCK);
        }
        let mut left = count;
        until(&mut reactor, |_, event| match event {
            Event::Written { result, .. } => {
                assert_eq!(result, Ok(()));
                left -= 1;
                (left == 0).then_some(())
            }
            _ => None,
        });
        // One read of 250 parts, back to front.
        let parts: Vec<_> = (0..250_u32)
            .map(|part| Extent {
                drive: DriveId(0),
                offset: u64::from((249 - part) * BLOCK),
                start: part * BLOCK,
                len: BLOCK,
            })
            .collect();
        let buffer = reactor.allocate(250 * BLOCK as usize, Purpose::Data).unwrap();
        reactor.read(Token(1), buffer, &parts);
        let buffer = until(&mut reactor, |_, event| match event {
            Event::Read { buffer, result, .. } => {
                assert_eq!(result, Ok(()));
                Some(buffer)
            }
            _ => None,
        });
        for (part, block) in buffer.chunks(BLOCK as usize).enumerate() {
            let expected: Vec<u8> = pattern((249 - part) as u8).take(BLOCK as usize).collect();
            assert_eq!(block, expected);
        }
        assert_eq!(reactor.stats().disk_errors, 0);
    }
}

#[test]
fn dense_reads_and_writes_never_stall_whatever_features_are_on() {
    let scratch = Scratch::new("disk-dense");
    let drives = scratch.drives(1, 8);
    for features in feature_sets() {
        let mut reactor = single(&config(features, drives.clone()));
        for lane in 0..8_u8 {
            let buffer = patterned(&mut reactor, 3 * BLOCK as usize, lane);
            reactor.write(Token(u64::from(lane)), DriveId(0), u64::from(lane) << 16, buffer, 2 * BLOCK);
        }
        let mut ended = 0;
        until(&mut reactor, |reactor, event| {
            ended += 1;
            match event {
                Event::Written { token, mut buffer, result } => {
                    assert_eq!(result, Ok(()));
                    buffer.fill(0);
                    // The second block first, into the last place.
                    let part = |block: u32, start: u32| Extent {
                        drive: DriveId(0),
                        offset: (token.0 << 16) + u64::from(block * BLOCK),
                        start: start * BLOCK,
                        len: BLOCK,
                    };
                    reactor.read(token, buffer, &[part(1, 2), part(0, 1)]);
                }
                Event::Read { token, mut buffer, result } => {
                    assert_eq!(result, Ok(()));
                    assert!(buffer[..BLOCK as usize].iter().all(|byte| *byte == 0));
                    let expected = pattern(token.0 as u8).take(2 * BLOCK as usize);
                    assert!(buffer[BLOCK as usize..].iter().copied().eq(expected));
                    buffer.copy_within(BLOCK as usize.., 0);
                    reactor.write(token, DriveId(0), token.0 << 16, buffer, 2 * BLOCK);
                }
                other => panic!("{other:?}"),
            }
            (ended >= 400).then_some(())
        });
    }
}

#[test]
fn many_disk_operations_begin_and_end_a_few_at_a_time_so_that_drive_and_hosts_work_side_by_side() {
    const COUNT: u64 = 64;
    const FEW: usize = 8;
    const FEWER: usize = 4;
    let scratch = Scratch::new("disk-few");
    let drives = scratch.drives(1, 8);
    let mut reactor = single(&config(Features::all(), drives));
    let entered = reactor.stats().enters;
    for number in 0..COUNT {
        let buffer = reactor.allocate(BLOCK as usize, Purpose::Data).unwrap();
        let offset = number * u64::from(BLOCK);
        reactor.read(Token(number), buffer, &[Extent { drive: DriveId(0), offset, start: 0, len: BLOCK }]);
    }
    assert!(reactor.stats().enters - entered >= COUNT / FEW as u64, "the drive begins before all are queued");
    let mut ended = Vec::new();
    let mut last_round = 0;
    while ended.len() < COUNT as usize {
        let mut events = Vec::new();
        reactor.poll(None, &mut events).unwrap();
        assert!(events.len() <= FEW, "{} operations ended in one round", events.len());
        last_round = events.len();
        ended.extend(events.iter().map(|event| match event {
            Event::Read { token, result: Ok(()), .. } => token.0,
            other => panic!("{other:?}"),
        }));
    }
    ended.sort_unstable();
    assert!(ended.into_iter().eq(0..COUNT), "each ends once");
    assert!(last_round <= FEWER, "{last_round} were told of while the drive had nothing to do");
}

#[test]
fn two_reactors_share_a_drive_and_see_each_others_writes() {
    let scratch = Scratch::new("disk-shared");
    let drives = scratch.drives(1, 8);
    let mut writer = single(&config(Features::all(), drives.clone()));
    let buffer = patterned(&mut writer, BLOCK as usize, 5);
    writer.write(Token(1), DriveId(0), 0, buffer, BLOCK);
    until(&mut writer, |_, event| matches!(event, Event::Written { .. }).then_some(()));
    let mut reader = single(&config(Features::all(), drives));
    // A buffer of the other reactor's arena serves too.
    let buffer = writer.allocate(BLOCK as usize, Purpose::Data).unwrap();
    let whole = Extent { drive: DriveId(0), offset: 0, start: 0, len: BLOCK };
    reader.read(Token(2), buffer, &[whole]);
    let buffer = until(&mut reader, |_, event| match event {
        Event::Read { buffer, result: Ok(()), .. } => Some(buffer),
        _ => None,
    });
    assert!(buffer.iter().copied().eq(pattern(5).take(BLOCK as usize)));
    drop(buffer);
    assert_eq!(writer.stats().arena_used_bytes_now, reader.stats().arena_used_bytes_now);
}

#[test]
fn a_drive_that_shrank_under_us_gives_a_short_transfer_not_old_bytes() {
    let scratch = Scratch::new("disk-short");
    let drives = scratch.drives(1, 8);
    for features in [Features::all(), Features::none()] {
        let file = std::fs::OpenOptions::new().write(true).open(scratch.path("drive-0")).unwrap();
        file.set_len((4 << 20) + 8192).unwrap();
        let mut reactor = single(&config(features, drives.clone()));
        let buffer = reactor.allocate(64 << 10, Purpose::Data).unwrap();
        let extent = Extent { drive: DriveId(0), offset: 4 << 20, start: 0, len: 64 << 10 };
        reactor.read(Token(1), buffer, &[extent]);
        let error = until(&mut reactor, |_, event| match event {
            Event::Read { result, .. } => result.err(),
            _ => None,
        });
        assert_eq!(error.kind, DiskErrorKind::Short);
        assert_eq!((error.offset, error.len), (4 << 20, 64 << 10));
        file.set_len(8 << 20).unwrap();
    }
}

#[test]
fn registered_memory_is_used_and_grows_only_with_use() {
    let scratch = Scratch::new("disk-registered");
    let drives = scratch.drives(1, 8);
    let mut reactor = single(&config(Features::all(), drives));
    assert!(reactor.features().has(Feature::FixedBuffers));
    assert_eq!(reactor.stats().arena_registered_bytes_now, 0);
    for round in 0..50 {
        let buffer = patterned(&mut reactor, BLOCK as usize, round);
        reactor.write(Token(1), DriveId(0), 0, buffer, BLOCK);
        until(&mut reactor, |_, event| matches!(event, Event::Written { .. }).then_some(()));
    }
    assert_eq!(reactor.stats().arena_registered_bytes_now, 1 << 20);
}

#[test]
fn a_reactor_dropped_with_operations_under_way_waits_for_them() {
    let scratch = Scratch::new("disk-drop");
    let drives = scratch.drives(1, 32);
    for features in [Features::all(), Features::none()] {
        let mut held = BTreeMap::new();
        for round in 0..20 {
            let mut reactor = single(&config(features, drives.clone()));
            for number in 0..8_u64 {
                let buffer = patterned(&mut reactor, 512 << 10, round);
                reactor.write(Token(number), DriveId(0), number << 20, buffer, 512 << 10);
            }
            held.insert(round, reactor.allocate(4096, Purpose::Data).unwrap());
            let mut events = Vec::new();
            reactor.poll(Some(io::Clock::now(&reactor)), &mut events).unwrap();
        }
        // Buffers outlive the reactor that made them.
        for (round, mut buffer) in held {
            buffer.fill(round);
        }
    }
    let mut reactor = single(&config(Features::all(), drives));
    assert!(poll_for(&mut reactor, std::time::Duration::from_millis(10)).is_empty());
}

#[test]
fn a_flush_that_is_waited_for_takes_one_system_call() {
    let scratch = Scratch::new("disk-enters");
    let mut reactor = single(&config(Features::all(), scratch.drives(1, 8)));
    let flush = |reactor: &mut reactor::Reactor<u64>| {
        reactor.flush(Token(1), DriveId(0));
        until(reactor, |_, event| matches!(event, Event::Flushed { result: Ok(()), .. }).then_some(()));
    };
    flush(&mut reactor);
    let before = reactor.stats().enters;
    for _ in 0..100 {
        flush(&mut reactor);
    }
    // The system may end a sleep early now and then.
    let enters = reactor.stats().enters - before;
    assert!(enters < 150, "{enters} system calls for 100 flushes");
}
