//! What a host asks for when it opens a queue.

use nvme::fabrics::{Connect, ConnectAttributes, ConnectData};
use nvme::pdu::IcReq;
use nvme::{Nqn, Sqe};

/// Parameters of one queue.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Queue identifier; 0 is the admin queue.
    pub qid: u16,
    /// Entries of the submission queue, 2..=65536; one less can be outstanding.
    pub entries: u32,
    /// Alignment in bytes that this host asks of data to it (HPDA), 4..=128, a multiple of 4.
    pub alignment_bytes: u8,
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// R2Ts per command that this host takes at a time, at least 1 (MAXR2T).
    pub r2t_max: u32,
    /// Most bytes of a command's data that go inside its capsule: IOCCSZ less the entry. Admin
    /// and Fabrics commands may carry 8 KiB whatever this says.
    pub capsule_data_max_bytes: u32,
    /// Most bytes in one C2HData PDU that this host takes.
    pub c2h_data_max_bytes: u32,
    /// Count and check the data of reads, but do not keep it: the room that comes back holds what it held before. For
    /// loads that look at none of it.
    pub discard_reads: bool,
    /// Connect as soon as the connection is initialised; without it, the owner submits what it
    /// likes (and tests misbehave).
    pub connect: Option<ConnectConfig>,
}

/// Parameters of the Connect command.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// Host identifier, a UUID, the same for all queues of a host.
    pub host_id: [u8; 16],
    /// NQN of this host.
    pub host_nqn: Nqn,
    /// NQN of the subsystem.
    pub subsystem_nqn: Nqn,
    /// Controller identifier: [`ConnectData::CNTLID_DYNAMIC`] on the admin queue, then what its
    /// Connect returned.
    pub cntlid: u16,
    /// Keep alive timeout in milliseconds; 0 disables it. Admin queue only.
    pub kato_ms: u32,
    /// Ask for SQ flow control to be disabled.
    pub disable_sq_flow_control: bool,
}

impl QueueConfig {
    /// An admin queue of 32 entries that connects with `connect`.
    pub fn admin(connect: ConnectConfig) -> Self {
        Self {
            qid: 0,
            entries: 32,
            alignment_bytes: 4,
            header_digest: false,
            data_digest: false,
            r2t_max: 1,
            capsule_data_max_bytes: nvme::pdu::ADMIN_CAPSULE_DATA_MAX,
            c2h_data_max_bytes: 16 << 20,
            discard_reads: false,
            connect: Some(connect),
        }
    }

    /// The request that opens the connection.
    pub(crate) fn icreq(&self) -> IcReq {
        IcReq {
            alignment_bytes: self.alignment_bytes,
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            r2t_max: u64::from(self.r2t_max.max(1)),
        }
    }

    /// The Connect command and its data, where the queue connects by itself.
    pub(crate) fn connect(&self) -> Option<(Sqe, [u8; ConnectData::LEN])> {
        let connect = self.connect.as_ref()?;
        let attributes = if connect.disable_sq_flow_control {
            ConnectAttributes::DISABLE_SQ_FLOW_CONTROL
        } else {
            ConnectAttributes::default()
        };
        let command = Connect {
            record_format: 0,
            qid: self.qid,
            queue_entries: self.entries,
            attributes,
            kato_ms: if self.qid == 0 { connect.kato_ms } else { 0 },
        };
        let data = ConnectData {
            host_id: connect.host_id,
            cntlid: connect.cntlid,
            subsystem_nqn: connect.subsystem_nqn,
            host_nqn: connect.host_nqn,
        };
        Some((command.encode(), data.encode()))
    }
}
