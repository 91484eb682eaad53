//! Snapshots: create, list, get, delete, what changed between two, and volumes that go back to one.
//!
//! The pool keeps them; every request asks it. Labels and description lie beside a snapshot as JSON text.

mod retention;
mod wire;

use std::rc::Rc;

use dataplane::{
    Action, ActionError, DiffQuery, Outcome, Snapshot, SnapshotSpec, VolumeSpec, VolumeState, VolumeUuid,
};
use hyper::StatusCode;
use uuid::Uuid;

use super::error::{ApiError, Code};
use super::request::Request;
use super::schema::tenants;
use super::volumes::{count_owned, find_volume};
use super::{Api, Reply, rules};
use crate::auth::{Caller, Permit, Scope, Verb};
use crate::plane::unreachable_outcome;
use wire::{Attributes, ChangedBlocks, CreateSnapshot, Rollback, SnapshotBody, SnapshotList};

pub(crate) use retention::retain;

/// `POST /api/v2/projects/{projectName}/snapshots`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let body: CreateSnapshot = request.json()?;
    let permit = permit(&caller, &request, Verb::Create)?;
    let volume = find_volume(&api, &permit, &body.source_volume_uuid, &body.source_volume_name)?;
    if volume.state != VolumeState::Available {
        let message = format!("the volume's state does not allow it: {:?}", volume.state);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, Code::FailedPrecondition, message));
    }
    if body.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(ApiError::invalid("description: at most 256 bytes"));
    }
    let attributes = Attributes::of(&volume.spec.attributes, &body.description, caller.subject());
    let spec = SnapshotSpec {
        uuid: VolumeUuid(Uuid::new_v4().into_bytes()),
        name: rules::name("name", &body.name)?,
        source: volume.spec.uuid,
        retention_s: wire::duration_s(&body.retention_time)?,
        attributes: attributes.text()?,
    };
    tracing::info!(subject = caller.subject(), name = spec.name, "create snapshot");
    let snapshot = api.view.take_snapshot(&volume.spec.project, spec).await?;
    Reply::exact(&tenants::SNAPSHOT, &SnapshotBody::of(&snapshot, &api.site))
}

/// `GET /api/v2/projects/{projectName}/snapshots`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit(&caller, &request, Verb::List)?;
    let query = &request.query;
    let uuid = |name| match query.text(name) {
        "" => Ok(None),
        text => rules::volume_uuid(text).map(Some),
    };
    let (wanted, offset, name) = (uuid("UUID")?, uuid("offsetUUID")?, query.text("Name"));
    let show_all = query.boolean("showAll")?;
    let limit = match query.int64("limit")? {
        None | Some(0) => LIST_MAX,
        Some(limit) => {
            usize::try_from(limit).map_err(|_| ApiError::invalid("limit: not negative"))?.min(LIST_MAX)
        }
    };
    let mut snapshots = all(&api).await?;
    snapshots.sort_by_key(|snapshot| snapshot.spec.uuid);
    let admitted = snapshots.iter().filter(|snapshot| {
        covers(&permit, snapshot)
            && wanted.is_none_or(|uuid| uuid == snapshot.spec.uuid)
            && offset.is_none_or(|uuid| snapshot.spec.uuid > uuid)
            && (name.is_empty() || name == snapshot.spec.name)
            && (show_all || snapshot.state != VolumeState::Deleting)
    });
    let snapshots = admitted.take(limit).map(|snapshot| SnapshotBody::of(snapshot, &api.site)).collect();
    Reply::exact(&tenants::LIST_SNAPSHOTS_RESPONSE, &SnapshotList { snapshots })
}

/// `GET /api/v2/projects/{projectName}/snapshots/{UUID}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit(&caller, &request, Verb::Get)?;
    let (uuid, name) = (request.variable("UUID"), request.query.text("Name"));
    let mut snapshot = find(&api, &permit, uuid, name).await?;
    if snapshot.usage.shares {
        count_owned(&api, snapshot.spec.uuid, &mut snapshot.usage).await?;
    }
    Reply::exact(&tenants::SNAPSHOT, &SnapshotBody::of(&snapshot, &api.site))
}

/// `DELETE /api/v2/projects/{projectName}/snapshots/{UUID}`.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit(&caller, &request, Verb::Delete)?;
    let (uuid, name) = (request.variable("UUID"), request.query.text("name"));
    let snapshot = find(&api, &permit, uuid, name).await?;
    let if_revision = request.expected_revision(snapshot.revision)?;
    if snapshot.state == VolumeState::Deleting {
        let message = "the snapshot is being deleted: it goes with its last clone";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, Code::FailedPrecondition, message.to_owned()));
    }
    tracing::info!(subject = caller.subject(), name = snapshot.spec.name, "delete snapshot");
    api.plane.ask(Action::DeleteSnapshot { uuid: snapshot.spec.uuid, if_revision }).await?;
    Ok(Reply::done())
}

