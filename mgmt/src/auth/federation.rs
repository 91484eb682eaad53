//! Tokens of other issuers: verified with keys that the issuer publishes, turned into roles by the cluster's own map.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;

use super::algorithm::{Algorithm, Family};
use super::key::{KeyError, VerifyingKey};
use super::token::{Facts, Parsed, TokenError, Verified};
use super::{Caller, Role};

/// A public key as RFC 7517 writes it.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Jwk {
    /// Its name, which tokens carry.
    pub(crate) kid: Option<String>,
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// How tokens of one issuer are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// The clients to which the issuer gives tokens for this cluster.
    pub(crate) clients: Vec<Client>,
    /// Which role a client or a claim gives.
    pub(crate) maps: Vec<Map>,
}

/// A client, and what says who the caller is.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The client's name at the issuer.
    pub(crate) id: String,
    /// Who decides.
    pub(crate) mode: Mode,
    /// The claim, where one decides.
    pub(crate) claim: String,
}

/// Who decides which roles a token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The client.
    App,
    /// A claim of tokens for the client.
    User,
    /// A claim of tokens for any client.
    Converge,
}

/// An entry of the map.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    /// The client's name or the claim's value.
    pub(crate) identifier: String,
    /// `<scope>:<role>`.
    pub(crate) role: String,
}

impl Jwk {
    /// The key, for the algorithm that it names, else for the one of a token's header.
    fn verifying(&self, header: Algorithm) -> Result<VerifyingKey, KeyError> {
        let wrong = || KeyError::NotPublic(header.name());
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err(wrong());
        }
        let named = self.alg.as_deref().map(|name| Algorithm::of_header(name).ok_or_else(wrong));
        let algorithm = named.transpose()?.unwrap_or(header);
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| wrong());
        match (self.kty.as_str(), self.crv.as_str(), algorithm.family()) {
            ("RSA", _, Family::Rsa) => {
                let key = PublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? };
                let key = key.as_der().map_err(|_| wrong())?;
                VerifyingKey::of_public(algorithm, key.as_ref())
            }
            ("EC", "P-256" | "P-384" | "P-521", Family::Ec) => {
                let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
                VerifyingKey::of_public(algorithm, &point)
            }
            ("OKP", "Ed25519", Family::Ed) => VerifyingKey::of_public(algorithm, &part(&self.x)?),
            _ => Err(wrong()),
        }
    }
}

/// Verifies a token of an issuer with its published keys, at `now` in seconds since 1970.
pub(crate) fn verify(
    token: &Parsed<'_>,
    keys: &[Jwk],
    reading: &Reading,
    now: f64,
) -> Result<(Caller, Facts), TokenError> {
    let named = token.header.kid.as_deref();
    let fits = |key: &&Jwk| named.is_none() || key.kid.is_none() || key.kid.as_deref() == named;
    let mut signers = keys.iter().filter(fits).take(KEYS_MAX);
    let signs = |key: &Jwk| key.verifying(token.algorithm).is_ok_and(|key| token.is_signed_by(&key));
    if !signers.any(signs) {
        return Err(TokenError::Rejected("no published key of the issuer has signed it".to_owned()));
    }
    let facts = token.check_times(now)?;
    let identifiers = identifiers(token, &reading.clients)?;
    let mut roles: Vec<Role> = Vec::new();
    for map in reading.maps.iter().filter(|map| identifiers.contains(&map.identifier)) {
        roles.extend(Role::parse(&map.role));
    }
    Ok((Caller { subject: facts.subject.clone(), roles, _verified: Verified::new() }, facts))
}

/// What the map is asked for: names of clients, values of claims.
fn identifiers(token: &Parsed<'_>, clients: &[Client]) -> Result<Vec<String>, TokenError> {
    let mut identifiers = Vec::new();
    let mut known = false;
    for client in clients {
        let party = ["azp", "appid", "client_id"].iter().any(|claim| token.text(claim) == Some(&client.id));
        let own = party || token.is_for(Some(&client.id));
        if !own && client.mode != Mode::Converge {
            continue;
        }
        known = true;
        if client.mode == Mode::App {
            identifiers.push(client.id.clone());
        } else if let Some(one) = token.text(&client.claim) {
            identifiers.push(one.to_owned());
        } else {
            let values = token.texts(&client.claim)?.unwrap_or_default();
            identifiers.extend(values.into_iter().take(CLAIMS_MAX));
        }
    }
    if known { Ok(identifiers) } else { Err(TokenError::Audience) }
}

/// Keys of an issuer that are tried.
const KEYS_MAX: usize = 16;
/// Values of a claim that are read.
const CLAIMS_MAX: usize = 256;

