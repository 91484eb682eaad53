//! Version, cluster, nodes, health: what this server says of itself.

use std::rc::Rc;

use dataplane::{Action, Drive, Outcome, Statistics, VolumeState};
use serde::Serialize;

use super::error::ApiError;
use super::idp::{self, IdpConfiguration};
use super::json::{Text64, timestamp};
use super::request::Request;
use super::schema::site;
use super::servers::NODE_REVISION;
use super::volumes::compression_ratio;
use super::{Api, Parameters, Reply, Site, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::plane::unreachable_outcome;

/// `GET /api/v2/version`.
pub(super) async fn version(_: Rc<Api>, _: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    Reply::exact(&site::VERSION, &Version { api_version: "v2.0" })
}

/// `GET /healthz`: whether the management plane answers and the data plane answers it.
pub(super) async fn health(api: Rc<Api>, _: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    api.view.freshen().await?;
    Ok(Reply::text("text/plain; charset=utf-8", "ok\n".to_owned()))
}

/// `GET /api/v2/cluster`.
pub(super) async fn cluster(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Clusters, Verb::Get, Scope::Cluster)?;
    api.view.freshen().await?;
    let statistics = read_statistics(&api).await?;
    let totals = Totals::of(&api, &statistics);
    Reply::message(
        &site::CLUSTER_INFO,
        &ClusterInfo {
            common: Common::of(&api),
            statistics: ClusterStatistics {
                installed_physical_storage: totals.pool_size,
                totals: totals.clone(),
            },
            health: health_of(&api),
            min_version_in_cluster: VERSION,
            min_allowed_version: VERSION,
            max_allowed_version: VERSION,
            in_band_auth_mode: "Disabled",
            federated_authentication_status: FederatedAuthenticationStatus::of(&api),
        },
    )
}

/// `GET /api/v2/clusterinfo`.
pub(super) async fn cluster_info(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterInfos, Verb::Get, Scope::Cluster)?;
    Reply::message(
        &site::CLUSTER_INFO_V2,
        &ClusterInfoV2 { common: Common::of(&api), nvme_endpoints: api.site.nvme_endpoints.clone() },
    )
}

/// `GET /api/v2/nodes`.
pub(super) async fn nodes(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Nodes, Verb::List, Scope::Cluster)?;
    let filters = ["name", "UUID", "failureDomain"].map(|name| request.query.text(name));
    if filters.iter().filter(|text| !text.is_empty()).count() > 1 {
        return Err(ApiError::invalid("name, UUID, failureDomain: only one of them may be given"));
    }
    let node = node_of(&api).await?;
    let [name, uuid, domain] = filters;
    let admits = |given: &str, own: &str| given.is_empty() || given.eq_ignore_ascii_case(own);
    let admitted = (name.is_empty() || name == node.name)
        && admits(uuid, &node.uuid)
        && (domain.is_empty() || node.failure_domains.iter().any(|own| own == domain));
    Reply::message(
        &site::LIST_NODES_RESPONSE,
        &NodeList { nodes: admitted.then_some(node).into_iter().collect() },
    )
}

/// `GET /api/v2/nodes/{UUID}`.
pub(super) async fn node(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Nodes, Verb::Get, Scope::Cluster)?;
    let wanted = request.variable("UUID");
    if !wanted.eq_ignore_ascii_case(&rules::uuid_text(api.site.identity.node_uuid)) {
        return Err(ApiError::not_found(format!("node {wanted} does not exist")));
    }
    Reply::message(&site::DUROS_NODE_INFO, &node_of(&api).await?)
}

/// The data plane's counters.
pub(super) async fn read_statistics(api: &Api) -> Result<Statistics, ApiError> {
    match api.plane.ask(Action::ReadStatistics).await? {
        Outcome::Statistics(statistics) => Ok(*statistics),
        other => unreachable_outcome(&other),
    }
}

