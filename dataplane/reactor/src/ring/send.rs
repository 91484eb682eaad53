//! Sends: a list of pieces as one gathered operation, continued until the transport has taken the last byte.
#![expect(unsafe_code, reason = "operations hand addresses to the kernel")]

use std::os::raw::c_void;

use io::{Segment, SendList};
use io_uring::opcode;
use libc::{iovec, msghdr};

use super::{Completion, Key, Kind, Ring, Target};
use crate::buffer::ArenaBuffer;

/// Most pieces that the system takes at once (`UIO_MAXIOV`).
const VECTORS_MAX: usize = 1024;
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// What stands in for [`Segment::Zeroes`], with a line more than one piece uses.
static ZEROES: Zeroes = Zeroes([0; ZEROES_LEN + LINE_BYTES]);
/// Longest piece of zeros.
const ZEROES_LEN: usize = 64 << 10;
const LINE_BYTES: usize = 64;

#[repr(align(64))]
struct Zeroes([u8; ZEROES_LEN + LINE_BYTES]);

/// The sends of a reactor that are under way.
#[derive(Default)]
pub(crate) struct Sends {
    #[expect(clippy::vec_box, reason = "the kernel holds the address of the message inside")]
    slots: Vec<Box<Outgoing>>,
    free: Vec<u32>,
    /// Bytes given to the kernel so far. It copies what a thread sends to one place after the other, so that this tells
    /// where in a cache line the next byte goes; a copy from the same place in a line is faster by half.
    phase: usize,
}

/// One send: what is sent, and how far it is.
struct Outgoing {
    list: SendList<ArenaBuffer>,
    vectors: Vec<iovec>,
    message: msghdr,
    target: Target,
    connection: u32,
    /// The first segment that has not left wholly, and how much of it has.
    segment: usize,
    offset: usize,
    /// Bytes that the vectors have.
    gathered: usize,
    /// The vectors have all that has not left.
    whole: bool,
}

/// A send that has ended.
pub(crate) struct Sent {
    pub(crate) connection: u32,
    pub(crate) list: SendList<ArenaBuffer>,
    /// The error number, if it failed.
    pub(crate) result: Result<(), i32>,
}

impl Sends {
    /// Starts to send `list` on a connection.
    pub(crate) fn start(
        &mut self,
        ring: &mut Ring,
        connection: u32,
        target: Target,
        list: SendList<ArenaBuffer>,
    ) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Box::new(Outgoing::new()));
            u32::try_from(self.slots.len() - 1).expect("one send per connection")
        });
        let outgoing = &mut self.slots[slot as usize];
        outgoing.list = list;
        outgoing.target = target;
        outgoing.connection = connection;
        outgoing.segment = 0;
        outgoing.offset = 0;
        outgoing.push(ring, slot, &mut self.phase);
    }

    /// Takes a completion; the send goes on, or has ended. Adds the bytes that left to `bytes`.
    pub(crate) fn complete(
        &mut self,
        ring: &mut Ring,
        completion: Completion,
        bytes: &mut u64,
    ) -> Option<Sent> {
        let slot = completion.key.slot;
        let outgoing = &mut self.slots[slot as usize];
        let result = match completion.result {
            // Nothing left although nothing failed: the connection takes no more.
            0 => Err(libc::EPIPE),
            count if count > 0 => {
                let count = count.unsigned_abs() as usize;
                *bytes += count as u64;
                self.phase = self.phase.wrapping_sub(outgoing.gathered - count);
                outgoing.advance(count);
                Ok(())
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => Ok(()),
            error => Err(-error),
        };
        if result.is_ok() && outgoing.segment < outgoing.list.segments.len() {
            outgoing.push(ring, slot, &mut self.phase);
            return None;
        }
        let list = std::mem::take(&mut outgoing.list);
        self.free.push(slot);
        Some(Sent { connection: outgoing.connection, list, result })
    }
}

impl Outgoing {
    fn new() -> Self {
        // SAFETY: a message header of zeros is a valid one without a name, pieces or control data.
        let message = unsafe { std::mem::zeroed() };
        Self {
            list: SendList::new(),
            vectors: Vec::new(),
            message,
            target: Target::plain(-1),
            connection: 0,
            segment: 0,
            offset: 0,
            gathered: 0,
            whole: false,
        }
    }

