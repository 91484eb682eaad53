//! Opens a ring with what this kernel has, and says clearly why it cannot.
#![expect(unsafe_code, reason = "the ring's own descriptor is registered by a system call")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, Probe, opcode};

use super::{Counters, Ring};
use crate::features::{Feature, Features};

/// `IORING_REGISTER_RING_FDS` and its counterpart.
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// Completions that fit into the queue for each entry of the submission queue.
const COMPLETIONS_PER_ENTRY: u32 = 8;

/// No ring can be opened; the message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A policy forbids it.
    #[error("{}", blocked(*.sysctl))]
    Blocked {
        /// What `kernel.io_uring_disabled` says, if it can be read.
        sysctl: Option<u32>,
    },
    /// The limit of open files is reached.
    #[error("too many open files for an io_uring: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= in systemd)")]
    FileLimit,
    /// There is no memory for it.
    #[error(
        "no memory for an io_uring: raise the memory limit of the control group, or RLIMIT_MEMLOCK (ulimit -l)"
    )]
    Memory,
    /// The kernel is too old.
    #[error("the kernel's io_uring lacks {missing}: Linux 6.1 or newer is needed")]
    TooOld {
        /// What it lacks.
        missing: &'static str,
    },
    /// The system refused something else.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Ring {
    /// Opens a ring on the thread that will use it, with a table for `files` files, using of `wanted` what there is.
    pub(crate) fn new(wanted: Features, entries: u32, files: u32) -> Result<Self, RingError> {
        let (uring, mut features) = open(wanted, entries)?;
        require(&uring)?;
        let probe = probe(&uring)?;
        // Both came with a later kernel than the part of them that can be seen: the opcode of 6.7 stands for wakes
        // through rings whose task work is deferred.
        if !probe.is_supported(opcode::MsgRingData::CODE) || !probe.is_supported(opcode::ReadMulti::CODE) {
            features.remove(Feature::MsgRing);
        }
        if !uring.params().is_feature_min_timeout() {
            features.remove(Feature::MinWait);
        }
        if features.has(Feature::FixedFiles)
            && let Err(error) = uring.submitter().register_files_sparse(files)
        {
            tracing::warn!(%error, files, "the ring takes no table of files: raise RLIMIT_NOFILE (ulimit -n)");
            features.remove(Feature::FixedFiles);
        }
        let index =
            if features.has(Feature::RegisteredRing) { register_ring(uring.as_raw_fd()) } else { None };
        if index.is_none() {
            features.remove(Feature::RegisteredRing);
        }
        Ok(Self {
            uring,
            index,
            features,
            backlog: VecDeque::with_capacity(entries as usize),
            queued: 0,
            transfers_queued: 0,
            under_way: 0,
            taken: VecDeque::with_capacity((entries * COMPLETIONS_PER_ENTRY) as usize),
            registered: None,
            counters: Counters::default(),
        })
    }

    /// Notes that something that was tried later is not there.
    pub(crate) fn lack(&mut self, feature: Feature) {
        self.features.remove(feature);
    }
}

