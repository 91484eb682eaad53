//! A target behind a proxy that ends a connection as soon as the host asks for the controller's shutdown.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// PDU type of a command capsule. NVMe/TCP transport spec 1.0, section 3.6.2.
const CAPSULE_COMMAND: u8 = 0x04;
/// Opcode of Fabrics commands, and the command type of Property Set. NVMe base spec 2.0, section 6.
const FABRICS: u8 = 0x7f;
const PROPERTY_SET: u8 = 0x00;
/// Offset of the property Controller Configuration (CC), and its field Shutdown Notification (SHN).
const CC: u8 = 0x14;
const SHN: u16 = 0b11 << 14;

/// The proxy. Its threads end with the connections.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Proxy {
    /// Takes so many connections and passes them on to `target`.
    pub(super) fn start(target: SocketAddr, connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        spawn(move || {
            for host in listener.incoming().take(connections) {
                let (host, target) = (host.unwrap(), TcpStream::connect(target).unwrap());
                let (from, to) = (target.try_clone().unwrap(), host.try_clone().unwrap());
                let counter = Arc::clone(&counter);
                spawn(move || pass_on(host, target, &counter));
                spawn(move || drop(std::io::copy(&mut &from, &mut &to)));
            }
        });
        Self { address, asked }
    }

    /// How many shutdowns have been asked for.
    pub(super) fn shutdowns(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) {
    drop(std::thread::Builder::new().spawn(body).unwrap());
}

/// Passes PDUs on until one asks for a shutdown.
fn pass_on(mut host: TcpStream, mut target: TcpStream, shutdowns: &AtomicUsize) {
    let mut header = [0; 8];
    while host.read_exact(&mut header).is_ok() {
        // PDU Length (PLEN) counts the header.
        let len = u32::from_le_bytes(header[4..].try_into().unwrap()) as usize;
        let mut pdu = header.to_vec();
        pdu.resize(len, 0);
        if host.read_exact(&mut pdu[8..]).is_err() {
            break;
        }
        if asks_for_shutdown(&pdu) {
            shutdowns.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if target.write_all(&pdu).is_err() {
            break;
        }
    }
    for socket in [host, target] {
        // The other end may have gone first.
        drop(socket.shutdown(Shutdown::Both));
    }
}

fn asks_for_shutdown(pdu: &[u8]) -> bool {
    let Some(sqe) = pdu.get(8..72).filter(|_| pdu[0] == CAPSULE_COMMAND) else { return false };
    let value = u16::from_le_bytes([sqe[48], sqe[49]]);
    sqe[0] == FABRICS && sqe[4] == PROPERTY_SET && sqe[44] == CC && value & SHN != 0
}
