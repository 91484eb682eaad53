//! The fake's snapshots: two blocks differ between any two of them.

use dataplane::{
    Action, ActionError, Diff, DiffWord, Outcome, Snapshot, SnapshotSpec, VolumeState, VolumeUsage,
    VolumeUuid,
};

use super::State;

impl State {
    pub(super) fn act_on_snapshots(&mut self, action: Action) -> Result<Outcome, ActionError> {
        match action {
            Action::CreateSnapshot(spec) => self.take_snapshot(spec),
            Action::DeleteSnapshot { uuid, if_revision } => {
                let clones = self.volumes.values().filter(|volume| volume.source == Some(uuid)).count();
                let snapshot = self.snapshots.get_mut(&uuid).ok_or(ActionError::SnapshotNotFound)?;
                if if_revision.is_some_and(|revision| revision != snapshot.revision) {
                    return Err(ActionError::RevisionMismatch { current: snapshot.revision });
                }
                snapshot.state = VolumeState::Deleting;
                if clones == 0 {
                    self.snapshots.remove(&uuid);
                }
                Ok(Outcome::Done)
            }
            Action::ListSnapshots => Ok(Outcome::Snapshots(self.snapshots.values().cloned().collect())),
            Action::CloneVolume { spec, source } => {
                let snapshot = self.snapshots.get(&source).ok_or(ActionError::SnapshotNotFound)?;
                if spec.size_bytes < snapshot.size_bytes {
                    return Err(ActionError::Invalid { field: "size", rule: "at least the snapshot's" });
                }
                let (uuid, name) = (spec.uuid, snapshot.spec.name.clone());
                self.create(spec)?;
                let volume = self.volumes.get_mut(&uuid).ok_or(ActionError::NotFound)?;
                volume.source = Some(source);
                volume.source_name = name;
                Ok(Outcome::Volume(Box::new(volume.clone())))
            }
            Action::RollbackVolume { uuid, snapshot, .. } => {
                let snapshot = self.snapshots.get(&snapshot).ok_or(ActionError::SnapshotNotFound)?;
                let volume = self.volumes.get_mut(&uuid).ok_or(ActionError::NotFound)?;
                if snapshot.spec.source != uuid {
                    return Err(ActionError::Invalid { field: "srcSnapshotUUID", rule: "of this volume" });
                }
                volume.revision += 1;
                Ok(Outcome::Volume(Box::new(volume.clone())))
            }
            Action::ReadDiff(query) => {
                let snapshot = self.snapshots.get(&query.snapshot).ok_or(ActionError::SnapshotNotFound)?;
                let size_blocks = snapshot.size_bytes / 4096;
                if query.first_block >= size_blocks {
                    return Err(ActionError::Invalid { field: "offsetLBA", rule: "within the snapshot" });
                }
                let first_block = query.first_block / 64 * 64;
                let words = (first_block..size_blocks).step_by(64).take(query.words_max);
                let words: Vec<_> = words.map(|first_block| DiffWord { first_block, changed: 3 }).collect();
                let next = words.last().map_or(0, |word| word.first_block + 64);
                Ok(Outcome::Diff(Diff { words, next_block: (next < size_blocks).then_some(next) }))
            }
            other => panic!("{other:?} is not about snapshots"),
        }
    }

    fn take_snapshot(&mut self, spec: SnapshotSpec) -> Result<Outcome, ActionError> {
        let volume = self.volumes.get(&spec.source).ok_or(ActionError::NotFound)?;
        let taken = |snapshot: &Snapshot| {
            snapshot.state == VolumeState::Available
                && snapshot.project == volume.spec.project
                && snapshot.spec.name == spec.name
        };
        if self.snapshots.values().any(taken) {
            return Err(ActionError::Exists);
        }
        let snapshot = Snapshot {
            project: volume.spec.project.clone(),
            source_name: volume.spec.name.clone(),
            size_bytes: volume.spec.size_bytes,
            sector: volume.spec.sector,
            acl: volume.spec.acl.clone(),
            ip_acl: volume.spec.ip_acl.clone(),
            compression: volume.spec.compression,
            sequence: self.snapshots.len() as u64 + 1,
            lineage: 1,
            revision: 1,
            created_unix_ns: 1_767_225_600_000_000_000,
            state: VolumeState::Available,
            clones: 0,
            usage: VolumeUsage::default(),
            spec,
        };
        let uuid: VolumeUuid = snapshot.spec.uuid;
        self.snapshots.insert(uuid, snapshot.clone());
        Ok(Outcome::Snapshot(Box::new(snapshot)))
    }
}
