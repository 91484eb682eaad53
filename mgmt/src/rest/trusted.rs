//! Trusted hosts and their secrets, kept for the authentication of hosts on their NVMe connections.

use std::rc::Rc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use super::json::Label;
use super::request::Request;
use super::schema::tenants;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Found, Kept, Kind};

/// A trusted host as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrustedHost {
    #[serde(flatten)]
    host: Host,
    #[serde(default)]
    host_secret: String,
    #[serde(default)]
    target_secret: String,
    #[serde(default)]
    target_secret_type: String,
}

/// What clients read of a trusted host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    name: String,
    project_name: String,
    #[serde(rename = "UUID")]
    uuid: String,
    host_nqn: String,
    labels: Vec<Label>,
    auth_required: String,
}

impl Kept for TrustedHost {
    const KIND: Kind = Kind::TrustedHost;

    fn key(&self) -> String {
        key(&self.host.project_name, &self.host.name)
    }
}

/// `POST /api/v2/cluster/inBandAuth/enable`.
pub(super) async fn enable(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::InBandAuths, Verb::Update, Scope::Cluster)?;
    check_subsystem(&api, &request)?;
    Err(ApiError::unimplemented(
        "this server's data plane does not authenticate hosts yet; access lists decide who sees a volume",
    ))
}

/// `POST /api/v2/cluster/inBandAuth/disable`: it is.
pub(super) async fn disable(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::InBandAuths, Verb::Update, Scope::Cluster)?;
    check_subsystem(&api, &request)?;
    Ok(Reply::done())
}

/// `POST /api/v2/projects/{projectName}/trustedHosts`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHosts, Verb::Create)?;
    let body: HostRequest = request.json()?;
    let labels = body.labels.unwrap_or_default();
    rules::labels(&labels)?;
    let host = Host {
        name: rules::name("name", &body.name)?,
        project_name: project.to_owned(),
        uuid: Uuid::new_v4().to_string(),
        host_nqn: rules::host_nqn("hostNqn", &body.host_nqn)?,
        labels,
        auth_required: truth(&body.auth_required)?.to_owned(),
    };
    let one = api.records.exclusive().await;
    // The project may have been deleted meanwhile; nobody deletes it under this right.
    let project = permit(&api, &caller, &request, Resource::TrustedHosts, Verb::Create)?;
    if api.records.revision(Kind::TrustedHost, &key(project, &host.name)).is_some() {
        return Err(ApiError::exists(format!("trusted host {} exists", host.name)));
    }
    check_nqn(&api, &host)?;
    rules::room(api.records.count(Kind::TrustedHost), HOSTS_MAX, "trusted hosts")?;
    let record = TrustedHost {
        host,
        host_secret: String::new(),
        target_secret: String::new(),
        target_secret_type: DISABLED.to_owned(),
    };
    one.create(&record).await?;
    Reply::message(&tenants::TRUSTED_HOST, &record.host)
}

/// `GET /api/v2/projects/{projectName}/trustedHosts`, and `GET /api/v2/hosts` over projects.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = request.text("projectName");
    let scope = if project.is_empty() { Scope::Cluster } else { Scope::Project(project) };
    caller.permit(Resource::TrustedHosts, Verb::List, scope)?;
    if !project.is_empty() && !api.directory.has_scope(project) {
        return Err(ApiError::not_found(format!("project {project} does not exist")));
    }
    let prefix = if project.is_empty() { String::new() } else { key(project, "") };
    let hosts = api.records.list::<TrustedHost>(&prefix);
    let hosts = hosts.into_iter().map(|found| found.value.host).collect();
    Reply::message(&tenants::LIST_TRUSTED_HOSTS_RESPONSE, &HostList { hosts })
}

/// `GET /api/v2/projects/{projectName}/trustedHosts/{name}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHosts, Verb::Get)?;
    Reply::message(&tenants::TRUSTED_HOST, &find(&api, project, &request)?.value.host)
}

