//! Reactor 0's part of the engine: the desk, the directory, the segments of the pool, and questions to all reactors.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use io::{Buffer, ConnectionId, Disk, DiskError, DriveId, ListenerId, Time, Token};
use store::pool::{FormatOptions, PoolOpening};
use store::{Directory, Layout, SegmentId, Segments, ShardId};
use subsystem::{AssociationId, Desk, ListenerKind};

use crate::action::{Drive, Identity};
use crate::diff::Diffs;
use crate::errand::Errands;
use crate::grow::Growth;
use crate::health::Health;
use crate::leading::Fence;
use crate::message::Counters;
use crate::owned::Owned;
use crate::owner;
use crate::rounds::Rounds;
use crate::start::Start;

/// What reactor 0 leads with.
#[derive(Clone, Debug)]
pub struct LeadConfig {
    /// What a blank pool is formatted as, and who this server is where there is no pool.
    pub format: FormatOptions,
    /// Addresses for I/O queues.
    pub listen: Vec<SocketAddr>,
    /// Addresses of the discovery service.
    pub discovery: Vec<SocketAddr>,
    /// What hosts are told to connect to instead of the listening addresses.
    pub advertise: Vec<IpAddr>,
    /// Bench namespaces, as (true for memory, size in bytes).
    pub bench: Vec<BenchNamespace>,
    /// The drives by name, for people.
    pub drives: Vec<String>,
    /// The reactors and what their rings offer, for people.
    pub reactors: Vec<String>,
}

/// A namespace without a store under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchNamespace {
    /// Held in memory; otherwise reads return zeros and writes vanish.
    pub memory: bool,
    /// Size in bytes, a multiple of 4096.
    pub size_bytes: u64,
}

/// The lead's state.
#[derive(Debug)]
pub(crate) struct Lead<B: Buffer> {
    pub(crate) config: LeadConfig,
    pub(crate) reactors: u16,
    pub(crate) start: Start,
    pub(crate) layout: Option<Arc<Layout>>,
    pub(crate) directory: Option<Directory>,
    pub(crate) segments: Option<Segments>,
    /// Shards that wait for the free list.
    pub(crate) wanting: Vec<(io::ReactorId, ShardId, bool)>,
    pub(crate) errands: Errands,
    /// Without the drives, whose state changes.
    pub(crate) identity: Identity,
    pub(crate) drops: Rounds<AssociationId>,
    pub(crate) traffic: Rounds<AssociationId>,
    pub(crate) aborts: Rounds<u64>,
    pub(crate) fences: Rounds<u64>,
    /// Bytes that images map, asked for by the desk's tokens.
    pub(crate) mapped: Rounds<u64, u64>,
    /// Changes that wait until every reactor holds acknowledgements back.
    pub(crate) holds: Rounds<u32>,
    pub(crate) diffs: Diffs,
    pub(crate) owned: Owned,
    pub(crate) growth: Option<Growth>,
    pub(crate) health: Health,
    pub(crate) fence_next: u64,
    pub(crate) fencing: std::collections::BTreeMap<u64, Fence>,
    /// I/O queues by reactor, the measure of their loads.
    pub(crate) queues: Vec<u32>,
    /// On which reactor each I/O queue is.
    pub(crate) placed: std::collections::BTreeMap<(AssociationId, u16), io::ReactorId>,
    /// Listeners in order of their numbers.
    pub(crate) listeners: Vec<ListenerKind>,
    desk: Option<Box<Desk<B>>>,
}

impl<B: Buffer> Lead<B> {
    pub(crate) fn new(config: LeadConfig, disk: &impl Disk, reactors: u16) -> Self {
        let start = if disk.drives() > 0 {
            Start::Opening(Box::new(PoolOpening::new(disk, owner::OPENING, Some(config.format.clone()))))
        } else {
            Start::NoPool
        };
        let identity = Identity {
            cluster_uuid: config.format.identity.cluster,
            node_uuid: config.format.identity.node,
            subsystem_nqn: String::new(),
            listen: Vec::new(),
            discovery: Vec::new(),
            advertised: Vec::new(),
            drives: Vec::new(),
            bench: Vec::new(),
            reactors: config.reactors.clone(),
        };
        Self {
            config,
            reactors,
            start,
            layout: None,
            directory: None,
            segments: None,
            wanting: Vec::new(),
            errands: Errands::new(),
            identity,
            drops: Rounds::new(),
            traffic: Rounds::new(),
            aborts: Rounds::new(),
            fences: Rounds::new(),
            mapped: Rounds::new(),
            holds: Rounds::new(),
            diffs: Diffs::default(),
            owned: Owned::default(),
            growth: None,
            health: Health::default(),
            fence_next: 0,
            fencing: std::collections::BTreeMap::new(),
            queues: vec![0; usize::from(reactors)],
            placed: std::collections::BTreeMap::new(),
            listeners: Vec::new(),
            desk: None,
        }
    }

    /// The desk; there is one as soon as the pool's identity is known, before anything listens.
    pub(crate) fn desk(&mut self) -> &mut Desk<B> {
        self.desk.as_mut().expect("connections come after the listeners, and they after the desk")
    }

    /// The desk, if it is there yet.
    pub(crate) fn desk_mut(&mut self) -> Option<&mut Desk<B>> {
        self.desk.as_deref_mut()
    }

    /// The desk, if it is there yet.
    pub(crate) fn desk_ref(&self) -> Option<&Desk<B>> {
        self.desk.as_deref()
    }

