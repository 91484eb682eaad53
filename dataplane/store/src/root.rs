//! A shard's root: where recovery begins. Each shard has two slots of 4096 bytes that are written in turn.
//!
//! All integers are little-endian. The rest of the slot is zero.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `FeROOT1\n` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of the slot with this field zero |
//! | 16 | 16 | pool UUID |
//! | 32 | 2 | shard |
//! | 34 | 2 | number of shards |
//! | 36 | 4 | segment size |
//! | 40 | 8 | sequence of the root, the higher is the newer |
//! | 48 | 8 | epoch of batches beyond the durable one |
//! | 56 | 8 | sequence of the last batch that was durable when the root was written |
//! | 64 | 4 | segment from which to replay, 2^32 - 1 where nothing was ever logged |
//! | 68 | 4 | offset in it |
//! | 72 | 8 | its generation |
//! | 80 | 8 | sequence of the first batch to replay |
//! | 88 | 8 | hash of the batch before it |
//! | 96 | 8 | its first LSN |
//! | 104 | 4 | segment of the last chunk of the manifest, 2^32 - 1 where there is none |
//! | 108 | 4 | offset of the chunk in it |
//! | 112 | 4 | bytes of the chunk |
//! | 116 | 4 | CRC32C of the chunk |

use crate::pool::bytes::{array, crc32c, is_zero, put, u16_at, u32_at, u64_at};
use crate::{Layout, SegmentId, ShardId};

/// The format that this code writes, and the only one that it reads.
pub(crate) const ROOT_VERSION: u32 = 3;
/// Bytes of a slot.
pub(crate) const ROOT_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"FeROOT1\n";
const CRC_OFFSET: usize = 12;
const END: usize = 120;
const NONE: u32 = u32::MAX;

/// A point in the log, between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Where the next batch goes; `None` before the first.
    pub(crate) segment: Option<SegmentId>,
    /// Its offset in the segment.
    pub(crate) offset: u32,
    /// Generation of the segment: the sequence of its first batch.
    pub(crate) generation: u64,
    /// Sequence of the next batch.
    pub(crate) sequence: u64,
    /// Hash of the batch before.
    pub(crate) previous: u64,
    /// LSN of the next record.
    pub(crate) lsn: u64,
}

/// Where a chunk of the manifest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// What a root says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) durable: u64,
    pub(crate) replay: Position,
    pub(crate) manifest: Option<ChunkPlace>,
}

/// What a slot turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing was ever written.
    Blank,
    /// Not a root, or a torn one.
    Damaged,
    /// A root of another pool, shard or shape.
    Foreign,
    /// A root of a format that this code does not know.
    Version(u32),
    /// A root.
    Root(Root),
}

impl Position {
    /// Before anything was logged.
    pub(crate) const START: Self =
        Self { segment: None, offset: 0, generation: 1, sequence: 1, previous: 0, lsn: 1 };
}

impl ChunkPlace {
    pub(crate) fn encode(place: Option<Self>, bytes: &mut [u8]) {
        put(bytes, 0, &place.map_or(NONE, |place| place.segment.0).to_le_bytes());
        put(bytes, 4, &place.map_or(0, |place| place.offset).to_le_bytes());
        put(bytes, 8, &place.map_or(0, |place| place.len).to_le_bytes());
        put(bytes, 12, &place.map_or(0, |place| place.crc).to_le_bytes());
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let segment = u32_at(bytes, 0);
        (segment != NONE).then(|| Self {
            segment: SegmentId(segment),
            offset: u32_at(bytes, 4),
            len: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
        })
    }

    /// Whether the chunk lies within a segment of the pool.
    pub(crate) fn is_within(&self, layout: &Layout) -> bool {
        layout.has_segment(self.segment)
            && (1..=1 << 20).contains(&self.len)
            && self.offset.checked_add(self.len).is_some_and(|end| end <= layout.segment_bytes())
            && self.offset.is_multiple_of(4096)
    }
}

impl Root {
    /// Writes the root over a slot.
    pub(crate) fn encode(&self, layout: &Layout, shard: ShardId, slot: &mut [u8]) {
        slot.fill(0);
        put(slot, 0, &MAGIC);
        put(slot, 8, &ROOT_VERSION.to_le_bytes());
        put(slot, 16, &layout.identity().pool);
        put(slot, 32, &shard.0.to_le_bytes());
        put(slot, 34, &layout.shards().to_le_bytes());
        put(slot, 36, &layout.segment_bytes().to_le_bytes());
        put(slot, 40, &self.sequence.to_le_bytes());
        put(slot, 48, &self.epoch.to_le_bytes());
        put(slot, 56, &self.durable.to_le_bytes());
        put(slot, 64, &self.replay.segment.map_or(NONE, |segment| segment.0).to_le_bytes());
        put(slot, 68, &self.replay.offset.to_le_bytes());
        put(slot, 72, &self.replay.generation.to_le_bytes());
        put(slot, 80, &self.replay.sequence.to_le_bytes());
        put(slot, 88, &self.replay.previous.to_le_bytes());
        put(slot, 96, &self.replay.lsn.to_le_bytes());
        ChunkPlace::encode(self.manifest, &mut slot[104..END]);
        let crc = crc32c(&[slot]);
        put(slot, CRC_OFFSET, &crc.to_le_bytes());
    }

    /// Reads a slot.
    pub(crate) fn parse(layout: &Layout, shard: ShardId, slot: &[u8]) -> Slot {
        if is_zero(slot) {
            return Slot::Blank;
        }
        if slot.len() != ROOT_BYTES || slot[..8] != MAGIC {
            return Slot::Damaged;
        }
        let (head, rest) = slot.split_at(CRC_OFFSET);
        if crc32c(&[head, &[0; 4], &rest[4..]]) != u32_at(slot, CRC_OFFSET) {
            return Slot::Damaged;
        }
        if u32_at(slot, 8) != ROOT_VERSION {
            return Slot::Version(u32_at(slot, 8));
        }
        let ours = array(slot, 16) == layout.identity().pool
            && u16_at(slot, 32) == shard.0
            && u16_at(slot, 34) == layout.shards()
            && u32_at(slot, 36) == layout.segment_bytes();
        if !ours {
            return Slot::Foreign;
        }
        let segment = u32_at(slot, 64);
        let root = Self {
            sequence: u64_at(slot, 40),
            epoch: u64_at(slot, 48),
            durable: u64_at(slot, 56),
            replay: Position {
                segment: (segment != NONE).then_some(SegmentId(segment)),
                offset: u32_at(slot, 68),
                generation: u64_at(slot, 72),
                sequence: u64_at(slot, 80),
                previous: u64_at(slot, 88),
                lsn: u64_at(slot, 96),
            },
            manifest: ChunkPlace::parse(&slot[104..END]),
        };
        let places_exist = root.replay.segment.is_none_or(|segment| layout.has_segment(segment))
            && root.manifest.is_none_or(|chunk| chunk.is_within(layout));
        if places_exist { Slot::Root(root) } else { Slot::Damaged }
    }
}

#[cfg(test)]
mod test;
