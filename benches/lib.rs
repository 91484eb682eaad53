//! What the benches share: a drive in memory that costs next to nothing, so that what is measured is what uses it, a
//! shard that is driven on it, streams of capsules, a target that is driven by them without sockets, and a
//! pseudo-random sequence.

#[path = "lib/capsules.rs"]
pub mod capsules;
#[path = "lib/memory_drive.rs"]
pub mod memory_drive;
#[path = "lib/memory_net.rs"]
pub mod memory_net;
#[path = "lib/random.rs"]
pub mod random;
#[path = "lib/shard_driver.rs"]
pub mod shard_driver;
#[path = "lib/whole_target.rs"]
pub mod whole_target;
#[path = "lib/written_shard.rs"]
pub mod written_shard;
