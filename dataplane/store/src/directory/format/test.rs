//! Goal: the bytes of headers and frames never move, and nothing else passes for them.
//! Method: golden images, every single-bit change, and other seeds.

use super::*;

const POOL: [u8; 16] = [0xA1; 16];

fn golden_header() -> Vec<u8> {
    let mut block = vec![0; 4096];
    put(&mut block, 0, b"FERRUDIR\x01");
    put(&mut block, 12, &[0x62, 0xE6, 0x77, 0xA6]);
    put(&mut block, 16, &[7]);
    put(&mut block, 25, &[0x20]);
    put(&mut block, 28, &[2]);
    block
}

fn header() -> HalfHeader {
    HalfHeader { state: HalfState::Live, generation: 7, snapshot_end: 0x2000 }
}

fn frame() -> FrameHeader {
    FrameHeader {
        generation: 7,
        sequence: 3,
        offset: 0x2000,
        body_bytes: 0,
        records: 2,
        previous_crc: 0x1122_3344,
        body_crc: 0,
        crc: 0,
    }
}

fn golden_frame() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    put(&mut bytes, 0, b"FeDi");
    put(&mut bytes, 4, &[0x7F, 0xD1, 0xC9, 0x7D]);
    put(&mut bytes, 8, &[7]);
    put(&mut bytes, 16, &[3]);
    put(&mut bytes, 25, &[0x20]);
    put(&mut bytes, 28, &[5]);
    put(&mut bytes, 32, &[0x35, 0x23, 0xD1, 0x18]);
    put(&mut bytes, 36, &[0x44, 0x33, 0x22, 0x11]);
    put(&mut bytes, 40, &[2]);
    put(&mut bytes, 64, b"12345");
    bytes
}

fn first_difference(found: &[u8], golden: &[u8]) -> Option<(usize, Vec<u8>)> {
    assert_eq!(found.len(), golden.len());
    (0..found.len()).find(|&at| found[at] != golden[at]).map(|at| (at, found[at..at + 4].to_vec()))
}

#[test]
fn the_bytes_of_a_header_never_move() {
    assert_eq!(first_difference(&header().encode(&POOL), &golden_header()), None);
    assert_eq!(HalfHeader::parse(&golden_header(), &POOL, 1 << 20), Ok(header()));
}

#[test]
fn the_bytes_of_a_frame_never_move() {
    let mut bytes = vec![0xFF; FRAME_HEADER_BYTES as usize];
    bytes.extend_from_slice(b"12345");
    let sealed = frame().seal(&mut bytes, &POOL, 512);
    assert_eq!(first_difference(&bytes, &golden_frame()), None);
    let parsed = FrameHeader::parse(&golden_frame(), &POOL).unwrap();
    assert_eq!(parsed, sealed);
    assert_eq!(parsed.padded_bytes(512), 512);
    assert_eq!(parsed.padded_bytes(4096), 4096);
    assert!(parsed.has_body(b"12345"));
    assert!(!parsed.has_body(b"12346"));
}

#[test]
fn every_changed_bit_of_a_header_is_found() {
    for bit in 0..HEADER_FIELDS * 8 {
        let mut block = golden_header();
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(HalfHeader::parse(&block, &POOL, 1 << 20), Err(HeaderFault::Damaged), "bit {bit}");
    }
}

#[test]
fn every_changed_bit_of_a_frame_header_is_found() {
    for bit in 0..FRAME_HEADER_BYTES as usize * 8 {
        let mut bytes = golden_frame();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(FrameHeader::parse(&bytes, &POOL), None, "bit {bit}");
    }
}

#[test]
fn what_another_pool_left_behind_is_nothing() {
    assert_eq!(HalfHeader::parse(&golden_header(), &[0xA2; 16], 1 << 20), Err(HeaderFault::Damaged));
    assert_eq!(FrameHeader::parse(&golden_frame(), &[0xA2; 16]), None);
}

#[test]
fn an_unknown_version_is_named() {
    let mut block = golden_header();
    put(&mut block, 8, &[2]);
    put(&mut block, HEADER_CRC, &[0; 4]);
    let crc = crc32c(&[&POOL, &block[..HEADER_FIELDS]]);
    put(&mut block, HEADER_CRC, &crc.to_le_bytes());
    assert_eq!(HalfHeader::parse(&block, &POOL, 1 << 20), Err(HeaderFault::Version(2)));
}

#[test]
fn a_snapshot_that_ends_beyond_its_half_is_damage() {
    assert_eq!(HalfHeader::parse(&golden_header(), &POOL, 0x1FFF), Err(HeaderFault::Damaged));
}
