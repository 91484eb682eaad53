//! Tokens: made for the state folder, verified on every request.
//!
//! Every rule is set here explicitly; the library's defaults are not relied on. A token is accepted if
//! - its header names a credential (`kid` = `<project>:<credential id>`) that exists at this moment, has no critical
//!   extension, and its algorithm is the one that the credential's key is for;
//! - the signature is right, `exp` is in the future, `nbf`, if there is one, is not, without leeway;
//! - it has `sub` and `roles`, and no `aud`: a token meant for another service is not for this one.
//!
//! Roles that the credential's project may not give are dropped, so that such a token is right and permits nothing.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::key::{SigningKey, VerifyingKey};
use super::{Caller, Role, SYSTEM};

/// What a token of this server's own says.
#[derive(Clone, Debug, Serialize)]
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

/// What is read of a token that a client presents; times are the library's to check.
#[derive(Debug, Deserialize)]
struct Presented {
    sub: String,
    roles: Vec<String>,
    #[serde(default)]
    aud: Option<Value>,
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
    /// Its header names no credential.
    #[error("the token's header has no kid of the form <project>:<credential>")]
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
}

/// Proof that the value beside it was made here.
#[derive(Clone, Debug)]
pub(crate) struct Verified(());

/// Verifies a token with the key that `find` gives for `<project>` and `<credential id>`.
pub(crate) fn verify(
    token: &str,
    find: impl FnOnce(&str, &str) -> Option<VerifyingKey>,
) -> Result<Caller, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Header)?;
    // RFC 7515 section 4.1.11: who does not understand a critical extension must refuse, and we understand none.
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    let kid = header.kid.ok_or(TokenError::KeyId)?;
    let (project, id) = kid.split_once(':').ok_or(TokenError::KeyId)?;
    let key = find(project, id).ok_or_else(|| TokenError::UnknownKey(kid.clone()))?;
    let claims = jsonwebtoken::decode::<Presented>(token, &key.decoding, &rules(key.algorithm))
        .map_err(|error| TokenError::Rejected(error.to_string()))?
        .claims;
    if claims.aud.is_some() {
        return Err(TokenError::Audience);
    }
    let mut roles = Vec::new();
    for text in claims.roles.iter().take(ROLES_MAX) {
        match Role::parse(text) {
            Some(role) if project == SYSTEM || role.scope() == project => roles.push(role),
            Some(_) => {
                tracing::warn!(kid, role = text, "a token claims a role that its credential may not give")
            }
            None => tracing::debug!(kid, role = text, "a token claims an unknown role"),
        }
    }
    Ok(Caller { subject: claims.sub, roles, _verified: Verified(()) })
}

/// Signs a token.
pub(crate) fn mint(
    key: &SigningKey,
    kid: &str,
    claims: &Claims,
) -> Result<String, jsonwebtoken::errors::Error> {
    let mut header = Header::new(key.algorithm);
    header.typ = Some("JWT".to_owned());
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, &key.encoding)
}

/// The roles that a token claims, without verifying anything: for a client that chooses a project by its own token.
pub(crate) fn claimed_roles(token: &str) -> Option<Vec<Role>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let claims = jsonwebtoken::dangerous::insecure_decode::<Presented>(token).ok()?.claims;
    Some(claims.roles.iter().filter_map(|text| Role::parse(text)).collect())
}

/// When a token ends, without verifying anything: for a server that renews its own.
pub(crate) fn expiry(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Expiry {
        exp: u64,
    }
    Some(jsonwebtoken::dangerous::insecure_decode::<Expiry>(token).ok()?.claims.exp)
}

fn rules(algorithm: Algorithm) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.algorithms = vec![algorithm];
    rules.set_required_spec_claims(&["exp", "sub"]);
    rules.leeway = 0;
    rules.reject_tokens_expiring_in_less_than = 0;
    rules.validate_exp = true;
    rules.validate_nbf = true;
    // With no audience of our own, any that the token has is wrong. RFC 7519 section 4.1.3.
    rules.validate_aud = true;
    rules.aud = None;
    rules.iss = None;
    rules.sub = None;
    rules
}

/// Longer than any token with a reasonable list of roles.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Roles beyond these are not read.
const ROLES_MAX: usize = 64;

#[cfg(test)]
mod test;
