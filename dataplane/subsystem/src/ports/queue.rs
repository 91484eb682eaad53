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
    /// By slot of the connection.
    commands: Vec<Option<Command<B>>>,
    /// Commands that are ready, in order; a fused pair by its second half.
    pub(crate) held: VecDeque<Slot>,
    pub(crate) fused: FirstHalf,
    /// Requests without an answer.
    pub(crate) running: u32,
    /// A capsule came since the last question.
    pub(crate) traffic: bool,
    /// In the list of queues that wait for R2Ts.
    pub(crate) granting: bool,
    /// What the connection's R2Ts reserve, as last counted.
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
    /// Its namespace is limited, and its share has not come. Its data is here, or this many bytes are still to be
    /// asked for.
    Limited(Option<Slice<B::Shared>>, Option<u32>),
    /// Nothing more is awaited from the host.
    Ready(Option<Slice<B::Shared>>),
    /// It was given out, as this count of the fences.
    Running(u64),
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

impl<B: Buffer> Queue<B> {
    pub(crate) const fn new(association: AssociationId, view: Key, qid: u16) -> Self {
        Self {
            association,
            view,
            qid,
            commands: Vec::new(),
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
        for place in &mut self.commands {
            let runs = |command: &Command<B>| matches!(command.stage, Stage::Running(_));
            if place.as_ref().is_some_and(|command| !runs(command)) {
                *place = None;
            }
        }
    }

    /// Requests of this namespace that are unanswered.
    pub(crate) fn running_on(&self, nsid: u32) -> usize {
        let runs = |command: &&Command<B>| command.nsid == nsid && matches!(command.stage, Stage::Running(_));
        self.commands.iter().flatten().filter(runs).count()
    }
}
