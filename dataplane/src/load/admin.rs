//! The association of a load: the admin queue on a blocking socket, and the opening of I/O queues.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use host::nvme::identify::{AsyncEvents, Cns, IDENTIFY_LEN, Identify, IdentifyNamespace};
use host::nvme::{Nqn, Status};
use host::{
    Completion, ConnectConfig, Controller, ControllerConfig, ControllerEvent, Payload, Phase, Queue,
    QueueConfig,
};
use io::Time;

use super::clock::Stopwatch;
use super::error::LoadError;
use super::options::LoadOptions;

/// How long connecting, and every step of the association, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Keep alive timeout (KATO).
const KATO_MS: u32 = 15_000;
/// Controller identifier that asks for any controller (dynamic model). NVMe-oF, Connect command data.
const CNTLID_DYNAMIC: u16 = host::nvme::fabrics::ConnectData::CNTLID_DYNAMIC;

/// What a namespace is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    /// Bytes in a logical block.
    pub(crate) lba_bytes: u32,
    /// Logical blocks.
    pub(crate) blocks: u64,
}

/// An association whose admin queue this thread drives.
#[derive(Debug)]
pub(crate) struct Association {
    controller: Controller,
    socket: TcpStream,
    target: SocketAddr,
    clock: Stopwatch,
    buffer: Vec<u8>,
    /// Commands of this module that have ended.
    ended: Vec<Completion<Vec<u8>>>,
    ready: bool,
    shut_down: bool,
}

impl Association {
    /// Connects, and brings the controller up.
    pub(crate) fn open(options: &LoadOptions, clock: Stopwatch) -> Result<Self, LoadError> {
        let connect = ConnectConfig {
            host_id: options.host_id,
            host_nqn: nqn(&options.host_nqn)?,
            subsystem_nqn: nqn(&options.subsystem_nqn)?,
            cntlid: CNTLID_DYNAMIC,
            kato_ms: KATO_MS,
            disable_sq_flow_control: !options.sq_flow_control,
        };
        let admin = QueueConfig {
            header_digest: options.header_digest,
            data_digest: options.data_digest,
            ..QueueConfig::admin(connect)
        };
        let config = ControllerConfig {
            admin,
            io_queues: options.queues,
            io_queue_entries: u32::from(options.queue_depth) + 1,
            async_event_requests: 1,
            async_events: AsyncEvents::default(),
            step_timeout: STEP_TIMEOUT,
        };
        let socket = connect_to(options.target)?;
        let mut this = Self {
            controller: Controller::new(config, clock.now()),
            socket,
            target: options.target,
            clock,
            buffer: vec![0; 64 << 10],
            ended: Vec::new(),
            ready: false,
            shut_down: false,
        };
        this.wait("bringing the controller up", |this| this.ready)?;
        Ok(this)
    }

    /// Keeps the association alive until `until`.
    pub(crate) fn attend(&mut self, until: Time) -> Result<(), LoadError> {
        while self.turn(until)? {}
        Ok(())
    }

    /// Identifies a namespace.
    pub(crate) fn namespace(&mut self, nsid: u32) -> Result<Namespace, LoadError> {
        let sqe = Identify::new(Cns::Namespace, nsid).encode();
        let refused = |_| LoadError::Timeout("room for an admin command", 0);
        self.controller.submit(sqe, Payload::Read(vec![0; IDENTIFY_LEN])).map_err(refused)?;
        self.wait("Identify Namespace", |this| !this.ended.is_empty())?;
        let Some(Completion { result, payload, .. }) = self.ended.pop() else {
            return Err(LoadError::NoNamespace(nsid));
        };
        let status = result.map_or(Status::TRANSIENT_TRANSPORT_ERROR, |cqe| cqe.status);
        if status.is(Status::INVALID_NAMESPACE) {
            return Err(LoadError::NoNamespace(nsid));
        }
        if !status.is_success() {
            return Err(LoadError::Command("Identify Namespace", status));
        }
        let Payload::Read(bytes) = payload else { return Err(LoadError::NoNamespace(nsid)) };
        let identify = bytes.first_chunk().map(IdentifyNamespace::parse).unwrap_or_default();
        match identify.lba_bytes() {
            Some(lba_bytes) if identify.nsze_blocks > 0 => {
                Ok(Namespace { lba_bytes, blocks: identify.nsze_blocks })
            }
            _ => Err(LoadError::NoNamespace(nsid)),
        }
    }

