//! Compressed blocks, single claims: what they take, that they come back by every way, that rotten ones never do.

use super::disk::Rng;
use super::world::{World, fill_at, payload_at, small_options};
use crate::VolumeId;
use crate::shard::{Op, Outcome, Request};

/// Kinds of values, see `fill`.
const REPEATED: u64 = 1 << 40;
const HALF_NOISE: u64 = 2 << 40;
const NOISE: u64 = 3 << 40;

fn new_world(segments: u64) -> World {
    let mut world = World::new(1, segments, small_options());
    world.compress = true;
    world
}

fn assert_good(world: &World) {
    assert!(world.errors.is_empty(), "{:#?}", world.errors);
    assert!(world.failed.is_none(), "{:?}", world.failed);
}

/// Writes blocks of a value of this kind.
fn write(world: &mut World, first: u64, end: u64, kind: u64) -> u64 {
    let value = world.next_value() | kind;
    let data = payload_at(first, end - first, value);
    world.change(1, first, end, value, super::world::Kind::Write, Op::Write { data, fua: false });
    assert!(world.drain(), "{:?}", world.errors);
    value
}

fn content(first: u64, end: u64, value: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from((end - first) * 512).unwrap()];
    for (sector, bytes) in (first..).zip(bytes.chunks_exact_mut(512)) {
        fill_at(bytes, sector, value);
    }
    bytes
}

#[test]
fn blocks_take_what_their_content_asks_for() {
    let mut world = new_world(100);
    for (kind, live) in [(REPEATED, 16 * 512), (HALF_NOISE, 16 * 2560), (NOISE, 16 * 4096)] {
        let before = world.disk.written_bytes;
        let value = write(&mut world, 0, 128, kind);
        assert_eq!(world.shard.stats().live_bytes, live);
        // A header, and perhaps the end of a segment in between.
        let headers = world.disk.written_bytes - before - live.next_multiple_of(4096);
        assert!(headers <= 4 * 4096, "{headers} bytes beside the blocks");
        assert_eq!(world.read_now(1, 0, 128), Some(content(0, 128, value)));
        assert_eq!(world.shard.mapped_bytes(VolumeId(1)), 65536);
    }
    assert_eq!(world.shard.stats().packed_blocks, 32);
    assert_good(&world);
}

#[test]
fn drives_of_blocks_of_4096_get_blocks_as_they_are() {
    let mut world = World::with_blocks_of(4096, 1, 100, small_options());
    world.compress = true;
    let value = write(&mut world, 0, 64, REPEATED);
    assert_eq!(world.shard.stats().live_bytes, 8 * 4096);
    assert_eq!(world.read_now(1, 0, 64), Some(content(0, 64, value)));
}

#[test]
fn neighbours_are_read_at_once_however_they_are_stored() {
    let mut world = new_world(100);
    for kinds in [[REPEATED, HALF_NOISE], [NOISE, REPEATED], [HALF_NOISE, NOISE]] {
        // One request of blocks of two kinds in turn, with a block of zeros.
        let mut bytes = Vec::new();
        for block in 0..32 {
            let kind = if block == 9 { 0 } else { kinds[usize::try_from(block % 2).unwrap()] | (block + 1) };
            bytes.extend(content(block * 8, block * 8 + 8, kind));
        }
        let data =
            crate::Payload::new(io::Slice::whole(io::Buffer::share(super::disk::TestBuffer(bytes.clone()))));
        world.submit(1 << 50, 1, 0, 32 * 4096, Op::Write { data, fua: false });
        run_until(&mut world, 1 << 50);
        assert_eq!(world.read_now(1, 0, 256).as_deref(), Some(&bytes[..]));
        // Any stretch, in sectors.
        let mut rng = Rng(5);
        for _ in 0..50 {
            let first = rng.below(200);
            let end = first + 1 + rng.below(50);
            let expected = &bytes[usize::try_from(first * 512).unwrap()..usize::try_from(end * 512).unwrap()];
            assert_eq!(world.read_now(1, first, end - first).as_deref(), Some(expected));
        }
    }
    assert_good(&world);
}

fn run_until(world: &mut World, tag: u64) -> Outcome {
    for _ in 0..10_000 {
        world.step_quietly();
        while let Some(output) = world.shard.poll_output() {
            match output {
                crate::Output::Done { tag: found, outcome, .. } if found == tag => return outcome,
                other => world.take_output(other),
            }
        }
    }
    panic!("request {tag} is never answered");
}

#[test]
fn edges_and_comparisons_see_what_was_compressed() {
    let mut world = new_world(100);
    let value = write(&mut world, 0, 16, REPEATED);
    let edge = write(&mut world, 3, 11, HALF_NOISE);
    let expected = [content(0, 3, value), content(3, 11, edge), content(11, 16, value)].concat();
    assert_eq!(world.read_now(1, 0, 16), Some(expected.clone()));
    for (right, outcome) in [(true, Outcome::Ok), (false, Outcome::CompareFailed)] {
        let data = payload_at(3, 8, if right { edge } else { value });
        let request = Request {
            tag: 1 << 50,
            volume: VolumeId(1),
            offset: 3 * 512,
            len: 8 * 512,
            compress: false,
            op: Op::Compare { data },
        };
        world.shard.submit(request).unwrap();
        assert_eq!(run_until(&mut world, 1 << 50), outcome);
    }
    world.compare_and_write(1, 2, 9);
    world.zero(1, 1, 5, Op::WriteZeroes { fua: false });
    assert!(world.drain());
    assert_eq!(&world.read_now(1, 0, 16).unwrap()[..512], &expected[..512]);
    assert_good(&world);
}

