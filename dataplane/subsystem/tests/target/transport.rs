//! The transport: initialisation, digests, data in both directions, and every fault that ends a connection.

use std::time::Duration;

use nvme::command::{IoFlags, LbaRange, NvmCommand, NvmOpcode};
use nvme::fabrics::ConnectAttributes;
use nvme::pdu::{Fes, H2cData, IcReq, PduType, TermReq};
use nvme::{Sgl, Sqe, Status};
use subsystem::ListenerKind;

use crate::host::{Got, Host, Identity, PEER, icreq};
use crate::world::World;

fn write_sqe(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Write(LbaRange::new(slba, blocks)).encode(nsid)
}

fn read_sqe(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Read(LbaRange::new(slba, blocks)).encode(nsid)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

/// Sends a Write that needs an R2T; returns the connection, the CID and the R2T.
fn awaiting_data(world: &mut World, len: u32) -> (Host, u16, nvme::pdu::R2t) {
    let (_, mut io) = Host::pair(world);
    let cid = io.submit(world, write_sqe(1, 0, len / 512), len);
    let got = io.take(world);
    let [Got::R2t(r2t)] = got[..] else { panic!("{got:?}") };
    (io, cid, r2t)
}

fn fault(world: &mut World, io: &mut Host, bytes: &[u8]) -> TermReq {
    world.send(io.line, bytes);
    let (term, _) = io.terminated(world);
    assert!(!world.is_closed(io.line), "the host has time to close");
    world.advance(Duration::from_secs(3));
    assert!(world.is_closed(io.line), "but not for ever");
    term
}

#[test]
fn icresp_takes_digests_exactly_as_asked_and_asks_for_no_alignment() {
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::new();
        let mut host = Host::open(&mut world, ListenerKind::Io, PEER);
        world.send(host.line, &icreq(header_digest, data_digest).encode());
        let bytes = world.socket(host.line).to_host.clone();
        assert_eq!(bytes[10], 0, "CPDA");
        let got = host.take(&mut world);
        let [Got::IcResp(response)] = got[..] else { panic!("{got:?}") };
        assert_eq!((response.header_digest, response.data_digest), (header_digest, data_digest));
        let max = response.h2c_data_max_bytes;
        assert!(max.is_multiple_of(4) && (128 << 10..=1 << 20).contains(&max), "{max}");
    }
}

#[test]
fn every_digest_combination_carries_data_both_ways() {
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::with_namespaces();
        let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
        let mut io = Host::io_as(&mut world, &Identity::io(cntlid, 1), header_digest, data_digest);
        let (small, large) = (pattern(4096, 1), pattern(256 << 10, 2));
        assert_eq!(io.command_with(&mut world, write_sqe(1, 0, 8), &small).status, Status::SUCCESS);
        assert_eq!(io.write(&mut world, write_sqe(1, 8, 512), &large).status, Status::SUCCESS);
        assert_eq!(io.read(&mut world, read_sqe(1, 0, 8), 4096).1, small);
        assert_eq!(io.read(&mut world, read_sqe(1, 8, 512), 256 << 10).1, large);
        // Zeros that nobody stores have a digest too.
        assert_eq!(io.read(&mut world, read_sqe(2, 0, 16), 65536).1, vec![0; 65536]);
    }
}

#[test]
fn a_second_icreq_is_a_sequence_error() {
    let mut world = World::new();
    let mut host = Host::initialized(&mut world, false, false);
    let term = fault(&mut world, &mut host, &icreq(false, false).encode());
    assert_eq!(term.fes, Fes::PDU_SEQUENCE);
}

#[test]
fn a_capsule_before_icreq_is_a_sequence_error() {
    let mut world = World::new();
    let mut host = Host::open(&mut world, ListenerKind::Io, PEER);
    let bytes = host.in_capsule(Identity::admin().sqe(), &Identity::admin().data());
    assert_eq!(fault(&mut world, &mut host, &bytes).fes, Fes::PDU_SEQUENCE);
}

#[test]
fn an_unknown_pdu_format_version_is_an_unsupported_parameter() {
    let mut world = World::new();
    let mut host = Host::open(&mut world, ListenerKind::Io, PEER);
    let mut bytes = icreq(false, false).encode();
    bytes[8] = 1;
    let term = fault(&mut world, &mut host, &bytes);
    assert_eq!((term.fes, term.fei), (Fes::UNSUPPORTED_PARAMETER, 8));
}

