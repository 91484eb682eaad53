//! A reactor without work costs nothing. Alone in its process, because it measures the process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "the processor time of a thread is a system call")]

mod support;

use std::time::{Duration, Instant};

use io::{Clock, Io, Net};
use reactor::{DriveSet, Features, Reactor, ReactorConfig};
use support::{pair, resident_bytes, single};

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Processor time of a second without work, but with a timer ten times in it, as keep-alives would have it.
fn idle_second(reactor: &mut Reactor<u64>) -> Duration {
    let mut events = Vec::new();
    let (start, used) = (Instant::now(), thread_cpu_time());
    while start.elapsed() < Duration::from_secs(1) {
        let next = reactor.now() + Duration::from_millis(100);
        reactor.poll(Some(next), &mut events).unwrap();
    }
    assert!(events.is_empty());
    let used = thread_cpu_time() - used;
    println!("{used:?} of processor time");
    used
}

#[test]
fn sixty_four_idle_connections_cost_less_than_a_hundredth_of_a_core_and_little_memory() {
    for features in [Features::all(), Features::none()] {
        let before = resident_bytes();
        // As a server has it: the full arena.
        let config = ReactorConfig { features, pin: false, ..ReactorConfig::new(DriveSet::none(), 1) };
        let mut reactor = single(&config);
        let _hosts: Vec<_> = (0..64)
            .map(|_| {
                let (theirs, ours) = pair(&mut reactor);
                reactor.receive(ours);
                theirs
            })
            .collect();
        let mut events = Vec::new();
        reactor.poll(Some(reactor.now()), &mut events).unwrap();
        // On a busy machine a second may be dear, but not one of several.
        let used = (0..5).map(|_| idle_second(&mut reactor)).find(|used| *used < Duration::from_millis(10));
        assert!(used.is_some(), "idling takes more than a hundredth of a core");
        assert!(resident_bytes() < before + (16 << 20), "idling took {} bytes", resident_bytes() - before);
    }
}
