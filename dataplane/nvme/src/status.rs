//! Completion status: status code type and status code with the retry hints, and the named codes.

use core::fmt;

/// The 15-bit status field of a completion queue entry, phase tag excluded.
///
/// Bits 7:0 status code (SC), 10:8 status code type (SCT), 12:11 command retry delay (CRD),
/// 13 more (M), 14 do not retry (DNR). Base spec 2.0, section 3.3.3.2.1. The named constants
/// leave CRD, M and DNR clear; add DNR with [`Status::dnr`] where retrying cannot help.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

/// Status code type (SCT): which table the status code is from. Base spec 2.0, figure 94.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusType {
    /// 0h: generic command status.
    Generic,
    /// 1h: command specific status.
    CommandSpecific,
    /// 2h: media and data integrity errors.
    MediaAndDataIntegrity,
    /// 3h: path related status; without DNR a multipath host retries on another path.
    PathRelated,
    /// 4h to 6h: reserved.
    Reserved(u8),
    /// 7h: vendor specific.
    VendorSpecific,
}

impl Status {
    const CODE: u16 = 0x07ff;
    const MORE: u16 = 1 << 13;
    const DNR: u16 = 1 << 14;

    /// A status of type `sct` (0..=7) and code `sc`, without hints.
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self(((sct & 7) as u16) << 8 | sc as u16)
    }

    /// From the 15 bits of a completion; bit 15 is dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// The 15 bits as in a completion, phase tag shifted out.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The same status with Do Not Retry (DNR) set.
    #[must_use]
    pub const fn dnr(self) -> Self {
        Self(self.0 | Self::DNR)
    }

    /// The same status with More (M) set: the error log has an entry for this command.
    #[must_use]
    pub const fn more(self) -> Self {
        Self(self.0 | Self::MORE)
    }

    /// Do Not Retry (DNR): the same command would fail again.
    pub const fn is_dnr(self) -> bool {
        self.0 & Self::DNR != 0
    }

    /// More (M): the error log has an entry for this command.
    pub const fn is_more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// Command retry delay (CRD), 0..=3: which of the controller's CRDT fields applies; 0 none.
    pub const fn retry_delay_index(self) -> u8 {
        (self.0 >> 11) as u8 & 3
    }

    /// Status code (SC).
    pub const fn code(self) -> u8 {
        self.0 as u8
    }

    /// Status code type (SCT).
    pub const fn status_type(self) -> StatusType {
        match (self.0 >> 8) as u8 & 7 {
            0 => StatusType::Generic,
            1 => StatusType::CommandSpecific,
            2 => StatusType::MediaAndDataIntegrity,
            3 => StatusType::PathRelated,
            7 => StatusType::VendorSpecific,
            other => StatusType::Reserved(other),
        }
    }

    /// True for Successful Completion, whatever the hints.
    pub const fn is_success(self) -> bool {
        self.0 & Self::CODE == 0
    }

    /// True if type and code are those of `other`, whatever the hints.
    pub const fn is(self, other: Self) -> bool {
        self.0 & Self::CODE == other.0 & Self::CODE
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}h {}", self.0 & Self::CODE, self.name().unwrap_or("unnamed status"))?;
        if self.is_more() {
            f.write_str(" MORE")?;
        }
        if self.is_dnr() {
            f.write_str(" DNR")?;
        }
        Ok(())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Table of named statuses: constant, SCT << 8 | SC, the specification's name.
