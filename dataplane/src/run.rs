//! Starts engines on reactors' threads and drives them.

use std::io::Read as _;
use std::sync::Arc;

use engine::{
    Action, ActionError, BenchNamespace, Engine, EngineConfig, FormatOptions, Identity, LeadConfig, Message,
    Notice, ShardOptions,
};
use io::{EventOf, Io as _, IoFault, ReactorId};
use reactor::{
    ArenaBuffer, Cores, DriveError, DriveSet, DriveSpec, Features, Fill, OwnedSocket, Placement,
    PlacementError, Poster, Reactor, ReactorConfig, ReactorSeed, UnknownFeature,
};
use thiserror::Error;

use crate::config::{Bench, Config, Reactors};
use crate::handle::{Handle, Reply};
use crate::joining::Joining;
use crate::threads::{Threads, Told, Voice};

/// The mail of real reactors.
type Mail = Message<ArenaBuffer, OwnedSocket>;

/// A data plane that serves hosts.
#[derive(Debug)]
pub struct DataPlane {
    handle: Handle,
    identity: Identity,
    placement: Placement,
    threads: Threads<Report>,
}

/// Why a data plane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A drive of the pool cannot be used.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The cores that were asked for are not there.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// A ring feature that was named is not known.
    #[error(transparent)]
    Feature(#[from] UnknownFeature),
    /// The reactors cannot be made.
    #[error(transparent)]
    Reactor(#[from] reactor::StartError),
    /// The drives that were given cannot be opened as a pool.
    #[error("{source} ({drives})")]
    Pool {
        /// Why, with drives by their numbers.
        source: engine::PoolError,
        /// Which number is which drive.
        drives: String,
    },
    /// The pool cannot be served, or an address not be listened on.
    #[error(transparent)]
    Engine(#[from] engine::StartError),
    /// The system gave no thread, or no random bytes.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to serve.
    #[error("nothing to serve: name a pool (--pool PATH:SIZE) or a bench namespace (--bench null:SIZE)")]
    Empty,
    /// A reactor ended before the start was complete; its own error was logged.
    #[error("a reactor ended during the start")]
    Lost,
}

/// What a reactor's thread reports while the data plane starts: that hosts are served, or why they cannot be.
type Report = Result<Box<Identity>, StartError>;

impl DataPlane {
    /// Opens the pool (formatting it if it is blank), recovers it, and listens. Returns once hosts can connect.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_as(config, |_| {})
    }

    /// The same with engines that do something wrong on purpose.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    #[cfg(feature = "planted")]
    pub fn start_wrong(config: &Config, planted: Option<engine::Planted>) -> Result<Self, StartError> {
        Self::start_as(config, |engine| engine.planted = planted)
    }

    /// Starts with engines as `change` leaves them.
    fn start_as(config: &Config, change: impl Fn(&mut EngineConfig)) -> Result<Self, StartError> {
        if config.pool.is_empty() && config.bench.is_empty() {
            return Err(StartError::Empty);
        }
        let drives = DriveSet::open(&specs(config))?;
        let placement = Placement::choose(&cores(&config.reactors), &drives.nodes())?;
        let mut reactors = ReactorConfig::new(drives.clone(), placement.reactors.len());
        reactors.features = Features::all_but(config.ring_features_off.iter().map(String::as_str))?;
        let r2t_bytes_max = reactors.arena_bytes / 4;
        let built = reactor::build::<Mail>(&reactors, &placement)?;
        let shards = config.shards.unwrap_or_else(|| shards(placement.cpus()));
        let format = FormatOptions::new(new_identity()?, shards, unix_nanos());
        let lead = LeadConfig {
            format,
            listen: config.listen.clone(),
            discovery: config.discovery.clone(),
            advertise: config.advertise.clone(),
            bench: config.bench.iter().map(bench_namespace).collect(),
            drives: drives.iter().map(|drive| drive.path().display().to_string()).collect(),
            reactors: vec![placement.to_string(), format!("ring features: {}", built.features)],
        };
        let map_bytes_max = config.map_memory_bytes.unwrap_or_else(|| memory_bytes() / 4);
        let mut options = ShardOptions { map_bytes_max, ..ShardOptions::default() };
        options.checkpoint_bytes = config.checkpoint_bytes.unwrap_or(options.checkpoint_bytes);
        let configure = |reactor| {
            let lead = (reactor == ReactorId(0)).then(|| lead.clone());
            let mut config = EngineConfig::new(lead, options.clone(), r2t_bytes_max);
            change(&mut config);
            config
        };
        let mut threads = Threads::new();
        let started =
            spawn(built.seeds, configure, &mut threads).and_then(|()| await_start(&threads, &drives));
        match started {
            Ok(identity) => Ok(Self { handle: handle(built.poster, drives), identity, placement, threads }),
            Err(error) => {
                abandon(threads, &built.poster);
                Err(error)
            }
        }
    }

    /// Tells where everything would run with this configuration, and starts nothing. Files of the pool that do not
    /// exist yet are not made; where they would be tells their node.
    ///
    /// # Errors
    /// When the cores that were asked for are not there.
    pub fn explain_placement(config: &Config) -> Result<String, PlacementError> {
        let nodes: Vec<Option<u32>> =
            config.pool.iter().map(|drive| reactor::node_of_path(&drive.path)).collect();
        let near: Vec<u32> = nodes.iter().copied().flatten().collect();
        let placement = Placement::choose(&cores(&config.reactors), &near)?;
        Ok(explain(config, &nodes, &placement))
    }

    /// The way to send actions.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Who it is and where it listens.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Keeps the calling thread, and those that it starts from now on, out of the reactors' way.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn step_aside(&self) -> std::io::Result<()> {
        self.placement.step_aside()
    }

    /// Waits until every reactor has ended, which [`Action::Stop`] brings about, or until one has that could not go on.
    /// The others serve on then, but never stop in order: what is left is to end the process.
    ///
    /// # Errors
    /// Why that one could not.
    ///
    /// # Panics
    /// If a reactor panicked: that is a bug, and what it held is as after a crash.
    pub fn wait(self) -> Result<(), IoFault> {
        self.threads.wait()
    }
}

