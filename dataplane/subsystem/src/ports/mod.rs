//! One reactor's I/O queues: they check commands, ask for their data, hand out requests and answer them.
//!
//! A command is limited (its namespace is, and its share has not come, or it waits for the second half of its
//! pair), arriving (its data is awaited), held (ready, but the quota of its connection is used up), or running
//! (handed out). Until it runs it can be dropped without a trace; from then on it is waited for, whatever becomes
//! of its connection. Namespace and range are checked when the capsule arrives and, where the table has changed
//! since, again when it begins to run. A plain command that need not wait is checked when it is taken from what was
//! received, and runs at once.

mod command;
mod dispatch;
mod express;
mod fence;
mod fused;
mod queue;
mod throttle;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use io::{Buffer, ConnectionId, Memory, NetError, SendList, Time};
use nvme::Status;

use crate::connection::Slot;
use crate::slab::Key;
use crate::sockets::Sockets;
use crate::{
    AssociationId, CommandCounts, Completion, NamespaceShape, Pieces, PortsOutput, Request, RequestId,
    TransportStats, limits,
};

pub use queue::QueueHandover;
pub use throttle::{Direction, Draw, Rate, Rates};

use fence::Fences;
use queue::Queue;
use throttle::Throttle;
use view::Views;

/// What a reactor's ports may use.
#[derive(Clone, Copy, Debug)]
pub struct PortsConfig {
    /// Bytes that hosts may be asked for by R2T, all connections together, from each R2T to the end of its command. At
    /// most half of what the arena has for [`io::Purpose::Data`], so that neither hosts which do not deliver nor writes
    /// which do not end can stop what needs no R2T; other R2Ts wait for such hosts for [`limits::TRANSFER_DEADLINE`] at
    /// most. At least [`limits::TRANSFER_BYTES_MAX`].
    pub r2t_bytes_max: usize,
}

/// See the crate's head for the calling convention.
#[derive(Debug)]
pub struct Ports<B: Buffer> {
    config: PortsConfig,
    sockets: Sockets<B, Queue<B>>,
    views: Views,
    fences: Fences,
    throttle: Throttle,
    outputs: VecDeque<PortsOutput<B>>,
    /// Requests that were made and not taken.
    requests: Vec<Request<B>>,
    /// Queues with commands that wait for an R2T, served in turn.
    granting: VecDeque<Key>,
    /// Queues whose in-capsule data waits for memory; they go before R2Ts.
    starved: Vec<Key>,
    /// What all R2Ts asked for, of commands that have not ended.
    reserved_bytes: usize,
    /// Requests without an answer.
    running: usize,
    /// When to ask for memory again.
    retry: Option<Time>,
    stopping: bool,
    commands: CommandCounts,
}

impl<B: Buffer> Ports<B> {
    /// Ports without namespaces and queues.
    ///
    /// # Panics
    /// If the configuration leaves no room for a single transfer.
    #[must_use]
    pub fn new(config: PortsConfig) -> Self {
        assert!(config.r2t_bytes_max >= limits::TRANSFER_BYTES_MAX as usize);
        Self {
            config,
            sockets: Sockets::new(),
            views: Views::new(),
            fences: Fences::default(),
            throttle: Throttle::default(),
            outputs: VecDeque::new(),
            requests: Vec::new(),
            granting: VecDeque::new(),
            starved: Vec::new(),
            reserved_bytes: 0,
            running: 0,
            retry: None,
            stopping: false,
            commands: CommandCounts::new(),
        }
    }

