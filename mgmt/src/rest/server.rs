//! Accepts connections, speaks TLS and HTTP/1.1, and lets nothing grow: connections, headers, bodies and times are
//! all limited. A request that was read is worked on to its end, whether or not its client waits for that.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, IF_MATCH};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::deadline::Deadline;
use super::error::{ApiError, Code};
use super::request::{Query, Request};
use super::router::{Handler, NoMatch};
use super::{Api, Body, Reply, federated_authentication, schema, users, vault};
use crate::auth::{Caller, TokenError, now};
use crate::events::Audit;
use crate::metadata::StoreError;

/// A server that runs until it is told to stop.
#[derive(Debug)]
pub(crate) struct Server {
    api: Rc<Api>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Serves `api` on every listener.
    pub(crate) fn start(api: &Rc<Api>, listeners: Vec<TcpListener>, tls: Arc<ServerConfig>) -> Self {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        api.listeners.start(api, listeners, TlsAcceptor::from(tls), connections.clone());
        Self { api: api.clone(), connections }
    }

    /// Accepts nothing more, lets requests under way end, also those whose clients are gone, and returns when all
    /// connections are closed or the time for it is over.
    pub(crate) async fn stop(self) {
        self.api.listeners.close_all();
        let all = u32::try_from(CONNECTIONS_MAX).expect("a small constant");
        if timeout(STOP_LIMIT, self.connections.acquire_many(all)).await.is_err() {
            tracing::warn!("requests were still under way when the REST interface stopped");
        }
    }
}

