//! Batches in memory: header, records and payload. Blocks that are stored as they are come first, each at a multiple of
//! 4096; compressed ones lie one behind the other after them.

use io::{Buffer, Disk, Purpose};

use super::compose::{Plan, Run, RunKind};
use super::log::{Batch, Change, Effect};
use super::order::{Source, Write};
use super::{BLOCK_BYTES, Output, Shard};
use crate::SegmentId;
use crate::checksum::block_crc;
use crate::codec::Form;
use crate::record::{ALIGNMENT, BatchHeader, HEADER_BYTES, MovedBlock, RecordWriter, Written, header_bytes};

const BLOCK: usize = BLOCK_BYTES as usize;

/// A batch that is being put together.
struct Draft<'a> {
    writer: RecordWriter<'a>,
    payload: &'a mut [u8],
    /// Where the payload begins in the batch.
    header_bytes: usize,
    /// How far the payload is filled: blocks as they are come first, compressed ones behind them.
    raw: usize,
    packed: usize,
    /// Where the batch begins in its segment.
    segment: SegmentId,
    offset: u32,
    /// LSN of the next record.
    lsn: u64,
}

impl Draft<'_> {
    /// Offset in the batch of the payload of the next run.
    fn next_payload(&self, run: &Run) -> u32 {
        let filled = if run.is_packed() { self.packed } else { self.raw };
        as_u32(self.header_bytes + filled)
    }

    /// The next `len` bytes of the payload of a run.
    fn bytes(&mut self, packed: bool, len: usize) -> &mut [u8] {
        let filled = if packed { &mut self.packed } else { &mut self.raw };
        let at = *filled;
        *filled += len;
        &mut self.payload[at..at + len]
    }

    /// The blocks of a run as they are, copied once and checksummed as they are copied.
    fn raw_blocks<B: Buffer>(&mut self, write: &Write<B>, run: &Run, batch: &mut Batch) {
        for block in run.first..run.end {
            let at = usize::try_from(block - write.first).expect("at most 1 MiB") * BLOCK;
            let to = self.bytes(false, BLOCK);
            match &write.source {
                Source::Data(data) => data.copy_to(at, to),
                Source::Content(content) => to.copy_from_slice(&content[at..at + BLOCK]),
                Source::Partial { .. } | Source::Unmap | Source::DropVolume | Source::Fork { .. } => {
                    to.fill(0)
                }
            }
            let form = Form::raw(block_crc(block, to));
            self.writer.crc(form.crc);
            batch.words.push(form.to_word());
        }
    }

    /// The compressed blocks of a run.
    fn packed_blocks(&mut self, forms: &[Form], stored: &[u8], batch: &mut Batch) {
        self.bytes(true, stored.len()).copy_from_slice(stored);
        forms.iter().for_each(|form| self.writer.crc(form.crc));
        forms.iter().for_each(|form| self.writer.units(*form));
        batch.words.extend(forms.iter().map(|form| form.to_word()));
    }

    /// Zeroes what is left of the last block.
    fn finish(self) -> Written {
        self.payload[self.packed..].fill(0);
        self.writer.finish()
    }
}

impl<B: Buffer> Shard<B> {
    /// Writes what was planned; false if there is no memory for it now.
    pub(super) fn emit<D: Disk<Buffer = B>>(&mut self, disk: &mut D, plan: &Plan) -> bool {
        let header_bytes = header_bytes(plan.record_bytes);
        let total = header_bytes + plan.payload_bytes();
        let Some(mut buffer) = disk.allocate(total, Purpose::Log) else {
            self.retry_for_memory();
            return false;
        };
        let head = self.log.head;
        let segment = head.segment.expect("a batch is planned only once there is a segment");
        let mut batch = self.log.take_batch();
        let (header, payload) = buffer[..total].split_at_mut(header_bytes);
        let mut draft = Draft {
            writer: RecordWriter::new(header),
            payload,
            header_bytes,
            raw: 0,
            packed: plan.raw_bytes,
            segment,
            offset: head.offset,
            lsn: head.lsn,
        };
        for run in &plan.runs {
            self.emit_run(plan, run, &mut draft, &mut batch);
            draft.lsn += 1;
        }
        let records = draft.finish();
        self.log.requested_bytes += plan.requested_bytes();
        batch.requested = plan.requested_bytes() > 0;
        if batch.requested {
            self.gather.on_begun(self.now, self.order.queue.len());
        }
        batch.open_group = plan.open;
        self.end_changes(plan, &mut batch);
        if let Some(moves_to) = plan.moves_to {
            let has_moves = plan.runs.iter().any(|run| matches!(run.kind, RunKind::Move(..)));
            self.cleaner.set_moved(moves_to, has_moves.then_some(head.sequence));
        }
        self.send_batch(disk, batch, buffer, total, records, None);
        true
    }

