//! What the figures were taken on.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::bound::pin;

/// How long a cache line is sent back and forth for one figure.
const EXCHANGE_TIME: Duration = Duration::from_millis(4);
/// Exchanges between two looks at the clock.
const EXCHANGES: u64 = 64;
/// How often a round is repeated in which the distance changed, by more than this factor.
const REPEATS_MAX: u32 = 3;
pub(crate) const SAME_WITHIN: f64 = 1.5;

/// Processor, cores, memory, kernel, and how busy it is before anything runs.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let guest = if cpuinfo.contains(" hypervisor") { ", a virtual machine" } else { "" };
    format!(
        "{model}, {cores} CPUs{guest}, {:.0} GiB, Linux {}; {}",
        kib as f64 / 1048576.0,
        kernel.trim(),
        load()
    )
}

/// The load averages now: more than the server and the load themselves means that others ran too.
pub(crate) fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split_whitespace().take(3).collect();
    format!("load average {}", averages.join(" "))
}

/// A figure and its bound that are of the same machine: where the distance of the two CPUs was another one afterwards, it is
/// measured again, a few times. `noted` is told of every distance that counts.
pub(crate) fn settled<T>(cpus: (u32, u32), mut measure: impl FnMut() -> T, mut noted: impl FnMut(f64)) -> T {
    let mut left = REPEATS_MAX;
    let mut before = line_nanos(cpus);
    loop {
        let measured = measure();
        let after = line_nanos(cpus);
        let (Some(one), Some(other)) = (before, after) else { return measured };
        if one.max(other) <= one.min(other) * SAME_WITHIN || left == 0 {
            noted(one);
            noted(other);
            return measured;
        }
        left -= 1;
        before = after;
    }
}

/// Nanoseconds that a cache line takes from one CPU to another and back. Where a hypervisor moves virtual CPUs between cores
/// that share a cache and cores that do not, all that two CPUs do together has two speeds. `None` where threads cannot be
/// kept on the CPUs.
pub(crate) fn line_nanos(cpus: (u32, u32)) -> Option<f64> {
    /// Alone on its lines, as the processor fetches them in pairs.
    #[repr(align(128))]
    struct Turn(AtomicU64);
    const END: u64 = u64::MAX;

    // Odd while it is the other thread's turn, as at first, until that is where it shall be.
    let turn = Turn(AtomicU64::new(1));
    let wait_for = |parity: u64| {
        loop {
            match turn.0.load(Ordering::Acquire) {
                END => return None,
                value if value % 2 == parity => return Some(value),
                _ => std::hint::spin_loop(),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if pin(cpus.1).is_err() {
                turn.0.store(END, Ordering::Release);
            }
            while let Some(value) = wait_for(1) {
                turn.0.store(value + 1, Ordering::Release);
            }
        });
        let measuring = scope.spawn(|| {
            let pinned = pin(cpus.0).is_ok();
            let first = wait_for(0)?;
            let (mut value, start) = (first, Instant::now());
            while pinned && start.elapsed() < EXCHANGE_TIME {
                for _ in 0..EXCHANGES {
                    turn.0.store(value + 1, Ordering::Release);
                    value = wait_for(0)?;
                }
            }
            let exchanges = (value - first) / 2;
            let nanos = start.elapsed().as_nanos();
            turn.0.store(END, Ordering::Release);
            pinned.then(|| nanos as f64 / exchanges as f64)
        });
        measuring.join().expect("it ends in order")
    })
}
