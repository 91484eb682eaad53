//! The pool's drives.

use std::rc::Rc;

use dataplane::{Action, Drive};
use serde::Serialize;

use super::error::ApiError;
use super::json::Text64;
use super::request::Request;
use super::schema::site;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};

/// `GET /api/v2/nvmeDevices`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::NvmeDevices, Verb::List, Scope::Cluster)?;
    let (node, server) = (request.text("nodeUUID"), request.text("serverUUID"));
    let admits = |given: &str, own: &str| given.is_empty() || given.eq_ignore_ascii_case(own);
    let admitted = admits(node, &api.site.node_uuid()) && admits(server, &api.site.server_uuid());
    let devices = if admitted { read(&api).await? } else { Vec::new() };
    Reply::message(&site::LIST_NVME_DEVICES_RESPONSE, &Devices { devices })
}

/// `GET /api/v2/nvmeDevices/{Serial}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::NvmeDevices, Verb::Get, Scope::Cluster)?;
    Reply::message(&site::USER_NVME_DEVICES_RESPONSE, &find(&api, request.variable("Serial")).await?)
}

/// `POST /api/v2/nvmeDevices/{serialNumber}`: its LED.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::NvmeDevices, Verb::Update, Scope::Cluster)?;
    if !matches!(request.text("ledPattern"), "locate" | "rebuild" | "locate-off") {
        return Err(ApiError::invalid("ledPattern: locate, rebuild or locate-off"));
    }
    let device = find(&api, request.variable("serialNumber")).await?;
    if !request.text("serverUUID").eq_ignore_ascii_case(&device.server_uuid) {
        return Err(ApiError::not_found("serverUUID: the device is on another server"));
    }
    request.expected_revision(device.revision())?;
    let what = if device.model == FILE { "is a file and has no LED" } else { "has no LED that can be set" };
    Err(ApiError::unimplemented(format!("{} {what}", device.name)))
}

/// `POST /api/v2/nvmeDevices`: the drive joins the pool, and is used at once. What has no serial number is named by its
/// path.
pub(super) async fn add(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::NvmeDevices, Verb::Create, Scope::Cluster)?;
    let serial = request.text("serialNumber");
    if serial.is_empty() {
        return Err(ApiError::invalid("serialNumber: required"));
    }
    if !request.text("nodeUUID").eq_ignore_ascii_case(&api.site.node_uuid()) {
        return Err(ApiError::not_found("nodeUUID: no such node"));
    }
    let devices = read(&api).await?;
    if let Some(device) = devices.iter().find(|device| device.serial == serial || device.name == serial) {
        request.expected_revision(device.revision())?;
        return Err(ApiError::exists(format!("device {serial} belongs to the pool already")));
    }
    let path = path_of(serial).ok_or_else(|| {
        ApiError::not_found(format!(
            "device {serial} is not of this node; name what has no serial number by its path, such as /dev/sdb"
        ))
    })?;
    api.plane.ask(Action::AddDrive { path: path.clone() }).await?;
    tracing::info!(path, "a drive has joined the pool");
    let first = devices.first().map_or("", |device| device.name.as_str());
    api.site.added_drives.note(first, &path).map_err(|error| {
        ApiError::internal(format!(
            "the drive has joined the pool, but that cannot be noted ({error}): name {path} by --pool from now on"
        ))
    })?;
    Ok(Reply::done())
}

/// Where the block device with this serial number is, or the file or device at this path.
fn path_of(serial: &str) -> Option<String> {
    if serial.starts_with('/') {
        return std::path::Path::new(serial).exists().then(|| serial.to_owned());
    }
    let devices = std::fs::read_dir("/sys/class/block").ok()?.flatten();
    devices.filter_map(|device| Some(format!("/dev/{}", device.file_name().to_str()?))).find(|path| {
        let own = device_attribute(path, "serial");
        own.as_deref() == Some(serial)
    })
}

async fn read(api: &Api) -> Result<Vec<Device>, ApiError> {
    let identity = api.plane.identity().await?;
    Ok(identity.drives.iter().map(|drive| Device::of(drive, api)).collect())
}

async fn find(api: &Api, serial: &str) -> Result<Device, ApiError> {
    let mut devices = read(api).await?.into_iter();
    let found = devices.find(|device| device.serial == serial);
    found.ok_or_else(|| ApiError::not_found(format!("device {serial} does not exist")))
}

/// A drive's serial number: its own, or for a file one that follows from its path.
pub(crate) fn serial_of(path: &str) -> String {
    device_attribute(path, "serial").unwrap_or_else(|| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_bytes());
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

/// An attribute of the block device at `path`, as the kernel has it.
fn device_attribute(path: &str, name: &str) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let device = path.strip_prefix("/dev").ok()?.to_str()?;
    // The kernel keeps it with the controller, or, of virtual drives, with the disk.
    let folders = [format!("/sys/class/block/{device}/device"), format!("/sys/class/block/{device}")];
    let texts = folders.iter().filter_map(|folder| std::fs::read_to_string(format!("{folder}/{name}")).ok());
    texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
}

#[derive(Debug, Serialize)]
struct Devices {
    #[serde(rename = "NvmeDevices")]
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    size: Text64,
    model: String,
    serial: String,
    #[serde(rename = "serverUUID")]
    server_uuid: String,
    state: &'static str,
    name: String,
    #[serde(rename = "nodeUUID")]
    node_uuid: String,
    #[serde(rename = "ETag")]
    etag: String,
    statistics: DeviceStatistics,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceStatistics {
    unrecoverable_data_integrity_errors: u32,
    recoverable_data_integrity_errors: u32,
}

/// A drive's revision: what can change by itself is in it.
fn revision_of(healthy: bool, errors: u32) -> u64 {
    u64::from(errors) * 2 + u64::from(!healthy) + 1
}

impl Device {
    fn revision(&self) -> u64 {
        revision_of(self.state == HEALTHY, self.statistics.unrecoverable_data_integrity_errors)
    }

    fn of(drive: &Drive, api: &Api) -> Self {
        let errors = u32::try_from(drive.integrity_errors).unwrap_or(u32::MAX);
        Self {
            size: Text64(drive.size_bytes),
            model: device_attribute(&drive.path, "model").unwrap_or_else(|| FILE.to_owned()),
            serial: serial_of(&drive.path),
            server_uuid: api.site.server_uuid(),
            state: if drive.healthy { HEALTHY } else { "Failed" },
            name: drive.path.clone(),
            node_uuid: api.site.node_uuid(),
            etag: revision_of(drive.healthy, errors).to_string(),
            statistics: DeviceStatistics {
                unrecoverable_data_integrity_errors: errors,
                recoverable_data_integrity_errors: 0,
            },
        }
    }
}

impl super::Site {
    /// The node's identity.
    pub(crate) fn node_uuid(&self) -> String {
        rules::uuid_text(self.identity.node_uuid)
    }
}

const FILE: &str = "file";
const HEALTHY: &str = "Healthy";
