//! Divides a region into buffers of power-of-two lengths, 4 KiB to 1 MiB.
//!
//! The region consists of chunks of 1 MiB, each with a bit per granule of 4 KiB: set means free. Only the owner
//! clears bits; whoever drops a buffer, on whatever thread, sets them. So taking needs no retry, giving back is one
//! atomic operation, and a chunk seen to be wholly free stays so until its owner takes from it. A chunk serves one
//! length of buffer until it is wholly free and another length needs it.
//!
//! Chunks belong to zones. Log, admin and received bytes have a zone of their own that data of hosts cannot take,
//! and may use the common one when theirs is full.
#![expect(unsafe_code, reason = "unused memory is given back by address")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use io::Purpose;

use super::ArenaBuffer;
use super::region::Region;
use crate::config::CHUNK_BYTES;

/// The smallest buffer, and the alignment of all.
pub(crate) const GRANULE_BYTES: usize = 4096;
/// The longest buffer.
pub(crate) const BUFFER_BYTES_MAX: usize = CHUNK_BYTES;
/// Fewest chunks of an arena: one for each zone and room to work.
pub(crate) const CHUNKS_MIN: usize = 8;

const GRANULES: usize = CHUNK_BYTES / GRANULE_BYTES;
const WORDS: usize = GRANULES / 64;
const ORDERS: usize = GRANULES.ilog2() as usize + 1;
const _: () = assert!(GRANULES.is_multiple_of(64));
const _: () = assert!(GRANULE_BYTES << (ORDERS - 1) == BUFFER_BYTES_MAX);

/// The part of an arena that all threads see.
#[derive(Debug)]
pub(crate) struct Core {
    region: Region,
    /// A bit per granule, set where it is free.
    free: Box<[AtomicU64]>,
    /// By first granule of a buffer: how many handles refer to it.
    holds: Box<[AtomicU32]>,
}

/// The part that only the owner sees.
#[derive(Debug)]
pub(crate) struct Arena {
    core: Arc<Core>,
    zones: [Zone; 4],
    /// By chunk: the last round of [`Arena::trim`] before which it was taken from.
    rounds: Vec<u32>,
    round: u32,
    refused: u64,
}

/// Whom memory is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneId {
    Admin,
    Common,
    Log,
    Receive,
}

#[derive(Debug)]
struct Zone {
    /// Chunks that serve no length yet.
    unused: Vec<u32>,
    /// By order: the chunks that serve it.
    lists: [ChunkList; ORDERS],
}

#[derive(Debug, Default)]
struct ChunkList {
    chunks: Vec<u32>,
    /// Where in `chunks` the last free buffer was found.
    hint: usize,
}

impl Core {
    pub(crate) fn holds(&self, at: u32) -> &AtomicU32 {
        &self.holds[at as usize]
    }

    /// The address of a granule.
    pub(crate) fn address(&self, at: u32) -> *mut u8 {
        assert!((at as usize) < self.holds.len());
        self.region.start().wrapping_add(at as usize * GRANULE_BYTES)
    }

    /// The chunk of a granule.
    pub(crate) fn chunk(at: u32) -> usize {
        at as usize / GRANULES
    }

    pub(crate) fn chunks(&self) -> usize {
        self.free.len() / WORDS
    }

    /// Where a chunk begins.
    pub(crate) fn chunk_address(&self, chunk: usize) -> *mut u8 {
        assert!(chunk < self.chunks());
        self.region.start().wrapping_add(chunk * CHUNK_BYTES)
    }

    /// Makes the place free for the owner to take.
    pub(crate) fn give_back(&self, at: u32, order: u8) {
        let (word, bit) = (at as usize / 64, at % 64);
        let granules = 1_usize << order;
        if granules < 64 {
            self.free[word].fetch_or(run(order) << bit, Ordering::Release);
            return;
        }
        // The owner looks at the first word, so it comes last.
        for word in (word..word + granules / 64).rev() {
            self.free[word].store(u64::MAX, Ordering::Release);
        }
    }

    /// Gives a chunk's memory back to the system; for the owner alone.
    fn forget(&self, chunk: u32) {
        assert!(self.is_wholly_free(chunk));
        // SAFETY: the chunk is wholly free, so no buffer refers to it, and only the caller could make one; operations
        // of the kernel hold buffers, and the ring has let go of its registration.
        unsafe { self.region.forget(chunk as usize * CHUNK_BYTES, CHUNK_BYTES) };
    }

