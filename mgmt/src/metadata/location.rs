//! Where metadata can be: a redb file, or etcd, with what it takes to be let in there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use super::StoreError;

/// A place for metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A redb file.
    File(PathBuf),
    /// etcd.
    Etcd(EtcdLocation),
}

/// Members of an etcd cluster, and the prefix of our keys there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EtcdLocation {
    tls: bool,
    hosts: Vec<String>,
    prefix: String,
}

/// What it takes to be let in by etcd; every option is also a key of the server's configuration file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EtcdArgs {
    /// PEM file of the authority that etcd's certificates are checked against; required with etcds://
    #[arg(long, value_name = "FILE")]
    metadata_ca: Option<PathBuf>,
    /// PEM file of this server's certificate for etcd, where it asks for one
    #[arg(long, value_name = "FILE", requires = "metadata_key")]
    metadata_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "metadata_cert")]
    metadata_key: Option<PathBuf>,
    /// User name for etcd, where it asks for one
    #[arg(long, value_name = "NAME", requires = "metadata_password_file")]
    metadata_user: Option<String>,
    /// File with that user's password
    #[arg(long, value_name = "FILE", requires = "metadata_user")]
    metadata_password_file: Option<PathBuf>,
}

impl Location {
    /// `etcd://…`, `etcds://…`, a state folder, or a redb file in one. What is not there is a state folder to be made,
    /// unless it has the name of such a file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Ok(Self::Etcd(EtcdLocation::parse(text)?));
        }
        if text.is_empty() {
            return Err("a path is missing".to_owned());
        }
        let path = Path::new(text);
        let is_folder = path.is_dir() || !path.exists() && !path.ends_with(FILE_NAME);
        Ok(Self::File(if is_folder { path.join(FILE_NAME) } else { path.to_owned() }))
    }
}

impl EtcdLocation {
    /// `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`, with `etcds` for TLS.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let hint = || "expected etcd://HOST:PORT[,HOST:PORT…][/PREFIX], or etcds:// for TLS".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(hint)?;
        let tls = match scheme {
            "etcd" => false,
            "etcds" => true,
            _ => return Err(hint()),
        };
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').map(|host| {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, DEFAULT_PORT));
            let sound =
                !name.is_empty() && !name.contains(['@', '?', '#', ' ']) && port.parse::<u16>().is_ok();
            if sound { Ok(format!("{name}:{port}")) } else { Err(hint()) }
        });
        let prefix = prefix.trim_matches('/');
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if !prefix.bytes().all(sound) {
            return Err(hint());
        }
        let prefix = if prefix.is_empty() { DEFAULT_PREFIX } else { prefix };
        Ok(Self { tls, hosts: hosts.collect::<Result<_, _>>()?, prefix: prefix.to_owned() })
    }

    /// The members' addresses as URLs.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.hosts.iter().map(|host| format!("{scheme}://{host}")).collect()
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> String {
        format!("/{}/", self.prefix)
    }
}

impl EtcdArgs {
    /// These arguments where they say something, else those of `file`.
    pub(crate) fn over(self, file: Self) -> Self {
        Self {
            metadata_ca: self.metadata_ca.or(file.metadata_ca),
            metadata_cert: self.metadata_cert.or(file.metadata_cert),
            metadata_key: self.metadata_key.or(file.metadata_key),
            metadata_user: self.metadata_user.or(file.metadata_user),
            metadata_password_file: self.metadata_password_file.or(file.metadata_password_file),
        }
    }

    /// How to connect: files are read anew each time, so that they can be replaced while a server runs.
    pub(super) fn connect_options(&self, location: &EtcdLocation) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_LIMIT)
            // etcd takes pings that come faster than every 5 s for an attack.
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let (Some(user), Some(path)) = (&self.metadata_user, &self.metadata_password_file) {
            let password = String::from_utf8(read(path)?).unwrap_or_default();
            options = options.with_user(user.clone(), password.trim_end_matches(['\r', '\n']).to_owned());
        }
        if location.tls {
            let ca = self.metadata_ca.as_ref().ok_or_else(|| {
                let context =
                    "etcds:// needs --metadata-ca, the authority that its certificates are checked against";
                StoreError::failed(context, std::io::Error::from(std::io::ErrorKind::InvalidInput))
            })?;
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
            if let (Some(cert), Some(key)) = (&self.metadata_cert, &self.metadata_key) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Etcd(location) => location.fmt(f),
        }
    }
}

impl fmt::Display for EtcdLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}/{}", self.hosts.join(","), self.prefix)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::failed(path.display().to_string(), error))
}

/// The redb file's name in a state folder.
pub(crate) const FILE_NAME: &str = "metadata.redb";
const DEFAULT_PORT: &str = "2379";
const DEFAULT_PREFIX: &str = "ferrule";
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod test {
    use super::*;
    use crate::serve::files::test::Folder;

    #[test]
    fn places_are_read_and_shown() {
        for (text, shown) in [
            ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379/ferrule"),
            ("etcd://a,b:1,[::1]:2/x/y/", "etcd://a:2379,b:1,[::1]:2/x/y"),
            ("etcds://a.b:2379/p", "etcds://a.b:2379/p"),
            ("/nonexistent/metadata.redb", "/nonexistent/metadata.redb"),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(Location::parse(shown), Ok(location), "{shown}");
        }
        for wrong in
            ["", "http://a", "etcd://", "etcd://a:x", "etcd://u:p@a:1", "etcd://a,,b", "etcd://a/b c"]
        {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_that_is_no_file_is_a_state_folder() {
        let folder = Folder::new("location");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("copy.redb"), "").unwrap();
        for (text, found) in [
            (path(""), path(FILE_NAME)),
            (path("none"), path("none") + "/" + FILE_NAME),
            (path(FILE_NAME), path(FILE_NAME)),
            (path("copy.redb"), path("copy.redb")),
        ] {
            assert_eq!(Location::parse(&text), Ok(Location::File(found.into())), "{text}");
        }
    }

    #[test]
    fn urls_and_prefix_are_etcds_own() {
        let location = EtcdLocation::parse("etcds://a:1,b:2/x").unwrap();
        assert_eq!(location.endpoints(), ["https://a:1", "https://b:2"]);
        assert_eq!(location.prefix(), "/x/");
        let error = EtcdArgs::default().connect_options(&location).unwrap_err();
        assert!(error.to_string().contains("--metadata-ca"), "{error}");
    }
}
