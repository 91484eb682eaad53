//! The log's format: a batch is one write to a drive, a header block or more with records, then payload.
//!
//! All integers are little-endian. A batch begins and ends at multiples of 4096 bytes, and so does its payload.
//!
//! | offset | bytes | field of the batch header |
//! |---|---|---|
//! | 0 | 8 | magic `FeBATCH\n` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of header and records with this field zero |
//! | 16 | 4 | bytes up to the payload |
//! | 20 | 4 | bytes in all |
//! | 24 | 4 | number of records |
//! | 28 | 4 | bytes of the records |
//! | 32 | 2 | shard |
//! | 34 | 2 | zero |
//! | 36 | 4 | segment |
//! | 40 | 16 | pool UUID |
//! | 56 | 8 | generation of the segment: the sequence of the batch that began it |
//! | 64 | 8 | sequence of this batch in the shard, from 1, without gaps |
//! | 72 | 8 | epoch: one more after every recovery |
//! | 80 | 8 | hash (CRC-64/NVME) of header and records of the batch before |
//! | 88 | 8 | LSN of the first record; each record has the next |
//! | 96 | 8 | the highest batch that was known to be safe from a power cut |
//! | 104 | 24 | zero |
//!
//! Records follow, each a multiple of 8 bytes: a head of 32 bytes, then what its kind adds.
//!
//! | offset | bytes | field of the record head |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 1 | flags: bit 0, the next record belongs to the same request, all or none |
//! | 2 | 1 | codec of the payload: 0, blocks as they are; 1, each behind a prefix, compressed by LZ4 |
//! | 3 | 1 | level (page) |
//! | 4 | 4 | count of blocks |
//! | 8 | 8 | image (the lineage, in a move and a page; the next segment, in a seal) |
//! | 16 | 8 | first block (or index of a page in its level) |
//! | 24 | 4 | offset of the payload in the batch |
//! | 28 | 4 | bytes of the payload |
//!
//! | kind | adds |
//! |---|---|
//! | 1 write | the image's lineage, 8 bytes; a CRC32C for each block; with a codec, its units of 512 bytes, 1 byte each |
//! | 2 unmap | the block after the last, 8 bytes |
//! | 3 move | for each block its birth (LSN, 8 bytes), old place (8 bytes), CRC32C (4 bytes), with a codec its units (1 byte), zeros |
//! | 4 page | nothing; pages describe themselves |
//! | 5 manifest | CRC32C of the payload, 4 bytes, 4 zero bytes |
//! | 6 seal | nothing; it is alone in its batch, and the log goes on at the start of the segment that is named |
//! | 7 drop volume | nothing |
//! | 8 fork | the new image, 8 bytes; flag bit 1: it is read-only |
//!
//! Blocks of one record lie one behind the other: those that are stored as they are from a multiple of 4096 of the
//! segment on, compressed ones from a multiple of 512.
//!
//! The birth of a block is the LSN of the write record that made it; a move keeps it.

use crate::checksum;
use crate::codec::{Form, LZ4, RAW_UNITS, UNIT_BYTES};
use crate::map::Location;
use crate::pool::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use crate::{BLOCK_BYTES, SegmentId, ShardId, VolumeId};

