//! One flush of a drive for everybody who asks at the same time: the shards and the directory of a reactor share
//! drives, and a file system takes as long for one `fdatasync` as for the last of ten.

use io::{Disk, DriveId, DriveShape, Extent, Memory, Purpose, Token};

/// Collects flushes and issues one per drive at a time.
#[derive(Debug, Default)]
pub(crate) struct FlushGate {
    drives: Vec<Lane>,
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

    /// A flush that [`FlushGate::issue`] started has ended: moves the tokens that it answers to `answered`.
    pub(crate) fn ended(&mut self, token: Token, answered: &mut Vec<Token>) {
        let drive = usize::try_from(token.0 & 0xffff).expect("sixteen bits");
        answered.append(&mut self.drives[drive].under_way);
    }

    fn collect(&mut self, drive: DriveId, token: Token) {
        let number = usize::from(drive.0);
        if self.drives.len() <= number {
            self.drives.resize_with(number + 1, Lane::default);
        }
        self.drives[number].waiting.push(token);
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
