//! What the management plane may ask of snapshots.

use super::{HostAcl, IpAcl, SectorSize, VolumeState, VolumeUsage, VolumeUuid};

/// What a new snapshot shall be; it belongs to its volume's project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Its identity, chosen by the caller and never used before.
    pub uuid: VolumeUuid,
    /// Its name, unique among the snapshots of the project.
    pub name: String,
    /// The volume that it is taken of.
    pub source: VolumeUuid,
    /// Seconds after which management deletes it; zero for never. The data plane keeps it, and does nothing by itself.
    pub retention_s: u64,
    /// What the management plane alone understands (labels, description), kept beside the rest; at most 16 KiB.
    pub attributes: String,
}

/// A snapshot as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it was made to be.
    pub spec: SnapshotSpec,
    /// The project of its volume.
    pub project: String,
    /// Its volume's name when it was taken. The volume may be gone.
    pub source_name: String,
    /// Its volume's size when it was taken.
    pub size_bytes: u64,
    /// The sector size of its volume, and of its clones.
    pub sector: SectorSize,
    /// Its volume's hosts when it was taken.
    pub acl: HostAcl,
    /// Its volume's addresses when it was taken.
    pub ip_acl: IpAcl,
    /// Whether its volume's new blocks were compressed.
    pub compression: bool,
    /// Says which snapshot is older: it grows with each that is taken in the pool.
    pub sequence: u64,
    /// All that comes from one volume by snapshots and clones has the same.
    pub lineage: u64,
    /// Counts its changes, from 1. REST field `ETag`.
    pub revision: u64,
    /// When it was taken, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Where it is in its life. One that was deleted stays `Deleting` until its last clone is gone.
    pub state: VolumeState,
    /// Volumes that began as its clones and are there.
    pub clones: u32,
    /// What it holds; what it shares counts for each that holds it.
    pub usage: VolumeUsage,
}

/// What a diff asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffQuery {
    /// The later snapshot.
    pub snapshot: VolumeUuid,
    /// An earlier snapshot of the same volume, or one that the volume comes from as a clone; without one, everything that
    /// was written counts as changed.
    pub base: Option<VolumeUuid>,
    /// Where to begin, in blocks of 4096 bytes; rounded down to a multiple of 64.
    pub first_block: u64,
    /// At most this many words are wanted.
    pub words_max: usize,
}

/// A part of what differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Words with at least one changed block, in order.
    pub words: Vec<DiffWord>,
    /// Where the next part begins; `None` where nothing follows.
    pub next_block: Option<u64>,
}

/// 64 blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffWord {
    /// The first of them, a multiple of 64.
    pub first_block: u64,
    /// Bit `i` says whether block `first_block + i` differs.
    pub changed: u64,
}
