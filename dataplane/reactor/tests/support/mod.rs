//! What the reactor's tests share: reactors on the calling thread, polls with a limit, scratch folders.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use io::{Clock, ConnectionId, Event, EventOf, Io, ListenerId, Net, Purpose, SendList};
use reactor::{
    ArenaBuffer, Cpu, DriveSet, DriveSpec, Feature, Features, Fill, OwnedSocket, Placement, Poster, Reactor,
    ReactorConfig, ReactorSeed,
};

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Happened<M> = EventOf<Reactor<M>>;

/// Everything on, everything off, each one off, each one alone.
pub(crate) fn feature_sets() -> Vec<Features> {
    let mut sets = vec![Features::all(), Features::none()];
    for feature in Feature::ALL {
        let mut without = Features::all();
        without.remove(feature);
        sets.push(without);
        let mut alone = Features::none();
        alone.insert(feature);
        sets.push(alone);
    }
    sets
}

/// Small sizes, no pinning.
pub(crate) fn config(features: Features, drives: DriveSet) -> ReactorConfig {
    ReactorConfig {
        features,
        arena_bytes: 16 << 20,
        connections_max: 2048,
        pin: false,
        submission_entries: 64,
        ..ReactorConfig::new(drives, 2)
    }
}

pub(crate) fn placement(count: u32) -> Placement {
    let reactors = (0..count).map(|_| Cpu { number: 0, core: 0, node: 0 }).collect();
    Placement { reactors, others: Vec::new(), nodes: 1 }
}

pub(crate) fn seeds<M: Send>(config: &ReactorConfig, count: u32) -> (Vec<ReactorSeed<M>>, Poster<M>) {
    let built = reactor::build(config, &placement(count)).unwrap();
    (built.seeds, built.poster)
}

/// One reactor on the calling thread.
pub(crate) fn single(config: &ReactorConfig) -> Reactor<u64> {
    seeds(config, 1).0.remove(0).start().unwrap()
}

/// One reactor without drives.
pub(crate) fn bare(features: Features) -> Reactor<u64> {
    single(&config(features, DriveSet::none()))
}

/// Polls until `wanted` has been found in the events; those before it go to `wanted` too.
pub(crate) fn until<M: Send, T>(
    reactor: &mut Reactor<M>,
    mut wanted: impl FnMut(&mut Reactor<M>, Happened<M>) -> Option<T>,
) -> T {
    let give_up = std::time::Instant::now() + PATIENCE;
    let mut events = Vec::new();
    let mut found = None;
    while found.is_none() {
        assert!(std::time::Instant::now() < give_up, "nothing came within {PATIENCE:?}");
        let deadline = reactor.now() + PATIENCE;
        reactor.poll(Some(deadline), &mut events).unwrap();
        for event in events.drain(..) {
            let is_found = wanted(reactor, event);
            if found.is_none() {
                found = is_found;
            }
        }
    }
    found.unwrap()
}

/// Polls for a time and returns what came.
pub(crate) fn poll_for<M: Send>(reactor: &mut Reactor<M>, time: Duration) -> Vec<Happened<M>> {
    let mut events = Vec::new();
    reactor.poll(Some(reactor.now()), &mut events).unwrap();
    let end = reactor.now() + time;
    while reactor.now() < end {
        reactor.poll(Some(end), &mut events).unwrap();
    }
    events
}

/// A listener on a free port of the loopback interface.
pub(crate) fn listen<M: Send>(reactor: &mut Reactor<M>) -> SocketAddr {
    reactor.listen(ListenerId(7), "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// The next connection that arrives, adopted.
pub(crate) fn accept<M: Send>(reactor: &mut Reactor<M>) -> ConnectionId {
    let socket = until(reactor, |_, event| match event {
        Event::Accepted { listener: ListenerId(7), socket, .. } => Some(socket),
        _ => None,
    });
    reactor.adopt(socket).unwrap()
}

/// Both ends of a connection: a standard stream, and a connection of the reactor.
pub(crate) fn pair<M: Send>(reactor: &mut Reactor<M>) -> (std::net::TcpStream, ConnectionId) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = OwnedSocket::from(listener.accept().unwrap().0);
    theirs.set_nodelay(true).unwrap();
    (theirs, reactor.adopt(ours).unwrap())
}

/// A list that sends `bytes` from a header.
pub(crate) fn list_of(bytes: &[u8]) -> SendList<ArenaBuffer> {
    let mut list = SendList::new();
    list.push_header(bytes);
    list
}

/// A buffer filled with bytes that follow from `seed`.
pub(crate) fn patterned<M: Send>(reactor: &mut Reactor<M>, len: usize, seed: u8) -> ArenaBuffer {
    use io::Memory;
    let mut buffer = reactor.allocate(len, Purpose::Data).expect("the arena is large enough for the test");
    buffer.iter_mut().zip(pattern(seed)).for_each(|(byte, value)| *byte = value);
    buffer
}

pub(crate) fn pattern(seed: u8) -> impl Iterator<Item = u8> {
    (0_u32..).map(move |index| (index.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
}

/// Memory of this process that is there.
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A folder that is removed at the end, on the disk that holds the target folder.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reactor-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Sparse pool files of `mib` each.
    pub(crate) fn drives(&self, count: usize, mib: u64) -> DriveSet {
        let specs: Vec<_> = (0..count)
            .map(|index| DriveSpec::sized(self.path(&format!("drive-{index}")), mib << 20, Fill::Sparse))
            .collect();
        DriveSet::open(&specs).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
