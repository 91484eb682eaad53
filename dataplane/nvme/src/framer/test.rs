//! The framer against streams of valid PDUs cut at every place, and against each malformed
//! header. Goal: the same events whatever the cuts, the right error for each fault, no panic.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::pdu::{C2hData, CapsuleCmd, CapsuleResp, Fes, H2cData, IcReq, IcResp, R2t, TermReq};
use crate::testing::crc32c;
use crate::{Cqe, Sqe, Status};

const LIMITS: Limits = Limits { capsule_data_max_bytes: 8192, transfer_data_max_bytes: 16_384 };

/// What a stream amounts to, with data joined.
#[derive(Debug, PartialEq, Clone)]
struct Seen {
    pdu: Pdu,
    data: Vec<u8>,
    digest: Option<u32>,
}

fn framer(receiver: Receiver, codec: &Codec) -> Framer {
    let mut framer = Framer::new(receiver, LIMITS, crc32c);
    framer.negotiate(codec.header_digest, codec.data_digest, codec.alignment_bytes);
    framer
}

fn read(framer: &mut Framer, chunks: &[&[u8]]) -> Result<Vec<Seen>, PduError> {
    read_with(framer, chunks, |_, _| None)
}

/// As [`read`], taking capsules whole where they are.
fn read_whole(framer: &mut Framer, chunks: &[&[u8]]) -> Result<Vec<Seen>, PduError> {
    read_with(framer, chunks, take_whole)
}

fn read_with(
    framer: &mut Framer,
    chunks: &[&[u8]],
    whole: impl FnMut(&mut Framer, &mut &[u8]) -> Option<Seen>,
) -> Result<Vec<Seen>, PduError> {
    let mut seen = Vec::new();
    read_into(&mut seen, framer, chunks, whole).map(|()| seen)
}

/// What comes before an error is in `seen`.
fn read_into(
    seen: &mut Vec<Seen>,
    framer: &mut Framer,
    chunks: &[&[u8]],
    mut whole: impl FnMut(&mut Framer, &mut &[u8]) -> Option<Seen>,
) -> Result<(), PduError> {
    let mut current: Option<Seen> = None;
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            if let Some(capsule) = whole(framer, &mut input) {
                assert!(current.is_none(), "a capsule inside a PDU");
                seen.push(capsule);
                continue;
            }
            let Some(event) = framer.poll(&mut input)? else { break };
            match event {
                Event::Header(frame) => {
                    assert!(current.is_none(), "a header inside a PDU");
                    current = Some(Seen { pdu: frame.pdu, data: Vec::new(), digest: None });
                }
                Event::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    current.as_mut().expect("data after a header").data.extend_from_slice(bytes);
                }
                Event::End { data_digest } => {
                    let mut done = current.take().expect("an end after a header");
                    done.digest = data_digest;
                    seen.push(done);
                }
            }
        }
        assert!(input.is_empty(), "poll stops only when all is read");
    }
    Ok(())
}

/// The capsule that the framer takes whole, if it does.
fn take_whole(framer: &mut Framer, input: &mut &[u8]) -> Option<Seen> {
    if let Some(cqe) = framer.take_response(input) {
        return Some(Seen { pdu: Pdu::CapsuleResp(CapsuleResp { cqe }), data: Vec::new(), digest: None });
    }
    let capsule = framer.take_capsule(input)?;
    let pdu = Pdu::CapsuleCmd(CapsuleCmd { sqe: Sqe::parse(capsule.entry) });
    Some(Seen { pdu, data: capsule.data.to_vec(), digest: capsule.data_digest })
}

fn append(stream: &mut Vec<u8>, codec: &Codec, header: &[u8], data: &[u8]) {
    stream.extend_from_slice(header);
    stream.extend_from_slice(data);
    if codec.data_digest && !data.is_empty() {
        stream.extend_from_slice(&crc32c(data).to_le_bytes());
    }
}

fn encode(seen: &Seen, codec: &Codec, stream: &mut Vec<u8>) {
    let mut header = [0; HEADER_LEN_MAX];
    let data = &seen.data;
    let data_len = data.len() as u32;
    let len = match &seen.pdu {
        Pdu::IcReq(pdu) => return stream.extend_from_slice(&pdu.encode()),
        Pdu::IcResp(pdu) => return stream.extend_from_slice(&pdu.encode()),
        Pdu::H2cTermReq(pdu) | Pdu::C2hTermReq(pdu) => {
            let mut out = [0; TermReq::LEN_MAX];
            let len = pdu.encode(seen.pdu.pdu_type(), data, &mut out);
            return stream.extend_from_slice(&out[..len]);
        }
        Pdu::CapsuleCmd(pdu) => pdu.encode(codec, data_len, &mut header),
        Pdu::CapsuleResp(pdu) => pdu.encode(codec, &mut header),
        Pdu::H2cData(pdu) => pdu.encode(codec, &mut header),
        Pdu::C2hData(pdu) => pdu.encode(codec, &mut header),
        Pdu::R2t(pdu) => pdu.encode(codec, &mut header),
    };
    append(stream, codec, &header[..len], data);
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 1..700)]
}

