//! The map as a cache of what lies on the drives: which pages a step needs, and which leave memory.
//!
//! Leaves leave, and the pages right above them ([`super::above`]); numbers, references, places and counts stay
//! ([`super::arena`]), so that a page which several trees share is one page whether it is in memory or not. Nothing in the
//! map waits. Whoever is about to read or change it asks first what that needs ([`Needs`]), has it read in, and asks again.

use crate::VolumeId;
#[cfg(feature = "planted")]
use crate::shard::Planted;

use super::above::Found;
use super::arena::Presence;
use super::image::Holder;
use super::{
    DiskPage, Entry, FANOUT, FANOUT_BITS, LeafCount, Location, Map, PageIndex, Place, child, coverage,
    slot_of,
};

/// A leaf, or a page right above the leaves, that is to be read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) page: PageIndex,
    pub(crate) place: Place,
    pub(crate) lineage: VolumeId,
    pub(crate) level: u8,
    pub(crate) index: u64,
}

/// The leaves that a step needs, and the pages right above them.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// All of them.
    pub(crate) leaves: Vec<PageIndex>,
    /// Those that are not in memory and may come.
    pub(crate) missing: Vec<Wanted>,
    /// A leaf that the step is about could not be read.
    pub(crate) unreadable: Option<Place>,
}

impl Needs {
    pub(crate) fn clear(&mut self) {
        self.leaves.clear();
        self.missing.clear();
        self.unreadable = None;
    }

