//! Disk operations: reads in parts, writes and flushes, continued where the system moved less than was asked.
#![expect(unsafe_code, reason = "operations hand addresses to the kernel")]

use io::{DiskError, DiskErrorKind, DriveId, Extent, Token};
use io_uring::{opcode, squeue, types};

use super::{Completion, Key, Kind, Ring, Target};
use crate::buffer::ArenaBuffer;
use crate::drive::DriveSet;

/// Most parts of one read, as the seam has it.
pub(crate) const EXTENTS_MAX: usize = 256;
/// How often the system may ask to try again before that counts as a failure.
const RETRIES_MAX: u8 = 100;

/// The disk operations of a reactor that are under way.
#[derive(Default)]
pub(crate) struct Transfers {
    slots: Vec<Transfer>,
    free: Vec<u32>,
    /// Operations that had to be continued or repeated.
    pub(crate) retries: u64,
    /// Flushes under way.
    flushes: u32,
    /// Parts that the kernel has and whose completion was not found yet.
    under_way: u32,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    Flush,
}

struct Transfer {
    token: Token,
    direction: Direction,
    /// `None` for a flush.
    buffer: Option<ArenaBuffer>,
    parts: Vec<Part>,
    /// Parts that have not ended.
    left: usize,
    error: Option<DiskError>,
}

#[derive(Clone, Copy)]
struct Part {
    extent: Extent,
    done: u32,
    retries: u8,
}

/// A disk operation that has ended.
pub(crate) struct Ended {
    pub(crate) token: Token,
    pub(crate) direction: Direction,
    pub(crate) buffer: Option<ArenaBuffer>,
    pub(crate) result: Result<(), DiskError>,
}

impl Transfers {
    /// Starts an operation on `extents`, whose parts of the buffer are within it.
    pub(crate) fn start(
        &mut self,
        ring: &mut Ring,
        drives: &DriveSet,
        direction: Direction,
        token: Token,
        buffer: Option<ArenaBuffer>,
        extents: &[Extent],
    ) {
        assert!(!extents.is_empty());
        assert!(extents.len() <= EXTENTS_MAX);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Transfer::empty());
            u32::try_from(self.slots.len() - 1).expect("bounded by the arena's buffers")
        });
        let transfer = &mut self.slots[slot as usize];
        transfer.token = token;
        transfer.direction = direction;
        transfer.buffer = buffer;
        transfer.parts.clear();
        transfer.parts.extend(extents.iter().map(|extent| Part { extent: *extent, done: 0, retries: 0 }));
        transfer.left = extents.len();
        transfer.error = None;
        self.flushes += u32::from(direction == Direction::Flush);
        for part in 0..extents.len() {
            transfer.push(ring, drives, slot, part, squeue::Flags::empty());
        }
        self.under_way += u32::try_from(extents.len()).expect("at most 256");
    }

    /// True while a flush is under way: a thread of the kernel does it, and needs a core.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushes > 0
    }

    /// A completion was found that [`Self::complete`] is to take.
    pub(crate) fn on_found(&mut self) {
        self.under_way -= 1;
    }

    /// True while no drive has anything to do.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.under_way == 0
    }

    /// Takes the completion of a part; the operation goes on, or has ended.
    pub(crate) fn complete(
        &mut self,
        ring: &mut Ring,
        drives: &DriveSet,
        completion: Completion,
    ) -> Option<Ended> {
        let Key { slot, part: index, .. } = completion.key;
        let transfer = &mut self.slots[slot as usize];
        let index = usize::from(index);
        let part = &mut transfer.parts[index];
        match part.advance(transfer.direction, completion.result, drives) {
            Progress::Ended => {}
            Progress::Continue(flags) => {
                self.retries += 1;
                self.under_way += 1;
                transfer.push(ring, drives, slot, index, flags);
                return None;
            }
            Progress::Failed(kind, errno) => {
                let Extent { drive, offset, len, .. } = part.extent;
                transfer.error.get_or_insert(DiskError { kind, drive, offset, len, errno });
            }
        }
        transfer.left -= 1;
        if transfer.left > 0 {
            return None;
        }
        self.free.push(slot);
        self.flushes -= u32::from(transfer.direction == Direction::Flush);
        Some(Ended {
            token: transfer.token,
            direction: transfer.direction,
            buffer: transfer.buffer.take(),
            result: transfer.error.take().map_or(Ok(()), Err),
        })
    }
}

enum Progress {
    Ended,
    /// What is left is to be queued again.
    Continue(squeue::Flags),
    Failed(DiskErrorKind, i32),
}

impl Transfer {
    fn empty() -> Self {
        Self {
            token: Token(0),
            direction: Direction::Flush,
            buffer: None,
            parts: Vec::new(),
            left: 0,
            error: None,
        }
    }

