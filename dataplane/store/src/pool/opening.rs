//! Opening a pool: reading what its drives say, making a new one of blank drives, mending superblocks.
//!
//! A format can be cut anywhere. First every drive is claimed (superblocks that say `forming`), then the directory is
//! begun, then every drive is completed, with a flush of all between; so one complete drive means that all are at
//! least claimed by the same format and that everything else is durable. Drives that are blank or merely claimed hold
//! nothing and are formatted anew. Root slots need no write: a drive is only formatted after its first and last MiB,
//! where they lie, were read and found zero.
//!
//! Blank drives that are named behind those of a pool join it, which can be cut anywhere as well: first they are told of
//! the pool as it is to be, then its other drives are. A newer superblock whose pool is an older one's with more drives
//! at the end is believed and written to all; while only drives that were to join have it, the pool opens without them,
//! as it was. Whatever else lies on the pool's drives is left alone, so that this works under a pool that is in use.
//!
//! Opening flushes every drive, so that all that is read after it is durable, whatever a killed server left in caches.
//!
//! Calling convention: pass events to `handle_*`, then call [`PoolOpening::run`] (again later, where memory was short),
//! until [`PoolOpening::poll_outcome`] answers, once.

use std::collections::VecDeque;

use io::{Buffer, Disk, DiskError, DriveId, DriveShape, Token};

use super::bytes::is_zero;
use super::error::PoolError;
use super::judge::{Copy, Findings, Found, Verdict, judge};
use super::step::{Step, Stepper};
use super::{
    DIRECTORY_HALF_BYTES_MAX, DRIVES_MAX, Geometry, GeometryError, HEAD_BYTES, Identity, Layout,
    SEGMENT_BYTES_MAX, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSETS,
};
use crate::directory::format::fresh_headers;
use crate::superblock::{FormatState, Superblock};

/// What is looked at before a drive counts as blank: this much at its start and at its end.
const SWEEP_BYTES: u64 = 1 << 20;
const SWEEP_CHUNK_BYTES: u32 = 64 << 10;
const CHOSEN_SEGMENT_BYTES_MIN: u32 = 1 << 20;
const CHOSEN_HALF_BYTES_MIN: u32 = 1 << 20;

/// How to make a pool of blank drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Whose it will be; the pool's UUID is new with every attempt.
    pub identity: Identity,
    /// How many shards.
    pub shards: u16,
    /// Segment size; `None` chooses about a thousandth of the pool, 1 to 64 MiB.
    pub segment_bytes: Option<u32>,
    /// Size of a directory half; `None` chooses about 1/256 of the pool, 1 to 64 MiB.
    pub directory_half_bytes: Option<u32>,
    /// Now, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
}

/// A pool that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where everything lies.
    pub layout: Layout,
    /// When the pool was made, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Whether it was made just now.
    pub is_new: bool,
    /// Drives that have joined it just now.
    pub joined: Vec<DriveId>,
    /// Superblock copies (0 or 1) that were damaged or stale and have been written again.
    pub repaired: Vec<(DriveId, usize)>,
    /// Superblock copies that could not be: the other copy is the last.
    pub unrepaired: Vec<(DriveId, usize)>,
}

/// The machine that opens a pool.
#[derive(Debug)]
pub struct PoolOpening {
    steps: Stepper,
    shapes: Vec<DriveShape>,
    format: Option<FormatOptions>,
    phase: Phase,
    outcome: Option<Result<Opened, PoolError>>,
}

#[derive(Debug)]
enum Phase {
    /// Reading superblock copies, in order of drive and copy.
    Inspect(Vec<Copy>),
    /// Reading what must be zero; what comes after it.
    Sweep {
        plan: VecDeque<Step>,
        drive: DriveId,
        offset: u64,
        then: VecDeque<Step>,
        opened: Box<Opened>,
    },
    /// Writing a new pool, or what lets drives join.
    Format {
        plan: VecDeque<Step>,
        opened: Box<Opened>,
    },
    /// Writing superblock copies again.
    Repair {
        plan: VecDeque<Step>,
        copy: usize,
        opened: Box<Opened>,
    },
    Ended,
}

/// A format, or a growth, that has been decided on.
#[derive(Debug)]
struct Format {
    layout: Layout,
    superblock: Superblock,
}

impl PoolOpening {
    /// An opening of all drives of `disk`; its tokens carry `owner` in their top 16 bits. With `format`, drives that
    /// are all blank are made a pool, and blank drives behind those of a pool join it.
    pub fn new<D: Disk>(disk: &D, owner: u16, format: Option<FormatOptions>) -> Self {
        let shapes: Vec<DriveShape> = (0..disk.drives()).map(|drive| disk.drive(DriveId(drive))).collect();
        let mut opening =
            Self { steps: Stepper::new(owner), shapes, format, phase: Phase::Ended, outcome: None };
        match opening.check_shapes() {
            Ok(()) => {
                opening.phase = Phase::Inspect(Vec::new());
                opening.steps.want(Self::read_copy(0));
            }
            Err(error) => opening.end(Err(error)),
        }
        opening
    }

