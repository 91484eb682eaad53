//! What compression saves of each image's blocks, in units of 512 bytes: beside the number of mapped blocks the other half
//! of what an image takes.
//!
//! Of a leaf it is in the entries. For the pages above, of which there is one for 64 leaves, the sums of what is below
//! them are kept apart, where they are not zero. Sums of pages above [`SUMMED_LEVEL_MAX`] would not fit and are made when
//! somebody asks.

use crate::VolumeId;
use crate::codec::{RAW_UNITS, UNIT_BYTES};

use super::{Entry, Map, PageIndex, child, slot_of};

/// The highest level whose sum is held.
const SUMMED_LEVEL_MAX: u8 = 3;

const _: () = assert!(7 << (super::FANOUT_BITS * (SUMMED_LEVEL_MAX as u32 + 1)) < u32::MAX as u64);

impl Map {
    /// Bytes that compression saves of the blocks that an image maps.
    pub(crate) fn saved_bytes_of(&self, image: VolumeId) -> u64 {
        self.trees.get(&image).map_or(0, |tree| self.saved_in(tree.root)) * u64::from(UNIT_BYTES)
    }

    /// Bytes that the blocks of a page and below it take.
    pub(super) fn stored_in(&self, at: PageIndex) -> u64 {
        (self.mapped_in(at) * u64::from(RAW_UNITS) - self.saved_in(at)) * u64::from(UNIT_BYTES)
    }

    /// Units saved in a page and below it.
    pub(super) fn saved_in(&self, at: PageIndex) -> u64 {
        match self.arena.level(at) {
            0 => u64::from(self.arena.count(at).saved()),
            1..=SUMMED_LEVEL_MAX => u64::from(self.arena.saved(at)),
            _ => self.saved_by_children(at),
        }
    }

    /// An entry of a leaf has changed: all pages above it save as much more, or less.
    pub(super) fn change_saved(&mut self, image: VolumeId, block: u64, (old, new): (Entry, Entry)) {
        if old.saved_units() == new.saved_units() {
            return;
        }
        let Some(mut at) = self.trees.get(&image).map(|tree| tree.root) else { return };
        loop {
            let level = self.arena.level(at);
            if (1..=SUMMED_LEVEL_MAX).contains(&level) {
                let saved = u64::from(self.arena.saved(at)) + new.saved_units() - old.saved_units();
                self.arena.set_saved(at, saved);
            }
            let below = (level > 0).then(|| child(self.page(at).entries[slot_of(block, level)])).flatten();
            let Some(below) = below else { return };
            at = below;
        }
    }

    /// So much less is saved below a page than before.
    pub(super) fn save_less(&mut self, at: PageIndex, units: u64) {
        if units > 0 && (1..=SUMMED_LEVEL_MAX).contains(&self.arena.level(at)) {
            self.arena.set_saved(at, u64::from(self.arena.saved(at)) - units);
        }
    }

    /// Makes the sum of a page above the leaves from its children.
    pub(super) fn sum_saved(&mut self, at: PageIndex) {
        if (1..=SUMMED_LEVEL_MAX).contains(&self.arena.level(at)) {
            let saved = self.saved_by_children(at);
            self.arena.set_saved(at, saved);
        }
    }

    fn saved_by_children(&self, at: PageIndex) -> u64 {
        let children = self.page(at).entries.iter().filter_map(|&entry| child(entry));
        children.map(|below| self.saved_in(below)).sum()
    }
}
