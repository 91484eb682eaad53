//! Drives in memory for this crate's tests: every operation ends at once, every write is journalled, and the images
//! that a power cut may leave are made from the journal.
//!
//! Fault model: what was written before a flush of its drive that succeeded survives. Of everything written since,
//! any set of blocks of 512 bytes survives, whole, in any combination. Reads before the cut see every write.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use io::{
    Buffer, Disk, DiskError, DiskErrorKind, DriveId, DriveShape, Extent, Memory, Purpose, Shared, Token,
};

const BLOCK: usize = 512;

/// Exclusive memory.
#[derive(Debug)]
pub(crate) struct TestBuffer(Vec<u8>);

/// Shared memory.
#[derive(Clone, Debug)]
pub(crate) struct TestShared(Arc<Vec<u8>>);

/// What a drive has been asked, in order, and what callers note in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Write { drive: usize, offset: usize, bytes: Vec<u8> },
    Flush { drive: usize },
    Note(usize),
}

/// The end of an operation.
#[derive(Debug)]
pub(crate) enum TestEvent {
    Read(Token, TestBuffer, Result<(), DiskError>),
    Written(Token, TestBuffer, Result<(), DiskError>),
    Flushed(Token, Result<(), DiskError>),
}

/// The drives.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    pub(crate) images: Vec<Vec<u8>>,
    pub(crate) journal: Vec<Entry>,
    pub(crate) events: VecDeque<TestEvent>,
    pub(crate) block_bytes: u32,
    /// Reads that touch one of these (drive, offset) fail.
    pub(crate) unreadable: Vec<(u16, u64)>,
    /// Writes at one of these (drive, offset) fail.
    pub(crate) unwritable: Vec<(u16, u64)>,
    /// Writes and flushes fail once this many have succeeded.
    pub(crate) fail_after: Option<usize>,
    /// Allocations are refused this often.
    pub(crate) refusals: usize,
}

impl MemoryDisk {
    pub(crate) fn new(sizes: &[usize]) -> Self {
        Self::from_images(sizes.iter().map(|&size| vec![0; size]).collect())
    }

    pub(crate) fn from_images(images: Vec<Vec<u8>>) -> Self {
        Self {
            images,
            journal: Vec::new(),
            events: VecDeque::new(),
            block_bytes: 512,
            unreadable: Vec::new(),
            unwritable: Vec::new(),
            fail_after: None,
            refusals: 0,
        }
    }

