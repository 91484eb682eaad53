//! Images against a plain model: forks of everything, drops in any order, moves, checkpoints, recoveries. What is told
//! freed is exactly what no image holds any more, each block and each page once; what differs is what the model says.

use std::collections::BTreeSet;

use super::*;

/// What each image holds, and what lies on the drive.
struct World {
    map: Map,
    /// Location of each block of each image.
    images: BTreeMap<VolumeId, BTreeMap<u64, u64>>,
    read_only: BTreeSet<VolumeId>,
    /// Locations and pages that were told to live and not told free.
    blocks: BTreeSet<u64>,
    pages: BTreeSet<u64>,
    drive: BTreeMap<u64, (DiskPage, Place)>,
    next_place: u64,
    number: u64,
    last_image: u64,
    /// After every step of a hundred pages that can leave memory so many do.
    evicts: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, u64),
    Unmap(usize, u64, u64),
    Fork(usize, bool),
    Drop(usize),
    Move(usize, u64),
    Give(u32),
    Checkpoint,
    /// A checkpoint, and a block that is set once the leaves were written.
    Busy(usize, u64),
    Recover,
}

fn block() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..12, 60_u64..70, Just(4095), Just(4096), 262_140_u64..262_150]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let image = 0_usize..1000;
    let step = prop_oneof![
        12 => (image.clone(), block()).prop_map(|(image, block)| Step::Set(image, block)),
        3 => (image.clone(), block(), prop_oneof![1_u64..8, 64_u64..400_000])
            .prop_map(|(image, first, len)| Step::Unmap(image, first, first + len)),
        4 => (image.clone(), any::<bool>()).prop_map(|(image, read_only)| Step::Fork(image, read_only)),
        3 => image.clone().prop_map(Step::Drop),
        3 => (image.clone(), block()).prop_map(|(image, block)| Step::Move(image, block)),
        2 => (image, block()).prop_map(|(image, block)| Step::Busy(image, block)),
        2 => (1_u32..9).prop_map(Step::Give),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Recover),
    ];
    prop::collection::vec(step, 1..150)
}

impl World {
    fn new() -> Self {
        Self {
            map: Map::default(),
            images: BTreeMap::from([(VolumeId(1), BTreeMap::new()), (VolumeId(2), BTreeMap::new())]),
            read_only: BTreeSet::new(),
            blocks: BTreeSet::new(),
            pages: BTreeSet::new(),
            drive: BTreeMap::new(),
            next_place: 1 << 30,
            number: 0,
            last_image: 2,
            evicts: 0,
        }
    }

    fn image(&self, index: usize) -> VolumeId {
        *self.images.keys().nth(index % self.images.len()).unwrap()
    }

    fn writable(&self, index: usize) -> Option<VolumeId> {
        let mut writable = self.images.keys().filter(|image| !self.read_only.contains(image));
        let count = writable.clone().count();
        (count > 0).then(|| *writable.nth(index % count).unwrap())
    }

    fn free(&mut self, freed: Vec<Freed>) {
        for what in freed {
            let was_there = match what {
                Freed::Block(entry) => self.blocks.remove(&entry.location().0),
                Freed::Page(place) => self.pages.remove(&place.location().0),
            };
            assert!(was_there, "{what:?} is freed twice or was never there");
        }
    }

    fn step(&mut self, step: &Step) {
        self.take(step);
        if self.evicts > 0 {
            self.throw_out();
            if self.number.is_multiple_of(3) {
                self.map.renumber();
            }
        }
    }

    /// Reads in what `ask` says is needed.
    fn fetch(&mut self, ask: impl Fn(&Map, &mut Needs)) {
        let mut needs = Needs::default();
        loop {
            needs.clear();
            ask(&self.map, &mut needs);
            if needs.is_met() {
                return;
            }
            self.install(&needs.missing);
        }
    }

    fn install(&mut self, missing: &[Wanted]) {
        for wanted in missing {
            self.map.begin_load(wanted);
            let (page, place) = &self.drive[&wanted.place.location().0];
            assert_eq!(*place, wanted.place);
            assert_eq!((page.lineage, page.level, page.index), (wanted.lineage, wanted.level, wanted.index));
            assert!(self.map.install(wanted, page));
        }
    }

