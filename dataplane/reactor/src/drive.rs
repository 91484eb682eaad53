//! The pool's drives: opened once, locked against a second server, shared by all reactors.
//!
//! The lock sits on the same open file description as the I/O. The kernel drops it only when the last operation that
//! refers to the file has ended, so that whoever gets it next finds a killed server's last writes landed.

mod create;
mod lock;
mod open;
mod shape;

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use io::{DriveId, DriveShape};

/// Smallest drive that is accepted, in bytes; what a pool needs at least is for its store to say.
pub const DRIVE_BYTES_MIN: u64 = 1 << 20;
/// Smallest drive that can be added while the set is in use, in bytes: enough for whatever a pool lays out on it.
pub const ADDED_BYTES_MIN: u64 = 128 << 20;
/// Drives to which a set can grow.
const DRIVES_MAX: usize = 32;
/// Drives that can be added and withdrawn beside those.
const WITHDRAWN_MAX: usize = 32;
/// No drive has the number.
const NOWHERE: usize = usize::MAX;
/// What must be zero at either end of a drive that is added.
const BLANK_BYTES: u64 = 1 << 20;

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveSpec {
    /// A file or a block device.
    pub path: PathBuf,
    /// Its size in bytes: a file that is missing is made with it, what exists must have it.
    pub size_bytes: Option<u64>,
    /// How a missing file is made.
    pub fill: Fill,
}

/// How a missing pool file is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Written once in full: later writes change no metadata of the file system, and its room is really there.
    #[default]
    Written,
    /// Nothing is written; for tests and trials.
    Sparse,
}

/// The opened drives, in the order in which they were named; others can be added behind them. A clone is the same set.
#[derive(Clone, Debug)]
pub struct DriveSet {
    // Filled from the first on; what is there stays, so that reactors look without a lock.
    places: Arc<[OnceLock<Drive>]>,
    // At which place the drive of each number is; [`NOWHERE`] from the end on.
    numbers: Arc<[AtomicUsize]>,
    // What the drive at each place is flushed by, where that is not what it is read and written by.
    flushed_by: Arc<[OnceLock<File>]>,
    // How many drives were there when the set was given to a reactor: the ring's table of files begins with them.
    first: usize,
    adding: Arc<Mutex<()>>,
}

/// One opened drive.
pub struct Drive {
    path: PathBuf,
    file: File,
    shape: DriveShape,
    kind: DriveKind,
    direct: bool,
    node: Option<u32>,
}

/// What lies under a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveKind {
    /// A device that the server has to itself.
    BlockDevice,
    /// A file of a file system.
    File,
}

/// A drive cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("pool drive {}: {kind}", path.display())]
pub struct DriveError {
    /// Which.
    pub path: PathBuf,
    /// Why, and what to do.
    pub kind: DriveErrorKind,
}

/// Why a drive cannot be used; the message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DriveErrorKind {
    /// The user may not open it.
    #[error("permission denied; run as a user that may read and write it")]
    Denied,
    /// It is a directory.
    #[error("is a directory; name a file inside it, with a size to make it: PATH:SIZE")]
    Directory,
    /// Another process has it.
    #[error("is in use by {}; stop that first, or name another drive", Holder(*holder))]
    InUse {
        /// The process, where the system tells.
        holder: Option<u32>,
    },
    /// The folder in which it should be made does not exist.
    #[error("the folder {} does not exist; make it first", folder.display())]
    FolderMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// It does not exist and no size was given to make it.
    #[error("does not exist; to make a pool file give its size: PATH:SIZE")]
    Missing,
    /// It ran full while it was made.
    #[error("the file system has no room for {size_bytes} bytes; give a smaller size or free some space")]
    NoRoom {
        /// The size that was asked for.
        size_bytes: u64,
    },
    /// Neither a file nor a block device.
    #[error("is neither a file nor a block device; name one of these")]
    NotADrive,
    /// Its size is not a whole number of blocks.
    #[error("its size of {size_bytes} bytes is not a multiple of {block_bytes}; use a size that is")]
    OddSize {
        /// The size.
        size_bytes: u64,
        /// What it must be a multiple of.
        block_bytes: u32,
    },
    /// It cannot be written.
    #[error("is read-only; remount the file system or make the device writable")]
    ReadOnly,
    /// Something is on it.
    #[error(
        "is not blank (byte {offset}); check the path; if its contents may be lost, make its first and last MiB zero, \
         for example with blkdiscard --zeroout"
    )]
    NotBlank {
        /// Where, within 64 KiB.
        offset: u64,
    },
    /// It was withdrawn, and is not blank any more: the pool's drives may name it already.
    #[error(
        "has begun to join the pool and could not; start the server with it behind the pool's drives (--pool), which \
         tries again, or add another"
    )]
    HalfJoined,
    /// It has larger blocks than the drives before it.
    #[error(
        "has blocks of {block_bytes} bytes and the other drives of {others}; use a drive with blocks of {others}"
    )]
    BlocksDiffer {
        /// Bytes of its blocks.
        block_bytes: u32,
        /// The largest of the others'.
        others: u32,
    },
    /// There is no place for another.
    #[error("there are {DRIVES_MAX} drives already, the most that there can be")]
    TooMany,
    /// It exists with another size.
    #[error(
        "is {actual_bytes} bytes large, not {wanted_bytes} as asked; leave the size out or name another path"
    )]
    SizeDiffers {
        /// What it has.
        actual_bytes: u64,
        /// What was asked for.
        wanted_bytes: u64,
    },
    /// It holds too little.
    #[error("its {size_bytes} bytes are too few; {least_bytes} are needed at least")]
    TooSmall {
        /// The size.
        size_bytes: u64,
        /// The smallest that would do.
        least_bytes: u64,
    },
    /// It was named before in the same pool.
    #[error("is named twice; name each drive of the pool once")]
    Twice,
    /// The system refused something else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl DriveSpec {
    /// A drive that must exist.
    #[must_use]
    pub fn existing(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), size_bytes: None, fill: Fill::Written }
    }

    fn error(&self, kind: DriveErrorKind) -> DriveError {
        DriveError { path: self.path.clone(), kind }
    }

    /// A drive of a given size, made if it is missing.
    #[must_use]
    pub fn sized(path: impl Into<PathBuf>, size_bytes: u64, fill: Fill) -> Self {
        Self { path: path.into(), size_bytes: Some(size_bytes), fill }
    }
}

