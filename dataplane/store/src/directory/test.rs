//! Goal: what was answered is there after any crash, what was not is there whole or not at all, and damage is refused.
//! Method: a history of changes on a drive in memory; a power cut after every write and flush in every combination of
//! surviving blocks that the fault model allows; what is recovered must be one of the history's states, no older than
//! the last answer. Random choices come from a printed seed.

mod crash;

use super::format::{FrameHeader, HalfHeader, HalfState, fresh_headers};
use super::record::{FLAG_OPTIONAL, FLAG_REMOVE};
use super::*;
use crate::memory_disk::{MemoryDisk, Rng, TestEvent};
use crate::pool::{Geometry, Identity};

const POOL: [u8; 16] = [0xA1; 16];
const HALF_BYTES: u32 = 256 << 10;
const DRIVE_BYTES: usize = (2 << 20) + (128 << 10);

fn layout() -> Layout {
    layout_with(HALF_BYTES, DRIVE_BYTES)
}

fn layout_with(directory_half_bytes: u32, drive_bytes: usize) -> Layout {
    let geometry = Geometry {
        shards: 1,
        segment_bytes: 64 << 10,
        directory_half_bytes,
        block_bytes: 512,
        drive_bytes: vec![drive_bytes as u64],
        founders: 1,
    };
    Layout::new(Identity { pool: POOL, cluster: [2; 16], node: [3; 16] }, geometry).unwrap()
}

/// A drive with the directory of a new pool.
fn fresh_image() -> Vec<u8> {
    fresh_image_of(&layout())
}

fn fresh_image_of(layout: &Layout) -> Vec<u8> {
    let mut image = vec![0; usize::try_from(layout.drives()[0].size_bytes).unwrap()];
    for (offset, header) in layout.directory().halves.into_iter().zip(fresh_headers(&POOL)) {
        let offset = usize::try_from(offset).unwrap();
        image[offset..offset + header.len()].copy_from_slice(&header);
    }
    image
}

/// Runs until nothing is under way, and returns what was put out.
fn settle(directory: &mut Directory, disk: &mut MemoryDisk) -> Vec<Output> {
    loop {
        directory.run(disk);
        match disk.events.pop_front() {
            Some(TestEvent::Read(token, buffer, result)) => directory.handle_read(token, buffer, result),
            Some(TestEvent::Written(token, buffer, result)) => {
                directory.handle_written(token, buffer, result)
            }
            Some(TestEvent::Flushed(token, result)) => directory.handle_flushed(token, result),
            None => break,
        }
    }
    std::iter::from_fn(|| directory.poll_output()).collect()
}

fn open(disk: &mut MemoryDisk) -> Result<Directory, DirectoryFault> {
    open_as(&layout(), disk)
}

fn open_as(layout: &Layout, disk: &mut MemoryDisk) -> Result<Directory, DirectoryFault> {
    let mut directory = Directory::recover(layout, 7);
    match settle(&mut directory, disk)[..] {
        [Output::Ready] => Ok(directory),
        [Output::Failed(fault)] => Err(fault),
        ref other => panic!("{other:?}"),
    }
}

fn reopen(image: Vec<u8>) -> Result<Directory, DirectoryFault> {
    open(&mut MemoryDisk::from_images(vec![image]))
}

fn volume(directory: &mut Directory, name: &str, attributes: usize) -> VolumeRecord {
    let id = directory.allocate_volume_id();
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&id.0.to_le_bytes());
    VolumeRecord {
        id,
        image: id,
        lineage: id,
        source: [0; 16],
        limits: Limits::default(),
        uuid,
        nsid: directory.allocate_nsid(|_| false).unwrap(),
        project: "default".into(),
        name: name.into(),
        size_bytes: 1 << 30,
        sector: SectorSize::B4096,
        acl: Access::Any,
        ip_acl: Access::Any,
        compression: false,
        attributes: "x".repeat(attributes),
        revision: 1,
        created_unix_ns: 5,
        state: VolumeState::Available,
    }
}

fn done(tag: u64) -> Output {
    Output::Done { tag, result: Ok(()) }
}

fn refused(tag: u64, error: DirectoryError) -> Output {
    Output::Done { tag, result: Err(error) }
}

