//! Projects and credentials: held in memory for every request, changed through the metadata store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::auth::algorithm::{Algorithm, Family};
use crate::auth::key::{KeyError, VerifyingKey};
use crate::auth::{SYSTEM, Trusted};
use crate::metadata::{Change, Expect, Kind, Store, StoreError};

/// All projects and credentials.
#[derive(Debug)]
pub(crate) struct Directory {
    store: Rc<dyn Store>,
    entries: RefCell<Entries>,
    /// One change at a time, so that memory follows the store in order.
    changing: Mutex<()>,
    /// Counts changes of credentials, so that nothing verified with one outlives it.
    generation: Cell<u64>,
}

/// A project.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Project {
    /// Its name, also its key.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) uuid: String,
    /// What people say of it.
    pub(crate) description: String,
}

/// A registered key.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// What is stored.
    pub(crate) record: CredentialRecord,
    /// The key, for the types that verify tokens.
    key: Option<VerifyingKey>,
    revision: u64,
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
    /// There are too many.
    #[error("a project has at most {CREDENTIALS_MAX} credentials")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Default)]
struct Entries {
    projects: BTreeMap<String, Project>,
    credentials: BTreeMap<(String, String), Credential>,
}

impl Directory {
    /// Reads everything from the store.
    pub(crate) async fn load(store: Rc<dyn Store>) -> Result<Self, DirectoryError> {
        let mut entries = Entries::default();
        for record in store.load().await? {
            match record.kind {
                Kind::Cluster | Kind::IssuingRole | Kind::Revocation | Kind::User => {}
                Kind::Project => {
                    let project: Project = record.parse()?;
                    entries.projects.insert(project.name.clone(), project);
                }
                Kind::Credential => {
                    let stored: CredentialRecord = record.parse()?;
                    let name = (stored.project.clone(), stored.id.clone());
                    entries.credentials.insert(name, Credential::parse(stored, record.revision)?);
                }
            }
        }
        Ok(Self { store, entries: RefCell::new(entries), changing: Mutex::new(()), generation: Cell::new(0) })
    }

    /// Makes the projects of `names` that are missing, each with the identity that `identify` gives.
    pub(crate) async fn ensure_projects(
        &self,
        names: impl IntoIterator<Item = String>,
        identify: impl Fn(&str) -> String,
    ) -> Result<(), DirectoryError> {
        let _one = self.changing.lock().await;
        let missing: Vec<Project> = {
            let entries = self.entries.borrow();
            let missing = names.into_iter().filter(|name| !entries.projects.contains_key(name));
            let make = |name: String| Project { uuid: identify(&name), description: String::new(), name };
            missing.map(make).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let change = |project: &Project| Change {
            kind: Kind::Project,
            key: project.name.clone(),
            expect: Expect::Anything,
            value: Some(json_of(project)),
        };
        self.store.commit(missing.iter().map(change).collect()).await?;
        let named = missing.into_iter().map(|project| (project.name.clone(), project));
        self.entries.borrow_mut().projects.extend(named);
        Ok(())
    }

    /// Registers a credential.
    pub(crate) async fn create_credential(
        &self,
        record: CredentialRecord,
    ) -> Result<Credential, DirectoryError> {
        let _one = self.changing.lock().await;
        let name = (record.project.clone(), record.id.clone());
        let mut credential = Credential::parse(record, 0)?;
        {
            let entries = self.entries.borrow();
            if entries.credentials.contains_key(&name) {
                return Err(DirectoryError::Exists(name.1));
            }
            if entries.credentials.keys().filter(|(project, _)| *project == name.0).count() >= CREDENTIALS_MAX
            {
                return Err(DirectoryError::Full);
            }
        }
        let change = Change {
            kind: Kind::Credential,
            key: format!("{}:{}", name.0, name.1),
            expect: Expect::Absent,
            value: Some(json_of(&credential.record)),
        };
        credential.revision = self.store.commit(vec![change]).await?;
        self.entries.borrow_mut().credentials.insert(name, credential.clone());
        self.generation.set(self.generation.get() + 1);
        Ok(credential)
    }

    /// Removes a credential: its tokens are refused from here on.
    pub(crate) async fn delete_credential(&self, project: &str, id: &str) -> Result<(), DirectoryError> {
        let _one = self.changing.lock().await;
        let name = (project.to_owned(), id.to_owned());
        let credential = self.entries.borrow().credentials.get(&name).cloned();
        let Some(credential) = credential else { return Err(DirectoryError::NotFound(name.1)) };
        let change = Change {
            kind: Kind::Credential,
            key: format!("{project}:{id}"),
            expect: Expect::Revision(credential.revision),
            value: None,
        };
        // Its tokens are refused while the removal is being made durable, too.
        self.entries.borrow_mut().credentials.remove(&name);
        self.generation.set(self.generation.get() + 1);
        let outcome = self.store.commit(vec![change]).await;
        if outcome.is_err() {
            self.entries.borrow_mut().credentials.insert(name, credential);
        }
        outcome.map(drop).map_err(Into::into)
    }

    /// The key that verifies tokens of a credential.
    pub(crate) fn key(&self, project: &str, id: &str) -> Option<VerifyingKey> {
        self.credential(project, id)?.key
    }

    /// How often credentials have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// What a credential's tokens are verified with.
    pub(crate) fn trusted(&self, project: &str, id: &str) -> Option<Trusted> {
        self.credential(project, id)?.trusted()
    }

    /// The credentials of a registered issuer, those of the cluster first.
    pub(crate) fn trusted_by_issuer(&self, issuer: &str) -> Vec<Trusted> {
        let entries = self.entries.borrow();
        let named = |credential: &&Credential| credential.record.issuer.as_deref() == Some(issuer);
        let mut found: Vec<Trusted> =
            entries.credentials.values().filter(named).filter_map(Credential::trusted).collect();
        found.sort_by_key(|trusted| trusted.scope != SYSTEM);
        found
    }

    /// One credential.
    pub(crate) fn credential(&self, project: &str, id: &str) -> Option<Credential> {
        self.entries.borrow().credentials.get(&(project.to_owned(), id.to_owned())).cloned()
    }

    /// The credentials of a project, in order of their names.
    pub(crate) fn credentials(&self, project: &str) -> Vec<Credential> {
        let entries = self.entries.borrow();
        let own = entries.credentials.iter().filter(|((owner, _), _)| owner == project);
        own.map(|(_, credential)| credential.clone()).collect()
    }

    /// One project.
    pub(crate) fn project(&self, name: &str) -> Option<Project> {
        self.entries.borrow().projects.get(name).cloned()
    }

    /// All projects, in order of their names.
    pub(crate) fn projects(&self) -> Vec<Project> {
        self.entries.borrow().projects.values().cloned().collect()
    }

    /// Whether credentials may belong to `project`.
    pub(crate) fn has_scope(&self, project: &str) -> bool {
        project == SYSTEM || self.entries.borrow().projects.contains_key(project)
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

fn json_of(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and no failing parts")
}

/// Credentials of one project: the directory is held in memory.
const CREDENTIALS_MAX: usize = 256;
