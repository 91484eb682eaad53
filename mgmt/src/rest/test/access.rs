//! Projects and credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bench;
use super::bench::{KEY, token};
use crate::directory::Directory;

const PATH: &str = "/api/v2/projects/default/credentials";

fn body(id: &str) -> Value {
    json!({"ID": id, "type": "RS256PubKey", "payload": STANDARD.encode(KEY.public_pem())})
}

#[test]
fn projects_are_listed_as_far_as_the_caller_may_see() {
    bench(async |bench| {
        let project = |name: &str| json!({"UUID": format!("uuid-of-{name}"), "name": name, "description": "", "defaultPolicies": []});
        let all = json!({"projects": [project("default"), project("other")]});
        assert_eq!(bench.get("/api/v2/projects").await, all);
        let own = bench.send(&bench.viewer, "GET", "/api/v2/projects", None).await;
        assert_eq!(own.json, json!({"projects": [project("default")]}));
        assert_eq!(bench.get("/api/v2/projects/other").await, project("other"));
        bench.send(&bench.system, "GET", "/api/v2/projects/x", None).await.expect_error(404, 5);
        bench.send(&bench.admin, "GET", "/api/v2/projects/x", None).await.expect_error(403, 7);
    });
}

#[test]
fn a_credential_lives_from_its_creation_to_its_deletion() {
    bench(async |bench| {
        let mine = token("default:mine", &["default:admin"]);
        bench.send(&mine, "GET", PATH, None).await.expect_error(401, 16);
        let made = bench.send(&bench.admin, "POST", PATH, Some(&body("mine").to_string())).await;
        let credential = json!({
            "projectName": "default",
            "ID": "mine",
            "type": "RS256PubKey",
            "payload": STANDARD.encode(KEY.public_pem()),
            "kind": "UserCreds",
        });
        assert_eq!((made.status, made.json), (200, credential.clone()));
        let listed = bench.send(&mine, "GET", PATH, None).await;
        let ids: Vec<&Value> =
            listed.json["credentials"].as_array().unwrap().iter().map(|one| &one["ID"]).collect();
        assert_eq!(ids, ["mine", "root"]);
        assert_eq!(bench.get(&format!("{PATH}/mine")).await, credential);
        let again = bench.send(&bench.admin, "POST", PATH, Some(&body("mine").to_string())).await;
        again.expect_error(409, 6);
        let gone = bench.send(&mine, "DELETE", &format!("{PATH}/mine"), None).await;
        assert_eq!((gone.status, gone.text.as_str()), (200, "{}"));
        bench.send(&mine, "GET", PATH, None).await.expect_error(401, 16);
        bench.send(&bench.admin, "GET", &format!("{PATH}/mine"), None).await.expect_error(404, 5);
        bench.send(&bench.admin, "DELETE", &format!("{PATH}/mine"), None).await.expect_error(404, 5);
    });
}

#[test]
fn a_deleted_credential_stays_deleted_after_a_restart() {
    bench(async |bench| {
        bench.send(&bench.admin, "POST", PATH, Some(&body("mine").to_string())).await;
        bench.send(&bench.admin, "DELETE", &format!("{PATH}/root"), None).await;
        let restarted = Directory::load(bench.store.clone()).await.unwrap();
        assert!(restarted.credential("default", "root").is_none());
        assert!(restarted.key("default", "mine").is_some());
        assert_eq!(restarted.projects(), bench.api.directory.projects());
    });
}

#[test]
fn enum_and_project_come_as_clients_send_them() {
    bench(async |bench| {
        let mut by_number = body("a");
        by_number["type"] = json!(1);
        by_number["projectName"] = json!("other");
        let made = bench.send(&bench.admin, "POST", PATH, Some(&by_number.to_string())).await;
        assert_eq!(made.json["projectName"], "default", "the path wins");
        let system = "/api/v2/projects/system/credentials";
        let made = bench.send(&bench.system, "POST", system, Some(&body("ops").to_string())).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let ops = token("system:ops", &["system:cluster-admin"]);
        assert_eq!(bench.send(&ops, "GET", "/api/v2/cluster", None).await.status, 200);
    });
}

