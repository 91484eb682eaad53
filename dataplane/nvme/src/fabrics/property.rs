//! Controller properties and the commands that read and write them. Base spec 2.0, sections
//! 3.1.3, 6.5 and 6.6.

use super::FabricsType;
use crate::sqe::Sqe;
use crate::status::Status;

/// A property that exists over Fabrics. Base spec 2.0, figure 35.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// 0h, 8 bytes: Controller Capabilities (CAP), read only.
    Cap,
    /// 8h, 4 bytes: Version (VS), read only.
    Vs,
    /// 14h, 4 bytes: Controller Configuration (CC).
    Cc,
    /// 1Ch, 4 bytes: Controller Status (CSTS), read only.
    Csts,
    /// 20h, 4 bytes: NVM Subsystem Reset (NSSR).
    Nssr,
}

impl Property {
    /// The property at `offset`.
    pub const fn parse(offset: u32) -> Option<Self> {
        Some(match offset {
            0x00 => Self::Cap,
            0x08 => Self::Vs,
            0x14 => Self::Cc,
            0x1c => Self::Csts,
            0x20 => Self::Nssr,
            _ => return None,
        })
    }

    /// Offset of the property (OFST).
    pub const fn offset(self) -> u32 {
        match self {
            Self::Cap => 0x00,
            Self::Vs => 0x08,
            Self::Cc => 0x14,
            Self::Csts => 0x1c,
            Self::Nssr => 0x20,
        }
    }

    /// Size of the property.
    pub const fn size(self) -> PropertySize {
        match self {
            Self::Cap => PropertySize::Bytes8,
            Self::Vs | Self::Cc | Self::Csts | Self::Nssr => PropertySize::Bytes4,
        }
    }
}

/// Size of a property (ATTRIB bits 2:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertySize {
    /// 000b: 4 bytes.
    Bytes4,
    /// 001b: 8 bytes.
    Bytes8,
}

impl PropertySize {
    const fn parse(attrib: u32) -> Result<Self, Status> {
        match attrib & 7 {
            0 => Ok(Self::Bytes4),
            1 => Ok(Self::Bytes8),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Bytes4 => 0,
            Self::Bytes8 => 1,
        }
    }
}

/// Property Get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyGet {
    /// Bytes to read.
    pub size: PropertySize,
    /// Offset of the property (OFST).
    pub offset: u32,
}

impl PropertyGet {
    /// Reads the command; a reserved size is an Invalid Field in Command.
    pub const fn parse(sqe: &Sqe) -> Result<Self, Status> {
        match PropertySize::parse(sqe.cdw10) {
            Ok(size) => Ok(Self { size, offset: sqe.cdw11 }),
            Err(status) => Err(status),
        }
    }

    /// The command that reads `property`.
    pub fn encode(property: Property) -> Sqe {
        let mut sqe = FabricsType::PropertyGet.command();
        sqe.cdw10 = property.size().code();
        sqe.cdw11 = property.offset();
        sqe
    }
}

/// Property Set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertySet {
    /// Bytes to write.
    pub size: PropertySize,
    /// Offset of the property (OFST).
    pub offset: u32,
    /// Value (VALUE); the low 4 bytes if that is the size.
    pub value: u64,
}

impl PropertySet {
    /// Reads the command; a reserved size is an Invalid Field in Command.
    pub const fn parse(sqe: &Sqe) -> Result<Self, Status> {
        let size = match PropertySize::parse(sqe.cdw10) {
            Ok(size) => size,
            Err(status) => return Err(status),
        };
        let value = match size {
            PropertySize::Bytes4 => sqe.cdw12 as u64,
            PropertySize::Bytes8 => sqe.cdw12 as u64 | (sqe.cdw13 as u64) << 32,
        };
        Ok(Self { size, offset: sqe.cdw11, value })
    }

    /// The command that sets `property` to `value`.
    pub fn encode(property: Property, value: u64) -> Sqe {
        let mut sqe = FabricsType::PropertySet.command();
        sqe.cdw10 = property.size().code();
        sqe.cdw11 = property.offset();
        sqe.cdw12 = value as u32;
        if property.size() == PropertySize::Bytes8 {
            sqe.cdw13 = (value >> 32) as u32;
        }
        sqe
    }
}

