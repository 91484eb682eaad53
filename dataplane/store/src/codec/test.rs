//! Blocks go through the codec and come back; what was damaged never does.

use proptest::prelude::*;

use super::*;
use crate::memory_disk::Rng;

/// A block of which `noise` of 256 words are random, and the others repeat.
fn block_of(noise: usize, rng: &mut Rng) -> Vec<u8> {
    let word = |rng: &mut Rng| if rng.below(256) < noise { rng.next() } else { rng.next() % 4 };
    (0..BLOCK / 8).flat_map(|_| word(rng).to_le_bytes()).collect()
}

fn packed(block: u64, bytes: &[u8]) -> Option<(Form, Vec<u8>)> {
    let mut packer = Packer::default();
    let form = packer.pack(block, bytes)?;
    Some((form, packer.bytes(0, packer.filled()).to_vec()))
}

#[test]
fn blocks_come_back_and_take_less() {
    let mut rng = Rng::from_env(1);
    let mut packer = Packer::default();
    for noise in 0..256 {
        let bytes = block_of(noise, &mut rng);
        packer.clear();
        let Some(form) = packer.pack(7, &bytes) else { continue };
        assert!(form.is_packed());
        assert_eq!(packer.filled(), form.bytes() as usize);
        let stored = packer.bytes(0, packer.filled());
        assert!(form.is_of(7, stored));
        assert!(!form.is_of(8, stored), "a block does not pass for another");
        let mut back = vec![0xee; BLOCK];
        assert!(unpack(stored, &mut back));
        assert_eq!(back, bytes);
    }
    assert!(packed(0, &[1; BLOCK]).is_some_and(|(form, _)| form.units() == 1));
}

#[test]
fn what_saves_no_unit_stays_as_it_is() {
    let mut rng = Rng::from_env(2);
    for noise in 0..256 {
        let bytes = block_of(noise, &mut rng);
        let mut bare = vec![0; get_maximum_output_size(BLOCK)];
        let len = lz4_flex::block::compress_into(&bytes, &mut bare).unwrap();
        let units = (PREFIX_BYTES + len).div_ceil(UNIT_BYTES as usize);
        let found = packed(3, &bytes).map(|(form, _)| usize::from(form.units()));
        assert_eq!(found, (units < 8).then_some(units), "noise {noise}");
    }
}

#[test]
fn noise_is_given_up_early_and_what_follows_is_packed() {
    let mut rng = Rng::from_env(3);
    let mut packer = Packer::default();
    for _ in 0..100 {
        assert!(packer.pack(1, &block_of(256, &mut rng)).is_none());
        assert!(looks_like_noise(&block_of(256, &mut rng)));
    }
    for _ in 0..100 {
        assert!(packer.pack(1, &block_of(40, &mut rng)).is_some());
        assert!(packer.pack(1, &block_of(256, &mut rng)).is_none());
    }
    assert!(!looks_like_noise(include_bytes!("../codec.rs").first_chunk::<BLOCK>().unwrap()));
}

#[test]
fn every_flipped_bit_up_to_the_payloads_end_is_noticed() {
    let mut rng = Rng::from_env(4);
    let bytes = block_of(60, &mut rng);
    let (form, stored) = packed(5, &bytes).unwrap();
    let end = PREFIX_BYTES + payload(&stored).unwrap().len();
    for bit in 0..stored.len() * 8 {
        let mut torn = stored.clone();
        torn[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 < end {
            assert!(!form.is_of(5, &torn), "bit {bit}");
            assert_eq!(packed_crc(5, &torn), None, "bit {bit}");
        }
        // Even without the checksum nothing worse comes of it than other bytes.
        let mut back = vec![0; BLOCK];
        unpack(&torn, &mut back);
    }
}

#[test]
fn a_payload_that_does_not_come_to_a_block_is_refused() {
    let (_, stored) = packed(5, &[1; BLOCK]).unwrap();
    assert!(unpack(&stored, &mut [0; BLOCK]));
    assert!(!unpack(&stored, &mut [0; BLOCK + 1]));
    assert!(!unpack(&stored, &mut [0; BLOCK - 1]));
    assert!(!unpack(&stored[..511], &mut [0; BLOCK]));
    assert!(!unpack(&[stored, vec![0; 512]].concat(), &mut [0; BLOCK]));
}

#[test]
fn a_form_goes_through_a_word() {
    for form in (1..8).filter_map(|units| Form::packed(0xdead_beef, units)).chain([Form::raw(7)]) {
        assert_eq!(Form::from_word(form.to_word()), form);
    }
    assert_eq!(Form::packed(1, 0), None);
    assert_eq!(Form::packed(1, 8), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decompressor_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..PACKED_BYTES_MAX),
        len in 0_u16..4096,
    ) {
        let mut stored = vec![0; PREFIX_BYTES + bytes.len()];
        stored[CODEC_OFFSET] = LZ4;
        put(&mut stored, LEN_OFFSET, &len.to_le_bytes());
        put(&mut stored, PREFIX_BYTES, &bytes);
        stored.resize(stored.len().next_multiple_of(512), 0);
        let mut back = vec![0; BLOCK];
        unpack(&stored, &mut back);
        unpack(&bytes, &mut back);
        packed_crc(1, &bytes);
    }

    #[test]
    fn any_block_comes_back(seed in any::<u64>(), noise in 0_usize..256, block in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let bytes = block_of(noise, &mut rng);
        if let Some((form, stored)) = packed(block, &bytes) {
            let mut back = vec![0; BLOCK];
            prop_assert!(form.is_of(block, &stored) && unpack(&stored, &mut back));
            prop_assert_eq!(back, bytes);
        }
    }
}
