//! Holds the house style where a machine can: sizes, words, doc heads, places. Each message says what to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tests::scratch::checkout;

/// More lines than this and nobody reads a file whole.
const LINES_MAX: usize = 800;

/// Words not to be used, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "the code itself"),
    ("unimplemented!", "the code itself, or an error that the caller can see"),
    ("TODO", "the code itself"),
    ("FIXME", "the code itself"),
    ("XXX", "the code itself"),
    ("LUN", "namespace"),
    ("initiator", "host"),
    ("session", "association, connection or login, as the specification has it"),
    ("sessions", "associations, connections or logins"),
    ("/work/", "a path below the checkout"),
    ("/root/", "a path below $HOME or the checkout"),
    ("/home/", "a path below $HOME or the checkout"),
    ("deb.debian.org", "the mirror of the machine's own apt"),
    ("index.crates.io", "cargo's own configuration"),
];

/// File names that say nothing.
const BANNED_STEMS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager"];

/// What may lie at the top, besides dotfiles.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "dataplane",
    "docs",
    "fuzz",
    "mgmt",
    "target",
    "tests",
];

#[test]
fn files_are_short_enough_to_read() {
    check(&rust_files(), |path, text| {
        let lines = text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{path}: {lines} lines: split it by state family (at most {LINES_MAX})"))
    });
}

#[test]
fn modules_open_with_a_sentence() {
    check(&rust_files(), |path, text| {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        (!first.starts_with("//! ")).then(|| format!("{path}: open it with a //! sentence on what it is"))
    });
}

#[test]
fn words_have_their_replacements() {
    check(&text_files(), |path, text| {
        let complaints: Vec<String> = text
            .lines()
            .enumerate()
            .flat_map(|(number, line)| {
                let found = BANNED.iter().filter(|(word, _)| has_word(line, word));
                found.map(move |(word, instead)| format!("{path}:{}: not {word:?} but {instead}", number + 1))
            })
            .collect();
        (!complaints.is_empty()).then(|| complaints.join("\n"))
    });
}

#[test]
fn file_names_say_what_is_inside() {
    check(&rust_files(), |path, _| {
        let stem = Path::new(path).file_stem()?.to_str()?;
        BANNED_STEMS.contains(&stem).then(|| format!("{path}: name it for what it holds"))
    });
}

#[test]
fn unsafe_code_is_in_the_reactor_alone() {
    let reactor = checkout().join("dataplane/reactor");
    let files: Vec<PathBuf> = rust_files().into_iter().filter(|path| !path.starts_with(&reactor)).collect();
    check(&files, |path, text| {
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.any(|line| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| has_word(line, word))
        });
        found.then(|| format!("{path}: unsafe code belongs in dataplane/reactor, behind a safe type"))
    });
}

#[test]
fn top_level_is_the_fixed_one() {
    for entry in fs::read_dir(checkout()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP.contains(&name.as_str()), "{name}: does not belong at the top");
    }
}

#[test]
fn readme_commands_and_links_exist() {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("README.md");
    let makefile = fs::read_to_string(checkout().join("Makefile")).unwrap();
    let mut fenced = false;
    let mut commands = 0;
    for line in readme.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let words: Vec<&str> = line.trim_start_matches("$ ").split_whitespace().collect();
        if fenced && words.first() == Some(&"make") {
            let target = words.iter().skip(1).find(|word| !word.contains('=')).unwrap_or(&"serve");
            assert!(
                makefile.lines().any(|rule| rule.starts_with(&format!("{target}:"))),
                "no make target {target}"
            );
            commands += 1;
        }
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            assert!(
                link.starts_with("http") || path.is_empty() || checkout().join(path).exists(),
                "README.md links to {link}, which is not there"
            );
        }
    }
    assert!(commands >= 2, "README.md shows how to serve and how to test");
}

#[test]
fn checks_see_what_they_must() {
    assert!(has_word("a LUN here", "LUN"));
    assert!(!has_word("BALLUNS", "LUN"));
    assert!(has_word("let session = 1", "session"));
    assert!(!has_word("session_cache", "session"));
    assert!(has_word("x = unsafe { y }", "unsafe {"));
    assert!(!has_word("forbid(unsafe_code)", "unsafe fn"));
    assert!(has_word("see /work/x", "/work/"));
    assert!(!has_word("target/work/x", "/work/"));
}

/// Whether `word` stands in `line` with neither letter, digit nor underscore on either side where it has one
/// itself; a path is found at its root only.
fn has_word(line: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_in_word = word.chars().next_back().is_some_and(part);
        !(before.is_some_and(part) || ends_in_word && after.is_some_and(part))
    })
}

/// Runs one rule over files and fails with all its complaints at once.
fn check(files: &[PathBuf], rule: impl Fn(&str, &str) -> Option<String>) {
    assert!(files.len() > 10, "the sources are found");
    let complaints: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            rule(path.strip_prefix(checkout()).unwrap().to_str().unwrap(), &text)
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn rust_files() -> Vec<PathBuf> {
    text_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The project's own text: sources, manifests, scripts, documents.
/// Without this file, which must name what it forbids.
fn text_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in ["dataplane", "mgmt", "benches", "fuzz", "tests", "docs", ".ci"] {
        walk(&checkout().join(name), &mut files);
    }
    files.extend(["Makefile", "README.md", "Cargo.toml"].map(|name| checkout().join(name)));
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["target", "corpus", "artifacts"].contains(&name) {
            walk(&path, files);
        } else if path.is_file() && !["Cargo.lock", "tidy.rs"].contains(&name) {
            files.push(path);
        }
    }
}
