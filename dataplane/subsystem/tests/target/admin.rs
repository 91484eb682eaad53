//! Admin commands: log pages, features, events, Abort, Keep Alive.

use std::time::Duration;

use nvme::command::{Abort, LbaRange, NvmCommand};
use nvme::event::AsyncEvent;
use nvme::features::{FeatureId, GetFeatures, NumberOfQueues, Select, SetFeatures, Timestamp};
use nvme::identify::AsyncEvents;
use nvme::log::{
    CommandEffects, CommandsEffectsLog, ErrorEntry, FeatureEffects, FeatureEffectsLog, FirmwareSlotLog,
    GetLogPage, HealthLog, LogPage, LogPageSupport, SupportedLogPages,
};
use nvme::{Sqe, Status};
use subsystem::{HealthTotals, HostAcl, SectorSize};

use crate::host::{Got, HOST, Host, Identity};
use crate::world::{World, nqn, shape};

const ASYNC_EVENT_REQUEST: u8 = 0x0c;
const KEEP_ALIVE: u8 = 0x18;

fn log(world: &mut World, host: &mut Host, page: LogPage, len: u64) -> Vec<u8> {
    let (cqe, data) = host.read(world, GetLogPage::new(page, 0, len).encode(), len as u32);
    assert_eq!(cqe.status, Status::SUCCESS, "{page:?}");
    data
}

fn get(world: &mut World, host: &mut Host, feature: FeatureId, select: Select) -> Result<u32, Status> {
    let cqe = host.command(world, GetFeatures { feature, select, nsid: 0, value: 0 }.encode());
    if cqe.status.is_success() { Ok(cqe.dw0()) } else { Err(cqe.status) }
}

fn set(world: &mut World, host: &mut Host, feature: FeatureId, value: u32) -> Result<u32, Status> {
    let cqe = host.command(world, SetFeatures { feature, save: false, nsid: 0, value }.encode());
    if cqe.status.is_success() { Ok(cqe.dw0()) } else { Err(cqe.status) }
}

fn await_event(world: &mut World, host: &mut Host) -> u16 {
    host.submit(world, Sqe::new(ASYNC_EVENT_REQUEST, 0), 0)
}

fn enable_events(world: &mut World, host: &mut Host) {
    let events = AsyncEvents::NAMESPACE_ATTRIBUTE | AsyncEvents::ANA_CHANGE;
    set(world, host, FeatureId::AsyncEventConfiguration, events.0).unwrap();
}

fn changed(world: &mut World, host: &mut Host) -> Vec<u32> {
    let page = log(world, host, LogPage::ChangedNamespaces, 4096);
    let nsids = page.chunks(4).map(|nsid| u32::from_le_bytes(nsid.try_into().unwrap()));
    nsids.take_while(|nsid| *nsid != 0).collect()
}

#[test]
fn every_supported_log_page_can_be_read_and_no_other() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let page = log(&mut world, &mut admin, LogPage::Supported, 1024);
    let supported = SupportedLogPages::parse(page[..].try_into().unwrap());
    let mut told = Vec::new();
    for (code, support) in supported.pages.iter().enumerate() {
        let command = GetLogPage::new(LogPage::parse(code as u8), 0, 512).encode();
        let status = admin.read(&mut world, command, 512).0.status;
        if support.contains(LogPageSupport::SUPPORTED) {
            told.push(code);
            assert_eq!(status, Status::SUCCESS, "{code:#x}");
        } else {
            assert_eq!(status, Status::INVALID_LOG_PAGE.dnr(), "{code:#x}");
        }
    }
    assert_eq!(told, [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0c, 0x12, 0x80]);
}

