//! Credentials: the keys that a project's tokens are verified with.

use std::rc::Rc;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;
use super::json::or_default;
use super::request::Request;
use super::schema::tenants;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::directory::{Credential, CredentialKind, CredentialRecord, DirectoryError};

/// `POST /api/v2/projects/{projectName}/credentials`.
pub(super) async fn create_credential(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Create)?;
    let body: CreateCredential = request.json()?;
    let kind = body.kind.ok_or_else(|| {
        let names: Vec<String> = CredentialKind::ALL.iter().map(|(kind, _)| kind.name()).collect();
        ApiError::invalid(format!("type: this server supports {}", names.join(", ")))
    })?;
    if body.payload.is_empty() {
        let hint = "payload: required, a public key in PEM form or a secret, in base64";
        return Err(ApiError::invalid(hint));
    }
    if body.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(ApiError::invalid(format!("payload: at most {PAYLOAD_BYTES_MAX} bytes")));
    }
    let record = CredentialRecord {
        project: project.to_owned(),
        id: rules::name("ID", &body.id)?,
        kind,
        payload: body.payload,
        issuer: short("issuer", body.issuer)?,
        audience: short("audience", body.audience)?,
    };
    tracing::info!(subject = caller.subject(), project, id = record.id, "create credential");
    let credential = api.directory.create_credential(record).await?;
    Reply::exact(&tenants::CREDENTIAL, &CredentialBody::of(credential))
}

/// `GET /api/v2/projects/{projectName}/credentials`.
pub(super) async fn list_credentials(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::List)?;
    let credentials = api.directory.credentials(project);
    Reply::exact(
        &tenants::LIST_CREDENTIALS_RESPONSE,
        &CredentialList { credentials: credentials.into_iter().map(CredentialBody::of).collect() },
    )
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
    Reply::exact(&tenants::CREDENTIAL, &CredentialBody::of(credential))
}

/// `DELETE /api/v2/projects/{projectName}/credentials/{ID}`.
pub(super) async fn delete_credential(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Verb::Delete)?;
    let id = request.variable("ID");
    if let Some(credential) = api.directory.credential(project, id) {
        request.expected_revision(credential.revision)?;
    }
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
        let message = DirectoryError::NoProject(project.to_owned()).to_string();
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
    kind: Option<CredentialKind>,
    #[serde(deserialize_with = "or_default")]
    payload: String,
    #[serde(deserialize_with = "or_default")]
    issuer: String,
    #[serde(deserialize_with = "or_default")]
    audience: String,
}

/// The contract's types have numbers too; `TlsCertChainPem` and `TlsPrivKeyPem` verify no tokens.
fn credential_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CredentialKind>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::String(name) => name,
        Value::Number(number) if number.as_u64() == Some(1) => "RS256PubKey".to_owned(),
        Value::Null | Value::Number(_) => return Ok(None),
        _ => return Err(D::Error::custom("type: expected a name")),
    };
    let known = CredentialKind::parse(&text);
    if known.is_none() && !["UnknownType", "TlsCertChainPem", "TlsPrivKeyPem"].contains(&text.as_str()) {
        return Err(D::Error::custom(format!("type: unknown credential type {text:?}")));
    }
    Ok(known)
}

/// An issuer or an audience; none if it is empty.
fn short(field: &str, text: String) -> Result<Option<String>, ApiError> {
    if text.len() > 256 {
        return Err(ApiError::invalid(format!("{field}: at most 256 bytes")));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
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
    kind: String,
    payload: String,
    #[serde(rename = "kind")]
    owner: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
}

impl CredentialBody {
    fn of(credential: Credential) -> Self {
        let record = credential.record;
        // A secret is written and never read.
        let payload = if record.kind.is_secret() { String::new() } else { record.payload };
        Self {
            project_name: record.project,
            id: record.id,
            kind: record.kind.name(),
            payload,
            owner: "UserCreds",
            issuer: record.issuer,
            audience: record.audience,
        }
    }
}

/// An RSA key of 16,384 bits in PEM form and base64 takes a quarter of this.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
