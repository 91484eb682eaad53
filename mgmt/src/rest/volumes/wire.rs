//! Volumes as the contract's JSON has them.

use dataplane::{SectorSize, Volume, VolumeState};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Api;
use super::super::error::ApiError;
use super::super::json::{Label, StringList, Text64, named, or_default, timestamp, uint32};
use super::super::placement::Restriction;
use super::super::policies::Policy;
use super::super::rules;

/// The body of a request that makes a volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CreateVolume {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) size: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) acl: StringList,
    #[serde(rename = "IPAcl")]
    pub(super) ip_acl: Option<StringList>,
    #[serde(deserialize_with = "or_default")]
    pub(super) compression: String,
    #[serde(deserialize_with = "uint32")]
    pub(super) replica_count: u32,
    #[serde(deserialize_with = "sector_size")]
    pub(super) sector_size: Option<SectorSize>,
    #[serde(deserialize_with = "or_default")]
    pub(super) project_name: String,
    #[serde(rename = "sourceSnapshotUUID", deserialize_with = "or_default")]
    pub(super) source_snapshot_uuid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) source_snapshot_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) placement_restrictions: Vec<Restriction>,
    #[serde(rename = "qosPolicyUUID", deserialize_with = "or_default")]
    pub(super) qos_policy_uuid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) qos_policy_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: Vec<Label>,
}

/// The body of a request that changes a volume; what is empty stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UpdateVolume {
    pub(super) acl: Option<StringList>,
    #[serde(rename = "IPAcl")]
    pub(super) ip_acl: Option<StringList>,
    #[serde(deserialize_with = "or_default")]
    pub(super) size: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) compression: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) project_name: String,
    #[serde(rename = "qosPolicyUUID", deserialize_with = "or_default")]
    pub(super) qos_policy_uuid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) qos_policy_name: String,
    /// Permits a smaller size.
    #[serde(rename = "Force", deserialize_with = "or_default")]
    pub(super) force: bool,
    /// Which volume, where the path has no UUID.
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: Vec<Label>,
    #[serde(deserialize_with = "or_default")]
    pub(super) new_name: String,
}

/// What the management plane keeps beside a volume, as JSON text; keys of later versions are kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(super) struct Attributes {
    /// Labels in the order in which they were given.
    #[serde(default)]
    pub(super) labels: Vec<Label>,
    /// The subject of the token that made the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    /// The policy that the volume has by itself; empty if it has that of its project.
    #[serde(default, rename = "qosPolicyUUID", skip_serializing_if = "String::is_empty")]
    pub(super) qos_policy_uuid: String,
    /// What was asked for when the volume was made.
    #[serde(default, rename = "placementRestrictions", skip_serializing_if = "Vec::is_empty")]
    pub(super) placement_restrictions: Vec<Restriction>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// A list of volumes.
