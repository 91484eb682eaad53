//! What reactors say to each other, and management to reactor 0.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use io::{Buffer, DiskError, DriveId, ReactorId, Slice};
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
    /// Drives have joined the pool: this is how it is laid out now. Answered by [`Message::Grown`].
    Grow(Arc<Layout>),
    /// The answer: all shards of the sender know.
    Grown,
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
    ReadCounters {
        /// Goes back with the answer.
        token: u64,
        /// Images whose usage is wanted.
        images: Arc<[VolumeId]>,
    },
    /// The answer.
    Counters {
        /// As asked.
        token: u64,
        /// The sender's counters.
        counters: Box<Counters>,
    },
    /// How many bytes of an image are mapped in your shards? Answered by [`Message::Mapped`].
    CountMapped {
        /// Goes back with the answer.
        token: u64,
        /// Which image.
        image: VolumeId,
    },
    /// The answer.
    Mapped {
        /// As asked.
        token: u64,
        /// So many.
        bytes: u64,
    },
    /// Acknowledge no change of this namespace until [`Message::LetGo`]; answered by [`Message::Held`].
    Hold {
        /// The namespace.
        nsid: u32,
        /// Names the hold.
        errand: u32,
    },
    /// The sender acknowledges none.
    Held(u32),
    /// A fork of this change has its place in the order of this shard.
    Placed {
        /// The change.
        errand: u32,
        /// The shard.
        shard: u16,
    },
    /// The cut is made: acknowledge what was held back.
    LetGo {
        /// Names the hold.
        errand: u32,
    },
    /// What differs between two images in your shards? Answered by [`Message::Differs`].
    ReadDiff(Box<DiffQuestion>),
    /// The answer of one shard.
    Differs {
        /// As asked.
        token: u64,
        /// The shard.
        shard: u16,
        /// Leaves that differ, in order.
        changed: Vec<store::ChangedLeaf>,
        /// The leaf at which the shard goes on, `None` at the end.
        next: Result<Option<u64>, store::UnreadableMap>,
    },
    /// What does an image alone hold in your shards? Each answers by [`Message::Owned`].
    CountOwned(Box<OwnedQuestion>),
    /// The answer of one shard.
    Owned {
        /// As asked.
        image: VolumeId,
        /// What it has counted.
        part: crate::owned::OwnedPart,
    },
    /// Commands of a limited volume wait for this much of its rate; answered by [`Message::Drawn`].
    Draw(Draw),
    /// The answer, once there was so much.
    Drawn(Draw),
    /// A flush of a drive failed on the sender: nobody may take another for a success.
    DriveFailed(DiskError),
    /// The start was refused elsewhere: end at once. Nobody has been served, so that there is nothing to make safe.
    Abandon,
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
    Volume(Image),
    /// What is under it changes now: commands wait.
    Paused,
    /// Which of two images is under it shows at the next start: commands fail.
    InDoubt,
}

/// Where a volume's blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image that shards know.
    pub image: VolumeId,
    /// What says which stripe lies in which shard.
    pub lineage: VolumeId,
    /// Whether what is written now is to be compressed.
    pub compression: bool,
}

/// A question to all shards about two images.
#[derive(Clone, Debug)]
pub struct DiffQuestion {
    /// Names the question.
    pub token: u64,
    /// The earlier image.
    pub base: Option<VolumeId>,
    /// The later image.
    pub image: VolumeId,
    /// The first leaf of interest in each shard, by number; `None` where a shard has no more.
    pub from: Vec<Option<u64>>,
    /// Leaves that a shard is to give at most.
    pub leaves: usize,
}

/// A question to all shards about what an image alone holds.
#[derive(Clone, Debug)]
pub struct OwnedQuestion {
    /// The image.
    pub image: VolumeId,
    /// Where each shard goes on, by number; `None` where it has no more.
    pub from: Vec<Option<u64>>,
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
    /// Blocks whose checksum was wrong when read, by drive.
    pub checksum_errors: BTreeMap<DriveId, u64>,
    /// Usage of each image in the reactor's shards.
    pub usage: Vec<(VolumeId, crate::VolumeUsage)>,
    /// Bytes of live blocks and map pages on the drives.
    pub live_bytes: u64,
    /// Bytes of data in live blocks, shared ones counted once.
    pub data_bytes: u64,
    /// What these take on the drives.
    pub stored_bytes: u64,
    /// Bytes written to the drives.
    pub device_written_bytes: u64,
    /// Bytes written by hosts.
    pub host_written_bytes: u64,
}

impl Counters {
    /// What an image uses.
    pub(crate) fn usage_of(&self, image: VolumeId) -> crate::VolumeUsage {
        let place = self.usage.binary_search_by_key(&image, |(id, _)| *id);
        place.map(|place| self.usage[place].1).unwrap_or_default()
    }
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
    pub(crate) read: Option<subsystem::Piece<B>>,
}

/// Names a piece to the reactor that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Part `part` of a host's command.
    Command { job: u32, part: u8 },
    /// A step of a management action, in this shard.
    Errand { number: u32, shard: u16 },
}

/// Where a piece is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An image's part in a shard, and whether what is written there is compressed.
    Shard { shard: ShardId, image: VolumeId, compress: bool },
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
    Fork { image: VolumeId, read_only: bool },
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
            Self::ReadCounters { .. } => "ReadCounters",
            Self::Counters { .. } => "Counters",
            Self::CountMapped { .. } => "CountMapped",
            Self::Grow(_) => "Grow",
            Self::Grown => "Grown",
            Self::Mapped { .. } => "Mapped",
            Self::Hold { .. } => "Hold",
            Self::Held(_) => "Held",
            Self::Placed { .. } => "Placed",
            Self::LetGo { .. } => "LetGo",
            Self::ReadDiff(_) => "ReadDiff",
            Self::Differs { .. } => "Differs",
            Self::CountOwned(_) => "CountOwned",
            Self::Owned { .. } => "Owned",
            Self::Draw(_) => "Draw",
            Self::Drawn(_) => "Drawn",
            Self::DriveFailed(_) => "DriveFailed",
            Self::Abandon => "Abandon",
            Self::Stop(_) => "Stop",
            Self::Stopped(_) => "Stopped",
            Self::Space { .. } => "Space",
        };
        f.write_str(name)
    }
}
