//! Volumes: create, list, get, update, delete, in both forms of their paths.
//!
//! Below `/projects/{projectName}` the path names the project; below `/volumes` body or query do. An empty UUID in the
//! path means that a name is given instead.

mod wire;

use std::rc::Rc;

use dataplane::{
    Action, ActionError, HostAcl, IpAcl, Outcome, SectorSize, Volume, VolumeChange, VolumeSpec, VolumeState,
    VolumeUsage, VolumeUuid,
};
use uuid::Uuid;

use super::error::{ApiError, Code};
use super::json::{Label, StringList};
use super::policies::policy_for;
use super::request::Request;
use super::schema::tenants;
use super::snapshots::{inherit_labels, source_of};
use super::{Api, Reply, placement, rules};
use crate::auth::{Caller, Permit, Scope, Verb};
use crate::plane::unreachable_outcome;
pub(super) use wire::compression_ratio;
use wire::{Attributes, CreateVolume, UpdateVolume, VolumeBody, VolumeList};

/// `POST .../volumes`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let body: CreateVolume = request.json()?;
    let project = project_of(&request, &body.project_name)?;
    let permit = caller.permit_volumes(Verb::Create, Scope::Project(project))?;
    let (uuid, name) = (&body.source_snapshot_uuid, &body.source_snapshot_name);
    let source = source_of(&api, &caller, project, uuid, name).await?;
    let mut spec = specify(&api, &caller, &permit, &body)?;
    tracing::info!(subject = caller.subject(), project = spec.project, name = spec.name, "create volume");
    if let Some(snapshot) = &source {
        spec.sector = body.sector_size.unwrap_or(snapshot.sector);
        inherit_labels(&mut spec, snapshot)?;
    }
    let policy = policy_in(&spec.attributes).unwrap_or_default();
    api.claim(project, &policy).await?;
    spec.limits = api.limits_of(project, &policy);
    let volume = match source {
        None => api.view.create(spec).await?,
        Some(snapshot) => api.view.clone_of(spec, snapshot.spec.uuid).await?,
    };
    // A policy may have changed while the volume was being made.
    if volume.spec.limits != api.limits_of(project, &policy) {
        api.settle_limits().await;
    }
    Reply::exact(&tenants::VOLUME, &VolumeBody::of(&volume, &api))
}

/// `GET .../volumes`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let scope = match project_of(&request, request.query.text("projectName")) {
        Ok(project) => Scope::Project(project),
        Err(_) if caller.spans_projects() => Scope::Cluster,
        Err(error) => return Err(error),
    };
    let permit = caller.permit_volumes(Verb::List, scope)?;
    if let Scope::Project(project) = scope {
        known_project(&api, project)?;
    }
    let filter = Filter::read(&api, &request)?;
    api.view.freshen().await?;
    let volumes = api.view.after(filter.offset);
    let wanted = volumes.iter().filter(|volume| covers(&permit, volume) && filter.admits(volume));
    let volumes = wanted.take(filter.limit).map(|volume| VolumeBody::of(volume, &api)).collect();
    Reply::exact(&tenants::LIST_VOLUMES_RESPONSE, &VolumeList { volumes })
}

/// `GET .../volumes/{UUID}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit_one(&caller, &request, Verb::Get, request.query.text("projectName"))?;
    api.view.freshen().await?;
    let mut volume = find(&api, &permit, &request, request.query.text("name"))?;
    if volume.usage.shares {
        count_owned(&api, volume.spec.uuid, &mut Rc::make_mut(&mut volume).usage).await?;
    }
    Reply::exact(&tenants::VOLUME, &VolumeBody::of(&volume, &api))
}

