//! Pages right above the leaves that are not in memory. They are the most of what a snapshot has of its own, and with one
//! that leaves those of its leaves leave memory wholly of which nothing there knows any more.
//!
//! A page that comes back finds its leaves again by their places: one that a page in memory has, in the same column of the
//! lineage, is the same. So a leaf is one page, however often those above it come and go. What is not in memory counts in
//! nobody's references. A leaf of which some have left says so ([`super::arena::Arena::has_unknown`]), and whoever changes
//! it or gives it back must have those in memory first that may refer to it beside him ([`Map::settle`]). As for blocks
//! that are the members of his clique: if none of them has the leaf, nobody does.

use std::collections::BTreeMap;

use crate::VolumeId;
use crate::record::Malformed;
#[cfg(feature = "planted")]
use crate::shard::Planted;

use super::cache::Wanted;
use super::image::Holder;
use super::{DiskPage, FANOUT, FANOUT_BITS, Freed, IN_MEMORY, Map, PageIndex, Place, child, slot_of};

/// What lies at a place of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Page(PageIndex),
    Nothing,
    /// Not known: this page, right above the leaves, is not in memory.
    Beyond(PageIndex),
}

impl Map {
    /// The page of a level and index below a root, as far as memory tells.
    pub(super) fn find(&self, root: PageIndex, level: u8, index: u64) -> Found {
        let mut at = root;
        let top = self.arena.level(at);
        if top < level || index >> (FANOUT_BITS * u32::from(top - level)) != 0 {
            return Found::Nothing;
        }
        for above in (level..top).rev() {
            let Some(page) = self.arena.resident(at) else { return Found::Beyond(at) };
            let slot = index >> (FANOUT_BITS * u32::from(above - level)) & (FANOUT as u64 - 1);
            match child(page.entries[slot as usize]) {
                Some(below) => at = below,
                None => return Found::Nothing,
            }
        }
        Found::Page(at)
    }

    /// Before a leaf is changed or given back: whether it is known who refers to it beside the holder. Whoever might is in
    /// memory by now, or cannot be read.
    pub(super) fn settle(&mut self, holder: Holder, index: u64, leaf: PageIndex) -> bool {
        if !self.arena.has_unknown(leaf) {
            return true;
        }
        let others = self.cliques_of(holder).iter().flat_map(|&clique| self.clique(clique));
        let mut roots = others.filter(|&&other| other != holder).filter_map(|&other| self.root_of(other));
        let is_known = roots.all(|root| !matches!(self.find(root, 0, index), Found::Beyond(_)));
        if is_known && self.arena.refs(leaf) == 1 {
            // Nobody else has it. Where somebody does, those may have it who are not in the holder's clique.
            self.arena.set_unknown(leaf, false);
        }
        is_known
    }

    /// The page itself if nobody else refers to it, else a copy; of a leaf that is not settled always a copy.
    pub(super) fn own_of(&mut self, image: VolumeId, block: u64, at: PageIndex) -> PageIndex {
        if self.arena.level(at) == 0 {
            self.settle(Holder::Image(image), block >> FANOUT_BITS, at);
        }
        self.own(at)
    }

    /// Forgets a page that nothing in memory refers to; what was written there stays, because others may refer to it.
    pub(super) fn forget_page(&mut self, index: PageIndex) {
        self.dirty_pages -= u64::from(self.arena.is_dirty(index));
        self.arena.free(index);
    }

    /// Puts a page right above the leaves that was read into its place; false if that is not what was counted.
    pub(super) fn install_above(&mut self, wanted: &Wanted, page: &DiskPage) -> bool {
        let sum =
            |(mapped, saved), count: &super::LeafCount| (mapped + count.mapped(), saved + count.saved());
        let (mapped, saved) = page.counts.iter().fold((0, 0), sum);
        if (Some(u64::from(mapped)), saved)
            != (self.arena.mapped_away(wanted.page), self.arena.saved(wanted.page))
        {
            return false;
        }
        let column = self.column(wanted.lineage, wanted.index);
        let mut entries = [0; FANOUT];
        for slot in (0..FANOUT).filter(|&slot| page.entries[slot] != 0) {
            let place = Place(page.entries[slot]);
            let known = column.iter().filter_map(|&beside| self.child_of(beside, slot));
            let leaf = known.into_iter().find(|&leaf| self.arena.place(leaf) == place).unwrap_or_else(|| {
                let leaf = self.arena.allocate_away(place, page.counts[slot]);
                self.arena.set_unknown(leaf, true);
                leaf
            });
            self.arena.add_ref(leaf);
            entries[slot] = IN_MEMORY | u64::from(page.counts[slot].mapped()) << 32 | u64::from(leaf.0);
        }
        self.arena.install_above(wanted.page, entries, page.lsn);
        true
    }

