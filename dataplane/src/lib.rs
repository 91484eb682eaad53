//! A running data plane: engines on reactors, one thread each.

pub mod attach;
mod config;
mod handle;
mod joining;
pub mod load;
mod run;
mod threads;

pub use config::{Bench, Config, PoolDrive, Reactors};
#[cfg(feature = "planted")]
pub use engine::Planted;
pub use engine::{
    Action, ActionError, ConnectedHost, Diff, DiffQuery, DiffWord, Drive, HostAcl, Identity, IpAcl, Limits,
    Outcome, SectorSize, Series, Snapshot, SnapshotSpec, Statistics, Volume, VolumeChange, VolumeSpec,
    VolumeState, VolumeUsage, VolumeUuid,
};
pub use handle::{Handle, Reply};
pub use run::{DataPlane, StartError};
