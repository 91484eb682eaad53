//! Goal: a pool opens as it was made, drives that are not one are refused by name and left untouched, and a format cut
//! anywhere leaves either nothing or a whole pool.
//! Method: drives in memory, given right and wrong; power cuts after every write and flush of a format, its own
//! repetition included. Random choices come from a printed seed.

use super::super::error::DriveSet;
use super::*;
use crate::directory::{Directory, Output};
use crate::memory_disk::{MemoryDisk, PowerCuts, Rng, TestEvent};
use crate::superblock::ENCODED_BYTES;

const MIB: usize = 1 << 20;

fn identity(pool: u8) -> Identity {
    Identity { pool: [pool; 16], cluster: [2; 16], node: [3; 16] }
}

fn options(pool: u8) -> FormatOptions {
    FormatOptions {
        segment_bytes: Some(64 << 10),
        directory_half_bytes: Some(256 << 10),
        ..FormatOptions::new(identity(pool), 2, 77)
    }
}

fn open(disk: &mut MemoryDisk, format: Option<FormatOptions>) -> Result<Opened, PoolError> {
    let mut opening = PoolOpening::new(disk, 9, format);
    loop {
        if let Some(outcome) = opening.poll_outcome() {
            assert!(opening.poll_outcome().is_none());
            return outcome;
        }
        let refusals = disk.refusals;
        opening.run(disk);
        match disk.events.pop_front() {
            Some(TestEvent::Read(token, buffer, result)) => opening.handle_read(token, buffer, result),
            Some(TestEvent::Written(token, buffer, result)) => opening.handle_written(token, buffer, result),
            Some(TestEvent::Flushed(token, result)) => opening.handle_flushed(token, result),
            None => assert!(refusals > 0, "an opening always has an operation under way"),
        }
    }
}

/// Drives of a pool of these sizes.
fn formatted(pool: u8, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut disk = MemoryDisk::new(sizes);
    let opened = open(&mut disk, Some(options(pool))).unwrap();
    assert!(opened.is_new);
    disk.images
}

fn refused(images: Vec<Vec<u8>>, format: Option<FormatOptions>) -> PoolError {
    let mut disk = MemoryDisk::from_images(images.clone());
    let error = open(&mut disk, format).unwrap_err();
    assert!(disk.images == images, "refused drives are left untouched");
    assert!(disk.journal.is_empty(), "not even flushed");
    error
}

fn directory_is_empty(images: &[Vec<u8>], layout: &Layout) -> bool {
    let mut disk = MemoryDisk::from_images(images.to_vec());
    let mut directory = Directory::recover(layout, 1);
    loop {
        directory.run(&mut disk);
        match disk.events.pop_front() {
            Some(TestEvent::Read(token, buffer, result)) => directory.handle_read(token, buffer, result),
            Some(TestEvent::Written(token, buffer, result)) => {
                directory.handle_written(token, buffer, result)
            }
            Some(TestEvent::Flushed(token, result)) => directory.handle_flushed(token, result),
            None => break,
        }
    }
    directory.poll_output() == Some(Output::Ready) && directory.volumes().len() == 0
}

#[test]
fn a_pool_opens_as_it_was_made() {
    for sizes in [&[4 * MIB][..], &[3 * MIB, 4 * MIB, 2 * MIB + 512]] {
        let images = formatted(1, sizes);
        let mut disk = MemoryDisk::from_images(images.clone());
        // Options of a later start do not matter.
        let opened = open(&mut disk, Some(options(5))).unwrap();
        assert!(!opened.is_new);
        assert_eq!(opened.created_unix_ns, 77);
        assert_eq!((&opened.repaired, &opened.unrepaired), (&vec![], &vec![]));
        assert_eq!(*opened.layout.identity(), identity(1));
        assert_eq!(opened.layout.shards(), 2);
        assert!(disk.images == images);
        assert!(directory_is_empty(&images, &opened.layout));
        for shard in (0..2).map(super::super::ShardId) {
            for (drive, offset) in opened.layout.root_slots(shard) {
                let offset = usize::try_from(offset).unwrap();
                assert!(is_zero(&images[usize::from(drive.0)][offset..offset + 4096]));
            }
        }
    }
}