/// `GET /api/v2/projects/{projectName}/snapshots/diff/{snapshotUUID}`.
pub(super) async fn diff(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit(&caller, &request, Verb::Get)?;
    let query = &request.query;
    let uuid = match request.variable("snapshotUUID") {
        "" => query.text("snapshotUUID"),
        uuid => uuid,
    };
    let snapshot = find(&api, &permit, uuid, query.text("snapshotName")).await?;
    let (base_uuid, base_name) = (query.text("baseSnapshotUUID"), query.text("baseSnapshotName"));
    let base = match (base_uuid, base_name) {
        ("", "") => None,
        (uuid, name) => Some(find(&api, &permit, uuid, name).await?.spec.uuid),
    };
    let first_block = match query.text("offsetLBA") {
        "" => 0,
        text => text.parse().map_err(|_| ApiError::invalid("offsetLBA: a decimal number"))?,
    };
    let query = DiffQuery { snapshot: snapshot.spec.uuid, base, first_block, words_max: RANGES_MAX };
    match api.plane.ask(Action::ReadDiff(query)).await? {
        Outcome::Diff(diff) => {
            Reply::exact(&tenants::LIST_CHANGED_BLOCKS_RESPONSE, &ChangedBlocks::of(&diff))
        }
        other => unreachable_outcome(&other),
    }
}

/// `PUT /api/v2/projects/{projectName}/volumes/{UUID}/rollback`.
pub(super) async fn roll_back(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let body: Rollback = request.json()?;
    let project = request.variable("projectName");
    let permit = caller.permit_volumes(Verb::Update, Scope::Project(project))?;
    let readable = caller.permit_snapshots(Verb::Get, Scope::Project(project))?;
    let volume = find_volume(&api, &permit, request.variable("UUID"), &body.name)?;
    if volume.state == VolumeState::Deleting {
        let message = "the volume is being deleted".to_owned();
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message));
    }
    let expected = request.expected_revision(volume.revision)?;
    let snapshot = find(&api, &readable, &body.src_snapshot_uuid, &body.src_snapshot_name).await?;
    tracing::info!(subject = caller.subject(), volume = volume.spec.name, "roll volume back");
    api.view.roll_back(volume.spec.uuid, snapshot.spec.uuid, expected).await?;
    Ok(Reply::done())
}

/// The snapshot that a new volume shall begin as; none where it shall begin empty.
pub(super) async fn source_of(
    api: &Api,
    caller: &Caller,
    project: &str,
    uuid: &str,
    name: &str,
) -> Result<Option<Snapshot>, ApiError> {
    if uuid.is_empty() && name.is_empty() {
        return Ok(None);
    }
    let permit = caller.permit_snapshots(Verb::Get, Scope::Project(project))?;
    // The contract has no 404 for a new volume.
    let missing = "sourceSnapshotUUID, sourceSnapshotName: there is no such snapshot";
    find(api, &permit, uuid, name).await.map(Some).map_err(|error| match error.status {
        StatusCode::NOT_FOUND => ApiError::invalid(missing),
        _ => error,
    })
}

/// A clone without labels has those of its snapshot.
pub(super) fn inherit_labels(spec: &mut VolumeSpec, snapshot: &Snapshot) -> Result<(), ApiError> {
    spec.attributes = Attributes::inherited(&spec.attributes, &snapshot.spec.attributes)?;
    Ok(())
}

/// Every snapshot of the pool.
pub(super) async fn all(api: &Api) -> Result<Vec<Snapshot>, ActionError> {
    match api.plane.ask(Action::ListSnapshots).await? {
        Outcome::Snapshots(snapshots) => Ok(snapshots),
        other => unreachable_outcome(&other),
    }
}

/// The snapshot of this UUID or, if that is empty, of the name; one that is being deleted has given its name up.
async fn find(api: &Api, permit: &Permit, uuid: &str, name: &str) -> Result<Snapshot, ApiError> {
    if uuid.is_empty() && name.is_empty() {
        return Err(ApiError::invalid("a snapshot's UUID or name is required"));
    }
    let wanted = if uuid.is_empty() { None } else { Some(rules::volume_uuid(uuid)?) };
    let found = all(api).await?.into_iter().find(|snapshot| {
        covers(permit, snapshot)
            && match wanted {
                Some(uuid) => uuid == snapshot.spec.uuid,
                None => name == snapshot.spec.name && snapshot.state != VolumeState::Deleting,
            }
    });
    let which = if uuid.is_empty() { name } else { uuid };
    found.ok_or_else(|| ApiError::not_found(format!("snapshot {which} does not exist")))
}

/// Whether a permit, which may be limited to the caller's own snapshots, is good for this one.
fn covers(permit: &Permit, snapshot: &Snapshot) -> bool {
    let owner = Attributes::parse(&snapshot.spec.attributes).owner;
    permit.covers_owned(&snapshot.project, owner.as_deref())
}

fn permit(caller: &Caller, request: &Request, verb: Verb) -> Result<Permit, ApiError> {
    Ok(caller.permit_snapshots(verb, Scope::Project(request.variable("projectName")))?)
}

/// Snapshots in one answer.
const LIST_MAX: usize = 1000;
/// Ranges of changed blocks in one answer.
const RANGES_MAX: usize = 10_000;
const DESCRIPTION_BYTES_MAX: usize = 256;
