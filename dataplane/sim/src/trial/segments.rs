//! The pool's free segments, as reactor 0 keeps them, with a check on every deal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use store::SegmentId;

/// Who has which segment.
#[derive(Debug)]
pub(crate) struct Pool {
    total: u32,
    free: BTreeSet<SegmentId>,
    owners: BTreeMap<SegmentId, usize>,
    /// Questions that were not answered, and whether they are for cleaning.
    pub(crate) wants: VecDeque<(usize, bool)>,
}

impl Pool {
    pub(crate) fn new(total: u32) -> Self {
        let free = (0..total).map(SegmentId).collect();
        Self { total, free, owners: BTreeMap::new(), wants: VecDeque::new() }
    }

    /// A shard owns this segment after its recovery. False if another does, or the pool has no such segment.
    #[must_use]
    pub(crate) fn claim(&mut self, segment: SegmentId, shard: usize) -> bool {
        self.free.remove(&segment) && self.owners.insert(segment, shard).is_none()
    }

    /// A segment for a shard; `keep` free ones are left to those that clean.
    pub(crate) fn grant(&mut self, shard: usize, cleaning: bool, keep: usize) -> Option<SegmentId> {
        if !cleaning && self.free.len() <= keep {
            return None;
        }
        // The lowest, so that places are used again and again.
        let segment = self.free.pop_first()?;
        self.owners.insert(segment, shard);
        Some(segment)
    }

    /// A shard gives a segment back. False if it is not the shard's.
    #[must_use]
    pub(crate) fn release(&mut self, segment: SegmentId, shard: usize) -> bool {
        self.owners.remove(&segment) == Some(shard) && self.free.insert(segment)
    }

    pub(crate) fn owned_by(&self, shard: usize) -> usize {
        self.owners.values().filter(|owner| **owner == shard).count()
    }

    /// Free segments and all.
    pub(crate) fn space(&self) -> (u32, u32) {
        let free = u32::try_from(self.free.len()).expect("segments are numbered by a u32");
        (free, self.total)
    }
}
