//! A table with stable keys that are never valid for a later tenant of the same place.

/// Names an entry of a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl Key {
    /// Bits of a key in [`Self::to_bits`].
    pub(crate) const BITS: u32 = Self::INDEX_BITS + Self::GENERATION_BITS;
    const INDEX_BITS: u32 = 20;
    const GENERATION_BITS: u32 = 28;
    const GENERATION_MASK: u32 = (1 << Self::GENERATION_BITS) - 1;

    pub(crate) const fn to_bits(self) -> u64 {
        (self.generation as u64) << Self::INDEX_BITS | self.index as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        let index = (bits & ((1 << Self::INDEX_BITS) - 1)) as u32;
        let generation = (bits >> Self::INDEX_BITS) as u32 & Self::GENERATION_MASK;
        Self { index, generation }
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Key { index, generation: entry.generation };
        }
        let index = u32::try_from(self.entries.len()).expect("tables are bounded far below 2^20");
        assert!(index < 1 << Key::INDEX_BITS);
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & Key::GENERATION_MASK;
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let index = u32::try_from(index).ok()?;
            Some((Key { index, generation: entry.generation }, entry.value.as_ref()?))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.entries.iter_mut().enumerate().filter_map(|(index, entry)| {
            let index = u32::try_from(index).ok()?;
            Some((Key { index, generation: entry.generation }, entry.value.as_mut()?))
        })
    }

    /// Keys of all entries at this moment.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_key_does_not_reach_the_next_tenant() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(Key::from_bits(second.to_bits()), second);
        assert_ne!(first, second);
    }
}