    /// Takes a queue on; its Connect is answered from here.
    #[expect(clippy::boxed_local, reason = "it crosses reactors by mail, where small messages are wanted")]
    pub fn adopt(&mut self, connection: ConnectionId, queue: Box<QueueHandover<B>>, now: Time) {
        let QueueHandover {
            connection: mut transport,
            association,
            qid,
            cntlid,
            connect,
            rules,
            host,
            address,
        } = *queue;
        let view = self.views.enter(association, host, address);
        transport.set_rules(rules, limits::IO_CAPSULE_BYTES_MAX);
        if self.sockets.len() >= limits::PORT_QUEUES_MAX {
            transport.respond(connect, Status::CONNECT_CONTROLLER_BUSY, 0, Pieces::none());
            transport.finish(now);
        } else {
            transport.respond_connect(connect, Status::SUCCESS, u64::from(cntlid));
        }
        transport.set_paused(self.stopping);
        self.sockets.insert(connection, transport, Queue::new(association, view, qid));
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

    /// Answers a [`Request`], exactly once each.
    ///
    /// # Panics
    /// If there is no such request, or a successful Read has not exactly the bytes that it asked for.
    pub fn complete(&mut self, request: RequestId, mut completion: Completion<B>) {
        let (key, slot) = split(request);
        let socket = self.sockets.get_mut(key).expect("a queue stays until its requests are answered");
        let ended = socket.state.end(slot).expect("a request is answered once");
        self.running -= 1;
        let outputs = &mut self.outputs;
        self.fences.on_end(ended.nsid, ended.begun, |token| outputs.push_back(PortsOutput::Fenced { token }));
        let expected = if completion.status.is_success() { ended.to_host_bytes as usize } else { 0 };
        assert_eq!(completion.data.len_bytes(), expected, "a successful Read delivers every byte");
        let (association, dropped) = (socket.state.association, socket.state.dropped);
        if let Some(first) = ended.partner {
            self.answer_pair(key, first, slot, completion.status);
        } else {
            self.commands.count(ended.opcode, completion.status);
            if !socket.gone {
                socket.connection.respond_taking(slot, completion.status, 0, &mut completion.data);
            }
        }
        self.sockets.note(key);
        // Whoever drops an association marks its queues.
        if dropped && self.views.is_dropping(association) && !self.runs(association) {
            self.tell_dropped(association);
        }
    }

    /// Adds a namespace or changes its shape for every command that begins from now on. With `fence`,
    /// [`PortsOutput::Fenced`] says when all that began before have ended.
    ///
    /// # Panics
    /// If the shape breaks its own rules.
    pub fn set_namespace(&mut self, shape: Arc<NamespaceShape>, fence: Option<u64>) {
        shape.check();
        let nsid = shape.nsid;
        self.views.set(shape);
        self.raise(nsid, fence);
    }

    /// Removes a namespace: commands that begin from now on get Invalid Namespace or Format. `fence` as above.
    pub fn remove_namespace(&mut self, nsid: u32, fence: Option<u64>) {
        self.views.remove(nsid);
        self.raise(nsid, fence);
    }

    /// Limits what commands of a namespace may do from now on, in place of what limited them before. Commands that wait
    /// go on by the new rates.
    pub fn set_rates(&mut self, nsid: u32, rates: Rates) {
        self.throttle.set(nsid, rates);
        self.release(nsid);
    }

    /// Answers [`PortsOutput::Draw`].
    pub fn on_granted(&mut self, draw: &Draw) {
        self.throttle.on_granted(draw);
        self.release(draw.nsid);
    }

    /// Ends every queue of the association: what has not begun never runs. [`PortsOutput::QueuesDropped`] comes when
    /// what had begun has ended (at once where there is nothing).
    pub fn drop_queues(&mut self, association: AssociationId) {
        for key in self.keys_of(association) {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.state.dropped = true;
                socket.state.drop_pending();
                socket.connection.close_now();
            }
            self.throttle.forget_queue(key);
            self.sockets.note(key);
        }
        self.views.set_dropping(association, true);
        if !self.runs(association) {
            self.tell_dropped(association);
        }
    }

    /// True if a capsule came on a queue of the association since the last question.
    pub fn take_traffic(&mut self, association: AssociationId) -> bool {
        let mut seen = false;
        for (_, socket) in self.sockets.iter_mut() {
            if socket.state.association == association {
                seen |= std::mem::take(&mut socket.state.traffic);
            }
        }
        seen
    }

    /// Aborts a command that has not begun. False where there is no such command or it runs already.
    pub fn abort(&mut self, association: AssociationId, qid: u16, cid: u16) -> bool {
        let mut queues = self.sockets.iter();
        let Some((key, slot)) = queues.find_map(|(key, socket)| {
            let queue = &socket.state;
            let ours = queue.association == association && queue.qid == qid && !socket.gone;
            if ours { socket.connection.find(cid).map(|slot| (key, slot)) } else { None }
        }) else {
            return false;
        };
        drop(queues);
        let queue = self.sockets.get(key).map(|socket| &socket.state);
        let Some(queue) = queue else { return false };
        let Some(command) = queue.get(slot) else { return false };
        if command.partner.is_some_and(|partner| queue.runs(partner)) {
            return false;
        }
        self.fail(key, slot, Status::ABORT_REQUESTED);
        self.sockets.note(key);
        true
    }

