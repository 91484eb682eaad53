//! Questions to all reactors, and what those that have answered come to.

use std::collections::BTreeMap;

/// Questions under way, by key.
#[derive(Debug)]
pub(crate) struct Rounds<K, A = bool> {
    waiting: BTreeMap<K, Round<A>>,
}

#[derive(Debug)]
struct Round<A> {
    left: u16,
    so_far: A,
}

/// An answer of one reactor, which is put together with those of the others.
pub(crate) trait Answer: Default {
    /// Takes in another's.
    fn join(&mut self, other: Self);
}

/// Yes where any says so.
impl Answer for bool {
    fn join(&mut self, other: Self) {
        *self |= other;
    }
}

/// The sum.
impl Answer for u64 {
    fn join(&mut self, other: Self) {
        *self += other;
    }
}

impl<K: Ord, A: Answer> Rounds<K, A> {
    /// No question.
    pub(crate) const fn new() -> Self {
        Self { waiting: BTreeMap::new() }
    }

    /// `reactors` answers are awaited for `key`. False where the same question is under way already; its answers
    /// then serve both.
    pub(crate) fn ask(&mut self, key: K, reactors: u16) -> bool {
        match self.waiting.entry(key) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Round { left: reactors, so_far: A::default() });
                true
            }
        }
    }

    /// A reactor answered; with the last answer, what all of them come to.
    pub(crate) fn answer(&mut self, key: &K, answer: A) -> Option<A> {
        let round = self.waiting.get_mut(key).expect("an answer follows a question");
        round.so_far.join(answer);
        round.left -= 1;
        if round.left > 0 {
            return None;
        }
        self.waiting.remove(key).map(|round| round.so_far)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_last_answer_tells_whether_any_was_yes() {
        let mut rounds = Rounds::new();
        assert!(rounds.ask(7, 3));
        assert!(!rounds.ask(7, 3));
        assert_eq!(rounds.answer(&7, false), None);
        assert_eq!(rounds.answer(&7, true), None);
        assert_eq!(rounds.answer(&7, false), Some(true));
        assert!(rounds.ask(7, 1));
        assert_eq!(rounds.answer(&7, false), Some(false));
    }

    #[test]
    fn numbers_are_added_up() {
        let mut rounds: Rounds<_, u64> = Rounds::new();
        assert!(rounds.ask(7, 2));
        assert_eq!(rounds.answer(&7, 3), None);
        assert_eq!(rounds.answer(&7, 4), Some(7));
    }
}