    fn take(&mut self, step: &Step) {
        self.number += 1;
        let lsn = self.number;
        let mut freed = Vec::new();
        match *step {
            Step::Set(index, block) => {
                let Some(image) = self.writable(index) else { return };
                let lineage = self.map.lineage(image);
                self.fetch(|map, needs| map.need_write(image, block, block + 1, needs));
                self.map.set((image, lineage), block, entry(lsn), lsn, &mut |what| freed.push(what));
                self.images.get_mut(&image).unwrap().insert(block, lsn + 1);
                self.blocks.insert(lsn + 1);
            }
            Step::Unmap(index, first, end) => {
                let Some(image) = self.writable(index) else { return };
                self.fetch(|map, needs| map.need_unmap(image, first, end, needs));
                self.map.unmap(image, first, end, lsn, &mut |what| freed.push(what));
                self.images.get_mut(&image).unwrap().retain(|block, _| !(first..end).contains(block));
            }
            Step::Fork(index, read_only) => {
                let source = self.image(index);
                self.last_image += 1;
                let image = VolumeId(self.last_image);
                self.map.fork(source, image, read_only, lsn);
                self.images.insert(image, self.images[&source].clone());
                if read_only {
                    self.read_only.insert(image);
                }
            }
            Step::Drop(index) => {
                let image = self.image(index);
                if self.images.len() > 1 {
                    self.map.drop_volume(image, None);
                    self.images.remove(&image);
                }
            }
            Step::Move(index, block) => self.move_block(index, block),
            Step::Give(pages) => {
                self.fetch(|map, needs| map.need_drop(needs));
                self.map.drop_step(&mut { pages }, &mut Needs::default(), &mut |what| freed.push(what));
            }
            Step::Checkpoint => self.checkpoint(None),
            Step::Busy(image, block) => self.checkpoint(Some(&Step::Set(image, block))),
            Step::Recover => {
                self.checkpoint(None);
                self.map = reload(&self.map, &self.drive);
                if self.evicts == 0 {
                    fetch_all(&mut self.map, &self.drive);
                }
            }
        }
        self.free(freed);
    }

    fn move_block(&mut self, index: usize, block: u64) {
        let image = self.image(index);
        let Some(&from) = self.images[&image].get(&block) else { return };
        let to = self.number;
        let mut told = 0;
        let lineage = self.map.lineage(image);
        self.fetch(|map, needs| map.need_everywhere(lineage, block / 64, true, needs));
        let moves = [(Location(from), moved_to(self.map.entry(image, block), to))].into_iter();
        self.map.move_blocks(lineage, block, moves, to, |_, _| told += 1);
        assert_eq!(told, 1);
        self.blocks.remove(&from);
        self.blocks.insert(to + 1);
        for blocks in self.images.values_mut() {
            if blocks.get(&block) == Some(&from) {
                blocks.insert(block, to + 1);
            }
        }
    }

    /// Writes what is dirty, the leaves, then what `between` makes of the rest.
    fn checkpoint(&mut self, between: Option<&Step>) {
        self.write_levels(0..=0);
        let before = self.images.clone();
        if let Some(step) = between {
            self.step(step);
        }
        self.write_levels(1..=LEVEL_MAX);
        if between.is_none() {
            assert_eq!(self.map.dirty_pages(), 0);
        } else if self.map.roots().all(|(_, _, place)| place.is_somewhere()) {
            self.check_written(&before);
        }
    }

    /// What was there when a checkpoint began, and has not been changed since, must be in what it has written: replay
    /// brings no more than what came later.
    fn check_written(&self, before: &BTreeMap<VolumeId, BTreeMap<u64, u64>>) {
        let mut written = reload(&self.map, &self.drive);
        fetch_all(&mut written, &self.drive);
        for (&image, blocks) in &self.images {
            for (&block, &location) in
                blocks.iter().filter(|(block, now)| before[&image].get(block) == Some(now))
            {
                assert_eq!(written.entry(image, block).location().0, location, "{image:?} block {block}");
            }
        }
    }

    fn write_levels(&mut self, levels: std::ops::RangeInclusive<u8>) {
        let before: BTreeSet<u64> = self.drive.keys().copied().collect();
        let freed = checkpoint(&mut self.map, &mut self.drive, &mut self.next_place, levels);
        self.pages.extend(self.drive.keys().filter(|place| !before.contains(place)));
        self.free(freed.into_iter().map(Freed::Page).collect());
    }

    /// What the map says is live.
    fn live(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let (mut blocks, mut pages) = (BTreeSet::new(), BTreeSet::new());
        self.map.for_each_live(|what| {
            let is_new = match what {
                Freed::Block(entry) => blocks.insert(entry.location().0),
                Freed::Page(place) => pages.insert(place.location().0),
            };
            assert!(is_new, "{what:?} is counted twice");
        });
        (blocks, pages)
    }

