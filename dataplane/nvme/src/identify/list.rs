//! The lists that Identify returns: namespaces, controllers, identification descriptors, command
//! sets. Base spec 2.0, sections 4.4 and 5.17.2.

use super::IDENTIFY_LEN;
use crate::layout::{get, put};

/// A list of up to 1024 NSIDs, ascending, ended by 0 (CNS 02h, 07h, 10h; log page 04h).
#[derive(Clone, Copy, Debug)]
pub struct NsidList;

impl NsidList {
    /// Most entries of a list.
    pub const ENTRIES_MAX: usize = IDENTIFY_LEN / 4;

    /// The list's bytes; NSIDs beyond the 1024th are left out. The caller passes those that are
    /// greater than the command's NSID, ascending.
    pub fn encode(nsids: impl IntoIterator<Item = u32>) -> [u8; IDENTIFY_LEN] {
        let mut out = [0; IDENTIFY_LEN];
        for (index, nsid) in nsids.into_iter().take(Self::ENTRIES_MAX).enumerate() {
            put(&mut out, index * 4, nsid);
        }
        out
    }

    /// The NSIDs up to the end or the first 0.
    pub fn parse(bytes: &[u8; IDENTIFY_LEN]) -> impl Iterator<Item = u32> {
        (0..Self::ENTRIES_MAX).map(|index| get(bytes, index * 4)).take_while(|&nsid| nsid != 0)
    }
}

/// A list of up to 2047 controller identifiers, ascending (CNS 12h, 13h).
#[derive(Clone, Copy, Debug)]
pub struct ControllerList;

impl ControllerList {
    /// Most entries of a list.
    pub const ENTRIES_MAX: usize = IDENTIFY_LEN / 2 - 1;

    /// The list's bytes; identifiers beyond the 2047th are left out. The caller passes those that
    /// are at least the command's CNTID, ascending.
    pub fn encode(cntlids: impl IntoIterator<Item = u16>) -> [u8; IDENTIFY_LEN] {
        let mut out = [0; IDENTIFY_LEN];
        let mut count: u16 = 0;
        for cntlid in cntlids.into_iter().take(Self::ENTRIES_MAX) {
            count += 1;
            put(&mut out, usize::from(count) * 2, cntlid);
        }
        put(&mut out, 0, count);
        out
    }

    /// The identifiers in the list.
    pub fn parse(bytes: &[u8; IDENTIFY_LEN]) -> impl Iterator<Item = u16> {
        let count = usize::from(get::<u16>(bytes, 0)).min(Self::ENTRIES_MAX);
        (1..=count).map(|index| get(bytes, index * 2))
    }
}

/// One namespace identification descriptor (CNS 03h). Base spec 2.0, figure 277.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceIdentifier {
    /// 1h: IEEE extended unique identifier, big endian.
    Eui64([u8; 8]),
    /// 2h: namespace globally unique identifier, big endian.
    Nguid([u8; 16]),
    /// 3h: UUID, big endian.
    Uuid([u8; 16]),
    /// 4h: command set identifier.
    Csi(u8),
}

impl NamespaceIdentifier {
    const HEADER_LEN: usize = 4;

    /// The list of descriptors, zero terminated; descriptors that do not fit are left out.
    pub fn encode_list(identifiers: &[Self]) -> [u8; IDENTIFY_LEN] {
        let mut out = [0; IDENTIFY_LEN];
        let mut at = 0;
        for identifier in identifiers {
            let (code, value): (u8, &[u8]) = match identifier {
                Self::Eui64(value) => (1, value),
                Self::Nguid(value) => (2, value),
                Self::Uuid(value) => (3, value),
                Self::Csi(value) => (4, core::slice::from_ref(value)),
            };
            let end = at + Self::HEADER_LEN + value.len();
            if end > IDENTIFY_LEN {
                break;
            }
            out[at] = code;
            out[at + 1] = value.len() as u8;
            out[at + Self::HEADER_LEN..end].copy_from_slice(value);
            at = end;
        }
        out
    }

    /// The descriptors of a list; unknown types are skipped, a truncated one ends it.
    pub fn parse_list(bytes: &[u8; IDENTIFY_LEN]) -> impl Iterator<Item = Self> {
        let mut rest: &[u8] = bytes;
        core::iter::from_fn(move || {
            loop {
                let (header, tail) = rest.split_at_checked(Self::HEADER_LEN)?;
                let (code, len) = (header[0], usize::from(header[1]));
                if len == 0 {
                    return None;
                }
                let (value, tail) = tail.split_at_checked(len)?;
                rest = tail;
                let identifier = match (code, len) {
                    (1, 8) => Self::Eui64(get(value, 0)),
                    (2, 16) => Self::Nguid(get(value, 0)),
                    (3, 16) => Self::Uuid(get(value, 0)),
                    (4, 1) => Self::Csi(value[0]),
                    _ => continue,
                };
                return Some(identifier);
            }
        })
    }
}

/// I/O command set combinations (CNS 1Ch): up to 512 vectors of command sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandSetVector(pub u64);

impl CommandSetVector {
    /// The NVM command set alone.
    pub const NVM: Self = Self(1 << super::CSI_NVM);

    /// The data structure with these combinations; those beyond the 512th are left out.
    pub fn encode_list(combinations: &[Self]) -> [u8; IDENTIFY_LEN] {
        let mut out = [0; IDENTIFY_LEN];
        for (index, combination) in combinations.iter().take(IDENTIFY_LEN / 8).enumerate() {
            put(&mut out, index * 8, combination.0);
        }
        out
    }
}
