//! Discovery controllers, by the numbered demands of the strict userspace client that storage vendors ship: each of
//! them is a test.

use std::time::Duration;

use nvme::event::AsyncEvent;
use nvme::fabrics::{Csts, DISCOVERY_NQN, Property, PropertyGet, PropertySet, ShutdownStatus};
use nvme::features::{FeatureId, SetFeatures};
use nvme::identify::{Cns, ControllerType, Identify, IdentifyController};
use nvme::log::{AddressFamily, DiscoveryEntry, DiscoveryHeader, GetLogPage, LogPage, SubsystemType};
use nvme::{Sqe, Status};
use subsystem::{HostAcl, ListenerKind, SectorSize};

use crate::host::{Got, HOST, Host, Identity, PEER, icreq};
use crate::world::{DISCOVERY, SUBSYSTEM, World, address, nqn, shape};

const ASYNC_EVENT_REQUEST: u8 = 0x0c;
const KEEP_ALIVE: u8 = 0x18;

fn identity() -> Identity {
    Identity { subsystem: nqn(DISCOVERY_NQN), kato_ms: 30_000, ..Identity::admin() }
}

fn connect(world: &mut World) -> Host {
    Host::admin_from(world, ListenerKind::Discovery, PEER, &identity()).0
}

fn log(world: &mut World, host: &mut Host, offset: u64, len: u64, retain_event: bool) -> Vec<u8> {
    let command =
        GetLogPage { nsid: u32::MAX, retain_event, ..GetLogPage::new(LogPage::Discovery, offset, len) };
    let (cqe, data) = host.read(world, command.encode(), len as u32);
    assert_eq!(cqe.status, Status::SUCCESS);
    data
}

fn header(world: &mut World, host: &mut Host) -> DiscoveryHeader {
    DiscoveryHeader::parse(log(world, host, 0, 1024, false)[..].try_into().unwrap())
}

fn enable_events(world: &mut World, host: &mut Host) {
    let feature = FeatureId::AsyncEventConfiguration;
    let sqe = SetFeatures { feature, save: false, nsid: 0, value: 1 << 31 }.encode();
    assert_eq!(host.command(world, sqe).status, Status::SUCCESS);
}

#[test]
fn demand_1_icresp_has_format_version_0_and_alignment_0() {
    let mut world = World::new();
    let host = Host::open(&mut world, ListenerKind::Discovery, PEER);
    world.send(host.line, &icreq(false, false).encode());
    let bytes = &world.socket(host.line).to_host;
    assert_eq!(bytes.len(), 128);
    assert_eq!(bytes[8..11], [0, 0, 0], "PFV and CPDA");
}

#[test]
fn demand_2_connect_one_shot_and_persistent_with_keep_alive_of_cid_0() {
    let mut world = World::with_namespaces();
    let (mut one_shot, _) = Host::admin_from(
        &mut world,
        ListenerKind::Discovery,
        "198.51.100.9:40000",
        &Identity { kato_ms: 0, ..identity() },
    );
    header(&mut world, &mut one_shot);
    let mut host = connect(&mut world);
    for _ in 0..10 {
        world.advance(Duration::from_secs(15));
        let bytes = host.capsule(Sqe { cid: 0, ..Sqe::new(KEEP_ALIVE, 0) }, &[]);
        world.send(host.line, &bytes);
        assert_eq!(host.completion(&mut world, 0).0.status, Status::SUCCESS);
    }
    assert!(!world.is_closed(host.line));
    assert!(world.is_closed(one_shot.line), "a one-shot connection does not stay for ever");
    world.advance(Duration::from_secs(40));
    assert!(world.is_closed(host.line), "a silent host has gone");
}

#[test]
fn demand_3_properties_and_cc_460001() {
    let mut world = World::with_namespaces();
    let mut host = Host::open(&mut world, ListenerKind::Discovery, PEER);
    host.initialize(&mut world, false, false);
    assert_eq!(host.connect(&mut world, &identity()).status, Status::SUCCESS);
    assert_eq!(host.command(&mut world, PropertyGet::encode(Property::Cap)).status, Status::SUCCESS);
    let sqe = PropertySet::encode(Property::Cc, 0x0046_0001);
    assert_eq!(host.command(&mut world, sqe).status, Status::SUCCESS);
    let csts = host.command(&mut world, PropertyGet::encode(Property::Csts)).result as u32;
    assert!(Csts::parse(csts).ready);
    assert_eq!(host.command(&mut world, PropertyGet::encode(Property::Vs)).result, 0x0002_0000);
}

