//! Arbitrary bytes in arbitrary pieces: no input panics, and how a valid stream is cut makes no difference. The seeds of
//! failing cases are printed by the test runner and kept beside this file.

use std::time::Duration;

use nvme::command::{LbaRange, NvmCommand};
use nvme::fabrics::{ConnectAttributes, disconnect};
use nvme::pdu::H2cData;
use nvme::{Fuse, Sgl, Sqe};
use proptest::prelude::*;
use subsystem::{HostAcl, ListenerKind, NamespaceShape, SectorSize, StatusClass, TransportStats};

use crate::host::{Got, Host, Identity, PEER, icreq};
use crate::world::{World, shape};

/// How a stream is cut: the sizes of receives, used over and over.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..10usize, 1..200usize, 1..20_000usize], 1..8)
}

fn send_cut(world: &mut World, host: &Host, bytes: &[u8], cuts: &[usize]) {
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        let (now, later) = rest.split_at((*cut).min(rest.len()));
        world.send(host.line, now);
        rest = later;
    }
}

/// What a host of this test may do on its I/O queue.
#[derive(Clone, Debug)]
enum Step {
    Write { slba: u64, blocks: u32, fill: u8, in_capsule: bool },
    Read { slba: u64, blocks: u32 },
    Flush,
    CompareAndWrite { slba: u64, blocks: u32, old: u8, new: u8 },
    Nonsense { opcode: u8, nsid: u32, cdw10: u32, cdw12: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..8192u64, prop_oneof![1..8u32, 1..64u32, 1..256u32]);
    prop_oneof![
        (place.clone(), any::<u8>(), any::<bool>()).prop_map(|((slba, blocks), fill, in_capsule)| {
            let in_capsule = in_capsule && blocks <= 32;
            Step::Write { slba, blocks, fill, in_capsule }
        }),
        place.clone().prop_map(|(slba, blocks)| Step::Read { slba, blocks }),
        Just(Step::Flush),
        ((0..8192u64, 1..32u32), 0..2u8, 0..2u8)
            .prop_map(|((slba, blocks), old, new)| { Step::CompareAndWrite { slba, blocks, old, new } }),
        (any::<u8>(), 0..3u32, any::<u32>(), any::<u32>())
            .prop_filter("Fabrics commands would end the queue", |(opcode, ..)| *opcode != 0x7f)
            .prop_map(|(opcode, nsid, cdw10, cdw12)| Step::Nonsense { opcode, nsid, cdw10, cdw12 }),
    ]
}

/// Plays the steps on one connection cut in one way; returns all responses and what the store was asked for.
fn play(steps: &[Step], cuts: &[usize], chunk: usize, digests: bool) -> (Vec<Got>, Vec<String>, Vec<u8>) {
    let mut world = World::with_namespaces();
    let (_, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity::io(cntlid, 1), digests, digests);
    world.socket(io.line).chunk = chunk;
    let mut all = Vec::new();
    for step in steps {
        let cid = io.cid();
        let mut payload = Vec::new();
        let mut bytes = Vec::new();
        match *step {
            Step::Write { slba, blocks, fill, in_capsule } => {
                let sqe = Sqe { cid, ..NvmCommand::Write(LbaRange::new(slba, blocks)).encode(1) };
                payload = vec![fill; blocks as usize * 512];
                if in_capsule {
                    bytes = io.in_capsule(sqe, &payload);
                } else {
                    let len_bytes = payload.len() as u32;
                    bytes = io.capsule(sqe.with_sgl(Sgl::Transport { len_bytes }), &[]);
                }
            }
            Step::Read { slba, blocks } => {
                let sqe = Sqe { cid, ..NvmCommand::Read(LbaRange::new(slba, blocks)).encode(1) };
                bytes = io.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: blocks * 512 }), &[]);
            }
            Step::Flush => bytes = io.capsule(Sqe { cid, ..Sqe::new(0, 1) }, &[]),
            Step::CompareAndWrite { slba, blocks, old, new } => {
                let range = LbaRange::new(slba, blocks);
                let first = Sqe { cid, fuse: Fuse::First, ..NvmCommand::Compare(range).encode(1) };
                let second = Sqe { cid: io.cid(), fuse: Fuse::Second, ..NvmCommand::Write(range).encode(1) };
                bytes.extend(io.in_capsule(first, &vec![old; blocks as usize * 512]));
                bytes.extend(io.in_capsule(second, &vec![new; blocks as usize * 512]));
            }
            Step::Nonsense { opcode, nsid, cdw10, cdw12 } => {
                let sqe = Sqe { cid, cdw10, cdw12, ..Sqe::new(opcode, nsid) };
                bytes = io.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: 0 }), &[]);
            }
        }
        send_cut(&mut world, &io, &bytes, cuts);
        let mut got = io.take(&mut world);
        if let [Got::R2t(r2t)] = got[..] {
            let len_bytes = payload.len() as u32;
            let pdu = H2cData { cid, ttag: r2t.ttag, offset_bytes: 0, len_bytes, last: true };
            let bytes = io.h2c_data(pdu, &payload);
            send_cut(&mut world, &io, &bytes, cuts);
            got.extend(io.take(&mut world));
        }
        all.append(&mut got);
    }
    assert!(!world.is_closed(io.line), "a correct host is never closed");
    (all, world.operations.clone(), world.disks[&1].clone())
}

