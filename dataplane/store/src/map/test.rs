//! The map against a plain model, its copies on write, its pages, its memory.

mod images;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::Form;

const VOLUME: VolumeId = VolumeId(1);

fn entry(number: u64) -> Entry {
    let crc = u32::try_from(number % 1000).unwrap();
    let form = Form::packed(crc, u8::try_from(number % 9).unwrap()).unwrap_or(Form::raw(crc));
    Entry::new(Location(number + 1), form)
}

/// The same block at another place.
fn moved_to(entry: Entry, number: u64) -> Entry {
    Entry(entry.0 - entry.location().0 + number + 1)
}

/// Bytes that compression saves of a leaf's blocks, and of all below a page above, counted one by one.
fn count_saved(map: &Map, at: PageIndex) -> u64 {
    let page = map.page(at);
    let entries = page.entries.iter();
    match page.level {
        0 => entries.map(|&entry| if entry == 0 { 0 } else { 4096 - u64::from(Entry(entry).bytes()) }).sum(),
        _ => entries.filter_map(|&entry| child(entry)).map(|below| count_saved(map, below)).sum(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64),
    Unmap(u64, u64),
    Move(u64),
    Checkpoint,
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = prop_oneof![0_u64..200, 4000_u64..4200, Just(1 << 20), 262_000_u64..262_300];
    let step = prop_oneof![
        8 => block.clone().prop_map(Step::Set),
        2 => (block.clone(), 1_u64..300_000).prop_map(|(first, len)| Step::Unmap(first, first + len)),
        2 => block.prop_map(Step::Move),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Drop),
    ];
    prop::collection::vec(step, 1..120)
}

/// Writes every dirty page into `drive`, as a checkpoint does.
/// Gives the places that are free now.
fn checkpoint(
    map: &mut Map,
    drive: &mut BTreeMap<u64, (DiskPage, Place)>,
    next: &mut u64,
    levels: std::ops::RangeInclusive<u8>,
) -> Vec<Place> {
    let mut freed = Vec::new();
    let mut at = PageName { level: *levels.start(), ..PageName::FIRST };
    while let Some((name, index)) = map.next_page(&mut at, map.level_max().min(*levels.end())) {
        let Some(page) = map.disk_page(name, index) else {
            freed.push(map.prune(name, index));
            continue;
        };
        let mut bytes = vec![0; page.len_bytes()];
        let crc = page.encode(&mut bytes);
        assert_eq!(DiskPage::parse(&bytes), Ok((page.clone(), crc)));
        *next += 2;
        let place = Place::new(Location(*next), 64, u32::try_from(bytes.len()).unwrap(), crc);
        drive.insert(*next, (page, place));
        freed.push(map.set_written(name, index, place));
    }
    freed.retain(|place| place.is_somewhere());
    freed
}

/// Puts a page of the drive and all below it into the map, once however many refer to it; leaves stay on the drive.
fn load(
    map: &mut Map,
    drive: &BTreeMap<u64, (DiskPage, Place)>,
    (place, count): (Place, LeafCount),
    loaded: &mut BTreeMap<u64, PageIndex>,
) -> PageIndex {
    if let Some(&index) = loaded.get(&place.0) {
        return index;
    }
    let (page, _) = &drive[&place.location().0];
    assert!(Map::is_sound(page));
    if page.level == 0 {
        assert_eq!(count, LeafCount::of(&page.entries));
    }
    let index = if page.level == 0 { map.load_leaf(place, count) } else { map.load(page, place) };
    loaded.insert(place.0, index);
    for (slot, &entry) in page.entries.iter().enumerate().filter(|&(_, &entry)| page.level > 0 && entry != 0)
    {
        let below = load(map, drive, (Place(entry), page.counts[slot]), loaded);
        map.load_child(index, slot, below);
    }
    index
}

/// The map that recovery makes of what a checkpoint wrote.
fn reload(map: &Map, drive: &BTreeMap<u64, (DiskPage, Place)>) -> Map {
    let mut new = Map::default();
    let mut loaded = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (head, _, place) in map.roots() {
        let root = load(&mut new, drive, (place, map.root_count(head.image)), &mut loaded);
        new.load_root(head, root);
    }
    for (head, _, place) in map.cut_roots() {
        let root = load(&mut new, drive, (place, map.root_count(head.name)), &mut loaded);
        names.insert(head.name, new.load_cut(head.lineage, root));
    }
    for clique in map.cliques() {
        let name = |name: VolumeId| names.get(&name).copied().unwrap_or(name);
        assert!(new.load_clique(&clique.map(name).collect::<Vec<_>>()));
    }
    new.end_load();
    new
}

