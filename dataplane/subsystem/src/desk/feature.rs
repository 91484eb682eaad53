//! Features of one controller. Base spec 2.0, sections 5.15 and 5.27.

use io::Time;
use nvme::Status;
use nvme::features::{
    Arbitration, FeatureId, GetFeatures, HostBehaviorSupport, NumberOfQueues, PowerManagement, Select,
    SetFeatures, TemperatureThreshold, Timestamp,
};
use nvme::identify::AsyncEvents;
use nvme::log::{FeatureEffects, FeatureEffectsLog};

use super::admin::Reply;
use super::controller::{Controller, Kind};
use crate::limits::IO_QUEUES_MAX;

/// SMART / health warnings in the Asynchronous Event Configuration; none of them ever happens here.
const HEALTH_WARNINGS: u32 = 0xff;
/// No threshold: the highest over, the lowest under.
const NO_OVER_THRESHOLD: u16 = 0xffff;
/// EXHID: the host asks for the 128-bit host identifier, the only one over Fabrics.
const EXTENDED_HOST_ID: u32 = 1;
const ALL_SENSORS: u8 = 0xf;

/// Values that are kept per controller and lost by its reset.
#[derive(Debug)]
pub(crate) struct Features {
    arbitration: u32,
    power_management: u32,
    over_kelvin: u16,
    under_kelvin: u16,
    error_recovery: u32,
    volatile_write_cache: u32,
    write_atomicity: u32,
    host_behavior: [u8; HostBehaviorSupport::LEN],
    timestamp: Clock,
    /// I/O queues that the host may make.
    pub(crate) queues: u16,
}

/// The Timestamp feature: milliseconds since the controller started or since what the host said.
#[derive(Debug)]
struct Clock {
    base_ms: u64,
    since: Time,
    /// Origin in its place of the attributes: 0 a reset, 1 Set Features.
    attributes: u8,
}

/// Features that exist, on which kind of controller, and what Get Features says they can.
const SUPPORTED: &[(FeatureId, bool, u32)] = &[
    (FeatureId::Arbitration, false, GetFeatures::CHANGEABLE),
    (FeatureId::PowerManagement, false, GetFeatures::CHANGEABLE),
    (FeatureId::TemperatureThreshold, false, GetFeatures::CHANGEABLE),
    (FeatureId::ErrorRecovery, false, GetFeatures::CHANGEABLE),
    (FeatureId::VolatileWriteCache, false, GetFeatures::CHANGEABLE),
    (FeatureId::NumberOfQueues, false, GetFeatures::CHANGEABLE),
    (FeatureId::WriteAtomicity, false, GetFeatures::CHANGEABLE),
    (FeatureId::AsyncEventConfiguration, true, GetFeatures::CHANGEABLE),
    (FeatureId::Timestamp, false, GetFeatures::CHANGEABLE),
    (FeatureId::KeepAliveTimer, true, GetFeatures::CHANGEABLE),
    (FeatureId::HostBehaviorSupport, false, GetFeatures::CHANGEABLE),
    (FeatureId::HostIdentifier, false, 0),
];

impl Features {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            // No limit on the burst; weights mean nothing in round robin.
            arbitration: Arbitration { burst: 7, ..Arbitration::default() }.encode(),
            power_management: 0,
            over_kelvin: NO_OVER_THRESHOLD,
            under_kelvin: 0,
            error_recovery: 0,
            volatile_write_cache: 1,
            write_atomicity: 0,
            host_behavior: [0; HostBehaviorSupport::LEN],
            timestamp: Clock { base_ms: 0, since: now, attributes: 0 },
            queues: IO_QUEUES_MAX,
        }
    }
}

/// Get Features. Bytes of the data structure it returns, if it returns one.
pub(crate) fn reply_len(command: &GetFeatures) -> usize {
    if command.select == Select::Capabilities { 0 } else { command.feature.data_len() }
}

