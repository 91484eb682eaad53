//! Connect, properties, Disconnect, and what becomes of an association that the host has lost.

use std::time::Duration;

use nvme::fabrics::{
    Cap, Cc, Connect, ConnectData, Csts, FabricsType, InvalidParameter, Property, PropertyGet, PropertySet,
    Shutdown, ShutdownStatus, Version, disconnect,
};
use nvme::pdu::H2cData;
use nvme::{Sgl, Sqe, Status};
use subsystem::{IpAcl, ListenerKind, NamespaceShape, SectorSize};

use crate::host::{Got, HOST, Host, Identity, PEER};
use crate::world::{SUBSYSTEM, World, address, nqn, shape};

/// Where a host's connection comes from that has left it by another interface.
const ELSEWHERE: &str = "203.0.113.9:50000";

fn refused(world: &mut World, identity: &Identity) -> (Status, Option<InvalidParameter>) {
    let mut host = Host::initialized(world, false, false);
    let cqe = host.connect(world, identity);
    assert!(!cqe.status.is_success());
    let parameter = cqe.status.is(Status::CONNECT_INVALID_PARAMETERS);
    (cqe.status, parameter.then(|| InvalidParameter::parse(cqe.result)))
}

fn property(host: &mut Host, world: &mut World, property: Property) -> u64 {
    let cqe = host.command(world, PropertyGet::encode(property));
    assert_eq!(cqe.status, Status::SUCCESS);
    cqe.result
}

fn set_cc(cc: Cc) -> Sqe {
    PropertySet::encode(Property::Cc, cc.encode().into())
}

fn write(nsid: u32) -> Sqe {
    nvme::command::NvmCommand::Write(nvme::command::LbaRange::new(0, 8)).encode(nsid)
}

/// An I/O queue from `peer`, on the first reactor.
fn io_from(world: &mut World, peer: &str, cntlid: u16, qid: u16) -> Host {
    world.next_port = 0;
    let mut host = Host::open(world, ListenerKind::Io, peer);
    host.initialize(world, false, false);
    assert_eq!(host.connect(world, &Identity::io(cntlid, qid)).status, Status::SUCCESS);
    host
}

