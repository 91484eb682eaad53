//! Memory of the map's pages: fixed-size chunks, so that growing copies nothing and wastes at most one chunk of each kind.
//!
//! A page is two things: a head of 16 bytes, which stays in memory as long as anything refers to the page and gives it
//! its number, and a content. The content of a leaf that is as it was written may leave memory and be read in again;
//! whoever refers to the page notices nothing, however many they are.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::entry::Place;
use super::page::{FANOUT, LeafCount};

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
    /// Parents and roots that refer to it; above 1 it must be copied before it changes. 0 in a free page.
    refs: u32,
    content: Content,
}

/// Where the content is: the number of a slot, or, under [`AWAY`], what is in the leaf ([`LeafCount`], bits 0 to 15), and
/// what is being done to get it.
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

/// A chunk of contents.
#[derive(Debug)]
struct Chunk {
    pages: Box<[Page]>,
    /// A bit for each that was used since the hand passed it.
    used: Cell<u64>,
    /// A bit for each that no writable image uses, as far as is known.
    cold: Cell<u64>,
    /// A bit for each that stays, because somebody waits for more than it.
    held: Cell<u64>,
}

/// Contents of leaves, or of pages above: apart, so that whoever looks for a leaf that may go meets nothing else.
#[derive(Debug, Default)]
struct Pool {
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// What every slot's number has beside its place.
    kind: u32,
}

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
    /// The slot that is looked at next for one to give up.
    hand: u32,
    /// Deliberately wrong: what differs from what was written goes, too.
    #[cfg(feature = "planted")]
    pub(crate) evicts_dirty: bool,
}

/// Heads of a chunk.
const HEADS_BITS: u32 = 8;
const HEADS: usize = 1 << HEADS_BITS;
/// Contents of a chunk: as many as a word has bits.
const CHUNK_BITS: u32 = 6;
const CHUNK: usize = 1 << CHUNK_BITS;

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

    /// What is in a leaf that is not in memory.
    fn count(self) -> LeafCount {
        LeafCount(u16::try_from(self.0 & u32::from(u16::MAX)).expect("16 bits"))
    }
}

impl Chunk {
    fn new() -> Self {
        let blank = Page::blank(0, NOBODY);
        let none = || Cell::new(0);
        Self { pages: vec![blank; CHUNK].into_boxed_slice(), used: none(), cold: none(), held: none() }
    }
}

const NOBODY: PageIndex = PageIndex(u32::MAX);

