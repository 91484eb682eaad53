//! Clients that do not wait for their answers: what they have asked for is made whole all the same, and noted.

use std::time::Duration;

use dataplane::PoolDrive;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::bench::{Bench, Fault, pass};
use super::{Answer, bench};

/// Sends a request and reads no answer.
async fn ask(bench: &Bench, method: &str, path: &str, body: &Value) -> TlsStream<TcpStream> {
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        bench.system,
        body.len()
    );
    let mut client = bench.connect().await;
    client.write_all((head + &body).as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    client
}

/// Waits until something that other threads do is done.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Closes the connection and lets the server see it.
async fn leave(bench: &Bench, client: TlsStream<TcpStream>) {
    drop(client);
    for _ in 0..4 {
        bench.get("/api/v2/version").await;
    }
}

async fn events(bench: &Bench) -> Vec<(String, u64)> {
    bench.api.events.settle().await;
    let listed = bench.get("/api/v2/events").await;
    let told = |event: &Value| {
        (event["EventName"].as_str().unwrap().to_owned(), event["CauseCode"].as_u64().unwrap())
    };
    listed["events"].as_array().unwrap().iter().map(told).collect()
}

#[test]
fn a_change_of_metadata_is_known_and_noted_although_its_client_is_gone() {
    bench(async |bench| {
        let project = json!({"name": "red"});
        bench.store.fail(Some(Fault::Held));
        let client = ask(&bench, "POST", "/api/v2/projects", &project).await;
        until(|| bench.store.held() == 1).await;
        leave(&bench, client).await;
        bench.store.fail(None);
        bench.api.records.exclusive().await;
        assert_eq!(bench.get("/api/v2/projects/red").await["name"], "red");
        let again = bench.send(&bench.system, "POST", "/api/v2/projects", Some(&project.to_string())).await;
        again.expect_error(409, 6);
        let told = [("CreateProject".to_owned(), 200), ("CreateProject".to_owned(), 409)];
        assert_eq!(events(&bench).await, told);
        // It can be changed: what memory has is what the store has.
        let deleted = bench.send(&bench.system, "DELETE", "/api/v2/projects/red", None).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text);
    });
}

#[test]
fn a_deleted_volume_is_noted_although_its_client_is_gone() {
    bench(async |bench| {
        bench.create("v").await;
        bench.fake.hold();
        let path = "/api/v2/projects/default/volumes/?name=v";
        let client = ask(&bench, "DELETE", path, &json!({})).await;
        until(|| bench.fake.held() == 1).await;
        leave(&bench, client).await;
        bench.fake.release();
        while bench.send(&bench.system, "GET", path, None).await.status != 404 {}
        let told = [("CreateVolume".to_owned(), 200), ("DeleteVolume".to_owned(), 200)];
        assert_eq!(events(&bench).await, told);
    });
}

#[test]
fn a_drive_that_joins_the_pool_is_noted_for_the_next_start_although_its_client_is_gone() {
    bench(async |bench| {
        let path = std::env::current_exe().unwrap().display().to_string();
        let drive = json!({"serialNumber": path, "nodeUUID": bench.api.site.node_uuid()});
        bench.fake.hold();
        let client = ask(&bench, "POST", "/api/v2/nvmeDevices", &drive).await;
        until(|| bench.fake.held() == 1).await;
        leave(&bench, client).await;
        bench.fake.release();
        let pool = || {
            let mut pool = vec![PoolDrive { path: "/pool".into(), size_bytes: None }];
            bench.api.site.added_drives.complete(&mut pool).unwrap();
            pool.into_iter().map(|drive| drive.path.display().to_string()).collect::<Vec<_>>()
        };
        timeout(Duration::from_secs(10), until(|| pool().len() == 2)).await.expect("the note is written");
        assert_eq!(pool(), ["/pool".to_owned(), path]);
        assert_eq!(events(&bench).await, [("AddNvmeDevice".to_owned(), 200)]);
    });
}

#[test]
fn a_change_that_outlasts_the_request_limit_is_made_and_noted_as_it_ended() {
    bench(async |bench| {
        bench.store.fail(Some(Fault::Held));
        let client = tokio_uring::spawn({
            let bench = bench.clone();
            async move { bench.send(&bench.system, "POST", "/api/v2/projects", Some(r#"{"name":"red"}"#)).await }
        });
        until(|| bench.store.held() == 1).await;
        pass(Duration::from_secs(61)).await;
        let answer: Answer = client.await.unwrap();
        answer.expect_error(504, 4);
        assert_eq!(answer.headers["connection"], "close");
        assert_eq!(bench.send(&bench.system, "GET", "/api/v2/projects/red", None).await.status, 404);
        bench.store.fail(None);
        bench.api.records.exclusive().await;
        assert_eq!(bench.get("/api/v2/projects/red").await["name"], "red");
        assert_eq!(events(&bench).await, [("CreateProject".to_owned(), 200)]);
    });
}

#[test]
fn a_request_whose_client_is_gone_keeps_its_place_until_it_ends() {
    bench(async |bench| {
        bench.store.fail(Some(Fault::Held));
        let client = ask(&bench, "POST", "/api/v2/projects", &json!({"name": "red"})).await;
        until(|| bench.store.held() == 1).await;
        leave(&bench, client).await;
        let mut idle = Vec::new();
        for _ in 0..255 {
            idle.push(bench.connect().await);
        }
        let waiting = tokio_uring::spawn({
            let bench = bench.clone();
            async move { bench.send("", "GET", "/api/v2/version", None).await.status }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished(), "256 places are taken");
        bench.store.fail(None);
        assert_eq!(timeout(Duration::from_secs(10), waiting).await.expect("there is room now").unwrap(), 200);
    });
}
