//! A list that has one or two members most of the time, which then lie in it: a fork asks for no memory.

use std::ops::{Deref, DerefMut};

/// The members, in order.
#[derive(Clone, Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    Two([T; 2]),
    Many(Vec<T>),
}

impl<T: Copy> Few<T> {
    pub(super) fn push(&mut self, member: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(member),
            Self::One(first) => Self::Two([first, member]),
            Self::Two([first, second]) => Self::Many(vec![first, second, member]),
            Self::Many(mut members) => {
                members.push(member);
                Self::Many(members)
            }
        };
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        *self = match std::mem::take(self) {
            Self::Many(mut members) => {
                members.retain(stays);
                members.into()
            }
            few => few.iter().filter(|member| stays(member)).copied().collect(),
        };
    }

    pub(super) fn clear(&mut self) {
        *self = Self::None;
    }
}

impl<T: Copy> From<Vec<T>> for Few<T> {
    fn from(members: Vec<T>) -> Self {
        match *members.as_slice() {
            [] => Self::None,
            [only] => Self::One(only),
            [first, second] => Self::Two([first, second]),
            _ => Self::Many(members),
        }
    }
}

impl<T: Copy> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut few = Self::None;
        members.into_iter().for_each(|member| few.push(member));
        few
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Two(both) => both,
            Self::Many(members) => members,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(only) => std::slice::from_mut(only),
            Self::Two(both) => both,
            Self::Many(members) => members,
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn it_holds_what_a_vector_would() {
        let (mut few, mut plain) = (Few::None, Vec::new());
        for number in 0_u64..9 {
            few.push(number);
            plain.push(number);
            assert_eq!(*few, *plain);
            assert_eq!(*Few::from(plain.clone()), *plain);
            assert_eq!(matches!(few, Few::Many(_)), number > 1);
        }
        for bound in (0..9).rev() {
            few.retain(|number| *number < bound);
            plain.retain(|number| *number < bound);
            few.iter_mut().for_each(|number| *number += 0);
            assert_eq!(*few, *plain);
            assert_eq!(matches!(few, Few::Many(_)), bound > 2);
        }
        few.push(1);
        few.clear();
        assert!(few.is_empty());
    }
}
