//! The command line: `ferrule serve`, and verbs and nouns that speak to the REST interface of a server.

mod client;
mod failure;
mod output;
mod run;
mod settings;
mod verbs;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::serve;
use crate::serve::options::ServeArgs;
use failure::Failure;
use verbs::{Create, Delete, Get, List, Update, Verb};

/// Runs one command line.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match Line::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => return usage(&error),
    };
    let outcome = match line.command {
        Command::Serve(arguments) => return serve(*arguments),
        Command::Create(verb) => run::create(verb),
        Command::List(verb) => run::list(verb),
        Command::Get(verb) => run::get(verb),
        Command::Update(verb) => run::update(verb),
        Command::Delete(verb) => run::delete(verb),
    };
    match outcome {
        Ok(text) => {
            use std::io::Write as _;
            // A reader that has seen enough, as head does, is no failure.
            drop(std::io::stdout().write_all(text.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(Failure::Usage(error)) => usage(&error),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn serve(arguments: ServeArgs) -> ExitCode {
    let options = match arguments.settle() {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    match serve::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Help and version are no failure; everything else is a wrong command line.
fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS }
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
    Serve(Box<ServeArgs>),
    /// Make a volume or a credential
    Create(Verb<Create>),
    /// Show many: volumes, nodes, projects, credentials, connected hosts
    List(Verb<List>),
    /// Show one: a volume, the cluster, a node, a project, a credential, a connected host, the API's version
    Get(Verb<Get>),
    /// Change a volume
    Update(Verb<Update>),
    /// Delete a volume or a credential
    Delete(Verb<Delete>),
}

const AFTER_HELP: &str = "\
Try it:
  ferrule serve --state /tmp/ferrule/state --pool /tmp/ferrule/pool:4GiB
  export FERRULE_JWT=@/tmp/ferrule/state/system.jwt
  ferrule create volume --name v1 --size 1GiB --acl ALLOW_ANY
  ferrule list volumes

Exit codes:
  0  done
  1  the server refused or failed
  2  the command line or a configuration file is wrong
  3  no answer: cannot connect, TLS is not trusted, or the token is missing or invalid";