    fn outcome(&mut self, drive: DriveId, offset: u64) -> Result<(), DiskError> {
        match &mut self.fail_after {
            Some(0) => Err(DiskError { kind: DiskErrorKind::Gone, drive, offset, len: 0, errno: 5 }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Memory for MemoryDisk {
    type Buffer = TestBuffer;

    fn allocate(&mut self, len: usize, _purpose: Purpose) -> Option<TestBuffer> {
        assert!((1..=1 << 20).contains(&len));
        if self.refusals > 0 {
            self.refusals -= 1;
            return None;
        }
        Some(TestBuffer(vec![0xEE; len]))
    }
}

impl Disk for MemoryDisk {
    fn drive(&self, drive: DriveId) -> DriveShape {
        DriveShape {
            size_bytes: self.images[usize::from(drive.0)].len() as u64,
            block_bytes: self.block_bytes,
            volatile_cache: true,
        }
    }

    fn drives(&self) -> u16 {
        u16::try_from(self.images.len()).unwrap()
    }

    fn read(&mut self, token: Token, mut buffer: TestBuffer, extents: &[Extent]) {
        let mut result = Ok(());
        for extent in extents {
            let end = extent.offset + u64::from(extent.len);
            assert!(extent.offset.is_multiple_of(u64::from(self.block_bytes)));
            assert!(extent.len > 0 && extent.len.is_multiple_of(self.block_bytes));
            if self
                .unreadable
                .iter()
                .any(|&(drive, at)| drive == extent.drive.0 && (extent.offset..end).contains(&at))
            {
                result = Err(DiskError {
                    kind: DiskErrorKind::Media,
                    drive: extent.drive,
                    offset: extent.offset,
                    len: extent.len,
                    errno: 5,
                });
                continue;
            }
            let image = &self.images[usize::from(extent.drive.0)];
            let source = &image[usize::try_from(extent.offset).unwrap()..usize::try_from(end).unwrap()];
            buffer[extent.start as usize..][..extent.len as usize].copy_from_slice(source);
        }
        self.events.push_back(TestEvent::Read(token, buffer, result));
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: TestBuffer, len: u32) {
        assert!(offset.is_multiple_of(u64::from(self.block_bytes)));
        assert!(len > 0 && len.is_multiple_of(self.block_bytes));
        let mut result = self.outcome(drive, offset);
        if self.unwritable.contains(&(drive.0, offset)) {
            result = Err(DiskError { kind: DiskErrorKind::Media, drive, offset, len, errno: 5 });
        }
        if result.is_ok() {
            let (drive, offset) = (usize::from(drive.0), usize::try_from(offset).unwrap());
            let bytes = buffer[..len as usize].to_vec();
            self.images[drive][offset..offset + bytes.len()].copy_from_slice(&bytes);
            self.journal.push(Entry::Write { drive, offset, bytes });
        }
        self.events.push_back(TestEvent::Written(token, buffer, result));
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        let result = self.outcome(drive, 0);
        if result.is_ok() {
            self.journal.push(Entry::Flush { drive: usize::from(drive.0) });
        }
        self.events.push_back(TestEvent::Flushed(token, result));
    }
}

impl Deref for TestBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for TestBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Buffer for TestBuffer {
    type Shared = TestShared;

    fn share(self) -> TestShared {
        TestShared(Arc::new(self.0))
    }
}

impl Deref for TestShared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Shared for TestShared {}

/// Replays a journal entry by entry and makes the images that a power cut after each may leave.
#[derive(Clone, Debug)]
pub(crate) struct PowerCuts {
    durable: Vec<Vec<u8>>,
    /// Blocks written since the last flush of their drive: (number of the write, drive, offset, bytes).
    volatile: Vec<(usize, usize, usize, Vec<u8>)>,
    writes: usize,
}

impl PowerCuts {
    pub(crate) fn new(images: Vec<Vec<u8>>) -> Self {
        Self { durable: images, volatile: Vec::new(), writes: 0 }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Write { drive, offset, bytes } => {
                for (index, block) in bytes.chunks(BLOCK).enumerate() {
                    self.volatile.push((self.writes, *drive, offset + index * BLOCK, block.to_vec()));
                }
                self.writes += 1;
            }
            Entry::Flush { drive } => {
                let flushed = self.volatile.extract_if(.., |block| block.1 == *drive);
                for (_, drive, offset, bytes) in flushed {
                    self.durable[drive][offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
            }
            Entry::Note(_) => {}
        }
    }

    /// Images with no unsynced write, with all, with all but the first, with every set of the last 4 whole ones, and with
    /// `random` sets of blocks.
    pub(crate) fn images(&self, random: usize, rng: &mut Rng) -> Vec<Vec<Vec<u8>>> {
        let mut writes: Vec<usize> = self.volatile.iter().map(|block| block.0).collect();
        writes.dedup();
        let last: Vec<usize> = writes.iter().rev().take(4).copied().collect();
        let mut images = Vec::new();
        for set in 0..1_usize << last.len() {
            let is_in = |write: usize| {
                last.iter().position(|&one| one == write).is_none_or(|bit| set >> bit & 1 == 1)
            };
            images.push(self.image(|block| is_in(block.0)));
        }
        if writes.len() > last.len() {
            images.push(self.image(|_| false));
            images.push(self.image(|block| block.0 != writes[0]));
        }
        if !self.volatile.is_empty() {
            for _ in 0..random {
                let odds = [1, 4, 7][rng.below(3)];
                images.push(self.image(|_| rng.below(8) < odds));
            }
            // Prefixes and suffixes tear where programs expect it.
            let cut = rng.below(self.volatile.len());
            let mut index = 0;
            images.push(self.image(|_| {
                index += 1;
                index <= cut
            }));
            let mut index = 0;
            images.push(self.image(|_| {
                index += 1;
                index > cut
            }));
        }
        images
    }

    fn image(&self, mut survives: impl FnMut(&(usize, usize, usize, Vec<u8>)) -> bool) -> Vec<Vec<u8>> {
        let mut image = self.durable.clone();
        for block in &self.volatile {
            if survives(block) {
                image[block.1][block.2..block.2 + block.3.len()].copy_from_slice(&block.3);
            }
        }
        image
    }
}

/// Random numbers from a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed is `FERRULE_SEED` where that is set, else `default`; it is printed, and shown when the test fails.
    pub(crate) fn from_env(default: u64) -> Self {
        let seed = std::env::var("FERRULE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
        println!("seed {seed}: repeat with FERRULE_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
