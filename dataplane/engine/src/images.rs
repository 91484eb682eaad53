//! Snapshots, clones and rollbacks: what each change is made of.
//!
//! All of them fork an image in every shard, durably, before one record of the directory makes it real. Until then a
//! crash leaves images that no record names; the next start drops them. So nothing is ever half done.

use std::sync::Arc;

use store::VolumeId;
use store::directory::{SnapshotRecord, VolumeRecord, VolumeState};

use crate::action::{ActionError, Snapshot, SnapshotSpec, Volume, VolumeSpec, VolumeUuid};
use crate::errand::{Plan, Record, Step};
use crate::execute::{Begun, NO_POOL, check_size};
use crate::lead::Lead;
use crate::message::Counters;
use crate::shape;

impl<B: io::Buffer> Lead<B> {
    pub(crate) fn take_snapshot(&mut self, spec: SnapshotSpec, now_unix_ns: u64) -> Begun {
        let volume = self.changeable(spec.source, None)?;
        let directory = self.directory.as_mut().ok_or(NO_POOL)?;
        let taken = directory.has_snapshot_name(&volume.project, &spec.name)
            || directory.snapshot_by_uuid(&spec.uuid.0).is_some();
        if taken {
            return Err(ActionError::Exists);
        }
        // It is there as long as the volume is.
        let origin = directory.snapshot_by_uuid(&volume.source);
        let ancestors = origin.map(|origin| origin.ancestors_of_clones()).unwrap_or_default();
        let id = directory.allocate_volume_id();
        let record = SnapshotRecord {
            id,
            lineage: volume.lineage,
            uuid: spec.uuid.0,
            project: volume.project.clone(),
            name: spec.name,
            source: volume.uuid,
            source_name: volume.name.clone(),
            size_bytes: volume.size_bytes,
            sector: volume.sector,
            acl: volume.acl.clone(),
            ip_acl: volume.ip_acl.clone(),
            compression: volume.compression,
            ancestors,
            retention_s: spec.retention_s,
            attributes: spec.attributes,
            revision: 1,
            created_unix_ns: now_unix_ns,
            state: VolumeState::Available,
        };
        Ok(Plan {
            busy: vec![volume.id, id],
            record: Record::Snapshot(Box::new(record)),
            before: None,
            steps: vec![
                Step::Hold(volume.nsid),
                Step::Fork { from: volume.image, to: id, read_only: true },
                Step::Record,
                Step::Answer,
            ],
            undo: vec![Step::Drop(id)],
        })
    }

    pub(crate) fn delete_snapshot(&mut self, uuid: VolumeUuid, if_revision: Option<u64>) -> Begun {
        let old = self.snapshot(uuid)?;
        if let Some(revision) = if_revision
            && revision != old.revision
        {
            return Err(ActionError::RevisionMismatch { current: old.revision });
        }
        let record = SnapshotRecord {
            state: VolumeState::Deleting,
            revision: old.revision + 1,
            ..SnapshotRecord::clone(&old)
        };
        Ok(Plan {
            busy: vec![old.id],
            record: Record::Snapshot(Box::new(record)),
            before: None,
            steps: vec![Step::Record, Step::Answer, Step::Sweep],
            undo: Vec::new(),
        })
    }

    pub(crate) fn clone_volume(&mut self, spec: VolumeSpec, source: VolumeUuid, now_unix_ns: u64) -> Begun {
        check_size(spec.size_bytes)?;
        let snapshot = self.snapshot(source)?;
        if spec.size_bytes < snapshot.size_bytes {
            let rule = "a clone is at least as large as its snapshot";
            return Err(ActionError::Invalid { field: "size", rule });
        }
        if shape::sector(spec.sector) != snapshot.sector {
            let rule = "a clone has the sector size of its snapshot";
            return Err(ActionError::Invalid { field: "sectorSize", rule });
        }
        let mut record = self.new_volume(spec, now_unix_ns)?;
        record.lineage = snapshot.lineage;
        record.source = snapshot.uuid;
        let mut steps = fork(&snapshot, record.image, record.size_bytes);
        steps.extend([Step::Record, Step::Fence, Step::Answer]);
        Ok(Plan {
            busy: vec![record.id, snapshot.id],
            undo: vec![Step::Drop(record.image)],
            record: Record::Volume(Box::new(record)),
            before: None,
            steps,
        })
    }

