//! Tokens as Portworx has them: a YAML file that describes a person, signed with what the server knows by issuer.

use std::process::Command;

use serde_json::json;
use tests::forge::{Other, Signer, Way};
use tests::person::{Person, run};
use tests::rest::Client;
use tests::server::{Server, Setup, volume_path};

const VOLUMES: &str = "/api/v2/projects/default/volumes";
const SNAPSHOTS: &str = "/api/v2/projects/default/snapshots";
const ADMIN: &str = "name: Storage Administrator\nemail: admin@example.com\nsub: admin@example.com\n\
                     roles: [\"system.admin\"]\ngroups: [\"*\"]\n";
const KUBERNETES: &str = "name: Kubernetes\nemail: kube@example.com\nsub: kube@example.com\n\
                          roles: [\"system.user\"]\ngroups: [\"kubernetes\"]\n";
const SECRET: &str = "a-shared-secret-of-more-than-32-bytes-0123456789";

#[test]
fn persons_get_tokens_from_a_shared_secret_and_own_what_they_make() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    let secret = person.write("secret.txt", SECRET);
    person.ferrule(&[
        "create",
        "credential",
        "--project-name",
        "system",
        "--id",
        "shared",
        "--type",
        "hs256secret",
        "--issuer",
        "example.com",
        &secret,
    ]);
    let shown =
        person.ferrule(&["get", "credential", "--project-name", "system", "--id", "shared", "-o", "json"]);
    assert!(shown.contains("\"payload\": \"\"") && !shown.contains("YS1zaGFyZWQ"), "{shown}");

    expect_forgeries_refused(&server, &person);
    let generate = |name: &str, text: &str| {
        let config = person.write(&format!("{name}.yaml"), text);
        let token = person.ferrule(&[
            "auth",
            "token",
            "generate",
            &format!("--auth-config={config}"),
            "--issuer=example.com",
            &format!("--shared-secret={SECRET}"),
            "--token-duration=1d",
        ]);
        Client::new(&server.endpoint(), &token)
    };
    let admin = generate("admin", ADMIN);
    // Neither token is about to end, and who has no project of that name works in the default one.
    let output = person.try_ferrule(&["list", "volumes", "-J", generate("kube", KUBERNETES).token()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let kubernetes = generate("kube", KUBERNETES);
    let other = generate("other", &KUBERNETES.replace("kube@", "other@"));
    let viewer = generate("view", &ADMIN.replace("system.admin", "system.view"));

    let _ = admin.get("/api/v2/cluster");
    kubernetes.send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    let volume = |name: &str| json!({"name": name, "size": "1048576", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
    let own = kubernetes.post(VOLUMES, &volume("own"));
    let foreign = admin.post(VOLUMES, &volume("foreign"));
    let names = |client: &Client| {
        let volumes = client.get(VOLUMES)["volumes"].as_array().unwrap().clone();
        volumes.iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // What they did not make is not there for them; the administrator and the viewer see all.
    assert_eq!(names(&kubernetes), ["own"]);
    assert_eq!(names(&other), [""; 0]);
    assert_eq!((names(&admin).len(), names(&viewer).len()), (2, 2));
    kubernetes.send("GET", &volume_path(&foreign), &[], None).expect_error(404, 5);
    kubernetes.send("DELETE", &volume_path(&foreign), &[], None).expect_error(404, 5);
    other.send("GET", &format!("{VOLUMES}/?name=own"), &[], None).expect_error(404, 5);
    kubernetes.put(&volume_path(&own), &json!({"labels": [{"key": "owner", "value": "other"}]}));
    viewer.send("DELETE", &volume_path(&own), &[], None).expect_error(403, 7);
    expect_own_snapshots(&[&kubernetes, &other, &admin, &viewer], &volume_path(&own));
    kubernetes.delete(&volume_path(&own));
}

/// Tokens that are not what the two issuers sign, or not any more, are refused.
fn expect_forgeries_refused(server: &Server, person: &Person) {
    let claims = json!({
        "sub": "kube", "name": "Kubernetes", "email": "kube@example.com", "iss": "example.com",
        "exp": 4_000_000_000_u64, "roles": ["system.view"], "groups": ["*"],
    });
    let way = Way {
        person,
        endpoint: server.endpoint(),
        kid: None,
        claims: claims.clone(),
        signer: Signer::Secret(SECRET.as_bytes()),
        other_issuer: Other::Issuer("elsewhere"),
    };
    way.expect_forgeries_refused();
    let private = person.path("issuer.pem");
    run(Command::new("openssl").args(["genpkey", "-algorithm", "rsa", "-out", &private]));
    let public = person.path("issuer.pub");
    run(Command::new("openssl").args(["pkey", "-in", &private, "-pubout", "-out", &public]));
    let create =
        ["create", "credential", "--project-name", "system", "--id", "rsa", "--issuer", "rsa.example"];
    person.ferrule(&[&create[..], &[public.as_str()]].concat());
    let mut claims = claims;
    claims["iss"] = json!("rsa.example");
    // The one issuer's key signs nothing for the other.
    Way { claims, signer: Signer::Key(&private, "RS256"), other_issuer: Other::Issuer("example.com"), ..way }
        .expect_forgeries_refused();
}

/// Snapshots of the volume `own`, which belongs to the first of the four, belong to who took them.
fn expect_own_snapshots([kubernetes, other, admin, viewer]: &[&Client; 4], own: &str) {
    let snapshot = |name: &str, volume: &str| json!({"name": name, "sourceVolumeName": volume});
    let taken = kubernetes.post(SNAPSHOTS, &snapshot("mine", "own"));
    let _ = admin.post(SNAPSHOTS, &snapshot("theirs", "own"));
    kubernetes.send("POST", SNAPSHOTS, &[], Some(&snapshot("no", "foreign"))).expect_error(404, 5);
    let seen = |client: &Client| client.get(SNAPSHOTS)["snapshots"].as_array().expect("a list").len();
    assert_eq!((seen(kubernetes), seen(other), seen(admin), seen(viewer)), (1, 0, 2, 2));
    let path = format!("{SNAPSHOTS}/{}", taken["UUID"].as_str().expect("an identifier"));
    other.send("DELETE", &path, &[], None).expect_error(404, 5);
    kubernetes.send("GET", &format!("{SNAPSHOTS}/?Name=theirs"), &[], None).expect_error(404, 5);
    let rollback = format!("{own}/rollback");
    kubernetes.put(&rollback, &json!({"srcSnapshotName": "mine"}));
    kubernetes.send("PUT", &rollback, &[], Some(&json!({"srcSnapshotName": "theirs"}))).expect_error(404, 5);
    kubernetes.delete(&path);
}

/// Makes a key pair, registers its public half as the key of an issuer of the kind's name, and signs with the other.
fn token_by_key_file(
    person: &Person,
    system: &str,
    (kind, flag, arguments): (&str, &str, &[&str]),
) -> String {
    let config = person.write("admin.yaml", ADMIN);
    let (private, public) = (person.path("key.pem"), person.path("key.pub"));
    run(Command::new("openssl").arg("genpkey").args(arguments).args(["-out", &private]));
    run(Command::new("openssl").args(["pkey", "-in", &private, "-pubout", "-out", &public]));
    let create = ["create", "credential", "--project-name", "system", "--id", kind];
    person.ferrule(&[&create[..], &["--type", kind, "--issuer", kind, &public, "-J", system]].concat());
    let generate = ["auth", "token", "generate", "--auth-config", &config, "--issuer", kind];
    person.ferrule(&[&generate[..], &[flag, &private, "--token-duration", "6h"]].concat())
}

#[test]
fn key_files_sign_too_and_contexts_keep_tokens() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server);
    let config = person.write("admin.yaml", ADMIN);
    let system = server.token("system.jwt");
    for (kind, flag, arguments) in [
        (
            "rs256pubkey",
            "--rsa-private-keyfile",
            &["-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048"][..],
        ),
        (
            "es256pubkey",
            "--ecdsa-private-keyfile",
            &["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        ),
        (
            "es384pubkey",
            "--ecdsa-private-keyfile",
            &["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ),
    ] {
        let token = token_by_key_file(&person, &system, (kind, flag, arguments));
        // Given by itself, or by the name of a file that holds it.
        let given = if kind == "rs256pubkey" { format!("@{}", person.write("token", &token)) } else { token };
        person.ferrule(&["context", "create", kind, &format!("--token={}", given.trim())]);
        person.ferrule(&["context", "set", kind]);
        assert!(person.ferrule(&["get", "cluster"]).contains("subsystemNQN"), "{kind}");
    }
    let listed = person.ferrule(&["context", "list"]);
    assert!(listed.lines().any(|line| line.starts_with("*        es384pubkey")), "{listed}");
    person.ferrule(&["context", "unset"]);
    let (said, code) = person.refused(&["get", "cluster"]);
    assert!(code == 3 && said.contains("no token"), "{said}");
    person.ferrule(&["context", "set", "rs256pubkey"]);
    person.ferrule(&["context", "delete", "rs256pubkey"]);
    assert_eq!(person.refused(&["get", "cluster"]).1, 3);
    let (said, _) = person.refused(&["context", "set", "rs256pubkey"]);
    assert!(said.contains("context list"), "{said}");
    // An issuer that nobody has registered, and a secret too short to be one.
    let stray = person.ferrule(&[
        "auth",
        "token",
        "generate",
        "--auth-config",
        &config,
        "--issuer",
        "nobody",
        "--shared-secret",
        SECRET,
    ]);
    Client::new(&server.endpoint(), &stray).send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
    let (said, code) = person.refused(&[
        "auth",
        "token",
        "generate",
        "--auth-config",
        &config,
        "--issuer",
        "x",
        "--shared-secret",
        "short",
    ]);
    assert!(code == 2 && said.contains("openssl rand"), "{said}");
}
