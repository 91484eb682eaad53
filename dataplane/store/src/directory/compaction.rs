//! Compaction: a snapshot of the table into the other half, which then becomes the log.
//!
//! The order is what makes it safe: the draft header spends the generation before any frame carries it; the frames are
//! durable before the header that makes them the log; the old half is retired only after that header is durable, so
//! that from then on no damage can bring the old log back unnoticed.

use std::sync::Arc;

use super::format::{FRAMES_OFFSET, HalfHeader, HalfState};
use super::log::{Log, Place};
use super::marks::Marks;
use super::table::{Stored, Table};
use crate::pool::step::Step;

/// A compaction under way.
#[derive(Debug)]
pub(crate) struct Compaction {
    place: Place,
    stage: Stage,
    /// The log in the half that is being written.
    log: Log,
    /// The generation that is being left.
    old_generation: u64,
    /// Records not yet in a frame, the next one last.
    left: Vec<Stored>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Draft,
    DraftFlush,
    Frames,
    FramesFlush,
    Live,
    LiveFlush,
    Retire,
    RetireFlush,
}

/// What follows a flush.
#[derive(Debug)]
pub(crate) enum Advance {
    Step(Step),
    /// The snapshot is the log now; one more half is to be retired.
    Committed(Step),
    Finished,
}

impl Compaction {
    /// A compaction of `table` and `marks` as they are now, and its first step.
    pub(crate) fn start(
        place: Place,
        old: &Log,
        generation: u64,
        table: &Table,
        marks: &Marks,
    ) -> (Self, Step) {
        let mut left = table.stored();
        left.push(Stored::Other(Arc::new(marks.to_raw())));
        left.reverse();
        let log = Log::new(1 - old.half, generation);
        let compaction = Self { place, stage: Stage::Draft, log, old_generation: old.generation, left };
        let draft = HalfHeader { state: HalfState::Draft, generation, snapshot_end: FRAMES_OFFSET };
        let step = place.write_header(compaction.log.half, &draft);
        (compaction, step)
    }

    /// The log behind the snapshot, once it is committed.
    pub(crate) fn log(&self) -> Log {
        self.log
    }

    /// The last step's write has ended.
    pub(crate) fn on_written(&mut self) -> Step {
        self.stage = match self.stage {
            Stage::Draft => Stage::DraftFlush,
            Stage::Frames if !self.left.is_empty() => return self.next_frame(),
            Stage::Frames => Stage::FramesFlush,
            Stage::Live => Stage::LiveFlush,
            Stage::Retire => Stage::RetireFlush,
            Stage::DraftFlush | Stage::FramesFlush | Stage::LiveFlush | Stage::RetireFlush => {
                unreachable!("these stages write nothing")
            }
        };
        self.place.flush()
    }

    /// The last step's flush has ended.
    pub(crate) fn on_flushed(&mut self) -> Advance {
        match self.stage {
            Stage::DraftFlush => {
                self.stage = Stage::Frames;
                Advance::Step(self.next_frame())
            }
            Stage::FramesFlush => {
                self.stage = Stage::Live;
                let header = HalfHeader {
                    state: HalfState::Live,
                    generation: self.log.generation,
                    snapshot_end: self.log.tail,
                };
                Advance::Step(self.place.write_header(self.log.half, &header))
            }
            Stage::LiveFlush => {
                self.stage = Stage::Retire;
                let header = HalfHeader {
                    state: HalfState::Retired,
                    generation: self.old_generation,
                    snapshot_end: FRAMES_OFFSET,
                };
                Advance::Committed(self.place.write_header(1 - self.log.half, &header))
            }
            Stage::RetireFlush => Advance::Finished,
            Stage::Draft | Stage::Frames | Stage::Live | Stage::Retire => {
                unreachable!("these stages flush nothing")
            }
        }
    }

    fn next_frame(&mut self) -> Step {
        let mut frame = self.log.frame(&self.place);
        while let Some(stored) = self.left.pop_if(|stored| frame.has_room(stored.encoded_bytes())) {
            frame.push_stored(&stored);
        }
        // Admission keeps the snapshot within three quarters of a half, so there is room for every record.
        self.log.append(&self.place, frame)
    }
}