#[derive(Debug, Serialize)]
pub(super) struct VolumeList {
    pub(super) volumes: Vec<VolumeBody>,
}

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeBody {
    state: &'static str,
    protection_state: &'static str,
    replica_count: u32,
    node_list: Vec<String>,
    #[serde(rename = "UUID")]
    uuid: String,
    nsid: u32,
    acl: StringList,
    compression: &'static str,
    size: Text64,
    name: String,
    rebuild_progress: &'static str,
    statistics: VolumeStatistics,
    #[serde(rename = "IPAcl")]
    ip_acl: StringList,
    #[serde(rename = "ETag")]
    etag: String,
    connected_hosts: Vec<String>,
    sector_size: u32,
    project_name: String,
    #[serde(rename = "sourceSnapshotUUID")]
    source_snapshot_uuid: String,
    source_snapshot_name: String,
    placement_restrictions: Vec<Restriction>,
    #[serde(rename = "qosPolicyUUID")]
    qos_policy_uuid: String,
    qos_policy_name: String,
    #[serde(rename = "primaryNodeUUID")]
    primary_node_uuid: String,
    creation_time: String,
    labels: Vec<Label>,
    cluster_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeStatistics {
    logical_used_storage: Text64,
    physical_used_storage: Text64,
    compression_ratio: f64,
    total_compression_ratio: f64,
    physical_capacity: Text64,
    physical_owned_capacity: Text64,
    physical_owned_memory: Text64,
    physical_memory: Text64,
    user_written: Text64,
    unrecoverable_data_integrity_errors: u32,
    recoverable_data_integrity_errors: u32,
}

impl Attributes {
    /// Reads what [`Self::text`] wrote. Text of another origin counts as none.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The text to keep.
    pub(super) fn text(&self) -> Result<String, ApiError> {
        serde_json::to_string(self).map_err(|_| ApiError::internal("the labels cannot be written"))
    }

    /// Attributes with these labels alone.
    pub(super) fn with_labels(labels: Vec<Label>) -> Self {
        Self { labels, ..Self::default() }
    }

    /// The same with an owner.
    pub(super) fn owned_by(self, subject: &str) -> Self {
        Self { owner: Some(subject.to_owned()), ..self }
    }
}

impl VolumeBody {
    /// The body of a volume.
    pub(super) fn of(volume: &Volume, api: &Api) -> Self {
        let site = &api.site;
        let attributes = Attributes::parse(&volume.spec.attributes);
        let policy = api.records.get::<Policy>(&attributes.qos_policy_uuid);
        let node = rules::uuid_text(site.identity.node_uuid);
        let (state, protection_state) = match volume.state {
            VolumeState::Available if api.view.is_rolling_back(volume.spec.uuid) => {
                ("Rollback", "FullyProtected")
            }
            VolumeState::Available => ("Available", "FullyProtected"),
            VolumeState::Deleting => ("Deleting", "FullyProtected"),
            VolumeState::Failed => ("Failed", "NotAvailable"),
        };
        Self {
            state,
            protection_state,
            replica_count: 1,
            node_list: vec![node.clone()],
            uuid: rules::uuid_text(volume.spec.uuid.0),
            nsid: volume.nsid,
            acl: rules::host_acl_list(&volume.spec.acl),
            compression: if volume.spec.compression { "true" } else { "false" },
            size: Text64(volume.spec.size_bytes),
            name: volume.spec.name.clone(),
            rebuild_progress: "None",
            statistics: VolumeStatistics::of(volume),
            ip_acl: rules::ip_acl_list(&volume.spec.ip_acl),
            etag: volume.revision.to_string(),
            connected_hosts: volume.connected_hosts.clone(),
            sector_size: match volume.spec.sector {
                SectorSize::B512 => 512,
                SectorSize::B4096 => 4096,
            },
            project_name: volume.spec.project.clone(),
            source_snapshot_uuid: volume.source.map(|uuid| rules::uuid_text(uuid.0)).unwrap_or_default(),
            source_snapshot_name: volume.source_name.clone(),
            placement_restrictions: attributes.placement_restrictions,
            qos_policy_uuid: attributes.qos_policy_uuid,
            qos_policy_name: policy.map(|found| found.value.name).unwrap_or_default(),
            primary_node_uuid: node,
            creation_time: timestamp(volume.created_unix_ns),
            labels: attributes.labels,
            cluster_id: rules::uuid_text(site.identity.cluster_uuid),
        }
    }
}

impl VolumeStatistics {
    fn of(volume: &Volume) -> Self {
        let usage = &volume.usage;
        let ratio = compression_ratio(usage.logical_used_bytes, usage.physical_used_bytes);
        Self {
            logical_used_storage: Text64(usage.logical_used_bytes),
            physical_used_storage: Text64(usage.physical_used_bytes),
            compression_ratio: ratio,
            total_compression_ratio: ratio,
            physical_capacity: Text64(usage.physical_used_bytes),
            physical_owned_capacity: Text64(usage.owned_bytes),
            physical_owned_memory: Text64(0),
            physical_memory: Text64(0),
            user_written: Text64(usage.user_written_bytes),
            unrecoverable_data_integrity_errors: 0,
            recoverable_data_integrity_errors: 0,
        }
    }
}

/// Logical over physical bytes; 1 where nothing is stored.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub(crate) fn compression_ratio(logical_bytes: u64, physical_bytes: u64) -> f64 {
    if logical_bytes == 0 || physical_bytes == 0 { 1.0 } else { logical_bytes as f64 / physical_bytes as f64 }
}

fn sector_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SectorSize>, D::Error> {
    let table = [
        ("sectorSize_Default", 0, None),
        ("sectorSize_512B", 512, Some(SectorSize::B512)),
        ("sectorSize_4K", 4096, Some(SectorSize::B4096)),
    ];
    named(deserializer, &table)
}
