//! Fixed-width text and counts as they appear inside wire structures.

use crate::layout::Field;

/// ASCII text of fixed width, padded with spaces. Base spec 2.0, section 1.4.2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ascii<const N: usize>([u8; N]);

impl<const N: usize> Ascii<N> {
    /// The text cut to the field's width; a character outside printable ASCII becomes `?`.
    pub fn new(text: &str) -> Self {
        let mut bytes = [b' '; N];
        for (byte, character) in bytes.iter_mut().zip(text.chars()) {
            *byte = if character == ' ' || character.is_ascii_graphic() { character as u8 } else { b'?' };
        }
        Self(bytes)
    }

    /// The text without padding (spaces and NULs); empty if it is not UTF-8.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default().trim_end_matches([' ', '\0'])
    }

    /// The field's bytes.
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> core::fmt::Debug for Ascii<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> Field for Ascii<N> {
    const LEN: usize = N;
    fn get(bytes: &[u8]) -> Self {
        Self(Field::get(bytes))
    }
    fn put(&self, out: &mut [u8]) {
        self.0.put(out);
    }
}

/// A count of 1..=256 in one byte, 0's based on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count8(pub u16);

impl Field for Count8 {
    const LEN: usize = 1;
    fn get(bytes: &[u8]) -> Self {
        Self(u16::from(bytes[0]) + 1)
    }
    fn put(&self, out: &mut [u8]) {
        out[0] = (self.0.clamp(1, 1 << 8) - 1) as u8;
    }
}

/// A count of 1..=65536 in two bytes, 0's based on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count16(pub u32);

impl Field for Count16 {
    const LEN: usize = 2;
    fn get(bytes: &[u8]) -> Self {
        Self(u32::from(u16::get(bytes)) + 1)
    }
    fn put(&self, out: &mut [u8]) {
        ((self.0.clamp(1, 1 << 16) - 1) as u16).put(out);
    }
}

/// NUL-padded text of 256 bytes or less, as transport addresses and service identifiers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// The text, NUL padded; `None` if it does not fit with at least one NUL, or holds a NUL.
    pub fn new(text: &str) -> Option<Self> {
        if text.len() >= N || text.contains('\0') {
            return None;
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The text up to the first NUL, without trailing spaces (which some controllers pad with);
    /// empty if it is not UTF-8.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        core::str::from_utf8(&self.0[..len]).unwrap_or_default().trim_end_matches(' ')
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> Field for Text<N> {
    const LEN: usize = N;
    fn get(bytes: &[u8]) -> Self {
        Self(Field::get(bytes))
    }
    fn put(&self, out: &mut [u8]) {
        self.0.put(out);
    }
}
