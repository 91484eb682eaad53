//! Memory of the map's pages: fixed-size chunks, so that growing copies nothing and wastes at most one chunk.

use std::collections::BTreeMap;

use super::entry::Place;
use super::page::FANOUT;

/// A page in memory; the numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageIndex(pub(crate) u32);

/// A page in memory, 544 bytes: with the pages above the leaves 2.16 GiB for a mapped TiB.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Of a leaf, block entries; of a page above, see [`super::IN_MEMORY`].
    pub(crate) entries: [u64; FANOUT],
    /// Of a leaf, a bit for each entry that another page may hold too; without it nobody else does. Of a page above, a
    /// bit for each child that was written elsewhere since this page was, or is dirty, or has something dirty below it.
    pub(crate) bits: u64,
    /// Highest LSN of a record that changed the page or what is below it.
    pub(crate) lsn: u64,
    /// Where it was last written.
    pub(crate) place: Place,
    /// Parents and roots that refer to it; above 1 it must be copied before it changes. 0 in a free page.
    pub(crate) refs: u32,
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// Whether it differs from what was last written.
    pub(crate) dirty: bool,
}

/// All pages of a shard.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Box<[Page]>>,
    free: Vec<PageIndex>,
    /// Units that compression saves below pages above the leaves, where it saves any; see [`super::saved`].
    saved: BTreeMap<PageIndex, u32>,
}

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

const _: () = assert!(size_of::<Page>() == 544);

impl Page {
    fn blank(level: u8) -> Self {
        Self { entries: [0; FANOUT], bits: 0, lsn: 0, place: Place::NOWHERE, refs: 1, level, dirty: false }
    }
}

impl Arena {
    /// A new page with one reference.
    pub(crate) fn allocate(&mut self, level: u8) -> PageIndex {
        if self.free.is_empty() {
            let first =
                u32::try_from(self.chunks.len() * CHUNK).expect("2^32 pages are more than memory holds");
            let blank = Page { refs: 0, ..Page::blank(0) };
            self.chunks.push(vec![blank; CHUNK].into_boxed_slice());
            self.free.extend((first..first + CHUNK as u32).rev().map(PageIndex));
        }
        let index = self.free.pop().expect("a chunk was just added");
        *self.page_mut(index) = Page::blank(level);
        index
    }

    /// Gives a page back.
    pub(crate) fn free(&mut self, index: PageIndex) {
        self.set_saved(index, 0);
        let page = self.page_mut(index);
        page.refs = 0;
        self.free.push(index);
    }

    pub(crate) fn page(&self, index: PageIndex) -> &Page {
        &self.chunks[(index.0 >> CHUNK_BITS) as usize][index.0 as usize % CHUNK]
    }

    /// Units that compression saves below a page.
    pub(crate) fn saved(&self, index: PageIndex) -> u32 {
        self.saved.get(&index).copied().unwrap_or(0)
    }

    pub(crate) fn set_saved(&mut self, index: PageIndex, units: u64) {
        let units = u32::try_from(units).expect("sums of few levels fit");
        if units > 0 {
            self.saved.insert(index, units);
        } else if !self.saved.is_empty() {
            self.saved.remove(&index);
        }
    }

    pub(crate) fn page_mut(&mut self, index: PageIndex) -> &mut Page {
        &mut self.chunks[(index.0 >> CHUNK_BITS) as usize][index.0 as usize % CHUNK]
    }

    /// Pages in use, in no order that means anything.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &Page> {
        self.chunks.iter().flatten().filter(|page| page.refs != 0)
    }

    /// How many pages are in use.
    pub(crate) fn pages_in_use(&self) -> u64 {
        (self.chunks.len() * CHUNK - self.free.len()) as u64
    }

    /// Says of every leaf that others may hold what it holds.
    pub(crate) fn forget_hints(&mut self) {
        for page in self.chunks.iter_mut().flatten().filter(|page| page.refs != 0 && page.level == 0) {
            page.bits = u64::MAX;
        }
    }

    /// Memory that pages take, used or not.
    pub(crate) fn bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK * size_of::<Page>()
            + self.free.capacity() * size_of::<PageIndex>()
            + self.saved.len() * 2 * size_of::<(PageIndex, u32)>()) as u64
    }
}