/// A listener's loop.
pub(super) struct Acceptance {
    pub(super) api: Rc<Api>,
    pub(super) acceptor: TlsAcceptor,
    pub(super) connections: Arc<Semaphore>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Acceptance {
    /// Accepts until it is told to stop.
    pub(super) async fn run(self, listener: TcpListener) {
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                _ = stopped.changed() => return,
            };
            match accepted {
                Ok((stream, permit)) => self.spawn(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the REST interface could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for room first: who comes when there is none stays in the listener's backlog.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let permit = self.connections.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, permit))
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let api = self.api.clone();
        let peer = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
        let acceptor = self.acceptor.clone();
        let mut stopped = self.stopped.clone();
        tokio_uring::spawn(async move {
            let place = Rc::new(permit);
            let stream = Deadline::new(stream, READ_LIMIT, WRITE_LIMIT);
            let handshake = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
            let stream = match handshake.await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "no TLS connection"),
                Err(_) => return tracing::debug!("the TLS handshake took too long"),
            };
            let service = service_fn(move |request| {
                let answer = respond(api.clone(), peer, place.clone(), request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.as_mut().await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection to the REST interface ended");
            }
        });
    }
}

/// Answers a request from a task of its own, so that what it changes is changed whole and noted: a client that goes away,
/// or the limit, ends the wait alone. Until it has ended, the task keeps its connection's place.
async fn respond(
    api: Rc<Api>,
    peer: Option<IpAddr>,
    place: Rc<OwnedSemaphorePermit>,
    request: hyper::Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let task = tokio_uring::spawn({
        let api = api.clone();
        async move {
            let _place = place;
            settle(&api, peer, request).await
        }
    });
    let outcome = timeout(REQUEST_LIMIT, task).await;
    let is_late = outcome.is_err();
    let reply = match outcome {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            tracing::error!(%error, path, "a request has failed");
            refusal(&path, &ApiError::internal("the request failed; the server's log says why"))
        }
        Err(_) => {
            tracing::warn!(path, "a request takes too long; its client waits no more");
            let message = "the request took too long; a change may still be made";
            let late = ApiError::new(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, message);
            refusal(&path, &late)
        }
    };
    api.counters.count(reply.status());
    let mut response = reply.into_response();
    if is_late {
        // The next request of this connection would be a second one in its place.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers a request, and notes how it ended.
async fn settle(api: &Rc<Api>, peer: Option<IpAddr>, request: hyper::Request<Incoming>) -> Reply {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut audit = Audit::of(peer);
    let answer = answer(api, request, &mut audit).await;
    let reply = answer.unwrap_or_else(|error| refusal(&path, &error));
    let status = reply.status();
    let subject = audit.subject.as_deref().unwrap_or_default();
    if method != Method::GET {
        tracing::info!(%method, path, subject, status = status.as_u16(), "request");
    } else {
        tracing::debug!(%method, path, subject, status = status.as_u16(), "request");
    }
    api.events.audit(&audit, &method, &path, status);
    reply
}

/// An error in the shape that the clients of this path know.
fn refusal(path: &str, error: &ApiError) -> Reply {
    if vault::owns(path) { vault::error_reply(error) } else { Reply::error(error) }
}

async fn answer(
    api: &Rc<Api>,
    request: hyper::Request<Incoming>,
    audit: &mut Audit,
) -> Result<Reply, ApiError> {
    let found = match api.router.find(request.method(), request.uri().path()) {
        Ok(found) => found,
        Err(NoMatch::Path) => return Ok(Reply::plain(StatusCode::NOT_FOUND, "Not Found\n")),
        Err(NoMatch::Method) => {
            return Ok(Reply::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"));
        }
        Err(NoMatch::Escape) => return Err(ApiError::invalid("the path has an invalid escape")),
    };
    let route = found.route;
    audit.operation = Some(route.operation);
    // The token comes before everything else: a stranger cannot make the server read a body.
    let caller = match route.handler {
        Handler::Open(_) if check_freshness(api).is_err() => None,
        Handler::Open(_) => authenticate(api, request.headers(), audit.peer).await.ok(),
        Handler::Token(_) => {
            check_freshness(api)?;
            Some(authenticate(api, request.headers(), audit.peer).await?)
        }
    };
    audit.subject = caller.as_ref().map(|caller| caller.subject().to_owned());
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let if_match = request.headers().get(IF_MATCH).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let if_match = if_match.to_owned();
    let login = users::cookie_of(request.headers()).to_owned();
    let mut body = Bytes::new();
    let mut fields = match *request.method() {
        Method::POST | Method::PUT => {
            body = read_body(request.into_body()).await?;
            schema::read_body(route.request, &body)?
        }
        _ => schema::read_query(route.request, &query)?,
    };
    for (name, text) in &found.variables {
        schema::read_variable(route.request, &mut fields, name, text)?;
    }
    let (peer, variables) = (audit.peer, found.variables);
    let parsed = Request { peer, variables, query, if_match, login, body, fields };
    audit.target(&parsed);
    for _ in 0..ATTEMPTS {
        let mut before = api.records.watch();
        let outcome = handle(api, route.handler, caller.clone(), parsed.clone()).await;
        if !outcome.as_ref().is_err_and(|error| *error == ApiError::outrun()) {
            return outcome;
        }
        // Nothing was changed. With what came first, the same request may be right, or wrong in another way: a name is
        // taken now, an ETag is no longer current.
        api.records.catch_up(&mut before).await;
    }
    Err(ApiError::outrun())
}

async fn handle(
    api: &Rc<Api>,
    handler: Handler,
    caller: Option<Caller>,
    request: Request,
) -> Result<Reply, ApiError> {
    match (handler, caller) {
        (Handler::Open(handler), caller) => handler(api.clone(), caller, request).await,
        (Handler::Token(handler), Some(caller)) => handler(api.clone(), caller, request).await,
        (Handler::Token(_), None) => Err(ApiError::unauthenticated("no token")),
    }
}

/// Refuses to trust keys and roles that may have been taken back elsewhere meanwhile.
fn check_freshness(api: &Api) -> Result<(), ApiError> {
    match api.records.silence() {
        Some(silence) if silence.lasts > TRUST => {
            let error =
                StoreError::Unavailable(format!("{}, for {} s", silence.reason, silence.lasts.as_secs()));
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Refuses who has shown too many wrong tokens or passwords.
pub(super) fn check_failures(api: &Api, peer: Option<IpAddr>) -> Result<(), ApiError> {
    if peer.is_none_or(|peer| api.failures.admits(peer, Instant::now())) {
        return Ok(());
    }
    let message =
        "too many requests with wrong tokens or passwords came from this address; wait, then try again";
    Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, message))
}

async fn authenticate(api: &Api, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, ApiError> {
    let start = Instant::now();
    if let Err(refused) = check_failures(api, peer) {
        // Who shares the address with someone who guesses goes on working.
        if let Some(Ok(token)) = shown(headers)
            && let Some(caller) = api.tokens.recall(token, &api.directory, now())
        {
            return Ok(caller);
        }
        return Err(refused);
    }
    let token = match shown(headers) {
        None => return logged_in(api, headers),
        Some(token) => token,
    };
    let outcome = match token {
        Ok(token) => verify(api, token).await,
        Err(error) => Err(error),
    };
    // Whoever shows no token at all guesses nothing.
    outcome.inspect_err(|_| peer.into_iter().for_each(|peer| api.failures.count(peer, start)))
}

/// The token that a request shows: as bearer, else as Vault's clients send it.
fn shown(headers: &HeaderMap) -> Option<Result<&str, ApiError>> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let wrong = || ApiError::unauthenticated("Authorization is not of the form Bearer <token>");
        return Some(token.ok_or_else(wrong));
    }
    let token = headers.get("x-vault-token")?.to_str().ok();
    Some(token.map(str::trim).ok_or_else(|| ApiError::unauthenticated("X-Vault-Token is no token")))
}

fn logged_in(api: &Api, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let login = users::cookie_of(headers);
    let hint = match login {
        "" => "no token: send it as Authorization: Bearer <token>",
        _ => "the login has ended: log in again",
    };
    api.tokens.logged_in(login).ok_or_else(|| ApiError::unauthenticated(hint))
}

async fn verify(api: &Api, token: &str) -> Result<Caller, ApiError> {
    let mut outcome = api.tokens.verify(token, &api.directory, now());
    // No key of this cluster's own: perhaps it is of an issuer whose tokens are taken.
    if let Err(TokenError::KeyId | TokenError::UnknownKey(_)) = outcome {
        outcome = federated_authentication::verify(api, token).await.unwrap_or(outcome);
    }
    outcome.map_err(|error| {
        tracing::info!(%error, "a token was refused");
        error.into()
    })
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match timeout(BODY_LIMIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let message = "the body took too long to arrive";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, message))
        }
    }
}

/// Connections at once over all listeners, and requests under way whose connections are gone.
const CONNECTIONS_MAX: usize = 256;
/// Request line and headers; also what one connection buffers.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// The largest request of the contract is a volume with long lists of hosts.
const BODY_BYTES_MAX: usize = 256 * 1024;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// From the end of one request to the end of the next one's headers.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// What a client waits for an answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Longer than a request may take, during which nothing is read.
const READ_LIMIT: Duration = Duration::from_secs(120);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Looks at what came first, of a request that was outrun.
const ATTEMPTS: u32 = 50;
/// What was taken back elsewhere is refused here after this time at the latest, even with the metadata store away.
const TRUST: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(READ_LIMIT.as_secs() > REQUEST_LIMIT.as_secs());
// Bodies of all connections at once stay a small part of the memory that an idle server may use.
const _: () = assert!(CONNECTIONS_MAX * (BODY_BYTES_MAX + HEADER_BYTES_MAX) <= 80 << 20);
