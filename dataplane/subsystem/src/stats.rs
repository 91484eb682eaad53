//! Plain counters; whoever drives the machines publishes copies.

use nvme::{Status, StatusType};

/// How commands ended, as coarse as a metrics label may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusClass {
    /// Successful completion.
    Success,
    /// Generic command status.
    Generic,
    /// Command specific status.
    CommandSpecific,
    /// Media and data integrity errors, Compare Failure among them.
    Media,
    /// Path related status.
    Path,
}

/// Commands by opcode and class of status.
#[derive(Clone, Debug)]
pub struct CommandCounts {
    counts: Box<[[u64; StatusClass::ALL.len()]; 256]>,
}

/// Counters of connections and of what they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportStats {
    /// Connections taken on.
    pub connections_opened: u64,
    /// Connections that are gone.
    pub connections_closed: u64,
    /// Connections ended by a termination request of ours.
    pub protocol_errors: u64,
    /// Connections ended because a deadline passed.
    pub deadlines_missed: u64,
    /// Payloads whose data digest did not match.
    pub data_digest_errors: u64,
    /// PDUs received.
    pub pdus_received: u64,
    /// Bytes of payload received.
    pub payload_received_bytes: u64,
    /// Bytes of payload handed to sends.
    pub payload_sent_bytes: u64,
    /// Bytes of payload that had to be copied because they came in parts.
    pub payload_copied_bytes: u64,
    /// Times that something waited for memory.
    pub memory_waits: u64,
}

impl StatusClass {
    /// All classes in order.
    pub const ALL: [Self; 5] = [Self::Success, Self::Generic, Self::CommandSpecific, Self::Media, Self::Path];

    /// The class of `status`.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        if status.is_success() {
            return Self::Success;
        }
        match status.status_type() {
            StatusType::Generic => Self::Generic,
            StatusType::MediaAndDataIntegrity => Self::Media,
            StatusType::PathRelated => Self::Path,
            StatusType::CommandSpecific | StatusType::Reserved(_) | StatusType::VendorSpecific => {
                Self::CommandSpecific
            }
        }
    }

    /// The class as a metrics label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Generic => "generic",
            Self::CommandSpecific => "command_specific",
            Self::Media => "media",
            Self::Path => "path",
        }
    }
}

impl CommandCounts {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: Box::new([[0; StatusClass::ALL.len()]; 256]) }
    }

    /// Counts one command.
    pub fn count(&mut self, opcode: u8, status: Status) {
        self.counts[usize::from(opcode)][StatusClass::of(status) as usize] += 1;
    }

    /// Commands of `opcode` that ended in `class`.
    #[must_use]
    pub fn of(&self, opcode: u8, class: StatusClass) -> u64 {
        self.counts[usize::from(opcode)][class as usize]
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, counts) in self.counts.iter_mut().zip(other.counts.iter()) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
}

impl Default for CommandCounts {
    fn default() -> Self {
        Self::new()
    }
}

impl TransportStats {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.connections_opened += other.connections_opened;
        self.connections_closed += other.connections_closed;
        self.protocol_errors += other.protocol_errors;
        self.deadlines_missed += other.deadlines_missed;
        self.data_digest_errors += other.data_digest_errors;
        self.pdus_received += other.pdus_received;
        self.payload_received_bytes += other.payload_received_bytes;
        self.payload_sent_bytes += other.payload_sent_bytes;
        self.payload_copied_bytes += other.payload_copied_bytes;
        self.memory_waits += other.memory_waits;
    }
}
