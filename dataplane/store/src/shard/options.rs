//! What can be set on a shard, and what it counts.

use std::time::Duration;

/// Settings of a shard; the defaults are for a server, tests choose smaller values.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Requests that a shard holds at once, above which [`super::Shard::submit`] refuses.
    pub requests_max: usize,
    /// Batches under way at once; acknowledged in order all the same.
    pub batches_max: usize,
    /// The largest batch in bytes with its header, at most 1 MiB.
    pub batch_bytes_max: u32,
    /// With a batch under way, another is begun only once this much waits, and twice as much for each four under way; a
    /// quarter of it while nothing needs to be cleaned, and twice of it while something is. Where more than two requests
    /// are open, only once two wait that fit into a batch.
    pub batch_bytes_min: u32,
    /// A checkpoint begins when this much was logged since the last one: it bounds what recovery replays.
    pub checkpoint_bytes: u64,
    /// A flush begins when this much was logged since the last one: it bounds what recovery must read and check.
    pub flush_bytes: u64,
    /// Segments that only cleaning and deallocation may fill, beside what a checkpoint needs.
    pub reserve_segments: u32,
    /// Free segments that the shard keeps beyond the reserve.
    pub spare_segments: u32,
    /// Blocks that cleaning may have under way at once, at least 8.
    pub clean_blocks_max: u32,
    /// Map pages, of 64 blocks each, that one call of [`super::Shard::run`] gives back after a volume or a large range was
    /// dropped: other requests wait as long as that takes.
    pub drop_pages_per_run: u32,
    /// Memory that the map may take, in bytes. Beyond it leaves, and then pages right above them with their 16 bytes for each
    /// leaf, leave memory and are read again when they are needed. Higher pages, and what a checkpoint has yet to write, stay,
    /// whatever this says.
    pub map_bytes_max: u64,
    /// Changes of blocks, of 24 bytes each, that recovery sorts and puts into the map together; with 0 it puts in each
    /// record alone.
    pub replay_blocks_max: u32,
    /// Changes of blocks that one call of [`super::Shard::run`] collects or puts into the map at recovery: as long as that
    /// takes, nothing new is asked of the drive.
    pub replay_blocks_per_run: u32,
    /// Bytes of headers and records that recovery reads ahead of what it puts into the map.
    pub replay_ahead_bytes_max: u32,
    /// How long to wait before asking again for a segment, or for memory, that was refused.
    pub retry: Duration,
    /// Deliberately wrong behaviour, which the simulator must catch.
    #[cfg(feature = "planted")]
    pub planted: Option<super::Planted>,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            requests_max: 4096,
            batches_max: 8,
            // Two requests of 128 KiB and their header.
            batch_bytes_max: 264 << 10,
            batch_bytes_min: 64 << 10,
            checkpoint_bytes: 256 << 20,
            flush_bytes: 16 << 20,
            reserve_segments: 3,
            spare_segments: 1,
            clean_blocks_max: 256,
            drop_pages_per_run: 16,
            map_bytes_max: u64::MAX,
            replay_blocks_max: 64 << 10,
            replay_blocks_per_run: 512,
            replay_ahead_bytes_max: 1 << 20,
            retry: Duration::from_millis(20),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

impl ShardOptions {
    /// # Panics
    /// If a setting is out of its bounds.
    pub(super) fn check(&self) {
        assert!(self.requests_max > 0 && self.batches_max > 0);
        assert!(self.batch_bytes_max >= 32 << 10 && self.batch_bytes_max <= 1 << 20);
        assert!(self.batch_bytes_max.is_multiple_of(4096));
        assert!(self.clean_blocks_max >= 8, "moves that are logged one by one free nothing");
        assert!(self.drop_pages_per_run > 0 && self.replay_blocks_per_run > 0);
        assert!(self.reserve_segments >= 2, "cleaning needs a segment to move to, and so does deallocation");
    }
}

/// Counters of a shard. Those named `_bytes` of the present state (live, owned, map) are levels, the others only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes that hosts read.
    pub read_bytes: u64,
    /// Bytes that hosts wrote.
    pub written_bytes: u64,
    /// Blocks that were all zeros and so not stored.
    pub zero_blocks: u64,
    /// Blocks of hosts that were stored compressed.
    pub packed_blocks: u64,
    /// Batches written to the log.
    pub batches: u64,
    /// Bytes written to the drives, everything counted.
    pub device_written_bytes: u64,
    /// Bytes of map pages among them.
    pub page_written_bytes: u64,
    /// Blocks that cleaning moved.
    pub moved_blocks: u64,
    /// Segments that cleaning has gone through.
    pub cleaned_segments: u64,
    /// Blocks whose checksum was wrong when read.
    pub checksum_errors: u64,
    /// Reads that a drive failed.
    pub read_errors: u64,
    /// Rounds of flushes.
    pub flushes: u64,
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// Batches that recovery replayed.
    pub replayed_batches: u64,
    /// Of these, headers that were found in summaries of segments.
    pub summarized_batches: u64,
    /// Bytes that recovery read.
    pub recovery_read_bytes: u64,
    /// Map pages that [`super::Shard::diff`] looked at.
    pub diff_pages: u64,
    /// Leaves of the map that reads found in memory.
    pub map_hits: u64,
    /// Leaves of the map that were asked for from the drives.
    pub map_misses: u64,
    /// Reads of leaves of the map; one may bring several.
    pub map_reads: u64,
    /// Leaves that left memory.
    pub map_evictions: u64,
    /// Leaves that could not be read.
    pub map_errors: u64,
    /// Bytes of live blocks and map pages in the log, what several images share counted once.
    pub live_bytes: u64,
    /// Bytes of data in live blocks, what several images share counted once.
    pub data_bytes: u64,
    /// What these take in the log; less where they are compressed.
    pub stored_bytes: u64,
    /// Bytes of mapped blocks, over all volumes and images, what several share counted for each.
    pub mapped_bytes: u64,
    /// Bytes of the segments that the shard owns.
    pub owned_bytes: u64,
    /// Bytes of the map in memory.
    pub map_bytes: u64,
}
