//! A whole target of one reactor, with a namespace that stores nothing and a host that has one I/O queue: what is received is
//! framed, checked, run and answered as in a server, without sockets.

use engine::{BenchNamespace, Engine, EngineConfig, FormatOptions, LeadConfig, Notice, PoolIdentity};
use io::{ConnectionId, Event, ListenerId, Segment, SendList};
use nvme::command::{LbaRange, NvmOpcode};
use nvme::fabrics::{Cc, Connect, ConnectAttributes, ConnectData, ConnectResponse, Property, PropertySet};
use nvme::pdu::{CapsuleCmd, CapsuleResp, HEADER_LEN_MAX, IcReq};
use nvme::{Nqn, Sgl, Sqe};

use crate::capsules::{codec, crc32c};
use crate::memory_net::{CountedBuffer, Line, MemoryNet};

/// Entries of the I/O queue.
const ENTRIES: u32 = 129;
/// What one receive takes at most, as in a server.
const RECEIVE_BYTES: usize = 64 << 10;
const BLOCK: u32 = 4096;

/// The target, its host's connection, and what the host sends in each step.
#[derive(Debug)]
pub struct WholeTarget {
    engine: Engine<MemoryNet>,
    net: MemoryNet,
    connection: ConnectionId,
    /// What is received one after the other.
    received: Vec<CountedBuffer>,
    /// Bytes that the target has sent in this step.
    sent_bytes: usize,
}

impl WholeTarget {
    /// A target whose host sends `count` commands of 4 KiB at once, in turn with their answers. With `plain`, as Linux has
    /// it by default: SQ flow control on, so that each read is answered by data and a response.
    ///
    /// # Panics
    /// If the target does not take the host on.
    #[must_use]
    pub fn new(opcode: NvmOpcode, count: u16, digests: bool, plain: bool) -> Self {
        let mut net = MemoryNet::default();
        let mut engine = Engine::new(config(), &net);
        engine.run(&mut net);
        let Some(Notice::Started(identity)) = engine.poll_notice() else { panic!("the target has started") };
        let nsid = identity.bench[0].0;
        let mut target =
            Self { engine, net, connection: ConnectionId(0), received: Vec::new(), sent_bytes: 0 };
        target.connect(&Nqn::new(&identity.subsystem_nqn).expect("an NQN"), digests, plain);
        let mut stream = Vec::new();
        for cid in 0..count {
            let range = LbaRange::new(u64::from(cid) * 977, 1);
            let sqe = Sqe { cid, ..range.encode(opcode, nsid) };
            stream.extend(match opcode {
                NvmOpcode::Write => capsule(sqe, &[7; BLOCK as usize], digests),
                _ => capsule(sqe.with_sgl(Sgl::Transport { len_bytes: BLOCK }), &[], digests),
            });
        }
        target.received = stream.chunks(RECEIVE_BYTES).map(|bytes| bytes.to_vec().into()).collect();
        target.step();
        let data_len = if opcode == NvmOpcode::Write { 0 } else { BLOCK as usize };
        assert!(target.sent_bytes > usize::from(count) * (24 + data_len - 1), "every command is answered");
        target
    }

    /// The host sends its commands and takes the answers.
    pub fn step(&mut self) {
        self.sent_bytes = 0;
        let mut sent = None;
        for index in 0..self.received.len() {
            let received = self.received[index].clone();
            sent = self.round(received, sent);
        }
        if let Some(list) = sent {
            self.on_sent(list);
            self.engine.run(&mut self.net);
        }
    }

    /// A round of the reactor: a send has ended, something was received, and what follows from it is sent.
    fn round(
        &mut self,
        received: CountedBuffer,
        sent: Option<SendList<CountedBuffer>>,
    ) -> Option<SendList<CountedBuffer>> {
        if let Some(list) = sent {
            self.on_sent(list);
        }
        let event = Event::Received { connection: self.connection, result: Ok(Some(received)) };
        self.engine.handle(event, &mut self.net);
        self.engine.run(&mut self.net);
        self.net.take_sent().map(|(_, list)| list)
    }

    fn on_sent(&mut self, list: SendList<CountedBuffer>) {
        self.sent_bytes += list.len_bytes();
        let event = Event::Sent { connection: self.connection, list, result: Ok(()) };
        self.engine.handle(event, &mut self.net);
    }

