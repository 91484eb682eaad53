//! The capability fields of Identify Controller: flags, entry sizes, controller type. Base spec
//! 2.0, figure 275.

use crate::layout::Field;

/// Required and maximum size of a queue entry, each as a power of two of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySize {
    /// Required size, bits 3:0.
    pub required: u8,
    /// Maximum size, bits 7:4.
    pub maximum: u8,
}

impl Field for EntrySize {
    const LEN: usize = 1;
    fn get(bytes: &[u8]) -> Self {
        Self { required: bytes[0] & 0xf, maximum: bytes[0] >> 4 }
    }
    fn put(&self, out: &mut [u8]) {
        out[0] = (self.required & 0xf) | (self.maximum << 4);
    }
}

/// Controller type (CNTRLTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerType {
    /// 0h: not reported, as before revision 1.4.
    NotReported,
    /// 1h: I/O controller.
    Io,
    /// 2h: discovery controller.
    Discovery,
    /// 3h: administrative controller.
    Administrative,
    /// Any other value.
    Other(u8),
}

impl Field for ControllerType {
    const LEN: usize = 1;
    fn get(bytes: &[u8]) -> Self {
        match bytes[0] {
            0 => Self::NotReported,
            1 => Self::Io,
            2 => Self::Discovery,
            3 => Self::Administrative,
            other => Self::Other(other),
        }
    }
    fn put(&self, out: &mut [u8]) {
        out[0] = match *self {
            Self::NotReported => 0,
            Self::Io => 1,
            Self::Discovery => 2,
            Self::Administrative => 3,
            Self::Other(code) => code,
        };
    }
}

flags! {
    /// Controller multi-path I/O and namespace sharing capabilities (CMIC).
    pub struct Cmic(u8) {
        /// The subsystem may have several ports.
        MULTI_PORT = 1 << 0,
        /// The subsystem may have several controllers.
        MULTI_CONTROLLER = 1 << 1,
        /// The controller is an SR-IOV virtual function.
        VIRTUAL_FUNCTION = 1 << 2,
        /// Asymmetric namespace access reporting is supported.
        ANA_REPORTING = 1 << 3,
    }
}

flags! {
    /// Asynchronous events, with the same bits in OAES and in the Asynchronous Event
    /// Configuration feature (whose low byte enables SMART / health warnings).
    pub struct AsyncEvents(u32) {
        /// Namespace Attribute Notices.
        NAMESPACE_ATTRIBUTE = 1 << 8,
        /// Firmware Activation Notices.
        FIRMWARE_ACTIVATION = 1 << 9,
        /// Telemetry Log Notices; feature only.
        TELEMETRY = 1 << 10,
        /// Asymmetric Namespace Access Change Notices.
        ANA_CHANGE = 1 << 11,
        /// Predictable Latency Event Aggregate Log Change Notices.
        PREDICTABLE_LATENCY = 1 << 12,
        /// LBA Status Information Alert Notices.
        LBA_STATUS = 1 << 13,
        /// Endurance Group Event Aggregate Log Page Change Notices.
        ENDURANCE_GROUP = 1 << 14,
        /// Normal NVM Subsystem Shutdown event.
        NORMAL_SHUTDOWN = 1 << 15,
        /// Zone Descriptor Changed Notices.
        ZONE_DESCRIPTOR = 1 << 27,
        /// Discovery Log Page Change Notification.
        DISCOVERY_LOG = 1 << 31,
    }
}

flags! {
    /// Controller attributes (CTRATT).
    pub struct ControllerAttributes(u32) {
        /// 128-bit host identifiers are supported.
        HOST_ID_128 = 1 << 0,
        /// Non-operational power state permissive mode.
        NON_OPERATIONAL_PERMISSIVE = 1 << 1,
        /// NVM sets.
        NVM_SETS = 1 << 2,
        /// Read recovery levels.
        READ_RECOVERY_LEVELS = 1 << 3,
        /// Endurance groups.
        ENDURANCE_GROUPS = 1 << 4,
        /// Predictable latency mode.
        PREDICTABLE_LATENCY = 1 << 5,
        /// Traffic based keep alive (TBKAS): any command counts.
        TRAFFIC_BASED_KEEP_ALIVE = 1 << 6,
        /// Namespace granularity list.
        NAMESPACE_GRANULARITY = 1 << 7,
        /// SQ associations.
        SQ_ASSOCIATIONS = 1 << 8,
        /// UUID list.
        UUID_LIST = 1 << 9,
        /// Multi-domain subsystem.
        MULTI_DOMAIN = 1 << 10,
        /// Extended LBA formats.
        EXTENDED_LBA_FORMATS = 1 << 15,
    }
}

