//! The start with a metadata store that does not answer yet: volumes are served, requests are told what is missing.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::ServeError;
use crate::metadata::Etcd;
use crate::metadata::transfer::Mark;
use crate::rest::Waiting;

/// Waits until etcd answers; fails at once with what no waiting cures.
pub(super) async fn for_etcd(
    store: &Etcd,
    left: Option<Mark>,
    listeners: &[TcpListener],
    tls: &Arc<ServerConfig>,
) -> Result<(), ServeError> {
    let mut waiting = None;
    loop {
        let error = match store.check(left.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error.into()),
        };
        if waiting.is_none() {
            tracing::warn!(%error, "waiting for the metadata store; volumes are served meanwhile");
            waiting = Some(Waiting::start(listeners, tls).map_err(ServeError::Runtime)?);
        }
        if let Some(waiting) = &waiting {
            waiting.say(error.to_string());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

const AGAIN: Duration = Duration::from_millis(500);
