//! Folders, ports and waiting: what every test needs of the machine it runs on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A folder of the test's own on the file system of the build, removed on drop unless the test fails.
///
/// Not in the system's temporary folder: that may be a `tmpfs`, which older kernels cannot open for direct I/O.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder whose name starts with `name`.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = build_folder().join("tmp").join(format!("{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("make the scratch folder");
        Self { path }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// The root of the checkout.
///
/// # Panics
/// If the crate's folder has no parent.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout")
}

/// The folder that the running test executable was built into: `target/debug` unless told otherwise.
///
/// # Panics
/// If the executable's path cannot be found.
#[must_use]
pub fn build_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("the test's own path");
    let folder = executable.parent().expect("an executable lies in a folder");
    let above = if folder.ends_with("deps") { folder.parent().expect("deps has a parent") } else { folder };
    above.to_path_buf()
}

/// A TCP port that nothing listens on, on any address. It is none of those that the system gives to outgoing connections
/// (from 32768 on unless set otherwise), one of which could take it before the server does.
///
/// # Panics
/// If the machine has no free port.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Programs that run side by side begin apart.
    let start = std::process::id().wrapping_mul(61);
    let is_free = |port: &u16| {
        let bound = TcpListener::bind(("::", *port)).or_else(|_| TcpListener::bind(("0.0.0.0", *port)));
        bound.is_ok()
    };
    let next = || start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST;
    let mut ports = (0..COUNT).filter_map(|_| u16::try_from(next()).ok());
    ports.find(is_free).expect("a free port")
}

/// Calls `ready` every 20 ms until it is true.
///
/// # Panics
/// If that takes longer than `limit`: the message names `what` was awaited.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
