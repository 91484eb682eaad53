//! What the management plane does by itself: writes events, watches drives and volumes, follows the metadata store.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use dataplane::{SnapshotSpec, Volume, VolumeState, VolumeUuid};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::devices::serial_of;
use super::policies::{LIMITING, Policy};
use super::{Api, Parameters, rules, settings, timestamp, uses};
use crate::events::{Event, now_ns};
use crate::metadata::{Found, Kept as _, Kind, StoreError};
use crate::schedule::Schedule;

impl Api {
    /// Makes what must be there before the first request.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        let policy = Policy::no_limit();
        if self.records.revision(Kind::Policy, &policy.key()).is_none() {
            self.records.write(&policy).await?;
        }
        self.events.enable(settings::is_enabled(&self.records, settings::EVENT_LOG));
        Ok(())
    }

    /// Starts the tasks; they end with the runtime.
    pub(crate) fn start_tasks(self: &Rc<Self>) {
        tokio_uring::spawn(self.events.clone().run());
        tokio_uring::spawn(follow(self.clone()));
        tokio_uring::spawn(watch(self.clone()));
        tokio_uring::spawn(take_snapshots(self.clone()));
        tokio_uring::spawn(uses::follow(self.clone()));
    }
}

/// Brings what depends on records up to date each time they change.
async fn follow(api: Rc<Api>) {
    let mut changes = api.records.watch();
    let (mut endpoints, mut limits) = (None, None);
    loop {
        let now = Some(api.records.changes(&[Kind::AdminEndpoint]));
        if now != endpoints {
            endpoints = now;
            api.settle_endpoints();
        }
        let now = Some(api.records.changes(&LIMITING));
        if now != limits {
            limits = now;
            api.settle_limits().await;
        }
        api.events.enable(settings::is_enabled(&api.records, settings::EVENT_LOG));
        if changes.changed().await.is_err() {
            return;
        }
        // Changes often come several at once.
        sleep(FOLLOW_PAUSE).await;
    }
}

/// Takes snapshots by their schedules.
async fn take_snapshots(api: Rc<Api>) {
    loop {
        api.take_due(now_ns()).await;
        sleep(SCHEDULE_PAUSE).await;
    }
}

impl Api {
    /// Takes every snapshot that is due at `now_ns`, forgets schedules whose volumes are gone, and sets those back whose
    /// last time is still to come.
    pub(crate) async fn take_due(&self, now_ns: u64) {
        for Found { value: schedule, revision } in self.records.list::<Schedule>("") {
            if !self.is_own(&schedule) {
                continue;
            }
            if schedule.is_ahead(now_ns) {
                self.set_back(schedule, revision, now_ns).await;
                continue;
            }
            let Some(due_ns) = schedule.due(now_ns) else { continue };
            // The record first: of several management processes one takes the snapshot.
            let taken = Schedule { taken_ns: due_ns, ..schedule.clone() };
            let volume =
                rules::volume_uuid(&schedule.resource_uuid).ok().and_then(|uuid| self.view.find(uuid));
            let claimed = match &volume {
                Some(_) => self.records.replace(&taken, revision).await,
                None => self.records.remove(&schedule, revision).await,
            };
            match (claimed, volume) {
                (Ok(_), Some(volume)) => self.take(&schedule, &volume, due_ns).await,
                (Ok(_), None) => {
                    tracing::info!(
                        name = schedule.name,
                        "a schedule's volume is gone, and so is the schedule"
                    );
                }
                (Err(error), _) => tracing::warn!(%error, name = schedule.name, "a schedule waits"),
            }
        }
    }

    /// Lets a schedule go on from `now_ns`, which is before what it has taken.
    async fn set_back(&self, schedule: Schedule, revision: u64, now_ns: u64) {
        let (name, taken) = (schedule.name.clone(), timestamp(schedule.taken_ns));
        match self.records.replace(&Schedule { taken_ns: now_ns, ..schedule }, revision).await {
            Ok(_) => tracing::warn!(name, taken, "the clock was ahead: a schedule goes on from now"),
            Err(error) => tracing::warn!(%error, name, "a schedule waits"),
        }
    }

    /// Whether the schedule is of a volume of this node's pool: another node's is not seen here.
    fn is_own(&self, schedule: &Schedule) -> bool {
        let here =
            || rules::volume_uuid(&schedule.resource_uuid).is_ok_and(|uuid| self.view.find(uuid).is_some());
        !self.records.is_shared()
            || schedule.node == rules::uuid_text(self.site.identity.node_uuid)
            || schedule.node.is_empty() && here()
    }

