//! What the directory holds, by key and by the names that callers know.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{KIND_VOLUME, RawRecord, VolumeRecord, VolumeState};
use super::snapshot::SnapshotRecord;
use crate::pool::VolumeId;

/// Volumes, snapshots and what else was stored. A copy shares the records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    volumes: BTreeMap<VolumeId, Arc<VolumeRecord>>,
    by_uuid: BTreeMap<[u8; 16], VolumeId>,
    by_nsid: BTreeMap<u32, VolumeId>,
    /// Project, then name; without volumes that are being deleted.
    by_name: BTreeMap<String, BTreeMap<String, VolumeId>>,
    snapshots: BTreeMap<VolumeId, Arc<SnapshotRecord>>,
    snapshots_by_uuid: BTreeMap<[u8; 16], VolumeId>,
    /// As for volumes.
    snapshots_by_name: BTreeMap<(String, String), VolumeId>,
    /// Records of kinds that this program does not know and may keep.
    others: BTreeMap<(u16, u64), Arc<RawRecord>>,
    encoded_bytes: usize,
}

/// What keeps a volume out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    Name,
    Nsid,
    Uuid,
}

impl Table {
    /// Stores a volume in place of the one with its id.
    ///
    /// # Errors
    /// When another volume has its UUID, NSID or name; nothing is changed then.
    pub(crate) fn put(&mut self, volume: &Arc<VolumeRecord>) -> Result<(), Conflict> {
        let is_other = |found: Option<&VolumeId>| found.is_some_and(|&id| id != volume.id);
        if is_other(self.by_uuid.get(&volume.uuid)) {
            return Err(Conflict::Uuid);
        }
        if is_other(self.by_nsid.get(&volume.nsid)) {
            return Err(Conflict::Nsid);
        }
        if volume.state == VolumeState::Available && is_other(self.id_by_name(&volume.project, &volume.name))
        {
            return Err(Conflict::Name);
        }
        self.remove(volume.id);
        self.by_uuid.insert(volume.uuid, volume.id);
        self.by_nsid.insert(volume.nsid, volume.id);
        if volume.state == VolumeState::Available {
            self.by_name.entry(volume.project.clone()).or_default().insert(volume.name.clone(), volume.id);
        }
        self.encoded_bytes += volume.encoded_bytes();
        self.volumes.insert(volume.id, Arc::clone(volume));
        Ok(())
    }

    /// Removes a volume and returns it.
    pub(crate) fn remove(&mut self, id: VolumeId) -> Option<Arc<VolumeRecord>> {
        let volume = self.volumes.remove(&id)?;
        self.encoded_bytes -= volume.encoded_bytes();
        self.by_uuid.remove(&volume.uuid);
        self.by_nsid.remove(&volume.nsid);
        if volume.state == VolumeState::Available
            && let Some(names) = self.by_name.get_mut(&volume.project)
        {
            names.remove(&volume.name);
            if names.is_empty() {
                self.by_name.remove(&volume.project);
            }
        }
        Some(volume)
    }

    /// Stores a snapshot in place of the one with its id.
    ///
    /// # Errors
    /// When another snapshot has its UUID or name; nothing is changed then.
    pub(crate) fn put_snapshot(&mut self, snapshot: &Arc<SnapshotRecord>) -> Result<(), Conflict> {
        let is_other = |found: Option<&VolumeId>| found.is_some_and(|&id| id != snapshot.id);
        if is_other(self.snapshots_by_uuid.get(&snapshot.uuid)) {
            return Err(Conflict::Uuid);
        }
        let name = (snapshot.project.clone(), snapshot.name.clone());
        let is_named = snapshot.state == VolumeState::Available;
        if is_named && is_other(self.snapshots_by_name.get(&name)) {
            return Err(Conflict::Name);
        }
        self.remove_snapshot(snapshot.id);
        self.snapshots_by_uuid.insert(snapshot.uuid, snapshot.id);
        if is_named {
            self.snapshots_by_name.insert(name, snapshot.id);
        }
        self.encoded_bytes += snapshot.encoded_bytes();
        self.snapshots.insert(snapshot.id, Arc::clone(snapshot));
        Ok(())
    }