    /// Makes a controller and its I/O queue.
    fn connect(&mut self, subsystem: &Nqn, digests: bool, plain: bool) {
        let flow = if plain { ConnectAttributes(0) } else { ConnectAttributes::DISABLE_SQ_FLOW_CONTROL };
        self.open(false);
        let admin = connect(subsystem, 0, 32, ConnectData::CNTLID_DYNAMIC, ConnectAttributes(0), false);
        let cntlid = ConnectResponse::parse(self.command(admin)).cntlid;
        let enable = PropertySet::encode(Property::Cc, Cc::ENABLE.encode().into());
        self.command(capsule(enable.with_sgl(Sgl::Transport { len_bytes: 0 }), &[], false));
        self.open(digests);
        self.command(connect(subsystem, 1, ENTRIES, cntlid, flow, digests));
        self.connection = self.net.newest();
    }

    /// A connection that has said ICReq.
    fn open(&mut self, digests: bool) {
        let address = "192.0.2.1:4420".parse().expect("an address");
        let event = Event::Accepted { listener: ListenerId(0), socket: Line, local: address, peer: address };
        self.engine.handle(event, &mut self.net);
        self.engine.run(&mut self.net);
        self.connection = self.net.newest();
        let request = IcReq { alignment_bytes: 4, header_digest: digests, data_digest: digests, r2t_max: 1 };
        self.exchange(request.encode().to_vec());
    }

    /// Sends a command and returns its result.
    fn command(&mut self, capsule: Vec<u8>) -> u64 {
        let answer = self.exchange(capsule);
        let mut header = [0; HEADER_LEN_MAX];
        header[..24].copy_from_slice(&answer[..24]);
        let cqe = CapsuleResp::parse(&header).cqe;
        assert!(cqe.status.is_success(), "{:?}", cqe.status);
        cqe.result
    }

    /// Sends bytes and returns what is answered, which is small.
    fn exchange(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let list = self.round(bytes.into(), None).expect("an answer");
        assert!(list.segments.iter().all(|segment| matches!(segment, Segment::Header { .. })));
        let answer = list.headers.clone();
        // Where its queue has moved, so has the connection.
        self.connection = self.net.newest();
        self.on_sent(list);
        self.engine.run(&mut self.net);
        answer
    }
}

fn config() -> EngineConfig {
    let format = FormatOptions {
        identity: PoolIdentity { pool: [1; 16], cluster: [2; 16], node: [3; 16] },
        shards: 1,
        segment_bytes: None,
        directory_half_bytes: None,
        created_unix_ns: 1,
    };
    let lead = LeadConfig {
        format,
        listen: vec!["192.0.2.1:4420".parse().expect("an address")],
        discovery: Vec::new(),
        advertise: Vec::new(),
        bench: vec![BenchNamespace { memory: false, size_bytes: 1 << 40 }],
        drives: Vec::new(),
        reactors: Vec::new(),
    };
    EngineConfig::new(Some(lead), store::ShardOptions::default(), 64 << 20)
}

fn connect(
    subsystem: &Nqn,
    qid: u16,
    entries: u32,
    cntlid: u16,
    attributes: ConnectAttributes,
    digests: bool,
) -> Vec<u8> {
    let command = Connect { record_format: 0, qid, queue_entries: entries, attributes, kato_ms: 0 };
    let host_nqn = Nqn::new("nqn.2014-08.org.example:bench").expect("an NQN");
    let data = ConnectData { host_id: [7; 16], cntlid, subsystem_nqn: *subsystem, host_nqn };
    capsule(command.encode(), &data.encode(), digests)
}

/// A command capsule; data, if there is any, lies in it.
fn capsule(sqe: Sqe, data: &[u8], digests: bool) -> Vec<u8> {
    let len_bytes = u32::try_from(data.len()).expect("a capsule's data is short");
    let sqe = if data.is_empty() { sqe } else { sqe.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes }) };
    let mut header = [0; HEADER_LEN_MAX];
    let len = CapsuleCmd { sqe }.encode(&codec(digests), len_bytes, &mut header);
    let mut bytes = [&header[..len], data].concat();
    if digests && !data.is_empty() {
        bytes.extend_from_slice(&crc32c(data).to_le_bytes());
    }
    bytes
}
