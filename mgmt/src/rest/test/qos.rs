//! Policies, and the limits that volumes have by them.

use std::time::Duration;

use dataplane::Limits;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::bench::Bench;
use super::{bench, token};

async fn policy(bench: &Bench, body: Value) -> Value {
    let made = bench.send(&bench.system, "POST", "/api/v2/policies", Some(&body.to_string())).await;
    assert_eq!(made.status, 200, "{}", made.text);
    made.json
}

fn limits(bench: &Bench, uuid: &Value) -> Limits {
    let uuid = uuid.as_str().unwrap();
    let volumes = bench.api.view.after(None);
    let own = volumes.iter().find(|volume| super::super::rules::uuid_text(volume.spec.uuid.0) == uuid);
    own.unwrap().spec.limits
}

#[test]
fn a_volume_is_limited_by_its_own_policy_else_its_projects_else_the_clusters() {
    bench(async |bench| {
        let limit = json!({"limitIOPS": {"readIOPSLimit": 1000, "writeIOPSLimit": 256}});
        let own = policy(&bench, json!({"name": "own", "qoSRateLimitPolicy": limit})).await;
        assert_eq!(own["QoSRateLimitPolicy"]["limitIOPS"]["readIOPSLimit"], 1024, "in steps of 256");
        assert_eq!(own["state"], "Active");
        let bw = json!({"limitBw": {"readBWLimit": 10}});
        let project = policy(&bench, json!({"name": "project", "qoSRateLimitPolicy": bw})).await;
        let bw = json!({"limitIOPSPerGB": {"writeIOPSPerGBLimit": 3}});
        let _ = policy(&bench, json!({"name": "cluster", "qoSRateLimitPolicy": bw})).await;

        let volume = bench.create("v").await;
        let put = async |path: &str, body: Value| {
            let answer = bench.send(&bench.system, "PUT", path, Some(&body.to_string())).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        };
        assert_eq!(limits(&bench, &volume["UUID"]), Limits::default());
        put("/api/v2/clusterConfig/DefaultQoSName", json!({"configParam": {"value": "cluster"}})).await;
        let of_cluster = Limits { write_ios_per_gib: 3, ..Limits::default() };
        assert_eq!(limits(&bench, &volume["UUID"]), of_cluster);
        let default = json!([{"policyType": "qosRateLimit", "policyUUID": project["UUID"]}]);
        put("/api/v2/projects/default", json!({"defaultPolicies": default})).await;
        let of_project = Limits { read_bytes: 10_000_000, ..Limits::default() };
        assert_eq!(limits(&bench, &volume["UUID"]), of_project);
        let path = format!("/api/v2/projects/default/volumes/{}", volume["UUID"].as_str().unwrap());
        put(&path, json!({"qosPolicyName": "own"})).await;
        let by_own = Limits { read_ios: 1024, write_ios: 256, ..Limits::default() };
        assert_eq!(limits(&bench, &volume["UUID"]), by_own);
        let read = bench.get(&path).await;
        assert_eq!((&read["qosPolicyUUID"], &read["qosPolicyName"]), (&own["UUID"], &json!("own")));

        // A policy that changes limits its volumes at once; one that is in use stays.
        let path = format!("/api/v2/policies/{}", own["UUID"].as_str().unwrap());
        let limit = json!({"limitIOPS": {"readIOPSLimit": 512}});
        put(&path, json!({"qoSRateLimitPolicy": limit})).await;
        assert_eq!(limits(&bench, &volume["UUID"]), Limits { read_ios: 512, ..Limits::default() });
        bench.send(&bench.system, "DELETE", &path, None).await.expect_error(400, 9);
    });
}

