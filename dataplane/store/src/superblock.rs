//! The superblock: what a drive says about the pool that it belongs to. Format version 1.
//!
//! Two copies lie on every drive ([`crate::pool::SUPERBLOCK_OFFSETS`]), each in a block of 4096 bytes of which the
//! first 512 carry the fields, so that no drive tears them. All integers are little-endian. Magic, version and
//! checksum keep their places in every version.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `FERRULE\n` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of the 512 bytes with this field zero |
//! | 16 | 8 | features that a reader must know: bit 0, drives have joined |
//! | 24 | 8 | features that a reader may ignore |
//! | 32 | 8 | sequence of this superblock, the higher is the newer |
//! | 40 | 16 | pool UUID |
//! | 56 | 16 | cluster UUID |
//! | 72 | 16 | node UUID |
//! | 88 | 8 | when the pool was made, nanoseconds since 1970-01-01 UTC |
//! | 96 | 4 | segment size |
//! | 100 | 4 | stripe size |
//! | 104 | 4 | size of a directory half |
//! | 108 | 4 | block size |
//! | 112 | 2 | number of shards |
//! | 114 | 2 | number of drives |
//! | 116 | 2 | this drive's number |
//! | 118 | 1 | state: 1 forming, 2 complete |
//! | 119 | 1 | with how many drives the pool was made, where others have joined since, else 0 |
//! | 120 | 136 | zero |
//! | 256 | 256 | drive sizes in bytes, 32 of 8 bytes, zero beyond the last drive |

use io::DriveId;

use crate::pool::bytes::{array, crc32c, is_zero, put, u16_at, u32_at, u64_at};
use crate::pool::{DRIVES_MAX, Geometry, Identity, STRIPE_BYTES};

/// The format that this code writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes that carry fields.
pub const ENCODED_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"FERRULE\n";
const CRC_OFFSET: usize = 12;
const FOUNDERS_OFFSET: usize = 119;
const RESERVED: std::ops::Range<usize> = 120..256;
/// Drives have joined the pool: who does not know that would look for roots in the wrong places.
const FEATURE_GROWN: u64 = 1;
const DRIVE_SIZES_OFFSET: usize = 256;

const _: () = assert!(DRIVE_SIZES_OFFSET + DRIVES_MAX * 8 == ENCODED_BYTES);

/// How far a format has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FormatState {
    /// A format has begun and nothing was ever stored: as good as blank.
    Forming = 1,
    /// Every drive carries what a pool needs.
    Complete = 2,
}

/// What one superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Features that only change what writers may do.
    pub optional_features: u64,
    /// The higher is the newer.
    pub sequence: u64,
    /// Whose the pool is.
    pub identity: Identity,
    /// When the pool was made, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// What was fixed then.
    pub geometry: Geometry,
    /// Which drive of the pool this one is.
    pub drive: DriveId,
    /// How far the format has come.
    pub state: FormatState,
}

/// Why bytes are not a superblock that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockFault {
    /// Nothing was ever written here.
    Blank,
    /// A superblock once, but its checksum or a field is wrong.
    Damaged,
    /// Features of a newer program, without which the pool cannot be used.
    Features(u64),
    /// Something else altogether.
    Foreign,
    /// A format that this program does not know.
    Version(u32),
}