    /// The desk is made.
    pub(crate) fn set_desk(&mut self, desk: Desk<B>) {
        self.desk = Some(Box::new(desk));
    }

    /// A host has connected.
    pub(crate) fn on_accepted(
        &mut self,
        listener: ListenerId,
        connection: ConnectionId,
        local: SocketAddr,
        peer: SocketAddr,
        now: Time,
    ) {
        let kind = self.listeners[listener.0 as usize];
        self.desk().handle_accepted(connection, kind, local, peer, now);
    }

    /// A disk read of the opening or the directory has ended.
    pub(crate) fn handle_read(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        if owner::of(token) == owner::DIRECTORY {
            self.directory().handle_read(token, buffer, result);
        } else if let Start::Opening(opening) = &mut self.start {
            opening.handle_read(token, buffer, result);
        } else if let Some(growth) = &mut self.growth {
            growth.handle_read(token, buffer, result);
        }
    }

    /// A disk write of the opening or the directory has ended.
    pub(crate) fn handle_written(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        if owner::of(token) == owner::DIRECTORY {
            self.directory().handle_written(token, buffer, result);
        } else if let Start::Opening(opening) = &mut self.start {
            opening.handle_written(token, buffer, result);
        } else if let Some(growth) = &mut self.growth {
            growth.handle_written(token, buffer, result);
        }
    }

    /// A flush of the opening or the directory has ended.
    pub(crate) fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        if owner::of(token) == owner::DIRECTORY {
            self.directory().handle_flushed(token, result);
        } else if let Start::Opening(opening) = &mut self.start {
            opening.handle_flushed(token, result);
        } else if let Some(growth) = &mut self.growth {
            growth.handle_flushed(token, result);
        }
    }

    /// Names the next change of a namespace.
    pub(crate) fn next_fence(&mut self) -> u64 {
        self.fence_next += 1;
        self.fences.ask(self.fence_next, self.reactors);
        self.fence_next
    }

    /// The reactor with the fewest I/O queues.
    pub(crate) fn least_loaded(&self) -> io::ReactorId {
        let (number, _) =
            self.queues.iter().enumerate().min_by_key(|(_, queues)| **queues).expect("a reactor is there");
        io::ReactorId(u16::try_from(number).expect("reactors are numbered by a u16"))
    }

    /// Notes where an I/O queue went.
    pub(crate) fn on_placed(&mut self, association: AssociationId, qid: u16, reactor: io::ReactorId) {
        self.queues[usize::from(reactor.0)] += 1;
        self.placed.insert((association, qid), reactor);
    }

    /// An I/O queue has ended.
    pub(crate) fn on_queue_gone(&mut self, association: AssociationId, qid: u16) {
        if let Some(reactor) = self.placed.remove(&(association, qid)) {
            self.queues[usize::from(reactor.0)] -= 1;
        }
    }

    /// All I/O queues of an association have ended.
    pub(crate) fn on_queues_gone(&mut self, association: AssociationId) {
        let gone: Vec<u16> =
            self.placed.range((association, 0)..=(association, u16::MAX)).map(|((_, qid), _)| *qid).collect();
        for qid in gone {
            self.on_queue_gone(association, qid);
        }
    }

    /// A shard asks for a segment; `None` where the free list is not known yet.
    pub(crate) fn grant(&mut self, shard: ShardId, cleaning: bool) -> Option<Option<SegmentId>> {
        let purpose = if cleaning { store::GrantPurpose::Cleaning } else { store::GrantPurpose::Host };
        self.segments.as_mut().map(|segments| segments.grant(shard, purpose))
    }

    /// Who this is and what it serves with.
    pub(crate) fn identity(&self, counters: &Counters) -> Identity {
        Identity { drives: self.drives(counters), ..self.identity.clone() }
    }

    /// The pool's drives, for people.
    fn drives(&self, counters: &Counters) -> Vec<Drive> {
        let Some(layout) = &self.layout else { return Vec::new() };
        let named = (0..).map(DriveId).zip(&self.config.drives).zip(layout.drives());
        named
            .map(|((id, path), drive)| Drive {
                path: path.clone(),
                size_bytes: drive.size_bytes,
                healthy: self.health.is_healthy(id),
                integrity_errors: counters.checksum_errors.get(&id).copied().unwrap_or(0),
            })
            .collect()
    }

    /// True where no admin command is under way, and no change of a volume.
    pub(crate) fn is_drained(&self) -> bool {
        self.desk.as_ref().is_none_or(|desk| desk.is_idle())
            && self.errands.is_idle()
            && self.growth.is_none()
            && !self.is_recording()
    }

    /// True while the directory has something to make durable.
    pub(crate) fn is_recording(&self) -> bool {
        self.directory.as_ref().is_some_and(Directory::is_busy)
    }

    /// When to run again at the latest.
    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        // The directory waits for memory only while it is busy and has nothing under way; a look now and then is enough.
        let busy = self.directory.as_ref().is_some_and(Directory::is_busy)
            || self.growth.as_ref().is_some_and(Growth::is_joining)
            || matches!(self.start, Start::Opening(_));
        let memory = busy.then(|| now + std::time::Duration::from_millis(10));
        self.desk.as_ref().and_then(|desk| desk.poll_timeout()).into_iter().chain(memory).min()
    }

    fn directory(&mut self) -> &mut Directory {
        self.directory.as_mut().expect("it is made before it submits anything")
    }
}
