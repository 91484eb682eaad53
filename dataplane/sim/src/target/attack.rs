//! A hostile peer beside honest hosts: any bytes are a program of what it does to the target.
//!
//! Its connections speak as much of the protocol as the program has them speak: connect, initialize, Connect, commands,
//! data, raw bytes, silence. The honest hosts are held to the model all the while; nothing that the peer does may
//! change their data, stop their commands, or keep memory once its connections are gone.

use std::time::Duration;

use engine::BenchNamespace;
use io::DriveShape;
use nvme::command::NvmCommand;
use nvme::fabrics::{Connect, ConnectAttributes, ConnectData, Property, PropertySet};
use nvme::pdu::{
    COMMON_HEADER_LEN, CapsuleCmd, Codec, CommonHeader, H2cData, HEADER_LEN_MAX, IcReq, PduType, R2t,
};
use nvme::sqe::Sgl;
use nvme::{Nqn, Sqe};

use super::host::SimHost;
use super::{TargetMessage, TargetPlan, TargetReport, TargetTrial};
use crate::trial::Violation;
use crate::{Arrived, Endpoint, Faults, MemoryLimits, Random};

/// Connections of the peer at a time.
const CONNECTIONS_MAX: usize = 6;

/// Steps of one program.
const STEPS_MAX: usize = 400;

/// NSID of the bench namespace, which the peer may use; it may see no volume.
const BENCH_NSID: u32 = 16_384;

/// The peer's connections, and what it has learnt.
struct Attacker<'a> {
    program: &'a [u8],
    connections: Vec<Connection>,
    subsystem: Nqn,
}

/// One connection; its end is read as it arrives unless the program made it a slow reader.
struct Connection {
    endpoint: Endpoint<TargetMessage>,
    codec: Codec,
    slow: bool,
    next_cid: u16,
    arrived: Vec<u8>,
    // What R2Ts ask for, the newest first.
    asked: Vec<H2cData>,
}

/// Runs a program against the target.
///
/// # Errors
/// The first promise that was broken.
pub fn run_attack(program: &[u8]) -> Result<TargetReport, Violation> {
    let program = program.to_vec();
    crate::trial::catch(move || TargetTrial::new(attack_plan(&program)).run_under_attack(&program))
}

/// A program from a seed: as a rule it opens an association in good order before it does anything.
#[must_use]
pub fn attack_of(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0xA77A);
    let byte = |random: &mut Random| u8::try_from(random.below(256)).unwrap_or_default();
    let first = byte(&mut random);
    let mut program = vec![first];
    if !random.one_in(4) {
        let cntlid = if first & 2 == 0 { 2 } else { 3 };
        let digests = byte(&mut random) & 3;
        // An admin queue, initialized, connected and enabled; then two I/O queues of the same controller.
        program.extend([0, 0, 1, 0, digests, 14, 0, 20, 3, 0, 31, 0, 0, 0, 14, 0, 60, 5, 0, 1, 0, 14, 0, 60]);
        for qid in 1..=2 {
            program.extend([0, 0, 1, qid, digests, 14, 0, 20, 4, qid, qid, 31, 4, cntlid, 0, 14, 0, 60]);
        }
    }
    // Mostly what a queue survives, so that there is something left to go wrong later.
    for _ in 0..random.between(5, 120) {
        let (what, arguments) = match random.below(40) {
            0..20 => (7, 4),
            20..28 => (10, 5),
            28..34 => (14, 1),
            34 => (6, 65),
            35 => (5, 2),
            36 => (12, 0),
            37 => (15, 1),
            _ => (byte(&mut random), 4),
        };
        program.extend([what, byte(&mut random)]);
        program.extend((0..arguments).map(|_| byte(&mut random)));
    }
    program
}

