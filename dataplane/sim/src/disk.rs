//! Disk operations under way: checked against the seam's contract, spread over virtual time, failed by chance.

use io::{Disk, DiskError, DiskErrorKind, DriveId, DriveShape, Event, Extent, ReactorId, Token};

use crate::core::{Core, Delivery, Occurrence, Submission};
use crate::{SimBuffer, SimIo};

/// Most extents of one read.
const EXTENTS_MAX: usize = 256;

/// Most runs in which a write lands.
const RUNS_MAX: u64 = 3;

/// One operation from its submission to its event.
#[derive(Debug)]
pub(crate) struct DiskOperation {
    pub(crate) reactor: ReactorId,
    pub(crate) token: Token,
    pub(crate) work: Work,
    pub(crate) result: Result<(), DiskError>,
}

#[derive(Debug)]
pub(crate) enum Work {
    Read { buffer: SimBuffer, extents: Vec<Extent> },
    Write { drive: DriveId, offset: u64, buffer: SimBuffer, len: u32, landing: Landing },
    Flush { drive: DriveId, barrier: u64 },
}

/// Where the blocks of a write go.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    // Runs that have not landed, as byte ranges of the buffer.
    pub(crate) open: Vec<(u32, u32)>,
    // The drive lies: nothing lands.
    lost: bool,
    // The drive lies: this offset instead of the right one.
    beside: Option<u64>,
}

impl<M: Send + 'static> Disk for SimIo<M> {
    fn drive(&self, drive: DriveId) -> DriveShape {
        self.core().drives[usize::from(drive.0)].shape
    }

    fn drives(&self) -> u16 {
        u16::try_from(self.core().drives.len()).expect("drives are numbered by a u16")
    }

    fn read(&mut self, token: Token, buffer: SimBuffer, extents: &[Extent]) {
        let mut core = self.core_mut();
        check_read(&core.drives.iter().map(|drive| drive.shape).collect::<Vec<_>>(), &buffer, extents);
        let work = Work::Read { buffer, extents: extents.to_vec() };
        core.submit_disk(self.reactor, token, work);
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: SimBuffer, len: u32) {
        let mut core = self.core_mut();
        let shape = core.drives[usize::from(drive.0)].shape;
        assert!(len as usize <= buffer.len(), "a write of {len} bytes from a buffer of {}", buffer.len());
        check_range(shape, offset, len);
        let work = Work::Write { drive, offset, buffer, len, landing: Landing::default() };
        core.submit_disk(self.reactor, token, work);
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        let mut core = self.core_mut();
        let barrier = core.drives[usize::from(drive.0)].barrier();
        core.submit_disk(self.reactor, token, Work::Flush { drive, barrier });
    }
}

