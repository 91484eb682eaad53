//! The contract's messages as data: requests are read by them, answers completed by them, the OpenAPI document made
//! from them.
//!
//! Reading follows protobuf's JSON mapping: 64-bit integers are strings, 32-bit integers numbers that may come quoted,
//! enums names that may come as numbers, `null` means not set, unknown keys are ignored.

mod check;
pub(crate) mod enums;
mod fill;
mod read;
pub(crate) mod requests;
pub(crate) mod site;
pub(crate) mod tenants;

pub(crate) use check::check;
pub(crate) use fill::fill;
pub(crate) use read::{duration_s, read_body, read_duration, read_query, read_variable, time_ns};

/// A message: a JSON object with these keys.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its name in the contract.
    pub(crate) name: &'static str,
    /// Its fields in the contract's order.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) name: &'static str,
    /// What its value is.
    pub(crate) kind: Kind,
    /// When it is there.
    pub(crate) presence: Presence,
}

/// When a field is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// One of several of which one is set; never filled in.
    Choice,
    /// Filled in with its zero value where it is a scalar or a list.
    Field,
    /// As a field; a request has to say it.
    Required,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// Base64 text with padding.
    Bytes,
    /// A number.
    Double,
    /// Seconds with an `s`; unset is absent.
    Duration,
    /// A name of a table.
    Enum(&'static Enum),
    /// A number.
    Int32,
    /// Decimal digits as text.
    Int64,
    /// An array.
    List(&'static Kind),
    /// An object with any keys, each a message.
    Map(&'static Message),
    /// An object; unset is absent.
    Message(&'static Message),
    /// Text.
    Text,
    /// RFC 3339 in UTC; unset is absent.
    Time,
    /// A number.
    Uint32,
    /// Decimal digits as text.
    Uint64,
}

/// An enum: its name, and its values with their numbers.
#[derive(Debug)]
pub(crate) struct Enum {
    /// Its name in the contract.
    pub(crate) name: &'static str,
    /// Names and numbers; the first row is the zero value.
    pub(crate) values: &'static [(&'static str, u32)],
}

/// A message without fields: `{}`.
pub(crate) static EMPTY: Message = Message { name: "Empty", fields: &[] };

/// A stream of bytes in place of a message.
pub(crate) static STREAM: Message = Message { name: "Stream", fields: &[] };

/// A request of any form, which its handler reads itself.
pub(crate) static ANY: Message = Message { name: "Any", fields: &[] };

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, presence: Presence::Field }
}

const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, presence: Presence::Required }
}

const fn choice(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, presence: Presence::Choice }
}
