//! Tokens at the REST interface: what is taken back is refused at once, whoever guesses is slowed down, all is noted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::bench;
use super::bench::{Bench, KEY, token};
use crate::auth::algorithm::Algorithm;
use crate::auth::key::SigningKey;
use crate::auth::token::LEEWAY_S;
use crate::auth::{Claims, mint, now};

const NODES: &str = "/api/v2/nodes";

async fn status(bench: &Bench, token: &str, path: &str) -> u16 {
    bench.send(token, "GET", path, None).await.status
}

/// A token of the default project's viewer, which ends at `exp`.
fn ends_at(exp: u64, jti: &str) -> String {
    let claims = Claims { exp, iat: exp - 60, sub: "s", iss: "i", jti, roles: &["default:viewer"] };
    mint(&KEY, "default:root", &claims).unwrap()
}

#[test]
fn a_remembered_token_ends_when_any_other_does() {
    bench(async |bench| {
        let token = ends_at(10_000, "a");
        let at = |seconds: f64| bench.api.tokens.verify(&token, &bench.api.directory, seconds).is_ok();
        let recalled =
            |seconds: f64| bench.api.tokens.recall(&token, &bench.api.directory, seconds).is_some();
        assert!(!recalled(9_990.0) && at(9_990.0) && recalled(9_990.0));
        assert!(at(10_000.0 + LEEWAY_S - 0.001) && recalled(10_000.0 + LEEWAY_S - 0.001));
        assert!(!at(10_000.0 + LEEWAY_S) && !recalled(10_000.0 + LEEWAY_S));
    });
}

#[test]
fn what_is_taken_back_is_refused_at_once() {
    bench(async |bench| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of our days")]
        let soon = now() as u64 + 3600;
        let (one, other) = (ends_at(soon, "one"), ends_at(soon, "other"));
        for token in [&one, &other] {
            assert_eq!((status(&bench, token, NODES).await, status(&bench, token, NODES).await), (200, 200));
        }
        let revoke = json!({"token": one}).to_string();
        let revoked = bench.send(&bench.system, "POST", "/auth/revocations", Some(&revoke)).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text);
        bench.send(&one, "GET", NODES, None).await.expect_error(401, 16);
        assert_eq!(status(&bench, &other, NODES).await, 200);
        // A revocation lasts as long as the token could be shown: for the leeway after its end, too.
        let ended = ends_at(soon - 3600 - 5, "ended");
        assert_eq!(status(&bench, &ended, NODES).await, 200, "within the leeway");
        for token in [&ended, &other] {
            let revoke = json!({"token": token}).to_string();
            bench.send(&bench.system, "POST", "/auth/revocations", Some(&revoke)).await;
            bench.send(token, "GET", NODES, None).await.expect_error(401, 16);
        }
        bench.send(&ended, "GET", NODES, None).await.expect_error(401, 16);
        // The credential with all its tokens.
        assert_eq!(status(&bench, &bench.viewer, NODES).await, 200);
        let path = "/api/v2/projects/default/credentials/root";
        assert_eq!(bench.send(&bench.admin, "DELETE", path, None).await.status, 200);
        bench.send(&bench.viewer, "GET", NODES, None).await.expect_error(401, 16);
        bench.send(&bench.admin, "GET", NODES, None).await.expect_error(401, 16);
    });
}

#[test]
fn a_key_is_good_for_its_own_project_alone() {
    bench(async |bench| {
        let body = json!({"ID": "mine", "type": "RS256PubKey", "payload": STANDARD.encode(KEY.public_pem())});
        let path = "/api/v2/projects/default/credentials";
        let made = bench.send(&bench.admin, "POST", path, Some(&body.to_string())).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let (own, others) = ("/api/v2/projects/default/volumes", "/api/v2/projects/other/volumes");
        let mine = token("default:mine", &["default:viewer"]);
        assert_eq!(status(&bench, &mine, own).await, 200);
        // The same key under the name of another project, or of the cluster, is none.
        for kid in ["other:mine", "system:mine", "default:mine:x", "default:", ":mine", "mine"] {
            let forged = token(kid, &["default:viewer"]);
            bench.send(&forged, "GET", own, None).await.expect_error(401, 16);
        }
        // Another project's role, or the cluster's, is not the key's to give.
        for role in ["other:admin", "system:cluster-admin", "system.admin"] {
            let claimed = token("default:mine", &[role]);
            bench.send(&claimed, "GET", others, None).await.expect_error(403, 7);
        }
        // Who may register credentials in a project may not in another.
        let theirs = "/api/v2/projects/other/credentials";
        bench.send(&bench.admin, "POST", theirs, Some(&body.to_string())).await.expect_error(403, 7);
    });
}

#[test]
fn a_project_cannot_lock_out_the_tokens_of_another_by_its_issuer() {
    bench(async |bench| {
        let volumes = "/api/v2/projects/other/volumes";
        let register = async |project: &str, id: &str, kind: &str, pem: &str| {
            let body = json!({"ID": id, "type": kind, "payload": STANDARD.encode(pem), "issuer": "test"})
                .to_string();
            let path = format!("/api/v2/projects/{project}/credentials");
            let made = bench.send(&bench.system, "POST", &path, Some(&body)).await;
            assert_eq!(made.status, 200, "{}", made.text);
        };
        register("other", "theirs", "RS256PubKey", &KEY.public_pem()).await;
        let theirs = token("", &["other:viewer"]);
        assert_eq!(status(&bench, &theirs, volumes).await, 200);
        // Another project, whose name comes first, registers the same key for that issuer, and many others.
        register("default", "same", "RS256PubKey", &KEY.public_pem()).await;
        assert_eq!(status(&bench, &theirs, volumes).await, 200);
        for number in 0..20 {
            let pem = SigningKey::generate_for(Algorithm::ES256).unwrap().public_pem();
            register("default", &format!("a{number}"), "ES256PubKey", &pem).await;
        }
        assert_eq!(status(&bench, &theirs, volumes).await, 200);
        bench.send(&theirs, "GET", "/api/v2/projects/default/volumes", None).await.expect_error(403, 7);
    });
}

