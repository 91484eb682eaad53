//! Requests of nobody: told once and then counted, so that strangers do not drive out of the log what others have done.
//!
//! The first request of an address that ends with a status is an event at once. What follows it within an hour, from the
//! same address with the same status, is one event at the end of the hour. Only a few addresses are told apart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Event;

/// What strangers have asked for of late.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// When what was counted is told; none while nothing was asked.
    due: Option<Instant>,
    seen: BTreeMap<Source, Counted>,
}

/// Who asks, by address, and the status of the answer; none for all that are not told apart.
type Source = Option<(IpAddr, u32)>;

#[derive(Debug)]
struct Counted {
    /// When the first was.
    since: String,
    /// How many came after the first.
    more: u64,
    last: Event,
}

impl Strangers {
    /// Whether `event`, a request of nobody from `peer`, is told by itself.
    pub(super) fn admit(&mut self, peer: Option<IpAddr>, event: &Event, now: Instant) -> bool {
        self.due.get_or_insert(now + PERIOD);
        let is_known = |source: &(IpAddr, u32)| self.seen.contains_key(&Some(*source));
        let source = peer.map(|peer| (peer, event.cause));
        let source = source.filter(|source| is_known(source) || self.seen.len() < SOURCES_MAX);
        if let Some(counted) = self.seen.get_mut(&source) {
            counted.more += 1;
            counted.last = event.clone();
            return false;
        }
        let counted = Counted { since: event.time.clone(), more: 0, last: event.clone() };
        self.seen.insert(source, counted);
        true
    }

    /// When [`Self::take`] has something to give.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Events of what was counted, if it is time; everyone is new after that.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Event> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        let seen = std::mem::take(&mut self.seen).into_iter();
        seen.filter(|(_, counted)| counted.more > 0).map(|(source, counted)| counted.told(source)).collect()
    }
}

impl Counted {
    fn told(self, source: Source) -> Event {
        let Self { since, more, last } = self;
        let from = source.map_or_else(|| "other addresses".to_owned(), |(peer, _)| peer.to_string());
        let text = format!("{more} more like it from {from} since {since}, the last at {}: ", last.time);
        // The time of the event is when it is told: whoever reads on from a time does not miss it.
        Event { description: text + &last.description, time: String::new(), ..last }
    }
}

const PERIOD: Duration = Duration::from_secs(3600);
/// Sources that are told apart. With two events of each in an hour, strangers fill the log in ten days at the earliest.
const SOURCES_MAX: usize = 16;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn many_addresses_are_few_events() {
        let mut strangers = Strangers::default();
        let start = Instant::now();
        let event = Event { time: "t".to_owned(), cause: 401, ..Event::default() };
        let mut told = 0;
        for _ in 0..2 {
            for number in 0..10_000_u32 {
                let peer = Some(IpAddr::from(number.to_be_bytes()));
                told += u32::from(strangers.admit(peer, &event, start));
            }
        }
        assert_eq!(told, 17, "those that are told apart, and one of the others");
        assert_eq!(strangers.due(), Some(start + PERIOD));
        assert!(strangers.take(start).is_empty());
        let merged = strangers.take(start + PERIOD);
        assert_eq!(merged.len(), 17);
        let others = "19967 more like it from other addresses since t, the last at t: ";
        assert_eq!(merged[0].description, others);
        assert_eq!(strangers.due(), None);
        assert!(strangers.admit(None, &event, start + PERIOD));
    }
}