/// Starts a thread for each reactor.
fn spawn(
    seeds: Vec<ReactorSeed<Mail>>,
    configure: impl Fn(ReactorId) -> EngineConfig,
    threads: &mut Threads<Report>,
) -> Result<(), StartError> {
    for seed in seeds {
        let config = configure(seed.id());
        let spawned = threads.start(|voice| {
            seed.spawn(move |reactor| {
                let result = match reactor {
                    Ok(reactor) => drive(reactor, config, &voice),
                    Err(error) => {
                        voice.say(Err(error.into()));
                        Ok(())
                    }
                };
                voice.end(result);
            })
        });
        spawned.map_err(|source| StartError::System { action: "start a reactor's thread", source })?;
    }
    Ok(())
}

/// Waits until hosts are served or it is known why they cannot be.
fn await_start(threads: &Threads<Report>, drives: &DriveSet) -> Result<Identity, StartError> {
    match threads.next() {
        Told::Said(Ok(identity)) => Ok(*identity),
        Told::Said(Err(StartError::Engine(engine::StartError::Pool(source)))) => {
            Err(StartError::Pool { source, drives: numbered(drives) })
        }
        Told::Said(Err(error)) => Err(error),
        Told::Ended(_) => Err(StartError::Lost),
    }
}

/// Ends what has begun of a start that was refused.
fn abandon(threads: Threads<Report>, poster: &Poster<Mail>) {
    for reactor in (0..poster.reactors()).map(ReactorId) {
        // Nobody else posts yet, so there is room. One that has ended takes no mail.
        drop(poster.post(reactor, Message::Abandon));
    }
    threads.join();
}

