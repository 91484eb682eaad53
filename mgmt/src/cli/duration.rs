//! How long a token shall last: `1d`, `6h`, `1y`, or until a day.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A number and a unit of s, m, h, d, w or y; several of these add up.
pub(super) fn parse_lifetime(text: &str) -> Result<u64, String> {
    let hint = || "expected a time such as 30m, 6h, 1d or 1y".to_owned();
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(hint());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(hint)?;
        let number: u64 = rest[..digits].parse().map_err(|_| hint())?;
        let unit = rest[digits..].chars().next().ok_or_else(hint)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            'w' => 7 * 24 * 3600,
            'y' => 365 * 24 * 3600,
            _ => return Err(hint()),
        };
        total = number.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(hint)?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    if (1..=LIFETIME_S_MAX).contains(&total) {
        Ok(total)
    } else {
        Err("expected 1 s to 100 years".to_owned())
    }
}

/// The end of a token's life in seconds since 1970: RFC 3339, or a time from `now_s` on.
pub(super) fn parse_expiry(text: &str, now_s: u64) -> Result<u64, String> {
    if let Ok(lifetime) = parse_lifetime(text) {
        return Ok(now_s + lifetime);
    }
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a day such as 2030-01-31T00:00:00Z, or a time such as 30d".to_owned())?;
    let end = u64::try_from(time.unix_timestamp()).unwrap_or(0);
    if end > now_s { Ok(end) } else { Err("expected a time in the future".to_owned()) }
}

/// A time in seconds since 1970 for people.
pub(super) fn format_time(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
}

const LIFETIME_S_MAX: u64 = 100 * 365 * 24 * 3600;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lifetimes_have_units_that_add_up() {
        for (text, seconds) in [
            ("1d", 86_400),
            ("6h", 21_600),
            ("1y", 31_536_000),
            ("90s", 90),
            ("1h30m", 5400),
            ("2w", 1_209_600),
        ] {
            assert_eq!(parse_lifetime(text), Ok(seconds), "{text}");
        }
        for text in ["", "0d", "d", "5", "1x", "-1d", "99999999999999999999d", "101y", "1d5"] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_is_a_day_or_a_time_from_now_on() {
        assert_eq!(parse_expiry("1970-01-02T00:00:00Z", 5), Ok(86_400));
        assert_eq!(parse_expiry("1d", 5), Ok(86_405));
        for text in ["1970-01-02T00:00:00Z", "soon", ""] {
            assert!(parse_expiry(text, 100_000).is_err(), "{text}");
        }
        assert_eq!(format_time(86_400), "1970-01-02T00:00:00Z");
    }
}
