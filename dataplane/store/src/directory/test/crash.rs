//! Power cuts. See the goal and method one level up.

use std::collections::BTreeMap;

use super::*;
use crate::memory_disk::{Entry, PowerCuts, Rng};

/// Volumes by id, with all that was stored of them.
type State = BTreeMap<u64, VolumeRecord>;

/// A history: the journal of the drive, with a note of its length of `states` after each answer.
struct History {
    first: Vec<u8>,
    journal: Vec<Entry>,
    /// The state before any change, and after each change, in the order in which they were asked for.
    states: Vec<State>,
}

fn state(directory: &Directory) -> State {
    directory.volumes().map(|volume| (volume.id.0, (**volume).clone())).collect()
}

/// Makes `changes` random changes, in groups, with records long enough for a compaction every few groups.
fn history(image: Vec<u8>, changes: usize, rng: &mut Rng) -> History {
    let mut disk = MemoryDisk::from_images(vec![image.clone()]);
    let mut directory = open(&mut disk).unwrap();
    let mut now = state(&directory);
    let mut states = vec![now.clone()];
    let mut acknowledged = 0;
    while states.len() <= changes {
        for _ in 0..=rng.below(3) {
            change(&mut directory, &mut now, rng, states.len());
            states.push(now.clone());
        }
        for output in settle_noting(&mut directory, &mut disk, acknowledged) {
            assert!(matches!(output, Output::Done { result: Ok(()), .. }), "{output:?}");
            acknowledged += 1;
        }
        disk.journal.push(Entry::Note(acknowledged));
    }
    assert_eq!(state(&directory), now);
    History { first: image, journal: disk.journal, states }
}

fn change(directory: &mut Directory, now: &mut State, rng: &mut Rng, number: usize) {
    let tag = number as u64;
    let ids: Vec<u64> = now.keys().copied().collect();
    let choice = rng.below(10);
    if ids.len() < 3 || (choice < 4 && ids.len() < 10) {
        let attributes = rng.below(9000);
        let mut record = volume(directory, "", attributes);
        record.name = format!("v{}", record.id.0);
        now.insert(record.id.0, record.clone());
        directory.put_volume(record, tag);
    } else if choice < 8 {
        let record = now.get_mut(&ids[rng.below(ids.len())]).unwrap();
        record.revision += 1;
        record.attributes = "y".repeat(rng.below(9000));
        directory.put_volume(record.clone(), tag);
    } else {
        let id = ids[rng.below(ids.len())];
        now.remove(&id);
        directory.remove_volume(VolumeId(id), tag);
    }
}

/// Like `settle`, and notes in the journal how many changes have been answered as soon as they are.
fn settle_noting(directory: &mut Directory, disk: &mut MemoryDisk, mut acknowledged: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        directory.run(disk);
        match disk.events.pop_front() {
            Some(TestEvent::Written(token, buffer, result)) => {
                directory.handle_written(token, buffer, result)
            }
            Some(TestEvent::Flushed(token, result)) => directory.handle_flushed(token, result),
            Some(TestEvent::Read(..)) => unreachable!("only recovery reads"),
            None => return outputs,
        }
        let before = outputs.len();
        outputs.extend(std::iter::from_fn(|| directory.poll_output()));
        acknowledged += outputs.len() - before;
        disk.journal.push(Entry::Note(acknowledged));
    }
}

/// Cuts the power after every entry; `then` sees each image that may be left with the states it may hold.
fn cut_everywhere(
    history: &History,
    random: usize,
    rng: &mut Rng,
    mut then: impl FnMut(Vec<u8>, &[State], &mut Rng),
) {
    let mut cuts = PowerCuts::new(vec![history.first.clone()]);
    let mut acknowledged = 0;
    for entry in &history.journal {
        cuts.apply(entry);
        if let Entry::Note(count) = entry {
            acknowledged = *count;
            continue;
        }
        for mut images in cuts.images(random, rng) {
            then(images.remove(0), &history.states[acknowledged..], rng);
        }
    }
}

fn recovered(image: Vec<u8>, allowed: &[State]) -> (MemoryDisk, Directory) {
    let mut disk = MemoryDisk::from_images(vec![image]);
    let directory = open(&mut disk).expect("no power cut damages the directory");
    let state = state(&directory);
    assert!(allowed.contains(&state), "recovered {:?}", state.keys());
    let ids = directory.volumes().map(|volume| volume.id.0).max().unwrap_or(0);
    assert!(directory.marks.clone().allocate_volume().0 > ids);
    (disk, directory)
}

#[test]
fn no_power_cut_loses_an_answered_change_or_shows_half_of_one() {
    let mut rng = Rng::from_env(0xD1);
    let history = history(fresh_image(), 160, &mut rng);
    let headers = history
        .journal
        .iter()
        .filter(|entry| matches!(entry, Entry::Write { offset, .. } if offset.is_multiple_of(1 << 18)));
    assert!(headers.count() >= 6, "several compactions are among the cuts");
    cut_everywhere(&history, 3, &mut rng, |image, allowed, _| {
        recovered(image, allowed);
    });
}

