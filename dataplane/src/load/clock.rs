//! The load generator's clock: the one place of it that reads time.

use std::time::Instant;

use io::Time;

/// Monotonic time since the load began; cheap to copy into every thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    origin: Instant,
}

impl Stopwatch {
    /// A stopwatch that shows zero now.
    #[expect(clippy::disallowed_methods, reason = "a load generator measures; it runs on no reactor")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// What it shows.
    pub(crate) fn now(self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