/// Controller Capabilities (CAP). Base spec 2.0, section 3.1.3.1; fields that only memory-based
/// controllers use are left out and read as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Entries that a queue may have, 2..=65536 (MQES, 0's based on the wire), bits 15:0.
    pub queue_entries_max: u32,
    /// Queues are physically contiguous (CQR), bit 16; always set over Fabrics.
    pub contiguous_queues: bool,
    /// Arbitration mechanisms beside round robin (AMS), bits 18:17.
    pub arbitration: u8,
    /// Time in units of 500 ms that CSTS.RDY may take to follow CC.EN (TO), bits 31:24.
    pub timeout_500ms: u8,
    /// NVM subsystem reset is supported (NSSRS), bit 36.
    pub subsystem_reset: bool,
    /// Command sets supported (CSS), bits 44:37; bit 0 the NVM command set, bit 6 command sets
    /// by identifier (CSI), bit 7 none.
    pub command_sets: u8,
    /// Minimum memory page size as 2^(12 + n) bytes (MPSMIN), bits 51:48.
    pub page_size_min: u8,
    /// Maximum memory page size as 2^(12 + n) bytes (MPSMAX), bits 55:52.
    pub page_size_max: u8,
    /// Controller ready modes supported (CRMS), bits 60:59; bit 0 ready with media.
    pub ready_modes: u8,
}

impl Cap {
    /// CSS bit of the NVM command set.
    pub const CSS_NVM: u8 = 1 << 0;
    /// CSS bit of command sets selected by identifier.
    pub const CSS_IO_COMMAND_SETS: u8 = 1 << 6;

    /// Reads the property.
    pub const fn parse(value: u64) -> Self {
        Self {
            queue_entries_max: (value & 0xffff) as u32 + 1,
            contiguous_queues: value & 1 << 16 != 0,
            arbitration: (value >> 17) as u8 & 3,
            timeout_500ms: (value >> 24) as u8,
            subsystem_reset: value & 1 << 36 != 0,
            command_sets: (value >> 37) as u8,
            page_size_min: (value >> 48) as u8 & 0xf,
            page_size_max: (value >> 52) as u8 & 0xf,
            ready_modes: (value >> 59) as u8 & 3,
        }
    }

    /// The property's value.
    pub const fn encode(&self) -> u64 {
        let mqes = match self.queue_entries_max {
            0 => 0,
            entries if entries > 1 << 16 => 0xffff,
            entries => entries as u64 - 1,
        };
        mqes | (self.contiguous_queues as u64) << 16
            | (self.arbitration as u64 & 3) << 17
            | (self.timeout_500ms as u64) << 24
            | (self.subsystem_reset as u64) << 36
            | (self.command_sets as u64) << 37
            | (self.page_size_min as u64 & 0xf) << 48
            | (self.page_size_max as u64 & 0xf) << 52
            | (self.ready_modes as u64 & 3) << 59
    }
}

/// Version (VS, and VER in Identify Controller).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major version (MJR).
    pub major: u16,
    /// Minor version (MNR).
    pub minor: u8,
    /// Tertiary version (TER).
    pub tertiary: u8,
}

impl Version {
    /// NVMe 2.0.
    pub const V2_0: Self = Self { major: 2, minor: 0, tertiary: 0 };
    /// NVMe 1.4.
    pub const V1_4: Self = Self { major: 1, minor: 4, tertiary: 0 };

    /// Reads the property.
    pub const fn parse(value: u32) -> Self {
        Self { major: (value >> 16) as u16, minor: (value >> 8) as u8, tertiary: value as u8 }
    }

    /// The property's value.
    pub const fn encode(&self) -> u32 {
        (self.major as u32) << 16 | (self.minor as u32) << 8 | self.tertiary as u32
    }
}

/// Shutdown notification (CC.SHN).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// 00b: no notification.
    #[default]
    None,
    /// 01b: normal shutdown.
    Normal,
    /// 10b: abrupt shutdown.
    Abrupt,
    /// 11b: reserved.
    Reserved,
}

