//! Snapshots as the contract's JSON has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dataplane::{Diff, SectorSize, Snapshot, VolumeState};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Site;
use super::super::error::ApiError;
use super::super::json::{Label, StringList, Text64, or_default, timestamp};
use super::super::rules;

/// The body of a request that takes a snapshot.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CreateSnapshot {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(rename = "sourceVolumeUUID", deserialize_with = "or_default")]
    pub(super) source_volume_uuid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) source_volume_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) retention_time: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) description: String,
}

/// The body of a request that rolls a volume back.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rollback {
    #[serde(rename = "srcSnapshotUUID", deserialize_with = "or_default")]
    pub(super) src_snapshot_uuid: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) src_snapshot_name: String,
    /// Which volume, where the path has no UUID.
    #[serde(rename = "Name", deserialize_with = "or_default")]
    pub(super) name: String,
}

/// What the management plane keeps beside a snapshot, as JSON text.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub(super) struct Attributes {
    labels: Vec<Label>,
    description: String,
    /// The subject of the token that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A list of snapshots.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotList {
    pub(super) snapshots: Vec<SnapshotBody>,
}

/// A snapshot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SnapshotBody {
    state: &'static str,
    #[serde(rename = "UUID")]
    uuid: String,
    name: String,
    description: String,
    creation_time: String,
    retention_time: String,
    #[serde(rename = "sourceVolumeUUID")]
    source_volume_uuid: String,
    source_volume_name: String,
    replica_count: u32,
    node_list: Vec<String>,
    nsid: u32,
    acl: StringList,
    compression: bool,
    size: Text64,
    #[serde(rename = "IPAcl")]
    ip_acl: StringList,
    sector_size: u32,
    statistics: SnapshotStatistics,
    #[serde(rename = "ETag")]
    etag: String,
    project_name: String,
    #[serde(rename = "primaryNodeUUID")]
    primary_node_uuid: String,
    labels: Vec<Label>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotStatistics {
    physical_capacity: Text64,
    physical_owned_capacity: Text64,
    physical_owned_memory: Text64,
    physical_memory: Text64,
    user_written: Text64,
}

/// What differs between two snapshots.
#[derive(Debug, Serialize)]
pub(super) struct ChangedBlocks {
    #[serde(rename = "nextOffsetLBA")]
    next_offset_lba: Text64,
    #[serde(rename = "lbaRanges")]
    lba_ranges: Vec<LbaRange>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LbaRange {
    lba_start: Text64,
    /// The last block of the range.
    lba_end: Text64,
    /// A bit a block, the lowest bit of a byte first.
    data_bit_map: String,
}

impl Attributes {
    /// The labels of a volume with these attributes, a description, and whose the snapshot is.
    pub(super) fn of(volume: &str, description: &str, owner: &str) -> Self {
        let Self { labels, .. } = Self::parse(volume);
        Self { labels, description: description.to_owned(), owner: Some(owner.to_owned()), rest: Map::new() }
    }

    /// A volume's attributes, with a snapshot's labels where it has none.
    pub(super) fn inherited(volume: &str, snapshot: &str) -> Result<String, ApiError> {
        let mut attributes: Map<String, Value> = serde_json::from_str(volume).unwrap_or_default();
        let none = attributes.get("labels").is_none_or(|labels| labels.as_array().is_none_or(Vec::is_empty));
        let labels = Self::parse(snapshot).labels;
        if none && !labels.is_empty() {
            let labels = serde_json::to_value(labels).map_err(|_| unwritable())?;
            attributes.insert("labels".to_owned(), labels);
        }
        serde_json::to_string(&attributes).map_err(|_| unwritable())
    }

    /// The text to keep.
    pub(super) fn text(&self) -> Result<String, ApiError> {
        serde_json::to_string(self).map_err(|_| unwritable())
    }