fn h2c() -> impl Strategy<Value = Seen> {
    let capsule = (any::<[u8; 64]>(), data()).prop_map(|(bytes, data)| Seen {
        pdu: Pdu::CapsuleCmd(CapsuleCmd { sqe: Sqe::parse(&bytes) }),
        data,
        digest: None,
    });
    let transfer = (any::<(u16, u16, u32, bool)>(), proptest::collection::vec(any::<u8>(), 1..700)).prop_map(
        |((cid, ttag, offset_bytes, last), data)| Seen {
            pdu: Pdu::H2cData(H2cData { cid, ttag, offset_bytes, len_bytes: data.len() as u32, last }),
            data,
            digest: None,
        },
    );
    let term = (any::<(u16, u32)>(), proptest::collection::vec(any::<u8>(), 0..128)).prop_map(
        |((fes, fei), data)| Seen {
            pdu: Pdu::H2cTermReq(TermReq { fes: Fes(fes), fei }),
            data,
            digest: None,
        },
    );
    let icreq =
        (1_u8..=32, any::<(bool, bool)>(), 1..=1_u64 << 32).prop_map(|(dwords, digests, r2t_max)| Seen {
            pdu: Pdu::IcReq(IcReq {
                alignment_bytes: dwords * 4,
                header_digest: digests.0,
                data_digest: digests.1,
                r2t_max,
            }),
            data: Vec::new(),
            digest: None,
        });
    prop_oneof![capsule, transfer, term, icreq]
}

fn c2h() -> impl Strategy<Value = Seen> {
    let none = |pdu| Seen { pdu, data: Vec::new(), digest: None };
    let response = any::<[u8; 16]>()
        .prop_map(move |bytes| none(Pdu::CapsuleResp(CapsuleResp { cqe: Cqe::parse(&bytes) })));
    let r2t = (any::<(u16, u16, u32)>(), 1_u32..).prop_map(move |((cid, ttag, offset_bytes), len_bytes)| {
        none(Pdu::R2t(R2t { cid, ttag, offset_bytes, len_bytes }))
    });
    let transfer = (any::<(u16, u32, bool, bool)>(), proptest::collection::vec(any::<u8>(), 1..700))
        .prop_map(|((cid, offset_bytes, last, success), data)| Seen {
            pdu: Pdu::C2hData(C2hData {
                cid,
                offset_bytes,
                len_bytes: data.len() as u32,
                last,
                success: success && last,
            }),
            data,
            digest: None,
        });
    let icresp =
        (1_u8..=32, any::<(bool, bool)>(), 1024_u32..=1 << 29).prop_map(move |(dwords, digests, limit)| {
            none(Pdu::IcResp(IcResp {
                alignment_bytes: dwords * 4,
                header_digest: digests.0,
                data_digest: digests.1,
                h2c_data_max_bytes: limit * 4,
            }))
        });
    prop_oneof![response, r2t, transfer, icresp]
}

fn check_stream(receiver: Receiver, sent: &[Seen], codec: &Codec, cuts: &[usize]) {
    let mut stream = Vec::new();
    for seen in sent {
        encode(seen, codec, &mut stream);
    }
    let expected: Vec<Seen> = sent
        .iter()
        .map(|seen| {
            let has_digest = codec.data_digest
                && !seen.data.is_empty()
                && !matches!(seen.pdu, Pdu::H2cTermReq(_) | Pdu::C2hTermReq(_));
            Seen { digest: has_digest.then(|| crc32c(&seen.data)), ..seen.clone() }
        })
        .collect();
    let mut chunks = Vec::new();
    let mut rest = &stream[..];
    for cut in cuts {
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        chunks.push(head);
        rest = tail;
    }
    chunks.push(rest);
    for read in [read, read_whole] {
        let mut framer = framer(receiver, codec);
        assert_eq!(read(&mut framer, &chunks), Ok(expected.clone()));
        assert!(framer.is_idle());
    }
}

