//! What the management plane may ask of the data plane, and what it answers: typed, without JSON and without store.

mod snapshot;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use snapshot::{Diff, DiffQuery, DiffWord, Snapshot, SnapshotSpec};

/// A volume's identity: also its namespace UUID and NGUID. RFC 9562 byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeUuid(pub [u8; 16]);

/// Which hosts see a volume, by host NQN. REST field `acl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAcl {
    /// Every host (`ALLOW_ANY`).
    Any,
    /// No host (`ALLOW_NONE`).
    None,
    /// Exactly these host NQNs.
    Hosts(Vec<String>),
}

/// From which addresses a volume is seen. REST field `IPAcl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpAcl {
    /// From everywhere (`ALLOW_ANY`).
    Any,
    /// From nowhere (`ALLOW_NONE`).
    None,
    /// From these addresses alone.
    Addresses(Vec<IpAddr>),
}

/// The unit in which hosts address a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

/// What the hosts of a volume may do in a second, all together; zero is unlimited. What is limited waits in its queue;
/// neighbours do not wait with it. A change holds at once, for what waits as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Commands that read.
    pub read_ios: u64,
    /// Commands that write.
    pub write_ios: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Commands that read, for each GiB of the volume's size (at least 1 in all).
    pub read_ios_per_gib: u64,
    /// Commands that write, for each GiB of the volume's size (at least 1 in all).
    pub write_ios_per_gib: u64,
}

/// What a new volume shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its identity, chosen by the caller and never used before.
    pub uuid: VolumeUuid,
    /// The project that it belongs to.
    pub project: String,
    /// Its name, unique in the project.
    pub name: String,
    /// Its size in bytes: a multiple of 4096, at least 4096.
    pub size_bytes: u64,
    /// Its sector size, fixed for life.
    pub sector: SectorSize,
    /// Hosts that see it.
    pub acl: HostAcl,
    /// Addresses from which it is seen.
    pub ip_acl: IpAcl,
    /// Whether new blocks are compressed.
    pub compression: bool,
    /// What its hosts may do in a second.
    pub limits: Limits,
    /// What the management plane alone understands (labels, policies), kept beside the rest; at most 16 KiB.
    pub attributes: String,
}

/// A change of a volume; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeChange {
    /// A new name, unique in the project.
    pub name: Option<String>,
    /// A new size in bytes: larger, or smaller only with `shrink`.
    pub size_bytes: Option<u64>,
    /// Permits a smaller size: data beyond it is lost.
    pub shrink: bool,
    /// Other hosts; answered only once every reactor has drained the I/O of the hosts that were removed.
    pub acl: Option<HostAcl>,
    /// Other addresses; fenced alike.
    pub ip_acl: Option<IpAcl>,
    /// Compression of blocks written from now on.
    pub compression: Option<bool>,
    /// Other limits.
    pub limits: Option<Limits>,
    /// Other attributes of the management plane.
    pub attributes: Option<String>,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// It serves I/O.
    Available,
    /// It is gone for hosts; its space is being freed.
    Deleting,
    /// It cannot serve I/O: a shard of the pool has stopped, because a drive failed or what it held is damaged.
    Failed,
}

/// A volume as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What it was made or changed to be.
    pub spec: VolumeSpec,
    /// Its namespace identifier in the cluster's subsystem.
    pub nsid: u32,
    /// Counts its changes, from 1. REST field `ETag`.
    pub revision: u64,
    /// When it was made, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// The snapshot that it began as a clone of.
    pub source: Option<VolumeUuid>,
    /// That snapshot's name.
    pub source_name: String,
    /// Where it is in its life.
    pub state: VolumeState,
    /// Host NQNs that are connected and see it.
    pub connected_hosts: Vec<String>,
    /// What it uses.
    pub usage: VolumeUsage,
}

/// What a volume uses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Mapped blocks times 4096.
    pub logical_used_bytes: u64,
    /// Bytes that its live blocks take on the drives, those that it shares included.
    pub physical_used_bytes: u64,
    /// What of that nobody else holds, if it `shares` nothing; else as it was counted last ([`Action::CountOwned`]), or what
    /// it can be at most.
    pub owned_bytes: u64,
    /// Whether others may hold a part of it.
    pub shares: bool,
    /// Bytes that hosts have written since the server began, or since the volume was rolled back.
    pub user_written_bytes: u64,
}

