//! Reads a stream and believes nothing of it that a digest does not hold.

use std::io::{ErrorKind, Read};

use super::writer::{FRAME_HEAD_BYTES, Totals};
use super::{
    Chunk, DIGEST_BYTES, Digest, FrameKind, Header, ImageError, MAGIC, PREAMBLE_BYTES, VERSION, digest,
    preamble_digest, take_u32,
};

/// Reads frames one by one; memory is that of one chunk.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    header: Header,
    last: Digest,
    totals: Totals,
    next_block: u64,
    /// Bytes read of the stream.
    bytes: u64,
    body: Vec<u8>,
}

/// What comes behind the header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A chunk.
    Chunk(Chunk),
    /// The end, and what there was before it.
    End(Totals),
}

/// Where a stream that was not written to its end can be gone on with.
#[derive(Clone, Debug)]
pub(crate) struct ResumePoint {
    /// Its header.
    pub(crate) header: Header,
    /// Bytes up to the end of the last whole chunk.
    pub(crate) bytes: u64,
    /// The block behind that chunk.
    pub(crate) next_block: u64,
    /// What is there so far.
    pub(crate) totals: Totals,
    /// True if nothing is missing.
    pub(crate) is_complete: bool,
    pub(super) last: Digest,
}

impl<R: Read> Reader<R> {
    /// Reads the preamble and the header.
    pub(crate) fn open(mut from: R) -> Result<Self, ImageError> {
        let mut preamble = [0; PREAMBLE_BYTES];
        let read = read_full(&mut from, &mut preamble)?;
        let magic = &preamble[..read.min(MAGIC.len())];
        if magic.is_empty() || !MAGIC.starts_with(magic) {
            return Err(ImageError::Foreign);
        }
        if read < PREAMBLE_BYTES {
            return Err(ImageError::Truncated { bytes: read as u64, part: "its preamble" });
        }
        match take_u32(&mut &preamble[MAGIC.len()..]) {
            Some(VERSION) => {}
            Some(found) if found > VERSION => return Err(ImageError::Newer { found, known: VERSION }),
            Some(_) | None => {
                return Err(ImageError::Damaged { at: 0, what: "there never was such a version" });
            }
        }
        let (last, bytes) = (preamble_digest(&preamble), PREAMBLE_BYTES as u64);
        let mut frames = Frames { from, last, bytes, body: Vec::new() };
        let kind = frames.next("its header")?;
        if kind != FrameKind::Header {
            return Err(ImageError::Damaged { at: bytes, what: "it does not begin with a header" });
        }
        let header = Header::parse(&frames.body).map_err(|what| ImageError::Damaged { at: bytes, what })?;
        let Frames { from, last, bytes, body } = frames;
        Ok(Self { from, header, last, totals: Totals::default(), next_block: 0, bytes, body })
    }

    /// The next part. Behind the end there must be nothing.
    pub(crate) fn next(&mut self) -> Result<Part, ImageError> {
        let at = self.bytes;
        let body = std::mem::take(&mut self.body);
        let mut frames = Frames { from: &mut self.from, last: self.last, bytes: at, body };
        let outcome = frames.next("a chunk");
        let Frames { last, bytes, body, .. } = frames;
        let kind = outcome?;
        let damaged = |what| ImageError::Damaged { at, what };
        let part = match kind {
            FrameKind::Header => return Err(damaged("it has a second header")),
            FrameKind::Chunk => {
                let blocks = self.next_block..self.header.blocks();
                let chunk = Chunk::parse(&body, self.totals.chunks, blocks).map_err(damaged)?;
                self.next_block = chunk.next_block;
                self.totals.add(&chunk);
                Part::Chunk(chunk)
            }
            FrameKind::End => {
                if Totals::parse(&body) != Some(self.totals) {
                    return Err(damaged("its end tells of other chunks"));
                }
                if read_full(&mut self.from, &mut [0])? > 0 {
                    return Err(ImageError::Trailing);
                }
                Part::End(self.totals)
            }
        };
        (self.last, self.bytes, self.body) = (last, bytes, body);
        Ok(part)
    }

    /// What the stream is.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    fn point(&self, is_complete: bool) -> ResumePoint {
        ResumePoint {
            header: self.header.clone(),
            bytes: self.bytes,
            next_block: self.next_block,
            totals: self.totals,
            is_complete,
            last: self.last,
        }
    }
}

/// Finds the last whole chunk of a stream. What lies behind it is of no use: a run that was killed may have left
/// anything there.
pub(crate) fn resume_point(from: impl Read) -> Result<ResumePoint, ImageError> {
    let mut reader = Reader::open(from)?;
    loop {
        let point = reader.point(false);
        match reader.next() {
            Ok(Part::Chunk(_)) => {}
            Ok(Part::End(_)) => return Ok(reader.point(true)),
            Err(ImageError::Truncated { .. } | ImageError::Damaged { .. }) => return Ok(point),
            Err(error) => return Err(error),
        }
    }
}

/// Takes frames off a stream.
struct Frames<R> {
    from: R,
    last: Digest,
    bytes: u64,
    body: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Reads a frame's body and checks its digest.
    fn next(&mut self, part: &'static str) -> Result<FrameKind, ImageError> {
        let at = self.bytes;
        let mut head = [0; FRAME_HEAD_BYTES];
        self.fill(&mut head, part)?;
        let fields = (take_u32(&mut &head[..]), take_u32(&mut &head[4..]));
        let (Some(code), Some(len)) = fields else {
            return Err(ImageError::Damaged { at, what: "a frame without a head" });
        };
        let kind = FrameKind::parse(code);
        let kind = kind.ok_or(ImageError::Damaged { at, what: "what comes here is no part of a stream" })?;
        if len as usize > kind.body_bytes_max() {
            return Err(ImageError::Damaged { at, what: "a part is longer than it can be" });
        }
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(len as usize, 0);
        let filled = self.fill(&mut body, part);
        self.body = body;
        filled?;
        let mut found = [0; DIGEST_BYTES];
        self.fill(&mut found, part)?;
        let expected = digest(&[&self.last, &head, &self.body]);
        if found != expected {
            return Err(ImageError::Damaged { at, what: "a checksum does not match" });
        }
        self.last = expected;
        Ok(kind)
    }

    fn fill(&mut self, buffer: &mut [u8], part: &'static str) -> Result<(), ImageError> {
        let read = read_full(&mut self.from, buffer)?;
        self.bytes += read as u64;
        if read < buffer.len() { Err(ImageError::Truncated { bytes: self.bytes, part }) } else { Ok(()) }
    }
}

/// Reads until the buffer is full or there is no more; how much there was.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ImageError> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read)
}
