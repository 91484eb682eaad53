//! What the map gives to a checkpoint and takes from one: dirty pages in an order that needs no look back, and pages
//! read at recovery.
//!
//! A checkpoint goes through the levels from the leaves up, and through each in order. Writes go on meanwhile; a page
//! that becomes dirty again behind it stays dirty for the next checkpoint. What is written is therefore not the map of
//! one instant, but each page is one that was right at some time since the checkpoint began, and replay from there
//! brings all of them to the same instant (see the decisions at the crate's head).

use crate::VolumeId;

use super::{
    DiskPage, Entry, FANOUT, FANOUT_BITS, Freed, IN_MEMORY, LEVEL_MAX, Map, PageIndex, Place, Tree, child,
};

/// A page's name: its volume, its level, its index in the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageName {
    pub(crate) level: u8,
    pub(crate) volume: VolumeId,
    pub(crate) index: u64,
}

impl Map {
    /// The first dirty page of the level of `from` at or after it.
    pub(crate) fn next_dirty(&self, from: PageName) -> Option<(PageName, PageIndex)> {
        for (&volume, tree) in self.trees.range(from.volume..) {
            let first = if volume == from.volume { from.index } else { 0 };
            if self.page(tree.root).level >= from.level
                && let Some((index, page)) = self.next_dirty_below(tree.root, 0, from.level, first)
            {
                return Some((PageName { level: from.level, volume, index }, page));
            }
        }
        None
    }

    /// The highest level of any volume.
    pub(crate) fn level_max(&self) -> u8 {
        self.trees.values().map(|tree| self.page(tree.root).level).max().unwrap_or(0)
    }

    /// A page as it is to be written; `None` where it maps nothing, see [`Map::prune`].
    pub(crate) fn disk_page(&self, name: PageName, index: PageIndex) -> Option<DiskPage> {
        let page = self.page(index);
        let mut entries = page.entries;
        if page.level > 0 {
            for entry in &mut entries {
                *entry = child(*entry).map_or(0, |below| self.page(below).place.0);
            }
        }
        // A page above whose children were all made since the checkpoint passed them is written empty: it exists.
        page.entries.iter().any(|&entry| entry != 0).then_some(DiskPage {
            volume: name.volume,
            level: page.level,
            index: name.index,
            lsn: page.lsn,
            shared: if page.level == 0 { page.bits } else { 0 },
            entries,
        })
    }

    /// The page is going to be written at `place`; gives where it was before.
    pub(crate) fn set_written(&mut self, name: PageName, index: PageIndex, place: Place) -> Place {
        let page = self.arena.page_mut(index);
        let before = std::mem::replace(&mut page.place, place);
        if std::mem::take(&mut page.dirty) {
            self.dirty_pages -= 1;
        }
        let still_dirty_below = page.level > 0 && page.bits != 0;
        if let Some((parent, slot)) = self.parent_of(name) {
            self.touch(parent, 0);
            if !still_dirty_below {
                self.arena.page_mut(parent).bits &= !(1 << slot);
            }
        }
        before
    }

    /// Takes a page that maps nothing out of the tree; gives where it was written.
    pub(crate) fn prune(&mut self, name: PageName, index: PageIndex) -> Place {
        let place = self.page(index).place;
        match self.parent_of(name) {
            Some((parent, slot)) => {
                self.touch(parent, 0);
                let page = self.arena.page_mut(parent);
                page.entries[slot] = 0;
                page.bits &= !(1 << slot);
            }
            None => {
                if let Some(tree) = self.trees.remove(&name.volume) {
                    self.mapped_blocks -= tree.mapped_blocks;
                }
            }
        }
        let page = self.arena.page_mut(index);
        page.refs -= 1;
        if page.refs > 0 {
            return Place::NOWHERE;
        }
        if page.dirty {
            self.dirty_pages -= 1;
        }
        self.arena.free(index);
        place
    }

    /// Marks a page, and so those above it, to be written at the next checkpoint.
    pub(crate) fn mark_dirty(&mut self, name: PageName) {
        let Some(mut at) = self.trees.get(&name.volume).map(|tree| tree.root) else { return };
        loop {
            self.touch(at, 0);
            let level = self.page(at).level;
            if level <= name.level {
                return;
            }
            let slot = slot_above(name, level);
            let Some(below) = child(self.page(at).entries[slot]) else { return };
            self.arena.page_mut(at).bits |= 1 << slot;
            at = below;
        }
    }

