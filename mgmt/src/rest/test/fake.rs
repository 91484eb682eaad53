//! A data plane in memory: it keeps the promises of [`Action`] as far as management sees them.

mod snapshots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use dataplane::{
    Action, ActionError, ConnectedHost, Drive, Handle, Identity, Outcome, Reply, Series, Snapshot,
    Statistics, Volume, VolumeChange, VolumeSpec, VolumeState, VolumeUsage, VolumeUuid,
};

/// The fake and what tests turn on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<VolumeUuid, Volume>,
    pub(super) snapshots: BTreeMap<VolumeUuid, Snapshot>,
    hosts: Vec<ConnectedHost>,
    next_nsid: u32,
    lists: u32,
    fail_next: Option<ActionError>,
    fail_any: Option<ActionError>,
    hold: bool,
    hold_snapshots: bool,
    hold_limits: bool,
    held: Vec<(Action, Reply)>,
    linger: bool,
}

impl Fake {
    /// A handle to send it actions.
    pub(crate) fn handle(&self) -> Handle {
        let fake = self.clone();
        Handle::new(move |action, reply| fake.take(action, reply))
    }

    /// Answers the next change with `error`.
    pub(crate) fn fail_next(&self, error: ActionError) {
        self.state.lock().unwrap().fail_next = Some(error);
    }

    /// Answers the next action with `error`, whatever it is.
    pub(crate) fn fail_any(&self, error: ActionError) {
        self.state.lock().unwrap().fail_any = Some(error);
    }

    /// Fails no more; whether nothing has failed since [`Self::fail_any`].
    pub(crate) fn calm(&self) -> bool {
        self.state.lock().unwrap().fail_any.take().is_some()
    }

    /// Keeps changes unanswered until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().hold = true;
    }

    /// Keeps new snapshots alone unanswered until [`Self::release`].
    pub(crate) fn hold_snapshots(&self) {
        self.state.lock().unwrap().hold_snapshots = true;
    }

    /// Keeps new limits alone unanswered until [`Self::release`].
    pub(crate) fn hold_limits(&self) {
        self.state.lock().unwrap().hold_limits = true;
    }

    /// How many changes are unanswered.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// Answers what was kept.
    pub(crate) fn release(&self) {
        let held = {
            let mut state = self.state.lock().unwrap();
            (state.hold, state.hold_snapshots, state.hold_limits) = (false, false, false);
            std::mem::take(&mut state.held)
        };
        for (action, reply) in held {
            self.take(action, reply);
        }
    }

    /// Deleted volumes stay in the list, being deleted.
    pub(crate) fn linger(&self) {
        self.state.lock().unwrap().linger = true;
    }

    /// Connects a host that sees every volume.
    pub(crate) fn connect(&self, host_nqn: &str) {
        let mut state = self.state.lock().unwrap();
        let volumes = state.volumes.keys().copied().collect();
        let addresses = vec!["10.1.2.3".parse().unwrap(), "fe80::1".parse().unwrap()];
        state.hosts.push(ConnectedHost { host_nqn: host_nqn.to_owned(), addresses, volumes });
        for volume in state.volumes.values_mut() {
            volume.connected_hosts.push(host_nqn.to_owned());
        }
    }

    /// Breaks every volume.
    pub(crate) fn break_volumes(&self) {
        for volume in self.state.lock().unwrap().volumes.values_mut() {
            volume.state = VolumeState::Failed;
        }
    }

    /// How often all volumes were listed.
    pub(crate) fn lists(&self) -> u32 {
        self.state.lock().unwrap().lists
    }

    fn take(&self, action: Action, reply: Reply) {
        let mut state = self.state.lock().unwrap();
        let changes = matches!(
            action,
            Action::CreateVolume(_)
                | Action::UpdateVolume { .. }
                | Action::DeleteVolume { .. }
                | Action::RollbackVolume { .. }
                | Action::AddDrive { .. }
        );
        let is_held = state.hold_snapshots && matches!(action, Action::CreateSnapshot(_))
            || state.hold_limits && matches!(action, Action::SetLimits { .. });
        if changes && state.hold || is_held {
            state.held.push((action, reply));
            return;
        }
        let failure = if changes { state.fail_next.take() } else { None };
        let failure = failure.or_else(|| state.fail_any.take());
        let outcome = match failure {
            Some(error) => Err(error),
            None => state.act(action),
        };
        drop(state);
        // As reactors do: from another thread.
        std::thread::spawn(move || reply(outcome));
    }
}

impl State {
    fn act(&mut self, action: Action) -> Result<Outcome, ActionError> {
        match action {
            Action::CreateVolume(spec) => self.create(spec),
            Action::UpdateVolume { uuid, change, if_revision } => self.update(uuid, change, if_revision),
            Action::SetLimits { uuid, limits } => {
                let volume = self.volumes.get_mut(&uuid).ok_or(ActionError::NotFound)?;
                volume.spec.limits = limits;
                Ok(Outcome::Volume(Box::new(volume.clone())))
            }
            Action::DeleteVolume { uuid, if_revision } => self.delete(uuid, if_revision),
            snapshots @ (Action::CloneVolume { .. }
            | Action::RollbackVolume { .. }
            | Action::CreateSnapshot(_)
            | Action::DeleteSnapshot { .. }
            | Action::ListSnapshots
            | Action::ReadDiff(_)) => self.act_on_snapshots(snapshots),
            Action::ListVolumes => {
                self.lists += 1;
                Ok(Outcome::Volumes(self.volumes.values().cloned().collect()))
            }
            Action::CountOwned(_) => Ok(Outcome::Owned(0)),
            Action::ListHosts => Ok(Outcome::Hosts(self.hosts.clone())),
            Action::ReadStatistics => Ok(Outcome::Statistics(Box::new(statistics()))),
            Action::ReadIdentity => Ok(Outcome::Identity(Box::new(identity()))),
            Action::AddDrive { .. } | Action::Stop => Ok(Outcome::Done),
        }
    }

