//! Pages of the map, in memory and on the drives.
//!
//! On a drive a page is self-describing and holds only the entries that are not zero. All integers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `FeMP` |
//! | 4 | 1 | level: 0 for a leaf |
//! | 5 | 1 | length in units of 64 bytes |
//! | 6 | 2 | zero |
//! | 8 | 8 | lineage: the volume from which all images that refer to it come |
//! | 16 | 8 | index of the page in its level |
//! | 24 | 8 | highest LSN of a record that changed it or what is below it |
//! | 32 | 8 | zero |
//! | 40 | 8 | a bit for each entry that is not zero |
//! | 48 | 4 | CRC32C of the whole length with this field zero |
//! | 52 | 12 | zero |
//! | 64 | 8 each | the entries that are not zero, in order |
//! | | 2 each | level 1 alone: what is in the leaf of each of these as it was written, see [`LeafCount`] |
//! | | | zeros up to the length |

use crate::VolumeId;
use crate::checksum;
use crate::codec::RAW_UNITS;
use crate::pool::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use crate::record::Malformed;

use super::entry::{Entry, PAGE_UNIT_BYTES};

/// Entries of a page, of every level.
pub(crate) const FANOUT: usize = 64;
/// Bits of an index that one level consumes.
pub(crate) const FANOUT_BITS: u32 = 6;
/// The highest level a page can have: enough for every block that a volume can address.
pub(crate) const LEVEL_MAX: u8 = 8;
/// The longest page on a drive.
pub(crate) const PAGE_BYTES_MAX: usize = PAGE_HEADER_BYTES + FANOUT * (8 + size_of::<LeafCount>());

const PAGE_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"FeMP";
const CRC_OFFSET: usize = 48;

/// A page as it lies on a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskPage {
    pub(crate) lineage: VolumeId,
    pub(crate) level: u8,
    pub(crate) index: u64,
    pub(crate) lsn: u64,
    pub(crate) entries: [u64; FANOUT],
    /// Of a page right above the leaves, what is in each of them as it was written; else nothing.
    pub(crate) counts: [LeafCount; FANOUT],
}

/// How many blocks a leaf maps (bits 0 to 6), and how many units of 512 bytes compression saves of them (bits 7 to 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeafCount(pub(crate) u16);

impl LeafCount {
    const SAVED_SHIFT: u32 = 7;

    pub(crate) fn new(mapped: u32, saved: u32) -> Self {
        Self(u16::try_from(mapped | saved << Self::SAVED_SHIFT).expect("64 blocks save 448 units at most"))
    }

    pub(crate) fn of(entries: &[u64; FANOUT]) -> Self {
        let mapped = entries.iter().map(|&entry| u32::from(entry != 0)).sum();
        let saved = entries.iter().map(|&entry| Entry(entry).saved_units()).sum::<u64>();
        Self::new(mapped, u32::try_from(saved).expect("at most 8 units for each of 64 blocks"))
    }

    pub(crate) fn mapped(self) -> u32 {
        u32::from(self.0) & ((1 << Self::SAVED_SHIFT) - 1)
    }

    pub(crate) fn saved(self) -> u32 {
        u32::from(self.0) >> Self::SAVED_SHIFT
    }

    /// Whether a leaf can hold so much.
    pub(crate) fn is_sound(self) -> bool {
        self.mapped() as usize <= FANOUT && self.saved() < self.mapped() * u32::from(RAW_UNITS)
            || self == Self::default()
    }
}

/// Bytes of a page with so many entries.
fn page_bytes(level: u8, present: usize) -> usize {
    let entry_bytes = if level == 1 { 8 + size_of::<LeafCount>() } else { 8 };
    (PAGE_HEADER_BYTES + present * entry_bytes).next_multiple_of(PAGE_UNIT_BYTES as usize)
}

impl DiskPage {
    /// Bytes of the page on a drive, a multiple of 64.
    pub(crate) fn len_bytes(&self) -> usize {
        page_bytes(self.level, self.entries.iter().filter(|&&entry| entry != 0).count())
    }

    /// Writes the page over `bytes`, which has its length; gives its checksum.
    pub(crate) fn encode(&self, bytes: &mut [u8]) -> u32 {
        bytes.fill(0);
        put(bytes, 0, &MAGIC);
        bytes[4] = self.level;
        bytes[5] = u8::try_from(bytes.len() / PAGE_UNIT_BYTES as usize).expect("a page is at most 704 bytes");
        put(bytes, 8, &self.lineage.0.to_le_bytes());
        put(bytes, 16, &self.index.to_le_bytes());
        put(bytes, 24, &self.lsn.to_le_bytes());
        let mut present = 0_u64;
        let mut at = PAGE_HEADER_BYTES;
        for (slot, &entry) in self.entries.iter().enumerate() {
            if entry != 0 {
                present |= 1 << slot;
                put(bytes, at, &entry.to_le_bytes());
                at += 8;
            }
        }
        if self.level == 1 {
            for (count, _) in self.counts.iter().zip(&self.entries).filter(|(_, entry)| **entry != 0) {
                put(bytes, at, &count.0.to_le_bytes());
                at += size_of::<LeafCount>();
            }
        }
        put(bytes, 40, &present.to_le_bytes());
        let crc = checksum::crc32c(bytes);
        put(bytes, CRC_OFFSET, &crc.to_le_bytes());
        crc
    }

    /// Reads a page that begins `bytes`; gives its checksum with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), Malformed> {
        if bytes.len() < PAGE_HEADER_BYTES || bytes[..4] != MAGIC || bytes[4] > LEVEL_MAX {
            return Err(Malformed);
        }
        let len = usize::from(bytes[5]) * PAGE_UNIT_BYTES as usize;
        let present = u64_at(bytes, 40);
        if len != page_bytes(bytes[4], present.count_ones() as usize) || bytes.len() < len {
            return Err(Malformed);
        }
        let mut head: [u8; PAGE_HEADER_BYTES] = array(bytes, 0);
        head[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
        let crc = u32_at(bytes, CRC_OFFSET);
        if crate::pool::bytes::crc32c(&[&head, &bytes[PAGE_HEADER_BYTES..len]]) != crc {
            return Err(Malformed);
        }
        if !is_zero(&bytes[6..8]) || !is_zero(&bytes[32..40]) || !is_zero(&bytes[52..PAGE_HEADER_BYTES]) {
            return Err(Malformed);
        }
        let mut entries = [0; FANOUT];
        let mut at = PAGE_HEADER_BYTES;
        for (slot, entry) in entries.iter_mut().enumerate() {
            if present >> slot & 1 != 0 {
                *entry = u64_at(bytes, at);
                at += 8;
            }
        }
        let mut counts = [LeafCount::default(); FANOUT];
        if bytes[4] == 1 {
            for (count, _) in counts.iter_mut().zip(&entries).filter(|(_, entry)| **entry != 0) {
                *count = LeafCount(u16_at(bytes, at));
                at += size_of::<LeafCount>();
            }
        }
        let page = Self {
            lineage: VolumeId(u64_at(bytes, 8)),
            level: bytes[4],
            index: u64_at(bytes, 16),
            lsn: u64_at(bytes, 24),
            entries,
            counts,
        };
        Ok((page, crc))
    }
}
