//! Opcodes, and the typed forms of the commands that this code base understands: parsed once
//! from a submission queue entry, 0's-based counts resolved. NVM command set spec 1.0, section 3;
//! base spec 2.0, section 5.

mod plain;

pub use plain::PlainTransfer;

use crate::sqe::Sqe;
use crate::status::Status;

/// Opcode of all Fabrics commands; FCTYPE tells them apart.
pub const FABRICS: u8 = 0x7f;

macro_rules! opcodes {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// Every variant, in order of code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The variant with this code, if it is known.
            pub const fn parse(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The code on the wire.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The variant's name, for metrics and messages.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }
        }
    };
}

opcodes! {
    /// Admin command opcodes. Base spec 2.0, figure 138.
    pub enum AdminOpcode {
        /// Delete I/O Submission Queue; not over Fabrics.
        DeleteIoSq = 0x00,
        /// Create I/O Submission Queue; not over Fabrics.
        CreateIoSq = 0x01,
        /// Get Log Page.
        GetLogPage = 0x02,
        /// Delete I/O Completion Queue; not over Fabrics.
        DeleteIoCq = 0x04,
        /// Create I/O Completion Queue; not over Fabrics.
        CreateIoCq = 0x05,
        /// Identify.
        Identify = 0x06,
        /// Abort.
        Abort = 0x08,
        /// Set Features.
        SetFeatures = 0x09,
        /// Get Features.
        GetFeatures = 0x0a,
        /// Asynchronous Event Request.
        AsyncEventRequest = 0x0c,
        /// Namespace Management.
        NamespaceManagement = 0x0d,
        /// Firmware Commit.
        FirmwareCommit = 0x10,
        /// Firmware Image Download.
        FirmwareDownload = 0x11,
        /// Device Self-test.
        DeviceSelfTest = 0x14,
        /// Namespace Attachment.
        NamespaceAttachment = 0x15,
        /// Keep Alive.
        KeepAlive = 0x18,
        /// Directive Send.
        DirectiveSend = 0x19,
        /// Directive Receive.
        DirectiveReceive = 0x1a,
        /// Fabrics commands.
        Fabrics = 0x7f,
        /// Format NVM.
        FormatNvm = 0x80,
        /// Security Send.
        SecuritySend = 0x81,
        /// Security Receive.
        SecurityReceive = 0x82,
        /// Sanitize.
        Sanitize = 0x84,
        /// Get LBA Status.
        GetLbaStatus = 0x86,
    }
}

opcodes! {
    /// NVM command set opcodes. NVM command set spec 1.0, figure 15.
    pub enum NvmOpcode {
        /// Flush.
        Flush = 0x00,
        /// Write.
        Write = 0x01,
        /// Read.
        Read = 0x02,
        /// Write Uncorrectable.
        WriteUncorrectable = 0x04,
        /// Compare.
        Compare = 0x05,
        /// Write Zeroes.
        WriteZeroes = 0x08,
        /// Dataset Management.
        DatasetManagement = 0x09,
        /// Verify.
        Verify = 0x0c,
        /// Reservation Register.
        ReservationRegister = 0x0d,
        /// Reservation Report.
        ReservationReport = 0x0e,
        /// Reservation Acquire.
        ReservationAcquire = 0x11,
        /// Reservation Release.
        ReservationRelease = 0x15,
        /// Copy.
        Copy = 0x19,
        /// Fabrics commands.
        Fabrics = 0x7f,
    }
}

flags! {
    /// CDW12 bits of commands on a range of LBAs, NLB excluded. NVM command set spec 1.0, section 3.2.
    pub struct IoFlags(u32) {
        /// Namespace Zeroes (NSZ): Write Zeroes may ignore the range and clear the namespace.
        NSZ = 1 << 23,
        /// Storage Tag Check (STC).
        STC = 1 << 24,
        /// Deallocate (DEAC): Write Zeroes should deallocate the range.
        DEAC = 1 << 25,
        /// Protection Information Check of the reference tag (PRCHK bit 0).
        PRCHK_REF = 1 << 26,
        /// Protection Information Check of the application tag (PRCHK bit 1).
        PRCHK_APP = 1 << 27,
        /// Protection Information Check of the guard (PRCHK bit 2).
        PRCHK_GUARD = 1 << 28,
        /// Protection Information Action (PRACT).
        PRACT = 1 << 29,
        /// Force Unit Access (FUA): complete only once on stable media.
        FUA = 1 << 30,
        /// Limited Retry (LR).
        LR = 1 << 31,
    }
}

