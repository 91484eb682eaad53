//! Too many, too slow, too much: storms of connections, hosts that do not read, and what they leave behind.

use std::time::{Duration, Instant};

use tests::association::{Association, Payload, io, set_sgl};
use tests::bystander::Bystander;
use tests::scratch::wait_until;
use tests::wire::{End, Wire, capsule};

/// Memory that a server may keep from a storm: caches and arenas grow to a size and stay there.
const SLACK_BYTES: u64 = 24 << 20;
/// What a connection may have of the server's memory.
const CONNECTION_BYTES_MAX: u64 = 8 << 20;

#[test]
fn storm_of_a_thousand_connections_passes() {
    let mut target = Bystander::new();
    let port = target.identity.address.port();
    let round = |target: &mut Bystander| {
        for number in 0..1000 {
            match number % 4 {
                0 => drop(Wire::open(port).unwrap()),
                1 => drop(target.wire()),
                2 => drop(Wire::open(port).map(|mut wire| wire.send(&[0; 77]))),
                _ => drop(Association::connect(&target.other(2))),
            }
        }
        target.unharmed();
    };
    // The first storm grows what is made for good; the second must not grow it further.
    round(&mut target);
    let Some(server) = target.server() else { return };
    std::thread::sleep(Duration::from_secs(1));
    let (files, memory) = (server.open_files(), server.resident_bytes());
    round(&mut target);
    let server = target.server().unwrap();
    wait_until("the sockets are closed", Duration::from_secs(15), || server.open_files() <= files + 2);
    wait_until("memory is back to where it was", Duration::from_secs(15), || {
        server.resident_bytes() <= memory + SLACK_BYTES / 3
    });
}

#[test]
fn hundreds_of_hosts_at_once_are_served() {
    let mut target = Bystander::new();
    let memory = target.server().map(|server| (server.open_files(), server.resident_bytes()));
    let mut hosts: Vec<Association> =
        (2..102).map(|number| Association::connect(&target.other(number))).collect();
    let mut queues: Vec<_> = hosts.iter().map(|host| host.io_queue(1)).collect();
    for (number, queue) in queues.iter_mut().enumerate() {
        let data = vec![number as u8; 4096];
        let lba = (number * 4096 / target.block_bytes) as u64;
        let _ = queue.write(target.nsid, lba, target.block_bytes, &data).expect_success("write");
    }
    for (number, host) in hosts.iter_mut().enumerate() {
        assert!(host.namespaces().contains(&target.nsid));
        let lba = (number * 4096 / target.block_bytes) as u64;
        let read = queues[number].read(target.nsid, lba, target.block_bytes, 4096).expect_success("read");
        assert!(read.data.iter().all(|byte| *byte == number as u8));
    }
    target.unharmed();
    drop((hosts, queues));
    if let (Some(server), Some((files, bytes))) = (target.server(), memory) {
        wait_until("the sockets are closed", Duration::from_secs(15), || server.open_files() <= files + 2);
        wait_until("memory is back to about where it was", Duration::from_secs(15), || {
            server.resident_bytes() <= bytes + 2 * SLACK_BYTES
        });
    }
}

#[test]
fn hosts_that_do_not_read_stop_only_themselves() {
    let mut target = Bystander::new();
    let memory = target.server().map(|server| server.resident_bytes());
    let length = 1 << 20;
    let mut entry = io(0x02, target.nsid, 0, length / target.block_bytes);
    set_sgl(&mut entry, length, 0x5A);
    let mut slow = Vec::new();
    for number in 10..26 {
        let association = Association::connect(&target.other(number));
        let mut queue = association.io_queue(1);
        // As many reads as the queue holds, of which not a byte is taken off the socket.
        for cid in 0..31_u16 {
            entry[2..4].copy_from_slice(&cid.to_le_bytes());
            let pdu = queue.wire.pdu(&capsule(&entry), &[]);
            queue.wire.send(&pdu).unwrap();
        }
        slow.push((association, queue));
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        target.unharmed();
    }
    if let (Some(server), Some(bytes)) = (target.server(), memory) {
        // What they asked for is 496 MiB: a server that buffers it all for each would show.
        let grown = server.resident_bytes().saturating_sub(bytes);
        assert!(grown < 16 * CONNECTION_BYTES_MAX + SLACK_BYTES, "slow readers cost {grown} bytes");
    }
    // One that comes back to its socket in time is served in full; one that was dropped sees the end.
    let (_association, mut queue) = slow.pop().unwrap();
    let mut received = 0;
    while received < 31 * length {
        match queue.wire.receive() {
            Ok(pdu) => received += pdu.data.len(),
            Err(end) => {
                assert_eq!(end, End::Closed, "neither served nor dropped after {received} bytes");
                break;
            }
        }
    }
    drop(slow);
    target.unharmed();
}

#[test]
fn writers_that_stop_halfway_hold_nobody_up() {
    let mut target = Bystander::new();
    let mut stuck = Vec::new();
    for number in 30..62 {
        let association = Association::connect(&target.other(number));
        let mut queue = association.io_queue(1);
        // The data of these writes is asked for and never sent.
        let data = vec![0; 128 * 1024];
        for _ in 0..30 {
            let blocks = data.len() / target.block_bytes;
            queue.submit(io(0x01, target.nsid, 0, blocks), Payload::Fetched(&data)).unwrap();
        }
        stuck.push((association, queue));
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        target.unharmed();
    }
    drop(stuck);
    target.unharmed();
}

#[test]
fn idle_connections_cost_next_to_nothing() {
    let mut target = Bystander::new();
    let hosts: Vec<_> = (0..64).map(|number| target.guest(100 + number)).collect();
    target.unharmed();
    let Some(server) = target.server() else { return };
    std::thread::sleep(Duration::from_secs(1));
    let before = server.processor_time();
    let pause = Duration::from_secs(5);
    std::thread::sleep(pause);
    let busy = server.processor_time() - before;
    assert!(busy <= pause / 100 + Duration::from_millis(10), "idle, it used {busy:?} in {pause:?}");
    let resident = server.resident_bytes();
    assert!(resident < 150 << 20, "idle, it holds {resident} bytes");
    drop(hosts);
}
