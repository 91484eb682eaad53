//! Error Information (01h), SMART / Health (02h), Firmware Slot (03h) and Reservation
//! Notification (80h). Base spec 2.0, sections 5.16.1.2 to 5.16.1.4 and 5.16.1.24.

use crate::layout::Field;
use crate::status::Status;
use crate::text::Ascii;

layout! {
    /// One entry of the Error Information page; the newest entry comes first.
    pub struct ErrorEntry: 64 {
        /// Number of this error since the controller was made; 0 marks an unused entry.
        0 => error_count: u64,
        /// Queue of the command; FFFFh if not about a command.
        8 => sqid: u16,
        /// Command identifier; FFFFh if not about a command.
        10 => cid: u16,
        /// Status of the completion, with phase tag.
        12 => status: StatusField,
        /// Parameter error location: byte in bits 7:0, bit in 10:8; FFFFh if not about a field.
        14 => parameter_location: u16,
        /// First LBA that had the error.
        16 => lba: u64,
        /// Namespace.
        24 => nsid: u32,
        /// Vendor specific log page with more, or 0.
        28 => vendor_page: u8,
        /// Transport type (TRTYPE): 3 TCP.
        29 => transport: u8,
        /// Command set identifier (CSI), valid with log page version 1.
        30 => csi: u8,
        /// Opcode of the command, valid with log page version 1.
        31 => opcode: u8,
        /// Command specific information.
        32 => command_specific: u64,
        /// Transport type specific information.
        40 => transport_specific: u16,
        /// Log page version: 1 where `csi` and `opcode` are valid.
        63 => version: u8,
    }
}

/// A status in its 16-bit field with phase tag, which is written as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusField(pub Status);

impl Field for StatusField {
    const LEN: usize = 2;
    fn get(bytes: &[u8]) -> Self {
        Self(Status::from_bits(u16::get(bytes) >> 1))
    }
    fn put(&self, out: &mut [u8]) {
        (self.0.bits() << 1).put(out);
    }
}

layout! {
    /// SMART / Health Information page.
    pub struct HealthLog: 512 {
        /// Critical warning.
        0 => critical_warning: CriticalWarning,
        /// Composite temperature in kelvins.
        1 => temperature_kelvin: u16,
        /// Available spare in per cent, 0..=100.
        3 => available_spare_percent: u8,
        /// Available spare threshold in per cent, 0..=100.
        4 => available_spare_threshold_percent: u8,
        /// Percentage used, 0..=255.
        5 => used_percent: u8,
        /// Endurance group critical warning summary.
        6 => endurance_group_warning: u8,
        /// Data read by hosts, in thousands of 512-byte units, rounded up.
        32 => data_units_read: u128,
        /// Data written by hosts, in thousands of 512-byte units, rounded up.
        48 => data_units_written: u128,
        /// Read commands completed.
        64 => host_reads: u128,
        /// Write commands completed.
        80 => host_writes: u128,
        /// Minutes with I/O commands outstanding.
        96 => busy_minutes: u128,
        /// Power cycles.
        112 => power_cycles: u128,
        /// Hours powered on.
        128 => power_on_hours: u128,
        /// Unsafe shutdowns.
        144 => unsafe_shutdowns: u128,
        /// Unrecovered data integrity errors.
        160 => media_errors: u128,
        /// Error log entries over the controller's life.
        176 => error_log_entries: u128,
        /// Minutes above the warning temperature.
        192 => warning_temperature_minutes: u32,
        /// Minutes above the critical temperature.
        196 => critical_temperature_minutes: u32,
        /// Temperature sensors 1 to 8 in kelvins; 0 not present.
        200 => sensors_kelvin: [u16; 8],
    }
}

flags! {
    /// Critical warning.
    pub struct CriticalWarning(u8) {
        /// Available spare is below its threshold.
        SPARE_LOW = 1 << 0,
        /// A temperature is beyond a threshold.
        TEMPERATURE = 1 << 1,
        /// Reliability is degraded.
        RELIABILITY = 1 << 2,
        /// All media are read only.
        READ_ONLY = 1 << 3,
        /// Volatile memory backup failed.
        BACKUP_FAILED = 1 << 4,
        /// The persistent memory region is read only or unreliable.
        PERSISTENT_MEMORY = 1 << 5,
    }
}

layout! {
    /// Firmware Slot Information page.
    pub struct FirmwareSlotLog: 512 {
        /// Active firmware info (AFI): slot running in bits 2:0, slot after the next reset in 6:4.
        0 => active: u8,
        /// Firmware revisions of slots 1 to 7 (FRS1 to FRS7).
        8 => revisions: [Ascii<8>; 7],
    }
}

layout! {
    /// Reservation Notification page.
    pub struct ReservationNotification: 64 {
        /// Log page count; 0 where there is no notification.
        0 => count: u64,
        /// Type: 0 empty, 1 registration preempted, 2 reservation released, 3 reservation preempted.
        8 => kind: u8,
        /// Further notifications that can be read; 255 for that many or more.
        9 => count_available: u8,
        /// Namespace.
        12 => nsid: u32,
    }
}