/// The format that this code writes, and the only one that it reads.
pub(crate) const LOG_VERSION: u32 = 2;
/// Bytes of a batch header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Bytes of the part that every record has.
pub(crate) const RECORD_BYTES: usize = 32;
/// Bytes that a move adds for each block.
pub(crate) const MOVED_BYTES: usize = 24;
/// The most that header and records may take.
pub(crate) const HEADER_BYTES_MAX: usize = 32 << 10;
/// Batches, payloads and blocks begin at multiples of this.
pub(crate) const ALIGNMENT: u32 = BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"FeBATCH\n";
const CRC_OFFSET: usize = 12;
const MORE: u8 = 1;
const READ_ONLY: u8 = 2;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) header_bytes: u32,
    pub(crate) total_bytes: u32,
    pub(crate) record_count: u32,
    pub(crate) record_bytes: u32,
    pub(crate) shard: ShardId,
    pub(crate) segment: SegmentId,
    pub(crate) pool: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) previous: u64,
    pub(crate) first_lsn: u64,
    pub(crate) flushed: u64,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Write { volume: VolumeId, lineage: VolumeId, block: u64, more: bool, payload: u32, forms: Forms<'a> },
    Unmap { volume: VolumeId, first: u64, end: u64, more: bool },
    Move { lineage: VolumeId, block: u64, payload: u32, moved: Moved<'a> },
    Page { lineage: VolumeId, level: u8, index: u64, payload: u32, len: u32 },
    Manifest { payload: u32, len: u32, crc: u32 },
    Seal { next: SegmentId },
    DropVolume { volume: VolumeId },
    Fork { volume: VolumeId, image: VolumeId, read_only: bool },
}

/// How the blocks of a write are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forms<'a> {
    crcs: &'a [u8],
    /// None where the blocks are stored as they are.
    units: &'a [u8],
}

/// What a move says of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved<'a>(&'a [u8]);

/// One block of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MovedBlock {
    pub(crate) birth: u64,
    pub(crate) from: Location,
    pub(crate) form: Form,
}

/// These bytes are not what a batch says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Writes records one after another behind a batch header.
#[derive(Debug)]
pub(crate) struct RecordWriter<'a> {
    bytes: &'a mut [u8],
    at: usize,
    count: u32,
}

/// What a [`RecordWriter`] has written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) count: u32,
    pub(crate) record_bytes: u32,
    pub(crate) header_bytes: u32,
}

/// Writes of one image, each of one block that is stored as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockWrites<'a> {
    pub(crate) volume: VolumeId,
    pub(crate) lineage: VolumeId,
    records: &'a [[u8; BLOCK_WRITE_BYTES]],
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockWrite {
    pub(crate) block: u64,
    pub(crate) payload: u32,
    pub(crate) form: Form,
}

/// Bytes of its record.
const BLOCK_WRITE_BYTES: usize = write_record_bytes(1, false);

/// Reads records one after another.
#[derive(Clone, Debug)]
pub(crate) struct RecordReader<'a> {
    bytes: &'a [u8],
    left: u32,
    header: BatchHeader,
}

/// Bytes of a write record of `count` blocks.
pub(crate) const fn write_record_bytes(count: usize, packed: bool) -> usize {
    RECORD_BYTES + 8 + (count * if packed { 5 } else { 4 }).next_multiple_of(8)
}

/// Blocks that a volume's part in a shard can have: as many as the levels of a map reach.
const BLOCKS_MAX: u64 = 1 << 54;

/// Bytes of an unmap, manifest or fork record.
pub(crate) const UNMAP_RECORD_BYTES: usize = RECORD_BYTES + 8;

/// Bytes of a move record of `count` blocks.
pub(crate) const fn move_record_bytes(count: usize) -> usize {
    RECORD_BYTES + count * MOVED_BYTES
}

/// Bytes up to the payload when the records take `record_bytes`.
pub(crate) fn header_bytes(record_bytes: usize) -> usize {
    (HEADER_BYTES + record_bytes).next_multiple_of(ALIGNMENT as usize)
}

