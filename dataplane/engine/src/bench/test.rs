//! The memory of a bench namespace, by cases and against a model.

use proptest::prelude::*;

use super::*;
use crate::test_memory::{Room, Roomy, SharedRoomy};

const NSID: u32 = 7;
/// Bytes of the namespace in the random test: more than four chunks.
const SIZE: usize = 4 * CHUNK_BYTES + 4096;

type Parts = RamParts<SharedRoomy>;

fn read(parts: &Parts, offset: u64, len: usize) -> Vec<u8> {
    let mut back = vec![9; len];
    parts.read(NSID, offset, &mut back);
    back
}

fn bytes_of(piece: &Piece<Roomy>) -> Vec<u8> {
    match piece {
        Piece::Shared(slice) => slice.to_vec(),
        Piece::Zeroes { len } => vec![0; *len as usize],
        Piece::Owned { .. } => panic!("nothing is copied"),
    }
}

#[test]
fn what_was_written_is_read_back_and_the_rest_is_zeros() {
    let (mut parts, mut memory) = (Parts::default(), Room::of(0));
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    parts.write(NSID, 70_000, &bytes, &mut memory).unwrap();
    let back = read(&parts, 0, 400_000);
    assert!(back[..70_000].iter().all(|byte| *byte == 0));
    assert_eq!(&back[70_000..270_000], &bytes[..]);
    assert!(back[270_000..].iter().all(|byte| *byte == 0));
    assert!(parts.equals(NSID, 70_000, &bytes));
    assert!(!parts.equals(NSID, 70_001, &bytes));
    assert!(!parts.equals(NSID + 1, 70_000, &bytes));
}

#[test]
fn zeroing_any_range_leaves_its_neighbours_and_gives_whole_chunks_back() {
    let (mut parts, mut memory) = (Parts::default(), Room::of(0));
    parts.write(NSID, 0, &[7; 300_000], &mut memory).unwrap();
    assert_eq!(memory.lasting(), 5);
    parts.zero(NSID, 1000, 250_000, &mut memory).unwrap();
    assert_eq!(memory.lasting(), 5 - 2);
    parts.zero(NSID, 1 << 40, 1 << 40, &mut memory).unwrap();
    let back = read(&parts, 0, 300_000);
    assert!(back[..1000].iter().all(|byte| *byte == 7));
    assert!(back[1000..251_000].iter().all(|byte| *byte == 0));
    assert!(back[251_000..].iter().all(|byte| *byte == 7));
}

#[test]
fn up_to_two_chunks_are_read_without_a_copy() {
    let (mut parts, mut memory) = (Parts::default(), Room::of(0));
    let chunk = CHUNK_BYTES as u64;
    parts.write(NSID, chunk, &[7; CHUNK_BYTES], &mut memory).unwrap();
    let mut pieces = parts.share_two(NSID, chunk - 4096, 8192, &mut memory).unwrap();
    assert_eq!(bytes_of(&pieces.take().unwrap()), [0; 4096]);
    assert_eq!(bytes_of(&pieces.take().unwrap()), [7; 4096]);
    assert!(pieces.take().is_none());
    assert!(parts.share_two(NSID, 0, 2 * chunk, &mut memory).is_some());
    assert!(parts.share_two(NSID, 4096, 2 * chunk, &mut memory).is_none());
    assert!(parts.share(NSID, chunk, chunk, &mut memory).is_some());
    assert!(parts.share(NSID, chunk - 4096, 8192, &mut memory).is_none());
}

#[test]
fn a_host_that_takes_nothing_does_not_hold_ever_more() {
    let (mut parts, mut memory) = (Parts::default(), Room::of(0));
    let mut sending = Vec::new();
    for round in 0..3 * REPLACED_MAX {
        parts.write(NSID, 0, &[round as u8; 4096], &mut memory).unwrap();
        sending.extend(parts.share(NSID, 0, 4096, &mut memory));
    }
    assert_eq!(sending.len(), REPLACED_MAX);
    assert_eq!(memory.lasting(), REPLACED_MAX + 1);
    // What it has taken is free again, one at each read.
    sending.clear();
    for _ in 0..REPLACED_MAX {
        assert!(parts.share_two(NSID, 0, 4096, &mut memory).is_some());
    }
    assert_eq!(memory.lasting(), SPARE_MAX + 1);
}

