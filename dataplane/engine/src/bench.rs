//! A bench namespace in memory: one reactor's stripes of it, without any durability.

use std::collections::BTreeMap;

use io::{Io, Memory, Net};
use nvme::Status;
use subsystem::{Completion, Operation, Pieces, Request};

use crate::engine::Engine;
use crate::job::owned;
use crate::message::Message;
use crate::stripe::Striping;

/// Bytes in a chunk that is allocated at its first write.
const CHUNK_BYTES: usize = 64 << 10;

/// The stripes of one RAM namespace that one reactor holds; what was never written reads as zeros.
#[derive(Debug, Default)]
pub(crate) struct RamPart {
    chunks: Vec<Option<Box<[u8]>>>,
}

/// The RAM namespaces of one reactor, by NSID.
#[derive(Debug, Default)]
pub(crate) struct RamParts {
    parts: BTreeMap<u32, RamPart>,
}

impl RamParts {
    /// The part of namespace `nsid`, made empty at first use.
    pub(crate) fn part(&mut self, nsid: u32) -> &mut RamPart {
        self.parts.entry(nsid).or_default()
    }
}

impl RamPart {
    /// Fills `into` from the bytes at `offset`.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        for_chunks(offset, into.len(), |chunk, within, start, len| {
            let target = &mut into[start..start + len];
            match self.chunks.get(chunk).and_then(Option::as_ref) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + len]),
                None => target.fill(0),
            }
        });
    }

    /// Stores `from` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) {
        for_chunks(offset, from.len(), |chunk, within, start, len| {
            if self.chunks.len() <= chunk {
                self.chunks.resize_with(chunk + 1, || None);
            }
            let bytes = self.chunks[chunk].get_or_insert_with(|| vec![0; CHUNK_BYTES].into_boxed_slice());
            bytes[within..within + len].copy_from_slice(&from[start..start + len]);
        });
    }

    /// Makes `len` bytes at `offset` zeros, giving whole chunks back.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.chunks.len() as u64 * CHUNK_BYTES as u64);
        let mut at = offset;
        while at < end {
            let chunk = usize::try_from(at / CHUNK_BYTES as u64).expect("within the chunks that exist");
            let within = usize::try_from(at % CHUNK_BYTES as u64).expect("less than a chunk");
            let piece = (end - at).min((CHUNK_BYTES - within) as u64);
            let piece_len = usize::try_from(piece).expect("at most a chunk");
            if piece_len == CHUNK_BYTES {
                self.chunks[chunk] = None;
            } else if let Some(bytes) = &mut self.chunks[chunk] {
                bytes[within..within + piece_len].fill(0);
            }
            at += piece;
        }
    }

    /// True where the bytes at `offset` are those of `with`.
    pub(crate) fn equals(&self, offset: u64, with: &[u8]) -> bool {
        let mut equal = true;
        for_chunks(offset, with.len(), |chunk, within, start, len| {
            let there = &with[start..start + len];
            equal &= match self.chunks.get(chunk).and_then(Option::as_ref) {
                Some(bytes) => bytes[within..within + len] == *there,
                None => there.iter().all(|byte| *byte == 0),
            };
        });
        equal
    }
}

/// Calls `each(chunk, offset in chunk, offset in the transfer, length)` for the chunks of a transfer.
fn for_chunks(offset: u64, len: usize, mut each: impl FnMut(usize, usize, usize, usize)) {
    let mut start = 0;
    while start < len {
        let at = offset + start as u64;
        let chunk = usize::try_from(at / CHUNK_BYTES as u64).expect("a RAM namespace fits the address space");
        let within = usize::try_from(at % CHUNK_BYTES as u64).expect("less than a chunk");
        let piece = (len - start).min(CHUNK_BYTES - within);
        each(chunk, within, start, piece);
        start += piece;
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Answers a read of memory that is all here, without a way through jobs and pieces; `None` for everything else, and
    /// where there is no buffer for it now.
    pub(crate) fn read_memory(
        &mut self,
        request: &Request<I::Buffer>,
        io: &mut I,
    ) -> Option<Completion<I::Buffer>> {
        let Operation::Read { range } = request.operation else { return None };
        let stretch = Striping::new(0, self.reactors).pieces(range.offset_bytes, range.len_bytes).next()?;
        if stretch.len != range.len_bytes || stretch.shard != self.reactor.0 {
            return None;
        }
        let buffer = self.rack.read_memory(request.nsid, stretch, io)?;
        Some(Completion { status: Status::SUCCESS, data: Pieces::one(owned(buffer)) })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_the_rest_is_zeros() {
        let mut part = RamPart::default();
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        part.write(70_000, &bytes);
        let mut back = vec![9; 400_000];
        part.read(0, &mut back);
        assert!(back[..70_000].iter().all(|byte| *byte == 0));
        assert_eq!(&back[70_000..270_000], &bytes[..]);
        assert!(back[270_000..].iter().all(|byte| *byte == 0));
        assert!(part.equals(70_000, &bytes));
        assert!(!part.equals(70_001, &bytes));
    }

    #[test]
    fn zeroing_any_range_leaves_its_neighbours() {
        let mut part = RamPart::default();
        part.write(0, &[7; 300_000]);
        part.zero(1000, 250_000);
        part.zero(1 << 40, 1 << 40);
        let mut back = vec![0; 300_000];
        part.read(0, &mut back);
        assert!(back[..1000].iter().all(|byte| *byte == 7));
        assert!(back[1000..251_000].iter().all(|byte| *byte == 0));
        assert!(back[251_000..].iter().all(|byte| *byte == 7));
    }
}