impl Superblock {
    /// Writes the fields into the first [`ENCODED_BYTES`] of `block` and zeros behind them.
    ///
    /// # Panics
    /// If `block` is shorter than that, or the geometry has more drives than a pool can have.
    pub fn encode(&self, block: &mut [u8]) {
        assert!(block.len() >= ENCODED_BYTES);
        assert!(self.geometry.drive_bytes.len() <= DRIVES_MAX);
        let drives = u16::try_from(self.geometry.drive_bytes.len()).expect("at most DRIVES_MAX drives");
        block.fill(0);
        put(block, 0, &MAGIC);
        put(block, 8, &FORMAT_VERSION.to_le_bytes());
        let is_grown = self.geometry.founders < drives;
        let required_features = if is_grown { FEATURE_GROWN } else { 0 };
        put(block, 16, &required_features.to_le_bytes());
        put(block, 24, &self.optional_features.to_le_bytes());
        put(block, 32, &self.sequence.to_le_bytes());
        put(block, 40, &self.identity.pool);
        put(block, 56, &self.identity.cluster);
        put(block, 72, &self.identity.node);
        put(block, 88, &self.created_unix_ns.to_le_bytes());
        put(block, 96, &self.geometry.segment_bytes.to_le_bytes());
        put(block, 100, &STRIPE_BYTES.to_le_bytes());
        put(block, 104, &self.geometry.directory_half_bytes.to_le_bytes());
        put(block, 108, &self.geometry.block_bytes.to_le_bytes());
        put(block, 112, &self.geometry.shards.to_le_bytes());
        put(block, 114, &drives.to_le_bytes());
        put(block, 116, &self.drive.0.to_le_bytes());
        put(block, 118, &[self.state as u8]);
        if is_grown {
            let founders = u8::try_from(self.geometry.founders).expect("fewer than DRIVES_MAX");
            put(block, FOUNDERS_OFFSET, &[founders]);
        }
        for (index, bytes) in self.geometry.drive_bytes.iter().enumerate() {
            put(block, DRIVE_SIZES_OFFSET + index * 8, &bytes.to_le_bytes());
        }
        let crc = crc32c(&[&block[..ENCODED_BYTES]]);
        put(block, CRC_OFFSET, &crc.to_le_bytes());
    }

    /// Reads the fields from a block of a drive.
    ///
    /// # Errors
    /// When the block is not a whole superblock of the known version. A geometry that no pool can have is not found
    /// here but when it is laid out.
    ///
    /// # Panics
    /// If `block` is shorter than [`ENCODED_BYTES`].
    pub fn parse(block: &[u8]) -> Result<Self, SuperblockFault> {
        if is_zero(block) {
            return Err(SuperblockFault::Blank);
        }
        let fields = &block[..ENCODED_BYTES];
        if fields[..8] != MAGIC {
            return Err(SuperblockFault::Foreign);
        }
        if crc32c(&[&fields[..CRC_OFFSET], &[0; 4], &fields[CRC_OFFSET + 4..]]) != u32_at(fields, CRC_OFFSET)
        {
            return Err(SuperblockFault::Damaged);
        }
        let version = u32_at(fields, 8);
        if version != FORMAT_VERSION {
            return Err(SuperblockFault::Version(version));
        }
        let required_features = u64_at(fields, 16);
        if required_features & !FEATURE_GROWN != 0 {
            return Err(SuperblockFault::Features(required_features & !FEATURE_GROWN));
        }
        let drives = usize::from(u16_at(fields, 114));
        let founders = match (required_features, fields[FOUNDERS_OFFSET]) {
            (0, 0) => u16_at(fields, 114),
            (FEATURE_GROWN, founders) if founders > 0 && usize::from(founders) < drives => founders.into(),
            _ => return Err(SuperblockFault::Damaged),
        };
        let state = match fields[118] {
            1 => FormatState::Forming,
            2 => FormatState::Complete,
            _ => return Err(SuperblockFault::Damaged),
        };
        if drives == 0
            || drives > DRIVES_MAX
            || usize::from(u16_at(fields, 116)) >= drives
            || u32_at(fields, 100) != STRIPE_BYTES
            || !is_zero(&fields[RESERVED])
            || !is_zero(&fields[DRIVE_SIZES_OFFSET + drives * 8..])
        {
            return Err(SuperblockFault::Damaged);
        }
        Ok(Self {
            optional_features: u64_at(fields, 24),
            sequence: u64_at(fields, 32),
            identity: Identity {
                pool: array(fields, 40),
                cluster: array(fields, 56),
                node: array(fields, 72),
            },
            created_unix_ns: u64_at(fields, 88),
            geometry: Geometry {
                shards: u16_at(fields, 112),
                segment_bytes: u32_at(fields, 96),
                directory_half_bytes: u32_at(fields, 104),
                block_bytes: u32_at(fields, 108),
                drive_bytes: (0..drives)
                    .map(|index| u64_at(fields, DRIVE_SIZES_OFFSET + index * 8))
                    .collect(),
                founders,
            },
            drive: DriveId(u16_at(fields, 116)),
            state,
        })
    }
}

#[cfg(test)]
mod test;
