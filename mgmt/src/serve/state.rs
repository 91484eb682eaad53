//! The state folder: where everything lies, and what the first start makes.
//!
//! With the folder lost, the next start makes keys, credentials and tokens anew, and the pool knows the volumes. What
//! people told the management plane is lost with it, unless that is in an etcd.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dataplane::Identity;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::files;
use crate::auth::key::{KeyError, SigningKey};
use crate::auth::{self, Claims, SYSTEM};
use crate::directory::{CredentialRecord, Directory, DirectoryError};
use crate::drives::AddedDrives;
use crate::metadata::{Change, Expect, FILE_NAME, Kept, Kind, Records, StoreError};

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
}

/// A token that the first start makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenFile {
    /// Its name in the state folder.
    pub(crate) file: &'static str,
    project: &'static str,
    role: &'static str,
}

/// A token to be written once the server is ready.
#[derive(Debug)]
pub(crate) struct FreshToken {
    name: &'static str,
    path: PathBuf,
    text: String,
    /// Where it is noted that the token was handed to a command, and what is noted then.
    note: (PathBuf, String),
}

/// Why the state folder cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    /// A file failed.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// A key cannot be made.
    #[error("a key for tokens: {0}")]
    Key(#[from] KeyError),
    /// A token cannot be made.
    #[error("a token cannot be made")]
    Token(#[source] KeyError),
    /// The command that takes tokens failed.
    #[error("the token command {command:?} failed: {reason}")]
    Command {
        /// Its first word.
        command: String,
        /// How it failed.
        reason: String,
    },
    /// The metadata failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Projects or credentials failed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
struct ClusterRecord {
    uuid: String,
    node_uuid: String,
}

impl ClusterRecord {
    fn of(identity: &Identity) -> Self {
        Self {
            uuid: Uuid::from_bytes(identity.cluster_uuid).to_string(),
            node_uuid: Uuid::from_bytes(identity.node_uuid).to_string(),
        }
    }
}

impl Kept for ClusterRecord {
    const KIND: Kind = Kind::Cluster;

    fn key(&self) -> String {
        self.node_uuid.clone()
    }
}

impl StateFolder {
    /// Claims the folder, made where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        files::claim_folder(path, FILE_NAME).map_err(|source| failed(path, source))?;
        let path = path.canonicalize().map_err(|source| failed(path, source))?;
        let folder = Self { path };
        for inner in ["keys", "logs", "tls"] {
            let path = folder.path.join(inner);
            files::make_folder(&path).map_err(|source| failed(&path, source))?;
        }
        Ok(folder)
    }

    /// The metadata store's file.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// The certificate and the key of the REST interface.
    pub(crate) fn tls(&self) -> (PathBuf, PathBuf) {
        (self.path.join("tls/cert.pem"), self.path.join("tls/key.pem"))
    }

    /// The note of drives that have joined the pool.
    pub(crate) fn added_drives(&self) -> AddedDrives {
        AddedDrives::new(self.path.join("drives.json"))
    }

    /// The folder of the log.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The file of a token.
    pub(crate) fn token(&self, token: TokenFile) -> PathBuf {
        self.path.join(token.file)
    }

    fn key(&self, token: TokenFile) -> PathBuf {
        self.path.join(format!("keys/{}-{CREDENTIAL}.pem", token.project))
    }

    /// Notes which cluster and node this is; the pool decides.
    pub(crate) async fn settle_cluster(
        &self,
        records: &Records,
        identity: &Identity,
    ) -> Result<(), StateError> {
        let now = ClusterRecord::of(identity);
        let found = records.list::<ClusterRecord>("");
        if found.iter().any(|found| found.value == now) {
            return Ok(());
        }
        let mut changes = vec![Change::put(&now, Expect::Anything)];
        // In a store of one's own, any other node is what was served before; in a shared one it is a neighbour.
        if !records.is_shared() {
            for before in found.iter().map(|found| &found.value) {
                tracing::warn!(
                    before = before.uuid,
                    now = now.uuid,
                    "the pool is of another node than the one that this state folder served before"
                );
                if before.node_uuid != now.node_uuid {
                    changes.push(Change::delete(Kind::Cluster, before.key()));
                }
            }
        }
        records.commit(changes).await?;
        Ok(())
    }

    /// Whether it is noted which cluster and node this is. Nobody else takes that away, except whoever empties the store.
    pub(crate) fn is_settled(&self, records: &Records, identity: &Identity) -> bool {
        records.revision(Kind::Cluster, &ClusterRecord::of(identity).key()).is_some()
    }

    /// Makes keys and credentials where there are none, and returns the tokens to be written when the server is ready.
    ///
    /// A project that has a credential gets no other, so that one removed on purpose stays away. A token file is kept
    /// while it is valid for another month, and removed if it is valid no more and cannot be made anew.
    pub(crate) async fn prepare_tokens(
        &self,
        directory: &Directory,
        now: u64,
        with_command: bool,
    ) -> Result<Vec<FreshToken>, StateError> {
        let mut fresh = Vec::new();
        for token in TOKENS {
            let key = self.settle_key(token, directory).await?;
            let path = self.token(token);
            if !with_command && self.is_good(&path, directory, now) {
                continue;
            }
            let note = self.path.join(format!("{}.handed", token.file));
            let handed = with_command.then(|| std::fs::read_to_string(&note).unwrap_or_default());
            if let (Some(handed), Some(key)) = (handed, &key)
                && is_note_of(&handed, key, now)
            {
                continue;
            }
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::warn!(path = %path.display(), "removed a token that is no longer valid"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed(&path, source)),
            }
            if let Some(key) = key {
                let text = token.mint(&key, now)?;
                let noted = format!("{} {}", now + LIFETIME_S, fingerprint(&key));
                fresh.push(FreshToken { name: token.file, path, text, note: (note, noted) });
            }
        }
        Ok(fresh)
    }

    /// The signing key of a token's credential, if it is here; made with the credential if its project has none.
    async fn settle_key(
        &self,
        token: TokenFile,
        directory: &Directory,
    ) -> Result<Option<SigningKey>, StateError> {
        let path = self.key(token);
        if directory.credentials(token.project).is_empty() {
            let key = SigningKey::generate()?;
            // The key first: a crash in between leaves a key that the next start replaces.
            files::replace(&path, key.private_pem().as_bytes(), 0o600)
                .map_err(|source| failed(&path, source))?;
            let record = CredentialRecord::of_pem(token.project, CREDENTIAL, &key.public_pem());
            // If another server of the same metadata has made one in this moment, its token is the one to use.
            return Ok(directory.ensure_credential(record).await?.then_some(key));
        }
        let Ok(text) = std::fs::read(&path) else { return Ok(None) };
        let key = SigningKey::parse_pem(&text)?;
        let own = key.verifying()?;
        let stored = directory.key(token.project, CREDENTIAL);
        Ok(stored.is_some_and(|stored| stored.is(&own)).then_some(key))
    }

    fn is_good(&self, path: &Path, directory: &Directory, now: u64) -> bool {
        let Ok(text) = std::fs::read_to_string(path) else { return false };
        let text = text.trim();
        let lasts = auth::expiry(text).is_some_and(|exp| exp > now + RENEW_BEFORE_S);
        lasts && auth::verify(text, |project, id| directory.key(project, id)).is_ok()
    }
}

