//! Rates of limited volumes: token buckets, each kept by one reactor for all.
//!
//! A volume's bucket lives on the reactor that its NSID names. Reactors with commands of the volume draw slices of a
//! five-hundredth of a second's worth, in turn, so that those with the same demand get the same share. A draw is granted
//! while anything is in the bucket, which may go below zero by one draw: so what is given in any time `t` is at most
//! `rate * t`, the burst, and one draw; and where there is demand it is at least `rate * t` less a draw.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use io::{ReactorId, Time};
use subsystem::{Direction, Draw, Rate, Rates};

/// What a bucket holds at most, in time: a timer that comes late by less than this loses nothing.
const BURST: Duration = Duration::from_millis(20);

/// What is drawn at once is about this part of a second's worth.
const DRAWS_PER_SECOND: u64 = 500;

/// What one command moves at most, so that a draw for one can always be granted whole.
const COMMAND_BYTES: u64 = subsystem::limits::TRANSFER_BYTES_MAX as u64;

/// Parts of one token in which a bucket counts, so that nothing is rounded: a rate of `n` fills `n` a nanosecond.
const PARTS: i128 = 1_000_000_000;

/// The buckets of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    namespaces: BTreeMap<u32, [Lane; 2]>,
    granted: VecDeque<(ReactorId, Draw)>,
}

/// One direction of a volume.
#[derive(Debug, Default)]
struct Lane {
    ios: Bucket,
    bytes: Bucket,
    waiting: VecDeque<(ReactorId, Draw)>,
}

#[derive(Debug, Default)]
struct Bucket {
    rate: u64,
    parts: i128,
    at: Time,
}

/// The reactor that keeps a volume's buckets.
pub(crate) fn keeper(nsid: u32, reactors: u16) -> ReactorId {
    ReactorId(u16::try_from(nsid % u32::from(reactors)).expect("less than the number of reactors"))
}

impl Buckets {
    /// Other rates for a volume.
    pub(crate) fn set(&mut self, nsid: u32, rates: Rates, now: Time) {
        if rates.are_unlimited() {
            // Whoever waits is let go by the same change, and wants nothing any more.
            self.namespaces.remove(&nsid);
            return;
        }
        let lanes = self.namespaces.entry(nsid).or_default();
        for (lane, direction) in lanes.iter_mut().zip(Direction::ALL) {
            let Rate { ios, bytes } = rates.of(direction);
            lane.ios.set(ios, now);
            lane.bytes.set(bytes, now);
            // A slice of the old rate may be more than the new one gives in a long time; who gets less asks again.
            for (_, draw) in &mut lane.waiting {
                draw.ios = draw.ios.min((ios / DRAWS_PER_SECOND).max(1));
                draw.bytes = draw.bytes.min((bytes / DRAWS_PER_SECOND).max(COMMAND_BYTES));
            }
        }
    }

    /// A reactor draws.
    pub(crate) fn draw(&mut self, from: ReactorId, draw: Draw) {
        match self.namespaces.get_mut(&draw.nsid) {
            Some(lanes) => lanes[draw.direction as usize].waiting.push_back((from, draw)),
            None => self.granted.push_back((from, draw)),
        }
    }

    /// Grants what can be granted now.
    pub(crate) fn run(&mut self, now: Time) {
        for lane in self.namespaces.values_mut().flatten() {
            while let Some((from, draw)) = lane.waiting.front().copied() {
                lane.ios.fill(now);
                lane.bytes.fill(now);
                if !lane.ios.has_any(draw.ios) || !lane.bytes.has_any(draw.bytes) {
                    break;
                }
                lane.ios.take(draw.ios);
                lane.bytes.take(draw.bytes);
                lane.waiting.pop_front();
                self.granted.push_back((from, draw));
            }
        }
    }

    /// The next draw that was granted.
    pub(crate) fn poll_granted(&mut self) -> Option<(ReactorId, Draw)> {
        self.granted.pop_front()
    }

    /// When the next draw can be granted.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let waiting = self.namespaces.values().flatten().filter_map(|lane| {
            let (_, draw) = lane.waiting.front()?;
            Some(lane.ios.when(draw.ios).max(lane.bytes.when(draw.bytes)))
        });
        waiting.min()
    }
}

impl Bucket {
    fn set(&mut self, rate: u64, now: Time) {
        self.fill(now);
        if self.rate == 0 {
            self.parts = burst(rate);
        }
        self.rate = rate;
        // What was spent by a higher rate is not to be worked off by a lower one for ever.
        self.parts = self.parts.clamp(-burst(rate), burst(rate));
        self.at = now;
    }

    fn fill(&mut self, now: Time) {
        let elapsed = now.since(self.at).as_nanos();
        self.at = self.at.max(now);
        let more = i128::try_from(elapsed).unwrap_or(i128::MAX).saturating_mul(i128::from(self.rate));
        self.parts = self.parts.saturating_add(more).min(burst(self.rate));
    }

    fn has_any(&self, wanted: u64) -> bool {
        self.rate == 0 || wanted == 0 || self.parts > 0
    }

    fn take(&mut self, count: u64) {
        if self.rate > 0 {
            self.parts -= i128::from(count) * PARTS;
        }
    }

