//! OpenStack: cinder's LightOS driver from PyPI, unchanged, lives a volume's whole life against a running server.
//!
//! Goal: an operator's OpenStack works without a change. Method: `cinder/life.py` drives the driver's own methods, whose
//! HTTP client speaks to the server, and looks at the server beside it. Without PyPI there is nothing to run.

use std::process::Command;

use tests::python;
use tests::scratch::{Scratch, checkout};
use tests::server::{Server, Setup};

#[test]
fn the_openstack_driver_lives_its_whole_life() {
    let list = checkout().join("tests/cinder/requirements.txt");
    let packages = std::fs::read_to_string(list).expect("read the list of packages");
    let packages = packages.lines().filter(|line| !line.starts_with('#'));
    let install: Vec<&str> = std::iter::once("--no-deps").chain(packages).collect();
    let Some(programs) = python::environment("cinder", &install) else {
        eprintln!("skipped: PyPI cannot be reached, so cinder cannot be installed");
        return;
    };
    let server = Server::start(&Setup { reactors: "1", ..Setup::default() });
    let scratch = Scratch::new("cinder");
    let output = Command::new(programs.join("python"))
        .args(["-W", "ignore", "-B"])
        .arg(checkout().join("tests/cinder/life.py"))
        .arg(server.api.to_string())
        .arg(server.state())
        .arg(scratch.path())
        .output()
        .expect("run the driver");
    let said = python::said(&output);
    assert!(output.status.success() && said.contains("the whole life holds"), "{said}");
}
