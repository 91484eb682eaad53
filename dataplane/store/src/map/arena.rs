//! Memory of the map's pages: fixed-size chunks, so that growing copies nothing and wastes at most one chunk of each kind.
//!
//! A page is two things: a head of 16 bytes, which stays in memory as long as anything there refers to the page and gives
//! it its number, and a content. The content of a leaf, and of a page right above the leaves, may leave memory as long as
//! it is as it was written, and be read in again; whoever refers to the page notices nothing, however many they are.

mod evict;
mod pool;
mod renumber;

use std::collections::BTreeMap;

use super::entry::Place;
use super::page::{FANOUT, LeafCount};
use pool::Pool;

/// A page; the numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageIndex(pub(crate) u32);

/// The content of a page, 536 bytes: with heads and pages above the leaves 2.2 GiB for a mapped TiB.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Of a leaf, block entries; of a page above, see [`super::IN_MEMORY`].
    pub(crate) entries: [u64; FANOUT],
    /// Of a leaf, a bit for each entry that another page may hold too; without it nobody else does. Of a page above, a
    /// bit for each child that was written elsewhere since this page was, or is dirty, or has something dirty below it.
    pub(crate) bits: u64,
    /// Highest LSN of a record that changed the page or what is below it.
    pub(crate) lsn: u64,
    /// The page whose content this is.
    owner: PageIndex,
    /// Of a leaf, what was in it when it was written last.
    pub(crate) written: LeafCount,
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// Whether it differs from what was last written.
    pub(crate) dirty: bool,
}

/// What is known of a page whether its content is in memory or not.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Where it was last written.
    place: Place,
    /// Parents in memory and roots that refer to it; above 1 it must be copied before it changes. 0 in a free page. Under
    /// [`UNKNOWN`] parents that are not in memory may refer to it, too.
    refs: u32,
    content: Content,
}

/// Where the content is: the number of a slot, or, under [`AWAY`], what is being done to get it, and what is in it. Of a
/// leaf that is a [`LeafCount`] (bits 0 to 15). Of a page right above, under [`ABOVE`], it is the number of blocks mapped
/// below it (bits 0 to 12), and of units that compression saves of them (bits 13 to 27).
#[derive(Clone, Copy, Debug)]
struct Content(u32);

/// How it stands with the content of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is in memory.
    Here,
    /// It must be read first.
    Away,
    /// It is being read.
    Coming,
    /// It could not be read, more than once.
    Unreadable,
}

const AWAY: u32 = 1 << 31;
const COMING: u32 = 1 << 30;
const UNREADABLE: u32 = 1 << 29;
/// In the number of a slot of a page above the leaves.
const ABOVE: u32 = 1 << 28;
const SAVED_SHIFT: u32 = 13;
/// In the references of a head.
const UNKNOWN: u32 = 1 << 31;

/// All pages of a shard.
#[derive(Debug)]
pub(crate) struct Arena {
    heads: Vec<Box<[Head]>>,
    free_heads: Vec<PageIndex>,
    leaves: Pool,
    above: Pool,
    /// Units that compression saves below pages above the leaves, where it saves any; see [`super::saved`].
    saved: BTreeMap<PageIndex, u32>,
    /// Pages whose content is not in memory.
    away: u64,
    /// Deliberately wrong: what differs from what was written goes, too.
    #[cfg(feature = "planted")]
    pub(crate) evicts_dirty: bool,
    /// Deliberately wrong: what is not in memory refers to nothing.
    #[cfg(feature = "planted")]
    pub(crate) forgets_away: bool,
}

/// Heads of a chunk.
const HEADS_BITS: u32 = 8;
const HEADS: usize = 1 << HEADS_BITS;

const _: () = assert!(size_of::<Page>() == 536);
const _: () = assert!(size_of::<Head>() == 16);

impl Page {
    fn blank(level: u8, owner: PageIndex) -> Self {
        let written = LeafCount::default();
        Self { entries: [0; FANOUT], bits: 0, lsn: 0, owner, written, level, dirty: false }
    }
}

impl Content {
    /// A leaf that is not in memory.
    fn away(count: LeafCount) -> Self {
        Self(AWAY | u32::from(count.0))
    }

    /// A page right above the leaves that is not in memory.
    fn away_above(mapped: u32, saved: u32) -> Self {
        assert!(mapped < 1 << SAVED_SHIFT, "64 leaves of 64 blocks");
        assert!(saved < ABOVE >> SAVED_SHIFT, "7 units of each block at most");
        Self(AWAY | ABOVE | saved << SAVED_SHIFT | mapped)
    }

