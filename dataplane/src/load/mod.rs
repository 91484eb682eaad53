//! A load generator for any NVMe/TCP target: queues of the crate `host` on plain sockets, without a ring.
//!
//! [`run`] opens an association, identifies the namespace, opens the I/O queues and drives each from a thread until
//! the time is over; the calling thread keeps the association alive and reports progress. [`run_together`] does so with
//! several loads whose queues share a thread. Nothing is allocated per I/O: a queue has one block of memory for each command that may be outstanding, and they go round.

pub(crate) mod admin;
pub(crate) mod clock;
mod cpu;
mod error;
mod histogram;
mod lane;
mod options;
mod payload;
mod plan;
mod report;
mod run;
#[cfg(test)]
mod test;
mod worker;

pub use error::LoadError;
pub use options::{LoadOptions, Pattern, Waiting};
pub use report::{Cpu, Direction, LatencyNanos, LoadReport, Progress, Verified};
pub use run::{run, run_together};