#[test]
fn a_linux_host_comes_up() {
    // The order in which the Linux driver speaks.
    let mut world = World::with_namespaces();
    let mut admin = Host::initialized(&mut world, false, false);
    let cqe = admin.connect(&mut world, &Identity { kato_ms: 5000, ..Identity::admin() });
    assert_eq!((cqe.status, cqe.result), (Status::SUCCESS, 1));
    let cap = Cap::parse(property(&mut admin, &mut world, Property::Cap));
    assert!(cap.contiguous_queues && cap.queue_entries_max >= 129 && cap.timeout_500ms > 0);
    assert_eq!(cap.command_sets & Cap::CSS_NVM, Cap::CSS_NVM);
    assert_eq!(cap.page_size_min, 0);
    let vs = property(&mut admin, &mut world, Property::Vs) as u32;
    assert_eq!(Version::parse(vs), Version::V2_0);
    if cap.ready_modes != 0 {
        // CRTO is read where CRMS says that it is there.
        let mut sqe = PropertyGet::encode(Property::Vs);
        sqe.cdw11 = 0x68;
        let cqe = admin.command(&mut world, sqe);
        assert_eq!(cqe.status, Status::SUCCESS);
        assert!(cqe.result > 0);
    }
    assert!(!Csts::parse(property(&mut admin, &mut world, Property::Csts) as u32).ready);
    admin.enable(&mut world);
    assert!(Csts::parse(property(&mut admin, &mut world, Property::Csts) as u32).ready);
    for qid in 1..=4 {
        let mut io = Host::io(&mut world, 1, qid);
        let cqe = io.command_with(&mut world, write(1), &[qid as u8; 4096]);
        assert_eq!(cqe.status, Status::SUCCESS);
    }
    assert_eq!(world.ports[0].queues() + world.ports[1].queues(), 4);
    assert_eq!(world.desk.hosts().next().unwrap().io_queues, 4);

    // nvme disconnect: shutdown, then the connections are closed.
    let cc = Cc { shutdown: Shutdown::Normal, ..Cc::ENABLE };
    assert_eq!(admin.command(&mut world, set_cc(cc)).status, Status::SUCCESS);
    let csts = Csts::parse(property(&mut admin, &mut world, Property::Csts) as u32);
    assert_eq!(csts.shutdown, ShutdownStatus::Complete);
    assert_eq!(world.flushes, 1, "what was answered is safe before the shutdown is complete");
    world.hang_up(admin.line);
    assert_eq!(world.desk.controllers(), 0);
    assert_eq!(world.ports[0].queues() + world.ports[1].queues(), 0);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn connect_names_the_parameter_that_is_wrong() {
    let mut world = World::with_namespaces();
    let admin = Identity::admin();
    let data = InvalidParameter::Data;
    let command = InvalidParameter::Command;
    let (_, cntlid) = Host::admin(&mut world, &admin);
    let io = Identity::io(cntlid, 1);
    let cases = [
        (Identity { subsystem: nqn("nqn.2014-08.org.example:other"), ..admin }, data(ConnectData::SUBNQN_AT)),
        (Identity { cntlid: 5, ..admin }, data(ConnectData::CNTLID_AT)),
        (Identity { cntlid: ConnectData::CNTLID_STATIC_ANY, ..admin }, data(ConnectData::CNTLID_AT)),
        (Identity { entries: 1, ..admin }, command(Connect::SQSIZE_AT)),
        (Identity { entries: 8192, ..admin }, command(Connect::SQSIZE_AT)),
        (Identity { entries: 257, ..io }, command(Connect::SQSIZE_AT)),
        (Identity { qid: 5000, ..io }, command(Connect::QID_AT)),
        (Identity { host: nqn("nqn.2014-08.org.example:b"), ..io }, data(ConnectData::HOSTNQN_AT)),
        (Identity { host_id: [8; 16], ..io }, data(ConnectData::HOSTID_AT)),
    ];
    for (identity, expected) in cases {
        let (status, parameter) = refused(&mut world, &identity);
        assert_eq!((status, parameter), (Status::CONNECT_INVALID_PARAMETERS.dnr(), Some(expected)));
    }
}

#[test]
fn an_io_queue_of_an_unknown_controller_may_be_retried() {
    // With DNR Linux would delete a controller that has just lost a race with its own reconnect.
    let mut world = World::with_namespaces();
    let (status, parameter) = refused(&mut world, &Identity::io(77, 1));
    assert_eq!(status, Status::CONNECT_INVALID_PARAMETERS);
    assert_eq!(parameter, Some(InvalidParameter::Data(ConnectData::CNTLID_AT)));
}

#[test]
fn malformed_names_and_formats_are_refused() {
    let mut world = World::with_namespaces();
    let mut host = Host::initialized(&mut world, false, false);
    let mut data = Identity::admin().data();
    data[512..768].fill(b'x');
    let cqe = host.command_with(&mut world, Identity::admin().sqe(), &data);
    assert_eq!(cqe.status, Status::CONNECT_INVALID_PARAMETERS.dnr());
    assert_eq!(cqe.result, InvalidParameter::Data(ConnectData::HOSTNQN_AT).result());

    let mut sqe = Identity::admin().sqe();
    sqe.cdw10 |= 1;
    let cqe = host.command_with(&mut world, sqe, &Identity::admin().data());
    assert_eq!(cqe.status, Status::CONNECT_INCOMPATIBLE_FORMAT.dnr());

    let cqe = host.command_with(&mut world, Identity::admin().sqe(), &Identity::admin().data()[..512]);
    assert_eq!(cqe.status, Status::DATA_SGL_LENGTH_INVALID.dnr());
    // The connection is still good for a correct one.
    assert_eq!(host.connect(&mut world, &Identity::admin()).status, Status::SUCCESS);
}

#[test]
fn nothing_but_connect_comes_first() {
    let mut world = World::with_namespaces();
    let mut host = Host::initialized(&mut world, false, false);
    for sqe in [PropertyGet::encode(Property::Cap), Sqe::new(0x18, 0), Sqe::new(0x06, 0)] {
        assert_eq!(host.command(&mut world, sqe).status, Status::COMMAND_SEQUENCE_ERROR.dnr());
    }
}

#[test]
fn connect_data_may_be_asked_for_by_r2t_too() {
    let mut world = World::with_namespaces();
    let mut host = Host::initialized(&mut world, false, false);
    let cqe = host.write(&mut world, Identity::admin().sqe(), &Identity::admin().data());
    assert_eq!(cqe.status, Status::SUCCESS);
}

#[test]
fn queues_and_commands_wait_for_the_controller_to_be_enabled() {
    let mut world = World::with_namespaces();
    let mut admin = Host::initialized(&mut world, false, false);
    let cntlid = admin.connect(&mut world, &Identity::admin()).result as u16;
    let identify = nvme::identify::Identify::new(nvme::identify::Cns::Controller, 0).encode();
    let status = admin.read(&mut world, identify, 4096).0.status;
    assert_eq!(status, Status::COMMAND_SEQUENCE_ERROR.dnr());
    assert_eq!(refused(&mut world, &Identity::io(cntlid, 1)).0, Status::COMMAND_SEQUENCE_ERROR);
    admin.enable(&mut world);
    Host::io(&mut world, cntlid, 1);
}

/// Sends Connect on a new connection and does not wait for the answer. Returns its CID too.
fn connecting(world: &mut World, identity: &Identity) -> (Host, u16) {
    let mut host = Host::initialized(world, false, false);
    let cid = host.cid();
    let bytes = host.in_capsule(Sqe { cid, ..identity.sqe() }, &identity.data());
    world.send(host.line, &bytes);
    (host, cid)
}

#[test]
fn a_qid_in_use_is_refused_when_its_queue_lives_on() {
    let mut world = World::with_namespaces();
    let (_admin, mut io) = Host::pair(&mut world);
    let (mut other, cid) = connecting(&mut world, &Identity::io(1, 1));
    world.advance(Duration::from_millis(990));
    assert!(other.take(&mut world).is_empty());
    world.advance(Duration::from_millis(20));
    assert_eq!(other.completion(&mut world, cid).0.status, Status::COMMAND_SEQUENCE_ERROR);
    assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
    // It may try again, and another queue of the same connection's is none of its business.
    let status = other.connect(&mut world, &Identity::io(1, 2)).status;
    assert_eq!(status, Status::SUCCESS);
}

#[test]
fn a_reset_ends_the_wait_for_a_qid() {
    let mut world = World::with_namespaces();
    let (mut admin, _io) = Host::pair(&mut world);
    let (mut other, cid) = connecting(&mut world, &Identity::io(1, 1));
    assert_eq!(admin.command(&mut world, set_cc(Cc::default())).status, Status::SUCCESS);
    assert_eq!(other.completion(&mut world, cid).0.status, Status::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn an_impossible_configuration_is_a_fatal_status_and_not_ready() {
    let mut world = World::with_namespaces();
    let mut admin = Host::initialized(&mut world, false, false);
    admin.connect(&mut world, &Identity::admin());
    for cc in [
        Cc { page_size: 1, ..Cc::ENABLE },
        Cc { io_sqe_size: 5, ..Cc::ENABLE },
        Cc { command_set: 3, ..Cc::ENABLE },
        Cc { arbitration: 1, ..Cc::ENABLE },
    ] {
        admin.command(&mut world, set_cc(cc));
        let csts = Csts::parse(property(&mut admin, &mut world, Property::Csts) as u32);
        assert_eq!((csts.ready, csts.fatal), (false, true), "{cc:?}");
        admin.command(&mut world, set_cc(Cc::default()));
    }
    admin.enable(&mut world);
}

#[test]
fn other_properties_and_sizes_are_invalid_fields() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let mut wrong_size = PropertyGet::encode(Property::Cap);
    wrong_size.cdw10 = 0;
    let mut unknown = PropertyGet::encode(Property::Vs);
    unknown.cdw11 = 0x1000;
    let mut read_only = set_cc(Cc::ENABLE);
    read_only.cdw11 = 0x08;
    for sqe in [wrong_size, unknown, read_only] {
        assert_eq!(admin.command(&mut world, sqe).status, Status::INVALID_FIELD.dnr());
    }
}

#[test]
fn disconnect_ends_an_io_queue_and_only_that() {
    let mut world = World::with_namespaces();
    let (mut admin, mut io) = Host::pair(&mut world);
    assert_eq!(admin.command(&mut world, disconnect()).status, Status::INVALID_QUEUE_TYPE.dnr());
    let bad = Sqe { cdw10: 1, ..disconnect() };
    assert_eq!(io.command(&mut world, bad).status, Status::CONNECT_INCOMPATIBLE_FORMAT.dnr());
    assert_eq!(io.command(&mut world, disconnect()).status, Status::SUCCESS);
    assert!(world.is_closed(io.line));
    // Its QID is free again.
    Host::io(&mut world, 1, 1);
}

#[test]
fn a_disconnect_that_did_not_come_well_ends_nothing() {
    let mut world = World::with_namespaces();
    let (_admin, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity::io(cntlid, 1), true, true);
    let used = io.submit(&mut world, write(1), 4096);
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!("one R2T") };
    let bytes = io.capsule(Sqe { cid: used, ..disconnect() }, &[]);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, used).0.status, Status::COMMAND_ID_CONFLICT.dnr());
    let mut bytes = io.in_capsule(Sqe { cid: 1, ..disconnect() }, &[7; 64]);
    *bytes.last_mut().unwrap() ^= 1;
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, 1).0.status, Status::TRANSIENT_TRANSPORT_ERROR);
    // The write goes on, and so does the queue.
    let pdu = H2cData { cid: used, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 4096, last: true };
    let bytes = io.h2c_data(pdu, &[9; 4096]);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, used).0.status, Status::SUCCESS);
    assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
    assert!(!world.is_closed(io.line));
}

