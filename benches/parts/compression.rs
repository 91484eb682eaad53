//! What compression costs and gives, on a corpus that every machine has: the CPU that it adds to a block written against
//! bare `lz4_flex` on the same blocks, device bytes a host byte against what the codec alone comes to, and random reads of
//! compressed blocks against reads of the same blocks stored as they are. On a drive in memory, medians of five.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use benches::memory_drive::{HeapBuffer, HeapShared};
use benches::shard_driver::{BLOCK, ShardDriver};
use io::{Buffer as _, Slice};
use store::{Op, Payload, ShardOptions};

/// Blocks of each part of the corpus.
const BLOCKS: usize = 1536;
/// Blocks of a request.
const REQUEST: usize = 32;
const ROUNDS: usize = 5;

fn main() {
    println!(
        "| corpus | LZ4 alone, ratio | LZ4 alone, ns a block | added by the store, ns a block | against LZ4 alone |"
    );
    println!("|---|---|---|---|---|");
    let corpus = [("text", text()), ("database", database()), ("binary", binary()), ("noise", noise())];
    for (name, blocks) in &corpus {
        let bare = median(|| bare_ns(blocks));
        let plain = median(|| write_ns(blocks, false));
        let packed = median(|| write_ns(blocks, true));
        let (ratio, added) = (codec_ratio(blocks), packed - plain);
        println!(
            "| {name} | {ratio:.2} | {bare:.0} | {added:.0} ({packed:.0} - {plain:.0}) | {:.2} |",
            added / bare
        );
    }
    println!();
    println!("| corpus | device bytes a host byte | LZ4 alone, rounded up to 512 | against it |");
    println!("|---|---|---|---|");
    for (name, blocks) in &corpus {
        let written = device_bytes(blocks) / (blocks.len() * BLOCK) as f64;
        let alone =
            blocks.iter().map(|block| rounded(block)).sum::<usize>() as f64 / (blocks.len() * BLOCK) as f64;
        println!("| {name} | {written:.3} | {alone:.3} | {:.3} |", written / alone);
    }
    println!();
    println!("| corpus | random read as it is, ns a block | compressed | rate against as it is |");
    println!("|---|---|---|---|");
    for (name, blocks) in &corpus {
        let (plain, packed) = (median(|| read_ns(blocks, false)), median(|| read_ns(blocks, true)));
        println!("| {name} | {plain:.0} | {packed:.0} | {:.2} |", plain / packed);
    }
}

/// Sources and documents of this repository.
fn text() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut bytes);
    cut(&bytes)
}

fn collect(folder: &Path, bytes: &mut Vec<u8>) {
    let Ok(found) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = found.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, bytes);
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            bytes.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// Pages of a table as a database writes them: a head, rows of a number, a time, a sum, a name, a hash and some words,
/// and what is free in between.
fn database() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    let mut row = 1_u64;
    let mut page = |number: u64| {
        let mut page = vec![0; BLOCK];
        page[..8].copy_from_slice(&number.to_be_bytes());
        page[8..16].copy_from_slice(&(row * 3).to_be_bytes());
        let mut at = 64;
        while at < 3600 {
            page[at..at + 8].copy_from_slice(&row.to_be_bytes());
            page[at + 8..at + 16]
                .copy_from_slice(&(1_700_000_000_000 + row * 137 + random.below(90)).to_be_bytes());
            page[at + 16..at + 20].copy_from_slice(&(random.below(1 << 20) as u32).to_be_bytes());
            page[at + 20..at + 36]
                .copy_from_slice(&[random.next().to_be_bytes(), random.next().to_be_bytes()].concat());
            let words =
                format!("{:<24}{}", NAMES[random.below(8) as usize], STATES[random.below(4) as usize]);
            page[at + 36..at + 36 + words.len()].copy_from_slice(words.as_bytes());
            at += 44 + words.len();
            row += 1;
        }
        page
    };
    (0..BLOCKS as u64).map(&mut page).collect()
}

const NAMES: [&str; 8] =
    ["Amundsen", "Baker", "Cook", "da Gama", "Erikson", "Franklin", "Gerlache", "Hillary"];
const STATES: [&str; 4] = ["ordered", "paid", "delivered", "returned"];

