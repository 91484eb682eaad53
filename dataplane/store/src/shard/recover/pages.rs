//! What recovery takes from a checkpoint: the manifest, and the pages above the leaves, level by level.

use std::collections::BTreeSet;

use io::{Buffer, Disk, DiskError, Extent, Purpose};

use super::super::checkpoint::chunk_extent;
use super::super::pages::bounds;
use super::super::{Doing, Failure, Shard, TokenKind, Uncounted};
use super::{Recovery, Stage};
use crate::VolumeId;
use crate::checksum;
use crate::manifest::{ManifestEntry, parse_chunk};
use crate::map::{
    CutHead, DiskPage, FANOUT, ImageHead, LOCATION_BYTES, LeafCount, Location, Map, PageIndex, Place, is_cut,
};
use crate::root::ChunkPlace;

/// A page that is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRef {
    place: Place,
    lineage: VolumeId,
    level: u8,
    index: u64,
    /// What is in it, if it is a leaf.
    count: LeafCount,
    parent: Parent,
}

/// What refers to a page.
#[derive(Clone, Copy, Debug)]
enum Parent {
    Image(ImageHead),
    Cut(CutHead),
    Page(PageIndex),
}

/// Pages that are read together.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRead {
    first: usize,
    end: usize,
    /// Byte address, through all segments, at which the read begins.
    start: u64,
}

/// Reads of pages under way at once, how long each may be, and how much it may skip.
pub(super) const PAGE_READS: usize = 8;
const PAGE_READ_BYTES: u64 = 256 << 10;
const PAGE_GAP_BYTES: u64 = 16 << 10;

impl<B: Buffer> Shard<B> {
    pub(super) fn on_manifest(
        &mut self,
        recovery: &mut Recovery<B>,
        place: ChunkPlace,
        bytes: &B,
    ) -> Result<(), Failure> {
        let damaged = Failure::CheckpointDamaged { segment: place.segment, offset: place.offset };
        let chunk = &bytes[..place.len as usize];
        if checksum::crc32c(chunk) != place.crc {
            return Err(damaged);
        }
        let before = parse_chunk(chunk, &mut recovery.entries).map_err(|_| damaged)?;
        recovery.chunks.push(chunk_extent(&self.space, &place));
        if let Some(before) = before {
            if !before.is_within(&self.layout) || recovery.chunks.len() > self.layout.segments() as usize {
                return Err(damaged);
            }
            recovery.stage = Stage::ReadManifest(before);
            return Ok(());
        }
        if self.take_manifest(recovery) {
            recovery.stage = Stage::Pages;
            Ok(())
        } else {
            Err(damaged)
        }
    }

    /// Takes over what the manifest says; false if that cannot be.
    fn take_manifest(&mut self, recovery: &mut Recovery<B>) -> bool {
        let mut names = BTreeSet::new();
        for entry in std::mem::take(&mut recovery.entries) {
            match entry {
                ManifestEntry::Segment { segment, in_use, generation, last, live_bytes } => {
                    if !self.layout.has_segment(segment)
                        || live_bytes > u64::from(self.layout.segment_bytes())
                    {
                        return false;
                    }
                    match in_use {
                        true => self.space.load_used(segment, generation, last, live_bytes),
                        false => self.space.add_free(segment),
                    }
                }
                ManifestEntry::Image { head, level, place, count } => {
                    let (lineage, parent) = (head.lineage, Parent::Image(head));
                    recovery.below.push(PageRef { place, lineage, level, index: 0, count, parent });
                    if !names.insert(head.image) || is_cut(head.image) || !self.is_in_pool(place) {
                        return false;
                    }
                }
                ManifestEntry::Cut { head, level, place, count } => {
                    let (lineage, parent) = (head.lineage, Parent::Cut(head));
                    recovery.below.push(PageRef { place, lineage, level, index: 0, count, parent });
                    if !names.insert(head.name) || !is_cut(head.name) || !self.is_in_pool(place) {
                        return false;
                    }
                }
                ManifestEntry::Member { clique, image } => {
                    recovery.cliques.entry(clique).or_default().push(image);
                }
                ManifestEntry::Totals { counted, blocks, block_bytes } => {
                    self.uncounted = Some(Uncounted { until: counted, cuts: 0 });
                    self.space.count_blocks(blocks, block_bytes);
                }
                ManifestEntry::Written { image, bytes } => {
                    if bytes > 0 {
                        self.written.insert(image, bytes);
                    }
                }
            }
        }
        self.uncounted.is_some()
    }