#[test]
fn a_second_power_cut_during_recovery_or_soon_after_loses_nothing_either() {
    let mut rng = Rng::from_env(0xD2);
    let first = history(fresh_image(), 80, &mut rng);
    cut_everywhere(&first, 1, &mut rng, |image, allowed, rng| {
        if rng.below(8) > 0 {
            return;
        }
        // The recovery itself, cut at every step.
        let (mut disk, _) = recovered(image.clone(), allowed);
        let mut cuts = PowerCuts::new(vec![image]);
        for entry in std::mem::take(&mut disk.journal) {
            cuts.apply(&entry);
            for mut images in cuts.images(1, rng) {
                recovered(images.remove(0), allowed);
            }
        }
        // A little more history, cut at every step.
        let second = history(disk.images.remove(0), 12, rng);
        cut_everywhere(&second, 1, rng, |image, allowed, _| {
            recovered(image, allowed);
        });
    });
}

#[test]
fn a_killed_servers_last_frame_is_durable_before_it_is_shown() {
    // The frame was written and not flushed; the drive's cache still has it when the next server reads.
    let (mut disk, mut directory) = with_volumes(1);
    let before = disk.images.clone();
    disk.journal.clear();
    let record = volume(&mut directory, "v2", 0);
    directory.put_volume(record, 2);
    directory.run(&mut disk);
    let mut cuts = PowerCuts::new(before);
    cuts.apply(&disk.journal[0]);
    disk.journal.clear();
    disk.events.clear();
    let second = open(&mut disk).unwrap();
    assert_eq!(second.volumes().len(), 2);
    for entry in &disk.journal {
        cuts.apply(entry);
    }
    for mut images in cuts.images(4, &mut Rng::from_env(0xD3)) {
        assert_eq!(reopen(images.remove(0)).unwrap().volumes().len(), 2);
    }
}

#[test]
fn a_killed_servers_compaction_is_durable_before_the_old_half_is_retired() {
    let mut rng = Rng::from_env(0xD4);
    let history = history(fresh_image(), 100, &mut rng);
    let mut cuts = PowerCuts::new(vec![history.first.clone()]);
    let mut image = history.first.clone();
    let mut acknowledged = 0;
    for entry in &history.journal {
        cuts.apply(entry);
        match entry {
            Entry::Write { offset, bytes, .. } => image[*offset..offset + bytes.len()].copy_from_slice(bytes),
            Entry::Note(count) => acknowledged = *count,
            Entry::Flush { .. } => {}
        }
        if !matches!(entry, Entry::Write { offset, .. } if offset.is_multiple_of(1 << 18)) {
            continue;
        }
        // Killed here: the next server sees every write, and the power goes while it recovers.
        let (next, _) = recovered(image.clone(), &history.states[acknowledged..]);
        let mut later = cuts.clone();
        for entry in &next.journal {
            later.apply(entry);
            for mut images in later.images(2, &mut rng) {
                recovered(images.remove(0), &history.states[acknowledged..]);
            }
        }
    }
}

#[test]
fn an_abandoned_snapshot_is_no_part_of_a_later_shorter_one() {
    // Snapshots of several frames; after the cut most volumes go, so that the next snapshot ends inside the old.
    let layout = layout_with(2 << 20, 6 << 20);
    let mut disk = MemoryDisk::from_images(vec![fresh_image_of(&layout)]);
    let mut directory = open_as(&layout, &mut disk).unwrap();
    for tag in 0..56 {
        let record = volume(&mut directory, &format!("v{tag}"), ATTRIBUTES_BYTES_MAX);
        directory.put_volume(record, tag);
    }
    settle(&mut directory, &mut disk);
    let mut before = Vec::new();
    while directory.stats().compactions == 0 {
        disk.journal.clear();
        before.clone_from(&disk.images);
        let old = directory.volume(VolumeId(56)).unwrap();
        directory.put_volume(VolumeRecord { revision: old.revision + 1, ..(**old).clone() }, 0);
        settle(&mut directory, &mut disk);
    }
    assert!(disk.journal.iter().filter(|entry| matches!(entry, Entry::Write { .. })).count() >= 7);
    let mut rng = Rng::from_env(0xD5);
    let mut cuts = PowerCuts::new(before);
    for entry in &disk.journal {
        cuts.apply(entry);
        for images in cuts.images(1, &mut rng) {
            let mut disk = MemoryDisk::from_images(images);
            let mut directory = open_as(&layout, &mut disk).unwrap();
            assert_eq!(directory.volumes().len(), 56);
            for id in 4..=56 {
                directory.remove_volume(VolumeId(id), 0);
            }
            settle(&mut directory, &mut disk);
            while directory.stats().compactions == 0 {
                for _ in 0..8 {
                    let old = directory.volume(VolumeId(1)).unwrap();
                    directory.put_volume((**old).clone(), 0);
                }
                settle(&mut directory, &mut disk);
            }
            assert_eq!(names(&open_as(&layout, &mut disk).unwrap()), ["v0", "v1", "v2"]);
        }
    }
}
