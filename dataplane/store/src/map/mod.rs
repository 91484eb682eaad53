//! The map: for each image a radix tree from blocks to places on the drives.
//!
//! Every page has 64 entries, the leaves (256 KiB of blocks, one word of a diff bitmap) and the pages above alike: one
//! format, one arena, and what a copy on write costs after a snapshot is 552 bytes a level. A volume of 64 GiB in a
//! shard (1 TiB over 16 shards) takes four loads, of which the upper two stay in the processor's caches.
//!
//! A page may be shared by several trees (`refs`); whoever changes a page copies it first if it is shared. Only moves,
//! which every holder of a block must see, change shared pages where they are. Who else holds a block is the matter of
//! `image`; pages that were cut off are given back a few at a time ([`Map::drop_step`]).

mod above;
mod arena;
mod cache;
mod checkpoint;
mod counts;
mod cuts;
mod diff;
mod entry;
mod few;
mod image;
mod load;
mod moves;
mod owned;
mod page;
mod saved;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use crate::VolumeId;

#[cfg(any(test, feature = "planted"))]
use above::Found;
use arena::Arena;
pub(crate) use arena::{Page, PageIndex};
pub(crate) use cache::{Needs, Wanted};
pub(crate) use checkpoint::{PageName, extent_of};
use counts::COUNT_MASK;
pub(crate) use cuts::{CutHead, is_cut};
pub use diff::ChangedLeaf;
pub(crate) use entry::{Entry, LOCATION_BYTES, Location, Place};
use few::Few;
pub(crate) use image::ImageHead;
use image::{Cliques, Cut, Holder, Tree};
pub(crate) use page::{DiskPage, FANOUT, FANOUT_BITS, LEVEL_MAX, LeafCount, PAGE_BYTES_MAX};

/// The maps of all images of a shard.
#[derive(Debug, Default)]
pub(crate) struct Map {
    arena: Arena,
    trees: BTreeMap<VolumeId, Tree>,
    /// All that holds places in each lineage, what was cut off with the images.
    lineages: BTreeMap<VolumeId, Vec<Holder>>,
    cliques: Cliques,
    cuts: VecDeque<Cut>,
    /// How many cuts there have been; the numbers of those in `cuts` are the last before it.
    cuts_begun: u64,
    dirty_pages: u64,
    mapped_blocks: u64,
    /// Leaves that were looked up.
    lookups: Cell<u64>,
    /// Deliberately wrong behaviour.
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::shard::Planted>,
}

/// Something that the map does not refer to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// A block's data.
    Block(Entry),
    /// A page as it was written.
    Page(Place),
}

/// What an entry of a page above the leaves says of a child: under this bit the number of mapped blocks below it (bits
/// 32 to 62, of children up to [`counts::COUNTED_LEVEL_MAX`]) and its index (bits 0 to 31).
const IN_MEMORY: u64 = 1 << 63;
impl Map {
    /// What is known of `count` blocks from `first` on, appended to `entries`.
    pub(crate) fn lookup(&self, volume: VolumeId, first: u64, count: u32, entries: &mut Vec<Entry>) {
        let tree = self.trees.get(&volume);
        let mut block = first;
        let end = first + u64::from(count);
        while block < end {
            let stop = end.min((block | (FANOUT as u64 - 1)) + 1);
            let len = usize::try_from(stop - block).expect("at most one leaf");
            match tree.and_then(|tree| self.use_leaf(tree, block)) {
                Some(leaf) => {
                    let slot = slot_of(block, 0);
                    self.lookups.set(self.lookups.get() + 1);
                    entries
                        .extend(self.page(leaf).entries[slot..slot + len].iter().map(|&entry| Entry(entry)));
                }
                None => entries.extend(std::iter::repeat_n(Entry::UNMAPPED, len)),
            }
            block = stop;
        }
    }

    /// What is known of one block.
    #[cfg(any(test, feature = "planted"))]
    pub(crate) fn entry(&self, volume: VolumeId, block: u64) -> Entry {
        self.page_at(volume, 0, block >> FANOUT_BITS)
            .map_or(Entry::UNMAPPED, |leaf| Entry(self.page(leaf).entries[slot_of(block, 0)]))
    }

    /// Maps a block.
    #[cfg(any(test, feature = "injected"))]
    pub(crate) fn set(
        &mut self,
        names: (VolumeId, VolumeId),
        block: u64,
        entry: Entry,
        lsn: u64,
        freed: &mut impl FnMut(Freed),
    ) {
        self.set_all(names, std::iter::once((block, entry)), lsn, freed);
    }

