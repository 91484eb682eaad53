//! Which command comes next, and what is known of what earlier ones wrote.
//!
//! A queue's range is counted in units, places for one command. Where data is verified each queue has a part of its
//! own and no two commands of it overlap, so that what a read must find is known.

use super::options::Pattern;
use super::payload::Expected;

/// The next command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Read, else write.
    pub(super) read: bool,
    /// Where, in units.
    pub(super) unit: u64,
}

/// Chooses the commands of one queue.
#[derive(Debug)]
pub(super) struct Plan {
    pattern: Pattern,
    read_percent: u64,
    /// First unit of the range.
    first: u64,
    /// Units in the range, not 0.
    units: u64,
    random: Random,
    /// Next unit of ascending addresses, within the range.
    next: u64,
    ledger: Option<Ledger>,
    reading_back: bool,
}

/// A pseudo-random sequence (SplitMix64); speed matters, secrecy does not.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// What is known of each unit of a verified range.
#[derive(Debug)]
struct Ledger {
    /// Version of the last write that succeeded, 0 for none; the top bit while a command is outstanding.
    units: Vec<u32>,
    version: u32,
}

const BUSY: u32 = 1 << 31;

impl Plan {
    /// Commands on `units` units from `first` on.
    pub(super) fn new(pattern: Pattern, read_percent: u8, first: u64, units: u64, seed: u64) -> Self {
        let random = Random(scramble(seed));
        Self {
            pattern,
            read_percent: u64::from(read_percent),
            first,
            units,
            random,
            next: 0,
            ledger: None,
            reading_back: false,
        }
    }

    /// Remembers what is written, to verify it.
    pub(super) fn with_ledger(mut self) -> Self {
        let units = usize::try_from(self.units).unwrap_or(usize::MAX);
        self.ledger = Some(Ledger { units: vec![0; units], version: 0 });
        self
    }

    /// Begins to read back what is known to have been written.
    pub(super) fn read_back(&mut self) {
        self.reading_back = true;
        self.next = 0;
    }

    /// The next command; `None` when all was read back, or everything in reach is busy.
    pub(super) fn next(&mut self) -> Option<Step> {
        let step = if self.reading_back { self.next_written()? } else { self.choose()? };
        if let Some(ledger) = &mut self.ledger {
            ledger.units[(step.unit - self.first) as usize] |= BUSY;
        }
        Some(step)
    }

    /// The version that the next write shall have.
    pub(super) fn next_version(&mut self) -> u64 {
        self.ledger.as_mut().map_or(0, |ledger| {
            ledger.version = ledger.version % (BUSY - 1) + 1;
            u64::from(ledger.version)
        })
    }

    /// What a read of `unit` must find.
    pub(super) fn expected(&self, unit: u64) -> Expected {
        match self.ledger.as_ref().map(|ledger| ledger.units[(unit - self.first) as usize] & !BUSY) {
            None | Some(0) => Expected::Unknown,
            Some(version) => Expected::Version(u64::from(version)),
        }
    }

    /// Notes that a read has ended.
    pub(super) fn on_read(&mut self, unit: u64) {
        if let Some(ledger) = &mut self.ledger {
            ledger.units[(unit - self.first) as usize] &= !BUSY;
        }
    }

    /// Notes that a write has ended; of one that failed nothing is known any more.
    pub(super) fn on_written(&mut self, unit: u64, version: u64, success: bool) {
        if let Some(ledger) = &mut self.ledger {
            let version = if success { version as u32 & !BUSY } else { 0 };
            ledger.units[(unit - self.first) as usize] = version;
        }
    }

    fn choose(&mut self) -> Option<Step> {
        let read = match self.pattern {
            Pattern::Read | Pattern::RandRead => true,
            Pattern::Write | Pattern::RandWrite => false,
            Pattern::RandRw => self.random.below(100) < self.read_percent,
        };
        let start = if self.pattern.is_random() { self.random.below(self.units) } else { self.next };
        let unit = match &self.ledger {
            None => start,
            // Fewer commands are outstanding than the range has units, so that a free one is near.
            Some(ledger) => {
                let mut candidates = (start..self.units).chain(0..start);
                candidates.find(|unit| ledger.units[*unit as usize] & BUSY == 0)?
            }
        };
        self.next = if unit + 1 == self.units { 0 } else { unit + 1 };
        Some(Step { read, unit: self.first + unit })
    }

    fn next_written(&mut self) -> Option<Step> {
        let ledger = self.ledger.as_ref()?;
        let rest = &ledger.units[self.next as usize..];
        let unit = self.next + rest.iter().position(|version| *version != 0)? as u64;
        self.next = unit + 1;
        Some(Step { read: true, unit: self.first + unit })
    }
}

impl Random {
    /// A number in `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(scramble(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

/// Spreads the bits of a number over all bits, one to one.
pub(super) fn scramble(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_addresses_go_round_the_range() {
        let mut plan = Plan::new(Pattern::Read, 0, 10, 3, 1);
        let units: Vec<u64> = (0..5).map(|_| plan.next().unwrap().unit).collect();
        assert_eq!(units, [10, 11, 12, 10, 11]);
    }

    #[test]
    fn random_addresses_reach_the_whole_range_and_nothing_beyond() {
        let seed = 1;
        let mut plan = Plan::new(Pattern::RandRw, 30, 100, 50, seed);
        let steps: Vec<Step> = (0..10_000).map(|_| plan.next().unwrap()).collect();
        let mut units: Vec<u64> = steps.iter().map(|step| step.unit).collect();
        units.sort_unstable();
        units.dedup();
        assert_eq!(units, (100..150).collect::<Vec<_>>(), "seed {seed}");
        let reads = steps.iter().filter(|step| step.read).count();
        assert!((2_700..3_300).contains(&reads), "{reads} of 10000 are reads, seed {seed}");
    }

    #[test]
    fn commands_of_a_verified_range_never_overlap() {
        let mut plan = Plan::new(Pattern::RandWrite, 0, 0, 8, 1).with_ledger();
        let mut units: Vec<u64> = (0..8).map(|_| plan.next().unwrap().unit).collect();
        units.sort_unstable();
        assert_eq!(units, (0..8).collect::<Vec<_>>());
        assert_eq!(plan.next(), None, "all are busy");
        plan.on_written(3, 1, true);
        assert_eq!(plan.next().map(|step| step.unit), Some(3));
    }

    #[test]
    fn what_succeeded_is_read_back_once() {
        let mut plan = Plan::new(Pattern::Write, 0, 20, 4, 1).with_ledger();
        for success in [true, false, true] {
            let (step, version) = (plan.next().unwrap(), plan.next_version());
            plan.on_written(step.unit, version, success);
        }
        plan.read_back();
        for (unit, version) in [(20, 1), (22, 3)] {
            assert_eq!(plan.next(), Some(Step { read: true, unit }));
            assert_eq!(plan.expected(unit), Expected::Version(version));
            plan.on_read(unit);
        }
        assert_eq!(plan.next(), None);
        assert_eq!(plan.expected(21), Expected::Unknown, "a write that failed");
    }
}
