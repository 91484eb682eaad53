//! Volumes: every rule of their fields, both path forms, ETags, states.

use std::time::Duration;

use dataplane::{ActionError, VolumeState};
use serde_json::{Value, json};

use super::bench::{Bench, bench, pass, quiet_bench};

const PATH: &str = "/api/v2/projects/default/volumes";

fn body() -> Value {
    json!({"name": "v", "size": "4 gib", "acl": {"values": ["ALLOW_NONE"]}, "replicaCount": 1})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = body();
    body[field] = value;
    body
}

async fn post(bench: &Bench, body: &Value) -> super::Answer {
    bench.send(&bench.admin, "POST", PATH, Some(&body.to_string())).await
}

async fn put(bench: &Bench, uuid: &str, body: Value, etag: &str) -> super::Answer {
    let headers = [("if-match", etag)];
    let headers = if etag.is_empty() { &headers[..0] } else { &headers[..] };
    bench.send_with(&bench.admin, "PUT", &format!("{PATH}/{uuid}"), headers, Some(&body.to_string())).await
}

#[test]
fn a_new_volume_is_exactly_this() {
    bench(async |bench| {
        let mut wanted = body();
        wanted["labels"] = json!([{"key": "pveVmid", "value": "101"}]);
        wanted["IPAcl"] = json!({"values": ["10.0.0.1", "fe80:0::1"]});
        wanted["sectorSize"] = json!("sectorSize_512B");
        wanted["compression"] = json!("True");
        let made = post(&bench, &wanted).await;
        let uuid = made.json["UUID"].as_str().unwrap().to_owned();
        let node = "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d";
        let expected = json!({
            "state": "Available",
            "protectionState": "FullyProtected",
            "replicaCount": 1,
            "nodeList": [node],
            "UUID": uuid,
            "nsid": 1,
            "acl": {"values": ["ALLOW_NONE"]},
            "compression": "true",
            "size": "4294967296",
            "name": "v",
            "rebuildProgress": "None",
            "statistics": {
                "logicalUsedStorage": "0",
                "physicalUsedStorage": "0",
                "compressionRatio": 1.0,
                "totalCompressionRatio": 1.0,
                "physicalCapacity": "0",
                "physicalOwnedCapacity": "0",
                "physicalOwnedMemory": "0",
                "physicalMemory": "0",
                "userWritten": "0",
                "unrecoverableDataIntegrityErrors": 0,
                "recoverableDataIntegrityErrors": 0,
            },
            "IPAcl": {"values": ["10.0.0.1", "fe80::1"]},
            "ETag": "1",
            "connectedHosts": [],
            "sectorSize": 512,
            "projectName": "default",
            "sourceSnapshotUUID": "",
            "sourceSnapshotName": "",
            "placementRestrictions": [],
            "qosPolicyUUID": "",
            "qosPolicyName": "",
            "primaryNodeUUID": node,
            "creationTime": "2026-01-01T00:00:00Z",
            "labels": [{"key": "pveVmid", "value": "101"}],
            "clusterId": "c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1",
        });
        assert_eq!((made.status, &made.json), (200, &expected));
        for path in [
            format!("{PATH}/{uuid}"),
            format!("{PATH}/{}", uuid.to_uppercase()),
            format!("{PATH}/?name=v"),
            format!("/api/v2/volumes/{uuid}"),
            format!("/api/v2/volumes/{uuid}?projectName=default"),
            "/api/v2/volumes/?name=v&projectName=default".to_owned(),
        ] {
            assert_eq!(bench.get(&path).await, expected, "{path}");
        }
        let listed = json!({"volumes": [expected]});
        for path in [PATH.to_owned(), format!("{PATH}?name=v"), "/api/v2/volumes".to_owned()] {
            assert_eq!(bench.get(&path).await, listed, "{path}");
        }
    });
}

#[test]
fn what_clients_leave_out_or_send_as_null_has_its_default() {
    bench(async |bench| {
        let mut wanted = body();
        for unset in [
            "sourceSnapshotUUID",
            "sourceSnapshotName",
            "compression",
            "IPAcl",
            "sectorSize",
            "labels",
            "placementRestrictions",
        ] {
            wanted[unset] = Value::Null;
        }
        wanted["qosPolicyName"] = json!("");
        wanted["replicaCount"] = json!("1");
        wanted["minReplicas"] = json!(7);
        wanted["Name"] = json!("wrong case is unknown");
        wanted["unknown"] = json!({"deep": [1, 2]});
        let made = post(&bench, &wanted).await;
        assert_eq!(made.status, 200, "{}", made.text);
        assert_eq!(made.json["IPAcl"], json!({"values": ["ALLOW_ANY"]}));
        assert_eq!(made.json["sectorSize"], 4096);
        assert_eq!(made.json["compression"], "false");
        assert_eq!(made.json["name"], "v");
    });
}