    /// Completes the header of a batch and writes it. `next` is the segment in which the log goes on, in a seal.
    pub(super) fn send_batch<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        mut batch: Batch,
        mut buffer: B,
        total: usize,
        written: Written,
        next: Option<SegmentId>,
    ) {
        let head = self.log.head;
        let total_bytes = u32::try_from(total).expect("a batch is at most 1 MiB");
        let header = BatchHeader {
            header_bytes: written.header_bytes,
            total_bytes,
            record_count: written.count,
            record_bytes: written.record_bytes,
            shard: self.shard,
            segment: head.segment.expect("a batch is composed only once there is a segment"),
            pool: self.layout.identity().pool,
            generation: head.generation,
            sequence: head.sequence,
            epoch: self.log.epoch,
            previous: head.previous,
            first_lsn: head.lsn,
            flushed: self.flush.flushed,
        };
        let hash = header.seal(&mut buffer);
        self.summary.note(&self.layout, &buffer[..HEADER_BYTES + written.record_bytes as usize]);
        batch.sequence = head.sequence;
        batch.total_bytes = total_bytes;
        batch.records = written.count;
        self.write_batch(disk, batch, buffer, hash, next);
    }

    /// Ends the segment: a batch that says where the log goes on. False if there is no memory for it now.
    pub(super) fn write_seal<D: Disk<Buffer = B>>(
        &mut self,
        disk: &mut D,
        segment: SegmentId,
        next: SegmentId,
    ) -> bool {
        let Some(mut buffer) = disk.allocate(ALIGNMENT as usize, Purpose::Log) else {
            self.retry_for_memory();
            return false;
        };
        let mut batch = self.log.take_batch();
        batch.open_group = self.log.is_group_open();
        let mut writer = RecordWriter::new(&mut buffer);
        writer.seal(next);
        let records = writer.finish();
        let generation = self.log.head.generation;
        self.send_batch(disk, batch, buffer, ALIGNMENT as usize, records, Some(next));
        self.space.seal(segment);
        self.write_summary(disk, segment, generation);
        true
    }

    fn emit_run(&mut self, plan: &Plan, run: &Run, draft: &mut Draft<'_>, batch: &mut Batch) {
        let payload = draft.next_payload(run);
        let location = self.space.location(draft.segment, draft.offset + payload);
        let words = u32::try_from(batch.words.len()).expect("a batch is at most 1 MiB");
        let place = (payload, as_u32(run.bytes));
        let (volume, change) = match run.kind {
            RunKind::Data(id) | RunKind::Packed { id, .. } => {
                let Some(write) = self.order.writes.get(id) else { return };
                let count = u32::try_from(run.end - run.first).expect("a batch is at most 1 MiB");
                let lineage = self.map.lineage(write.volume);
                let ids = (write.volume, lineage);
                draft.writer.write(ids, run.first, (count, run.is_packed()), run.more, place);
                if let RunKind::Packed { forms, start, .. } = run.kind {
                    let forms = &plan.forms[forms..forms + count as usize];
                    draft.packed_blocks(forms, plan.packer.bytes(start, run.bytes), batch);
                    self.stats.packed_blocks += u64::from(count);
                } else {
                    draft.raw_blocks(write, run, batch);
                }
                draft.writer.pad();
                (write.volume, Change::Write { lineage, location, words })
            }
            RunKind::Unmap(id) => {
                let Some(write) = self.order.writes.get(id) else { return };
                if !matches!(write.source, Source::Unmap) {
                    self.stats.zero_blocks += run.end - run.first;
                }
                draft.writer.unmap(write.volume, run.first, run.end, run.more);
                (write.volume, Change::Unmap)
            }
            RunKind::DropVolume(id) => {
                let Some(write) = self.order.writes.get(id) else { return };
                draft.writer.drop_volume(write.volume);
                (write.volume, Change::DropVolume { ticket: Some(write.ticket) })
            }
            RunKind::Fork(id) => {
                let Some(write) = self.order.writes.get(id) else { return };
                let Source::Fork { image, read_only } = write.source else { return };
                draft.writer.fork(write.volume, image, read_only);
                if let Some(ticket) = self.tickets.get(write.ticket) {
                    self.outputs.push_back(Output::Forked { tag: ticket.tag });
                }
                (write.volume, Change::Fork { image, read_only })
            }
            RunKind::Move(from, packed) => {
                let count = usize::try_from(run.end - run.first).expect("a batch is at most 1 MiB");
                let Some((lineage, items)) = self.cleaner.items(from, count) else { return };
                draft.writer.begin_move(lineage, run.first, (as_u32(count), packed), place);
                for (item, content) in items {
                    draft.writer.moved(&MovedBlock { birth: item.birth, from: item.from, form: item.form });
                    draft.bytes(packed, content.len()).copy_from_slice(content);
                    #[cfg_attr(
                        not(feature = "planted"),
                        expect(unused_mut, reason = "changed by planted faults alone")
                    )]
                    let mut form = item.form;
                    #[cfg(feature = "planted")]
                    if self.options.planted == Some(super::Planted::MovePackedAsRaw) {
                        form = Form::raw(form.crc);
                    }
                    batch.words.extend([item.from.0, form.to_word()]);
                    self.stats.moved_blocks += 1;
                }
                (lineage, Change::Move { location, words })
            }
        };
        let Run { first, end, more, .. } = *run;
        batch.effects.push(Effect { lsn: draft.lsn, volume, first, end, change, more });
    }

    /// Takes the changes that end in the batch off the queue, and notes how far the one after them has come.
    fn end_changes(&mut self, plan: &Plan, batch: &mut Batch) {
        let sequence = self.log.head.sequence;
        // All are off the queue before the end of a guard puts others at its front.
        self.order.open = plan.open;
        let ended: Vec<u32> = self.order.queue.drain(..plan.ended).collect();
        if plan.open
            && let Some(run) = plan.runs.last()
            && let RunKind::Data(id) | RunKind::Packed { id, .. } | RunKind::Unmap(id) = run.kind
            && let Some(write) = self.order.writes.get_mut(id)
        {
            write.next = run.end;
        }
        for id in ended {
            let Some(mut write) = self.on_logged(id, sequence) else { continue };
            if !matches!(write.source, Source::DropVolume) {
                batch.finished.push(write.ticket);
            }
            batch.finished.append(&mut write.merged);
        }
    }
}

fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is at most 1 MiB")
}
