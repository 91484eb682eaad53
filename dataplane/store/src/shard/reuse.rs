//! Emptied segments that the log uses again without a checkpoint between.
//!
//! A root names a segment until the next checkpoint, but recovery needs it only for what replay begins with, for map pages,
//! and for what is counted in it. So a segment may be used again under the same root if all of this holds:
//!
//! * it is empty, and its last batch is before the point from which the root replays;
//! * what emptied it is safe, so that no crash brings back what pointed there;
//! * replay empties it, too, before it comes to where the log goes on in it. What is cut off from the map is given back
//!   by and by, which is in no record: then this does not hold until the next checkpoint. (With what is cut off, and in
//!   checkpoints before their manifests, pages are let go of, and never else: so no page that the root names is in it);
//! * no checkpoint is under way, and every record that was made while it was in use is in the map. The next one
//!   then replays from beyond these, and where pages may be newer than records a place has one meaning;
//! * reads that began before have ended.

use std::collections::VecDeque;

use io::Buffer;

use super::{Phase, Shard};
use crate::SegmentId;

/// What has become empty, and whether it may be used again.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    /// Empty segments with their generations and the last batch that was made before they were noticed.
    found: VecDeque<(SegmentId, u64, u64)>,
    /// How often something had been cut off from the map when the root's manifest was made, if all of it was given back.
    pub(super) cuts: Option<u64>,
    /// Manifests to come before replay does to the map exactly what was done to it.
    inexact: u8,
    /// Segments that were used again so.
    pub(super) count: u64,
}

impl Reuse {
    /// A record has done less to the map than it may do at replay: that is so until its segment is behind all that is
    /// replayed, with the second manifest from now on at the latest.
    pub(super) fn on_inexact(&mut self) {
        self.inexact = 2;
        self.cuts = None;
    }
}

/// As many segments are not left to wait for the next flush.
const WAITING_MAX: usize = 8;

impl<B: Buffer> Shard<B> {
    /// A manifest is made. What was empty before is given back with its root, or is needed by replay from there.
    pub(super) fn begin_reuse(&mut self) {
        self.space.take_emptied();
        self.reuse.found.clear();
        self.reuse.inexact = self.reuse.inexact.saturating_sub(1);
        let is_exact = self.reuse.inexact == 0 && !self.map.is_dropping();
        self.reuse.cuts = is_exact.then_some(self.map.cuts_begun());
    }

    /// The log is about to be replayed on the map of a root. That is exact from the manifest on, unless something that was
    /// cut off was being given back when it was made.
    pub(super) fn resume_reuse(&mut self) {
        self.reuse.cuts = (!self.map.is_dropping()).then_some(self.map.cuts_begun());
    }

    /// Recovery has ended. A replay from the same root comes to the same again, so what is empty now may be used again,
    /// whatever was cut off after the manifest: as much room as there was before the crash is there again, and a
    /// checkpoint finds what was kept for it.
    pub(super) fn reuse_recovered(&mut self) {
        let Some(replay) = self.checkpoint.replay_sequence().filter(|_| self.reuse.cuts.is_some()) else {
            return;
        };
        let (batch, ticket) = (self.log.applied, self.reads.next_ticket());
        let emptied: Vec<(SegmentId, u64)> = self.space.take_emptied().collect();
        for (segment, generation) in emptied {
            if self.wants_reuse() && self.space.is_reusable(segment, generation, replay) {
                self.space.reuse(segment, ticket, batch);
                self.reuse.count += 1;
            } else {
                self.reuse.found.push_back((segment, generation, batch));
            }
        }
    }

    /// Lets go of emptied segments that the shard can use itself.
    pub(super) fn step_reuse(&mut self) {
        let batch = self.log.head.sequence.saturating_sub(1);
        let emptied = self.space.take_emptied().map(|(segment, generation)| (segment, generation, batch));
        self.reuse.found.extend(emptied);
        if self.reuse.found.is_empty() || !self.is_root_settled() || self.phase != Phase::Running {
            return;
        }
        let Some(replay) = self.checkpoint.replay_sequence().filter(|_| self.is_replay_exact()) else {
            self.reuse.found.clear();
            return;
        };
        #[cfg(feature = "planted")]
        let replay = if self.is_planted(super::Planted::ReuseUnderReplay) { u64::MAX } else { replay };
        while self.wants_reuse()
            && let Some(&(segment, generation, batch)) = self.reuse.found.front()
            && batch < self.log.settled.sequence
        {
            self.reuse.found.pop_front();
            let ticket = self.reads.next_ticket();
            #[cfg(feature = "planted")]
            let ticket = if self.is_planted(super::Planted::ReuseUnderReads) { 0 } else { ticket };
            if self.space.is_reusable(segment, generation, replay) {
                self.space.reuse(segment, ticket, batch);
                self.reuse.count += 1;
            }
        }
    }

    /// Emptied segments of which will be known soon whether they can be used again.
    pub(super) fn reused_soon(&self) -> u32 {
        // Whoever stops uses none again, and must have them from a checkpoint.
        let will_be_used = self.phase == Phase::Running
            && self.is_root_settled()
            && self.is_replay_exact()
            && self.wants_reuse();
        if will_be_used { u32::try_from(self.reuse.found.len()).unwrap_or(u32::MAX) } else { 0 }
    }

    /// Bytes of the segments that are about to be free again.
    pub(super) fn leaving_bytes(&self) -> u64 {
        self.space.leaving() as u64 * self.space.usable_bytes()
    }

    /// Whether replay would do to the map what was done to it since the manifest was made, record by record.
    fn is_replay_exact(&self) -> bool {
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::ReuseInexact) {
            return true;
        }
        self.reuse.cuts == Some(self.map.cuts_begun())
    }

    fn wants_reuse(&self) -> bool {
        self.space.free_count() + self.space.leaving() < self.keep_segments()
    }

    /// Has what departures wait for flushed, if anybody needs the room.
    pub(super) fn want_departures(&mut self) {
        let batch = self.space.departs_after();
        if batch <= self.flush.flushed {
            return;
        }
        let is_short =
            self.room_bytes() < self.floor_bytes(super::admit::Class::Host) + self.space.usable_bytes();
        let is_waited_for = self.order.waiting.is_some() || self.cleaner.lacks_room;
        if is_short || is_waited_for || self.space.leaving() >= WAITING_MAX {
            self.flush.want(batch);
        }
    }
}
