//! The making of reactors: seeds are made together on any thread, each becomes a reactor on its own.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use io::ReactorId;

use crate::Reactor;
use crate::config::ReactorConfig;
use crate::features::Features;
use crate::mail::{Office, Poster};
use crate::ring::Ring;
use crate::ring::setup::RingError;
use crate::topology::{self, Cpu, Placement};

/// Descriptors that the rest of the process needs: drives, rings, bells, files of the management plane.
const FILES_FOR_OTHERS: u64 = 256;
/// Stack of a reactor's thread in bytes.
const STACK_BYTES: usize = 2 << 20;

/// Reactors that have not started.
#[derive(Debug)]
pub struct Reactors<M: Send + 'static> {
    /// One for each, in the order of their numbers.
    pub seeds: Vec<ReactorSeed<M>>,
    /// The management thread's way to them; it works before they have started.
    pub poster: Poster<M>,
    /// The features that this kernel has, of those that were asked for.
    pub features: Features,
}

/// A reactor that has not started. It becomes one on the thread that shall run it.
pub struct ReactorSeed<M: Send + 'static> {
    parts: Parts<M>,
    cpu: Cpu,
}

/// What a reactor is made of.
pub(crate) struct Parts<M> {
    pub(crate) id: ReactorId,
    pub(crate) config: ReactorConfig,
    pub(crate) connections_max: u32,
    /// The node to bind memory to, where there is more than one.
    pub(crate) node: Option<u32>,
    pub(crate) office: Arc<Office<M>>,
    pub(crate) origin: Instant,
}

/// Reactors cannot be made or started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A size that cannot be.
    #[error("{what}")]
    Config {
        /// What is wrong.
        what: &'static str,
    },
    /// The ring cannot be opened.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system refused something else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Makes a seed for each CPU of `placement`. A ring is opened for a moment, so that a system without io_uring is
/// found out here and not on the reactors' threads.
///
/// # Errors
/// When sizes cannot be, or the system lacks something.
pub fn build<M: Send + 'static>(
    config: &ReactorConfig,
    placement: &Placement,
) -> Result<Reactors<M>, StartError> {
    check(config, placement)?;
    let count = placement.reactors.len();
    let files = topology::raise_file_limit();
    let connections_max = connections_max(config.connections_max, files, count);
    let features = Ring::new(config.features, 8, 8)?.features();
    let ids = u16::try_from(count).unwrap_or(u16::MAX);
    let office = Office::new(ids, config.mail_slots)
        .map_err(|source| StartError::System { action: "make the reactors' bells", source })?;
    let office = Arc::new(office);
    let origin = Instant::now();
    let seeds = (0..ids)
        .zip(&placement.reactors)
        .map(|(id, cpu)| ReactorSeed {
            parts: Parts {
                id: ReactorId(id),
                config: config.clone(),
                connections_max,
                node: (placement.nodes > 1).then_some(cpu.node),
                office: Arc::clone(&office),
                origin,
            },
            cpu: *cpu,
        })
        .collect();
    tracing::info!(%features, %placement, connections_max, arena_mib = config.arena_bytes >> 20, "reactors planned");
    Ok(Reactors { seeds, poster: Poster::new(office), features })
}

fn check(config: &ReactorConfig, placement: &Placement) -> Result<(), StartError> {
    let checks = [
        (placement.reactors.is_empty(), "at least one reactor is needed"),
        (placement.reactors.len() > 1024, "at most 1024 reactors can be run"),
        (!config.receive_buffers.is_power_of_two(), "receive_buffers must be a power of two"),
        (config.receive_buffers > 1 << 15, "receive_buffers must be at most 32768"),
        (!(4096..=1 << 20).contains(&config.receive_bytes), "receive_bytes must be 4 KiB to 1 MiB"),
        (config.mail_slots == 0, "mail_slots must be at least 1"),
        (!(8..=4096).contains(&config.submission_entries), "submission_entries must be 8 to 4096"),
        (config.arena_bytes > 64 << 30, "arena_bytes must be at most 64 GiB"),
    ];
    match checks.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, what)) => Err(StartError::Config { what }),
        None => Ok(()),
    }
}

/// Connections of each reactor: a share of the descriptors that are left.
fn connections_max(wanted: u32, files: u64, count: usize) -> u32 {
    let share = files.saturating_sub(FILES_FOR_OTHERS) / count.max(1) as u64;
    let possible = u32::try_from(share).unwrap_or(u32::MAX).max(16);
    if possible < wanted {
        tracing::warn!(
            connections_max = possible,
            files,
            "RLIMIT_NOFILE allows fewer connections than configured: raise it (ulimit -n, LimitNOFILE= in systemd)"
        );
    }
    wanted.min(possible)
}

impl<M: Send + 'static> ReactorSeed<M> {
    /// The number of the reactor that it becomes.
    #[must_use]
    pub fn id(&self) -> ReactorId {
        self.parts.id
    }

    /// The CPU that it runs on.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// Becomes a reactor of the calling thread, which is pinned to its CPU if the configuration says so.
    ///
    /// # Errors
    /// When the system lacks something.
    pub fn start(self) -> Result<Reactor<M>, StartError> {
        if self.parts.config.pin
            && let Err(error) = topology::pin(self.cpu.number)
        {
            tracing::warn!(cpu = self.cpu.number, %error, "a reactor's thread cannot be pinned to its CPU");
        }
        let reactor = Reactor::new(self.parts)?;
        tracing::info!(reactor = ?reactor, cpu = self.cpu.number, "reactor started");
        Ok(reactor)
    }

    /// Starts a thread of its own that becomes the reactor and runs `body` with it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce(Result<Reactor<M>, StartError>) -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        std::thread::Builder::new()
            .name(format!("reactor-{}", self.parts.id.0))
            .stack_size(STACK_BYTES)
            .spawn(move || body(self.start()))
    }
}

impl<M: Send + 'static> fmt::Debug for ReactorSeed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorSeed")
            .field("id", &self.parts.id)
            .field("cpu", &self.cpu)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_descriptors_that_are_left() {
        assert_eq!(connections_max(4096, 1 << 20, 2), 4096);
        assert_eq!(connections_max(4096, 1024, 2), 384);
        assert_eq!(connections_max(4096, 64, 1), 16);
    }
}
