//! Commands of hosts, and what the model makes of their ends.

use host::{Failure, Fault, Payload, Step};
use io::Time;
use nvme::command::{DatasetManagement, DsmRange, IoFlags, LbaRange, NvmCommand};
use nvme::{Fuse, Sqe, Status};
use store::VolumeId;

use super::host::{Ended, ThrownOff};
use super::{Doubt, TargetTrial};
use crate::model::{Change, Part, SECTORS, split};
use crate::trial::payload::{fill, writers};
use crate::trial::{Place, Violation};

/// Sectors of 512 bytes of one command at most.
const SECTORS_MAX: usize = 160;

/// Longest history of a block.
const HISTORY_MAX: usize = 80;

/// A command under way.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) host: usize,
    pub(crate) volume: usize,
    pub(crate) asked_at: u64,
    pub(crate) began: Time,
    pub(crate) kind: Kind,
    /// Half of a fused pair.
    pub(crate) fused: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Read { first: u64 },
    Peek { first: u64, count: usize },
    Change { blocks: Vec<usize>, needs_room: bool },
    Compare { expected: Vec<Part>, write: Option<u64> },
    Flush,
}

/// A range of sectors of 512 bytes.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) volume: usize,
    pub(super) first: u64,
    pub(super) count: usize,
}

impl TargetTrial {
    pub(super) fn open_of(&self, host: usize) -> usize {
        self.open.values().filter(|open| open.host == host).count()
    }

    /// Makes one command of a host, if it can be made now.
    pub(super) fn ask(&mut self, host: usize) {
        let Some(range) = self.choose_range() else { return };
        match self.random.below(20) {
            0..7 => self.ask_read(host, range),
            7..14 => self.ask_write(host, range),
            14..16 => self.ask_zeroes(host, range),
            16 => self.ask_deallocate(host, range),
            17 => self.ask_compare(host, range),
            18 => self.ask_fused(host, range),
            _ => self.ask_flush(host, range.volume),
        };
    }

    /// Near the start of a volume or the end of a stripe, where commands are cut.
    fn choose_range(&mut self) -> Option<Range> {
        let volume = self.random.index(self.volumes.len());
        if !self.is_usable(volume) {
            return None;
        }
        let blocks = self.volumes[volume].blocks.len();
        let near = [0, 250, 506][self.random.index(3)];
        let block = (near + self.random.index(10)).min(blocks.checked_sub(1)?);
        let unit = if self.is_large(volume) { SECTORS } else { 1 };
        let first = block * SECTORS + self.random.index(SECTORS) / unit * unit;
        let longest = [8, 32, SECTORS_MAX][self.random.index(3)] / unit;
        let count = (self.random.index(longest) + 1) * unit;
        Some(Range { volume, first: first as u64, count: count.min(blocks * SECTORS - first) })
    }

    /// False while something of the volume is to be read before anything else.
    fn is_usable(&self, volume: usize) -> bool {
        let target = &self.volumes[volume];
        !target.gone && target.first_read.is_none() && !self.is_unverified(volume)
    }

    /// What the bytes of a volume carry.
    pub(super) fn stamp(&self, volume: usize) -> VolumeId {
        id(self.volumes[volume].stamp)
    }

    fn is_large(&self, volume: usize) -> bool {
        self.volumes[volume].spec.sector == engine::SectorSize::B4096
    }

    fn lbas(&self, range: Range) -> LbaRange {
        let unit = if self.is_large(range.volume) { SECTORS as u64 } else { 1 };
        let count = u32::try_from(range.count as u64 / unit).expect("short");
        LbaRange::new(range.first / unit, count)
    }

    pub(super) fn ask_read(&mut self, host: usize, range: Range) -> bool {
        let command = NvmCommand::Read(self.lbas(range));
        let data = Payload::Read(vec![0xA5; range.count * 512]);
        self.submit(host, range, command, data, Kind::Read { first: range.first }, None)
    }

    /// Reads for the model, which does not know what is there.
    pub(super) fn ask_peek(&mut self, host: usize, volume: usize, first: u64, count: usize) -> bool {
        let range = Range { volume, first, count };
        let command = NvmCommand::Read(self.lbas(range));
        let data = Payload::Read(vec![0x5A; count * 512]);
        self.submit(host, range, command, data, Kind::Peek { first, count }, None)
    }

