//! Data that is written: unique and incompressible at the cost of a stamp a logical block, or, to be verified, bytes
//! that follow from address and version.
//!
//! A logical block begins with a stamp of 32 bytes: kind, LBA, version, seed. In a block of the kind that can be
//! verified the rest is a stretch of a fixed pool of random bytes, and which one follows from the stamp.

use super::plan::scramble;

/// Bytes of a stamp.
const STAMP_LEN: usize = 32;
/// Kind of a block that can be verified whole.
const KIND_VERIFIED: u64 = u64::from_le_bytes(*b"FeLoadVf");
/// Kind of a block whose stamp alone means something.
const KIND_STAMPED: u64 = u64::from_le_bytes(*b"FeLoadSt");
/// Bytes of the pool beyond the longest logical block.
const POOL_BYTES: usize = 1 << 20;

/// What is asked of a logical block that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Anything that is not of another place, and is whole.
    Unknown,
    /// The write with this version, and this run's seed.
    Version(u64),
}

/// What is wrong with a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    #[error("LBA {lba}: holds data of LBA {found}")]
    Address { lba: u64, found: u64 },
    #[error("LBA {lba}: version {found} of seed {found_seed}, expected version {expected}")]
    Version { lba: u64, found: u64, found_seed: u64, expected: u64 },
    #[error("LBA {lba}: no data of this load, expected version {expected}")]
    Foreign { lba: u64, expected: u64 },
    #[error("LBA {lba}: version {version} differs from what was written at byte {at}")]
    Body { lba: u64, version: u64, at: usize },
}

/// Makes and checks the data of one queue.
#[derive(Debug)]
pub(super) struct Payloads {
    pool: Box<[u8]>,
    lba_bytes: usize,
    seed: u64,
    verify: bool,
    /// Makes stamps of unverified writes unique.
    counter: u64,
}

impl Payloads {
    /// For logical blocks of `lba_bytes`, at least 512.
    pub(super) fn new(lba_bytes: usize, seed: u64, verify: bool) -> Self {
        let mut pool = vec![0; POOL_BYTES + lba_bytes].into_boxed_slice();
        // The same for every run, so that one can verify what another wrote.
        fill(&mut pool, 0x4665_4c6f_6164);
        Self { pool, lba_bytes, seed, verify, counter: 0 }
    }

    /// Random bytes for a block of memory that will be stamped again and again.
    pub(super) fn prepare(&self, bytes: &mut [u8], number: u64) {
        fill(bytes, scramble(self.seed ^ number.rotate_left(32)));
    }

    /// Makes `bytes` the data of a write of `version` at `lba`.
    pub(super) fn stamp(&mut self, bytes: &mut [u8], lba: u64, version: u64) {
        self.counter += 1;
        let (kind, version) =
            if self.verify { (KIND_VERIFIED, version) } else { (KIND_STAMPED, self.counter) };
        for (index, block) in bytes.chunks_exact_mut(self.lba_bytes).enumerate() {
            let lba = lba + index as u64;
            let (stamp, body) = block.split_at_mut(STAMP_LEN);
            for (field, value) in stamp.chunks_exact_mut(8).zip([kind, lba, version, self.seed]) {
                field.copy_from_slice(&value.to_le_bytes());
            }
            if self.verify {
                body.copy_from_slice(body_of(&self.pool, body.len(), lba, version, self.seed));
            }
        }
    }

    /// Checks what was read at `lba`, block by block, to the first that is wrong.
    pub(super) fn check(&self, bytes: &[u8], lba: u64, expected: Expected) -> Result<(), Mismatch> {
        let mut blocks = (lba..).zip(bytes.chunks_exact(self.lba_bytes));
        blocks.try_for_each(|(lba, block)| self.check_block(block, lba, expected))
    }

    fn check_block(&self, block: &[u8], lba: u64, expected: Expected) -> Result<(), Mismatch> {
        let (stamp, body) = block.split_at(STAMP_LEN);
        let field = |at: usize| stamp[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let (kind, found, version, seed) = (field(0), field(8), field(16), field(24));
        if kind != KIND_VERIFIED && kind != KIND_STAMPED {
            return match expected {
                Expected::Unknown => Ok(()),
                Expected::Version(expected) => Err(Mismatch::Foreign { lba, expected }),
            };
        }
        if found != lba {
            return Err(Mismatch::Address { lba, found });
        }
        if let Expected::Version(expected) = expected
            && (kind, version, seed) != (KIND_VERIFIED, expected, self.seed)
        {
            return Err(Mismatch::Version { lba, found: version, found_seed: seed, expected });
        }
        let whole = body_of(&self.pool, body.len(), lba, version, seed);
        if kind == KIND_VERIFIED && body != whole {
            let same = body.iter().zip(whole).take_while(|(a, b)| a == b).count();
            return Err(Mismatch::Body { lba, version, at: STAMP_LEN + same });
        }
        Ok(())
    }
}

/// The bytes after the stamp of a block that can be verified.
fn body_of(pool: &[u8], len: usize, lba: u64, version: u64, seed: u64) -> &[u8] {
    let start = scramble(lba ^ scramble(version ^ scramble(seed))) as usize % POOL_BYTES;
    &pool[start..start + len]
}

fn fill(bytes: &mut [u8], seed: u64) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = scramble(seed.wrapping_add(index as u64)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payloads: &mut Payloads, lba: u64, version: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        payloads.stamp(&mut bytes, lba, version);
        bytes
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        for lba_bytes in [512, 4096] {
            let mut payloads = Payloads::new(lba_bytes, 7, true);
            let bytes = written(&mut payloads, 80, 3);
            assert_eq!(payloads.check(&bytes, 80, Expected::Version(3)), Ok(()));
            assert_eq!(payloads.check(&bytes, 80, Expected::Unknown), Ok(()));
            let another_run = Payloads::new(lba_bytes, 8, true);
            assert_eq!(another_run.check(&bytes, 80, Expected::Unknown), Ok(()), "any run can verify");
        }
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let mut payloads = Payloads::new(512, 7, true);
        let mut bytes = written(&mut payloads, 80, 3);
        assert_eq!(
            payloads.check(&bytes, 81, Expected::Unknown),
            Err(Mismatch::Address { lba: 81, found: 80 }),
            "misplaced"
        );
        assert_eq!(
            payloads.check(&bytes, 80, Expected::Version(4)),
            Err(Mismatch::Version { lba: 80, found: 3, found_seed: 7, expected: 4 }),
            "stale"
        );
        assert_eq!(
            payloads.check(&[0; 4096], 80, Expected::Version(3)),
            Err(Mismatch::Foreign { lba: 80, expected: 3 }),
            "lost"
        );
        assert_eq!(payloads.check(&[0; 4096], 80, Expected::Unknown), Ok(()), "never written");
        bytes[512 + 100] ^= 1;
        assert_eq!(
            payloads.check(&bytes, 80, Expected::Version(3)),
            Err(Mismatch::Body { lba: 81, version: 3, at: 100 }),
            "spoiled"
        );
    }

    #[test]
    fn unverified_writes_are_unique_and_random() {
        let mut payloads = Payloads::new(4096, 7, false);
        let mut bytes = vec![0; 4096];
        payloads.prepare(&mut bytes, 0);
        payloads.stamp(&mut bytes, 5, 0);
        let first = bytes.clone();
        payloads.stamp(&mut bytes, 5, 0);
        assert_ne!(first, bytes, "the same place twice");
        let mut counts = [0_u32; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| *count < 48), "bytes are spread evenly: {counts:?}");
    }
}
