//! One reactor: everything that belongs to one thread.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use io::{Buffer, Clock, Event, Lane, Mail, Memory, Purpose, ReactorId, Time};

use crate::buffer::arena::Arena;
use crate::buffer::lasting::Lasting;
use crate::buffer::{ArenaBuffer, ArenaShared};
use crate::drive::DriveSet;
use crate::features::{Feature, Features};
use crate::mail::{Desk, Office};
use crate::net::{OwnedSocket, Sockets};
use crate::pace::Pace;
use crate::ring::pool::Pool;
use crate::ring::transfer::Transfers;
use crate::ring::wake::Listening;
use crate::ring::{Completion, Kind, Ring, accept};
use crate::seed::{Parts, StartError};
use crate::stats::Stats;

/// Events that have happened and wait for the end of the poll.
pub(crate) type Ready<M> = VecDeque<Event<ArenaBuffer, M, OwnedSocket>>;

/// How long a reactor that ends waits for operations that cannot be cancelled.
const REST_MAX: Duration = Duration::from_secs(10);

/// The implementation of [`io::Io`] on io_uring. It is made on the thread that uses it and stays there.
pub struct Reactor<M: Send + 'static> {
    pub(crate) ring: Ring,
    pub(crate) sockets: Sockets,
    pub(crate) transfers: Transfers,
    /// Completions of disk operations that wait for their turn.
    pub(crate) transferred: VecDeque<Completion>,
    pub(crate) arena: Arena,
    pub(crate) lasting: Lasting,
    pub(crate) drives: DriveSet,
    pub(crate) ready: Ready<M>,
    pub(crate) desk: Desk<M>,
    pub(crate) office: Arc<Office<M>>,
    pub(crate) listening: Listening,
    /// The operation on the bell is under way.
    pub(crate) is_listening: bool,
    pub(crate) pace: Pace,
    pub(crate) clock: Ticks,
    /// When memory is next given back.
    pub(crate) trim_at: Time,
    pub(crate) counters: Counters,
    id: ReactorId,
    reactors: u16,
    features: Features,
    /// Rings belong to the thread that made them.
    thread: PhantomData<Rc<()>>,
}

/// What a reactor counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) polls: u64,
    pub(crate) spins: u64,
    pub(crate) spin_nanos: u64,
    pub(crate) sleeps: u64,
    pub(crate) sleep_nanos: u64,
    pub(crate) wakes: u64,
    pub(crate) mail_posted: u64,
    pub(crate) mail_refused: u64,
    pub(crate) mail_taken: u64,
    pub(crate) disk_reads: u64,
    pub(crate) disk_read_bytes: u64,
    pub(crate) disk_writes: u64,
    pub(crate) disk_written_bytes: u64,
    pub(crate) disk_flushes: u64,
    pub(crate) disk_errors: u64,
    /// Refusals of buffers that the last poll has seen.
    pub(crate) refused_seen: u64,
}

/// Time since an origin that all reactors share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    origin: Instant,
    /// When the current round began.
    pub(crate) round: Time,
}

impl Ticks {
    fn new(origin: Instant) -> Self {
        let mut ticks = Self { origin, round: Time(0) };
        ticks.round = ticks.read();
        ticks
    }