    /// Maps blocks of one leaf, one after another, as records up to `lsn` say; what they replace and nobody else holds is
    /// told to `freed`. An image that has no tree gets one, of `lineage`.
    pub(crate) fn set_all(
        &mut self,
        (image, lineage): (VolumeId, VolumeId),
        blocks: impl Iterator<Item = (u64, Entry)>,
        lsn: u64,
        freed: &mut impl FnMut(Freed),
    ) {
        let mut blocks = blocks.peekable();
        let Some(&(first, _)) = blocks.peek() else { return };
        let leaf = self.leaf_mut(image, lineage, first, lsn);
        self.arena.use_page(leaf, true);
        let mut mapped = 0;
        while blocks.peek().is_some() {
            // One look at the page is enough for all changes that concern nothing but their own block.
            let page = self.arena.page_mut(leaf);
            let mut other = None;
            for (block, entry) in blocks.by_ref() {
                let slot = slot_of(block, 0);
                let may_be_shared = page.bits >> slot & 1 != 0;
                page.bits &= !(1 << slot);
                let old = Entry(std::mem::replace(&mut page.entries[slot], entry.0));
                mapped += u64::from(!old.is_mapped());
                if may_be_shared || old.saved_units() != entry.saved_units() {
                    other = Some((block, old, entry, may_be_shared));
                    break;
                }
                if old.is_mapped() {
                    freed(Freed::Block(old));
                }
            }
            if let Some((block, old, entry, may_be_shared)) = other {
                self.change_saved(image, block, (old, entry));
                let is_held =
                    || may_be_shared && self.is_held_beside(Holder::Image(image), block, old.location());
                if old.is_mapped() && !is_held() {
                    freed(Freed::Block(old));
                }
            }
        }
        if mapped > 0 {
            self.count_blocks(image, first, mapped);
        }
    }

    /// Unmaps the blocks from `first` to before `end`. Blocks at the edges that nobody else holds are told to `freed`
    /// at once; whole subtrees are cut off, unreachable from now on, and told by [`Map::drop_step`].
    pub(crate) fn unmap(
        &mut self,
        image: VolumeId,
        first: u64,
        end: u64,
        lsn: u64,
        freed: &mut impl FnMut(Freed),
    ) {
        let Some(tree) = self.trees.get(&image) else { return };
        let root = tree.root;
        let end = end.min(coverage(self.arena.level(root)));
        if first >= end {
            return;
        }
        let root = self.own_of(image, 0, root);
        self.set_root(image, root);
        let mut unmapping = Unmapping { image, range: (first, end), lsn, unmapped: 0, saved: 0, freed };
        let cut = self.unmap_below(root, 0, &mut unmapping);
        self.mapped_blocks -= unmapping.unmapped;
        if let Some(cut) = cut {
            self.keep_cut(image, cut);
        }
    }

