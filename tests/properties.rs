//! The REST interface against requests that nobody thought of: schemathesis makes them from the served OpenAPI document.
//!
//! Goal: no failure of the server, no answer that its own document does not allow. Method: a seeded run over every
//! operation, from a virtual environment below the build folder; without PyPI there is nothing to run.

use std::process::Command;

use tests::python::{self, said};
use tests::scratch::Scratch;
use tests::server::{Server, Setup};

/// The release that this test was written for.
const RELEASE: &str = "schemathesis==4.32.5";
const CHECKS: &str =
    "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance";
/// 501 says that a cluster of one node does not do it, and is of the contract.
const CONFIG: &str =
    "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"501\"]\n";

#[test]
fn no_request_makes_the_server_fail_or_answer_what_its_document_does_not_allow() {
    let Some(programs) = python::environment("schemathesis", &[RELEASE]) else {
        eprintln!("skipped: PyPI cannot be reached, so {RELEASE} cannot be installed");
        return;
    };
    let seed = std::env::var("FERRULE_SEED").unwrap_or_else(|_| "1".to_owned());
    eprintln!("seed {seed}: replay with FERRULE_SEED={seed}");
    let scratch = Scratch::new("properties");
    let config = scratch.join("schemathesis.toml");
    std::fs::write(&config, CONFIG).expect("write the configuration");
    let server = Server::start(&Setup::default());
    let document = server.client().send("GET", "/api/v2/openapi.json", &[], None);
    assert_eq!(document.status, 200, "{}", document.text);
    let path = scratch.join("openapi.json");
    std::fs::write(&path, &document.text).expect("write the document");
    let output = Command::new(programs.join("schemathesis"))
        // It leaves caches where it runs.
        .current_dir(scratch.join("."))
        .arg("--config-file")
        .arg(&config)
        .arg("run")
        .arg(&path)
        .args(["--url", &server.endpoint(), "--tls-verify=false", "--checks", CHECKS, "--seed", &seed])
        .args([
            "--max-examples",
            "5",
            "--phases",
            "examples,coverage,fuzzing",
            "--generation-database",
            "none",
        ])
        // Each of these opens a port of the machine, and its random addresses are seldom the machine's.
        .args(["--exclude-path-regex", "adminEndpoints"])
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", server.token("system.jwt")))
        .output()
        .expect("run schemathesis");
    assert!(output.status.success(), "{}", said(&output));
}