    /// The time now.
    pub(crate) fn read(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl<M: Send + 'static> Reactor<M> {
    /// Opens the ring and maps the memory, on the thread that will use them.
    pub(crate) fn new(parts: Parts<M>) -> Result<Self, StartError> {
        let Parts { id, config, connections_max, node, office, origin } = parts;
        let drives = config.drives;
        let files_start = u32::try_from(drives.len()).expect("drives are numbered by 16 bits");
        let mut ring = Ring::new(config.features, config.submission_entries, files_start + connections_max)?;
        let system = |action| move |source| StartError::System { action, source };
        let drives = drives.of_reactor().map_err(system("open a drive once more to flush it"))?;
        for (place, drive) in (0..).zip(drives.iter()) {
            use std::os::fd::AsRawFd;
            ring.set_file(place, Some(drive.file().as_raw_fd()))
                .map_err(system("put a drive into the ring's table of files"))?;
        }
        let hugepages = ring.features().has(Feature::Hugepages);
        let node = node.filter(|_| ring.features().has(Feature::NumaBinding));
        let mut arena =
            Arena::new(config.arena_bytes, hugepages, node).map_err(system("map memory for buffers"))?;
        let lasting = Lasting::new(hugepages, node);
        ring.use_arena(arena.core());
        let mut pool = ring
            .features()
            .has(Feature::ProvidedBuffers)
            .then(|| Pool::new(&ring, config.receive_buffers, config.receive_bytes))
            .flatten();
        match &mut pool {
            Some(pool) => pool.fill(&mut arena),
            None => ring.lack(Feature::ProvidedBuffers),
        }
        let mut features = ring.features();
        if !arena.huge() {
            features.remove(Feature::Hugepages);
        }
        if node.is_none() {
            features.remove(Feature::NumaBinding);
        }
        let desk = Desk::new(Arc::clone(&office), id, config.mail_slots);
        desk.set_ring(ring.fd());
        let spin_max = if features.has(Feature::Spin) { config.spin_max } else { Duration::ZERO };
        let clock = Ticks::new(origin);
        Ok(Self {
            sockets: Sockets::new(files_start, connections_max, config.receive_bytes, pool),
            transfers: Transfers::default(),
            transferred: VecDeque::new(),
            arena,
            lasting,
            drives,
            ready: VecDeque::new(),
            desk,
            listening: Listening::new(),
            is_listening: false,
            pace: Pace::new(spin_max, clock.round),
            trim_at: clock.round,
            clock,
            counters: Counters::default(),
            id,
            reactors: office.reactors(),
            office,
            features,
            ring,
            thread: PhantomData,
        })
    }

    /// The features that are in use.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Self { counters, ring, sockets, arena, .. } = self;
        Stats {
            polls: counters.polls,
            enters: ring.counters.enters,
            submissions: ring.counters.submissions,
            completions: ring.counters.completions,
            spins: counters.spins,
            spin_nanos: counters.spin_nanos,
            sleeps: counters.sleeps,
            sleep_nanos: counters.sleep_nanos,
            wakes: counters.wakes,
            mail_posted: counters.mail_posted,
            mail_refused: counters.mail_refused,
            mail_taken: counters.mail_taken,
            received_bytes: sockets.counters.received_bytes,
            sent_bytes: sockets.counters.sent_bytes,
            accepted: sockets.counters.accepted,
            connections_now: sockets.connections() as u64,
            receive_waits: sockets.counters.receive_waits,
            disk_reads: counters.disk_reads,
            disk_read_bytes: counters.disk_read_bytes,
            disk_writes: counters.disk_writes,
            disk_written_bytes: counters.disk_written_bytes,
            disk_flushes: counters.disk_flushes,
            disk_errors: counters.disk_errors,
            disk_retries: self.transfers.retries,
            allocations_refused: arena.refused(),
            arena_bytes: arena.size_bytes() as u64,
            arena_used_bytes_now: arena.used_bytes() as u64,
            arena_registered_bytes_now: ring.registered_bytes() as u64,
        }
    }

    /// Cancels what can be cancelled and waits for the rest; false where something is still under way.
    fn come_to_rest(&mut self) -> bool {
        let started = Instant::now();
        self.ring.cancel_all();
        while self.ring.under_way() > 0 {
            if started.elapsed() > REST_MAX || self.ring.wait(1, Some(REST_MAX), Duration::ZERO).is_err() {
                return false;
            }
            while let Some(completion) = self.ring.next() {
                self.drop_result(completion);
            }
        }
        true
    }

    /// Takes what a completion owns; its operation is not continued.
    fn drop_result(&mut self, completion: Completion) {
        if completion.key.kind == Kind::Accept {
            drop(accept::socket(completion));
        }
    }
}

impl<M: Send + 'static> Drop for Reactor<M> {
    fn drop(&mut self) {
        if !self.come_to_rest() {
            // The kernel may still write to what these own.
            tracing::error!(reactor = self.id.0, "operations do not end; their memory is given up");
            self.sockets.leak();
            std::mem::forget(std::mem::take(&mut self.transfers));
            std::mem::forget(std::mem::replace(&mut self.listening, Listening::new()));
        }
    }
}

impl<M: Send + 'static> fmt::Debug for Reactor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("id", &self.id)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl<M: Send + 'static> Memory for Reactor<M> {
    type Buffer = ArenaBuffer;

    fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<ArenaBuffer> {
        self.arena.allocate(len, purpose)
    }
}

impl<M: Send + 'static> io::Lasting for Reactor<M> {
    fn allocate_lasting(&mut self, len: usize) -> Option<ArenaBuffer> {
        self.lasting.allocate(len)
    }

    fn reclaim(&mut self, shared: ArenaShared) -> Result<ArenaBuffer, ArenaShared> {
        shared.reclaim()
    }

    fn release_lasting(&mut self, shared: ArenaShared) {
        drop(shared);
        self.lasting.note_release();
    }
}

impl<M: Send + 'static> Clock for Reactor<M> {
    fn now(&self) -> Time {
        self.clock.round
    }

    fn unix_nanos(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<M: Send + 'static> Mail for Reactor<M> {
    type Message = M;

    fn reactor(&self) -> ReactorId {
        self.id
    }

    fn reactors(&self) -> u16 {
        self.reactors
    }

    fn post(&mut self, to: ReactorId, lane: Lane, message: M) -> Result<(), M> {
        let posted = self.desk.post(to, lane, message);
        match posted {
            Ok(()) => self.counters.mail_posted += 1,
            Err(_) => self.counters.mail_refused += 1,
        }
        posted
    }
}

const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<ArenaBuffer>();
    sendable::<<ArenaBuffer as Buffer>::Shared>();
    sendable::<OwnedSocket>();
};
