//! Waking a sleeping reactor: a bell that any thread can ring, or a message from the waker's ring.
#![expect(unsafe_code, reason = "an eventfd is made by a system call, and read into memory of ours")]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{opcode, squeue, types};

use super::{Key, Kind, Ring};

/// An eventfd: rung from anywhere, heard by one reactor's ring.
pub(crate) struct Bell {
    file: File,
}

/// The operation by which a reactor hears its bell.
pub(crate) struct Listening {
    /// Where the kernel writes the bell's count; nobody reads it.
    count: Box<u64>,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        // SAFETY: the call takes no memory.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call has just made the descriptor, and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { file: File::from(descriptor) })
    }

    /// Wakes whoever listens, now or as soon as it does.
    pub(crate) fn ring(&self) {
        // It can fail only when the count is full, and then it has rung.
        let _ = (&self.file).write(&1_u64.to_ne_bytes());
    }
}

impl Listening {
    pub(crate) fn new() -> Self {
        Self { count: Box::new(0) }
    }

    /// Listens to `bell` until it rings, which is one completion of [`Kind::Bell`]. It must not be called again
    /// before that.
    pub(crate) fn start(&mut self, ring: &mut Ring, bell: &Bell) {
        let address = (&raw mut *self.count).cast::<u8>();
        let entry = opcode::Read::new(types::Fd(bell.file.as_raw_fd()), address, 8).build();
        // SAFETY: the eight bytes are in a box of their own, to which nobody refers while the operation is under
        // way, and which lives as long as the reactor.
        unsafe { ring.push(entry, Key::new(Kind::Bell, 0)) };
    }
}

/// Wakes the reactor of another ring. A completion of [`Kind::Message`] comes here, with its number, only if that
/// fails; there, one without meaning comes if it works.
pub(crate) fn send_message(ring: &mut Ring, to: u16, ring_fd: RawFd) {
    let there = Key::new(Kind::Message, u32::MAX).encode();
    let entry = opcode::MsgRingData::new(types::Fd(ring_fd), 0, there, None)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS);
    // SAFETY: the operation refers to no memory of ours.
    unsafe { ring.push(entry, Key::new(Kind::Message, u32::from(to))) };
}
