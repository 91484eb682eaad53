//! Golden vectors of every PDU header, as bytes on the wire. TCP transport spec 1.0, section 3.6.2.

use super::*;
use crate::testing::{crc32c, hex};
use crate::{Cqe, Sgl, Sqe, Status};

fn plain() -> Codec {
    Codec::initial(crc32c)
}

fn digests(alignment_bytes: u8) -> Codec {
    Codec { header_digest: true, data_digest: true, alignment_bytes, crc32c }
}

/// A header array that starts with `text`.
fn header(text: &str) -> Header {
    let bytes = hex(text);
    let mut header = [0; HEADER_LEN_MAX];
    header[..bytes.len()].copy_from_slice(&bytes);
    header
}

#[test]
fn icreq_is_as_specified() {
    let request = IcReq { alignment_bytes: 8, header_digest: true, data_digest: false, r2t_max: 16 };
    let golden = header("00 00 80 00 80 00 00 00  00 00 01 01 0f 00 00 00");
    assert_eq!(request.encode(), golden[..128]);
    assert_eq!(IcReq::parse(&golden), Ok(request));
}

#[test]
fn icresp_is_as_specified() {
    let response =
        IcResp { alignment_bytes: 4, header_digest: true, data_digest: true, h2c_data_max_bytes: 1 << 17 };
    let golden = header("01 00 80 00 80 00 00 00  00 00 00 03 00 00 02 00");
    assert_eq!(response.encode(), golden[..128]);
    assert_eq!(IcResp::parse(&golden), Ok(response));
}

#[test]
fn initialisation_refuses_what_it_must() {
    let version = header("00 00 80 00 80 00 00 00  01 00 00 00 00 00 00 00");
    assert_eq!(IcReq::parse(&version), Err(PduError::UnsupportedParameter { offset: 8 }));
    let alignment = header("00 00 80 00 80 00 00 00  00 00 20 00 00 00 00 00");
    assert_eq!(IcReq::parse(&alignment), Err(PduError::InvalidHeaderField { offset: 10 }));
    for limit in ["ff 0f 00 00", "fc 0f 00 00", "02 10 00 00", "00 00 00 00"] {
        let mut response = header("01 00 80 00 80 00 00 00  00 00 00 00");
        response[12..16].copy_from_slice(&hex(limit));
        assert_eq!(IcResp::parse(&response), Err(PduError::InvalidHeaderField { offset: 12 }), "{limit}");
    }
}

#[test]
fn r2t_limit_of_the_whole_range_is_kept() {
    let request = IcReq { alignment_bytes: 128, header_digest: false, data_digest: true, r2t_max: 1 << 32 };
    let mut header = [0; HEADER_LEN_MAX];
    header[..IcReq::LEN].copy_from_slice(&request.encode());
    assert_eq!(IcReq::parse(&header), Ok(request));
}

#[test]
fn termination_requests_are_as_specified() {
    let fault = PduError::InvalidHeaderField { offset: 2 };
    let mut out = [0xff; TermReq::LEN_MAX];
    let len = TermReq::from(fault).encode(PduType::C2hTermReq, &[0xaa, 0xbb], &mut out);
    let golden = hex("03 00 18 00 1a 00 00 00  01 00 02 00 00 00 00 00  00 00 00 00 00 00 00 00  aa bb");
    assert_eq!(out[..len], golden);
    let parsed = TermReq::parse(&header("03 00 18 00 1a 00 00 00  01 00 02 00 00 00"));
    assert_eq!(parsed, TermReq { fes: Fes::INVALID_HEADER_FIELD, fei: 2 });
    let len = TermReq::from(fault).encode(PduType::H2cTermReq, &[0x55; 300], &mut out);
    assert_eq!((len, out[0], out[4]), (152, 2, 152), "the quoted header is cut to 128 bytes");
}

