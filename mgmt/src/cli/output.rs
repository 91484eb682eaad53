//! Prints answers: the server's JSON, the same as YAML, or tables for people.

use serde_json::Value;

use super::failure::Failure;
use super::settings::Output;
use crate::size::format_size;

/// How people see an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A line for each element of the list in this field.
    List(&'static str, &'static [Column]),
    /// A line for each value of the object in this field.
    Map(&'static str, &'static [Column]),
    /// One line.
    One(&'static [Column]),
    /// A line for each field.
    Fields,
    /// Nothing: what was asked for is done.
    Nothing,
}

/// A column: its head, and its cell in an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    head: &'static str,
    cell: fn(&Value) -> String,
}

/// The text of `answer`.
pub(super) fn render(answer: &Value, output: Output, shape: Shape) -> Result<String, Failure> {
    let unreadable = |error: &dyn std::error::Error| Failure::Unreadable(error.to_string());
    match (output, shape) {
        (Output::Json, _) => {
            let text = serde_json::to_string_pretty(answer).map_err(|error| unreadable(&error))?;
            Ok(text + "\n")
        }
        (Output::Yaml, _) => serde_norway::to_string(answer).map_err(|error| unreadable(&error)),
        (Output::HumanReadable, Shape::List(field, columns)) => {
            let empty = Vec::new();
            Ok(table(columns, answer[field].as_array().unwrap_or(&empty)))
        }
        (Output::HumanReadable, Shape::Map(field, columns)) => {
            let values = answer[field].as_object().map(|object| object.values().cloned().collect::<Vec<_>>());
            Ok(table(columns, &values.unwrap_or_default()))
        }
        (Output::HumanReadable, Shape::One(columns)) => Ok(table(columns, std::slice::from_ref(answer))),
        (Output::HumanReadable, Shape::Fields) => Ok(fields(answer)),
        (Output::HumanReadable, Shape::Nothing) => Ok(String::new()),
    }
}

/// Columns of volumes.
pub(super) const VOLUMES: &[Column] = &[
    Column { head: "Name", cell: |volume| text(&volume["name"]) },
    Column { head: "UUID", cell: |volume| text(&volume["UUID"]) },
    Column { head: "State", cell: |volume| text(&volume["state"]) },
    Column { head: "Protection State", cell: |volume| text(&volume["protectionState"]) },
    Column { head: "NSID", cell: |volume| text(&volume["nsid"]) },
    Column { head: "Size", cell: |volume| size(&volume["size"]) },
    Column { head: "Replicas", cell: |volume| text(&volume["replicaCount"]) },
    Column { head: "Compression", cell: |volume| text(&volume["compression"]) },
    Column { head: "ACL", cell: |volume| acl(&volume["acl"]) },
    Column { head: "Rebuild Progress", cell: |volume| text(&volume["rebuildProgress"]) },
];

/// Columns of snapshots.
pub(super) const SNAPSHOTS: &[Column] = &[
    Column { head: "Name", cell: |snapshot| text(&snapshot["name"]) },
    Column { head: "UUID", cell: |snapshot| text(&snapshot["UUID"]) },
    Column { head: "Source volume UUID", cell: |snapshot| text(&snapshot["sourceVolumeUUID"]) },
    Column { head: "State", cell: |snapshot| text(&snapshot["state"]) },
];

/// Columns of nodes.
pub(super) const NODES: &[Column] = &[
    Column { head: "Name", cell: |node| text(&node["name"]) },
    Column { head: "UUID", cell: |node| text(&node["UUID"]) },
    Column { head: "State", cell: |node| text(&node["state"]) },
    Column { head: "NVMe endpoint", cell: |node| text(&node["nvmeEndpoint"]) },
    Column { head: "Failure domains", cell: |node| format!("[{}]", joined(&node["failureDomains"], " ")) },
    Column {
        head: "Local rebuild progress",
        cell: |node| match node["inLocalRebuild"].as_bool() {
            Some(true) => text(&node["localRebuildProgress"]),
            _ => "None".to_owned(),
        },
    },
];

