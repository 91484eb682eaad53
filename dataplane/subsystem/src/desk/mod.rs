//! Reactor 0's part of the target: connections until their Connect, admin queues, associations, discovery.
//!
//! A connection is fresh until its Connect, then connecting (a Connect that waits), leaving (an I/O queue that
//! goes to its reactor), or an admin queue. An association lives from its admin Connect until it is ended, and is
//! forgotten only when no reactor has a queue or an unanswered request of it.

mod admin;
mod association;
mod change;
mod client;
mod cntlid;
mod connect;
mod controller;
mod discovery;
mod error_log;
mod event;
mod feature;
mod identify;
mod log_page;
mod property;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use io::{Buffer, ConnectionId, Memory, NetError, SendList, Time};
use nvme::Nqn;

use crate::connection::Connection;
use crate::slab::Key;
use crate::sockets::Sockets;
use crate::{AssociationId, CommandCounts, DeskOutput, NamespaceShape, TransportStats, limits};

use admin::Counting;
use client::{Client, Parked, Role};
use cntlid::Cntlids;
use controller::{Controller, Kind, PathId};
use identify::Namespaces;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// I/O controllers (port 4420); answers the well-known discovery NQN too.
    Io,
    /// Discovery controllers alone (port 8009).
    Discovery,
}

/// What the desk is to be.
#[derive(Clone, Debug)]
pub struct DeskConfig {
    /// NQN of the subsystem.
    pub subsystem_nqn: Nqn,
    /// Unique NQN of the discovery subsystem, beside the well-known one.
    pub discovery_nqn: Nqn,
    /// Serial number (SN): up to 20 ASCII characters.
    pub serial: String,
    /// Firmware revision (FR): up to 8 ASCII characters.
    pub firmware: String,
    /// CNTLIDs of this node, within 1..=FFEFh, two at least.
    pub cntlids: RangeInclusive<u16>,
    /// High-water mark as last persisted; `None` on a new pool.
    pub cntlid_next: Option<u16>,
    /// First value of the discovery log's generation counter: later starts should give larger ones.
    pub generation: u64,
    /// Where hosts are told to connect to (port included).
    pub advertised: Vec<SocketAddr>,
}

/// A host with an association to an I/O controller, for the management plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedHost {
    /// Its NQN.
    pub host_nqn: Nqn,
    /// Where its admin queue comes from.
    pub address: IpAddr,
    /// The association.
    pub association: AssociationId,
    /// I/O queues in use.
    pub io_queues: u16,
}

/// What the SMART / Health log tells, as whoever stores the data knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthTotals {
    /// Bytes read by hosts.
    pub read_bytes: u64,
    /// Bytes written by hosts.
    pub written_bytes: u64,
    /// Read commands done.
    pub reads: u64,
    /// Write commands done.
    pub writes: u64,
    /// Data integrity errors found.
    pub media_errors: u64,
    /// Free space of the pool in per cent, 0..=100.
    pub free_percent: u8,
}

impl Default for HealthTotals {
    fn default() -> Self {
        Self { read_bytes: 0, written_bytes: 0, reads: 0, writes: 0, media_errors: 0, free_percent: 100 }
    }
}

/// See the crate's head for the calling convention.
#[derive(Debug)]
pub struct Desk<B: Buffer> {
    config: DeskConfig,
    sockets: Sockets<B, Client<B>>,
    controllers: BTreeMap<AssociationId, Controller>,
    by_cntlid: BTreeMap<u16, AssociationId>,
    /// Associations of I/O controllers that are not forgotten.
    paths: BTreeMap<PathId, AssociationId>,
    namespaces: Namespaces,
    /// Changes of namespaces so far.
    changes: u64,
    /// Generation of the discovery log.
    generation: u64,
    cntlids: Cntlids,
    /// Associations made so far.
    associations: u64,
    /// Tokens given out so far.
    tokens: u64,
    /// Aborts that reactors have been asked about.
    aborts: BTreeMap<u64, AssociationId>,
    /// Identify commands that wait until what a namespace has allocated is counted, by token.
    counts: BTreeMap<u64, Counting<B>>,
    /// Connections whose Connect waits, in order.
    waiting: Vec<Key>,
    /// Something has happened that a waiting Connect may have waited for.
    recheck: bool,
    /// Connections that wait for memory.
    starved: Vec<Key>,
    retry: Option<Time>,
    /// Keep alive timers by when they are looked at.
    alarms: BTreeSet<(Time, AssociationId)>,
    health: HealthTotals,
    /// The first time that was seen.
    since: Option<Time>,
    /// The last time that was seen.
    now: Time,
    stopping: bool,
    outputs: VecDeque<DeskOutput<B>>,
    commands: CommandCounts,
}

