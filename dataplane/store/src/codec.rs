//! How a block is stored: as it is, or compressed by LZ4 behind a prefix that says what it is.
//!
//! A compressed block takes 1 to 7 units of 512 bytes. All integers are little-endian.
//!
//! | offset | bytes | field of the prefix |
//! |---|---|---|
//! | 0 | 4 | CRC32C of what follows up to the payload's end, seeded with the block as for data that is stored as it is |
//! | 4 | 1 | codec: 1, LZ4 block format |
//! | 5 | 1 | zero |
//! | 6 | 2 | bytes of the payload |
//! | 8 | | the payload; zeros up to the next multiple of 512 |
//!
//! The checksum is of what is stored: cleaning and recovery check compressed blocks without decompressing them, and
//! nothing but what was written ever reaches the decompressor. That one is safe for any bytes all the same, and what
//! does not come to a whole block is refused.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::BLOCK_BYTES;
use crate::checksum;
use crate::pool::bytes::{put, u16_at, u32_at};

/// What a stored block is measured in.
pub(crate) const UNIT_BYTES: u32 = 512;
/// Units of a block that is stored as it is.
pub(crate) const RAW_UNITS: u8 = 8;
/// The number of LZ4 in records and prefixes; 0 is no codec.
pub(crate) const LZ4: u8 = 1;
/// The most that a compressed block takes.
pub(crate) const PACKED_BYTES_MAX: usize = (RAW_UNITS as usize - 1) * UNIT_BYTES as usize;

const BLOCK: usize = BLOCK_BYTES as usize;
const PREFIX_BYTES: usize = 8;
const CODEC_OFFSET: usize = 4;
const LEN_OFFSET: usize = 6;
/// After a block that did not compress those that look like noise are not tried, but every so many.
const TRY_EVERY: u32 = 16;

const _: () = assert!(RAW_UNITS as u32 * UNIT_BYTES == BLOCK_BYTES);

/// What records and map entries say of a stored block beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Of a compressed block, that of its prefix.
    pub(crate) crc: u32,
    units: u8,
}

/// Compressed blocks one behind the other, as they will lie in a batch, and the tables that making them needs.
#[derive(Default)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    filled: usize,
    table: Option<Box<CompressTable>>,
    /// Blocks since the last that compressed.
    misses: u32,
}

impl Form {
    /// Of a block that is stored as it is.
    pub(crate) fn raw(crc: u32) -> Self {
        Self { crc, units: RAW_UNITS }
    }

    /// Of a compressed block of 1 to 7 units.
    pub(crate) fn packed(crc: u32, units: u8) -> Option<Self> {
        (1..RAW_UNITS).contains(&units).then_some(Self { crc, units })
    }

    pub(crate) fn is_packed(self) -> bool {
        self.units != RAW_UNITS
    }

    /// Units of 512 bytes that it takes.
    pub(crate) fn units(self) -> u8 {
        self.units
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(self) -> u32 {
        u32::from(self.units) * UNIT_BYTES
    }

    /// The form in one word.
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.crc) | u64::from(self.units) << 32
    }

    /// The reverse of [`Form::to_word`].
    pub(crate) fn from_word(word: u64) -> Self {
        let [a, b, c, d, units, ..] = word.to_le_bytes();
        Self { crc: u32::from_le_bytes([a, b, c, d]), units }
    }

    /// Whether `stored`, which has the length of the form, is what was stored for the block.
    pub(crate) fn is_of(self, block: u64, stored: &[u8]) -> bool {
        let crc = if self.is_packed() {
            packed_crc(block, stored)
        } else {
            Some(checksum::block_crc(block, stored))
        };
        crc == Some(self.crc)
    }
}

impl Packer {
    /// Forgets what was packed.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// The compressed blocks from `start` on.
    pub(crate) fn bytes(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes[start..start + len]
    }

    /// How many bytes of compressed blocks there are.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Takes the last block back, which has this form.
    pub(crate) fn take_back(&mut self, form: Form) {
        self.filled -= form.bytes() as usize;
    }

    /// Compresses a block behind those before it; `None` if that does not save a unit.
    pub(crate) fn pack(&mut self, block: u64, bytes: &[u8]) -> Option<Form> {
        assert!(bytes.len() == BLOCK);
        if self.misses > 0 && !self.misses.is_multiple_of(TRY_EVERY) && looks_like_noise(bytes) {
            self.misses += 1;
            return None;
        }
        let most = self.filled + PREFIX_BYTES + get_maximum_output_size(BLOCK);
        if self.bytes.len() < most {
            self.bytes.resize(most, 0);
        }
        let table = self.table.get_or_insert_with(|| Box::new(CompressTable::small()));
        let stored = &mut self.bytes[self.filled..];
        let len = compress_into_with_table(bytes, &mut stored[PREFIX_BYTES..], table).ok();
        let Some(len) = len.filter(|len| PREFIX_BYTES + len <= PACKED_BYTES_MAX) else {
            self.misses += 1;
            return None;
        };
        self.misses = 0;
        let end = PREFIX_BYTES + len;
        let whole = end.next_multiple_of(UNIT_BYTES as usize);
        stored[end..whole].fill(0);
        put(stored, CODEC_OFFSET, &[LZ4, 0]);
        put(stored, LEN_OFFSET, &u16::try_from(len).ok()?.to_le_bytes());
        let crc = checksum::block_crc(block, &stored[CODEC_OFFSET..end]);
        put(stored, 0, &crc.to_le_bytes());
        self.filled += whole;
        Form::packed(crc, u8::try_from(whole / UNIT_BYTES as usize).ok()?)
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// The checksum of a compressed block, if it is what its prefix says, which takes the length of `stored`.
pub(crate) fn packed_crc(block: u64, stored: &[u8]) -> Option<u32> {
    let end = PREFIX_BYTES + payload(stored)?.len();
    let crc = checksum::block_crc(block, &stored[CODEC_OFFSET..end]);
    (crc == u32_at(stored, 0)).then_some(crc)
}

/// Decompresses a block that was checked; false if it does not come to a whole one.
pub(crate) fn unpack(stored: &[u8], to: &mut [u8]) -> bool {
    payload(stored).is_some_and(|payload| decompress_into(payload, to).is_ok_and(|len| len == to.len()))
}

/// The payload behind a prefix, if that is one and `stored` is as long as it asks for.
fn payload(stored: &[u8]) -> Option<&[u8]> {
    let prefix = stored.get(..PREFIX_BYTES)?;
    let end = PREFIX_BYTES + usize::from(u16_at(prefix, LEN_OFFSET));
    let is_one = prefix[CODEC_OFFSET..LEN_OFFSET] == [LZ4, 0]
        && end.next_multiple_of(UNIT_BYTES as usize) == stored.len();
    if is_one { stored.get(PREFIX_BYTES..end) } else { None }
}

/// Whether a sample of the bytes has about as many different values as one of random bytes has: 162 of 256, five more or
/// less. What compresses rarely comes near.
fn looks_like_noise(bytes: &[u8]) -> bool {
    const DIFFERENT_MIN: u32 = 148;
    let mut seen = [0_u64; 4];
    for (at, stretch) in bytes.chunks_exact(64).enumerate() {
        // Not always the same four: what is written in rows has the same at the same place of each.
        for &byte in &stretch[at % 16 * 4..][..4] {
            seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }
    seen.iter().map(|word| word.count_ones()).sum::<u32>() >= DIFFERENT_MIN
}

#[cfg(test)]
mod test;
