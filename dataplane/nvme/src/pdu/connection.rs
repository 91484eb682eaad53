//! PDUs that open and end a connection: ICReq, ICResp, H2CTermReq, C2HTermReq.
//! TCP transport spec 1.0, sections 3.6.2.1 to 3.6.2.4.

use super::{COMMON_HEADER_LEN, CommonHeader, Header, PduError, PduFlags, PduType, TERM_DATA_MAX};
use crate::layout::{get, put};

const PFV_AT: u32 = 8;
const PDA_AT: u32 = 10;
const DGST_AT: u32 = 11;
const MAXH2CDATA_AT: u32 = 12;
/// PDU format version 1.0.
const PFV_1_0: u16 = 0;
/// HPDA and CPDA are 0's based dwords, 0..=31.
const PDA_MAX: u8 = 31;
const HDGST_ENABLE: u8 = 1 << 0;
const DDGST_ENABLE: u8 = 1 << 1;

/// Initialize Connection Request (ICReq): the first PDU of a connection, from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcReq {
    /// Alignment in bytes (4..=128, a multiple of 4) that the host asks of the data in PDUs to
    /// it (HPDA; 0's based dwords on the wire).
    pub alignment_bytes: u8,
    /// The host asks for header digests (DGST.HDGST_ENABLE).
    pub header_digest: bool,
    /// The host asks for data digests (DGST.DDGST_ENABLE).
    pub data_digest: bool,
    /// R2Ts that may be outstanding per command, 1..=2^32 (MAXR2T; 0's based on the wire).
    pub r2t_max: u64,
}

impl IcReq {
    /// Bytes on the wire.
    pub const LEN: usize = 128;

    /// Reads the request. Another format version is an Unsupported Parameter, an alignment out
    /// of range an Invalid PDU Header Field.
    pub fn parse(header: &Header) -> Result<Self, PduError> {
        let (alignment_bytes, header_digest, data_digest) = parse_parameters(header)?;
        let r2t_max = u64::from(get::<u32>(header, 12)) + 1;
        Ok(Self { alignment_bytes, header_digest, data_digest, r2t_max })
    }

    /// The request's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let r2t_max = self.r2t_max.clamp(1, 1 << 32) - 1;
        encode_parameters(
            PduType::IcReq,
            self.alignment_bytes,
            self.header_digest,
            self.data_digest,
            r2t_max as u32,
        )
    }
}

/// Initialize Connection Response (ICResp): the controller's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcResp {
    /// Alignment in bytes (4..=128, a multiple of 4) that the controller asks of the data in
    /// PDUs to it (CPDA; 0's based dwords on the wire).
    pub alignment_bytes: u8,
    /// Header digests are used on this connection.
    pub header_digest: bool,
    /// Data digests are used on this connection.
    pub data_digest: bool,
    /// Most bytes of data in one H2CData PDU (MAXH2CDATA): a multiple of 4, at least 4096.
    pub h2c_data_max_bytes: u32,
}

impl IcResp {
    /// Bytes on the wire.
    pub const LEN: usize = 128;

    /// Reads the response.
    pub fn parse(header: &Header) -> Result<Self, PduError> {
        let (alignment_bytes, header_digest, data_digest) = parse_parameters(header)?;
        let h2c_data_max_bytes: u32 = get(header, 12);
        if h2c_data_max_bytes < super::MAXH2CDATA_MIN || !h2c_data_max_bytes.is_multiple_of(4) {
            return Err(PduError::InvalidHeaderField { offset: MAXH2CDATA_AT });
        }
        Ok(Self { alignment_bytes, header_digest, data_digest, h2c_data_max_bytes })
    }

    /// The response's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        encode_parameters(
            PduType::IcResp,
            self.alignment_bytes,
            self.header_digest,
            self.data_digest,
            self.h2c_data_max_bytes,
        )
    }
}

fn parse_parameters(header: &Header) -> Result<(u8, bool, bool), PduError> {
    if get::<u16>(header, PFV_AT as usize) != PFV_1_0 {
        return Err(PduError::UnsupportedParameter { offset: PFV_AT });
    }
    let pda = header[PDA_AT as usize];
    if pda > PDA_MAX {
        return Err(PduError::InvalidHeaderField { offset: PDA_AT });
    }
    let dgst = header[DGST_AT as usize];
    Ok(((pda + 1) * 4, dgst & HDGST_ENABLE != 0, dgst & DDGST_ENABLE != 0))
}

fn encode_parameters(
    pdu_type: PduType,
    alignment_bytes: u8,
    header_digest: bool,
    data_digest: bool,
    limit: u32,
) -> [u8; 128] {
    let mut out = [0; 128];
    let common = CommonHeader {
        type_code: pdu_type.code(),
        flags: PduFlags::default(),
        hlen: pdu_type.hlen() as u8,
        pdo: 0,
        plen: pdu_type.hlen() as u32,
    };
    out[..COMMON_HEADER_LEN].copy_from_slice(&common.encode());
    put(&mut out, PFV_AT as usize, PFV_1_0);
    out[PDA_AT as usize] = (alignment_bytes / 4).clamp(1, PDA_MAX + 1) - 1;
    out[DGST_AT as usize] = (u8::from(header_digest) * HDGST_ENABLE) | (u8::from(data_digest) * DDGST_ENABLE);
    put(&mut out, 12, limit);
    out
}

/// A termination request (H2CTermReq or C2HTermReq): why the sender gives the connection up. Its
/// data is the start of the header that was at fault, at most 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermReq {
    /// Fatal error status (FES).
    pub fes: super::Fes,
    /// Fatal error information (FEI), as [`PduError::fei`] says.
    pub fei: u32,
}

impl TermReq {
    /// Header bytes on the wire.
    pub const HEADER_LEN: usize = 24;
    /// Bytes of the longest request.
    pub const LEN_MAX: usize = Self::HEADER_LEN + TERM_DATA_MAX;

    /// Reads the header; unknown statuses are kept as they are.
    pub fn parse(header: &Header) -> Self {
        Self { fes: super::Fes(get(header, 8)), fei: get(header, 10) }
    }

    /// Writes a request of type `pdu_type` for the PDU whose header starts with `offending` (cut
    /// to 128 bytes). Returns the bytes to send.
    pub fn encode(&self, pdu_type: PduType, offending: &[u8], out: &mut [u8; Self::LEN_MAX]) -> usize {
        let data = &offending[..offending.len().min(TERM_DATA_MAX)];
        let plen = Self::HEADER_LEN + data.len();
        let common = CommonHeader {
            type_code: pdu_type.code(),
            flags: PduFlags::default(),
            hlen: Self::HEADER_LEN as u8,
            pdo: 0,
            plen: plen as u32,
        };
        out.fill(0);
        out[..COMMON_HEADER_LEN].copy_from_slice(&common.encode());
        put(out, 8, self.fes.0);
        put(out, 10, self.fei);
        out[Self::HEADER_LEN..plen].copy_from_slice(data);
        plen
    }
}

impl From<PduError> for TermReq {
    fn from(error: PduError) -> Self {
        Self { fes: error.fes(), fei: error.fei() }
    }
}
