//! What is written is read back, and nothing else is.

use super::*;
use crate::pool::{Geometry, Identity};
use crate::record::RecordWriter;
use crate::{ShardId, VolumeId};

fn layout() -> Layout {
    let identity = Identity { pool: [7; 16], cluster: [8; 16], node: [9; 16] };
    let geometry = Geometry {
        shards: 1,
        segment_bytes: 256 << 10,
        directory_half_bytes: 256 << 10,
        block_bytes: 512,
        drive_bytes: vec![16 << 20],
        founders: 1,
    };
    Layout::new(identity, geometry).expect("a pool of sixty segments")
}

/// Header and records of a batch that unmaps something.
fn entry(sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut writer = RecordWriter::new(&mut bytes);
    writer.unmap(VolumeId(1), sequence, sequence + 1, false);
    let written = writer.finish();
    let header = BatchHeader {
        header_bytes: written.header_bytes,
        total_bytes: 4096,
        record_count: written.count,
        record_bytes: written.record_bytes,
        shard: ShardId(0),
        segment: SegmentId(3),
        pool: [7; 16],
        generation: 10,
        sequence,
        epoch: 1,
        previous: 0,
        first_lsn: sequence,
        flushed: 0,
    };
    header.seal(&mut bytes);
    bytes.truncate(HEADER_BYTES + written.record_bytes as usize);
    bytes
}

fn summary_of(layout: &Layout, sequences: std::ops::Range<u64>) -> Summary {
    let mut summary = Summary::default();
    for sequence in sequences {
        summary.note(layout, &entry(sequence));
    }
    summary.seal(layout, (SegmentId(3), 10), [5, 9].map(SegmentId).into_iter());
    summary
}

#[test]
fn what_was_noted_is_read_back_in_order() {
    let layout = layout();
    let summary = summary_of(&layout, 10..15);
    let head = parse_head(&layout, SegmentId(3), 10, &summary.bytes).expect("a head");
    assert!(is_whole(head, &summary.bytes));
    let found: Vec<Vec<u8>> = entries(head, &summary.bytes).map(|(_, entry)| entry.to_vec()).collect();
    assert_eq!(found, (10..15).map(entry).collect::<Vec<_>>());
}

#[test]
fn entries_beyond_the_room_are_left_out_and_the_rest_stays_whole() {
    let layout = layout();
    let room = (layout.segment_bytes() - layout.log_bytes()) as usize;
    let fit = (room - HEAD_BYTES) / entry(10).len();
    let summary = summary_of(&layout, 10..10 + 2 * fit as u64);
    assert!(summary.bytes.len() <= room);
    let head = parse_head(&layout, SegmentId(3), 10, &summary.bytes).expect("a head");
    let sequences: Vec<u64> = entries(head, &summary.bytes).map(|(header, _)| header.sequence).collect();
    assert_eq!(sequences, (10..10 + fit as u64).collect::<Vec<_>>());
}

#[test]
fn a_summary_of_another_place_or_time_is_none() {
    let layout = layout();
    let summary = summary_of(&layout, 10..12);
    assert!(parse_head(&layout, SegmentId(4), 10, &summary.bytes).is_none());
    assert!(parse_head(&layout, SegmentId(3), 11, &summary.bytes).is_none());
    assert!(parse_head(&layout, SegmentId(3), 10, &summary.bytes[..40]).is_none());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let layout = layout();
    let summary = summary_of(&layout, 10..13);
    for bit in 0..summary.bytes.len() * 8 {
        let mut bytes = summary.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let accepted =
            parse_head(&layout, SegmentId(3), 10, &bytes).is_some_and(|head| is_whole(head, &bytes));
        assert!(!accepted, "bit {bit}");
    }
}
