//! Drives in memory whose operations end in any order, and lose at a crash what drives may lose.
//!
//! Fault model. An operation takes effect when it ends, at a moment that the seed chooses. At a kill, each write under
//! way lands whole or not at all. At a power cut, of everything written to a drive since a flush of it began that has
//! ended, and of writes under way, any set of blocks of 512 bytes survives.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use io::{
    Buffer, Disk, DiskError, DiskErrorKind, DriveId, DriveShape, Extent, Memory, Purpose, Shared, Token,
};

/// A small generator whose whole state is the seed.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug)]
pub(super) struct TestBuffer(pub(super) Vec<u8>);

#[derive(Clone, Debug)]
pub(super) struct TestShared(Arc<Vec<u8>>);

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

impl Deref for TestShared {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Shared for TestShared {}

impl Buffer for TestBuffer {
    type Shared = TestShared;
    fn share(self) -> TestShared {
        TestShared(Arc::new(self.0))
    }
}

#[derive(Debug)]
pub(super) enum TestEvent {
    Read(Token, TestBuffer, Result<(), DiskError>),
    Written(Token, TestBuffer, Result<(), DiskError>),
    Flushed(Token, Result<(), DiskError>),
}

#[derive(Debug)]
enum Pending {
    Read { token: Token, buffer: TestBuffer, extents: Vec<Extent> },
    Write { token: Token, drive: usize, offset: usize, buffer: TestBuffer, len: usize },
    Flush { token: Token, drive: usize, upto: u64 },
}

#[derive(Clone, Debug, Default)]
struct Drive {
    /// What a read sees.
    image: Vec<u8>,
    /// What survives a power cut for certain.
    durable: Vec<u8>,
    /// Writes that ended and may be lost, numbered.
    unflushed: Vec<(u64, usize, Vec<u8>)>,
    written: u64,
}

#[derive(Debug)]
pub(super) struct TestDisk {
    drives: Vec<Drive>,
    pending: Vec<Pending>,
    pub(super) rng: Rng,
    pub(super) block_bytes: u32,
    /// Fail the next write, or the next flush.
    pub(super) fail_write: bool,
    pub(super) fail_flush: bool,
    /// Refuse memory this often, in percent.
    pub(super) refuse_percent: u64,
    /// Reads end long after what was submitted with them.
    pub(super) slow_reads: bool,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) written_bytes: u64,
    /// Pieces that were read.
    pub(super) extents: u64,
    /// Reads of more than so many bytes bring a wrong bit in every 4 KiB.
    pub(super) flip_reads_over: Option<u32>,
    /// Reads of anything of this block of 4 KiB fail: its drive and its offset.
    pub(super) unreadable: Option<(usize, usize)>,
}

impl TestDisk {
    /// Overwrites a part of a drive, as another shard would that was given it.
    pub(super) fn overwrite(&mut self, drive: usize, offset: usize, len: usize) {
        self.drives[drive].image[offset..offset + len].fill(0xEE);
        self.drives[drive].durable[offset..offset + len].fill(0xEE);
    }

    /// What a read of a part of a drive would bring.
    pub(super) fn content(&self, drive: DriveId, offset: u64, len: usize) -> Vec<u8> {
        let offset = usize::try_from(offset).unwrap();
        self.drives[usize::from(drive.0)].image[offset..offset + len].to_vec()
    }

    pub(super) fn new(sizes: &[usize], seed: u64) -> Self {
        let drive = |&size: &usize| Drive {
            image: vec![0; size],
            durable: vec![0; size],
            unflushed: Vec::new(),
            written: 0,
        };
        Self {
            drives: sizes.iter().map(drive).collect(),
            pending: Vec::new(),
            rng: Rng(seed),
            block_bytes: 512,
            fail_write: false,
            fail_flush: false,
            refuse_percent: 0,
            slow_reads: false,
            reads: 0,
            writes: 0,
            written_bytes: 0,
            extents: 0,
            flip_reads_over: None,
            unreadable: None,
        }
    }

    /// The same drives once more, with nothing under way.
    pub(super) fn copy(&self) -> Self {
        Self { drives: self.drives.clone(), block_bytes: self.block_bytes, ..Self::new(&[], 1) }
    }

