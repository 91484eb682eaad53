//! The REST interface over a real TLS connection, in front of a data plane held in memory.

mod access;
mod bench;
mod cinder;
mod contract;
mod events;
mod fake;
mod gone;
mod limits;
mod qos;
mod site;
mod snapshots;
mod statuses;
mod tokens;
mod volumes;
mod walk;

pub(crate) use bench::{Answer, Bench, KEY, bench, certificate_pem, token};
