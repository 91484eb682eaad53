//! A line on the terminal that tells how long work goes on: shown to people alone, never in a file or a pipe.

use std::fmt::Display;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// The line; it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    shown: bool,
}

impl Progress {
    /// A line that shows nothing yet, and nothing ever where nobody watches.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { live: std::io::stderr().is_terminal() && !dumb, shown: false }
    }

    /// Shows `text` in the place of what was there.
    pub(super) fn show(&mut self, text: impl Display) {
        if self.live {
            self.shown = true;
            eprint!("\r{text}\u{1b}[K");
            drop(std::io::stderr().flush());
        }
    }

    /// Awaits `work`, and tells from the first second on how long `what` has taken.
    pub(super) async fn during<T>(mut self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut seconds: u64 = 0;
        loop {
            match tokio::time::timeout(Duration::from_secs(1), work.as_mut()).await {
                Ok(outcome) => return outcome,
                Err(_) => {
                    seconds += 1;
                    self.show(format_args!("{what}: {seconds} s"));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}
