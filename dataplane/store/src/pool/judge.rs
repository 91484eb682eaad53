//! What the superblocks of all drives together mean: a decision, made without touching a drive.

use io::{DiskError, DriveId, DriveShape};

use super::error::{DriveSet, PoolError};
use super::{Layout, SUPERBLOCK_OFFSETS};
use crate::superblock::{FormatState, Superblock, SuperblockFault};

/// What was found of one superblock copy.
#[derive(Clone, Debug)]
pub(crate) enum Copy {
    Whole(Superblock),
    Fault(SuperblockFault),
    Unreadable(DiskError),
}

/// A drive as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    pub(crate) shape: DriveShape,
    pub(crate) copies: [Copy; 2],
}

/// What to do with the drives.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing was ever stored: format, if that is allowed. `is_begun` where a format was cut short before.
    Format { is_begun: bool },
    /// A pool; write the copies in its `repairs` again, then use it.
    Open(Box<Found>),
    /// A pool, and behind its drives others on which nothing was ever stored: what every copy should say once these
    /// have joined, but for the drive's number, and how many drives were there before.
    Grow { superblock: Box<Superblock>, members: u16 },
}

/// A pool as its superblocks describe it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) layout: Layout,
    /// What every copy should say, but for the drive's number.
    pub(crate) superblock: Superblock,
    /// Copies that say something else.
    pub(crate) repairs: Vec<(DriveId, usize)>,
}

impl Findings {
    fn whole(&self) -> impl Iterator<Item = &Superblock> {
        self.copies.iter().filter_map(|copy| match copy {
            Copy::Whole(superblock) => Some(superblock),
            Copy::Fault(_) | Copy::Unreadable(_) => None,
        })
    }

    /// The newest whole copy.
    fn best(&self) -> Option<&Superblock> {
        self.whole().max_by_key(|superblock| (superblock.state, superblock.sequence))
    }

    /// Whether nothing was ever stored on the drive, as far as its superblocks say.
    fn is_formattable(&self) -> bool {
        self.copies.iter().all(|copy| match copy {
            Copy::Whole(superblock) => superblock.state == FormatState::Forming,
            Copy::Fault(fault) => *fault == SuperblockFault::Blank,
            Copy::Unreadable(_) => false,
        })
    }

    /// Where data would begin on the drive, which is the `index`th, after a format that was cut short; before that
    /// such a format may have written.
    pub(crate) fn begun_data_start(&self, index: usize) -> u64 {
        let layouts =
            self.whole().filter_map(|whole| Layout::new(whole.identity, whole.geometry.clone()).ok());
        let starts = layouts.filter_map(|layout| layout.drives().get(index).map(|drive| drive.data_start));
        starts.max().unwrap_or(0)
    }

    /// Why a drive without a whole copy cannot be used.
    fn refusal(&self, drive: DriveId) -> PoolError {
        let faults = || self.copies.iter();
        if let Some(Copy::Unreadable(error)) = faults().find(|copy| matches!(copy, Copy::Unreadable(_))) {
            return PoolError::Disk(*error);
        }
        if faults().any(|copy| matches!(copy, Copy::Fault(SuperblockFault::Damaged))) {
            return PoolError::Damaged(drive);
        }
        let foreign = faults().position(|copy| matches!(copy, Copy::Fault(SuperblockFault::Foreign)));
        match foreign {
            Some(index) => PoolError::Foreign { drive, offset: SUPERBLOCK_OFFSETS[index] },
            None => PoolError::BlankMember(drive),
        }
    }
}

/// Decides what the drives are.
pub(crate) fn judge(findings: &[Findings]) -> Result<Verdict, PoolError> {
    for (drive, found) in numbered(findings) {
        refuse_unknown(drive, found)?;
    }
    if findings.iter().all(Findings::is_formattable) {
        let is_begun = findings.iter().any(|found| found.best().is_some());
        return Ok(Verdict::Format { is_begun });
    }
    let complete = || {
        numbered(findings).filter_map(|(drive, found)| {
            let best = found.best().filter(|best| best.state == FormatState::Complete)?;
            Some((drive, best))
        })
    };
    // Of a pool to which drives were being added, the newest superblock tells how it is to be.
    let newest = complete().next().and_then(|(_, first)| {
        complete()
            .filter(|(_, best)| best.identity.pool == first.identity.pool)
            .reduce(|newest, next| if next.1.sequence > newest.1.sequence { next } else { newest })
    });
    let Some((reference_drive, reference)) = newest else {
        let unusable = numbered(findings).find(|(_, found)| !found.is_formattable());
        let (drive, found) = unusable.expect("not every drive is formattable");
        return Err(found.refusal(drive));
    };
    let has_new = check_members(findings, reference_drive, reference)?;
    let layout = Layout::new(reference.identity, reference.geometry.clone())?;
    for ((drive, found), &expected) in numbered(findings).zip(&reference.geometry.drive_bytes) {
        check_shape(drive, found.shape, expected, reference.geometry.block_bytes)?;
    }
    if has_new {
        return grow(findings, reference);
    }
    let repairs = numbered(findings).flat_map(|(drive, found)| {
        let wanted = Superblock { drive, ..reference.clone() };
        let stale = found.copies.iter().enumerate().filter(move |(_, copy)| match copy {
            Copy::Whole(superblock) => *superblock != wanted,
            Copy::Fault(_) | Copy::Unreadable(_) => true,
        });
        stale.map(move |(copy, _)| (drive, copy)).collect::<Vec<_>>()
    });
    Ok(Verdict::Open(Box::new(Found { layout, superblock: reference.clone(), repairs: repairs.collect() })))
}

