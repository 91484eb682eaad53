//! Answers every request with 503 while the server waits for something that it cannot serve without.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Reply;
use super::error::{ApiError, Code};

/// Answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    reason: Rc<RefCell<String>>,
    listening: Vec<JoinHandle<()>>,
}

impl Waiting {
    /// Answers on the sockets of `listeners`, which stay open afterwards.
    pub(crate) fn start(listeners: &[std::net::TcpListener], tls: &Arc<ServerConfig>) -> io::Result<Self> {
        let reason = Rc::new(RefCell::new("the server is starting".to_owned()));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut listening = Vec::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            let acceptor = TlsAcceptor::from(tls.clone());
            listening.push(tokio_uring::spawn(accept(listener, acceptor, room.clone(), reason.clone())));
        }
        Ok(Self { reason, listening })
    }

    /// What is said from here on.
    pub(crate) fn say(&self, reason: String) {
        *self.reason.borrow_mut() = reason;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    room: Arc<Semaphore>,
    reason: Rc<RefCell<String>>,
) {
    while let Ok(permit) = room.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (acceptor, reason) = (acceptor.clone(), reason.clone());
        tokio_uring::spawn(async move {
            drop(timeout(LIMIT, answer(stream, acceptor, reason)).await);
            drop(permit);
        });
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, reason: Rc<RefCell<String>>) -> io::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(|_| {
        let error =
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, reason.borrow().clone());
        let mut response = Reply::error(&error).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// For one connection, its handshake and its one answer.
const LIMIT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