    /// Pages that are not in memory and right above the leaves, or with `leaves` those, with their places: for tests.
    pub(crate) fn away(&self, leaves: bool) -> Vec<(PageIndex, Place)> {
        let is_away = |page: &PageIndex| {
            self.arena.resident(*page).is_none() && leaves == (self.arena.level(*page) == 0)
        };
        self.arena.indices().filter(is_away).map(|page| (page, self.arena.place(page))).collect()
    }

    /// Puts a page back that is what `bytes` begin with: for tests.
    pub(crate) fn put_back(&mut self, page: PageIndex, bytes: &[u8]) -> Result<(), Malformed> {
        let (found, crc) = DiskPage::parse(bytes)?;
        let place = self.arena.place(page);
        let (level, lineage, index) = (self.arena.level(page), found.lineage, found.index);
        let mut is_it = place.accepts(crc) && found.level == level;
        if level == 0 {
            self.arena.install(page, found.entries, found.lsn);
        } else {
            is_it &= self.install_above(&Wanted { page, place, lineage, level, index }, &found);
        }
        if is_it { Ok(()) } else { Err(Malformed) }
    }

    /// Takes pages out of memory again that were put back: for tests.
    pub(crate) fn take_out(&mut self, pages: &[PageIndex]) {
        pages.iter().for_each(|&page| self.arena.take_out(page));
    }

    /// A page of which the references are not what they are counted to be, while all pages are in memory: for tests.
    pub(crate) fn miscounted_page(&self) -> Option<Freed> {
        let mut found: BTreeMap<PageIndex, u32> = BTreeMap::new();
        let cuts = self.cuts.iter().filter_map(|cut| cut.root);
        for root in self.trees.values().map(|tree| tree.root).chain(cuts) {
            *found.entry(root).or_default() += 1;
        }
        for page in self.arena.indices().map(|page| self.page(page)).filter(|page| page.level > 0) {
            for below in page.entries.iter().filter_map(|&entry| child(entry)) {
                *found.entry(below).or_default() += 1;
            }
        }
        let is_wrong = |page: &PageIndex| found.get(page) != Some(&self.arena.refs(*page));
        self.arena.indices().find(is_wrong).map(|page| Freed::Page(self.arena.place(page)))
    }

    /// Bytes of heads, of contents of leaves, and of contents of pages above.
    #[cfg(any(test, feature = "injected"))]
    pub(crate) fn bytes_by_kind(&self) -> [u64; 3] {
        self.arena.bytes_by_kind()
    }

    /// What a writable image has right above its leaves is used by it, all else by none.
    pub(super) fn warm_writable(&self) {
        self.arena.cool_above();
        for tree in self.trees.values().filter(|tree| !tree.head.read_only) {
            self.warm_below(tree.root);
        }
    }

    fn warm_below(&self, at: PageIndex) {
        match self.arena.resident(at) {
            Some(page) if page.level > 1 => {
                page.entries
                    .iter()
                    .filter_map(|&entry| child(entry))
                    .for_each(|below| self.warm_below(below));
            }
            Some(page) if page.level == 1 => self.arena.use_page(at, true),
            _ => {}
        }
    }

    /// All pages in memory that cover what a page right above the leaves does, in any tree of the lineage: each once. A
    /// tree that is a single leaf gives that.
    fn column(&self, lineage: VolumeId, index: u64) -> Vec<PageIndex> {
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::LoadApart) {
            return Vec::new();
        }
        let of_root = |root: PageIndex| match self.find(root, 1, index) {
            Found::Page(page) => self.arena.resident(page).map(|_| page),
            _ => (index == 0 && self.arena.level(root) == 0).then_some(root),
        };
        let mut column: Vec<PageIndex> = self.lineage_roots(lineage).filter_map(of_root).collect();
        column.sort_unstable();
        column.dedup();
        column
    }

    /// The leaf below an entry of a page of a column.
    fn child_of(&self, beside: PageIndex, slot: usize) -> Option<PageIndex> {
        if self.arena.level(beside) == 0 {
            return (slot == slot_of(0, 1)).then_some(beside);
        }
        child(self.page(beside).entries[slot])
    }
}
