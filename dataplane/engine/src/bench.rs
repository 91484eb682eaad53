//! A bench namespace in memory: one reactor's stripes of it, without any durability.
//!
//! Reads are sent from the namespace's own memory. It is not written while a send may still look at it: a write to a chunk
//! that somebody else holds replaces the chunk.

use std::collections::{BTreeMap, VecDeque};

use io::{Buffer, Io, Lasting, Memory, Net, Shared, Slice};
use nvme::Status;
use subsystem::{Completion, Operation, Piece, Pieces, Request};

use crate::engine::Engine;
use crate::message::{Backing, Message};
use crate::stripe::{Stretch, Striping};

/// Bytes in a chunk that is allocated at its first write.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that were replaced and are still being sent, from which on reads are copied. A host that does not take what it
/// asked for must not hold ever more of them.
const REPLACED_MAX: usize = 512;

/// Chunks kept in [`RamParts::spare`].
const SPARE_MAX: usize = 32;

/// The RAM namespaces of one reactor.
#[derive(Debug)]
pub(crate) struct RamParts<S> {
    /// By NSID.
    parts: BTreeMap<u32, RamPart<S>>,
    /// Chunks that were written, or given up, while they were being sent.
    replaced: VecDeque<S>,
    /// Chunks of those that have been sent, for the next that must be replaced: memory that was never used costs more
    /// than the copy.
    spare: Vec<S>,
}

/// The stripes of one RAM namespace that one reactor holds; what was never written reads as zeros.
#[derive(Debug)]
struct RamPart<S> {
    chunks: Vec<Option<S>>,
}

/// Bytes within one chunk.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    /// The first of them in the chunk.
    within: usize,
    len: usize,
}

/// How a change ended.
pub(crate) type Stored = Result<(), NoMemory>;

/// The system has no memory; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