    /// Reads what [`Self::text`] wrote. Text of another origin counts as none.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl SnapshotBody {
    /// The body of a snapshot.
    pub(super) fn of(snapshot: &Snapshot, site: &Site) -> Self {
        let node = rules::uuid_text(site.identity.node_uuid);
        let Attributes { labels, description, .. } = Attributes::parse(&snapshot.spec.attributes);
        Self {
            state: match snapshot.state {
                VolumeState::Available => "Available",
                VolumeState::Deleting => "Deleting",
                VolumeState::Failed => "Failed",
            },
            uuid: rules::uuid_text(snapshot.spec.uuid.0),
            name: snapshot.spec.name.clone(),
            description,
            creation_time: timestamp(snapshot.created_unix_ns),
            retention_time: format!("{}s", snapshot.spec.retention_s),
            source_volume_uuid: rules::uuid_text(snapshot.spec.source.0),
            source_volume_name: snapshot.source_name.clone(),
            replica_count: 1,
            node_list: vec![node.clone()],
            // No host sees a snapshot; its clones have namespaces of their own.
            nsid: 0,
            acl: rules::host_acl_list(&snapshot.acl),
            compression: snapshot.compression,
            size: Text64(snapshot.size_bytes),
            ip_acl: rules::ip_acl_list(&snapshot.ip_acl),
            sector_size: match snapshot.sector {
                SectorSize::B512 => 512,
                SectorSize::B4096 => 4096,
            },
            statistics: SnapshotStatistics {
                physical_capacity: Text64(snapshot.usage.physical_used_bytes),
                physical_owned_capacity: Text64(snapshot.usage.owned_bytes),
                physical_owned_memory: Text64(0),
                physical_memory: Text64(0),
                user_written: Text64(snapshot.usage.logical_used_bytes),
            },
            etag: snapshot.revision.to_string(),
            project_name: snapshot.project.clone(),
            primary_node_uuid: node,
            labels,
        }
    }
}

impl ChangedBlocks {
    /// Words that follow each other are one range.
    pub(super) fn of(diff: &Diff) -> Self {
        let mut lba_ranges: Vec<LbaRange> = Vec::new();
        let mut words = diff.words.iter().peekable();
        while let Some(first) = words.next() {
            let mut bits = first.changed.to_le_bytes().to_vec();
            let mut end = first.first_block + 64;
            while let Some(word) = words.next_if(|word| word.first_block == end) {
                bits.extend(word.changed.to_le_bytes());
                end += 64;
            }
            lba_ranges.push(LbaRange {
                lba_start: Text64(first.first_block),
                lba_end: Text64(end - 1),
                data_bit_map: STANDARD.encode(bits),
            });
        }
        Self { next_offset_lba: Text64(diff.next_block.unwrap_or(0)), lba_ranges }
    }
}

/// Seconds of a duration such as `3600s`, `90m`, `1h30m`; a fraction of a second counts as a whole one, empty as none.
pub(super) fn duration_s(text: &str) -> Result<u64, ApiError> {
    let wrong =
        || ApiError::invalid(format!("retentionTime: {text:?} is no duration such as 3600s or 1h30m"));
    if text == "0" {
        return Ok(0);
    }
    let mut nanos: u128 = 0;
    let mut left = text;
    while !left.is_empty() {
        let digits = left.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let (number, after) = left.split_at(digits);
        let letters =
            after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, rest) = after.split_at(letters);
        let unit_ns: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 {
            return Err(wrong());
        }
        let parse = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<u128>() };
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(18));
        nanos += parse(whole).map_err(|_| wrong())? * unit_ns;
        nanos += parse(fraction).map_err(|_| wrong())? * unit_ns / scale;
        left = rest;
    }
    u64::try_from(nanos.div_ceil(1_000_000_000)).map_err(|_| wrong())
}

fn unwritable() -> ApiError {
    ApiError::internal("the labels cannot be written")
}

#[cfg(test)]
mod test {
    use dataplane::DiffWord;

    use super::*;

    #[test]
    fn durations_are_seconds_or_go_syntax() {
        for (text, seconds) in
            [("", 0), ("0", 0), ("3600s", 3600), ("1h30m", 5400), ("120m", 7200), ("1.5s", 2), ("1500ms", 2)]
        {
            assert_eq!(duration_s(text), Ok(seconds), "{text}");
        }
        for text in ["3600", "x", "1d", "-1s", "s", ".s", "1s2", "99999999999999999999h"] {
            assert_eq!(duration_s(text).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn words_side_by_side_are_one_range_with_the_lowest_bit_first() {
        let word = |first_block, changed| DiffWord { first_block, changed };
        let words = vec![word(0, 1), word(64, 1 << 63), word(192, 3)];
        let body = ChangedBlocks::of(&Diff { words, next_block: Some(256) });
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(json["nextOffsetLBA"], "256");
        assert_eq!(json["lbaRanges"][0]["lbaStart"], "0");
        assert_eq!(json["lbaRanges"][0]["lbaEnd"], "127");
        assert_eq!(json["lbaRanges"][0]["dataBitMap"], "AQAAAAAAAAAAAAAAAAAAgA==");
        assert_eq!(json["lbaRanges"][1]["lbaStart"], "192");
        assert_eq!(json["lbaRanges"][1]["dataBitMap"], "AwAAAAAAAAA=");
        let end = serde_json::to_value(ChangedBlocks::of(&Diff::default())).unwrap();
        assert_eq!(end["nextOffsetLBA"], "0");
    }
}
