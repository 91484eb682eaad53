//! High-water marks: identifiers that must not come back soon, or ever, restarts included.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | the next volume id |
//! | 8 | 4 | the NSID that was given last, 0 before the first |
//! | 12 | 2 | the next CNTLID |
//! | 14 | 2 | number of NSIDs that follow |
//! | 16 | 4 each | NSIDs that were freed last, oldest first |

use std::collections::VecDeque;

use super::record::{KIND_MARKS, NSID_MAX, RECORD_HEADER_BYTES, RawRecord};
use crate::pool::VolumeId;
use crate::pool::bytes::{u16_at, u32_at, u64_at};

/// NSIDs freed last that are not given again while there are others.
const FREED_MAX: usize = 256;
/// No pool makes as many volumes; what says so is damage.
const VOLUMES_MAX: u64 = 1 << 56;
const FIXED_BYTES: usize = 16;
const MARKS_VERSION: u16 = 1;

/// Bytes that the record of the marks takes at most.
pub(crate) const MARKS_ENCODED_MAX: usize = RECORD_HEADER_BYTES + FIXED_BYTES + FREED_MAX * 4;

/// The marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    next_volume: u64,
    last_nsid: u32,
    next_cntlid: u16,
    freed: VecDeque<u32>,
}

impl Marks {
    /// The marks of a pool that has had no volume.
    pub(crate) fn new() -> Self {
        Self { next_volume: 1, last_nsid: 0, next_cntlid: 1, freed: VecDeque::new() }
    }

    /// A volume id that was never given before.
    pub(crate) fn allocate_volume(&mut self) -> VolumeId {
        let id = VolumeId(self.next_volume);
        self.next_volume += 1;
        id
    }

    /// The id is in use, whoever gave it.
    pub(crate) fn note_volume(&mut self, id: VolumeId) {
        if id.0 < VOLUMES_MAX {
            self.next_volume = self.next_volume.max(id.0 + 1);
        }
    }

    /// The free NSID next above the one given last, wrapping round, without those freed last; of those the one freed
    /// first, where there are no others. `None` when all are taken.
    pub(crate) fn allocate_nsid(&mut self, is_taken: impl Fn(u32) -> bool) -> Option<u32> {
        let above = self.last_nsid + 1..=NSID_MAX;
        let below = 1..=self.last_nsid.min(NSID_MAX);
        let rested = above.chain(below).find(|&nsid| !is_taken(nsid) && !self.freed.contains(&nsid));
        let nsid = rested.or_else(|| self.freed.iter().copied().find(|&nsid| !is_taken(nsid)))?;
        self.freed.retain(|&freed| freed != nsid);
        self.last_nsid = nsid;
        Some(nsid)
    }

    /// A volume that had this NSID is gone.
    pub(crate) fn note_freed(&mut self, nsid: u32) {
        self.freed.retain(|&freed| freed != nsid);
        if self.freed.len() == FREED_MAX {
            self.freed.pop_front();
        }
        self.freed.push_back(nsid);
    }

    /// CNTLIDs below `next` are spent.
    pub(crate) fn note_cntlid(&mut self, next: u16) {
        self.next_cntlid = next;
    }

    /// The first CNTLID that is not spent.
    pub(crate) fn next_cntlid(&self) -> u16 {
        self.next_cntlid
    }

    /// Whether the id was given.
    pub(crate) fn has_given(&self, id: VolumeId) -> bool {
        (1..self.next_volume).contains(&id.0)
    }

    /// The record of the marks.
    pub(crate) fn to_raw(&self) -> RawRecord {
        let count = u16::try_from(self.freed.len()).expect("at most FREED_MAX");
        let mut payload = Vec::with_capacity(FIXED_BYTES + self.freed.len() * 4);
        payload.extend_from_slice(&self.next_volume.to_le_bytes());
        payload.extend_from_slice(&self.last_nsid.to_le_bytes());
        payload.extend_from_slice(&self.next_cntlid.to_le_bytes());
        payload.extend_from_slice(&count.to_le_bytes());
        for nsid in &self.freed {
            payload.extend_from_slice(&nsid.to_le_bytes());
        }
        RawRecord { kind: KIND_MARKS, version: MARKS_VERSION, flags: 0, key: 0, payload }
    }

