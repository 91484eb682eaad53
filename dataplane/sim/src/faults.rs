//! What may go wrong and how often: the dials of the fault model that the crate's head states.

use crate::Random;

/// How long things take: even between two bounds, now and then much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Shortest, in nanoseconds.
    pub min_ns: u64,
    /// Longest without a stall, in nanoseconds.
    pub max_ns: u64,
    /// One in how many stalls (0: none).
    pub stall_one_in: u32,
    /// Longest stall, in nanoseconds, on top.
    pub stall_ns: u64,
}

/// Rates of everything that fails by chance. `..._one_in` is "one in so many"; 0 means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Time that a disk operation takes.
    pub disk_latency: Latency,
    /// Reads that fail once with a media error.
    pub read_error_one_in: u32,
    /// Writes that fail with a media error; any subset of their blocks has been written.
    pub write_error_one_in: u32,
    /// Flushes that fail; what they should have made durable may then be lost for ever, later flushes notwithstanding.
    pub flush_error_one_in: u32,
    /// Reads in which one bit is wrong, once.
    pub read_flip_one_in: u32,
    /// Writes of which one bit is wrong on the medium, for good.
    pub write_flip_one_in: u32,
    /// A lie that no store survives (for the tests of the tests): writes acknowledged that were not done.
    pub lost_write_one_in: u32,
    /// A lie: writes acknowledged that went one or more blocks beside their place.
    pub misdirected_write_one_in: u32,
    /// A lie: flushes acknowledged that made nothing durable.
    pub false_flush_one_in: u32,
    /// Time that bytes take from one end of a connection to the other.
    pub net_latency: Latency,
    /// Longest run of bytes that arrives at once.
    pub net_segment_bytes: u32,
    /// Segments on whose arrival the connection breaks.
    pub net_reset_one_in: u32,
    /// Time that mail takes.
    pub mail_latency: Latency,
    /// Requests refused although the box has room (the sender must come again).
    pub mail_refusal_one_in: u32,
    /// Allocations refused although there is room, while at least one buffer is out (the caller must come again).
    pub memory_refusal_one_in: u32,
}

impl Latency {
    /// Always the same.
    #[must_use]
    pub const fn fixed(ns: u64) -> Self {
        Self { min_ns: ns, max_ns: ns, stall_one_in: 0, stall_ns: 0 }
    }

    /// One draw.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let base = random.between(self.min_ns, self.max_ns);
        if random.one_in(self.stall_one_in) { base + random.below(self.stall_ns.max(1)) } else { base }
    }
}

impl Faults {
    /// A world in which nothing fails, but everything takes time and nothing keeps an order that was not promised.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            disk_latency: Latency { min_ns: 8_000, max_ns: 120_000, stall_one_in: 0, stall_ns: 0 },
            read_error_one_in: 0,
            write_error_one_in: 0,
            flush_error_one_in: 0,
            read_flip_one_in: 0,
            write_flip_one_in: 0,
            lost_write_one_in: 0,
            misdirected_write_one_in: 0,
            false_flush_one_in: 0,
            net_latency: Latency { min_ns: 5_000, max_ns: 60_000, stall_one_in: 0, stall_ns: 0 },
            net_segment_bytes: 64 * 1024,
            net_reset_one_in: 0,
            mail_latency: Latency { min_ns: 200, max_ns: 5_000, stall_one_in: 0, stall_ns: 0 },
            mail_refusal_one_in: 0,
            memory_refusal_one_in: 0,
        }
    }

    /// Everything slow at times, every legal refusal at times, bytes in small pieces; no operation fails.
    #[must_use]
    pub const fn rough() -> Self {
        let mut faults = Self::none();
        faults.disk_latency =
            Latency { min_ns: 1_000, max_ns: 400_000, stall_one_in: 50, stall_ns: 30_000_000 };
        faults.net_latency =
            Latency { min_ns: 1_000, max_ns: 300_000, stall_one_in: 100, stall_ns: 20_000_000 };
        faults.net_segment_bytes = 3_000;
        faults.mail_latency = Latency { min_ns: 100, max_ns: 50_000, stall_one_in: 50, stall_ns: 5_000_000 };
        faults.mail_refusal_one_in = 16;
        faults.memory_refusal_one_in = 32;
        faults
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::none()
    }
}