impl<B: Buffer> Desk<B> {
    /// A desk without namespaces and connections.
    ///
    /// # Panics
    /// If the configuration breaks its own rules.
    #[must_use]
    pub fn new(config: DeskConfig) -> Self {
        let cntlids = Cntlids::new(config.cntlids.clone(), config.cntlid_next);
        let generation = config.generation;
        Self {
            config,
            sockets: Sockets::new(),
            controllers: BTreeMap::new(),
            by_cntlid: BTreeMap::new(),
            paths: BTreeMap::new(),
            namespaces: Namespaces::new(),
            changes: 1,
            generation,
            cntlids,
            associations: 0,
            tokens: 0,
            aborts: BTreeMap::new(),
            counts: BTreeMap::new(),
            waiting: Vec::new(),
            recheck: false,
            starved: Vec::new(),
            retry: None,
            alarms: BTreeSet::new(),
            health: HealthTotals::default(),
            since: None,
            now: Time::default(),
            stopping: false,
            outputs: VecDeque::new(),
            commands: CommandCounts::new(),
        }
    }

    /// A host connected, and its socket was adopted on reactor 0.
    pub fn handle_accepted(
        &mut self,
        connection: ConnectionId,
        listener: ListenerKind,
        local: SocketAddr,
        peer: SocketAddr,
        now: Time,
    ) {
        let mut transport = Connection::new(now);
        if self.stopping || self.sockets.len() >= limits::DESK_CONNECTIONS_MAX {
            transport.close_now();
        }
        let client =
            Client { listener, local, peer, role: Role::Fresh, awaiting: BTreeMap::new(), parked: None };
        self.sockets.insert(connection, transport, client);
    }

    /// [`io::Event::Received`].
    pub fn handle_received(&mut self, connection: ConnectionId, result: Result<Option<B>, NetError>) {
        self.sockets.handle_received(connection, result);
    }

    /// [`io::Event::ReceivedInto`].
    pub fn handle_received_into(
        &mut self,
        connection: ConnectionId,
        buffer: B,
        result: Result<usize, NetError>,
    ) {
        self.sockets.handle_received_into(connection, buffer, result);
    }

    /// [`io::Event::Sent`].
    pub fn handle_sent(&mut self, connection: ConnectionId, list: SendList<B>, result: Result<(), NetError>) {
        self.sockets.handle_sent(connection, list, result);
    }

    /// [`io::Event::Closed`].
    pub fn handle_closed(&mut self, connection: ConnectionId) {
        self.sockets.handle_closed(connection);
    }

    /// Adds a namespace or changes its shape, and tells the controllers that see a difference. Call it after every
    /// reactor's [`crate::Ports::set_namespace`] has taken effect.
    ///
    /// # Panics
    /// If the shape breaks its own rules.
    pub fn set_namespace(&mut self, shape: Arc<NamespaceShape>) {
        shape.check();
        self.change_namespace(shape.nsid, Some(shape));
    }

    /// Tells the controllers that see a namespace that it has changed, although it looks as before: its content is
    /// another.
    pub fn tell_changed(&mut self, nsid: u32) {
        self.note_changed(nsid);
    }

    /// Removes a namespace, and tells the controllers that saw it.
    pub fn remove_namespace(&mut self, nsid: u32) {
        self.change_namespace(nsid, None);
    }

    /// Changes where hosts are told to connect to, and tells the discovery controllers.
    pub fn set_advertised(&mut self, advertised: Vec<SocketAddr>) {
        self.advertise(advertised);
    }

    /// Tells what the SMART / Health log is to say from now on.
    pub fn set_health(&mut self, health: HealthTotals) {
        self.health = health;
    }

    /// Answers [`DeskOutput::PersistCntlid`].
    pub fn on_cntlid_persisted(&mut self, next: u16) {
        self.cntlids.on_noted(next);
        self.recheck = true;
    }

