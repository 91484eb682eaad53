//! The log: to standard error, for people or for machines.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use super::options::LogFormat;

/// Starts logging; later calls have no effect.
pub(crate) fn start(format: LogFormat, level: tracing::Level) {
    let log = fmt().with_writer(io::stderr).with_ansi(false).with_max_level(LevelFilter::from_level(level));
    let outcome = match format {
        LogFormat::Human => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // Only a second call fails, and then there is a log already.
    drop(outcome);
}
