//! Controller identifiers: handed out in turn, noted durably ahead of use, so that none comes back soon.

use std::ops::RangeInclusive;

use crate::limits::CNTLID_STEP;

#[derive(Debug)]
pub(crate) struct Cntlids {
    range: RangeInclusive<u16>,
    /// The next to hand out.
    next: u16,
    /// How many from `next` on are noted as spent.
    noted: u16,
    /// The high-water mark that is being noted.
    asked: Option<u16>,
}

/// What became of a wish for an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cntlid {
    Taken(u16),
    /// A new high-water mark must be durable first.
    NotNoted,
    /// All are in use.
    None,
}

impl Cntlids {
    /// # Panics
    /// If the range is empty or beyond what the specification allows (FFF0h and up are reserved).
    pub(crate) fn new(range: RangeInclusive<u16>, next: Option<u16>) -> Self {
        assert!(*range.start() >= 1);
        assert!(*range.end() <= 0xffef);
        assert!(range.start() < range.end());
        let next = next.filter(|next| range.contains(next)).unwrap_or(*range.start());
        Self { range, next, noted: 0, asked: None }
    }

    /// The mark to note now, if it is time to.
    pub(crate) fn poll_mark(&mut self) -> Option<u16> {
        if self.asked.is_some() || self.noted > self.step() / 2 {
            return None;
        }
        let mark = self.after(self.next, self.noted + self.step());
        self.asked = Some(mark);
        Some(mark)
    }

    /// The mark is durable.
    pub(crate) fn on_noted(&mut self, mark: u16) {
        if self.asked == Some(mark) {
            self.asked = None;
            self.noted += self.step();
        }
    }

    /// Hands out the next identifier that is not in use.
    pub(crate) fn take(&mut self, in_use: impl Fn(u16) -> bool) -> Cntlid {
        for _ in 0..self.len() {
            if self.noted == 0 {
                return Cntlid::NotNoted;
            }
            let cntlid = self.next;
            self.next = self.after(cntlid, 1);
            self.noted -= 1;
            if !in_use(cntlid) {
                return Cntlid::Taken(cntlid);
            }
        }
        Cntlid::None
    }

    fn step(&self) -> u16 {
        CNTLID_STEP.min(self.len() / 2)
    }

    fn len(&self) -> u16 {
        self.range.end() - self.range.start() + 1
    }

    fn after(&self, cntlid: u16, count: u16) -> u16 {
        let start = u32::from(*self.range.start());
        let at = u32::from(cntlid) - start + u32::from(count);
        u16::try_from(start + at % u32::from(self.len())).expect("within the range")
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn no_identifier_is_handed_out_before_its_mark_is_durable() {
        let mut cntlids = Cntlids::new(1..=0xffef, None);
        assert_eq!(cntlids.take(|_| false), Cntlid::NotNoted);
        let mark = cntlids.poll_mark().unwrap();
        assert_eq!(cntlids.poll_mark(), None);
        assert_eq!(cntlids.take(|_| false), Cntlid::NotNoted);
        cntlids.on_noted(mark);
        for expected in 1..=CNTLID_STEP {
            assert_eq!(cntlids.take(|_| false), Cntlid::Taken(expected));
        }
        assert_eq!(cntlids.take(|_| false), Cntlid::NotNoted);
    }

    #[test]
    fn after_a_restart_no_identifier_below_the_mark_comes_back() {
        let mut cntlids = Cntlids::new(1..=0xffef, None);
        let mark = cntlids.poll_mark().unwrap();
        cntlids.on_noted(mark);
        assert_eq!(cntlids.take(|_| false), Cntlid::Taken(1));
        let mut restarted = Cntlids::new(1..=0xffef, Some(mark));
        let next = restarted.poll_mark().unwrap();
        restarted.on_noted(next);
        assert_eq!(restarted.take(|_| false), Cntlid::Taken(mark));
    }

    #[test]
    fn the_range_wraps_and_skips_identifiers_in_use() {
        let mut cntlids = Cntlids::new(10..=13, Some(13));
        let mut taken = Vec::new();
        for _ in 0..4 {
            if let Some(mark) = cntlids.poll_mark() {
                cntlids.on_noted(mark);
            }
            if let Cntlid::Taken(cntlid) = cntlids.take(|cntlid| cntlid == 10) {
                taken.push(cntlid);
            }
        }
        assert_eq!(taken[..3], [13, 11, 12]);
    }
}
