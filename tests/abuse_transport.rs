//! Malformed, misplaced and truncated PDUs: each ends in the right C2HTermReq and a close, and harms nobody else.
//!
//! Statuses are those of the NVMe TCP Transport Specification 1.0, section 3.6.1.4 (Fatal Error Status); where the
//! text leaves a choice, each reading is allowed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tests::association::{Connect, Payload, Queue, io, set_sgl};
use tests::bystander::Bystander;
use tests::seeds;
use tests::wire::{LAST_PDU, Pdu, Wire, capsule, double_word, fes, h2c_data, ic_req, kind, word};

/// Sends bytes as the first words of a connection and expects its termination.
fn first_words_end_it(bytes: &[u8], statuses: &[u16]) {
    let mut target = Bystander::new();
    let mut wire = Wire::open(target.identity.address.port()).unwrap();
    wire.send(bytes).unwrap();
    wire.expect_termination(statuses);
    target.unharmed();
}

/// Sends bytes on an initialized connection and expects its termination.
fn later_words_end_it(bytes: &[u8], statuses: &[u16]) {
    let mut target = Bystander::new();
    let mut wire = target.wire();
    wire.send(bytes).unwrap();
    wire.expect_termination(statuses);
    target.unharmed();
}

#[test]
fn icreq_of_an_unknown_format_version_is_refused() {
    let mut pdu = ic_req(0);
    pdu[8] = 9;
    first_words_end_it(&pdu, &[fes::UNSUPPORTED_PARAMETER, fes::INVALID_HEADER_FIELD]);
}

#[test]
fn icreq_of_a_wrong_length_is_refused() {
    let mut pdu = ic_req(0);
    pdu[4] = 132;
    let mut bytes = pdu.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    first_words_end_it(&bytes, &[fes::INVALID_HEADER_FIELD]);
}

#[test]
fn icreq_of_a_wrong_header_length_is_refused() {
    let mut pdu = ic_req(0);
    pdu[2] = 64;
    first_words_end_it(&pdu, &[fes::INVALID_HEADER_FIELD]);
}

#[test]
fn command_before_icreq_is_out_of_sequence() {
    let mut header = capsule(&io(0x02, 1, 0, 1));
    header[2] = 72;
    header[4] = 72;
    first_words_end_it(&header, &[fes::SEQUENCE_ERROR]);
}

#[test]
fn second_icreq_is_out_of_sequence() {
    later_words_end_it(&ic_req(0), &[fes::SEQUENCE_ERROR]);
}

#[test]
fn unknown_pdu_type_is_an_invalid_header() {
    later_words_end_it(&[0x55, 0, 24, 0, 24, 0, 0, 0], &[fes::INVALID_HEADER_FIELD]);
}

#[test]
fn pdu_that_only_controllers_send_is_refused() {
    let mut pdu = [0; 24];
    (pdu[0], pdu[2], pdu[4]) = (kind::R2T, 24, 24);
    later_words_end_it(&pdu, &[fes::INVALID_HEADER_FIELD, fes::SEQUENCE_ERROR]);
}

#[test]
fn capsule_with_a_wrong_header_length_is_refused() {
    let mut header = capsule(&io(0x02, 1, 0, 1));
    (header[2], header[4]) = (68, 72);
    later_words_end_it(&header, &[fes::INVALID_HEADER_FIELD]);
}

#[test]
fn pdu_shorter_than_its_header_is_refused() {
    let mut header = capsule(&io(0x02, 1, 0, 1));
    (header[2], header[4]) = (72, 40);
    later_words_end_it(&header, &[fes::INVALID_HEADER_FIELD]);
}

#[test]
fn pdu_of_four_gigabytes_is_refused_before_it_comes() {
    let mut header = capsule(&io(0x01, 1, 0, 1));
    header[2] = 72;
    header[3] = 72;
    header[4..8].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
    later_words_end_it(&header, &[fes::INVALID_HEADER_FIELD, fes::DATA_LIMIT_EXCEEDED]);
}

#[test]
fn data_offset_outside_the_pdu_is_refused() {
    for offset in [8, 71, 250] {
        let mut header = capsule(&io(0x01, 1, 0, 1));
        (header[2], header[3]) = (72, offset);
        header[4..8].copy_from_slice(&(72_u32 + 4096).to_le_bytes());
        let mut bytes = header.to_vec();
        bytes.resize(72 + 4096, 0xAB);
        later_words_end_it(&bytes, &[fes::INVALID_HEADER_FIELD]);
    }
}

#[test]
fn header_digest_error_ends_the_connection() {
    let mut target = Bystander::new();
    let mut wire = Wire::initialized(target.identity.address.port(), true, false);
    let mut pdu = wire.pdu(&capsule(&Connect::admin(&target.other(2)).entry()), &[]);
    pdu[74] ^= 0x10;
    wire.send(&pdu).unwrap();
    wire.expect_termination(&[fes::HEADER_DIGEST_ERROR]);
    target.unharmed();
}

