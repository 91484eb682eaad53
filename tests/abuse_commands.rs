//! Wrong commands on right connections: each gets its status, the connection and everyone else live on.

use std::time::Duration;

use tests::association::{
    Association, CC, CSTS, Connect, DISCOVERY, Identity, Payload, Queue, command, fabrics, io, set_sgl,
};
use tests::bystander::Bystander;
use tests::scratch::wait_until;
use tests::server::{Server, Setup};
use tests::wire::{End, Wire, capsule, double_word, kind, word};

// Status Code Type and Status Code, Base Specification 2.0, section 3.3.3.2.1.
const INVALID_OPCODE: u16 = 0x001;
const INVALID_FIELD: u16 = 0x002;
const ABORT_REQUESTED: u16 = 0x007;
const MISSING_FUSED: u16 = 0x00A;
const INVALID_NAMESPACE: u16 = 0x00B;
const COMMAND_SEQUENCE: u16 = 0x00C;
const SGL_LENGTH_INVALID: u16 = 0x00F;
const SGL_TYPE_INVALID: u16 = 0x011;
const SGL_OFFSET_INVALID: u16 = 0x016;
const LBA_OUT_OF_RANGE: u16 = 0x080;
const INVALID_LOG_PAGE: u16 = 0x109;
const AER_LIMIT: u16 = 0x105;
const CONNECT_FORMAT: u16 = 0x180;
const CONNECT_INVALID: u16 = 0x182;
const COMPARE_FAILURE: u16 = 0x285;

/// Runs a command that must fail with one of the statuses.
fn refused(queue: &mut Queue, entry: [u8; 64], payload: Payload<'_>, statuses: &[u16]) {
    let reply = queue.run(entry, payload);
    assert!(
        statuses.contains(&reply.status),
        "opcode {:02X}h: status {:03X}h, not one of {statuses:03X?}",
        entry[0],
        reply.status
    );
}

#[test]
fn unknown_opcodes_are_invalid() {
    let mut target = Bystander::new();
    let (mut association, mut queue) = target.guest(2);
    for opcode in [0x1F, 0x7E, 0xC0, 0xFE] {
        refused(&mut association.admin, command(opcode, 0), Payload::None, &[INVALID_OPCODE]);
        refused(&mut queue, command(opcode, target.nsid), Payload::None, &[INVALID_OPCODE]);
    }
    refused(&mut association.admin, fabrics(0x77), Payload::None, &[INVALID_OPCODE, INVALID_FIELD]);
    // With data on its way: it must be taken off the wire all the same, and an admin capsule holds up to 8 KiB
    // whatever IOCCSZ says.
    refused(&mut association.admin, command(0xC1, 0), Payload::InCapsule(&[7; 8192]), &[INVALID_OPCODE]);
    refused(&mut queue, command(0x91, target.nsid), Payload::InCapsule(&[7; 4096]), &[INVALID_OPCODE]);
    let _ = queue.run(command(0x00, target.nsid), Payload::None).expect_success("Flush after all that");
    target.unharmed();
}

#[test]
fn queue_without_flow_control_reads_the_same() {
    let mut target = Bystander::new();
    let (association, mut queue) = target.guest(2);
    let data: Vec<u8> = (0..65536_u32).map(|at| (at / 7) as u8).collect();
    let _ = queue.write(target.nsid, 0, target.block_bytes, &data).expect_success("write");
    let mut free = Queue::new(target.wire());
    let request =
        Connect { qid: 2, cntlid: association.cntlid, cattr: 0x04, ..Connect::admin(&association.identity) };
    let _ = free.connect(&request).expect_success("Connect without SQ flow control");
    for length in [target.block_bytes, 4096, 65536] {
        let read = free.read(target.nsid, 0, target.block_bytes, length).expect_success("read");
        assert!(read.data == data[..length]);
    }
    target.unharmed();
}

