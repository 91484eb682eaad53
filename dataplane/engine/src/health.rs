//! What of the pool has failed for good, as reactor 0 was told.

use std::collections::BTreeSet;

use io::{DiskError, DriveId};
use store::directory::DirectoryFault;
use store::{Failure, ShardId};

use crate::action::VolumeState;

/// Drives and shards that have failed, until the next start.
#[derive(Debug, Default)]
pub(crate) struct Health {
    drives: BTreeSet<DriveId>,
    shards: BTreeSet<ShardId>,
}

impl Health {
    /// A drive failed what cannot be had from another and cannot be tried again.
    pub(crate) fn on_drive_failed(&mut self, error: &DiskError) {
        self.drives.insert(error.drive);
    }

    /// A shard has stopped, perhaps because of a drive.
    pub(crate) fn on_shard_failed(&mut self, shard: ShardId, failure: Failure) {
        self.shards.insert(shard);
        if let Failure::Disk { error, .. } = failure {
            self.on_drive_failed(&error);
        }
    }

    /// The directory stands still, perhaps because of a drive.
    pub(crate) fn on_directory_failed(&mut self, fault: DirectoryFault) {
        if let DirectoryFault::Disk(error) = fault {
            self.on_drive_failed(&error);
        }
    }

    /// Another drive has the number now.
    pub(crate) fn forget(&mut self, drive: DriveId) {
        self.drives.remove(&drive);
    }

    /// False once the drive has failed.
    pub(crate) fn is_healthy(&self, drive: DriveId) -> bool {
        !self.drives.contains(&drive)
    }

    /// Where a volume or snapshot is in its life, of which its record says `recorded`. Its stripes are dealt over all
    /// shards, and its Flush asks every one, so that no volume can do without any.
    pub(crate) fn state_of(&self, recorded: VolumeState) -> VolumeState {
        match recorded {
            VolumeState::Available if !self.shards.is_empty() => VolumeState::Failed,
            VolumeState::Available | VolumeState::Deleting | VolumeState::Failed => recorded,
        }
    }
}

#[cfg(test)]
mod test {
    use io::DiskErrorKind;
    use store::Doing;

    use super::*;

    const ERROR: DiskError =
        DiskError { kind: DiskErrorKind::Gone, drive: DriveId(1), offset: 0, len: 4096, errno: 5 };

    #[test]
    fn a_shard_that_failed_fails_every_volume_that_is_not_going_and_the_drive_that_it_names() {
        let mut health = Health::default();
        assert_eq!(health.state_of(VolumeState::Available), VolumeState::Available);
        health.on_shard_failed(ShardId(3), Failure::Disk { doing: Doing::WriteLog, error: ERROR });
        assert_eq!(health.state_of(VolumeState::Available), VolumeState::Failed);
        assert_eq!(health.state_of(VolumeState::Deleting), VolumeState::Deleting);
        assert!(health.is_healthy(DriveId(0)) && !health.is_healthy(DriveId(1)));
    }

    #[test]
    fn a_drive_that_only_the_directory_or_a_flush_missed_fails_no_volume() {
        let mut health = Health::default();
        health.on_directory_failed(ERROR.into());
        health.on_drive_failed(&DiskError { drive: DriveId(2), ..ERROR });
        let healthy = [0, 1, 2].map(|drive| health.is_healthy(DriveId(drive)));
        assert_eq!(healthy, [true, false, false]);
        health.forget(DriveId(2));
        assert!(health.is_healthy(DriveId(2)) && !health.is_healthy(DriveId(1)));
        assert_eq!(health.state_of(VolumeState::Available), VolumeState::Available);
    }
}
