//! One controller: the association that made it, its configuration and status, its queues, its timers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use io::Time;
use nvme::Nqn;
use nvme::fabrics::{Cc, Csts};

use super::error_log::ErrorLog;
use super::event::{ChangedNamespaces, Events};
use super::feature::Features;
use crate::connection::Slot;
use crate::limits::{DISCOVERY_IDLE, KEEP_ALIVE_SLACK};
use crate::slab::Key;
use crate::{AssociationId, NamespaceShape};

/// What a controller is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Io,
    Discovery,
}

/// What makes two associations of I/O controllers the same path of the same host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathId {
    pub(crate) host: Nqn,
    pub(crate) host_id: [u8; 16],
    pub(crate) peer: IpAddr,
    pub(crate) local: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) association: AssociationId,
    pub(crate) cntlid: u16,
    pub(crate) kind: Kind,
    /// The name by which the host called the subsystem.
    pub(crate) subsystem: Nqn,
    pub(crate) path: PathId,
    /// The admin queue's connection; `None` once it is lost.
    pub(crate) admin: Option<Key>,
    pub(crate) cc: Cc,
    pub(crate) csts: Csts,
    /// I/O queues that were handed over and not reported closed since.
    pub(crate) queues: BTreeSet<u16>,
    /// What waits until the I/O queues are dropped on every reactor.
    pub(crate) after_drop: Vec<AfterDrop>,
    /// The reactors are dropping them.
    pub(crate) dropping: bool,
    /// When the keep alive timer is looked at next.
    pub(crate) alarm: Option<Time>,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) events: Events,
    pub(crate) changed: ChangedNamespaces,
    pub(crate) features: Features,
    pub(crate) errors: ErrorLog,
    /// Aborts that wait for a reactor, by token.
    pub(crate) aborts: BTreeMap<u64, Slot>,
}

/// What happens once no I/O queue and no request of the controller is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterDrop {
    /// Answer the Property Set that cleared CC.EN.
    AnswerReset(Slot),
    /// Flush, then say that shutdown processing is complete.
    FlushForShutdown,
    /// Forget the controller.
    Remove,
}

/// The keep alive timer. Base spec 2.0, section 3.9.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    pub(crate) timeout_ms: u32,
    kind: Kind,
    /// When the host was last heard on the admin queue, or known to be heard on another.
    heard: Time,
    /// The reactors are being asked whether they heard the host.
    pub(crate) asking: bool,
}

impl Controller {
    pub(crate) fn new(
        association: AssociationId,
        cntlid: u16,
        kind: Kind,
        subsystem: Nqn,
        path: PathId,
        timeout_ms: u32,
        now: Time,
    ) -> Self {
        Self {
            association,
            cntlid,
            kind,
            subsystem,
            path,
            admin: None,
            cc: Cc::default(),
            csts: Csts::default(),
            queues: BTreeSet::new(),
            after_drop: Vec::new(),
            dropping: false,
            alarm: None,
            keep_alive: KeepAlive { timeout_ms, kind, heard: now, asking: false },
            events: Events::default(),
            changed: ChangedNamespaces::default(),
            features: Features::new(now),
            errors: ErrorLog::default(),
            aborts: BTreeMap::new(),
        }
    }

    /// True while it takes commands and queues.
    pub(crate) fn is_alive(&self) -> bool {
        !self.after_drop.contains(&AfterDrop::Remove)
    }

    /// True if its host sees the namespace.
    pub(crate) fn sees(&self, namespace: &NamespaceShape) -> bool {
        self.kind == Kind::Io && namespace.visible_to(&self.path.host, self.path.peer)
    }
}

impl KeepAlive {
    pub(crate) fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    /// When the host counts as gone if it is not heard before.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match (self.timeout_ms, self.kind) {
            (0, Kind::Io) => None,
            // Base spec 2.0, section 3.1.2.3: a discovery controller without a timer ends idle connections itself.
            (0, Kind::Discovery) => Some(self.heard + DISCOVERY_IDLE),
            (timeout_ms, _) => {
                Some(self.heard + Duration::from_millis(u64::from(timeout_ms)) + KEEP_ALIVE_SLACK)
            }
        }
    }
}