#[test]
fn unknown_fabrics_commands_are_invalid_opcodes() {
    let mut world = World::with_namespaces();
    let (mut admin, mut io) = Host::pair(&mut world);
    let mut sqe = FabricsType::Disconnect.command();
    for fctype in [0x02, 0x05, 0x06, 0x99] {
        sqe.nsid = fctype;
        assert_eq!(admin.command(&mut world, sqe).status, Status::INVALID_OPCODE.dnr());
        assert_eq!(io.command(&mut world, sqe).status, Status::INVALID_OPCODE.dnr());
    }
    assert_eq!(io.connect(&mut world, &Identity::io(1, 1)).status, Status::COMMAND_SEQUENCE_ERROR.dnr());
    let get = io.command(&mut world, PropertyGet::encode(Property::Cap));
    assert_eq!(get.status, Status::INVALID_FIELD.dnr());
}

#[test]
fn a_reconnect_is_answered_only_when_nothing_of_the_lost_association_can_run() {
    let mut world = World::with_namespaces();
    let (_old_admin, old_io) = Host::pair(&mut world);
    world.hold = true;
    // One command runs, one has been sent and is still in the network.
    let sqe = Sqe { cid: 1, ..write(1) };
    let bytes = old_io.in_capsule(sqe, &[0xaa; 4096]);
    world.send(old_io.line, &bytes);
    assert_eq!(world.held.len(), 1);
    let stale = old_io.in_capsule(Sqe { cid: 2, ..write(2) }, &[0xbb; 4096]);
    world.send_later(old_io.line, &stale);

    let mut admin = Host::initialized(&mut world, false, false);
    let identity = Identity::admin();
    let connect = admin.in_capsule(Sqe { cid: 3, ..identity.sqe() }, &identity.data());
    world.send(admin.line, &connect);
    assert!(admin.take(&mut world).is_empty(), "a command of the lost association still runs");
    assert!(world.is_closed(old_io.line));
    world.release();
    let (cqe, _) = admin.completion(&mut world, 3);
    assert_eq!((cqe.status, cqe.result), (Status::SUCCESS, 2));
    assert_eq!(world.operations, ["write 1 0+4096"], "the stale command never ran");
    assert_eq!(world.desk.controllers(), 1);
}