pub(crate) fn get(controller: &Controller, command: &GetFeatures, now: Time) -> Reply {
    let Some(capabilities) = capabilities(controller.kind, command.feature) else {
        return Reply::Status(Status::INVALID_FIELD.dnr());
    };
    match command.select {
        Select::Capabilities => return Reply::Result(u64::from(capabilities)),
        Select::Current => {}
        // Nothing is saveable: the saved value is the default.
        Select::Default | Select::Saved => {
            return value(&Features::new(now), AsyncEvents::default(), 0, controller, command, now);
        }
        Select::Reserved(_) => return Reply::Status(Status::INVALID_FIELD.dnr()),
    }
    let (enabled, kato_ms) = (controller.events.enabled, controller.keep_alive.timeout_ms);
    value(&controller.features, enabled, kato_ms, controller, command, now)
}

fn value(
    features: &Features,
    enabled: AsyncEvents,
    kato_ms: u32,
    controller: &Controller,
    command: &GetFeatures,
    now: Time,
) -> Reply {
    let result = match command.feature {
        FeatureId::Arbitration => features.arbitration,
        FeatureId::PowerManagement => features.power_management,
        FeatureId::TemperatureThreshold => {
            let wanted = TemperatureThreshold::parse(command.value);
            match (wanted.sensor, wanted.kind) {
                (0, 0) => u32::from(features.over_kelvin),
                (0, 1) => u32::from(features.under_kelvin),
                _ => return Reply::Status(Status::INVALID_FIELD.dnr()),
            }
        }
        FeatureId::ErrorRecovery => features.error_recovery,
        FeatureId::VolatileWriteCache => features.volatile_write_cache,
        FeatureId::NumberOfQueues => queues(features.queues),
        FeatureId::WriteAtomicity => features.write_atomicity,
        FeatureId::AsyncEventConfiguration => enabled.0,
        FeatureId::KeepAliveTimer => kato_ms,
        FeatureId::Timestamp => {
            let clock = &features.timestamp;
            let elapsed = u64::try_from(now.since(clock.since).as_millis()).unwrap_or(u64::MAX);
            let stamp = Timestamp::new(clock.base_ms.saturating_add(elapsed), clock.attributes);
            return Reply::Data(stamp.encode().to_vec());
        }
        FeatureId::HostBehaviorSupport => return Reply::Data(features.host_behavior.to_vec()),
        FeatureId::HostIdentifier if command.value & EXTENDED_HOST_ID == 0 => {
            return Reply::Status(Status::INVALID_FIELD.dnr());
        }
        FeatureId::HostIdentifier => return Reply::Data(controller.path.host_id.to_vec()),
        _ => return Reply::Status(Status::INVALID_FIELD.dnr()),
    };
    Reply::Result(u64::from(result))
}

/// Set Features. `data` is the feature's data structure, complete, for features that have one.
pub(crate) fn set(controller: &mut Controller, command: &SetFeatures, data: &[u8], now: Time) -> Reply {
    let Some(capabilities) = capabilities(controller.kind, command.feature) else {
        return Reply::Status(Status::INVALID_FIELD.dnr());
    };
    if command.save {
        return Reply::Status(Status::FEATURE_NOT_SAVEABLE.dnr());
    }
    if command.feature == FeatureId::HostIdentifier {
        // Connect has said it. Base spec 2.0, section 5.27.1.25.
        return Reply::Status(Status::COMMAND_SEQUENCE_ERROR.dnr());
    }
    if capabilities & GetFeatures::CHANGEABLE == 0 {
        return Reply::Status(Status::FEATURE_NOT_CHANGEABLE.dnr());
    }
    match set_value(controller, command, data, now) {
        Ok(result) => Reply::Result(u64::from(result)),
        Err(status) => Reply::Status(status.dnr()),
    }
}

