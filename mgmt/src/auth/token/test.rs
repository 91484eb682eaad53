//! Attacks on tokens, each refused for its own reason.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::*;
use crate::auth::{Denied, Resource, Scope, Verb};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());
/// The same for a library that is not under test.
static ENCODING: LazyLock<EncodingKey> =
    LazyLock::new(|| EncodingKey::from_rsa_pem(KEY.private_pem().as_bytes()).unwrap());

fn public() -> VerifyingKey {
    VerifyingKey::parse_pem(KEY.public_pem().as_bytes()).unwrap()
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn claims() -> Value {
    json!({"exp": now() + 60, "sub": "someone", "roles": ["system:cluster-admin"]})
}

fn signed(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &ENCODING).unwrap()
}

fn with_kid(kid: &str) -> Header {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(kid.to_owned());
    header
}

fn check(token: &str) -> Result<Caller, TokenError> {
    verify(token, |project, id| ((project, id) == ("system", "root") || project == "p").then(public))
}

fn rejected(claims: &Value) -> bool {
    matches!(check(&signed(&with_kid("system:root"), claims)), Err(TokenError::Rejected(_)))
}

#[test]
fn a_token_of_a_stored_credential_is_accepted() {
    let caller = check(&signed(&with_kid("system:root"), &claims())).unwrap();
    assert_eq!(caller.subject(), "someone");
    assert!(caller.is_cluster_admin());
    let minted = Claims {
        exp: now() + 60,
        iat: now(),
        sub: "s",
        iss: "i",
        jti: "j",
        roles: &["system:cluster-admin"],
    };
    assert!(check(&mint(&KEY, "system:root", &minted).unwrap()).unwrap().is_cluster_admin());
}

#[test]
fn times_may_have_fractions_and_other_claims_any_type() {
    let mut claims = claims();
    claims["exp"] = json!(now() as f64 + 60.5);
    claims["iss"] = json!(["a", "b"]);
    claims["jti"] = json!(7);
    claims["extra"] = json!({"a": null});
    assert!(check(&signed(&with_kid("system:root"), &claims)).is_ok());
}

#[test]
fn alg_none_is_refused() {
    for alg in ["none", "None", "NONE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": "system:root"}).to_string());
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        assert_eq!(check(&format!("{header}.{payload}.")).unwrap_err(), TokenError::Header, "{alg}");
    }
}

#[test]
fn hs256_with_the_public_key_as_secret_is_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("system:root".to_owned());
    let der = pem::parse(KEY.public_pem()).unwrap().into_contents();
    for secret in [KEY.public_pem().as_bytes(), KEY.public_pem().trim().as_bytes(), &der] {
        let key = EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert!(matches!(check(&token), Err(TokenError::Rejected(_))));
    }
}

#[test]
fn another_algorithm_of_the_same_key_is_refused() {
    for algorithm in [Algorithm::RS384, Algorithm::RS512] {
        let mut header = Header::new(algorithm);
        header.kid = Some("system:root".to_owned());
        assert!(matches!(check(&signed(&header, &claims())), Err(TokenError::Rejected(_))), "{algorithm:?}");
    }
    let mut header = with_kid("system:root");
    header.alg = Algorithm::PS256;
    assert_eq!(check(&signed(&header, &claims())).unwrap_err(), TokenError::Header);
}

