//! The log-structured engine of one shard: a deterministic, single-threaded state machine over [`io::Disk`].
//!
//! Calling convention, the same in a reactor and in the simulator:
//!
//! 1. [`Shard::recover`] makes the machine; it reads nothing yet.
//! 2. After every round of events, in this order: `handle_read`, `handle_written`, `handle_flushed` for each disk
//!    event whose token has the shard's owner number (see [`owner_of`]), `handle_grant` for an answered
//!    [`Output::WantSegment`], [`Shard::submit`] for new requests; then [`Shard::run`] once, which alone starts disk
//!    operations; then [`Shard::poll_output`] until it gives `None`. Outputs may appear after any of these calls.
//! 3. [`Shard::run`] again at the latest at [`Shard::poll_timeout`]. A deadline that has passed means that work is
//!    left which was put off so that one call stays short: run again after other events were looked at.
//!
//! Requests may be submitted after [`Output::Ready`]. After [`Output::Failed`] everything is answered with
//! [`Outcome::Failed`]; disk events that are still due must be handed in all the same, they give buffers back.

mod options;
#[cfg(feature = "planted")]
mod planted;
mod request;

use std::sync::Arc;

use io::{Buffer, Disk, DiskError, Time, Token};

use crate::{Layout, SegmentId, ShardId, VolumeId};

pub use options::{ShardOptions, ShardStats};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use request::{
    BLOCK_BYTES, DATA_BYTES_MAX, Doing, Failure, Op, Outcome, Output, Payload, Request, SECTOR_BYTES,
};

/// The owner number that a token carries in its upper 16 bits.
#[must_use]
pub fn owner_of(token: Token) -> u16 {
    (token.0 >> 48) as u16
}

/// One shard of a pool.
#[derive(Debug)]
pub struct Shard<B: Buffer> {
    layout: Arc<Layout>,
    shard: ShardId,
    owner: u16,
    options: ShardOptions,
    outputs: std::collections::VecDeque<Output<B>>,
}

impl<B: Buffer> Shard<B> {
    /// The machine of shard `shard`, about to recover. Its disk tokens carry `owner` in their upper 16 bits.
    #[must_use]
    pub fn recover(layout: Arc<Layout>, shard: ShardId, owner: u16, options: ShardOptions) -> Self {
        Self { layout, shard, owner, options, outputs: std::collections::VecDeque::new() }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The request itself when the shard holds [`ShardOptions::requests_max`] of them.
    ///
    /// # Panics
    /// If offset, length and data contradict each other, or recovery has not ended: callers check what hosts send.
    pub fn submit(&mut self, request: Request<B>) -> Result<(), Request<B>> {
        Err(request)
    }

    /// A disk read ended.
    pub fn handle_read(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        let _ = (token, buffer, result);
    }

    /// A disk write ended.
    pub fn handle_written(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        let _ = (token, buffer, result);
    }

    /// A flush of a drive ended.
    pub fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        let _ = (token, result);
    }

    /// The answer to [`Output::WantSegment`]; `None` where the pool has no segment to give.
    pub fn handle_grant(&mut self, grant: Option<SegmentId>) {
        let _ = grant;
    }

    /// Tells the shard how many segments the pool has in all and how many are free, so that it begins to clean
    /// before the last is gone. Without it the shard cleans once a segment was refused.
    pub fn handle_pool_space(&mut self, free: u32, total: u32) {
        let _ = (free, total);
    }

    /// Does what can be done now.
    pub fn run<D: Disk<Buffer = B>>(&mut self, disk: &mut D, now: Time) {
        let _ = (disk, now);
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<B>> {
        self.outputs.pop_front()
    }

    /// When [`Shard::run`] must be called even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// Ends what was submitted, makes a checkpoint and stops: [`Output::Stopped`] follows. Submit nothing after it.
    pub fn checkpoint_and_stop(&mut self) {}

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats::default()
    }

    /// Bytes of mapped blocks of a volume.
    #[must_use]
    pub fn mapped_bytes(&self, volume: VolumeId) -> u64 {
        let _ = volume;
        0
    }

    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shard
    }
}
