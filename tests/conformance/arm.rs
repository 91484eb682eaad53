//! What a case needs of an implementation of the seam, and the loops that all cases share.

use std::net::SocketAddr;
use std::time::Duration;

use io::{
    Clock, ConnectionId, Disk, DriveId, DriveShape, Event, EventOf, Extent, Io, Lane, ListenerId, Memory,
    Net, Purpose, ReactorId, Token,
};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One wait within a loop that also looks after peers.
const GLANCE: Duration = Duration::from_millis(1);

/// A message between reactors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note(pub u64);

/// What a peer found when it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The end of the stream.
    End,
    /// A broken connection.
    Broken,
}

/// The far end of a connection; nothing here waits.
pub(crate) trait Peer {
    /// Takes some of the bytes.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Reads what there is.
    fn read(&mut self, place: &mut [u8]) -> Found;
    /// Ends its stream.
    fn finish(&mut self);
    /// Resets the connection.
    fn reset(self);
    /// Its own address.
    fn address(&self) -> SocketAddr;
}

/// A process with some reactors, all driven from the test's thread.
pub(crate) trait Arm: Sized {
    /// The implementation.
    type Io: Io + Net<Socket = Self::Socket> + io::Mail<Message = Note>;
    /// Its socket.
    type Socket: std::fmt::Debug + Send + 'static;
    /// Its peers.
    type Peer: Peer;

    /// Starts `reactors` reactors over fresh drives of these sizes. Every arm gives a reactor at most 64 MiB of memory.
    fn start(reactors: u16, drive_sizes: &[u64]) -> Self;
    /// A reactor.
    fn io(&mut self, reactor: u16) -> &mut Self::Io;
    /// Connects, `None` if refused.
    fn connect(&mut self, address: SocketAddr) -> Option<Self::Peer>;
    /// What the drives should say of themselves.
    fn shape(&self, drive: u16) -> DriveShape;
}

/// Events of an arm.
pub(crate) type Events<A> = Vec<EventOf<<A as Arm>::Io>>;

/// The buffers of an arm.
pub(crate) type Buf<A> = <<A as Arm>::Io as Memory>::Buffer;

/// Polls one reactor once, for a moment at most.
pub(crate) fn glance<A: Arm>(arm: &mut A, reactor: u16, events: &mut Events<A>) {
    let io = arm.io(reactor);
    let deadline = io.now() + GLANCE;
    io.poll(Some(deadline), events).unwrap();
}

/// Polls a reactor until `done` picks its answer from the events; all events up to then are returned with it.
pub(crate) fn until<A: Arm>(
    arm: &mut A,
    reactor: u16,
    mut done: impl FnMut(&Events<A>) -> bool,
) -> Events<A> {
    let mut events = Vec::new();
    let end = arm.io(reactor).now() + PATIENCE;
    while !done(&events) {
        assert!(arm.io(reactor).now() < end, "nothing came of it; events so far: {events:?}");
        glance(arm, reactor, &mut events);
    }
    events
}

/// Polls a reactor until there are as many events.
pub(crate) fn some<A: Arm>(arm: &mut A, reactor: u16, count: usize) -> Events<A> {
    let events = until(arm, reactor, |events| events.len() >= count);
    assert_eq!(events.len(), count, "{events:?}");
    events
}

/// Polls a reactor until there is one event.
pub(crate) fn one<A: Arm>(arm: &mut A, reactor: u16) -> EventOf<A::Io> {
    some(arm, reactor, 1).remove(0)
}

/// Polls a reactor for a while and expects nothing.
pub(crate) fn silence<A: Arm>(arm: &mut A, reactor: u16) {
    let mut events = Vec::new();
    for _ in 0..20 {
        glance(arm, reactor, &mut events);
    }
    assert!(events.is_empty(), "{events:?}");
}

/// A buffer of host data.
pub(crate) fn buffer<A: Arm>(arm: &mut A, reactor: u16, len: usize) -> Buf<A> {
    arm.io(reactor).allocate(len, Purpose::Data).expect("the arena has room")
}

/// A buffer filled with a pattern that `seed` decides.
pub(crate) fn filled<A: Arm>(arm: &mut A, reactor: u16, len: usize, seed: u64) -> Buf<A> {
    let mut buffer = buffer(arm, reactor, len);
    buffer.copy_from_slice(&pattern(len, seed));
    buffer
}

/// Bytes that `seed` decides.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|index| sim::scramble(seed.wrapping_mul(1 << 32) + index / 8).to_le_bytes()[index as usize % 8])
        .collect()
}

