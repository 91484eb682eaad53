//! How reactor 0 starts: open the pool, recover shards and directory, attach every volume, and only then listen.

use std::net::SocketAddr;
use std::sync::Arc;

use io::{Buffer, Io, ListenerId, Memory, Net, NetError};
use nvme::Nqn;
use store::directory::{VolumeRecord, VolumeState};
use store::pool::{Opened, PoolError, PoolOpening};
use store::{Directory, Segments, SegmentsError};
use subsystem::{Desk, DeskConfig, HostAcl, IpAcl, ListenerKind, NamespaceShape, Rates, SectorSize};
use thiserror::Error;

use crate::engine::{Engine, Notice};
use crate::lead::{BenchNamespace, Lead};
use crate::message::{Backing, Counters, Message, NamespaceChange, ShardReport};
use crate::shape;

/// Where the start stands.
#[derive(Debug)]
pub(crate) enum Start {
    /// Nothing has to be opened.
    NoPool,
    /// The superblocks are read, or a blank pool is formatted.
    Opening(Box<PoolOpening>),
    /// Shards and directory read themselves back.
    Recovering { reports: Vec<ShardReport>, directory: bool },
    /// So many namespaces are not yet known to all reactors.
    Attaching(usize),
    /// Hosts are served.
    Done,
    /// The start was refused.
    Refused,
}

/// Why a start was refused.
#[derive(Debug, Error)]
pub enum StartError {
    /// The pool cannot be opened.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The directory cannot be read back.
    #[error(transparent)]
    Directory(#[from] store::directory::DirectoryFault),
    /// A shard cannot be read back.
    #[error("shard {} cannot be recovered: {}; its data is on the drives: restore them, do not format them", .0.0, .1)]
    Shard(store::ShardId, store::Failure),
    /// Shards contradict each other.
    #[error(transparent)]
    Segments(#[from] SegmentsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, NetError),
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Moves the start on. True where it did.
    pub(crate) fn run_start(&mut self, io: &mut I) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        match &mut lead.start {
            Start::NoPool => {
                lead.begin_desk(None, io);
                self.attach_all(io);
                true
            }
            Start::Opening(opening) => {
                opening.run(&mut crate::gate::GatedDisk { disk: io, gate: &mut self.rack.gate });
                match opening.poll_outcome() {
                    None => false,
                    Some(Ok(opened)) => {
                        self.on_opened(opened, io);
                        true
                    }
                    Some(Err(error)) => self.refuse(error.into()),
                }
            }
            Start::Recovering { reports, directory } => {
                let complete = *directory
                    && lead.layout.as_ref().is_some_and(|l| reports.len() == usize::from(l.shards()));
                if complete { self.on_recovered(io) } else { false }
            }
            Start::Attaching(0) => {
                lead.start = Start::Done;
                self.listen(io);
                true
            }
            Start::Attaching(_) | Start::Done | Start::Refused => false,
        }
    }

    /// Gives up the start.
    pub(crate) fn refuse(&mut self, error: StartError) -> bool {
        if let Some(lead) = &mut self.lead {
            lead.start = Start::Refused;
        }
        self.notices.push(Notice::Refused(error));
        true
    }

    fn on_opened(&mut self, opened: Opened, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let layout = Arc::new(opened.layout);
        lead.identity.cluster_uuid = layout.identity().cluster;
        lead.identity.node_uuid = layout.identity().node;
        lead.directory = Some(Directory::recover(&layout, crate::owner::DIRECTORY));
        lead.layout = Some(Arc::clone(&layout));
        lead.start = Start::Recovering { reports: Vec::new(), directory: false };
        self.post.broadcast(io, || Message::Attach(Arc::clone(&layout)));
    }

    fn on_recovered(&mut self, io: &mut I) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let Start::Recovering { reports, .. } = &lead.start else { return false };
        let (Some(layout), Some(directory)) = (&lead.layout, &mut lead.directory) else { return false };
        let mut segments = Segments::new(layout);
        for report in reports {
            if let Err(error) = segments.own(report.shard, &report.segments) {
                return self.refuse(error.into());
            }
        }
        let volumes = directory.volumes().map(|volume| volume.image);
        let snapshots = directory.snapshots().map(|snapshot| snapshot.id);
        let known: std::collections::BTreeSet<_> = volumes.chain(snapshots).collect();
        let held: std::collections::BTreeSet<_> =
            reports.iter().flat_map(|report| report.volumes.iter().copied()).collect();
        let orphans: Vec<_> = held.iter().copied().filter(|image| !known.contains(image)).collect();
        if let Some(last) = held.last() {
            directory.note_image(*last);
        }
        let cntlid = directory.next_cntlid();
        lead.segments = Some(segments);
        lead.begin_desk(Some(cntlid), io);
        for (reactor, shard, cleaning) in std::mem::take(&mut lead.wanting) {
            let segment = lead.grant(shard, cleaning).flatten();
            self.post.reply(io, reactor, Message::Granted { shard, segment });
        }
        self.tell_space(io);
        self.attach_all(io);
        #[cfg(feature = "planted")]
        let orphans = if self.planted == Some(crate::Planted::KeepOrphans) { Vec::new() } else { orphans };
        self.resume_deletes(orphans, io);
        true
    }

