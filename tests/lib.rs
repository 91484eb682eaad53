//! Shared parts of the end-to-end tests: a Linux guest, a running server, and their clients.

#[path = "lib/association.rs"]
pub mod association;
#[path = "lib/bystander.rs"]
pub mod bystander;
#[path = "lib/forge.rs"]
pub mod forge;
#[path = "lib/guest.rs"]
pub mod guest;
#[path = "lib/linux.rs"]
pub mod linux;
#[path = "lib/person.rs"]
pub mod person;
#[path = "lib/proxy.rs"]
pub mod proxy;
#[path = "lib/python.rs"]
pub mod python;
#[path = "lib/rest.rs"]
pub mod rest;
#[path = "lib/scratch.rs"]
pub mod scratch;
#[path = "lib/seeds.rs"]
pub mod seeds;
#[path = "lib/server.rs"]
pub mod server;
#[path = "lib/wire.rs"]
pub mod wire;
