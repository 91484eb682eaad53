//! The OpenAPI document, made from the table that routes and the messages that parse.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::request::Request;
use super::router::{Handler, Route};
use super::schema::{ANY, EMPTY, Field, Kind, Message, Presence, STREAM};
use super::{Api, Reply};
use crate::auth::Caller;

/// `GET /api/v2/openapi.json`.
pub(super) async fn document(api: Rc<Api>, _: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    Reply::json(&describe(api.router.routes()))
}

/// The document of `routes`.
pub(super) fn describe<'a>(routes: impl Iterator<Item = &'a Route>) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut messages = BTreeMap::new();
    // What lies outside the contract has a shape of its own.
    for route in routes.filter(|route| !std::ptr::eq(route.request, &raw const ANY)) {
        let method = route.method.as_str().to_ascii_lowercase();
        paths
            .entry(route.path.replace(NESTED, ""))
            .or_default()
            .insert(method, operation(route, &mut messages));
    }
    let schemas: Map<String, Value> = messages.into_iter().collect();
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Ferrule", "version": env!("CARGO_PKG_VERSION")},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "paths": paths,
    })
}

type Schemas = BTreeMap<String, Value>;

fn operation(route: &Route, messages: &mut Schemas) -> Value {
    let variables: Vec<&str> = route.path.split('/').filter_map(variable).collect();
    let mut parameters: Vec<Value> =
        variables.iter().map(|name| path_parameter(route, name, messages)).collect();
    let has_body = matches!(route.method.as_str(), "POST" | "PUT");
    let rest = || route.request.fields.iter().filter(|field| !variables.contains(&field.name));
    if !has_body {
        parameters.extend(rest().filter_map(|field| query_parameter(field, messages)));
    }
    if !route.errors.is_empty() && matches!(route.method.as_str(), "PUT" | "DELETE" | "POST") {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "schema": {"type": "string"},
            "description": "the ETag of the resource that shall be changed",
        }));
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(route, messages));
    let own = [400, 404, 409, 412, 413, 429, 500, 501, 503];
    let token = if matches!(route.handler, Handler::Open(_)) { &[][..] } else { &[401, 403][..] };
    for status in route.errors.iter().chain(&own).chain(token) {
        responses.insert(status.to_string(), failure(messages));
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": responses,
    });
    if !matches!(route.handler, Handler::Open(_)) {
        operation["security"] = json!([{"token": []}]);
    }
    if has_body {
        let mut schema = object(rest(), true, messages);
        schema["additionalProperties"] = json!(true);
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    operation
}

/// A name of the path's own: some operations have two.
fn operation_id(route: &Route) -> String {
    let twofold = ["Volume", "Volumes", "ListEvents", "ListTrustedHosts"];
    let twofold = twofold.iter().any(|name| route.operation.ends_with(name));
    let of = if twofold && route.path.starts_with("/api/v2/projects/") { "OfProject" } else { "" };
    format!("{}{of}", route.operation)
}

fn path_parameter(route: &Route, name: &str, messages: &mut Schemas) -> Value {
    let field = route.request.fields.iter().find(|field| field.name == name);
    let schema = field.map_or_else(|| json!({"type": "string"}), |field| schema_of(&field.kind, messages));
    let name = name.trim_start_matches(NESTED);
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn query_parameter(field: &Field, messages: &mut Schemas) -> Option<Value> {
    if matches!(field.kind, Kind::Message(_) | Kind::Map(_) | Kind::List(Kind::Message(_))) {
        return None;
    }
    let schema = schema_of(&field.kind, messages);
    Some(json!({"name": field.name, "in": "query", "schema": schema}))
}

fn success(route: &Route, messages: &mut Schemas) -> Value {
    if std::ptr::eq(route.answer, &raw const STREAM) {
        return json!({"description": "Done.", "content": {"*/*": {"schema": {}}}});
    }
    let schema = reference(route.answer, messages);
    json!({"description": "Done.", "content": {"application/json": {"schema": schema}}})
}

fn failure(messages: &mut Schemas) -> Value {
    messages.entry("Error".to_owned()).or_insert_with(|| {
        json!({
            "type": "object",
            "required": ["error", "code", "message"],
            "properties": {
                "error": {"type": "string"},
                "code": {"type": "integer"},
                "message": {"type": "string"},
            },
        })
    });
    let schema = json!({"$ref": "#/components/schemas/Error"});
    json!({"description": "The request was refused or failed.", "content": {"application/json": {"schema": schema}}})
}

/// A reference to a message's schema, which is described the first time.
fn reference(message: &'static Message, messages: &mut Schemas) -> Value {
    if std::ptr::eq(message, &raw const EMPTY) {
        return json!({"type": "object", "maxProperties": 0});
    }
    if !messages.contains_key(message.name) {
        messages.insert(message.name.to_owned(), Value::Null);
        let schema = object(message.fields.iter(), false, messages);
        messages.insert(message.name.to_owned(), schema);
    }
    json!({"$ref": format!("#/components/schemas/{}", message.name)})
}

fn object<'a>(fields: impl Iterator<Item = &'a Field>, request: bool, messages: &mut Schemas) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        properties.insert(field.name.to_owned(), schema_of(&field.kind, messages));
        let optional = matches!(field.kind, Kind::Message(_) | Kind::Time | Kind::Duration);
        let always = field.presence != Presence::Choice && !optional;
        if request && field.presence == Presence::Required || !request && always {
            required.push(field.name);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn schema_of(kind: &Kind, messages: &mut Schemas) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Duration => json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,9})?s$"}),
        Kind::Enum(one) => {
            let names: Vec<&str> = one.values.iter().map(|(name, _)| *name).collect();
            json!({"type": "string", "enum": names, "title": one.name})
        }
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Uint32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Kind::Int64 => json!({"type": "string", "pattern": "^-?[0-9]{1,18}$"}),
        Kind::Uint64 => json!({"type": "string", "pattern": "^[0-9]{1,20}$"}),
        Kind::List(kind) => json!({"type": "array", "items": schema_of(kind, messages)}),
        Kind::Map(message) => {
            json!({"type": "object", "additionalProperties": reference(message, messages)})
        }
        Kind::Message(message) => reference(message, messages),
        Kind::Text => json!({"type": "string"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
    }
}

fn variable(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// The path variable that is a field of a field: clients of the document know it by the field's own name.
const NESTED: &str = "configParam.";

#[cfg(test)]
mod test {
    use super::super::routes;
    use super::*;

    #[test]
    fn every_reference_has_its_schema_and_every_operation_its_own_name() {
        let document = describe(routes::table().iter());
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.get(name).is_some_and(Value::is_object), "{name}");
        }
        let mut names = std::collections::BTreeSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                assert!(names.insert(operation["operationId"].to_string()), "{operation}");
            }
        }
        assert!(names.len() >= 109);
    }
}
