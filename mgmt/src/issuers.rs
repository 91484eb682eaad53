//! What is known of other issuers of tokens: their keys, fetched over HTTPS, kept for a while, and fetched again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::auth::federation::Jwk;
use crate::events::now_ns;
use crate::web;

/// Issuers and their keys.
#[derive(Debug, Default)]
pub(crate) struct Issuers {
    known: RefCell<BTreeMap<String, Known>>,
    /// One fetch at a time; others wait for it.
    fetching: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Vec<Jwk>,
    asked: Instant,
    /// When the issuer has told them.
    told: Option<Instant>,
    health: Health,
}

/// How an issuer was when it was asked last.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// When that was, in nanoseconds since 1970.
    pub(crate) asked_ns: u64,
    /// Why its keys could not be had.
    pub(crate) error: Option<String>,
}

impl Issuers {
    /// The contract's name of the state of an issuer's configuration.
    pub(crate) fn state(&self, issuer: &str) -> &'static str {
        match self.health(issuer) {
            None => "Creating",
            Some(health) if health.error.is_none() => "Active",
            Some(_) => "Failed",
        }
    }

    /// How an issuer was when it was asked last; none if it was not asked yet.
    pub(crate) fn health(&self, issuer: &str) -> Option<Health> {
        self.known.borrow().get(issuer).map(|known| known.health.clone())
    }

    /// The keys of an issuer. They are fetched if they are old, or lack the one that `wanted` names: issuers change
    /// theirs. A stranger's tokens make the server ask no more than every few seconds.
    pub(crate) async fn keys(&self, issuer: &str, wanted: Option<&str>) -> Vec<Jwk> {
        let held = || {
            let known = self.known.borrow().get(issuer).cloned()?;
            let age = known.asked.elapsed();
            let has = wanted.is_none() || known.keys.iter().any(|key| key.kid.as_deref() == wanted);
            (age < PAUSE || has && known.health.error.is_none() && age < LIFETIME).then_some(known.keys)
        };
        if let Some(keys) = held() {
            return keys;
        }
        let _one = self.fetching.lock().await;
        if let Some(keys) = held() {
            return keys;
        }
        let fetched = fetch(issuer).await;
        let mut known = self.known.borrow_mut();
        if known.len() >= ISSUERS_MAX {
            known.clear();
        }
        let health = Health { asked_ns: now_ns(), error: fetched.as_ref().err().cloned() };
        let now = Instant::now();
        let (keys, told) = match fetched {
            Ok(keys) => (keys, Some(now)),
            Err(error) => {
                tracing::warn!(issuer, error, "the keys of an issuer cannot be had");
                // Keys that were right an hour ago are better than none while the issuer is away, but not for ever: it may
                // have taken them back.
                let fresh = |before: &&Known| before.told.is_some_and(|told| now - told < TRUST);
                let before = known.get(issuer).filter(fresh);
                before.map(|before| (before.keys.clone(), before.told)).unwrap_or_default()
            }
        };
        known.insert(issuer.to_owned(), Known { keys: keys.clone(), asked: now, told, health });
        keys
    }
}

/// The key set that the issuer's discovery document names. OpenID Connect Discovery 1.0, section 4.
async fn fetch(issuer: &str) -> Result<Vec<Jwk>, String> {
    let base = issuer.trim_end_matches('/');
    let (_, found) = web::fetch(&format!("{base}/.well-known/openid-configuration"), None).await?;
    let wrong = |text: &str| format!("{issuer}: its {text}");
    if found["issuer"].as_str() != Some(issuer) {
        return Err(wrong("discovery document names another issuer"));
    }
    let place = found["jwks_uri"].as_str().ok_or_else(|| wrong("discovery document has no jwks_uri"))?;
    let (_, set) = web::fetch(place, None).await?;
    let keys = set["keys"].as_array().ok_or_else(|| wrong("key set has no keys"))?;
    // A key of a kind that nobody here knows is no reason to refuse the others.
    let read = |key: &Value| serde_json::from_value::<Jwk>(key.clone()).ok();
    Ok(keys.iter().take(KEYS_MAX).filter_map(read).collect())
}

/// How long keys are good without asking again.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How long keys are good while the issuer cannot be asked.
const TRUST: Duration = Duration::from_secs(24 * 3600);
/// Between two requests to one issuer.
const PAUSE: Duration = Duration::from_secs(5);
const ISSUERS_MAX: usize = 64;
const KEYS_MAX: usize = 64;
