//! The command line: `ferrule serve`, and verbs and nouns that speak to the REST interface of a server.

mod client;
mod context;
mod duration;
mod failure;
mod grammar;
mod guide;
mod jwt;
mod login;
mod manual;
mod moving;
mod output;
mod perf;
mod print;
mod progress;
mod run;
mod settings;
mod snapshots;
mod table;
#[cfg(test)]
mod test;
mod transfer;
mod users;
mod verbs;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::serve;
use crate::serve::options::ServeArgs;
use failure::Failure;
use grammar::Asked;
use verbs::{Create, Delete, Get, List, Rollback, Update, Verb};

/// Runs one command line.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment: Environment<'_> = &|name| std::env::var(name).ok();
    match grammar::parse(words) {
        Err(error) => usage(&error),
        Ok(Asked::Nothing) => show(Ok(guide::text(environment))),
        Ok(Asked::Row(row, matches)) => show(table::run(row, &matches.0, &matches.1, environment)),
        Ok(Asked::Line(line)) => match line.command {
            Command::Serve(arguments) => serve(arguments),
            Command::Perf(arguments) => perf::run(*arguments),
            Command::Client(command) => show(command.run(environment)),
        },
    }
}

/// Prints how a command ended.
fn show(outcome: Result<String, Failure>) -> ExitCode {
    match outcome {
        Ok(text) => print::answer(&text),
        Err(Failure::Usage(error)) => usage(&error),
        Err(failure) => {
            print::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn serve(arguments: ServeArgs) -> ExitCode {
    let options = match arguments.settle() {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    if options.explain_placement {
        return explain_placement(&options.data_plane);
    }
    match serve::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::complain(chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn explain_placement(config: &dataplane::Config) -> ExitCode {
    match dataplane::DataPlane::explain_placement(config) {
        Ok(text) => print::answer(&text),
        Err(error) => {
            print::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Help and version are no failure; everything else is a wrong command line.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() { ExitCode::from(failure::USAGE) } else { print::settle(printed) }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error says again what its cause says.
        if !text.ends_with(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// Block storage over NVMe/TCP: the server, and the client of its REST interface.
#[derive(Debug, Parser)]
#[command(name = "ferrule", version, about, after_help = AFTER_HELP)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve volumes over NVMe/TCP, and the REST interface that manages them
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Measure a target: IOPS, bandwidth, latencies, and what a core does for it
    Perf(Box<perf::PerfArgs>),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Verbs that speak to a server.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Make a volume, a snapshot, a project, a policy, a credential and the like
    Create(Verb<Create>),
    /// Show many: volumes, snapshots, nodes, projects, policies, events and the like
    List(Verb<List>),
    /// Show one: a volume, a snapshot, the cluster, a node, a project, a policy and the like
    Get(Verb<Get>),
    /// Change a volume, a project, a policy and the like
    Update(Verb<Update>),
    /// Delete a volume, a snapshot, a project, a policy, a credential and the like
    Delete(Verb<Delete>),
    /// Move metadata from one store to another
    #[command(subcommand)]
    Move(moving::Move),
    /// Let a volume go back to a snapshot
    Rollback(Verb<Rollback>),
    /// Write a snapshot, or what changed since another, as a stream
    Export(Verb<transfer::Export>),
    /// Make a volume of a stream, or bring one up to date
    Import(Verb<transfer::Import>),
    /// Show what a token says
    #[command(subcommand)]
    Parse(jwt::Parse),
    /// Take a token back before it expires
    Revoke(Verb<users::Revoke>),
    /// Make an Ed25519 key pair for the server's environment file
    #[command(after_help = jwt::GEN_KEYPAIR_HELP)]
    GenKeypair,
    /// Make a user, or change one: NAME:ROLES:PASSWORD
    #[command(after_help = users::ADD_USER_HELP)]
    AddUser(users::AddUser),
    /// Issue a token for a user, signed with the server's key pair
    #[command(after_help = users::JWT_HELP)]
    Jwt(users::UserJwt),
    /// Make tokens from a file that describes a person
    #[command(subcommand)]
    Auth(jwt::Auth),
    /// Log in at the cluster's identity provider; the token is kept until it ends
    #[command(after_help = login::LOGIN_HELP)]
    Login(login::LogIn),
    /// Forget the token of the login
    #[command(after_help = "Example:\n  ferrule logout")]
    Logout,
    /// Keep tokens by name, and choose the one to use
    #[command(subcommand)]
    Context(context::Context),
    /// Print a completion script for a shell
    #[command(after_help = manual::COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder
    #[command(after_help = "Example:\n  ferrule man /usr/local/share/man/man1")]
    Man {
        /// The folder
        folder: std::path::PathBuf,
    },
}

impl ClientCommand {
    /// Runs the command; the text is for standard output.
    fn run(self, environment: Environment<'_>) -> Result<String, Failure> {
        match self {
            Self::Create(verb) => run::create(verb, environment),
            Self::List(verb) => run::list(verb, environment),
            Self::Get(verb) => run::get(verb, environment),
            Self::Update(verb) => run::update(verb, environment),
            Self::Delete(verb) => run::delete(verb, environment),
            Self::Move(command) => command.run(),
            Self::Rollback(verb) => run::rollback(verb, environment),
            Self::Export(verb) => run::export(verb, environment),
            Self::Import(verb) => run::import(verb, environment),
            Self::Parse(parse) => parse.run(),
            Self::Revoke(verb) => users::revoke(verb, environment),
            Self::GenKeypair => jwt::gen_keypair(),
            Self::AddUser(user) => user.run(environment),
            Self::Jwt(user) => user.run(environment),
            Self::Auth(auth) => auth.run(),
            Self::Login(login) => login.run(environment),
            Self::Logout => login::log_out(environment),
            Self::Context(command) => command.run(environment),
            Self::Completions { shell } => Ok(manual::completions(shell)),
            Self::Man { folder } => manual::pages(&folder),
        }
    }
}

/// Reads an environment variable.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const SERVE_HELP: &str = "\
The state folder has mode 0700. Volumes are in the pool and survive its loss; tokens, keys and the certificate are made
anew then, but users, policies, schedules, trusted hosts and issuers are gone: keep a copy of it.
  system.jwt, default-admin.jwt   tokens of the cluster's and of the default project's administrator, written when
                                  the REST interface answers; good for a year, renewed by a start in the last month
  keys/                           the keys that signed them; without these, nothing is renewed
  tls/cert.pem, tls/key.pem       the REST interface's certificate; put your own there, or remove it for a new one
  metadata.redb                   projects, credentials, policies and the like, unless --metadata-store names an etcd
  drives.json                     drives that joined by add nvme-device; without it, name all drives by --pool

Beside the contract's paths the REST interface has
  GET /metrics   for Prometheus, without a token; with one of the cluster's administrator also a series per volume
  GET /healthz   200 while both planes answer

SIGTERM and SIGINT stop cleanly: commands under way end, everything is flushed. A second signal exits at once.
Example:
  ferrule serve --state /var/lib/ferrule --pool /dev/nvme1n1 --listen 10.0.0.1 --api 10.0.0.1

Exit codes: 0 stopped, 1 cannot start or failed, 2 the command line or the configuration file is wrong.";

const AFTER_HELP: &str = "\
Try it:
  ferrule serve --state ferrule/state --pool ferrule/pool:4GiB
  export FERRULE_JWT=@ferrule/state/system.jwt
  ferrule create volume --name v1 --size 1GiB --acl ALLOW_ANY
  ferrule list volumes

Exit codes:
  0  done
  1  the server refused or failed, or what it said cannot be written
  2  the command line or a configuration file is wrong
  3  no answer: cannot connect, TLS is not trusted, or the token is missing or invalid";
