//! What a block may hold: a plain history of changes in the order in which they were asked for, and the questions that
//! reads and crashes put to it.
//!
//! A change of a block is one request's effect on some of its eight sectors. Contents are identified by the number of
//! the change that wrote a sector, 0 for zeros. The rules are those of `store`'s requests: overlapping changes take
//! effect in the order of submission; a read sees each block as a whole, at some point between what was answered (or
//! seen) before it began and what was asked for before it ended; a kill loses nothing answered or seen, a power cut
//! nothing that a flush or FUA covered, and either loses a tail of the history, never something from its middle.

use std::fmt;

/// Sectors of a block.
pub const SECTORS: usize = 8;

/// Numbers of the changes that wrote each sector.
pub type Sectors = [u64; SECTORS];

/// Most histories of one block that are told apart while changes are open.
const STATES_MAX: usize = 256;

/// One block's history.
#[derive(Clone, Debug, Default)]
pub struct Block {
    base: Sectors,
    // The change that made the base.
    base_version: u64,
    // A crash left it open which of two changes without a difference was the last.
    vague: bool,
    changes: Vec<Change>,
}

/// What a snapshot holds of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The contents.
    pub sectors: Sectors,
    /// The change that made them, 0 for none, [`VAGUE`] where it cannot be told.
    pub version: u64,
}

/// The number of a change that cannot be told.
pub const VAGUE: u64 = u64::MAX;

/// One request's effect on the block.
#[derive(Clone, Debug)]
pub struct Change {
    /// The request's number.
    pub number: u64,
    /// The sectors that it changes, a bit each.
    pub mask: u8,
    /// Whether it leaves zeros rather than its number.
    pub zeroes: bool,
    /// When it was asked for.
    pub asked_at: u64,
    /// It may turn out to have no effect: a comparison decides, or the pool may be full.
    pub optional: bool,
    /// When it was answered or seen, whichever came first.
    pub certain_at: Option<u64>,
    /// When it was answered.
    pub answered_at: Option<u64>,
    /// Whether its answer promises that a power cut cannot take it away.
    pub fua: bool,
}

/// Which answers a crash may not undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Everything that was answered or seen.
    Certain,
    /// What was answered before this time, or under FUA.
    FlushedBefore(u64),
}

/// What was found, or is expected, in some sectors of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The block's number.
    pub block: usize,
    /// The sectors, a bit each.
    pub mask: u8,
    /// What they hold.
    pub sectors: Sectors,
}

/// What is wrong with what a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was found.
    pub found: Sectors,
    /// The sectors that were looked at, a bit each.
    pub mask: u8,
    /// The oldest contents that would do.
    pub oldest: Sectors,
    /// The newest.
    pub newest: Sectors,
}

/// What the crash left of a block's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// When the newest change that is still visible had been asked for.
    pub newest_asked_at: Option<u64>,
    /// When the oldest certain change that is lost had become certain.
    pub oldest_lost_certain_at: Option<u64>,
}

#[derive(Clone, Copy)]
struct State {
    sectors: Sectors,
    // The optional changes that took effect, by index.
    taken: u128,
}

impl Block {
    /// A block that certainly holds this.
    #[must_use]
    pub fn holding(held: Held) -> Self {
        Self { base: held.sectors, base_version: held.version, vague: false, changes: Vec::new() }
    }

    /// The block after everything in it was replaced by `held` at some moment since `since`: what was not answered before
    /// may have happened after that moment.
    #[must_use]
    pub fn replaced(&self, held: Held, since: u64) -> Self {
        let open = self.changes.iter().filter(|change| change.answered_at.is_none_or(|at| at >= since));
        let open = open.map(|change| Change {
            optional: true,
            certain_at: None,
            answered_at: None,
            fua: false,
            ..change.clone()
        });
        Self { changes: open.collect(), ..Self::holding(held) }
    }

    /// How many changes were not answered before this time.
    #[must_use]
    pub fn changes_since(&self, since: u64) -> usize {
        self.changes.iter().filter(|change| change.answered_at.is_none_or(|at| at >= since)).count()
    }

    /// What it holds, once nothing is open any more.
    #[must_use]
    pub fn held(&self) -> Held {
        let last = self.changes.last().map_or(self.base_version, |change| change.number);
        Held { sectors: self.newest(), version: if self.vague { VAGUE } else { last } }
    }

