//! The namespaces as one reactor knows them, and which of them each association sees from each of its
//! addresses.

use std::net::IpAddr;
use std::sync::Arc;

use nvme::{Nqn, Status};

use crate::slab::{Key, Slab};
use crate::{AssociationId, NamespaceShape};

/// Namespaces by NSID, and what the queues here see of them.
#[derive(Debug)]
pub(crate) struct Views {
    /// Index is the NSID.
    namespaces: Vec<Option<Arc<NamespaceShape>>>,
    views: Slab<View>,
    /// Counts changes of the namespaces.
    version: u64,
}

/// What the queues of an association see that come from one address. Nothing keeps a host's connections to one
/// address: one with several interfaces may leave by any of them.
#[derive(Debug)]
pub(crate) struct View {
    association: AssociationId,
    host: Nqn,
    address: IpAddr,
    /// One bit per NSID.
    visible: Vec<u64>,
    /// Queues that use it.
    queues: u32,
    /// The association's queues are being dropped.
    dropping: bool,
}

impl Views {
    pub(crate) const fn new() -> Self {
        Self { namespaces: Vec::new(), views: Slab::new(), version: 0 }
    }

    /// The view of an association from `address`, made where this is its first queue here.
    pub(crate) fn enter(&mut self, association: AssociationId, host: Nqn, address: IpAddr) -> Key {
        let known = |view: &View| view.association == association && view.address == address;
        let found = self.views.iter().find(|(_, view)| known(view)).map(|(key, _)| key);
        let key = found.unwrap_or_else(|| {
            let mut view =
                View { association, host, address, visible: Vec::new(), queues: 0, dropping: false };
            for shape in self.namespaces.iter().flatten() {
                view.apply(shape.nsid, shape.visible_to(&host, address));
            }
            self.views.insert(view)
        });
        if let Some(view) = self.views.get_mut(key) {
            view.queues += 1;
        }
        key
    }

    /// A queue of the view is gone.
    pub(crate) fn leave(&mut self, key: Key) {
        if let Some(view) = self.views.get_mut(key) {
            view.queues -= 1;
            if view.queues == 0 {
                self.views.remove(key);
            }
        }
    }

    /// Notes whether the queues of the association are being dropped.
    pub(crate) fn set_dropping(&mut self, association: AssociationId, dropping: bool) {
        // All of its views: each goes with its last queue, and whichever is left must know.
        for (_, view) in self.views.iter_mut().filter(|(_, view)| view.association == association) {
            view.dropping = dropping;
        }
    }

    /// True while queues of the association are being dropped.
    pub(crate) fn is_dropping(&self, association: AssociationId) -> bool {
        self.views.iter().any(|(_, view)| view.dropping && view.association == association)
    }

    pub(crate) fn set(&mut self, shape: Arc<NamespaceShape>) {
        for (_, view) in self.views.iter_mut() {
            view.apply(shape.nsid, shape.visible_to(&view.host, view.address));
        }
        let index = shape.nsid as usize;
        if self.namespaces.len() <= index {
            self.namespaces.resize(index + 1, None);
        }
        self.namespaces[index] = Some(shape);
        self.version += 1;
    }

    pub(crate) fn remove(&mut self, nsid: u32) {
        for (_, view) in self.views.iter_mut() {
            view.apply(nsid, false);
        }
        if let Some(namespace) = self.namespaces.get_mut(nsid as usize) {
            *namespace = None;
        }
        self.version += 1;
    }

    /// Counts changes of the namespaces.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The namespace, if the view sees it; a masked one is as if it were not there.
    pub(crate) fn look_up(&self, key: Key, nsid: u32) -> Result<&Arc<NamespaceShape>, Status> {
        let view = self.views.get(key).filter(|view| view.sees(nsid));
        view.and_then(|_| self.namespaces.get(nsid as usize)?.as_ref()).ok_or(Status::INVALID_NAMESPACE.dnr())
    }
}

impl View {
    fn sees(&self, nsid: u32) -> bool {
        self.visible.get(nsid as usize / 64).is_some_and(|word| word >> (nsid % 64) & 1 == 1)
    }

    fn apply(&mut self, nsid: u32, visible: bool) {
        let index = nsid as usize / 64;
        if !visible {
            if let Some(word) = self.visible.get_mut(index) {
                *word &= !(1 << (nsid % 64));
            }
            return;
        }
        if self.visible.len() <= index {
            self.visible.resize(index + 1, 0);
        }
        self.visible[index] |= 1 << (nsid % 64);
    }
}
