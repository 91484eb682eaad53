//! Tokens as Lightbits has them: a credential with a public key, a token made with the private half, first-start tokens.

use std::process::Command;

use serde_json::{Value, json};
use tests::forge::{Other, Signer, Way};
use tests::person::{Person, run};
use tests::rest::Client;
use tests::server::{Server, Setup};

#[test]
fn first_start_tokens_are_used_in_every_way_that_lbcli_knows() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server);
    let (system, project) = (server.token("system.jwt"), server.token("default-admin.jwt"));
    // lbcli list nodes -J $LIGHTOS_JWT
    assert!(person.ferrule(&["list", "nodes", "-J", &system]).starts_with("Name"));
    let other = Person::of(&server).with("LIGHTOS_JWT", &system);
    assert!(other.ferrule(&["list", "nodes"]).starts_with("Name"));
    // The configuration file of lbcli, with every key that its documentation shows.
    let config = person.write(
        "lbcli.yaml",
        &format!(
            "output-format: json\ndial-timeout: 5s\ncommand-timeout: 60s\ninsecure-skip-tls-verify: true\ndebug: false\n\
             api-version: 2\ninsecure-transport: false\nendpoint: {}\njwt: {system}\n",
            server.endpoint()
        ),
    );
    let nodes = person.ferrule(&["list", "nodes", "--config", &config]);
    assert!(serde_json::from_str::<Value>(&nodes).unwrap()["nodes"][0]["UUID"].is_string(), "{nodes}");
    // Under the other name it is the same program.
    let lbcli = person.path("lbcli");
    std::os::unix::fs::symlink(tests::server::binary(), &lbcli).unwrap();
    let help = run(Command::new(&lbcli).arg("--help"));
    assert!(help.contains("Usage: lbcli"), "{help}");
    let listed = run(person.command(&lbcli).args(["list", "nodes", "-J", &system]));
    assert!(listed.starts_with("Name"), "{listed}");
    // The project's token reaches its project and not the cluster.
    let tenant = Client::new(&server.endpoint(), &project);
    let _ = tenant.get("/api/v2/projects/default/volumes");
    tenant.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
}

