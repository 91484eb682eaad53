//! Reactor 0's part of the target: connections until their Connect, admin queues, associations, discovery.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use io::{Buffer, ConnectionId, Memory, NetError, SendList, Time};
use nvme::Nqn;

use crate::{AssociationId, CommandCounts, DeskOutput, NamespaceShape, TransportStats};

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
    /// CNTLIDs of this node, within 1..=FFEFh.
    pub cntlids: RangeInclusive<u16>,
    /// High-water mark as last persisted; `None` on a new pool.
    pub cntlid_next: Option<u16>,
    /// First value of the discovery log's generation counter: later starts should give larger ones.
    pub generation: u64,
    /// Where hosts are told to connect to (port included).
    pub advertised: Vec<SocketAddr>,
}

/// A host with an association, for the management plane.
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

/// See the crate's head for the calling convention.
#[derive(Debug)]
pub struct Desk<B: Buffer> {
    config: DeskConfig,
    outputs: VecDeque<DeskOutput<B>>,
    commands: CommandCounts,
    transport: TransportStats,
}

impl<B: Buffer> Desk<B> {
    /// A desk without namespaces and connections.
    #[must_use]
    pub fn new(config: DeskConfig) -> Self {
        Self {
            config,
            outputs: VecDeque::new(),
            commands: CommandCounts::new(),
            transport: TransportStats::default(),
        }
    }

    /// A host connected, and its socket was adopted on reactor 0.
    pub fn handle_accepted(
        &mut self,
        connection: ConnectionId,
        _listener: ListenerKind,
        _local: SocketAddr,
        _peer: SocketAddr,
        _now: Time,
    ) {
        self.outputs.push_back(DeskOutput::Socket(crate::SocketOutput::Close { connection }));
    }

    /// [`io::Event::Received`].
    pub fn handle_received(
        &mut self,
        _connection: ConnectionId,
        _result: Result<Option<B>, NetError>,
        _now: Time,
    ) {
    }

    /// [`io::Event::ReceivedInto`].
    pub fn handle_received_into(
        &mut self,
        _connection: ConnectionId,
        _buffer: B,
        _result: Result<usize, NetError>,
        _now: Time,
    ) {
    }

    /// [`io::Event::Sent`].
    pub fn handle_sent(
        &mut self,
        _connection: ConnectionId,
        _list: SendList<B>,
        _result: Result<(), NetError>,
        _now: Time,
    ) {
    }

    /// [`io::Event::Closed`].
    pub fn handle_closed(&mut self, _connection: ConnectionId) {}

    /// Adds a namespace or changes its shape, and tells the controllers that see a difference. Call it after every
    /// reactor's [`crate::Ports::set_namespace`] has taken effect.
    pub fn set_namespace(&mut self, _shape: Arc<NamespaceShape>) {}

    /// Removes a namespace, and tells the controllers that saw it.
    pub fn remove_namespace(&mut self, _nsid: u32) {}

    /// Changes where hosts are told to connect to, and tells the discovery controllers.
    pub fn set_advertised(&mut self, advertised: Vec<SocketAddr>) {
        self.config.advertised = advertised;
    }

    /// Answers [`DeskOutput::PersistCntlid`].
    pub fn on_cntlid_persisted(&mut self, _next: u16) {}

    /// Answers [`DeskOutput::DropQueues`].
    pub fn on_queues_dropped(&mut self, _association: AssociationId) {}

    /// Answers [`DeskOutput::CheckTraffic`]: `seen` where a capsule came on an I/O queue since the last question.
    pub fn on_traffic(&mut self, _association: AssociationId, _seen: bool, _now: Time) {}

    /// Answers [`DeskOutput::AbortCommand`].
    pub fn on_abort(&mut self, _token: u64, _aborted: bool) {}

    /// An I/O queue ended by itself, or could not be adopted.
    pub fn on_queue_closed(&mut self, _association: AssociationId, _qid: u16) {}

    /// Stops reading; what has been received is answered. See [`Desk::is_idle`].
    pub fn stop(&mut self) {}

    /// Closes every connection; use after [`Desk::stop`] when all is drained.
    pub fn close_all(&mut self) {}

    /// Does what has become possible or due; see the crate's head.
    pub fn run(&mut self, _now: Time, _memory: &mut impl Memory<Buffer = B>) {}

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<DeskOutput<B>> {
        self.outputs.pop_front()
    }

    /// When [`Desk::run`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// True if events of `connection` belong here.
    #[must_use]
    pub fn owns(&self, _connection: ConnectionId) -> bool {
        false
    }

    /// True when no command is unanswered (Asynchronous Event Requests aside) and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Hosts with an association to an I/O controller, in order of association.
    pub fn hosts(&self) -> impl Iterator<Item = ConnectedHost> + '_ {
        std::iter::empty()
    }

    /// Admin commands by opcode and status.
    #[must_use]
    pub const fn commands(&self) -> &CommandCounts {
        &self.commands
    }

    /// Counters of the connections here.
    #[must_use]
    pub const fn transport(&self) -> &TransportStats {
        &self.transport
    }
}
