//! Goal: no segment has two owners, none is lost, and cleaning always finds one.
//! Method: random grants and releases against a plain map of owners; the refusals by name.

use std::collections::BTreeMap;

use super::*;
use crate::memory_disk::Rng;
use crate::pool::{Geometry, Identity};

fn layout(shards: u16, drive_mib: &[u64]) -> Layout {
    let geometry = Geometry {
        shards,
        segment_bytes: 1 << 20,
        directory_half_bytes: 512 << 10,
        block_bytes: 512,
        drive_bytes: drive_mib.iter().map(|mib| (mib + 3) << 20).collect(),
        founders: u16::try_from(drive_mib.len()).unwrap(),
    };
    Layout::new(Identity { pool: [1; 16], cluster: [2; 16], node: [3; 16] }, geometry).unwrap()
}

fn ready(layout: &Layout) -> Segments {
    let mut segments = Segments::new(layout);
    for shard in (0..layout.shards()).map(ShardId) {
        segments.own(shard, &[]).unwrap();
    }
    segments
}

#[test]
fn what_no_shard_lists_is_free() {
    let mut segments = Segments::new(&layout(2, &[20]));
    let total = segments.total();
    assert!(!segments.is_ready());
    segments.own(ShardId(1), &[SegmentId(0), SegmentId(7)]).unwrap();
    segments.own(ShardId(0), &[SegmentId(1)]).unwrap();
    assert!(segments.is_ready());
    assert_eq!(segments.free(), total - 3);
    assert_eq!(segments.grant(ShardId(0), GrantPurpose::Host), Some(SegmentId(2)));
}

#[test]
fn contradictions_are_refused() {
    let new = || Segments::new(&layout(2, &[20]));
    let mut segments = new();
    segments.own(ShardId(0), &[SegmentId(4)]).unwrap();
    assert_eq!(
        segments.own(ShardId(1), &[SegmentId(3), SegmentId(4)]),
        Err(SegmentsError::OwnedTwice { segment: SegmentId(4), first: ShardId(0), second: ShardId(1) })
    );
    assert_eq!(
        new().own(ShardId(1), &[SegmentId(4), SegmentId(4)]),
        Err(SegmentsError::OwnedTwice { segment: SegmentId(4), first: ShardId(1), second: ShardId(1) })
    );
    let total = new().total();
    assert_eq!(
        new().own(ShardId(0), &[SegmentId(total)]),
        Err(SegmentsError::OutOfRange { shard: ShardId(0), segment: SegmentId(total), segments: total })
    );
    assert_eq!(new().own(ShardId(2), &[]), Err(SegmentsError::UnexpectedShard(ShardId(2))));
    assert_eq!(segments.own(ShardId(0), &[]), Err(SegmentsError::UnexpectedShard(ShardId(0))));
    let mut segments = ready(&layout(2, &[20]));
    let segment = segments.grant(ShardId(0), GrantPurpose::Host).unwrap();
    assert_eq!(
        segments.release(ShardId(1), &[segment]),
        Err(SegmentsError::NotOwned { shard: ShardId(1), segment })
    );
    segments.release(ShardId(0), &[segment]).unwrap();
    assert!(segments.release(ShardId(0), &[segment]).is_err());
    assert!(segments.release(ShardId(0), &[SegmentId(u32::MAX)]).is_err());
}

#[test]
fn grants_are_spread_over_the_drives_by_what_each_has_free() {
    let layout = layout(1, &[64, 128, 32]);
    let mut segments = ready(&layout);
    let mut counts = [0_u32; 3];
    for _ in 0..112 {
        let segment = segments.grant(ShardId(0), GrantPurpose::Host).unwrap();
        counts[usize::from(layout.segment_place(segment).0.0)] += 1;
    }
    let totals: Vec<u32> = layout.drives().iter().map(|drive| drive.segments).collect();
    let sum: u32 = totals.iter().sum();
    for (count, total) in counts.iter().zip(totals) {
        let fair = 112 * total / sum;
        assert!(count.abs_diff(fair) <= 1, "{counts:?}");
    }
}