flags! {
    /// Optional admin command support (OACS).
    pub struct Oacs(u16) {
        /// Security Send and Receive.
        SECURITY = 1 << 0,
        /// Format NVM.
        FORMAT = 1 << 1,
        /// Firmware Commit and Download.
        FIRMWARE = 1 << 2,
        /// Namespace management.
        NAMESPACE_MANAGEMENT = 1 << 3,
        /// Device Self-test.
        SELF_TEST = 1 << 4,
        /// Directives.
        DIRECTIVES = 1 << 5,
        /// NVMe-MI Send and Receive.
        MI = 1 << 6,
        /// Virtualization Management.
        VIRTUALIZATION = 1 << 7,
        /// Doorbell Buffer Config.
        DOORBELL_BUFFER = 1 << 8,
        /// Get LBA Status.
        LBA_STATUS = 1 << 9,
        /// Command and feature lockdown.
        LOCKDOWN = 1 << 10,
    }
}

flags! {
    /// Log page attributes (LPA).
    pub struct LogPageAttributes(u8) {
        /// SMART / health log per namespace.
        SMART_PER_NAMESPACE = 1 << 0,
        /// Commands Supported and Effects log.
        COMMAND_EFFECTS = 1 << 1,
        /// Extended data for Get Log Page: 32-bit lengths and offsets.
        EXTENDED_DATA = 1 << 2,
        /// Telemetry logs and notices.
        TELEMETRY = 1 << 3,
        /// Persistent event log.
        PERSISTENT_EVENT = 1 << 4,
        /// Log pages 00h, 12h and 13h (Supported Log Pages, Feature Identifiers, MI commands).
        SUPPORTED_PAGES = 1 << 5,
        /// Telemetry data area 4.
        TELEMETRY_AREA_4 = 1 << 6,
    }
}

flags! {
    /// Asymmetric namespace access capabilities (ANACAP).
    pub struct AnaCapabilities(u8) {
        /// The Optimized state is reported.
        OPTIMIZED = 1 << 0,
        /// The Non-Optimized state is reported.
        NON_OPTIMIZED = 1 << 1,
        /// The Inaccessible state is reported.
        INACCESSIBLE = 1 << 2,
        /// The Persistent Loss state is reported.
        PERSISTENT_LOSS = 1 << 3,
        /// The Change state is reported.
        CHANGE = 1 << 4,
        /// A namespace's group does not change while it is attached.
        GROUP_ID_FIXED = 1 << 6,
        /// ANAGRPID may be set by Namespace Management.
        GROUP_ID_SETTABLE = 1 << 7,
    }
}

flags! {
    /// Optional NVM command support (ONCS).
    pub struct Oncs(u16) {
        /// Compare.
        COMPARE = 1 << 0,
        /// Write Uncorrectable.
        WRITE_UNCORRECTABLE = 1 << 1,
        /// Dataset Management.
        DATASET_MANAGEMENT = 1 << 2,
        /// Write Zeroes.
        WRITE_ZEROES = 1 << 3,
        /// Save in Set Features and Select in Get Features.
        FEATURE_SAVE = 1 << 4,
        /// Reservations.
        RESERVATIONS = 1 << 5,
        /// Timestamp feature.
        TIMESTAMP = 1 << 6,
        /// Verify.
        VERIFY = 1 << 7,
        /// Copy.
        COPY = 1 << 8,
    }
}

flags! {
    /// Fused operation support (FUSES).
    pub struct FusedCommands(u16) {
        /// Compare and Write.
        COMPARE_AND_WRITE = 1 << 0,
    }
}

flags! {
    /// Volatile write cache (VWC).
    pub struct VolatileWriteCache(u8) {
        /// A volatile write cache is present.
        PRESENT = 1 << 0,
        /// Flush with NSID FFFF_FFFFh is not supported (bits 2:1 = 10b).
        FLUSH_ALL_NOT_SUPPORTED = 0b10 << 1,
        /// Flush with NSID FFFF_FFFFh is supported (bits 2:1 = 11b).
        FLUSH_ALL_SUPPORTED = 0b11 << 1,
    }
}

flags! {
    /// SGL support (SGLS).
    pub struct SglSupport(u32) {
        /// SGLs are supported, without alignment (bits 1:0 = 01b).
        SUPPORTED = 0b01,
        /// SGLs are supported, with dword alignment (bits 1:0 = 10b).
        SUPPORTED_DWORD = 0b10,
        /// Keyed data block descriptors.
        KEYED = 1 << 2,
        /// Bit bucket descriptors.
        BIT_BUCKET = 1 << 16,
        /// Byte aligned contiguous metadata.
        METADATA_CONTIGUOUS = 1 << 17,
        /// SGLs longer than the data are allowed.
        LONGER_THAN_DATA = 1 << 18,
        /// Metadata pointer may hold an SGL.
        METADATA_SGL = 1 << 19,
        /// The address field may be an offset: in-capsule data.
        OFFSET = 1 << 20,
        /// Transport SGL data block descriptors.
        TRANSPORT = 1 << 21,
    }
}

flags! {
    /// Fabrics controller attributes (FCATT).
    pub struct FabricsAttributes(u8) {
        /// Static controller model; otherwise dynamic.
        STATIC_MODEL = 1 << 0,
    }
}

flags! {
    /// Optional Fabrics commands supported (OFCS).
    pub struct FabricsCommands(u16) {
        /// Disconnect.
        DISCONNECT = 1 << 0,
    }
}