    /// Blocks mapped, and units saved, below a page that is not in memory.
    fn counts_above(self) -> (u32, u32) {
        let counts = self.0 & (ABOVE - 1);
        (counts & ((1 << SAVED_SHIFT) - 1), counts >> SAVED_SHIFT)
    }

    /// What is in a leaf that is not in memory.
    fn count(self) -> LeafCount {
        LeafCount(u16::try_from(self.0 & u32::from(u16::MAX)).expect("16 bits"))
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            free_heads: Vec::new(),
            leaves: Pool::new(0),
            above: Pool::new(ABOVE),
            saved: BTreeMap::new(),
            away: 0,
            #[cfg(feature = "planted")]
            evicts_dirty: false,
            #[cfg(feature = "planted")]
            forgets_away: false,
        }
    }
}

impl Arena {
    /// A new page with one reference.
    pub(crate) fn allocate(&mut self, level: u8) -> PageIndex {
        let index = self.allocate_head();
        let slot = if level == 0 { self.leaves.allocate() } else { self.above.allocate() };
        *self.slot_mut(slot) = Page::blank(level, index);
        *self.head_mut(index) = Head { place: Place::NOWHERE, refs: 1, content: Content(slot) };
        index
    }

    /// Gives a page back.
    pub(crate) fn free(&mut self, index: PageIndex) {
        match self.slot_of(index) {
            Some(slot) => self.pool_mut(slot).give_back(slot),
            None => self.away -= 1,
        }
        self.set_saved(index, 0);
        let head = self.head_mut(index);
        head.refs = 0;
        head.place = Place::NOWHERE;
        head.content = Content(AWAY);
        self.free_heads.push(index);
    }

    /// The content of a page, which is in memory: whoever needs that of a leaf has seen to it.
    pub(crate) fn page(&self, index: PageIndex) -> &Page {
        self.slot(self.head(index).content.0)
    }

    /// The content of a page, which is in memory, to change it.
    pub(crate) fn page_mut(&mut self, index: PageIndex) -> &mut Page {
        let slot = self.head(index).content.0;
        self.slot_mut(slot)
    }

    /// The content of a page, if it is in memory.
    pub(crate) fn resident(&self, index: PageIndex) -> Option<&Page> {
        self.slot_of(index).map(|slot| self.slot(slot))
    }

    pub(crate) fn presence(&self, index: PageIndex) -> Presence {
        let content = self.head(index).content.0;
        if content & AWAY == 0 {
            Presence::Here
        } else if content & COMING != 0 {
            Presence::Coming
        } else if content & UNREADABLE != 0 {
            Presence::Unreadable
        } else {
            Presence::Away
        }
    }

    /// The page's level; leaves and the pages right above them alone are ever not in memory.
    pub(crate) fn level(&self, index: PageIndex) -> u8 {
        let is_above = self.head(index).content.0 & ABOVE != 0;
        self.resident(index).map_or(u8::from(is_above), |page| page.level)
    }

    /// Whether the page differs from what was last written.
    pub(crate) fn is_dirty(&self, index: PageIndex) -> bool {
        self.resident(index).is_some_and(|page| page.dirty)
    }

    /// What is in a leaf.
    pub(crate) fn count(&self, leaf: PageIndex) -> LeafCount {
        match self.resident(leaf) {
            Some(page) => LeafCount::of(&page.entries),
            None => self.head(leaf).content.count(),
        }
    }

    /// What is in a leaf as it was written last.
    pub(crate) fn written_count(&self, leaf: PageIndex) -> LeafCount {
        self.resident(leaf).map_or_else(|| self.head(leaf).content.count(), |page| page.written)
    }

    /// A leaf that was written and is not in memory. It has no reference yet.
    pub(crate) fn allocate_away(&mut self, place: Place, count: LeafCount) -> PageIndex {
        let index = self.allocate_head();
        *self.head_mut(index) = Head { place, refs: 0, content: Content::away(count) };
        self.away += 1;
        index
    }

    /// Blocks mapped below a page right above the leaves that is not in memory.
    pub(crate) fn mapped_away(&self, index: PageIndex) -> Option<u64> {
        let content = self.head(index).content;
        (content.0 & AWAY != 0).then(|| u64::from(content.counts_above().0))
    }

