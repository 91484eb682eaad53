//! One I/O queue's commands between arrival and answer, fused pairs included.

use std::collections::VecDeque;
use std::net::IpAddr;

use io::{Buffer, Slice};
use nvme::{Fuse, Nqn};

use super::command::Plan;
use crate::AssociationId;
use crate::connection::{Connection, QueueRules, Slot};
use crate::slab::Key;

/// An I/O queue between its Connect on reactor 0 and its reactor: transport state, what was received beyond the
/// Connect, and whose it is.
#[derive(Debug)]
pub struct QueueHandover<B: Buffer> {
    pub(crate) connection: Connection<B>,
    pub(crate) association: AssociationId,
    pub(crate) qid: u16,
    pub(crate) cntlid: u16,
    /// The Connect that is to be answered.
    pub(crate) connect: Slot,
    pub(crate) rules: QueueRules,
    pub(crate) host: Nqn,
    pub(crate) address: IpAddr,
}

/// What a reactor knows of one of its I/O queues.
#[derive(Debug)]
pub(crate) struct Queue<B: Buffer> {
    pub(crate) association: AssociationId,
    pub(crate) view: Key,
    pub(crate) qid: u16,
    /// By slot of the connection: what has not been given out, and first halves of pairs that were.
    commands: Vec<Option<Command<B>>>,
    /// By slot of the connection: what was.
    requests: Vec<Option<Running>>,
    /// Commands that are ready, in order; a fused pair by its second half.
    pub(crate) held: VecDeque<Slot>,
    pub(crate) fused: FirstHalf,
    /// Requests without an answer.
    pub(crate) running: u32,
    /// A capsule came since the last question.
    pub(crate) traffic: bool,
    /// In the list of queues that wait for R2Ts.
    pub(crate) granting: bool,
    /// What the connection's R2Ts asked for, of commands that have not ended, as last counted.
    pub(crate) reserved_bytes: u32,
    /// Its association is being dropped: nobody is told of its end.
    pub(crate) dropped: bool,
}

/// The first command of a fused pair whose second must be the next to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstHalf {
    /// The last command was not one.
    None,
    /// It waits.
    Waiting(Slot),
    /// It was answered with an error already.
    Failed,
}

/// A command that has not been given out. The first half of a fused pair stays one until the pair is answered: the
/// second runs for both.
#[derive(Debug)]
pub(crate) struct Command<B: Buffer> {
    pub(crate) opcode: u8,
    pub(crate) fuse: Fuse,
    pub(crate) nsid: u32,
    pub(crate) plan: Plan,
    /// The version of the namespaces that the plan was made with.
    pub(crate) version: u64,
    pub(crate) stage: Stage<B>,
    /// The other half of a fused pair.
    pub(crate) partner: Option<Slot>,
}

#[derive(Debug)]
pub(crate) enum Stage<B: Buffer> {
    /// Its data is awaited.
    Arriving,
    /// Its namespace is limited, and its share has not come, or the second half of its pair has not. Its data is here,
    /// or this many bytes are still to be asked for.
    Limited(Option<Slice<B::Shared>>, Option<u32>),
    /// Nothing more is awaited from the host.
    Ready(Option<Slice<B::Shared>>),
}

/// What has to be known of a request until it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// It was given out as this count of the fences.
    pub(crate) begun: u64,
    pub(crate) nsid: u32,
    /// Bytes that it brings to the host if it succeeds.
    pub(crate) to_host_bytes: u32,
    /// The first half of the fused pair that it is.
    pub(crate) partner: Option<Slot>,
    pub(crate) opcode: u8,
}

// Several of them share a line of the cache.
const _: () = assert!(size_of::<Option<Running>>() == 24);

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

impl<B: Buffer> Queue<B> {
    pub(crate) const fn new(association: AssociationId, view: Key, qid: u16) -> Self {
        Self {
            association,
            view,
            qid,
            commands: Vec::new(),
            requests: Vec::new(),
            held: VecDeque::new(),
            fused: FirstHalf::None,
            running: 0,
            traffic: true,
            granting: false,
            reserved_bytes: 0,
            dropped: false,
        }
    }

    pub(crate) fn insert(&mut self, slot: Slot, command: Command<B>) {
        let index = usize::from(slot.0);
        if self.commands.len() <= index {
            self.commands.resize_with(index + 1, || None);
        }
        assert!(self.commands[index].is_none(), "a slot holds one command");
        self.commands[index] = Some(command);
    }

    /// A command is given out.
    #[inline]
    pub(crate) fn begin(&mut self, slot: Slot, request: Running) {
        let index = usize::from(slot.0);
        if self.requests.len() <= index {
            self.requests.resize(index + 1, None);
        }
        assert!(self.requests[index].is_none(), "a slot holds one request");
        self.requests[index] = Some(request);
        self.running += 1;
    }

    /// A request is answered; `None` where there is none.
    #[inline]
    pub(crate) fn end(&mut self, slot: Slot) -> Option<Running> {
        let request = self.requests.get_mut(usize::from(slot.0))?.take()?;
        self.running -= 1;
        Some(request)
    }

    /// True from when a command is given out until it is answered.
    pub(crate) fn runs(&self, slot: Slot) -> bool {
        self.requests.get(usize::from(slot.0)).is_some_and(Option::is_some)
    }

    /// True where what arrives now need not wait for anything that arrived before.
    pub(crate) fn is_clear(&self) -> bool {
        self.held.is_empty() && self.fused == FirstHalf::None
    }

    pub(crate) fn take(&mut self, slot: Slot) -> Option<Command<B>> {
        self.commands.get_mut(usize::from(slot.0))?.take()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Command<B>> {
        self.commands.get(usize::from(slot.0))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Command<B>> {
        self.commands.get_mut(usize::from(slot.0))?.as_mut()
    }

    /// Forgets every command that was not given out.
    pub(crate) fn drop_pending(&mut self) {
        self.held.clear();
        self.fused = FirstHalf::None;
        self.commands.fill_with(|| None);
    }

    /// Requests of this namespace that are unanswered.
    pub(crate) fn running_on(&self, nsid: u32) -> usize {
        self.requests.iter().flatten().filter(|request| request.nsid == nsid).count()
    }
}
