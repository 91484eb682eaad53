//! One namespace of any NVMe/TCP target, read and written by the calling thread: for what is copied in or out.
//!
//! An [`Attachment`] has one I/O queue, which the caller's thread drives and sleeps for, and a thread that keeps the
//! association alive. Each call moves ranges with many commands at once and returns when all have ended. Digests are on:
//! what is carried to another place is checked on every step of its way.

mod channel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::load::admin::Association;
use crate::load::clock::Stopwatch;
use crate::load::{LoadError, LoadOptions};
use channel::{Channel, Task};

/// Where a namespace is, and as whom to attach it.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The target's address for I/O queues.
    pub target: SocketAddr,
    /// NQN of the subsystem.
    pub subsystem_nqn: String,
    /// The namespace.
    pub nsid: u32,
    /// NQN of this host.
    pub host_nqn: String,
    /// Identifier of this host, a UUID.
    pub host_id: [u8; 16],
}

/// Bytes of a namespace side by side; both numbers are multiples of its logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first.
    pub offset_bytes: u64,
    /// How many.
    pub len_bytes: u64,
}

/// A namespace that this process may read and write.
#[derive(Debug)]
pub struct Attachment {
    channel: Channel,
    size_bytes: u64,
    lba_bytes: u32,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<Result<(), LoadError>>>,
}

impl Attachment {
    /// Connects to the target and finds the namespace.
    ///
    /// # Errors
    /// If the target does not answer, refuses this host, or has no such namespace for it.
    pub fn open(options: &AttachOptions) -> Result<Self, LoadError> {
        let load = LoadOptions {
            queue_depth: QUEUE_DEPTH,
            header_digest: true,
            data_digest: true,
            host_nqn: options.host_nqn.clone(),
            host_id: options.host_id,
            ..LoadOptions::new(options.target, options.subsystem_nqn.clone(), options.nsid)
        };
        let clock = Stopwatch::start();
        let mut association = Association::open(&load, clock)?;
        let namespace = association.namespace(options.nsid)?;
        let (queue, socket) = association.open_queue(1, false)?;
        let depth = u32::from(QUEUE_DEPTH).min(association.queue_depth_max());
        let transfer_max = association.transfer_max_bytes().unwrap_or(u64::MAX).min(TRANSFER_BYTES);
        let channel = Channel::new(
            queue,
            socket,
            clock,
            options.nsid,
            namespace.lba_bytes,
            depth as usize,
            transfer_max,
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let keeper = std::thread::Builder::new().name("keep alive".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                association.attend(clock.now() + GLANCE)?;
            }
            association.shut_down()
        });
        let keeper = keeper.map_err(|source| LoadError::System { action: "start a thread", source })?;
        let size_bytes = namespace.blocks.saturating_mul(u64::from(namespace.lba_bytes));
        Ok(Self { channel, size_bytes, lba_bytes: namespace.lba_bytes, stop, keeper: Some(keeper) })
    }

    /// Size of the namespace.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its logical block.
    pub fn lba_bytes(&self) -> u32 {
        self.lba_bytes
    }

    /// Reads what lies in `stretches` and appends it to `to`, one after the other.
    ///
    /// # Errors
    /// If a command fails or the connection is lost; `to` is then of no use.
    pub fn read(&mut self, stretches: &[Stretch], to: &mut Vec<u8>) -> Result<(), LoadError> {
        let mut tasks = Vec::new();
        let mut place = to.len();
        for piece in self.channel.cut(stretches, u64::MAX) {
            let len = piece.len_bytes as usize;
            tasks.push(Task::Read { piece, place });
            place += len;
        }
        to.resize(place, 0);
        self.channel.perform(tasks, to)
    }

    /// Writes `data` to `stretches`, one after the other; together they are as long as it.
    ///
    /// # Errors
    /// If a command fails or the connection is lost; how much was written is not known then.
    pub fn write(&mut self, stretches: &[Stretch], data: &[u8]) -> Result<(), LoadError> {
        assert_eq!(stretches.iter().map(|stretch| stretch.len_bytes).sum::<u64>(), data.len() as u64);
        let mut tasks = Vec::new();
        let mut rest = data;
        for piece in self.channel.cut(stretches, u64::MAX) {
            let (bytes, after) = rest.split_at(piece.len_bytes as usize);
            tasks.push(Task::Write { piece, bytes: bytes.to_vec() });
            rest = after;
        }
        self.channel.perform(tasks, &mut [])
    }

    /// Makes `stretches` zero and gives their space back.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn write_zeroes(&mut self, stretches: &[Stretch]) -> Result<(), LoadError> {
        let pieces = self.channel.cut(stretches, ZEROES_BYTES);
        let tasks = pieces.into_iter().map(Task::WriteZeroes).collect();
        self.channel.perform(tasks, &mut [])
    }

    /// Returns once everything that was written is safe.
    ///
    /// # Errors
    /// As [`Attachment::write`].
    pub fn flush(&mut self) -> Result<(), LoadError> {
        self.channel.perform(vec![Task::Flush], &mut [])
    }

    /// Shuts the association down.
    ///
    /// # Errors
    /// If it had ended before.
    pub fn close(mut self) -> Result<(), LoadError> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.keeper.take().map(JoinHandle::join);
        match ended {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The keeper ends the association by itself soon.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Commands under way at once.
const QUEUE_DEPTH: u16 = 16;
/// Longest read or write.
const TRANSFER_BYTES: u64 = 128 << 10;
/// Longest Write Zeroes; a command has at most 65536 blocks.
const ZEROES_BYTES: u64 = 16 << 20;
/// How soon the keeper sees that it is to end.
const GLANCE: Duration = Duration::from_millis(50);
