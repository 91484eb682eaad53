//! The Connect command, its data and its response. Base spec 2.0, section 6.3.

use super::{FabricsType, Nqn, NqnError};
use crate::cqe::Cqe;
use crate::layout::{get, put};
use crate::sqe::Sqe;
use crate::status::Status;

flags! {
    /// Connect attributes (CATTR).
    pub struct ConnectAttributes(u8) {
        /// The host does not use SQHD: SQ flow control is disabled for the queue.
        DISABLE_SQ_FLOW_CONTROL = 1 << 2,
        /// The host supports deletion of individual I/O queues by Disconnect.
        IO_QUEUE_DELETION = 1 << 3,
    }
}

/// Connect: creates a queue, and with queue 0 a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Record format (RECFMT); 0 is the only one.
    pub record_format: u16,
    /// Queue identifier (QID): 0 is the admin queue.
    pub qid: u16,
    /// Entries of the submission queue, 1..=65536 (SQSIZE, 0's based on the wire; 0 there, one
    /// entry, is Connect Invalid Parameters).
    pub queue_entries: u32,
    /// Attributes (CATTR).
    pub attributes: ConnectAttributes,
    /// Keep alive timeout in milliseconds (KATO); 0 disables the timer. Admin queue only.
    pub kato_ms: u32,
}

impl Connect {
    /// Byte offset of QID in the entry, for [`InvalidParameter`].
    pub const QID_AT: u16 = 42;
    /// Byte offset of SQSIZE in the entry.
    pub const SQSIZE_AT: u16 = 44;

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            record_format: sqe.cdw10 as u16,
            qid: (sqe.cdw10 >> 16) as u16,
            queue_entries: (sqe.cdw11 & 0xffff) + 1,
            attributes: ConnectAttributes((sqe.cdw11 >> 16) as u8),
            kato_ms: sqe.cdw12,
        }
    }

    /// The command, data pointer unset.
    pub fn encode(&self) -> Sqe {
        let mut sqe = FabricsType::Connect.command();
        sqe.cdw10 = u32::from(self.record_format) | u32::from(self.qid) << 16;
        sqe.cdw11 = (self.queue_entries.clamp(1, 1 << 16) - 1) | (u32::from(self.attributes.0) << 16);
        sqe.cdw12 = self.kato_ms;
        sqe
    }
}

/// The 1024 bytes of data of a Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectData {
    /// Host identifier (HOSTID), a UUID.
    pub host_id: [u8; 16],
    /// Controller identifier (CNTLID): FFFFh asks for any (dynamic controller model), FFFEh for
    /// any static one; for an I/O queue, the association's.
    pub cntlid: u16,
    /// NQN of the subsystem (SUBNQN).
    pub subsystem_nqn: Nqn,
    /// NQN of the host (HOSTNQN).
    pub host_nqn: Nqn,
}

impl ConnectData {
    /// Bytes on the wire.
    pub const LEN: usize = 1024;
    /// CNTLID that asks for a controller of the dynamic model.
    pub const CNTLID_DYNAMIC: u16 = 0xffff;
    /// CNTLID that asks for any controller of the static model.
    pub const CNTLID_STATIC_ANY: u16 = 0xfffe;
    /// Byte offset of HOSTID in the data, for [`InvalidParameter`].
    pub const HOSTID_AT: u16 = 0;
    /// Byte offset of CNTLID in the data.
    pub const CNTLID_AT: u16 = 16;
    /// Byte offset of SUBNQN in the data.
    pub const SUBNQN_AT: u16 = 256;
    /// Byte offset of HOSTNQN in the data.
    pub const HOSTNQN_AT: u16 = 512;

    /// Reads the data; a malformed name is Connect Invalid Parameters at that name.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, InvalidParameter> {
        let name = |at: u16| {
            Nqn::parse(&get(bytes, usize::from(at))).map_err(|_: NqnError| InvalidParameter::Data(at))
        };
        Ok(Self {
            host_id: get(bytes, 0),
            cntlid: get(bytes, 16),
            subsystem_nqn: name(Self::SUBNQN_AT)?,
            host_nqn: name(Self::HOSTNQN_AT)?,
        })
    }

    /// The data's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        put(&mut out, 0, self.host_id);
        put(&mut out, 16, self.cntlid);
        put(&mut out, usize::from(Self::SUBNQN_AT), self.subsystem_nqn.encode());
        put(&mut out, usize::from(Self::HOSTNQN_AT), self.host_nqn.encode());
        out
    }
}

/// Which parameter made a Connect fail with Connect Invalid Parameters (IATTR and IPO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidParameter {
    /// At this byte offset of the submission queue entry.
    Command(u16),
    /// At this byte offset of the Connect data.
    Data(u16),
}

impl InvalidParameter {
    /// Completion result: IPO in bits 15:0, IATTR in bit 16.
    pub const fn result(self) -> u64 {
        match self {
            Self::Command(offset) => offset as u64,
            Self::Data(offset) => offset as u64 | 1 << 16,
        }
    }

    /// Reads the result of a completion with Connect Invalid Parameters.
    pub const fn parse(result: u64) -> Self {
        if result & 1 << 16 == 0 { Self::Command(result as u16) } else { Self::Data(result as u16) }
    }

    /// The completion of `cid`. Asking the same again cannot help, so DNR is set.
    pub const fn completion(self, cid: u16) -> Cqe {
        let mut cqe = Cqe::new(cid, Status::CONNECT_INVALID_PARAMETERS.dnr());
        cqe.result = self.result();
        cqe
    }
}

/// Result of a successful Connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Identifier of the controller that was allocated (CNTLID).
    pub cntlid: u16,
    /// The host must authenticate on this queue before anything else (AUTHREQ.ATR).
    pub authentication_required: bool,
    /// The same, over a secure channel (AUTHREQ.ASCR).
    pub secure_channel_required: bool,
}

impl ConnectResponse {
    /// Completion result: CNTLID in bits 15:0, AUTHREQ in bits 31:16.
    pub const fn result(self) -> u64 {
        self.cntlid as u64
            | (self.authentication_required as u64) << 17
            | (self.secure_channel_required as u64) << 18
    }

    /// Reads the result of a successful completion.
    pub const fn parse(result: u64) -> Self {
        Self {
            cntlid: result as u16,
            authentication_required: result & 1 << 17 != 0,
            secure_channel_required: result & 1 << 18 != 0,
        }
    }
}
