//! Any bytes in any fragmentation, on both sides of a connection: the framer never panics, never yields more data
//! than a PDU announced, and finds the same PDUs however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvme::framer::{Event, Framer, Limits};
use nvme::pdu::Receiver;

fuzz_target!(|input: &[u8]| {
    let [flags, cut, bytes @ ..] = input else { return };
    let receiver = if flags & 1 == 0 { Receiver::Controller } else { Receiver::Host };
    let limits = Limits { capsule_data_max_bytes: 8192, transfer_data_max_bytes: 1 << 17 };
    let framer = || {
        let mut framer = Framer::new(receiver, limits, |bytes| bytes.iter().map(|b| u32::from(*b)).sum());
        framer.negotiate(flags & 2 != 0, flags & 4 != 0, if flags & 8 != 0 { 64 } else { 4 });
        framer
    };
    let whole = run(framer(), bytes, bytes.len().max(1));
    let cut = run(framer(), bytes, usize::from(*cut).max(1));
    assert_eq!(whole, cut);
});

/// What the framer found: a line per header and end, data as its length since the header, and the error.
fn run(mut framer: Framer, bytes: &[u8], piece: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = 0;
    let mut seen = 0;
    for mut input in bytes.chunks(piece) {
        loop {
            match framer.poll(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Header(frame))) => {
                    assert_eq!(left, 0);
                    left = frame.data_len as usize;
                    seen = 0;
                    found.push(format!("{frame:?}"));
                }
                Ok(Some(Event::Data(data))) => {
                    assert!(!data.is_empty() && data.len() <= left);
                    left -= data.len();
                    seen += data.len();
                }
                Ok(Some(Event::End { data_digest })) => {
                    assert_eq!(left, 0);
                    found.push(format!("end {seen} {data_digest:?}"));
                }
                Err(error) => {
                    found.push(format!("{error:?}"));
                    return found;
                }
            }
        }
    }
    found
}