#[test]
fn sizes_come_in_every_form_and_are_rounded_up() {
    bench(async |bench| {
        let sizes = [
            ("1073741824b", "1073741824"),
            ("1", "4096"),
            ("35gib", "37580963840"),
            ("5TiB", "5497558138880"),
        ];
        for (at, (given, shown)) in sizes.iter().enumerate() {
            let mut wanted = with("size", json!(given));
            wanted["name"] = json!(format!("v{at}"));
            let made = post(&bench, &wanted).await;
            assert_eq!(made.json["size"], *shown, "{given}: {}", made.text);
            let read = bench.get(&format!("{PATH}/?name=v{at}")).await;
            assert_eq!(read["size"], *shown);
        }
    });
}

#[test]
fn a_volume_lies_where_its_placement_admits_or_is_refused() {
    bench(async |bench| {
        let among = |names: &[&str]| {
            let pairs: Vec<Value> = names.iter().map(|name| json!({"key": "FD", "value": name})).collect();
            json!([{"operator": "In", "labelValueKeyPairs": pairs}])
        };
        let made = post(&bench, &with("placementRestrictions", among(&["rack2", "rack1"]))).await;
        assert_eq!(made.status, 200, "{}", made.text);
        assert_eq!(made.json["placementRestrictions"], among(&["rack2", "rack1"]));
        let uuid = made.json["UUID"].as_str().unwrap();
        assert_eq!(put(&bench, uuid, json!({"size": "8gib"}), "").await.status, 200);
        let read = bench.get(&format!("{PATH}/{uuid}")).await;
        assert_eq!(read["placementRestrictions"], among(&["rack2", "rack1"]), "no change takes it away");
        // By numbers, as enums may come.
        let by_number = json!([{"operator": 1, "labelValueKeyPairs": [{"key": 2, "value": "server00"}]}]);
        let mut wanted = with("placementRestrictions", by_number);
        wanted["name"] = json!("by-number");
        assert_eq!(post(&bench, &wanted).await.status, 200);
        wanted["placementRestrictions"] = among(&["rack2", "rack3"]);
        let refused = post(&bench, &wanted).await;
        refused.expect_error(400, 3);
        assert!(
            refused.text.contains("rack2 or rack3") && refused.text.contains("rack1"),
            "{}",
            refused.text
        );
        for (domain, count) in [("rack1", 2), ("server00", 2), ("rack2", 0)] {
            let listed = bench.get(&format!("{PATH}?failureDomain={domain}")).await;
            assert_eq!(listed["volumes"].as_array().unwrap().len(), count, "{domain}");
        }
    });
}

#[test]
fn wrong_volumes_are_refused() {
    bench(async |bench| {
        for wrong in [
            with("name", json!("")),
            with("name", Value::Null),
            with("name", json!("a b")),
            with("name", json!(7)),
            with("size", json!("")),
            with("size", json!("0")),
            with("size", json!("0gib")),
            with("size", json!("9223372036854775807")),
            with("size", json!(1_073_741_824)),
            with("size", json!("-1")),
            with("acl", Value::Null),
            with("acl", json!({"values": []})),
            with("acl", json!({"values": ["ALLOW_ANY", "nqn.a"]})),
            with("acl", json!({"values": [1]})),
            with("acl", json!(["ALLOW_ANY"])),
            with("IPAcl", json!({"values": ["not an address"]})),
            with("IPAcl", json!({"values": vec!["10.0.0.1"; 17]})),
            with("compression", json!(true)),
            with("compression", json!("perhaps")),
            with("replicaCount", json!(2)),
            with("replicaCount", json!(-1)),
            with("replicaCount", json!("x")),
            with("sectorSize", json!("4096")),
            with("sectorSize", json!(1024)),
            with("sourceSnapshotName", json!("s")),
            with("qosPolicyUUID", json!("8b7e")),
            with("placementRestrictions", json!([{"operator": "In"}])),
            with("labels", json!([{"key": "a", "value": "1"}, {"key": "a", "value": "2"}])),
            with("labels", json!([{"key": "", "value": "1"}])),
        ] {
            let answer = post(&bench, &wrong).await;
            assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
            answer.expect_error(400, 3);
        }
        assert_eq!(bench.get(PATH).await, json!({"volumes": []}));
    });
}

