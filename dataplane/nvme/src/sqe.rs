//! The 64-byte submission queue entry and its SGL descriptor. Base spec 2.0, sections 3.3.3.1 and 4.1.

use crate::layout::{get, put};
use crate::status::Status;

/// Fused operation (FUSE), bits 1:0 of byte 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fuse {
    /// 00b: not fused.
    #[default]
    None,
    /// 01b: first command of a fused pair.
    First,
    /// 10b: second command of a fused pair.
    Second,
    /// 11b: reserved; answered with Invalid Field in Command.
    Reserved,
}

/// PRP or SGL for data transfer (PSDT), bits 7:6 of byte 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Psdt {
    /// 00b: PRPs. Not allowed over Fabrics.
    Prp,
    /// 01b: SGL, metadata pointer is an address.
    #[default]
    Sgl,
    /// 10b: SGL, metadata pointer is an SGL segment.
    SglMetadataSegment,
    /// 11b: reserved.
    Reserved,
}

/// Submission queue entry (SQE): a command as it lies in a capsule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sqe {
    /// Opcode (OPC). The two low bits say the direction of the data.
    pub opcode: u8,
    /// Fused operation.
    pub fuse: Fuse,
    /// Kind of data pointer.
    pub psdt: Psdt,
    /// Command identifier (CID), unique among the outstanding commands of a queue.
    pub cid: u16,
    /// Namespace identifier (NSID); FFFF_FFFFh is broadcast. Fabrics commands keep FCTYPE here.
    pub nsid: u32,
    /// Command dword 2.
    pub cdw2: u32,
    /// Command dword 3.
    pub cdw3: u32,
    /// Metadata pointer (MPTR).
    pub mptr: u64,
    /// SGL entry 1 as bytes; [`Sqe::sgl`] gives its meaning.
    pub sgl1: [u8; 16],
    /// Command dword 10.
    pub cdw10: u32,
    /// Command dword 11.
    pub cdw11: u32,
    /// Command dword 12.
    pub cdw12: u32,
    /// Command dword 13.
    pub cdw13: u32,
    /// Command dword 14.
    pub cdw14: u32,
    /// Command dword 15.
    pub cdw15: u32,
}

/// Broadcast namespace identifier.
pub const NSID_ALL: u32 = 0xffff_ffff;

impl Sqe {
    /// Bytes on the wire.
    pub const LEN: usize = 64;

    /// A command of `opcode` for `nsid`, all else zero. The CID is set by the queue that sends it.
    pub fn new(opcode: u8, nsid: u32) -> Self {
        Self { opcode, nsid, ..Self::default() }
    }

    /// Reads an entry. Every bit pattern is an entry; what is reserved in it is judged by the
    /// reader of the field, because the answer depends on the command.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            opcode: bytes[0],
            fuse: match bytes[1] & 3 {
                0 => Fuse::None,
                1 => Fuse::First,
                2 => Fuse::Second,
                _ => Fuse::Reserved,
            },
            psdt: match bytes[1] >> 6 {
                0 => Psdt::Prp,
                1 => Psdt::Sgl,
                2 => Psdt::SglMetadataSegment,
                _ => Psdt::Reserved,
            },
            cid: get(bytes, 2),
            nsid: get(bytes, 4),
            cdw2: get(bytes, 8),
            cdw3: get(bytes, 12),
            mptr: get(bytes, 16),
            sgl1: get(bytes, 24),
            cdw10: get(bytes, 40),
            cdw11: get(bytes, 44),
            cdw12: get(bytes, 48),
            cdw13: get(bytes, 52),
            cdw14: get(bytes, 56),
            cdw15: get(bytes, 60),
        }
    }

    /// The entry's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let fuse = match self.fuse {
            Fuse::None => 0,
            Fuse::First => 1,
            Fuse::Second => 2,
            Fuse::Reserved => 3,
        };
        let psdt = match self.psdt {
            Psdt::Prp => 0,
            Psdt::Sgl => 1,
            Psdt::SglMetadataSegment => 2,
            Psdt::Reserved => 3,
        };
        let mut out = [0; Self::LEN];
        out[0] = self.opcode;
        out[1] = fuse | psdt << 6;
        put(&mut out, 2, self.cid);
        put(&mut out, 4, self.nsid);
        put(&mut out, 8, self.cdw2);
        put(&mut out, 12, self.cdw3);
        put(&mut out, 16, self.mptr);
        put(&mut out, 24, self.sgl1);
        put(&mut out, 40, self.cdw10);
        put(&mut out, 44, self.cdw11);
        put(&mut out, 48, self.cdw12);
        put(&mut out, 52, self.cdw13);
        put(&mut out, 56, self.cdw14);
        put(&mut out, 60, self.cdw15);
        out
    }

    /// The data pointer. PRPs are not allowed over Fabrics (Base spec 2.0, section 3.3.3.1): they
    /// are an Invalid Field in Command, an unknown descriptor is SGL Descriptor Type Invalid.
    pub fn sgl(&self) -> Result<Sgl, Status> {
        match self.psdt {
            Psdt::Sgl | Psdt::SglMetadataSegment => Sgl::parse(&self.sgl1),
            Psdt::Prp | Psdt::Reserved => Err(Status::INVALID_FIELD),
        }
    }

    /// The same command with its data pointer set.
    #[must_use]
    pub fn with_sgl(mut self, sgl: Sgl) -> Self {
        self.psdt = Psdt::Sgl;
        self.sgl1 = sgl.encode();
        self
    }

    /// Direction of the command's data by its opcode (bits 1:0). Base spec 2.0, figure 138.
    pub const fn direction(&self) -> Direction {
        // Fabrics commands say it in FCTYPE, which lies in the low byte of the NSID field.
        let code = if self.opcode == crate::command::FABRICS { self.nsid as u8 } else { self.opcode };
        match code & 3 {
            0 => Direction::None,
            1 => Direction::HostToController,
            2 => Direction::ControllerToHost,
            _ => Direction::Bidirectional,
        }
    }
}

