//! Policies: limits on the rate of commands that volumes can have.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use dataplane::{ActionError, Limits, VolumeState, VolumeUuid};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;

use super::error::ApiError;
use super::request::Request;
use super::schema::tenants;
use super::{Api, Parameters, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::directory::Project;
use crate::metadata::{Found, Kept, Kind};

/// A policy as it is kept and as clients read it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Policy {
    /// Its identity and key.
    #[serde(rename = "UUID")]
    pub(crate) uuid: String,
    /// Its name, unique in the cluster.
    pub(crate) name: String,
    description: String,
    state: String,
    /// The limits.
    #[serde(rename = "QoSRateLimitPolicy")]
    pub(crate) limits: RateLimits,
}

/// Limits, and who may use them. 0 is no limit.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RateLimits {
    projects_names_scope: Vec<String>,
    policy_visibility: String,
    /// Commands a second.
    #[serde(rename = "limitIOPS", skip_serializing_if = "Option::is_none")]
    pub(crate) iops: Option<Iops>,
    /// Megabytes a second.
    #[serde(rename = "limitBw", skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth: Option<Bandwidth>,
    /// Commands a second for each GiB of the volume's size.
    #[serde(rename = "limitIOPSPerGB", skip_serializing_if = "Option::is_none")]
    pub(crate) iops_per_gb: Option<IopsPerGb>,
}

/// Commands a second.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Iops {
    /// Writes.
    #[serde(rename = "writeIOPSLimit")]
    pub(crate) write: u32,
    /// Reads.
    #[serde(rename = "readIOPSLimit")]
    pub(crate) read: u32,
}

/// Megabytes a second.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct Bandwidth {
    /// Writes.
    #[serde(rename = "writeBWLimit")]
    pub(crate) write: u32,
    /// Reads.
    #[serde(rename = "readBWLimit")]
    pub(crate) read: u32,
}

/// Commands a second for each GiB.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(crate) struct IopsPerGb {
    /// Writes.
    #[serde(rename = "writeIOPSPerGBLimit")]
    pub(crate) write: u32,
    /// Reads.
    #[serde(rename = "readIOPSPerGBLimit")]
    pub(crate) read: u32,
}

impl Kept for Policy {
    const KIND: Kind = Kind::Policy;

    fn key(&self) -> String {
        self.uuid.clone()
    }
}

impl Policy {
    /// The policy that limits nothing, which is always there.
    pub(crate) fn no_limit() -> Self {
        Self {
            uuid: NO_LIMIT_UUID.to_owned(),
            name: "no-limit-policy".to_owned(),
            description: "No limits".to_owned(),
            state: "Active".to_owned(),
            limits: RateLimits {
                policy_visibility: GLOBAL.to_owned(),
                iops: Some(Iops::default()),
                ..RateLimits::default()
            },
        }
    }

    /// What it lets a volume's hosts do.
    fn limits(&self) -> Limits {
        let iops = self.limits.iops.unwrap_or_default();
        let bandwidth = self.limits.bandwidth.unwrap_or_default();
        let per_gb = self.limits.iops_per_gb.unwrap_or_default();
        Limits {
            read_ios: iops.read.into(),
            write_ios: iops.write.into(),
            read_bytes: u64::from(bandwidth.read) * MEGABYTE,
            write_bytes: u64::from(bandwidth.write) * MEGABYTE,
            read_ios_per_gib: per_gb.read.into(),
            write_ios_per_gib: per_gb.write.into(),
        }
    }

    /// Whether volumes of `project` may have it.
    pub(crate) fn is_for(&self, project: &str) -> bool {
        match self.limits.policy_visibility.as_str() {
            GLOBAL => true,
            SCOPED => self.limits.projects_names_scope.iter().any(|name| name == project),
            _ => false,
        }
    }
}

impl Api {
    /// The limits of a volume: those of its own policy, else of its project's, else of the cluster's.
    pub(crate) fn limits_of(&self, project: &str, own: &str) -> Limits {
        let by_uuid = |uuid: &str| self.records.get::<Policy>(uuid).map(|found| found.value);
        let of_project = || {
            let policies = self.directory.project(project)?.default_policies;
            let policy = policies.iter().find(|policy| policy.policy_type == "qosRateLimit")?;
            by_uuid(&policy.policy_uuid)
        };
        let of_cluster = || {
            let name = Parameters(&self.records).default_policy();
            let policies = self.records.list::<Policy>("").into_iter().map(|found| found.value);
            policies.into_iter().find(|policy| policy.name == name)
        };
        let policy = by_uuid(own).or_else(of_project).or_else(of_cluster);
        policy.map(|policy| policy.limits()).unwrap_or_default()
    }