#[test]
fn expired_early_and_timeless_tokens_are_refused() {
    let change = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    assert!(rejected(&change("exp", json!(now() - 60))));
    assert!(rejected(&change("exp", json!(0))));
    assert!(rejected(&change("exp", json!(-1))));
    assert!(rejected(&change("exp", json!("9999999999"))));
    assert!(rejected(&change("exp", Value::Null)));
    assert!(rejected(&change("nbf", json!(now() + 90))));
    assert!(rejected(&change("nbf", json!("soon"))));
    assert!(rejected(&change("sub", Value::Null)));
    assert!(rejected(&change("roles", Value::Null)));
    assert!(rejected(&change("roles", json!("system:cluster-admin"))));
    assert!(!rejected(&change("nbf", json!(now() - 1))));
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let keys = Table(vec![(Some("p:a"), trusted(&KEY, None, None))], vec![]);
    let claims = json!({"nbf": 1000, "exp": 2000, "sub": "s", "roles": ["p:admin"]});
    let token = signed(&with_kid("p:a"), &claims);
    let at = |seconds: f64| verify_with(&token, &keys, seconds).is_ok();
    assert!((LEEWAY_S - 30.0).abs() < f64::EPSILON, "what the documents say");
    for (seconds, accepted) in [
        (0.0, false),
        (1000.0 - LEEWAY_S - 0.001, false),
        (1000.0 - LEEWAY_S, true),
        (1000.0, true),
        (2000.0, true),
        (2000.0 + LEEWAY_S - 0.001, true),
        (2000.0 + LEEWAY_S, false),
    ] {
        assert_eq!(at(seconds), accepted, "{seconds}");
    }
    // A registered audience and a registered issuer hold at every time.
    let keys = Table(vec![(Some("p:a"), trusted(&KEY, Some("them"), Some("us")))], vec![]);
    for (iss, aud, accepted) in [
        (json!("them"), json!("us"), true),
        (json!("them"), Value::Null, false),
        (Value::Null, json!("us"), false),
        (json!("others"), json!("us"), false),
        (json!(["them"]), json!("us"), false),
    ] {
        let mut claims = claims.clone();
        (claims["iss"], claims["aud"]) = (iss, aud);
        let token = signed(&with_kid("p:a"), &claims);
        assert_eq!(verify_with(&token, &keys, 1500.0).is_ok(), accepted, "{claims}");
    }
}

#[test]
fn an_audience_is_never_ours() {
    for audience in [json!("other"), json!(["other"]), json!([]), json!(7)] {
        let mut claims = claims();
        claims["aud"] = audience.clone();
        assert!(check(&signed(&with_kid("system:root"), &claims)).is_err(), "{audience}");
    }
}

#[test]
fn kid_must_name_a_stored_credential() {
    let kid = |kid: &str| check(&signed(&with_kid(kid), &claims())).unwrap_err();
    assert_eq!(kid("system:other"), TokenError::UnknownKey("system:other".to_owned()));
    assert_eq!(kid("root"), TokenError::KeyId);
    assert_eq!(kid(""), TokenError::KeyId);
    assert_eq!(check(&signed(&Header::new(Algorithm::RS256), &claims())).unwrap_err(), TokenError::KeyId);
}

#[test]
fn another_key_and_a_changed_text_are_refused() {
    let other = SigningKey::generate().unwrap().private_pem();
    let other = EncodingKey::from_rsa_pem(other.as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&with_kid("system:root"), &claims(), &other).unwrap();
    assert!(matches!(check(&token), Err(TokenError::Rejected(_))));
    let token = signed(&with_kid("p:a"), &json!({"exp": now() + 60, "sub": "s", "roles": ["p:viewer"]}));
    let parts: Vec<&str> = token.split('.').collect();
    let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
    assert!(check(&format!("{}.{payload}.{}", parts[0], parts[2])).is_err());
    assert!(check(&format!("{}.{}.", parts[0], parts[1])).is_err());
    assert!(check(&format!("{}.{}", parts[0], parts[1])).is_err());
    assert!(check(&format!("{token}.x")).is_err());
}

#[test]
fn a_critical_extension_is_refused() {
    let mut header = with_kid("system:root");
    header.crit = Some(vec!["exp".to_owned()]);
    assert_eq!(check(&signed(&header, &claims())).unwrap_err(), TokenError::Critical);
}

#[test]
fn a_credential_of_a_project_gives_roles_of_that_project_alone() {
    let roles = json!(["system:cluster-admin", "q:admin", "p:admin", "p:unknown"]);
    let claims = json!({"exp": now() + 60, "sub": "s", "roles": roles});
    let caller = check(&signed(&with_kid("p:a"), &claims)).unwrap();
    assert!(!caller.is_cluster_admin());
    assert!(caller.permit(Resource::Volumes, Verb::Create, Scope::Project("p")).is_ok());
    let denied = caller.permit(Resource::Volumes, Verb::List, Scope::Project("q")).unwrap_err();
    assert_eq!(denied, Denied);
    assert!(caller.permit(Resource::Volumes, Verb::List, Scope::Cluster).is_err());
}

#[test]
fn a_credential_of_the_system_gives_any_role() {
    let claims = json!({"exp": now() + 60, "sub": "s", "roles": ["q:viewer"]});
    let caller = check(&signed(&with_kid("system:root"), &claims)).unwrap();
    assert!(caller.permit(Resource::Volumes, Verb::List, Scope::Project("q")).is_ok());
    assert!(caller.permit(Resource::Volumes, Verb::Create, Scope::Project("q")).is_err());
}

