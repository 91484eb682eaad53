//! A blocking NVMe/TCP host for tests: an association's admin queue and I/O queues, one command at a time.
//!
//! Checks on the way what a Linux host relies on: data in order and contiguous, one R2T at a time, never both a
//! SUCCESS flag and a response capsule. Many commands at once are many queues, each on a thread of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::wire::{End, LAST_PDU, SUCCESS, Wire, capsule, double_word, h2c_data, kind, word};

/// Who a host says it is, and where it connects.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The address of the controller.
    pub address: SocketAddr,
    /// Subsystem NQN.
    pub subsystem: String,
    /// Host NQN.
    pub host: String,
    /// Host Identifier.
    pub host_id: [u8; 16],
}

impl Identity {
    /// A host on the loopback, told from others by a number.
    #[must_use]
    pub fn new(port: u16, subsystem: &str, number: u8) -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            subsystem: subsystem.to_owned(),
            host: format!("nqn.2014-08.org.nvmexpress:uuid:5a3c0b52-64a4-4a52-8d8e-0000000000{number:02x}"),
            host_id: [number; 16],
        }
    }
}

/// The data of a command.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// No data.
    None,
    /// Data to the controller, in the capsule.
    InCapsule(&'a [u8]),
    /// Data to the controller, fetched by R2T.
    Fetched(&'a [u8]),
    /// So many bytes from the controller.
    Read(usize),
}

/// What a command ended with.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status Code Type and Status Code as one number, such as 281h; 0 is success.
    pub status: u16,
    /// Do Not Retry.
    pub dnr: bool,
    /// Command-specific result, Dword 0.
    pub result: u32,
    /// Data from the controller.
    pub data: Vec<u8>,
    /// How many C2HData PDUs brought it.
    pub data_pdus: u32,
}

impl Reply {
    /// The reply, which must be a success.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn expect_success(self, what: &str) -> Self {
        assert_eq!(self.status, 0, "{what}: status {:03X}h", self.status);
        self
    }
}

/// A queue: a connection after a successful Connect.
#[derive(Debug)]
pub struct Queue {
    /// The connection.
    pub wire: Wire,
    next: u16,
    /// Whether Connect switched SQ flow control off: only then may a SUCCESS flag stand for a response capsule.
    flow_control_off: bool,
}

/// A controller with its admin queue.
#[derive(Debug)]
pub struct Association {
    /// The admin queue.
    pub admin: Queue,
    /// Who connected.
    pub identity: Identity,
    /// Controller ID.
    pub cntlid: u16,
}

impl Association {
    /// Connects the admin queue and enables the controller.
    ///
    /// # Panics
    /// If the controller refuses or does not get ready.
    #[must_use]
    pub fn connect(identity: &Identity) -> Self {
        Self::connect_with(identity, 0, false, false)
    }

    /// As [`Association::connect`], with a keep-alive timeout and digests.
    ///
    /// # Panics
    /// As [`Association::connect`].
    #[must_use]
    pub fn connect_with(identity: &Identity, kato_ms: u32, header_digest: bool, data_digest: bool) -> Self {
        let mut wire = Wire::open_to(identity.address).expect("connect to the controller");
        wire.initialize(header_digest, data_digest);
        let mut admin = Queue::new(wire);
        let mut request = Connect::admin(identity);
        request.kato_ms = kato_ms;
        let cntlid = admin.connect(&request).expect_success("Connect").result as u16;
        let mut association = Self { admin, identity: identity.clone(), cntlid };
        association.enable();
        association
    }

