//! Snapshots, clones and rollbacks of the load, and what the model makes of them.
//!
//! A snapshot is a cut through the histories of its volume's blocks. Which one is not known until somebody reads a clone
//! of it; from then on it holds that and nothing else. A rollback is one moment between its question and its answer: from
//! the first read that shows the snapshot on, everybody sees it.

use engine::{
    Action, DiffQuery, DiffWord, HostAcl, SectorSize, Snapshot as Made, SnapshotSpec, VolumeSpec, VolumeUuid,
};

use super::load::{Kind, id};
use super::manage::Change;
use super::{TargetTrial, Volume};
use crate::model::{Block, Held, Left, Part, SECTORS, Sectors, VAGUE};
use crate::trial::{Place, Violation};

/// Snapshots at a time.
const SNAPSHOTS_MAX: usize = 6;

/// Volumes at a time, clones among them.
const VOLUMES_MAX: usize = 7;

/// Words of one part of a diff: few, so that diffs have parts.
const DIFF_WORDS_MAX: usize = 3;

/// A snapshot of the model.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) uuid: VolumeUuid,
    /// The volume whose number the bytes carry.
    pub(super) stamp: usize,
    /// The volume that it was taken of.
    volume: usize,
    sector: SectorSize,
    /// Its volume's blocks, as they were when it was answered.
    blocks: Vec<Block>,
    asked_at: u64,
    /// It grows with each that is taken in the pool.
    sequence: u64,
    /// What it holds, once somebody has read it.
    pub(super) held: Option<Vec<Held>>,
    /// A change or a question needs it as it is.
    pub(super) busy: bool,
    /// It was deleted.
    pub(super) gone: bool,
}

/// The first look at all of a clone, which tells what its snapshot holds.
#[derive(Debug)]
pub(super) struct FirstRead {
    snapshot: usize,
    found: Vec<Option<Sectors>>,
}

/// A rollback that was not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rolling {
    snapshot: usize,
    pub(super) asked_at: u64,
    /// The volume's revision before.
    revision: u64,
}

/// A comparison of two snapshots under way.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    base: Option<usize>,
    snapshot: usize,
    words: Vec<DiffWord>,
}

impl TargetTrial {
    /// Begins a change that has to do with snapshots.
    pub(super) fn ask_image_change(&mut self) {
        let aimed = match self.random.below(12) {
            0..4 => self.ask_some_snapshot(),
            4..6 => self.ask_some_clone(),
            6 | 7 => self.ask_some_rollback(),
            8 => self.ask_some_delete(),
            9 | 10 => self.ask_some_snapshot_delete(),
            _ => self.ask_some_diff(),
        };
        if aimed && self.random.one_in(self.plan.aim_one_in) {
            self.crash_after = Some(self.random.below(250));
        }
    }

    fn ask_some_snapshot(&mut self) -> bool {
        let there = self.snapshots.iter().filter(|snapshot| !snapshot.gone).count();
        match self.choose_volume(|volume| volume.first_read.is_none()) {
            Some(volume) if there < SNAPSHOTS_MAX => self.ask_snapshot(volume),
            _ => return false,
        }
        true
    }

    pub(super) fn ask_snapshot(&mut self, volume: usize) {
        let uuid = self.new_uuid();
        let asked_at = self.tick();
        let source = &mut self.volumes[volume];
        source.changing = true;
        source.cut_at = Some(asked_at);
        let snapshot = Snapshot {
            uuid,
            stamp: source.stamp,
            volume,
            sector: source.spec.sector,
            blocks: Vec::new(),
            asked_at,
            sequence: 0,
            held: None,
            busy: false,
            gone: false,
        };
        let spec = SnapshotSpec {
            uuid,
            name: format!("s{}", uuid.0[0]),
            source: source.spec.uuid,
            retention_s: 0,
            attributes: String::new(),
        };
        self.trace(|_| format!("management asks at {asked_at}: snapshot {} of volume {volume}", uuid.0[0]));
        let question = self.post(Action::CreateSnapshot(spec));
        self.changes.insert(question, Change::Snapshot { volume, snapshot: Box::new(snapshot) });
    }