    pub(super) fn ask_write(&mut self, host: usize, range: Range) -> bool {
        let number = self.numbers + 1;
        let mut lbas = self.lbas(range);
        let fua = self.random.one_in(8);
        if fua {
            lbas.flags = IoFlags(lbas.flags.0 | IoFlags::FUA.0);
        }
        let mut data = vec![0; range.count * 512];
        for (sector, place) in (range.first..).zip(data.chunks_exact_mut(512)) {
            fill(place, number, self.stamp(range.volume), sector);
        }
        let change = self.change(false, fua);
        self.submit_change(host, range, NvmCommand::Write(lbas), Payload::Write(data), change, true)
    }

    fn ask_zeroes(&mut self, host: usize, range: Range) -> bool {
        let mut lbas = self.lbas(range);
        if self.random.one_in(2) {
            lbas.flags = IoFlags(lbas.flags.0 | IoFlags::DEAC.0);
        }
        let change = self.change(true, false);
        self.submit_change(host, range, NvmCommand::WriteZeroes(lbas), Payload::None, change, true)
    }

    /// Whole blocks, so that what is left of it is certain.
    fn ask_deallocate(&mut self, host: usize, range: Range) -> bool {
        let first = range.first.next_multiple_of(SECTORS as u64);
        let end = (range.first + range.count as u64) / SECTORS as u64 * SECTORS as u64;
        let Some(count) = end.checked_sub(first).filter(|count| *count > 0) else { return false };
        let range = Range { first, count: usize::try_from(count).expect("short"), ..range };
        let lbas = self.lbas(range);
        let list = DsmRange { attributes: 0, count_blocks: lbas.count_blocks, slba: lbas.slba };
        let command = DatasetManagement {
            count_ranges: 1,
            deallocate: true,
            integral_write: false,
            integral_read: false,
        };
        let data = Payload::Write(list.encode().to_vec());
        let change = self.change(true, false);
        self.submit_change(host, range, NvmCommand::DatasetManagement(command), data, change, false)
    }

    fn ask_compare(&mut self, host: usize, range: Range) -> bool {
        let (expected, data) = self.expect(range);
        let command = NvmCommand::Compare(self.lbas(range));
        let kind = Kind::Compare { expected, write: None };
        self.submit(host, range, command, Payload::Write(data), kind, None)
    }

    /// What a comparison may expect: as a rule what the blocks hold if everything asked for has happened.
    fn expect(&mut self, range: Range) -> (Vec<Part>, Vec<u8>) {
        let volume = &self.volumes[range.volume];
        let sectors = (range.first..).take(range.count);
        let mut numbers: Vec<u64> = sectors
            .map(|sector| {
                let (block, within) = split(sector);
                volume.blocks[block].newest()[within]
            })
            .collect();
        if self.random.one_in(4) {
            let index = self.random.index(numbers.len());
            numbers[index] = self.random.below(self.numbers + 1);
        }
        let mut data = vec![0; range.count * 512];
        for ((sector, number), place) in (range.first..).zip(&numbers).zip(data.chunks_exact_mut(512)) {
            fill(place, *number, self.stamp(range.volume), sector);
        }
        (Part::of_run(range.first, numbers), data)
    }

    /// Compare and Write, within the unit that is atomic and one stripe.
    fn ask_fused(&mut self, host: usize, range: Range) -> bool {
        let range = Range { count: range.count.min(SECTORS), ..range };
        let stripe = |sector: u64| sector * 512 / engine::STRIPE_BYTES;
        if stripe(range.first) != stripe(range.first + range.count as u64 - 1) {
            return false;
        }
        let Some(parts) = self.free_parts(range) else { return false };
        let (expected, compare_data) = self.expect(range);
        let (compare_number, write_number) = (self.numbers + 1, self.numbers + 2);
        let mut data = vec![0; range.count * 512];
        for (sector, place) in (range.first..).zip(data.chunks_exact_mut(512)) {
            fill(place, write_number, self.stamp(range.volume), sector);
        }
        let (lbas, nsid) = (self.lbas(range), self.volumes[range.volume].nsid);
        let half = |command: NvmCommand, fuse| Sqe { fuse, ..command.encode(nsid) };
        let pair = vec![
            (compare_number, half(NvmCommand::Compare(lbas), Fuse::First), Payload::Write(compare_data)),
            (write_number, half(NvmCommand::Write(lbas), Fuse::Second), Payload::Write(data)),
        ];
        let choice = self.random.index(8);
        if !self.hosts[host].submit(choice, pair) {
            return false;
        }
        self.numbers = write_number;
        let asked_at = self.tick();
        self.trace(|_| format!("host {host} asks {compare_number} and {write_number} at {asked_at}: fused"));
        let change = Change { number: write_number, ..self.change(false, false) };
        let blocks = parts.iter().map(|part| part.block).collect();
        self.begin_change(range.volume, write_number, asked_at, change, parts);
        let began = self.world.now();
        let half = |kind| Open { host, volume: range.volume, asked_at, began, kind, fused: true };
        self.open.insert(compare_number, half(Kind::Compare { expected, write: Some(write_number) }));
        self.open.insert(write_number, half(Kind::Change { blocks, needs_room: true }));
        self.run_host(host);
        true
    }

