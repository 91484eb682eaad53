//! A table with numbered places that are used again, so that a steady stream allocates nothing.

/// Values by number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Stores `value` and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.places[number as usize] = Some(value);
            return number;
        }
        let number = u32::try_from(self.places.len()).expect("bounded by the quotas of connections");
        self.places.push(Some(value));
        number
    }

    /// The value at `number`.
    ///
    /// # Panics
    /// If there is none: numbers come back exactly once.
    pub(crate) fn value(&mut self, number: u32) -> &mut T {
        self.places[number as usize].as_mut().expect("a number is used until its value is removed")
    }

    /// Takes the value at `number` out.
    ///
    /// # Panics
    /// If there is none: numbers come back exactly once.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        let value = self.places[number as usize].take().expect("a number is used until its value is removed");
        self.free.push(number);
        value
    }

    /// True where nothing is stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_after_its_value_was_removed() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_ne!(a, b);
        assert_eq!(slab.remove(a), 'a');
        let c = slab.insert('c');
        assert_eq!(c, a);
        assert_eq!((*slab.value(b), *slab.value(c)), ('b', 'c'));
        slab.remove(b);
        slab.remove(c);
        assert!(slab.is_empty());
    }
}
