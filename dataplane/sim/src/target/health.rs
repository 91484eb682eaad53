//! Goal: management is told what has failed: which drive, that volumes cannot be used, and how many blocks were not what
//! was written.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{Action, ActionError, Drive, Message, Outcome, SnapshotSpec, VolumeState, VolumeUuid};
use host::Payload;
use io::{DriveId, ReactorId};
use nvme::command::{LbaRange, NvmCommand};

use super::host::SimHost;
use super::{TargetPlan, TargetTrial};
use crate::trial::Violation;
use crate::{Faults, Wake};

const BLOCK_BYTES: usize = 4096;

pub(super) fn trial(drives: usize) -> TargetTrial {
    let mut plan = TargetPlan::new(1);
    plan.reactors = vec![2];
    plan.shards = 4;
    plan.drives = vec![plan.drives[0]; drives];
    plan.faults = Faults::none();
    plan.hosts = 1;
    plan.queues = 1;
    plan.volumes = vec![(64, true)];
    let mut trial = TargetTrial::new(plan);
    trial.begin_life(2).expect("a start without faults");
    trial.make_volumes().expect("volumes");
    trial.meet_hosts().expect("hosts");
    trial
}

/// One step of the world, in which shards may fail; what hosts' commands ended with, and the data of reads.
fn turn(trial: &mut TargetTrial) -> Vec<(bool, Vec<u8>)> {
    let deadlines: Vec<_> = trial.engines.iter().map(|seat| seat.deadline).collect();
    let timer = trial.hosts.iter().filter_map(SimHost::deadline).min();
    match trial.world.step(&deadlines, timer) {
        Wake::Reactor(reactor) => match trial.run_reactor(usize::from(reactor.0)) {
            Ok(()) | Err(Violation::Stopped(..)) => {}
            Err(violation) => panic!("{violation}"),
        },
        Wake::Endpoint(_) | Wake::Timer => (0..trial.hosts.len()).for_each(|host| trial.run_host(host)),
        Wake::Idle => panic!("nothing would ever happen again"),
    }
    let ended = trial.hosts.iter_mut().flat_map(|host| std::mem::take(&mut host.ended));
    ended.map(|end| (end.status.is_success(), end.data)).collect()
}

pub(super) fn ask(trial: &mut TargetTrial, action: Action) -> Result<Outcome, ActionError> {
    let answer = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&answer);
    let reply = Box::new(move |result| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result));
    trial.world.post(ReactorId(0), Message::Action { action, reply });
    loop {
        turn(trial);
        if let Some(answer) = answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return answer;
        }
    }
}

pub(super) fn drives(trial: &mut TargetTrial) -> Vec<Drive> {
    let Ok(Outcome::Identity(identity)) = ask(trial, Action::ReadIdentity) else { panic!("no answer") };
    identity.drives
}

/// The states of all volumes and snapshots.
fn states(trial: &mut TargetTrial) -> Vec<VolumeState> {
    let Ok(Outcome::Volumes(volumes)) = ask(trial, Action::ListVolumes) else { panic!("no answer") };
    let Ok(Outcome::Snapshots(snapshots)) = ask(trial, Action::ListSnapshots) else { panic!("no answer") };
    let volumes = volumes.iter().map(|volume| volume.state);
    volumes.chain(snapshots.iter().map(|snapshot| snapshot.state)).collect()
}

fn take_snapshot(trial: &mut TargetTrial, number: u8) -> Result<Outcome, ActionError> {
    ask(
        trial,
        Action::CreateSnapshot(SnapshotSpec {
            uuid: VolumeUuid([number; 16]),
            name: format!("s{number}"),
            source: trial.volumes[0].spec.uuid,
            retention_s: 0,
            attributes: String::new(),
        }),
    )
}

fn command(trial: &mut TargetTrial, command: NvmCommand, data: Payload<Vec<u8>>) -> (bool, Vec<u8>) {
    let sqe = command.encode(trial.volumes[0].nsid);
    assert!(trial.hosts[0].submit(0, vec![(1, sqe, data)]), "an idle queue takes a command");
    trial.run_host(0);
    loop {
        if let Some(end) = turn(trial).pop() {
            return end;
        }
    }
}

#[test]
fn a_drive_that_is_gone_is_told_and_fails_the_volumes() {
    let mut trial = trial(2);
    take_snapshot(&mut trial, 100).expect("all is well");
    assert!(drives(&mut trial).iter().all(|drive| drive.healthy));
    assert_eq!(states(&mut trial), [VolumeState::Available; 2]);
    trial.world.set_gone(DriveId(1), true);
    // A fork is logged in every shard: of four, two are on that drive.
    take_snapshot(&mut trial, 101).expect_err("a shard cannot log it");
    let healthy: Vec<bool> = drives(&mut trial).iter().map(|drive| drive.healthy).collect();
    assert_eq!(healthy, [true, false]);
    assert_eq!(states(&mut trial), [VolumeState::Failed; 2]);
}

#[test]
fn blocks_that_have_rotted_are_counted_for_their_drive() {
    let mut trial = trial(2);
    let pattern: Vec<u8> = (0..BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
    let range = LbaRange::new(7, 1);
    let (done, _) = command(&mut trial, NvmCommand::Write(range), Payload::Write(pattern.clone()));
    assert!(done);
    let found = [DriveId(0), DriveId(1)].into_iter().find_map(|drive| {
        let size_bytes = trial.world.drives()[usize::from(drive.0)].size_bytes;
        let content = trial.world.contents(drive, 0, usize::try_from(size_bytes).expect("a small drive"));
        let offset = content.windows(BLOCK_BYTES).position(|bytes| bytes == pattern)?;
        Some((drive, offset as u64))
    });
    let (rotten, offset) = found.expect("it was written");
    trial.world.flip(rotten, offset, 3);
    let (done, _) = command(&mut trial, NvmCommand::Read(range), Payload::Read(vec![0; BLOCK_BYTES]));
    assert!(!done);
    let counted: Vec<u64> = drives(&mut trial).iter().map(|drive| drive.integrity_errors).collect();
    assert_eq!(counted, [0, 1].map(|drive| u64::from(DriveId(drive) == rotten)));
    assert_eq!(states(&mut trial), [VolumeState::Available], "one block is not the volume");
}