async fn node_of(api: &Api) -> Result<Node, ApiError> {
    api.view.freshen().await?;
    let statistics = read_statistics(api).await?;
    let identity = api.plane.identity().await?;
    let drives = identity.drives.len();
    let errors = identity.drives.iter().map(|drive| drive.integrity_errors).sum::<u64>();
    let totals = Totals::of(api, &statistics);
    let site = &api.site;
    Ok(Node {
        name: site.node_name(),
        uuid: rules::uuid_text(site.identity.node_uuid),
        state: "Active",
        status: if identity.drives.iter().all(|drive: &Drive| drive.healthy) {
            "ConnectivityOK"
        } else {
            "ConnectivityProblem"
        },
        nvme_endpoint: site.nvme_endpoints.first().cloned().unwrap_or_default(),
        failure_domains: site.failure_domains.clone(),
        failure_info: failure_of(&identity.drives),
        hostname: site.hostname.clone(),
        in_local_rebuild: false,
        local_rebuild_progress: 0,
        num_managed_devices: drives,
        max_nvme_devices: drives,
        ec: false,
        statistics: NodeStatistics {
            totals,
            unrecoverable_data_integrity_errors: u32::try_from(errors).unwrap_or(u32::MAX),
            recoverable_data_integrity_errors: 0,
            garbage_collector_data_integrity_errors: Text64(0),
            metadata_utilization: 0.0,
        },
        server_uuid: site.server_uuid(),
        etag: NODE_REVISION.to_string(),
        read_only: false,
        powerup_progress: 0,
        permanent_failure: false,
    })
}

fn failure_of(drives: &[Drive]) -> String {
    let failed = drives.iter().filter(|drive| !drive.healthy).map(|drive| drive.path.as_str());
    let failed: Vec<&str> = failed.collect();
    if failed.is_empty() { String::new() } else { format!("failed drives: {}", failed.join(", ")) }
}

fn health_of(api: &Api) -> ClusterHealth {
    let volumes = api.view.after(None);
    let count = |state| {
        let counted = volumes.iter().filter(|volume| volume.state == state).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    };
    let failed = count(VolumeState::Failed);
    ClusterHealth {
        state: if failed > 0 { "Error" } else { "OK" },
        num_degraded_volumes: 0,
        num_read_only_volumes: 0,
        num_not_available_volumes: failed,
        num_inactive_nodes: 0,
        num_healthy_volumes: count(VolumeState::Available),
    }
}

impl Site {
    /// The node's name: the server's, and its number on that server.
    pub(crate) fn node_name(&self) -> String {
        format!("{}-0", self.hostname)
    }

    /// The server's identity, which lasts as long as the node's: the same but for the last bit.
    pub(crate) fn server_uuid(&self) -> String {
        let mut bytes = self.identity.node_uuid;
        bytes[15] ^= 1;
        rules::uuid_text(bytes)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    api_version: &'static str,
}

/// What both forms of a cluster's body have.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "subsystemNQN")]
    subsystem_nqn: String,
    current_max_replicas: u32,
    supported_max_replicas: u32,
    #[serde(rename = "ETag")]
    etag: &'static str,
    api_endpoints: Vec<String>,
    discovery_endpoints: Vec<String>,
    cluster_name: String,
    encryption_status: EncryptionStatus,
}

