//! Images: the trees of a lineage, who may share blocks with whom, and what is cut off and given back bit by bit.
//!
//! All trees that come from one volume by forks are its **lineage**. A place on the drives belongs to one block of one
//! lineage, and any number of its images may hold it there. It is free when the last of them lets go of it, and to
//! know that nobody counts: images that may share something are in a **clique** together. A clique is a set of which
//! any two may hold the same places; cliques hang together like a tree. What holds always:
//!
//! * The holders of a place are connected: from any of them to any other leads a way through cliques on which everyone
//!   holds the place too.
//! * Whatever lets go of places (a writable image, or what was cut off) is in one clique at most, an end of the tree,
//!   so that the others stay connected without it.
//!
//! Hence who lets go of a place asks the others of its one clique, and if none holds it, nobody does. A read-only fork
//! takes the place of its source in the source's clique and makes a new one of the two. Dropping an image makes one
//! clique of all of its cliques; the image stays in that until the last of its pages is given back.

use std::collections::BTreeMap;

use crate::VolumeId;
#[cfg(feature = "planted")]
use crate::shard::Planted;

use super::arena::PageIndex;
use super::entry::{Entry, Location};
use super::few::Few;
use super::{FANOUT, FANOUT_BITS, Freed, Map, Needs, child};

/// One image's tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) root: PageIndex,
    pub(super) head: ImageHead,
    /// Cliques that it is in.
    pub(super) cliques: Few<u64>,
}

/// What is known of an image beside its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHead {
    pub(crate) image: VolumeId,
    /// The volume from which all of the lineage comes.
    pub(crate) lineage: VolumeId,
    /// Nothing but moves changes it.
    pub(crate) read_only: bool,
    /// Made by a fork: its tree stays even when it maps nothing, so that replay does not make it again.
    pub(crate) forked: bool,
}

/// Something that holds places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Image(VolumeId),
    /// What was cut off from an image, by its number.
    Cut(u64),
}

/// A tree that no request reaches any more: a dropped image, or what a deallocation cut off. It is given back page by
/// page, and holds until then what it held.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) root: Option<PageIndex>,
    pub(super) lineage: VolumeId,
    /// At most one clique.
    pub(super) cliques: Few<u64>,
    pub(super) ticket: Option<u32>,
}

/// Which holders may share places.
#[derive(Debug, Default)]
pub(super) struct Cliques {
    members: BTreeMap<u64, Few<Holder>>,
    last: u64,
}

impl Cliques {
    fn add(&mut self, members: Few<Holder>) -> u64 {
        self.last += 1;
        self.members.insert(self.last, members);
        self.last
    }

    fn members(&self, clique: u64) -> &[Holder] {
        self.members.get(&clique).map_or(&[], |members| members)
    }

    fn replace(&mut self, clique: u64, old: Holder, new: Holder) {
        for member in self.members.get_mut(&clique).into_iter().flat_map(|members| members.iter_mut()) {
            if *member == old {
                *member = new;
            }
        }
    }
}

impl Map {
    /// Makes `image` a second name of what `source` holds now; from here on each changes for itself. Does nothing if
    /// the image is there already.
    pub(crate) fn fork(&mut self, source: VolumeId, image: VolumeId, read_only: bool, lsn: u64) {
        if self.trees.contains_key(&image) || source == image {
            return;
        }
        let Some(tree) = self.trees.get_mut(&source) else {
            // Of nothing, but known: what the source gets later is not the image's.
            let root = self.arena.allocate(0);
            self.touch(root, lsn);
            let head = ImageHead { image, lineage: source, read_only, forked: true };
            self.insert_tree(root, head, Few::None);
            return;
        };
        let (root, lineage, writable) = (tree.root, tree.head.lineage, !tree.head.read_only);
        let (from, to) = (Holder::Image(source), Holder::Image(image));
        let mut cliques = Few::None;
        if writable && !read_only && !tree.cliques.is_empty() {
            // Both are ends: they share the source's clique.
            cliques.clone_from(&tree.cliques);
            for clique in &*cliques {
                self.cliques.members.entry(*clique).or_default().push(to);
            }
        } else {
            if writable && read_only {
                cliques = std::mem::take(&mut tree.cliques);
                for &clique in &*cliques {
                    self.cliques.replace(clique, from, to);
                }
            }
            let both = self.cliques.add(Few::Two([from, to]));
            tree.cliques.push(both);
            cliques.push(both);
        }
        self.arena.add_ref(root);
        self.mapped_blocks += self.mapped_in(root);
        self.insert_tree(root, ImageHead { image, lineage, read_only, forked: true }, cliques);
    }