    /// Gives back everything, and compares all there is.
    fn check(&mut self) {
        fetch_all(&mut self.map, &self.drive);
        // What was told and what is there are the same at every moment, what is being given back counted.
        assert_eq!(self.live(), (self.blocks.clone(), self.pages.clone()));
        while self.map.is_dropping() {
            let mut freed = Vec::new();
            self.map.drop_step(&mut 3, &mut Needs::default(), &mut |what| freed.push(what));
            self.free(freed);
        }
        let held: BTreeSet<u64> = self.images.values().flat_map(|blocks| blocks.values().copied()).collect();
        assert_eq!(self.live(), (held.clone(), self.pages.clone()));
        assert_eq!(self.blocks, held);
        let mapped: u64 = self.images.values().map(|blocks| blocks.len() as u64).sum();
        assert_eq!(self.map.mapped_blocks(), mapped);
        for (&image, blocks) in &self.images {
            assert_eq!(self.map.mapped_blocks_of(image), blocks.len() as u64);
            let saved = self.map.trees.get(&image).map(|tree| count_saved(&self.map, tree.root));
            assert_eq!(self.map.saved_bytes_of(image), saved.unwrap_or(0));
            for block in (0..80).chain(4090..4100).chain(262_140..262_150) {
                let expected = blocks.get(&block).copied().unwrap_or(0);
                assert_eq!(self.map.entry(image, block).location().0, expected, "{image:?} block {block}");
            }
            if !self.read_only.contains(&image) && self.map.has_volume(image) {
                assert!(self.map.trees[&image].cliques.len() <= 1);
            }
        }
        self.check_diffs();
        self.check_owned();
    }

    /// Everything is given back: what each image alone holds is what the model says, in parts of any size; and that is what
    /// is told freed where one goes.
    fn check_owned(&mut self) {
        let mut holders: BTreeMap<u64, u64> = BTreeMap::new();
        for location in self.images.values().flat_map(BTreeMap::values) {
            *holders.entry(*location).or_default() += 1;
        }
        let bytes_of = |entry: Entry| u64::from(entry.bytes());
        let mut number = numbers(self.number);
        for (&image, blocks) in &self.images.clone() {
            let alone = blocks.iter().filter(|(_, location)| holders[location] == 1);
            let expected = alone.map(|(&block, _)| bytes_of(self.map.entry(image, block))).sum::<u64>();
            self.throw_out();
            let pages = 6 + u32::try_from(number(9)).unwrap();
            assert_eq!(self.owned(image, pages), expected, "{image:?} in parts of {pages} pages");
            assert!(self.map.owned_at_most(image, 0) >= expected);
            fetch_all(&mut self.map, &self.drive);
        }
        let Some(goes) = (self.images.len() > 1).then(|| self.image(usize::try_from(number(1000)).unwrap()))
        else {
            return;
        };
        let expected = self.owned(goes, 100);
        self.map.drop_volume(goes, None);
        self.images.remove(&goes);
        let mut told = 0;
        while self.map.is_dropping() {
            let mut freed = Vec::new();
            self.map.drop_step(&mut 100, &mut Needs::default(), &mut |what| freed.push(what));
            let blocks = freed.iter().filter_map(|what| match what {
                Freed::Block(entry) => Some(bytes_of(*entry)),
                Freed::Page(_) => None,
            });
            told += blocks.sum::<u64>();
            self.free(freed);
        }
        assert_eq!(told, expected, "of {goes:?}");
    }

    /// What an image alone holds, a few pages at a time, each read in as it is needed.
    fn owned(&mut self, image: VolumeId, pages: u32) -> u64 {
        let (mut bytes, mut from) = (0, Some(0));
        let mut needs = Needs::default();
        while let Some(leaf) = from {
            let part = self.map.owned(image, leaf, pages, &mut needs);
            assert!(part.next.is_none_or(|next| next > leaf || !needs.is_met()), "it goes on");
            (bytes, from) = (bytes + part.bytes, part.next);
            self.install(&needs.missing);
        }
        bytes
    }

    /// Lets leave memory what can, as often as this world does.
    fn throw_out(&mut self) {
        let mut number = numbers(self.number);
        let goes: Vec<bool> = (0..64).map(|_| number(100) < self.evicts).collect();
        self.map.evict(0, &[], true, |place| goes[(place.location().0 / 2 % 64) as usize]);
    }