/// `PUT /api/v2/projects/{projectName}/trustedHosts/{name}`: what is absent stays.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHosts, Verb::Update)?;
    let body: HostRequest = request.json()?;
    let one = api.records.exclusive().await;
    let found = find(&api, project, &request)?;
    request.expected_revision(found.revision)?;
    let mut record = found.value;
    if !body.host_nqn.is_empty() {
        record.host.host_nqn = rules::host_nqn("hostNqn", &body.host_nqn)?;
        check_nqn(&api, &record.host)?;
    }
    if let Some(labels) = body.labels {
        rules::labels(&labels)?;
        record.host.labels = labels;
    }
    if !body.auth_required.is_empty() {
        truth(&body.auth_required)?.clone_into(&mut record.host.auth_required);
    }
    one.replace(&record, found.revision).await?;
    Reply::message(&tenants::TRUSTED_HOST, &record.host)
}

/// `DELETE /api/v2/projects/{projectName}/trustedHosts/{name}`.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHosts, Verb::Delete)?;
    let found = find(&api, project, &request)?;
    request.expected_revision(found.revision)?;
    api.records.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

/// `PUT /api/v2/projects/{projectName}/trustedHostSecrets/{name}`.
pub(super) async fn set_secret(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHostSecrets, Verb::Update)?;
    let body: SecretRequest = request.json()?;
    let found = find(&api, project, &request)?;
    request.expected_revision(found.revision)?;
    let mut record = found.value;
    record.host_secret = secret("hostSecret", &body.host_secret)?;
    record.target_secret = match body.target_secret_type.as_str() {
        AUTOMATIC => fresh_secret()?,
        ENABLED => secret("targetSecret", &body.target_secret)?,
        _ if body.target_secret.is_empty() => String::new(),
        // A secret alone says that it shall be used.
        _ => secret("targetSecret", &body.target_secret)?,
    };
    record.target_secret_type = match body.target_secret_type.as_str() {
        AUTOMATIC => AUTOMATIC,
        _ if record.target_secret.is_empty() => DISABLED,
        _ => ENABLED,
    }
    .to_owned();
    api.records.replace(&record, found.revision).await?;
    Ok(Reply::done())
}

/// `GET /api/v2/projects/{projectName}/trustedHostSecrets/{name}`.
pub(super) async fn get_secret(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    let project = permit(&api, &caller, &request, Resource::TrustedHostSecrets, Verb::Get)?;
    let record = find(&api, project, &request)?.value;
    let secrets = Secrets {
        host: record.host,
        host_secret: record.host_secret,
        target_secret: record.target_secret,
        target_secret_type: record.target_secret_type,
    };
    Reply::message(&tenants::GET_TRUSTED_HOST_SECRETS_RESPONSE, &secrets)
}

fn permit<'a>(
    api: &Api,
    caller: &Caller,
    request: &'a Request,
    resource: Resource,
    verb: Verb,
) -> Result<&'a str, ApiError> {
    let project = request.variable("projectName");
    caller.permit(resource, verb, Scope::Project(project))?;
    if api.directory.project(project).is_some() {
        return Ok(project);
    }
    let message = format!("project {project} does not exist");
    Err(if verb == Verb::Create { ApiError::invalid(message) } else { ApiError::not_found(message) })
}

fn find(api: &Api, project: &str, request: &Request) -> Result<Found<TrustedHost>, ApiError> {
    let name = request.variable("name");
    let found = api.records.get(&key(project, name));
    found.ok_or_else(|| ApiError::not_found(format!("trusted host {name} does not exist")))
}

fn check_subsystem(api: &Api, request: &Request) -> Result<(), ApiError> {
    let name = request.text("subsystemNqnName");
    if matches!(name, "" | "DefaultSubSystem") || name == api.site.identity.subsystem_nqn {
        return Ok(());
    }
    Err(ApiError::invalid("subsystemNqnName: DefaultSubSystem is the only one"))
}

