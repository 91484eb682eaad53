//! Leaves of the map, and pages right above them, that are read in, and those that leave memory.
//!
//! Whoever needs leaves that are not there asks for them and comes back in every [`Shard::run`] until nothing is missing.
//! Leaves leave at the end of a run alone, when everybody has had a chance to use what came: what a step that needs several
//! still waits for is held. So each step is taken in the end, however little memory there is.

use std::collections::VecDeque;

use io::{Buffer, Disk, DiskError, Extent, Purpose, Time};

use super::read::ReadFor;
use super::{Doing, Failure, Phase, Shard};
use crate::map::{DiskPage, Entry, FANOUT, LOCATION_BYTES, Location, Map, Needs, PageIndex, Place, Wanted};

/// Leaves that are wanted.
#[derive(Debug)]
pub(super) struct Pages {
    /// Asked for, and how often that has failed.
    wanted: VecDeque<(Wanted, u8)>,
    reads: usize,
    /// What steps that wait need, since this run began.
    pub(super) held: Vec<PageIndex>,
    unreadable: VecDeque<Unreadable>,
    /// For the next question.
    pub(super) needs: Needs,
    /// Something came, or will not come, since reads that wait were looked at.
    pub(super) has_news: bool,
    /// Leaves that reads did not find; each is looked up once more when it is there.
    pub(super) missed: u64,
    /// The vectors of reads that have ended, for their memory.
    spare: Vec<Vec<(Wanted, u8)>>,
}

/// A leaf that could not be read.
#[derive(Debug)]
struct Unreadable {
    /// When to try again if somebody asks; none until a run has begun in which those who wait can learn of it.
    until: Option<Time>,
    page: PageIndex,
    place: Place,
    /// How the drive failed; none where it read something else than what was written.
    error: Option<DiskError>,
}

/// Leaves that are read together.
#[derive(Debug)]
pub(super) struct PagesRead {
    /// Byte address, through all segments, at which the read begins.
    start: u64,
    leaves: Vec<(Wanted, u8)>,
}

/// Reads of leaves under way at once, how long each may be, how much it may skip, and among how many that wait it looks
/// for more to take along.
const READS_MAX: usize = 64;
const READ_BYTES_MAX: u64 = 64 << 10;
const GAP_BYTES: u64 = 16 << 10;
const NEIGHBOURS_MAX: usize = 64;
/// Leaves that are held for moves; what lies beyond is moved though it may be dead.
const MOVE_LEAVES_MAX: usize = 2048;
/// How often a leaf is read before it counts as unreadable.
const TRIES: u8 = 4;

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            wanted: VecDeque::new(),
            reads: 0,
            held: Vec::new(),
            unreadable: VecDeque::new(),
            needs: Needs::default(),
            has_news: false,
            missed: 0,
            spare: Vec::new(),
        }
    }

    /// Leaves that were asked for, and reads of them under way.
    pub(super) fn describe(&self) -> String {
        format!("{} wanted, {} reads, {} held", self.wanted.len(), self.reads, self.held.len())
    }
}

impl<B: Buffer> Shard<B> {
    /// Whether everything is there that `ask` says a step needs; otherwise it is asked for, and the step must wait. In
    /// the end [`Needs::unreadable`] tells of what cannot be had.
    pub(super) fn has_leaves(&mut self, ask: impl FnOnce(&Map, &mut Needs)) -> bool {
        self.pages.needs.clear();
        if !self.map.has_away() {
            return true;
        }
        ask(&self.map, &mut self.pages.needs);
        if self.pages.needs.is_met() {
            return true;
        }
        self.pages.held.extend_from_slice(&self.pages.needs.leaves);
        self.want_missing();
        false
    }

    /// The place behind those of the cleaner's moves of which the leaves are there that tell what is live, and that
    /// replay will need; `None` if some of them must come first. [`Needs::unreadable`] tells of what cannot be had.
    pub(super) fn movable(&mut self) -> Option<usize> {
        let needs = &mut self.pages.needs;
        needs.clear();
        let (items, from) = self.cleaner.moves().unwrap_or_default();
        if !self.map.has_away() {
            return Some(items.len());
        }
        let mut place = from;
        while let Some(item) = items.get(place).filter(|_| needs.leaves.len() < MOVE_LEAVES_MAX) {
            self.map.need_everywhere(item.lineage, item.block / FANOUT as u64, true, needs);
            place += 1;
        }
        if needs.is_met() {
            return Some(place);
        }
        self.pages.held.extend_from_slice(&self.pages.needs.leaves);
        self.want_missing();
        None
    }