/// This program.
fn binary() -> Vec<Vec<u8>> {
    let bytes = std::env::current_exe().and_then(std::fs::read);
    cut(&bytes.expect("a program that runs can be read"))
}

/// What no codec makes smaller.
fn noise() -> Vec<Vec<u8>> {
    let mut random = Random(9);
    (0..BLOCKS).map(|_| (0..BLOCK / 8).flat_map(|_| random.next().to_le_bytes()).collect()).collect()
}

fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
    let whole =
        bytes.chunks_exact(BLOCK).map(<[u8]>::to_vec).filter(|block| block.iter().any(|&byte| byte != 0));
    let blocks: Vec<_> = whole.take(BLOCKS).collect();
    let count = blocks.len() / REQUEST * REQUEST;
    assert!(count > 0, "the corpus is not empty");
    blocks.into_iter().take(count).collect()
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut found: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
    found.sort_by(f64::total_cmp);
    found[ROUNDS / 2]
}

fn bare_ns(blocks: &[Vec<u8>]) -> f64 {
    let mut out = vec![0; lz4_flex::block::get_maximum_output_size(BLOCK)];
    let begun = Instant::now();
    for block in blocks {
        black_box(lz4_flex::block::compress_into(black_box(block), &mut out).ok());
    }
    begun.elapsed().as_nanos() as f64 / blocks.len() as f64
}

fn compressed_len(block: &[u8]) -> usize {
    lz4_flex::block::compress(block).len()
}

fn codec_ratio(blocks: &[Vec<u8>]) -> f64 {
    let compressed: usize = blocks.iter().map(|block| compressed_len(block).min(BLOCK)).sum();
    (blocks.len() * BLOCK) as f64 / compressed as f64
}

fn rounded(block: &[u8]) -> usize {
    compressed_len(block).next_multiple_of(512).min(BLOCK)
}

fn write_ns(blocks: &[Vec<u8>], compress: bool) -> f64 {
    let mut bench = Bench::new(compress);
    let requests = requests(blocks);
    // Once to warm up: memory of the drive, the map, vectors.
    bench.write(&requests);
    let begun = Instant::now();
    bench.write(&requests);
    begun.elapsed().as_nanos() as f64 / blocks.len() as f64
}

fn device_bytes(blocks: &[Vec<u8>]) -> f64 {
    let mut bench = Bench::new(true);
    let requests = requests(blocks);
    bench.write(&requests);
    let before = bench.driver.shard().stats().device_written_bytes;
    bench.write(&requests);
    (bench.driver.shard().stats().device_written_bytes - before) as f64
}

fn read_ns(blocks: &[Vec<u8>], compress: bool) -> f64 {
    const READS: u64 = 20_000;
    let mut bench = Bench::new(compress);
    bench.write(&requests(blocks));
    bench.read(READS / 10, blocks.len() as u64);
    let begun = Instant::now();
    bench.read(READS, blocks.len() as u64);
    begun.elapsed().as_nanos() as f64 / READS as f64
}

fn requests(blocks: &[Vec<u8>]) -> Vec<Payload<HeapShared>> {
    let payload = |blocks: &[Vec<u8>]| Payload::new(Slice::whole(HeapBuffer::from(blocks.concat()).share()));
    blocks.chunks_exact(REQUEST).map(payload).collect()
}

/// A shard that compresses what is written, or not.
struct Bench {
    driver: ShardDriver,
    compress: bool,
    random: Random,
}

impl Bench {
    fn new(compress: bool) -> Self {
        Self { driver: ShardDriver::new(256 << 20, ShardOptions::default()), compress, random: Random(3) }
    }

    fn write(&mut self, requests: &[Payload<HeapShared>]) {
        for (number, data) in (0..).zip(requests) {
            let op = Op::Write { data: data.clone(), fua: false };
            self.driver.submit(number * REQUEST as u64, REQUEST * BLOCK, self.compress, op);
            self.driver.finish(self.driver.ended() + 1);
        }
    }

    fn read(&mut self, count: u64, blocks: u64) {
        for _ in 0..count / REQUEST as u64 {
            for _ in 0..REQUEST {
                self.driver.submit_read(self.random.below(blocks));
            }
            self.driver.finish(self.driver.ended() + REQUEST as u64);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
