//! Questions about images: what is known of one, and what differs between two.

use io::{Buffer, DriveId};

use super::{BLOCK_BYTES, Shard};
use crate::VolumeId;
use crate::map::{ChangedLeaf, LOCATION_BYTES, extent_of};

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

/// Where a call of [`Shard::diff`] ended.
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

    /// Live bytes counted anew by a walk through the whole map, which must be what [`super::ShardStats::live_bytes`] has
    /// come to while nothing is under way: for tests. What is not in memory is read by `read`, so many bytes at an offset
    /// of a drive.
    ///
    /// # Panics
    /// If what it reads is not what was written.
    #[must_use]
    pub fn count_live(&mut self, mut read: impl FnMut(DriveId, u64, usize) -> Vec<u8>) -> u64 {
        for (page, place) in self.map.away() {
            let (drive, offset) = self.space.place(&self.layout, place.location());
            let len = (place.offset() + place.len()).next_multiple_of(LOCATION_BYTES as u32);
            let bytes = read(drive, offset, len as usize);
            self.map.put_back(page, &bytes[place.offset() as usize..]).expect("a page is as it was written");
        }
        let mut bytes = self.checkpoint.manifest_bytes();
        self.map.for_each_live(|what| bytes += extent_of(what).1);
        bytes
    }

    /// Bytes that the mapped blocks of a volume or image take on the drives, shared or not.
    #[must_use]
    pub fn stored_bytes(&self, image: VolumeId) -> u64 {
        self.mapped_bytes(image) - self.map.saved_bytes_of(image)
    }

    /// Bytes that hosts have written to a volume or image since the shard was made, over and over or not.
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