    fn words(&self, chunk: u32) -> &[AtomicU64] {
        &self.free[chunk as usize * WORDS..][..WORDS]
    }

    fn is_wholly_free(&self, chunk: u32) -> bool {
        self.words(chunk).iter().all(|word| word.load(Ordering::Acquire) == u64::MAX)
    }

    /// Takes a buffer out of a chunk that serves `order`; for the owner alone.
    fn take_from(&self, chunk: u32, order: usize) -> Option<u32> {
        let words = self.words(chunk);
        let first_granule = chunk * GRANULES as u32;
        if order < 6 {
            let order = order as u8;
            for (index, word) in words.iter().enumerate() {
                let free = word.load(Ordering::Acquire) & firsts(order);
                if free != 0 {
                    let bit = free.trailing_zeros();
                    word.fetch_and(!(run(order) << bit), Ordering::Relaxed);
                    return Some(first_granule + index as u32 * 64 + bit);
                }
            }
            return None;
        }
        let step = 1 << (order - 6);
        let index =
            (0..WORDS).step_by(step).find(|index| words[*index].load(Ordering::Acquire) == u64::MAX)?;
        for word in &words[index..index + step] {
            word.store(0, Ordering::Relaxed);
        }
        Some(first_granule + index as u32 * 64)
    }
}

impl Arena {
    /// An arena of `bytes`, rounded down to whole chunks.
    pub(crate) fn new(bytes: usize, hugepages: bool, node: Option<u32>) -> std::io::Result<Self> {
        let chunks = (bytes / CHUNK_BYTES).max(CHUNKS_MIN);
        let region = Region::new(chunks * CHUNK_BYTES, hugepages, node)?;
        let (admin, receive, log) = ((chunks / 32).max(1), (chunks / 8).max(1), (chunks / 4).max(2));
        Ok(Self::divided(region, [admin, receive, log]))
    }

    /// An arena of `bytes`, a whole number of chunks, of which nothing is kept for anybody, in transparent huge pages
    /// with `huge`.
    pub(crate) fn undivided(bytes: usize, huge: bool, node: Option<u32>) -> std::io::Result<Self> {
        Ok(Self::divided(Region::transparent(bytes, huge, node)?, [0; 3]))
    }

