//! Every bound of the target in one place, with the arithmetic that ties them together.

use std::time::Duration;

/// Highest valid NSID, and the most namespaces (NN and MNAN of Identify Controller), fixed so that a host never has
/// to learn of a change.
pub const NAMESPACES_MAX: u32 = 16_384;

/// Bytes of a stripe: the boundary that an atomic write must not cross, and the most that one store operation moves.
pub const STRIPE_BYTES: u32 = 1 << 20;

/// Minimum memory page size (CAP.MPSMIN) in bytes: the unit of MDTS, VSL and WZSL.
pub const PAGE_BYTES: u32 = 4096;

/// Maximum data transfer size (MDTS) as a power of two of [`PAGE_BYTES`].
pub const MDTS: u8 = 8;

/// Most bytes that one command moves. A command of this size may touch two stripes.
pub const TRANSFER_BYTES_MAX: u32 = PAGE_BYTES << MDTS;

/// Write zeroes size limit (WZSL) as a power of two of [`PAGE_BYTES`]: 65536 blocks of 4096 bytes, so no limit.
pub const WZSL: u8 = 16;

/// Verify size limit (VSL) as a power of two of [`PAGE_BYTES`].
pub const VSL: u8 = 8;

/// Most ranges of a Dataset Management command.
pub const DSM_RANGES_MAX: usize = 256;

/// What each range to deallocate counts for in the quota of its connection, in bytes: it becomes a piece for every
/// shard. A full list counts as the largest transfer.
pub const DSM_RANGE_CHARGE_BYTES: u32 = TRANSFER_BYTES_MAX / DSM_RANGES_MAX as u32;

/// In-capsule data of I/O queues in bytes: writes up to this size need no R2T round trip.
pub const IO_CAPSULE_BYTES_MAX: u32 = 16 << 10;

/// Most data in one H2CData PDU (MAXH2CDATA): a whole command's, so that each R2T is answered by one PDU.
pub const H2C_DATA_BYTES_MAX: u32 = 1 << 20;

/// Data of this size or more that is still to come is received straight into the command's buffer.
pub const RECEIVE_INTO_BYTES_MIN: u32 = 8 << 10;

/// Entries of a submission queue (CAP.MQES + 1): twice what Linux asks for, since a host keeps one entry free.
pub const QUEUE_ENTRIES_MAX: u32 = 256;

/// Entries of an admin queue: what the specification allows. Its commands are done one at a time.
pub const ADMIN_QUEUE_ENTRIES_MAX: u32 = 4096;

/// Entries of the admin queue that the discovery log tells of (ASQSZ).
pub const ADMIN_QUEUE_ENTRIES_TOLD: u16 = 32;

/// I/O queues of one controller.
pub const IO_QUEUES_MAX: u16 = 128;

/// Asynchronous Event Requests outstanding per controller (AERL + 1).
pub const ASYNC_EVENTS_MAX: usize = 4;

/// Abort commands outstanding per controller (ACL + 1).
pub const ABORTS_MAX: usize = 4;

/// Entries kept for the Error Information log (ELPE + 1).
pub const ERROR_LOG_ENTRIES: usize = 64;

/// Entries of the Changed Namespace List log; beyond them it says "all".
pub const CHANGED_NAMESPACES_MAX: usize = 1024;

/// Controllers of this node, I/O and discovery together.
pub const CONTROLLERS_MAX: usize = 4096;

/// Connections of reactor 0 that have no Connect behind them yet, and admin queues.
pub const DESK_CONNECTIONS_MAX: usize = 2 * CONTROLLERS_MAX;

/// I/O queues of one reactor.
pub const PORT_QUEUES_MAX: usize = 1 << 16;

/// Bytes of payload that one connection may hold: reads until they are sent, writes until they are done.
pub const CONNECTION_BYTES_MAX: u32 = 8 << 20;

/// Bytes of replies that one admin queue may hold until they are sent; a single reply may be larger.
pub const ADMIN_BYTES_MAX: u32 = 128 << 10;

/// Bytes that one connection may be asked for by R2T, from the R2T to the end of the command.
pub const CONNECTION_R2T_BYTES_MAX: u32 = 8 << 20;

/// Responses that may wait to be sent, as a multiple of the queue's entries; beyond them nothing is read. A receive
/// that is under way ends, and what it has brought waits.
pub const UNSENT_PER_ENTRY: u32 = 2;

/// Segments of one gathered send.
pub const SEND_SEGMENTS_MAX: usize = 256;

