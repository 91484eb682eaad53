//! A stranger's first five minutes, as a transcript: what is typed, and what must be seen.

use std::process::Stdio;
use std::time::Duration;

use tests::association::{Association, Identity};
use tests::person::{Person, run};
use tests::scratch::wait_until;
use tests::server::{Server, Setup};

#[test]
fn a_stranger_gets_from_nothing_to_a_volume_and_back() {
    // $ ferrule
    let stranger = Person::alone();
    let said = stranger.ferrule(&[]);
    for line in ["ferrule serve", "export FERRULE_JWT=@", "ferrule create volume", "ferrule --help"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // $ ferrule list volumes: no server, and no token
    let (said, code) = stranger.refused(&["list", "volumes", "--endpoint", "https://127.0.0.1:1"]);
    assert!(code == 3 && said.contains("hint:"), "{said}");

    // $ ferrule serve: says where the token lies, and how a host connects
    let server = Server::start(&Setup::small());
    wait_until("the server says how to go on", Duration::from_secs(10), || {
        server.log().contains("nvme connect")
    });
    let log = server.log();
    let export =
        log.lines().find_map(|line| line.split_once("export FERRULE_JWT=")).expect("the line to paste").1;
    let person = Person::of(&server).with("FERRULE_JWT", export.trim());
    // The line for a first volume works as it is, for someone without a configuration file.
    let line =
        log.lines().find_map(|line| line.split_once("ferrule create volume ")).expect("the line to paste").1;
    let words = ["create", "volume"].into_iter().chain(line.split_whitespace()).collect::<Vec<_>>();
    let newcomer = Person::alone().with("FERRULE_JWT", export.trim());
    assert!(newcomer.ferrule(&words).contains("v1"), "{line}");
    person.ferrule(&["delete", "volume", "--name", "v1"]);

    // $ ferrule create volume
    let made = person.ferrule(&["create", "volume", "--name", "v1", "--size", "64MiB", "--acl", "ALLOW_ANY"]);
    assert!(made.starts_with("Name") && made.contains("v1") && made.contains("Available"), "{made}");
    // The same again: the error says what is wrong.
    let (said, code) =
        person.refused(&["create", "volume", "--name", "v1", "--size", "64MiB", "--acl", "ALLOW_ANY"]);
    assert!(code == 1 && said.contains("exists"), "{said}");
    // A slip of the pen gets a suggestion, a forgotten option its name.
    let (said, code) = person.refused(&["lst", "volumes"]);
    assert!(code == 2 && said.contains("list"), "{said}");
    let (said, code) = person.refused(&["create", "volume", "--name", "v2"]);
    assert!(code == 2 && said.contains("--size") && said.contains("--acl"), "{said}");

    // # nvme connect, as the server's line has it
    let connect = log.lines().find(|line| line.contains("nvme connect")).expect("the line to paste");
    assert!(connect.contains(&format!("-s {} -n {}", server.port, server.nqn())), "{connect}");
    let mut host = Association::connect(&Identity::new(server.port, &server.nqn(), 1));
    assert_eq!(host.namespaces().len(), 1, "the volume is there");

    // $ ferrule list volumes, in every form
    assert!(person.ferrule(&["list", "volumes"]).contains("v1"));
    assert!(person.ferrule(&["list", "volumes", "-o", "json"]).contains("\"name\": \"v1\""));
    assert!(person.ferrule(&["list", "volumes", "-o", "yaml"]).contains("name: v1"));
    // Nothing of this is for a terminal: no colours.
    for words in [&["--help"][..], &["create", "--help"], &["create", "volume", "--help"]] {
        let help = person.ferrule(words);
        assert!(!help.contains('\u{1b}') && help.contains("ferrule "), "{words:?}: {help}");
    }

    // $ ferrule create snapshot, and a volume that begins as it is
    let taken = person.ferrule(&["create", "snapshot", "--name", "s1", "--source-volume-name", "v1"]);
    assert!(taken.starts_with("Name") && taken.contains("s1") && taken.contains("Available"), "{taken}");
    let clone = ["create", "volume", "--name", "v2", "--size", "64MiB", "--acl", "ALLOW_ANY"];
    assert!(person.ferrule(&[&clone[..], &["--source-snapshot-name", "s1"]].concat()).contains("v2"));
    assert_eq!(host.namespaces().len(), 2, "the clone is there");
    assert!(person.ferrule(&["list", "snapshots"]).contains("s1"));
    let _ = person.ferrule(&["rollback", "volume", "--name", "v1", "--source-snapshot-name", "s1"]);

    // $ ferrule delete, in whatever order
    drop(host);
    assert_eq!(person.ferrule(&["delete", "volume", "--name", "v2"]), "");
    assert_eq!(person.ferrule(&["delete", "snapshot", "--name", "s1"]), "");
    assert_eq!(person.ferrule(&["delete", "volume", "--name", "v1"]), "");
    let (said, code) = person.refused(&["get", "volume", "--name", "v1"]);
    assert!(code == 1 && said.contains("does not exist"), "{said}");
}

#[test]
fn what_is_installed_runs_under_both_names() {
    let person = Person::alone();
    let root = person.path("root");
    let make = ["install-files", "PREFIX=/usr", &format!("DESTDIR={root}")];
    let binary = format!("BINARY={}", tests::server::binary().display());
    // The Makefile lies above the tests.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder");
    run(person.command("make").args(["--silent", "--directory"]).arg(folder).args(make).arg(binary));
    for name in ["ferrule", "lbcli"] {
        let program = format!("{root}/usr/bin/{name}");
        assert!(run(person.command(&program).arg("--help")).contains(&format!("Usage: {name}")));
        for file in [
            format!("bash-completion/completions/{name}"),
            format!("zsh/site-functions/_{name}"),
            format!("fish/vendor_completions.d/{name}.fish"),
            format!("man/man1/{name}.1"),
        ] {
            let text = std::fs::read_to_string(format!("{root}/usr/share/{file}")).expect("a file");
            assert!(text.contains(name) || file.ends_with(".1") && text.contains("ferrule"), "{file}");
        }
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let person = Person::alone();
    for shell in ["bash", "zsh", "fish"] {
        let script = person.ferrule(&["completions", shell]);
        for word in ["volume", "feature-flag", "context", "gen-keypair"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    // Under its other name, for that name.
    let lbcli = person.path("lbcli");
    std::os::unix::fs::symlink(tests::server::binary(), &lbcli).expect("a link");
    let script = run(person.command(&lbcli).args(["completions", "bash"]));
    assert!(script.contains("complete -F _lbcli") && !script.contains("-F _ferrule"), "{script}");
    let said = person.ferrule(&["man", &person.path("man1")]);
    assert!(said.contains("pages"), "{said}");
    for page in ["ferrule.1", "ferrule-create-volume.1", "ferrule-enable-feature-flag.1"] {
        let text = std::fs::read_to_string(person.path("man1") + "/" + page).expect("a page");
        assert!(text.contains(".SH"), "{page}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let person = Person::alone();
    let program = tests::server::binary().display().to_string();
    let ferrule = |words: &[&str], output: Stdio| {
        let output = person.command(&program).args(words).stdout(output).output().expect("run ferrule");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in [
        &[][..],
        &["gen-keypair"],
        &["completions", "bash"],
        &["--help"],
        &["serve", "--explain-placement", "--pool", "p:1GiB"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
        let (code, said) = ferrule(words, full.into());
        assert!(code == Some(1) && said.contains("No space left"), "{words:?}: {code:?} {said}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(ferrule(words, writer.into()), (Some(0), String::new()), "{words:?}");
    }
}

#[test]
fn a_token_about_to_end_is_announced() {
    let server = Server::start(&Setup::small());
    let key = server.state().join("keys/system-root.pem").display().to_string();
    let person = Person::of(&server);
    let make = |expiry: &str| {
        let words = ["create", "jwt", "--key", &key, "--key-id", "system:root", "--role", "default:viewer"];
        person.ferrule(&[&words[..], &["--expiry", expiry]].concat())
    };
    for (expiry, announced) in [("50m", Some("minutes")), ("1d", None), ("30d", None)] {
        let output = person.try_ferrule(&["list", "nodes", "-J", make(expiry).trim()]);
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        match announced {
            Some(unit) => assert!(said.contains("expires in") && said.contains(unit), "{expiry}: {said}"),
            None => assert_eq!(said, "", "{expiry}"),
        }
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("Name"));
    }
}

#[test]
fn colours_and_progress_are_for_terminals_alone() {
    let server = Server::start(&Setup::small());
    let person = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    let on_terminal = |environment: &str, words: &str| person.on_terminal(environment, words);
    for words in ["lst volumes", "get volume --name none", "--help"] {
        assert!(on_terminal("", words).contains("\u{1b}["), "{words} in colours");
        assert!(!on_terminal("NO_COLOR=1", words).contains("\u{1b}["), "{words} without");
    }
    // A server that is stopped makes who waits at a terminal see for how long.
    server.signal("STOP");
    let words = ["list", "nodes", "--dial-timeout", "2s"];
    let said = on_terminal("", &words.join(" "));
    let (silent, code) = person.refused(&words);
    server.signal("CONT");
    assert!(said.contains("waiting for https://") && said.contains(": 1 s"), "{said}");
    assert!(code == 3 && !silent.contains("waiting for"), "{silent}");
    assert_eq!(on_terminal("", "list nodes").matches("waiting for").count(), 0, "nothing of what is quick");
}
