//! An association as its host sees it: the admin queue, the steps that make the controller ready,
//! keep alive, asynchronous events and shutdown. Base spec 2.0, section 3.5 (initialisation) and
//! 3.6 (shutdown).
//!
//! Time comes in with every call and deadlines go out. Commands of the owner run beside the
//! machine's own once the controller is ready.

mod step;
mod timer;

#[cfg(test)]
mod test;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use io::Time;
use nvme::command::AdminOpcode;
use nvme::event::AsyncEvent;
use nvme::fabrics::{Cap, ConnectResponse, Version};
use nvme::identify::{AsyncEvents, IdentifyController};
use nvme::{Cqe, Sqe};

use crate::{Cid, Completion, Fault, Payload, Phase, Queue, QueueConfig, Refusal, Rejected};
pub use step::Step;
use timer::{Timer, Timers};

/// What a host wants of an association.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// The admin queue; it must connect by itself.
    pub admin: QueueConfig,
    /// I/O queues wanted; 0 for a discovery controller, which has none.
    pub io_queues: u16,
    /// Entries of each I/O queue, cut to what the controller supports.
    pub io_queue_entries: u32,
    /// Asynchronous Event Requests to keep outstanding, cut to what the controller supports.
    pub async_event_requests: u16,
    /// Asynchronous events to enable; none leaves the controller's default.
    pub async_events: AsyncEvents,
    /// How long each step may take, but for those whose limit the controller tells.
    pub step_timeout: Duration,
}

/// What happened on an association.
#[derive(Debug)]
pub enum ControllerEvent {
    /// The controller is ready; I/O queues may connect.
    Ready,
    /// An asynchronous event. Taking it arms the request again.
    AsyncEvent(AsyncEvent),
    /// A command of the owner ended.
    Completion(Completion<Vec<u8>>),
    /// The controller has shut down; close the connections.
    ShutDown,
    /// The association is over, once the termination request that may be left is sent.
    Failed(Failure),
}

/// Why an association is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The admin queue's connection ended.
    #[error("admin queue: {0}")]
    Fault(#[from] Fault),
    /// The controller answered a step with an error.
    #[error("{step:?} refused: {}", .cqe.status)]
    Refused {
        /// The step.
        step: Step,
        /// The answer.
        cqe: Cqe,
    },
    /// A step, or an answer to Keep Alive, did not come in time.
    #[error("{0:?} timed out")]
    Timeout(Step),
    /// The controller reports a fatal status (CSTS.CFS).
    #[error("controller fatal status")]
    Fatal,
    /// The controller wants the host to authenticate, which this machine does not do.
    #[error("authentication required")]
    AuthenticationRequired,
}

/// Own commands outstanding at a time beside Asynchronous Event Requests: a step and a Keep Alive.
const OWN_COMMANDS_MAX: usize = 2;

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Of this step; a shutdown may have overtaken it.
    Step(Step),
    KeepAlive,
    AsyncEvent,
}

/// An association, from Connect to shutdown.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    queue: Queue<Vec<u8>>,
    step: Step,
    timers: Timers,
    own: BTreeMap<Cid, Purpose>,
    events: VecDeque<ControllerEvent>,
    failed: bool,
    /// Asynchronous Event Requests that are to be submitted.
    to_arm: u16,
    connected: Option<ConnectResponse>,
    cap: Cap,
    version: Version,
    identify: Box<IdentifyController>,
    io_queues: u16,
}

