//! The data plane's engine: target and store composed, generic over the seam `io`, one engine a reactor.
//!
//! # Calling convention
//!
//! The driver of a reactor (a thread on the ring, or the simulator) does, for ever:
//!
//! 1. [`io::Io::poll`] until the deadline of the last round;
//! 2. [`Engine::handle`] for each event, in order;
//! 3. [`Engine::run`] once: it returns the next deadline;
//! 4. [`Engine::poll_notice`] until `None`. After [`Notice::Stopped`] it polls once more, so that closes leave, and
//!    ends.
//!
//! Management sends [`Message::Action`] to reactor 0.
//!
//! # Who does what
//!
//! Every engine has the I/O queues that were given to it ([`subsystem::Ports`]) and its shards of the pool. Reactor 0
//! also leads: it has the listeners, the admin queues ([`subsystem::Desk`]), the directory and the free segments. A
//! command is cut at stripes into pieces; each is done by the reactor that owns its shard and joined where its queue is.
#![forbid(unsafe_code)]

mod action;
mod bench;
mod counters;
mod diff;
mod engine;
mod errand;
mod execute;
mod gate;
mod grow;
mod health;
mod hold;
mod images;
mod job;
mod lead;
mod leading;
mod message;
mod owned;
mod owner;
#[cfg(feature = "planted")]
mod planted;
mod post;
mod qos;
mod rack;
mod rounds;
mod shape;
mod slab;
mod start;
mod stop;
mod stripe;
#[cfg(test)]
mod test_memory;

pub use action::{
    Action, ActionError, ConnectedHost, Diff, DiffQuery, DiffWord, Drive, HostAcl, Identity, IpAcl, Limits,
    Outcome, SectorSize, Series, Snapshot, SnapshotSpec, Statistics, Volume, VolumeChange, VolumeSpec,
    VolumeState, VolumeUsage, VolumeUuid,
};
pub use engine::{Engine, EngineConfig, MessageOf, Notice};
pub use execute::VOLUME_BYTES_MAX;
pub use lead::{BenchNamespace, LeadConfig};
pub use message::{Message, Reply};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use start::StartError;
pub use store::pool::{FormatOptions, PoolError};
pub use store::{Identity as PoolIdentity, ShardOptions};
pub use stripe::STRIPE_BYTES;
