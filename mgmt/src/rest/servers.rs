//! Servers: this cluster has one, which is what decides what can be done with it.

use std::rc::Rc;

use serde::Serialize;

use super::error::ApiError;
use super::request::Request;
use super::schema::{self, site};
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};

/// `GET /api/v2/servers`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::List, Scope::Cluster)?;
    let server = Server::of(&api).await?;
    let (uuid, name) = (request.text("UUID"), request.text("Name"));
    let risk = request.text("RiskOfServiceLoss");
    let admitted = (uuid.is_empty() || uuid.eq_ignore_ascii_case(&server.uuid))
        && (name.is_empty() || name == server.name)
        && (matches!(risk, "" | "UnknownRiskOfServiceLoss") || risk == server.risk);
    Reply::message(
        &site::LIST_SERVERS_RESPONSE,
        &Servers { servers: admitted.then_some(server).into_iter().collect() },
    )
}

/// `GET /api/v2/servers/{UUID}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::Get, Scope::Cluster)?;
    check(&api, &request)?;
    Reply::message(&site::SERVER, &Server::of(&api).await?)
}

/// `POST /api/v2/servers`: a cluster of one node takes no other.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::Create, Scope::Cluster)?;
    let endpoints: Vec<&str> = match request.fields.get("serverEndpoints") {
        Some(serde_json::Value::Array(values)) => {
            values.iter().filter_map(serde_json::Value::as_str).collect()
        }
        _ => Vec::new(),
    };
    let [endpoint] = endpoints.as_slice() else {
        return Err(ApiError::invalid("serverEndpoints: exactly one, such as http://10.0.0.1:2380"));
    };
    let address = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    if address.is_none_or(|address| address.parse::<std::net::SocketAddr>().is_err()) {
        return Err(ApiError::invalid("serverEndpoints: expected http://<address>:<port>"));
    }
    if request.text("serverUUID").eq_ignore_ascii_case(&api.site.server_uuid()) {
        return Err(ApiError::exists("the server belongs to the cluster already"));
    }
    Err(ApiError::unimplemented("this cluster is made of one server; no other can join it yet"))
}

/// `DELETE /api/v2/servers/{UUID}`: never the last one.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::Delete, Scope::Cluster)?;
    check(&api, &request)?;
    check_etag(&request)?;
    Err(ApiError::precondition("the only server of the cluster cannot be deleted"))
}

/// `POST /api/v2/servers/{UUID}/enable`: it is.
pub(super) async fn enable(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::Update, Scope::Cluster)?;
    check(&api, &request)?;
    check_etag(&request)?;
    Reply::message(&site::SERVER, &Server::of(&api).await?)
}

/// `POST /api/v2/servers/{UUID}/disable`: never the last one.
pub(super) async fn disable(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Servers, Verb::Update, Scope::Cluster)?;
    check(&api, &request)?;
    let timeout_s = schema::duration_s(request.text("permanentFailureTimeout")).unwrap_or_default();
    if timeout_s != 0 && timeout_s < HOUR_S {
        return Err(ApiError::invalid("permanentFailureTimeout: 0, or at least an hour"));
    }
    Err(ApiError::precondition(
        "disabling the only server would end the service; stop the process to take it down",
    ))
}

/// `POST /api/v2/servers/{UUID}/upgrade`.
pub(super) async fn upgrade(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Upgrades, Verb::Update, Scope::Cluster)?;
    check(&api, &request)?;
    check_etag(&request)?;
    Err(refuse_upgrade(&request))
}

/// `POST /api/v2/cluster/upgrade`.
pub(super) async fn upgrade_cluster(
    api: Rc<Api>,
    caller: Caller,
    request: Request,
) -> Result<Reply, ApiError> {
    caller.permit(Resource::Upgrades, Verb::Update, Scope::Cluster)?;
    let own = api.site.server_uuid();
    if let Some(serde_json::Value::Array(uuids)) = request.fields.get("UUIDs") {
        let mut uuids = uuids.iter().filter_map(serde_json::Value::as_str);
        if let Some(other) = uuids.find(|uuid| !uuid.eq_ignore_ascii_case(&own)) {
            return Err(ApiError::not_found(format!("UUIDs: server {other} does not exist")));
        }
    }
    Err(refuse_upgrade(&request))
}

/// `POST /api/v2/nodes/{SrcNodeUUID}/replace`: needs an inactive node and an unattached one.
pub(super) async fn replace_node(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Nodes, Verb::Update, Scope::Cluster)?;
    let (source, target) = (request.variable("SrcNodeUUID"), request.text("TargetNodeUUID"));
    if target.is_empty() {
        return Err(ApiError::invalid("TargetNodeUUID: required"));
    }
    let own = api.site.node_uuid();
    for uuid in [source, target] {
        if !uuid.eq_ignore_ascii_case(&own) {
            return Err(ApiError::not_found(format!("node {uuid} does not exist")));
        }
    }
    request.expected_revision(NODE_REVISION)?;
    Err(ApiError::precondition("a node cannot replace itself"))
}

fn refuse_upgrade(request: &Request) -> ApiError {
    if request.text("InstallPkgUri").is_empty() {
        return ApiError::invalid("InstallPkgUri: required");
    }
    ApiError::unimplemented(
        "this server does not install packages: replace the program and start it again; hosts wait meanwhile",
    )
}

fn check(api: &Api, request: &Request) -> Result<(), ApiError> {
    let (uuid, name) = (request.variable("UUID"), request.text("name"));
    let own = match uuid {
        "" if name.is_empty() => return Err(ApiError::not_found("UUID or name: one of them is required")),
        "" => name == api.site.hostname,
        uuid => uuid.eq_ignore_ascii_case(&api.site.server_uuid()),
    };
    let which = if uuid.is_empty() { name } else { uuid };
    own.then_some(()).ok_or_else(|| ApiError::not_found(format!("server {which} does not exist")))
}

fn check_etag(request: &Request) -> Result<(), ApiError> {
    request.expected_revision(SERVER_REVISION).map(drop)
}

#[derive(Debug, Serialize)]
struct Servers {
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    #[serde(rename = "UUID")]
    uuid: String,
    name: String,
    #[serde(rename = "RiskOfServiceLossState")]
    risk: &'static str,
    #[serde(rename = "NodesUUIDs")]
    nodes: Vec<String>,
    state: &'static str,
    #[serde(rename = "ServerEndpoints")]
    endpoints: Vec<String>,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "LightOSVersion")]
    version: &'static str,
    #[serde(rename = "UpgradeStatus")]
    upgrade_status: &'static str,
    #[serde(rename = "ApiEndpoints")]
    api_endpoints: Vec<String>,
    health: &'static str,
}

impl Server {
    async fn of(api: &Api) -> Result<Self, ApiError> {
        let drives = api.plane.identity().await?.drives;
        Ok(Self {
            uuid: api.site.server_uuid(),
            name: api.site.hostname.clone(),
            // There is no second server to take over.
            risk: "SourceOfRiskOfServiceLoss",
            nodes: vec![api.site.node_uuid()],
            state: "Enabled",
            endpoints: api.site.nvme_endpoints.clone(),
            etag: SERVER_REVISION.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            upgrade_status: "None",
            api_endpoints: api.site.api_endpoints.clone(),
            health: if drives.iter().all(|drive| drive.healthy) { "OK" } else { "Error" },
        })
    }
}

/// Nothing of the server can be changed, so it has one revision.
const SERVER_REVISION: u64 = 1;
/// Nor of its node.
pub(super) const NODE_REVISION: u64 = 1;
const HOUR_S: u64 = 3600;