    /// The snapshot is there: it holds some cut through what its volume has been since it was asked for.
    pub(super) fn snapshot_made(&mut self, volume: usize, mut snapshot: Snapshot, made: &Made) {
        snapshot.sequence = made.sequence;
        let source = &mut self.volumes[volume];
        source.changing = false;
        source.cut_at = None;
        if snapshot.blocks.is_empty() {
            snapshot.blocks.clone_from(&source.blocks);
        }
        self.report.snapshots += 1;
        self.snapshots.push(snapshot);
    }

    /// The process is gone: whether the snapshot will be there is open, what it would hold is not.
    pub(super) fn snapshot_interrupted(&mut self, volume: usize, snapshot: &mut Snapshot) {
        snapshot.blocks.clone_from(&self.volumes[volume].blocks);
    }

    fn ask_some_clone(&mut self) -> bool {
        let there = self.volumes.iter().filter(|volume| !volume.gone).count();
        let clones = self.changes.values().filter(|change| matches!(change, Change::Clone { .. })).count();
        match self.choose_snapshot(|_| true) {
            Some(snapshot) if there + clones < VOLUMES_MAX => self.ask_clone(snapshot),
            _ => return false,
        }
        true
    }

    pub(super) fn ask_clone(&mut self, snapshot: usize) {
        let uuid = self.new_uuid();
        let more = if self.random.one_in(3) { self.random.index(300) } else { 0 };
        let compression = self.random.one_in(2);
        let source = &mut self.snapshots[snapshot];
        source.busy = true;
        let spec = VolumeSpec {
            uuid,
            name: format!("c{}", uuid.0[0]),
            size_bytes: ((source.blocks.len() + more) * 4096) as u64,
            sector: source.sector,
            compression,
            acl: HostAcl::Any,
            ..self.volumes[source.stamp].spec.clone()
        };
        self.post_clone(Box::new(spec), snapshot);
    }

    pub(super) fn post_clone(&mut self, spec: Box<VolumeSpec>, snapshot: usize) {
        let source = self.snapshots[snapshot].uuid;
        self.trace(|_| format!("management asks: clone {} of snapshot {}", spec.uuid.0[0], source.0[0]));
        let question = self.post(Action::CloneVolume { spec: VolumeSpec::clone(&spec), source });
        self.changes.insert(question, Change::Clone { spec, snapshot });
    }

    /// A clone is there: before it is used somebody reads all of it.
    pub(super) fn clone_made(&mut self, made: &engine::Volume, snapshot: usize) {
        let source = &mut self.snapshots[snapshot];
        source.busy = false;
        let blocks = usize::try_from(made.spec.size_bytes / 4096).expect("small");
        let mut volume = Volume::new(made.spec.clone(), source.stamp, blocks, self.plan.hosts);
        volume.origin = Some(snapshot);
        volume.nsid = made.nsid;
        volume.revision = made.revision;
        volume.first_read = Some(FirstRead { snapshot, found: vec![None; blocks] });
        self.volumes.push(volume);
        self.report.clones += 1;
        self.read_all_of(self.volumes.len() - 1);
    }

    /// A part of a clone was read for the first time.
    pub(super) fn note_first_read(&mut self, volume: usize, parts: &[Part]) -> Result<(), Violation> {
        let Some(first_read) = &mut self.volumes[volume].first_read else { return Ok(()) };
        for part in parts {
            first_read.found[part.block] = Some(part.sectors);
        }
        let Some(found) = first_read.found.iter().copied().collect::<Option<Vec<Sectors>>>() else {
            return Ok(());
        };
        let snapshot = first_read.snapshot;
        let held = self.hold(snapshot, volume, &found)?;
        let clone = &mut self.volumes[volume];
        clone.first_read = None;
        clone.blocks = held.into_iter().map(Block::holding).collect();
        Ok(())
    }

