//! Which projects have something in this server's pool, for the other servers of the metadata store to know.
//!
//! A volume lies in one server's pool, its project and its policy in the store of all servers. A use, which is a record of
//! the store, is made before a project's first volume is, and ends some seconds after the last volume or snapshot has gone:
//! as long as there is one, no server deletes the project, nor the policies that the use names. Uses are changed only by
//! the node that they are of, under the right to change several records, as projects and policies are.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use dataplane::ActionError;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::error::ApiError;
use super::volumes::policy_of;
use super::{Api, snapshots};
use crate::directory::{Project, project_uuid};
use crate::metadata::{Change, Expect, Kept, Kind, StoreError};

/// A node whose pool has something of a project.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct ProjectUse {
    /// The node's UUID.
    pub(super) node: String,
    /// The name of its server, for people.
    pub(super) server: String,
    /// The project's name.
    pub(super) project: String,
    /// The policies that volumes of the project have by themselves there, by UUID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) policies: Vec<String>,
}

impl Kept for ProjectUse {
    const KIND: Kind = Kind::ProjectUse;

    fn key(&self) -> String {
        format!("{}/{}", self.node, self.project)
    }
}

impl Api {
    /// Keeps a project, and a policy if its UUID is not empty, from being deleted before a volume is made in the one or
    /// gets the other. The change must be begun at once: nobody else may have a turn in between.
    pub(super) async fn claim(&self, project: &str, policy: &str) -> Result<(), ApiError> {
        // Whoever deletes them here has this right until they are gone.
        let one = self.records.exclusive().await;
        if self.records.revision(Kind::Project, project).is_none() {
            return Err(ApiError::invalid(format!("project {project} does not exist")));
        }
        if !policy.is_empty() && self.records.revision(Kind::Policy, policy).is_none() {
            return Err(ApiError::invalid("qosPolicyUUID, qosPolicyName: the policy has been deleted"));
        }
        // With a store of one's own, there is nobody to be told.
        if !self.records.is_shared() {
            return Ok(());
        }
        let mut claim = self.use_of(project);
        let noted = self.records.get::<ProjectUse>(&claim.key());
        let is_new = noted.is_none();
        claim.policies = noted.map(|found| found.value.policies).unwrap_or_default();
        let adds = !policy.is_empty() && !claim.policies.iter().any(|own| own == policy);
        if adds {
            claim.policies.push(policy.to_owned());
        }
        if is_new || adds {
            one.commit(vec![Change::put(&claim, Expect::Anything)]).await?;
        }
        Ok(())
    }

    /// The other servers that have something of a project.
    pub(super) fn other_users(&self, project: &str) -> Vec<ProjectUse> {
        if !self.records.is_shared() {
            return Vec::new();
        }
        let node = self.site.node_uuid();
        let uses = self.records.list::<ProjectUse>("").into_iter().map(|found| found.value);
        uses.filter(|one| one.project == project && one.node != node).collect()
    }

    /// Another server where a volume has the policy of this UUID.
    pub(super) fn other_user_of_policy(&self, policy: &str) -> Option<ProjectUse> {
        let node = self.site.node_uuid();
        let uses = self.records.list::<ProjectUse>("").into_iter().map(|found| found.value);
        let mut others = uses.filter(|one| self.records.is_shared() && one.node != node);
        others.find(|one| one.policies.iter().any(|own| own == policy))
    }

    /// What ends this node's own use of a project, where one is noted.
    pub(super) fn end_of_use(&self, project: &str) -> Option<Change> {
        let own = self.use_of(project);
        self.records.revision(Kind::ProjectUse, &own.key()).map(|_| forget(own))
    }

    /// Makes the projects of everything in the pool that are missing, and notes which they are.
    pub(crate) async fn settle_projects(&self) -> Result<(), SettleError> {
        self.view.freshen().await?;
        let used = self.used_projects().await?;
        for name in &used {
            let mut before = self.records.watch();
            loop {
                let one = self.records.exclusive().await;
                let Some(changes) = self.missing(name) else { break };
                // Another server may make or delete it in this moment.
                let outcome = one.commit(changes).await;
                drop(one);
                match outcome {
                    Err(StoreError::Conflict { .. }) => self.records.catch_up(&mut before).await,
                    outcome => drop(outcome?),
                }
            }
        }
        // In a store that is shared, uses that are over are ended soon; in one's own there are none to be noted.
        let stale = if self.records.is_shared() { Vec::new() } else { self.own_uses() };
        let stale: Vec<Change> = stale.into_iter().map(forget).collect();
        if !stale.is_empty() {
            self.records.commit(stale).await?;
        }
        Ok(())
    }

