//! `ferrule serve`: starts the data plane and the management plane, and stops both.

pub(crate) mod files;
mod log;
pub(crate) mod options;
mod state;
mod tls;
mod values;
mod waiting;

use std::error::Error;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dataplane::{Action, ActionError, DataPlane, Handle};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::auth::Tokens;
use crate::directory::{DirectoryError, project_uuid};
use crate::events::Events;
use crate::metadata::transfer::Mark;
use crate::metadata::{Embedded, Etcd, Records, Store, StoreError};
use crate::plane::Plane;
use crate::rest::{Api, Server, SettleError, Site};
use crate::view::View;
use options::{EnvironmentFileError, Options};
pub(crate) use state::DEFAULT_PROJECT;
use state::{DEFAULT_TOKEN, FreshToken, SYSTEM_TOKEN, StateError, StateFolder};
use tls::TlsError;
pub(crate) use values::cpu_list;

/// Why a server does not start, or ended.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The state folder cannot be used.
    #[error("the state folder cannot be used")]
    State(#[from] StateError),
    /// The metadata cannot be used.
    #[error("the metadata cannot be used")]
    Store(#[from] StoreError),
    /// Projects and credentials cannot be used.
    #[error("projects and credentials cannot be used")]
    Directory(#[from] DirectoryError),
    /// TLS cannot be used.
    #[error("TLS cannot be used")]
    Tls(#[from] TlsError),
    /// An address of the REST interface cannot be used.
    #[error("the REST interface cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime of the management thread cannot be made.
    #[error(
        "the management thread cannot start: io_uring must be permitted (sysctl kernel.io_uring_disabled, seccomp)"
    )]
    Runtime(#[source] std::io::Error),
    /// The note of drives that have joined the pool cannot be read.
    #[error(
        "drives.json in the state folder cannot be read; name all drives of the pool by --pool and remove it"
    )]
    AddedDrives(#[source] std::io::Error),
    /// The data plane does not start.
    #[error("the data plane does not start")]
    DataPlane(#[source] Box<dyn Error + Send + Sync>),
    /// The data plane ended with a failure.
    #[error("the data plane ended")]
    Ended(#[source] Box<dyn Error + Send + Sync>),
    /// A reactor panicked.
    #[error("the data plane ended: a reactor panicked; what it served is as after a crash")]
    Panicked,
    /// The environment file cannot be used.
    #[error("the environment file cannot be used")]
    Environment(#[from] EnvironmentFileError),
    /// The data plane refused what it must not refuse.
    #[error("the data plane failed")]
    Action(#[from] ActionError),
}

impl From<SettleError> for ServeError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Action(error) => error.into(),
            SettleError::Store(error) => error.into(),
        }
    }
}

/// Serves until a signal says otherwise.
pub(crate) fn run(options: &Options) -> Result<(), ServeError> {
    let folder = StateFolder::open(&options.state)?;
    log::start(options.log_format, options.log_level, &folder.logs());
    // What can fail fast does so before a pool is touched.
    let store = Metadata::of(options, &folder)?;
    let listeners = listen(&options.api)?;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
        .map_err(ServeError::Runtime)?;
    let mut config = options.data_plane.clone();
    folder.added_drives().complete(&mut config.pool).map_err(ServeError::AddedDrives)?;
    let data_plane = DataPlane::start(&config).map_err(|error| ServeError::DataPlane(Box::new(error)))?;
    if let Err(error) = data_plane.step_aside() {
        tracing::warn!(%error, "the management threads cannot be kept off the reactors' CPUs");
    }
    let handle = data_plane.handle();
    let end = watch(data_plane).map_err(ServeError::Runtime)?;
    runtime.block_on(manage(options, &folder, store, listeners, handle, end))
}

/// Tells the management thread how the data plane ended, whether it was told to or not.
fn watch(data_plane: DataPlane) -> std::io::Result<End> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("data plane's end".to_owned()).spawn(move || {
        let outcome = data_plane.wait().map_err(|error| ServeError::Ended(Box::new(error)));
        // Nobody listens if the management thread has failed first.
        drop(ended.send(outcome));
    })?;
    Ok(end)
}

/// How the data plane ended. With the sender gone, a reactor has panicked.
type End = oneshot::Receiver<Result<(), ServeError>>;

/// The management thread's life.
async fn manage(
    options: &Options,
    folder: &StateFolder,
    store: Metadata,
    listeners: Vec<TcpListener>,
    handle: Handle,
    mut end: End,
) -> Result<(), ServeError> {
    let mut signals = Signals::catch().map_err(ServeError::Runtime)?;
    let plane = Plane::new(handle);
    let tls = tls::configure(folder, &certificate_addresses(options), &hostname())?;
    // A store or a command that does not answer keeps nobody from stopping the server.
    let (api, tokens) = tokio::select! {
        prepared = prepare(options, folder, store, &listeners, &tls, &plane) => prepared?,
        () = signals.wait() => return stop(&plane, end).await,
        outcome = &mut end => return outcome.unwrap_or(Err(ServeError::Panicked)),
    };
    let server = Server::start(&api, to_async(listeners)?, tls);
    api.start_tasks();
    tokio::select! {
        outcome = open(options, folder, &api, tokens) => return outcome,
        () = signals.wait() => {}
        outcome = &mut end => return outcome.unwrap_or(Err(ServeError::Panicked)),
    }
    tracing::info!("stopping; a second signal exits at once");
    tokio_uring::spawn(async move {
        signals.wait().await;
        tracing::warn!("exiting without waiting");
        std::process::exit(1);
    });
    server.stop().await;
    stop(&plane, end).await
}

/// All that is done before the first request.
async fn prepare(
    options: &Options,
    folder: &StateFolder,
    store: Metadata,
    listeners: &[TcpListener],
    tls: &Arc<ServerConfig>,
    plane: &Plane,
) -> Result<(Rc<Api>, Vec<FreshToken>), ServeError> {
    let store: Rc<dyn Store> = match store {
        Metadata::Embedded(store) => Rc::new(store),
        Metadata::Etcd(store, left) => {
            waiting::for_etcd(&store, left, listeners, tls).await?;
            Rc::new(store)
        }
    };
    let api = assemble(options, folder, store, listeners, plane.clone()).await?;
    let tokens = settle(&api, folder, options.token_command.is_some()).await?;
    Ok((api, tokens))
}

/// Hands out the tokens, says where everything is, and returns only with a failure.
async fn open(
    options: &Options,
    folder: &StateFolder,
    api: &Rc<Api>,
    tokens: Vec<FreshToken>,
) -> Result<(), ServeError> {
    deliver(tokens, options.token_command.clone()).await?;
    if api.records.is_shared() {
        tokio_uring::spawn(refill(api.clone(), folder.clone(), options.token_command.clone()));
    }
    announce(folder, &api.site, options.token_command.as_deref());
    std::future::pending().await
}

/// Stops the data plane, with everything flushed.
async fn stop(plane: &Plane, mut end: End) -> Result<(), ServeError> {
    let ended = tokio::select! {
        asked = plane.ask(Action::Stop) => {
            asked?;
            end.await
        }
        // Where a reactor cannot go on there may be no answer.
        ended = &mut end => ended,
    };
    ended.unwrap_or(Err(ServeError::Panicked))?;
    tracing::info!("stopped");
    Ok(())
}

/// Does again what a first start does, each time a metadata store that others share has been emptied: without that,
/// nobody's token would be good until somebody started a server again.
async fn refill(api: Rc<Api>, folder: StateFolder, token_command: Option<Vec<String>>) {
    let mut changes = api.records.watch();
    loop {
        if folder.is_settled(&api.records, &api.site.identity) {
            match changes.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        tracing::warn!(
            "the metadata store was emptied: users, policies, schedules and settings are lost; making the projects of this \
             server's volumes, and credentials and tokens as at a first start"
        );
        while let Err(error) = fill(&api, &folder, token_command.clone()).await {
            let error = &error as &dyn Error;
            tracing::error!(error, "the metadata store cannot be filled; trying again");
            tokio::time::sleep(REFILL_AGAIN).await;
        }
        let token = folder.token(SYSTEM_TOKEN);
        match token.exists() {
            true => {
                tracing::warn!(token = %token.display(), "older tokens are worth nothing; there is a new one")
            }
            false => tracing::warn!("older tokens are worth nothing; another server has written new ones"),
        }
    }
}

async fn fill(
    api: &Rc<Api>,
    folder: &StateFolder,
    token_command: Option<Vec<String>>,
) -> Result<(), ServeError> {
    let tokens = settle(api, folder, token_command.is_some()).await?;
    deliver(tokens, token_command).await
}

/// The store that was chosen.
enum Metadata {
    Embedded(Embedded),
    /// With the mark of the state folder's own file, which may have been moved there.
    Etcd(Etcd, Option<Mark>),
}

impl Metadata {
    fn of(options: &Options, folder: &StateFolder) -> Result<Self, StoreError> {
        match options.metadata.clone() {
            None => Ok(Self::Embedded(Embedded::open(&folder.metadata())?)),
            Some((location, access)) => {
                Ok(Self::Etcd(Etcd::new(location, access)?, Embedded::mark_of(&folder.metadata())))
            }
        }
    }
}

/// Writes fresh tokens to their files, or hands them to the operator's command, off this thread.
async fn deliver(tokens: Vec<FreshToken>, command: Option<Vec<String>>) -> Result<(), ServeError> {
    let Some(command) = command else {
        for token in &tokens {
            token.write()?;
        }
        return Ok(());
    };
    // No thread of the runtime's: a server that is stopped waits for those.
    let (handed, outcome) = oneshot::channel();
    let hand = move || drop(handed.send(tokens.iter().try_for_each(|token| token.hand_to(&command))));
    std::thread::Builder::new().name("tokens".to_owned()).spawn(hand).map_err(ServeError::Runtime)?;
    outcome.await.map_err(|error| ServeError::Runtime(std::io::Error::other(error)))??;
    Ok(())
}

/// Joins what the data plane knows with what the state folder knows.
async fn assemble(
    options: &Options,
    folder: &StateFolder,
    store: Rc<dyn Store>,
    listeners: &[TcpListener],
    plane: Plane,
) -> Result<Rc<Api>, ServeError> {
    let identity = plane.identity().await?;
    let view = View::load(plane.clone()).await?;
    let records = Records::load(store).await?;
    let tokens = Tokens::new(records.clone(), options.environment()?);
    let events = Events::new(records.clone());
    let api_addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let advertise = &options.data_plane.advertise;
    let nvme = if identity.advertised.is_empty() { &identity.listen } else { &identity.advertised };
    let site = Site {
        failure_domains: options.failure_domains.clone().unwrap_or_else(|| vec![hostname()]),
        hostname: hostname(),
        api_endpoints: reachable(&api_addresses, advertise),
        discovery_endpoints: reachable(&identity.discovery, advertise),
        nvme_endpoints: reachable(nvme, advertise),
        identity,
        logs: folder.logs(),
        added_drives: folder.added_drives(),
    };
    let api = Api::new(plane, view, records, events, tokens, site);
    tokio_uring::spawn(crate::rest::retain(api.clone()));
    Ok(api)
}

/// Makes what the metadata store must have before the first request, and the tokens of a first start; those are not handed
/// out yet.
async fn settle(
    api: &Rc<Api>,
    folder: &StateFolder,
    with_command: bool,
) -> Result<Vec<FreshToken>, ServeError> {
    let cluster_uuid = api.site.identity.cluster_uuid;
    let default = [DEFAULT_PROJECT.to_owned()];
    api.directory.ensure_projects(default, |name| project_uuid(cluster_uuid, name)).await?;
    api.settle_projects().await?;
    api.prepare().await?;
    let now = jsonwebtoken::get_current_timestamp();
    let tokens = folder.prepare_tokens(&api.directory, now, with_command).await?;
    // The last: where this is missing, the rest may be.
    folder.settle_cluster(&api.records, &api.site.identity).await?;
    Ok(tokens)
}

/// Says where everything is. Standard output may be closed: the server serves all the same.
fn announce(folder: &StateFolder, site: &Site, token_command: Option<&[String]>) {
    let (certificate, _) = folder.tls();
    let system = folder.token(SYSTEM_TOKEN);
    let nqn = &site.identity.subsystem_nqn;
    let mut text = format!("Ferrule serves {nqn}\n");
    for endpoint in &site.api_endpoints {
        text += &format!("REST interface   https://{endpoint}  (certificate: {})\n", certificate.display());
    }
    if let Some(command) = token_command {
        text += &format!("Tokens           were handed to {}\n", command.join(" "));
        text += "Use one          export FERRULE_JWT=TOKEN\n";
    } else if !system.exists() {
        text += "Tokens           are where the first server of this metadata store has written them\n";
    } else {
        text += &format!("Token, cluster   {}\n", system.display());
        text += &format!("Token, default   {}\n", folder.token(DEFAULT_TOKEN).display());
        text += &format!("Use it           export FERRULE_JWT=@{}\n", system.display());
    }
    let endpoint = match site.api_endpoints.first() {
        // The line is to be pasted: a client that is told nothing asks here.
        Some(other) if !site.api_endpoints.iter().any(|one| one == USUAL_ENDPOINT) => {
            format!(" --endpoint https://{other}")
        }
        _ => String::new(),
    };
    text +=
        &format!("Make a volume    ferrule create volume --name v1 --size 1GiB --acl ALLOW_ANY{endpoint}\n");
    for endpoint in &site.nvme_endpoints {
        if let Ok(address) = endpoint.parse::<SocketAddr>() {
            let (ip, port) = (address.ip(), address.port());
            text += &format!("Connect a host   nvme connect -t tcp -a {ip} -s {port} -n {nqn}\n");
        }
    }
    for (nsid, what) in &site.identity.bench {
        text += &format!("For benches      {what} is namespace {nsid}\n");
    }
    if let (Some((nsid, _)), Some(endpoint)) = (site.identity.bench.first(), site.nvme_endpoints.first()) {
        text += &format!("Measure it       ferrule perf --target {endpoint} --subnqn {nqn} --nsid {nsid}\n");
    }
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    tracing::info!(nqn, api = ?site.api_endpoints, nvme = ?site.nvme_endpoints, "ready");
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    let bind = |address: &SocketAddr| {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listener.map_err(|source| ServeError::Listen { address: *address, source })
    };
    addresses.iter().map(bind).collect()
}

fn to_async(listeners: Vec<TcpListener>) -> Result<Vec<tokio::net::TcpListener>, ServeError> {
    let convert = |listener| tokio::net::TcpListener::from_std(listener).map_err(ServeError::Runtime);
    listeners.into_iter().map(convert).collect()
}

/// `addresses` as others reach them: an address that stands for all is replaced by those advertised.
fn reachable(addresses: &[SocketAddr], advertise: &[IpAddr]) -> Vec<String> {
    let mut reachable = Vec::new();
    for address in addresses {
        if address.ip().is_unspecified() && !advertise.is_empty() {
            reachable.extend(advertise.iter().map(|ip| SocketAddr::new(*ip, address.port()).to_string()));
        } else {
            reachable.push(address.to_string());
        }
    }
    reachable
}

fn certificate_addresses(options: &Options) -> Vec<IpAddr> {
    let api = options.api.iter().map(SocketAddr::ip);
    api.chain(options.data_plane.advertise.iter().copied()).collect()
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// The signals that stop a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where a client asks that was told no other place.
pub(crate) const USUAL_ENDPOINT: &str = "127.0.0.1:8443";
/// Between attempts to fill an emptied metadata store.
const REFILL_AGAIN: Duration = Duration::from_secs(2);
/// The management thread's own ring: files of logs and exports, never the data path.
const RING_ENTRIES: u32 = 64;
