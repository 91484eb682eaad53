//! How long to look for work before sleeping: a few of the recent gaps between arrivals, up to a cap.

use std::time::Duration;

use io::Time;

/// A gap is weighed like this many times the cap at most, so that a pause is forgotten after a few arrivals.
const GAP_CAPS_MAX: u64 = 8;
/// Gaps that are spun through before sleeping. Going to sleep and being woken costs about ten microseconds of both
/// sides, so that a pause of twice the usual is not yet one to sleep over.
const GAPS: u64 = 4;
/// With steady traffic no spin is shorter: a batch that takes its sender long to make must not find a sleeper.
const SPIN_MIN_NANOS: u64 = 20_000;

/// Learns the gap between rounds that found something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    spin_max_nanos: u64,
    gap_nanos: u64,
    last: Time,
    /// Eighths of events per round, averaged.
    batch_eighths: u64,
}

impl Pace {
    pub(crate) fn new(spin_max: Duration, now: Time) -> Self {
        let spin_max_nanos = u64::try_from(spin_max.as_nanos()).unwrap_or(u64::MAX / GAP_CAPS_MAX);
        Self { spin_max_nanos, gap_nanos: spin_max_nanos * GAP_CAPS_MAX, last: now, batch_eighths: 0 }
    }

    /// Notes a round that found `count` events.
    pub(crate) fn note(&mut self, now: Time, count: usize) {
        let gap = now.0.saturating_sub(self.last.0).min(self.spin_max_nanos * GAP_CAPS_MAX);
        self.last = now;
        self.gap_nanos = (self.gap_nanos * 3 + gap) / 4;
        self.batch_eighths = (self.batch_eighths * 7 + count as u64 * 8) / 8;
    }

    /// How long to look; zero where more is not expected soon.
    pub(crate) fn spin(&self) -> Duration {
        if self.gap_nanos >= self.spin_max_nanos {
            return Duration::ZERO;
        }
        Duration::from_nanos((self.gap_nanos * GAPS).max(SPIN_MIN_NANOS).min(self.spin_max_nanos))
    }

    /// How many completions a sleep may wait for, and how long, before it ends with fewer.
    pub(crate) fn batch(&self) -> (u32, Duration) {
        let half = self.batch_eighths / 16;
        if half < 2 || self.gap_nanos >= self.spin_max_nanos {
            return (1, Duration::ZERO);
        }
        let wait = Duration::from_nanos(self.gap_nanos / 2).max(Duration::from_micros(1));
        (u32::try_from(half).unwrap_or(u32::MAX).min(32), wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_micros(50);

    #[test]
    fn a_reactor_without_traffic_does_not_spin() {
        let mut pace = Pace::new(CAP, Time(0));
        assert_eq!(pace.spin(), Duration::ZERO);
        for second in 1..10 {
            pace.note(Time(second * 1_000_000_000), 1);
            assert_eq!(pace.spin(), Duration::ZERO);
        }
    }

    #[test]
    fn steady_arrivals_are_looked_for_and_a_pause_ends_that() {
        let mut pace = Pace::new(CAP, Time(0));
        for arrival in 1..40 {
            pace.note(Time(arrival * 10_000), 1);
        }
        let spin = pace.spin();
        assert!(spin >= Duration::from_micros(15) && spin <= CAP, "{spin:?}");
        pace.note(Time(5_000_000_000), 1);
        assert_eq!(pace.spin(), Duration::ZERO);
    }

    #[test]
    fn spinning_is_capped_and_can_be_off() {
        let mut pace = Pace::new(CAP, Time(0));
        for arrival in 1..40 {
            pace.note(Time(arrival * 45_000), 1);
        }
        assert_eq!(pace.spin(), CAP);
        let mut off = Pace::new(Duration::ZERO, Time(0));
        off.note(Time(1), 1);
        assert_eq!(off.spin(), Duration::ZERO);
    }

    #[test]
    fn sleeps_wait_for_a_batch_only_where_batches_come() {
        let mut pace = Pace::new(CAP, Time(0));
        for arrival in 1..100 {
            pace.note(Time(arrival * 10_000), 1);
        }
        assert_eq!(pace.batch(), (1, Duration::ZERO));
        for arrival in 100..200 {
            pace.note(Time(arrival * 10_000), 16);
        }
        let (want, wait) = pace.batch();
        assert!((4..=8).contains(&want), "{want}");
        assert!(wait <= Duration::from_micros(25), "{wait:?}");
    }
}