#[test]
fn namespaces_that_are_not_there_are_invalid() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    for nsid in [0, 0x7FFF, 0xFFFF_FFFE] {
        refused(&mut queue, io(0x02, nsid, 0, 1), Payload::Read(target.block_bytes), &[INVALID_NAMESPACE]);
        refused(
            &mut queue,
            io(0x01, nsid, 0, 1),
            Payload::InCapsule(&vec![0; target.block_bytes]),
            &[INVALID_NAMESPACE],
        );
    }
    refused(
        &mut queue,
        io(0x02, u32::MAX, 0, 1),
        Payload::Read(target.block_bytes),
        &[INVALID_NAMESPACE, INVALID_FIELD],
    );
    target.unharmed();
}

#[test]
fn blocks_beyond_the_end_are_out_of_range() {
    let mut target = Bystander::new();
    let (mut association, mut queue) = target.guest(2);
    let namespace = association.identify(0x00, target.nsid);
    let blocks = u64::from(double_word(&namespace, 0));
    let data = vec![0x5A; 2 * target.block_bytes];
    for (lba, count) in [(blocks, 1), (blocks - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2), (1 << 60, 1)] {
        let length = count * target.block_bytes;
        refused(&mut queue, io(0x02, target.nsid, lba, count), Payload::Read(length), &[LBA_OUT_OF_RANGE]);
        refused(
            &mut queue,
            io(0x01, target.nsid, lba, count),
            Payload::Fetched(&data[..length]),
            &[LBA_OUT_OF_RANGE],
        );
        for opcode in [0x08, 0x0C] {
            // Write Zeroes, Verify.
            refused(&mut queue, io(opcode, target.nsid, lba, count), Payload::None, &[LBA_OUT_OF_RANGE]);
        }
    }
    target.unharmed();
}

#[test]
fn sgl_that_differs_from_the_blocks_is_refused() {
    let mut target = Bystander::new();
    let (mut association, mut queue) = target.guest(2);
    let (nsid, block) = (target.nsid, target.block_bytes);
    let data = vec![0; 64 * block];
    let wrong = [SGL_LENGTH_INVALID, INVALID_FIELD];
    // Too short to hold the blocks.
    refused(&mut queue, io(0x02, nsid, 0, 8), Payload::Read(block), &wrong);
    refused(&mut queue, io(0x01, nsid, 0, 8), Payload::InCapsule(&data[..block]), &wrong);
    refused(&mut queue, io(0x01, nsid, 0, 8), Payload::Fetched(&data[..block]), &wrong);
    // No data at all.
    refused(
        &mut queue,
        io(0x01, nsid, 0, 1),
        Payload::None,
        &[SGL_LENGTH_INVALID, INVALID_FIELD, SGL_TYPE_INVALID],
    );
    // Four gigabytes of SGL for one block: refused, or (Identify Controller, SGLS bit 18) only the block is asked for.
    let mut entry = io(0x01, nsid, 0, 1);
    set_sgl(&mut entry, 0xFFFF_FF00, 0x5A);
    if double_word(&association.identify(0x01, 0), 536) >> 18 & 1 == 0 {
        refused(&mut queue, entry, Payload::None, &wrong);
    } else {
        queue.submit(entry, Payload::None).unwrap();
        let asked = queue.wire.receive().unwrap();
        let length = double_word(&asked.header, 16) as usize;
        assert!(asked.kind == kind::CAPSULE_RESP || length == block, "{length} bytes for a block of {block}");
    }
    target.unharmed();
}

#[test]
fn transfers_beyond_mdts_are_refused() {
    let mut target = Bystander::new();
    let (mut association, mut queue) = target.guest(2);
    let exponent = association.identify(0x01, 0)[77];
    assert!((1..=16).contains(&exponent), "MDTS {exponent}");
    let most = 4096_usize << exponent;
    let data = vec![0x33; most];
    let blocks = most / target.block_bytes;
    if blocks <= 65536 {
        let _ = queue.write(target.nsid, 0, target.block_bytes, &data).expect_success("a write of MDTS");
        let read = queue.read(target.nsid, 0, target.block_bytes, most).expect_success("a read of MDTS");
        assert!(read.data == data);
    }
    if blocks < 65536 {
        let length = most + target.block_bytes;
        refused(&mut queue, io(0x02, target.nsid, 0, blocks + 1), Payload::Read(length), &[INVALID_FIELD]);
        let data = vec![0; length];
        refused(&mut queue, io(0x01, target.nsid, 0, blocks + 1), Payload::Fetched(&data), &[INVALID_FIELD]);
    }
    target.unharmed();
}

