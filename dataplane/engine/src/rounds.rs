//! Questions to all reactors, and which of them have answered.

use std::collections::BTreeMap;

/// Questions under way, by key.
#[derive(Debug)]
pub(crate) struct Rounds<K> {
    waiting: BTreeMap<K, Round>,
}

#[derive(Debug)]
struct Round {
    left: u16,
    any: bool,
}

impl<K: Ord> Rounds<K> {
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
                entry.insert(Round { left: reactors, any: false });
                true
            }
        }
    }

    /// A reactor answered; with the last answer, whether any of them was yes.
    pub(crate) fn answer(&mut self, key: &K, yes: bool) -> Option<bool> {
        let round = self.waiting.get_mut(key).expect("an answer follows a question");
        round.any |= yes;
        round.left -= 1;
        if round.left > 0 {
            return None;
        }
        self.waiting.remove(key).map(|round| round.any)
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
}
