//! Why a queue's connection is over.

use nvme::pdu::{PduError, TermReq};

/// The one reason for which a queue stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection closed between PDUs.
    #[error("connection closed")]
    Closed,
    /// The connection closed inside a PDU.
    #[error("connection closed inside a PDU")]
    Cut,
    /// The controller ended the connection.
    #[error("controller ended the connection: FES {:02x}h, FEI {:08x}h", .request.fes.0, .request.fei)]
    Terminated {
        /// What it said.
        request: TermReq,
        /// The header that it found at fault, at most 128 bytes.
        quoted: Vec<u8>,
    },
    /// The controller sent a malformed PDU.
    #[error("malformed PDU: {0}")]
    Malformed(PduError),
    /// The controller sent a well-formed PDU that breaks the rules of the connection.
    #[error("controller broke the protocol: {0}")]
    Violation(#[from] Violation),
}

/// How a controller broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A PDU before ICResp, or a second ICResp.
    #[error("PDU out of sequence")]
    Sequence,
    /// The ICResp does not grant the digests asked for, or grants others.
    #[error("digests granted differ from those asked for")]
    Digests,
    /// A PDU for a command that is not outstanding.
    #[error("unknown command identifier {0:04x}h")]
    UnknownCid(u16),
    /// Data for a command that reads none, or an R2T for one that writes none (any more).
    #[error("data transfer that the command {0:04x}h does not have")]
    Direction(u16),
    /// Data or R2T that does not begin where the one before ended.
    #[error("transfer of command {cid:04x}h at offset {offset} instead of {expected} bytes")]
    Offset {
        /// The command.
        cid: u16,
        /// Where the PDU begins, in bytes.
        offset: u32,
        /// Where it must begin, in bytes.
        expected: u32,
    },
    /// Data or R2T beyond the end of the command's data.
    #[error("transfer of command {cid:04x}h beyond its {len} bytes")]
    Range {
        /// The command.
        cid: u16,
        /// The command's data in bytes.
        len: u32,
    },
    /// More R2Ts for a command than this host allows.
    #[error("too many R2Ts for command {0:04x}h")]
    R2tLimit(u16),
    /// Data after the PDU that said it was the last, or none marked as the last.
    #[error("wrong LAST_PDU flag for command {0:04x}h")]
    Last(u16),
    /// The SUCCESS flag although SQ flow control is on.
    #[error("SUCCESS flag with SQ flow control for command {0:04x}h")]
    SuccessFlag(u16),
    /// Success although not all of the data was moved.
    #[error("success of command {cid:04x}h after {moved} of {len} bytes")]
    Short {
        /// The command.
        cid: u16,
        /// Bytes moved.
        moved: u32,
        /// Bytes of the command's data.
        len: u32,
    },
    /// An SQ head pointer outside what was submitted.
    #[error("SQ head pointer {0} outside the submitted entries")]
    SqHead(u16),
}

impl Fault {
    /// What to say in a termination request, where the host is the one to end the connection.
    pub fn pdu_error(&self) -> Option<PduError> {
        match self {
            Self::Closed | Self::Cut | Self::Terminated { .. } => None,
            Self::Malformed(error) => Some(*error),
            Self::Violation(violation) => Some(violation.pdu_error()),
        }
    }
}

impl Violation {
    fn pdu_error(self) -> PduError {
        match self {
            Self::Sequence => PduError::Sequence,
            Self::Digests => PduError::InvalidHeaderField { offset: 11 },
            Self::UnknownCid(_) | Self::Direction(_) => PduError::InvalidHeaderField { offset: 8 },
            Self::Last(_) | Self::SuccessFlag(_) => PduError::InvalidHeaderField { offset: 1 },
            Self::Offset { .. } | Self::Range { .. } | Self::Short { .. } => PduError::DataOutOfRange,
            Self::R2tLimit(_) => PduError::R2tLimitExceeded,
            Self::SqHead(_) => PduError::InvalidHeaderField { offset: 16 },
        }
    }
}
