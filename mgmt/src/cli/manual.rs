//! Completion scripts and manual pages, made from the grammar itself.

use std::path::PathBuf;

use clap_complete::Shell;

use super::failure::Failure;
use super::grammar;
use crate::serve::files;

/// The completion script of a shell, for the name under which the program was called.
pub(super) fn completions(shell: Shell) -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let is_other = called.is_some_and(|path| path.file_name().is_some_and(|name| name == OTHER_NAME));
    let mut script = Vec::new();
    let name = if is_other { OTHER_NAME } else { "ferrule" };
    clap_complete::generate(shell, &mut grammar::command(), name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a manual page for every command into a folder; says how many.
pub(super) fn pages(folder: &PathBuf) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::File {
        path: folder.display().to_string(),
        reason: error.to_string(),
    };
    files::make_folder(folder).map_err(failed)?;
    clap_mangen::generate_to(grammar::command(), folder).map_err(failed)?;
    let count = std::fs::read_dir(folder).map_err(failed)?.count();
    Ok(format!("{count} pages in {0}; read one with: man {0}/ferrule.1\n", folder.display()))
}

/// The name that people know from elsewhere.
const OTHER_NAME: &str = "lbcli";

pub(super) const COMPLETIONS_HELP: &str = "\
Example:
  ferrule completions bash > /etc/bash_completion.d/ferrule
  ferrule completions zsh > ~/.zfunc/_ferrule
  ferrule completions fish > ~/.config/fish/completions/ferrule.fish
Called as lbcli, it prints the script for that name.";
