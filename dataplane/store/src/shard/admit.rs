//! Who may still fill the room that is left: hosts stop first, then deallocation, then cleaning; a checkpoint, which
//! gives room back, always finds what it needs.
//!
//! Room is what the log can grow by in the segments that the shard has. From the bottom up it is kept for: a checkpoint
//! of what is dirty now; a segment in which cleaning can free another, whatever else has failed; a segment for
//! deallocation; the segments in which cleaning works as a rule. A host's write that does not fit
//! above these waits as long as room is on its way or can be made, else it is refused. Deallocation is never refused:
//! if nothing else can give room, it may have what is cleaning's.

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
        if !self.space.is_starved() || self.has_room_coming(class) {
            return Admission::Wait;
        }
        match class {
            Class::Host => Admission::No,
            _ if bytes + planned + self.floor_bytes(Class::Clean) <= self.room_bytes() => Admission::Yes,
            _ => Admission::Wait,
        }
    }

    /// Whether something is under way, or can be begun for a change of this class, that may give room.
    fn has_room_coming(&self, class: Class) -> bool {
        self.map.is_dropping()
            || self.space.is_departing()
            || self.space.reclaimable() > 0
            || self.log.in_flight() > 0
            || !self.is_root_settled()
            || !self.cleaner.is_idle()
            || self.phase == Phase::Running && self.find_victim(Some(class)).is_some()
    }

    /// Bytes that the log can grow by in what the shard has.
    pub(super) fn room_bytes(&self) -> u64 {
        let head = self.log.head.segment.map_or(0, |_| {
            u64::from((self.layout.log_bytes() - self.log.head.offset).saturating_sub(ALIGNMENT))
        });
        head + self.space.free_count() as u64 * self.space.usable_bytes()
    }

    /// Room that must be left when `class` has written.
    pub(super) fn floor_bytes(&self, class: Class) -> u64 {
        let usable = self.space.usable_bytes();
        let checkpoint = self.checkpoint_bytes_needed();
        match class {
            Class::Clean => checkpoint + 2 * u64::from(ALIGNMENT),
            Class::Unmap => checkpoint + 2 * u64::from(ALIGNMENT) + usable,
            Class::Host => checkpoint + u64::from(self.options.reserve_segments) * usable,
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
        has_begun && self.room_bytes() + gained < self.wanted_bytes()
    }

    /// Room that the shard would like to have.
    fn wanted_bytes(&self) -> u64 {
        let ahead = (u64::from(self.options.spare_segments) + 1) * self.space.usable_bytes();
        self.floor_bytes(Class::Host) + ahead.max(self.order.needed_bytes)
    }

    /// Whether old segments should be emptied to make room.
    pub(super) fn wants_cleaning(&self) -> bool {
        let is_low = self.space.pool_low || self.space.is_starved();
        self.space.pool_scarce || is_low && self.is_short_by(self.leaving_bytes())
    }

    /// Ends the departure of segments that nobody reads any more: the shard has them again, or the pool gets them back.
    pub(super) fn step_departures(&mut self) {
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::ReuseTooEarly) {
            self.space.condemn(self.log.settled.sequence, self.keep_segments());
            self.space.depart(self.reads.next_ticket());
        }
        let release =
            self.space.departed(self.reads.oldest_ticket(), self.flush.flushed, &self.summary.in_flight);
        if !release.is_empty() {
            self.cleaner.released += release.len() as u64;
            self.outputs.push_back(Output::Release(release));
        }
    }

    /// Asks the pool for segments.
    pub(super) fn step_wants(&mut self) {
        if let Want::Refused(until) = self.space.want
            && until <= self.now
        {
            self.space.want = Want::Nothing;
        }
        let running = matches!(self.phase, Phase::Running | Phase::Stopping);
        // While nobody waits a shard uses what it cleans itself before it takes the pool's last segments.
        let is_waited_for = self.order.needed_bytes > 0 || self.cleaner.lacks_room;
        let spared = match self.space.pool_low && !is_waited_for {
            true => self.leaving_bytes() + self.space.usable_bytes(),
            false => 0,
        };
        if running && self.space.want == Want::Nothing && self.is_short_by(spared) {
            self.space.want = Want::Asked;
            let cleaning = self.room_bytes() < self.floor_bytes(Class::Clean) + 2 * self.space.usable_bytes();
            self.outputs.push_back(Output::WantSegment { cleaning });
        }
    }

    /// Free segments that the shard keeps for itself: as many as it would ask for again.
    pub(super) fn keep_segments(&self) -> usize {
        let segments = self.wanted_bytes().div_ceil(self.space.usable_bytes());
        usize::try_from(segments).unwrap_or(usize::MAX)
    }
}
