//! Slows those down who show wrong tokens or passwords: a bucket of failures per address, refilled with time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Failures of late, by address.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    buckets: RefCell<BTreeMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    failures: u32,
    since: Instant,
}

impl Failures {
    /// Whether `peer` may show another token.
    pub(crate) fn admits(&self, peer: IpAddr, now: Instant) -> bool {
        let buckets = self.buckets.borrow();
        buckets.get(&peer).is_none_or(|bucket| bucket.at(now).failures < FAILURES_MAX)
    }

    /// Counts a failure of `peer`.
    pub(crate) fn count(&self, peer: IpAddr, now: Instant) {
        let mut buckets = self.buckets.borrow_mut();
        if buckets.len() >= PEERS_MAX && !buckets.contains_key(&peer) {
            buckets.retain(|_, bucket| bucket.at(now).failures > 0);
            if buckets.len() >= PEERS_MAX {
                buckets.pop_first();
            }
        }
        let bucket = buckets.entry(peer).or_insert(Bucket { failures: 0, since: now });
        *bucket = bucket.at(now);
        bucket.failures = bucket.failures.saturating_add(1).min(FAILURES_MAX);
    }
}

impl Bucket {
    fn at(self, now: Instant) -> Self {
        let steps = now.saturating_duration_since(self.since).as_nanos() / REFILL.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let since = self.since + REFILL * steps.min(u32::from(u16::MAX));
        Self {
            failures: self.failures.saturating_sub(steps),
            since: if steps == 0 { self.since } else { since },
        }
    }
}

/// Enough for a client that retries with an expired token, nothing for one that guesses.
const FAILURES_MAX: u32 = 256;
/// How long until one failure is forgotten.
const REFILL: Duration = Duration::from_millis(250);
/// Addresses that are remembered.
const PEERS_MAX: usize = 4096;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_address_is_slowed_down_alone_and_for_a_time() {
        let failures = Failures::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert!(failures.admits(one, start));
            failures.count(one, start);
        }
        assert!(!failures.admits(one, start));
        assert!(failures.admits(other, start));
        assert!(!failures.admits(one, start + REFILL - Duration::from_millis(1)));
        assert!(failures.admits(one, start + REFILL));
        failures.count(one, start + REFILL);
        assert!(!failures.admits(one, start + REFILL));
        assert!(failures.admits(one, start + REFILL * FAILURES_MAX * 2));
    }

    #[test]
    fn addresses_are_forgotten_not_gathered() {
        let failures = Failures::default();
        let start = Instant::now();
        for number in 0..10_000_u32 {
            failures.count(IpAddr::from(number.to_be_bytes()), start);
        }
        assert!(failures.buckets.borrow().len() <= PEERS_MAX);
    }
}
