//! Protocol data units of NVMe/TCP: common header, types, limits, and the errors that end a
//! connection. TCP transport spec 1.0, section 3.6.

mod capsule;
mod connection;
mod error;
mod transfer;

#[cfg(test)]
mod test;

pub use capsule::{CapsuleCmd, CapsuleResp};
pub use connection::{IcReq, IcResp, TermReq};
pub use error::{Fes, PduError};
pub use transfer::{C2hData, H2cData, R2t};

use crate::layout::{get, put};

/// Bytes of the common header (CH).
pub const COMMON_HEADER_LEN: usize = 8;
/// Longest PDU header with its digest and padding. ICReq and ICResp are 128 bytes; a command
/// capsule's header and digest are 76, padded to a multiple of an alignment of 4..=128 bytes,
/// which is below twice 76.
pub const HEADER_LEN_MAX: usize = 152;
/// Bytes of a header or data digest (CRC32C).
pub const DIGEST_LEN: usize = 4;
/// Smallest legal MAXH2CDATA in bytes. TCP spec, ICResp.
pub const MAXH2CDATA_MIN: u32 = 4096;
/// Most bytes of the offending PDU's header that a termination request carries.
pub const TERM_DATA_MAX: usize = 128;
/// In-capsule bytes that Admin and Fabrics commands may carry whatever IOCCSZ says. TCP spec,
/// section 3.3.2.1 (the transport allows 8192).
pub const ADMIN_CAPSULE_DATA_MAX: u32 = 8192;

/// PDU type (PDU-Type), byte 0 of the common header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PduType {
    /// 00h: Initialize Connection Request, host to controller.
    IcReq,
    /// 01h: Initialize Connection Response, controller to host.
    IcResp,
    /// 02h: Host to Controller Terminate Connection Request.
    H2cTermReq,
    /// 03h: Controller to Host Terminate Connection Request.
    C2hTermReq,
    /// 04h: Command Capsule, host to controller.
    CapsuleCmd,
    /// 05h: Response Capsule, controller to host.
    CapsuleResp,
    /// 06h: Host to Controller Data.
    H2cData,
    /// 07h: Controller to Host Data.
    C2hData,
    /// 09h: Ready to Transfer, controller to host.
    R2t,
}

impl PduType {
    /// The type with this code; others are reserved.
    pub const fn parse(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Self::IcReq,
            0x01 => Self::IcResp,
            0x02 => Self::H2cTermReq,
            0x03 => Self::C2hTermReq,
            0x04 => Self::CapsuleCmd,
            0x05 => Self::CapsuleResp,
            0x06 => Self::H2cData,
            0x07 => Self::C2hData,
            0x09 => Self::R2t,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::IcReq => 0x00,
            Self::IcResp => 0x01,
            Self::H2cTermReq => 0x02,
            Self::C2hTermReq => 0x03,
            Self::CapsuleCmd => 0x04,
            Self::CapsuleResp => 0x05,
            Self::H2cData => 0x06,
            Self::C2hData => 0x07,
            Self::R2t => 0x09,
        }
    }

    /// The one legal header length (HLEN) in bytes.
    pub const fn hlen(self) -> usize {
        match self {
            Self::IcReq | Self::IcResp => 128,
            Self::CapsuleCmd => 72,
            Self::H2cTermReq
            | Self::C2hTermReq
            | Self::CapsuleResp
            | Self::H2cData
            | Self::C2hData
            | Self::R2t => 24,
        }
    }

    /// Who receives PDUs of this type.
    pub const fn receiver(self) -> Receiver {
        match self {
            Self::IcReq | Self::H2cTermReq | Self::CapsuleCmd | Self::H2cData => Receiver::Controller,
            Self::IcResp | Self::C2hTermReq | Self::CapsuleResp | Self::C2hData | Self::R2t => Receiver::Host,
        }
    }

    /// True if a negotiated header digest protects PDUs of this type: all but connection
    /// initialisation and termination. TCP spec, section 3.3.1.1.
    pub const fn has_header_digest(self) -> bool {
        !matches!(self, Self::IcReq | Self::IcResp | Self::H2cTermReq | Self::C2hTermReq)
    }
}

