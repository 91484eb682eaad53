//! A container's filter that blocks io_uring. Alone in its process, because a filter stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "a filter is installed by a system call")]

mod support;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
use reactor::{DriveSet, Features, RingError, StartError};
use support::{config, placement};

/// Makes this thread's `io_uring_setup` fail with `errno`, as container runtimes do.
fn block_io_uring(errno: i32) {
    let call = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let instruction = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
    // The number of the call is the first word of what the filter sees.
    let mut program = [
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, call),
        instruction(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        instruction(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the call takes no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the filter and its program outlive the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(result, 0);
}

#[test]
fn a_blocked_io_uring_is_told_with_what_to_change() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let blocked = std::thread::spawn(move || {
            block_io_uring(errno);
            let config = config(Features::all(), DriveSet::none());
            reactor::build::<u64>(&config, &placement(1)).unwrap_err()
        });
        let error = blocked.join().unwrap();
        assert!(matches!(error, StartError::Ring(RingError::Blocked { .. })), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("seccomp"), "{text}");
        assert!(text.contains("io_uring_setup"), "{text}");
    }
}
