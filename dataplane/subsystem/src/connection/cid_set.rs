//! The command identifiers in use on a connection: a bit each, in pages made when first needed. Linux spreads its CIDs
//! (a tag below, a generation above), so a list that is searched would be long and a table of all costs 8 KiB at once.

const PAGES: usize = 64;
const WORDS: usize = 16;
const CIDS_PER_PAGE: usize = WORDS * 64;

const _: () = assert!(PAGES * CIDS_PER_PAGE == 1 << 16);

#[derive(Debug)]
pub(crate) struct CidSet {
    pages: [Option<Box<[u64; WORDS]>>; PAGES],
}

impl CidSet {
    pub(crate) const fn new() -> Self {
        Self { pages: [const { None }; PAGES] }
    }

    /// False where it was in the set already.
    #[inline]
    pub(crate) fn insert(&mut self, cid: u16) -> bool {
        let (page, word, bit) = place(cid);
        let page = self.pages[page].get_or_insert_with(|| Box::new([0; WORDS]));
        let fresh = page[word] & bit == 0;
        page[word] |= bit;
        fresh
    }

    #[inline]
    pub(crate) fn remove(&mut self, cid: u16) {
        let (page, word, bit) = place(cid);
        if let Some(page) = &mut self.pages[page] {
            page[word] &= !bit;
        }
    }
}

fn place(cid: u16) -> (usize, usize, u64) {
    let cid = usize::from(cid);
    (cid / CIDS_PER_PAGE, cid % CIDS_PER_PAGE / 64, 1 << (cid % 64))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_cid_has_a_bit_of_its_own() {
        let mut set = CidSet::new();
        for cid in 0..=u16::MAX {
            assert!(set.insert(cid));
        }
        for cid in (0..=u16::MAX).step_by(3) {
            assert!(!set.insert(cid));
            set.remove(cid);
        }
        for cid in 0..=u16::MAX {
            assert_eq!(set.insert(cid), cid % 3 == 0);
        }
    }
}
