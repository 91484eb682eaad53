//! Executes what management asks: checks it against the directory, then begins the change or the question.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use io::{Io, Memory, Net};
use store::Directory;
use store::directory::{VolumeRecord, VolumeState};

use crate::action::{
    Action, ActionError, ConnectedHost, Limits, Outcome, Statistics, Volume, VolumeChange, VolumeSpec,
    VolumeUuid,
};
use crate::counters;
use crate::engine::Engine;
use crate::errand::{Plan, Step};
use crate::lead::Lead;
use crate::message::{Counters, Message, Reply, StopStep};
use crate::shape;

/// The largest volume in bytes, so that no arithmetic on offsets can overflow.
pub const VOLUME_BYTES_MAX: u64 = 1 << 50;

/// Questions that need every reactor's counters, and the stop.
#[derive(Default)]
pub(crate) struct Questions {
    next: u64,
    open: BTreeMap<u64, Question>,
    pub(crate) stop: Option<Reply>,
    pub(crate) stop_left: u16,
}

struct Question {
    left: u16,
    counters: Counters,
    asked: Asked,
    reply: Reply,
}

/// What a question to all reactors is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Volumes,
    Snapshots,
    Statistics,
    Identity,
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Begins what management asks for.
    pub(crate) fn on_action(&mut self, action: Action, reply: Reply, io: &mut I) {
        if self.stopping.has_begun() || self.questions.stop.is_some() {
            return reply(Err(ActionError::Stopping));
        }
        let Some(lead) = &mut self.lead else { return reply(Err(ActionError::Stopping)) };
        let begun = match action {
            Action::CreateVolume(spec) => lead.create(spec, io.unix_nanos()),
            Action::UpdateVolume { uuid, change, if_revision } => lead.update(uuid, change, if_revision),
            Action::SetLimits { uuid, limits } => lead.limit(uuid, limits),
            Action::DeleteVolume { uuid, if_revision } => lead.delete(uuid, if_revision),
            Action::CloneVolume { spec, source } => lead.clone_volume(spec, source, io.unix_nanos()),
            Action::RollbackVolume { uuid, snapshot, if_revision } => {
                lead.roll_back(uuid, snapshot, if_revision)
            }
            Action::CreateSnapshot(spec) => lead.take_snapshot(spec, io.unix_nanos()),
            Action::DeleteSnapshot { uuid, if_revision } => lead.delete_snapshot(uuid, if_revision),
            Action::ReadDiff(query) => return self.begin_diff(query, reply, io),
            Action::CountOwned(uuid) => return self.begin_owned(uuid, reply, io),
            Action::ListVolumes => return self.ask_counters(Asked::Volumes, reply, io),
            Action::ListSnapshots => return self.ask_counters(Asked::Snapshots, reply, io),
            Action::ReadStatistics => return self.ask_counters(Asked::Statistics, reply, io),
            Action::ListHosts => return reply(Ok(Outcome::Hosts(lead.hosts()))),
            Action::ReadIdentity => return self.ask_counters(Asked::Identity, reply, io),
            Action::AddDrive { path } => return self.begin_growth(path, reply, io),
            Action::Stop => return self.begin_stop(reply, io),
        };
        match begun {
            Err(error) => reply(Err(error)),
            Ok(plan) => self.begin_errand(plan, Some(reply), io),
        }
    }

    /// A reactor's counters have come.
    pub(crate) fn on_counters(&mut self, token: u64, counters: Counters) {
        let Some(lead) = &mut self.lead else { return };
        let Some(question) = self.questions.open.get_mut(&token) else { return };
        counters::add(&mut question.counters, counters);
        question.left -= 1;
        if question.left > 0 {
            return;
        }
        let Some(question) = self.questions.open.remove(&token) else { return };
        let outcome = match question.asked {
            Asked::Volumes => Outcome::Volumes(lead.volumes(&question.counters)),
            Asked::Snapshots => Outcome::Snapshots(lead.snapshots(&question.counters)),
            Asked::Statistics => Outcome::Statistics(Box::new(lead.statistics(question.counters))),
            Asked::Identity => Outcome::Identity(Box::new(lead.identity(&question.counters))),
        };
        (question.reply)(Ok(outcome));
    }

    fn ask_counters(&mut self, asked: Asked, reply: Reply, io: &mut I) {
        let directory = self.lead.as_ref().and_then(|lead| lead.directory.as_ref());
        let images: Arc<[store::VolumeId]> = match (asked, directory) {
            (Asked::Volumes, Some(directory)) => directory.volumes().map(|volume| volume.image).collect(),
            (Asked::Snapshots, Some(directory)) => {
                directory.snapshots().map(|snapshot| snapshot.id).collect()
            }
            (Asked::Statistics | Asked::Identity, _) | (_, None) => Arc::default(),
        };
        self.questions.next += 1;
        let token = self.questions.next;
        let question = Question { left: self.reactors, counters: Counters::default(), asked, reply };
        self.questions.open.insert(token, question);
        self.post.broadcast(io, || Message::ReadCounters { token, images: Arc::clone(&images) });
    }

    fn begin_stop(&mut self, reply: Reply, io: &mut I) {
        let Some(lead) = &self.lead else { return };
        for listener in 0..lead.listeners.len() {
            io.unlisten(io::ListenerId(u32::try_from(listener).expect("a few addresses")));
        }
        self.questions.stop = Some(reply);
        self.questions.stop_left = self.reactors;
        self.post.broadcast(io, || Message::Stop(StopStep::Drain));
    }
}

