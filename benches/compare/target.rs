//! The target under test: `ferrule serve` on one core, with its namespaces, and loads on it.

use std::net::{Ipv4Addr, TcpStream};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataplane::load::{self, LoadOptions, LoadReport, Pattern};
use tests::association::{Association, Identity, Queue};
use tests::server::{Server, Setup};

/// Sizes of the namespaces, by which they are told apart.
const NULL_BYTES: u64 = 1 << 40;
pub(crate) const RAM_BYTES: u64 = 1 << 30;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(120);

const SNAPSHOTS: &str = "/api/v2/projects/default/snapshots";

/// A running server and what it serves.
#[derive(Debug)]
pub(crate) struct Target {
    server: Server,
    subsystem_nqn: String,
    pub(crate) null: u32,
    pub(crate) ram: u32,
    /// A volume of half the pool; `None` without a pool.
    pub(crate) volume: Option<u32>,
    /// Resident memory before the first load.
    pub(crate) idle_bytes: u64,
    load_cpu: u32,
}

impl Target {
    /// Starts the server with its one reactor on `cpus.0`; loads will run on `cpus.1`.
    pub(crate) fn start(pool_mib: u64, cpus: (u32, u32)) -> Self {
        let reactors: &'static str = Box::leak(format!("{},", cpus.0).into_boxed_str());
        let setup = Setup { pool_mib, benches: vec!["null:1TiB", "ram:1GiB"], reactors, ..Setup::default() };
        let server = Server::start(&setup);
        let subsystem_nqn = server.nqn();
        let volume = (pool_mib > 0).then(|| nsid_of(&server.create_volume("compare", (pool_mib << 20) / 2)));
        let mut association = Association::connect(&Identity::new(server.port, &subsystem_nqn, 1));
        let sizes: Vec<(u32, u64)> = association
            .namespaces()
            .into_iter()
            .map(|nsid| {
                let identify = association.identify(0, nsid);
                let blocks = identify.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let shift = identify[128 + usize::from(identify[26] & 0xf) * 4 + 2];
                (nsid, blocks << shift)
            })
            .collect();
        let of_size = |bytes| sizes.iter().find(|(_, size)| *size == bytes).map(|(nsid, _)| *nsid);
        let null = of_size(NULL_BYTES).expect("the null namespace is served");
        let ram = of_size(RAM_BYTES).expect("the RAM namespace is served");
        let idle_bytes = server.resident_bytes();
        Self { server, subsystem_nqn, null, ram, volume, idle_bytes, load_cpu: cpus.1 }
    }

    /// Starts a server with a pool, one volume of `volume_bytes`, and further arguments.
    pub(crate) fn start_pool(pool_mib: u64, volume_bytes: u64, cpus: (u32, u32), arguments: &[&str]) -> Self {
        Self::start_on(&[cpus.0], pool_mib, volume_bytes, cpus.1, arguments)
    }

    /// The same with a reactor on each of `reactor_cpus`.
    pub(crate) fn start_on(
        reactor_cpus: &[u32],
        pool_mib: u64,
        volume_bytes: u64,
        load_cpu: u32,
        arguments: &[&str],
    ) -> Self {
        let reactors: String = reactor_cpus.iter().map(|cpu| format!("{cpu},")).collect();
        let reactors: &'static str = Box::leak(reactors.into_boxed_str());
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let server = Server::start(&Setup { pool_mib, reactors, arguments, ..Setup::default() });
        let subsystem_nqn = server.nqn();
        let idle_bytes = server.resident_bytes();
        let (null, ram) = (0, 0);
        let mut target = Self { server, subsystem_nqn, null, ram, volume: None, idle_bytes, load_cpu };
        target.volume = Some(target.create_volume("compare", volume_bytes));
        target
    }

    /// Makes another volume; returns its namespace.
    pub(crate) fn create_volume(&self, name: &str, size_bytes: u64) -> u32 {
        nsid_of(&self.server.create_volume(name, size_bytes))
    }

    /// Makes a volume that compresses what is written to it; returns its namespace.
    pub(crate) fn create_compressed(&self, name: &str, size_bytes: u64) -> u32 {
        let volume = self.server.create_volume_with(&serde_json::json!({
            "name": name, "size": size_bytes.to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1,
            "compression": "true"
        }));
        nsid_of(&volume)
    }

    /// True if the pool's drive has blocks so small that compressed ones save some.
    pub(crate) fn stores_units(&self) -> bool {
        self.server.log().contains("in blocks of 512")
    }

    /// Takes a snapshot of a volume, by their names.
    pub(crate) fn snapshot(&self, name: &str, volume: &str) {
        let body = serde_json::json!({"name": name, "sourceVolumeName": volume});
        let _ = self.server.client().post(SNAPSHOTS, &body);
    }

    /// Deletes a snapshot by its name.
    pub(crate) fn delete_snapshot(&self, name: &str) {
        let client = self.server.client();
        let found = client.get(&format!("{SNAPSHOTS}/?Name={name}"));
        client.delete(&format!("{SNAPSHOTS}/{}", found["UUID"].as_str().unwrap_or_default()));
    }

