//! The one service of tokens: finds keys wherever they are registered, remembers what it has verified, and keeps users,
//! issuing roles and revocations.
//!
//! A verified token is remembered under a generation. Whatever takes trust away (a credential, a role or a user deleted, a
//! token revoked) begins a new generation, so that nothing remembered outlives it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::algorithm::Algorithm;
use super::environment::EnvironmentKeys;
use super::issuing::{self, Defaults, Issued, IssuingRole, Wanted};
use super::key::KeyError;
use super::password::{Hashed, PASSWORD_BYTES_MAX, PasswordError};
use super::records::Records;
use super::role::RoleClaims;
use super::token::{Facts, Keys, TokenError, Trusted, Verified, has_ended, mint, now, verify_with};
use super::users::{Logins, User};
use super::{Caller, Role, SYSTEM};
use crate::directory::Directory;
use crate::metadata::{self, Kind, StoreError};

/// Users, issuing roles, revocations, and what has been verified.
#[derive(Debug)]
pub(crate) struct Tokens {
    records: Rc<metadata::Records>,
    environment: Option<EnvironmentKeys>,
    users: Records<User>,
    roles: Records<IssuingRole>,
    revocations: Records<Revocation>,
    logins: Logins,
    /// The latest `iat` of the users' tokens that were issued since the start, in seconds since 1970.
    issued: Cell<f64>,
    generation: Cell<u64>,
    verified: RefCell<HashMap<[u8; 32], Remembered>>,
    /// One change at a time, so that limits hold.
    changing: Mutex<()>,
    /// One password at a time: each takes memory and a core.
    hashing: Arc<Semaphore>,
}

/// A token taken back: by its `jti`, or all tokens of a subject that were issued before.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Revocation {
    /// When all that it speaks of has expired, in seconds since 1970.
    until: f64,
    /// For a subject: what was issued up to here is taken back.
    #[serde(default)]
    issued_until: Option<f64>,
}

#[derive(Debug)]
struct Remembered {
    caller: Caller,
    expires: f64,
    generation: (u64, u64),
}

/// Why a change or a login was refused or failed.
#[derive(Debug, Error)]
pub(crate) enum TokensError {
    /// There is none.
    #[error("{0} does not exist")]
    NotFound(String),
    /// There are too many.
    #[error("at most {0} are kept")]
    Full(usize),
    /// A key is none.
    #[error("key: {0}")]
    Key(#[from] KeyError),
    /// A password cannot be kept.
    #[error("{0}")]
    Password(#[from] PasswordError),
    /// A request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Name or password are wrong.
    #[error("the name or the password is wrong")]
    Login,
    /// Too many wrong passwords.
    #[error("too many wrong passwords; try again in {0} s")]
    Slow(u64),
    /// The server has no key to sign with.
    #[error(
        "this server has no key for users' tokens: put what ferrule gen-keypair prints into a file, and start the \
         server with --env-file FILE"
    )]
    NoKey,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// The service over what `records` has.
    pub(crate) fn new(records: Rc<metadata::Records>, environment: Option<EnvironmentKeys>) -> Self {
        Self {
            users: Records::of(Kind::User, &records),
            roles: Records::of(Kind::IssuingRole, &records),
            revocations: Records::of(Kind::Revocation, &records),
            records,
            environment,
            logins: Logins::default(),
            issued: Cell::new(0.0),
            generation: Cell::new(0),
            verified: RefCell::default(),
            changing: Mutex::new(()),
            hashing: Arc::new(Semaphore::new(1)),
        }
    }

    /// Verifies a token, or remembers that it has, at `now` in seconds since 1970.
    pub(crate) fn verify(&self, token: &str, directory: &Directory, now: f64) -> Result<Caller, TokenError> {
        if let Some(caller) = self.recall(token, directory, now) {
            return Ok(caller);
        }
        let (caller, facts) = verify_with(token, &All { tokens: self, directory }, now)?;
        let generation = self.generation_of(directory);
        let mut verified = self.verified.borrow_mut();
        if verified.len() >= REMEMBERED_MAX {
            verified.retain(|_, known| known.generation == generation && !has_ended(known.expires, now));
        }
        if verified.len() >= REMEMBERED_MAX {
            verified.clear();
        }
        let known = Remembered { caller: caller.clone(), expires: facts.expires, generation };
        verified.insert(name_of(token), known);
        Ok(caller)
    }