/// A drive with `count` volumes named v1, v2, ..., and their directory.
fn with_volumes(count: u64) -> (MemoryDisk, Directory) {
    let mut disk = MemoryDisk::from_images(vec![fresh_image()]);
    let mut directory = open(&mut disk).unwrap();
    for tag in 1..=count {
        let record = volume(&mut directory, &format!("v{tag}"), 0);
        directory.put_volume(record, tag);
        assert_eq!(settle(&mut directory, &mut disk), [done(tag)]);
    }
    (disk, directory)
}

fn names(directory: &Directory) -> Vec<String> {
    directory.volumes().map(|volume| volume.name.clone()).collect()
}

/// Appends a frame with one record to the log in `image`, as a newer program might.
fn append_raw(image: &mut [u8], log: &Log, record: &RawRecord) {
    let place = Place::new(&layout());
    let mut log = *log;
    let mut frame = log.frame(&place);
    frame.push(record);
    let crate::pool::step::Step::Write { offset, bytes, .. } = log.append(&place, frame) else {
        unreachable!()
    };
    let offset = usize::try_from(offset).unwrap();
    image[offset..offset + bytes.len()].copy_from_slice(&bytes);
}

#[test]
fn volumes_are_found_by_every_name_after_a_restart() {
    let (disk, _) = with_volumes(3);
    let directory = reopen(disk.images[0].clone()).unwrap();
    assert_eq!(names(&directory), ["v1", "v2", "v3"]);
    let second = directory.volume(VolumeId(2)).unwrap();
    assert_eq!(directory.volume_by_name("default", "v2"), Some(second));
    assert_eq!(directory.volume_by_uuid(&second.uuid), Some(second));
    assert_eq!(directory.volume_by_nsid(2), Some(second));
    assert_eq!(directory.volume_by_name("other", "v2"), None);
}

#[test]
fn nothing_is_visible_before_it_is_durable() {
    let (mut disk, mut directory) = with_volumes(0);
    let record = volume(&mut directory, "v", 0);
    directory.put_volume(record, 1);
    for _ in 0..2 {
        assert_eq!(directory.poll_output(), None);
        assert_eq!(directory.volumes().len(), 0);
        assert!(directory.has_name("default", "v"));
        directory.run(&mut disk);
        match disk.events.pop_front().unwrap() {
            TestEvent::Written(token, buffer, result) => directory.handle_written(token, buffer, result),
            TestEvent::Flushed(token, result) => directory.handle_flushed(token, result),
            event @ TestEvent::Read(..) => panic!("{event:?}"),
        }
    }
    assert_eq!(directory.poll_output(), Some(done(1)));
    assert_eq!(names(&directory), ["v"]);
}

#[test]
fn changes_that_wait_together_share_a_frame() {
    let (mut disk, mut directory) = with_volumes(0);
    let frames = directory.stats().frames;
    for tag in 0..50 {
        let record = volume(&mut directory, &format!("v{tag}"), 0);
        directory.put_volume(record, tag);
    }
    assert_eq!(settle(&mut directory, &mut disk), (0..50).map(done).collect::<Vec<_>>());
    assert_eq!(directory.stats().frames - frames, 1);
}

#[test]
fn contradictions_are_refused_even_before_the_first_change_is_durable() {
    let (mut disk, mut directory) = with_volumes(0);
    let first = volume(&mut directory, "v", 0);
    let second = volume(&mut directory, "v", 0);
    let renamed = VolumeRecord { name: "w".into(), ..second.clone() };
    directory.put_volume(first.clone(), 1);
    directory.put_volume(second, 2);
    directory.put_volume(VolumeRecord { uuid: first.uuid, ..renamed.clone() }, 3);
    directory.put_volume(VolumeRecord { nsid: first.nsid, ..renamed.clone() }, 4);
    directory.put_volume(VolumeRecord { id: VolumeId(99), ..renamed }, 5);
    directory.put_volume(VolumeRecord { uuid: [9; 16], ..first.clone() }, 6);
    directory.remove_volume(VolumeId(99), 7);
    let expected = [
        refused(2, DirectoryError::NameTaken),
        refused(3, DirectoryError::UuidTaken),
        refused(4, DirectoryError::NsidTaken),
        refused(5, DirectoryError::Invalid { field: "id", rule: "as the directory allocated it" }),
        refused(
            6,
            DirectoryError::Invalid { field: "uuid, nsid, sector and lineage", rule: "fixed for life" },
        ),
        refused(7, DirectoryError::NotFound),
        done(1),
    ];
    assert_eq!(settle(&mut directory, &mut disk), expected);
    assert_eq!(names(&directory), ["v"]);
}

