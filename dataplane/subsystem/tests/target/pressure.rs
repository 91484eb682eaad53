//! Hosts that do not read, do not deliver, or come in crowds; memory that runs out. Nothing grows without bound, nobody
//! waits for ever, and everything comes home.

use std::time::Duration;

use nvme::command::{DatasetManagement, DsmRange, LbaRange, NvmCommand};
use nvme::identify::{Cns, Identify};
use nvme::pdu::{H2cData, R2t};
use nvme::{Fuse, Sgl, Sqe, Status};
use subsystem::{ListenerKind, SectorSize, limits};

use crate::host::{Got, Host, Identity, PEER, icreq};
use crate::world::{World, shape};

const MIB: u32 = 1 << 20;

fn read(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Read(LbaRange::new(slba, blocks)).encode(nsid)
}

fn write(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Write(LbaRange::new(slba, blocks)).encode(nsid)
}

/// A world whose namespace 1 holds no zeros, so that reads take memory.
fn full_world() -> World {
    let mut world = World::with_namespaces();
    world.disks.get_mut(&1).unwrap().fill(0x5a);
    world
}

#[test]
fn a_host_that_does_not_read_is_closed_and_its_memory_comes_home() {
    let mut world = full_world();
    let (_, mut io) = Host::pair(&mut world);
    world.socket(io.line).host_reads = false;
    for _ in 0..100 {
        io.submit(&mut world, read(1, 0, 2048), MIB);
    }
    assert!(world.heap.used() <= limits::CONNECTION_BYTES_MAX as usize + (2 << 20), "{}", world.heap.used());
    assert!(world.operations.len() <= 10, "the quota holds the others back");
    world.advance(Duration::from_secs(29));
    assert!(!world.is_closed(io.line));
    world.advance(Duration::from_secs(2));
    assert!(world.is_closed(io.line));
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn commands_beyond_the_quota_run_when_responses_have_left() {
    let mut world = full_world();
    let (_, mut io) = Host::pair(&mut world);
    world.socket(io.line).host_reads = false;
    let cids: Vec<u16> = (0..40).map(|_| io.submit(&mut world, read(1, 0, 2048), MIB)).collect();
    world.socket(io.line).host_reads = true;
    world.pump();
    let got = io.take(&mut world);
    let answered: Vec<u16> = got
        .iter()
        .filter_map(|got| if let Got::Response(cqe) = got { Some(cqe.cid) } else { None })
        .collect();
    assert_eq!(answered, cids, "all of them, in their order");
    assert!(world.socket(io.line).sends.iter().all(|segments| *segments <= limits::SEND_SEGMENTS_MAX));
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn responses_of_one_round_leave_in_one_send() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, mut io) = Host::pair(&mut world);
    for _ in 0..50 {
        io.submit(&mut world, Sqe::new(0, 1), 0);
    }
    world.socket(io.line).sends.clear();
    world.release();
    assert_eq!(io.take(&mut world).len(), 50);
    assert_eq!(world.socket(io.line).sends.len(), 1);
}

#[test]
fn a_flood_of_failing_commands_without_reading_stops_being_read() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity { entries: 8, ..Identity::io(cntlid, 1) }, false, false);
    world.socket(io.line).host_reads = false;
    for _ in 0..1000 {
        io.submit(&mut world, Sqe::new(0xff, 1), 0);
    }
    let counts = world.ports[0].commands();
    let done = counts.of(0xff, subsystem::StatusClass::Generic);
    assert!(done <= 64 << 10 >> 6, "what one receive had brought");
    world.socket(io.line).host_reads = true;
    world.pump();
    assert_eq!(io.take(&mut world).len(), 1000, "nothing is lost when it reads again");
}