    /// A clone shows what its snapshot holds: what it must, or some cut that it may.
    fn hold(&mut self, at: usize, volume: usize, found: &[Sectors]) -> Result<Vec<Held>, Violation> {
        let place = |block| Place { shard: 0, volume: id(volume), block };
        let snapshot = &mut self.snapshots[at];
        let size = snapshot.blocks.len();
        let mut held = Vec::with_capacity(found.len());
        let mut left = Left::default();
        for (block, sectors) in found.iter().enumerate() {
            let expected = match &snapshot.held {
                _ if block >= size => Held::default(),
                Some(held) => held[block],
                None => {
                    let cut = snapshot.blocks[block].cut(sectors, snapshot.asked_at);
                    let (found, more) =
                        cut.map_err(|mismatch| Violation::WrongRead(place(block), mismatch))?;
                    left.newest_asked_at = left.newest_asked_at.max(more.newest_asked_at);
                    let lost = [left.oldest_lost_certain_at, more.oldest_lost_certain_at];
                    left.oldest_lost_certain_at = lost.into_iter().flatten().min();
                    found
                }
            };
            Block::holding(expected)
                .check_read(sectors, u8::MAX, 0, 0)
                .map_err(|mismatch| Violation::WrongRead(place(block), mismatch))?;
            held.push(expected);
        }
        if let (Some(certain_at), Some(asked_at)) = (left.oldest_lost_certain_at, left.newest_asked_at)
            && certain_at < asked_at
        {
            return Err(Violation::NoCut { snapshot: snapshot.uuid.0[0], certain_at, asked_at });
        }
        if snapshot.held.is_none() {
            snapshot.held = Some(held[..size].to_vec());
            self.report.cuts += 1;
        }
        Ok(held)
    }

    fn ask_some_rollback(&mut self) -> bool {
        let Some(volume) = self.choose_volume(|volume| volume.first_read.is_none()) else { return false };
        let stamp = self.volumes[volume].stamp;
        let suitable = |snapshot: &Snapshot| snapshot.stamp == stamp && snapshot.held.is_some();
        let Some(snapshot) = self.choose_snapshot(suitable) else { return false };
        self.ask_rollback(volume, snapshot);
        true
    }

    pub(super) fn ask_rollback(&mut self, volume: usize, snapshot: usize) {
        let asked_at = self.tick();
        let uuid = self.snapshots[snapshot].uuid;
        self.snapshots[snapshot].busy = true;
        let target = &mut self.volumes[volume];
        target.changing = true;
        target.rolling = Some(Rolling { snapshot, asked_at, revision: target.revision });
        target.rolled_at = u64::MAX;
        // Until it is done the volume has either size.
        target.resized_at = u64::MAX;
        let action = Action::RollbackVolume { uuid: target.spec.uuid, snapshot: uuid, if_revision: None };
        self.trace(|_| format!("management asks at {asked_at}: volume {volume} back to {}", uuid.0[0]));
        let question = self.post(action);
        self.changes.insert(question, Change::RollBack { volume, snapshot });
    }

    /// Somebody has seen that a volume was rolled back, or was told so: everything asked from now on sees it.
    pub(super) fn roll_over(&mut self, volume: usize) {
        let now = self.tick();
        let target = &mut self.volumes[volume];
        let Some(Rolling { snapshot, asked_at, .. }) = target.rolling else { return };
        if target.rolled_at != u64::MAX {
            return;
        }
        self.report.rollbacks += 1;
        target.rolled_at = now;
        let held = self.snapshots[snapshot].held.as_deref().unwrap_or_default();
        let size = target.blocks.len().max(held.len());
        target.blocks.resize(size, Block::default());
        target.locks.resize(size, None);
        let replaced =
            target.blocks.iter().enumerate().map(|(number, block)| {
                block.replaced(held.get(number).copied().unwrap_or_default(), asked_at)
            });
        target.blocks = replaced.collect();
        target.spec.size_bytes = (size * SECTORS * 512) as u64;
        self.trace(|_| format!("volume {volume} was rolled back at {now}"));
        self.read_all_of(volume);
    }

