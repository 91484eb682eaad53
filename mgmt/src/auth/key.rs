//! Keys of tokens: one algorithm each, made here or read from what people have.
//!
//! Whatever form a key comes in, it is kept in one: a public key as SubjectPublicKeyInfo, a private key as PKCS #8.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, ED25519,
    EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, VerificationAlgorithm as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use thiserror::Error;

use super::algorithm::{Algorithm, Family};

/// A key that verifies tokens, with the one algorithm that it may be used for.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    algorithm: Algorithm,
    /// SubjectPublicKeyInfo, or the secret.
    bytes: Vec<u8>,
    /// The library's form; none for what the library does not know.
    decoding: Option<DecodingKey>,
}

/// A key that signs tokens.
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    signer: Signer,
    /// PKCS #8, or the secret.
    private: Vec<u8>,
    /// SubjectPublicKeyInfo; empty for a secret.
    public: Vec<u8>,
}

enum Signer {
    Library(jsonwebtoken::Algorithm, EncodingKey),
    P521(Box<EcdsaKeyPair>),
}

/// Why a text is no key of ours.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// It is not in PEM form.
    #[error("the key is not in PEM form, which begins with -----BEGIN")]
    NotPem,
    /// It is a private key where a public one belongs.
    #[error("this is a private key; its public half is made by: openssl pkey -in PRIVATE.pem -pubout")]
    Private,
    /// It is something else than a public key for the algorithm.
    #[error("the PEM block holds no public key for {0}")]
    NotPublic(&'static str),
    /// It is something else than a private key for the algorithm.
    #[error("the PEM block holds no private key for {0}; encrypted keys must be decrypted first")]
    NotPrivate(&'static str),
    /// It is too short to be safe or too long to be fast.
    #[error("RSA keys have 2048 to 8192 bits")]
    Length,
    /// A secret is too short to be safe.
    #[error("a secret for {name} has {least} to 4096 bytes; make one with: openssl rand -base64 64")]
    SecretLength {
        /// The algorithm.
        name: &'static str,
        /// The least length.
        least: usize,
    },
    /// A secret is a key in PEM form.
    #[error("this is a key in PEM form and no secret; choose the algorithm that it is for")]
    SecretIsKey,
    /// The library failed.
    #[error("the key cannot be made")]
    Failed,
}

impl VerifyingKey {
    /// Reads a key for `algorithm`: a public key in PEM form, or a secret as it is.
    ///
    /// A block's label is not trusted: some clients write `RSA PUBLIC KEY` around the other of the two encodings
    /// (PKCS #1 and SubjectPublicKeyInfo), so the content decides.
    pub(crate) fn parse(algorithm: Algorithm, text: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() == Family::Hmac {
            return Self::of_secret(algorithm, text);
        }
        let block = pem::parse(text).map_err(|_| KeyError::NotPem)?;
        if block.tag().contains("PRIVATE") {
            return Err(KeyError::Private);
        }
        Self::of_public(algorithm, block.contents())
    }

    /// Reads a public RSA key in PEM form for RS256.
    #[cfg(test)]
    pub(crate) fn parse_pem(text: &[u8]) -> Result<Self, KeyError> {
        Self::parse(Algorithm::RS256, text)
    }

    /// A public key in any of its binary forms.
    pub(crate) fn of_public(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let wrong = || KeyError::NotPublic(algorithm.name());
        let spki = match algorithm.family() {
            Family::Rsa => {
                let key = PublicKey::from_der(der).map_err(|_| wrong())?;
                if !MODULUS_BYTES.contains(&key.modulus_len()) {
                    return Err(KeyError::Length);
                }
                key.as_der().map_err(|_| KeyError::Failed)?.as_ref().to_vec()
            }
            Family::Ec => spki_of(ParsedPublicKey::new(curve(algorithm).0, der).map_err(|_| wrong())?)?,
            Family::Ed => spki_of(ParsedPublicKey::new(&ED25519, der).map_err(|_| wrong())?)?,
            Family::Hmac => return Err(wrong()),
        };
        let decoding = algorithm.library().map(|_| match algorithm.family() {
            Family::Rsa => DecodingKey::from_rsa_der(&spki),
            Family::Ec => DecodingKey::from_ec_der(&spki),
            Family::Ed | Family::Hmac => DecodingKey::from_ed_der(&spki),
        });
        Ok(Self { algorithm, bytes: spki, decoding })
    }

    fn of_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let secret = checked_secret(algorithm, secret)?;
        let decoding = Some(DecodingKey::from_secret(secret));
        Ok(Self { algorithm, bytes: secret.to_vec(), decoding })
    }

    /// The only algorithm that a token of this key may name.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature`, in the token's own spelling, is this key's for `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &str) -> bool {
        if let (Some(algorithm), Some(key)) = (self.algorithm.library(), &self.decoding) {
            return jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false);
        }
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        ECDSA_P521_SHA512_FIXED.verify_sig(&self.bytes, message, &signature).is_ok()
    }

    /// Whether both are the same key for the same algorithm.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes == other.bytes
    }
}