    /// A snapshot that was asked for at `asked_at`, and whose block this was when it was answered, holds `found`: checks
    /// that it may. Says which change made that, and what of the history is in it.
    ///
    /// # Errors
    /// When the snapshot could not hold that.
    pub fn cut(&self, found: &Sectors, asked_at: u64) -> Result<(Held, Left), Box<Mismatch>> {
        let floor = self.floor(|change| change.answered_at.is_some_and(|at| at < asked_at));
        let states: Vec<_> = self.search(floor, |state| agrees(&state.sectors, found, u8::MAX)).collect();
        let Some((at, state)) = states.last() else { return Err(self.mismatch(floor, found, u8::MAX)) };
        let mut left = Left::default();
        for (index, change) in self.changes.iter().enumerate() {
            if index >= *at || change.is_open_option() && state.taken >> index & 1 == 0 {
                let lost = change.answered_at;
                left.oldest_lost_certain_at = left.oldest_lost_certain_at.into_iter().chain(lost).min();
            } else if !change.zeroes && found.contains(&change.number) {
                left.newest_asked_at = left.newest_asked_at.max(Some(change.asked_at));
            }
        }
        Ok((Held { sectors: *found, version: self.version_of(&states) }, left))
    }

    // The last change in all of these states, if it is the same.
    fn version_of(&self, states: &[(usize, State)]) -> u64 {
        let last = |(at, state): &(usize, State)| {
            let mut applied = self.changes[..*at].iter().enumerate().rev();
            let taken = |index: usize, change: &Change| {
                !change.is_open_option() || state.taken >> index.min(127) & 1 == 1
            };
            let last = applied.find(|(index, change)| taken(*index, change));
            last.map_or(self.base_version, |(_, change)| change.number)
        };
        let mut versions = states.iter().map(last);
        let first = versions.next().unwrap_or(VAGUE);
        if self.vague || versions.any(|other| other != first) { VAGUE } else { first }
    }

