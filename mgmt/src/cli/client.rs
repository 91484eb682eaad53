//! An HTTPS client of the REST interface: one connection a request, everything with a limit.

use std::future::Future;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use super::progress::Progress;
use super::settings::Settings;
use crate::web::SYSTEM_BUNDLES;

/// A client with its settings.
#[derive(Debug)]
pub(super) struct Client {
    /// What it was made with.
    pub(super) settings: Settings,
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Call {
    /// The method.
    pub(super) method: Method,
    /// Path and query, encoded.
    pub(super) path: String,
    /// The ETag to change.
    pub(super) if_match: Option<String>,
    /// The body.
    pub(super) body: Option<Value>,
    /// Whether it needs a token.
    pub(super) token: bool,
}

impl Call {
    /// A call with a token and without a body.
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, if_match: None, body: None, token: true }
    }
}

impl Client {
    /// A client of the endpoint in `settings`.
    pub(super) fn new(settings: Settings) -> Result<Self, Failure> {
        let wrong = |reason: &str| Failure::Connect {
            endpoint: settings.endpoint.clone(),
            reason: reason.to_owned(),
        };
        let uri: Uri = settings.endpoint.parse().map_err(|_| wrong("this is no URL"))?;
        if uri.scheme_str().is_some_and(|scheme| scheme != "https") {
            return Err(wrong("the URL must begin with https://"));
        }
        let host = uri.host().ok_or_else(|| wrong("the URL names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let tls = configure(&settings)?;
        Ok(Self { settings, host, port, tls })
    }

    /// Sends one request and reads the JSON of its answer.
    pub(super) async fn send(&self, call: Call) -> Result<Value, Failure> {
        let body = self.fetch(call).await?;
        serde_json::from_slice(&body).map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// Sends one request and reads the bytes of its answer; who waits at a terminal sees for how long.
    async fn fetch(&self, call: Call) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let work = self.exchange(call, |piece| {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Unreadable(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(piece);
            Ok(())
        });
        let waiting = format!("waiting for {}", self.settings.endpoint);
        match Progress::new().during(&waiting, timeout(self.settings.command_timeout, work)).await {
            Ok(outcome) => outcome.map(|()| body),
            Err(_) => Err(self.late()),
        }
    }

    /// Sends one request and hands its answer to `take` as it comes; the answer may be of any size.
    pub(super) async fn download(
        &self,
        call: Call,
        take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.exchange(call, take).await
    }

    fn late(&self) -> Failure {
        let reason = format!("nothing within {} s", self.settings.command_timeout.as_secs_f32());
        Failure::NoAnswer { endpoint: self.settings.endpoint.clone(), reason }
    }

    /// Sends a request; nothing may take longer than the limit, neither the answer's head nor any piece of its body.
    async fn exchange(
        &self,
        call: Call,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let limit = self.settings.command_timeout;
        let broken = |error: hyper::Error| Failure::NoAnswer {
            endpoint: self.settings.endpoint.clone(),
            reason: super::chain(&error),
        };
        let request = self.request(call)?;
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let answer = async {
            let answer = timeout(limit, sender.send_request(request)).await.map_err(|_| self.late())?;
            let answer = answer.map_err(broken)?;
            let status = answer.status();
            let mut body = answer.into_body();
            let mut refusal = Vec::new();
            while let Some(frame) = timeout(limit, body.frame()).await.map_err(|_| self.late())? {
                let frame = frame.map_err(broken)?;
                match frame.data_ref() {
                    Some(piece) if status.is_success() => take(piece)?,
                    Some(piece) if refusal.len() < REFUSAL_BYTES_MAX => refusal.extend_from_slice(piece),
                    Some(_) | None => {}
                }
            }
            Ok((status, refusal))
        };
        let (status, body) = drive(connection, answer).await?;
        if status.is_success() {
            return Ok(());
        }
        let message = match serde_json::from_slice::<Value>(&body) {
            Ok(error) => error["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(match status.as_u16() {
            401 => Failure::Unauthenticated { message },
            status => Failure::Refused { status, message },
        })
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, Failure> {
        let authority = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let mut request = Request::builder().method(call.method).uri(call.path).header(HOST, authority);
        if call.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.settings.token()?));
        }
        if let Some(etag) = call.if_match {
            request = request.header(IF_MATCH, etag);
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Full::from(body.to_string())
            }
            None => Full::default(),
        };
        request
            .body(body)
            .map_err(|error| Failure::Unreadable(format!("the request cannot be made: {error}")))
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let endpoint = || self.settings.endpoint.clone();
        let unreachable = |reason: String| Failure::Connect { endpoint: endpoint(), reason };
        let untrusted = |reason: String| Failure::Tls { endpoint: endpoint(), reason };
        let limit = self.settings.dial_timeout;
        let late = || format!("no connection within {} s", limit.as_secs_f32());
        let stream = match timeout(limit, TcpStream::connect((self.host.as_str(), self.port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(late())),
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| untrusted(error.to_string()))?;
        match timeout(limit, TlsConnector::from(self.tls.clone()).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(untrusted(error.to_string())),
            Err(_) => Err(untrusted(late())),
        }
    }
}

/// Runs `answer` while `connection` moves its bytes.
async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end with the answer's last byte; what is left is in the answer's buffers.
        _ = connection.as_mut() => answer.await,
    }
}

fn configure(settings: &Settings) -> Result<Arc<ClientConfig>, Failure> {
    let failed = |reason: String| Failure::Tls { endpoint: settings.endpoint.clone(), reason };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let config = if settings.insecure {
        let verifier = Arc::new(AnyCertificate { provider });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(settings)?).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// The certificates named, and those that the system trusts.
fn roots(settings: &Settings) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for path in &settings.trusted {
        let wrong = |reason: String| Failure::File { path: path.display().to_string(), reason };
        let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    for bundle in SYSTEM_BUNDLES {
        if let Ok(found) = CertificateDer::pem_file_iter(bundle) {
            roots.add_parsable_certificates(found.filter_map(Result::ok));
            break;
        }
    }
    Ok(roots)
}

/// Takes any certificate, because the user said so; the handshake's signatures are verified all the same.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Encodes text for a path or a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// More than a thousand volumes with long lists of hosts.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// More than any error's body.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