    fn check_diffs(&self) {
        let images: Vec<VolumeId> = self.images.keys().copied().collect();
        for (&image, blocks) in &self.images {
            for base in [None, Some(images[0]), images.last().copied()] {
                let nothing = BTreeMap::new();
                let of_base = base.map_or(&nothing, |base| &self.images[&base]);
                let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
                for block in blocks.keys().chain(of_base.keys()) {
                    if blocks.get(block) != of_base.get(block) {
                        *expected.entry(block / 64).or_default() |= 1 << (block % 64);
                    }
                }
                let mut changed = Vec::new();
                let mut from = Some(0);
                while let Some(leaf) = from {
                    let leaves_max = changed.len() + 2;
                    (from, _) = self.map.diff(
                        base,
                        image,
                        leaf,
                        (32, leaves_max),
                        &mut changed,
                        &mut Needs::default(),
                    );
                }
                let changed: Vec<(u64, u64)> = changed.iter().map(|leaf| (leaf.leaf, leaf.blocks)).collect();
                assert_eq!(changed, expected.into_iter().collect::<Vec<_>>(), "{base:?} to {image:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_is_freed_is_what_no_image_holds(steps in steps(), evicts in prop_oneof![Just(0_u64), Just(100), Just(50), Just(20)]) {
        // The same where nothing stays in memory, or not all.
        let mut world = World { evicts, ..World::new() };
        for step in &steps {
            world.step(step);
        }
        world.check();
        // And all of it is there again after a crash.
        world.step(&Step::Recover);
        world.check();
    }
}

/// A generator of numbers, the same for the same seed.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}

#[test]
fn a_thousand_snapshots_and_clones_go_in_any_order_and_leave_nothing() {
    for seed in 1..=3 {
        println!("seed {seed}");
        let mut number = numbers(seed);
        let mut world = World::new();
        for round in 0..1000 {
            for _ in 0..6 {
                let (image, block) = (number(1000) as usize, number(600));
                world.step(&Step::Set(image, block));
            }
            // Mostly snapshots of the volume, sometimes clones of anything.
            let image = if number(10) == 0 { number(1000) as usize } else { 0 };
            world.step(&Step::Fork(image, number(8) != 0));
            let block = number(600);
            world.step(&Step::Move(number(1000) as usize, block));
            if round % 100 == 0 {
                world.step(&Step::Checkpoint);
            }
        }
        assert!(world.images.len() > 1000);
        while world.images.len() > 1 {
            let image = number(2000) as usize;
            world.step(&Step::Drop(image));
            world.step(&Step::Give(u32::try_from(number(20)).unwrap()));
            let (image, block) = (number(1000) as usize, number(600));
            world.step(&Step::Move(image, block));
            if number(300) == 0 {
                world.step(&Step::Recover);
            }
        }
        world.check();
        assert!(world.map.cliques().next().is_none());
    }
}

#[test]
fn a_fork_takes_as_long_of_much_as_of_little() {
    let mut map = Map::default();
    for block in 0..1 << 18 {
        map.set((VOLUME, VOLUME), block, entry(block), 1, &mut |_| ());
    }
    let pages = map.arena.indices().count();
    map.fork(VOLUME, VolumeId(2), true, 2);
    assert_eq!(map.arena.indices().count(), pages, "no page is made");
    assert_eq!(map.mapped_blocks_of(VolumeId(2)), 1 << 18);
}

#[test]
fn a_diff_looks_at_two_pages_a_level_for_each_change() {
    let mut map = Map::default();
    for block in 0..1 << 20 {
        map.set((VOLUME, VOLUME), block, entry(block), 1, &mut |_| ());
    }
    map.fork(VOLUME, VolumeId(2), true, 2);
    let mut number = numbers(7);
    let mut changed = BTreeMap::new();
    for lsn in 0..100 {
        let block = number(1 << 20);
        map.set((VOLUME, VOLUME), block, entry((1 << 21) + lsn), 3, &mut |_| ());
        *changed.entry(block / 64).or_insert(0_u64) |= 1 << (block % 64);
    }
    let mut found = Vec::new();
    let (next, pages) =
        map.diff(Some(VolumeId(2)), VOLUME, 0, (u32::MAX, usize::MAX), &mut found, &mut Needs::default());
    assert_eq!(next, None);
    let found: Vec<(u64, u64)> = found.iter().map(|leaf| (leaf.leaf, leaf.blocks)).collect();
    assert_eq!(found, changed.into_iter().collect::<Vec<_>>());
    assert!(pages <= 100 * 2 * 4, "{pages} pages for 100 changes in a tree of four levels");
}
