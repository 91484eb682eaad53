//! Holds the route table and its messages against the contract: each path, field, type and status.
//!
//! `contract.json` is data of its own: the table was not made from it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::router::Route;
use super::super::routes;
use super::super::schema::{Kind, Message};

fn contract() -> Vec<Value> {
    serde_json::from_str(include_str!("contract.json")).unwrap()
}

fn route<'a>(table: &'a [Route], row: &Value) -> &'a Route {
    let found =
        table.iter().find(|route| row["method"] == route.method.as_str() && row["path"] == route.path);
    found.unwrap_or_else(|| panic!("no route {} {}", row["method"], row["path"]))
}

fn names(row: &Value, key: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    row[key].as_array().unwrap().iter().map(|field| (text(&field["name"]), text(&field["type"]))).collect()
}

#[test]
fn every_row_of_the_contract_is_routed_with_its_statuses() {
    let table = routes::table();
    let rows = contract();
    assert_eq!(rows.len(), 109);
    for row in &rows {
        let route = route(&table, row);
        let documented: BTreeSet<u64> =
            row["statuses"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        let mut own: BTreeSet<u64> = route.errors.iter().map(|status| u64::from(*status)).collect();
        own.insert(200);
        assert_eq!(own, documented, "{} {}", route.method, route.path);
    }
}

#[test]
fn every_api_route_is_a_row_of_the_contract_or_its_own_document() {
    let rows = contract();
    for route in routes::table() {
        let known =
            rows.iter().any(|row| row["method"] == route.method.as_str() && row["path"] == route.path);
        let own = route.path == "/api/v2/openapi.json" || !route.path.starts_with("/api/");
        assert!(known || own, "{} {}", route.method, route.path);
    }
}

#[test]
fn requests_have_the_contracts_fields() {
    let table = routes::table();
    for row in contract() {
        let route = route(&table, &row);
        for key in ["query", "in_path"] {
            for (name, _) in names(&row, key) {
                let first = name.split('.').next().unwrap().to_owned();
                let found = route.request.fields.iter().any(|field| field.name.eq_ignore_ascii_case(&first));
                assert!(found, "{} {}: {key} {name}", route.method, route.path);
            }
        }
        let body: BTreeSet<String> = names(&row, "body").into_iter().map(|(name, _)| name).collect();
        let mut own = BTreeSet::new();
        gather(route.request, &mut own);
        let missing: Vec<&String> = body.iter().filter(|name| !own.contains(*name)).collect();
        assert!(missing.is_empty(), "{} {}: {missing:?}", route.method, route.path);
    }
}

#[test]
fn answers_have_the_contracts_fields_and_types() {
    let table = routes::table();
    for row in contract() {
        let route = route(&table, &row);
        let given = names(&row, "response");
        let mut own = Vec::new();
        list(route.answer, &mut own);
        for (name, of) in given {
            // A map's values stand under a star.
            if name == "*" || of == "*" {
                continue;
            }
            let mut kinds = own.iter().filter(|(known, _)| *known == name).map(|(_, kind)| *kind).peekable();
            assert!(kinds.peek().is_some(), "{} {}: {name}", route.method, route.path);
            assert!(kinds.any(|kind| fits(kind, &of)), "{} {}: {name} is no {of}", route.method, route.path);
        }
    }
}

/// All names in a message and below it.
fn gather(message: &'static Message, names: &mut BTreeSet<String>) {
    let mut own = Vec::new();
    list(message, &mut own);
    names.extend(own.into_iter().map(|(name, _)| name.to_owned()));
}

fn list(message: &'static Message, fields: &mut Vec<(&'static str, &'static Kind)>) {
    for field in message.fields {
        fields.push((field.name, &field.kind));
        let mut kind = &field.kind;
        while let Kind::List(inner) = kind {
            kind = inner;
        }
        if let Kind::Message(inner) | Kind::Map(inner) = kind {
            list(inner, fields);
        }
    }
}

/// The contract calls 32-bit numbers `int64` and 64-bit numbers `string`.
fn fits(kind: &Kind, of: &str) -> bool {
    match kind {
        Kind::Bool => of == "boolean",
        Kind::Bytes | Kind::Duration | Kind::Enum(_) | Kind::Int64 | Kind::Text | Kind::Uint64 => {
            matches!(of, "string" | "byte" | "uint64" | "int64")
        }
        Kind::Double => matches!(of, "double" | "number"),
        Kind::Int32 | Kind::Uint32 => matches!(of, "int32" | "int64" | "integer"),
        Kind::List(Kind::Map(_) | Kind::Message(_)) => of == "array[object]",
        Kind::List(_) => of.starts_with("array["),
        Kind::Map(_) | Kind::Message(_) => of == "object",
        Kind::Time => matches!(of, "date-time" | "string"),
    }
}