    /// Queues what has not left.
    fn push(&mut self, ring: &mut Ring, slot: u32, phase: &mut usize) {
        self.gather(*phase);
        *phase = phase.wrapping_add(self.gathered);
        let entry = if let [only] = self.vectors.as_slice() {
            let len = u32::try_from(only.iov_len).expect("a piece is at most 1 MiB long");
            opcode::Send::new(self.target.fd(), only.iov_base.cast_const().cast(), len).flags(FLAGS).build()
        } else {
            self.message.msg_iov = self.vectors.as_mut_ptr();
            self.message.msg_iovlen = self.vectors.len() as _;
            opcode::SendMsg::new(self.target.fd(), &raw const self.message)
                .flags(FLAGS.cast_unsigned())
                .build()
        };
        let entry = self.target.mark(entry);
        // SAFETY: the pieces belong to `list`, which stays here, unchanged, until the send has completed; so do the
        // vectors and the message, whose addresses do not move; the kernel only reads them.
        unsafe { ring.push(entry, Key::new(Kind::Send, slot)) };
    }

    /// Writes the vectors of what has not left, as many as one operation takes; `phase` says where its first byte goes.
    fn gather(&mut self, phase: usize) {
        self.vectors.clear();
        self.gathered = 0;
        self.whole = true;
        let mut skip = self.offset;
        for segment in &self.list.segments[self.segment..] {
            let bytes = match segment {
                Segment::Header { start, len } => &self.list.headers[*start as usize..][..*len as usize],
                Segment::Owned { buffer, start, len } => &buffer[*start as usize..][..*len as usize],
                Segment::Shared(slice) => slice,
                Segment::Zeroes { len } => {
                    let mut left = *len as usize - skip;
                    while left > 0 && self.vectors.len() < VECTORS_MAX {
                        let start = phase.wrapping_add(self.gathered) % LINE_BYTES;
                        let piece = &ZEROES.0[start..][..left.min(ZEROES_LEN)];
                        self.vectors.push(vector(piece));
                        self.gathered += piece.len();
                        left -= piece.len();
                    }
                    &[]
                }
            };
            if !bytes.is_empty() && self.vectors.len() < VECTORS_MAX {
                self.vectors.push(vector(&bytes[skip..]));
                self.gathered += bytes.len() - skip;
            }
            if self.vectors.len() >= VECTORS_MAX {
                // The last of it may have been all there is; whether it was is found piece by piece.
                self.whole = false;
                break;
            }
            skip = 0;
        }
    }

    /// Notes that `count` more bytes have left.
    fn advance(&mut self, count: usize) {
        if self.whole && count == self.gathered {
            // Nearly always: the system takes a send whole.
            self.segment = self.list.segments.len();
            self.offset = 0;
            return;
        }
        let mut count = count;
        while let Some(segment) = self.list.segments.get(self.segment) {
            let left = segment.len_bytes() - self.offset;
            if count < left {
                self.offset += count;
                return;
            }
            count -= left;
            self.segment += 1;
            self.offset = 0;
        }
        assert_eq!(count, 0, "no more leaves than was given");
    }
}

fn vector(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr().cast::<c_void>().cast_mut(), iov_len: bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(list: SendList<ArenaBuffer>) -> Outgoing {
        let mut outgoing = Outgoing::new();
        outgoing.list = list;
        outgoing.gather(0);
        outgoing
    }

    fn lengths(outgoing: &Outgoing) -> Vec<usize> {
        outgoing.vectors.iter().map(|vector| vector.iov_len).collect()
    }

    #[test]
    fn what_has_left_is_not_gathered_again() {
        let mut list = SendList::new();
        list.push_header(b"0123456789");
        list.segments.push(Segment::Zeroes { len: 100_000 });
        list.headers.extend_from_slice(b"tail");
        list.segments.push(Segment::Header { start: 10, len: 4 });
        let mut outgoing = outgoing(list);
        assert_eq!(lengths(&outgoing), [10, 65_536, 34_464, 4]);
        outgoing.advance(7);
        outgoing.gather(0);
        assert_eq!(lengths(&outgoing), [3, 65_536, 34_464, 4]);
        outgoing.advance(3 + 90_000);
        outgoing.gather(0);
        assert_eq!(lengths(&outgoing), [10_000, 4]);
        outgoing.advance(10_004);
        assert_eq!(outgoing.segment, 3);
    }

    #[test]
    fn one_operation_takes_no_more_pieces_than_the_system_allows() {
        let mut list = SendList::new();
        list.headers.resize(3000, 1);
        list.segments = (0..3000).map(|start| Segment::Header { start, len: 1 }).collect();
        let mut outgoing = outgoing(list);
        assert_eq!(outgoing.vectors.len(), VECTORS_MAX);
        outgoing.advance(VECTORS_MAX);
        outgoing.gather(0);
        assert_eq!(outgoing.vectors.len(), VECTORS_MAX);
        outgoing.advance(VECTORS_MAX);
        outgoing.gather(0);
        assert_eq!(outgoing.vectors.len(), 3000 - 2 * VECTORS_MAX);
    }
}
