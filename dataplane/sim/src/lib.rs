//! The seam `io` in memory: deterministic from one seed, and faulty. The same state machines run here as on the ring.
//!
//! # Fault model
//!
//! What follows is all that may go wrong, so that a red run is a bug and never an argument.
//!
//! **Drives.** Operations that are under way together take effect in any order. A write lands in up to three runs of
//! blocks at different times before its event; a read takes each extent at its own time, so a read that overlaps a
//! write sees any mixture of blocks. A block of the drive (512 or 4096 bytes) is written whole or not at all.
//! - *Kill:* writes that were told stay; of writes under way any set of blocks lands before the next life begins;
//!   what was asked for after the last poll never happens. Drive caches stay.
//! - *Power cut:* the same, then every block that was written since it was last made durable falls back, each on its
//!   own, to any version from its durable one to its newest. A flush makes durable what was told to a reactor before
//!   the flush was asked for. A drive without a volatile cache loses nothing that landed.
//! - *Failures:* reads, writes and flushes fail at given rates. A write that failed has written any of its blocks.
//!   After a flush that failed, blocks that it covered may never become durable, whatever later flushes say. Blocks
//!   can be damaged (unreadable until written). A drive that is gone answers nothing but errors; when it is back it has
//!   what it had, its cache included. A read that failed leaves any contents.
//! - *Decay:* bits turn over, once in what is read, or for good on the medium.
//! - *Lies* (no store survives them; they test the tests): a write acknowledged that was not done or went beside its
//!   place, a flush acknowledged that made nothing durable.
//!
//! **Connections.** Bytes arrive in order, in segments of any length, at any delay; a receive returns any part of what
//! has arrived. Buffers are finite, so a slow reader stops its sender. Peers end or reset at any time; a reset loses
//! any tail of what is on its way and what was not read. A stalled proxy withholds everything that was sent (ends and
//! resets too) and delivers it whenever it goes on. Both kinds of crash break every connection visibly.
//!
//! **Mail.** Any delay, in order per sender and lane. Requests are refused when the box is full or at a given rate;
//! replies never are.
//!
//! **Memory.** Arenas are bounded, with reserves by purpose; any allocation is refused at a given rate while a buffer of
//! the reactor is out. New buffers are full of garbage. Buffers that are not home can be counted.
//!
//! **Threads.** Reactors run one at a time, in any order, and can be late. Time moves only between their rounds.
//!
//! Callers' bugs panic here: addresses within a block or beyond a drive, extents that overlap, a second receive or
//! send, use of a connection that was closed, use of a handle of an earlier life.
#![forbid(unsafe_code)]

mod core;
mod disk;
mod drive;
mod endpoint;
mod faults;
mod link;
mod mail;
mod memory;
pub mod model;
mod net;
mod random;
pub mod target;
pub mod trial;
mod world;

pub use drive::CutStyle;
pub use endpoint::{Arrived, Endpoint, EndpointId};
pub use faults::{Faults, Latency};
pub use memory::{MemoryLimits, SimBuffer, SimShared};
pub use net::SimSocket;
pub use random::{Random, scramble};
pub use world::{Crash, SimIo, Wake, World, WorldOptions};
