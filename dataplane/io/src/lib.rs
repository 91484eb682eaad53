//! The seam between the state machines and the world: disks, sockets, a clock, mail between reactors, memory.
//!
//! One value of a type that implements [`Io`] belongs to one reactor and is used from one thread. Operations take
//! owned buffers down and [`Event`]s bring them back; nothing blocks but [`Io::poll`], and nothing here is `async`.
//! There are two implementations: `reactor` (io_uring) and `sim` (memory, deterministic, faulty). What they promise
//! alike is written here and held by one conformance suite.
#![forbid(unsafe_code)]

mod buffer;
mod disk;
mod event;
mod mail;
mod net;
mod time;

pub use buffer::{Buffer, Lasting, Memory, Purpose, Shared, SharedOf, Slice};
pub use disk::{Disk, DiskError, DiskErrorKind, DriveId, DriveShape, Extent};
pub use event::{Event, EventOf};
pub use mail::{Lane, Mail, ReactorId};
pub use net::{ConnectionId, ListenerId, Net, NetError, NetErrorKind, Segment, SendList};
pub use time::{Clock, Time};

use std::fmt;

/// Names an operation to whoever submitted it; the implementation returns it unchanged and reads nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Everything a reactor's state machines may ask of the world.
pub trait Io: Disk + Net + Mail + Clock + Lasting {
    /// Submits what was asked for since the last call, then waits for at least one event or for `deadline`, and
    /// appends what happened to `events` in the order in which it happened. A deadline that has passed makes this a
    /// look without a wait; `None` waits for an event however long that takes.
    ///
    /// # Errors
    /// Only when the mechanism itself has failed (the ring is broken); failures of single operations are events.
    fn poll(&mut self, deadline: Option<Time>, events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault>
    where
        Self: Sized;
}

/// The mechanism under an [`Io`] has failed; its reactor cannot go on.
#[derive(Debug)]
pub struct IoFault {
    /// What was being done.
    pub context: &'static str,
    /// What the system said.
    pub source: std::io::Error,
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.context, self.source)
    }
}

impl std::error::Error for IoFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
