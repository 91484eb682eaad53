//! Completes answers: scalars and lists that are not set get their zero values, so that clients find every key.

use serde_json::{Map, Value};

use super::{Field, Kind, Message, Presence};

/// Fills `value` in as `message` has it; values that are no objects are left alone.
pub(crate) fn fill(message: &Message, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for field in message.fields {
        if let Some(value) = object.get_mut(field.name) {
            fill_value(&field.kind, value);
        } else if let Some(zero) = zero(field) {
            object.insert(field.name.to_owned(), zero);
        }
    }
}

fn fill_value(kind: &Kind, value: &mut Value) {
    match (kind, value) {
        (Kind::Message(message), value) => fill(message, value),
        (Kind::List(kind), Value::Array(values)) => {
            values.iter_mut().for_each(|value| fill_value(kind, value));
        }
        (Kind::Map(message), Value::Object(object)) => {
            object.values_mut().for_each(|value| fill(message, value));
        }
        _ => {}
    }
}

fn zero(field: &Field) -> Option<Value> {
    if field.presence == Presence::Choice {
        return None;
    }
    Some(match &field.kind {
        Kind::Bool => Value::Bool(false),
        Kind::Bytes | Kind::Text => Value::from(""),
        Kind::Double => Value::from(0.0),
        Kind::Enum(one) => Value::from(one.values[0].0),
        Kind::Int32 | Kind::Uint32 => Value::from(0),
        Kind::Int64 | Kind::Uint64 => Value::from("0"),
        Kind::List(_) => Value::Array(Vec::new()),
        Kind::Map(_) => Value::Object(Map::new()),
        Kind::Duration | Kind::Message(_) | Kind::Time => return None,
    })
}

#[cfg(test)]
mod test {
    use serde_json::json;

    use super::super::site::GET_WORKFLOW_RESPONSE;
    use super::super::tenants::{LIST_POLICIES_RESPONSE, SNAPSHOT_SCHEDULE_POLICY};
    use super::*;

    #[test]
    fn scalars_and_lists_are_filled_messages_and_choices_are_not() {
        let mut value = json!({"policies": [{"name": "p"}]});
        fill(&LIST_POLICIES_RESPONSE, &mut value);
        let policy = json!({"UUID": "", "name": "p", "description": "", "state": "Unknown"});
        assert_eq!(value, json!({"policies": [policy]}));
        let mut value = json!({});
        fill(&SNAPSHOT_SCHEDULE_POLICY, &mut value);
        assert_eq!(value, json!({}));
        fill(&GET_WORKFLOW_RESPONSE, &mut value);
        assert_eq!(value, json!({}));
    }
}
