//! What the map gives to a checkpoint: dirty pages in an order that needs no look back.
//!
//! A checkpoint goes through the levels from the leaves up, and through each in order. Writes go on meanwhile; a page
//! that becomes dirty again behind it stays dirty for the next checkpoint. What is written is therefore not the map of
//! one instant, but each page is one that was right at some time since the checkpoint began, and replay from there
//! brings all of them to the same instant (see the decisions at the crate's head).
//!
//! No page is written before what is below it has been written at least once.
//!
//! A page that several trees share is written once, when the first of them comes to it. Every page above it has its bit
//! set, and when the others come to it they learn from the bit that their page must be written with its new place.

use crate::VolumeId;

use super::above::Found;
use super::image::Holder;
use super::{DiskPage, FANOUT, FANOUT_BITS, Freed, ImageHead, LeafCount, Map, PageIndex, Place, child};

/// A page's name: an image that refers to it (or something that was cut off, see `cuts`), its level, its index in the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageName {
    pub(crate) level: u8,
    pub(crate) volume: VolumeId,
    pub(crate) index: u64,
}

impl PageName {
    /// Where a checkpoint begins.
    pub(crate) const FIRST: Self = Self { level: 0, volume: VolumeId(0), index: 0 };
}

impl Map {
    /// The next page to be written from `at` on, of this level or one above up to `level_max`; `at` goes on beyond it.
    ///
    /// A page is not written before what is below it has a place: a leaf that was copied since the checkpoint passed its
    /// level holds blocks that are older than what will be replayed, and a page that does not name it would lose them.
    /// Such a leaf comes first, and `at` stays where it is.
    pub(crate) fn next_page(&mut self, at: &mut PageName, level_max: u8) -> Option<(PageName, PageIndex)> {
        loop {
            if let Some((name, index)) = self.next_dirty(*at) {
                if let Some(below) = self.unplaced_below(name, index) {
                    *at = name;
                    return Some(below);
                }
                *at = PageName { index: name.index + 1, ..name };
                return Some((name, index));
            }
            if at.level >= level_max {
                return None;
            }
            *at = PageName { level: at.level + 1, ..PageName::FIRST };
        }
    }

    /// A page below this one that was never written and has nothing such below itself.
    fn unplaced_below(&self, name: PageName, index: PageIndex) -> Option<(PageName, PageIndex)> {
        let page = self.page(index);
        if page.level == 0 {
            return None;
        }
        let mut bits = page.bits;
        while bits != 0 {
            let slot = bits.trailing_zeros();
            bits &= bits - 1;
            let below = child(page.entries[slot as usize]);
            if let Some(below) = below.filter(|&below| !self.arena.place(below).is_somewhere()) {
                let index = name.index << FANOUT_BITS | u64::from(slot);
                let name = PageName { level: page.level - 1, index, ..name };
                return Some(self.unplaced_below(name, below).unwrap_or((name, below)));
            }
        }
        None
    }

    /// The first dirty page of the level of `from` at or after it.
    fn next_dirty(&mut self, from: PageName) -> Option<(PageName, PageIndex)> {
        let mut at = Some(from.volume);
        while let Some((volume, root)) = at.and_then(|at| self.tree_from(at)) {
            let first = if volume == from.volume { from.index } else { 0 };
            if self.arena.level(root) >= from.level
                && let Some((index, page)) = self.next_dirty_below(root, 0, from.level, first)
            {
                return Some((PageName { level: from.level, volume, index }, page));
            }
            at = volume.0.checked_add(1).map(VolumeId);
        }
        None
    }

    /// The highest level of any tree.
    pub(crate) fn level_max(&self) -> u8 {
        let images = self.trees.values().map(|tree| tree.root);
        let roots = images.chain(self.cuts.iter().filter_map(|cut| cut.root));
        roots.map(|root| self.arena.level(root)).max().unwrap_or(0)
    }

    /// A page as it is to be written; `None` where it maps nothing, see [`Map::prune`].
    pub(crate) fn disk_page(&self, name: PageName, index: PageIndex) -> Option<DiskPage> {
        let page = self.page(index);
        let mut entries = page.entries;
        let mut counts = [LeafCount::default(); FANOUT];
        if page.level > 0 {
            for (entry, count) in entries.iter_mut().zip(&mut counts) {
                let Some(below) = child(*entry) else { continue };
                *entry = self.arena.place(below).0;
                if page.level == 1 {
                    *count = self.arena.written_count(below);
                }
            }
        }
        // The root of a fork that maps nothing is written all the same: it exists.
        let stays = self.head(name.volume).is_some_and(|head| head.forked) && self.parent_of(name).is_none();
        let lineage = self.lineage_of_name(name.volume)?;
        let page = DiskPage { lineage, level: page.level, index: name.index, lsn: page.lsn, entries, counts };
        (stays || page.entries.iter().any(|&entry| entry != 0)).then_some(page)
    }

