//! Metadata in etcd: two servers, each with a pool of its own, on one real etcd.
//!
//! Goal: what one server changes the other knows, no change is lost, an etcd that is away or empty costs no volume, and
//! metadata move there and back. Method: Debian's etcd on loopback, killed, emptied and started again.

use std::time::Duration;

use serde_json::{Value, json};
use tests::association::{Association, Identity};
use tests::etcd::Etcd;
use tests::python::said;
use tests::rest::{Answer, Client};
use tests::scratch::wait_until;
use tests::server::{Server, Setup, volume_path};

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_secs(5);

fn setup(etcd: &Etcd) -> Setup {
    let arguments = vec!["--metadata-store".to_owned(), etcd.url()];
    Setup { arguments, ..Setup::small() }
}

/// A client of `server` with the token that the first server of the store has made.
fn client_of(server: &Server, first: &Server) -> Client {
    Client::new(&server.endpoint(), &first.token("system.jwt"))
}

fn policy(name: &str) -> Value {
    json!({"name": name, "description": "0", "qoSRateLimitPolicy": {"limitIOPS": {"readLimit": 1000, "writeLimit": 1000}}})
}

/// The current ETag of what `path` changes, from the refusal of one that never was.
fn etag(client: &Client, path: &str) -> Option<String> {
    let refused = client.send("PUT", path, &["If-Match: 1"], Some(&json!({"description": "?"})));
    assert!(matches!(refused.status, 409 | 412), "{}", refused.text);
    let message = refused.body["message"].as_str()?.to_owned();
    message.split_once("is now ").map(|(_, etag)| etag.to_owned())
}

#[test]
fn two_servers_on_one_etcd_agree() {
    let etcd = Etcd::start();
    let (one, two) = (Server::start(&setup(&etcd)), Server::start(&setup(&etcd)));
    assert!(!two.state().join("system.jwt").exists(), "the first server's token is the cluster's");
    assert!(!two.state().join("metadata.redb").exists());
    let (at_one, at_two) = (client_of(&one, &one), client_of(&two, &one));

    // Projects, each server with its own change, both with both.
    let _ = at_one.post("/api/v2/projects", &json!({"name": "red", "description": "by one"}));
    wait_until("two knows red", SOON, || at_two.send("GET", "/api/v2/projects/red", &[], None).status == 200);
    assert_eq!(at_two.get("/api/v2/projects/red"), at_one.get("/api/v2/projects/red"));
    at_two.send("POST", "/api/v2/projects", &[], Some(&json!({"name": "red"}))).expect_error(409, 6);

    // Policies: an ETag is worth the same on both, and an old one nothing on either.
    let made = at_two.post("/api/v2/policies", &policy("slow"));
    let path = format!("/api/v2/policies/{}", made["UUID"].as_str().unwrap());
    wait_until("one knows the policy", SOON, || at_one.send("GET", &path, &[], None).status == 200);
    let old = format!("If-Match: {}", etag(&at_one, &path).unwrap());
    let change = json!({"description": "1"});
    let _ = at_one.send("PUT", &path, &[&old], Some(&change)).expect_ok();
    // At once: the server that was not asked may not have heard of it yet, and must not let it pass all the same.
    at_two.send("PUT", &path, &[&old], Some(&change)).expect_error(412, 9);
    wait_until("two has the change", SOON, || at_two.get(&path)["description"] == "1");

    // Credentials: a key that one takes is good at two, and when two takes it back it is good nowhere.
    let token = std::fs::read_to_string(one.state().join("default-admin.jwt")).unwrap();
    let admin = Client::new(&two.endpoint(), token.trim());
    assert!(admin.get("/api/v2/projects/default/volumes")["volumes"].is_array());
    at_two.delete("/api/v2/projects/default/credentials/root");
    admin.send("GET", "/api/v2/projects/default/volumes", &[], None).expect_error(401, 16);
    let admin = Client::new(&one.endpoint(), token.trim());
    wait_until("one refuses it, too", SOON, || {
        admin.send("GET", "/api/v2/projects/default/volumes", &[], None).status == 401
    });

    // Users with roles, and a login that ends with a change elsewhere.
    let user = json!({"roles": ["user"], "password": "correct horse"});
    let _ = at_one.post("/auth/users/ann", &user);
    wait_until("two knows ann", SOON, || at_two.get("/auth/users")["users"][0]["name"] == "ann");

    // Volumes stay each pool's own.
    let volume = one.create_volume("v1", MIB);
    assert_eq!(at_two.send("GET", &volume_path(&volume), &[], None).status, 404);
}