    /// Flips a bit of every block that begins with these bytes.
    pub(super) fn rot(&mut self, begins_with: &[u8]) -> usize {
        let mut found = 0;
        for held in &mut self.drives {
            for block in held.image.chunks_exact_mut(4096).filter(|block| block.starts_with(begins_with)) {
                block[4000] ^= 1;
                found += 1;
            }
        }
        found
    }

    /// Where the payload of the last batch with one begins: drive and offset.
    pub(super) fn last_payload(&self) -> (usize, usize) {
        let mut last = (0, (0, 0));
        for (drive, held) in self.drives.iter().enumerate() {
            for (at, block) in held.image.chunks_exact(4096).enumerate() {
                if block.starts_with(b"FeBATCH\n") && block[16..20] != block[20..24] {
                    let sequence = u64::from_le_bytes(block[64..72].try_into().unwrap());
                    last = last.max((sequence, (drive, (at + 1) * 4096)));
                }
            }
        }
        last.1
    }

    /// Offers every block that begins with these bytes to be changed, on the medium too; gives how many were.
    pub(super) fn change_blocks(
        &mut self,
        begins_with: &[u8],
        mut change: impl FnMut(&mut [u8]) -> bool,
    ) -> usize {
        let mut found = 0;
        for held in &mut self.drives {
            for image in [&mut held.image, &mut held.durable] {
                for at in (0..image.len()).step_by(4096) {
                    found += usize::from(image[at..].starts_with(begins_with) && change(&mut image[at..]));
                }
            }
        }
        found
    }

    /// Reads under way.
    pub(super) fn being_read(&self) -> usize {
        self.pending.iter().filter(|pending| matches!(pending, Pending::Read { .. })).count()
    }

    /// Flips bits of a byte.
    pub(super) fn flip(&mut self, (drive, offset): (usize, usize), bits: u8) {
        self.drives[drive].image[offset] ^= bits;
    }

    /// Flips a bit in the header of this batch, wherever it is, on the medium too.
    pub(super) fn rot_batch(&mut self, sequence: u64) -> usize {
        self.change_blocks(b"FeBATCH\n", |block| {
            let is_it = block[64..72] == sequence.to_le_bytes();
            block[20] ^= u8::from(is_it);
            is_it
        })
    }

    /// What is being written.
    pub(super) fn being_written(&self) -> impl Iterator<Item = &[u8]> {
        self.pending.iter().filter_map(|pending| match pending {
            Pending::Write { buffer, len, .. } => Some(&buffer[..*len]),
            Pending::Read { .. } | Pending::Flush { .. } => None,
        })
    }

    /// Ends one operation under way, any of them.
    pub(super) fn step(&mut self) -> Option<TestEvent> {
        if self.pending.is_empty() {
            return None;
        }
        let mut at = usize::try_from(self.rng.below(self.pending.len() as u64)).unwrap();
        if self.slow_reads && matches!(self.pending[at], Pending::Read { .. }) && !self.rng.chance(3) {
            // Nothing ends, unless something else is under way.
            at = self.pending.iter().position(|pending| !matches!(pending, Pending::Read { .. }))?;
        }
        Some(match self.pending.swap_remove(at) {
            Pending::Read { token, mut buffer, extents } => {
                let bytes: u32 = extents.iter().map(|extent| extent.len).sum();
                if let Some(drive) = extents.iter().find_map(|extent| self.fails(extent)) {
                    return Some(TestEvent::Read(token, buffer, Err(error(drive))));
                }
                for extent in extents {
                    let from = usize::try_from(extent.offset).unwrap();
                    let image = &self.drives[usize::from(extent.drive.0)].image;
                    buffer[extent.start as usize..][..extent.len as usize]
                        .copy_from_slice(&image[from..from + extent.len as usize]);
                }
                if self.flip_reads_over.is_some_and(|most| bytes > most) {
                    buffer[..bytes as usize].iter_mut().skip(1000).step_by(4096).for_each(|byte| *byte ^= 1);
                }
                TestEvent::Read(token, buffer, Ok(()))
            }
            Pending::Write { token, drive, offset, buffer, len } => {
                if std::mem::take(&mut self.fail_write) {
                    return Some(TestEvent::Written(token, buffer, Err(error(drive))));
                }
                let held = &mut self.drives[drive];
                held.image[offset..offset + len].copy_from_slice(&buffer[..len]);
                held.written += 1;
                held.unflushed.push((held.written, offset, buffer[..len].to_vec()));
                TestEvent::Written(token, buffer, Ok(()))
            }
            Pending::Flush { token, drive, upto } => {
                if std::mem::take(&mut self.fail_flush) {
                    return Some(TestEvent::Flushed(token, Err(error(drive))));
                }
                let held = &mut self.drives[drive];
                let safe = held.unflushed.iter().take_while(|(number, ..)| *number <= upto).count();
                for (_, offset, bytes) in held.unflushed.drain(..safe) {
                    held.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
                TestEvent::Flushed(token, Ok(()))
            }
        })
    }

    /// The drive, if what cannot be read is in it.
    fn fails(&self, extent: &Extent) -> Option<usize> {
        let (drive, offset) = self.unreadable?;
        let (from, to) = (offset as u64, offset as u64 + 4096);
        let is_touched = extent.offset < to && from < extent.offset + u64::from(extent.len);
        (is_touched && usize::from(extent.drive.0) == drive).then_some(drive)
    }

    /// The server is killed: the drives stay.
    pub(super) fn kill(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            if let Pending::Write { drive, offset, buffer, len, .. } = pending
                && self.rng.chance(50)
            {
                let held = &mut self.drives[drive];
                held.image[offset..offset + len].copy_from_slice(&buffer[..len]);
                held.written += 1;
                held.unflushed.push((held.written, offset, buffer[..len].to_vec()));
            }
        }
    }