#[test]
fn garbage_is_refused_without_a_panic() {
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é", "e30.e30.e30", &"x".repeat(9000)] {
        assert!(check(text).is_err(), "{text}");
        assert!(claimed_roles(text).is_none());
    }
}

/// Keys as a server has them: one by `kid`, others by their issuers.
struct Table(Vec<(Option<&'static str>, Trusted)>, Vec<&'static str>);

impl Keys for Table {
    fn by_id(&self, kid: &str) -> Option<Trusted> {
        self.0.iter().find(|(known, _)| *known == Some(kid)).map(|(_, trusted)| trusted.clone())
    }

    fn is_own(&self, kid: &str) -> bool {
        kid.starts_with("ours:")
    }

    fn by_issuer(&self, issuer: &str) -> Vec<Trusted> {
        let named = |trusted: &Trusted| trusted.issuer.as_deref() == Some(issuer);
        self.0.iter().filter(|(_, trusted)| named(trusted)).map(|(_, trusted)| trusted.clone()).collect()
    }

    fn is_revoked(&self, token: &Facts) -> bool {
        token.id.as_deref().is_some_and(|id| self.1.contains(&id))
    }
}

fn trusted(key: &SigningKey, issuer: Option<&str>, audience: Option<&str>) -> Trusted {
    Trusted {
        key: key.verifying().unwrap(),
        scope: "system".to_owned(),
        issuer: issuer.map(str::to_owned),
        audience: audience.map(str::to_owned),
    }
}

fn accepted(keys: &Table, token: &str) -> Result<Caller, TokenError> {
    #[expect(clippy::cast_precision_loss, reason = "a time of our days")]
    verify_with(token, keys, now() as f64).map(|(caller, _)| caller)
}

#[test]
fn a_token_without_kid_is_found_by_its_registered_issuer() {
    use crate::auth::algorithm::Algorithm as Own;
    for algorithm in Own::ALL {
        let key = SigningKey::generate_for(algorithm).unwrap();
        let keys = Table(vec![(None, trusted(&key, Some("them"), None))], vec![]);
        let mut claims = claims();
        claims["iss"] = json!("them");
        assert!(accepted(&keys, &mint(&key, "", &claims).unwrap()).unwrap().is_cluster_admin());
        assert!(accepted(&keys, &mint(&key, "their-own-name", &claims).unwrap()).is_ok());
        let ours = accepted(&keys, &mint(&key, "ours:gone", &claims).unwrap()).unwrap_err();
        assert_eq!(ours, TokenError::UnknownKey("ours:gone".to_owned()));
        claims["iss"] = json!("others");
        assert_eq!(accepted(&keys, &mint(&key, "", &claims).unwrap()).unwrap_err(), TokenError::KeyId);
        // A key that a kid names is for its registered issuer alone, too.
        let keys = Table(vec![(Some("p:a"), trusted(&key, Some("them"), None))], vec![]);
        assert!(accepted(&keys, &mint(&key, "p:a", &claims).unwrap()).is_err());
    }
}

#[test]
fn keys_of_one_issuer_are_told_apart_by_algorithm_and_signature() {
    use crate::auth::algorithm::Algorithm as Own;
    let keys: Vec<SigningKey> = [Own::RS256, Own::RS384, Own::ES256, Own::ES256, Own::HS256]
        .into_iter()
        .map(|algorithm| SigningKey::generate_for(algorithm).unwrap())
        .collect();
    let table = Table(keys.iter().map(|key| (None, trusted(key, Some("them"), None))).collect(), vec![]);
    let mut claims = claims();
    claims["iss"] = json!("them");
    for key in &keys {
        assert!(accepted(&table, &mint(key, "", &claims).unwrap()).is_ok(), "{key:?}");
    }
    let stranger = SigningKey::generate_for(Own::ES256).unwrap();
    assert!(accepted(&table, &mint(&stranger, "", &claims).unwrap()).is_err());
}

/// A key that the project `scope` has registered for the issuer `them`.
fn registered(scope: &str, key: &SigningKey) -> (Option<&'static str>, Trusted) {
    (None, Trusted { scope: scope.to_owned(), ..trusted(key, Some("them"), None) })
}

/// A token of the issuer `them` with these roles.
fn theirs(key: &SigningKey, roles: &[&str]) -> String {
    let claims = json!({"exp": now() + 60, "sub": "someone", "iss": "them", "roles": roles});
    mint(key, "", &claims).unwrap()
}

fn new_key() -> SigningKey {
    SigningKey::generate_for(crate::auth::algorithm::Algorithm::ES256).unwrap()
}

#[test]
fn a_project_does_not_crowd_out_the_keys_that_another_registers_for_an_issuer() {
    let key = new_key();
    let mut keys: Vec<_> = (0..40).map(|_| registered("aaa", &new_key())).collect();
    keys.push(registered("bbb", &key));
    let table = Table(keys, vec![]);
    for roles in [&["bbb:admin"][..], &["aaa:admin", "bbb:admin"]] {
        let caller = accepted(&table, &theirs(&key, roles)).unwrap();
        assert!(caller.permit(Resource::Volumes, Verb::Create, Scope::Project("bbb")).is_ok());
        assert!(caller.permit(Resource::Volumes, Verb::List, Scope::Project("aaa")).is_err());
    }
}

#[test]
fn a_key_that_several_projects_register_gives_the_roles_of_each() {
    let key = new_key();
    let keys = [("aaa", &key), ("bbb", &key), ("ccc", &new_key())];
    let table = Table(keys.map(|(scope, key)| registered(scope, key)).into(), vec![]);
    let roles = ["ccc:admin", "bbb:admin", "aaa:viewer", "system:cluster-admin"];
    let caller = accepted(&table, &theirs(&key, &roles)).unwrap();
    let may = |verb, project| caller.permit(Resource::Volumes, verb, Scope::Project(project)).is_ok();
    assert!(may(Verb::List, "aaa") && may(Verb::Create, "bbb"));
    assert!(!may(Verb::Create, "aaa") && !may(Verb::List, "ccc") && !caller.is_cluster_admin());
    let other = accepted(&table, &theirs(&key, &["bbb:viewer"])).unwrap();
    assert!(other.permit(Resource::Volumes, Verb::List, Scope::Project("bbb")).is_ok());
}

#[test]
fn an_issuers_token_that_no_key_is_for_may_be_of_another_service() {
    let (key, stranger) = (new_key(), new_key());
    let table = Table(vec![registered("aaa", &key)], vec![]);
    for token in [theirs(&stranger, &["aaa:admin"]), theirs(&key, &["bbb:admin"]), theirs(&key, &[])] {
        assert_eq!(accepted(&table, &token).unwrap_err(), TokenError::KeyId);
    }
    // What a key is for is judged by it alone.
    let old = json!({"exp": now() - 60, "sub": "s", "iss": "them", "roles": ["aaa:admin"]});
    let outcome = accepted(&table, &mint(&key, "", &old).unwrap());
    assert!(matches!(outcome, Err(TokenError::Rejected(_))), "{outcome:?}");
}

#[test]
fn a_registered_audience_is_required() {
    let keys = Table(vec![(Some("p:a"), trusted(&KEY, None, Some("ours")))], vec![]);
    let token = |audience: Value| {
        let mut claims = claims();
        claims["aud"] = audience;
        signed(&with_kid("p:a"), &claims)
    };
    assert!(accepted(&keys, &token(json!("ours"))).is_ok());
    assert!(accepted(&keys, &token(json!(["others", "ours"]))).is_ok());
    for wrong in [json!("others"), json!(["others"]), json!([]), json!(7), Value::Null] {
        assert_eq!(accepted(&keys, &token(wrong.clone())).unwrap_err(), TokenError::Audience, "{wrong}");
    }
    assert_eq!(accepted(&keys, &signed(&with_kid("p:a"), &claims())).unwrap_err(), TokenError::Audience);
}

#[test]
fn a_revoked_token_is_refused() {
    let keys = Table(vec![(Some("p:a"), trusted(&KEY, None, None))], vec!["7"]);
    let mut claims = claims();
    claims["jti"] = json!("6");
    assert!(accepted(&keys, &signed(&with_kid("p:a"), &claims)).is_ok());
    claims["jti"] = json!("7");
    assert_eq!(accepted(&keys, &signed(&with_kid("p:a"), &claims)).unwrap_err(), TokenError::Revoked);
}
