//! The stream is read as it was written, or refused: cut at every byte, with every byte changed, and by chance.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn header(blocks: u64) -> Header {
    let snapshot = |number: u128| SnapshotOf {
        uuid: Uuid::from_u128(number),
        name: format!("s{number}"),
        created: "2026-11-22T08:00:00Z".to_owned(),
    };
    Header {
        stream: Uuid::from_u128(7),
        snapshot: snapshot(2),
        base: Some(snapshot(1)),
        volume: VolumeOf {
            uuid: Uuid::from_u128(3),
            name: "v1".to_owned(),
            size_bytes: blocks * BLOCK_BYTES as u64,
            sector_bytes: 4096,
            compression: false,
        },
    }
}

/// A chunk of extents from `from` on: their distances, lengths, and the byte that fills them, 0 for zeroes.
fn chunk(from: u64, extents: &[(u64, u32, u8)]) -> Chunk {
    let mut chunk = Chunk { next_block: from, ..Chunk::default() };
    for (gap, count_blocks, fill) in extents {
        let content = if *fill == 0 { Content::Zeroes } else { Content::Data };
        let extent = Extent { first_block: chunk.next_block + gap, count_blocks: *count_blocks, content };
        if content == Content::Data {
            let bytes = *count_blocks as usize * BLOCK_BYTES;
            // Half of each block shrinks, half does not.
            chunk.data.extend((0..bytes).map(|at| if at % 2 == 0 { *fill } else { (at * at / 7) as u8 }));
        }
        chunk.next_block = extent.end();
        chunk.extents.push(extent);
    }
    chunk
}

fn stream(header: &Header, chunks: &[Chunk]) -> (Vec<u8>, Vec<usize>) {
    let mut writer = Writer::begin(Vec::new(), header).unwrap();
    let mut ends = vec![writer.bytes() as usize];
    for chunk in chunks {
        writer.append(&mut chunk.clone()).unwrap();
        ends.push(writer.bytes() as usize);
    }
    (writer.finish().unwrap().0, ends)
}

fn small() -> (Vec<u8>, Vec<usize>, Vec<Chunk>) {
    let first = chunk(0, &[(0, 1, 1), (3, 2, 0)]);
    let second = chunk(first.next_block, &[(5, 1, 9)]);
    let (bytes, ends) = stream(&header(64), &[first.clone(), second.clone()]);
    (bytes, ends, vec![first, second])
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<Chunk>, Totals), ImageError> {
    let mut reader = Reader::open(bytes)?;
    let mut chunks = Vec::new();
    loop {
        match reader.next()? {
            Part::Chunk(chunk) => chunks.push(chunk),
            Part::End(totals) => return Ok((reader.header().clone(), chunks, totals)),
        }
    }
}

fn numbered(chunks: &[Chunk]) -> Vec<Chunk> {
    (0..).zip(chunks).map(|(index, chunk)| Chunk { index, ..chunk.clone() }).collect()
}

#[test]
fn what_was_written_is_read() {
    let (bytes, _, chunks) = small();
    let (found, read, totals) = read(&bytes).unwrap();
    assert_eq!((found, read), (header(64), numbered(&chunks)));
    assert_eq!(totals, Totals { chunks: 2, data_blocks: 2, zero_blocks: 2 });
}

#[test]
fn a_stream_cut_at_any_byte_is_truncated_and_goes_on_behind_its_last_whole_chunk() {
    let (bytes, ends, chunks) = small();
    for cut in 0..bytes.len() {
        let part = &bytes[..cut];
        match read(part) {
            Err(ImageError::Foreign) => assert_eq!(cut, 0),
            Err(ImageError::Truncated { bytes, .. }) => assert_eq!(bytes, cut as u64),
            other => panic!("cut at {cut}: {other:?}"),
        }
        let point = resume_point(part);
        let Some(whole) = ends.iter().filter(|end| **end <= cut).count().checked_sub(1) else {
            assert!(point.is_err(), "cut at {cut}");
            continue;
        };
        let point = point.unwrap();
        assert_eq!((point.bytes, point.totals.chunks), (ends[whole] as u64, whole as u64), "cut at {cut}");
        assert!(!point.is_complete);
        let mut writer = Writer::resume(part[..ends[whole]].to_vec(), &point);
        chunks[whole..].iter().for_each(|chunk| writer.append(&mut chunk.clone()).unwrap());
        assert_eq!(writer.finish().unwrap().0, bytes, "cut at {cut}");
    }
    assert!(resume_point(&bytes[..]).unwrap().is_complete);
}

#[test]
fn a_changed_bit_is_found_wherever_it_is() {
    let (bytes, ..) = small();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let outcome = read(&changed);
        assert!(outcome.is_err(), "byte {at} of {} changed, and read as {outcome:?}", bytes.len());
    }
}

#[test]
fn foreign_newer_and_lengthened_streams_are_named_as_such() {
    let (bytes, ..) = small();
    assert!(matches!(read(b"QFI\xfb and so on, for many bytes"), Err(ImageError::Foreign)));
    let mut newer = bytes.clone();
    newer[MAGIC.len()] = 2;
    assert!(matches!(read(&newer), Err(ImageError::Newer { found: 2, known: 1 })));
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(read(&longer), Err(ImageError::Trailing)));
}

#[test]
fn chunks_that_were_left_out_doubled_or_exchanged_are_found() {
    let (bytes, ends, _) = small();
    let [head, middle, last] = [ends[0], ends[1], ends[2]];
    let parts = (&bytes[..head], &bytes[head..middle], &bytes[middle..last], &bytes[last..]);
    for wrong in [
        [parts.0, parts.2, parts.3].concat(),
        [parts.0, parts.1, parts.3].concat(),
        [parts.0, parts.1, parts.1, parts.2, parts.3].concat(),
        [parts.0, parts.2, parts.1, parts.3].concat(),
    ] {
        assert!(matches!(read(&wrong), Err(ImageError::Damaged { .. })));
    }
}

#[test]
fn extents_outside_of_the_volume_are_refused() {
    let (bytes, _) = stream(&header(64), &[chunk(0, &[(63, 2, 1)])]);
    assert!(matches!(read(&bytes), Err(ImageError::Damaged { .. })));
}

fn extents() -> impl Strategy<Value = Vec<(u64, u32, u8)>> {
    let fill = prop_oneof![2 => 1_u8..=255, 1 => Just(0_u8)];
    prop::collection::vec((0_u64..70, 1_u32..8, fill), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunks_are_read_as_they_were_written(parts in prop::collection::vec(extents(), 0..6)) {
        let mut chunks = Vec::new();
        for part in &parts {
            let from = chunks.last().map_or(0, |chunk: &Chunk| chunk.next_block);
            chunks.push(chunk(from, part));
        }
        let (bytes, _) = stream(&header(1 << 20), &chunks);
        prop_assert_eq!(read(&bytes).unwrap().1, numbered(&chunks));
    }

    #[test]
    fn any_damage_is_refused_and_never_a_panic(
        at in any::<prop::sample::Index>(), patch in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let (bytes, ..) = small();
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        let end = (at + patch.len()).min(bytes.len());
        changed[at..end].copy_from_slice(&patch[..end - at]);
        prop_assume!(changed != bytes);
        prop_assert!(read(&changed).is_err());
    }

    #[test]
    fn bodies_of_chance_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Chunk::parse(&body, 0, 0..64);
        let _ = Header::parse(&body);
    }
}