    /// The power goes.
    pub(super) fn cut_power(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            if let Pending::Write { drive, offset, buffer, len, .. } = pending {
                self.drives[drive].unflushed.push((u64::MAX, offset, buffer[..len].to_vec()));
            }
        }
        let keep_percent = [0, 20, 50, 90, 100][usize::try_from(self.rng.below(5)).unwrap()];
        for held in &mut self.drives {
            held.image.clone_from(&held.durable);
            for (_, offset, bytes) in held.unflushed.drain(..) {
                for (at, sector) in bytes.chunks(512).enumerate() {
                    if self.rng.chance(keep_percent) {
                        held.image[offset + at * 512..][..512].copy_from_slice(sector);
                    }
                }
            }
            held.durable.clone_from(&held.image);
        }
    }
}

fn error(drive: usize) -> DiskError {
    let drive = DriveId(u16::try_from(drive).unwrap());
    DiskError { kind: DiskErrorKind::Media, drive, offset: 0, len: 0, errno: 5 }
}

impl Memory for TestDisk {
    type Buffer = TestBuffer;

    fn allocate(&mut self, len: usize, _purpose: Purpose) -> Option<TestBuffer> {
        assert!((1..=1 << 20).contains(&len));
        if self.refuse_percent > 0 && self.rng.chance(self.refuse_percent) {
            return None;
        }
        Some(TestBuffer(vec![0xee; len]))
    }
}

impl Disk for TestDisk {
    fn drive(&self, drive: DriveId) -> DriveShape {
        DriveShape {
            size_bytes: self.drives[usize::from(drive.0)].image.len() as u64,
            block_bytes: self.block_bytes,
            volatile_cache: true,
        }
    }

    fn drives(&self) -> u16 {
        u16::try_from(self.drives.len()).unwrap()
    }

    fn read(&mut self, token: Token, buffer: TestBuffer, extents: &[Extent]) {
        assert!(extents.len() <= 256 && !extents.is_empty());
        for extent in extents {
            let block = self.block_bytes;
            assert!(extent.offset.is_multiple_of(u64::from(block)) && extent.start.is_multiple_of(block));
            assert!(extent.len > 0 && extent.len.is_multiple_of(block));
        }
        self.extents += extents.len() as u64;
        self.reads += 1;
        self.pending.push(Pending::Read { token, buffer, extents: extents.to_vec() });
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: TestBuffer, len: u32) {
        assert!(offset.is_multiple_of(4096) && len.is_multiple_of(4096) && len > 0);
        self.writes += 1;
        self.written_bytes += u64::from(len);
        self.pending.push(Pending::Write {
            token,
            drive: usize::from(drive.0),
            offset: usize::try_from(offset).unwrap(),
            buffer,
            len: len as usize,
        });
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        let drive = usize::from(drive.0);
        let upto = self.drives[drive].written;
        self.pending.push(Pending::Flush { token, drive, upto });
    }
}