impl DriveSet {
    /// Opens and locks every drive; makes files that are missing and have a size. This blocks, for as long as a
    /// file takes to be written in full.
    ///
    /// # Errors
    /// The first drive that cannot be used, and why.
    pub fn open(specs: &[DriveSpec]) -> Result<Self, DriveError> {
        let set = Self::of(specs.len().max(DRIVES_MAX));
        for (number, spec) in specs.iter().enumerate() {
            let drive = open::open(spec, &set).map_err(|kind| spec.error(kind))?;
            set.put(number, drive).map_err(|kind| spec.error(kind))?;
        }
        Ok(set)
    }

    /// A set with room for so many drives.
    fn of(drives: usize) -> Self {
        Self {
            places: (0..drives + WITHDRAWN_MAX).map(|_| OnceLock::new()).collect(),
            numbers: (0..drives).map(|_| AtomicUsize::new(NOWHERE)).collect(),
            flushed_by: Arc::default(),
            first: usize::MAX,
            adding: Arc::default(),
        }
    }

    /// Opens and locks one more drive, on which nothing was ever stored, behind the others. All clones have it at once,
    /// by the number that is returned. This blocks, as [`DriveSet::open`] does. One that was withdrawn can be added again
    /// if it is still blank.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn add(&self, spec: &DriveSpec) -> Result<DriveId, DriveError> {
        let _turn = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.len();
        let added = match (self.numbers.get(number), self.withdrawn(&spec.path)) {
            (None, _) => Err(DriveErrorKind::TooMany),
            (Some(free), Some((place, drive))) => match self.check_added(drive) {
                Err(DriveErrorKind::NotBlank { .. }) => Err(DriveErrorKind::HalfJoined),
                checked => checked.map(|()| free.store(place, Ordering::Release)),
            },
            (Some(_), None) => open::open(spec, self).and_then(|drive| {
                self.check_added(&drive)?;
                self.put(number, drive)
            }),
        };
        added.map_err(|kind| spec.error(kind))?;
        Ok(DriveId(u16::try_from(number).expect("drives are numbered by 16 bits")))
    }

    /// Takes a drive out again that was added, is the last and has not become one of the pool's. Nobody may use it now;
    /// its number goes to the next that is added. The file stays open and locked.
    ///
    /// # Panics
    /// If it is not the last.
    pub fn withdraw(&self, drive: DriveId) {
        let _turn = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(usize::from(drive.0) + 1 == self.len(), "only the last drive can be withdrawn");
        self.numbers[usize::from(drive.0)].store(NOWHERE, Ordering::Release);
    }

    /// Puts a drive at the next place, and gives it its number.
    fn put(&self, number: usize, drive: Drive) -> Result<(), DriveErrorKind> {
        let free = self.places.iter().position(|place| place.get().is_none());
        let free = free.ok_or(DriveErrorKind::TooMany)?;
        tracing::info!(drive = %drive, "drive opened");
        let _ = self.places[free].set(drive);
        self.numbers[number].store(free, Ordering::Release);
        Ok(())
    }

    /// A drive that was withdrawn and is still what `path` names, and its place.
    fn withdrawn(&self, path: &Path) -> Option<(usize, &Drive)> {
        let metadata = std::fs::metadata(path).ok()?;
        let is_numbered =
            |place: usize| self.numbers.iter().any(|number| number.load(Ordering::Acquire) == place);
        let mut places = self.places.iter().map_while(OnceLock::get).enumerate();
        places.find(|(place, drive)| !is_numbered(*place) && open::is_same(drive, &metadata))
    }

    fn check_added(&self, drive: &Drive) -> Result<(), DriveErrorKind> {
        let DriveShape { size_bytes, block_bytes, .. } = drive.shape;
        if size_bytes < ADDED_BYTES_MIN {
            return Err(DriveErrorKind::TooSmall { size_bytes, least_bytes: ADDED_BYTES_MIN });
        }
        let others = self.iter().map(|other| other.shape.block_bytes).max().unwrap_or(block_bytes);
        if block_bytes > others {
            return Err(DriveErrorKind::BlocksDiffer { block_bytes, others });
        }
        // Through the page cache, which asks for no alignment.
        let file =
            open::again(&drive.file, &drive.path).map_err(|e| open::system("look at its content", e))?;
        let mut chunk = vec![0; 64 << 10];
        for start in [0, size_bytes - BLANK_BYTES] {
            for offset in (start..start + BLANK_BYTES).step_by(chunk.len()) {
                file.read_exact_at(&mut chunk, offset).map_err(|e| open::system("look at its content", e))?;
                if chunk.iter().any(|byte| *byte != 0) {
                    return Err(DriveErrorKind::NotBlank { offset });
                }
            }
        }
        Ok(())
    }

    /// No drives: for a server of bench namespaces alone.
    #[must_use]
    pub fn none() -> Self {
        Self::of(0)
    }

    /// The same drives for one reactor alone: it flushes them through open files of its own. The system tells of a write
    /// that it could not keep once for each open file; with one for all of them, of two reactors that flush in the same
    /// instant only one would hear of it.
    ///
    /// # Errors
    /// Where a drive cannot be opened once more.
    pub(crate) fn of_reactor(&self) -> std::io::Result<Self> {
        let flushed_by: Arc<[OnceLock<File>]> = self.places.iter().map(|_| OnceLock::new()).collect();
        for (file, drive) in flushed_by.iter().zip(self.places.iter().map_while(OnceLock::get)) {
            let _ = file.set(open::again(&drive.file, &drive.path)?);
        }
        Ok(Self { flushed_by, first: self.len(), ..self.clone() })
    }

    /// The file by which a drive is flushed.
    pub(crate) fn flushed_by(&self, drive: DriveId) -> Option<&File> {
        let own = self.flushed_by.get(self.place(drive)?);
        let drive = self.drive(drive)?;
        let Some(own) = own else { return Some(drive.file()) };
        if own.get().is_none() {
            // It was added: its first flush opens it.
            match open::again(&drive.file, &drive.path) {
                Ok(file) => drop(own.set(file)),
                Err(error) => {
                    tracing::warn!(drive = %drive, %error, "cannot be opened once more to flush it")
                }
            }
        }
        Some(own.get().unwrap_or_else(|| drive.file()))
    }

    /// True for a drive that was added since the set was given to a reactor.
    pub(crate) fn is_added(&self, drive: DriveId) -> bool {
        usize::from(drive.0) >= self.first
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// One of them.
    #[must_use]
    pub fn drive(&self, drive: DriveId) -> Option<&Drive> {
        self.places.get(self.place(drive)?)?.get()
    }

    fn place(&self, drive: DriveId) -> Option<usize> {
        Some(self.numbers.get(usize::from(drive.0))?.load(Ordering::Acquire))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Drive> {
        (0..=u16::MAX).map_while(|number| self.drive(DriveId(number)))
    }

    /// The NUMA nodes of the drives that have one, in their order.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        self.iter().filter_map(|drive| drive.node).collect()
    }
}

