//! Memory for payloads: exclusive buffers that operations own, and shared ones for bytes that several hold.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

/// Exclusive memory, aligned to 4096 bytes, of the length that was asked for. It goes down with an operation and
/// comes back with the event; dropping it, on any reactor, gives it back to the arena that made it.
pub trait Buffer: Deref<Target = [u8]> + DerefMut + fmt::Debug + Send + Sized + 'static {
    /// The same memory once it is read-only and may have several holders.
    type Shared: Shared;

    /// Gives up the right to write, so that the bytes can be held more than once without a copy.
    fn share(self) -> Self::Shared;
}

/// Read-only memory with several holders; a clone costs a count, the last drop gives it back to its arena.
pub trait Shared: Clone + Deref<Target = [u8]> + fmt::Debug + Send + 'static {
    /// Tells the processor that the bytes from `start` on are read soon. A hint; nothing happens without it.
    fn expect_read(&self, start: usize) {
        let _ = start;
    }
}

/// A part of shared memory: the payload of an in-capsule write inside the bytes that were received with it.
#[derive(Clone, Debug)]
pub struct Slice<S> {
    shared: S,
    start: u32,
    len: u32,
}

/// Who asks for memory; what is kept in reserve for the first two cannot be taken by host data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The store's own batches, map pages and cleaning: without them no write can complete and free what it holds.
    Log,
    /// Admin queues and connections that are being set up, which must never wait behind I/O.
    Admin,
    /// Payloads of reads and writes of hosts.
    Data,
}

/// A source of buffers, bounded at start.
pub trait Memory {
    /// The buffers it makes.
    type Buffer: Buffer;

    /// A buffer of exactly `len` bytes (1 to 1 MiB), contents unspecified but never another host's unread data
    /// beyond what the caller overwrites: callers fill what they send. `None` when the part of the arena that
    /// `purpose` may use is taken: apply back-pressure and ask again after a buffer has been dropped.
    fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<Self::Buffer>;
}

/// Memory that stays: what namespaces hold that live in memory. It is bounded by what they ask for and takes nothing from
/// the arena.
pub trait Lasting: Memory {
    /// A buffer of exactly `len` bytes (1 to 1 MiB), contents unspecified. `None` where the system has no memory.
    fn allocate_lasting(&mut self, len: usize) -> Option<Self::Buffer>;

    /// The right to write back.
    ///
    /// # Errors
    /// The memory as it came, where somebody else holds it, too.
    fn reclaim(&mut self, shared: SharedOf<Self>) -> Result<Self::Buffer, SharedOf<Self>>;

    /// Gives lasting memory back, once nobody else holds it either.
    fn release_lasting(&mut self, shared: SharedOf<Self>);
}

/// The shared memory of a source of buffers.
pub type SharedOf<M> = <<M as Memory>::Buffer as Buffer>::Shared;

impl<S: Shared> Slice<S> {
    /// The whole of `shared`.
    ///
    /// # Panics
    /// If `shared` is longer than 4 GiB, which no arena makes.
    #[inline]
    pub fn whole(shared: S) -> Self {
        let len = u32::try_from(shared.len()).expect("a buffer is at most 1 MiB long");
        Self { shared, start: 0, len }
    }

    /// The bytes `range` of this slice, sharing the same memory.
    ///
    /// # Panics
    /// If `range` does not lie within the slice.
    #[inline]
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end);
        assert!(range.end <= self.len as usize);
        let start = u32::try_from(range.start).expect("within a slice whose length is a u32");
        let len = u32::try_from(range.end - range.start).expect("within a slice whose length is a u32");
        Self { shared: self.shared.clone(), start: self.start + start, len }
    }

    /// The bytes `range` of `shared`, with the hold that it is.
    ///
    /// # Panics
    /// If `range` does not lie within `shared`.
    #[inline]
    #[must_use]
    pub fn part(shared: S, range: Range<usize>) -> Self {
        assert!(range.start <= range.end);
        assert!(range.end <= shared.len());
        let start = u32::try_from(range.start).expect("a buffer is at most 1 MiB long");
        let len = u32::try_from(range.end - range.start).expect("a buffer is at most 1 MiB long");
        Self { shared, start, len }
    }

    /// The first `len` bytes of this slice, without another hold on the memory.
    ///
    /// # Panics
    /// If it is not so long.
    #[inline]
    #[must_use]
    pub fn first(mut self, len: usize) -> Self {
        assert!(len <= self.len as usize);
        self.len = u32::try_from(len).expect("within a slice whose length is a u32");
        self
    }
}

impl<S: Shared> Deref for Slice<S> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.shared[self.start as usize..][..self.len as usize]
    }
}