/// One capsule of a run, and what may be wrong with it. Pages have 4096 bytes.
#[derive(Clone, Debug)]
enum Capsule {
    Read { nsid: u32, page: u64, pages: u32, lacking_bytes: u32 },
    Write { nsid: u32, page: u64, blocks: u32, fill: u8, described: Described, damaged: bool },
    Half { fuse: Fuse, page: u64 },
    Flush { nsid: u32 },
    Disconnect,
}

/// The data of a write, beside what its range says.
#[derive(Clone, Copy, Debug)]
enum Described {
    /// As much.
    Right,
    /// More, as a host may.
    Longer,
    /// Less.
    Shorter,
    /// As much, and the SGL says that it is longer.
    Wrongly,
}

/// A run of capsules with their CIDs: each its own as a rule.
fn run() -> impl Strategy<Value = Vec<(u16, Capsule)>> {
    // Namespace 3 is masked, and there is no fourth.
    let nsid = || prop_oneof![8 => Just(1_u32), 8 => Just(2), 1 => Just(3), 1 => Just(4)];
    // There are 1024 pages.
    let page = || prop_oneof![8 => 0..760u64, 1 => 760..1030u64];
    let pages = prop_oneof![10 => 1..8u32, 8 => Just(256u32), 1 => Just(257)];
    let lacking_bytes = prop_oneof![12 => Just(0u32), 1 => Just(1)];
    let blocks = prop_oneof![8 => Just(1u32), 2 => Just(2), 1 => Just(4)];
    let described = prop_oneof![
        10 => Just(Described::Right),
        1 => Just(Described::Longer),
        1 => Just(Described::Shorter),
        1 => Just(Described::Wrongly),
    ];
    let damaged = prop::bool::weighted(0.05);
    let capsule = prop_oneof![
        20 => (nsid(), page(), pages, lacking_bytes)
            .prop_map(|(nsid, page, pages, lacking_bytes)| {
                Capsule::Read { nsid, page, pages, lacking_bytes }
            }),
        10 => (nsid(), page(), blocks, any::<u8>(), described, damaged).prop_map(
            |(nsid, page, blocks, fill, described, damaged)| {
                Capsule::Write { nsid, page, blocks, fill, described, damaged }
            }
        ),
        2 => (prop_oneof![2 => Just(Fuse::First), 1 => Just(Fuse::Second)], page())
            .prop_map(|(fuse, page)| Capsule::Half { fuse, page }),
        3 => nsid().prop_map(|nsid| Capsule::Flush { nsid }),
        1 => prop::bool::weighted(0.3)
            .prop_map(|ends| if ends { Capsule::Disconnect } else { Capsule::Flush { nsid: 1 } }),
    ];
    let cid = prop::option::weighted(0.08, 0..40u16);
    prop::collection::vec((cid, capsule), 1..=40).prop_map(|run| {
        let with_cid =
            |(index, (cid, capsule)): (u16, (Option<u16>, Capsule))| (cid.unwrap_or(index), capsule);
        (0..).zip(run).map(with_cid).collect()
    })
}

