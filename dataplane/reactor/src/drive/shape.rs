//! What a drive is like, from its own answers and /sys.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use io::DriveShape;

use super::{DriveErrorKind, DriveKind};

const BLOCK_MIN: u32 = 512;
const BLOCK_MAX: u32 = 4096;

/// Finds block size and cache of an opened drive.
pub(super) fn shape(
    file: &File,
    metadata: &Metadata,
    kind: DriveKind,
    direct: bool,
    size_bytes: u64,
) -> Result<DriveShape, DriveErrorKind> {
    let queue = queue_folder(metadata, kind);
    let of_queue = |name: &str| queue.as_ref().and_then(|folder| read(folder.join(name)));
    // A drive that emulates small blocks on larger ones may tear the neighbours of what it writes, so the larger
    // count, up to what the store can use.
    let physical = of_queue("physical_block_size").and_then(|text| text.parse().ok()).unwrap_or(BLOCK_MIN);
    let mut block_bytes = if physical >= BLOCK_MAX { BLOCK_MAX } else { BLOCK_MIN };
    if direct && block_bytes == BLOCK_MIN && !takes_small_blocks(file) {
        block_bytes = BLOCK_MAX;
    }
    let step = u64::from(block_bytes);
    if kind == DriveKind::File && !size_bytes.is_multiple_of(step) {
        return Err(DriveErrorKind::OddSize { size_bytes, block_bytes });
    }
    let volatile_cache = match kind {
        DriveKind::File => true,
        // Where the system does not say, nothing is assumed to be safe.
        DriveKind::BlockDevice => of_queue("write_cache").is_none_or(|cache| cache != "write through"),
    };
    Ok(DriveShape { size_bytes: size_bytes / step * step, block_bytes, volatile_cache })
}

/// The NUMA node of the device that carries the drive.
pub(super) fn node(metadata: &Metadata, kind: DriveKind) -> Option<u32> {
    let device = device_folder(metadata, kind)?;
    device.ancestors().find_map(|folder| {
        let node = read(folder.join("numa_node"))?;
        // Devices without a node say -1.
        node.parse::<u32>().ok()
    })
}

/// True where 512 bytes can be read at an odd multiple of 512: the only way to ask that every kernel has.
fn takes_small_blocks(file: &File) -> bool {
    let memory = vec![0_u8; 2 * BLOCK_MAX as usize];
    let start = memory.as_ptr().align_offset(BLOCK_MAX as usize);
    let mut memory = memory;
    file.read_at(&mut memory[start..start + BLOCK_MIN as usize], u64::from(BLOCK_MIN)).is_ok()
}

/// The folder of the device in /sys: of the block device itself, or of the one under the file system.
fn device_folder(metadata: &Metadata, kind: DriveKind) -> Option<PathBuf> {
    let device = match kind {
        DriveKind::BlockDevice => metadata.rdev(),
        DriveKind::File => metadata.dev(),
    };
    let link = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    std::fs::canonicalize(link).ok()
}

/// The folder of its request queue; a partition's is its device's.
fn queue_folder(metadata: &Metadata, kind: DriveKind) -> Option<PathBuf> {
    let device = device_folder(metadata, kind)?;
    [Some(device.as_path()), device.parent()]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("queue"))
        .find(|folder| folder.is_dir())
}

fn read(path: PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