impl TokenFile {
    fn mint(self, key: &SigningKey, now: u64) -> Result<String, StateError> {
        let claims = Claims {
            exp: now + LIFETIME_S,
            iat: now,
            sub: "ferrule",
            iss: "ferrule",
            jti: &Uuid::new_v4().to_string(),
            roles: &[self.role],
        };
        auth::mint(key, &format!("{}:{CREDENTIAL}", self.project), &claims).map_err(StateError::Token)
    }
}

impl FreshToken {
    /// Hands the token to a command on its standard input, with the token's name as the last argument; waits for it.
    pub(crate) fn hand_to(&self, command: &[String]) -> Result<(), StateError> {
        let program = command.first().cloned().unwrap_or_default();
        let failed_with = |reason: String| StateError::Command { command: program.clone(), reason };
        let name = self.name.trim_end_matches(".jwt");
        let mut child = Command::new(&program)
            .args(command.iter().skip(1))
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failed_with(error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // Who does not read its input says by its exit code how that ended.
            drop(input.write_all(self.text.as_bytes()));
        }
        let status = child.wait().map_err(|error| failed_with(error.to_string()))?;
        if !status.success() {
            return Err(failed_with(format!("{status} for {name}")));
        }
        let (note, text) = &self.note;
        files::replace(note, text.as_bytes(), 0o600).map_err(|source| failed(note, source))
    }

    /// Writes the token's file.
    pub(crate) fn write(&self) -> Result<(), StateError> {
        let text = format!("{}\n", self.text);
        files::replace(&self.path, text.as_bytes(), 0o600).map_err(|source| failed(&self.path, source))
    }
}

/// Whether a note says that a token of `key` was handed over that lasts for another month.
fn is_note_of(note: &str, key: &SigningKey, now: u64) -> bool {
    let mut words = note.split_whitespace();
    let lasts =
        words.next().and_then(|exp| exp.parse::<u64>().ok()).is_some_and(|exp| exp > now + RENEW_BEFORE_S);
    lasts && words.next() == Some(&fingerprint(key))
}

fn fingerprint(key: &SigningKey) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_pem().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(path: &Path, source: io::Error) -> StateError {
    StateError::File { path: path.to_owned(), source }
}

/// The project that is always there.
pub(crate) const DEFAULT_PROJECT: &str = "default";
/// The administrator's token.
pub(crate) const SYSTEM_TOKEN: TokenFile =
    TokenFile { file: "system.jwt", project: SYSTEM, role: "system:cluster-admin" };
/// The token of the default project's administrator.
pub(crate) const DEFAULT_TOKEN: TokenFile =
    TokenFile { file: "default-admin.jwt", project: DEFAULT_PROJECT, role: "default:admin" };
