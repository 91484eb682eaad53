//! What management asks of the target, and what follows for the model.

use std::sync::PoisonError;

use engine::{
    Action, ActionError, HostAcl, IpAcl, Limits, Message, Outcome, SectorSize, VolumeChange, VolumeSpec,
    VolumeUuid,
};
use io::ReactorId;

use super::host::SimHost;
use super::images::{Comparison, Snapshot};
use super::{TargetTrial, Volume};
use crate::model::{Block, SECTORS};
use crate::trial::Violation;

/// A question to management that was not answered.
#[derive(Debug)]
pub(crate) enum Change {
    Create {
        volume: usize,
    },
    Acl {
        volume: usize,
        allowed: Vec<bool>,
    },
    Size {
        volume: usize,
        blocks: usize,
    },
    Limits {
        volume: usize,
    },
    Compression {
        volume: usize,
    },
    Snapshot {
        volume: usize,
        snapshot: Box<Snapshot>,
    },
    DeleteSnapshot {
        snapshot: usize,
    },
    Clone {
        spec: Box<VolumeSpec>,
        snapshot: usize,
    },
    RollBack {
        volume: usize,
        snapshot: usize,
    },
    Delete {
        volume: usize,
    },
    /// With the block at which the part that was asked for begins.
    Diff(Comparison, u64),
    /// A drive joins.
    Grow,
    /// A question whose answer somebody waits for.
    Told,
    Stop,
}

impl Change {
    /// The volume that it changes.
    fn volume(&self) -> Option<usize> {
        match self {
            Self::Create { volume }
            | Self::Acl { volume, .. }
            | Self::Size { volume, .. }
            | Self::Limits { volume }
            | Self::Compression { volume }
            | Self::RollBack { volume, .. } => Some(*volume),
            _ => None,
        }
    }
}

impl TargetTrial {
    /// Makes the plan's volumes and waits for them.
    pub(super) fn make_volumes(&mut self) -> Result<(), Violation> {
        for (number, (blocks, large)) in self.plan.volumes.clone().into_iter().enumerate() {
            let spec = VolumeSpec {
                uuid: VolumeUuid([u8::try_from(number + 1).expect("a few volumes"); 16]),
                project: "default".into(),
                name: format!("v{number}"),
                size_bytes: blocks as u64 * 4096,
                sector: if large { SectorSize::B4096 } else { SectorSize::B512 },
                acl: HostAcl::Any,
                ip_acl: IpAcl::Any,
                compression: number % 2 == 1,
                limits: Limits::default(),
                attributes: String::new(),
            };
            let volume = Volume::new(spec.clone(), number, blocks, self.plan.hosts);
            self.volumes.push(Volume { changing: true, ..volume });
            let question = self.post(Action::CreateVolume(spec));
            self.changes.insert(question, Change::Create { volume: number });
        }
        self.await_changes()
    }

    /// Begins a change of some volume.
    pub(super) fn ask_change(&mut self) {
        let volume = self.random.index(self.volumes.len());
        if self.volumes[volume].changing || self.volumes[volume].gone || self.is_unverified(volume) {
            return;
        }
        if self.random.one_in(5) {
            let rate =
                |random: &mut crate::Random| if random.one_in(3) { 0 } else { random.between(1000, 20_000) };
            let (ios, megabytes) = (rate(&mut self.random), rate(&mut self.random));
            let limits = Limits { read_ios: ios, write_bytes: megabytes * 100_000, ..Limits::default() };
            self.ask_limits(volume, limits);
        } else if self.random.one_in(5) {
            self.ask_compression(volume);
        } else if self.random.one_in(2) {
            let allowed = (0..self.plan.hosts).map(|_| self.random.one_in(2)).collect();
            self.ask_acl(volume, allowed);
        } else {
            let blocks = self.random.index(600) + 1;
            self.ask_size(volume, blocks);
        }
    }

    /// Asks again for what the crash left unanswered: it may have happened or not.
    pub(super) fn ask_again(&mut self) {
        for change in std::mem::take(&mut self.unanswered) {
            match change {
                Change::Diff(comparison, _) => self.forget_diff(&comparison),
                // The start has let it join.
                Change::Grow => {}
                other => self.ask_once_more(other),
            }
        }
    }

    fn ask_once_more(&mut self, change: Change) {
        match change {
            Change::Acl { volume, allowed } => self.ask_acl(volume, allowed),
            Change::Size { volume, blocks } => self.ask_size(volume, blocks),
            Change::Limits { volume } => self.ask_limits(volume, Limits::default()),
            Change::Compression { volume } => self.ask_compression(volume),
            Change::Snapshot { volume, .. } => self.ask_snapshot(volume),
            Change::DeleteSnapshot { snapshot } => self.ask_snapshot_delete(snapshot),
            Change::Clone { spec, snapshot } => self.post_clone(spec, snapshot),
            Change::RollBack { volume, snapshot } => self.ask_rollback(volume, snapshot),
            Change::Delete { volume } => self.ask_delete(volume),
            Change::Diff(comparison, from) => self.post_diff(comparison, from),
            Change::Grow => self.post_growth(),
            Change::Create { .. } | Change::Told | Change::Stop => {}
        }
    }

    /// Compresses what is written from now on, or does so no longer.
    fn ask_compression(&mut self, volume: usize) {
        let compression = self.random.one_in(2);
        self.ask_compression_of(volume, compression);
    }

    pub(super) fn ask_compression_of(&mut self, volume: usize, compression: bool) {
        let change = VolumeChange { compression: Some(compression), ..VolumeChange::default() };
        self.ask_update(volume, change, Change::Compression { volume });
    }