    /// Queues what is left of a part.
    fn push(&mut self, ring: &mut Ring, drives: &DriveSet, slot: u32, index: usize, flags: squeue::Flags) {
        let Part { extent, done, .. } = self.parts[index];
        let target = target(ring, drives, extent.drive);
        let part = u16::try_from(index).expect("a read has at most 256 parts");
        let key = Key { kind: Kind::Transfer, slot, part };
        let Some(buffer) = &mut self.buffer else {
            let target = flush_target(drives, extent.drive);
            let fsync = opcode::Fsync::new(target.fd()).flags(types::FsyncFlags::DATASYNC).build();
            // SAFETY: the operation refers to no memory.
            unsafe { ring.push(target.mark(fsync).flags(flags), key) };
            return;
        };
        let len = extent.len - done;
        let offset = extent.offset + u64::from(done);
        let address = buffer.address((extent.start + done) as usize, len as usize);
        let fd = target.fd();
        let entry = match (self.direction, ring.registration(buffer)) {
            (Direction::Write, Some(number)) => {
                opcode::WriteFixed::new(fd, address.cast_const(), len, number).offset(offset).build()
            }
            (Direction::Write, None) => {
                opcode::Write::new(fd, address.cast_const(), len).offset(offset).build()
            }
            (Direction::Read | Direction::Flush, Some(number)) => {
                opcode::ReadFixed::new(fd, address, len, number).offset(offset).build()
            }
            (Direction::Read | Direction::Flush, None) => {
                opcode::Read::new(fd, address, len).offset(offset).build()
            }
        };
        // SAFETY: the bytes are within the buffer, which stays in this table, untouched, until its last part has
        // completed; parts of a read do not overlap.
        unsafe { ring.push(target.mark(entry).flags(flags), key) };
    }
}

impl Part {
    fn advance(&mut self, direction: Direction, result: i32, drives: &DriveSet) -> Progress {
        if result < 0 {
            return self.failure(-result);
        }
        if direction == Direction::Flush {
            return Progress::Ended;
        }
        let before = self.done;
        self.done += result.unsigned_abs();
        if self.done >= self.extent.len {
            return Progress::Ended;
        }
        // Direct I/O goes on at a whole block only.
        let block = drives.drive(self.extent.drive).map_or(1, |drive| drive.shape().block_bytes);
        self.done -= self.done % block;
        if self.done <= before {
            return Progress::Failed(DiskErrorKind::Short, 0);
        }
        Progress::Continue(squeue::Flags::empty())
    }

    fn failure(&mut self, errno: i32) -> Progress {
        if matches!(errno, libc::EINTR | libc::EAGAIN) && self.retries < RETRIES_MAX {
            self.retries += 1;
            // A worker of the kernel may block where the submission may not.
            return Progress::Continue(squeue::Flags::ASYNC);
        }
        Progress::Failed(kind_of(errno), errno)
    }
}

/// How operations name a drive: the ring's table begins with those that were there when it was made.
pub(crate) fn target(ring: &Ring, drives: &DriveSet, drive: DriveId) -> Target {
    use std::os::fd::AsRawFd;
    let file = drives.drive(drive).expect("callers name drives that there are").file();
    if drives.is_added(drive) {
        return Target::plain(file.as_raw_fd());
    }
    ring.target(u32::from(drive.0), file.as_raw_fd())
}

/// A flush goes through an open file of the reactor's own, which is not in the ring's table: it is rare and slow.
fn flush_target(drives: &DriveSet, drive: DriveId) -> Target {
    use std::os::fd::AsRawFd;
    let file = drives.flushed_by(drive).expect("callers name drives that there are");
    Target::plain(file.as_raw_fd())
}

fn kind_of(errno: i32) -> DiskErrorKind {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => DiskErrorKind::NoSpace,
        libc::ENODEV
        | libc::ENXIO
        | libc::EROFS
        | libc::EBADF
        | libc::ESHUTDOWN
        | libc::ENOMEDIUM
        | libc::ESTALE
        | libc::ENOTCONN => DiskErrorKind::Gone,
        _ => DiskErrorKind::Media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(len: u32) -> Part {
        Part { extent: Extent { drive: DriveId(0), offset: 0, start: 0, len }, done: 0, retries: 0 }
    }

    #[test]
    fn an_operation_that_must_be_tried_again_is_but_not_for_ever() {
        let drives = DriveSet::none();
        let mut part = part(4096);
        for _ in 0..RETRIES_MAX {
            let progress = part.advance(Direction::Write, -libc::EAGAIN, &drives);
            assert!(matches!(progress, Progress::Continue(flags) if flags == squeue::Flags::ASYNC));
        }
        let progress = part.advance(Direction::Write, -libc::EAGAIN, &drives);
        assert!(matches!(progress, Progress::Failed(DiskErrorKind::Media, libc::EAGAIN)));
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_stopped_and_fails_where_nothing_moves() {
        let drives = DriveSet::none();
        let mut part = part(8192);
        assert!(matches!(part.advance(Direction::Read, 4096, &drives), Progress::Continue(_)));
        assert_eq!(part.done, 4096);
        assert!(matches!(
            part.advance(Direction::Read, 0, &drives),
            Progress::Failed(DiskErrorKind::Short, 0)
        ));
        assert!(matches!(part.advance(Direction::Read, 4096, &drives), Progress::Ended));
    }

    #[test]
    fn errors_are_told_apart_by_what_a_caller_can_do() {
        assert_eq!(kind_of(libc::EIO), DiskErrorKind::Media);
        assert_eq!(kind_of(libc::ENODEV), DiskErrorKind::Gone);
        assert_eq!(kind_of(libc::ENOSPC), DiskErrorKind::NoSpace);
    }
}
