//! Every field of the log pages against hand-written bytes, and round trips from any bytes.

use super::*;
use crate::Status;
use crate::fabrics::Nqn;
use crate::text::{Ascii, Text};

layout_round_trip!(ana_header_survives_a_round_trip, AnaHeader);
layout_round_trip!(ana_group_survives_a_round_trip, AnaGroup);
layout_round_trip!(discovery_header_survives_a_round_trip, DiscoveryHeader);
layout_round_trip!(discovery_entry_survives_a_round_trip, DiscoveryEntry);
layout_round_trip!(supported_log_pages_survive_a_round_trip, SupportedLogPages);
layout_round_trip!(commands_effects_survive_a_round_trip, CommandsEffectsLog);
layout_round_trip!(feature_effects_survive_a_round_trip, FeatureEffectsLog);
layout_round_trip!(error_entry_survives_a_round_trip, ErrorEntry);
layout_round_trip!(health_log_survives_a_round_trip, HealthLog);
layout_round_trip!(firmware_slots_survive_a_round_trip, FirmwareSlotLog);
layout_round_trip!(reservation_notification_survives_a_round_trip, ReservationNotification);

#[test]
fn get_log_page_resolves_its_length_and_offset() {
    let command = GetLogPage {
        page: LogPage::Ana,
        nsid: u32::MAX,
        specific: GetLogPage::ANA_GROUPS_ONLY,
        retain_event: true,
        len_bytes: 0x0005_0004,
        specific_id: 0x1234,
        offset: 0x0000_0001_0000_0010,
        is_index: true,
        uuid_index: 3,
        csi: 2,
    };
    let sqe = command.encode();
    assert_eq!(sqe.opcode, 0x02);
    assert_eq!(sqe.cdw10, 0x4000_810c, "NUMDL, RAE, LSP, LID");
    assert_eq!(sqe.cdw11, 0x1234_0001, "LSI, NUMDU");
    assert_eq!((sqe.cdw12, sqe.cdw13, sqe.cdw14), (0x10, 1, 0x0280_0003));
    assert_eq!(GetLogPage::parse(&sqe), command);
    let whole = GetLogPage::new(LogPage::Discovery, 0, 1 << 34);
    assert_eq!(GetLogPage::parse(&whole.encode()), whole, "the longest length fits");
    for code in 0..=255 {
        assert_eq!(LogPage::parse(code).code(), code);
    }
}

#[test]
fn ana_page_fields_lie_where_the_specification_says() {
    golden!(AnaHeader {
        0 change_count = 2 => "02 00 00 00 00 00 00 00";
        8 count_groups = 3 => "03 00";
    });
    let zero = AnaGroup::default();
    assert_eq!(zero.state, AnaState::Reserved(0));
    golden!(AnaGroup {
        0 group_id = 1 => "01 00 00 00";
        4 count_nsids = 2 => "02 00 00 00";
        8 change_count = 3 => "03 00 00 00 00 00 00 00";
        16 state = AnaState::Inaccessible => "03";
    });
    for code in 0..16 {
        assert_eq!(AnaState::parse(code).code(), code);
    }
}

#[test]
fn discovery_page_fields_lie_where_the_specification_says() {
    golden!(DiscoveryHeader {
        0 generation = 0x0102 => "02 01 00 00 00 00 00 00";
        8 count_records = 3 => "03 00 00 00 00 00 00 00";
        16 record_format = 1 => "01 00";
    });
    golden!(DiscoveryEntry {
        0 transport = TransportType::Tcp => "03";
        1 address_family = AddressFamily::Ipv6 => "02";
        2 subsystem_type = SubsystemType::Nvm => "02";
        3 requirements = TransportRequirements::SECURE_CHANNEL_NOT_REQUIRED
            | TransportRequirements::SQ_FLOW_CONTROL_DISABLE => "06";
        4 port_id = 1 => "01 00";
        6 cntlid = 0xffff => "ff ff";
        8 admin_queue_entries_max = 32 => "20 00";
        10 flags = DiscoveryFlags::DUPLICATE | DiscoveryFlags::PERSISTENT_CONNECTIONS => "03 00";
        32 service_id = Text::new("4420").unwrap() => "34 34 32 30 00";
        256 subnqn = Nqn::new("nqn.y").unwrap().encode() => "6e 71 6e 2e 79 00";
        512 address = Text::new("::1").unwrap() => "3a 3a 31 00";
        768 security_type = 2 => "02";
    });
    let padded = b"192.0.2.1       ";
    let mut image = [0; DiscoveryEntry::LEN];
    image[512..528].copy_from_slice(padded);
    assert_eq!(DiscoveryEntry::parse(&image).address.as_str(), "192.0.2.1", "space padding is dropped");
    assert_eq!(Text::<4>::new("4420"), None, "the terminator must fit");
}