#[test]
fn a_volume_that_is_being_deleted_frees_its_name_at_once_and_its_nsid_at_the_end() {
    let (mut disk, mut directory) = with_volumes(1);
    let old =
        VolumeRecord { state: VolumeState::Deleting, ..(**directory.volume(VolumeId(1)).unwrap()).clone() };
    directory.put_volume(old, 2);
    let new = volume(&mut directory, "v1", 0);
    directory.put_volume(new, 3);
    assert_eq!(settle(&mut directory, &mut disk), [done(2), done(3)]);
    assert_eq!(directory.volume_by_name("default", "v1").unwrap().id, VolumeId(2));
    assert_eq!(directory.volume_by_nsid(1).unwrap().state, VolumeState::Deleting);
    directory.remove_volume(VolumeId(1), 4);
    assert_eq!(settle(&mut directory, &mut disk), [done(4)]);
    assert_eq!(directory.volume_by_nsid(1), None);
    assert_eq!(directory.volume_by_name("default", "v1").unwrap().id, VolumeId(2));
}

#[test]
fn identifiers_do_not_come_back_after_a_restart() {
    let (mut disk, mut directory) = with_volumes(3);
    directory.remove_volume(VolumeId(3), 4);
    directory.note_cntlid(65, 5);
    assert_eq!(settle(&mut directory, &mut disk), [done(4), done(5)]);
    let mut directory = open(&mut disk).unwrap();
    assert_eq!(directory.allocate_volume_id(), VolumeId(4));
    assert_eq!(directory.allocate_nsid(|_| false), Some(4));
    assert_eq!(directory.next_cntlid(), 65);
}

#[test]
fn identifiers_do_not_come_back_after_a_compaction() {
    let (mut disk, mut directory) = with_volumes(3);
    for (tag, id) in [(1, 1), (2, 2), (3, 3)] {
        directory.remove_volume(VolumeId(id), tag);
    }
    settle(&mut directory, &mut disk);
    let mut next = 65;
    while directory.stats().compactions < 3 {
        directory.note_cntlid(next, 0);
        next += 1;
        assert_eq!(settle(&mut directory, &mut disk), [done(0)]);
    }
    let mut directory = open(&mut disk).unwrap();
    assert_eq!(directory.next_cntlid(), next - 1);
    assert_eq!(directory.allocate_volume_id(), VolumeId(4));
    assert_eq!(directory.allocate_nsid(|_| false), Some(4));
}

#[test]
fn a_full_directory_refuses_before_it_touches_anything_and_recovers_when_volumes_go() {
    let (mut disk, mut directory) = with_volumes(0);
    let mut tag = 0;
    loop {
        tag += 1;
        let record = volume(&mut directory, &format!("v{tag}"), ATTRIBUTES_BYTES_MAX);
        let journal = disk.journal.len();
        directory.put_volume(record, tag);
        match settle(&mut directory, &mut disk)[..] {
            [Output::Done { result: Ok(()), .. }] => {}
            [Output::Done { result: Err(DirectoryError::CapacityExceeded), .. }] => {
                assert_eq!(disk.journal.len(), journal);
                break;
            }
            ref other => panic!("{other:?}"),
        }
    }
    let count = tag - 1;
    assert!(count >= 8, "{count} volumes of 16 KiB fit in three quarters of 256 KiB");
    // Changes that do not grow still work, as often as anyone likes.
    for round in 0..100 {
        let old = directory.volume(VolumeId(1)).unwrap();
        let changed = VolumeRecord { revision: old.revision + 1, ..(**old).clone() };
        directory.put_volume(changed, round);
        assert_eq!(settle(&mut directory, &mut disk), [done(round)]);
    }
    assert!(directory.stats().compactions > 5);
    directory.remove_volume(VolumeId(2), 1);
    let record = volume(&mut directory, "new", ATTRIBUTES_BYTES_MAX);
    directory.put_volume(record, 2);
    assert_eq!(settle(&mut directory, &mut disk), [done(1), done(2)]);
    let directory = open(&mut disk).unwrap();
    assert_eq!(directory.volumes().len() as u64, count);
    assert_eq!(directory.volume(VolumeId(1)).unwrap().revision, 101);
}