#[test]
fn a_volume_that_is_being_made_or_changed_is_limited_by_its_policy_as_it_is_then() {
    bench(async |bench| {
        let limit = |read: u32| json!({"limitIOPS": {"readIOPSLimit": read}});
        let own = policy(&bench, json!({"name": "own", "qoSRateLimitPolicy": limit(256)})).await;
        let path = format!("/api/v2/policies/{}", own["UUID"].as_str().unwrap());
        let change = async |read: u32| {
            let body = json!({"qoSRateLimitPolicy": limit(read)}).to_string();
            assert_eq!(bench.send(&bench.system, "PUT", &path, Some(&body)).await.status, 200);
        };
        let volumes = "/api/v2/projects/default/volumes";
        let begin = |method: &'static str, path: String, body: Value| {
            let bench = bench.clone();
            bench.fake.hold();
            tokio_uring::spawn(async move {
                bench.send(&bench.system, method, &path, Some(&body.to_string())).await
            })
        };
        let is_held = async || {
            while bench.fake.held() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let body = json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1, "qosPolicyName": "own"});
        let making = begin("POST", volumes.to_owned(), body);
        is_held().await;
        bench.send(&bench.system, "DELETE", &path, None).await.expect_error(400, 9);
        change(512).await;
        bench.fake.release();
        let made = making.await.unwrap();
        assert_eq!(made.status, 200, "{}", made.text);
        assert_eq!(limits(&bench, &made.json["UUID"]).read_ios, 512);

        let one = format!("{volumes}/{}", made.json["UUID"].as_str().unwrap());
        let changing = begin("PUT", one, json!({"labels": [{"key": "a", "value": "b"}]}));
        is_held().await;
        change(1024).await;
        assert_eq!(limits(&bench, &made.json["UUID"]).read_ios, 512, "not while it is being changed");
        bench.fake.release();
        assert_eq!(changing.await.unwrap().status, 200);
        while limits(&bench, &made.json["UUID"]).read_ios != 1024 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn other_changes_do_not_wait_while_volumes_are_limited_anew() {
    bench(async |bench| {
        let limit = |read: u32| json!({"qoSRateLimitPolicy": {"limitIOPS": {"readIOPSLimit": read}}});
        let mut named = limit(256);
        named["name"] = json!("own");
        let own = policy(&bench, named).await;
        let path = format!("/api/v2/policies/{}", own["UUID"].as_str().unwrap());
        let default = json!([{"policyType": "qosRateLimit", "policyUUID": own["UUID"]}]);
        let project = json!({"defaultPolicies": default});
        let volume = bench.create("v").await;
        let send = |method: &'static str, path: &str, body: &Value| {
            let (bench, path, body) = (bench.clone(), path.to_owned(), body.to_string());
            tokio_uring::spawn(async move {
                let answer = bench.send(&bench.system, method, &path, Some(&body));
                let answer = timeout(Duration::from_secs(10), answer).await.expect("nothing else waits");
                assert_eq!(answer.status, 200, "{}", answer.text);
            })
        };
        // A project's defaults, then the policy itself: both while the data plane has not set the limits yet.
        for (number, path, body) in [(0, "/api/v2/projects/default", project), (1, path.as_str(), limit(512))]
        {
            bench.fake.hold_limits();
            let changing = send("PUT", path, &body);
            while bench.fake.held() == 0 {
                tokio::task::yield_now().await;
            }
            let other = json!({"name": format!("p{number}")});
            send("POST", "/api/v2/projects", &other).await.unwrap();
            bench.fake.release();
            changing.await.unwrap();
        }
        assert_eq!(limits(&bench, &volume["UUID"]).read_ios, 512);
        // A policy that changes again meanwhile: what it says last is what the volume gets.
        bench.fake.hold_limits();
        let changing = send("PUT", &path, &limit(1024));
        while bench.fake.held() == 0 {
            tokio::task::yield_now().await;
        }
        send("PUT", &path, &limit(512)).await.unwrap();
        assert_eq!(limits(&bench, &volume["UUID"]).read_ios, 512, "what the last change said before");
        bench.fake.release();
        changing.await.unwrap();
        let in_time = timeout(Duration::from_secs(10), async {
            while limits(&bench, &volume["UUID"]).read_ios != 512 {
                tokio::task::yield_now().await;
            }
        });
        in_time.await.expect("the last change wins");
    });
}

