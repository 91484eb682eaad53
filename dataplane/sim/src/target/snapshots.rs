//! Goal: a snapshot that is taken while a writer goes on is a point of its history. The writer sends each write only when
//! the one before it was acknowledged, to other shards each time; so what a snapshot holds must be the writer's first so
//! many writes, at least those acknowledged before it was asked for, at most those sent before it was answered. The same
//! is what a clone and a rollback show.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{Action, ActionError, Message, Outcome, SnapshotSpec, VolumeUuid};
use host::Payload;
use io::ReactorId;
use nvme::Sqe;
use nvme::command::{LbaRange, NvmCommand};

use super::host::SimHost;
use super::{TargetPlan, TargetTrial};
use crate::{Faults, Random, Wake};

const BLOCKS: u64 = 1300;

fn trial(seed: u64) -> TargetTrial {
    let mut plan = TargetPlan::new(seed);
    plan.reactors = vec![2];
    plan.shards = 4;
    plan.faults = Faults::none();
    plan.hosts = 2;
    plan.queues = 2;
    plan.volumes = vec![(usize::try_from(BLOCKS).expect("a small volume"), true)];
    let mut trial = TargetTrial::new(plan);
    trial.begin_life(2).expect("a start without faults");
    trial.make_volumes().expect("volumes");
    trial.meet_hosts().expect("hosts");
    trial
}

/// One step of the world without the trial's own books, which know nothing of these commands; what ended in it, by tag.
pub(super) fn turn(trial: &mut TargetTrial) -> Vec<(u64, bool, Vec<u8>)> {
    let deadlines: Vec<_> = trial.engines.iter().map(|seat| seat.deadline).collect();
    let timer = trial.hosts.iter().filter_map(SimHost::deadline).min();
    match trial.world.step(&deadlines, timer) {
        Wake::Reactor(reactor) => {
            trial.run_reactor(usize::from(reactor.0)).expect("no promise is broken");
        }
        Wake::Endpoint(id) => {
            if let Some(host) = trial.hosts.iter().position(|host| host.owns(id)) {
                trial.run_host(host);
            }
        }
        Wake::Timer => (0..trial.hosts.len()).for_each(|host| trial.run_host(host)),
        Wake::Idle => panic!("nothing would ever happen again"),
    }
    let ended = trial.hosts.iter_mut().flat_map(|host| std::mem::take(&mut host.ended));
    ended.map(|end| (end.tag, end.status.is_success(), end.data)).collect()
}

pub(super) fn submit(
    trial: &mut TargetTrial,
    tag: u64,
    nsid: u32,
    command: NvmCommand,
    data: Payload<Vec<u8>>,
) {
    let sqe: Sqe = command.encode(nsid);
    let (host, queue) = (usize::try_from(tag % 2).unwrap_or(0), usize::try_from(tag / 2 % 2).unwrap_or(0));
    assert!(trial.hosts[host].submit(queue, vec![(tag, sqe, data)]), "an idle queue takes a command");
    trial.run_host(host);
}

/// Writes its number to the block of write `number`: a stripe, and so a shard, further each time.
fn write(trial: &mut TargetTrial, nsid: u32, number: u64) {
    let block = number * 256 % 1280 + number / 5;
    let bytes = number.to_le_bytes().repeat(512);
    submit(trial, number, nsid, NvmCommand::Write(LbaRange::new(block, 1)), Payload::Write(bytes));
}

/// The numbers of the writes that a volume holds, in order.
fn held(trial: &mut TargetTrial, nsid: u32, writes: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for number in 1..=writes {
        let block = number * 256 % 1280 + number / 5;
        let read = NvmCommand::Read(LbaRange::new(block, 1));
        submit(trial, 1_000_000 + number, nsid, read, Payload::Read(vec![0; 4096]));
        let data = loop {
            if let Some((_, done, data)) = turn(trial).pop() {
                assert!(done, "the read of block {block} failed");
                break data;
            }
        };
        if data[..8] == number.to_le_bytes() {
            found.push(number);
        } else {
            assert!(data.iter().all(|byte| *byte == 0), "block {block} holds what nobody wrote");
        }
    }
    found
}

pub(super) type Answer = Arc<Mutex<Option<Result<Outcome, ActionError>>>>;

pub(super) fn ask(trial: &mut TargetTrial, action: Action) -> Answer {
    let answer = Answer::default();
    let slot = Arc::clone(&answer);
    let reply = Box::new(move |result| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result));
    trial.world.post(ReactorId(0), Message::Action { action, reply });
    answer
}

fn taken(answer: &Answer) -> Option<Outcome> {
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some(answer.expect("the change succeeds"))
}

pub(super) fn await_answer(trial: &mut TargetTrial, action: Action) -> Outcome {
    let answer = ask(trial, action);
    loop {
        turn(trial);
        if let Some(outcome) = taken(&answer) {
            return outcome;
        }
    }
}

pub(super) fn spec(uuid: u8) -> SnapshotSpec {
    let source = VolumeUuid([1; 16]);
    let (name, attributes) = (format!("s{uuid}"), String::new());
    SnapshotSpec { uuid: VolumeUuid([uuid; 16]), name, source, retention_s: 0, attributes }
}

#[test]
fn a_snapshot_is_a_point_of_its_writers_history() {
    for seed in 0..40 {
        let mut trial = trial(seed);
        let mut random = Random::new(seed);
        let nsid = trial.volumes[0].nsid;
        let (ask_after, writes) = (random.between(3, 60), 90);
        let (mut acknowledged, mut sent) = (0, 1);
        write(&mut trial, nsid, 1);
        let (mut answer, mut least, mut most) = (None, 0, 0);
        while acknowledged < writes {
            for (tag, done, _) in turn(&mut trial) {
                assert!(done && tag == sent, "seed {seed}: write {tag}");
                acknowledged = tag;
                if sent < writes {
                    sent += 1;
                    write(&mut trial, nsid, sent);
                }
            }
            if answer.is_none() && acknowledged >= ask_after {
                least = acknowledged;
                answer = Some(ask(&mut trial, Action::CreateSnapshot(spec(50))));
            }
            if most == 0 && answer.as_ref().and_then(taken).is_some() {
                most = sent;
            }
        }
        while most == 0 {
            turn(&mut trial);
            if answer.as_ref().and_then(taken).is_some() {
                most = sent;
            }
        }
        let snapshot = VolumeUuid([50; 16]);
        let mut clone = trial.volumes[0].spec.clone();
        (clone.uuid, clone.name) = (VolumeUuid([60; 16]), "clone".into());
        let Outcome::Volume(clone) =
            await_answer(&mut trial, Action::CloneVolume { spec: clone, source: snapshot })
        else {
            panic!("a clone is a volume")
        };
        let in_clone = held(&mut trial, clone.nsid, writes);
        let count = in_clone.len() as u64;
        assert!(
            in_clone.iter().copied().eq(1..=count),
            "seed {seed}: {in_clone:?} is no point of the history"
        );
        assert!((least..=most).contains(&count), "seed {seed}: {count} writes, not {least} to {most}");
        assert_eq!(held(&mut trial, nsid, writes).len() as u64, writes, "the volume itself goes on");
        let uuid = VolumeUuid([1; 16]);
        await_answer(&mut trial, Action::RollbackVolume { uuid, snapshot, if_revision: None });
        assert_eq!(held(&mut trial, nsid, writes), in_clone, "seed {seed}: after the rollback");
    }
}
