//! Buffers offered to the kernel, which takes one when bytes arrive, so that a connection that waits holds none.
#![expect(unsafe_code, reason = "the kernel reads a ring of buffer addresses that this module writes")]

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use memmap2::{MmapOptions, MmapRaw};

use super::Ring;
use crate::buffer::ArenaBuffer;
use crate::buffer::arena::{Arena, ZoneId};

/// The only group of offered buffers.
pub(super) const GROUP: u16 = 0;
/// Buffers that are offered beyond one for each receive.
const SPARE: usize = 2;

/// A ring of offered buffers, shared with the kernel.
pub(crate) struct Pool {
    map: MmapRaw,
    /// By identifier: the buffer that the kernel may take.
    offered: Vec<Option<ArenaBuffer>>,
    /// Identifiers without a buffer.
    empty: Vec<u16>,
    tail: u16,
    buffer_bytes: usize,
    /// How many buffers are offered while the arena has them.
    level: usize,
}

impl Pool {
    /// A pool of `count` buffers of `buffer_bytes`, known to the ring; `None` where the kernel has no such rings.
    pub(crate) fn new(ring: &Ring, count: u16, buffer_bytes: usize) -> Option<Self> {
        assert!(count.is_power_of_two());
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let map: MmapRaw = MmapOptions::new().len(bytes).map_anon().ok()?.into();
        let address = map.as_mut_ptr().addr() as u64;
        // SAFETY: the mapping holds `count` entries, is aligned to a page, and outlives the ring's use of it: both
        // are dropped only after the last operation, and the kernel holds the pages itself.
        let result = unsafe { ring.uring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) };
        if let Err(error) = result {
            tracing::debug!(%error, "the ring takes no offered buffers");
            return None;
        }
        let offered: Vec<_> = (0..count).map(|_| None).collect();
        let level = offered.len();
        Some(Self { map, offered, empty: (0..count).rev().collect(), tail: 0, buffer_bytes, level })
    }

    /// Says how many receives may be under way. More buffers than these can take, and a few, are not offered: the kernel
    /// takes them in turn, and a few that come round again soon stay in the cache.
    pub(crate) fn set_receives(&mut self, count: usize) {
        self.level = (count + SPARE).min(self.offered.len());
    }

    /// Offers buffers until the pool is full or the arena's part for receives has no more. Only a pool that is nearly
    /// empty takes memory that host data could use.
    pub(crate) fn fill(&mut self, arena: &mut Arena) {
        if self.available() >= self.level {
            return;
        }
        while self.available() < self.level
            && let Some(id) = self.empty.last().copied()
        {
            let is_low = self.available() < self.level / 8 + 1;
            let mut buffer = arena.allocate_only_in(self.buffer_bytes, ZoneId::Receive);
            if buffer.is_none() && is_low {
                buffer = arena.allocate_only_in(self.buffer_bytes, ZoneId::Common);
            }
            let Some(buffer) = buffer else { break };
            self.empty.pop();
            self.write(id, buffer);
        }
        self.publish();
    }

    /// Takes the buffer that an operation filled with `len` bytes.
    pub(crate) fn take(&mut self, id: u16, len: usize) -> Option<ArenaBuffer> {
        let mut buffer = self.offered.get_mut(usize::from(id))?.take()?;
        self.empty.push(id);
        buffer.truncate(len);
        Some(buffer)
    }

    /// Offers a buffer again that was just taken.
    pub(crate) fn give(&mut self, mut buffer: ArenaBuffer) {
        let Some(id) = self.empty.pop() else { return };
        buffer.restore();
        buffer.truncate(self.buffer_bytes);
        self.write(id, buffer);
        self.publish();
    }

    /// How many buffers the kernel can take.
    pub(crate) fn available(&self) -> usize {
        self.offered.len() - self.empty.len()
    }

    /// True where the arena could not keep the pool even half full.
    pub(crate) fn is_scarce(&self) -> bool {
        self.available() < self.level / 2
    }

    /// The length of the buffers.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    fn write(&mut self, id: u16, buffer: ArenaBuffer) {
        let len = buffer.len();
        let address = buffer.address(0, len);
        self.offered[usize::from(id)] = Some(buffer);
        let index = usize::from(self.tail) & (self.offered.len() - 1);
        let entry = self.map.as_mut_ptr().cast::<BufRingEntry>().wrapping_add(index);
        // SAFETY: `index` is below the number of entries that the mapping holds; the kernel does not read entries at
        // or beyond the tail that it knows, and this thread makes no other reference to them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address.addr() as u64);
        entry.set_len(u32::try_from(len).expect("a buffer is at most 1 MiB long"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let first = self.map.as_mut_ptr().cast::<BufRingEntry>().cast_const();
        // SAFETY: `first` is the first entry of the ring that was registered.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is two aligned bytes of the mapping that both sides access atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