/// Undoes the registration of a ring's descriptor, which would keep the ring open until the thread ends.
pub(crate) fn unregister_ring(ring: RawFd, index: u32) {
    let mut update = RingUpdate { offset: index, reserved: 0, data: 0 };
    let _ = register(ring, UNREGISTER_RING_FDS, &mut update);
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Opens with every wanted flag, then with fewer until the kernel accepts.
fn open(wanted: Features, entries: u32) -> Result<(IoUring, Features), RingError> {
    // The youngest come first, so that an old kernel loses no more than it must.
    const BY_AGE: [Feature; 4] =
        [Feature::NoSqarray, Feature::DeferTaskrun, Feature::SingleIssuer, Feature::TaskrunFlag];
    let mut features = wanted;
    if !features.has(Feature::SingleIssuer) {
        features.remove(Feature::DeferTaskrun);
    }
    let mut next = BY_AGE.into_iter();
    loop {
        match build(features, entries) {
            Ok(uring) => return Ok((uring, features)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => match next.next() {
                Some(feature) => features.remove(feature),
                None => return Err(RingError::TooOld { missing: "basic flags" }),
            },
            Err(error) => return Err(RingError::of(error)),
        }
    }
}

fn build(features: Features, entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_submit_all().setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
    if features.has(Feature::SingleIssuer) {
        builder.setup_single_issuer();
    }
    if features.has(Feature::DeferTaskrun) {
        builder.setup_defer_taskrun();
    } else if features.has(Feature::TaskrunFlag) {
        builder.setup_coop_taskrun();
    }
    if features.has(Feature::TaskrunFlag) {
        builder.setup_taskrun_flag();
    }
    if features.has(Feature::NoSqarray) {
        builder.setup_no_sqarray();
    }
    builder.build(entries)
}

fn require(uring: &IoUring) -> Result<(), RingError> {
    let params = uring.params();
    let needed = [
        (params.is_feature_nodrop(), "completions without loss"),
        (params.is_feature_ext_arg(), "waits with a timeout"),
        (params.is_feature_fast_poll(), "polled sockets"),
        (params.is_feature_submit_stable(), "stable submissions"),
        (params.is_feature_skip_cqe_on_success(), "silent completions"),
    ];
    match needed.into_iter().find(|(present, _)| !present) {
        Some((_, missing)) => Err(RingError::TooOld { missing }),
        None => Ok(()),
    }
}

fn probe(uring: &IoUring) -> Result<Probe, RingError> {
    let mut probe = Probe::new();
    uring
        .submitter()
        .register_probe(&mut probe)
        .map_err(|source| RingError::System { action: "ask the ring for its operations", source })?;
    let needed = [
        (opcode::ReadFixed::CODE, "fixed reads"),
        (opcode::WriteFixed::CODE, "fixed writes"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::Accept::CODE, "accept"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Recv::CODE, "recv"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel2::CODE, "cancel"),
    ];
    match needed.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, missing)) => Err(RingError::TooOld { missing }),
        None => Ok(probe),
    }
}

/// Registers the ring's descriptor for this thread and returns its index; `None` where the kernel cannot.
fn register_ring(ring: RawFd) -> Option<u32> {
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: u64::try_from(ring).ok()? };
    register(ring, REGISTER_RING_FDS, &mut update).then_some(update.offset)
}

fn register(ring: RawFd, operation: libc::c_uint, update: &mut RingUpdate) -> bool {
    // SAFETY: `update` is one element of the structure that both operations take, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, operation, &raw mut *update, 1) };
    result == 1
}

impl RingError {
    fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => Self::Blocked { sysctl: sysctl_disabled() },
            Some(libc::EMFILE | libc::ENFILE) => Self::FileLimit,
            Some(libc::ENOMEM) => Self::Memory,
            _ => Self::System { action: "open an io_uring", source: error },
        }
    }
}

fn sysctl_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn blocked(sysctl: Option<u32>) -> &'static str {
    match sysctl {
        Some(2) => {
            "io_uring is switched off by the sysctl kernel.io_uring_disabled=2: set it to 0 (sysctl -w kernel.io_uring_disabled=0)"
        }
        Some(1) => {
            "io_uring is kept to privileged users by the sysctl kernel.io_uring_disabled=1: set it to 0, or add this user's group as kernel.io_uring_group"
        }
        _ => {
            "io_uring is blocked, most likely by a seccomp filter of the container: allow io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt seccomp=unconfined, or a profile with these)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_ring_is_told_apart_by_what_to_change() {
        let seccomp = RingError::of(io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(seccomp.contains("seccomp"));
        assert!(blocked(Some(2)).contains("kernel.io_uring_disabled=0"));
        assert!(blocked(Some(1)).contains("io_uring_group"));
    }

    #[test]
    fn a_ring_opens_with_everything_nothing_and_each_feature_alone() {
        for wanted in Feature::ALL.map(|feature| {
            let mut set = Features::none();
            set.insert(feature);
            set
        }) {
            Ring::new(wanted, 8, 8).unwrap();
        }
        let ring = Ring::new(Features::none(), 8, 8).unwrap();
        assert_eq!(ring.features(), Features::none());
        let ring = Ring::new(Features::all(), 8, 8).unwrap();
        println!("{}", ring.features());
    }
}