#[test]
fn a_failed_write_or_flush_stops_it_and_is_never_success() {
    for successes in 0..12 {
        let (mut disk, mut directory) = with_volumes(2);
        disk.fail_after = Some(successes);
        let mut tag = 0;
        loop {
            tag += 1;
            let record = volume(&mut directory, &format!("w{tag}"), 0);
            directory.put_volume(record, tag);
            directory.run(&mut disk);
            // This one waits for the first.
            let record = volume(&mut directory, &format!("x{tag}"), 0);
            directory.put_volume(record, 1000 + tag);
            let outputs = settle(&mut directory, &mut disk);
            if outputs == [done(tag), done(1000 + tag)] {
                continue;
            }
            let first_is_done = outputs[0] == done(tag);
            let rest = if first_is_done {
                vec![refused(1000 + tag, DirectoryError::InDoubt)]
            } else {
                vec![refused(tag, DirectoryError::InDoubt), refused(1000 + tag, DirectoryError::Failed)]
            };
            assert_eq!(outputs[usize::from(first_is_done)..][..rest.len()], rest);
            assert!(matches!(outputs[2], Output::Failed(DirectoryFault::Disk(_))));
            assert_eq!(directory.volumes().len() as u64, 2 + 2 * (tag - 1) + u64::from(first_is_done));
            break;
        }
        directory.remove_volume(VolumeId(1), 99);
        assert_eq!(settle(&mut directory, &mut disk), [refused(99, DirectoryError::Failed)]);
    }
}

#[test]
fn memory_that_is_refused_is_asked_for_again() {
    let (mut disk, mut directory) = with_volumes(0);
    disk.refusals = 3;
    let record = volume(&mut directory, "v", 0);
    directory.put_volume(record, 1);
    for _ in 0..3 {
        assert_eq!(settle(&mut directory, &mut disk), []);
    }
    assert_eq!(settle(&mut directory, &mut disk), [done(1)]);
}