/// A command on a range of LBAs: Read, Write, Compare, Write Zeroes, Verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaRange {
    /// Starting LBA (SLBA), CDW10 and CDW11.
    pub slba: u64,
    /// Number of logical blocks, 1..=65536 (NLB, 0's based on the wire), CDW12 bits 15:0.
    pub count_blocks: u32,
    /// Flags of CDW12.
    pub flags: IoFlags,
    /// Directive type (DTYPE), CDW12 bits 23:20; Write only.
    pub directive_type: u8,
    /// Dataset management hints (DSM) and directive specific field, CDW13.
    pub hints: u32,
}

impl LbaRange {
    const FLAG_BITS: u32 = 0xff80_0000;

    /// A plain range: no flags, no hints.
    pub const fn new(slba: u64, count_blocks: u32) -> Self {
        Self { slba, count_blocks, flags: IoFlags(0), directive_type: 0, hints: 0 }
    }

    /// Reads the range from a command. Every bit pattern is a range.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            slba: sqe.cdw10 as u64 | (sqe.cdw11 as u64) << 32,
            count_blocks: (sqe.cdw12 & 0xffff) + 1,
            flags: IoFlags(sqe.cdw12 & Self::FLAG_BITS),
            directive_type: (sqe.cdw12 >> 20) as u8 & 0xf,
            hints: sqe.cdw13,
        }
    }

    /// The command `opcode` on namespace `nsid` and this range. Counts beyond 65536 are cut.
    pub fn encode(&self, opcode: NvmOpcode, nsid: u32) -> Sqe {
        let mut sqe = Sqe::new(opcode.code(), nsid);
        sqe.cdw10 = self.slba as u32;
        sqe.cdw11 = (self.slba >> 32) as u32;
        sqe.cdw12 = (self.count_blocks.clamp(1, 1 << 16) - 1)
            | (u32::from(self.directive_type & 0xf) << 20)
            | (self.flags.0 & Self::FLAG_BITS);
        sqe.cdw13 = self.hints;
        sqe
    }

    /// The first LBA after the range; `None` if it does not fit in 64 bits.
    pub const fn end(&self) -> Option<u64> {
        self.slba.checked_add(self.count_blocks as u64)
    }

    /// True if the range lies within `size_blocks` LBAs.
    #[inline]
    pub const fn fits(&self, size_blocks: u64) -> bool {
        matches!(self.end(), Some(end) if end <= size_blocks)
    }
}

/// Dataset Management (DSM): hints on up to 256 ranges. NVM command set spec 1.0, section 3.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Number of ranges, 1..=256 (NR, 0's based on the wire).
    pub count_ranges: u16,
    /// Deallocate the ranges (AD).
    pub deallocate: bool,
    /// The ranges will be written as a whole (IDW).
    pub integral_write: bool,
    /// The ranges will be read as a whole (IDR).
    pub integral_read: bool,
}

impl DatasetManagement {
    /// Bytes of one range descriptor.
    pub const RANGE_LEN: usize = DsmRange::LEN;

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            count_ranges: (sqe.cdw10 & 0xff) as u16 + 1,
            integral_read: sqe.cdw11 & 1 != 0,
            integral_write: sqe.cdw11 & 2 != 0,
            deallocate: sqe.cdw11 & 4 != 0,
        }
    }

    /// The command for namespace `nsid`. Counts beyond 256 are cut.
    pub fn encode(&self, nsid: u32) -> Sqe {
        let mut sqe = Sqe::new(NvmOpcode::DatasetManagement.code(), nsid);
        sqe.cdw10 = u32::from(self.count_ranges.clamp(1, 256)) - 1;
        sqe.cdw11 = u32::from(self.integral_read)
            | u32::from(self.integral_write) << 1
            | u32::from(self.deallocate) << 2;
        sqe
    }

    /// Bytes of the range list.
    pub const fn list_len(&self) -> usize {
        self.count_ranges as usize * Self::RANGE_LEN
    }
}

