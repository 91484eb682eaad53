//! The manifest of a checkpoint: every image's map root, and those of what was cut off, which of them may share blocks,
//! every segment that the shard owns, and all that is counted, in chunks of which each names the one before.
//!
//! | offset | bytes | field of a chunk |
//! |---|---|---|
//! | 0 | 4 | magic `FeMN` |
//! | 4 | 4 | number of entries |
//! | 8 | 16 | the chunk before: segment (2^32 - 1 for none), offset, bytes, CRC32C |
//! | 24 | 8 | zero |
//! | 32 | 32 each | entries |
//!
//! | offset | bytes | image | segment | member of a clique |
//! |---|---|---|---|---|
//! | 0 | 1 | kind 1 | kind 2 | kind 3 |
//! | 1 | 1 | level of the root page | state: 0 free, 1 in use | zero |
//! | 2 | 1 | flags: 1 read-only, 2 made by a fork | zero | zero |
//! | 4 | 4 | of a root that is a leaf, what is in it | number | number of the clique |
//! | 8 | 8 | image | generation | image, or name of what was cut off |
//! | 16 | 8 | place of the root page | sequence of its last batch | zero |
//! | 24 | 8 | lineage | live bytes | zero |
//!
//! | offset | bytes | cut off | totals | written |
//! |---|---|---|---|---|
//! | 0 | 1 | kind 4 | kind 5 | kind 6 |
//! | 1 | 1 | level of the root page | zero | zero |
//! | 4 | 4 | of a root that is a leaf, what is in it | zero | zero |
//! | 8 | 8 | name | the first LSN that is not counted | image |
//! | 16 | 8 | place of the root page | live blocks | bytes that hosts wrote to it |
//! | 24 | 8 | lineage | bytes that these take | zero |
//!
//! The members of a clique follow one another, after all images and all that was cut off. Live bytes and totals are of the
//! moment in which the manifest was made: records before the LSN are in them, later ones are not.

use crate::map::{CutHead, ImageHead, LEVEL_MAX, LeafCount, Place};
use crate::pool::bytes::{put, u32_at, u64_at};
use crate::record::Malformed;
use crate::root::ChunkPlace;
use crate::{SegmentId, VolumeId};

/// Bytes of the head of a chunk, and of an entry.
pub(crate) const ENTRY_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"FeMN";
const READ_ONLY: u8 = 1;
const FORKED: u8 = 2;

/// An entry of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManifestEntry {
    Image { head: ImageHead, level: u8, place: Place, count: LeafCount },
    Segment { segment: SegmentId, in_use: bool, generation: u64, last: u64, live_bytes: u64 },
    Member { clique: u32, image: VolumeId },
    Cut { head: CutHead, level: u8, place: Place, count: LeafCount },
    Totals { counted: u64, blocks: u64, block_bytes: u64 },
    Written { image: VolumeId, bytes: u64 },
}

/// Bytes of a chunk with this many entries.
pub(crate) const fn chunk_bytes(entries: usize) -> usize {
    ENTRY_BYTES * (entries + 1)
}

