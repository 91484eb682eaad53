//! Goal: no two places of a pool overlap, none lies beyond its drive, and places never move between versions.
//! Method: every place of several geometries in one sorted list; fixed numbers for one of them.

use super::*;

fn identity() -> Identity {
    Identity { pool: [1; 16], cluster: [2; 16], node: [3; 16] }
}

fn geometry(drive_bytes: &[u64]) -> Geometry {
    Geometry {
        shards: 16,
        segment_bytes: 1 << 20,
        directory_half_bytes: 4 << 20,
        block_bytes: 512,
        drive_bytes: drive_bytes.to_vec(),
        founders: u16::try_from(drive_bytes.len()).unwrap(),
    }
}

fn places(layout: &Layout) -> Vec<(DriveId, u64, u64)> {
    let mut places = Vec::new();
    for drive in (0..layout.drives().len()).map(|index| DriveId(u16::try_from(index).unwrap())) {
        for offset in SUPERBLOCK_OFFSETS {
            places.push((drive, offset, u64::from(SUPERBLOCK_BYTES)));
        }
    }
    for shard in (0..layout.shards()).map(ShardId) {
        for (drive, offset) in layout.root_slots(shard) {
            places.push((drive, offset, u64::from(ROOT_SLOT_BYTES)));
        }
    }
    let directory = layout.directory();
    for offset in directory.halves {
        places.push((directory.drive, offset, u64::from(directory.half_bytes)));
    }
    for segment in (0..layout.segments()).map(SegmentId) {
        let (drive, offset) = layout.segment_place(segment);
        places.push((drive, offset, u64::from(layout.segment_bytes())));
    }
    places.sort_unstable();
    places
}

#[test]
fn places_are_aligned_within_their_drive_and_do_not_overlap() {
    let small =
        Geometry { shards: 3, segment_bytes: 64 << 10, directory_half_bytes: 260 << 10, ..geometry(&[]) };
    for geometry in [
        geometry(&[1 << 30]),
        geometry(&[(1 << 30) + 512, 300 << 20, (100 << 20) - 512]),
        Geometry { drive_bytes: vec![3 << 20, 2 << 20], founders: 2, ..small.clone() },
        Geometry { drive_bytes: vec![3 << 20, 2 << 20], founders: 1, ..small },
        Geometry { shards: SHARDS_MAX, ..geometry(&[1 << 30, 1 << 30]) },
    ] {
        let layout = Layout::new(identity(), geometry.clone()).unwrap();
        let places = places(&layout);
        for &(drive, offset, len) in &places {
            assert!(offset.is_multiple_of(4096));
            assert!(offset + len <= geometry.drive_bytes[usize::from(drive.0)]);
        }
        for pair in places.windows(2) {
            assert!(pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1, "{pair:?}");
        }
    }
}

#[test]
fn places_never_move() {
    let layout = Layout::new(identity(), geometry(&[1 << 30, 512 << 20])).unwrap();
    assert_eq!(layout.segments(), 1014 + 510);
    assert_eq!(layout.segment_place(SegmentId(0)), (DriveId(0), 9 << 20));
    assert_eq!(layout.segment_place(SegmentId(1013)), (DriveId(0), 1022 << 20));
    assert_eq!(layout.segment_place(SegmentId(1014)), (DriveId(1), 1 << 20));
    assert_eq!(
        layout.root_slots(ShardId(0)),
        [(DriveId(0), 64 << 10), (DriveId(1), (512 << 20) - (64 << 10))]
    );
    assert_eq!(
        layout.root_slots(ShardId(15)),
        [(DriveId(1), (64 << 10) + (60 << 10)), (DriveId(0), (1 << 30) - (4 << 10))]
    );
    assert_eq!(layout.directory().halves, [1 << 20, 5 << 20]);
    assert!(!layout.has_segment(SegmentId(1524)));
}

#[test]
fn impossible_geometries_are_refused_with_what_is_needed() {
    let refused = |geometry| Layout::new(identity(), geometry).unwrap_err();
    assert_eq!(refused(geometry(&[])), GeometryError::Drives(0));
    assert_eq!(refused(Geometry { shards: 0, ..geometry(&[1 << 30]) }), GeometryError::Shards(0));
    assert_eq!(refused(Geometry { shards: 129, ..geometry(&[1 << 30]) }), GeometryError::Shards(129));
    assert_eq!(
        refused(Geometry { segment_bytes: 3 << 20, ..geometry(&[1 << 30]) }),
        GeometryError::SegmentBytes(3 << 20)
    );
    assert_eq!(
        refused(Geometry { block_bytes: 520, ..geometry(&[1 << 30]) }),
        GeometryError::BlockBytes(520)
    );
    assert_eq!(refused(geometry(&[20 << 20])), GeometryError::TooFewSegments { segments: 10, needed: 128 });
    let needed_bytes = (10 << 20) + (64 << 10);
    assert_eq!(
        refused(geometry(&[needed_bytes - 1])),
        GeometryError::DriveTooSmall { drive: DriveId(0), size_bytes: needed_bytes - 1, needed_bytes }
    );
    for founders in [0, 2] {
        assert_eq!(refused(Geometry { founders, ..geometry(&[1 << 30]) }), GeometryError::Founders(founders));
    }
    assert!(matches!(
        refused(Geometry { segment_bytes: 64 << 10, ..geometry(&[u64::MAX]) }),
        GeometryError::TooManySegments(_)
    ));
}
