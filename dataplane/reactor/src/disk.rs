//! The reactor's drives: operations are checked, started and told when they end.

use io::{Disk, DriveId, DriveShape, Event, Extent, Token};

use crate::Reactor;
use crate::buffer::ArenaBuffer;
use crate::ring::Completion;
use crate::ring::transfer::{Direction, Ended};

impl<M: Send + 'static> Reactor<M> {
    /// Takes the completion of a part of a disk operation.
    pub(crate) fn complete_transfer(&mut self, completion: Completion) {
        let Some(ended) = self.transfers.complete(&mut self.ring, &self.drives, completion) else { return };
        let Ended { token, direction, buffer, result } = ended;
        if let Err(error) = &result {
            self.counters.disk_errors += 1;
            tracing::debug!(%error, ?direction, "disk operation failed");
        }
        self.ready.push_back(match (direction, buffer) {
            (Direction::Read, Some(buffer)) => Event::Read { token, buffer, result },
            (Direction::Write, Some(buffer)) => Event::Written { token, buffer, result },
            (Direction::Flush, _) | (_, None) => Event::Flushed { token, result },
        });
    }

    /// Our own machines' bugs end here, before the kernel sees them.
    fn check(&self, extent: &Extent, buffer: &ArenaBuffer) -> u32 {
        let DriveShape { size_bytes, block_bytes, .. } = self.drive(extent.drive);
        let block = u64::from(block_bytes);
        assert!(extent.len > 0);
        assert!(extent.offset.is_multiple_of(block), "{extent:?} is not aligned to {block}");
        assert!(extent.len.is_multiple_of(block_bytes), "{extent:?} is not aligned to {block}");
        assert!(extent.start.is_multiple_of(block_bytes), "{extent:?} is not aligned to {block}");
        assert!(extent.offset + u64::from(extent.len) <= size_bytes, "{extent:?} ends beyond the drive");
        assert!(
            extent.start as usize + extent.len as usize <= buffer.len(),
            "{extent:?} ends beyond the buffer"
        );
        extent.len
    }
}

impl<M: Send + 'static> Disk for Reactor<M> {
    fn drive(&self, drive: DriveId) -> DriveShape {
        self.drives.drive(drive).expect("callers name drives that there are").shape()
    }

    fn drives(&self) -> u16 {
        u16::try_from(self.drives.len()).expect("drives are numbered by 16 bits")
    }

    fn read(&mut self, token: Token, buffer: ArenaBuffer, extents: &[Extent]) {
        let bytes: u32 = extents.iter().map(|extent| self.check(extent, &buffer)).sum();
        self.counters.disk_reads += 1;
        self.counters.disk_read_bytes += u64::from(bytes);
        self.transfers.start(&mut self.ring, &self.drives, Direction::Read, token, Some(buffer), extents);
    }

    fn write(&mut self, token: Token, drive: DriveId, offset: u64, buffer: ArenaBuffer, len: u32) {
        let extent = Extent { drive, offset, start: 0, len };
        self.check(&extent, &buffer);
        self.counters.disk_writes += 1;
        self.counters.disk_written_bytes += u64::from(len);
        self.transfers.start(&mut self.ring, &self.drives, Direction::Write, token, Some(buffer), &[extent]);
    }

    fn flush(&mut self, token: Token, drive: DriveId) {
        self.counters.disk_flushes += 1;
        if !self.drive(drive).volatile_cache {
            self.ready.push_back(Event::Flushed { token, result: Ok(()) });
            return;
        }
        let extent = Extent { drive, offset: 0, start: 0, len: 0 };
        self.transfers.start(&mut self.ring, &self.drives, Direction::Flush, token, None, &[extent]);
    }
}
