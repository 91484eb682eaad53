//! Requests to other services over HTTPS: few, small, with a limit on everything, and no redirects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Reads a JSON document, or posts a form and reads the answer; its status comes with it.
pub(crate) async fn fetch(url: &str, form: Option<&[(&str, &str)]>) -> Result<(u16, Value), String> {
    timeout(LIMIT, exchange(url, form)).await.unwrap_or_else(|_| Err(format!("{url}: no answer within 10 s")))
}

/// Whether a URL is one that secrets and keys may travel by: HTTPS, or HTTP on this machine.
pub(crate) fn is_private(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
        _ => false,
    }
}

async fn exchange(url: &str, form: Option<&[(&str, &str)]>) -> Result<(u16, Value), String> {
    if !is_private(url) {
        return Err(format!("{url}: expected a URL that begins with https://"));
    }
    let wrong = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let uri: Uri = url.parse().map_err(|_| format!("{url}: this is no URL"))?;
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let mut request = Request::builder().uri(path).header(HOST, authority).header(ACCEPT, "application/json");
    let body = match form {
        None => Full::default(),
        Some(fields) => {
            request = request.method(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            Full::from(encode_form(fields))
        }
    };
    let request: Request<Full<Bytes>> = request.body(body).map_err(|error| wrong(&error))?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| wrong(&error))?;
    if !secure {
        return converse(stream, request).await.map_err(|error| wrong(&error));
    }
    let name = ServerName::try_from(host).map_err(|error| wrong(&error))?;
    let config = configure().map_err(|error| wrong(&error))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| wrong(&error))?;
    converse(stream, request).await.map_err(|error| wrong(&error))
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Value), String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(|_| format!("status {status} without JSON"))?;
        Ok((status, value))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // The connection may end with the answer's last byte; what is left is in the answer's buffers.
        _ = connection.as_mut() => answer.await,
    }
}

fn configure() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    for bundle in named.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from)) {
        if let Ok(found) = CertificateDer::pem_file_iter(bundle) {
            roots.add_parsable_certificates(found.filter_map(Result::ok));
            break;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn encode_form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let letter =
            |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(letter).collect::<String>()
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// Where distributions keep the certificates that they trust.
pub(crate) const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const LIMIT: Duration = Duration::from_secs(10);
/// Discovery documents and key sets have a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn keys_and_secrets_travel_by_https_or_stay_on_this_machine() {
        for url in ["https://idp.example", "http://127.0.0.1:80/x", "http://localhost", "http://[::1]:1/"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://idp.example", "ftp://localhost", "localhost", "", "http://127.0.0.1.example"] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(encode_form(&[("a", "b c&d"), ("e", "ü")]), "a=b%20c%26d&e=%C3%BC");
    }
}