    fn named(&self, project: &str, name: &str) -> bool {
        let mut live = self.volumes.values().filter(|volume| volume.state != VolumeState::Deleting);
        live.any(|volume| volume.spec.project == project && volume.spec.name == name)
    }

    pub(super) fn create(&mut self, spec: VolumeSpec) -> Result<Outcome, ActionError> {
        if self.named(&spec.project, &spec.name) {
            return Err(ActionError::Exists);
        }
        self.next_nsid += 1;
        let volume = Volume {
            nsid: self.next_nsid,
            revision: 1,
            created_unix_ns: 1_767_225_600_000_000_000,
            state: VolumeState::Available,
            source: None,
            source_name: String::new(),
            connected_hosts: Vec::new(),
            usage: VolumeUsage::default(),
            spec,
        };
        self.volumes.insert(volume.spec.uuid, volume.clone());
        Ok(Outcome::Volume(Box::new(volume)))
    }

    fn update(
        &mut self,
        uuid: VolumeUuid,
        change: VolumeChange,
        if_revision: Option<u64>,
    ) -> Result<Outcome, ActionError> {
        let volume = self.volumes.get(&uuid).ok_or(ActionError::NotFound)?;
        check_revision(volume, if_revision)?;
        if change.name.as_ref().is_some_and(|name| self.named(&volume.spec.project, name)) {
            return Err(ActionError::Exists);
        }
        let volume = self.volumes.get_mut(&uuid).ok_or(ActionError::NotFound)?;
        if change.size_bytes.is_some_and(|size| size < volume.spec.size_bytes) && !change.shrink {
            return Err(ActionError::Invalid { field: "size", rule: "not smaller" });
        }
        volume.spec.name = change.name.unwrap_or(volume.spec.name.clone());
        volume.spec.size_bytes = change.size_bytes.unwrap_or(volume.spec.size_bytes);
        volume.spec.acl = change.acl.unwrap_or(volume.spec.acl.clone());
        volume.spec.ip_acl = change.ip_acl.unwrap_or(volume.spec.ip_acl.clone());
        volume.spec.compression = change.compression.unwrap_or(volume.spec.compression);
        volume.spec.limits = change.limits.unwrap_or(volume.spec.limits);
        volume.spec.attributes = change.attributes.unwrap_or(volume.spec.attributes.clone());
        volume.revision += 1;
        Ok(Outcome::Volume(Box::new(volume.clone())))
    }

    fn delete(&mut self, uuid: VolumeUuid, if_revision: Option<u64>) -> Result<Outcome, ActionError> {
        let volume = self.volumes.get_mut(&uuid).ok_or(ActionError::NotFound)?;
        check_revision(volume, if_revision)?;
        volume.state = VolumeState::Deleting;
        if !self.linger {
            self.volumes.remove(&uuid);
        }
        Ok(Outcome::Done)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("volumes", &self.volumes).finish_non_exhaustive()
    }
}

fn check_revision(volume: &Volume, if_revision: Option<u64>) -> Result<(), ActionError> {
    match if_revision {
        Some(expected) if expected != volume.revision => {
            Err(ActionError::RevisionMismatch { current: volume.revision })
        }
        _ => Ok(()),
    }
}

/// Who the fake says it is.
pub(crate) fn identity() -> Identity {
    Identity {
        cluster_uuid: [0xc1; 16],
        node_uuid: [0x0d; 16],
        subsystem_nqn: "nqn.2014-08.org.nvmexpress:uuid:c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1".to_owned(),
        listen: vec!["127.0.0.1:4420".parse().unwrap()],
        discovery: vec!["127.0.0.1:8009".parse().unwrap()],
        advertised: vec!["127.0.0.1:4420".parse().unwrap()],
        drives: vec![Drive {
            path: "/pool".to_owned(),
            size_bytes: 1 << 30,
            healthy: true,
            integrity_errors: 0,
        }],
        bench: Vec::new(),
        reactors: vec!["cpu 0".to_owned()],
    }
}

fn statistics() -> Statistics {
    let series = |name, labels: &str, value| Series {
        name,
        help: "Help.",
        counter: true,
        labels: labels.to_owned(),
        value,
    };
    Statistics {
        pool_size_bytes: 1 << 30,
        pool_free_bytes: 1 << 29,
        pool_live_bytes: 0,
        pool_data_bytes: 0,
        pool_stored_bytes: 0,
        host_written_bytes: 4096,
        device_written_bytes: 8192,
        series: vec![
            series("nvme_commands_total", "opcode=\"read\"", 7.0),
            series("nvme_commands_total", "opcode=\"write\"", 8.5),
            series("nvme_host_commands_total", "host_nqn=\"nqn.secret\"", 1.0),
        ],
    }
}
