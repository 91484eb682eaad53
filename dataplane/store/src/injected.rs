//! A map without a shard, a log or data: volumes of any size come to be by injection, for benches of what snapshots and
//! diffs cost where nobody has the drives for it. The code that is measured is the map's own.

use std::fmt;

use crate::VolumeId;
use crate::codec::Form;
use crate::map::{
    ChangedLeaf, DiskPage, Entry, LOCATION_BYTES, Location, Map, Needs, PAGE_BYTES_MAX, PageName, Place,
    Wanted,
};

/// A map with one volume and its snapshots.
#[derive(Debug)]
pub struct InjectedMap {
    map: Map,
    lsn: u64,
    /// Where the next block would lie.
    next: u64,
    image_last: u64,
    cache: Option<Cache>,
}

/// Where pages of a map are written.
pub trait PageFile: fmt::Debug {
    /// Writes bytes at an offset.
    fn write(&mut self, offset: u64, bytes: &[u8]);
    /// Reads bytes at an offset.
    fn read(&mut self, offset: u64, bytes: &mut [u8]);
}

/// What a map is a cache of.
#[derive(Debug)]
struct Cache {
    file: Box<dyn PageFile>,
    /// Where the next page is written.
    end: u64,
    bytes_max: u64,
    misses: u64,
    needs: Needs,
}

impl InjectedMap {
    /// The live image.
    pub const VOLUME: VolumeId = VolumeId(1);

    /// A volume of which each of the first `blocks` blocks was written.
    #[must_use]
    pub fn filled(blocks: u64) -> Self {
        let mut this = Self { map: Map::default(), lsn: 0, next: 1, image_last: 1, cache: None };
        (0..blocks).for_each(|block| this.overwrite(block));
        this
    }

    /// The same of a map that may take so many bytes, beside what differs from what was written to `file`: never more
    /// than a quarter of that.
    #[must_use]
    pub fn filled_in(bytes_max: u64, file: Box<dyn PageFile>, blocks: u64) -> Self {
        let cache = Cache { file, end: LOCATION_BYTES, bytes_max, misses: 0, needs: Needs::default() };
        let mut this = Self { cache: Some(cache), ..Self::filled(0) };
        (0..blocks).for_each(|block| this.overwrite(block));
        this
    }

    /// Looks a block up, as a read does.
    pub fn look_up(&mut self, block: u64) {
        self.fetch(|map, needs| map.need_read(Self::VOLUME, block, 1, needs));
        let mut entries = Vec::with_capacity(1);
        self.map.lookup(Self::VOLUME, block, 1, &mut entries);
        self.make_fit();
    }

    /// Writes a block.
    pub fn overwrite(&mut self, block: u64) {
        self.fetch(|map, needs| map.need_write(Self::VOLUME, block, block + 1, needs));
        self.lsn += 1;
        let entry = Entry::new(Location(self.next), Form::raw(block as u32));
        // Eight units of 512 bytes to a block.
        self.next += 8;
        self.map.set((Self::VOLUME, Self::VOLUME), block, entry, self.lsn, &mut |_| ());
        self.make_fit();
    }

    /// Takes a snapshot.
    pub fn snapshot(&mut self) -> VolumeId {
        self.lsn += 1;
        self.image_last += 1;
        let image = VolumeId(self.image_last);
        self.map.fork(Self::VOLUME, image, true, self.lsn);
        image
    }

    /// The leaves in which `image` differs from `base`, in parts of `leaves` as the shard gives them.
    #[must_use]
    pub fn diff(&self, base: VolumeId, image: VolumeId, leaves: usize) -> Changed {
        let mut changed = Changed::default();
        let mut part: Vec<ChangedLeaf> = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            part.clear();
            let limits = (u32::MAX, leaves);
            let mut needs = Needs::default();
            let (next, pages) = self.map.diff(Some(base), image, first, limits, &mut part, &mut needs);
            changed.leaves += part.len() as u64;
            changed.blocks += part.iter().map(|leaf| u64::from(leaf.blocks.count_ones())).sum::<u64>();
            changed.pages += u64::from(pages);
            from = next;
        }
        changed
    }

    /// Memory of the map.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map.bytes()
    }

    /// Bytes of heads of pages, of contents of leaves, and of contents of pages above.
    #[must_use]
    pub fn bytes_by_kind(&self) -> [u64; 3] {
        self.map.bytes_by_kind()
    }

    /// Leaves that were read in.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.misses)
    }

    /// Reads in what a step needs.
    fn fetch(&mut self, ask: impl Fn(&Map, &mut Needs)) {
        let Some(cache) = &mut self.cache else { return };
        while self.map.has_away() {
            cache.needs.clear();
            ask(&self.map, &mut cache.needs);
            if cache.needs.is_met() {
                return;
            }
            for wanted in std::mem::take(&mut cache.needs.missing) {
                cache.load(&mut self.map, &wanted);
            }
        }
    }

    /// Writes what differs from what was written, if it is much, and lets leaves leave memory.
    fn make_fit(&mut self) {
        let Some(cache) = &mut self.cache else { return };
        if self.map.dirty_pages() * PAGE_BYTES_MAX as u64 > cache.bytes_max / 4 {
            cache.write_dirty(&mut self.map);
        }
        if self.map.bytes() > cache.bytes_max {
            self.map.evict(cache.bytes_max, &[], true, |_| true);
        }
    }
}