/// The pool with the drives behind its own.
fn grow(findings: &[Findings], reference: &Superblock) -> Result<Verdict, PoolError> {
    let mut superblock = Superblock { sequence: reference.sequence + 1, ..reference.clone() };
    let members = reference.geometry.drive_bytes.len();
    for (drive, found) in numbered(findings).skip(members) {
        let DriveShape { size_bytes, block_bytes, .. } = found.shape;
        check_shape(drive, found.shape, size_bytes, reference.geometry.block_bytes)?;
        let grain = u64::from(block_bytes);
        superblock.geometry.drive_bytes.push(size_bytes / grain * grain);
    }
    let members = u16::try_from(members).expect("at most DRIVES_MAX drives");
    Ok(Verdict::Grow { superblock: Box::new(superblock), members })
}

fn numbered(findings: &[Findings]) -> impl Iterator<Item = (DriveId, &Findings)> {
    (0..).map(DriveId).zip(findings)
}

/// Refuses what a newer program wrote, even where an older copy lies beside it.
fn refuse_unknown(drive: DriveId, found: &Findings) -> Result<(), PoolError> {
    for copy in &found.copies {
        match *copy {
            Copy::Fault(SuperblockFault::Version(version)) => {
                return Err(PoolError::Version { drive, version });
            }
            Copy::Fault(SuperblockFault::Features(features)) => {
                return Err(PoolError::Features { drive, features });
            }
            Copy::Fault(_) | Copy::Whole(_) | Copy::Unreadable(_) => {}
        }
    }
    Ok(())
}

/// Every drive is the reference's, once, in order, and none is missing. True where blank drives follow them.
fn check_members(
    findings: &[Findings],
    reference_drive: DriveId,
    reference: &Superblock,
) -> Result<bool, PoolError> {
    let mut seen: Vec<Option<DriveId>> = vec![None; reference.geometry.drive_bytes.len()];
    let mut without = None;
    for (drive, found) in numbered(findings) {
        if usize::from(drive.0) >= seen.len() && found.is_formattable() {
            continue;
        }
        let Some(best) = found.best() else {
            without = without.or(Some(found.refusal(drive)));
            continue;
        };
        if found.whole().any(|whole| whole.identity.pool != reference.identity.pool) {
            // What an interrupted format left on a drive is no pool's.
            let is_blank = best.state == FormatState::Forming;
            return Err(if is_blank {
                PoolError::BlankMember(drive)
            } else {
                PoolError::Mixed { first: reference_drive, second: drive }
            });
        }
        let is_earlier = best.sequence < reference.sequence && reference.geometry.extends(&best.geometry);
        let fits = best.geometry == reference.geometry || is_earlier;
        if !fits || best.identity != reference.identity {
            return Err(PoolError::Disagree { drive, other: reference_drive });
        }
        let first = &mut seen[usize::from(best.drive.0)];
        if let Some(first) = *first {
            return Err(PoolError::Duplicate { first, second: drive });
        }
        *first = Some(drive);
    }
    let expected = u16::try_from(seen.len()).expect("at most DRIVES_MAX drives");
    let given = u16::try_from(findings.len()).expect("at most DRIVES_MAX drives");
    let strangers = numbered(findings).skip(seen.len()).any(|(_, found)| !found.is_formattable());
    if strangers {
        return Err(without.unwrap_or(PoolError::Extra { expected, given }));
    }
    if let Some(error) = without {
        return Err(error);
    }
    let missing =
        (0..).zip(&seen).filter(|(_, drive)| drive.is_none()).fold(0, |set, (index, _)| set | 1 << index);
    if missing != 0 {
        return Err(PoolError::Missing { expected, missing: DriveSet(missing) });
    }
    for (drive, found) in numbered(findings).take(seen.len()) {
        if let Some(best) = found.best().filter(|best| best.drive != drive) {
            return Err(PoolError::WrongOrder { given: drive, actual: best.drive });
        }
    }
    Ok(given > expected)
}

fn check_shape(drive: DriveId, shape: DriveShape, expected: u64, block_bytes: u32) -> Result<(), PoolError> {
    if shape.size_bytes < expected {
        return Err(PoolError::Shrunk { drive, found: shape.size_bytes, expected });
    }
    if shape.block_bytes > block_bytes {
        return Err(PoolError::BlockBytes { drive, found: shape.block_bytes, expected: block_bytes });
    }
    Ok(())
}
