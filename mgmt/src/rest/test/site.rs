//! Version, cluster, nodes, hosts, metrics, health.

use std::time::Duration;

use serde_json::json;

use super::bench;
use super::bench::{KEY, pass};
use crate::auth::mint;

#[test]
fn the_version_needs_no_token() {
    bench(async |bench| {
        let answer = bench.send("", "GET", "/api/v2/version", None).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"apiVersion":"v2.0"}"#));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["grpc-metadata-content-type"], "application/grpc");
    });
}

#[test]
fn clusterinfo_is_exactly_this() {
    bench(async |bench| {
        let answer = bench.send(&bench.viewer, "GET", "/api/v2/clusterinfo", None).await;
        assert_eq!(
            answer.json,
            json!({
                "UUID": "c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1",
                "subsystemNQN": "nqn.2014-08.org.nvmexpress:uuid:c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1",
                "currentMaxReplicas": 1,
                "supportedMaxReplicas": 1,
                "ETag": "",
                "apiEndpoints": ["127.0.0.1:8443"],
                "discoveryEndpoints": ["127.0.0.1:8009"],
                "nvmeEndpoints": ["127.0.0.1:4420"],
                "clusterName": "ferrule",
                "encryptionStatus": {
                    "encryptionState": "Disabled",
                    "kekGeneration": "0",
                    "previousKekGenerations": [],
                    "rotationState": "NoRotation",
                },
            })
        );
    });
}

#[test]
fn cluster_has_statistics_and_health() {
    bench(async |bench| {
        bench.create("v").await;
        let cluster = bench.get("/api/v2/cluster").await;
        assert_eq!(cluster["statistics"]["installedPhysicalStorage"], "1073741824");
        assert_eq!(cluster["statistics"]["managedPhysicalStorage"], "1073741824");
        assert_eq!(cluster["statistics"]["estimatedFreeLogicalStorage"], "536870912");
        assert_eq!(cluster["statistics"]["logicalStorage"], "1048576");
        assert_eq!(cluster["statistics"]["compressionRatio"], 1.0);
        assert_eq!(cluster["health"]["state"], "OK");
        assert_eq!(cluster["health"]["numHealthyVolumes"], 1);
        assert!(cluster.get("nvmeEndpoints").is_none());
        bench.fake.break_volumes();
        pass(Duration::from_secs(1)).await;
        let cluster = bench.get("/api/v2/cluster").await;
        assert_eq!(cluster["health"]["state"], "Error");
        assert_eq!(cluster["health"]["numNotAvailableVolumes"], 1);
    });
}

#[test]
fn the_cluster_says_whether_it_takes_tokens_of_others_and_how_their_issuers_are() {
    bench(async |bench| {
        let post = async |path: &str, body: serde_json::Value| {
            let path = format!("/api/v2/cluster/{path}");
            let answer = bench.send(&bench.system, "POST", &path, Some(&body.to_string())).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        };
        let status = async || bench.get("/api/v2/cluster").await["federatedAuthenticationStatus"].clone();
        let off = json!({"federatedAuthenticationEnabled": false, "idpHealthInfos": []});
        assert_eq!(status().await, off);
        // Nobody listens there.
        let issuer = "https://127.0.0.1:1";
        post("IdpConfiguration", json!({"name": "i", "idpIssuerURL": issuer, "type": "ADFS"})).await;
        let client = json!({"name": "c", "clientId": "a", "idpConfigurationName": "i", "authzMode": "App"});
        post("idpClientConfs", client).await;
        assert_eq!(status().await, off);
        post("federatedAuthentication/enable", json!({})).await;
        let unknown = json!({
            "serverName": "server00",
            "idpHealthStatus": "IdpHealthStatus_Unknown",
            "healthErrorMessage": "",
        });
        assert_eq!(
            status().await,
            json!({"federatedAuthenticationEnabled": true, "idpHealthInfos": [unknown]})
        );
        // The first token of the issuer makes the server ask it for its keys.
        let claims = json!({"iss": issuer, "sub": "s", "exp": 4_102_444_800_u64});
        let theirs = mint(&KEY, "theirs", &claims).unwrap();
        bench.send(&theirs, "GET", "/api/v2/nodes", None).await.expect_error(401, 16);
        let now = status().await["idpHealthInfos"][0].clone();
        assert_eq!(now["idpHealthStatus"], "IdpHealthStatus_UnHealthy");
        let said = now["healthErrorMessage"].as_str().unwrap();
        assert!(said.starts_with(&format!("{issuer}/")), "{said}");
        assert!(now["timestamp"].as_str().unwrap().ends_with('Z'), "{now}");
        post("federatedAuthentication/disable", json!({})).await;
        assert_eq!(status().await, off);
    });
}