    /// Whether the step can be taken now, well or not.
    pub(crate) fn is_met(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Map {
    /// Whether anything is not in memory: only then anybody needs to ask.
    pub(crate) fn has_away(&self) -> bool {
        self.arena.away() > 0
    }

    /// What a read of `count` blocks needs.
    pub(crate) fn need_read(&self, image: VolumeId, first: u64, count: u32, needs: &mut Needs) {
        let Some(tree) = self.trees.get(&image) else { return };
        let end = first + u64::from(count);
        for leaf in first >> FANOUT_BITS..end.div_ceil(FANOUT as u64) {
            self.need(tree.root, tree.head.lineage, leaf, needs);
        }
    }

    /// What a write of the blocks needs: their leaves, and those of everyone who may hold what they replace.
    pub(crate) fn need_write(&self, image: VolumeId, first: u64, end: u64, needs: &mut Needs) {
        let Some(tree) = self.trees.get(&image) else { return };
        for leaf in first >> FANOUT_BITS..end.div_ceil(FANOUT as u64) {
            let Some(page) = self.need(tree.root, tree.head.lineage, leaf, needs) else { continue };
            let base = leaf << FANOUT_BITS;
            let is_asked = |page: &super::Page| {
                (first.max(base)..end.min(base + FANOUT as u64)).any(|block| {
                    let slot = slot_of(block, 0);
                    page.entries[slot] != 0 && page.bits >> slot & 1 != 0
                })
            };
            if self.arena.has_unknown(page) || self.arena.resident(page).is_none_or(is_asked) {
                self.need_beside(Holder::Image(image), tree.head.lineage, leaf, needs);
            }
        }
    }

    /// What unmapping the blocks needs: the leaves at the edges, and what is above them. What lies whole between them is cut
    /// off unseen.
    pub(crate) fn need_unmap(&self, image: VolumeId, first: u64, end: u64, needs: &mut Needs) {
        let Some(tree) = self.trees.get(&image) else { return };
        let level = self.arena.level(tree.root);
        let end = end.min(coverage(level));
        if first >= end {
            return;
        }
        let edge = |block: u64, needs: &mut Needs| {
            if let Found::Page(above) = self.find(tree.root, 1, block >> (2 * FANOUT_BITS)) {
                self.need_page(above, tree.head.lineage, block >> (2 * FANOUT_BITS), needs);
            }
            let base = block & !(FANOUT as u64 - 1);
            if level == 0 || first > base || end < base + FANOUT as u64 {
                self.need_write(image, base.max(first), end.min(base + FANOUT as u64), needs);
            }
        };
        edge(first, needs);
        if first >> FANOUT_BITS != (end - 1) >> FANOUT_BITS {
            edge(end - 1, needs);
        }
    }

    /// What it takes to know all places that a lineage's images hold for the blocks of a leaf, and to change them: with
    /// `cuts`, those too that what was cut off holds.
    pub(crate) fn need_everywhere(&self, lineage: VolumeId, leaf: u64, cuts: bool, needs: &mut Needs) {
        for &holder in self.lineages.get(&lineage).into_iter().flatten() {
            if (cuts || matches!(holder, Holder::Image(_)))
                && let Some(root) = self.root_of(holder)
            {
                self.need(root, lineage, leaf, needs);
            }
        }
    }

    /// What it takes to mark a page that was written at `place` (a location and an offset).
    pub(crate) fn need_mark(
        &self,
        lineage: VolumeId,
        level: u8,
        index: u64,
        place: (Location, u32),
        needs: &mut Needs,
    ) {
        if level > 1 {
            return;
        }
        let is_there = |page| {
            let now = self.arena.place(page);
            (now.location(), now.offset()) == place
        };
        for root in self.lineage_roots(lineage) {
            if level == 0
                && let Found::Page(above) = self.find(root, 1, index >> FANOUT_BITS)
            {
                // Who has the leaf is not known before all that is above it is there.
                self.need_page(above, lineage, index >> FANOUT_BITS, needs);
            }
            if let Found::Page(page) = self.find(root, level, index)
                && is_there(page)
            {
                self.need_page(page, lineage, index, needs);
            }
        }
    }

    /// What the next step of [`Map::drop_step`] needs; those that come after it are asked for beside it.
    pub(crate) fn need_drop(&self, needs: &mut Needs) {
        let Some((number, lineage, root)) = self.first_cut() else { return };
        let (mut at, mut index, mut above) = (root, 0_u64, None);
        loop {
            if self.arena.refs(at) > 1 {
                return;
            }
            if self.arena.level(at) == 0 {
                break;
            }
            if self.arena.level(at) == 1 {
                self.need_page(at, lineage, index, needs);
            }
            let Some(page) = self.arena.resident(at) else { return };
            let Some(slot) = page.entries.iter().position(|&entry| child(entry).is_some()) else { return };
            above = Some((at, index));
            index = index << FANOUT_BITS | slot as u64;
            at = child(page.entries[slot]).expect("it was just found");
        }
        let holder = Holder::Cut(number);
        self.need_page(at, lineage, index, needs);
        if self.is_asked_about(at) {
            self.need_beside(holder, lineage, index, needs);
        }
        let Some((above, base)) = above.filter(|_| !needs.missing.is_empty()) else { return };
        for (slot, &entry) in (0_u64..).zip(&self.page(above).entries) {
            if let Some(next) = child(entry)
                && self.arena.refs(next) == 1
                && self.arena.presence(next) == Presence::Away
                && next != at
            {
                let index = base << FANOUT_BITS | slot;
                let place = self.arena.place(next);
                needs.missing.push(Wanted { page: next, place, lineage, level: 0, index });
            }
        }
    }

    /// Notes that a leaf is being read in; false where that is known, or it is not missing any more.
    pub(crate) fn begin_load(&mut self, wanted: &Wanted) -> bool {
        self.arena.begin_load(wanted.page)
    }

    /// Whether a leaf is being read in.
    pub(crate) fn is_coming(&self, page: PageIndex) -> bool {
        self.arena.presence(page) == Presence::Coming
    }

    /// Whether what is being read is wanted still.
    pub(crate) fn awaits(&self, wanted: &Wanted) -> bool {
        self.arena.awaits(wanted.page, wanted.place)
    }

    /// Puts a leaf that was read into its place; false if that is not the leaf that was counted.
    pub(crate) fn install(&mut self, wanted: &Wanted, page: &DiskPage) -> bool {
        if !self.awaits(wanted) {
            return true;
        }
        if wanted.level == 1 {
            return self.install_above(wanted, page);
        }
        if self.arena.count(wanted.page) != LeafCount::of(&page.entries) {
            return false;
        }
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::LoadTwice) && self.install_copy(wanted, page) {
            return true;
        }
        self.arena.install(wanted.page, page.entries, page.lsn);
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::LoadAsOwn) {
            self.arena.page_mut(wanted.page).bits = 0;
        }
        true
    }

    /// Hangs a page of its own under the first image that has the leaf, if others have it, too.
    #[cfg(feature = "planted")]
    fn install_copy(&mut self, wanted: &Wanted, page: &DiskPage) -> bool {
        let has_it = |image: &&VolumeId| self.page_at(**image, 0, wanted.index) == Some(wanted.page);
        let Some(&image) = self.trees.keys().find(has_it).filter(|_| self.arena.refs(wanted.page) > 1) else {
            return false;
        };
        let copy = self.load(page, wanted.place);
        self.arena.add_ref(copy);
        match self.page_at(image, 1, wanted.index >> FANOUT_BITS) {
            Some(parent) => {
                let slot = slot_of(wanted.index << FANOUT_BITS, 1);
                let entry = &mut self.arena.page_mut(parent).entries[slot];
                *entry = *entry & !u64::from(u32::MAX) | u64::from(copy.0);
            }
            None => self.set_root(image, copy),
        }
        self.arena.drop_ref(wanted.page);
        self.arena.give_up(wanted.page);
        self.arena.forgive(wanted.page);
        true
    }