    /// Submits what can be done now.
    pub fn run<D: Disk>(&mut self, disk: &mut D) {
        self.steps.run(disk);
    }

    /// A read has ended.
    pub fn handle_read<B: Buffer>(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        self.steps.on_ended(token);
        match &mut self.phase {
            Phase::Inspect(copies) => {
                copies.push(match result {
                    Ok(()) => Superblock::parse(&buffer).map_or_else(Copy::Fault, Copy::Whole),
                    Err(error) => Copy::Unreadable(error),
                });
                let read = copies.len();
                if read < 2 * self.shapes.len() {
                    self.steps.want(Self::read_copy(read));
                } else {
                    self.on_inspected();
                }
            }
            Phase::Sweep { drive, offset, .. } => {
                let (drive, offset) = (*drive, *offset);
                match result {
                    Ok(()) if is_zero(&buffer) => self.continue_sweep(),
                    Ok(()) => self.end(Err(PoolError::Foreign { drive, offset })),
                    Err(error) => self.end(Err(error.into())),
                }
            }
            Phase::Format { .. } | Phase::Repair { .. } | Phase::Ended => {
                unreachable!("nothing is read in this phase")
            }
        }
    }

    /// A write has ended.
    pub fn handle_written<B: Buffer>(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        drop(buffer);
        self.steps.on_ended(token);
        match (&mut self.phase, result) {
            (Phase::Format { .. }, Ok(())) => self.continue_format(),
            (Phase::Format { .. }, Err(error)) => self.end(Err(error.into())),
            (Phase::Repair { copy, opened, .. }, Err(_)) => {
                // The other copy still serves; whoever watches the pool is told.
                let failed = opened.repaired.remove(*copy);
                opened.unrepaired.push(failed);
                self.continue_repair();
            }
            (Phase::Repair { copy, .. }, Ok(())) => {
                *copy += 1;
                self.continue_repair();
            }
            (Phase::Inspect(_) | Phase::Sweep { .. } | Phase::Ended, _) => {
                unreachable!("nothing is written in this phase")
            }
        }
    }

