//! What was cut off, as a checkpoint keeps it: trees that no request reaches, of which the pages and blocks count as live
//! until they are given back. A manifest names them beside the images, and recovery goes on where the crash came.
//!
//! Replay meets again what was cut off before the manifest. The blocks that hang on that hang in the manifest's trees already,
//! come again in what is replayed, or were never counted: they are let go of in silence ([`Map::forget_new_cuts`]) before
//! anything is counted. Pages that nobody else refers to were counted as they were read, and are told.

use crate::VolumeId;

use super::few::Few;
use super::image::{Cut, Holder};
use super::{FANOUT, Freed, Map, PageIndex, Place, child};

/// In the number by which a manifest and a checkpoint's page names call what was cut off. No image has it.
const CUT: u64 = 1 << 63;

/// Something cut off, for a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutHead {
    /// By which members of cliques name it.
    pub(crate) name: VolumeId,
    pub(crate) lineage: VolumeId,
}

/// Whether a number names something that was cut off.
pub(crate) fn is_cut(name: VolumeId) -> bool {
    name.0 & CUT != 0
}

impl Map {
    /// The roots of what was cut off and is not given back yet, with their levels and places.
    pub(crate) fn cut_roots(&self) -> impl Iterator<Item = (CutHead, u8, Place)> {
        (self.first_cut_number()..).zip(&self.cuts).filter_map(|(number, cut)| {
            let root = cut.root?;
            let head = CutHead { name: VolumeId(CUT | number), lineage: cut.lineage };
            Some((head, self.arena.level(root), self.arena.place(root)))
        })
    }

    /// How many times something was cut off so far.
    pub(crate) fn cuts_begun(&self) -> u64 {
        self.cuts_begun
    }

    /// Makes a page that was put in the root of something cut off.
    pub(crate) fn load_cut(&mut self, lineage: VolumeId, root: PageIndex) -> VolumeId {
        self.arena.add_ref(root);
        self.push_cut(root, lineage, Few::None, None);
        VolumeId(CUT | (self.cuts_begun - 1))
    }

    /// The holder of a name.
    pub(super) fn holder(name: VolumeId) -> Holder {
        if is_cut(name) { Holder::Cut(name.0 & !CUT) } else { Holder::Image(name) }
    }

    /// The name of a holder, as long as it has a tree.
    pub(super) fn name_of(&self, holder: Holder) -> Option<VolumeId> {
        match holder {
            Holder::Image(image) => Some(image),
            Holder::Cut(number) => self.root_of(holder).map(|_| VolumeId(CUT | number)),
        }
    }

    /// The first tree from a name on, images first.
    pub(super) fn tree_from(&self, name: VolumeId) -> Option<(VolumeId, PageIndex)> {
        if !is_cut(name)
            && let Some((&image, tree)) = self.trees.range(name..).next()
        {
            return Some((image, tree.root));
        }
        let first = self.first_cut_number();
        let from = if is_cut(name) { (name.0 & !CUT).max(first) } else { first };
        let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
        (from..)
            .zip(self.cuts.iter().skip(skipped))
            .find_map(|(number, cut)| Some((VolumeId(CUT | number), cut.root?)))
    }

    /// The lineage of a name that has a tree.
    pub(super) fn lineage_of_name(&self, name: VolumeId) -> Option<VolumeId> {
        match Self::holder(name) {
            Holder::Image(image) => self.head(image).map(|head| head.lineage),
            Holder::Cut(number) => self.cut(number).map(|cut| cut.lineage),
        }
    }

    /// Nothing is left of a tree that was cut off; [`Map::drop_step`] will end it.
    pub(super) fn empty_cut(&mut self, number: u64) {
        let first = self.first_cut_number();
        let cut = number.checked_sub(first).and_then(|at| self.cuts.get_mut(usize::try_from(at).ok()?));
        if let Some(cut) = cut {
            cut.root = None;
        }
    }

    /// Forgets what was cut off since there were `known` of them, and tells `freed` of pages that are gone with it.
    pub(crate) fn forget_new_cuts(&mut self, known: u64, freed: &mut impl FnMut(Freed)) {
        while self.cuts_begun > known {
            let holder = Holder::Cut(self.cuts_begun - 1);
            let Some(cut) = self.cuts.pop_back() else { return };
            // Still under its number, which nobody else can have meanwhile.
            self.forget_cut(&cut, holder);
            self.cuts_begun -= 1;
            if let Some(root) = cut.root {
                self.let_go(root, freed);
            }
        }
    }

    fn forget_cut(&mut self, cut: &Cut, holder: Holder) {
        self.cuts.push_back(Cut { root: None, lineage: cut.lineage, cliques: Few::None, ticket: None });
        self.leave_cliques(&cut.cliques, holder);
        self.leave_lineage(cut.lineage, holder);
        self.cuts.pop_back();
    }

    /// Takes a reference off a page, and with the last the page and its references out of memory.
    fn let_go(&mut self, at: PageIndex, freed: &mut impl FnMut(Freed)) {
        if self.arena.drop_ref(at) > 0 {
            return;
        }
        let place = self.arena.place(at);
        if place.is_somewhere() {
            freed(Freed::Page(place));
        }
        if self.arena.level(at) > 0 {
            for slot in 0..FANOUT {
                if let Some(below) = child(self.page(at).entries[slot]) {
                    self.let_go(below, freed);
                }
            }
        }
        self.dirty_pages -= u64::from(self.arena.is_dirty(at));
        self.arena.free(at);
    }

    /// The number of the oldest of the cuts that are left.
    pub(super) fn first_cut_number(&self) -> u64 {
        self.cuts_begun - self.cuts.len() as u64
    }
}
