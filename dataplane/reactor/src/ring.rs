//! The ring: a queue of operations to the kernel and one of completions from it.
//!
//! Memory that the kernel may touch is owned by the tables of this module's parts (`transfer`, `send`, `receive`,
//! `pool`, `wake`) from the moment an operation is queued until its last completion. That is what makes the pushes
//! below sound, and why a reactor that ends waits for every operation before it drops them.
#![expect(unsafe_code, reason = "operations hand addresses to the kernel")]

pub(crate) mod accept;
pub(crate) mod pool;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod setup;
pub(crate) mod socket;
pub(crate) mod transfer;
pub(crate) mod wake;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use ::io::IoFault;
use io_uring::{IoUring, opcode, squeue, types};

use crate::buffer::ArenaBuffer;
use crate::buffer::arena::Core;
use crate::config::CHUNK_BYTES;
use crate::features::{Feature, Features};

/// Flags of `io_uring_enter`.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
/// Disk operations that are handed over at once: a drive that is told of many late does nothing until then.
const TRANSFERS_PER_ENTER: u32 = 8;

/// One reactor's ring.
pub(crate) struct Ring {
    uring: IoUring,
    /// Its index among the thread's registered rings.
    index: Option<u32>,
    features: Features,
    /// Operations that wait for room in the submission queue, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Operations in the submission queue that the kernel has not taken.
    queued: u32,
    /// Disk operations that were queued since the kernel was last entered.
    transfers_queued: u32,
    /// Operations whose last completion has not been taken.
    under_way: u64,
    taken: VecDeque<Completion>,
    registered: Option<Registered>,
    pub(crate) counters: Counters,
}

/// What a ring counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) enters: u64,
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
}

/// The end, or one result, of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) key: Key,
    /// As the system call would return: a count, or minus an error number.
    pub(crate) result: i32,
    flags: u32,
}

/// Names an operation in its completion: what it is, a slot of that kind's table, a part of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
    pub(crate) part: u16,
}

/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept,
    Bell,
    Cancel,
    /// A wake-up from another ring, or the failure of one to it.
    Message,
    Readiness,
    Receive,
    ReceiveInto,
    Send,
    Transfer,
}

/// A file, by descriptor or by its place in the ring's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    number: i32,
    fixed: bool,
}

/// The arena's registration with the ring: chunk by chunk, as each is first used for a disk operation, because
/// registered memory is pinned.
struct Registered {
    core: Arc<Core>,
    chunks: Vec<bool>,
    count: usize,
    /// The system pins no more, for now.
    exhausted: bool,
    /// That was logged.
    told: bool,
}

impl Ring {
    /// Queues an operation. It leaves with the next [`Self::submit`] or [`Self::wait`].
    ///
    /// # Safety
    /// The memory that the entry refers to stays valid, and is used by nobody else in a way that conflicts with the
    /// operation, until its last completion has been taken.
    unsafe fn push(&mut self, entry: squeue::Entry, key: Key) {
        let entry = entry.user_data(key.encode());
        if key.kind != Kind::Message {
            // A message to another ring completes only where it fails, and refers to no memory.
            self.under_way += 1;
        }
        self.backlog.push_back(entry);
        self.fill_queue();
        self.transfers_queued += u32::from(key.kind == Kind::Transfer);
        if self.transfers_queued >= TRANSFERS_PER_ENTER {
            // The drive begins with these while the next are thought of.
            let _ = self.enter(0, None, 0);
        }
        if !self.backlog.is_empty() {
            // No room: let the kernel take what is there. Where it cannot now, the backlog waits.
            let _ = self.enter(0, None, 0);
            self.fill_queue();
        }
    }

    /// Hands what is queued to the kernel, and runs task work that it has pending.
    pub(crate) fn submit(&mut self) -> Result<(), IoFault> {
        if self.queued == 0 && self.backlog.is_empty() && !self.wants_enter() {
            return Ok(());
        }
        self.enter_and_reap(0, None, 0)
    }

    /// Hands over what is queued and sleeps until `want` operations have completed, `timeout` has passed, or, where
    /// the kernel can, one has completed and `min_wait` has passed.
    pub(crate) fn wait(
        &mut self,
        want: u32,
        timeout: Option<Duration>,
        min_wait: Duration,
    ) -> Result<(), IoFault> {
        let min_wait_micros = if self.features.has(Feature::MinWait) { min_wait.as_micros() } else { 0 };
        let want = if min_wait_micros > 0 { want } else { 1 };
        self.enter_and_reap(want, timeout, u32::try_from(min_wait_micros).unwrap_or(0))
    }

