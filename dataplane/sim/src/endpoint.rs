//! The far end of a connection to the target: what tests, hosts and their proxies do.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::core::Core;
use crate::link::{End, Owner, Side};

/// A peer's end of one connection; dropping it closes it. What a stopped proxy holds back by then still arrives when
/// it goes on ([`crate::World::resume_all`]).
pub struct Endpoint<M: Send + 'static> {
    core: Rc<RefCell<Core<M>>>,
    link: u64,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The target has ended its stream, and everything was read.
    End,
    /// The connection is broken.
    Broken,
}

/// Names an [`Endpoint`] in a [`crate::Wake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId(pub(crate) u64);

impl<M: Send + 'static> Endpoint<M> {
    pub(crate) fn new(core: Rc<RefCell<Core<M>>>, link: u64) -> Self {
        Self { core, link }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        EndpointId(self.link)
    }

    /// Its own address, as the target sees it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.core.borrow_mut().link(self.link).peer
    }

    /// Sends bytes and says how many the transport took: fewer where its buffers are full, none on a connection
    /// that is broken or finished.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut core = self.core.borrow_mut();
        let pipe = &core.link(self.link).to_target;
        if pipe.end() != End::Open || pipe.is_finished_by_sender() {
            return 0;
        }
        if core.link(self.link).owner == Owner::Closed {
            // The target's end is closed: it answers bytes with a reset.
            core.break_link(self.link);
            return 0;
        }
        core.push_bytes(self.link, Side::Target, bytes)
    }

    /// Takes what has arrived.
    pub fn read(&mut self, place: &mut [u8]) -> Arrived {
        let mut core = self.core.borrow_mut();
        let pipe = &mut core.link(self.link).to_peer;
        let count = place.len().min(pipe.arrived.len());
        if count > 0 {
            pipe.take(&mut place[..count]);
            core.pump_send(self.link);
            return Arrived::Bytes(count);
        }
        match pipe.end() {
            _ if !pipe.arrived.is_empty() => Arrived::Nothing,
            End::Open => Arrived::Nothing,
            End::Finished => Arrived::End,
            End::Broken => Arrived::Broken,
        }
    }

    /// Bytes that have arrived and were not read.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.core.borrow_mut().link(self.link).to_peer.arrived.len()
    }

    /// True once no more bytes will come: the end or a reset has arrived.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.core.borrow_mut().link(self.link).to_peer.end() != End::Open
    }

    /// True once the connection broke by itself, at [`crate::Faults::net_reset_one_in`].
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.core.borrow_mut().link(self.link).was_cut
    }

    /// Ends the stream to the target in order; reading goes on.
    pub fn finish(&mut self) {
        self.core.borrow_mut().push_end(self.link, Side::Target, false);
    }

    /// Resets the connection; some of what is on its way to the target is lost.
    pub fn reset(&mut self) {
        self.core.borrow_mut().push_end(self.link, Side::Target, true);
    }

    /// A proxy between the two stops: nothing arrives at the target, ends and resets included, until [`Self::resume`].
    pub fn stall(&mut self) {
        self.core.borrow_mut().link(self.link).to_target.stalled = true;
    }

    /// The proxy goes on: everything that was sent meanwhile arrives.
    pub fn resume(&mut self) {
        self.core.borrow_mut().resume(self.link, Side::Target);
    }
}

impl<M: Send + 'static> Drop for Endpoint<M> {
    fn drop(&mut self) {
        let Ok(mut core) = self.core.try_borrow_mut() else { return };
        if !core.links.contains_key(&self.link) {
            return;
        }
        let link = core.link(self.link);
        link.peer_gone = true;
        let unread = !link.to_peer.arrived.is_empty() && !link.to_target.stalled;
        core.push_end(self.link, Side::Target, unread);
        core.forget_link(self.link);
    }
}

impl<M: Send + 'static> fmt::Debug for Endpoint<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.link)
    }
}
