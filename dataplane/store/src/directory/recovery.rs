//! Reading the directory back: which half is the log, every frame of it, and nothing that was not.
//!
//! Frames are durable one by one, so only the last can be torn. What looks torn but has a frame behind it, or lies in
//! the snapshot, is damage and is refused. Nothing is reported before it is durable: a frame that a killed server left
//! in the drive's cache is flushed first.

use std::sync::Arc;

use super::format::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, HalfHeader, HalfState, HeaderFault};
use super::log::{Log, Place};
use super::marks::Marks;
use super::record::{
    FLAG_OPTIONAL, FLAG_REMOVE, KIND_MARKS, KIND_SNAPSHOT, KIND_VOLUME, RawRecord, VolumeRecord,
};
use super::snapshot::SnapshotRecord;
use super::table::Table;
use super::{Damage, DirectoryFault};
use crate::pool::VolumeId;
use crate::pool::step::Step;

/// How far behind the log's end frames are looked for that must not be there: two of the longest.
const BEYOND_BYTES: u32 = 2 * FRAME_BYTES_MAX;

/// A recovery under way.
#[derive(Debug)]
pub(crate) struct Recovery {
    place: Place,
    stage: Stage,
    log: Log,
    snapshot_end: u32,
    next_generation: u64,
    superseded: Option<HalfHeader>,
    table: Table,
    marks: Marks,
}

/// What was recovered.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(crate) next_generation: u64,
    pub(crate) table: Table,
    pub(crate) marks: Marks,
}

#[derive(Debug)]
enum Stage {
    FirstHeader,
    SecondHeader(HalfHeader),
    /// Reading frames; the window under way begins at the log's tail.
    Frames,
    /// Looking for frames behind the end; the window under way begins here.
    Beyond(u32),
    /// Making durable what was read.
    Flush,
    /// Retiring a half that a snapshot has superseded.
    Retire,
    RetireFlush,
}

/// What a look at the tail finds.
enum Found {
    Frame(FrameHeader),
    /// No frame follows: the log ends here.
    End,
    /// The window ends before the frame does.
    Cut,
}

impl Recovery {
    /// A recovery and its first step.
    pub(crate) fn start(place: Place) -> (Self, Step) {
        let recovery = Self {
            place,
            stage: Stage::FirstHeader,
            log: Log::new(0, 0),
            snapshot_end: 0,
            next_generation: 0,
            superseded: None,
            table: Table::default(),
            marks: Marks::new(),
        };
        (recovery, place.read_header(0))
    }

    /// Takes what the last step read and returns the next.
    pub(crate) fn on_read(&mut self, bytes: &[u8]) -> Result<Step, DirectoryFault> {
        match self.stage {
            Stage::FirstHeader => {
                self.stage = Stage::SecondHeader(self.parse_header(0, bytes)?);
                Ok(self.place.read_header(1))
            }
            Stage::SecondHeader(first) => {
                let second = self.parse_header(1, bytes)?;
                self.choose(first, second)?;
                Ok(self.read_tail())
            }
            Stage::Frames => self.on_window(bytes),
            Stage::Beyond(start) => self.on_beyond(start, bytes),
            Stage::Flush | Stage::Retire | Stage::RetireFlush => unreachable!("these stages read nothing"),
        }
    }

    /// The last step's write has ended.
    pub(crate) fn on_written(&mut self) -> Step {
        assert!(matches!(self.stage, Stage::Retire));
        self.stage = Stage::RetireFlush;
        self.place.flush()
    }

    /// The last step's flush has ended; `None` when that was the last step.
    pub(crate) fn on_flushed(&mut self) -> Option<Step> {
        match (&self.stage, self.superseded) {
            (Stage::Flush, Some(header)) => {
                self.stage = Stage::Retire;
                let retired = HalfHeader { state: HalfState::Retired, ..header };
                Some(self.place.write_header(1 - self.log.half, &retired))
            }
            _ => None,
        }
    }

    /// What was recovered, after the last step.
    pub(crate) fn finish(self) -> Recovered {
        Recovered {
            log: self.log,
            next_generation: self.next_generation,
            table: self.table,
            marks: self.marks,
        }
    }

    fn parse_header(&self, half: usize, block: &[u8]) -> Result<HalfHeader, DirectoryFault> {
        HalfHeader::parse(block, &self.place.pool, self.place.half_bytes).map_err(|fault| match fault {
            HeaderFault::Damaged => DirectoryFault::Damaged { half, offset: 0, what: Damage::Header },
            HeaderFault::Version(version) => DirectoryFault::UnknownVersion { version },
        })
    }

    fn choose(&mut self, first: HalfHeader, second: HalfHeader) -> Result<(), DirectoryFault> {
        let headers = [first, second];
        let live = (0..2)
            .filter(|&half| headers[half].state == HalfState::Live)
            .max_by_key(|&half| headers[half].generation)
            .ok_or(DirectoryFault::Damaged { half: 0, offset: 0, what: Damage::NoLiveHalf })?;
        let other = headers[1 - live];
        self.log = Log::new(live, headers[live].generation);
        self.snapshot_end = headers[live].snapshot_end;
        self.next_generation = first.generation.max(second.generation) + 1;
        self.superseded = (other.state == HalfState::Live).then_some(other);
        Ok(())
    }