const TOKENS: [TokenFile; 2] = [SYSTEM_TOKEN, DEFAULT_TOKEN];
/// The credential that the first start makes in each of the two projects.
const CREDENTIAL: &str = "root";
const LIFETIME_S: u64 = 365 * 24 * 3600;
const RENEW_BEFORE_S: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod test {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::rc::Rc;

    use super::super::files::test::Folder;
    use super::*;
    use crate::metadata::{Embedded, Loaded, Pending, Store};

    /// A store in which somebody else is faster than the next changes that rest on several records.
    #[derive(Debug)]
    struct Outrun {
        store: Embedded,
        /// How many of them.
        left: Cell<u32>,
    }

    impl Store for Outrun {
        fn load(&self) -> Pending<'_, Loaded> {
            self.store.load()
        }

        fn commit(&self, changes: Vec<Change>, guard: Option<u64>) -> Pending<'_, u64> {
            let left = self.left.get();
            if guard.is_none() || left == 0 {
                return self.store.commit(changes, guard);
            }
            self.left.set(left - 1);
            Box::pin(async { Err(StoreError::Conflict { kind: Kind::Project, key: String::new() }) })
        }
    }

    async fn start(path: &Path, now: u64) -> (StateFolder, Directory, usize) {
        let folder = StateFolder::open(path).unwrap();
        let store = Rc::new(Embedded::open(&folder.metadata()).unwrap());
        let directory = Directory::load(store).await.unwrap();
        directory.ensure_projects([DEFAULT_PROJECT.to_owned()], |_| String::new()).await.unwrap();
        let fresh = folder.prepare_tokens(&directory, now, false).await.unwrap();
        for token in &fresh {
            token.write().unwrap();
        }
        (folder, directory, fresh.len())
    }

    fn admin(path: &Path, directory: &Directory) -> bool {
        let text = fs::read_to_string(path.join("system.jwt")).unwrap();
        let caller = auth::verify(text.trim(), |project, id| directory.key(project, id));
        caller.is_ok_and(|caller| caller.is_cluster_admin())
    }

    fn now() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    #[test]
    fn the_first_start_makes_private_tokens_and_the_second_keeps_them() {
        tokio_uring::start(async {
            let scratch = Folder::new("state");
            let path = scratch.path().join("state");
            let (_, directory, made) = start(&path, now()).await;
            assert_eq!(made, 2);
            assert!(admin(&path, &directory));
            for file in ["system.jwt", "default-admin.jwt", "keys/system-root.pem", "metadata.redb"] {
                let mode = fs::metadata(path.join(file)).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{file}");
            }
            drop(directory);
            let (_, directory, made) = start(&path, now()).await;
            assert_eq!(made, 0);
            assert!(admin(&path, &directory));
        });
    }

    #[test]
    fn a_lost_metadata_file_makes_new_tokens() {
        tokio_uring::start(async {
            let scratch = Folder::new("lost");
            let path = scratch.path().join("state");
            drop(start(&path, now()).await);
            fs::remove_file(path.join("metadata.redb")).unwrap();
            let (_, directory, made) = start(&path, now()).await;
            assert_eq!(made, 2);
            assert!(admin(&path, &directory));
        });
    }

    #[test]
    fn a_credential_is_made_though_something_else_was_changed_meanwhile() {
        tokio_uring::start(async {
            let scratch = Folder::new("outrun");
            let folder = StateFolder::open(&scratch.path().join("state")).unwrap();
            let store = Embedded::open(&folder.metadata()).unwrap();
            let store = Rc::new(Outrun { store, left: Cell::new(0) });
            let directory = Directory::load(store.clone()).await.unwrap();
            directory.ensure_projects([DEFAULT_PROJECT.to_owned()], |_| String::new()).await.unwrap();
            store.left.set(2);
            let fresh = folder.prepare_tokens(&directory, now(), false).await.unwrap();
            assert_eq!(fresh.len(), TOKENS.len());
            assert!(directory.credential(SYSTEM, CREDENTIAL).is_some());
        });
    }

    #[test]
    fn a_token_near_its_end_is_renewed() {
        tokio_uring::start(async {
            let scratch = Folder::new("renew");
            let path = scratch.path().join("state");
            drop(start(&path, now()).await);
            let (_, _, made) = start(&path, now() + LIFETIME_S - RENEW_BEFORE_S + 1).await;
            assert_eq!(made, 2);
        });
    }

    #[test]
    fn a_credential_removed_on_purpose_stays_away() {
        tokio_uring::start(async {
            let scratch = Folder::new("removed");
            let path = scratch.path().join("state");
            {
                let (_, directory, _) = start(&path, now()).await;
                let other = SigningKey::generate().unwrap();
                let record = CredentialRecord::of_pem(SYSTEM, "mine", &other.public_pem());
                directory.create_credential(record).await.unwrap();
                directory.delete_credential(SYSTEM, CREDENTIAL).await.unwrap();
            }
            let (_, directory, made) = start(&path, now()).await;
            assert_eq!(made, 0);
            assert!(directory.credential(SYSTEM, CREDENTIAL).is_none());
            assert!(!path.join("system.jwt").exists(), "its token is valid no more");
        });
    }
}
