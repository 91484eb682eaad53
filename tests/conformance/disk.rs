//! Cases on drives.

use std::collections::BTreeSet;

use io::{Disk, DriveId, Event, Extent, Token};

use crate::arm::{Arm, buffer, fetch, filled, one, pattern, some, store};

pub(crate) fn drives_are_numbered_and_say_what_they_are_like<A: Arm>() {
    let mut arm = A::start(2, &[1 << 20, 2 << 20]);
    for reactor in 0..2 {
        assert_eq!(arm.io(reactor).drives(), 2);
        for drive in 0..2 {
            let expected = arm.shape(drive);
            let shape = arm.io(reactor).drive(DriveId(drive));
            assert_eq!(shape, expected);
            assert!(shape.size_bytes.is_multiple_of(u64::from(shape.block_bytes)));
        }
    }
}

pub(crate) fn what_was_written_is_read_by_every_reactor<A: Arm>() {
    let mut arm = A::start(2, &[1 << 20]);
    store(&mut arm, 0, 8192, 12_288, 5);
    assert_eq!(fetch(&mut arm, 0, 8192, 12_288), pattern(12_288, 5));
    let buffer = buffer(&mut arm, 1, 12_288);
    arm.io(1).read(Token(1), buffer, &[Extent { drive: DriveId(0), offset: 8192, start: 0, len: 12_288 }]);
    let Event::Read { buffer, result, .. } = one(&mut arm, 1) else { panic!("not a read") };
    assert_eq!(result, Ok(()));
    assert_eq!(buffer[..], pattern(12_288, 5));
}

pub(crate) fn a_write_writes_the_first_len_bytes_and_no_more<A: Arm>() {
    let mut arm = A::start(1, &[1 << 20]);
    store(&mut arm, 0, 0, 16_384, 1);
    let buffer = filled(&mut arm, 0, 16_384, 2);
    arm.io(0).write(Token(3), DriveId(0), 4096, buffer, 4096);
    let Event::Written { token, result, .. } = one(&mut arm, 0) else { panic!("not a write") };
    assert_eq!((token, result), (Token(3), Ok(())));
    let mut expected = pattern(16_384, 1);
    expected[4096..8192].copy_from_slice(&pattern(16_384, 2)[..4096]);
    assert_eq!(fetch(&mut arm, 0, 0, 16_384), expected);
}

pub(crate) fn one_read_gathers_extents_of_several_drives<A: Arm>() {
    let mut arm = A::start(1, &[1 << 20, 1 << 20]);
    store(&mut arm, 0, 0, 65_536, 1);
    store(&mut arm, 1, 0, 65_536, 2);
    let buffer = buffer(&mut arm, 0, 32_768);
    let extents = [
        Extent { drive: DriveId(1), offset: 4096, start: 8192, len: 8192 },
        Extent { drive: DriveId(0), offset: 32_768, start: 0, len: 4096 },
        Extent { drive: DriveId(0), offset: 0, start: 20_480, len: 4096 },
    ];
    arm.io(0).read(Token(9), buffer, &extents);
    let Event::Read { token, buffer, result } = one(&mut arm, 0) else { panic!("not a read") };
    assert_eq!((token, result), (Token(9), Ok(())));
    for extent in extents {
        let from = pattern(65_536, u64::from(extent.drive.0) + 1);
        let from = &from[usize::try_from(extent.offset).unwrap()..][..extent.len as usize];
        assert_eq!(&buffer[extent.start as usize..][..extent.len as usize], from, "{extent:?}");
    }
}

pub(crate) fn one_read_takes_256_extents<A: Arm>() {
    let mut arm = A::start(1, &[1 << 20]);
    store(&mut arm, 0, 0, 1 << 20, 4);
    let buffer = buffer(&mut arm, 0, 1 << 20);
    let size = 4096;
    // Backwards, so that no two of them are neighbours on the drive and in the buffer alike.
    let extents: Vec<Extent> = (0..256u32)
        .map(|index| Extent {
            drive: DriveId(0),
            offset: u64::from(255 - index) * u64::from(size),
            start: index * size,
            len: size,
        })
        .collect();
    arm.io(0).read(Token(1), buffer, &extents);
    let Event::Read { buffer, result, .. } = one(&mut arm, 0) else { panic!("not a read") };
    assert_eq!(result, Ok(()));
    let from = pattern(1 << 20, 4);
    for (place, from) in buffer.chunks_exact(4096).zip(from.chunks_exact(4096).rev()) {
        assert_eq!(place, from);
    }
}

pub(crate) fn operations_under_way_together_each_end_once<A: Arm>() {
    let mut arm = A::start(1, &[4 << 20]);
    let count = 128u64;
    for number in 0..count {
        let buffer = filled(&mut arm, 0, 8192, number);
        arm.io(0).write(Token(number), DriveId(0), number * 8192, buffer, 8192);
    }
    let events = some(&mut arm, 0, 128);
    let ended: BTreeSet<u64> = events
        .iter()
        .map(|event| match event {
            Event::Written { token, result: Ok(()), .. } => token.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ended.len(), 128);
    drop(events);
    for number in 0..count {
        let buffer = buffer(&mut arm, 0, 8192);
        let extent = Extent { drive: DriveId(0), offset: number * 8192, start: 0, len: 8192 };
        arm.io(0).read(Token(number), buffer, &[extent]);
    }
    for event in some(&mut arm, 0, 128) {
        let Event::Read { token, buffer, result: Ok(()) } = event else { panic!("{event:?}") };
        assert_eq!(buffer[..], pattern(8192, token.0));
    }
}

pub(crate) fn a_flush_ends_once_under_its_token<A: Arm>() {
    let mut arm = A::start(1, &[1 << 20, 1 << 20]);
    store(&mut arm, 0, 0, 4096, 1);
    for drive in 0..2 {
        arm.io(0).flush(Token(70 + u64::from(drive)), DriveId(drive));
    }
    let mut tokens: Vec<u64> = some(&mut arm, 0, 2)
        .into_iter()
        .map(|event| match event {
            Event::Flushed { token, result: Ok(()) } => token.0,
            other => panic!("{other:?}"),
        })
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [70, 71]);
}

pub(crate) fn tokens_come_back_unchanged<A: Arm>() {
    let mut arm = A::start(1, &[1 << 20]);
    for token in [0, 1, u64::MAX, 0xFFFF_0000_0000_0000, 1 << 63] {
        arm.io(0).flush(Token(token), DriveId(0));
        let Event::Flushed { token: back, .. } = one(&mut arm, 0) else { panic!("not a flush") };
        assert_eq!(back, Token(token));
    }
}
