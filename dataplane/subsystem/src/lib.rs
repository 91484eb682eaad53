//! The NVMe/TCP target as sans-io state machines: associations, controllers, queues, namespaces, discovery.
//!
//! It knows no socket, no clock, no thread and no store. Two machines speak to the world:
//!
//! - [`Desk`], one per process (reactor 0): every connection until its Connect, all admin queues and discovery
//!   controllers, the associations, the master table of namespaces;
//! - [`Ports`], one per reactor: its I/O queues. It turns commands that passed every check into [`Request`]s and their
//!   [`Completion`]s into responses.
//!
//! # Calling convention
//!
//! The same for both, once per round of events, in this order:
//!
//! 1. **In**: any number of `handle_*` (what the sockets did), `on_*`, `complete`, `set_*`, `remove_*`, `drop_queues`
//!    ... in the order in which they happened. They take bytes and note what is to be done.
//! 2. **Run**: one `run(now, memory)`. It starts what waited for memory or quota, looks at deadlines, and gathers
//!    everything that is to be sent on a connection into one list.
//! 3. **Out**: the ports' `take_requests`, then `poll_output` until `None`. Outputs must be carried out in the order in which they come.
//! 4. **Time**: `poll_timeout` says when to `run` again at the latest, even if nothing happens.
//!
//! Going from 3 back to 1 within a round (a store that answers at once) is fine: `run` and `poll_output` again.
//! `owns` says to which machine an event of a connection belongs. Every operation on a socket that was asked for must
//! be answered, also after `Close`: with an error then, and `handle_closed` last.
//!
//! A reactor's machines share nothing with another's: what crosses (a [`QueueHandover`], the arguments of
//! [`Ports::drop_queues`] and its like) is carried by the caller, and must keep its order from reactor 0 to each reactor.
//!
//! # Changes of namespaces
//!
//! Call [`Ports::set_namespace`] or [`Ports::remove_namespace`] on every reactor with a fence token, wait for
//! [`PortsOutput::Fenced`] of all, then call [`Desk::set_namespace`] or [`Desk::remove_namespace`], which tells the
//! hosts. From the call on a reactor on, new commands there get the status that the new table gives.
#![forbid(unsafe_code)]

pub mod limits;

mod connection;
mod desk;
mod namespace;
mod output;
mod pointer;
mod ports;
mod request;
mod slab;
mod sockets;
mod stats;

pub use desk::{ConnectedHost, Desk, DeskConfig, HealthTotals, ListenerKind};
pub use namespace::{HostAcl, IpAcl, NamespaceShape, SectorSize};
pub use output::{AssociationId, DeskOutput, PortsOutput, SocketOutput};
pub use ports::{Direction, Draw, Ports, PortsConfig, QueueHandover, Rate, Rates};
pub use request::{ByteRange, Completion, Operation, PairData, Piece, Pieces, Request, RequestId};
pub use stats::{CommandCounts, StatusClass, TransportStats};
