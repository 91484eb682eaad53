//! Starts engines on reactors' threads and drives them.

use std::io::Read as _;
use std::sync::mpsc;
use std::thread::JoinHandle;

use engine::{
    Action, ActionError, BenchNamespace, Engine, EngineConfig, FormatOptions, Identity, LeadConfig, Message,
    Notice, ShardOptions,
};
use io::{EventOf, Io as _, IoFault, ReactorId};
use reactor::{
    ArenaBuffer, Cores, DriveError, DriveSet, DriveSpec, Features, Fill, OwnedSocket, Placement,
    PlacementError, Poster, Reactor, ReactorConfig, UnknownFeature,
};
use thiserror::Error;

use crate::config::{Bench, Config, Reactors};
use crate::handle::{Handle, Reply};

/// The mail of real reactors.
type Mail = Message<ArenaBuffer, OwnedSocket>;

/// A data plane that serves hosts.
#[derive(Debug)]
pub struct DataPlane {
    handle: Handle,
    identity: Identity,
    threads: Vec<JoinHandle<Result<(), IoFault>>>,
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

/// What a reactor's thread reports while the data plane starts.
type Report = Result<Option<Box<Identity>>, StartError>;

impl DataPlane {
    /// Opens the pool (formatting it if it is blank), recovers it, and listens. Returns once hosts can connect.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        if config.pool.is_empty() && config.bench.is_empty() {
            return Err(StartError::Empty);
        }
        let drives = DriveSet::open(&specs(config))?;
        let placement = Placement::choose(&cores(&config.reactors), drives.node())?;
        let mut reactors = ReactorConfig::new(drives.clone(), placement.reactors.len());
        reactors.features = Features::all_but(config.ring_features_off.iter().map(String::as_str))?;
        let r2t_bytes_max = reactors.arena_bytes / 4;
        let built = reactor::build::<Mail>(&reactors, &placement)?;
        let lead = LeadConfig {
            format: FormatOptions::new(new_identity()?, unix_nanos()),
            listen: config.listen.clone(),
            discovery: config.discovery.clone(),
            advertise: config.advertise.clone(),
            bench: config.bench.iter().map(bench_namespace).collect(),
            drives: drives.iter().map(|drive| drive.path().display().to_string()).collect(),
            reactors: vec![placement.to_string(), format!("ring features: {}", built.features)],
        };
        let (report, reports) = mpsc::channel::<Report>();
        let mut threads = Vec::new();
        for seed in built.seeds {
            let lead = (seed.id() == ReactorId(0)).then(|| lead.clone());
            let config = EngineConfig::new(lead, ShardOptions::default(), r2t_bytes_max);
            let report = report.clone();
            let thread = seed.spawn(move |reactor| match reactor {
                Ok(reactor) => drive(reactor, config, &report),
                Err(error) => {
                    drop(report.send(Err(error.into())));
                    Ok(())
                }
            });
            threads.push(
                thread.map_err(|source| StartError::System { action: "start a reactor's thread", source })?,
            );
        }
        drop(report);
        let identity = loop {
            match reports.recv() {
                Ok(Ok(Some(identity))) => break *identity,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(mpsc::RecvError) => return Err(StartError::Lost),
            }
        };
        Ok(Self { handle: handle(built.poster), identity, threads })
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

    /// Waits until every reactor has ended, which [`Action::Stop`] brings about.
    ///
    /// # Errors
    /// The first ring that failed, if one did.
    ///
    /// # Panics
    /// If a reactor panicked: that is a bug, and what it held is as after a crash.
    pub fn wait(self) -> Result<(), IoFault> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended = thread.join().expect("a reactor ends in order");
            result = result.and(ended);
        }
        result
    }
}

/// Drives one engine until it has stopped.
fn drive(
    mut reactor: Reactor<Mail>,
    config: EngineConfig,
    report: &mpsc::Sender<Report>,
) -> Result<(), IoFault> {
    let mut engine = Engine::new(config, &reactor);
    let mut events: Vec<EventOf<Reactor<Mail>>> = Vec::new();
    let mut deadline = engine.run(&mut reactor);
    loop {
        while let Some(notice) = engine.poll_notice() {
            match notice {
                Notice::Started(identity) => drop(report.send(Ok(Some(identity)))),
                Notice::Refused(error) => {
                    drop(report.send(Err(error.into())));
                    return Ok(());
                }
                Notice::ShardFailed(shard, failure) => {
                    tracing::error!(shard = shard.0, %failure, "a shard has failed; its volumes answer with errors");
                }
                Notice::DirectoryFailed(fault) => {
                    tracing::error!(%fault, "the pool's directory has failed; volumes cannot be changed");
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
fn handle(poster: Poster<Mail>) -> Handle {
    Handle::new(move |action: Action, reply: Reply| {
        if let Err(Message::Action { reply, .. }) =
            poster.post(ReactorId(0), Message::Action { action, reply })
        {
            reply(Err(ActionError::Busy));
        }
    })
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

/// When a new pool was made.
#[expect(clippy::disallowed_methods, reason = "no reactor runs yet whose clock could tell")]
fn unix_nanos() -> u64 {
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
