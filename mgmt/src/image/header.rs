//! The header of a stream: of which volume and snapshot it is, and on what it builds.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BLOCK_BYTES;

/// What a stream is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    /// Made new for each stream.
    pub(crate) stream: Uuid,
    /// The snapshot that applying the stream gives.
    pub(crate) snapshot: SnapshotOf,
    /// The snapshot that must be there before; none for a full stream.
    pub(crate) base: Option<SnapshotOf>,
    /// The volume of the snapshot.
    pub(crate) volume: VolumeOf,
}

/// A snapshot as its cluster knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotOf {
    /// Its UUID: identity, wherever its content was carried.
    pub(crate) uuid: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// When it was taken, as REST tells it.
    pub(crate) created: String,
}

/// A volume as its cluster knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeOf {
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// Size of the snapshot, a multiple of 4096.
    pub(crate) size_bytes: u64,
    /// 512 or 4096.
    pub(crate) sector_bytes: u32,
    /// Whether its blocks are compressed.
    pub(crate) compression: bool,
}

impl Header {
    /// The header in JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the JSON; says what is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let header: Self = serde_json::from_slice(body).map_err(|_| "its header cannot be read")?;
        let VolumeOf { size_bytes, sector_bytes, .. } = header.volume;
        if size_bytes == 0 || size_bytes % BLOCK_BYTES as u64 != 0 {
            return Err("the size in its header is not a multiple of 4096 bytes");
        }
        if ![512, 4096].contains(&sector_bytes) {
            return Err("the sector size in its header is neither 512 nor 4096 bytes");
        }
        Ok(header)
    }

    /// Blocks of the volume.
    pub(crate) fn blocks(&self) -> u64 {
        self.volume.size_bytes / BLOCK_BYTES as u64
    }
}
