//! Set Features and Get Features, and the features that hosts use. Base spec 2.0, sections 5.15
//! and 5.27.

use crate::command::AdminOpcode;
use crate::sqe::Sqe;

/// Feature identifier (FID). Base spec 2.0, figure 317.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureId {
    /// 01h: Arbitration.
    Arbitration,
    /// 02h: Power Management.
    PowerManagement,
    /// 04h: Temperature Threshold.
    TemperatureThreshold,
    /// 05h: Error Recovery, per namespace.
    ErrorRecovery,
    /// 06h: Volatile Write Cache.
    VolatileWriteCache,
    /// 07h: Number of Queues.
    NumberOfQueues,
    /// 08h: Interrupt Coalescing; not over Fabrics.
    InterruptCoalescing,
    /// 09h: Interrupt Vector Configuration; not over Fabrics.
    InterruptVector,
    /// 0Ah: Write Atomicity Normal.
    WriteAtomicity,
    /// 0Bh: Asynchronous Event Configuration.
    AsyncEventConfiguration,
    /// 0Eh: Timestamp.
    Timestamp,
    /// 0Fh: Keep Alive Timer.
    KeepAliveTimer,
    /// 16h: Host Behavior Support.
    HostBehaviorSupport,
    /// 19h: I/O Command Set Profile.
    CommandSetProfile,
    /// 81h: Host Identifier.
    HostIdentifier,
    /// 82h: Reservation Notification Mask.
    ReservationNotificationMask,
    /// 83h: Reservation Persistence.
    ReservationPersistence,
    /// 84h: Namespace Write Protection Config.
    NamespaceWriteProtection,
    /// Any other value.
    Other(u8),
}

impl FeatureId {
    /// From the code.
    pub const fn parse(code: u8) -> Self {
        match code {
            0x01 => Self::Arbitration,
            0x02 => Self::PowerManagement,
            0x04 => Self::TemperatureThreshold,
            0x05 => Self::ErrorRecovery,
            0x06 => Self::VolatileWriteCache,
            0x07 => Self::NumberOfQueues,
            0x08 => Self::InterruptCoalescing,
            0x09 => Self::InterruptVector,
            0x0a => Self::WriteAtomicity,
            0x0b => Self::AsyncEventConfiguration,
            0x0e => Self::Timestamp,
            0x0f => Self::KeepAliveTimer,
            0x16 => Self::HostBehaviorSupport,
            0x19 => Self::CommandSetProfile,
            0x81 => Self::HostIdentifier,
            0x82 => Self::ReservationNotificationMask,
            0x83 => Self::ReservationPersistence,
            0x84 => Self::NamespaceWriteProtection,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Arbitration => 0x01,
            Self::PowerManagement => 0x02,
            Self::TemperatureThreshold => 0x04,
            Self::ErrorRecovery => 0x05,
            Self::VolatileWriteCache => 0x06,
            Self::NumberOfQueues => 0x07,
            Self::InterruptCoalescing => 0x08,
            Self::InterruptVector => 0x09,
            Self::WriteAtomicity => 0x0a,
            Self::AsyncEventConfiguration => 0x0b,
            Self::Timestamp => 0x0e,
            Self::KeepAliveTimer => 0x0f,
            Self::HostBehaviorSupport => 0x16,
            Self::CommandSetProfile => 0x19,
            Self::HostIdentifier => 0x81,
            Self::ReservationNotificationMask => 0x82,
            Self::ReservationPersistence => 0x83,
            Self::NamespaceWriteProtection => 0x84,
            Self::Other(code) => code,
        }
    }

    /// Bytes of the feature's data structure, for features that have one. The Host Identifier's
    /// 16 bytes are those of its extended form, the only one over Fabrics.
    pub const fn data_len(self) -> usize {
        match self {
            Self::Timestamp => Timestamp::LEN,
            Self::HostBehaviorSupport => HostBehaviorSupport::LEN,
            Self::HostIdentifier => 16,
            _ => 0,
        }
    }
}