impl SigningKey {
    /// Makes a new key for RS256, of 2048 bits.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        Self::generate_for(Algorithm::RS256)
    }

    /// Makes a new key.
    pub(crate) fn generate_for(algorithm: Algorithm) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Failed;
        let private = match algorithm.family() {
            Family::Rsa => {
                let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                pair.as_der().map_err(failed)?.as_ref().to_vec()
            }
            Family::Ec => {
                let pair = EcdsaKeyPair::generate(curve(algorithm).1).map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            Family::Ed => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            Family::Hmac => {
                let mut secret = vec![0; algorithm.secret_bytes_min()];
                SystemRandom::new().fill(&mut secret).map_err(failed)?;
                secret
            }
        };
        Self::of_private(algorithm, &private)
    }

    /// Reads a private RSA key in PEM form for RS256.
    pub(crate) fn parse_pem(text: &[u8]) -> Result<Self, KeyError> {
        Self::parse(Algorithm::RS256, text)
    }

    /// Reads a key for `algorithm`: a private key in PEM form (PKCS #8, PKCS #1 or SEC 1), or a secret as it is.
    pub(crate) fn parse(algorithm: Algorithm, text: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() == Family::Hmac {
            return Self::of_private(algorithm, text);
        }
        // openssl writes a block of curve parameters before the key itself.
        let blocks = pem::parse_many(text).map_err(|_| KeyError::NotPem)?;
        let block = blocks.iter().find(|block| block.tag() != "EC PARAMETERS").ok_or(KeyError::NotPem)?;
        Self::of_private(algorithm, block.contents())
    }

    /// Reads a private key in PEM form; the algorithm follows from the key, the weakest that fits.
    pub(crate) fn parse_any(text: &[u8]) -> Result<Self, KeyError> {
        use Algorithm::{ES256, ES384, ES512, EdDSA, RS256};
        let mut last = KeyError::NotPem;
        for algorithm in [RS256, ES256, ES384, ES512, EdDSA] {
            match Self::parse(algorithm, text) {
                Err(KeyError::NotPrivate(_)) => last = KeyError::NotPrivate("any algorithm"),
                outcome => return outcome,
            }
        }
        Err(last)
    }

    /// An Ed25519 key from its 32 bytes, or from these and the 32 of the public key.
    pub(crate) fn of_seed(bytes: &[u8]) -> Result<Self, KeyError> {
        let wrong = |_| KeyError::NotPrivate("EdDSA");
        let pair = match bytes.len() {
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]).map_err(wrong)?,
            _ => Ed25519KeyPair::from_seed_unchecked(bytes).map_err(wrong)?,
        };
        let private = pair.to_pkcs8v1().map_err(|_| KeyError::Failed)?;
        Self::of_private(Algorithm::EdDSA, private.as_ref())
    }

    fn of_private(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        let wrong = || KeyError::NotPrivate(algorithm.name());
        let failed = |_| KeyError::Failed;
        let (private, public) = match algorithm.family() {
            Family::Rsa => {
                let pair = KeyPair::from_pkcs8(bytes).or_else(|_| KeyPair::from_der(bytes));
                let pair = pair.map_err(|_| wrong())?;
                if !MODULUS_BYTES.contains(&pair.public_modulus_len()) {
                    return Err(KeyError::Length);
                }
                let public = pair.public_key().as_der().map_err(failed)?.as_ref().to_vec();
                (pair.as_der().map_err(failed)?.as_ref().to_vec(), public)
            }
            Family::Ec => {
                let pair = EcdsaKeyPair::from_private_key_der(curve(algorithm).1, bytes);
                let pair = pair.map_err(|_| wrong())?;
                let public = pair.public_key().as_der().map_err(failed)?.as_ref().to_vec();
                (pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(), public)
            }
            Family::Ed => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(|_| wrong())?;
                let public = pair.public_key().as_der().map_err(failed)?.as_ref().to_vec();
                (pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(), public)
            }
            Family::Hmac => (checked_secret(algorithm, bytes)?.to_vec(), Vec::new()),
        };
        let signer = Signer::new(algorithm, &private)?;
        Ok(Self { algorithm, signer, private, public })
    }

    /// The algorithm of its tokens.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that verifies what this one signs.
    pub(crate) fn verifying(&self) -> Result<VerifyingKey, KeyError> {
        match self.algorithm.family() {
            Family::Hmac => VerifyingKey::of_secret(self.algorithm, &self.private),
            Family::Rsa | Family::Ec | Family::Ed => VerifyingKey::of_public(self.algorithm, &self.public),
        }
    }

    /// Signs `message`; the signature is in a token's spelling.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        match &self.signer {
            Signer::Library(algorithm, key) => {
                jsonwebtoken::crypto::sign(message, key, *algorithm).map_err(|_| KeyError::Failed)
            }
            Signer::P521(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Failed)?;
                Ok(URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }

    /// The private key as PEM text (PKCS #8).
    pub(crate) fn private_pem(&self) -> String {
        pem::encode(&pem::Pem::new("PRIVATE KEY", self.private.clone()))
    }

    /// The public key as PEM text (SubjectPublicKeyInfo).
    pub(crate) fn public_pem(&self) -> String {
        pem::encode(&pem::Pem::new("PUBLIC KEY", self.public.clone()))
    }
}