/// Where a command's data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// 00b: no data.
    None,
    /// 01b: host to controller.
    HostToController,
    /// 10b: controller to host.
    ControllerToHost,
    /// 11b: both ways.
    Bidirectional,
}

/// An SGL descriptor. Base spec 2.0, section 4.1.2; only those that fit in a capsule's SGL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgl {
    /// Data block with an address (type 0h, subtype 0h). Not used by the TCP transport, except
    /// that a zero length with it means no data.
    Address {
        /// Memory address in the host.
        address: u64,
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Data block with an offset (type 0h, subtype 1h): in-capsule data.
    InCapsule {
        /// Offset in bytes from ICDOFF to the data in the capsule.
        offset_bytes: u64,
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Transport SGL data block (type 5h, subtype Ah): moved by the transport's data PDUs.
    Transport {
        /// Length in bytes.
        len_bytes: u32,
    },
    /// Keyed SGL data block (type 4h): RDMA only.
    Keyed {
        /// Memory address in the host.
        address: u64,
        /// Length in bytes, 24 bits.
        len_bytes: u32,
        /// Remote key.
        key: u32,
        /// Subtype: 0h address, Fh address with remote invalidation.
        subtype: u8,
    },
}

impl Sgl {
    const TYPE_DATA_BLOCK: u8 = 0x00;
    pub(crate) const TYPE_DATA_BLOCK_OFFSET: u8 = 0x01;
    const TYPE_KEYED: u8 = 0x4;
    pub(crate) const TYPE_TRANSPORT: u8 = 0x5a;

    /// Reads a descriptor; segment, bit bucket and unknown types are SGL Descriptor Type Invalid.
    pub fn parse(bytes: &[u8; 16]) -> Result<Self, Status> {
        let address = get(bytes, 0);
        let len_bytes = get(bytes, 8);
        match bytes[15] {
            Self::TYPE_DATA_BLOCK => Ok(Self::Address { address, len_bytes }),
            Self::TYPE_DATA_BLOCK_OFFSET => Ok(Self::InCapsule { offset_bytes: address, len_bytes }),
            Self::TYPE_TRANSPORT => Ok(Self::Transport { len_bytes }),
            byte if byte >> 4 == Self::TYPE_KEYED => Ok(Self::Keyed {
                address,
                len_bytes: len_bytes & 0x00ff_ffff,
                key: get(bytes, 11),
                subtype: byte & 0xf,
            }),
            _ => Err(Status::SGL_DESCRIPTOR_TYPE_INVALID),
        }
    }

    /// The descriptor's bytes. A keyed length is cut to its 24 bits, a subtype to its 4.
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        match *self {
            Self::Address { address, len_bytes } => {
                put(&mut out, 0, address);
                put(&mut out, 8, len_bytes);
            }
            Self::InCapsule { offset_bytes, len_bytes } => {
                put(&mut out, 0, offset_bytes);
                put(&mut out, 8, len_bytes);
                out[15] = Self::TYPE_DATA_BLOCK_OFFSET;
            }
            Self::Transport { len_bytes } => {
                put(&mut out, 8, len_bytes);
                out[15] = Self::TYPE_TRANSPORT;
            }
            Self::Keyed { address, len_bytes, key, subtype } => {
                put(&mut out, 0, address);
                put(&mut out, 8, len_bytes & 0x00ff_ffff);
                put(&mut out, 11, key);
                out[15] = Self::TYPE_KEYED << 4 | subtype & 0xf;
            }
        }
        out
    }

    /// Length of the described data in bytes.
    pub const fn len_bytes(&self) -> u32 {
        match *self {
            Self::Address { len_bytes, .. }
            | Self::InCapsule { len_bytes, .. }
            | Self::Transport { len_bytes }
            | Self::Keyed { len_bytes, .. } => len_bytes,
        }
    }
}