/// A host with at least one association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedHost {
    /// Its NQN.
    pub host_nqn: String,
    /// The addresses that its admin queues come from.
    pub addresses: Vec<IpAddr>,
    /// Volumes that it sees.
    pub volumes: Vec<VolumeUuid>,
}

/// A drive of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The path that it was opened by.
    pub path: String,
    /// Usable size in bytes.
    pub size_bytes: u64,
    /// False once it has failed what cannot be had from elsewhere: a flush, or what a shard or the directory cannot go on
    /// without.
    pub healthy: bool,
    /// Checksum mismatches found on it since the server began; a block that is read twice counts twice.
    pub integrity_errors: u64,
}

/// Counters and gauges of the whole data plane, summed over reactors; names end in their unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Size of the pool in bytes.
    pub pool_size_bytes: u64,
    /// Bytes of the pool in free segments.
    pub pool_free_bytes: u64,
    /// Bytes taken by live blocks and map pages.
    pub pool_live_bytes: u64,
    /// Bytes of data in live blocks, what volumes and snapshots share counted once.
    pub pool_data_bytes: u64,
    /// What these take on the drives.
    pub pool_stored_bytes: u64,
    /// Bytes that hosts have written.
    pub host_written_bytes: u64,
    /// Bytes written to the drives.
    pub device_written_bytes: u64,
    /// Series by metric name and label text (`opcode="read"`), in name order.
    pub series: Vec<Series>,
}

/// One number of the metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Metric name without the `ferrule_` prefix, as the Prometheus conventions want it (`nvme_commands_total`).
    pub name: &'static str,
    /// One line on what it counts.
    pub help: &'static str,
    /// True for a counter, false for a gauge.
    pub counter: bool,
    /// Labels as `key="value"` joined by commas, or empty.
    pub labels: String,
    /// Its value.
    pub value: f64,
}

/// What the data plane knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as the pool's superblock has it.
    pub cluster_uuid: [u8; 16],
    /// This node, as the pool's superblock has it.
    pub node_uuid: [u8; 16],
    /// The subsystem that hosts connect to.
    pub subsystem_nqn: String,
    /// I/O addresses in force.
    pub listen: Vec<SocketAddr>,
    /// Discovery addresses in force.
    pub discovery: Vec<SocketAddr>,
    /// What hosts are told to connect to.
    pub advertised: Vec<SocketAddr>,
    /// The pool's drives.
    pub drives: Vec<Drive>,
    /// Bench namespaces, as (NSID, description).
    pub bench: Vec<(u32, String)>,
    /// Reactors and what their ring offers, a line each.
    pub reactors: Vec<String>,
}