#[test]
fn undelivered_data_holds_memory_only_until_its_deadline() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for _ in 0..20 {
        io.submit(&mut world, write(1, 0, 2048), MIB);
    }
    let granted = io.take(&mut world).len();
    assert_eq!(granted, 8, "the connection's share");
    assert_eq!(world.heap.used(), 8 << 20);
    world.advance(Duration::from_secs(31));
    assert!(world.is_closed(io.line));
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn writes_that_are_held_back_keep_their_share_of_r2ts() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, mut io) = Host::pair(&mut world);
    for _ in 0..40 {
        io.submit(&mut world, write(1, 0, 2048), MIB);
    }
    // Everything that is asked for comes at once, and the store does nothing.
    let mut answered = 0;
    loop {
        let granted = granted(&mut io, &mut world);
        if granted.is_empty() {
            break;
        }
        for r2t in granted {
            let bytes = whole(&io, &r2t);
            world.send(io.line, &bytes);
            answered += 1;
        }
    }
    let most = (limits::CONNECTION_BYTES_MAX + limits::CONNECTION_R2T_BYTES_MAX) as usize;
    assert!(world.heap.used() <= most, "{} bytes in {answered} writes", world.heap.used());
    assert_eq!(world.held.len(), 8, "as many as the quota allows have begun");
    world.hold = false;
    world.release();
    let mut completed = 0;
    loop {
        let got = io.take(&mut world);
        if got.is_empty() {
            break;
        }
        for got in got {
            match got {
                Got::R2t(r2t) => {
                    let bytes = whole(&io, &r2t);
                    world.send(io.line, &bytes);
                }
                Got::Response(cqe) => {
                    assert_eq!(cqe.status, Status::SUCCESS);
                    completed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(completed, 40);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn writes_that_are_under_way_keep_their_share_of_the_reactors_r2ts() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut queues = Vec::new();
    for qid in 1..=2 {
        world.next_port = 0;
        queues.push(Host::io(&mut world, cntlid, qid));
    }
    for _ in 0..8 {
        queues[0].submit(&mut world, write(1, 0, 2048), MIB);
    }
    for r2t in granted(&mut queues[0], &mut world) {
        let bytes = whole(&queues[0], &r2t);
        world.send(queues[0].line, &bytes);
    }
    assert_eq!(world.held.len(), 8);
    queues[1].submit(&mut world, write(1, 0, 2048), MIB);
    assert!(granted(&mut queues[1], &mut world).is_empty(), "the reactor's share is used up");
    world.serve_oldest();
    assert_eq!(granted(&mut queues[1], &mut world).len(), 1, "what one has ended with, another gets");
}

#[test]
fn first_halves_of_pairs_keep_no_share_of_r2ts_from_others() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut queues = Vec::new();
    for qid in 1..=9 {
        world.next_port = 0;
        queues.push(Host::io(&mut world, cntlid, qid));
    }
    let (writer, lone) = queues.split_first_mut().unwrap();
    for io in lone {
        let compare = NvmCommand::Compare(LbaRange::new(0, 2048)).encode(1);
        io.submit(&mut world, Sqe { fuse: Fuse::First, ..compare }, MIB);
        for r2t in granted(io, &mut world) {
            let bytes = whole(io, &r2t);
            world.send(io.line, &bytes);
        }
    }
    assert_eq!(writer.write(&mut world, write(1, 0, 2048), &[3; MIB as usize]).status, Status::SUCCESS);
    // A whole pair is asked for both its data.
    let pair = [NvmCommand::Compare, NvmCommand::Write].map(|half| half(LbaRange::new(0, 8)).encode(1));
    let fuses = [Fuse::First, Fuse::Second];
    let cids = std::array::from_fn::<_, 2, _>(|half| {
        writer.submit(&mut world, Sqe { fuse: fuses[half], ..pair[half] }, 4096)
    });
    let r2ts = granted(writer, &mut world);
    assert_eq!(r2ts.iter().map(|r2t| r2t.cid).collect::<Vec<_>>(), cids);
    for r2t in r2ts {
        let bytes = whole(writer, &r2t);
        world.send(writer.line, &bytes);
    }
    assert_eq!(writer.take(&mut world).len(), 2);
    assert_eq!(world.operations.last().unwrap(), "compare-and-write 1 0+4096");
}

/// The R2Ts that have come, and nothing else.
fn granted(io: &mut Host, world: &mut World) -> Vec<R2t> {
    let r2t = |got| if let Got::R2t(r2t) = got { r2t } else { panic!("an R2T, got {got:?}") };
    io.take(world).into_iter().map(r2t).collect()
}

/// Answers an R2T with one PDU.
fn whole(io: &Host, r2t: &R2t) -> Vec<u8> {
    let R2t { cid, ttag, len_bytes, .. } = *r2t;
    io.h2c_data(H2cData { cid, ttag, offset_bytes: 0, len_bytes, last: true }, &vec![3; len_bytes as usize])
}

#[test]
fn data_that_trickles_holds_memory_only_until_its_deadline() {
    // Large data is received into the transfer's buffer, small data is copied there.
    for blocks in [2048, 8] {
        let mut world = World::with_namespaces();
        let (_, mut io) = Host::pair(&mut world);
        for _ in 0..4 {
            io.submit(&mut world, write(1, 0, blocks), blocks * 512);
        }
        let granted = granted(&mut io, &mut world);
        assert_eq!(granted.len(), 4);
        let bytes = whole(&io, &granted[0]);
        world.send(io.line, &bytes[..25]);
        world.advance(Duration::from_secs(29));
        assert!(!world.is_closed(io.line));
        world.send(io.line, &bytes[25..26]);
        world.advance(Duration::from_secs(2));
        assert!(world.is_closed(io.line), "{blocks} blocks");
        assert_eq!(world.heap.used(), 0);
    }
}

#[test]
fn a_capsule_that_stops_halfway_holds_memory_only_until_its_deadline() {
    // Large data is received into the capsule's buffer, small data is copied there.
    for blocks in [32, 8] {
        let mut world = World::with_namespaces();
        let (mut admin, io) = Host::pair(&mut world);
        let bytes = io.in_capsule(Sqe { cid: 1, ..write(1, 0, blocks) }, &vec![6; blocks as usize * 512]);
        world.send(io.line, &bytes[..1000]);
        assert_eq!(world.heap.used(), blocks as usize * 512);
        world.advance(Duration::from_secs(29));
        assert!(!world.is_closed(io.line));
        world.send(io.line, &bytes[1000..1001]);
        world.advance(Duration::from_secs(2));
        assert!(world.is_closed(io.line), "{blocks} blocks");
        assert_eq!(world.heap.used(), 0);
        // Its association goes on.
        assert_eq!(admin.command(&mut world, Sqe::new(0x18, 0)).status, Status::SUCCESS);
    }
}

#[test]
fn a_capsule_that_waits_for_memory_is_not_late() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.heap.limit = 2000;
    let bytes = io.in_capsule(Sqe { cid: 1, ..write(1, 0, 8) }, &[6; 4096]);
    world.send(io.line, &bytes[..1000]);
    world.advance(Duration::from_secs(40));
    world.heap.limit = 64 << 10;
    world.advance(Duration::from_secs(1));
    world.send(io.line, &bytes[1000..]);
    assert_eq!(io.completion(&mut world, 1).0.status, Status::SUCCESS);
    world.advance(Duration::from_secs(40));
    assert!(!world.is_closed(io.line));
}

#[test]
fn what_other_transfers_deliver_keeps_none_from_its_deadline() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for _ in 0..3 {
        io.submit(&mut world, write(1, 0, 2048), MIB);
    }
    assert_eq!(granted(&mut io, &mut world).len(), 3);
    for _ in 0..5 {
        world.advance(Duration::from_secs(5));
        assert_eq!(io.write(&mut world, write(1, 0, 8), &[2; 4096]).status, Status::SUCCESS);
    }
    world.advance(Duration::from_secs(6));
    assert!(world.is_closed(io.line));
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn transfers_that_each_end_in_time_may_follow_each_other_for_ever() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let mut outstanding = Vec::new();
    for round in 0..20 {
        io.submit(&mut world, write(1, 0, 8), 4096);
        outstanding.extend(granted(&mut io, &mut world));
        // Now the older, now the newer of two.
        if let [_, _] = outstanding[..] {
            let r2t = outstanding.remove(round % 2);
            let bytes = whole(&io, &r2t);
            world.send(io.line, &bytes);
            assert_eq!(io.completion(&mut world, r2t.cid).0.status, Status::SUCCESS);
        }
        world.advance(Duration::from_secs(14));
        assert!(!world.is_closed(io.line), "round {round}");
    }
    // The one that is left is as old as its R2T.
    world.advance(Duration::from_secs(17));
    assert!(world.is_closed(io.line));
}

