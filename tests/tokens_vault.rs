//! Tokens as Vault's jwt backend has them: roles with keys that cannot be read back, tokens issued by them.

use std::process::Command;

use serde_json::{Value, json};
use tests::forge::{Other, Signer, Way};
use tests::jws::{self, Key};
use tests::person::{Person, run};
use tests::rest::{Answer, Client};
use tests::server::{Server, Setup};

#[test]
fn a_role_issues_tokens_and_its_key_stays_inside() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server);
    let key = person.path("private.key");
    run(Command::new("openssl").args(["genpkey", "-algorithm", "rsa", "-out", &key]));
    let path = key.clone();
    let key = std::fs::read_to_string(key).unwrap();
    let system = server.token("system.jwt");
    // Without a token of its own: the caller's goes in X-Vault-Token, as Vault's clients send it.
    let anonymous = Client::new(&server.endpoint(), "");
    let header = format!("X-Vault-Token: {system}");
    let vault =
        |method: &str, path: &str, body: Option<&Value>| anonymous.send(method, path, &[&header], body);

    // vault mount jwt: there is nothing to do, and the answer says so.
    let mounted = vault("POST", "/v1/sys/mounts/jwt", Some(&json!({"type": "jwt"})));
    assert!(mounted.status == 400 && mounted.text.contains("already in use at jwt/"), "{}", mounted.text);

    let role = json!({"algorithm": "RS256", "key": key, "claims": {"roles": ["system:cluster-admin"]}});
    expect_done(&vault("POST", "/v1/jwt/roles/webauth", Some(&role)));
    let shown = vault("GET", "/v1/jwt/roles/webauth", None).expect_ok();
    assert_eq!(shown["data"]["algorithm"], "RS256");
    assert!(!shown.to_string().contains("KEY"), "{shown}");
    let listed = vault("GET", "/v1/jwt/roles?list=true", None).expect_ok();
    assert_eq!(listed["data"]["keys"], json!(["webauth"]));

    let issued = vault("POST", "/v1/jwt/issue/webauth", Some(&json!({"issuer": "Vault"}))).expect_ok();
    let token = issued["data"]["token"].as_str().unwrap();
    let parsed: Value = serde_json::from_str(&person.ferrule(&["parse", "jwt", "--json", token])).unwrap();
    assert_eq!(parsed["claims"]["jti"], issued["data"]["jti"]);
    assert_eq!(parsed["claims"]["iss"], "Vault");
    let _ = Client::new(&server.endpoint(), token).get("/api/v2/cluster");

    // The role says it all: the request needs no body, and Vault's documents have it as a GET, too.
    let read = vault("GET", "/v1/jwt/issue/webauth", None).expect_ok();
    let _ = Client::new(&server.endpoint(), read["data"]["token"].as_str().unwrap()).get("/api/v2/cluster");

    // Whoever has the key may sign with it, by the rules; another role's name is another issuer.
    let other = json!({"algorithm": "HS256", "key": "0123456789".repeat(4)});
    expect_done(&vault("POST", "/v1/jwt/roles/other", Some(&other)));
    let header: Value = serde_json::from_str(&person.ferrule(&["parse", "jwt", "--json", token])).unwrap();
    Way {
        person: &person,
        endpoint: server.endpoint(),
        kid: header["header"]["kid"].as_str().map(str::to_owned),
        claims: json!({"sub": "s", "iss": "Vault", "exp": 4_000_000_000_u64, "roles": ["default:viewer"]}),
        signer: Signer::Key(&path, "RS256"),
        other_issuer: Other::Key("jwt/other"),
    }
    .expect_forgeries_refused();

    // Claims of the request win over the role's; a token for another audience is not for this server.
    let body = json!({"claims": "{\"roles\": [\"default:viewer\"]}", "expiration": "4102444800"});
    let viewer = vault("POST", "/v1/jwt/issue/webauth", Some(&body)).expect_ok();
    let viewer = Client::new(&server.endpoint(), viewer["data"]["token"].as_str().unwrap());
    let _ = viewer.get("/api/v2/nodes");
    viewer.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    let refused = viewer.send("GET", "/v1/jwt/roles/webauth", &[], None);
    assert_eq!(refused.status, 403);
    assert!(refused.body["errors"][0].is_string(), "{}", refused.text);
    let elsewhere =
        vault("POST", "/v1/jwt/issue/webauth", Some(&json!({"audience": "Vault Client"}))).expect_ok();
    let elsewhere = Client::new(&server.endpoint(), elsewhere["data"]["token"].as_str().unwrap());
    elsewhere.send("GET", "/api/v2/cluster", &[], None).expect_error(401, 16);

    // With the role its tokens go, by the path without a version too.
    let bearer = Client::new(&server.endpoint(), &system);
    expect_done(&bearer.send("DELETE", "/jwt/roles/webauth", &[], None));
    viewer.send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
    assert_eq!(bearer.send("POST", "/jwt/issue/webauth", &[], Some(&json!({}))).status, 404);
    assert!(!server.log().contains("PRIVATE"), "the log shows no key");
}

