//! A map without a shard, a log or data: volumes of any size come to be by injection, for benches of what snapshots and
//! diffs cost where nobody has the drives for it. The code that is measured is the map's own.

use crate::VolumeId;
use crate::codec::Form;
use crate::map::{ChangedLeaf, Entry, Location, Map, Needs};

/// A map with one volume and its snapshots.
#[derive(Debug)]
pub struct InjectedMap {
    map: Map,
    lsn: u64,
    /// Where the next block would lie.
    next: u64,
    image_last: u64,
}

impl InjectedMap {
    /// The live image.
    pub const VOLUME: VolumeId = VolumeId(1);

    /// A volume of which each of the first `blocks` blocks was written.
    #[must_use]
    pub fn filled(blocks: u64) -> Self {
        let mut this = Self { map: Map::default(), lsn: 0, next: 1, image_last: 1 };
        (0..blocks).for_each(|block| this.overwrite(block));
        this
    }

    /// Writes a block.
    pub fn overwrite(&mut self, block: u64) {
        self.lsn += 1;
        let entry = Entry::new(Location(self.next), Form::raw(block as u32));
        // Eight units of 512 bytes to a block.
        self.next += 8;
        self.map.set((Self::VOLUME, Self::VOLUME), block, entry, self.lsn, &mut |_| ());
    }

    /// Takes a snapshot.
    pub fn snapshot(&mut self) -> VolumeId {
        self.lsn += 1;
        self.image_last += 1;
        let image = VolumeId(self.image_last);
        self.map.fork(Self::VOLUME, image, true, self.lsn);
        image
    }

    /// The leaves in which `image` differs from `base`, in parts of `leaves` as the shard gives them.
    #[must_use]
    pub fn diff(&self, base: VolumeId, image: VolumeId, leaves: usize) -> Changed {
        let mut changed = Changed::default();
        let mut part: Vec<ChangedLeaf> = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            part.clear();
            let limits = (u32::MAX, leaves);
            let mut needs = Needs::default();
            let (next, pages) = self.map.diff(Some(base), image, first, limits, &mut part, &mut needs);
            changed.leaves += part.len() as u64;
            changed.blocks += part.iter().map(|leaf| u64::from(leaf.blocks.count_ones())).sum::<u64>();
            changed.pages += u64::from(pages);
            from = next;
        }
        changed
    }

    /// Memory of the map.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map.bytes()
    }
}

/// How much a diff has found, and what it looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Leaves that differ.
    pub leaves: u64,
    /// Blocks that differ.
    pub blocks: u64,
    /// Pages looked at.
    pub pages: u64,
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_diff_finds_what_was_overwritten_in_any_parts() {
        let mut map = InjectedMap::filled(100_000);
        let base = map.snapshot();
        (0..500).for_each(|number| map.overwrite(number * 197));
        let image = map.snapshot();
        (0..100).for_each(|block| map.overwrite(block));
        for leaves in [1, 7, 10_000] {
            assert_eq!(map.diff(base, image, leaves).blocks, 500);
        }
        assert_eq!(map.diff(base, base, 10), Changed::default());
    }
}
