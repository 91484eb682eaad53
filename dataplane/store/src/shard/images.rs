//! Questions about images: what is known of one, and what differs between two.

use std::collections::BTreeMap;

use io::{Buffer, DriveId};

use super::{BLOCK_BYTES, Shard};
use crate::map::{ChangedLeaf, Freed, LOCATION_BYTES, PageIndex, extent_of};
use crate::{SegmentId, VolumeId};

/// What a shard knows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageStats {
    /// The volume from which it and all that shares blocks with it comes.
    pub lineage: VolumeId,
    /// Whether it takes no changes.
    pub read_only: bool,
    /// Bytes of its mapped blocks, shared or not.
    pub mapped_bytes: u64,
}

/// A part of the map that a question is about cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of the map cannot be read")]
pub struct UnreadableMap;

/// What [`Shard::audit`] found counted wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Miscount {
    /// Live bytes of a segment.
    #[error("segment {}: {counted} bytes are counted as live, {found} are", segment.0)]
    Segment {
        /// The segment.
        segment: SegmentId,
        /// What was counted.
        counted: u64,
        /// What there is.
        found: u64,
    },
    /// Live blocks, and the bytes that they take.
    #[error("(blocks, bytes) {counted:?} are counted as live, {found:?} are")]
    Blocks {
        /// What was counted.
        counted: (u64, u64),
        /// What there is.
        found: (u64, u64),
    },
    /// What refers to a page of the map.
    #[error("a page of the map, written in segment {}, is referred to more or less often than is counted", segment.0)]
    References {
        /// Where it was written last.
        segment: SegmentId,
    },
    /// Mapped bytes of an image, and those that compression saves.
    #[error("image {}: (mapped, saved) bytes {counted:?} are counted, {found:?} are", image.0)]
    Image {
        /// The image.
        image: VolumeId,
        /// What was counted.
        counted: (u64, u64),
        /// What there is.
        found: (u64, u64),
    },
}

/// Where a call of [`Shard::diff`] or [`Shard::owned`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffEnd {
    /// Behind the last leaf.
    Nothing,
    /// Before this leaf.
    Leaf(u64),
    /// Before this leaf, of which something must be read first.
    Missing(u64),
}

/// How far one call of [`Shard::diff`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffLimits {
    /// Map pages that it looks at, at least 32: some microseconds for a hundred.
    pub pages: u32,
    /// Leaves that it gives.
    pub leaves: usize,
}

impl<B: Buffer> Shard<B> {
    /// What is known of a volume or image; `None` where this shard holds nothing of it.
    #[must_use]
    pub fn image(&self, image: VolumeId) -> Option<ImageStats> {
        let head = self.map.head(image)?;
        Some(ImageStats {
            lineage: head.lineage,
            read_only: head.read_only,
            mapped_bytes: self.mapped_bytes(image),
        })
    }

    /// Appends to `changed` the leaves from `from` on in which `image` differs from `base` (without one: in which it has
    /// blocks), in order, and gives the leaf at which to go on. A leaf is 64 blocks (256 KiB) of the
    /// volume's part in this shard. Blocks that were written again differ, whatever was written. The cost follows the
    /// change where the images share a lineage.
    ///
    /// Where pages are missing in memory it goes only as far as they are there and has the rest read in: call it again
    /// after a [`Shard::run`].
    ///
    /// # Errors
    /// Where they cannot be read.
    ///
    /// Of images that change meanwhile the answer is about no single moment: ask about read-only ones.
    pub fn diff(
        &mut self,
        base: Option<VolumeId>,
        image: VolumeId,
        from: u64,
        limits: DiffLimits,
        changed: &mut Vec<ChangedLeaf>,
    ) -> Result<DiffEnd, UnreadableMap> {
        assert!(limits.pages >= 32, "a walk must be able to reach a leaf");
        let leaves_max = changed.len() + limits.leaves;
        let needs = &mut self.pages.needs;
        let (next, pages) = self.map.diff(base, image, from, (limits.pages, leaves_max), changed, needs);
        self.stats.diff_pages += u64::from(pages);
        let Some(next) = next else { return Ok(DiffEnd::Nothing) };
        if !needs.is_met() {
            self.pages.held.extend_from_slice(&self.pages.needs.leaves);
            self.want_missing();
            return Ok(DiffEnd::Missing(next));
        }
        if needs.unreadable.is_some() { Err(UnreadableMap) } else { Ok(DiffEnd::Leaf(next)) }
    }

    /// Counts what a volume or image alone holds, which is what its deletion would give back, from leaf `from` on. A call
    /// looks at about `pages` pages, at least 32. Where pages are missing in memory it goes only as far as they are there and has the
    /// rest read in: call it again after a [`Shard::run`]. What is being given back counts as a holder until it is gone.
    ///
    /// Of an image that changes meanwhile the sum is about no single moment.
    pub fn owned(&mut self, image: VolumeId, from: u64, pages: u32) -> (u64, DiffEnd) {
        assert!(pages >= 32, "a walk must be able to reach a leaf");
        let part = self.map.owned(image, from, pages, &mut self.pages.needs);
        let is_met = self.pages.needs.is_met();
        if !is_met {
            self.pages.held.extend_from_slice(&self.pages.needs.leaves);
            self.want_missing();
        }
        let end = match part.next {
            None => DiffEnd::Nothing,
            Some(leaf) if is_met => DiffEnd::Leaf(leaf),
            Some(leaf) => DiffEnd::Missing(leaf),
        };
        (part.bytes, end)
    }

