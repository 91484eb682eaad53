//! Contexts: tokens kept by name in a file of the person's own, one of them in use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Environment;
use super::duration::format_time;
use super::failure::Failure;
use super::output::{self, Shape, render};
use super::settings::{Output, given_token, own_folder};
use crate::auth::expiry;
use crate::serve::files;

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(super) enum Context {
    /// Keep a token under a name, and use it if none is in use
    #[command(after_help = "Example:\n  ferrule context create admin --token \"$TOKEN\"")]
    Create(CreateContext),
    /// Show the contexts; the one in use is marked
    #[command(after_help = "Example:\n  ferrule context list")]
    List {
        /// How to print
        #[arg(short, long, default_value = "human-readable", value_name = "FORMAT")]
        output: Output,
    },
    /// Use a context from now on
    #[command(after_help = "Example:\n  ferrule context set admin")]
    Set(WhichContext),
    /// Use none
    #[command(after_help = "Example:\n  ferrule context unset")]
    Unset,
    /// Forget a context and its token
    #[command(after_help = "Example:\n  ferrule context delete admin")]
    Delete(WhichContext),
}

/// What a new context shall have.
#[derive(Args, Debug)]
pub(super) struct CreateContext {
    /// Its name
    name: String,
    /// The token, or @FILE to read it from
    #[arg(long)]
    token: String,
    /// The server's REST interface, if it shall be this one
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

/// A context.
#[derive(Args, Debug)]
pub(super) struct WhichContext {
    /// Its name
    name: String,
}

/// All contexts, as their file has them.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Kept>,
}

/// One.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Kept {
    /// Its token.
    pub(super) token: String,
    /// Its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
}

impl Contexts {
    /// Those of the person; none where there is no file.
    pub(super) fn read(environment: Environment<'_>) -> Result<Self, Failure> {
        let Some(path) = file(environment).filter(|path| path.exists()) else { return Ok(Self::default()) };
        let failed = |reason: String| Failure::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        serde_norway::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// The one in use.
    pub(super) fn current(&self) -> Option<Kept> {
        self.contexts.get(self.current.as_ref()?).cloned()
    }

    fn write(&self, environment: Environment<'_>) -> Result<(), Failure> {
        let path = file(environment).ok_or_else(|| Failure::Wrong {
            what: "$HOME".to_owned(),
            reason: "is not set: there is no place for contexts".to_owned(),
        })?;
        let failed = |reason: String| Failure::File { path: path.display().to_string(), reason };
        let text = serde_norway::to_string(self).map_err(|error| failed(error.to_string()))?;
        let folder = path.parent().unwrap_or(&path);
        files::make_folder(folder).map_err(|error| failed(error.to_string()))?;
        files::replace(&path, text.as_bytes(), 0o600).map_err(|error| failed(error.to_string()))
    }

    fn known(&self, name: &str) -> Result<(), Failure> {
        let reason = "there is no such context; ferrule context list shows those that there are".to_owned();
        let wrong = Failure::Wrong { what: name.to_owned(), reason };
        self.contexts.contains_key(name).then_some(()).ok_or(wrong)
    }

    /// What is shown of them: everything but the tokens.
    fn shown(&self) -> Value {
        let one = |(name, kept): (&String, &Kept)| {
            json!({
                "name": name,
                "current": self.current.as_ref() == Some(name),
                "expires": expiry(&kept.token).map_or_else(|| "unknown".to_owned(), format_time),
                "endpoint": kept.endpoint,
            })
        };
        json!({"contexts": self.contexts.iter().map(one).collect::<Vec<_>>()})
    }
}

impl Context {
    pub(super) fn run(self, environment: Environment<'_>) -> Result<String, Failure> {
        let mut contexts = Contexts::read(environment)?;
        match self {
            Self::List { output } => {
                return render(&contexts.shown(), output, Shape::List("contexts", output::CONTEXTS));
            }
            Self::Create(new) => {
                let token = given_token(&new.token)?;
                if expiry(&token).is_none() {
                    let reason = "this is no token: it has three parts, separated by dots".to_owned();
                    return Err(Failure::Wrong { what: "--token".to_owned(), reason });
                }
                let kept = Kept { token, endpoint: new.endpoint };
                contexts.current.get_or_insert_with(|| new.name.clone());
                contexts.contexts.insert(new.name, kept);
            }
            Self::Set(which) => {
                contexts.known(&which.name)?;
                contexts.current = Some(which.name);
            }
            Self::Unset => contexts.current = None,
            Self::Delete(which) => {
                contexts.known(&which.name)?;
                contexts.contexts.remove(&which.name);
                contexts.current = contexts.current.filter(|current| *current != which.name);
            }
        }
        contexts.write(environment)?;
        Ok(String::new())
    }
}

fn file(environment: Environment<'_>) -> Option<PathBuf> {
    Some(own_folder(environment)?.join("contexts.yaml"))
}
