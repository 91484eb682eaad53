//! The map: for each volume a radix tree from blocks to places on the drives.
//!
//! Every page has 64 entries, the leaves (256 KiB of blocks, one word of a diff bitmap) and the pages above alike: one
//! format, one arena, and what a copy on write costs after a snapshot is 544 bytes a level. A volume of 64 GiB in a
//! shard (1 TiB over 16 shards) takes four loads, of which the upper two stay in the processor's caches.
//!
//! A page may be shared by several roots (`refs`); whoever changes a page copies it first if it is shared. Pages of
//! subtrees that were cut off are given back a few at a time ([`Map::drop_step`]).

mod arena;
mod checkpoint;
mod entry;
mod page;

use std::collections::{BTreeMap, VecDeque};

use crate::VolumeId;

use arena::Arena;
pub(crate) use arena::{Page, PageIndex};
pub(crate) use checkpoint::{PageName, extent_of};
pub(crate) use entry::{Entry, LOCATION_BYTES, Location, Place};
pub(crate) use page::{DiskPage, FANOUT, FANOUT_BITS, LEVEL_MAX, PAGE_BYTES_MAX};

/// The maps of all volumes of a shard.
#[derive(Debug, Default)]
pub(crate) struct Map {
    arena: Arena,
    trees: BTreeMap<VolumeId, Tree>,
    drops: VecDeque<Drop>,
    dirty_pages: u64,
    mapped_blocks: u64,
    last_tree: u64,
}

/// One volume's tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    root: PageIndex,
    /// Tells it from one that the volume had before.
    number: u64,
    /// Mapped blocks, with those that were cut off and are not given back yet.
    mapped_blocks: u64,
}

/// Something that the map does not refer to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// A block's data.
    Block(Entry),
    /// A page as it was written.
    Page(Place),
}

/// Subtrees that were cut off and are given back in the background.
#[derive(Debug)]
struct Drop {
    volume: VolumeId,
    /// The tree that they were cut off from.
    tree: u64,
    stack: Vec<PageIndex>,
    ticket: Option<u32>,
}

/// What an entry of a page above the leaves says of a child that is in memory: its index under this bit. Without the
/// bit it would be the [`Place`] of a child that is only on the drives.
const IN_MEMORY: u64 = 1 << 63;

impl Map {
    /// What is known of `count` blocks from `first` on, appended to `entries`.
    pub(crate) fn lookup(&self, volume: VolumeId, first: u64, count: u32, entries: &mut Vec<Entry>) {
        let mut block = first;
        let end = first + u64::from(count);
        while block < end {
            let stop = end.min((block | (FANOUT as u64 - 1)) + 1);
            let len = usize::try_from(stop - block).expect("at most one leaf");
            match self.page_at(volume, 0, block >> FANOUT_BITS) {
                Some(leaf) => {
                    let slot = slot_of(block, 0);
                    entries
                        .extend(self.page(leaf).entries[slot..slot + len].iter().map(|&entry| Entry(entry)));
                }
                None => entries.extend(std::iter::repeat_n(Entry::UNMAPPED, len)),
            }
            block = stop;
        }
    }

    /// What is known of one block.
    pub(crate) fn entry(&self, volume: VolumeId, block: u64) -> Entry {
        self.page_at(volume, 0, block >> FANOUT_BITS)
            .map_or(Entry::UNMAPPED, |leaf| Entry(self.page(leaf).entries[slot_of(block, 0)]))
    }

    /// Maps a block, as the record `lsn` says; what it replaces is told to `freed`.
    pub(crate) fn set(
        &mut self,
        volume: VolumeId,
        block: u64,
        entry: Entry,
        lsn: u64,
        freed: &mut impl FnMut(Freed),
    ) {
        let leaf = self.leaf_mut(volume, block, lsn);
        let old = self.replace(leaf, block, entry);
        if old.is_mapped() {
            freed(Freed::Block(old));
        } else {
            self.count_mapped(volume, 1);
        }
    }

    /// Maps a block to where its data was moved, if it is still at `from`; says whether it was.
    pub(crate) fn move_block(
        &mut self,
        volume: VolumeId,
        block: u64,
        from: Location,
        entry: Entry,
        lsn: u64,
    ) -> bool {
        if self.entry(volume, block).location() != from {
            return false;
        }
        let leaf = self.leaf_mut(volume, block, lsn);
        self.replace(leaf, block, entry);
        true
    }

    /// Unmaps the blocks from `first` to before `end`. Blocks at the edges are told to `freed` at once; whole
    /// subtrees are cut off, unreachable from now on, and told by [`Map::drop_step`].
    pub(crate) fn unmap(
        &mut self,
        volume: VolumeId,
        first: u64,
        end: u64,
        lsn: u64,
        freed: &mut impl FnMut(Freed),
    ) {
        let Some(tree) = self.trees.get(&volume).copied() else { return };
        let end = end.min(coverage(self.page(tree.root).level));
        if first >= end {
            return;
        }
        let root = self.own(tree.root);
        self.trees.insert(volume, Tree { root, ..tree });
        let mut cut = Vec::new();
        let unmapped = self.unmap_below(root, 0, (first, end), lsn, &mut cut, freed);
        self.count_unmapped(volume, tree.number, unmapped);
        if !cut.is_empty() {
            self.drops.push_back(Drop { volume, tree: tree.number, stack: cut, ticket: None });
        }
    }

