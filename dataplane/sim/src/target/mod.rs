//! The whole target in one thread from one seed: engines on simulated reactors, hosts of the `host` crate on simulated
//! connections, management, and the model of every block.
//!
//! What it holds: a completed command has had its effect, at once and for ever (a kill) or since the last flush (a
//! power cut); a command that was lost with its connection takes effect before the host's next association is ready or
//! never; a host that was taken off a volume's list changes nothing after that was answered; sizes change at once;
//! snapshots are cuts through the history of their volume, and clones, rollbacks and diffs show what they hold; changes
//! of volumes and snapshots happen whole or not at all; what is deleted leaves nothing behind.

mod attack;
mod crashes;
mod ending;
#[cfg(test)]
mod failing;
mod grow;
#[cfg(test)]
mod health;
mod host;
mod images;
#[cfg(test)]
mod joins;
#[cfg(test)]
mod limits;
mod load;
mod manage;
mod plan;
mod report;
mod rollback;
#[cfg(test)]
mod snapshots;
mod verify;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{ActionError, Engine, EngineConfig, LeadConfig, Message, Notice, Outcome, PoolIdentity};
use io::{Clock, Io, ReactorId, Time};
use nvme::Nqn;

use crate::trial::{Account, Standstill, Violation};
use crate::{Crash, CutStyle, Faults, Random, SimBuffer, SimIo, SimSocket, Wake, World, WorldOptions};

#[cfg(feature = "planted")]
pub use engine::Planted as EngineFault;

pub use attack::{attack_of, run_attack};
pub use crashes::{CrashPoint, Script, crash_points, run_crash};
pub use plan::TargetPlan;
pub use report::TargetReport;
pub use rollback::run_rollbacks;

use host::SimHost;
use images::Snapshot;
use load::Open;
use manage::Change;
use volume::Volume;

/// Messages of simulated engines.
pub(crate) type TargetMessage = Message<SimBuffer, SimSocket>;

/// Turns of one life after which something must be wrong.
const TURNS_MAX: u64 = 3_000_000;

/// Longest time that a command may take while its connection lives: much longer than all that can be slow on its way.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(2);

/// Longest time in which shards in which requests wait may do nothing: longer than all that they wait for.
const STANDSTILL_MAX: Duration = Duration::from_secs(1);

/// Where the target listens.
const LISTEN: &str = "127.0.0.1:4420";

/// Answers of management, by the number of the question.
type Answers = Arc<Mutex<Vec<(u64, Result<Outcome, ActionError>)>>>;

/// One run of one plan.
pub struct TargetTrial {
    plan: TargetPlan,
    world: World<TargetMessage>,
    random: Random,
    listen: SocketAddr,
    engines: Vec<Seat>,
    hosts: Vec<SimHost>,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    uuids: u16,
    open: BTreeMap<u64, Open>,
    // Commands whose effect is not known, until somebody reads.
    doubts: Vec<Doubt>,
    // What is to be read before its volume is used: all after a crash, clones, volumes that were rolled back.
    unverified: Vec<Chunk>,
    // Writes of fused pairs whose comparison did not succeed, and commands that were to be aborted.
    failed_pairs: BTreeSet<u64>,
    aborts: BTreeSet<u64>,
    changes: BTreeMap<u64, Change>,
    // Changes that a crash left unanswered: they are asked for again.
    unanswered: Vec<Change>,
    answers: Answers,
    // The answer to a question whose change is [`Change::Told`].
    told: Option<Outcome>,
    // The crash comes after so many turns, in the middle of a change.
    crash_after: Option<u64>,
    // The process ends once so many writes and flushes have ended.
    interrupt_at: Option<u64>,
    started: bool,
    // It was told to stop, and ends every connection.
    stopping: bool,
    subsystem_nqn: Option<Nqn>,
    clock: u64,
    numbers: u64,
    port: u16,
    turns: u64,
    cut: bool,
    // Shards and the directory may fail: how they do is what is tested.
    may_fail: bool,
    // Since when nothing happens in the shards, and what had been answered then.
    still: Standstill,
    done: (u64, u64),
    // When the driver itself wants the next turn at the latest.
    pause: Option<Time>,
    tracer: Option<fn(Time, &str)>,
    report: TargetReport,
}

