//! A shard with its drives, its pool and what it must hold: the model of every volume, sector by sector.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use io::{Slice, Time};

use super::disk::{Rng, TestBuffer, TestDisk, TestEvent};
use crate::shard::{Failure, Op, Outcome, Output, Payload, Request, Shard, ShardOptions};
use crate::{Geometry, Identity, Layout, SegmentId, ShardId, VolumeId};

pub(super) const SECTOR: u64 = 512;

/// A request that has not been answered.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) number: u64,
    pub(super) volume: u64,
    /// Sectors, and what each shall be; `None` for a request that changes nothing.
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) value: Option<u64>,
    pub(super) kind: Kind,
    /// What a flush makes safe: every change up to this one that was answered before it was submitted.
    pub(super) answered: Vec<u64>,
    /// The oldest version of each sector that a read may return.
    pub(super) floors: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Fua,
    Flush,
    Compare,
}

/// The versions of a sector: change number and value; the first is what is certainly there or older.
#[derive(Clone, Debug)]
struct Sector {
    versions: Vec<(u64, u64)>,
    /// The newest change that was answered, and the newest that is safe from a power cut.
    answered: u64,
    safe: u64,
}

pub(super) struct World {
    pub(super) disk: TestDisk,
    pub(super) layout: Arc<Layout>,
    pub(super) options: ShardOptions,
    pub(super) shard: Shard<TestBuffer>,
    pub(super) now: Time,
    pub(super) free: BTreeSet<SegmentId>,
    pub(super) issued: BTreeMap<u64, Issued>,
    sectors: BTreeMap<(u64, u64), Sector>,
    next_number: u64,
    pub(super) ready: bool,
    pub(super) stopped: bool,
    pub(super) failed: Option<Failure>,
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    /// Whether what is written now is compressed.
    pub(super) compress: bool,
    /// Whether the shard is told how many segments the pool has free.
    pub(super) tells_space: bool,
    /// Draws the kinds of values; without it all are of the first.
    pub(super) kinds: Option<Rng>,
    /// Changes since the last crash, for the check that each is there as a whole or not at all.
    changes: Vec<(u64, u64, u64, u64, u64)>,
    /// Changes that were answered and are not known to be safe from a power cut.
    answered: BTreeSet<u64>,
    pub(super) errors: Vec<String>,
}

pub(super) fn small_options() -> ShardOptions {
    ShardOptions {
        batch_bytes_max: 64 << 10,
        batch_bytes_min: 16 << 10,
        checkpoint_bytes: 384 << 10,
        flush_bytes: 128 << 10,
        reserve_segments: 3,
        spare_segments: 1,
        clean_blocks_max: 16,
        drop_pages_per_run: 2,
        retry: Duration::from_millis(1),
        ..ShardOptions::default()
    }
}

pub(super) fn layout(segments: u64, segment_bytes: u32, block_bytes: u32) -> Layout {
    let head = (1 << 20) + 2 * (256 << 10);
    let drive = head + segments * u64::from(segment_bytes) + 4096;
    let geometry = Geometry {
        shards: 1,
        segment_bytes,
        directory_half_bytes: 256 << 10,
        block_bytes,
        drive_bytes: vec![drive, drive],
        founders: 2,
    };
    Layout::new(Identity { pool: [7; 16], cluster: [8; 16], node: [9; 16] }, geometry).unwrap()
}

/// Sectors are filled with their value; 0 is what was never written. A value's kind says how well that compresses.
pub(super) fn fill(bytes: &mut [u8], value: u64) {
    fill_at(bytes, 0, value);
}

