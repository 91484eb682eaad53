//! A thread of the load: drives its queues round and round until the time is over and nothing is outstanding.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use io::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::clock::Stopwatch;
use super::error::LoadError;
use super::lane::Lane;
use super::options::Waiting;

/// Bytes that one receive takes at most.
const RECEIVE_BYTES: usize = 256 << 10;
/// How long a target may leave a queue without any completion.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a thread that sleeps for its sockets does so at most.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What the threads and the one that started them tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Stop early.
    pub(super) stop: AtomicBool,
    /// Commands that succeeded so far.
    pub(super) completed: AtomicU64,
    /// Bytes that they moved.
    pub(super) bytes: AtomicU64,
    /// Commands that failed so far.
    pub(super) errors: AtomicU64,
}

/// How a thread of the load runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) clock: Stopwatch,
    /// When no more commands begin.
    pub(super) until: Time,
    pub(super) waiting: Waiting,
    /// CPU that the thread is pinned to.
    pub(super) cpu: Option<u32>,
}

/// Drives `lanes` to the end and gives them back, still connected.
pub(super) fn drive(mut lanes: Vec<Lane>, course: Course, signals: &Signals) -> Result<Vec<Lane>, LoadError> {
    let driven = pin(course.cpu).and_then(|()| drive_lanes(&mut lanes, course, signals));
    if driven.is_err() {
        signals.stop.store(true, Ordering::Relaxed);
    }
    driven.map(|()| lanes)
}

fn drive_lanes(lanes: &mut [Lane], course: Course, signals: &Signals) -> Result<(), LoadError> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut shown = Shown::default();
    let mut heard = course.clock.now();
    loop {
        let mut now = course.clock.now();
        let mut moved = false;
        for lane in &mut *lanes {
            if lane.receive(&mut buffer)? {
                now = course.clock.now();
                moved = true;
                if lane.reap(now) {
                    heard = now;
                }
            }
            let stopping = now >= course.until && !lane.is_reading_back();
            moved |= lane.fill_and_send(now, stopping || signals.stop.load(Ordering::Relaxed))?;
        }
        shown.show(lanes, signals);
        let over = now >= course.until || signals.stop.load(Ordering::Relaxed);
        if over && lanes.iter_mut().all(|lane| lane.outstanding() == 0 && !lane.read_back()) {
            return Ok(());
        }
        if now.since(heard) > SILENCE_MAX {
            return Err(LoadError::Timeout("an answer of the target", SILENCE_MAX.as_secs()));
        }
        match course.waiting {
            _ if moved => {}
            Waiting::Spin => std::hint::spin_loop(),
            Waiting::Block => sleep(lanes, now)?,
        }
    }
}

/// What a thread has added to the common counts.
#[derive(Debug, Default)]
struct Shown {
    completed: u64,
    bytes: u64,
    errors: u64,
}

impl Shown {
    fn show(&mut self, lanes: &[Lane], signals: &Signals) {
        let completed = lanes.iter().map(|lane| lane.tally().completed).sum();
        if completed != self.completed {
            signals.completed.fetch_add(completed - self.completed, Ordering::Relaxed);
            self.completed = completed;
            let bytes = lanes.iter().map(Lane::completed_bytes).sum();
            signals.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
        let errors = lanes.iter().map(|lane| lane.tally().errors.values().sum::<u64>()).sum();
        if errors != self.errors {
            signals.errors.fetch_add(errors - self.errors, Ordering::Relaxed);
            self.errors = errors;
        }
    }
}

/// Waits until a socket has bytes, or takes some where there are some to send, or a command is due.
fn sleep(lanes: &[Lane], now: Time) -> Result<(), LoadError> {
    let due = lanes.iter().filter_map(|lane| lane.idle_for(now)).min();
    let limit = due.map_or(SLEEP_MAX, |due| due.min(SLEEP_MAX));
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    let interest = |lane: &Lane| {
        if lane.wants_send() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    };
    let mut sockets: Vec<PollFd<'_>> =
        lanes.iter().map(|lane| PollFd::new(lane.socket(), interest(lane))).collect();
    match poll(&mut sockets, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(LoadError::System { action: "wait for sockets", source: errno.into() }),
    }
}

fn pin(cpu: Option<u32>) -> Result<(), LoadError> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    if (cpu as usize) < CpuSet::MAX_CPU {
        set.set(cpu as usize);
    }
    sched_setaffinity(None, &set)
        .map_err(|errno| LoadError::System { action: "pin a thread to its CPU", source: errno.into() })
}