#[test]
fn a_credential_with_a_public_key_lets_tokens_of_its_private_half_in() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("LIGHTOS_JWT", &server.token("system.jwt"));
    for (kind, arguments) in [
        ("rsa256pubkey", &["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("es256pubkey", &["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("es512pubkey", &["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
        ("eddsapubkey", &["-algorithm", "ed25519"]),
    ] {
        let (private, public) = (person.path("key.pem"), person.path("key.pub"));
        run(Command::new("openssl").arg("genpkey").args(arguments).args(["-out", &private]));
        run(Command::new("openssl").args(["pkey", "-in", &private, "-pubout", "-out", &public]));
        let (id, kid) = (format!("ops-{kind}"), format!("system:ops-{kind}"));
        person.ferrule(&[
            "create",
            "credential",
            "--project-name",
            "system",
            "--id",
            &id,
            "--type",
            kind,
            &public,
        ]);
        let make = |role: &str| {
            person.ferrule(&[
                "create",
                "jwt",
                "--key",
                &private,
                "--key-id",
                &kid,
                "--role",
                role,
                "--subject",
                "ops",
                "--issuer",
                "us",
                "--expiry",
                "2099-01-01T00:00:00Z",
            ])
        };
        let token = make("system:cluster-admin");
        let parsed = person.ferrule(&["parse", "jwt", token.trim()]);
        for word in [kid.as_str(), "system:cluster-admin", "ops", "2099-01-01T00:00:00Z", "not expired"] {
            assert!(parsed.contains(word), "{word}: {parsed}");
        }
        // Allowed with it; refused with less; refused at once when the credential is gone.
        let admin = Client::new(&server.endpoint(), &token);
        let _ = admin.get("/api/v2/cluster");
        let viewer = Client::new(&server.endpoint(), &make("default:viewer"));
        let _ = viewer.get("/api/v2/projects/default/volumes");
        let volume =
            json!({"name": "v", "size": "1048576", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
        viewer.send("POST", "/api/v2/projects/default/volumes", &[], Some(&volume)).expect_error(403, 7);
        person.ferrule(&["delete", "credential", "--project-name", "system", "--id", &id]);
        admin.send("GET", "/api/v2/cluster", &[], None).expect_error(401, 16);
    }
}

#[test]
fn forged_tokens_of_a_credential_are_refused() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("LIGHTOS_JWT", &server.token("system.jwt"));
    let (private, public) = (person.path("key.pem"), person.path("key.pub"));
    run(Command::new("openssl").args(["genpkey", "-algorithm", "rsa", "-out", &private]));
    run(Command::new("openssl").args(["pkey", "-in", &private, "-pubout", "-out", &public]));
    let create =
        ["create", "credential", "--project-name", "default", "--id", "ops", "--issuer", "us", &public];
    person.ferrule(&create);
    let claims = json!({"sub": "ops", "iss": "us", "exp": 4_000_000_000_u64, "roles": ["default:viewer"]});
    let way = Way {
        person: &person,
        endpoint: server.endpoint(),
        kid: Some("default:ops".to_owned()),
        claims: claims.clone(),
        signer: Signer::Key(&private, "RS256"),
        other_issuer: Other::Issuer("them"),
    };
    way.expect_forgeries_refused();
    // The credential's own name in another project, and a project's credential for the cluster.
    let way = Way { other_issuer: Other::Key("system:ops"), ..way };
    way.expect_forgeries_refused();
    let mut raised = claims;
    raised["roles"] = json!(["system:cluster-admin"]);
    let raised = Client::new(&server.endpoint(), &way.token(&raised));
    raised.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
}

#[test]
fn a_revoked_token_is_refused_and_others_are_not() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("LIGHTOS_JWT", &server.token("system.jwt"));
    let (private, public) = (person.path("key.pem"), person.path("key.pub"));
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", &private]));
    run(Command::new("openssl").args(["pkey", "-in", &private, "-pubout", "-out", &public]));
    person.ferrule(&[
        "create",
        "credential",
        "--project-name",
        "system",
        "--id",
        "ops",
        "--type",
        "eddsapubkey",
        &public,
    ]);
    let make = || {
        let words =
            ["create", "jwt", "--key", &private, "--key-id", "system:ops", "--role", "default:viewer"];
        Client::new(&server.endpoint(), &person.ferrule(&words))
    };
    let (lost, kept) = (make(), make());
    let _ = lost.get("/api/v2/nodes");
    person.ferrule(&["revoke", "jwt", "--token", lost.token()]);
    lost.send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
    let _ = kept.get("/api/v2/nodes");
}

#[test]
fn first_start_tokens_go_to_a_command_instead_of_files() {
    let person = Person::alone();
    let vault = person.path("vault");
    std::fs::create_dir(&vault).unwrap();
    let script = person.write("keep.sh", "#!/bin/sh\numask 077; cat > \"$1/$2\"\n");
    let mut setup = Setup::small();
    setup.arguments = vec!["--token-command".to_owned(), format!("sh {script} {vault}")];
    let mut server = Server::start(&setup);
    let read = |name: &str| std::fs::read_to_string(format!("{vault}/{name}")).unwrap();
    let handed = || server_ready(&vault);
    tests::scratch::wait_until("both tokens are handed over", std::time::Duration::from_secs(20), handed);
    let token = read("system");
    let client = Client::new(&server.endpoint(), &token);
    let _ = client.get("/api/v2/cluster");
    let tenant = Client::new(&server.endpoint(), &read("default-admin"));
    tenant.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    assert!(!server.state().join("system.jwt").exists(), "no file has the token");
    assert!(!server.log().contains(token.trim()), "the log shows no token");
    // The next start hands nothing over again: the tokens are still good.
    assert!(server.terminate().success());
    std::fs::remove_file(format!("{vault}/system")).unwrap();
    server.restart();
    let _ = client.get("/api/v2/cluster");
    assert!(!std::path::Path::new(&format!("{vault}/system")).exists());
}

fn server_ready(vault: &str) -> bool {
    ["system", "default-admin"].iter().all(|name| {
        std::fs::read_to_string(format!("{vault}/{name}")).is_ok_and(|token| token.split('.').count() == 3)
    })
}
