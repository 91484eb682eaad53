//! What the benches share: a drive in memory that costs next to nothing, so that what is measured is what uses it, a shard
//! that is driven on it, and streams of capsules.

#[path = "lib/capsules.rs"]
pub mod capsules;
#[path = "lib/memory_drive.rs"]
pub mod memory_drive;
#[path = "lib/shard_driver.rs"]
pub mod shard_driver;
#[path = "lib/written_shard.rs"]
pub mod written_shard;
