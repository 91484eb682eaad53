//! A reactor whose CPU others want too. Alone in its process, because it changes how its threads are scheduled.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "CPUs and scheduling policies are set by system calls")]

mod support;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use io::{Clock, Event, Io, Net};
use reactor::Features;
use support::{bare, pair, until};

/// Keeps this thread, and those that it starts, on the CPU where it runs.
fn stay() {
    // SAFETY: a set of no CPUs is all zeros.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: it takes nothing.
    let cpu = unsafe { libc::sched_getcpu() };
    // SAFETY: a CPU that runs a thread is below the set's size.
    unsafe { libc::CPU_SET(usize::try_from(cpu).unwrap(), &mut set) };
    // SAFETY: the set outlives the call; 0 is the calling thread.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }, 0);
}

/// Gives this thread a priority with which only those of the same run beside it, and these when it lets them.
fn insist() -> bool {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the priority outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

#[test]
fn a_reactor_that_looks_for_work_lets_others_on_its_cpu_go_first() {
    /// Shorter than any spin: no poll sleeps.
    const LOOK: Duration = Duration::from_micros(15);
    /// The kernel itself stops such threads after 950 ms.
    const LIMIT: Duration = Duration::from_millis(300);

    stay();
    let mut reactor = bare(Features::all());
    let (mut host, ours) = pair(&mut reactor);
    // It spins once it knows that more comes soon.
    for _ in 0..100 {
        reactor.receive(ours);
        host.write_all(b"x").unwrap();
        until(&mut reactor, |_, event| matches!(event, Event::Received { .. }).then_some(()));
    }
    let has_run = Arc::new(AtomicBool::new(false));
    let (go, gone) = mpsc::channel();
    let other = std::thread::spawn({
        let has_run = Arc::clone(&has_run);
        move || {
            let may = insist();
            go.send(may).unwrap();
            if may {
                std::thread::park();
                has_run.store(true, Ordering::Release);
            }
        }
    });
    if !gone.recv().unwrap() || !insist() {
        println!("this process may set no priorities: nothing was tested");
        return;
    }
    other.thread().unpark();
    let sleeps = reactor.stats().sleeps;
    let (start, mut polls, mut events) = (Instant::now(), 0, Vec::new());
    while !has_run.load(Ordering::Acquire) && start.elapsed() < LIMIT {
        let deadline = reactor.now() + LOOK;
        reactor.poll(Some(deadline), &mut events).unwrap();
        polls += 1;
    }
    assert_eq!(reactor.stats().sleeps, sleeps, "a reactor that sleeps lets everybody run");
    assert!(has_run.load(Ordering::Acquire), "{polls} polls let nobody run");
    other.join().unwrap();
}
