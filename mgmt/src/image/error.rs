//! What can be wrong with a stream.

use thiserror::Error;

/// Why a stream cannot be read or written.
#[derive(Debug, Error)]
pub(crate) enum ImageError {
    /// It does not begin as a stream does.
    #[error("this is no image stream: it was not written by `ferrule export`, or was changed on its way")]
    Foreign,
    /// It is of a version to come.
    #[error("the image stream has version {found}, this program reads up to {known}: use a newer ferrule")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It ends too early.
    #[error(
        "the image stream ends after {bytes} bytes, in the middle of {part}: it was not written or copied to its end"
    )]
    Truncated {
        /// Bytes that there were.
        bytes: u64,
        /// What is not whole.
        part: &'static str,
    },
    /// A checksum or a field is wrong.
    #[error("the image stream is damaged at byte {at}: {what}; export it or copy it again")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// There is something behind the end.
    #[error("the image stream has ended, but there are bytes behind it: a file holds one stream")]
    Trailing,
    /// The header is longer than a stream can have.
    #[error("the names in the header of the image stream are too long")]
    HeaderTooLong,
    /// The system failed.
    #[error("{0}")]
    System(#[from] std::io::Error),
}