/// What a reader of a stream comes to: the PDUs, how it ends, the header that it quotes then, and what it waits for.
type Read = (Vec<Seen>, Result<(), PduError>, Option<Vec<u8>>, usize);

/// What comes of a stream that is cut at these places and taken whole where it can be, and of its bytes one by one.
fn whole_and_by_bytes(stream: &[u8], cuts: &[usize], framer: impl Fn() -> Framer) -> [Read; 2] {
    let mut rest = stream;
    let mut chunks: Vec<&[u8]> = Vec::new();
    for cut in cuts {
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        chunks.push(head);
        rest = tail;
    }
    chunks.push(rest);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    [(chunks, true), (bytes, false)].map(|(chunks, takes_whole)| {
        let mut framer = framer();
        let mut seen = Vec::new();
        let whole = |framer: &mut Framer, input: &mut &[u8]| {
            if takes_whole { take_whole(framer, input) } else { None }
        };
        let end = read_into(&mut seen, &mut framer, &chunks, whole);
        let quoted = end.is_err().then(|| framer.header().to_vec());
        (seen, end, quoted, framer.wanted())
    })
}

proptest! {
    #[test]
    fn any_cut_of_a_host_stream_gives_the_same_pdus(
        sent in proptest::collection::vec(h2c(), 1..6),
        cuts in proptest::collection::vec(0_usize..200, 0..40),
        header_digest: bool, data_digest: bool, dwords in 1_u8..=32,
    ) {
        let codec = Codec { header_digest, data_digest, alignment_bytes: dwords * 4, crc32c };
        check_stream(Receiver::Controller, &sent, &codec, &cuts);
    }

    #[test]
    fn any_cut_of_a_controller_stream_gives_the_same_pdus(
        sent in proptest::collection::vec(c2h(), 1..6),
        cuts in proptest::collection::vec(0_usize..200, 0..40),
        header_digest: bool, data_digest: bool, dwords in 1_u8..=32,
    ) {
        let codec = Codec { header_digest, data_digest, alignment_bytes: dwords * 4, crc32c };
        check_stream(Receiver::Host, &sent, &codec, &cuts);
    }

    #[test]
    fn capsules_taken_whole_are_those_read_step_by_step(
        mut bytes in proptest::collection::vec(any::<u8>(), 72..600),
        plen in prop_oneof![Just(72_u32), 70_u32..200, 0_u32..700], pdo in 60_u8..100,
        flags in 0_u8..4, header_digest: bool, data_digest: bool, right: bool,
    ) {
        bytes[..3].copy_from_slice(&[4, flags, 72]);
        bytes[3] = pdo;
        bytes[4..8].copy_from_slice(&plen.to_le_bytes());
        if right && bytes.len() >= 76 {
            let digest = crc32c(&bytes[..72]);
            bytes[72..76].copy_from_slice(&digest.to_le_bytes());
        }
        let codec = Codec { header_digest, data_digest, alignment_bytes: 4, crc32c };
        let by_steps = read(&mut framer(Receiver::Controller, &codec), &[&bytes]);
        prop_assert_eq!(read_whole(&mut framer(Receiver::Controller, &codec), &[&bytes]), by_steps);
    }

    /// A run of capsules, some of them damaged, with digests that may not be those negotiated: whole, however it is cut,
    /// and byte by byte.
    #[test]
    fn a_run_of_capsules_taken_whole_is_that_read_byte_by_byte(
        capsules in proptest::collection::vec((any::<[u8; 64]>(), data()), 1..12),
        damage in proptest::option::of((0_usize..12, 0_usize..80, any::<u8>())),
        cuts in proptest::collection::vec(1_usize..900, 0..12),
        sent in any::<(bool, bool)>(), agreed in proptest::option::of(any::<(bool, bool)>()),
        dwords in prop_oneof![Just(1_u8), 1_u8..=32], limit in prop_oneof![Just(8192_u32), 1_u32..700],
    ) {
        let codec_of = |(header_digest, data_digest)| {
            Codec { header_digest, data_digest, alignment_bytes: dwords * 4, crc32c }
        };
        let sender = codec_of(sent);
        let mut stream = Vec::new();
        for (number, (entry, data)) in capsules.into_iter().enumerate() {
            let start = stream.len();
            let pdu = Pdu::CapsuleCmd(CapsuleCmd { sqe: Sqe::parse(&entry) });
            encode(&Seen { pdu, data, digest: None }, &sender, &mut stream);
            if let Some((which, at, bits)) = damage && which == number {
                let at = (start + at).min(stream.len() - 1);
                stream[at] ^= bits;
            }
        }
        let receiver = codec_of(agreed.unwrap_or(sent));
        let limits = Limits { capsule_data_max_bytes: limit, ..LIMITS };
        let [whole, by_bytes] = whole_and_by_bytes(&stream, &cuts, || {
            let mut framer = framer(Receiver::Controller, &receiver);
            framer.set_limits(limits);
            framer
        });
        prop_assert_eq!(whole, by_bytes);
    }

    /// The same of responses, to a host or to a controller, which has none to expect.
    #[test]
    fn a_run_of_responses_taken_whole_is_that_read_byte_by_byte(
        responses in proptest::collection::vec(any::<[u8; 16]>(), 1..20),
        damage in proptest::option::of((0_usize..480, any::<u8>())), to_controller in 0_u8..8,
        cuts in proptest::collection::vec(1_usize..100, 0..12), sent: bool, agreed in proptest::option::of(any::<bool>()),
    ) {
        let codec_of = |header_digest| Codec { header_digest, data_digest: false, alignment_bytes: 4, crc32c };
        let mut stream = Vec::new();
        for bytes in responses {
            let pdu = Pdu::CapsuleResp(CapsuleResp { cqe: Cqe::parse(&bytes) });
            encode(&Seen { pdu, data: Vec::new(), digest: None }, &codec_of(sent), &mut stream);
        }
        if let Some((at, bits)) = damage {
            let at = at % stream.len();
            stream[at] ^= bits;
        }
        let receiver = if to_controller == 0 { Receiver::Controller } else { Receiver::Host };
        let agreed = codec_of(agreed.unwrap_or(sent));
        let [whole, by_bytes] = whole_and_by_bytes(&stream, &cuts, || framer(receiver, &agreed));
        prop_assert_eq!(whole, by_bytes);
    }

    #[test]
    fn any_bytes_end_in_events_or_one_lasting_error(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
        type_code in 0_u8..10, hlen in prop_oneof![Just(24_u8), Just(72), Just(128)], plen in 0_u32..400,
        header_digest: bool, data_digest: bool,
    ) {
        if bytes.len() >= 8 {
            bytes[0] = type_code;
            bytes[2] = hlen;
            bytes[4..8].copy_from_slice(&plen.to_le_bytes());
        }
        let codec = Codec { header_digest, data_digest, alignment_bytes: 4, crc32c };
        for receiver in [Receiver::Controller, Receiver::Host] {
            let mut framer = framer(receiver, &codec);
            if let Err(error) = read(&mut framer, &[&bytes]) {
                prop_assert_eq!(framer.poll(&mut &bytes[..]), Err(error));
            }
        }
    }
}