    /// Gives every volume the limits that its policy has now; those that are being changed get them right after.
    pub(crate) async fn settle_limits(self: &Rc<Self>) {
        if self.set_limits().await || self.settling.replace(true) {
            return;
        }
        let api = self.clone();
        tokio_uring::spawn(async move {
            loop {
                sleep(SETTLE_PAUSE).await;
                if api.set_limits().await {
                    break;
                }
            }
            api.settling.set(false);
        });
    }

    /// Gives volumes the limits that their policies have now; whether none was being changed.
    ///
    /// Policies and volumes change meanwhile, and others do the same: each volume is looked at just before its turn, and one
    /// that is being changed may still get limits of before, whatever it has now.
    async fn set_limits(&self) -> bool {
        let mut all = true;
        let mut known: BTreeMap<(String, String), Limits> = BTreeMap::new();
        let mut changes = self.records.changes(&LIMITING);
        let uuids: Vec<VolumeUuid> = self.view.after(None).iter().map(|volume| volume.spec.uuid).collect();
        for uuid in uuids {
            let Some(volume) = self.view.find(uuid) else { continue };
            if self.view.is_changing(uuid) {
                all = false;
                continue;
            }
            let now = self.records.changes(&LIMITING);
            if now != changes {
                changes = now;
                known.clear();
            }
            let spec = &volume.spec;
            let own = super::volumes::policy_of(&volume).unwrap_or_default();
            let limits = known.entry((spec.project.clone(), own));
            let limits = *limits.or_insert_with_key(|(project, own)| self.limits_of(project, own));
            if limits == spec.limits || volume.state != VolumeState::Available {
                continue;
            }
            match self.view.set_limits(uuid, limits).await {
                Ok(()) => {}
                Err(ActionError::Busy) => all = false,
                Err(error) => tracing::warn!(%error, volume = spec.name, "a volume's limits cannot be set"),
            }
        }
        all
    }
}

/// `POST /api/v2/policies`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Policies, Verb::Create, Scope::Cluster)?;
    let body: PolicyRequest = request.json()?;
    let name = rules::name("name", &body.name)?;
    rules::description(body.description.as_deref().unwrap_or_default())?;
    let limits = body.limits.ok_or_else(|| {
        ApiError::invalid("qoSRateLimitPolicy: required, with one of limitIOPS, limitBw, limitIOPSPerGB")
    })?;
    let one = api.records.exclusive().await;
    let limits = settle(&api, limits)?;
    check_name(&api, &name, None)?;
    rules::room(api.records.count(Kind::Policy), POLICIES_MAX, "policies")?;
    let policy = Policy {
        uuid: Uuid::new_v4().to_string(),
        name,
        description: body.description.unwrap_or_default(),
        state: "Active".to_owned(),
        limits,
    };
    one.create(&policy).await?;
    Reply::message(&tenants::POLICY, &policy)
}

/// `GET /api/v2/policies`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Policies, Verb::List, Scope::Cluster)?;
    let (uuid, name) = (request.text("UUID"), request.text("name"));
    let project = request.text("projectName");
    if !project.is_empty() && api.directory.project(project).is_none() {
        return Err(ApiError::not_found(format!("project {project} does not exist")));
    }
    let mut policies: Vec<Policy> = api.records.list("").into_iter().map(|found| found.value).collect();
    policies.retain(|policy| {
        (uuid.is_empty() || policy.uuid.eq_ignore_ascii_case(uuid))
            && (name.is_empty() || policy.name == name)
            && (project.is_empty() || policy.is_for(project))
            && is_visible(&caller, policy)
    });
    Reply::message(&tenants::LIST_POLICIES_RESPONSE, &PolicyList { policies })
}

/// `GET /api/v2/policies/{UUID}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Policies, Verb::Get, Scope::Cluster)?;
    let found = find(&api, &request)?;
    if !is_visible(&caller, &found.value) {
        return Err(missing(&request));
    }
    Reply::message(&tenants::POLICY, &found.value)
}

