//! Goal: a start that was refused leaves nothing behind: no thread of a reactor, no lock on a drive.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use dataplane::{Action, Config, DataPlane, PoolDrive, Reactors, StartError};

fn pool(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ferrule-refused-{name}-{}", std::process::id()))
}

/// Two reactors, of which the first finds out that it cannot serve.
fn config(pool: &Path, listen: std::net::SocketAddr) -> Config {
    Config {
        pool: vec![PoolDrive { path: pool.to_owned(), size_bytes: Some(64 << 20) }],
        shards: Some(2),
        reactors: Reactors::Count(2),
        map_memory_bytes: None,
        checkpoint_bytes: None,
        listen: vec![listen],
        advertise: Vec::new(),
        discovery: Vec::new(),
        bench: Vec::new(),
        ring_features_off: Vec::new(),
    }
}

/// No thread of this process is a reactor's. The system may show one for a moment that has ended.
fn assert_no_reactor() {
    for _ in 0..10_000 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        if names.filter(|name| name.starts_with("reactor-")).count() == 0 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("a reactor's thread is left");
}

#[test]
fn a_start_that_was_refused_leaves_no_thread_and_no_lock() {
    let (good, foreign) = (pool("good"), pool("foreign"));
    let mut content = vec![0; 64 << 20];
    content[4096..8192].fill(0xa5);
    std::fs::write(&foreign, content).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for _ in 0..2 {
        let refused = DataPlane::start(&config(&good, address)).unwrap_err();
        assert!(matches!(refused, StartError::Engine(_)), "{refused}");
        assert_no_reactor();
        let refused = DataPlane::start(&config(&foreign, ([127, 0, 0, 1], 0).into())).unwrap_err();
        assert!(matches!(refused, StartError::Pool { .. }), "{refused}");
        assert_no_reactor();
    }
    drop(taken);
    let plane = DataPlane::start(&config(&good, address)).unwrap();
    let (done, is_done) = mpsc::channel();
    plane.handle().submit(Action::Stop, move |outcome| done.send(outcome.is_ok()).unwrap());
    assert!(is_done.recv().unwrap());
    plane.wait().unwrap();
    assert_no_reactor();
    std::fs::remove_file(good).unwrap();
    std::fs::remove_file(foreign).unwrap();
}