#[test]
fn r2t_buffers_of_all_hosts_together_are_bounded_and_granted_in_turn() {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut queues: Vec<Host> = Vec::new();
    for qid in 1..=6 {
        world.next_port = 0;
        queues.push(Host::io(&mut world, cntlid, qid));
    }
    let mut waiting = Vec::new();
    for io in &mut queues {
        for _ in 0..3 {
            io.submit(&mut world, write(1, 0, 2048), MIB);
        }
        waiting.push(3);
    }
    assert!(world.heap.used() <= 8 << 20, "the reactor's share: {}", world.heap.used());
    let mut served = 0;
    while served < 18 {
        let mut progress = false;
        for (io, waiting) in queues.iter_mut().zip(&mut waiting) {
            for got in io.take(&mut world) {
                let Got::R2t(r2t) = got else { continue };
                let (cid, ttag) = (r2t.cid, r2t.ttag);
                let pdu = H2cData { cid, ttag, offset_bytes: 0, len_bytes: MIB, last: true };
                let bytes = io.h2c_data(pdu, &vec![3; MIB as usize]);
                world.send(io.line, &bytes);
                *waiting -= 1;
                served += 1;
                progress = true;
            }
        }
        assert!(progress, "somebody is always served");
    }
    assert_eq!(waiting, [0; 6]);
    assert_eq!(world.operations.len(), 18);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn long_lists_of_ranges_run_a_few_at_a_time() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, mut io) = Host::pair(&mut world);
    for (count, begun) in [(256, 8), (1, 100)] {
        let (integral_write, integral_read) = (false, false);
        let command =
            DatasetManagement { count_ranges: count, deallocate: true, integral_write, integral_read };
        // Every other block, so that no two are one.
        let ranges = (0..count).map(|n| DsmRange { attributes: 0, slba: u64::from(n) * 2, count_blocks: 1 });
        let list: Vec<u8> = ranges.flat_map(|range| range.encode()).collect();
        for _ in 0..100 {
            let cid = io.cid();
            let bytes = io.in_capsule(Sqe { cid, ..command.encode(1) }, &list);
            world.send(io.line, &bytes);
        }
        assert_eq!(world.held.len(), begun, "{count} ranges each");
        while !world.held.is_empty() {
            world.release();
        }
        assert_eq!(io.take(&mut world).len(), 100);
    }
}