impl<S: Shared> RamParts<S> {
    /// True where nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bytes at `offset` as they are now, without a copy; `None` where they lie in more than one chunk, or must be
    /// copied.
    pub(crate) fn share<B>(
        &mut self,
        nsid: u32,
        offset: u64,
        len: u64,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Option<Piece<B>>
    where
        B: Buffer<Shared = S>,
    {
        if !self.may_share(memory) {
            return None;
        }
        let len = usize::try_from(len).expect("a transfer is at most 1 MiB long");
        let place = Place::of(offset, len);
        (place.len == len).then(|| self.piece(nsid, place))
    }

    /// The same, for what lies in two chunks at most.
    #[inline]
    pub(crate) fn share_two<B>(
        &mut self,
        nsid: u32,
        offset: u64,
        len: u64,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Option<Pieces<B>>
    where
        B: Buffer<Shared = S>,
    {
        if !self.may_share(memory) {
            return None;
        }
        let len = usize::try_from(len).expect("a transfer is at most 1 MiB long");
        let first = Place::of(offset, len);
        if first.len == len {
            return Some(Pieces::one(self.piece(nsid, first)));
        }
        let second = Place::of(offset + first.len as u64, len - first.len);
        (first.len + second.len == len)
            .then(|| Pieces::two(self.piece(nsid, first), self.piece(nsid, second)))
    }

    /// Fills `into` from the bytes at `offset`.
    pub(crate) fn read(&self, nsid: u32, offset: u64, into: &mut [u8]) {
        let part = self.parts.get(&nsid);
        for_chunks(offset, into.len(), |place, start| {
            let target = &mut into[start..start + place.len];
            match part.and_then(|part| part.chunk(place.chunk)) {
                Some(bytes) => target.copy_from_slice(&bytes[place.range()]),
                None => target.fill(0),
            }
        });
    }

    /// Has the processor fetch the bytes at `offset`.
    #[inline]
    pub(crate) fn expect_read(&self, nsid: u32, offset: u64) {
        let place = Place::of(offset, 1);
        if let Some(chunk) = self.parts.get(&nsid).and_then(|part| part.chunk(place.chunk)) {
            chunk.expect_read(place.within);
        }
    }

    /// Stores `from` at `offset`.
    pub(crate) fn write<B>(
        &mut self,
        nsid: u32,
        offset: u64,
        from: &[u8],
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Stored
    where
        B: Buffer<Shared = S>,
    {
        let mut stored = Ok(());
        for_chunks(offset, from.len(), |place, _| {
            stored = stored.and_then(|()| self.claim(nsid, place.chunk, memory));
        });
        stored?;
        for_chunks(offset, from.len(), |place, start| {
            self.change(nsid, place, memory, |bytes| bytes.copy_from_slice(&from[start..start + place.len]));
        });
        Ok(())
    }

    /// Makes `len` bytes at `offset` zeros, giving whole chunks back.
    pub(crate) fn zero<B>(
        &mut self,
        nsid: u32,
        offset: u64,
        len: u64,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Stored
    where
        B: Buffer<Shared = S>,
    {
        let chunks = self.parts.get(&nsid).map_or(0, |part| part.chunks.len());
        let end = (offset + len).min(chunks as u64 * CHUNK_BYTES as u64);
        let places = || {
            let mut at = offset;
            std::iter::from_fn(move || {
                let left = end.checked_sub(at).filter(|left| *left > 0)?;
                let place = Place::of(at, usize::try_from(left).unwrap_or(usize::MAX));
                at += place.len as u64;
                Some(place)
            })
        };
        let has =
            |parts: &Self, chunk| parts.parts.get(&nsid).is_some_and(|part| part.chunk(chunk).is_some());
        // At most the first and the last are not whole; they come first, for they alone can be refused.
        for place in places().filter(|place| place.len < CHUNK_BYTES) {
            if has(self, place.chunk) {
                self.claim(nsid, place.chunk, memory)?;
            }
        }
        for place in places() {
            if !has(self, place.chunk) {
                continue;
            }
            if place.len < CHUNK_BYTES {
                self.change(nsid, place, memory, |bytes| bytes.fill(0));
                continue;
            }
            let part = self.parts.get_mut(&nsid).expect("it has the chunk");
            match part.chunks[place.chunk].take().map(|chunk| memory.reclaim(chunk)) {
                Some(Ok(buffer)) => memory.release_lasting(buffer.share()),
                Some(Err(held)) => self.replaced.push_back(held),
                None => {}
            }
        }
        Ok(())
    }

    /// True where the bytes at `offset` are those of `with`.
    pub(crate) fn equals(&self, nsid: u32, offset: u64, with: &[u8]) -> bool {
        let part = self.parts.get(&nsid);
        let mut equal = true;
        for_chunks(offset, with.len(), |place, start| {
            let there = &with[start..start + place.len];
            equal &= match part.and_then(|part| part.chunk(place.chunk)) {
                Some(bytes) => bytes[place.range()] == *there,
                None => there.iter().all(|byte| *byte == 0),
            };
        });
        equal
    }

    /// What lies in one chunk.
    #[inline]
    fn piece<B: Buffer<Shared = S>>(&self, nsid: u32, place: Place) -> Piece<B> {
        match self.parts.get(&nsid).and_then(|part| part.chunk(place.chunk)) {
            Some(chunk) => Piece::Shared(Slice::part(chunk.clone(), place.range())),
            None => Piece::Zeroes { len: u32::try_from(place.len).expect("at most a chunk") },
        }
    }

    /// Makes sure that a chunk is there and that nobody else holds it.
    fn claim<B>(&mut self, nsid: u32, number: usize, memory: &mut impl Lasting<Buffer = B>) -> Stored
    where
        B: Buffer<Shared = S>,
    {
        let part = self.parts.entry(nsid).or_insert_with(|| RamPart { chunks: Vec::new() });
        if part.chunks.len() <= number {
            part.chunks.resize_with(number + 1, || None);
        }
        let chunk = &mut part.chunks[number];
        match chunk.take().map(|shared| memory.reclaim(shared)) {
            Some(Ok(buffer)) => *chunk = Some(buffer.share()),
            Some(Err(held)) => {
                let spare = self.spare.pop().and_then(|spare| memory.reclaim(spare).ok());
                let Some(mut buffer) = spare.or_else(|| memory.allocate_lasting(CHUNK_BYTES)) else {
                    *chunk = Some(held);
                    return Err(NoMemory);
                };
                buffer.copy_from_slice(&held);
                *chunk = Some(buffer.share());
                self.replaced.push_back(held);
                // Two for each that comes, so that they become fewer.
                self.look_again(memory);
                self.look_again(memory);
            }
            None => {
                let mut buffer = memory.allocate_lasting(CHUNK_BYTES).ok_or(NoMemory)?;
                buffer.fill(0);
                *chunk = Some(buffer.share());
            }
        }
        Ok(())
    }

    /// Changes bytes of a chunk that was claimed.
    fn change<B>(
        &mut self,
        nsid: u32,
        place: Place,
        memory: &mut impl Lasting<Buffer = B>,
        with: impl FnOnce(&mut [u8]),
    ) where
        B: Buffer<Shared = S>,
    {
        let part = self.parts.get_mut(&nsid).expect("it was claimed");
        let chunk = &mut part.chunks[place.chunk];
        let mut buffer =
            memory.reclaim(chunk.take().expect("it was claimed")).expect("nobody has asked for it since");
        with(&mut buffer[place.range()]);
        *chunk = Some(buffer.share());
    }

    /// Keeps the next replaced chunk for another, or gives it back, if it has been sent.
    fn look_again<B>(&mut self, memory: &mut impl Lasting<Buffer = B>)
    where
        B: Buffer<Shared = S>,
    {
        let Some(chunk) = self.replaced.pop_front() else { return };
        match memory.reclaim(chunk) {
            Ok(buffer) if self.spare.len() < SPARE_MAX => self.spare.push(buffer.share()),
            Ok(buffer) => memory.release_lasting(buffer.share()),
            Err(held) => self.replaced.push_back(held),
        }
    }

    /// True where a read may hold on to a chunk.
    #[inline]
    fn may_share<B>(&mut self, memory: &mut impl Lasting<Buffer = B>) -> bool
    where
        B: Buffer<Shared = S>,
    {
        if !self.replaced.is_empty() {
            self.look_again(memory);
        }
        self.replaced.len() < REPLACED_MAX
    }
}

impl<S> Default for RamParts<S> {
    fn default() -> Self {
        Self { parts: BTreeMap::new(), replaced: VecDeque::new(), spare: Vec::new() }
    }
}

impl<S> RamPart<S> {
    /// A chunk, if it was ever written.
    #[inline]
    fn chunk(&self, number: usize) -> Option<&S> {
        self.chunks.get(number).and_then(Option::as_ref)
    }
}

impl Place {
    /// Where the bytes at `offset` are, as many as lie in one chunk and `len` at most.
    #[inline]
    fn of(offset: u64, len: usize) -> Self {
        let chunk =
            usize::try_from(offset / CHUNK_BYTES as u64).expect("a RAM namespace fits the address space");
        let within = usize::try_from(offset % CHUNK_BYTES as u64).expect("less than a chunk");
        Self { chunk, within, len: len.min(CHUNK_BYTES - within) }
    }

    const fn range(self) -> std::ops::Range<usize> {
        self.within..self.within + self.len
    }
}

/// Calls `each(place, offset in the transfer)` for the chunks of a transfer.
fn for_chunks(offset: u64, len: usize, mut each: impl FnMut(Place, usize)) {
    let mut start = 0;
    while start < len {
        let place = Place::of(offset + start as u64, len - start);
        each(place, start);
        start += place.len;
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Answers a read of memory that is all here, without a way through jobs and pieces; `None` for everything else, and
    /// where it must be copied and there is no buffer for it now.
    pub(crate) fn read_memory(
        &mut self,
        request: &Request<I::Buffer>,
        io: &mut I,
    ) -> Option<Completion<I::Buffer>> {
        let stretch = self.stretch_here(request)?;
        let data = self.rack.read_memory(request.nsid, stretch, io)?;
        Some(Completion { status: Status::SUCCESS, data })
    }

    /// Has the processor fetch what these requests are going to read of memory, so that it need not wait for each when
    /// its turn comes.
    pub(crate) fn expect_reads(&self, requests: &[Request<I::Buffer>]) {
        if !self.rack.has_memory() {
            return;
        }
        for request in requests {
            if self.backings.get(request.nsid as usize) == Some(&Some(Backing::Ram))
                && let Some(stretch) = self.stretch_here(request)
            {
                self.rack.expect_read(request.nsid, stretch);
            }
        }
    }

    /// What a read of memory reads, if that is all here.
    fn stretch_here(&self, request: &Request<I::Buffer>) -> Option<Stretch> {
        let Operation::Read { range } = request.operation else { return None };
        let stretch = Striping::new(0, self.reactors).pieces(range.offset_bytes, range.len_bytes).next()?;
        (stretch.len == range.len_bytes && stretch.shard == self.reactor.0).then_some(stretch)
    }
}

#[cfg(test)]
mod test;
