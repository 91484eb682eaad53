//! A person at a shell: a home folder of their own, files, and the commands that documents show.

use std::process::{Command, Output, Stdio};

use crate::scratch::Scratch;
use crate::server::{Server, binary};

/// A person with a home folder, and perhaps a server.
#[derive(Debug)]
pub struct Person {
    home: Scratch,
    endpoint: Option<String>,
    environment: Vec<(String, String)>,
}

impl Person {
    /// Someone who knows where `server` is, and takes its certificate.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        let endpoint = Some(server.endpoint());
        Self { home: Scratch::new("home"), endpoint, environment: Vec::new() }
    }

    /// Someone before there is a server.
    #[must_use]
    pub fn alone() -> Self {
        Self { home: Scratch::new("home"), endpoint: None, environment: Vec::new() }
    }

    /// The same person with a variable in the environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in the home folder.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    /// Writes a file in the home folder; returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.home.join(name), text).expect("write a file");
        self.path(name)
    }

    /// A command with the person's environment and nothing else of this process's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).current_dir(self.home.path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // What a person writes into a configuration file once.
        let folder = self.home.join(".config/ferrule");
        let config = folder.join("ferrule.yaml");
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| !config.exists()) {
            let text = format!("endpoint: {endpoint}\ninsecure-skip-tls-verify: true\n");
            std::fs::create_dir_all(&folder).expect("make a folder");
            std::fs::write(config, text).expect("write the configuration");
        }
        command
    }

    /// Runs `ferrule` with `words`; whatever it says.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn try_ferrule(&self, words: &[&str]) -> Output {
        let program = binary().display().to_string();
        self.command(&program).args(words).output().expect("run ferrule")
    }

    /// Runs `ferrule` with `words`, which must succeed; its output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ferrule(&self, words: &[&str]) -> String {
        let program = binary().display().to_string();
        run(self.command(&program).args(words))
    }

    /// Runs `ferrule` with `words` at a terminal, whatever comes of it; what the terminal gets. `environment` is as a shell
    /// takes it.
    ///
    /// # Panics
    /// If there is no `script`, which makes the terminal.
    #[must_use]
    pub fn on_terminal(&self, environment: &str, words: &str) -> String {
        let program = binary().display().to_string();
        let line = format!("TERM=xterm {environment} script -qefc '{program} {words}' said");
        let output = self.command("sh").args(["-c", &line]).output().expect("script runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ferrule` with `words`, which must fail; what it complains of, and its exit code.
    ///
    /// # Panics
    /// If it succeeds.
    #[must_use]
    pub fn refused(&self, words: &[&str]) -> (String, i32) {
        let output = self.try_ferrule(words);
        assert!(!output.status.success(), "ferrule {words:?} was to fail");
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap_or(-1))
    }
}

/// Runs a command that must succeed; its output.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}
