//! Data that is written: unique and incompressible at the cost of a stamp a logical block, or, to be verified, bytes
//! that follow from address and version.
//!
//! A logical block begins with a stamp of 32 bytes: kind, LBA, version, seed. Then come, for the share that is asked for,
//! words, which any codec makes shorter, and random bytes. In a block of the kind that can be verified, which also tells the
//! share, both are stretches of fixed pools, and which ones follows from the stamp.

use super::plan::scramble;

/// Bytes of a stamp.
const STAMP_LEN: usize = 32;
/// Kind of a block that can be verified whole; the share of words in percent is in the last byte, by exclusive or.
const KIND_VERIFIED: u64 = u64::from_le_bytes(*b"FeLoadVf");
/// Kind of a block whose stamp alone means something.
const KIND_STAMPED: u64 = u64::from_le_bytes(*b"FeLoadSt");
/// Bytes of a pool beyond the longest logical block.
const POOL_BYTES: usize = 1 << 20;
/// What words are made of.
const WORDS: [&str; 32] = [
    "anchor",
    "barrel",
    "canvas",
    "compass",
    "current",
    "deck",
    "ebb",
    "fathom",
    "galley",
    "harbour",
    "island",
    "jetty",
    "keel",
    "lantern",
    "log of the watch",
    "mainsail",
    "north",
    "oakum",
    "pilot",
    "quay",
    "rigging",
    "sextant",
    "shore",
    "spar",
    "starboard",
    "tide",
    "the wind",
    "undertow",
    "voyage",
    "wake",
    "water",
    "yard",
];

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

/// The seed of what a run writes: another one for each run. Were it the same, what an earlier run with the same options has
/// left would pass for what this one wrote, and a write that was lost would not be seen.
pub(super) fn stamp_seed(seed: u64, run: u64) -> u64 {
    scramble(seed ^ scramble(run))
}

/// Makes and checks the data of one queue.
#[derive(Debug)]
pub(super) struct Payloads {
    noise: Box<[u8]>,
    words: Box<[u8]>,
    lba_bytes: usize,
    seed: u64,
    verify: bool,
    words_percent: u8,
    /// Makes stamps of unverified writes unique.
    counter: u64,
}

impl Payloads {
    /// For logical blocks of `lba_bytes`, at least 512, of which so much is words.
    pub(super) fn new(lba_bytes: usize, seed: u64, verify: bool, words_percent: u8) -> Self {
        // The same for every run, so that one can verify what another wrote.
        let mut noise = vec![0; POOL_BYTES + lba_bytes].into_boxed_slice();
        fill(&mut noise, 0x4665_4c6f_6164);
        let words = words(POOL_BYTES + lba_bytes);
        Self { noise, words, lba_bytes, seed, verify, words_percent: words_percent.min(100), counter: 0 }
    }

    /// Content for a block of memory that will be stamped again and again.
    pub(super) fn prepare(&self, bytes: &mut [u8], number: u64) {
        let seed = scramble(self.seed ^ number.rotate_left(32));
        fill(bytes, seed);
        for (index, block) in (0..).zip(bytes.chunks_exact_mut(self.lba_bytes)) {
            let body = &mut block[STAMP_LEN..];
            let [words, _] = self.body(body.len(), self.words_percent, scramble(seed ^ index));
            body[..words.len()].copy_from_slice(words);
        }
    }

    /// Makes `bytes` the data of a write of `version` at `lba`.
    pub(super) fn stamp(&mut self, bytes: &mut [u8], lba: u64, version: u64) {
        self.counter += 1;
        let (kind, version) =
            if self.verify { (kind(self.words_percent), version) } else { (KIND_STAMPED, self.counter) };
        for (index, block) in bytes.chunks_exact_mut(self.lba_bytes).enumerate() {
            let lba = lba + index as u64;
            let (stamp, body) = block.split_at_mut(STAMP_LEN);
            for (field, value) in stamp.chunks_exact_mut(8).zip([kind, lba, version, self.seed]) {
                field.copy_from_slice(&value.to_le_bytes());
            }
            if self.verify {
                let [words, noise] =
                    self.body(body.len(), self.words_percent, place(lba, version, self.seed));
                body[..words.len()].copy_from_slice(words);
                body[words.len()..].copy_from_slice(noise);
            }
        }
    }

    /// Checks what was read at `lba`, block by block, to the first that is wrong. True if any block told what
    /// it is to hold: of one that no load has written, nothing can be said.
    pub(super) fn check(&self, bytes: &[u8], lba: u64, expected: Expected) -> Result<bool, Mismatch> {
        let mut blocks = (lba..).zip(bytes.chunks_exact(self.lba_bytes));
        blocks.try_fold(false, |any, (lba, block)| Ok(self.check_block(block, lba, expected)? || any))
    }