/// One life with one honest host or two; nothing fails but by the attack.
fn attack_plan(program: &[u8]) -> TargetPlan {
    let seed = program.first().copied().unwrap_or_default();
    TargetPlan {
        reactors: vec![u16::from(seed % 2) + 1],
        drives: vec![DriveShape { size_bytes: 16 << 20, block_bytes: 512, volatile_cache: false }],
        shards: 2,
        memory: MemoryLimits::default(),
        faults: Faults::none(),
        hosts: 1 + usize::from(seed & 2 != 0),
        queues: 1,
        depth: 4,
        volumes: vec![(64, true)],
        commands_per_life: 20,
        digests: seed & 4 != 0,
        reconnect_one_in: 0,
        change_one_in: 0,
        images_one_in: 0,
        shutdown_one_in: 0,
        ends_empty: false,
        bench: vec![BenchNamespace { memory: true, size_bytes: 4 << 20 }],
        ..TargetPlan::new(u64::from(seed))
    }
}

impl TargetTrial {
    fn run_under_attack(mut self, program: &[u8]) -> Result<TargetReport, Violation> {
        self.begin_life(self.plan.reactors[0])?;
        self.make_volumes()?;
        // Lists by name: the peer is nobody's host.
        for volume in 0..self.volumes.len() {
            self.ask_acl(volume, vec![true; self.plan.hosts]);
        }
        self.await_changes()?;
        self.meet_hosts()?;
        let subsystem = self.subsystem_nqn.ok_or(Violation::Stuck { open: 0 })?;
        let mut attacker =
            Attacker { program: program.get(1..).unwrap_or_default(), connections: Vec::new(), subsystem };
        for _ in 0..STEPS_MAX {
            if !attacker.step(&mut self)? {
                break;
            }
            for host in 0..self.hosts.len() {
                if self.open_of(host) < self.plan.depth && self.random.one_in(4) {
                    self.ask(host);
                }
            }
            self.pass(&mut attacker, Duration::from_micros(200))?;
        }
        attacker.connections.clear();
        self.load()?;
        self.finish()
    }

    /// Lets virtual time pass.
    fn pass(&mut self, attacker: &mut Attacker<'_>, time: Duration) -> Result<(), Violation> {
        let until = self.world.now() + time;
        self.pause = Some(until);
        while self.world.now() < until {
            self.turn()?;
            for connection in &mut attacker.connections {
                connection.drain();
            }
        }
        self.pause = None;
        Ok(())
    }
}

