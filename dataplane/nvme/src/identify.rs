//! The Identify command and its data structures. Base spec 2.0, section 5.17; NVM command set
//! spec 1.0, section 4.1.5.

mod capability;
mod controller;
mod list;
mod namespace;

#[cfg(test)]
mod test;

pub use capability::{
    AnaCapabilities, AsyncEvents, Cmic, ControllerAttributes, ControllerType, EntrySize, FabricsAttributes,
    FabricsCommands, FusedCommands, LogPageAttributes, Oacs, Oncs, SglSupport, VolatileWriteCache,
};
pub use controller::{IdentifyController, IdentifyControllerNvm, PowerState};
pub use list::{CommandSetVector, ControllerList, NamespaceIdentifier, NsidList};
pub use namespace::{
    DeallocateFeatures, IdentifyNamespace, IdentifyNamespaceIndependent, IdentifyNamespaceNvm, LbaFormat,
    NamespaceAttributes, NamespaceFeatures, NamespaceStatus, Nmic, ReservationCapabilities,
};

use crate::command::AdminOpcode;
use crate::sqe::Sqe;

/// Bytes of every Identify data structure.
pub const IDENTIFY_LEN: usize = 4096;

/// What an Identify command asks for (CNS). Base spec 2.0, figure 274.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cns {
    /// 00h: Identify Namespace of the NVM command set.
    Namespace,
    /// 01h: Identify Controller.
    Controller,
    /// 02h: active namespace list.
    ActiveNamespaces,
    /// 03h: namespace identification descriptor list.
    NamespaceDescriptors,
    /// 05h: I/O command set specific Identify Namespace.
    NamespaceOfCommandSet,
    /// 06h: I/O command set specific Identify Controller.
    ControllerOfCommandSet,
    /// 07h: active namespace list of an I/O command set.
    ActiveNamespacesOfCommandSet,
    /// 08h: I/O command set independent Identify Namespace.
    NamespaceIndependent,
    /// 10h: allocated namespace list.
    AllocatedNamespaces,
    /// 11h: Identify Namespace for an allocated NSID.
    AllocatedNamespace,
    /// 12h: controllers attached to a namespace.
    AttachedControllers,
    /// 13h: controllers of the subsystem.
    Controllers,
    /// 1Ch: I/O command set combinations.
    CommandSets,
    /// Any other value.
    Other(u8),
}

impl Cns {
    /// From the code.
    pub const fn parse(code: u8) -> Self {
        match code {
            0x00 => Self::Namespace,
            0x01 => Self::Controller,
            0x02 => Self::ActiveNamespaces,
            0x03 => Self::NamespaceDescriptors,
            0x05 => Self::NamespaceOfCommandSet,
            0x06 => Self::ControllerOfCommandSet,
            0x07 => Self::ActiveNamespacesOfCommandSet,
            0x08 => Self::NamespaceIndependent,
            0x10 => Self::AllocatedNamespaces,
            0x11 => Self::AllocatedNamespace,
            0x12 => Self::AttachedControllers,
            0x13 => Self::Controllers,
            0x1c => Self::CommandSets,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Namespace => 0x00,
            Self::Controller => 0x01,
            Self::ActiveNamespaces => 0x02,
            Self::NamespaceDescriptors => 0x03,
            Self::NamespaceOfCommandSet => 0x05,
            Self::ControllerOfCommandSet => 0x06,
            Self::ActiveNamespacesOfCommandSet => 0x07,
            Self::NamespaceIndependent => 0x08,
            Self::AllocatedNamespaces => 0x10,
            Self::AllocatedNamespace => 0x11,
            Self::AttachedControllers => 0x12,
            Self::Controllers => 0x13,
            Self::CommandSets => 0x1c,
            Self::Other(code) => code,
        }
    }
}

/// The NVM command set's identifier (CSI).
pub const CSI_NVM: u8 = 0;

/// The Identify command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identify {
    /// Structure wanted (CNS), CDW10 bits 7:0.
    pub cns: Cns,
    /// Namespace identifier, or the NSID after which a list starts.
    pub nsid: u32,
    /// Controller identifier at which a list starts (CNTID), CDW10 bits 31:16.
    pub cntid: u16,
    /// CNS specific identifier, CDW11 bits 15:0.
    pub cns_specific: u16,
    /// Command set identifier (CSI), CDW11 bits 31:24.
    pub csi: u8,
}

impl Identify {
    /// A request for `cns` about `nsid`, all else zero.
    pub const fn new(cns: Cns, nsid: u32) -> Self {
        Self { cns, nsid, cntid: 0, cns_specific: 0, csi: CSI_NVM }
    }

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            cns: Cns::parse(sqe.cdw10 as u8),
            nsid: sqe.nsid,
            cntid: (sqe.cdw10 >> 16) as u16,
            cns_specific: sqe.cdw11 as u16,
            csi: (sqe.cdw11 >> 24) as u8,
        }
    }

    /// The command, data pointer unset.
    pub fn encode(&self) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::Identify.code(), self.nsid);
        sqe.cdw10 = u32::from(self.cns.code()) | (u32::from(self.cntid) << 16);
        sqe.cdw11 = u32::from(self.cns_specific) | (u32::from(self.csi) << 24);
        sqe
    }
}
