//! Hosts that come, work, misbehave and go in any order while namespaces change under them and the store takes its time.
//!
//! Each case is a random history. Held against it: no panic and no livelock, fences pass exactly once and only when
//! what they wait for has ended, no request of an association after a later Connect of its path was answered, and in
//! the end every byte of memory, every controller and every queue is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nvme::command::{Abort, LbaRange, NvmCommand};
use nvme::fabrics::{Cc, Property, PropertySet, Shutdown, disconnect};
use nvme::pdu::H2cData;
use nvme::{Fuse, Sgl, Sqe};
use proptest::prelude::*;
use subsystem::{HostAcl, ListenerKind, SectorSize};

use crate::host::{Got, Host, Identity, PEER, icreq};
use crate::world::{World, nqn, shape};

const NAMES: [&str; 2] = ["nqn.2014-08.org.example:one", "nqn.2014-08.org.example:two"];

#[derive(Clone, Debug)]
enum Action {
    Admin { host: usize, kato_s: u32, reads: bool },
    Io { host: usize, qid: u16 },
    Command { pick: usize, kind: u8, slba: u64, blocks: u32 },
    Deliver { pick: usize, part: usize },
    AdminCommand { pick: usize, kind: u8, value: u16 },
    HangUp { pick: usize },
    Garbage { pick: usize, byte: u8 },
    Read { pick: usize, reads: bool },
    Hold { hold: bool },
    Release { count: usize },
    Namespace { nsid: u32, blocks: u64, acl: u8, remove: bool },
    Memory { limit: usize },
    Wait { ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let pick = any::<usize>();
    prop_oneof![
        2 => (0..2usize, 0..3u32, any::<bool>())
            .prop_map(|(host, kato_s, reads)| Action::Admin { host, kato_s, reads }),
        4 => (0..2usize, 1..4u16).prop_map(|(host, qid)| Action::Io { host, qid }),
        8 => (pick, 0..8u8, 0..8192u64, 1..300u32)
            .prop_map(|(pick, kind, slba, blocks)| Action::Command { pick, kind, slba, blocks }),
        4 => (pick, 1..40_000usize).prop_map(|(pick, part)| Action::Deliver { pick, part }),
        3 => (pick, 0..8u8, any::<u16>())
            .prop_map(|(pick, kind, value)| Action::AdminCommand { pick, kind, value }),
        1 => pick.prop_map(|pick| Action::HangUp { pick }),
        1 => (pick, any::<u8>()).prop_map(|(pick, byte)| Action::Garbage { pick, byte }),
        1 => (pick, any::<bool>()).prop_map(|(pick, reads)| Action::Read { pick, reads }),
        2 => any::<bool>().prop_map(|hold| Action::Hold { hold }),
        3 => (1..10usize).prop_map(|count| Action::Release { count }),
        2 => (1..4u32, 1..9000u64, 0..4u8, any::<bool>())
            .prop_map(|(nsid, blocks, acl, remove)| Action::Namespace { nsid, blocks, acl, remove }),
        1 => prop_oneof![Just(0), Just(40_000), Just(usize::MAX)].prop_map(|limit| Action::Memory { limit }),
        2 => (1..4000u64).prop_map(|ms| Action::Wait { ms }),
    ]
}

/// The hosts' side of a history.
struct Story {
    world: World,
    lines: Vec<Line>,
    token: u64,
    /// Requests running per namespace when a fence was raised, by token.
    fences: BTreeMap<u64, u32>,
}

struct Line {
    host: Host,
    /// The CNTLID that Connect gave, on admin queues.
    cntlid: Option<u16>,
    name: usize,
    admin: bool,
    /// R2Ts not answered yet: CID, tag, length, sent so far.
    owed: Vec<(u16, u16, u32, u32)>,
}

impl Story {
    fn new() -> Self {
        Self { world: World::with_namespaces(), lines: Vec::new(), token: 0, fences: BTreeMap::new() }
    }

    fn pick(&self, pick: usize, admin: bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.lines.len()).filter(|index| self.lines[*index].admin == admin).collect();
        fitting.get(pick.checked_rem(fitting.len())?).copied()
    }

