//! What the machines want of whoever drives them.

use io::{Buffer, ConnectionId, SendList};

use crate::ports::{Draw, QueueHandover};

/// One association of a host with a controller of this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId(pub u64);

/// What is to be done with a socket. A connection has at most one receive and one send under way.
#[derive(Debug)]
pub enum SocketOutput<B: Buffer> {
    /// [`io::Net::receive`]; answered by `handle_received`.
    Receive {
        /// The connection.
        connection: ConnectionId,
    },
    /// [`io::Net::receive_into`]; answered by `handle_received_into`.
    ReceiveInto {
        /// The connection.
        connection: ConnectionId,
        /// Where to.
        buffer: B,
        /// First byte to fill.
        start: usize,
        /// End of what may be filled.
        end: usize,
    },
    /// [`io::Net::send`]; answered by `handle_sent`.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// What, in order.
        list: SendList<B>,
    },
    /// [`io::Net::close`]; answered by `handle_closed`.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
}

/// What the desk wants.
#[derive(Debug)]
pub enum DeskOutput<B: Buffer> {
    /// Socket work on reactor 0.
    Socket(SocketOutput<B>),
    /// An I/O queue's Connect has passed its checks: release the socket (nothing is under way on it), choose a reactor,
    /// and give both to its [`crate::Ports::adopt`]. Where that cannot be done, call
    /// [`crate::Desk::on_queue_closed`]. Must reach the reactor before any later [`DeskOutput::DropQueues`].
    HandOver {
        /// The connection; its number is dead once released.
        connection: ConnectionId,
        /// The queue.
        queue: Box<QueueHandover<B>>,
    },
    /// Note durably that CNTLIDs below `next` are spent, then call [`crate::Desk::on_cntlid_persisted`].
    PersistCntlid {
        /// The new high-water mark.
        next: u16,
    },
    /// Every reactor must call [`crate::Ports::drop_queues`]; once all have answered with
    /// [`PortsOutput::QueuesDropped`], call [`crate::Desk::on_queues_dropped`].
    DropQueues {
        /// Whose queues.
        association: AssociationId,
    },
    /// A host has announced that it shuts its controller down, and nothing of it runs any more: make everything that was
    /// answered safe from a power cut, then call [`crate::Desk::on_flushed`]. Not at all where that fails.
    Flush {
        /// Whose controller.
        association: AssociationId,
    },
    /// Ask every reactor's [`crate::Ports::take_traffic`] and call [`crate::Desk::on_traffic`] with true if one said so.
    CheckTraffic {
        /// Whose.
        association: AssociationId,
    },
    /// Ask every reactor's [`crate::Ports::abort`] and call [`crate::Desk::on_abort`] with true if one said so.
    AbortCommand {
        /// Whose command.
        association: AssociationId,
        /// On which I/O queue.
        qid: u16,
        /// Which.
        cid: u16,
        /// Goes back with the answer.
        token: u64,
    },
    /// Find out how many bytes of a namespace are allocated, and call [`crate::Desk::on_counted`]; always.
    CountAllocated {
        /// Which.
        nsid: u32,
        /// Goes back with the answer.
        token: u64,
    },
}

/// What a reactor's ports want, beside the commands that they give out.
#[derive(Debug)]
pub enum PortsOutput<B: Buffer> {
    /// Socket work on this reactor.
    Socket(SocketOutput<B>),
    /// Commands of a limited namespace wait for this much of its rate; answered by [`crate::Ports::on_granted`]. One a
    /// namespace and direction is under way at a time.
    Draw(Draw),
    /// No request is unanswered that began before the change with this token took effect here.
    Fenced {
        /// As given with the change.
        token: u64,
    },
    /// The association has no queue and no unanswered request here.
    QueuesDropped {
        /// Whose queues.
        association: AssociationId,
    },
    /// An I/O queue is gone (not told where [`crate::Ports::drop_queues`] ended it): call
    /// [`crate::Desk::on_queue_closed`].
    QueueClosed {
        /// Whose queue.
        association: AssociationId,
        /// Which.
        qid: u16,
    },
}
