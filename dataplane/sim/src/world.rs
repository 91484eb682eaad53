//! The world: makes reactors' handles, runs them in a seeded order, connects peers, kills the process, cuts power.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use io::{Clock, DriveId, DriveShape, EventOf, Io, IoFault, Lane, Lasting, Memory, Purpose, ReactorId, Time};

use crate::core::Core;
use crate::drive::{CutStyle, Drive};
use crate::link::{Owner, Side};
use crate::{Endpoint, EndpointId, Faults, MemoryLimits, Random, SimBuffer, SimShared};

/// Virtual time that one poll takes, so that a reactor that spins does not stop the clock.
const POLL_TIME: Duration = Duration::from_nanos(200);

/// Longest time by which a reactor that has something to do is late.
pub(crate) const LATENESS_MAX: Duration = Duration::from_millis(1);

/// Where the wall clock stands when a world begins: 2025-01-01, in nanoseconds since 1970.
const WALL_CLOCK_START_NS: u64 = 1_735_689_600_000_000_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// The source of all chance.
    pub seed: u64,
    /// Reactors of the process.
    pub reactors: u16,
    /// Its drives.
    pub drives: Vec<DriveShape>,
    /// What goes wrong.
    pub faults: Faults,
    /// Memory of each reactor.
    pub memory: MemoryLimits,
}

/// Everything outside the state machines, for one process (with many lives).
pub struct World<M: Send + 'static> {
    core: Rc<RefCell<Core<M>>>,
}

/// One reactor's handle, for one life of the process.
pub struct SimIo<M: Send + 'static> {
    core: Rc<RefCell<Core<M>>>,
    pub(crate) reactor: ReactorId,
    life: u32,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: what the drives took stays in their caches.
    Kill,
    /// The power goes: unflushed blocks become any of their versions, as the style says.
    PowerCut(CutStyle),
}

/// Who has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A reactor: events, submissions or its deadline.
    Reactor(ReactorId),
    /// The far end of a connection: bytes, room or an end.
    Endpoint(EndpointId),
    /// The time that the driver itself had asked for.
    Timer,
    /// Nobody, ever.
    Idle,
}

impl WorldOptions {
    /// One reactor and one drive of `size_bytes` with a volatile cache; nothing fails.
    #[must_use]
    pub fn small(seed: u64, size_bytes: u64) -> Self {
        Self {
            seed,
            reactors: 1,
            drives: vec![DriveShape { size_bytes, block_bytes: 512, volatile_cache: true }],
            faults: Faults::none(),
            memory: MemoryLimits::default(),
        }
    }
}

