//! Snapshots: their bodies, lists, names, deletes, clones, rollbacks and what changed between two.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench;
use super::bench::Bench;

const PATH: &str = "/api/v2/projects/default/snapshots";
const VOLUMES: &str = "/api/v2/projects/default/volumes";

async fn post(bench: &Bench, path: &str, body: Value) -> super::Answer {
    bench.send(&bench.admin, "POST", path, Some(&body.to_string())).await
}

async fn take(bench: &Bench, name: &str) -> Value {
    let answer = post(bench, PATH, json!({"name": name, "sourceVolumeName": "v"})).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json
}

#[test]
fn a_new_snapshot_is_what_its_volume_was() {
    bench(async |bench| {
        let volume = bench.create("v").await;
        let body = json!({
            "name": "s", "sourceVolumeUUID": volume["UUID"], "retentionTime": "1h30m", "description": "nightly",
        });
        let made = post(&bench, PATH, body).await.json;
        for (field, expected) in [
            ("state", json!("Available")),
            ("name", json!("s")),
            ("description", json!("nightly")),
            ("retentionTime", json!("5400s")),
            ("sourceVolumeUUID", volume["UUID"].clone()),
            ("sourceVolumeName", json!("v")),
            ("size", volume["size"].clone()),
            ("sectorSize", volume["sectorSize"].clone()),
            ("compression", json!(false)),
            ("labels", volume["labels"].clone()),
            ("ETag", json!("1")),
            ("projectName", json!("default")),
        ] {
            assert_eq!(made[field], expected, "{field}");
        }
        let uuid = made["UUID"].as_str().unwrap();
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await, made);
        assert_eq!(bench.get(&format!("{PATH}/?Name=s")).await, made);
    });
}

#[test]
fn snapshots_are_listed_by_page_and_their_names_are_unique() {
    bench(async |bench| {
        bench.create("v").await;
        for name in ["a", "b", "c"] {
            take(&bench, name).await;
        }
        post(&bench, PATH, json!({"name": "a", "sourceVolumeName": "v"})).await.expect_error(409, 6);
        let page = bench.get(&format!("{PATH}?limit=2")).await;
        assert_eq!(page["snapshots"].as_array().unwrap().len(), 2);
        let last = page["snapshots"][1]["UUID"].as_str().unwrap();
        let rest = bench.get(&format!("{PATH}?offsetUUID={last}")).await;
        assert_eq!(rest["snapshots"].as_array().unwrap().len(), 1);
        let named = bench.get(&format!("{PATH}?Name=b")).await;
        assert_eq!(named["snapshots"][0]["name"], "b");
    });
}

#[test]
fn what_a_snapshot_needs_is_said() {
    bench(async |bench| {
        bench.create("v").await;
        for (body, status, code) in [
            (json!({"name": "s", "sourceVolumeName": "w"}), 404, 5),
            (json!({"name": "s"}), 400, 3),
            (json!({"name": "a b", "sourceVolumeName": "v"}), 400, 3),
            (json!({"name": "s", "sourceVolumeName": "v", "retentionTime": "soon"}), 400, 3),
            (json!({"name": "s", "sourceVolumeName": "v", "description": "d".repeat(257)}), 400, 3),
        ] {
            post(&bench, PATH, body).await.expect_error(status, code);
        }
        bench.send(&bench.admin, "GET", &format!("{PATH}/?Name=s"), None).await.expect_error(404, 5);
    });
}

#[test]
fn a_snapshot_with_a_clone_stays_deleting() {
    bench(async |bench| {
        bench.create("v").await;
        let snapshot = take(&bench, "s").await;
        let uuid = snapshot["UUID"].as_str().unwrap();
        let body = json!({
            "name": "c", "size": snapshot["size"], "acl": {"values": ["ALLOW_NONE"]}, "replicaCount": 1,
            "sourceSnapshotName": "s", "sourceSnapshotUUID": null,
        });
        let clone = post(&bench, VOLUMES, body).await.json;
        assert_eq!(
            (&clone["sourceSnapshotUUID"], &clone["sourceSnapshotName"]),
            (&snapshot["UUID"], &json!("s"))
        );
        let clones = bench.get(&format!("{VOLUMES}?snapshotUUID={uuid}")).await;
        assert_eq!(clones["volumes"].as_array().unwrap().len(), 1);
        let path = format!("{PATH}/{uuid}");
        assert_eq!(bench.send(&bench.admin, "DELETE", &path, None).await.status, 200);
        assert_eq!(bench.get(&path).await["state"], "Deleting");
        bench.send(&bench.admin, "DELETE", &path, None).await.expect_error(400, 9);
        bench.send(&bench.admin, "GET", &format!("{PATH}/?Name=s"), None).await.expect_error(404, 5);
        take(&bench, "s").await;
    });
}