#[test]
fn missing_header_digest_ends_the_connection() {
    let mut target = Bystander::new();
    let mut wire = Wire::initialized(target.identity.address.port(), true, false);
    let mut header = capsule(&Connect::admin(&target.other(2)).entry());
    (header[2], header[4]) = (72, 72);
    wire.send(&header).unwrap();
    wire.expect_termination(&[fes::INVALID_HEADER_FIELD, fes::HEADER_DIGEST_ERROR]);
    target.unharmed();
}

#[test]
fn data_with_a_wrong_digest_never_lands() {
    let mut target = Bystander::new();
    let other = tests::association::Association::connect(&target.other(2));
    let (nsid, block_bytes) = (target.nsid, target.block_bytes);
    let mut checker = other.io_queue(1);
    let good = vec![0x11; 4096];
    let _ = checker.write(nsid, 0, block_bytes, &good).expect_success("write");

    let mut queue = other.io_queue_with(2, false, true);
    let mut entry = io(0x01, nsid, 0, 4096 / block_bytes);
    set_sgl(&mut entry, 4096, 0x01);
    entry[2] = 77;
    let mut pdu = queue.wire.pdu(&capsule(&entry), &[0x22; 4096]);
    pdu[72 + 100] ^= 1;
    queue.wire.send(&pdu).unwrap();
    // Not fatal by the specification: the command fails with Transient Transport Error. A close is allowed too.
    match queue.wire.receive() {
        Ok(Pdu { kind: kind::CAPSULE_RESP, header, .. }) => {
            assert_eq!(word(&header, 8 + 14) >> 1 & 0x7FF, 0x22, "Transient Transport Error");
        }
        Ok(pdu) => assert_eq!(pdu.kind, kind::C2H_TERM_REQ, "{pdu:?}"),
        Err(end) => panic!("{end:?}"),
    }
    let read = checker.read(nsid, 0, block_bytes, 4096).expect_success("read");
    assert!(read.data == good, "data of a wrong digest landed");
    target.unharmed();
}

#[test]
fn data_that_nobody_asked_for_is_refused() {
    let mut target = Bystander::new();
    for ttag in [0, 1, 0xFFFF] {
        let (_association, mut queue) = target.guest(2);
        queue.wire.send_pdu(&h2c_data(5, ttag, 0, 512, LAST_PDU), &[0; 512]).unwrap();
        queue.wire.expect_termination(&[fes::INVALID_HEADER_FIELD, fes::SEQUENCE_ERROR]);
    }
    target.unharmed();
}

/// Starts a write of 64 KiB and returns its R2T.
fn r2t(queue: &mut Queue, nsid: u32, block_bytes: usize) -> Pdu {
    let data = vec![0; 65536];
    queue.submit(io(0x01, nsid, 0, data.len() / block_bytes), Payload::Fetched(&data)).unwrap();
    let pdu = queue.wire.receive().unwrap();
    assert_eq!(pdu.kind, kind::R2T);
    pdu
}

/// Answers an R2T with a wrong H2CData, made from the right CCCID, TTAG and length.
fn wrong_answer_ends_it(statuses: &[u16], wrong: impl Fn(u16, u16, u32) -> ([u8; 24], usize)) {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let asked = r2t(&mut queue, target.nsid, target.block_bytes);
    let (header, length) =
        wrong(word(&asked.header, 8), word(&asked.header, 10), double_word(&asked.header, 16).min(4096));
    queue.wire.send_pdu(&header, &vec![0xEE; length]).unwrap();
    queue.wire.expect_termination(statuses);
    target.unharmed();
}

#[test]
fn data_for_another_command_is_refused() {
    wrong_answer_ends_it(&[fes::INVALID_HEADER_FIELD, fes::SEQUENCE_ERROR], |cid, ttag, length| {
        (h2c_data(cid ^ 0x100, ttag, 0, length, 0), length as usize)
    });
}

#[test]
fn data_with_another_tag_is_refused() {
    wrong_answer_ends_it(&[fes::INVALID_HEADER_FIELD, fes::SEQUENCE_ERROR], |cid, ttag, length| {
        (h2c_data(cid, ttag ^ 0x55, 0, length, 0), length as usize)
    });
}

#[test]
fn data_at_another_offset_is_out_of_range() {
    wrong_answer_ends_it(&[fes::DATA_OUT_OF_RANGE, fes::INVALID_HEADER_FIELD], |cid, ttag, length| {
        (h2c_data(cid, ttag, 1 << 20, length, 0), length as usize)
    });
}

#[test]
fn data_that_skips_bytes_is_out_of_range() {
    wrong_answer_ends_it(&[fes::DATA_OUT_OF_RANGE, fes::INVALID_HEADER_FIELD], |cid, ttag, length| {
        (h2c_data(cid, ttag, 4, length, 0), length as usize)
    });
}

