//! Commands about snapshots.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::client::{Call, Client, encode};
use super::failure::Failure;
use super::output::{self, Shape, render};
use super::run::settled;
use super::verbs::{
    ChangedBlocks, CreateSnapshot, DeleteSnapshot, ListSnapshots, RollbackVolume, WhichSnapshot,
};

/// Runs `create snapshot`.
pub(super) async fn create(client: &Client, snapshot: CreateSnapshot) -> Result<String, Failure> {
    let mut call = Call::new(Method::POST, snapshots(client));
    call.body = Some(object([
        ("name", Some(snapshot.name)),
        ("sourceVolumeName", snapshot.source_volume_name),
        ("sourceVolumeUUID", snapshot.source_volume_uuid),
        ("retentionTime", snapshot.retention_time),
        ("description", snapshot.description),
    ]));
    let answer = client.send(call).await?;
    let answer = settled(client, answer, |uuid| format!("{}/{}", snapshots(client), encode(uuid))).await?;
    render(&answer, client.settings.output, Shape::One(output::SNAPSHOTS))
}

/// Runs `list snapshots`, page by page.
pub(super) async fn list(client: &Client, which: ListSnapshots) -> Result<String, Failure> {
    let path = snapshots(client);
    let mut found: Vec<Value> = Vec::new();
    loop {
        let mut query = format!("limit={PAGE}&showAll={}", which.show_all);
        if let Some(name) = &which.name {
            query += &format!("&Name={}", encode(name));
        }
        if let Some(last) = found.last() {
            query += &format!("&offsetUUID={}", encode(last["UUID"].as_str().unwrap_or_default()));
        }
        let mut answer = client.send(Call::new(Method::GET, format!("{path}?{query}"))).await?;
        let page = answer["snapshots"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let last = page.len() < PAGE;
        found.extend(page);
        if last {
            break;
        }
    }
    let answer = json!({"snapshots": found});
    render(&answer, client.settings.output, Shape::List("snapshots", output::SNAPSHOTS))
}

/// Runs `delete snapshot`.
pub(super) async fn delete(client: &Client, snapshot: DeleteSnapshot) -> Result<String, Failure> {
    let found = client.send(Call::new(Method::GET, path(client, &snapshot.which, "Name"))).await?;
    let uuid =
        found["UUID"].as_str().ok_or_else(|| Failure::Unreadable("a snapshot without UUID".to_owned()))?;
    let mut call = Call::new(Method::DELETE, format!("{}/{}", snapshots(client), encode(uuid)));
    call.if_match = snapshot.etag;
    client.send(call).await?;
    Ok(String::new())
}

/// Runs `rollback volume` for the volume at `path`.
pub(super) async fn roll_back(client: &Client, path: &str, volume: &RollbackVolume) -> Result<(), Failure> {
    let mut call = Call::new(Method::PUT, format!("{path}/rollback"));
    call.body = Some(object([
        ("srcSnapshotName", volume.source_snapshot_name.clone()),
        ("srcSnapshotUUID", volume.source_snapshot_uuid.clone()),
    ]));
    call.if_match.clone_from(&volume.etag);
    client.send(call).await.map(drop)
}

/// Runs `list changed-blocks`: all parts, or the one that begins at an offset.
pub(super) async fn changed_blocks(client: &Client, which: ChangedBlocks) -> Result<String, Failure> {
    let uuid = which.current_snapshot_uuid.as_deref().unwrap_or_default();
    let path = format!("{}/diff/{}", snapshots(client), encode(uuid));
    let mut offset = which.offset_lba.unwrap_or(0);
    let mut ranges = Vec::new();
    let next = loop {
        let mut query = format!("offsetLBA={offset}");
        for (key, value) in [
            ("snapshotName", &which.current_snapshot_name),
            ("baseSnapshotName", &which.base_snapshot_name),
            ("baseSnapshotUUID", &which.base_snapshot_uuid),
        ] {
            if let Some(value) = value {
                query += &format!("&{key}={}", encode(value));
            }
        }
        let mut answer = client.send(Call::new(Method::GET, format!("{path}?{query}"))).await?;
        ranges.extend(answer["lbaRanges"].as_array_mut().map(std::mem::take).unwrap_or_default());
        let next = answer["nextOffsetLBA"].as_str().unwrap_or("0").to_owned();
        let further = next.parse().ok().filter(|further| *further > offset);
        match further {
            Some(further) if which.offset_lba.is_none() => offset = further,
            Some(_) | None => break next,
        }
    };
    let answer = json!({"nextOffsetLBA": next, "lbaRanges": ranges});
    let text = serde_json::to_string_pretty(&answer);
    text.map(|text| text + "\n").map_err(|error| Failure::Unreadable(error.to_string()))
}

/// The path of a snapshot; a name is asked for by this query parameter.
pub(super) fn path(client: &Client, which: &WhichSnapshot, parameter: &str) -> String {
    match &which.uuid {
        Some(uuid) => format!("{}/{}", snapshots(client), encode(uuid)),
        None => {
            let name = which.name.as_deref().unwrap_or_default();
            format!("{}/?{parameter}={}", snapshots(client), encode(name))
        }
    }
}

fn snapshots(client: &Client) -> String {
    format!("/api/v2/projects/{}/snapshots", encode(&client.settings.project()))
}

/// An object of the values that are there.
fn object<const N: usize>(fields: [(&str, Option<String>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(fields.collect::<Map<String, Value>>())
}

/// Snapshots in one answer.
const PAGE: usize = 1000;
