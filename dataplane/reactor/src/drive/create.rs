//! Makes a pool file: under a temporary name until it is complete, so that a crash leaves nothing that looks like one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::open::{open_direct, system};
use super::{DRIVE_BYTES_MIN, DriveErrorKind, Fill, lock};

/// Pool files are made in multiples of this, the largest block that a drive may have.
const SIZE_STEP: u32 = 4096;
const WRITE_BYTES: usize = 4 << 20;

/// Makes the file and returns it open, locked and in place; `None` when another server made it first.
pub(super) fn create(
    path: &Path,
    size_bytes: u64,
    fill: Fill,
) -> Result<Option<(File, bool)>, DriveErrorKind> {
    if size_bytes < DRIVE_BYTES_MIN {
        return Err(DriveErrorKind::TooSmall { size_bytes, least_bytes: DRIVE_BYTES_MIN });
    }
    if !size_bytes.is_multiple_of(u64::from(SIZE_STEP)) {
        return Err(DriveErrorKind::OddSize { size_bytes, block_bytes: SIZE_STEP });
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(DriveErrorKind::FolderMissing { folder });
    }
    let partial = partial_of(path);
    let (file, direct) =
        open_direct(OpenOptions::new().read(true).write(true).create(true).truncate(false), &partial, 0)
            .map_err(|e| system("make it", e))?;
    let metadata = file.metadata().map_err(|e| system("look at it", e))?;
    lock::lock(&file, &metadata)?;
    // Whoever held the lock on an earlier file of this name has put it in place by now, or has died.
    if path.exists() {
        remove(&partial);
        return Ok(None);
    }
    if let Err(error) = fill_file(&file, path, size_bytes, fill) {
        remove(&partial);
        return Err(match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => DriveErrorKind::NoRoom { size_bytes },
            _ => system("write it", error),
        });
    }
    std::fs::rename(&partial, path).map_err(|e| system("put it in place", e))?;
    // The name must outlive a power cut as well as the bytes.
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|e| system("sync its folder", e))?;
    Ok(Some((file, direct)))
}

fn fill_file(file: &File, path: &Path, size_bytes: u64, fill: Fill) -> std::io::Result<()> {
    // What an earlier attempt left is dropped, so that no byte of it can be mistaken for ours.
    file.set_len(0)?;
    file.set_len(size_bytes)?;
    if fill == Fill::Written {
        write_zeroes(file, path, size_bytes)?;
    }
    file.sync_all()
}

fn write_zeroes(file: &File, path: &Path, size_bytes: u64) -> std::io::Result<()> {
    // O_DIRECT wants aligned memory, which a vector of bytes has only somewhere inside.
    let memory = vec![0_u8; WRITE_BYTES + SIZE_STEP as usize];
    let zeroes = &memory[memory.as_ptr().align_offset(SIZE_STEP as usize)..][..WRITE_BYTES];
    let mut done = 0;
    let mut told = 0;
    while done < size_bytes {
        let len = (size_bytes - done).min(WRITE_BYTES as u64);
        let piece = &zeroes[..usize::try_from(len).unwrap_or(WRITE_BYTES)];
        file.write_all_at(piece, done)?;
        done += len;
        let tenth = done * 10 / size_bytes;
        if tenth > told {
            told = tenth;
            tracing::info!(path = %path.display(), percent = tenth * 10, "writing the pool file");
        }
    }
    Ok(())
}

fn remove(partial: &Path) {
    if let Err(error) = std::fs::remove_file(partial)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %partial.display(), %error, "cannot remove an unfinished pool file");
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".partial");
    path.with_file_name(name)
}
