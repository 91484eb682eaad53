//! What all handles of one world share: virtual time, the agenda of what is to happen, the reactors' inboxes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use io::{DriveId, Event, Lane, ReactorId, Time};

use crate::disk::DiskOperation;
use crate::drive::Drive;
use crate::link::{Link, Side};
use crate::memory::Arena;
use crate::net::Listener;
use crate::{Faults, MemoryLimits, Random, SimBuffer, SimSocket};

/// An event of the simulator with messages `M`.
pub(crate) type SimEvent<M> = Event<SimBuffer, M, SimSocket>;

/// Called with what happens and when.
pub(crate) type Tracer = Box<dyn FnMut(Time, &str)>;

pub(crate) struct Core<M> {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) now: Time,
    pub(crate) agenda: BTreeMap<(Time, u64), Occurrence<M>>,
    pub(crate) reactors: Vec<Reactor<M>>,
    pub(crate) drives: Vec<Drive>,
    pub(crate) operations: BTreeMap<u64, DiskOperation>,
    /// Writes and flushes that have ended.
    pub(crate) writes_ended: u64,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) listeners: Vec<Listener>,
    /// Sockets that were dropped without an owner; drops may come from where the world cannot be reached.
    pub(crate) dropped: Arc<Mutex<Vec<u64>>>,
    /// Peers' ends of connections on which something happened.
    pub(crate) touched: BTreeSet<u64>,
    /// How often the process has been started; handles of earlier lives are dead.
    pub(crate) life: u32,
    pub(crate) limits: MemoryLimits,
    pub(crate) tracer: Option<Tracer>,
    ids: u64,
}

/// One reactor's side of the seam.
pub(crate) struct Reactor<M> {
    pub(crate) inbox: VecDeque<(Delivery, SimEvent<M>)>,
    pub(crate) submitted: Vec<Submission<M>>,
    pub(crate) arena: Arena,
    /// The time at which its current round of events began.
    pub(crate) round: Time,
    /// Its connections: connection number to link.
    pub(crate) connections: BTreeMap<u64, u64>,
    /// Requests that were posted and not yet received, by sender.
    pub(crate) requests_waiting: BTreeMap<Option<ReactorId>, usize>,
    /// When the newest mail by sender and lane arrives: mail of one lane stays in order.
    pub(crate) last_mail: BTreeMap<(Option<ReactorId>, bool), Time>,
}

/// What the world learns when an event is handed over.
#[derive(Debug)]
pub(crate) enum Delivery {
    Plain,
    Written { drive: DriveId, write: u64, offset: u64, len: u32 },
    Request { from: Option<ReactorId> },
}

/// Asked for, but not before the next poll.
pub(crate) enum Submission<M> {
    Disk(u64),
    Receive(u64),
    Send(u64),
    Close(u64),
    Mail { to: ReactorId, lane: Lane, message: M },
}

/// Something that happens at its time.
pub(crate) enum Occurrence<M> {
    Land { operation: u64, run: (u32, u32) },
    Fetch { operation: u64, extent: usize },
    DiskDone { operation: u64 },
    Accept { link: u64 },
    Arrive { link: u64, side: Side },
    Pump { link: u64 },
    Closed { link: u64 },
    Mail { to: ReactorId, from: Option<ReactorId>, lane: Lane, message: M },
}

