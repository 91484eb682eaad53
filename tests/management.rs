//! The operator's side of a running server: first start, tokens, REST by its contract, the command line, metrics.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use tests::association::{Association, Identity};
use tests::rest::Client;
use tests::scratch::{Scratch, wait_until};
use tests::server::{Server, Setup, volume_path};

const MIB: u64 = 1024 * 1024;

#[test]
fn first_start_leaves_two_private_tokens_and_says_where() {
    let server = Server::start(&Setup::default());
    let log = server.log();
    for name in ["system.jwt", "default-admin.jwt"] {
        let path = server.state().join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
        let token = server.token(name);
        assert_eq!(token.split('.').count(), 3, "{name} is a JSON Web Token");
        assert!(!log.contains(&token), "the log shows {name}");
    }
    assert!(log.contains("system.jwt"), "the start says where the token lies:\n{log}");
    let nqn = server.nqn();
    assert!(nqn.starts_with("nqn.2014-08.org.nvmexpress:uuid:"), "{nqn}");
    assert!(log.contains(&format!("nvme connect -t tcp -a 127.0.0.1 -s {} -n {nqn}", server.port)), "{log}");
}

#[test]
fn outputs_that_take_nothing_stop_no_server() {
    let mut server = Server::prepare(&Setup::small());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    server.launch_onto(full);
    server.wait_for_rest();
    let _ = server.create_volume("v1", MIB);
    assert!(server.terminate().success());
    let log = std::fs::read_to_string(server.state().join("logs/ferrule.log")).unwrap();
    assert!(log.contains("create volume") && log.contains("stopped"), "{log}");
}

#[test]
fn a_server_whose_tokens_nobody_takes_can_be_stopped() {
    let mut server = Server::prepare(&Setup::small());
    let folder = Scratch::new("command");
    let script = folder.join("hang.sh");
    std::fs::write(&script, "exec sleep 60").unwrap();
    server.set_option("--token-command", Some(&format!("sh {}", script.display())));
    server.restart();
    // Within less than the command takes.
    assert!(server.terminate().success());
}

#[test]
fn requests_need_a_token_of_the_right_scope() {
    let server = Server::start(&Setup::default());
    let path = "/api/v2/cluster";
    let nobody = Client::new(&server.endpoint(), "");
    nobody.send("GET", path, &[], None).expect_error(401, 16);
    let system = server.token("system.jwt");
    let mut forged = system.clone();
    let last = forged.pop().unwrap();
    // The last character of a signature of 256 bytes has unused bits: change one before it.
    let before = forged.pop().unwrap();
    forged.extend([if before == 'A' { 'B' } else { 'A' }, last]);
    Client::new(&server.endpoint(), &forged).send("GET", path, &[], None).expect_error(401, 16);
    let project = Client::new(&server.endpoint(), &server.token("default-admin.jwt"));
    project.send("GET", path, &[], None).expect_error(403, 7);
    assert_eq!(project.get("/api/v2/clusterinfo")["subsystemNQN"], server.nqn().as_str());
    assert!(project.get("/api/v2/nodes")["nodes"].is_array());
    assert!(project.get("/api/v2/projects/default/volumes")["volumes"].is_array());
}

