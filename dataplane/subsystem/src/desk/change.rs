//! Changes of namespaces and addresses: who sees a difference, and is told.

use std::net::SocketAddr;
use std::sync::Arc;

use io::Buffer;

use super::controller::Kind;
use super::event::Notice;
use super::{Desk, discovery};
use crate::{AssociationId, NamespaceShape};

impl<B: Buffer> Desk<B> {
    pub(super) fn change_namespace(&mut self, nsid: u32, new: Option<Arc<NamespaceShape>>) {
        let old = self.namespaces.get(&nsid).cloned();
        if old == new {
            return;
        }
        let hosts: Vec<(AssociationId, bool)> = self
            .controllers
            .values()
            .filter(|controller| controller.kind == Kind::Discovery)
            .map(|c| (c.association, discovery::offers(&self.namespaces, &c.path.host)))
            .collect();
        match &new {
            Some(shape) => self.namespaces.insert(nsid, Arc::clone(shape)),
            None => self.namespaces.remove(&nsid),
        };
        self.changes += 1;
        if old.as_ref().map(|shape| &shape.hosts) != new.as_ref().map(|shape| &shape.hosts) {
            self.generation += 1;
        }
        let mut told = Vec::new();
        for controller in self.controllers.values_mut() {
            let sees =
                |shape: &Option<Arc<NamespaceShape>>| shape.as_ref().is_some_and(|s| controller.sees(s));
            let (before, after) = (sees(&old), sees(&new));
            // Who may see it is nobody's business but theirs for whom that changed.
            let same = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| old.looks_like(new));
            if before != after || (after && !same) {
                controller.changed.insert(nsid);
                controller.events.raise(Notice::Namespaces);
                told.push(controller.association);
            }
        }
        for (association, before) in hosts {
            if let Some(controller) = self.controllers.get_mut(&association)
                && discovery::offers(&self.namespaces, &controller.path.host) != before
            {
                controller.events.raise(Notice::DiscoveryLog);
                told.push(association);
            }
        }
        told.into_iter().for_each(|association| self.deliver(association));
    }

    pub(super) fn note_changed(&mut self, nsid: u32) {
        let Some(shape) = self.namespaces.get(&nsid) else { return };
        let mut told = Vec::new();
        for controller in self.controllers.values_mut().filter(|controller| controller.sees(shape)) {
            controller.changed.insert(nsid);
            controller.events.raise(Notice::Namespaces);
            told.push(controller.association);
        }
        told.into_iter().for_each(|association| self.deliver(association));
    }

    pub(super) fn advertise(&mut self, advertised: Vec<SocketAddr>) {
        if self.config.advertised == advertised {
            return;
        }
        self.config.advertised = advertised;
        self.generation += 1;
        let namespaces = &self.namespaces;
        let told = self.controllers.values_mut().filter_map(|controller| {
            let concerned =
                controller.kind == Kind::Discovery && discovery::offers(namespaces, &controller.path.host);
            concerned.then(|| controller.events.raise(Notice::DiscoveryLog))?;
            Some(controller.association)
        });
        let told: Vec<_> = told.collect();
        told.into_iter().for_each(|association| self.deliver(association));
    }
}
