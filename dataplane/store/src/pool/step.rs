//! One disk operation at a time, for machines that are not in a hurry: what is wanted next, and what is under way.

use io::{Disk, DriveId, Extent, Purpose, Token};

/// A disk operation of such a machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read `len` bytes at `offset`.
    Read { drive: DriveId, offset: u64, len: u32 },
    /// Write `bytes`, whole blocks, at `offset`.
    Write { drive: DriveId, offset: u64, bytes: Vec<u8> },
    /// Make what was written durable.
    Flush { drive: DriveId },
}

/// The step that is wanted or under way; never both.
#[derive(Debug)]
pub(crate) struct Stepper {
    owner: u16,
    number: u64,
    wanted: Option<Step>,
    under_way: Option<Token>,
}

impl Stepper {
    /// Nothing is wanted; tokens will carry `owner` in their top 16 bits.
    pub(crate) fn new(owner: u16) -> Self {
        Self { owner, number: 0, wanted: None, under_way: None }
    }

    /// Wants `step`, to be submitted by the next [`Stepper::run`].
    pub(crate) fn want(&mut self, step: Step) {
        assert!(self.is_idle());
        self.wanted = Some(step);
    }

    /// Submits what is wanted; without memory for it, it stays wanted until the next call.
    pub(crate) fn run<D: Disk>(&mut self, disk: &mut D) {
        let Some(step) = self.wanted.take() else { return };
        let token = Token(u64::from(self.owner) << 48 | (self.number & 0xFFFF_FFFF_FFFF));
        match step {
            Step::Read { drive, offset, len } => {
                let Some(buffer) = disk.allocate(len as usize, Purpose::Log) else {
                    self.wanted = Some(step);
                    return;
                };
                disk.read(token, buffer, &[Extent { drive, offset, start: 0, len }]);
            }
            Step::Write { drive, offset, ref bytes } => {
                let Some(mut buffer) = disk.allocate(bytes.len(), Purpose::Log) else {
                    self.wanted = Some(step);
                    return;
                };
                buffer.copy_from_slice(bytes);
                let len = u32::try_from(bytes.len()).expect("a buffer is at most 1 MiB long");
                disk.write(token, drive, offset, buffer, len);
            }
            Step::Flush { drive } => disk.flush(token, drive),
        }
        self.number += 1;
        self.under_way = Some(token);
    }

    /// Notes that the operation under way has ended.
    ///
    /// # Panics
    /// If the token is not that operation's.
    pub(crate) fn on_ended(&mut self, token: Token) {
        assert_eq!(self.under_way, Some(token), "an event of an operation that this machine has under way");
        self.under_way = None;
    }

    /// Whether nothing is wanted and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_none() && self.under_way.is_none()
    }
}