#[test]
fn log_pages_are_read_by_offset_and_length() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let whole = log(&mut world, &mut admin, LogPage::CommandsEffects, 4096);
    for (offset, len) in [(0, 4), (1024, 1024), (4092, 4), (4000, 512), (4096, 4)] {
        let command = GetLogPage::new(LogPage::CommandsEffects, offset, len);
        let (cqe, data) = admin.read(&mut world, command.encode(), len as u32);
        assert_eq!(cqe.status, Status::SUCCESS);
        let mut expected = whole[offset as usize..].to_vec();
        expected.resize(len as usize, 0);
        assert_eq!(data, expected, "{offset} {len}");
    }
    let index = GetLogPage { is_index: true, ..GetLogPage::new(LogPage::Ana, 0, 512) };
    let beyond = GetLogPage::new(LogPage::CommandsEffects, 4100, 4);
    let odd = GetLogPage::new(LogPage::CommandsEffects, 2, 4);
    let huge = GetLogPage::new(LogPage::CommandsEffects, 0, (1 << 20) + 4);
    for command in [index, beyond, odd, huge] {
        let status = admin.read(&mut world, command.encode(), (1 << 20) + 4).0.status;
        assert_eq!(status, Status::INVALID_FIELD.dnr(), "{command:?}");
    }
}

#[test]
fn the_effects_pages_agree_with_what_works() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let page = log(&mut world, &mut admin, LogPage::CommandsEffects, 4096);
    let effects = CommandsEffectsLog::parse(page[..].try_into().unwrap());
    let of = |opcodes: &[CommandEffects; 256]| -> Vec<usize> {
        let known = opcodes.iter().enumerate().filter(|(_, e)| e.contains(CommandEffects::SUPPORTED));
        known.map(|(opcode, _)| opcode).collect()
    };
    assert_eq!(of(&effects.admin), [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18]);
    assert_eq!(of(&effects.io), [0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c]);
    let zoned = GetLogPage { csi: 2, ..GetLogPage::new(LogPage::CommandsEffects, 0, 4096) };
    let (cqe, page) = admin.read(&mut world, zoned.encode(), 4096);
    assert_eq!(cqe.status, Status::SUCCESS, "a command set that is not there has no commands");
    assert!(page[1024..2048].iter().all(|byte| *byte == 0));
    let page = log(&mut world, &mut admin, LogPage::FeatureEffects, 1024);
    let effects = FeatureEffectsLog::parse(page[..].try_into().unwrap());
    for (code, effect) in effects.features.iter().enumerate() {
        let feature = FeatureId::parse(code as u8);
        let works = get(&mut world, &mut admin, feature, Select::Capabilities).is_ok();
        assert_eq!(effect.contains(FeatureEffects::SUPPORTED), works, "{feature:?}");
    }
}

#[test]
fn health_and_firmware_tell_what_the_store_and_the_build_said() {
    let mut world = World::with_namespaces();
    world.desk.set_health(HealthTotals {
        written_bytes: 5_120_000,
        writes: 12,
        media_errors: 3,
        free_percent: 40,
        ..HealthTotals::default()
    });
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    world.advance(Duration::from_secs(7200));
    let page = log(&mut world, &mut admin, LogPage::Health, 512);
    let health = HealthLog::parse(page[..].try_into().unwrap());
    assert_eq!((health.data_units_written, health.host_writes, health.media_errors), (10, 12, 3));
    assert_eq!((health.available_spare_percent, health.power_on_hours), (40, 2));
    let per_namespace = GetLogPage { nsid: 1, ..GetLogPage::new(LogPage::Health, 0, 512) };
    let status = admin.read(&mut world, per_namespace.encode(), 512).0.status;
    assert_eq!(status, Status::INVALID_FIELD.dnr());
    let page = log(&mut world, &mut admin, LogPage::FirmwareSlot, 512);
    let slots = FirmwareSlotLog::parse(page[..].try_into().unwrap());
    assert_eq!((slots.active, slots.revisions[0].as_str()), (1, "0.1.0"));
}

#[test]
fn failed_commands_are_in_the_error_log_newest_first() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for opcode in [0xc0, 0xc1] {
        assert_eq!(admin.command(&mut world, Sqe::new(opcode, 9)).status, Status::INVALID_OPCODE.dnr());
    }
    let page = log(&mut world, &mut admin, LogPage::Error, 64 * 3);
    let entries: Vec<_> = page.chunks(64).map(|entry| ErrorEntry::parse(entry.try_into().unwrap())).collect();
    assert_eq!((entries[0].opcode, entries[1].opcode), (0xc1, 0xc0));
    assert_eq!((entries[0].error_count, entries[0].nsid), (2, 9));
    assert_eq!(entries[2].error_count, 0);
}