    /// Asks for some command of a host to be aborted.
    pub(super) fn ask_abort(&mut self, host: usize) {
        let mine = self.open.iter().filter(|(_, open)| open.host == host && !open.fused);
        let tags: Vec<u64> = mine.map(|(tag, _)| *tag).collect();
        if tags.is_empty() {
            return;
        }
        let tag = tags[self.random.index(tags.len())];
        if self.hosts[host].abort(tag) {
            self.trace(|_| format!("host {host} asks for {tag} to be aborted"));
            self.aborts.insert(tag);
            self.run_host(host);
        }
    }

    fn ask_flush(&mut self, host: usize, volume: usize) -> bool {
        let range = Range { volume, first: 0, count: 0 };
        self.submit(host, range, NvmCommand::Flush, Payload::None, Kind::Flush, None)
    }

    fn change(&self, zeroes: bool, fua: bool) -> Change {
        // Every command may be refused: by a fence, a full pool, a lost connection.
        Change {
            number: self.numbers + 1,
            mask: 0,
            zeroes,
            asked_at: 0,
            optional: true,
            certain_at: None,
            answered_at: None,
            fua,
        }
    }

    fn submit_change(
        &mut self,
        host: usize,
        range: Range,
        command: NvmCommand,
        data: Payload<Vec<u8>>,
        change: Change,
        needs_room: bool,
    ) -> bool {
        let Some(parts) = self.free_parts(range) else { return false };
        let blocks = parts.iter().map(|part| part.block).collect();
        self.submit(host, range, command, data, Kind::Change { blocks, needs_room }, Some((change, parts)))
    }

    /// The blocks of a range, if no other command changes them.
    fn free_parts(&self, range: Range) -> Option<Vec<Part>> {
        let parts = Part::of_run(range.first, std::iter::repeat_n(0, range.count));
        let volume = &self.volumes[range.volume];
        let busy = |part: &Part| {
            let block = &volume.blocks[part.block];
            volume.locks[part.block].is_some()
                || block.history_len() >= HISTORY_MAX
                // Which of these are lost with what is replaced is open.
                || volume.rolling.is_some_and(|rolling| block.changes_since(rolling.asked_at) > 1)
        };
        (!parts.iter().any(busy)).then_some(parts)
    }

    fn begin_change(&mut self, volume: usize, number: u64, asked_at: u64, change: Change, parts: Vec<Part>) {
        let volume = &mut self.volumes[volume];
        for part in parts {
            volume.blocks[part.block].begin(Change { mask: part.mask, asked_at, ..change.clone() });
            volume.locks[part.block] = Some(number);
        }
    }

    fn submit(
        &mut self,
        host: usize,
        range: Range,
        command: NvmCommand,
        data: Payload<Vec<u8>>,
        kind: Kind,
        change: Option<(Change, Vec<Part>)>,
    ) -> bool {
        let number = self.numbers + 1;
        let sqe: Sqe = command.encode(self.volumes[range.volume].nsid);
        let choice = self.random.index(8);
        if !self.hosts[host].submit(choice, vec![(number, sqe, data)]) {
            return false;
        }
        self.numbers = number;
        let asked_at = self.tick();
        self.trace(|_| {
            format!("host {host} asks {number} at {asked_at}: volume {} {command:?}", range.volume)
        });
        if let Some((change, parts)) = change {
            self.begin_change(range.volume, number, asked_at, change, parts);
        }
        let began = self.world.now();
        let open = Open { host, volume: range.volume, asked_at, began, kind, fused: false };
        self.open.insert(number, open);
        self.run_host(host);
        true
    }