/// The NUMA node to which what carries `path` is attached, where the system tells: of a drive, or of a file that exists
/// or could be made there.
#[must_use]
pub fn node_of_path(path: &Path) -> Option<u32> {
    use std::os::unix::fs::FileTypeExt as _;
    let there = path.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        std::fs::metadata(path).ok()
    })?;
    let is_device = there.file_type().is_block_device();
    shape::node(&there, if is_device { DriveKind::BlockDevice } else { DriveKind::File })
}

impl Drive {
    /// Its path as given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is like.
    #[must_use]
    pub fn shape(&self) -> DriveShape {
        self.shape
    }

    /// What lies under it.
    #[must_use]
    pub fn kind(&self) -> DriveKind {
        self.kind
    }

    /// True where its I/O goes around the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// The NUMA node to which it is attached, where the system tells.
    #[must_use]
    pub fn node(&self) -> Option<u32> {
        self.node
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DriveKind::BlockDevice => "block device",
            DriveKind::File => "file",
        };
        write!(
            f,
            "{} ({kind}, {} bytes in blocks of {}",
            self.path.display(),
            self.shape.size_bytes,
            self.shape.block_bytes
        )?;
        if !self.direct {
            f.write_str(", through the page cache")?;
        }
        f.write_str(if self.shape.volatile_cache {
            ", flushed on request)"
        } else {
            ", durable on completion)"
        })
    }
}

impl fmt::Debug for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Drive({self})")
    }
}

/// Names the holder of a lock in a message.
struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process, a mount or a volume manager"),
        }
    }
}

#[cfg(test)]
mod test;
