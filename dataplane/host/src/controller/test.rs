//! The association against a controller that answers by a table. Goal: the steps come in order
//! with the right commands, timers fire when they must and only then, and every refusal ends the
//! association with its reason. Time is counted by hand.

use nvme::command::FABRICS;
use nvme::event::EventType;
use nvme::fabrics::{Cc, Connect, Csts, FabricsType, PropertyGet, PropertySet, Shutdown, ShutdownStatus};
use nvme::features::NumberOfQueues;
use nvme::identify::{Cns, Identify};
use nvme::log::LogPage;
use nvme::pdu::{C2hData, CapsuleResp, Codec, HEADER_LEN_MAX, IcResp, Receiver};
use nvme::text::Count8;
use nvme::{Event, Framer, Limits, Nqn, Pdu, Status};

use super::*;
use crate::{ConnectConfig, Lost, crc32c};

const SECOND: Duration = Duration::from_secs(1);

/// A controller that is well-behaved unless told otherwise.
struct Target {
    framer: Framer,
    commands: Vec<Sqe>,
    sqhd: u16,
    cc: Cc,
    csts: Csts,
    /// Looks at CSTS before it says ready.
    ready_after: u32,
    event_requests: Vec<u16>,
    silent_keep_alive: bool,
    refuse_features: bool,
}

impl Target {
    fn new() -> Self {
        let limits = Limits { capsule_data_max_bytes: 8192, transfer_data_max_bytes: 0 };
        Self {
            framer: Framer::new(Receiver::Controller, limits, crc32c),
            commands: Vec::new(),
            sqhd: 0,
            cc: Cc::default(),
            csts: Csts::default(),
            ready_after: 0,
            event_requests: Vec::new(),
            silent_keep_alive: false,
            refuse_features: false,
        }
    }

