//! Rates of limited volumes: token buckets, each kept by one reactor for all.
//!
//! A volume's bucket lives on the reactor that its NSID names. Reactors with commands of the volume draw on it in turn, so
//! that those with the same demand get the same share. A draw is granted while anything is in the bucket, as far as that
//! goes: where a volume has been below its rate that is a slice of some milliseconds' worth. Where its commands wait, little
//! has come since the last grant, and they are let go one by one, or by the step of a short time's worth, by which the
//! bucket may go below zero. So what is given in any time `t` is at most `rate * t`, the burst, and one step; and where there
//! is demand it is at least `rate * t` less a step.
//!
//! Twenty commands let go together would be at a drive together, and a neighbour's next one behind them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use io::{ReactorId, Time};
use subsystem::{Direction, Draw, Rate, Rates};

/// What a bucket holds at most, in time: a timer that comes late by less than this loses nothing.
const BURST: Duration = Duration::from_millis(20);

/// What is drawn at once is at most about this part of a second's worth.
const DRAWS_PER_SECOND: u64 = 500;

/// What is given at least where anything is, is this part of a second's worth: what can keep the rate at all does so much in
/// an eighth of a millisecond, and a reactor that keeps a bucket is not woken more often.
const STEPS_PER_SECOND: u64 = 8192;

/// Commands that are let go in one round of the reactor; what hosts and drives have sent meanwhile comes before more.
const ROUND_COMMANDS: u64 = 32;

/// What one command moves at most, so that a draw for one can always be granted whole.
const COMMAND_BYTES: u64 = subsystem::limits::TRANSFER_BYTES_MAX as u64;

/// Parts of one token in which a bucket counts, so that nothing is rounded: a rate of `n` fills `n` a nanosecond.
const PARTS: i128 = 1_000_000_000;

