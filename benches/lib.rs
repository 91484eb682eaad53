//! What the benches share: a drive in memory that costs next to nothing, so that what is measured is what uses it, and a
//! shard that is driven on it.

#[path = "lib/memory_drive.rs"]
pub mod memory_drive;
#[path = "lib/shard_driver.rs"]
pub mod shard_driver;
