//! Opens one drive: kind, flags, lock, size, in that order.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{DRIVE_BYTES_MIN, Drive, DriveErrorKind, DriveKind, DriveSet, DriveSpec, create, lock, shape};

/// Opens what `spec` names, which is none of `earlier`.
pub(super) fn open(spec: &DriveSpec, earlier: &DriveSet) -> Result<Drive, DriveErrorKind> {
    let (file, direct, kind) = match std::fs::metadata(&spec.path) {
        Ok(metadata) => open_existing(&spec.path, &metadata, earlier)?,
        Err(error) if error.kind() == ErrorKind::NotFound => match spec.size_bytes {
            None => return Err(DriveErrorKind::Missing),
            Some(size_bytes) => match create::create(&spec.path, size_bytes, spec.fill)? {
                Some((file, direct)) => (file, direct, DriveKind::File),
                // Another server made it between the look and the making.
                None => {
                    let metadata = std::fs::metadata(&spec.path).map_err(|e| system("look at it", e))?;
                    open_existing(&spec.path, &metadata, earlier)?
                }
            },
        },
        Err(error) => return Err(system("look at it", error)),
    };
    finish(spec, file, direct, kind)
}

/// Opens a file for reading and writing around the page cache, or through it where the file system has no other way;
/// the flag says which.
pub(super) fn open_direct(
    options: &mut OpenOptions,
    path: &Path,
    flags: i32,
) -> std::io::Result<(File, bool)> {
    match options.custom_flags(libc::O_DIRECT | flags).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let file = options.custom_flags(flags).open(path)?;
            tracing::warn!(
                path = %path.display(),
                "the file system has no O_DIRECT; the page cache is used, which costs memory and speed: put the pool on ext4, XFS or a block device"
            );
            Ok((file, false))
        }
        Err(error) => Err(error),
    }
}

/// Opens once more what is open as `file`, whatever its path names by now; without /proc what its path names.
pub(super) fn again(file: &File, path: &Path) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    options.open(own).or_else(|_| options.open(path))
}

/// Gives an error of the system its kind.
pub(super) fn system(action: &'static str, source: std::io::Error) -> DriveErrorKind {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => DriveErrorKind::Denied,
        Some(libc::EBUSY) => DriveErrorKind::InUse { holder: None },
        Some(libc::EROFS) => DriveErrorKind::ReadOnly,
        Some(libc::EISDIR) => DriveErrorKind::Directory,
        _ => DriveErrorKind::System { action, source },
    }
}

fn open_existing(
    path: &Path,
    metadata: &std::fs::Metadata,
    earlier: &DriveSet,
) -> Result<(File, bool, DriveKind), DriveErrorKind> {
    let file_type = metadata.file_type();
    let (kind, flags) = if file_type.is_block_device() {
        // With O_EXCL a device that is mounted, or that another server has, is refused by the kernel.
        (DriveKind::BlockDevice, libc::O_EXCL)
    } else if file_type.is_file() {
        (DriveKind::File, 0)
    } else if file_type.is_dir() {
        return Err(DriveErrorKind::Directory);
    } else {
        return Err(DriveErrorKind::NotADrive);
    };
    if earlier.iter().any(|drive| is_same(drive, metadata)) {
        return Err(DriveErrorKind::Twice);
    }
    let opened = lock::patiently(path, metadata, || {
        open_direct(OpenOptions::new().read(true).write(true), path, flags)
    });
    let (file, direct) = opened?;
    lock::lock(&file, metadata)?;
    Ok((file, direct, kind))
}

/// Whether a drive is what was looked up.
pub(super) fn is_same(drive: &Drive, metadata: &std::fs::Metadata) -> bool {
    drive.file.metadata().is_ok_and(|known| {
        let same_device = metadata.rdev() != 0 && known.rdev() == metadata.rdev();
        let same_file = known.dev() == metadata.dev() && known.ino() == metadata.ino();
        same_device || same_file
    })
}

fn finish(spec: &DriveSpec, mut file: File, direct: bool, kind: DriveKind) -> Result<Drive, DriveErrorKind> {
    let size_bytes = file.seek(SeekFrom::End(0)).map_err(|e| system("find its size", e))?;
    let metadata = file.metadata().map_err(|e| system("look at it", e))?;
    if let Some(wanted_bytes) = spec.size_bytes
        && wanted_bytes != size_bytes
    {
        return Err(DriveErrorKind::SizeDiffers { actual_bytes: size_bytes, wanted_bytes });
    }
    if size_bytes < DRIVE_BYTES_MIN {
        return Err(DriveErrorKind::TooSmall { size_bytes, least_bytes: DRIVE_BYTES_MIN });
    }
    let shape = shape::shape(&file, &metadata, kind, direct, size_bytes)?;
    let node = shape::node(&metadata, kind);
    Ok(Drive { path: spec.path.clone(), file, shape, kind, direct, node })
}