/// The side that receives a byte stream, and so the direction of its PDUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// PDUs flow from host to controller.
    Controller,
    /// PDUs flow from controller to host.
    Host,
}

flags! {
    /// Flags (FLAGS), byte 1 of the common header. What a bit means depends on the type.
    pub struct PduFlags(u8) {
        /// The header is followed by a digest (HDGSTF).
        HDGSTF = 1 << 0,
        /// The data is followed by a digest (DDGSTF).
        DDGSTF = 1 << 1,
        /// The last data PDU of its transfer (LAST_PDU); data PDUs only.
        LAST = 1 << 2,
        /// The command succeeded and no response capsule follows (SUCCESS); C2HData only.
        SUCCESS = 1 << 3,
    }
}

/// Common header (CH): the first 8 bytes of each PDU, as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonHeader {
    /// PDU-Type code.
    pub type_code: u8,
    /// Flags.
    pub flags: PduFlags,
    /// Header length (HLEN) in bytes, digest excluded.
    pub hlen: u8,
    /// PDU data offset (PDO) in bytes from the PDU's start; 0 where there is no data.
    pub pdo: u8,
    /// PDU length (PLEN) in bytes: header, digests, padding and data.
    pub plen: u32,
}

impl CommonHeader {
    /// Byte offset of HLEN, for fatal error information.
    pub const HLEN_AT: u32 = 2;
    /// Byte offset of PDO, for fatal error information.
    pub const PDO_AT: u32 = 3;
    /// Byte offset of PLEN, for fatal error information.
    pub const PLEN_AT: u32 = 4;

    /// Reads the header.
    pub fn parse(bytes: &[u8; COMMON_HEADER_LEN]) -> Self {
        Self {
            type_code: bytes[0],
            flags: PduFlags(bytes[1]),
            hlen: bytes[2],
            pdo: bytes[3],
            plen: get(bytes, 4),
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; COMMON_HEADER_LEN] {
        let mut out = [0; COMMON_HEADER_LEN];
        out[..4].copy_from_slice(&[self.type_code, self.flags.0, self.hlen, self.pdo]);
        put(&mut out, 4, self.plen);
        out
    }
}

/// How one side of a connection writes and reads PDUs once the connection is initialised.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Header digests were negotiated.
    pub header_digest: bool,
    /// Data digests were negotiated.
    pub data_digest: bool,
    /// Data offsets are multiples of this many bytes (4..=128): the receiver's HPDA or CPDA.
    pub alignment_bytes: u8,
    /// CRC32C (Castagnoli, as in iSCSI), called only where digests are on.
    pub crc32c: fn(&[u8]) -> u32,
}

impl Codec {
    /// Before the connection is initialised: no digests, no alignment beyond a dword.
    pub const fn initial(crc32c: fn(&[u8]) -> u32) -> Self {
        Self { header_digest: false, data_digest: false, alignment_bytes: 4, crc32c }
    }

    /// True where what a controller sends has no digests, and its data no padding: its PDUs then begin with a
    /// [`PlainHeader`].
    pub const fn is_plain(&self) -> bool {
        let digests = self.header_digest || self.data_digest;
        !digests && self.data_offset(PduType::C2hData) == PLAIN_HEADER_LEN
    }

    /// Offset of the data in a PDU of type `pdu_type` (PDO).
    pub const fn data_offset(&self, pdu_type: PduType) -> usize {
        let digest = if self.header_digest && pdu_type.has_header_digest() { DIGEST_LEN } else { 0 };
        let alignment = if self.alignment_bytes < 4 { 4 } else { self.alignment_bytes as usize };
        (pdu_type.hlen() + digest).next_multiple_of(alignment)
    }

