//! Projects and credentials: read from memory for every request, changed through the metadata store.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::auth::algorithm::{Algorithm, Family};
use crate::auth::key::{KeyError, VerifyingKey};
use crate::auth::{SYSTEM, Trusted};
use crate::metadata::{Kept, Kind, Records, StoreError};

/// All projects and credentials.
#[derive(Debug)]
pub(crate) struct Directory {
    records: Rc<Records>,
    /// What was read from the credentials of those revisions.
    read: RefCell<Read>,
    /// Credentials whose removal is being made durable: their tokens are refused already.
    going: RefCell<BTreeSet<(String, String)>>,
    /// Counts removals that have begun, so that nothing verified before outlives one.
    removals: Cell<u64>,
}

/// By project and id: the credential's revision, and the credential.
type Read = BTreeMap<(String, String), (u64, Credential)>;

/// A project.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Project {
    /// Its name, also its key.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) uuid: String,
    /// What people say of it.
    pub(crate) description: String,
    /// Policies that its resources get unless told otherwise.
    #[serde(default)]
    pub(crate) default_policies: Vec<DefaultPolicy>,
}

/// A policy that a project's resources get unless told otherwise.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DefaultPolicy {
    /// The contract's name of the type.
    #[serde(default)]
    pub(crate) policy_type: String,
    /// Which policy.
    #[serde(default, rename = "policyUUID")]
    pub(crate) policy_uuid: String,
}

/// A registered key.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// What is stored.
    pub(crate) record: CredentialRecord,
    /// The key, for the types that verify tokens.
    key: Option<VerifyingKey>,
    /// The commit that wrote it.
    pub(crate) revision: u64,
}

/// A credential as it is stored.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct CredentialRecord {
    /// The project that it belongs to, or the pseudo project `system`.
    pub(crate) project: String,
    /// Its name in the project.
    pub(crate) id: String,
    /// What the payload is.
    pub(crate) kind: CredentialKind,
    /// The payload in base64, as the client sent it.
    pub(crate) payload: String,
    /// What its tokens have as `iss`; those without a `kid` are found by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// What its tokens have as `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<String>,
}

/// What a credential's payload is: a public key in PEM form or a secret, and the algorithm that it is for.
///
/// The contract knows the first; the others are types of this server's own.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A public RSA key for RS256.
    RS256PubKey,
    /// A public RSA key for RS384.
    RS384PubKey,
    /// A public RSA key for RS512.
    RS512PubKey,
    /// A public key on P-256.
    ES256PubKey,
    /// A public key on P-384.
    ES384PubKey,
    /// A public key on P-521.
    ES512PubKey,
    /// A public Ed25519 key.
    EdDSAPubKey,
    /// A secret for HS256.
    HS256Secret,
    /// A secret for HS384.
    HS384Secret,
    /// A secret for HS512.
    HS512Secret,
}

impl CredentialKind {
    /// Every kind with its algorithm.
    pub(crate) const ALL: [(Self, Algorithm); 10] = [
        (Self::RS256PubKey, Algorithm::RS256),
        (Self::RS384PubKey, Algorithm::RS384),
        (Self::RS512PubKey, Algorithm::RS512),
        (Self::ES256PubKey, Algorithm::ES256),
        (Self::ES384PubKey, Algorithm::ES384),
        (Self::ES512PubKey, Algorithm::ES512),
        (Self::EdDSAPubKey, Algorithm::EdDSA),
        (Self::HS256Secret, Algorithm::HS256),
        (Self::HS384Secret, Algorithm::HS384),
        (Self::HS512Secret, Algorithm::HS512),
    ];

    /// Its name in requests and answers.
    pub(crate) fn name(self) -> String {
        let algorithm = self.algorithm();
        let suffix = if algorithm.family() == Family::Hmac { "Secret" } else { "PubKey" };
        format!("{}{suffix}", algorithm.name())
    }

    /// The kind of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(kind, _)| kind).find(|kind| kind.name() == name)
    }

    /// The algorithm that the payload is for.
    pub(crate) fn algorithm(self) -> Algorithm {
        let own = Self::ALL.into_iter().find(|(kind, _)| *kind == self);
        own.map_or(Algorithm::RS256, |(_, algorithm)| algorithm)
    }

    /// Whether the payload must never be shown.
    pub(crate) fn is_secret(self) -> bool {
        self.algorithm().family() == Family::Hmac
    }
}