#[test]
fn malformed_headers_name_the_field_that_is_wrong() {
    // Byte to change, its value, the expected FEI.
    for (at, value, fei) in [(0usize, 0x0a, 0), (0, 0x05, 0), (2, 71, 2), (4, 71, 4), (7, 1, 3), (1, 1, 1)] {
        let mut world = World::with_namespaces();
        let (_, mut io) = Host::pair(&mut world);
        let mut bytes = io.capsule(read_sqe(1, 0, 1).with_sgl(Sgl::Transport { len_bytes: 512 }), &[]);
        bytes[at] = value;
        let term = fault(&mut world, &mut io, &bytes);
        assert_eq!((term.fes, term.fei), (Fes::INVALID_HEADER_FIELD, fei), "byte {at} = {value:#x}");
    }
}

#[test]
fn a_termination_request_quotes_the_offending_header() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let mut bytes = io.capsule(Sqe::new(0, 1), &[]);
    bytes[2] = 9;
    world.send(io.line, &bytes);
    let (_, quoted) = io.terminated(&mut world);
    assert!(!quoted.is_empty() && bytes.starts_with(&quoted), "{quoted:?}");
}

#[test]
fn a_wrong_header_digest_ends_the_connection_with_the_digest_received() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity::io(cntlid, 1), true, false);
    let mut bytes = io.capsule(Sqe::new(0, 1), &[]);
    bytes[40] ^= 1;
    let received = u32::from_le_bytes(bytes[72..76].try_into().unwrap());
    let term = fault(&mut world, &mut io, &bytes);
    assert_eq!((term.fes, term.fei), (Fes::HEADER_DIGEST, received));
}

#[test]
fn a_wrong_data_digest_fails_the_command_and_not_the_connection() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity::io(cntlid, 1), false, true);
    let mut sqe = write_sqe(1, 0, 8);
    sqe.cid = 9;
    let mut bytes = io.in_capsule(sqe, &pattern(4096, 3));
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, 9).0.status, Status::TRANSIENT_TRANSPORT_ERROR);

    let cid = io.submit(&mut world, write_sqe(1, 0, 64), 32768);
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!() };
    let pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 32768, last: true };
    let mut bytes = io.h2c_data(pdu, &pattern(32768, 4));
    bytes[5000] ^= 1;
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, cid).0.status, Status::TRANSIENT_TRANSPORT_ERROR);
    assert!(world.operations.is_empty(), "nothing damaged is stored: {:?}", world.operations);
    assert_eq!(io.command_with(&mut world, write_sqe(1, 0, 8), &pattern(4096, 3)).status, Status::SUCCESS);
    assert_eq!(
        world.ports[0].transport().data_digest_errors + world.ports[1].transport().data_digest_errors,
        2
    );
}

#[test]
fn transfer_tag_zero_is_a_tag_like_any_other() {
    let mut world = World::with_namespaces();
    let (mut io, cid, r2t) = awaiting_data(&mut world, 32768);
    assert_eq!(r2t.ttag, 0);
    let pdu = H2cData { cid, ttag: 0, offset_bytes: 0, len_bytes: 32768, last: true };
    let bytes = io.h2c_data(pdu, &pattern(32768, 5));
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(world.disks[&1][..32768], pattern(32768, 5));
}

#[test]
fn h2c_data_that_answers_no_r2t_names_the_tag() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for ttag in [0, 1, 0xffff] {
        let pdu = H2cData { cid: 1, ttag, offset_bytes: 0, len_bytes: 512, last: true };
        let bytes = io.h2c_data(pdu, &[0; 512]);
        let term = fault(&mut world, &mut io, &bytes);
        assert_eq!((term.fes, term.fei), (Fes::INVALID_HEADER_FIELD, 10));
        (_, io) = Host::pair(&mut world);
    }
}

#[test]
fn h2c_data_is_checked_against_its_r2t() {
    // What is changed in the PDU, and the fault.
    type Change = fn(&mut H2cData);
    let cases: [(Change, Fes, u32); 6] = [
        (|pdu| pdu.cid ^= 1, Fes::INVALID_HEADER_FIELD, 8),
        (|pdu| pdu.offset_bytes = 512, Fes::DATA_OUT_OF_RANGE, 0),
        (|pdu| pdu.len_bytes = 33280, Fes::LIMIT_EXCEEDED, 0),
        (|pdu| pdu.last = false, Fes::INVALID_HEADER_FIELD, 1),
        (|pdu| pdu.len_bytes = 16384, Fes::INVALID_HEADER_FIELD, 1),
        (|pdu| pdu.len_bytes = (1 << 20) + 4, Fes::LIMIT_EXCEEDED, 0),
    ];
    for (change, fes, fei) in cases {
        let mut world = World::with_namespaces();
        let (mut io, cid, r2t) = awaiting_data(&mut world, 32768);
        let mut pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 32768, last: true };
        change(&mut pdu);
        let bytes = io.h2c_data(pdu, &vec![0; pdu.len_bytes as usize]);
        let term = fault(&mut world, &mut io, &bytes);
        assert_eq!((term.fes, term.fei), (fes, fei), "{pdu:?}");
        assert!(world.operations.is_empty());
    }
}

