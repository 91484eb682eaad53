//! A simulated host: the `host` crate's machines on endpoints of the world, connecting again whenever they are lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use host::{
    Cid, Completion, ConnectConfig, Controller, ControllerConfig, ControllerEvent, Failure, Fault, Payload,
    Phase, Queue, QueueConfig, Step,
};
use io::Time;
use nvme::command::Abort;
use nvme::fabrics::ConnectData;
use nvme::identify::AsyncEvents;
use nvme::{Nqn, Sqe};

use super::TargetMessage;
use crate::{Arrived, Endpoint, EndpointId, World};

/// How long a host waits before it connects again.
const RECONNECT: Duration = Duration::from_millis(50);

/// Longest time for which what a proxy held back is on its way once that goes on.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Keep alive timeout of every association.
const KATO_MS: u32 = 5_000;

/// One host.
#[derive(Debug)]
pub(crate) struct SimHost {
    address: SocketAddr,
    config: ControllerConfig,
    wanted: u16,
    state: State,
    /// Connections left behind a proxy that has stopped.
    left: Vec<Endpoint<TargetMessage>>,
    /// When such a proxy has gone on last.
    released_at: Option<Time>,
    /// Tags of commands that ended with a completion.
    pub(crate) ended: Vec<Ended>,
    /// Tags of commands that were lost with their connection.
    pub(crate) lost: Vec<u64>,
    /// How often an association became ready.
    pub(crate) ready_count: u64,
    /// Why the target ended an association that this host had not let go, and on which queue.
    pub(crate) thrown_off: Option<ThrownOff>,
    /// When a shutdown under way was asked for.
    shutting_since: Option<u64>,
    /// When a shutdown that is complete was asked for.
    pub(crate) shut_since: Option<u64>,
}

/// A command's end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) tag: u64,
    pub(crate) status: nvme::Status,
    pub(crate) data: Vec<u8>,
}

/// The end of an association that its host did not want.
#[derive(Debug)]
pub(crate) struct ThrownOff {
    /// The queue on which it showed, 0 for the admin queue.
    pub(crate) qid: u16,
    /// How.
    pub(crate) failure: Failure,
}

#[derive(Debug)]
enum State {
    Down { until: Time },
    Up(Box<Association>),
}

#[derive(Debug)]
struct Association {
    admin: Controller,
    endpoint: Endpoint<TargetMessage>,
    queues: Vec<IoQueue>,
    opened: bool,
    over: bool,
    thrown_off: Option<ThrownOff>,
    shut_down: bool,
}

#[derive(Debug)]
struct IoQueue {
    queue: Queue<Vec<u8>>,
    endpoint: Endpoint<TargetMessage>,
    commands: BTreeMap<Cid, u64>,
}

impl SimHost {
    pub(crate) fn new(number: u8, subsystem_nqn: Nqn, queues: u16, digests: bool) -> Self {
        let connect = ConnectConfig {
            host_id: [number + 1; 16],
            host_nqn: Self::nqn(number),
            subsystem_nqn,
            cntlid: ConnectData::CNTLID_DYNAMIC,
            kato_ms: KATO_MS,
            disable_sq_flow_control: number % 2 == 1,
        };
        let admin =
            QueueConfig { header_digest: digests, data_digest: digests, ..QueueConfig::admin(connect) };
        Self {
            // Ports differ from connection to connection, the address is the host's.
            address: SocketAddr::from(([127, 0, 1, number], 0)),
            config: ControllerConfig {
                admin,
                io_queues: queues,
                io_queue_entries: 64,
                async_event_requests: 1,
                async_events: AsyncEvents::default(),
                step_timeout: Duration::from_secs(20),
            },
            wanted: queues,
            state: State::Down { until: Time(0) },
            left: Vec::new(),
            released_at: None,
            ended: Vec::new(),
            lost: Vec::new(),
            ready_count: 0,
            thrown_off: None,
            shutting_since: None,
            shut_since: None,
        }
    }

    /// The NQN of host `number`.
    pub(crate) fn nqn(number: u8) -> Nqn {
        let text = format!("nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-0000000000{number:02}");
        Nqn::new(&text).expect("an NQN in its simplest form")
    }

