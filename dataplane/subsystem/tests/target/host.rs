//! A scripted host: it writes PDUs by hand and takes the target's apart, so that it can also do what no host should.

use nvme::fabrics::{Cc, Connect, ConnectAttributes, ConnectData, Property, PropertySet};
use nvme::pdu::{
    C2hData, CapsuleCmd, Codec, H2cData, HEADER_LEN_MAX, IcReq, IcResp, Pdu, R2t, Receiver, TermReq,
};
use nvme::{Cqe, Event, Framer, Limits, Nqn, Sgl, Sqe, Status};
use subsystem::ListenerKind;

use crate::world::{Line, SUBSYSTEM, World, nqn};

pub(crate) const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:aaaaaaaa-0000-4000-8000-000000000001";
pub(crate) const PEER: &str = "198.51.100.7:50000";

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    !crc
}

/// A PDU from the target, with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    IcResp(IcResp),
    Response(Cqe),
    Data(C2hData, Vec<u8>),
    R2t(R2t),
    Term(TermReq, Vec<u8>),
}

/// One connection of a host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) line: Line,
    framer: Framer,
    pub(crate) codec: Codec,
    next_cid: u16,
}

/// What a host says of itself in Connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) host: Nqn,
    pub(crate) host_id: [u8; 16],
    pub(crate) subsystem: Nqn,
    pub(crate) cntlid: u16,
    pub(crate) qid: u16,
    pub(crate) entries: u32,
    pub(crate) kato_ms: u32,
    pub(crate) attributes: ConnectAttributes,
}

impl Identity {
    pub(crate) fn admin() -> Self {
        Self {
            host: nqn(HOST),
            host_id: [7; 16],
            subsystem: nqn(SUBSYSTEM),
            cntlid: 0xffff,
            qid: 0,
            entries: 32,
            kato_ms: 0,
            attributes: ConnectAttributes(0),
        }
    }

    pub(crate) fn io(cntlid: u16, qid: u16) -> Self {
        Self { cntlid, qid, entries: 128, ..Self::admin() }
    }

    pub(crate) fn of(host: &str) -> Self {
        Self { host: nqn(host), ..Self::admin() }
    }

    pub(crate) fn sqe(&self) -> Sqe {
        Connect {
            record_format: 0,
            qid: self.qid,
            queue_entries: self.entries,
            attributes: self.attributes,
            kato_ms: self.kato_ms,
        }
        .encode()
    }

    pub(crate) fn data(&self) -> [u8; 1024] {
        ConnectData {
            host_id: self.host_id,
            cntlid: self.cntlid,
            subsystem_nqn: self.subsystem,
            host_nqn: self.host,
        }
        .encode()
    }
}

pub(crate) fn icreq(header_digest: bool, data_digest: bool) -> IcReq {
    IcReq { alignment_bytes: 4, header_digest, data_digest, r2t_max: 1 }
}

impl Host {
    /// A connection on which nothing was said yet.
    pub(crate) fn open(world: &mut World, listener: ListenerKind, peer: &str) -> Self {
        let bounds = Limits { capsule_data_max_bytes: 0, transfer_data_max_bytes: u32::MAX };
        Self {
            line: world.open(listener, peer),
            framer: Framer::new(Receiver::Host, bounds, crc32c),
            codec: Codec::initial(crc32c),
            next_cid: 0x10,
        }
    }

    /// A connection that has said ICReq.
    pub(crate) fn initialized(world: &mut World, header_digest: bool, data_digest: bool) -> Self {
        let mut host = Self::open(world, ListenerKind::Io, PEER);
        host.initialize(world, header_digest, data_digest);
        host
    }

    pub(crate) fn initialize(&mut self, world: &mut World, header_digest: bool, data_digest: bool) {
        world.send(self.line, &icreq(header_digest, data_digest).encode());
        let got = self.take(world);
        assert!(matches!(got[..], [Got::IcResp(_)]), "{got:?}");
    }

