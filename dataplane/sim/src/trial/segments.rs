//! The pool's free segments, as reactor 0 keeps them, and the questions that wait for an answer.

use std::collections::VecDeque;

use store::{GrantPurpose, Layout, SegmentId, Segments, ShardId};

/// Who has which segment.
#[derive(Debug)]
pub(crate) struct Pool {
    segments: Segments,
    /// Questions that were not answered, and whether they are for cleaning.
    pub(crate) wants: VecDeque<(usize, bool)>,
    // Segments that each shard owns.
    owned: Vec<usize>,
}

impl Pool {
    pub(crate) fn new(layout: &Layout) -> Self {
        let owned = vec![0; usize::from(layout.shards())];
        Self { segments: Segments::new(layout), wants: VecDeque::new(), owned }
    }

    /// A shard owns these segments after its recovery. False if another does, or the pool has no such segment.
    #[must_use]
    pub(crate) fn own(&mut self, shard: usize, segments: &[SegmentId]) -> bool {
        self.owned[shard] = segments.len();
        self.segments.own(id(shard), segments).is_ok()
    }

    /// A segment for a shard.
    pub(crate) fn grant(&mut self, shard: usize, cleaning: bool) -> Option<SegmentId> {
        let purpose = if cleaning { GrantPurpose::Cleaning } else { GrantPurpose::Host };
        let segment = self.segments.grant(id(shard), purpose)?;
        self.owned[shard] += 1;
        Some(segment)
    }

    /// A shard gives segments back. False if they are not the shard's.
    #[must_use]
    pub(crate) fn release(&mut self, shard: usize, segments: &[SegmentId]) -> bool {
        self.owned[shard] = self.owned[shard].saturating_sub(segments.len());
        self.segments.release(id(shard), segments).is_ok()
    }

    /// Drives have joined.
    pub(crate) fn grow(&mut self, layout: &Layout) {
        self.segments.grow(layout);
    }

    /// Whether every shard has said what it owns: before that nothing can be granted.
    pub(crate) fn is_known(&self) -> bool {
        self.segments.is_ready()
    }

    pub(crate) fn owned_by(&self, shard: usize) -> usize {
        self.owned[shard]
    }

    /// Free segments and all.
    pub(crate) fn space(&self) -> (u32, u32) {
        (self.segments.free(), self.segments.total())
    }
}

fn id(shard: usize) -> ShardId {
    ShardId(u16::try_from(shard).expect("shards are numbered by a u16"))
}
