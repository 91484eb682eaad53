//! Accepts: one operation for all connections of a listener where the kernel can, one for each elsewhere.
#![expect(unsafe_code, reason = "a descriptor that the kernel returns becomes ours")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::{opcode, types};

use super::{Completion, Key, Kind, Ring};
use crate::features::Feature;

/// Accepts on `listener`, whose number is `slot`.
pub(crate) fn start(ring: &mut Ring, slot: u32, listener: RawFd) {
    let fd = types::Fd(listener);
    let entry = if ring.features().has(Feature::MultishotAccept) {
        opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
    } else {
        opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
    };
    // SAFETY: the operation refers to no memory; addresses are asked for later.
    unsafe { ring.push(entry, Key::new(Kind::Accept, slot)) };
}

/// The socket that an accept returned, or the error number.
pub(crate) fn socket(completion: Completion) -> Result<OwnedFd, i32> {
    assert!(completion.key.kind == Kind::Accept);
    if completion.result < 0 {
        return Err(-completion.result);
    }
    // SAFETY: the kernel made the descriptor for this completion, which is looked at once.
    Ok(unsafe { OwnedFd::from_raw_fd(completion.result) })
}
