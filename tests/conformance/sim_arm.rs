//! The simulator's arm: a world in which nothing fails, but everything takes time.

use std::net::SocketAddr;

use io::{DriveShape, ReactorId};
use sim::{Arrived, Endpoint, Faults, MemoryLimits, SimIo, SimSocket, World, WorldOptions};

use crate::arm::{Arm, Found, Note, Peer};

pub(crate) struct SimArm {
    world: World<Note>,
    reactors: Vec<SimIo<Note>>,
    shapes: Vec<DriveShape>,
}

pub(crate) struct SimPeer(Endpoint<Note>);

impl Arm for SimArm {
    type Io = SimIo<Note>;
    type Socket = SimSocket;
    type Peer = SimPeer;

    fn start(reactors: u16, drive_sizes: &[u64]) -> Self {
        let shape = |size: &u64| DriveShape { size_bytes: *size, block_bytes: 512, volatile_cache: true };
        let shapes: Vec<DriveShape> = drive_sizes.iter().map(shape).collect();
        let options = WorldOptions {
            seed: 42,
            reactors,
            drives: shapes.clone(),
            faults: Faults::none(),
            memory: MemoryLimits::default(),
        };
        let world = World::new(&options);
        let reactors = (0..reactors).map(|number| world.io(ReactorId(number))).collect();
        Self { world, reactors, shapes }
    }

    fn io(&mut self, reactor: u16) -> &mut SimIo<Note> {
        &mut self.reactors[usize::from(reactor)]
    }

    fn connect(&mut self, address: SocketAddr) -> Option<SimPeer> {
        self.world.connect(address).map(SimPeer)
    }

    fn shape(&self, drive: u16) -> DriveShape {
        self.shapes[usize::from(drive)]
    }
}

impl Peer for SimPeer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes)
    }

    fn read(&mut self, place: &mut [u8]) -> Found {
        match self.0.read(place) {
            Arrived::Bytes(count) => Found::Bytes(count),
            Arrived::Nothing => Found::Nothing,
            Arrived::End => Found::End,
            Arrived::Broken => Found::Broken,
        }
    }

    fn finish(&mut self) {
        self.0.finish();
    }

    fn reset(mut self) {
        self.0.reset();
    }

    fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