#[test]
fn features_are_got_as_they_were_set() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for (feature, value) in [
        (FeatureId::Arbitration, 0x0302_0103),
        (FeatureId::TemperatureThreshold, 330),
        (FeatureId::VolatileWriteCache, 0),
        (FeatureId::WriteAtomicity, 1),
        (FeatureId::AsyncEventConfiguration, 0x900),
        (FeatureId::KeepAliveTimer, 120_000),
        (FeatureId::ErrorRecovery, 5),
    ] {
        let default = get(&mut world, &mut admin, feature, Select::Default).unwrap();
        assert_eq!(get(&mut world, &mut admin, feature, Select::Current), Ok(default), "{feature:?}");
        set(&mut world, &mut admin, feature, value).unwrap();
        assert_eq!(get(&mut world, &mut admin, feature, Select::Current), Ok(value), "{feature:?}");
        assert_eq!(get(&mut world, &mut admin, feature, Select::Default), Ok(default), "{feature:?}");
        let capabilities = get(&mut world, &mut admin, feature, Select::Capabilities).unwrap();
        assert_eq!(capabilities, GetFeatures::CHANGEABLE);
        let save = SetFeatures { feature, save: true, nsid: 0, value };
        let status = admin.command(&mut world, save.encode()).status;
        assert_eq!(status, Status::FEATURE_NOT_SAVEABLE.dnr());
    }
    for feature in [FeatureId::InterruptCoalescing, FeatureId::ReservationPersistence, FeatureId::Other(0xc0)]
    {
        let unknown = Err(Status::INVALID_FIELD.dnr());
        assert_eq!(get(&mut world, &mut admin, feature, Select::Current), unknown);
        assert_eq!(set(&mut world, &mut admin, feature, 0), unknown);
    }
    assert_eq!(
        set(&mut world, &mut admin, FeatureId::PowerManagement, 3),
        Err(Status::INVALID_FIELD.dnr()),
        "there is one power state"
    );
}

#[test]
fn the_number_of_queues_is_granted_up_to_the_limit_and_fixed_once_there_is_one() {
    let mut world = World::with_namespaces();
    let (mut admin, cntlid) = Host::admin(&mut world, &Identity::admin());
    let ask = |count: u32| NumberOfQueues { submission: count, completion: count }.encode();
    let granted = set(&mut world, &mut admin, FeatureId::NumberOfQueues, ask(4)).unwrap();
    assert_eq!(NumberOfQueues::parse(granted).submission, 4);
    let granted = set(&mut world, &mut admin, FeatureId::NumberOfQueues, ask(60_000)).unwrap();
    assert_eq!(NumberOfQueues::parse(granted).submission, 128);
    let invalid = set(&mut world, &mut admin, FeatureId::NumberOfQueues, u32::MAX);
    assert_eq!(invalid, Err(Status::INVALID_FIELD.dnr()));
    set(&mut world, &mut admin, FeatureId::NumberOfQueues, ask(2)).unwrap();
    Host::io(&mut world, cntlid, 2);
    let late = set(&mut world, &mut admin, FeatureId::NumberOfQueues, ask(3));
    assert_eq!(late, Err(Status::COMMAND_SEQUENCE_ERROR.dnr()));
}