    /// Limits a volume.
    pub(super) fn ask_limits(&mut self, volume: usize, limits: Limits) {
        self.trace(|_| format!("management asks: {limits:?} for volume {volume}"));
        self.volumes[volume].changing = true;
        let question = self.post(Action::SetLimits { uuid: self.volumes[volume].spec.uuid, limits });
        self.changes.insert(question, Change::Limits { volume });
    }

    pub(super) fn ask_size(&mut self, volume: usize, blocks: usize) {
        self.volumes[volume].resized_at = u64::MAX;
        let size_bytes = Some(blocks as u64 * 4096);
        let change = VolumeChange { size_bytes, shrink: true, ..VolumeChange::default() };
        self.ask_update(volume, change, Change::Size { volume, blocks });
    }

    /// Puts exactly these hosts on a volume's list.
    pub(super) fn ask_acl(&mut self, volume: usize, allowed: Vec<bool>) {
        let nqn = |host: usize| SimHost::nqn(u8::try_from(host).expect("a few hosts")).as_str().to_owned();
        let hosts: Vec<String> = (0..self.plan.hosts).filter(|host| allowed[*host]).map(nqn).collect();
        let acl = if hosts.is_empty() { HostAcl::None } else { HostAcl::Hosts(hosts) };
        for (host, allowed) in allowed.iter().enumerate() {
            let volume = &mut self.volumes[volume];
            if *allowed {
                volume.fenced[host] = None;
            } else {
                volume.allowed_since[host] = u64::MAX;
            }
        }
        let change = VolumeChange { acl: Some(acl), ..VolumeChange::default() };
        self.ask_update(volume, change, Change::Acl { volume, allowed });
    }

    fn ask_update(&mut self, volume: usize, change: VolumeChange, note: Change) {
        self.trace(|_| format!("management asks: {note:?}"));
        self.volumes[volume].changing = true;
        let uuid = self.volumes[volume].spec.uuid;
        let question = self.post(Action::UpdateVolume { uuid, change, if_revision: None });
        self.changes.insert(question, note);
    }

    /// Asks management; the answer comes by [`TargetTrial::take_answers`].
    pub(super) fn post(&mut self, action: Action) -> u64 {
        let question = self.tick();
        let answers = self.answers.clone();
        let reply = Box::new(move |answer| {
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((question, answer));
        });
        if matches!(action, Action::Stop) {
            self.changes.insert(question, Change::Stop);
        }
        self.world.post(ReactorId(0), Message::Action { action, reply });
        question
    }

    /// Takes the answers that have come.
    pub(super) fn take_answers(&mut self) -> Result<(), Violation> {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for (question, answer) in answers {
            let now = self.tick();
            self.trace(|_| format!("management is told at {now}: {answer:?}"));
            let change = self.changes.remove(&question).ok_or(Violation::StrayAnswer(question))?;
            match answer {
                Ok(outcome) => self.take_answer(change, outcome, now)?,
                // The space of what was there before is still being given back.
                Err(ActionError::Busy) => self.ask_once_more(change),
                Err(error) => return Err(Violation::Panicked(format!("{change:?}: {error}"))),
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, change: Change, outcome: Outcome, now: u64) -> Result<(), Violation> {
        self.report.changes += 1;
        if let (Some(volume), Outcome::Volume(made)) = (change.volume(), &outcome) {
            self.volumes[volume].revision = made.revision;
        }
        match (change, outcome) {
            (Change::Create { volume }, Outcome::Volume(made)) => {
                self.volumes[volume].nsid = made.nsid;
                self.volumes[volume].changing = false;
            }
            (Change::Acl { volume, allowed }, _) => {
                self.volumes[volume].changing = false;
                for (host, allowed) in allowed.into_iter().enumerate() {
                    let volume = &mut self.volumes[volume];
                    if !allowed {
                        volume.fenced[host].get_or_insert(now);
                    } else if volume.allowed_since[host] == u64::MAX {
                        volume.allowed_since[host] = now;
                    }
                }
            }
            (Change::Size { volume, blocks }, _) => self.resized(volume, blocks, now),
            (Change::Limits { volume } | Change::Compression { volume }, _) => {
                self.volumes[volume].changing = false;
            }
            (Change::Snapshot { volume, snapshot }, Outcome::Snapshot(made)) => {
                self.snapshot_made(volume, *snapshot, &made);
            }
            (Change::DeleteSnapshot { snapshot }, Outcome::Done) => self.snapshots[snapshot].gone = true,
            (Change::Clone { snapshot, .. }, Outcome::Volume(made)) => self.clone_made(&made, snapshot),
            (Change::RollBack { volume, snapshot }, Outcome::Volume(_)) => self.rolled_back(volume, snapshot),
            (Change::Delete { volume }, Outcome::Done) => self.deleted(volume),
            (Change::Diff(comparison, _), Outcome::Diff(diff)) => self.diff_told(comparison, diff)?,
            (Change::Grow, Outcome::Done) => self.report.joined += 1,
            (Change::Told, outcome) => self.told = Some(outcome),
            (Change::Stop, Outcome::Done) => {}
            (change, outcome) => {
                return Err(Violation::Panicked(format!("{change:?}: {outcome:?}")));
            }
        }
        Ok(())
    }

    /// Waits until management has no open question.
    pub(super) fn await_changes(&mut self) -> Result<(), Violation> {
        while !self.changes.is_empty() {
            self.turn()?;
        }
        Ok(())
    }

    fn resized(&mut self, volume: usize, blocks: usize, now: u64) {
        let volume = &mut self.volumes[volume];
        volume.changing = false;
        volume.resized_at = now;
        volume.spec.size_bytes = (blocks * SECTORS * 512) as u64;
        volume.blocks.resize(blocks, Block::default());
        volume.locks.resize(blocks, None);
    }
}
