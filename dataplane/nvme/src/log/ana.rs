//! The Asymmetric Namespace Access page (0Ch): a header, then one descriptor per group, each
//! followed by the NSIDs of its namespaces. Base spec 2.0, section 5.16.1.13.

/// State of an ANA group. Base spec 2.0, section 8.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnaState {
    /// 1h: Optimized.
    Optimized,
    /// 2h: Non-Optimized.
    NonOptimized,
    /// 3h: Inaccessible.
    Inaccessible,
    /// 4h: Persistent Loss.
    PersistentLoss,
    /// Fh: Change.
    Change,
    /// Any other value: reserved.
    Reserved(u8),
}

impl AnaState {
    /// From bits 3:0 of the byte.
    pub const fn parse(code: u8) -> Self {
        match code & 0xf {
            0x1 => Self::Optimized,
            0x2 => Self::NonOptimized,
            0x3 => Self::Inaccessible,
            0x4 => Self::PersistentLoss,
            0xf => Self::Change,
            other => Self::Reserved(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Optimized => 0x1,
            Self::NonOptimized => 0x2,
            Self::Inaccessible => 0x3,
            Self::PersistentLoss => 0x4,
            Self::Change => 0xf,
            Self::Reserved(code) => code & 0xf,
        }
    }
}

impl crate::layout::Field for AnaState {
    const LEN: usize = 1;
    fn get(bytes: &[u8]) -> Self {
        Self::parse(bytes[0])
    }
    fn put(&self, out: &mut [u8]) {
        out[0] = self.code();
    }
}

layout! {
    /// Header of the page.
    pub struct AnaHeader: 16 {
        /// Change count of the page (CHGCNT); 0 means not reported.
        0 => change_count: u64,
        /// Number of group descriptors that follow.
        8 => count_groups: u16,
    }
}

layout! {
    /// Descriptor of a group; `count_nsids` NSIDs of 4 bytes follow, unless groups only were asked
    /// for.
    pub struct AnaGroup: 32 {
        /// ANA group identifier, not 0.
        0 => group_id: u32,
        /// NSIDs that follow, ascending; 0 with groups only.
        4 => count_nsids: u32,
        /// Change count of the group.
        8 => change_count: u64,
        /// State of the group on this controller.
        16 => state: AnaState,
    }
}