#[cfg(test)]
mod test {
    use serde_json::{Value, json};

    use super::super::key::SigningKey;
    use super::super::token::mint;
    use super::super::{Resource, Scope, Verb};
    use super::*;

    fn key() -> (SigningKey, Jwk) {
        // An Ed25519 key's SubjectPublicKeyInfo ends with its 32 bytes.
        let key = SigningKey::of_seed(&[9; 32]).unwrap();
        let der = pem::parse(key.public_pem()).unwrap().into_contents();
        let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "use": "sig"});
        (key, serde_json::from_value(jwk).unwrap())
    }

    fn reading(mode: Mode, claim: &str) -> Reading {
        let map =
            |identifier: &str, role: &str| Map { identifier: identifier.to_owned(), role: role.to_owned() };
        Reading {
            clients: vec![Client { id: "ferrule".to_owned(), mode, claim: claim.to_owned() }],
            maps: vec![map("admins", "system:cluster-admin"), map("ferrule", "default:viewer")],
        }
    }

    fn check(claims: &Value, mode: Mode) -> Result<Caller, TokenError> {
        let (signing, jwk) = key();
        let token = mint(&signing, "k1", claims).unwrap();
        let parsed = Parsed::read(&token).unwrap();
        verify(&parsed, &[jwk], &reading(mode, "groups"), 100.0).map(|(caller, _)| caller)
    }

    #[test]
    fn a_client_or_a_claim_decides_by_the_map() {
        let claims = json!({"sub": "ann", "exp": 200, "aud": "ferrule", "groups": ["admins", "others"]});
        assert!(check(&claims, Mode::User).unwrap().is_cluster_admin());
        let app = check(&claims, Mode::App).unwrap();
        assert!(!app.is_cluster_admin());
        assert!(app.permit(Resource::Volumes, Verb::List, Scope::Project("default")).is_ok());
        let text = json!({"sub": "ann", "exp": 200, "azp": "ferrule", "aud": "x", "groups": "admins"});
        assert!(check(&text, Mode::User).unwrap().is_cluster_admin());
        let nothing = json!({"sub": "ann", "exp": 200, "aud": "ferrule"});
        assert!(!check(&nothing, Mode::User).unwrap().is_cluster_admin());
    }

    #[test]
    fn tokens_for_others_expired_or_unsigned_are_refused() {
        let other = json!({"sub": "ann", "exp": 200, "aud": "other", "groups": ["admins"]});
        assert_eq!(check(&other, Mode::User).unwrap_err(), TokenError::Audience);
        assert_eq!(check(&other, Mode::App).unwrap_err(), TokenError::Audience);
        assert!(check(&other, Mode::Converge).unwrap().is_cluster_admin());
        let old = json!({"sub": "ann", "exp": 69, "aud": "ferrule", "groups": ["admins"]});
        assert!(check(&old, Mode::User).is_err());
        let stranger = SigningKey::of_seed(&[8; 32]).unwrap();
        let good = json!({"sub": "ann", "exp": 200, "aud": "ferrule", "groups": ["admins"]});
        let token = mint(&stranger, "k1", &good).unwrap();
        let parsed = Parsed::read(&token).unwrap();
        assert!(verify(&parsed, &[key().1], &reading(Mode::User, "groups"), 100.0).is_err());
        let unknown = mint(&key().0, "k2", &good).unwrap();
        let parsed = Parsed::read(&unknown).unwrap();
        assert!(verify(&parsed, &[key().1], &reading(Mode::User, "groups"), 100.0).is_err());
    }

    #[test]
    fn a_secret_among_published_keys_is_no_key() {
        let jwk: Jwk = serde_json::from_value(json!({"kty": "oct", "k": "AAAA", "alg": "HS256"})).unwrap();
        assert!(jwk.verifying(Algorithm::HS256).is_err());
    }

    #[test]
    fn json_web_keys_are_read() {
        // RFC 7517 appendix A.1, RFC 8037 appendix A.2.
        let p256 = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;
        let jwk: Jwk = serde_json::from_str(p256).unwrap();
        assert!(jwk.verifying(Algorithm::ES256).is_err(), "not for signatures");
        let jwk: Jwk = serde_json::from_str(&p256.replace("enc", "sig")).unwrap();
        assert!(jwk.verifying(Algorithm::ES256).is_ok());
        for other in [Algorithm::RS256, Algorithm::ES384, Algorithm::HS256, Algorithm::EdDSA] {
            assert!(jwk.verifying(other).is_err(), "{other:?}");
        }
        let ed = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let jwk: Jwk = serde_json::from_str(ed).unwrap();
        assert!(jwk.verifying(Algorithm::EdDSA).is_ok());
    }
}