macro_rules! statuses {
    ($($constant:ident = $value:literal, $name:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!($name, " (`", stringify!($value), "`: SCT and SC).")]
                pub const $constant: Self = Self($value);
            )*

            /// The specification's name of the code, where this crate knows it. Codes of command
            /// specific type that depend on the opcode carry the name used with Fabrics commands.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 & Self::CODE {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0x000, "Successful Completion";
    INVALID_OPCODE = 0x001, "Invalid Command Opcode";
    INVALID_FIELD = 0x002, "Invalid Field in Command";
    COMMAND_ID_CONFLICT = 0x003, "Command ID Conflict";
    DATA_TRANSFER_ERROR = 0x004, "Data Transfer Error";
    POWER_LOSS = 0x005, "Commands Aborted due to Power Loss Notification";
    INTERNAL_ERROR = 0x006, "Internal Error";
    ABORT_REQUESTED = 0x007, "Command Abort Requested";
    ABORTED_SQ_DELETION = 0x008, "Command Aborted due to SQ Deletion";
    ABORTED_FAILED_FUSED = 0x009, "Command Aborted due to Failed Fused Command";
    ABORTED_MISSING_FUSED = 0x00a, "Command Aborted due to Missing Fused Command";
    INVALID_NAMESPACE = 0x00b, "Invalid Namespace or Format";
    COMMAND_SEQUENCE_ERROR = 0x00c, "Command Sequence Error";
    INVALID_SGL_SEGMENT = 0x00d, "Invalid SGL Segment Descriptor";
    INVALID_SGL_COUNT = 0x00e, "Invalid Number of SGL Descriptors";
    DATA_SGL_LENGTH_INVALID = 0x00f, "Data SGL Length Invalid";
    METADATA_SGL_LENGTH_INVALID = 0x010, "Metadata SGL Length Invalid";
    SGL_DESCRIPTOR_TYPE_INVALID = 0x011, "SGL Descriptor Type Invalid";
    INVALID_CONTROLLER_MEMORY_BUFFER = 0x012, "Invalid Use of Controller Memory Buffer";
    PRP_OFFSET_INVALID = 0x013, "PRP Offset Invalid";
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x014, "Atomic Write Unit Exceeded";
    OPERATION_DENIED = 0x015, "Operation Denied";
    SGL_OFFSET_INVALID = 0x016, "SGL Offset Invalid";
    HOST_ID_INCONSISTENT = 0x018, "Host Identifier Inconsistent Format";
    KEEP_ALIVE_EXPIRED = 0x019, "Keep Alive Timer Expired";
    KEEP_ALIVE_INVALID = 0x01a, "Keep Alive Timeout Invalid";
    ABORTED_PREEMPT = 0x01b, "Command Aborted due to Preempt and Abort";
    SANITIZE_FAILED = 0x01c, "Sanitize Failed";
    SANITIZE_IN_PROGRESS = 0x01d, "Sanitize In Progress";
    SGL_GRANULARITY_INVALID = 0x01e, "SGL Data Block Granularity Invalid";
    COMMAND_NOT_SUPPORTED_IN_CMB = 0x01f, "Command Not Supported for Queue in CMB";
    NAMESPACE_WRITE_PROTECTED = 0x020, "Namespace is Write Protected";
    COMMAND_INTERRUPTED = 0x021, "Command Interrupted";
    TRANSIENT_TRANSPORT_ERROR = 0x022, "Transient Transport Error";
    PROHIBITED_BY_LOCKDOWN = 0x023, "Command Prohibited by Command and Feature Lockdown";
    ADMIN_MEDIA_NOT_READY = 0x024, "Admin Command Media Not Ready";
    LBA_OUT_OF_RANGE = 0x080, "LBA Out of Range";
    CAPACITY_EXCEEDED = 0x081, "Capacity Exceeded";
    NAMESPACE_NOT_READY = 0x082, "Namespace Not Ready";
    RESERVATION_CONFLICT = 0x083, "Reservation Conflict";
    FORMAT_IN_PROGRESS = 0x084, "Format In Progress";

    COMPLETION_QUEUE_INVALID = 0x100, "Completion Queue Invalid";
    INVALID_QUEUE_ID = 0x101, "Invalid Queue Identifier";
    INVALID_QUEUE_SIZE = 0x102, "Invalid Queue Size";
    ABORT_LIMIT_EXCEEDED = 0x103, "Abort Command Limit Exceeded";
    ASYNC_EVENT_LIMIT_EXCEEDED = 0x105, "Asynchronous Event Request Limit Exceeded";
    INVALID_FIRMWARE_SLOT = 0x106, "Invalid Firmware Slot";
    INVALID_FIRMWARE_IMAGE = 0x107, "Invalid Firmware Image";
    INVALID_LOG_PAGE = 0x109, "Invalid Log Page";
    INVALID_FORMAT = 0x10a, "Invalid Format";
    INVALID_QUEUE_DELETION = 0x10c, "Invalid Queue Deletion";
    FEATURE_NOT_SAVEABLE = 0x10d, "Feature Identifier Not Saveable";
    FEATURE_NOT_CHANGEABLE = 0x10e, "Feature Not Changeable";
    FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10f, "Feature Not Namespace Specific";
    OVERLAPPING_RANGE = 0x114, "Overlapping Range";
    NAMESPACE_INSUFFICIENT_CAPACITY = 0x115, "Namespace Insufficient Capacity";
    NAMESPACE_ID_UNAVAILABLE = 0x116, "Namespace Identifier Unavailable";
    NAMESPACE_ALREADY_ATTACHED = 0x118, "Namespace Already Attached";
    NAMESPACE_IS_PRIVATE = 0x119, "Namespace Is Private";
    NAMESPACE_NOT_ATTACHED = 0x11a, "Namespace Not Attached";
    CONTROLLER_LIST_INVALID = 0x11c, "Controller List Invalid";
    ANA_GROUP_ID_INVALID = 0x124, "ANA Group Identifier Invalid";
    ANA_ATTACH_FAILED = 0x125, "ANA Attach Failed";
    IO_COMMAND_SET_NOT_SUPPORTED = 0x129, "I/O Command Set Not Supported";
    IO_COMMAND_SET_NOT_ENABLED = 0x12a, "I/O Command Set Not Enabled";
    IO_COMMAND_SET_COMBINATION_REJECTED = 0x12b, "I/O Command Set Combination Rejected";
    CONNECT_INCOMPATIBLE_FORMAT = 0x180, "Connect Incompatible Format";
    CONNECT_CONTROLLER_BUSY = 0x181, "Connect Controller Busy";
    CONNECT_INVALID_PARAMETERS = 0x182, "Connect Invalid Parameters";
    CONNECT_RESTART_DISCOVERY = 0x183, "Connect Restart Discovery";
    CONNECT_INVALID_HOST = 0x184, "Connect Invalid Host";
    INVALID_QUEUE_TYPE = 0x185, "Invalid Queue Type";
    DISCOVER_RESTART = 0x190, "Discover Restart";
    AUTHENTICATION_REQUIRED = 0x191, "Authentication Required";

    WRITE_FAULT = 0x280, "Write Fault";
    UNRECOVERED_READ = 0x281, "Unrecovered Read Error";
    GUARD_CHECK = 0x282, "End-to-end Guard Check Error";
    APPLICATION_TAG_CHECK = 0x283, "End-to-end Application Tag Check Error";
    REFERENCE_TAG_CHECK = 0x284, "End-to-end Reference Tag Check Error";
    COMPARE_FAILURE = 0x285, "Compare Failure";
    ACCESS_DENIED = 0x286, "Access Denied";
    DEALLOCATED_BLOCK = 0x287, "Deallocated or Unwritten Logical Block";
    STORAGE_TAG_CHECK = 0x288, "End-to-end Storage Tag Check Error";

    INTERNAL_PATH_ERROR = 0x300, "Internal Path Error";
    ANA_PERSISTENT_LOSS = 0x301, "Asymmetric Access Persistent Loss";
    ANA_INACCESSIBLE = 0x302, "Asymmetric Access Inaccessible";
    ANA_TRANSITION = 0x303, "Asymmetric Access Transition";
    CONTROLLER_PATHING_ERROR = 0x360, "Controller Pathing Error";
    HOST_PATHING_ERROR = 0x370, "Host Pathing Error";
    ABORTED_BY_HOST = 0x371, "Command Aborted By Host";
}

impl Status {
    /// Conflicting Attributes (`0x180` with Dataset Management, Read and Write).
    pub const CONFLICTING_ATTRIBUTES: Self = Self(0x180);
    /// Invalid Protection Information (`0x181` with NVM commands).
    pub const INVALID_PROTECTION_INFORMATION: Self = Self(0x181);
    /// Attempted Write to Read Only Range (`0x182` with NVM commands).
    pub const WRITE_TO_READ_ONLY: Self = Self(0x182);
}