    /// Sets CC.EN and waits for CSTS.RDY.
    ///
    /// # Panics
    /// If the controller does not get ready.
    pub fn enable(&mut self) {
        // IOCQES 4, IOSQES 6, EN.
        self.admin.property_set(CC, 0x0046_0001);
        for _ in 0..200 {
            if self.admin.property_get(CSTS, 4) & 1 == 1 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the controller does not get ready");
    }

    /// Connects an I/O queue.
    ///
    /// # Panics
    /// If the controller refuses.
    #[must_use]
    pub fn io_queue(&self, qid: u16) -> Queue {
        self.io_queue_with(qid, false, false)
    }

    /// Connects an I/O queue with digests.
    ///
    /// # Panics
    /// If the controller refuses.
    #[must_use]
    pub fn io_queue_with(&self, qid: u16, header_digest: bool, data_digest: bool) -> Queue {
        let mut wire = Wire::open_to(self.identity.address).expect("connect to the controller");
        wire.initialize(header_digest, data_digest);
        let mut queue = Queue::new(wire);
        let request = Connect { qid, cntlid: self.cntlid, ..Connect::admin(&self.identity) };
        let _ = queue.connect(&request).expect_success("Connect of an I/O queue");
        queue
    }

    /// Identify: 4096 bytes for a CNS and an NSID.
    ///
    /// # Panics
    /// If the controller refuses.
    #[must_use]
    pub fn identify(&mut self, cns: u8, nsid: u32) -> Vec<u8> {
        let mut entry = command(0x06, nsid);
        entry[40] = cns;
        let what = format!("Identify {cns:02X}h of {nsid:X}h");
        self.admin.run(entry, Payload::Read(4096)).expect_success(&what).data
    }

    /// The active namespaces that this host sees.
    ///
    /// # Panics
    /// If the controller refuses.
    #[must_use]
    pub fn namespaces(&mut self) -> Vec<u32> {
        let list = self.identify(0x02, 0);
        list.chunks(4).map(|entry| double_word(entry, 0)).take_while(|nsid| *nsid != 0).collect()
    }
}

/// The fields of a Connect command and its data.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Record format.
    pub recfmt: u16,
    /// Queue; 0 is the admin queue.
    pub qid: u16,
    /// Entries of the submission queue, less one.
    pub sqsize: u16,
    /// Connect attributes; bit 2 disables SQ flow control.
    pub cattr: u8,
    /// Keep Alive Timeout in milliseconds.
    pub kato_ms: u32,
    /// Host Identifier.
    pub host_id: [u8; 16],
    /// Controller ID; `FFFFh` asks for a new controller.
    pub cntlid: u16,
    /// Subsystem NQN.
    pub subsystem: String,
    /// Host NQN.
    pub host: String,
}

impl Connect {
    /// A Connect of the admin queue to a new controller.
    #[must_use]
    pub fn admin(identity: &Identity) -> Self {
        Self {
            recfmt: 0,
            qid: 0,
            sqsize: 31,
            cattr: 0,
            kato_ms: 0,
            host_id: identity.host_id,
            cntlid: 0xFFFF,
            subsystem: identity.subsystem.clone(),
            host: identity.host.clone(),
        }
    }

    /// The submission queue entry, without CID and SGL.
    #[must_use]
    pub fn entry(&self) -> [u8; 64] {
        let mut entry = fabrics(0x01);
        entry[40..42].copy_from_slice(&self.recfmt.to_le_bytes());
        entry[42..44].copy_from_slice(&self.qid.to_le_bytes());
        entry[44..46].copy_from_slice(&self.sqsize.to_le_bytes());
        entry[46] = self.cattr;
        entry[48..52].copy_from_slice(&self.kato_ms.to_le_bytes());
        entry
    }

    /// The data, 1024 bytes.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        let mut data = vec![0; 1024];
        data[..16].copy_from_slice(&self.host_id);
        data[16..18].copy_from_slice(&self.cntlid.to_le_bytes());
        data[256..256 + self.subsystem.len()].copy_from_slice(self.subsystem.as_bytes());
        data[512..512 + self.host.len()].copy_from_slice(self.host.as_bytes());
        data
    }
}