#[test]
fn sizes_follow_the_pool() {
    let chosen = |sizes: &[u64]| {
        let shapes: Vec<DriveShape> = sizes
            .iter()
            .map(|&size_bytes| DriveShape { size_bytes, block_bytes: 512, volatile_cache: true })
            .collect();
        let geometry = FormatOptions::new(identity(1), 16, 0).geometry(&shapes);
        assert!(Layout::new(identity(1), geometry.clone()).is_ok());
        (geometry.segment_bytes >> 20, geometry.directory_half_bytes >> 20)
    };
    assert_eq!(chosen(&[160 << 20]), (1, 1));
    assert_eq!(chosen(&[1 << 30]), (1, 4));
    assert_eq!(chosen(&[5 << 30, 6 << 30]), (8, 32));
    assert_eq!(chosen(&[1 << 40]), (64, 64));
    assert_eq!(chosen(&[100 << 40]), (64, 64));
}

#[test]
fn blank_drives_are_formatted_only_where_that_is_allowed() {
    assert_eq!(refused(vec![vec![0; 4 * MIB]; 2], None), PoolError::Blank);
    let mut disk = MemoryDisk::new(&[4 * MIB]);
    disk.refusals = 5;
    assert!(open(&mut disk, Some(options(1))).unwrap().is_new);
}

#[test]
fn anything_near_either_end_of_a_drive_keeps_it_from_being_formatted() {
    // Where file systems, partition tables, volume managers and RAID keep their signatures.
    for offset in [
        0,
        511,
        512,
        1024,
        4096,
        8192,
        64 << 10,
        960 << 10,
        1 << 19,
        MIB - 1,
        3 * MIB,
        4 * MIB - 512,
        4 * MIB - 1,
    ] {
        let mut images = vec![vec![0; 4 * MIB]; 2];
        images[1][offset] = 1;
        let error = refused(images, Some(options(1)));
        let PoolError::Foreign { drive, offset: found } = error else { panic!("{error:?} at {offset}") };
        assert_eq!(drive, DriveId(1));
        assert!(found <= offset as u64 && (offset as u64) < found + (64 << 10), "{found} for {offset}");
    }
}

#[test]
fn a_damaged_superblock_is_mended_from_the_other() {
    let good = formatted(1, &[3 * MIB, 3 * MIB]);
    for (copy, offset) in [(0, 0), (0, 300), (1, 960 << 10), (1, (960 << 10) + 300)] {
        for drive in 0..2_u16 {
            let mut images = good.clone();
            images[usize::from(drive)][offset] ^= 1;
            let mut disk = MemoryDisk::from_images(images);
            let opened = open(&mut disk, None).unwrap();
            assert_eq!(opened.repaired, [(DriveId(drive), copy)]);
            assert!(disk.images == good);
        }
    }
    // Wiped and unreadable copies too.
    let mut images = good.clone();
    images[0][..4096].fill(0);
    let mut disk = MemoryDisk::from_images(images);
    disk.unreadable = vec![(1, 960 << 10)];
    assert_eq!(open(&mut disk, None).unwrap().repaired, [(DriveId(0), 0), (DriveId(1), 1)]);
    assert!(disk.images == good);
}

#[test]
fn a_superblock_that_cannot_be_mended_is_told() {
    let mut images = formatted(1, &[3 * MIB, 3 * MIB]);
    for image in &mut images {
        image[0] ^= 1;
    }
    let mut disk = MemoryDisk::from_images(images.clone());
    disk.unwritable = vec![(0, 0)];
    let opened = open(&mut disk, None).unwrap();
    assert_eq!(opened.repaired, [(DriveId(1), 0)]);
    assert_eq!(opened.unrepaired, [(DriveId(0), 0)]);
    // A flush that fails is another matter.
    let mut disk = MemoryDisk::from_images(images);
    disk.fail_after = Some(2);
    assert!(matches!(open(&mut disk, None), Err(PoolError::Disk(_))));
}