/// The change that an action asks for.
pub(crate) type Begun = Result<Plan, ActionError>;

impl<B: io::Buffer> Lead<B> {
    fn create(&mut self, spec: VolumeSpec, now_unix_ns: u64) -> Begun {
        check_size(spec.size_bytes)?;
        let record = self.new_volume(spec, now_unix_ns)?;
        Ok(Plan::of_volume(record, vec![Step::Record, Step::Fence, Step::Answer]))
    }

    /// The record of a volume that is empty and an image of its own.
    pub(crate) fn new_volume(
        &mut self,
        spec: VolumeSpec,
        now_unix_ns: u64,
    ) -> Result<VolumeRecord, ActionError> {
        let directory = self.directory.as_mut().ok_or(NO_POOL)?;
        if directory.has_name(&spec.project, &spec.name) {
            return Err(ActionError::Exists);
        }
        let nsid = allocate_nsid(directory, &self.identity.bench)?;
        let id = directory.allocate_volume_id();
        Ok(VolumeRecord {
            id,
            image: id,
            lineage: id,
            source: [0; 16],
            limits: shape::limits(spec.limits),
            uuid: spec.uuid.0,
            nsid,
            project: spec.project,
            name: spec.name,
            size_bytes: spec.size_bytes,
            sector: shape::sector(spec.sector),
            acl: shape::acl(spec.acl),
            ip_acl: shape::ip_acl(spec.ip_acl),
            compression: spec.compression,
            attributes: spec.attributes,
            revision: 1,
            created_unix_ns: now_unix_ns,
            state: VolumeState::Available,
        })
    }

