//! Room for contents of pages, a chunk at a time, and what is known of the use of each. A slot's number says its kind.

use std::cell::Cell;

use super::{ABOVE, Page, PageIndex};

/// A chunk of contents.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) pages: Box<[Page]>,
    /// A bit for each that was used since the hand passed it.
    pub(super) used: Cell<u64>,
    /// A bit for each that no writable image uses, as far as is known.
    pub(super) cold: Cell<u64>,
    /// A bit for each that stays, because somebody waits for more than it.
    pub(super) held: Cell<u64>,
}

/// Contents of leaves, or of pages above: apart, so that whoever looks for a leaf that may go meets nothing else.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) chunks: Vec<Chunk>,
    pub(super) free: Vec<u32>,
    /// What every slot's number has beside its place.
    pub(super) kind: u32,
    /// The slot that is looked at next for one to give up.
    hand: u32,
}

/// Contents of a chunk: as many as a word has bits.
const CHUNK_BITS: u32 = 6;
pub(super) const CHUNK: usize = 1 << CHUNK_BITS;
pub(super) const CHUNK_BYTES: usize = CHUNK * size_of::<Page>() + size_of::<Chunk>();

impl Chunk {
    fn new() -> Self {
        let blank = Page::blank(0, NOBODY);
        let none = || Cell::new(0);
        Self { pages: vec![blank; CHUNK].into_boxed_slice(), used: none(), cold: none(), held: none() }
    }
}

/// Who owns a slot that is free.
pub(super) const NOBODY: PageIndex = PageIndex(u32::MAX);

impl Pool {
    pub(super) fn new(kind: u32) -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), kind, hand: 0 }
    }

    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("2^28 pages are more than memory holds")
    }

    pub(super) fn in_use(&self) -> u64 {
        u64::from(self.slots()) - self.free.len() as u64
    }

    /// The slot at the hand, which goes on to the next.
    pub(super) fn pass(&mut self) -> u32 {
        let slot = self.hand;
        self.hand = if slot + 1 >= self.slots() { 0 } else { slot + 1 };
        slot | self.kind
    }

    /// Gives the last chunk back, of which nothing is in use; the hand begins anew.
    pub(super) fn pop_chunk(&mut self) {
        self.chunks.pop();
        self.hand = 0;
    }

    pub(super) fn allocate(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = self.slots();
            assert!(first < ABOVE, "2^28 pages are more than memory holds");
            self.chunks.push(Chunk::new());
            self.free.extend((first..first + CHUNK as u32).rev().map(|slot| slot | self.kind));
        }
        let slot = self.free.pop().expect("a chunk was just added");
        let (chunk, bit) = self.chunk_of(slot);
        chunk.used.set(chunk.used.get() | bit);
        chunk.cold.set(chunk.cold.get() & !bit);
        slot
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        let (chunk, bit) = self.chunk_of(slot);
        chunk.cold.set(chunk.cold.get() & !bit);
        self.page_mut(slot).owner = NOBODY;
        self.free.push(slot);
    }

    /// The chunk of a slot, and its bit there.
    pub(super) fn chunk_of(&self, slot: u32) -> (&Chunk, u64) {
        (&self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize], 1 << (slot as usize % CHUNK))
    }

    pub(super) fn page(&self, slot: u32) -> &Page {
        &self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize].pages[slot as usize % CHUNK]
    }

    pub(super) fn page_mut(&mut self, slot: u32) -> &mut Page {
        &mut self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize].pages[slot as usize % CHUNK]
    }
}
