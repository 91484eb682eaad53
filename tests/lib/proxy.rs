//! A proxy between host and target that can hold bytes back or spoil them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Forwards connections to a target, until the test ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
}

/// What is done to the bytes on their way.
#[derive(Debug, Default)]
struct Faults {
    /// Whether the host's bytes are kept.
    stopped: AtomicBool,
    /// How many chunks on the way to the host are still to be spoiled.
    spoil_to_host: AtomicU32,
    /// How many chunks on the way to the controller are still to be spoiled.
    spoil_to_controller: AtomicU32,
}

impl Proxy {
    /// A proxy on the loopback in front of `target`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the listener's address");
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        std::thread::spawn(move || {
            for host in listener.incoming().map_while(Result::ok) {
                // A target that is down refuses; the host shall see that as a close.
                if let Ok(controller) = TcpStream::connect(target) {
                    join(&host, &controller, &shared);
                }
            }
        });
        Self { address, faults }
    }

    /// Where hosts connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the host's bytes from now on.
    pub fn stop(&self) {
        self.faults.stopped.store(true, Ordering::SeqCst);
    }

    /// Sends what was kept, and forwards again.
    pub fn go_on(&self) {
        self.faults.stopped.store(false, Ordering::SeqCst);
    }

    /// Spoils a bit in each of the next `chunks` large chunks on the way to the host.
    pub fn spoil_to_host(&self, chunks: u32) {
        self.faults.spoil_to_host.fetch_add(chunks, Ordering::SeqCst);
    }

    /// Spoils a bit in each of the next `chunks` large chunks on the way to the controller.
    pub fn spoil_to_controller(&self, chunks: u32) {
        self.faults.spoil_to_controller.fetch_add(chunks, Ordering::SeqCst);
    }

    /// How many chunks are still to be spoiled.
    #[must_use]
    pub fn faults_left(&self) -> u32 {
        self.faults.spoil_to_host.load(Ordering::SeqCst)
            + self.faults.spoil_to_controller.load(Ordering::SeqCst)
    }
}

fn join(host: &TcpStream, controller: &TcpStream, faults: &Arc<Faults>) {
    for to_host in [false, true] {
        let (from, to) = if to_host { (controller, host) } else { (host, controller) };
        to.set_nodelay(true).expect("set TCP_NODELAY");
        let (from, to) = (from.try_clone().expect("share a socket"), to.try_clone().expect("share a socket"));
        let faults = Arc::clone(faults);
        std::thread::spawn(move || forward(&from, &to, to_host, &faults));
    }
}

fn forward(mut from: &TcpStream, mut to: &TcpStream, to_host: bool, faults: &Faults) {
    let spoil = if to_host { &faults.spoil_to_host } else { &faults.spoil_to_controller };
    let mut bytes = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while !to_host && faults.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A large chunk is mostly data, so that its middle is covered by the data digest.
        if count > 2048
            && spoil.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            bytes[count / 2] ^= 0x08;
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // Both ways end together, as a connection without a proxy does for NVMe/TCP.
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
