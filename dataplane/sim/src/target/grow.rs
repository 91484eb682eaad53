//! Drives that join the pool while hosts use it.
//!
//! Whoever starts the process again names every drive that was to join: those that had not are blank still, and join at
//! the start.

use engine::{Action, Outcome};
use io::DriveShape;

use super::TargetTrial;
use super::manage::Change;
use crate::trial::Violation;

/// Most segments of a drive that joins.
const SEGMENTS_MAX: u64 = 24;

impl TargetTrial {
    /// Puts a blank drive into the machine and lets it join, unless another is about to.
    pub(super) fn ask_growth(&mut self) {
        let is_joining = self.changes.values().any(|change| matches!(change, Change::Grow));
        if is_joining || self.world.drives().len() >= self.plan.drives_max {
            return;
        }
        let segments = self.random.between(1, SEGMENTS_MAX);
        let size_bytes = (2 << 20) + segments * u64::from(self.plan.segment_bytes);
        let volatile_cache = self.random.one_in(2);
        self.world.add_drive(DriveShape { size_bytes, volatile_cache, ..self.plan.drives[0] });
        self.trace(|_| format!("a drive of {size_bytes} bytes is to join"));
        self.post_growth();
        if self.random.one_in(self.plan.aim_one_in) {
            self.crash_after = Some(self.random.below(250));
        }
    }

    pub(super) fn post_growth(&mut self) {
        let question = self.post(Action::AddDrive { path: "drive".into() });
        self.changes.insert(question, Change::Grow);
    }

    /// Every drive is one of the pool's.
    pub(super) fn check_drives(&mut self) -> Result<(), Violation> {
        let Outcome::Identity(identity) = self.ask_told(Action::ReadIdentity)? else { unreachable!() };
        if identity.drives.len() == self.world.drives().len() {
            return Ok(());
        }
        Err(Violation::HalfDone("a drive that was to join is none of the pool's"))
    }

    /// Drives that have joined and hold something of the log.
    pub(super) fn count_used(&mut self) {
        for (drive, shape) in (0..).map(io::DriveId).zip(self.world.drives()).skip(self.plan.drives.len()) {
            // Beyond what every drive has at its start, up to what may be at its end.
            let (start, end) = (1 << 20, shape.size_bytes - (1 << 20));
            let len = usize::try_from(end - start).expect("a simulated drive fits into memory");
            let is_used = self.world.contents(drive, start, len).iter().any(|byte| *byte != 0);
            self.report.drives_used += u64::from(is_used);
        }
    }
}
