//! Mail: late, in order per lane, refused when the box is full.

use std::time::Duration;

use io::{Event, Lane, Mail, ReactorId};

use crate::SimIo;
use crate::core::{Core, Delivery, Occurrence, Submission};

/// Requests from one sender that a box holds.
const BOX_REQUESTS: usize = 256;

impl<M: Send + 'static> Mail for SimIo<M> {
    type Message = M;

    fn reactor(&self) -> ReactorId {
        self.reactor
    }

    fn reactors(&self) -> u16 {
        u16::try_from(self.core().reactors.len()).expect("reactors are numbered by a u16")
    }

    fn post(&mut self, to: ReactorId, lane: Lane, message: M) -> Result<(), M> {
        let from = self.reactor;
        let mut core = self.core_mut();
        if lane == Lane::Request {
            let odds = core.faults.mail_refusal_one_in;
            let refused = core.random.one_in(odds);
            let waiting = core.reactor(to).requests_waiting.entry(Some(from)).or_default();
            if refused || *waiting >= BOX_REQUESTS {
                return Err(message);
            }
            *waiting += 1;
        }
        core.reactor(from).submitted.push(Submission::Mail { to, lane, message });
        Ok(())
    }
}

impl<M: Send + 'static> Core<M> {
    pub(crate) fn start_mail(&mut self, from: ReactorId, to: ReactorId, lane: Lane, message: M) {
        if from == to {
            self.deliver_mail(to, Some(from), lane, message);
        } else {
            self.send_mail(to, Some(from), lane, message);
        }
    }

    /// Puts mail on its way, behind all earlier mail of its lane.
    pub(crate) fn send_mail(&mut self, to: ReactorId, from: Option<ReactorId>, lane: Lane, message: M) {
        let delay = self.faults.mail_latency.draw(&mut self.random);
        let soonest = self.now + Duration::from_nanos(delay);
        let last = self.reactor(to).last_mail.entry((from, lane == Lane::Request)).or_default();
        *last = (*last).max(soonest);
        let when = *last;
        self.schedule_at(when, Occurrence::Mail { to, from, lane, message });
    }

    pub(crate) fn deliver_mail(&mut self, to: ReactorId, from: Option<ReactorId>, lane: Lane, message: M) {
        let delivery = match lane {
            Lane::Request => Delivery::Request { from },
            Lane::Reply => Delivery::Plain,
        };
        self.reactor(to).inbox.push_back((delivery, Event::Mail { from, message }));
    }
}