#[test]
fn without_memory_writes_wait_and_go_on_when_there_is_some() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.heap.limit = 16 << 10;
    let cid = io.submit(&mut world, write(1, 0, 64), 32768);
    assert!(io.take(&mut world).is_empty());
    world.advance(Duration::from_millis(50));
    assert!(io.take(&mut world).is_empty());
    assert!(world.ports[0].transport().memory_waits > 10, "it asks again");
    world.heap.limit = 1 << 20;
    world.advance(Duration::from_millis(2));
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!("the R2T comes") };
    assert_eq!(r2t.cid, cid);
}

#[test]
fn in_capsule_data_in_parts_waits_for_memory_before_more_is_read() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.socket(io.line).chunk = 1000;
    world.heap.limit = 2000;
    let sqe = Sqe { cid: 1, ..write(1, 0, 8) };
    let bytes = io.in_capsule(sqe, &[6; 4096]);
    world.send(io.line, &bytes);
    assert!(io.take(&mut world).is_empty());
    assert!(world.heap.used() <= 2000, "nothing more is received meanwhile");
    world.heap.limit = 64 << 10;
    world.advance(Duration::from_millis(2));
    assert_eq!(io.completion(&mut world, 1).0.status, Status::SUCCESS);
    assert_eq!(world.disks[&1][..4096], [6; 4096]);
}

#[test]
fn admin_replies_wait_for_memory_one_at_a_time() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    world.heap.limit = 1000;
    let identify = Identify::new(Cns::Controller, 0).encode();
    let first = admin.submit(&mut world, identify, 4096);
    let second = admin.submit(&mut world, identify, 4096);
    world.advance(Duration::from_millis(20));
    assert!(admin.take(&mut world).is_empty());
    world.heap.limit = 1 << 20;
    world.advance(Duration::from_millis(2));
    let got = admin.take(&mut world);
    let [Got::Data(..), Got::Response(a), Got::Data(..), Got::Response(b)] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!((a.cid, b.cid), (first, second));
}

