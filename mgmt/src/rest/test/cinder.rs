//! The life of a volume as the OpenStack driver asks for it, request by request.

use serde_json::{Value, json};

use super::bench;
use super::bench::Bench;

const PATH: &str = "/api/v2/projects/default/volumes";
const NAME: &str = "volume-2f1b6c1e-0000-4000-8000-000000000001";
const NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:7a3f";

async fn send(bench: &Bench, method: &str, path: &str, etag: &str, body: Option<Value>) -> (u16, Value) {
    let mut headers = vec![("accept", "application/json"), ("expect", "")];
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    if !etag.is_empty() {
        headers.push(("if-match", etag));
    }
    let body = body.map(|body| body.to_string());
    let answer = bench.send_with(&bench.admin, method, path, &headers, body.as_deref()).await;
    (answer.status, answer.json)
}

async fn look_up(bench: &Bench) -> (u16, Value) {
    send(bench, "GET", &format!("{PATH}/?name={NAME}"), "", None).await
}

#[test]
fn a_volume_lives_through_the_drivers_requests() {
    bench(async |bench| {
        let (status, cluster) = send(&bench, "GET", "/api/v2/clusterinfo", "", None).await;
        assert_eq!(status, 200);
        assert!(cluster["subsystemNQN"].as_str().unwrap().starts_with("nqn."));
        let (status, nodes) = send(&bench, "GET", "/api/v2/nodes", "", None).await;
        assert_eq!((status, nodes["nodes"][0]["nvmeEndpoint"].as_str()), (200, Some("127.0.0.1:4420")));
        assert_eq!(look_up(&bench).await.0, 404);
        let create = json!({
            "name": NAME, "size": "4 gib", "replicaCount": "1", "compression": "True",
            "acl": {"values": ["ALLOW_NONE"]}, "IPAcl": {"values": ["ALLOW_NONE"]},
            "sourceSnapshotUUID": null, "sourceSnapshotName": null,
        });
        let (status, made) = send(&bench, "POST", PATH, "", Some(create)).await;
        assert_eq!(status, 200, "{made}");
        let path = format!("{PATH}/{}", made["UUID"].as_str().unwrap());
        assert_eq!(send(&bench, "GET", &path, "", None).await.1["state"], "Available");

        let etag = look_up(&bench).await.1["ETag"].as_str().unwrap().to_owned();
        let extend = json!({"UUID": made["UUID"], "size": "6 gib"});
        assert_eq!(send(&bench, "PUT", &path, &etag, Some(extend)).await.0, 200);

        attach_and_detach(&bench, &path).await;

        assert_eq!(send(&bench, "DELETE", &path, "", None).await.0, 200);
        assert_eq!(send(&bench, "GET", &path, "", None).await.0, 404);
        assert_eq!(look_up(&bench).await.0, 404);
    });
}

async fn attach_and_detach(bench: &Bench, path: &str) {
    let volume = look_up(bench).await.1;
    assert_eq!(volume["acl"], json!({"values": ["ALLOW_NONE"]}));
    let etag = volume["ETag"].as_str().unwrap();
    let attach = json!({"acl": {"values": [NQN]}, "IPAcl": {"values": ["10.0.0.5", "fd00::5"]}});
    assert_eq!(send(bench, "PUT", path, etag, Some(attach.clone())).await.0, 200);
    // Another service attached first: the stale ETag is refused, and a fresh look-up succeeds.
    assert_eq!(send(bench, "PUT", path, etag, Some(attach)).await.0, 412);
    let volume = look_up(bench).await.1;
    assert_eq!(volume["state"], "Available");
    assert_eq!(volume["acl"]["values"], json!([NQN]));
    let etag = volume["ETag"].as_str().unwrap();
    let detach = json!({"acl": {"values": ["ALLOW_NONE"]}, "IPAcl": {"values": ["ALLOW_NONE"]}});
    assert_eq!(send(bench, "PUT", path, etag, Some(detach)).await.0, 200);
    assert_eq!(look_up(bench).await.1["acl"]["values"], json!(["ALLOW_NONE"]));
}