#[test]
fn hosts_stop_at_the_reserve_and_every_shards_cleaning_has_its_share_of_it() {
    let mut segments = ready(&layout(4, &[2048]));
    assert_eq!(segments.reserve(), 8);
    for shard in (0..4).map(ShardId) {
        for _ in 0..DUE_PER_SHARD {
            segments.grant(shard, GrantPurpose::Host).unwrap();
        }
    }
    while segments.grant(ShardId(0), GrantPurpose::Host).is_some() {}
    assert_eq!(segments.free(), segments.reserve());
    for shard in (0..4).map(ShardId) {
        let first = segments.grant(shard, GrantPurpose::Cleaning).unwrap();
        assert!(segments.grant(shard, GrantPurpose::Cleaning).is_some());
        assert_eq!(segments.grant(shard, GrantPurpose::Cleaning), None);
        // What cleaning has freed it may take again.
        segments.release(shard, &[first]).unwrap();
        assert!(segments.grant(shard, GrantPurpose::Cleaning).is_some());
    }
    assert_eq!(segments.free(), 0);
    assert_eq!(segments.stats().refusals, 5);
}

#[test]
fn a_greedy_shard_leaves_the_others_their_due() {
    let mut segments = ready(&layout(4, &[40]));
    for purpose in [GrantPurpose::Host, GrantPurpose::Cleaning] {
        while segments.grant(ShardId(0), purpose).is_some() {}
    }
    for shard in (1..4).map(ShardId) {
        let granted: Vec<SegmentId> =
            (0..DUE_PER_SHARD).filter_map(|_| segments.grant(shard, GrantPurpose::Host)).collect();
        assert_eq!(granted.len(), DUE_PER_SHARD as usize);
        // What a shard gives back remains its due.
        segments.release(shard, &granted[..1]).unwrap();
        assert_eq!(segments.grant(ShardId(0), GrantPurpose::Cleaning), None);
        assert!(segments.grant(shard, GrantPurpose::Host).is_some());
    }
}

#[test]
fn a_large_pool_keeps_a_256th_part_in_reserve() {
    let segments = ready(&layout(4, &[1024]));
    assert!(segments.reserve() >= segments.total() / 256);
    assert!(segments.reserve() <= segments.total() / 256 + 4);
}

#[test]
fn no_segment_has_two_owners_and_none_is_lost() {
    let mut rng = Rng::from_env(0x5E);
    let layout = layout(3, &[100, 70]);
    let mut segments = ready(&layout);
    let mut owners = BTreeMap::new();
    for _ in 0..20_000 {
        let shard = ShardId(u16::try_from(rng.below(3)).unwrap());
        if rng.below(100) < 55 {
            let purpose = [GrantPurpose::Host, GrantPurpose::Cleaning][rng.below(2)];
            if let Some(segment) = segments.grant(shard, purpose) {
                assert!(layout.has_segment(segment));
                assert_eq!(owners.insert(segment, shard), None);
            }
        } else if !owners.is_empty() {
            let (&segment, &owner) = owners.iter().nth(rng.below(owners.len())).unwrap();
            owners.remove(&segment);
            segments.release(owner, &[segment]).unwrap();
        }
        assert_eq!(segments.free() as usize, layout.segments() as usize - owners.len());
    }
    assert!(segments.stats().refusals > 0, "the pool was full at times");
    // A restart comes to the same list.
    let mut restarted = Segments::new(&layout);
    for shard in (0..3).map(ShardId) {
        let owned: Vec<SegmentId> =
            owners.iter().filter(|&(_, &owner)| owner == shard).map(|(&segment, _)| segment).collect();
        restarted.own(shard, &owned).unwrap();
    }
    assert_eq!(restarted.free(), segments.free());
}

#[test]
fn a_list_that_has_grown_is_that_of_a_pool_made_so_large() {
    let (small, large) = (layout(2, &[20]), layout(2, &[20, 300]));
    let mut grown = ready(&small);
    let first = grown.grant(ShardId(0), GrantPurpose::Host).unwrap();
    grown.grow(&large);
    let mut made = ready(&large);
    grown.release(ShardId(0), &[first]).unwrap();
    assert_eq!((grown.total(), grown.free(), grown.reserve()), (made.total(), made.free(), made.reserve()));
    let mut owned = Vec::new();
    while let Some(segment) = grown.grant(ShardId(0), GrantPurpose::Host) {
        assert_eq!(Some(segment), made.grant(ShardId(0), GrantPurpose::Host));
        owned.push(segment);
    }
    assert_eq!(made.grant(ShardId(0), GrantPurpose::Host), None);
    assert!(owned.iter().any(|segment| segment.0 >= small.segments()));
}
