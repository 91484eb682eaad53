//! The bound of the REST interface: hyper with the same TLS that answers every request with one word, on one thread.

use std::convert::Infallible;
use std::sync::{Arc, mpsc};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rest::Endpoint;
use crate::site::pin_this_thread;

/// Starts the server on a thread of its own on `cpu`; it serves as long as this program runs.
pub(crate) fn start(cpu: u32) -> Result<Endpoint, String> {
    let key =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| error.to_string())?;
    let certificate = key.cert.der().clone();
    let private =
        PrivateKeyDer::try_from(key.signing_key.serialize_der()).map_err(|error| error.to_owned())?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], private);
    let acceptor = TlsAcceptor::from(Arc::new(config.map_err(|error| error.to_string())?));
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        pin_this_thread(cpu);
        crate::rest::block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            ready.send(listener.local_addr().expect("an address")).expect("someone waits");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    stream.set_nodelay(true).ok();
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|_| async {
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
                    });
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
    });
    Endpoint::new(is_ready.recv().map_err(|error| error.to_string())?, certificate)
}