impl Pool {
    fn new(kind: u32) -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), kind }
    }

    fn slots(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("2^28 pages are more than memory holds")
    }

    fn in_use(&self) -> u64 {
        u64::from(self.slots()) - self.free.len() as u64
    }

    fn allocate(&mut self) -> u32 {
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

    fn give_back(&mut self, slot: u32) {
        let (chunk, bit) = self.chunk_of(slot);
        chunk.cold.set(chunk.cold.get() & !bit);
        self.page_mut(slot).owner = NOBODY;
        self.free.push(slot);
    }

    /// The chunk of a slot, and its bit there.
    fn chunk_of(&self, slot: u32) -> (&Chunk, u64) {
        (&self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize], 1 << (slot as usize % CHUNK))
    }

    fn page(&self, slot: u32) -> &Page {
        &self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize].pages[slot as usize % CHUNK]
    }

    fn page_mut(&mut self, slot: u32) -> &mut Page {
        &mut self.chunks[((slot & !ABOVE) >> CHUNK_BITS) as usize].pages[slot as usize % CHUNK]
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
            hand: 0,
            #[cfg(feature = "planted")]
            evicts_dirty: false,
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

    /// The page's level; only leaves are ever not in memory.
    pub(crate) fn level(&self, index: PageIndex) -> u8 {
        self.resident(index).map_or(0, |page| page.level)
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

    /// Units that compression saves below a page above the leaves.
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

    pub(crate) fn refs(&self, index: PageIndex) -> u32 {
        self.head(index).refs
    }

    pub(crate) fn add_ref(&mut self, index: PageIndex) {
        self.head_mut(index).refs += 1;
    }

    /// Takes a reference off a page; gives how many are left.
    pub(crate) fn drop_ref(&mut self, index: PageIndex) -> u32 {
        let head = self.head_mut(index);
        head.refs -= 1;
        head.refs
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
        head.refs > 0 && head.place == place && self.presence(index) == Presence::Coming
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
        chunk.used.set(chunk.used.get() | bit);
        if warm {
            chunk.cold.set(chunk.cold.get() & !bit);
        }
    }

    /// No writable image holds the page any more, as far as is known.
    pub(crate) fn cool(&self, index: PageIndex) {
        let Some(slot) = self.slot_of(index) else { return };
        let (chunk, bit) = self.chunk_of(slot);
        chunk.cold.set(chunk.cold.get() | bit);
    }

    /// Keeps a page in memory, or lets go of it again.
    pub(crate) fn hold(&mut self, index: PageIndex, held: bool) {
        if let Some(slot) = self.slot_of(index) {
            let (chunk, bit) = self.chunk_of(slot);
            chunk.held.set(if held { chunk.held.get() | bit } else { chunk.held.get() & !bit });
        }
    }

    /// Takes contents of leaves out of memory, up to `count`, of which `may_go` says that what was written there can be
    /// read: first those that no writable image uses, then those that were not used since they were looked at last.
    /// Gives how many it took.
    pub(crate) fn evict(&mut self, count: u64, may_go: impl Fn(Place) -> bool) -> u64 {
        let slots = self.leaves.slots();
        let mut taken = 0;
        if self.leaves.chunks.iter().any(|chunk| chunk.cold.get() != 0) {
            taken += self.sweep(count, slots, true, &may_go);
        }
        if taken < count {
            taken += self.sweep(count - taken, 2 * slots, false, &may_go);
        }
        taken
    }

    /// Gives memory of contents back that is no longer needed, a chunk at a time.
    pub(crate) fn shrink(&mut self) {
        // Pages above the leaves stay and their chunks fill up again.
        let pool = &mut self.leaves;
        while pool.free.len() >= 2 * CHUNK {
            let last = pool.slots() - CHUNK as u32;
            pool.free.retain(|&slot| slot < last);
            for slot in last..last + CHUNK as u32 {
                let owner = pool.page(slot).owner;
                if owner == NOBODY {
                    continue;
                }
                let to = pool.allocate();
                let page = pool.page(slot).clone();
                *pool.page_mut(to) = page;
                let ((from, from_bit), (into, to_bit)) = (pool.chunk_of(slot), pool.chunk_of(to));
                let copy = |from: &Cell<u64>, into: &Cell<u64>| {
                    let others = into.get() & !to_bit;
                    into.set(if from.get() & from_bit != 0 { others | to_bit } else { others });
                };
                copy(&from.used, &into.used);
                copy(&from.cold, &into.cold);
                let head = &mut self.heads[(owner.0 >> HEADS_BITS) as usize][owner.0 as usize % HEADS];
                head.content = Content(to);
            }
            pool.chunks.pop();
            self.hand = 0;
        }
    }

    /// Pages in use, in no order that means anything.
    pub(crate) fn indices(&self) -> impl Iterator<Item = PageIndex> {
        let is_used = |(at, head): (u32, &Head)| (head.refs != 0).then_some(PageIndex(at));
        (0_u32..).zip(self.heads.iter().flatten()).filter_map(is_used)
    }

    /// How many pages are in use.
    pub(crate) fn pages_in_use(&self) -> u64 {
        (self.heads.len() * HEADS - self.free_heads.len()) as u64
    }

    /// Bytes of what is in use.
    pub(crate) fn bytes_in_use(&self) -> u64 {
        let contents = self.leaves.in_use() + self.above.in_use();
        self.pages_in_use() * size_of::<Head>() as u64 + contents * size_of::<Page>() as u64
    }

    /// Says of every leaf that others may hold what it holds.
    pub(crate) fn forget_hints(&mut self) {
        let pages = self.leaves.chunks.iter_mut().flat_map(|chunk| &mut chunk.pages);
        for page in pages.filter(|page| page.owner != NOBODY) {
            page.bits = u64::MAX;
        }
    }

    /// Memory that pages take, used or not.
    pub(crate) fn bytes(&self) -> u64 {
        let heads = self.heads.len() * HEADS * size_of::<Head>();
        let chunks = self.leaves.chunks.len() + self.above.chunks.len();
        let contents = chunks * (CHUNK * size_of::<Page>() + size_of::<Chunk>());
        let free = self.free_heads.capacity() + self.leaves.free.capacity() + self.above.free.capacity();
        let lists = free * size_of::<u32>();
        let saved = self.saved.len() * 2 * size_of::<(PageIndex, u32)>();
        (heads + contents + lists + saved) as u64
    }

    /// Looks at `most` slots from the hand on.
    fn sweep(&mut self, count: u64, most: u32, cold_only: bool, may_go: &impl Fn(Place) -> bool) -> u64 {
        let mut taken = 0;
        for _ in 0..most {
            if taken == count {
                break;
            }
            let slot = self.hand;
            self.hand = if slot + 1 == self.leaves.slots() { 0 } else { slot + 1 };
            let page = self.slot(slot);
            #[cfg(feature = "planted")]
            let stays = page.dirty && !self.evicts_dirty;
            #[cfg(not(feature = "planted"))]
            let stays = page.dirty;
            let (chunk, bit) = self.chunk_of(slot);
            if page.owner == NOBODY || stays || chunk.held.get() & bit != 0 {
                continue;
            }
            if cold_only && chunk.cold.get() & bit == 0 {
                continue;
            }
            if !cold_only && chunk.used.get() & bit != 0 {
                chunk.used.set(chunk.used.get() & !bit);
                continue;
            }
            let place = self.head(page.owner).place;
            if place.is_somewhere() && may_go(place) {
                self.put_away(slot);
                taken += 1;
            }
        }
        taken
    }

    /// Takes a leaf that is as it was written out of memory.
    pub(crate) fn take_out(&mut self, index: PageIndex) {
        if let Some(slot) = self.slot_of(index) {
            self.put_away(slot);
        }
    }

    fn put_away(&mut self, slot: u32) {
        let page = self.slot(slot);
        let (owner, count) = (page.owner, LeafCount::of(&page.entries));
        self.head_mut(owner).content = Content::away(count);
        self.leaves.give_back(slot);
        self.away += 1;
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
    fn chunk_of(&self, slot: u32) -> (&Chunk, u64) {
        if slot & ABOVE == 0 { self.leaves.chunk_of(slot) } else { self.above.chunk_of(slot) }
    }
}
