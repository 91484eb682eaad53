//! What can go wrong on the client's side; every text says what to do next.

use dataplane::load::LoadError;
use thiserror::Error;

use crate::image::ImageError;

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The command line or a file is wrong.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// The server refused or failed.
    #[error("{message} (HTTP {status}){}", hint(*status, message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The token is not accepted.
    #[error(
        "{message}\nhint: a server keeps its administrator's token in system.jwt in its state folder; a new state \
         folder has new tokens"
    )]
    Unauthenticated {
        /// What the server said.
        message: String,
    },
    /// There is no token.
    #[error("no token\nhint: {0}")]
    NoToken(String),
    /// The server cannot be reached.
    #[error(
        "cannot connect to {endpoint}: {reason}\nhint: is the server running? Name another with --endpoint URL"
    )]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The server's certificate is not trusted, or TLS fails otherwise.
    #[error(
        "no TLS connection to {endpoint}: {reason}\nhint: pass --ca-cert STATE/tls/cert.pem of the server's state \
         folder, or --insecure-skip-tls-verify"
    )]
    Tls {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The server did not answer in time, or broke the connection.
    #[error(
        "no answer from {endpoint}: {reason}\nhint: a change may still be made: look before you try again; \
         --command-timeout gives a slow server more time"
    )]
    NoAnswer {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// What the command needs does not answer.
    #[error("{what}: {reason}")]
    Unavailable {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// The answer is none that this client knows.
    #[error(
        "the server's answer cannot be read: {0}\nhint: does --endpoint name the REST interface of a storage server, of \
         about the version of this program?"
    )]
    Unreadable(String),
    /// Something that was given is none of its kind.
    #[error("{what}: {reason}")]
    Wrong {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A stream cannot be read or written.
    #[error("{path}: {error}")]
    Image {
        /// Which.
        path: String,
        /// Why.
        error: ImageError,
    },
    /// Data cannot be carried.
    #[error("NVMe/TCP: {0}")]
    Transfer(LoadError),
    /// A signal has ended the command.
    #[error("interrupted\nhint: the same command with --resume goes on where this one stopped")]
    Interrupted,
}

impl Failure {
    /// The process's exit code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Unreadable(_) | Self::Image { .. } => REFUSED,
            Self::Transfer(LoadError::Connect { .. }) => NO_ANSWER,
            Self::Transfer(_) | Self::Interrupted => REFUSED,
            Self::Usage(_) | Self::Wrong { .. } | Self::File { .. } => USAGE,
            Self::Unauthenticated { .. }
            | Self::NoToken(_)
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Unavailable { .. }
            | Self::NoAnswer { .. } => NO_ANSWER,
        }
    }
}

/// What to do next about a refusal whose own words do not say it.
fn hint(status: u16, message: &str) -> &'static str {
    match status {
        400 if message.starts_with("projectName") => "\nhint: name one with --project-name",
        403 => {
            "\nhint: `ferrule parse jwt TOKEN` shows which roles a token has; an administrator can make one with more"
        }
        404 => "\nhint: `ferrule list` shows what there is; --project-name looks into another project",
        409 if message.contains("exists") => {
            "\nhint: choose another name, or go on with the one that there is"
        }
        409 | 503 => "\nhint: try again in some seconds",
        412 => "\nhint: look at it again with -o json, and pass the ETag that it has now",
        500 => "\nhint: the server's log says more: ferrule get logs --file logs.tar",
        _ => "",
    }
}

/// The server refused or failed.
const REFUSED: u8 = 1;
/// The command line or a file is wrong.
pub(super) const USAGE: u8 = 2;
/// No connection, or no valid token.
const NO_ANSWER: u8 = 3;
