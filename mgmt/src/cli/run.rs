//! Runs the commands that speak to a server: each becomes one or a few requests, and text.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Environment;
use super::client::{Call, Client, encode};
use super::failure::Failure;
use super::output::{self, Shape, render};
use super::print;
use super::progress::Progress;
use super::settings::ClientArgs;
use super::snapshots;
use super::transfer::{self, Export, Import};
use super::verbs::{
    Affinity, Create, CreateCredential, CreateVolume, Delete, DeleteVolume, Get, GetLogs, List, ListVolumes,
    Rollback, SectorSize, Update, UpdateVolume, Verb, WhichNode, WhichVolume,
};
use crate::size::format_size;

/// Runs `create`.
pub(super) fn create(verb: Verb<Create>, environment: Environment<'_>) -> Result<String, Failure> {
    if let Create::Jwt(jwt) = verb.noun {
        return jwt.run();
    }
    run(verb, environment, async |client, noun| match noun {
        Create::Volume(volume) => create_volume(client, volume).await,
        Create::Snapshot(snapshot) => snapshots::create(client, snapshot).await,
        Create::Credential(credential) => create_credential(client, credential).await,
        Create::Jwt(jwt) => jwt.run(),
    })
}

/// Runs `list`.
pub(super) fn list(verb: Verb<List>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        List::Volumes(which) => list_volumes(client, which).await,
        List::Snapshots(which) => snapshots::list(client, which).await,
        List::ChangedBlocks(which) => snapshots::changed_blocks(client, which).await,
        List::Nodes => show(client, "/api/v2/nodes", Shape::List("nodes", output::NODES)).await,
        List::Projects => show(client, "/api/v2/projects", Shape::List("projects", output::PROJECTS)).await,
        List::Credentials => {
            let path = credentials(client);
            show(client, &path, Shape::List("credentials", output::CREDENTIALS)).await
        }
        List::Users => show(client, "/auth/users", Shape::List("users", output::USERS)).await,
        List::ConnectedHosts(which) => {
            let filter = which.volume_uuid.map(|uuid| format!("?volumeUUID={}", encode(&uuid)));
            let path = format!("/api/v2/connectedHosts{}", filter.unwrap_or_default());
            show(client, &path, Shape::List("connectedHosts", output::HOSTS)).await
        }
    })
}

/// Runs `get`.
pub(super) fn get(verb: Verb<Get>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Get::Volume(which) => show(client, &volume_path(client, &which), Shape::One(output::VOLUMES)).await,
        Get::Snapshot(which) => {
            let path = snapshots::path(client, &which, "Name");
            show(client, &path, Shape::One(output::SNAPSHOTS)).await
        }
        Get::Cluster => show(client, "/api/v2/cluster", Shape::Fields).await,
        Get::ClusterInfo => show(client, "/api/v2/clusterinfo", Shape::Fields).await,
        Get::Node(which) => get_node(client, which).await,
        Get::Project(which) => {
            let path = format!("/api/v2/projects/{}", encode(&which.name));
            show(client, &path, Shape::One(output::PROJECTS)).await
        }
        Get::Credential(which) => {
            let path = format!("{}/{}", credentials(client), encode(&which.id));
            show(client, &path, Shape::Fields).await
        }
        Get::ConnectedHost(which) => {
            let path = format!("/api/v2/connectedHosts/{}", encode(&which.host_nqn));
            show(client, &path, Shape::One(output::HOSTS)).await
        }
        Get::Logs(logs) => get_logs(client, logs).await,
        Get::Version => {
            let mut call = Call::new(Method::GET, "/api/v2/version".to_owned());
            call.token = false;
            let answer = client.send(call).await?;
            render(&answer, client.settings.output, Shape::Fields)
        }
    })
}

/// Runs `update`.
pub(super) fn update(verb: Verb<Update>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Update::Volume(volume) => update_volume(client, volume).await,
    })
}

/// Runs `delete`.
pub(super) fn delete(verb: Verb<Delete>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Delete::Volume(volume) => delete_volume(client, volume).await,
        Delete::Snapshot(snapshot) => snapshots::delete(client, snapshot).await,
        Delete::Credential(which) => {
            let path = format!("{}/{}", credentials(client), encode(&which.id));
            client.send(Call::new(Method::DELETE, path)).await?;
            Ok(String::new())
        }
        Delete::User(which) => {
            let path = format!("/auth/users/{}", encode(&which.name));
            client.send(Call::new(Method::DELETE, path)).await?;
            Ok(String::new())
        }
    })
}

/// Runs `rollback`.
pub(super) fn rollback(verb: Verb<Rollback>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Rollback::Volume(volume) => {
            let path = settled_path(client, &volume.which).await?;
            snapshots::roll_back(client, &path, &volume).await?;
            show(client, &path, Shape::One(output::VOLUMES)).await
        }
    })
}

/// Runs `export`.
pub(super) fn export(verb: Verb<Export>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Export::Snapshot(snapshot) => transfer::export(client, snapshot).await,
    })
}

