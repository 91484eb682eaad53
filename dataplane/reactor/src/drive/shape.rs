//! What a drive is like, from its own answers and /sys.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use io::DriveShape;

use super::{DriveErrorKind, DriveKind};

const BLOCK_MIN: u32 = 512;
const BLOCK_MAX: u32 = 4096;
/// Devices that lie on devices, at most: a partition of a logical volume on an array is three deep.
const DEVICE_DEPTH_MAX: u32 = 6;

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
    node_of_device(&device_folder(metadata, kind)?, DEVICE_DEPTH_MAX)
}

/// The NUMA node of a device's folder in /sys, or of the devices that carry it: a multipath NVMe namespace belongs to a
/// subsystem, whose controllers are beside it; what the device mapper or md makes has its parts in `slaves`.
fn node_of_device(device: &Path, depth: u32) -> Option<u32> {
    let own = device.ancestors().find_map(|folder| {
        let node = read(folder.join("numa_node"))?;
        // Devices without a node say -1.
        node.parse::<u32>().ok()
    });
    if own.is_some() || depth == 0 {
        return own;
    }
    let whole = if device.join("partition").exists() { device.parent()? } else { device };
    let parts = links_in(&whole.join("slaves"));
    let controllers = || links_in(whole.parent().unwrap_or(whole));
    let carriers = if parts.is_empty() { controllers() } else { parts };
    carriers.iter().find_map(|carrier| node_of_device(carrier, depth - 1))
}

/// Where the symbolic links of a folder lead, by name. Folders of devices have links to what they belong to as well:
/// those of subsystems and drivers are none of a device.
fn links_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut links: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name != "subsystem" && name != "driver"))
        .collect();
    links.sort();
    links.iter().filter_map(|link| std::fs::canonicalize(link).ok()).collect()
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