/// As above; noise is another in each sector.
pub(super) fn fill_at(bytes: &mut [u8], sector: u64, value: u64) {
    let mut noise = Rng(value ^ sector << 48);
    let word = value.wrapping_mul(0x9e37_79b9);
    for (at, bytes) in (0_u64..).zip(bytes.chunks_exact_mut(8)) {
        let word = match value >> KIND_SHIFT {
            0 if value == 0 => 0,
            0 => word + at % 64,
            1 => word,
            2 if at % 64 < 32 => word,
            _ => noise.next(),
        };
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// Where a value's kind begins.
const KIND_SHIFT: u32 = 40;

fn value_of(bytes: &[u8], sector: u64, candidates: impl Iterator<Item = u64>) -> Option<u64> {
    let mut expected = [0; 512];
    for value in candidates {
        fill_at(&mut expected, sector, value);
        if expected[..] == *bytes {
            return Some(value);
        }
    }
    None
}

/// All values of changes up to this one.
fn values_before(number: u64) -> impl Iterator<Item = u64> {
    (0..number).flat_map(|number| (0..4).map(move |kind| number | kind << KIND_SHIFT))
}

pub(super) fn payload(sectors: u64, value: u64) -> Payload<super::disk::TestShared> {
    payload_at(0, sectors, value)
}

pub(super) fn payload_at(first: u64, sectors: u64, value: u64) -> Payload<super::disk::TestShared> {
    let mut bytes = vec![0; usize::try_from(sectors * SECTOR).unwrap()];
    for (sector, bytes) in (first..).zip(bytes.chunks_exact_mut(512)) {
        fill_at(bytes, sector, value);
    }
    Payload::new(Slice::whole(io::Buffer::share(TestBuffer(bytes))))
}

/// An operation ends, if one is under way, and the shard is told.
pub(super) fn step_disk(disk: &mut TestDisk, shard: &mut Shard<TestBuffer>) {
    match disk.step() {
        Some(TestEvent::Read(token, buffer, result)) => shard.handle_read(token, buffer, result),
        Some(TestEvent::Written(token, buffer, result)) => shard.handle_written(token, buffer, result),
        Some(TestEvent::Flushed(token, result)) => shard.handle_flushed(token, result),
        None => {}
    }
}

impl World {
    pub(super) fn new(seed: u64, segments: u64, options: ShardOptions) -> Self {
        Self::with_blocks_of(512, seed, segments, options)
    }

    pub(super) fn with_blocks_of(block_bytes: u32, seed: u64, segments: u64, options: ShardOptions) -> Self {
        Self::with_layout(layout(segments, 64 << 10, block_bytes), seed, options)
    }

    pub(super) fn with_layout(layout: Layout, seed: u64, options: ShardOptions) -> Self {
        let block_bytes = layout.block_bytes();
        let layout = Arc::new(layout);
        let sizes: Vec<usize> =
            layout.drives().iter().map(|drive| usize::try_from(drive.size_bytes).unwrap()).collect();
        let shard = Shard::recover(Arc::clone(&layout), ShardId(0), 3, options.clone());
        let mut disk = TestDisk::new(&sizes, seed ^ 0x1234);
        disk.block_bytes = block_bytes;
        let mut world = Self {
            disk,
            layout,
            options,
            shard,
            now: Time(0),
            free: BTreeSet::new(),
            issued: BTreeMap::new(),
            sectors: BTreeMap::new(),
            next_number: 1,
            ready: false,
            stopped: false,
            failed: None,
            outcomes: BTreeMap::new(),
            compress: false,
            tells_space: false,
            kinds: None,
            changes: Vec::new(),
            answered: BTreeSet::new(),
            errors: Vec::new(),
        };
        world.settle_recovery();
        world
    }

    pub(super) fn settle_recovery(&mut self) {
        for _ in 0..400_000 {
            if self.ready || self.failed.is_some() {
                return;
            }
            self.step();
        }
        self.errors.push("recovery is stuck".into());
    }

    /// One round: an operation ends, the shard runs.
    pub(super) fn step(&mut self) {
        self.step_quietly();
        self.take_outputs();
    }

    /// A step whose outputs are for the caller to take.
    pub(super) fn step_quietly(&mut self) {
        self.now = self.now + Duration::from_micros(100);
        step_disk(&mut self.disk, &mut self.shard);
        self.shard.run(&mut self.disk, self.now);
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            self.take_output(output);
        }
    }

    pub(super) fn take_output(&mut self, output: Output<TestBuffer>) {
        match output {
            Output::Done { tag, outcome, buffer } => self.on_done(tag, outcome, buffer),
            Output::WantSegment { .. } => {
                let grant = self.free.pop_first();
                self.shard.handle_grant(grant);
                self.tell_space();
            }
            Output::Release(segments) => {
                for segment in segments {
                    assert!(self.free.insert(segment), "released twice");
                    let (drive, offset) = self.layout.segment_place(segment);
                    let offset = usize::try_from(offset).unwrap();
                    self.disk.overwrite(usize::from(drive.0), offset, self.layout.segment_bytes() as usize);
                }
                self.tell_space();
            }
            Output::Ready { segments, .. } => {
                self.ready = true;
                self.free = (0..self.layout.segments()).map(SegmentId).collect();
                for segment in segments {
                    assert!(self.free.remove(&segment));
                }
            }
            Output::Stopped => self.stopped = true,
            Output::Forked { .. } => {}
            Output::Failed(failure) => self.failed = Some(failure),
        }
    }

    fn tell_space(&mut self) {
        if self.tells_space {
            let free = u32::try_from(self.free.len()).unwrap();
            self.shard.handle_pool_space(free, self.layout.segments());
        }
    }

    /// Runs until everything is answered; false if that does not happen.
    pub(super) fn drain(&mut self) -> bool {
        let mut rounds = 0;
        while !self.issued.is_empty() {
            self.step();
            rounds += 1;
            if rounds > 400_000 {
                let state = self.shard.describe();
                self.errors.push(format!("stuck with {:?}: {state}", self.issued.values().next()));
                return false;
            }
        }
        true
    }

    pub(super) fn crash(&mut self, power: bool) {
        if power {
            self.disk.cut_power();
        } else {
            self.disk.kill();
        }
        self.restart();
        self.settle_recovery();
        if let Some(failure) = self.failed {
            self.errors.push(format!("recovery failed: {failure}"));
            return;
        }
        if self.ready {
            self.audit();
            self.check_after_crash(power);
            self.audit();
        }
    }

    /// What the shard counts is what a walk through its map finds.
    pub(super) fn audit(&mut self) {
        let disk = &self.disk;
        let result = self.shard.audit(|drive, offset, len| disk.content(drive, offset, len));
        self.errors.extend(result.err().map(|error| error.to_string()));
    }

    pub(super) fn restart(&mut self) {
        self.shard = Shard::recover(Arc::clone(&self.layout), ShardId(0), 3, self.options.clone());
        self.ready = false;
        self.stopped = false;
        self.failed = None;
        self.issued.clear();
    }

    /// Reads everything and holds it against what may be there.
    fn check_after_crash(&mut self, power: bool) {
        let keys: Vec<(u64, u64)> = self.sectors.keys().copied().collect();
        let mut seen = BTreeMap::new();
        for (volume, block) in
            keys.iter().map(|&(volume, sector)| (volume, sector / 8)).collect::<BTreeSet<_>>()
        {
            let Some(bytes) = self.read_now(volume, block * 8, 8) else { return };
            for at in 0..8 {
                let key = (volume, block * 8 + at);
                let Some(held) = self.sectors.get_mut(&key) else { continue };
                let floor = if power { held.safe } else { held.answered };
                let bytes = &bytes[usize::try_from(at * SECTOR).unwrap()..][..512];
                let may_be =
                    held.versions.iter().filter(|(number, _)| *number >= floor).map(|&(_, value)| value);
                let Some(value) = value_of(bytes, key.1, may_be) else {
                    let is = value_of(bytes, key.1, values_before(self.next_number));
                    self.errors
                        .push(format!("{key:?} is {is:?} after a crash, not of {held:?}, floor {floor}"));
                    continue;
                };
                let number = held
                    .versions
                    .iter()
                    .rev()
                    .find(|&&(number, is)| is == value && number >= floor)
                    .map_or(0, |&(number, _)| number);
                seen.insert(key, (number, value));
            }
        }
        self.check_atomicity(&seen);
        for (key, (number, value)) in seen {
            let held = self.sectors.get_mut(&key).unwrap();
            *held = Sector { versions: vec![(number, value)], answered: number, safe: number };
        }
        self.changes.clear();
        self.answered.clear();
    }

    /// Each change is there as a whole or not at all, where nothing later went over it.
    fn check_atomicity(&mut self, seen: &BTreeMap<(u64, u64), (u64, u64)>) {
        let mut newest = BTreeMap::new();
        for &(number, volume, first, end, _) in &self.changes {
            newest.extend((first..end).map(|sector| ((volume, sector), number)));
        }
        for &(number, volume, first, end, value) in self.changes.iter().filter(|change| change.4 != 0) {
            let alone = (first..end).filter(|&sector| newest.get(&(volume, sector)) == Some(&number));
            let there: Vec<bool> =
                alone.map(|sector| seen.get(&(volume, sector)).is_some_and(|&(_, is)| is == value)).collect();
            if there.contains(&true) && there.contains(&false) {
                self.errors.push(format!("change {number} is torn: {there:?}"));
            }
        }
    }

    /// Reads when nothing else is under way.
    pub(super) fn read_now(&mut self, volume: u64, first: u64, sectors: u64) -> Option<Vec<u8>> {
        let tag = u64::MAX;
        let len = sectors * SECTOR;
        let request = Request {
            tag,
            volume: VolumeId(volume),
            offset: first * SECTOR,
            len,
            compress: false,
            op: Op::Read { buffer: TestBuffer(vec![0xaa; usize::try_from(len).unwrap()]) },
        };
        self.shard.submit(request).unwrap();
        for _ in 0..100_000 {
            let mut others = VecDeque::new();
            self.shard.run(&mut self.disk, self.now);
            while let Some(output) = self.shard.poll_output() {
                match output {
                    Output::Done { tag: u64::MAX, outcome, buffer } => {
                        if outcome != Outcome::Ok {
                            self.errors.push(format!("read of {volume}/{first} ended with {outcome:?}"));
                            return None;
                        }
                        return buffer.map(|buffer| buffer.0);
                    }
                    Output::WantSegment { .. } => {
                        let grant = self.free.pop_first();
                        self.shard.handle_grant(grant);
                    }
                    Output::Release(segments) => self.free.extend(segments),
                    other => others.push_back(other),
                }
            }
            assert!(others.is_empty(), "{others:?}");
            match self.disk.step() {
                Some(TestEvent::Read(token, buffer, result)) => self.shard.handle_read(token, buffer, result),
                Some(TestEvent::Written(token, buffer, result)) => {
                    self.shard.handle_written(token, buffer, result);
                }
                Some(TestEvent::Flushed(token, result)) => self.shard.handle_flushed(token, result),
                None => self.now = self.now + Duration::from_millis(1),
            }
        }
        self.errors.push("a read is stuck".into());
        None
    }

    /// Submits a change of sectors; `value` 0 makes them zeros.
    pub(super) fn change(
        &mut self,
        volume: u64,
        first: u64,
        end: u64,
        value: u64,
        kind: Kind,
        op: Op<TestBuffer>,
    ) -> u64 {
        let number = self.begin(volume, first, end, Some(value), kind);
        for sector in first..end {
            self.sector(volume, sector).versions.push((number, value));
        }
        self.changes.push((number, volume, first, end, value));
        self.submit(number, volume, first * SECTOR, (end - first) * SECTOR, op);
        number
    }

    pub(super) fn next_value(&mut self) -> u64 {
        self.next_number | self.kinds.as_mut().map_or(0, |rng| rng.below(4)) << KIND_SHIFT
    }

    pub(super) fn write(&mut self, volume: u64, first: u64, end: u64, fua: bool) -> u64 {
        let value = self.next_value();
        let kind = if fua { Kind::Fua } else { Kind::Write };
        self.change(
            volume,
            first,
            end,
            value,
            kind,
            Op::Write { data: payload_at(first, end - first, value), fua },
        )
    }

    pub(super) fn flush(&mut self) {
        let number = self.begin(0, 0, 0, None, Kind::Flush);
        let answered = self.answered.iter().copied().collect();
        self.issued.get_mut(&number).unwrap().answered = answered;
        self.submit(number, 0, 0, 0, Op::Flush);
    }

    pub(super) fn read(&mut self, volume: u64, first: u64, end: u64) {
        let number = self.begin(volume, first, end, None, Kind::Read);
        let floors = (first..end).map(|sector| self.sector(volume, sector).answered).collect();
        self.issued.get_mut(&number).unwrap().floors = floors;
        let len = (end - first) * SECTOR;
        let buffer = TestBuffer(vec![0xaa; usize::try_from(len).unwrap()]);
        self.submit(number, volume, first * SECTOR, len, Op::Read { buffer });
    }

    /// Compares with what was submitted last, and writes; order makes that succeed.
    pub(super) fn compare_and_write(&mut self, volume: u64, first: u64, end: u64) -> u64 {
        let mut expected = Vec::new();
        for sector in first..end {
            let mut bytes = [0; 512];
            fill_at(&mut bytes, sector, self.sector(volume, sector).versions.last().unwrap().1);
            expected.extend_from_slice(&bytes);
        }
        let compare = Payload::new(Slice::whole(io::Buffer::share(TestBuffer(expected))));
        let value = self.next_value();
        let write = payload_at(first, end - first, value);
        self.change(
            volume,
            first,
            end,
            value,
            Kind::Compare,
            Op::CompareAndWrite { compare, write, fua: false },
        )
    }

    pub(super) fn zero(&mut self, volume: u64, first: u64, end: u64, op: Op<TestBuffer>) {
        let (from, to) = match op {
            Op::Deallocate => (first.next_multiple_of(8), end / 8 * 8),
            _ => (first, end),
        };
        let number = self.begin(volume, from, to.max(from), Some(0), Kind::Write);
        for sector in from..to {
            self.sector(volume, sector).versions.push((number, 0));
        }
        self.changes.push((number, volume, from, to.max(from), 0));
        self.submit(number, volume, first * SECTOR, (end - first) * SECTOR, op);
    }

    /// Drops the volume, or what lies from a sector on.
    pub(super) fn forget(&mut self, volume: u64, from: u64, op: Op<TestBuffer>) {
        let sectors: Vec<u64> =
            self.sectors.range((volume, from)..(volume + 1, 0)).map(|(key, _)| key.1).collect();
        let end = sectors.last().map_or(from, |last| last + 1);
        let number = self.begin(volume, from, end, Some(0), Kind::Write);
        for sector in from..end {
            self.sector(volume, sector).versions.push((number, 0));
        }
        self.changes.push((number, volume, from, end, 0));
        self.submit(number, volume, from * SECTOR, 0, op);
    }

    /// Runs a clean stop; false if it does not come.
    pub(super) fn stop(&mut self) -> bool {
        self.shard.checkpoint_and_stop();
        for _ in 0..200_000 {
            self.step();
            if self.stopped {
                return true;
            }
        }
        self.errors.push(format!("the stop is stuck: {}", self.shard.describe()));
        false
    }

    fn begin(&mut self, volume: u64, first: u64, end: u64, value: Option<u64>, kind: Kind) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let (answered, floors) = (Vec::new(), Vec::new());
        self.issued.insert(number, Issued { number, volume, first, end, value, kind, answered, floors });
        number
    }

    pub(super) fn submit(&mut self, tag: u64, volume: u64, offset: u64, len: u64, op: Op<TestBuffer>) {
        self.shard
            .submit(Request { tag, volume: VolumeId(volume), offset, len, compress: self.compress, op })
            .unwrap();
    }

    fn sector(&mut self, volume: u64, sector: u64) -> &mut Sector {
        self.sectors.entry((volume, sector)).or_insert(Sector {
            versions: vec![(0, 0)],
            answered: 0,
            safe: 0,
        })
    }

    fn on_done(&mut self, tag: u64, outcome: Outcome, buffer: Option<TestBuffer>) {
        let issued = self.issued.remove(&tag).expect("answered once");
        *self.outcomes.entry(outcome).or_default() += 1;
        let is_change = issued.value.is_some();
        match outcome {
            Outcome::Ok if issued.kind == Kind::Read => self.check_read(&issued, &buffer.unwrap()),
            Outcome::Ok if issued.kind == Kind::Flush => {
                for number in issued.answered {
                    self.make_safe(number);
                }
            }
            Outcome::Ok if is_change => {
                self.answered.insert(issued.number);
                for sector in issued.first..issued.end {
                    let held = self.sector(issued.volume, sector);
                    held.answered = held.answered.max(issued.number);
                }
                if issued.kind == Kind::Fua {
                    self.make_safe(issued.number);
                }
            }
            Outcome::CapacityExceeded | Outcome::CompareFailed if is_change => {
                if outcome == Outcome::CompareFailed
                    && !self.outcomes.contains_key(&Outcome::CapacityExceeded)
                {
                    self.errors.push(format!("compare failed: {issued:?}"));
                }
                for sector in issued.first..issued.end {
                    self.sector(issued.volume, sector)
                        .versions
                        .retain(|&(number, _)| number != issued.number);
                }
                self.changes.retain(|change| change.0 != issued.number);
            }
            Outcome::Failed if self.failed.is_some() => {}
            Outcome::Ok => {}
            other => self.errors.push(format!("{other:?} for {issued:?}")),
        }
    }

    fn make_safe(&mut self, number: u64) {
        if !self.answered.remove(&number) {
            return;
        }
        let Ok(at) = self.changes.binary_search_by_key(&number, |change| change.0) else { return };
        let (_, volume, first, end, _) = self.changes[at];
        for sector in first..end {
            let held = self.sector(volume, sector);
            held.safe = held.safe.max(number);
        }
    }

    fn check_read(&mut self, issued: &Issued, buffer: &TestBuffer) {
        for (at, sector) in (issued.first..issued.end).enumerate() {
            let floor = issued.floors[at];
            let held = self.sector(issued.volume, sector).clone();
            let may_be = held.versions.iter().filter(|(number, _)| *number >= floor).map(|&(_, value)| value);
            let bytes = &buffer[at * 512..][..512];
            if value_of(bytes, sector, may_be).is_none() {
                let is = value_of(bytes, sector, values_before(self.next_number));
                self.errors.push(format!(
                    "read {}: sector {sector} of {} is {is:?}, not of {held:?} from {floor}",
                    issued.number, issued.volume
                ));
            }
        }
    }
}
