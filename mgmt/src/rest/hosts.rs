//! Hosts that are connected now.

use std::rc::Rc;

use dataplane::{Action, ConnectedHost, Outcome};
use serde::Serialize;

use super::error::ApiError;
use super::request::Request;
use super::schema::site;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::plane::unreachable_outcome;

/// `GET /api/v2/connectedHosts`: the filter by host is part of the contract but has no effect there.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Hosts, Verb::List, Scope::Cluster)?;
    let volume = match request.query.text("volumeUUID") {
        "" => None,
        text => {
            let uuid = rules::volume_uuid(text)?;
            if api.view.find(uuid).is_none() {
                return Err(ApiError::not_found(format!("volume {text} does not exist")));
            }
            Some(uuid)
        }
    };
    let hosts = read_hosts(&api).await?;
    let wanted = hosts.iter().filter(|host| volume.is_none_or(|uuid| host.volumes.contains(&uuid)));
    Reply::exact(
        &site::LIST_HOSTS_RESPONSE,
        &HostList { connected_hosts: wanted.map(HostBody::of).collect() },
    )
}

/// `GET /api/v2/connectedHosts/{hostNQN}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Hosts, Verb::Get, Scope::Cluster)?;
    let wanted = request.variable("hostNQN");
    let hosts = read_hosts(&api).await?;
    let host = hosts.iter().find(|host| host.host_nqn == wanted);
    let host = host.ok_or_else(|| ApiError::not_found(format!("host {wanted} is not connected")))?;
    Reply::exact(&site::CONNECTED_HOST, &HostBody::of(host))
}

async fn read_hosts(api: &Api) -> Result<Vec<ConnectedHost>, ApiError> {
    match api.plane.ask(Action::ListHosts).await? {
        Outcome::Hosts(hosts) => Ok(hosts),
        other => unreachable_outcome(&other),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostList {
    connected_hosts: Vec<HostBody>,
}

#[derive(Debug, Serialize)]
struct HostBody {
    #[serde(rename = "hostNQN")]
    host_nqn: String,
    /// One string, though a host may have several addresses.
    #[serde(rename = "iPAddress")]
    ip_address: String,
    hostname: String,
    #[serde(rename = "volumeUUIDs")]
    volume_uuids: Vec<String>,
}

impl HostBody {
    fn of(host: &ConnectedHost) -> Self {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        Self {
            host_nqn: host.host_nqn.clone(),
            ip_address: addresses.join(","),
            hostname: String::new(),
            volume_uuids: host.volumes.iter().map(|uuid| rules::uuid_text(uuid.0)).collect(),
        }
    }
}
