//! Attacks on tokens, each refused for its own reason.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::auth::{Denied, Resource, Scope, Verb};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

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
    jsonwebtoken::encode(header, claims, &KEY.encoding).unwrap()
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
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert!(matches!(check(&token), Err(TokenError::Rejected(_))));
    }
}

#[test]
fn another_algorithm_of_the_same_key_is_refused() {
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let mut header = Header::new(algorithm);
        header.kid = Some("system:root".to_owned());
        assert!(matches!(check(&signed(&header, &claims())), Err(TokenError::Rejected(_))), "{algorithm:?}");
    }
}

#[test]
fn expired_early_and_timeless_tokens_are_refused() {
    let change = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    assert!(rejected(&change("exp", json!(now() - 1))));
    assert!(rejected(&change("exp", json!(0))));
    assert!(rejected(&change("exp", json!(-1))));
    assert!(rejected(&change("exp", json!("9999999999"))));
    assert!(rejected(&change("exp", Value::Null)));
    assert!(rejected(&change("nbf", json!(now() + 60))));
    assert!(rejected(&change("nbf", json!("soon"))));
    assert!(rejected(&change("sub", Value::Null)));
    assert!(rejected(&change("roles", Value::Null)));
    assert!(rejected(&change("roles", json!("system:cluster-admin"))));
    assert!(!rejected(&change("nbf", json!(now() - 1))));
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
    let other = SigningKey::generate().unwrap();
    let token = jsonwebtoken::encode(&with_kid("system:root"), &claims(), &other.encoding).unwrap();
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
