//! The log's bytes: one golden batch, and no bytes that make the parser do wrong.

use proptest::prelude::*;

use super::*;
use crate::codec::Form;

fn header() -> BatchHeader {
    BatchHeader {
        header_bytes: 4096,
        total_bytes: 12288,
        record_count: 0,
        record_bytes: 0,
        shard: ShardId(0x0102),
        segment: SegmentId(0x0304_0506),
        pool: [0xaa; 16],
        generation: 0x11,
        sequence: 0x22,
        epoch: 0x33,
        previous: 0x44,
        first_lsn: 0x55,
        flushed: 0x66,
    }
}

/// A batch with a record of each kind.
fn batch() -> (BatchHeader, Vec<u8>) {
    let mut bytes = vec![0xff; 4096];
    let mut writer = RecordWriter::new(&mut bytes);
    writer.write((VolumeId(1), VolumeId(14)), 2, (1, false), true, (4096, 4096));
    writer.crc(0xdead_beef);
    writer.pad();
    writer.unmap(VolumeId(1), 3, 9, false);
    writer.begin_move(VolumeId(4), 5, (1, false), (8192, 4096));
    writer.moved(&MovedBlock { birth: 6, from: Location(7), form: Form::raw(8) });
    writer.page(VolumeId(9), 2, 10, 8192, 576);
    writer.manifest(8192, 64, 11);
    writer.seal(SegmentId(12));
    writer.drop_volume(VolumeId(13));
    writer.fork(VolumeId(1), VolumeId(15), true);
    let written = writer.finish();
    let header = BatchHeader { record_count: written.count, record_bytes: written.record_bytes, ..header() };
    header.seal(&mut bytes);
    (header, bytes)
}

