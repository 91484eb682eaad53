//! The queue against a scripted controller that is driven PDU by PDU. Goal: data and completions
//! are right whatever the negotiated parameters, and each way of breaking the protocol ends in
//! its fault, a termination request, and every payload handed back.

use nvme::command::{LbaRange, NvmOpcode};
use nvme::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, Fes, H2cData, HEADER_LEN_MAX, IcReq, IcResp, R2t, TermReq,
};
use nvme::{Event, Framer, Pdu, PduError, PduType};

use super::*;
use crate::{ConnectConfig, Violation};

/// A controller's end of one connection: reads PDUs, answers as told.
struct Peer {
    framer: Framer,
    codec: Codec,
    received: Vec<(Pdu, Vec<u8>)>,
}

impl Peer {
    fn new() -> Self {
        let limits = Limits { capsule_data_max_bytes: 1 << 20, transfer_data_max_bytes: 1 << 20 };
        Self {
            framer: Framer::new(Receiver::Controller, limits, crc32c),
            codec: Codec::initial(crc32c),
            received: Vec::new(),
        }
    }

    /// Reads all that the queue has to send, `step` bytes at a time.
    fn pump(&mut self, queue: &mut Queue<Vec<u8>>, step: usize) {
        while let Some(bytes) = queue.poll_transmit() {
            let count = bytes.len().min(step);
            let chunk = bytes[..count].to_vec();
            queue.transmitted(count);
            self.read(&chunk);
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.framer.poll(&mut bytes).expect("the host sends well-formed PDUs") {
            match event {
                Event::Header(frame) => self.received.push((frame.pdu, Vec::new())),
                Event::Data(data) => self.received.last_mut().unwrap().1.extend_from_slice(data),
                Event::End { data_digest } => {
                    let data = &self.received.last().unwrap().1;
                    assert!(data_digest.is_none_or(|digest| digest == crc32c(data)), "the host's digest");
                }
            }
        }
    }

    fn icresp(&mut self, request: &IcReq, cpda: u8, h2c_data_max_bytes: u32) -> Vec<u8> {
        self.codec = Codec {
            header_digest: request.header_digest,
            data_digest: request.data_digest,
            alignment_bytes: request.alignment_bytes,
            crc32c,
        };
        self.framer.negotiate(request.header_digest, request.data_digest, cpda);
        let response = IcResp {
            alignment_bytes: cpda,
            header_digest: request.header_digest,
            data_digest: request.data_digest,
            h2c_data_max_bytes,
        };
        response.encode().to_vec()
    }

    fn response(&self, cqe: Cqe) -> Vec<u8> {
        let mut out = [0; HEADER_LEN_MAX];
        let len = CapsuleResp { cqe }.encode(&self.codec, &mut out);
        out[..len].to_vec()
    }

    fn done(&self, cid: Cid, sqhd: u16) -> Vec<u8> {
        self.response(Cqe { sqhd, ..Cqe::new(cid.0, Status::SUCCESS) })
    }

    fn data(&self, pdu: C2hData, data: &[u8]) -> Vec<u8> {
        let mut out = [0; HEADER_LEN_MAX];
        let len = pdu.encode(&self.codec, &mut out);
        let mut bytes = out[..len].to_vec();
        bytes.extend_from_slice(data);
        if self.codec.data_digest {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }

    fn r2t(&self, r2t: R2t) -> Vec<u8> {
        let mut out = [0; HEADER_LEN_MAX];
        let len = r2t.encode(&self.codec, &mut out);
        out[..len].to_vec()
    }
}

fn config() -> QueueConfig {
    QueueConfig {
        qid: 1,
        entries: 8,
        alignment_bytes: 4,
        header_digest: false,
        data_digest: false,
        r2t_max: 1,
        capsule_data_max_bytes: 4096,
        c2h_data_max_bytes: 1 << 20,
        discard_reads: false,
        connect: None,
    }
}

fn digests() -> QueueConfig {
    QueueConfig { header_digest: true, data_digest: true, alignment_bytes: 64, ..config() }
}

/// A queue past ICResp, and its peer.
fn open(config: QueueConfig) -> (Queue<Vec<u8>>, Peer) {
    let mut queue = Queue::new(config);
    let mut peer = Peer::new();
    peer.pump(&mut queue, 1000);
    let Some((Pdu::IcReq(request), _)) = peer.received.pop() else { panic!("no ICReq") };
    let response = peer.icresp(&request, 128, 4096);
    queue.handle_bytes(&response).unwrap();
    (queue, peer)
}

fn read_command(len: usize) -> (Sqe, Payload<Vec<u8>>) {
    (LbaRange::new(0, 1).encode(NvmOpcode::Read, 1), Payload::Read(vec![0; len]))
}

fn write_command(len: usize) -> (Sqe, Payload<Vec<u8>>) {
    let data = (0..len).map(|i| (i % 251) as u8).collect();
    (LbaRange::new(0, 1).encode(NvmOpcode::Write, 1), Payload::Write(data))
}

fn submit(queue: &mut Queue<Vec<u8>>, peer: &mut Peer, command: (Sqe, Payload<Vec<u8>>)) -> Cid {
    let cid = queue.submit(command.0, command.1).unwrap();
    peer.pump(queue, 1000);
    cid
}

fn c2h(cid: Cid, offset_bytes: u32, len_bytes: u32, last: bool, success: bool) -> C2hData {
    C2hData { cid: cid.0, offset_bytes, len_bytes, last, success }
}

#[test]
fn icreq_says_what_was_configured() {
    let mut queue: Queue<Vec<u8>> = Queue::new(QueueConfig { r2t_max: 4, ..digests() });
    let mut peer = Peer::new();
    peer.pump(&mut queue, 7);
    let expected = IcReq { alignment_bytes: 64, header_digest: true, data_digest: true, r2t_max: 4 };
    assert_eq!(peer.received, [(Pdu::IcReq(expected), Vec::new())]);
    let (sqe, payload) = read_command(512);
    let rejected = queue.submit(sqe, payload).unwrap_err();
    assert_eq!(rejected.refusal, Refusal::NotOpen);
    assert_eq!(rejected.payload, Payload::Read(vec![0; 512]), "the payload comes back");
}

#[test]
fn small_writes_go_in_the_capsule() {
    for config in [config(), digests()] {
        let (mut queue, mut peer) = open(config);
        let cid = submit(&mut queue, &mut peer, write_command(4096));
        let (Pdu::CapsuleCmd(CapsuleCmd { sqe }), data) = peer.received.pop().unwrap() else { panic!() };
        assert_eq!(sqe.sgl(), Ok(Sgl::InCapsule { offset_bytes: 0, len_bytes: 4096 }));
        assert_eq!((sqe.cid, Payload::Write(data)), (cid.0, write_command(4096).1));
        queue.handle_bytes(&peer.done(cid, 1)).unwrap();
        let completion = queue.poll_completion().unwrap();
        assert!(completion.is_success());
        assert_eq!((completion.cid, completion.payload), (cid, write_command(4096).1));
        assert_eq!((queue.outstanding(), queue.poll_completion().is_none()), (0, true));
    }
}

#[test]
fn large_writes_wait_for_r2ts_and_are_split_at_maxh2cdata() {
    for (config, step) in [(config(), 1000), (digests(), 1), (digests(), 4097)] {
        let (mut queue, mut peer) = open(config);
        let cid = submit(&mut queue, &mut peer, write_command(20_000));
        let (Pdu::CapsuleCmd(CapsuleCmd { sqe }), data) = peer.received.pop().unwrap() else { panic!() };
        assert_eq!((sqe.sgl(), data.len()), (Ok(Sgl::Transport { len_bytes: 20_000 }), 0));
        let mut written = Vec::new();
        for (ttag, (offset_bytes, len_bytes)) in [(0, 10_000), (10_000, 10_000)].into_iter().enumerate() {
            let r2t = R2t { cid: cid.0, ttag: ttag as u16, offset_bytes, len_bytes };
            queue.handle_bytes(&peer.r2t(r2t)).unwrap();
            peer.pump(&mut queue, step);
            for (index, (pdu, data)) in peer.received.drain(..).enumerate() {
                let offset_bytes = offset_bytes + index as u32 * 4096;
                let (len_bytes, last) = if index == 2 { (1808, true) } else { (4096, false) };
                let expected = H2cData { cid: cid.0, ttag: ttag as u16, offset_bytes, len_bytes, last };
                assert_eq!(pdu, Pdu::H2cData(expected));
                written.extend(data);
            }
        }
        assert_eq!(Payload::Write(written), write_command(20_000).1);
        queue.handle_bytes(&peer.done(cid, 1)).unwrap();
        assert!(queue.poll_completion().unwrap().is_success());
    }
}

#[test]
fn reads_collect_their_data_from_any_pieces() {
    for config in [config(), digests()] {
        let (mut queue, mut peer) = open(config);
        let cid = submit(&mut queue, &mut peer, read_command(1000));
        let mut stream = peer.data(c2h(cid, 0, 600, false, false), &[1; 600]);
        stream.extend(peer.data(c2h(cid, 600, 400, true, false), &[2; 400]));
        stream.extend(peer.done(cid, 1));
        for chunk in stream.chunks(13) {
            queue.handle_bytes(chunk).unwrap();
        }
        let completion = queue.poll_completion().unwrap();
        assert!(completion.is_success());
        let Payload::Read(data) = completion.payload else { panic!() };
        assert!(data[..600].iter().all(|byte| *byte == 1) && data[600..].iter().all(|byte| *byte == 2));
    }
}

#[test]
fn discarded_reads_are_checked_and_not_kept() {
    let (mut queue, mut peer) = open(QueueConfig { discard_reads: true, ..digests() });
    let cid = submit(&mut queue, &mut peer, read_command(600));
    queue.handle_bytes(&peer.data(c2h(cid, 0, 600, true, false), &[1; 600])).unwrap();
    queue.handle_bytes(&peer.done(cid, 1)).unwrap();
    let completion = queue.poll_completion().unwrap();
    assert!(completion.is_success());
    assert_eq!(completion.payload, Payload::Read(vec![0; 600]));
    let cid = submit(&mut queue, &mut peer, read_command(600));
    let short = queue.handle_bytes(&peer.data(c2h(cid, 0, 601, true, false), &[1; 601]));
    assert_eq!(short, Err(Violation::Range { cid: cid.0, len: 600 }.into()));
}

#[test]
fn several_commands_complete_in_any_order() {
    let (mut queue, mut peer) = open(config());
    let first = submit(&mut queue, &mut peer, read_command(8));
    let second = submit(&mut queue, &mut peer, read_command(8));
    queue.handle_bytes(&peer.data(c2h(second, 0, 4, false, false), &[2; 4])).unwrap();
    queue.handle_bytes(&peer.data(c2h(first, 0, 8, true, false), &[1; 8])).unwrap();
    queue.handle_bytes(&peer.data(c2h(second, 4, 4, true, false), &[2; 4])).unwrap();
    queue.handle_bytes(&peer.done(second, 2)).unwrap();
    queue.handle_bytes(&peer.done(first, 2)).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| queue.poll_completion()).map(|c| (c.cid, c.payload)).collect();
    assert_eq!(order, [(second, Payload::Read(vec![2; 8])), (first, Payload::Read(vec![1; 8]))]);
}

#[test]
fn damaged_data_fails_its_command_and_not_the_queue() {
    let (mut queue, mut peer) = open(digests());
    let cid = submit(&mut queue, &mut peer, read_command(64));
    let mut pdu = peer.data(c2h(cid, 0, 64, true, false), &[1; 64]);
    *pdu.last_mut().unwrap() ^= 1;
    queue.handle_bytes(&pdu).unwrap();
    queue.handle_bytes(&peer.done(cid, 1)).unwrap();
    let status = queue.poll_completion().unwrap().result.unwrap().status;
    assert_eq!((status, queue.stats().data_digest_errors), (Status::TRANSIENT_TRANSPORT_ERROR, 1));
    assert!(queue.has_room());
}

#[test]
fn a_full_queue_refuses_until_sqhd_moves() {
    let (mut queue, mut peer) = open(config());
    let cids: Vec<_> = (0..7).map(|_| submit(&mut queue, &mut peer, read_command(1))).collect();
    let (sqe, payload) = read_command(1);
    assert_eq!(queue.submit(sqe, payload).unwrap_err().refusal, Refusal::Full);
    let refused = Cqe { sqhd: 0, ..Cqe::new(cids[3].0, Status::INTERNAL_ERROR) };
    queue.handle_bytes(&peer.response(refused)).unwrap();
    assert_eq!(queue.poll_completion().unwrap().result, Ok(refused));
    assert!(!queue.has_room(), "the controller has not freed an entry");
    queue
        .handle_bytes(&peer.response(Cqe { sqhd: 7, ..Cqe::new(cids[0].0, Status::INTERNAL_ERROR) }))
        .unwrap();
    assert!(queue.has_room());
    for _ in 0..100 {
        let cid = submit(&mut queue, &mut peer, read_command(1));
        assert_ne!(cid, cids[3], "an identifier is not reused at once");
        let sqhd = (queue.stats().commands_submitted % 8) as u16;
        queue.handle_bytes(&peer.response(Cqe { sqhd, ..Cqe::new(cid.0, Status::INTERNAL_ERROR) })).unwrap();
    }
}

fn connecting() -> QueueConfig {
    let connect = ConnectConfig {
        host_id: [7; 16],
        host_nqn: nvme::Nqn::new("nqn.host").unwrap(),
        subsystem_nqn: nvme::Nqn::new("nqn.subsystem").unwrap(),
        cntlid: 5,
        kato_ms: 9,
        disable_sq_flow_control: true,
    };
    QueueConfig { connect: Some(connect), ..config() }
}

#[test]
fn connect_is_sent_by_itself_and_decides_on_flow_control() {
    for (sqhd, flow_control) in [(0xffff, false), (1, true)] {
        let (mut queue, mut peer) = open(connecting());
        assert_eq!(queue.phase(), &Phase::Connecting);
        peer.pump(&mut queue, 1000);
        let (Pdu::CapsuleCmd(CapsuleCmd { sqe }), data) = peer.received.pop().unwrap() else { panic!() };
        let connect = nvme::fabrics::Connect::parse(&sqe);
        assert_eq!((connect.qid, connect.queue_entries, connect.kato_ms), (1, 8, 0));
        let data = nvme::fabrics::ConnectData::parse(&data.try_into().unwrap()).unwrap();
        assert_eq!((data.cntlid, data.host_nqn.as_str()), (5, "nqn.host"));
        let cqe = Cqe { result: 5, sqhd, ..Cqe::new(sqe.cid, Status::SUCCESS) };
        queue.handle_bytes(&peer.response(cqe)).unwrap();
        assert_eq!(queue.phase(), &Phase::Live(ConnectResponse::parse(5)));
        assert!(queue.poll_completion().is_none(), "the queue's own Connect is not the caller's");
        let cid = submit(&mut queue, &mut peer, read_command(4));
        let result = queue.handle_bytes(&peer.data(c2h(cid, 0, 4, true, true), &[3; 4]));
        if flow_control {
            assert_eq!(result, Err(Violation::SuccessFlag(cid.0).into()));
        } else {
            assert!(queue.poll_completion().unwrap().is_success());
            let late = queue.handle_bytes(&peer.done(cid, 0));
            assert_eq!(late, Err(Violation::UnknownCid(cid.0).into()), "SUCCESS and a response");
        }
    }
}

#[test]
fn a_refused_connect_is_told() {
    let (mut queue, mut peer) = open(connecting());
    peer.pump(&mut queue, 1000);
    let (Pdu::CapsuleCmd(CapsuleCmd { sqe }), _) = peer.received.pop().unwrap() else { panic!() };
    let cqe = nvme::fabrics::InvalidParameter::Data(256).completion(sqe.cid);
    queue.handle_bytes(&peer.response(cqe)).unwrap();
    assert_eq!(queue.phase(), &Phase::Refused(cqe));
}

/// What a controller may do wrong to one outstanding command, and the fault that follows.
fn violation(command: (Sqe, Payload<Vec<u8>>), answer: impl Fn(&Peer, Cid) -> Vec<u8>) -> Violation {
    let (mut queue, mut peer) = open(config());
    let cid = submit(&mut queue, &mut peer, command);
    peer.received.clear();
    let bytes = answer(&peer, cid);
    let fault = queue.handle_bytes(&bytes).unwrap_err();
    assert_eq!(queue.handle_bytes(&bytes), Err(fault.clone()), "a fault lasts");
    peer.pump(&mut queue, 1000);
    let Some((Pdu::H2cTermReq(request), _)) = peer.received.last() else { panic!("no H2CTermReq") };
    assert_eq!(*request, TermReq::from(fault.pdu_error().unwrap()));
    let completion = queue.poll_completion().unwrap();
    assert_eq!((completion.cid, completion.result), (cid, Err(Lost)));
    assert_ne!(completion.payload, Payload::None, "the payload comes back");
    queue.handle_closed();
    assert!(queue.poll_completion().is_none(), "once");
    let Fault::Violation(violation) = fault else { panic!("{fault:?}") };
    violation
}

#[test]
fn wrong_data_is_refused() {
    let read = || read_command(100);
    let data = |pdu: C2hData| {
        move |peer: &Peer, cid: Cid| {
            peer.data(C2hData { cid: cid.0, ..pdu }, &vec![0; pdu.len_bytes as usize])
        }
    };
    let cid = Cid(0);
    assert!(matches!(
        violation(read(), data(c2h(cid, 4, 10, false, false))),
        Violation::Offset { offset: 4, expected: 0, .. }
    ));
    assert!(matches!(
        violation(read(), data(c2h(cid, 0, 101, true, false))),
        Violation::Range { len: 100, .. }
    ));
    assert!(matches!(violation(read(), data(c2h(cid, 0, 100, true, true))), Violation::SuccessFlag(_)));
    assert!(matches!(
        violation(write_command(9), data(c2h(cid, 0, 1, true, false))),
        Violation::Direction(_)
    ));
    let twice = |peer: &Peer, cid| {
        let mut bytes = peer.data(c2h(cid, 0, 50, true, false), &[0; 50]);
        bytes.extend(peer.data(c2h(cid, 50, 50, true, false), &[0; 50]));
        bytes
    };
    assert!(matches!(violation(read(), twice), Violation::Last(_)));
    let unknown = |peer: &Peer, cid: Cid| peer.data(c2h(Cid(cid.0 ^ 0x100), 0, 4, true, false), &[0; 4]);
    assert!(matches!(violation(read(), unknown), Violation::UnknownCid(_)));
}

#[test]
fn success_without_all_the_data_is_refused() {
    let short = |peer: &Peer, cid| {
        let mut bytes = peer.data(c2h(cid, 0, 60, true, false), &[0; 60]);
        bytes.extend(peer.done(cid, 1));
        bytes
    };
    assert!(matches!(violation(read_command(100), short), Violation::Short { moved: 60, len: 100, .. }));
    let unmarked = |peer: &Peer, cid| {
        let mut bytes = peer.data(c2h(cid, 0, 100, false, false), &[0; 100]);
        bytes.extend(peer.done(cid, 1));
        bytes
    };
    assert!(matches!(violation(read_command(100), unmarked), Violation::Last(_)));
    let unread = |peer: &Peer, cid| peer.done(cid, 1);
    assert!(matches!(violation(write_command(5000), unread), Violation::Short { moved: 0, len: 5000, .. }));
}

#[test]
fn wrong_r2ts_are_refused() {
    let r2t = |offset_bytes, len_bytes| {
        move |peer: &Peer, cid: Cid| peer.r2t(R2t { cid: cid.0, ttag: 9, offset_bytes, len_bytes })
    };
    let write = || write_command(5000);
    assert!(matches!(violation(write(), r2t(4, 8)), Violation::Offset { .. }));
    assert!(matches!(violation(write(), r2t(0, 5001)), Violation::Range { .. }));
    assert!(matches!(violation(write(), r2t(0, u32::MAX)), Violation::Range { .. }));
    assert!(matches!(violation(read_command(100), r2t(0, 8)), Violation::Direction(_)));
    assert!(matches!(violation(write_command(100), r2t(0, 100)), Violation::Direction(_)), "in capsule");
    let two = |peer: &Peer, cid| {
        let mut bytes = r2t(0, 8)(peer, cid);
        bytes.extend(r2t(8, 8)(peer, cid));
        bytes
    };
    assert!(matches!(violation(write(), two), Violation::R2tLimit(_)));
}

#[test]
fn wrong_responses_are_refused() {
    let beyond =
        |peer: &Peer, cid: Cid| peer.response(Cqe { sqhd: 2, ..Cqe::new(cid.0, Status::INTERNAL_ERROR) });
    assert_eq!(violation(read_command(4), beyond), Violation::SqHead(2));
    let outside =
        |peer: &Peer, cid: Cid| peer.response(Cqe { sqhd: 8, ..Cqe::new(cid.0, Status::INTERNAL_ERROR) });
    assert_eq!(violation(read_command(4), outside), Violation::SqHead(8));
    let again = |peer: &Peer, _| peer.response(Cqe::new(0x7777, Status::SUCCESS));
    assert_eq!(violation(read_command(4), again), Violation::UnknownCid(0x7777));
    let icresp = |_: &Peer, _| {
        IcResp { alignment_bytes: 4, header_digest: false, data_digest: false, h2c_data_max_bytes: 4096 }
            .encode()
            .to_vec()
    };
    assert_eq!(violation(read_command(4), icresp), Violation::Sequence, "second ICResp");
}

#[test]
fn a_response_before_the_command_was_sent_is_refused() {
    let (mut queue, peer) = open(config());
    let (sqe, payload) = read_command(4);
    let cid = queue.submit(sqe, payload).unwrap();
    let early = peer.response(Cqe::new(cid.0, Status::INTERNAL_ERROR));
    assert_eq!(queue.handle_bytes(&early), Err(Violation::UnknownCid(cid.0).into()));
}

#[test]
fn initialisation_must_come_first_and_as_asked() {
    let peer = Peer::new();
    let mut queue: Queue<Vec<u8>> = Queue::new(config());
    let early = peer.response(Cqe::new(0, Status::SUCCESS));
    assert_eq!(queue.handle_bytes(&early), Err(Violation::Sequence.into()));
    let mut queue: Queue<Vec<u8>> = Queue::new(config());
    let other =
        IcResp { alignment_bytes: 4, header_digest: true, data_digest: false, h2c_data_max_bytes: 4096 };
    assert_eq!(queue.handle_bytes(&other.encode()), Err(Violation::Digests.into()));
    let mut queue: Queue<Vec<u8>> = Queue::new(config());
    let mut version = other.encode();
    version[8] = 1;
    let fault = Fault::Malformed(PduError::UnsupportedParameter { offset: 8 });
    assert_eq!(queue.handle_bytes(&version), Err(fault));
}

#[test]
fn a_termination_request_ends_the_queue_without_an_answer() {
    let (mut queue, mut peer) = open(config());
    submit(&mut queue, &mut peer, read_command(4));
    let mut out = [0; TermReq::LEN_MAX];
    let request = TermReq { fes: Fes::HEADER_DIGEST, fei: 0x1234_5678 };
    let len = request.encode(PduType::C2hTermReq, &[9; 72], &mut out);
    let fault = Fault::Terminated { request, quoted: vec![9; 72] };
    assert_eq!(queue.handle_bytes(&out[..len]), Err(fault.clone()));
    assert!(queue.poll_transmit().is_none());
    assert_eq!(queue.poll_completion().unwrap().result, Err(Lost));
    queue.handle_closed();
    assert_eq!(queue.phase(), &Phase::Closed(fault), "the first fault stays");
}

#[test]
fn a_pdu_begun_is_finished_before_the_termination_request() {
    let (mut queue, mut peer) = open(config());
    let cid = submit(&mut queue, &mut peer, write_command(6000));
    queue.handle_bytes(&peer.r2t(R2t { cid: cid.0, ttag: 1, offset_bytes: 0, len_bytes: 6000 })).unwrap();
    let part = queue.poll_transmit().unwrap()[..10].to_vec();
    queue.transmitted(10);
    peer.received.clear();
    peer.read(&part);
    let bad = peer.response(Cqe::new(0x5555, Status::SUCCESS));
    queue.handle_bytes(&bad).unwrap_err();
    assert!(queue.poll_completion().is_none(), "the payload is still being sent");
    peer.pump(&mut queue, 100);
    let kinds: Vec<_> = peer.received.iter().map(|(pdu, data)| (pdu.pdu_type(), data.len())).collect();
    assert_eq!(kinds, [(PduType::H2cData, 4096), (PduType::H2cTermReq, 24)]);
    assert_eq!(queue.poll_completion().unwrap().payload, write_command(6000).1);
}

#[test]
fn a_command_that_fails_early_keeps_its_payload_until_the_last_pdu_has_left() {
    let (mut queue, mut peer) = open(config());
    let cid = submit(&mut queue, &mut peer, write_command(9000));
    queue.handle_bytes(&peer.r2t(R2t { cid: cid.0, ttag: 1, offset_bytes: 0, len_bytes: 9000 })).unwrap();
    let taken = queue.poll_transmit().unwrap().len();
    queue.transmitted(taken);
    let failed = Cqe { sqhd: 1, ..Cqe::new(cid.0, Status::WRITE_FAULT) };
    queue.handle_bytes(&peer.response(failed)).unwrap();
    assert!(queue.poll_completion().is_none());
    let mut drained = Queue::poll_transmit(&mut queue).map(<[u8]>::len);
    while let Some(count) = drained {
        queue.transmitted(count);
        drained = queue.poll_transmit().map(<[u8]>::len);
    }
    assert_eq!(queue.poll_completion().unwrap().result, Ok(failed));
    assert!(queue.is_drained() && queue.has_room());
}

#[test]
fn what_an_r2t_asked_for_is_sent_although_the_command_has_failed() {
    let (mut queue, mut peer) = open(config());
    let cid = submit(&mut queue, &mut peer, write_command(9000));
    peer.received.clear();
    queue.handle_bytes(&peer.r2t(R2t { cid: cid.0, ttag: 1, offset_bytes: 0, len_bytes: 9000 })).unwrap();
    let failed = Cqe { sqhd: 1, ..Cqe::new(cid.0, Status::ABORT_REQUESTED) };
    queue.handle_bytes(&peer.response(failed)).unwrap();
    assert!(queue.poll_completion().is_none(), "its payload is still to be sent");
    peer.pump(&mut queue, 1000);
    let sent: Vec<u8> = peer.received.drain(..).flat_map(|(_, data)| data).collect();
    let completion = queue.poll_completion().unwrap();
    assert_eq!(completion.result, Ok(failed));
    assert_eq!(completion.payload, Payload::Write(sent));
    assert!(queue.is_drained() && queue.outstanding() == 0);
}

#[test]
fn gather_offers_the_same_bytes_as_slices_of_several_pdus() {
    let (mut queue, mut peer) = open(digests());
    for _ in 0..3 {
        let (sqe, payload) = write_command(1000);
        queue.submit(sqe, payload).unwrap();
    }
    let mut slices = Vec::new();
    let len = queue.gather(&mut slices);
    assert_eq!(slices.len(), 9, "three capsules of header, data and digest");
    let bytes = slices.concat();
    assert_eq!(bytes.len(), len);
    for chunk in bytes.chunks(777) {
        peer.read(chunk);
        queue.transmitted(chunk.len());
    }
    assert_eq!((peer.received.len(), queue.stats().sent_pdus), (3, 4));
    assert!(peer.received.iter().all(|(_, data)| data.len() == 1000));
}

#[test]
fn a_closed_connection_returns_every_payload_once() {
    let (mut queue, mut peer) = open(config());
    let cids: Vec<_> = (0..3).map(|_| submit(&mut queue, &mut peer, write_command(9))).collect();
    queue.handle_bytes(&peer.done(cids[1], 3)[..5]).unwrap();
    queue.handle_closed();
    assert_eq!(queue.phase(), &Phase::Closed(Fault::Cut));
    let lost: Vec<_> = std::iter::from_fn(|| queue.poll_completion()).map(|c| (c.cid, c.result)).collect();
    assert_eq!(lost, cids.iter().map(|cid| (*cid, Err(Lost))).collect::<Vec<_>>());
    let (sqe, payload) = read_command(4);
    assert_eq!(queue.submit(sqe, payload).unwrap_err().refusal, Refusal::NotOpen);
}

proptest::proptest! {
    #[test]
    fn no_bytes_of_a_controller_make_the_queue_panic(
        tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        kind in 0_u8..10, hlen in proptest::sample::select(vec![24_u8, 72, 128]), plen in 0_u32..300,
        cid: u8, step in 1_usize..50,
    ) {
        for config in [config(), digests()] {
            let (mut queue, mut peer) = open(config);
            let cids = [
                submit(&mut queue, &mut peer, read_command(100)),
                submit(&mut queue, &mut peer, write_command(5000)),
            ];
            let mut bytes = vec![kind, 0, hlen, 24];
            bytes.extend(plen.to_le_bytes());
            bytes.extend(cids[usize::from(cid) % 2].0.to_le_bytes());
            bytes.extend(&tail);
            for chunk in bytes.chunks(step) {
                let _ = queue.handle_bytes(chunk);
                while let Some(bytes) = queue.poll_transmit() {
                    let count = bytes.len();
                    queue.transmitted(count);
                }
            }
            queue.handle_closed();
            let completed = std::iter::from_fn(|| queue.poll_completion()).count();
            proptest::prop_assert_eq!((completed, queue.outstanding()), (2, 0));
        }
    }
}