    /// Takes the next completion.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        if self.taken.is_empty() {
            self.reap();
        }
        self.taken.pop_front()
    }

    /// True where a completion has arrived, or would if the kernel were entered.
    pub(crate) fn has_news(&mut self) -> bool {
        !self.taken.is_empty() || !self.uring.completion().is_empty() || self.wants_enter()
    }

    /// Asks the kernel to cancel everything that can be cancelled.
    pub(crate) fn cancel_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(entry, Key::new(Kind::Cancel, 0)) };
    }

    /// Puts a file into the ring's table, or takes it out. Operations that use it go on.
    pub(crate) fn set_file(&mut self, place: u32, file: Option<RawFd>) -> io::Result<()> {
        if !self.features.has(Feature::FixedFiles) {
            return Ok(());
        }
        self.uring.submitter().register_files_update(place, &[file.unwrap_or(-1)]).map(drop)
    }

    /// How operations name a file that was put at `place`.
    pub(crate) fn target(&self, place: u32, file: RawFd) -> Target {
        if self.features.has(Feature::FixedFiles) {
            Target { number: place.cast_signed(), fixed: true }
        } else {
            Target { number: file, fixed: false }
        }
    }

    /// Lets disk operations use registered memory of `core` where they can.
    pub(crate) fn use_arena(&mut self, core: &Arc<Core>) {
        if !self.features.has(Feature::FixedBuffers) {
            return;
        }
        let chunks = core.chunks();
        let sparse = u32::try_from(chunks).unwrap_or(u32::MAX);
        if let Err(error) = self.uring.submitter().register_buffers_sparse(sparse) {
            tracing::debug!(%error, "the ring takes no registered buffers");
            self.features.remove(Feature::FixedBuffers);
            return;
        }
        self.registered = Some(Registered {
            core: Arc::clone(core),
            chunks: vec![false; chunks],
            count: 0,
            exhausted: false,
            told: false,
        });
    }

    /// Bytes of the arena that are registered.
    pub(crate) fn registered_bytes(&self) -> usize {
        self.registered.as_ref().map_or(0, |registered| registered.count * CHUNK_BYTES)
    }

    /// Lets go of a chunk of the arena that no operation uses; false where the kernel does not.
    pub(crate) fn forget_chunk(&mut self, chunk: usize) -> bool {
        let Some(registered) = &mut self.registered else { return true };
        if !registered.chunks[chunk] {
            return true;
        }
        let nothing = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }];
        let Ok(place) = u32::try_from(chunk) else { return false };
        // SAFETY: an empty element refers to no memory.
        if unsafe { self.uring.submitter().register_buffers_update(place, &nothing, None) }.is_err() {
            return false;
        }
        registered.chunks[chunk] = false;
        registered.count -= 1;
        // What could not be pinned before may be now.
        registered.exhausted = false;
        true
    }

    /// Operations that have not completed.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way
    }

    /// The features that this ring has.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Its descriptor, for wakers.
    pub(crate) fn fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    /// The number under which the buffer's memory is registered, if it is or can be.
    fn registration(&mut self, buffer: &ArenaBuffer) -> Option<u16> {
        let registered = self.registered.as_mut()?;
        let chunk = buffer.chunk_of(&registered.core)?;
        if !registered.chunks[chunk] {
            if registered.exhausted {
                return None;
            }
            let start = registered.core.chunk_address(chunk);
            let memory = [libc::iovec { iov_base: start.cast(), iov_len: CHUNK_BYTES }];
            let place = u32::try_from(chunk).ok()?;
            let submitter = self.uring.submitter();
            // SAFETY: the chunk is mapped for as long as `core` lives, and the ring is closed before `registered`
            // lets go of it; the kernel pins the pages, it does not touch them before an operation names them.
            if let Err(error) = unsafe { submitter.register_buffers_update(place, &memory, None) } {
                registered.exhausted = true;
                if !std::mem::replace(&mut registered.told, true) {
                    warn_unregistered(registered.count, registered.chunks.len(), &error);
                }
                return None;
            }
            registered.chunks[chunk] = true;
            registered.count += 1;
        }
        u16::try_from(chunk).ok()
    }

    /// Moves operations from the backlog into the submission queue.
    fn fill_queue(&mut self) {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` was promised that the memory stays valid until the completion.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
            self.queued += 1;
            self.counters.submissions += 1;
        }
    }

    fn enter_and_reap(
        &mut self,
        want: u32,
        timeout: Option<Duration>,
        min_wait_micros: u32,
    ) -> Result<(), IoFault> {
        let mut want = want;
        loop {
            if !self.taken.is_empty() {
                // What was taken out of the queue before is as good as what would come: nobody may sleep over it.
                want = 0;
            }
            self.fill_queue();
            let result = self.enter(want, timeout, min_wait_micros);
            self.reap();
            match result {
                Ok(()) if self.backlog.is_empty() => return Ok(()),
                // There is more than fits: hand it over too, but sleep no more if something has come.
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ETIME) if self.backlog.is_empty() => return Ok(()),
                    // A signal is as good as a timeout to whoever sleeps: the caller looks around and comes back.
                    Some(libc::EINTR | libc::ETIME) => {}
                    // The kernel has completions that did not fit, or no memory: take them and try again.
                    Some(libc::EBUSY | libc::EAGAIN) => {}
                    _ => return Err(IoFault { context: "entering the ring", source: error }),
                },
            }
            if self.queued == 0 && self.backlog.is_empty() {
                return Ok(());
            }
        }
    }

    /// One system call: submits, and waits for `want` completions.
    fn enter(&mut self, want: u32, timeout: Option<Duration>, min_wait_micros: u32) -> io::Result<()> {
        self.counters.enters += 1;
        self.transfers_queued = 0;
        let mut flags = ENTER_EXT_ARG;
        if want > 0 || self.features.has(Feature::DeferTaskrun) || self.wants_enter() {
            flags |= ENTER_GETEVENTS;
        }
        let ring = match self.index {
            Some(index) => {
                flags |= ENTER_REGISTERED_RING;
                index.cast_signed()
            }
            None => self.uring.as_raw_fd(),
        };
        let time =
            timeout.map(|timeout| types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let mut args = types::SubmitArgs::new().min_wait_usec(min_wait_micros);
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        // SAFETY: the ring is ours; the entries were pushed under `push`'s promise; `args`, of which the size is
        // given, and `time`, to which it points, outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                self.queued,
                want,
                flags,
                &raw const args,
                size_of::<types::SubmitArgs<'_, '_>>(),
            )
        };
        // The head of the queue says what was taken, whether the call also waited or failed at that.
        self.queued = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// True where only entering the kernel makes completions appear.
    fn wants_enter(&mut self) -> bool {
        let queue = self.uring.submission();
        if queue.cq_overflow() {
            return true;
        }
        if self.features.has(Feature::TaskrunFlag) {
            queue.taskrun()
        } else {
            // Without the flag, deferred work can only be found by asking.
            self.features.has(Feature::DeferTaskrun)
        }
    }

    /// Moves completions out of the shared queue.
    fn reap(&mut self) {
        for entry in self.uring.completion() {
            self.counters.completions += 1;
            let Some(key) = Key::decode(entry.user_data()) else { continue };
            let completion = Completion { key, result: entry.result(), flags: entry.flags() };
            if key.kind != Kind::Message && !completion.has_more() {
                self.under_way -= 1;
            }
            self.taken.push_back(completion);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.features.has(Feature::FixedFiles) {
            // The table would keep drives locked and connections open until the kernel has taken the ring apart.
            let _ = self.uring.submitter().unregister_files();
        }
        if let Some(index) = self.index.take() {
            setup::unregister_ring(self.uring.as_raw_fd(), index);
        }
    }
}

impl Completion {
    /// True where the operation goes on and completes again.
    pub(crate) fn has_more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The offered buffer that the kernel took for the operation.
    pub(crate) fn offered_buffer(&self) -> Option<u16> {
        io_uring::cqueue::buffer_select(self.flags)
    }

    /// True where the socket held more bytes than were received.
    pub(crate) fn more_to_receive(&self) -> bool {
        io_uring::cqueue::sock_nonempty(self.flags)
    }
}

impl Key {
    pub(crate) const fn new(kind: Kind, slot: u32) -> Self {
        Self { kind, slot, part: 0 }
    }

    const fn encode(self) -> u64 {
        (self.kind as u64) << 48 | (self.part as u64) << 32 | self.slot as u64
    }

    fn decode(bits: u64) -> Option<Self> {
        const KINDS: [Kind; 9] = [
            Kind::Accept,
            Kind::Bell,
            Kind::Cancel,
            Kind::Message,
            Kind::Readiness,
            Kind::Receive,
            Kind::ReceiveInto,
            Kind::Send,
            Kind::Transfer,
        ];
        let kind = *KINDS.get(usize::try_from(bits >> 48).ok()?)?;
        Some(Self { kind, part: (bits >> 32) as u16, slot: bits as u32 })
    }
}

impl Target {
    /// A file that is not in the ring's table.
    pub(crate) fn plain(file: RawFd) -> Self {
        Self { number: file, fixed: false }
    }

    /// The descriptor or index to build an entry with.
    fn fd(self) -> types::Fd {
        types::Fd(self.number)
    }

    /// Marks an entry that was built with [`Self::fd`].
    fn mark(self, entry: squeue::Entry) -> squeue::Entry {
        if self.fixed { entry.flags(squeue::Flags::FIXED_FILE) } else { entry }
    }
}

fn warn_unregistered(registered: usize, chunks: usize, error: &io::Error) {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        tracing::warn!(
            registered_mib = registered,
            arena_mib = chunks,
            "RLIMIT_MEMLOCK lets only a part of the buffers be registered, disk I/O uses more CPU: raise it (ulimit -l, LimitMEMLOCK= in systemd) to the size of all arenas, or grant CAP_IPC_LOCK"
        );
    } else {
        tracing::warn!(registered_mib = registered, arena_mib = chunks, %error, "buffers cannot be registered, disk I/O uses more CPU");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_trip_through_the_kernel() {
        for kind in [Kind::Accept, Kind::Bell, Kind::Message, Kind::Receive, Kind::Transfer] {
            let key = Key { kind, slot: 0xfedc_ba98, part: 0x7654 };
            assert_eq!(Key::decode(key.encode()), Some(key));
        }
        assert_eq!(Key::decode(u64::MAX), None);
    }
}