    /// Units that compression saves below a page above the leaves.
    pub(crate) fn saved(&self, index: PageIndex) -> u32 {
        let content = self.head(index).content;
        if content.0 & AWAY != 0 {
            return content.counts_above().1;
        }
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

    pub(crate) fn refs(&self, index: PageIndex) -> u32 {
        self.head(index).refs & !UNKNOWN
    }

    /// Whether pages that are not in memory may refer to a leaf, too.
    pub(crate) fn has_unknown(&self, leaf: PageIndex) -> bool {
        #[cfg(feature = "planted")]
        if self.forgets_away {
            return false;
        }
        self.head(leaf).refs & UNKNOWN != 0
    }

    /// Says of a leaf whether pages that are not in memory may refer to it.
    pub(crate) fn set_unknown(&mut self, leaf: PageIndex, unknown: bool) {
        let refs = &mut self.head_mut(leaf).refs;
        *refs = *refs & !UNKNOWN | if unknown { UNKNOWN } else { 0 };
    }

    pub(crate) fn add_ref(&mut self, index: PageIndex) {
        self.head_mut(index).refs += 1;
    }

    /// Takes a reference off a page; gives how many are left.
    pub(crate) fn drop_ref(&mut self, index: PageIndex) -> u32 {
        let head = self.head_mut(index);
        head.refs -= 1;
        head.refs & !UNKNOWN
    }

    pub(crate) fn place(&self, index: PageIndex) -> Place {
        self.head(index).place
    }

    /// Says where a page is written from now on; gives where it was before.
    pub(crate) fn set_place(&mut self, index: PageIndex, place: Place) -> Place {
        std::mem::replace(&mut self.head_mut(index).place, place)
    }

    /// Pages whose content is not in memory.
    pub(crate) fn away(&self) -> u64 {
        self.away
    }

    /// Notes that the content is being read; false if that was known, or it is in memory.
    pub(crate) fn begin_load(&mut self, index: PageIndex) -> bool {
        let is_new = self.presence(index) == Presence::Away;
        if is_new {
            self.head_mut(index).content.0 |= COMING;
        }
        is_new
    }

    /// Whether the content is being read from this place still.
    pub(crate) fn awaits(&self, index: PageIndex, place: Place) -> bool {
        let head = self.head(index);
        head.refs & !UNKNOWN > 0 && head.place == place && self.presence(index) == Presence::Coming
    }

    /// Puts the content of a leaf back into memory.
    pub(crate) fn install(&mut self, index: PageIndex, entries: [u64; FANOUT], lsn: u64) {
        let slot = self.leaves.allocate();
        // Who else holds what is not known: whoever lets go of it asks.
        let written = LeafCount::of(&entries);
        *self.slot_mut(slot) = Page { entries, bits: u64::MAX, lsn, written, ..Page::blank(0, index) };
        self.head_mut(index).content = Content(slot);
        self.away -= 1;
        self.cool(index);
    }

    /// Puts the content of a page right above the leaves back into memory, with entries that lead to them.
    pub(crate) fn install_above(&mut self, index: PageIndex, entries: [u64; FANOUT], lsn: u64) {
        let saved = self.saved(index);
        let slot = self.above.allocate();
        *self.slot_mut(slot) = Page { entries, lsn, ..Page::blank(1, index) };
        self.head_mut(index).content = Content(slot);
        self.away -= 1;
        self.set_saved(index, u64::from(saved));
        self.cool(index);
    }

    /// The content cannot be read.
    pub(crate) fn give_up(&mut self, index: PageIndex) {
        let content = &mut self.head_mut(index).content.0;
        *content = *content & !COMING | UNREADABLE;
    }

    /// Whoever wants the content tries again.
    pub(crate) fn forgive(&mut self, index: PageIndex) {
        let content = &mut self.head_mut(index).content.0;
        if *content & AWAY != 0 {
            *content &= !UNREADABLE;
        }
    }

    /// The content of a page was used; by a writable image if it is `warm`.
    pub(crate) fn use_page(&self, index: PageIndex, warm: bool) {
        let Some(slot) = self.slot_of(index) else { return };
        let (chunk, bit) = self.chunk_of(slot);
        if chunk.used.get() & bit == 0 {
            chunk.used.set(chunk.used.get() | bit);
        }
        if warm && chunk.cold.get() & bit != 0 {
            chunk.cold.set(chunk.cold.get() & !bit);
        }
    }

    /// No writable image holds the page any more, as far as is known.
    pub(crate) fn cool(&self, index: PageIndex) {
        let Some(slot) = self.slot_of(index) else { return };
        let (chunk, bit) = self.chunk_of(slot);
        chunk.cold.set(chunk.cold.get() | bit);
    }

    /// No writable image holds any page right above the leaves, as far as is known.
    pub(crate) fn cool_above(&self) {
        for chunk in &self.above.chunks {
            let is_used = |page: &Page| page.owner != pool::NOBODY && page.level == 1;
            let used = (0..).zip(&chunk.pages).filter(|(_, page)| is_used(page));
            chunk.cold.set(used.fold(0, |bits, (at, _)| bits | 1 << at));
        }
    }

    /// Keeps a page in memory, or lets go of it again.
    pub(crate) fn hold(&mut self, index: PageIndex, held: bool) {
        if let Some(slot) = self.slot_of(index) {
            let (chunk, bit) = self.chunk_of(slot);
            chunk.held.set(if held { chunk.held.get() | bit } else { chunk.held.get() & !bit });
        }
    }

    /// Pages in use, in no order that means anything.
    pub(crate) fn indices(&self) -> impl Iterator<Item = PageIndex> {
        let is_used = |(at, head): (u32, &Head)| (head.refs & !UNKNOWN != 0).then_some(PageIndex(at));
        (0_u32..).zip(self.heads.iter().flatten()).filter_map(is_used)
    }

    /// How many pages are in use.
    pub(crate) fn pages_in_use(&self) -> u64 {
        (self.heads.len() * HEADS - self.free_heads.len()) as u64
    }

    /// Bytes of what is in use, and of what cannot be given back.
    pub(crate) fn bytes_in_use(&self) -> u64 {
        self.bytes_by_kind().iter().sum()
    }

    /// Bytes of heads, used or not, and in use of contents of leaves and of contents of pages above.
    pub(crate) fn bytes_by_kind(&self) -> [u64; 3] {
        let contents = |pool: &Pool| pool.in_use() * size_of::<Page>() as u64;
        let heads = (self.heads.len() * HEADS * size_of::<Head>()) as u64;
        [heads, contents(&self.leaves), contents(&self.above)]
    }

    /// Says of every leaf that others may hold what it holds.
    pub(crate) fn forget_hints(&mut self) {
        let pages = self.leaves.chunks.iter_mut().flat_map(|chunk| &mut chunk.pages);
        for page in pages.filter(|page| page.owner != pool::NOBODY) {
            page.bits = u64::MAX;
        }
    }

    /// Memory that pages take, used or not.
    pub(crate) fn bytes(&self) -> u64 {
        let heads = self.heads.len() * HEADS * size_of::<Head>();
        let chunks = self.leaves.chunks.len() + self.above.chunks.len();
        let contents = chunks * pool::CHUNK_BYTES;
        let free = self.free_heads.capacity() + self.leaves.free.capacity() + self.above.free.capacity();
        let lists = free * size_of::<u32>();
        let saved = self.saved.len() * 2 * size_of::<(PageIndex, u32)>();
        (heads + contents + lists + saved) as u64
    }

    fn allocate_head(&mut self) -> PageIndex {
        if self.free_heads.is_empty() {
            let first =
                u32::try_from(self.heads.len() * HEADS).expect("2^32 pages are more than memory holds");
            let blank = Head { place: Place::NOWHERE, refs: 0, content: Content(AWAY) };
            self.heads.push(vec![blank; HEADS].into_boxed_slice());
            self.free_heads.extend((first..first + HEADS as u32).rev().map(PageIndex));
        }
        self.free_heads.pop().expect("a chunk was just added")
    }

    fn slot_of(&self, index: PageIndex) -> Option<u32> {
        let content = self.head(index).content.0;
        (content & AWAY == 0).then_some(content)
    }

    fn head(&self, index: PageIndex) -> &Head {
        &self.heads[(index.0 >> HEADS_BITS) as usize][index.0 as usize % HEADS]
    }

    fn head_mut(&mut self, index: PageIndex) -> &mut Head {
        &mut self.heads[(index.0 >> HEADS_BITS) as usize][index.0 as usize % HEADS]
    }

    fn slot(&self, slot: u32) -> &Page {
        if slot & ABOVE == 0 { self.leaves.page(slot) } else { self.above.page(slot) }
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Page {
        self.pool_mut(slot).page_mut(slot)
    }

    fn pool_mut(&mut self, slot: u32) -> &mut Pool {
        if slot & ABOVE == 0 { &mut self.leaves } else { &mut self.above }
    }

    /// The chunk of a slot, and its bit there.
    fn chunk_of(&self, slot: u32) -> (&pool::Chunk, u64) {
        if slot & ABOVE == 0 { self.leaves.chunk_of(slot) } else { self.above.chunk_of(slot) }
    }
}