    /// Takes what has come on every line and notes R2Ts and CNTLIDs.
    fn listen(&mut self) {
        for line in &mut self.lines {
            for got in line.host.take(&mut self.world) {
                match got {
                    Got::R2t(r2t) => line.owed.push((r2t.cid, r2t.ttag, r2t.len_bytes, 0)),
                    Got::Response(cqe) if cqe.cid == 0xc0 && cqe.status.is_success() => {
                        line.cntlid = Some(cqe.result as u16);
                        let cc = Cc::ENABLE.encode();
                        let sqe = Sqe { cid: 0xc1, ..PropertySet::encode(Property::Cc, cc.into()) };
                        let bytes = line.host.capsule(sqe, &[]);
                        if line.admin {
                            self.world.send_later(line.host.line, &bytes);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.world.pump();
    }

    fn open(&mut self, name: usize, identity: &Identity, reads: bool) {
        let mut host = Host::open(&mut self.world, ListenerKind::Io, PEER);
        self.world.send(host.line, &icreq(false, false).encode());
        host.take(&mut self.world);
        self.world.socket(host.line).host_reads = reads;
        let bytes = host.in_capsule(Sqe { cid: 0xc0, ..identity.sqe() }, &identity.data());
        self.world.send(host.line, &bytes);
        let admin = identity.qid == 0;
        self.lines.push(Line { host, cntlid: None, name, admin, owed: Vec::new() });
    }

    fn play(&mut self, action: &Action) {
        match *action {
            Action::Admin { host, kato_s, reads } => {
                let identity = Identity { kato_ms: kato_s * 1000, ..Identity::of(NAMES[host]) };
                self.open(host, &identity, reads);
            }
            Action::Io { host, qid } => {
                let of = |line: &&Line| line.admin && line.name == host && line.cntlid.is_some();
                let Some(cntlid) = self.lines.iter().rev().find(of).and_then(|line| line.cntlid) else {
                    return;
                };
                let identity = Identity { cntlid, qid, entries: 16, ..Identity::of(NAMES[host]) };
                self.open(host, &identity, true);
            }
            Action::Command { pick, kind, slba, blocks } => self.command(pick, kind, slba, blocks),
            Action::Deliver { pick, part } => self.deliver(pick, part),
            Action::AdminCommand { pick, kind, value } => self.admin_command(pick, kind, value),
            Action::HangUp { pick } => {
                if let Some(index) = pick.checked_rem(self.lines.len()) {
                    self.world.hang_up(self.lines[index].host.line);
                }
            }
            Action::Garbage { pick, byte } => {
                if let Some(index) = pick.checked_rem(self.lines.len()) {
                    self.world.send(self.lines[index].host.line, &[byte; 90]);
                }
            }
            Action::Read { pick, reads } => {
                if let Some(index) = pick.checked_rem(self.lines.len()) {
                    let line = self.lines[index].host.line;
                    self.world.socket(line).host_reads = reads;
                    self.world.pump();
                }
            }
            Action::Hold { hold } => {
                self.world.hold = hold;
                if !hold {
                    self.world.release();
                }
            }
            Action::Release { count } => {
                for _ in 0..count.min(self.world.held.len()) {
                    self.world.serve_oldest();
                }
            }
            Action::Namespace { nsid, blocks, acl, remove } => self.change(nsid, blocks, acl, remove),
            Action::Memory { limit } => self.world.heap.limit = limit,
            Action::Wait { ms } => self.world.advance(Duration::from_millis(ms)),
        }
        self.listen();
        self.check_fences();
    }

    fn command(&mut self, pick: usize, kind: u8, slba: u64, blocks: u32) {
        let Some(index) = self.pick(pick, false) else { return };
        let host = &mut self.lines[index].host;
        let cid = host.cid();
        let nsid = 1 + u32::from(kind & 1);
        let range = LbaRange::new(slba, blocks);
        let len_bytes = blocks << if nsid == 1 { 9 } else { 12 };
        let transport = Sgl::Transport { len_bytes };
        let bytes = match kind / 2 {
            0 => host.capsule(Sqe { cid, ..NvmCommand::Read(range).encode(nsid) }.with_sgl(transport), &[]),
            1 => host.capsule(Sqe { cid, ..NvmCommand::Write(range).encode(nsid) }.with_sgl(transport), &[]),
            2 => {
                let fuse = if slba.is_multiple_of(2) { Fuse::First } else { Fuse::Second };
                let command = match fuse {
                    Fuse::First => NvmCommand::Compare(LbaRange::new(0, 1)),
                    _ => NvmCommand::Write(LbaRange::new(0, 1)),
                };
                let data = vec![0; if nsid == 1 { 512 } else { 4096 }];
                host.in_capsule(Sqe { cid, fuse, ..command.encode(nsid) }, &data)
            }
            _ if slba.is_multiple_of(16) => host.capsule(Sqe { cid, ..disconnect() }, &[]),
            _ => host.capsule(Sqe { cid, ..Sqe::new(0, nsid) }, &[]),
        };
        let line = host.line;
        self.world.send(line, &bytes);
    }

    /// Sends a part of the data that was asked for.
    fn deliver(&mut self, pick: usize, part: usize) {
        let owing: Vec<usize> =
            (0..self.lines.len()).filter(|index| !self.lines[*index].owed.is_empty()).collect();
        let Some(index) = pick.checked_rem(owing.len()).map(|pick| owing[pick]) else { return };
        let line = &mut self.lines[index];
        let (cid, ttag, len, sent) = &mut line.owed[0];
        let len_bytes = (part as u32).min(*len - *sent);
        let last = *sent + len_bytes == *len;
        let pdu = H2cData { cid: *cid, ttag: *ttag, offset_bytes: *sent, len_bytes, last };
        *sent += len_bytes;
        if last {
            line.owed.remove(0);
        }
        let bytes = line.host.h2c_data(pdu, &vec![1; len_bytes as usize]);
        let line = line.host.line;
        self.world.send(line, &bytes);
    }

    fn admin_command(&mut self, pick: usize, kind: u8, value: u16) {
        let Some(index) = self.pick(pick, true) else { return };
        let host = &mut self.lines[index].host;
        let cc = |cc: Cc| PropertySet::encode(Property::Cc, cc.encode().into());
        let sqe = match kind {
            0 => cc(Cc::default()),
            1 => cc(Cc::ENABLE),
            2 => cc(Cc { shutdown: Shutdown::Normal, ..Cc::ENABLE }),
            3 => Abort { sqid: value % 4, cid: 0x11 + value / 4 % 8 }.encode(),
            4 => Sqe::new(0x0c, 0),
            5 => nvme::identify::Identify::new(nvme::identify::Cns::ActiveNamespaces, 0).encode(),
            6 => nvme::log::GetLogPage::new(nvme::log::LogPage::ChangedNamespaces, 0, 4096).encode(),
            _ => Sqe::new(0x18, 0),
        };
        let sqe = Sqe { cid: host.cid(), ..sqe };
        let bytes = host.capsule(sqe.with_sgl(Sgl::Transport { len_bytes: 4096 }), &[]);
        let line = host.line;
        self.world.send(line, &bytes);
    }

    fn change(&mut self, nsid: u32, blocks: u64, acl: u8, remove: bool) {
        self.token += 1;
        let token = self.token;
        self.fences.insert(token, nsid);
        if remove {
            self.world.ports.iter_mut().for_each(|ports| ports.remove_namespace(nsid, Some(token)));
            self.world.desk.remove_namespace(nsid);
        } else {
            // The sector size of a namespace is fixed, and the store keeps room for the largest.
            let sector = if nsid == 1 { SectorSize::B512 } else { SectorSize::B4096 };
            let mut shape = shape(nsid, sector, blocks.min(8192 >> (sector.shift() - 9)));
            shape.hosts = match acl {
                0 => HostAcl::None,
                1 => HostAcl::Hosts(vec![nqn(NAMES[0])]),
                _ => HostAcl::Any,
            };
            self.world.disks.entry(nsid).or_insert_with(|| vec![0; 4 << 20]);
            let shape = Arc::new(shape);
            for ports in &mut self.world.ports {
                ports.set_namespace(Arc::clone(&shape), Some(token));
            }
            self.world.desk.set_namespace(shape);
        }
        self.world.pump();
    }

    /// A fence passes once per reactor, and has passed wherever nothing of its namespace runs.
    fn check_fences(&self) {
        for (token, nsid) in &self.fences {
            for port in 0..self.world.ports.len() {
                let passed = self.world.fenced.iter().filter(|fenced| **fenced == (port, *token)).count();
                assert!(passed <= 1, "fence {token} passed {passed} times");
                let runs = self.world.held.iter().any(|(at, request)| *at == port && request.nsid == *nsid);
                assert!(passed == 1 || runs, "fence {token} waits for nothing");
            }
        }
    }

    fn end(mut self) {
        self.world.heap.limit = usize::MAX;
        self.world.hold = false;
        self.world.release();
        for index in 0..self.lines.len() {
            self.world.hang_up(self.lines[index].host.line);
        }
        self.world.advance(Duration::from_secs(60));
        let open = self.lines.iter().filter(|line| !self.world.is_closed(line.host.line)).count();
        assert_eq!(open, 0, "connections");
        assert_eq!(self.world.heap.used(), 0, "memory");
        assert_eq!(self.world.desk.controllers(), 0, "controllers");
        assert_eq!(self.world.ports.iter().map(subsystem::Ports::queues).sum::<usize>(), 0, "queues");
        assert!(self.world.ports.iter().all(subsystem::Ports::is_idle));
        self.check_fences();
    }
}

/// How many histories: `PROPTEST_CASES`, or few enough for every run.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(96), ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_with_nothing_left(actions in prop::collection::vec(action(), 1..120)) {
        let mut story = Story::new();
        for action in &actions {
            story.play(action);
        }
        story.end();
    }
}
