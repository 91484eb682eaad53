//! Memory for tests: so many bytes of the arena, and as much that lasts as is asked for.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use io::{Buffer, Lasting, Memory, Purpose, Shared};

/// So much memory.
pub(crate) struct Room {
    arena_left: Arc<AtomicUsize>,
    lasting: Arc<AtomicUsize>,
    /// Lasting buffers that there may be.
    pub(crate) lasting_max: usize,
}

/// Some of it.
#[derive(Debug)]
pub(crate) struct Roomy {
    bytes: Vec<u8>,
    home: Home,
}

/// The same, held by several.
#[derive(Clone, Debug)]
pub(crate) struct SharedRoomy(Arc<Roomy>);

/// Where memory comes from.
#[derive(Debug)]
enum Home {
    /// Bytes that are left.
    Arena(Arc<AtomicUsize>),
    /// Buffers that there are.
    Lasting(Arc<AtomicUsize>),
}

impl Room {
    /// An arena of so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self {
            arena_left: Arc::new(AtomicUsize::new(bytes)),
            lasting: Arc::default(),
            lasting_max: usize::MAX,
        }
    }

    /// Lasting buffers that there are.
    pub(crate) fn lasting(&self) -> usize {
        self.lasting.load(Ordering::Relaxed)
    }
}

impl Memory for Room {
    type Buffer = Roomy;

    fn allocate(&mut self, len: usize, _: Purpose) -> Option<Roomy> {
        let left = self.arena_left.load(Ordering::Relaxed).checked_sub(len)?;
        self.arena_left.store(left, Ordering::Relaxed);
        Some(Roomy { bytes: vec![0xa5; len], home: Home::Arena(Arc::clone(&self.arena_left)) })
    }
}

impl Lasting for Room {
    fn allocate_lasting(&mut self, len: usize) -> Option<Roomy> {
        if self.lasting() == self.lasting_max {
            return None;
        }
        self.lasting.fetch_add(1, Ordering::Relaxed);
        Some(Roomy { bytes: vec![0xa5; len], home: Home::Lasting(Arc::clone(&self.lasting)) })
    }

    fn reclaim(&mut self, shared: SharedRoomy) -> Result<Roomy, SharedRoomy> {
        Arc::try_unwrap(shared.0).map_err(SharedRoomy)
    }

    fn release_lasting(&mut self, shared: SharedRoomy) {
        drop(shared);
    }
}

impl Drop for Roomy {
    fn drop(&mut self) {
        match &self.home {
            Home::Arena(left) => left.fetch_add(self.bytes.len(), Ordering::Relaxed),
            Home::Lasting(count) => count.fetch_sub(1, Ordering::Relaxed),
        };
    }
}

impl Deref for Roomy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Roomy {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Buffer for Roomy {
    type Shared = SharedRoomy;

    fn share(self) -> SharedRoomy {
        SharedRoomy(Arc::new(self))
    }
}

impl Deref for SharedRoomy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Shared for SharedRoomy {}
