//! Image streams: what `ferrule export` writes and `ferrule import` applies.
//!
//! A stream is a preamble (magic and version) and frames: one header, chunks, one end. Numbers are little endian.
//!
//! ```text
//! preamble  magic 16 bytes | version u32
//! frame     kind u32 | length of the body in bytes u32 | body | digest 32 bytes
//! header    JSON: what the stream is of, see [`Header`]
//! chunk     index u64 | next block u64 | length of the data u32 | codec u32 | count of extents u32 | extents | payload
//! extent    first block u64 | count of blocks u32 | content u32
//! end       chunks u64 | data blocks u64 | zero blocks u64
//! ```
//!
//! A digest is SHA-256 over the digest before it (of the preamble, for the header) and its own frame without the digest.
//! So each chunk has a checksum of its own, the last one is the checksum of the whole, and no frame can be left out,
//! doubled, moved, or come from another stream. Extents ascend over the whole stream and do not overlap. The payload is
//! the blocks of the data extents, one after the other, raw or as one LZ4 block; zero extents have none.

mod chunk;
mod error;
mod header;
mod reader;
#[cfg(test)]
mod test;
mod writer;

pub(crate) use chunk::{Chunk, Content, Extent};
pub(crate) use error::ImageError;
pub(crate) use header::{Header, SnapshotOf, VolumeOf};
pub(crate) use reader::{Part, Reader, resume_point};
pub(crate) use writer::{Totals, Writer};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Most blocks of data in a chunk.
pub(crate) const CHUNK_BLOCKS_MAX: usize = 256;
/// Most extents in a chunk.
pub(crate) const CHUNK_EXTENTS_MAX: usize = 1024;
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Begins a stream; bytes that transfers as text would change are in it.
const MAGIC: [u8; 16] = *b"\x89FerruleImage\r\n\x1a";
const PREAMBLE_BYTES: usize = MAGIC.len() + 4;
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(CHUNK_BLOCKS_MAX <= CHUNK_EXTENTS_MAX);

/// SHA-256 over the digest before and a frame.
type Digest = [u8; DIGEST_BYTES];

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Header,
    Chunk,
    End,
}

impl FrameKind {
    const fn code(self) -> u32 {
        u32::from_le_bytes(*match self {
            Self::Header => b"HEAD",
            Self::Chunk => b"CHNK",
            Self::End => b"END.",
        })
    }

    fn parse(code: u32) -> Option<Self> {
        [Self::Header, Self::Chunk, Self::End].into_iter().find(|kind| kind.code() == code)
    }

    /// Most bytes in the body of such a frame.
    const fn body_bytes_max(self) -> usize {
        match self {
            Self::Header => HEADER_BYTES_MAX,
            Self::Chunk => chunk::BODY_BYTES_MAX,
            Self::End => writer::END_BYTES,
        }
    }
}

/// The digest that the first frame's follows.
fn preamble_digest(preamble: &[u8; PREAMBLE_BYTES]) -> Digest {
    digest(&[preamble])
}

/// SHA-256 over parts.
fn digest(parts: &[&[u8]]) -> Digest {
    use aws_lc_rs::digest::{Context, SHA256};
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut bytes = [0; DIGEST_BYTES];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Takes the first bytes of a slice; `None` if it has fewer.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}