/// Drives one engine until it has stopped.
fn drive(mut reactor: Reactor<Mail>, config: EngineConfig, voice: &Voice<Report>) -> Result<(), IoFault> {
    let mut engine = Engine::new(config, &reactor);
    let mut events: Vec<EventOf<Reactor<Mail>>> = Vec::new();
    let mut deadline = engine.run(&mut reactor);
    loop {
        while let Some(notice) = engine.poll_notice() {
            match notice {
                Notice::Started(identity) => voice.say(Ok(identity)),
                Notice::Refused(error) => {
                    voice.say(Err(error.into()));
                    return Ok(());
                }
                Notice::ShardFailed(shard, failure) => {
                    tracing::error!(shard = shard.0, %failure, "a shard has failed; volumes answer with errors");
                }
                Notice::DirectoryFailed(fault) => {
                    tracing::error!(
                        %fault,
                        "the pool's directory has failed; until it is mended and the server is started again, volumes \
                         cannot be changed, and those that were just rolled back answer with errors"
                    );
                }
                Notice::Stopped => {
                    // Once more, so that the closes leave.
                    return reactor.poll(Some(io::Clock::now(&reactor)), &mut events);
                }
            }
        }
        if let Err(fault) = reactor.poll(deadline, &mut events) {
            tracing::error!(%fault, "the ring has failed; the reactor ends");
            return Err(fault);
        }
        for event in events.drain(..) {
            engine.handle(event, &mut reactor);
        }
        deadline = engine.run(&mut reactor);
    }
}

/// Management's way to reactor 0.
fn handle(poster: Poster<Mail>, drives: DriveSet) -> Handle {
    let joining = Arc::new(Joining::new(drives));
    let post = move |action: Action, reply: Reply| {
        if let Err(Message::Action { reply, .. }) =
            poster.post(ReactorId(0), Message::Action { action, reply })
        {
            reply(Err(ActionError::Busy));
        }
    };
    Handle::new(move |action: Action, reply: Reply| match action {
        Action::AddDrive { path } => joining.begin(path, reply, post.clone()),
        action => post(action, reply),
    })
}

/// Which drive has which number.
fn numbered(drives: &DriveSet) -> String {
    let named = drives
        .iter()
        .enumerate()
        .map(|(number, drive)| format!("drive {number}: {}", drive.path().display()));
    named.collect::<Vec<_>>().join(", ")
}

fn specs(config: &Config) -> Vec<DriveSpec> {
    let drives = config.pool.iter();
    drives
        .map(|drive| match drive.size_bytes {
            Some(size_bytes) => DriveSpec::sized(&drive.path, size_bytes, Fill::Written),
            None => DriveSpec::existing(&drive.path),
        })
        .collect()
}

fn cores(reactors: &Reactors) -> Cores {
    match reactors {
        Reactors::Auto => Cores::Auto,
        Reactors::Count(count) => Cores::Count(*count),
        Reactors::Cpus(cpus) => Cores::List(cpus.clone()),
    }
}

/// Shards of a new pool on a machine with so many CPUs: two for each that reactors get unless told otherwise, so that the
/// pool can be spread evenly over fewer. Requests that are open together are spread over the shards, and each shard's
/// batches have a header of their own, so that more would be paid for in bytes at the drive.
fn shards(cpus: usize) -> u16 {
    let wanted = u16::try_from(2 * cpus.saturating_sub(1)).unwrap_or(SHARDS_MAX).min(SHARDS_MAX);
    wanted.next_power_of_two().clamp(SHARDS_MIN, SHARDS_MAX)
}

/// The shards that pools are made with unless told otherwise.
const SHARDS_MIN: u16 = 2;
const SHARDS_MAX: u16 = 16;

