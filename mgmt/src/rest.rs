//! The REST interface: a route table, typed requests and answers, one error type.

mod access;
mod cluster;
mod contract;
mod deadline;
mod error;
mod hosts;
mod json;
mod metrics;
mod request;
mod roles;
mod router;
mod routes;
mod rules;
mod server;
#[cfg(test)]
pub(crate) mod test;
mod users;
mod vault;
mod volumes;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use dataplane::Identity;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::auth::Tokens;
use crate::directory::Directory;
use crate::plane::Plane;
use crate::view::View;
use error::ApiError;
use router::Router;

pub(crate) use server::Server;

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
    /// Who this cluster and node are.
    pub(crate) site: Site,
    /// Answers by status class.
    pub(crate) counters: Counters,
    router: Router,
}

/// What is fixed once the server has started.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// What the data plane says of itself.
    pub(crate) identity: Identity,
    /// This machine's name.
    pub(crate) hostname: String,
    /// `ADDRESS:PORT` of the REST interface.
    pub(crate) api_endpoints: Vec<String>,
    /// `ADDRESS:PORT` of the discovery service.
    pub(crate) discovery_endpoints: Vec<String>,
    /// `ADDRESS:PORT` of the I/O listeners.
    pub(crate) nvme_endpoints: Vec<String>,
}

impl Api {
    /// The interface over its parts.
    pub(crate) fn new(
        plane: Plane,
        view: Rc<View>,
        directory: Directory,
        tokens: Tokens,
        site: Site,
    ) -> Rc<Self> {
        let router = Router::new(routes::table());
        Rc::new(Self { plane, view, directory, tokens, site, counters: Counters::default(), router })
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
    body: Bytes,
    /// A cookie for a browser to keep.
    cookie: Option<String>,
}

impl Reply {
    /// A JSON object.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { status: StatusCode::OK, content_type: JSON, body: json_bytes(value)?, cookie: None })
    }

    /// `{}`: done.
    pub(crate) fn done() -> Self {
        Self { status: StatusCode::OK, content_type: JSON, body: Bytes::from_static(b"{}"), cookie: None }
    }

    /// A text of some other type.
    pub(crate) fn text(content_type: &'static str, body: String) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into(), cookie: None }
    }

    /// A line of plain text, as the contract has it for what no route answers.
    pub(crate) fn plain(status: StatusCode, body: &'static str) -> Self {
        Self { status, content_type: PLAIN, body: Bytes::from_static(body.as_bytes()), cookie: None }
    }

    fn error(error: &ApiError) -> Self {
        let body = json_bytes(&error.body()).unwrap_or_default();
        Self { status: error.status, content_type: JSON, body, cookie: None }
    }

    fn status(&self) -> StatusCode {
        self.status
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