#[test]
fn a_batch_of_version_2_has_these_bytes() {
    let (_, bytes) = batch();
    assert_eq!(&bytes[..8], b"FeBATCH\n");
    let hex = |range: std::ops::Range<usize>| {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(hex(8..12), "02000000");
    assert_eq!(hex(16..40), "001000000030000008000000400100000201000006050403");
    assert_eq!(hex(40..56), "aa".repeat(16));
    assert_eq!(
        hex(56..104),
        "110000000000000022000000000000003300000000000000440000000000000055000000000000006600000000000000"
    );
    assert_eq!(hex(104..128), "00".repeat(24));
    // The write record: kind, flags, codec, level, count, image, block, payload, length, lineage,
    // checksum.
    assert_eq!(
        hex(128..176),
        "01010000010000000100000000000000020000000000000000100000001000000e00000000000000efbeadde00000000"
    );
    assert_eq!(
        hex(176..216),
        "02000000000000000100000000000000030000000000000000000000000000000900000000000000"
    );
    assert_eq!(checksum::crc32c(&bytes), GOLDEN_CRC);
}

/// Of the whole golden batch.
const GOLDEN_CRC: u32 = 1_186_945_701;

#[test]
fn records_come_back_as_they_were_written() {
    let (header, bytes) = batch();
    assert_eq!(BatchHeader::peek(&bytes), Ok(header));
    assert!(header.verify(&bytes).is_ok());
    let records: Vec<Record<'_>> = header.records(&bytes).map(Result::unwrap).collect();
    assert_eq!(records.len(), 8);
    let Record::Write {
        volume: VolumeId(1),
        lineage: VolumeId(14),
        block: 2,
        more: true,
        payload: 4096,
        forms,
    } = records[0]
    else {
        panic!("{:?}", records[0]);
    };
    assert_eq!(forms.iter().collect::<Vec<_>>(), [Form::raw(0xdead_beef)]);
    assert_eq!(records[1], Record::Unmap { volume: VolumeId(1), first: 3, end: 9, more: false });
    let Record::Move { lineage: VolumeId(4), block: 5, payload: 8192, moved } = records[2] else {
        panic!("{:?}", records[2]);
    };
    assert_eq!(moved.iter().next(), Some(MovedBlock { birth: 6, from: Location(7), form: Form::raw(8) }));
    assert_eq!(
        records[3],
        Record::Page { lineage: VolumeId(9), level: 2, index: 10, payload: 8192, len: 576 }
    );
    assert_eq!(records[4], Record::Manifest { payload: 8192, len: 64, crc: 11 });
    assert_eq!(records[5], Record::Seal { next: SegmentId(12) });
    assert_eq!(records[6], Record::DropVolume { volume: VolumeId(13) });
    assert_eq!(records[7], Record::Fork { volume: VolumeId(1), image: VolumeId(15), read_only: true });
}

#[test]
fn records_of_compressed_blocks_say_how_long_each_is() {
    let form = |crc: u32, units: u8| Form::packed(crc, units).unwrap();
    let write = |len: u32, units: &[u8]| {
        let mut bytes = vec![0xff; 4096];
        let mut writer = RecordWriter::new(&mut bytes);
        let count = u32::try_from(units.len()).unwrap();
        writer.write((VolumeId(1), VolumeId(14)), 2, (count, true), false, (4608, len));
        units.iter().for_each(|_| writer.crc(7));
        // Zero stands for units that nothing has.
        units.iter().for_each(|&units| writer.units(Form::packed(7, units).unwrap_or(Form::raw(7))));
        writer.pad();
        writer.begin_move(VolumeId(4), 5, (1, true), (8704, 1024));
        writer.moved(&MovedBlock { birth: 6, from: Location(7), form: form(8, 2) });
        let written = writer.finish();
        let header =
            BatchHeader { record_count: written.count, record_bytes: written.record_bytes, ..header() };
        header.seal(&mut bytes);
        (header, bytes)
    };
    let (header, bytes) = write(3072, &[1, 2, 3]);
    let records: Vec<_> = header.records(&bytes).map(Result::unwrap).collect();
    let Record::Write { payload: 4608, forms, .. } = records[0] else { panic!("{:?}", records[0]) };
    assert_eq!(forms.iter().collect::<Vec<_>>(), [form(7, 1), form(7, 2), form(7, 3)]);
    let Record::Move { payload: 8704, moved, .. } = records[1] else { panic!("{:?}", records[1]) };
    let block = MovedBlock { birth: 6, from: Location(7), form: form(8, 2) };
    assert_eq!(moved.iter().collect::<Vec<_>>(), [block]);
    for (len, units) in [(3584, [1, 2, 3]), (2560, [1, 2, 3]), (5120, [1, 1, 8]), (0, [1, 2, 3])] {
        let (header, bytes) = write(len, &units);
        assert_eq!(header.records(&bytes).next(), Some(Err(Malformed)), "{units:?} in {len} bytes");
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let (header, bytes) = batch();
    for bit in 0..(HEADER_BYTES + header.record_bytes as usize) * 8 {
        let mut torn = bytes.clone();
        torn[bit / 8] ^= 1 << (bit % 8);
        let noticed = BatchHeader::peek(&torn).and_then(|header| header.verify(&torn)).is_err();
        assert!(noticed, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn single_blocks_are_read_as_all_records_are(
        block in prop_oneof![any::<u64>(), (1_u64 << 54) - 2..(1 << 54) + 2, 0_u64..100],
        payload in prop_oneof![Just(4096_u32), Just(8192), any::<u32>()],
        count in 0_u32..5,
        other in 0_u32..12,
        change in prop::option::of((0_usize..144, any::<u8>())),
    ) {
        let mut bytes = vec![0; 4096];
        let mut writer = RecordWriter::new(&mut bytes);
        for crc in 1..=3 {
            // One of another image, or of another lineage, or none.
            let ids = (VolumeId(1 + u64::from(crc == other)), VolumeId(14 + u64::from(crc + 3 == other)));
            writer.write(ids, block, (1, false), false, (payload, 4096));
            writer.crc(crc);
            writer.pad();
        }
        let record_bytes = writer.finish().record_bytes;
        let header = BatchHeader { record_count: count, record_bytes, ..header() };
        if let Some((at, byte)) = change {
            bytes[HEADER_BYTES + at] = byte;
        }
        let (mut short, mut long) = (header.records(&bytes), header.records(&bytes));
        loop {
            while let Some(together) = short.next_blocks() {
                prop_assert!(together.len() > 0);
                for found in together.iter() {
                    let record = long.next();
                    let Some(Ok(Record::Write { volume, lineage, block, more: false, payload, forms })) = record
                    else {
                        return Err(TestCaseError::fail(format!("{found:?} is {record:?}")));
                    };
                    let form = forms.iter().next().unwrap();
                    prop_assert_eq!(forms.iter().count(), 1);
                    prop_assert_eq!(found, BlockWrite { block, payload, form });
                    prop_assert_eq!((together.volume, together.lineage), (volume, lineage));
                }
            }
            let next = short.next();
            prop_assert_eq!(&next, &long.next());
            let Some(next) = next else { break };
            // What is whole, alone and stored as it is is never left.
            let mut forms = match &next {
                Ok(Record::Write { more: false, forms, .. }) => forms.iter().collect(),
                _ => Vec::new(),
            };
            let is_single = forms.len() == 1 && forms.pop().is_some_and(|form| !form.is_packed());
            prop_assert!(change.is_some() || !is_single, "{:?}", next);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), count in 0_u32..20) {
        let mut whole = vec![0; 4096];
        let len = bytes.len().min(4096 - HEADER_BYTES);
        whole[HEADER_BYTES..HEADER_BYTES + len].copy_from_slice(&bytes[..len]);
        let record_bytes = u32::try_from(len).unwrap();
        let header = BatchHeader { record_count: count, record_bytes, ..header() };
        header.seal(&mut whole);
        if let Ok(header) = BatchHeader::peek(&whole) {
            header.verify(&whole).unwrap();
            for record in header.records(&whole).flatten() {
                // What a record says is within the batch.
                let end = |payload: u32, forms: &mut dyn Iterator<Item = Form>| {
                    payload + forms.map(Form::bytes).sum::<u32>()
                };
                match record {
                    Record::Write { payload, forms, .. } => {
                        prop_assert!(end(payload, &mut forms.iter()) <= 12288);
                    }
                    Record::Move { payload, moved, .. } => {
                        prop_assert!(end(payload, &mut moved.iter().map(|moved| moved.form)) <= 12288);
                    }
                    _ => {}
                }
            }
        }
        let _ = BatchHeader::peek(&bytes);
    }
}
