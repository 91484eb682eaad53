//! Identify in its forms: the fields that real hosts stumble over, and who sees what.

use nvme::identify::{
    AsyncEvents, Cmic, Cns, ControllerList, ControllerType, Identify, IdentifyController,
    IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceIndependent, NamespaceFeatures,
    NamespaceIdentifier, NamespaceStatus, Nmic, NsidList, Oncs, SglSupport, VolatileWriteCache,
};
use nvme::log::{AnaGroup, AnaHeader, AnaState, GetLogPage, LogPage};
use nvme::{Sqe, Status};
use subsystem::{HostAcl, SectorSize, limits};

use crate::host::{Host, Identity};
use crate::world::{SUBSYSTEM, World, nqn, shape};

const OTHER: &str = "nqn.2014-08.org.example:other";

fn identify(world: &mut World, host: &mut Host, command: Identify) -> Result<[u8; 4096], Status> {
    let (cqe, data) = host.read(world, command.encode(), 4096);
    if cqe.status.is_success() { Ok(data.try_into().expect("4096 bytes")) } else { Err(cqe.status) }
}

fn nsids(world: &mut World, host: &mut Host, after: u32) -> Vec<u32> {
    let page = identify(world, host, Identify::new(Cns::ActiveNamespaces, after)).unwrap();
    NsidList::parse(&page).collect()
}

#[test]
fn the_controller_has_every_field_that_hosts_need() {
    let mut world = World::with_namespaces();
    let (mut admin, cntlid) = Host::admin(&mut world, &Identity::admin());
    let image = identify(&mut world, &mut admin, Identify::new(Cns::Controller, 0)).unwrap();
    let id = IdentifyController::parse(&image);
    assert_eq!(id.cntlid, cntlid);
    assert_eq!(id.subsystem_nqn().unwrap(), nqn(SUBSYSTEM));
    assert_eq!(id.controller_type, ControllerType::Io);
    assert!(id.kas_100ms > 0, "KAS 0 switches keep alive off");
    assert!(id.ioccsz_16b >= 4 && id.iorcsz_16b >= 1 && id.icdoff_16b == 0);
    assert!(id.capsule_data_max_bytes() >= 8192);
    assert!(id.sgls.contains(SglSupport::SUPPORTED) && id.sgls.contains(SglSupport::OFFSET));
    assert!(id.maxcmd > 0);
    assert!(id.cmic.contains(Cmic::MULTI_CONTROLLER) && id.cmic.contains(Cmic::ANA_REPORTING));
    assert_eq!((id.nn, id.mnan), (16_384, 16_384));
    assert!(id.anatt_s > 0 && id.anagrpmax > 0 && id.nanagrpid > 0);
    let ana_log = 16 + 32 * u64::from(id.nanagrpid) + 4 * u64::from(id.mnan);
    assert!(ana_log <= id.transfer_max_bytes(0).unwrap(), "the ANA log is read in one command");
    assert!(id.vwc.contains(VolatileWriteCache::PRESENT));
    assert_eq!(id.awupf_blocks.0, 1, "0 on the wire: atomicity is told per namespace");
    let commands = Oncs::COMPARE | Oncs::DATASET_MANAGEMENT | Oncs::WRITE_ZEROES | Oncs::VERIFY;
    assert!(id.oncs.contains(commands | Oncs::TIMESTAMP));
    assert!(!id.oncs.contains(Oncs::RESERVATIONS));
    assert_eq!((id.sqes.required, id.cqes.required), (6, 4));
    assert!(id.oaes.contains(AsyncEvents::NAMESPACE_ATTRIBUTE | AsyncEvents::ANA_CHANGE));
    assert_eq!((id.abort_limit.0, id.async_event_limit.0), (4, 4));
    assert_eq!(id.fuses.0, 1);
    assert!(!id.serial_number.as_str().is_empty() && !id.firmware_revision.as_str().is_empty());

    let image = identify(&mut world, &mut admin, Identify::new(Cns::ControllerOfCommandSet, 0)).unwrap();
    let nvm = IdentifyControllerNvm::parse(&image);
    assert_eq!((nvm.verify_size_limit, nvm.write_zeroes_size_limit), (limits::VSL, limits::WZSL));
}

#[test]
fn a_namespace_tells_its_atomicity_in_its_own_blocks() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for (nsid, bytes) in [(1, 512u32), (2, 4096)] {
        let image = identify(&mut world, &mut admin, Identify::new(Cns::Namespace, nsid)).unwrap();
        let id = IdentifyNamespace::parse(&image);
        assert_eq!(id.nsze_blocks, (4 << 20) / u64::from(bytes));
        assert_eq!(id.lba_bytes(), Some(bytes));
        assert!(id.nsfeat.contains(NamespaceFeatures::ATOMIC_PARAMETERS));
        assert_eq!(id.nawupf_blocks.0 * bytes, 64 << 10);
        assert_eq!(id.nacwu_blocks.0 * bytes, 64 << 10);
        assert_eq!(id.nabspf_blocks.0 * bytes, 1 << 20);
        assert_eq!(id.nabo_lba, 0);
        assert_eq!(u32::from(id.noiob_blocks) * bytes, 1 << 20);
        assert_eq!(id.npwg_blocks.0 * bytes, 4096);
        assert!(id.nmic.contains(Nmic::SHARED));
        assert_eq!(id.anagrpid, 1);
        assert_eq!(id.dlfeat.0 & 0b1111, 0b1001);
        assert_eq!(id.nguid, shape(nsid, SectorSize::B512, 1).uuid);
    }
}