/// `PUT /api/v2/policies/{UUID}`: what is absent stays; volumes that have the policy follow at once.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Policies, Verb::Update, Scope::Cluster)?;
    let body: PolicyRequest = request.json()?;
    let one = api.records.exclusive().await;
    let found = find_uuid(&api, &request)?;
    request.expected_revision(found.revision)?;
    refuse_no_limit(&found.value)?;
    let mut policy = found.value;
    if !body.name.is_empty() && body.name != policy.name {
        refuse_default(&api, &policy)?;
        policy.name = rules::name("name", &body.name)?;
        check_name(&api, &policy.name, Some(&policy.uuid))?;
    }
    if let Some(description) = body.description {
        rules::description(&description)?;
        policy.description = description;
    }
    if let Some(limits) = body.limits {
        policy.limits = settle(&api, limits)?;
    }
    one.replace(&policy, found.revision).await?;
    // Every volume is limited anew, which takes its time: other changes need not wait for it.
    drop(one);
    api.settle_limits().await;
    Ok(Reply::done())
}

/// `DELETE /api/v2/policies/{UUID}`: only one that nothing has.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Policies, Verb::Delete, Scope::Cluster)?;
    let one = api.records.exclusive().await;
    let found = find(&api, &request)?;
    request.expected_revision(found.revision)?;
    refuse_no_limit(&found.value)?;
    refuse_default(&api, &found.value)?;
    let uuid = &found.value.uuid;
    let projects = api.records.list::<Project>("");
    let of_project = projects
        .iter()
        .find(|project| project.value.default_policies.iter().any(|policy| policy.policy_uuid == *uuid));
    if let Some(project) = of_project {
        let message = format!("the policy is a default of project {}", project.value.name);
        return Err(ApiError::precondition(message));
    }
    let volumes = api.view.after(None);
    let mut live = volumes.iter().filter(|volume| volume.state != VolumeState::Deleting);
    if let Some(volume) = live.find(|volume| super::volumes::policy_of(volume).as_deref() == Some(uuid)) {
        let message =
            format!("volume {} of project {} has the policy", volume.spec.name, volume.spec.project);
        return Err(ApiError::precondition(message));
    }
    let coming = api.view.coming_attributes();
    if coming.iter().any(|attributes| super::volumes::policy_in(attributes).as_deref() == Some(uuid)) {
        return Err(ApiError::precondition("a volume that is being made or changed gets the policy"));
    }
    if let Some(other) = api.other_user_of_policy(uuid) {
        return Err(ApiError::precondition(format!(
            "volumes of project {} have the policy at server {} (node {}); if they have just been deleted there, try \
             again in some seconds",
            other.project, other.server, other.node
        )));
    }
    one.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

/// The policy of that UUID or name, if volumes of `project` may have it.
pub(super) fn policy_for(
    api: &Api,
    project: &str,
    uuid: &str,
    name: &str,
) -> Result<Option<Policy>, ApiError> {
    if uuid.is_empty() && name.is_empty() {
        return Ok(None);
    }
    let policies = api.records.list::<Policy>("").into_iter().map(|found| found.value);
    let mut wanted = policies.filter(|policy| {
        if uuid.is_empty() { policy.name == name } else { policy.uuid.eq_ignore_ascii_case(uuid) }
    });
    let found = wanted.next().filter(|policy| policy.is_for(project));
    found.map(Some).ok_or_else(|| {
        let which = if uuid.is_empty() { name } else { uuid };
        ApiError::invalid(format!("qosPolicyUUID, qosPolicyName: project {project} has no policy {which:?}"))
    })
}

fn find(api: &Api, request: &Request) -> Result<Found<Policy>, ApiError> {
    let name = request.text("name");
    if !request.variable("UUID").is_empty() {
        return find_uuid(api, request);
    }
    if name.is_empty() {
        return Err(ApiError::invalid("UUID or name: one of them is required"));
    }
    let found = api.records.list::<Policy>("").into_iter().find(|found| found.value.name == name);
    found.ok_or_else(|| missing(request))
}

fn find_uuid(api: &Api, request: &Request) -> Result<Found<Policy>, ApiError> {
    let uuid = request.variable("UUID").to_ascii_lowercase();
    api.records.get(&uuid).ok_or_else(|| missing(request))
}

