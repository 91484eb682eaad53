//! Roles: read only, told by the very rules that decide.

use std::rc::Rc;

use serde::Serialize;

use super::error::ApiError;
use super::request::Request;
use super::schema::tenants;
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Rule, Scope, Verb, roles_of};

/// `GET /api/v2/projects/{projectName}/roles`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::List)?;
    let roles = roles_of(project).iter().map(|(name, rules)| RoleBody::of(name, project, rules)).collect();
    Reply::exact(&tenants::LIST_ROLES_RESPONSE, &RoleList { roles })
}

/// `GET /api/v2/projects/{projectName}/roles/{name}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Get)?;
    let wanted = request.variable("name");
    let found = roles_of(project).iter().find(|(name, _)| *name == wanted);
    let (name, rules) =
        found.ok_or_else(|| ApiError::not_found(format!("role {wanted} does not exist in {project}")))?;
    Reply::exact(&tenants::GET_ROLE_RESPONSE, &OneRole { role: RoleBody::of(name, project, rules) })
}

fn permit<'a>(api: &Api, caller: &Caller, request: &'a Request, verb: Verb) -> Result<&'a str, ApiError> {
    let project = request.variable("projectName");
    caller.permit(Resource::Roles, verb, Scope::Project(project))?;
    if api.directory.has_scope(project) {
        return Ok(project);
    }
    let message = format!("project {project} does not exist");
    Err(if verb == Verb::Get { ApiError::not_found(message) } else { ApiError::invalid(message) })
}

#[derive(Debug, Serialize)]
struct RoleList {
    roles: Vec<RoleBody>,
}

#[derive(Debug, Serialize)]
struct OneRole {
    role: RoleBody,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoleBody {
    name: String,
    project_name: String,
    rules_json: String,
}

impl RoleBody {
    fn of(name: &str, project: &str, rules: &[Rule]) -> Self {
        let names = |texts: Vec<&'static str>| serde_json::Value::from(texts);
        let rule = |rule: &Rule| {
            serde_json::json!({
                "resources": names(rule.resources.iter().map(|resource| resource.name()).collect()),
                "actions": names(rule.verbs.iter().map(|verb| verb.name()).collect()),
            })
        };
        let rules = serde_json::Value::from(rules.iter().map(rule).collect::<Vec<_>>());
        Self { name: name.to_owned(), project_name: project.to_owned(), rules_json: rules.to_string() }
    }
}