#[test]
fn wrong_credentials_are_refused() {
    bench(async |bench| {
        let changed = |field: &str, value: Value| {
            let mut body = body("x");
            body[field] = value;
            body.to_string()
        };
        let private = STANDARD.encode(KEY.private_pem());
        for wrong in [
            changed("ID", json!("")),
            changed("ID", json!("a:b")),
            changed("ID", Value::Null),
            changed("type", json!("rs256pubkey")),
            changed("type", json!("TlsCertChainPem")),
            changed("type", Value::Null),
            changed("type", json!(9)),
            changed("payload", json!("")),
            changed("payload", json!("###")),
            changed("payload", json!(STANDARD.encode("no pem"))),
            changed("payload", json!(private)),
            changed("payload", json!(STANDARD.encode("x".repeat(16 * 1024) + &KEY.public_pem()))),
            "[]".to_owned(),
            "{".to_owned(),
        ] {
            bench.send(&bench.admin, "POST", PATH, Some(&wrong)).await.expect_error(400, 3);
        }
        let unknown = "/api/v2/projects/nowhere/credentials";
        let send = async |method: &str, path: &str| {
            bench.send(&bench.system, method, path, Some(&body("x").to_string())).await
        };
        send("POST", unknown).await.expect_error(400, 3);
        send("GET", unknown).await.expect_error(400, 3);
        send("GET", &format!("{unknown}/x")).await.expect_error(404, 5);
        send("DELETE", &format!("{unknown}/x")).await.expect_error(404, 5);
    });
}

#[test]
fn what_is_made_in_a_project_while_that_is_deleted_is_refused() {
    bench(async |bench| {
        let volume =
            json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
        let volumes = "/api/v2/projects/other/volumes";
        let made = bench.send(&bench.system, "POST", volumes, Some(&volume.to_string())).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let ask = |method: &'static str, path: &'static str, body: Value| {
            let bench = bench.clone();
            tokio_uring::spawn(async move {
                bench.send(&bench.system, method, path, Some(&body.to_string())).await
            })
        };
        // By the end of it, what was asked before waits for its turn.
        let pause = async || {
            for _ in 0..8 {
                bench.get("/api/v2/version").await;
            }
        };
        let turn = bench.api.records.exclusive().await;
        let deleted = ask("DELETE", "/api/v2/projects/other", json!({}));
        pause().await;
        let host = json!({"name": "h", "hostNqn": "nqn.2026-01.io.example:h"});
        let cycle = json!({"hourlySchedule": {"hoursInCycle": 1}});
        let policy = json!({"snapshotSchedulePolicy": cycle, "retentionTime": "90m"});
        let schedule = json!({"name": "s", "resourceName": "v", "schedulePolicy": policy});
        let asked = [
            ask("POST", "/api/v2/projects/other/credentials", body("x")),
            ask("POST", "/api/v2/projects/other/trustedHosts", host),
            ask("POST", "/api/v2/projects/other/resourcePolicies", schedule),
        ];
        pause().await;
        assert!(!deleted.is_finished() && asked.iter().all(|one| !one.is_finished()));
        let gone = bench.send(&bench.system, "DELETE", &format!("{volumes}/?name=v"), None).await;
        assert_eq!(gone.status, 200, "{}", gone.text);
        bench.get(volumes).await;
        drop(turn);
        let deleted = deleted.await.unwrap();
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        for (asked, (status, code)) in asked.into_iter().zip([(400, 3), (400, 3), (404, 5)]) {
            asked.await.unwrap().expect_error(status, code);
        }
        let project = json!({"name": "other"}).to_string();
        assert_eq!(bench.send(&bench.system, "POST", "/api/v2/projects", Some(&project)).await.status, 200);
        let kept = token("other:x", &["other:admin"]);
        bench.send(&kept, "GET", volumes, None).await.expect_error(401, 16);
        // A project made anew has nothing that would keep it.
        assert_eq!(bench.send(&bench.system, "DELETE", "/api/v2/projects/other", None).await.status, 200);
    });
}
