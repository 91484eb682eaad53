//! Runs a randomised trial from many seeds on all cores, or gives the seed of one.
//!
//! `FERRULE_SEED` moves the first seed; how many there are is the test's to say, and [`number`] reads such a setting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What seeds came to.
#[derive(Debug)]
pub struct Outcomes<R, E> {
    /// The seeds that failed, with the reason.
    pub failed: Vec<(u64, E)>,
    /// What the others reported.
    pub reports: Vec<R>,
}

/// A number from the environment, or `default` where it is not set or no number.
#[must_use]
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seed of a test that takes one: `FERRULE_SEED` where that is set, else `default`. It is printed.
#[must_use]
pub fn one(default: u64) -> u64 {
    let seed = number("FERRULE_SEED", default);
    println!("seed {seed}: replay with FERRULE_SEED={seed}");
    seed
}

/// Runs `count` seeds until `enough` of them have failed.
pub fn run<R: Send, E: Send>(
    count: u64,
    enough: usize,
    trial: impl Fn(u64) -> Result<R, E> + Sync,
) -> Outcomes<R, E> {
    let first = number("FERRULE_SEED", 0);
    let next = AtomicU64::new(first);
    let outcomes = Mutex::new(Outcomes { failed: Vec::new(), reports: Vec::new() });
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failures = outcomes.lock().unwrap_or_else(PoisonError::into_inner).failed.len();
                    if seed >= first + count || failures >= enough {
                        break;
                    }
                    let outcome = trial(seed);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(report) => outcomes.reports.push(report),
                        Err(reason) => outcomes.failed.push((seed, reason)),
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}
