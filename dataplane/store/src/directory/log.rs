//! The log in a half: frames one behind the other, and the steps that write them.

use io::DriveId;

use super::format::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, HEADER_BYTES, HalfHeader,
};
use super::record::RawRecord;
use super::table::Stored;
use crate::pool::Layout;
use crate::pool::step::Step;

/// Where the directory lies, and what its checksums are seeded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) pool: [u8; 16],
    pub(crate) block_bytes: u32,
    pub(crate) half_bytes: u32,
    drive: DriveId,
    halves: [u64; 2],
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    /// The half that it is in, 0 or 1.
    pub(crate) half: usize,
    /// The generation of that half.
    pub(crate) generation: u64,
    /// Where the next frame goes, a multiple of the block.
    pub(crate) tail: u32,
    /// Its number.
    pub(crate) sequence: u64,
    /// The checksum of the frame before it.
    pub(crate) previous_crc: u32,
}

/// A frame that is being filled.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    records: u32,
    bytes_max: usize,
}

impl Place {
    pub(crate) fn new(layout: &Layout) -> Self {
        let area = layout.directory();
        Self {
            pool: layout.identity().pool,
            block_bytes: layout.block_bytes(),
            half_bytes: area.half_bytes,
            drive: area.drive,
            halves: area.halves,
        }
    }

    /// Reads the header of a half.
    pub(crate) fn read_header(&self, half: usize) -> Step {
        Step::Read { drive: self.drive, offset: self.halves[half], len: HEADER_BYTES }
    }

    /// Writes the header of a half.
    pub(crate) fn write_header(&self, half: usize, header: &HalfHeader) -> Step {
        Step::Write { drive: self.drive, offset: self.halves[half], bytes: header.encode(&self.pool) }
    }

    /// Reads as much as the longest frame from `offset` on, or what the half has there.
    pub(crate) fn read_window(&self, half: usize, offset: u32) -> Step {
        let len = FRAME_BYTES_MAX.min(self.half_bytes - offset);
        Step::Read { drive: self.drive, offset: self.halves[half] + u64::from(offset), len }
    }

    pub(crate) fn flush(&self) -> Step {
        Step::Flush { drive: self.drive }
    }
}

impl Log {
    /// The log of a generation that has no frame yet.
    pub(crate) fn new(half: usize, generation: u64) -> Self {
        Self { half, generation, tail: FRAMES_OFFSET, sequence: 1, previous_crc: 0 }
    }

    /// An empty frame that fits behind the tail.
    pub(crate) fn frame(&self, place: &Place) -> Frame {
        let bytes_max = FRAME_BYTES_MAX.min(place.half_bytes - self.tail) as usize;
        Frame { bytes: vec![0; FRAME_HEADER_BYTES as usize], records: 0, bytes_max }
    }

    /// Seals the frame at the tail, moves the tail behind it, and returns the write.
    pub(crate) fn append(&mut self, place: &Place, frame: Frame) -> Step {
        assert!(frame.records > 0);
        let Frame { mut bytes, records, bytes_max } = frame;
        let header = FrameHeader {
            generation: self.generation,
            sequence: self.sequence,
            offset: self.tail,
            body_bytes: 0,
            records,
            previous_crc: self.previous_crc,
            body_crc: 0,
            crc: 0,
        };
        let header = header.seal(&mut bytes, &place.pool, place.block_bytes);
        assert!(bytes.len() <= bytes_max);
        let offset = place.halves[self.half] + u64::from(self.tail);
        self.on_frame(place, &header);
        Step::Write { drive: place.drive, offset, bytes }
    }

    /// Moves the tail behind a frame that lies there.
    pub(crate) fn on_frame(&mut self, place: &Place, header: &FrameHeader) {
        self.tail += header.padded_bytes(place.block_bytes);
        self.sequence += 1;
        self.previous_crc = header.crc;
    }

    /// Whether the frame is the one that follows here.
    pub(crate) fn is_next(&self, header: &FrameHeader) -> bool {
        header.generation == self.generation
            && header.sequence == self.sequence
            && header.offset == self.tail
            && header.previous_crc == self.previous_crc
    }
}

impl Frame {
    /// Whether records of `bytes` still fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= self.bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn push(&mut self, record: &RawRecord) {
        record.encode(&mut self.bytes);
        self.records += 1;
    }

    pub(crate) fn push_stored(&mut self, stored: &Stored) {
        stored.encode(&mut self.bytes);
        self.records += 1;
    }
}