impl Capsule {
    fn encode(&self, host: &Host, cid: u16) -> Vec<u8> {
        let sector = |nsid| if nsid == 2 { 4096 } else { 512 };
        let range = |nsid, page, blocks| LbaRange::new(page * (4096 / u64::from(sector(nsid))), blocks);
        match *self {
            Self::Read { nsid, page, pages, lacking_bytes } => {
                let blocks = pages * (4096 / sector(nsid));
                let sqe = Sqe { cid, ..NvmCommand::Read(range(nsid, page, blocks)).encode(nsid) };
                host.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: pages * 4096 - lacking_bytes }), &[])
            }
            Self::Write { nsid, page, blocks, fill, described, damaged } => {
                let sqe = Sqe { cid, ..NvmCommand::Write(range(nsid, page, blocks)).encode(nsid) };
                let (more, told) = match described {
                    Described::Right => (0, 0),
                    Described::Longer => (64, 0),
                    Described::Shorter => (-64, 0),
                    Described::Wrongly => (0, 64),
                };
                let len_bytes = (blocks * sector(nsid)).saturating_add_signed(more).min(16 << 10);
                let sgl = Sgl::InCapsule { offset_bytes: 0, len_bytes: len_bytes + told };
                let mut bytes = host.capsule(sqe.with_sgl(sgl), &vec![fill; len_bytes as usize]);
                if damaged && host.codec.data_digest {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                bytes
            }
            Self::Half { fuse, page } => {
                let range = range(1, page, 1);
                let command =
                    if fuse == Fuse::First { NvmCommand::Compare(range) } else { NvmCommand::Write(range) };
                host.in_capsule(Sqe { cid, fuse, ..command.encode(1) }, &[0; 512])
            }
            Self::Flush { nsid } => host.capsule(Sqe { cid, ..Sqe::new(0, nsid) }, &[]),
            Self::Disconnect => host.capsule(Sqe { cid, ..disconnect() }, &[]),
        }
    }
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    got: Vec<Got>,
    closed: bool,
    operations: Vec<String>,
    /// Opcode, class of status, commands.
    counts: Vec<(u8, StatusClass, u64)>,
    /// Without what may depend on how the run is cut.
    transport: TransportStats,
}