    /// Where a page was last written.
    pub(crate) fn place_of(&self, name: PageName) -> Place {
        self.page_at(name.volume, name.level, name.index)
            .map_or(Place::NOWHERE, |index| self.page(index).place)
    }

    /// Each volume with its root's level and place and the number of its mapped blocks.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (VolumeId, u8, Place, u64)> {
        self.trees.iter().map(|(&volume, tree)| {
            let root = self.page(tree.root);
            (volume, root.level, root.place, tree.mapped_blocks)
        })
    }

    /// Puts a page that was read in as the root of a volume.
    pub(crate) fn load_root(&mut self, page: &DiskPage, place: Place) -> PageIndex {
        let root = self.load(page, place);
        self.last_tree += 1;
        self.trees.insert(page.volume, Tree { root, number: self.last_tree, mapped_blocks: 0 });
        self.count_loaded(page);
        root
    }

    /// Puts a page that was read under its parent.
    pub(crate) fn load_child(&mut self, parent: PageIndex, page: &DiskPage, place: Place) -> PageIndex {
        let below = self.load(page, place);
        let slot = usize::try_from(page.index % FANOUT as u64).expect("six bits");
        self.arena.page_mut(parent).entries[slot] = IN_MEMORY | u64::from(below.0);
        self.count_loaded(page);
        below
    }

    /// Whether what a page says can be: a file of another time or a drive's fault must not become a wrong map.
    pub(crate) fn is_sound(page: &DiskPage) -> bool {
        page.level <= LEVEL_MAX
            && page
                .entries
                .iter()
                .all(|&entry| if page.level == 0 { Entry(entry).is_known() } else { entry & IN_MEMORY == 0 })
    }

    fn load(&mut self, page: &DiskPage, place: Place) -> PageIndex {
        let index = self.arena.allocate(page.level);
        let memory = self.arena.page_mut(index);
        memory.lsn = page.lsn;
        memory.place = place;
        if page.level == 0 {
            memory.entries = page.entries;
            memory.bits = page.shared;
        }
        index
    }

    fn count_loaded(&mut self, page: &DiskPage) {
        if page.level == 0 {
            let mapped = page.entries.iter().filter(|&&entry| entry != 0).count();
            self.count_mapped(page.volume, mapped as u64);
        }
    }

    fn next_dirty_below(&self, at: PageIndex, index: u64, level: u8, from: u64) -> Option<(u64, PageIndex)> {
        let page = self.page(at);
        if page.level == level {
            return (page.dirty && index >= from).then_some((index, at));
        }
        let below_bits = FANOUT_BITS * u32::from(page.level - 1 - level);
        let mut bits = page.bits;
        while bits != 0 {
            let slot = bits.trailing_zeros();
            bits &= bits - 1;
            let below = index << FANOUT_BITS | u64::from(slot);
            if (below + 1) << below_bits <= from {
                continue;
            }
            if let Some(next) = child(page.entries[slot as usize])
                && let Some(found) = self.next_dirty_below(next, below, level, from)
            {
                return Some(found);
            }
        }
        None
    }

    fn parent_of(&self, name: PageName) -> Option<(PageIndex, usize)> {
        let root = self.trees.get(&name.volume)?.root;
        if self.page(root).level <= name.level {
            return None;
        }
        let parent = self.page_at(name.volume, name.level + 1, name.index >> FANOUT_BITS)?;
        Some((parent, slot_above(name, name.level + 1)))
    }
}

/// Which entry of the page of `level` above `name` leads to it.
fn slot_above(name: PageName, level: u8) -> usize {
    let shift = FANOUT_BITS * u32::from(level - 1 - name.level);
    usize::try_from(name.index >> shift & (FANOUT as u64 - 1)).expect("six bits")
}

/// Tells where a freed thing lies and how many bytes it took there.
pub(crate) fn extent_of(freed: Freed) -> (super::Location, u64) {
    match freed {
        Freed::Block(entry) => (entry.location(), u64::from(crate::BLOCK_BYTES)),
        Freed::Page(place) => (place.location(), u64::from(place.len())),
    }
}
