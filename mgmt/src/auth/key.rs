//! RSA keys: made at the first start, read from what clients register.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKey};
use aws_lc_rs::signature::KeyPair as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use thiserror::Error;

/// A key that verifies tokens, with the one algorithm that it may be used for.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    /// The only algorithm that a token of this key may name.
    pub(super) algorithm: Algorithm,
    /// The key itself.
    pub(super) decoding: DecodingKey,
    /// The modulus, which tells keys apart.
    public: Vec<u8>,
}

/// A key that signs tokens.
pub(crate) struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) encoding: EncodingKey,
    private_pem: String,
    public_pem: String,
}

/// Why a text is no key of ours.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// It is not in PEM form.
    #[error("the key is not in PEM form")]
    NotPem,
    /// It is something else than a public RSA key.
    #[error("the PEM block holds no RSA public key")]
    NotRsaPublic,
    /// It is something else than a private RSA key.
    #[error("the PEM block holds no RSA private key in PKCS #8 form")]
    NotRsaPrivate,
    /// It is too short to be safe or too long to be fast.
    #[error("RSA keys have 2048 to 8192 bits")]
    Length,
    /// The library failed.
    #[error("the key cannot be made")]
    Failed,
}

impl VerifyingKey {
    /// Reads a public key from PEM text.
    ///
    /// The block's label is not trusted: some clients write `RSA PUBLIC KEY` around the other of the two encodings
    /// (PKCS #1 and SubjectPublicKeyInfo), so the content decides.
    pub(crate) fn parse_pem(text: &[u8]) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::NotPem)?;
        let key = PublicKey::from_der(block.contents()).map_err(|_| KeyError::NotRsaPublic)?;
        if !MODULUS_BYTES.contains(&key.modulus_len()) {
            return Err(KeyError::Length);
        }
        let public = key.modulus().big_endian_without_leading_zero().to_vec();
        Ok(Self { algorithm: Algorithm::RS256, decoding: DecodingKey::from_rsa_der(key.as_ref()), public })
    }

    /// Whether both are the same key.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl SigningKey {
    /// Makes a new key of 2048 bits.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Failed)?;
        let private = pair.as_der().map_err(|_| KeyError::Failed)?;
        Self::parse_pem(pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref())).as_bytes())
    }

    /// Reads a key that [`Self::private_pem`] gave.
    pub(crate) fn parse_pem(text: &[u8]) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::NotPem)?;
        let pair = KeyPair::from_pkcs8(block.contents()).map_err(|_| KeyError::NotRsaPrivate)?;
        let private_pem = pem::encode(&block);
        let encoding =
            EncodingKey::from_rsa_pem(private_pem.as_bytes()).map_err(|_| KeyError::NotRsaPrivate)?;
        let public = pair.public_key().as_der().map_err(|_| KeyError::Failed)?;
        let public_pem = pem::encode(&pem::Pem::new("PUBLIC KEY", public.as_ref()));
        Ok(Self { algorithm: Algorithm::RS256, encoding, private_pem, public_pem })
    }

    /// The private key as PEM text (PKCS #8).
    pub(crate) fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// The public key as PEM text (SubjectPublicKeyInfo).
    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }
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

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_public_key_is_read_by_its_content_whatever_its_label_says() {
        let key = SigningKey::generate().unwrap();
        let spki = pem::parse(key.public_pem()).unwrap().into_contents();
        let pkcs1 = PublicKey::from_der(&spki).unwrap().as_ref().to_vec();
        let expected = VerifyingKey::parse_pem(key.public_pem().as_bytes()).unwrap();
        for label in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
            for der in [&spki, &pkcs1] {
                let text = pem::encode(&pem::Pem::new(label, der.clone()));
                assert!(VerifyingKey::parse_pem(text.as_bytes()).unwrap().is(&expected), "{label}");
            }
        }
    }

    #[test]
    fn what_is_no_public_rsa_key_is_refused() {
        let private = SigningKey::generate().unwrap();
        assert_eq!(VerifyingKey::parse_pem(b"").unwrap_err(), KeyError::NotPem);
        assert_eq!(VerifyingKey::parse_pem(b"ssh-rsa AAAA").unwrap_err(), KeyError::NotPem);
        let error = VerifyingKey::parse_pem(private.private_pem().as_bytes()).unwrap_err();
        assert_eq!(error, KeyError::NotRsaPublic);
        let error = VerifyingKey::parse_pem(RSA_1024.as_bytes()).unwrap_err();
        assert!(matches!(error, KeyError::Length | KeyError::NotRsaPublic), "{error}");
    }

    #[test]
    fn a_private_key_survives_its_file() {
        let key = SigningKey::generate().unwrap();
        let read = SigningKey::parse_pem(key.private_pem().as_bytes()).unwrap();
        assert_eq!(read.public_pem(), key.public_pem());
    }

    /// `openssl genrsa 1024 | openssl rsa -pubout`.
    const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTFGRQ+B22/mH9iUOodLq2FOXZ
0k+sZm9SvWqxcElXJaSRxw0JTKHikBHwSOqvINXJZ/kam3aYJTq64MFWZko5VGqa
Mq6JDFDTK3nI/lWaGPyNSMbcUx25erqLq+lwsGpqBZB7Zj/STQZxRuoVnvj/+2e6
nRWe9HAMiW/bjVXPsQIDAQAB
-----END PUBLIC KEY-----
";
}
