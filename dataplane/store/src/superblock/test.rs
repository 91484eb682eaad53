//! Goal: the superblock's bytes never move, and no other bytes pass for one.
//! Method: a golden image, every single-bit change of it, and the refusals by name.

use super::*;

fn example() -> Superblock {
    Superblock {
        optional_features: 0,
        sequence: 2,
        identity: Identity { pool: [0xA1; 16], cluster: [0xB2; 16], node: [0xC3; 16] },
        created_unix_ns: 0x1122_3344_5566_7788,
        geometry: Geometry {
            shards: 16,
            segment_bytes: 1 << 20,
            directory_half_bytes: 4 << 20,
            block_bytes: 512,
            drive_bytes: vec![1 << 30, 2 << 30],
            founders: 2,
        },
        drive: DriveId(1),
        state: FormatState::Complete,
    }
}

/// The example as version 1 has it: (offset, bytes) of everything that is not zero.
fn golden() -> [u8; 4096] {
    let mut block = [0; 4096];
    for (offset, bytes) in [
        (0, &b"FERRULE\n\x01\x00\x00\x00"[..]),
        (12, &[0x0B, 0xA4, 0xFF, 0xD4]),
        (32, &[2]),
        (40, &[0xA1; 16]),
        (56, &[0xB2; 16]),
        (72, &[0xC3; 16]),
        (88, &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
        (98, &[0x10]),
        (102, &[0x10]),
        (106, &[0x40]),
        (109, &[0x02]),
        (112, &[16, 0, 2, 0, 1, 0, 2]),
        (259, &[0x40]),
        (267, &[0x80]),
    ] {
        put(&mut block, offset, bytes);
    }
    block
}

/// Changes a field of the golden image and makes the checksum right again.
fn changed(offset: usize, bytes: &[u8]) -> [u8; 4096] {
    let mut block = golden();
    put(&mut block, offset, bytes);
    put(&mut block, CRC_OFFSET, &[0; 4]);
    let crc = crc32c(&[&block[..ENCODED_BYTES]]);
    put(&mut block, CRC_OFFSET, &crc.to_le_bytes());
    block
}

#[test]
fn the_bytes_of_version_1_never_move() {
    let mut block = [0xFF; 4096];
    example().encode(&mut block);
    let differing = (0..4096).find(|&index| block[index] != golden()[index]);
    assert_eq!(differing.map(|index| (index, block[index])), None, "crc {:02X?}", &block[12..16]);
    assert_eq!(Superblock::parse(&golden()).unwrap(), example());
}

#[test]
fn every_changed_bit_is_found() {
    for bit in 0..ENCODED_BYTES * 8 {
        let mut block = golden();
        block[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { SuperblockFault::Foreign } else { SuperblockFault::Damaged };
        assert_eq!(Superblock::parse(&block), Err(expected), "bit {bit}");
    }
}

#[test]
fn unknown_versions_and_features_are_named() {
    assert_eq!(Superblock::parse(&changed(8, &[2])), Err(SuperblockFault::Version(2)));
    assert_eq!(Superblock::parse(&changed(16, &[5])), Err(SuperblockFault::Features(4)));
    assert_eq!(Superblock::parse(&changed(24, &[4])).unwrap().optional_features, 4);
}

#[test]
fn fields_that_contradict_each_other_are_damage_even_with_a_right_checksum() {
    for (offset, bytes) in [
        (114, &[0_u8][..]),
        (114, &[33]),
        (114, &[1]),
        (116, &[2]),
        (118, &[0]),
        (118, &[3]),
        (119, &[1]),
        (16, &[1]),
        (272, &[1]),
    ] {
        assert_eq!(Superblock::parse(&changed(offset, bytes)), Err(SuperblockFault::Damaged), "at {offset}");
    }
}

#[test]
fn blank_and_foreign_blocks_are_told_apart() {
    assert_eq!(Superblock::parse(&[0; 4096]), Err(SuperblockFault::Blank));
    let mut block = [0; 4096];
    block[4095] = 1;
    assert_eq!(Superblock::parse(&block), Err(SuperblockFault::Foreign));
}

#[test]
fn a_pool_that_drives_have_joined_says_with_how_many_it_was_made() {
    let geometry = Geometry { founders: 1, ..example().geometry };
    let grown = Superblock { geometry, ..example() };
    let mut block = [0xFF; 4096];
    grown.encode(&mut block);
    assert_eq!((block[16], block[119]), (1, 1), "a program that does not know of this must not open it");
    assert_eq!(Superblock::parse(&block), Ok(grown));
}
