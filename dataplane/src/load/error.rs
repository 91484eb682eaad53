//! Why a load did not run to its end.

use std::net::SocketAddr;

use host::nvme::{NqnError, Status};
use host::{Failure, Fault};
use thiserror::Error;

/// A load that could not begin, or broke off.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The target does not take connections.
    #[error("cannot connect to {address}: {source}; is a target running, and is that its address and port?")]
    Connect {
        /// The target.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A socket, thread or clock failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A name is not an NQN.
    #[error("{name:?} is not an NQN: {source}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: NqnError,
    },
    /// The association did not come up, or ended.
    #[error("association with {0} ended: {1}")]
    Association(SocketAddr, Failure),
    /// A queue was not opened.
    #[error("I/O queue {qid} refused: {status}")]
    Refused {
        /// The queue.
        qid: u16,
        /// The answer.
        status: Status,
    },
    /// A queue broke.
    #[error("I/O queue {qid}: {fault}")]
    Queue {
        /// The queue.
        qid: u16,
        /// Why.
        fault: Fault,
    },
    /// The target did not answer in time.
    #[error("{0} took longer than {1} s")]
    Timeout(&'static str, u64),
    /// An admin command failed.
    #[error("{0} failed: {1}")]
    Command(&'static str, Status),
    /// There is no such namespace for this host.
    #[error("namespace {0} does not exist, or this host may not see it")]
    NoNamespace(u32),
    /// The target grants fewer queues.
    #[error("the target grants {granted} I/O queues, {wanted} are wanted")]
    Queues {
        /// Granted.
        granted: u16,
        /// Wanted.
        wanted: u16,
    },
    /// The options do not fit each other or the namespace.
    #[error("{0}")]
    Options(#[from] OptionsError),
}

/// Options that do not fit each other, or not the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// The size of a command is not a multiple of the logical block.
    #[error("the block size of {block_bytes} bytes is no multiple of the logical block of {lba_bytes} bytes")]
    BlockSize {
        /// Asked for.
        block_bytes: u32,
        /// Of the namespace.
        lba_bytes: u32,
    },
    /// A command would be longer than the target takes.
    #[error("the block size of {block_bytes} bytes is more than the {max_bytes} bytes that the target takes")]
    Transfer {
        /// Asked for.
        block_bytes: u32,
        /// MDTS, or 65536 logical blocks.
        max_bytes: u64,
    },
    /// The queue cannot be that deep.
    #[error("the queue depth of {queue_depth} is outside 1..={max}")]
    Depth {
        /// Asked for.
        queue_depth: u16,
        /// The deepest.
        max: u32,
    },
    /// No queues, or no threads.
    #[error("at least one queue and one thread are needed")]
    None,
    /// The range is empty, or leaves no block for each queue.
    #[error("the range has room for {units} commands, fewer than the queues keep outstanding")]
    Range {
        /// Places for a command.
        units: u64,
    },
    /// The range ends beyond the namespace.
    #[error("the range ends beyond the namespace of {size_bytes} bytes")]
    Beyond {
        /// Size of the namespace.
        size_bytes: u64,
    },
}
