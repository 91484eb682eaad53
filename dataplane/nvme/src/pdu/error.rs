//! Fatal transport errors: what a termination request says, and the faults that lead to one.
//! TCP transport spec 1.0, H2CTermReq and C2HTermReq.

/// Fatal error status (FES) as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fes(pub u16);

impl Fes {
    /// 01h: Invalid PDU Header Field; FEI is the field's byte offset.
    pub const INVALID_HEADER_FIELD: Self = Self(0x01);
    /// 02h: PDU Sequence Error.
    pub const PDU_SEQUENCE: Self = Self(0x02);
    /// 03h: Header Digest Error; FEI is the digest as received.
    pub const HEADER_DIGEST: Self = Self(0x03);
    /// 04h: Data Transfer Out of Range.
    pub const DATA_OUT_OF_RANGE: Self = Self(0x04);
    /// 05h from a host: R2T Limit Exceeded; from a controller: Data Transfer Limit Exceeded.
    pub const LIMIT_EXCEEDED: Self = Self(0x05);
    /// 06h: Unsupported Parameter; FEI is the field's byte offset.
    pub const UNSUPPORTED_PARAMETER: Self = Self(0x06);
}

/// A fault of the peer that ends the connection with a termination request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PduError {
    /// A header field holds a value that it must not.
    InvalidHeaderField {
        /// Byte offset of the field in the PDU header.
        offset: u32,
    },
    /// A well-formed PDU at a moment where it is not allowed.
    Sequence,
    /// The header digest does not match the header.
    HeaderDigest {
        /// The digest that came with the PDU.
        received: u32,
    },
    /// Data beyond the bounds of the command or of the transfer that was asked for.
    DataOutOfRange,
    /// A controller sent more R2Ts for a command than the host allows (MAXR2T).
    R2tLimitExceeded,
    /// A host sent more in one data PDU than the controller allows (MAXH2CDATA), or more than
    /// the R2T asked for.
    DataLimitExceeded,
    /// A parameter that the receiver does not support.
    UnsupportedParameter {
        /// Byte offset of the field in the PDU header.
        offset: u32,
    },
}

impl PduError {
    /// Fatal error status of the termination request for this fault.
    pub const fn fes(&self) -> Fes {
        match self {
            Self::InvalidHeaderField { .. } => Fes::INVALID_HEADER_FIELD,
            Self::Sequence => Fes::PDU_SEQUENCE,
            Self::HeaderDigest { .. } => Fes::HEADER_DIGEST,
            Self::DataOutOfRange => Fes::DATA_OUT_OF_RANGE,
            Self::R2tLimitExceeded | Self::DataLimitExceeded => Fes::LIMIT_EXCEEDED,
            Self::UnsupportedParameter { .. } => Fes::UNSUPPORTED_PARAMETER,
        }
    }

    /// Fatal error information (FEI) that goes with it; 0 where it is reserved.
    pub const fn fei(&self) -> u32 {
        match *self {
            Self::InvalidHeaderField { offset } | Self::UnsupportedParameter { offset } => offset,
            Self::HeaderDigest { received } => received,
            Self::Sequence | Self::DataOutOfRange | Self::R2tLimitExceeded | Self::DataLimitExceeded => 0,
        }
    }
}

impl core::fmt::Display for PduError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::InvalidHeaderField { offset } => write!(f, "invalid PDU header field at byte {offset}"),
            Self::Sequence => f.write_str("PDU out of sequence"),
            Self::HeaderDigest { received } => write!(f, "header digest mismatch, received {received:08x}h"),
            Self::DataOutOfRange => f.write_str("data transfer out of range"),
            Self::R2tLimitExceeded => f.write_str("R2T limit exceeded"),
            Self::DataLimitExceeded => f.write_str("data transfer limit exceeded"),
            Self::UnsupportedParameter { offset } => write!(f, "unsupported parameter at byte {offset}"),
        }
    }
}

impl core::error::Error for PduError {}