/// Counts as many failures of the bench's requests as slow them down; none is forgotten within a minute, however
/// slow the machine.
fn fill_failures(bench: &Bench) {
    let peer = "127.0.0.1".parse().unwrap();
    let later = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while bench.api.failures.admits(peer, later) {
        bench.api.failures.count(peer, later);
    }
}

#[test]
fn who_guesses_is_slowed_down_and_who_works_is_not() {
    bench(async |bench| {
        let wrong = token("default:nobody", &["default:viewer"]);
        assert_eq!(status(&bench, &bench.viewer, NODES).await, 200);
        let mut last = 401;
        for _ in 0..400 {
            last = status(&bench, &wrong, NODES).await;
            if last == 429 {
                break;
            }
        }
        assert_eq!(last, 429, "after some hundred guesses");
        fill_failures(&bench);
        let refused = bench.send(&wrong, "GET", NODES, None).await;
        refused.expect_error(429, 8);
        assert_eq!(status(&bench, &bench.viewer, NODES).await, 200, "a token that was verified before");
        let unseen = token("default:root", &["default:viewer", "default:user"]);
        bench.send(&unseen, "GET", NODES, None).await.expect_error(429, 8);
        bench.api.events.settle().await;
        let events = bench.api.events.list_from(0);
        let names: Vec<&str> = events.iter().map(|event| event.value.name.as_str()).collect();
        assert!(names.contains(&"RequestUnauthenticated") && names.contains(&"RequestsTooMany"), "{names:?}");
    });
}

#[test]
fn who_guesses_passwords_is_slowed_down_whatever_the_name() {
    bench(async |bench| {
        let guess = async |number: u32| {
            let body = format!("username=u{number}&password=a-long-password");
            bench.send("", "POST", "/login", Some(&body)).await.status
        };
        assert_eq!(guess(0).await, 401);
        // Each guess takes a while: the failures of an address are counted here as wrong tokens would be.
        fill_failures(&bench);
        assert_eq!(guess(1).await, 429);
        assert_eq!(status(&bench, &token("default:root", &["default:user"]), NODES).await, 429);
    });
}

#[test]
fn refusals_say_which_and_not_why() {
    bench(async |bench| {
        let mut said: Vec<String> = Vec::new();
        let stranger = SigningKey::generate().unwrap();
        let claims =
            Claims { exp: 1, iat: 0, sub: "s", iss: "i", jti: "j", roles: &["system:cluster-admin"] };
        for wrong in [
            "garbage".to_owned(),
            ends_at(100, "old"),
            token("default:nobody", &["default:admin"]),
            mint(&stranger, "system:root", &claims).unwrap(),
        ] {
            let answer = bench.send(&wrong, "GET", NODES, None).await;
            answer.expect_error(401, 16);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            said.push(answer.text);
        }
        said.dedup();
        assert_eq!(said.len(), 1, "one text for every reason: {said:?}");
        let answer = bench.send(&bench.viewer, "GET", "/api/v2/cluster", None).await;
        answer.expect_error(403, 7);
        assert!(!answer.text.contains("viewer") && !answer.text.contains("system"), "{}", answer.text);
    });
}

#[test]
fn every_changing_request_and_every_refusal_is_noted() {
    bench(async |bench| {
        let events = async || {
            bench.api.events.settle().await;
            bench.api.events.list_from(0).len()
        };
        let mut expected = events().await;
        for (method, path, body, noted) in [
            ("GET", NODES, None, 0),
            ("GET", "/api/v2/projects/default/volumes", None, 0),
            ("POST", "/api/v2/projects", Some(r#"{"name":"p"}"#), 1),
            ("PUT", "/api/v2/projects/p", Some(r#"{"description":"d"}"#), 1),
            ("POST", "/api/v2/projects", Some("{"), 1),
            ("DELETE", "/api/v2/projects/p", None, 1),
            ("DELETE", "/api/v2/projects/p", None, 1),
            ("POST", "/auth/users/ann", Some(r#"{"roles":["user"],"password":"a-long-password"}"#), 1),
            ("POST", "/auth/users/ann/jwt", None, 1),
            ("PUT", "/v1/jwt/roles/r", Some(r#"{"algorithm":"none"}"#), 1),
            ("DELETE", "/auth/users/ann", None, 1),
        ] {
            bench.send(&bench.system, method, path, body).await;
            expected += noted;
            assert_eq!(events().await, expected, "{method} {path} {body:?}");
        }
        // A stranger's second refusal is counted, to be noted with those that follow.
        let viewer = bench.viewer.as_str();
        for (token, path, noted) in [("", NODES, 1), ("x.y.z", NODES, 0), (viewer, "/api/v2/cluster", 1)] {
            bench.send(token, "GET", path, None).await;
            expected += noted;
            assert_eq!(events().await, expected, "{token} {path}");
        }
    });
}
