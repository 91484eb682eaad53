//! The loop's one blocking call: submit once, take what has come, look a while for more, sleep.

use std::time::Duration;

use io::{Event, EventOf, Io, IoFault, Time};

use crate::Reactor;
use crate::features::Feature;
use crate::ring::{Completion, Kind, wake};

/// How long a sleep lasts at most while something waits that no completion announces: a buffer that another reactor
/// may drop, room for a reply.
const NAP: Duration = Duration::from_millis(1);
/// How often memory that was not needed meanwhile is given back to the system.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// Chunks that are given back at a time, so that the reactor stays responsive.
const TRIM_CHUNKS: usize = 32;
/// Chunks that a reactor keeps in any case.
const KEPT_CHUNKS: usize = 16;
/// Disk operations that end in one round. A drive that tells of many at once would have nothing to do while all of them are
/// answered; with a few in turn, their hosts' next commands come and begin in between.
const DISK_EVENTS_PER_ROUND: usize = 8;
/// The same while the drives have nothing to do but what the first of these hosts send next.
const DISK_EVENTS_PER_ROUND_AT_REST: usize = 4;
/// Looks at the queues between two looks at the clock: about two microseconds of them.
const LOOKS: usize = 32;
/// How long a reactor looks for work before it lets others on its CPU go first.
const YIELD_EVERY: Duration = Duration::from_micros(8);

impl<M: Send + 'static> Io for Reactor<M> {
    /// Beyond what the seam promises: where an allocation was refused since the last poll, this returns after a
    /// millisecond even without an event, because a buffer may have come back from another reactor.
    fn poll(&mut self, deadline: Option<Time>, events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault> {
        self.counters.polls += 1;
        let before = events.len();
        self.prepare();
        self.collect(events);
        // A deadline that has passed since the last round began is found by whoever reads the clock next.
        let is_due = deadline.is_some_and(|deadline| deadline <= self.clock.round);
        let rests = events.len() == before && !is_due && self.transferred.is_empty();
        if rests && self.spin_budget().is_zero() {
            // What hands over is what sleeps: one system call instead of two.
            self.sleep(deadline, events)?;
        } else {
            self.ring.submit()?;
            self.harvest(events);
            if events.len() == before && !is_due {
                self.spin(deadline, events)?;
                if events.len() == before {
                    self.sleep(deadline, events)?;
                }
            }
        }
        // In a round that finds work at once this is the only look at the clock.
        self.clock.round = self.clock.read();
        self.trim(self.clock.round);
        let found = events.len() - before;
        if found > 0 {
            self.pace.note(self.clock.round, found);
        }
        Ok(())
    }
}

