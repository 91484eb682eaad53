//! Every field of the Identify structures against hand-written bytes, and round trips from any
//! bytes. Offsets are those of base spec 2.0 figures 275 to 280 and of the NVM command set
//! specification 1.0 figures 97 to 100.

use std::vec::Vec;

use super::*;
use crate::fabrics::{Nqn, Version};
use crate::text::{Ascii, Count8, Count16};

layout_round_trip!(identify_controller_survives_a_round_trip, IdentifyController);
layout_round_trip!(identify_controller_nvm_survives_a_round_trip, IdentifyControllerNvm);
layout_round_trip!(identify_namespace_survives_a_round_trip, IdentifyNamespace);
layout_round_trip!(identify_namespace_nvm_survives_a_round_trip, IdentifyNamespaceNvm);
layout_round_trip!(identify_namespace_independent_survives_a_round_trip, IdentifyNamespaceIndependent);
layout_round_trip!(power_state_survives_a_round_trip, PowerState);

#[test]
fn identify_controller_fields_to_byte_279_lie_where_the_specification_says() {
    golden!(IdentifyController {
        0 vid = 0x1234 => "34 12";
        2 ssvid = 0x5678 => "78 56";
        4 serial_number = Ascii::new("SN1") => "53 4e 31 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20 20";
        24 model_number = Ascii::new("Model é and more than forty characters are cut") =>
            "4d 6f 64 65 6c 20 3f 20 61 6e 64 20 6d 6f 72 65 20 74 68 61
             6e 20 66 6f 72 74 79 20 63 68 61 72 61 63 74 65 72 73 20 61";
        64 firmware_revision = Ascii::new("1.0") => "31 2e 30 20 20 20 20 20";
        72 rab = 6 => "06";
        73 ieee = [1, 2, 3] => "01 02 03";
        76 cmic = Cmic::MULTI_PORT | Cmic::MULTI_CONTROLLER | Cmic::ANA_REPORTING => "0b";
        77 mdts = 8 => "08";
        78 cntlid = 0xfff0 => "f0 ff";
        80 version = Version::V2_0 => "00 00 02 00";
        84 rtd3r_us = 1_000_000 => "40 42 0f 00";
        88 rtd3e_us = 1 => "01 00 00 00";
        92 oaes = AsyncEvents::NAMESPACE_ATTRIBUTE | AsyncEvents::ANA_CHANGE | AsyncEvents::DISCOVERY_LOG
            => "00 09 00 80";
        96 ctratt = ControllerAttributes::HOST_ID_128 | ControllerAttributes::TRAFFIC_BASED_KEEP_ALIVE
            => "41 00 00 00";
        100 rrls = 1 => "01 00";
        111 controller_type = ControllerType::Io => "01";
        112 fguid = [7; 16] => "07 07 07 07 07 07 07 07 07 07 07 07 07 07 07 07";
        128 crdt1_100ms = 1 => "01 00";
        130 crdt2_100ms = 2 => "02 00";
        132 crdt3_100ms = 3 => "03 00";
        253 nvmsr = 1 => "01";
        254 vwci = 1 => "01";
        255 mec = 1 => "01";
        256 oacs = Oacs::NAMESPACE_MANAGEMENT => "08 00";
        258 abort_limit = Count8(4) => "03";
        259 async_event_limit = Count8(256) => "ff";
        260 frmw = 3 => "03";
        261 lpa = LogPageAttributes::COMMAND_EFFECTS | LogPageAttributes::EXTENDED_DATA
            | LogPageAttributes::SUPPORTED_PAGES => "26";
        262 error_log_entries = Count8(128) => "7f";
        263 power_states = Count8(2) => "01";
        264 avscc = 1 => "01";
        265 apsta = 1 => "01";
        266 wctemp_kelvin = 343 => "57 01";
        268 cctemp_kelvin = 353 => "61 01";
        270 mtfa_100ms = 9 => "09 00";
    });
}