#[test]
fn sgl_of_another_kind_is_refused() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let kinds = [SGL_TYPE_INVALID, INVALID_FIELD, 0x00D, 0x00E];
    for identifier in [0x00, 0x10, 0x20, 0x30, 0x40, 0xF5] {
        let mut entry = io(0x02, target.nsid, 0, 1);
        set_sgl(&mut entry, target.block_bytes, identifier);
        refused(&mut queue, entry, Payload::None, &kinds);
    }
    // PRPs do not exist over fabrics (PSDT 00b).
    let mut entry = io(0x02, target.nsid, 0, 1);
    entry[1] = 0;
    refused(&mut queue, entry, Payload::Read(target.block_bytes), &kinds);
    // In the capsule, but beyond its end.
    let mut entry = io(0x01, target.nsid, 0, 1);
    set_sgl(&mut entry, target.block_bytes, 0x01);
    entry[24..32].copy_from_slice(&(1_u64 << 32).to_le_bytes());
    refused(&mut queue, entry, Payload::None, &[SGL_OFFSET_INVALID, SGL_LENGTH_INVALID, INVALID_FIELD]);
    target.unharmed();
}

#[test]
fn deallocate_takes_4096_bytes_for_any_number_of_ranges() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let block = target.block_bytes;
    let _ = queue.write(target.nsid, 0, block, &vec![9; 8 * block]).expect_success("write");
    let mut ranges = vec![0; 4096];
    ranges[4..8].copy_from_slice(&2_u32.to_le_bytes());
    ranges[8..16].copy_from_slice(&3_u64.to_le_bytes());
    let mut entry = command(0x09, target.nsid);
    entry[44] = 0x04;
    let _ = queue.run(entry, Payload::InCapsule(&ranges)).expect_success("DSM in the capsule");
    let _ = queue.run(entry, Payload::Fetched(&ranges)).expect_success("DSM by R2T");
    let _ = queue.run(entry, Payload::InCapsule(&ranges[..16])).expect_success("DSM of exactly its range");
    let read = queue.read(target.nsid, 0, block, 8 * block).expect_success("read").data;
    let zeroes: Vec<bool> = read.chunks(block).map(|block| block.iter().all(|byte| *byte == 0)).collect();
    assert_eq!(zeroes, [false, false, false, true, true, false, false, false]);
    // Ranges that the data cannot hold, and a range beyond the end.
    entry[40] = 255;
    refused(&mut queue, entry, Payload::InCapsule(&ranges[..16]), &[SGL_LENGTH_INVALID, INVALID_FIELD]);
    entry[40] = 0;
    ranges[8..16].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    refused(&mut queue, entry, Payload::InCapsule(&ranges), &[LBA_OUT_OF_RANGE]);
    target.unharmed();
}