#[test]
fn nodes_are_listed_filtered_and_got() {
    bench(async |bench| {
        let uuid = "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d";
        let answer = bench.send(&bench.admin, "GET", "/api/v2/nodes", None).await;
        let node = &answer.json["nodes"][0];
        assert_eq!(node["UUID"], uuid);
        assert_eq!(node["name"], "server00-0");
        assert_eq!(node["state"], "Active");
        assert_eq!(node["nvmeEndpoint"], "127.0.0.1:4420");
        assert_eq!(node["failureDomains"], json!(["server00", "rack1"]));
        assert_eq!(node["numManagedDevices"], 1);
        assert_eq!(node["statistics"]["freePhysicalStorage"], "536870912");
        assert_eq!(node["statistics"]["UnrecoverableDataIntegrityErrors"], 0);
        for (query, count) in [
            (format!("UUID={uuid}"), 1),
            ("name=server00-0".to_owned(), 1),
            ("Name=other-0".to_owned(), 0),
            ("failureDomain=server00".to_owned(), 1),
            ("failureDomain=rack1".to_owned(), 1),
            ("failureDomain=rack2".to_owned(), 0),
            ("unknown=x".to_owned(), 1),
        ] {
            let nodes = bench.get(&format!("/api/v2/nodes?{query}")).await;
            assert_eq!(nodes["nodes"].as_array().unwrap().len(), count, "{query}");
        }
        let path = format!("/api/v2/nodes?UUID={uuid}&name=server00-0");
        bench.send(&bench.admin, "GET", &path, None).await.expect_error(400, 3);
        assert_eq!(&bench.get(&format!("/api/v2/nodes/{uuid}")).await, node);
        bench.send(&bench.admin, "GET", "/api/v2/nodes/x", None).await.expect_error(404, 5);
    });
}

#[test]
fn connected_hosts_are_listed_and_got() {
    bench(async |bench| {
        let volume = bench.create("v").await;
        let uuid = volume["UUID"].as_str().unwrap();
        assert_eq!(bench.get("/api/v2/connectedHosts").await, json!({"connectedHosts": []}));
        bench.fake.connect("nqn.2014-08.org.nvmexpress:uuid:1");
        let host = json!({
            "hostNQN": "nqn.2014-08.org.nvmexpress:uuid:1",
            "iPAddress": "10.1.2.3,fe80::1",
            "hostname": "",
            "volumeUUIDs": [uuid],
        });
        for query in [String::new(), "?hostNQN=x".to_owned(), format!("?volumeUUID={uuid}")] {
            let hosts = bench.get(&format!("/api/v2/connectedHosts{query}")).await;
            assert_eq!(hosts, json!({"connectedHosts": [host]}), "{query}");
        }
        let path = "/api/v2/connectedHosts/nqn.2014-08.org.nvmexpress:uuid:1";
        assert_eq!(bench.get(path).await, host);
        let get = async |path: &str| bench.send(&bench.system, "GET", path, None).await;
        get("/api/v2/connectedHosts/other").await.expect_error(404, 5);
        get("/api/v2/connectedHosts?volumeUUID=x").await.expect_error(400, 3);
        let unknown = "00000000-0000-4000-8000-000000000000";
        get(&format!("/api/v2/connectedHosts?volumeUUID={unknown}")).await.expect_error(404, 5);
    });
}

#[test]
fn metrics_name_volumes_only_to_the_administrator() {
    bench(async |bench| {
        bench.create("secret-name").await;
        let open = bench.send("", "GET", "/metrics", None).await;
        assert_eq!(open.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let samples = [
            "# HELP ferrule_nvme_commands_total Help.\n# TYPE ferrule_nvme_commands_total counter\n",
            "ferrule_nvme_commands_total{opcode=\"read\"} 7\nferrule_nvme_commands_total{opcode=\"write\"} 8.5\n# ",
            "ferrule_pool_size_bytes 1073741824\n",
            "ferrule_volumes{state=\"available\"} 1\n",
            "ferrule_mgmt_requests_total{status=\"200\"} 1\n",
        ];
        for sample in samples {
            assert!(open.text.contains(sample), "{sample}: {}", open.text);
        }
        assert!(!open.text.contains("secret"));
        let tenant = bench.send(&bench.admin, "GET", "/metrics", None).await;
        assert!(!tenant.text.contains("secret"));
        let all = bench.send(&bench.system, "GET", "/metrics", None).await.text;
        assert!(all.contains("ferrule_volume_size_bytes{project=\"default\",volume=\"secret-name\",uuid=\""));
        assert!(all.contains("nqn.secret"));
        assert!(!all.contains("\n\n"));
    });
}

#[test]
fn health_needs_no_token() {
    bench(async |bench| {
        let answer = bench.send("", "GET", "/healthz", None).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "ok\n"));
    });
}
