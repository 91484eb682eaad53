//! Tokens: signed for those who ask, verified on every request.
//!
//! Every rule is set here explicitly, none is left to a library's defaults. A token is accepted if
//! - it has three parts, its header names one of ten algorithms and no critical extension;
//! - a key is found: by `kid`, or where that is none of this server's names, by its registered issuer, among the keys that
//!   may give one of its roles; and the algorithm is the one that the key is for;
//! - the signature is right, `exp` is in the future, `nbf`, if there is one, is not, each with [`LEEWAY_S`] for clocks
//!   that differ;
//! - it has `sub` and `roles`; `aud` is what the key's owner registered, or absent: a token meant for another service is
//!   not for this one;
//! - it has not been revoked.
//!
//! Roles that the key's scope may not give are dropped, so that such a token is right and permits nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::algorithm::Algorithm;
use super::key::{KeyError, SigningKey, VerifyingKey};
use super::role::RoleClaims;
use super::{Caller, Role, SYSTEM};

/// What a token of this server's own says.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Claims<'a> {
    /// When it ends, in seconds since 1970.
    pub(crate) exp: u64,
    /// When it was made.
    pub(crate) iat: u64,
    /// Whose it is.
    pub(crate) sub: &'a str,
    /// Who made it.
    pub(crate) iss: &'a str,
    /// Which one it is.
    pub(crate) jti: &'a str,
    /// `<scope>:<role>` each.
    pub(crate) roles: &'a [&'a str],
}

/// A key with what its owner registered beside it.
#[derive(Clone, Debug)]
pub(crate) struct Trusted {
    /// The key.
    pub(crate) key: VerifyingKey,
    /// The project whose roles it may give; `system` may give any.
    pub(crate) scope: String,
    /// What `iss` must be.
    pub(crate) issuer: Option<String>,
    /// What `aud` must be; none means that there must be none.
    pub(crate) audience: Option<String>,
}

/// Where keys are found.
pub(crate) trait Keys {
    /// The key that a `kid` names.
    fn by_id(&self, kid: &str) -> Option<Trusted>;

    /// Whether a `kid` is a name of this server's own, so that a token with it is of no other issuer.
    fn is_own(&self, kid: &str) -> bool;

    /// The keys of a registered issuer.
    fn by_issuer(&self, issuer: &str) -> Vec<Trusted>;

    /// Whether a token was taken back.
    fn is_revoked(&self, token: &Facts) -> bool;
}

/// What a verified token says that outlasts its verification.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Whose it is.
    pub(crate) subject: String,
    /// Which one it is.
    pub(crate) id: Option<String>,
    /// Who made it.
    pub(crate) issuer: Option<String>,
    /// When it was made, in seconds since 1970.
    pub(crate) issued: Option<f64>,
    /// When it ends, in seconds since 1970.
    pub(crate) expires: f64,
}

/// Why a token is not accepted. Its text goes to the log; clients hear only that the token is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It is longer than any token of ours.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It has no readable header, or one with an unknown algorithm.
    #[error("the token's header cannot be read")]
    Header,
    /// Its header asks for an extension.
    #[error("the token's header has a critical extension")]
    Critical,
    /// Its header names no credential, and no key that is registered for its issuer has signed it.
    #[error(
        "the token has no kid of the form <project>:<credential>, and no key of a registered issuer has signed it"
    )]
    KeyId,
    /// There is no such credential.
    #[error("no credential {0:?}")]
    UnknownKey(String),
    /// Signature, time or a claim is wrong.
    #[error("{0}")]
    Rejected(String),
    /// It is meant for someone else.
    #[error("the token is for another audience")]
    Audience,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
}

/// Proof that the value beside it was made here.
#[derive(Clone, Debug)]
pub(crate) struct Verified(());

impl Verified {
    /// For this module's siblings alone.
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// A token taken apart, with nothing about it verified.
#[derive(Clone, Debug)]
pub(crate) struct Parsed<'a> {
    /// The header.
    pub(crate) header: Header,
    /// The claims.
    pub(crate) claims: Map<String, Value>,
    /// The algorithm that the header names.
    pub(crate) algorithm: Algorithm,
    message: &'a str,
    signature: &'a str,
}

