//! A drive in memory whose operations end at once, and recycled buffers: the seam at its cheapest.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use io::{Buffer, Disk, DriveId, DriveShape, Extent, Memory, Purpose, Shared, Token};

/// Exclusive memory.
#[derive(Debug)]
pub struct HeapBuffer(Vec<u8>);

/// Shared memory.
#[derive(Clone, Debug)]
pub struct HeapShared(Arc<Vec<u8>>);

/// An operation that has ended.
#[derive(Debug)]
pub enum Ended {
    /// A read, with its buffer.
    Read(Token, HeapBuffer),
    /// A write, with its buffer.
    Written(Token, HeapBuffer),
    /// A flush.
    Flushed(Token),
}

/// One drive.
#[derive(Debug)]
pub struct MemoryDrive {
    bytes: Vec<u8>,
    ended: VecDeque<Ended>,
    spare: Vec<Vec<u8>>,
}

impl MemoryDrive {
    /// A drive of zeros.
    #[must_use]
    pub fn new(size_bytes: usize) -> Self {
        Self { bytes: vec![0; size_bytes], ended: VecDeque::new(), spare: Vec::new() }
    }

    /// The next operation that has ended.
    pub fn poll(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Takes a buffer back for the next allocation.
    pub fn recycle(&mut self, buffer: HeapBuffer) {
        self.spare.push(buffer.0);
    }
}

impl Memory for MemoryDrive {
    type Buffer = HeapBuffer;

    fn allocate(&mut self, len: usize, _purpose: Purpose) -> Option<HeapBuffer> {
        let found = self.spare.iter().rposition(|bytes| bytes.len() == len);
        Some(HeapBuffer(found.map_or_else(|| vec![0; len], |index| self.spare.swap_remove(index))))
    }
}

impl Disk for MemoryDrive {
    fn drive(&self, _drive: DriveId) -> DriveShape {
        DriveShape { size_bytes: self.bytes.len() as u64, block_bytes: 512, volatile_cache: false }
    }

    fn drives(&self) -> u16 {
        1
    }

    fn read(&mut self, token: Token, mut buffer: HeapBuffer, extents: &[Extent]) {
        for extent in extents {
            let (offset, len) = (extent.offset as usize, extent.len as usize);
            buffer[extent.start as usize..][..len].copy_from_slice(&self.bytes[offset..offset + len]);
        }
        self.ended.push_back(Ended::Read(token, buffer));
    }

    fn write(&mut self, token: Token, _drive: DriveId, offset: u64, buffer: HeapBuffer, len: u32) {
        let (offset, len) = (offset as usize, len as usize);
        self.bytes[offset..offset + len].copy_from_slice(&buffer[..len]);
        self.ended.push_back(Ended::Written(token, buffer));
    }

    fn flush(&mut self, token: Token, _drive: DriveId) {
        self.ended.push_back(Ended::Flushed(token));
    }
}

impl From<Vec<u8>> for HeapBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Buffer for HeapBuffer {
    type Shared = HeapShared;

    fn share(self) -> HeapShared {
        HeapShared(Arc::new(self.0))
    }
}

impl Shared for HeapShared {}

impl Deref for HeapBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for HeapBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Deref for HeapShared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
