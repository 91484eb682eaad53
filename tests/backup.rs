//! Backup and migration: snapshots leave one server as streams and become volumes of another that shares nothing with it.
//!
//! What must come out is kept here, byte by byte; both ends are read over NVMe/TCP by code that shares nothing with the
//! product.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::association::{Association, Identity, Payload, Queue, io};
use tests::person::Person;
use tests::scratch::{Scratch, wait_until};
use tests::server::{Server, Setup, binary};

const MIB: u64 = 1024 * 1024;
const BLOCK: usize = 4096;
/// Blocks that one chunk of a stream has at most.
const CHUNK: u64 = 256;
/// Generic Command Status, Capacity Exceeded.
const CAPACITY_EXCEEDED: u16 = 0x081;

/// A server with one volume, and what is in it: block by block, where it is not zero.
struct Source {
    server: Server,
    nsid: u32,
    queue: Queue,
    _association: Association,
    blocks: BTreeMap<u64, u64>,
    folder: Scratch,
}

impl Source {
    fn new(size_bytes: u64) -> Self {
        let server = Server::start(&Setup { pool_mib: 512, ..Setup::default() });
        let volume = server.create_volume("v1", size_bytes);
        let association = Association::connect(&Identity::new(server.port, &server.nqn(), 1));
        let queue = association.io_queue(1);
        let nsid = nsid(&volume);
        let folder = Scratch::new("backup");
        Self { server, nsid, queue, _association: association, blocks: BTreeMap::new(), folder }
    }

    /// Writes blocks of noise, or of zeroes for 0.
    fn write(&mut self, first: u64, count: u64, noise: u64) {
        for block in first..first + count {
            let data = content(if noise == 0 { 0 } else { noise + block });
            let _ = self.queue.write(self.nsid, block, BLOCK, &data).expect_success("write");
            self.blocks.insert(block, if noise == 0 { 0 } else { noise + block });
        }
    }

    /// Deallocates blocks by Write Zeroes.
    fn drop_blocks(&mut self, first: u64, count: u64) {
        let mut entry = io(0x08, self.nsid, first, count as usize);
        entry[51] |= 0x02;
        let _ = self.queue.run(entry, Payload::None).expect_success("Write Zeroes");
        self.blocks.extend((first..first + count).map(|block| (block, 0)));
    }

