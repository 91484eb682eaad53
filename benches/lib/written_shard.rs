//! A shard whose volume has been written, and random commands on it.

use io::{Buffer as _, Slice};
use store::{Op, Payload, ShardOptions};

use crate::memory_drive::{HeapBuffer, HeapShared};
use crate::random::Random;
use crate::shard_driver::{BLOCK, ShardDriver};

/// A shard and its volume.
#[derive(Debug)]
pub struct WrittenShard {
    driver: ShardDriver,
    blocks: u64,
    random: Random,
}

impl WrittenShard {
    /// A shard on a drive of so many bytes, whose volume's first `blocks`, a multiple of 32, have been written.
    #[must_use]
    pub fn new(drive_bytes: usize, blocks: u64) -> Self {
        // Checkpoints are another cost; here they come seldom.
        let options = ShardOptions { checkpoint_bytes: 128 << 20, ..ShardOptions::default() };
        Self::with_options(drive_bytes, blocks, options)
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_options(drive_bytes: usize, blocks: u64, options: ShardOptions) -> Self {
        let mut shard =
            Self { driver: ShardDriver::new(drive_bytes, options), blocks, random: Random::new(1) };
        for first in (0..blocks).step_by(32) {
            shard.write((first..first + 32).map(|block| (block, payload(block))).collect());
        }
        shard
    }

    /// Writes blocks, together.
    pub fn write(&mut self, blocks: Vec<(u64, Payload<HeapShared>)>) {
        let wanted = self.driver.ended() + blocks.len() as u64;
        for (block, data) in blocks {
            self.driver.submit(block, BLOCK, false, Op::Write { data, fua: false });
        }
        self.driver.finish(wanted);
    }

    /// Writes blocks that follow each other, as many as the data has, by one request.
    pub fn write_together(&mut self, first: u64, data: Payload<HeapShared>) {
        let wanted = self.driver.ended() + 1;
        self.driver.submit(first, data.len(), false, Op::Write { data, fua: false });
        self.driver.finish(wanted);
    }

    /// Makes `count` blocks zeros: records and entries of the map, without data.
    pub fn zero(&mut self, count: u64) {
        let wanted = self.driver.ended() + count;
        for _ in 0..count {
            let block = self.random();
            self.driver.submit(block, BLOCK, false, Op::WriteZeroes { fua: false });
        }
        self.driver.finish(wanted);
    }

    /// Reads `count` blocks, each where `place` puts a random one.
    pub fn read(&mut self, count: u64, place: impl Fn(u64) -> u64) {
        let wanted = self.driver.ended() + count;
        for _ in 0..count {
            let block = place(self.random());
            self.driver.submit_read(block);
        }
        self.driver.finish(wanted);
    }

    /// The process dies, and another recovers what is on the drive; gives how many batches that has replayed.
    pub fn restart(&mut self) -> u64 {
        self.driver.restart();
        self.driver.shard().stats().replayed_batches
    }

    /// Gives leaves of the map to as many blocks again behind the volume, most of which stay unwritten.
    pub fn map_unwritten(&mut self) {
        for leaf in (self.blocks..2 * self.blocks).step_by(64) {
            self.write(vec![(leaf, payload(leaf))]);
        }
    }

    /// A random block of those that were written.
    pub fn random(&mut self) -> u64 {
        self.random.below(self.blocks)
    }
}

/// Data of a block.
#[must_use]
pub fn payload(block: u64) -> Payload<HeapShared> {
    let bytes: Vec<u8> = (0..BLOCK as u64).map(|at| (at * 131 + block * 7 + 1) as u8).collect();
    Payload::new(Slice::whole(HeapBuffer::from(bytes).share()))
}
