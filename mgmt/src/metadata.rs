//! What the management plane keeps: records under a kind and a key, changed only by compare-and-swap.
//!
//! Volumes are not here: the pool describes itself. The trait is the shape of every key-value store with
//! transactions, so that one node's redb and a cluster's etcd serve alike; it is asynchronous because neither may
//! block the management thread.

mod embedded;
mod records;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use thiserror::Error;

pub(crate) use embedded::Embedded;
pub(crate) use records::{Found, Kept, Records};

/// A store of records.
pub(crate) trait Store: fmt::Debug {
    /// Every record, in order of kind and key.
    fn load(&self) -> Pending<'_, Vec<Record>>;

    /// Makes all `changes` durable, or none of them; returns the revision that they got.
    fn commit(&self, changes: Vec<Change>) -> Pending<'_, u64>;
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
    /// The cluster itself; its only key is empty.
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
    /// The file was written by another version of the program.
    #[error("schema version {found} is unknown; this program knows version {known}")]
    Schema {
        /// The version that was found.
        found: u64,
        /// The version that this program writes.
        known: u64,
    },
    /// A record cannot be read.
    #[error("{kind} {key:?} is damaged")]
    Damaged {
        /// What it is about.
        kind: Kind,
        /// Which one.
        key: String,
        /// What the parser said.
        source: serde_json::Error,
    },
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
    const ALL: [Self; 16] = [
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
    /// A change that writes `value`.
    pub(crate) fn put<T: Kept>(value: &T, expect: Expect) -> Self {
        let text = serde_json::to_vec(value).expect("records have string keys and no failing parts");
        Self { kind: T::KIND, key: value.key(), expect, value: Some(text) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Record {
    /// Reads the record's JSON text.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.value).map_err(|source| StoreError::Damaged {
            kind: self.kind,
            key: self.key.clone(),
            source,
        })
    }
}