    /// Forgets a volume; [`Map::drop_step`] gives `ticket` back once all of it is freed. False if it has no blocks.
    pub(crate) fn drop_volume(&mut self, volume: VolumeId, ticket: Option<u32>) -> bool {
        let Some(tree) = self.trees.remove(&volume) else { return false };
        self.mapped_blocks -= tree.mapped_blocks;
        self.drops.push_back(Drop { volume, tree: tree.number, stack: vec![tree.root], ticket });
        true
    }

    /// Gives back at most `pages` pages of what was cut off, and tells `freed` of them and their blocks. The ticket
    /// of a volume whose last page this was is returned.
    pub(crate) fn drop_step(&mut self, pages: &mut u32, freed: &mut impl FnMut(Freed)) -> Option<u32> {
        while let Some(drop) = self.drops.front_mut() {
            let (volume, tree) = (drop.volume, drop.tree);
            let Some(index) = drop.stack.pop() else {
                let done = self.drops.pop_front().expect("there is a front");
                if done.ticket.is_some() {
                    return done.ticket;
                }
                continue;
            };
            if *pages == 0 {
                drop.stack.push(index);
                return None;
            }
            *pages -= 1;
            let unmapped = self.release(index, freed);
            self.count_unmapped(volume, tree, unmapped);
        }
        None
    }

    /// Whether there is anything left for [`Map::drop_step`].
    pub(crate) fn is_dropping(&self) -> bool {
        !self.drops.is_empty()
    }

