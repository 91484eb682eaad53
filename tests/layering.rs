//! Holds the arrows between the crates: which may depend on which.
//!
//! Folders are crates, so a wrong `use` does not compile unless a manifest allows it; this test reads the
//! manifests. Development dependencies are free, except that the simulator never sees the reactor.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate and those that it depends on. `tests` and `benches` may depend on any.
const ARROWS: &[(&str, &[&str])] = &[
    ("nvme", &[]),
    ("io", &[]),
    ("store", &["io"]),
    ("subsystem", &["nvme", "io"]),
    ("host", &["nvme", "io"]),
    ("engine", &["subsystem", "store", "nvme", "io"]),
    ("reactor", &["io"]),
    ("sim", &["engine", "store", "host", "nvme", "io"]),
    ("dataplane", &["engine", "reactor", "host", "io"]),
    ("mgmt", &["dataplane"]),
];

/// Crates that prove the others, and may depend on any of them.
const FREE: &[&str] = &["tests", "benches"];

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let arrows = arrows(false);
    for (name, dependencies) in &arrows {
        if FREE.contains(&name.as_str()) {
            continue;
        }
        let allowed = allowed.get(name.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("crate {name} is not in the table of {}", file!()));
        for dependency in dependencies {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} -> {dependency} is no arrow of the design; {name} may depend on {allowed:?}: move the code, \
                 or have one of these pass the type on"
            );
        }
    }
    for (name, allowed) in ARROWS {
        let dependencies =
            arrows.get(*name).unwrap_or_else(|| panic!("there is no crate {name}: take its row out"));
        for dependency in *allowed {
            assert!(
                dependencies.contains(*dependency),
                "{name} -> {dependency} is in no manifest: take it out"
            );
        }
    }
}

#[test]
fn simulator_never_sees_the_reactor() {
    for (name, dependencies) in arrows(true) {
        assert!(name != "sim" || !dependencies.contains("reactor"), "sim depends on reactor");
    }
}

#[test]
fn wire_types_are_pure() {
    let root = tests::scratch::checkout().join("dataplane/nvme/src/lib.rs");
    let source = std::fs::read_to_string(root).unwrap();
    for attribute in ["no_std", "forbid(unsafe_code)"] {
        assert!(source.contains(attribute), "dataplane/nvme/src/lib.rs lacks {attribute}");
    }
}

/// The workspace's crates and their dependencies on each other.
fn arrows(with_development: bool) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(tests::scratch::checkout())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let crates = metadata["packages"].as_array().unwrap();
    assert!(crates.len() > 5, "the workspace's crates are listed");
    let dependencies = |package: &Value| -> BTreeSet<String> {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["path"].is_string())
            .filter(|dependency| with_development || dependency["kind"] != "dev")
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect()
    };
    crates
        .iter()
        .map(|package| (package["name"].as_str().unwrap().to_owned(), dependencies(package)))
        .collect()
}
