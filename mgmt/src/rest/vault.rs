//! Roles that issue tokens, by the paths, bodies and answers that clients of Vault's `jwt` backend know.
//!
//! Writes answer 204, everything else is in `data`, errors are a list of texts. A key is written and never read.

use std::rc::Rc;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::json::or_default;
use super::request::Request;
use super::{Api, JSON, Reply, rules};
use crate::auth::algorithm::Algorithm;
use crate::auth::issuing::{Defaults, Wanted};
use crate::auth::{Caller, Resource, Scope, Verb};

/// Whether the client at this path expects Vault's errors.
pub(super) fn owns(path: &str) -> bool {
    ["/v1/jwt/", "/jwt/", "/v1/sys/"].iter().any(|prefix| path.starts_with(prefix))
}

/// An error in Vault's shape.
pub(super) fn error_reply(error: &ApiError) -> Reply {
    let body = json!({"errors": [error.message]}).to_string();
    Reply { status: error.status, content_type: JSON, body: body.into(), cookie: None }
}

/// `POST /v1/sys/mounts/{name}`: what Vault's users do first; here there is one backend, always.
pub(super) async fn mount(_: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Create, Scope::Cluster)?;
    Err(ApiError::invalid(match request.variable("name") {
        "jwt" => "path is already in use at jwt/: go on with jwt/roles/NAME",
        _ => "this server has the backend jwt alone, at jwt/",
    }))
}

/// `POST /v1/jwt/roles/{name}`: makes a role or changes one.
pub(super) async fn write(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Update, Scope::Cluster)?;
    let name = rules::name("name", request.variable("name"))?;
    let body: WriteRole = request.json()?;
    let algorithm = Some(body.algorithm.as_str()).filter(|text| !text.is_empty());
    let algorithm = algorithm.map(|text| {
        let hint = || {
            ApiError::invalid(
                "algorithm: RS256, RS384, RS512, ES256, ES384, ES512, EdDSA, HS256, HS384 or HS512",
            )
        };
        Algorithm::parse(text).ok_or_else(hint)
    });
    let algorithm = algorithm.transpose()?;
    let key = [&body.key, &body.secret].into_iter().find(|text| !text.is_empty()).map(String::as_str);
    let said = body.said;
    tracing::info!(subject = caller.subject(), name, "write a role that issues tokens");
    let merge = |kept: Defaults| Defaults {
        issuer: given(said.issuer).or(kept.issuer),
        subject: given(said.subject).or(kept.subject),
        audience: given(said.audience).or(kept.audience),
        ttl_s: said.ttl.or(kept.ttl_s),
        claims: said.claims.unwrap_or(kept.claims),
    };
    api.tokens.put_role(&name, algorithm, key, merge).await?;
    Ok(no_content())
}

/// `GET /v1/jwt/roles/{name}`: what is known of a role, without its key.
pub(super) async fn read(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    if request.variable("name").is_empty() {
        return list(api, caller, request).await;
    }
    caller.permit(Resource::Tokens, Verb::Get, Scope::Cluster)?;
    let name = request.variable("name");
    let role = api.tokens.role(name);
    let role = role.ok_or_else(|| ApiError::not_found(format!("role {name} does not exist")))?;
    let defaults = &role.defaults;
    data(&RoleBody {
        algorithm: role.algorithm(),
        issuer: defaults.issuer.as_deref(),
        subject: defaults.subject.as_deref(),
        audience: defaults.audience.as_deref(),
        ttl: defaults.ttl_s,
        claims: &defaults.claims,
    })
}

/// `GET /v1/jwt/roles?list=true`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::List, Scope::Cluster)?;
    if !request.query.boolean("list")? {
        return Err(ApiError::invalid("list: name a role in the path, or ask with ?list=true"));
    }
    let names = api.tokens.role_names();
    if names.is_empty() {
        Err(ApiError::not_found("there is no role yet"))
    } else {
        data(&json!({"keys": names}))
    }
}

/// `DELETE /v1/jwt/roles/{name}`: its tokens are refused from here on.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Delete, Scope::Cluster)?;
    let name = request.variable("name");
    tracing::info!(subject = caller.subject(), name, "delete a role that issues tokens");
    // One that is not there is gone, too: that is what clients of this interface expect.
    api.tokens.delete_role(name).await?;
    Ok(no_content())
}

/// `POST /v1/jwt/issue/{name}`, or `GET` where the role says it all: a token of a role.
pub(super) async fn issue(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Create, Scope::Cluster)?;
    let name = request.variable("name");
    let body: IssueToken = request.json()?;
    let said = Defaults {
        issuer: given(body.said.issuer),
        subject: given(body.said.subject),
        audience: given(body.said.audience),
        ttl_s: body.said.ttl,
        claims: body.said.claims.unwrap_or_default(),
    };
    let wanted = Wanted { said, expiration: body.expiration, not_before: body.not_before };
    let issued = api.tokens.issue(name, wanted)?;
    tracing::info!(subject = caller.subject(), name, jti = issued.id, "issue a token");
    data(&json!({"jti": issued.id, "token": issued.token}))
}

fn data(value: &impl Serialize) -> Result<Reply, ApiError> {
    Reply::json(&json!({"data": value}))
}

fn no_content() -> Reply {
    Reply { status: StatusCode::NO_CONTENT, content_type: JSON, body: Bytes::new().into(), cookie: None }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// What a role and a request can say alike.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    #[serde(alias = "iss", deserialize_with = "or_default")]
    issuer: String,
    #[serde(alias = "sub", deserialize_with = "or_default")]
    subject: String,
    #[serde(alias = "aud", deserialize_with = "or_default")]
    audience: String,
    #[serde(deserialize_with = "number")]
    ttl: Option<u64>,
    #[serde(deserialize_with = "object")]
    claims: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WriteRole {
    #[serde(deserialize_with = "or_default")]
    algorithm: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    secret: String,
    #[serde(flatten)]
    said: Said,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IssueToken {
    #[serde(alias = "exp", deserialize_with = "number")]
    expiration: Option<u64>,
    #[serde(alias = "nbf", deserialize_with = "number")]
    not_before: Option<u64>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize)]
struct RoleBody<'a> {
    algorithm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    claims: &'a Map<String, Value>,
}

/// A number of seconds, which command lines send as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    use serde::de::Error as _;
    let wrong = || D::Error::custom("expected seconds as a whole number");
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) => number.as_u64().map(Some).ok_or_else(wrong),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.trim().parse().map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// An object, which command lines send as a text: `claims=@extra.json`.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    use serde::de::Error as _;
    let wrong = || D::Error::custom("claims: expected a JSON object");
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Object(claims) => Ok(Some(claims)),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => serde_json::from_str(&text).map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}
