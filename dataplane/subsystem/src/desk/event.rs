//! Asynchronous events of one controller: what has happened, what was told, what waits for a request. Base spec 2.0,
//! section 5.2.

use std::collections::{BTreeSet, VecDeque};

use nvme::Status;
use nvme::event::AsyncEvent;
use nvme::identify::{AsyncEvents, IDENTIFY_LEN, NsidList};

use crate::connection::Slot;
use crate::limits::{ASYNC_EVENTS_MAX, CHANGED_NAMESPACES_MAX};

/// A change that a host may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Notice {
    Namespaces,
    Ana,
    DiscoveryLog,
}

#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Requests that wait for an event.
    requests: VecDeque<Slot>,
    /// What the host has asked to be told (Asynchronous Event Configuration).
    pub(crate) enabled: AsyncEvents,
    /// Happened, and not told for want of a request.
    pending: BTreeSet<Notice>,
    /// Happened, and not cleared since by reading the log page: not told again.
    masked: BTreeSet<Notice>,
}

/// The Changed Namespace List. Base spec 2.0, section 5.16.1.5.
#[derive(Debug, Default)]
pub(crate) struct ChangedNamespaces {
    nsids: BTreeSet<u32>,
    /// More changed than the list holds.
    overflow: bool,
}

impl Notice {
    fn event(self) -> AsyncEvent {
        match self {
            Self::Namespaces => AsyncEvent::NAMESPACE_CHANGED,
            Self::Ana => AsyncEvent::ANA_CHANGED,
            Self::DiscoveryLog => AsyncEvent::DISCOVERY_CHANGED,
        }
    }

    const fn bit(self) -> AsyncEvents {
        match self {
            Self::Namespaces => AsyncEvents::NAMESPACE_ATTRIBUTE,
            Self::Ana => AsyncEvents::ANA_CHANGE,
            Self::DiscoveryLog => AsyncEvents::DISCOVERY_LOG,
        }
    }
}

impl Events {
    /// Takes an Asynchronous Event Request on.
    pub(crate) fn request(&mut self, slot: Slot) -> Result<(), Status> {
        if self.requests.len() >= ASYNC_EVENTS_MAX {
            return Err(Status::ASYNC_EVENT_LIMIT_EXCEEDED.dnr());
        }
        self.requests.push_back(slot);
        Ok(())
    }

    /// Something happened. It is told once, until the host has read the log page.
    pub(crate) fn raise(&mut self, notice: Notice) {
        if self.enabled.contains(notice.bit()) && self.masked.insert(notice) {
            self.pending.insert(notice);
        }
    }

    /// The host has read the log page of the notice.
    pub(crate) fn clear(&mut self, notice: Notice) {
        self.masked.remove(&notice);
        self.pending.remove(&notice);
    }

    /// A request to complete and what with.
    pub(crate) fn poll(&mut self) -> Option<(Slot, u64)> {
        if self.requests.is_empty() {
            return None;
        }
        let notice = self.pending.pop_first()?;
        let slot = self.requests.pop_front()?;
        Some((slot, u64::from(notice.event().encode())))
    }

    /// Takes one request out, to be aborted.
    pub(crate) fn take(&mut self, slot: Slot) -> bool {
        let at = self.requests.iter().position(|request| *request == slot);
        at.and_then(|at| self.requests.remove(at)).is_some()
    }

    /// A controller reset: requests are forgotten, nothing is enabled. Returns the requests.
    pub(crate) fn reset(&mut self) -> VecDeque<Slot> {
        std::mem::take(self).requests
    }
}

impl ChangedNamespaces {
    pub(crate) fn insert(&mut self, nsid: u32) {
        if self.nsids.len() < CHANGED_NAMESPACES_MAX || self.nsids.contains(&nsid) {
            self.nsids.insert(nsid);
        } else {
            self.overflow = true;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The page; FFFF_FFFFh alone where more changed than it holds.
    pub(crate) fn page(&self) -> [u8; IDENTIFY_LEN] {
        if self.overflow {
            return NsidList::encode([nvme::sqe::NSID_ALL]);
        }
        NsidList::encode(self.nsids.iter().copied())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_event_is_told_once_until_its_page_is_read() {
        let mut events = Events { enabled: AsyncEvents::NAMESPACE_ATTRIBUTE, ..Events::default() };
        events.raise(Notice::Namespaces);
        events.raise(Notice::Namespaces);
        assert_eq!(events.poll(), None, "there is no request");
        events.request(Slot(3)).unwrap();
        let told = u64::from(AsyncEvent::NAMESPACE_CHANGED.encode());
        assert_eq!(events.poll(), Some((Slot(3), told)));
        events.request(Slot(4)).unwrap();
        events.raise(Notice::Namespaces);
        assert_eq!(events.poll(), None, "the host has not read the page yet");
        events.clear(Notice::Namespaces);
        events.raise(Notice::Namespaces);
        assert_eq!(events.poll(), Some((Slot(4), told)));
    }

    #[test]
    fn an_event_that_is_not_enabled_is_not_told() {
        let mut events = Events::default();
        events.request(Slot(0)).unwrap();
        events.raise(Notice::DiscoveryLog);
        assert_eq!(events.poll(), None);
    }

    #[test]
    fn more_changes_than_the_list_holds_read_as_all() {
        let mut changed = ChangedNamespaces::default();
        for nsid in 1..=1024 {
            changed.insert(nsid);
        }
        assert_eq!(changed.page()[4092..], 1024u32.to_le_bytes());
        changed.insert(1024);
        assert_eq!(changed.page()[..4], 1u32.to_le_bytes());
        changed.insert(1025);
        assert_eq!(changed.page()[..4], u32::MAX.to_le_bytes());
        assert_eq!(changed.page()[4..8], [0; 4]);
        changed.clear();
        assert_eq!(changed.page(), [0; 4096]);
    }
}