    fn update(&mut self, uuid: VolumeUuid, change: VolumeChange, if_revision: Option<u64>) -> Begun {
        let old = self.changeable(uuid, if_revision)?;
        let mut record = VolumeRecord::clone(&old);
        record.revision += 1;
        if let Some(name) = change.name {
            record.name = name;
        }
        if let Some(acl) = change.acl {
            record.acl = shape::acl(acl);
        }
        if let Some(acl) = change.ip_acl {
            record.ip_acl = shape::ip_acl(acl);
        }
        if let Some(compression) = change.compression {
            record.compression = compression;
        }
        if let Some(limits) = change.limits {
            record.limits = shape::limits(limits);
        }
        if let Some(attributes) = change.attributes {
            record.attributes = attributes;
        }
        let mut steps = vec![Step::Record, Step::Fence, Step::Answer];
        if let Some(size_bytes) = change.size_bytes {
            check_size(size_bytes)?;
            record.size_bytes = size_bytes;
            if size_bytes < old.size_bytes && !change.shrink {
                return Err(ActionError::Invalid { field: "size", rule: "may not become smaller" });
            }
            if size_bytes <= old.size_bytes && change.shrink {
                // Flushed, or a power cut could bring back what nobody would clear any more. One that asks again for a
                // shrink that a crash interrupted has it ended.
                steps.splice(2..2, [clear(&old, size_bytes), Step::Flush]);
            } else if size_bytes > old.size_bytes {
                // What an interrupted shrink left behind must not come back, not even after a power cut: the larger
                // size may become durable only after the clearing.
                steps.splice(0..0, [clear(&old, old.size_bytes), Step::Flush]);
            }
        }
        Ok(Plan::of_volume(record, steps))
    }

    fn limit(&mut self, uuid: VolumeUuid, limits: Limits) -> Begun {
        let record =
            VolumeRecord { limits: shape::limits(limits), ..(*self.changeable(uuid, None)?).clone() };
        // The fence carries the limits: they hold on a reactor from the moment it hears of them.
        Ok(Plan::of_volume(record, vec![Step::Record, Step::Fence, Step::Answer]))
    }

    fn delete(&mut self, uuid: VolumeUuid, if_revision: Option<u64>) -> Begun {
        let old = self.changeable(uuid, if_revision)?;
        let record = VolumeRecord {
            state: VolumeState::Deleting,
            revision: old.revision + 1,
            ..VolumeRecord::clone(&old)
        };
        let (id, image) = (record.id, record.image);
        // The last of a snapshot's clones may go with it.
        let steps =
            vec![Step::Record, Step::Fence, Step::Answer, Step::Drop(image), Step::Forget(id), Step::Sweep];
        Ok(Plan::of_volume(record, steps))
    }

    /// The volume, if it may be changed now.
    pub(crate) fn changeable(
        &self,
        uuid: VolumeUuid,
        if_revision: Option<u64>,
    ) -> Result<Arc<VolumeRecord>, ActionError> {
        let volume = self.volume(&uuid.0).ok_or(ActionError::NotFound)?;
        if volume.state == VolumeState::Deleting {
            return Err(ActionError::NotFound);
        }
        if self.errands.is_busy(volume.id) {
            return Err(ActionError::Busy);
        }
        match if_revision {
            Some(revision) if revision != volume.revision => {
                Err(ActionError::RevisionMismatch { current: volume.revision })
            }
            Some(_) | None => Ok(Arc::clone(volume)),
        }
    }

    fn volumes(&self, counters: &Counters) -> Vec<Volume> {
        let hosts: Vec<_> = self.desk_ref().iter().flat_map(|desk| desk.hosts()).collect();
        let records = self.directory.iter().flat_map(|directory| directory.volumes());
        let mut volumes: Vec<Volume> = records
            .map(|record| {
                let mut volume = self.managed(record);
                volume.usage = counters.usage_of(record.image);
                self.owned.complete(record.image, &mut volume.usage);
                let shape = shape::of(record);
                let seeing = hosts.iter().filter(|host| shape.visible_to(&host.host_nqn, host.address));
                volume.connected_hosts = seeing.map(|host| host.host_nqn.as_str().to_owned()).collect();
                volume.connected_hosts.sort();
                volume.connected_hosts.dedup();
                volume
            })
            .collect();
        volumes.sort_by_key(|volume| volume.spec.uuid);
        volumes
    }

