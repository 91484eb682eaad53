//! The management plane's view of the volumes: what readers see, and the one way to change it.
//!
//! The pool is authoritative. The view is filled from it at start, follows every outcome, and asks again at most once a
//! second when someone reads, for what changes by itself: usage, connected hosts, states. Changes of one volume are
//! made one at a time; a change goes on and reaches the view even if the client that asked for it is gone.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use dataplane::{
    Action, ActionError, Limits, Outcome, Snapshot, SnapshotSpec, Volume, VolumeChange, VolumeSpec,
    VolumeState, VolumeUuid,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::plane::{Plane, unreachable_outcome};

/// All volumes.
#[derive(Debug)]
pub(crate) struct View {
    plane: Plane,
    volumes: RefCell<BTreeMap<VolumeUuid, Rc<Volume>>>,
    /// Volumes that are being changed, and how.
    changing: RefCell<BTreeMap<VolumeUuid, Change>>,
    /// Counts changes begun, so that a list asked for before one is not taken for the state after it.
    changes: Cell<u64>,
    refreshed: Cell<Option<Instant>>,
    /// One refresh at a time; others wait for it.
    refreshing: Mutex<()>,
}

/// What is being done to a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// It, or a snapshot, is made in this project.
    Create {
        /// The project's name.
        project: String,
        /// What management keeps beside it.
        attributes: String,
    },
    /// It goes back to a snapshot.
    Rollback,
    /// Anything else; with what management will keep beside it, where that changes.
    Other(Option<String>),
}

impl Change {
    fn of(action: &Action) -> Self {
        match action {
            Action::CreateVolume(spec) | Action::CloneVolume { spec, .. } => {
                Self::Create { project: spec.project.clone(), attributes: spec.attributes.clone() }
            }
            Action::RollbackVolume { .. } => Self::Rollback,
            Action::UpdateVolume { change, .. } => Self::Other(change.attributes.clone()),
            _ => Self::Other(None),
        }
    }
}

impl View {
    /// A view of the volumes that the data plane serves.
    pub(crate) async fn load(plane: Plane) -> Result<Rc<Self>, ActionError> {
        let view = Self {
            plane,
            volumes: RefCell::default(),
            changing: RefCell::default(),
            changes: Cell::new(0),
            refreshed: Cell::new(None),
            refreshing: Mutex::new(()),
        };
        view.refresh().await?;
        Ok(Rc::new(view))
    }

    /// Makes a volume.
    pub(crate) async fn create(self: &Rc<Self>, spec: VolumeSpec) -> Result<Rc<Volume>, ActionError> {
        let uuid = spec.uuid;
        let volume = self.change(uuid, Action::CreateVolume(spec)).await?;
        volume.ok_or(ActionError::NotFound)
    }

    /// Changes a volume.
    pub(crate) async fn update(
        self: &Rc<Self>,
        uuid: VolumeUuid,
        change: VolumeChange,
        if_revision: Option<u64>,
    ) -> Result<(), ActionError> {
        self.change(uuid, Action::UpdateVolume { uuid, change, if_revision }).await.map(drop)
    }

    /// Limits a volume.
    pub(crate) async fn set_limits(
        self: &Rc<Self>,
        uuid: VolumeUuid,
        limits: Limits,
    ) -> Result<(), ActionError> {
        self.change(uuid, Action::SetLimits { uuid, limits }).await.map(drop)
    }

    /// Makes a volume that begins as a snapshot is.
    pub(crate) async fn clone_of(
        self: &Rc<Self>,
        spec: VolumeSpec,
        source: VolumeUuid,
    ) -> Result<Rc<Volume>, ActionError> {
        let uuid = spec.uuid;
        let volume = self.change(uuid, Action::CloneVolume { spec, source }).await?;
        volume.ok_or(ActionError::NotFound)
    }

    /// Makes a volume's content that of a snapshot.
    pub(crate) async fn roll_back(
        self: &Rc<Self>,
        uuid: VolumeUuid,
        snapshot: VolumeUuid,
        if_revision: Option<u64>,
    ) -> Result<(), ActionError> {
        self.change(uuid, Action::RollbackVolume { uuid, snapshot, if_revision }).await.map(drop)
    }

    /// Takes a snapshot of a volume of `project`, also if the client that asked for it is gone. Until it is listed the
    /// project has it as one that is being made.
    pub(crate) async fn take_snapshot(
        self: &Rc<Self>,
        project: &str,
        spec: SnapshotSpec,
    ) -> Result<Box<Snapshot>, ActionError> {
        let uuid = spec.uuid;
        let change = Change::Create { project: project.to_owned(), attributes: String::new() };
        self.changing.borrow_mut().insert(uuid, change);
        let view = self.clone();
        let task = tokio_uring::spawn(async move {
            let outcome = view.plane.ask(Action::CreateSnapshot(spec)).await;
            view.changing.borrow_mut().remove(&uuid);
            outcome
        });
        match task.await.unwrap_or(Err(ActionError::Stopping))? {
            Outcome::Snapshot(snapshot) => Ok(snapshot),
            other => unreachable_outcome(&other),
        }
    }

    /// Deletes a volume.
    pub(crate) async fn delete(
        self: &Rc<Self>,
        uuid: VolumeUuid,
        if_revision: Option<u64>,
    ) -> Result<(), ActionError> {
        self.change(uuid, Action::DeleteVolume { uuid, if_revision }).await.map(drop)
    }

    /// Brings the view up to date if it is older than a second.
    pub(crate) async fn freshen(&self) -> Result<(), ActionError> {
        let fresh = || self.refreshed.get().is_some_and(|at| at.elapsed() < FRESH);
        if fresh() {
            return Ok(());
        }
        let _one = self.refreshing.lock().await;
        if fresh() {
            return Ok(());
        }
        self.refresh().await
    }