    /// The volumes that have blocks, in order.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = VolumeId> {
        self.trees.keys().copied()
    }

    /// How many volumes have blocks.
    pub(crate) fn volumes_count(&self) -> u64 {
        self.trees.len() as u64
    }

    /// Whether the volume has a tree.
    pub(crate) fn has_volume(&self, volume: VolumeId) -> bool {
        self.trees.contains_key(&volume)
    }

    /// Mapped blocks of a volume.
    pub(crate) fn mapped_blocks_of(&self, volume: VolumeId) -> u64 {
        self.trees.get(&volume).map_or(0, |tree| tree.mapped_blocks)
    }

    /// Mapped blocks of all volumes.
    pub(crate) fn mapped_blocks(&self) -> u64 {
        self.mapped_blocks
    }

    /// Pages that differ from what was last written.
    pub(crate) fn dirty_pages(&self) -> u64 {
        self.dirty_pages
    }

    /// Memory of all pages in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.arena.bytes()
    }

    /// Tells `live` of every block and page that the map refers to.
    pub(crate) fn for_each_live(&self, mut live: impl FnMut(Freed)) {
        for page in self.arena.pages() {
            if page.place.is_somewhere() {
                live(Freed::Page(page.place));
            }
            if page.level == 0 {
                for entry in page.entries.iter().map(|&entry| Entry(entry)).filter(|entry| entry.is_mapped())
                {
                    live(Freed::Block(entry));
                }
            }
        }
    }

    /// The page of this level and index, if there is one.
    pub(crate) fn page_at(&self, volume: VolumeId, level: u8, index: u64) -> Option<PageIndex> {
        let mut at = self.trees.get(&volume)?.root;
        let top = self.page(at).level;
        if top < level || index >> (FANOUT_BITS * u32::from(top - level)) != 0 {
            return None;
        }
        for above in (level..top).rev() {
            let slot = index >> (FANOUT_BITS * u32::from(above - level)) & (FANOUT as u64 - 1);
            at = child(self.page(at).entries[slot as usize])?;
        }
        Some(at)
    }

    pub(crate) fn page(&self, index: PageIndex) -> &Page {
        self.arena.page(index)
    }

    /// The leaf of a block, made if there is none, alone ours, and dirty with all pages above it.
    fn leaf_mut(&mut self, volume: VolumeId, block: u64, lsn: u64) -> PageIndex {
        let root = match self.trees.get(&volume) {
            Some(tree) => self.own(tree.root),
            None => self.arena.allocate(0),
        };
        let root = self.grow(root, block);
        self.trees.entry(volume).and_modify(|tree| tree.root = root).or_insert_with(|| {
            self.last_tree += 1;
            Tree { root, number: self.last_tree, mapped_blocks: 0 }
        });
        let mut at = root;
        loop {
            self.touch(at, lsn);
            let level = self.page(at).level;
            if level == 0 {
                return at;
            }
            let slot = slot_of(block, level);
            let below = match child(self.page(at).entries[slot]) {
                Some(below) => self.own(below),
                None => self.arena.allocate(level - 1),
            };
            let page = self.arena.page_mut(at);
            page.entries[slot] = IN_MEMORY | u64::from(below.0);
            page.bits |= 1 << slot;
            at = below;
        }
    }

    /// Puts pages above `root` until it covers `block`.
    fn grow(&mut self, mut root: PageIndex, block: u64) -> PageIndex {
        while block >= coverage(self.page(root).level) {
            let level = self.page(root).level + 1;
            assert!(level <= LEVEL_MAX);
            let lsn = self.page(root).lsn;
            let above = self.arena.allocate(level);
            let page = self.arena.page_mut(above);
            page.entries[0] = IN_MEMORY | u64::from(root.0);
            page.bits = 1;
            self.touch(above, lsn);
            root = above;
        }
        root
    }

    /// The page itself if nobody else refers to it, else a copy of it.
    fn own(&mut self, index: PageIndex) -> PageIndex {
        if self.page(index).refs == 1 {
            return index;
        }
        let old = self.page(index).clone();
        let copy = self.arena.allocate(old.level);
        for below in old.entries.iter().filter_map(|&entry| child(entry)).filter(|_| old.level > 0) {
            self.arena.page_mut(below).refs += 1;
        }
        self.arena.page_mut(index).refs -= 1;
        let mut bits = old.bits;
        if old.level == 0 {
            // Whatever the copy holds, the page that stays with the snapshot holds too.
            bits = (0..FANOUT).filter(|&slot| old.entries[slot] != 0).fold(0, |bits, slot| bits | 1 << slot);
        }
        let page = self.arena.page_mut(copy);
        page.entries = old.entries;
        page.bits = bits;
        page.lsn = old.lsn;
        copy
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

    fn replace(&mut self, leaf: PageIndex, block: u64, entry: Entry) -> Entry {
        let page = self.arena.page_mut(leaf);
        let slot = slot_of(block, 0);
        page.bits &= !(1 << slot);
        Entry(std::mem::replace(&mut page.entries[slot], entry.0))
    }

    /// Unmaps `range`, which overlaps the page, in it and below; gives the number of blocks that were mapped, those
    /// in the subtrees in `cut` apart.
    fn unmap_below(
        &mut self,
        at: PageIndex,
        base: u64,
        range: (u64, u64),
        lsn: u64,
        cut: &mut Vec<PageIndex>,
        freed: &mut impl FnMut(Freed),
    ) -> u64 {
        let level = self.page(at).level;
        let width = coverage(level) / FANOUT as u64;
        let mut unmapped = 0;
        for slot in 0..FANOUT {
            let first = base + slot as u64 * width;
            let entry = self.page(at).entries[slot];
            if entry == 0 || first + width <= range.0 || first >= range.1 {
                continue;
            }
            let whole = range.0 <= first && first + width <= range.1;
            if whole {
                self.touch(at, lsn);
                let page = self.arena.page_mut(at);
                page.entries[slot] = 0;
                page.bits &= !(1 << slot);
            }
            match child(entry) {
                _ if level == 0 => {
                    unmapped += 1;
                    freed(Freed::Block(Entry(entry)));
                }
                Some(below) if whole => cut.push(below),
                Some(below) => {
                    let below = self.own(below);
                    self.arena.page_mut(at).entries[slot] = IN_MEMORY | u64::from(below.0);
                    unmapped += self.unmap_below(below, first, range, lsn, cut, freed);
                    if self.page(below).dirty || self.page(below).level > 0 && self.page(below).bits != 0 {
                        self.touch(at, lsn);
                        self.arena.page_mut(at).bits |= 1 << slot;
                    }
                }
                None => {}
            }
        }
        unmapped
    }

    /// Drops one reference to a page; if it was the last, its children go onto the stack of the first drop, and it is
    /// freed. Gives the number of blocks that it mapped.
    fn release(&mut self, index: PageIndex, freed: &mut impl FnMut(Freed)) -> u64 {
        let page = self.arena.page_mut(index);
        page.refs -= 1;
        if page.refs > 0 {
            return 0;
        }
        page.refs = 1;
        if std::mem::take(&mut page.dirty) {
            self.dirty_pages -= 1;
        }
        let page = self.arena.page(index);
        let mut unmapped = 0;
        if page.place.is_somewhere() {
            freed(Freed::Page(page.place));
        }
        if page.level == 0 {
            for entry in page.entries.iter().map(|&entry| Entry(entry)).filter(|entry| entry.is_mapped()) {
                unmapped += 1;
                freed(Freed::Block(entry));
            }
        } else if let Some(drop) = self.drops.front_mut() {
            drop.stack.extend(page.entries.iter().filter_map(|&entry| child(entry)));
        }
        self.arena.free(index);
        unmapped
    }

    fn count_mapped(&mut self, volume: VolumeId, blocks: u64) {
        if let Some(tree) = self.trees.get_mut(&volume) {
            tree.mapped_blocks += blocks;
            self.mapped_blocks += blocks;
        }
    }

    fn count_unmapped(&mut self, volume: VolumeId, tree: u64, blocks: u64) {
        // Blocks of a tree that is gone were taken off at once when it went.
        if let Some(tree) = self.trees.get_mut(&volume).filter(|found| found.number == tree) {
            tree.mapped_blocks -= blocks;
            self.mapped_blocks -= blocks;
        }
    }
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
