//! Reads: where each block lies is looked up at the start, every block is checked, and decompressed if need be, at the
//! end.

use std::collections::VecDeque;

use io::{Buffer, Disk, DiskError, Extent, Purpose};

use super::pages::PagesRead;
use super::{BLOCK_BYTES, Outcome, Payload, Shard, TokenKind};
use crate::checksum::block_crc;
use crate::codec::{self, packed_crc};
use crate::map::{Entry, PageIndex};
use crate::{SegmentId, VolumeId};

const BLOCK: u64 = BLOCK_BYTES as u64;
const BLOCK_LEN: usize = BLOCK_BYTES as usize;

/// Reads that wait or are under way.
#[derive(Debug)]
pub(super) struct Reads<B: Buffer> {
    waiting: VecDeque<HostRead<B>>,
    /// Those that wait for leaves of the map, with one that each waits for.
    pub(super) missing: Vec<(PageIndex, HostRead<B>)>,
    active: super::slab::Slab<Read<B>>,
    /// Whether each read has ended, from the oldest that has not on; its number is `first_ticket`.
    ended: VecDeque<bool>,
    first_ticket: u64,
    /// Vectors of reads that have ended, and one for extents, for their memory.
    pub(super) spare: Vec<Vec<Entry>>,
    extents: Vec<Extent>,
    /// One compressed block, while what it comes to takes its place.
    scratch: Vec<u8>,
}

/// A request that reads.
#[derive(Debug)]
pub(super) struct HostRead<B: Buffer> {
    pub(super) tag: u64,
    pub(super) volume: VolumeId,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) kind: HostKind<B>,
}

/// What becomes of what was read.
#[derive(Debug)]
pub(super) enum HostKind<B: Buffer> {
    Read(B),
    Compare(Payload<B::Shared>),
    Verify,
}

/// A read under way.
#[derive(Debug)]
struct Read<B: Buffer> {
    first: u64,
    /// What is known of each block; none where the reader checks by itself.
    entries: Vec<Entry>,
    ticket: u64,
    purpose: ReadFor<B>,
}

/// Who reads.
#[derive(Debug)]
pub(super) enum ReadFor<B: Buffer> {
    /// A host, straight into its buffer.
    Direct { tag: u64 },
    /// A host whose range is not of whole blocks, or that wants no data.
    Bounced(HostRead<B>),
    /// The guard of this change.
    Guard(u32),
    /// Cleaning, a batch's header.
    CleanHeader,
    /// Cleaning, live blocks.
    CleanBlocks,
    /// The map, leaves.
    Pages(PagesRead),
    /// Cleaning, a stretch of the victim.
    CleanAhead { segment: SegmentId, offset: u32 },
}

impl<B: Buffer> HostRead<B> {
    /// The first block, and how many.
    fn blocks(&self) -> (u64, u32) {
        let first = self.offset / BLOCK;
        let end = (self.offset + self.len).div_ceil(BLOCK);
        (first, u32::try_from(end - first).expect("a request is at most 1 MiB long"))
    }
}