#[test]
fn identify_controller_fields_from_byte_280_lie_where_the_specification_says() {
    golden!(IdentifyController {
        280 tnvmcap_bytes = 1 << 40 => "00 00 00 00 00 01 00 00 00 00 00 00 00 00 00 00";
        296 unvmcap_bytes = 1 => "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
        320 kas_100ms = 10 => "0a 00";
        322 hctma = 1 => "01 00";
        328 sanicap = 1 => "01 00 00 00";
        338 nsetidmax = 1 => "01 00";
        340 endgidmax = 1 => "01 00";
        342 anatt_s = 10 => "0a";
        343 anacap = AnaCapabilities::OPTIMIZED | AnaCapabilities::INACCESSIBLE => "05";
        344 anagrpmax = 128 => "80 00 00 00";
        348 nanagrpid = 127 => "7f 00 00 00";
        352 pels_64kib = 1 => "01 00 00 00";
        356 domain_id = 1 => "01 00";
        368 megcap_bytes = 1 => "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
        512 sqes = EntrySize { required: 6, maximum: 6 } => "66";
        513 cqes = EntrySize { required: 4, maximum: 5 } => "54";
        514 maxcmd = 128 => "80 00";
        516 nn = 16_384 => "00 40 00 00";
        520 oncs = Oncs::COMPARE | Oncs::DATASET_MANAGEMENT | Oncs::WRITE_ZEROES | Oncs::VERIFY => "8d 00";
        522 fuses = FusedCommands::COMPARE_AND_WRITE => "01 00";
        524 fna = 1 => "01";
        525 vwc = VolatileWriteCache::PRESENT | VolatileWriteCache::FLUSH_ALL_SUPPORTED => "07";
        526 awun_blocks = Count16(65_536) => "ff ff";
        528 awupf_blocks = Count16(2) => "01 00";
        530 icsvscc = 1 => "01";
        531 nwpc = 1 => "01";
        532 acwu_blocks = Count16(8) => "07 00";
        534 copy_formats = 1 => "01 00";
        536 sgls = SglSupport::SUPPORTED | SglSupport::OFFSET | SglSupport::TRANSPORT => "01 00 30 00";
        540 mnan = 16_384 => "00 40 00 00";
        544 maxdna = 1 => "01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
        560 maxcna = 1 => "01 00 00 00";
        768 subnqn = Nqn::new("nqn.x").unwrap().encode() => "6e 71 6e 2e 78 00";
        1792 ioccsz_16b = 260 => "04 01 00 00";
        1796 iorcsz_16b = 1 => "01 00 00 00";
        1800 icdoff_16b = 1 => "01 00";
        1802 fcatt = FabricsAttributes::STATIC_MODEL => "01";
        1803 msdbd = 1 => "01";
        1804 ofcs = FabricsCommands::DISCONNECT => "01 00";
        1806 dctype = 1 => "01";
        2048 psd0 = PowerState { max_power: 0x0102, flags: 3, entry_latency_us: 4, exit_latency_us: 5 }
            => "02 01 00 03 04 00 00 00 05 00 00 00";
    });
}

#[test]
fn identify_controller_nvm_fields_lie_where_the_specification_says() {
    golden!(IdentifyControllerNvm {
        0 verify_size_limit = 1 => "01";
        1 write_zeroes_size_limit = 2 => "02";
        2 write_uncorrectable_size_limit = 3 => "03";
        3 dsm_ranges_limit = 4 => "04";
        4 dsm_range_blocks_limit = 5 => "05 00 00 00";
        8 dsm_blocks_limit = 6 => "06 00 00 00 00 00 00 00";
    });
}