#[test]
fn compare_and_fused_pairs_hold_their_promise() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let (nsid, block) = (target.nsid, target.block_bytes);
    let (old, new) = (vec![1; block], vec![2; block]);
    let _ = queue.write(nsid, 0, block, &old).expect_success("write");
    let _ = queue.run(io(0x05, nsid, 0, 1), Payload::InCapsule(&old)).expect_success("Compare");
    refused(&mut queue, io(0x05, nsid, 0, 1), Payload::InCapsule(&new), &[COMPARE_FAILURE]);

    let mut pair = |compare: &[u8], write: &[u8]| {
        let (mut first, mut second) = (io(0x05, nsid, 0, 1), io(0x01, nsid, 0, 1));
        first[1] |= 0x01;
        second[1] |= 0x02;
        let one = queue.submit(first, Payload::InCapsule(compare)).unwrap();
        let two = queue.submit(second, Payload::InCapsule(write)).unwrap();
        let mut statuses = [0, 0];
        for _ in 0..2 {
            let pdu = queue.wire.receive().unwrap();
            assert_eq!(pdu.kind, kind::CAPSULE_RESP);
            let cid = word(&pdu.header, 20);
            statuses[usize::from(cid == two)] = word(&pdu.header, 22) >> 1 & 0x7FF;
            assert!(cid == one || cid == two);
        }
        (statuses, queue.read(nsid, 0, block, block).expect_success("read").data)
    };
    let (statuses, data) = pair(&new, &new);
    assert_eq!(statuses[0], COMPARE_FAILURE);
    assert_ne!(statuses[1], 0, "the write of a failed pair");
    assert!(data == old, "the write of a failed pair landed");
    let (statuses, data) = pair(&old, &new);
    assert_eq!(statuses, [0, 0]);
    assert!(data == new);
    target.unharmed();
}

#[test]
fn half_of_a_fused_pair_is_aborted() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let block = target.block_bytes;
    let mut second = io(0x01, target.nsid, 0, 1);
    second[1] |= 0x02;
    refused(&mut queue, second, Payload::InCapsule(&vec![3; block]), &[MISSING_FUSED]);
    let mut first = io(0x05, target.nsid, 0, 1);
    first[1] |= 0x01;
    queue.submit(first, Payload::InCapsule(&vec![0; block])).unwrap();
    // Not the second half but a flush follows.
    queue.submit(command(0x00, target.nsid), Payload::None).unwrap();
    let statuses: Vec<u16> =
        (0..2).map(|_| word(&queue.wire.receive().unwrap().header, 22) >> 1 & 0x7FF).collect();
    assert!(statuses.contains(&MISSING_FUSED) && statuses.contains(&0), "{statuses:03X?}");
    target.unharmed();
}

#[test]
fn commands_before_connect_are_out_of_sequence() {
    let mut target = Bystander::new();
    for entry in [command(0x06, 0), io(0x02, target.nsid, 0, 1), fabrics(0x04)] {
        let mut queue = Queue::new(target.wire());
        match queue.try_run(entry, Payload::None) {
            Ok(reply) => assert_eq!(reply.status, COMMAND_SEQUENCE),
            Err(end) => assert_eq!(end, End::Closed),
        }
    }
    target.unharmed();
}

#[test]
fn admin_commands_before_ready_are_out_of_sequence() {
    let mut target = Bystander::new();
    let mut admin = Queue::new(target.wire());
    let _ = admin.connect(&Connect::admin(&target.other(2))).expect_success("Connect");
    let mut identify = command(0x06, 0);
    identify[40] = 1;
    refused(&mut admin, identify, Payload::Read(4096), &[COMMAND_SEQUENCE]);
    assert_eq!(admin.property_get(CSTS, 4) & 1, 0, "not ready before enabled");
    target.unharmed();
}

