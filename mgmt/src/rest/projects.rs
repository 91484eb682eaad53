//! Projects: scopes of volumes, tokens and default policies.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::policies::Policy;
use super::request::Request;
use super::schema::tenants;
use super::trusted::TrustedHost;
use super::{Api, Reply, rules, snapshots};
use crate::auth::{Caller, Resource, SYSTEM, Scope, Verb};
use crate::directory::{CredentialRecord, DefaultPolicy, Project, project_uuid};
use crate::metadata::{Change, Found, Kept, Kind};
use crate::schedule::Schedule;
use crate::serve::DEFAULT_PROJECT;

/// `GET /api/v2/projects`: those that the caller may see.
pub(super) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    let own = caller.projects_for(Resource::Projects, Verb::List);
    let mut projects = api.directory.projects();
    match own {
        None => {}
        Some(own) if own.is_empty() => return Err(crate::auth::Denied.into()),
        Some(own) => projects.retain(|project| own.contains(&project.name.as_str())),
    }
    let projects = projects.into_iter().map(ProjectBody::of).collect();
    Reply::message(&tenants::LIST_PROJECTS_RESPONSE, &ProjectList { projects })
}

/// `GET /api/v2/projects/{name}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let name = request.variable("name");
    caller.permit(Resource::Projects, Verb::Get, Scope::Project(name))?;
    let project = api.directory.project(name).ok_or_else(|| missing(name))?;
    Reply::message(&tenants::PROJECT, &ProjectBody::of(project))
}

/// `POST /api/v2/projects`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Projects, Verb::Create, Scope::Cluster)?;
    let body: ProjectRequest = request.json()?;
    let name = rules::name("name", &body.name)?;
    if name == SYSTEM {
        return Err(ApiError::exists(format!("{SYSTEM} is the cluster's own scope")));
    }
    rules::description(&body.description)?;
    let one = api.records.exclusive().await;
    check_policies(&api, &body.default_policies)?;
    if api.directory.project(&name).is_some() {
        return Err(ApiError::exists(format!("project {name} exists")));
    }
    rules::room(api.records.count(Kind::Project), PROJECTS_MAX, "projects")?;
    let project = Project {
        uuid: project_uuid(api.site.identity.cluster_uuid, &name),
        name,
        description: body.description,
        default_policies: body.default_policies,
    };
    one.create(&project).await?;
    Reply::message(&tenants::PROJECT, &ProjectBody::of(project))
}

/// `PUT /api/v2/projects/{projectName}`: the default policies.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Projects, Verb::Update, Scope::Cluster)?;
    let name = request.variable("projectName");
    let body: ProjectRequest = request.json()?;
    let one = api.records.exclusive().await;
    let found: Option<Found<Project>> = api.records.get(name);
    // The contract has no 404 here.
    let found = found.ok_or_else(|| ApiError::invalid(format!("project {name} does not exist")))?;
    request.expected_revision(found.revision)?;
    check_policies(&api, &body.default_policies)?;
    let project = Project { default_policies: body.default_policies, ..found.value };
    one.replace(&project, found.revision).await?;
    // Every volume is limited anew, which takes its time: other changes need not wait for it.
    drop(one);
    api.settle_limits().await;
    Ok(Reply::done())
}

/// `DELETE /api/v2/projects/{name}`: only one that is empty, also at the other servers of the metadata store; its
/// credentials go with it.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let name = request.variable("name");
    caller.permit(Resource::Projects, Verb::Delete, Scope::Cluster)?;
    api.view.freshen().await?;
    let one = api.records.exclusive().await;
    let found: Option<Found<Project>> = api.records.get(name);
    let found = found.ok_or_else(|| missing(name))?;
    request.expected_revision(found.revision)?;
    if name == DEFAULT_PROJECT {
        return Err(ApiError::invalid("the default project cannot be deleted"));
    }
    let prefix = format!("{name}:");
    // The look at volumes comes first: what has none gets no snapshot after it.
    let volumes = api.view.has_any_of(name);
    let snapshots = snapshots::all(&api).await?;
    let occupied = [
        ("volumes", volumes),
        ("snapshots", snapshots.iter().any(|snapshot| snapshot.project == name)),
        (
            "resource policies",
            api.records.list::<Schedule>("").iter().any(|one| one.value.project_name == name),
        ),
        ("trusted hosts", !api.records.list::<TrustedHost>(&prefix).is_empty()),
    ];
    if let Some((what, _)) = occupied.iter().find(|(_, any)| *any) {
        return Err(ApiError::precondition(format!("not allowed: project {name} still has {what}")));
    }
    if let Some(other) = api.other_users(name).first() {
        return Err(ApiError::precondition(format!(
            "not allowed: project {name} still has volumes or snapshots at server {} (node {}); if they have just been \
             deleted there, try again in some seconds",
            other.server, other.node
        )));
    }
    let credentials = api.records.list::<CredentialRecord>(&prefix);
    let mut changes = vec![Change::delete(Kind::Project, found.value.key())];
    changes.extend(api.end_of_use(name));
    changes.extend(credentials.iter().map(|one| Change::delete(Kind::Credential, one.value.key())));
    one.commit(changes).await?;
    Ok(Reply::done())
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("project {name} does not exist"))
}

fn check_policies(api: &Api, policies: &[DefaultPolicy]) -> Result<(), ApiError> {
    for (index, policy) in policies.iter().enumerate() {
        if policy.policy_type != "qosRateLimit" {
            let message =
                "defaultPolicies.policyType: qosRateLimit; schedules of snapshots belong to volumes";
            return Err(ApiError::invalid(message));
        }
        if policies[..index].iter().any(|other| other.policy_type == policy.policy_type) {
            return Err(ApiError::invalid("defaultPolicies: one of each type"));
        }
        if api.records.get::<Policy>(&policy.policy_uuid).is_none() {
            let message = format!("defaultPolicies.policyUUID: no policy {:?}", policy.policy_uuid);
            return Err(ApiError::invalid(message));
        }
    }
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProjectRequest {
    name: String,
    description: String,
    default_policies: Vec<DefaultPolicy>,
}

#[derive(Debug, Serialize)]
struct ProjectList {
    projects: Vec<ProjectBody>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectBody {
    #[serde(rename = "UUID")]
    uuid: String,
    name: String,
    description: String,
    default_policies: Vec<DefaultPolicy>,
}

impl ProjectBody {
    fn of(project: Project) -> Self {
        Self {
            uuid: project.uuid,
            name: project.name,
            description: project.description,
            default_policies: project.default_policies,
        }
    }
}

/// Projects are held in memory.
const PROJECTS_MAX: usize = 4096;