impl Controller {
    /// An association that is about to open its admin queue at `now`.
    pub fn new(config: ControllerConfig, now: Time) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Step, now + config.step_timeout);
        Self {
            queue: Queue::new(config.admin.clone()),
            config,
            step: Step::Connect,
            timers,
            own: BTreeMap::new(),
            events: VecDeque::new(),
            failed: false,
            to_arm: 0,
            connected: None,
            cap: Cap::parse(0),
            version: Version::default(),
            identify: Box::default(),
            io_queues: 0,
        }
    }

    /// Takes bytes from the controller.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        let result = self.queue.handle_bytes(bytes);
        self.drive(now);
        if let Err(fault) = result {
            self.fail(fault.into());
        }
    }

    /// The admin queue's connection is gone.
    pub fn handle_closed(&mut self, now: Time) {
        self.queue.handle_closed();
        self.drive(now);
    }

    /// Does what is due at `now`; nothing is, before [`Controller::deadline`].
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Step => self.fail(Failure::Timeout(self.step)),
                Timer::Poll => self.poll_status(),
                Timer::KeepAlive => self.send_keep_alive(now),
                Timer::KeepAliveAnswer => self.fail(Failure::Timeout(Step::KeepAlive)),
            }
        }
    }

    /// When to call [`Controller::handle_timeout`] next.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The next event. Draining them after each call keeps the machine small.
    pub fn poll_event(&mut self) -> Option<ControllerEvent> {
        let event = self.events.pop_front()?;
        if matches!(event, ControllerEvent::AsyncEvent(_)) {
            self.to_arm += 1;
            self.arm();
        }
        Some(event)
    }

    /// As [`Queue::poll_transmit`].
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.queue.poll_transmit()
    }

    /// As [`Queue::gather`].
    pub fn gather<'a>(&'a mut self, slices: &mut Vec<&'a [u8]>) -> usize {
        self.queue.gather(slices)
    }

    /// As [`Queue::transmitted`].
    pub fn transmitted(&mut self, now: Time, count: usize) {
        self.queue.transmitted(count);
        // A command whose payload was still leaving may have completed.
        self.drive(now);
    }

    /// Submits an admin command of the owner; its end is a [`ControllerEvent::Completion`]. Entries
    /// for the machine's own commands are kept back.
    pub fn submit(&mut self, sqe: Sqe, payload: Payload<Vec<u8>>) -> Result<Cid, Rejected<Vec<u8>>> {
        if self.queue.room() <= usize::from(self.to_arm) + OWN_COMMANDS_MAX {
            return Err(Rejected { refusal: Refusal::Full, payload });
        }
        self.queue.submit(sqe, payload)
    }

    /// Begins a normal shutdown; its end is [`ControllerEvent::ShutDown`].
    pub fn shutdown(&mut self, now: Time) {
        if !self.failed && self.step != Step::ShutDown {
            self.begin(Step::ShutDown, now);
        }
    }

    /// What to open I/O queue `qid` with (1..=[`Controller::io_queues`]); `None` until ready.
    pub fn io_queue_config(&self, qid: u16) -> Option<QueueConfig> {
        let connected = self.connected?;
        if self.step != Step::Ready || qid == 0 || qid > self.io_queues {
            return None;
        }
        let mut config = self.config.admin.clone();
        config.qid = qid;
        config.entries = self.config.io_queue_entries.min(self.cap.queue_entries_max);
        config.capsule_data_max_bytes = self.identify.capsule_data_max_bytes();
        if let Some(connect) = &mut config.connect {
            connect.cntlid = connected.cntlid;
            connect.kato_ms = 0;
        }
        Some(config)
    }

    /// The step that the machine is at.
    pub fn step(&self) -> Step {
        self.step
    }

    /// I/O queues that the controller granted, at most those wanted.
    pub fn io_queues(&self) -> u16 {
        self.io_queues
    }

    /// The controller's identifier, once connected.
    pub fn cntlid(&self) -> Option<u16> {
        self.connected.map(|connected| connected.cntlid)
    }

    /// Capabilities (CAP), once read.
    pub fn cap(&self) -> &Cap {
        &self.cap
    }

    /// Version (VS), once read.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Identify Controller, once ready.
    pub fn identify(&self) -> &IdentifyController {
        &self.identify
    }

    /// The admin queue.
    pub fn queue(&self) -> &Queue<Vec<u8>> {
        &self.queue
    }

    /// Follows the queue: its phase, then what completed.
    fn drive(&mut self, now: Time) {
        if self.step == Step::Connect {
            match self.queue.phase().clone() {
                Phase::Live(connected) => self.on_connected(connected, now),
                Phase::Refused(cqe) => self.fail(Failure::Refused { step: Step::Connect, cqe }),
                Phase::Initialising | Phase::Initialised | Phase::Connecting | Phase::Closed(_) => {}
            }
        }
        while let Some(completion) = self.queue.poll_completion() {
            match self.own.remove(&completion.cid) {
                None => self.events.push_back(ControllerEvent::Completion(completion)),
                Some(purpose) => {
                    if let Ok(cqe) = completion.result {
                        self.on_completion(purpose, cqe, completion.payload, now);
                    }
                }
            }
        }
        if let Phase::Closed(fault) = self.queue.phase().clone() {
            self.fail(fault.into());
        }
    }

    fn on_completion(&mut self, purpose: Purpose, cqe: Cqe, payload: Payload<Vec<u8>>, now: Time) {
        match purpose {
            Purpose::Step(step) if step == self.step => self.on_step(cqe, payload, now),
            Purpose::Step(_) => {}
            Purpose::KeepAlive if cqe.status.is_success() => self.timers.clear(Timer::KeepAliveAnswer),
            Purpose::KeepAlive => self.fail(Failure::Refused { step: Step::KeepAlive, cqe }),
            Purpose::AsyncEvent if cqe.status.is_success() => {
                self.events.push_back(ControllerEvent::AsyncEvent(AsyncEvent::parse(cqe.dw0())));
            }
            // Refused or aborted: armed again it would be refused again.
            Purpose::AsyncEvent => {}
        }
    }

    /// Submits a command of the machine's own. There is room, because [`Controller::submit`] keeps
    /// it; should there be none, the step's timer reports it.
    fn submit_own(&mut self, purpose: Purpose, sqe: Sqe, payload: Payload<Vec<u8>>) -> bool {
        match self.queue.submit(sqe, payload) {
            Ok(cid) => self.own.insert(cid, purpose).is_none(),
            Err(_) => false,
        }
    }

    fn arm(&mut self) {
        while self.to_arm > 0 && self.step == Step::Ready {
            let sqe = Sqe::new(AdminOpcode::AsyncEventRequest.code(), 0);
            if !self.submit_own(Purpose::AsyncEvent, sqe, Payload::None) {
                return;
            }
            self.to_arm -= 1;
        }
    }

    fn send_keep_alive(&mut self, now: Time) {
        self.arm();
        let kato = self.kato();
        self.timers.set(Timer::KeepAlive, now + kato / 2);
        if self.timers.is_set(Timer::KeepAliveAnswer) {
            return;
        }
        self.timers.set(Timer::KeepAliveAnswer, now + kato);
        let sqe = Sqe::new(AdminOpcode::KeepAlive.code(), 0);
        self.submit_own(Purpose::KeepAlive, sqe, Payload::None);
    }

    fn kato(&self) -> Duration {
        let kato_ms = self.config.admin.connect.as_ref().map_or(0, |connect| connect.kato_ms);
        Duration::from_millis(u64::from(kato_ms))
    }

    fn fail(&mut self, failure: Failure) {
        // After a shutdown the controller may close as it likes.
        if !self.failed {
            self.failed = true;
            self.timers = Timers::default();
            if self.step != Step::Over {
                self.step = Step::Over;
                self.events.push_back(ControllerEvent::Failed(failure));
            }
        }
    }
}