#[test]
fn the_flat_path_takes_the_project_from_the_body() {
    bench(async |bench| {
        let post = async |body: &Value, query: &str| {
            let path = format!("/api/v2/volumes{query}");
            bench.send(&bench.system, "POST", &path, Some(&body.to_string())).await
        };
        post(&body(), "").await.expect_error(400, 3);
        post(&body(), "?projectName=default").await.expect_error(400, 3);
        post(&with("projectName", json!("nowhere")), "").await.expect_error(400, 3);
        let made = post(&with("projectName", json!("other")), "").await;
        assert_eq!(made.json["projectName"], "other");
        let uuid = made.json["UUID"].as_str().unwrap();
        let elsewhere = format!("{PATH}/{uuid}");
        bench.send(&bench.system, "GET", &elsewhere, None).await.expect_error(404, 5);
        let put = async |body: Value| {
            let path = format!("/api/v2/volumes/{uuid}?projectName=default");
            bench.send(&bench.system, "PUT", &path, Some(&body.to_string())).await
        };
        assert_eq!(put(json!({"projectName": "other", "size": "8gib"})).await.status, 200);
        put(json!({"projectName": "default", "size": "9gib"})).await.expect_error(404, 5);
        let mut same_name = with("projectName", json!("default"));
        same_name["name"] = json!("v");
        assert_eq!(post(&same_name, "").await.status, 200, "names are unique per project");
    });
}

#[test]
fn a_name_is_taken_once() {
    bench(async |bench| {
        bench.create("a").await;
        let uuid = bench.create("b").await["UUID"].as_str().unwrap().to_owned();
        post(&bench, &with("name", json!("a"))).await.expect_error(409, 6);
        put(&bench, &uuid, json!({"newName": "a"}), "").await.expect_error(409, 6);
        assert_eq!(put(&bench, &uuid, json!({"newName": "c"}), "").await.text, "{}");
        assert_eq!(bench.get(&format!("{PATH}/?name=c")).await["UUID"], uuid);
        let answer = bench.send(&bench.admin, "GET", &format!("{PATH}/?name=b"), None).await;
        answer.expect_error(404, 5);
    });
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    bench(async |bench| {
        let before = bench.create("v").await;
        let uuid = before["UUID"].as_str().unwrap();
        let change = json!({
            "UUID": "00000000-0000-4000-8000-000000000000",
            "size": "2mib",
            "acl": {"values": ["nqn.a", "nqn.b"]},
            "IPAcl": {"values": ["10.0.0.1"]},
            "compression": "Enabled",
            "labels": [{"key": "k", "value": "v"}],
            "name": "ignored beside a UUID",
        });
        assert_eq!(put(&bench, uuid, change, "").await.text, "{}");
        let mut expected = before.clone();
        expected["size"] = json!("2097152");
        expected["acl"] = json!({"values": ["nqn.a", "nqn.b"]});
        expected["IPAcl"] = json!({"values": ["10.0.0.1"]});
        expected["compression"] = json!("true");
        expected["labels"] = json!([{"key": "k", "value": "v"}]);
        expected["ETag"] = json!("2");
        let path = format!("{PATH}/{uuid}");
        assert_eq!(bench.get(&path).await, expected);
        for nothing in [
            json!({}),
            json!({"acl": null, "labels": [], "size": "", "newName": null}),
            json!({"size": "2mib"}),
        ] {
            assert_eq!(put(&bench, uuid, nothing, "").await.status, 200);
        }
        assert_eq!(bench.get(&path).await, expected);
        let by_name = json!({"name": "v", "size": "3mib"}).to_string();
        assert_eq!(bench.send(&bench.admin, "PUT", &format!("{PATH}/"), Some(&by_name)).await.status, 200);
        assert_eq!(bench.get(&path).await["size"], "3145728");
        bench.send(&bench.admin, "PUT", &format!("{PATH}/"), Some("{}")).await.expect_error(400, 3);
        for wrong in [
            json!({"size": "0"}),
            json!({"size": 4096}),
            json!({"acl": {"values": []}}),
            json!({"acl": {}}),
            json!({"IPAcl": {"values": []}}),
            json!({"newName": "a b"}),
            json!({"compression": "x"}),
            json!({"Force": "true"}),
        ] {
            put(&bench, uuid, wrong, "").await.expect_error(400, 3);
        }
        put(&bench, uuid, json!({"qosPolicyName": "fast"}), "").await.expect_error(400, 3);
        put(&bench, "x", json!({}), "").await.expect_error(400, 3);
    });
}

