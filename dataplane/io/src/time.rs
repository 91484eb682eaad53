//! Time as an argument: a monotonic instant that only an [`crate::Io`] can read.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since an origin of the implementation's choice; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// Reads time.
pub trait Clock {
    /// The monotonic time at which the current round of events began; it does not move while they are handled.
    fn now(&self) -> Time;

    /// Wall-clock time in nanoseconds since 1970-01-01 UTC, for what people read; it may jump.
    fn unix_nanos(&self) -> u64;
}

impl Time {
    /// The time from `earlier` to this one, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}
