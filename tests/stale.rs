//! A command that a host has given up must never run after the host's reconnect, wherever it was kept; nor one of
//! a host that was taken off the ACL.
//!
//! A proxy between host and target stops forwarding with a write inside, the host reconnects past it and writes
//! the same block anew, then the proxy goes on: the old write must not land.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::association::{Association, Identity, Payload, Queue, io};
use tests::proxy::Proxy;
use tests::server::{Server, Setup};
use tests::wire::{End, kind};

const BLOCK: usize = 4096;

struct Scene {
    server: Server,
    direct: Identity,
    proxied: Identity,
    proxy: Proxy,
    nsid: u32,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start(&Setup::default());
        let volume = server.create_volume("v1", 64 << 20);
        let nsid = u32::try_from(volume["nsid"].as_u64().unwrap()).unwrap();
        let direct = Identity::new(server.port, &server.nqn(), 1);
        let proxy = Proxy::before(direct.address);
        let proxied = Identity { address: proxy.address(), ..direct.clone() };
        Self { server, direct, proxied, proxy, nsid }
    }

    fn write(&self, queue: &mut Queue, lba: u64, byte: u8, length: usize) {
        let _ = queue.write(self.nsid, lba, BLOCK, &vec![byte; length]).expect_success("write");
    }

    fn expect(&self, queue: &mut Queue, lba: u64, byte: u8, length: usize) {
        let data = queue.read(self.nsid, lba, BLOCK, length).expect_success("read").data;
        assert!(
            data.iter().all(|is| *is == byte),
            "a stale write landed: {:02X} instead of {byte:02X}",
            data[0]
        );
    }
}

#[test]
fn write_kept_by_a_proxy_does_not_land_after_a_reconnect() {
    let scene = Scene::new();
    let old = Association::connect(&scene.proxied);
    let mut old_queue = old.io_queue(1);
    for lba in 0..8 {
        scene.write(&mut old_queue, lba, 0x01, BLOCK);
    }
    scene.proxy.stop();
    for lba in 0..8 {
        old_queue.submit(io(0x01, scene.nsid, lba, 1), Payload::InCapsule(&[0x02; BLOCK])).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    // The same host, past the proxy: its old association is over before this Connect is answered.
    let new = Association::connect(&scene.direct);
    let mut queue = new.io_queue(1);
    for lba in 0..8 {
        scene.write(&mut queue, lba, 0x03, BLOCK);
    }
    scene.proxy.go_on();
    std::thread::sleep(Duration::from_millis(500));
    for lba in 0..8 {
        scene.expect(&mut queue, lba, 0x03, BLOCK);
    }
    assert_ne!(old.cntlid, new.cntlid, "the new association is a new controller");
    old_queue.wire.set_patience(Duration::from_secs(5));
    assert_eq!(old_queue.wire.receive().err(), Some(End::Closed), "the old queue's connection is over");
}

#[test]
fn data_kept_by_a_proxy_does_not_land_after_a_reconnect() {
    let scene = Scene::new();
    let old = Association::connect(&scene.proxied);
    let mut old_queue = old.io_queue(1);
    let length = 256 * 1024;
    scene.write(&mut old_queue, 0, 0x01, length);
    let data = vec![0x02; length];
    let cid = old_queue.submit(io(0x01, scene.nsid, 0, length / BLOCK), Payload::Fetched(&data)).unwrap();
    let asked = old_queue.wire.receive().unwrap();
    assert_eq!(asked.kind, kind::R2T);
    scene.proxy.stop();
    let (ttag, asked_bytes) =
        (tests::wire::word(&asked.header, 10), tests::wire::double_word(&asked.header, 16));
    let part = asked_bytes.min(u32::try_from(old_queue.wire.h2c_data_bytes_max).unwrap());
    let flags = if part == asked_bytes { tests::wire::LAST_PDU } else { 0 };
    let header = tests::wire::h2c_data(cid, ttag, 0, part, flags);
    old_queue.wire.send_pdu(&header, &data[..part as usize]).unwrap();
    let new = Association::connect(&scene.direct);
    let mut queue = new.io_queue(1);
    scene.write(&mut queue, 0, 0x03, length);
    scene.proxy.go_on();
    std::thread::sleep(Duration::from_millis(500));
    scene.expect(&mut queue, 0, 0x03, length);
}

#[test]
fn write_in_the_targets_own_socket_is_over_before_the_reconnect_is_answered() {
    let scene = Scene::new();
    let mut old = Association::connect(&scene.direct);
    let mut old_queues: Vec<Queue> = (2..=5).map(|qid| old.io_queue(qid)).collect();
    for round in 0..8_u8 {
        scene.server.signal("STOP");
        for queue in &mut old_queues {
            for lba in 0..16 {
                let data = [0x10 | round; BLOCK];
                queue.submit(io(0x01, scene.nsid, lba, 1), Payload::InCapsule(&data)).unwrap();
            }
        }
        // The host gives up and reconnects while the target still stands.
        let identity = scene.direct.clone();
        let reconnect = std::thread::spawn(move || Association::connect(&identity));
        std::thread::sleep(Duration::from_millis(50));
        scene.server.signal("CONT");
        let new = reconnect.join().unwrap();
        let mut queue = new.io_queue(1);
        for lba in 0..16 {
            scene.write(&mut queue, lba, 0x80 | round, BLOCK);
        }
        std::thread::sleep(Duration::from_millis(100));
        for lba in 0..16 {
            scene.expect(&mut queue, lba, 0x80 | round, BLOCK);
        }
        old = new;
        old_queues = (2..=5).map(|qid| old.io_queue(qid)).collect();
    }
}

#[test]
fn host_off_the_acl_writes_nothing_after_the_answer() {
    let scene = Scene::new();
    let client = scene.server.client();
    let volume = client.get("/api/v2/projects/default/volumes/?name=v1");
    let path = tests::server::volume_path(&volume);
    let stays = Identity::new(scene.server.port, &scene.direct.subsystem, 2);
    let keeper = Association::connect(&stays);
    let mut keeper_queue = keeper.io_queue(1);
    for round in 0..4_u8 {
        client.put(&path, &json!({"acl": {"values": [scene.direct.host, stays.host]}}));
        let leaver = Association::connect(&scene.direct);
        let queues: Vec<Queue> = (1..=4).map(|qid| leaver.io_queue(qid)).collect();
        let done = AtomicBool::new(false);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let writers: Vec<_> = queues
                .into_iter()
                .map(|mut queue| {
                    let (done, nsid) = (&done, scene.nsid);
                    scope.spawn(move || {
                        let mut last = 0;
                        while !done.load(Ordering::SeqCst) {
                            for lba in 0..16 {
                                last = queue.write(nsid, lba, BLOCK, &[0xEE; BLOCK]).status;
                            }
                        }
                        last
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(200));
            client.put(&path, &json!({"acl": {"values": [stays.host]}}));
            // Answered: whatever the leaver sends from here on must not land.
            for lba in 0..16 {
                scene.write(&mut keeper_queue, lba, round, BLOCK);
            }
            std::thread::sleep(Duration::from_millis(200));
            for lba in 0..16 {
                scene.expect(&mut keeper_queue, lba, round, BLOCK);
            }
            done.store(true, Ordering::SeqCst);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| *status == 0x00B), "Invalid Namespace, not {statuses:03X?}");
    }
}
