//! The 16-byte completion queue entry. Base spec 2.0, section 3.3.3.2; Fabrics differences in 3.3.3.

use crate::layout::{get, put};
use crate::status::Status;

/// Completion queue entry (CQE). The phase tag is always 0 over Fabrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cqe {
    /// Command specific result: dwords 0 (low) and 1. Property Get uses all 8 bytes.
    pub result: u64,
    /// Submission queue head pointer (SQHD): 0..=queue size - 1; FFFFh in the response to a
    /// Connect that disabled SQ flow control, and reserved after it.
    pub sqhd: u16,
    /// Submission queue identifier (SQID). Reserved over Fabrics, written as 0.
    pub sqid: u16,
    /// Command identifier (CID) of the completed command.
    pub cid: u16,
    /// Status, phase tag excluded.
    pub status: Status,
}

impl Cqe {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// A completion of `cid` with `status`, result and SQHD zero.
    pub const fn new(cid: u16, status: Status) -> Self {
        Self { result: 0, sqhd: 0, sqid: 0, cid, status }
    }

    /// Reads an entry; the phase tag is ignored.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            result: get(bytes, 0),
            sqhd: get(bytes, 8),
            sqid: get(bytes, 10),
            cid: get(bytes, 12),
            status: Status::from_bits(get::<u16>(bytes, 14) >> 1),
        }
    }

    /// The entry's bytes, phase tag 0.
    #[inline]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        put(&mut out, 0, self.result);
        put(&mut out, 8, self.sqhd);
        put(&mut out, 10, self.sqid);
        put(&mut out, 12, self.cid);
        put(&mut out, 14, self.status.bits() << 1);
        out
    }

    /// Dword 0, where most admin commands put their result.
    pub const fn dw0(&self) -> u32 {
        self.result as u32
    }
}