    /// A change is asked for.
    pub fn begin(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// A change was answered: it took effect.
    pub fn confirm(&mut self, number: u64, now: u64) {
        for change in self.changes.iter_mut().filter(|change| change.number == number) {
            change.answered_at = Some(now);
            change.certain_at.get_or_insert(now);
            self.vague = false;
        }
    }

    /// What was answered cannot be taken away by a power cut from now on.
    pub fn secure(&mut self) {
        for change in self.changes.iter_mut().filter(|change| change.answered_at.is_some()) {
            change.fua = true;
        }
    }

    /// A change was answered: it had no effect. False if somebody has seen it.
    #[must_use]
    pub fn revoke(&mut self, number: u64) -> bool {
        let seen = self.changes.iter().any(|change| change.number == number && change.certain_at.is_some());
        self.changes.retain(|change| change.number != number);
        !seen
    }

    /// Whether it is unknown how the change ended: it may take effect, or may have done so.
    pub fn doubt(&mut self, number: u64) {
        for change in self.changes.iter_mut().filter(|change| change.number == number) {
            change.optional = true;
        }
    }

    /// Changes that were not answered.
    #[must_use]
    pub fn open_changes(&self) -> usize {
        self.changes.iter().filter(|change| change.answered_at.is_none()).count()
    }

    /// The contents once everything that was asked for has taken effect.
    #[must_use]
    pub fn newest(&self) -> Sectors {
        let mut sectors = self.base;
        for change in &self.changes {
            change.apply(&mut sectors);
        }
        sectors
    }

    /// Checks what a read that began at `began` found in the sectors of `mask`, and notes what it has seen.
    ///
    /// # Errors
    /// When the block could not hold that.
    pub fn check_read(
        &mut self,
        found: &Sectors,
        mask: u8,
        began: u64,
        now: u64,
    ) -> Result<(), Box<Mismatch>> {
        let floor = self.floor(|change| change.certain_at.is_some_and(|at| at < began));
        let matches = |state: &State| agrees(&state.sectors, found, mask);
        let at = self.search(floor, matches).next().map(|(at, _)| at);
        let Some(at) = at else { return Err(self.mismatch(floor, found, mask)) };
        for change in &mut self.changes[..at] {
            let visible =
                (0..SECTORS).any(|sector| mask >> sector & 1 == 1 && found[sector] == change.number);
            if visible && !change.zeroes {
                change.certain_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// What a comparison of the sectors of `mask` with `expected` may find: (may be equal, may differ). It began at
    /// `began`; if it is part of the change `own`, everything before that change has taken effect by then.
    #[must_use]
    pub fn may_compare(&self, expected: &Sectors, mask: u8, began: u64, own: Option<u64>) -> (bool, bool) {
        let own = own.and_then(|number| self.changes.iter().position(|change| change.number == number));
        let floor =
            own.unwrap_or_else(|| self.floor(|change| change.certain_at.is_some_and(|at| at < began)));
        let (mut equal, mut differs) = (false, false);
        for (at, state) in self.search(floor, |_| true) {
            if own.is_some_and(|own| at > own) {
                break;
            }
            let agrees = agrees(&state.sectors, expected, mask);
            equal |= agrees;
            differs |= !agrees;
        }
        (equal, differs)
    }

    /// After a crash the whole block holds `found`: checks that it may, and goes on from there. What survived a power
    /// cut is durable; what survived a kill may still fall to a later power cut, as before.
    ///
    /// # Errors
    /// When the block could not hold that.
    pub fn settle(&mut self, found: &Sectors, survives: Survives, now: u64) -> Result<Left, Box<Mismatch>> {
        let floor = self.floor(|change| match survives {
            Survives::Certain => change.certain_at.is_some(),
            Survives::FlushedBefore(time) => change.answered_at.is_some_and(|at| change.fua || at < time),
        });
        let states: Vec<_> = self.search(floor, |state| agrees(&state.sectors, found, u8::MAX)).collect();
        let Some((at, state)) = states.last().copied() else {
            return Err(self.mismatch(floor, found, u8::MAX));
        };
        let version = self.version_of(&states);
        let mut left = Left::default();
        let mut kept = Vec::new();
        for (index, mut change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            let applied = index < at && (!change.is_open_option() || state.taken >> index & 1 == 1);
            if !applied {
                let lost = change.certain_at;
                left.oldest_lost_certain_at = left.oldest_lost_certain_at.into_iter().chain(lost).min();
                continue;
            }
            if !change.zeroes && found.contains(&change.number) {
                left.newest_asked_at = left.newest_asked_at.max(Some(change.asked_at));
            }
            change.certain_at.get_or_insert(now);
            change.answered_at.get_or_insert(now);
            change.optional = false;
            kept.push(change);
        }
        match survives {
            Survives::Certain => {
                self.changes = kept;
                self.vague = version == VAGUE;
            }
            Survives::FlushedBefore(_) => *self = Self::holding(Held { sectors: *found, version }),
        }
        Ok(left)
    }

    /// How long its history is.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.changes.len()
    }

    /// Forgets history that no read that began at `oldest_read` or later and no power cut can bring back.
    pub fn trim(&mut self, flushed_before: u64, oldest_read: u64) {
        let until = flushed_before.min(oldest_read);
        let settled = |change: &Change| change.answered_at.is_some_and(|at| at < until);
        let count = self.changes.iter().take_while(|change| settled(change)).count();
        for change in self.changes.drain(..count) {
            change.apply(&mut self.base);
            self.base_version = if self.vague { VAGUE } else { change.number };
        }
    }

    /// How many changes have certainly taken effect, given which are certain themselves: all before the last of them.
    fn floor(&self, is_certain: impl Fn(&Change) -> bool) -> usize {
        self.changes.iter().rposition(is_certain).map_or(0, |index| index + 1)
    }

    /// All states after `floor` changes or more, with the number of changes, oldest first.
    fn search(&self, floor: usize, keep: impl Fn(&State) -> bool) -> impl Iterator<Item = (usize, State)> {
        let mut states = vec![State { sectors: self.base, taken: 0 }];
        let mut found = Vec::new();
        for at in 0..=self.changes.len() {
            if at > 0 {
                let change = &self.changes[at - 1];
                let before = change.is_open_option().then(|| states.clone());
                for state in &mut states {
                    change.apply(&mut state.sectors);
                    state.taken |= 1 << (at - 1).min(127);
                }
                states.extend(before.into_iter().flatten());
                assert!(states.len() <= STATES_MAX, "too many open changes on one block");
            }
            if at >= floor {
                found.extend(states.iter().filter(|state| keep(state)).map(|state| (at, *state)));
            }
        }
        found.into_iter()
    }

    fn mismatch(&self, floor: usize, found: &Sectors, mask: u8) -> Box<Mismatch> {
        let oldest = self.search(floor, |_| true).next().map_or(self.base, |(_, state)| state.sectors);
        Box::new(Mismatch { found: *found, mask, oldest, newest: self.newest() })
    }
}

impl Part {
    /// The parts of the blocks that a run of sectors from `first` on makes up, with what each sector holds.
    pub fn of_run(first: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        for (sector, number) in (first..).zip(numbers) {
            let (block, within) = split(sector);
            if parts.last().is_none_or(|last| last.block != block) {
                parts.push(Self { block, mask: 0, sectors: [0; SECTORS] });
            }
            if let Some(part) = parts.last_mut() {
                part.mask |= 1 << within;
                part.sectors[within] = number;
            }
        }
        parts
    }
}

impl Change {
    fn apply(&self, sectors: &mut Sectors) {
        for (sector, holds) in sectors.iter_mut().enumerate() {
            if self.mask >> sector & 1 == 1 {
                *holds = if self.zeroes { 0 } else { self.number };
            }
        }
    }

    /// Whether it may or may not take effect as far as anybody knows.
    fn is_open_option(&self) -> bool {
        self.optional && self.certain_at.is_none()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, mask, oldest, newest } = self;
        write!(f, "found {found:?} (mask {mask:08b}), possible from {oldest:?} to {newest:?}")
    }
}

/// A sector's block and its place in it.
#[must_use]
pub fn split(sector: u64) -> (usize, usize) {
    let index = usize::try_from(sector).expect("volumes of trials are small");
    (index / SECTORS, index % SECTORS)
}

fn agrees(sectors: &Sectors, found: &Sectors, mask: u8) -> bool {
    (0..SECTORS).all(|sector| mask >> sector & 1 == 0 || sectors[sector] == found[sector])
}

#[cfg(test)]
mod test {
    use super::*;

    fn write(number: u64, mask: u8) -> Change {
        Change {
            number,
            mask,
            zeroes: false,
            asked_at: number,
            optional: false,
            certain_at: None,
            answered_at: None,
            fua: false,
        }
    }

    #[test]
    fn reads_see_whole_states_between_answered_and_asked() {
        let mut block = Block::default();
        block.begin(write(1, 0xFF));
        block.confirm(1, 10);
        block.begin(write(2, 0x0F));
        block.begin(write(3, 0xF0));
        for found in [[1; 8], [2, 2, 2, 2, 1, 1, 1, 1], [2, 2, 2, 2, 3, 3, 3, 3]] {
            assert_eq!(block.clone().check_read(&found, 0xFF, 11, 12), Ok(()));
        }
        // The third before the second, half of the second, and zeros.
        for found in [[1, 1, 1, 1, 3, 3, 3, 3], [2, 1, 1, 1, 1, 1, 1, 1], [0; 8]] {
            assert!(block.clone().check_read(&found, 0xFF, 11, 12).is_err());
        }
        // A read that began before the first was answered may miss it.
        assert_eq!(block.check_read(&[0; 8], 0xFF, 10, 12), Ok(()));
    }

    #[test]
    fn what_was_seen_stays_seen() {
        let mut block = Block::default();
        block.begin(write(1, 0xFF));
        block.check_read(&[1; 8], 0xFF, 2, 3).unwrap();
        assert!(block.check_read(&[0; 8], 0xFF, 4, 5).is_err());
        assert!(!block.clone().revoke(1));
        assert!(block.settle(&[0; 8], Survives::Certain, 6).is_err());
    }

    #[test]
    fn an_optional_change_may_be_missing_under_a_later_one() {
        let mut block = Block::default();
        block.begin(Change { optional: true, ..write(1, 0xFF) });
        block.begin(write(2, 0x01));
        assert_eq!(block.clone().check_read(&[2, 0, 0, 0, 0, 0, 0, 0], 0xFF, 3, 4), Ok(()));
        assert_eq!(block.clone().check_read(&[2, 1, 1, 1, 1, 1, 1, 1], 0xFF, 3, 4), Ok(()));
        assert!(block.revoke(1));
        assert!(block.check_read(&[2, 1, 1, 1, 1, 1, 1, 1], 0xFF, 3, 4).is_err());
    }

    #[test]
    fn a_kill_keeps_answers_and_a_power_cut_what_was_flushed() {
        let mut block = Block::default();
        for number in 1..=3 {
            block.begin(write(number, 0xFF));
            block.confirm(number, number * 10);
        }
        assert!(block.clone().settle(&[2; 8], Survives::Certain, 40).is_err());
        assert!(block.clone().settle(&[1; 8], Survives::FlushedBefore(25), 40).is_err());
        let left = block.clone().settle(&[2; 8], Survives::FlushedBefore(25), 40).unwrap();
        assert_eq!(left, Left { newest_asked_at: Some(2), oldest_lost_certain_at: Some(30) });
        block.settle(&[3; 8], Survives::Certain, 40).unwrap();
        // The kill made nothing durable.
        assert!(block.settle(&[2; 8], Survives::FlushedBefore(25), 50).is_ok());
    }

    #[test]
    fn fua_survives_without_a_flush() {
        let mut block = Block::default();
        block.begin(Change { fua: true, ..write(1, 0xFF) });
        block.confirm(1, 10);
        assert!(block.settle(&[0; 8], Survives::FlushedBefore(0), 20).is_err());
    }

    #[test]
    fn comparisons_of_a_pair_see_exactly_what_came_before() {
        let mut block = Block::default();
        block.begin(write(1, 0xFF));
        block.begin(Change { optional: true, ..write(2, 0xFF) });
        assert_eq!(block.may_compare(&[1; 8], 0xFF, 3, Some(2)), (true, false));
        assert_eq!(block.may_compare(&[1; 8], 0xFF, 3, None), (true, true));
    }

    #[test]
    fn trimmed_history_is_the_base() {
        let mut block = Block::default();
        block.begin(write(1, 0xFF));
        block.confirm(1, 10);
        block.trim(11, 10);
        assert_eq!(block.changes.len(), 1);
        block.trim(11, 11);
        assert_eq!((block.changes.len(), block.base), (0, [1; 8]));
    }
}
