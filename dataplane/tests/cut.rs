//! Goal: with real threads, real sockets and a real file a snapshot is a point of its writers' histories. Method: chains of
//! writes, each sent only when the one before it was acknowledged, through another queue, to another stripe and so to
//! another shard and reactor. While they run snapshots are taken; what each holds of a chain, as a clone shows it, must be
//! its first so many writes: at least those acknowledged before the snapshot was asked for, at most those sent before it
//! was answered. Between the moments at which two shards decide what is before a snapshot there is less time than a write
//! takes; so that there are many writes in between, forks are also made to reach the other reactor late. Without the hold of
//! acknowledgements the same load then finds snapshots that are no point of any history.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use dataplane::{
    Action, Config, DataPlane, HostAcl, IpAcl, Limits, Outcome, Planted, PoolDrive, Reactors, SectorSize,
    SnapshotSpec, VolumeSpec, VolumeUuid,
};
use host::nvme::Nqn;
use host::nvme::command::{LbaRange, NvmCommand};
use host::nvme::fabrics::ConnectData;
use host::nvme::identify::AsyncEvents;
use host::{
    ConnectConfig, Controller, ControllerConfig, ControllerEvent, Payload, Phase, Queue, QueueConfig,
};
use io::Time;

/// Chains of writes at a time.
const CHAINS: u64 = 4;
/// Blocks of a chain.
const CHAIN_BLOCKS: u64 = 2000;
/// Stripes of the volume; a chain goes from each to the next.
const STRIPES: u64 = 32;
const STRIPE_BLOCKS: u64 = 256;
/// A target that says nothing for so long while somebody waits for it has hung.
const TARGET_SILENT_MAX: Duration = Duration::from_secs(60);

/// Where write `number` of a chain goes: a block of its own, in the stripe after that of the write before.
fn block_of(chain: u64, number: u64) -> u64 {
    number % STRIPES * STRIPE_BLOCKS + chain * (STRIPE_BLOCKS / CHAINS) + number / STRIPES
}

const _: () = assert!(CHAIN_BLOCKS / STRIPES < STRIPE_BLOCKS / CHAINS);

/// A data plane of two reactors on a file.
struct Target {
    plane: Option<DataPlane>,
    pool: PathBuf,
}

impl Target {
    fn start(planted: Option<Planted>) -> Self {
        let name = format!("ferrule-cut-{}-{planted:?}", std::process::id());
        let pool = std::env::temp_dir().join(name);
        let config = Config {
            pool: vec![PoolDrive { path: pool.clone(), size_bytes: Some(256 << 20) }],
            shards: Some(8),
            reactors: Reactors::Count(2),
            map_memory_bytes: None,
            checkpoint_bytes: None,
            listen: vec![([127, 0, 0, 1], 0).into()],
            advertise: Vec::new(),
            discovery: Vec::new(),
            bench: Vec::new(),
            ring_features_off: Vec::new(),
        };
        Self { plane: Some(DataPlane::start_wrong(&config, planted).unwrap()), pool }
    }

    fn plane(&self) -> &DataPlane {
        self.plane.as_ref().unwrap()
    }

    fn ask(&self, action: Action) -> Outcome {
        let (done, answer) = mpsc::channel();
        self.plane().handle().submit(action, move |outcome| done.send(outcome).unwrap());
        answer.recv().unwrap().unwrap()
    }

    fn connect(&self, number: u8) -> Association {
        let identity = self.plane().identity();
        Association::connect(identity.listen[0], &identity.subsystem_nqn, number)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            let (done, is_done) = mpsc::channel();
            plane.handle().submit(Action::Stop, move |outcome| done.send(outcome.is_ok()).unwrap());
            assert!(is_done.recv().unwrap());
            plane.wait().unwrap();
        }
        std::fs::remove_file(&self.pool).unwrap();
    }
}

/// A host's association with two I/O queues, which the target puts on its two reactors.
struct Association {
    // Kept open: the queues end with it.
    _admin: (Controller, TcpStream),
    queues: Vec<(Queue<Vec<u8>>, TcpStream)>,
}

