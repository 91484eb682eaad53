//! The log-structured store: a pool of drives cut into shards, each a deterministic state machine over [`io`], and the
//! pool's own records.
#![forbid(unsafe_code)]

pub mod pool;
pub mod superblock;

pub use pool::{DriveLayout, Geometry, GeometryError, Identity, Layout, SegmentId, ShardId, VolumeId};