#[test]
fn the_clusters_default_policy_keeps_its_name_and_stays() {
    bench(async |bench| {
        let limit = json!({"limitBw": {"readBWLimit": 10}});
        let made = policy(&bench, json!({"name": "usual", "qoSRateLimitPolicy": limit})).await;
        let path = format!("/api/v2/policies/{}", made["UUID"].as_str().unwrap());
        let parameter = "/api/v2/clusterConfig/DefaultQoSName";
        let put = async |path: &str, body: Value| {
            bench.send(&bench.system, "PUT", path, Some(&body.to_string())).await
        };
        assert_eq!(put(parameter, json!({"configParam": {"value": "usual"}})).await.status, 200);
        put(&path, json!({"name": "other"})).await.expect_error(400, 9);
        bench.send(&bench.system, "DELETE", &path, None).await.expect_error(400, 9);
        assert_eq!(put(&path, json!({"description": "as before"})).await.status, 200);
        assert_eq!(put(parameter, json!({"configParam": {"value": "no-limit-policy"}})).await.status, 200);
        assert_eq!(bench.send(&bench.system, "DELETE", &path, None).await.status, 200);
    });
}

#[test]
fn policies_are_seen_and_used_where_their_scope_is() {
    bench(async |bench| {
        let limit = json!({"limitBw": {"readBWLimit": 1}, "projectsNamesScope": ["other"]});
        let made = policy(&bench, json!({"name": "theirs", "qoSRateLimitPolicy": limit})).await;
        assert_eq!(made["QoSRateLimitPolicy"]["policyVisibility"], "Scoped");
        let other = token("system:root", &["other:viewer"]);
        let path = format!("/api/v2/policies/{}", made["UUID"].as_str().unwrap());
        assert_eq!(bench.send(&other, "GET", &path, None).await.status, 200);
        bench.send(&bench.viewer, "GET", &path, None).await.expect_error(404, 5);
        let listed = bench.send(&bench.viewer, "GET", "/api/v2/policies", None).await;
        assert_eq!(listed.json["policies"].as_array().unwrap().len(), 1, "no-limit-policy");
        let body = json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1, "qosPolicyName": "theirs"});
        let path = "/api/v2/projects/default/volumes";
        bench.send(&bench.admin, "POST", path, Some(&body.to_string())).await.expect_error(400, 3);
    });
}

#[test]
fn wrong_policies_are_refused() {
    bench(async |bench| {
        let iops = json!({"readIOPSLimit": 1});
        for (limits, status, code) in [
            (Value::Null, 400, 3),
            (json!({}), 400, 3),
            (json!({"limitIOPS": iops, "limitBw": {}}), 400, 3),
            (json!({"limitIOPS": iops, "policyVisibility": "Scoped"}), 400, 3),
            (json!({"limitIOPS": iops, "policyVisibility": "Everywhere"}), 400, 3),
            (json!({"limitIOPS": iops, "projectsNamesScope": ["nowhere"]}), 404, 5),
            (json!({"limitIOPS": {"readIOPSLimit": u32::MAX}}), 400, 3),
        ] {
            let body = json!({"name": "p", "qoSRateLimitPolicy": limits}).to_string();
            bench
                .send(&bench.system, "POST", "/api/v2/policies", Some(&body))
                .await
                .expect_error(status, code);
        }
        bench.send(&bench.admin, "POST", "/api/v2/policies", Some("{}")).await.expect_error(403, 7);
        let path = "/api/v2/policies/?name=no-limit-policy";
        bench.send(&bench.system, "DELETE", path, None).await.expect_error(400, 3);
    });
}