    /// A flush has ended.
    pub fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        self.steps.on_ended(token);
        match (&self.phase, result) {
            (_, Err(error)) => self.end(Err(error.into())),
            (Phase::Format { .. }, Ok(())) => self.continue_format(),
            (Phase::Repair { .. }, Ok(())) => self.continue_repair(),
            (Phase::Inspect(_) | Phase::Sweep { .. } | Phase::Ended, _) => {
                unreachable!("nothing is flushed in this phase")
            }
        }
    }

    /// The outcome, once.
    pub fn poll_outcome(&mut self) -> Option<Result<Opened, PoolError>> {
        self.outcome.take()
    }

    fn check_shapes(&self) -> Result<(), PoolError> {
        if self.shapes.is_empty() || self.shapes.len() > DRIVES_MAX {
            return Err(PoolError::TooManyDrives(u16::try_from(self.shapes.len()).unwrap_or(u16::MAX)));
        }
        for (drive, shape) in (0..).map(DriveId).zip(&self.shapes) {
            if shape.size_bytes < HEAD_BYTES {
                let (size_bytes, needed_bytes) = (shape.size_bytes, HEAD_BYTES);
                return Err(GeometryError::DriveTooSmall { drive, size_bytes, needed_bytes }.into());
            }
        }
        Ok(())
    }

    fn on_inspected(&mut self) {
        let Phase::Inspect(copies) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            unreachable!("only an inspection is completed")
        };
        let mut copies = copies.into_iter();
        let mut findings = Vec::with_capacity(self.shapes.len());
        for &shape in &self.shapes {
            let mut next = || copies.next().expect("two copies of each drive were read");
            findings.push(Findings { shape, copies: [next(), next()] });
        }
        let begun = match judge(&findings) {
            Ok(Verdict::Open(found)) => return self.begin_repair(*found),
            Ok(Verdict::Format { is_begun }) if self.format.is_none() => {
                Err(if is_begun { PoolError::Unfinished } else { PoolError::Blank })
            }
            Ok(Verdict::Format { .. }) => self.begin_format(&findings),
            Ok(Verdict::Grow { superblock, members }) if self.format.is_none() => {
                let given = u16::try_from(superblock.geometry.drive_bytes.len()).unwrap_or(u16::MAX);
                Err(PoolError::Extra { expected: members, given })
            }
            Ok(Verdict::Grow { superblock, members }) => self.begin_growth(&findings, *superblock, members),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            self.end(Err(error));
        }
    }

    fn begin_repair(&mut self, found: Found) {
        let Found { layout, superblock, repairs } = found;
        let writes = repairs.iter().map(|&(drive, copy)| write_copy(&superblock, drive, copy));
        // Every drive, repaired or not: what a killed server left in its cache is durable before anything is read
        // from it and believed.
        let flushes = (0..layout.drives().len()).map(|index| Step::Flush { drive: drive_id(index) });
        let plan = writes.chain(flushes).collect();
        let opened = Box::new(Opened {
            layout,
            created_unix_ns: superblock.created_unix_ns,
            is_new: false,
            joined: Vec::new(),
            repaired: repairs,
            unrepaired: Vec::new(),
        });
        self.phase = Phase::Repair { plan, copy: 0, opened };
        self.continue_repair();
    }

    fn continue_repair(&mut self) {
        let Phase::Repair { plan, opened, .. } = &mut self.phase else { unreachable!("a repair goes on") };
        match plan.pop_front() {
            Some(step) => self.steps.want(step),
            None => {
                let opened = (**opened).clone();
                self.end(Ok(opened));
            }
        }
    }

    fn begin_format(&mut self, findings: &[Findings]) -> Result<(), PoolError> {
        let options = self.format.as_ref().expect("formatting is allowed");
        let geometry = options.geometry(&self.shapes);
        let layout = Layout::new(options.identity, geometry.clone())?;
        let superblock = Superblock {
            optional_features: 0,
            sequence: 1,
            identity: options.identity,
            created_unix_ns: options.created_unix_ns,
            geometry,
            drive: DriveId(0),
            state: FormatState::Forming,
        };
        let format = Format { layout, superblock };
        let (then, opened) = (format.plan(), format.opened(Vec::new()));
        self.begin_sweep(findings, 0, then, opened);
        Ok(())
    }

    /// Lets the drives behind the first `members` join.
    fn begin_growth(
        &mut self,
        findings: &[Findings],
        superblock: Superblock,
        members: u16,
    ) -> Result<(), PoolError> {
        let layout = Layout::new(superblock.identity, superblock.geometry.clone())?;
        let joining = (usize::from(members)..layout.drives().len()).map(drive_id).collect();
        let growth = Format { layout, superblock };
        let (then, opened) = (growth.plan_of_growth(members), growth.opened(joining));
        self.begin_sweep(findings, usize::from(members), then, opened);
        Ok(())
    }

    /// Looks whether the drives from `first` on are blank, then does `then`.
    fn begin_sweep(&mut self, findings: &[Findings], first: usize, then: VecDeque<Step>, opened: Opened) {
        let mut plan = VecDeque::new();
        for (index, found) in findings.iter().enumerate().skip(first) {
            let drive = drive_id(index);
            let after_first = SUPERBLOCK_OFFSETS[0] + u64::from(SUPERBLOCK_BYTES);
            let after_second = SUPERBLOCK_OFFSETS[1] + u64::from(SUPERBLOCK_BYTES);
            let data_start = opened.layout.drives()[index].data_start.max(found.begun_data_start(index));
            let size_bytes = found.shape.size_bytes;
            let tail = data_start.max(size_bytes.saturating_sub(SWEEP_BYTES) / 4096 * 4096);
            for range in [after_first..SUPERBLOCK_OFFSETS[1], after_second..HEAD_BYTES, tail..size_bytes] {
                for offset in range.clone().step_by(SWEEP_CHUNK_BYTES as usize) {
                    let left = u32::try_from(range.end - offset).unwrap_or(u32::MAX);
                    plan.push_back(Step::Read { drive, offset, len: left.min(SWEEP_CHUNK_BYTES) });
                }
            }
        }
        let opened = Box::new(opened);
        self.phase = Phase::Sweep { plan, drive: DriveId(0), offset: 0, then, opened };
        self.continue_sweep();
    }

    fn continue_sweep(&mut self) {
        let Phase::Sweep { plan, drive, offset, then, opened } = &mut self.phase else {
            unreachable!("a sweep goes on")
        };
        let Some(step) = plan.pop_front() else {
            let (plan, opened) = (std::mem::take(then), opened.clone());
            self.phase = Phase::Format { plan, opened };
            return self.continue_format();
        };
        if let Step::Read { drive: next_drive, offset: next_offset, .. } = step {
            *drive = next_drive;
            *offset = next_offset;
        }
        self.steps.want(step);
    }

    fn continue_format(&mut self) {
        let Phase::Format { plan, opened } = &mut self.phase else { unreachable!("a format goes on") };
        match plan.pop_front() {
            Some(step) => self.steps.want(step),
            None => {
                let opened = (**opened).clone();
                self.end(Ok(opened));
            }
        }
    }

    fn end(&mut self, outcome: Result<Opened, PoolError>) {
        self.phase = Phase::Ended;
        self.outcome = Some(outcome);
    }

    /// Reads the `number`th copy, counted through all drives.
    fn read_copy(number: usize) -> Step {
        Step::Read {
            drive: drive_id(number / 2),
            offset: SUPERBLOCK_OFFSETS[number % 2],
            len: SUPERBLOCK_BYTES,
        }
    }
}

