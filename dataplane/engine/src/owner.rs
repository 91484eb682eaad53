//! Who a disk operation of a reactor belongs to: the upper 16 bits of its token.

use io::Token;

/// The gate that joins flushes.
pub(crate) const GATE: u16 = 0;
/// The opening of the pool.
pub(crate) const OPENING: u16 = 1;
/// The directory.
pub(crate) const DIRECTORY: u16 = 2;
/// Shard 0; shard `n` has this plus `n`.
pub(crate) const SHARDS: u16 = 16;

/// The owner that a token names.
pub(crate) fn of(token: Token) -> u16 {
    u16::try_from(token.0 >> 48).expect("sixteen bits")
}
