//! A server on a port of its own, and a client that sees all of an answer.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Api, Server, Site};
use super::fake::{Fake, identity};
use crate::auth::Tokens;
use crate::auth::environment::{EnvironmentKeys, generate, parse_file};
use crate::auth::key::SigningKey;
use crate::directory::CredentialRecord;
use crate::events::Events;
use crate::metadata::{Change, Embedded, Loaded, Pending, Records, Store, StoreError};
use crate::plane::Plane;
use crate::serve::files::test::Folder;
use crate::view::View;

/// A server and how to speak to it.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The data plane behind it.
    pub(crate) fake: Fake,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Everything that its handlers reach.
    pub(crate) api: Rc<Api>,
    /// A token of the cluster's administrator.
    pub(crate) system: String,
    /// A token of the default project's administrator.
    pub(crate) admin: String,
    /// A token of the default project's viewer.
    pub(crate) viewer: String,
    /// Where projects and credentials are kept.
    pub(crate) store: Rc<Fallible>,
    server: Server,
    _folder: Folder,
}

/// A metadata store that fails when it is told to.
#[derive(Debug)]
pub(crate) struct Fallible {
    store: Embedded,
    fault: watch::Sender<Option<Fault>>,
}

/// How a metadata store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file below is broken.
    Broken,
    /// It does not answer now.
    Away,
    /// It makes changes, and does not answer as long as this is so.
    Held,
}

impl Fallible {
    /// Whether and how changes fail from now on.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    /// How many changes are made and unanswered.
    pub(crate) fn held(&self) -> usize {
        self.fault.receiver_count()
    }
}

impl Store for Fallible {
    fn load(&self) -> Pending<'_, Loaded> {
        self.store.load()
    }

    fn commit(&self, changes: Vec<Change>, guard: Option<u64>) -> Pending<'_, u64> {
        let fault = *self.fault.borrow();
        let error = match fault {
            None => return self.store.commit(changes, guard),
            Some(Fault::Held) => {
                return Box::pin(async move {
                    let outcome = self.store.commit(changes, guard).await;
                    let mut fault = self.fault.subscribe();
                    drop(fault.wait_for(|fault| *fault != Some(Fault::Held)).await);
                    outcome
                });
            }
            Some(Fault::Broken) => {
                StoreError::Failed { context: "told to fail".to_owned(), source: "a test".into() }
            }
            Some(Fault::Away) => StoreError::Unavailable("told to be away".to_owned()),
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// All of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) text: String,
    /// The body as JSON; null if it is none.
    pub(crate) json: Value,
}

/// The key of every credential in these tests: making one takes time.
pub(crate) static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

/// Runs `test` against a new server with the projects `default` and `other`.
pub(crate) fn bench<F: Future<Output = ()>>(test: impl FnOnce(Rc<Bench>) -> F) {
    quiet_bench(|bench| {
        bench.api.start_tasks();
        test(bench)
    });
}

/// The same without the server's own tasks: they ask the data plane and the metadata store when they will, and what a
/// test makes fail once for a request of its own would sometimes fail for a task instead.
pub(crate) fn quiet_bench<F: Future<Output = ()>>(test: impl FnOnce(Rc<Bench>) -> F) {
    tokio_uring::start(async {
        let bench = Rc::new(Bench::start().await);
        test(bench.clone()).await;
        Rc::into_inner(bench).expect("the test is over").server.stop().await;
    });
}

/// Lets so much time pass at once, for all that waits for time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

impl Bench {
    async fn start() -> Self {
        let folder = Folder::new("rest");
        let embedded = Embedded::open(&folder.path().join("metadata.redb")).unwrap();
        let store = Rc::new(Fallible { store: embedded, fault: watch::Sender::new(None) });
        let fake = Fake::default();
        let plane = Plane::new(fake.handle());
        let view = View::load(plane.clone()).await.unwrap();
        let records = Records::load(store.clone()).await.unwrap();
        let events = Events::new(records.clone());
        let site = Site {
            identity: identity(),
            hostname: "server00".to_owned(),
            failure_domains: vec!["server00".to_owned(), "rack1".to_owned()],
            api_endpoints: vec!["127.0.0.1:8443".to_owned()],
            discovery_endpoints: vec!["127.0.0.1:8009".to_owned()],
            nvme_endpoints: vec!["127.0.0.1:4420".to_owned()],
            logs: folder.path().join("logs"),
            added_drives: crate::drives::AddedDrives::new(folder.path().join("drives.json")),
        };
        let tokens = Tokens::new(records.clone(), environment());
        let api = Api::new(plane, view, records, events, tokens, site);
        api.prepare().await.unwrap();
        let directory = &api.directory;
        let projects = ["default", "other"].map(str::to_owned);
        directory.ensure_projects(projects, |name| format!("uuid-of-{name}")).await.unwrap();
        for project in ["system", "default"] {
            let record = CredentialRecord::of_pem(project, "root", &KEY.public_pem());
            directory.create_credential(record).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(&api, vec![listener], tls());
        Self {
            fake,
            address,
            api,
            system: token("system:root", &["system:cluster-admin"]),
            admin: token("default:root", &["default:admin"]),
            viewer: token("default:root", &["default:viewer"]),
            store,
            server,
            _folder: folder,
        }
    }

    /// Sends a request; an empty token sends none.
    pub(crate) async fn send(&self, token: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.send_with(token, method, path, &[], body).await
    }

    /// Sends a request with further headers.
    pub(crate) async fn send_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        tokio_uring::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Full<Bytes> = body.map(|text| Full::from(text.to_owned())).unwrap_or_default();
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes: Bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, text, json }
    }

    /// Reads as the cluster's administrator; must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send(&self.system, "GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer.json
    }

    /// Makes a volume of 1 MiB for any host in the default project; returns it.
    pub(crate) async fn create(&self, name: &str) -> Value {
        let body = json!({"name": name, "size": "1MiB", "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1});
        let body = body.to_string();
        let answer = self.send(&self.admin, "POST", "/api/v2/projects/default/volumes", Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json
    }

    /// A TLS connection.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        TlsConnector::from(trusting()).connect(name, stream).await.unwrap()
    }
}

impl Answer {
    /// Asserts status and code of an error, and that it has the contract's shape.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: u64) {
        assert_eq!((self.status, self.json["code"].as_u64()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.json["error"], self.json["message"]);
        assert!(!self.json["message"].as_str().unwrap().is_empty());
        assert_eq!(self.headers["content-type"], "application/json");
    }
}

/// A key pair of an environment file.
fn environment() -> Option<EnvironmentKeys> {
    let variables = parse_file(&generate().unwrap()).unwrap();
    let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    EnvironmentKeys::read(find).unwrap()
}

/// A token that lasts.
pub(crate) fn token(kid: &str, roles: &[&str]) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let claims = crate::auth::Claims { exp: now + 3600, iat: now, sub: "test", iss: "test", jti: "1", roles };
    crate::auth::mint(&KEY, kid, &claims).unwrap()
}

static CERTIFICATE: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());

/// The server's certificate, which is good for `localhost`.
pub(crate) fn certificate_pem() -> String {
    CERTIFICATE.cert.pem()
}

fn tls() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CERTIFICATE.cert.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(CERTIFICATE.signing_key.serialize_der()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

fn trusting() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATE.cert.der().clone()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}
