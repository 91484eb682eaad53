//! Buffers on the heap, counted, so that a test can run out of them and see that all come home.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use io::{Memory, Purpose};

/// Bytes that are out, and how many may be.
#[derive(Debug)]
pub(crate) struct Heap {
    used: Arc<AtomicUsize>,
    pub(crate) limit: usize,
}

#[derive(Debug)]
pub(crate) struct HeapBuffer {
    bytes: Vec<u8>,
    used: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
pub(crate) struct HeapShared(Arc<HeapBuffer>);

impl Heap {
    pub(crate) fn new() -> Self {
        Self { used: Arc::default(), limit: usize::MAX }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A buffer whatever the limit says, as a receive is given one.
    pub(crate) fn buffer(&self, bytes: Vec<u8>) -> HeapBuffer {
        self.used.fetch_add(bytes.len(), Ordering::Relaxed);
        HeapBuffer { bytes, used: Arc::clone(&self.used) }
    }
}

impl Memory for Heap {
    type Buffer = HeapBuffer;

    fn allocate(&mut self, len: usize, _purpose: Purpose) -> Option<HeapBuffer> {
        assert!(len > 0);
        assert!(len <= 1 << 20);
        if self.used() + len > self.limit {
            return None;
        }
        // Filled with what nobody may rely on.
        Some(self.buffer(vec![0xa5; len]))
    }
}

impl Drop for HeapBuffer {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Deref for HeapBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for HeapBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl io::Buffer for HeapBuffer {
    type Shared = HeapShared;
    fn share(self) -> HeapShared {
        HeapShared(Arc::new(self))
    }
}

impl Deref for HeapShared {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl io::Shared for HeapShared {}
