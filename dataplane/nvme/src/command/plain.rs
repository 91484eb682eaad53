//! Reads and writes as nearly all hosts send nearly all of them, taken from the entry in one look.

use super::{IoFlags, LbaRange, NvmOpcode};
use crate::layout::get;
use crate::sqe::{Sgl, Sqe};

/// A Read whose data goes by the transport, or a Write whose data is in the capsule; neither is fused. What it says is what
/// [`Sqe::parse`] and the parsers of its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainTransfer {
    /// True for a Write.
    pub is_write: bool,
    /// Force Unit Access (FUA).
    pub fua: bool,
    /// Command identifier (CID).
    pub cid: u16,
    /// Namespace identifier (NSID).
    pub nsid: u32,
    /// Starting LBA (SLBA).
    pub slba: u64,
    /// Number of logical blocks, 1..=65536.
    pub count_blocks: u32,
    /// Length of the data that the SGL describes, in bytes.
    pub len_bytes: u32,
}

impl PlainTransfer {
    /// FUSE 00b and PSDT 01b, the bits between them reserved.
    const NOT_FUSED_SGL: u8 = 1 << 6;
    /// Where SGL1 begins, its length and its type.
    const SGL_AT: usize = 24;
    const SGL_LEN_AT: usize = 32;
    const SGL_TYPE_AT: usize = 39;

    /// Reads an entry. `None` for whatever else it is: that has to be looked at closely.
    #[inline]
    pub fn parse(entry: &[u8; Sqe::LEN]) -> Option<Self> {
        let is_write = entry[0] == NvmOpcode::Write.code();
        let is_read = entry[0] == NvmOpcode::Read.code();
        let is_described = if is_write {
            entry[Self::SGL_TYPE_AT] == Sgl::TYPE_DATA_BLOCK_OFFSET && get::<u64>(entry, Self::SGL_AT) == 0
        } else {
            entry[Self::SGL_TYPE_AT] == Sgl::TYPE_TRANSPORT
        };
        if !(is_write || is_read) || !is_described || entry[1] != Self::NOT_FUSED_SGL {
            return None;
        }
        let cdw12: u32 = get(entry, 48);
        Some(Self {
            is_write,
            fua: cdw12 & IoFlags::FUA.0 != 0,
            cid: get(entry, 2),
            nsid: get(entry, 4),
            slba: get(entry, 40),
            count_blocks: (cdw12 & 0xffff) + 1,
            len_bytes: get(entry, Self::SGL_LEN_AT),
        })
    }

    /// True if the range lies within `size_blocks` LBAs.
    #[inline]
    pub const fn fits(&self, size_blocks: u64) -> bool {
        LbaRange::new(self.slba, self.count_blocks).fits(size_blocks)
    }
}

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::command::NvmCommand;
    use crate::sqe::{Fuse, Psdt};

    proptest! {
        /// Entries that are plain, and such as differ from those in one byte or are anything.
        #[test]
        fn a_plain_transfer_is_what_the_parsers_find_and_nothing_else_is_taken_for_one(
            mut entry: [u8; 64], opcode in 0_u8..4, sgl_type in prop_oneof![Just(0x5a_u8), Just(0x01), any::<u8>()],
            offset in prop_oneof![Just(0_u64), any::<u64>()], flags in prop_oneof![Just(0x40_u8), any::<u8>()],
        ) {
            (entry[0], entry[1], entry[39]) = (opcode, flags, sgl_type);
            entry[24..32].copy_from_slice(&offset.to_le_bytes());
            let sqe = Sqe::parse(&entry);
            let described = match (NvmCommand::parse(&sqe), sqe.sgl()) {
                (Ok(NvmCommand::Read(range)), Ok(Sgl::Transport { len_bytes })) => Some((false, range, len_bytes)),
                (Ok(NvmCommand::Write(range)), Ok(Sgl::InCapsule { offset_bytes: 0, len_bytes })) => {
                    Some((true, range, len_bytes))
                }
                _ => None,
            };
            let is_simple = flags & 0x3c == 0 && sqe.fuse == Fuse::None && sqe.psdt == Psdt::Sgl;
            let expected = described.filter(|_| is_simple).map(|(is_write, range, len_bytes)| PlainTransfer {
                is_write,
                fua: range.flags.contains(IoFlags::FUA),
                cid: sqe.cid,
                nsid: sqe.nsid,
                slba: range.slba,
                count_blocks: range.count_blocks,
                len_bytes,
            });
            prop_assert_eq!(PlainTransfer::parse(&entry), expected);
        }
    }
}
