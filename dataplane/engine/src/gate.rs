//! One flush of a drive for everybody who asks at the same time: the shards and the directory of a reactor share
//! drives, and a file system takes as long for one `fdatasync` as for the last of ten.
//!
//! A flush that failed may have lost the writes of anybody, while the system reports it only once. So a drive whose
//! flush has failed is never flushed again: everybody who asks is told the same failure.

use io::{Disk, DiskError, DriveId, DriveShape, Extent, Memory, Purpose, Token};

/// Collects flushes and issues one per drive at a time.
#[derive(Debug, Default)]
pub(crate) struct FlushGate {
    drives: Vec<Lane>,
    /// Asked of a drive that has failed.
    refused: Vec<(Token, DiskError)>,
}

/// A disk whose flushes go through a gate; all else passes.
#[derive(Debug)]
pub(crate) struct GatedDisk<'a, D> {
    pub(crate) disk: &'a mut D,
    pub(crate) gate: &'a mut FlushGate,
}

/// The flushes of one drive.
#[derive(Debug, Default)]
struct Lane {
    /// Asked since the flush under way began; a flush covers only writes that completed before it was called.
    waiting: Vec<Token>,
    /// Answered by the flush under way.
    under_way: Vec<Token>,
    /// The failure of an earlier flush.
    failed: Option<DiskError>,
}

impl FlushGate {
    /// Issues what has been collected. Called once a round, after every machine has run.
    pub(crate) fn issue(&mut self, owner: u16, disk: &mut impl Disk) {
        for (number, lane) in self.drives.iter_mut().enumerate() {
            if lane.under_way.is_empty() && !lane.waiting.is_empty() {
                std::mem::swap(&mut lane.under_way, &mut lane.waiting);
                let drive = DriveId(u16::try_from(number).expect("drives are numbered by a u16"));
                disk.flush(Token(u64::from(owner) << 48 | u64::from(drive.0)), drive);
            }
        }
    }

    /// Drives, a bit each, that are flushed as soon as no flush of theirs is under way.
    pub(crate) fn asked(&self) -> u32 {
        let lanes = self.drives.iter().enumerate();
        lanes.filter(|(_, lane)| !lane.waiting.is_empty()).fold(0, |drives, (number, _)| drives | 1 << number)
    }

    /// A flush that [`FlushGate::issue`] started has ended: moves the tokens that it answers to `answered`.
    pub(crate) fn ended(&mut self, token: Token, answered: &mut Vec<Token>) {
        let drive = usize::try_from(token.0 & 0xffff).expect("sixteen bits");
        answered.append(&mut self.drives[drive].under_way);
    }

    /// A flush of `drive` has failed, here or on another reactor: refuses what waits for one and all that will.
    pub(crate) fn fail(&mut self, drive: DriveId, error: DiskError) {
        let lane = self.lane(drive);
        lane.failed.get_or_insert(error);
        let waiting = std::mem::take(&mut lane.waiting);
        self.refused.extend(waiting.into_iter().map(|token| (token, error)));
    }

    /// Another drive has the number now, which can be flushed.
    pub(crate) fn forget(&mut self, drive: DriveId) {
        self.lane(drive).failed = None;
    }

    /// The next flush that a failed drive cannot have.
    pub(crate) fn take_refused(&mut self) -> Option<(Token, DiskError)> {
        self.refused.pop()
    }

    /// True while somebody has to be told that a failed drive is not flushed.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    fn collect(&mut self, drive: DriveId, token: Token) {
        let lane = self.lane(drive);
        match lane.failed {
            Some(error) => self.refused.push((token, error)),
            None => lane.waiting.push(token),
        }
    }

    fn lane(&mut self, drive: DriveId) -> &mut Lane {
        let number = usize::from(drive.0);
        if self.drives.len() <= number {
            self.drives.resize_with(number + 1, Lane::default);
        }
        &mut self.drives[number]
    }
}

impl<D: Disk> Memory for GatedDisk<'_, D> {
    type Buffer = D::Buffer;

    fn allocate(&mut self, len: usize, purpose: Purpose) -> Option<D::Buffer> {
        self.disk.allocate(len, purpose)
    }
}

impl<D: Disk> Disk for GatedDisk<'_, D> {
    fn drive(&self, drive: DriveId) -> DriveShape {
        self.disk.drive(drive)
    }

    fn drives(&self) -> u16 {
        self.disk.drives()
    }

    fn read(&mut self, token: Token, buffer: D::Buffer, extents: &[Extent]) {
        self.disk.read(token, buffer, extents);
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: D::Buffer, len: u32) {
        self.disk.write(token, drive, offset, buffer, len);
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        self.gate.collect(drive, token);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ERROR: DiskError =
        DiskError { kind: io::DiskErrorKind::Media, drive: DriveId(1), offset: 0, len: 0, errno: 5 };

    #[test]
    fn a_drive_whose_flush_failed_refuses_everybody_from_then_on() {
        let mut gate = FlushGate::default();
        gate.collect(DriveId(0), Token(1));
        gate.collect(DriveId(1), Token(2));
        gate.fail(DriveId(1), ERROR);
        assert_eq!(gate.take_refused(), Some((Token(2), ERROR)));
        gate.collect(DriveId(1), Token(3));
        assert_eq!(gate.take_refused(), Some((Token(3), ERROR)));
        gate.collect(DriveId(0), Token(4));
        assert_eq!(gate.take_refused(), None);
        gate.forget(DriveId(1));
        gate.collect(DriveId(1), Token(5));
        assert_eq!(gate.take_refused(), None);
    }
}
