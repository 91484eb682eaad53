//! Random work with crashes at random moments. Goal: what was answered survives a kill, what was flushed survives a
//! power cut, no request is torn, no sector is ever anything but one of its versions.

use super::cleaning::BLOCKS;
use super::disk::Rng;
use super::reuse::rare_checkpoints;
use super::world::{World, small_options};
use crate::shard::{Op, ShardOptions};

/// A few rounds of work and crashes from one seed.
pub(super) fn run(seed: u64, segments: u64, tune: impl Fn(&mut World)) -> World {
    let mut options = small_options();
    if seed.is_multiple_of(2) {
        // Every write a batch of its own, several under way.
        options.batch_bytes_min = 4096;
    }
    if seed % 5 > 2 {
        // No leaf of the map stays in memory, or a few.
        options.map_bytes_max = (seed % 5 - 3) * 8192;
    }
    let mut world = World::new(seed, segments, options);
    tune(&mut world);
    world.disk.slow_reads = seed % 3 == 1;
    // Cleaning begins before the last segment is gone.
    world.tells_space = seed % 7 > 3;
    let mut rng = Rng(seed.wrapping_mul(77));
    if !seed.is_multiple_of(4) {
        world.compress = seed % 4 > 1;
        world.kinds = Some(Rng(seed));
    }
    let mut volumes: Vec<u64> = (1..2 + rng.below(3)).collect();
    let span = [64, 600, 4000][usize::try_from(rng.below(3)).unwrap()];
    // Batches of one size and crash upon crash: what lies beyond a gap stands where the log goes on once the gap is
    // filled, and is still there to rise.
    let alike = seed % 12 == 4;
    for _ in 0..if alike { 60 } else { 6 } {
        let rounds = match rng.below(100) {
            _ if alike => rng.below(20),
            0..50 => rng.below(60),
            _ => rng.below(1200),
        };
        let depth = 1 + rng.below(24);
        for _ in 0..rounds {
            if (world.issued.len() as u64) < depth && rng.chance(60) {
                if world.kinds.is_some() && rng.chance(2) {
                    world.compress = !world.compress;
                }
                if alike {
                    let block = rng.below(span) / 8 * 8;
                    world.write(volumes[0], block, block + 8, false);
                } else {
                    submit_some(&mut world, &mut rng, &mut volumes, span);
                }
            }
            world.step();
            if world.failed.is_some() || !world.errors.is_empty() {
                return world;
            }
        }
        if rng.chance(30) && !world.drain() {
            return world;
        }
        world.crash(rng.chance(60));
        if !world.errors.is_empty() || world.failed.is_some() {
            return world;
        }
    }
    world
}

fn submit_some(world: &mut World, rng: &mut Rng, volumes: &mut [u64], span: u64) {
    let chosen = usize::try_from(rng.below(volumes.len() as u64)).unwrap();
    let volume = volumes[chosen];
    let first = rng.below(span);
    let whole = first / 8 * 8;
    let blocks = 1 + if rng.chance(80) { rng.below(4) } else { rng.below(60) };
    match rng.below(100) {
        0..45 => {
            world.write(volume, whole, whole + blocks * 8, rng.chance(10));
        }
        45..60 => {
            world.write(volume, first, first + 1 + rng.below(20), rng.chance(10));
        }
        60..65 => {
            world.compare_and_write(volume, first, first + 1 + rng.below(10));
        }
        65..70 => world.zero(volume, first, first + 1 + rng.below(100), Op::WriteZeroes { fua: false }),
        70..75 => world.zero(volume, first, first + 1 + rng.below(300), Op::Deallocate),
        75..80 => world.flush(),
        80 if rng.chance(20) => {
            // A volume is dropped once nothing of it runs, and its number never comes back.
            if world.issued.values().all(|issued| issued.volume != volume) {
                world.forget(volume, 0, Op::DropVolume);
                volumes[chosen] = volumes.iter().max().unwrap() + 1;
            }
        }
        81 if rng.chance(20) => world.forget(volume, whole, Op::DropFrom),
        _ => world.read(volume, first, first + 1 + rng.below(30)),
    }
}

/// `FERRULE_SEED` moves the first seed, `FERRULE_SEEDS` sets how many there are.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("FERRULE_SEED").unwrap_or(0);
    first..first + number("FERRULE_SEEDS").unwrap_or(25)
}

fn check(segments: u64, tune: impl Fn(&mut World)) {
    check_each(|seed| run(seed, segments, &tune));
}

fn check_each(run: impl Fn(u64) -> World) {
    for seed in seeds() {
        let world = run(seed);
        let errors = &world.errors[..world.errors.len().min(5)];
        assert!(errors.is_empty(), "FERRULE_SEED={seed}: {errors:#?}");
        assert!(world.failed.is_none(), "FERRULE_SEED={seed}: {:?}", world.failed);
    }
}

#[test]
fn acknowledged_and_flushed_data_survives_crashes_anywhere() {
    check(80, |_| ());
}

#[test]
fn nothing_is_lost_while_cleaning_makes_room() {
    check(14, |_| ());
}

