//! What reactors say to each other, and management to reactor 0.

use std::fmt;
use std::sync::Arc;

use io::{Buffer, DiskError, ReactorId, Slice};
use store::{Layout, Outcome as PieceOutcome, SegmentId, ShardId, VolumeId};
use subsystem::{AssociationId, Draw, NamespaceShape, QueueHandover, Rates};

use crate::action::{Action, ActionError, Outcome, Series};

/// Receives the answer to one action, on reactor 0's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Result<Outcome, ActionError>) + Send>;

/// A message between reactors. Whatever asks for work goes by the request lane, its answer by the reply lane.
pub enum Message<B: Buffer, S> {
    /// Management asks; to reactor 0 alone.
    Action {
        /// What.
        action: Action,
        /// Where the answer goes.
        reply: Reply,
    },
    /// The pool is open: recover the shards that are yours.
    Attach(Arc<Layout>),
    /// A shard of the sender has recovered, and this is what it holds.
    ShardReady(Box<ShardReport>),
    /// A shard of the sender has stopped for good.
    ShardFailed(ShardId, store::Failure),
    /// A shard asks for a segment; answered by [`Message::Granted`].
    WantSegment {
        /// Which shard.
        shard: ShardId,
        /// True where cleaning asks, which may take the reserve.
        cleaning: bool,
    },
    /// The answer: a segment, or none is free.
    Granted {
        /// Which shard.
        shard: ShardId,
        /// The segment.
        segment: Option<SegmentId>,
    },
    /// Segments that no root needs any more.
    Released(ShardId, Vec<SegmentId>),
    /// Work on a stretch that lives with the receiver; answered by [`Message::PieceDone`].
    Piece(Piece<B>),
    /// How that went.
    PieceDone(PieceDone<B>),
    /// An I/O queue moves in: its socket and its machine.
    Adopt {
        /// The connection.
        socket: S,
        /// The queue.
        queue: Box<QueueHandover<B>>,
    },
    /// The association or one of its queues on the sender has ended.
    QueueClosed {
        /// Whose.
        association: AssociationId,
        /// Which.
        qid: u16,
    },
    /// End this association's queues; answered by [`Message::QueuesDropped`] once nothing of them runs.
    DropQueues(AssociationId),
    /// Nothing of the association runs with the sender.
    QueuesDropped(AssociationId),
    /// Has a capsule of the association arrived since the last question? Answered by [`Message::Traffic`].
    CheckTraffic(AssociationId),
    /// The answer.
    Traffic {
        /// Whose.
        association: AssociationId,
        /// Whether one has.
        seen: bool,
    },
    /// Abort a command if it has not begun; answered by [`Message::Aborted`].
    Abort {
        /// Whose.
        association: AssociationId,
        /// On which I/O queue.
        qid: u16,
        /// Which command.
        cid: u16,
        /// Goes back with the answer.
        token: u64,
    },
    /// The answer.
    Aborted {
        /// As asked.
        token: u64,
        /// Whether it was.
        done: bool,
    },
    /// A namespace is now like this, or gone; answered by [`Message::Fenced`] once nothing older runs.
    Namespace {
        /// Names the change.
        fence: u64,
        /// What changed.
        change: NamespaceChange,
    },
    /// Nothing that began before the change runs with the sender.
    Fenced(u64),
    /// Report your counters; answered by [`Message::Counters`].
    ReadCounters(u64),
    /// The answer.
    Counters {
        /// As asked.
        token: u64,
        /// The sender's counters.
        counters: Box<Counters>,
    },
    /// Commands of a limited volume wait for this much of its rate; answered by [`Message::Drawn`].
    Draw(Draw),
    /// The answer, once there was so much.
    Drawn(Draw),
    /// A flush of a drive failed on the sender: nobody may take another for a success.
    DriveFailed(DiskError),
    /// Take this step towards the end; answered by [`Message::Stopped`].
    Stop(StopStep),
    /// The sender has taken this step.
    Stopped(StopStep),
    /// So much of the pool is free, in segments.
    Space {
        /// Free.
        free: u32,
        /// In all.
        total: u32,
    },
}

/// The steps of a stop, taken by all reactors together: none begins the next before all have taken the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopStep {
    /// Read no more commands; end and answer those that have begun.
    Drain,
    /// Make every shard durable.
    Checkpoint,
    /// Close the connections.
    Close,
}

