//! Which projects have something in this server's pool, for the other servers of the metadata store to know.
//!
//! A volume lies in one server's pool, its project in the store of all servers. A use, which is a record of the store, is made
//! before a project's first volume is, and ends some seconds after the last volume or snapshot has gone: as long as there
//! is one, no server deletes the project. Uses are changed only by the node that they are of, under the right to change
//! several records, as projects are.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use dataplane::ActionError;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::error::ApiError;
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
}

impl Kept for ProjectUse {
    const KIND: Kind = Kind::ProjectUse;

    fn key(&self) -> String {
        format!("{}/{}", self.node, self.project)
    }
}

impl Api {
    /// Keeps a project from being deleted before a volume is made in it. The volume must be begun at once: nobody else may
    /// have a turn in between.
    pub(super) async fn claim(&self, project: &str) -> Result<(), ApiError> {
        // Whoever deletes it here has this right until it is gone.
        let one = self.records.exclusive().await;
        if self.records.revision(Kind::Project, project).is_none() {
            return Err(ApiError::invalid(format!("project {project} does not exist")));
        }
        let claim = self.use_of(project);
        // With a store of one's own, there is nobody to be told.
        if self.records.is_shared() && self.records.revision(Kind::ProjectUse, &claim.key()).is_none() {
            one.create(&claim).await?;
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
            while let Some(changes) = self.missing(name) {
                // Another server may make or delete it in this moment.
                match self.records.exclusive().await.commit(changes).await {
                    Err(StoreError::Conflict { .. }) => self.records.catch_up(&mut before).await,
                    outcome => drop(outcome?),
                }
            }
        }
        let stale: Vec<Change> =
            self.own_uses(|project| !used.contains(project)).into_iter().map(forget).collect();
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
        let own = self.use_of(name);
        if self.records.is_shared() && self.records.revision(Kind::ProjectUse, &own.key()).is_none() {
            changes.push(Change::put(&own, Expect::Anything));
        }
        (!changes.is_empty()).then_some(changes)
    }

    /// Ends the uses of projects that have nothing here any more.
    async fn end_uses(&self) -> Result<(), SettleError> {
        let volumes = self.view.projects();
        if self.own_uses(|project| !volumes.contains(project)).is_empty() {
            return Ok(());
        }
        self.view.freshen().await?;
        let used = self.used_projects().await?;
        let one = self.records.exclusive().await;
        // The look was before the right: a volume may have been begun meanwhile.
        let over = |project: &str| !used.contains(project) && !self.view.has_any_of(project);
        let changes: Vec<Change> = self.own_uses(over).into_iter().map(forget).collect();
        if !changes.is_empty() {
            one.commit(changes).await?;
        }
        Ok(())
    }

    /// The uses that are noted of this node; with a store of one's own, also those that were noted of any other.
    fn own_uses(&self, admits: impl Fn(&str) -> bool) -> Vec<ProjectUse> {
        let node = self.site.node_uuid();
        let shared = self.records.is_shared();
        let mut uses: Vec<ProjectUse> = self.records.list("").into_iter().map(|found| found.value).collect();
        uses.retain(|one: &ProjectUse| !shared || one.node == node && admits(&one.project));
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
