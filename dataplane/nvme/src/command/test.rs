//! Golden vectors and round trips of statuses, entries, commands, features and events.

use std::format;

use proptest::prelude::*;

use super::*;
use crate::event::AsyncEvent;
use crate::fabrics::*;
use crate::features::*;
use crate::testing::hex;
use crate::{Cqe, Fuse, Nqn, NqnError, Psdt, Sgl, StatusType};

proptest! {
    #[test]
    fn any_64_bytes_are_an_entry_but_for_reserved_bits(mut bytes: [u8; 64]) {
        let sqe = Sqe::parse(&bytes);
        bytes[1] &= 0b1100_0011;
        prop_assert_eq!(sqe.encode(), bytes);
    }

    #[test]
    fn any_16_bytes_are_a_completion_but_for_the_phase_tag(mut bytes: [u8; 16]) {
        let cqe = Cqe::parse(&bytes);
        bytes[14] &= 0xfe;
        prop_assert_eq!(cqe.encode(), bytes);
    }

    #[test]
    fn any_descriptor_that_parses_encodes_the_same(bytes: [u8; 16]) {
        if let Ok(sgl) = Sgl::parse(&bytes) {
            prop_assert_eq!(Sgl::parse(&sgl.encode()), Ok(sgl));
        }
    }

    #[test]
    fn nvm_commands_survive_a_round_trip(bytes: [u8; 64], opcode in 0_u8..0x10) {
        let mut sqe = Sqe::parse(&bytes);
        sqe.opcode = opcode;
        if let Ok(command) = NvmCommand::parse(&sqe) {
            let encoded = command.encode(sqe.nsid);
            prop_assert_eq!(NvmCommand::parse(&encoded), Ok(command));
            prop_assert_eq!((encoded.opcode, encoded.nsid), (opcode, sqe.nsid));
        }
    }

    #[test]
    fn connect_survives_a_round_trip(
        record_format: u16, qid: u16, queue_entries in 1_u32..=65_536, attributes: u8, kato_ms: u32,
    ) {
        let connect = Connect {
            record_format, qid, queue_entries, attributes: ConnectAttributes(attributes), kato_ms,
        };
        prop_assert_eq!(Connect::parse(&connect.encode()), connect);
    }

    #[test]
    fn connect_data_survives_a_round_trip(
        host_id: [u8; 16], cntlid: u16, subsystem in "\\PC{1,55}", host in "[a-z0-9:.-]{1,223}",
    ) {
        let data = ConnectData {
            host_id, cntlid,
            subsystem_nqn: Nqn::new(&subsystem).unwrap(), host_nqn: Nqn::new(&host).unwrap(),
        };
        prop_assert_eq!(ConnectData::parse(&data.encode()), Ok(data));
    }

    #[test]
    fn any_connect_data_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 1024)) {
        let _ = ConnectData::parse(&bytes.try_into().unwrap());
    }

    #[test]
    fn properties_survive_a_round_trip(value: u64) {
        let cap = Cap::parse(value);
        prop_assert_eq!(Cap::parse(cap.encode()), cap);
        let cc = Cc::parse(value as u32);
        prop_assert_eq!(Cc::parse(cc.encode()), cc);
        let csts = Csts::parse(value as u32);
        prop_assert_eq!(Csts::parse(csts.encode()), csts);
        let version = Version::parse(value as u32);
        prop_assert_eq!(version.encode(), value as u32);
    }

    #[test]
    fn features_survive_a_round_trip(value: u32, cdw10: u32, nsid: u32) {
        prop_assert_eq!(NumberOfQueues::parse(value).encode(), value);
        let arbitration = Arbitration::parse(value);
        prop_assert_eq!(Arbitration::parse(arbitration.encode()), arbitration);
        let power = PowerManagement::parse(value);
        prop_assert_eq!(PowerManagement::parse(power.encode()), power);
        let threshold = TemperatureThreshold::parse(value);
        prop_assert_eq!(TemperatureThreshold::parse(threshold.encode()), threshold);
        let sqe = Sqe { cdw10, cdw11: value, ..Sqe::new(0x09, nsid) };
        let set = SetFeatures::parse(&sqe);
        prop_assert_eq!(SetFeatures::parse(&set.encode()), set);
        let get = GetFeatures::parse(&sqe);
        prop_assert_eq!(GetFeatures::parse(&get.encode()), get);
        let event = AsyncEvent::parse(value);
        prop_assert_eq!(AsyncEvent::parse(event.encode()), event);
    }
}

