//! Notices when nothing happens any more although somebody waits: a store that is stuck asks the pool for a segment again
//! and again, so the world never comes to an end by itself.

use std::fmt;
use std::time::Duration;

use io::{Buffer, Time};
use store::Shard;

/// How many times the wait for a segment passes before nothing will come of it: longer than cleaning waits before it tries
/// again what it could not read.
pub(crate) const RETRIES_MAX: u32 = 2500;

/// Since when nothing has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standstill {
    since: Time,
}

/// The books of a shard in which requests wait for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The shard.
    pub shard: usize,
    /// Requests that wait in it.
    pub open: usize,
    /// Bytes in full segments that nobody refers to: what cleaning could give back.
    pub garbage_bytes: u64,
    /// Room, floors, what waits, and what is live in each segment.
    pub books: String,
}

impl Standstill {
    /// Something happened, or nobody waits for anything to happen.
    pub(crate) fn end(&mut self, now: Time) {
        self.since = now;
    }

    /// Whether nothing has happened for so long.
    pub(crate) fn has_lasted(&self, now: Time, long: Duration) -> bool {
        now.since(self.since) >= long
    }
}

impl Account {
    pub(crate) fn of<B: Buffer>(shard: &Shard<B>) -> Self {
        Self {
            shard: usize::from(shard.id().0),
            open: shard.open_requests(),
            garbage_bytes: shard.garbage_bytes(),
            books: shard.describe(),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard {} ({} requests wait, {} bytes of garbage): {}",
            self.shard, self.open, self.garbage_bytes, self.books
        )
    }
}