#[test]
fn unknown_records_are_kept_where_they_may_be_and_refused_where_not() {
    let optional =
        RawRecord { kind: 900, version: 3, flags: FLAG_OPTIONAL, key: 5, payload: b"later".to_vec() };
    let (disk, directory) = with_volumes(1);
    let mut image = disk.images[0].clone();
    append_raw(&mut image, &directory.log, &optional);
    let mut disk = MemoryDisk::from_images(vec![image]);
    let mut directory = open(&mut disk).unwrap();
    // It survives compactions, and goes when it is removed.
    let mut tag = 0;
    while directory.stats().compactions < 2 {
        tag += 1;
        directory.note_cntlid(7, tag);
        settle(&mut directory, &mut disk);
    }
    let directory = open(&mut disk).unwrap();
    let kept = |directory: &Directory| {
        directory
            .durable
            .stored()
            .iter()
            .any(|one| matches!(one, table::Stored::Other(raw) if **raw == optional))
    };
    assert!(kept(&directory));
    let mut image = disk.images[0].clone();
    let removal = RawRecord { flags: FLAG_OPTIONAL | FLAG_REMOVE, payload: Vec::new(), ..optional.clone() };
    append_raw(&mut image, &directory.log, &removal);
    assert!(!kept(&reopen(image).unwrap()));

    let good = disk.images[0].clone();
    for (kind, version, flags) in
        [(900, 3, 0), (KIND_VOLUME, 3, 0), (KIND_SNAPSHOT, 3, 0), (KIND_VOLUME, 1, 4), (900, 3, FLAG_REMOVE)]
    {
        let mut image = good.clone();
        append_raw(&mut image, &directory.log, &RawRecord { kind, version, flags, ..optional.clone() });
        assert_eq!(reopen(image).unwrap_err(), DirectoryFault::UnknownRecord { kind, version });
    }
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused() {
    let (disk, directory) = with_volumes(4);
    let start = usize::try_from(layout().directory().halves[directory.log.half]).unwrap();
    let tail = start + directory.log.tail as usize;
    let frames: Vec<usize> = (start + FRAMES_OFFSET as usize..tail)
        .step_by(512)
        .filter(|&at| FrameHeader::parse(&disk.images[0][at..], &POOL).is_some())
        .collect();
    assert_eq!(frames.len(), 4);
    for (number, &at) in frames.iter().enumerate() {
        for within in [0, 20, 70] {
            let mut image = disk.images[0].clone();
            image[at + within] ^= 1;
            let outcome = reopen(image).map(|directory| directory.volumes().len());
            // The last frame cannot be told from one that was torn.
            if number < 3 {
                let offset = u32::try_from(at - start).unwrap();
                let half = directory.log.half;
                assert_eq!(outcome, Err(DirectoryFault::Damaged { half, offset, what: Damage::Frame }));
            } else {
                assert_eq!(outcome, Ok(3));
            }
        }
    }
}

#[test]
fn damage_in_a_snapshot_or_a_header_is_refused() {
    let (mut disk, mut directory) = with_volumes(2);
    while directory.stats().compactions < 1 {
        directory.note_cntlid(7, 0);
        settle(&mut directory, &mut disk);
    }
    let start = usize::try_from(layout().directory().halves[1]).unwrap();
    let mut image = disk.images[0].clone();
    image[start + FRAMES_OFFSET as usize + 100] ^= 1;
    let what = Damage::Snapshot;
    assert_eq!(reopen(image).unwrap_err(), DirectoryFault::Damaged { half: 1, offset: FRAMES_OFFSET, what });
    for (half, offset) in layout().directory().halves.into_iter().enumerate() {
        let mut image = disk.images[0].clone();
        image[usize::try_from(offset).unwrap() + 16] ^= 1;
        let what = Damage::Header;
        assert_eq!(reopen(image).unwrap_err(), DirectoryFault::Damaged { half, offset: 0, what });
    }
    let mut image = disk.images[0].clone();
    let retired = HalfHeader { state: HalfState::Retired, generation: 9, snapshot_end: FRAMES_OFFSET };
    image[start..start + 4096].copy_from_slice(&retired.encode(&POOL));
    let what = Damage::NoLiveHalf;
    assert_eq!(reopen(image).unwrap_err(), DirectoryFault::Damaged { half: 0, offset: 0, what });
}

#[test]
fn drives_with_large_blocks_work_alike() {
    let layout =
        Layout::new(*layout().identity(), Geometry { block_bytes: 4096, ..layout().geometry().clone() })
            .unwrap();
    let mut disk = MemoryDisk::from_images(vec![fresh_image()]);
    disk.block_bytes = 4096;
    let mut directory = open_as(&layout, &mut disk).unwrap();
    for tag in 0..5 {
        let record = volume(&mut directory, &format!("v{tag}"), 3000);
        directory.put_volume(record, tag);
        assert_eq!(settle(&mut directory, &mut disk), [done(tag)]);
    }
    while directory.stats().compactions < 2 {
        directory.remove_volume(VolumeId(99), 1);
        directory.note_cntlid(65, 2);
        assert_eq!(settle(&mut directory, &mut disk), [refused(1, DirectoryError::NotFound), done(2)]);
    }
    assert_eq!(names(&open_as(&layout, &mut disk).unwrap()), ["v0", "v1", "v2", "v3", "v4"]);
}

#[test]
fn no_bytes_on_the_drive_make_recovery_panic() {
    let mut rng = Rng::from_env(0xB1);
    let (mut disk, mut directory) = with_volumes(5);
    while directory.stats().compactions < 1 {
        directory.note_cntlid(7, 0);
        settle(&mut directory, &mut disk);
    }
    let start = usize::try_from(layout().directory().halves[1]).unwrap();
    for _ in 0..300 {
        // Bytes changed at random, where there is something.
        let mut image = disk.images[0].clone();
        for _ in 0..=rng.below(3) {
            let at = start + [rng.below(64), FRAMES_OFFSET as usize + rng.below(4096)][rng.below(2)];
            image[at] = u8::try_from(rng.below(256)).unwrap();
        }
        let _ = reopen(image);
        // Records that make no sense, in frames whose checksums are right.
        let mut image = disk.images[0].clone();
        let mut record = directory.volumes().next().unwrap().to_raw();
        record.kind = [KIND_VOLUME, record::KIND_MARKS, 900][rng.below(3)];
        record.version = u16::try_from(rng.below(3)).unwrap();
        record.flags = u16::try_from(rng.below(5)).unwrap();
        record.key = rng.next() >> rng.below(64);
        record.payload.truncate(rng.below(200));
        for _ in 0..rng.below(8).min(record.payload.len()) {
            let at = rng.below(record.payload.len());
            record.payload[at] = u8::try_from(rng.below(256)).unwrap();
        }
        append_raw(&mut image, &directory.log, &record);
        let _ = reopen(image);
    }
}

#[test]
fn an_unreadable_directory_is_refused_with_the_drives_error() {
    let (disk, _) = with_volumes(1);
    for offset in [0, 4096] {
        let mut disk = MemoryDisk::from_images(disk.images.clone());
        disk.unreadable = vec![(0, (1 << 20) + offset)];
        assert!(matches!(open(&mut disk), Err(DirectoryFault::Disk(_))));
    }
}
