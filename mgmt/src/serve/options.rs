//! What `ferrule serve` can be told, on the command line and in a file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dataplane::{Bench, Config, PoolDrive, Reactors};

use thiserror::Error;

use super::values;
use crate::auth::environment::{self, EnvironmentKeys};
use crate::config_file;
use crate::metadata::{EtcdArgs, EtcdLocation};

/// Arguments of `ferrule serve`; every one is also a key of its configuration file.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct ServeArgs {
    /// YAML file with the keys of these options; what the command line says wins
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for tokens, keys, the certificate and metadata; made with mode 0700
    /// [default: /var/lib/ferrule for root, else ~/.local/state/ferrule]
    #[arg(long, value_name = "DIR", verbatim_doc_comment)]
    state: Option<PathBuf>,
    /// Where metadata is kept, if not in STATE: etcd://HOST:PORT[,HOST:PORT…]/PREFIX, or etcds:// for TLS; PREFIX is ferrule
    /// where none is named
    #[arg(long, value_name = "URL", value_parser = EtcdLocation::parse)]
    metadata_store: Option<EtcdLocation>,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// A drive of the pool: a block device, or a file, made with SIZE where there is none; may be repeated. A blank one
    /// (its first and last MiB are zero) that is named behind those of a pool joins it for good
    /// [default: STATE/pool:4GiB, unless bench namespaces are given]
    #[arg(long, value_name = "PATH[:SIZE]", value_parser = values::pool_drive, verbatim_doc_comment)]
    pool: Vec<PoolDrive>,
    /// How many reactors, or on which CPUs: 2, or 0,2,4-7, or with a comma 3, for CPU 3 alone
    /// [default: auto, one for each physical core but one, 1 to 16]
    #[arg(long, value_name = "N|LIST", value_parser = values::reactors, verbatim_doc_comment)]
    reactors: Option<Reactors>,
    /// Shards of a pool that is made now; no more reactors than these can share its work [default: twice the CPUs
    /// less one, rounded up to a power of two, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128), verbatim_doc_comment)]
    shards: Option<u16>,
    /// Memory for the map that tells where each block is; what does not fit is read from the drives when it is needed, at
    /// one more read. All of a mapped TiB takes 2.2 GiB, of which 100 MiB should always fit [default: a quarter of the machine's memory]
    #[arg(long, value_name = "SIZE", value_parser = values::memory, verbatim_doc_comment)]
    map_memory: Option<u64>,
    /// What a shard writes between two checkpoints of its map. With more, fewer bytes are written, less room is free for
    /// reuse, and a start after a crash has more to go through; at least 1MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::checkpoint_distance, verbatim_doc_comment)]
    checkpoint_distance: Option<u64>,
    /// Print where reactors, their memory and the pool's shards would be, and start nothing
    #[arg(long)]
    explain_placement: bool,
    /// Address for NVMe/TCP I/O; may be repeated [default: 127.0.0.1:4420]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::io_address)]
    listen: Vec<SocketAddr>,
    /// Address that hosts are told to connect to, where it differs from the listening one; may be repeated
    #[arg(long, value_name = "ADDR")]
    advertise: Vec<IpAddr>,
    /// Address of the discovery service; may be repeated [default: 127.0.0.1:8009]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::discovery_address)]
    discovery: Vec<SocketAddr>,
    /// Address of the REST interface; may be repeated [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::api_address)]
    api: Vec<SocketAddr>,
    /// A failure domain that this server is in, such as a rack, which volumes can ask for; may be repeated [default: the
    /// machine's name]
    #[arg(long, value_name = "NAME", value_parser = values::failure_domain, verbatim_doc_comment)]
    failure_domain: Vec<String>,
    /// A namespace without a store, to measure the transport: null answers zeros, ram keeps data until the end; may
    /// be repeated
    #[arg(long, value_name = "null:SIZE|ram:SIZE", value_parser = values::bench)]
    bench: Vec<Bench>,
    /// File with the key pair of users' tokens, as ferrule gen-keypair prints it; else $JWT_PRIVATE_KEY and
    /// $JWT_PUBLIC_KEY [default: STATE/env, if it is there]
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    env_file: Option<PathBuf>,
    /// Program that takes each first-start token on its standard input, with the token's name as an argument; the token
    /// is then in no file. Words are separated by spaces
    #[arg(long, alias = "token_command", value_name = "COMMAND")]
    token_command: Option<String>,
    /// How the log is written [default: human]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = values::log_level)]
    log_level: Option<tracing::Level>,
    /// An io_uring feature not to use, by the name that the log has at start; may be repeated
    #[arg(long, value_name = "NAME")]
    ring_feature_off: Vec<String>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Human,
    /// A JSON object a line.
    Json,
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The state folder.
    pub(crate) state: PathBuf,
    /// Where metadata is kept, if not in the state folder.
    pub(crate) metadata: Option<(EtcdLocation, EtcdArgs)>,
    /// What the data plane is told.
    pub(crate) data_plane: Config,
    /// Addresses of the REST interface.
    pub(crate) api: Vec<SocketAddr>,
    /// The failure domains that this server is in, if not its own name.
    pub(crate) failure_domains: Option<Vec<String>>,
    /// The environment file.
    env_file: Option<PathBuf>,
    /// What takes the first tokens, if no file shall.
    pub(crate) token_command: Option<Vec<String>>,
    /// How the log is written.
    pub(crate) log_format: LogFormat,
    /// What is logged.
    pub(crate) log_level: tracing::Level,
    /// Only tell where everything would run.
    pub(crate) explain_placement: bool,
}