    fn read_tail(&mut self) -> Step {
        if self.log.tail == self.place.half_bytes {
            return self.flush();
        }
        self.stage = Stage::Frames;
        self.place.read_window(self.log.half, self.log.tail)
    }

    fn flush(&mut self) -> Step {
        self.stage = Stage::Flush;
        self.place.flush()
    }

    fn on_window(&mut self, window: &[u8]) -> Result<Step, DirectoryFault> {
        let start = self.log.tail;
        loop {
            let within = (self.log.tail - start) as usize;
            let rest = &window[within..];
            match self.look(rest) {
                Found::Frame(header) => {
                    let body = &rest[FRAME_HEADER_BYTES as usize..][..header.body_bytes as usize];
                    self.apply_frame(&header, body)?;
                    self.log.on_frame(&self.place, &header);
                }
                // A window is as long as the longest frame, so one that begins at a frame holds all of it.
                Found::Cut if within > 0 => return Ok(self.read_tail()),
                Found::Cut | Found::End => break,
            }
        }
        if self.log.tail < self.snapshot_end {
            return Err(self.damaged(Damage::Snapshot));
        }
        Ok(self.look_beyond(self.log.tail + self.place.block_bytes))
    }

    fn look(&self, rest: &[u8]) -> Found {
        if rest.len() < FRAME_HEADER_BYTES as usize {
            return Found::Cut;
        }
        let Some(header) = FrameHeader::parse(rest, &self.place.pool) else { return Found::End };
        if !self.log.is_next(&header) {
            return Found::End;
        }
        if header.padded_bytes(self.place.block_bytes) as usize > rest.len() {
            return Found::Cut;
        }
        let body = &rest[FRAME_HEADER_BYTES as usize..][..header.body_bytes as usize];
        if header.has_body(body) { Found::Frame(header) } else { Found::End }
    }

    fn look_beyond(&mut self, start: u32) -> Step {
        if start >= self.place.half_bytes.min(self.log.tail.saturating_add(BEYOND_BYTES)) {
            return self.flush();
        }
        self.stage = Stage::Beyond(start);
        self.place.read_window(self.log.half, start)
    }

    fn on_beyond(&mut self, start: u32, window: &[u8]) -> Result<Step, DirectoryFault> {
        for (offset, block) in (start..)
            .step_by(self.place.block_bytes as usize)
            .zip(window.chunks(self.place.block_bytes as usize))
        {
            let is_later = FrameHeader::parse(block, &self.place.pool).is_some_and(|header| {
                header.generation == self.log.generation
                    && header.offset == offset
                    && header.sequence > self.log.sequence
            });
            if is_later {
                return Err(self.damaged(Damage::Frame));
            }
        }
        let len = u32::try_from(window.len()).expect("a window is at most FRAME_BYTES_MAX long");
        Ok(self.look_beyond(start + len))
    }

    fn apply_frame(&mut self, header: &FrameHeader, mut body: &[u8]) -> Result<(), DirectoryFault> {
        for _ in 0..header.records {
            let Some((record, rest)) = RawRecord::parse(body) else {
                return Err(self.damaged(Damage::Record));
            };
            body = rest;
            self.apply_record(record)?;
        }
        if body.is_empty() { Ok(()) } else { Err(self.damaged(Damage::Record)) }
    }

    fn apply_record(&mut self, record: RawRecord) -> Result<(), DirectoryFault> {
        let is_removal = record.flags & FLAG_REMOVE != 0;
        let unknown = DirectoryFault::UnknownRecord { kind: record.kind, version: record.version };
        if record.flags & !(FLAG_OPTIONAL | FLAG_REMOVE) != 0 {
            return Err(unknown);
        }
        match record.kind {
            KIND_VOLUME if VolumeRecord::knows(&record) && is_removal => {
                self.table.remove(VolumeId(record.key));
            }
            KIND_VOLUME if VolumeRecord::knows(&record) => {
                let volume = VolumeRecord::parse(&record).map(Arc::new);
                let stored = volume.is_some_and(|volume| self.table.put(&volume).is_ok());
                if !stored {
                    return Err(self.damaged(Damage::Record));
                }
            }
            KIND_SNAPSHOT if SnapshotRecord::knows(&record) && is_removal => {
                self.table.remove_snapshot(VolumeId(record.key));
            }
            KIND_SNAPSHOT if SnapshotRecord::knows(&record) => {
                let snapshot = SnapshotRecord::parse(&record).map(Arc::new);
                let stored = snapshot.is_some_and(|snapshot| self.table.put_snapshot(&snapshot).is_ok());
                if !stored {
                    return Err(self.damaged(Damage::Record));
                }
            }
            KIND_MARKS if Marks::knows(&record) && !is_removal => {
                self.marks = Marks::parse(&record).ok_or(self.damaged(Damage::Record))?;
            }
            _ if record.flags & FLAG_OPTIONAL == 0 => return Err(unknown),
            kind if is_removal => self.table.remove_other(kind, record.key),
            _ => self.table.put_other(record),
        }
        Ok(())
    }

    fn damaged(&self, what: Damage) -> DirectoryFault {
        DirectoryFault::Damaged { half: self.log.half, offset: self.log.tail, what }
    }
}
