//! One shard on a drive in memory, driven round by round as a reactor drives it: what is measured is the shard.

use std::collections::BTreeSet;
use std::sync::Arc;

use io::{Memory as _, Purpose, Time};
use store::{
    Geometry, Identity, Layout, Op, Outcome, Output, Request, SegmentId, Shard, ShardId, ShardOptions,
    VolumeId,
};

use crate::memory_drive::{Ended, HeapBuffer, MemoryDrive};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
const VOLUME: VolumeId = VolumeId(1);

/// A shard, its drive, and the segments that it may have.
#[derive(Debug)]
pub struct ShardDriver {
    drive: MemoryDrive,
    shard: Shard<HeapBuffer>,
    layout: Arc<Layout>,
    options: ShardOptions,
    free: BTreeSet<SegmentId>,
    now: u64,
    ready: bool,
    ended: u64,
}

impl ShardDriver {
    /// An empty shard that has recovered.
    ///
    /// # Panics
    /// If no pool can be on a drive of that size.
    #[must_use]
    pub fn new(drive_bytes: usize, options: ShardOptions) -> Self {
        let geometry = Geometry {
            shards: 1,
            segment_bytes: 4 << 20,
            directory_half_bytes: 1 << 20,
            block_bytes: 512,
            drive_bytes: vec![drive_bytes as u64],
            founders: 1,
        };
        let identity = Identity { pool: [7; 16], cluster: [8; 16], node: [9; 16] };
        let layout = Arc::new(Layout::new(identity, geometry).expect("the geometry is possible"));
        let free = (0..layout.segments()).map(SegmentId).collect();
        let shard = Shard::recover(Arc::clone(&layout), ShardId(0), 0, options.clone());
        let drive = MemoryDrive::new(drive_bytes);
        let mut driver = Self { drive, shard, layout, options, free, now: 0, ready: false, ended: 0 };
        driver.recover();
        driver
    }

    /// The process dies, and another recovers what is on the drive.
    pub fn restart(&mut self) {
        while self.drive.poll().is_some() {}
        self.ready = false;
        self.shard = Shard::recover(Arc::clone(&self.layout), ShardId(0), 0, self.options.clone());
        self.recover();
    }

    fn recover(&mut self) {
        while !self.ready {
            self.turn();
        }
    }

    /// Submits one request of `len` bytes, beginning at `block`.
    ///
    /// # Panics
    /// If the shard's queue is full.
    pub fn submit(&mut self, block: u64, len: usize, compress: bool, op: Op<HeapBuffer>) {
        let (offset, len) = (block * BLOCK as u64, len as u64);
        let request = Request { tag: block, volume: VOLUME, offset, len, compress, op };
        assert!(self.shard.submit(request).is_ok(), "a shard takes what fits its queue");
    }

    /// Submits a read of one block.
    ///
    /// # Panics
    /// If the shard's queue is full.
    pub fn submit_read(&mut self, block: u64) {
        let buffer = self.drive.allocate(BLOCK, Purpose::Data).expect("memory is not bounded here");
        self.submit(block, BLOCK, false, Op::Read { buffer });
    }

    /// How many requests have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Runs the shard until `wanted` requests have ended since the beginning.
    ///
    /// # Panics
    /// If one fails, or the shard.
    pub fn finish(&mut self, wanted: u64) {
        while self.ended < wanted {
            self.turn();
        }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &Shard<HeapBuffer> {
        &self.shard
    }

    /// One round.
    fn turn(&mut self) {
        self.now += 1_000;
        while let Some(ended) = self.drive.poll() {
            match ended {
                Ended::Read(token, buffer) => self.shard.handle_read(token, buffer, Ok(())),
                Ended::Written(token, buffer) => self.shard.handle_written(token, buffer, Ok(())),
                Ended::Flushed(token) => self.shard.handle_flushed(token, Ok(())),
            }
        }
        self.shard.run(&mut self.drive, Time(self.now));
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Done { outcome, buffer, .. } => {
                    assert_eq!(outcome, Outcome::Ok);
                    self.ended += 1;
                    buffer.into_iter().for_each(|buffer| self.drive.recycle(buffer));
                }
                Output::WantSegment { .. } => {
                    let grant = self.free.pop_first();
                    self.shard.handle_grant(grant);
                }
                Output::Release(segments) => self.free.extend(segments),
                Output::Ready { .. } => self.ready = true,
                Output::Stopped | Output::Forked { .. } => {}
                Output::Failed(failure) => panic!("the shard failed: {failure:?}"),
            }
        }
    }
}
