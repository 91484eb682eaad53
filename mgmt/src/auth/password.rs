//! Passwords: kept as Argon2id digests, checked one at a time away from the management thread.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A password as it is kept, with what is needed to check one against it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Hashed {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    digest: String,
}

/// Why a password cannot be kept or checked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum PasswordError {
    /// It is too short to be safe or too long to be one.
    #[error("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    /// The library failed.
    #[error("the password cannot be processed")]
    Failed,
}

impl Hashed {
    /// Digests a password. Takes tens of milliseconds and 19 MiB.
    pub(crate) fn of(password: &str) -> Result<Self, PasswordError> {
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
            return Err(PasswordError::Length);
        }
        Self::digest_of(password)
    }

    /// What the password of nobody is checked against, so that names cannot be told apart by the time an answer takes.
    pub(crate) fn decoy() -> Result<Self, PasswordError> {
        Self::digest_of("")
    }

    fn digest_of(password: &str) -> Result<Self, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| PasswordError::Failed)?;
        let mut hashed = Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD.encode(salt),
            digest: String::new(),
        };
        hashed.digest = STANDARD.encode(hashed.run(password)?);
        Ok(hashed)
    }

    /// Whether `password` is the one. Takes as long as [`Self::of`].
    pub(crate) fn is(&self, password: &str) -> bool {
        let expected = STANDARD.decode(&self.digest).unwrap_or_default();
        let found =
            if password.len() > PASSWORD_BYTES_MAX { Err(PasswordError::Length) } else { self.run(password) };
        found.is_ok_and(|found| verify_slices_are_equal(&found, &expected).is_ok())
    }

    fn run(&self, password: &str) -> Result<[u8; DIGEST_BYTES], PasswordError> {
        let failed = |_| PasswordError::Failed;
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(DIGEST_BYTES)).map_err(failed)?;
        let salt = STANDARD.decode(&self.salt).map_err(|_| PasswordError::Failed)?;
        let mut digest = [0; DIGEST_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt, &mut digest)
            .map_err(failed)?;
        Ok(digest)
    }
}

/// RFC 9106 leaves these to the machine; they are what OWASP recommends for logins.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
const PASSWORD_BYTES_MIN: usize = 8;
pub(super) const PASSWORD_BYTES_MAX: usize = 256;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other_is() {
        let hashed = Hashed::of("correct horse").unwrap();
        assert!(hashed.is("correct horse"));
        for wrong in ["correct hors", "Correct horse", "", &"x".repeat(10_000)] {
            assert!(!hashed.is(wrong), "{wrong}");
        }
        let kept = serde_json::to_string(&hashed).unwrap();
        assert!(!kept.contains("horse"));
        assert_ne!(Hashed::of("correct horse").unwrap().digest, hashed.digest, "each has a salt of its own");
    }

    #[test]
    fn short_and_huge_passwords_are_refused() {
        assert_eq!(Hashed::of("seven77").unwrap_err(), PasswordError::Length);
        assert_eq!(Hashed::of(&"x".repeat(257)).unwrap_err(), PasswordError::Length);
    }
}