#[test]
fn a_thin_namespace_tells_what_is_allocated_and_another_its_size() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for (allocated, in_first, in_second) in
        [(None, 8192, 1024), (Some(0), 0, 0), (Some(12_288), 24, 3), (Some(1 << 40), 8192, 1024)]
    {
        for (nsid, size, used) in [(1, 8192, in_first), (2, 1024, in_second)] {
            world.allocated = allocated.map(|bytes| (nsid, bytes)).into_iter().collect();
            for cns in [Cns::Namespace, Cns::AllocatedNamespace] {
                let image = identify(&mut world, &mut admin, Identify::new(cns, nsid)).unwrap();
                let id = IdentifyNamespace::parse(&image);
                assert_eq!((id.nsze_blocks, id.ncap_blocks, id.nuse_blocks), (size, size, used));
                assert_eq!(id.nsfeat.contains(NamespaceFeatures::THIN), allocated.is_some());
            }
        }
    }
}

#[test]
fn what_is_allocated_is_told_as_the_namespace_is_when_it_is_counted() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let (mut gone, _) = Host::admin(&mut world, &Identity::of(OTHER));
    world.hold = true;
    let mut ask =
        |host: &mut Host, nsid| host.submit(&mut world, Identify::new(Cns::Namespace, nsid).encode(), 4096);
    let (resized, removed) = (ask(&mut admin, 1), ask(&mut admin, 2));
    ask(&mut gone, 1);
    assert_eq!(world.counts.len(), 3);
    assert!(!world.desk.is_idle(), "they are under way");
    // Others do not wait.
    assert_eq!(admin.command(&mut world, Sqe::new(0x18, 0)).status, Status::SUCCESS);
    let mut abort = Sqe::new(0x08, 0);
    abort.cdw10 = u32::from(resized) << 16;
    assert_eq!(admin.command(&mut world, abort).dw0(), 1, "it is not aborted");
    world.add(shape(1, SectorSize::B512, 16_384));
    world.desk.remove_namespace(2);
    world.hang_up(gone.line);
    let answer = |world: &mut World| {
        let (_, token) = world.counts.remove(0);
        world.desk.on_counted(token, Some(4096));
        world.pump();
    };
    answer(&mut world);
    let image = admin.completion(&mut world, resized).1;
    let id = IdentifyNamespace::parse(&image.try_into().unwrap());
    assert_eq!((id.nsze_blocks, id.nuse_blocks), (16_384, 8));
    answer(&mut world);
    assert_eq!(admin.completion(&mut world, removed).1, [0; 4096]);
    answer(&mut world);
    assert!(world.is_closed(gone.line));
    assert!(world.desk.is_idle());
}

#[test]
fn the_uuid_is_told_as_uuid_and_nguid() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let image = identify(&mut world, &mut admin, Identify::new(Cns::NamespaceDescriptors, 2)).unwrap();
    let descriptors: Vec<_> = NamespaceIdentifier::parse_list(&image).collect();
    let uuid = shape(2, SectorSize::B512, 1).uuid;
    assert!(descriptors.contains(&NamespaceIdentifier::Uuid(uuid)));
    assert!(descriptors.contains(&NamespaceIdentifier::Nguid(uuid)));
    assert!(descriptors.contains(&NamespaceIdentifier::Csi(0)));
}

#[test]
fn an_inactive_nsid_answers_zeros_with_success() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    for cns in
        [Cns::Namespace, Cns::NamespaceOfCommandSet, Cns::NamespaceIndependent, Cns::AllocatedNamespace]
    {
        for nsid in [3, 16_384] {
            let image = identify(&mut world, &mut admin, Identify::new(cns, nsid)).unwrap();
            assert_eq!(image, [0; 4096], "{cns:?} {nsid}");
        }
        for nsid in [0, 16_385, u32::MAX] {
            let status = identify(&mut world, &mut admin, Identify::new(cns, nsid)).unwrap_err();
            assert_eq!(status, Status::INVALID_NAMESPACE.dnr(), "{cns:?} {nsid}");
        }
    }
    let status = identify(&mut world, &mut admin, Identify::new(Cns::NamespaceDescriptors, 3)).unwrap_err();
    assert_eq!(status, Status::INVALID_NAMESPACE.dnr());
}