#[test]
fn every_algorithm_issues_tokens_that_are_accepted() {
    let mut server = Server::start(&Setup::small());
    let person = Person::of(&server);
    let bearer = server.client();
    let key = |name: &str, arguments: &[&str]| {
        let path = person.path(name);
        run(Command::new("openssl").arg("genpkey").args(arguments).args(["-out", &path]));
        Key::File(path)
    };
    let rsa = key("rsa", &["-algorithm", "rsa"]);
    let curve =
        |name: &str| key(name, &["-algorithm", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{name}")]);
    let secret = Key::Secret("0123456789".repeat(7));
    let mut tokens = Vec::new();
    for (algorithm, key) in [
        ("RS256", rsa.clone()),
        ("RS384", rsa.clone()),
        ("RS512", rsa),
        ("EC256", curve("P-256")),
        ("ES384", curve("P-384")),
        ("EC512", curve("P-521")),
        ("EdDSA", key("ed", &["-algorithm", "ed25519"])),
        ("HS256", secret.clone()),
        ("HS384", secret.clone()),
        ("HS512", secret),
    ] {
        let path = format!("/v1/jwt/roles/{algorithm}");
        let text = match &key {
            Key::File(path) => std::fs::read_to_string(path).unwrap(),
            Key::Secret(secret) => secret.clone(),
        };
        let role = json!({"algorithm": algorithm, "key": text, "subject": "s"});
        expect_done(&bearer.send("PUT", &path, &[], Some(&role)));
        // Changing what goes without saying needs no key; changing the algorithm does.
        let defaults = json!({"claims": {"roles": ["default:viewer"]}, "ttl": "3600"});
        expect_done(&bearer.send("POST", &path, &[], Some(&defaults)));
        let other = if algorithm == "HS256" { "HS384" } else { "HS256" };
        assert_eq!(bearer.send("POST", &path, &[], Some(&json!({"algorithm": other}))).status, 400);
        let issued = bearer.send("POST", &format!("/v1/jwt/issue/{algorithm}"), &[], Some(&json!({})));
        let token = issued.expect_ok()["data"]["token"].as_str().unwrap().to_owned();
        let header = person.ferrule(&["parse", "jwt", &token]);
        let standard = algorithm.replace("EC", "ES");
        assert!(header.contains(&standard), "{header}");
        // Both ways: whoever has the key, and nothing of this program, verifies what the role issues, and signs what the
        // server takes.
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(jws::is_signed(&person, &standard, &key, message, signature), "{algorithm}: {token}");
        assert!(!jws::is_signed(&person, &standard, &key, &message[1..], signature), "{algorithm}");
        tokens.push(format!("{message}.{}", jws::sign(&person, &standard, &key, message)));
        tokens.push(token);
    }
    assert_eq!(tokens.len(), 20, "ten algorithms");
    // Roles outlive the server, and so do their tokens.
    server.kill();
    server.restart();
    for token in &tokens {
        let client = Client::new(&server.endpoint(), token);
        let _ = client.get("/api/v2/nodes");
        client.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    }
    for (body, word) in [
        (json!({"algorithm": "none", "key": "x"}), "algorithm"),
        (json!({"algorithm": "RS256"}), "key"),
        (json!({"algorithm": "RS256", "key": "nonsense"}), "PEM"),
        (json!({"algorithm": "HS256", "key": "short"}), "32"),
        (json!({"algorithm": "HS256", "key": 7}), "fit"),
    ] {
        let answer = bearer.send("POST", "/v1/jwt/roles/wrong", &[], Some(&body));
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.body["errors"][0].as_str().unwrap().contains(word), "{}", answer.text);
    }
}

fn expect_done(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{}", answer.text);
}
