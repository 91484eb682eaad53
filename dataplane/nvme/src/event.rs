//! Asynchronous events: the result of an Asynchronous Event Request. Base spec 2.0, section 5.2.

use crate::log::LogPage;

/// An event, as dword 0 of the completion says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncEvent {
    /// Type, bits 2:0.
    pub kind: EventType,
    /// Information, bits 15:8; its meaning depends on the type.
    pub detail: u8,
    /// Log page to read, which also clears the event, bits 23:16.
    pub page: LogPage,
}

/// Type of an asynchronous event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// 0h: error status.
    Error,
    /// 1h: SMART / health status.
    Health,
    /// 2h: notice.
    Notice,
    /// 6h: I/O command specific status.
    IoCommandSpecific,
    /// 7h: vendor specific.
    VendorSpecific,
    /// 3h, 4h, 5h: immediate, one-shot, or reserved.
    Reserved(u8),
}

impl AsyncEvent {
    /// Namespaces were attached, detached or changed; read the Changed Namespace List.
    pub const NAMESPACE_CHANGED: Self = Self::notice(0x00, LogPage::ChangedNamespaces);
    /// The state of an ANA group changed; read the ANA page.
    pub const ANA_CHANGED: Self = Self::notice(0x03, LogPage::Ana);
    /// The discovery page changed; read it.
    pub const DISCOVERY_CHANGED: Self = Self::notice(0xf0, LogPage::Discovery);
    /// A reservation notification is waiting; read the Reservation Notification page.
    pub const RESERVATION_NOTIFICATION: Self =
        Self { kind: EventType::IoCommandSpecific, detail: 0x00, page: LogPage::ReservationNotification };

    const fn notice(detail: u8, page: LogPage) -> Self {
        Self { kind: EventType::Notice, detail, page }
    }

    /// Reads dword 0 of a completion.
    pub const fn parse(dw0: u32) -> Self {
        let kind = match dw0 as u8 & 7 {
            0 => EventType::Error,
            1 => EventType::Health,
            2 => EventType::Notice,
            6 => EventType::IoCommandSpecific,
            7 => EventType::VendorSpecific,
            other => EventType::Reserved(other),
        };
        Self { kind, detail: (dw0 >> 8) as u8, page: LogPage::parse((dw0 >> 16) as u8) }
    }

    /// Dword 0 of the completion.
    pub const fn encode(&self) -> u32 {
        let kind = match self.kind {
            EventType::Error => 0,
            EventType::Health => 1,
            EventType::Notice => 2,
            EventType::IoCommandSpecific => 6,
            EventType::VendorSpecific => 7,
            EventType::Reserved(code) => code as u32 & 7,
        };
        kind | (self.detail as u32) << 8 | (self.page.code() as u32) << 16
    }
}
