//! Changes that everyone who holds a block sees: a moved block, and a page that is to be written elsewhere.
//!
//! Shared pages are changed where they are. All pages above them, on the way of every tree, are marked, so that the
//! next checkpoint writes them with the new place. The pages on the ways of all trees of a lineage to one leaf are
//! found level by level, each once however many trees it belongs to.

use crate::VolumeId;

use super::{Entry, FANOUT, FANOUT_BITS, Location, Map, PageIndex, Place, child, slot_of};

/// The distinct pages on the ways to one page, level by level from its own upwards, in order of their numbers.
struct Ways {
    /// Index of the page in its level.
    index: u64,
    layers: Vec<Vec<PageIndex>>,
    /// Whether these are all: nothing on the ways is missing in memory.
    is_whole: bool,
}

impl Map {
    /// Maps the blocks from `first` on to where their data was moved, for everyone in the lineage that has them still
    /// at their old places; tells `moved` of those that anyone had.
    pub(crate) fn move_blocks(
        &mut self,
        lineage: VolumeId,
        first: u64,
        moves: impl Iterator<Item = (Location, Entry)>,
        lsn: u64,
        moved: impl FnMut(Location, Entry),
    ) {
        let moves = (first..).zip(moves).map(|(block, (from, entry))| (block, from, entry, lsn));
        self.move_all(lineage, moves, moved);
    }

    /// The same for any blocks, one after another: each with its old place, its entry and the LSN of its record. Those of
    /// a leaf together are looked for once.
    pub(crate) fn move_all(
        &mut self,
        lineage: VolumeId,
        moves: impl Iterator<Item = (u64, Location, Entry, u64)>,
        mut moved: impl FnMut(Location, Entry),
    ) {
        let mut ways: Option<Ways> = None;
        let mut changed: Vec<PageIndex> = Vec::new();
        let mut last_lsn = 0;
        for (block, from, entry, lsn) in moves {
            let leaf = block >> FANOUT_BITS;
            if let Some(done) = ways.take_if(|ways| ways.index != leaf) {
                self.mark(&done, std::mem::take(&mut changed), std::mem::take(&mut last_lsn));
            }
            let ways = ways.get_or_insert_with(|| self.ways(lineage, 0, leaf));
            let slot = slot_of(block, 0);
            let mut found = false;
            if !ways.is_whole || ways.layers[0].iter().any(|&page| self.arena.resident(page).is_none()) {
                // Who cannot be read keeps the old place, and so does everybody: it stays where it is.
                continue;
            }
            for &page in &ways.layers[0] {
                let entries = &mut self.arena.page_mut(page).entries;
                if Entry(entries[slot]).location() == from {
                    entries[slot] = entry.0;
                    changed.push(page);
                    found = true;
                    #[cfg(feature = "planted")]
                    if self.planted == Some(crate::shard::Planted::MoveInOneImage) {
                        break;
                    }
                }
            }
            if found {
                last_lsn = last_lsn.max(lsn);
                moved(from, entry);
            }
        }
        if let Some(done) = ways {
            self.mark(&done, changed, last_lsn);
        }
    }

    /// Marks a page to be written at the next checkpoint, if it is still the one that was written at `place` (a
    /// location and an offset).
    pub(crate) fn mark_dirty(&mut self, lineage: VolumeId, level: u8, index: u64, place: (Location, u32)) {
        let ways = self.ways(lineage, level, index);
        if !ways.is_whole {
            return;
        }
        let is_there = |place_now: Place| (place_now.location(), place_now.offset()) == place;
        let pages = ways.layers[0].iter().copied();
        let changed = pages
            .filter(|&page| is_there(self.arena.place(page)) && self.arena.resident(page).is_some())
            .collect();
        self.mark(&ways, changed, 0);
    }

    fn ways(&self, lineage: VolumeId, level: u8, index: u64) -> Ways {
        let mut roots: Vec<PageIndex> = self.lineage_roots(lineage).collect();
        let covers = |root: PageIndex| {
            let top = self.arena.level(root);
            top >= level && index >> (FANOUT_BITS * u32::from(top - level)) == 0
        };
        roots.retain(|&root| covers(root));
        let top = roots.iter().map(|&root| self.arena.level(root)).max().unwrap_or(level);
        let mut layers: Vec<Vec<PageIndex>> = Vec::new();
        let mut below: Vec<PageIndex> = Vec::new();
        let mut is_whole = true;
        for at in (level..=top).rev() {
            let mut layer = std::mem::take(&mut below);
            layer.extend(roots.iter().copied().filter(|&root| self.arena.level(root) == at));
            layer.sort_unstable();
            layer.dedup();
            if at > level {
                let slot = slot_above(index, at - level);
                let pages = layer.iter().filter_map(|&page| self.arena.resident(page));
                is_whole &= pages.clone().count() == layer.len();
                below.extend(pages.filter_map(|page| child(page.entries[slot])));
            }
            layers.push(layer);
        }
        layers.reverse();
        Ways { index, layers, is_whole }
    }

    /// Marks changed pages of the lowest layer, and all on the ways to them.
    fn mark(&mut self, ways: &Ways, changed: Vec<PageIndex>, lsn: u64) {
        let mut changed = changed;
        for &page in &changed {
            self.touch(page, lsn);
        }
        for (above, layer) in (1..).zip(&ways.layers[1..]) {
            changed.sort_unstable();
            let slot = slot_above(ways.index, above);
            let mut next = Vec::new();
            for &page in layer {
                let below = child(self.page(page).entries[slot]);
                if below.is_some_and(|below| changed.binary_search(&below).is_ok()) {
                    self.touch(page, lsn);
                    self.arena.page_mut(page).bits |= 1 << slot;
                    next.push(page);
                }
            }
            changed = next;
        }
    }
}

/// Which entry of a page, so many levels above, leads to the page of this index.
fn slot_above(index: u64, levels: u8) -> usize {
    let shift = FANOUT_BITS * u32::from(levels - 1);
    usize::try_from(index >> shift & (FANOUT as u64 - 1)).expect("six bits")
}