    /// What is not there of a project and of this node's use of it; none if everything is.
    fn missing(&self, name: &str) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        if self.records.revision(Kind::Project, name).is_none() {
            let project = Project {
                uuid: project_uuid(self.site.identity.cluster_uuid, name),
                name: name.to_owned(),
                description: String::new(),
                default_policies: Vec::new(),
            };
            changes.push(Change::put(&project, Expect::Absent));
        }
        let mut own = self.use_of(name);
        for volume in self.view.after(None).iter().filter(|volume| volume.spec.project == name) {
            let policy = policy_of(volume).filter(|policy| !own.policies.contains(policy));
            own.policies.extend(policy);
        }
        let noted = self.records.get::<ProjectUse>(&own.key()).map(|found| found.value.policies);
        let all = noted.as_ref().is_some_and(|noted| own.policies.iter().all(|one| noted.contains(one)));
        // What is noted may be of a volume that is about to be made.
        let further = noted.unwrap_or_default().into_iter().filter(|one| !own.policies.contains(one));
        let further: Vec<String> = further.collect();
        own.policies.extend(further);
        if self.records.is_shared() && !all {
            changes.push(Change::put(&own, Expect::Anything));
        }
        (!changes.is_empty()).then_some(changes)
    }

    /// Ends the uses of projects that have nothing here any more, and of policies that no volume has.
    async fn end_uses(&self) -> Result<(), SettleError> {
        if self.own_uses().iter().all(|one| self.lasts(one)) {
            return Ok(());
        }
        self.view.freshen().await?;
        let one = self.records.exclusive().await;
        // What has no volume now gets no snapshot, and a volume only under this right: the list that follows is whole.
        let over: Vec<ProjectUse> = self.own_uses().into_iter().filter(|one| !self.lasts(one)).collect();
        let used = self.used_projects().await?;
        let mut changes = Vec::new();
        for mut over in over {
            if !used.contains(&over.project) && !self.view.has_any_of(&over.project) {
                changes.push(forget(over));
                continue;
            }
            let before = over.policies.len();
            over.policies.retain(|policy| self.has_policy(&over.project, policy));
            if over.policies.len() != before {
                changes.push(Change::put(&over, Expect::Anything));
            }
        }
        if !changes.is_empty() {
            one.commit(changes).await?;
        }
        Ok(())
    }

    /// Whether volumes still need all of a use.
    fn lasts(&self, one: &ProjectUse) -> bool {
        let needed = |policy: &String| self.has_policy(&one.project, policy);
        self.view.has_any_of(&one.project) && one.policies.iter().all(needed)
    }

    /// Whether a volume of a project has a policy, or is about to get it.
    fn has_policy(&self, project: &str, policy: &str) -> bool {
        // The text decides: to read it as JSON takes long where there are many.
        self.view.any(|volume| volume.spec.project == project && volume.spec.attributes.contains(policy))
            || self.view.coming_attributes().iter().any(|attributes| attributes.contains(policy))
    }

    /// The uses that are noted of this node; with a store of one's own, also those that were noted of any other.
    fn own_uses(&self) -> Vec<ProjectUse> {
        let node = self.site.node_uuid();
        let shared = self.records.is_shared();
        let mut uses: Vec<ProjectUse> = self.records.list("").into_iter().map(|found| found.value).collect();
        uses.retain(|one| !shared || one.node == node);
        uses
    }

    /// The projects that have a volume or a snapshot in the pool.
    async fn used_projects(&self) -> Result<BTreeSet<String>, ActionError> {
        let snapshots = snapshots::all(self).await?;
        let mut projects = self.view.projects();
        projects.extend(snapshots.into_iter().map(|snapshot| snapshot.project));
        Ok(projects)
    }

    fn use_of(&self, project: &str) -> ProjectUse {
        ProjectUse {
            node: self.site.node_uuid(),
            server: self.site.hostname.clone(),
            project: project.to_owned(),
            policies: Vec::new(),
        }
    }
}

/// Ends uses now and then, for as long as the server runs.
pub(super) async fn follow(api: Rc<Api>) {
    if !api.records.is_shared() {
        return;
    }
    loop {
        if let Err(error) = api.end_uses().await {
            tracing::debug!(%error, "uses of projects cannot be ended now");
        }
        sleep(PAUSE).await;
    }
}

fn forget(one: ProjectUse) -> Change {
    Change::delete(Kind::ProjectUse, one.key())
}

/// Why what the pool has cannot be made known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// The data plane failed.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whoever has deleted a project's last volume here may delete the project elsewhere after this time.
const PAUSE: Duration = Duration::from_secs(2);
