//! Users with passwords, their tokens and logins, and tokens taken back.

use std::rc::Rc;

use hyper::StatusCode;
use hyper::header::{COOKIE, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::error::{ApiError, Code};
use super::json::or_default;
use super::request::{Query, Request};
use super::server::check_failures;
use super::{Api, Reply, rules};
use crate::auth::service::TokensError;
use crate::auth::users::{LIFETIME_S, USER_ROLES};
use crate::auth::{Caller, Parsed, Resource, Scope, Verb, now};

/// `POST /auth/users/{name}`: makes a user, or changes one.
pub(super) async fn put(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Update, Scope::Cluster)?;
    let name = rules::name("name", request.variable("name"))?;
    let body: PutUser = request.json()?;
    if body.roles.is_empty() || !body.roles.iter().all(|role| USER_ROLES.contains(&role.as_str())) {
        return Err(ApiError::invalid(format!("roles: one or more of {}", USER_ROLES.join(", "))));
    }
    for project in &body.projects {
        if api.directory.project(project).is_none() {
            return Err(ApiError::invalid(format!("projects: project {project} does not exist")));
        }
    }
    tracing::info!(subject = caller.subject(), name, roles = ?body.roles, "write a user");
    api.tokens.put_user(&name, body.roles, body.projects, body.password).await?;
    Ok(Reply::done())
}

/// `GET /auth/users`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::List, Scope::Cluster)?;
    let users = api.tokens.users();
    let users =
        users.into_iter().map(|(name, user)| UserBody { name, roles: user.roles, projects: user.projects });
    Reply::json(&json!({"users": users.collect::<Vec<_>>()}))
}

/// `DELETE /auth/users/{name}`: the user's tokens and logins end.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Delete, Scope::Cluster)?;
    let name = request.variable("name");
    tracing::info!(subject = caller.subject(), name, "delete a user");
    api.tokens.delete_user(name).await?;
    Ok(Reply::done())
}

/// `POST /auth/users/{name}/jwt`: a token for a user.
pub(super) async fn issue(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Create, Scope::Cluster)?;
    let name = request.variable("name");
    let issued = api.tokens.issue_for_user(name, now())?;
    tracing::info!(subject = caller.subject(), name, jti = issued.id, "issue a user's token");
    Reply::json(&json!({"jti": issued.id, "token": issued.token}))
}

/// `POST /auth/revocations`: takes a token back, by its text or by its `jti`.
pub(super) async fn revoke(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Tokens, Verb::Delete, Scope::Cluster)?;
    let body: Revoke = request.json()?;
    let parsed = match body.token.trim() {
        "" => None,
        text => Some(Parsed::read(text).map_err(|error| ApiError::invalid(format!("token: {error}")))?),
    };
    let own = parsed.as_ref().and_then(|parsed| parsed.text("jti"));
    let id = Some(body.jti.as_str()).filter(|id| !id.is_empty()).or(own);
    let id = id.filter(|id| id.len() <= 256).ok_or_else(|| {
        ApiError::invalid("jti: required; a token without one ends when its credential is deleted")
    })?;
    let end = parsed.as_ref().and_then(|parsed| parsed.claims.get("exp")?.as_f64());
    let until = match body.expiry.as_str() {
        "" => end.unwrap_or(f64::MAX),
        text => {
            let time = OffsetDateTime::parse(text, &Rfc3339);
            let time = time
                .map_err(|_| ApiError::invalid("expiry: expected RFC 3339, such as 2030-01-01T00:00:00Z"))?;
            #[expect(clippy::cast_precision_loss, reason = "a time of our days")]
            let seconds = time.unix_timestamp() as f64;
            seconds
        }
    };
    tracing::info!(subject = caller.subject(), jti = id, "revoke a token");
    api.tokens.revoke(id, until).await?;
    Ok(Reply::done())
}

/// `POST /login`: a browser's login by name and password.
pub(super) async fn log_in(api: Rc<Api>, _: Option<Caller>, request: Request) -> Result<Reply, ApiError> {
    let body = if request.body.trim_ascii_start().starts_with(b"{") {
        request.json::<LogIn>()?
    } else {
        let text =
            std::str::from_utf8(&request.body).map_err(|_| ApiError::invalid("the body is no text"))?;
        let form = Query::parse(text)?;
        LogIn { username: form.text("username").to_owned(), password: form.text("password").to_owned() }
    };
    let name = body.username;
    check_failures(&api, request.peer)?;
    match api.tokens.log_in(&name, body.password, now()).await {
        Ok(cookie) => {
            tracing::info!(name, "logged in");
            let mut reply = Reply::json(&json!({"username": name}))?;
            reply.cookie = Some(format!("{COOKIE_NAME}={cookie}; {ATTRIBUTES}; Max-Age={LIFETIME_S}"));
            Ok(reply)
        }
        Err(error) => {
            // Each guess costs the server a hash: an address gets no more of them than of wrong tokens.
            request.peer.into_iter().for_each(|peer| api.failures.count(peer, Instant::now()));
            tracing::warn!(%error, "a login was refused");
            Err(error.into())
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(api: Rc<Api>, _: Option<Caller>, request: Request) -> Result<Reply, ApiError> {
    api.tokens.log_out(&request.login);
    let mut reply = Reply::done();
    reply.cookie = Some(format!("{COOKIE_NAME}=; {ATTRIBUTES}; Max-Age=0"));
    Ok(reply)
}

/// `GET /login`: a form for it.
pub(super) async fn login_page(_: Rc<Api>, _: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    Ok(Reply::text("text/html; charset=utf-8", PAGE.to_owned()))
}

/// The login's cookie among a request's headers; empty if there is none.
pub(super) fn cookie_of(headers: &HeaderMap) -> &str {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies =
        values.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == COOKIE_NAME).map_or("", |(_, value)| value)
}

impl From<TokensError> for ApiError {
    fn from(error: TokensError) -> Self {
        let message = error.to_string();
        match error {
            TokensError::NotFound(_) => Self::not_found(message),
            TokensError::Full(_) => Self::new(StatusCode::BAD_REQUEST, Code::ResourceExhausted, message),
            TokensError::Key(_) | TokensError::Password(_) | TokensError::Invalid(_) | TokensError::NoKey => {
                Self::invalid(message)
            }
            TokensError::Login => Self::unauthenticated(message),
            TokensError::Slow(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, message)
            }
            TokensError::Store(error) => error.into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PutUser {
    #[serde(deserialize_with = "or_default")]
    roles: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    projects: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    password: String,
}

#[derive(Debug, Serialize)]
struct UserBody {
    name: String,
    roles: Vec<String>,
    projects: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revoke {
    #[serde(deserialize_with = "or_default")]
    jti: String,
    #[serde(deserialize_with = "or_default")]
    token: String,
    #[serde(deserialize_with = "or_default")]
    expiry: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogIn {
    #[serde(deserialize_with = "or_default")]
    username: String,
    #[serde(deserialize_with = "or_default")]
    password: String,
}

const COOKIE_NAME: &str = "ferrule_login";
const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Strict";
const PAGE: &str = "<!doctype html><meta charset=utf-8><title>Ferrule</title>
<form method=post action=/login>
<p><label>Name <input name=username autocomplete=username required></label>
<p><label>Password <input name=password type=password autocomplete=current-password required></label>
<p><button>Log in</button>
</form>
";
