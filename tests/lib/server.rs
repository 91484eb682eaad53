//! A running `ferrule serve` with folders and ports of its own, killed when dropped.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rest::Client;
use crate::scratch::{Scratch, build_folder, free_port, wait_until};

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Size of the embedded pool in MiB; 0 is a server without a pool.
    pub pool_mib: u64,
    /// Bench namespaces, as `--bench` takes them.
    pub benches: Vec<&'static str>,
    /// The address of the NVMe/TCP listeners, as it stands before `:PORT`.
    pub address: &'static str,
    /// The address advertised in the discovery log, where it is another.
    pub advertise: Option<&'static str>,
    /// Number or list of reactors.
    pub reactors: &'static str,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pool_mib: 1024,
            benches: Vec::new(),
            address: "127.0.0.1",
            advertise: None,
            reactors: "2",
            arguments: Vec::new(),
        }
    }
}

impl Setup {
    /// A server for what volumes hold nothing of: a small pool, made at once.
    #[must_use]
    pub fn small() -> Self {
        Self { pool_mib: 256, reactors: "1", ..Self::default() }
    }
}

/// A server, running or stopped.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    arguments: Vec<String>,
    scratch: Scratch,
    /// The port of the I/O listener.
    pub port: u16,
    /// The port of the discovery listener.
    pub discovery: u16,
    /// The port of the REST interface.
    pub api: u16,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up; the message has its log's end.
    #[must_use]
    pub fn start(setup: &Setup) -> Self {
        let mut server = Self::prepare(setup);
        server.restart();
        server
    }

    /// Chooses folders and ports without starting anything.
    #[must_use]
    pub fn prepare(setup: &Setup) -> Self {
        let scratch = Scratch::new("server");
        let (port, discovery, api) = (free_port(), free_port(), free_port());
        let address = setup.address;
        let mut arguments = vec!["serve".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--state", scratch.join("state").display().to_string());
        if setup.pool_mib > 0 {
            option("--pool", format!("{}:{}MiB", scratch.join("pool").display(), setup.pool_mib));
        }
        option("--reactors", setup.reactors.to_owned());
        option("--listen", format!("{address}:{port}"));
        option("--discovery", format!("{address}:{discovery}"));
        option("--api", format!("127.0.0.1:{api}"));
        if let Some(advertise) = setup.advertise {
            option("--advertise", advertise.to_owned());
        }
        for bench in &setup.benches {
            option("--bench", (*bench).to_owned());
        }
        arguments.extend(setup.arguments.iter().cloned());
        Self { child: None, arguments, scratch, port, discovery, api }
    }

    /// Starts the server with the arguments it had before, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already or does not come up; the message has its log's end.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_for_rest();
    }

    /// Waits until a launched server answers.
    ///
    /// # Panics
    /// If it does not come up; the message has its log's end.
    pub fn wait_for_rest(&mut self) {
        let client = Client::new(&self.endpoint(), "");
        wait_until("the REST interface answers", START_LIMIT, || {
            self.expect_running();
            client.try_send("GET", "/api/v2/version", &[], None).is_ok()
        });
    }

    /// Starts the process without waiting.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn launch(&mut self) {
        let log = self.open_log();
        self.launch_onto(log);
    }

    /// Starts the process without waiting, with both outputs going to `output`.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn launch_onto(&mut self, output: File) {
        assert!(self.child.is_none(), "the server runs already");
        let mut command = Command::new(binary());
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the server's output"))
            .stderr(output);
        self.child = Some(command.spawn().expect("start ferrule"));
    }

    /// Gives an option another value, or none, from the next start on.
    pub fn set_option(&mut self, name: &str, value: Option<&str>) {
        if let Some(at) = self.arguments.iter().position(|argument| argument == name) {
            self.arguments.drain(at..(at + 2).min(self.arguments.len()));
        }
        self.arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_owned()]));
    }

    /// Runs a command that needs no server.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).output().expect("run ferrule")
    }

    /// Runs a second server on the same pool, with other folders and ports, to its end.
    ///
    /// # Panics
    /// If it does not end within 20 s.
    #[must_use]
    pub fn run_rival(&self) -> Output {
        let pool = format!("{}:1024MiB", self.pool().display());
        let (listen, discovery, api) = (free_port(), free_port(), free_port());
        let mut command = Command::new("timeout");
        command.arg("20").arg(binary()).arg("serve").arg("--state").arg(self.scratch.join("rival-state"));
        command.args(["--pool", &pool, "--listen", &format!("127.0.0.1:{listen}")]);
        command.args([
            "--discovery",
            &format!("127.0.0.1:{discovery}"),
            "--api",
            &format!("127.0.0.1:{api}"),
        ]);
        let output = command.output().expect("run a second server");
        assert_ne!(output.status.code(), Some(124), "a second server on the same pool runs");
        output
    }

    /// Expects a launched server to end by itself with an error; returns its output.
    ///
    /// # Panics
    /// If it runs on or ends without an error.
    #[must_use]
    pub fn expect_refusal(&mut self, limit: Duration) -> String {
        let status = self.wait_for_end("the server ends by itself", limit);
        assert!(!status.success(), "the server ended well:\n{}", self.log());
        self.log()
    }

    /// Ends the server with SIGKILL, as a crash does.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("kill the server");
        child.wait().expect("wait for the server");
    }

    /// Ends the server with SIGTERM and returns how it ended.
    ///
    /// # Panics
    /// If it does not run or does not end within 30 s.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_end("the server ends after SIGTERM", Duration::from_secs(30))
    }

    /// How the server ended. One that does not end stays this one's, which kills it.
    fn wait_for_end(&mut self, what: &str, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("the server was launched");
        let mut status = None;
        wait_until(what, limit, || {
            status = child.try_wait().expect("ask for the server's status");
            status.is_some()
        });
        self.child = None;
        status.expect("waited for")
    }

    /// Sends a signal by name, such as `STOP`.
    ///
    /// # Panics
    /// If the server does not run.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success(), "SIG{name} to the server");
    }

    /// Fails with the log's end when the process has ended by itself.
    ///
    /// # Panics
    /// If it has.
    pub fn expect_running(&mut self) {
        let child = self.child.as_mut().expect("the server runs");
        if let Some(status) = child.try_wait().expect("ask for the server's status") {
            self.child = None;
            panic!("the server ended with {status}:\n{}", self.log_end());
        }
    }

    /// A client with the cluster administrator's token.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.endpoint(), &self.token("system.jwt"))
    }

    /// The content of a token file in the state folder.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn token(&self, name: &str) -> String {
        let path = self.state().join(name);
        let token =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        token.trim().to_owned()
    }

    /// Runs the command line as a client of this server.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .args(["--endpoint", &self.endpoint(), "--insecure-skip-tls-verify"])
            .env("FERRULE_JWT", self.token("system.jwt"))
            .output()
            .expect("run ferrule")
    }

    /// Runs a command of the command line that must succeed, and returns its output.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn cli_ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ferrule {arguments:?}: {}\n{errors}", output.status);
        String::from_utf8(output.stdout).expect("the command line prints UTF-8")
    }

    /// Creates a volume that any host may use; returns it.
    ///
    /// # Panics
    /// If it is refused or does not become available.
    #[must_use]
    pub fn create_volume(&self, name: &str, size_bytes: u64) -> Value {
        self.create_volume_with(&json!({
            "name": name, "size": size_bytes.to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1
        }))
    }

    /// Creates a volume in the default project and waits until it is available; returns it.
    ///
    /// # Panics
    /// If it is refused or does not become available.
    #[must_use]
    pub fn create_volume_with(&self, request: &Value) -> Value {
        let client = self.client();
        let volume = client.post("/api/v2/projects/default/volumes", request);
        let path = volume_path(&volume);
        wait_until("the volume is available", Duration::from_secs(10), || {
            client.get(&path)["state"] == "Available"
        });
        client.get(&path)
    }

    /// The subsystem's NQN.
    ///
    /// # Panics
    /// If the cluster resource has none.
    #[must_use]
    pub fn nqn(&self) -> String {
        self.client().get("/api/v2/cluster")["subsystemNQN"].as_str().expect("subsystemNQN").to_owned()
    }

    /// The server's resident memory.
    ///
    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS in status");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// Processor time that the server has used.
    ///
    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the server runs");
        // Fields 14 and 15 of proc_pid_stat(5); the name before them may hold spaces.
        let fields = stat.rsplit_once(')').expect("a name in stat").1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// How many files and sockets the server has open.
    ///
    /// # Panics
    /// If the server does not run.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// The process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// The arguments that it is started with; a test may change them between two runs.
    pub fn arguments(&mut self) -> &mut Vec<String> {
        &mut self.arguments
    }

    /// The REST endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.api)
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// The pool's file.
    #[must_use]
    pub fn pool(&self) -> PathBuf {
        self.scratch.join("pool")
    }

    /// The server's output of all its runs.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.scratch.join("log")).unwrap_or_default()).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn open_log(&self) -> File {
        let path = self.scratch.join("log");
        OpenOptions::new().create(true).append(true).open(path).expect("open the server's log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("server's log ends:\n{}", self.log_end());
        }
    }
}

/// The path of a volume in the REST interface.
///
/// # Panics
/// If `volume` has no UUID.
#[must_use]
pub fn volume_path(volume: &Value) -> String {
    format!("/api/v2/projects/default/volumes/{}", volume["UUID"].as_str().expect("a volume's UUID"))
}

/// The program under test: `$FERRULE_BIN`, else the one that lies where this test was built.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("FERRULE_BIN").map_or_else(|| build_folder().join("ferrule"), PathBuf::from);
    let hint = "build it with: cargo build --profile test --package mgmt";
    assert!(Path::exists(&path), "no {}: {hint}", path.display());
    path
}

/// A pool of 1 GiB is written once in full when it is made; a loaded machine takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);