/// Controller Configuration (CC). Base spec 2.0, section 3.1.3.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cc {
    /// Enable (EN), bit 0.
    pub enable: bool,
    /// I/O command set selected (CSS), bits 6:4: 0 NVM, 6 all that are supported, 7 admin only.
    pub command_set: u8,
    /// Memory page size as 2^(12 + n) bytes (MPS), bits 10:7.
    pub page_size: u8,
    /// Arbitration mechanism (AMS), bits 13:11: 0 round robin.
    pub arbitration: u8,
    /// Shutdown notification (SHN), bits 15:14.
    pub shutdown: Shutdown,
    /// I/O submission queue entry size as 2^n bytes (IOSQES), bits 19:16: 6 for NVM.
    pub io_sqe_size: u8,
    /// I/O completion queue entry size as 2^n bytes (IOCQES), bits 23:20: 4 for NVM.
    pub io_cqe_size: u8,
    /// Controller ready independent of media enable (CRIME), bit 24.
    pub ready_independent_of_media: bool,
}

impl Cc {
    /// What a host of the NVM command set writes to enable a controller.
    pub const ENABLE: Self = Self {
        enable: true,
        command_set: 0,
        page_size: 0,
        arbitration: 0,
        shutdown: Shutdown::None,
        io_sqe_size: 6,
        io_cqe_size: 4,
        ready_independent_of_media: false,
    };

    /// Reads the property.
    pub const fn parse(value: u32) -> Self {
        Self {
            enable: value & 1 != 0,
            command_set: (value >> 4) as u8 & 7,
            page_size: (value >> 7) as u8 & 0xf,
            arbitration: (value >> 11) as u8 & 7,
            shutdown: match value >> 14 & 3 {
                0 => Shutdown::None,
                1 => Shutdown::Normal,
                2 => Shutdown::Abrupt,
                _ => Shutdown::Reserved,
            },
            io_sqe_size: (value >> 16) as u8 & 0xf,
            io_cqe_size: (value >> 20) as u8 & 0xf,
            ready_independent_of_media: value & 1 << 24 != 0,
        }
    }

    /// The property's value.
    pub const fn encode(&self) -> u32 {
        let shutdown = match self.shutdown {
            Shutdown::None => 0,
            Shutdown::Normal => 1,
            Shutdown::Abrupt => 2,
            Shutdown::Reserved => 3,
        };
        self.enable as u32
            | (self.command_set as u32 & 7) << 4
            | (self.page_size as u32 & 0xf) << 7
            | (self.arbitration as u32 & 7) << 11
            | shutdown << 14
            | (self.io_sqe_size as u32 & 0xf) << 16
            | (self.io_cqe_size as u32 & 0xf) << 20
            | (self.ready_independent_of_media as u32) << 24
    }
}

/// Shutdown status (CSTS.SHST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShutdownStatus {
    /// 00b: normal operation.
    #[default]
    Normal,
    /// 01b: shutdown processing occurring.
    Occurring,
    /// 10b: shutdown processing complete.
    Complete,
    /// 11b: reserved.
    Reserved,
}

/// Controller Status (CSTS). Base spec 2.0, section 3.1.3.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Csts {
    /// Ready (RDY), bit 0.
    pub ready: bool,
    /// Controller fatal status (CFS), bit 1.
    pub fatal: bool,
    /// Shutdown status (SHST), bits 3:2.
    pub shutdown: ShutdownStatus,
    /// An NVM subsystem reset occurred (NSSRO), bit 4.
    pub subsystem_reset_occurred: bool,
    /// Processing paused (PP), bit 5.
    pub paused: bool,
}

impl Csts {
    /// Reads the property.
    pub const fn parse(value: u32) -> Self {
        Self {
            ready: value & 1 != 0,
            fatal: value & 2 != 0,
            shutdown: match value >> 2 & 3 {
                0 => ShutdownStatus::Normal,
                1 => ShutdownStatus::Occurring,
                2 => ShutdownStatus::Complete,
                _ => ShutdownStatus::Reserved,
            },
            subsystem_reset_occurred: value & 1 << 4 != 0,
            paused: value & 1 << 5 != 0,
        }
    }

    /// The property's value.
    pub const fn encode(&self) -> u32 {
        let shutdown = match self.shutdown {
            ShutdownStatus::Normal => 0,
            ShutdownStatus::Occurring => 1,
            ShutdownStatus::Complete => 2,
            ShutdownStatus::Reserved => 3,
        };
        self.ready as u32
            | (self.fatal as u32) << 1
            | shutdown << 2
            | (self.subsystem_reset_occurred as u32) << 4
            | (self.paused as u32) << 5
    }
}

/// NVM Subsystem Reset (NSSR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nssr(pub u32);

impl Nssr {
    /// The value ("NVMe") that starts a reset; others have no effect.
    pub const RESET: Self = Self(0x4e56_4d65);
}