#[test]
fn demand_4_identify_says_the_discovery_nqn_that_was_asked_for() {
    for (listener, name) in [
        (ListenerKind::Discovery, DISCOVERY_NQN),
        (ListenerKind::Discovery, DISCOVERY),
        (ListenerKind::Io, DISCOVERY_NQN),
    ] {
        let mut world = World::with_namespaces();
        let identity = Identity { subsystem: nqn(name), ..identity() };
        let (mut host, _) = Host::admin_from(&mut world, listener, PEER, &identity);
        let (cqe, data) = host.read(&mut world, Identify::new(Cns::Controller, 0).encode(), 4096);
        assert_eq!(cqe.status, Status::SUCCESS);
        let id = IdentifyController::parse(data[..].try_into().unwrap());
        assert_eq!(id.subsystem_nqn().unwrap(), nqn(name));
        assert_eq!(id.controller_type, ControllerType::Discovery);
        assert!(id.kas_100ms > 0);
        let other = host.read(&mut world, Identify::new(Cns::ActiveNamespaces, 0).encode(), 4096).0;
        assert_eq!(other.status, Status::INVALID_FIELD.dnr());
    }
}

#[test]
fn demand_5_only_the_discovery_event_can_be_configured() {
    let mut world = World::with_namespaces();
    let mut host = connect(&mut world);
    enable_events(&mut world, &mut host);
    let feature = FeatureId::AsyncEventConfiguration;
    let sqe = SetFeatures { feature, save: false, nsid: 0, value: 1 << 8 }.encode();
    assert_eq!(host.command(&mut world, sqe).status, Status::INVALID_FIELD.dnr());
}

#[test]
fn demand_6_the_log_reads_the_same_whole_and_in_parts() {
    let mut world = World::with_namespaces();
    let mut host = connect(&mut world);
    let first = header(&mut world, &mut host);
    assert_eq!((first.count_records, first.record_format), (2, 0));
    let whole = log(&mut world, &mut host, 0, (1 + first.count_records) * 1024, false);
    let mut parts = log(&mut world, &mut host, 0, 2048, true);
    parts.extend(log(&mut world, &mut host, 2048, 1024, true));
    assert_eq!(whole, parts);
    // Reads of 4096 bytes go beyond the page's end.
    let padded = log(&mut world, &mut host, 0, 4096, false);
    assert_eq!((&padded[..3072], &padded[3072..]), (&whole[..], &[0; 1024][..]));
    assert_eq!(header(&mut world, &mut host), first, "nothing has changed");
}

#[test]
fn demand_7_entries_are_io_subsystems_with_numeric_ports_and_not_the_service_itself() {
    let mut world = World::with_namespaces();
    let mut host = connect(&mut world);
    let page = log(&mut world, &mut host, 1024, 2048, false);
    let entries: Vec<_> =
        page.chunks(1024).map(|entry| DiscoveryEntry::parse(entry.try_into().unwrap())).collect();
    let told: Vec<_> = entries.iter().map(|e| (e.address.as_str(), e.service_id.as_str())).collect();
    assert_eq!(told, [("192.0.2.1", "4420"), ("2001:db8::1", "4420")]);
    assert_eq!(entries[0].address_family, AddressFamily::Ipv4);
    assert_eq!(entries[1].address_family, AddressFamily::Ipv6);
    for entry in &entries {
        assert_eq!(entry.subsystem_type, SubsystemType::Nvm);
        assert_eq!(entry.subsystem_nqn().unwrap(), nqn(SUBSYSTEM));
        assert_eq!((entry.cntlid, entry.admin_queue_entries_max), (0xffff, 32));
    }
    assert_ne!(entries[0].port_id, entries[1].port_id);
}

#[test]
fn demand_8_one_data_pdu_of_header_24_and_a_response_after_it() {
    let mut world = World::with_namespaces();
    let mut host = connect(&mut world);
    let command = GetLogPage { nsid: u32::MAX, ..GetLogPage::new(LogPage::Discovery, 0, 4096) };
    host.submit(&mut world, command.encode(), 4096);
    let hlen = world.socket(host.line).to_host[2];
    assert_eq!(hlen, 24);
    let got = host.take(&mut world);
    let [Got::Data(pdu, data), Got::Response(_)] = &got[..] else { panic!("{got:?}") };
    assert!(pdu.last && !pdu.success && data.len() == 4096);
}

