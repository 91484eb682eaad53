//! A drive that stops answering under load: what was told to be durable is read back or refused, never wrong; nothing
//! waits for ever; what lies on other drives is read and written until a shard needs the one that is away.

use std::time::Duration;

use io::{DiskErrorKind, DriveId, Time};
use store::{Failure, Outcome};

use super::requests::{Kind, Open};
use super::seats::Phase;
use super::{Leave, Trial, Violation};
use crate::Random;
use crate::world::LATENESS_MAX;

/// Turns of a load in which a drive leaves once, on the average, and in which it is back.
const LEAVES_ONE_IN: u32 = 60;
const RETURNS_ONE_IN: u32 = 40;

/// Turns of a load after a drive has left: a volume that is half dropped in a shard that has failed is of no more use.
const TURNS_AFTER_MAX: u32 = 400;

/// The drive that is away.
#[derive(Debug)]
pub(super) struct Away {
    // Chance of its own, so that a seed without it is what it would be.
    random: Random,
    drive: Option<DriveId>,
    /// The drive that has left in this life.
    left: Option<DriveId>,
    /// When it was back, by the model's clock.
    back_at: u64,
    /// Until when what could not be read may still count as unreadable.
    unreadable_until: Time,
    /// Whether a drive has left in any life while not all of the map was in memory.
    was_unreadable: bool,
    /// Turns of the load since it has left.
    turns: u32,
}

impl Away {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0xA3A1),
            drive: None,
            left: None,
            back_at: 0,
            unreadable_until: Time(0),
            was_unreadable: false,
            turns: 0,
        }
    }
}

impl Trial {
    /// A drive leaves or comes back, at some turn.
    pub(super) fn step_away(&mut self) {
        let Some(leave) = self.plan.leave else { return };
        self.away.turns += u32::from(self.has_drive_left());
        match self.away.drive {
            None if self.away.left.is_none() && self.away.random.one_in(LEAVES_ONE_IN) => {
                let drive = self.away.random.index(self.plan.drives.len());
                let drive = DriveId(u16::try_from(drive).expect("a few drives"));
                self.trace(|_| format!("{drive:?} is away"));
                self.world.set_gone(drive, true);
                (self.away.drive, self.away.left) = (Some(drive), Some(drive));
                self.away.was_unreadable |= self.plan.shard_options.map_bytes_max < u64::MAX;
                self.report.drives_away += 1;
            }
            Some(drive) if leave == Leave::ForATime && self.away.random.one_in(RETURNS_ONE_IN) => {
                self.trace(|_| format!("{drive:?} is back"));
                self.world.set_gone(drive, false);
                self.away.drive = None;
                self.away.back_at = self.tick();
                // Reads that failed end after that, and what they were for is not asked for again for a while.
                let latency = self.plan.faults.disk_latency;
                let late = Duration::from_nanos(latency.max_ns + latency.stall_ns) + LATENESS_MAX;
                self.away.unreadable_until = self.world.now() + late + self.plan.shard_options.retry;
                self.report.drives_back += 1;
            }
            _ => {}
        }
    }

    /// A life begins: the drive is back, unless it has left for good.
    pub(super) fn return_drive(&mut self) {
        if self.is_drive_lost() {
            return;
        }
        if let Some(drive) = self.away.drive.take() {
            self.world.set_gone(drive, false);
        }
        (self.away.left, self.away.turns) = (None, 0);
    }

    /// Whether a drive is away for good.
    pub(super) fn is_drive_lost(&self) -> bool {
        self.plan.leave == Some(Leave::ForGood) && self.away.drive.is_some()
    }

    /// Whether a drive has left in this life.
    pub(super) fn has_drive_left(&self) -> bool {
        self.away.left.is_some()
    }

    /// Whether the load goes on: where a drive leaves until no shard is left, else until one stops.
    pub(super) fn goes_on(&self) -> bool {
        if self.plan.leave.is_none() {
            return !self.has_failed();
        }
        self.away.turns < TURNS_AFTER_MAX && self.seats.iter().any(|seat| seat.phase == Phase::Ready)
    }

    /// Whether requests may be made: shards that have failed refuse them.
    pub(super) fn may_ask(&self) -> bool {
        let is_open = |phase| phase == Phase::Ready || self.has_drive_left() && phase == Phase::Failed;
        self.seats.iter().all(|seat| is_open(seat.phase))
    }

    /// Whether all that was asked for must be answered before the life ends: half of the lives in which a drive leaves.
    pub(super) fn must_answer(&mut self) -> bool {
        self.has_drive_left() && self.away.random.one_in(2)
    }

    /// Whether it is the drive that has left that failed.
    pub(super) fn is_from_away(&self, failure: Failure) -> bool {
        let Failure::Disk { error, .. } = failure else { return false };
        self.away.left == Some(error.drive) && error.kind == DiskErrorKind::Gone
    }

    /// Whether a request that was asked for then may not get what it must read: a drive is away, or was while the request
    /// waited, or what it was asked for meanwhile still counts as unreadable.
    pub(super) fn is_unreadable(&self, asked_at: u64) -> bool {
        let may_have_failed = asked_at < self.away.back_at || self.world.now() <= self.away.unreadable_until;
        self.away.drive.is_some() || self.has_drive_left() && may_have_failed
    }

    /// Whether room may be lost for ever because a leaf could not be read: who cannot be asked counts as a holder.
    pub(super) fn may_have_lost_room(&self) -> bool {
        self.away.was_unreadable
    }

    /// Counts what went on beside the drive that is away.
    pub(super) fn note_beside(&mut self, open: &Open, outcome: Outcome) {
        let is_of_blocks = matches!(open.kind, Kind::Read { .. } | Kind::Change { .. });
        let went_on = self.away.drive.is_some() && is_of_blocks && outcome == Outcome::Ok;
        self.report.answered_beside += u64::from(went_on);
    }

    /// Starts without a drive that is lost: a shard comes up or says that the drive has failed, and what can be read is
    /// right.
    pub(super) fn read_without_drive(&mut self) -> Result<(), Violation> {
        while self.seats.iter().any(|seat| seat.phase == Phase::Recovering) {
            self.turn(0)?;
        }
        self.read_everything()?;
        while !self.world.drives_are_idle() {
            self.turn(0)?;
        }
        self.check_buffers()
    }
}
