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
//! | 64 | 8 each | the entries that are not zero, in order; zeros up to the length |

use crate::VolumeId;
use crate::checksum;
use crate::pool::bytes::{array, is_zero, put, u32_at, u64_at};
use crate::record::Malformed;

use super::entry::PAGE_UNIT_BYTES;

/// Entries of a page, of every level.
pub(crate) const FANOUT: usize = 64;
/// Bits of an index that one level consumes.
pub(crate) const FANOUT_BITS: u32 = 6;
/// The highest level a page can have: enough for every block that a volume can address.
pub(crate) const LEVEL_MAX: u8 = 8;
/// The longest page on a drive.
pub(crate) const PAGE_BYTES_MAX: usize = PAGE_HEADER_BYTES + FANOUT * 8;

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
}

impl DiskPage {
    /// Bytes of the page on a drive, a multiple of 64.
    pub(crate) fn len_bytes(&self) -> usize {
        let present = self.entries.iter().filter(|&&entry| entry != 0).count();
        (PAGE_HEADER_BYTES + present * 8).next_multiple_of(PAGE_UNIT_BYTES as usize)
    }

    /// Writes the page over `bytes`, which has its length; gives its checksum.
    pub(crate) fn encode(&self, bytes: &mut [u8]) -> u32 {
        bytes.fill(0);
        put(bytes, 0, &MAGIC);
        bytes[4] = self.level;
        bytes[5] = u8::try_from(bytes.len() / PAGE_UNIT_BYTES as usize).expect("a page is at most 576 bytes");
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
        let needed = PAGE_HEADER_BYTES + present.count_ones() as usize * 8;
        if len != needed.next_multiple_of(PAGE_UNIT_BYTES as usize) || bytes.len() < len {
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
        let page = Self {
            lineage: VolumeId(u64_at(bytes, 8)),
            level: bytes[4],
            index: u64_at(bytes, 16),
            lsn: u64_at(bytes, 24),
            entries,
        };
        Ok((page, crc))
    }
}