#[test]
fn an_active_namespace_is_ready() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let image = identify(&mut world, &mut admin, Identify::new(Cns::NamespaceIndependent, 1)).unwrap();
    let id = IdentifyNamespaceIndependent::parse(&image);
    assert!(id.nstat.contains(NamespaceStatus::READY));
    assert_eq!(id.anagrpid, 1);
    assert!(id.nmic.contains(Nmic::SHARED));
}

#[test]
fn lists_hold_what_the_host_sees_and_nothing_else() {
    let mut world = World::with_namespaces();
    let mut masked = shape(5, SectorSize::B4096, 16);
    masked.hosts = HostAcl::Hosts(vec![nqn(OTHER)]);
    world.add(masked);
    world.add(shape(9, SectorSize::B4096, 16));
    let (mut admin, first) = Host::admin(&mut world, &Identity::admin());
    let (mut other, second) = Host::admin(&mut world, &Identity::of(OTHER));
    assert_eq!(nsids(&mut world, &mut admin, 0), [1, 2, 9]);
    assert_eq!(nsids(&mut world, &mut admin, 2), [9]);
    assert_eq!(nsids(&mut world, &mut other, 0), [1, 2, 5, 9]);
    let image = identify(&mut world, &mut admin, Identify::new(Cns::Namespace, 5)).unwrap();
    assert_eq!(image, [0; 4096], "a masked namespace is as if it were not there");
    let status =
        identify(&mut world, &mut admin, Identify::new(Cns::ActiveNamespaces, 0xffff_fffe)).unwrap_err();
    assert_eq!(status, Status::INVALID_NAMESPACE.dnr());

    let all = identify(&mut world, &mut admin, Identify::new(Cns::Controllers, 0)).unwrap();
    assert_eq!(ControllerList::parse(&all).collect::<Vec<_>>(), [first, second]);
    let from = Identify { cntid: second, ..Identify::new(Cns::Controllers, 0) };
    let some = identify(&mut world, &mut admin, from).unwrap();
    assert_eq!(ControllerList::parse(&some).collect::<Vec<_>>(), [second]);
    let attached = identify(&mut world, &mut other, Identify::new(Cns::AttachedControllers, 5)).unwrap();
    assert_eq!(ControllerList::parse(&attached).collect::<Vec<_>>(), [second]);
}

#[test]
fn the_nvm_command_set_is_the_only_one() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let sets = Identify { cntid: 0xffff, ..Identify::new(Cns::CommandSets, 0) };
    let image = identify(&mut world, &mut admin, sets).unwrap();
    assert_eq!(image[..16], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let list = identify(&mut world, &mut admin, Identify::new(Cns::ActiveNamespacesOfCommandSet, 0)).unwrap();
    assert_eq!(NsidList::parse(&list).collect::<Vec<_>>(), [1, 2]);
    for cns in [Cns::NamespaceOfCommandSet, Cns::ControllerOfCommandSet, Cns::ActiveNamespacesOfCommandSet] {
        let zoned = Identify { csi: 2, ..Identify::new(cns, 1) };
        assert_eq!(identify(&mut world, &mut admin, zoned).unwrap_err(), Status::INVALID_FIELD.dnr());
    }
    let unknown = Identify::new(Cns::Other(0x55), 0);
    assert_eq!(identify(&mut world, &mut admin, unknown).unwrap_err(), Status::INVALID_FIELD.dnr());
}

#[test]
fn every_namespace_is_in_exactly_one_ana_group_that_is_optimized() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let read = |world: &mut World, admin: &mut Host, command: GetLogPage| {
        let (cqe, data) = admin.read(world, command.encode(), command.len_bytes as u32);
        assert_eq!(cqe.status, Status::SUCCESS);
        data
    };
    let page = read(&mut world, &mut admin, GetLogPage::new(LogPage::Ana, 0, 4096));
    let header = AnaHeader::parse(page[..16].try_into().unwrap());
    assert_eq!(header.count_groups, 1);
    let group = AnaGroup::parse(page[16..48].try_into().unwrap());
    assert_eq!((group.group_id, group.count_nsids, group.state), (1, 2, AnaState::Optimized));
    assert_eq!(page[48..56], [1, 0, 0, 0, 2, 0, 0, 0]);
    // In parts, and groups only, as Linux reads it first.
    let tail = read(&mut world, &mut admin, GetLogPage::new(LogPage::Ana, 48, 8));
    assert_eq!(tail, page[48..56]);
    let command =
        GetLogPage { specific: GetLogPage::ANA_GROUPS_ONLY, ..GetLogPage::new(LogPage::Ana, 0, 48) };
    let groups = read(&mut world, &mut admin, command);
    assert_eq!(AnaGroup::parse(groups[16..48].try_into().unwrap()).count_nsids, 0);
}

#[test]
fn room_for_less_than_the_structure_is_refused() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let (cqe, _) = admin.read(&mut world, Identify::new(Cns::Controller, 0).encode(), 4092);
    assert_eq!(cqe.status, Status::DATA_SGL_LENGTH_INVALID.dnr());
    // The queue goes on.
    assert_eq!(admin.command(&mut world, Sqe::new(0x18, 0)).status, Status::SUCCESS);
}