/// Bytes of one gathered send, the last command's data excepted.
pub const SEND_BYTES_MAX: usize = 1 << 20;

/// Segments that one command adds to a send: header, two stripes' data, digest, response.
pub const SEND_SEGMENTS_PER_COMMAND: usize = 8;

/// From the connection's arrival to the end of its Connect command.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a Connect waits for a QID that is in use: the host may know of its queue's end before reactor 0 does.
pub const QID_WAIT: Duration = Duration::from_secs(1);

/// A host that does not take the whole of a send within this time has gone: [`SEND_BYTES_MAX`] and one command's
/// data at most.
pub const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// A host that does not deliver all that an R2T asked for within this time has gone, and so has one that does not
/// deliver the rest of a capsule whose data it has begun.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(30);

/// After a termination request the host has this long to close.
pub const LINGER: Duration = Duration::from_secs(2);

/// How long to wait before asking for memory again when there was none.
pub const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// Granularity with which the deadlines of connections are looked at.
pub const DEADLINE_TICK: Duration = Duration::from_millis(250);

/// Granularity of the keep alive timer (KAS) in units of 100 ms.
pub const KAS: u16 = 10;

/// What a keep alive timeout may be late by before it counts: jitter of the host and of the network.
pub const KEEP_ALIVE_SLACK: Duration = Duration::from_secs(2);

/// A discovery controller without a keep alive timer ends after this long without a command.
pub const DISCOVERY_IDLE: Duration = Duration::from_secs(120);

/// ANA groups (ANAGRPMAX and NANAGRPID), fixed so that hosts reserve room for the log once.
pub const ANA_GROUPS_MAX: u32 = 128;

/// Longest ANA transition in seconds (ANATT).
pub const ANATT_S: u8 = 10;

/// Time that CSTS may take to follow CC (CAP.TO and CRTO) in units of 500 ms.
pub const READY_TIMEOUT_500MS: u8 = 30;

/// Time that a shutdown may take (RTD3E) in microseconds.
pub const SHUTDOWN_US: u32 = 10_000_000;

/// The size of write that suits the store best (NOWS), in bytes.
pub const OPTIMAL_WRITE_BYTES: u32 = 128 << 10;

/// The unit in which the store keeps blocks (NPWG, NPDG), in bytes.
pub const STORE_BLOCK_BYTES: u32 = 4096;

/// CNTLIDs between two notes of the high-water mark.
pub const CNTLID_STEP: u16 = 64;

const _: () = {
    // DESIGN: MAXH2CDATA is a multiple of 4, 128 KiB to 1 MiB.
    assert!(H2C_DATA_BYTES_MAX.is_multiple_of(4));
    assert!(H2C_DATA_BYTES_MAX >= 128 << 10);
    assert!(H2C_DATA_BYTES_MAX <= 1 << 20);
    assert!(QID_WAIT.as_millis() < CONNECT_DEADLINE.as_millis());
    // One H2CData PDU can carry a whole command.
    assert!(H2C_DATA_BYTES_MAX >= TRANSFER_BYTES_MAX);
    // A command touches at most two stripes.
    assert!(TRANSFER_BYTES_MAX <= STRIPE_BYTES);
    // The ANA log of all namespaces (header, group descriptors, NSIDs) fits in one command.
    assert!(16 + 32 * ANA_GROUPS_MAX + 4 * NAMESPACES_MAX <= TRANSFER_BYTES_MAX);
    // In-capsule data is at least 8 KiB, and IOCCSZ counts it in units of 16 bytes.
    assert!(IO_CAPSULE_BYTES_MAX >= 8 << 10);
    assert!((IO_CAPSULE_BYTES_MAX + 64).is_multiple_of(16));
    // One command always fits the connection's quota, or it would never run.
    assert!(TRANSFER_BYTES_MAX <= CONNECTION_R2T_BYTES_MAX);
    assert!(CONNECTION_R2T_BYTES_MAX <= CONNECTION_BYTES_MAX);
    assert!(SEND_SEGMENTS_PER_COMMAND < SEND_SEGMENTS_MAX);
    // In-capsule data that waits for the quota stays within it too.
    assert!(QUEUE_ENTRIES_MAX * IO_CAPSULE_BYTES_MAX <= CONNECTION_BYTES_MAX);
    // A range list of Dataset Management fits in a capsule.
    assert!(DSM_RANGES_MAX as u32 * 16 <= IO_CAPSULE_BYTES_MAX);
};
