//! Flushes: one round at a time over every drive that holds written but unflushed batches, for all who wait.

use std::collections::VecDeque;

use io::{Buffer, Disk, DriveId};

use super::{Phase, Shard, TokenKind, ticket};

/// What is safe from a power cut, and who waits for it.
#[derive(Debug)]
pub(super) struct Flush {
    /// Every batch up to this one is safe.
    pub(super) flushed: u64,
    /// Drives, a bit each, to which batches were written since a flush of theirs began.
    unflushed: u32,
    round: Option<Round>,
    /// Tickets with the batch that must be safe before they are answered, in order of the batches.
    waiting: VecDeque<(u64, u32)>,
    /// The batch that a checkpoint waits for, 0 for none.
    wanted: u64,
    /// A Flush was asked for since a request was last answered that changes something.
    asked: bool,
    /// How often in a row a Flush came before the next such answer.
    habit: u8,
}

/// From how many on a host is expected to ask again: the flush is begun before it does, while the answer to its write and
/// its Flush cross the network.
const HABIT: u8 = 4;

/// Flushes of several drives that are under way together.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Safe when the round has ended.
    target: u64,
    /// Drives that have not answered.
    pending: u32,
}

impl Flush {
    pub(super) fn new() -> Self {
        Self {
            flushed: 0,
            unflushed: 0,
            round: None,
            waiting: VecDeque::new(),
            wanted: 0,
            asked: false,
            habit: 0,
        }
    }

    /// Answers `ticket`, a Flush, once the batch is safe.
    pub(super) fn ask(&mut self, batch: u64, ticket: u32) {
        self.habit = self.habit.saturating_add(u8::from(!self.asked));
        self.asked = true;
        self.wait(batch, ticket);
    }

    /// Requests that change something were answered.
    pub(super) fn on_answered(&mut self) {
        if !std::mem::take(&mut self.asked) {
            self.habit = 0;
        }
    }

    /// A batch was written to the drive.
    pub(super) fn on_written(&mut self, drive: DriveId) {
        self.unflushed |= 1 << drive.0;
    }

    /// Answers `ticket` once the batch is safe.
    pub(super) fn wait(&mut self, batch: u64, ticket: u32) {
        self.waiting.push_back((batch, ticket));
    }

    /// Asks for a flush that makes `batch` safe.
    pub(super) fn want(&mut self, batch: u64) {
        self.wanted = self.wanted.max(batch);
    }

    /// Everything up to `batch` is safe, as recovery has seen to.
    pub(super) fn resume(&mut self, batch: u64) {
        self.flushed = batch;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.waiting.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl<B: Buffer> Shard<B> {
    /// Starts a round if somebody needs one, and answers who needs none.
    pub(super) fn step_flush<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        #[cfg(feature = "planted")]
        if self.is_planted(super::Planted::FlushNothing) {
            self.flush.flushed = self.log.applied;
        }
        self.answer_flushed();
        if self.flush.round.is_some() || self.is_failed() {
            return;
        }
        let due = self.log.since_flush_bytes >= self.options.flush_bytes;
        let asked = self.flush.waiting.front().map_or(0, |&(batch, _)| batch).max(self.flush.wanted);
        let expected = self.flush.habit >= HABIT && !self.flush.asked && self.log.in_flight() == 0;
        if due || expected || asked > self.flush.flushed {
            self.begin_flush(disk);
        }
    }

    /// Drives, a bit each, are about to be flushed for somebody else: what this shard has written to them, and to no
    /// other, becomes safe with it. Call it after [`Shard::run`], before the flush begins.
    pub fn join_flush<D: Disk<Buffer = B>>(&mut self, disk: &mut D, drives: u32) {
        let Flush { unflushed, round, .. } = &self.flush;
        let is_running = matches!(self.phase, Phase::Running | Phase::Stopping);
        if is_running && round.is_none() && *unflushed != 0 && unflushed & !drives == 0 {
            self.begin_flush(disk);
        }
    }

    /// Begins to make everything safe that is written with all before it.
    fn begin_flush<D: Disk<Buffer = B>>(&mut self, disk: &mut D) {
        let target = self.log.applied;
        if target <= self.flush.flushed {
            return;
        }
        self.log.since_flush_bytes = 0;
        let drives = std::mem::take(&mut self.flush.unflushed);
        let mut pending = 0;
        for drive in (0..disk.drives()).map(DriveId) {
            if drives >> drive.0 & 1 != 0 && disk.drive(drive).volatile_cache {
                disk.flush(self.token(TokenKind::Flush, target), drive);
                pending += 1;
            }
        }
        if pending > 0 {
            self.stats.flushes += 1;
            self.flush.round = Some(Round { target, pending });
        } else {
            self.flush.flushed = target;
            self.answer_flushed();
        }
    }

    pub(super) fn on_flushed(&mut self) {
        let Some(round) = &mut self.flush.round else { return };
        round.pending -= 1;
        if round.pending == 0 {
            self.flush.flushed = round.target;
            self.flush.round = None;
            self.answer_flushed();
        }
    }

    fn answer_flushed(&mut self) {
        while let Some(&(batch, ticket)) = self.flush.waiting.front()
            && batch <= self.flush.flushed
        {
            self.flush.waiting.pop_front();
            ticket::finish(&mut self.tickets, &mut self.outputs, &mut self.stats, ticket);
        }
    }
}
