//! Nothing acknowledged is lost by `kill -9`, whenever it comes; and who may open a pool.
//!
//! Writers put blocks that say their own address and version, remember what was acknowledged, and are cut off by
//! the kill. After the restart every block holds a version between the acknowledged and the last one sent, whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::association::{Association, Identity, Payload, Queue, command, io};
use tests::seeds;
use tests::server::{Server, Setup};
use tests::wire::crc32c;

const BLOCK: usize = 4096;
const WRITERS: u16 = 8;
const BLOCKS_EACH: u64 = 256;

/// What one writer knows of its blocks.
#[derive(Debug, Clone)]
struct Ledger {
    first_lba: u64,
    /// Version that was acknowledged, per block.
    acknowledged: Vec<u32>,
    /// Version that was sent last and may still be found, per block.
    sent: Vec<u32>,
    /// Version that was given out last, per block.
    newest: Vec<u32>,
    random: u64,
}

impl Ledger {
    fn new(writer: u16, seed: u64) -> Self {
        let count = usize::try_from(BLOCKS_EACH).unwrap();
        Self {
            first_lba: u64::from(writer) * BLOCKS_EACH,
            acknowledged: vec![0; count],
            sent: vec![0; count],
            newest: vec![0; count],
            random: seed ^ u64::from(writer) << 32 | 1,
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        // Xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Writes until the connection ends; returns how many writes were acknowledged.
    fn write_until_cut(&mut self, queue: &mut Queue, nsid: u32, stop: &AtomicBool) -> u32 {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let at = self.next(BLOCKS_EACH);
            let length = 1 + self.next(16.min(BLOCKS_EACH - at));
            let range = usize::try_from(at).unwrap()..usize::try_from(at + length).unwrap();
            let mut data = Vec::with_capacity(range.len() * BLOCK);
            for index in range.clone() {
                self.newest[index] += 1;
                self.sent[index] = self.newest[index];
                data.extend_from_slice(&block(self.first_lba + index as u64, self.sent[index]));
            }
            let entry = io(0x01, nsid, self.first_lba + at, range.len());
            let payload =
                if data.len() <= BLOCK { Payload::InCapsule(&data) } else { Payload::Fetched(&data) };
            match queue.try_run(entry, payload) {
                Ok(reply) => assert_eq!(reply.status, 0, "write: status {:03X}h", reply.status),
                Err(_) => break,
            }
            for index in range {
                self.acknowledged[index] = self.sent[index];
            }
            count += 1;
        }
        count
    }

    /// Reads every block back; what is found becomes what is known, and what was lost must not rise again.
    fn check(&mut self, queue: &mut Queue, nsid: u32) {
        for index in 0..self.sent.len() {
            let lba = self.first_lba + index as u64;
            let data = queue.read(nsid, lba, BLOCK, BLOCK).expect_success("read").data;
            let version = u32::from_le_bytes(data[8..12].try_into().unwrap());
            let (low, high) = (self.acknowledged[index], self.sent[index]);
            assert!(
                (low..=high).contains(&version),
                "LBA {lba}: version {version} found, {low} acknowledged, {high} sent"
            );
            if version > 0 {
                assert!(data == block(lba, version), "LBA {lba}: version {version} is torn");
            } else {
                assert!(data.iter().all(|byte| *byte == 0), "LBA {lba}: neither written nor zero");
            }
            self.acknowledged[index] = version;
            self.sent[index] = version;
        }
    }
}

/// A block that says where it belongs and which version it is, checksummed.
fn block(lba: u64, version: u32) -> Vec<u8> {
    let mut data = vec![0; BLOCK];
    data[..8].copy_from_slice(&lba.to_le_bytes());
    data[8..12].copy_from_slice(&version.to_le_bytes());
    // One half is noise, so that a compressing store has both kinds of content.
    let mut noise = lba << 32 | u64::from(version) | 1 << 63;
    for chunk in data[BLOCK / 2..BLOCK - 4].chunks_mut(8) {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&noise.to_le_bytes()[..chunk.len()]);
    }
    let sum = crc32c(&data[..BLOCK - 4]);
    data[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
    data
}

#[test]
fn acknowledged_writes_survive_every_kill() {
    let seed = seeds::one(u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut server = Server::start(&Setup { pool_mib: 1024, ..Setup::default() });
    let volume = server.create_volume("v1", u64::from(WRITERS) * BLOCKS_EACH * BLOCK as u64);
    let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
    let identity = Identity::new(server.port, &server.nqn(), 1);
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|writer| Ledger::new(writer, seed)).collect();
    let mut total = 0;
    for round in 0..12_u64 {
        let association = Association::connect(&identity);
        let queues: Vec<Queue> = (1..=WRITERS).map(|qid| association.io_queue(qid)).collect();
        let stop = AtomicBool::new(false);
        total += std::thread::scope(|scope| {
            let writers: Vec<_> = ledgers
                .iter_mut()
                .zip(queues)
                .map(|(ledger, mut queue)| {
                    let stop = &stop;
                    scope.spawn(move || ledger.write_until_cut(&mut queue, nsid, stop))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(150 + (seed >> (round * 5) & 31) * 40));
            server.kill();
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u32>()
        });
        // At once: the lock of the killed server must not be in the way.
        server.restart();
        let association = Association::connect(&identity);
        let mut queue = association.io_queue(1);
        for ledger in &mut ledgers {
            ledger.check(&mut queue, nsid);
        }
    }
    println!("{total} writes acknowledged over all kills");
    assert!(total > 500, "only {total} writes were acknowledged: the test says little");
}

#[test]
fn trimmed_and_zeroed_blocks_stay_so_after_a_kill() {
    let mut server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 << 20);
    let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
    let identity = Identity::new(server.port, &server.nqn(), 1);
    {
        let association = Association::connect(&identity);
        let mut queue = association.io_queue(1);
        for lba in (0..2048).step_by(32) {
            let _ = queue.write(nsid, lba, BLOCK, &vec![0xA5; 32 * BLOCK]).expect_success("write");
        }
        let _ = queue.run(io(0x08, nsid, 100, 700), Payload::None).expect_success("Write Zeroes");
        let mut ranges = vec![0; 16];
        ranges[4..8].copy_from_slice(&500_u32.to_le_bytes());
        ranges[8..16].copy_from_slice(&1000_u64.to_le_bytes());
        let mut entry = command(0x09, nsid);
        entry[44] = 0x04;
        let _ = queue.run(entry, Payload::InCapsule(&ranges)).expect_success("DSM");
        let _ =
            queue.write(nsid, 1200, BLOCK, &vec![0x5A; BLOCK]).expect_success("write over the trimmed range");
    }
    server.kill();
    server.restart();
    let association = Association::connect(&identity);
    let mut queue = association.io_queue(1);
    for lba in 0..2048_u64 {
        let data = queue.read(nsid, lba, BLOCK, BLOCK).expect_success("read").data;
        let expected = match lba {
            1200 => 0x5A,
            100..800 | 1000..1500 => 0,
            _ => 0xA5,
        };
        assert!(data.iter().all(|byte| *byte == expected), "LBA {lba}: {:02X}, not {expected:02X}", data[0]);
    }
}

#[test]
fn lone_partial_writes_are_answered_and_survive_a_kill() {
    let mut server = Server::start(&Setup::default());
    let volume = server.create_volume_with(&json!({
        "name": "small", "size": (16 << 20).to_string(), "acl": {"values": ["ALLOW_ANY"]},
        "replicaCount": 1, "sectorSize": 512
    }));
    let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
    let identity = Identity::new(server.port, &server.nqn(), 1);
    let sector = |number: u64| vec![(number % 251) as u8 + 1; 512];
    {
        let association = Association::connect(&identity);
        let mut queue = association.io_queue(1);
        // Nothing else is under way: no other command may be needed to move these along.
        for number in 0..200_u64 {
            let _ = queue.write(nsid, number * 5, 512, &sector(number)).expect_success("write of one sector");
        }
        // Part of a block becomes zeroes.
        let _ =
            queue.run(io(0x08, nsid, 3, 3), Payload::None).expect_success("Write Zeroes of three sectors");
    }
    server.kill();
    server.restart();
    let association = Association::connect(&identity);
    let mut queue = association.io_queue(1);
    for lba in 0..1000_u64 {
        let data = queue.read(nsid, lba, 512, 512).expect_success("read").data;
        let expected = if lba % 5 == 0 && lba != 5 { sector(lba / 5) } else { vec![0; 512] };
        assert!(data == expected, "LBA {lba}: {:02X}, not {:02X}", data[0], expected[0]);
    }
}

#[test]
fn volumes_created_and_deleted_are_so_after_a_kill() {
    let mut server = Server::start(&Setup::default());
    let mut kept = Vec::new();
    for number in 0..12 {
        let volume = server.create_volume(&format!("v{number}"), 16 << 20);
        if number % 3 == 0 {
            server.client().delete(&tests::server::volume_path(&volume));
        } else {
            kept.push(volume["UUID"].as_str().unwrap().to_owned());
        }
        if number % 4 == 3 {
            server.kill();
            server.restart();
        }
    }
    let listed = server.client().get("/api/v2/volumes?projectName=default");
    let mut listed: Vec<String> = listed["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|volume| volume["state"] != "Deleting" && volume["state"] != "Deleted")
        .map(|volume| volume["UUID"].as_str().unwrap().to_owned())
        .collect();
    listed.sort();
    kept.sort();
    assert_eq!(listed, kept);
}

#[test]
fn second_server_on_a_pool_is_refused_and_harms_nothing() {
    let mut server = Server::start(&Setup::default());
    let _ = server.create_volume("v1", 16 << 20);
    let output = server.run_rival();
    assert!(!output.status.success());
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let lower = said.to_lowercase();
    assert!(
        lower.contains("lock") || lower.contains("in use") || lower.contains("another"),
        "it says why: {said}"
    );
    assert!(said.contains("pool"), "it says which: {said}");
    server.expect_running();
    let _ = server.create_volume("v2", 16 << 20);
    // With the first gone, by whatever way, the pool is free at once.
    server.kill();
    server.restart();
    assert!(server.terminate().success());
    server.restart();
}

#[test]
fn foreign_file_is_not_taken_for_a_pool() {
    let mut server = Server::prepare(&Setup::default());
    let content = vec![0xC3; 8 << 20];
    std::fs::write(server.pool(), &content).unwrap();
    // Without a size the file is to be opened as it is.
    let pool = server.pool().display().to_string();
    for argument in server.arguments() {
        if argument.starts_with(&pool) {
            argument.clone_from(&pool);
        }
    }
    server.launch();
    let said = server.expect_refusal(Duration::from_secs(20));
    assert!(said.contains(&pool), "it says which file: {said}");
    assert!(std::fs::read(server.pool()).unwrap() == content, "the foreign file was changed");
}

/// 128 KiB that do not compress, and are others at each place.
fn noise(lba: u64) -> Vec<u8> {
    let mut state = lba ^ 0x9E37_79B9_7F4A_7C15;
    let words = (0..(128 << 10) / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// Writes these 128 KiB of a volume.
fn write_noise(identity: &Identity, nsid: u32, chunks: std::ops::Range<u64>) {
    let association = Association::connect(identity);
    let mut queue = association.io_queue(1);
    for lba in chunks.map(|chunk| chunk * 32) {
        let _ = queue.write(nsid, lba, BLOCK, &noise(lba)).expect_success("write");
    }
}

/// The pool has two drives, and the first `chunks` of a volume are what [`write_noise`] wrote.
fn expect_two_drives_with_noise(server: &Server, identity: &Identity, nsid: u32, chunks: u64) {
    let devices = server.client().get("/api/v2/nvmeDevices");
    assert_eq!(devices["NvmeDevices"].as_array().map(Vec::len), Some(2), "{devices}");
    let association = Association::connect(identity);
    let mut queue = association.io_queue(1);
    for lba in (0..chunks).map(|chunk| chunk * 32) {
        let data = queue.read(nsid, lba, BLOCK, 32 * BLOCK).expect_success("read").data;
        assert!(data == noise(lba), "LBA {lba} is not what was written");
    }
}

#[test]
fn a_drive_joins_a_pool_that_is_written_and_is_there_after_a_kill() {
    let mut server = Server::start(&Setup { reactors: "2", ..Setup::small() });
    let volume = server.create_volume("v1", 1 << 30);
    let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
    let identity = Identity::new(server.port, &server.nqn(), 1);
    let node = server.client().get("/api/v2/nvmeDevices")["NvmeDevices"][0]["nodeUUID"].clone();
    let added = server.pool().with_file_name("added");
    let add = |path: &std::path::Path| {
        let body = json!({ "serialNumber": path.display().to_string(), "nodeUUID": node });
        server.client().send("POST", "/api/v2/nvmeDevices", &[], Some(&body))
    };
    assert_eq!(add(&added).status, 404);
    let file = std::fs::File::create(&added).unwrap();
    file.set_len(64 << 20).unwrap();
    let refused = add(&added);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("too few"), "{}", refused.body);
    file.set_len(512 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"file system", 1080).unwrap();
    let refused = add(&added);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("not blank"), "{}", refused.body);
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 11], 1080).unwrap();

    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_noise(&identity, nsid, 0..2400));
        let joined = add(&added);
        assert_eq!(joined.status, 200, "{}", joined.body);
        assert_eq!(add(&added).status, 409);
        // More than the first drive could hold.
        writer.join().unwrap();
    });
    server.kill();
    server.restart();
    expect_two_drives_with_noise(&server, &identity, nsid, 2400);
}

#[test]
fn another_drive_joins_a_pool_and_takes_data() {
    let mut server = Server::start(&Setup::small());
    let volume = server.create_volume("v1", 1 << 30);
    let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
    let identity = Identity::new(server.port, &server.nqn(), 1);
    write_noise(&identity, nsid, 0..400);
    server.kill();
    let second = format!("{}-2:256MiB", server.pool().display());
    server.arguments().extend(["--pool".to_owned(), second]);
    server.restart();
    // More than the first drive could hold.
    write_noise(&identity, nsid, 400..2400);
    server.kill();
    server.restart();
    expect_two_drives_with_noise(&server, &identity, nsid, 2400);
    // From now on the pool is not whole without it.
    assert!(server.terminate().success());
    let first_only = server.arguments().len() - 2;
    server.arguments().truncate(first_only);
    server.launch();
    let said = server.expect_refusal(Duration::from_secs(20));
    assert!(said.contains("the pool has 2 drives and these were not given: 1"), "{said}");
    // Numbers alone tell an operator nothing.
    let path = server.pool().display().to_string();
    assert!(said.contains(&format!("(drive 0: {path})")), "{said}");
}