#[test]
fn nothing_is_lost_where_leaves_are_cut_off_while_cleaning_makes_room() {
    check_each(|seed| run_of_cuts(seed, |_| ()));
}

#[test]
fn refused_memory_delays_and_loses_nothing() {
    check(30, |world| world.disk.refuse_percent = 20);
}

/// Goal: what a checkpoint's pages name stays until all of them are logged. Method: a volume of many pages, a range over
/// all of it given up just while a checkpoint logs them, released segments overwritten at once, then a power cut.
#[test]
fn a_range_given_up_while_a_checkpoint_logs_pages_leaves_what_they_name() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut options = small_options();
        options.batches_max = 1 + usize::try_from(seed % 3).unwrap();
        options.batch_bytes_max = 32 << 10;
        options.batch_bytes_min = 4096;
        options.checkpoint_bytes = 1 << 20;
        options.drop_pages_per_run = 64;
        let mut world = World::new(seed, 200, options);
        let mut rng = Rng(seed.wrapping_mul(77) + 1);
        let blocks = 64 * 40;
        for block in (0..blocks).step_by(16) {
            world.write(1, block * 8, (block + 16) * 8, false);
            while world.issued.len() > 6 {
                world.step();
            }
        }
        let mut pages = world.shard.stats().page_written_bytes;
        let mut given_up_at = None;
        for _ in 0..20_000 {
            let stats = world.shard.stats();
            if given_up_at.is_none() && stats.page_written_bytes > pages && rng.chance(25) {
                given_up_at = Some(stats.checkpoints);
                world.zero(1, 0, blocks * 8, Op::Deallocate);
            }
            pages = stats.page_written_bytes;
            if given_up_at.is_some_and(|at| stats.checkpoints > at) || world.failed.is_some() {
                break;
            }
            if world.issued.len() < 4 && given_up_at.is_none() {
                let block = rng.below(blocks);
                world.write(1, block * 8, block * 8 + 8, false);
            }
            world.step();
        }
        for _ in 0..10 {
            world.step();
        }
        world.crash(false);
        assert!(world.failed.is_none(), "seed {seed}: {:?}", world.failed);
        assert!(world.errors.is_empty(), "seed {seed}: {:?}", world.errors.first());
    }
}

#[test]
fn a_crash_after_any_step_of_a_small_run_loses_nothing() {
    for power in [false, true] {
        for steps in 0..260 {
            let mut world = World::new(steps % 5, 12, small_options());
            let mut rng = Rng(steps % 5);
            let mut volumes = [1, 2];
            for round in 0..steps {
                if round % 2 == 0 && world.issued.len() < 6 {
                    submit_some(&mut world, &mut rng, &mut volumes, 100);
                }
                world.step();
            }
            world.crash(power);
            let errors = &world.errors[..world.errors.len().min(5)];
            assert!(errors.is_empty(), "{steps} steps, power cut {power}: {errors:#?}");
        }
    }
}

/// Cleaning under a root from which whole leaves are cut off, and crashes before the next one. What a cut gives back is in
/// no record, and only here is it often given back after a segment could have been used again.
fn run_of_cuts(seed: u64, tune: impl Fn(&mut World)) -> World {
    let options = ShardOptions { drop_pages_per_run: 1, ..rare_checkpoints() };
    let mut world = World::new(seed, 24, options);
    tune(&mut world);
    world.tells_space = true;
    let mut rng = Rng(seed.wrapping_mul(77) + 1);
    for _ in 0..6 {
        for _ in 0..200 + rng.below(400) {
            let block = rng.below(BLOCKS);
            if rng.chance(1) {
                let leaf = block / 64 * 512;
                world.zero(1, leaf, leaf + 512, Op::Deallocate);
            } else {
                world.write(1, block * 8, block * 8 + 8, false);
            }
            while world.issued.len() > 8 {
                world.step();
            }
            if world.failed.is_some() || !world.errors.is_empty() {
                return world;
            }
        }
        world.crash(rng.chance(30));
        if world.failed.is_some() || !world.errors.is_empty() {
            return world;
        }
    }
    world
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_fault_is_caught() {
    use crate::shard::Planted;

    // Drives that lose and tear do not rot, and nothing is forked here: those have tests of their own.
    let shows_here = |planted: &Planted| {
        !matches!(planted, Planted::SkipChecksums | Planted::TrustPacked)
            && !Planted::OF_IMAGES.contains(planted)
    };
    for planted in Planted::ALL.into_iter().filter(shows_here) {
        let caught = (0_u64..600).find(|&seed| {
            let segments = if seed.is_multiple_of(3) { 14 } else { 40 };
            let run = std::panic::AssertUnwindSafe(|| {
                let plant = |world: &mut World| {
                    world.options.planted = Some(planted);
                    world.restart();
                    world.settle_recovery();
                };
                let world = match planted {
                    Planted::ReuseInexact => run_of_cuts(seed, plant),
                    _ => run(seed, segments, plant),
                };
                !world.errors.is_empty() || world.failed.is_some()
            });
            std::panic::catch_unwind(run).unwrap_or(true)
        });
        println!("{planted:?} is caught by seed {caught:?}");
        assert!(caught.is_some(), "{planted:?} is not caught");
    }
}
