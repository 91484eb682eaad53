//! What the benches share: a drive in memory that costs next to nothing, so that what is measured is what uses it.

#[path = "lib/memory_drive.rs"]
pub mod memory_drive;