    /// Opens I/O queue `qid` on a connection of its own; with `discard`, what it reads is not kept.
    pub(crate) fn open_queue<B>(
        &mut self,
        qid: u16,
        discard: bool,
    ) -> Result<(Queue<B>, TcpStream), LoadError>
    where
        B: AsRef<[u8]> + AsMut<[u8]>,
    {
        let granted = self.controller.io_queues();
        let config = self.controller.io_queue_config(qid);
        let mut config = config.ok_or(LoadError::Queues { granted, wanted: qid })?;
        config.discard_reads = discard;
        let mut queue = Queue::new(config);
        let mut socket = connect_to(self.target)?;
        loop {
            while let Some(bytes) = queue.poll_transmit() {
                let count = socket.write(bytes).map_err(sending)?;
                queue.transmitted(count);
            }
            match queue.phase() {
                Phase::Live(_) => break,
                Phase::Refused(cqe) => return Err(LoadError::Refused { qid, status: cqe.status }),
                Phase::Closed(fault) => return Err(LoadError::Queue { qid, fault: fault.clone() }),
                Phase::Initialising | Phase::Initialised | Phase::Connecting => {}
            }
            match socket.read(&mut self.buffer) {
                Ok(0) => queue.handle_closed(),
                // A fault is in the queue's phase too.
                Ok(count) => drop(queue.handle_bytes(&self.buffer[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(LoadError::Timeout("opening an I/O queue", STEP_TIMEOUT.as_secs()));
                }
                Err(source) => return Err(LoadError::System { action: "receive from the target", source }),
            }
        }
        let unblocked = socket.set_nonblocking(true);
        unblocked.map_err(|source| LoadError::System { action: "set up a socket", source })?;
        Ok((queue, socket))
    }

    /// Shuts the controller down and ends the association, however that goes.
    ///
    /// # Errors
    /// Where the target does not say that it has.
    pub(crate) fn shut_down(mut self) -> Result<(), LoadError> {
        self.controller.shutdown(self.clock.now());
        self.wait("shutting the controller down", |this| this.shut_down)
    }

    /// Most bytes that a command may move (MDTS); `None` without a limit.
    pub(crate) fn transfer_max_bytes(&self) -> Option<u64> {
        let identify = self.controller.identify();
        identify.transfer_max_bytes(self.controller.cap().page_size_min)
    }

    /// Most commands that an I/O queue may have outstanding.
    pub(crate) fn queue_depth_max(&self) -> u32 {
        self.controller.cap().queue_entries_max - 1
    }

    /// I/O queues that were granted.
    pub(crate) fn io_queues(&self) -> u16 {
        self.controller.io_queues()
    }

    /// True if the target is a process of this machine.
    pub(crate) fn is_local(&self) -> bool {
        let addresses = (self.socket.local_addr(), self.socket.peer_addr());
        matches!(addresses, (Ok(local), Ok(peer)) if local.ip() == peer.ip() || peer.ip().is_loopback())
    }

    fn wait(&mut self, what: &'static str, done: impl Fn(&Self) -> bool) -> Result<(), LoadError> {
        // The machine's own limits come first and say more.
        let until = self.clock.now() + 3 * STEP_TIMEOUT;
        while !done(self) {
            if !self.turn(until)? {
                return Err(LoadError::Timeout(what, 3 * STEP_TIMEOUT.as_secs()));
            }
        }
        Ok(())
    }

    /// Sends and receives once, waiting until `until` at most. False once that has come.
    fn turn(&mut self, until: Time) -> Result<bool, LoadError> {
        while let Some(bytes) = self.controller.poll_transmit() {
            let count = self.socket.write(bytes).map_err(sending)?;
            self.controller.transmitted(self.clock.now(), count);
        }
        self.drain_events()?;
        let now = self.clock.now();
        if now >= until {
            return Ok(false);
        }
        let wake = self.controller.deadline().map_or(until, |deadline| deadline.min(until));
        // A timeout of zero would mean none.
        let timeout = wake.since(now).max(Duration::from_millis(1));
        let set = self.socket.set_read_timeout(Some(timeout));
        set.map_err(|source| LoadError::System { action: "set up a socket", source })?;
        match self.socket.read(&mut self.buffer) {
            Ok(0) => self.controller.handle_closed(self.clock.now()),
            Ok(count) => self.controller.handle_bytes(self.clock.now(), &self.buffer[..count]),
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.controller.handle_closed(self.clock.now()),
        }
        self.controller.handle_timeout(self.clock.now());
        self.drain_events()?;
        Ok(true)
    }

    fn drain_events(&mut self) -> Result<(), LoadError> {
        while let Some(event) = self.controller.poll_event() {
            match event {
                ControllerEvent::Ready => self.ready = true,
                ControllerEvent::AsyncEvent(_) => {}
                ControllerEvent::Completion(completion) => self.ended.push(completion),
                ControllerEvent::ShutDown => self.shut_down = true,
                ControllerEvent::Failed(failure) => {
                    return Err(LoadError::Association(self.target, failure));
                }
            }
        }
        Ok(())
    }
}

fn connect_to(address: SocketAddr) -> Result<TcpStream, LoadError> {
    let connected = TcpStream::connect_timeout(&address, STEP_TIMEOUT).and_then(|socket| {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(STEP_TIMEOUT))?;
        socket.set_write_timeout(Some(STEP_TIMEOUT))?;
        Ok(socket)
    });
    connected.map_err(|source| LoadError::Connect { address, source })
}

fn nqn(name: &str) -> Result<Nqn, LoadError> {
    Nqn::new(name).map_err(|source| LoadError::Name { name: name.to_owned(), source })
}

fn sending(source: std::io::Error) -> LoadError {
    LoadError::System { action: "send to the target", source }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
