//! Reads requests by their messages: what comes out has canonical values and no unknown keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::error::ApiError;
use super::super::json::timestamp;
use super::super::request::{Query, body_object};
use super::{ANY, Enum, Kind, Message};

/// Reads a JSON object as `message`.
fn read(message: &Message, object: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    read_object(message, object).map_err(|wrong| ApiError::invalid(wrong.text()))
}

/// Reads a body as `message`; one of any form is taken as it is.
pub(crate) fn read_body(message: &Message, body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if std::ptr::eq(message, &raw const ANY) {
        // A browser's form is none of JSON.
        let json = body.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
        return if json { body_object(body) } else { Ok(Map::new()) };
    }
    read(message, body_object(body)?)
}

/// Reads a query as `message`: scalars and lists of scalars; keys match in any case, an exact one first.
pub(crate) fn read_query(message: &Message, query: &Query) -> Result<Map<String, Value>, ApiError> {
    let mut read = Map::new();
    for field in message.fields {
        let texts = query.all(field.name);
        let Some(last) = texts.last() else { continue };
        let value = match &field.kind {
            Kind::Message(_) | Kind::Map(_) => continue,
            Kind::List(Kind::Message(_) | Kind::Map(_)) => continue,
            Kind::List(kind) => {
                let read = texts.iter().map(|text| read_text(kind, text)).collect::<Result<_, _>>();
                read.map(Value::Array)
            }
            _ if last.is_empty() => continue,
            kind => read_text(kind, last),
        };
        let value = value.map_err(|expected| {
            let name = field.name;
            ApiError::invalid(format!("type mismatch, parameter: {name}, error: {last:?}: {expected}"))
        })?;
        read.insert(field.name.to_owned(), value);
    }
    Ok(read)
}

/// Puts a path variable over what query or body say; `a.b` is field `b` of message `a`, an empty one says nothing.
pub(crate) fn read_variable(
    message: &Message,
    fields: &mut Map<String, Value>,
    name: &str,
    text: &str,
) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = message.fields.iter().find(|field| field.name == first) else { return Ok(()) };
    match (&field.kind, rest) {
        (Kind::Message(inner), Some(rest)) => {
            let nested = fields.entry(first).or_insert_with(|| Value::Object(Map::new()));
            match nested {
                Value::Object(nested) => read_variable(inner, nested, rest, text),
                _ => Ok(()),
            }
        }
        (kind, _) => {
            let value = read_text(kind, text).map_err(|expected| {
                ApiError::invalid(format!("type mismatch, parameter: {name}, error: {text:?}: {expected}"))
            })?;
            fields.insert(first.to_owned(), value);
            Ok(())
        }
    }
}

/// Seconds of a duration in any of the forms that clients write.
pub(crate) fn read_duration(text: &str) -> Option<u64> {
    duration_s(&parse_duration(text)?)
}

/// Seconds of a canonical duration.
pub(crate) fn duration_s(text: &str) -> Option<u64> {
    let whole = text.strip_suffix('s')?;
    whole.split('.').next()?.parse().ok()
}

/// Nanoseconds since 1970 of an RFC 3339 time; times before it are none.
pub(crate) fn time_ns(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos()).ok()
}

/// What is wrong, and where: keys from the inside out.
struct Wrong {
    keys: Vec<String>,
    expected: String,
}

impl Wrong {
    fn text(&self) -> String {
        let path: Vec<&str> = self.keys.iter().rev().map(String::as_str).collect();
        format!("{}: expected {}", path.join("."), self.expected)
    }
}

fn read_object(message: &Message, mut object: Map<String, Value>) -> Result<Map<String, Value>, Wrong> {
    let mut read = Map::new();
    for field in message.fields {
        let Some(value) = object.remove(field.name).filter(|value| !value.is_null()) else { continue };
        let value = read_value(&field.kind, value).map_err(|mut wrong| {
            wrong.keys.push(field.name.to_owned());
            wrong
        })?;
        read.insert(field.name.to_owned(), value);
    }
    Ok(read)
}

