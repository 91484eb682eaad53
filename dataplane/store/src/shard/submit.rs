//! Requests on their way in: checked, cut into parts, queued.

use io::Buffer;

use super::admit::Class;
use super::order::{Source, Write};
use super::read::{HostKind, HostRead};
use super::{BLOCK_BYTES, DATA_BYTES_MAX, Op, Outcome, Payload, Phase, Request, SECTOR_BYTES, Shard};
use crate::VolumeId;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl<B: Buffer> Shard<B> {
    /// Takes a request.
    ///
    /// # Errors
    /// The request itself when the shard holds [`super::ShardOptions::requests_max`] of them.
    ///
    /// # Panics
    /// If offset, length and data contradict each other, or recovery has not ended: callers check what hosts send.
    pub fn submit(&mut self, request: Request<B>) -> Result<(), Request<B>> {
        assert!(!matches!(self.phase, Phase::Recovering), "requests come after recovery");
        if self.tickets.len() + self.reads.len() >= self.options.requests_max {
            return Err(request);
        }
        let Request { tag, volume, offset, len, compress, op } = request;
        if matches!(self.phase, Phase::Failed | Phase::Stopped | Phase::Stopping) {
            let buffer = if let Op::Read { buffer } = op { Some(buffer) } else { None };
            self.answer(tag, Outcome::Failed, buffer);
            return Ok(());
        }
        check_range(offset, len, &op);
        assert!(!self.order.forking.contains(&volume), "an image is used once its fork was answered");
        if changes_content(&op) && self.map.head(volume).is_some_and(|head| head.read_only) {
            self.answer(tag, Outcome::ReadOnly, None);
            return Ok(());
        }
        match op {
            Op::Read { buffer } => self.queue_read(tag, volume, offset, len, HostKind::Read(buffer)),
            Op::Compare { data } => self.queue_read(tag, volume, offset, len, HostKind::Compare(data)),
            Op::Verify => self.queue_read(tag, volume, offset, len, HostKind::Verify),
            Op::Write { data, fua } => {
                self.count_written(volume, len);
                let ticket = self.new_ticket(tag, fua, 1);
                self.queue_write(ticket, volume, (offset, len), compress, Some(data), None);
            }
            Op::CompareAndWrite { compare, write, fua } => {
                self.count_written(volume, len);
                let ticket = self.new_ticket(tag, fua, 1);
                self.queue_write(ticket, volume, (offset, len), compress, Some(write), Some(compare));
            }
            Op::WriteZeroes { fua } => self.submit_zeroes(tag, volume, (offset, len), compress, fua),
            Op::Deallocate => {
                let (first, end) = (offset.div_ceil(BLOCK), (offset + len) / BLOCK);
                self.submit_unmap(tag, volume, first, end);
            }
            Op::DropFrom => self.submit_unmap(tag, volume, offset.div_ceil(BLOCK), u64::MAX),
            Op::DropVolume => {
                self.written.remove(&volume);
                if self.has_nothing_of(volume) {
                    self.answer(tag, Outcome::Ok, None);
                } else {
                    let ticket = self.new_ticket(tag, false, 1);
                    self.order.push(Write::new(ticket, volume, 0, u64::MAX, Source::DropVolume));
                }
            }
            Op::Fork { image, read_only } => {
                assert!(!self.map.has_volume(image), "an image's number was never used before");
                #[cfg(feature = "planted")]
                let fua = !self.is_planted(super::Planted::ForkWithoutFlush);
                #[cfg(not(feature = "planted"))]
                let fua = true;
                let ticket = self.new_ticket(tag, fua, 1);
                self.order.forking.push(image);
                let source = Source::Fork { image, read_only };
                self.order.push(Write::new(ticket, volume, 0, u64::MAX, source));
            }
            Op::Flush => {
                let ticket = self.new_ticket(tag, false, 1);
                self.flush.ask(self.log.applied, ticket);
            }
        }
        Ok(())
    }

    fn count_written(&mut self, volume: VolumeId, len: u64) {
        self.stats.written_bytes += len;
        *self.written.entry(volume).or_default() += len;
    }

    fn queue_read(&mut self, tag: u64, volume: VolumeId, offset: u64, len: u64, kind: HostKind<B>) {
        self.reads.push(HostRead { tag, volume, offset, len, kind });
    }

    fn queue_write(
        &mut self,
        ticket: u32,
        volume: VolumeId,
        (offset, len): (u64, u64),
        compress: bool,
        data: Option<Payload<B::Shared>>,
        compare: Option<Payload<B::Shared>>,
    ) {
        let (first, end) = (offset / BLOCK, (offset + len).div_ceil(BLOCK));
        let whole = offset.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK);
        self.prefetch(|map, needs| map.need_write(volume, first, end, needs));
        let source = match (data, compare) {
            (Some(data), None) if whole => Source::Data(data),
            (data, compare) => Source::Partial { data, compare, start: offset - first * BLOCK, len },
        };
        self.order.push(Write { compress, ..Write::new(ticket, volume, first, end, source) });
    }

    /// Zeros are not stored: the whole blocks are unmapped, those at the edges are partial writes.
    fn submit_zeroes(
        &mut self,
        tag: u64,
        volume: VolumeId,
        (offset, len): (u64, u64),
        compress: bool,
        fua: bool,
    ) {
        let end = offset + len;
        let (first_whole, end_whole) = (offset.div_ceil(BLOCK) * BLOCK, end / BLOCK * BLOCK);
        let is_one_edge = first_whole >= end_whole
            && (first_whole > end_whole || offset.is_multiple_of(BLOCK) != end.is_multiple_of(BLOCK));
        if is_one_edge {
            // Within one block: what can be refused as a whole is no better than data.
            let ticket = self.new_ticket(tag, fua, 1);
            let block = offset / BLOCK;
            let source = Source::Partial { data: None, compare: None, start: offset - block * BLOCK, len };
            let write = Write::new(ticket, volume, block, block + 1, source);
            self.order.push(Write { class: Class::Host, compress, ..write });
            return;
        }
        let (head, tail) = (first_whole - offset, end - end_whole);
        let has_middle = end_whole > first_whole;
        let parts = u32::from(head > 0) + u32::from(has_middle) + u32::from(tail > 0);
        let ticket = self.new_ticket(tag, fua, parts);
        if head > 0 {
            self.queue_write(ticket, volume, (offset, head), compress, None, None);
        }
        if has_middle {
            let (first, end) = (first_whole / BLOCK, end_whole / BLOCK);
            self.order.push(Write::new(ticket, volume, first, end, Source::Unmap));
        }
        if tail > 0 {
            self.queue_write(ticket, volume, (end_whole, tail), compress, None, None);
        }
    }

    fn submit_unmap(&mut self, tag: u64, volume: VolumeId, first: u64, end: u64) {
        if first >= end || self.has_nothing_of(volume) {
            self.answer(tag, Outcome::Ok, None);
            return;
        }
        let ticket = self.new_ticket(tag, false, 1);
        self.order.push(Write::new(ticket, volume, first, end, Source::Unmap));
    }

    /// Whether the volume has no block here, nor anything under way that could give it one.
    fn has_nothing_of(&self, volume: VolumeId) -> bool {
        self.order.is_empty() && self.log.in_flight() == 0 && !self.map.has_volume(volume)
    }
}

