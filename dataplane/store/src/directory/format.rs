//! The directory's bytes: headers of its halves and frames of its log. Format version 1, little-endian.
//!
//! A half begins with a header in its first 512 bytes; frames follow from byte 4096, each at a multiple of the pool's
//! block. Checksums are seeded with the pool's UUID, and a frame repeats its generation and place, so that nothing an
//! older pool or an older generation left behind passes for a part of the log.
//!
//! | header | bytes | field | | frame | bytes | field |
//! |---|---|---|---|---|---|---|
//! | 0 | 8 | magic `FERRUDIR` | | 0 | 4 | magic `FeDi` |
//! | 8 | 4 | format version | | 4 | 4 | CRC32C of pool UUID and these 64 bytes, field zero |
//! | 12 | 4 | CRC32C of pool UUID and 512 bytes, field zero | | 8 | 8 | generation |
//! | 16 | 8 | generation | | 16 | 8 | sequence in the generation, from 1 |
//! | 24 | 4 | where the generation's snapshot ends | | 24 | 4 | offset in the half |
//! | 28 | 1 | state: 1 draft, 2 live, 3 retired | | 28 | 4 | bytes of records |
//! | 29 | 483 | zero | | 32 | 4 | CRC32C of the records |
//! | | | | | 36 | 4 | checksum of the frame before, 0 in the first |
//! | | | | | 40 | 4 | number of records |
//! | | | | | 44 | 20 | zero |

use crate::pool::bytes::{crc32c, is_zero, put, u32_at, u64_at};

/// The format that this code writes, and the only one that it reads.
pub(crate) const DIRECTORY_VERSION: u32 = 1;
/// Bytes that are written for a header.
pub(crate) const HEADER_BYTES: u32 = 4096;
/// Where the first frame of a half begins.
pub(crate) const FRAMES_OFFSET: u32 = 4096;
/// The longest frame, padding included: one write, one buffer.
pub(crate) const FRAME_BYTES_MAX: u32 = 256 << 10;
/// What a frame needs beside its records.
pub(crate) const FRAME_HEADER_BYTES: u32 = 64;

const HEADER_MAGIC: [u8; 8] = *b"FERRUDIR";
const HEADER_FIELDS: usize = 512;
const HEADER_CRC: usize = 12;
const FRAME_MAGIC: [u8; 4] = *b"FeDi";
const FRAME_CRC: usize = 4;

/// What a half is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfState {
    /// A snapshot is being written into it; the generation is spent even if that never ends.
    Draft = 1,
    /// It is the log; of two the higher generation is.
    Live = 2,
    /// It was the log.
    Retired = 3,
}

/// The header of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HalfHeader {
    /// What the half is.
    pub(crate) state: HalfState,
    /// Counts snapshots of the directory, from 1; never used twice.
    pub(crate) generation: u64,
    /// Frames before this offset are the snapshot: all of them were durable before the half became live.
    pub(crate) snapshot_end: u32,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Not a header, or not as it was written.
    Damaged,
    /// Of a format that this program does not know.
    Version(u32),
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The generation of its half.
    pub(crate) generation: u64,
    /// Its number in the generation, from 1.
    pub(crate) sequence: u64,
    /// Where it lies in the half.
    pub(crate) offset: u32,
    /// Bytes of its records.
    pub(crate) body_bytes: u32,
    /// How many records it has.
    pub(crate) records: u32,
    /// [`FrameHeader::crc`] of the frame before.
    pub(crate) previous_crc: u32,
    /// Checksum of the records.
    pub(crate) body_crc: u32,
    /// Checksum of this header, and so of the whole chain up to here.
    pub(crate) crc: u32,
}

/// The headers of a directory that nothing was stored in yet.
pub(crate) fn fresh_headers(pool: &[u8; 16]) -> [Vec<u8>; 2] {
    [
        HalfHeader { state: HalfState::Live, generation: 1, snapshot_end: FRAMES_OFFSET },
        HalfHeader { state: HalfState::Retired, generation: 0, snapshot_end: FRAMES_OFFSET },
    ]
    .map(|header| header.encode(pool))
}