    /// An arena in `region` with so many chunks for admin, received bytes and log; the rest is common.
    fn divided(region: Region, [admin, receive, log]: [usize; 3]) -> Self {
        let chunks = region.len() / CHUNK_BYTES;
        let free = (0..chunks * WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
        let holds = (0..chunks * GRANULES).map(|_| AtomicU32::new(0)).collect();
        let mut next = 0_u32;
        let mut zone = |chunks: usize| {
            let first = next;
            next += u32::try_from(chunks).expect("an arena has far fewer than 2^32 chunks");
            // Taken from the end, so that low addresses go first.
            Zone { unused: (first..next).rev().collect(), lists: Default::default() }
        };
        let common = chunks - admin - receive - log;
        let (admin, receive, log, common) = (zone(admin), zone(receive), zone(log), zone(common));
        // In the order of `ZoneId`.
        let zones = [admin, common, log, receive];
        let core = Arc::new(Core { region, free, holds });
        Self { core, zones, rounds: vec![0; chunks], round: 1, refused: 0 }
    }

    /// A buffer of exactly `len` bytes.
    ///
    /// # Panics
    /// If `len` is zero or more than 1 MiB.
    pub(crate) fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<ArenaBuffer> {
        let own = match purpose {
            Purpose::Log => ZoneId::Log,
            Purpose::Admin => ZoneId::Admin,
            Purpose::Data => ZoneId::Common,
        };
        let buffer = self.allocate_in(len, own);
        if buffer.is_none() {
            self.refused += 1;
        }
        buffer
    }

    /// A buffer of a zone, or of the common one when that is full.
    pub(crate) fn allocate_in(&mut self, len: usize, own: ZoneId) -> Option<ArenaBuffer> {
        assert!(len > 0);
        assert!(len <= BUFFER_BYTES_MAX);
        let order = order_of(len);
        let mut taken = self.zones[own as usize].take(&self.core, order);
        if taken.is_none() && own != ZoneId::Common {
            taken = self.zones[ZoneId::Common as usize].take(&self.core, order);
        }
        self.buffer(taken?, len)
    }

    /// A buffer of a zone, and of no other.
    pub(crate) fn allocate_only_in(&mut self, len: usize, own: ZoneId) -> Option<ArenaBuffer> {
        let taken = self.zones[own as usize].take(&self.core, order_of(len))?;
        self.buffer(taken, len)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// How often a buffer was refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    pub(crate) fn huge(&self) -> bool {
        self.core.region.huge()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.core.chunks() * CHUNK_BYTES
    }

    /// Chunks whose memory has been used and was not given back.
    pub(crate) fn touched_chunks(&self) -> usize {
        self.zones.iter().flat_map(|zone| &zone.lists).map(|list| list.chunks.len()).sum()
    }

    /// Takes chunks out of use that are wholly free and were not needed since the last call, at most `count`, and
    /// hands each to `forget`, which says that the kernel has let go of it; their memory goes back to the system. Returns
    /// their number.
    pub(crate) fn trim(&mut self, count: usize, mut forget: impl FnMut(usize) -> bool) -> usize {
        let mut left = count;
        let Self { core, zones, rounds, round, .. } = self;
        for zone in zones {
            for list in &mut zone.lists {
                let mut index = 0;
                while let Some(chunk) = list.chunks.get(index).copied() {
                    let is_idle = rounds[chunk as usize] < *round && core.is_wholly_free(chunk);
                    if left == 0 || !is_idle || !forget(chunk as usize) {
                        index += 1;
                        continue;
                    }
                    list.chunks.swap_remove(index);
                    list.hint = 0;
                    zone.unused.push(chunk);
                    left -= 1;
                    core.forget(chunk);
                }
            }
        }
        *round += 1;
        count - left
    }

    fn buffer(&mut self, (at, order): (u32, usize), len: usize) -> Option<ArenaBuffer> {
        self.rounds[Core::chunk(at)] = self.round;
        Some(ArenaBuffer::new(Arc::clone(&self.core), at, u32::try_from(len).ok()?, order as u8))
    }

    /// Bytes that buffers occupy.
    pub(crate) fn used_bytes(&self) -> usize {
        let free = self.core.free.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize);
        self.size_bytes() - free.sum::<usize>() * GRANULE_BYTES
    }
}

impl Zone {
    /// Takes a buffer of `order` or, where only that is left, of a higher one; returns what was taken.
    fn take(&mut self, core: &Core, order: usize) -> Option<(u32, usize)> {
        if let Some(at) = self.lists[order].take(core, order) {
            return Some((at, order));
        }
        if let Some(chunk) = self.unused.pop().or_else(|| self.reclaim(core, order)) {
            self.lists[order].hint = self.lists[order].chunks.len();
            self.lists[order].chunks.push(chunk);
            let at = core.take_from(chunk, order).expect("the chunk is wholly free");
            return Some((at, order));
        }
        (order + 1..ORDERS).find_map(|order| Some((self.lists[order].take(core, order)?, order)))
    }

    /// Takes a wholly free chunk from another length.
    fn reclaim(&mut self, core: &Core, wanted: usize) -> Option<u32> {
        for list in
            self.lists.iter_mut().enumerate().filter(|(order, _)| *order != wanted).map(|(_, list)| list)
        {
            if let Some(index) = list.chunks.iter().position(|chunk| core.is_wholly_free(*chunk)) {
                list.hint = 0;
                return Some(list.chunks.swap_remove(index));
            }
        }
        None
    }
}

impl ChunkList {
    fn take(&mut self, core: &Core, order: usize) -> Option<u32> {
        let count = self.chunks.len();
        for step in 0..count {
            let index = if self.hint + step < count { self.hint + step } else { self.hint + step - count };
            if let Some(at) = core.take_from(self.chunks[index], order) {
                self.hint = index;
                return Some(at);
            }
        }
        None
    }
}

/// The smallest power of two of granules that holds `len` bytes.
fn order_of(len: usize) -> usize {
    len.div_ceil(GRANULE_BYTES).next_power_of_two().ilog2() as usize
}

/// The bits of a buffer of `order` at bit 0, for orders below a whole word.
fn run(order: u8) -> u64 {
    (1 << (1 << order)) - 1
}

/// The first bit of every buffer of `order` in a word.
fn firsts(order: u8) -> u64 {
    u64::MAX / run(order)
}

#[cfg(test)]
mod test;
