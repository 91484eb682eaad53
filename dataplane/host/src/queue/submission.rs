//! The submission queue as the host accounts for it: head, tail and flow control. Base spec 2.0,
//! section 3.3.1; for Fabrics section 3.3.1.2.

use crate::Violation;

/// Head and tail of the submission queue. 0 <= head, tail < entries; full when tail + 1 = head.
#[derive(Debug)]
pub(super) struct SubmissionQueue {
    entries: u32,
    head: u32,
    tail: u32,
    flow_control: bool,
}

impl SubmissionQueue {
    /// An empty queue of 2..=65536 entries.
    pub(super) fn new(entries: u32) -> Self {
        Self { entries, head: 0, tail: 0, flow_control: true }
    }

    /// The controller agreed not to report SQHD: only the number outstanding limits.
    pub(super) fn disable_flow_control(&mut self) {
        self.flow_control = false;
    }

    pub(super) fn has_flow_control(&self) -> bool {
        self.flow_control
    }

    /// Entries that may be filled.
    pub(super) fn room(&self) -> usize {
        if self.flow_control { (self.entries - 1 - self.used()) as usize } else { usize::MAX }
    }

    pub(super) fn advance_tail(&mut self) {
        self.tail = (self.tail + 1) % self.entries;
    }

    /// Takes the SQHD of a response: it lies between the head known so far and the tail.
    pub(super) fn on_sqhd(&mut self, sqhd: u16) -> Result<(), Violation> {
        if !self.flow_control {
            return Ok(());
        }
        let head = u32::from(sqhd);
        if head >= self.entries {
            return Err(Violation::SqHead(sqhd));
        }
        let moved = (head + self.entries - self.head) % self.entries;
        if moved > self.used() {
            return Err(Violation::SqHead(sqhd));
        }
        self.head = head;
        Ok(())
    }

    /// Entries submitted that the controller has not freed.
    fn used(&self) -> u32 {
        (self.tail + self.entries - self.head) % self.entries
    }
}