    /// Answers [`DeskOutput::DropQueues`].
    pub fn on_queues_dropped(&mut self, association: AssociationId) {
        if self.controllers.get(&association).is_some_and(|controller| controller.dropping) {
            self.on_dropped(association);
        }
    }

    /// Answers [`DeskOutput::Flush`].
    pub fn on_flushed(&mut self, association: AssociationId) {
        self.complete_shutdown(association);
    }

    /// Answers [`DeskOutput::CheckTraffic`]: `seen` where a capsule came on an I/O queue since the last question.
    pub fn on_traffic(&mut self, association: AssociationId, seen: bool, now: Time) {
        self.hear_traffic(association, seen, now);
    }

    /// Answers [`DeskOutput::AbortCommand`].
    pub fn on_abort(&mut self, token: u64, aborted: bool) {
        self.finish_abort(token, aborted);
    }

    /// Answers [`DeskOutput::CountAllocated`]: bytes that are allocated in a thin namespace; `None` for one that is not
    /// thin.
    pub fn on_counted(&mut self, token: u64, allocated_bytes: Option<u64>) {
        self.finish_count(token, allocated_bytes);
    }

    /// An I/O queue ended by itself, or could not be adopted.
    pub fn on_queue_closed(&mut self, association: AssociationId, qid: u16) {
        if let Some(controller) = self.controllers.get_mut(&association) {
            controller.queues.remove(&qid);
            self.recheck = true;
        }
    }

    /// Stops reading; what has been received is answered. See [`Desk::is_idle`].
    pub fn stop(&mut self) {
        self.stopping = true;
        for (_, socket) in self.sockets.iter_mut() {
            socket.connection.set_paused(true);
        }
    }

    /// Closes every connection; use after [`Desk::stop`] when all is drained.
    pub fn close_all(&mut self) {
        for key in self.sockets.keys() {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.connection.close_now();
            }
            self.sockets.note(key);
        }
    }

    /// Does what has become possible or due; see the crate's head.
    pub fn run(&mut self, now: Time, memory: &mut impl Memory<Buffer = B>) {
        self.now = now;
        self.since.get_or_insert(now);
        self.sockets.check_deadlines(now);
        self.check_alarms(now);
        self.recheck |= self.poll_qid_wait().is_some_and(|until| until <= now);
        self.retry = None;
        for key in std::mem::take(&mut self.starved) {
            self.sockets.note(key);
        }
        loop {
            while let Some(key) = self.sockets.poll_attention() {
                self.attend(key, now, memory);
            }
            if let Some(next) = self.cntlids.poll_mark() {
                self.outputs.push_back(DeskOutput::PersistCntlid { next });
            }
            if !std::mem::take(&mut self.recheck) {
                break;
            }
            for key in std::mem::take(&mut self.waiting) {
                self.connect(key, now);
            }
        }
        if !self.starved.is_empty() {
            self.retry = Some(now + limits::MEMORY_RETRY);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DeskOutput<B>> {
        self.outputs.pop_front()
    }

    /// When [`Desk::run`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(alarm, _)| *alarm);
        [self.retry, self.sockets.deadline(), alarm, self.poll_qid_wait()].into_iter().flatten().min()
    }

    /// True if events of `connection` belong here.
    #[must_use]
    pub fn owns(&self, connection: ConnectionId) -> bool {
        self.sockets.owns(connection)
    }

    /// True when nothing is to be done and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty() && self.counts.is_empty() && self.sockets.is_sent()
    }

    /// Hosts with an association to an I/O controller, in order of association.
    pub fn hosts(&self) -> impl Iterator<Item = ConnectedHost> + '_ {
        let io = |controller: &&Controller| controller.kind == Kind::Io && controller.is_alive();
        self.controllers.values().filter(io).map(|controller| ConnectedHost {
            host_nqn: controller.path.host,
            address: controller.path.peer,
            association: controller.association,
            io_queues: u16::try_from(controller.queues.len()).unwrap_or(u16::MAX),
        })
    }

    /// Controllers, discovery ones included.
    #[must_use]
    pub fn controllers(&self) -> usize {
        self.controllers.len()
    }

    /// Admin commands by opcode and status.
    #[must_use]
    pub const fn commands(&self) -> &CommandCounts {
        &self.commands
    }

    /// Counters of the connections here.
    #[must_use]
    pub const fn transport(&self) -> &TransportStats {
        self.sockets.stats()
    }
}