    /// Forgets an image; [`Map::drop_step`] gives `ticket` back once all of it is freed. False if there is none.
    pub(crate) fn drop_volume(&mut self, image: VolumeId, ticket: Option<u32>) -> bool {
        let Some(tree) = self.trees.remove(&image) else { return false };
        self.mapped_blocks -= self.mapped_in(tree.root);
        let cut = Holder::Cut(self.cuts_begun);
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::DropConnections) {
            self.leave_cliques(&tree.cliques, Holder::Image(image));
            self.push_cut(tree.root, tree.head.lineage, Few::None, ticket);
            self.leave_lineage(tree.head.lineage, Holder::Image(image));
            return true;
        }
        let cliques = self.merge(&tree.cliques, Holder::Image(image), cut);
        self.push_cut(tree.root, tree.head.lineage, cliques, ticket);
        self.leave_lineage(tree.head.lineage, Holder::Image(image));
        true
    }

    /// Gives back at most `pages` pages of what was cut off, and tells `freed` of them and of the blocks that nobody
    /// else holds. The ticket of an image whose last page this was is returned. Where leaves are missing for the next
    /// step, `needs` says which.
    pub(crate) fn drop_step(
        &mut self,
        pages: &mut u32,
        needs: &mut Needs,
        freed: &mut impl FnMut(Freed),
    ) -> Option<u32> {
        needs.clear();
        while let Some(cut) = self.cuts.front() {
            if let Some(root) = cut.root {
                if *pages == 0 {
                    return None;
                }
                if self.has_away() {
                    needs.clear();
                    self.need_drop(needs);
                    if !needs.is_met() {
                        return None;
                    }
                }
                *pages -= 1;
                if self.release_first(root, freed)
                    && let Some(cut) = self.cuts.front_mut()
                {
                    cut.root = None;
                }
                continue;
            }
            let holder = Holder::Cut(self.first_cut_number());
            let Some(cut) = self.cuts.pop_front() else { break };
            self.leave_cliques(&cut.cliques, holder);
            self.leave_lineage(cut.lineage, holder);
            if cut.ticket.is_some() {
                return cut.ticket;
            }
        }
        None
    }

    /// Whether there is anything left for [`Map::drop_step`].
    pub(crate) fn is_dropping(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// What is known of an image, if it has a tree.
    pub(crate) fn head(&self, image: VolumeId) -> Option<ImageHead> {
        self.trees.get(&image).map(|tree| tree.head)
    }

    /// The lineage of an image; one that has no tree begins its own.
    pub(crate) fn lineage(&self, image: VolumeId) -> VolumeId {
        self.head(image).map_or(image, |head| head.lineage)
    }

    /// Whether an image of the lineage holds this place for the block; `None` where that is not known, because a leaf is
    /// not in memory. What was cut off does not count: it will let go by itself.
    pub(crate) fn is_live(&self, lineage: VolumeId, block: u64, location: Location) -> Option<bool> {
        let mut is_known = true;
        let holders = self.lineages.get(&lineage).into_iter().flatten();
        for &holder in holders.filter(|holder| matches!(holder, Holder::Image(_))) {
            match self.known_entry_of(holder, block) {
                Some(entry) if entry.location() == location => return Some(true),
                Some(_) => {}
                None => is_known = false,
            }
        }
        is_known.then_some(false)
    }

    /// The names of the members of each clique, for a manifest.
    pub(crate) fn cliques(&self) -> impl Iterator<Item = impl Iterator<Item = VolumeId>> {
        self.cliques.members.values().map(|members| members.iter().filter_map(|&member| self.name_of(member)))
    }

    /// Puts a clique back that a manifest names. False if it cannot be: it names something that is not there, or twice,
    /// or one that changes and is in another.
    pub(crate) fn load_clique(&mut self, names: &[VolumeId]) -> bool {
        if names.len() < 2 {
            return true;
        }
        let clique = self.cliques.add(names.iter().map(|&name| Self::holder(name)).collect());
        names.iter().all(|&name| {
            let (may_be, cliques) = match Self::holder(name) {
                Holder::Image(image) => match self.trees.get_mut(&image) {
                    Some(tree) => (tree.head.read_only || tree.cliques.is_empty(), &mut tree.cliques),
                    None => return false,
                },
                Holder::Cut(number) => {
                    match usize::try_from(number).ok().and_then(|at| self.cuts.get_mut(at)) {
                        Some(cut) => (cut.cliques.is_empty(), &mut cut.cliques),
                        None => return false,
                    }
                }
            };
            cliques.push(clique);
            may_be
        })
    }

    /// Keeps what a deallocation cut off from an image until it is given back.
    pub(super) fn keep_cut(&mut self, image: VolumeId, root: PageIndex) {
        let Some(tree) = self.trees.get(&image) else { return };
        let (lineage, cliques) = (tree.head.lineage, tree.cliques.clone());
        assert!(cliques.len() <= 1, "what changes is in one clique at most");
        for clique in &*cliques {
            self.cliques.members.entry(*clique).or_default().push(Holder::Cut(self.cuts_begun));
        }
        self.push_cut(root, lineage, cliques, None);
    }

    /// Whether a clique of the holder has another member that holds this place for the block.
    pub(super) fn is_held_beside(&self, holder: Holder, block: u64, location: Location) -> bool {
        #[cfg(feature = "planted")]
        match self.planted {
            Some(Planted::FreeShared) if matches!(holder, Holder::Image(_)) => return false,
            Some(Planted::KeepShared) => return true,
            _ => {}
        }
        self.cliques_of(holder).iter().any(|&clique| {
            self.cliques
                .members(clique)
                .iter()
                .any(|&other| other != holder && self.may_hold(other, block, location))
        })
    }

    /// Whether a holder has this place for the block. One whose leaf cannot be read counts as one that has: what is kept
    /// for nobody costs room, what is given back too early costs data.
    fn may_hold(&self, holder: Holder, block: u64, location: Location) -> bool {
        self.known_entry_of(holder, block).is_none_or(|entry| entry.location() == location)
    }

    /// Puts a tree into the map, and its image into its lineage.
    pub(super) fn insert_tree(&mut self, root: PageIndex, head: ImageHead, cliques: Few<u64>) {
        self.trees.insert(head.image, Tree { root, head, cliques });
        self.lineages.entry(head.lineage).or_default().push(Holder::Image(head.image));
    }

    /// Takes an image that maps nothing out of the map.
    pub(super) fn forget_tree(&mut self, image: VolumeId) {
        let Some(tree) = self.trees.remove(&image) else { return };
        self.leave_cliques(&tree.cliques, Holder::Image(image));
        self.leave_lineage(tree.head.lineage, Holder::Image(image));
    }

    /// The root pages of all that holds places in a lineage.
    pub(super) fn lineage_roots(&self, lineage: VolumeId) -> impl Iterator<Item = PageIndex> {
        self.lineages.get(&lineage).into_iter().flatten().filter_map(|&holder| self.root_of(holder))
    }

    pub(super) fn push_cut(
        &mut self,
        root: PageIndex,
        lineage: VolumeId,
        cliques: Few<u64>,
        ticket: Option<u32>,
    ) {
        self.lineages.entry(lineage).or_default().push(Holder::Cut(self.cuts_begun));
        self.cuts.push_back(Cut { root: Some(root), lineage, cliques, ticket });
        self.cuts_begun += 1;
    }

    pub(super) fn root_of(&self, holder: Holder) -> Option<PageIndex> {
        match holder {
            Holder::Image(image) => self.trees.get(&image).map(|tree| tree.root),
            Holder::Cut(number) => self.cut(number)?.root,
        }
    }

    pub(super) fn cliques_of(&self, holder: Holder) -> &[u64] {
        match holder {
            Holder::Image(image) => self.trees.get(&image).map_or(&[], |tree| &*tree.cliques),
            Holder::Cut(number) => self.cut(number).map_or(&[], |cut| &*cut.cliques),
        }
    }

    pub(super) fn clique(&self, number: u64) -> &[Holder] {
        self.cliques.members(number)
    }

    /// What is given back next: its number, its lineage and its root.
    pub(super) fn first_cut(&self) -> Option<(u64, VolumeId, PageIndex)> {
        let cut = self.cuts.front()?;
        Some((self.first_cut_number(), cut.lineage, cut.root?))
    }

    pub(super) fn cut(&self, number: u64) -> Option<&Cut> {
        let first = self.first_cut_number();
        self.cuts.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Makes one clique of several, with `new` in it for `old`; gives it, unless nobody else is in it.
    fn merge(&mut self, cliques: &[u64], old: Holder, new: Holder) -> Few<u64> {
        let mut members = vec![new];
        for clique in cliques {
            let others = self.cliques.members.remove(clique).unwrap_or_default();
            members.extend(others.iter().copied().filter(|&member| member != old));
        }
        if members.len() == 1 {
            return Few::None;
        }
        let others = members[1..].to_vec();
        let merged = self.cliques.add(members.into());
        for other in others {
            let of_other = match other {
                Holder::Image(image) => self.trees.get_mut(&image).map(|tree| &mut tree.cliques),
                Holder::Cut(number) => {
                    let first = self.first_cut_number();
                    usize::try_from(number - first)
                        .ok()
                        .and_then(|at| self.cuts.get_mut(at))
                        .map(|cut| &mut cut.cliques)
                }
            };
            if let Some(of_other) = of_other {
                of_other.retain(|clique| !cliques.contains(clique));
                of_other.push(merged);
            }
        }
        Few::One(merged)
    }

    /// The holder lets go of its last place.
    pub(super) fn leave_cliques(&mut self, cliques: &[u64], holder: Holder) {
        for clique in cliques {
            let Some(members) = self.cliques.members.get_mut(clique) else { continue };
            members.retain(|&member| member != holder);
            if members.len() > 1 {
                continue;
            }
            let alone = self.cliques.members.remove(clique).unwrap_or_default();
            for &member in &*alone {
                match member {
                    Holder::Image(image) => {
                        if let Some(tree) = self.trees.get_mut(&image) {
                            tree.cliques.retain(|found| found != clique);
                        }
                    }
                    Holder::Cut(number) => {
                        let first = self.first_cut_number();
                        let at = usize::try_from(number - first).ok();
                        if let Some(cut) = at.and_then(|at| self.cuts.get_mut(at)) {
                            cut.cliques.clear();
                        }
                    }
                }
            }
        }
    }

    pub(super) fn leave_lineage(&mut self, lineage: VolumeId, holder: Holder) {
        if let Some(holders) = self.lineages.get_mut(&lineage) {
            holders.retain(|&found| found != holder);
            if holders.is_empty() {
                self.lineages.remove(&lineage);
            }
        }
    }

    /// Gives back the first page, in order of the blocks, that hangs on the first cut's `root`; true if that was the
    /// root. What others refer to stays with them.
    fn release_first(&mut self, root: PageIndex, freed: &mut impl FnMut(Freed)) -> bool {
        let mut way: Vec<(PageIndex, usize)> = Vec::new();
        let (mut at, mut index) = (root, 0_u64);
        loop {
            if self.arena.refs(at) > 1 {
                self.arena.drop_ref(at);
                // Those that it stays with are read-only, most often.
                self.arena.cool(at);
                break;
            }
            let page = self.arena.resident(at).filter(|page| page.level > 0);
            let first_child = page.and_then(|page| page.entries.iter().position(|&entry| entry != 0));
            let (Some(page), Some(slot)) = (page, first_child) else {
                self.release_page(at, index, freed);
                break;
            };
            let Some(below) = child(page.entries[slot]) else {
                self.arena.page_mut(at).entries[slot] = 0;
                continue;
            };
            way.push((at, slot));
            index = index << FANOUT_BITS | slot as u64;
            at = below;
        }
        // What is left is what the next checkpoint keeps.
        let mut is_gone = true;
        for (parent, slot) in way.into_iter().rev() {
            self.touch(parent, 0);
            let page = self.arena.page_mut(parent);
            if std::mem::take(&mut is_gone) {
                page.entries[slot] = 0;
                page.bits &= !(1 << slot);
            } else {
                page.bits |= 1 << slot;
            }
        }
        at == root
    }

    /// Gives back a page of the first cut that nothing hangs on, with the blocks that it alone held.
    fn release_page(&mut self, at: PageIndex, index: u64, freed: &mut impl FnMut(Freed)) {
        let holder = Holder::Cut(self.first_cut_number());
        if self.arena.level(at) == 0 && !self.settle(holder, index, at) {
            // Something that cannot be read may refer to it: what it holds is lost room.
            self.forget_page(at);
            return;
        }
        let place = self.arena.place(at);
        if place.is_somewhere() {
            freed(Freed::Page(place));
        }
        let Some(page) = self.arena.resident(at) else {
            // What it alone held is lost for good: nothing tells where it is.
            self.arena.free(at);
            return;
        };
        for slot in 0..FANOUT {
            let entry = Entry(page.entries[slot]);
            let may_be_shared = page.bits >> slot & 1 != 0;
            let block = index << FANOUT_BITS | slot as u64;
            if entry.is_mapped()
                && page.level == 0
                && !(may_be_shared && self.is_held_beside(holder, block, entry.location()))
            {
                freed(Freed::Block(entry));
            }
        }
        self.dirty_pages -= u64::from(page.dirty);
        self.arena.free(at);
    }
}
