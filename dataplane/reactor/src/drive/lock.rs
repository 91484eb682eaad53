//! The lock on a drive: `flock` on the open file that does the I/O, with the holder's name where it is refused.

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::DriveErrorKind;
use super::open::system;

/// A server that was just told to die may be given this long before it counts as alive.
const PATIENCE_ALIVE: Duration = Duration::from_secs(2);
/// A dead server's operations may take this long to land.
const PATIENCE_DYING: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// `PF_EXITING` of the kernel's task flags, as field 9 of /proc/PID/stat has them.
const TASK_EXITING: u64 = 0x4;

/// Takes the lock, waiting for a killed server's last operations.
pub(super) fn lock(file: &File, metadata: &Metadata) -> Result<(), DriveErrorKind> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(system("lock it", error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = holder(metadata);
        let patience = if holder.is_some_and(is_alive) { PATIENCE_ALIVE } else { PATIENCE_DYING };
        if started.elapsed() >= patience {
            return Err(DriveErrorKind::InUse { holder });
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// Repeats an open that the kernel refuses as busy while a killed server still has the device.
pub(super) fn patiently<T>(
    path: &Path,
    metadata: &Metadata,
    mut open: impl FnMut() -> std::io::Result<T>,
) -> Result<T, DriveErrorKind> {
    let started = Instant::now();
    loop {
        match open() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if started.elapsed() >= PATIENCE_ALIVE {
                    tracing::debug!(path = %path.display(), "the device stays busy");
                    return Err(DriveErrorKind::InUse { holder: holder(metadata) });
                }
                std::thread::sleep(RETRY_EVERY);
            }
            other => return other.map_err(|error| system("open it", error)),
        }
    }
}

/// The process that holds a `flock` on the file, as /proc/locks has it.
fn holder(metadata: &Metadata) -> Option<u32> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let file =
        format!("{:02x}:{:02x}:{}", libc::major(metadata.dev()), libc::minor(metadata.dev()), metadata.ino());
    holder_in(&locks, &file)
}

/// Finds the line `N: FLOCK ADVISORY WRITE PID DEVICE:INODE 0 EOF`.
fn holder_in(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let kind = fields.nth(1)?;
        let pid = fields.nth(2)?;
        let place = fields.next()?;
        // A process of another PID namespace is shown as 0.
        (kind == "FLOCK" && place == file).then(|| pid.parse().ok()).flatten().filter(|pid| *pid > 0)
    })
}

/// False for a process that is gone, a zombie, or on its way out.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_alive_in(&stat))
}

/// Reads the state and the flags behind the command name, which ends with the last closing parenthesis.
fn is_alive_in(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_whitespace();
    let state = fields.next().unwrap_or("X");
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    !matches!(state, "Z" | "X") && flags & TASK_EXITING == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 fe:00:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 fe:00:43 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:00:42"), Some(4711));
        assert_eq!(holder_in(locks, "fe:00:43"), None);
        assert_eq!(holder_in(locks, "fe:00:4"), None);
    }

    #[test]
    fn a_zombie_and_an_exiting_process_are_not_alive() {
        assert!(is_alive_in("7 (a b) c) S 1 7 7 0 -1 4194304 9"));
        assert!(!is_alive_in("7 (server) Z 1 7 7 0 -1 4194304 9"));
        assert!(!is_alive_in("7 (server) R 1 7 7 0 -1 4194308 9"));
        assert!(is_alive(std::process::id()));
    }
}