impl BatchHeader {
    /// Writes the header over `bytes[..HEADER_BYTES]`, checksums it with the records behind it, and gives the hash by
    /// which the next batch names this one.
    pub(crate) fn seal(&self, bytes: &mut [u8]) -> u64 {
        let end = HEADER_BYTES + self.record_bytes as usize;
        bytes[..HEADER_BYTES].fill(0);
        put(bytes, 0, &MAGIC);
        put(bytes, 8, &LOG_VERSION.to_le_bytes());
        put(bytes, 16, &self.header_bytes.to_le_bytes());
        put(bytes, 20, &self.total_bytes.to_le_bytes());
        put(bytes, 24, &self.record_count.to_le_bytes());
        put(bytes, 28, &self.record_bytes.to_le_bytes());
        put(bytes, 32, &self.shard.0.to_le_bytes());
        put(bytes, 36, &self.segment.0.to_le_bytes());
        put(bytes, 40, &self.pool);
        put(bytes, 56, &self.generation.to_le_bytes());
        put(bytes, 64, &self.sequence.to_le_bytes());
        put(bytes, 72, &self.epoch.to_le_bytes());
        put(bytes, 80, &self.previous.to_le_bytes());
        put(bytes, 88, &self.first_lsn.to_le_bytes());
        put(bytes, 96, &self.flushed.to_le_bytes());
        let crc = checksum::crc32c(&bytes[..end]);
        put(bytes, CRC_OFFSET, &crc.to_le_bytes());
        checksum::chain_hash(&bytes[..end])
    }

    /// Reads a header from the first block of what may be a batch, without its checksum: says how much more to read.
    pub(crate) fn peek(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC || u32_at(bytes, 8) != LOG_VERSION {
            return Err(Malformed);
        }
        let header = Self {
            header_bytes: u32_at(bytes, 16),
            total_bytes: u32_at(bytes, 20),
            record_count: u32_at(bytes, 24),
            record_bytes: u32_at(bytes, 28),
            shard: ShardId(u16_at(bytes, 32)),
            segment: SegmentId(u32_at(bytes, 36)),
            pool: array(bytes, 40),
            generation: u64_at(bytes, 56),
            sequence: u64_at(bytes, 64),
            epoch: u64_at(bytes, 72),
            previous: u64_at(bytes, 80),
            first_lsn: u64_at(bytes, 88),
            flushed: u64_at(bytes, 96),
        };
        let sizes_agree = header.record_bytes as usize <= HEADER_BYTES_MAX - HEADER_BYTES
            && header.header_bytes as usize >= header_bytes(header.record_bytes as usize)
            && header.header_bytes as usize <= HEADER_BYTES_MAX
            && header.header_bytes.is_multiple_of(ALIGNMENT)
            && header.total_bytes >= header.header_bytes
            && header.total_bytes.is_multiple_of(ALIGNMENT)
            && header.record_count as usize <= header.record_bytes as usize / RECORD_BYTES;
        let reserved_is_zero = is_zero(&bytes[34..36]) && is_zero(&bytes[104..HEADER_BYTES]);
        if sizes_agree && reserved_is_zero { Ok(header) } else { Err(Malformed) }
    }

    /// Checks header and records; `bytes` holds at least `header_bytes`. Gives the hash for the next batch.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<u64, Malformed> {
        let end = HEADER_BYTES + self.record_bytes as usize;
        if bytes.len() < end {
            return Err(Malformed);
        }
        let mut head: [u8; HEADER_BYTES] = array(bytes, 0);
        head[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
        let crc = crate::pool::bytes::crc32c(&[&head, &bytes[HEADER_BYTES..end]]);
        if crc == u32_at(bytes, CRC_OFFSET) { Ok(self.hash(bytes)) } else { Err(Malformed) }
    }

    /// The hash for the next batch, of a header and records that some other checksum has verified.
    ///
    /// # Panics
    /// If there are less bytes than the header says.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        checksum::chain_hash(&bytes[..HEADER_BYTES + self.record_bytes as usize])
    }

    /// The records of a batch whose header was verified.
    pub(crate) fn records<'a>(&self, bytes: &'a [u8]) -> RecordReader<'a> {
        let end = HEADER_BYTES + self.record_bytes as usize;
        RecordReader { bytes: &bytes[HEADER_BYTES..end], left: self.record_count, header: *self }
    }
}

