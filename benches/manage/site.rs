//! The server under test, and where its threads run.

use dataplane::load::{LoadOptions, Pattern, Waiting};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tests::server::{Server, Setup};

use crate::Options;
use crate::rest::Endpoint;

/// CPU of the servers.
pub(crate) const SERVER_CPU: u32 = 0;
/// CPU of what asks them.
pub(crate) const CLIENT_CPU: u32 = 1;
/// Where the volumes of the default project are.
pub(crate) const VOLUMES: &str = "/api/v2/projects/default/volumes";

/// A server with one reactor.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) token: String,
    /// The REST interface.
    pub(crate) api: Endpoint,
}

impl Site {
    /// Starts a server with a pool of `pool_mib` and these bench namespaces.
    pub(crate) fn start(pool_mib: u64, benches: Vec<&'static str>) -> Self {
        let server = Server::start(&Setup { pool_mib, benches, reactors: "0,", ..Setup::default() });
        let token = server.token("system.jwt");
        let certificate = CertificateDer::from_pem_file(server.state().join("tls/cert.pem"));
        let certificate = certificate.expect("the server has made its certificate");
        let api = Endpoint::new(([127, 0, 0, 1], server.api).into(), certificate);
        Self { server, token, api: api.expect("the certificate can be trusted") }
    }

    /// Puts every thread of the server on `cpu`.
    pub(crate) fn pin(&self, cpu: u32) -> Result<(), String> {
        let path = format!("/proc/{}/task", self.server.pid());
        for entry in std::fs::read_dir(path).map_err(|error| error.to_string())?.flatten() {
            let thread =
                entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            sched_setaffinity(thread, &one(cpu)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Random reads of a namespace at a fixed rate, by a thread that sleeps between them.
    pub(crate) fn reads(&self, nsid: u32, rate: Option<u32>, options: &Options) -> LoadOptions {
        let target = ([127, 0, 0, 1], self.server.port).into();
        let mut load = LoadOptions::new(target, self.server.nqn(), nsid);
        load.pattern = Pattern::RandRead;
        load.rate = rate;
        load.waiting = Waiting::Block;
        load.ramp = std::time::Duration::from_millis(300);
        load.time = options.time;
        load.target_pid = Some(self.server.pid());
        load
    }
}

/// A request for a volume that any host may use.
pub(crate) fn volume(name: &str, bytes: u64) -> Value {
    json!({"name": name, "size": bytes.to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1})
}

/// A volume's namespace.
pub(crate) fn nsid_of(volume: &Value) -> Result<u32, String> {
    volume["nsid"].as_u64().and_then(|nsid| u32::try_from(nsid).ok()).ok_or_else(|| volume.to_string())
}

/// Gives the calling thread, and those that it starts, the CPU before all others of this program and of the server: a
/// host has CPUs of its own, and only what the server does to it is asked for. False where this is not permitted.
pub(crate) fn go_first() -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let chrt = std::process::Command::new("chrt").args(["--fifo", "--pid", "1", &thread]).output();
    chrt.is_ok_and(|output| output.status.success())
}

/// Puts the calling thread on `cpu`, where that can be done.
pub(crate) fn pin_this_thread(cpu: u32) {
    sched_setaffinity(None, &one(cpu)).ok();
}

fn one(cpu: u32) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    set
}