    /// Stops reading: what has begun is ended and answered, what has not never begins. See [`Ports::is_idle`].
    pub fn stop(&mut self) {
        self.stopping = true;
        for (_, socket) in self.sockets.iter_mut() {
            socket.connection.set_paused(true);
        }
    }

    /// Closes every connection; use after [`Ports::stop`] when all is drained.
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
        self.sockets.check_deadlines(now);
        self.retry = None;
        for key in std::mem::take(&mut self.starved) {
            self.sockets.note(key);
        }
        while let Some(key) = self.sockets.poll_attention() {
            self.attend(key, now, memory);
        }
        self.grant(now, memory);
        if !self.starved.is_empty() {
            self.retry = Some(now + limits::MEMORY_RETRY);
        }
    }

    /// Takes the commands to run, in order; each is answered by [`Ports::complete`]. Before what [`Ports::poll_output`]
    /// tells.
    ///
    /// # Panics
    /// If `into` is not empty.
    pub fn take_requests(&mut self, into: &mut Vec<Request<B>>) {
        assert!(into.is_empty());
        std::mem::swap(into, &mut self.requests);
    }

    /// The next thing to do, when the requests have been taken.
    pub fn poll_output(&mut self) -> Option<PortsOutput<B>> {
        self.outputs.pop_front()
    }

    /// When [`Ports::run`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.retry, self.sockets.deadline()].into_iter().flatten().min()
    }

    /// True if events of `connection` belong here.
    #[must_use]
    pub fn owns(&self, connection: ConnectionId) -> bool {
        self.sockets.owns(connection)
    }

    /// True when no request is unanswered and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.outputs.is_empty() && self.sockets.is_sent()
    }

    /// Queues here, the measure of this reactor's load.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.sockets.len()
    }

    /// I/O commands by opcode and status.
    #[must_use]
    pub const fn commands(&self) -> &CommandCounts {
        &self.commands
    }

    /// Counters of the connections here.
    #[must_use]
    pub const fn transport(&self) -> &TransportStats {
        self.sockets.stats()
    }

    fn raise(&mut self, nsid: u32, fence: Option<u64>) {
        let Some(token) = fence else { return };
        let running = self.sockets.iter().map(|(_, socket)| socket.state.running_on(nsid)).sum();
        if self.fences.raise(token, nsid, running) {
            self.outputs.push_back(PortsOutput::Fenced { token });
        }
    }

    /// Lets the commands go whose share of a limited namespace has come.
    fn release(&mut self, nsid: u32) {
        loop {
            let outputs = &mut self.outputs;
            let mut draw = |draw| outputs.push_back(PortsOutput::Draw(draw));
            let Some(waiter) = self.throttle.take_ready(nsid, &mut draw) else { return };
            self.resume(waiter.key, waiter.slot);
            self.sockets.note(waiter.key);
        }
    }

    fn keys_of(&self, association: AssociationId) -> Vec<Key> {
        let ours = self.sockets.iter().filter(|(_, socket)| socket.state.association == association);
        ours.map(|(key, _)| key).collect()
    }

    /// True if a request of the association is unanswered.
    fn runs(&self, association: AssociationId) -> bool {
        self.sockets
            .iter()
            .any(|(_, socket)| socket.state.association == association && socket.state.running > 0)
    }

    fn tell_dropped(&mut self, association: AssociationId) {
        self.views.set_dropping(association, false);
        self.outputs.push_back(PortsOutput::QueuesDropped { association });
    }
}

/// The request of the command in `slot` of the queue `key`.
fn join(key: Key, slot: Slot) -> RequestId {
    const { assert!(Key::BITS + 16 <= 64) };
    RequestId(key.to_bits() << 16 | u64::from(slot.0))
}

fn split(request: RequestId) -> (Key, Slot) {
    let slot = (request.0 & 0xffff) as u16;
    (Key::from_bits(request.0 >> 16), Slot(slot))
}