#[test]
fn support_pages_index_by_code() {
    let mut pages = SupportedLogPages::default();
    pages.pages[0x70] = LogPageSupport::SUPPORTED;
    assert_eq!(pages.encode()[0x1c0..0x1c4], [1, 0, 0, 0]);
    let mut commands = CommandsEffectsLog::default();
    commands.admin[0x02] = CommandEffects::SUPPORTED;
    commands.io[0x01] = CommandEffects::SUPPORTED | CommandEffects::CONTENT_CHANGE;
    let bytes = commands.encode();
    assert_eq!((bytes[8], bytes[1028]), (1, 3));
    let mut features = FeatureEffectsLog::default();
    features.features[0x07] = FeatureEffects::SUPPORTED | FeatureEffects::SCOPE_CONTROLLER;
    assert_eq!(features.encode()[28..32], [1, 0, 0x20, 0]);
}

#[test]
fn error_entry_fields_lie_where_the_specification_says() {
    golden!(ErrorEntry {
        0 error_count = 1 => "01 00 00 00 00 00 00 00";
        8 sqid = 2 => "02 00";
        10 cid = 3 => "03 00";
        12 status = StatusField(Status::UNRECOVERED_READ.dnr()) => "02 85";
        14 parameter_location = 0xffff => "ff ff";
        16 lba = 4 => "04 00 00 00 00 00 00 00";
        24 nsid = 5 => "05 00 00 00";
        28 vendor_page = 0xc0 => "c0";
        29 transport = 3 => "03";
        30 csi = 1 => "01";
        31 opcode = 2 => "02";
        32 command_specific = 6 => "06 00 00 00 00 00 00 00";
        40 transport_specific = 7 => "07 00";
        63 version = 1 => "01";
    });
}

#[test]
fn health_fields_lie_where_the_specification_says() {
    golden!(HealthLog {
        0 critical_warning = CriticalWarning::READ_ONLY => "08";
        1 temperature_kelvin = 300 => "2c 01";
        3 available_spare_percent = 100 => "64";
        4 available_spare_threshold_percent = 10 => "0a";
        5 used_percent = 3 => "03";
        6 endurance_group_warning = 1 => "01";
        32 data_units_read = 1 => "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
        48 data_units_written = 2 => "02";
        64 host_reads = 3 => "03";
        80 host_writes = 4 => "04";
        96 busy_minutes = 5 => "05";
        112 power_cycles = 6 => "06";
        128 power_on_hours = 7 => "07";
        144 unsafe_shutdowns = 8 => "08";
        160 media_errors = 9 => "09";
        176 error_log_entries = 10 => "0a";
        192 warning_temperature_minutes = 11 => "0b";
        196 critical_temperature_minutes = 12 => "0c";
        200 sensors_kelvin = [300, 0, 0, 0, 0, 0, 0, 1] => "2c 01 00 00 00 00 00 00 00 00 00 00 00 00 01 00";
    });
}

#[test]
fn firmware_and_reservation_fields_lie_where_the_specification_says() {
    let image = {
        let mut log = FirmwareSlotLog { active: 1, ..FirmwareSlotLog::default() };
        log.revisions[0] = Ascii::new("0.1.0");
        log.encode()
    };
    assert_eq!(image[..17], *b"\x01\0\0\0\0\0\0\x000.1.0   \0");
    golden!(ReservationNotification {
        0 count = 1 => "01";
        8 kind = 2 => "02";
        9 count_available = 3 => "03";
        12 nsid = 4 => "04 00 00 00";
    });
}
