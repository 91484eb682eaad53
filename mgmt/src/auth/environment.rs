//! The key pair of the environment file: signs users' tokens, and lets other services verify them.
//!
//! The file has lines of the form `NAME="value"`. `JWT_PRIVATE_KEY` and `JWT_PUBLIC_KEY` are an Ed25519 key pair in
//! base64, `JWT_ISSUER` is what its tokens have as `iss`.

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::algorithm::Algorithm;
use super::key::{KeyError, SigningKey, VerifyingKey};

/// The keys of an environment file.
#[derive(Debug)]
pub(crate) struct EnvironmentKeys {
    /// The private key; none on a server that only verifies.
    pub(crate) signing: Option<SigningKey>,
    /// The public key.
    pub(crate) verifying: VerifyingKey,
    /// The issuer of its tokens.
    pub(crate) issuer: String,
}

/// Why an environment file cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum EnvironmentError {
    /// A line is none of its form.
    #[error("line {0}: expected NAME=\"value\"")]
    Line(usize),
    /// A key is none.
    #[error("{name}: expected what ferrule gen-keypair prints: an Ed25519 key in base64")]
    Key {
        /// Which.
        name: &'static str,
    },
    /// The two keys do not belong together.
    #[error("JWT_PUBLIC_KEY is not the public half of JWT_PRIVATE_KEY; make both with ferrule gen-keypair")]
    Mismatch,
}

impl EnvironmentKeys {
    /// Reads the keys that `variables` name; none where there are none.
    pub(crate) fn read(variables: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, EnvironmentError> {
        let bytes = |name: &'static str| {
            let text = variables(name).filter(|text| !text.is_empty());
            let decoded = text.map(|text| STANDARD.decode(text).map_err(|_| EnvironmentError::Key { name }));
            decoded.transpose()
        };
        let wrong = |name| move |_: KeyError| EnvironmentError::Key { name };
        let private = bytes(PRIVATE)?.map(|seed| SigningKey::of_seed(&seed)).transpose();
        let signing = private.map_err(wrong(PRIVATE))?;
        let public = bytes(PUBLIC)?.map(|key| VerifyingKey::of_public(Algorithm::EdDSA, &key)).transpose();
        let public = public.map_err(wrong(PUBLIC))?;
        let own = signing.as_ref().map(SigningKey::verifying).transpose().map_err(wrong(PRIVATE))?;
        let verifying = match (own, public) {
            (None, None) => return Ok(None),
            (Some(own), Some(public)) if !own.is(&public) => return Err(EnvironmentError::Mismatch),
            (Some(key), _) | (None, Some(key)) => key,
        };
        let issuer = variables("JWT_ISSUER").filter(|issuer| !issuer.is_empty());
        Ok(Some(Self { signing, verifying, issuer: issuer.unwrap_or_else(|| ISSUER.to_owned()) }))
    }
}

/// Reads the lines of an environment file.
pub(crate) fn parse_file(text: &str) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || EnvironmentError::Line(index + 1);
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        if name.trim().is_empty() || value.contains(['"', '\'']) {
            return Err(wrong());
        }
        variables.push((name.trim().to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// Makes a key pair; the text is that of an environment file.
pub(crate) fn generate() -> Result<String, KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Failed)?;
    let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| KeyError::Failed)?;
    let public = pair.public_key().as_ref();
    // The form that other tools of this kind use: the seed, and the public key behind it.
    let private = [seed.as_ref(), public].concat();
    Ok(format!("{PUBLIC}=\"{}\"\n{PRIVATE}=\"{}\"\n", STANDARD.encode(public), STANDARD.encode(private)))
}

const PRIVATE: &str = "JWT_PRIVATE_KEY";
const PUBLIC: &str = "JWT_PUBLIC_KEY";
const ISSUER: &str = "ferrule";

#[cfg(test)]
mod test {
    use super::*;

    fn read(text: &str) -> Result<Option<EnvironmentKeys>, EnvironmentError> {
        let variables = parse_file(text)?;
        EnvironmentKeys::read(|name| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn a_generated_pair_is_read_whole_or_by_its_public_half() {
        let text = generate().unwrap();
        let keys = read(&text).unwrap().unwrap();
        let signature = keys.signing.unwrap().sign(b"m").unwrap();
        let public = text.lines().next().unwrap();
        let other = read(&format!("# a comment\n\nexport {public}\nJWT_ISSUER='us'\n")).unwrap().unwrap();
        assert!(other.verifying.verify(b"m", &signature) && other.signing.is_none());
        assert_eq!((keys.issuer.as_str(), other.issuer.as_str()), ("ferrule", "us"));
        assert!(read("OTHER=1\n").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        let mixed = format!("{}\n{}\n", one.lines().next().unwrap(), two.lines().nth(1).unwrap());
        assert_eq!(read(&mixed).unwrap_err(), EnvironmentError::Mismatch);
        assert_eq!(read("A=1\nnonsense\n").unwrap_err(), EnvironmentError::Line(2));
        assert_eq!(read("JWT_PUBLIC_KEY=\"AAAA\"").unwrap_err(), EnvironmentError::Key { name: PUBLIC });
        assert_eq!(read("JWT_PRIVATE_KEY=\"?\"").unwrap_err(), EnvironmentError::Key { name: PRIVATE });
    }
}