#[test]
fn demand_9_a_pending_event_request_is_completed_when_the_log_changes() {
    let mut world = World::with_namespaces();
    let mut host = connect(&mut world);
    enable_events(&mut world, &mut host);
    let before = header(&mut world, &mut host);
    let cid = host.submit(&mut world, Sqe::new(ASYNC_EVENT_REQUEST, 0), 0);
    assert!(host.take(&mut world).is_empty());
    world.desk.set_advertised(vec![address("192.0.2.5:4420")]);
    world.pump();
    let cqe = host.completion(&mut world, cid).0;
    assert_eq!(AsyncEvent::parse(cqe.dw0()), AsyncEvent::DISCOVERY_CHANGED);
    // RAE keeps the event from being told again, a plain read clears it.
    let cid = host.submit(&mut world, Sqe::new(ASYNC_EVENT_REQUEST, 0), 0);
    log(&mut world, &mut host, 0, 1024, true);
    world.desk.set_advertised(vec![address("192.0.2.6:4420")]);
    world.pump();
    assert!(host.take(&mut world).is_empty());
    let after = header(&mut world, &mut host);
    assert!(after.generation > before.generation);
    assert_eq!(after.count_records, 1);
    world.desk.set_advertised(vec![address("192.0.2.7:4420")]);
    world.pump();
    assert_eq!(host.completion(&mut world, cid).0.status, Status::SUCCESS);
    // On stop it shuts down.
    let sqe = PropertySet::encode(Property::Cc, 0x0046_4001);
    assert_eq!(host.command(&mut world, sqe).status, Status::SUCCESS);
    let csts = host.command(&mut world, PropertyGet::encode(Property::Csts)).result as u32;
    assert_eq!(Csts::parse(csts).shutdown, ShutdownStatus::Complete);
}

#[test]
fn the_log_depends_on_the_host_and_tells_it_when_it_may_come() {
    let mut world = World::new();
    let mut mine = shape(1, SectorSize::B4096, 16);
    mine.hosts = HostAcl::Hosts(vec![nqn("nqn.2014-08.org.example:other")]);
    world.add(mine.clone());
    let mut host = connect(&mut world);
    enable_events(&mut world, &mut host);
    assert_eq!(header(&mut world, &mut host).count_records, 0);
    let cid = host.submit(&mut world, Sqe::new(ASYNC_EVENT_REQUEST, 0), 0);
    mine.hosts = HostAcl::Hosts(vec![nqn(HOST)]);
    world.add(mine);
    assert_eq!(host.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(header(&mut world, &mut host).count_records, 2);
    // Another namespace changes nothing for a host that comes already.
    host.submit(&mut world, Sqe::new(ASYNC_EVENT_REQUEST, 0), 0);
    world.add(shape(2, SectorSize::B4096, 16));
    assert!(host.take(&mut world).is_empty());
}

#[test]
fn discovery_controllers_have_no_io_queues_and_no_other_log_pages() {
    let mut world = World::with_namespaces();
    let (mut host, cntlid) = Host::admin_from(&mut world, ListenerKind::Io, PEER, &identity());
    let mut io = Host::initialized(&mut world, false, false);
    let cqe = io.connect(&mut world, &Identity { subsystem: nqn(DISCOVERY_NQN), ..Identity::io(cntlid, 1) });
    assert!(cqe.status.is(Status::CONNECT_INVALID_PARAMETERS));
    let cqe = io.connect(&mut world, &Identity::io(cntlid, 1));
    assert!(cqe.status.is(Status::CONNECT_INVALID_PARAMETERS));
    for page in [LogPage::Health, LogPage::Ana, LogPage::ChangedNamespaces] {
        let cqe = host.read(&mut world, GetLogPage::new(page, 0, 512).encode(), 512).0;
        assert_eq!(cqe.status, Status::INVALID_LOG_PAGE.dnr());
    }
}

#[test]
fn a_one_shot_discovery_does_not_end_the_hosts_persistent_one() {
    let mut world = World::with_namespaces();
    let persistent = connect(&mut world);
    let mut one_shot = connect(&mut world);
    header(&mut world, &mut one_shot);
    assert!(!world.is_closed(persistent.line));
}