#[test]
fn identify_namespace_fields_lie_where_the_specification_says() {
    let mut lbaf = [LbaFormat::default(); 64];
    lbaf[1] = LbaFormat { metadata_bytes: 8, data_size: 12, relative_performance: 2 };
    golden!(IdentifyNamespace {
        0 nsze_blocks = 0x0102_0304_0506_0708 => "08 07 06 05 04 03 02 01";
        8 ncap_blocks = 1 => "01 00 00 00 00 00 00 00";
        16 nuse_blocks = 2 => "02 00 00 00 00 00 00 00";
        24 nsfeat = NamespaceFeatures::THIN | NamespaceFeatures::ATOMIC_PARAMETERS
            | NamespaceFeatures::OPTIMAL_PERFORMANCE => "13";
        25 lba_formats = Count8(2) => "01";
        26 flbas = 1 => "01";
        27 mc = 1 => "01";
        28 dpc = 1 => "01";
        29 dps = 1 => "01";
        30 nmic = Nmic::SHARED => "01";
        31 rescap = ReservationCapabilities::PERSIST | ReservationCapabilities::IGNORE_EXISTING_KEY_1_3 => "81";
        32 fpi = 0x80 => "80";
        33 dlfeat = DeallocateFeatures::READS_ZEROS | DeallocateFeatures::WRITE_ZEROES_DEALLOCATES => "09";
        34 nawun_blocks = Count16(256) => "ff 00";
        36 nawupf_blocks = Count16(257) => "00 01";
        38 nacwu_blocks = Count16(9) => "08 00";
        40 nabsn_blocks = Count16(256) => "ff 00";
        42 nabo_lba = 3 => "03 00";
        44 nabspf_blocks = Count16(256) => "ff 00";
        46 noiob_blocks = 256 => "00 01";
        48 nvmcap_bytes = 4096 => "00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
        64 npwg_blocks = Count16(8) => "07 00";
        66 npwa_blocks = Count16(8) => "07 00";
        68 npdg_blocks = Count16(8) => "07 00";
        70 npda_blocks = Count16(8) => "07 00";
        72 nows_blocks = Count16(256) => "ff 00";
        74 mssrl_blocks = 1 => "01 00";
        76 mcl_blocks = 2 => "02 00 00 00";
        80 msrc = Count8(128) => "7f";
        92 anagrpid = 1 => "01 00 00 00";
        99 nsattr = NamespaceAttributes::WRITE_PROTECTED => "01";
        100 nvmsetid = 1 => "01 00";
        102 endgid = 1 => "01 00";
        104 nguid = *b"0123456789abcdef" => "30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66";
        120 eui64 = *b"01234567" => "30 31 32 33 34 35 36 37";
        132 lbaf = lbaf => "08 00 0c 02";
    });
}

#[test]
fn identify_namespace_nvm_fields_lie_where_the_specification_says() {
    let mut elbaf = [0; 64];
    elbaf[63] = 0x80;
    golden!(IdentifyNamespaceNvm {
        0 lbstm = 1 => "01 00 00 00 00 00 00 00";
        8 pic = 1 => "01";
        264 elbaf = elbaf => "80 00 00 00";
    });
}

#[test]
fn independent_namespace_fields_lie_where_the_specification_says() {
    golden!(IdentifyNamespaceIndependent {
        0 nsfeat = NamespaceFeatures::UID_REUSE => "08";
        1 nmic = Nmic::SHARED => "01";
        2 rescap = ReservationCapabilities::WRITE_EXCLUSIVE => "02";
        3 fpi = 0x80 => "80";
        4 anagrpid = 2 => "02 00 00 00";
        8 nsattr = NamespaceAttributes::WRITE_PROTECTED => "01";
        10 nvmsetid = 1 => "01 00";
        12 endgid = 1 => "01 00";
        14 nstat = NamespaceStatus::READY => "01";
    });
}

