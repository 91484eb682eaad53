//! A target with a RAM namespace and an innocent host on it, who must not notice what others do.

use std::time::{Duration, Instant};

use crate::association::{Association, Identity, Queue};
use crate::server::{Server, Setup};
use crate::wire::Wire;

/// A target under abuse, and the host that watches it.
///
/// With `FERRULE_TEST_TARGET=PORT,NQN` the target is another one that runs already, such as the kernel's: to
/// see whether a complaint is about Ferrule or about the test.
#[derive(Debug)]
pub struct Bystander {
    server: Option<Server>,
    /// Who the watching host is, and where the target is.
    pub identity: Identity,
    association: Association,
    queue: Queue,
    /// The RAM namespace.
    pub nsid: u32,
    /// Its block size.
    pub block_bytes: usize,
}

impl Bystander {
    /// Starts a target and connects the innocent host.
    ///
    /// # Panics
    /// If the target does not come up.
    #[must_use]
    pub fn new() -> Self {
        let (server, port, nqn) = match std::env::var("FERRULE_TEST_TARGET") {
            Ok(target) => {
                let (port, nqn) = target.split_once(',').expect("PORT,NQN");
                (None, port.parse().expect("a port"), nqn.to_owned())
            }
            Err(_) => {
                let setup = Setup { pool_mib: 0, benches: vec!["ram:64MiB"], ..Setup::default() };
                let server = Server::start(&setup);
                let (port, nqn) = (server.port, server.nqn());
                (Some(server), port, nqn)
            }
        };
        let identity = Identity::new(port, &nqn, 1);
        let mut association = Association::connect(&identity);
        let nsid = *association.namespaces().first().expect("a namespace");
        let namespace = association.identify(0x00, nsid);
        let format = usize::from(namespace[26] & 0xF);
        let block_bytes = 1 << namespace[128 + 4 * format + 2];
        let queue = association.io_queue(1);
        let mut bystander = Self { server, identity, association, queue, nsid, block_bytes };
        bystander.unharmed();
        bystander
    }

    /// Another host of the same target.
    #[must_use]
    pub fn other(&self, number: u8) -> Identity {
        Identity { address: self.identity.address, ..Identity::new(0, &self.identity.subsystem, number) }
    }

    /// A connection to the target, initialized, without digests.
    ///
    /// # Panics
    /// If the target refuses.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire::initialized(self.identity.address.port(), false, false)
    }

    /// Another host, connected, and its first I/O queue.
    #[must_use]
    pub fn guest(&self, number: u8) -> (Association, Queue) {
        let association = Association::connect(&self.other(number));
        let queue = association.io_queue(1);
        (association, queue)
    }

    /// Checks that the innocent host's connections work as before: writes, reads back, asks the controller.
    ///
    /// # Panics
    /// If they do not, or take longer than a second or two.
    pub fn unharmed(&mut self) {
        let begin = Instant::now();
        let data: Vec<u8> =
            (0..65536).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let length = data.len();
        let _ = self
            .queue
            .write(self.nsid, 1024, self.block_bytes, &data)
            .expect_success("the bystander's write");
        let read =
            self.queue.read(self.nsid, 1024, self.block_bytes, length).expect_success("the bystander's read");
        assert!(read.data == data, "the bystander's data");
        assert!(self.association.namespaces().contains(&self.nsid));
        if let Some(server) = &mut self.server {
            server.expect_running();
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(3), "the bystander waited for {took:?}");
    }

    /// The server, unless the target is another's.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }
}

impl Default for Bystander {
    fn default() -> Self {
        Self::new()
    }
}