    /// What [`Shard::owned`] can come to from a leaf on, at most: it costs nothing to ask.
    #[must_use]
    pub fn owned_at_most(&self, image: VolumeId, from: u64) -> u64 {
        self.map.owned_at_most(image, from)
    }

    /// Whether others may share blocks with a volume or image.
    #[must_use]
    pub fn shares(&self, image: VolumeId) -> bool {
        self.map.shares(image)
    }

    /// Holds all that is counted as live against a walk through the whole map, while nothing is under way: for tests. What
    /// is not in memory is read by `read`, so many bytes at an offset of a drive, and is not there afterwards either.
    ///
    /// # Errors
    /// Says what is counted wrong.
    ///
    /// # Panics
    /// If what it reads is not what was written.
    pub fn audit(&mut self, mut read: impl FnMut(DriveId, u64, usize) -> Vec<u8>) -> Result<(), Miscount> {
        // Only with those above them all leaves are known.
        let [above, leaves] = [false, true].map(|leaves| {
            let away = self.map.away(leaves);
            for &(page, place) in &away {
                let (drive, offset) = self.space.place(&self.layout, place.location());
                let len = (place.offset() + place.len()).next_multiple_of(LOCATION_BYTES as u32);
                let bytes = read(drive, offset, len as usize);
                let bytes = &bytes[place.offset() as usize..];
                self.map.put_back(page, bytes).expect("a page is as it was written");
            }
            away.into_iter().map(|(page, _)| page).collect::<Vec<PageIndex>>()
        });
        let result = self.walk();
        self.map.take_out(&leaves);
        self.map.take_out(&above);
        result
    }

    fn walk(&self) -> Result<(), Miscount> {
        if let Some(page) = self.map.miscounted_page() {
            let (location, _) = extent_of(page);
            return Err(Miscount::References { segment: self.space.segment_of(location) });
        }
        let mut found: BTreeMap<SegmentId, u64> = BTreeMap::new();
        let mut add = |(location, bytes)| *found.entry(self.space.segment_of(location)).or_default() += bytes;
        self.checkpoint.chunks().iter().copied().for_each(&mut add);
        let mut blocks = (0, 0);
        self.map.for_each_live(|what| {
            if let Freed::Block(entry) = what {
                blocks = (blocks.0 + 1, blocks.1 + u64::from(entry.bytes()));
            }
            add(extent_of(what));
        });
        let counted = self.space.lives_by_segment();
        let of = |lives: &BTreeMap<SegmentId, u64>, segment| lives.get(&segment).copied().unwrap_or(0);
        let miscounts = counted.keys().chain(found.keys()).map(|&segment| {
            let (counted, found) = (of(&counted, segment), of(&found, segment));
            (counted, found, Miscount::Segment { segment, counted, found })
        });
        // What is counted as dead and lives loses data, what is counted as live and is dead only room: that comes last.
        let worst = miscounts.filter(|(counted, found, _)| counted != found);
        if let Some((.., miscount)) = worst.min_by_key(|(counted, found, _)| counted > found) {
            return Err(miscount);
        }
        let counted = (self.space.blocks.count, self.space.blocks.bytes);
        if counted != blocks || self.space.live_bytes() != found.values().sum() {
            return Err(Miscount::Blocks { counted, found: blocks });
        }
        for image in self.map.volumes() {
            let (mapped, saved) = self.map.recount(image);
            let found = (mapped * u64::from(BLOCK_BYTES), saved * LOCATION_BYTES);
            let counted = (self.mapped_bytes(image), self.map.saved_bytes_of(image));
            if counted != found {
                return Err(Miscount::Image { image, counted, found });
            }
        }
        Ok(())
    }

    /// Bytes that the mapped blocks of a volume or image take on the drives, shared or not.
    #[must_use]
    pub fn stored_bytes(&self, image: VolumeId) -> u64 {
        self.mapped_bytes(image) - self.map.saved_bytes_of(image)
    }

    /// Bytes that hosts have written to a volume or image since it was made, over and over or not. After a start that is in
    /// whole blocks what the log tells of, and what was under way at the last checkpoint may be in it twice.
    #[must_use]
    pub fn written_bytes(&self, image: VolumeId) -> u64 {
        self.written.get(&image).copied().unwrap_or(0)
    }

    /// Bytes of mapped blocks of a volume or image.
    #[must_use]
    pub fn mapped_bytes(&self, image: VolumeId) -> u64 {
        self.map.mapped_blocks_of(image) * u64::from(BLOCK_BYTES)
    }
}