fn capsule(codec: &Codec, data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let pdu = Pdu::CapsuleCmd(CapsuleCmd { sqe: Sqe::new(1, 1) });
    encode(&Seen { pdu, data: data.to_vec(), digest: None }, codec, &mut stream);
    stream
}

fn error_of(receiver: Receiver, codec: &Codec, stream: &[u8]) -> Option<PduError> {
    read(&mut framer(receiver, codec), &[stream]).err()
}

fn field(offset: u32) -> Option<PduError> {
    Some(PduError::InvalidHeaderField { offset })
}

#[test]
fn malformed_common_headers_name_the_field() {
    let codec = Codec::initial(crc32c);
    let good = capsule(&codec, &[7; 16]);
    let with = |at: usize, value: u8| {
        let mut stream = good.clone();
        stream[at] = value;
        error_of(Receiver::Controller, &codec, &stream)
    };
    assert_eq!(error_of(Receiver::Controller, &codec, &good), None);
    assert_eq!(error_of(Receiver::Host, &codec, &good), field(0), "wrong direction");
    assert_eq!(with(0, 0x08), field(0), "reserved type");
    assert_eq!(with(0, 0x05), field(0), "a controller's PDU");
    assert_eq!(with(1, 0x01), field(1), "header digest flag without negotiation");
    assert_eq!(with(1, 0x02), field(1), "data digest flag without negotiation");
    assert_eq!(with(2, 71), field(2), "header length");
    assert_eq!(with(3, 0), field(3), "data offset inside the header");
    assert_eq!(with(3, 74), field(3), "data offset not aligned");
    assert_eq!(with(3, 200), field(4), "data offset beyond the PDU");
    assert_eq!(with(4, 71), field(4), "PDU shorter than its header");
}