    /// Does what can be done: connects, sends, receives, answers timers.
    pub(crate) fn run(&mut self, world: &mut World<TargetMessage>, target: SocketAddr, port: u16) {
        let now = world.now();
        if let State::Down { until } = self.state {
            if now < until {
                return;
            }
            self.address.set_port(port);
            let Some(endpoint) = world.connect_from(self.address, target) else {
                self.state = State::Down { until: now + RECONNECT };
                return;
            };
            let admin = Controller::new(self.config.clone(), now);
            self.state = State::Up(Box::new(Association {
                admin,
                endpoint,
                queues: Vec::new(),
                opened: false,
                over: false,
                thrown_off: None,
                shut_down: false,
            }));
        }
        let State::Up(association) = &mut self.state else { return };
        association.run_admin(now);
        if association.opened && association.queues.is_empty() && !association.over {
            self.ready_count += 1;
            association.open_queues(world, self.address, target, self.wanted);
        }
        let is_shutting_down = self.shutting_since.is_some();
        if std::mem::take(&mut association.shut_down) {
            self.shut_since = self.shutting_since.take();
        }
        association.run_queues(&mut self.ended, is_shutting_down);
        if association.over {
            self.thrown_off = association.thrown_off.take().filter(|_| !association.was_cut());
            self.drop_connections(now, false);
        }
    }

    /// Lets all connections go. With `stall` a proxy keeps what was sent and delivers it later.
    pub(crate) fn drop_connections(&mut self, now: Time, stall: bool) {
        self.shutting_since = None;
        let down = State::Down { until: now + RECONNECT };
        let State::Up(association) = std::mem::replace(&mut self.state, down) else { return };
        let Association { mut endpoint, queues, .. } = *association;
        if stall {
            endpoint.stall();
            self.left.push(endpoint);
        }
        for mut queue in queues {
            self.lost.extend(std::mem::take(&mut queue.commands).into_values());
            if stall {
                queue.endpoint.stall();
                self.left.push(queue.endpoint);
            }
        }
    }

    /// Shuts the controller down in order; `at` is the model's time.
    pub(crate) fn shut_down(&mut self, now: Time, at: u64) {
        if let (true, State::Up(association)) = (self.is_ready(), &mut self.state)
            && self.shutting_since.is_none()
        {
            association.admin.shutdown(now);
            self.shutting_since = Some(at);
        }
    }

    /// The proxies go on: what they held back arrives now.
    pub(crate) fn release_left(&mut self, now: Time) {
        if !self.left.is_empty() {
            self.released_at = Some(now);
        }
        for mut endpoint in self.left.drain(..) {
            endpoint.resume();
        }
    }

    /// Submits commands one after another on some queue, each with its tag; false if none takes them.
    pub(crate) fn submit(&mut self, choice: usize, commands: Vec<(u64, Sqe, Payload<Vec<u8>>)>) -> bool {
        let State::Up(association) = &mut self.state else { return false };
        let count = association.queues.len();
        if count == 0 {
            return false;
        }
        let queue = &mut association.queues[choice % count];
        if !matches!(queue.queue.phase(), Phase::Live(_)) || queue.queue.room() < commands.len() {
            return false;
        }
        for (tag, sqe, payload) in commands {
            let Ok(cid) = queue.queue.submit(sqe, payload) else { return false };
            queue.commands.insert(cid, tag);
        }
        true
    }

    /// Asks for a command to be aborted; false if it is not under way or the admin queue is full.
    pub(crate) fn abort(&mut self, tag: u64) -> bool {
        let State::Up(association) = &mut self.state else { return false };
        let found = (1..).zip(&association.queues).find_map(|(sqid, queue)| {
            let cid = queue.commands.iter().find(|(_, open)| **open == tag)?.0;
            Some(Abort { sqid, cid: cid.0 })
        });
        found.is_some_and(|abort| association.admin.submit(abort.encode(), Payload::None).is_ok())
    }

    /// Whether a Connect that a proxy held back may just have arrived: to the target it is a new association of the host,
    /// which ends the one that it has.
    pub(crate) fn may_be_displaced(&self, now: Time) -> bool {
        self.released_at.is_some_and(|released_at| now.since(released_at) < LATE_MAX)
    }

    /// True while an association is ready and its queues are connected.
    pub(crate) fn is_ready(&self) -> bool {
        let State::Up(association) = &self.state else { return false };
        let live = |queue: &IoQueue| matches!(queue.queue.phase(), Phase::Live(_));
        !association.queues.is_empty() && association.queues.iter().all(live)
    }

    /// When to run again at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Down { until } => Some(*until),
            State::Up(association) => association.admin.deadline(),
        }
    }

    /// How many associations became ready.
    pub(crate) fn associations(&self) -> u64 {
        self.ready_count
    }

    pub(crate) fn owns(&self, id: EndpointId) -> bool {
        match &self.state {
            State::Down { .. } => false,
            State::Up(association) => {
                association.endpoint.id() == id
                    || association.queues.iter().any(|queue| queue.endpoint.id() == id)
            }
        }
    }
}