impl Queue {
    /// A queue on an initialized connection.
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self { wire, next: 0, flow_control_off: false }
    }

    /// Sends a Connect.
    ///
    /// # Panics
    /// If the connection ends instead of an answer.
    pub fn connect(&mut self, request: &Connect) -> Reply {
        self.flow_control_off = request.cattr & 0x04 != 0;
        self.run(request.entry(), Payload::InCapsule(&request.data()))
    }

    /// Sets a property of 4 bytes.
    ///
    /// # Panics
    /// If the controller refuses.
    pub fn property_set(&mut self, offset: u32, value: u32) {
        let mut entry = fabrics(0x00);
        entry[44..48].copy_from_slice(&offset.to_le_bytes());
        entry[48..52].copy_from_slice(&value.to_le_bytes());
        let _ = self.run(entry, Payload::None).expect_success("Property Set");
    }

    /// Reads the low double word of a property of 4 or 8 bytes.
    ///
    /// # Panics
    /// If the controller refuses.
    pub fn property_get(&mut self, offset: u32, size_bytes: u8) -> u32 {
        let mut entry = fabrics(0x04);
        entry[40] = u8::from(size_bytes == 8);
        entry[44..48].copy_from_slice(&offset.to_le_bytes());
        self.run(entry, Payload::None).expect_success("Property Get").result
    }

    /// Writes blocks; data of up to 4 KiB goes in the capsule.
    pub fn write(&mut self, nsid: u32, lba: u64, block_bytes: usize, data: &[u8]) -> Reply {
        let payload = if data.len() <= 4096 { Payload::InCapsule(data) } else { Payload::Fetched(data) };
        self.run(io(0x01, nsid, lba, data.len() / block_bytes), payload)
    }

    /// Reads blocks.
    pub fn read(&mut self, nsid: u32, lba: u64, block_bytes: usize, length: usize) -> Reply {
        self.run(io(0x02, nsid, lba, length / block_bytes), Payload::Read(length))
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If the connection ends first, or the controller breaks a rule on the way.
    pub fn run(&mut self, entry: [u8; 64], payload: Payload<'_>) -> Reply {
        self.try_run(entry, payload).unwrap_or_else(|end| panic!("opcode {:02X}h: {end:?}", entry[0]))
    }

    /// As [`Queue::run`], where the connection may end.
    ///
    /// # Errors
    /// If it ends, or nothing comes.
    ///
    /// # Panics
    /// If the controller breaks a rule on the way.
    pub fn try_run(&mut self, entry: [u8; 64], payload: Payload<'_>) -> Result<Reply, End> {
        let cid = self.submit(entry, payload)?;
        self.finish(cid, payload)
    }

    /// Sends a command without waiting; returns its identifier.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn submit(&mut self, mut entry: [u8; 64], payload: Payload<'_>) -> Result<u16, End> {
        let cid = self.next;
        self.next = self.next.wrapping_add(1) & 0x7FFF;
        entry[2..4].copy_from_slice(&cid.to_le_bytes());
        let data = match payload {
            Payload::None => &[][..],
            Payload::InCapsule(data) => {
                set_sgl(&mut entry, data.len(), 0x01);
                data
            }
            Payload::Fetched(data) => {
                set_sgl(&mut entry, data.len(), 0x5A);
                &[]
            }
            Payload::Read(length) => {
                set_sgl(&mut entry, length, 0x5A);
                &[]
            }
        };
        self.wire.send_pdu(&capsule(&entry), data).map_err(|_| End::Closed)?;
        Ok(cid)
    }

    /// Moves a command's data and waits for its completion; no other command may be in flight.
    ///
    /// # Errors
    /// If the connection ends, or nothing comes.
    ///
    /// # Panics
    /// If the controller breaks a rule on the way.
    pub fn finish(&mut self, cid: u16, payload: Payload<'_>) -> Result<Reply, End> {
        let mut data = Vec::new();
        let mut data_pdus = 0;
        let mut last_seen = false;
        loop {
            let pdu = self.wire.receive()?;
            match (pdu.kind, payload) {
                (kind::R2T, Payload::Fetched(source)) => {
                    assert_eq!(word(&pdu.header, 8), cid, "R2T's CCCID");
                    self.answer(cid, source, &pdu.header)?;
                }
                (kind::C2H_DATA, Payload::Read(length)) => {
                    assert_eq!(word(&pdu.header, 8), cid, "C2HData's CCCID");
                    assert_eq!(pdu.header.len(), 24, "C2HData's header");
                    assert_eq!(
                        double_word(&pdu.header, 12) as usize,
                        data.len(),
                        "DATAO: in order, contiguous"
                    );
                    assert_eq!(double_word(&pdu.header, 16) as usize, pdu.data.len(), "DATAL");
                    assert!(!last_seen && data.len() + pdu.data.len() <= length, "data beyond the end");
                    last_seen = pdu.flags & LAST_PDU != 0;
                    data.extend_from_slice(&pdu.data);
                    data_pdus += 1;
                    if pdu.flags & SUCCESS != 0 {
                        assert!(last_seen, "SUCCESS only with LAST");
                        assert!(
                            self.flow_control_off,
                            "SUCCESS only where the host does without SQ flow control"
                        );
                        assert_eq!(data.len(), length, "a successful read delivers every byte");
                        return Ok(Reply { status: 0, dnr: false, result: 0, data, data_pdus });
                    }
                }
                (kind::CAPSULE_RESP, _) => {
                    let entry = &pdu.header[8..24];
                    assert_eq!(word(entry, 12), cid, "the completion's CID");
                    let field = word(entry, 14) >> 1;
                    let status = field & 0x7FF;
                    if let (Payload::Read(length), 0) = (payload, status) {
                        assert_eq!(data.len(), length, "a successful read delivers every byte");
                    }
                    let (dnr, result) = (field >> 14 & 1 == 1, double_word(entry, 0));
                    return Ok(Reply { status, dnr, result, data, data_pdus });
                }
                _ => panic!("unexpected {pdu:?}"),
            }
        }
    }

    fn answer(&mut self, cid: u16, source: &[u8], header: &[u8]) -> Result<(), End> {
        let (ttag, begin) = (word(header, 10), double_word(header, 12) as usize);
        let end = begin + double_word(header, 16) as usize;
        assert!(end <= source.len() && begin < end, "R2T asks for {begin}..{end} of {}", source.len());
        let mut at = begin;
        while at < end {
            let length = (end - at).min(self.wire.h2c_data_bytes_max);
            let flags = if at + length == end { LAST_PDU } else { 0 };
            let header = h2c_data(cid, ttag, at as u32, length as u32, flags);
            self.wire.send_pdu(&header, &source[at..at + length]).map_err(|_| End::Closed)?;
            at += length;
        }
        Ok(())
    }
}

