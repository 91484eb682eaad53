//! Headers and records of batches that replay holds, one behind the other in one piece of memory: those that came first
//! go first.

/// The bytes.
#[derive(Debug, Default)]
pub(super) struct Headers {
    bytes: Vec<u8>,
    /// How many of them are gone, and how many went before them, since the beginning.
    gone: usize,
    forgotten: u64,
}

/// Where an entry begins, counted from the beginning of all, and its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderPlace {
    start: u64,
    len: u32,
}

/// As much may be gone before what is left moves to the front.
const GONE_MAX: usize = 64 << 10;

impl Headers {
    pub(super) fn push(&mut self, entry: &[u8]) -> HeaderPlace {
        if self.gone >= GONE_MAX && self.gone * 2 >= self.bytes.len() {
            self.bytes.drain(..self.gone);
            self.forgotten += std::mem::take(&mut self.gone) as u64;
        }
        let start = self.forgotten + self.bytes.len() as u64;
        self.bytes.extend_from_slice(entry);
        HeaderPlace { start, len: u32::try_from(entry.len()).expect("a header is at most 32 KiB") }
    }

    /// Bytes of the entries that are not gone.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// An entry that is not gone.
    pub(super) fn get(&self, place: HeaderPlace) -> &[u8] {
        let start = usize::try_from(place.start - self.forgotten).expect("it is in memory");
        &self.bytes[start..][..place.len as usize]
    }

    /// An entry goes, with all before it.
    pub(super) fn pop(&mut self, place: HeaderPlace) {
        let end = place.start + u64::from(place.len) - self.forgotten;
        self.gone = usize::try_from(end).expect("it is in memory");
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn entries_are_what_they_were_until_they_go() {
        let mut headers = Headers::default();
        let entry = |number: usize| vec![number as u8; 100 + number * 7 % 1000];
        let mut held = std::collections::VecDeque::new();
        for number in 0..5_000 {
            held.push_back((number, headers.push(&entry(number))));
            // Some wait longer than others.
            while held.len() > 1 + number * 13 % 300 {
                let (number, place) = held.pop_front().unwrap();
                assert_eq!(headers.get(place), entry(number));
                headers.pop(place);
            }
            assert!(headers.bytes.len() <= 2 * GONE_MAX + 400 * 1100, "{} bytes", headers.bytes.len());
        }
    }
}