/// A line for each drive and reactor, and for the rest.
fn explain(config: &Config, nodes: &[Option<u32>], placement: &Placement) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{} CPUs on {} NUMA node(s) may be used\n", placement.cpus(), placement.nodes);
    for (drive, node) in config.pool.iter().zip(nodes) {
        let node = node.map_or("not told by the system".to_owned(), |node| node.to_string());
        let _ = writeln!(text, "drive {}: node {node}", drive.path.display());
    }
    let count = placement.reactors.len();
    let shards = config.shards.unwrap_or_else(|| shards(placement.cpus()));
    for (index, cpu) in placement.reactors.iter().enumerate() {
        let _ = write!(text, "reactor {index}: CPU {}, core {}, node {}", cpu.number, cpu.core, cpu.node);
        if placement.nodes > 1 {
            let _ = write!(text, ", its buffers bound to node {}", cpu.node);
        }
        if !config.pool.is_empty() {
            let own: Vec<String> =
                (index..usize::from(shards)).step_by(count).map(|s| s.to_string()).collect();
            let own = if own.is_empty() { "none".to_owned() } else { own.join(" ") };
            let _ = write!(text, "; of a new pool's shards: {own}");
        }
        text += if index == 0 { "; listeners, admin queues, the pool's directory\n" } else { "\n" };
    }
    let others: Vec<String> = placement.others.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "management: CPU {}", others.join(" "));
    text
}

fn bench_namespace(bench: &Bench) -> BenchNamespace {
    match *bench {
        Bench::Null { size_bytes } => BenchNamespace { memory: false, size_bytes },
        Bench::Ram { size_bytes } => BenchNamespace { memory: true, size_bytes },
    }
}

/// Identities for a pool that has none yet.
fn new_identity() -> Result<engine::PoolIdentity, StartError> {
    Ok(engine::PoolIdentity { pool: new_uuid()?, cluster: new_uuid()?, node: new_uuid()? })
}

/// The time of day, in nanoseconds since 1970-01-01 UTC: of a new pool, of a run of a load.
#[expect(clippy::disallowed_methods, reason = "no reactor runs yet whose clock could tell")]
pub(crate) fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A random UUID. RFC 9562, section 5.4.
fn new_uuid() -> Result<[u8; 16], StartError> {
    let mut uuid = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut uuid))
        .map_err(|source| StartError::System { action: "read random bytes", source })?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// Memory that this process may use: the machine's, or what its control group leaves of it.
fn memory_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    // Where neither can be known it is better to have too little of the map in memory than too much.
    total.into_iter().chain(group).min().unwrap_or(4 << 30)
}

#[cfg(test)]
mod test {
    use reactor::Cpu;

    use super::*;

    fn config() -> Config {
        Config {
            pool: vec![crate::PoolDrive { path: "/nowhere/pool".into(), size_bytes: Some(1 << 30) }],
            shards: None,
            reactors: Reactors::Count(1),
            listen: Vec::new(),
            advertise: Vec::new(),
            discovery: Vec::new(),
            bench: Vec::new(),
            ring_features_off: Vec::new(),
            map_memory_bytes: None,
            checkpoint_bytes: None,
        }
    }

    #[test]
    fn new_pools_have_two_shards_for_each_cpu_of_a_reactor_within_bounds() {
        let counts = [1, 2, 3, 4, 6, 8, 64, 100_000].map(shards);
        assert_eq!(counts, [2, 2, 4, 8, 16, 16, 16, 16]);
    }

    #[test]
    fn a_placement_is_explained_reactor_by_reactor() {
        let cpu = |number, node| Cpu { number, core: number, node };
        let placement = Placement { reactors: vec![cpu(2, 1), cpu(3, 1)], others: vec![0, 1], nodes: 2 };
        let text = explain(&config(), &[Some(1)], &placement);
        assert_eq!(
            text,
            "4 CPUs on 2 NUMA node(s) may be used\n\
             drive /nowhere/pool: node 1\n\
             reactor 0: CPU 2, core 2, node 1, its buffers bound to node 1; of a new pool's shards: 0 2 4 6; \
             listeners, admin queues, the pool's directory\n\
             reactor 1: CPU 3, core 3, node 1, its buffers bound to node 1; of a new pool's shards: 1 3 5 7\n\
             management: CPU 0 1\n"
        );
    }

    #[test]
    fn explaining_touches_nothing() {
        let text = DataPlane::explain_placement(&config()).unwrap();
        assert!(text.contains("drive /nowhere/pool: node not told by the system"), "{text}");
        assert!(!std::path::Path::new("/nowhere").exists());
        let wanted = Config { reactors: Reactors::Count(9999), ..config() };
        assert!(DataPlane::explain_placement(&wanted).is_err());
    }
}
