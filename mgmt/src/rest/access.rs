//! Projects and the credentials that their tokens are verified with.

use std::rc::Rc;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::json::{named, or_default};
use super::request::Request;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, SYSTEM, Scope, Verb};
use crate::directory::{Credential, CredentialKind, CredentialRecord, DirectoryError, Project};

/// `GET /api/v2/projects`: those that the caller may see.
pub(super) async fn list_projects(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    let own = caller.projects_for(Resource::Projects, Verb::List);
    let mut projects = api.directory.projects();
    match own {
        None => {}
        Some(own) if own.is_empty() => return Err(crate::auth::Denied.into()),
        Some(own) => projects.retain(|project| own.contains(&project.name.as_str())),
    }
    Reply::json(&ProjectList { projects: projects.into_iter().map(ProjectBody::of).collect() })
}

/// `GET /api/v2/projects/{name}`.
pub(super) async fn get_project(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let name = request.variable("name");
    caller.permit(Resource::Projects, Verb::Get, Scope::Project(name))?;
    let project = api.directory.project(name);
    let project = project.ok_or_else(|| ApiError::not_found(format!("project {name} does not exist")))?;
    Reply::json(&ProjectBody::of(project))
}

/// `POST /api/v2/projects/{projectName}/credentials`.
pub(super) async fn create_credential(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Create)?;
    let body: CreateCredential = request.json()?;
    if body.kind != Some(CredentialType::RS256PubKey) {
        return Err(ApiError::invalid("type: RS256PubKey is the only type that this server supports yet"));
    }
    if body.payload.is_empty() {
        return Err(ApiError::invalid("payload: required, a public key in PEM form, in base64"));
    }
    let record = CredentialRecord {
        project: project.to_owned(),
        id: rules::name("ID", &body.id)?,
        kind: CredentialKind::RS256PubKey,
        payload: body.payload,
    };
    tracing::info!(subject = caller.subject(), project, id = record.id, "create credential");
    let credential = api.directory.create_credential(record).await?;
    Reply::json(&CredentialBody::of(credential))
}

/// `GET /api/v2/projects/{projectName}/credentials`.
pub(super) async fn list_credentials(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::List)?;
    let credentials = api.directory.credentials(project);
    Reply::json(&CredentialList { credentials: credentials.into_iter().map(CredentialBody::of).collect() })
}

/// `GET /api/v2/projects/{projectName}/credentials/{ID}`.
pub(super) async fn get_credential(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Get)?;
    let id = request.variable("ID");
    let credential = api.directory.credential(project, id);
    let credential = credential.ok_or_else(|| DirectoryError::NotFound(id.to_owned()))?;
    Reply::json(&CredentialBody::of(credential))
}

/// `DELETE /api/v2/projects/{projectName}/credentials/{ID}`.
pub(super) async fn delete_credential(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Delete)?;
    let id = request.variable("ID");
    tracing::info!(subject = caller.subject(), project, id, "delete credential");
    api.directory.delete_credential(project, id).await?;
    Ok(Reply::done())
}

/// Checks that the caller may touch credentials of the path's project, and that there is such a project.
fn permit<'a>(api: &Api, caller: &Caller, request: &'a Request, verb: Verb) -> Result<&'a str, ApiError> {
    let project = request.variable("projectName");
    if project.is_empty() {
        return Err(ApiError::invalid("projectName: required"));
    }
    caller.permit(Resource::Credentials, verb, Scope::Project(project))?;
    if !api.directory.has_scope(project) {
        let message = format!("project {project} does not exist; the cluster's own is {SYSTEM}");
        return Err(match verb {
            Verb::Get | Verb::Delete => ApiError::not_found(message),
            Verb::Create | Verb::List | Verb::Update => ApiError::invalid(message),
        });
    }
    Ok(project)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CreateCredential {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: String,
    #[serde(rename = "type", deserialize_with = "credential_type")]
    kind: Option<CredentialType>,
    #[serde(deserialize_with = "or_default")]
    payload: String,
}

/// The contract's types of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialType {
    RS256PubKey,
    TlsCertChainPem,
    TlsPrivKeyPem,
}

fn credential_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CredentialType>, D::Error> {
    let table = [
        ("UnknownType", 0, None),
        ("RS256PubKey", 1, Some(CredentialType::RS256PubKey)),
        ("TlsCertChainPem", 2, Some(CredentialType::TlsCertChainPem)),
        ("TlsPrivKeyPem", 3, Some(CredentialType::TlsPrivKeyPem)),
    ];
    named(deserializer, &table)
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
    default_policies: [String; 0],
}

impl ProjectBody {
    fn of(project: Project) -> Self {
        Self {
            uuid: project.uuid,
            name: project.name,
            description: project.description,
            default_policies: [],
        }
    }
}

#[derive(Debug, Serialize)]
struct CredentialList {
    credentials: Vec<CredentialBody>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialBody {
    project_name: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    payload: String,
    #[serde(rename = "kind")]
    owner: &'static str,
}

impl CredentialBody {
    fn of(credential: Credential) -> Self {
        let record = credential.record;
        let CredentialKind::RS256PubKey = record.kind;
        Self {
            project_name: record.project,
            id: record.id,
            kind: "RS256PubKey",
            payload: record.payload,
            owner: "UserCreds",
        }
    }
}