    /// Takes the ends of commands, completed or lost.
    pub(super) fn take_ends(&mut self) -> Result<(), Violation> {
        for host in 0..self.hosts.len() {
            for ended in std::mem::take(&mut self.hosts[host].ended) {
                self.completed(host, ended)?;
            }
            for tag in std::mem::take(&mut self.hosts[host].lost) {
                self.lose(host, tag);
            }
            self.check_thrown_off(host)?;
        }
        self.resolve_doubts()
    }

    /// Associations end when their hosts or the whole target say so, and are never refused.
    fn check_thrown_off(&mut self, host: usize) -> Result<(), Violation> {
        let Some(ThrownOff { qid, failure }) = self.hosts[host].thrown_off.take() else { return Ok(()) };
        self.trace(|_| format!("host {host} was thrown off, seen on queue {qid}: {failure}"));
        let is_displaced = self.hosts[host].may_be_displaced(self.world.now());
        let is_fair = match &failure {
            Failure::Fault(Fault::Closed | Fault::Cut) => self.stopping || is_displaced,
            // Its controller is gone.
            Failure::Refused { step: Step::Connect, cqe } => {
                is_displaced && cqe.status == Status::CONNECT_INVALID_PARAMETERS
            }
            _ => false,
        };
        if is_fair { Ok(()) } else { Err(Violation::ThrownOff { host, qid, failure }) }
    }

    fn completed(&mut self, host: usize, ended: Ended) -> Result<(), Violation> {
        let now = self.tick();
        let Ended { tag, status, data } = ended;
        self.trace(|_| format!("end of {tag} at {now}: {status:?}"));
        let open = self.open.remove(&tag).ok_or(Violation::StrayAnswer(tag))?;
        self.report.completed += 1;
        self.report.refused += u64::from(!status.is_success());
        self.report.full += u64::from(status.is(Status::CAPACITY_EXCEEDED));
        self.report.unreadable += u64::from(status.is(Status::UNRECOVERED_READ));
        self.report.aborted += u64::from(status.is(Status::ABORT_REQUESTED));
        self.report.fused += u64::from(open.fused && status.is_success());
        if status.is_success() {
            let fenced = self.volumes[open.volume].fenced[host];
            if fenced.is_some_and(|since| since < open.asked_at) {
                return Err(Violation::FenceCrossed { number: tag });
            }
        }
        match &open.kind {
            Kind::Read { first } if status.is_success() => self.check_read(&open, *first, &data, now),
            Kind::Peek { first, count } if status.is_success() => {
                let volume = &self.volumes[open.volume];
                if volume.is_rolling() || volume.may_be_either(open.asked_at) {
                    self.doubt_again(host, open.volume, *first, *count);
                    return Ok(());
                }
                self.settle(open.volume, *first, &data)
            }
            Kind::Read { .. } => self.check_status(&open, tag, status),
            Kind::Peek { first, count } => {
                self.doubt_again(host, open.volume, *first, *count);
                self.check_status(&open, tag, status)
            }
            // Some of its pieces may have been done.
            Kind::Change { blocks, .. } if self.may_be_in_part(&open, status) => {
                self.doubt_end(host, open.volume, tag, blocks.clone());
                Ok(())
            }
            Kind::Change { blocks, .. } => {
                self.end_change(&open, tag, blocks, status, now)?;
                if status.is_success() && self.volumes[open.volume].may_be_either(open.asked_at) {
                    self.doubt_end(host, open.volume, tag, blocks.clone());
                }
                Ok(())
            }
            Kind::Compare { expected, write } => {
                if !status.is_success() {
                    self.failed_pairs.extend(*write);
                }
                self.check_comparison(&open, expected, tag, status)
            }
            Kind::Flush => {
                if status.is_success() {
                    self.note_flush(open.volume, open.asked_at);
                    return Ok(());
                }
                self.check_status(&open, tag, status)
            }
        }
    }