    /// Asks for pages of the level at hand; goes on to the level below, and then to the log.
    pub(super) fn read_pages<D: Disk<Buffer = B>>(&mut self, disk: &mut D, recovery: &mut Recovery<B>) {
        let has_all = recovery.asked == recovery.pages.len() && recovery.apart.is_empty();
        if has_all && recovery.reads.iter().all(Option::is_none) {
            // Level by level, so that all that refer to a page come together.
            let level = recovery.below.iter().map(|page| page.level).max();
            let below = std::mem::take(&mut recovery.below);
            (recovery.pages, recovery.below) = below.into_iter().partition(|page| Some(page.level) == level);
            recovery.pages.sort_by_key(|page| (page.place.location(), page.place.offset()));
            recovery.asked = 0;
            if level == Some(0) {
                self.place_leaves(recovery);
            }
            if let (true, Some(root)) = (recovery.pages.is_empty(), recovery.root) {
                self.map.end_load();
                if let Some(manifest) = root.manifest
                    && !self.load_cliques(recovery)
                {
                    let (segment, offset) = (manifest.segment, manifest.offset);
                    self.fail(Failure::CheckpointDamaged { segment, offset });
                    return;
                }
                self.begin_replay(recovery, &root);
                recovery.stage = Stage::ReadSummary(4096);
                return;
            }
        }
        while let Some(number) = recovery.reads.iter().position(Option::is_none) {
            let (read, end) = match recovery.apart.last() {
                Some(apart) => self.next_page_read(&recovery.pages[..apart.end], apart.start),
                None if recovery.asked < recovery.pages.len() => {
                    self.next_page_read(&recovery.pages, recovery.asked)
                }
                None => break,
            };
            let len = u32::try_from(end - read.start).expect("bounded by PAGE_READ_BYTES");
            let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else {
                self.retry_for_memory();
                return;
            };
            let (drive, offset) = self.space.place(&self.layout, Location(read.start / LOCATION_BYTES));
            if recovery.apart.pop().is_none() {
                recovery.asked = read.end;
            }
            recovery.reads[number] = Some(read);
            let extent = Extent { drive, offset, start: 0, len };
            disk.read(self.token(TokenKind::Recovery, number as u64), buffer, &[extent]);
        }
    }

    /// Leaves stay on the drives until somebody needs them.
    fn place_leaves(&mut self, recovery: &mut Recovery<B>) {
        let mut last: Option<(PageRef, PageIndex)> = None;
        for leaf in std::mem::take(&mut recovery.pages) {
            let same = |of: &PageRef| {
                (of.place, of.lineage, of.index, of.count)
                    == (leaf.place, leaf.lineage, leaf.index, leaf.count)
            };
            let index = match last {
                Some((of, index)) if same(&of) => index,
                _ => self.map.load_leaf(leaf.place, leaf.count),
            };
            self.put_under(recovery, &leaf, index);
            last = Some((leaf, index));
        }
    }

    fn load_cliques(&mut self, recovery: &Recovery<B>) -> bool {
        recovery.cliques.values().all(|members| {
            let name = |name| if is_cut(name) { recovery.cuts.get(&name).copied() } else { Some(name) };
            let names: Option<Vec<VolumeId>> = members.iter().copied().map(name).collect();
            names.is_some_and(|names| self.map.load_clique(&names))
        })
    }

    /// Pages from `first` on that lie close enough together to be read at once, and where that read ends.
    fn next_page_read(&self, pages: &[PageRef], first: usize) -> (PageRead, u64) {
        let (start, mut end) = bounds(pages[first].place);
        let segment = self.space.segment_of(pages[first].place.location());
        let mut count = 1;
        for page in &pages[first + 1..] {
            let (from, to) = bounds(page.place);
            if self.space.segment_of(page.place.location()) != segment
                || from > end + PAGE_GAP_BYTES
                || to - start > PAGE_READ_BYTES
            {
                break;
            }
            end = end.max(to);
            count += 1;
        }
        (PageRead { first, end: first + count, start }, end)
    }