impl<'a> RecordWriter<'a> {
    /// Writes into the header part of a batch, of which it zeroes the rest when finished.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: HEADER_BYTES, count: 0 }
    }

    /// Whether a record of this many bytes still fits.
    pub(crate) fn has_room(&self, record_bytes: usize) -> bool {
        self.at + record_bytes <= self.bytes.len()
    }

    /// A write of `count` blocks with `len` bytes of payload. Their checksums follow by [`RecordWriter::crc`], then of
    /// compressed ones all their units by [`RecordWriter::units`], then [`RecordWriter::pad`].
    pub(crate) fn write(
        &mut self,
        (volume, lineage): (VolumeId, VolumeId),
        block: u64,
        (count, packed): (u32, bool),
        more: bool,
        (payload, len): (u32, u32),
    ) {
        self.head(1, u8::from(more), packed, 0, count, volume.0, block, payload, len);
        self.raw(&lineage.0.to_le_bytes());
    }

    /// The checksum of the next block of a write.
    pub(crate) fn crc(&mut self, crc: u32) {
        self.raw(&crc.to_le_bytes());
    }

    /// The units of the next block of a write.
    pub(crate) fn units(&mut self, form: Form) {
        self.raw(&[form.units()]);
    }

    /// Fills up to the multiple of 8 at which the next record begins.
    pub(crate) fn pad(&mut self) {
        let end = self.at.next_multiple_of(8);
        self.bytes[self.at..end].fill(0);
        self.at = end;
    }

    pub(crate) fn unmap(&mut self, volume: VolumeId, first: u64, end: u64, more: bool) {
        self.head(2, u8::from(more), false, 0, 0, volume.0, first, 0, 0);
        self.raw(&end.to_le_bytes());
    }

    /// A move of blocks; what is said of each follows by [`RecordWriter::moved`], `count` times.
    pub(crate) fn begin_move(
        &mut self,
        lineage: VolumeId,
        block: u64,
        (count, packed): (u32, bool),
        (payload, len): (u32, u32),
    ) {
        self.head(3, 0, packed, 0, count, lineage.0, block, payload, len);
    }

    pub(crate) fn moved(&mut self, moved: &MovedBlock) {
        let units = if moved.form.is_packed() { moved.form.units() } else { 0 };
        self.raw(&moved.birth.to_le_bytes());
        self.raw(&moved.from.0.to_le_bytes());
        self.raw(&moved.form.crc.to_le_bytes());
        self.raw(&[units, 0, 0, 0]);
    }

    pub(crate) fn page(&mut self, lineage: VolumeId, level: u8, index: u64, payload: u32, len: u32) {
        self.head(4, 0, false, level, 0, lineage.0, index, payload, len);
    }

    pub(crate) fn manifest(&mut self, payload: u32, len: u32, crc: u32) {
        self.head(5, 0, false, 0, 0, 0, 0, payload, len);
        self.raw(&crc.to_le_bytes());
        self.raw(&[0; 4]);
    }

    pub(crate) fn seal(&mut self, next: SegmentId) {
        self.head(6, 0, false, 0, 0, u64::from(next.0), 0, 0, 0);
    }

    pub(crate) fn drop_volume(&mut self, volume: VolumeId) {
        self.head(7, 0, false, 0, 0, volume.0, 0, 0, 0);
    }

    pub(crate) fn fork(&mut self, volume: VolumeId, image: VolumeId, read_only: bool) {
        self.head(8, if read_only { READ_ONLY } else { 0 }, false, 0, 0, volume.0, 0, 0, 0);
        self.raw(&image.0.to_le_bytes());
    }

    /// Zeroes what is left of the header part.
    pub(crate) fn finish(self) -> Written {
        self.bytes[self.at..].fill(0);
        let as_u32 = |bytes| u32::try_from(bytes).expect("a header part is far below 4 GiB");
        Written {
            count: self.count,
            record_bytes: as_u32(self.at - HEADER_BYTES),
            header_bytes: as_u32(self.bytes.len()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the record head, in their order")]
    fn head(
        &mut self,
        kind: u8,
        flags: u8,
        packed: bool,
        level: u8,
        count: u32,
        volume: u64,
        block: u64,
        payload: u32,
        len: u32,
    ) {
        self.raw(&[kind, flags, if packed { LZ4 } else { 0 }, level]);
        self.raw(&count.to_le_bytes());
        self.raw(&volume.to_le_bytes());
        self.raw(&block.to_le_bytes());
        self.raw(&payload.to_le_bytes());
        self.raw(&len.to_le_bytes());
        self.count += 1;
    }

    fn raw(&mut self, bytes: &[u8]) {
        put(self.bytes, self.at, bytes);
        self.at += bytes.len();
    }
}

impl BlockWrites<'_> {
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.records.len()).expect("a batch is at most 1 MiB")
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = BlockWrite> {
        self.records.iter().map(|record| BlockWrite {
            block: u64_at(record, 16),
            payload: u32_at(record, 24),
            form: Form::raw(u32_at(record, 40)),
        })
    }
}

