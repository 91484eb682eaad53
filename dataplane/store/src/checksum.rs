//! Checksums of blocks and batches.

use crc_fast::CrcAlgorithm;

/// CRC32C of a block of data, bound to its place in the volume: data of another block never passes for this one's.
///
/// The volume is not part of it, because clones share blocks.
pub(crate) fn block_crc(block: u64, bytes: &[u8]) -> u32 {
    crc32c(bytes) ^ seed(block)
}

/// CRC32C, the checksum of everything but the log's chain.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    low32(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// The hash by which a batch names the one before it.
pub(crate) fn chain_hash(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// A different number for each of any 2^32 blocks in a row.
fn seed(block: u64) -> u32 {
    const ODD: u32 = 0x9e37_79b1;
    (low32(block) ^ low32(block >> 32).rotate_left(16)).wrapping_mul(ODD)
}

fn low32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn crc32c_is_the_castagnoli_polynomial() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn chain_hash_is_the_nvme_polynomial() {
        assert_eq!(chain_hash(b"123456789"), 0xae8b_1486_0a79_9888);
    }

    #[test]
    fn a_block_does_not_pass_for_another() {
        let bytes = [7_u8; 4096];
        for block in 0..1000 {
            assert_ne!(block_crc(block, &bytes) & 0x7f_ffff, block_crc(block + 1, &bytes) & 0x7f_ffff);
        }
        assert_ne!(block_crc(1, &bytes), block_crc(1 << 32, &bytes));
    }
}