impl<M: Send + 'static> Core<M> {
    fn submit_disk(&mut self, reactor: ReactorId, token: Token, work: Work) {
        let operation = DiskOperation { reactor, token, work, result: Ok(()) };
        let id = self.next_id();
        self.operations.insert(id, operation);
        self.reactor(reactor).submitted.push(Submission::Disk(id));
    }

    /// The reactor has entered the kernel: the operation begins.
    pub(crate) fn start_disk(&mut self, id: u64) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let took = self.faults.disk_latency.draw(&mut self.random).max(1);
        match &mut operation.work {
            Work::Read { extents, .. } => {
                for index in 0..extents.len() {
                    let when = self.random.between(1, took);
                    self.schedule(when, Occurrence::Fetch { operation: id, extent: index });
                }
            }
            Work::Write { drive, offset, len, landing, .. } => {
                let shape = self.drives[usize::from(drive.0)].shape;
                self.plan_landing(shape, *offset, *len, landing);
                for run in landing.open.clone() {
                    let when = self.random.between(1, took);
                    self.schedule(when, Occurrence::Land { operation: id, run });
                }
            }
            Work::Flush { drive, .. } => {
                let drive = &self.drives[usize::from(drive.0)];
                if !drive.shape.volatile_cache && !drive.gone {
                    self.operations.insert(id, operation);
                    self.end_disk(id);
                    return;
                }
            }
        }
        self.operations.insert(id, operation);
        self.schedule(took, Occurrence::DiskDone { operation: id });
    }

    /// Cuts a write into runs and decides whether the drive lies about it.
    fn plan_landing(&mut self, shape: DriveShape, offset: u64, len: u32, landing: &mut Landing) {
        let blocks = u64::from(len / shape.block_bytes);
        let mut start = 0;
        for left in (1..=self.random.between(1, RUNS_MAX.min(blocks))).rev() {
            let rest = blocks - start;
            let count = if left == 1 { rest } else { self.random.between(1, rest - (left - 1)) };
            let range =
                (start * u64::from(shape.block_bytes), (start + count) * u64::from(shape.block_bytes));
            let narrow = |bytes: u64| u32::try_from(bytes).expect("within a length that is a u32");
            landing.open.push((narrow(range.0), narrow(range.1)));
            start += count;
        }
        landing.lost = self.random.one_in(self.faults.lost_write_one_in);
        if self.random.one_in(self.faults.misdirected_write_one_in) {
            let beside = offset + u64::from(shape.block_bytes) * self.random.between(1, 8);
            landing.beside = (beside + u64::from(len) <= shape.size_bytes).then_some(beside);
        }
    }

    /// A run of a write's blocks reaches its drive.
    pub(crate) fn land(&mut self, id: u64, run: (u32, u32)) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Work::Write { drive, offset, buffer, landing, .. } = &mut operation.work else { return };
        landing.open.retain(|open| *open != run);
        let drive = &mut self.drives[usize::from(drive.0)];
        if drive.gone {
            // It may be back before the write ends.
            operation.result = Err(error(DiskErrorKind::Gone, drive.shape, *offset, run));
            return;
        }
        if landing.lost {
            return;
        }
        let place = landing.beside.unwrap_or(*offset) + u64::from(run.0);
        let mut bytes = buffer[run.0 as usize..run.1 as usize].to_vec();
        if self.random.one_in(self.faults.write_flip_one_in) {
            let index = self.random.index(bytes.len());
            bytes[index] ^= 1 << self.random.below(8);
        }
        if self.random.one_in(self.faults.write_error_one_in) {
            operation.result = Err(error(DiskErrorKind::Media, drive.shape, *offset, run));
            let size = drive.shape.block_bytes as usize;
            for (index, block) in bytes.chunks_exact(size).enumerate() {
                if self.random.one_in(2) {
                    drive.land(id, place + (index * size) as u64, block);
                }
            }
            return;
        }
        drive.land(id, place, &bytes);
    }

    /// An extent of a read leaves its drive.
    pub(crate) fn fetch(&mut self, id: u64, index: usize) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Work::Read { buffer, extents } = &mut operation.work else { return };
        let extent = extents[index];
        let drive = &self.drives[usize::from(extent.drive.0)];
        let len = extent.len as usize;
        let place = &mut buffer[extent.start as usize..][..len];
        let failed = drive.gone
            || drive.is_damaged(extent.offset, len)
            || self.random.one_in(self.faults.read_error_one_in);
        if failed {
            let kind = if drive.gone { DiskErrorKind::Gone } else { DiskErrorKind::Media };
            if operation.result.is_ok() {
                operation.result = Err(DiskError {
                    kind,
                    drive: extent.drive,
                    offset: extent.offset,
                    len: extent.len,
                    errno: EIO,
                });
            }
            return;
        }
        place.copy_from_slice(drive.bytes(extent.offset, len));
        if self.random.one_in(self.faults.read_flip_one_in) {
            place[self.random.index(len)] ^= 1 << self.random.below(8);
        }
    }

    /// An operation ends.
    pub(crate) fn end_disk(&mut self, id: u64) {
        let Some(operation) = self.operations.remove(&id) else { return };
        let DiskOperation { reactor, token, work, mut result } = operation;
        let mut delivery = Delivery::Plain;
        self.writes_ended += u64::from(!matches!(work, Work::Read { .. }));
        self.trace(|| format!("reactor {} {}: {result:?}", reactor.0, describe(&work)));
        let event = match work {
            Work::Read { buffer, .. } => Event::Read { token, buffer, result },
            Work::Write { drive, offset, buffer, len, .. } => {
                let target = &self.drives[usize::from(drive.0)];
                if target.gone {
                    let whole = (0, len);
                    result =
                        Err(DiskError { drive, ..error(DiskErrorKind::Gone, target.shape, offset, whole) });
                } else if result.is_ok() {
                    delivery = Delivery::Written { drive, write: id, offset, len };
                }
                result = result.map_err(|error| DiskError { drive, ..error });
                Event::Written { token, buffer, result }
            }
            Work::Flush { drive, barrier } => {
                Event::Flushed { token, result: self.end_flush(drive, barrier) }
            }
        };
        self.reactor(reactor).inbox.push_back((delivery, event));
    }

    fn end_flush(&mut self, id: DriveId, barrier: u64) -> Result<(), DiskError> {
        let drive = &mut self.drives[usize::from(id.0)];
        let failure = |kind| DiskError { kind, drive: id, offset: 0, len: 0, errno: EIO };
        if drive.gone {
            return Err(failure(DiskErrorKind::Gone));
        }
        if drive.shape.volatile_cache && self.random.one_in(self.faults.flush_error_one_in) {
            drive.fail_flush(&mut self.random);
            return Err(failure(DiskErrorKind::Media));
        }
        if !self.random.one_in(self.faults.false_flush_one_in) {
            drive.make_durable(barrier);
        }
        Ok(())
    }

    /// The process is gone: of what was under way, any blocks may have been written.
    pub(crate) fn abandon_disk(&mut self) {
        let chance = self.random.below(4);
        for (id, operation) in std::mem::take(&mut self.operations) {
            let Work::Write { drive, offset, buffer, landing, .. } = operation.work else { continue };
            let drive = &mut self.drives[usize::from(drive.0)];
            if landing.lost || drive.gone {
                continue;
            }
            let size = drive.shape.block_bytes;
            for (start, end) in landing.open {
                for at in (start..end).step_by(size as usize) {
                    let lands = match chance {
                        0 => false,
                        1 => true,
                        _ => self.random.one_in(2),
                    };
                    if lands {
                        let place = landing.beside.unwrap_or(offset) + u64::from(at);
                        drive.land(id, place, &buffer[at as usize..][..size as usize]);
                    }
                }
            }
        }
        for drive in &mut self.drives {
            drive.tell_all();
        }
    }
}