    /// The first time at which something is in the bucket.
    fn when(&self, wanted: u64) -> Time {
        if self.has_any(wanted) {
            return self.at;
        }
        let lacking = 1 - self.parts;
        let rate = i128::from(self.rate);
        let nanos = (lacking + rate - 1) / rate;
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn burst(rate: u64) -> i128 {
    // At least one token, or a bucket of a low rate would never be worth a command.
    let parts = i128::try_from(BURST.as_nanos()).unwrap_or(i128::MAX).saturating_mul(i128::from(rate));
    if rate == 0 { 0 } else { parts.max(PARTS) }
}

#[cfg(test)]
mod test {
    //! Goal: what is given is the rate, whoever asks and however it is asked for.

    use super::*;

    const NSID: u32 = 7;

    fn limited(ios: u64, bytes: u64) -> Buckets {
        let mut buckets = Buckets::default();
        let rate = Rate { ios, bytes };
        buckets.set(NSID, Rates { read: rate, write: Rate::default() }, Time(0));
        buckets
    }

    fn draw(ios: u64, bytes: u64) -> Draw {
        Draw { nsid: NSID, direction: Direction::Read, ios, bytes }
    }

    /// Lets `askers` draw for ever, the next time as soon as the last was granted; what each got in `time`.
    fn run(buckets: &mut Buckets, draws: &[Draw], time: Duration, late: Duration) -> Vec<u64> {
        let mut got = vec![0; draws.len()];
        let mut now = Time(0);
        for (asker, draw) in draws.iter().enumerate() {
            buckets.draw(ReactorId(u16::try_from(asker).expect("a few")), *draw);
        }
        while now < Time(0) + time {
            buckets.run(now);
            while let Some((asker, draw)) = buckets.poll_granted() {
                got[usize::from(asker.0)] += draw.ios.max(draw.bytes);
                buckets.draw(asker, draw);
                buckets.run(now);
            }
            now = buckets.poll_timeout().expect("somebody always waits").max(Time(now.0 + 1)) + late;
        }
        got
    }

    #[test]
    fn ten_seconds_of_a_rate_are_the_rate_within_a_burst_and_a_draw() {
        for (ios, bytes, each) in
            [(10_240, 0, draw(20, 0)), (256, 0, draw(1, 0)), (0, 1_000_000, draw(0, 1 << 20))]
        {
            for late in [0, 70, 5_000].map(Duration::from_micros) {
                let got: u64 =
                    run(&mut limited(ios, bytes), &[each], Duration::from_secs(10), late).iter().sum();
                let exact = 10 * ios.max(bytes);
                let slack = exact / 500 + each.ios.max(each.bytes) + 1;
                assert!(got.abs_diff(exact) <= slack, "{got} of {exact}, late by {late:?}");
            }
        }
    }

    #[test]
    fn reactors_with_the_same_demand_get_the_same() {
        let mut buckets = limited(10_240, 0);
        let got = run(&mut buckets, &[draw(20, 0); 3], Duration::from_secs(1), Duration::from_micros(30));
        let (least, most) = (got.iter().min().copied(), got.iter().max().copied());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 20), "{got:?}");
    }

    #[test]
    fn both_limits_hold_at_once() {
        let mut buckets = limited(1000, 1_000_000);
        // A thousand commands of 4096 bytes a second would be four times what the bytes allow.
        let got = run(&mut buckets, &[draw(1, 4096)], Duration::from_secs(2), Duration::ZERO);
        assert!(got[0].abs_diff(2_000_000) < 50_000, "{got:?}");
    }

    #[test]
    fn nothing_waits_where_nothing_is_limited_and_nobody_is_woken() {
        let mut buckets = limited(256, 0);
        assert_eq!(buckets.poll_timeout(), None);
        buckets.draw(ReactorId(0), Draw { nsid: 8, ..draw(1, 0) });
        assert!(buckets.poll_granted().is_some());
        buckets.draw(ReactorId(0), draw(100, 0));
        buckets.run(Time(0));
        buckets.draw(ReactorId(0), draw(1, 0));
        buckets.run(Time(0));
        assert!(buckets.poll_timeout().is_some());
        buckets.set(NSID, Rates::default(), Time(5));
        assert_eq!(buckets.poll_timeout(), None);
    }

    #[test]
    fn a_new_rate_holds_from_the_moment_it_is_set() {
        let mut buckets = limited(100_000, 0);
        run(&mut buckets, &[draw(200, 0)], Duration::from_secs(1), Duration::ZERO);
        let start = Time(0) + Duration::from_secs(2);
        buckets.set(NSID, Rates { read: Rate { ios: 100, bytes: 0 }, write: Rate::default() }, start);
        let (mut now, mut got) = (start, 0);
        while now < start + Duration::from_secs(1) {
            buckets.run(now);
            while let Some((_, granted)) = buckets.poll_granted() {
                got += granted.ios;
                buckets.draw(ReactorId(0), draw(1, 0));
                buckets.run(now);
            }
            now = buckets.poll_timeout().expect("somebody waits").max(Time(now.0 + 1));
        }
        assert!((90..=104).contains(&got), "{got}");
    }
}