impl Signer {
    fn new(algorithm: Algorithm, private: &[u8]) -> Result<Self, KeyError> {
        let Some(library) = algorithm.library() else {
            let pair = EcdsaKeyPair::from_pkcs8(curve(algorithm).1, private).map_err(|_| KeyError::Failed)?;
            return Ok(Self::P521(Box::new(pair)));
        };
        let key = match algorithm.family() {
            Family::Rsa => {
                let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", private));
                EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| KeyError::Failed)?
            }
            Family::Ec => EncodingKey::from_ec_der(private),
            Family::Ed => EncodingKey::from_ed_der(private),
            Family::Hmac => EncodingKey::from_secret(private),
        };
        Ok(Self::Library(library, key))
    }
}

/// Verification and signing on an algorithm's curve; what is on none gets one that refuses its keys.
fn curve(algorithm: Algorithm) -> (&'static EcdsaVerificationAlgorithm, &'static EcdsaSigningAlgorithm) {
    match algorithm {
        Algorithm::ES512 => (&ECDSA_P521_SHA512_FIXED, &ECDSA_P521_SHA512_FIXED_SIGNING),
        Algorithm::ES384 => (&ECDSA_P384_SHA384_FIXED, &ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => (&ECDSA_P256_SHA256_FIXED, &ECDSA_P256_SHA256_FIXED_SIGNING),
    }
}

fn spki_of(key: ParsedPublicKey) -> Result<Vec<u8>, KeyError> {
    Ok(key.as_der().map_err(|_| KeyError::Failed)?.as_ref().to_vec())
}

/// The secret, if it is long enough and no key in PEM form: a public key taken for a secret is known to everyone.
fn checked_secret(algorithm: Algorithm, secret: &[u8]) -> Result<&[u8], KeyError> {
    if secret.starts_with(b"-----BEGIN ") {
        return Err(KeyError::SecretIsKey);
    }
    let least = algorithm.secret_bytes_min();
    if !(least..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(KeyError::SecretLength { name: algorithm.name(), least });
    }
    Ok(secret)
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
const SECRET_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod test;