/// A submission queue entry with opcode and NSID, data by SGL.
#[must_use]
pub fn command(opcode: u8, nsid: u32) -> [u8; 64] {
    let mut entry = [0; 64];
    entry[0] = opcode;
    entry[1] = 0x40;
    entry[4..8].copy_from_slice(&nsid.to_le_bytes());
    entry
}

/// A command on `count` blocks from `lba`; `count` is not 0's based.
#[must_use]
pub fn io(opcode: u8, nsid: u32, lba: u64, count: usize) -> [u8; 64] {
    let mut entry = command(opcode, nsid);
    entry[40..48].copy_from_slice(&lba.to_le_bytes());
    entry[48..50].copy_from_slice(&(count.wrapping_sub(1) as u16).to_le_bytes());
    entry
}

/// A Fabrics command of a type.
#[must_use]
pub fn fabrics(fctype: u8) -> [u8; 64] {
    let mut entry = [0; 64];
    entry[0] = 0x7F;
    entry[1] = 0x40;
    entry[4] = fctype;
    entry
}

/// Sets the SGL descriptor: 01h is in the capsule, 5Ah by the transport.
pub fn set_sgl(entry: &mut [u8; 64], length: usize, identifier: u8) {
    entry[32..36].copy_from_slice(&(length as u32).to_le_bytes());
    entry[39] = identifier;
}

/// Controller Configuration.
pub const CC: u32 = 0x14;
/// Controller Status.
pub const CSTS: u32 = 0x1C;
/// The discovery subsystem's well-known NQN.
pub const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";