/// The buckets of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    namespaces: BTreeMap<u32, [Lane; 2]>,
    granted: VecDeque<(ReactorId, Draw)>,
    /// Commands that may still be let go in this round.
    left: u64,
    /// The NSID whose turn is next.
    next: u32,
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
                draw.bytes_least = draw.bytes_least.min(draw.bytes);
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

    /// A round of the reactor begins.
    pub(crate) fn begin_round(&mut self) {
        self.left = ROUND_COMMANDS;
    }

    /// Grants what can be granted now and in this round.
    pub(crate) fn run(&mut self, now: Time) {
        if self.namespaces.is_empty() {
            return;
        }
        while self.left > 0 && self.grant_each(now) {}
    }

    /// Grants each volume and direction one draw, beginning where the last round ended. False if nothing was granted.
    fn grant_each(&mut self, now: Time) -> bool {
        let Self { namespaces, granted, left, next } = self;
        let from = *next;
        let before = granted.len();
        for range in [(Bound::Included(from), Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(from))] {
            for (nsid, lanes) in namespaces.range_mut(range) {
                if *left == 0 {
                    *next = *nsid;
                    return true;
                }
                for (to, draw) in lanes.iter_mut().filter_map(|lane| lane.grant(now)) {
                    *left = left.saturating_sub(draw.ios.max(1));
                    granted.push_back((to, draw));
                }
            }
        }
        granted.len() > before
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

impl Lane {
    /// Grants the draw whose turn it is, as far as it goes.
    fn grant(&mut self, now: Time) -> Option<(ReactorId, Draw)> {
        let (from, draw) = self.waiting.front().copied()?;
        self.ios.fill(now);
        self.bytes.fill(now);
        if !self.ios.has_any(draw.ios) || !self.bytes.has_any(draw.bytes) {
            return None;
        }
        self.waiting.pop_front();
        let ios = self.ios.take(1, draw.ios);
        let bytes = self.bytes.take(draw.bytes_least, draw.bytes);
        Some((from, Draw { ios, bytes, ..draw }))
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

    /// Takes what is there, no more than `most`: at least `least`, and at least a step.
    fn take(&mut self, least: u64, most: u64) -> u64 {
        if self.rate == 0 {
            return most;
        }
        let whole = u64::try_from(self.parts / PARTS).unwrap_or(0);
        let count = whole.max(least).max(self.rate / STEPS_PER_SECOND).min(most);
        self.parts -= i128::from(count) * PARTS;
        count
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
        Draw { nsid: NSID, direction: Direction::Read, ios, bytes, bytes_least: bytes }
    }

    fn round(buckets: &mut Buckets, now: Time) {
        buckets.begin_round();
        buckets.run(now);
    }

    /// Lets `askers` draw for ever, the next time as soon as the last was granted; what each got in `time`.
    fn run(buckets: &mut Buckets, draws: &[Draw], time: Duration, late: Duration) -> Vec<u64> {
        let mut got = vec![0; draws.len()];
        let mut now = Time(0);
        for (asker, draw) in draws.iter().enumerate() {
            buckets.draw(ReactorId(u16::try_from(asker).expect("a few")), *draw);
        }
        while now < Time(0) + time {
            round(buckets, now);
            while let Some((asker, granted)) = buckets.poll_granted() {
                got[usize::from(asker.0)] += granted.ios.max(granted.bytes);
                buckets.draw(asker, draws[usize::from(asker.0)]);
                round(buckets, now);
            }
            now = buckets.poll_timeout().expect("somebody always waits").max(Time(now.0 + 1)) + late;
        }
        got
    }

    #[test]
    fn what_waits_is_let_go_evenly() {
        for (ios, most) in [(10_240, 1), (100_000, 12)] {
            let mut buckets = limited(ios, 0);
            // What came while nobody asked is given at once; from then on somebody always waits.
            run(&mut buckets, &[draw(ios / 500, 0)], Duration::from_millis(100), Duration::ZERO);
            let (mut now, mut last) = (Time(0) + Duration::from_millis(100), None);
            for _ in 0..1000 {
                now = buckets.poll_timeout().expect("somebody waits").max(now);
                round(&mut buckets, now);
                while let Some((asker, granted)) = buckets.poll_granted() {
                    assert!(granted.ios <= most, "{} of {ios} a second at once", granted.ios);
                    let apart = last.map_or(Duration::MAX, |last| now.since(last));
                    assert!(apart >= Duration::from_micros(90), "{apart:?} between two of {ios} a second");
                    last = Some(now);
                    buckets.draw(asker, draw(ios / 500, 0));
                }
            }
        }
    }

    #[test]
    fn volumes_whose_time_has_come_together_take_turns_over_rounds() {
        const VOLUMES: u32 = 100;
        let mut buckets = Buckets::default();
        let rates = Rates { read: Rate { ios: 1000, bytes: 0 }, write: Rate::default() };
        for nsid in 0..VOLUMES {
            buckets.set(nsid, rates, Time(0));
            buckets.draw(ReactorId(0), Draw { nsid, ..draw(1, 0) });
        }
        let (mut served, mut rounds) = (vec![0; VOLUMES as usize], 0);
        let now = Time(0) + Duration::from_millis(20);
        while served.iter().any(|count| *count < 3) {
            rounds += 1;
            buckets.begin_round();
            let mut together = 0;
            loop {
                buckets.run(now);
                let Some((asker, granted)) = buckets.poll_granted() else { break };
                together += granted.ios;
                served[granted.nsid as usize] += 1;
                buckets.draw(asker, Draw { nsid: granted.nsid, ..draw(1, 0) });
            }
            assert!(together <= ROUND_COMMANDS, "{together} in one round");
            let (least, most) = (served.iter().min().copied(), served.iter().max().copied());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{served:?}");
            assert!(buckets.poll_timeout().is_some_and(|when| when <= now), "the next round is due");
        }
        assert_eq!(rounds, u64::from(3 * VOLUMES).div_ceil(ROUND_COMMANDS));
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
        // All that is there, the step beyond it, and what has to wait.
        for ios in [100, 1, 1] {
            buckets.draw(ReactorId(0), draw(ios, 0));
            round(&mut buckets, Time(0));
        }
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
            round(&mut buckets, now);
            while let Some((_, granted)) = buckets.poll_granted() {
                got += granted.ios;
                buckets.draw(ReactorId(0), draw(1, 0));
                round(&mut buckets, now);
            }
            now = buckets.poll_timeout().expect("somebody waits").max(Time(now.0 + 1));
        }
        assert!((90..=104).contains(&got), "{got}");
    }
}