    fn check_block(&self, block: &[u8], lba: u64, expected: Expected) -> Result<bool, Mismatch> {
        let (stamp, body) = block.split_at(STAMP_LEN);
        let field = |at: usize| stamp[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let (found_kind, found, version, seed) = (field(0), field(8), field(16), field(24));
        let words_percent = words_percent(found_kind);
        if words_percent.is_none() && found_kind != KIND_STAMPED {
            return match expected {
                Expected::Unknown => Ok(false),
                Expected::Version(expected) => Err(Mismatch::Foreign { lba, expected }),
            };
        }
        if found != lba {
            return Err(Mismatch::Address { lba, found });
        }
        if let Expected::Version(expected) = expected
            && (found_kind, version, seed) != (kind(self.words_percent), expected, self.seed)
        {
            return Err(Mismatch::Version { lba, found: version, found_seed: seed, expected });
        }
        let Some(percent) = words_percent else { return Ok(true) };
        let [words, noise] = self.body(body.len(), percent, place(lba, version, seed));
        if body[..words.len()] != *words || body[words.len()..] != *noise {
            let whole = words.iter().chain(noise);
            let same = body.iter().zip(whole).take_while(|(a, b)| a == b).count();
            return Err(Mismatch::Body { lba, version, at: STAMP_LEN + same });
        }
        Ok(true)
    }

    /// The bytes after a stamp: words, then noise, from a place of their pools.
    fn body(&self, len: usize, words_percent: u8, place: u64) -> [&[u8]; 2] {
        let start = place as usize % POOL_BYTES;
        let words = len * usize::from(words_percent) / 100;
        [&self.words[start..start + words], &self.noise[start + words..start + len]]
    }
}

/// Kind of a block that can be verified and has so many words.
fn kind(words_percent: u8) -> u64 {
    KIND_VERIFIED ^ u64::from(words_percent) << 56
}

/// The share of words in a block of a kind that can be verified.
fn words_percent(kind: u64) -> Option<u8> {
    let percent = (kind ^ KIND_VERIFIED).rotate_left(8);
    u8::try_from(percent).ok().filter(|percent| *percent <= 100)
}

/// Where in the pools the bytes of a block that can be verified are.
fn place(lba: u64, version: u64, seed: u64) -> u64 {
    scramble(lba ^ scramble(version ^ scramble(seed)))
}

/// Words at random, and now and then a number.
fn words(len: usize) -> Box<[u8]> {
    let mut text = String::with_capacity(len + 32);
    let mut number = 0;
    while text.len() < len {
        number += 1;
        let random = scramble(number);
        match random % 16 {
            0 => text += &format!("{}, ", random >> 48),
            1 => text += "\n",
            _ => text.extend([WORDS[(random >> 32) as usize % WORDS.len()], " "]),
        }
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(len);
    bytes.into_boxed_slice()
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
            let mut payloads = Payloads::new(lba_bytes, 7, true, 0);
            let bytes = written(&mut payloads, 80, 3);
            assert_eq!(payloads.check(&bytes, 80, Expected::Version(3)), Ok(true));
            assert_eq!(payloads.check(&bytes, 80, Expected::Unknown), Ok(true));
            let another_run = Payloads::new(lba_bytes, 8, true, 50);
            assert_eq!(another_run.check(&bytes, 80, Expected::Unknown), Ok(true), "any run can verify");
        }
    }

    #[test]
    fn what_an_earlier_run_has_left_is_not_taken_for_what_this_one_wrote() {
        let [mut earlier, this] = [1, 2].map(|run| Payloads::new(4096, stamp_seed(7, run), true, 0));
        let left = written(&mut earlier, 80, 3);
        assert!(matches!(this.check(&left, 80, Expected::Version(3)), Err(Mismatch::Version { .. })));
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let mut payloads = Payloads::new(512, 7, true, 40);
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
        assert_eq!(payloads.check(&[0; 4096], 80, Expected::Unknown), Ok(false), "never written");
        bytes[512 + 100] ^= 1;
        assert_eq!(
            payloads.check(&bytes, 80, Expected::Version(3)),
            Err(Mismatch::Body { lba: 81, version: 3, at: 100 }),
            "spoiled"
        );
    }

    #[test]
    fn unverified_writes_are_unique_and_random() {
        let mut payloads = Payloads::new(4096, 7, false, 0);
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

    #[test]
    fn words_take_the_share_that_is_asked_for() {
        for percent in [0, 30, 100] {
            for verify in [false, true] {
                let mut payloads = Payloads::new(4096, 7, verify, percent);
                let mut bytes = vec![0; 4096];
                payloads.prepare(&mut bytes, 3);
                payloads.stamp(&mut bytes, 5, 1);
                let is_text = |byte: &&u8| byte.is_ascii_lowercase() || b" ,\n0123456789".contains(byte);
                let body = &bytes[STAMP_LEN..];
                let text = body.iter().take_while(is_text).count();
                let wanted = body.len() * usize::from(percent) / 100;
                assert!((wanted..wanted + 20).contains(&text), "{text} of {wanted} bytes, {percent} %");
                let words: Vec<_> = body[..wanted].split(|byte| *byte == b' ').collect();
                let distinct: std::collections::BTreeSet<_> = words.iter().collect();
                assert!(words.len() >= 2 * distinct.len() || percent == 0, "words come again and again");
                let found = payloads.check(&bytes, 5, Expected::Unknown);
                assert_eq!(found, Ok(true));
            }
        }
    }
}