impl Association {
    fn connect(address: SocketAddr, subsystem: &str, number: u8) -> Self {
        let nqn = format!("nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-0000000000{number:02}");
        let connect = ConnectConfig {
            host_id: [number; 16],
            host_nqn: Nqn::new(&nqn).unwrap(),
            subsystem_nqn: Nqn::new(subsystem).unwrap(),
            cntlid: ConnectData::CNTLID_DYNAMIC,
            kato_ms: 120_000,
            disable_sq_flow_control: false,
        };
        let config = ControllerConfig {
            admin: QueueConfig::admin(connect),
            io_queues: 2,
            io_queue_entries: 64,
            async_event_requests: 1,
            async_events: AsyncEvents::default(),
            step_timeout: Duration::from_secs(20),
        };
        // None of its timers is needed.
        let now = Time(0);
        let mut stream = open(address);
        let mut admin = Controller::new(config, now);
        let mut bytes = [0; 8192];
        'ready: loop {
            while let Some(event) = admin.poll_event() {
                match event {
                    ControllerEvent::Ready => break 'ready,
                    ControllerEvent::Failed(fault) => panic!("no association: {fault:?}"),
                    _ => {}
                }
            }
            while let Some(out) = admin.poll_transmit() {
                let count = stream.write(out).unwrap();
                admin.transmitted(now, count);
            }
            let count = receive(&mut stream, &mut bytes);
            admin.handle_bytes(now, &bytes[..count]);
        }
        let queues = (1..=2).map(|qid| {
            let mut queue = (Queue::new(admin.io_queue_config(qid).unwrap()), open(address));
            pump(&mut queue, |queue| matches!(queue.phase(), Phase::Live(_)));
            queue
        });
        let queues = queues.collect();
        Self { _admin: (admin, stream), queues }
    }

    /// One command on one of the queues, from its submission to its end.
    fn run(&mut self, queue: usize, nsid: u32, command: NvmCommand, payload: Payload<Vec<u8>>) -> Vec<u8> {
        let queue = &mut self.queues[queue];
        queue.0.submit(command.encode(nsid), payload).unwrap();
        let mut end = None;
        pump(queue, |queue| {
            end = end.take().or_else(|| queue.poll_completion());
            end.is_some()
        });
        let end = end.unwrap();
        assert!(end.result.unwrap().status.is_success());
        if let Payload::Read(data) = end.payload { data } else { Vec::new() }
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TARGET_SILENT_MAX)).unwrap();
    stream
}

