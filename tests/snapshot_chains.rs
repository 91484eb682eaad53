//! Long chains of snapshots through REST: taken between writes, deleted in any order, each as it was at its time.
//!
//! `SNAPSHOTS=1000 FERRULE_SEED=7 cargo test -p tests --test snapshot_chains` takes longer chains and other orders.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tests::association::{Association, Identity, Queue};
use tests::scratch::wait_until;
use tests::seeds;
use tests::server::{Server, Setup};

const MIB: u64 = 1024 * 1024;
const BLOCK: usize = 4096;
const BLOCKS: u64 = 64 * MIB / BLOCK as u64;
const PATH: &str = "/api/v2/projects/default/snapshots";
/// Writes between two snapshots.
const WRITES: u64 = 8;

/// A pseudo-random sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn chains_of_snapshots_are_deleted_in_any_order_and_keep_what_they_hold() {
    let count = seeds::number("SNAPSHOTS", 60);
    println!("{count} snapshots");
    let mut random = Random(seeds::one(1));
    let mut server = Server::start(&Setup { pool_mib: 512, ..Setup::default() });
    let volume = server.create_volume("v1", 64 * MIB);
    let (association, mut queue) = attach(&server, 1);
    // Which write each block is of, in the volume and in each snapshot.
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    let mut kept: BTreeMap<u64, (String, BTreeMap<u64, u64>)> = BTreeMap::new();
    for number in 0..count {
        for write in 0..WRITES {
            let (block, version) = (random.below(BLOCKS), number * WRITES + write + 1);
            let _ = queue.write(nsid(&volume), block, BLOCK, &content(version)).expect_success("write");
            live.insert(block, version);
        }
        let body = json!({"name": format!("s{number}"), "sourceVolumeName": "v1"});
        let taken = server.client().post(PATH, &body);
        kept.insert(number, (text(&taken, "UUID"), live.clone()));
    }
    drop((association, queue));
    assert_eq!(listed(&server), kept.len());
    let checks = 12;
    for left in (0..count).rev() {
        let (&number, _) = kept.iter().nth(random.below(left + 1) as usize).expect("one is left");
        let (uuid, _) = kept.remove(&number).expect("it is there");
        server.client().delete(&format!("{PATH}/{uuid}"));
        if left == count / 2 {
            server.kill();
            server.restart();
        }
        if left % (count / checks).max(1) == 0 && left > 0 {
            let (number, (_, expected)) = kept.iter().nth(random.below(left) as usize).expect("one is left");
            check(&server, *number, expected);
        }
    }
    wait_until("all are gone", Duration::from_secs(60), || listed(&server) == 0);
    let (_association, mut queue) = attach(&server, 2);
    compare(&mut queue, nsid(&volume), &live);
}

#[test]
fn a_snapshot_goes_by_itself_when_its_time_is_over() {
    let server = Server::start(&Setup::small());
    let _ = server.create_volume("v1", 4 * MIB);
    let client = server.client();
    for (name, retention) in [("short", "1s"), ("long", "1h"), ("kept", "0s")] {
        let body = json!({"name": name, "sourceVolumeName": "v1", "retentionTime": retention});
        assert_eq!(client.post(PATH, &body)["retentionTime"], retention.replace("1h", "3600s").as_str());
    }
    wait_until("the first is gone", Duration::from_secs(30), || listed(&server) == 2);
    for name in ["long", "kept"] {
        assert_eq!(client.get(&format!("{PATH}/?Name={name}"))["state"], "Available");
    }
}

