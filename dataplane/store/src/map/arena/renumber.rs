//! Heads are given back: those in use are put together under new numbers. A start makes heads for all leaves there are, of
//! which most leave again beside many snapshots.

use super::pool::NOBODY;
use super::{AWAY, Arena, Content, HEADS, HEADS_BITS, Head, PageIndex, Place, UNKNOWN};
use crate::map::child;

/// The new numbers of pages.
#[derive(Debug)]
pub(crate) struct Renumbered(Vec<u32>);

impl Renumbered {
    pub(crate) fn of(&self, old: PageIndex) -> PageIndex {
        PageIndex(self.0[old.0 as usize])
    }
}

impl Arena {
    /// Whether more than half of the heads are free, and enough of them.
    pub(crate) fn has_many_free_heads(&self) -> bool {
        self.free_heads.len() as u64 > self.pages_in_use() + HEADS as u64
    }

    /// Gives all pages new numbers, without gaps. Whoever has a number must have the new one; here all have.
    pub(crate) fn renumber(&mut self) -> Renumbered {
        let old = std::mem::take(&mut self.heads);
        let mut numbers = Renumbered(vec![u32::MAX; old.len() * HEADS]);
        let mut next = 0_u32;
        for (number, head) in numbers.0.iter_mut().zip(old.iter().flatten()) {
            if head.refs & !UNKNOWN != 0 {
                if (next as usize).is_multiple_of(HEADS) {
                    let blank = Head { place: Place::NOWHERE, refs: 0, content: Content(AWAY) };
                    self.heads.push(vec![blank; HEADS].into_boxed_slice());
                }
                self.heads[(next >> HEADS_BITS) as usize][next as usize % HEADS] = *head;
                *number = next;
                next += 1;
            }
        }
        let end = u32::try_from(self.heads.len() * HEADS).expect("no more than before");
        self.free_heads = (next..end).rev().map(PageIndex).collect();
        let contents = self.leaves.chunks.iter_mut().chain(&mut self.above.chunks);
        for page in contents.flat_map(|chunk| &mut chunk.pages).filter(|page| page.owner != NOBODY) {
            page.owner = numbers.of(page.owner);
            if page.level == 0 {
                continue;
            }
            for entry in &mut page.entries {
                if let Some(below) = child(*entry) {
                    *entry = *entry & !u64::from(u32::MAX) | u64::from(numbers.of(below).0);
                }
            }
        }
        let saved = std::mem::take(&mut self.saved);
        self.saved = saved.into_iter().map(|(page, units)| (numbers.of(page), units)).collect();
        numbers
    }
}
