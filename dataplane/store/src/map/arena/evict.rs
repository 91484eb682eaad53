//! Which contents leave memory, and in which order: first what no writable image uses, leaves before the pages above them;
//! then leaves that were not used for the longest time; and the pages above those only where nothing else is left.
//!
//! With a page right above the leaves those go of which nothing in memory knows any more, heads and all: their places are
//! in the page as it was written. A leaf that stays, because another page in memory refers to it, counts only these from
//! then on, and says that there may be more ([`Arena::has_unknown`]).

use std::cell::Cell;

use super::pool::{CHUNK, NOBODY, Pool};
use super::{ABOVE, Arena, Content, HEADS, HEADS_BITS, PageIndex, Place, Presence, UNKNOWN};
use crate::map::child;
use crate::map::page::LeafCount;

/// Which contents a sweep takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that no writable image uses.
    Cold,
    /// Those that were not used since the hand passed them.
    Any,
}

impl Arena {
    /// Takes contents out of memory until no more than `target` bytes are in use, as far as it can: of leaves, and with
    /// `above` of the pages right above them, of which `may_go` says that what was written there can be read. Gives how
    /// many it took.
    pub(crate) fn evict(&mut self, target: u64, above: bool, may_go: impl Fn(Place) -> bool) -> u64 {
        let mut taken = self.sweep_leaves(target, Which::Cold, &may_go);
        if above {
            taken += self.sweep_above(target, Which::Cold, &may_go);
        }
        taken += self.sweep_leaves(target, Which::Any, &may_go);
        if above {
            taken += self.sweep_above(target, Which::Any, &may_go);
        }
        taken
    }

    /// Gives memory of contents back that is no longer needed, a chunk at a time.
    pub(crate) fn shrink(&mut self) {
        let Self { leaves, above, heads, .. } = self;
        for pool in [leaves, above] {
            while pool.free.len() >= 2 * CHUNK {
                let last = (pool.slots() - CHUNK as u32) | pool.kind;
                pool.free.retain(|&slot| slot < last);
                for slot in last..last + CHUNK as u32 {
                    let owner = pool.page(slot).owner;
                    if owner != NOBODY {
                        let to = relocate(pool, slot);
                        let head = &mut heads[(owner.0 >> HEADS_BITS) as usize][owner.0 as usize % HEADS];
                        head.content = Content(to);
                    }
                }
                pool.pop_chunk();
            }
        }
    }

    /// Takes a page that is as it was written out of memory.
    pub(crate) fn take_out(&mut self, index: PageIndex) {
        match self.slot_of(index) {
            Some(slot) if slot & ABOVE != 0 => self.put_above_away(slot),
            Some(slot) => self.put_away(slot),
            None => {}
        }
    }

    fn sweep_leaves(&mut self, target: u64, which: Which, may_go: &impl Fn(Place) -> bool) -> u64 {
        let any_cold = self.leaves.chunks.iter().any(|chunk| chunk.cold.get() != 0);
        let most = match which {
            Which::Cold if !any_cold => 0,
            Which::Cold => self.leaves.slots(),
            Which::Any => 2 * self.leaves.slots(),
        };
        let mut taken = 0;
        for _ in 0..most {
            if self.bytes_in_use() <= target {
                break;
            }
            let slot = self.leaves.pass();
            let (chunk, bit) = self.chunk_of(slot);
            if which == Which::Cold && chunk.cold.get() & bit == 0 {
                continue;
            }
            let page = self.slot(slot);
            if page.owner == NOBODY || chunk.held.get() & bit != 0 || self.stays(page.dirty) {
                continue;
            }
            if which == Which::Any && chunk.used.get() & bit != 0 {
                chunk.used.set(chunk.used.get() & !bit);
                continue;
            }
            let place = self.head(page.owner).place;
            if place.is_somewhere() && may_go(place) {
                self.put_away(slot);
                taken += 1;
            }
        }
        taken
    }

    fn sweep_above(&mut self, target: u64, which: Which, may_go: &impl Fn(Place) -> bool) -> u64 {
        let mut taken = 0;
        for _ in 0..2 * self.above.slots() {
            let [heads, leaves, above] = self.bytes_by_kind();
            // What writable images use goes only where it would not be enough that all leaves went.
            let bytes = if which == Which::Cold { heads + leaves + above } else { heads + above };
            if bytes <= target {
                break;
            }
            let slot = self.above.pass();
            let (chunk, bit) = self.chunk_of(slot);
            if which == Which::Cold && chunk.cold.get() & bit == 0 {
                continue;
            }
            if chunk.used.get() & bit != 0 {
                chunk.used.set(chunk.used.get() & !bit);
            } else if self.may_go_above(slot, may_go) {
                self.put_above_away(slot);
                taken += 1;
            }
        }
        taken
    }

    fn stays(&self, dirty: bool) -> bool {
        #[cfg(feature = "planted")]
        return dirty && !self.evicts_dirty;
        #[cfg(not(feature = "planted"))]
        dirty
    }

    /// Whether a page is right above the leaves and as it was written, with all that would go with it.
    fn may_go_above(&self, slot: u32, may_go: &impl Fn(Place) -> bool) -> bool {
        let page = self.slot(slot);
        if page.owner == NOBODY || page.level != 1 || page.dirty || page.bits != 0 || self.is_held(slot) {
            return false;
        }
        let place = self.head(page.owner).place;
        place.is_somewhere()
            && may_go(place)
            && page.entries.iter().filter_map(|&entry| child(entry)).all(|leaf| {
                if self.refs(leaf) > 1 {
                    return true;
                }
                let place = self.place(leaf);
                let is_settled = match self.slot_of(leaf) {
                    Some(slot) => !self.slot(slot).dirty && !self.is_held(slot) && may_go(place),
                    None => self.presence(leaf) != Presence::Coming,
                };
                is_settled && place.is_somewhere()
            })
    }

    fn is_held(&self, slot: u32) -> bool {
        let (chunk, bit) = self.chunk_of(slot);
        chunk.held.get() & bit != 0
    }

    fn put_away(&mut self, slot: u32) {
        let page = self.slot(slot);
        let (owner, count) = (page.owner, LeafCount::of(&page.entries));
        self.head_mut(owner).content = Content::away(count);
        self.leaves.give_back(slot);
        self.away += 1;
    }

    fn put_above_away(&mut self, slot: u32) {
        let page = self.slot(slot);
        let (owner, entries) = (page.owner, page.entries);
        let (mut mapped, mut saved) = (0, 0);
        for leaf in entries.iter().filter_map(|&entry| child(entry)) {
            let count = self.written_count(leaf);
            mapped += count.mapped();
            saved += count.saved();
            if self.drop_ref(leaf) == 0 {
                self.free(leaf);
                continue;
            }
            self.head_mut(leaf).refs |= UNKNOWN;
        }
        self.set_saved(owner, 0);
        self.head_mut(owner).content = Content::away_above(mapped, saved);
        self.above.give_back(slot);
        self.away += 1;
    }
}

/// Moves a content to a free slot of its pool; gives that.
fn relocate(pool: &mut Pool, slot: u32) -> u32 {
    let to = pool.allocate();
    let page = pool.page(slot).clone();
    *pool.page_mut(to) = page;
    let ((from, from_bit), (into, to_bit)) = (pool.chunk_of(slot), pool.chunk_of(to));
    let copy = |from: &Cell<u64>, into: &Cell<u64>| {
        let others = into.get() & !to_bit;
        into.set(if from.get() & from_bit != 0 { others | to_bit } else { others });
    };
    copy(&from.used, &into.used);
    copy(&from.cold, &into.cold);
    to
}
