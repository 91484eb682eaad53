//! The seam of one reactor without a system under it: no drives, no clock, connections that only note what is asked of them.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use engine::Message;
use io::{
    Buffer, Clock, ConnectionId, Disk, DriveId, DriveShape, EventOf, Extent, Io, IoFault, Lane, Lasting,
    ListenerId, Mail, Memory, Net, NetError, Purpose, ReactorId, SendList, Shared, Time, Token,
};

/// Memory that is received again and again without a copy of its bytes.
#[derive(Clone, Debug)]
pub struct CountedBuffer(Arc<Vec<u8>>);

/// A connection on its way between two reactors, or from one to the same.
#[derive(Debug)]
pub struct Line;

/// What was asked of the connections.
#[derive(Debug, Default)]
pub struct MemoryNet {
    connections: u64,
    sent: Option<(ConnectionId, SendList<CountedBuffer>)>,
}

impl MemoryNet {
    /// The connection that was made last.
    #[must_use]
    pub const fn newest(&self) -> ConnectionId {
        ConnectionId(self.connections)
    }

    /// What is being sent, and where.
    pub fn take_sent(&mut self) -> Option<(ConnectionId, SendList<CountedBuffer>)> {
        self.sent.take()
    }
}

impl From<Vec<u8>> for CountedBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for CountedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for CountedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        Arc::get_mut(&mut self.0).expect("what is written to was just allocated")
    }
}

impl Buffer for CountedBuffer {
    type Shared = Self;

    fn share(self) -> Self {
        self
    }
}

impl Shared for CountedBuffer {}

impl Memory for MemoryNet {
    type Buffer = CountedBuffer;

    fn allocate(&mut self, len: usize, _purpose: Purpose) -> Option<CountedBuffer> {
        Some(vec![0; len].into())
    }
}

impl Lasting for MemoryNet {
    fn allocate_lasting(&mut self, len: usize) -> Option<CountedBuffer> {
        Some(vec![0; len].into())
    }

    fn reclaim(&mut self, mut shared: CountedBuffer) -> Result<CountedBuffer, CountedBuffer> {
        if Arc::get_mut(&mut shared.0).is_some() { Ok(shared) } else { Err(shared) }
    }

    fn release_lasting(&mut self, shared: CountedBuffer) {
        drop(shared);
    }
}

impl Disk for MemoryNet {
    fn drive(&self, _drive: DriveId) -> DriveShape {
        unreachable!("there are no drives")
    }

    fn drives(&self) -> u16 {
        0
    }

    fn read(&mut self, _token: Token, _buffer: CountedBuffer, _extents: &[Extent]) {
        unreachable!("there are no drives")
    }

    fn write(&mut self, _token: Token, _drive: DriveId, _offset: u64, _buffer: CountedBuffer, _len: u32) {
        unreachable!("there are no drives")
    }

    fn flush(&mut self, _token: Token, _drive: DriveId) {
        unreachable!("there are no drives")
    }
}

impl Net for MemoryNet {
    type Socket = Line;

    fn listen(&mut self, _listener: ListenerId, address: SocketAddr) -> Result<SocketAddr, NetError> {
        Ok(address)
    }

    fn unlisten(&mut self, _listener: ListenerId) {}

    fn adopt(&mut self, _socket: Line) -> Option<ConnectionId> {
        self.connections += 1;
        Some(self.newest())
    }

    fn release(&mut self, _connection: ConnectionId) -> Line {
        Line
    }

    fn receive(&mut self, _connection: ConnectionId) {}

    fn receive_into(
        &mut self,
        _connection: ConnectionId,
        _buffer: CountedBuffer,
        _start: usize,
        _end: usize,
    ) {
        unreachable!("no more than a block of a command's data is missing")
    }

    fn send(&mut self, connection: ConnectionId, list: SendList<CountedBuffer>) {
        assert!(self.sent.replace((connection, list)).is_none(), "one send at a time");
    }

    fn close(&mut self, _connection: ConnectionId) {
        unreachable!("the host does nothing wrong")
    }
}

impl Mail for MemoryNet {
    type Message = Message<CountedBuffer, Line>;

    fn reactor(&self) -> ReactorId {
        ReactorId(0)
    }

    fn reactors(&self) -> u16 {
        1
    }

    fn post(&mut self, _to: ReactorId, _lane: Lane, _message: Self::Message) -> Result<(), Self::Message> {
        unreachable!("there is no other reactor")
    }
}

impl Clock for MemoryNet {
    fn now(&self) -> Time {
        Time(1)
    }

    fn unix_nanos(&self) -> u64 {
        1
    }
}

impl Io for MemoryNet {
    fn poll(&mut self, _deadline: Option<Time>, _events: &mut Vec<EventOf<Self>>) -> Result<(), IoFault> {
        unreachable!("whoever drives the engine has the events")
    }
}
