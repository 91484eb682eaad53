//! What a reactor counts.

/// Counters of one reactor since its start; those that end in `_now` are levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rounds of [`io::Io::poll`].
    pub polls: u64,
    /// Times the kernel was entered through the ring.
    pub enters: u64,
    /// Operations submitted.
    pub submissions: u64,
    /// Completions taken.
    pub completions: u64,
    /// Polls that looked for work before sleeping.
    pub spins: u64,
    /// Nanoseconds spent so.
    pub spin_nanos: u64,
    /// Times the reactor slept in the kernel.
    pub sleeps: u64,
    /// Nanoseconds slept.
    pub sleep_nanos: u64,
    /// Other reactors woken.
    pub wakes: u64,
    /// Messages posted.
    pub mail_posted: u64,
    /// Requests refused because the other side's box was full.
    pub mail_refused: u64,
    /// Messages taken.
    pub mail_taken: u64,
    /// Bytes received from connections.
    pub received_bytes: u64,
    /// Bytes sent to connections.
    pub sent_bytes: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections of this reactor.
    pub connections_now: u64,
    /// Receives that had to wait because no buffer was free.
    pub receive_waits: u64,
    /// Disk reads submitted by the state machines.
    pub disk_reads: u64,
    /// Bytes read from drives.
    pub disk_read_bytes: u64,
    /// Disk writes submitted.
    pub disk_writes: u64,
    /// Bytes written to drives.
    pub disk_written_bytes: u64,
    /// Flushes submitted.
    pub disk_flushes: u64,
    /// Disk operations that failed.
    pub disk_errors: u64,
    /// Disk operations that had to be continued or repeated.
    pub disk_retries: u64,
    /// Buffers that could not be given because the arena's part was taken.
    pub allocations_refused: u64,
    /// Size of the arena in bytes.
    pub arena_bytes: u64,
    /// Bytes of the arena that buffers hold.
    pub arena_used_bytes_now: u64,
    /// Bytes of the arena that are registered with the ring.
    pub arena_registered_bytes_now: u64,
}
