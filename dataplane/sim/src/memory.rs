//! Buffer arenas: bounded, counted, aligned, and full of garbage when handed out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use io::Purpose;

use crate::{Random, random::scramble};

/// Alignment that every buffer has.
const ALIGN: usize = 4096;

/// Longest buffer that the seam allows.
const LEN_MAX: usize = 1 << 20;

/// Sizes of one reactor's arena, in bytes; a buffer counts as its length rounded up to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For every purpose.
    pub shared_bytes: usize,
    /// Beyond that for [`Purpose::Log`] alone.
    pub log_bytes: usize,
    /// Beyond that for [`Purpose::Admin`] alone.
    pub admin_bytes: usize,
    /// Buffers that hold received bytes at the same time.
    pub receive_buffers: usize,
}

/// One reactor's memory in one life of the process.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    books: Arc<Mutex<Books>>,
}

/// Exclusive memory of the simulator.
pub struct SimBuffer {
    bytes: Memory,
}

/// Shared memory of the simulator.
#[derive(Clone)]
pub struct SimShared {
    bytes: Arc<Memory>,
}

/// From which account a buffer was taken, and so where it goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Account {
    Shared,
    Log,
    Admin,
    Receive,
    /// Of namespaces in memory: as much as they ask for, and not missed while they have it.
    Lasting,
}

struct Memory {
    // The vector never grows, so that the aligned start stays where it is.
    store: Vec<u8>,
    start: usize,
    len: usize,
    account: Account,
    home: Arena,
}

#[derive(Debug)]
struct Books {
    limits: MemoryLimits,
    shared_used: usize,
    log_used: usize,
    admin_used: usize,
    receive_used: usize,
    buffers_out: usize,
    spare: BTreeMap<usize, Vec<Vec<u8>>>,
    garbage: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { shared_bytes: 32 << 20, log_bytes: 16 << 20, admin_bytes: 1 << 20, receive_buffers: 64 }
    }
}

impl Arena {
    pub(crate) fn new(limits: MemoryLimits, random: &mut Random) -> Self {
        let books = Books {
            limits,
            shared_used: 0,
            log_used: 0,
            admin_used: 0,
            receive_used: 0,
            buffers_out: 0,
            spare: BTreeMap::new(),
            garbage: random.number(),
        };
        Self { books: Arc::new(Mutex::new(books)) }
    }

    pub(crate) fn allocate(&self, len: usize, purpose: Purpose) -> Option<SimBuffer> {
        assert!(len > 0, "a buffer has at least one byte");
        assert!(len <= LEN_MAX, "a buffer has at most 1 MiB");
        let room = room_of(len);
        let account = {
            let mut books = self.books();
            let account = if books.shared_used + room <= books.limits.shared_bytes {
                Account::Shared
            } else {
                match purpose {
                    Purpose::Log if books.log_used + room <= books.limits.log_bytes => Account::Log,
                    Purpose::Admin if books.admin_used + room <= books.limits.admin_bytes => Account::Admin,
                    Purpose::Log | Purpose::Admin | Purpose::Data => return None,
                }
            };
            *books.used(account).expect("one that is bounded") += room;
            account
        };
        Some(self.make(len, account))
    }

    /// Memory for received bytes, of which there is a number and not a volume.
    pub(crate) fn allocate_received(&self, len: usize) -> Option<SimBuffer> {
        {
            let mut books = self.books();
            if books.receive_used == books.limits.receive_buffers {
                return None;
            }
            books.receive_used += 1;
        }
        Some(self.make(len, Account::Receive))
    }

    /// Memory that stays.
    pub(crate) fn allocate_lasting(&self, len: usize) -> SimBuffer {
        assert!(len > 0, "a buffer has at least one byte");
        assert!(len <= LEN_MAX, "a buffer has at most 1 MiB");
        self.make(len, Account::Lasting)
    }

    /// Buffers that have not come home.
    pub(crate) fn buffers_out(&self) -> usize {
        self.books().buffers_out
    }