impl ServeArgs {
    /// Adds what the file says and what goes without saying.
    pub(crate) fn settle(self) -> Result<Options, clap::Error> {
        let args = match &self.config {
            Some(path) => {
                let file = config_file::read::<Self>(path)?;
                self.over(file)
            }
            None => self,
        };
        let state = args.state.unwrap_or_else(default_state);
        let mut pool = args.pool;
        if pool.is_empty() && args.bench.is_empty() {
            pool.push(PoolDrive { path: state.join("pool"), size_bytes: Some(DEFAULT_POOL_BYTES) });
        }
        let data_plane = Config {
            pool,
            shards: args.shards,
            reactors: args.reactors.unwrap_or(Reactors::Auto),
            map_memory_bytes: args.map_memory,
            checkpoint_bytes: args.checkpoint_distance,
            listen: or_loopback(args.listen, values::IO_PORT),
            advertise: args.advertise,
            discovery: or_loopback(args.discovery, values::DISCOVERY_PORT),
            bench: args.bench,
            ring_features_off: args.ring_feature_off,
        };
        let token_command =
            args.token_command.map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        Ok(Options {
            state,
            metadata: args.metadata_store.map(|location| (location, args.etcd)),
            data_plane,
            api: or_loopback(args.api, values::API_PORT),
            failure_domains: Some(args.failure_domain).filter(|names| !names.is_empty()),
            env_file: args.env_file,
            token_command: token_command.filter(|words| !words.is_empty()),
            log_format: args.log_format.unwrap_or(LogFormat::Human),
            log_level: args.log_level.unwrap_or(tracing::Level::INFO),
            explain_placement: args.explain_placement,
        })
    }

    /// These arguments where they say something, else those of `file`.
    fn over(self, file: Self) -> Self {
        Self {
            config: self.config,
            state: self.state.or(file.state),
            metadata_store: self.metadata_store.or(file.metadata_store),
            etcd: self.etcd.over(file.etcd),
            pool: either(self.pool, file.pool),
            shards: self.shards.or(file.shards),
            map_memory: self.map_memory.or(file.map_memory),
            checkpoint_distance: self.checkpoint_distance.or(file.checkpoint_distance),
            explain_placement: self.explain_placement || file.explain_placement,
            reactors: self.reactors.or(file.reactors),
            listen: either(self.listen, file.listen),
            advertise: either(self.advertise, file.advertise),
            discovery: either(self.discovery, file.discovery),
            api: either(self.api, file.api),
            failure_domain: either(self.failure_domain, file.failure_domain),
            bench: either(self.bench, file.bench),
            env_file: self.env_file.or(file.env_file),
            token_command: self.token_command.or(file.token_command),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            ring_feature_off: either(self.ring_feature_off, file.ring_feature_off),
        }
    }
}