#[test]
fn data_of_one_r2t_may_come_in_several_pdus_in_order() {
    let mut world = World::with_namespaces();
    let (mut io, cid, r2t) = awaiting_data(&mut world, 65536);
    let data = pattern(65536, 6);
    for (index, part) in data.chunks(16384).enumerate() {
        assert!(io.take(&mut world).is_empty());
        let pdu = H2cData {
            cid,
            ttag: r2t.ttag,
            offset_bytes: index as u32 * 16384,
            len_bytes: 16384,
            last: index == 3,
        };
        let bytes = io.h2c_data(pdu, part);
        world.send(io.line, &bytes);
    }
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(world.disks[&1][..65536], data);
}

#[test]
fn one_r2t_asks_for_a_whole_commands_data_and_no_second_is_outstanding() {
    let mut world = World::with_namespaces();
    let (mut io, cid, r2t) = awaiting_data(&mut world, 1 << 20);
    assert_eq!((r2t.cid, r2t.offset_bytes, r2t.len_bytes), (cid, 0, 1 << 20));
    world.advance(Duration::from_secs(1));
    assert!(io.take(&mut world).is_empty());
}

#[test]
fn large_data_is_received_straight_into_the_commands_buffer() {
    let mut world = World::with_namespaces();
    let (mut io, cid, r2t) = awaiting_data(&mut world, 1 << 20);
    let data = pattern(1 << 20, 7);
    let pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 1 << 20, last: true };
    let bytes = io.h2c_data(pdu, &data);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(world.disks[&1][..1 << 20], data);
    assert!(world.socket(io.line).received_into > 0);
    let copied = world.ports[0].transport().payload_copied_bytes;
    assert!(copied <= 64 << 10, "only what came with the header is copied: {copied}");
}

#[test]
fn data_of_an_r2t_that_comes_all_at_once_is_not_copied() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let data = pattern(32 << 10, 9);
    assert_eq!(io.write(&mut world, write_sqe(1, 0, 64), &data).status, Status::SUCCESS);
    assert_eq!(world.disks[&1][..32 << 10], data);
    assert_eq!(world.ports[0].transport().payload_copied_bytes, 0);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn in_capsule_data_that_comes_whole_is_not_copied() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for seed in 0..10 {
        let data = pattern(16 << 10, seed);
        assert_eq!(io.command_with(&mut world, write_sqe(1, 0, 32), &data).status, Status::SUCCESS);
    }
    assert_eq!(world.ports[0].transport().payload_copied_bytes, 0);
    assert_eq!(world.ports[0].transport().payload_received_bytes, 10 * (16 << 10));
}

#[test]
fn c2h_data_is_one_pdu_with_the_payload_right_behind_its_24_byte_header() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    // Across a stripe boundary the store answers with two buffers.
    let data = pattern(1 << 20, 8);
    world.disks.get_mut(&1).unwrap()[512 << 10..(512 << 10) + (1 << 20)].copy_from_slice(&data);
    io.submit(&mut world, read_sqe(1, 1024, 2048), 1 << 20);
    let bytes = world.socket(io.line).to_host.clone();
    assert_eq!((bytes[0], bytes[1], bytes[2], bytes[3]), (PduType::C2hData.code(), 1 << 2, 24, 24));
    assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), 24 + (1 << 20));
    assert_eq!(bytes[24..24 + (1 << 20)], data);
    let got = io.take(&mut world);
    assert!(matches!(got[..], [Got::Data(..), Got::Response(_)]));
}

#[test]
fn the_success_flag_stands_for_the_response_only_where_flow_control_is_off() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let off = ConnectAttributes::DISABLE_SQ_FLOW_CONTROL;
    let mut io =
        Host::io_as(&mut world, &Identity { attributes: off, ..Identity::io(cntlid, 1) }, false, false);
    io.submit(&mut world, read_sqe(1, 0, 8), 4096);
    let got = io.take(&mut world);
    let [Got::Data(pdu, _)] = &got[..] else { panic!("no response beside the flag: {got:?}") };
    assert!(pdu.success && pdu.last);
    // A failed Read has a response and no data; other commands have responses.
    assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
    let out_of_range = io.read(&mut world, read_sqe(1, 8192, 1), 512).0;
    assert!(out_of_range.status.is(Status::LBA_OUT_OF_RANGE));

    let mut io = Host::io(&mut world, cntlid, 2);
    let (cqe, data) = io.read(&mut world, read_sqe(1, 0, 8), 4096);
    assert_eq!((cqe.status, data.len()), (Status::SUCCESS, 4096));
}