/// Which value Get Features returns (SEL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// 000b: current.
    Current,
    /// 001b: default.
    Default,
    /// 010b: saved.
    Saved,
    /// 011b: supported capabilities.
    Capabilities,
    /// Any other value: reserved.
    Reserved(u8),
}

/// Get Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeatures {
    /// The feature (FID), CDW10 bits 7:0.
    pub feature: FeatureId,
    /// The value wanted (SEL), CDW10 bits 10:8.
    pub select: Select,
    /// Namespace, for features per namespace.
    pub nsid: u32,
    /// Feature specific, CDW11.
    pub value: u32,
}

impl GetFeatures {
    /// Result of [`Select::Capabilities`]: saveable.
    pub const SAVEABLE: u32 = 1 << 0;
    /// Result of [`Select::Capabilities`]: per namespace.
    pub const NAMESPACE_SPECIFIC: u32 = 1 << 1;
    /// Result of [`Select::Capabilities`]: changeable.
    pub const CHANGEABLE: u32 = 1 << 2;

    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            feature: FeatureId::parse(sqe.cdw10 as u8),
            select: match (sqe.cdw10 >> 8) as u8 & 7 {
                0 => Select::Current,
                1 => Select::Default,
                2 => Select::Saved,
                3 => Select::Capabilities,
                other => Select::Reserved(other),
            },
            nsid: sqe.nsid,
            value: sqe.cdw11,
        }
    }

    /// The command, data pointer unset.
    pub fn encode(&self) -> Sqe {
        let select = match self.select {
            Select::Current => 0,
            Select::Default => 1,
            Select::Saved => 2,
            Select::Capabilities => 3,
            Select::Reserved(code) => code & 7,
        };
        let mut sqe = Sqe::new(AdminOpcode::GetFeatures.code(), self.nsid);
        sqe.cdw10 = u32::from(self.feature.code()) | (u32::from(select) << 8);
        sqe.cdw11 = self.value;
        sqe
    }
}

/// Set Features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFeatures {
    /// The feature (FID), CDW10 bits 7:0.
    pub feature: FeatureId,
    /// Keep the value over power cycles (SV), CDW10 bit 31.
    pub save: bool,
    /// Namespace, for features per namespace.
    pub nsid: u32,
    /// Feature specific, CDW11.
    pub value: u32,
}

impl SetFeatures {
    /// Reads the command.
    pub const fn parse(sqe: &Sqe) -> Self {
        Self {
            feature: FeatureId::parse(sqe.cdw10 as u8),
            save: sqe.cdw10 & 1 << 31 != 0,
            nsid: sqe.nsid,
            value: sqe.cdw11,
        }
    }

    /// The command, data pointer unset.
    pub fn encode(&self) -> Sqe {
        let mut sqe = Sqe::new(AdminOpcode::SetFeatures.code(), self.nsid);
        sqe.cdw10 = u32::from(self.feature.code()) | (u32::from(self.save) << 31);
        sqe.cdw11 = self.value;
        sqe
    }
}

/// Arbitration (01h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arbitration {
    /// Arbitration burst (AB), as a power of two of commands; 7 no limit. Bits 2:0.
    pub burst: u8,
    /// Low priority weight (LPW), 0's based. Bits 15:8.
    pub low_weight: u8,
    /// Medium priority weight (MPW), 0's based. Bits 23:16.
    pub medium_weight: u8,
    /// High priority weight (HPW), 0's based. Bits 31:24.
    pub high_weight: u8,
}

impl Arbitration {
    /// Reads CDW11 or a result.
    pub const fn parse(value: u32) -> Self {
        let [burst, low_weight, medium_weight, high_weight] = value.to_le_bytes();
        Self { burst: burst & 7, low_weight, medium_weight, high_weight }
    }