    /// Takes all that the host has to send and gives the answers back, until both are quiet.
    fn run(&mut self, host: &mut Controller, now: Time) {
        while let Some(bytes) = host.poll_transmit().map(<[u8]>::to_vec) {
            host.transmitted(now, bytes.len());
            let answers = self.read(&bytes);
            host.handle_bytes(now, &answers);
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        while let Some(event) = self.framer.poll(&mut bytes).expect("the host sends well-formed PDUs") {
            match event {
                Event::Header(frame) => match frame.pdu {
                    Pdu::IcReq(_) => {
                        let response = IcResp {
                            alignment_bytes: 4,
                            header_digest: false,
                            data_digest: false,
                            h2c_data_max_bytes: 4096,
                        };
                        answers.extend(response.encode());
                    }
                    Pdu::CapsuleCmd(capsule) => {
                        self.sqhd = (self.sqhd + 1) % 32;
                        self.commands.push(capsule.sqe);
                        self.answer(capsule.sqe, &mut answers);
                    }
                    other => panic!("unexpected {other:?}"),
                },
                Event::Data(_) | Event::End { .. } => {}
            }
        }
        answers
    }

    fn answer(&mut self, sqe: Sqe, answers: &mut Vec<u8>) {
        let mut result = 0;
        let mut status = Status::SUCCESS;
        if sqe.opcode == FABRICS {
            match FabricsType::parse(&sqe) {
                Some(FabricsType::Connect) => result = 0x17,
                Some(FabricsType::PropertyGet) => {
                    result = self.property(PropertyGet::parse(&sqe).unwrap().offset)
                }
                Some(FabricsType::PropertySet) => {
                    self.cc = Cc::parse(PropertySet::parse(&sqe).unwrap().value as u32);
                }
                other => panic!("unexpected {other:?}"),
            }
        } else {
            match AdminOpcode::parse(sqe.opcode) {
                Some(AdminOpcode::Identify) => answers.extend(identify(sqe.cid)),
                Some(AdminOpcode::SetFeatures) if self.refuse_features => {
                    status = Status::INVALID_FIELD.dnr()
                }
                Some(AdminOpcode::SetFeatures) => {
                    result = u64::from(NumberOfQueues { submission: 2, completion: 3 }.encode());
                }
                Some(AdminOpcode::AsyncEventRequest) => return self.event_requests.push(sqe.cid),
                Some(AdminOpcode::KeepAlive) if self.silent_keep_alive => return,
                Some(AdminOpcode::KeepAlive | AdminOpcode::GetLogPage) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        answers.extend(self.response(Cqe { result, ..Cqe::new(sqe.cid, status) }));
    }

    fn property(&mut self, offset: u32) -> u64 {
        match offset {
            0x00 => Cap { queue_entries_max: 128, timeout_500ms: 4, ..Cap::parse(0) }.encode(),
            0x08 => u64::from(Version::V2_0.encode()),
            0x1c => {
                self.csts.ready = self.cc.enable && self.ready_after == 0;
                self.ready_after = self.ready_after.saturating_sub(1);
                if self.cc.shutdown == Shutdown::Normal {
                    self.csts.shutdown = ShutdownStatus::Complete;
                }
                u64::from(self.csts.encode())
            }
            other => panic!("property {other:x}"),
        }
    }

    fn response(&self, cqe: Cqe) -> Vec<u8> {
        let mut out = [0; HEADER_LEN_MAX];
        let cqe = Cqe { sqhd: self.sqhd, ..cqe };
        let len = CapsuleResp { cqe }.encode(&Codec::initial(crc32c), &mut out);
        out[..len].to_vec()
    }
}

fn identify(cid: u16) -> Vec<u8> {
    let data = IdentifyController {
        cntlid: 0x17,
        ioccsz_16b: 516,
        async_event_limit: Count8(3),
        ..IdentifyController::default()
    };
    let mut out = [0; HEADER_LEN_MAX];
    let pdu = C2hData { cid, offset_bytes: 0, len_bytes: 4096, last: true, success: false };
    let len = pdu.encode(&Codec::initial(crc32c), &mut out);
    [&out[..len], &data.encode()].concat()
}

fn config() -> ControllerConfig {
    let connect = ConnectConfig {
        host_id: [1; 16],
        host_nqn: Nqn::new("nqn.host").unwrap(),
        subsystem_nqn: Nqn::new("nqn.subsystem").unwrap(),
        cntlid: 0xffff,
        kato_ms: 10_000,
        disable_sq_flow_control: false,
    };
    ControllerConfig {
        admin: QueueConfig::admin(connect),
        io_queues: 4,
        io_queue_entries: 1024,
        async_event_requests: 4,
        async_events: AsyncEvents::NAMESPACE_ATTRIBUTE,
        step_timeout: SECOND,
    }
}

fn host() -> Controller {
    Controller::new(config(), Time(0))
}

/// Moves time to the next deadline and handles it.
fn advance(host: &mut Controller) -> Time {
    let at = host.deadline().expect("a timer is set");
    host.handle_timeout(at);
    at
}

fn ready() -> (Controller, Target) {
    let (mut host, mut target) = (host(), Target::new());
    target.run(&mut host, Time(0));
    assert!(matches!(host.poll_event(), Some(ControllerEvent::Ready)));
    (host, target)
}

fn failure(host: &mut Controller) -> Failure {
    let Some(ControllerEvent::Failed(failure)) = host.poll_event() else { panic!("no failure") };
    assert!(host.poll_event().is_none() && host.deadline().is_none());
    failure
}

#[test]
fn an_association_becomes_ready_step_by_step() {
    let (host, target) = ready();
    let opcodes: Vec<_> = target.commands.iter().map(|sqe| (sqe.opcode, sqe.nsid, sqe.cdw11)).collect();
    assert_eq!(
        opcodes,
        [
            (0x7f, 1, 31),
            (0x7f, 4, 0x00),
            (0x7f, 4, 0x08),
            (0x7f, 0, 0x14),
            (0x7f, 4, 0x1c),
            (0x06, 0, 0),
            (0x09, 0, 0x0003_0003),
            (0x09, 0, 0x100),
            (0x0c, 0, 0),
            (0x0c, 0, 0),
            (0x0c, 0, 0),
        ]
    );
    assert_eq!(Connect::parse(&target.commands[0]).kato_ms, 10_000);
    assert_eq!(Identify::parse(&target.commands[5]).cns, Cns::Controller);
    assert_eq!(target.cc, Cc::ENABLE);
    assert_eq!((host.step(), host.cntlid(), host.version()), (Step::Ready, Some(0x17), Version::V2_0));
    assert_eq!(host.io_queues(), 2, "the lesser of what was granted");
}

#[test]
fn io_queues_take_what_the_controller_told() {
    let (controller, _) = ready();
    let queue = controller.io_queue_config(2).unwrap();
    assert_eq!((queue.qid, queue.entries, queue.capsule_data_max_bytes), (2, 128, 8192));
    let connect = queue.connect.unwrap();
    assert_eq!((connect.cntlid, connect.kato_ms), (0x17, 0));
    assert!(controller.io_queue_config(0).is_none() && controller.io_queue_config(3).is_none());
    assert!(host().io_queue_config(1).is_none(), "not ready");
}

#[test]
fn status_is_polled_until_ready() {
    let (mut host, mut target) = (host(), Target::new());
    target.ready_after = 3;
    target.run(&mut host, Time(0));
    assert_eq!(host.step(), Step::WaitReady);
    for _ in 0..3 {
        let now = advance(&mut host);
        target.run(&mut host, now);
    }
    assert_eq!(host.step(), Step::Ready);
}

#[test]
fn a_controller_that_is_never_ready_has_as_long_as_cap_to() {
    let (mut host, mut target) = (host(), Target::new());
    target.ready_after = u32::MAX;
    target.run(&mut host, Time(0));
    let mut now = Time(0);
    while host.step() == Step::WaitReady {
        now = advance(&mut host);
        target.run(&mut host, now);
    }
    assert_eq!((failure(&mut host), now), (Failure::Timeout(Step::WaitReady), Time(0) + SECOND * 2));
}

#[test]
fn a_fatal_status_ends_the_association() {
    let (mut host, mut target) = (host(), Target::new());
    target.csts.fatal = true;
    target.run(&mut host, Time(0));
    assert_eq!(failure(&mut host), Failure::Fatal);
}

#[test]
fn a_silent_controller_times_out() {
    let mut host = host();
    assert_eq!(advance(&mut host), Time(0) + SECOND);
    assert_eq!(failure(&mut host), Failure::Timeout(Step::Connect));
}

#[test]
fn a_refused_step_is_named() {
    let (mut host, mut target) = (host(), Target::new());
    target.refuse_features = true;
    target.run(&mut host, Time(0));
    let Failure::Refused { step: Step::NumberOfQueues, cqe } = failure(&mut host) else { panic!() };
    assert!(cqe.status.is(Status::INVALID_FIELD));
}

#[test]
fn keep_alive_runs_at_half_its_timeout_and_notices_silence() {
    let (mut host, mut target) = ready();
    let before = target.commands.len();
    let now = advance(&mut host);
    assert_eq!(now, Time(0) + SECOND * 5);
    target.run(&mut host, now);
    assert_eq!(target.commands[before..].iter().map(|sqe| sqe.opcode).collect::<Vec<_>>(), [0x18]);
    target.silent_keep_alive = true;
    let mut now = now;
    while host.step() == Step::Ready {
        now = advance(&mut host);
        target.run(&mut host, now);
    }
    assert_eq!((failure(&mut host), now), (Failure::Timeout(Step::KeepAlive), Time(0) + SECOND * 20));
}

#[test]
fn asynchronous_events_arrive_and_are_armed_again() {
    let (mut host, mut target) = ready();
    assert_eq!(target.event_requests.len(), 3, "no more than the controller's limit");
    let cid = target.event_requests.remove(0);
    let result = u64::from(AsyncEvent::NAMESPACE_CHANGED.encode());
    host.handle_bytes(Time(1), &target.response(Cqe { result, ..Cqe::new(cid, Status::SUCCESS) }));
    assert!(host.poll_transmit().is_none(), "armed only once taken");
    let Some(ControllerEvent::AsyncEvent(event)) = host.poll_event() else { panic!() };
    assert_eq!((event.kind, event.page), (EventType::Notice, LogPage::ChangedNamespaces));
    target.run(&mut host, Time(1));
    assert_eq!(target.event_requests.len(), 3);
    let cid = target.event_requests.remove(0);
    let aborted = Cqe::new(cid, Status::ABORT_REQUESTED);
    host.handle_bytes(Time(2), &target.response(aborted));
    target.run(&mut host, Time(2));
    assert!(host.poll_event().is_none() && target.event_requests.len() == 2, "an aborted one is not");
}

#[test]
fn commands_of_the_owner_run_beside_and_leave_room() {
    let (mut host, mut target) = ready();
    let flush = || Sqe::new(AdminOpcode::GetLogPage.code(), 0);
    let cid = host.submit(flush(), Payload::None).unwrap();
    target.run(&mut host, Time(0));
    let Some(ControllerEvent::Completion(completion)) = host.poll_event() else { panic!() };
    assert!(completion.cid == cid && completion.is_success());
    let mut taken = 0;
    while host.submit(flush(), Payload::None).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 31 - 3 - 2, "three event requests, and room for two commands");
    host.handle_closed(Time(0));
    let lost = std::iter::from_fn(|| host.poll_event())
        .filter(|event| matches!(event, ControllerEvent::Completion(Completion { result: Err(Lost), .. })))
        .count();
    assert_eq!(lost, taken);
}

#[test]
fn a_shutdown_waits_for_its_status() {
    let (mut host, mut target) = ready();
    host.shutdown(Time(5));
    target.run(&mut host, Time(5));
    assert_eq!(target.cc.shutdown, Shutdown::Normal);
    assert!(matches!(host.poll_event(), Some(ControllerEvent::ShutDown)));
    host.handle_closed(Time(6));
    assert!(host.poll_event().is_none() && host.deadline().is_none(), "closing is not a failure now");
}

#[test]
fn a_shutdown_may_overtake_a_step() {
    let (mut host, mut target) = (host(), Target::new());
    target.ready_after = u32::MAX;
    target.run(&mut host, Time(0));
    let at = host.deadline().unwrap();
    host.handle_timeout(at);
    host.shutdown(at);
    target.run(&mut host, at);
    assert!(matches!(host.poll_event(), Some(ControllerEvent::ShutDown)));
}

#[test]
fn a_lost_connection_is_a_failure_with_its_fault() {
    let (mut host, _) = ready();
    host.handle_closed(Time(0));
    assert_eq!(failure(&mut host), Failure::Fault(Fault::Closed));
}