/// Runs `import`.
pub(super) fn import(verb: Verb<Import>, environment: Environment<'_>) -> Result<String, Failure> {
    run(verb, environment, async |client, noun| match noun {
        Import::Volume(volume) => transfer::import(client, volume).await,
    })
}

/// Settles where the server is, and runs `command` against it.
fn run<N: clap::Subcommand>(
    verb: Verb<N>,
    environment: Environment<'_>,
    command: impl AsyncFnOnce(&Client, N) -> Result<String, Failure>,
) -> Result<String, Failure> {
    with_client(verb.client, environment, async |client| command(client, verb.noun).await)
}

/// Settles where the server is, and runs `command` against it.
pub(super) fn with_client(
    client: ClientArgs,
    environment: Environment<'_>,
    command: impl AsyncFnOnce(&Client) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let client = Client::new(client.settle(environment)?)?;
    if let Some(warning) = client.settings.expiry_warning(jsonwebtoken::get_current_timestamp()) {
        print::remark(format_args!("{warning}\n"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::NoAnswer {
        endpoint: client.settings.endpoint.clone(),
        reason: error.to_string(),
    })?;
    runtime.block_on(command(&client))
}

pub(super) async fn show(client: &Client, path: &str, shape: Shape) -> Result<String, Failure> {
    let answer = client.send(Call::new(Method::GET, path.to_owned())).await?;
    render(&answer, client.settings.output, shape)
}

async fn create_volume(client: &Client, volume: CreateVolume) -> Result<String, Failure> {
    let mut body = json!({
        "name": volume.name,
        "size": volume.size,
        "acl": {"values": volume.acl},
        "compression": volume.compression,
        "replicaCount": volume.replica_count,
        "sectorSize": match volume.sector_size {
            SectorSize::B512 => "sectorSize_512B",
            SectorSize::B4096 => "sectorSize_4K",
        },
        "labels": labels(&volume.labels),
    });
    if !volume.ip_acl.is_empty() {
        body["IPAcl"] = json!({"values": volume.ip_acl});
    }
    if let Some(Affinity(domains)) = volume.placement_affinity {
        let pairs: Vec<Value> = domains.iter().map(|name| json!({"key": "FD", "value": name})).collect();
        body["placementRestrictions"] = json!([{"operator": "In", "labelValueKeyPairs": pairs}]);
    }
    let source = [
        ("sourceSnapshotName", volume.source_snapshot_name),
        ("sourceSnapshotUUID", volume.source_snapshot_uuid),
    ];
    for (key, value) in source.into_iter().chain(volume.policy.fields()) {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let mut call = Call::new(Method::POST, volumes(&client.settings.project()));
    call.body = Some(body);
    let answer = client.send(call).await?;
    let answer =
        settled(client, answer, |uuid| format!("{}/{}", volumes(&client.settings.project()), encode(uuid)));
    render(&answer.await?, client.settings.output, Shape::One(output::VOLUMES))
}

/// Waits until what was made is no longer being made; a server may answer before it is.
pub(super) async fn settled(
    client: &Client,
    made: Value,
    path: impl Fn(&str) -> String,
) -> Result<Value, Failure> {
    let Some(path) = made["UUID"].as_str().map(path).filter(|_| made["state"] == "Creating") else {
        return Ok(made);
    };
    let limit = client.settings.command_timeout;
    let wait = async {
        loop {
            tokio::time::sleep(POLL).await;
            let now = client.send(Call::new(Method::GET, path.clone())).await?;
            if now["state"] != "Creating" {
                return Ok(now);
            }
        }
    };
    let waiting = Progress::new().during("waiting until it is Available", timeout(limit, wait));
    waiting.await.unwrap_or_else(|_| {
        let reason = format!("still Creating after {} s", limit.as_secs_f32());
        Err(Failure::NoAnswer { endpoint: client.settings.endpoint.clone(), reason })
    })
}

/// Writes the server's logs into a file as they come; under its name once it is whole.
async fn get_logs(client: &Client, logs: GetLogs) -> Result<String, Failure> {
    let days = logs.days.map(|days| format!("?NumOfDaysToCollectLogs={days}"));
    let call = Call::new(Method::GET, format!("/api/v2/logs{}", days.unwrap_or_default()));
    let path = logs.file.display().to_string();
    let failed = |error: std::io::Error| Failure::File { path: path.clone(), reason: error.to_string() };
    let part = logs.file.with_added_extension("part");
    let mut file = std::fs::File::create(&part).map_err(failed)?;
    let (mut bytes, mut progress) = (0, Progress::new());
    let outcome = client
        .download(call, |piece| {
            file.write_all(piece).map_err(failed)?;
            bytes += piece.len() as u64;
            progress.show(format_args!("{} in {path}", format_size(bytes)));
            Ok(())
        })
        .await;
    drop(progress);
    if let Err(failure) = outcome {
        drop(std::fs::remove_file(&part));
        return Err(failure);
    }
    std::fs::rename(&part, &logs.file).map_err(failed)?;
    Ok(format!("{bytes} bytes in {path}\n"))
}

/// Lists page by page: one answer has at most a thousand volumes.
async fn list_volumes(client: &Client, which: ListVolumes) -> Result<String, Failure> {
    let path =
        client.settings.listed_project().map_or_else(|| "/api/v2/volumes".to_owned(), |name| volumes(&name));
    let mut found: Vec<Value> = Vec::new();
    loop {
        let mut query = format!("limit={PAGE}&showAll={}", which.show_all);
        if let Some(name) = &which.name {
            query += &format!("&name={}", encode(name));
        }
        if let Some(last) = found.last() {
            query += &format!("&offsetUUID={}", encode(last["UUID"].as_str().unwrap_or_default()));
        }
        let mut answer = client.send(Call::new(Method::GET, format!("{path}?{query}"))).await?;
        let page = answer["volumes"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let last = page.len() < PAGE;
        found.extend(page);
        if last {
            break;
        }
    }
    render(&json!({"volumes": found}), client.settings.output, Shape::List("volumes", output::VOLUMES))
}

async fn update_volume(client: &Client, volume: UpdateVolume) -> Result<String, Failure> {
    let path = settled_path(client, &volume.which).await?;
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
    set("size", volume.size.map(Value::from));
    set("Force", volume.force.then_some(Value::Bool(true)));
    set("acl", (!volume.acl.is_empty()).then(|| json!({"values": volume.acl})));
    set("IPAcl", (!volume.ip_acl.is_empty()).then(|| json!({"values": volume.ip_acl})));
    set("compression", volume.compression.map(Value::from));
    set("labels", (!volume.labels.is_empty()).then(|| labels(&volume.labels)));
    set("newName", volume.new_name.map(Value::from));
    volume.policy.fields().into_iter().for_each(|(name, value)| set(name, value.map(Value::from)));
    let mut call = Call::new(Method::PUT, path.clone());
    call.body = Some(Value::Object(body));
    call.if_match = volume.etag;
    client.send(call).await?;
    show(client, &path, Shape::One(output::VOLUMES)).await
}

async fn delete_volume(client: &Client, volume: DeleteVolume) -> Result<String, Failure> {
    let mut call = Call::new(Method::DELETE, settled_path(client, &volume.which).await?);
    call.if_match = volume.etag;
    client.send(call).await?;
    Ok(String::new())
}

async fn get_node(client: &Client, which: WhichNode) -> Result<String, Failure> {
    let Some(name) = which.name else {
        let path = format!("/api/v2/nodes/{}", encode(&which.uuid.unwrap_or_default()));
        return show(client, &path, Shape::One(output::NODES)).await;
    };
    let path = format!("/api/v2/nodes?name={}", encode(&name));
    let answer = client.send(Call::new(Method::GET, path)).await?;
    match answer["nodes"].get(0) {
        Some(node) => render(node, client.settings.output, Shape::One(output::NODES)),
        None => Err(Failure::Refused { status: 404, message: format!("node {name} does not exist") }),
    }
}

async fn create_credential(client: &Client, credential: CreateCredential) -> Result<String, Failure> {
    let pem = std::fs::read(&credential.file).map_err(|error| Failure::File {
        path: credential.file.display().to_string(),
        reason: error.to_string(),
    })?;
    let kind = credential.kind.name();
    let mut call = Call::new(Method::POST, credentials(client));
    call.body = Some(
        json!({"ID": credential.id, "type": kind, "payload": STANDARD.encode(pem), "issuer": credential.issuer, "audience": credential.audience}),
    );
    let answer = client.send(call).await?;
    render(&answer, client.settings.output, Shape::One(output::CREDENTIALS))
}

/// The path of the volume's UUID, which a name is looked up for: what is then changed is what was seen.
async fn settled_path(client: &Client, which: &WhichVolume) -> Result<String, Failure> {
    if which.uuid.is_some() {
        return Ok(volume_path(client, which));
    }
    let volume = client.send(Call::new(Method::GET, volume_path(client, which))).await?;
    let uuid =
        volume["UUID"].as_str().ok_or_else(|| Failure::Unreadable("a volume without UUID".to_owned()))?;
    Ok(format!("{}/{}", volumes(&client.settings.project()), encode(uuid)))
}

fn volume_path(client: &Client, which: &WhichVolume) -> String {
    match (&which.uuid, client.settings.listed_project()) {
        (Some(uuid), None) => format!("/api/v2/volumes/{}", encode(uuid)),
        (Some(uuid), Some(project)) => format!("{}/{}", volumes(&project), encode(uuid)),
        (None, _) => {
            let name = which.name.as_deref().unwrap_or_default();
            format!("{}/?name={}", volumes(&client.settings.project()), encode(name))
        }
    }
}

fn volumes(project: &str) -> String {
    format!("/api/v2/projects/{}/volumes", encode(project))
}

fn credentials(client: &Client) -> String {
    format!("/api/v2/projects/{}/credentials", encode(&client.settings.project()))
}

fn labels(labels: &[(String, String)]) -> Value {
    labels.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// Between looking whether something has been made.
const POLL: Duration = Duration::from_millis(200);
/// Volumes in one answer.
const PAGE: usize = 1000;