    /// Who a token is of, if it was verified before and is still good.
    pub(crate) fn recall(&self, token: &str, directory: &Directory, now: f64) -> Option<Caller> {
        let generation = self.generation_of(directory);
        let verified = self.verified.borrow();
        let known = verified.get(&name_of(token))?;
        let good = known.generation == generation && !has_ended(known.expires, now);
        good.then(|| known.caller.clone())
    }

    /// Whether a token of another issuer was taken back, by its `jti`.
    pub(crate) fn is_taken_back(&self, token: &Facts) -> bool {
        token.id.as_ref().is_some_and(|id| self.revocations.has(&format!("jti/{id}")))
    }

    /// Another value after each change that may take trust away, wherever it was made.
    fn generation_of(&self, directory: &Directory) -> (u64, u64) {
        let changes = self.records.changes(&[Kind::IssuingRole, Kind::Revocation, Kind::User]);
        (self.generation.get() + changes, directory.generation())
    }

    /// Forgets everything that was verified.
    fn begin_generation(&self) {
        self.generation.set(self.generation.get() + 1);
        self.verified.borrow_mut().clear();
    }

    /// Takes a token back by its `jti`. `until` is when it would have expired.
    pub(crate) async fn revoke(&self, id: &str, until: f64) -> Result<(), TokensError> {
        let _one = self.changing.lock().await;
        self.put_revocation(format!("jti/{id}"), Revocation { until, issued_until: None }).await
    }

    async fn put_revocation(&self, key: String, revocation: Revocation) -> Result<(), TokensError> {
        let now = now();
        // What it speaks of is accepted for the leeway after its end: so long it is needed.
        let over = self.revocations.all().into_iter();
        let over = over.filter(|(_, revocation)| has_ended(revocation.until, now));
        let over: Vec<String> = over.map(|(key, _)| key).collect();
        if !over.is_empty() {
            self.revocations.remove(&over).await?;
        }
        if self.revocations.len() >= REVOCATIONS_MAX {
            return Err(TokensError::Full(REVOCATIONS_MAX));
        }
        self.revocations.put(&key, &revocation).await?;
        self.begin_generation();
        Ok(())
    }

    /// Makes a user, or changes one.
    pub(crate) async fn put_user(
        &self,
        name: &str,
        roles: Vec<String>,
        projects: Vec<String>,
        password: String,
    ) -> Result<(), TokensError> {
        let turn = self.take_turn().await?;
        let (password, turn) = self.hash(turn, move || Hashed::of(&password)).await?;
        drop(turn);
        let password = password?;
        let _one = self.changing.lock().await;
        if !self.users.has(name) && self.users.len() >= USERS_MAX {
            return Err(TokensError::Full(USERS_MAX));
        }
        self.users.put(name, &User { roles, projects, password }).await?;
        self.logins.end_all_of(name);
        Ok(())
    }

    /// All users.
    pub(crate) fn users(&self) -> Vec<(String, User)> {
        self.users.all()
    }

    /// Removes a user; the user's tokens and logins end.
    pub(crate) async fn delete_user(&self, name: &str) -> Result<(), TokensError> {
        let _one = self.changing.lock().await;
        if !self.users.has(name) {
            return Err(TokensError::NotFound(format!("user {name}")));
        }
        // From here on the user gets no token, so that the revocation speaks of all that there are: also of those that were
        // issued while the clock was ahead, and of those of an earlier user of this name.
        let _hidden = self.users.hide(name);
        let issued = now().max(self.issued.get()).max(self.taken_back_until(name).unwrap_or(0.0));
        let revocation =
            Revocation { until: issued + USER_LIFETIME_S as f64 * 2.0, issued_until: Some(issued) };
        self.put_revocation(subject_key(name), revocation).await?;
        self.users.remove(&[name.to_owned()]).await?;
        self.logins.end_all_of(name);
        Ok(())
    }

