//! Further addresses of the REST interface, which open when they are made and close when they are deleted.

use std::net::IpAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::error::{ApiError, Code};
use super::request::Request;
use super::schema::site;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Found, Kept, Kind};

/// A port and the addresses on which it is open.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct AdminEndpoint {
    port: u16,
    ips: Vec<String>,
}

impl Kept for AdminEndpoint {
    const KIND: Kind = Kind::AdminEndpoint;

    fn key(&self) -> String {
        self.port.to_string()
    }
}

impl Api {
    /// Opens the further addresses that are recorded, and closes those that are no more.
    pub(crate) fn settle_endpoints(self: &Rc<Self>) {
        let recorded = self.records.list::<AdminEndpoint>("");
        for port in self.listeners.ports() {
            if !recorded.iter().any(|found| found.value.port == port) {
                self.listeners.close(port);
            }
        }
        for AdminEndpoint { port, ips } in recorded.into_iter().map(|found| found.value) {
            let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            if let Err(error) = self.listeners.listen(self, port, &ips) {
                tracing::warn!(port, %error, "an admin endpoint cannot be opened");
            }
        }
    }
}

/// `POST /api/v2/adminEndpoints`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AdminEndpoints, Verb::Create, Scope::Cluster)?;
    let (endpoint, ips) = read(&request)?;
    let one = api.records.exclusive().await;
    if find(&api, endpoint.port).is_some() {
        return Err(ApiError::exists(format!("admin endpoint {} exists", endpoint.port)));
    }
    rules::room(api.records.count(Kind::AdminEndpoint), ENDPOINTS_MAX, "admin endpoints")?;
    listen(&api, endpoint.port, &ips)?;
    let made = one.create(&endpoint).await;
    let revision = made.inspect_err(|_| api.listeners.close(endpoint.port))?;
    answer(&endpoint, revision)
}

/// `GET /api/v2/adminEndpoints`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AdminEndpoints, Verb::List, Scope::Cluster)?;
    let port = request.fields.get("port").and_then(serde_json::Value::as_u64).filter(|port| *port != 0);
    let mut found = api.records.list::<AdminEndpoint>("");
    found.retain(|found| port.is_none_or(|port| port == u64::from(found.value.port)));
    found.sort_by_key(|found| found.value.port);
    let admin_endpoints = found.iter().map(|found| Body::of(&found.value, found.revision)).collect();
    Reply::message(&site::LIST_ADMIN_ENDPOINTS_RESPONSE, &List { admin_endpoints })
}

/// `GET /api/v2/adminEndpoints/{port}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AdminEndpoints, Verb::Get, Scope::Cluster)?;
    let found = wanted(&api, &request)?;
    answer(&found.value, found.revision)
}

/// `PUT /api/v2/adminEndpoints/{port}`: other addresses for the port.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AdminEndpoints, Verb::Update, Scope::Cluster)?;
    let one = api.records.exclusive().await;
    let found = wanted(&api, &request)?;
    request.expected_revision(found.revision)?;
    let (endpoint, ips) = read(&request)?;
    listen(&api, endpoint.port, &ips)?;
    match one.replace(&endpoint, found.revision).await {
        Ok(revision) => answer(&endpoint, revision),
        Err(error) => {
            api.settle_endpoints();
            Err(error.into())
        }
    }
}

/// `DELETE /api/v2/adminEndpoints/{port}`.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AdminEndpoints, Verb::Delete, Scope::Cluster)?;
    let one = api.records.exclusive().await;
    let found = wanted(&api, &request)?;
    request.expected_revision(found.revision)?;
    one.remove(&found.value, found.revision).await?;
    api.listeners.close(found.value.port);
    Ok(Reply::done())
}

fn read(request: &Request) -> Result<(AdminEndpoint, Vec<IpAddr>), ApiError> {
    let body: EndpointRequest = request.json()?;
    let port = u16::try_from(body.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| ApiError::invalid("port: 1 to 65535"))?;
    if !(1..=ADDRESSES_MAX).contains(&body.ips.len()) {
        return Err(ApiError::invalid(format!("ips: 1 to {ADDRESSES_MAX} addresses of this server")));
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for text in &body.ips {
        let ip = text.parse().map_err(|_| ApiError::invalid(format!("ips: {text:?} is no IP address")))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok((AdminEndpoint { port, ips: ips.iter().map(ToString::to_string).collect() }, ips))
}

fn listen(api: &Rc<Api>, port: u16, ips: &[IpAddr]) -> Result<(), ApiError> {
    api.listeners.listen(api, port, ips).map_err(|error| {
        let message = format!("the server cannot listen there: {error}");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                ApiError::new(hyper::StatusCode::CONFLICT, Code::AlreadyExists, message)
            }
            _ => ApiError::invalid(message),
        }
    })
}

fn find(api: &Api, port: u16) -> Option<Found<AdminEndpoint>> {
    api.records.get(&port.to_string())
}

fn wanted(api: &Api, request: &Request) -> Result<Found<AdminEndpoint>, ApiError> {
    let port = request.variable("port");
    let found = port.parse().ok().and_then(|port| find(api, port));
    found.ok_or_else(|| ApiError::not_found(format!("admin endpoint {port} does not exist")))
}

fn answer(endpoint: &AdminEndpoint, revision: u64) -> Result<Reply, ApiError> {
    Reply::message(&site::ADMIN_ENDPOINT, &Body::of(endpoint, revision))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EndpointRequest {
    port: u32,
    ips: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    admin_endpoints: Vec<Body>,
}

#[derive(Debug, Serialize)]
struct Body {
    #[serde(flatten)]
    endpoint: AdminEndpoint,
    #[serde(rename = "ETag")]
    etag: String,
}

impl Body {
    fn of(endpoint: &AdminEndpoint, revision: u64) -> Self {
        Self { endpoint: endpoint.clone(), etag: revision.to_string() }
    }
}

const ADDRESSES_MAX: usize = 16;
const ENDPOINTS_MAX: usize = 16;
