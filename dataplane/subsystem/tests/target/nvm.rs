//! I/O commands: what is stored, what is checked, and which status says so.

use nvme::command::{DatasetManagement, DsmRange, IoFlags, LbaRange, NvmCommand, NvmOpcode};
use nvme::{Fuse, Sgl, Sqe, Status};
use subsystem::{HostAcl, IpAcl, SectorSize, StatusClass};

use crate::host::{Got, Host};
use crate::world::{World, nqn, shape};

fn write(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Write(LbaRange::new(slba, blocks)).encode(nsid)
}

fn read(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Read(LbaRange::new(slba, blocks)).encode(nsid)
}

fn compare(nsid: u32, slba: u64, blocks: u32) -> Sqe {
    NvmCommand::Compare(LbaRange::new(slba, blocks)).encode(nsid)
}

fn dsm(world: &mut World, io: &mut Host, ranges: &[(u64, u32)], deallocate: bool) -> Status {
    let command = DatasetManagement {
        count_ranges: ranges.len() as u16,
        deallocate,
        integral_write: false,
        integral_read: false,
    };
    // Linux sends a page for any number of ranges.
    let mut list = vec![0; 4096];
    for (place, (slba, count_blocks)) in list.chunks_mut(16).zip(ranges) {
        let range = DsmRange { attributes: 0, slba: *slba, count_blocks: *count_blocks };
        place.copy_from_slice(&range.encode());
    }
    io.command_with(world, command.encode(1), &list).status
}

/// Sends a fused Compare and Write in adjacent capsules; returns both statuses.
fn fused(world: &mut World, io: &mut Host, first: Sqe, second: Sqe, old: &[u8], new: &[u8]) -> [Status; 2] {
    let first = Sqe { fuse: Fuse::First, cid: 0x100, ..first };
    let second = Sqe { fuse: Fuse::Second, cid: 0x101, ..second };
    let mut bytes = io.in_capsule(first, old);
    bytes.extend(io.in_capsule(second, new));
    world.send(io.line, &bytes);
    let got = io.take(world);
    let [Got::Response(a), Got::Response(b)] = &got[..] else { panic!("two responses, got {got:?}") };
    let status_of = |cid: u16| if a.cid == cid { a.status } else { b.status };
    assert_ne!(a.cid, b.cid);
    [status_of(0x100), status_of(0x101)]
}

#[test]
fn what_is_written_is_read_in_both_sector_sizes() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for (nsid, bytes) in [(1, 512), (2, 4096)] {
        let data: Vec<u8> = (0..3 * bytes).map(|index| index as u8 | 1).collect();
        assert_eq!(io.command_with(&mut world, write(nsid, 5, 3), &data).status, Status::SUCCESS);
        let (cqe, got) = io.read(&mut world, read(nsid, 5, 3), 3 * bytes);
        assert_eq!((cqe.status, got), (Status::SUCCESS, data));
    }
    assert_eq!(world.operations[0], "write 1 2560+1536");
    assert_eq!(world.operations[2], "write 2 20480+12288");
    let counts = world.ports[0].commands();
    assert_eq!(counts.of(NvmOpcode::Write.code(), StatusClass::Success), 2);
    assert_eq!(counts.of(NvmOpcode::Read.code(), StatusClass::Success), 2);
}

#[test]
fn a_command_of_mdts_bytes_is_done_whole_and_one_beyond_is_refused() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let data: Vec<u8> = (0..1 << 20).map(|index: u32| (index >> 8) as u8 | 1).collect();
    assert_eq!(io.write(&mut world, write(1, 1024, 2048), &data).status, Status::SUCCESS);
    let (cqe, got) = io.read(&mut world, read(1, 1024, 2048), 1 << 20);
    assert_eq!(cqe.status, Status::SUCCESS);
    assert!(got == data, "every byte across the stripe boundary");
    for sqe in [read(1, 0, 2049), write(1, 0, 2049), compare(1, 0, 2049)] {
        let cqe = io.read(&mut world, sqe, (1 << 20) + 512).0;
        assert_eq!(cqe.status, Status::INVALID_FIELD.dnr());
    }
    let verify = NvmCommand::Verify(LbaRange::new(0, 2049)).encode(1);
    assert_eq!(io.command(&mut world, verify).status, Status::INVALID_FIELD.dnr());
    // Write Zeroes moves no data: MDTS does not bind it.
    let zeroes = NvmCommand::WriteZeroes(LbaRange::new(0, 8192)).encode(1);
    assert_eq!(io.command(&mut world, zeroes).status, Status::SUCCESS);
    assert!(world.disks[&1].iter().all(|byte| *byte == 0));
}

