//! The root's bytes.

use super::*;
use crate::{Geometry, Identity};

fn layout() -> Layout {
    let geometry = Geometry {
        shards: 4,
        segment_bytes: 1 << 20,
        directory_half_bytes: 256 << 10,
        block_bytes: 512,
        drive_bytes: vec![64 << 20],
        founders: 1,
    };
    Layout::new(Identity { pool: [5; 16], cluster: [6; 16], node: [7; 16] }, geometry).unwrap()
}

fn root() -> Root {
    Root {
        sequence: 0x11,
        epoch: 0x22,
        durable: 0x33,
        replay: Position {
            segment: Some(SegmentId(3)),
            offset: 0x4000,
            generation: 0x44,
            sequence: 0x55,
            previous: 0x66,
            lsn: 0x77,
        },
        manifest: Some(ChunkPlace { segment: SegmentId(4), offset: 0x5000, len: 0x88, crc: 0x99 }),
    }
}

#[test]
fn a_root_of_version_3_has_these_bytes() {
    let mut slot = vec![0xff; ROOT_BYTES];
    root().encode(&layout(), ShardId(2), &mut slot);
    let hex: String = slot[..128].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(&slot[..8], b"FeROOT1\n");
    assert_eq!(&hex[16..24], "03000000");
    assert_eq!(&hex[32..64], "05".repeat(16));
    assert_eq!(&hex[64..80], "0200040000001000");
    assert_eq!(&hex[80..128], "110000000000000022000000000000003300000000000000");
    assert_eq!(
        &hex[128..208],
        "03000000004000004400000000000000550000000000000066000000000000007700000000000000"
    );
    assert_eq!(&hex[208..256], "040000000050000088000000990000000000000000000000");
    assert_eq!(Root::parse(&layout(), ShardId(2), &slot), Slot::Root(root()));
}

#[test]
fn what_is_not_our_root_is_told_apart() {
    let layout = layout();
    let mut slot = vec![0; ROOT_BYTES];
    assert_eq!(Root::parse(&layout, ShardId(2), &slot), Slot::Blank);
    root().encode(&layout, ShardId(2), &mut slot);
    assert_eq!(Root::parse(&layout, ShardId(1), &slot), Slot::Foreign);
    for bit in (0..128 * 8).chain([4095 * 8]) {
        let mut torn = slot.clone();
        torn[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Root::parse(&layout, ShardId(2), &torn), Slot::Damaged, "bit {bit}");
    }
    put(&mut slot, 8, &2_u32.to_le_bytes());
    put(&mut slot, CRC_OFFSET, &[0; 4]);
    let crc = crc32c(&[&slot]);
    put(&mut slot, CRC_OFFSET, &crc.to_le_bytes());
    assert_eq!(Root::parse(&layout, ShardId(2), &slot), Slot::Version(2));
}
