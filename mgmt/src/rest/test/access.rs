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
