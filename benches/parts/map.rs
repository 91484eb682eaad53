//! What the map takes in memory: of live data, whole, as the system counts it; and beside 24 snapshots between which 1 % of
//! the blocks were overwritten at random, under a cap. Volumes are injected into the store's own map; the pages of the
//! second are written to a file, and read from there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process;
use std::time::Instant;

use benches::random::Random;
use store::injected::{InjectedMap, PageFile};

/// Blocks of 1 GiB.
const GIB_BLOCKS: u64 = 1 << 18;
/// What a mapped TiB may take.
const BAR_GIB: f64 = 2.2;
const WHOLE_GIB: u64 = 64;
const SHARED_GIB: u64 = 16;
const SNAPSHOTS: u64 = 24;
const LOOK_UPS: u64 = 400_000;

fn main() {
    println!("| what | figure | bar |");
    println!("|---|---|---|");
    whole();
    beside_snapshots();
}

/// Memory of a map that nothing leaves.
fn whole() {
    let before = resident_bytes();
    let map = InjectedMap::filled(WHOLE_GIB * GIB_BLOCKS);
    let per_tib = |bytes: u64| bytes as f64 * 1024.0 / WHOLE_GIB as f64 / f64::from(1 << 30);
    let resident = per_tib(resident_bytes().saturating_sub(before));
    println!("| {WHOLE_GIB} GiB mapped, resident memory, GiB a TiB | {resident:.3} | {BAR_GIB} |");
    println!("| the same by the map's own count | {:.3} | {BAR_GIB} |", per_tib(map.bytes()));
}

/// Memory beside snapshots, and how much of the live volume is there still.
fn beside_snapshots() {
    let blocks = SHARED_GIB * GIB_BLOCKS;
    let cap = (BAR_GIB * f64::from(1 << 30) / 1024.0 * SHARED_GIB as f64) as u64;
    let mut map = InjectedMap::filled_in(cap, Box::new(Scratch::new()), blocks);
    let mut random = Random::new(1);
    let before = look_ups(&mut map, blocks, &mut random);
    let mut most = map.bytes();
    for _ in 0..SNAPSHOTS {
        map.snapshot();
        for _ in 0..blocks / 100 {
            map.overwrite(random.below(blocks));
            most = most.max(map.bytes());
        }
    }
    // What is used now may come back before it is looked at.
    look_ups(&mut map, blocks, &mut random);
    let after = look_ups(&mut map, blocks, &mut random);
    let memory = most as f64 / cap as f64;
    println!(
        "| {SNAPSHOTS} snapshots of {SHARED_GIB} GiB, 1 % overwritten in each: most memory, against the cap | {memory:.3} | 1 |"
    );
    println!("| live random look-ups that find their leaf | {:.3} | 0.95 |", after.1);
    let kinds = map.bytes_by_kind().map(|bytes| bytes as f64 / cap as f64);
    let names = ["heads of pages", "leaves", "pages above the leaves"];
    for (name, share) in names.into_iter().zip(kinds) {
        println!("| of it {name}, against the cap | {share:.3} | |");
    }
    println!(
        "| look-ups a second, leaves from a cached file, against before | {:.3} | |",
        after.0 / before.0
    );
}

/// Random look-ups: how many a second, and which part of them found their leaf in memory.
fn look_ups(map: &mut InjectedMap, blocks: u64, random: &mut Random) -> (f64, f64) {
    let (misses, begin) = (map.misses(), Instant::now());
    (0..LOOK_UPS).for_each(|_| map.look_up(random.below(blocks)));
    let found = 1.0 - (map.misses() - misses) as f64 / LOOK_UPS as f64;
    (LOOK_UPS as f64 / begin.elapsed().as_secs_f64(), found)
}

/// Memory of this process, as the system counts it.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.expect("Linux tells of a process's memory") * rustix::param::page_size() as u64
}

/// A file without a name.
#[derive(Debug)]
struct Scratch(File);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ferrule-map-{}", process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.expect("the temporary folder takes a file");
        fs::remove_file(&path).expect("a file that was just made can go");
        Self(file)
    }
}

impl PageFile for Scratch {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, offset).expect("the temporary folder has room");
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) {
        self.0.read_exact_at(bytes, offset).expect("what was written can be read");
    }
}