    /// Issues a token for a user at `now` in seconds since 1970, signed with the environment's key.
    pub(crate) fn issue_for_user(&self, name: &str, now: f64) -> Result<Issued, TokensError> {
        #[derive(Serialize)]
        struct UserClaims<'a> {
            iss: &'a str,
            sub: &'a str,
            roles: &'a [String],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            projects: &'a [String],
            // A fraction tells a token made after a user was deleted from one made before.
            iat: f64,
            exp: u64,
            jti: &'a str,
        }
        let user = self.users.get(name).ok_or_else(|| TokensError::NotFound(format!("user {name}")))?;
        let environment = self.environment.as_ref();
        let (key, issuer) = environment
            .and_then(|keys| Some((keys.signing.as_ref()?, &keys.issuer)))
            .ok_or(TokensError::NoKey)?;
        let id = uuid::Uuid::new_v4().to_string();
        // Later than all that was taken back, also where the clock was ahead then.
        let issued = self.taken_back_until(name).map_or(now, |until| now.max(until + 0.001));
        self.issued.set(self.issued.get().max(issued));
        let claims = UserClaims {
            iss: issuer,
            sub: name,
            roles: &user.roles,
            projects: &user.projects,
            iat: issued,
            exp: now as u64 + USER_LIFETIME_S,
            jti: &id,
        };
        let token = mint(key, "", &claims)?;
        Ok(Issued { id, token })
    }

    /// Up to when all tokens of a user were taken back, in seconds since 1970.
    fn taken_back_until(&self, name: &str) -> Option<f64> {
        self.revocations.get(&subject_key(name))?.issued_until
    }

    /// Begins a login at `now` in seconds since 1970; the text is the cookie's value.
    pub(crate) async fn log_in(&self, name: &str, password: String, now: f64) -> Result<String, TokensError> {
        // Nobody has such a password; whether there is the user is not looked at, so that no answer tells.
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(TokensError::Login);
        }
        self.check_wait(name, now)?;
        let turn = self.take_turn().await?;
        // Others may have guessed while this one waited for its turn.
        self.check_wait(name, now)?;
        let (user, revision) = (self.users.get(name), self.users.revision(name));
        // It counts before it is known to be wrong: who hangs up has guessed, too.
        self.logins.note_wrong(name, user.is_some(), now);
        let work = move || match user {
            Some(user) => user.password.is(&password),
            None => {
                drop(Hashed::decoy());
                false
            }
        };
        let (right, turn) = self.hash(turn, work).await?;
        if right {
            self.logins.forgive(name);
        }
        drop(turn);
        // The user may have been changed or deleted meanwhile.
        let revision = revision.filter(|revision| right && self.users.revision(name) == Some(*revision));
        let revision = revision.ok_or(TokensError::Login)?;
        self.logins.begin(name, revision, now).ok_or(TokensError::Password(PasswordError::Failed))
    }

    /// Ends a login.
    pub(crate) fn log_out(&self, cookie: &str) {
        self.logins.end(cookie);
    }

    /// Who a login's cookie is of, with the user's roles as they are now.
    pub(crate) fn logged_in(&self, cookie: &str) -> Option<Caller> {
        let (name, revision) = self.logins.user_of(cookie, now())?;
        // Whoever changes or deletes a user, here or elsewhere, ends the user's logins.
        let user = self.users.get(&name).filter(|_| self.users.revision(&name) == Some(revision))?;
        let claims = RoleClaims { roles: &user.roles, groups: &[], projects: &user.projects };
        Some(Caller { subject: name, roles: Role::of_claims(claims), _verified: Verified::new() })
    }

    /// Refuses a name whose next try is not heard yet.
    fn check_wait(&self, name: &str, now: f64) -> Result<(), TokensError> {
        let Some(wait) = self.logins.wait_s(name, now) else { return Ok(()) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 64")]
        Err(TokensError::Slow(wait.ceil() as u64))
    }

    /// Waits for the right to digest a password.
    async fn take_turn(&self) -> Result<OwnedSemaphorePermit, TokensError> {
        let turn = self.hashing.clone().acquire_owned().await;
        turn.map_err(|_| TokensError::Password(PasswordError::Failed))
    }

    /// Runs `work` where it may take its time; the turn comes back with its outcome, and ends with it if nobody waits.
    async fn hash<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), TokensError> {
        let outcome = tokio::task::spawn_blocking(move || (work(), turn)).await;
        outcome.map_err(|_| TokensError::Password(PasswordError::Failed))
    }

    /// Makes an issuing role or changes one. Without a key the role's own stays, and with it its algorithm.
    pub(crate) async fn put_role(
        &self,
        name: &str,
        algorithm: Option<Algorithm>,
        key: Option<&str>,
        defaults: impl FnOnce(Defaults) -> Defaults,
    ) -> Result<(), TokensError> {
        let _one = self.changing.lock().await;
        let before = self.roles.get(name);
        if before.is_none() && self.roles.len() >= ROLES_MAX {
            return Err(TokensError::Full(ROLES_MAX));
        }
        let kept = before.as_ref().map(|role| role.defaults.clone()).unwrap_or_default();
        let role = match (key, before) {
            (Some(key), before) => {
                let own = before.and_then(|role| Algorithm::of_header(role.algorithm()));
                let algorithm = algorithm.or(own).unwrap_or(Algorithm::RS256);
                IssuingRole::new(algorithm, key, defaults(kept))?
            }
            (None, Some(before))
                if algorithm.is_none_or(|algorithm| algorithm.name() == before.algorithm()) =>
            {
                before.with(defaults(kept))
            }
            (None, Some(_)) => {
                return Err(TokensError::Invalid("algorithm: another one needs another key".to_owned()));
            }
            (None, None) => {
                let hint = "key: required: a private key in PEM form, or a secret for HS256, HS384 and HS512";
                return Err(TokensError::Invalid(hint.to_owned()));
            }
        };
        self.roles.put(name, &role).await?;
        self.begin_generation();
        Ok(())
    }

    /// One issuing role.
    pub(crate) fn role(&self, name: &str) -> Option<IssuingRole> {
        self.roles.get(name)
    }

    /// The names of all issuing roles.
    pub(crate) fn role_names(&self) -> Vec<String> {
        self.roles.all().into_iter().map(|(name, _)| name).collect()
    }

    /// Removes an issuing role; its tokens are refused from here on.
    pub(crate) async fn delete_role(&self, name: &str) -> Result<(), TokensError> {
        let _one = self.changing.lock().await;
        self.roles.remove(&[name.to_owned()]).await?;
        self.begin_generation();
        Ok(())
    }

    /// Issues a token of a role.
    pub(crate) fn issue(&self, name: &str, wanted: Wanted) -> Result<Issued, TokensError> {
        let role = self.roles.get(name).ok_or_else(|| TokensError::NotFound(format!("role {name}")))?;
        Ok(role.issue(name, wanted, jsonwebtoken::get_current_timestamp())?)
    }
}