/// Writes a chunk over `bytes`, which has its length.
pub(crate) fn encode_chunk(entries: &[ManifestEntry], before: Option<ChunkPlace>, bytes: &mut [u8]) {
    bytes.fill(0);
    put(bytes, 0, &MAGIC);
    let count = u32::try_from(entries.len()).expect("a chunk is at most a batch");
    put(bytes, 4, &count.to_le_bytes());
    ChunkPlace::encode(before, &mut bytes[8..24]);
    for (entry, to) in entries.iter().zip(bytes[ENTRY_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
        entry.encode(to);
    }
}

/// Reads a chunk whose checksum was found right; gives the place of the one before.
pub(crate) fn parse_chunk(
    bytes: &[u8],
    entries: &mut Vec<ManifestEntry>,
) -> Result<Option<ChunkPlace>, Malformed> {
    if bytes.len() < ENTRY_BYTES || bytes[..4] != MAGIC {
        return Err(Malformed);
    }
    let count = u32_at(bytes, 4) as usize;
    if bytes.len() != chunk_bytes(count) {
        return Err(Malformed);
    }
    for from in bytes[ENTRY_BYTES..].chunks_exact(ENTRY_BYTES) {
        entries.push(ManifestEntry::parse(from)?);
    }
    Ok(ChunkPlace::parse(&bytes[8..24]))
}

impl ManifestEntry {
    fn encode(&self, to: &mut [u8]) {
        match *self {
            Self::Image { head, level, place, count } => {
                to[0] = 1;
                put(to, 4, &u32::from(count.0).to_le_bytes());
                to[1] = level;
                to[2] = u8::from(head.read_only) * READ_ONLY + u8::from(head.forked) * FORKED;
                put(to, 8, &head.image.0.to_le_bytes());
                put(to, 16, &place.0.to_le_bytes());
                put(to, 24, &head.lineage.0.to_le_bytes());
            }
            Self::Segment { segment, in_use, generation, last, live_bytes } => {
                to[0] = 2;
                to[1] = u8::from(in_use);
                put(to, 4, &segment.0.to_le_bytes());
                put(to, 8, &generation.to_le_bytes());
                put(to, 16, &last.to_le_bytes());
                put(to, 24, &live_bytes.to_le_bytes());
            }
            Self::Member { clique, image } => {
                to[0] = 3;
                put(to, 4, &clique.to_le_bytes());
                put(to, 8, &image.0.to_le_bytes());
            }
            Self::Cut { head, level, place, count } => {
                to[0] = 4;
                to[1] = level;
                put(to, 4, &u32::from(count.0).to_le_bytes());
                put(to, 8, &head.name.0.to_le_bytes());
                put(to, 16, &place.0.to_le_bytes());
                put(to, 24, &head.lineage.0.to_le_bytes());
            }
            Self::Totals { counted, blocks, block_bytes } => {
                to[0] = 5;
                put(to, 8, &counted.to_le_bytes());
                put(to, 16, &blocks.to_le_bytes());
                put(to, 24, &block_bytes.to_le_bytes());
            }
            Self::Written { image, bytes } => {
                to[0] = 6;
                put(to, 8, &image.0.to_le_bytes());
                put(to, 16, &bytes.to_le_bytes());
            }
        }
    }

    fn parse(from: &[u8]) -> Result<Self, Malformed> {
        match (from[0], from[1]) {
            (1, level) if level <= LEVEL_MAX && from[2] & !(READ_ONLY | FORKED) == 0 => Ok(Self::Image {
                head: ImageHead {
                    image: VolumeId(u64_at(from, 8)),
                    lineage: VolumeId(u64_at(from, 24)),
                    read_only: from[2] & READ_ONLY != 0,
                    forked: from[2] & FORKED != 0,
                },
                level,
                place: Place(u64_at(from, 16)),
                count: parse_count(from, level)?,
            }),
            (2, state @ 0..=1) => Ok(Self::Segment {
                segment: SegmentId(u32_at(from, 4)),
                in_use: state == 1,
                generation: u64_at(from, 8),
                last: u64_at(from, 16),
                live_bytes: u64_at(from, 24),
            }),
            (3, 0) => Ok(Self::Member { clique: u32_at(from, 4), image: VolumeId(u64_at(from, 8)) }),
            (4, level) if level <= LEVEL_MAX => Ok(Self::Cut {
                head: CutHead { name: VolumeId(u64_at(from, 8)), lineage: VolumeId(u64_at(from, 24)) },
                level,
                place: Place(u64_at(from, 16)),
                count: parse_count(from, level)?,
            }),
            (5, 0) => Ok(Self::Totals {
                counted: u64_at(from, 8),
                blocks: u64_at(from, 16),
                block_bytes: u64_at(from, 24),
            }),
            (6, 0) => Ok(Self::Written { image: VolumeId(u64_at(from, 8)), bytes: u64_at(from, 16) }),
            _ => Err(Malformed),
        }
    }
}

/// What is in a root page that is a leaf.
fn parse_count(from: &[u8], level: u8) -> Result<LeafCount, Malformed> {
    let count = LeafCount(u16::try_from(u32_at(from, 4)).map_err(|_| Malformed)?);
    let is_sound = count.is_sound() && (level == 0 || count == LeafCount::default());
    if is_sound { Ok(count) } else { Err(Malformed) }
}