impl FormatOptions {
    /// The defaults for a pool of this identity and so many shards.
    #[must_use]
    pub fn new(identity: Identity, shards: u16, created_unix_ns: u64) -> Self {
        Self { identity, shards, segment_bytes: None, directory_half_bytes: None, created_unix_ns }
    }

    fn geometry(&self, shapes: &[DriveShape]) -> Geometry {
        let pool_bytes: u64 = shapes.iter().map(|shape| shape.size_bytes).fold(0, u64::saturating_add);
        let chosen = |divisor: u64, min: u32, max: u32| {
            let wanted = 1_u64 << (pool_bytes / divisor).max(1).ilog2();
            u32::try_from(wanted).unwrap_or(u32::MAX).clamp(min, max)
        };
        Geometry {
            shards: self.shards,
            segment_bytes: self
                .segment_bytes
                .unwrap_or_else(|| chosen(1024, CHOSEN_SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)),
            directory_half_bytes: self
                .directory_half_bytes
                .unwrap_or_else(|| chosen(256, CHOSEN_HALF_BYTES_MIN, DIRECTORY_HALF_BYTES_MAX)),
            block_bytes: shapes.iter().map(|shape| shape.block_bytes).max().unwrap_or(512),
            drive_bytes: shapes.iter().map(|shape| shape.size_bytes).collect(),
            founders: u16::try_from(shapes.len()).unwrap_or(u16::MAX),
        }
    }
}

impl Format {
    /// The pool once all is written.
    fn opened(&self, joined: Vec<DriveId>) -> Opened {
        Opened {
            layout: self.layout.clone(),
            created_unix_ns: self.superblock.created_unix_ns,
            is_new: joined.is_empty(),
            joined,
            repaired: Vec::new(),
            unrepaired: Vec::new(),
        }
    }

    /// Every write and flush that lets the drives behind the first `members` join, in order. The last flush is of every
    /// drive, as at each opening.
    fn plan_of_growth(&self, members: u16) -> VecDeque<Step> {
        let drives = || (0..self.layout.drives().len()).map(drive_id);
        let writes = |drive| [0, 1].map(|copy| write_copy(&self.superblock, drive, copy));
        let joining = || drives().skip(members.into());
        let mut plan: VecDeque<Step> = joining().flat_map(writes).collect();
        plan.extend(joining().map(|drive| Step::Flush { drive }));
        plan.extend(drives().take(members.into()).flat_map(writes));
        plan.extend(drives().map(|drive| Step::Flush { drive }));
        plan
    }

    /// Every write and flush of the format, in order.
    fn plan(&self) -> VecDeque<Step> {
        let drives = || (0..self.layout.drives().len()).map(drive_id);
        let superblocks = |superblock: Superblock| {
            let writes =
                drives().flat_map(move |drive| [0, 1].map(|copy| write_copy(&superblock, drive, copy)));
            writes.chain(drives().map(|drive| Step::Flush { drive })).collect::<Vec<_>>()
        };
        let mut plan = VecDeque::from(superblocks(self.superblock.clone()));
        let area = self.layout.directory();
        for (offset, bytes) in area.halves.into_iter().zip(fresh_headers(&self.layout.identity().pool)) {
            plan.push_back(Step::Write { drive: area.drive, offset, bytes });
        }
        plan.push_back(Step::Flush { drive: area.drive });
        plan.extend(superblocks(Superblock {
            sequence: 2,
            state: FormatState::Complete,
            ..self.superblock.clone()
        }));
        plan
    }
}

fn write_copy(superblock: &Superblock, drive: DriveId, copy: usize) -> Step {
    let mut bytes = vec![0; SUPERBLOCK_BYTES as usize];
    Superblock { drive, ..superblock.clone() }.encode(&mut bytes);
    Step::Write { drive, offset: SUPERBLOCK_OFFSETS[copy], bytes }
}

fn drive_id(index: usize) -> DriveId {
    DriveId(u16::try_from(index).expect("at most DRIVES_MAX drives"))
}

#[cfg(test)]
mod test;
