//! Changes of namespaces under live I/O: what begins afterwards gets the new status, and a fence says when what began
//! before has ended.

use std::sync::Arc;

use nvme::command::{LbaRange, NvmCommand};
use nvme::pdu::H2cData;
use nvme::{Sqe, Status};
use subsystem::{HostAcl, NamespaceShape, SectorSize};

use crate::host::{Got, Host};
use crate::world::{World, nqn, shape};

fn change(world: &mut World, shape: NamespaceShape, token: u64) {
    let shape = Arc::new(shape);
    for ports in &mut world.ports {
        ports.set_namespace(Arc::clone(&shape), Some(token));
    }
    world.pump();
}

fn remove(world: &mut World, nsid: u32, token: u64) {
    for ports in &mut world.ports {
        ports.remove_namespace(nsid, Some(token));
    }
    world.pump();
}

fn passed(world: &World, token: u64) -> usize {
    world.fenced.iter().filter(|(_, fenced)| *fenced == token).count()
}

fn flush(nsid: u32) -> Sqe {
    Sqe::new(0, nsid)
}

#[test]
fn a_fence_without_io_passes_at_once_on_every_reactor() {
    let mut world = World::with_namespaces();
    let (_admin, _io) = Host::pair(&mut world);
    remove(&mut world, 1, 7);
    assert_eq!(passed(&world, 7), 2);
}

#[test]
fn removing_a_host_waits_for_its_io_and_refuses_what_comes_later() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.hold = true;
    let running = io.submit(&mut world, flush(1), 0);
    let mut closed = shape(1, SectorSize::B512, 8192);
    closed.hosts = HostAcl::Hosts(vec![nqn("nqn.2014-08.org.example:other")]);
    change(&mut world, closed.clone(), 1);
    assert_eq!(passed(&world, 1), 1, "the other reactor has nothing to wait for");
    assert_eq!(io.command(&mut world, flush(1)).status, Status::INVALID_NAMESPACE.dnr());
    // Other namespaces are not concerned.
    let other = io.submit(&mut world, flush(2), 0);
    world.answer_held(Status::SUCCESS);
    assert_eq!(passed(&world, 1), 2);
    assert_eq!(io.completion(&mut world, running).0.status, Status::SUCCESS);
    world.release();
    assert_eq!(io.completion(&mut world, other).0.status, Status::SUCCESS);
    // And back.
    closed.hosts = HostAcl::Any;
    change(&mut world, closed, 2);
    world.hold = false;
    assert_eq!(io.command(&mut world, flush(1)).status, Status::SUCCESS);
}

#[test]
fn a_write_whose_data_is_still_awaited_is_judged_again_before_it_runs() {
    for shrink in [true, false] {
        let mut world = World::with_namespaces();
        let (_, mut io) = Host::pair(&mut world);
        let write = NvmCommand::Write(LbaRange::new(4096, 64)).encode(1);
        let cid = io.submit(&mut world, write, 32768);
        let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!() };
        let expected = if shrink {
            change(&mut world, shape(1, SectorSize::B512, 4096), 3);
            Status::LBA_OUT_OF_RANGE
        } else {
            remove(&mut world, 1, 3);
            Status::INVALID_NAMESPACE
        };
        assert_eq!(passed(&world, 3), 2, "it has not begun, so nobody waits for it");
        let pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 32768, last: true };
        let bytes = io.h2c_data(pdu, &[1; 32768]);
        world.send(io.line, &bytes);
        assert_eq!(io.completion(&mut world, cid).0.status, expected.dnr());
        assert!(world.operations.is_empty());
    }
}

#[test]
fn growth_is_usable_at_once() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let beyond = NvmCommand::Write(LbaRange::new(8192, 1)).encode(1);
    assert!(io.command_with(&mut world, beyond, &[1; 512]).status.is(Status::LBA_OUT_OF_RANGE));
    world.add(shape(1, SectorSize::B512, 8200));
    assert_eq!(io.command_with(&mut world, beyond, &[1; 512]).status, Status::SUCCESS);
}

#[test]
fn fences_count_requests_of_connections_that_are_gone() {
    let mut world = World::with_namespaces();
    let (admin, mut io) = Host::pair(&mut world);
    world.hold = true;
    io.submit(&mut world, flush(1), 0);
    world.hang_up(admin.line);
    assert!(world.is_closed(io.line));
    remove(&mut world, 1, 9);
    assert_eq!(passed(&world, 9), 1);
    assert_eq!(
        world.desk.controllers(),
        1,
        "the association is not forgotten before its requests have ended"
    );
    world.release();
    assert_eq!(passed(&world, 9), 2);
    assert_eq!(world.desk.controllers(), 0);
}

#[test]
fn stop_lets_what_runs_end_and_starts_nothing() {
    let mut world = World::with_namespaces();
    let (admin, mut io) = Host::pair(&mut world);
    world.hold = true;
    let cid = io.submit(&mut world, flush(1), 0);
    world.desk.stop();
    world.ports.iter_mut().for_each(subsystem::Ports::stop);
    world.pump();
    let bytes = io.capsule(Sqe { cid: 99, ..flush(1) }, &[]);
    world.send(io.line, &bytes);
    assert_eq!(world.operations.len(), 1);
    assert!(world.ports.iter().any(|ports| !ports.is_idle()));
    world.release();
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
    assert!(world.ports.iter().all(subsystem::Ports::is_idle) && world.desk.is_idle());
    world.desk.close_all();
    world.ports.iter_mut().for_each(subsystem::Ports::close_all);
    world.pump();
    assert!(world.is_closed(io.line) && world.is_closed(admin.line));
    assert_eq!(world.operations.len(), 1);
}