/// What is read of a header.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Header {
    alg: String,
    /// The key's name.
    pub(crate) kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Parsed<'a> {
    /// Takes `token` apart.
    pub(crate) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Header)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Header)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Header)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Header)?;
        // RFC 7515 section 4.1.11: who does not understand a critical extension must refuse, and we understand none.
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let algorithm = Algorithm::of_header(&header.alg).ok_or(TokenError::Header)?;
        let claims = URL_SAFE_NO_PAD.decode(payload).ok();
        let claims = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
        let claims = claims.ok_or_else(|| rejected("the claims are no JSON object"))?;
        Ok(Self { header, claims, algorithm, message, signature })
    }

    /// Whether `key` has signed it.
    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.algorithm() == self.algorithm && key.verify(self.message.as_bytes(), self.signature)
    }

    /// A claim that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Checks times and subject.
    pub(crate) fn check_times(&self, now: f64) -> Result<Facts, TokenError> {
        let number = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| rejected(&format!("{name} is no number"))),
        };
        let expires = number("exp")?.ok_or_else(|| rejected("no exp"))?;
        if has_ended(expires, now) {
            return Err(rejected("it has expired"));
        }
        if number("nbf")?.is_some_and(|begins| begins > now + LEEWAY_S) {
            return Err(rejected("it is not valid yet"));
        }
        let own = |name: &str| self.text(name).map(str::to_owned);
        Ok(Facts {
            subject: own("sub").ok_or_else(|| rejected("no sub"))?,
            id: own("jti"),
            issuer: own("iss"),
            issued: self.claims.get("iat").and_then(Value::as_f64),
            expires,
        })
    }

    /// Whether `aud` is `expected`, or absent where nothing is. RFC 7519 section 4.1.3.
    pub(crate) fn is_for(&self, expected: Option<&str>) -> bool {
        match (self.claims.get("aud"), expected) {
            (None | Some(Value::Null), expected) => expected.is_none(),
            (Some(Value::String(audience)), Some(expected)) => audience == expected,
            (Some(Value::Array(audiences)), Some(expected)) => {
                audiences.iter().any(|audience| audience == expected)
            }
            _ => false,
        }
    }

    /// A claim that is a list of texts, or one text.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, TokenError> {
        let wrong = || rejected(&format!("{name} is no list of texts"));
        match self.claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => {
                let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
                values.iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The roles that it claims.
    fn roles(&self) -> Result<Vec<Role>, TokenError> {
        let roles = self.texts("roles")?.ok_or_else(|| rejected("no roles"))?;
        let groups = self.texts("groups")?.unwrap_or_default();
        let projects = self.texts("projects")?.unwrap_or_default();
        Ok(Role::of_claims(RoleClaims { roles: &roles, groups: &groups, projects: &projects }))
    }

    /// Checks that `trusted` has signed it.
    fn check_signature(&self, trusted: &Trusted) -> Result<(), TokenError> {
        if self.algorithm != trusted.key.algorithm() {
            return Err(rejected("the algorithm is not the key's"));
        }
        if self.is_signed_by(&trusted.key) { Ok(()) } else { Err(rejected("the signature is wrong")) }
    }

    /// Checks the claims of a token that `trusted` has signed, but for its roles.
    fn check_claims(&self, trusted: &Trusted, now: f64) -> Result<Facts, TokenError> {
        let facts = self.check_times(now)?;
        if !self.is_for(trusted.audience.as_deref()) {
            return Err(TokenError::Audience);
        }
        if trusted.issuer.is_some() && trusted.issuer.as_deref() != self.text("iss") {
            return Err(rejected("the issuer is not the key's"));
        }
        Ok(facts)
    }

    /// Those of an issuer's keys that have signed it and may give a role that it claims.
    ///
    /// Every project may register any issuer and any public key. So a project's keys count for tokens with roles of that
    /// project alone, and one key of each scope is tried before the second of any: nobody's keys keep another project's
    /// from being found, whatever they are and however many.
    fn signers(&self, issuers: Vec<Trusted>) -> Vec<Trusted> {
        let claimed = self.roles().unwrap_or_default();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, Trusted)> = Vec::new();
        for trusted in issuers {
            let may = claimed.iter().any(|role| trusted.may_give(role)) || trusted.scope == SYSTEM;
            if may && trusted.key.algorithm() == self.algorithm {
                let count = counts.entry(trusted.scope.clone()).or_default();
                *count += 1;
                ranked.push((*count, trusted));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let tried = ranked.into_iter().take(CANDIDATES_MAX).map(|(_, trusted)| trusted);
        tried.filter(|trusted| self.is_signed_by(&trusted.key)).collect()
    }
}

impl Trusted {
    /// Whether the key's scope has the role.
    fn may_give(&self, role: &Role) -> bool {
        self.scope == SYSTEM || role.scope() == self.scope
    }
}

/// Verifies a token with the keys that `keys` has, at `now` in seconds since 1970.
pub(crate) fn verify_with(token: &str, keys: &dyn Keys, now: f64) -> Result<(Caller, Facts), TokenError> {
    let parsed = Parsed::read(token)?;
    let named = parsed.header.kid.as_deref();
    let signers = match named.and_then(|kid| keys.by_id(kid)) {
        Some(trusted) => {
            parsed.check_signature(&trusted)?;
            vec![trusted]
        }
        None if named.is_some_and(|kid| keys.is_own(kid)) => Vec::new(),
        None => parsed.text("iss").map(|issuer| parsed.signers(keys.by_issuer(issuer))).unwrap_or_default(),
    };
    let mut outcome = Err(match named {
        Some(kid) if kid.contains(':') => TokenError::UnknownKey(kid.to_owned()),
        _ => TokenError::KeyId,
    });
    let mut good: Vec<&Trusted> = Vec::new();
    for trusted in &signers {
        match parsed.check_claims(trusted, now) {
            Ok(facts) => {
                good.push(trusted);
                outcome = Ok(facts);
            }
            Err(error) if good.is_empty() => outcome = Err(error),
            Err(_) => {}
        }
    }
    let facts = outcome?;
    if keys.is_revoked(&facts) {
        return Err(TokenError::Revoked);
    }
    // Several projects may have registered the key that has signed it. Each then gives its own roles and no other's, as if
    // the bearer had a token for each: subject, issuer and times are the same in all of them.
    let mut roles = parsed.roles()?;
    roles.retain(|role| {
        let own = good.iter().any(|trusted| trusted.may_give(role));
        if !own {
            tracing::warn!(subject = facts.subject, ?role, "a token claims a role that its key may not give");
        }
        own
    });
    Ok((Caller { subject: facts.subject.clone(), roles, _verified: Verified(()) }, facts))
}

/// Verifies a token with the key that `find` gives for `<project>` and `<credential id>`.
pub(crate) fn verify(
    token: &str,
    find: impl Fn(&str, &str) -> Option<VerifyingKey>,
) -> Result<Caller, TokenError> {
    struct Credentials<F>(F);
    impl<F: Fn(&str, &str) -> Option<VerifyingKey>> Keys for Credentials<F> {
        fn by_id(&self, kid: &str) -> Option<Trusted> {
            let (project, id) = kid.split_once(':')?;
            let key = (self.0)(project, id)?;
            Some(Trusted { key, scope: project.to_owned(), issuer: None, audience: None })
        }
        fn is_own(&self, _: &str) -> bool {
            true
        }
        fn by_issuer(&self, _: &str) -> Vec<Trusted> {
            Vec::new()
        }
        fn is_revoked(&self, _: &Facts) -> bool {
            false
        }
    }
    verify_with(token, &Credentials(find), now()).map(|(caller, _)| caller)
}

/// Signs a token; an empty `kid` is left out.
pub(crate) fn mint(key: &SigningKey, kid: &str, claims: &impl Serialize) -> Result<String, KeyError> {
    #[derive(Serialize)]
    struct MintedHeader<'a> {
        alg: &'a str,
        typ: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        kid: &'a str,
    }
    let part = |text: Result<Vec<u8>, serde_json::Error>| {
        text.map(|text| URL_SAFE_NO_PAD.encode(text)).map_err(|_| KeyError::Failed)
    };
    let header = MintedHeader { alg: key.algorithm().name(), typ: "JWT", kid };
    let message = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{signature}"))
}

/// The roles that a token claims, without verifying anything: for a client that chooses a project by its own token.
pub(crate) fn claimed_roles(token: &str) -> Option<Vec<Role>> {
    Parsed::read(token).ok()?.roles().ok()
}

/// When a token ends, without verifying anything: for a server that renews its own, and a client that warns.
pub(crate) fn expiry(token: &str) -> Option<u64> {
    Parsed::read(token).ok()?.claims.get("exp")?.as_u64()
}

/// Whether what ends at `expires` has ended at `now`, with the leeway.
pub(crate) fn has_ended(expires: f64, now: f64) -> bool {
    expires + LEEWAY_S <= now
}

/// The time as tokens count it.
pub(crate) fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

fn rejected(reason: &str) -> TokenError {
    TokenError::Rejected(reason.to_owned())
}

/// How far the clocks of who issues and of who verifies may differ, in seconds.
pub(crate) const LEEWAY_S: f64 = 30.0;
/// Longer than any token with a reasonable list of roles.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Keys of one issuer that are tried: work for a stranger is bounded.
const CANDIDATES_MAX: usize = 16;

#[cfg(test)]
mod test;