#[test]
fn wrong_connects_are_refused_for_good() {
    let mut target = Bystander::new();
    let other = target.other(2);
    let good = Connect::admin(&other);
    let bad = [
        (Connect { recfmt: 5, ..good.clone() }, CONNECT_FORMAT),
        (
            Connect { subsystem: "nqn.2014-08.org.example:elsewhere".to_owned(), ..good.clone() },
            CONNECT_INVALID,
        ),
        (Connect { subsystem: String::new(), ..good.clone() }, CONNECT_INVALID),
        (Connect { host: String::new(), ..good.clone() }, CONNECT_INVALID),
        (Connect { subsystem: "x".repeat(256), ..good.clone() }, CONNECT_INVALID),
        (Connect { host: "x".repeat(256), ..good.clone() }, CONNECT_INVALID),
        (Connect { sqsize: 0, ..good.clone() }, CONNECT_INVALID),
        (Connect { sqsize: 0xFFFF, qid: 1, cntlid: 1, ..good.clone() }, CONNECT_INVALID),
        (Connect { cntlid: 0x1234, ..good.clone() }, CONNECT_INVALID),
        (Connect { cntlid: 0xFFFF, qid: 1, ..good.clone() }, CONNECT_INVALID),
        (Connect { cntlid: 0x7ABC, qid: 1, ..good.clone() }, CONNECT_INVALID),
    ];
    for (request, status) in bad {
        let mut queue = Queue::new(target.wire());
        let reply = queue.connect(&request);
        assert_eq!(reply.status, status, "{request:?}");
        // An I/O queue may be early, after a restart of the target; what the admin queue got wrong stays wrong.
        assert!(reply.dnr || request.qid > 0, "a wrong Connect is not to be retried: {request:?}");
    }
    // An I/O queue of somebody else's controller, and the same queue twice.
    let (association, _queue) = target.guest(3);
    let io = Connect { qid: 2, cntlid: association.cntlid, ..Connect::admin(&association.identity) };
    let foreign = Connect { host: other.host.clone(), ..io.clone() };
    let mut queue = Queue::new(target.wire());
    assert_eq!(queue.connect(&foreign).status, CONNECT_INVALID);
    let mut queue = Queue::new(target.wire());
    let _ = queue.connect(&io).expect_success("Connect of queue 2");
    assert_ne!(Queue::new(target.wire()).connect(&io).status, 0, "queue 2 a second time");
    // A second Connect on a connected queue.
    assert_eq!(queue.connect(&Connect { qid: 3, ..io }).status, COMMAND_SEQUENCE);
    target.unharmed();
}

#[test]
fn short_connect_data_is_refused() {
    let mut target = Bystander::new();
    let request = Connect::admin(&target.other(2));
    for length in [0, 1, 512, 1020] {
        let mut queue = Queue::new(target.wire());
        let data = &request.data()[..length];
        let payload = if length == 0 { Payload::None } else { Payload::InCapsule(data) };
        match queue.try_run(request.entry(), payload) {
            Ok(reply) => assert_ne!(reply.status, 0),
            Err(end) => assert_eq!(end, End::Closed),
        }
    }
    target.unharmed();
}

#[test]
fn events_asked_for_are_bounded_and_can_be_aborted() {
    let mut target = Bystander::new();
    let (mut association, _queue) = target.guest(2);
    let limit = usize::from(association.identify(0x01, 0)[259]) + 1;
    let admin = &mut association.admin;
    let cids: Vec<u16> = (0..limit).map(|_| admin.submit(command(0x0C, 0), Payload::None).unwrap()).collect();
    refused(admin, command(0x0C, 0), Payload::None, &[AER_LIMIT]);
    let mut abort = command(0x08, 0);
    abort[42..44].copy_from_slice(&cids[0].to_le_bytes());
    admin.submit(abort, Payload::None).unwrap();
    let mut aborted = false;
    let mut answered = false;
    for _ in 0..2 {
        let pdu = admin.wire.receive().unwrap();
        let status = word(&pdu.header, 22) >> 1 & 0x7FF;
        if word(&pdu.header, 20) == cids[0] {
            assert_eq!(status, ABORT_REQUESTED);
            aborted = true;
        } else {
            assert_eq!((status, double_word(&pdu.header, 8) & 1), (0, 0), "Abort says that it aborted");
            answered = true;
        }
    }
    assert!(aborted && answered);
    // Aborting what is not there is a success that says so.
    abort[42..44].copy_from_slice(&0x7777_u16.to_le_bytes());
    assert_eq!(admin.run(abort, Payload::None).expect_success("Abort").result & 1, 1);
    target.unharmed();
}

