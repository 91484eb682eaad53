//! A pool of finite size: it can be overwritten for ever, says so when it is full, and recovers by itself.

use std::time::Duration;

use tests::association::{Association, Identity, Payload, Queue, command, io};
use tests::scratch::wait_until;
use tests::server::{Server, Setup};

const BLOCK: usize = 4096;
const MIB: u64 = 1024 * 1024;
const PIECE: usize = 256 * 1024;
/// Command-specific to no command set: Generic Command Status, Capacity Exceeded.
const CAPACITY_EXCEEDED: u16 = 0x081;

struct Scene {
    server: Server,
    association: Association,
    nsid: u32,
}

impl Scene {
    /// A small pool and a volume on it that may be larger: volumes are thin.
    fn new(volume_bytes: u64) -> Self {
        let server = Server::start(&Setup { pool_mib: 512, ..Setup::default() });
        let volume = server.create_volume("v1", volume_bytes);
        let nsid = u32::try_from(volume["nsid"].as_u64().expect("nsid")).expect("an NSID");
        let association = Association::connect(&Identity::new(server.port, &server.nqn(), 1));
        Self { server, association, nsid }
    }
}

/// Content that no compression shrinks, different for each place and round.
fn noise(place: u64, round: u64) -> Vec<u8> {
    let mut state = place << 20 ^ round << 1 | 1;
    let mut data = Vec::with_capacity(PIECE);
    while data.len() < PIECE {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        data.extend_from_slice(&(mixed ^ mixed >> 27).to_le_bytes());
    }
    data
}

/// Writes one piece; returns the status.
fn write(queue: &mut Queue, nsid: u32, place: u64, round: u64) -> u16 {
    let lba = place * (PIECE / BLOCK) as u64;
    queue.write(nsid, lba, BLOCK, &noise(place, round)).status
}

/// Reads one piece back and compares it.
fn check(queue: &mut Queue, nsid: u32, place: u64, round: u64) {
    let lba = place * (PIECE / BLOCK) as u64;
    let data = queue.read(nsid, lba, BLOCK, PIECE).expect_success("read").data;
    assert!(data == noise(place, round), "piece {place} of round {round}");
}

#[test]
fn pool_is_overwritten_many_times_its_size() {
    let mut scene = Scene::new(128 * MIB);
    let mut queue = scene.association.io_queue(1);
    let pieces = 128 * MIB / PIECE as u64;
    // Four times the pool's size in all, of which a quarter is live.
    let rounds = 16;
    for round in 0..rounds {
        for place in 0..pieces {
            assert_eq!(write(&mut queue, scene.nsid, place, round), 0, "round {round}, piece {place}");
        }
    }
    for place in 0..pieces {
        check(&mut queue, scene.nsid, place, rounds - 1);
    }
    // What the cleaning moved is there after a crash too.
    scene.server.kill();
    scene.server.restart();
    let association = Association::connect(&scene.association.identity);
    let mut queue = association.io_queue(1);
    for place in 0..pieces {
        check(&mut queue, scene.nsid, place, rounds - 1);
    }
}

