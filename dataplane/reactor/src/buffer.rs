//! Buffers of an arena: exclusive and shared handles to aligned memory that goes home when they are dropped.
//!
//! An exclusive handle is the only one to its bytes; a shared one only reads. While the kernel reads or writes a
//! buffer, its handle lies in a table of operations and nobody looks through it.
#![expect(unsafe_code, reason = "handles turn the arena's addresses into slices")]

pub(crate) mod arena;
pub(crate) mod lasting;
pub(crate) mod region;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use arena::{Core, GRANULE_BYTES};

/// Exclusive memory of an arena.
pub struct ArenaBuffer(Place);

/// Memory of an arena that several hold and none writes.
pub struct ArenaShared(Place);

/// A place in an arena, and one of the holds on it.
struct Place {
    /// All holds together have one count of the `Arc`, so that a hold costs one count and not two.
    core: *const Core,
    /// First granule.
    at: u32,
    /// Length in bytes as asked for.
    len: u32,
    /// The power of two of granules that it occupies.
    order: u8,
}

impl ArenaBuffer {
    /// A handle to a place that the arena has just taken out of its free memory.
    fn new(core: Arc<Core>, at: u32, len: u32, order: u8) -> Self {
        core.holds(at).store(1, Ordering::Relaxed);
        Self(Place { core: Arc::into_raw(core), at, len, order })
    }

    /// Makes the buffer shorter; its memory stays as it is.
    pub(crate) fn truncate(&mut self, len: usize) {
        assert!(len <= self.0.len as usize);
        self.0.len = u32::try_from(len).expect("not longer than before");
    }

    /// Makes the buffer as long as it can be.
    pub(crate) fn restore(&mut self) {
        self.0.len = u32::try_from(GRANULE_BYTES << self.0.order).expect("at most 1 MiB");
    }

    /// Where the kernel shall read or write: the address of byte `start`, for `len` bytes. It is not made from a
    /// reference, so that the kernel may be busy with other parts of the buffer.
    ///
    /// # Panics
    /// If that is not within the buffer.
    pub(crate) fn address(&self, start: usize, len: usize) -> *mut u8 {
        assert!(start <= self.0.len as usize);
        assert!(len <= self.0.len as usize - start);
        self.0.core().address(self.0.at).wrapping_add(start)
    }

    /// The number of its chunk in the arena `core`; `None` if it comes from another arena.
    pub(crate) fn chunk_of(&self, core: &Arc<Core>) -> Option<usize> {
        std::ptr::eq(self.0.core, Arc::as_ptr(core)).then(|| Core::chunk(self.0.at))
    }
}

impl io::Buffer for ArenaBuffer {
    type Shared = ArenaShared;

    fn share(self) -> ArenaShared {
        ArenaShared(self.0)
    }
}

impl io::Shared for ArenaShared {
    #[inline]
    fn expect_read(&self, start: usize) {
        /// Bytes that are asked for; from there on the processor sees by itself where a copy goes.
        const AHEAD: usize = 512;
        const LINE: usize = 64;
        for line in self[start.min(self.len())..].chunks(LINE).take(AHEAD / LINE) {
            prefetch(line);
        }
    }
}

impl ArenaShared {
    /// The right to write back, unless somebody else holds the memory, too.
    pub(crate) fn reclaim(self) -> Result<ArenaBuffer, Self> {
        let is_sole = self.0.core().holds(self.0.at).load(Ordering::Acquire) == 1;
        // Only a holder can make another, and this is the only one.
        if is_sole { Ok(ArenaBuffer(self.0)) } else { Err(self) }
    }
}

/// Has the processor fetch the line in which `bytes` begin.
#[inline]
fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction is in every processor of this kind, reads nothing that the program sees, and cannot
        // fail.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

impl Deref for ArenaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.0.core().address(self.0.at);
        // SAFETY: `start` is within the arena's mapping, which lives as long as `core`; the place is `len` bytes long
        // at least; mapped memory is initialised; this handle is the only one to the place, and it is borrowed.
        unsafe { std::slice::from_raw_parts(start, self.0.len as usize) }
    }
}

impl DerefMut for ArenaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.0.core().address(self.0.at);
        // SAFETY: as for `deref`; the only handle is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, self.0.len as usize) }
    }
}

impl Deref for ArenaShared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.0.core().address(self.0.at);
        // SAFETY: as for `ArenaBuffer`; a place that is shared is not written until its last hold is gone.
        unsafe { std::slice::from_raw_parts(start, self.0.len as usize) }
    }
}

impl Clone for ArenaShared {
    fn clone(&self) -> Self {
        let Place { core, at, len, order } = self.0;
        self.0.core().holds(at).fetch_add(1, Ordering::Relaxed);
        Self(Place { core, at, len, order })
    }
}

// SAFETY: a place is a handle to an `Arc` of a core that threads may share, and to memory that the holds guard.
unsafe impl Send for Place {}
// SAFETY: as above; through a shared reference memory is only read.
unsafe impl Sync for Place {}

impl Place {
    fn core(&self) -> &Core {
        // SAFETY: the pointer comes from an `Arc` whose count is given up only with the last hold, and this is one.
        unsafe { &*self.core }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let holds = self.core().holds(self.at);
        // A sole holder needs no subtraction: nobody else can clone what only it has.
        if holds.load(Ordering::Acquire) != 1 {
            if holds.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            fence(Ordering::Acquire);
        }
        self.core().give_back(self.at, self.order);
        // SAFETY: the pointer comes from `Arc::into_raw`, and this was the last hold, which alone gives the count up.
        drop(unsafe { Arc::from_raw(self.core) });
    }
}

impl fmt::Debug for ArenaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArenaBuffer({} bytes at granule {})", self.0.len, self.0.at)
    }
}

impl fmt::Debug for ArenaShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArenaShared({} bytes at granule {})", self.0.len, self.0.at)
    }
}
