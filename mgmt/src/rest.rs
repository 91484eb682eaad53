//! The REST interface: a route table, typed requests and answers, one error type.

mod access;
mod admin;
mod body;
mod cluster;
mod cluster_federation;
mod deadline;
mod devices;
mod encryption;
mod error;
mod events;
mod failures;
mod federated_authentication;
mod hosts;
mod idp;
mod json;
mod listeners;
mod logs;
mod metrics;
mod openapi;
mod placement;
mod policies;
mod projects;
mod request;
mod roles;
mod router;
mod routes;
mod rules;
mod schedules;
pub(crate) mod schema;
mod server;
mod servers;
mod settings;
mod snapshots;
mod tasks;
#[cfg(test)]
pub(crate) mod test;
mod trusted;
mod users;
mod uses;
mod vault;
mod volumes;
mod waiting;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use dataplane::Identity;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::auth::Tokens;
use crate::directory::Directory;
use crate::drives::AddedDrives;
use crate::events::Events;
use crate::issuers::Issuers;
use crate::metadata::Records;
use crate::plane::Plane;
use crate::view::View;
use body::Body;
use error::ApiError;
use failures::Failures;
use listeners::Listeners;
use router::Router;
use schema::Message;

pub(crate) use json::timestamp;
pub(crate) use placement::DOMAIN_LENGTH_MAX;
pub(crate) use request::Request;
pub(crate) use server::Server;
pub(crate) use settings::Parameters;
pub(crate) use snapshots::retain;
pub(crate) use uses::SettleError;
pub(crate) use waiting::Waiting;

/// Everything that handlers reach.
#[derive(Debug)]
pub(crate) struct Api {
    /// The data plane.
    pub(crate) plane: Plane,
    /// Volumes.
    pub(crate) view: Rc<View>,
    /// Projects and credentials.
    pub(crate) directory: Directory,
    /// Tokens, users, and who issues.
    pub(crate) tokens: Tokens,
    /// What the metadata store has.
    pub(crate) records: Rc<Records>,
    /// What has happened.
    pub(crate) events: Rc<Events>,
    /// Who this cluster and node are.
    pub(crate) site: Site,
    /// Where the interface listens.
    pub(crate) listeners: Listeners,
    /// Who has shown wrong tokens.
    pub(crate) failures: Failures,
    /// Other issuers of tokens.
    pub(crate) issuers: Issuers,
    /// Answers by status class.
    pub(crate) counters: Counters,
    /// Whether volumes that are being changed wait for their limits.
    settling: Cell<bool>,
    router: Router,
}

/// What is fixed once the server has started.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// What the data plane says of itself.
    pub(crate) identity: Identity,
    /// This machine's name.
    pub(crate) hostname: String,
    /// What this server fails together with.
    pub(crate) failure_domains: Vec<String>,
    /// `ADDRESS:PORT` of the REST interface.
    pub(crate) api_endpoints: Vec<String>,
    /// `ADDRESS:PORT` of the discovery service.
    pub(crate) discovery_endpoints: Vec<String>,
    /// `ADDRESS:PORT` of the I/O listeners.
    pub(crate) nvme_endpoints: Vec<String>,
    /// Where the log lies.
    pub(crate) logs: PathBuf,
    /// The note of drives that have joined the pool.
    pub(crate) added_drives: AddedDrives,
}

impl Site {
    /// The files of the log, the oldest first.
    fn log_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.logs).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        files
    }
}

impl Api {
    /// The interface over its parts.
    pub(crate) fn new(
        plane: Plane,
        view: Rc<View>,
        records: Rc<Records>,
        events: Rc<Events>,
        tokens: Tokens,
        site: Site,
    ) -> Rc<Self> {
        let directory = Directory::new(records.clone());
        Rc::new(Self {
            plane,
            view,
            directory,
            tokens,
            records,
            events,
            site,
            listeners: Listeners::default(),
            failures: Failures::default(),
            issuers: Issuers::default(),
            counters: Counters::default(),
            settling: Cell::new(false),
            router: Router::new(routes::table()),
        })
    }
}

/// Answers given, by status.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    by_status: std::cell::RefCell<BTreeMap<u16, u64>>,
    total: Cell<u64>,
}

impl Counters {
    fn count(&self, status: StatusCode) {
        self.total.set(self.total.get() + 1);
        *self.by_status.borrow_mut().entry(status.as_u16()).or_default() += 1;
    }
}

/// A successful answer, or the page of an error.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Body,
    /// A cookie for a browser to keep.
    cookie: Option<String>,
}

impl Reply {
    /// A JSON object.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { status: StatusCode::OK, content_type: JSON, body: json_bytes(value)?.into(), cookie: None })
    }

    /// A JSON object with all that `message` has.
    pub(crate) fn message(message: &Message, value: &impl Serialize) -> Result<Self, ApiError> {
        let mut value = serde_json::to_value(value).map_err(|error| {
            tracing::error!(%error, "an answer cannot be written as JSON");
            ApiError::internal("the answer cannot be written")
        })?;
        schema::fill(message, &mut value);
        debug_assert_eq!(schema::check(message, &value), Ok(()), "{value}");
        Self::json(&value)
    }

    /// A JSON object that has by its type all that `message` has: written once, and held against it where tests run.
    pub(crate) fn exact(message: &Message, value: &impl Serialize) -> Result<Self, ApiError> {
        debug_assert_eq!(
            serde_json::to_value(value)
                .map_err(|error| error.to_string())
                .and_then(|value| schema::check(message, &value)),
            Ok(()),
            "{}",
            message.name
        );
        Self::json(value)
    }

    /// Bytes that come as they are made.
    pub(crate) fn stream(content_type: &'static str, body: Body) -> Self {
        Self { status: StatusCode::OK, content_type, body, cookie: None }
    }

    /// `{}`: done.
    pub(crate) fn done() -> Self {
        Self {
            status: StatusCode::OK,
            content_type: JSON,
            body: Bytes::from_static(b"{}").into(),
            cookie: None,
        }
    }

    /// A text of some other type.
    pub(crate) fn text(content_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, content_type, body: Bytes::from(body).into(), cookie: None }
    }

    /// A line of plain text, as the contract has it for what no route answers.
    pub(crate) fn plain(status: StatusCode, body: &'static str) -> Self {
        Self { status, content_type: PLAIN, body: Bytes::from_static(body.as_bytes()).into(), cookie: None }
    }

    fn error(error: &ApiError) -> Self {
        let body = json_bytes(&error.body()).unwrap_or_default();
        Self { status: error.status, content_type: JSON, body: body.into(), cookie: None }
    }

    fn status(&self) -> StatusCode {
        self.status
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Answers have tokens and what else is the caller's alone.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.content_type == JSON {
            headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
        }
        if let Some(cookie) = self.cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
            headers.insert(SET_COOKIE, cookie);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn json_bytes(value: &impl Serialize) -> Result<Bytes, ApiError> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        ApiError::internal("the answer cannot be written")
    })?;
    Ok(bytes.into())
}

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
