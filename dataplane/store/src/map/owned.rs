//! What an image alone holds: what its deletion would give back.
//!
//! The walk goes below pages that nobody else refers to, and asks of each block there what giving back asks of it
//! ([`Map::drop_step`]). What is being given back already counts as a holder until it is gone.

use crate::VolumeId;

use super::above::Found;
use super::image::Holder;
use super::{Entry, FANOUT, FANOUT_BITS, Map, Needs, Page, PageIndex, child};

/// A walk through what an image has for itself.
struct Walk<'a> {
    holder: Holder,
    lineage: VolumeId,
    /// Leaves before this one are not looked at.
    from: u64,
    pages_left: u32,
    bytes: u64,
    needs: &'a mut Needs,
    /// The first leaf of which something is missing: nothing beyond it is counted, only what is missing there, too.
    blocked: Option<u64>,
    /// Of a leaf, those of everyone who may share it.
    beside: Vec<PageIndex>,
}

/// Pages missing in memory that one walk looks for.
const MISSING_MAX: usize = 64;

/// The walk ends early, before this leaf.
struct Stopped(u64);

/// A part of what an image alone holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnedPart {
    /// Bytes of blocks that were found.
    pub(crate) bytes: u64,
    /// The leaf at which to go on; `None` at the end.
    pub(crate) next: Option<u64>,
}

impl Map {
    /// Counts, from leaf `from` on, the bytes of blocks that an image alone holds. Looks at about `pages` pages at most.
    /// Where it stops at a leaf because something is not in memory, `needs` says what, and what will be missing behind it.
    pub(crate) fn owned(&self, image: VolumeId, from: u64, pages: u32, needs: &mut Needs) -> OwnedPart {
        needs.clear();
        let Some(tree) = self.trees.get(&image) else { return OwnedPart { bytes: 0, next: None } };
        if tree.cliques.is_empty() {
            // Nobody shares anything with it.
            return OwnedPart { bytes: self.bytes_below(tree.root, 0, from), next: None };
        }
        let mut walk = Walk {
            holder: Holder::Image(image),
            lineage: tree.head.lineage,
            from,
            pages_left: pages,
            bytes: 0,
            needs,
            blocked: None,
            beside: Vec::new(),
        };
        let stopped = self.owned_below(tree.root, 0, &mut walk).err().map(|Stopped(leaf)| leaf);
        OwnedPart { bytes: walk.bytes, next: walk.blocked.or(stopped) }
    }

    /// What an image can hold alone from a leaf on, at most: all below pages that nobody else refers to.
    pub(crate) fn owned_at_most(&self, image: VolumeId, from: u64) -> u64 {
        self.trees.get(&image).map_or(0, |tree| self.bytes_below(tree.root, 0, from))
    }

    /// Whether others may hold what an image holds.
    pub(crate) fn shares(&self, image: VolumeId) -> bool {
        !self.cliques_of(Holder::Image(image)).is_empty()
    }

    /// Walks what lies below a page of the image, of this index in its level.
    fn owned_below(&self, at: PageIndex, index: u64, walk: &mut Walk<'_>) -> Result<(), Stopped> {
        let level = self.arena.level(at);
        let leaf_bits = FANOUT_BITS * u32::from(level);
        let first = (index << leaf_bits).max(walk.from);
        if (index + 1) << leaf_bits <= walk.from || self.arena.refs(at) > 1 {
            return Ok(());
        }
        if walk.pages_left == 0 {
            return Err(Stopped(first));
        }
        walk.pages_left -= 1;
        if level <= 1 && self.has_away() && !self.has_for_owned(at, level, index, walk) {
            walk.blocked = walk.blocked.or(Some(first));
            return if walk.needs.missing.len() >= MISSING_MAX { Err(Stopped(first)) } else { Ok(()) };
        }
        if level == 0 {
            if walk.blocked.is_none() {
                self.owned_in_leaf(at, index, walk);
            }
            return Ok(());
        }
        // One that cannot be read gives nothing back either.
        let Some(page) = self.arena.resident(at) else { return Ok(()) };
        for (slot, &entry) in (0..).zip(&page.entries) {
            if let Some(below) = child(entry) {
                self.owned_below(below, index << FANOUT_BITS | slot, walk)?;
            }
        }
        Ok(())
    }

    /// Whether all of a leaf, or of a page right above, is in memory that may come; notes what is not.
    fn has_for_owned(&self, at: PageIndex, level: u8, index: u64, walk: &mut Walk<'_>) -> bool {
        let missing = walk.needs.missing.len();
        self.need_page(at, walk.lineage, index, walk.needs);
        if level == 0 && self.is_asked_about(at) {
            self.need_beside(walk.holder, walk.lineage, index, walk.needs);
        }
        walk.needs.missing.len() == missing
    }

    /// Whether somebody else may hold something that is in a leaf.
    pub(super) fn is_asked_about(&self, leaf: PageIndex) -> bool {
        let is_shared =
            |page: &Page| (0..FANOUT).any(|slot| page.entries[slot] != 0 && page.bits >> slot & 1 != 0);
        self.arena.has_unknown(leaf) || self.arena.resident(leaf).is_none_or(is_shared)
    }

    /// Adds what is in a leaf that no other page in memory refers to.
    fn owned_in_leaf(&self, at: PageIndex, index: u64, walk: &mut Walk<'_>) {
        let Some(page) = self.arena.resident(at) else { return };
        walk.beside.clear();
        if self.is_asked_about(at) {
            let cliques = self.cliques_of(walk.holder).iter().flat_map(|&clique| self.clique(clique));
            for &other in cliques.filter(|&&other| other != walk.holder) {
                walk.pages_left = walk.pages_left.saturating_sub(1);
                match self.root_of(other).map(|root| self.find(root, 0, index)) {
                    Some(Found::Page(leaf)) => walk.beside.push(leaf),
                    // Whoever cannot be asked counts as one who has all of it.
                    Some(Found::Beyond(_)) => return,
                    Some(Found::Nothing) | None => {}
                }
            }
        }
        for (slot, &entry) in page.entries.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let has_it = |&leaf: &PageIndex| {
                let resident = self.arena.resident(leaf);
                resident.is_none_or(|other| Entry(other.entries[slot]).location() == Entry(entry).location())
            };
            let may_be_shared = page.bits >> slot & 1 != 0;
            if !(may_be_shared && walk.beside.iter().any(has_it)) {
                walk.bytes += u64::from(Entry(entry).bytes());
            }
        }
    }

    /// Bytes of blocks from a leaf on below a page that nobody else refers to, without a look at shared pages below.
    fn bytes_below(&self, at: PageIndex, index: u64, from: u64) -> u64 {
        let level = self.arena.level(at);
        let leaf_bits = FANOUT_BITS * u32::from(level);
        if (index + 1) << leaf_bits <= from || self.arena.refs(at) > 1 {
            return 0;
        }
        let page = self.arena.resident(at).filter(|_| level > 0 && index << leaf_bits < from);
        match page {
            Some(page) => (0..)
                .zip(&page.entries)
                .filter_map(|(slot, &entry)| Some((slot, child(entry)?)))
                .map(|(slot, below)| self.bytes_below(below, index << FANOUT_BITS | slot, from))
                .sum(),
            None => self.stored_in(at),
        }
    }
}