#[test]
fn ranges_beyond_the_end_or_beyond_64_bits_are_lba_out_of_range() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for (slba, blocks) in [(8192, 1), (8191, 2), (u64::MAX, 1), (u64::MAX - 1, 4), (1 << 55, 8)] {
        for sqe in [read(1, slba, blocks), write(1, slba, blocks), compare(1, slba, blocks)] {
            let cqe = io.read(&mut world, sqe, 4096).0;
            assert_eq!(cqe.status, Status::LBA_OUT_OF_RANGE.dnr(), "{slba} {blocks}");
        }
        for command in [
            NvmCommand::WriteZeroes(LbaRange::new(slba, blocks)),
            NvmCommand::Verify(LbaRange::new(slba, blocks)),
        ] {
            let status = io.command(&mut world, command.encode(1)).status;
            assert_eq!(status, Status::LBA_OUT_OF_RANGE.dnr());
        }
        assert_eq!(dsm(&mut world, &mut io, &[(slba, blocks)], true), Status::LBA_OUT_OF_RANGE.dnr());
    }
    assert!(world.operations.is_empty());
}

#[test]
fn nsids_that_the_host_does_not_see_are_invalid_namespaces() {
    let mut world = World::with_namespaces();
    let mut by_name = shape(3, SectorSize::B4096, 16);
    by_name.hosts = HostAcl::Hosts(vec![nqn("nqn.2014-08.org.example:other")]);
    world.add(by_name);
    let mut by_address = shape(4, SectorSize::B4096, 16);
    by_address.addresses = IpAcl::Addresses(vec!["203.0.113.1".parse().unwrap()]);
    world.add(by_address);
    let (_, mut io) = Host::pair(&mut world);
    for nsid in [0, 3, 4, 5, 16_384, 16_385, u32::MAX] {
        assert_eq!(io.read(&mut world, read(nsid, 0, 1), 4096).0.status, Status::INVALID_NAMESPACE.dnr());
        assert_eq!(io.command(&mut world, Sqe::new(0, nsid)).status, Status::INVALID_NAMESPACE.dnr());
    }
    assert!(world.operations.is_empty());
}

#[test]
fn unknown_opcodes_are_invalid_and_the_queue_goes_on() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    for opcode in [0x04, 0x0d, 0x19, 0x3f, 0x80, 0xff] {
        assert_eq!(io.command(&mut world, Sqe::new(opcode, 1)).status, Status::INVALID_OPCODE.dnr());
    }
    assert_eq!(io.command(&mut world, Sqe::new(0, 1)).status, Status::SUCCESS);
}

#[test]
fn the_sgl_may_describe_more_than_the_command_moves_but_not_less() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let cqe = io.command_with(&mut world, write(1, 0, 4), &[3; 4096]);
    assert_eq!(cqe.status, Status::SUCCESS);
    assert_eq!(world.operations, ["write 1 0+2048"]);
    assert_eq!(io.read(&mut world, read(1, 0, 4), 4096).1, vec![3; 2048]);
    assert_eq!(
        io.command_with(&mut world, write(1, 0, 16), &[3; 4096]).status,
        Status::DATA_SGL_LENGTH_INVALID.dnr()
    );
    assert_eq!(io.read(&mut world, read(1, 0, 16), 4096).0.status, Status::DATA_SGL_LENGTH_INVALID.dnr());
    let sqe = Sqe { cid: 1, ..read(1, 0, 8) }.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes: 4096 });
    let bytes = io.capsule(sqe, &[]);
    world.send(io.line, &bytes);
    let status = io.completion(&mut world, 1).0.status;
    assert_eq!(status, Status::SGL_DESCRIPTOR_TYPE_INVALID.dnr());
}