/// Columns of projects.
pub(super) const PROJECTS: &[Column] = &[
    Column { head: "Name", cell: |project| text(&project["name"]) },
    Column { head: "UUID", cell: |project| text(&project["UUID"]) },
    Column { head: "Description", cell: |project| text(&project["description"]) },
];

/// Columns of credentials.
pub(super) const CREDENTIALS: &[Column] = &[
    Column { head: "ID", cell: |credential| text(&credential["ID"]) },
    Column { head: "Project", cell: |credential| text(&credential["projectName"]) },
    Column { head: "Type", cell: |credential| text(&credential["type"]) },
];

/// Columns of users.
pub(super) const USERS: &[Column] = &[
    Column { head: "Name", cell: |user| text(&user["name"]) },
    Column { head: "Roles", cell: |user| joined(&user["roles"], ",") },
    Column { head: "Projects", cell: |user| joined(&user["projects"], ",") },
];

/// Columns of connected hosts.
pub(super) const HOSTS: &[Column] = &[
    Column { head: "Host NQN", cell: |host| text(&host["hostNQN"]) },
    Column { head: "IP address", cell: |host| text(&host["iPAddress"]) },
    Column { head: "Volumes", cell: |host| joined(&host["volumeUUIDs"], " ") },
];

/// Columns of servers.
pub(super) const SERVERS: &[Column] = &[
    Column { head: "NAME", cell: |one| text(&one["name"]) },
    Column { head: "UUID", cell: |one| text(&one["UUID"]) },
    Column { head: "State", cell: |one| text(&one["state"]) },
    Column { head: "Risk of service loss", cell: |one| text(&one["RiskOfServiceLossState"]) },
    Column { head: "Version", cell: |one| text(&one["LightOSVersion"]) },
];

/// Columns of QoS policies.
pub(super) const POLICIES: &[Column] = &[
    Column { head: "UUID", cell: |one| text(&one["UUID"]) },
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "State", cell: |one| text(&one["state"]) },
    Column { head: "Type", cell: |one| limit_type(one) },
    Column { head: "Write limit", cell: |one| limit(one, "write") },
    Column { head: "Read limit", cell: |one| limit(one, "read") },
];

/// Columns of a feature flag.
pub(super) const FEATURE_FLAG: &[Column] = &[
    Column { head: "Feature Flag", cell: |one| text(&one["name"]) },
    Column { head: "Enabled", cell: |one| text(&one["enabled"]) },
];

/// Columns of parameters of the cluster.
pub(super) const CLUSTER_CONFIG: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Value", cell: |one| text(&one["value"]) },
];

/// Columns of events.
pub(super) const EVENTS: &[Column] = &[
    Column { head: "Time", cell: |one| text(&one["Time"]) },
    Column { head: "Severity", cell: |one| text(&one["Severity"]) },
    Column { head: "Event", cell: |one| text(&one["EventName"]) },
    Column { head: "Description", cell: |one| text(&one["Description"]) },
];

/// Columns of drives.
pub(super) const DRIVES: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Serial", cell: |one| text(&one["serial"]) },
    Column { head: "State", cell: |one| text(&one["state"]) },
    Column { head: "Size", cell: |one| size(&one["size"]) },
    Column { head: "Model", cell: |one| text(&one["model"]) },
    Column { head: "Node UUID", cell: |one| text(&one["nodeUUID"]) },
];

/// Columns of roles.
pub(super) const ROLES: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Project", cell: |one| text(&one["projectName"]) },
];

/// Columns of admin endpoints.
pub(super) const ADMIN_ENDPOINTS: &[Column] = &[
    Column { head: "Port", cell: |one| text(&one["port"]) },
    Column { head: "Addresses", cell: |one| joined(&one["ips"], " ") },
];