#[test]
fn another_path_or_host_does_not_end_an_association() {
    let mut world = World::with_namespaces();
    let (mut first, _) = Host::admin(&mut world, &Identity::admin());
    Host::admin_from(&mut world, ListenerKind::Io, "198.51.100.8:50000", &Identity::admin());
    Host::admin(&mut world, &Identity::of("nqn.2014-08.org.example:b"));
    Host::admin(&mut world, &Identity { host_id: [9; 16], ..Identity::admin() });
    assert_eq!(world.desk.controllers(), 4);
    property(&mut first, &mut world, Property::Csts);
    // The source port is not part of the path.
    Host::admin_from(&mut world, ListenerKind::Io, "198.51.100.7:50001", &Identity::admin());
    assert_eq!(world.desk.controllers(), 4);
    assert!(world.is_closed(first.line));
}

#[test]
fn clearing_enable_is_answered_only_when_the_io_queues_are_drained() {
    let mut world = World::with_namespaces();
    let (mut admin, io) = Host::pair(&mut world);
    world.hold = true;
    let bytes = io.in_capsule(Sqe { cid: 1, ..write(1) }, &[0xaa; 4096]);
    world.send(io.line, &bytes);
    let cid = admin.submit(&mut world, set_cc(Cc::default()), 0);
    assert!(admin.take(&mut world).is_empty());
    assert!(world.is_closed(io.line));
    world.release();
    assert_eq!(admin.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert!(!Csts::parse(property(&mut admin, &mut world, Property::Csts) as u32).ready);
    admin.enable(&mut world);
    world.hold = false;
    let mut io = Host::io(&mut world, 1, 1);
    assert_eq!(io.command_with(&mut world, write(1), &[1; 4096]).status, Status::SUCCESS);
}

#[test]
fn a_lost_admin_connection_ends_the_association_with_its_io_queues() {
    let mut world = World::with_namespaces();
    let (admin, io) = Host::pair(&mut world);
    world.hang_up(admin.line);
    assert!(world.is_closed(io.line));
    assert_eq!(world.desk.controllers(), 0);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn a_lost_io_connection_frees_its_qid_when_its_commands_have_ended() {
    let mut world = World::with_namespaces();
    let (_admin, mut io) = Host::pair(&mut world);
    world.hold = true;
    io.submit(&mut world, Sqe::new(0, 1), 0);
    world.hang_up(io.line);
    // The host may connect again before that is known here.
    let (mut next, cid) = connecting(&mut world, &Identity::io(1, 1));
    let (mut last, last_cid) = connecting(&mut world, &Identity::io(1, 1));
    assert!(next.take(&mut world).is_empty());
    world.release();
    assert_eq!(next.completion(&mut world, cid).0.status, Status::SUCCESS);
    world.hold = false;
    assert_eq!(next.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
    // Of two that wait the first gets it.
    world.advance(Duration::from_secs(1));
    assert_eq!(last.completion(&mut world, last_cid).0.status, Status::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn an_io_queue_sees_what_its_own_address_may_see_whoever_came_first() {
    for peers in [[PEER, ELSEWHERE], [ELSEWHERE, PEER]] {
        let mut world = World::with_namespaces();
        let addresses = IpAcl::Addresses(vec![address(PEER).ip()]);
        let listed = NamespaceShape { addresses, ..shape(3, SectorSize::B512, 8192) };
        world.add(listed.clone());
        let (_admin, cntlid) = Host::admin(&mut world, &Identity::admin());
        // Both stay: the second finds the first there.
        let mut queues = Vec::new();
        for (qid, peer) in (1..).zip(peers) {
            queues.push((peer, io_from(&mut world, peer, cntlid, qid)));
        }
        for (peer, io) in &mut queues {
            for addresses in [listed.addresses.clone(), IpAcl::Any, listed.addresses.clone()] {
                let open = addresses == IpAcl::Any;
                world.add(NamespaceShape { addresses, ..listed.clone() });
                let seen = open || *peer == PEER;
                let expected = if seen { Status::SUCCESS } else { Status::INVALID_NAMESPACE.dnr() };
                assert_eq!(io.command(&mut world, Sqe::new(0, 3)).status, expected, "{peer}, {peers:?}");
                assert_eq!(io.command_with(&mut world, write(3), &[1; 4096]).status, expected, "{peer}");
            }
        }
    }
}

#[test]
fn a_reset_waits_for_the_queues_of_every_address() {
    let mut world = World::with_namespaces();
    let (mut admin, cntlid) = Host::admin(&mut world, &Identity::admin());
    world.hold = true;
    for (qid, peer) in [(1, PEER), (2, ELSEWHERE)] {
        io_from(&mut world, peer, cntlid, qid).submit(&mut world, Sqe::new(0, 1), 0);
    }
    let cid = admin.submit(&mut world, set_cc(Cc::default()), 0);
    world.serve_oldest();
    assert!(admin.take(&mut world).is_empty(), "a command of the other queue runs");
    world.serve_oldest();
    assert_eq!(admin.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(world.ports[0].queues(), 0);
}

#[test]
fn cntlids_are_spent_in_order_and_noted_ahead() {
    let mut world = World::with_namespaces();
    for expected in 1..=200 {
        let (admin, cntlid) = Host::admin(&mut world, &Identity::admin());
        assert_eq!(cntlid, expected);
        assert!(*world.persisted.last().unwrap() > cntlid);
        world.hang_up(admin.line);
    }
    let mark = *world.persisted.last().unwrap();
    let mut restarted = World::with_config(|config| config.cntlid_next = Some(mark));
    assert_eq!(Host::admin(&mut restarted, &Identity::admin()).1, mark);
}

#[test]
fn hosts_are_told_with_their_address() {
    let mut world = World::with_namespaces();
    let (_admin, _io) = Host::pair(&mut world);
    let hosts: Vec<_> = world.desk.hosts().collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].host_nqn, nqn(HOST));
    assert_eq!(hosts[0].address, address(PEER).ip());
}

#[test]
fn a_connection_without_connect_ends_after_its_deadline() {
    let mut world = World::new();
    let silent = Host::open(&mut world, ListenerKind::Io, PEER);
    let greeted = Host::initialized(&mut world, false, false);
    let (admin, _) = Host::admin(&mut world, &Identity::admin());
    world.advance(Duration::from_secs(9));
    assert!(!world.is_closed(silent.line));
    world.advance(Duration::from_secs(2));
    assert!(world.is_closed(silent.line) && world.is_closed(greeted.line));
    assert!(!world.is_closed(admin.line));
}

#[test]
fn sgl_faults_have_their_statuses() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let data = vec![1; 4096];
    let cases = [
        (Sgl::InCapsule { offset_bytes: 64, len_bytes: 4096 }, Status::SGL_OFFSET_INVALID),
        (Sgl::InCapsule { offset_bytes: 0, len_bytes: 8192 }, Status::DATA_SGL_LENGTH_INVALID),
        (Sgl::InCapsule { offset_bytes: 0, len_bytes: 512 }, Status::DATA_SGL_LENGTH_INVALID),
        (Sgl::Transport { len_bytes: 4096 }, Status::INVALID_FIELD),
        (Sgl::Address { address: 0x1000, len_bytes: 4096 }, Status::SGL_DESCRIPTOR_TYPE_INVALID),
    ];
    for (sgl, status) in cases {
        let sqe = Sqe { cid: 1, ..write(1) }.with_sgl(sgl);
        let bytes = io.capsule(sqe, &data);
        world.send(io.line, &bytes);
        assert_eq!(io.completion(&mut world, 1).0.status, status.dnr(), "{sgl:?}");
    }
    let prp = Sqe { cid: 1, psdt: nvme::Psdt::Prp, ..write(1) };
    let bytes = io.capsule(prp, &data);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, 1).0.status, Status::INVALID_FIELD.dnr());
    assert!(world.operations.is_empty());
}

#[test]
fn the_subsystem_is_not_found_on_the_discovery_port() {
    let mut world = World::new();
    let mut host = Host::open(&mut world, ListenerKind::Discovery, PEER);
    host.initialize(&mut world, false, false);
    let cqe = host.connect(&mut world, &Identity { subsystem: nqn(SUBSYSTEM), ..Identity::admin() });
    assert_eq!(cqe.status, Status::CONNECT_INVALID_PARAMETERS.dnr());
}