    async fn take(&self, schedule: &Schedule, volume: &Volume, due_ns: u64) {
        let labels = super::volumes::labels_of(volume);
        let owner = super::volumes::owner_of(volume);
        let description = format!("by resource policy {}", schedule.name);
        let spec = SnapshotSpec {
            uuid: VolumeUuid(Uuid::new_v4().into_bytes()),
            name: schedule.snapshot_name(due_ns),
            source: volume.spec.uuid,
            retention_s: schedule.policy.retention_s().unwrap_or(0),
            attributes: json!({"labels": labels, "description": description, "owner": owner}).to_string(),
        };
        let name = spec.name.clone();
        let Err(error) = self.view.take_snapshot(&volume.spec.project, spec).await else {
            return tracing::info!(name, volume = volume.spec.name, "took a scheduled snapshot");
        };
        tracing::warn!(%error, name, volume = volume.spec.name, "a scheduled snapshot could not be taken");
        let text = format!("snapshot {name} of volume {} could not be taken: {error}", volume.spec.name);
        let event = event("Volume", "High", "ScheduledSnapshotFailed", 1004, text);
        let (project, uuid) = (&volume.spec.project, &schedule.resource_uuid);
        self.events.note(event.of_volume(project, uuid, &volume.spec.name));
    }
}

/// Looks at drives and volumes now and then, and notes what has become worse.
async fn watch(api: Rc<Api>) {
    let mut seen = Seen::default();
    loop {
        if let Err(error) = seen.look(&api).await {
            tracing::debug!(%error, "drives and volumes cannot be looked at");
        }
        sleep(WATCH_PAUSE).await;
    }
}

/// What was noted before.
#[derive(Debug, Default)]
struct Seen {
    failed: BTreeMap<String, Instant>,
    errors: BTreeMap<String, u64>,
    volumes: BTreeMap<VolumeUuid, Instant>,
}

impl Seen {
    async fn look(&mut self, api: &Api) -> Result<(), dataplane::ActionError> {
        let again = Duration::from_secs(Parameters(&api.records).health_interval_s());
        let due = |at: Option<&Instant>| at.is_none_or(|at| at.elapsed() >= again);
        for drive in api.plane.identity().await?.drives {
            let info = json!({"ID": serial_of(&drive.path), "Name": drive.path});
            if !drive.healthy && due(self.failed.get(&drive.path)) {
                self.failed.insert(drive.path.clone(), Instant::now());
                let text = format!("drive {} has failed", drive.path);
                api.events.note(Event {
                    drive: Some(info.clone()),
                    ..event("NVMeSSD", "Critical", "DriveFailed", 1001, text)
                });
            }
            let before = self.errors.insert(drive.path.clone(), drive.integrity_errors).unwrap_or(0);
            if drive.integrity_errors > before {
                let count = drive.integrity_errors - before;
                let text = format!("{count} blocks of drive {} were not what was written", drive.path);
                api.events.note(Event {
                    drive: Some(info),
                    ..event("DataIntegrity", "High", "IntegrityErrors", 1002, text)
                });
            }
        }
        api.view.freshen().await?;
        let volumes = api.view.after(None);
        self.volumes.retain(|uuid, _| volumes.iter().any(|volume| volume.spec.uuid == *uuid));
        for volume in volumes.iter().filter(|volume| volume.state == VolumeState::Failed) {
            let spec = &volume.spec;
            if due(self.volumes.get(&spec.uuid)) {
                self.volumes.insert(spec.uuid, Instant::now());
                let text = format!("volume {} of project {} has failed", spec.name, spec.project);
                let event = event("Volume", "Critical", "VolumeFailed", 1003, text);
                api.events.note(event.of_volume(&spec.project, &rules::uuid_text(spec.uuid.0), &spec.name));
            }
        }
        Ok(())
    }
}

fn event(component: &str, severity: &str, name: &str, code: u32, description: String) -> Event {
    Event {
        component: component.to_owned(),
        severity: severity.to_owned(),
        name: name.to_owned(),
        code,
        service: "NM".to_owned(),
        status: "Failed".to_owned(),
        description,
        ..Event::default()
    }
}

const FOLLOW_PAUSE: Duration = Duration::from_millis(200);
const SCHEDULE_PAUSE: Duration = Duration::from_secs(5);
const WATCH_PAUSE: Duration = Duration::from_secs(10);
