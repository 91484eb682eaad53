//! An unprivileged user with a small RLIMIT_MEMLOCK. Alone in its process, whose limit it lowers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "limits and capabilities are system calls")]

mod support;

use io::{Disk, DriveId, Event, Token};
use reactor::{Feature, Features};
use support::{Scratch, config, patterned, single, until};

const CAP_IPC_LOCK: u32 = 14;

/// Takes the right to lock memory without limit from this thread.
fn drop_capability() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    // Effective, permitted and inheritable, low words before high ones.
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: the header and the sets have the layout of this version of the call, and outlive it.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    assert_eq!(result, 0);
    for set in &mut sets[0] {
        *set &= !(1 << CAP_IPC_LOCK);
    }
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn a_small_limit_of_locked_memory_means_fewer_registered_buffers_and_no_failure() {
    let scratch = Scratch::new("memlock");
    let drives = scratch.drives(1, 32);
    drop_capability();
    let limit = libc::rlimit { rlim_cur: 2 << 20, rlim_max: 2 << 20 };
    // SAFETY: the limit outlives the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    assert_eq!(result, 0);
    let mut reactor = single(&config(Features::all(), drives));
    assert!(reactor.features().has(Feature::FixedBuffers));
    // Five chunks of the arena at once, of which not all can be registered.
    for number in 0..5_u64 {
        let buffer = patterned(&mut reactor, 1 << 20, number as u8);
        reactor.write(Token(number), DriveId(0), number << 20, buffer, 1 << 20);
    }
    let mut left = 5;
    until(&mut reactor, |_, event| match event {
        Event::Written { result, .. } => {
            assert_eq!(result, Ok(()));
            left -= 1;
            (left == 0).then_some(())
        }
        _ => None,
    });
    let registered = reactor.stats().arena_registered_bytes_now;
    assert!(registered <= 2 << 20, "{registered} bytes are registered beyond the limit");
}