impl<M: Send + 'static> Core<M> {
    pub(crate) fn new(
        random: Random,
        faults: Faults,
        reactors: u16,
        drives: Vec<Drive>,
        limits: MemoryLimits,
    ) -> Self {
        let mut core = Self {
            random,
            faults,
            now: Time(1_000_000),
            agenda: BTreeMap::new(),
            reactors: Vec::new(),
            drives,
            operations: BTreeMap::new(),
            writes_ended: 0,
            links: BTreeMap::new(),
            listeners: Vec::new(),
            dropped: Arc::default(),
            touched: BTreeSet::new(),
            life: 0,
            limits,
            tracer: None,
            ids: 0,
        };
        core.make_reactors(reactors);
        core
    }

    pub(crate) fn make_reactors(&mut self, count: u16) {
        self.reactors = (0..count)
            .map(|_| Reactor {
                inbox: VecDeque::new(),
                submitted: Vec::new(),
                arena: Arena::new(self.limits, &mut self.random),
                round: self.now,
                connections: BTreeMap::new(),
                requests_waiting: BTreeMap::new(),
                last_mail: BTreeMap::new(),
            })
            .collect();
    }

    pub(crate) fn reactor(&mut self, id: ReactorId) -> &mut Reactor<M> {
        &mut self.reactors[usize::from(id.0)]
    }

    /// A number that was never given before in this world.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn schedule(&mut self, delay_ns: u64, occurrence: Occurrence<M>) {
        self.schedule_at(self.now + Duration::from_nanos(delay_ns), occurrence);
    }

    pub(crate) fn schedule_at(&mut self, when: Time, occurrence: Occurrence<M>) {
        let id = self.next_id();
        self.agenda.insert((when.max(self.now), id), occurrence);
    }

    /// When the next thing happens.
    pub(crate) fn next_time(&self) -> Option<Time> {
        self.agenda.keys().next().map(|(when, _)| *when)
    }

    /// Lets the next thing happen, at its time.
    pub(crate) fn advance(&mut self) {
        let Some(((when, _), occurrence)) = self.agenda.pop_first() else { return };
        self.now = self.now.max(when);
        match occurrence {
            Occurrence::Land { operation, run } => self.land(operation, run),
            Occurrence::Fetch { operation, extent } => self.fetch(operation, extent),
            Occurrence::DiskDone { operation } => self.end_disk(operation),
            Occurrence::Accept { link } => self.accept(link),
            Occurrence::Arrive { link, side } => self.arrive(link, side),
            Occurrence::Pump { link } => self.pump_receive(link),
            Occurrence::Closed { link } => self.end_close(link),
            Occurrence::Mail { to, from, lane, message } => self.deliver_mail(to, from, lane, message),
        }
    }

    /// Lets everything happen whose time has come.
    pub(crate) fn settle(&mut self) {
        while self.next_time().is_some_and(|when| when <= self.now) {
            self.advance();
        }
    }

    /// A reactor has entered the kernel: what it asked for begins.
    pub(crate) fn start(&mut self, reactor: ReactorId) {
        for submission in std::mem::take(&mut self.reactor(reactor).submitted) {
            match submission {
                Submission::Disk(operation) => self.start_disk(operation),
                Submission::Receive(link) => self.pump_receive(link),
                Submission::Send(link) => self.pump_send(link),
                Submission::Close(link) => self.start_close(link),
                Submission::Mail { to, lane, message } => self.start_mail(reactor, to, lane, message),
            }
        }
    }

    /// Hands a reactor its events.
    pub(crate) fn hand_over(&mut self, id: ReactorId, events: &mut Vec<SimEvent<M>>) {
        let now = self.now;
        let reactor = self.reactor(id);
        reactor.round = now;
        for (delivery, event) in std::mem::take(&mut reactor.inbox) {
            match delivery {
                Delivery::Plain => {}
                Delivery::Written { drive, write, offset, len } => {
                    self.drives[usize::from(drive.0)].tell(write, offset, len as usize);
                }
                Delivery::Request { from } => {
                    let waiting = self.reactor(id).requests_waiting.entry(from).or_default();
                    *waiting = waiting.saturating_sub(1);
                }
            }
            events.push(event);
        }
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(tracer) = &mut self.tracer {
            tracer(self.now, &line());
        }
    }
}

impl<M> fmt::Debug for Core<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core(life {}, at {} ns, {} occurrences due)", self.life, self.now.0, self.agenda.len())
    }
}