    /// Waits until what snapshots held that were deleted is given back.
    pub(crate) fn wait_for_space(&self) -> Result<(), String> {
        let begin = Instant::now();
        let client = self.server.client();
        let is_left = || {
            let all = client.get(&format!("{SNAPSHOTS}?showAll=true"));
            all["snapshots"].as_array().is_none_or(|all| all.iter().any(|one| one["state"] == "Deleting"))
        };
        while is_left() {
            if begin.elapsed() > START_LIMIT {
                return Err("the space of a deleted snapshot is not given back".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// A request that changes nothing.
    pub(crate) fn look(&self) {
        let _ = self.server.client().get(SNAPSHOTS);
    }

    /// How a host of its own names itself and the subsystem.
    pub(crate) fn identity(&self, host: u8) -> Identity {
        Identity::new(self.server.port, &self.subsystem_nqn, host)
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64, String> {
        let text = self.server.client().send("GET", "/metrics", &[], None).text;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.strip_prefix("ferrule_")?.rsplit_once(' ')?;
            let series = series.split('{').next().unwrap_or_default();
            (series == name).then(|| value.parse::<f64>().unwrap_or(0.0))
        });
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            Err(format!("the server has no metric {name}"))
        } else {
            Ok(values.iter().sum())
        }
    }

    /// Kills the server as a crash would.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the server; a running one is stopped in order first. Returns the time until hosts can connect.
    pub(crate) fn time_to_start(&mut self, running: bool) -> Duration {
        if running {
            self.server.terminate();
        }
        let connects = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        // The kernel takes the ring of a killed server apart, and closes its listener, after the process has ended.
        while connects(self.server.port) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let begin = Instant::now();
        self.server.launch();
        while !connects(self.server.port) {
            assert!(begin.elapsed() < START_LIMIT, "the server does not come up");
            self.server.expect_running();
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = begin.elapsed();
        self.server.wait_for_rest();
        took
    }

    /// A load on namespace `nsid`, before it is run.
    pub(crate) fn load(&self, nsid: u32, pattern: Pattern, depth: u16, time: Duration) -> LoadOptions {
        let target = ([127, 0, 0, 1], self.server.port).into();
        let mut options = LoadOptions::new(target, self.subsystem_nqn.clone(), nsid);
        options.pattern = pattern;
        options.queue_depth = depth;
        options.cpus = vec![self.load_cpu];
        options.ramp = Duration::from_millis(200);
        options.time = time;
        options.target_pid = Some(self.server.pid());
        options
    }

    /// Runs a load that must be clean. Each goes its own way at random: blocks that are overwritten in the order in which
    /// they were written make a log that needs little cleaning.
    pub(crate) fn run(options: &LoadOptions) -> Result<LoadReport, String> {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let seed = options.seed.wrapping_add(RUNS.fetch_add(1, Ordering::Relaxed) << 32);
        let report = load::run(&LoadOptions { seed, ..options.clone() }, |_| ControlFlow::Continue(()))
            .map_err(|error| error.to_string())?;
        if report.is_clean() { Ok(report) } else { Err(format!("commands failed: {:?}", report.errors)) }
    }

    /// Cores in use with `count` connections that do nothing.
    pub(crate) fn idle_with(&self, count: u8, time: Duration) -> f64 {
        let associations: Vec<_> = (0..count / 2).map(|number| self.connect(number)).collect();
        std::thread::sleep(Duration::from_millis(500));
        let before = self.server.processor_time();
        std::thread::sleep(time);
        let used = self.server.processor_time().saturating_sub(before);
        drop(associations);
        used.as_secs_f64() / time.as_secs_f64()
    }

    /// Resident memory before any host comes, and while `hosts` of them, with an admin and an I/O queue each, are
    /// connected and each has written and read the same place: a block, and what needs an R2T.
    pub(crate) fn memory_with(&self, hosts: u8) -> (u64, u64) {
        // One host more: what the first connection needs is the server's, not the connection's.
        let mut first = self.connect(u8::MAX - 10);
        self.exchange(&mut first.1);
        let before = self.server.resident_bytes();
        let mut associations: Vec<_> = (0..hosts).map(|number| self.connect(number)).collect();
        for (association, queue) in &mut associations {
            drop(association.identify(1, 0));
            self.exchange(queue);
        }
        let with = self.server.resident_bytes();
        drop((associations, first));
        (before, with)
    }

    fn exchange(&self, queue: &mut Queue) {
        for len in [4096, 65_536] {
            let data = vec![7; len];
            drop(queue.write(self.ram, 0, 4096, &data).expect_success("write"));
            assert!(queue.read(self.ram, 0, 4096, len).data == data, "what was written is read");
        }
    }

    fn connect(&self, number: u8) -> (Association, Queue) {
        let association = Association::connect(&self.identity(number.wrapping_add(10)));
        let queue = association.io_queue(1);
        (association, queue)
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The folder of the pool's file.
    pub(crate) fn folder(&self) -> PathBuf {
        let pool = self.server.pool();
        pool.parent().map(PathBuf::from).unwrap_or_default()
    }
}

fn nsid_of(volume: &serde_json::Value) -> u32 {
    volume["nsid"].as_u64().and_then(|nsid| u32::try_from(nsid).ok()).expect("a volume has an NSID")
}
