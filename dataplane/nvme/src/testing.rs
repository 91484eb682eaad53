//! What the tests of this crate share: a CRC32C, and golden vectors of fields.

use std::vec::Vec;

/// CRC32C bit by bit: slow, and obviously the polynomial of RFC 3720.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn crc32c_matches_its_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

/// Bytes from hexadecimal text; spaces are ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Checks of a layout, for each field: setting it alone changes exactly the given bytes at the
/// given offset, and reading them back gives the same structure.
macro_rules! golden {
    ($name:ident { $($at:literal $field:ident = $value:expr => $hex:literal;)* }) => {
        let zero = $name::default();
        assert_eq!(zero.encode(), [0; $name::LEN], "the default is all zero");
        $(
            let mut value = zero;
            value.$field = $value;
            let mut expected = [0; $name::LEN];
            let bytes = crate::testing::hex($hex);
            expected[$at..$at + bytes.len()].copy_from_slice(&bytes);
            let encoded = value.encode();
            assert!(encoded == expected, "{} at {}: {:02x?}", stringify!($field), $at,
                &encoded[$at..$at + bytes.len()]);
            assert_eq!($name::parse(&expected), value, "{}", stringify!($field));
        )*
    };
}

/// For any bytes: what is read is written back so that it reads the same, and writing that again
/// gives the same bytes.
macro_rules! layout_round_trip {
    ($test:ident, $name:ident) => {
        proptest::proptest! {
            #![proptest_config(proptest::test_runner::Config::with_cases(32))]
            #[test]
            fn $test(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), $name::LEN)) {
                let image: [u8; $name::LEN] = bytes.try_into().unwrap();
                let value = $name::parse(&image);
                let encoded = value.encode();
                proptest::prop_assert_eq!($name::parse(&encoded), value);
                proptest::prop_assert!($name::parse(&encoded).encode() == encoded);
            }
        }
    };
}
