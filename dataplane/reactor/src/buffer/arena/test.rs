//! The arena gives disjoint, aligned memory, takes it back from any thread, and keeps its reserves.

use std::collections::BTreeMap;

use io::Buffer;

use super::*;

const MIB: usize = 1 << 20;

fn arena(mib: usize) -> Arena {
    Arena::new(mib * MIB, false, None).unwrap()
}

/// A small generator, so that a failing seed can be replayed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn a_buffer_has_exactly_the_length_asked_for_and_is_aligned() {
    let mut arena = arena(8);
    for len in [1, 511, 512, 4095, 4096, 4097, 65_536, 100_000, MIB - 1, MIB] {
        let buffer = arena.allocate(len, Purpose::Data).unwrap();
        assert_eq!(buffer.len(), len);
        assert!(buffer.as_ptr().addr().is_multiple_of(GRANULE_BYTES));
    }
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn buffers_never_overlap_and_all_memory_comes_back() {
    for seed in 1..=20_u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut arena = arena(12);
        let mut held: BTreeMap<usize, ArenaBuffer> = BTreeMap::new();
        for round in 0..5_000_usize {
            if random.next(5) < 3 {
                let bits = 9 + random.next(12);
                let len = 1 + random.next(1 << bits);
                let purpose = [Purpose::Data, Purpose::Log, Purpose::Admin][random.next(3)];
                if let Some(mut buffer) = arena.allocate(len.min(MIB), purpose) {
                    let mark = round.to_le_bytes();
                    let shown = buffer.len().min(8);
                    buffer[..shown].copy_from_slice(&mark[..shown]);
                    let last = buffer.len() - 1;
                    if last >= 8 {
                        buffer[last] = mark[0];
                    }
                    held.insert(round, buffer);
                }
            } else if let Some(key) = held.keys().nth(random.next(held.len().max(1))).copied() {
                let buffer = held.remove(&key).unwrap();
                let mark = key.to_le_bytes();
                let shown = buffer.len().min(8);
                assert_eq!(buffer[..shown], mark[..shown]);
                if buffer.len() > 8 {
                    assert_eq!(buffer[buffer.len() - 1], mark[0]);
                }
            }
        }
        held.clear();
        assert_eq!(arena.used_bytes(), 0);
        // Whatever lengths were served before, whole chunks can be had again.
        let large: Vec<_> = std::iter::from_fn(|| arena.allocate(MIB, Purpose::Data)).collect();
        assert_eq!(large.len(), 12 - 1 - 1 - 3);
    }
}

#[test]
fn host_data_cannot_take_what_is_kept_for_log_admin_and_receives() {
    let mut arena = arena(8);
    let data: Vec<_> = std::iter::from_fn(|| arena.allocate(4096, Purpose::Data)).collect();
    assert_eq!(data.len(), 4 * GRANULES);
    assert_eq!(arena.refused(), 1);
    assert!(arena.allocate(MIB, Purpose::Log).is_some());
    assert!(arena.allocate(8192, Purpose::Admin).is_some());
    assert!(arena.allocate_in(65_536, ZoneId::Receive).is_some());
    drop(data);
    assert!(arena.allocate(4096, Purpose::Data).is_some());
}

#[test]
fn log_may_use_the_common_part_when_its_own_is_taken() {
    let mut arena = arena(8);
    let log: Vec<_> = std::iter::from_fn(|| arena.allocate(MIB, Purpose::Log)).collect();
    assert_eq!(log.len(), 2 + 4);
    assert!(arena.allocate(1, Purpose::Data).is_none());
    assert!(arena.allocate(1, Purpose::Admin).is_some());
}

#[test]
fn a_small_buffer_is_found_in_a_larger_slot_when_nothing_else_is_left() {
    let mut arena = arena(8);
    let mut large: Vec<_> = std::iter::from_fn(|| arena.allocate(MIB / 2, Purpose::Data)).collect();
    assert_eq!(large.len(), 8);
    large.pop();
    let small = arena.allocate(4096, Purpose::Data).unwrap();
    assert_eq!(small.len(), 4096);
    drop(small);
    drop(large);
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn shared_memory_comes_home_with_its_last_holder_on_any_thread() {
    let mut arena = arena(8);
    let mut buffer = arena.allocate(10_000, Purpose::Data).unwrap();
    buffer.fill(7);
    let shared = buffer.share();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    let again = shared.clone();
                    assert!(again.iter().all(|byte| *byte == 7));
                }
            })
        })
        .collect();
    assert_eq!(arena.used_bytes(), 16_384);
    drop(shared);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn buffers_dropped_elsewhere_while_the_owner_allocates_are_found_again() {
    let mut arena = arena(8);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(usize, ArenaBuffer)>(64);
    let other = std::thread::spawn(move || {
        for (mark, buffer) in receiver {
            assert_eq!(buffer[0], mark as u8);
            assert_eq!(buffer[buffer.len() - 1], mark as u8);
        }
    });
    let mut random = Random(42);
    let mut given = 0_usize;
    while given < 20_000 {
        let len = 1 + random.next(MIB / 2);
        let Some(mut buffer) = arena.allocate(len, Purpose::Data) else {
            std::thread::yield_now();
            continue;
        };
        buffer[0] = given as u8;
        let last = buffer.len() - 1;
        buffer[last] = given as u8;
        sender.send((given, buffer)).unwrap();
        given += 1;
    }
    drop(sender);
    other.join().unwrap();
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn memory_that_was_not_needed_since_the_last_trim_goes_back_and_comes_again() {
    let mut arena = arena(8);
    let mut peak: Vec<_> = std::iter::from_fn(|| arena.allocate(MIB / 4, Purpose::Data)).collect();
    peak.iter_mut().for_each(|buffer| buffer.fill(9));
    let kept = peak.pop().unwrap();
    assert_eq!(arena.touched_chunks(), 4);
    arena.trim(8, |_| true);
    drop(peak);
    // One that the kernel does not let go stays, one that is used stays.
    let mut asked = Vec::new();
    arena.trim(8, |chunk| {
        asked.push(chunk);
        asked.len() > 1
    });
    assert_eq!(asked.len(), 3);
    assert_eq!(arena.touched_chunks(), 2);
    assert!(kept.iter().all(|byte| *byte == 9));
    drop(kept);
    // A chunk that was taken from a moment ago is left alone.
    drop(arena.allocate(MIB / 4, Purpose::Data).unwrap());
    let before = arena.touched_chunks();
    arena.trim(8, |_| true);
    assert_eq!(arena.touched_chunks(), before - 1);
    arena.trim(8, |_| true);
    assert_eq!(arena.touched_chunks(), 0);
    let again: Vec<_> = std::iter::from_fn(|| arena.allocate(MIB / 4, Purpose::Data)).collect();
    assert_eq!(again.len(), 16);
    assert!(again.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0)));
}