    /// An enabled admin queue.
    pub(crate) fn admin(world: &mut World, identity: &Identity) -> (Self, u16) {
        Self::admin_from(world, ListenerKind::Io, PEER, identity)
    }

    pub(crate) fn admin_from(
        world: &mut World,
        listener: ListenerKind,
        peer: &str,
        identity: &Identity,
    ) -> (Self, u16) {
        let mut host = Self::open(world, listener, peer);
        host.initialize(world, false, false);
        let cqe = host.connect(world, identity);
        assert_eq!(cqe.status, Status::SUCCESS);
        host.enable(world);
        (host, cqe.result as u16)
    }

    pub(crate) fn enable(&mut self, world: &mut World) {
        let sqe = PropertySet::encode(Property::Cc, Cc::ENABLE.encode().into());
        assert_eq!(self.command(world, sqe).status, Status::SUCCESS);
    }

    /// An I/O queue of a controller that [`Self::admin`] made.
    pub(crate) fn io(world: &mut World, cntlid: u16, qid: u16) -> Self {
        Self::io_as(world, &Identity::io(cntlid, qid), false, false)
    }

    pub(crate) fn io_as(
        world: &mut World,
        identity: &Identity,
        header_digest: bool,
        data_digest: bool,
    ) -> Self {
        let mut host = Self::initialized(world, header_digest, data_digest);
        let cqe = host.connect(world, identity);
        assert_eq!(cqe.status, Status::SUCCESS);
        host
    }

    /// Admin queue and one I/O queue of the default host.
    pub(crate) fn pair(world: &mut World) -> (Self, Self) {
        let (admin, cntlid) = Self::admin(world, &Identity::admin());
        let io = Self::io(world, cntlid, 1);
        (admin, io)
    }

    pub(crate) fn connect(&mut self, world: &mut World, identity: &Identity) -> Cqe {
        let data = identity.data();
        self.command_with(world, identity.sqe(), &data)
    }