/// Writes a pattern to a drive and waits for it.
pub(crate) fn store<A: Arm>(arm: &mut A, drive: u16, offset: u64, len: usize, seed: u64) {
    let buffer = filled(arm, 0, len, seed);
    arm.io(0).write(Token(seed), DriveId(drive), offset, buffer, u32::try_from(len).unwrap());
    let Event::Written { token, result, .. } = one(arm, 0) else { panic!("not a write") };
    assert_eq!((token, result), (Token(seed), Ok(())));
}

/// Reads from a drive and waits for it.
pub(crate) fn fetch<A: Arm>(arm: &mut A, drive: u16, offset: u64, len: usize) -> Vec<u8> {
    let buffer = buffer(arm, 0, len);
    let extent = Extent { drive: DriveId(drive), offset, start: 0, len: u32::try_from(len).unwrap() };
    arm.io(0).read(Token(u64::MAX), buffer, &[extent]);
    let Event::Read { token, buffer, result } = one(arm, 0) else { panic!("not a read") };
    assert_eq!((token, result), (Token(u64::MAX), Ok(())));
    buffer.to_vec()
}

/// Listens on reactor 0 on a free loopback port.
pub(crate) fn listen<A: Arm>(arm: &mut A) -> SocketAddr {
    arm.io(0).listen(ListenerId(7), "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// A connection that reactor 0 has adopted, and its peer.
pub(crate) fn pair<A: Arm>(arm: &mut A) -> (ConnectionId, A::Peer) {
    let address = listen(arm);
    pair_at(arm, address)
}

/// The same at a listener that is there already.
pub(crate) fn pair_at<A: Arm>(arm: &mut A, address: SocketAddr) -> (ConnectionId, A::Peer) {
    let peer = arm.connect(address).expect("somebody listens");
    let Event::Accepted { socket, .. } = one(arm, 0) else { panic!("not a connection") };
    (arm.io(0).adopt(socket).expect("the table has room"), peer)
}

/// Lets a peer send everything, while reactor 0 goes on.
pub(crate) fn push<A: Arm>(arm: &mut A, peer: &mut A::Peer, bytes: &[u8], events: &mut Events<A>) {
    let end = arm.io(0).now() + PATIENCE;
    let mut sent = 0;
    while sent < bytes.len() {
        assert!(arm.io(0).now() < end, "the transport takes nothing");
        let taken = peer.write(&bytes[sent..]);
        sent += taken;
        if taken == 0 {
            glance(arm, 0, events);
        }
    }
}

/// Lets a peer read so many bytes, while reactor 0 goes on.
pub(crate) fn pull<A: Arm>(arm: &mut A, peer: &mut A::Peer, len: usize, events: &mut Events<A>) -> Vec<u8> {
    let end = arm.io(0).now() + PATIENCE;
    let mut bytes = vec![0; len];
    let mut got = 0;
    while got < len {
        assert!(arm.io(0).now() < end, "only {got} of {len} bytes came");
        match peer.read(&mut bytes[got..]) {
            Found::Bytes(count) => got += count,
            Found::Nothing => glance(arm, 0, events),
            other => panic!("{other:?} after {got} of {len} bytes"),
        }
    }
    bytes
}

/// Lets a peer wait for the end of its stream, while reactor 0 goes on.
pub(crate) fn ended<A: Arm>(arm: &mut A, peer: &mut A::Peer, events: &mut Events<A>) -> Found {
    let end = arm.io(0).now() + PATIENCE;
    loop {
        assert!(arm.io(0).now() < end, "the stream does not end");
        match peer.read(&mut [0; 4096]) {
            Found::Bytes(_) => {}
            Found::Nothing => glance(arm, 0, events),
            over => return over,
        }
    }
}

/// Receives so many bytes on a connection of `reactor`, in as many receives as it takes.
pub(crate) fn receive<A: Arm>(arm: &mut A, reactor: u16, connection: ConnectionId, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        arm.io(reactor).receive(connection);
        let Event::Received { connection: on, result } = one(arm, reactor) else { panic!("not a receive") };
        assert_eq!(on, connection);
        let part = result.unwrap().expect("the stream goes on");
        assert!(!part.is_empty());
        bytes.extend_from_slice(&part);
    }
    assert_eq!(bytes.len(), len);
    bytes
}

/// Posts a message that is not refused.
pub(crate) fn post<A: Arm>(arm: &mut A, from: u16, to: u16, lane: Lane, number: u64) {
    use io::Mail as _;
    arm.io(from).post(ReactorId(to), lane, Note(number)).expect("the box has room");
}