    /// Tells every reactor of every namespace.
    fn attach_all(&mut self, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let mut attach: Vec<NamespaceChange> = Vec::new();
        for (index, bench) in lead.config.bench.clone().iter().enumerate() {
            let (shape, backing) = lead.bench_shape(index, *bench);
            attach.push(NamespaceChange::Set(Arc::new(shape), backing, Rates::default()));
        }
        if let Some(directory) = &lead.directory {
            let available = directory.volumes().filter(|volume| volume.state == VolumeState::Available);
            attach.extend(available.map(|volume| shape::change(volume)));
        }
        lead.start = Start::Attaching(attach.len());
        for change in attach {
            self.broadcast_namespace(change, io);
        }
    }

    fn listen(&mut self, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let io_addresses = lead.config.listen.iter().map(|address| (*address, ListenerKind::Io));
        let discovery = lead.config.discovery.iter().map(|address| (*address, ListenerKind::Discovery));
        for (number, (address, kind)) in
            io_addresses.chain(discovery).collect::<Vec<_>>().into_iter().enumerate()
        {
            let listener = ListenerId(u32::try_from(number).expect("a few addresses"));
            lead.listeners.push(kind);
            match io.listen(listener, address) {
                Ok(address) if kind == ListenerKind::Io => lead.identity.listen.push(address),
                Ok(address) => lead.identity.discovery.push(address),
                Err(error) => {
                    self.refuse(StartError::Listen(address, error));
                    return;
                }
            }
        }
        let advertised = lead.advertised();
        lead.identity.advertised.clone_from(&advertised);
        lead.desk().set_advertised(advertised);
        self.notices.push(Notice::Started(Box::new(lead.identity(&Counters::default()))));
    }
}

impl<B: Buffer> Lead<B> {
    /// Makes the desk: the identity is known now.
    fn begin_desk(&mut self, cntlid_next: Option<u16>, clock: &impl io::Clock) {
        let cluster = shape::uuid_text(&self.identity.cluster_uuid);
        let node = shape::uuid_text(&self.identity.node_uuid);
        self.identity.subsystem_nqn = format!("nqn.2014-08.org.nvmexpress:uuid:{cluster}");
        let nqn = |text: &str| Nqn::new(text).expect("a UUID makes a valid NQN");
        self.set_desk(Desk::new(DeskConfig {
            subsystem_nqn: nqn(&self.identity.subsystem_nqn),
            discovery_nqn: nqn(&format!("nqn.2014-08.org.nvmexpress:uuid:{node}")),
            serial: cluster.replace('-', "")[..20].to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            cntlids: 1..=0xffef,
            cntlid_next,
            generation: clock.unix_nanos() / 1_000_000,
            advertised: Vec::new(),
        }));
    }

    /// The shape of bench namespace `index`: NSIDs from the top down, out of the way of volumes.
    fn bench_shape(&mut self, index: usize, bench: BenchNamespace) -> (NamespaceShape, Backing) {
        let number = u32::try_from(index).expect("a few namespaces");
        let nsid = subsystem::limits::NAMESPACES_MAX - number;
        let mut uuid = self.identity.node_uuid;
        for (byte, tag) in uuid[..4].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= tag ^ 0x5a;
        }
        let what = if bench.memory { "ram" } else { "null" };
        self.identity.bench.push((nsid, format!("{what}, {} bytes", bench.size_bytes)));
        let shape = NamespaceShape {
            nsid,
            uuid,
            sector: SectorSize::B4096,
            size_blocks: bench.size_bytes / 4096,
            atomic_bytes: shape::ATOMIC_BYTES,
            hosts: HostAcl::Any,
            addresses: IpAcl::Any,
        };
        (shape, if bench.memory { Backing::Ram } else { Backing::Null })
    }

    /// Where hosts are told to connect to: the advertised addresses with the port of the first listener, else the
    /// listening addresses.
    fn advertised(&self) -> Vec<SocketAddr> {
        let Some(first) = self.identity.listen.first() else { return Vec::new() };
        if self.config.advertise.is_empty() {
            return self.identity.listen.clone();
        }
        self.config.advertise.iter().map(|address| SocketAddr::new(*address, first.port())).collect()
    }

    /// The namespace of this volume, if it is served.
    pub(crate) fn volume(&self, uuid: &[u8; 16]) -> Option<&Arc<VolumeRecord>> {
        self.directory.as_ref().and_then(|directory| directory.volume_by_uuid(uuid))
    }
}