impl<M: Send + 'static> World<M> {
    /// A world.
    #[must_use]
    pub fn new(options: &WorldOptions) -> Self {
        let drives = options.drives.iter().map(|shape| Drive::new(*shape)).collect();
        let random = Random::new(options.seed);
        let core = Core::new(random, options.faults, options.reactors, drives, options.memory);
        Self { core: Rc::new(RefCell::new(core)) }
    }

    /// The handle of a reactor in the present life of the process.
    ///
    /// # Panics
    /// If there is no such reactor.
    #[must_use]
    pub fn io(&self, reactor: ReactorId) -> SimIo<M> {
        let core = self.core.borrow();
        assert!(usize::from(reactor.0) < core.reactors.len(), "there is no {reactor:?}");
        SimIo { core: Rc::clone(&self.core), reactor, life: core.life }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.core.borrow().now
    }

    /// Lets the world go on until somebody has something to do, and says who. `deadlines` are the reactors' own, in
    /// their order; `timer` is the driver's. A reactor that is named must poll with a deadline that has passed.
    pub fn step(&mut self, deadlines: &[Option<Time>], timer: Option<Time>) -> Wake {
        let core = &mut *self.core.borrow_mut();
        core.reap_sockets();
        loop {
            core.settle();
            let ready = ready_reactors(core, deadlines);
            // A thread that could run is not always the next to run, but it is not late for long.
            let soon = core.now + LATENESS_MAX;
            let held_up = core.next_time().is_some_and(|next| next <= soon) && core.random.one_in(8);
            if !ready.is_empty() && !held_up {
                return Wake::Reactor(ready[core.random.index(ready.len())]);
            }
            if let Some(endpoint) = core.touched.pop_first() {
                return Wake::Endpoint(EndpointId(endpoint));
            }
            if timer.is_some_and(|timer| timer <= core.now) {
                return Wake::Timer;
            }
            let soonest =
                deadlines.iter().copied().flatten().chain(timer).filter(|time| *time > core.now).min();
            match (core.next_time(), soonest) {
                (Some(next), soonest) if soonest.is_none_or(|soonest| next <= soonest) => core.advance(),
                (_, Some(soonest)) => core.now = soonest,
                (_, None) => return Wake::Idle,
            }
        }
    }

    /// Connects to a listener from an address of the world's choice. `None`: nobody listens, the connection is
    /// refused.
    pub fn connect(&mut self, address: SocketAddr) -> Option<Endpoint<M>> {
        let port = self.core.borrow_mut().random.between(32_768, 60_999);
        let ip = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        self.connect_from(SocketAddr::new(ip, u16::try_from(port).unwrap_or(u16::MAX)), address)
    }

    /// Connects to a listener from `peer`.
    pub fn connect_from(&mut self, peer: SocketAddr, address: SocketAddr) -> Option<Endpoint<M>> {
        let link = self.core.borrow_mut().connect(peer, address)?;
        Some(Endpoint::new(Rc::clone(&self.core), link))
    }

    /// Lets go on every proxy that was stopped with [`Endpoint::stall`], those of endpoints that are gone included.
    pub fn resume_all(&mut self) {
        let core = &mut *self.core.borrow_mut();
        let stalled: Vec<u64> =
            core.links.iter().filter(|(_, link)| link.to_target.stalled).map(|(id, _)| *id).collect();
        for link in stalled {
            core.resume(link, Side::Target);
        }
    }

    /// Mail from the management thread.
    pub fn post(&mut self, to: ReactorId, message: M) {
        self.core.borrow_mut().send_mail(to, None, Lane::Request, message);
    }

    /// Ends the process and prepares the next life with as many reactors; all handles of this life are dead. The
    /// state machines of this life should be dropped before.
    pub fn crash(&mut self, crash: Crash) {
        let core = &mut *self.core.borrow_mut();
        core.trace(|| format!("crash: {crash:?}"));
        core.abandon_disk();
        if let Crash::PowerCut(style) = crash {
            let Core { drives, random, .. } = core;
            for drive in drives {
                drive.cut_power(style, random);
            }
        }
        core.agenda = BTreeMap::new();
        core.listeners.clear();
        for id in core.links.keys().copied().collect::<Vec<_>>() {
            core.link(id).owner = Owner::Closed;
            core.break_link(id);
        }
        core.life += 1;
        let reactors = u16::try_from(core.reactors.len()).expect("reactors are numbered by a u16");
        core.make_reactors(reactors);
        core.dropped = std::sync::Arc::default();
    }

    /// The next life has so many reactors. Only directly after [`Self::crash`].
    pub fn set_reactors(&mut self, count: u16) {
        self.core.borrow_mut().make_reactors(count);
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.core.borrow_mut().faults = faults;
    }

    /// Makes blocks unreadable until they are written again.
    pub fn damage(&mut self, drive: DriveId, offset: u64, len: usize) {
        self.core.borrow_mut().drives[usize::from(drive.0)].damage(offset, len);
    }

    /// Turns one bit of a drive over.
    pub fn flip(&mut self, drive: DriveId, offset: u64, bit: u8) {
        self.core.borrow_mut().drives[usize::from(drive.0)].flip(offset, bit);
    }

    /// The drive answers nothing but errors from now on, or is back.
    pub fn set_gone(&mut self, drive: DriveId, gone: bool) {
        self.core.borrow_mut().drives[usize::from(drive.0)].gone = gone;
    }

    /// What a reader of the drive sees now.
    #[must_use]
    pub fn contents(&self, drive: DriveId, offset: u64, len: usize) -> Vec<u8> {
        self.core.borrow().drives[usize::from(drive.0)].bytes(offset, len).to_vec()
    }

    /// A blank drive behind the others, for all reactors at once.
    pub fn add_drive(&mut self, shape: DriveShape) {
        self.core.borrow_mut().drives.push(Drive::new(shape));
    }

    /// Puts a blank drive of the same shape where this one was. Nothing of it may be under way.
    pub fn replace_drive(&mut self, drive: DriveId) {
        let place = &mut self.core.borrow_mut().drives[usize::from(drive.0)];
        *place = Drive::new(place.shape);
    }

    /// The shapes of all drives.
    #[must_use]
    pub fn drives(&self) -> Vec<DriveShape> {
        self.core.borrow().drives.iter().map(|drive| drive.shape).collect()
    }

    /// Writes and flushes of all drives that have ended.
    #[must_use]
    pub fn writes_ended(&self) -> u64 {
        self.core.borrow().writes_ended
    }

    /// Whether no operation of any drive is under way, and none has ended of which a reactor was not told.
    #[must_use]
    pub fn drives_are_idle(&self) -> bool {
        let core = self.core.borrow();
        core.operations.is_empty() && core.reactors.iter().all(|reactor| reactor.inbox.is_empty())
    }

    /// Buffers of a reactor that have not come home.
    #[must_use]
    pub fn buffers_out(&self, reactor: ReactorId) -> usize {
        self.core.borrow().reactors[usize::from(reactor.0)].arena.buffers_out()
    }

    /// A choice of the driver's, from the world's own chance.
    pub fn fork_random(&mut self) -> Random {
        self.core.borrow_mut().random.fork()
    }

    /// Calls `tracer` with every disk event and crash.
    pub fn set_tracer(&mut self, tracer: impl FnMut(Time, &str) + 'static) {
        self.core.borrow_mut().tracer = Some(Box::new(tracer));
    }
}