/// Reads all pages in that are not in memory.
fn fetch_all(map: &mut Map, drive: &BTreeMap<u64, (DiskPage, Place)>) {
    for leaves in [false, true] {
        for (page, place) in map.away(leaves) {
            let page_on_drive = &drive[&place.location().0].0;
            let mut bytes = vec![0; page_on_drive.len_bytes()];
            page_on_drive.encode(&mut bytes);
            map.put_back(page, &bytes).unwrap();
        }
    }
    assert_eq!(map.miscounted_page(), None);
}

fn assert_same(map: &Map, model: &BTreeMap<u64, Entry>) {
    assert_eq!(map.mapped_blocks(), model.len() as u64);
    let saved = model.values().map(|entry| 4096 - u64::from(entry.bytes())).sum();
    assert_eq!(map.saved_bytes_of(VOLUME), saved);
    for first in [0, 64, 3990, 261_990, (1 << 20) - 5] {
        let mut entries = Vec::new();
        map.lookup(VOLUME, first, 256, &mut entries);
        for (block, entry) in (first..).zip(entries) {
            assert_eq!(entry, model.get(&block).copied().unwrap_or(Entry::UNMAPPED), "block {block}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_map_is_what_was_put_into_it_and_survives_the_drive(steps in steps()) {
        let mut map = Map::default();
        let mut model: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut freed = Vec::new();
        let mut gone = Vec::new();
        let mut drive = BTreeMap::new();
        let mut next_place = 1 << 30;
        for (lsn, step) in (1_u64..).zip(&steps) {
            match *step {
                Step::Set(block) => {
                    map.set((VOLUME, VOLUME), block, entry(lsn), lsn, &mut |what| freed.push(what));
                    gone.extend(model.insert(block, entry(lsn)));
                }
                Step::Unmap(first, end) => {
                    map.unmap(VOLUME, first, end, lsn, &mut |what| freed.push(what));
                    let blocks: Vec<u64> = model.range(first..end).map(|(&block, _)| block).collect();
                    gone.extend(blocks.iter().filter_map(|block| model.remove(block)));
                }
                Step::Move(block) => {
                    let from = model.get(&block).map_or(Location(1 << 39), |entry| entry.location());
                    let mut moved = false;
                    let to = moved_to(model.get(&block).copied().unwrap_or(entry(lsn)), lsn);
                    map.move_blocks(VOLUME, block, [(from, to)].into_iter(), lsn, |_, _| moved = true);
                    prop_assert_eq!(moved, model.contains_key(&block));
                    if moved {
                        model.insert(block, to);
                    }
                }
                Step::Checkpoint => {
                    checkpoint(&mut map, &mut drive, &mut next_place, 0..=LEVEL_MAX);
                }
                Step::Drop => {
                    map.drop_step(&mut 2, &mut Needs::default(), &mut |what| freed.push(what));
                }
            }
        }
        while map.is_dropping() {
            map.drop_step(&mut 1, &mut Needs::default(), &mut |what| freed.push(what));
        }
        assert_same(&map, &model);
        let mut blocks: Vec<u64> =
            freed.iter().filter_map(|what| if let Freed::Block(entry) = what { Some(entry.0) } else { None }).collect();
        let mut expected: Vec<u64> = gone.iter().map(|entry| entry.0).collect();
        blocks.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(blocks, expected);
        checkpoint(&mut map, &mut drive, &mut next_place, 0..=LEVEL_MAX);
        prop_assert_eq!(map.dirty_pages(), 0);
        let mut again = reload(&map, &drive);
        prop_assert_eq!(again.mapped_blocks(), model.len() as u64);
        fetch_all(&mut again, &drive);
        assert_same(&again, &model);
    }
}

#[test]
fn a_shared_tree_is_copied_where_it_changes_and_nowhere_else() {
    let mut map = Map::default();
    let mut freed = Vec::new();
    for block in 0..4096 * 3 {
        map.set((VOLUME, VOLUME), block, entry(block), 1, &mut |what| freed.push(what));
    }
    map.fork(VOLUME, VolumeId(2), false, 2);
    let pages = map.arena.indices().count();
    map.set((VolumeId(2), VOLUME), 100, entry(999_999), 2, &mut |what| freed.push(what));
    assert_eq!(map.arena.indices().count(), pages + 3, "one page a level");
    assert_eq!(map.entry(VOLUME, 100), entry(100));
    assert_eq!(map.entry(VolumeId(2), 100), entry(999_999));
    assert_eq!(map.entry(VolumeId(2), 101), entry(101));
    let leaf = map.page_at(VolumeId(2), 0, 1).unwrap();
    assert_eq!(map.page(leaf).bits, !(1 << (100 - 64)), "nobody else has the new block");
    // Dropping either leaves the other whole.
    map.drop_volume(VOLUME, None);
    while map.is_dropping() {
        map.drop_step(&mut 7, &mut Needs::default(), &mut |_| ());
    }
    assert_eq!(map.entry(VolumeId(2), 100), entry(999_999));
    assert_eq!(map.entry(VolumeId(2), 4096 * 3 - 1), entry(4096 * 3 - 1));
}

#[test]
fn a_mapped_tebibyte_takes_less_than_2200_mebibytes() {
    let mut map = Map::default();
    let blocks = 1 << 21;
    for block in 0..blocks {
        map.set((VOLUME, VOLUME), block, entry(block), 1, &mut |_| ());
    }
    let per_tebibyte = map.bytes() * (1 << 28) / blocks;
    assert!(per_tebibyte < (22 << 30) / 10, "{per_tebibyte} bytes");
}

#[test]
fn a_page_has_these_bytes() {
    let mut entries = [0; FANOUT];
    entries[1] = 0x1122;
    entries[63] = 0x3344;
    let counts = [LeafCount::default(); FANOUT];
    let page = DiskPage { lineage: VolumeId(5), level: 0, index: 6, lsn: 7, entries, counts };
    let mut bytes = vec![0xff; page.len_bytes()];
    let crc = page.encode(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes.len(), 128);
    assert_eq!(
        &hex[..96],
        "46654d500002000005000000000000000600000000000000070000000000000000000000000000000200000000000080"
    );
    assert_eq!(&hex[96..104], format!("{:08x}", crc.swap_bytes()));
    assert_eq!(&hex[104..160], "00000000000000000000000022110000000000004433000000000000");
    for bit in 0..bytes.len() * 8 {
        let mut torn = bytes.clone();
        torn[bit / 8] ^= 1 << (bit % 8);
        assert!(DiskPage::parse(&torn).is_err(), "bit {bit}");
    }
}

#[test]
fn a_page_above_the_leaves_says_what_is_in_each() {
    let (mut entries, mut counts) = ([0; FANOUT], [LeafCount::default(); FANOUT]);
    (entries[1], counts[1]) = (0x1122, LeafCount::new(64, 448));
    (entries[63], counts[63]) = (0x3344, LeafCount::new(1, 0));
    let page = DiskPage { lineage: VolumeId(5), level: 1, index: 6, lsn: 7, entries, counts };
    let mut bytes = vec![0xff; page.len_bytes()];
    let crc = page.encode(&mut bytes);
    assert_eq!(bytes[80..88], [0x40, 0xe0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(DiskPage::parse(&bytes), Ok((page.clone(), crc)));
    assert!(Map::is_sound(&page));
    for count in [LeafCount::new(65, 0), LeafCount::new(1, 8), LeafCount::new(0, 1)] {
        let mut counts = counts;
        counts[1] = count;
        assert!(!Map::is_sound(&DiskPage { counts, ..page.clone() }), "{count:?}");
    }
    let full = DiskPage { entries: [1; FANOUT], ..page };
    assert_eq!(full.len_bytes(), PAGE_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_bytes_make_the_page_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut bytes = bytes;
        let _ = DiskPage::parse(&bytes);
        if bytes.len() > 64 {
            bytes[..4].copy_from_slice(b"FeMP");
            bytes[4] %= 9;
            let _ = DiskPage::parse(&bytes);
        }
    }
}
