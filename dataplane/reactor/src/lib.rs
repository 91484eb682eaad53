//! The seam on io_uring: one [`Reactor`] per core, with its own ring, sockets, buffers and mailbox.
//!
//! This crate alone may use `unsafe`. Start with [`DriveSet::open`], [`Placement::choose`] and
//! [`build`]; every [`ReactorSeed`] becomes a [`Reactor`] on its own thread. Every mechanism of [`Feature`] is used
//! where the kernel has it, can be switched off by name, and is needed by nothing.

mod buffer;
mod config;
mod disk;
mod drive;
mod features;
mod mail;
mod net;
mod pace;
mod poll;
mod reactor;
mod ring;
mod seed;
mod stats;
mod topology;

pub use buffer::{ArenaBuffer, ArenaShared};
pub use config::ReactorConfig;
pub use drive::{
    ADDED_BYTES_MIN, DRIVE_BYTES_MIN, Drive, DriveError, DriveErrorKind, DriveKind, DriveSet, DriveSpec,
    Fill, node_of_path,
};
pub use features::{Feature, Features, UnknownFeature};
pub use mail::Poster;
pub use net::OwnedSocket;
pub use reactor::Reactor;
pub use ring::setup::RingError;
pub use seed::{ReactorSeed, Reactors, StartError, build};
pub use stats::Stats;
pub use topology::{Cores, Cpu, Placement, PlacementError};