impl Cache {
    fn load(&mut self, map: &mut Map, wanted: &Wanted) {
        if !map.begin_load(wanted) {
            return;
        }
        self.misses += 1;
        let mut bytes = [0; PAGE_BYTES_MAX];
        let bytes = &mut bytes[..wanted.place.len() as usize];
        let offset = wanted.place.location().0 * LOCATION_BYTES + u64::from(wanted.place.offset());
        self.file.read(offset, bytes);
        let (page, _) = DiskPage::parse(bytes).expect("a page is as it was written");
        assert!(map.install(wanted, &page), "a page is as it was written");
    }

    fn write_dirty(&mut self, map: &mut Map) {
        let (mut at, level_max) = (PageName::FIRST, map.level_max());
        while let Some((name, index)) = map.next_page(&mut at, level_max) {
            let Some(page) = map.disk_page(name, index) else {
                map.prune(name, index);
                continue;
            };
            let mut bytes = [0; PAGE_BYTES_MAX];
            let bytes = &mut bytes[..page.len_bytes()];
            let crc = page.encode(bytes);
            let as_u32 = |bytes: u64| u32::try_from(bytes).expect("a page is small");
            let location = Location(self.end / LOCATION_BYTES);
            let place =
                Place::new(location, as_u32(self.end % LOCATION_BYTES), as_u32(bytes.len() as u64), crc);
            self.file.write(self.end, bytes);
            map.set_written(name, index, place);
            self.end += bytes.len() as u64;
        }
    }
}

/// How much a diff has found, and what it looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Leaves that differ.
    pub leaves: u64,
    /// Blocks that differ.
    pub blocks: u64,
    /// Pages looked at.
    pub pages: u64,
}

#[cfg(test)]
mod test {
    use super::*;

    /// A file in memory.
    #[derive(Debug, Default)]
    struct Bytes(Vec<u8>);

    impl PageFile for Bytes {
        fn write(&mut self, offset: u64, bytes: &[u8]) {
            let offset = usize::try_from(offset).unwrap();
            self.0.resize(self.0.len().max(offset + bytes.len()), 0);
            self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        }

        fn read(&mut self, offset: u64, bytes: &mut [u8]) {
            let offset = usize::try_from(offset).unwrap();
            bytes.copy_from_slice(&self.0[offset..offset + bytes.len()]);
        }
    }

    #[test]
    fn a_map_with_a_cap_holds_what_one_without_holds() {
        let blocks = 100_000;
        let mut all = InjectedMap::filled(blocks);
        let cap = all.bytes() / 4;
        let mut capped = InjectedMap::filled_in(cap, Box::new(Bytes::default()), blocks);
        let mut images = Vec::new();
        for round in 0..5 {
            for map in [&mut all, &mut capped] {
                (0..1000).for_each(|number| map.overwrite((number * 7919 + round * 31) % blocks));
            }
            images.push((all.snapshot(), capped.snapshot()));
            assert!(capped.map.bytes_in_use() <= cap, "{} of {cap}", capped.map.bytes_in_use());
        }
        assert!(capped.misses() > 1000);
        for block in 0..blocks {
            capped.look_up(block);
            assert_eq!(
                capped.map.entry(InjectedMap::VOLUME, block),
                all.map.entry(InjectedMap::VOLUME, block)
            );
        }
    }

    #[test]
    fn a_diff_finds_what_was_overwritten_in_any_parts() {
        let mut map = InjectedMap::filled(100_000);
        let base = map.snapshot();
        (0..500).for_each(|number| map.overwrite(number * 197));
        let image = map.snapshot();
        (0..100).for_each(|block| map.overwrite(block));
        for leaves in [1, 7, 10_000] {
            assert_eq!(map.diff(base, image, leaves).blocks, 500);
        }
        assert_eq!(map.diff(base, base, 10), Changed::default());
    }
}
