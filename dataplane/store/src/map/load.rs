//! The map at recovery: pages that were read are put in, a page that several trees share once; then what is live is
//! told, each block once however many images hold it.

use std::collections::BTreeSet;

use crate::VolumeId;

use super::few::Few;
use super::{
    DiskPage, Entry, FANOUT, Freed, IN_MEMORY, ImageHead, LEVEL_MAX, LeafCount, Map, PageIndex, Place, child,
};

impl Map {
    /// Puts in a page that was read. It has no reference yet.
    pub(crate) fn load(&mut self, page: &DiskPage, place: Place) -> PageIndex {
        let index = self.arena.allocate(page.level);
        let memory = self.arena.page_mut(index);
        memory.lsn = page.lsn;
        if page.level == 0 {
            memory.entries = page.entries;
            memory.written = LeafCount::of(&page.entries);
            // Who else holds what is not known: whoever lets go of it asks.
            memory.bits = u64::MAX;
        }
        self.arena.set_place(index, place);
        self.arena.drop_ref(index);
        index
    }

    /// Puts in a leaf that was written, and leaves its content on the drive. It has no reference yet.
    pub(crate) fn load_leaf(&mut self, place: Place, count: LeafCount) -> PageIndex {
        self.arena.allocate_away(place, count)
    }

    /// Makes a page that was put in the root of an image.
    pub(crate) fn load_root(&mut self, head: ImageHead, root: PageIndex) {
        self.arena.add_ref(root);
        self.insert_tree(root, head, Few::None);
    }

    /// Hangs a page that was put in under another one.
    pub(crate) fn load_child(&mut self, parent: PageIndex, slot: usize, below: PageIndex) {
        self.arena.add_ref(below);
        self.arena.page_mut(parent).entries[slot] = IN_MEMORY | u64::from(below.0);
    }

    /// Every page is there: counts what is mapped.
    pub(crate) fn end_load(&mut self) {
        let mut counted = BTreeSet::new();
        let roots: Vec<PageIndex> = self.trees.values().map(|tree| tree.root).collect();
        self.mapped_blocks = 0;
        for root in roots {
            self.count_loaded(root, &mut counted);
            self.mapped_blocks += self.mapped_in(root);
        }
        self.warm_writable();
    }

    /// The log was replayed up to where the manifest was made: a write that was replayed may be in another image's pages
    /// already, as they were written.
    pub(crate) fn forget_hints(&mut self) {
        self.arena.forget_hints();
    }

    /// Whether what a page says can be: a file of another time or a drive's fault must not become a wrong map.
    pub(crate) fn is_sound(page: &DiskPage) -> bool {
        page.level <= LEVEL_MAX
            && page.counts.iter().all(|count| count.is_sound())
            && page
                .entries
                .iter()
                .all(|&entry| if page.level == 0 { Entry(entry).is_known() } else { entry & IN_MEMORY == 0 })
    }

    /// Tells `live` of every block and page that the images refer to, each once.
    pub(crate) fn for_each_live(&self, mut live: impl FnMut(Freed)) {
        let places = self.arena.indices().map(|index| self.arena.place(index));
        for place in places.filter(|place| place.is_somewhere()) {
            live(Freed::Page(place));
        }
        for &lineage in self.lineages.keys() {
            let mut roots: Vec<PageIndex> = self.lineage_roots(lineage).collect();
            let top = roots.iter().map(|&root| self.arena.level(root)).max().unwrap_or(0);
            roots.sort_unstable();
            roots.dedup();
            self.live_below(&roots, top, &mut live);
        }
    }

    /// Mapped blocks of an image, and units that compression saves of them, counted one by one: for tests.
    pub(crate) fn recount(&self, image: VolumeId) -> (u64, u64) {
        self.trees.get(&image).map_or((0, 0), |tree| self.recount_below(tree.root))
    }

    fn recount_below(&self, at: PageIndex) -> (u64, u64) {
        let page = self.page(at);
        if page.level == 0 {
            let count = LeafCount::of(&page.entries);
            return (u64::from(count.mapped()), u64::from(count.saved()));
        }
        let below =
            page.entries.iter().filter_map(|&entry| child(entry)).map(|below| self.recount_below(below));
        below.fold((0, 0), |(mapped, saved), below| (mapped + below.0, saved + below.1))
    }

    /// Tells of the blocks below pages of the same place in several trees.
    fn live_below(&self, pages: &[PageIndex], level: u8, live: &mut impl FnMut(Freed)) {
        let mut entries: Vec<u64> = Vec::with_capacity(pages.len());
        for slot in 0..FANOUT {
            entries.clear();
            entries.extend(pages.iter().map(|&page| self.page(page).entries[slot]));
            if level == 0 {
                entries.sort_unstable();
                entries.dedup();
                entries
                    .iter()
                    .filter(|&&entry| entry != 0)
                    .for_each(|&entry| live(Freed::Block(Entry(entry))));
                continue;
            }
            // A tree that is less high hangs on the first entry of what would be above it.
            let below = pages.iter().zip(&entries).filter_map(|(&page, &entry)| {
                if self.arena.level(page) < level { (slot == 0).then_some(page) } else { child(entry) }
            });
            let mut below: Vec<PageIndex> = below.collect();
            below.sort_unstable();
            below.dedup();
            if !below.is_empty() {
                self.live_below(&below, level - 1, live);
            }
        }
    }

    fn count_loaded(&mut self, at: PageIndex, counted: &mut BTreeSet<PageIndex>) {
        if self.arena.level(at) == 0 || self.arena.refs(at) > 1 && !counted.insert(at) {
            return;
        }
        for slot in 0..FANOUT {
            if let Some(below) = child(self.page(at).entries[slot]) {
                self.count_loaded(below, counted);
                self.arena.page_mut(at).entries[slot] = self.link(below);
            }
        }
        self.sum_saved(at);
    }
}