#[test]
fn full_pool_says_so_and_recovers_by_itself() {
    let mut scene = Scene::new(1024 * MIB);
    let mut queue = scene.association.io_queue(1);
    let pieces = 1024 * MIB / PIECE as u64;
    let full_at = (0..pieces).find(|place| match write(&mut queue, scene.nsid, *place, 0) {
        0 => false,
        status => {
            assert_eq!(status, CAPACITY_EXCEEDED, "piece {place}");
            true
        }
    });
    let full_at = full_at.expect("a volume twice as large as its pool fills it");
    assert!(full_at * PIECE as u64 > 256 * MIB, "half of the pool at least is for data: {full_at} pieces");
    // What was acknowledged is there, whatever was refused; also after a crash with a full pool.
    for place in (0..full_at).step_by(7) {
        check(&mut queue, scene.nsid, place, 0);
    }
    scene.server.kill();
    scene.server.restart();
    scene.association = Association::connect(&scene.association.identity);
    let mut queue = scene.association.io_queue(1);
    for place in (0..full_at).step_by(5) {
        check(&mut queue, scene.nsid, place, 0);
    }
    // Room comes back by a TRIM of half of it, and nobody has to restart anything.
    let half = full_at / 2;
    let mut ranges = vec![0; 16];
    let blocks = u32::try_from(half * (PIECE / BLOCK) as u64).expect("below 16 TiB");
    ranges[4..8].copy_from_slice(&blocks.to_le_bytes());
    let mut deallocate = command(0x09, scene.nsid);
    deallocate[44] = 0x04;
    let _ = queue.run(deallocate, Payload::InCapsule(&ranges)).expect_success("DSM on a full pool");
    wait_until("the pool takes writes again", Duration::from_secs(30), || {
        write(&mut queue, scene.nsid, 0, 1) == 0
    });
    for place in 0..half / 2 {
        wait_until("room for one more", Duration::from_secs(10), || {
            write(&mut queue, scene.nsid, place, 2) == 0
        });
    }
    for place in 0..half / 2 {
        check(&mut queue, scene.nsid, place, 2);
    }
    for place in (half..full_at).step_by(11) {
        check(&mut queue, scene.nsid, place, 0);
    }
}

#[test]
fn a_host_is_told_how_much_of_a_thin_volume_is_allocated() {
    let mut scene = Scene::new(64 * MIB);
    let mut queue = scene.association.io_queue(1);
    let blocks = (PIECE / BLOCK) as u64;
    // NSZE, NCAP and NUSE, and whether NSFEAT says that the namespace is thin.
    let told = |scene: &mut Scene| {
        let data = scene.association.identify(0x00, scene.nsid);
        let field = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!((field(0), field(8), data[24] & 1), (64 * MIB / BLOCK as u64, 64 * MIB / BLOCK as u64, 1));
        field(16)
    };
    assert_eq!(told(&mut scene), 0);
    for place in [0, 1, 7, 7] {
        write(&mut queue, scene.nsid, place, 0);
    }
    assert_eq!(told(&mut scene), 3 * blocks);
    // Half of a piece is deallocated by Write Zeroes.
    let mut entry = io(0x08, scene.nsid, 7 * blocks, PIECE / BLOCK / 2);
    entry[51] |= 0x02;
    let _ = queue.run(entry, Payload::None).expect_success("Write Zeroes");
    assert_eq!(told(&mut scene), 2 * blocks + blocks / 2);
    let body = serde_json::json!({"name": "s", "sourceVolumeName": "v1"});
    let client = scene.server.client();
    let _ = client.post("/api/v2/projects/default/snapshots", &body);
    write(&mut queue, scene.nsid, 2, 1);
    assert_eq!(told(&mut scene), 3 * blocks + blocks / 2);
    // A rollback gives back what is no longer there.
    let volumes = client.get("/api/v2/projects/default/volumes");
    let uuid = volumes["volumes"][0]["UUID"].as_str().expect("a UUID");
    let rollback = format!("/api/v2/projects/default/volumes/{uuid}/rollback");
    client.put(&rollback, &serde_json::json!({"srcSnapshotName": "s"}));
    assert_eq!(told(&mut scene), 2 * blocks + blocks / 2);
}