#[test]
fn faults_map_to_their_wire_codes() {
    let table = [
        (PduError::InvalidHeaderField { offset: 3 }, 1, 3),
        (PduError::Sequence, 2, 0),
        (PduError::HeaderDigest { received: 0xdead_beef }, 3, 0xdead_beef),
        (PduError::DataOutOfRange, 4, 0),
        (PduError::R2tLimitExceeded, 5, 0),
        (PduError::DataLimitExceeded, 5, 0),
        (PduError::UnsupportedParameter { offset: 8 }, 6, 8),
    ];
    for (fault, fes, fei) in table {
        assert_eq!((fault.fes(), fault.fei()), (Fes(fes), fei), "{fault}");
    }
}

#[test]
fn command_capsule_is_as_specified() {
    let sqe =
        Sqe { cid: 0x0102, ..Sqe::new(0x01, 1) }.with_sgl(Sgl::InCapsule { offset_bytes: 0, len_bytes: 512 });
    let mut out = [0xff; HEADER_LEN_MAX];
    let len = CapsuleCmd { sqe }.encode(&plain(), 512, &mut out);
    assert_eq!(len, 72);
    assert_eq!(out[..16], hex("04 00 48 48 48 02 00 00  01 40 02 01 01 00 00 00"));
    assert_eq!(out[32..48], hex("00 00 00 00 00 00 00 00 00 02 00 00 00 00 00 01"));
    assert_eq!(CapsuleCmd::parse(&out).sqe, sqe);
    let len = CapsuleCmd { sqe }.encode(&plain(), 0, &mut out);
    assert_eq!((len, &out[..8]), (72, &hex("04 00 48 00 48 00 00 00")[..]), "no data, no offset");
}

#[test]
fn digests_and_alignment_move_the_data() {
    let sqe = Sqe::new(0x01, 1);
    let mut out = [0xff; HEADER_LEN_MAX];
    let len = CapsuleCmd { sqe }.encode(&digests(4), 8, &mut out);
    assert_eq!((len, &out[..8]), (76, &hex("04 03 48 4c 58 00 00 00")[..]), "76 + 8 + 4");
    assert_eq!(out[72..76], crc32c(&out[..72]).to_le_bytes());
    let len = CapsuleCmd { sqe }.encode(&digests(128), 8, &mut out);
    assert_eq!((len, out[3], out[4]), (128, 128, 140));
    assert_eq!(out[76..128], [0; 52], "padding is zero");
    let len = CapsuleCmd { sqe }.encode(&digests(72), 8, &mut out);
    assert_eq!((len, out[3], out[4]), (144, 144, 156), "an alignment need not be a power of two");
    let len = CapsuleCmd { sqe }.encode(&digests(128), 0, &mut out);
    assert_eq!((len, out[1], out[3], out[4]), (76, 1, 0, 76), "without data only the header digest");
}

#[test]
fn response_capsule_is_as_specified() {
    let cqe = Cqe {
        result: 0x0807_0605_0403_0201,
        sqhd: 0x0a09,
        sqid: 0,
        cid: 0x0c0b,
        status: Status::LBA_OUT_OF_RANGE.dnr(),
    };
    let mut out = [0xff; HEADER_LEN_MAX];
    let len = CapsuleResp { cqe }.encode(&plain(), &mut out);
    assert_eq!(out[..len], hex("05 00 18 00 18 00 00 00  01 02 03 04 05 06 07 08  09 0a 00 00 0b 0c 00 81"));
    assert_eq!(CapsuleResp::parse(&out).cqe, cqe);
    let len = CapsuleResp { cqe }.encode(&digests(8), &mut out);
    assert_eq!((len, &out[..8]), (28, &hex("05 01 18 00 1c 00 00 00")[..]));
}