    /// The page is going to be written at `place`; gives where it was before.
    pub(crate) fn set_written(&mut self, name: PageName, index: PageIndex, place: Place) -> Place {
        let before = self.arena.set_place(index, place);
        let page = self.arena.page_mut(index);
        if std::mem::take(&mut page.dirty) {
            self.dirty_pages -= 1;
        }
        if page.level == 0 {
            page.written = LeafCount::of(&page.entries);
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
        let place = self.arena.place(index);
        match self.parent_of(name) {
            Some((parent, slot)) => {
                self.touch(parent, 0);
                let page = self.arena.page_mut(parent);
                page.entries[slot] = 0;
                page.bits &= !(1 << slot);
            }
            None => match Self::holder(name.volume) {
                Holder::Image(image) => self.forget_tree(image),
                Holder::Cut(number) => self.empty_cut(number),
            },
        }
        if self.arena.drop_ref(index) > 0 {
            return Place::NOWHERE;
        }
        self.dirty_pages -= u64::from(self.arena.is_dirty(index));
        self.arena.free(index);
        place
    }

    /// Each image with its root's level and place.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (ImageHead, u8, Place)> {
        self.trees.values().map(|tree| (tree.head, self.arena.level(tree.root), self.arena.place(tree.root)))
    }

    /// What is in the root page of a tree as it was written, if that is a leaf.
    pub(crate) fn root_count(&self, name: VolumeId) -> LeafCount {
        let root = self.root_of(Self::holder(name)).filter(|&root| self.arena.level(root) == 0);
        root.map_or(LeafCount::default(), |root| self.arena.written_count(root))
    }

    fn next_dirty_below(
        &mut self,
        at: PageIndex,
        index: u64,
        level: u8,
        from: u64,
    ) -> Option<(u64, PageIndex)> {
        if self.arena.level(at) == level {
            return (self.arena.is_dirty(at) && index >= from).then_some((index, at));
        }
        // What is not in memory is as it was written, and so is all below it.
        let page = self.arena.resident(at)?;
        let below_bits = FANOUT_BITS * u32::from(page.level - 1 - level);
        let mut bits = page.bits;
        while bits != 0 {
            let slot = bits.trailing_zeros();
            bits &= bits - 1;
            let below = index << FANOUT_BITS | u64::from(slot);
            if (below + 1) << below_bits <= from {
                continue;
            }
            let next = child(self.page(at).entries[slot as usize]);
            if let Some(next) = next
                && let Some(found) = self.next_dirty_below(next, below, level, from)
            {
                return Some(found);
            }
            let (is_written, is_clean) =
                next.and_then(|next| self.arena.resident(next)).map_or((true, true), |page| {
                    (!page.dirty, !page.dirty && (page.level == 0 || page.bits == 0))
                });
            // What was written and has something dirty below it again is passed now, too.
            let is_passed = is_written && self.page(at).level == level + 1;
            if is_clean || is_passed {
                // Another tree's way led there first: here its new place is still to be written.
                self.touch(at, 0);
                if is_clean {
                    self.arena.page_mut(at).bits &= !(1 << slot);
                }
            }
        }
        None
    }

    fn parent_of(&self, name: PageName) -> Option<(PageIndex, usize)> {
        let root = self.root_of(Self::holder(name.volume))?;
        if self.arena.level(root) <= name.level {
            return None;
        }
        let Found::Page(parent) = self.find(root, name.level + 1, name.index >> FANOUT_BITS) else {
            return None;
        };
        Some((parent, usize::try_from(name.index % FANOUT as u64).expect("six bits")))
    }
}

/// Tells where a freed thing lies and how many bytes it took there.
pub(crate) fn extent_of(freed: Freed) -> (super::Location, u64) {
    match freed {
        Freed::Block(entry) => (entry.location(), u64::from(entry.bytes())),
        Freed::Page(place) => (place.location(), u64::from(place.len())),
    }
}
