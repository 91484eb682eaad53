//! Why a change is refused, and why the directory stands still.

use io::DiskError;
use thiserror::Error;

/// Why a change was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DirectoryError {
    /// No room; nothing was touched.
    #[error("the pool's directory is full: delete volumes, or shorten their labels and access lists")]
    CapacityExceeded,
    /// A drive failed before, and nothing was touched.
    #[error("the pool's directory has failed")]
    Failed,
    /// A drive failed while the change was written: whether it was made shows at the next start.
    #[error("the pool's directory has failed; whether the change was made shows at the next start")]
    InDoubt,
    /// A field's value is impossible.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it may be.
        rule: &'static str,
    },
    /// Another volume of the project has this name.
    #[error("another volume of the project has this name")]
    NameTaken,
    /// No volume has this id.
    #[error("no such volume")]
    NotFound,
    /// Another volume has this NSID.
    #[error("another volume has this NSID")]
    NsidTaken,
    /// Another volume has this UUID.
    #[error("another volume has this UUID")]
    UuidTaken,
}

/// Why the directory stands still.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DirectoryFault {
    /// What was durable is not readable any more.
    #[error(
        "the pool's directory is damaged (half {half}, byte {offset}: {what}); volumes after that point are not \
         known: restore drive 0 from a copy, do not format it"
    )]
    Damaged {
        /// Which half, 0 or 1.
        half: usize,
        /// Where in it.
        offset: u32,
        /// What.
        what: Damage,
    },
    /// The drive failed.
    #[error("the pool's directory failed: {0}")]
    Disk(#[from] DiskError),
    /// A record that this program must know and does not.
    #[error(
        "the pool has a record of kind {kind} version {version}, which a newer ferrule wrote: start that one"
    )]
    UnknownRecord {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// A directory of another format.
    #[error(
        "the pool's directory has format {version} and this ferrule knows 1: start the ferrule that wrote it"
    )]
    UnknownVersion {
        /// The version found.
        version: u32,
    },
}

/// What is damaged.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// A frame, with others behind it.
    #[error("a frame in the middle of the log")]
    Frame,
    /// The header of a half.
    #[error("a header")]
    Header,
    /// Neither half is the log.
    #[error("no half is live")]
    NoLiveHalf,
    /// The inside of a frame whose checksum is right.
    #[error("a record contradicts the others")]
    Record,
    /// A frame of the snapshot.
    #[error("a frame of the snapshot")]
    Snapshot,
}