    /// Asks for what will be needed soon.
    pub(super) fn prefetch(&mut self, ask: impl FnOnce(&Map, &mut Needs)) {
        if self.map.has_away() {
            self.pages.needs.clear();
            ask(&self.map, &mut self.pages.needs);
            self.want_missing();
        }
    }

    /// Asks for what the question that was asked last found missing.
    pub(super) fn want_missing(&mut self) {
        for wanted in &self.pages.needs.missing {
            if self.map.begin_load(wanted) {
                self.stats.map_misses += 1;
                self.pages.wanted.push_back((*wanted, 0));
            }
        }
    }

    /// What failed, in the words of a failure: a page of the map that the drive does not read, or that is not what was
    /// written.
    pub(super) fn lost_page(&self, place: Place) -> Failure {
        let found = self.pages.unreadable.iter().find(|page| page.place == place);
        if let Some(error) = found.and_then(|page| page.error) {
            return Failure::Disk { doing: Doing::ReadMap, error };
        }
        let location = place.location();
        let offset = location.0 * LOCATION_BYTES % u64::from(self.layout.segment_bytes());
        let offset = u32::try_from(offset).expect("within a segment");
        Failure::CheckpointDamaged { segment: self.space.segment_of(location), offset }
    }

    /// Begins to read what is wanted.
    pub(super) fn read_leaves<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        while self.pages.reads < READS_MAX
            && let Some(first) = self.pages.wanted.pop_front()
        {
            if !self.map.awaits(&first.0) {
                continue;
            }
            let (start, mut end) = bounds(first.0.place);
            // A stretch that no other leaf makes longer is at most two blocks; memory for it is asked for before more
            // is taken along, so that nothing needs to be put back in its place.
            let mut leaves = self.pages.spare.pop().unwrap_or_default();
            leaves.push(first);
            // What has failed may lie between leaves, or in another: they are read one by one then.
            if first.1 == 0 {
                end = self.take_neighbours(&mut leaves, start, end);
            }
            let len = usize::try_from(end - start).expect("bounded by READ_BYTES_MAX");
            let Some(buffer) = disk.allocate(len, Purpose::Log) else {
                for wanted in leaves.drain(..).rev() {
                    self.pages.wanted.push_front(wanted);
                }
                self.pages.spare.push(leaves);
                self.retry_for_memory();
                return;
            };
            let (drive, offset) = self.space.place(&self.layout, Location(start / LOCATION_BYTES));
            let len = u32::try_from(len).expect("bounded by READ_BYTES_MAX");
            let extent = Extent { drive, offset, start: 0, len };
            self.pages.reads += 1;
            self.stats.map_reads += 1;
            self.start_raw_read(disk, &[extent], buffer, ReadFor::Pages(PagesRead { start, leaves }));
        }
    }

    /// Leaves were read, or the drive failed: what is as it was written is put into the map.
    pub(super) fn on_leaves(&mut self, read: PagesRead, bytes: &B, error: Option<DiskError>) {
        let PagesRead { start, mut leaves } = read;
        self.pages.reads -= 1;
        self.pages.has_news = true;
        for (wanted, failures) in leaves.drain(..) {
            let address = wanted.place.location().0 * LOCATION_BYTES + u64::from(wanted.place.offset());
            let at = usize::try_from(address - start).expect("within the read");
            let page = if error.is_none() { parse_page(&wanted, &bytes[at..]) } else { None };
            let page = page.filter(|page| self.is_of_pool(page));
            match page.is_some_and(|page| self.map.install(&wanted, &page)) {
                true => {}
                false if failures + 1 < TRIES => self.pages.wanted.push_back((wanted, failures + 1)),
                false => {
                    self.stats.map_errors += 1;
                    self.map.give_up(&wanted);
                    let Wanted { page, place, .. } = wanted;
                    self.pages.unreadable.push_back(Unreadable { until: None, page, place, error });
                }
            }
        }
        self.pages.spare.push(leaves);
    }

    /// Whether all that a page names can be in the pool.
    fn is_of_pool(&self, leaf: &DiskPage) -> bool {
        if leaf.level > 0 {
            return leaf.entries.iter().all(|&entry| entry == 0 || self.is_in_pool(Place(entry)));
        }
        let mapped = leaf.entries.iter().map(|&entry| Entry(entry)).filter(|entry| entry.is_mapped());
        mapped.map(Entry::location).all(|location| self.layout.has_segment(self.space.segment_of(location)))
    }

    /// Lets leaves be asked for again that could not be read some time ago.
    pub(super) fn forgive_leaves(&mut self) {
        while let Some(&Unreadable { until: Some(until), page, .. }) = self.pages.unreadable.front()
            && until <= self.now
        {
            self.pages.unreadable.pop_front();
            self.map.forgive(page);
        }
        // Not from when the read ended: the time of the last run, which is all that is known then, may be long ago.
        let until = self.now + self.options.retry;
        for page in self.pages.unreadable.iter_mut().rev().take_while(|page| page.until.is_none()) {
            page.until = Some(until);
        }
    }

    /// Takes leaves, and pages right above them, out of memory where the map has more than it may.
    pub(super) fn evict_leaves(&mut self) {
        let max = self.options.map_bytes_max;
        if self.map.bytes() > max {
            self.hold_for_reads();
            let log = &self.log;
            let space = &self.space;
            // While nothing is counted nobody asks who else has a leaf.
            let above = self.phase != Phase::Recovering;
            let gone = self.map.evict(max, &self.pages.held, above, |place| !log.is_writing(space, place));
            self.stats.map_evictions += gone;
            if self.map.has_many_free_heads() && self.knows_no_pages() {
                self.map.renumber();
            }
        }
        self.pages.held.clear();
    }

    /// Whether no page is being read and nobody waits for one.
    fn knows_no_pages(&self) -> bool {
        let Pages { wanted, reads, unreadable, .. } = &self.pages;
        let waits = !self.reads.missing.is_empty() || self.waits_for_leaves();
        self.phase != Phase::Recovering && wanted.is_empty() && *reads == 0 && unreadable.is_empty() && !waits
    }

    #[cfg(test)]
    pub(super) fn map_bytes_in_use(&self) -> u64 {
        self.map.bytes_in_use()
    }

    /// Whether so much of the map differs from what was written that a checkpoint should make it fit to leave memory.
    pub(super) fn has_many_dirty(&self) -> bool {
        self.dirty_bytes() > self.dirty_bytes_max() / 2
    }

    /// Whether no more of the map may be made to differ from what was written.
    pub(super) fn has_too_many_dirty(&self) -> bool {
        self.dirty_bytes() > self.dirty_bytes_max()
    }

    fn dirty_bytes(&self) -> u64 {
        self.map.dirty_pages() * 536
    }

    fn dirty_bytes_max(&self) -> u64 {
        // However little the map may take, a few batches must fit.
        (self.options.map_bytes_max / 2).max(64 << 10)
    }

    /// Moves to `leaves` what is wanted close to them and has not failed; gives where the read ends then.
    fn take_neighbours(&mut self, leaves: &mut Vec<(Wanted, u8)>, start: u64, end: u64) -> u64 {
        let mut end = end;
        let segment = self.space.segment_of(leaves[0].0.place.location());
        let mut at = 0;
        while at < self.pages.wanted.len().min(NEIGHBOURS_MAX) {
            let (next, failures) = self.pages.wanted[at];
            let (from, to) = bounds(next.place);
            let is_near = from >= start && from <= end + GAP_BYTES && to <= start + READ_BYTES_MAX;
            if failures > 0
                || !is_near
                || self.space.segment_of(next.place.location()) != segment
                || !self.map.awaits(&next)
            {
                at += 1;
                continue;
            }
            leaves.extend(self.pages.wanted.remove(at));
            end = end.max(to);
        }
        end
    }
}

/// The blocks in which a page lies.
pub(super) fn bounds(place: Place) -> (u64, u64) {
    let start = place.location().0 * LOCATION_BYTES + u64::from(place.offset());
    (start / 4096 * 4096, (start + u64::from(place.len())).next_multiple_of(4096))
}

/// The page that was wanted, if that is what `bytes` begin with.
fn parse_page(wanted: &Wanted, bytes: &[u8]) -> Option<DiskPage> {
    let (page, crc) = DiskPage::parse(bytes).ok()?;
    let is_it = wanted.place.accepts(crc)
        && page.len_bytes() == wanted.place.len() as usize
        && (page.lineage, page.level, page.index) == (wanted.lineage, wanted.level, wanted.index)
        && Map::is_sound(&page);
    is_it.then_some(page)
}
