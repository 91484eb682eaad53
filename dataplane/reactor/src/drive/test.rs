//! Goal: the set grows at its end alone, and every reactor hears of a flush that failed.

use super::*;

#[test]
fn a_drive_is_added_once_if_it_is_blank_and_large_enough() {
    let folder = std::env::temp_dir().join(format!("ferrule-add-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let spec = |name: &str, bytes: u64| DriveSpec::sized(folder.join(name), bytes, Fill::Sparse);
    let drives = DriveSet::open(&[spec("first", 1 << 20)]).unwrap();
    let reactor = drives.of_reactor().unwrap();
    let added = spec("added", ADDED_BYTES_MIN);
    assert!(matches!(drives.add(&spec("small", 1 << 20)).unwrap_err().kind, DriveErrorKind::TooSmall { .. }));
    let used = spec("used", ADDED_BYTES_MIN);
    drop(DriveSet::open(std::slice::from_ref(&used)).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(&used.path).unwrap();
    file.write_all_at(&[1], ADDED_BYTES_MIN - 1).unwrap();
    assert!(matches!(drives.add(&used).unwrap_err().kind, DriveErrorKind::NotBlank { .. }));
    assert_eq!(drives.add(&added).unwrap(), DriveId(1));
    for again in [spec("first", 1 << 20), added] {
        assert!(matches!(drives.add(&again).unwrap_err().kind, DriveErrorKind::Twice));
    }
    assert_eq!((drives.len(), reactor.len()), (2, 2));
    assert!(reactor.is_added(DriveId(1)) && !reactor.is_added(DriveId(0)));
    assert!(reactor.flushed_by(DriveId(1)).unwrap().try_lock().is_err(), "an open file of its own");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_next_drive_has_the_number_of_one_that_was_withdrawn_which_can_come_back() {
    let folder = std::env::temp_dir().join(format!("ferrule-withdraw-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let spec = |name: &str| DriveSpec::sized(folder.join(name), ADDED_BYTES_MIN, Fill::Sparse);
    let drives = DriveSet::open(&[spec("first")]).unwrap();
    let reactor = drives.of_reactor().unwrap();
    let path = |number| reactor.drive(DriveId(number)).map(|drive| drive.path().to_owned());
    let bad = drives.add(&spec("bad")).unwrap();
    assert!(reactor.flushed_by(bad).is_some());
    drives.withdraw(bad);
    assert_eq!((reactor.len(), path(1)), (1, None));
    assert_eq!(drives.add(&spec("bad")).unwrap(), bad, "nothing was written");
    // Its superblock was.
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("bad")).unwrap();
    file.write_all_at(&[1], 4096).unwrap();
    drives.withdraw(bad);
    assert_eq!(drives.add(&spec("good")).unwrap(), bad);
    assert_eq!((reactor.len(), path(1)), (2, Some(folder.join("good"))));
    let (own, file) = (reactor.flushed_by(bad).unwrap(), reactor.drive(bad).unwrap().file());
    let inode = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    assert_eq!(inode(own), inode(file), "it is flushed by a file of its own");
    assert!(matches!(drives.add(&spec("bad")).unwrap_err().kind, DriveErrorKind::HalfJoined));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_reactor_flushes_through_an_open_file_of_its_own() {
    let path = std::env::temp_dir().join(format!("ferrule-flush-{}", std::process::id()));
    let drives = DriveSet::open(&[DriveSpec::sized(&path, 1 << 20, Fill::Sparse)]).unwrap();
    let reactors = [drives.of_reactor().unwrap(), drives.of_reactor().unwrap()];
    // The lock belongs to the open file that does the I/O: another is refused, and its end does not end the lock.
    for reactor in &reactors {
        assert!(reactor.flushed_by(DriveId(0)).unwrap().try_lock().is_err());
    }
    drop(reactors);
    assert!(DriveSet::open(&[DriveSpec::existing(&path)]).is_err());
    assert!(drives.flushed_by(DriveId(0)).unwrap().try_lock().is_ok());
    std::fs::remove_file(path).unwrap();
}