#[test]
fn a_volume_goes_back_to_its_own_snapshots() {
    bench(async |bench| {
        let volume = bench.create("v").await;
        let other = bench.create("w").await;
        take(&bench, "s").await;
        let path = |volume: &Value| format!("{VOLUMES}/{}/rollback", volume["UUID"].as_str().unwrap());
        let body = json!({"srcSnapshotName": "s"}).to_string();
        let put = async |path: &str, body: &str| bench.send(&bench.admin, "PUT", path, Some(body)).await;
        let answer = put(&path(&volume), &body).await;
        assert_eq!((answer.status, answer.json), (200, json!({})));
        assert_eq!(bench.get(&format!("{VOLUMES}/?name=v")).await["ETag"], "2");
        put(&path(&other), &body).await.expect_error(400, 3);
        put(&path(&volume), r#"{"srcSnapshotName":"t"}"#).await.expect_error(404, 5);
        put(&path(&volume), "{}").await.expect_error(400, 3);
    });
}

#[test]
fn a_volume_that_goes_back_says_so() {
    bench(async |bench| {
        let volume = bench.create("v").await;
        take(&bench, "s").await;
        let path = format!("{VOLUMES}/{}", volume["UUID"].as_str().unwrap());
        bench.fake.hold();
        let rollback = tokio_uring::spawn({
            let (bench, path) = (bench.clone(), format!("{path}/rollback"));
            let body = json!({"srcSnapshotName": "s"}).to_string();
            async move { bench.send(&bench.admin, "PUT", &path, Some(&body)).await.status }
        });
        while bench.fake.held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bench.get(&path).await["state"], "Rollback");
        bench.fake.release();
        assert_eq!(rollback.await.unwrap(), 200);
        assert_eq!(bench.get(&path).await["state"], "Available");
    });
}

#[test]
fn a_snapshot_that_is_being_taken_keeps_its_project() {
    bench(async |bench| {
        let project = json!({"name": "p"}).to_string();
        assert_eq!(bench.send(&bench.system, "POST", "/api/v2/projects", Some(&project)).await.status, 200);
        let body = json!({"name": "v", "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
        let volumes = "/api/v2/projects/p/volumes";
        assert_eq!(bench.send(&bench.system, "POST", volumes, Some(&body.to_string())).await.status, 200);
        bench.fake.hold_snapshots();
        let own = bench.clone();
        let taking = tokio_uring::spawn(async move {
            let body = json!({"name": "s", "sourceVolumeName": "v"}).to_string();
            own.send(&own.system, "POST", "/api/v2/projects/p/snapshots", Some(&body)).await
        });
        while bench.fake.held() == 0 {
            tokio::task::yield_now().await;
        }
        // The volume goes, and nothing that is listed is left of the project.
        let gone = bench.send(&bench.system, "DELETE", &format!("{volumes}/?name=v"), None).await;
        assert_eq!(gone.status, 200, "{}", gone.text);
        let delete = async || bench.send(&bench.system, "DELETE", "/api/v2/projects/p", None).await;
        assert_eq!(bench.get(&format!("{volumes}?showAll=true")).await["volumes"], json!([]));
        delete().await.expect_error(400, 9);
        bench.fake.release();
        taking.await.unwrap().expect_error(404, 5);
        assert_eq!(delete().await.status, 200);
    });
}

#[test]
fn a_clock_that_was_ahead_does_not_silence_a_schedule() {
    bench(async |bench| {
        bench.create("v").await;
        let policy = json!({"snapshotSchedulePolicy": {"hourlySchedule": {"hoursInCycle": 1}}});
        let body = json!({"name": "s", "resourceName": "v", "schedulePolicy": policy});
        let made = post(&bench, "/api/v2/projects/default/resourcePolicies", body).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let (now, hour) = (crate::events::now_ns(), 3_600_000_000_000);
        let take = async |at: u64| {
            bench.api.take_due(at).await;
            bench.get(PATH).await["snapshots"].as_array().unwrap().len()
        };
        assert_eq!(take(now + 365 * 24 * hour).await, 1, "by the clock as it is then");
        assert_eq!(take(now).await, 1, "the clock was set right");
        assert_eq!(take(now + hour).await, 2);
        assert_eq!(take(now + hour).await, 2);
        // A step back by less than an hour takes nothing twice.
        assert_eq!(take(now + hour - hour / 30).await, 2);
        assert_eq!(take(now + hour).await, 2);
    });
}

#[test]
fn changed_blocks_come_in_parts_of_ten_thousand_ranges() {
    bench(async |bench| {
        bench.create("v").await;
        let snapshot = take(&bench, "s").await;
        let uuid = snapshot["UUID"].as_str().unwrap();
        let diff = async |query: &str| {
            bench.send(&bench.admin, "GET", &format!("{PATH}/diff/{uuid}?{query}"), None).await
        };
        let part = diff("offsetLBA=65").await.json;
        assert_eq!(part["lbaRanges"][0]["lbaStart"], "64");
        let by_name = bench.get(&format!("{PATH}/diff/?snapshotName=s")).await;
        assert_eq!(by_name["lbaRanges"][0]["lbaStart"], "0");
        diff("offsetLBA=99999999999").await.expect_error(400, 3);
        diff("offsetLBA=x").await.expect_error(400, 3);
        diff("baseSnapshotName=none").await.expect_error(404, 5);
    });
}