#[test]
fn compression_is_switched_on_a_live_volume_and_counted() {
    let mut scene = Scene::new(64 * MIB);
    let client = scene.server.client();
    let mut queue = scene.association.io_queue(1);
    let path = "/api/v2/projects/default/volumes";
    let uuid = client.get(path)["volumes"][0]["UUID"].as_str().expect("a UUID").to_owned();
    let path = format!("{path}/{uuid}");
    let text: Vec<u8> = b"the same words over and over, ".iter().copied().cycle().take(PIECE).collect();
    let blocks = (PIECE / BLOCK) as u64;
    // What was stored before stays as it is, what is written then follows the setting.
    for (place, compression) in [(0, None), (1, Some("true")), (2, Some("false"))] {
        if let Some(compression) = compression {
            client.put(&path, &serde_json::json!({"compression": compression}));
        }
        let _ = queue.write(scene.nsid, place * blocks, BLOCK, &text).expect_success("write");
    }
    // A block of text takes one unit; on a drive with blocks of 4096 bytes nothing can be saved.
    let unit = if scene.server.log().contains("in blocks of 512") { 512 } else { BLOCK as u64 };
    let (logical, physical) = (3 * PIECE as u64, 2 * PIECE as u64 + blocks * unit);
    let ratio = logical as f64 / physical as f64;
    let is = |value: &serde_json::Value, bytes: u64| *value == bytes.to_string().as_str();
    let is_ratio = |value: &serde_json::Value| value.as_f64().is_some_and(|told| (told - ratio).abs() < 1e-6);
    wait_until("volume and pool tell of what was written", Duration::from_secs(20), || {
        let volume = client.get(&path)["statistics"].clone();
        let pool = client.get("/api/v2/cluster")["statistics"].clone();
        is(&volume["userWritten"], logical)
            && is(&volume["logicalUsedStorage"], logical)
            && is(&volume["physicalUsedStorage"], physical)
            && is(&pool["logicalUsedStorage"], logical)
            && [&volume, &pool].into_iter().all(|told| is_ratio(&told["compressionRatio"]))
    });
    scene.server.kill();
    scene.server.restart();
    let association = Association::connect(&scene.association.identity);
    let mut queue = association.io_queue(1);
    for place in 0..3 {
        let read = queue.read(scene.nsid, place * blocks, BLOCK, PIECE).expect_success("read").data;
        assert!(read == text, "piece {place}");
    }
}

#[test]
fn what_a_snapshot_or_volume_is_said_to_own_is_what_its_deletion_frees() {
    let scene = Scene::new(64 * MIB);
    let client = scene.server.client();
    let mut queue = scene.association.io_queue(1);
    let nsid = scene.nsid;
    let mut overwrite = |places: std::ops::Range<u64>, round| {
        places.for_each(|place| assert_eq!(write(&mut queue, nsid, place, round), 0, "piece {place}"));
    };
    let snapshots = "/api/v2/projects/default/snapshots";
    let take = |name: &str| {
        let body = serde_json::json!({"name": name, "sourceVolumeName": "v1"});
        format!("{snapshots}/{}", client.post(snapshots, &body)["UUID"].as_str().expect("a UUID"))
    };
    overwrite(0..8, 0);
    let first = take("first");
    overwrite(0..3, 1);
    let second = take("second");
    overwrite(2..5, 2);
    let volumes = "/api/v2/projects/default/volumes";
    let volume = format!("{volumes}/{}", client.get(volumes)["volumes"][0]["UUID"].as_str().expect("a UUID"));
    let bytes = |pieces: u64| (pieces * PIECE as u64).to_string();
    let expect_owned = |path: &str, pieces: u64| {
        wait_until("what it owns is told", Duration::from_secs(20), || {
            client.get(path)["statistics"]["physicalOwnedCapacity"] == bytes(pieces).as_str()
        });
    };
    let expect_used = |pieces: u64| {
        wait_until("as much was freed", Duration::from_secs(20), || {
            client.get("/api/v2/cluster")["statistics"]["physicalUsedStorage"] == bytes(pieces).as_str()
        });
    };
    expect_used(14);
    expect_owned(&first, 3);
    expect_owned(&second, 1);
    expect_owned(&volume, 3);
    client.delete(&first);
    expect_used(11);
    // What only the two snapshots had is the second's alone now.
    expect_owned(&second, 3);
    expect_owned(&volume, 3);
    client.delete(&second);
    expect_used(8);
    expect_owned(&volume, 8);
}
