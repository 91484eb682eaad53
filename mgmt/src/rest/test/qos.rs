//! Policies, and the limits that volumes have by them.

use dataplane::Limits;
use serde_json::{Value, json};

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