    /// The next who reads asks the data plane again.
    #[cfg(test)]
    pub(crate) fn expire(&self) {
        self.refreshed.set(None);
    }

    /// Whether a volume is being changed.
    pub(crate) fn is_changing(&self, uuid: VolumeUuid) -> bool {
        self.changing.borrow().contains_key(&uuid)
    }

    /// True while a volume goes back to a snapshot.
    pub(crate) fn is_rolling_back(&self, uuid: VolumeUuid) -> bool {
        self.changing.borrow().get(&uuid) == Some(&Change::Rollback)
    }

    /// Whether a project has a volume here, or one that is being made or deleted, or a snapshot that is being taken.
    pub(crate) fn has_any_of(&self, project: &str) -> bool {
        let coming = |change: &Change| matches!(change, Change::Create { project: of, .. } if of == project);
        self.any(|volume| volume.spec.project == project) || self.changing.borrow().values().any(coming)
    }

    /// Whether there is such a volume here.
    pub(crate) fn any(&self, admits: impl Fn(&Volume) -> bool) -> bool {
        self.volumes.borrow().values().any(|volume| admits(volume))
    }

    /// The projects that have volumes here.
    pub(crate) fn projects(&self) -> BTreeSet<String> {
        self.volumes.borrow().values().map(|volume| volume.spec.project.clone()).collect()
    }

    /// What management will keep beside volumes that are being made or changed.
    pub(crate) fn coming_attributes(&self) -> Vec<String> {
        let attributes = |change: &Change| match change {
            Change::Create { attributes, .. } => Some(attributes.clone()),
            Change::Other(attributes) => attributes.clone(),
            Change::Rollback => None,
        };
        self.changing.borrow().values().filter_map(attributes).collect()
    }

    /// One volume.
    pub(crate) fn find(&self, uuid: VolumeUuid) -> Option<Rc<Volume>> {
        self.volumes.borrow().get(&uuid).cloned()
    }

    /// The volume of that name; a volume that is being deleted has given its name up.
    pub(crate) fn find_name(&self, project: &str, name: &str) -> Option<Rc<Volume>> {
        let volumes = self.volumes.borrow();
        let named = |volume: &&Rc<Volume>| volume.spec.project == project && volume.spec.name == name;
        volumes.values().filter(|volume| volume.state != VolumeState::Deleting).find(named).cloned()
    }

    /// Volumes after `offset`, in order of their UUIDs.
    pub(crate) fn after(&self, offset: Option<VolumeUuid>) -> Vec<Rc<Volume>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = offset.map_or(Unbounded, Excluded);
        self.volumes.borrow().range((from, Unbounded)).map(|(_, volume)| volume.clone()).collect()
    }

    /// Runs one change to its end; the volume as it is then, if it still is.
    async fn change(
        self: &Rc<Self>,
        uuid: VolumeUuid,
        action: Action,
    ) -> Result<Option<Rc<Volume>>, ActionError> {
        match self.changing.borrow_mut().entry(uuid) {
            Entry::Occupied(_) => return Err(ActionError::Busy),
            Entry::Vacant(place) => drop(place.insert(Change::of(&action))),
        }
        self.changes.set(self.changes.get() + 1);
        let view = self.clone();
        // A task of its own: the caller's connection may break, the outcome must reach the view all the same.
        let task = tokio_uring::spawn(async move {
            let outcome = view.plane.ask(action).await;
            view.changing.borrow_mut().remove(&uuid);
            view.apply(uuid, outcome?)
        });
        task.await.unwrap_or(Err(ActionError::Stopping))
    }

    fn apply(&self, uuid: VolumeUuid, outcome: Outcome) -> Result<Option<Rc<Volume>>, ActionError> {
        let mut volumes = self.volumes.borrow_mut();
        match outcome {
            Outcome::Volume(volume) => {
                let volume = Rc::from(volume);
                volumes.insert(uuid, Rc::clone(&volume));
                Ok(Some(volume))
            }
            Outcome::Done => {
                // Whether its space is free already is known to the next refresh.
                if let Some(volume) = volumes.get_mut(&uuid) {
                    Rc::make_mut(volume).state = VolumeState::Deleting;
                }
                self.refreshed.set(None);
                Ok(None)
            }
            other => unreachable_outcome(&other),
        }
    }

    async fn refresh(&self) -> Result<(), ActionError> {
        let changes = self.changes.get();
        let quiet = self.changing.borrow().is_empty();
        let listed = match self.plane.ask(Action::ListVolumes).await? {
            Outcome::Volumes(volumes) => volumes,
            other => unreachable_outcome(&other),
        };
        let mut listed: BTreeMap<VolumeUuid, Volume> =
            listed.into_iter().map(|volume| (volume.spec.uuid, volume)).collect();
        let mut volumes = self.volumes.borrow_mut();
        if quiet && changes == self.changes.get() {
            *volumes = listed.into_iter().map(|(uuid, volume)| (uuid, Rc::new(volume))).collect();
        } else {
            // The list may be older than an outcome that is here already: only what changes by itself is taken.
            volumes.retain(|uuid, volume| {
                let deleting = volume.state == VolumeState::Deleting;
                let now = listed.remove(uuid);
                let gone = deleting && now.is_none();
                if let Some(now) = now.filter(|now| !deleting && now.revision == volume.revision) {
                    *volume = Rc::new(now);
                }
                !gone
            });
        }
        self.refreshed.set(Some(Instant::now()));
        Ok(())
    }
}

const FRESH: Duration = Duration::from_secs(1);
