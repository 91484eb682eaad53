//! The NVMe/TCP host: state machines of a queue and of an association, sans-io.
//!
//! A [`Queue`] is one connection: it initialises it, connects, sends command capsules and data,
//! takes data and responses, and checks every PDU that the controller sends. A [`Controller`] is
//! an admin queue with the steps of an association on top: connect, enable, identify, number of
//! queues, keep alive, asynchronous events, shutdown. Neither owns a socket, thread or clock.
//!
//! # Calling convention
//!
//! 1. [`Queue::new`]; open a TCP connection beside it.
//! 2. Whenever the socket can take bytes: send what [`Queue::poll_transmit`] (one slice) or
//!    [`Queue::gather`] (many) offer, then report how many bytes went with
//!    [`Queue::transmitted`]. Slices point into payloads; nothing is copied.
//! 3. Whenever bytes arrive: [`Queue::handle_bytes`] with all of them. An error is final: send
//!    what step 2 still offers (a termination request, where one is due), then close.
//! 4. After either: drain [`Queue::poll_completion`]; each command submitted completes there
//!    exactly once, with its payload, even if the connection is lost.
//! 5. [`Queue::submit`] at any time; it refuses commands beyond the queue's depth and gives the
//!    payload back. Then step 2.
//! 6. When the peer or the world closes the connection: [`Queue::handle_closed`], then step 4.
//!
//! A [`Controller`] has the same calls with the time added, a deadline
//! ([`Controller::deadline`], [`Controller::handle_timeout`]) and events
//! ([`Controller::poll_event`]) instead of completions.
//!
//! Payloads are owned: `W: AsRef<[u8]>` for what is written, `R: AsMut<[u8]>` for what is read.
#![forbid(unsafe_code)]

mod config;
mod controller;
mod fault;
mod queue;

pub use config::{ConnectConfig, QueueConfig};
pub use controller::{Controller, ControllerConfig, ControllerEvent, Failure, Step};
pub use fault::{Fault, Violation};
/// The wire types that this crate's interface speaks.
pub use nvme;
pub use queue::{Cid, Completion, Lost, Payload, Phase, Queue, Refusal, Rejected, Stats};

/// CRC32C as header and data digests use it.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}