/// A reactor's engine.
#[derive(Debug)]
struct Seat {
    engine: Engine<SimIo<TargetMessage>>,
    io: SimIo<TargetMessage>,
    deadline: Option<Time>,
    stopped: bool,
}

/// Sectors to read in one go.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    volume: usize,
    first: u64,
    count: usize,
}

/// Blocks that a command with no known end may have changed.
#[derive(Debug)]
struct Doubt {
    volume: usize,
    blocks: Vec<usize>,
    host: usize,
    // It is over once the host has been ready so often.
    over_at: u64,
}

impl TargetTrial {
    /// A run of a plan, before its first life.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(plan: TargetPlan) -> Self {
        let options = WorldOptions {
            seed: plan.seed,
            reactors: plan.reactors[0],
            drives: plan.drives.clone(),
            faults: plan.faults,
            memory: plan.memory,
        };
        let mut world = World::new(&options);
        Self {
            random: world.fork_random(),
            world,
            listen: LISTEN.parse().expect("an address"),
            engines: Vec::new(),
            hosts: Vec::new(),
            volumes: Vec::new(),
            snapshots: Vec::new(),
            uuids: 100,
            open: BTreeMap::new(),
            doubts: Vec::new(),
            unverified: Vec::new(),
            failed_pairs: BTreeSet::new(),
            aborts: BTreeSet::new(),
            changes: BTreeMap::new(),
            unanswered: Vec::new(),
            answers: Arc::default(),
            told: None,
            crash_after: None,
            interrupt_at: None,
            started: false,
            stopping: false,
            subsystem_nqn: None,
            clock: 1,
            numbers: 0,
            port: 20_000,
            turns: 0,
            cut: false,
            may_fail: false,
            still: Standstill::default(),
            done: (0, 0),
            pause: None,
            tracer: None,
            report: TargetReport::default(),
            plan,
        }
    }

    /// Prints what happens through `tracer`.
    pub fn set_tracer(&mut self, tracer: fn(Time, &str)) {
        self.world.set_tracer(tracer);
        self.tracer = Some(tracer);
        self.trace(|trial| format!("{:#?}", trial.plan));
    }

    /// Runs all lives.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(mut self) -> Result<TargetReport, Violation> {
        for life in 0..self.plan.reactors.len() {
            self.begin_life(self.plan.reactors[life])?;
            if life == 0 {
                self.make_volumes()?;
            } else {
                self.meet_what_is_there()?;
            }
            self.ask_again();
            self.meet_hosts()?;
            self.verify()?;
            if life + 1 < self.plan.reactors.len() {
                self.load()?;
                self.crash(self.plan.reactors[life + 1]);
            }
        }
        self.load()?;
        self.finish()
    }

    /// Starts the process and waits until it serves.
    fn begin_life(&mut self, reactors: u16) -> Result<(), Violation> {
        self.turns = 0;
        (self.started, self.stopping) = (false, false);
        for reactor in (0..reactors).map(ReactorId) {
            let io = self.world.io(reactor);
            let config = EngineConfig {
                #[cfg(feature = "planted")]
                planted: self.plan.planted,
                ..EngineConfig::new(
                    (reactor.0 == 0).then(|| self.lead_config()),
                    self.plan.shard_options.clone(),
                    self.plan.memory.shared_bytes / 4,
                )
            };
            let engine = Engine::new(config, &io);
            self.engines.push(Seat { engine, io, deadline: Some(Time(0)), stopped: false });
        }
        while !self.started {
            self.turn()?;
        }
        Ok(())
    }

    fn lead_config(&self) -> LeadConfig {
        let mut random = Random::new(self.plan.seed ^ 0x1D);
        let mut uuid = || std::array::from_fn(|_| u8::try_from(random.below(256)).unwrap_or_default());
        LeadConfig {
            format: engine::FormatOptions {
                identity: PoolIdentity { pool: uuid(), cluster: uuid(), node: uuid() },
                shards: self.plan.shards,
                segment_bytes: Some(self.plan.segment_bytes),
                directory_half_bytes: Some(256 << 10),
                created_unix_ns: 1,
            },
            listen: vec![self.listen],
            discovery: Vec::new(),
            advertise: Vec::new(),
            bench: self.plan.bench.clone(),
            drives: vec!["drive".into(); self.world.drives().len()],
            reactors: Vec::new(),
        }
    }

    /// Makes hosts and waits until all are connected.
    fn meet_hosts(&mut self) -> Result<(), Violation> {
        while self.hosts.len() < self.plan.hosts {
            let number = u8::try_from(self.hosts.len()).expect("a few hosts");
            let Some(nqn) = self.subsystem_nqn else { break };
            self.hosts.push(SimHost::new(number, nqn, self.plan.queues, self.plan.digests));
        }
        while !self.hosts.iter().all(SimHost::is_ready) {
            self.turn()?;
        }
        Ok(())
    }

    /// Commands, changes and lost connections until it is time for the crash.
    fn load(&mut self) -> Result<(), Violation> {
        let read_error_one_in = self.plan.read_error_one_in;
        self.world.set_faults(Faults { read_error_one_in, ..self.plan.faults });
        let until = self.numbers + self.random.between(1, self.plan.commands_per_life);
        while self.numbers < until {
            self.disturb();
            let host = self.random.index(self.hosts.len());
            let room = self.plan.depth.saturating_sub(self.open_of(host));
            let batch = if self.random.one_in(4) { room } else { room.min(1) };
            for _ in 0..batch {
                self.ask(host);
            }
            self.ask_unverified();
            self.turn()?;
            if self.crash_after.is_some() {
                break;
            }
        }
        let more = self.crash_after.take().unwrap_or_else(|| self.random.below(300));
        for _ in 0..more {
            self.turn()?;
        }
        self.world.set_faults(self.plan.faults);
        Ok(())
    }

    /// Now and then a host loses its connections, a proxy goes on, or management changes a volume.
    fn disturb(&mut self) {
        if self.random.one_in(self.plan.reconnect_one_in) {
            let host = self.random.index(self.hosts.len());
            let stall = self.random.one_in(2);
            self.trace(|_| format!("host {host} loses its connections (stall: {stall})"));
            self.hosts[host].drop_connections(self.world.now(), stall);
        }
        if self.random.one_in(self.plan.shutdown_one_in) {
            let (host, at) = (self.random.index(self.hosts.len()), self.tick());
            self.trace(|_| format!("host {host} shuts its controller down at {at}"));
            self.hosts[host].shut_down(self.world.now(), at);
            self.run_host(host);
        }
        if self.random.one_in(200) {
            let now = self.world.now();
            for host in &mut self.hosts {
                host.release_left(now);
            }
        }
        if self.random.one_in(self.plan.abort_one_in) {
            let host = self.random.index(self.hosts.len());
            self.ask_abort(host);
        }
        if self.random.one_in(self.plan.change_one_in) {
            self.ask_change();
        }
        if self.random.one_in(self.plan.images_one_in) {
            self.ask_image_change();
        }
        if self.random.one_in(self.plan.grow_one_in) {
            self.ask_growth();
        }
    }

    /// Ends the process.
    fn crash(&mut self, reactors: u16) {
        let cut = self.random.one_in(self.plan.power_cut_one_in);
        let style = CutStyle::choose(&mut self.random);
        self.end_process(if cut { Crash::PowerCut(style) } else { Crash::Kill }, reactors);
    }

    fn end_process(&mut self, crash: Crash, reactors: u16) {
        self.engines.clear();
        self.world.crash(crash);
        self.world.set_reactors(reactors);
        self.cut = crash != Crash::Kill;
        self.interrupt_at = None;
        self.report.crashes += 1;
        // Nothing that the old process had not begun can happen any more.
        let now = self.world.now();
        for host in &mut self.hosts {
            host.drop_connections(now, false);
            host.lost.clear();
            host.ended.clear();
        }
        self.open.clear();
        for mut change in std::mem::take(&mut self.changes).into_values() {
            if let Change::Snapshot { volume, snapshot } = &mut change {
                self.snapshot_interrupted(*volume, snapshot);
            }
            self.unanswered.push(change);
        }
        self.doubts.clear();
        self.unverified.clear();
        for volume in &mut self.volumes {
            volume.locks.fill(None);
        }
        self.clock += 1;
    }

    /// One step of the world, and what follows from it.
    fn turn(&mut self) -> Result<(), Violation> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return Err(Violation::Slow { open: self.open.len() });
        }
        let deadlines: Vec<Option<Time>> = self.engines.iter().map(|seat| seat.deadline).collect();
        let timer = self.hosts.iter().filter_map(SimHost::deadline).chain(self.pause).min();
        let wake = self.world.step(&deadlines, timer);
        if self.interrupt_at.is_some_and(|at| self.world.writes_ended() >= at) {
            return Err(Violation::Interrupted);
        }
        match wake {
            Wake::Reactor(reactor) => self.run_reactor(usize::from(reactor.0))?,
            Wake::Endpoint(id) => {
                if let Some(host) = self.hosts.iter().position(|host| host.owns(id)) {
                    self.run_host(host);
                }
            }
            Wake::Timer => {
                for host in 0..self.hosts.len() {
                    self.run_host(host);
                }
            }
            Wake::Idle => return Err(Violation::Stuck { open: self.open.len() }),
        }
        self.take_answers()?;
        self.take_ends()?;
        self.take_shutdowns();
        let oldest = self.open.values().map(|open| open.began).min();
        if oldest.is_some_and(|began| self.world.now().since(began) > COMMAND_TIME_MAX) {
            return Err(Violation::Slow { open: self.open.len() });
        }
        self.check_movement()
    }

    /// A shard in which requests wait does something, or has just answered some.
    fn check_movement(&mut self) -> Result<(), Violation> {
        let now = self.world.now();
        let shards = || self.engines.iter().flat_map(|seat| seat.engine.own_shards());
        let waits = |shard: &store::Shard<SimBuffer>| shard.open_requests() > 0;
        let done = (self.report.completed, self.report.changes);
        if self.done != done || !self.world.drives_are_idle() || !shards().any(waits) {
            self.still.end(now);
        } else if self.still.has_lasted(now, STANDSTILL_MAX) {
            let accounts = shards().filter(|shard| waits(shard)).map(Account::of).collect();
            return Err(Violation::Stalled { pool: None, accounts });
        }
        self.done = done;
        Ok(())
    }

    fn run_host(&mut self, host: usize) {
        self.port = if self.port > 60_000 { 20_000 } else { self.port + 8 };
        self.hosts[host].run(&mut self.world, self.listen, self.port);
    }

    fn run_reactor(&mut self, reactor: usize) -> Result<(), Violation> {
        let Seat { engine, io, deadline, stopped } = &mut self.engines[reactor];
        let mut events = Vec::new();
        let now = io.now();
        io.poll(Some(now), &mut events).expect("a look at the world always succeeds");
        if *stopped {
            *deadline = None;
            return Ok(());
        }
        for event in events {
            engine.handle(event, io);
        }
        *deadline = engine.run(io);
        let mut notices = Vec::new();
        while let Some(notice) = engine.poll_notice() {
            notices.push(notice);
        }
        for notice in notices {
            self.on_notice(reactor, notice)?;
        }
        Ok(())
    }

    fn on_notice(&mut self, reactor: usize, notice: Notice) -> Result<(), Violation> {
        self.trace(|_| format!("reactor {reactor}: {notice:?}"));
        match notice {
            Notice::Started(identity) => {
                self.started = true;
                self.subsystem_nqn = Nqn::new(&identity.subsystem_nqn).ok();
                Ok(())
            }
            Notice::Refused(error) => Err(Violation::Panicked(format!("the start was refused: {error}"))),
            Notice::ShardFailed(..) | Notice::DirectoryFailed(_) if self.may_fail => Ok(()),
            Notice::ShardFailed(shard, failure) => Err(Violation::Stopped(usize::from(shard.0), failure)),
            Notice::DirectoryFailed(fault) => {
                Err(Violation::Panicked(format!("the directory failed: {fault:?}")))
            }
            Notice::Stopped => {
                self.engines[reactor].stopped = true;
                // Once more, so that closes leave.
                self.engines[reactor].deadline = Some(Time(0));
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn trace(&self, line: impl FnOnce(&Self) -> String) {
        if let Some(tracer) = self.tracer {
            tracer(self.world.now(), &line(self));
        }
    }
}

impl fmt::Debug for TargetTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetTrial(seed {}, {} commands asked)", self.plan.seed, self.numbers)
    }
}

/// Runs a plan; a panic of the code under test is a violation too.
///
/// # Errors
/// The first promise that was broken.
pub fn run_target_seed(plan: &TargetPlan) -> Result<TargetReport, Violation> {
    let plan = plan.clone();
    crate::trial::catch(move || TargetTrial::new(plan).run())
}