#[test]
fn volume_lives_its_life_by_the_contract() {
    let server = Server::start(&Setup::default());
    let client = server.client();
    let volume = server.create_volume("v1", 64 * MIB);
    let path = volume_path(&volume);
    for (field, value) in [
        ("state", json!("Available")),
        ("protectionState", json!("FullyProtected")),
        ("size", json!((64 * MIB).to_string())),
        ("replicaCount", json!(1)),
        ("sectorSize", json!(4096)),
        ("acl", json!({"values": ["ALLOW_ANY"]})),
        ("IPAcl", json!({"values": ["ALLOW_ANY"]})),
        ("ETag", json!("1")),
        ("projectName", json!("default")),
        ("connectedHosts", json!([])),
    ] {
        assert_eq!(volume[field], value, "{field} of {volume}");
    }
    // By name, in both path forms; a trailing slash asks for one, without it for a list.
    for by_name in
        ["/api/v2/projects/default/volumes/?name=v1", "/api/v2/volumes/?name=v1&projectName=default"]
    {
        assert_eq!(client.get(by_name)["UUID"], volume["UUID"]);
    }
    let listed = client.get("/api/v2/projects/default/volumes?name=v1");
    assert_eq!(listed["volumes"].as_array().map(Vec::len), Some(1));
    client.send("GET", "/api/v2/projects/default/volumes/?name=none", &[], None).expect_error(404, 5);

    let taken =
        json!({"name": "v1", "size": "1073741824", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
    client.send("POST", "/api/v2/projects/default/volumes", &[], Some(&taken)).expect_error(409, 6);
    for (field, wrong) in [
        ("size", json!(1_073_741_824)),
        ("size", json!("0")),
        ("size", json!("-4096")),
        ("name", json!("no spaces")),
        ("replicaCount", json!(3)),
        ("acl", json!({"values": ["ALLOW_ANY", "nqn.x"]})),
    ] {
        let mut request =
            json!({"name": "v9", "size": "1073741824", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
        request[field] = wrong;
        client.send("POST", "/api/v2/projects/default/volumes", &[], Some(&request)).expect_error(400, 3);
    }

    // A change moves the ETag; a stale If-Match is refused.
    client.put(&path, &json!({"acl": {"values": ["ALLOW_NONE"]}}));
    let changed = client.get(&path);
    assert_eq!(changed["acl"], json!({"values": ["ALLOW_NONE"]}));
    assert_ne!(changed["ETag"], volume["ETag"]);
    let grow = json!({"size": (128 * MIB).to_string()});
    client.send("PUT", &path, &["If-Match: 1"], Some(&grow)).expect_error(412, 9);
    let current = format!("If-Match: {}", changed["ETag"].as_str().unwrap());
    let _ = client.send("PUT", &path, &[&current], Some(&grow)).expect_ok();
    assert_eq!(client.get(&path)["size"], (128 * MIB).to_string());

    client.delete(&path);
    assert_eq!(client.send("GET", &path, &[], None).status, 404);
    let _ = server.create_volume("v1", 64 * MIB);
}

#[test]
fn connected_hosts_are_those_that_are() {
    let server = Server::start(&Setup::default());
    let client = server.client();
    let volume = server.create_volume("v1", 64 * MIB);
    let identity = Identity::new(server.port, &server.nqn(), 1);
    let hosts = || client.get("/api/v2/connectedHosts")["connectedHosts"].as_array().unwrap().clone();
    let is_listed = |hosts: &[Value]| hosts.iter().any(|host| host["hostNQN"] == identity.host.as_str());
    assert!(!is_listed(&hosts()));
    let association = Association::connect(&identity);
    wait_until("the host is listed", Duration::from_secs(5), || is_listed(&hosts()));
    let host = client.get(&format!("/api/v2/connectedHosts/{}", identity.host));
    assert_eq!(host["hostNQN"], identity.host.as_str());
    let of_volume = || client.get(&volume_path(&volume))["connectedHosts"].to_string();
    wait_until("the volume names its host", Duration::from_secs(5), || of_volume().contains(&identity.host));
    drop(association);
    wait_until("the host is gone", Duration::from_secs(10), || !is_listed(&hosts()));
}

#[test]
fn unknown_paths_and_methods_are_plain_errors() {
    let server = Server::start(&Setup { pool_mib: 0, benches: vec!["ram:16MiB"], ..Setup::default() });
    let client = server.client();
    let answer = client.send("GET", "/api/v2/nothing", &[], None);
    assert_eq!((answer.status, answer.text.trim()), (404, "Not Found"));
    let answer = client.send("PATCH", "/api/v2/cluster", &[], None);
    assert_eq!((answer.status, answer.text.trim()), (405, "Method Not Allowed"));
    let answer = client.send("POST", "/api/v2/projects/default/volumes", &[], Some(&json!("not an object")));
    answer.expect_error(400, 3);
}

#[test]
fn metrics_are_prometheus_text() {
    let server = Server::start(&Setup { pool_mib: 0, benches: vec!["ram:16MiB"], ..Setup::default() });
    let identity = Identity::new(server.port, &server.nqn(), 1);
    let association = Association::connect(&identity);
    let mut queue = association.io_queue(1);
    let mut admin = Association::connect(&Identity::new(server.port, &server.nqn(), 2));
    let nsid = admin.namespaces()[0];
    let _ = queue.write(nsid, 0, 4096, &[1; 4096]).expect_success("write");
    let answer = server.client().send("GET", "/metrics", &[], None);
    assert_eq!(answer.status, 200);
    let mut samples = 0;
    for line in answer.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        assert!(name.starts_with("ferrule_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        samples += 1;
    }
    assert!(samples > 10, "{}", answer.text);
}

#[test]
fn command_line_does_what_the_interface_does() {
    let server = Server::start(&Setup::default());
    let created = server.cli_ok(&[
        "create",
        "volume",
        "--name",
        "v1",
        "--size",
        "64MiB",
        "--acl",
        "ALLOW_ANY",
        "-o",
        "json",
    ]);
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["size"], (64 * MIB).to_string());
    let table = server.cli_ok(&["list", "volumes"]);
    assert!(table.starts_with("Name") && table.contains("v1"), "{table}");
    let listed: Value = serde_json::from_str(&server.cli_ok(&["list", "volumes", "-o", "json"])).unwrap();
    assert_eq!(listed["volumes"][0]["UUID"], created["UUID"]);
    assert!(server.cli_ok(&["get", "volume", "--name", "v1", "-o", "yaml"]).contains("name: v1"));
    let _ = server.cli_ok(&["update", "volume", "--name", "v1", "--size", "128MiB"]);
    let volume: Value =
        serde_json::from_str(&server.cli_ok(&["get", "volume", "--name", "v1", "-o", "json"])).unwrap();
    assert_eq!(volume["size"], (128 * MIB).to_string());
    assert!(server.cli_ok(&["list", "nodes"]).starts_with("Name"));
    let cluster: Value = serde_json::from_str(&server.cli_ok(&["get", "cluster", "-o", "json"])).unwrap();
    assert_eq!(cluster["subsystemNQN"], server.nqn().as_str());
    let _ = server.cli_ok(&["list", "connected-hosts"]);
    let _ = server.cli_ok(&["delete", "volume", "--name", "v1"]);

    // Errors go to the standard error, with a status that scripts can test.
    let output = server.cli(&["get", "volume", "--name", "v1"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(!output.stderr.is_empty());
    let output = server.cli(&["list", "nonsense"]);
    assert_eq!(output.status.code(), Some(2), "wrong usage");
    // A token on the command line wins over the environment's.
    let output = server.cli(&["list", "volumes", "-J", "nonsense"]);
    assert!(!output.status.success());
}

#[test]
fn state_survives_restarts_and_a_clean_stop_is_a_success() {
    let mut server = Server::start(&Setup::default());
    let (nqn, token) = (server.nqn(), server.token("system.jwt"));
    let volume = server.create_volume("v1", 64 * MIB);
    assert!(server.terminate().success());
    server.restart();
    assert_eq!((server.nqn(), server.token("system.jwt")), (nqn.clone(), token.clone()));
    server.kill();
    server.restart();
    assert_eq!((server.nqn(), server.token("system.jwt")), (nqn, token));
    let again = server.client().get(&volume_path(&volume));
    for field in ["name", "UUID", "nsid", "size", "ETag", "creationTime"] {
        assert_eq!(again[field], volume[field], "{field}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_reasons() {
    for (arguments, word) in [
        (vec!["--bench", "disk:1GiB"], "bench"),
        (vec!["--listen", "nowhere"], "listen"),
        (vec!["--reactors", "0"], "reactors"),
        (vec!["--pool", "/proc/none/pool:1GiB"], "pool"),
    ] {
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let mut server = Server::prepare(&Setup { pool_mib: 0, arguments, ..Setup::default() });
        server.launch();
        let said = server.expect_refusal(Duration::from_secs(20));
        assert!(said.contains(word), "{word}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
