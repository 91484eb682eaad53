//! Bytes that say who wrote them: each sector begins with its change's number and place, and all of it follows from both.

use io::{Buffer, Memory, Purpose, Slice};
use store::{Payload, VolumeId};

use crate::model::Part;
use crate::{Random, SimBuffer, SimIo, SimShared, scramble};

const SECTOR_BYTES: usize = 512;

/// Fills a sector with what change `number` writes there; 0 leaves zeros.
pub(crate) fn fill(place: &mut [u8], number: u64, volume: VolumeId, sector: u64) {
    if number == 0 {
        place.fill(0);
        return;
    }
    let mut word = scramble(number ^ scramble(volume.0 << 40 | sector));
    let (head, rest) = place.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    // Some changes write what compresses well, some what compresses by half, the others what does not.
    let repeats = match scramble(number) % 4 {
        0 => rest.len(),
        1 => rest.len() / 2,
        _ => 0,
    };
    for (at, bytes) in rest.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word.to_le_bytes());
        if at * 8 >= repeats {
            word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        }
    }
}

/// Who wrote a sector; `None` if it is not what anybody would have written there.
pub(crate) fn writer(bytes: &[u8], volume: VolumeId, sector: u64) -> Option<u64> {
    let (head, rest) = bytes.split_at(8);
    let number = u64::from_le_bytes(head.try_into().expect("8 bytes"));
    if number == 0 {
        return rest.iter().all(|byte| *byte == 0).then_some(0);
    }
    let mut expected = [0; SECTOR_BYTES];
    fill(&mut expected, number, volume, sector);
    (expected[..] == *bytes).then_some(number)
}

/// The writers of a run of sectors that begins at sector `first` of the volume. `Err` names the first sector that nobody
/// wrote.
pub(crate) fn writers(bytes: &[u8], volume: VolumeId, first: u64) -> Result<Vec<Part>, u64> {
    let sectors = (first..).zip(bytes.chunks_exact(SECTOR_BYTES));
    let numbers = sectors.map(|(sector, bytes)| writer(bytes, volume, sector).ok_or(sector));
    Ok(Part::of_run(first, numbers.collect::<Result<Vec<u64>, u64>>()?))
}

/// A payload of whole sectors in up to three pieces at odd places of their memory; `None` where there is no memory.
pub(crate) fn payload(
    io: &mut SimIo<()>,
    random: &mut Random,
    numbers: &[u64],
    volume: VolumeId,
    first: u64,
) -> Option<Payload<SimShared>> {
    let mut bytes = vec![0; numbers.len() * SECTOR_BYTES];
    for ((sector, number), place) in (first..).zip(numbers).zip(bytes.chunks_exact_mut(SECTOR_BYTES)) {
        fill(place, *number, volume, sector);
    }
    let mut whole: Option<Payload<SimShared>> = None;
    let mut left = &bytes[..];
    while !left.is_empty() {
        let length = if random.one_in(2) { left.len() } else { random.index(left.len()) + 1 };
        let (piece, rest) = left.split_at(length);
        let slice = slice(io, random, piece)?;
        match &mut whole {
            None => whole = Some(Payload::new(slice)),
            Some(payload) => payload.push(slice),
        }
        left = rest;
    }
    whole
}

fn slice(io: &mut SimIo<()>, random: &mut Random, piece: &[u8]) -> Option<Slice<SimShared>> {
    let start = random.index(64);
    let mut buffer: SimBuffer = io.allocate((start + piece.len()).min(1 << 20), Purpose::Data)?;
    let start = buffer.len() - piece.len();
    buffer[start..].copy_from_slice(piece);
    let end = buffer.len();
    Some(Slice::whole(buffer.share()).slice(start..end))
}