fn receive(stream: &mut TcpStream, bytes: &mut [u8]) -> usize {
    loop {
        match stream.read(bytes) {
            Ok(count) => {
                assert!(count > 0, "the target has closed the connection");
                return count;
            }
            // A read that may time out is not taken up again by itself.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Moves bytes until `done`.
fn pump(pair: &mut (Queue<Vec<u8>>, TcpStream), mut done: impl FnMut(&mut Queue<Vec<u8>>) -> bool) {
    let (queue, stream) = pair;
    let mut bytes = [0; 65_536];
    loop {
        while let Some(out) = queue.poll_transmit() {
            let count = stream.write(out).unwrap();
            queue.transmitted(count);
        }
        if done(queue) {
            return;
        }
        let count = receive(stream, &mut bytes);
        queue.handle_bytes(&bytes[..count]).unwrap();
    }
}

/// How far a chain has come.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

/// Writes a chain until it is stopped or at its end.
fn write_chain(mut host: Association, nsid: u32, chain: u64, progress: &Progress, stop: &AtomicBool) {
    for number in 0..CHAIN_BLOCKS {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let bytes = (number + 1).to_le_bytes().repeat(512);
        progress.sent.store(number + 1, Ordering::SeqCst);
        let write = NvmCommand::Write(LbaRange::new(block_of(chain, number), 1));
        host.run(usize::try_from(number % 2).unwrap(), nsid, write, Payload::Write(bytes));
        progress.acknowledged.store(number + 1, Ordering::SeqCst);
    }
}

/// How many writes of a chain a volume holds; nothing where these are not its first.
fn held(host: &mut Association, nsid: u32, chain: u64) -> Option<u64> {
    let mut held = Vec::new();
    for stripe in 0..STRIPES {
        // What the chain wrote to a stripe lies side by side.
        let blocks = (CHAIN_BLOCKS - stripe).div_ceil(STRIPES);
        let range = LbaRange::new(block_of(chain, stripe), u32::try_from(blocks).unwrap());
        let room = Payload::Read(vec![0; usize::try_from(blocks).unwrap() * 4096]);
        let data = host.run(0, nsid, NvmCommand::Read(range), room);
        for (block, number) in data.chunks_exact(4096).zip((stripe..).step_by(STRIPES as usize)) {
            let stamp = u64::from_le_bytes(block[..8].try_into().unwrap());
            assert!(block.chunks_exact(8).all(|word| *word == stamp.to_le_bytes()), "a block is torn");
            assert!(stamp == 0 || stamp == number + 1, "block of write {number} holds {stamp}");
            held.extend((stamp != 0).then_some(number));
        }
    }
    held.sort_unstable();
    let count = held.len() as u64;
    held.iter().copied().eq(0..count).then_some(count)
}

fn volume_spec(uuid: u8) -> VolumeSpec {
    VolumeSpec {
        uuid: VolumeUuid([uuid; 16]),
        project: "default".into(),
        name: format!("v{uuid}"),
        size_bytes: STRIPES * STRIPE_BLOCKS * 4096,
        sector: SectorSize::B4096,
        acl: HostAcl::Any,
        ip_acl: IpAcl::Any,
        compression: false,
        limits: Limits::default(),
        attributes: String::new(),
    }
}

fn snapshot_spec(uuid: u8) -> SnapshotSpec {
    SnapshotSpec {
        uuid: VolumeUuid([uuid; 16]),
        name: format!("s{uuid}"),
        source: VolumeUuid([1; 16]),
        retention_s: 0,
        attributes: String::new(),
    }
}

/// Takes snapshots under load; those that are no point of a chain's history, or of the wrong one, as (snapshot, chain).
fn snapshots_gone_wrong(planted: Option<Planted>, snapshots: u8) -> Vec<(u8, u64)> {
    let target = Target::start(planted);
    let Outcome::Volume(volume) = target.ask(Action::CreateVolume(volume_spec(1))) else {
        panic!("a volume")
    };
    let chains: Vec<Progress> = (0..CHAINS).map(|_| Progress::default()).collect();
    let stop = AtomicBool::new(false);
    let sent = |chains: &[Progress]| -> Vec<u64> {
        chains.iter().map(|chain| chain.sent.load(Ordering::SeqCst)).collect()
    };
    let mut bounds = Vec::new();
    std::thread::scope(|scope| {
        for (chain, progress) in (0..).zip(&chains) {
            let host = target.connect(u8::try_from(chain).unwrap() + 1);
            let (nsid, stop) = (volume.nsid, &stop);
            scope.spawn(move || write_chain(host, nsid, chain, progress, stop));
        }
        for snapshot in 0..snapshots {
            // Each a good way further, as long as the chains go on.
            let from: u64 = sent(&chains).iter().sum();
            let far = |chains: &[Progress]| {
                let now = sent(chains);
                now.iter().sum::<u64>() >= from + 120 || now.iter().all(|sent| *sent == CHAIN_BLOCKS)
            };
            while !far(&chains) {
                std::thread::yield_now();
            }
            let least: Vec<u64> =
                chains.iter().map(|chain| chain.acknowledged.load(Ordering::SeqCst)).collect();
            target.ask(Action::CreateSnapshot(snapshot_spec(100 + snapshot)));
            bounds.push((least, sent(&chains)));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut host = target.connect(20);
    let mut wrong = Vec::new();
    for (snapshot, (least, most)) in (0..).zip(bounds) {
        let source = VolumeUuid([100 + snapshot; 16]);
        let clone = Action::CloneVolume { spec: volume_spec(50 + snapshot), source };
        let Outcome::Volume(clone) = target.ask(clone) else { panic!("a clone") };
        for (chain, (least, most)) in (0..).zip(least.into_iter().zip(most)) {
            let count = held(&mut host, clone.nsid, chain);
            println!("snapshot {snapshot} holds {count:?} writes of chain {chain}, of {least} to {most}");
            if !count.is_some_and(|count| (least..=most).contains(&count)) {
                wrong.push((snapshot, chain));
            }
        }
    }
    wrong
}

#[test]
fn snapshots_under_load_from_many_threads_are_points_of_every_writers_history() {
    assert_eq!(snapshots_gone_wrong(None, 40), []);
    assert_eq!(snapshots_gone_wrong(Some(Planted::LateForks), 20), []);
    // And that would be seen.
    assert_ne!(snapshots_gone_wrong(Some(Planted::ForgetHold), 20), []);
}
