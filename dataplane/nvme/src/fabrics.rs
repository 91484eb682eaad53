//! NVMe over Fabrics: qualified names, Connect, Disconnect, and the property commands.
//! Base spec 2.0, sections 3.1.3, 4.5 and 6.

mod connect;
mod nqn;
mod property;

pub use connect::{Connect, ConnectAttributes, ConnectData, ConnectResponse, InvalidParameter};
pub use nqn::{DISCOVERY_NQN, Nqn, NqnError};
pub use property::{
    Cap, Cc, Csts, Nssr, Property, PropertyGet, PropertySet, PropertySize, Shutdown, ShutdownStatus, Version,
};

use crate::command::FABRICS;
use crate::sqe::Sqe;

/// Fabrics command type (FCTYPE), byte 4 of the entry. Base spec 2.0, figure 374.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FabricsType {
    /// 00h: Property Set.
    PropertySet,
    /// 01h: Connect.
    Connect,
    /// 04h: Property Get.
    PropertyGet,
    /// 05h: Authentication Send.
    AuthenticationSend,
    /// 06h: Authentication Receive.
    AuthenticationReceive,
    /// 08h: Disconnect.
    Disconnect,
}

impl FabricsType {
    /// The type of a Fabrics command; `None` for an unknown one or another opcode.
    pub const fn parse(sqe: &Sqe) -> Option<Self> {
        if sqe.opcode != FABRICS {
            return None;
        }
        Some(match sqe.nsid as u8 {
            0x00 => Self::PropertySet,
            0x01 => Self::Connect,
            0x04 => Self::PropertyGet,
            0x05 => Self::AuthenticationSend,
            0x06 => Self::AuthenticationReceive,
            0x08 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::PropertySet => 0x00,
            Self::Connect => 0x01,
            Self::PropertyGet => 0x04,
            Self::AuthenticationSend => 0x05,
            Self::AuthenticationReceive => 0x06,
            Self::Disconnect => 0x08,
        }
    }

    /// A command of this type, all else zero.
    pub fn command(self) -> Sqe {
        Sqe::new(FABRICS, u32::from(self.code()))
    }
}

/// The Disconnect command for record format 0: the controller deletes the I/O queue it comes on.
pub fn disconnect() -> Sqe {
    FabricsType::Disconnect.command()
}
