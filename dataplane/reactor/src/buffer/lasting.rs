//! Memory that stays: regions beside the arena, as many as namespaces that live in memory need.

use io::Purpose;

use super::ArenaBuffer;
use super::arena::Arena;

/// Bytes of a region; nothing of it is taken from the system before it is used.
const REGION_BYTES: usize = 256 << 20;
/// A chunk goes back to the system when it has been free for this many rounds of giving back.
const ROUNDS: u8 = 2;

/// The lasting memory of one reactor.
#[derive(Debug)]
pub(crate) struct Lasting {
    arenas: Vec<Arena>,
    /// The one that had room last.
    hint: usize,
    huge: bool,
    node: Option<u32>,
    /// Rounds of giving back that may still find something.
    rounds_left: u8,
}

impl Lasting {
    /// No memory yet; in transparent huge pages with `huge`, on NUMA node `node`.
    pub(crate) const fn new(huge: bool, node: Option<u32>) -> Self {
        Self { arenas: Vec::new(), hint: 0, huge, node, rounds_left: 0 }
    }

    /// A buffer of exactly `len` bytes; `None` where the system has no memory.
    pub(crate) fn allocate(&mut self, len: usize) -> Option<ArenaBuffer> {
        let count = self.arenas.len();
        for index in (self.hint..count).chain(0..self.hint) {
            if let Some(buffer) = self.arenas[index].allocate(len, Purpose::Data) {
                self.hint = index;
                return Some(buffer);
            }
        }
        match Arena::undivided(REGION_BYTES, self.huge, self.node) {
            Ok(arena) => self.arenas.push(arena),
            Err(error) => {
                tracing::warn!(%error, "there is no memory for more of a namespace in memory");
                return None;
            }
        }
        self.hint = count;
        self.arenas[count].allocate(len, Purpose::Data)
    }

    /// Something is given back.
    pub(crate) const fn note_release(&mut self) {
        self.rounds_left = ROUNDS;
    }

    /// True while [`Self::trim`] may find something.
    pub(crate) const fn may_trim(&self) -> bool {
        self.rounds_left > 0
    }

    /// Gives at most `count` chunks back to the system that have been free since the last call.
    pub(crate) fn trim(&mut self, count: usize) {
        let mut left = count;
        for arena in &mut self.arenas {
            left -= arena.trim(left, |_| true);
        }
        self.rounds_left = if left < count { ROUNDS } else { self.rounds_left.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use io::Buffer;

    use super::*;

    const LEN: usize = 64 << 10;

    #[test]
    fn it_grows_by_regions_and_uses_again_what_is_free() {
        let mut lasting = Lasting::new(true, None);
        let held: Vec<_> = (0..REGION_BYTES / LEN + 1).map(|_| lasting.allocate(LEN).unwrap()).collect();
        assert_eq!(lasting.arenas.len(), 2);
        drop(held);
        let again: Vec<_> = (0..2 * REGION_BYTES / LEN).map(|_| lasting.allocate(LEN).unwrap()).collect();
        assert_eq!(lasting.arenas.len(), 2);
        assert_eq!(again.len(), 2 * REGION_BYTES / LEN);
    }

    #[test]
    fn what_is_released_goes_back_to_the_system() {
        let mut lasting = Lasting::new(false, None);
        let mut buffer = lasting.allocate(1 << 20).unwrap();
        buffer.fill(7);
        let shared = buffer.share();
        let sending = shared.clone();
        assert!(!lasting.may_trim());
        lasting.note_release();
        drop(shared);
        lasting.trim(1);
        lasting.trim(1);
        assert_eq!(sending[..4], [7; 4], "somebody still holds it");
        drop(sending);
        lasting.note_release();
        lasting.trim(1);
        lasting.trim(1);
        lasting.trim(1);
        lasting.trim(1);
        assert!(!lasting.may_trim());
        assert_eq!(lasting.arenas[0].touched_chunks(), 0);
        let buffer = lasting.allocate(1 << 20).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 0), "it was taken from the system anew");
    }
}