#[test]
fn dataset_management_deallocates_and_hints_do_nothing() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    world.disks.get_mut(&1).unwrap().fill(9);
    assert_eq!(dsm(&mut world, &mut io, &[(0, 8), (16, 0), (100, 1)], true), Status::SUCCESS);
    assert_eq!(world.operations, ["deallocate 1 0+4096,51200+512"]);
    assert_eq!(dsm(&mut world, &mut io, &[(0, 8)], false), Status::SUCCESS);
    assert_eq!(dsm(&mut world, &mut io, &[(0, 0)], true), Status::SUCCESS);
    assert_eq!(world.operations.len(), 1);
    let all: Vec<_> = (0..256).map(|index| (index * 8, 8)).collect();
    assert_eq!(dsm(&mut world, &mut io, &all, true), Status::SUCCESS);
    assert_eq!(io.read(&mut world, read(1, 0, 8), 4096).1, vec![0; 4096]);
}

#[test]
fn ranges_that_overlap_or_adjoin_are_deallocated_as_one() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    assert_eq!(dsm(&mut world, &mut io, &[(0, 8192); 256], true), Status::SUCCESS);
    assert_eq!(world.operations.pop().unwrap(), "deallocate 1 0+4194304");
    let ranges = [(40, 8), (8, 8), (0, 8), (20, 8), (24, 2), (48, 8)];
    assert_eq!(dsm(&mut world, &mut io, &ranges, true), Status::SUCCESS);
    assert_eq!(world.operations.pop().unwrap(), "deallocate 1 0+8192,10240+4096,20480+8192");
}

#[test]
fn write_zeroes_passes_the_deallocate_bit_on() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let range = LbaRange { flags: IoFlags::DEAC, ..LbaRange::new(0, 8) };
    io.command(&mut world, NvmCommand::WriteZeroes(range).encode(2));
    io.command(&mut world, NvmCommand::WriteZeroes(LbaRange::new(8, 1)).encode(2));
    assert_eq!(world.operations, ["zero 2 0+32768 deallocate", "zero 2 32768+4096"]);
}

#[test]
fn compare_tells_equal_from_different() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    io.command_with(&mut world, write(1, 0, 8), &[1; 4096]);
    assert_eq!(io.command_with(&mut world, compare(1, 0, 8), &[1; 4096]).status, Status::SUCCESS);
    assert_eq!(io.command_with(&mut world, compare(1, 0, 8), &[2; 4096]).status, Status::COMPARE_FAILURE);
    let verify = NvmCommand::Verify(LbaRange::new(0, 8)).encode(1);
    assert_eq!(io.command(&mut world, verify).status, Status::SUCCESS);
    assert_eq!(world.operations.last().unwrap(), "verify 1 0+4096");
}

#[test]
fn statuses_of_the_store_reach_the_host() {
    let mut world = World::with_namespaces();
    world.hold = true;
    let (_, mut io) = Host::pair(&mut world);
    for status in [Status::UNRECOVERED_READ, Status::CAPACITY_EXCEEDED, Status::INTERNAL_ERROR] {
        let cid = io.submit(&mut world, read(1, 0, 1), 512);
        world.answer_held(status);
        let (cqe, data) = io.completion(&mut world, cid);
        assert_eq!((cqe.status, data.len()), (status, 0));
    }
}

#[test]
fn a_fused_pair_writes_only_where_the_compare_holds() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let (old, new) = ([0; 4096], [7; 4096]);
    let success = [Status::SUCCESS; 2];
    assert_eq!(fused(&mut world, &mut io, compare(1, 8, 8), write(1, 8, 8), &old, &new), success);
    assert_eq!(world.operations, ["compare-and-write 1 4096+4096"]);
    let failed = [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED];
    assert_eq!(fused(&mut world, &mut io, compare(1, 8, 8), write(1, 8, 8), &old, &old), failed);
    assert_eq!(world.disks[&1][4096..8192], new);
}