layout! {
    /// One range of a Dataset Management command.
    pub struct DsmRange: 16 {
        /// Context attributes: access hints.
        0 => attributes: u32,
        /// Length in logical blocks. Not 0's based: 0 is an empty range.
        4 => count_blocks: u32,
        /// Starting LBA.
        8 => slba: u64,
    }
}

impl DsmRange {
    /// True if the range lies within `size_blocks` LBAs.
    pub const fn fits(&self, size_blocks: u64) -> bool {
        matches!(self.slba.checked_add(self.count_blocks as u64), Some(end) if end <= size_blocks)
    }
}

/// An I/O command of the NVM command set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvmCommand {
    /// Flush; all of the namespace's completed writes become durable.
    Flush,
    /// Write.
    Write(LbaRange),
    /// Read.
    Read(LbaRange),
    /// Compare with the host's data.
    Compare(LbaRange),
    /// Write Zeroes.
    WriteZeroes(LbaRange),
    /// Dataset Management.
    DatasetManagement(DatasetManagement),
    /// Verify that the range can be read.
    Verify(LbaRange),
}

impl NvmCommand {
    /// Reads a command; any other opcode is an Invalid Command Opcode.
    pub const fn parse(sqe: &Sqe) -> Result<Self, Status> {
        match NvmOpcode::parse(sqe.opcode) {
            Some(NvmOpcode::Flush) => Ok(Self::Flush),
            Some(NvmOpcode::Write) => Ok(Self::Write(LbaRange::parse(sqe))),
            Some(NvmOpcode::Read) => Ok(Self::Read(LbaRange::parse(sqe))),
            Some(NvmOpcode::Compare) => Ok(Self::Compare(LbaRange::parse(sqe))),
            Some(NvmOpcode::WriteZeroes) => Ok(Self::WriteZeroes(LbaRange::parse(sqe))),
            Some(NvmOpcode::DatasetManagement) => Ok(Self::DatasetManagement(DatasetManagement::parse(sqe))),
            Some(NvmOpcode::Verify) => Ok(Self::Verify(LbaRange::parse(sqe))),
            Some(_) | None => Err(Status::INVALID_OPCODE),
        }
    }

    /// The command for namespace `nsid`, data pointer unset.
    pub fn encode(&self, nsid: u32) -> Sqe {
        match self {
            Self::Flush => Sqe::new(NvmOpcode::Flush.code(), nsid),
            Self::Write(range) => range.encode(NvmOpcode::Write, nsid),
            Self::Read(range) => range.encode(NvmOpcode::Read, nsid),
            Self::Compare(range) => range.encode(NvmOpcode::Compare, nsid),
            Self::WriteZeroes(range) => range.encode(NvmOpcode::WriteZeroes, nsid),
            Self::DatasetManagement(command) => command.encode(nsid),
            Self::Verify(range) => range.encode(NvmOpcode::Verify, nsid),
        }
    }
}

/// Abort: asks the controller to abort one command. Base spec 2.0, section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Queue of the command to abort (SQID).
    pub sqid: u16,
    /// The command to abort (CID).
    pub cid: u16,
}

impl Abort {
    /// Completion dword 0, bit 0, if the command was not aborted.
    pub const NOT_ABORTED: u64 = 1;

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self { sqid: sqe.cdw10 as u16, cid: (sqe.cdw10 >> 16) as u16 }
    }

    /// The command.
    pub fn encode(&self) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::Abort.code(), 0);
        sqe.cdw10 = u32::from(self.sqid) | u32::from(self.cid) << 16;
        sqe
    }
}

#[cfg(test)]
mod test;
