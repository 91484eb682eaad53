//! How many blocks are mapped: each entry above the leaves counts those below it.

use crate::VolumeId;

use super::{FANOUT_BITS, IN_MEMORY, Map, PageIndex, child, slot_of};

/// The highest level of which an entry above has room for the number of mapped blocks.
const COUNTED_LEVEL_MAX: u8 = 4;

const _: () = assert!(1_u64 << (FANOUT_BITS * (COUNTED_LEVEL_MAX as u32 + 1)) < 1 << 31);

/// The bits of an entry above the leaves that count mapped blocks.
pub(super) const COUNT_MASK: u64 = ((1 << 31) - 1) << 32;

impl Map {
    /// Counts blocks of a leaf that were not mapped before, of which `block` is one, in all pages above it.
    pub(super) fn count_blocks(&mut self, image: VolumeId, block: u64, count: u64) {
        self.mapped_blocks += count;
        let Some(mut at) = self.trees.get(&image).map(|tree| tree.root) else { return };
        loop {
            let level = self.page(at).level;
            if level == 0 {
                return;
            }
            let slot = slot_of(block, level);
            let entry = self.page(at).entries[slot];
            if level - 1 <= COUNTED_LEVEL_MAX {
                self.arena.page_mut(at).entries[slot] += count << 32;
            }
            let Some(below) = child(entry) else { return };
            at = below;
        }
    }

    /// Mapped blocks of a page and all below it.
    pub(super) fn mapped_in(&self, at: PageIndex) -> u64 {
        if self.arena.level(at) == 0 {
            return u64::from(self.arena.count(at).mapped());
        }
        if let Some(mapped) = self.arena.mapped_away(at) {
            return mapped;
        }
        let page = self.page(at);
        if page.level - 1 <= COUNTED_LEVEL_MAX {
            // Without a look at any of the pages below: they may be in no cache, and a fork does not wait for them.
            return page.entries.iter().map(|&entry| (entry & COUNT_MASK) >> 32).sum();
        }
        page.entries.iter().filter(|&&entry| entry != 0).map(|&entry| self.linked(entry)).sum()
    }

    /// Mapped blocks below an entry of a page above the leaves.
    pub(super) fn linked(&self, entry: u64) -> u64 {
        match child(entry) {
            Some(below) if self.arena.level(below) > COUNTED_LEVEL_MAX => self.mapped_in(below),
            Some(_) => (entry & COUNT_MASK) >> 32,
            None => 0,
        }
    }

    /// An entry that leads to a page.
    pub(super) fn link(&self, below: PageIndex) -> u64 {
        let is_counted = self.arena.level(below) <= COUNTED_LEVEL_MAX;
        let count = if is_counted { self.mapped_in(below) } else { 0 };
        IN_MEMORY | count << 32 | u64::from(below.0)
    }
}