    /// A rollback was answered.
    pub(super) fn rolled_back(&mut self, volume: usize, snapshot: usize) {
        self.roll_over(volume);
        let now = self.tick();
        let target = &mut self.volumes[volume];
        (target.rolling, target.changing, target.resized_at) = (None, false, now);
        self.snapshots[snapshot].busy = false;
    }

    /// After a crash: the record tells whether the volume was rolled back.
    pub(super) fn settle_rollback(&mut self, volume: usize, revision: u64) -> Result<(), Violation> {
        let target = &mut self.volumes[volume];
        let Some(rolling) = target.rolling else { return Ok(()) };
        if revision != rolling.revision {
            self.rolled_back(volume, rolling.snapshot);
            return Ok(());
        }
        if target.rolled_at != u64::MAX {
            return Err(Violation::HalfDone("a rollback that hosts had seen"));
        }
        let now = self.tick();
        let target = &mut self.volumes[volume];
        (target.rolling, target.changing) = (None, false);
        (target.resized_at, target.rolled_at) = (now, 0);
        self.snapshots[rolling.snapshot].busy = false;
        Ok(())
    }

    fn ask_some_delete(&mut self) -> bool {
        // One must stay for the load.
        let there = self.volumes.iter().filter(|volume| !volume.gone && !volume.changing).count();
        match self.choose_volume(|volume| volume.first_read.is_none()) {
            Some(volume) if there > 1 => self.ask_delete(volume),
            _ => return false,
        }
        true
    }

    pub(super) fn ask_delete(&mut self, volume: usize) {
        self.trace(|_| format!("management asks: delete volume {volume}"));
        let target = &mut self.volumes[volume];
        target.changing = true;
        target.allowed_since.fill(u64::MAX);
        let question =
            self.post(Action::DeleteVolume { uuid: self.volumes[volume].spec.uuid, if_revision: None });
        self.changes.insert(question, Change::Delete { volume });
    }

    /// A volume is gone: nothing that is asked of it from now on may succeed.
    pub(super) fn deleted(&mut self, volume: usize) {
        let now = self.tick();
        let target = &mut self.volumes[volume];
        (target.gone, target.changing) = (true, true);
        for fence in &mut target.fenced {
            fence.get_or_insert(now);
        }
        target.allowed_since.fill(u64::MAX);
        self.unverified.retain(|chunk| chunk.volume != volume);
    }

    fn ask_some_snapshot_delete(&mut self) -> bool {
        let Some(snapshot) = self.choose_snapshot(|_| true) else { return false };
        self.ask_snapshot_delete(snapshot);
        true
    }

    pub(super) fn ask_snapshot_delete(&mut self, snapshot: usize) {
        let target = &mut self.snapshots[snapshot];
        target.busy = true;
        let uuid = target.uuid;
        self.trace(|_| format!("management asks: delete snapshot {}", uuid.0[0]));
        let question = self.post(Action::DeleteSnapshot { uuid, if_revision: None });
        self.changes.insert(question, Change::DeleteSnapshot { snapshot });
    }

    fn ask_some_diff(&mut self) -> bool {
        let Some(snapshot) = self.choose_snapshot(|snapshot| snapshot.held.is_some()) else { return false };
        let bases: Vec<usize> = (0..snapshot)
            .filter(|&base| self.may_be_compared(base, snapshot) && self.snapshots[base].held.is_some())
            .collect();
        let uuids: Vec<VolumeUuid> = bases.iter().map(|&base| self.snapshots[base].uuid).collect();
        let base = self.choose_snapshot(|base| uuids.contains(&base.uuid));
        self.ask_diff(base, snapshot);
        false
    }

    /// Whether one snapshot may be the base of a diff to another: it is older, and of the same volume or of one that this
    /// volume comes from as a clone.
    pub(super) fn may_be_compared(&self, base: usize, snapshot: usize) -> bool {
        let older = &self.snapshots[base];
        let mut at = snapshot;
        while self.snapshots[at].volume != older.volume {
            let Some(origin) = self.volumes[self.snapshots[at].volume].origin else { return false };
            at = origin;
        }
        base != snapshot && older.sequence <= self.snapshots[at].sequence
    }