/// Why a change was refused or failed.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    /// There is one of that name.
    #[error("credential {0:?} exists")]
    Exists(String),
    /// There is none.
    #[error("credential {0:?} does not exist")]
    NotFound(String),
    /// The payload is no key.
    #[error("payload: {0}")]
    Key(#[from] KeyError),
    /// The payload is no base64.
    #[error("payload: not standard base64 with padding")]
    Base64,
    /// There is no such project.
    #[error("project {0} does not exist; the cluster's own is {SYSTEM}")]
    NoProject(String),
    /// There are too many.
    #[error("at most {0} are possible")]
    Full(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Kept for Project {
    const KIND: Kind = Kind::Project;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Kept for CredentialRecord {
    const KIND: Kind = Kind::Credential;

    fn key(&self) -> String {
        credential_key(&self.project, &self.id)
    }
}

impl Directory {
    /// The projects and credentials among `records`.
    pub(crate) fn new(records: Rc<Records>) -> Self {
        Self { records, read: RefCell::default(), going: RefCell::default(), removals: Cell::new(0) }
    }

    /// Reads them from the store.
    #[cfg(test)]
    pub(crate) async fn load(store: Rc<dyn crate::metadata::Store>) -> Result<Self, StoreError> {
        Ok(Self::new(Records::load(store).await?))
    }

    /// Makes the projects of `names` that are missing, each with the identity that `identify` gives.
    pub(crate) async fn ensure_projects(
        &self,
        names: impl IntoIterator<Item = String>,
        identify: impl Fn(&str) -> String,
    ) -> Result<(), DirectoryError> {
        for name in names {
            let project = Project {
                uuid: identify(&name),
                description: String::new(),
                default_policies: Vec::new(),
                name,
            };
            let mut before = self.records.watch();
            while self.project(&project.name).is_none() {
                // Another server may make it first.
                match self.records.exclusive().await.create(&project).await {
                    Err(StoreError::Conflict { .. }) => self.records.catch_up(&mut before).await,
                    outcome => drop(outcome?),
                }
            }
        }
        Ok(())
    }

    /// Registers a credential of a project that there is.
    pub(crate) async fn create_credential(
        &self,
        record: CredentialRecord,
    ) -> Result<Credential, DirectoryError> {
        let one = self.records.exclusive().await;
        let mut credential = Credential::parse(record, 0)?;
        let record = &credential.record;
        // Whoever deletes the project has the same right until it is gone, with the credentials that it had.
        if !self.has_scope(&record.project) {
            return Err(DirectoryError::NoProject(record.project.clone()));
        }
        if self.records.revision(Kind::Credential, &record.key()).is_some() {
            return Err(DirectoryError::Exists(record.id.clone()));
        }
        if self.credentials(&record.project).len() >= CREDENTIALS_MAX {
            return Err(DirectoryError::Full(CREDENTIALS_MAX));
        }
        credential.revision = one.create(record).await?;
        Ok(credential)
    }

    /// Registers the first credential of a project; false if there is one by now, of another server.
    pub(crate) async fn ensure_credential(&self, record: CredentialRecord) -> Result<bool, DirectoryError> {
        let mut before = self.records.watch();
        while self.credentials(&record.project).is_empty() {
            match self.create_credential(record.clone()).await {
                Ok(_) => return Ok(true),
                Err(DirectoryError::Exists(_)) => return Ok(false),
                // That may have been about something else: whether there is a credential, the next look tells.
                Err(DirectoryError::Store(StoreError::Conflict { .. })) => {
                    self.records.catch_up(&mut before).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Removes a credential: its tokens are refused from here on.
    pub(crate) async fn delete_credential(&self, project: &str, id: &str) -> Result<(), DirectoryError> {
        let one = self.records.exclusive().await;
        let name = (project.to_owned(), id.to_owned());
        let found = self.records.get::<CredentialRecord>(&credential_key(project, id));
        let Some(found) = found else { return Err(DirectoryError::NotFound(name.1)) };
        // Its tokens are refused while the removal is being made durable, too.
        self.going.borrow_mut().insert(name.clone());
        self.removals.set(self.removals.get() + 1);
        let outcome = one.remove(&found.value, found.revision).await;
        self.going.borrow_mut().remove(&name);
        self.read.borrow_mut().remove(&name);
        outcome.map(drop).map_err(Into::into)
    }

    /// The key that verifies tokens of a credential.
    pub(crate) fn key(&self, project: &str, id: &str) -> Option<VerifyingKey> {
        self.verifying(project, id)?.key
    }

    /// Another value after each change of credentials, wherever it was made.
    pub(crate) fn generation(&self) -> u64 {
        self.records.changes(&[Kind::Credential]) + self.removals.get()
    }

    /// What a credential's tokens are verified with.
    pub(crate) fn trusted(&self, project: &str, id: &str) -> Option<Trusted> {
        self.verifying(project, id)?.trusted()
    }

    /// The credentials of a registered issuer, those of the cluster first.
    pub(crate) fn trusted_by_issuer(&self, issuer: &str) -> Vec<Trusted> {
        let found = self.records.list::<CredentialRecord>("").into_iter().map(|found| found.value);
        let named = found.filter(|record| record.issuer.as_deref() == Some(issuer));
        let mut found: Vec<Trusted> =
            named.filter_map(|record| self.trusted(&record.project, &record.id)).collect();
        found.sort_by_key(|trusted| trusted.scope != SYSTEM);
        found
    }

    /// A credential that is not on its way out, read once for each of its revisions.
    fn verifying(&self, project: &str, id: &str) -> Option<Credential> {
        let name = (project.to_owned(), id.to_owned());
        let revision = self.records.revision(Kind::Credential, &credential_key(project, id))?;
        if self.going.borrow().contains(&name) {
            return None;
        }
        if let Some((known, credential)) = self.read.borrow().get(&name)
            && *known == revision
        {
            return Some(credential.clone());
        }
        let credential = self.credential(project, id)?;
        self.read.borrow_mut().insert(name, (revision, credential.clone()));
        Some(credential)
    }

    /// One credential.
    pub(crate) fn credential(&self, project: &str, id: &str) -> Option<Credential> {
        let found = self.records.get::<CredentialRecord>(&credential_key(project, id))?;
        Credential::parse(found.value, found.revision).ok()
    }

    /// The credentials of a project, in order of their names.
    pub(crate) fn credentials(&self, project: &str) -> Vec<Credential> {
        let found = self.records.list::<CredentialRecord>(&credential_key(project, ""));
        found.into_iter().filter_map(|found| Credential::parse(found.value, found.revision).ok()).collect()
    }

    /// One project.
    pub(crate) fn project(&self, name: &str) -> Option<Project> {
        self.records.get(name).map(|found| found.value)
    }

    /// All projects, in order of their names.
    pub(crate) fn projects(&self) -> Vec<Project> {
        self.records.list("").into_iter().map(|found| found.value).collect()
    }

    /// Whether credentials may belong to `project`.
    pub(crate) fn has_scope(&self, project: &str) -> bool {
        project == SYSTEM || self.records.revision(Kind::Project, project).is_some()
    }
}

impl Credential {
    fn parse(record: CredentialRecord, revision: u64) -> Result<Self, DirectoryError> {
        let payload = STANDARD.decode(&record.payload).map_err(|_| DirectoryError::Base64)?;
        let key = Some(VerifyingKey::parse(record.kind.algorithm(), &payload)?);
        Ok(Self { record, key, revision })
    }

    fn trusted(&self) -> Option<Trusted> {
        Some(Trusted {
            key: self.key.clone()?,
            scope: self.record.project.clone(),
            issuer: self.record.issuer.clone(),
            audience: self.record.audience.clone(),
        })
    }
}

impl CredentialRecord {
    /// The record of a public key in PEM form.
    pub(crate) fn of_pem(project: &str, id: &str, public_pem: &str) -> Self {
        Self {
            project: project.to_owned(),
            id: id.to_owned(),
            kind: CredentialKind::RS256PubKey,
            payload: STANDARD.encode(public_pem),
            issuer: None,
            audience: None,
        }
    }
}

/// A project's identity: it follows from the cluster's and its name, so that a lost state folder changes nothing.
/// RFC 9562 section 5.8: the layout is ours but for version and variant.
pub(crate) fn project_uuid(cluster_uuid: [u8; 16], name: &str) -> String {
    let mut text = cluster_uuid.to_vec();
    text.extend_from_slice(name.as_bytes());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Uuid::new_v8(bytes).to_string()
}

/// Names have no colon, so that no two credentials share a key.
fn credential_key(project: &str, id: &str) -> String {
    format!("{project}:{id}")
}

/// Credentials of one project: the directory is held in memory.
const CREDENTIALS_MAX: usize = 256;