    fn make(&self, len: usize, account: Account) -> SimBuffer {
        let room = room_of(len);
        let (mut store, garbage) = {
            let mut books = self.books();
            books.buffers_out += usize::from(account != Account::Lasting);
            books.garbage = books.garbage.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let spare = books.spare.get_mut(&room).and_then(Vec::pop);
            (spare.unwrap_or_else(|| vec![0; room + ALIGN]), books.garbage)
        };
        let start = store.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN, "a vector of bytes can be aligned");
        fill_with_garbage(&mut store[start..start + room], garbage);
        SimBuffer { bytes: Memory { store, start, len, account, home: self.clone() } }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Only a panic of this very module can poison the lock, and the books are whole at every point.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// What is bounded of an account.
    fn used(&mut self, account: Account) -> Option<&mut usize> {
        match account {
            Account::Shared => Some(&mut self.shared_used),
            Account::Log => Some(&mut self.log_used),
            Account::Admin => Some(&mut self.admin_used),
            Account::Receive => Some(&mut self.receive_used),
            Account::Lasting => None,
        }
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        &self.store[self.start..self.start + self.len]
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let room = room_of(self.len);
        let store = std::mem::take(&mut self.store);
        let mut books = self.home.books();
        let back = if self.account == Account::Receive { 1 } else { room };
        if let Some(used) = books.used(self.account) {
            *used -= back;
            books.buffers_out -= 1;
        }
        books.spare.entry(room).or_default().push(store);
    }
}

impl Deref for SimBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.bytes()
    }
}

impl DerefMut for SimBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Memory { store, start, len, .. } = &mut self.bytes;
        &mut store[*start..*start + *len]
    }
}

impl fmt::Debug for SimBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBuffer({} bytes)", self.bytes.len)
    }
}

impl io::Buffer for SimBuffer {
    type Shared = SimShared;

    fn share(self) -> SimShared {
        SimShared { bytes: Arc::new(self.bytes) }
    }
}

impl Deref for SimShared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.bytes()
    }
}

impl fmt::Debug for SimShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimShared({} bytes)", self.bytes.len)
    }
}

impl io::Shared for SimShared {}

impl SimShared {
    /// The right to write back, unless somebody else holds the memory, too.
    pub(crate) fn reclaim(self) -> Result<SimBuffer, Self> {
        Arc::try_unwrap(self.bytes).map(|bytes| SimBuffer { bytes }).map_err(|bytes| Self { bytes })
    }
}

fn room_of(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// One 4096-byte pattern again and again: cheap, never zero for long, different for each buffer.
fn fill_with_garbage(room: &mut [u8], seed: u64) {
    let (first, rest) = room.split_at_mut(ALIGN);
    for (index, word) in first.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&scramble(seed.wrapping_add(index as u64)).to_le_bytes());
    }
    for page in rest.chunks_exact_mut(ALIGN) {
        page.copy_from_slice(first);
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use io::Buffer as _;

    fn arena() -> Arena {
        let limits =
            MemoryLimits { shared_bytes: 8192, log_bytes: 4096, admin_bytes: 4096, receive_buffers: 1 };
        Arena::new(limits, &mut Random::new(3))
    }

    #[test]
    fn buffers_are_aligned_and_start_as_garbage() {
        let buffer = arena().allocate(5000, Purpose::Data).unwrap();
        assert_eq!(buffer.len(), 5000);
        assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
        assert!(buffer.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn reserves_are_for_their_purpose_alone() {
        let arena = arena();
        let data = arena.allocate(8192, Purpose::Data).unwrap();
        assert!(arena.allocate(1, Purpose::Data).is_none());
        let log = arena.allocate(1, Purpose::Log).unwrap();
        assert!(arena.allocate(1, Purpose::Log).is_none());
        let admin = arena.allocate(1, Purpose::Admin).unwrap();
        assert_eq!(arena.buffers_out(), 3);
        let shared = data.share();
        let clone = shared.clone();
        drop(shared);
        assert!(arena.allocate(1, Purpose::Data).is_none());
        drop(clone);
        assert!(arena.allocate(8192, Purpose::Data).is_some());
        drop((log, admin));
        assert_eq!(arena.buffers_out(), 0);
    }

    #[test]
    fn receive_buffers_are_counted() {
        let arena = arena();
        let first = arena.allocate_received(10).unwrap();
        assert!(arena.allocate_received(10).is_none());
        drop(first);
        assert!(arena.allocate_received(10).is_some());
    }
}
