//! Resource policies: schedules by which volumes get snapshots.

use std::rc::Rc;

use dataplane::Volume;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::ApiError;
use super::request::Request;
use super::schema::tenants;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Found, Kind};
use crate::schedule::{Schedule, SchedulePolicy};

/// `POST /api/v2/projects/{projectName}/resourcePolicies`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    permit(&api, &caller, &request, Verb::Create)?;
    let body: ScheduleRequest = request.json()?;
    let name = rules::name("name", &body.name)?;
    rules::description(body.description.as_deref().unwrap_or_default())?;
    let policy = body.policy.ok_or_else(|| ApiError::invalid("schedulePolicy: required"))?;
    check(&policy)?;
    api.view.freshen().await?;
    let one = api.records.exclusive().await;
    // The project may have been deleted meanwhile; nobody deletes it under this right.
    let project = permit(&api, &caller, &request, Verb::Create)?;
    let volume = volume_of(&api, project, &body.resource_uuid, &body.resource_name)?;
    if of_project(&api, project).iter().any(|found| found.value.name == name) {
        return Err(ApiError::exists(format!("resource policy {name} exists")));
    }
    rules::room(api.records.count(Kind::Schedule), SCHEDULES_MAX, "resource policies")?;
    let schedule = Schedule {
        uuid: Uuid::new_v4().to_string(),
        name,
        resource_uuid: rules::uuid_text(volume.spec.uuid.0),
        resource_name: volume.spec.name.clone(),
        project_name: project.to_owned(),
        policy,
        description: body.description.unwrap_or_default(),
        state: "Active".to_owned(),
        taken_ns: crate::events::now_ns(),
        node: rules::uuid_text(api.site.identity.node_uuid),
    };
    one.create(&schedule).await?;
    Reply::message(&tenants::RESOURCE_POLICY, &body_of(&api, &schedule))
}

/// `GET /api/v2/projects/{projectName}/resourcePolicies`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::List)?;
    let (uuid, volume) = (request.text("UUID"), request.text("volumeUUID"));
    let admits = |given: &str, own: &str| given.is_empty() || given.eq_ignore_ascii_case(own);
    let found = of_project(&api, project).into_iter().map(|found| found.value);
    let wanted = found.filter(|one| admits(uuid, &one.uuid) && admits(volume, &one.resource_uuid));
    let list = List { resource_policies: wanted.map(|one| body_of(&api, &one)).collect() };
    Reply::message(&tenants::LIST_RESOURCE_POLICIES_RESPONSE, &list)
}

/// `GET /api/v2/projects/{projectName}/resourcePolicies/{UUID}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Get)?;
    let found = find(&api, project, &request)?;
    Reply::message(&tenants::RESOURCE_POLICY, &body_of(&api, &found.value))
}

/// `PUT /api/v2/projects/{projectName}/resourcePolicies/{UUID}`.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Update)?;
    let body: ScheduleRequest = request.json()?;
    let found = find(&api, project, &request)?;
    request.expected_revision(found.revision)?;
    let mut schedule = found.value;
    if let Some(policy) = body.policy {
        check(&policy)?;
        schedule.policy = policy;
        // What was due by the old schedule only is not made up for.
        schedule.taken_ns = crate::events::now_ns();
    }
    if let Some(description) = body.description {
        rules::description(&description)?;
        schedule.description = description;
    }
    api.records.replace(&schedule, found.revision).await?;
    Ok(Reply::done())
}

/// `DELETE /api/v2/projects/{projectName}/resourcePolicies/{UUID}`: its snapshots stay.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Delete)?;
    let found = find(&api, project, &request)?;
    request.expected_revision(found.revision)?;
    api.records.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

fn permit<'a>(api: &Api, caller: &Caller, request: &'a Request, verb: Verb) -> Result<&'a str, ApiError> {
    let project = request.variable("projectName");
    caller.permit(Resource::Schedules, verb, Scope::Project(project))?;
    let known = api.directory.project(project).is_some();
    known.then_some(project).ok_or_else(|| ApiError::not_found(format!("project {project} does not exist")))
}

fn of_project(api: &Api, project: &str) -> Vec<Found<Schedule>> {
    let mut found = api.records.list::<Schedule>("");
    found.retain(|found| found.value.project_name == project);
    found
}

fn find(api: &Api, project: &str, request: &Request) -> Result<Found<Schedule>, ApiError> {
    let uuid = request.variable("UUID");
    let found = api.records.get::<Schedule>(&uuid.to_ascii_lowercase());
    let found = found.filter(|found| found.value.project_name == project);
    found.ok_or_else(|| ApiError::not_found(format!("resource policy {uuid} does not exist")))
}

/// The volume of that UUID, which wins, or name.
fn volume_of(api: &Api, project: &str, uuid: &str, name: &str) -> Result<Rc<Volume>, ApiError> {
    let found = match (uuid, name) {
        ("", "") => return Err(ApiError::invalid("resourceUUID or resourceName: one of them is required")),
        ("", name) => api.view.find_name(project, name),
        (uuid, _) => api.view.find(rules::volume_uuid(uuid)?),
    };
    let found = found.filter(|volume| volume.spec.project == project);
    let which = if uuid.is_empty() { name } else { uuid };
    found.ok_or_else(|| ApiError::not_found(format!("volume {which} does not exist")))
}

fn check(policy: &SchedulePolicy) -> Result<(), ApiError> {
    policy.check().map_err(|wrong| ApiError::invalid(format!("schedulePolicy: {wrong}")))
}

/// The schedule with its volume's name of today.
fn body_of(api: &Api, schedule: &Schedule) -> Value {
    let volume = rules::volume_uuid(&schedule.resource_uuid).ok().and_then(|uuid| api.view.find(uuid));
    let mut shown = schedule.clone();
    if let Some(volume) = volume {
        shown.resource_name.clone_from(&volume.spec.name);
    }
    shown.shown()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ScheduleRequest {
    name: String,
    #[serde(rename = "resourceUUID")]
    resource_uuid: String,
    resource_name: String,
    #[serde(rename = "schedulePolicy")]
    policy: Option<SchedulePolicy>,
    description: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    resource_policies: Vec<Value>,
}

const SCHEDULES_MAX: usize = 4096;