impl Attacker<'_> {
    /// Takes the next bytes of the program; zeros once it has ended.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = N.min(self.program.len());
        bytes[..count].copy_from_slice(&self.program[..count]);
        self.program = &self.program[count..];
        bytes
    }

    /// One step of the program; false at its end.
    fn step(&mut self, trial: &mut TargetTrial) -> Result<bool, Violation> {
        if self.program.is_empty() {
            return Ok(false);
        }
        let [what, which] = self.take();
        if what % 16 == 0 || self.connections.is_empty() {
            self.connect(trial, which);
            return Ok(true);
        }
        let index = usize::from(which) % self.connections.len();
        match what % 16 {
            1 | 2 => self.initialize(index),
            3 => self.connect_queue(index, 0),
            4 => {
                let [qid] = self.take();
                self.connect_queue(index, u16::from(qid % 4));
            }
            5 => self.set_cc(index),
            6 => self.any_command(index),
            7..10 => self.io_command(index),
            10 => self.data(index),
            11 => self.raw(index),
            12 => self.connections[index].slow ^= true,
            13 => {
                let [how] = self.take();
                let mut connection = self.connections.swap_remove(index);
                match how % 3 {
                    0 => connection.endpoint.reset(),
                    1 => connection.endpoint.finish(),
                    _ => {}
                }
            }
            14 => {
                let [tens] = self.take();
                trial.pass(self, Duration::from_micros(u64::from(tens) * 10))?;
            }
            // Long enough for the target's timers.
            _ => {
                let [tenths] = self.take();
                trial.pass(self, Duration::from_millis(u64::from(tenths) * 100))?;
            }
        }
        Ok(true)
    }

    fn connect(&mut self, trial: &mut TargetTrial, which: u8) {
        if self.connections.len() == CONNECTIONS_MAX {
            self.connections.remove(usize::from(which) % CONNECTIONS_MAX);
        }
        let Some(endpoint) = trial.world.connect(trial.listen) else { return };
        let codec = Codec::initial(host::crc32c);
        let (arrived, asked) = (Vec::new(), Vec::new());
        self.connections.push(Connection { endpoint, codec, slow: false, next_cid: 0, arrived, asked });
    }

    fn initialize(&mut self, index: usize) {
        let [flags] = self.take();
        let request = IcReq {
            alignment_bytes: 4 * (flags >> 4),
            header_digest: flags & 1 != 0,
            data_digest: flags & 2 != 0,
            r2t_max: u64::from(flags >> 2 & 3) + 1,
        };
        let connection = &mut self.connections[index];
        connection.endpoint.write(&request.encode());
        connection.codec.header_digest = request.header_digest;
        connection.codec.data_digest = request.data_digest;
    }

    fn connect_queue(&mut self, index: usize, qid: u16) {
        let [entries, attributes, cntlid, identity] = self.take();
        let connect = Connect {
            record_format: 0,
            qid,
            queue_entries: u32::from(entries) + 1,
            attributes: ConnectAttributes(attributes & 0xc),
            kato_ms: if qid == 0 { u32::from(attributes) * 100 } else { 0 },
        };
        let data = ConnectData {
            host_id: [0xf0 + identity % 2; 16],
            // The honest hosts have the first identifiers.
            cntlid: if qid == 0 { ConnectData::CNTLID_DYNAMIC } else { u16::from(cntlid % 8) },
            subsystem_nqn: self.subsystem,
            host_nqn: SimHost::nqn(90 + identity % 2),
        };
        self.send(index, connect.encode(), &data.encode());
    }

    fn set_cc(&mut self, index: usize) {
        let [low, high] = self.take();
        // IOCQES 4, IOSQES 6; the program decides on EN and SHN.
        let value = 0x0046_0000 | u64::from(low & 1) | u64::from(high & 3) << 14;
        self.send(index, PropertySet::encode(Property::Cc, value), &[]);
    }

    /// 64 bytes of the program as they are, with a valid command identifier.
    fn any_command(&mut self, index: usize) {
        let [length] = self.take();
        let sqe = Sqe::parse(&self.take::<64>());
        let data = vec![0x5a; usize::from(length) * 16];
        self.send_as(index, sqe, &data, data.len());
    }

    /// A command of the NVM command set in its right form, on the bench namespace as a rule.
    fn io_command(&mut self, index: usize) {
        let [opcode, lba, blocks, how] = self.take();
        let nsid = if how & 0x30 == 0x30 { u32::from(how >> 6) } else { BENCH_NSID };
        let range = nvme::command::LbaRange::new(u64::from(lba), u32::from(blocks % 64) + 1);
        let command = match opcode % 8 {
            0 | 1 => NvmCommand::Read(range),
            2..5 => NvmCommand::Write(range),
            5 => NvmCommand::Compare(range),
            6 => NvmCommand::Flush,
            _ => NvmCommand::Verify(range),
        };
        let mut sqe = command.encode(nsid);
        let bytes = (usize::from(blocks % 64) + 1) * 4096;
        match command {
            NvmCommand::Read(_) => self.send_as(index, sqe, &[], bytes),
            NvmCommand::Write(_) | NvmCommand::Compare(_) => {
                if how & 1 == 0 && bytes <= 8192 {
                    let len_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    sqe = sqe.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes });
                    self.put(index, sqe, &vec![how; bytes]);
                } else {
                    self.send_as(index, sqe, &[], bytes);
                }
            }
            _ => self.put(index, sqe, &[]),
        }
    }

    /// H2CData: as a rule what the target asked for last, else any small numbers.
    fn data(&mut self, index: usize) {
        let [how, cid, ttag, offset, length] = self.take();
        let connection = &mut self.connections[index];
        let asked = connection.asked.pop();
        if asked.is_none() && how % 8 != 0 {
            return;
        }
        let mut pdu = asked.unwrap_or_else(|| H2cData {
            cid: u16::from(cid % 32),
            ttag: u16::from(ttag % 32),
            offset_bytes: u32::from(offset) * 512,
            len_bytes: (u32::from(length) + 1) * 512,
            last: how & 8 != 0,
        });
        if how % 8 == 1 {
            // Less than was asked for, and the rest another time.
            let rest = H2cData { offset_bytes: pdu.offset_bytes + pdu.len_bytes / 2, ..pdu };
            pdu = H2cData { len_bytes: pdu.len_bytes / 2, last: false, ..pdu };
            connection.asked.push(H2cData { len_bytes: rest.len_bytes - pdu.len_bytes, ..rest });
        }
        let mut header = [0; HEADER_LEN_MAX];
        let count = pdu.encode(&connection.codec, &mut header);
        let mut bytes = header[..count].to_vec();
        connection.append_data(&mut bytes, &vec![how; pdu.len_bytes as usize]);
        connection.endpoint.write(&bytes);
    }

    fn raw(&mut self, index: usize) {
        let [length] = self.take();
        let count = usize::from(length).min(self.program.len());
        let (bytes, rest) = self.program.split_at(count);
        self.connections[index].endpoint.write(bytes);
        self.program = rest;
    }

    /// Sends a command whose data of `bytes` bytes the target moves by itself.
    fn send_as(&mut self, index: usize, sqe: Sqe, data: &[u8], bytes: usize) {
        let sqe = sqe.with_sgl(Sgl::Transport { len_bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        self.put(index, sqe, data);
    }

    /// Sends a command with its data in the capsule.
    fn send(&mut self, index: usize, sqe: Sqe, data: &[u8]) {
        let len_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.put(index, sqe.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes }), data);
    }

    fn put(&mut self, index: usize, mut sqe: Sqe, data: &[u8]) {
        let connection = &mut self.connections[index];
        sqe.cid = connection.next_cid % 32;
        connection.next_cid = connection.next_cid.wrapping_add(1);
        let mut header = [0; HEADER_LEN_MAX];
        let data_len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let count = CapsuleCmd { sqe }.encode(&connection.codec, data_len, &mut header);
        let mut bytes = header[..count].to_vec();
        connection.append_data(&mut bytes, data);
        // A full pipe cuts the PDU short: that too is something that peers do.
        connection.endpoint.write(&bytes);
    }
}