#[test]
fn log_pages_and_features_that_do_not_exist_are_refused() {
    let mut target = Bystander::new();
    let (mut association, _queue) = target.guest(2);
    let admin = &mut association.admin;
    let mut log = command(0x02, u32::MAX);
    (log[40], log[42]) = (0x6F, 0xFF);
    refused(admin, log, Payload::Read(1024), &[INVALID_LOG_PAGE, INVALID_FIELD]);
    let mut feature = command(0x0A, 0);
    feature[40] = 0xEE;
    refused(admin, feature, Payload::None, &[INVALID_FIELD]);
    let mut identify = command(0x06, 0);
    identify[40] = 0xEE;
    refused(admin, identify, Payload::Read(4096), &[INVALID_FIELD]);
    // A log page read far beyond its end neither fails the target nor grows it.
    log[40] = 0x01;
    log[48..52].copy_from_slice(&0xFFFF_FF00_u32.to_le_bytes());
    assert_ne!(admin.run(log, Payload::Read(1024)).status, INVALID_OPCODE);
    target.unharmed();
}

#[test]
fn identify_answers_every_form_that_hosts_ask_for() {
    let target = Bystander::new();
    let (mut association, _queue) = target.guest(2);
    let nsid = target.nsid;
    for (cns, of) in
        [(0x00, nsid), (0x01, 0), (0x02, 0), (0x03, nsid), (0x05, nsid), (0x06, 0), (0x08, nsid), (0x1C, 0)]
    {
        assert_eq!(association.identify(cns, of).len(), 4096, "CNS {cns:02X}h");
    }
    // Inactive is zeros with success; beyond NN is an invalid namespace.
    assert!(association.identify(0x00, 77).iter().all(|byte| *byte == 0));
    assert_eq!(association.identify(0x08, nsid)[14] & 1, 1, "NRDY");
    let mut beyond = command(0x06, 0xFFFF_FFF0);
    beyond[40] = 0;
    refused(&mut association.admin, beyond, Payload::Read(4096), &[INVALID_NAMESPACE]);
}

#[test]
fn keep_alive_that_stays_away_ends_the_association() {
    let mut target = Bystander::new();
    let mut quiet = Association::connect_with(&target.other(2), 1000, false, false);
    let mut queue = quiet.io_queue(1);
    // Traffic on an I/O queue alone keeps the association: any capsule counts.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(400));
        let _ = queue.run(command(0x00, target.nsid), Payload::None).expect_success("Flush");
    }
    let _ = quiet.admin.run(command(0x18, 0), Payload::None).expect_success("Keep Alive");
    quiet.admin.wire.expect_closed();
    queue.wire.expect_closed();
    target.unharmed();
}

#[test]
fn clearing_enable_ends_the_queues() {
    let mut target = Bystander::new();
    let (mut association, mut queue) = target.guest(2);
    association.admin.property_set(CC, 0x0046_0000);
    // Linux polls for RDY on the same connection before it lets go.
    wait_until("CSTS.RDY clears", Duration::from_secs(5), || {
        association.admin.property_get(CSTS, 4) & 1 == 0
    });
    let after = queue.try_run(command(0x00, target.nsid), Payload::None);
    assert!(after.is_err_and(|end| end == End::Closed), "an I/O queue lives on after the reset");
    drop(association);
    let (_association, mut queue) = target.guest(2);
    let _ = queue.run(command(0x00, target.nsid), Payload::None).expect_success("Flush after the reset");
    target.unharmed();
}

#[test]
fn shutdown_completes() {
    let mut target = Bystander::new();
    let (mut association, _queue) = target.guest(2);
    association.admin.property_set(CC, 0x0046_4001);
    wait_until("CSTS.SHST is complete", Duration::from_secs(5), || {
        association.admin.property_get(CSTS, 4) >> 2 & 3 == 2
    });
    target.unharmed();
}