#[test]
fn drives_are_refused_by_what_is_wrong_with_them() {
    let pool = formatted(1, &[3 * MIB, 3 * MIB]);
    let other = formatted(2, &[3 * MIB, 3 * MIB]);
    let blank = || vec![0; 3 * MIB];
    let allowed = || Some(options(9));
    let [a, b] = [&pool[0], &pool[1]].map(Clone::clone);
    let cases = [
        (vec![b.clone(), a.clone()], PoolError::WrongOrder { given: DriveId(0), actual: DriveId(1) }),
        (vec![a.clone()], PoolError::Missing { expected: 2, missing: DriveSet(2) }),
        (vec![b.clone()], PoolError::Missing { expected: 2, missing: DriveSet(1) }),
        (vec![a.clone(), blank()], PoolError::BlankMember(DriveId(1))),
        (vec![blank(), b.clone()], PoolError::BlankMember(DriveId(0))),
        (vec![a.clone(), a.clone()], PoolError::Duplicate { first: DriveId(0), second: DriveId(1) }),
        (
            vec![a.clone(), b.clone(), other[0].clone()],
            PoolError::Mixed { first: DriveId(0), second: DriveId(2) },
        ),
        (vec![a.clone(), blank(), b.clone()], PoolError::BlankMember(DriveId(1))),
        (vec![a.clone(), b.clone(), vec![7; 3 * MIB]], PoolError::Foreign { drive: DriveId(2), offset: 0 }),
        (vec![a.clone(), blank(), blank()], PoolError::BlankMember(DriveId(1))),
        (vec![a.clone(), other[1].clone()], PoolError::Mixed { first: DriveId(0), second: DriveId(1) }),
        (vec![a.clone(), vec![7; 3 * MIB]], PoolError::Foreign { drive: DriveId(1), offset: 0 }),
        (
            vec![a.clone(), b[..3 * MIB - 512].to_vec()],
            PoolError::Shrunk { drive: DriveId(1), found: 3 * MIB as u64 - 512, expected: 3 * MIB as u64 },
        ),
        (vec![], PoolError::TooManyDrives(0)),
        (vec![blank(); 33], PoolError::TooManyDrives(33)),
    ];
    for (images, expected) in cases {
        assert_eq!(refused(images, allowed()), expected);
    }
    let small = refused(vec![vec![0; MIB - 512]], allowed());
    assert!(matches!(small, PoolError::Geometry(GeometryError::DriveTooSmall { .. })));
    let few = refused(vec![vec![0; 2 * MIB]], Some(options(1).with_shards(16)));
    assert!(matches!(few, PoolError::Geometry(GeometryError::TooFewSegments { .. })));
    assert_eq!(
        refused(vec![vec![0; 128 * MIB]], Some(options(1).with_shards(0))),
        PoolError::Geometry(GeometryError::Shards(0))
    );
}

impl FormatOptions {
    fn with_shards(self, shards: u16) -> Self {
        Self { shards, ..self }
    }
}

#[test]
fn both_copies_damaged_unknown_versions_and_larger_blocks_are_refused() {
    let good = formatted(1, &[3 * MIB]);
    let mut images = good.clone();
    images[0][100] ^= 1;
    images[0][(960 << 10) + 100] ^= 1;
    assert_eq!(refused(images, Some(options(9))), PoolError::Damaged(DriveId(0)));

    for (field, expected) in [
        (8, PoolError::Version { drive: DriveId(0), version: 3 }),
        (16, PoolError::Features { drive: DriveId(0), features: 2 }),
    ] {
        // One newer copy is enough: the drive was being upgraded.
        let mut images = good.clone();
        let block = &mut images[0][960 << 10..][..ENCODED_BYTES];
        block[field] ^= 2;
        block[12..16].fill(0);
        let crc = super::super::bytes::crc32c(&[block]);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(refused(images, Some(options(9))), expected);
    }

    let mut disk = MemoryDisk::from_images(good);
    disk.block_bytes = 4096;
    let expected = PoolError::BlockBytes { drive: DriveId(0), found: 4096, expected: 512 };
    assert_eq!(open(&mut disk, None), Err(expected));
}

#[test]
fn a_drive_that_has_grown_is_used_as_it_was() {
    let mut images = formatted(1, &[3 * MIB]);
    images[0].resize(5 * MIB, 0);
    let opened = open(&mut MemoryDisk::from_images(images), None).unwrap();
    assert_eq!(opened.layout.drives()[0].size_bytes, 3 * MIB as u64);
}