/// A request of the management plane.
#[derive(Clone, Debug)]
pub enum Action {
    /// Makes a volume; answered when its record is durable and every reactor serves it. -> [`Outcome::Volume`]
    CreateVolume(VolumeSpec),
    /// Changes a volume, behind the fences. -> [`Outcome::Volume`]
    UpdateVolume {
        /// Which.
        uuid: VolumeUuid,
        /// To what.
        change: VolumeChange,
        /// Refuse unless its revision is this one.
        if_revision: Option<u64>,
    },
    /// Limits a volume from now on, where a policy has changed rather than the volume: its revision stays.
    /// -> [`Outcome::Volume`]
    SetLimits {
        /// Which.
        uuid: VolumeUuid,
        /// To what.
        limits: Limits,
    },
    /// Deletes a volume, behind the fences; its space is freed in the background. -> [`Outcome::Done`]
    DeleteVolume {
        /// Which.
        uuid: VolumeUuid,
        /// Refuse unless its revision is this one.
        if_revision: Option<u64>,
    },
    /// Makes a volume that begins as a snapshot is: at least as large, of the same sector size. -> [`Outcome::Volume`]
    CloneVolume {
        /// What it shall be.
        spec: VolumeSpec,
        /// The snapshot.
        source: VolumeUuid,
    },
    /// Makes a volume's content that of a snapshot of its lineage; answered when no command that began before runs any
    /// more and all that come see the snapshot's blocks. A volume that was larger stays so, and reads as zeros there.
    /// -> [`Outcome::Volume`]
    RollbackVolume {
        /// Which volume.
        uuid: VolumeUuid,
        /// To which snapshot.
        snapshot: VolumeUuid,
        /// Refuse unless the volume's revision is this one.
        if_revision: Option<u64>,
    },
    /// Takes a snapshot: every write that was acknowledged before is in it, none that is submitted after the answer,
    /// and with a write every write that was acknowledged before that one was submitted. -> [`Outcome::Snapshot`]
    CreateSnapshot(SnapshotSpec),
    /// Deletes a snapshot; its space is freed in the background, once its last clone is gone. -> [`Outcome::Done`]
    DeleteSnapshot {
        /// Which.
        uuid: VolumeUuid,
        /// Refuse unless its revision is this one.
        if_revision: Option<u64>,
    },
    /// All snapshots in the order in which they were taken. -> [`Outcome::Snapshots`]
    ListSnapshots,
    /// What differs between two snapshots. -> [`Outcome::Diff`]
    ReadDiff(DiffQuery),
    /// What a volume or snapshot alone holds, which is what its deletion would give back. -> [`Outcome::Owned`]
    CountOwned(VolumeUuid),
    /// All volumes in order of their UUID. -> [`Outcome::Volumes`]
    ListVolumes,
    /// Hosts with an association. -> [`Outcome::Hosts`]
    ListHosts,
    /// Counters. -> [`Outcome::Statistics`]
    ReadStatistics,
    /// Identity, addresses, drives. -> [`Outcome::Identity`]
    ReadIdentity,
    /// Lets a drive, on which nothing was ever stored, join the pool behind its others. -> [`Outcome::Done`] once hosts'
    /// data can go there
    AddDrive {
        /// Where it is.
        path: String,
    },
    /// Stops: no new commands, drain, flush, checkpoint, close. -> [`Outcome::Done`], the last answer
    Stop,
}

/// The answer to an [`Action`] that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// A volume as it now is.
    Volume(Box<Volume>),
    /// Volumes.
    Volumes(Vec<Volume>),
    /// A snapshot as it now is.
    Snapshot(Box<Snapshot>),
    /// Snapshots.
    Snapshots(Vec<Snapshot>),
    /// A part of a diff.
    Diff(Diff),
    /// Bytes that a volume or snapshot alone holds; where that would take long to count, what it can be at most.
    Owned(u64),
    /// Hosts.
    Hosts(Vec<ConnectedHost>),
    /// Counters.
    Statistics(Box<Statistics>),
    /// Identity.
    Identity(Box<Identity>),
}

/// Why an [`Action`] was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// There is no such volume.
    NotFound,
    /// There is no such snapshot.
    SnapshotNotFound,
    /// The name is taken in the project, or the UUID was used before.
    Exists,
    /// The revision asked for is not the current one.
    RevisionMismatch {
        /// The current one.
        current: u64,
    },
    /// Another change of the same volume is under way.
    Busy,
    /// The volume's state does not allow it.
    WrongState(VolumeState),
    /// A value is out of its range.
    Invalid {
        /// The field.
        field: &'static str,
        /// What it may be.
        rule: &'static str,
    },
    /// The pool, the directory or the namespace table has no room.
    CapacityExceeded(&'static str),
    /// The data plane is stopping.
    Stopping,
    /// A drive failed while the change was made durable.
    Device,
    /// A drive cannot join the pool: why, and what to do.
    Drive(String),
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "no such volume"),
            Self::SnapshotNotFound => write!(f, "no such snapshot"),
            Self::Exists => write!(f, "one of that name or UUID exists"),
            Self::RevisionMismatch { current } => {
                write!(f, "the volume has changed: its ETag is now {current}")
            }
            Self::Busy => write!(f, "another change of this volume is under way"),
            Self::WrongState(VolumeState::Failed) => write!(
                f,
                "the volume has failed, as a shard of the pool has: the server's log says why; mend that, then restart \
                 the server"
            ),
            Self::WrongState(state) => write!(f, "the volume's state does not allow it: {state:?}"),
            Self::Invalid { field, rule } => write!(f, "{field}: {rule}"),
            Self::CapacityExceeded(what) => write!(f, "no room: {what}"),
            Self::Stopping => write!(f, "the server is stopping"),
            Self::Device => write!(
                f,
                "a drive of the pool failed: the server's log says which; mend it, then restart the server, which shows \
                 whether the change was made"
            ),
            Self::Drive(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for ActionError {}