impl<'a> RecordReader<'a> {
    /// The records that come next, as far as they are whole writes of one block each that is stored as it is, which most
    /// are, and of one image. All else, also what is malformed, is left to [`Iterator::next`].
    pub(crate) fn next_blocks(&mut self) -> Option<BlockWrites<'a>> {
        /// Kind 1, without flags, codec and level, of one block.
        const HEAD: u64 = 1 | 1 << 32;
        let (records, _) = self.bytes.as_chunks::<BLOCK_WRITE_BYTES>();
        let records = &records[..records.len().min(self.left as usize)];
        let first = records.first()?;
        let (volume, lineage) = (u64_at(first, 8), u64_at(first, 32));
        let payload_max = self.header.total_bytes.checked_sub(BLOCK_BYTES)?;
        let is_one = |record: &[u8; BLOCK_WRITE_BYTES]| {
            let payload = u32_at(record, 24);
            // Compared without a branch for each.
            (u64_at(record, 0) == HEAD)
                & (u64_at(record, 8) == volume)
                & (u64_at(record, 16) < BLOCKS_MAX)
                & (u32_at(record, 28) == BLOCK_BYTES)
                & (u64_at(record, 32) == lineage)
                & payload.is_multiple_of(ALIGNMENT)
                & (payload >= self.header.header_bytes)
                & (payload <= payload_max)
        };
        let count = records.iter().position(|record| !is_one(record)).unwrap_or(records.len());
        let records = &records[..count];
        self.bytes = &self.bytes[records.as_flattened().len()..];
        self.left -= u32::try_from(count).expect("at most as many as are left");
        let (volume, lineage) = (VolumeId(volume), VolumeId(lineage));
        (count > 0).then_some(BlockWrites { volume, lineage, records })
    }

    fn parse(&mut self) -> Result<Record<'a>, Malformed> {
        if self.bytes.len() < RECORD_BYTES {
            return Err(Malformed);
        }
        let (head, rest) = self.bytes.split_at(RECORD_BYTES);
        let (flags, codec, level) = (head[1], head[2], head[3]);
        let count = u32_at(head, 4);
        let volume = VolumeId(u64_at(head, 8));
        let block = u64_at(head, 16);
        let (payload, len) = (u32_at(head, 24), u32_at(head, 28));
        let known = if head[0] == 8 { READ_ONLY } else { MORE };
        let packed = codec == LZ4 && matches!(head[0], 1 | 3);
        if flags & !known != 0 || codec != 0 && !packed || !self.payload_fits(payload, len) {
            return Err(Malformed);
        }
        let more = flags & MORE != 0;
        let blocks_fit = count != 0
            && (packed || Some(len) == count.checked_mul(BLOCK_BYTES))
            && block.checked_add(u64::from(count)).is_some_and(|end| end <= BLOCKS_MAX)
            && payload.is_multiple_of(if packed { UNIT_BYTES } else { ALIGNMENT });
        let (record, used) = match head[0] {
            1 if blocks_fit => {
                let count = count as usize;
                let used = write_record_bytes(count, packed) - RECORD_BYTES;
                let crcs = rest.get(8..8 + count * 4).ok_or(Malformed)?;
                let units =
                    if packed { rest.get(8 + count * 4..8 + count * 5).ok_or(Malformed)? } else { &[] };
                if packed && !units_fit(units.iter().copied(), len) {
                    return Err(Malformed);
                }
                let lineage = VolumeId(u64_at(rest, 0));
                (Record::Write { volume, lineage, block, more, payload, forms: Forms { crcs, units } }, used)
            }
            2 if rest.len() >= 8 && u64_at(rest, 0) > block => {
                (Record::Unmap { volume, first: block, end: u64_at(rest, 0), more }, 8)
            }
            3 if blocks_fit && !more => {
                let used = move_record_bytes(count as usize) - RECORD_BYTES;
                let moved = Moved(rest.get(..used).ok_or(Malformed)?);
                let mut units = moved.0.chunks_exact(MOVED_BYTES).map(|bytes| bytes[20]);
                if if packed { !units_fit(units, len) } else { units.any(|units| units != 0) } {
                    return Err(Malformed);
                }
                (Record::Move { lineage: volume, block, payload, moved }, used)
            }
            4 if !more && len > 0 => (Record::Page { lineage: volume, level, index: block, payload, len }, 0),
            5 if !more && len > 0 && rest.len() >= 8 => {
                (Record::Manifest { payload, len, crc: u32_at(rest, 0) }, 8)
            }
            6 if !more => {
                let next = SegmentId(u32::try_from(volume.0).map_err(|_| Malformed)?);
                (Record::Seal { next }, 0)
            }
            7 if !more => (Record::DropVolume { volume }, 0),
            8 if rest.len() >= 8 => {
                let image = VolumeId(u64_at(rest, 0));
                (Record::Fork { volume, image, read_only: flags & READ_ONLY != 0 }, 8)
            }
            _ => return Err(Malformed),
        };
        self.bytes = rest.get(used..).ok_or(Malformed)?;
        Ok(record)
    }

    fn payload_fits(&self, payload: u32, len: u32) -> bool {
        len == 0
            || (payload >= self.header.header_bytes
                && payload.checked_add(len).is_some_and(|end| end <= self.header.total_bytes))
    }
}

