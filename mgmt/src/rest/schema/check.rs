//! Holds answers against their messages.

use serde_json::Value;

use super::{Kind, Message, Presence, read};

/// What is wrong with `value` as an answer of type `message`: a key too many or missing, a value of another type.
pub(crate) fn check(message: &Message, value: &Value) -> Result<(), String> {
    let Value::Object(object) = value else { return Err(format!("{}: no object", message.name)) };
    for key in object.keys() {
        if !message.fields.iter().any(|field| field.name == key) {
            return Err(format!("{}.{key}: unknown", message.name));
        }
    }
    for field in message.fields {
        let at = |text: &str| format!("{}.{}: {text}", message.name, field.name);
        let optional = field.presence == Presence::Choice
            || matches!(field.kind, Kind::Message(_) | Kind::Time | Kind::Duration);
        match object.get(field.name) {
            None if optional => {}
            None => return Err(at("missing")),
            Some(value) => check_value(&field.kind, value).map_err(|text| at(&text))?,
        }
    }
    Ok(())
}

fn check_value(kind: &Kind, value: &Value) -> Result<(), String> {
    let right = match kind {
        Kind::Message(message) => return check(message, value),
        Kind::Map(message) => {
            let object = value.as_object().ok_or("no object")?;
            return object.values().try_for_each(|value| check(message, value));
        }
        Kind::List(kind) => {
            let values = value.as_array().ok_or("no array")?;
            return values.iter().try_for_each(|value| check_value(kind, value));
        }
        Kind::Bool => value.is_boolean(),
        Kind::Double => value.is_number(),
        Kind::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Kind::Uint32 => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        Kind::Int64 => value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()),
        Kind::Uint64 => value.as_str().is_some_and(|text| text.parse::<u64>().is_ok()),
        Kind::Bytes | Kind::Text => value.is_string(),
        Kind::Enum(one) => one.values.iter().any(|(name, _)| value == name),
        Kind::Duration => value.as_str().is_some_and(|text| read::duration_s(text).is_some()),
        Kind::Time => value.as_str().is_some_and(|text| text.ends_with('Z') && read::time_ns(text).is_some()),
    };
    if right { Ok(()) } else { Err(format!("{value} is no {kind:?}")) }
}