fn check_nqn(api: &Api, host: &Host) -> Result<(), ApiError> {
    let hosts = api.records.list::<TrustedHost>("");
    let same = |found: &Found<TrustedHost>| {
        found.value.host.host_nqn == host.host_nqn && found.value.host.uuid != host.uuid
    };
    if hosts.iter().any(same) {
        return Err(ApiError::invalid("hostNqn: another trusted host has this NQN"));
    }
    Ok(())
}

fn truth(text: &str) -> Result<&'static str, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "false" => Ok("false"),
        "true" => Ok("true"),
        _ => Err(ApiError::invalid("authRequired: true or false")),
    }
}

/// A secret in the form of NVM Express, Base Specification 2.0, section 8.13.5.8: `DHHC-1:<hash>:<base64>:`, where the
/// base64 is of 32, 48 or 64 bytes and their CRC-32.
fn secret(field: &str, text: &str) -> Result<String, ApiError> {
    let wrong =
        || ApiError::invalid(format!("{field}: expected DHHC-1:<00 to 03>:<base64 of key and CRC-32>:"));
    let inner = text.strip_prefix("DHHC-1:").and_then(|rest| rest.strip_suffix(':')).ok_or_else(wrong)?;
    let (hash, key) = inner.split_once(':').ok_or_else(wrong)?;
    let bytes = STANDARD.decode(key).map_err(|_| wrong())?;
    let lengths: &[usize] = match hash {
        "00" => &[32, 48, 64],
        "01" => &[32],
        "02" => &[48],
        "03" => &[64],
        _ => return Err(wrong()),
    };
    let (secret, sum) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or_else(wrong)?;
    if !lengths.contains(&secret.len()) || sum != crc32(secret).to_le_bytes() {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

fn fresh_secret() -> Result<String, ApiError> {
    let mut bytes = vec![0; 32];
    let failed = |_| ApiError::internal("no random numbers");
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    let sum = crc32(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(format!("DHHC-1:00:{}:", STANDARD.encode(bytes)))
}

/// CRC-32 of ISO 3309, as zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let sum = sum ^ u32::from(*byte);
        (0..8).fold(sum, |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

/// Names have no colon, so that no two hosts share a key.
fn key(project: &str, name: &str) -> String {
    format!("{project}:{name}")
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HostRequest {
    name: String,
    host_nqn: String,
    labels: Option<Vec<Label>>,
    auth_required: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecretRequest {
    host_secret: String,
    target_secret: String,
    target_secret_type: String,
}

#[derive(Debug, Serialize)]
struct HostList {
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secrets {
    host: Host,
    host_secret: String,
    target_secret: String,
    target_secret_type: String,
}

const DISABLED: &str = "Disabled";
const ENABLED: &str = "Enabled";
const AUTOMATIC: &str = "AutoGenSecret";
const HOSTS_MAX: usize = 4096;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn secrets_have_the_specifications_form() {
        // `nvme gen-dhchap-key -m 0` of 32 zero bytes.
        let mut bytes = vec![0; 32];
        bytes.extend_from_slice(&crc32(&[0; 32]).to_le_bytes());
        let text = STANDARD.encode(&bytes);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value of the CRC catalogues");
        assert!(secret("s", &format!("DHHC-1:00:{text}:")).is_ok());
        assert!(secret("s", &format!("DHHC-1:02:{text}:")).is_err(), "48 bytes are due");
        bytes[0] = 1;
        let torn = STANDARD.encode(&bytes);
        for wrong in
            ["", "DHHC-1:", "DHHC-1::", "x", &format!("DHHC-1:00:{torn}:"), &format!("DHHC-1:00:{text}")]
        {
            assert!(secret("s", wrong).is_err(), "{wrong}");
        }
        let fresh = fresh_secret().unwrap();
        assert!(secret("s", &fresh).is_ok());
        assert_ne!(fresh, fresh_secret().unwrap());
    }
}
