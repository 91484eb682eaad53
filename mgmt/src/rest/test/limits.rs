//! Nothing that a client sends makes the server grow, hang or fall.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::bench;
use super::bench::Bench;

const PATH: &str = "/api/v2/projects/default/volumes";

/// Sends raw bytes over TLS and returns what comes back until the server closes.
async fn raw(bench: &Bench, bytes: &[u8]) -> String {
    let mut stream = bench.connect().await;
    // The server may close before it has read everything.
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
    let mut answer = Vec::new();
    drop(timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the server closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    bench(async |bench| {
        let large = json!({"name": "v", "other": "x".repeat(300 * 1024)}).to_string();
        bench.send(&bench.admin, "POST", PATH, Some(&large)).await.expect_error(413, 8);
        let chunk = format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000));
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\
             connection: close\r\n\r\n",
            bench.admin
        );
        let answer = raw(&bench, (head + &chunk.repeat(6) + "0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    });
}

#[test]
fn a_stranger_cannot_make_the_server_read_a_body() {
    bench(async |bench| {
        let head =
            format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\nconnection: close\r\n\r\n");
        let mut stream = bench.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
    });
}

#[test]
fn headers_beyond_the_limit_end_the_connection() {
    bench(async |bench| {
        let long =
            format!("GET /api/v2/version HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(64 * 1024));
        let answer = raw(&bench, long.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let many = "x: y\r\n".repeat(200);
        let answer = raw(&bench, format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn garbage_ends_its_connection_and_no_other() {
    bench(async |bench| {
        let keeper = bench.connect().await;
        for garbage in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[0xff; 512]] {
            let answer = raw(&bench, garbage).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        let mut plain = TcpStream::connect(bench.address).await.unwrap();
        plain.write_all(b"GET /api/v2/version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        drop(plain.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP"), "only TLS is served");
        let mut keeper = keeper;
        keeper
            .write_all(b"GET /api/v2/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        drop(keeper.read_to_end(&mut answer).await);
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    });
}

#[test]
fn a_connection_serves_many_requests() {
    bench(async |bench| {
        let mut stream = bench.connect().await;
        let request = "GET /api/v2/version HTTP/1.1\r\nhost: x\r\n\r\n";
        let last = "GET /api/v2/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all((request.repeat(20) + last).as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        drop(stream.read_to_end(&mut answers).await);
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 21);
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_room() {
    bench(async |bench| {
        let mut idle = Vec::new();
        for _ in 0..256 {
            idle.push(bench.connect().await);
        }
        let waiting = tokio_uring::spawn({
            let bench = bench.clone();
            async move { bench.send("", "GET", "/api/v2/version", None).await.status }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        idle.pop();
        assert_eq!(timeout(Duration::from_secs(10), waiting).await.expect("there is room now").unwrap(), 200);
    });
}