#[test]
fn timestamp_and_host_identifier_are_data_structures() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let command =
        GetFeatures { feature: FeatureId::Timestamp, select: Select::Current, nsid: 0, value: 0 }.encode();
    world.advance(Duration::from_secs(2));
    let (_, data) = admin.read(&mut world, command, 8);
    let stamp = Timestamp::parse(data[..].try_into().unwrap());
    assert_eq!((stamp.millis(), stamp.attributes), (2000, 0), "since the controller was made");
    let set = SetFeatures { feature: FeatureId::Timestamp, save: false, nsid: 0, value: 0 }.encode();
    let image = Timestamp::new(1_800_000_000_000, 0).encode();
    assert_eq!(admin.command_with(&mut world, set, &image).status, Status::SUCCESS);
    world.advance(Duration::from_secs(3));
    let (_, data) = admin.read(&mut world, command, 8);
    let stamp = Timestamp::parse(data[..].try_into().unwrap());
    assert_eq!((stamp.millis(), stamp.attributes), (1_800_000_003_000, 2));

    let id = GetFeatures { feature: FeatureId::HostIdentifier, select: Select::Current, nsid: 0, value: 1 };
    let (cqe, data) = admin.read(&mut world, id.encode(), 16);
    assert_eq!((cqe.status, data), (Status::SUCCESS, vec![7; 16]));
    let short = GetFeatures { value: 0, ..id };
    assert_eq!(admin.read(&mut world, short.encode(), 16).0.status, Status::INVALID_FIELD.dnr());
    let set = SetFeatures { feature: FeatureId::HostIdentifier, save: false, nsid: 0, value: 1 }.encode();
    let status = admin.command_with(&mut world, set, &[1; 16]).status;
    assert_eq!(status, Status::COMMAND_SEQUENCE_ERROR.dnr());
}

#[test]
fn a_resize_is_told_and_shows() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    enable_events(&mut world, &mut admin);
    let cid = await_event(&mut world, &mut admin);
    world.add(shape(1, SectorSize::B512, 16_384));
    let cqe = admin.completion(&mut world, cid).0;
    assert_eq!(AsyncEvent::parse(cqe.dw0()), AsyncEvent::NAMESPACE_CHANGED);
    assert_eq!(changed(&mut world, &mut admin), [1]);
    assert_eq!(changed(&mut world, &mut admin), [0u32; 0], "reading clears it");
    let cid = await_event(&mut world, &mut admin);
    assert!(admin.take(&mut world).is_empty());
    world.desk.remove_namespace(2);
    world.pump();
    assert_eq!(admin.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(changed(&mut world, &mut admin), [2]);
}

#[test]
fn another_content_is_told_although_the_namespace_looks_as_before() {
    let mut world = World::with_namespaces();
    let mut masked = shape(2, SectorSize::B4096, 1024);
    masked.hosts = HostAcl::None;
    world.add(masked);
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    enable_events(&mut world, &mut admin);
    let cid = await_event(&mut world, &mut admin);
    world.desk.tell_changed(2);
    world.pump();
    assert!(admin.take(&mut world).is_empty(), "it does not see this one");
    world.desk.tell_changed(1);
    world.pump();
    let cqe = admin.completion(&mut world, cid).0;
    assert_eq!(AsyncEvent::parse(cqe.dw0()), AsyncEvent::NAMESPACE_CHANGED);
    assert_eq!(changed(&mut world, &mut admin), [1]);
}

#[test]
fn a_change_is_told_to_those_who_see_a_difference_and_to_no_one_else() {
    let mut world = World::with_namespaces();
    let (mut mine, _) = Host::admin(&mut world, &Identity::admin());
    let (mut other, _) = Host::admin(&mut world, &Identity::of("nqn.2014-08.org.example:other"));
    for host in [&mut mine, &mut other] {
        enable_events(&mut world, host);
        await_event(&mut world, host);
    }
    let mut fresh = shape(7, SectorSize::B512, 8);
    fresh.hosts = HostAcl::Hosts(vec![nqn(HOST)]);
    world.add(fresh.clone());
    assert!(matches!(mine.take(&mut world)[..], [Got::Response(_)]));
    assert_eq!(changed(&mut world, &mut mine), [7]);
    // A third host on the list is no difference for those two.
    await_event(&mut world, &mut mine);
    fresh.hosts = HostAcl::Hosts(vec![nqn(HOST), nqn("nqn.2014-08.org.example:third")]);
    world.add(fresh.clone());
    assert!(mine.take(&mut world).is_empty());
    fresh.hosts = HostAcl::None;
    world.add(fresh);
    assert!(matches!(mine.take(&mut world)[..], [Got::Response(_)]));
    assert!(other.take(&mut world).is_empty());
    assert_eq!(changed(&mut world, &mut other), [0u32; 0]);
}