    /// A crash has ended a comparison.
    pub(super) fn forget_diff(&mut self, comparison: &Comparison) {
        for used in [Some(comparison.snapshot), comparison.base].into_iter().flatten() {
            self.snapshots[used].busy = false;
        }
    }

    /// A change was refused: no snapshot has it.
    pub(super) fn revoke_in_snapshots(&mut self, volume: usize, number: u64, blocks: &[usize]) {
        let stamp = self.volumes[volume].stamp;
        for snapshot in self.snapshots.iter_mut().filter(|snapshot| snapshot.stamp == stamp) {
            for block in blocks {
                // Whether somebody has seen it is for its volume to say.
                let _seen = snapshot.blocks.get_mut(*block).map(|block| block.revoke(number));
            }
        }
    }

    /// Asks what differs between two snapshots.
    pub(super) fn ask_diff(&mut self, base: Option<usize>, snapshot: usize) {
        for used in [Some(snapshot), base].into_iter().flatten() {
            self.snapshots[used].busy = true;
        }
        self.post_diff(Comparison { base, snapshot, words: Vec::new() }, 0);
    }

    pub(super) fn post_diff(&mut self, comparison: Comparison, first_block: u64) {
        let uuid = |at: usize| self.snapshots[at].uuid;
        let (snapshot, base) = (uuid(comparison.snapshot), comparison.base.map(uuid));
        let question =
            self.post(Action::ReadDiff(DiffQuery { snapshot, base, first_block, words_max: DIFF_WORDS_MAX }));
        self.changes.insert(question, Change::Diff(comparison, first_block));
    }

    /// A part of a diff: asks for the next, or looks at all.
    pub(super) fn diff_told(
        &mut self,
        mut comparison: Comparison,
        diff: engine::Diff,
    ) -> Result<(), Violation> {
        comparison.words.extend(diff.words);
        match diff.next_block {
            Some(next) => self.post_diff(comparison, next),
            None => {
                self.report.diffs += 1;
                self.forget_diff(&comparison);
                self.check_diff(&comparison)?;
            }
        }
        Ok(())
    }

    fn check_diff(&self, comparison: &Comparison) -> Result<(), Violation> {
        let Comparison { base, snapshot, words } = comparison;
        let told: std::collections::BTreeMap<u64, u64> =
            words.iter().map(|word| (word.first_block, word.changed)).collect();
        let of = |at: usize| self.snapshots[at].held.as_deref().unwrap_or_default();
        let old = base.map(of).unwrap_or_default();
        for (block, new) in of(*snapshot).iter().enumerate() {
            let number = block as u64;
            let changed = told.get(&(number / 64 * 64)).is_some_and(|word| word >> (number % 64) & 1 == 1);
            let old = old.get(block).copied().unwrap_or_default();
            let is_zero = |held: &Held| held.sectors == [0; SECTORS];
            let expected = match (is_zero(&old), is_zero(new)) {
                (true, true) => false,
                (false, false) if old.sectors != new.sectors => true,
                (false, false) if old.version == VAGUE || new.version == VAGUE => continue,
                (false, false) => old.version != new.version,
                _ => true,
            };
            if changed != expected {
                let name = |at: usize| self.snapshots[at].uuid.0[0];
                let (base, snapshot) = (base.map(name), name(*snapshot));
                return Err(Violation::WrongDiff { base, snapshot, block, changed });
            }
        }
        Ok(())
    }

    /// A volume that no change is under way of, as `suits` has it.
    fn choose_volume(&mut self, suits: impl Fn(&Volume) -> bool) -> Option<usize> {
        let suitable: Vec<usize> = (0..self.volumes.len())
            .filter(|at| !self.volumes[*at].gone && !self.volumes[*at].changing && !self.is_unverified(*at))
            .filter(|at| suits(&self.volumes[*at]))
            .collect();
        (!suitable.is_empty()).then(|| suitable[self.random.index(suitable.len())])
    }