#[test]
fn only_snapshots_of_one_chain_are_compared_or_exported() {
    let mut server = Server::start(&Setup::small());
    let clone_of = |server: &Server, name: &str, snapshot: &str| {
        server.create_volume_with(&json!({
            "name": name, "size": (8 * MIB).to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1,
            "sourceSnapshotName": snapshot
        }))
    };
    // Each snapshot has one block more than the one before it in its volume.
    let take = |server: &Server, volume: &Value, block: u64, name: &str| {
        let (_association, mut queue) = attach(server, 4);
        let _ = queue.write(nsid(volume), block, BLOCK, &content(block + 1)).expect_success("write");
        let body = json!({"name": name, "sourceVolumeName": text(volume, "name")});
        text(&server.client().post(PATH, &body), "UUID")
    };
    let volume = server.create_volume("v", 8 * MIB);
    let v1 = take(&server, &volume, 0, "v1");
    let v2 = take(&server, &volume, 1, "v2");
    let clone = clone_of(&server, "c", "v1");
    let c1 = take(&server, &clone, 2, "c1");
    let v3 = take(&server, &volume, 3, "v3");
    let deeper = clone_of(&server, "d", "c1");
    let d1 = take(&server, &deeper, 4, "d1");
    // What is known of a chain outlives its volumes, and a rollback leaves a volume's snapshots in one.
    let _ = server.cli_ok(&["delete", "volume", "--name", "d"]);
    let _ = server.cli_ok(&["rollback", "volume", "--name", "v", "--source-snapshot-name", "v1"]);
    let v4 = take(&server, &volume, 5, "v4");
    server.kill();
    server.restart();

    let diff = |snapshot: &str, base: &str| {
        server.client().send("GET", &format!("{PATH}/diff/{snapshot}?baseSnapshotUUID={base}"), &[], None)
    };
    let taken = [
        (&v2, &v1, 0b10_u64),
        (&v3, &v1, 0b1010),
        (&v4, &v1, 0b10_0000),
        (&v4, &v3, 0b10_1010),
        (&c1, &v1, 0b100),
        (&d1, &c1, 0b1_0000),
        (&d1, &v1, 0b1_0100),
    ];
    for (snapshot, base, blocks) in taken {
        let answer = diff(snapshot, base).expect_ok();
        assert_eq!(answer["lbaRanges"][0]["dataBitMap"], base64_of(blocks), "{answer}");
    }
    for (snapshot, base) in
        [(&c1, &v2), (&v3, &c1), (&d1, &v2), (&d1, &v3), (&v1, &v2), (&v1, &c1), (&v1, &v1)]
    {
        let answer = diff(snapshot, base);
        assert!(answer.text.contains("baseSnapshotUUID: "), "{}", answer.text);
        answer.expect_error(400, 3);
    }
    let words = ["list", "changed-blocks", "-o", "json", "--current-snapshot-name"];
    let changed = server.cli_ok(&[&words[..], &["d1", "--base-snapshot-name", "v1"]].concat());
    assert!(changed.contains(&base64_of(0b1_0100)), "{changed}");
    let file = server.state().join("d1.image");
    let file = file.to_str().expect("a path is text");
    for words in [
        &[&words[..], &["c1", "--base-snapshot-name", "v2"]].concat(),
        &vec!["export", "snapshot", "--name", "c1", "--base", "v2", file],
    ] {
        let output = server.cli(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?} was taken");
        assert!(
            said.contains("an older snapshot of the same volume, or one that the volume comes from"),
            "{said}"
        );
    }
    // What is refused leaves no file behind that would be in the way of this.
    let _ = server.cli_ok(&["export", "snapshot", "--name", "d1", "--base", "v1", file]);
}

/// A word of a diff, as REST tells it.
fn base64_of(blocks: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for bytes in blocks.to_le_bytes().chunks(3) {
        let bits =
            bytes.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - bytes.len()));
        let digits = (0..=bytes.len()).map(|at| char::from(DIGITS[bits >> (18 - 6 * at) & 63]));
        text.extend(digits);
        text.extend(std::iter::repeat_n('=', 3 - bytes.len()));
    }
    text
}

/// Compares a snapshot, by a clone, with what must be in it.
fn check(server: &Server, number: u64, expected: &BTreeMap<u64, u64>) {
    let name = format!("check-{number}");
    let clone = server.create_volume_with(&json!({
        "name": name, "size": (64 * MIB).to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1,
        "sourceSnapshotName": format!("s{number}")
    }));
    let (_association, mut queue) = attach(server, 3);
    compare(&mut queue, nsid(&clone), expected);
    drop(queue);
    let _ = server.cli_ok(&["delete", "volume", "--name", &name]);
}

fn compare(queue: &mut Queue, nsid: u32, expected: &BTreeMap<u64, u64>) {
    let piece = 128;
    for first in (0..BLOCKS).step_by(piece) {
        let data = queue.read(nsid, first, BLOCK, piece * BLOCK).expect_success("read").data;
        for (block, found) in (first..).zip(data.chunks_exact(BLOCK)) {
            let version = expected.get(&block).copied().unwrap_or(0);
            assert!(found == content(version), "block {block} is not of write {version}");
        }
    }
}

/// An I/O queue, and the association that it lives with.
fn attach(server: &Server, host: u8) -> (Association, Queue) {
    let association = Association::connect(&Identity::new(server.port, &server.nqn(), host));
    let queue = association.io_queue(1);
    (association, queue)
}

/// Snapshots that there are, those that are being deleted too.
fn listed(server: &Server) -> usize {
    let answer = server.client().get(&format!("{PATH}?showAll=true"));
    answer["snapshots"].as_array().expect("a list").len()
}

/// What a write leaves in a block; of zeroes for 0.
fn content(version: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(BLOCK / 8)
}

fn nsid(volume: &Value) -> u32 {
    u32::try_from(volume["nsid"].as_u64().expect("nsid")).expect("an NSID")
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().expect("text").to_owned()
}