fn missing(request: &Request) -> ApiError {
    let uuid = request.variable("UUID");
    let which = if uuid.is_empty() { request.text("name") } else { uuid };
    ApiError::not_found(format!("policy {which} does not exist"))
}

fn is_visible(caller: &Caller, policy: &Policy) -> bool {
    let projects = caller.projects_for(Resource::Policies, Verb::List);
    projects.is_none_or(|projects| projects.iter().any(|project| policy.is_for(project)))
}

fn refuse_no_limit(policy: &Policy) -> Result<(), ApiError> {
    if policy.uuid == NO_LIMIT_UUID {
        return Err(ApiError::invalid("the policy without limits stays as it is"));
    }
    Ok(())
}

/// Refuses to take the cluster's default, which is known by its name, away.
fn refuse_default(api: &Api, policy: &Policy) -> Result<(), ApiError> {
    if Parameters(&api.records).default_policy() == policy.name {
        let message =
            format!("policy {} is the cluster's default: the parameter DefaultQoSName names it", policy.name);
        return Err(ApiError::precondition(message));
    }
    Ok(())
}

fn check_name(api: &Api, name: &str, own: Option<&str>) -> Result<(), ApiError> {
    let policies = api.records.list::<Policy>("");
    let taken = |found: &Found<Policy>| found.value.name == name && Some(found.value.uuid.as_str()) != own;
    if !policies.iter().any(taken) {
        return Ok(());
    }
    let message = format!("policy {name} exists");
    // An update has no 409 in the contract.
    Err(if own.is_some() { ApiError::invalid(message) } else { ApiError::exists(message) })
}

/// Limits as they are kept: one kind of limit, commands in steps of 256, visible to all or to the projects named.
fn settle(api: &Api, mut limits: RateLimits) -> Result<RateLimits, ApiError> {
    let kinds = [limits.iops.is_some(), limits.bandwidth.is_some(), limits.iops_per_gb.is_some()];
    if kinds.iter().filter(|given| **given).count() != 1 {
        let message = "qoSRateLimitPolicy: exactly one of limitIOPS, limitBw, limitIOPSPerGB";
        return Err(ApiError::invalid(message));
    }
    if let Some(iops) = &mut limits.iops {
        for limit in [&mut iops.write, &mut iops.read] {
            let stepped = limit.checked_next_multiple_of(IOPS_STEP);
            *limit = stepped.ok_or_else(|| ApiError::invalid("limitIOPS: too large"))?;
        }
    }
    if limits.projects_names_scope.len() > SCOPE_MAX {
        return Err(ApiError::invalid(format!("projectsNamesScope: at most {SCOPE_MAX} projects")));
    }
    let unknown = limits.projects_names_scope.iter().find(|name| api.directory.project(name).is_none());
    if let Some(name) = unknown {
        return Err(ApiError::not_found(format!("projectsNamesScope: project {name} does not exist")));
    }
    if matches!(limits.policy_visibility.as_str(), "" | "Unavailable") {
        let visibility = if limits.projects_names_scope.is_empty() { GLOBAL } else { SCOPED };
        limits.policy_visibility = visibility.to_owned();
    }
    if (limits.policy_visibility == GLOBAL) != limits.projects_names_scope.is_empty() {
        let message = "policyVisibility: Scoped with projectsNamesScope, or Global without";
        return Err(ApiError::invalid(message));
    }
    Ok(limits)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyRequest {
    name: String,
    description: Option<String>,
    #[serde(rename = "qoSRateLimitPolicy")]
    limits: Option<RateLimits>,
}

#[derive(Debug, Serialize)]
struct PolicyList {
    policies: Vec<Policy>,
}

/// Records by which volumes are limited.
pub(super) const LIMITING: [Kind; 3] = [Kind::Policy, Kind::Project, Kind::ClusterParameter];
const MEGABYTE: u64 = 1_000_000;
const GLOBAL: &str = "Global";
const SCOPED: &str = "Scoped";
/// The contract's step of limits on commands a second.
const IOPS_STEP: u32 = 256;
const POLICIES_MAX: usize = 1024;
const SCOPE_MAX: usize = 256;
/// Between attempts to limit what is being changed.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// The same in every cluster, so that it is found without a search.
const NO_LIMIT_UUID: &str = "00000000-0000-8000-8000-6e6f6c696d69";