#[test]
fn an_admin_queue_that_does_not_read_holds_little_memory() {
    let mut world = World::with_namespaces();
    let (mut admin, _) = Host::admin(&mut world, &Identity { entries: 4096, ..Identity::admin() });
    world.socket(admin.line).host_reads = false;
    let identify = Identify::new(Cns::Controller, 0).encode();
    for _ in 0..500 {
        admin.submit(&mut world, identify, 4096);
    }
    assert!(world.heap.used() <= (256 << 10) + 4096, "{}", world.heap.used());
    world.socket(admin.line).host_reads = true;
    world.pump();
    assert_eq!(admin.take(&mut world).len(), 1000);
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn a_thousand_connects_and_drops_leave_nothing_behind() {
    let mut world = World::with_namespaces();
    let (_steady_admin, mut steady) = Host::pair(&mut world);
    for round in 0..1000 {
        match round % 4 {
            0 => {
                let host = Host::open(&mut world, ListenerKind::Io, PEER);
                world.hang_up(host.line);
            }
            1 => {
                let host = Host::open(&mut world, ListenerKind::Discovery, PEER);
                world.send(host.line, &icreq(true, true).encode()[..100]);
                world.hang_up(host.line);
            }
            2 => {
                let host = Host::initialized(&mut world, true, true);
                world.hang_up(host.line);
            }
            _ => {
                let identity = Identity::of("nqn.2014-08.org.example:storm");
                let (admin, cntlid) = Host::admin(&mut world, &identity);
                let io = Identity { cntlid, qid: 1, entries: 128, ..identity };
                let io = Host::io_as(&mut world, &io, false, false);
                world.hang_up(if round % 8 == 3 { io.line } else { admin.line });
                world.hang_up(admin.line);
            }
        }
    }
    assert_eq!(world.desk.controllers(), 1);
    assert_eq!(world.ports[0].queues() + world.ports[1].queues(), 1);
    assert_eq!(world.heap.used(), 0);
    let stats = world.desk.transport();
    assert_eq!(stats.connections_opened - stats.connections_closed, 252, "those handed over close elsewhere");
    assert_eq!(steady.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
}

#[test]
fn a_broken_neighbour_disturbs_nobody() {
    let mut world = World::with_namespaces();
    let (mut admin, mut io) = Host::pair(&mut world);
    for seed in 0..50u8 {
        let mut other = Host::initialized(&mut world, false, false);
        world.send(other.line, &[seed; 300]);
        let got = other.take(&mut world);
        assert!(matches!(got[..], [Got::Term(..)]), "{seed}: {got:?}");
        assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
        assert_eq!(admin.command(&mut world, Sqe::new(0x18, 0)).status, Status::SUCCESS);
    }
    world.advance(Duration::from_secs(3));
    assert_eq!(world.heap.used(), 0);
}

#[test]
fn an_ana_log_of_every_namespace_there_can_be_is_read_in_one_command() {
    let mut world = World::new();
    for nsid in 1..=limits::NAMESPACES_MAX {
        let shape = std::sync::Arc::new(shape(nsid, SectorSize::B4096, 1));
        world.desk.set_namespace(shape);
    }
    let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
    let len = 16 + 32 + 4 * u64::from(limits::NAMESPACES_MAX);
    let command = nvme::log::GetLogPage::new(nvme::log::LogPage::Ana, 0, len);
    let (cqe, page) = admin.read(&mut world, command.encode(), len as u32);
    assert_eq!(cqe.status, Status::SUCCESS);
    assert_eq!(page[page.len() - 4..], limits::NAMESPACES_MAX.to_le_bytes());
    let (_, list) = admin.read(&mut world, Identify::new(Cns::ActiveNamespaces, 16_000).encode(), 4096);
    assert_eq!(list[..4], 16_001u32.to_le_bytes());
    assert_eq!(list[384 * 4..385 * 4], [0; 4]);
}

#[test]
fn a_termination_amid_transfers_frees_their_buffers() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let sqe = Sqe { cid: 1, ..write(1, 0, 2048) }.with_sgl(Sgl::Transport { len_bytes: MIB });
    let mut bytes = io.capsule(sqe, &[]);
    world.send(io.line, &bytes);
    let [Got::R2t(r2t)] = io.take(&mut world)[..] else { panic!() };
    let pdu = H2cData { cid: 1, ttag: r2t.ttag, offset_bytes: 0, len_bytes: MIB, last: true };
    bytes = io.h2c_data(pdu, &vec![1; MIB as usize]);
    // Half of it, then the host is gone.
    world.send(io.line, &bytes[..MIB as usize / 2]);
    world.hang_up(io.line);
    assert!(world.is_closed(io.line));
    assert_eq!(world.heap.used(), 0);
}