#[test]
fn data_pdus_are_as_specified() {
    let mut out = [0xff; HEADER_LEN_MAX];
    let h2c = H2cData { cid: 1, ttag: 2, offset_bytes: 4096, len_bytes: 8192, last: true };
    let len = h2c.encode(&plain(), &mut out);
    let golden = hex("06 04 18 18 18 20 00 00  01 00 02 00 00 10 00 00  00 20 00 00 00 00 00 00");
    assert_eq!(out[..len], golden);
    assert_eq!(H2cData::parse(PduFlags::LAST, &out), Ok(h2c));

    let c2h = C2hData { cid: 1, offset_bytes: 4096, len_bytes: 16, last: true, success: true };
    let len = c2h.encode(&plain(), &mut out);
    let golden = hex("07 0c 18 18 28 00 00 00  01 00 00 00 00 10 00 00  10 00 00 00 00 00 00 00");
    assert_eq!(out[..len], golden);
    assert_eq!(C2hData::parse(PduFlags(0x0c), &out), Ok(c2h));
    assert_eq!(
        C2hData::parse(PduFlags::SUCCESS, &out),
        Err(PduError::InvalidHeaderField { offset: 1 }),
        "SUCCESS needs LAST_PDU"
    );
}

#[test]
fn r2t_is_as_specified() {
    let mut out = [0xff; HEADER_LEN_MAX];
    let r2t = R2t { cid: 3, ttag: 0, offset_bytes: 8192, len_bytes: 131_072 };
    let len = r2t.encode(&plain(), &mut out);
    let golden = hex("09 00 18 00 18 00 00 00  03 00 00 00 00 20 00 00  00 00 02 00 00 00 00 00");
    assert_eq!(out[..len], golden);
    assert_eq!(R2t::parse(&out), Ok(r2t));
    out[16..20].fill(0);
    assert_eq!(R2t::parse(&out), Err(PduError::InvalidHeaderField { offset: 16 }), "length 0");
}

#[test]
fn an_absurd_length_does_not_overflow() {
    let mut out = [0; HEADER_LEN_MAX];
    let h2c = H2cData { cid: 0, ttag: 0, offset_bytes: u32::MAX, len_bytes: u32::MAX, last: false };
    h2c.encode(&digests(4), &mut out);
    assert_eq!(CommonHeader::parse(&out[..8].try_into().unwrap()).plen, u32::MAX);
}

#[test]
fn type_codes_are_those_of_the_specification() {
    for code in 0..=255 {
        let parsed = PduType::parse(code);
        assert_eq!(parsed.is_some(), code < 10 && code != 8, "{code}");
        assert!(parsed.is_none_or(|pdu_type| pdu_type.code() == code));
    }
}

#[test]
fn a_plain_header_is_the_one_that_is_written_field_by_field() {
    let codec = plain();
    assert!(codec.is_plain());
    let mut out = [0xee; HEADER_LEN_MAX];
    for (last, success) in [(false, false), (true, false), (true, true)] {
        let data = C2hData { cid: 0x1234, offset_bytes: 0x0102_0304, len_bytes: 0x0a0b_0c0d, last, success };
        assert_eq!(data.encode(&codec, &mut out), 24);
        assert_eq!(data.encode_plain(), out[..24]);
    }
    let cqe =
        Cqe { result: 0x1122_3344_5566_7788, sqhd: 0x99aa, ..Cqe::new(0xbbcc, Status::INVALID_FIELD.dnr()) };
    assert_eq!(CapsuleResp { cqe }.encode(&codec, &mut out), 24);
    assert_eq!(CapsuleResp { cqe }.encode_plain(), out[..24]);
}

#[test]
fn only_a_codec_without_digests_and_padding_is_plain() {
    assert!(!Codec { header_digest: true, ..plain() }.is_plain());
    assert!(!Codec { data_digest: true, ..plain() }.is_plain());
    assert!(!Codec { alignment_bytes: 16, ..plain() }.is_plain());
    assert!(Codec { alignment_bytes: 8, ..plain() }.is_plain());
}