#[test]
fn a_smaller_size_needs_force() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        put(&bench, &uuid, json!({"size": "4kib"}), "").await.expect_error(400, 3);
        assert_eq!(put(&bench, &uuid, json!({"size": "4kib", "Force": true}), "").await.status, 200);
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await["size"], "4096");
    });
}

#[test]
fn etags_guard_changes() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        put(&bench, &uuid, json!({"size": "2mib"}), "2").await.expect_error(412, 9);
        put(&bench, &uuid, json!({"size": "2mib"}), "x").await.expect_error(412, 9);
        assert_eq!(put(&bench, &uuid, json!({"size": "2mib"}), "1").await.status, 200);
        assert_eq!(put(&bench, &uuid, json!({"size": "3mib"}), "\"2\"").await.status, 200);
        put(&bench, &uuid, json!({"size": "4mib"}), "2").await.expect_error(412, 9);
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await["ETag"], "3");
        let delete = async |etag: &str| {
            let path = format!("{PATH}/{uuid}");
            bench.send_with(&bench.admin, "DELETE", &path, &[("if-match", etag)], None).await
        };
        delete("2").await.expect_error(412, 9);
        assert_eq!(delete("3").await.text, "{}");
    });
}

#[test]
fn a_deleted_volume_is_gone_and_its_name_free() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        let path = format!("{PATH}/{uuid}");
        assert_eq!(bench.send(&bench.admin, "DELETE", &path, None).await.text, "{}");
        bench.send(&bench.admin, "GET", &path, None).await.expect_error(404, 5);
        bench.send(&bench.admin, "DELETE", &path, None).await.expect_error(404, 5);
        bench.create("v").await;
        let by_name = format!("{PATH}/?name=v");
        assert_eq!(bench.send(&bench.admin, "DELETE", &by_name, Some("ignored")).await.text, "{}");
    });
}

#[test]
fn a_volume_whose_space_is_being_freed_is_shown_as_deleting() {
    bench(async |bench| {
        bench.fake.linger();
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        let path = format!("{PATH}/{uuid}");
        bench.send(&bench.admin, "DELETE", &path, None).await;
        assert_eq!(bench.get(&path).await["state"], "Deleting");
        assert_eq!(bench.get(PATH).await, json!({"volumes": []}));
        let all = bench.get(&format!("{PATH}?showAll=true")).await;
        assert_eq!(all["volumes"][0]["state"], "Deleting");
        bench.send(&bench.admin, "DELETE", &path, None).await.expect_error(400, 9);
        put(&bench, &uuid, json!({"size": "2mib"}), "").await.expect_error(400, 9);
        let by_name = bench.send(&bench.admin, "GET", &format!("{PATH}/?name=v"), None).await;
        by_name.expect_error(404, 5);
        bench.create("v").await;
    });
}

#[test]
fn a_failed_volume_may_be_deleted_but_not_changed() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        bench.fake.break_volumes();
        pass(Duration::from_secs(1)).await;
        let path = format!("{PATH}/{uuid}");
        let failed = bench.get(&path).await;
        assert_eq!(
            (&failed["state"], &failed["protectionState"]),
            (&json!("Failed"), &json!("NotAvailable"))
        );
        put(&bench, &uuid, json!({"size": "2mib"}), "").await.expect_error(400, 9);
        assert_eq!(bench.send(&bench.admin, "DELETE", &path, None).await.status, 200);
    });
}