#[test]
fn data_length_that_differs_from_the_pdu_is_refused() {
    wrong_answer_ends_it(
        &[fes::INVALID_HEADER_FIELD, fes::DATA_OUT_OF_RANGE, fes::DATA_LIMIT_EXCEEDED],
        |cid, ttag, length| (h2c_data(cid, ttag, 0, length + 4, 0), length as usize),
    );
}

#[test]
fn more_data_than_asked_for_is_refused() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let data = vec![0; 65536];
    let blocks = data.len() / target.block_bytes;
    queue.submit(io(0x01, target.nsid, 0, blocks), Payload::Fetched(&data)).unwrap();
    let asked = queue.wire.receive().unwrap();
    let (cid, ttag) = (word(&asked.header, 8), word(&asked.header, 10));
    let header = h2c_data(cid, ttag, 0, 131_072, LAST_PDU);
    queue.wire.send_pdu(&header, &vec![0xEE; 131_072]).unwrap();
    queue.wire.expect_termination(&[
        fes::DATA_OUT_OF_RANGE,
        fes::DATA_LIMIT_EXCEEDED,
        fes::INVALID_HEADER_FIELD,
    ]);
    target.unharmed();
}

#[test]
fn ready_to_transfer_is_one_at_a_time_and_within_the_command() {
    let mut target = Bystander::new();
    let (_association, mut queue) = target.guest(2);
    let asked = r2t(&mut queue, target.nsid, target.block_bytes);
    assert_eq!(asked.header.len(), 24);
    assert_eq!(double_word(&asked.header, 12), 0, "R2TO begins at 0");
    let length = double_word(&asked.header, 16);
    assert!((1..=65536).contains(&length), "R2TL {length}");
    // A second one before the first is answered would exceed MAXR2T, which the ICReq set to one.
    queue.wire.set_patience(Duration::from_millis(300));
    assert!(queue.wire.receive().is_err(), "a second R2T before the first was answered");
    target.unharmed();
}

#[test]
fn terminate_request_of_the_host_is_heeded() {
    let mut target = Bystander::new();
    let mut wire = target.wire();
    let mut pdu = [0; 24];
    (pdu[0], pdu[2], pdu[4], pdu[8]) = (kind::H2C_TERM_REQ, 24, 24, 2);
    wire.send(&pdu).unwrap();
    wire.expect_closed();
    target.unharmed();
}

#[test]
fn connections_cut_within_a_pdu_leave_nothing_behind() {
    let mut target = Bystander::new();
    let files = target.server().map(|server| server.open_files());
    let connect = Connect::admin(&target.other(2));
    let mut entry = connect.entry();
    set_sgl(&mut entry, 1024, 0x01);
    let mut whole = ic_req(0).to_vec();
    whole.extend_from_slice(&target.wire().pdu(&capsule(&entry), &connect.data()));
    for cut in [1, 7, 8, 100, 128, 129, 136, 199, 200, 700, whole.len() - 1] {
        let mut wire = Wire::open(target.identity.address.port()).unwrap();
        wire.send(&whole[..cut]).unwrap();
        drop(wire);
    }
    target.unharmed();
    if let (Some(server), Some(files)) = (target.server(), files) {
        tests::scratch::wait_until("the sockets are closed", Duration::from_secs(10), || {
            server.open_files() <= files
        });
    }
}

#[test]
fn bytes_that_dribble_in_are_a_whole_pdu_in_the_end() {
    let mut target = Bystander::new();
    let mut wire = Wire::open(target.identity.address.port()).unwrap();
    for byte in ic_req(0) {
        wire.send(&[byte]).unwrap();
    }
    assert_eq!(wire.receive().unwrap().kind, kind::IC_RESP);
    let connect = Connect::admin(&target.other(2));
    let mut entry = connect.entry();
    set_sgl(&mut entry, 1024, 0x01);
    for part in wire.pdu(&capsule(&entry), &connect.data()).chunks(13) {
        wire.send(part).unwrap();
    }
    let response = wire.receive().unwrap();
    assert_eq!(word(&response.header, 8 + 14) >> 1, 0, "Connect succeeds");
    target.unharmed();
}

#[test]
fn random_bytes_harm_nobody() {
    let mut target = Bystander::new();
    let mut state = seeds::one(0x5EED);
    let mut random = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = state;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    };
    for round in 0..200 {
        let mut wire = Wire::open(target.identity.address.port()).unwrap();
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            bytes.extend_from_slice(&ic_req(0));
        }
        // Half of the rounds begin with a plausible common header.
        if round % 4 < 2 {
            bytes.extend_from_slice(&[(random() % 10) as u8, random() as u8, 72, 0, 72, 0, 0, 0]);
        }
        for _ in 0..random() % 300 {
            bytes.extend_from_slice(&random().to_le_bytes());
        }
        // The controller may have closed already.
        drop(wire.send(&bytes));
    }
    target.unharmed();
}
