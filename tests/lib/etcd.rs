//! A member of etcd on loopback with a folder of its own, killed when dropped.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::scratch::{Scratch, free_port, wait_until};

/// etcd, running or not.
#[derive(Debug)]
pub struct Etcd {
    child: Option<Child>,
    scratch: Scratch,
    /// `http`, or `https` with the arguments that make it so.
    scheme: &'static str,
    arguments: Vec<String>,
    port: u16,
    peer: u16,
}

impl Etcd {
    /// Starts an empty member and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut etcd = Self::prepare();
        etcd.restart();
        etcd
    }

    /// The same with room for so many bytes, deleted ones counted.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start_with_quota(bytes: u64) -> Self {
        let mut etcd = Self::prepare();
        etcd.arguments = vec![format!("--quota-backend-bytes={bytes}")];
        etcd.restart();
        etcd
    }

    /// Chooses folder and ports without starting anything.
    #[must_use]
    pub fn prepare() -> Self {
        let scratch = Scratch::new("etcd");
        let (port, peer) = (free_port(), free_port());
        Self { child: None, scratch, scheme: "http", arguments: Vec::new(), port, peer }
    }

    /// The same with TLS: PEM files of its certificate, which is also its authority's, and of the key.
    #[must_use]
    pub fn prepare_with_tls(certificate: &str, key: &str) -> Self {
        let mut etcd = Self::prepare();
        etcd.scheme = "https";
        etcd.arguments = ["--cert-file", certificate, "--key-file", key].map(str::to_owned).to_vec();
        etcd
    }

    /// Starts the member with what it had before, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already or does not come up.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "etcd runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.scratch.join("log"));
        let log = log.expect("open etcd's log");
        let client = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.scratch.join("data")).args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("share the log"));
        let child = command.stderr(log).spawn();
        self.child = Some(child.expect("etcd runs: Debian's package etcd-server, as make test installs it"));
        wait_until("etcd answers", Duration::from_secs(30), || {
            self.try_ctl(&["endpoint", "health"], &[]).status.success()
        });
    }

    /// Ends the member as a crash does.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("etcd runs");
        child.kill().expect("kill etcd");
        child.wait().expect("wait for etcd");
    }

    /// Throws away everything that a member which does not run has kept.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "etcd runs");
        std::fs::remove_dir_all(self.scratch.join("data")).expect("remove etcd's folder");
    }

    /// Fills it until it takes nothing more.
    ///
    /// # Panics
    /// If there is no end to it.
    pub fn fill(&self) {
        let value = "x".repeat(100_000);
        let put = |number: u32| self.try_ctl(&["put", &format!("/filler/{number}"), &value], &[]);
        assert!((0..1000).any(|number| !put(number).status.success()), "etcd is never full");
    }

    /// Takes out what filled it, as its operator does.
    ///
    /// # Panics
    /// If etcd does not do as it is told.
    pub fn make_room(&self) {
        let _ = self.ctl(&["del", "/filler/", "--prefix"]);
        let said = self.ctl(&["get", "/filler/", "--write-out=json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("etcdctl prints JSON");
        let _ = self.ctl(&["compaction", "--physical", &said["header"]["revision"].to_string()]);
        let _ = self.ctl(&["defrag"]);
        let _ = self.ctl(&["alarm", "disarm"]);
    }

    /// Runs etcdctl, which must succeed; returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments, &[]);
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("etcdctl prints UTF-8")
    }

    /// Runs etcdctl with further options.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn try_ctl(&self, arguments: &[&str], options: &[&str]) -> Output {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("{}://127.0.0.1:{}", self.scheme, self.port)]);
        if self.scheme == "https" {
            command.args(["--cacert", &self.arguments[1]]);
        }
        let output = command.args(options).args(arguments).output();
        output.expect("etcdctl runs: Debian's package etcd-client, as make test installs it")
    }

    /// Where it is, as `--metadata-store` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.scheme == "https" { "etcds" } else { "etcd" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// A path in the member's folder.
    #[must_use]
    pub fn join(&self, name: &str) -> std::path::PathBuf {
        self.scratch.join(name)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