impl<M: Send + 'static> Reactor<M> {
    /// Queues what has become possible or necessary since the last submission.
    fn prepare(&mut self) {
        if !self.is_listening {
            self.is_listening = true;
            let bell = self.office.bell(io::Mail::reactor(self));
            self.listening.start(&mut self.ring, bell);
        }
        // Only a listener that rests looks at the time, which may have passed within this poll.
        let now = if self.sockets.deadline().is_some() { self.clock.read() } else { self.clock.round };
        self.sockets.prepare(&mut self.ring, &mut self.arena, now, &mut self.ready);
        let Self { ring, desk, counters, .. } = self;
        let by_ring = ring.features().has(Feature::MsgRing);
        desk.flush(|to, waking| {
            counters.wakes += 1;
            match waking.ring {
                Some(ring_fd) if by_ring => wake::send_message(ring, to.0, ring_fd),
                _ => waking.bell.ring(),
            }
        });
    }

    /// Moves what has happened to the caller.
    fn collect(&mut self, events: &mut Vec<EventOf<Self>>) {
        events.extend(self.ready.drain(..));
        let Self { desk, counters, .. } = self;
        desk.take(|from, message| {
            counters.mail_taken += 1;
            events.push(Event::Mail { from, message });
        });
    }

    /// Takes the completions that are there, those of disk operations as far as [`DISK_EVENTS_PER_ROUND`] or less.
    fn harvest(&mut self, events: &mut Vec<EventOf<Self>>) {
        while let Some(completion) = self.ring.next() {
            self.complete(completion);
        }
        let mut disk_events = 0;
        let most =
            if self.transfers.is_at_rest() { DISK_EVENTS_PER_ROUND_AT_REST } else { DISK_EVENTS_PER_ROUND };
        while disk_events < most
            && let Some(completion) = self.transferred.pop_front()
        {
            let ready = self.ready.len();
            self.complete_transfer(completion);
            disk_events += self.ready.len() - ready;
        }
        self.collect(events);
    }

    fn complete(&mut self, completion: Completion) {
        match completion.key.kind {
            Kind::Accept => {
                let now = self.clock.read();
                self.sockets.complete_accept(completion, now, &mut self.ready);
            }
            Kind::Bell => self.is_listening = false,
            Kind::Cancel => {}
            Kind::Message => {
                if completion.result < 0
                    && let Ok(to) = u16::try_from(completion.key.slot)
                {
                    self.desk.ring_bell(io::ReactorId(to));
                }
            }
            Kind::Readiness | Kind::Receive | Kind::ReceiveInto | Kind::Send => {
                self.sockets.complete(&mut self.ring, &mut self.arena, completion, &mut self.ready);
            }
            Kind::Transfer => {
                self.transfers.on_found();
                self.transferred.push_back(completion);
            }
        }
    }

    /// How long to look for work before sleeping.
    fn spin_budget(&self) -> Duration {
        // The thread of the kernel that flushes a drive may have no other core than this one.
        if self.transfers.is_flushing() { Duration::ZERO } else { self.pace.spin() }
    }

    /// Looks for work while recent traffic makes it likely.
    fn spin(&mut self, deadline: Option<Time>, events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault> {
        let budget = self.spin_budget();
        if budget.is_zero() {
            return Ok(());
        }
        let before = events.len();
        let start = self.clock.read();
        let mut until = start + budget;
        if let Some(deadline) = deadline {
            until = until.min(deadline);
        }
        self.counters.spins += 1;
        let (mut now, mut yield_at) = (start, start + YIELD_EVERY);
        while events.len() == before && now < until {
            for _ in 0..LOOKS {
                if self.ring.has_news() || self.desk.has_mail() {
                    self.ring.submit()?;
                    self.harvest(events);
                    if events.len() == before {
                        // An operation of our own has ended or goes on.
                        self.prepare();
                        self.ring.submit()?;
                    }
                    break;
                }
                std::hint::spin_loop();
            }
            now = self.clock.read();
            if now >= yield_at && events.len() == before {
                // It may be who brings what is waited for: a thread of the kernel that does for a drive what cannot be done
                // at once, or that takes packets in, or a host on this machine. The scheduler alone would let each of them
                // wait for milliseconds.
                std::thread::yield_now();
                yield_at = now + YIELD_EVERY;
            }
        }
        self.counters.spin_nanos += now.0.saturating_sub(start.0);
        Ok(())
    }

    /// Submits and sleeps in the kernel until something has come or the deadline has passed.
    fn sleep(&mut self, deadline: Option<Time>, events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault> {
        let before = events.len();
        let refused = self.arena.refused();
        let is_starved = refused != self.counters.refused_seen;
        self.counters.refused_seen = refused;
        loop {
            // What was taken since the last look without an event may have left something to queue, the bell above all:
            // a reactor that sleeps without listening is woken by nobody.
            self.prepare();
            self.collect(events);
            if events.len() > before {
                return Ok(());
            }
            let now = self.clock.read();
            let is_due = deadline.is_some_and(|deadline| deadline <= now);
            if is_due || !self.desk.fall_asleep() {
                self.ring.submit()?;
                self.harvest(events);
                if is_due || events.len() > before {
                    return Ok(());
                }
                continue;
            }
            let timeout = self.timeout(deadline, now, is_starved);
            let (want, min_wait) = self.pace.batch();
            self.counters.sleeps += 1;
            let slept = self.ring.wait(want, timeout, min_wait);
            self.desk.wake_up();
            slept?;
            self.harvest(events);
            self.counters.sleep_nanos += self.clock.read().since(now).as_nanos() as u64;
            if events.len() > before || is_starved {
                return Ok(());
            }
            self.trim(self.clock.read());
        }
    }

    /// Gives back memory of which more was needed once than is now.
    fn trim(&mut self, now: Time) {
        if now < self.trim_at {
            return;
        }
        self.trim_at = now + TRIM_EVERY;
        let spare = self.arena.touched_chunks().saturating_sub(KEPT_CHUNKS);
        if spare > 0 {
            let Self { arena, ring, .. } = self;
            arena.trim(spare.min(TRIM_CHUNKS), |chunk| ring.forget_chunk(chunk));
        }
        if self.lasting.may_trim() {
            self.lasting.trim(TRIM_CHUNKS);
        }
    }

    /// How long a sleep may last; `None` where only an event shall end it.
    fn timeout(&self, deadline: Option<Time>, now: Time, is_starved: bool) -> Option<Duration> {
        let naps = is_starved || self.sockets.is_waiting() || self.desk.has_late();
        // Where there is nothing to give back, nobody wakes for it.
        let trims = self.arena.touched_chunks() > KEPT_CHUNKS || self.lasting.may_trim();
        [deadline, self.sockets.deadline(), naps.then(|| now + NAP), trims.then_some(self.trim_at)]
            .into_iter()
            .flatten()
            .min()
            .map(|until| until.since(now))
    }
}
