//! How a data plane is started.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Everything that a start needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pool's drives: files (made when missing, if a size is given) and block devices. May be empty where only
    /// bench namespaces are served.
    pub pool: Vec<PoolDrive>,
    /// Shards of a pool that is made now; no more reactors than these can share its work. `None` chooses two for each
    /// CPU but one, rounded up to a power of two, 2 to 16: writes of one shard go to the drive together, so that fewer
    /// shards mean fewer, longer writes.
    pub shards: Option<u16>,
    /// Which cores run reactors.
    pub reactors: Reactors,
    /// Memory in bytes for the map of the pool, over all shards; `None` takes a quarter of what the machine, or the
    /// control group, lets this process have. What does not fit is read from the drives when it is needed.
    pub map_memory_bytes: Option<u64>,
    /// Bytes that a shard logs between two checkpoints; `None` takes the store's default.
    pub checkpoint_bytes: Option<u64>,
    /// Addresses for I/O queues; port 0 chooses one.
    pub listen: Vec<SocketAddr>,
    /// What the discovery log tells hosts instead of the listening addresses.
    pub advertise: Vec<IpAddr>,
    /// Addresses of the discovery service.
    pub discovery: Vec<SocketAddr>,
    /// Bench namespaces, in order.
    pub bench: Vec<Bench>,
    /// io_uring features that shall not be used, by the names that the start prints; for tests and old kernels.
    pub ring_features_off: Vec<String>,
}

/// One drive of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDrive {
    /// File or block device.
    pub path: PathBuf,
    /// Size in bytes of a file to make where there is none.
    pub size_bytes: Option<u64>,
}

/// Which cores run reactors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reactors {
    /// As many as the topology suggests.
    Auto,
    /// So many, the best cores first.
    Count(u16),
    /// Exactly these logical CPUs.
    Cpus(Vec<u32>),
}

/// A namespace without a store under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bench {
    /// Reads return zeros, writes vanish.
    Null {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// Held in memory, gone at the end.
    Ram {
        /// Size in bytes.
        size_bytes: u64,
    },
}