    /// A leaf cannot be read.
    pub(crate) fn give_up(&mut self, wanted: &Wanted) {
        if self.awaits(wanted) {
            self.arena.give_up(wanted.page);
        }
    }

    /// Everyone who wanted the leaf has been told; who wants it from now on tries again.
    pub(crate) fn forgive(&mut self, page: PageIndex) {
        self.arena.forgive(page);
    }

    /// Takes leaves, and with `above` pages right above them, out of memory until the map takes no more than `bytes_max`,
    /// as far as it can: none that differs from what was written, none of `held`, and only those of which `may_go` says
    /// that what was written there can be read. Gives how many went.
    pub(crate) fn evict(
        &mut self,
        bytes_max: u64,
        held: &[PageIndex],
        above: bool,
        may_go: impl Fn(Place) -> bool,
    ) -> u64 {
        if self.arena.bytes() <= bytes_max {
            return 0;
        }
        // Some more than is needed, so that not every step does this.
        let target = bytes_max - bytes_max / 64;
        held.iter().for_each(|&page| self.arena.hold(page, true));
        let taken = self.arena.evict(target, above, may_go);
        held.iter().for_each(|&page| self.arena.hold(page, false));
        self.arena.shrink();
        taken
    }

    /// Whether many heads are free, so that [`Map::renumber`] gives much back.
    pub(crate) fn has_many_free_heads(&self) -> bool {
        self.arena.has_many_free_heads()
    }

    /// Gives all pages new numbers, and memory of heads back. Nothing may be being read, and nobody else know a number.
    pub(crate) fn renumber(&mut self) {
        let numbers = self.arena.renumber();
        let cuts = self.cuts.iter_mut().filter_map(|cut| cut.root.as_mut());
        for root in self.trees.values_mut().map(|tree| &mut tree.root).chain(cuts) {
            *root = numbers.of(*root);
        }
    }

    /// Bytes of the pages in use.
    #[cfg(test)]
    pub(crate) fn bytes_in_use(&self) -> u64 {
        self.arena.bytes_in_use()
    }

    /// What a holder has for a block; `None` where that cannot be known, because something could not be read.
    pub(super) fn known_entry_of(&self, holder: Holder, block: u64) -> Option<Entry> {
        let Some(root) = self.root_of(holder) else { return Some(Entry::UNMAPPED) };
        let leaf = match self.find(root, 0, block >> FANOUT_BITS) {
            Found::Page(leaf) => leaf,
            Found::Nothing => return Some(Entry::UNMAPPED),
            Found::Beyond(_) => return None,
        };
        self.arena.resident(leaf).map(|page| Entry(page.entries[slot_of(block, 0)]))
    }

    pub(super) fn need_beside(&self, holder: Holder, lineage: VolumeId, leaf: u64, needs: &mut Needs) {
        let unreadable = needs.unreadable;
        for clique in self.cliques_of(holder) {
            for &other in self.clique(*clique).iter().filter(|&&other| other != holder) {
                if let Some(root) = self.root_of(other) {
                    self.need(root, lineage, leaf, needs);
                }
            }
        }
        // Who cannot be asked counts as one who holds it.
        needs.unreadable = unreadable;
    }

    fn need(&self, root: PageIndex, lineage: VolumeId, leaf: u64, needs: &mut Needs) -> Option<PageIndex> {
        if let Found::Page(above) = self.find(root, 1, leaf >> FANOUT_BITS) {
            self.need_page(above, lineage, leaf >> FANOUT_BITS, needs);
        }
        let Found::Page(page) = self.find(root, 0, leaf) else { return None };
        self.need_page(page, lineage, leaf, needs);
        Some(page)
    }

    pub(super) fn need_page(&self, page: PageIndex, lineage: VolumeId, index: u64, needs: &mut Needs) {
        needs.leaves.push(page);
        let place = self.arena.place(page);
        let level = self.arena.level(page);
        match self.arena.presence(page) {
            Presence::Here => {}
            Presence::Away | Presence::Coming => {
                needs.missing.push(Wanted { page, place, lineage, level, index });
            }
            Presence::Unreadable => needs.unreadable = Some(place),
        }
    }
}
