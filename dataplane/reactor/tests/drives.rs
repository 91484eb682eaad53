//! Drives are refused for a clear reason, made whole, and locked for as long as anything is written to them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use io::{Disk, DriveId, Event, Io, Token};
use reactor::{DriveErrorKind, DriveKind, DriveSet, DriveSpec, Features, Fill};
use support::{Scratch, config, patterned, single};

fn refusal(spec: DriveSpec) -> (DriveErrorKind, String) {
    let error = DriveSet::open(&[spec]).unwrap_err();
    let text = error.to_string();
    (error.kind, text)
}

#[test]
fn what_cannot_be_a_drive_is_refused_with_what_to_do() {
    let scratch = Scratch::new("drives-refused");
    let (kind, text) = refusal(DriveSpec::existing(scratch.path("nowhere")));
    assert!(matches!(kind, DriveErrorKind::Missing), "{text}");
    assert!(text.contains("PATH:SIZE"));
    let (kind, _) = refusal(DriveSpec::existing(scratch.path("")));
    assert!(matches!(kind, DriveErrorKind::Directory));
    let (kind, _) = refusal(DriveSpec::existing("/dev/null"));
    assert!(matches!(kind, DriveErrorKind::NotADrive));
    let (kind, text) = refusal(DriveSpec::sized(scratch.path("no/such/file"), 1 << 20, Fill::Sparse));
    assert!(matches!(kind, DriveErrorKind::FolderMissing { .. }), "{text}");
    let (kind, _) = refusal(DriveSpec::sized(scratch.path("small"), 4096, Fill::Sparse));
    assert!(matches!(kind, DriveErrorKind::TooSmall { size_bytes: 4096, .. }));
    let (kind, _) = refusal(DriveSpec::sized(scratch.path("odd"), (2 << 20) + 512, Fill::Sparse));
    assert!(matches!(kind, DriveErrorKind::OddSize { block_bytes: 4096, .. }));
    // A file system without an end, like tmpfs, may take it.
    if let Err(error) = DriveSet::open(&[DriveSpec::sized(scratch.path("huge"), 1 << 60, Fill::Sparse)]) {
        assert!(matches!(error.kind, DriveErrorKind::NoRoom { .. }), "{error}");
        assert!(!scratch.path("huge").exists());
        assert!(!scratch.path("huge.partial").exists());
    }

    std::fs::write(scratch.path("tiny"), b"x").unwrap();
    let (kind, _) = refusal(DriveSpec::existing(scratch.path("tiny")));
    assert!(matches!(kind, DriveErrorKind::TooSmall { size_bytes: 1, .. }));
    std::fs::write(scratch.path("uneven"), vec![0; (1 << 20) + 100]).unwrap();
    let (kind, _) = refusal(DriveSpec::existing(scratch.path("uneven")));
    assert!(matches!(kind, DriveErrorKind::OddSize { .. }));
    std::fs::write(scratch.path("other"), vec![0; 1 << 20]).unwrap();
    let (kind, _) = refusal(DriveSpec::sized(scratch.path("other"), 2 << 20, Fill::Sparse));
    assert!(matches!(kind, DriveErrorKind::SizeDiffers { actual_bytes: 1_048_576, wanted_bytes: 2_097_152 }));
}

#[test]
fn a_drive_named_twice_in_one_pool_is_refused() {
    let scratch = Scratch::new("drives-twice");
    let spec = DriveSpec::sized(scratch.path("a"), 1 << 20, Fill::Sparse);
    let link = scratch.path("link");
    drop(DriveSet::open(std::slice::from_ref(&spec)).unwrap());
    std::os::unix::fs::symlink(scratch.path("a"), &link).unwrap();
    let error = DriveSet::open(&[spec, DriveSpec::existing(link)]).unwrap_err();
    assert!(matches!(error.kind, DriveErrorKind::Twice), "{error}");
}

#[test]
fn a_pool_file_is_written_in_full_and_kept_when_it_is_opened_again() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new("drives-made");
    let spec = DriveSpec::sized(scratch.path("pool"), (9 << 20) + 4096, Fill::Written);
    // What an attempt left that was interrupted does no harm.
    std::fs::write(scratch.path("pool.partial"), vec![7; 20 << 20]).unwrap();
    let drives = DriveSet::open(std::slice::from_ref(&spec)).unwrap();
    let metadata = std::fs::metadata(scratch.path("pool")).unwrap();
    assert_eq!(metadata.len(), (9 << 20) + 4096);
    assert!(metadata.blocks() * 512 >= metadata.len());
    assert!(!scratch.path("pool.partial").exists());
    assert!(std::fs::read(scratch.path("pool")).unwrap().iter().all(|byte| *byte == 0));
    let shape = drives.drive(DriveId(0)).unwrap().shape();
    assert!(shape.volatile_cache, "a file is durable only after a flush");
    assert!([512, 4096].contains(&shape.block_bytes));
    drop(drives);
    std::fs::write(scratch.path("pool"), vec![3; (9 << 20) + 4096]).unwrap();
    drop(DriveSet::open(&[spec]).unwrap());
    assert!(std::fs::read(scratch.path("pool")).unwrap().iter().all(|byte| *byte == 3));
}