impl<'a> Iterator for RecordReader<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // A record that nobody counted is not ours.
            return (!std::mem::take(&mut self.bytes).is_empty()).then_some(Err(Malformed));
        }
        self.left -= 1;
        let record = self.parse();
        if record.is_err() {
            self.left = 0;
            self.bytes = &[];
        }
        Some(record)
    }
}

/// Whether compressed blocks of these units come to `len` bytes.
fn units_fit(mut units: impl Iterator<Item = u8>, len: u32) -> bool {
    let add = |sum: u64, units: u8| (1..RAW_UNITS).contains(&units).then_some(sum + u64::from(units));
    units.try_fold(0, add).is_some_and(|sum| sum * u64::from(UNIT_BYTES) == u64::from(len))
}

/// The form of a block whose units were checked; 0 where it is stored as it is.
fn form(crc: u32, units: u8) -> Form {
    Form::packed(crc, units).unwrap_or(Form::raw(crc))
}

impl Forms<'_> {
    /// The forms of the blocks in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Form> {
        let units = self.units.iter().copied().chain(std::iter::repeat(0));
        self.crcs.chunks_exact(4).zip(units).map(|(bytes, units)| form(u32_at(bytes, 0), units))
    }

    /// How many blocks.
    pub(crate) fn count(&self) -> u64 {
        self.crcs.len() as u64 / 4
    }
}

impl Moved<'_> {
    /// The blocks in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MovedBlock> {
        self.0.chunks_exact(MOVED_BYTES).map(|bytes| MovedBlock {
            birth: u64_at(bytes, 0),
            from: Location(u64_at(bytes, 8)),
            form: form(u32_at(bytes, 16), bytes[20]),
        })
    }
}

#[cfg(test)]
mod test;