#[test]
fn lba_size_follows_the_formatted_index() {
    let mut namespace = IdentifyNamespace { flbas: 0x21, ..IdentifyNamespace::default() };
    assert_eq!(namespace.lba_format_index(), 17);
    assert_eq!(namespace.lba_bytes(), None, "an unused format has no size");
    namespace.lbaf[17].data_size = 12;
    assert_eq!(namespace.lba_bytes(), Some(4096));
    namespace.lbaf[17].data_size = 64;
    assert_eq!(namespace.lba_bytes(), None, "an absurd shift does not panic");
}

#[test]
fn transfer_limits_follow_from_mdts_and_ioccsz() {
    let mut controller = IdentifyController { ioccsz_16b: 516, ..IdentifyController::default() };
    assert_eq!(controller.capsule_data_max_bytes(), 8192);
    assert_eq!(controller.transfer_max_bytes(0), None);
    controller.mdts = 5;
    assert_eq!(controller.transfer_max_bytes(0), Some(128 << 10));
    controller.mdts = 255;
    assert_eq!(controller.transfer_max_bytes(15), None);
}

#[test]
fn nsid_list_is_cut_at_1024_and_read_to_the_first_zero() {
    let bytes = NsidList::encode(1..=2000);
    assert_eq!(NsidList::parse(&bytes).count(), 1024);
    let bytes = NsidList::encode([1, 7, 0x0102_0304]);
    assert_eq!(bytes[..16], [1, 0, 0, 0, 7, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(NsidList::parse(&bytes).collect::<Vec<_>>(), [1, 7, 0x0102_0304]);
}

#[test]
fn controller_list_is_cut_at_2047_and_counts_its_entries() {
    let bytes = ControllerList::encode(0..3000);
    assert_eq!(bytes[..4], [0xff, 0x07, 0, 0]);
    assert_eq!(ControllerList::parse(&bytes).count(), 2047);
    let mut damaged = bytes;
    damaged[..2].fill(0xff);
    assert_eq!(ControllerList::parse(&damaged).count(), 2047, "a count beyond the list is cut");
}

#[test]
fn namespace_descriptors_encode_as_specified_and_read_back() {
    let identifiers = [
        NamespaceIdentifier::Uuid(*b"0123456789abcdef"),
        NamespaceIdentifier::Nguid([9; 16]),
        NamespaceIdentifier::Eui64([8; 8]),
        NamespaceIdentifier::Csi(0),
    ];
    let mut bytes = NamespaceIdentifier::encode_list(&identifiers);
    assert_eq!(bytes[..8], [3, 16, 0, 0, b'0', b'1', b'2', b'3']);
    assert_eq!(bytes[20..24], [2, 16, 0, 0]);
    assert_eq!(bytes[40..44], [1, 8, 0, 0]);
    assert_eq!(bytes[52..58], [4, 1, 0, 0, 0, 0]);
    assert_eq!(NamespaceIdentifier::parse_list(&bytes).collect::<Vec<_>>(), identifiers);
    bytes[20] = 0x77;
    assert_eq!(NamespaceIdentifier::parse_list(&bytes).count(), 3, "an unknown type is skipped");
    let endless = [0xff; IDENTIFY_LEN];
    assert_eq!(NamespaceIdentifier::parse_list(&endless).count(), 0, "garbage ends");
}

#[test]
fn command_set_combinations_are_64_bit_vectors() {
    let bytes = CommandSetVector::encode_list(&[CommandSetVector::NVM, CommandSetVector(5)]);
    assert_eq!(bytes[..17], [1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn identify_command_encodes_as_specified() {
    let command = Identify { cns: Cns::Controllers, nsid: 9, cntid: 0x1234, cns_specific: 0x55, csi: 2 };
    let sqe = command.encode();
    assert_eq!((sqe.opcode, sqe.nsid), (0x06, 9));
    assert_eq!((sqe.cdw10, sqe.cdw11), (0x1234_0013, 0x0200_0055));
    assert_eq!(Identify::parse(&sqe), command);
    for code in 0..=255 {
        assert_eq!(Cns::parse(code).code(), code);
    }
}