/// Sends a run while the store does nothing, in receives of `chunk` bytes. Returns what the namespaces hold,
/// too.
fn play_run(
    run: &[(u16, Capsule)],
    identity: &Identity,
    digests: bool,
    chunk: usize,
) -> (Outcome, [Vec<u8>; 2]) {
    let mut world = World::with_namespaces();
    world.add(NamespaceShape { hosts: HostAcl::None, ..shape(3, SectorSize::B512, 8192) });
    world.disks.get_mut(&1).unwrap()[..3 << 20].fill(0x5a);
    let (admin, cntlid) = Host::admin(&mut world, &Identity::admin());
    let mut io = Host::io_as(&mut world, &Identity { cntlid, ..*identity }, digests, digests);
    world.socket(io.line).chunk = chunk;
    world.hold = true;
    let bytes: Vec<u8> = run.iter().flat_map(|(cid, capsule)| capsule.encode(&io, *cid)).collect();
    // A receive is of all that is there, or of so little that where a send ends is nothing to it.
    for bytes in bytes.chunks(if chunk == 1 { 10_000 } else { usize::MAX }) {
        world.send(io.line, bytes);
    }
    world.hold = false;
    world.release();
    let (got, closed) = (io.take(&mut world), world.is_closed(io.line));
    world.hang_up(io.line);
    world.hang_up(admin.line);
    assert_eq!(world.heap.used(), 0);
    let counts = world.ports[0].commands();
    let classes = |opcode| StatusClass::ALL.map(|class| (opcode, class, counts.of(opcode, class)));
    let counts = (0..=u8::MAX).flat_map(classes).filter(|(.., count)| *count > 0).collect();
    let stats = *world.ports[0].transport();
    let transport = TransportStats { payload_copied_bytes: 0, memory_waits: 0, ..stats };
    let operations = std::mem::take(&mut world.operations);
    let disks = [1, 2].map(|nsid| world.disks.remove(&nsid).unwrap());
    (Outcome { got, closed, operations, counts, transport }, disks)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Plain commands that came whole take another way than what came in parts.
    #[test]
    fn a_run_of_commands_in_one_receive_is_what_single_bytes_give(
        run in run(),
        entries in prop_oneof![2..10u32, 10..60u32],
        digests in any::<bool>(),
        flow_control in any::<bool>(),
    ) {
        let without = ConnectAttributes::DISABLE_SQ_FLOW_CONTROL;
        let attributes = if flow_control { ConnectAttributes(0) } else { without };
        let identity = Identity { entries, attributes, ..Identity::io(0, 1) };
        let (whole, whole_disks) = play_run(&run, &identity, digests, usize::MAX);
        let (cut, cut_disks) = play_run(&run, &identity, digests, 1);
        prop_assert_eq!(&whole.operations, &cut.operations);
        prop_assert_eq!(whole, cut);
        prop_assert!(whole_disks == cut_disks, "contents differ");
    }

    #[test]
    fn how_a_valid_stream_is_cut_makes_no_difference(
        steps in prop::collection::vec(step(), 1..12),
        cuts in cuts(),
        chunk in prop_oneof![1..100usize, 1000..100_000usize],
        digests in any::<bool>(),
    ) {
        let whole = play(&steps, &[usize::MAX], 1 << 20, digests);
        let cut = play(&steps, &cuts, chunk, digests);
        prop_assert_eq!(&whole.0, &cut.0);
        prop_assert_eq!(&whole.1, &cut.1);
        prop_assert!(whole.2 == cut.2, "contents differ");
    }

    #[test]
    fn bytes_at_random_never_panic_and_leave_nothing(
        greeted in any::<bool>(),
        digests in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in cuts(),
    ) {
        let mut world = World::with_namespaces();
        let host = Host::open(&mut world, ListenerKind::Io, PEER);
        if greeted {
            world.send(host.line, &icreq(digests, digests).encode());
        }
        send_cut(&mut world, &host, &bytes, &cuts);
        world.hang_up(host.line);
        world.advance(Duration::from_secs(15));
        prop_assert!(world.is_closed(host.line));
        prop_assert_eq!(world.heap.used(), 0);
    }

    #[test]
    fn damaged_streams_never_panic_and_leave_nothing(
        admin_queue in any::<bool>(),
        sqes in prop::collection::vec((any::<[u8; 64]>(), 0..600usize), 1..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cuts in cuts(),
    ) {
        let mut world = World::with_namespaces();
        let (admin, io) = Host::pair(&mut world);
        let host = if admin_queue { &admin } else { &io };
        let mut bytes = Vec::new();
        for (sqe, len) in &sqes {
            bytes.extend(host.capsule(Sqe::parse(sqe), &vec![7; *len]));
        }
        for (index, value) in &flips {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        send_cut(&mut world, host, &bytes, &cuts);
        world.advance(Duration::from_secs(1));
        world.hang_up(host.line);
        world.hang_up(admin.line);
        world.advance(Duration::from_secs(40));
        prop_assert!(world.is_closed(admin.line) && world.is_closed(io.line));
        prop_assert_eq!(world.heap.used(), 0);
        prop_assert_eq!(world.desk.controllers(), 0);
    }

    #[test]
    fn admin_commands_with_any_dwords_are_answered_or_pending(
        opcode in prop_oneof![Just(2u8), Just(6), Just(8), Just(9), Just(10), Just(12), Just(0x18), any::<u8>()],
        nsid in prop_oneof![0..4u32, any::<u32>()],
        dwords in any::<[u32; 6]>(),
        small in any::<[u8; 6]>(),
        narrow in any::<bool>(),
        room in 0..5000u32,
    ) {
        let mut world = World::with_namespaces();
        let (mut admin, _) = Host::admin(&mut world, &Identity::admin());
        let pick = |index: usize| if narrow { u32::from(small[index]) } else { dwords[index] };
        let sqe = Sqe {
            cdw10: pick(0),
            cdw11: pick(1),
            cdw12: pick(2),
            cdw13: pick(3),
            cdw14: pick(4),
            cdw15: pick(5),
            ..Sqe::new(opcode, nsid)
        };
        admin.submit(&mut world, sqe, room);
        for got in admin.take(&mut world) {
            if let Got::Data(_, data) = got {
                prop_assert!(data.len() <= room as usize);
            }
        }
        prop_assert!(!world.is_closed(admin.line));
    }
}