/// Whether a read-only image refuses it.
fn changes_content<B: Buffer>(op: &Op<B>) -> bool {
    match op {
        Op::Write { .. }
        | Op::WriteZeroes { .. }
        | Op::Deallocate
        | Op::CompareAndWrite { .. }
        | Op::DropFrom => true,
        Op::Read { .. } | Op::Compare { .. } | Op::Verify | Op::Flush | Op::DropVolume | Op::Fork { .. } => {
            false
        }
    }
}

fn check_range<B: Buffer>(offset: u64, len: u64, op: &Op<B>) {
    let sector = u64::from(SECTOR_BYTES);
    let (needs_len, data) = match op {
        Op::Read { buffer } => (true, Some(buffer.len() as u64 >= len)),
        Op::Write { data, .. } | Op::Compare { data } => (true, Some(data.len() as u64 == len)),
        Op::CompareAndWrite { compare, write, .. } => {
            (true, Some(compare.len() as u64 == len && write.len() as u64 == len))
        }
        Op::Verify => (true, Some(true)),
        Op::WriteZeroes { .. } | Op::Deallocate => (true, None),
        Op::Flush | Op::DropVolume | Op::DropFrom | Op::Fork { .. } => (false, None),
    };
    if needs_len {
        assert!(offset.is_multiple_of(sector) && len.is_multiple_of(sector), "requests are made in sectors");
        assert!(len > 0 && offset.checked_add(len).is_some(), "a range is not empty and ends before 2^64");
    }
    if let Some(data_fits) = data {
        assert!(data_fits, "data and length agree");
        assert!(len <= DATA_BYTES_MAX, "a request for data is at most 1 MiB long");
        assert!(offset / BLOCK + 256 < u64::MAX / 2 / BLOCK, "a volume ends before 2^63");
    }
}