    /// The images that have a tree, in order.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = VolumeId> {
        self.trees.keys().copied()
    }

    /// How many entries a manifest needs for what has a tree: two for each image, one for each that was cut off, one for
    /// each place in a clique; and one for the totals.
    pub(crate) fn manifest_entries(&self) -> u64 {
        let images: u64 = self.trees.values().map(|tree| 2 + tree.cliques.len() as u64).sum();
        let cuts: u64 = self.cuts.iter().map(|cut| 1 + cut.cliques.len() as u64).sum();
        images + cuts + 1
    }

    /// Whether the image has a tree.
    pub(crate) fn has_volume(&self, volume: VolumeId) -> bool {
        self.trees.contains_key(&volume)
    }

    /// Mapped blocks of an image.
    pub(crate) fn mapped_blocks_of(&self, image: VolumeId) -> u64 {
        self.trees.get(&image).map_or(0, |tree| self.mapped_in(tree.root))
    }

    /// Mapped blocks of all images, those that several hold counted for each.
    pub(crate) fn mapped_blocks(&self) -> u64 {
        self.mapped_blocks
    }

    /// Pages that differ from what was last written.
    pub(crate) fn dirty_pages(&self) -> u64 {
        self.dirty_pages
    }

    /// Pages in memory.
    pub(crate) fn pages(&self) -> u64 {
        self.arena.pages_in_use()
    }

    /// Memory of all pages in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.arena.bytes()
    }

    /// Leaves that were looked up.
    pub(crate) fn lookups(&self) -> u64 {
        self.lookups.get()
    }

    /// Makes it go wrong on purpose.
    #[cfg(feature = "planted")]
    pub(crate) fn plant(&mut self, planted: Option<crate::shard::Planted>) {
        self.planted = planted;
        self.arena.evicts_dirty = planted == Some(crate::shard::Planted::EvictDirty);
        self.arena.forgets_away = planted == Some(crate::shard::Planted::ForgetAway);
    }

    /// The page of this level and index of an image, if there is one.
    #[cfg(any(test, feature = "planted"))]
    pub(crate) fn page_at(&self, image: VolumeId, level: u8, index: u64) -> Option<PageIndex> {
        match self.find(self.trees.get(&image)?.root, level, index) {
            Found::Page(page) => Some(page),
            Found::Nothing | Found::Beyond(_) => None,
        }
    }

    pub(crate) fn page(&self, index: PageIndex) -> &Page {
        self.arena.page(index)
    }

    /// The leaf of a block, if there is one; it and what leads to it is in memory, and is noted as used.
    fn use_leaf(&self, tree: &Tree, block: u64) -> Option<PageIndex> {
        let mut at = tree.root;
        let top = self.arena.level(at);
        if block >= coverage(top) {
            return None;
        }
        let is_warm = !tree.head.read_only;
        for level in (1..=top).rev() {
            if level == 1 {
                self.arena.use_page(at, is_warm);
            }
            at = child(self.page(at).entries[slot_of(block, level)])?;
        }
        self.arena.use_page(at, is_warm);
        Some(at)
    }

    fn set_root(&mut self, image: VolumeId, root: PageIndex) {
        if let Some(tree) = self.trees.get_mut(&image) {
            tree.root = root;
        }
    }

    /// The leaf of a block, made if there is none, alone the image's, and dirty with all pages above it.
    fn leaf_mut(&mut self, image: VolumeId, lineage: VolumeId, block: u64, lsn: u64) -> PageIndex {
        let root = match self.trees.get(&image) {
            Some(tree) => tree.root,
            None => {
                let root = self.arena.allocate(0);
                // So that a checkpoint takes it out again if nothing comes to be in it.
                self.touch(root, lsn);
                let head = ImageHead { image, lineage, read_only: false, forked: false };
                self.insert_tree(root, head, Few::None);
                root
            }
        };
        let root = self.grow(root, block);
        let root = self.own_of(image, block, root);
        self.set_root(image, root);
        let mut at = root;
        loop {
            self.touch(at, lsn);
            let level = self.page(at).level;
            if level == 0 {
                return at;
            }
            if level == 1 {
                self.arena.use_page(at, true);
            }
            let slot = slot_of(block, level);
            let entry = self.page(at).entries[slot];
            let below = match child(entry) {
                Some(below) => self.own_of(image, block, below),
                None => self.arena.allocate(level - 1),
            };
            let page = self.arena.page_mut(at);
            page.entries[slot] = IN_MEMORY | entry & COUNT_MASK | u64::from(below.0);
            page.bits |= 1 << slot;
            at = below;
        }
    }

    /// Puts pages above `root` until it covers `block`.
    fn grow(&mut self, mut root: PageIndex, block: u64) -> PageIndex {
        while block >= coverage(self.arena.level(root)) {
            let level = self.arena.level(root) + 1;
            assert!(level <= LEVEL_MAX);
            let lsn = self.arena.resident(root).map_or(0, |page| page.lsn);
            let above = self.arena.allocate(level);
            let link = self.link(root);
            let page = self.arena.page_mut(above);
            page.entries[0] = link;
            page.bits = 1;
            self.touch(above, lsn);
            self.sum_saved(above);
            root = above;
        }
        root
    }

    /// The page itself if nobody else refers to it, else a copy of it, which is dirty. The caller's entry leads to the
    /// copy from now on.
    fn own(&mut self, index: PageIndex) -> PageIndex {
        if self.arena.refs(index) == 1 && !self.arena.has_unknown(index) {
            return index;
        }
        let copy = self.arena.allocate(self.page(index).level);
        let refs_left = self.arena.drop_ref(index);
        // A read-only image has it now, most often.
        self.arena.cool(index);
        let old = self.arena.page_mut(index);
        #[cfg(feature = "planted")]
        let tells = self.planted != Some(crate::shard::Planted::CopyInSilence);
        #[cfg(not(feature = "planted"))]
        let tells = true;
        if old.level == 0 && tells {
            // What both pages hold neither may free alone.
            let mapped =
                |bits: u64, slot: usize| if old.entries[slot] == 0 { bits } else { bits | 1 << slot };
            old.bits = (0..FANOUT).fold(0, mapped);
        }
        let (entries, bits, lsn, level) = (old.entries, old.bits, old.lsn, old.level);
        for below in entries.iter().filter_map(|&entry| child(entry)).filter(|_| level > 0) {
            self.arena.add_ref(below);
        }
        let page = self.arena.page_mut(copy);
        page.entries = entries;
        page.bits = bits;
        self.touch(copy, lsn);
        self.arena.set_saved(copy, u64::from(self.arena.saved(index)));
        if refs_left == 0 {
            self.forget_page(index);
        }
        copy
    }

    /// Whether a page, or something below it, differs from what was written.
    fn must_be_written(&self, at: PageIndex) -> bool {
        self.arena.resident(at).is_some_and(|page| page.dirty || page.level > 0 && page.bits != 0)
    }

    /// Marks a page as changed by record `lsn`.
    fn touch(&mut self, index: PageIndex, lsn: u64) {
        let page = self.arena.page_mut(index);
        page.lsn = page.lsn.max(lsn);
        if !page.dirty {
            page.dirty = true;
            self.dirty_pages += 1;
        }
    }

    /// Unmaps a range, which overlaps the page, in it and below. What was cut off whole hangs on the page that it
    /// gives, as it hung here.
    fn unmap_below<F: FnMut(Freed)>(
        &mut self,
        at: PageIndex,
        base: u64,
        unmapping: &mut Unmapping<'_, F>,
    ) -> Option<PageIndex> {
        let level = self.page(at).level;
        let width = coverage(level) / FANOUT as u64;
        let (from, to) = unmapping.range;
        let saved_before = unmapping.saved;
        let mut cut = None;
        let slot_before = |block: u64| block.saturating_sub(base).div_ceil(width).min(FANOUT as u64);
        let slots = from.saturating_sub(base) / width..slot_before(to);
        for slot in slots.map(|slot| slot as usize) {
            let first = base + slot as u64 * width;
            let entry = self.page(at).entries[slot];
            if entry == 0 {
                continue;
            }
            let whole = from <= first && first + width <= to;
            let mut cut_below = entry;
            if whole {
                self.touch(at, unmapping.lsn);
                let page = self.arena.page_mut(at);
                let may_be_shared = page.bits >> slot & 1 != 0;
                page.entries[slot] = 0;
                page.bits &= !(1 << slot);
                if level == 0 {
                    self.end_block(first, Entry(entry), may_be_shared, unmapping);
                    continue;
                }
                unmapping.unmapped += self.linked(entry);
                unmapping.saved += child(entry).map_or(0, |below| self.saved_in(below));
            } else if let Some(below) = child(entry) {
                let below = self.own_of(unmapping.image, first, below);
                cut_below = self.unmap_below(below, first, unmapping).map_or(0, |cut| self.link(cut));
                self.arena.page_mut(at).entries[slot] = self.link(below);
                if self.must_be_written(below) {
                    self.touch(at, unmapping.lsn);
                    self.arena.page_mut(at).bits |= 1 << slot;
                }
            }
            if cut_below != 0 {
                let to = *cut.get_or_insert_with(|| self.arena.allocate(level));
                self.touch(to, unmapping.lsn);
                let must_be_written = child(cut_below).is_some_and(|below| self.must_be_written(below));
                let page = self.arena.page_mut(to);
                page.entries[slot] = cut_below;
                page.bits |= u64::from(must_be_written) << slot;
            }
        }
        self.save_less(at, unmapping.saved - saved_before);
        cut
    }

    /// A block at the edge of a range is unmapped.
    fn end_block<F: FnMut(Freed)>(
        &self,
        block: u64,
        entry: Entry,
        may_be_shared: bool,
        unmapping: &mut Unmapping<'_, F>,
    ) {
        unmapping.unmapped += 1;
        unmapping.saved += entry.saved_units();
        let holder = Holder::Image(unmapping.image);
        if !(may_be_shared && self.is_held_beside(holder, block, entry.location())) {
            (unmapping.freed)(Freed::Block(entry));
        }
    }
}

/// A range that is being unmapped.
struct Unmapping<'a, F> {
    image: VolumeId,
    range: (u64, u64),
    lsn: u64,
    /// Blocks that were mapped there so far.
    unmapped: u64,
    /// Units that compression saved of them.
    saved: u64,
    freed: &'a mut F,
}

/// Blocks that a page of this level covers.
pub(crate) fn coverage(level: u8) -> u64 {
    1 << (FANOUT_BITS * (u32::from(level) + 1))
}

/// Which entry of a page of this level is about the block.
fn slot_of(block: u64, level: u8) -> usize {
    usize::try_from(block >> (FANOUT_BITS * u32::from(level)) & (FANOUT as u64 - 1)).expect("six bits")
}

/// The child in memory that an entry of a page above the leaves names.
fn child(entry: u64) -> Option<PageIndex> {
    (entry & IN_MEMORY != 0)
        .then(|| PageIndex(u32::try_from(entry & u64::from(u32::MAX)).expect("masked to 32 bits")))
}

#[cfg(test)]
mod test;
