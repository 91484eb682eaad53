//! Who may still fill the room that is left: hosts stop first, then deallocation, then cleaning; a checkpoint, which
//! gives room back, always finds what it needs.

use io::Buffer;

use super::space::Want;
use super::{Output, Phase, Shard};
use crate::map::PAGE_BYTES_MAX;
use crate::record::ALIGNMENT;

/// What wants to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Moving live blocks out of the way.
    Clean,
    /// What gives space back.
    Unmap,
    /// Data of hosts.
    Host,
}

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    /// Not now: a segment was asked for, or cleaning will make room.
    Wait,
    /// The pool is full.
    No,
}

impl<B: Buffer> Shard<B> {
    /// Whether `bytes` more may be logged, `planned` bytes ahead of them apart.
    pub(super) fn admit(&self, class: Class, bytes: u64, planned: u64) -> Admission {
        let needed = bytes + planned + self.floor_bytes(class);
        if needed <= self.room_bytes() {
            return Admission::Yes;
        }
        let may_be_refused = class == Class::Host && self.space.is_starved();
        if !may_be_refused || self.map.is_dropping() || self.space.is_departing() {
            return Admission::Wait;
        }
        // Everything live could be packed together, with headers, and a sixteenth must stay free for cleaning to be
        // worth its writes.
        let usable = self.space.usable_bytes();
        let owned = self.space.owned() * usable;
        let packed = self.space.live_bytes() + self.space.live_bytes() / 16;
        if packed + needed + usable + owned / 16 <= owned { Admission::Wait } else { Admission::No }
    }

    /// Bytes that the log can grow by in what the shard has.
    pub(super) fn room_bytes(&self) -> u64 {
        let head = self.log.head.segment.map_or(0, |_| {
            u64::from((self.layout.segment_bytes() - self.log.head.offset).saturating_sub(ALIGNMENT))
        });
        head + self.space.free_count() as u64 * self.space.usable_bytes()
    }

    /// Room that must be left when `class` has written.
    fn floor_bytes(&self, class: Class) -> u64 {
        let usable = self.space.usable_bytes();
        let reserve = u64::from(self.options.reserve_segments) * usable;
        let checkpoint = self.checkpoint_bytes_needed();
        match class {
            Class::Clean => checkpoint,
            Class::Unmap => (reserve.saturating_sub(usable)).max(checkpoint + usable),
            Class::Host => reserve.max(checkpoint + 2 * usable),
        }
    }

    /// What a checkpoint would write now, at most.
    pub(super) fn checkpoint_bytes_needed(&self) -> u64 {
        let pages = self.map.dirty_pages() * PAGE_BYTES_MAX as u64;
        let entries = (self.space.owned() + self.map.manifest_entries()) * 32;
        // Headers, and what is lost at the ends of batches and segments.
        (pages + entries) * 9 / 8 + 8 * u64::from(ALIGNMENT)
    }

    /// Whether the shard should have more segments.
    pub(super) fn is_short_of_space(&self) -> bool {
        self.is_short_by(0)
    }

    /// Whether it should have more even after it has got `gained` bytes.
    pub(super) fn is_short_by(&self, gained: u64) -> bool {
        let has_begun = self.log.head.segment.is_some() || !self.order.is_empty();
        let ahead = (u64::from(self.options.spare_segments) + 1) * self.space.usable_bytes();
        has_begun
            && self.room_bytes() + gained < self.floor_bytes(Class::Host) + ahead.max(self.order.needed_bytes)
    }

    /// Whether old segments should be emptied to make room.
    pub(super) fn wants_cleaning(&self) -> bool {
        self.space.pool_low || self.space.is_starved() && self.is_short_of_space()
    }

    /// Asks the pool for segments, and gives back those that have left.
    pub(super) fn step_segments(&mut self) {
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::ReuseTooEarly) {
            self.space.condemn(self.log.settled.sequence, self.keep_segments());
            self.space.depart(self.reads.next_ticket());
        }
        let release = self.space.departed(self.reads.oldest_ticket());
        if !release.is_empty() {
            self.outputs.push_back(Output::Release(release));
        }
        if let Want::Refused(until) = self.space.want
            && until <= self.now
        {
            self.space.want = Want::Nothing;
        }
        let running = matches!(self.phase, Phase::Running | Phase::Stopping);
        if running && self.space.want == Want::Nothing && self.is_short_of_space() {
            self.space.want = Want::Asked;
            let cleaning = self.room_bytes() < self.floor_bytes(Class::Unmap);
            self.outputs.push_back(Output::WantSegment { cleaning });
        }
    }

    /// Free segments that the shard keeps for itself.
    pub(super) fn keep_segments(&self) -> usize {
        (self.options.reserve_segments + self.options.spare_segments + 1) as usize
    }
}
