//! The signature algorithms of tokens: ten, each with its name and what a key for it is.

/// A signature algorithm. RFC 7518 section 3.1, RFC 8037 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSA with PKCS #1 padding and SHA-256.
    RS256,
    /// RSA with PKCS #1 padding and SHA-384.
    RS384,
    /// RSA with PKCS #1 padding and SHA-512.
    RS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// What a key of an algorithm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// An RSA key pair.
    Rsa,
    /// A key pair on an elliptic curve of NIST's.
    Ec,
    /// A key pair on Edwards' curve 25519.
    Ed,
    /// A secret that both sides know.
    Hmac,
}

impl Algorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// Its name in a token's header.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// The algorithm that a token's header names, in exactly that spelling.
    pub(crate) fn of_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm that people mean: any case, and `EC256` for `ES256`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let text = match text.as_str() {
            "EC256" => "ES256",
            "EC384" => "ES384",
            "EC512" => "ES512",
            "ED25519" => "EDDSA",
            text => text,
        };
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text))
    }

    /// What a key for it is.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 => Family::Rsa,
            Self::ES256 | Self::ES384 | Self::ES512 => Family::Ec,
            Self::EdDSA => Family::Ed,
            Self::HS256 | Self::HS384 | Self::HS512 => Family::Hmac,
        }
    }

    /// The least length of a secret: that of the digest. RFC 7518 section 3.2.
    pub(super) fn secret_bytes_min(self) -> usize {
        match self {
            Self::HS384 => 48,
            Self::HS512 => 64,
            Self::HS256
            | Self::RS256
            | Self::RS384
            | Self::RS512
            | Self::ES256
            | Self::ES384
            | Self::ES512
            | Self::EdDSA => 32,
        }
    }

    /// The library's name for it; it has none for ES512.
    pub(super) fn library(self) -> Option<jsonwebtoken::Algorithm> {
        self.name().parse().ok()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_name_is_read_as_written_and_none_is_no_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of_header(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), Some(algorithm));
            assert_eq!(algorithm.library().is_none(), algorithm == Algorithm::ES512);
        }
        for name in ["none", "None", "NONE", "", "rs256", "PS256", "ES256K", "EC256"] {
            assert_eq!(Algorithm::of_header(name), None, "{name}");
        }
        assert_eq!(Algorithm::parse("EC512"), Some(Algorithm::ES512));
        assert_eq!(Algorithm::parse("none"), None);
    }
}