#[test]
fn a_fused_pair_may_come_by_r2t() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let len = 32 << 10;
    let sgl = Sgl::Transport { len_bytes: len };
    let first = Sqe { fuse: Fuse::First, cid: 1, ..compare(1, 0, 64) }.with_sgl(sgl);
    let second = Sqe { fuse: Fuse::Second, cid: 2, ..write(1, 0, 64) }.with_sgl(sgl);
    let mut bytes = io.capsule(first, &[]);
    bytes.extend(io.capsule(second, &[]));
    world.send(io.line, &bytes);
    let got = io.take(&mut world);
    let [Got::R2t(a), Got::R2t(b)] = got[..] else { panic!("{got:?}") };
    // The data of the second arrives first.
    for (r2t, fill) in [(b, 5), (a, 0)] {
        assert!(world.operations.is_empty());
        let pdu =
            nvme::pdu::H2cData { cid: r2t.cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes: len, last: true };
        let bytes = io.h2c_data(pdu, &vec![fill; len as usize]);
        world.send(io.line, &bytes);
    }
    let got = io.take(&mut world);
    let [Got::Response(a), Got::Response(b)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((a.cid, a.status, b.cid, b.status), (1, Status::SUCCESS, 2, Status::SUCCESS));
    assert_eq!(world.disks[&1][..len as usize], vec![5; len as usize]);
}

#[test]
fn a_fused_pair_beyond_the_atomic_unit_or_across_a_stripe_is_refused() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let exceeded = [Status::ABORTED_FAILED_FUSED, Status::ATOMIC_WRITE_UNIT_EXCEEDED.dnr()];
    let data = [0; 8192];
    let across = fused(&mut world, &mut io, compare(1, 2040, 16), write(1, 2040, 16), &data, &data);
    assert_eq!(across, exceeded);
    let mut small = shape(1, SectorSize::B512, 8192);
    small.atomic_bytes = 4096;
    world.add(small);
    assert_eq!(fused(&mut world, &mut io, compare(1, 0, 16), write(1, 0, 16), &data, &data), exceeded);
    assert!(world.operations.is_empty());
}

#[test]
fn the_halves_of_a_fused_pair_must_match() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let (a, b) = ([0; 4096], [1; 4096]);
    let invalid = [Status::ABORTED_FAILED_FUSED, Status::INVALID_FIELD.dnr()];
    for (first, second) in [
        (compare(1, 0, 8), write(1, 8, 8)),
        (compare(1, 0, 8), write(1, 0, 4)),
        (compare(1, 0, 1), write(2, 0, 1)),
        (write(1, 0, 8), compare(1, 0, 8)),
    ] {
        assert_eq!(fused(&mut world, &mut io, first, second, &a, &b), invalid);
    }
    // A half that fails its own checks takes the other with it.
    let first_bad = fused(&mut world, &mut io, compare(1, 9000, 8), write(1, 0, 8), &a, &b);
    assert_eq!(first_bad, [Status::LBA_OUT_OF_RANGE.dnr(), Status::ABORTED_FAILED_FUSED]);
    let second_bad = fused(&mut world, &mut io, compare(1, 0, 8), write(9, 0, 8), &a, &b);
    assert_eq!(second_bad, [Status::ABORTED_FAILED_FUSED, Status::INVALID_NAMESPACE.dnr()]);
    assert!(world.operations.is_empty());
}

#[test]
fn a_fused_half_alone_is_aborted() {
    let mut world = World::with_namespaces();
    let (_, mut io) = Host::pair(&mut world);
    let second = Sqe { fuse: Fuse::Second, ..write(1, 0, 8) };
    let status = io.command_with(&mut world, second, &[1; 4096]).status;
    assert_eq!(status, Status::ABORTED_MISSING_FUSED.dnr());

    // The first half waits for its neighbour; another command in its place ends it.
    let first = Sqe { fuse: Fuse::First, cid: 50, ..compare(1, 0, 8) };
    let bytes = io.in_capsule(first, &[0; 4096]);
    world.send(io.line, &bytes);
    assert!(io.take(&mut world).is_empty());
    let bytes = io.capsule(Sqe { cid: 51, ..Sqe::new(0, 1) }, &[]);
    world.send(io.line, &bytes);
    let got = io.take(&mut world);
    let [Got::Response(a), Got::Response(b)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((a.cid, a.status), (50, Status::ABORTED_MISSING_FUSED.dnr()));
    assert_eq!((b.cid, b.status), (51, Status::SUCCESS));
    let reserved = Sqe { fuse: Fuse::Reserved, ..write(1, 0, 8) };
    assert_eq!(io.command_with(&mut world, reserved, &[1; 4096]).status, Status::INVALID_FIELD.dnr());
    assert_eq!(world.operations, ["flush 1"]);
}