    /// Statuses other than success that a command may fairly get.
    fn check_status(&self, open: &Open, number: u64, status: Status) -> Result<(), Violation> {
        let volume = &self.volumes[open.volume];
        let hidden = volume.allowed_since[open.host] > open.asked_at;
        let moved = volume.resized_at > open.asked_at;
        let fair = status.is(Status::CAPACITY_EXCEEDED) && self.may_lack_room(open)
            || self.may_be_unreadable(status) && !matches!(open.kind, Kind::Flush)
            || hidden && status.is(Status::INVALID_NAMESPACE)
            || status.is(Status::ABORT_REQUESTED) && self.aborts.contains(&number)
            || status.is(Status::ABORTED_FAILED_FUSED)
                && open.fused
                && (hidden || moved || self.failed_pairs.contains(&number))
            || moved && status.is(Status::LBA_OUT_OF_RANGE);
        if fair { Ok(()) } else { Err(Violation::UnfairStatus { number, status: status.bits() }) }
    }

    /// Whether the pool may have had no room for a command. Of a pair the comparison is told.
    fn may_lack_room(&self, open: &Open) -> bool {
        let needs_room = match open.kind {
            Kind::Change { needs_room, .. } => needs_room,
            Kind::Compare { write, .. } => write.is_some(),
            Kind::Read { .. } | Kind::Peek { .. } | Kind::Flush => false,
        };
        needs_room && self.plan.tight
    }

    /// Whether some pieces of a command may have been done, although it failed.
    fn may_be_in_part(&self, open: &Open, status: Status) -> bool {
        self.may_be_unreadable(status) || status.is(Status::CAPACITY_EXCEEDED) && self.may_lack_room(open)
    }

    /// Whether a drive may have failed a read of a command.
    fn may_be_unreadable(&self, status: Status) -> bool {
        self.plan.read_error_one_in > 0 && status.is(Status::UNRECOVERED_READ)
    }

    fn end_change(
        &mut self,
        open: &Open,
        number: u64,
        blocks: &[usize],
        status: Status,
        now: u64,
    ) -> Result<(), Violation> {
        if !status.is_success() {
            self.check_status(open, number, status)?;
        }
        if !status.is_success() {
            self.revoke_in_snapshots(open.volume, number, blocks);
        }
        let volume = &mut self.volumes[open.volume];
        if status.is_success() && volume.may_be_either(open.asked_at) {
            return Ok(());
        }
        let size = volume.blocks.len();
        for block in blocks.iter().filter(|block| **block < size) {
            if volume.locks[*block] == Some(number) {
                volume.locks[*block] = None;
            }
            if status.is_success() {
                volume.blocks[*block].confirm(number, now);
            } else if !volume.blocks[*block].revoke(number) {
                return Err(Violation::SeenAndDenied { number });
            }
        }
        Ok(())
    }

    fn check_read(&mut self, open: &Open, first: u64, data: &[u8], now: u64) -> Result<(), Violation> {
        let place = |block| Place { shard: 0, volume: id(open.volume), block };
        let parts = writers(data, self.stamp(open.volume), first)
            .map_err(|sector| Violation::Garbage { place: place(split(sector).0), sector })?;
        let volume = &mut self.volumes[open.volume];
        if volume.may_be_either(open.asked_at) {
            return Ok(());
        }
        let size = volume.blocks.len();
        for part in parts.iter().filter(|part| part.block < size) {
            let block = &mut volume.blocks[part.block];
            match block.check_read(&part.sectors, part.mask, open.asked_at, now) {
                Ok(()) => {}
                Err(_) if volume.is_rolling() => {
                    self.roll_over(open.volume);
                    return Ok(());
                }
                Err(mismatch) => return Err(Violation::WrongRead(place(part.block), mismatch)),
            }
        }
        Ok(())
    }

    fn check_comparison(
        &self,
        open: &Open,
        expected: &[Part],
        number: u64,
        status: Status,
    ) -> Result<(), Violation> {
        let volume = &self.volumes[open.volume];
        if (volume.is_rolling() || volume.may_be_either(open.asked_at))
            && (status.is_success() || status.is(Status::COMPARE_FAILURE))
        {
            return Ok(());
        }
        let blocks = &volume.blocks;
        let write = if let Kind::Compare { write, .. } = open.kind { write } else { None };
        let may = |part: &Part| {
            let block = blocks.get(part.block);
            block.map_or((true, true), |block| {
                block.may_compare(&part.sectors, part.mask, open.asked_at, write)
            })
        };
        let fair = if status.is_success() {
            expected.iter().all(|part| may(part).0)
        } else if status.is(Status::COMPARE_FAILURE) {
            expected.iter().any(|part| may(part).1)
        } else {
            return self.check_status(open, number, status);
        };
        let block = expected.first().map_or(0, |part| part.block);
        let place = Place { shard: 0, volume: id(open.volume), block };
        let outcome = if status.is_success() { store::Outcome::Ok } else { store::Outcome::CompareFailed };
        if fair { Ok(()) } else { Err(Violation::WrongComparison(place, outcome)) }
    }

