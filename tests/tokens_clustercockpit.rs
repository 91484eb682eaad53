//! Tokens as ClusterCockpit has them: a key pair in an environment file, users with roles, browsers with a cookie.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::json;
use tests::forge::{Other, Signer, Way};
use tests::person::{Person, run};
use tests::rest::Client;
use tests::server::{Server, Setup};

const VOLUMES: &str = "/api/v2/projects/default/volumes";

#[test]
fn a_users_token_is_signed_with_the_key_pair_of_the_environment_file() {
    let person = Person::alone();
    let keys = person.ferrule(&["gen-keypair"]);
    assert!(keys.contains("JWT_PUBLIC_KEY=\"") && keys.contains("JWT_PRIVATE_KEY=\""), "{keys}");
    let env = person.write(".env", &keys);
    let mut setup = Setup::small();
    setup.arguments = vec!["--env-file".to_owned(), env];
    let server = Server::start(&setup);
    let person = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));

    person.ferrule(&["add-user", "robot:admin,api:a-long-password"]);
    person.ferrule(&["add-user", "script:api:a-long-password"]);
    person.ferrule(&["add-user", "reader:user:a-long-password"]);
    assert!(person.ferrule(&["list", "users"]).contains("reader  user"));
    let token = |name: &str| Client::new(&server.endpoint(), &person.ferrule(&["jwt", name]));
    let (robot, script, reader) = (token("robot"), token("script"), token("reader"));

    let volume = json!({"name": "v", "size": "1048576", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
    let _ = robot.get("/api/v2/cluster");
    script.post(VOLUMES, &volume);
    script.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    assert_eq!(reader.get(VOLUMES)["volumes"].as_array().map(Vec::len), Some(1));
    reader.send("POST", VOLUMES, &[], Some(&volume)).expect_error(403, 7);

    // Another service verifies with the public key alone.
    verify_with_openssl(&person, &keys, script.token());

    // What is made without the private key, or beside the rules, is refused.
    let private = private_key(&person, &keys);
    Way {
        person: &person,
        endpoint: server.endpoint(),
        kid: None,
        claims: json!({"sub": "script", "iss": "ferrule", "exp": 4_000_000_000_u64, "roles": ["api"]}),
        signer: Signer::Key(&private, "EdDSA"),
        other_issuer: Other::Issuer("elsewhere"),
    }
    .expect_forgeries_refused();

    // Whoever is removed is out at once; a user made anew under the name does not bring old tokens back.
    person.ferrule(&["delete", "user", "--name", "script"]);
    script.send("GET", VOLUMES, &[], None).expect_error(401, 16);
    person.ferrule(&["add-user", "script:api:a-long-password"]);
    script.send("GET", VOLUMES, &[], None).expect_error(401, 16);
    let _ = token("script").get(VOLUMES);
    let (said, code) = person.refused(&["add-user", "x:root:a-long-password"]);
    assert!(code == 1 && said.contains("admin, api, user"), "{said}");
    let (said, _) = person.refused(&["add-user", "x:user:short"]);
    assert!(said.contains("8"), "{said}");
}

#[test]
fn a_browser_logs_in_by_password_and_keeps_a_cookie() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    person.ferrule(&["add-user", "ann:user:a-long-password"]);
    let url = |path: &str| format!("{}{path}", server.endpoint());
    let jar = person.path("cookies");
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--cookie", &jar, "--cookie-jar", &jar]);
        run(command.args(["--write-out", "\n%{http_code}"]).args(arguments))
    };
    let status = |answer: &str| answer.rsplit('\n').next().unwrap().to_owned();
    assert!(curl(&[&url("/login")]).contains("<form"));
    assert_eq!(status(&curl(&[&url(VOLUMES)])), "401", "before the login");
    let wrong = curl(&["--data", "username=ann&password=wrong-password", &url("/login")]);
    assert_eq!(status(&wrong), "401");
    let nobody = curl(&["--data", "username=bob&password=a-long-password", &url("/login")]);
    assert_eq!(nobody, wrong, "who exists cannot be told from the answer");
    assert_eq!(status(&curl(&["--data", "username=ann&password=a-long-password", &url("/login")])), "200");
    assert_eq!(status(&curl(&[&url(VOLUMES)])), "200", "reads with the cookie");
    let body = r#"{"name":"v","size":"1048576","acl":{"values":["ALLOW_ANY"]},"replicaCount":1}"#;
    assert_eq!(status(&curl(&["--data", body, &url(VOLUMES)])), "403", "only reads");
    assert_eq!(status(&curl(&["--request", "POST", &url("/logout")])), "200");
    assert_eq!(status(&curl(&[&url(VOLUMES)])), "401", "after the logout");
    // No key pair: tokens for users are not to be had, and the answer says how.
    let (said, code) = person.refused(&["jwt", "ann"]);
    assert!(code == 1 && said.contains("gen-keypair"), "{said}");
}