    /// A snapshot that is there and nobody needs, as `suits` has it.
    fn choose_snapshot(&mut self, suits: impl Fn(&Snapshot) -> bool) -> Option<usize> {
        let suitable: Vec<usize> = (0..self.snapshots.len())
            .filter(|at| {
                !self.snapshots[*at].gone && !self.snapshots[*at].busy && suits(&self.snapshots[*at])
            })
            .collect();
        (!suitable.is_empty()).then(|| suitable[self.random.index(suitable.len())])
    }

    fn new_uuid(&mut self) -> VolumeUuid {
        self.uuids += 1;
        let [high, low] = self.uuids.to_be_bytes();
        let mut uuid = [low; 16];
        uuid[15] = high;
        VolumeUuid(uuid)
    }

    /// True where nothing is known that could still change a volume by itself, so that a look at it is certain.
    pub(super) fn is_quiet(&self, volume: usize) -> bool {
        let open =
            self.open.values().any(|open| open.volume == volume && !matches!(open.kind, Kind::Peek { .. }));
        !open && !self.doubts.iter().any(|doubt| doubt.volume == volume)
    }

    /// After a crash: which of the unanswered changes of snapshots happened, by what is there.
    pub(super) fn meet_snapshots(&mut self, there: &[Made]) -> Result<(), Violation> {
        let there: Vec<&Made> =
            there.iter().filter(|made| made.state == engine::VolumeState::Available).collect();
        let find = |uuid: VolumeUuid| there.iter().find(|made| made.spec.uuid == uuid).copied();
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.unanswered) {
            match change {
                Change::Snapshot { volume, snapshot } => {
                    let source = &mut self.volumes[volume];
                    (source.changing, source.cut_at) = (false, None);
                    if let Some(made) = find(snapshot.uuid) {
                        self.snapshot_made(volume, *snapshot, made);
                    }
                }
                Change::DeleteSnapshot { snapshot } if find(self.snapshots[snapshot].uuid).is_none() => {
                    self.snapshots[snapshot].gone = true;
                }
                other => left.push(other),
            }
        }
        self.unanswered = left;
        let known = self.snapshots.iter().filter(|snapshot| !snapshot.gone);
        if known.clone().any(|snapshot| find(snapshot.uuid).is_none()) {
            return Err(Violation::HalfDone("a snapshot is missing"));
        }
        if there.iter().any(|made| known.clone().all(|snapshot| snapshot.uuid != made.spec.uuid)) {
            return Err(Violation::HalfDone("a snapshot is there that nobody made, or that was deleted"));
        }
        Ok(())
    }

    /// After a crash: the same of volumes.
    pub(super) fn meet_volumes(&mut self, there: &[engine::Volume]) -> Result<(), Violation> {
        let there: Vec<&engine::Volume> =
            there.iter().filter(|made| made.state == engine::VolumeState::Available).collect();
        let find = |uuid: VolumeUuid| there.iter().find(|made| made.spec.uuid == uuid).copied();
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.unanswered) {
            match change {
                Change::Clone { spec, snapshot } => match find(spec.uuid) {
                    Some(made) => self.clone_made(made, snapshot),
                    None => self.snapshots[snapshot].busy = false,
                },
                Change::Delete { volume } if find(self.volumes[volume].spec.uuid).is_none() => {
                    self.deleted(volume);
                }
                Change::RollBack { volume, .. } => {
                    let made = find(self.volumes[volume].spec.uuid);
                    let made = made.ok_or(Violation::HalfDone("a volume is missing after a rollback"))?;
                    self.settle_rollback(volume, made.revision)?;
                }
                other => left.push(other),
            }
        }
        self.unanswered = left;
        for volume in self.volumes.iter_mut().filter(|volume| !volume.gone) {
            let made = find(volume.spec.uuid).ok_or(Violation::HalfDone("a volume is missing"))?;
            volume.revision = made.revision;
        }
        let known = |made: &engine::Volume| {
            self.volumes.iter().any(|volume| !volume.gone && volume.spec.uuid == made.spec.uuid)
        };
        if !there.iter().all(|made| known(made)) {
            return Err(Violation::HalfDone("a volume is there that nobody made, or that was deleted"));
        }
        Ok(())
    }
}