/// Why the environment file cannot be used.
#[derive(Debug, Error)]
#[error("{path}")]
pub(crate) struct EnvironmentFileError {
    path: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Options {
    /// The key pair of users' tokens: from the process's environment, else from the file.
    pub(crate) fn environment(&self) -> Result<Option<EnvironmentKeys>, EnvironmentFileError> {
        let default = self.state.join("env");
        let path = self.env_file.as_ref().or_else(|| Some(&default).filter(|path| path.exists()));
        let shown = path.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| EnvironmentFileError {
            path: shown.clone(),
            source,
        };
        let text = path.map(std::fs::read_to_string).transpose().map_err(|error| wrong(error.into()))?;
        let file = environment::parse_file(&text.unwrap_or_default()).map_err(|error| wrong(error.into()))?;
        let find = |name: &str| {
            let own = std::env::var(name).ok().filter(|value| !value.is_empty());
            own.or_else(|| file.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        EnvironmentKeys::read(find).map_err(|error| wrong(error.into()))
    }
}

/// Where a server keeps its state unless told otherwise.
pub(crate) fn default_state() -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    match std::env::var_os("HOME") {
        Some(home) if !is_root => PathBuf::from(home).join(".local/state/ferrule"),
        _ => PathBuf::from("/var/lib/ferrule"),
    }
}

fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

fn or_loopback(addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    if addresses.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)] } else { addresses }
}

/// Enough for a first volume, written in full within seconds.
const DEFAULT_POOL_BYTES: u64 = 4 << 30;

#[cfg(test)]
mod test {
    use clap::Parser;

    use super::*;
    use crate::serve::files::test::Folder;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn settle(words: &[&str]) -> Result<Options, clap::Error> {
        let words = std::iter::once("serve").chain(words.iter().copied());
        Line::try_parse_from(words)?.serve.settle()
    }

    #[test]
    fn everything_has_a_default_on_loopback() {
        let options = settle(&["--state", "s"]).unwrap();
        assert_eq!(options.api, ["127.0.0.1:8443".parse().unwrap()]);
        assert_eq!(options.data_plane.listen, ["127.0.0.1:4420".parse().unwrap()]);
        assert_eq!(options.data_plane.discovery, ["127.0.0.1:8009".parse().unwrap()]);
        let pool = PoolDrive { path: "s/pool".into(), size_bytes: Some(4 << 30) };
        assert_eq!(options.data_plane.pool, [pool]);
        assert!(settle(&["--bench", "null:1GiB"]).unwrap().data_plane.pool.is_empty());
        assert_eq!(options.failure_domains, None);
        let domains = settle(&["--failure-domain", "rack1", "--failure-domain", "room 2"]).unwrap();
        assert_eq!(domains.failure_domains.unwrap(), ["rack1", "room 2"]);
        assert!(settle(&["--failure-domain", ""]).is_err());
    }

    #[test]
    fn options_repeat_and_take_ipv6() {
        let words = ["--listen", "[::1]:4421", "--listen", "0.0.0.0", "--api=::1", "--advertise", "10.0.0.1"];
        let options = settle(&words).unwrap();
        assert_eq!(
            options.data_plane.listen,
            ["[::1]:4421".parse().unwrap(), "0.0.0.0:4420".parse().unwrap()]
        );
        assert_eq!(options.api, ["[::1]:8443".parse().unwrap()]);
        assert_eq!(options.data_plane.advertise, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let folder = Folder::new("serve");
        let path = folder.path().join("ferrule.yaml");
        let text =
            "state: from-file\npool: [a:1GiB, /dev/x]\nreactors: 2\napi: 127.0.0.1:1\nlog-format: json\n";
        std::fs::write(&path, text).unwrap();
        let config = path.to_str().unwrap();
        let options = settle(&["--config", config, "--api", "127.0.0.1:2"]).unwrap();
        assert_eq!(options.state, PathBuf::from("from-file"));
        assert_eq!(options.data_plane.pool.len(), 2);
        assert_eq!(options.data_plane.reactors, Reactors::Count(2));
        assert_eq!(options.api, ["127.0.0.1:2".parse().unwrap()]);
        assert_eq!(options.log_format, LogFormat::Json);
        std::fs::write(&path, "metadata-store: etcd://a:1,b:2/x\nmetadata-ca: ca.pem\n").unwrap();
        let (location, _) = settle(&["--config", config]).unwrap().metadata.unwrap();
        assert_eq!(location.to_string(), "etcd://a:1,b:2/x");
        std::fs::write(&path, "reactor: 2\n").unwrap();
        assert!(settle(&["--config", config]).is_err());
    }
}
