//! Volumes, snapshots and the target as REST tells of them, and the requests that change them.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use dataplane::attach::AttachOptions;
use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::client::{Call, Client, encode};
use crate::cli::failure::Failure;
use crate::cli::snapshots;
use crate::cli::verbs::WhichSnapshot;
use crate::image::SnapshotOf;

/// Speaks to the REST interface about one project.
#[derive(Clone, Copy, Debug)]
pub(super) struct Project<'a> {
    pub(super) client: &'a Client,
}

impl Project<'_> {
    /// A snapshot, by name or UUID.
    pub(super) async fn snapshot(&self, which: &WhichSnapshot) -> Result<Value, Failure> {
        self.get(snapshots::path(self.client, which, "Name")).await
    }

    /// The snapshot of a name, if there is one.
    pub(super) async fn snapshot_named(&self, name: &str) -> Result<Option<Value>, Failure> {
        let which = WhichSnapshot { name: Some(name.to_owned()), uuid: None };
        found(self.snapshot(&which).await)
    }

    /// The snapshots of a volume.
    pub(super) async fn snapshots_of(&self, volume_uuid: &str) -> Result<Vec<Value>, Failure> {
        let mut snapshots = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let offset = last.map(|uuid| format!("&offsetUUID={}", encode(&uuid))).unwrap_or_default();
            let answer = self.get(format!("{}?limit={PAGE}{offset}", self.path("snapshots"))).await?;
            let page = answer["snapshots"].as_array().cloned().unwrap_or_default();
            last = page.last().map(|snapshot| text(snapshot, "UUID").to_owned());
            let is_last = page.len() < PAGE;
            snapshots.extend(page.into_iter().filter(|one| text(one, "sourceVolumeUUID") == volume_uuid));
            if is_last || last.is_none() {
                return Ok(snapshots);
            }
        }
    }

    /// Takes a snapshot.
    pub(super) async fn take_snapshot(
        &self,
        volume_uuid: &str,
        name: &str,
        description: &str,
    ) -> Result<Value, Failure> {
        let mut call = Call::new(Method::POST, self.path("snapshots"));
        call.body = Some(json!({"name": name, "sourceVolumeUUID": volume_uuid, "description": description}));
        self.client.send(call).await
    }

    /// Deletes a snapshot.
    pub(super) async fn delete_snapshot(&self, uuid: &str) -> Result<(), Failure> {
        self.delete(format!("{}/{}", self.path("snapshots"), encode(uuid))).await
    }

    /// The volume of a name, if there is one.
    pub(super) async fn volume_named(&self, name: &str) -> Result<Option<Value>, Failure> {
        found(self.get(format!("{}/?name={}", self.path("volumes"), encode(name))).await)
    }

    /// Makes a volume, and waits until it can be used.
    pub(super) async fn create_volume(&self, body: Value) -> Result<Value, Failure> {
        let mut call = Call::new(Method::POST, self.path("volumes"));
        call.body = Some(body);
        let volume = self.client.send(call).await?;
        let path = format!("{}/{}", self.path("volumes"), encode(text(&volume, "UUID")));
        for _ in 0..LOOKS_MAX {
            let volume = self.get(path.clone()).await?;
            match text(&volume, "state") {
                "Available" => return Ok(volume),
                "Creating" => tokio::time::sleep(LOOK).await,
                state => return Err(wrong("the new volume", format!("its state is {state}"))),
            }
        }
        Err(wrong("the new volume", "it is still being made".to_owned()))
    }

    /// Changes fields of a volume.
    pub(super) async fn update_volume(
        &self,
        uuid: &str,
        body: Value,
        etag: Option<String>,
    ) -> Result<(), Failure> {
        let mut call = Call::new(Method::PUT, format!("{}/{}", self.path("volumes"), encode(uuid)));
        call.body = Some(body);
        call.if_match = etag;
        self.client.send(call).await.map(drop)
    }

    /// Deletes a volume.
    pub(super) async fn delete_volume(&self, uuid: &str) -> Result<(), Failure> {
        self.delete(format!("{}/{}", self.path("volumes"), encode(uuid))).await
    }

    /// How this process attaches a volume, as the host of a stream.
    pub(super) async fn attachment(
        &self,
        volume: &Value,
        stream: Uuid,
        endpoint: Option<&str>,
    ) -> Result<AttachOptions, Failure> {
        let cluster = self.get("/api/v2/clusterinfo".to_owned()).await?;
        let told = cluster["nvmeEndpoints"][0].as_str().unwrap_or_default();
        let nsid = volume["nsid"].as_u64().and_then(|nsid| u32::try_from(nsid).ok());
        Ok(AttachOptions {
            target: resolve(endpoint.unwrap_or(told)).await?,
            subsystem_nqn: text(&cluster, "subsystemNQN").to_owned(),
            nsid: nsid.ok_or_else(|| Failure::Unreadable("a volume without nsid".to_owned()))?,
            host_nqn: host_nqn(stream),
            host_id: stream.into_bytes(),
        })
    }

    async fn get(&self, path: String) -> Result<Value, Failure> {
        self.client.send(Call::new(Method::GET, path)).await
    }

    async fn delete(&self, path: String) -> Result<(), Failure> {
        found(self.client.send(Call::new(Method::DELETE, path)).await).map(drop)
    }

    fn path(&self, noun: &str) -> String {
        format!("/api/v2/projects/{}/{noun}", encode(&self.client.settings.project()))
    }
}