impl Common {
    fn of(api: &Api) -> Self {
        let site = &api.site;
        Self {
            uuid: rules::uuid_text(site.identity.cluster_uuid),
            subsystem_nqn: site.identity.subsystem_nqn.clone(),
            current_max_replicas: 1,
            supported_max_replicas: 1,
            etag: "",
            api_endpoints: site.api_endpoints.clone(),
            discovery_endpoints: site.discovery_endpoints.clone(),
            cluster_name: Parameters(&api.records).cluster_name(),
            encryption_status: EncryptionStatus { encryption_state: "Disabled" },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionStatus {
    encryption_state: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterInfo {
    #[serde(flatten)]
    common: Common,
    statistics: ClusterStatistics,
    health: ClusterHealth,
    #[serde(rename = "MinVersionInCluster")]
    min_version_in_cluster: &'static str,
    #[serde(rename = "MinAllowedVersion")]
    min_allowed_version: &'static str,
    #[serde(rename = "MaxAllowedVersion")]
    max_allowed_version: &'static str,
    in_band_auth_mode: &'static str,
    federated_authentication_status: FederatedAuthenticationStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterInfoV2 {
    #[serde(flatten)]
    common: Common,
    nvme_endpoints: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FederatedAuthenticationStatus {
    federated_authentication_enabled: bool,
    idp_health_infos: Vec<IdpHealthInfo>,
}

impl FederatedAuthenticationStatus {
    /// Whether tokens of other issuers are taken, and if so, how each issuer was when this server asked it last.
    fn of(api: &Api) -> Self {
        let enabled = idp::is_enabled(&api.records);
        let idps = if enabled { api.records.list::<IdpConfiguration>("") } else { Vec::new() };
        let infos = idps.iter().map(|found| IdpHealthInfo::of(api, &found.value.issuer));
        Self { federated_authentication_enabled: enabled, idp_health_infos: infos.collect() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IdpHealthInfo {
    server_name: String,
    idp_health_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    health_error_message: String,
}

impl IdpHealthInfo {
    fn of(api: &Api, issuer: &str) -> Self {
        let health = api.issuers.health(issuer);
        let status = match &health {
            None => "IdpHealthStatus_Unknown",
            Some(health) if health.error.is_none() => "IdpHealthStatus_Healthy",
            Some(_) => "IdpHealthStatus_UnHealthy",
        };
        Self {
            server_name: api.site.hostname.clone(),
            idp_health_status: status,
            timestamp: health.as_ref().map(|health| timestamp(health.asked_ns)),
            health_error_message: health.and_then(|health| health.error).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterHealth {
    state: &'static str,
    num_degraded_volumes: u32,
    num_read_only_volumes: u32,
    num_not_available_volumes: u32,
    num_inactive_nodes: u32,
    num_healthy_volumes: u32,
}

/// Sizes that cluster and node have alike.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    #[serde(rename = "managedPhysicalStorage")]
    pool_size: Text64,
    effective_physical_storage: Text64,
    logical_storage: Text64,
    logical_used_storage: Text64,
    physical_used_storage: Text64,
    physical_used_storage_including_parity: Text64,
    free_physical_storage: Text64,
    estimated_free_logical_storage: Text64,
    estimated_logical_storage: Text64,
    compression_ratio: f64,
}

impl Totals {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "estimates; the cast saturates"
    )]
    fn of(api: &Api, statistics: &Statistics) -> Self {
        let volumes = api.view.after(None);
        let logical = volumes.iter().map(|volume| volume.spec.size_bytes).fold(0, u64::saturating_add);
        let used = volumes.iter().map(|volume| volume.usage.logical_used_bytes).fold(0, u64::saturating_add);
        let ratio = compression_ratio(statistics.pool_data_bytes, statistics.pool_stored_bytes);
        let estimate = |bytes: u64| Text64((bytes as f64 * ratio.max(1.0)) as u64);
        Self {
            pool_size: Text64(statistics.pool_size_bytes),
            effective_physical_storage: Text64(statistics.pool_size_bytes),
            logical_storage: Text64(logical),
            logical_used_storage: Text64(used),
            physical_used_storage: Text64(statistics.pool_live_bytes),
            physical_used_storage_including_parity: Text64(statistics.pool_live_bytes),
            free_physical_storage: Text64(statistics.pool_free_bytes),
            estimated_free_logical_storage: estimate(statistics.pool_free_bytes),
            estimated_logical_storage: estimate(statistics.pool_size_bytes),
            compression_ratio: ratio,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatistics {
    installed_physical_storage: Text64,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct NodeStatistics {
    #[serde(flatten)]
    totals: Totals,
    #[serde(rename = "UnrecoverableDataIntegrityErrors")]
    unrecoverable_data_integrity_errors: u32,
    #[serde(rename = "RecoverableDataIntegrityErrors")]
    recoverable_data_integrity_errors: u32,
    #[serde(rename = "GarbageCollectorDataIntegrityErrors")]
    garbage_collector_data_integrity_errors: Text64,
    #[serde(rename = "metadataUtilization")]
    metadata_utilization: f64,
}

#[derive(Debug, Serialize)]
struct NodeList {
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    #[serde(rename = "UUID")]
    uuid: String,
    state: &'static str,
    status: &'static str,
    nvme_endpoint: String,
    failure_domains: Vec<String>,
    failure_info: String,
    hostname: String,
    in_local_rebuild: bool,
    local_rebuild_progress: u32,
    num_managed_devices: usize,
    max_nvme_devices: usize,
    ec: bool,
    statistics: NodeStatistics,
    #[serde(rename = "serverUUID")]
    server_uuid: String,
    #[serde(rename = "ETag")]
    etag: String,
    read_only: bool,
    powerup_progress: u32,
    permanent_failure: bool,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