impl<M: Send + 'static> SimIo<M> {
    /// # Panics
    /// If the life of the process that this handle belongs to has ended.
    pub(crate) fn core(&self) -> Ref<'_, Core<M>> {
        let core = self.core.borrow();
        assert_eq!(core.life, self.life, "a handle of a process that is gone");
        core
    }

    pub(crate) fn core_mut(&self) -> RefMut<'_, Core<M>> {
        let core = self.core.borrow_mut();
        assert_eq!(core.life, self.life, "a handle of a process that is gone");
        core
    }
}

impl<M: Send + 'static> Memory for SimIo<M> {
    type Buffer = SimBuffer;

    fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<SimBuffer> {
        let reactor = self.reactor;
        let mut core = self.core_mut();
        let odds = core.faults.memory_refusal_one_in;
        let refused = core.random.one_in(odds);
        let arena = &core.reactor(reactor).arena;
        if refused && arena.buffers_out() > 0 {
            return None;
        }
        arena.allocate(len, purpose)
    }
}

impl<M: Send + 'static> Lasting for SimIo<M> {
    fn allocate_lasting(&mut self, len: usize) -> Option<SimBuffer> {
        let reactor = self.reactor;
        Some(self.core_mut().reactor(reactor).arena.allocate_lasting(len))
    }

    fn reclaim(&mut self, shared: SimShared) -> Result<SimBuffer, SimShared> {
        shared.reclaim()
    }

    fn release_lasting(&mut self, shared: SimShared) {
        drop(shared);
    }
}

impl<M: Send + 'static> Clock for SimIo<M> {
    fn now(&self) -> Time {
        self.core().reactors[usize::from(self.reactor.0)].round
    }

    fn unix_nanos(&self) -> u64 {
        WALL_CLOCK_START_NS + self.core().now.0
    }
}

impl<M: Send + 'static> Io for SimIo<M> {
    fn poll(&mut self, deadline: Option<Time>, events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault> {
        let reactor = self.reactor;
        let core = &mut *self.core_mut();
        core.now = core.now + POLL_TIME;
        core.reap_sockets();
        core.start(reactor);
        core.settle();
        while core.reactor(reactor).inbox.is_empty() {
            match (core.next_time(), deadline) {
                (_, Some(deadline)) if deadline <= core.now => break,
                (Some(next), deadline) if deadline.is_none_or(|deadline| next <= deadline) => core.advance(),
                (_, Some(deadline)) => core.now = deadline,
                (_, None) => {
                    let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    return Err(IoFault { context: "nothing can ever happen in this world", source });
                }
            }
        }
        core.hand_over(reactor, events);
        Ok(())
    }
}

impl<M: Send + 'static> fmt::Debug for World<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({:?})", self.core.borrow())
    }
}

impl<M: Send + 'static> fmt::Debug for SimIo<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimIo(reactor {}, life {})", self.reactor.0, self.life)
    }
}

/// Reactors that have events, submissions that wait for a poll, or a deadline that has passed.
fn ready_reactors<M: Send + 'static>(core: &Core<M>, deadlines: &[Option<Time>]) -> Vec<ReactorId> {
    let is_ready = |index: &usize| {
        let reactor = &core.reactors[*index];
        let due = deadlines.get(*index).copied().flatten().is_some_and(|deadline| deadline <= core.now);
        due || !reactor.inbox.is_empty() || !reactor.submitted.is_empty()
    };
    let ids = (0..core.reactors.len()).filter(is_ready);
    ids.map(|index| ReactorId(u16::try_from(index).expect("reactors are numbered by a u16"))).collect()
}