    /// Whether this program knows the record's version.
    pub(crate) fn knows(record: &RawRecord) -> bool {
        record.version == MARKS_VERSION
    }

    /// Reads the marks from their record; `None` where a field is not what version 1 allows.
    pub(crate) fn parse(record: &RawRecord) -> Option<Self> {
        let fixed = record.payload.get(..FIXED_BYTES)?;
        let (nsids, rest) = record.payload[FIXED_BYTES..].as_chunks::<4>();
        let freed: VecDeque<u32> = nsids.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let marks = Self {
            next_volume: u64_at(fixed, 0),
            last_nsid: u32_at(fixed, 8),
            next_cntlid: u16_at(fixed, 12),
            freed,
        };
        let is_valid = rest.is_empty()
            && marks.freed.len() == usize::from(u16_at(fixed, 14))
            && marks.freed.len() <= FREED_MAX
            && (1..=VOLUMES_MAX).contains(&marks.next_volume)
            && marks.last_nsid <= NSID_MAX
            && marks.freed.iter().all(|nsid| (1..=NSID_MAX).contains(nsid));
        is_valid.then_some(marks)
    }
}

#[cfg(test)]
mod test {
    //! Goal: identifiers come back as late as possible, and the record's bytes never move.

    use super::*;

    #[test]
    fn nsids_go_upward_and_wrap_to_the_lowest_that_was_not_freed_lately() {
        let mut marks = Marks::new();
        assert_eq!(marks.allocate_nsid(|_| false), Some(1));
        assert_eq!(marks.allocate_nsid(|nsid| nsid == 1), Some(2));
        marks.note_freed(2);
        assert_eq!(marks.allocate_nsid(|nsid| nsid == 1), Some(3));
        marks.last_nsid = NSID_MAX;
        marks.note_freed(4);
        assert_eq!(marks.allocate_nsid(|nsid| nsid == 1), Some(3));
        assert_eq!(marks.allocate_nsid(|nsid| nsid == 1), Some(5));
    }

    #[test]
    fn the_nsid_freed_first_is_given_where_no_other_is_free() {
        let mut marks = Marks::new();
        marks.note_freed(9);
        marks.note_freed(5);
        assert_eq!(marks.allocate_nsid(|nsid| nsid != 5 && nsid != 9), Some(9));
        assert_eq!(marks.allocate_nsid(|nsid| nsid != 5), Some(5));
        assert_eq!(marks.allocate_nsid(|_| true), None);
    }

    #[test]
    fn only_so_many_freed_nsids_are_remembered() {
        let mut marks = Marks::new();
        for nsid in 1..=1000 {
            marks.note_freed(nsid);
        }
        assert_eq!(marks.freed.len(), FREED_MAX);
        assert_eq!(marks.freed.front(), Some(&745));
        assert!(marks.to_raw().encoded_bytes() <= MARKS_ENCODED_MAX);
        assert_eq!(Marks::parse(&marks.to_raw()), Some(marks));
    }

    #[test]
    fn the_bytes_of_version_1_never_move() {
        let mut marks = Marks::new();
        marks.next_volume = 0x0102;
        marks.last_nsid = 0x0304;
        marks.note_cntlid(0x0506);
        marks.note_freed(7);
        let golden = [2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 6, 5, 1, 0, 7, 0, 0, 0];
        assert_eq!(marks.to_raw().payload, golden);
        assert_eq!(Marks::parse(&marks.to_raw()), Some(marks));
    }

    #[test]
    fn impossible_marks_are_refused() {
        let good = Marks::new().to_raw();
        for (offset, byte) in [(0, 0), (7, 2), (10, 1), (14, 1)] {
            let mut record = good.clone();
            record.payload[offset] = byte;
            assert_eq!(Marks::parse(&record), None, "at {offset}");
        }
        let mut short = good.clone();
        short.payload.pop();
        assert_eq!(Marks::parse(&short), None);
    }
}
