//! Wire types and codecs of NVMe (Base 2.0, NVM command set 1.0), NVMe over Fabrics and the
//! NVMe/TCP transport (1.0): no input or output, no clock, no allocation, no dependency.
//!
//! Everything here turns bytes into types once, at the edge: 0's-based counts become counts,
//! units become part of the name, reserved encodings become errors that carry the wire code to
//! answer with (a [`PduError`] becomes a termination request, a [`Status`] a completion).
//! Structures of fixed length parse from and encode into arrays of exactly that length, so a
//! short buffer is a type error of the caller and never a panic here.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod layout;
#[cfg(test)]
#[macro_use]
mod testing;

pub mod command;
pub mod cqe;
pub mod event;
pub mod fabrics;
pub mod features;
pub mod framer;
pub mod identify;
pub mod log;
pub mod pdu;
pub mod sqe;
pub mod status;
pub mod text;

pub use cqe::Cqe;
pub use fabrics::{Nqn, NqnError};
pub use framer::{Event, Frame, Framer, Limits, WholeCapsule};
pub use pdu::{Pdu, PduError, PduType};
pub use sqe::{Fuse, Psdt, Sgl, Sqe};
pub use status::{Status, StatusType};
