//! Writes a stream, from its preamble or from where an earlier run stopped.

use std::io::Write;

use super::chunk::{Chunk, Content};
use super::reader::ResumePoint;
use super::{
    Digest, FrameKind, HEADER_BYTES_MAX, Header, ImageError, MAGIC, PREAMBLE_BYTES, VERSION, digest,
};
use super::{preamble_digest, take_u64};

/// Writes frames, each with its digest.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    to: W,
    last: Digest,
    totals: Totals,
    /// Bytes of the stream so far.
    bytes: u64,
}

/// What a stream holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Chunks.
    pub(crate) chunks: u64,
    /// Blocks with data.
    pub(crate) data_blocks: u64,
    /// Blocks that became zero.
    pub(crate) zero_blocks: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a stream.
    pub(crate) fn begin(to: W, header: &Header) -> Result<Self, ImageError> {
        let mut preamble = [0; PREAMBLE_BYTES];
        preamble[..MAGIC.len()].copy_from_slice(&MAGIC);
        preamble[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
        let mut this = Self { to, last: preamble_digest(&preamble), totals: Totals::default(), bytes: 0 };
        let body = header.encode();
        if body.len() > HEADER_BYTES_MAX {
            return Err(ImageError::HeaderTooLong);
        }
        this.to.write_all(&preamble)?;
        this.bytes = PREAMBLE_BYTES as u64;
        this.frame(FrameKind::Header, &body)?;
        Ok(this)
    }

    /// Goes on behind the last whole chunk; `to` must stand there.
    pub(crate) fn resume(to: W, point: &ResumePoint) -> Self {
        Self { to, last: point.last, totals: point.totals, bytes: point.bytes }
    }

    /// Appends a chunk, and gives it its number.
    pub(crate) fn append(&mut self, chunk: &mut Chunk) -> Result<(), ImageError> {
        chunk.index = self.totals.chunks;
        self.frame(FrameKind::Chunk, &chunk.encode())?;
        self.totals.add(chunk);
        Ok(())
    }

    /// Ends the stream; gives back where it was written to, and how long it is.
    pub(crate) fn finish(mut self) -> Result<(W, u64), ImageError> {
        let body = self.totals.encode();
        self.frame(FrameKind::End, &body)?;
        self.to.flush()?;
        Ok((self.to, self.bytes))
    }

    /// What is in the stream so far.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// How long the stream is so far.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), ImageError> {
        assert!(body.len() <= kind.body_bytes_max());
        let head = frame_head(kind, body.len());
        self.last = digest(&[&self.last, &head, body]);
        self.to.write_all(&head)?;
        self.to.write_all(body)?;
        self.to.write_all(&self.last)?;
        self.bytes += (head.len() + body.len() + self.last.len()) as u64;
        Ok(())
    }
}

impl Totals {
    pub(super) fn add(&mut self, chunk: &Chunk) {
        self.chunks += 1;
        self.data_blocks += chunk.count_blocks(Content::Data);
        self.zero_blocks += chunk.count_blocks(Content::Zeroes);
    }

    fn encode(self) -> [u8; END_BYTES] {
        let mut body = [0; END_BYTES];
        let fields = [self.chunks, self.data_blocks, self.zero_blocks];
        for (place, field) in body.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        body
    }

    pub(super) fn parse(mut body: &[u8]) -> Option<Self> {
        let body = &mut body;
        let totals =
            Self { chunks: take_u64(body)?, data_blocks: take_u64(body)?, zero_blocks: take_u64(body)? };
        body.is_empty().then_some(totals)
    }
}

/// Kind and length of a frame, as they stand in front of its body.
pub(super) fn frame_head(kind: FrameKind, body_bytes: usize) -> [u8; FRAME_HEAD_BYTES] {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&kind.code().to_le_bytes());
    // The limits of every kind are far below 4 GiB.
    head[4..].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    head
}

pub(super) const FRAME_HEAD_BYTES: usize = 8;
pub(super) const END_BYTES: usize = 24;
