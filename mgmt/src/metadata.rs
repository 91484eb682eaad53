//! What the management plane keeps: records under a kind and a key, changed only by compare-and-swap.
//!
//! Volumes are not here: the pool describes itself. The trait is the shape of every key-value store with
//! transactions, so that one node's redb and a cluster's etcd serve alike; it is asynchronous because neither may
//! block the management thread.
//!
//! A store that several servers share tells each of them what the others have changed. Two things keep their changes
//! apart: a change of a record names the revision that it replaces, and a change that rests on several records names
//! the revision of the guard, which every such change moves.

mod embedded;
mod etcd;
mod location;
mod records;
mod schema;
pub(crate) mod transfer;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

pub(crate) use embedded::Embedded;
pub(crate) use etcd::Etcd;
pub(crate) use location::{EtcdArgs, EtcdLocation, FILE_NAME, Location};
pub(crate) use records::{Found, Kept, Records};

/// A store of records.
pub(crate) trait Store: fmt::Debug {
    /// Every record, in order of kind and key.
    fn load(&self) -> Pending<'_, Loaded>;

    /// Makes all `changes` durable, or none of them; returns the revision that they got. With a guard, only if that is
    /// still the guard's revision, which then becomes that of the changes.
    fn commit(&self, changes: Vec<Change>, guard: Option<u64>) -> Pending<'_, u64>;

    /// What others change from here on; none if nobody else can. To be asked for once.
    fn news(&self) -> Option<mpsc::Receiver<News>> {
        None
    }

    /// Whether other servers use the store, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Since when the store has not answered; none while it does.
    fn silence(&self) -> Option<Silence> {
        None
    }
}

/// All that a store holds at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The records, in order of kind and key.
    pub(crate) records: Vec<Record>,
    /// The newest revision.
    pub(crate) revision: u64,
    /// The guard's revision; 0 if it was never moved.
    pub(crate) guard: u64,
}

/// What others have changed.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// Everything anew: what is not among it is gone.
    All(Loaded),
    /// What some commits have changed, in their order.
    Some {
        /// The records.
        changes: Vec<Changed>,
        /// The guard's revision, if it was moved.
        guard: Option<u64>,
    },
}

/// A record that was changed.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// What it is about.
    pub(crate) kind: Kind,
    /// Which one.
    pub(crate) key: String,
    /// The commit that changed it.
    pub(crate) revision: u64,
    /// Its JSON text; none if it was deleted.
    pub(crate) value: Option<Vec<u8>>,
}

/// A store that does not answer.
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    /// For how long.
    pub(crate) lasts: Duration,
    /// Which store it is, and what the last attempt said.
    pub(crate) reason: String,
}

/// An answer under way.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A further port of the REST interface; keyed by the port.
    AdminEndpoint,
    /// Which role a claim of another issuer gives; keyed by its name.
    AuthMap,
    /// A node, and the cluster that its pool is of; keyed by the node's UUID.
    Cluster,
    /// A parameter of the cluster; keyed by its name.
    ClusterParameter,
    /// A key that verifies tokens; keyed by `<project>:<id>`.
    Credential,
    /// Something that has happened; keyed by its number.
    Event,
    /// A feature that was turned on or off; keyed by its name.
    FeatureFlag,
    /// How tokens of another issuer are read; keyed by its name.
    IdpClientConf,
    /// Another issuer of tokens; keyed by its name.
    IdpConfiguration,
    /// A role that issues tokens; keyed by its name.
    IssuingRole,
    /// A policy that volumes can have; keyed by its UUID.
    Policy,
    /// A project; keyed by its name.
    Project,
    /// A node whose pool has something of a project; keyed by `<node>/<project>`.
    ProjectUse,
    /// A token taken back; keyed by `jti/<id>` or `sub/<subject>`.
    Revocation,
    /// A schedule of snapshots; keyed by its UUID.
    Schedule,
    /// A host that authenticates; keyed by `<project>:<name>`.
    TrustedHost,
    /// A user with a password; keyed by its name.
    User,
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What it is about.
    pub(crate) kind: Kind,
    /// Which one.
    pub(crate) key: String,
    /// The commit that wrote it; grows over all records.
    pub(crate) revision: u64,
    /// Its JSON text.
    pub(crate) value: Vec<u8>,
}

/// A change of one record.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// What it is about.
    pub(crate) kind: Kind,
    /// Which one.
    pub(crate) key: String,
    /// What must be there for the change to be made.
    pub(crate) expect: Expect,
    /// Its new JSON text; none deletes it.
    pub(crate) value: Option<Vec<u8>>,
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Whatever is there.
    Anything,
    /// Nothing.
    Absent,
    /// Exactly this revision.
    Revision(u64),
}

/// Why a store refused or failed.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// Another change came first.
    #[error("{kind} {key:?} was changed by another request")]
    Conflict {
        /// What it is about.
        kind: Kind,
        /// Which one.
        key: String,
    },
    /// A later version of the program has written it.
    #[error(
        "schema version {found} is of a later ferrule; this one knows versions up to {known}: install the later one"
    )]
    Schema {
        /// The version that was found.
        found: u64,
        /// The version that this program writes.
        known: u64,
    },
    /// What it holds is elsewhere, or not all here.
    #[error("{0}")]
    Moved(String),
    /// It does not answer: a change may have been made or not.
    #[error(
        "the metadata store does not answer ({0}): nothing can be changed until it does, volumes are served all the same; \
         see that etcd runs and can be reached from here"
    )]
    Unavailable(String),
    /// The file below failed.
    #[error("{context}")]
    Failed {
        /// What was being done.
        context: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::AdminEndpoint,
        Self::AuthMap,
        Self::Cluster,
        Self::ClusterParameter,
        Self::Credential,
        Self::Event,
        Self::FeatureFlag,
        Self::IdpClientConf,
        Self::IdpConfiguration,
        Self::IssuingRole,
        Self::Policy,
        Self::Project,
        Self::ProjectUse,
        Self::Revocation,
        Self::Schedule,
        Self::TrustedHost,
        Self::User,
    ];

    /// Its name in keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AdminEndpoint => "adminEndpoint",
            Self::AuthMap => "authMap",
            Self::Cluster => "cluster",
            Self::ClusterParameter => "clusterParameter",
            Self::Credential => "credential",
            Self::Event => "event",
            Self::FeatureFlag => "featureFlag",
            Self::IdpClientConf => "idpClientConf",
            Self::IdpConfiguration => "idpConfiguration",
            Self::IssuingRole => "issuing-role",
            Self::Policy => "policy",
            Self::Project => "project",
            Self::ProjectUse => "projectUse",
            Self::Revocation => "revocation",
            Self::Schedule => "schedule",
            Self::TrustedHost => "trustedHost",
            Self::User => "user",
        }
    }

    /// The kind of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Change {
    /// A change that deletes a record, if there is one.
    pub(crate) fn delete(kind: Kind, key: impl Into<String>) -> Self {
        Self { kind, key: key.into(), expect: Expect::Anything, value: None }
    }

    /// A change that writes `value`.
    pub(crate) fn put<T: Kept>(value: &T, expect: Expect) -> Self {
        let text = serde_json::to_vec(value).expect("records have string keys and no failing parts");
        Self { kind: T::KIND, key: value.key(), expect, value: Some(text) }
    }
}

impl StoreError {
    /// Whether the store may answer later, with nothing changed here.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    fn failed(context: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Failed { context: context.into(), source: Box::new(source) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