#[test]
fn every_refusal_says_what_to_do() {
    let errors = [
        PoolError::Blank,
        PoolError::BlankMember(DriveId(1)),
        PoolError::Foreign { drive: DriveId(1), offset: 0 },
        PoolError::Missing { expected: 4, missing: DriveSet(0b1010) },
        PoolError::WrongOrder { given: DriveId(0), actual: DriveId(1) },
        PoolError::Damaged(DriveId(0)),
        PoolError::Unfinished,
    ];
    for error in errors {
        let text = error.to_string();
        assert!(["give", "make", "allow", "restore"].iter().any(|verb| text.contains(verb)), "{text}");
    }
    let missing = PoolError::Missing { expected: 4, missing: DriveSet(0b1010) }.to_string();
    assert_eq!(missing, "the pool has 4 drives and these were not given: 1, 3; give all of them");
}

#[test]
fn a_failed_write_or_flush_ends_a_format() {
    for successes in 0..19 {
        let mut disk = MemoryDisk::new(&[3 * MIB, 3 * MIB]);
        disk.fail_after = Some(successes);
        let outcome = open(&mut disk, Some(options(1)));
        if successes < 15 {
            assert!(matches!(outcome, Err(PoolError::Disk(_))), "after {successes}");
        } else {
            assert!(outcome.unwrap().is_new);
        }
    }
}

/// Checks what the next start makes of drives whose format was cut, and returns its disk.
fn after_the_cut(images: Vec<Vec<u8>>, pools: &[u8], next: u8) -> MemoryDisk {
    let without = open(&mut MemoryDisk::from_images(images.clone()), None).map(|opened| opened.layout);
    let mut disk = MemoryDisk::from_images(images);
    let opened = open(&mut disk, Some(options(next))).expect("a cut format can be begun anew or is complete");
    let pool = opened.layout.identity().pool[0];
    match without {
        Ok(layout) => {
            assert!(!opened.is_new);
            assert!(pools.contains(&pool));
            assert_eq!(opened.layout, layout);
        }
        Err(error) => {
            assert!(matches!(error, PoolError::Blank | PoolError::Unfinished), "{error}");
            assert!(opened.is_new);
            assert_eq!(pool, next);
        }
    }
    assert!(directory_is_empty(&disk.images, &opened.layout));
    let reopened = open(&mut MemoryDisk::from_images(disk.images.clone()), None).unwrap();
    assert_eq!(reopened.repaired, []);
    assert_eq!(reopened.layout, opened.layout);
    disk
}

#[test]
fn a_format_cut_anywhere_leaves_nothing_or_a_whole_pool() {
    let mut rng = Rng::from_env(0xF0);
    let blank = MemoryDisk::new(&[2 * MIB, 2 * MIB]).images;
    let mut disk = MemoryDisk::from_images(blank.clone());
    open(&mut disk, Some(options(1))).unwrap();
    let mut cuts = PowerCuts::new(blank);
    for entry in &disk.journal {
        cuts.apply(entry);
        for images in cuts.images(2, &mut rng) {
            let mut second = after_the_cut(images.clone(), &[1], 2);
            if rng.below(6) > 0 {
                continue;
            }
            // The second attempt, or the completion of the first, is cut as well.
            let mut later = PowerCuts::new(images);
            for entry in std::mem::take(&mut second.journal) {
                later.apply(&entry);
                for images in later.images(1, &mut rng) {
                    after_the_cut(images, &[1, 2], 3);
                }
            }
        }
    }
}

#[test]
fn a_claimed_drive_that_someone_else_has_used_since_is_foreign() {
    let mut disk = MemoryDisk::new(&[3 * MIB]);
    disk.fail_after = Some(4);
    assert!(open(&mut disk, Some(options(1))).is_err());
    assert_eq!(refused(disk.images.clone(), None), PoolError::Unfinished);
    let mut images = disk.images.clone();
    images[0][..4096].fill(7);
    assert_eq!(refused(images, Some(options(2))), PoolError::Foreign { drive: DriveId(0), offset: 0 });
    let mut images = disk.images;
    images[0][70_000] = 7;
    assert!(matches!(refused(images, Some(options(2))), PoolError::Foreign { .. }));
}

/// Where the roots of both shards are.
fn roots(layout: &Layout) -> Vec<[(DriveId, u64); 2]> {
    (0..layout.shards()).map(|shard| layout.root_slots(super::super::ShardId(shard))).collect()
}

