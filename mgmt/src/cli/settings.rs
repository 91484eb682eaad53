//! Where the server is and who asks: command line, then environment, then configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Command, ValueEnum};

use super::Environment;
use super::context::Contexts;
use super::duration::format_time;
use super::failure::Failure;
use super::login;
use crate::auth::{Parsed, Role, claimed_roles, expiry};
use crate::config_file;
use crate::serve::USUAL_ENDPOINT;
use crate::serve::options::default_state;

/// Arguments of every command that speaks to a server; every one is also a key of the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ClientArgs {
    /// YAML file with the keys of these options [default: ~/.config/ferrule/ferrule.yaml]
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    config: Option<PathBuf>,
    /// The server's REST interface [default: https://127.0.0.1:8443]
    #[arg(long, global = true, value_name = "URL", help_heading = HEADING)]
    pub(super) endpoint: Option<String>,
    /// The token, or @FILE to read it from; else $FERRULE_JWT or $LIGHTOS_JWT, which take both forms too
    #[arg(short = 'J', long, global = true, value_name = "TOKEN", help_heading = HEADING)]
    jwt: Option<String>,
    /// The project [default: the token's, else default]
    #[arg(long, global = true, value_name = "NAME", help_heading = HEADING)]
    project_name: Option<String>,
    /// How to print
    #[arg(short, long, global = true, alias = "output-format", value_name = "FORMAT", help_heading = HEADING)]
    output: Option<Output>,
    /// Certificate in PEM form to trust [default: tls/cert.pem beside the token's file, and in this machine's state folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    ca_cert: Option<PathBuf>,
    /// Do not verify the server's certificate
    #[arg(long, global = true, help_heading = HEADING)]
    insecure_skip_tls_verify: bool,
    /// How long to wait for a connection, such as 5s [default: 5s]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time, help_heading = HEADING)]
    dial_timeout: Option<Duration>,
    /// How long to wait for an answer, such as 60s [default: 60s]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time, help_heading = HEADING)]
    command_timeout: Option<Duration>,
    /// The interface's version; there is one
    #[arg(long, global = true, hide = true, value_parser = ["2", "v2"])]
    api_version: Option<String>,
    /// A key of lbcli's configuration file that changes nothing here
    #[arg(long, global = true, hide = true)]
    debug: bool,
    /// A key of lbcli's configuration file: connections without TLS, which are refused
    #[arg(long, global = true, hide = true)]
    insecure_transport: bool,
}

impl ClientArgs {
    /// Adds them to a command, which keeps what it says of itself.
    pub(super) fn add_to(command: Command) -> Command {
        let about = command.get_about().cloned();
        let command = Self::augment_args(command);
        if let Some(about) = about { command.about(about) } else { command }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables.
    HumanReadable,
    /// The server's JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What a command is run with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The URL as it was given.
    pub(super) endpoint: String,
    /// The token, if there is one.
    token: Option<String>,
    /// The project, if one was named.
    pub(super) project: Option<String>,
    /// How to print.
    pub(super) output: Output,
    /// Files with certificates to trust.
    pub(super) trusted: Vec<PathBuf>,
    /// Whether any certificate will do.
    pub(super) insecure: bool,
    /// How long to wait for a connection.
    pub(super) dial_timeout: Duration,
    /// How long to wait for an answer.
    pub(super) command_timeout: Duration,
}

impl ClientArgs {
    /// Adds what environment and file say and what goes without saying.
    pub(super) fn settle(self, environment: Environment<'_>) -> Result<Settings, Failure> {
        let file = match &self.config {
            Some(path) => config_file::read::<Self>(path)?,
            None => default_files(environment)
                .into_iter()
                .find(|path| is_readable(path))
                .map_or_else(|| Ok(Self::default()), |path| config_file::read::<Self>(&path))?,
        };
        if self.insecure_transport || file.insecure_transport {
            let reason =
                "this server speaks TLS alone; --insecure-skip-tls-verify takes any certificate".to_owned();
            return Err(Failure::Wrong { what: "insecure-transport".to_owned(), reason });
        }
        let named = |name: &str| environment(name).filter(|text| !text.is_empty());
        let context = Contexts::read(environment)?.current();
        let jwt = self.jwt.or_else(|| named("FERRULE_JWT")).or_else(|| named("LIGHTOS_JWT"));
        let jwt = jwt.or_else(|| context.as_ref().map(|context| context.token.clone()));
        let jwt = jwt.or_else(|| login::token(environment)).or(file.jwt);
        let chosen = context.and_then(|context| context.endpoint);
        let mut trusted: Vec<PathBuf> = self.ca_cert.or(file.ca_cert).into_iter().collect();
        let token = match jwt.as_deref().map(|text| (text, text.strip_prefix('@'))) {
            None => None,
            Some((text, None)) => Some(text.trim().to_owned()),
            Some((_, Some(path))) => {
                let path = Path::new(path);
                // A token that lies in a state folder has its server's certificate beside it.
                trusted.extend(beside(path));
                Some(read_token(path)?)
            }
        };
        trusted.extend(Some(default_state().join("tls/cert.pem")).filter(|path| is_readable(path)));
        Ok(Settings {
            endpoint: self
                .endpoint
                .or(chosen)
                .or(file.endpoint)
                .unwrap_or_else(|| format!("https://{USUAL_ENDPOINT}")),
            token,
            project: self.project_name.or(file.project_name),
            output: self.output.or(file.output).unwrap_or(Output::HumanReadable),
            trusted,
            insecure: self.insecure_skip_tls_verify || file.insecure_skip_tls_verify,
            dial_timeout: self.dial_timeout.or(file.dial_timeout).unwrap_or(DIAL_TIMEOUT),
            command_timeout: self.command_timeout.or(file.command_timeout).unwrap_or(COMMAND_TIMEOUT),
        })
    }
}

impl Settings {
    /// The token.
    pub(super) fn token(&self) -> Result<&str, Failure> {
        self.token.as_deref().filter(|token| !token.is_empty()).ok_or_else(|| {
            let file = default_state().join("system.jwt");
            Failure::NoToken(format!(
                "pass --jwt TOKEN or --jwt @FILE, or set $FERRULE_JWT, or the key jwt in the configuration file; a server \
                 prints where its tokens lie when it starts, by default {}",
                file.display()
            ))
        })
    }

