//! Values of the contract's JSON: 64-bit integers are strings, 32-bit integers numbers that may come quoted, enums
//! names that may come as numbers.

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A 64-bit integer, written as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text64(pub(crate) u64);

impl Serialize for Text64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A list of strings in its envelope.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct StringList {
    /// The strings.
    #[serde(deserialize_with = "or_default")]
    pub(crate) values: Vec<String>,
}

/// A key and a value that users give to a volume.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Label {
    /// The key, unique on a volume.
    #[serde(deserialize_with = "or_default")]
    pub(crate) key: String,
    /// The value.
    #[serde(deserialize_with = "or_default")]
    pub(crate) value: String,
}

/// Reads a field for which `null` means that it is not set.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a uint32: a number, also with a zero fraction, or one in quotes; `null` is 0.
pub(crate) fn uint32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(0),
        Value::Number(number) => number,
        Value::String(text) => text.parse().map_err(|_| D::Error::custom("expected a 32-bit number"))?,
        _ => return Err(D::Error::custom("expected a 32-bit number")),
    };
    let whole = number.as_u64().or_else(|| {
        // 3.0 is the number 3 in JSON; casting saturates, and comparing finds what does not survive it.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared afterwards")]
        number
            .as_f64()
            .filter(|value| *value == f64::from(*value as u32))
            .map(|value| u64::from(value as u32))
    });
    whole
        .and_then(|value| u32::try_from(value).ok())
        .ok_or_else(|| D::Error::custom("expected a 32-bit number"))
}

/// Reads an enum from its name or number by `table`; `null` is the first row.
pub(crate) fn named<'de, D: Deserializer<'de>, T: Copy>(
    deserializer: D,
    table: &[(&str, u32, T)],
) -> Result<T, D::Error> {
    let found = match Value::deserialize(deserializer)? {
        Value::Null => table.first(),
        Value::String(text) => table.iter().find(|(name, _, _)| *name == text),
        Value::Number(number) => {
            table.iter().find(|(_, known, _)| Some(u64::from(*known)) == number.as_u64())
        }
        _ => None,
    };
    found.map(|(_, _, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _, _)| *name).collect();
        D::Error::custom(format!("expected one of {}", names.join(", ")))
    })
}

/// A time in nanoseconds since 1970 as RFC 3339 text in UTC.
pub(crate) fn timestamp(unix_ns: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns)).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod test {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_uint32_may_be_quoted() {
        let read = |value: Value| uint32(value).ok();
        for value in [json!(3), json!("3"), json!(3.0)] {
            assert_eq!(read(value), Some(3));
        }
        assert_eq!(read(Value::Null), Some(0));
        for value in
            [json!(-1), json!(4_294_967_296_u64), json!("x"), json!(""), json!(true), json!(1.5), json!([])]
        {
            assert_eq!(read(value.clone()), None, "{value}");
        }
    }

    #[test]
    fn an_enum_has_names_and_numbers() {
        let table = [("None", 0, 'n'), ("One", 1, 'o')];
        let read = |value: Value| named(value, &table).ok();
        assert_eq!(read(Value::Null), Some('n'));
        assert_eq!(read(json!("One")), Some('o'));
        assert_eq!(read(json!(1)), Some('o'));
        for value in [json!("one"), json!(2), json!(true), json!("1")] {
            assert_eq!(read(value.clone()), None, "{value}");
        }
    }

    #[test]
    fn times_are_utc_with_a_z() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(1_767_225_600_500_000_000), "2026-01-01T00:00:00.5Z");
        assert!(timestamp(u64::MAX).ends_with('Z'));
    }
}