#[test]
fn a_digest_negotiated_must_come() {
    let codec = Codec { header_digest: true, data_digest: true, alignment_bytes: 4, crc32c };
    let mut stream = capsule(&codec, &[1; 8]);
    stream[1] = 0x02;
    assert_eq!(error_of(Receiver::Controller, &codec, &stream), field(1), "no header digest");
    let data_only = Codec { header_digest: false, ..codec };
    let mut stream = capsule(&data_only, &[1; 8]);
    stream[1] = 0;
    assert_eq!(error_of(Receiver::Controller, &data_only, &stream), field(1), "no data digest");
}

#[test]
fn a_damaged_header_fails_its_digest_and_reports_the_one_received() {
    let codec = Codec { header_digest: true, data_digest: false, alignment_bytes: 4, crc32c };
    let mut stream = capsule(&codec, &[]);
    let received = u32::from_le_bytes(stream[72..76].try_into().unwrap());
    stream[20] ^= 1;
    let mut framer = framer(Receiver::Controller, &codec);
    assert_eq!(read(&mut framer, &[&stream]), Err(PduError::HeaderDigest { received }));
    assert_eq!(framer.header(), &stream[..76], "the header can be quoted");
}

#[test]
fn an_alignment_asked_for_is_demanded() {
    let asked = Codec { header_digest: false, data_digest: false, alignment_bytes: 64, crc32c };
    let sent = Codec { alignment_bytes: 4, ..asked };
    assert_eq!(error_of(Receiver::Controller, &asked, &capsule(&sent, &[1])), field(3));
    assert_eq!(error_of(Receiver::Controller, &asked, &capsule(&asked, &[1])), None);
}

#[test]
fn lengths_beyond_the_limits_are_refused_with_the_header() {
    let codec = Codec::initial(crc32c);
    let mut header = [0; HEADER_LEN_MAX];
    let at_limit = CapsuleCmd { sqe: Sqe::new(1, 1) }.encode(&codec, 8192, &mut header);
    assert_eq!(error_of(Receiver::Controller, &codec, &header[..at_limit]), None);
    let beyond = CapsuleCmd { sqe: Sqe::new(1, 1) }.encode(&codec, 8193, &mut header);
    assert_eq!(error_of(Receiver::Controller, &codec, &header[..beyond]), field(4));
    let mut data = H2cData { cid: 0, ttag: 0, offset_bytes: 0, len_bytes: 16_384, last: true };
    let at_limit = data.encode(&codec, &mut header);
    assert_eq!(error_of(Receiver::Controller, &codec, &header[..at_limit]), None);
    data.len_bytes += 1;
    let beyond = data.encode(&codec, &mut header);
    assert_eq!(error_of(Receiver::Controller, &codec, &header[..beyond]), Some(PduError::DataLimitExceeded));
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(error_of(Receiver::Controller, &codec, &header[..beyond]), field(4), "PLEN and DATAL differ");
}

#[test]
fn pdus_without_data_must_not_be_longer() {
    let codec = Codec::initial(crc32c);
    let mut request =
        IcReq { alignment_bytes: 4, header_digest: false, data_digest: false, r2t_max: 1 }.encode();
    request[4] = 132;
    assert_eq!(error_of(Receiver::Controller, &codec, &request), field(4));
    let mut header = [0; HEADER_LEN_MAX];
    CapsuleResp { cqe: Cqe::new(1, Status::SUCCESS) }.encode(&codec, &mut header);
    header[4] = 28;
    assert_eq!(error_of(Receiver::Host, &codec, &header[..24]), field(4));
    let mut out = [0; TermReq::LEN_MAX];
    TermReq { fes: Fes::PDU_SEQUENCE, fei: 0 }.encode(PduType::H2cTermReq, &[0; 128], &mut out);
    out[4] = 153;
    assert_eq!(error_of(Receiver::Controller, &codec, &out[..24]), field(4));
}

#[test]
fn data_received_past_the_framer_is_accounted_for() {
    let codec = Codec { header_digest: false, data_digest: true, alignment_bytes: 4, crc32c };
    let stream = capsule(&codec, &[5; 100]);
    let mut framer = framer(Receiver::Controller, &codec);
    let mut input = &stream[..72];
    assert!(matches!(framer.poll(&mut input), Ok(Some(Event::Header(Frame { data_len: 100, .. })))));
    assert_eq!((framer.data_remaining(), framer.wanted()), (100, 100));
    framer.skip_data(60);
    let mut input = &stream[132..];
    assert_eq!(framer.poll(&mut input), Ok(Some(Event::Data(&stream[132..172]))));
    assert_eq!(framer.poll(&mut input), Ok(Some(Event::End { data_digest: Some(crc32c(&[5; 100])) })));
    assert_eq!(framer.wanted(), 8);
}
