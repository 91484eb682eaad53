//! Sockets: listeners, byte streams, gathered sends.

use std::fmt;
use std::net::SocketAddr;

use crate::{Buffer, Memory, Slice};

/// A connection of this reactor. The number is not reused while events for it may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A listening address, named by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// One part of a gathered send.
#[derive(Debug)]
pub enum Segment<B: Buffer> {
    /// Bytes of the list's own `headers`.
    Header {
        /// First byte in `headers`.
        start: u32,
        /// Length in bytes, not zero.
        len: u32,
    },
    /// A part of an exclusive buffer, which the list now owns.
    Owned {
        /// The memory.
        buffer: B,
        /// First byte.
        start: u32,
        /// Length in bytes, not zero.
        len: u32,
    },
    /// A part of shared memory.
    Shared(Slice<B::Shared>),
    /// Zero bytes that nobody has to store.
    Zeroes {
        /// Length in bytes, not zero.
        len: u32,
    },
}

/// What one send carries, in order. It is recycled: it comes back with [`crate::Event::Sent`] and is cleared by its
/// owner, so that a steady stream allocates nothing.
#[derive(Debug)]
pub struct SendList<B: Buffer> {
    /// Small pieces (PDU headers, digests, response capsules), referred to by [`Segment::Header`].
    pub headers: Vec<u8>,
    /// The pieces in the order in which they leave.
    pub segments: Vec<Segment<B>>,
}

/// Listening sockets and connections.
///
/// A connection has at most one receive and at most one send under way; asking for a second is a bug of the caller
/// and panics.
pub trait Net: Memory {
    /// A connection that belongs to no reactor for the moment; dropping it closes it.
    type Socket: fmt::Debug + Send + 'static;

    /// Listens on `address` (port 0 chooses one) and returns the address in force. Each connection that arrives is
    /// an [`crate::Event::Accepted`]. The backlog is at least 1024; TCP_NODELAY and SO_REUSEADDR are set.
    ///
    /// # Errors
    /// As the system gives them: the address is taken, is not ours, or the port is not permitted.
    fn listen(&mut self, listener: ListenerId, address: SocketAddr) -> Result<SocketAddr, NetError>;

    /// Stops listening; connections that were accepted stay.
    fn unlisten(&mut self, listener: ListenerId);

    /// Makes a socket a connection of this reactor. `None` (the socket is closed) when the reactor's table is full.
    fn adopt(&mut self, socket: Self::Socket) -> Option<ConnectionId>;

    /// Takes a connection off this reactor so that another can adopt it; it must have no receive and no send under
    /// way. Its number is dead afterwards.
    fn release(&mut self, connection: ConnectionId) -> Self::Socket;

    /// Receives one byte or more into memory of the implementation's choice ([`crate::Event::Received`]); nothing is
    /// held while nothing arrives.
    fn receive(&mut self, connection: ConnectionId);

    /// Receives one byte or more into `buffer[start..end]` ([`crate::Event::ReceivedInto`]).
    fn receive_into(&mut self, connection: ConnectionId, buffer: Self::Buffer, start: usize, end: usize);

    /// Sends all of `list`, in order, however many system calls that takes; one [`crate::Event::Sent`] comes when
    /// the last byte was taken by the transport or the connection broke. The list is not empty.
    fn send(&mut self, connection: ConnectionId, list: SendList<Self::Buffer>);

    /// Ends the connection: what is under way is cancelled (its events still come, as errors), the socket is closed,
    /// then [`crate::Event::Closed`] comes, the last event for this number.
    fn close(&mut self, connection: ConnectionId);
}

/// A socket operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetError {
    /// What kind of failure.
    pub kind: NetErrorKind,
    /// The system's error number, 0 where it gave none.
    pub errno: i32,
}

/// Kinds of socket failure that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetErrorKind {
    /// Another socket has the address.
    AddressInUse,
    /// The address is not one of this machine's.
    AddressNotAvailable,
    /// The operation was cancelled by `close`.
    Cancelled,
    /// The peer reset or the path broke.
    Broken,
    /// The system does not permit it.
    Denied,
    /// Anything else, by its number.
    Other,
}

impl<B: Buffer> SendList<B> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { headers: Vec::new(), segments: Vec::new() }
    }

    /// Empties the list and gives its buffers back, keeping the vectors' memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.segments.clear();
    }

    /// True where there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that the list sends.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.segments.iter().map(Segment::len_bytes).sum()
    }

    /// Appends small bytes, joined to the last piece where that is also small bytes.
    #[inline]
    pub fn push_header(&mut self, bytes: &[u8]) {
        let start =
            u32::try_from(self.headers.len()).expect("headers of one send are bounded far below 4 GiB");
        let added = u32::try_from(bytes.len()).expect("headers of one send are bounded far below 4 GiB");
        self.headers.extend_from_slice(bytes);
        if let Some(Segment::Header { start: first, len }) = self.segments.last_mut()
            && *first + *len == start
        {
            *len += added;
            return;
        }
        self.segments.push(Segment::Header { start, len: added });
    }
}

impl<B: Buffer> Default for SendList<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Buffer> Segment<B> {
    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Header { len, .. } | Self::Owned { len, .. } | Self::Zeroes { len } => *len as usize,
            Self::Shared(slice) => slice.len(),
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            NetErrorKind::AddressInUse => "the address is in use",
            NetErrorKind::AddressNotAvailable => "the address is not one of this machine's",
            NetErrorKind::Cancelled => "the operation was cancelled",
            NetErrorKind::Broken => "the connection broke",
            NetErrorKind::Denied => "the system does not permit it",
            NetErrorKind::Other => "the socket failed",
        };
        write!(f, "{what}")?;
        if self.errno != 0 {
            write!(f, " (errno {})", self.errno)?;
        }
        Ok(())
    }
}

impl std::error::Error for NetError {}