    pub(crate) fn roll_back(
        &mut self,
        uuid: VolumeUuid,
        snapshot: VolumeUuid,
        if_revision: Option<u64>,
    ) -> Begun {
        let old = self.changeable(uuid, if_revision)?;
        let snapshot = self.snapshot(snapshot)?;
        if snapshot.lineage != old.lineage {
            let rule = "a snapshot of this volume, or of one that it is a clone of";
            return Err(ActionError::Invalid { field: "srcSnapshotUUID", rule });
        }
        let directory = self.directory.as_mut().ok_or(NO_POOL)?;
        let image = directory.allocate_volume_id();
        let record = VolumeRecord {
            image,
            size_bytes: old.size_bytes.max(snapshot.size_bytes),
            revision: old.revision + 1,
            ..VolumeRecord::clone(&old)
        };
        let mut steps = fork(&snapshot, image, record.size_bytes);
        // No command may begin on the old image once one has met the new: what it wrote would be dropped.
        steps.extend([Step::Pause, Step::Record, Step::Fence, Step::Answer, Step::Drop(old.image)]);
        Ok(Plan {
            busy: vec![old.id, snapshot.id],
            record: Record::Volume(Box::new(record)),
            before: Some(VolumeRecord::clone(&old)),
            steps,
            // The namespace may be paused; as it was is also how it goes on.
            undo: vec![Step::Revert, Step::Fence, Step::Drop(image)],
        })
    }

    /// A volume as management sees it, without what only reactors know.
    pub(crate) fn managed(&self, record: &VolumeRecord) -> Volume {
        let mut volume = shape::to_management(record);
        let source = self.directory.as_ref().and_then(|directory| directory.snapshot_by_uuid(&record.source));
        volume.source_name = source.map(|snapshot| snapshot.name.clone()).unwrap_or_default();
        volume.state = self.health.state_of(volume.state);
        volume
    }

    /// All snapshots as management sees them.
    pub(crate) fn snapshots(&self, counters: &Counters) -> Vec<Snapshot> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let mut clones = std::collections::BTreeMap::<[u8; 16], u32>::new();
        for volume in directory.volumes() {
            *clones.entry(volume.source).or_default() += 1;
        }
        let as_managed = directory.snapshots().map(|record| {
            let mut snapshot = shape::to_snapshot(record);
            snapshot.clones = clones.get(&record.uuid).copied().unwrap_or(0);
            snapshot.state = self.health.state_of(snapshot.state);
            snapshot.usage = counters.usage_of(record.id);
            self.owned.complete(record.id, &mut snapshot.usage);
            snapshot
        });
        as_managed.collect()
    }

    /// The snapshot, if it may be used or changed now.
    pub(crate) fn snapshot(&self, uuid: VolumeUuid) -> Result<Arc<SnapshotRecord>, ActionError> {
        let found = self.directory.as_ref().and_then(|directory| directory.snapshot_by_uuid(&uuid.0));
        let snapshot = found.ok_or(ActionError::SnapshotNotFound)?;
        if snapshot.state == VolumeState::Deleting {
            return Err(ActionError::SnapshotNotFound);
        }
        if self.errands.is_busy(snapshot.id) {
            return Err(ActionError::Busy);
        }
        Ok(Arc::clone(snapshot))
    }
}

/// A writable image of a snapshot. What a shrink that a crash interrupted has left beyond the snapshot's end must not be
/// seen by a larger volume, not even after a power cut.
fn fork(snapshot: &SnapshotRecord, image: VolumeId, size_bytes: u64) -> Vec<Step> {
    let mut steps = vec![Step::Fork { from: snapshot.id, to: image, read_only: false }];
    if size_bytes > snapshot.size_bytes {
        let (lineage, from_bytes) = (snapshot.lineage, snapshot.size_bytes);
        steps.extend([Step::Clear { image, lineage, from_bytes }, Step::Flush]);
    }
    steps
}
