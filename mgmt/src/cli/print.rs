//! What commands print, on outputs that may take nothing: a full disk, a terminal that has gone, a pipe without a reader.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Prints what a command was asked for; returns its exit code.
pub(super) fn answer(text: &str) -> ExitCode {
    settle(io::stdout().write_all(text.as_bytes()))
}

/// The exit code of a command that has printed what it was asked for.
pub(super) fn settle(printed: io::Result<()>) -> ExitCode {
    match printed.and_then(|()| io::stdout().flush()) {
        // A reader that has seen enough, as head does, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says what went wrong, to whoever can be told: the exit code says it, too.
pub(super) fn complain(error: impl Display) {
    remark(format_args!("{} {error}\n", emphasized("error:")));
}

/// Says something beside what a command was asked for.
pub(super) fn remark(text: impl Display) {
    drop(write!(io::stderr(), "{text}"));
}

/// A word in red where people see it, plain in files and for who asks for no colours.
fn emphasized(word: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !plain {
        format!("\u{1b}[1;31m{word}\u{1b}[0m")
    } else {
        word.to_owned()
    }
}
