//! The timers of an association, in one table.

use io::Time;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The end of the step.
    Step,
    /// The next look at CSTS.
    Poll,
    /// The next Keep Alive command.
    KeepAlive,
    /// The answer to a Keep Alive command.
    KeepAliveAnswer,
}

impl Timer {
    const ALL: [Self; 4] = [Self::Step, Self::Poll, Self::KeepAlive, Self::KeepAliveAnswer];
}

/// When each timer expires, if it is set.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Time>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// The earliest expiry.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes a timer that has expired at `now`, in order of the table.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let timer =
            Timer::ALL.into_iter().find(|timer| self.0[*timer as usize].is_some_and(|at| at <= now))?;
        self.clear(timer);
        Some(timer)
    }
}