    /// CDW11 or a result.
    pub const fn encode(&self) -> u32 {
        u32::from_le_bytes([self.burst & 7, self.low_weight, self.medium_weight, self.high_weight])
    }
}

/// Power Management (02h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerManagement {
    /// Power state (PS), 0..=31. Bits 4:0.
    pub power_state: u8,
    /// Workload hint (WH), 0..=7. Bits 7:5.
    pub workload_hint: u8,
}

impl PowerManagement {
    /// Reads CDW11 or a result.
    pub const fn parse(value: u32) -> Self {
        Self { power_state: value as u8 & 0x1f, workload_hint: value as u8 >> 5 }
    }

    /// CDW11 or a result.
    pub const fn encode(&self) -> u32 {
        (self.power_state & 0x1f) as u32 | ((self.workload_hint & 7) as u32) << 5
    }
}

/// Temperature Threshold (04h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureThreshold {
    /// Threshold in kelvins (TMPTH). Bits 15:0.
    pub threshold_kelvin: u16,
    /// Sensor (TMPSEL): 0 composite, 1..=8 a sensor, Fh all (set only). Bits 19:16.
    pub sensor: u8,
    /// Type (THSEL): 0 over, 1 under; others reserved. Bits 21:20.
    pub kind: u8,
}

impl TemperatureThreshold {
    /// Reads CDW11.
    pub const fn parse(value: u32) -> Self {
        Self {
            threshold_kelvin: value as u16,
            sensor: (value >> 16) as u8 & 0xf,
            kind: (value >> 20) as u8 & 3,
        }
    }

    /// CDW11.
    pub const fn encode(&self) -> u32 {
        self.threshold_kelvin as u32 | ((self.sensor & 0xf) as u32) << 16 | ((self.kind & 3) as u32) << 20
    }
}

/// Number of Queues (07h): I/O queues asked for or allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberOfQueues {
    /// I/O submission queues, 1..=65536 (0's based on the wire; 65536 is an invalid request).
    /// Bits 15:0.
    pub submission: u32,
    /// I/O completion queues, 1..=65536 (0's based on the wire; 65536 is an invalid request).
    /// Bits 31:16.
    pub completion: u32,
}

impl NumberOfQueues {
    /// Reads CDW11 or a result.
    pub const fn parse(value: u32) -> Self {
        Self { submission: (value & 0xffff) + 1, completion: (value >> 16) + 1 }
    }

    /// CDW11 or a result. Counts outside 1..=65536 are cut to it.
    pub fn encode(&self) -> u32 {
        let field = |count: u32| count.clamp(1, 1 << 16) - 1;
        field(self.submission) | (field(self.completion) << 16)
    }
}

layout! {
    /// Timestamp (0Eh).
    pub struct Timestamp: 8 {
        /// Milliseconds since 1970-01-01 UTC, the low 4 of 6 bytes.
        0 => millis_low: u32,
        /// Milliseconds since 1970-01-01 UTC, the high 2 of 6 bytes.
        4 => millis_high: u16,
        /// Bit 0 the clock may have stopped (Synch), bits 3:1 origin: 0 a reset, 1 Set Features.
        6 => attributes: u8,
    }
}

impl Timestamp {
    /// From milliseconds since 1970-01-01 UTC, 48 bits.
    pub const fn new(millis: u64, attributes: u8) -> Self {
        Self { millis_low: millis as u32, millis_high: (millis >> 32) as u16, attributes }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn millis(&self) -> u64 {
        self.millis_low as u64 | (self.millis_high as u64) << 32
    }
}

layout! {
    /// Host Behavior Support (16h).
    pub struct HostBehaviorSupport: 512 {
        /// Advanced command retry enable (ACRE): 1 if the host obeys CRD in completions.
        0 => advanced_command_retry: u8,
        /// Extended telemetry data area 4 supported (ETDAS).
        1 => telemetry_area_4: u8,
        /// LBA format extension enable (LBAFEE).
        2 => lba_format_extension: u8,
    }
}
