//! A client of the REST interface that keeps its connections: HTTP/1.1 over TLS, one request at a time on each.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server, which is known by its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    token: String,
}

/// What a load of requests has shown.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Bytes of one answer.
    pub(crate) answer_bytes: usize,
}

/// Runs `work` on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

impl Endpoint {
    /// The server at `address`, whose certificate is good for `localhost`.
    pub(crate) fn new(address: SocketAddr, certificate: CertificateDer<'static>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        Ok(Self { address, tls: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()) })
    }
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(endpoint: &Endpoint, token: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(endpoint.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(endpoint.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender, token: token.to_owned() })
    }

    /// Sends a request; the answer must be a success.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, String> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let body = body.map(|body| Full::from(body.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes)))
        }
    }

    /// Sends a request and reads the JSON of its answer.
    pub(crate) async fn json(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let bytes = self.ask(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }
}

/// Reads `path` on `connections` at once for `time`.
pub(crate) fn load(
    endpoint: &Endpoint,
    token: &str,
    path: &str,
    connections: usize,
    time: Duration,
) -> Result<Served, String> {
    block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(endpoint, token).await?);
        }
        let begin = Instant::now();
        let tasks: Vec<_> = open
            .into_iter()
            .map(|mut connection| {
                let path = path.to_owned();
                tokio::spawn(async move {
                    let (mut count, mut bytes) = (0_u64, 0);
                    while begin.elapsed() < time {
                        bytes = connection.ask("GET", &path, None).await?.len();
                        count += 1;
                    }
                    Ok::<_, String>((count, bytes))
                })
            })
            .collect();
        let (mut total, mut answer_bytes) = (0, 0);
        for task in tasks {
            let (count, bytes) = task.await.map_err(|error| error.to_string())??;
            total += count;
            answer_bytes = bytes;
        }
        Ok(Served { rate: total as f64 / begin.elapsed().as_secs_f64(), answer_bytes })
    })
}