/// The private key of an environment file, as a file in PEM form.
fn private_key(person: &Person, keys: &str) -> String {
    let private =
        keys.lines().find_map(|line| line.strip_prefix("JWT_PRIVATE_KEY=")).unwrap().trim_matches('"');
    // RFC 8410: the DER head of an Ed25519 private key, which is its first 32 bytes.
    let script = format!(
        "set -e\n(printf '\\060\\056\\002\\001\\000\\060\\005\\006\\003\\053\\145\\160\\004\\042\\004\\040'; \
         printf %s '{private}' | base64 -d | head -c 32) > private.der\n\
         openssl pkey -inform DER -in private.der -out private.pem\n",
    );
    run(person.command("sh").args(["-c", &script]));
    person.path("private.pem")
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    let program = tests::server::binary().display().to_string();
    // `script` gives the program a terminal; the words come when it asks.
    let typed = |again: &str| {
        let line = format!(
            "(sleep 1; echo typed-password; sleep 1; echo {again}; sleep 1) | script -qefc '{program} add-user ann:user' said"
        );
        person.command("sh").args(["-c", &line]).output().expect("script runs")
    };
    let output = typed("typed-password");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Password") && !said.contains("typed-password"), "{said}");
    assert!(person.ferrule(&["list", "users"]).contains("ann"), "{said}");
    let jar = person.path("cookies");
    let form = "username=ann&password=typed-password";
    let url = format!("{}/login", server.endpoint());
    let curl = ["--silent", "--insecure", "--cookie-jar", &jar, "--fail", "--data", form, &url];
    run(Command::new("curl").args(curl));
    let said = String::from_utf8_lossy(&typed("another-password").stdout).into_owned();
    assert!(said.contains("not the same"), "{said}");
}

/// Verifies an EdDSA token with the public key of an environment file, without this project's code.
fn verify_with_openssl(person: &Person, keys: &str, token: &str) {
    let public =
        keys.lines().find_map(|line| line.strip_prefix("JWT_PUBLIC_KEY=")).unwrap().trim_matches('"');
    // RFC 8410: the DER head of an Ed25519 public key.
    let script = format!(
        "set -e\n(printf '\\060\\052\\060\\005\\006\\003\\053\\145\\160\\003\\041\\000'; printf %s '{public}' | base64 -d) > pub.der\n\
         openssl pkey -pubin -inform DER -in pub.der -out pub.pem\n\
         printf %s '{message}' > message\n\
         printf %s '{signature}' | tr -- '-_' '+/' | (cat; printf '==') | base64 -d > signature\n\
         openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in message -sigfile signature\n",
        message = token.rsplit_once('.').unwrap().0,
        signature = token.rsplit_once('.').unwrap().1,
    );
    let said = run(person.command("sh").args(["-c", &script]));
    assert!(said.contains("Verified Successfully"), "{said}");
}