impl Connection {
    fn append_data(&self, bytes: &mut Vec<u8>, data: &[u8]) {
        bytes.extend_from_slice(data);
        if self.codec.data_digest && !data.is_empty() {
            bytes.extend_from_slice(&host::crc32c(data).to_le_bytes());
        }
    }

    /// Reads what has arrived; of R2Ts it keeps what they ask for.
    fn drain(&mut self) {
        let mut bytes = [0; 8192];
        while !self.slow
            && let Arrived::Bytes(count) = self.endpoint.read(&mut bytes)
        {
            self.arrived.extend_from_slice(&bytes[..count]);
        }
        while let Some(common) = self.arrived.first_chunk() {
            let common = CommonHeader::parse(common);
            let (Ok(length), header_len) = (usize::try_from(common.plen), usize::from(common.hlen)) else {
                return;
            };
            if length < COMMON_HEADER_LEN || self.arrived.len() < length {
                return;
            }
            if PduType::parse(common.type_code) == Some(PduType::R2t) && self.asked.len() < 32 {
                let mut header = [0; HEADER_LEN_MAX];
                header[..header_len].copy_from_slice(&self.arrived[..header_len]);
                let Ok(R2t { cid, ttag, offset_bytes, len_bytes }) = R2t::parse(&header) else { return };
                self.asked.insert(0, H2cData { cid, ttag, offset_bytes, len_bytes, last: true });
            }
            self.arrived.drain(..length);
        }
    }
}