impl HalfHeader {
    /// The header's block.
    pub(crate) fn encode(&self, pool: &[u8; 16]) -> Vec<u8> {
        let mut block = vec![0; HEADER_BYTES as usize];
        put(&mut block, 0, &HEADER_MAGIC);
        put(&mut block, 8, &DIRECTORY_VERSION.to_le_bytes());
        put(&mut block, 16, &self.generation.to_le_bytes());
        put(&mut block, 24, &self.snapshot_end.to_le_bytes());
        put(&mut block, 28, &[self.state as u8]);
        let crc = crc32c(&[pool, &block[..HEADER_FIELDS]]);
        put(&mut block, HEADER_CRC, &crc.to_le_bytes());
        block
    }

    /// Reads the header of a half of `half_bytes`.
    pub(crate) fn parse(block: &[u8], pool: &[u8; 16], half_bytes: u32) -> Result<Self, HeaderFault> {
        let fields = &block[..HEADER_FIELDS];
        let crc = crc32c(&[pool, &fields[..HEADER_CRC], &[0; 4], &fields[HEADER_CRC + 4..]]);
        if fields[..8] != HEADER_MAGIC || crc != u32_at(fields, HEADER_CRC) {
            return Err(HeaderFault::Damaged);
        }
        let version = u32_at(fields, 8);
        if version != DIRECTORY_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let state = match fields[28] {
            1 => HalfState::Draft,
            2 => HalfState::Live,
            3 => HalfState::Retired,
            _ => return Err(HeaderFault::Damaged),
        };
        let snapshot_end = u32_at(fields, 24);
        if !(FRAMES_OFFSET..=half_bytes).contains(&snapshot_end) || !is_zero(&fields[29..]) {
            return Err(HeaderFault::Damaged);
        }
        Ok(Self { state, generation: u64_at(fields, 16), snapshot_end })
    }
}

impl FrameHeader {
    /// Completes a frame whose records lie behind [`FRAME_HEADER_BYTES`] of room: fills in the header, pads to whole
    /// blocks, and returns what was filled in.
    pub(crate) fn seal(mut self, frame: &mut Vec<u8>, pool: &[u8; 16], block_bytes: u32) -> Self {
        let (room, body) = frame.split_at_mut(FRAME_HEADER_BYTES as usize);
        self.body_bytes = u32::try_from(body.len()).expect("a frame is bounded by FRAME_BYTES_MAX");
        self.body_crc = crc32c(&[body]);
        room.fill(0);
        put(room, 0, &FRAME_MAGIC);
        put(room, 8, &self.generation.to_le_bytes());
        put(room, 16, &self.sequence.to_le_bytes());
        put(room, 24, &self.offset.to_le_bytes());
        put(room, 28, &self.body_bytes.to_le_bytes());
        put(room, 32, &self.body_crc.to_le_bytes());
        put(room, 36, &self.previous_crc.to_le_bytes());
        put(room, 40, &self.records.to_le_bytes());
        self.crc = crc32c(&[pool, room]);
        put(room, FRAME_CRC, &self.crc.to_le_bytes());
        frame.resize(frame.len().next_multiple_of(block_bytes as usize), 0);
        assert!(frame.len() <= FRAME_BYTES_MAX as usize);
        self
    }

    /// Reads the header at the start of `bytes`; `None` where there is no whole one.
    pub(crate) fn parse(bytes: &[u8], pool: &[u8; 16]) -> Option<Self> {
        let fields = bytes.get(..FRAME_HEADER_BYTES as usize)?;
        if fields[..4] != FRAME_MAGIC || !is_zero(&fields[44..]) {
            return None;
        }
        let crc = crc32c(&[pool, &fields[..FRAME_CRC], &[0; 4], &fields[FRAME_CRC + 4..]]);
        if crc != u32_at(fields, FRAME_CRC) {
            return None;
        }
        let body_bytes = u32_at(fields, 28);
        if body_bytes > FRAME_BYTES_MAX - FRAME_HEADER_BYTES {
            return None;
        }
        Some(Self {
            generation: u64_at(fields, 8),
            sequence: u64_at(fields, 16),
            offset: u32_at(fields, 24),
            body_bytes,
            records: u32_at(fields, 40),
            previous_crc: u32_at(fields, 36),
            body_crc: u32_at(fields, 32),
            crc,
        })
    }

    /// Whether `body` is what the frame was sealed over.
    pub(crate) fn has_body(&self, body: &[u8]) -> bool {
        crc32c(&[body]) == self.body_crc
    }

    /// Bytes that the frame takes in the log.
    pub(crate) fn padded_bytes(&self, block_bytes: u32) -> u32 {
        (FRAME_HEADER_BYTES + self.body_bytes).next_multiple_of(block_bytes)
    }
}

#[cfg(test)]
mod test;
