//! Sizes as people and clients write them: `1073741824`, `4 gib`, `1073741824b`, `10GB`.

use thiserror::Error;

/// Reads a size in bytes.
///
/// A decimal integer, an optional space and an optional unit in any case: `b`; `k`, `m`, `g`, `t`, `p` and `kib` to
/// `pib` are powers of 1024, `kb` to `pb` powers of 1000.
pub(crate) fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(SizeError::NoNumber);
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = factor_of(&unit).ok_or(SizeError::UnknownUnit)?;
    let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(factor).ok_or(SizeError::TooLarge)
}

/// Writes a size with the largest binary unit that leaves at most two decimals, as tables show it.
pub(crate) fn format_size(bytes: u64) -> String {
    let mut unit = 0;
    let mut whole = bytes;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    let scale = 1_u128 << (10 * unit);
    let hundredths = (u128::from(bytes) * 100 / scale) % 100;
    let name = UNITS[unit];
    match hundredths {
        0 => format!("{whole} {name}"),
        _ => format!("{whole}.{hundredths:02} {name}"),
    }
}

/// Why a text is no size.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum SizeError {
    /// It does not begin with digits.
    #[error("a size is a whole number with an optional unit, such as 4GiB")]
    NoNumber,
    /// The unit is none of ours.
    #[error("the unit is none of B, KiB, MiB, GiB, TiB, PiB, KB, MB, GB, TB, PB")]
    UnknownUnit,
    /// It does not fit in 64 bits.
    #[error("the size does not fit in 64 bits")]
    TooLarge,
}

fn factor_of(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let mut letters = unit.chars();
    let exponent = match letters.next()? {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        _ => return None,
    };
    match letters.as_str() {
        "" | "ib" => Some(1024_u64.pow(exponent)),
        "b" => Some(1000_u64.pow(exponent)),
        _ => None,
    }
}

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_form_that_clients_send_is_read() {
        for (text, bytes) in [
            ("4 gib", 4 << 30),
            ("1073741824b", 1 << 30),
            ("1073741824", 1 << 30),
            ("4 Gib", 4 << 30),
            ("1GiB", 1 << 30),
            ("35gib", 35 << 30),
            ("5TiB", 5 << 40),
            ("2g", 2 << 30),
            ("10GB", 10_000_000_000),
            ("0", 0),
            (" 7 kb ", 7000),
        ] {
            assert_eq!(parse_size(text.trim_end()), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "gib", "-1", "1.5GiB", "4 gibs", "1e9", "0x10", "4 4"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size("18446744073709551616"), Err(SizeError::TooLarge));
        assert_eq!(parse_size("18446744073709551615k"), Err(SizeError::TooLarge));
    }

    #[test]
    fn tables_show_short_sizes() {
        assert_eq!(format_size(0), "0 B");
        assert_eq!(format_size(4096), "4 KiB");
        assert_eq!(format_size(3 << 29), "1.50 GiB");
        assert_eq!(format_size(u64::MAX), "16383.99 PiB");
    }
}