    fn hosts(&self) -> Vec<ConnectedHost> {
        let mut hosts: BTreeMap<String, ConnectedHost> = BTreeMap::new();
        for host in self.desk_ref().iter().flat_map(|desk| desk.hosts()) {
            let name = host.host_nqn.as_str().to_owned();
            let entry = hosts.entry(name.clone()).or_insert_with(|| ConnectedHost {
                host_nqn: name,
                addresses: Vec::new(),
                volumes: Vec::new(),
            });
            if !entry.addresses.contains(&host.address) {
                entry.addresses.push(host.address);
            }
            for volume in self.directory.iter().flat_map(|directory| directory.volumes()) {
                let uuid = VolumeUuid(volume.uuid);
                let served = volume.state == VolumeState::Available;
                if served
                    && shape::of(volume).visible_to(&host.host_nqn, host.address)
                    && !entry.volumes.contains(&uuid)
                {
                    entry.volumes.push(uuid);
                }
            }
        }
        hosts.into_values().collect()
    }

    fn statistics(&self, counters: Counters) -> Statistics {
        let (total, free, segment) = match (&self.segments, &self.layout) {
            (Some(segments), Some(layout)) => {
                (u64::from(segments.total()), u64::from(segments.free()), u64::from(layout.segment_bytes()))
            }
            _ => (0, 0, 0),
        };
        let mut series = counters.series;
        if let Some(desk) = self.desk_ref() {
            counters::add_desk(&mut series, desk);
        }
        series.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
        Statistics {
            pool_size_bytes: total * segment,
            pool_free_bytes: free * segment,
            pool_live_bytes: counters.live_bytes,
            pool_data_bytes: counters.data_bytes,
            pool_stored_bytes: counters.stored_bytes,
            host_written_bytes: counters.host_written_bytes,
            device_written_bytes: counters.device_written_bytes,
            series,
        }
    }
}

pub(crate) const NO_POOL: ActionError = ActionError::Invalid {
    field: "pool",
    rule: "this server has no pool: start it with --pool to make volumes",
};

pub(crate) fn check_size(size_bytes: u64) -> Result<(), ActionError> {
    if size_bytes == 0 || !size_bytes.is_multiple_of(4096) || size_bytes > VOLUME_BYTES_MAX {
        return Err(ActionError::Invalid {
            field: "size",
            rule: "must be a multiple of 4096 bytes, from 4096 to 1 PiB",
        });
    }
    Ok(())
}

/// An NSID that neither a volume nor one of these bench namespaces has.
fn allocate_nsid(directory: &mut Directory, bench: &[(u32, String)]) -> Result<u32, ActionError> {
    let nsid = directory.allocate_nsid(|nsid| bench.iter().any(|(taken, _)| *taken == nsid));
    nsid.ok_or(ActionError::CapacityExceeded("16,384 volumes and bench namespaces exist"))
}

/// Forgets what a volume's image has from a byte on.
fn clear(volume: &VolumeRecord, from_bytes: u64) -> Step {
    Step::Clear { image: volume.image, lineage: volume.lineage, from_bytes }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod test {
    use store::directory::NSID_MAX;
    use store::{Geometry, Layout};

    use super::*;

    #[test]
    fn a_volume_gets_no_nsid_of_a_bench_namespace_and_none_where_these_have_all() {
        let identity = store::Identity { pool: [1; 16], cluster: [2; 16], node: [3; 16] };
        let geometry = Geometry {
            shards: 1,
            segment_bytes: 256 << 10,
            directory_half_bytes: 256 << 10,
            block_bytes: 512,
            drive_bytes: vec![48 << 20],
            founders: 1,
        };
        let layout = Layout::new(identity, geometry).expect("a small pool");
        let mut directory = Directory::recover(&layout, 0);
        let bench = |nsids: std::ops::RangeInclusive<u32>| -> Vec<(u32, String)> {
            nsids.map(|nsid| (nsid, String::new())).collect()
        };
        assert_eq!(allocate_nsid(&mut directory, &bench(1..=NSID_MAX - 1)), Ok(NSID_MAX));
        let full = allocate_nsid(&mut directory, &bench(1..=NSID_MAX));
        assert!(matches!(full, Err(ActionError::CapacityExceeded(_))), "{full:?}");
    }
}