#[test]
fn blank_drives_join_a_pool_behind_its_own_and_move_nothing() {
    let mut images = formatted(1, &[3 * MIB, 4 * MIB]);
    let before = open(&mut MemoryDisk::from_images(images.clone()), None).unwrap().layout;
    images.extend([vec![0; 2 * MIB], vec![0; 3 * MIB + 512]]);
    assert_eq!(refused(images.clone(), None), PoolError::Extra { expected: 2, given: 4 });

    let mut disk = MemoryDisk::from_images(images.clone());
    let opened = open(&mut disk, Some(options(5))).unwrap();
    assert!(!opened.is_new);
    assert_eq!(opened.joined, [DriveId(2), DriveId(3)]);
    assert_eq!(*opened.layout.identity(), identity(1));
    assert!(opened.layout.segments() > before.segments());
    for segment in (0..before.segments()).map(super::super::SegmentId) {
        assert_eq!(opened.layout.segment_place(segment), before.segment_place(segment));
    }
    assert_eq!(roots(&opened.layout), roots(&before));
    assert_eq!(opened.layout.directory(), before.directory());

    // From then on they are of the pool, and one more can join.
    let grown = disk.images;
    assert_eq!(
        refused(grown[..3].to_vec(), Some(options(5))),
        PoolError::Missing { expected: 4, missing: DriveSet(8) }
    );
    let again = open(&mut MemoryDisk::from_images(grown.clone()), None).unwrap();
    assert_eq!((again.layout, again.joined, again.repaired), (opened.layout, vec![], vec![]));
    let more = [grown, vec![vec![0; 2 * MIB]]].concat();
    let more = open(&mut MemoryDisk::from_images(more), Some(options(5))).unwrap();
    assert_eq!((more.joined.as_slice(), roots(&more.layout)), (&[DriveId(4)][..], roots(&before)));
}

#[test]
fn a_drive_that_cannot_join_is_refused_and_left_alone() {
    let pool = formatted(1, &[3 * MIB]);
    let with = |image: Vec<u8>| refused(vec![pool[0].clone(), image], Some(options(1)));
    assert!(matches!(with(vec![0; MIB]), PoolError::Geometry(GeometryError::DriveTooSmall { .. })));
    let mut used = vec![0; 3 * MIB];
    used[3 * MIB - 1] = 1;
    assert!(matches!(with(used), PoolError::Foreign { drive: DriveId(1), .. }));
    let many = vec![vec![0; 2 * MIB]; DRIVES_MAX];
    assert_eq!(refused([pool, many].concat(), Some(options(1))), PoolError::TooManyDrives(33));
}

#[test]
fn a_growth_cut_anywhere_leaves_the_pool_as_it_was_or_grown() {
    let mut rng = Rng::from_env(0xF1);
    let pool = formatted(1, &[3 * MIB, 2 * MIB]);
    let before = open(&mut MemoryDisk::from_images(pool.clone()), None).unwrap().layout;
    let start = [pool, vec![vec![0; 2 * MIB]]].concat();
    let mut disk = MemoryDisk::from_images(start.clone());
    let grown = open(&mut disk, Some(options(2))).unwrap().layout;
    let mut cuts = PowerCuts::new(start);
    let mut joined = 0;
    for entry in &disk.journal {
        cuts.apply(entry);
        for images in cuts.images(4, &mut rng) {
            // Without the drive that was to join: as it was, or it is missed.
            match open(&mut MemoryDisk::from_images(images[..2].to_vec()), None) {
                Ok(opened) => assert_eq!(opened.layout, before),
                Err(error) => {
                    assert_eq!(error, PoolError::Missing { expected: 3, missing: DriveSet(4) });
                    joined += 1;
                }
            }
            let mut disk = MemoryDisk::from_images(images);
            assert_eq!(open(&mut disk, Some(options(3))).unwrap().layout, grown);
            let reopened = open(&mut MemoryDisk::from_images(disk.images), None).unwrap();
            assert_eq!((reopened.layout, reopened.repaired), (grown.clone(), vec![]));
        }
    }
    assert!(joined > 0, "no cut came after a drive of the pool knew");
}