#[test]
fn more_commands_than_the_queue_holds_harm_nobody() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let block = target.block_bytes;
    let mut burst = Vec::new();
    for cid in 0..1000_u16 {
        let mut entry = io(0x02, target.nsid, 0, 1);
        entry[2..4].copy_from_slice(&cid.to_le_bytes());
        set_sgl(&mut entry, block, 0x5A);
        burst.extend_from_slice(&queue.wire.pdu(&capsule(&entry), &[]));
    }
    // The queue has 32 entries: a termination is right, and so is an answer to each.
    drop(queue.wire.send(&burst));
    let mut answers = 0;
    while answers < 1000 {
        match queue.wire.receive() {
            Ok(pdu) if pdu.kind == kind::C2H_TERM_REQ => break,
            Ok(pdu) => {
                let is_answer = pdu.kind == kind::CAPSULE_RESP || pdu.flags & tests::wire::SUCCESS != 0;
                answers += usize::from(is_answer);
            }
            Err(end) => {
                assert_eq!(end, End::Closed, "neither answered nor terminated after {answers} answers");
                break;
            }
        }
    }
    target.unharmed();
}

#[test]
fn strict_discovery_host_reads_the_log_in_one_piece() {
    let server = Server::start(&Setup { pool_mib: 0, benches: vec!["ram:16MiB"], ..Setup::default() });
    for port in [server.discovery, server.port] {
        let mut association = Association::connect(&Identity::new(port, DISCOVERY, 9));
        let identify = association.identify(0x01, 0);
        let nqn = String::from_utf8_lossy(&identify[768..1024]);
        assert_eq!(nqn.trim_end_matches('\0'), DISCOVERY, "SUBNQN is the NQN asked for");
        assert_eq!(identify[111], 2, "CNTRLTYPE: discovery");
        let mut log = |length: usize| {
            let mut entry = command(0x02, u32::MAX);
            entry[40] = 0x70;
            entry[42..44].copy_from_slice(&((length / 4 - 1) as u16).to_le_bytes());
            let reply =
                association.admin.run(entry, Payload::Read(length)).expect_success("the discovery log");
            assert_eq!(reply.data_pdus, 1, "the data of one command in one C2HData");
            reply.data
        };
        let header = log(1024);
        let generation = header[..8].to_vec();
        let records = double_word(&header, 8) as usize;
        assert!(records >= 1, "one record at least");
        let whole = log(1024 * (1 + records));
        assert_eq!(whole[..8], generation[..], "the log has not changed in between");
        let subsystem = whole[1024..].chunks(1024).find(|record| record[2] == 2).expect("an I/O subsystem");
        assert_eq!((subsystem[0], subsystem[1]), (3, 1), "TCP, IPv4");
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&subsystem[range]).trim_end_matches(['\0', ' ']).to_owned()
        };
        assert_eq!(text(32..64), server.port.to_string(), "TRSVCID");
        assert_eq!(text(256..512), server.nqn(), "SUBNQN");
        assert_eq!(text(512..768), "127.0.0.1", "TRADDR");
        let _ = association.admin.run(command(0x18, 0), Payload::None).expect_success("Keep Alive");
    }
}

#[test]
fn identifiers_are_not_reused_after_a_restart() {
    let mut server = Server::start(&Setup { pool_mib: 1024, ..Setup::default() });
    let first = server.create_volume("first", 16 << 20);
    let before = Association::connect(&Identity::new(server.port, &server.nqn(), 1)).cntlid;
    server.client().delete(&tests::server::volume_path(&first));
    server.kill();
    server.restart();
    let second = server.create_volume("second", 16 << 20);
    assert_ne!(first["nsid"], second["nsid"], "an NSID came back at once");
    let after = Association::connect(&Identity::new(server.port, &server.nqn(), 1)).cntlid;
    assert_ne!(before, after, "a CNTLID came back at once");
}

#[test]
fn connection_without_icreq_is_closed_in_time() {
    let mut target = Bystander::new();
    let mut silent: Vec<Wire> =
        (0..64).map(|_| Wire::open(target.identity.address.port()).unwrap()).collect();
    target.unharmed();
    // Somewhere between seconds and a minute or two the controller loses patience.
    silent[0].set_patience(Duration::from_secs(130));
    silent[0].expect_closed();
    target.unharmed();
}