#[test]
fn lists_are_filtered_and_paged_in_a_stable_order() {
    bench(async |bench| {
        let mut uuids = Vec::new();
        for number in 0..5 {
            let made = bench.create(&format!("v{number}")).await;
            uuids.push(made["UUID"].as_str().unwrap().to_owned());
        }
        uuids.sort();
        let list = async |query: &str| {
            let answer = bench.get(&format!("{PATH}?{query}")).await;
            let volumes = answer["volumes"].as_array().unwrap().clone();
            volumes.iter().map(|one| one["UUID"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list("").await, uuids);
        assert_eq!(list("limit=0").await, uuids);
        assert_eq!(list("limit=2").await, uuids[..2]);
        assert_eq!(list(&format!("limit=2&offsetUUID={}", uuids[1])).await, uuids[2..4]);
        assert_eq!(list(&format!("offsetUUID={}", uuids[4])).await, [""; 0]);
        assert_eq!(list(&format!("UUID={}", uuids[3])).await, uuids[3..4]);
        assert_eq!(list("name=nothing").await, [""; 0]);
        assert_eq!(list("name=v2").await.len(), 1);
        assert_eq!(list("failureDomain=server00").await, uuids);
        assert_eq!(list("failureDomain=rack9").await, [""; 0]);
        assert_eq!(list(&format!("snapshotUUID={}", uuids[0])).await, [""; 0]);
        assert_eq!(list("limit=99999").await, uuids);
        for wrong in ["limit=x", "limit=-1", "offsetUUID=x", "UUID=x", "showAll=x", "limit=1.5"] {
            let answer = bench.send(&bench.admin, "GET", &format!("{PATH}?{wrong}"), None).await;
            answer.expect_error(400, 3);
        }
        bench.send(&bench.system, "GET", "/api/v2/projects/x/volumes", None).await.expect_error(400, 3);
        bench.send(&bench.admin, "GET", &format!("{PATH}/"), None).await.expect_error(400, 3);
        bench.send(&bench.admin, "GET", &format!("{PATH}/x"), None).await.expect_error(400, 3);
    });
}

#[test]
fn refusals_of_the_data_plane_have_their_statuses() {
    quiet_bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        for (error, status, code) in [
            (ActionError::NotFound, 404, 5),
            (ActionError::Exists, 409, 6),
            (ActionError::RevisionMismatch { current: 9 }, 412, 9),
            (ActionError::Busy, 409, 10),
            (ActionError::WrongState(VolumeState::Failed), 400, 9),
            (ActionError::Invalid { field: "size", rule: "small" }, 400, 3),
            (ActionError::CapacityExceeded("pool"), 500, 8),
            (ActionError::Stopping, 503, 14),
            (ActionError::Device, 500, 13),
        ] {
            bench.fake.fail_next(error);
            put(&bench, &uuid, json!({"size": "2mib"}), "").await.expect_error(status, code);
        }
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await["ETag"], "1");
    });
}

#[test]
fn a_second_change_of_a_volume_has_to_wait() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        bench.fake.hold();
        let first = tokio_uring::spawn({
            let (bench, uuid) = (bench.clone(), uuid.clone());
            async move { put(&bench, &uuid, json!({"size": "2mib"}), "").await.status }
        });
        while bench.fake.held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        put(&bench, &uuid, json!({"size": "3mib"}), "").await.expect_error(409, 10);
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await["size"], "1048576");
        bench.fake.release();
        assert_eq!(first.await.unwrap(), 200);
        assert_eq!(bench.get(&format!("{PATH}/{uuid}")).await["size"], "2097152");
    });
}

#[test]
fn a_change_reaches_the_view_although_its_client_is_gone() {
    bench(async |bench| {
        let uuid = bench.create("v").await["UUID"].as_str().unwrap().to_owned();
        bench.fake.hold();
        let client = tokio_uring::spawn({
            let (bench, uuid) = (bench.clone(), uuid.clone());
            async move { put(&bench, &uuid, json!({"size": "2mib"}), "").await.status }
        });
        while bench.fake.held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        client.abort();
        drop(client.await);
        bench.fake.release();
        let path = format!("{PATH}/{uuid}");
        while bench.get(&path).await["size"] != "2097152" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(put(&bench, &uuid, json!({"size": "3mib"}), "2").await.status, 200);
    });
}

#[test]
fn readers_do_not_disturb_the_reactors() {
    bench(async |bench| {
        bench.create("v").await;
        let before = bench.fake.lists();
        for _ in 0..50 {
            bench.get(PATH).await;
        }
        assert!(bench.fake.lists() - before <= 2, "at most once a second");
        bench.fake.connect("nqn.h");
        pass(Duration::from_secs(1)).await;
        assert_eq!(bench.get(&format!("{PATH}/?name=v")).await["connectedHosts"], json!(["nqn.h"]));
    });
}
