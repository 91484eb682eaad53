//! How reactors are made: sizes and choices, with the arithmetic that bounds their memory.

use std::time::Duration;

use crate::drive::DriveSet;
use crate::features::Features;

/// The unit in which an arena is divided among lengths of buffers and registered with the ring.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Everything that the making of reactors needs to know. [`ReactorConfig::new`] gives defaults that suit a server.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// Features that may be used; each is used only where the kernel has it.
    pub features: Features,
    /// The drives of the pool, shared by all reactors.
    pub drives: DriveSet,
    /// Buffer memory of each reactor in bytes, rounded down to whole MiB, at least 8 MiB. It is taken from the
    /// system as it is first used, and never more than this.
    pub arena_bytes: usize,
    /// Connections of each reactor; less where the limit of open files (RLIMIT_NOFILE) is smaller.
    pub connections_max: u32,
    /// Messages of one lane from one reactor to another, and from the management thread to one reactor, that may
    /// wait to be taken.
    pub mail_slots: usize,
    /// Length of the buffers into which [`io::Net::receive`] receives, 4 KiB to 1 MiB.
    pub receive_bytes: usize,
    /// How many such buffers are offered to the kernel at a time; a power of two.
    pub receive_buffers: u16,
    /// Longest time that a reactor looks for work before it sleeps.
    pub spin_max: Duration,
    /// Each reactor's thread runs on its own CPU only.
    pub pin: bool,
    /// Entries of the submission queue; more operations than this cost more system calls, nothing else.
    pub submission_entries: u32,
}

impl ReactorConfig {
    /// Defaults for `count` reactors on `drives`.
    #[must_use]
    pub fn new(drives: DriveSet, count: usize) -> Self {
        Self {
            features: Features::all(),
            drives,
            arena_bytes: arena_default(memory_total_bytes(), count),
            connections_max: 4096,
            mail_slots: (4096 / count.max(1)).clamp(128, 1024),
            receive_bytes: 64 << 10,
            receive_buffers: 64,
            spin_max: Duration::from_micros(200),
            pin: true,
            submission_entries: 512,
        }
    }
}

/// An eighth of the machine's memory over all reactors, 32 to 256 MiB each.
fn arena_default(memory_bytes: usize, count: usize) -> usize {
    (memory_bytes / 8 / count.max(1)).clamp(32 << 20, 256 << 20) / CHUNK_BYTES * CHUNK_BYTES
}

/// Memory of the machine, as /proc/meminfo has it; 4 GiB where that cannot be read.
fn memory_total_bytes() -> usize {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()
        })
        .map_or(4 << 30, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_share_an_eighth_of_memory_within_limits() {
        assert_eq!(arena_default(24 << 30, 2), 256 << 20);
        assert_eq!(arena_default(2 << 30, 2), 128 << 20);
        assert_eq!(arena_default(256 << 20, 4), 32 << 20);
    }
}