fn read_value(kind: &Kind, value: Value) -> Result<Value, Wrong> {
    let wrong = |expected: String| Wrong { keys: Vec::new(), expected };
    match (kind, value) {
        (Kind::Message(message), Value::Object(object)) => read_object(message, object).map(Value::Object),
        (Kind::Map(message), Value::Object(object)) => {
            let one = |(key, value)| match value {
                Value::Object(object) => Ok((key, Value::Object(read_object(message, object)?))),
                _ => Err(wrong("an object".to_owned())),
            };
            object.into_iter().map(one).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        (Kind::Message(_) | Kind::Map(_), _) => Err(wrong("an object".to_owned())),
        (Kind::List(kind), Value::Array(values)) => {
            let read = values.into_iter().map(|value| read_value(kind, value));
            read.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        (Kind::List(_), _) => Err(wrong("an array".to_owned())),
        (Kind::Bool, value @ Value::Bool(_)) => Ok(value),
        (Kind::Bool, _) => Err(wrong("true or false".to_owned())),
        (Kind::Double, value @ Value::Number(_)) => Ok(value),
        (Kind::Enum(one), Value::Number(number)) => {
            by_number(one, number.as_u64()).ok_or_else(|| wrong(names(one)))
        }
        (Kind::Enum(one), Value::String(text)) => {
            // A number in quotes is no name.
            let named = one.values.iter().find(|(name, _)| *name == text);
            named.map(|(name, _)| Value::from(*name)).ok_or_else(|| wrong(names(one)))
        }
        (Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64, Value::Number(number)) => {
            // 3.0 is the number 3 in JSON.
            let whole = number.as_f64().filter(|value| value.fract() == 0.0).map(|value| format!("{value}"));
            let text = if number.is_f64() { whole.unwrap_or_default() } else { number.to_string() };
            read_text(kind, &text).map_err(wrong)
        }
        (kind, Value::String(text)) => read_text(kind, &text).map_err(wrong),
        (kind, _) => Err(wrong(expected(kind))),
    }
}

/// Reads a scalar's text; what is expected if it is none.
fn read_text(kind: &Kind, text: &str) -> Result<Value, String> {
    let value = match kind {
        Kind::Text => Some(Value::from(text)),
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::Bytes => STANDARD.decode(text).ok().map(|_| Value::from(text)),
        Kind::Double => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        Kind::Duration => parse_duration(text).map(Value::from),
        Kind::Enum(one) => {
            let named = one.values.iter().find(|(name, _)| *name == text);
            let named = named.map(|(name, _)| Value::from(*name));
            named.or_else(|| by_number(one, text.parse().ok()))
        }
        Kind::Int32 => text.parse::<i32>().ok().map(Value::from),
        Kind::Uint32 => text.parse::<u32>().ok().map(Value::from),
        Kind::Int64 => text.parse::<i64>().ok().map(|number| Value::from(number.to_string())),
        Kind::Uint64 => text.parse::<u64>().ok().map(|number| Value::from(number.to_string())),
        Kind::Time => time_ns(text).map(|ns| Value::from(timestamp(ns))),
        Kind::List(_) | Kind::Map(_) | Kind::Message(_) => None,
    };
    value.ok_or_else(|| expected(kind))
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Bytes => "standard base64 with padding".to_owned(),
        Kind::Double => "a number".to_owned(),
        Kind::Duration => "a duration such as \"3600s\" or \"2h\"".to_owned(),
        Kind::Enum(one) => names(one),
        Kind::Int32 | Kind::Uint32 => "a 32-bit number".to_owned(),
        Kind::Int64 | Kind::Uint64 => "a 64-bit number".to_owned(),
        Kind::List(_) => "an array".to_owned(),
        Kind::Map(_) | Kind::Message(_) => "an object".to_owned(),
        Kind::Text => "a string".to_owned(),
        Kind::Time => "a time such as \"2026-01-01T12:00:00Z\"".to_owned(),
    }
}

fn names(one: &Enum) -> String {
    let names: Vec<&str> = one.values.iter().map(|(name, _)| *name).collect();
    format!("one of {}", names.join(", "))
}

fn by_number(one: &Enum, number: Option<u64>) -> Option<Value> {
    let found = one.values.iter().find(|(_, known)| Some(u64::from(*known)) == number);
    found.map(|(name, _)| Value::from(*name))
}

/// Reads `3600s`, and what Go writes: `2h`, `1h30m`, `1.5h`, `300ms`. Gives seconds with an `s`.
fn parse_duration(text: &str) -> Option<String> {
    let mut rest = text;
    let mut total_ns: u128 = 0;
    if rest == "0" {
        return Some("0s".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_ns: u128 = match unit {
            "h" => 3600 * NS,
            "m" => 60 * NS,
            "s" => NS,
            "ms" => NS / 1000,
            "us" | "µs" => NS / 1_000_000,
            "ns" => 1,
            _ => return None,
        };
        total_ns = total_ns.checked_add(scaled(number, unit_ns)?)?;
        rest = tail;
    }
    // protobuf's JSON mapping: at most 10,000 years.
    if text.is_empty() || total_ns > 315_576_000_000 * NS {
        return None;
    }
    let (whole, part) = (total_ns / NS, total_ns % NS);
    let part = if part == 0 { String::new() } else { format!(".{part:09}") };
    Some(format!("{whole}{}s", part.trim_end_matches('0')))
}

/// A decimal number with an optional fraction, times `unit`.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.len() > 12 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part: u128 = if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.into() };
    Some(whole * unit + part * unit / scale)
}

const NS: u128 = 1_000_000_000;

#[cfg(test)]
mod test {
    use serde_json::json;

    use super::super::requests::{
        CREATE_RESOURCE_POLICY_REQUEST, CREATE_VOLUME_REQUEST, LIST_EVENTS_REQUEST,
    };
    use super::super::tenants::LABEL;
    use super::*;

    fn canon(message: &Message, value: Value) -> Result<Value, String> {
        let Value::Object(object) = value else { panic!("an object") };
        read(message, object).map(Value::Object).map_err(|error| error.message)
    }

    #[test]
    fn values_become_canonical_and_strangers_vanish() {
        let given = json!({
            "name": "v", "size": null, "Name": "x", "replicaCount": "3", "sectorSize": 4096,
            "labels": [{"key": "a", "value": "b", "more": 1}],
        });
        let read = json!({
            "name": "v", "replicaCount": 3, "sectorSize": "sectorSize_4K",
            "labels": [{"key": "a", "value": "b"}],
        });
        assert_eq!(canon(&CREATE_VOLUME_REQUEST, given), Ok(read));
    }

    #[test]
    fn wrong_values_are_named_by_their_path() {
        for (value, said) in [
            (json!({"size": 1_073_741_824}), "size: expected a string"),
            (json!({"acl": {"values": [1]}}), "acl.values: expected a string"),
            (json!({"acl": []}), "acl: expected an object"),
            (json!({"replicaCount": -1}), "replicaCount: expected a 32-bit number"),
            (json!({"replicaCount": 1.5}), "replicaCount: expected a 32-bit number"),
            (json!({"replicaCount": 4_294_967_296_u64}), "replicaCount: expected a 32-bit number"),
            (json!({"labels": [{"key": 1}]}), "labels.key: expected a string"),
        ] {
            assert_eq!(canon(&CREATE_VOLUME_REQUEST, value), Err(said.to_owned()));
        }
        assert!(
            canon(&CREATE_VOLUME_REQUEST, json!({"sectorSize": "x"})).unwrap_err().contains("sectorSize_4K")
        );
        assert_eq!(canon(&LABEL, json!({})), Ok(json!({})));
    }

    #[test]
    fn durations_take_protobufs_and_gos_syntax() {
        for (text, canonical) in [
            ("3600s", "3600s"),
            ("2h", "7200s"),
            ("1h30m", "5400s"),
            ("1.5h", "5400s"),
            ("300ms", "0.3s"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(parse_duration(text).as_deref(), Some(canonical), "{text}");
        }
        for text in ["", "1", "h", "-1s", "1x", "1s2", "99999999999999999999s", "400000000000s", "1.s2", "."]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        let policy = json!({"schedulePolicy": {"retentionTime": 5}});
        assert!(canon(&CREATE_RESOURCE_POLICY_REQUEST, policy).is_err());
    }

    #[test]
    fn queries_are_read_by_the_same_messages() {
        let read = |text: &str| read_query(&LIST_EVENTS_REQUEST, &Query::parse(text).unwrap());
        let events = read("severity=Info&severity=High&limit=5&x=1").unwrap();
        assert_eq!(Value::Object(events), json!({"severity": ["Info", "High"], "limit": "5"}));
        let error = read("limit=x").unwrap_err();
        assert_eq!(error.status, 400);
        assert!(error.message.contains("limit"), "{}", error.message);
    }
}
