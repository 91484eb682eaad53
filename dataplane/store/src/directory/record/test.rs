//! Goal: a volume's bytes never move, every volume comes back as it was, and no bytes make the parser panic.
//! Method: a golden payload, random volumes, random and cut payloads.

use proptest::prelude::*;

use super::*;

fn example() -> VolumeRecord {
    VolumeRecord {
        id: VolumeId(0x0102),
        image: VolumeId(0x0304),
        lineage: VolumeId(5),
        source: [0x44; 16],
        limits: Limits {
            read_ios: 1,
            write_ios: 2,
            read_bytes: 3,
            write_bytes: 4,
            read_ios_per_gib: 5,
            write_ios_per_gib: 6,
        },
        uuid: [0x5A; 16],
        nsid: 3,
        project: "p".into(),
        name: "vol".into(),
        size_bytes: 1 << 30,
        sector: SectorSize::B4096,
        acl: Access::Only(vec!["nqn.a".into()]),
        ip_acl: Access::Only(vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xFE80, 0, 0, 0, 0, 0, 0, 1])]),
        compression: true,
        attributes: "{}".into(),
        revision: 9,
        created_unix_ns: 0x0708,
        state: VolumeState::Deleting,
    }
}

/// The payload of version 1, which version 2 continues.
fn golden_1() -> Vec<u8> {
    let mut bytes = vec![1, 0, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 107, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([0x5A; 16]);
    bytes.extend([3, 0, 0, 0, 12, 2, 1, 0]);
    bytes.extend([0, 0, 0, 0x40, 0, 0, 0, 0]);
    bytes.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([8, 7, 0, 0, 0, 0, 0, 0]);
    bytes.extend(*b"\x01\0\0\0p\x03\0\0\0vol\x02\0\0\0{}");
    bytes.extend(*b"\x03\x01\0\0\0\x05\0\0\0nqn.a");
    bytes.extend(*b"\x03\x02\0\0\0\x04\x0A\0\0\x01\x06\xFE\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    bytes
}

fn golden() -> Vec<u8> {
    let mut bytes = golden_1();
    (bytes[2], bytes[16]) = (2, 107 + 80);
    bytes.extend([4, 3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0x44; 16]);
    for limit in 1..=6 {
        bytes.extend([limit, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

fn encoded(volume: &VolumeRecord) -> Vec<u8> {
    let mut out = Vec::new();
    volume.to_raw().encode(&mut out);
    out
}

fn parsed(bytes: &[u8]) -> Option<VolumeRecord> {
    let (record, rest) = RawRecord::parse(bytes)?;
    assert!(rest.is_empty());
    VolumeRecord::parse(&record)
}

#[test]
fn the_bytes_of_version_2_never_move() {
    assert_eq!(encoded(&example()), golden());
    assert_eq!(parsed(&golden()), Some(example()));
}

#[test]
fn a_volume_of_version_1_is_its_own_image_without_limits() {
    let id = VolumeId(0x0102);
    let old =
        VolumeRecord { image: id, lineage: id, source: [0; 16], limits: Limits::default(), ..example() };
    assert_eq!(parsed(&golden_1()), Some(old));
}

#[test]
fn a_record_cut_anywhere_is_no_record() {
    let bytes = golden();
    for len in 0..bytes.len() {
        assert!(RawRecord::parse(&bytes[..len]).is_none(), "cut at {len}");
    }
}

#[test]
fn a_volume_with_bytes_missing_or_left_over_is_no_volume() {
    let record = example().to_raw();
    for len in 0..record.payload.len() {
        let cut = RawRecord { payload: record.payload[..len].to_vec(), ..record.clone() };
        assert_eq!(VolumeRecord::parse(&cut), None, "cut at {len}");
    }
    let mut longer = record;
    longer.payload.push(0);
    assert_eq!(VolumeRecord::parse(&longer), None);
}

#[test]
fn impossible_volumes_are_refused_by_field() {
    let good = example();
    let field = |volume: VolumeRecord| volume.check().unwrap_err().0;
    assert_eq!(good.check(), Ok(()));
    assert_eq!(field(VolumeRecord { nsid: 0, ..good.clone() }), "nsid");
    assert_eq!(field(VolumeRecord { nsid: NSID_MAX + 1, ..good.clone() }), "nsid");
    assert_eq!(field(VolumeRecord { project: String::new(), ..good.clone() }), "project");
    assert_eq!(field(VolumeRecord { name: "n".repeat(256), ..good.clone() }), "name");
    assert_eq!(field(VolumeRecord { size_bytes: 0, ..good.clone() }), "size");
    assert_eq!(field(VolumeRecord { size_bytes: 4608, ..good.clone() }), "size");
    assert_eq!(field(VolumeRecord { attributes: "a".repeat(16_385), ..good.clone() }), "attributes");
    assert_eq!(field(VolumeRecord { acl: Access::Only(vec!["h".repeat(223); 400]), ..good }), "acl");
}

fn any_volume() -> impl Strategy<Value = VolumeRecord> {
    let acl = prop_oneof![
        Just(Access::Any),
        Just(Access::None),
        prop::collection::vec("[a-z:.]{0,223}", 0..5).prop_map(Access::Only)
    ];
    let ip_acl = prop_oneof![
        Just(Access::Any),
        Just(Access::None),
        prop::collection::vec(any::<IpAddr>(), 0..5).prop_map(Access::Only)
    ];
    let texts = ("[a-z]{1,255}", ".{1,60}", ".{0,200}");
    let numbers = (any::<u64>(), any::<[u8; 16]>(), 1..=NSID_MAX, 1..u64::from(u32::MAX), any::<[u64; 2]>());
    (texts, numbers, acl, ip_acl, any::<[bool; 3]>()).prop_map(|(texts, numbers, acl, ip_acl, flags)| {
        VolumeRecord {
            id: VolumeId(numbers.0),
            image: VolumeId(numbers.4[1]),
            lineage: VolumeId(numbers.4[0]),
            source: numbers.1,
            limits: Limits { read_ios: numbers.0, write_ios_per_gib: numbers.3, ..Limits::default() },
            uuid: numbers.1,
            nsid: numbers.2,
            project: texts.0,
            name: texts.1,
            size_bytes: numbers.3 * 4096,
            sector: if flags[0] { SectorSize::B512 } else { SectorSize::B4096 },
            acl,
            ip_acl,
            compression: flags[1],
            attributes: texts.2,
            revision: numbers.4[0],
            created_unix_ns: numbers.4[1],
            state: if flags[2] { VolumeState::Available } else { VolumeState::Deleting },
        }
    })
}

proptest! {
    #[test]
    fn every_volume_comes_back_as_it_was(volume in any_volume()) {
        let bytes = encoded(&volume);
        prop_assert_eq!(bytes.len(), volume.encoded_bytes());
        prop_assert_eq!(parsed(&bytes), Some(volume));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..150, byte: u8) {
        if let Some((record, _)) = RawRecord::parse(&bytes) {
            let _ = VolumeRecord::parse(&record);
        }
        let mut changed = golden();
        let at = at % changed.len();
        changed[at] = byte;
        if let Some((record, _)) = RawRecord::parse(&changed) {
            let _ = VolumeRecord::parse(&record);
        }
    }
}