    /// Writes common header, digest and padding around the type-specific fields, which already
    /// lie at 8..HLEN of `out`. Returns the bytes to send before the data.
    fn seal(&self, pdu_type: PduType, mut flags: PduFlags, data_len: u32, out: &mut Header) -> usize {
        let hlen = pdu_type.hlen();
        let mut len = hlen;
        let mut plen = data_len;
        let mut pdo = 0;
        let has_digest = self.header_digest && pdu_type.has_header_digest();
        if has_digest {
            flags = flags.with(PduFlags::HDGSTF);
            len += DIGEST_LEN;
        }
        if data_len > 0 {
            len = self.data_offset(pdu_type);
            pdo = len as u8;
            if self.data_digest {
                flags = flags.with(PduFlags::DDGSTF);
                plen = plen.saturating_add(DIGEST_LEN as u32);
            }
        }
        plen = plen.saturating_add(len as u32);
        let common = CommonHeader { type_code: pdu_type.code(), flags, hlen: hlen as u8, pdo, plen };
        out[..COMMON_HEADER_LEN].copy_from_slice(&common.encode());
        out[hlen..len].fill(0);
        if has_digest {
            let digest = (self.crc32c)(&out[..hlen]);
            put(out, hlen, digest);
        }
        len
    }
}

/// Room for any encoded header with digest and padding.
pub type Header = [u8; HEADER_LEN_MAX];

/// Bytes of a controller's headers while PDUs flow.
const PLAIN_HEADER_LEN: usize = 24;

/// A header of a controller without digest and padding.
pub type PlainHeader = [u8; PLAIN_HEADER_LEN];

/// The common header in front of `data_len` bytes of data, where there are neither digests nor padding.
#[inline]
fn plain_head(pdu_type: PduType, flags: PduFlags, data_len: u32) -> [u8; COMMON_HEADER_LEN] {
    const HLEN: u8 = PLAIN_HEADER_LEN as u8;
    let pdo = if data_len > 0 { HLEN } else { 0 };
    let plen = data_len.saturating_add(u32::from(HLEN));
    let head = u32::from_le_bytes([pdu_type.code(), flags.0, HLEN, pdo]);
    (u64::from(head) | u64::from(plen) << 32).to_le_bytes()
}

/// A PDU's header, typed; its data is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// Initialize Connection Request.
    IcReq(IcReq),
    /// Initialize Connection Response.
    IcResp(IcResp),
    /// Host to Controller Terminate Connection Request.
    H2cTermReq(TermReq),
    /// Controller to Host Terminate Connection Request.
    C2hTermReq(TermReq),
    /// Command Capsule.
    CapsuleCmd(CapsuleCmd),
    /// Response Capsule.
    CapsuleResp(CapsuleResp),
    /// Host to Controller Data.
    H2cData(H2cData),
    /// Controller to Host Data.
    C2hData(C2hData),
    /// Ready to Transfer.
    R2t(R2t),
}

impl Pdu {
    /// This PDU's type.
    pub const fn pdu_type(&self) -> PduType {
        match self {
            Self::IcReq(_) => PduType::IcReq,
            Self::IcResp(_) => PduType::IcResp,
            Self::H2cTermReq(_) => PduType::H2cTermReq,
            Self::C2hTermReq(_) => PduType::C2hTermReq,
            Self::CapsuleCmd(_) => PduType::CapsuleCmd,
            Self::CapsuleResp(_) => PduType::CapsuleResp,
            Self::H2cData(_) => PduType::H2cData,
            Self::C2hData(_) => PduType::C2hData,
            Self::R2t(_) => PduType::R2t,
        }
    }

    /// Reads the header of a PDU of type `pdu_type`, whose HLEN bytes `header` starts with.
    pub(crate) fn parse(pdu_type: PduType, flags: PduFlags, header: &Header) -> Result<Self, PduError> {
        Ok(match pdu_type {
            PduType::IcReq => Self::IcReq(IcReq::parse(header)?),
            PduType::IcResp => Self::IcResp(IcResp::parse(header)?),
            PduType::H2cTermReq => Self::H2cTermReq(TermReq::parse(header)),
            PduType::C2hTermReq => Self::C2hTermReq(TermReq::parse(header)),
            PduType::CapsuleCmd => Self::CapsuleCmd(CapsuleCmd::parse(header)),
            PduType::CapsuleResp => Self::CapsuleResp(CapsuleResp::parse(header)),
            PduType::H2cData => Self::H2cData(H2cData::parse(flags, header)?),
            PduType::C2hData => Self::C2hData(C2hData::parse(flags, header)?),
            PduType::R2t => Self::R2t(R2t::parse(header)?),
        })
    }
}
