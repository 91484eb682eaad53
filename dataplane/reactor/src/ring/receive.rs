//! Receives: into offered buffers, or into one that is given.
#![expect(unsafe_code, reason = "operations hand addresses to the kernel")]

use io_uring::{opcode, squeue};

use super::{Key, Kind, Ring, Target, pool};
use crate::buffer::ArenaBuffer;

/// `IORING_RECVSEND_POLL_FIRST`: do not try before the socket says that it has something.
const POLL_FIRST: u16 = 1;
const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;

/// The receives of a reactor that have a buffer, by the number of their connection.
#[derive(Default)]
pub(crate) struct Receives {
    buffers: Vec<Option<ArenaBuffer>>,
}

impl Receives {
    /// Receives into `buffer[start..end]`.
    pub(crate) fn start_into(
        &mut self,
        ring: &mut Ring,
        slot: u32,
        target: Target,
        buffer: ArenaBuffer,
        start: usize,
        end: usize,
    ) {
        let len = end - start;
        let address = buffer.address(start, len);
        let index = slot as usize;
        if self.buffers.len() <= index {
            self.buffers.resize_with(index + 1, || None);
        }
        assert!(self.buffers[index].is_none(), "a connection has one receive at a time");
        self.buffers[index] = Some(buffer);
        let len = u32::try_from(len).expect("a buffer is at most 1 MiB long");
        let entry = target.mark(opcode::Recv::new(target.fd(), address, len).build());
        // SAFETY: the bytes are within the buffer, which stays in `buffers` until `take` after the completion.
        unsafe { ring.push(entry, Key::new(Kind::ReceiveInto, slot)) };
    }

    /// The buffer of a receive that has completed.
    pub(crate) fn take(&mut self, slot: u32) -> ArenaBuffer {
        let buffer = self.buffers.get_mut(slot as usize).and_then(Option::take);
        buffer.expect("a completion comes once, for a receive that was started")
    }
}

/// Receives into an offered buffer; `soon` where bytes are likely there already.
pub(crate) fn start_offered(ring: &mut Ring, slot: u32, target: Target, len: usize, soon: bool) {
    let len = u32::try_from(len).expect("a buffer is at most 1 MiB long");
    let entry = opcode::Recv::new(target.fd(), std::ptr::null_mut(), len)
        .buf_group(pool::GROUP)
        .ioprio(if soon { 0 } else { POLL_FIRST })
        .build();
    let entry = target.mark(entry).flags(squeue::Flags::BUFFER_SELECT);
    // SAFETY: the kernel writes only to a buffer of the pool, which keeps it until it is taken after the completion.
    unsafe { ring.push(entry, Key::new(Kind::Receive, slot)) };
}

/// Waits until a socket has something to receive, or has ended.
pub(crate) fn start_readiness(ring: &mut Ring, slot: u32, target: Target) {
    let entry = target.mark(opcode::PollAdd::new(target.fd(), READABLE).build());
    // SAFETY: the operation refers to no memory.
    unsafe { ring.push(entry, Key::new(Kind::Readiness, slot)) };
}