    pub(crate) fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// A command capsule with in-capsule data.
    pub(crate) fn capsule(&self, sqe: Sqe, data: &[u8]) -> Vec<u8> {
        let mut header = [0; HEADER_LEN_MAX];
        let len = CapsuleCmd { sqe }.encode(&self.codec, data.len() as u32, &mut header);
        let mut bytes = header[..len].to_vec();
        bytes.extend_from_slice(data);
        if self.codec.data_digest && !data.is_empty() {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }

    /// A command capsule whose in-capsule data its SGL describes.
    pub(crate) fn in_capsule(&self, sqe: Sqe, data: &[u8]) -> Vec<u8> {
        let len_bytes = data.len() as u32;
        self.capsule(sqe.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes }), data)
    }

    pub(crate) fn h2c_data(&self, pdu: H2cData, data: &[u8]) -> Vec<u8> {
        let mut header = [0; HEADER_LEN_MAX];
        let len = pdu.encode(&self.codec, &mut header);
        let mut bytes = header[..len].to_vec();
        bytes.extend_from_slice(data);
        if self.codec.data_digest {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }

    /// Sends a command without data (or with room for data to the host) and returns its completion.
    pub(crate) fn command(&mut self, world: &mut World, sqe: Sqe) -> Cqe {
        self.read(world, sqe, 0).0
    }

    /// Sends a command with in-capsule data and returns its completion.
    pub(crate) fn command_with(&mut self, world: &mut World, mut sqe: Sqe, data: &[u8]) -> Cqe {
        sqe.cid = self.cid();
        let bytes = self.in_capsule(sqe, data);
        world.send(self.line, &bytes);
        self.completion(world, sqe.cid).0
    }

    /// Sends a command with room for `len` bytes, returns its completion and data.
    pub(crate) fn read(&mut self, world: &mut World, mut sqe: Sqe, len: u32) -> (Cqe, Vec<u8>) {
        sqe.cid = self.cid();
        let bytes = self.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: len }), &[]);
        world.send(self.line, &bytes);
        self.completion(world, sqe.cid)
    }

    /// Sends a command whose data the target must ask for, gives it, returns its completion.
    pub(crate) fn write(&mut self, world: &mut World, mut sqe: Sqe, data: &[u8]) -> Cqe {
        sqe.cid = self.cid();
        let bytes = self.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: data.len() as u32 }), &[]);
        world.send(self.line, &bytes);
        let got = self.take(world);
        let [Got::R2t(r2t)] = got[..] else { panic!("one R2T, got {got:?}") };
        assert_eq!((r2t.cid, r2t.offset_bytes as usize, r2t.len_bytes as usize), (sqe.cid, 0, data.len()));
        let pdu =
            H2cData { cid: sqe.cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: r2t.len_bytes, last: true };
        let bytes = self.h2c_data(pdu, data);
        world.send(self.line, &bytes);
        self.completion(world, sqe.cid).0
    }

    /// Sends a command and does not wait for anything. Returns its CID.
    pub(crate) fn submit(&mut self, world: &mut World, mut sqe: Sqe, room: u32) -> u16 {
        sqe.cid = self.cid();
        let bytes = self.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: room }), &[]);
        world.send(self.line, &bytes);
        sqe.cid
    }

    /// The one completion that has come, with the data before it.
    pub(crate) fn completion(&mut self, world: &mut World, cid: u16) -> (Cqe, Vec<u8>) {
        match &self.take(world)[..] {
            [Got::Response(cqe)] => {
                assert_eq!(cqe.cid, cid);
                (*cqe, Vec::new())
            }
            [Got::Data(pdu, data), Got::Response(cqe)] => {
                assert_eq!((pdu.cid, cqe.cid), (cid, cid));
                assert_eq!((pdu.offset_bytes, pdu.last, pdu.success), (0, true, false));
                (*cqe, data.clone())
            }
            other => panic!("expected the completion of {cid:#x}, got {other:?}"),
        }
    }

    /// Everything that has come since the last call; data digests are checked.
    pub(crate) fn take(&mut self, world: &mut World) -> Vec<Got> {
        let bytes = std::mem::take(&mut world.socket(self.line).to_host);
        let mut input = &bytes[..];
        let mut got = Vec::new();
        let mut current: Option<(Pdu, Vec<u8>)> = None;
        while let Some(event) = self.framer.poll(&mut input).expect("the target speaks correctly") {
            match event {
                Event::Header(frame) => current = Some((frame.pdu, Vec::new())),
                Event::Data(data) => current.as_mut().unwrap().1.extend_from_slice(data),
                Event::End { data_digest } => {
                    let (pdu, data) = current.take().unwrap();
                    assert!(data_digest.is_none_or(|digest| digest == crc32c(&data)), "data digest");
                    got.push(match pdu {
                        Pdu::IcResp(response) => {
                            self.framer.negotiate(response.header_digest, response.data_digest, 4);
                            self.codec.header_digest = response.header_digest;
                            self.codec.data_digest = response.data_digest;
                            Got::IcResp(response)
                        }
                        Pdu::CapsuleResp(response) => Got::Response(response.cqe),
                        Pdu::C2hData(pdu) => Got::Data(pdu, data),
                        Pdu::R2t(r2t) => Got::R2t(r2t),
                        Pdu::C2hTermReq(term) => Got::Term(term, data),
                        other => panic!("not for a host: {other:?}"),
                    });
                }
            }
        }
        assert!(self.framer.is_idle(), "whole PDUs only");
        got
    }

    /// The termination request that has come, alone.
    pub(crate) fn terminated(&mut self, world: &mut World) -> (TermReq, Vec<u8>) {
        match &self.take(world)[..] {
            [Got::Term(term, data)] => (*term, data.clone()),
            other => panic!("expected a termination request, got {other:?}"),
        }
    }
}