#[test]
fn concurrent_changes_at_two_servers_lose_nothing() {
    const ROUNDS: u32 = 10;
    let etcd = Etcd::start();
    let (one, two) = (Server::start(&setup(&etcd)), Server::start(&setup(&etcd)));
    let clients =
        [client_of(&one, &one), client_of(&two, &one), client_of(&one, &one), client_of(&two, &one)];
    let made = clients[0].post("/api/v2/policies", &policy("counted"));
    let path = format!("/api/v2/policies/{}", made["UUID"].as_str().unwrap());
    wait_until("two knows the policy", SOON, || clients[1].send("GET", &path, &[], None).status == 200);
    let add_one = |client: &Client| loop {
        let Some(etag) = etag(client, &path) else { continue };
        // What is read after the ETag may be newer, and then the ETag is no longer current.
        let count: u32 = client.get(&path)["description"].as_str().unwrap().parse().unwrap();
        let body = json!({"description": (count + 1).to_string()});
        match client.send("PUT", &path, &[&format!("If-Match: {etag}")], Some(&body)).status {
            200 => return,
            409 | 412 => {}
            status => panic!("status {status}"),
        }
    };
    // The same name at both in the same moment: one of them has it.
    let races: Vec<Vec<Answer>> = std::thread::scope(|scope| {
        let run = |client| {
            let (add_one, client): (_, &Client) = (&add_one, client);
            scope.spawn(move || {
                let answers = (0..ROUNDS).map(|round| {
                    add_one(client);
                    client.send("POST", "/api/v2/policies", &[], Some(&policy(&format!("p{round}"))))
                });
                answers.collect()
            })
        };
        let running: Vec<_> = clients.iter().map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total = (ROUNDS * 4).to_string();
    for client in &clients {
        wait_until("both have every change", SOON, || client.get(&path)["description"] == total.as_str());
    }
    for round in 0..ROUNDS as usize {
        let statuses: Vec<u16> = races.iter().map(|answers| answers[round].status).collect();
        let won = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(won, 1, "name p{round}: {statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "name p{round}: {statuses:?}");
    }
    let policies = clients[0].get("/api/v2/policies");
    let mut names: Vec<&str> =
        policies["policies"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name was given twice");
    // Both have written events: no number was given twice, and none is missing.
    wait_until("the events are written", SOON, || {
        let events = clients[1].get("/api/v2/events?limit=1000");
        let events = events["events"].as_array().unwrap().clone();
        let mut ids: Vec<u64> =
            events.iter().map(|one| one["ID"].as_str().unwrap().parse().unwrap()).collect();
        ids.sort_unstable();
        let posts = events.iter().filter(|event| event["EventName"] == "CreatePolicy").count();
        ids.windows(2).all(|pair| pair[1] == pair[0] + 1) && posts == 1 + 4 * ROUNDS as usize
    });
}

#[test]
fn a_project_stays_while_any_servers_pool_has_something_of_it() {
    const ROUNDS: u32 = 12;
    let etcd = Etcd::start();
    let (one, two) = (Server::start(&setup(&etcd)), Server::start(&setup(&etcd)));
    let (at_one, at_two) = (client_of(&one, &one), client_of(&two, &one));
    let volume = json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
    let make = |client: &Client, project: &str| {
        client.send("POST", &format!("/api/v2/projects/{project}/volumes"), &[], Some(&volume))
    };
    let delete = |client: &Client, project: &str| {
        client.send("DELETE", &format!("/api/v2/projects/{project}"), &[], None)
    };
    let _ = at_one.post("/api/v2/projects", &json!({"name": "red"}));
    wait_until("two knows red", SOON, || at_two.send("GET", "/api/v2/projects/red", &[], None).status == 200);
    let _ = make(&at_two, "red").expect_ok();
    // At once, though nothing has told one of the volume but the use in the store.
    let refused = delete(&at_one, "red");
    refused.expect_error(400, 9);
    assert!(refused.text.contains("red still has volumes or snapshots at server"), "{}", refused.text);
    delete(&at_two, "red").expect_error(400, 9);

    // A snapshot holds it, too; with both gone, either server may delete it.
    let path = "/api/v2/projects/red/snapshots";
    let _ = at_two.post(path, &json!({"name": "s", "sourceVolumeName": "v"}));
    at_two.delete("/api/v2/projects/red/volumes/?name=v");
    delete(&at_one, "red").expect_error(400, 9);
    at_two.delete(&format!("{path}/?name=s"));
    wait_until("red can be deleted", Duration::from_secs(20), || delete(&at_one, "red").status == 200);
    wait_until("two knows", SOON, || make(&at_two, "red").status == 400);

    // The first volume here and the end of the project there, in the same moment: one of them is refused.
    for round in 0..ROUNDS {
        let name = format!("p{round}");
        let project = format!("/api/v2/projects/{name}");
        let _ = at_one.post("/api/v2/projects", &json!({"name": name}));
        wait_until("two knows it", SOON, || at_two.send("GET", &project, &[], None).status == 200);
        let (made, deleted) = std::thread::scope(|scope| {
            let made = scope.spawn(|| make(&at_two, &name).status);
            let deleted = delete(&at_one, &name).status;
            (made.join().unwrap(), deleted)
        });
        assert!(matches!((made, deleted), (200, 400) | (400, 200)), "{name}: made {made}, deleted {deleted}");
        if made == 200 {
            assert_eq!(at_one.get(&project)["name"], name.as_str());
        }
    }
}

#[test]
fn a_policy_stays_while_a_volume_of_any_server_has_it() {
    let etcd = Etcd::start();
    let (one, mut two) = (Server::start(&setup(&etcd)), Server::start(&setup(&etcd)));
    let (at_one, at_two) = (client_of(&one, &one), client_of(&two, &one));
    let paths = ["a", "b"].map(|name| {
        let made = at_one.post("/api/v2/policies", &policy(name));
        format!("/api/v2/policies/{}", made["UUID"].as_str().unwrap())
    });
    wait_until("two knows them", SOON, || at_two.send("GET", &paths[1], &[], None).status == 200);
    let volume = json!({
        "name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1, "qosPolicyName": "a"
    });
    let made = at_two.post("/api/v2/projects/default/volumes", &volume);
    let delete = |path: &str| at_one.send("DELETE", path, &[], None);
    // At once: one has heard of it from the store, or is told so when it tries.
    delete(&paths[0]).expect_error(400, 9);
    // The other policy instead: the first is free again soon, the second is not, not even while two is away.
    at_two.put(&volume_path(&made), &json!({"qosPolicyName": "b"}));
    delete(&paths[1]).expect_error(400, 9);
    wait_until("a can be deleted", Duration::from_secs(20), || delete(&paths[0]).status == 200);
    two.kill();
    delete(&paths[1]).expect_error(400, 9);
    two.restart();
    delete(&paths[1]).expect_error(400, 9);
    at_two.delete(&volume_path(&made));
    wait_until("b can be deleted", Duration::from_secs(20), || delete(&paths[1]).status == 200);
    at_two.send("POST", "/api/v2/projects/default/volumes", &[], Some(&volume)).expect_error(400, 3);
}

#[test]
fn an_etcd_emptied_under_running_servers_is_filled_again_without_a_restart() {
    let mut etcd = Etcd::start();
    let (one, two) = (Server::start(&setup(&etcd)), Server::start(&setup(&etcd)));
    let (old, at_two) = (client_of(&one, &one), client_of(&two, &one));
    let _ = old.post("/api/v2/projects", &json!({"name": "red"}));
    wait_until("two knows red", SOON, || at_two.send("GET", "/api/v2/projects/red", &[], None).status == 200);
    let request = json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
    let volume = at_two.post("/api/v2/projects/red/volumes", &request);
    let mut token = one.token("system.jwt");
    let ways: [&dyn Fn(&mut Etcd); 3] = [
        &|etcd| drop(etcd.ctl(&["del", "/ferrule/", "--prefix"])),
        &|etcd| drop(etcd.ctl(&["del", "/ferrule/records/", "--prefix"])),
        &|etcd| {
            etcd.kill();
            etcd.wipe();
            etcd.restart();
        },
    ];
    for empty in ways {
        empty(&mut etcd);
        // One of the two was faster, and has the token of both.
        let fresh = |server: &Server| {
            let text = std::fs::read_to_string(server.state().join("system.jwt")).ok()?;
            (text.trim() != token).then(|| text.trim().to_owned())
        };
        let mut found = None;
        wait_until("there is a new token", Duration::from_secs(30), || {
            let good = |token: &String| {
                [&one, &two].iter().all(|server| {
                    let client = Client::new(&server.endpoint(), token);
                    client.send("GET", "/api/v2/projects/red", &[], None).status == 200
                })
            };
            found = [&one, &two].into_iter().find_map(fresh).filter(good);
            found.is_some()
        });
        let before = std::mem::replace(&mut token, found.unwrap());
        let client = |server: &Server| Client::new(&server.endpoint(), &token);
        Client::new(&one.endpoint(), &before).send("GET", "/api/v2/cluster", &[], None).expect_error(401, 16);
        assert_eq!(client(&two).get("/api/v2/projects/red/volumes/?name=v")["UUID"], volume["UUID"]);
        // What two has of red is known to one again.
        client(&one).send("DELETE", "/api/v2/projects/red", &[], None).expect_error(400, 9);
        let _ = client(&one).post("/api/v2/projects", &json!({"name": "blue"}));
    }
    assert!(one.log().contains("the metadata store was emptied"));
}

#[test]
fn an_etcd_that_is_away_stops_changes_and_no_volume_and_comes_back_by_itself() {
    let mut etcd = Etcd::start();
    let server = Server::start(&setup(&etcd));
    let client = server.client();
    let volume = server.create_volume("v1", 16 * MIB);
    let mut admin = Association::connect(&Identity::new(server.port, &server.nqn(), 1));
    let nsid = admin.namespaces()[0];
    let mut queue = admin.io_queue(1);
    etcd.kill();
    let project = json!({"name": "blue"});
    let refused = client.send("POST", "/api/v2/projects", &[], Some(&project));
    refused.expect_error(503, 14);
    assert!(
        refused.text.contains(&etcd.url()) && refused.text.contains("see that etcd runs"),
        "{}",
        refused.text
    );
    // What is known is shown for a while, but not for ever: a key may have been taken back elsewhere.
    assert_eq!(client.get("/api/v2/projects/default")["name"], "default");
    wait_until("trust ends", Duration::from_secs(20), || {
        client.send("GET", "/api/v2/projects/default", &[], None).status == 503
    });
    let _ = queue.write(nsid, 0, 4096, &[7; 4096]).expect_success("write without etcd");
    assert_eq!(queue.read(nsid, 0, 4096, 4096).expect_success("read without etcd").data, [7; 4096]);
    etcd.restart();
    wait_until("changes are made again", Duration::from_secs(20), || {
        client.send("POST", "/api/v2/projects", &[], Some(&project)).status == 200
    });
    assert_eq!(client.get(&volume_path(&volume))["state"], "Available");
}

#[test]
fn an_etcd_that_was_full_takes_changes_again_over_the_same_connection() {
    let etcd = Etcd::start_with_quota(4 * MIB);
    let server = Server::start(&setup(&etcd));
    let client = server.client();
    etcd.fill();
    let project = json!({"name": "blue"});
    let refused = client.send("POST", "/api/v2/projects", &[], Some(&project));
    refused.expect_error(503, 14);
    assert!(refused.text.contains("database space exceeded"), "{}", refused.text);
    // What needs no change is answered all the time.
    assert_eq!(client.get("/api/v2/projects/default")["name"], "default");
    etcd.make_room();
    wait_until("changes are made again", SOON, || {
        client.send("POST", "/api/v2/projects", &[], Some(&project)).status == 200
    });
    assert!(!server.log().contains("the metadata store is lost"), "{}", server.log());
}

#[test]
fn records_that_are_large_together_are_read_all_the_same() {
    const COUNT: u64 = 60;
    let etcd = Etcd::start();
    let mut server = Server::start(&setup(&etcd));
    server.kill();
    // More than one answer of etcd may have, in fewer keys than are asked for at once.
    for number in 1..=COUNT {
        let event = json!({
            "ID": (1000 + number).to_string(), "Time": "2026-01-01T12:00:00.000Z", "Type": "Cluster", "Severity": "Low",
            "EventName": "Large", "EventCode": 1, "ReportingService": "API", "Status": "Failed", "CauseCode": 401,
            "Description": "x".repeat(100_000)
        });
        let key = format!("/ferrule/records/event/{:020}", 1000 + number);
        let _ = etcd.ctl(&["put", &key, &event.to_string()]);
    }
    server.restart();
    let events = server.client().get("/api/v2/events");
    let events = events["events"].as_array().unwrap();
    let large = events.iter().filter(|event| event["EventName"] == "Large").count() as u64;
    assert_eq!(large, COUNT);
}

#[test]
fn a_server_that_starts_before_etcd_serves_volumes_and_waits() {
    let mut etcd = Etcd::start();
    let mut server = Server::start(&setup(&etcd));
    let _ = server.create_volume("v1", 16 * MIB);
    let (nqn, client) = (server.nqn(), server.client());
    server.kill();
    etcd.kill();
    server.restart();
    let answer = client.send("GET", "/api/v2/cluster", &[], None);
    answer.expect_error(503, 14);
    assert!(answer.text.contains(&etcd.url()), "{}", answer.text);
    let mut admin = Association::connect(&Identity::new(server.port, &nqn, 1));
    let nsid = admin.namespaces()[0];
    let _ = admin.io_queue(1).write(nsid, 0, 4096, &[7; 4096]).expect_success("write before etcd");
    etcd.restart();
    wait_until("the server goes on", Duration::from_secs(20), || {
        client.try_send("GET", "/api/v2/cluster", &[], None).is_ok_and(|answer| answer.status == 200)
    });
    assert!(server.terminate().success());
    // What no waiting cures is told at once.
    etcd.kill();
    server.launch();
    wait_until("the server waits", SOON, || {
        server.log().matches("waiting for the metadata store").count() == 2
    });
    assert!(server.terminate().success(), "a server that waits stops cleanly");
}

#[test]
fn an_etcd_that_lost_everything_costs_metadata_and_no_volume() {
    let mut etcd = Etcd::start();
    let mut server = Server::start(&setup(&etcd));
    let client = server.client();
    let _ = client.post("/api/v2/projects", &json!({"name": "red"}));
    let volume = server.create_volume_with(&json!({
        "name": "v1", "size": "16MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1
    }));
    let old = etag(&client, "/api/v2/projects/default").unwrap();
    server.kill();
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    server.restart();
    client.send("GET", "/api/v2/cluster", &[], None).expect_error(401, 16);
    let client = server.client();
    let again = client.get(&volume_path(&volume));
    for field in ["name", "UUID", "nsid", "size", "ETag", "creationTime", "projectName"] {
        assert_eq!(again[field], volume[field], "{field}");
    }
    assert_eq!(client.send("GET", "/api/v2/projects/red", &[], None).status, 404);
    let new = etag(&client, "/api/v2/projects/default").unwrap();
    assert!(new.parse::<u64>().unwrap() > old.parse().unwrap(), "ETag {new} may have meant something before");
}

#[test]
fn metadata_move_to_etcd_and_back_by_one_command() {
    let etcd = Etcd::start();
    let mut server = Server::start(&Setup::small());
    let client = server.client();
    let _ = client.post("/api/v2/projects", &json!({"name": "red", "description": "moves"}));
    let before = client.get("/api/v2/projects/red");
    let state = server.state().display().to_string();
    let there = ["move", "metadata", "--from", &state, "--to", &etcd.url()];
    let running = server.run(&there);
    assert!(!running.status.success() && said(&running).contains("another server"), "{}", said(&running));
    assert!(server.terminate().success());

    let moved = server.run(&there);
    assert!(moved.status.success() && said(&moved).contains("--metadata-store"), "{}", said(&moved));
    // The old place says where everything is.
    server.launch();
    let refusal = server.expect_refusal(Duration::from_secs(20));
    assert!(refusal.contains(&format!("was moved to {}", etcd.url())), "{refusal}");
    server.set_option("--metadata-store", Some(&etcd.url()));
    server.restart();
    assert_eq!(client.get("/api/v2/projects/red"), before, "the same token, the same project");
    let _ = client.post("/api/v2/projects", &json!({"name": "blue"}));

    // Back, while a server still uses etcd: it refuses changes from then on.
    let back = ["move", "metadata", "--from", &etcd.url(), "--to", &state];
    let moved = server.run(&back);
    assert!(moved.status.success(), "{}", said(&moved));
    let refused = client.send("POST", "/api/v2/projects", &[], Some(&json!({"name": "green"})));
    refused.expect_error(503, 14);
    assert!(server.terminate().success());
    server.set_option("--metadata-store", None);
    server.restart();
    assert_eq!(client.get("/api/v2/projects/red"), before);
    assert_eq!(client.get("/api/v2/projects/blue")["name"], "blue");
    assert!(server.terminate().success());

    // Cut off before its last step: the server that finds both marks takes that step itself.
    let moved = server.run(&there);
    assert!(moved.status.success(), "{}", said(&moved));
    let kept = etcd.ctl(&["get", "/ferrule/schema", "--print-value-only"]);
    let known: Value = serde_json::from_str(&etcd.ctl(&["get", "/ferrule/schema", "-w", "json"])).unwrap();
    let before = (known["kvs"][0]["mod_revision"].as_u64().unwrap() - 1).to_string();
    let marked = etcd.ctl(&["get", "/ferrule/schema", "--rev", &before, "--print-value-only"]);
    assert!(marked.contains("incoming"), "{marked}");
    let _ = etcd.ctl(&["put", "/ferrule/schema", marked.trim()]);
    server.set_option("--metadata-store", Some(&etcd.url()));
    server.restart();
    assert_eq!(etcd.ctl(&["get", "/ferrule/schema", "--print-value-only"]), kept);
    assert!(server.terminate().success());

    // A place with other things is left alone.
    let other = Etcd::start();
    let _ = other.ctl(&["put", "/ferrule/records/project/x", "{}"]);
    let refused = server.run(&["move", "metadata", "--from", &etcd.url(), "--to", &other.url()]);
    assert!(!refused.status.success(), "{}", said(&refused));
}

#[test]
fn an_older_schema_is_brought_up_to_date_and_a_newer_one_refused() {
    let etcd = Etcd::start();
    let mut server = Server::start(&setup(&etcd));
    server.kill();
    let schema = etcd.ctl(&["get", "/ferrule/schema", "--print-value-only"]);
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    let node = etcd.ctl(&["get", "/ferrule/records/cluster/", "--prefix"]);
    let (key, value) = node.trim().split_once('\n').unwrap();
    // As version 2 had it.
    let _ = etcd.ctl(&["put", "/ferrule/records/cluster/", value]);
    let _ = etcd.ctl(&["del", key]);
    schema["version"] = json!(2);
    let _ = etcd.ctl(&["put", "/ferrule/schema", &schema.to_string()]);
    server.restart();
    assert_eq!(etcd.ctl(&["get", "/ferrule/records/cluster/", "--prefix"]), node);
    assert_eq!(server.client().get("/api/v2/projects/default")["name"], "default");

    // A later version that takes over while this one runs, and at a start.
    schema["version"] = json!(99);
    let _ = etcd.ctl(&["put", "/ferrule/schema", &schema.to_string()]);
    let client = server.client();
    let project = json!({"name": "red"});
    client.send("POST", "/api/v2/projects", &[], Some(&project)).expect_error(503, 14);
    server.kill();
    server.launch();
    let refusal = server.expect_refusal(Duration::from_secs(20));
    assert!(refusal.contains("schema version 99") && refusal.contains("later ferrule"), "{refusal}");
}

#[test]
fn etcd_with_tls_and_passwords_lets_in_who_has_both() {
    let scratch = tests::scratch::Scratch::new("etcd-tls");
    let path = |name: &str| scratch.join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=etcd"])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("cert.pem"),
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let mut etcd = Etcd::prepare_with_tls(&path("cert.pem"), &path("key.pem"));
    etcd.restart();
    let _ = etcd.ctl(&["user", "add", "root:secret"]);
    let _ = etcd.ctl(&["auth", "enable"]);
    let file = |name: &str, text: &str| {
        std::fs::write(scratch.join(name), text).unwrap();
        path(name)
    };
    let options = |password: &str| {
        let text = format!(
            "metadata-store: {}\nmetadata-ca: {}\nmetadata-user: root\nmetadata-password-file: {password}\n",
            etcd.url(),
            path("cert.pem")
        );
        let config = file("ferrule.yaml", &text);
        Setup { arguments: vec!["--config".to_owned(), config], ..Setup::small() }
    };
    let mut refused = Server::prepare(&options(&file("wrong", "guess\n")));
    refused.launch();
    let refusal = refused.expect_refusal(Duration::from_secs(20));
    assert!(refusal.contains("etcd refuses this server") && !refusal.contains("guess"), "{refusal}");
    let server = Server::start(&options(&file("right", "secret\n")));
    let _ = server.client().post("/api/v2/projects", &json!({"name": "red"}));
    let kept = etcd.try_ctl(&["get", "/ferrule/records/project/red"], &["--user", "root:secret"]);
    assert!(said(&kept).contains("red"), "{}", said(&kept));
}
