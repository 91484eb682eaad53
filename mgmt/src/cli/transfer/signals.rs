//! Signals that end a transfer in order: what was made for it is taken away first.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::failure::Failure;

/// From here on the signals end nothing by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM.
    pub(super) fn take() -> Result<Self, Failure> {
        let wrong =
            |error: std::io::Error| Failure::Wrong { what: "signals".to_owned(), reason: error.to_string() };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(wrong)?,
            terminate: signal(SignalKind::terminate()).map_err(wrong)?,
        })
    }

    /// Runs `work` until it ends or a signal comes.
    pub(super) async fn guard<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            outcome = work => outcome,
            _ = self.interrupt.recv() => Err(Failure::Interrupted),
            _ = self.terminate.recv() => Err(Failure::Interrupted),
        }
    }
}
