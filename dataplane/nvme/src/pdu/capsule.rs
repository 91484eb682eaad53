//! Command and response capsules. TCP transport spec 1.0, sections 3.6.2.5 and 3.6.2.6.

use super::{Codec, Header, PLAIN_HEADER_LEN, PduFlags, PduType, PlainHeader, plain_head};
use crate::layout::get;
use crate::{Cqe, Sqe};

/// Command Capsule (CapsuleCmd): a submission queue entry, with in-capsule data after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapsuleCmd {
    /// The command.
    pub sqe: Sqe,
}

impl CapsuleCmd {
    /// Reads the header.
    pub fn parse(header: &Header) -> Self {
        Self { sqe: Sqe::parse(&get(header, 8)) }
    }

    /// Writes the header for `data_len` bytes of in-capsule data. Returns the bytes to send
    /// before the data; a data digest after it is the sender's to append.
    pub fn encode(&self, codec: &Codec, data_len: u32, out: &mut Header) -> usize {
        out[8..72].copy_from_slice(&self.sqe.encode());
        codec.seal(PduType::CapsuleCmd, PduFlags::default(), data_len, out)
    }
}

/// Response Capsule (CapsuleResp): a completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapsuleResp {
    /// The completion.
    pub cqe: Cqe,
}

impl CapsuleResp {
    /// Reads the header.
    pub fn parse(header: &Header) -> Self {
        Self { cqe: Cqe::parse(&get(header, 8)) }
    }

    /// Writes the PDU. Returns the bytes to send.
    pub fn encode(&self, codec: &Codec, out: &mut Header) -> usize {
        out[8..24].copy_from_slice(&self.cqe.encode());
        codec.seal(PduType::CapsuleResp, PduFlags::default(), 0, out)
    }

    /// The PDU's bytes, for a [`Codec::is_plain`].
    #[inline]
    pub fn encode_plain(&self) -> PlainHeader {
        let mut out = [0; PLAIN_HEADER_LEN];
        out[..8].copy_from_slice(&plain_head(PduType::CapsuleResp, PduFlags::default(), 0));
        out[8..].copy_from_slice(&self.cqe.encode());
        out
    }
}
