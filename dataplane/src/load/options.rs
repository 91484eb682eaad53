//! What a load shall be.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A load on one namespace.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The target's address for I/O queues.
    pub target: SocketAddr,
    /// NQN of the subsystem.
    pub subsystem_nqn: String,
    /// The namespace.
    pub nsid: u32,
    /// What is done.
    pub pattern: Pattern,
    /// Share of reads in percent, for [`Pattern::RandRw`] alone.
    pub read_percent: u8,
    /// Bytes per command, a multiple of the namespace's logical block.
    pub block_bytes: u32,
    /// Commands that each queue keeps outstanding, 1..=65534.
    pub queue_depth: u16,
    /// Commands that begin per second over all queues; `None` for as many as the depth allows. Latencies are then from
    /// when a command was due, so that one that had to wait for another counts its wait.
    pub rate: Option<u32>,
    /// I/O queues, at least 1.
    pub queues: u16,
    /// Threads that the queues are spread over; `None` for one a queue.
    pub threads: Option<u16>,
    /// CPUs that the threads are pinned to, in turn; empty leaves them to the system.
    pub cpus: Vec<u32>,
    /// How a thread waits.
    pub waiting: Waiting,
    /// Load before the measurement begins.
    pub ramp: Duration,
    /// Length of the measurement.
    pub time: Duration,
    /// Where on the namespace the load begins, in bytes.
    pub offset_bytes: u64,
    /// How much of the namespace it uses; `None` for all from the offset on.
    pub range_bytes: Option<u64>,
    /// Follow each write by a Flush; both count as one.
    pub flush: bool,
    /// Let every block say where it belongs and which write it is of, and check what is read. What was written is read
    /// back at the end.
    pub verify: bool,
    /// Share of each logical block written that is words in place of random bytes, in percent: what a codec makes shorter.
    pub words_percent: u8,
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// Leave SQ flow control on, as Linux hosts do; without it a target may spare the response of a read.
    pub sq_flow_control: bool,
    /// NQN of this host.
    pub host_nqn: String,
    /// Identifier of this host, a UUID.
    pub host_id: [u8; 16],
    /// What every random choice follows from.
    pub seed: u64,
    /// The target's process, where it runs here and is not found by its listening socket.
    pub target_pid: Option<u32>,
    /// Time between two reports of progress.
    pub progress_interval: Duration,
}

/// What is done, in the words that fio made common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Reads of ascending addresses.
    Read,
    /// Writes of ascending addresses.
    Write,
    /// Reads of random addresses.
    RandRead,
    /// Writes of random addresses.
    RandWrite,
    /// Both, of random addresses.
    RandRw,
}

/// How a thread waits for its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// It asks again at once: the least latency, a core for each thread.
    #[default]
    Spin,
    /// It sleeps in the kernel.
    Block,
}

impl LoadOptions {
    /// Random 4 KiB reads at depth 32 on one queue for ten seconds.
    pub fn new(target: SocketAddr, subsystem_nqn: impl Into<String>, nsid: u32) -> Self {
        Self {
            target,
            subsystem_nqn: subsystem_nqn.into(),
            nsid,
            pattern: Pattern::RandRead,
            read_percent: 50,
            block_bytes: 4096,
            queue_depth: 32,
            rate: None,
            queues: 1,
            threads: None,
            cpus: Vec::new(),
            waiting: Waiting::Spin,
            ramp: Duration::ZERO,
            time: Duration::from_secs(10),
            offset_bytes: 0,
            range_bytes: None,
            flush: false,
            verify: false,
            words_percent: 0,
            header_digest: false,
            data_digest: false,
            sq_flow_control: false,
            host_nqn: "nqn.2014-08.org.nvmexpress:uuid:6c6f6164-0000-4000-8000-000000000001".to_owned(),
            host_id: *b"load\0\0\x40\0\x80\0\0\0\0\0\0\x01",
            seed: 1,
            target_pid: None,
            progress_interval: Duration::from_secs(1),
        }
    }
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::RandRead, Self::RandWrite, Self::RandRw];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
            Self::RandRw => "randrw",
        }
    }

    /// True if it writes at all.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::RandWrite | Self::RandRw)
    }

    /// True if addresses are random.
    pub fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite | Self::RandRw)
    }
}

/// A name that is no pattern's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of read, write, randread, randwrite, randrw")]
pub struct UnknownPattern;

impl FromStr for Pattern {
    type Err = UnknownPattern;

    fn from_str(name: &str) -> Result<Self, UnknownPattern> {
        Self::ALL.into_iter().find(|pattern| pattern.name() == name).ok_or(UnknownPattern)
    }
}