#[test]
fn switching_on_and_off_is_for_what_is_written_then() {
    let mut world = new_world(100);
    let first = write(&mut world, 0, 64, HALF_NOISE);
    world.compress = false;
    let second = write(&mut world, 32, 96, HALF_NOISE);
    assert_eq!(world.shard.stats().live_bytes, 4 * 2560 + 8 * 4096);
    world.flush();
    assert!(world.drain());
    for power in [false, true] {
        world.crash(power);
        let read = world.read_now(1, 0, 96).unwrap();
        assert_eq!(read, [content(0, 32, first), content(32, 96, second)].concat());
    }
    assert_good(&world);
}

#[test]
fn cleaning_moves_compressed_blocks_as_they_are() {
    let mut world = new_world(24);
    world.kinds = Some(Rng(3));
    let mut rng = Rng(4);
    // Half of the pool, if all of it were noise.
    for _ in 0..16_000 {
        let block = rng.below(24 * 15);
        world.write(1, block * 8, block * 8 + 8, false);
        while world.issued.len() > 8 {
            world.step();
        }
    }
    assert!(world.drain(), "{:?}", world.errors);
    let stats = world.shard.stats();
    assert!(stats.cleaned_segments > 20 && stats.moved_blocks > 100, "{stats:?}");
    world.audit();
    world.flush();
    assert!(world.drain());
    let counts = |world: &World| {
        let stats = world.shard.stats();
        (stats.data_bytes, stats.stored_bytes, world.shard.stored_bytes(VolumeId(1)))
    };
    let before = counts(&world);
    assert_eq!(before.0, world.shard.mapped_bytes(VolumeId(1)));
    assert_eq!(before.1, before.2, "one image, nothing shared");
    assert!(before.1 < before.0 * 3 / 4);
    world.crash(true);
    assert_good(&world);
    assert_eq!(counts(&world), before, "recovery counts what was counted on the way");
    world.audit();
    assert_good(&world);
}

#[test]
fn shared_blocks_are_counted_for_each_image_and_once_in_all() {
    let mut world = new_world(100);
    write(&mut world, 0, 64, REPEATED);
    world.submit(1 << 50, 1, 0, 0, Op::Fork { image: VolumeId(2), read_only: true });
    assert_eq!(run_until(&mut world, 1 << 50), Outcome::Ok);
    write(&mut world, 0, 8, NOISE);
    let stored = |world: &World, image: u64| world.shard.stored_bytes(VolumeId(image));
    assert_eq!((stored(&world, 1), stored(&world, 2)), (4096 + 7 * 512, 8 * 512));
    let stats = world.shard.stats();
    assert_eq!((stats.data_bytes, stats.stored_bytes), (9 * 4096, 4096 + 8 * 512));
    assert_eq!(world.shard.written_bytes(VolumeId(1)), 9 * 4096);
    world.submit(1 << 51, 2, 0, 0, Op::DropVolume);
    assert_eq!(run_until(&mut world, 1 << 51), Outcome::Ok);
    let stats = world.shard.stats();
    assert_eq!((stats.data_bytes, stats.stored_bytes), (8 * 4096, 4096 + 7 * 512));
    world.zero(1, 0, 32, Op::Deallocate);
    assert!(world.drain());
    assert_eq!(stored(&world, 1), 4 * 512);
}

/// Goal: whatever byte of what is stored rots, a read gives what was written or none of it. Method: every bit of the
/// stretch in which the compressed blocks lie, one after the other.
#[test]
fn rotten_compressed_blocks_are_never_returned() {
    let mut world = new_world(100);
    let value = write(&mut world, 0, 16, HALF_NOISE);
    let expected = content(0, 16, value);
    let ((drive, offset), len) = (world.disk.last_payload(), 2 * 2560);
    let mut refused = 0;
    for bit in 0..len * 8 {
        world.disk.flip((drive, offset + bit / 8), 1 << (bit % 8));
        match world.read_now(1, 0, 16) {
            Some(read) => assert_eq!(read, expected, "bit {bit}"),
            None => refused += 1,
        }
        world.errors.clear();
        world.disk.flip((drive, offset + bit / 8), 1 << (bit % 8));
    }
    assert!(refused > len * 6, "{refused} of {len} bytes");
    assert_eq!(world.read_now(1, 0, 16), Some(expected));
}

#[cfg(feature = "planted")]
#[test]
fn trusted_compressed_blocks_are_caught_by_rot() {
    let planted = Some(crate::shard::Planted::TrustPacked);
    let mut world = World::new(1, 100, crate::ShardOptions { planted, ..small_options() });
    world.compress = true;
    let value = write(&mut world, 0, 16, HALF_NOISE);
    let ((drive, offset), len) = (world.disk.last_payload(), 2 * 2560);
    let wrong = (0..len).any(|at| {
        world.disk.flip((drive, offset + at), 1);
        let read = world.read_now(1, 0, 16);
        world.disk.flip((drive, offset + at), 1);
        read != Some(content(0, 16, value))
    });
    assert!(wrong);
}