    /// Removes a snapshot and returns it.
    pub(crate) fn remove_snapshot(&mut self, id: VolumeId) -> Option<Arc<SnapshotRecord>> {
        let snapshot = self.snapshots.remove(&id)?;
        self.encoded_bytes -= snapshot.encoded_bytes();
        self.snapshots_by_uuid.remove(&snapshot.uuid);
        if snapshot.state == VolumeState::Available {
            self.snapshots_by_name.remove(&(snapshot.project.clone(), snapshot.name.clone()));
        }
        Some(snapshot)
    }

    /// All snapshots in the order of their ids, which is that in which they were taken.
    pub(crate) fn snapshots(&self) -> impl ExactSizeIterator<Item = &Arc<SnapshotRecord>> {
        self.snapshots.values()
    }

    /// The snapshot of this id.
    pub(crate) fn snapshot(&self, id: VolumeId) -> Option<&Arc<SnapshotRecord>> {
        self.snapshots.get(&id)
    }

    /// The snapshot of this UUID.
    pub(crate) fn snapshot_by_uuid(&self, uuid: &[u8; 16]) -> Option<&Arc<SnapshotRecord>> {
        self.snapshots.get(self.snapshots_by_uuid.get(uuid)?)
    }

    /// Whether a snapshot that is not being deleted has this name.
    pub(crate) fn has_snapshot_name(&self, project: &str, name: &str) -> bool {
        self.snapshots_by_name.contains_key(&(project.to_owned(), name.to_owned()))
    }

    /// Stores a record of an unknown kind.
    pub(crate) fn put_other(&mut self, record: RawRecord) {
        self.remove_other(record.kind, record.key);
        self.encoded_bytes += record.encoded_bytes();
        self.others.insert((record.kind, record.key), Arc::new(record));
    }

    /// Removes a record of an unknown kind.
    pub(crate) fn remove_other(&mut self, kind: u16, key: u64) {
        if let Some(record) = self.others.remove(&(kind, key)) {
            self.encoded_bytes -= record.encoded_bytes();
        }
    }

    /// The volume of this id.
    pub(crate) fn volume(&self, id: VolumeId) -> Option<&Arc<VolumeRecord>> {
        self.volumes.get(&id)
    }

    /// The volume of this UUID.
    pub(crate) fn volume_by_uuid(&self, uuid: &[u8; 16]) -> Option<&Arc<VolumeRecord>> {
        self.volumes.get(self.by_uuid.get(uuid)?)
    }

    /// The volume of this NSID.
    pub(crate) fn volume_by_nsid(&self, nsid: u32) -> Option<&Arc<VolumeRecord>> {
        self.volumes.get(self.by_nsid.get(&nsid)?)
    }

    /// The volume of this name that is not being deleted.
    pub(crate) fn volume_by_name(&self, project: &str, name: &str) -> Option<&Arc<VolumeRecord>> {
        self.volumes.get(self.id_by_name(project, name)?)
    }

    /// All volumes in the order of their ids.
    pub(crate) fn volumes(&self) -> impl ExactSizeIterator<Item = &Arc<VolumeRecord>> {
        self.volumes.values()
    }

    /// Whether the NSID is a volume's.
    pub(crate) fn has_nsid(&self, nsid: u32) -> bool {
        self.by_nsid.contains_key(&nsid)
    }

    /// Every record, for a snapshot.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        let volumes = self.volumes.values().cloned().map(Stored::Volume);
        let snapshots = self.snapshots.values().cloned().map(Stored::Snapshot);
        volumes.chain(snapshots).chain(self.others.values().cloned().map(Stored::Other)).collect()
    }

    /// Bytes that all records take in frames.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    fn id_by_name(&self, project: &str, name: &str) -> Option<&VolumeId> {
        self.by_name.get(project)?.get(name)
    }
}

/// A record of the table.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Volume(Arc<VolumeRecord>),
    Snapshot(Arc<SnapshotRecord>),
    Other(Arc<RawRecord>),
}

impl Stored {
    /// Bytes that the record takes in a frame.
    pub(crate) fn encoded_bytes(&self) -> usize {
        match self {
            Self::Volume(volume) => volume.encoded_bytes(),
            Self::Snapshot(snapshot) => snapshot.encoded_bytes(),
            Self::Other(record) => record.encoded_bytes(),
        }
    }

    /// Appends the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Volume(volume) => volume.to_raw().encode(out),
            Self::Snapshot(snapshot) => snapshot.to_raw().encode(out),
            Self::Other(record) => record.encode(out),
        }
    }
}

const _: () = assert!(KIND_VOLUME != 0, "no kind is zero, so that zeros are no record");