#[test]
fn event_requests_are_limited_and_can_be_aborted() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let cids: Vec<u16> = (0..4).map(|_| await_event(&mut world, &mut admin)).collect();
    let fifth = await_event(&mut world, &mut admin);
    let status = admin.completion(&mut world, fifth).0.status;
    assert_eq!(status, Status::ASYNC_EVENT_LIMIT_EXCEEDED.dnr());
    let abort = Abort { sqid: 0, cid: cids[1] }.encode();
    admin.submit(&mut world, abort, 0);
    let got = admin.take(&mut world);
    let [Got::Response(aborted), Got::Response(abort)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((aborted.cid, aborted.status), (cids[1], Status::ABORT_REQUESTED));
    assert_eq!((abort.status, abort.result), (Status::SUCCESS, 0));
    await_event(&mut world, &mut admin);
    assert!(admin.take(&mut world).is_empty(), "its place is free");
    let nothing = admin.command(&mut world, Abort { sqid: 0, cid: 0x7777 }.encode());
    assert_eq!((nothing.status, nothing.result), (Status::SUCCESS, Abort::NOT_ABORTED));
}

#[test]
fn abort_ends_a_command_that_has_not_begun() {
    let mut world = World::with_namespaces();
    let (mut admin, mut io) = Host::pair(&mut world);
    // It waits for its data.
    let write = NvmCommand::Write(LbaRange::new(0, 64)).encode(1);
    let cid = io.submit(&mut world, write, 32768);
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!() };
    let cqe = admin.command(&mut world, Abort { sqid: 1, cid }.encode());
    assert_eq!((cqe.status, cqe.result), (Status::SUCCESS, 0));
    assert_eq!(io.completion(&mut world, cid).0.status, Status::ABORT_REQUESTED);
    // Data that was on its way is no fault of the host.
    let pdu = nvme::pdu::H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 32768, last: true };
    let bytes = io.h2c_data(pdu, &[1; 32768]);
    world.send(io.line, &bytes);
    assert!(io.take(&mut world).is_empty());
    assert!(world.operations.is_empty(), "it never ran");
    // One that runs is not aborted, and ends as it ends.
    world.hold = true;
    let cid = io.submit(&mut world, Sqe::new(0, 1), 0);
    let cqe = admin.command(&mut world, Abort { sqid: 1, cid }.encode());
    assert_eq!(cqe.result, Abort::NOT_ABORTED);
    world.release();
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert_eq!(admin.command(&mut world, Abort { sqid: 9, cid }.encode()).result, Abort::NOT_ABORTED);
}

#[test]
fn any_capsule_on_any_queue_keeps_the_association_alive() {
    let mut world = World::with_namespaces();
    let identity = Identity { kato_ms: 5000, ..Identity::admin() };
    let (mut admin, cntlid) = Host::admin(&mut world, &identity);
    let mut io = Host::io(&mut world, cntlid, 1);
    for _ in 0..10 {
        world.advance(Duration::from_secs(4));
        assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
    }
    assert!(world.traffic_checks > 0, "the reactors were asked");
    for _ in 0..10 {
        world.advance(Duration::from_secs(4));
        assert_eq!(admin.command(&mut world, Sqe::new(KEEP_ALIVE, 0)).status, Status::SUCCESS);
    }
    assert!(!world.is_closed(admin.line));
    // A late one is forgiven, silence is not.
    world.advance(Duration::from_millis(6500));
    assert!(!world.is_closed(admin.line));
    world.advance(Duration::from_secs(20));
    assert!(world.is_closed(admin.line) && world.is_closed(io.line));
    assert_eq!(world.desk.controllers(), 0);
}

#[test]
fn without_a_timeout_a_silent_host_stays() {
    let mut world = World::with_namespaces();
    let (admin, _) = Host::admin(&mut world, &Identity::admin());
    world.advance(Duration::from_secs(100_000));
    assert!(!world.is_closed(admin.line));
    assert_eq!(world.desk.poll_timeout(), None, "an idle target wakes for nothing");
}

#[test]
fn unknown_admin_opcodes_are_invalid() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for opcode in [0x00, 0x01, 0x05, 0x0d, 0x10, 0x14, 0x80, 0x84, 0xff] {
        assert_eq!(admin.command(&mut world, Sqe::new(opcode, 1)).status, Status::INVALID_OPCODE.dnr());
    }
}
