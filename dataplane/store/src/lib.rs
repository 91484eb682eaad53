//! The log-structured store: a pool of drives cut into shards, each a deterministic state machine over [`io`], and the
//! pool's own records.
//!
#![doc = include_str!("decisions.md")]
#![forbid(unsafe_code)]

mod checksum;
mod codec;
pub mod directory;
#[cfg(any(test, feature = "injected"))]
pub mod injected;
mod manifest;
mod map;
#[cfg(test)]
mod memory_disk;
pub mod pool;
mod record;
mod root;
pub mod segments;
pub mod shard;
pub mod superblock;

pub use directory::Directory;
pub use map::ChangedLeaf;
pub use pool::{
    DriveLayout, FormatOptions, Geometry, GeometryError, Identity, Layout, Opened, PoolError, PoolOpening,
    SegmentId, ShardId, VolumeId,
};
pub use segments::{GrantPurpose, Segments, SegmentsError};
pub use shard::{
    BLOCK_BYTES, DiffEnd, DiffLimits, Doing, Failure, ImageStats, Miscount, Op, Outcome, Output, Payload,
    Request, SECTOR_BYTES, Shard, ShardOptions, ShardStats, UnreadableMap,
};
