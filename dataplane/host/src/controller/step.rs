//! The steps from Connect to ready, and to shut down: what each sends and what its answer means.

use std::time::Duration;

use io::Time;
use nvme::Cqe;
use nvme::fabrics::{
    Cap, Cc, ConnectResponse, Csts, Property, PropertyGet, PropertySet, Shutdown, ShutdownStatus, Version,
};
use nvme::features::{FeatureId, NumberOfQueues, SetFeatures};
use nvme::identify::{AsyncEvents, Cns, IDENTIFY_LEN, Identify, IdentifyController};

use super::{Controller, ControllerEvent, Failure, Purpose, Timer};
use crate::Payload;

/// Time between two looks at CSTS.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where an association is. The machine goes down the list; `KeepAlive` only names a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The admin queue is being opened.
    Connect,
    /// Property Get of CAP.
    ReadCapabilities,
    /// Property Get of VS.
    ReadVersion,
    /// Property Set of CC.EN.
    Enable,
    /// Property Get of CSTS until RDY.
    WaitReady,
    /// Identify Controller.
    Identify,
    /// Set Features, Number of Queues.
    NumberOfQueues,
    /// Set Features, Asynchronous Event Configuration.
    AsyncEvents,
    /// All done.
    Ready,
    /// The Keep Alive command.
    KeepAlive,
    /// Property Set of CC.SHN.
    ShutDown,
    /// Property Get of CSTS until SHST says complete.
    WaitShutDown,
    /// Shut down or failed.
    Over,
}

impl Controller {
    pub(super) fn on_connected(&mut self, connected: ConnectResponse, now: Time) {
        if connected.authentication_required || connected.secure_channel_required {
            return self.fail(Failure::AuthenticationRequired);
        }
        self.connected = Some(connected);
        let kato = self.kato();
        if !kato.is_zero() {
            self.timers.set(Timer::KeepAlive, now + kato / 2);
        }
        self.begin(Step::ReadCapabilities, now);
    }

    /// Enters a step: sends its command and starts its timer.
    pub(super) fn begin(&mut self, step: Step, now: Time) {
        self.step = step;
        self.timers.clear(Timer::Poll);
        self.timers.set(Timer::Step, now + self.limit_of(step));
        let (sqe, payload) = match step {
            Step::ReadCapabilities => (PropertyGet::encode(Property::Cap), Payload::None),
            Step::ReadVersion => (PropertyGet::encode(Property::Vs), Payload::None),
            Step::Enable => {
                (PropertySet::encode(Property::Cc, u64::from(Cc::ENABLE.encode())), Payload::None)
            }
            Step::Identify => {
                (Identify::new(Cns::Controller, 0).encode(), Payload::Read(vec![0; IDENTIFY_LEN]))
            }
            Step::NumberOfQueues => {
                let wanted = u32::from(self.config.io_queues);
                let value = NumberOfQueues { submission: wanted, completion: wanted }.encode();
                (set_feature(FeatureId::NumberOfQueues, value), Payload::None)
            }
            Step::AsyncEvents => {
                let value = self.config.async_events.0;
                (set_feature(FeatureId::AsyncEventConfiguration, value), Payload::None)
            }
            Step::ShutDown => {
                let cc = Cc { shutdown: Shutdown::Normal, ..Cc::ENABLE };
                (PropertySet::encode(Property::Cc, u64::from(cc.encode())), Payload::None)
            }
            Step::WaitReady | Step::WaitShutDown => return self.poll_status(),
            Step::Connect | Step::Ready | Step::KeepAlive | Step::Over => return,
        };
        self.submit_own(Purpose::Step(step), sqe, payload);
    }

    /// Asks for CSTS.
    pub(super) fn poll_status(&mut self) {
        self.submit_own(Purpose::Step(self.step), PropertyGet::encode(Property::Csts), Payload::None);
    }

    /// The answer to the step's command.
    pub(super) fn on_step(&mut self, cqe: Cqe, payload: Payload<Vec<u8>>, now: Time) {
        if !cqe.status.is_success() {
            return self.fail(Failure::Refused { step: self.step, cqe });
        }
        match self.step {
            Step::ReadCapabilities => {
                self.cap = Cap::parse(cqe.result);
                self.begin(Step::ReadVersion, now);
            }
            Step::ReadVersion => {
                self.version = Version::parse(cqe.dw0());
                self.begin(Step::Enable, now);
            }
            Step::Enable => self.begin(Step::WaitReady, now),
            Step::WaitReady | Step::WaitShutDown => self.on_status(Csts::parse(cqe.dw0()), now),
            Step::Identify => self.on_identify(payload, now),
            Step::NumberOfQueues => {
                let granted = NumberOfQueues::parse(cqe.dw0());
                let granted = granted.submission.min(granted.completion);
                self.io_queues = self.config.io_queues.min(granted.try_into().unwrap_or(u16::MAX));
                self.enable_events(now);
            }
            Step::AsyncEvents => self.on_ready(),
            Step::ShutDown => self.begin(Step::WaitShutDown, now),
            Step::Connect | Step::Ready | Step::KeepAlive | Step::Over => {}
        }
    }

    fn on_status(&mut self, csts: Csts, now: Time) {
        if csts.fatal {
            return self.fail(Failure::Fatal);
        }
        match self.step {
            Step::WaitReady if csts.ready => self.begin(Step::Identify, now),
            Step::WaitShutDown if csts.shutdown == ShutdownStatus::Complete => {
                self.step = Step::Over;
                self.timers = super::Timers::default();
                self.events.push_back(ControllerEvent::ShutDown);
            }
            _ => self.timers.set(Timer::Poll, now + POLL_INTERVAL),
        }
    }

    fn on_identify(&mut self, payload: Payload<Vec<u8>>, now: Time) {
        if let Payload::Read(data) = payload
            && let Some(bytes) = data.first_chunk()
        {
            *self.identify = IdentifyController::parse(bytes);
        }
        self.queue.set_capsule_data_max_bytes(self.identify.capsule_data_max_bytes());
        if self.config.io_queues > 0 {
            self.begin(Step::NumberOfQueues, now);
        } else {
            self.enable_events(now);
        }
    }

    fn enable_events(&mut self, now: Time) {
        if self.config.async_events == AsyncEvents::default() {
            self.on_ready();
        } else {
            self.begin(Step::AsyncEvents, now);
        }
    }

    fn on_ready(&mut self) {
        self.step = Step::Ready;
        self.timers.clear(Timer::Step);
        self.to_arm = self.config.async_event_requests.min(self.identify.async_event_limit.0);
        self.arm();
        self.events.push_back(ControllerEvent::Ready);
    }

    fn limit_of(&self, step: Step) -> Duration {
        match step {
            // CAP.TO of 0 would fail at once on a controller that does not report it.
            Step::WaitReady => Duration::from_millis(u64::from(self.cap.timeout_500ms.max(1)) * 500),
            Step::WaitShutDown => {
                self.config.step_timeout.max(Duration::from_micros(u64::from(self.identify.rtd3e_us)))
            }
            _ => self.config.step_timeout,
        }
    }
}

fn set_feature(feature: FeatureId, value: u32) -> nvme::Sqe {
    SetFeatures { feature, save: false, nsid: 0, value }.encode()
}