fn describe(work: &Work) -> String {
    match work {
        Work::Read { extents, .. } => {
            let parts = extents
                .iter()
                .map(|extent| format!(" {}+{:#x}/{}", extent.drive.0, extent.offset, extent.len));
            format!("read{}", parts.collect::<String>())
        }
        Work::Write { drive, offset, len, .. } => format!("write {}+{offset:#x}/{len}", drive.0),
        Work::Flush { drive, .. } => format!("flush {}", drive.0),
    }
}

/// The error number that the kernel gives for both media errors and drives that are gone.
const EIO: i32 = 5;

fn error(kind: DiskErrorKind, shape: DriveShape, offset: u64, run: (u32, u32)) -> DiskError {
    debug_assert!(run.1.is_multiple_of(shape.block_bytes));
    DiskError { kind, drive: DriveId(0), offset: offset + u64::from(run.0), len: run.1 - run.0, errno: EIO }
}

fn check_read(shapes: &[DriveShape], buffer: &SimBuffer, extents: &[Extent]) {
    assert!(!extents.is_empty(), "a read of nothing");
    assert!(extents.len() <= EXTENTS_MAX, "a read of {} extents", extents.len());
    let mut taken: Vec<(usize, usize)> = Vec::with_capacity(extents.len());
    for extent in extents {
        let shape = shapes[usize::from(extent.drive.0)];
        check_range(shape, extent.offset, extent.len);
        assert!(extent.start.is_multiple_of(shape.block_bytes), "{extent:?} starts within a block");
        let (start, end) = (extent.start as usize, extent.start as usize + extent.len as usize);
        assert!(end <= buffer.len(), "{extent:?} ends beyond a buffer of {} bytes", buffer.len());
        taken.push((start, end));
    }
    taken.sort_unstable();
    assert!(
        taken.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "extents overlap in the buffer: {extents:?}"
    );
}

fn check_range(shape: DriveShape, offset: u64, len: u32) {
    assert!(len > 0, "a disk operation of no bytes");
    assert!(len.is_multiple_of(shape.block_bytes), "{len} bytes are not whole blocks");
    assert!(offset.is_multiple_of(u64::from(shape.block_bytes)), "byte {offset} is within a block");
    assert!(
        offset.checked_add(u64::from(len)).is_some_and(|end| end <= shape.size_bytes),
        "{len} bytes at {offset} go beyond the drive's {} bytes",
        shape.size_bytes
    );
}
