//! The ring's arms: reactors on this kernel's io_uring, drives in files, peers on real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use io::{DriveId, DriveShape};
use reactor::{
    Cpu, DriveSet, DriveSpec, Features, Fill, OwnedSocket, Placement, Reactor, ReactorConfig, build,
};
use socket2::SockRef;
use tests::scratch::Scratch;

use crate::arm::{Arm, Found, Note, Peer};

/// `FULL`: with every feature that the kernel has; else with none of them.
pub(crate) struct RingArm<const FULL: bool> {
    // Reactors end before the files that they write go.
    reactors: Vec<Reactor<Note>>,
    drives: DriveSet,
    _folder: Scratch,
}

pub(crate) struct TcpPeer(TcpStream);

impl<const FULL: bool> Arm for RingArm<FULL> {
    type Io = Reactor<Note>;
    type Socket = OwnedSocket;
    type Peer = TcpPeer;

    fn start(reactors: u16, drive_sizes: &[u64]) -> Self {
        let folder = Scratch::new("conformance");
        let spec = |(number, size): (usize, &u64)| {
            DriveSpec::sized(folder.join(&format!("drive{number}")), *size, Fill::Written)
        };
        let specs: Vec<DriveSpec> = drive_sizes.iter().enumerate().map(spec).collect();
        let drives = DriveSet::open(&specs).unwrap();
        let mut config = ReactorConfig::new(drives.clone(), usize::from(reactors));
        config.features = if FULL { Features::all() } else { Features::none() };
        config.arena_bytes = 32 << 20;
        config.connections_max = 512;
        config.pin = false;
        let cpu = Cpu { number: 0, core: 0, node: 0 };
        let placement =
            Placement { reactors: vec![cpu; usize::from(reactors)], others: Vec::new(), nodes: 1 };
        let seeds = build::<Note>(&config, &placement).unwrap().seeds;
        let reactors = seeds.into_iter().map(|seed| seed.start().unwrap()).collect();
        Self { reactors, drives, _folder: folder }
    }

    fn io(&mut self, reactor: u16) -> &mut Reactor<Note> {
        &mut self.reactors[usize::from(reactor)]
    }

    fn connect(&mut self, address: SocketAddr) -> Option<TcpPeer> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(TcpPeer(stream))
    }

    fn shape(&self, drive: u16) -> DriveShape {
        self.drives.drive(DriveId(drive)).unwrap().shape()
    }
}

impl Peer for TcpPeer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        match self.0.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the peer cannot send: {error}"),
        }
    }

    fn read(&mut self, place: &mut [u8]) -> Found {
        match self.0.read(place) {
            Ok(0) => Found::End,
            Ok(count) => Found::Bytes(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Found::Nothing,
            Err(_) => Found::Broken,
        }
    }

    fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        // A close without lingering is a reset.
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}