impl Association {
    fn run_admin(&mut self, now: Time) {
        let Self { admin, endpoint, .. } = self;
        let mut bytes = [0; 8192];
        if admin.deadline().is_some_and(|deadline| deadline <= now) {
            admin.handle_timeout(now);
        }
        loop {
            while let Some(out) = admin.poll_transmit() {
                let count = endpoint.write(out);
                admin.transmitted(now, count);
                if count == 0 {
                    break;
                }
            }
            match endpoint.read(&mut bytes) {
                Arrived::Bytes(count) => admin.handle_bytes(now, &bytes[..count]),
                Arrived::Nothing => break,
                Arrived::End | Arrived::Broken => {
                    admin.handle_closed(now);
                    break;
                }
            }
        }
        while let Some(event) = self.admin.poll_event() {
            match event {
                ControllerEvent::Ready => self.opened = true,
                ControllerEvent::Failed(failure) => self.throw_off(0, failure),
                ControllerEvent::ShutDown => (self.over, self.shut_down) = (true, true),
                ControllerEvent::AsyncEvent(_) | ControllerEvent::Completion(_) => {}
            }
        }
    }

    fn run_queues(&mut self, ended: &mut Vec<Ended>, is_shutting_down: bool) {
        for at in 0..self.queues.len() {
            let queue = &mut self.queues[at];
            queue.run(ended);
            let (qid, failure) = (queue.queue.config().qid, queue.failure());
            match failure {
                // A controller that shuts down ends its I/O queues first.
                Some(Failure::Fault(Fault::Closed | Fault::Cut)) if is_shutting_down => {}
                Some(failure) => self.throw_off(qid, failure),
                None => {}
            }
        }
    }

    /// Whether one of its connections broke by itself.
    fn was_cut(&self) -> bool {
        self.endpoint.was_cut() || self.queues.iter().any(|queue| queue.endpoint.was_cut())
    }

    /// It is over; the first reason is the one that counts.
    fn throw_off(&mut self, qid: u16, failure: Failure) {
        self.over = true;
        self.thrown_off.get_or_insert(ThrownOff { qid, failure });
    }

    fn open_queues(
        &mut self,
        world: &mut World<TargetMessage>,
        from: SocketAddr,
        target: SocketAddr,
        wanted: u16,
    ) {
        for qid in 1..=wanted.min(self.admin.io_queues()) {
            let Some(config) = self.admin.io_queue_config(qid) else { return };
            let mut from = from;
            from.set_port(from.port().wrapping_add(qid));
            let Some(endpoint) = world.connect_from(from, target) else {
                self.over = true;
                return;
            };
            let queue = IoQueue { queue: Queue::new(config), endpoint, commands: BTreeMap::new() };
            self.queues.push(queue);
        }
    }
}

impl IoQueue {
    fn run(&mut self, ended: &mut Vec<Ended>) {
        let mut bytes = [0; 16_384];
        loop {
            while let Some(out) = self.queue.poll_transmit() {
                let count = self.endpoint.write(out);
                self.queue.transmitted(count);
                if count == 0 {
                    break;
                }
            }
            let over = match self.endpoint.read(&mut bytes) {
                Arrived::Bytes(count) => self.queue.handle_bytes(&bytes[..count]).is_err(),
                Arrived::Nothing => break,
                Arrived::End | Arrived::Broken => true,
            };
            if over {
                self.queue.handle_closed();
                break;
            }
        }
        while let Some(Completion { cid, result, payload }) = self.queue.poll_completion() {
            let Ok(cqe) = result else { continue };
            let Some(tag) = self.commands.remove(&cid) else { continue };
            let data = match payload {
                Payload::Read(data) => data,
                Payload::None | Payload::Write(_) => Vec::new(),
            };
            ended.push(Ended { tag, status: cqe.status, data });
        }
    }

    /// Why the queue is over, if it is.
    fn failure(&self) -> Option<Failure> {
        match self.queue.phase() {
            Phase::Closed(fault) => Some(fault.clone().into()),
            Phase::Refused(cqe) => Some(Failure::Refused { step: Step::Connect, cqe: *cqe }),
            Phase::Initialising | Phase::Initialised | Phase::Connecting | Phase::Live(_) => None,
        }
    }
}
