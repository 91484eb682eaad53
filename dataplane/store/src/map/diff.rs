//! What differs between two images: both trees are walked at once, and pages that both share are skipped, so that the
//! cost follows the change.

use crate::VolumeId;

use super::{Entry, FANOUT, FANOUT_BITS, Map, Needs, PageIndex, child};

/// A leaf (256 KiB) in which something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedLeaf {
    /// Its number: 64 blocks each.
    pub leaf: u64,
    /// A bit for each block that differs, the first block the lowest bit.
    pub blocks: u64,
}

/// A walk through two trees.
struct Walk<'a> {
    /// Leaves before this one are not looked at.
    from: u64,
    pages_left: u32,
    leaves_max: usize,
    changed: &'a mut Vec<ChangedLeaf>,
    /// Of either side, for the names of its leaves.
    lineages: [VolumeId; 2],
    needs: &'a mut Needs,
    /// The first leaf of which something is missing: nothing beyond it is told, only what is missing there, too.
    blocked: Option<u64>,
}

/// Missing leaves that one walk looks for.
const MISSING_MAX: usize = 64;

/// The walk ends early, before this leaf.
struct Stopped(u64);

impl Map {
    /// Appends to `changed`, up to `leaves_max` of them, the leaves from `from` on in which `image` differs from `base`
    /// (without one, from nothing), in order. Looks at `pages` pages at most. Gives the leaf at which to go on, `None`
    /// at the end, and how many pages it looked at. Where it stops at a leaf because something is not in memory, `needs`
    /// says what, and what will be missing behind it.
    pub(crate) fn diff(
        &self,
        base: Option<VolumeId>,
        image: VolumeId,
        from: u64,
        (pages, leaves_max): (u32, usize),
        changed: &mut Vec<ChangedLeaf>,
        needs: &mut Needs,
    ) -> (Option<u64>, u32) {
        needs.clear();
        let root = |image: VolumeId| self.trees.get(&image).map(|tree| tree.root);
        let sides = [base.and_then(root), root(image)];
        let top = sides.iter().flatten().map(|&root| self.arena.level(root)).max().unwrap_or(0);
        let lineages = [base.unwrap_or(image), image].map(|image| self.lineage(image));
        let mut walk = Walk { from, pages_left: pages, leaves_max, changed, lineages, needs, blocked: None };
        let stopped = self.diff_below(sides, top, 0, &mut walk).err().map(|Stopped(leaf)| leaf);
        (walk.blocked.or(stopped), pages - walk.pages_left)
    }

    /// Walks what lies below the page of this level and index in either tree.
    fn diff_below(
        &self,
        sides: [Option<PageIndex>; 2],
        level: u8,
        index: u64,
        walk: &mut Walk<'_>,
    ) -> Result<(), Stopped> {
        let leaf_bits = FANOUT_BITS * u32::from(level);
        let first_leaf = index << leaf_bits;
        let end = (index + 1) << leaf_bits;
        if sides[0] == sides[1] || end <= walk.from {
            return Ok(());
        }
        let pages = sides.iter().flatten().count() as u32;
        if walk.pages_left < pages || walk.changed.len() >= walk.leaves_max {
            return Err(Stopped(first_leaf.max(walk.from)));
        }
        walk.pages_left -= pages;
        if level <= 1 && self.has_away() && !self.has_both(sides, level, index, walk) {
            let first = first_leaf.max(walk.from);
            walk.blocked = walk.blocked.or(Some(first));
            // What may come is waited for; what cannot be read ends it here.
            let ends = walk.needs.is_met() || walk.needs.missing.len() >= MISSING_MAX;
            return if ends { Err(Stopped(first)) } else { Ok(()) };
        }
        if level == 0 {
            if walk.blocked.is_some() {
                return Ok(());
            }
            let blocks = self.differences(sides);
            if blocks != 0 {
                walk.changed.push(ChangedLeaf { leaf: index, blocks });
            }
            return Ok(());
        }
        for slot in 0..FANOUT {
            let below = sides.map(|side| self.below(side, level, slot));
            if below[0] != below[1] {
                self.diff_below(below, level - 1, index << FANOUT_BITS | slot as u64, walk)?;
            }
        }
        Ok(())
    }

    /// The child of a side; a tree that is less high than the other hangs on the first entry of what would be above it.
    fn below(&self, side: Option<PageIndex>, level: u8, slot: usize) -> Option<PageIndex> {
        let at = side?;
        if self.arena.level(at) < level {
            (slot == 0).then_some(at)
        } else {
            child(self.page(at).entries[slot])
        }
    }

    /// Whether both sides of a leaf, or of a page right above, are in memory; notes what is not.
    fn has_both(&self, sides: [Option<PageIndex>; 2], level: u8, index: u64, walk: &mut Walk<'_>) -> bool {
        let mut has_both = true;
        for (side, lineage) in sides.into_iter().zip(walk.lineages) {
            if let Some(page) = side.filter(|&page| self.arena.level(page) == level) {
                has_both &= self.arena.resident(page).is_some();
                self.need_page(page, lineage, index, walk.needs);
            }
        }
        has_both
    }

    fn differences(&self, sides: [Option<PageIndex>; 2]) -> u64 {
        let entry = |side: Option<PageIndex>, slot: usize| {
            side.map_or(Entry::UNMAPPED, |page| Entry(self.page(page).entries[slot]))
        };
        let differs = |slot: &usize| entry(sides[0], *slot) != entry(sides[1], *slot);
        (0..FANOUT).filter(differs).fold(0, |bits, slot| bits | 1 << slot)
    }
}