    fn snapshot(&self, name: &str) {
        let _ = self.server.cli_ok(&["create", "snapshot", "--name", name, "--source-volume-name", "v1"]);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Exports into a file of this name.
    fn export(&self, snapshot: &str, base: Option<&str>, name: &str) -> PathBuf {
        let file = self.file(name);
        let mut words = vec!["export", "snapshot", "--name", snapshot, text(&file)];
        words.extend(base.into_iter().flat_map(|base| ["--base", base]));
        let _ = self.server.cli_ok(&words);
        self.expect_no_clone();
        file
    }

    /// The clone that an export reads is gone with it.
    fn expect_no_clone(&self) {
        assert_eq!(names(&self.server), ["v1"]);
    }
}

fn target() -> Server {
    Server::start(&Setup { pool_mib: 512, ..Setup::default() })
}

fn import(server: &Server, file: &Path) -> Output {
    server.cli(&["import", "volume", "--name", "copy", text(file)])
}

fn import_ok(server: &Server, file: &Path) {
    let output = import(server, file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An import that must fail, with these words.
fn import_fails(server: &Server, words: &[&str], said: &str) {
    let output = server.cli(&[&["import", "volume", "--name", "copy"], words].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{words:?} was taken");
    assert!(errors.contains(said), "{said:?} is not in: {errors}");
}

/// Compares a snapshot, through a clone, with what must be in it.
fn check(server: &Server, snapshot: &str, size_bytes: u64, blocks: &BTreeMap<u64, u64>) {
    let volume = server.create_volume_with(&json!({
        "name": format!("check-{snapshot}"), "size": size_bytes.to_string(), "acl": {"values": ["ALLOW_ANY"]},
        "replicaCount": 1, "sourceSnapshotName": snapshot
    }));
    let association = Association::connect(&Identity::new(server.port, &server.nqn(), 2));
    let mut queue = association.io_queue(1);
    let piece = 128;
    for first in (0..size_bytes / BLOCK as u64).step_by(piece) {
        let data = queue.read(nsid(&volume), first, BLOCK, piece * BLOCK).expect_success("read").data;
        for (block, found) in (first..).zip(data.chunks_exact(BLOCK)) {
            let expected = content(blocks.get(&block).copied().unwrap_or(0));
            assert!(found == expected, "block {block} of {snapshot}");
        }
    }
    let _ = server.cli_ok(&["delete", "volume", "--name", &format!("check-{snapshot}")]);
}

/// A block of noise; of zeroes for 0.
fn content(noise: u64) -> Vec<u8> {
    let mut state = noise;
    let mut data = Vec::with_capacity(BLOCK);
    while data.len() < BLOCK {
        state = if noise == 0 { 0 } else { state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) };
        data.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    data
}

/// The UUID of a stream, which its header has as JSON.
fn stream_of(file: &[u8]) -> String {
    let head = String::from_utf8_lossy(&file[..4096]);
    let (_, after) = head.split_once("\"stream\":\"").expect("a stream's header");
    after[..36].to_owned()
}

fn nsid(volume: &Value) -> u32 {
    u32::try_from(volume["nsid"].as_u64().expect("nsid")).expect("an NSID")
}

fn names(server: &Server) -> Vec<String> {
    let volumes = server.client().get("/api/v2/projects/default/volumes");
    let mut names: Vec<String> = Vec::new();
    for volume in volumes["volumes"].as_array().expect("volumes") {
        names.push(volume["name"].as_str().expect("a name").to_owned());
    }
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Starts the command line as a client of a server, with pipes.
fn spawn(server: &Server, words: &[&str]) -> Child {
    Command::new(binary())
        .args(words)
        .args(["--endpoint", &server.endpoint(), "--insecure-skip-tls-verify"])
        .env("FERRULE_JWT", server.token("system.jwt"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run ferrule")
}

#[test]
fn full_and_incremental_streams_give_the_same_content_elsewhere() {
    let mut source = Source::new(64 * MIB);
    let target = target();
    source.write(0, 700, 1);
    source.write(5_000, 300, 2);
    source.write(16_383, 1, 3);
    source.snapshot("s1");
    let first = source.blocks.clone();
    source.write(100, 10, 4);
    source.drop_blocks(5_000, 200);
    source.write(300, 5, 0);
    source.snapshot("s2");
    let second = source.blocks.clone();
    let _ = source.server.cli_ok(&["update", "volume", "--name", "v1", "--size", "96MiB"]);
    source.write(20_000, 50, 5);
    source.snapshot("s3");
    let third = source.blocks.clone();
    // What is written afterwards is in none of them.
    source.write(0, 50, 6);

    let full = source.export("s1", None, "full");
    let one = source.export("s2", Some("s1"), "one");
    let two = source.export("s3", Some("s2"), "two");
    let size = |file: &Path| std::fs::metadata(file).expect("a stream").len();
    assert!(size(&full) > 1_000 * BLOCK as u64, "{}", size(&full));
    assert!(
        size(&one) < 20 * BLOCK as u64 && size(&two) < 60 * BLOCK as u64,
        "{} {}",
        size(&one),
        size(&two)
    );

    import_fails(&target, &[text(&one)], "import that");
    import_ok(&target, &full);
    check(&target, "s1", 64 * MIB, &first);
    // Not out of turn, not twice, not onto what was written since; and nothing of it changes anything.
    import_fails(&target, &[text(&two)], "was not imported into this volume");
    import_fails(&target, &["--snapshot-name", "again", text(&full)], "there is data in the volume");
    import_ok(&target, &one);
    check(&target, "s2", 64 * MIB, &second);
    import_fails(&target, &["--snapshot-name", "again", text(&one)], "something was written since");
    let copy = target.client().get("/api/v2/projects/default/volumes/?name=copy");
    let _ = target.cli_ok(&["update", "volume", "--name", "copy", "--acl", "ALLOW_ANY"]);
    import_fails(&target, &[text(&two)], "hosts may use the volume");
    let association = Association::connect(&Identity::new(target.port, &target.nqn(), 3));
    let mut queue = association.io_queue(1);
    let _ = queue.write(nsid(&copy), 7, BLOCK, &content(99)).expect_success("write");
    let _ = target.cli_ok(&["update", "volume", "--name", "copy", "--acl", "ALLOW_NONE"]);
    import_fails(&target, &[text(&two)], "something was written since");
    let _ = target.cli_ok(&["rollback", "volume", "--name", "copy", "--source-snapshot-name", "s2"]);
    import_ok(&target, &two);
    check(&target, "s3", 96 * MIB, &third);
    check(&target, "s1", 64 * MIB, &first);
    assert_eq!(names(&target), ["copy"]);
}

#[test]
fn a_stream_goes_through_a_pipe_into_a_volume_that_is_there() {
    let mut source = Source::new(32 * MIB);
    let target = target();
    source.write(0, 500, 1);
    source.snapshot("s1");
    let _ = target.cli_ok(&["create", "volume", "--name", "copy", "--size", "32MiB", "--acl", "ALLOW_NONE"]);
    let mut from = spawn(&source.server, &["export", "snapshot", "--name", "s1", "-"]);
    let mut to = spawn(&target, &["import", "volume", "--name", "copy", "--acl", "ALLOW_ANY", "-"]);
    let mut output = from.stdout.take().expect("a pipe");
    std::io::copy(&mut output, &mut to.stdin.take().expect("a pipe")).expect("carry the stream");
    assert!(from.wait().expect("export ends").success());
    let said = to.wait_with_output().expect("import ends");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    check(&target, "s1", 32 * MIB, &source.blocks);
    let copy = target.client().get("/api/v2/projects/default/volumes/?name=copy");
    assert_eq!(copy["acl"]["values"], json!(["ALLOW_ANY"]));
}

#[test]
fn what_was_killed_or_interrupted_goes_on_where_it_stopped() {
    let mut source = Source::new(64 * MIB);
    let target = target();
    source.write(0, 8_000, 1);
    source.snapshot("s1");
    source.write(0, 10, 2);
    source.snapshot("s2");
    source.blocks.extend((0..10).map(|block| (block, 1 + block)));
    // A pipe that nobody empties stops the export, so that it dies in the middle wherever the machine is slow.
    let file = source.file("stream");
    let mut child = spawn(&source.server, &["export", "snapshot", "--name", "s1", "-"]);
    let mut part = vec![0; 9_000_000];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut part).expect("part of the stream");
    child.kill().expect("kill the export");
    child.wait().expect("the export ends");
    assert_eq!(names(&source.server).len(), 2, "a clone is left");
    std::fs::write(&file, &part).expect("keep the part");
    import_fails(&target, &[text(&file)], "the image stream ends after 9000000 bytes");
    let refused = source.server.cli(&["export", "snapshot", "--name", "s1", text(&file)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--resume goes on with it"));
    let refused = source.server.cli(&["export", "snapshot", "--name", "s2", "--resume", text(&file)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs the same snapshots"));
    let _ = source.server.cli_ok(&["export", "snapshot", "--name", "s1", "--resume", text(&file)]);
    source.expect_no_clone();
    // Killed between its last byte and the clone's end: the same command takes the clone away.
    let clone = format!("export-{}", stream_of(&part));
    let _ = source.server.create_volume(&clone, 64 * MIB);
    let said = source.server.cli_ok(&["export", "snapshot", "--name", "s1", "--resume", text(&file)]);
    assert!(said.contains("is complete"), "{said}");
    source.expect_no_clone();

    // The part that was imported is not imported again, and only by who asks for that.
    import_fails(&target, &[text(&file)], "go on with it by --resume");
    let mut child = spawn(&target, &["import", "volume", "--name", "copy", "--resume", "-"]);
    let whole = std::fs::read(&file).expect("the stream");
    let half = whole.len() / 2;
    child.stdin.as_mut().expect("a pipe").write_all(&whole[..half]).expect("half of the stream");
    child.kill().expect("kill the import");
    child.wait().expect("the import ends");
    let _ = target.cli_ok(&["import", "volume", "--name", "copy", "--resume", text(&file)]);
    check(&target, "s1", 64 * MIB, &source.blocks);
    let _ = target.cli_ok(&["import", "volume", "--name", "copy", "--resume", text(&file)]);
}

#[test]
fn an_import_that_never_came_to_write_goes_on_in_a_volume_of_another_size() {
    let mut source = Source::new(64 * MIB);
    let target = target();
    source.write(0, 100, 1);
    source.snapshot("s1");
    let _ = source.server.cli_ok(&["update", "volume", "--name", "v1", "--size", "96MiB"]);
    source.write(20_000, 50, 2);
    source.snapshot("s2");
    import_ok(&target, &source.export("s1", None, "full"));
    let file = source.export("s2", Some("s1"), "one");
    let copy = || target.client().get("/api/v2/projects/default/volumes/?name=copy");
    let revision = |volume: &Value| volume["ETag"].as_str().and_then(|etag| etag.parse::<u64>().ok());
    let before = revision(&copy()).expect("an ETag");
    // Nothing listens there: the import ends when the volume is its own, before anything is written.
    import_fails(&target, &["--nvme-endpoint", "127.0.0.1:1", text(&file)], "127.0.0.1:1");
    // Size and access list are one change, so that no import is cut off in between.
    let taken = copy();
    assert_eq!((revision(&taken), &taken["size"]), (Some(before + 1), &json!((96 * MIB).to_string())));
    let _ = target.cli_ok(&["import", "volume", "--name", "copy", "--resume", text(&file)]);
    check(&target, "s2", 96 * MIB, &source.blocks);
}

#[test]
fn an_import_that_a_full_pool_stopped_leaves_no_gap() {
    let mut source = Source::new(64 * MIB);
    let target = target();
    source.write(0, 8_000, 1);
    source.snapshot("s1");
    // A chunk that needs room, and more that need none, as they give some back.
    source.write(0, CHUNK, 2);
    source.drop_blocks(CHUNK, 5 * CHUNK);
    source.snapshot("s2");
    import_ok(&target, &source.export("s1", None, "full"));
    let file = source.export("s2", Some("s1"), "one");

    let occupant = target.create_volume("occupant", 1024 * MIB);
    let association = Association::connect(&Identity::new(target.port, &target.nqn(), 3));
    let mut queue = association.io_queue(1);
    let (nsid, piece): (_, Vec<u8>) =
        (nsid(&occupant), (0..64).flat_map(|block| content(7 + block)).collect());
    let full = (0..1024 * MIB / BLOCK as u64).step_by(64).any(|block| {
        let status = queue.write(nsid, block, BLOCK, &piece).status;
        assert!(matches!(status, 0 | CAPACITY_EXCEEDED), "{status:#x}");
        status != 0
    });
    assert!(full, "a volume twice as large as its pool fills it");
    import_fails(&target, &[text(&file)], "Write");
    let copy = target.client().get("/api/v2/projects/default/volumes/?name=copy");
    assert_eq!(copy["acl"]["values"][1], "ferrule-import-chunks:0", "{copy}");

    drop(queue);
    drop(association);
    let _ = target.cli_ok(&["delete", "volume", "--name", "occupant"]);
    wait_until("there is room for the rest", Duration::from_secs(30), || {
        target.cli(&["import", "volume", "--name", "copy", "--resume", text(&file)]).status.success()
    });
    check(&target, "s2", 64 * MIB, &source.blocks);
}

#[test]
fn an_interrupt_takes_the_clone_away() {
    let mut source = Source::new(64 * MIB);
    source.write(0, 4_000, 1);
    source.snapshot("s1");
    let mut child = spawn(&source.server, &["export", "snapshot", "--name", "s1", "-"]);
    let mut part = vec![0; 1_000_000];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut part).expect("part of the stream");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("kill runs").success());
    let mut status = None;
    wait_until("the export ends", Duration::from_secs(20), || {
        status = child.try_wait().expect("ask for the status");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    wait_until("the clone is gone", Duration::from_secs(10), || names(&source.server) == ["v1"]);
}

#[test]
fn progress_shows_at_a_terminal_alone() {
    let mut source = Source::new(64 * MIB);
    source.write(0, 8_000, 1);
    source.snapshot("s1");
    let person = Person::of(&source.server).with("FERRULE_JWT", &source.server.token("system.jwt"));
    let said = person.on_terminal("", "export snapshot --name s1 watched");
    // Each time that the bar is drawn: how far it has come.
    let percents: BTreeSet<u64> =
        said.split(" %  ").filter_map(|before| before.rsplit(' ').next()?.parse().ok()).collect();
    assert!(said.contains("s1  ") && said.contains("of 64.00 MiB") && said.contains(" left"), "{said:?}");
    assert!(percents.len() > 2 && percents.iter().all(|percent| *percent <= 100), "{percents:?} in {said:?}");
    let silent = person.try_ferrule(&["export", "snapshot", "--name", "s1", "unwatched"]);
    assert!(silent.status.success());
    assert!(!String::from_utf8_lossy(&silent.stderr).contains('%'), "{silent:?}");
    let stream = |name: &str| std::fs::read(person.path(name)).expect("a stream");
    assert_eq!(stream("watched").len(), stream("unwatched").len());
}

#[test]
fn a_damaged_stream_is_refused_and_a_whole_one_mends_what_it_left() {
    let mut source = Source::new(32 * MIB);
    let target = target();
    source.write(0, 1_000, 1);
    source.snapshot("s1");
    let file = source.export("s1", None, "stream");
    let whole = std::fs::read(&file).expect("the stream");
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle] ^= 1;
    let wrong = source.file("damaged");
    std::fs::write(&wrong, &damaged).expect("damage the stream");
    import_fails(&target, &[text(&wrong)], "a checksum does not match");
    let _ = target.cli_ok(&["import", "volume", "--name", "copy", "--resume", text(&file)]);
    check(&target, "s1", 32 * MIB, &source.blocks);
    std::fs::write(&wrong, b"something else").expect("write");
    import_fails(&target, &[text(&wrong)], "no image stream");
}