    /// What to say of a token that is about to end.
    pub(super) fn expiry_warning(&self, now_s: u64) -> Option<String> {
        let token = self.token.as_deref()?;
        let end = expiry(token)?;
        let left = end.checked_sub(now_s)?;
        // One that was made for a day is not about to end in its first hours.
        let life = made_at(token).and_then(|made| end.checked_sub(made)).unwrap_or(u64::MAX);
        if left >= WEEK_S || left >= HOUR_S && left > life / 2 {
            return None;
        }
        let unit = |seconds: u64, name: &str| format!("{} {name}", left / seconds);
        let left = match left {
            0..7200 => unit(60, "minutes"),
            7200..172_800 => unit(3600, "hours"),
            _ => unit(86_400, "days"),
        };
        Some(format!("warning: the token expires in {left}; get another before {}", format_time(end)))
    }

    /// The project to work in: the one named, else the token's own, else `default`.
    pub(super) fn project(&self) -> String {
        let own = || self.own_project();
        self.project.clone().or_else(own).unwrap_or_else(|| "default".to_owned())
    }

    /// The project to list: none means all, which tokens of the cluster may see.
    pub(super) fn listed_project(&self) -> Option<String> {
        let several = || {
            let roles = claimed_roles(self.token.as_deref()?)?;
            let of_cluster =
                |role: &Role| matches!(role, Role::ClusterAdmin | Role::ClusterViewer | Role::ClusterUser);
            (!roles.is_empty() && !roles.iter().any(of_cluster)).then(|| self.project())
        };
        self.project.clone().or_else(|| self.own_project()).or_else(several)
    }

    /// The only project that the token has roles in, unless it is one of the cluster.
    fn own_project(&self) -> Option<String> {
        let roles = claimed_roles(self.token.as_deref()?)?;
        let mut projects = roles.iter().map(|role| match role {
            Role::ClusterAdmin | Role::ClusterViewer | Role::ClusterUser => None,
            Role::ProjectAdmin(project) | Role::ProjectViewer(project) | Role::ProjectUser(project) => {
                Some(project)
            }
        });
        let first = projects.next()??;
        projects.all(|project| project == Some(first)).then(|| first.clone())
    }
}

/// Configuration files in the order in which they are looked for.
fn default_files(environment: Environment<'_>) -> Vec<PathBuf> {
    let own = own_folder(environment).map(|folder| folder.join("ferrule.yaml"));
    let others = ["/etc/ferrule/ferrule.yaml", "/etc/lbcli/lbcli.yaml"].map(PathBuf::from);
    own.into_iter().chain(others).collect()
}

/// The folder of a person's own files.
pub(super) fn own_folder(environment: Environment<'_>) -> Option<PathBuf> {
    let base = environment("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("ferrule"))
}

/// A token as arguments give it: itself, or `@FILE` with it.
pub(super) fn given_token(text: &str) -> Result<String, Failure> {
    text.strip_prefix('@').map_or_else(|| Ok(text.trim().to_owned()), |path| read_token(Path::new(path)))
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::File { path: path.display().to_string(), reason: error.to_string() })?;
    Ok(text.trim().to_owned())
}

fn beside(token: &Path) -> Option<PathBuf> {
    let certificate = token.parent()?.join("tls/cert.pem");
    is_readable(&certificate).then_some(certificate)
}

fn is_readable(path: &Path) -> bool {
    std::fs::File::open(path).is_ok()
}

/// `5s`, `500ms`, `2m`, or a number of seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let hint = || "expected a time such as 5s, 500ms or 2m".to_owned();
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u32 = number.parse().map_err(|_| hint())?;
    let factor = match unit {
        "ms" => Duration::from_millis(1),
        "" | "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err(hint()),
    };
    factor.checked_mul(number).filter(|time| !time.is_zero()).ok_or_else(hint)
}

/// When a token was made, if it says so.
fn made_at(token: &str) -> Option<u64> {
    let made = Parsed::read(token).ok()?.claims.get("iat")?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let made = made as u64;
    Some(made)
}

const HOUR_S: u64 = 3600;
const WEEK_S: u64 = 7 * 24 * HOUR_S;
const HEADING: &str = "Server";
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
