//! One reactor's I/O queues.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use io::{Buffer, ConnectionId, Memory, NetError, SendList, Time};

use crate::{
    AssociationId, CommandCounts, Completion, NamespaceShape, PortsOutput, RequestId, TransportStats,
};

/// What a reactor's ports may use.
#[derive(Clone, Copy, Debug)]
pub struct PortsConfig {
    /// Bytes of buffers that may wait for hosts to fill them (R2T), all connections together. At most half of what the
    /// arena has for [`io::Purpose::Data`], so that hosts which do not deliver cannot stop the others.
    pub r2t_bytes_max: usize,
}

/// An I/O queue between its Connect on reactor 0 and its reactor: transport state, what was received beyond the
/// Connect, and whose it is.
#[derive(Debug)]
pub struct QueueHandover<B: Buffer> {
    association: AssociationId,
    qid: u16,
    buffers: PhantomData<B>,
}

impl<B: Buffer> QueueHandover<B> {
    /// Whose queue.
    #[must_use]
    pub const fn association(&self) -> AssociationId {
        self.association
    }

    /// Queue identifier, 1 or more.
    #[must_use]
    pub const fn qid(&self) -> u16 {
        self.qid
    }
}

/// See the crate's head for the calling convention.
#[derive(Debug)]
pub struct Ports<B: Buffer> {
    config: PortsConfig,
    outputs: VecDeque<PortsOutput<B>>,
    commands: CommandCounts,
    transport: TransportStats,
}

impl<B: Buffer> Ports<B> {
    /// Ports without namespaces and queues.
    #[must_use]
    pub fn new(config: PortsConfig) -> Self {
        Self {
            config,
            outputs: VecDeque::new(),
            commands: CommandCounts::new(),
            transport: TransportStats::default(),
        }
    }

    /// Takes a queue on; its Connect is answered from here.
    pub fn adopt(&mut self, _connection: ConnectionId, queue: Box<QueueHandover<B>>, _now: Time) {
        self.outputs.push_back(PortsOutput::QueueClosed { association: queue.association, qid: queue.qid });
        drop(queue);
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

    /// Answers [`PortsOutput::Request`], exactly once each.
    ///
    /// # Panics
    /// If there is no such request, or a successful Read has not exactly the bytes that it asked for.
    pub fn complete(&mut self, _request: RequestId, _completion: Completion<B>) {}

    /// Adds a namespace or changes its shape for every command that begins from now on. With `fence`,
    /// [`PortsOutput::Fenced`] says when all that began before have ended.
    pub fn set_namespace(&mut self, _shape: Arc<NamespaceShape>, _fence: Option<u64>) {}

    /// Removes a namespace: commands that begin from now on get Invalid Namespace or Format. `fence` as above.
    pub fn remove_namespace(&mut self, _nsid: u32, _fence: Option<u64>) {}

    /// Ends every queue of the association: what has not begun never runs. [`PortsOutput::QueuesDropped`] comes when
    /// what had begun has ended (at once where there is nothing).
    pub fn drop_queues(&mut self, _association: AssociationId) {}

    /// True if a capsule came on a queue of the association since the last question.
    pub fn take_traffic(&mut self, _association: AssociationId) -> bool {
        false
    }

    /// Aborts a command that has not begun. False where there is no such command or it runs already.
    pub fn abort(&mut self, _association: AssociationId, _qid: u16, _cid: u16) -> bool {
        false
    }

    /// Stops reading: what has begun is ended and answered, what has not never begins. See [`Ports::is_idle`].
    pub fn stop(&mut self) {}

    /// Closes every connection; use after [`Ports::stop`] when all is drained.
    pub fn close_all(&mut self) {}

    /// Does what has become possible or due; see the crate's head.
    pub fn run(&mut self, _now: Time, _memory: &mut impl Memory<Buffer = B>) {}

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<PortsOutput<B>> {
        self.outputs.pop_front()
    }

    /// When [`Ports::run`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// True if events of `connection` belong here.
    #[must_use]
    pub fn owns(&self, _connection: ConnectionId) -> bool {
        false
    }

    /// True when no request is unanswered and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty() && self.config.r2t_bytes_max > 0
    }

    /// Queues here, the measure of this reactor's load.
    #[must_use]
    pub fn queues(&self) -> usize {
        0
    }

    /// I/O commands by opcode and status.
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