/// The NQN under which the process that carries a stream is a host.
pub(super) fn host_nqn(stream: Uuid) -> String {
    format!("nqn.2014-08.org.nvmexpress:uuid:{stream}")
}

/// A field that is text; empty if it is none.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A field that is a number, written as text or as a number.
pub(super) fn number(value: &Value, field: &str) -> Result<u64, Failure> {
    let found = value[field].as_u64().or_else(|| value[field].as_str()?.parse().ok());
    found.ok_or_else(|| Failure::Unreadable(format!("{field} is {}", value[field])))
}

/// A field that is a UUID.
pub(super) fn uuid(value: &Value, field: &str) -> Result<Uuid, Failure> {
    let found = Uuid::try_parse(text(value, field));
    found.map_err(|_| Failure::Unreadable(format!("{field} is {}", value[field])))
}

/// What a header keeps of a snapshot.
pub(super) fn snapshot_of(snapshot: &Value) -> Result<SnapshotOf, Failure> {
    Ok(SnapshotOf {
        uuid: uuid(snapshot, "UUID")?,
        name: text(snapshot, "name").to_owned(),
        created: text(snapshot, "creationTime").to_owned(),
    })
}

/// A failure that is about `what`.
pub(super) fn wrong(what: impl Into<String>, reason: String) -> Failure {
    Failure::Wrong { what: what.into(), reason }
}

/// Nothing, where there is no such thing.
fn found(outcome: Result<Value, Failure>) -> Result<Option<Value>, Failure> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused { status: 404, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn resolve(endpoint: &str) -> Result<SocketAddr, Failure> {
    let hint = "name where volumes are served with --nvme-endpoint ADDR:PORT";
    let text = endpoint.to_owned();
    let addresses = tokio::task::spawn_blocking(move || text.to_socket_addrs()).await;
    let first = match addresses {
        Ok(Ok(mut addresses)) => addresses.next(),
        Ok(Err(_)) | Err(_) => None,
    };
    first.ok_or_else(|| wrong(format!("{endpoint:?}"), format!("this is no address and port; {hint}")))
}

/// Snapshots in one answer.
const PAGE: usize = 1000;
/// How often a new volume is looked at, and how long between two looks.
const LOOKS_MAX: u32 = 600;
const LOOK: Duration = Duration::from_millis(100);