layout_round_trip!(dsm_range_survives_a_round_trip, DsmRange);
layout_round_trip!(timestamp_survives_a_round_trip, Timestamp);
layout_round_trip!(host_behavior_survives_a_round_trip, HostBehaviorSupport);

#[test]
fn status_bits_are_as_specified() {
    let status = Status::ANA_TRANSITION.dnr().more();
    assert_eq!(status.bits(), 0x6303);
    assert_eq!((status.status_type(), status.code()), (StatusType::PathRelated, 3));
    assert!(status.is_dnr() && status.is_more() && status.is(Status::ANA_TRANSITION));
    assert!(!status.is_success() && Status::SUCCESS.more().is_success());
    assert_eq!(Status::from_bits(0xffff).bits(), 0x7fff);
    assert_eq!(Status::from_bits(0x1800).retry_delay_index(), 3);
    assert_eq!(format!("{status}"), "303h Asymmetric Access Transition MORE DNR");
    assert_eq!(Status::new(7, 0xff).status_type(), StatusType::VendorSpecific);
    for code in 0..0x800 {
        if let Some(name) = Status::from_bits(code).name() {
            assert!(!name.is_empty());
        }
    }
}

#[test]
fn entry_fields_lie_where_the_specification_says() {
    let sqe = Sqe {
        opcode: 0x05,
        fuse: Fuse::First,
        psdt: Psdt::Sgl,
        cid: 0x1122,
        nsid: 0x3344_5566,
        cdw2: 2,
        cdw3: 3,
        mptr: 0x77,
        sgl1: Sgl::Transport { len_bytes: 4096 }.encode(),
        cdw10: 10,
        cdw11: 11,
        cdw12: 12,
        cdw13: 13,
        cdw14: 14,
        cdw15: 15,
    };
    let golden = hex("05 41 22 11 66 55 44 33 02 00 00 00 03 00 00 00 77 00 00 00 00 00 00 00
         00 00 00 00 00 00 00 00 00 10 00 00 00 00 00 5a
         0a 00 00 00 0b 00 00 00 0c 00 00 00 0d 00 00 00 0e 00 00 00 0f 00 00 00");
    assert_eq!(sqe.encode()[..], golden);
    assert_eq!(Sqe::parse(&golden.try_into().unwrap()), sqe);
}

#[test]
fn data_pointers_are_read_or_refused_with_their_status() {
    let sgl = |text: &str| Sqe { sgl1: hex(text).try_into().unwrap(), ..Sqe::default() }.sgl();
    assert_eq!(
        sgl("00 00 00 00 00 00 00 00 00 02 00 00 00 00 00 01"),
        Ok(Sgl::InCapsule { offset_bytes: 0, len_bytes: 512 })
    );
    assert_eq!(sgl("00 00 00 00 00 00 00 00 00 02 00 00 00 00 00 5a"), Ok(Sgl::Transport { len_bytes: 512 }));
    assert_eq!(
        sgl("01 00 00 00 00 00 00 00 02 00 00 03 00 00 00 4f"),
        Ok(Sgl::Keyed { address: 1, len_bytes: 2, key: 3, subtype: 0xf })
    );
    for bad in ["02", "10", "20", "30", "50", "5b", "f0"] {
        let text = format!("00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 {bad}");
        assert_eq!(sgl(&text), Err(Status::SGL_DESCRIPTOR_TYPE_INVALID), "{bad}");
    }
    let prp = Sqe { psdt: Psdt::Prp, ..Sqe::default() };
    assert_eq!(prp.sgl(), Err(Status::INVALID_FIELD), "PRPs are not allowed over Fabrics");
}

#[test]
fn lba_ranges_are_as_specified() {
    let range = LbaRange {
        slba: 0x0102_0304_0506_0708,
        count_blocks: 65_536,
        flags: IoFlags::FUA | IoFlags::LR | IoFlags::PRACT,
        directive_type: 1,
        hints: 0x99,
    };
    let sqe = range.encode(NvmOpcode::Write, 7);
    assert_eq!((sqe.opcode, sqe.nsid), (1, 7));
    assert_eq!((sqe.cdw10, sqe.cdw11), (0x0506_0708, 0x0102_0304));
    assert_eq!((sqe.cdw12, sqe.cdw13), (0xe010_ffff, 0x99));
    assert_eq!(NvmCommand::parse(&sqe), Ok(NvmCommand::Write(range)));
    assert!(LbaRange::new(9, 1).fits(10) && !LbaRange::new(9, 2).fits(10));
    assert!(!LbaRange::new(u64::MAX, 1).fits(u64::MAX) && LbaRange::new(u64::MAX, 1).end().is_none());
}

#[test]
fn dataset_management_is_as_specified() {
    let command =
        DatasetManagement { count_ranges: 256, deallocate: true, integral_write: false, integral_read: true };
    let sqe = command.encode(3);
    assert_eq!((sqe.opcode, sqe.cdw10, sqe.cdw11), (9, 255, 5));
    assert_eq!((DatasetManagement::parse(&sqe), command.list_len()), (command, 4096));
    golden!(DsmRange {
        0 attributes = 1 => "01 00 00 00";
        4 count_blocks = 8 => "08 00 00 00";
        8 slba = 0x0102 => "02 01 00 00 00 00 00 00";
    });
    assert!(!DsmRange { attributes: 0, count_blocks: 2, slba: u64::MAX }.fits(u64::MAX));
}

#[test]
fn unknown_opcodes_are_refused() {
    for opcode in 0..=255 {
        let result = NvmCommand::parse(&Sqe::new(opcode, 1));
        let known = matches!(opcode, 0 | 1 | 2 | 5 | 8 | 9 | 0xc);
        assert_eq!(result.is_ok(), known, "{opcode:02x}");
        assert!(known || result == Err(Status::INVALID_OPCODE));
        assert!(AdminOpcode::parse(opcode).is_none_or(|op| op.code() == opcode));
        assert_eq!(FeatureId::parse(opcode).code(), opcode);
    }
    assert_eq!(NvmOpcode::Verify.name(), "Verify");
}

#[test]
fn connect_is_as_specified() {
    let connect = Connect {
        record_format: 0,
        qid: 2,
        queue_entries: 128,
        attributes: ConnectAttributes::DISABLE_SQ_FLOW_CONTROL,
        kato_ms: 5000,
    };
    let sqe = connect.encode();
    assert_eq!(FabricsType::parse(&sqe), Some(FabricsType::Connect));
    let bytes = sqe.encode();
    assert_eq!(bytes[..8], hex("7f 40 00 00 01 00 00 00"));
    assert_eq!(bytes[40..52], hex("00 00 02 00 7f 00 04 00 88 13 00 00"));
    let response =
        ConnectResponse { cntlid: 0xabcd, authentication_required: true, secure_channel_required: false };
    assert_eq!(response.result(), 0x0002_abcd);
    assert_eq!(ConnectResponse::parse(response.result()), response);
}

#[test]
fn connect_data_is_as_specified_and_names_what_is_wrong() {
    let data = ConnectData {
        host_id: [0x11; 16],
        cntlid: ConnectData::CNTLID_DYNAMIC,
        subsystem_nqn: Nqn::discovery(),
        host_nqn: Nqn::new("nqn.h").unwrap(),
    };
    let mut bytes = data.encode();
    assert_eq!(bytes[14..20], [0x11, 0x11, 0xff, 0xff, 0, 0]);
    assert_eq!(bytes[256..293], *b"nqn.2014-08.org.nvmexpress.discovery\0");
    assert_eq!(bytes[512..518], *b"nqn.h\0");
    bytes[512] = 0;
    let fault = ConnectData::parse(&bytes).unwrap_err();
    assert_eq!(fault, InvalidParameter::Data(512));
    assert_eq!(fault.result(), 0x0001_0200);
    assert_eq!(InvalidParameter::parse(fault.result()), fault);
    bytes[256..512].fill(b'x');
    assert_eq!(ConnectData::parse(&bytes), Err(InvalidParameter::Data(256)), "no terminator");
    let completion = InvalidParameter::Command(Connect::QID_AT).completion(5);
    assert_eq!((completion.cid, completion.result), (5, 42));
    assert!(completion.status.is(Status::CONNECT_INVALID_PARAMETERS) && completion.status.is_dnr());
}

#[test]
fn qualified_names_have_their_bounds() {
    let longest = "x".repeat(223);
    assert_eq!(Nqn::new(&longest).unwrap().as_str(), longest);
    assert_eq!(Nqn::new(&"x".repeat(224)), Err(NqnError::TooLong));
    assert_eq!(Nqn::new(""), Err(NqnError::Empty));
    assert_eq!(Nqn::new("a\0b"), Err(NqnError::NotText));
    let mut field = [0; 256];
    field[0] = 0xff;
    assert_eq!(Nqn::parse(&field), Err(NqnError::NotText));
    field[..224].fill(b'y');
    assert_eq!(Nqn::parse(&field), Err(NqnError::TooLong));
    assert!(Nqn::discovery().is_discovery() && Nqn::discovery() < Nqn::new("nqn.2015").unwrap());
}

#[test]
fn property_commands_are_as_specified() {
    let get = PropertyGet::encode(Property::Cap);
    assert_eq!((get.nsid, get.cdw10, get.cdw11), (4, 1, 0));
    assert_eq!(PropertyGet::parse(&get), Ok(PropertyGet { size: PropertySize::Bytes8, offset: 0 }));
    let set = PropertySet::encode(Property::Cc, 0x0046_0001);
    assert_eq!((set.nsid, set.cdw10, set.cdw11, set.cdw12, set.cdw13), (0, 0, 0x14, 0x0046_0001, 0));
    assert_eq!(
        PropertySet::parse(&set),
        Ok(PropertySet { size: PropertySize::Bytes4, offset: 0x14, value: 0x0046_0001 })
    );
    let reserved = Sqe { cdw10: 2, ..get };
    assert_eq!(PropertyGet::parse(&reserved), Err(Status::INVALID_FIELD));
    assert_eq!(PropertySet::parse(&reserved), Err(Status::INVALID_FIELD));
    for property in [Property::Cap, Property::Vs, Property::Cc, Property::Csts, Property::Nssr] {
        assert_eq!(Property::parse(property.offset()), Some(property));
    }
    assert_eq!(Property::parse(0x24), None);
}

#[test]
fn property_values_are_as_specified() {
    let cap = Cap {
        queue_entries_max: 1024,
        contiguous_queues: true,
        arbitration: 0,
        timeout_500ms: 15,
        subsystem_reset: false,
        command_sets: Cap::CSS_NVM,
        page_size_min: 0,
        page_size_max: 4,
        ready_modes: 1,
    };
    assert_eq!(cap.encode(), 0x0840_0020_0f01_03ff);
    assert_eq!(Cap::parse(0x0840_0020_0f01_03ff), cap);
    assert_eq!(Cc::ENABLE.encode(), 0x0046_0001);
    assert_eq!(Cc::parse(0x0046_4001).shutdown, Shutdown::Normal);
    let csts = Csts { ready: true, shutdown: ShutdownStatus::Complete, ..Csts::default() };
    assert_eq!((csts.encode(), Csts::parse(9)), (9, csts));
    assert_eq!(Version::V2_0.encode(), 0x0002_0000);
    assert_eq!(Nssr::RESET.0.to_be_bytes(), *b"NVMe");
}

#[test]
fn features_and_events_are_as_specified() {
    assert_eq!(NumberOfQueues { submission: 4, completion: 8 }.encode(), 0x0007_0003);
    let timestamp = Timestamp::new(0x0123_4567_89ab, 2);
    assert_eq!(timestamp.encode()[..], hex("ab 89 67 45 23 01 02 00"));
    assert_eq!(timestamp.millis(), 0x0123_4567_89ab);
    golden!(HostBehaviorSupport {
        0 advanced_command_retry = 1 => "01";
        1 telemetry_area_4 = 1 => "01";
        2 lba_format_extension = 1 => "01";
    });
    assert_eq!(AsyncEvent::NAMESPACE_CHANGED.encode(), 0x0004_0002);
    assert_eq!(AsyncEvent::ANA_CHANGED.encode(), 0x000c_0302);
    assert_eq!(AsyncEvent::DISCOVERY_CHANGED.encode(), 0x0070_f002);
    assert_eq!(AsyncEvent::RESERVATION_NOTIFICATION.encode(), 0x0080_0006);
    let abort = Abort { sqid: 1, cid: 0x0203 };
    assert_eq!((abort.encode().cdw10, Abort::parse(&abort.encode())), (0x0203_0001, abort));
}