/// Has it counted what a volume or snapshot alone holds, for an answer about it alone.
pub(super) async fn count_owned(
    api: &Api,
    uuid: VolumeUuid,
    usage: &mut VolumeUsage,
) -> Result<(), ApiError> {
    match api.plane.ask(Action::CountOwned(uuid)).await {
        Ok(Outcome::Owned(bytes)) => usage.owned_bytes = bytes,
        Ok(other) => unreachable_outcome(&other),
        // It has gone since it was found, and nothing with it.
        Err(ActionError::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// `PUT .../volumes/{UUID}`.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let body: UpdateVolume = request.json()?;
    let permit = permit_one(&caller, &request, Verb::Update, &body.project_name)?;
    let mut volume = find(&api, &permit, &request, &body.name)?;
    let project = &volume.spec.project;
    if let Some(policy) = policy_for(&api, project, &body.qos_policy_uuid, &body.qos_policy_name)? {
        api.claim(project, &policy.uuid).await?;
        // That may have taken its time.
        volume = find(&api, &permit, &request, &body.name)?;
    }
    let expected = request.expected_revision(volume.revision)?;
    check_changeable(&volume)?;
    let change = plan_change(&api, &volume, &body)?;
    if change == VolumeChange::default() {
        return Ok(Reply::done());
    }
    tracing::info!(subject = caller.subject(), uuid = rules::uuid_text(volume.spec.uuid.0), "update volume");
    api.view.update(volume.spec.uuid, change, expected).await?;
    Ok(Reply::done())
}

/// `DELETE .../volumes/{UUID}`.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let permit = permit_one(&caller, &request, Verb::Delete, request.query.text("projectName"))?;
    api.view.freshen().await?;
    let volume = find(&api, &permit, &request, request.query.text("name"))?;
    let expected = request.expected_revision(volume.revision)?;
    if volume.state == VolumeState::Deleting {
        return Err(wrong_state(&volume));
    }
    tracing::info!(subject = caller.subject(), uuid = rules::uuid_text(volume.spec.uuid.0), "delete volume");
    api.view.delete(volume.spec.uuid, expected).await?;
    Ok(Reply::done())
}

/// What a list is asked to leave out.
struct Filter {
    uuid: Option<VolumeUuid>,
    name: String,
    offset: Option<VolumeUuid>,
    limit: usize,
    show_all: bool,
    /// Only clones of this snapshot.
    source: Option<VolumeUuid>,
    /// No volume can pass: the failure domain is not this node's.
    none: bool,
}

impl Filter {
    fn read(api: &Api, request: &Request) -> Result<Self, ApiError> {
        let query = &request.query;
        let uuid = |name| match query.text(name) {
            "" => Ok(None),
            text => rules::volume_uuid(text).map(Some),
        };
        let limit = match query.int64("limit")? {
            None | Some(0) => LIST_MAX,
            Some(limit) => {
                usize::try_from(limit).map_err(|_| ApiError::invalid("limit: not negative"))?.min(LIST_MAX)
            }
        };
        let domain = query.text("failureDomain");
        let elsewhere = !domain.is_empty() && !api.site.failure_domains.iter().any(|own| own == domain);
        Ok(Self {
            uuid: uuid("UUID")?,
            name: query.text("name").to_owned(),
            offset: uuid("offsetUUID")?,
            limit,
            show_all: query.boolean("showAll")?,
            source: uuid("snapshotUUID")?,
            none: elsewhere,
        })
    }

    fn admits(&self, volume: &Volume) -> bool {
        !self.none
            && self.uuid.is_none_or(|uuid| uuid == volume.spec.uuid)
            && self.source.is_none_or(|source| volume.source == Some(source))
            && (self.name.is_empty() || self.name == volume.spec.name)
            && (self.show_all || volume.state != VolumeState::Deleting)
    }
}

/// The subject of the token that made a volume.
pub(super) fn owner_of(volume: &Volume) -> Option<String> {
    Attributes::parse(&volume.spec.attributes).owner
}

/// The labels of a volume.
pub(super) fn labels_of(volume: &Volume) -> Vec<Label> {
    Attributes::parse(&volume.spec.attributes).labels
}

/// The policy that a volume has by itself.
pub(super) fn policy_of(volume: &Volume) -> Option<String> {
    policy_in(&volume.spec.attributes)
}

/// The policy that is named in what is kept beside a volume.
pub(super) fn policy_in(attributes: &str) -> Option<String> {
    Some(Attributes::parse(attributes).qos_policy_uuid).filter(|uuid| !uuid.is_empty())
}

/// The project that a request is about: the path's, else the one given in body or query.
fn project_of<'a>(request: &'a Request, given: &'a str) -> Result<&'a str, ApiError> {
    let project = match request.variable("projectName") {
        "" => given,
        project => project,
    };
    if project.is_empty() { Err(ApiError::invalid("projectName: required")) } else { Ok(project) }
}

/// A permit for one volume. An administrator of the cluster may leave the project out if the UUID is given.
fn permit_one(caller: &Caller, request: &Request, verb: Verb, given: &str) -> Result<Permit, ApiError> {
    let scope = match project_of(request, given) {
        Ok(project) => Scope::Project(project),
        Err(_) if caller.spans_projects() && !request.variable("UUID").is_empty() => Scope::Cluster,
        Err(error) => return Err(error),
    };
    Ok(caller.permit_volumes(verb, scope)?)
}

/// The volume of the path's UUID or, if that is empty, of the name.
fn find(api: &Api, permit: &Permit, request: &Request, name: &str) -> Result<Rc<Volume>, ApiError> {
    find_volume(api, permit, request.variable("UUID"), name)
}

/// The volume of this UUID or, if that is empty, of the name.
pub(super) fn find_volume(
    api: &Api,
    permit: &Permit,
    uuid: &str,
    name: &str,
) -> Result<Rc<Volume>, ApiError> {
    let found = match (uuid, permit.project()) {
        ("", Some(project)) if !name.is_empty() => api.view.find_name(project, name),
        ("", _) => return Err(ApiError::invalid("UUID or name: one of them is required")),
        (text, _) => api.view.find(rules::volume_uuid(text)?),
    };
    let found = found.filter(|volume| covers(permit, volume));
    found.ok_or_else(|| {
        let which = if uuid.is_empty() { name } else { uuid };
        ApiError::not_found(format!("volume {which} does not exist"))
    })
}

/// Whether a permit, which may be limited to the caller's own volumes, is good for this one.
fn covers(permit: &Permit, volume: &Volume) -> bool {
    let project = &volume.spec.project;
    permit.covers(project) || permit.covers_owned(project, owner_of(volume).as_deref())
}

fn known_project(api: &Api, project: &str) -> Result<(), ApiError> {
    let known = api.directory.project(project).is_some();
    known.then_some(()).ok_or_else(|| ApiError::invalid(format!("project {project} does not exist")))
}

fn specify(api: &Api, caller: &Caller, permit: &Permit, body: &CreateVolume) -> Result<VolumeSpec, ApiError> {
    let project = permit.project().ok_or_else(|| ApiError::invalid("projectName: required"))?;
    known_project(api, project)?;
    if body.replica_count > REPLICAS_MAX {
        return Err(ApiError::invalid(
            "replicaCount: this cluster has one node, so a volume has one replica",
        ));
    }
    placement::check(&body.placement_restrictions, &api.site.failure_domains)?;
    rules::labels(&body.labels)?;
    let policy = policy_for(api, project, &body.qos_policy_uuid, &body.qos_policy_name)?;
    let mut attributes = Attributes::with_labels(body.labels.clone());
    attributes.qos_policy_uuid = policy.map(|policy| policy.uuid).unwrap_or_default();
    attributes.placement_restrictions.clone_from(&body.placement_restrictions);
    let given = |list: &&StringList| !list.values.is_empty();
    Ok(VolumeSpec {
        uuid: VolumeUuid(Uuid::new_v4().into_bytes()),
        project: project.to_owned(),
        name: rules::name("name", &body.name)?,
        size_bytes: rules::size(&body.size)?,
        sector: body.sector_size.unwrap_or(SectorSize::B4096),
        acl: rules::host_acl(&body.acl)?,
        ip_acl: body.ip_acl.as_ref().filter(given).map_or(Ok(IpAcl::Any), rules::ip_acl)?,
        compression: rules::compression(&body.compression)?.unwrap_or(false),
        limits: api.limits_of(project, &attributes.qos_policy_uuid),
        attributes: attributes.owned_by(caller.subject()).text()?,
    })
}

/// What differs between a volume and what a client wants it to be.
fn plan_change(api: &Api, volume: &Volume, body: &UpdateVolume) -> Result<VolumeChange, ApiError> {
    let spec = &volume.spec;
    let size = (!body.size.is_empty()).then(|| rules::size(&body.size)).transpose()?;
    let shrink = size.is_some_and(|size| size < spec.size_bytes);
    if shrink && !body.force {
        return Err(ApiError::invalid("size: a smaller size loses data; it needs Force"));
    }
    let acl: Option<HostAcl> = body.acl.as_ref().map(rules::host_acl).transpose()?;
    let ip_acl: Option<IpAcl> = body.ip_acl.as_ref().map(rules::ip_acl).transpose()?;
    let name = (!body.new_name.is_empty()).then(|| rules::name("newName", &body.new_name)).transpose()?;
    let mut attributes = Attributes::parse(&spec.attributes);
    if !body.labels.is_empty() {
        rules::labels(&body.labels)?;
        attributes.labels.clone_from(&body.labels);
    }
    if let Some(policy) = policy_for(api, &spec.project, &body.qos_policy_uuid, &body.qos_policy_name)? {
        attributes.qos_policy_uuid = policy.uuid;
    }
    let limits = api.limits_of(&spec.project, &attributes.qos_policy_uuid);
    let attributes = (attributes != Attributes::parse(&spec.attributes)).then(|| attributes.text());
    let attributes = attributes.transpose()?;
    Ok(VolumeChange {
        name: name.filter(|name| *name != spec.name),
        size_bytes: size.filter(|size| *size != spec.size_bytes),
        shrink,
        acl: acl.filter(|acl| *acl != spec.acl),
        ip_acl: ip_acl.filter(|acl| *acl != spec.ip_acl),
        compression: rules::compression(&body.compression)?.filter(|on| *on != spec.compression),
        limits: Some(limits).filter(|limits| *limits != spec.limits),
        attributes,
    })
}

fn check_changeable(volume: &Volume) -> Result<(), ApiError> {
    match volume.state {
        VolumeState::Available => Ok(()),
        VolumeState::Deleting | VolumeState::Failed => Err(wrong_state(volume)),
    }
}

fn wrong_state(volume: &Volume) -> ApiError {
    let message = ActionError::WrongState(volume.state).to_string();
    ApiError::new(hyper::StatusCode::BAD_REQUEST, Code::FailedPrecondition, message)
}

/// Volumes in one answer, also where none is asked for.
const LIST_MAX: usize = 1000;
const REPLICAS_MAX: u32 = 1;
