//! The REST interface's certificate: made at the first start, or put there by the operator.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use super::files;
use super::state::StateFolder;

/// Why there is no certificate to serve with.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// A file cannot be written.
    #[error("{path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("{path}: no certificate or key in PEM form; remove it to have a new one made")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit.
    #[error("the certificate in the state folder cannot be used; remove it to have a new one made")]
    Use(#[from] rustls::Error),
}

/// The configuration of TLS; makes a self-signed certificate for `addresses` and `hostname` where there is none.
pub(crate) fn configure(
    folder: &StateFolder,
    addresses: &[IpAddr],
    hostname: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = folder.tls();
    if !certificate.exists() || !key.exists() {
        make(folder, addresses, hostname)?;
    }
    let unreadable = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(&certificate))?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(unreadable(&key))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn make(folder: &StateFolder, addresses: &[IpAddr], hostname: &str) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if is_dns_name(hostname) {
        names.push(hostname.to_owned());
    }
    names.extend(addresses.iter().filter(|address| !address.is_unspecified()).map(ToString::to_string));
    names.sort();
    names.dedup();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, "ferrule");
    let now = OffsetDateTime::now_utc();
    // A day's grace for clients whose clock is behind.
    parameters.not_before = now - Duration::days(1);
    parameters.not_after = now + Duration::days(LIFETIME_DAYS);
    let pair = KeyPair::generate()?;
    let signed = parameters.self_signed(&pair)?;
    let (certificate, key) = folder.tls();
    // The certificate last: with it missing, both are made anew.
    for (path, text, mode) in [(key, pair.serialize_pem(), 0o600), (certificate, signed.pem(), 0o644)] {
        files::replace(&path, text.as_bytes(), mode).map_err(|source| TlsError::Write { path, source })?;
    }
    Ok(())
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

const LIFETIME_DAYS: i64 = 3650;
