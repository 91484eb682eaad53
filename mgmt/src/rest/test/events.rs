//! Events: what is noted of requests, and how they are listed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::bench;
use super::bench::{Bench, pass};
use crate::events::EVENT_BYTES_MAX;

async fn list(bench: &Bench, query: &str) -> Vec<Value> {
    bench.api.events.settle().await;
    let body = bench.get(&format!("/api/v2/events{query}")).await;
    body["events"].as_array().unwrap().clone()
}

#[test]
fn changes_and_refusals_are_noted_and_reads_are_not() {
    bench(async |bench| {
        bench.create("v").await;
        bench.get("/api/v2/nodes").await;
        bench.send("", "GET", "/api/v2/nodes", None).await.expect_error(401, 16);
        bench
            .send(&bench.viewer, "DELETE", "/api/v2/projects/default/volumes/?name=v", None)
            .await
            .expect_error(403, 7);
        let events = list(&bench, "").await;
        let told: Vec<(&str, u64, &str)> = events
            .iter()
            .map(|event| {
                let cause = event["CauseCode"].as_u64().unwrap();
                (event["EventName"].as_str().unwrap(), cause, event["Severity"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("CreateVolume", 200, "Info"),
                ("RequestUnauthenticated", 401, "Low"),
                ("RequestForbidden", 403, "Low")
            ]
        );
        let volumes = &events[0]["ComponentVolumesInfo"]["ProjectVolumesMap"]["default"];
        assert_eq!(volumes["VolumeComponentInfoList"][0]["Name"], "v");
        let text = events[2]["Description"].as_str().unwrap();
        assert!(text.contains("127.0.0.1") && text.contains("by test"), "{text}");
    });
}

#[test]
fn events_are_paged_and_filtered() {
    bench(async |bench| {
        for name in ["a", "b", "c"] {
            bench.create(name).await;
        }
        bench.send("", "GET", "/api/v2/nodes", None).await.expect_error(401, 16);
        bench.api.events.settle().await;
        let first = bench.get("/api/v2/events?limit=2").await;
        assert_eq!(first["events"].as_array().unwrap().len(), 2);
        let token = first["nextToken"].as_str().unwrap();
        let rest = bench.get(&format!("/api/v2/events?limit=2&nextToken={token}")).await;
        assert_eq!(rest["events"].as_array().unwrap().len(), 2);
        assert_eq!(rest["events"][0]["ID"], token);
        assert_eq!(rest["nextToken"], "");
        assert_eq!(list(&bench, "?severity=Low").await.len(), 1);
        assert_eq!(list(&bench, "?severity=Low&severity=Info").await.len(), 4);
        assert_eq!(list(&bench, "?componentType=Volume").await.len(), 3);
        assert_eq!(list(&bench, "?projectName=default").await.len(), 3);
        assert_eq!(list(&bench, "?since=2100-01-01T00:00:00.000Z").await, Vec::<Value>::new());
        assert_eq!(list(&bench, "?until=2100-01-01T00:00:00.000Z").await.len(), 4);
        let own = bench.send(&bench.viewer, "GET", "/api/v2/projects/default/events", None).await;
        assert_eq!(own.json["events"].as_array().unwrap().len(), 3);
        let refused = async |query: &str, status, code| {
            let path = format!("/api/v2/events{query}");
            bench.send(&bench.system, "GET", &path, None).await.expect_error(status, code);
        };
        refused("?severity=Low&componentType=Volume", 501, 12).await;
        refused("?severity=low", 400, 3).await;
        refused("?componentType=x", 400, 3).await;
        refused("?since=yesterday", 400, 3).await;
        refused("?nextToken=x", 400, 3).await;
        refused("?limit=-1", 400, 3).await;
        refused("?projectName=nowhere", 404, 5).await;
        bench.send(&bench.viewer, "GET", "/api/v2/events", None).await.expect_error(403, 7);
    });
}

#[test]
fn events_can_be_turned_off() {
    bench(async |bench| {
        let turn = async |how: &str| {
            let path = format!("/api/v2/featureFlags/event-log/{how}");
            assert_eq!(bench.send(&bench.system, "POST", &path, None).await.status, 200);
        };
        turn("disable").await;
        bench.create("v").await;
        assert_eq!(list(&bench, "?componentType=Volume").await, Vec::<Value>::new());
        let flag = bench.get("/api/v2/featureFlags/EventLog").await;
        assert_eq!(flag, json!({"name": "EventLog", "enabled": false}));
        turn("enable").await;
        bench.create("w").await;
        assert_eq!(list(&bench, "?componentType=Volume").await.len(), 1);
    });
}

#[test]
fn what_a_client_sends_does_not_make_an_event_large() {
    bench(async |bench| {
        let long = "n".repeat(30_000);
        bench.send("", "GET", &format!("/api/v2/nodes/{long}"), None).await.expect_error(401, 16);
        // Each of these takes more bytes in JSON than in UTF-8.
        for name in ["n", "é", "\u{1}", "\""] {
            let volume =
                json!({"name": name.repeat(40_000), "UUID": name.repeat(1000), "size": "1MiB"}).to_string();
            let path = "/api/v2/projects/default/volumes";
            bench.send(&bench.admin, "POST", path, Some(&volume)).await.expect_error(400, 3);
        }
        bench.api.events.settle().await;
        let events = bench.api.events.list_from(0);
        assert!(events.len() >= 5, "{events:?}");
        for event in events {
            let text = serde_json::to_string(&event.value).unwrap();
            assert!(text.len() <= EVENT_BYTES_MAX, "{} bytes", text.len());
        }
    });
}

#[test]
fn requests_of_strangers_are_merged_and_those_of_others_are_not() {
    bench(async |bench| {
        let refusals = async || {
            let events = list(&bench, "?severity=Low").await;
            events.iter().map(|event| event["Description"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for _ in 0..20 {
            bench.send("", "GET", "/api/v2/nodes", None).await.expect_error(401, 16);
            assert_eq!(bench.send("", "POST", "/logout", None).await.status, 200);
            bench.send(&bench.viewer, "GET", "/api/v2/cluster", None).await.expect_error(403, 7);
        }
        let before = refusals().await;
        assert_eq!(before.len(), 1 + 20, "{before:?}");
        assert_eq!(list(&bench, "?severity=Info").await.len(), 1);
        pass(Duration::from_secs(3600)).await;
        let told = async || {
            loop {
                let after = refusals().await;
                if after.len() > before.len() {
                    return after;
                }
            }
        };
        let after = timeout(Duration::from_secs(10), told()).await.expect("what was repeated is told");
        let last = after.last().unwrap();
        assert!(last.starts_with("19 more like it from 127.0.0.1 since "), "{last}");
        assert_eq!((after.len(), list(&bench, "?severity=Info").await.len()), (22, 2));
    });
}