/// The key of the revocation of all tokens of a user.
fn subject_key(name: &str) -> String {
    format!("sub/{name}")
}

/// What a token is remembered by: not the token itself.
fn name_of(token: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    name
}

/// Keys from everywhere.
struct All<'a> {
    tokens: &'a Tokens,
    directory: &'a Directory,
}

impl Keys for All<'_> {
    fn by_id(&self, kid: &str) -> Option<Trusted> {
        if let Some(name) = issuing::role_of(kid) {
            let role = self.tokens.roles.get(name)?;
            let key = role.signing().and_then(|key| key.verifying()).ok()?;
            let audience = role.defaults.audience;
            return Some(Trusted { key, scope: SYSTEM.to_owned(), issuer: None, audience });
        }
        let (project, id) = kid.split_once(':')?;
        self.directory.trusted(project, id)
    }

    fn is_own(&self, kid: &str) -> bool {
        let scope = kid.split_once(':').is_some_and(|(project, _)| self.directory.has_scope(project));
        scope || issuing::role_of(kid).is_some()
    }

    fn by_issuer(&self, issuer: &str) -> Vec<Trusted> {
        let mut found = self.directory.trusted_by_issuer(issuer);
        if let Some(keys) = self.tokens.environment.as_ref().filter(|keys| keys.issuer == issuer) {
            let own = Trusted {
                key: keys.verifying.clone(),
                scope: SYSTEM.to_owned(),
                issuer: Some(issuer.to_owned()),
                audience: None,
            };
            found.insert(0, own);
        }
        found
    }

    fn is_revoked(&self, token: &Facts) -> bool {
        let revocations = &self.tokens.revocations;
        let own = token.id.as_ref().is_some_and(|id| revocations.has(&format!("jti/{id}")));
        // Subjects are those of the environment's issuer: others' have nothing to do with our users.
        let users = self.tokens.environment.as_ref().map(|keys| keys.issuer.as_str());
        let earlier = self.tokens.taken_back_until(&token.subject);
        own || users.is_some()
            && users == token.issuer.as_deref()
            && earlier.is_some_and(|until| token.issued.is_none_or(|issued| issued <= until))
    }
}

/// A minute's worth of distinct callers on a busy cluster, in a few MiB.
const REMEMBERED_MAX: usize = 4096;
const REVOCATIONS_MAX: usize = 16_384;
const USERS_MAX: usize = 1024;
const ROLES_MAX: usize = 256;
/// How long a user's token lasts: a year.
const USER_LIFETIME_S: u64 = 365 * 24 * 3600;

#[cfg(test)]
mod test;