#[test]
fn a_file_system_without_direct_io_still_works() {
    // tmpfs of older kernels has no O_DIRECT; on newer ones this is a plain run.
    let path = std::path::Path::new("/dev/shm").join(format!("reactor-drive-{}", std::process::id()));
    let drives = DriveSet::open(&[DriveSpec::sized(&path, 2 << 20, Fill::Written)]).unwrap();
    let mut reactor = single(&config(Features::all(), drives));
    let buffer = patterned(&mut reactor, 8192, 1);
    reactor.write(Token(1), DriveId(0), 4096, buffer, 8192);
    let result = support::until(&mut reactor, |_, event| match event {
        Event::Written { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(result, Ok(()));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_pool_can_be_opened_again_as_soon_as_its_reactors_have_ended() {
    let scratch = Scratch::new("drives-again");
    for features in [Features::all(), Features::none()] {
        for round in 0..20 {
            let before = Instant::now();
            let drives = scratch.drives(2, 2);
            assert!(before.elapsed() < Duration::from_secs(1), "{:?} in round {round}", before.elapsed());
            let mut reactor = single(&config(features, drives));
            let buffer = patterned(&mut reactor, 4096, 1);
            reactor.write(Token(1), DriveId(1), 0, buffer, 4096);
            // It is under way when the reactor ends.
            reactor.poll(Some(io::Clock::now(&reactor)), &mut Vec::new()).unwrap();
        }
    }
}

/// A loop device over a file, where this user may make one.
struct Loop(std::path::PathBuf);

impl Loop {
    fn new(file: &std::path::Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        made.status.success().then(|| Self(String::from_utf8_lossy(&made.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_is_used_whole_and_claimed() {
    let scratch = Scratch::new("drives-block");
    std::fs::write(scratch.path("disk"), vec![0; (4 << 20) + 512]).unwrap();
    let Some(device) = Loop::new(&scratch.path("disk")) else {
        println!("no loop device can be made here; nothing is tested");
        return;
    };
    let spec = DriveSpec::existing(&device.0);
    let drives = DriveSet::open(std::slice::from_ref(&spec)).unwrap();
    let drive = drives.drive(DriveId(0)).unwrap();
    assert_eq!(drive.kind(), DriveKind::BlockDevice);
    let shape = drive.shape();
    assert!(shape.size_bytes >= 4 << 20 && shape.size_bytes.is_multiple_of(u64::from(shape.block_bytes)));
    let (kind, text) = refusal(spec.clone());
    assert!(matches!(kind, DriveErrorKind::InUse { .. }), "{text}");
    let mut reactor = single(&config(Features::all(), drives));
    let buffer = patterned(&mut reactor, 8192, 9);
    reactor.write(Token(1), DriveId(0), 4096, buffer, 8192);
    let result = support::until(&mut reactor, |_, event| match event {
        Event::Written { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(result, Ok(()));
    reactor.flush(Token(2), DriveId(0));
    let result = support::until(&mut reactor, |_, event| match event {
        Event::Flushed { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(result, Ok(()));
    drop(reactor);
    let written = std::fs::read(scratch.path("disk")).unwrap();
    assert!(written[4096..4096 + 8192].iter().copied().eq(support::pattern(9).take(8192)));
    drop(DriveSet::open(&[spec]).unwrap());
}

const CHILD: &str = "REACTOR_TEST_CHILD_DRIVE";

/// Runs in a process of its own, when told so: opens the drive, writes without end.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let drives = DriveSet::open(&[DriveSpec::existing(path)]).unwrap();
    let mut reactor = single(&config(Features::all(), drives));
    for number in 0..8_u64 {
        let buffer = patterned(&mut reactor, 1 << 20, number as u8);
        reactor.write(Token(number), DriveId(0), number << 20, buffer, 1 << 20);
    }
    println!("writing");
    let mut events = Vec::new();
    loop {
        reactor.poll(None, &mut events).unwrap();
        for event in events.drain(..) {
            if let Event::Written { token, buffer, result } = event {
                result.unwrap();
                reactor.write(token, DriveId(0), token.0 << 20, buffer, 1 << 20);
            }
        }
    }
}

fn start_child(path: &std::path::Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("writing")), "the child did not start");
    child
}

#[test]
fn a_second_server_is_refused_by_name_while_the_first_lives_and_let_in_at_once_when_it_was_killed() {
    let scratch = Scratch::new("drives-lock");
    let path = scratch.path("pool");
    drop(DriveSet::open(&[DriveSpec::sized(&path, 8 << 20, Fill::Written)]).unwrap());
    let mut child = start_child(&path);
    let (kind, text) = refusal(DriveSpec::existing(&path));
    assert!(matches!(kind, DriveErrorKind::InUse { holder: Some(pid) } if pid == child.id()), "{text}");
    assert!(text.contains(&format!("process {}", child.id())));
    for _ in 0..5 {
        child.kill().unwrap();
        // Nobody has waited for the child yet: it may still be dying, or be a zombie.
        let before = Instant::now();
        let drives = DriveSet::open(&[DriveSpec::existing(&path)]).unwrap();
        assert!(before.elapsed() < Duration::from_secs(10));
        // Whatever the child had under way has landed: the bytes do not change any more.
        let first = std::fs::read(&path).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(first == std::fs::read(&path).unwrap());
        drop(drives);
        child.wait().unwrap();
        child = start_child(&path);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
