//! PDUs that move a command's data: H2CData, C2HData, R2T. TCP transport spec 1.0, sections
//! 3.6.2.7 to 3.6.2.9.

use super::{Codec, Header, PLAIN_HEADER_LEN, PduError, PduFlags, PduType, PlainHeader, plain_head};
use crate::layout::{get, put};

const CCCID_AT: usize = 8;
const TTAG_AT: usize = 10;
const OFFSET_AT: usize = 12;
const LENGTH_AT: usize = 16;

/// Host to Controller Data (H2CData): data that an R2T asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2cData {
    /// Command capsule's CID (CCCID).
    pub cid: u16,
    /// Transfer tag (TTAG) of the R2T that is answered.
    pub ttag: u16,
    /// Offset in bytes of this data in the command's data (DATAO).
    pub offset_bytes: u32,
    /// Length in bytes of this data, not 0 (DATAL).
    pub len_bytes: u32,
    /// This is the last PDU for its R2T (LAST_PDU).
    pub last: bool,
}

impl H2cData {
    /// Reads the header.
    pub fn parse(flags: PduFlags, header: &Header) -> Result<Self, PduError> {
        Ok(Self {
            cid: get(header, CCCID_AT),
            ttag: get(header, TTAG_AT),
            offset_bytes: get(header, OFFSET_AT),
            len_bytes: length(header)?,
            last: flags.contains(PduFlags::LAST),
        })
    }

    /// Writes the header. Returns the bytes to send before the data.
    pub fn encode(&self, codec: &Codec, out: &mut Header) -> usize {
        put_fields(out, self.cid, self.ttag, self.offset_bytes, self.len_bytes);
        let flags = if self.last { PduFlags::LAST } else { PduFlags::default() };
        codec.seal(PduType::H2cData, flags, self.len_bytes, out)
    }
}

/// Controller to Host Data (C2HData).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct C2hData {
    /// Command capsule's CID (CCCID).
    pub cid: u16,
    /// Offset in bytes of this data in the command's data (DATAO).
    pub offset_bytes: u32,
    /// Length in bytes of this data, not 0 (DATAL).
    pub len_bytes: u32,
    /// This is the last PDU of the command's data (LAST_PDU).
    pub last: bool,
    /// The command succeeded and no response capsule follows (SUCCESS); only together with
    /// `last`, and only where the host disabled SQ flow control.
    pub success: bool,
}

impl C2hData {
    /// Reads the header; SUCCESS without LAST_PDU is an Invalid PDU Header Field.
    pub fn parse(flags: PduFlags, header: &Header) -> Result<Self, PduError> {
        let last = flags.contains(PduFlags::LAST);
        let success = flags.contains(PduFlags::SUCCESS);
        if success && !last {
            return Err(PduError::InvalidHeaderField { offset: 1 });
        }
        Ok(Self {
            cid: get(header, CCCID_AT),
            offset_bytes: get(header, OFFSET_AT),
            len_bytes: length(header)?,
            last,
            success,
        })
    }

    /// Writes the header. Returns the bytes to send before the data.
    pub fn encode(&self, codec: &Codec, out: &mut Header) -> usize {
        put_fields(out, self.cid, 0, self.offset_bytes, self.len_bytes);
        codec.seal(PduType::C2hData, self.flags(), self.len_bytes, out)
    }

    /// The bytes to send before the data, for a [`Codec::is_plain`].
    #[inline]
    pub fn encode_plain(&self) -> PlainHeader {
        let mut out = [0; PLAIN_HEADER_LEN];
        out[..8].copy_from_slice(&plain_head(PduType::C2hData, self.flags(), self.len_bytes));
        put(&mut out, CCCID_AT, self.cid);
        put(&mut out, OFFSET_AT, self.offset_bytes);
        put(&mut out, LENGTH_AT, self.len_bytes);
        out
    }

    #[inline]
    const fn flags(&self) -> PduFlags {
        let last = if self.last { PduFlags::LAST } else { PduFlags(0) };
        let success = if self.success { PduFlags::SUCCESS } else { PduFlags(0) };
        last.with(success)
    }
}

/// Ready to Transfer (R2T): the controller asks for a part of a command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2t {
    /// Command capsule's CID (CCCID).
    pub cid: u16,
    /// Transfer tag (TTAG), chosen by the controller; any value.
    pub ttag: u16,
    /// Offset in bytes of the wanted part in the command's data (R2TO).
    pub offset_bytes: u32,
    /// Length in bytes of the wanted part, not 0 (R2TL).
    pub len_bytes: u32,
}

impl R2t {
    /// Reads the header.
    pub fn parse(header: &Header) -> Result<Self, PduError> {
        Ok(Self {
            cid: get(header, CCCID_AT),
            ttag: get(header, TTAG_AT),
            offset_bytes: get(header, OFFSET_AT),
            len_bytes: length(header)?,
        })
    }

    /// Writes the PDU. Returns the bytes to send.
    pub fn encode(&self, codec: &Codec, out: &mut Header) -> usize {
        put_fields(out, self.cid, self.ttag, self.offset_bytes, self.len_bytes);
        codec.seal(PduType::R2t, PduFlags::default(), 0, out)
    }
}

fn length(header: &Header) -> Result<u32, PduError> {
    match get(header, LENGTH_AT) {
        0 => Err(PduError::InvalidHeaderField { offset: LENGTH_AT as u32 }),
        len_bytes => Ok(len_bytes),
    }
}

fn put_fields(out: &mut Header, cid: u16, ttag: u16, offset_bytes: u32, len_bytes: u32) {
    out[8..24].fill(0);
    put(out, CCCID_AT, cid);
    put(out, TTAG_AT, ttag);
    put(out, OFFSET_AT, offset_bytes);
    put(out, LENGTH_AT, len_bytes);
}