fn set_value(
    controller: &mut Controller,
    command: &SetFeatures,
    data: &[u8],
    now: Time,
) -> Result<u32, Status> {
    let features = &mut controller.features;
    match command.feature {
        FeatureId::Arbitration => features.arbitration = Arbitration::parse(command.value).encode(),
        FeatureId::PowerManagement => {
            let power = PowerManagement::parse(command.value);
            // There is one power state.
            if power.power_state != 0 {
                return Err(Status::INVALID_FIELD);
            }
            features.power_management = power.encode();
        }
        FeatureId::TemperatureThreshold => {
            let wanted = TemperatureThreshold::parse(command.value);
            match (wanted.sensor, wanted.kind) {
                (0 | ALL_SENSORS, 0) => features.over_kelvin = wanted.threshold_kelvin,
                (0 | ALL_SENSORS, 1) => features.under_kelvin = wanted.threshold_kelvin,
                _ => return Err(Status::INVALID_FIELD),
            }
        }
        FeatureId::ErrorRecovery => features.error_recovery = command.value & 0xffff,
        FeatureId::VolatileWriteCache => features.volatile_write_cache = command.value & 1,
        FeatureId::NumberOfQueues => return set_queues(controller, command.value),
        FeatureId::WriteAtomicity => features.write_atomicity = command.value & 1,
        FeatureId::AsyncEventConfiguration => {
            let events = AsyncEvents(command.value);
            let known = match controller.kind {
                Kind::Io => offered(Kind::Io).with(AsyncEvents(HEALTH_WARNINGS)),
                Kind::Discovery => offered(Kind::Discovery),
            };
            if !known.contains(events) {
                return Err(Status::INVALID_FIELD);
            }
            controller.events.enabled = events;
        }
        FeatureId::KeepAliveTimer => {
            controller.keep_alive.timeout_ms = command.value;
            controller.keep_alive.hear(now);
        }
        FeatureId::Timestamp => {
            let image = data.first_chunk().ok_or(Status::DATA_SGL_LENGTH_INVALID)?;
            let base_ms = Timestamp::parse(image).millis();
            features.timestamp = Clock { base_ms, since: now, attributes: 1 << 1 };
        }
        FeatureId::HostBehaviorSupport => {
            let image = data.first_chunk().ok_or(Status::DATA_SGL_LENGTH_INVALID)?;
            let wanted = HostBehaviorSupport::parse(image);
            if wanted.advanced_command_retry > 1 {
                return Err(Status::INVALID_FIELD);
            }
            features.host_behavior = wanted.encode();
        }
        _ => return Err(Status::FEATURE_NOT_CHANGEABLE),
    }
    Ok(0)
}

/// Number of Queues: as many as asked for, up to what there are; fixed once a queue exists.
fn set_queues(controller: &mut Controller, value: u32) -> Result<u32, Status> {
    let asked = NumberOfQueues::parse(value);
    if asked.submission > 0xffff || asked.completion > 0xffff {
        return Err(Status::INVALID_FIELD);
    }
    if !controller.queues.is_empty() {
        return Err(Status::COMMAND_SEQUENCE_ERROR);
    }
    // Over Fabrics a queue is both.
    let asked = u16::try_from(asked.submission.min(asked.completion)).unwrap_or(u16::MAX);
    controller.features.queues = asked.min(IO_QUEUES_MAX);
    Ok(queues(controller.features.queues))
}

fn queues(count: u16) -> u32 {
    NumberOfQueues { submission: u32::from(count), completion: u32::from(count) }.encode()
}

/// Events that a controller of this kind offers (OAES).
pub(crate) const fn offered(kind: Kind) -> AsyncEvents {
    match kind {
        Kind::Io => AsyncEvents::NAMESPACE_ATTRIBUTE.with(AsyncEvents::ANA_CHANGE),
        Kind::Discovery => AsyncEvents::DISCOVERY_LOG,
    }
}

/// Feature Identifiers Supported and Effects.
pub(crate) fn effects(kind: Kind) -> Vec<u8> {
    let mut log = FeatureEffectsLog::default();
    for (feature, _, _) in SUPPORTED.iter().filter(|(feature, _, _)| capabilities(kind, *feature).is_some()) {
        log.features[usize::from(feature.code())] =
            FeatureEffects::SUPPORTED.with(FeatureEffects::SCOPE_CONTROLLER);
    }
    log.encode().to_vec()
}

fn capabilities(kind: Kind, feature: FeatureId) -> Option<u32> {
    let (_, discovery_too, capabilities) = SUPPORTED.iter().find(|(known, _, _)| *known == feature)?;
    (kind == Kind::Io || *discovery_too).then_some(*capabilities)
}
