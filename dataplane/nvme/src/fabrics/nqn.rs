//! NVMe qualified names. Base spec 2.0, section 4.5.

use core::fmt;

/// Well-known NQN of the discovery service.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// An NVMe qualified name: 1..=223 bytes of UTF-8 without NUL. Its `nqn.` structure is not
/// demanded, because hosts in the field use free forms and the specification tells a controller
/// to compare names as strings.
#[derive(Clone, Copy)]
pub struct Nqn {
    bytes: [u8; Nqn::LEN_MAX],
    len: u8,
}

/// Why bytes are not a qualified name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NqnError {
    /// No byte before the terminator.
    Empty,
    /// More than 223 bytes, or no NUL within the field.
    TooLong,
    /// Not UTF-8, or a NUL inside.
    NotText,
}

impl Nqn {
    /// Longest name in bytes, terminator excluded.
    pub const LEN_MAX: usize = 223;
    /// Bytes of a field that holds a name and its terminating NUL.
    pub const FIELD_LEN: usize = 256;

    /// A name from text.
    pub fn new(text: &str) -> Result<Self, NqnError> {
        if text.is_empty() {
            return Err(NqnError::Empty);
        }
        if text.len() > Self::LEN_MAX {
            return Err(NqnError::TooLong);
        }
        if text.contains('\0') {
            return Err(NqnError::NotText);
        }
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: text.len() as u8 })
    }

    /// Reads a NUL-terminated field; what follows the terminator is ignored.
    pub fn parse(field: &[u8; Self::FIELD_LEN]) -> Result<Self, NqnError> {
        let len = field.iter().position(|&byte| byte == 0).ok_or(NqnError::TooLong)?;
        let text = core::str::from_utf8(&field[..len]).map_err(|_| NqnError::NotText)?;
        Self::new(text)
    }

    /// The NUL-padded field.
    pub fn encode(&self) -> [u8; Self::FIELD_LEN] {
        let mut field = [0; Self::FIELD_LEN];
        field[..Self::LEN_MAX].copy_from_slice(&self.bytes);
        field
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only text is ever stored, so that the fallback is never taken.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// The well-known name of the discovery service.
    pub fn discovery() -> Self {
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..DISCOVERY_NQN.len()].copy_from_slice(DISCOVERY_NQN.as_bytes());
        Self { bytes, len: DISCOVERY_NQN.len() as u8 }
    }

    /// True for the well-known name of the discovery service.
    pub fn is_discovery(&self) -> bool {
        self.as_str() == DISCOVERY_NQN
    }
}

impl PartialEq for Nqn {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Nqn {}

impl PartialOrd for Nqn {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nqn {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for NqnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "qualified name is empty",
            Self::TooLong => "qualified name is longer than 223 bytes",
            Self::NotText => "qualified name is not UTF-8 text",
        })
    }
}

impl core::error::Error for NqnError {}
