//! Get Log Page and the log pages. Base spec 2.0, section 5.16.

mod ana;
mod discovery;
mod effects;
mod health;

#[cfg(test)]
mod test;

pub use ana::{AnaGroup, AnaHeader, AnaState};
pub use discovery::{
    AddressFamily, DiscoveryEntry, DiscoveryFlags, DiscoveryHeader, SubsystemType, TransportRequirements,
    TransportType,
};
pub use effects::{
    CommandEffects, CommandsEffectsLog, FeatureEffects, FeatureEffectsLog, LogPageSupport, SupportedLogPages,
};
pub use health::{
    CriticalWarning, ErrorEntry, FirmwareSlotLog, HealthLog, ReservationNotification, StatusField,
};

use crate::command::AdminOpcode;
use crate::sqe::Sqe;

/// Log page identifier (LID). Base spec 2.0, figure 202.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogPage {
    /// 00h: Supported Log Pages.
    Supported,
    /// 01h: Error Information.
    Error,
    /// 02h: SMART / Health Information.
    Health,
    /// 03h: Firmware Slot Information.
    FirmwareSlot,
    /// 04h: Changed Namespace List.
    ChangedNamespaces,
    /// 05h: Commands Supported and Effects.
    CommandsEffects,
    /// 0Ch: Asymmetric Namespace Access.
    Ana,
    /// 12h: Feature Identifiers Supported and Effects.
    FeatureEffects,
    /// 70h: Discovery.
    Discovery,
    /// 80h: Reservation Notification.
    ReservationNotification,
    /// Any other value.
    Other(u8),
}

impl LogPage {
    /// From the code.
    pub const fn parse(code: u8) -> Self {
        match code {
            0x00 => Self::Supported,
            0x01 => Self::Error,
            0x02 => Self::Health,
            0x03 => Self::FirmwareSlot,
            0x04 => Self::ChangedNamespaces,
            0x05 => Self::CommandsEffects,
            0x0c => Self::Ana,
            0x12 => Self::FeatureEffects,
            0x70 => Self::Discovery,
            0x80 => Self::ReservationNotification,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Supported => 0x00,
            Self::Error => 0x01,
            Self::Health => 0x02,
            Self::FirmwareSlot => 0x03,
            Self::ChangedNamespaces => 0x04,
            Self::CommandsEffects => 0x05,
            Self::Ana => 0x0c,
            Self::FeatureEffects => 0x12,
            Self::Discovery => 0x70,
            Self::ReservationNotification => 0x80,
            Self::Other(code) => code,
        }
    }
}

/// The Get Log Page command. Base spec 2.0, section 5.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// The page wanted (LID), CDW10 bits 7:0.
    pub page: LogPage,
    /// Namespace of a page per namespace; 0 or FFFF_FFFFh for the controller's.
    pub nsid: u32,
    /// Log specific parameter (LSP), CDW10 bits 14:8.
    pub specific: u8,
    /// Retain asynchronous event (RAE), CDW10 bit 15: reading does not clear the event.
    pub retain_event: bool,
    /// Bytes wanted, 4..=2^34, a multiple of 4 (NUMD, 0's based dwords on the wire).
    pub len_bytes: u64,
    /// Log specific identifier, CDW11 bits 31:16.
    pub specific_id: u16,
    /// Offset in bytes from the page's start, a multiple of 4, or an index if `is_index` (LPO).
    pub offset: u64,
    /// The offset is an index into the page's entries (OT), CDW14 bit 23.
    pub is_index: bool,
    /// UUID index, CDW14 bits 6:0.
    pub uuid_index: u8,
    /// Command set identifier (CSI), CDW14 bits 31:24.
    pub csi: u8,
}

impl GetLogPage {
    /// LSP of the ANA page: return groups only, without their NSIDs (RGO).
    pub const ANA_GROUPS_ONLY: u8 = 1 << 0;

    /// A request for `len_bytes` bytes of `page` from `offset`, all else zero.
    pub const fn new(page: LogPage, offset: u64, len_bytes: u64) -> Self {
        Self {
            page,
            nsid: 0,
            specific: 0,
            retain_event: false,
            len_bytes,
            specific_id: 0,
            offset,
            is_index: false,
            uuid_index: 0,
            csi: crate::identify::CSI_NVM,
        }
    }

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let dwords = (sqe.cdw10 >> 16) as u64 | ((sqe.cdw11 & 0xffff) as u64) << 16;
        Self {
            page: LogPage::parse(sqe.cdw10 as u8),
            nsid: sqe.nsid,
            specific: (sqe.cdw10 >> 8) as u8 & 0x7f,
            retain_event: sqe.cdw10 & 1 << 15 != 0,
            len_bytes: (dwords + 1) * 4,
            specific_id: (sqe.cdw11 >> 16) as u16,
            offset: sqe.cdw12 as u64 | (sqe.cdw13 as u64) << 32,
            is_index: sqe.cdw14 & 1 << 23 != 0,
            uuid_index: sqe.cdw14 as u8 & 0x7f,
            csi: (sqe.cdw14 >> 24) as u8,
        }
    }

    /// The command, data pointer unset. The length is rounded down to dwords, at least one.
    pub fn encode(&self) -> Sqe {
        let dwords = ((self.len_bytes / 4).clamp(1, 1 << 32) - 1) as u32;
        let mut sqe = Sqe::new(AdminOpcode::GetLogPage.code(), self.nsid);
        sqe.cdw10 = u32::from(self.page.code())
            | (u32::from(self.specific & 0x7f) << 8)
            | (u32::from(self.retain_event) << 15)
            | (dwords << 16);
        sqe.cdw11 = (dwords >> 16) | (u32::from(self.specific_id) << 16);
        sqe.cdw12 = self.offset as u32;
        sqe.cdw13 = (self.offset >> 32) as u32;
        sqe.cdw14 = u32::from(self.uuid_index & 0x7f)
            | (u32::from(self.is_index) << 23)
            | (u32::from(self.csi) << 24);
        sqe
    }
}
