//! What is live in a segment that is being emptied: what the records of its batches tell and the map still finds there.

use io::Buffer;

use super::clean::{Item, Victim, VictimState};
use super::{Shard, Space};
use crate::VolumeId;
use crate::codec::Form;
use crate::map::{FANOUT, LOCATION_BYTES, Location};
use crate::record::{BatchHeader, Malformed, Record};

impl<B: Buffer> Shard<B> {
    /// Notes what is live in a batch of the victim, from one of its records on, or that more of its header is to be read.
    /// False if leaves are missing for the next record.
    pub(super) fn note_live(
        &mut self,
        victim: &mut Victim<B>,
        bytes: &[u8],
        noted: &mut usize,
    ) -> Result<bool, Malformed> {
        let header = BatchHeader::peek(bytes)?;
        let room = self.layout.segment_bytes() - victim.offset;
        if header.header_bytes as usize > bytes.len() && header.header_bytes <= room {
            victim.state = VictimState::Header(header.header_bytes);
            return Ok(true);
        }
        header.verify(bytes)?;
        let is_expected = header.pool == self.layout.identity().pool
            && header.shard == self.shard
            && header.segment == victim.segment
            && header.sequence == victim.sequence
            && header.total_bytes <= room;
        if !is_expected {
            return Err(Malformed);
        }
        for (lsn, record) in (header.first_lsn..).zip(header.records(bytes)).skip(*noted) {
            let record = record?;
            if !self.has_leaves_of(victim, &record) {
                return Ok(false);
            }
            if self.pages.needs.unreadable.is_some() {
                // What is moved without it, replay could not move if it cannot read it either.
                victim.damaged = true;
            } else {
                self.note_record(victim, lsn, record);
            }
            *noted += 1;
        }
        victim.offset += header.total_bytes;
        victim.sequence += 1;
        victim.state = VictimState::Blocks;
        Ok(true)
    }

    /// Whether the leaves of the map are there that tell what is live of a record.
    fn has_leaves_of(&mut self, victim: &Victim<B>, record: &Record<'_>) -> bool {
        let leaves = |block: u64, count: u64| block / FANOUT as u64..(block + count).div_ceil(FANOUT as u64);
        let (segment, offset) = (victim.segment, victim.offset);
        let page_place = |space: &Space, payload: u32| {
            let within = payload % LOCATION_BYTES as u32;
            (space.location(segment, offset + payload - within), within)
        };
        match record {
            Record::Write { lineage, block, forms, .. } => self.has_leaves(|map, needs| {
                leaves(*block, forms.count())
                    .for_each(|leaf| map.need_everywhere(*lineage, leaf, true, needs));
            }),
            Record::Move { lineage, block, moved, .. } => self.has_leaves(|map, needs| {
                leaves(*block, moved.iter().count() as u64)
                    .for_each(|leaf| map.need_everywhere(*lineage, leaf, true, needs));
            }),
            Record::Page { lineage, level, index, payload, .. } => {
                let place = page_place(&self.space, *payload);
                self.has_leaves(|map, needs| map.need_mark(*lineage, *level, *index, place, needs))
            }
            _ => {
                self.pages.needs.clear();
                true
            }
        }
    }

    fn note_record(&mut self, victim: &mut Victim<B>, lsn: u64, record: Record<'_>) {
        let place = |payload: u32| self.space.location(victim.segment, victim.offset + payload);
        let mut note = |lineage: VolumeId, block: u64, from: &mut Location, birth: u64, form: Form| {
            if self.map.is_live(lineage, block, *from) == Some(true) {
                victim.items.push(Item { lineage, block, from: *from, birth, form, at: 0 });
            }
            from.0 += u64::from(form.units());
        };
        match record {
            Record::Write { lineage, block, payload, forms, .. } => {
                let mut from = place(payload);
                for (block, form) in (block..).zip(forms.iter()) {
                    note(lineage, block, &mut from, lsn, form);
                }
            }
            Record::Move { lineage, block, payload, moved } => {
                let mut from = place(payload);
                for (block, moved) in (block..).zip(moved.iter()) {
                    note(lineage, block, &mut from, moved.birth, moved.form);
                }
            }
            Record::Page { lineage, level, index, payload, .. } => {
                let location = place(payload & !(LOCATION_BYTES as u32 - 1));
                self.map.mark_dirty(lineage, level, index, (location, payload % LOCATION_BYTES as u32));
            }
            Record::Unmap { .. }
            | Record::Manifest { .. }
            | Record::Seal { .. }
            | Record::DropVolume { .. }
            | Record::Fork { .. } => {}
        }
    }
}