impl<B: Buffer> Reads<B> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            missing: Vec::new(),
            active: super::slab::Slab::new(),
            ended: VecDeque::new(),
            first_ticket: 0,
            spare: Vec::new(),
            extents: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, read: HostRead<B>) {
        self.waiting.push_back(read);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.missing.len() + self.active.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missing.is_empty() && self.active.is_empty()
    }

    /// The ticket that the next read gets.
    pub(super) fn next_ticket(&self) -> u64 {
        self.first_ticket + self.ended.len() as u64
    }

    /// Every read with a lower ticket has ended.
    pub(super) fn oldest_ticket(&self) -> u64 {
        self.first_ticket
    }

    fn begin(&mut self) -> u64 {
        self.ended.push_back(false);
        self.next_ticket() - 1
    }

    fn end(&mut self, ticket: u64) {
        if let Some(ended) =
            usize::try_from(ticket - self.first_ticket).ok().and_then(|at| self.ended.get_mut(at))
        {
            *ended = true;
        }
        while self.ended.front() == Some(&true) {
            self.ended.pop_front();
            self.first_ticket += 1;
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Starts the reads that wait.
    pub(super) fn start_reads<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        self.look_for_leaves();
        while let Some(read) = self.reads.waiting.pop_front() {
            let (first, count) = read.blocks();
            if self.map.has_away() {
                if !self.has_leaves(|map, needs| map.need_read(read.volume, first, count, needs)) {
                    let on = self.pages.needs.missing[0].page;
                    let leaves = self.pages.needs.missing.iter().filter(|wanted| wanted.level == 0);
                    self.pages.missed += leaves.count() as u64;
                    self.reads.missing.push((on, read));
                    continue;
                }
                if self.pages.needs.unreadable.is_some() {
                    self.refuse_read(read, Outcome::Unrecovered);
                    continue;
                }
            }
            let whole = read.offset.is_multiple_of(BLOCK) && read.len.is_multiple_of(BLOCK);
            let HostRead { tag, volume, offset, len, kind } = read;
            match kind {
                HostKind::Read(buffer) if whole => {
                    let entries = self.entries(volume, first, count);
                    self.start_read(disk, first, entries, buffer, ReadFor::Direct { tag });
                }
                kind => {
                    let read = HostRead { tag, volume, offset, len, kind };
                    let Some(buffer) = disk.allocate((count * BLOCK_BYTES) as usize, Purpose::Data) else {
                        self.reads.waiting.push_front(read);
                        self.retry_for_memory();
                        return;
                    };
                    let entries = self.entries(volume, first, count);
                    self.start_read(disk, first, entries, buffer, ReadFor::Bounced(read));
                }
            }
        }
    }

    /// Lets those reads try again for which leaves have come.
    fn look_for_leaves(&mut self) {
        if !std::mem::take(&mut self.pages.has_news) {
            return;
        }
        let mut at = 0;
        while let Some(&(on, _)) = self.reads.missing.get(at) {
            if self.map.is_coming(on) {
                at += 1;
            } else {
                let (_, read) = self.reads.missing.swap_remove(at);
                self.reads.waiting.push_back(read);
            }
        }
    }

    /// Keeps in memory what reads and guards have that wait for more.
    pub(super) fn hold_for_reads(&mut self) {
        self.hold_for_guards();
        for (_, read) in &self.reads.missing {
            let (first, count) = read.blocks();
            self.pages.needs.clear();
            self.map.need_read(read.volume, first, count, &mut self.pages.needs);
            self.pages.held.extend_from_slice(&self.pages.needs.leaves);
        }
    }

    /// Reads what the range of a guard holds; of what lies between its first and its last block only if all of it is
    /// looked at.
    pub(super) fn start_guard_read<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        write: u32,
        (volume, first, count): (VolumeId, u64, u32),
        edges_only: bool,
        buffer: B,
    ) {
        let mut entries = self.entries(volume, first, count);
        let len = entries.len();
        if edges_only && len > 2 {
            entries[1..len - 1].fill(Entry::UNMAPPED);
        }
        self.start_read(disk, first, entries, buffer, ReadFor::Guard(write));
    }

    /// Reads for cleaning, which checks what comes by itself.
    pub(super) fn start_raw_read<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        extents: &[Extent],
        buffer: B,
        purpose: ReadFor<B>,
    ) {
        let ticket = self.reads.begin();
        let id = self.reads.active.insert(Read { first: 0, entries: Vec::new(), ticket, purpose });
        disk.read(self.token(TokenKind::Read, u64::from(id)), buffer, extents);
    }

    /// A disk read ended: what it brought is checked and handed over.
    pub(super) fn on_read(&mut self, number: u64, mut buffer: B, result: Result<(), DiskError>) {
        let Some(read) = u32::try_from(number).ok().and_then(|id| self.reads.active.remove(id)) else {
            return;
        };
        self.reads.end(read.ticket);
        if result.is_err() {
            self.stats.read_errors += 1;
        }
        let good = result.is_ok() && self.settle_blocks(&read, &mut buffer);
        self.end_read(read, buffer, good, result.err());
    }

    /// Answers reads that have not begun; the others are answered as they end.
    pub(super) fn fail_reads(&mut self) {
        let missing = std::mem::take(&mut self.reads.missing).into_iter().map(|(_, read)| read);
        self.reads.waiting.extend(missing);
        while let Some(read) = self.reads.waiting.pop_front() {
            self.refuse_read(read, Outcome::Failed);
        }
    }

    fn refuse_read(&mut self, read: HostRead<B>, outcome: Outcome) {
        let buffer = if let HostKind::Read(buffer) = read.kind { Some(buffer) } else { None };
        self.answer(read.tag, outcome, buffer);
    }

    fn entries(&mut self, volume: VolumeId, first: u64, count: u32) -> Vec<Entry> {
        let mut entries = self.reads.spare.pop().unwrap_or_default();
        self.map.lookup(volume, first, count, &mut entries);
        entries
    }

    /// Begins a read of what `entries` say of the blocks from `first` on, or ends it at once if that is nothing.
    fn start_read<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        first: u64,
        entries: Vec<Entry>,
        mut buffer: B,
        purpose: ReadFor<B>,
    ) {
        let mut extents = std::mem::take(&mut self.reads.extents);
        extents.clear();
        let mut at = 0;
        while let Some(&entry) = entries.get(at) {
            let start = at * BLOCK_LEN;
            if !entry.is_mapped() {
                buffer[start..start + BLOCK_LEN].fill(0);
                at += 1;
                continue;
            }
            let (count, len) = self.stretch(&entries[at..]);
            at += count;
            let (drive, offset) = self.space.place(&self.layout, entry.location());
            // Compressed blocks come to lie at the end of the room that is theirs, so that they can be decompressed
            // one after another from its beginning.
            extents.push(Extent { drive, offset, start: as_u32(at * BLOCK_LEN - len), len: as_u32(len) });
        }
        if extents.is_empty() {
            self.end_read(Read { first, entries, ticket: 0, purpose }, buffer, true, None);
        } else {
            let ticket = self.reads.begin();
            let id = self.reads.active.insert(Read { first, entries, ticket, purpose });
            disk.read(self.token(TokenKind::Read, u64::from(id)), buffer, &extents);
        }
        self.reads.extents = extents;
    }

    /// How many blocks from the first on lie one behind the other, stored alike, and in how many bytes.
    fn stretch(&self, entries: &[Entry]) -> (usize, usize) {
        let (mut count, mut len) = (0, 0);
        let Some(&first) = entries.first() else { return (0, 0) };
        let segment = self.space.segment_of(first.location());
        let mut after = first.location();
        for &entry in entries {
            let goes_on = entry.is_mapped()
                && entry.location() == after
                && entry.is_packed() == first.is_packed()
                && self.space.segment_of(after) == segment;
            if !goes_on {
                break;
            }
            count += 1;
            len += entry.bytes() as usize;
            after.0 += u64::from(entry.units());
        }
        (count, len)
    }

    /// Checks that every block is what was written there, and decompresses those that are compressed.
    fn settle_blocks(&mut self, read: &Read<B>, buffer: &mut B) -> bool {
        let mut are_good = true;
        let mut at = 0;
        while let Some(&entry) = read.entries.get(at) {
            if !entry.is_mapped() {
                at += 1;
                continue;
            }
            let (count, len) = self.stretch(&read.entries[at..]);
            let mut from = (at + count) * BLOCK_LEN - len;
            for (at, entry) in (at..).zip(&read.entries[at..at + count]) {
                let stored = from..from + entry.bytes() as usize;
                from = stored.end;
                let place = at * BLOCK_LEN..(at + 1) * BLOCK_LEN;
                let block = read.first + at as u64;
                let is_good = if entry.is_packed() {
                    let scratch = &mut self.reads.scratch;
                    scratch.clear();
                    scratch.extend_from_slice(&buffer[stored]);
                    self.unpack(block, *entry, &mut buffer[place])
                } else {
                    self.checks(*entry, || Some(block_crc(block, &buffer[place])))
                };
                if !is_good {
                    are_good = false;
                    let (drive, _) = self.space.place(&self.layout, entry.location());
                    *self.checksum_errors.entry(drive).or_default() += 1;
                }
            }
            at += count;
        }
        are_good
    }

    /// Decompresses the block in the scratch memory to its place.
    fn unpack(&self, block: u64, entry: Entry, to: &mut [u8]) -> bool {
        let stored = &self.reads.scratch;
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::TrustPacked) {
            codec::unpack(stored, to);
            return true;
        }
        self.checks(entry, || packed_crc(block, stored)) && codec::unpack(stored, to)
    }

    fn checks(&self, entry: Entry, crc: impl FnOnce() -> Option<u32>) -> bool {
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::SkipChecksums) {
            return true;
        }
        crc().is_some_and(|crc| entry.accepts(crc))
    }

    fn end_read(&mut self, read: Read<B>, buffer: B, good: bool, error: Option<DiskError>) {
        let Read { mut entries, purpose, .. } = read;
        entries.clear();
        if entries.capacity() > 0 {
            // Reads of the cleaner and of map pages have none, and take none from here.
            self.reads.spare.push(entries);
        }
        let bad = if self.is_failed() { Outcome::Failed } else { Outcome::Unrecovered };
        match purpose {
            ReadFor::Direct { tag } => {
                self.stats.read_bytes += buffer.len() as u64;
                self.answer(tag, if good { Outcome::Ok } else { bad }, Some(buffer));
            }
            ReadFor::Bounced(host) => self.end_bounced(host, &buffer, good, bad),
            ReadFor::Guard(write) => self.on_guard_content(write, buffer, good),
            ReadFor::CleanHeader => self.on_clean_header(buffer, good),
            ReadFor::CleanBlocks => self.on_clean_blocks(buffer, good),
            ReadFor::Pages(read) => self.on_leaves(read, &buffer, error),
            ReadFor::CleanAhead { segment, offset } => self.on_clean_ahead(segment, offset, buffer, good),
        }
    }

    fn end_bounced(&mut self, host: HostRead<B>, bytes: &B, good: bool, bad: Outcome) {
        let HostRead { tag, offset, len, kind, .. } = host;
        let start = usize::try_from(offset % BLOCK).expect("within a block");
        let len = usize::try_from(len).expect("a request is at most 1 MiB long");
        let outcome = if good { Outcome::Ok } else { bad };
        match kind {
            HostKind::Read(mut buffer) => {
                if good {
                    self.stats.read_bytes += len as u64;
                    buffer[..len].copy_from_slice(&bytes[start..start + len]);
                }
                self.answer(tag, outcome, Some(buffer));
            }
            HostKind::Compare(data) if good && !data.equals(0, &bytes[start..start + len]) => {
                self.answer(tag, Outcome::CompareFailed, None);
            }
            HostKind::Compare(_) | HostKind::Verify => self.answer(tag, outcome, None),
        }
    }
}

fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a request is at most 1 MiB long")
}