/// A change of one namespace, with what is under it.
#[derive(Clone, Debug)]
pub enum NamespaceChange {
    /// It is new, or something of it changed: what hosts see, what is under it, what they may do in a second.
    Set(Arc<NamespaceShape>, Backing, Rates),
    /// It is gone.
    Remove(u32),
}

/// What is under a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Reads return zeros, writes vanish.
    Null,
    /// Memory, striped over reactors.
    Ram,
    /// A volume of the pool, striped over its shards.
    Volume(VolumeId),
}

/// What one shard found when it recovered.
#[derive(Debug)]
pub struct ShardReport {
    /// Which.
    pub shard: ShardId,
    /// The segments that it holds.
    pub segments: Vec<SegmentId>,
    /// The volumes of which it holds blocks.
    pub volumes: Vec<VolumeId>,
}

/// Counters of one reactor.
#[derive(Debug, Default)]
pub struct Counters {
    /// Series to be summed over reactors by name and labels.
    pub series: Vec<Series>,
    /// Usage of each volume in the reactor's shards.
    pub usage: Vec<(VolumeId, crate::VolumeUsage)>,
    /// Bytes of live blocks.
    pub live_bytes: u64,
    /// Bytes written to the drives.
    pub device_written_bytes: u64,
    /// Bytes written by hosts.
    pub host_written_bytes: u64,
}

/// Work on a stretch of a namespace that lives with one reactor.
#[derive(Debug)]
pub struct Piece<B: Buffer> {
    /// Who asked.
    pub(crate) from: ReactorId,
    /// Names the work to who asked.
    pub(crate) origin: Origin,
    /// Where.
    pub(crate) target: Target,
    /// Byte offset in the target's part of the namespace.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What.
    pub(crate) work: Work<B>,
}

/// The end of a piece.
#[derive(Debug)]
pub struct PieceDone<B: Buffer> {
    /// As asked.
    pub(crate) origin: Origin,
    /// How it ended.
    pub(crate) result: PieceOutcome,
    /// What a successful read gave.
    pub(crate) buffer: Option<B>,
}

/// Names a piece to the reactor that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Part `part` of a host's command.
    Command { job: u32, part: u8 },
    /// A step of a management action.
    Errand(u32),
}

/// Where a piece is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A volume's part in a shard.
    Shard(ShardId, VolumeId),
    /// A RAM namespace's part on a reactor.
    Ram(u32),
}

/// What a piece does.
#[derive(Debug)]
pub(crate) enum Work<B: Buffer> {
    Read,
    Write { data: Slice<B::Shared>, fua: bool },
    WriteZeroes { fua: bool },
    Deallocate,
    Compare { data: Slice<B::Shared> },
    CompareAndWrite { compare: Slice<B::Shared>, write: Slice<B::Shared>, fua: bool },
    Verify,
    Flush,
    DropFrom,
    DropVolume,
}

impl<B: Buffer, S> fmt::Debug for Message<B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Action { action, .. } => return write!(f, "Action({action:?})"),
            Self::Attach(_) => "Attach",
            Self::ShardReady(_) => "ShardReady",
            Self::ShardFailed(..) => "ShardFailed",
            Self::WantSegment { .. } => "WantSegment",
            Self::Granted { .. } => "Granted",
            Self::Released(..) => "Released",
            Self::Piece(_) => "Piece",
            Self::PieceDone(_) => "PieceDone",
            Self::Adopt { .. } => "Adopt",
            Self::QueueClosed { .. } => "QueueClosed",
            Self::DropQueues(_) => "DropQueues",
            Self::QueuesDropped(_) => "QueuesDropped",
            Self::CheckTraffic(_) => "CheckTraffic",
            Self::Traffic { .. } => "Traffic",
            Self::Abort { .. } => "Abort",
            Self::Aborted { .. } => "Aborted",
            Self::Namespace { .. } => "Namespace",
            Self::Fenced(_) => "Fenced",
            Self::ReadCounters(_) => "ReadCounters",
            Self::Counters { .. } => "Counters",
            Self::Draw(_) => "Draw",
            Self::Drawn(_) => "Drawn",
            Self::DriveFailed(_) => "DriveFailed",
            Self::Stop(_) => "Stop",
            Self::Stopped(_) => "Stopped",
            Self::Space { .. } => "Space",
        };
        f.write_str(name)
    }
}
