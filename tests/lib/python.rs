//! Python programs from PyPI, in virtual environments below the build folder that are kept between runs.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::scratch::build_folder;

/// The folder of an environment's programs, with what `pip install` is told installed; none if PyPI cannot be reached.
///
/// # Panics
/// If Python cannot be run, or pip fails for another reason.
#[must_use]
pub fn environment(name: &str, install: &[&str]) -> Option<PathBuf> {
    let folder = build_folder().join(name);
    // Noted when all is there: whatever was cut off, or is for another list, is made anew.
    let (note, wanted) = (folder.join("installed"), install.join(" "));
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Some(folder.join("bin"));
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    let made = made.expect("python3 runs");
    assert!(made.status.success(), "{}", said(&made));
    let pip = Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(install).output();
    let pip = pip.expect("pip runs");
    if pip.status.success() {
        std::fs::write(note, wanted).expect("note what is installed");
        return Some(folder.join("bin"));
    }
    let text = said(&pip);
    let unreachable = ["Connection", "connect", "timed out", "Temporary failure", "No matching distribution"];
    assert!(unreachable.iter().any(|word| text.contains(word)), "{text}");
    None
}

/// All that a command has printed.
#[must_use]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
