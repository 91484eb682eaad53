//! Roles that issue tokens: a name, an algorithm, a key that cannot be read back, and claims that go without saying.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::algorithm::{Algorithm, Family};
use super::key::{KeyError, SigningKey};
use super::token::mint;

/// A role as kept.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct IssuingRole {
    /// The algorithm's name.
    algorithm: String,
    /// The private key as PEM text or the secret, in base64.
    key: String,
    /// What its tokens say unless a request says otherwise.
    pub(crate) defaults: Defaults,
}

/// What tokens say unless a request says otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Defaults {
    /// `iss`.
    pub(crate) issuer: Option<String>,
    /// `sub`.
    pub(crate) subject: Option<String>,
    /// `aud`.
    pub(crate) audience: Option<String>,
    /// How long tokens last, in seconds.
    pub(crate) ttl_s: Option<u64>,
    /// Further claims.
    pub(crate) claims: Map<String, Value>,
}

/// What a token shall say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// What defaults have too.
    pub(crate) said: Defaults,
    /// `exp`, in seconds since 1970.
    pub(crate) expiration: Option<u64>,
    /// `nbf`.
    pub(crate) not_before: Option<u64>,
}

/// A token with its name.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// `jti`.
    pub(crate) id: String,
    /// The token.
    pub(crate) token: String,
}

impl IssuingRole {
    /// A role with a key as people have it: PEM text, or a secret.
    pub(crate) fn new(algorithm: Algorithm, key: &str, defaults: Defaults) -> Result<Self, KeyError> {
        let signing = SigningKey::parse(algorithm, key.as_bytes())?;
        let key = match algorithm.family() {
            Family::Hmac => key.to_owned(),
            Family::Rsa | Family::Ec | Family::Ed => signing.private_pem(),
        };
        Ok(Self { algorithm: algorithm.name().to_owned(), key: STANDARD.encode(key), defaults })
    }

    /// The same role with other defaults.
    pub(super) fn with(self, defaults: Defaults) -> Self {
        Self { defaults, ..self }
    }

    /// The algorithm's name.
    pub(crate) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The signing key; only this server's own code sees it.
    pub(super) fn signing(&self) -> Result<SigningKey, KeyError> {
        let algorithm = Algorithm::of_header(&self.algorithm).ok_or(KeyError::Failed)?;
        let key = STANDARD.decode(&self.key).map_err(|_| KeyError::Failed)?;
        SigningKey::parse(algorithm, &key)
    }

    /// Issues a token under the name of `role`. What is asked for wins over what goes without saying.
    pub(super) fn issue(&self, role: &str, wanted: Wanted, now_s: u64) -> Result<Issued, KeyError> {
        let mut claims = self.defaults.claims.clone();
        claims.extend(wanted.said.claims);
        let mut say = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value);
            }
        };
        let id = Uuid::new_v4().to_string();
        let lifetime = wanted.said.ttl_s.or(self.defaults.ttl_s).unwrap_or(LIFETIME_S);
        let end = wanted.expiration.unwrap_or_else(|| now_s.saturating_add(lifetime));
        say("iss", wanted.said.issuer.or_else(|| self.defaults.issuer.clone()).map(Value::from));
        say("sub", wanted.said.subject.or_else(|| self.defaults.subject.clone()).map(Value::from));
        say("aud", wanted.said.audience.or_else(|| self.defaults.audience.clone()).map(Value::from));
        say("exp", Some(end.into()));
        say("nbf", wanted.not_before.map(Value::from));
        say("iat", Some(now_s.into()));
        say("jti", Some(id.clone().into()));
        claims.entry("sub").or_insert_with(|| role.into());
        let token = mint(&self.signing()?, &key_id(role), &Value::Object(claims))?;
        Ok(Issued { id, token })
    }
}

/// The `kid` of a role's tokens: no credential has a slash in its name.
pub(super) fn key_id(role: &str) -> String {
    format!("{KID_PREFIX}{role}")
}

/// The role that a `kid` names.
pub(super) fn role_of(kid: &str) -> Option<&str> {
    kid.strip_prefix(KID_PREFIX)
}

impl std::fmt::Debug for IssuingRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuingRole").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

const KID_PREFIX: &str = "jwt/";
/// An hour.
const LIFETIME_S: u64 = 3600;
