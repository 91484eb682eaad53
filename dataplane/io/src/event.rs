//! What happened.

use std::net::SocketAddr;

use crate::{
    Buffer, ConnectionId, DiskError, ListenerId, Mail, Memory, Net, NetError, ReactorId, SendList, Token,
};

/// An event of the implementation `I`.
pub type EventOf<I> = Event<<I as Memory>::Buffer, <I as Mail>::Message, <I as Net>::Socket>;

/// The end of an operation, or something that arrived.
#[derive(Debug)]
pub enum Event<B: Buffer, M, S> {
    /// A disk read ended.
    Read {
        /// As submitted.
        token: Token,
        /// The buffer that was read into.
        buffer: B,
        /// How it ended.
        result: Result<(), DiskError>,
    },
    /// A disk write ended.
    Written {
        /// As submitted.
        token: Token,
        /// The buffer that was written.
        buffer: B,
        /// How it ended.
        result: Result<(), DiskError>,
    },
    /// A flush ended.
    Flushed {
        /// As submitted.
        token: Token,
        /// How it ended. After a failure nothing may be assumed about any write since the last flush that succeeded.
        result: Result<(), DiskError>,
    },
    /// A host connected.
    Accepted {
        /// Where.
        listener: ListenerId,
        /// The connection, not yet adopted.
        socket: S,
        /// The address that the host connected to.
        local: SocketAddr,
        /// The host's address.
        peer: SocketAddr,
    },
    /// A [`Net::receive`] ended.
    Received {
        /// The connection.
        connection: ConnectionId,
        /// What arrived, not empty; or `None` when the stream has ended in order.
        result: Result<Option<B>, NetError>,
    },
    /// A [`Net::receive_into`] ended.
    ReceivedInto {
        /// The connection.
        connection: ConnectionId,
        /// The buffer as given.
        buffer: B,
        /// Bytes that arrived at `start`; 0 when the stream has ended in order.
        result: Result<usize, NetError>,
    },
    /// A send ended.
    Sent {
        /// The connection.
        connection: ConnectionId,
        /// The list, for reuse.
        list: SendList<B>,
        /// How it ended.
        result: Result<(), NetError>,
    },
    /// A connection that was closed is gone.
    Closed {
        /// The connection; its number is dead now.
        connection: ConnectionId,
    },
    /// Mail arrived.
    Mail {
        /// From which reactor; `None` from the management thread.
        from: Option<ReactorId>,
        /// The message.
        message: M,
    },
}
