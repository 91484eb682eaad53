//! CRC32C as the transport's header and data digests use it.

use crc_fast::{CrcAlgorithm, Digest};

static ZEROES: [u8; 4096] = [0; 4096];

/// CRC32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    truncate(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// A CRC32C that grows piece by piece.
#[derive(Debug)]
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn update_zeroes(&mut self, mut len: usize) {
        while len > 0 {
            let count = len.min(ZEROES.len());
            self.0.update(&ZEROES[..count]);
            len -= count;
        }
    }

    pub(crate) fn value(&self) -> u32 {
        truncate(self.0.finalize())
    }
}

fn truncate(crc: u64) -> u32 {
    u32::try_from(crc).expect("a 32-bit CRC")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn crc32c_has_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn zeroes_have_the_digest_of_stored_zeroes() {
        for len in [0, 1, 4095, 4096, 4097, 20_000] {
            let mut crc = Crc32c::new();
            crc.update(b"abc");
            crc.update_zeroes(len);
            let mut bytes = b"abc".to_vec();
            bytes.resize(3 + len, 0);
            assert_eq!(crc.value(), crc32c(&bytes));
        }
    }
}