    /// The drive failed a read of pages: as that may be for what lies between them, those of each block are read once more
    /// by themselves.
    pub(super) fn on_failed_pages(
        recovery: &mut Recovery<B>,
        number: u64,
        error: DiskError,
    ) -> Result<(), Failure> {
        let read = usize::try_from(number).ok().and_then(|number| recovery.reads.get_mut(number));
        let Some(read) = read.and_then(Option::take) else { return Ok(()) };
        let mut at = read.first;
        for together in
            recovery.pages[read.first..read.end].chunk_by(|a, b| bounds(a.place) == bounds(b.place))
        {
            let apart = at..at + together.len();
            if apart == (read.first..read.end) {
                return Err(Failure::Disk { doing: Doing::Recover, error });
            }
            at = apart.end;
            recovery.apart.push(apart);
        }
        Ok(())
    }

    pub(super) fn on_pages(
        &mut self,
        recovery: &mut Recovery<B>,
        number: u64,
        bytes: &B,
    ) -> Result<(), Failure> {
        let read = usize::try_from(number).ok().and_then(|number| recovery.reads.get_mut(number));
        let Some(read) = read.and_then(Option::take) else { return Ok(()) };
        let mut loaded: Option<(Place, DiskPage, PageIndex)> = None;
        for at in read.first..read.end {
            let wanted = recovery.pages[at];
            if let Some((_, page, index)) = loaded.as_ref().filter(|(place, ..)| *place == wanted.place)
                && (page.lineage, page.level, page.index) == (wanted.lineage, wanted.level, wanted.index)
            {
                let index = *index;
                self.put_under(recovery, &wanted, index);
                continue;
            }
            let location = wanted.place.location();
            let address = location.0 * LOCATION_BYTES + u64::from(wanted.place.offset());
            let start = usize::try_from(address - read.start).expect("within the read");
            let found = DiskPage::parse(&bytes[start..]).ok().filter(|(page, crc)| {
                wanted.place.accepts(*crc)
                    && page.len_bytes() == wanted.place.len() as usize
                    && (page.lineage, page.level, page.index) == (wanted.lineage, wanted.level, wanted.index)
                    && Map::is_sound(page)
                    && page.entries.iter().all(|&entry| entry == 0 || self.is_in_pool(Place(entry)))
            });
            let Some((page, _)) = found else {
                let segment = self.space.segment_of(location);
                let offset = location.0 * LOCATION_BYTES % u64::from(self.layout.segment_bytes());
                let offset = u32::try_from(offset).expect("within a segment");
                return Err(Failure::CheckpointDamaged { segment, offset });
            };
            let index = self.map.load(&page, wanted.place);
            self.put_under(recovery, &wanted, index);
            let children = (0_u64..).zip(page.entries.into_iter().zip(page.counts));
            let children =
                children.filter(|&(_, (entry, _))| entry != 0).map(|(slot, (entry, count))| PageRef {
                    place: Place(entry),
                    lineage: page.lineage,
                    level: page.level - 1,
                    index: page.index * FANOUT as u64 + slot,
                    count,
                    parent: Parent::Page(index),
                });
            recovery.below.extend(children);
            loaded = Some((wanted.place, page, index));
        }
        Ok(())
    }

    fn put_under(&mut self, recovery: &mut Recovery<B>, wanted: &PageRef, index: PageIndex) {
        match wanted.parent {
            Parent::Image(head) => self.map.load_root(head, index),
            Parent::Cut(head) => {
                let name = self.map.load_cut(head.lineage, index);
                recovery.cuts.insert(head.name, name);
            }
            Parent::Page(parent) => {
                let slot = usize::try_from(wanted.index % FANOUT as u64).expect("six bits");
                self.map.load_child(parent, slot, index);
            }
        }
    }

    pub(in crate::shard) fn is_in_pool(&self, place: Place) -> bool {
        let start = place.location().0 * LOCATION_BYTES % u64::from(self.layout.segment_bytes());
        self.layout.has_segment(self.space.segment_of(place.location()))
            && place.len() != 0
            && start + u64::from(place.offset() + place.len()) <= u64::from(self.layout.segment_bytes())
    }
}