#[test]
fn without_memory_nothing_is_changed() {
    let (mut parts, mut memory) = (Parts::default(), Room::of(0));
    parts.write(NSID, 0, &[7; CHUNK_BYTES], &mut memory).unwrap();
    let sending = parts.share(NSID, 0, 4096, &mut memory);
    memory.lasting_max = 1;
    assert_eq!(parts.write(NSID, 4096, &[8; CHUNK_BYTES], &mut memory), Err(NoMemory));
    assert_eq!(parts.zero(NSID, 4096, 4096, &mut memory), Err(NoMemory));
    assert_eq!(read(&parts, 0, CHUNK_BYTES), [7; CHUNK_BYTES]);
    drop(sending);
    assert_eq!(parts.write(NSID, 4096, &[8; CHUNK_BYTES], &mut memory), Err(NoMemory), "the second chunk");
    assert_eq!(read(&parts, 0, CHUNK_BYTES), [7; CHUNK_BYTES]);
    parts.zero(NSID, 0, CHUNK_BYTES as u64, &mut memory).unwrap();
    assert_eq!(read(&parts, 0, CHUNK_BYTES), [0; CHUNK_BYTES]);
}

/// What a host does.
#[derive(Clone, Debug)]
enum Step {
    Write {
        offset: usize,
        len: usize,
        byte: u8,
    },
    Zero {
        offset: usize,
        len: usize,
    },
    Read {
        offset: usize,
        len: usize,
    },
    /// It has taken what it read before this many others.
    Sent(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..SIZE, prop_oneof![3 => 1..9000_usize, 1 => 1..3 * CHUNK_BYTES]);
    let step = prop_oneof![
        3 => (range(), 1..=u8::MAX).prop_map(|((offset, len), byte)| Step::Write { offset, len, byte }),
        1 => range().prop_map(|(offset, len)| Step::Zero { offset, len }),
        4 => range().prop_map(|(offset, len)| Step::Read { offset, len }),
        3 => (0..20_usize).prop_map(Step::Sent),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is written meanwhile, what is being sent stays what it was when it was read.
    #[test]
    fn a_read_is_of_one_moment(steps in steps()) {
        let (mut parts, mut memory) = (Parts::default(), Room::of(0));
        let mut model = vec![0; SIZE];
        let mut sending: Vec<(Piece<Roomy>, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Write { offset, len, byte } => {
                    let end = (offset + len).min(SIZE);
                    model[offset..end].fill(byte);
                    parts.write(NSID, offset as u64, &vec![byte; end - offset], &mut memory).unwrap();
                }
                Step::Zero { offset, len } => {
                    let end = (offset + len).min(SIZE);
                    model[offset..end].fill(0);
                    parts.zero(NSID, offset as u64, (end - offset) as u64, &mut memory).unwrap();
                }
                Step::Read { offset, len } => {
                    let end = (offset + len).min(SIZE);
                    let (mut at, len) = (offset, (end - offset) as u64);
                    if let Some(mut pieces) = parts.share_two(NSID, offset as u64, len, &mut memory) {
                        while let Some(piece) = pieces.take() {
                            let expected = model[at..at + piece.len_bytes()].to_vec();
                            at += piece.len_bytes();
                            sending.push((piece, expected));
                        }
                        prop_assert_eq!(at, end);
                    }
                    prop_assert!(read(&parts, offset as u64, end - offset) == model[offset..end]);
                }
                Step::Sent(index) => {
                    if index < sending.len() {
                        let (piece, expected) = sending.remove(index);
                        prop_assert!(bytes_of(&piece) == expected);
                    }
                }
            }
        }
        for (piece, expected) in &sending {
            prop_assert!(bytes_of(piece) == *expected);
        }
        prop_assert!(read(&parts, 0, SIZE) == model);
    }
}