#[test]
fn sqhd_follows_the_commands_and_wraps_at_the_queues_entries() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::initialized(&mut world, false, false);
    // No Connect yet: what is refused is no part of the queue.
    for _ in 0..4 {
        let cqe = io.command(&mut world, Sqe::new(0, 1));
        assert_eq!(cqe.status, Status::COMMAND_SEQUENCE_ERROR.dnr());
    }
    let identity = Identity { entries: 65, ..Identity::io(cntlid, 1) };
    assert_eq!(io.connect(&mut world, &identity).sqhd, 1);
    // By both ways that commands take.
    for head in (0..65).cycle().skip(2).take(200) {
        let sqe = if head % 3 == 0 { Sqe::new(0, 1) } else { read_sqe(1, 0, 1) };
        assert_eq!(io.read(&mut world, sqe, 512).0.sqhd, head);
    }

    let mut io = Host::initialized(&mut world, false, false);
    let attributes = ConnectAttributes::DISABLE_SQ_FLOW_CONTROL;
    let cqe = io.connect(&mut world, &Identity { attributes, ..Identity::io(cntlid, 2) });
    assert_eq!(cqe.sqhd, 0xffff, "Connect says that flow control is off");
}

#[test]
fn the_hosts_alignment_is_kept_in_data_to_it() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::open(&mut world, ListenerKind::Io, PEER);
    let request = IcReq { alignment_bytes: 64, ..icreq(false, false) };
    world.send(io.line, &request.encode());
    io.take(&mut world);
    assert_eq!(io.connect(&mut world, &Identity::io(cntlid, 1)).status, Status::SUCCESS);
    io.submit(&mut world, read_sqe(1, 0, 1), 512);
    let bytes = world.socket(io.line).to_host.clone();
    assert_eq!(bytes[3], 64, "PDO");
    assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), 64 + 512);
}

#[test]
fn more_commands_than_the_queue_has_entries_end_the_connection() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity { entries: 4, ..Identity::io(cntlid, 1) }, false, false);
    for _ in 0..4 {
        io.submit(&mut world, Sqe::new(0, 1), 0);
    }
    assert!(io.take(&mut world).is_empty());
    let bytes = io.capsule(Sqe { cid: 77, ..Sqe::new(0, 1) }, &[]);
    assert_eq!(fault(&mut world, &mut io, &bytes).fes, Fes::PDU_SEQUENCE);
    world.release();
}

#[test]
fn a_cid_in_use_is_a_conflict_and_the_first_command_goes_on() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, mut io) = Host::pair(&mut world);
    let sqe = Sqe { cid: 5, ..Sqe::new(NvmOpcode::Flush.code(), 1) };
    let bytes = io.capsule(sqe, &[]);
    world.send(io.line, &bytes);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, 5).0.status, Status::COMMAND_ID_CONFLICT.dnr());
    world.release();
    assert_eq!(io.completion(&mut world, 5).0.status, Status::SUCCESS);
}

#[test]
fn a_hosts_termination_request_closes_at_once() {
    let mut world = World::with_namespaces();
    let (_, io) = Host::pair(&mut world);
    let mut bytes = [0; TermReq::LEN_MAX];
    let term = TermReq { fes: Fes::PDU_SEQUENCE, fei: 0 };
    let len = term.encode(PduType::H2cTermReq, &[1, 2, 3], &mut bytes);
    world.send(io.line, &bytes[..len]);
    assert!(world.is_closed(io.line));
}

#[test]
fn a_terminated_host_that_closes_is_not_waited_for() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.send(io.line, &icreq(false, false).encode());
    io.terminated(&mut world);
    // What still comes is thrown away.
    world.send(io.line, &[0xff; 5000]);
    world.hang_up(io.line);
    assert!(world.is_closed(io.line));
    assert_eq!(world.ports[0].transport().protocol_errors, 1);
}

#[test]
fn force_unit_access_reaches_the_store() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let range = LbaRange { flags: IoFlags::FUA, ..LbaRange::new(0, 8) };
    let sqe = NvmCommand::Write(range).encode(1);
    assert_eq!(io.command_with(&mut world, sqe, &pattern(4096, 1)).status, Status::SUCCESS);
    assert_eq!(world.operations, ["write 1 0+4096 fua"]);
}
