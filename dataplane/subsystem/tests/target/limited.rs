//! Limited namespaces: their commands wait for their share before their data is asked for, and nobody else waits with
//! them; what waits can be aborted, dropped and fenced like anything that has not begun.

use nvme::command::{LbaRange, NvmCommand};
use nvme::pdu::H2cData;
use nvme::{Sqe, Status};
use subsystem::{Direction, Draw, Rate, Rates};

use crate::host::{Got, Host};
use crate::world::World;

fn limit(world: &mut World, nsid: u32, ios: u64, bytes: u64) {
    let rate = Rate { ios, bytes };
    for ports in &mut world.ports {
        ports.set_rates(nsid, Rates { read: rate, write: rate });
    }
    world.pump();
}

fn grant(world: &mut World) -> Draw {
    let (port, draw) = world.draws.pop_front().expect("somebody waits for a share");
    world.ports[port].on_granted(&draw);
    world.pump();
    draw
}

fn read(nsid: u32) -> Sqe {
    NvmCommand::Read(LbaRange::new(0, 8)).encode(nsid)
}

fn answers(io: &mut Host, world: &mut World) -> usize {
    io.take(world).iter().filter(|got| matches!(got, Got::Response(_))).count()
}

#[test]
fn a_limited_namespace_waits_and_its_neighbour_on_the_same_queue_does_not() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 100, 0);
    for _ in 0..3 {
        io.submit(&mut world, read(1), 4096);
    }
    let neighbour = io.submit(&mut world, Sqe::new(0, 2), 0);
    assert_eq!(io.completion(&mut world, neighbour).0.status, Status::SUCCESS);
    for left in [2, 1, 0] {
        assert_eq!(world.draws.len(), 1, "one draw is under way at a time");
        let draw = Draw { nsid: 1, direction: Direction::Read, ios: 1, bytes: 0, bytes_least: 0 };
        assert_eq!(grant(&mut world), draw);
        assert_eq!(answers(&mut io, &mut world), 1, "{left} are left");
    }
    assert!(world.draws.is_empty());
}

#[test]
fn a_share_is_a_slice_of_the_rate_and_is_spent_before_another_is_asked_for() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 5000, 0);
    io.submit(&mut world, read(1), 4096);
    assert_eq!(grant(&mut world).ios, 10);
    for _ in 0..9 {
        io.submit(&mut world, read(1), 4096);
    }
    assert_eq!(answers(&mut io, &mut world), 10);
    assert!(world.draws.is_empty());
    io.submit(&mut world, read(1), 4096);
    assert_eq!(world.draws.len(), 1);
}

#[test]
fn data_of_a_limited_write_is_asked_for_only_when_its_share_has_come() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 0, 1000);
    let write = NvmCommand::Write(LbaRange::new(0, 64)).encode(1);
    let cid = io.submit(&mut world, write, 32768);
    assert!(io.take(&mut world).is_empty(), "no R2T yet");
    let (bytes, bytes_least) = (32768, 32768);
    assert_eq!(grant(&mut world), Draw { nsid: 1, direction: Direction::Write, ios: 0, bytes, bytes_least });
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!() };
    let pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: 32768, last: true };
    let bytes = io.h2c_data(pdu, &[1; 32768]);
    world.send(io.line, &bytes);
    assert_eq!(io.completion(&mut world, cid).0.status, Status::SUCCESS);
}

#[test]
fn what_waits_for_its_share_is_aborted_and_another_takes_it() {
    let mut world = World::with_namespaces();
    let (mut admin, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 1, 0);
    let first = io.submit(&mut world, read(1), 4096);
    let second = io.submit(&mut world, read(1), 4096);
    let mut abort = Sqe::new(0x08, 0);
    abort.cdw10 = u32::from(first) << 16 | 1;
    assert_eq!(admin.command(&mut world, abort).status, Status::SUCCESS);
    assert_eq!(io.completion(&mut world, first).0.status, Status::ABORT_REQUESTED);
    grant(&mut world);
    assert_eq!(io.completion(&mut world, second).0.status, Status::SUCCESS);
    assert!(world.draws.is_empty());
}

#[test]
fn a_queue_that_is_gone_leaves_nothing_behind_and_a_fence_does_not_wait() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 1, 0);
    io.submit(&mut world, read(1), 4096);
    for ports in &mut world.ports {
        ports.remove_namespace(1, Some(9));
    }
    world.pump();
    assert_eq!(world.fenced.iter().filter(|(_, token)| *token == 9).count(), 2);
    world.hang_up(io.line);
    world.pump();
    grant(&mut world);
    assert!(world.operations.is_empty() && world.draws.is_empty());
}

#[test]
fn other_rates_hold_at_once_for_what_waits() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    limit(&mut world, 1, 1, 0);
    for _ in 0..5 {
        io.submit(&mut world, read(1), 4096);
    }
    assert_eq!(answers(&mut io, &mut world), 0);
    limit(&mut world, 1, 0, 0);
    assert_eq!(answers(&mut io, &mut world), 5);
}