/// Columns of schedules of snapshots.
pub(super) const RESOURCE_POLICIES: &[Column] = &[
    Column { head: "UUID", cell: |one| text(&one["UUID"]) },
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Resource", cell: |one| text(&one["resourceName"]) },
    Column { head: "State", cell: |one| text(&one["state"]) },
    Column { head: "Retention", cell: |one| text(&one["schedulePolicy"]["retentionTime"]) },
];

/// Columns of issuers of tokens.
pub(super) const IDPS: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Type", cell: |one| text(&one["type"]) },
    Column { head: "Issuer", cell: |one| text(&one["idpIssuerURL"]) },
    Column { head: "State", cell: |one| text(&one["state"]) },
];

/// Columns of how tokens of issuers are read.
pub(super) const IDP_CLIENTS: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Client ID", cell: |one| text(&one["clientId"]) },
    Column { head: "Issuer", cell: |one| text(&one["idpConfigurationName"]) },
    Column { head: "Mode", cell: |one| text(&one["authzMode"]) },
    Column { head: "Claim", cell: |one| text(&one["claimName"]) },
];

/// Columns of which claims give which roles.
pub(super) const AUTH_MAP: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Identifier", cell: |one| text(&one["identifier"]) },
    Column { head: "Scope", cell: |one| text(&one["scope"]) },
    Column { head: "Role", cell: |one| text(&one["role"]) },
    Column { head: "Issuer", cell: |one| text(&one["idpConfigurationName"]) },
];

/// Columns of hosts that authenticate.
pub(super) const TRUSTED_HOSTS: &[Column] = &[
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Project", cell: |one| text(&one["projectName"]) },
    Column { head: "Host NQN", cell: |one| text(&one["hostNqn"]) },
    Column { head: "Must authenticate", cell: |one| text(&one["authRequired"]) },
];

/// Columns of contexts.
pub(super) const CONTEXTS: &[Column] = &[
    Column { head: "Current", cell: |one| if one["current"] == true { "*" } else { "" }.to_owned() },
    Column { head: "Name", cell: |one| text(&one["name"]) },
    Column { head: "Expires", cell: |one| text(&one["expires"]) },
    Column { head: "Endpoint", cell: |one| text(&one["endpoint"]) },
];

/// The kind of limit that a policy sets.
fn limit_type(policy: &Value) -> String {
    let limits = &policy["QoSRateLimitPolicy"];
    let kinds = [("limitIOPS", "iops"), ("limitBw", "bw"), ("limitIOPSPerGB", "iops-per-gb")];
    let found = kinds.iter().find(|(field, _)| limits[*field].is_object());
    found.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

/// The limit of a policy for `read` or `write`.
fn limit(policy: &Value, which: &str) -> String {
    let limits = &policy["QoSRateLimitPolicy"];
    let kinds = ["limitIOPS", "limitBw", "limitIOPSPerGB"];
    let fields = kinds.iter().filter_map(|kind| limits[*kind].as_object()).next();
    let found = fields.and_then(|fields| fields.iter().find(|(name, _)| name.starts_with(which)));
    found.map_or_else(String::new, |(_, value)| text(value))
}

fn table(columns: &[Column], objects: &[Value]) -> String {
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|column| column.head.to_owned()).collect()];
    rows.extend(objects.iter().map(|object| columns.iter().map(|column| (column.cell)(object)).collect()));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A line for each field of an object.
pub(super) fn fields(object: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", object, &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned() + "\n").collect()
}

fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, lines);
            }
        }
        Value::Array(_) => lines.push((prefix.to_owned(), joined(value, " "))),
        value => lines.push((prefix.to_owned(), text(value))),
    }
}

/// A cell. What a server sends may hold control characters, which a terminal must not see.
fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn size(value: &Value) -> String {
    value.as_str().and_then(|bytes| bytes.parse().ok()).map_or_else(|| text(value), format_size)
}

fn joined(list: &Value, separator: &str) -> String {
    let values = list.as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().map(text).collect::<Vec<_>>().join(separator)
}

fn acl(value: &Value) -> String {
    let values = value["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().map(|value| format!("values:\"{}\"", text(value))).collect::<Vec<_>>().join(" ")
}
