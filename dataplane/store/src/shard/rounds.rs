//! Which segment is cleaned next.
//!
//! Cleaning works in rounds: victims, until one or a checkpoint gives segments back. A victim is taken only if it gives more
//! than it costs, and if all of it fits into the room that is cleaning's. Costs are estimates, so what a round gave is
//! looked at when it is over: after one that gave nothing there is none until a fair part of a segment has died.

use io::Buffer;

use super::admit::Class;
use super::{BLOCK_BYTES, Shard};
use crate::SegmentId;
use crate::map::PAGE_BYTES_MAX;
use crate::record::{ALIGNMENT, MOVED_BYTES, RECORD_BYTES};

/// How things stood when the first victim was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Room, with what is on its way.
    room_bytes: u64,
    requested_bytes: u64,
    granted: u64,
    released: u64,
    returns: u64,
}

/// Rounds between which nothing but cleaning and its checkpoints was logged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Series {
    requested_bytes: u64,
    granted: u64,
    /// The most room that one of them left.
    best_bytes: u64,
    /// How many have been since then.
    fruitless: u32,
}

/// Rounds that may leave no more room than one before them.
const FRUITLESS_ROUNDS_MAX: u32 = 8;

impl<B: Buffer> Shard<B> {
    pub(super) fn begin_round(&self) -> Round {
        Round {
            room_bytes: self.room_bytes() + self.space.coming() * self.space.usable_bytes(),
            requested_bytes: self.log.requested_bytes,
            granted: self.space.granted,
            released: self.cleaner.released,
            returns: self.returns(),
        }
    }

    /// Looks at what a round of cleaning has given, once it is over.
    pub(super) fn end_round(&mut self) {
        let Some(round) = self.cleaner.round.filter(|_| self.is_round_over()) else { return };
        let usable = self.space.usable_bytes();
        let is = self.begin_round();
        let gave = is.room_bytes + is.requested_bytes - round.requested_bytes
            + (is.released - round.released) * usable;
        let took = round.room_bytes + (is.granted - round.granted) * usable;
        self.cleaner.round = None;
        self.cleaner.exhausted = (gave <= took).then_some(self.space.died_bytes);
        self.count_round();
    }

    pub(super) fn is_round_over(&self) -> bool {
        self.cleaner.is_idle() && self.cleaner.round.is_some_and(|round| self.returns() != round.returns)
    }

    /// One round may seem to give what the next takes again. A row of them that leaves no more room than before is as
    /// good as one that gave nothing, whatever died by moving about.
    pub(super) fn count_round(&mut self) {
        let is = self.begin_round();
        let series = &mut self.cleaner.series;
        let goes_on = (series.requested_bytes, series.granted) == (is.requested_bytes, is.granted);
        if !goes_on || self.map.is_dropping() {
            *series =
                Series { requested_bytes: is.requested_bytes, granted: is.granted, ..Series::default() };
        }
        if is.room_bytes >= series.best_bytes + self.space.usable_bytes() / 16 {
            series.best_bytes = is.room_bytes;
            series.fruitless = 0;
        } else {
            series.fruitless += 1;
        }
    }

    /// Whether cleaning has gone round in circles since anything else was logged.
    fn is_fruitless(&self) -> bool {
        let series = &self.cleaner.series;
        series.fruitless >= FRUITLESS_ROUNDS_MAX
            && (series.requested_bytes, series.granted) == (self.log.requested_bytes, self.space.granted)
            && !self.map.is_dropping()
    }

    /// How often segments have become free.
    fn returns(&self) -> u64 {
        self.stats.checkpoints + self.reuse.count
    }

    /// Whether nothing is under way that could give room to what lacks it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_quiet() && self.is_root_settled() && !self.wants_checkpoint()
    }

    /// The same, checkpoints apart.
    pub(super) fn is_quiet(&self) -> bool {
        self.log.in_flight() == 0 && !self.space.is_departing() && !self.map.is_dropping()
    }

    /// The segment that is cleaned next for a change that waits for room, if any is worth it and fits: the one with the
    /// least live bytes. Without need that is only one of which a fair part is empty; in an emergency, when not even
    /// deallocation has room, one that pays for a checkpoint.
    pub(super) fn find_victim(&self, waiting: Option<Class>) -> Option<SegmentId> {
        let usable = self.space.usable_bytes();
        let least_gain = usable / 16;
        let is_emergency = waiting == Some(Class::Unmap);
        let is_exhausted =
            self.cleaner.exhausted.is_some_and(|died| self.space.died_bytes - died < least_gain);
        if is_exhausted && !is_emergency || self.is_fruitless() {
            return None;
        }
        let settled = self.log.settled.sequence;
        let (segment, live) = self.space.victims(settled).min_by_key(|&(_, live)| live)?;
        let is_urgent = waiting == Some(Class::Host) && self.space.is_starved();
        let dearest = match waiting {
            _ if is_urgent => usable - least_gain,
            // Nothing is left to gather several with: each must pay for its own checkpoint.
            _ if is_emergency => {
                usable.saturating_sub(self.checkpoint_cost_bytes() + least_gain).max(usable / 2)
            }
            _ => usable / 4 * 3,
        };
        let kept = self.floor_bytes(Class::Clean) + if is_emergency { 0 } else { usable };
        let budget = self.room_bytes().saturating_sub(kept);
        let cost = self.clean_cost_bytes(live);
        if cost > dearest.min(budget) {
            return None;
        }
        if is_emergency || self.space.reclaimable() > 0 || usable - cost >= self.checkpoint_cost_bytes() {
            return Some(segment);
        }
        // All that can be cleaned before the next checkpoint must give more than that takes.
        let mut lives: Vec<u64> = self.space.victims(settled).map(|(_, live)| live).collect();
        lives.sort_unstable();
        let (mut spent, mut gain) = (0, 0);
        for cost in lives.into_iter().map(|live| self.clean_cost_bytes(live)) {
            spent += cost;
            if cost > dearest || spent > budget {
                break;
            }
            gain += usable - cost;
        }
        (gain >= self.checkpoint_cost_bytes()).then_some(segment)
    }

    /// What it costs to move so many live bytes: themselves, headers, and the pages that name them.
    fn clean_cost_bytes(&self, live: u64) -> u64 {
        let block = u64::from(BLOCK_BYTES);
        let blocks = live.div_ceil(block);
        let batch = u64::from(self.options.batch_bytes_max) - block;
        let batches = live.div_ceil(batch.min(u64::from(self.options.clean_blocks_max) * block));
        let records = blocks * (RECORD_BYTES + MOVED_BYTES) as u64;
        let pages = (blocks + 1).min(self.map.pages() - self.map.dirty_pages()) * PAGE_BYTES_MAX as u64;
        live.next_multiple_of(block) + batches * block + records / block * block + pages
    }

    /// What a checkpoint costs that has no dirty pages but those of cleaning.
    fn checkpoint_cost_bytes(&self) -> u64 {
        4 * u64::from(ALIGNMENT) + (self.space.owned() + self.map.manifest_entries()) * 32
    }
}