    fn note_flush(&mut self, volume: usize, asked_at: u64) {
        let oldest = self.open.values().map(|open| open.asked_at).min().unwrap_or(u64::MAX);
        let volume = &mut self.volumes[volume];
        volume.flushed_before = volume.flushed_before.max(asked_at);
        // A snapshot or a rollback that is under way asks what was before it.
        let rolling = volume.rolling.map_or(u64::MAX, |rolling| rolling.asked_at);
        let oldest = oldest.min(volume.cut_at.unwrap_or(u64::MAX)).min(rolling);
        for block in &mut volume.blocks {
            block.trim(volume.flushed_before, oldest);
        }
    }

    /// What was answered before a controller shut down is safe.
    pub(super) fn take_shutdowns(&mut self) {
        for host in 0..self.hosts.len() {
            if let Some(asked_at) = self.hosts[host].shut_since.take() {
                self.trace(|_| format!("host {host} has shut its controller down"));
                self.report.shutdowns += 1;
                for volume in 0..self.volumes.len() {
                    self.note_flush(volume, asked_at);
                }
            }
        }
    }

    /// A command was lost with its connection: it may have been done, or be done until the host is back.
    fn lose(&mut self, host: usize, tag: u64) {
        let Some(open) = self.open.remove(&tag) else { return };
        self.trace(|_| format!("{tag} of host {host} is lost"));
        self.report.lost += 1;
        match open.kind {
            Kind::Change { blocks, .. } => {
                for block in &blocks {
                    if let Some(history) = self.volumes[open.volume].blocks.get_mut(*block) {
                        history.doubt(tag);
                    }
                }
                let over_at = self.hosts[host].ready_count + 1;
                self.doubts.push(Doubt { volume: open.volume, blocks, host, over_at });
            }
            Kind::Peek { first, count } => self.doubt_again(host, open.volume, first, count),
            Kind::Read { .. } | Kind::Compare { .. } | Kind::Flush => {}
        }
    }

    /// A command has ended that may have met its volume before it was rolled back or after, or that failed in part.
    fn doubt_end(&mut self, host: usize, volume: usize, tag: u64, blocks: Vec<usize>) {
        for block in &blocks {
            if let Some(history) = self.volumes[volume].blocks.get_mut(*block) {
                history.doubt(tag);
            }
        }
        self.doubts.push(Doubt { volume, blocks, host, over_at: 0 });
    }

    /// A read for the model came to nothing: what it was to find out is still open.
    fn doubt_again(&mut self, host: usize, volume: usize, first: u64, count: usize) {
        if !self.unverified.iter().any(|chunk| (chunk.volume, chunk.first) == (volume, first)) {
            let from = split(first).0;
            let blocks = (from..from + count / SECTORS).collect();
            self.doubts.push(Doubt { volume, blocks, host, over_at: 0 });
        }
    }

    /// Reads the blocks of lost commands once these can have no effect any more.
    fn resolve_doubts(&mut self) -> Result<(), Violation> {
        let over = |trial: &Self, doubt: &Doubt| trial.hosts[doubt.host].ready_count >= doubt.over_at;
        let Some(at) = self.doubts.iter().position(|doubt| over(self, doubt)) else { return Ok(()) };
        let Doubt { volume, host, .. } = self.doubts[at];
        let Some(block) = self.doubts[at].blocks.last().copied() else {
            self.doubts.swap_remove(at);
            return Ok(());
        };
        // Made anew since, by a volume that shrank and grew, it has no doubts any more.
        let lock = self.volumes[volume].locks.get(block).copied().flatten();
        let gone = self.volumes[volume].gone || lock.is_none_or(|tag| self.open.contains_key(&tag));
        let hidden = self.volumes[volume].allowed_since[host] == u64::MAX || self.volumes[volume].changing;
        let asked = !gone && !hidden && self.ask_peek(host, volume, (block * SECTORS) as u64, SECTORS);
        if gone || asked {
            self.doubts[at].blocks.pop();
        }
        Ok(())
    }
}

/// The model's name of a volume.
pub(super) fn id(volume: usize) -> VolumeId {
    VolumeId(volume as u64 + 1)
}
