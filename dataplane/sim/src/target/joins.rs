//! Goal: what is to join the pool joins alone and under its name; another takes the place of what could not.

use engine::{Action, ActionError, Outcome};
use io::{DriveId, DriveShape};

use super::TargetTrial;
use super::health::{ask, drives, trial};
use crate::Faults;

const SIZE_BYTES: u64 = 16 << 20;

/// Puts a blank drive into the machine, which has this many before; where it is.
fn put(trial: &mut TargetTrial, before: u16) -> DriveId {
    let shape = trial.world.drives()[0];
    trial.world.add_drive(DriveShape { size_bytes: SIZE_BYTES, volatile_cache: true, ..shape });
    DriveId(before)
}

fn join(trial: &mut TargetTrial, name: &str) -> Result<Outcome, ActionError> {
    ask(trial, Action::AddDrive { path: name.into() })
}

fn names(trial: &mut TargetTrial) -> Vec<String> {
    drives(trial).into_iter().map(|drive| drive.path).collect()
}

fn is_blank(trial: &TargetTrial, drive: DriveId) -> bool {
    let content = trial.world.contents(drive, 0, usize::try_from(SIZE_BYTES).expect("a small drive"));
    content.iter().all(|byte| *byte == 0)
}

#[test]
fn a_drive_that_nobody_names_does_not_join_with_another() {
    let mut trial = trial(1);
    let added = [put(&mut trial, 1), put(&mut trial, 2)];
    assert!(matches!(join(&mut trial, "one"), Err(ActionError::Drive(_))));
    assert_eq!(names(&mut trial), ["drive"]);
    assert!(added.iter().all(|drive| is_blank(&trial, *drive)), "neither is a member");
}

#[test]
fn a_drive_takes_the_place_of_one_that_could_not_be_flushed() {
    let mut trial = trial(1);
    let place = put(&mut trial, 1);
    trial.world.set_faults(Faults { flush_error_one_in: 1, ..Faults::none() });
    assert!(matches!(join(&mut trial, "bad"), Err(ActionError::Drive(_))));
    assert!(!is_blank(&trial, place), "it was written to before");
    trial.world.set_faults(Faults::none());
    trial.world.replace_drive(place);
    assert!(matches!(join(&mut trial, "good"), Ok(Outcome::Done)));
    assert_eq!(names(&mut trial), ["drive", "good"]);
    assert!(drives(&mut trial).iter().all(|drive| drive.healthy));
}
