//! A pool whose drive was changed in any places: it opens and its shard recovers, or it is refused with an error;
//! nothing panics, nothing goes on for ever, and what is read is what was written or is told to be unreadable. Zeros are
//! let pass where several blocks were changed, as these may be all that knew of a write; one alone must not hide any.
#![no_main]

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use io::{Buffer, Disk, DriveId, Event, Io, Memory, Purpose, ReactorId, Slice, Token};
use libfuzzer_sys::fuzz_target;
use sim::{SimBuffer, SimIo, World, WorldOptions};
use store::pool::{FormatOptions, PoolOpening};
use store::{
    GrantPurpose, Identity, Layout, Op, Outcome, Output, Payload, Request, Segments, Shard, ShardId, ShardOptions, VolumeId,
};

const DRIVE_BYTES: usize = 8 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const BLOCKS: u64 = 64;
const OPENING: u16 = 1;
const SHARD: u16 = 16;
/// Rounds after which a machine that is not done hangs.
const ROUNDS_MAX: usize = 20_000;

thread_local! {
    static IMAGE: OnceCell<Vec<u8>> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let mut image = IMAGE.with(|image| image.get_or_init(whole_image).clone());
    let mut changed = BTreeSet::new();
    for change in input.chunks_exact(4) {
        let [at @ .., value] = change else { return };
        let place = at.iter().fold(0, |place, byte| place << 8 | usize::from(*byte)) % DRIVE_BYTES;
        image[place] ^= value;
        changed.insert(place / 4096);
    }
    let may_be_lost = changed.len() > 1;
    let mut pool = Pool::new();
    pool.load(&image);
    let Some(layout) = pool.open() else { return };
    let Some(mut shard) = pool.recover(layout) else { return };
    for block in 0..BLOCKS {
        pool.check(&mut shard, block, may_be_lost);
    }
});

/// The drive of a pool with one shard, as a killed server left it.
fn whole_image() -> Vec<u8> {
    let mut pool = Pool::new();
    let layout = pool.open().expect("a blank drive becomes a pool");
    let mut shard = pool.recover(layout).expect("a new shard recovers");
    for round in 0..6 {
        for block in 0..BLOCKS {
            let mut buffer = pool.io.allocate(4096, Purpose::Data).expect("there is memory");
            buffer.fill(content(block));
            let data = Payload::new(Slice::whole(buffer.share()));
            pool.ask(&mut shard, block, Op::Write { data, fua: round % 2 == 0 });
        }
    }
    pool.world.contents(DriveId(0), 0, DRIVE_BYTES)
}

/// What every write of a block holds.
fn content(block: u64) -> u8 {
    u8::try_from(block % 251).expect("less than a byte") + 1
}

struct Pool {
    world: World<()>,
    io: SimIo<()>,
    segments: Option<Segments>,
}

impl Pool {
    fn new() -> Self {
        let world = World::new(&WorldOptions::small(1, DRIVE_BYTES as u64));
        let io = world.io(ReactorId(0));
        Self { world, io, segments: None }
    }

    /// Puts the image on the drive.
    fn load(&mut self, image: &[u8]) {
        for (number, chunk) in image.chunks(CHUNK_BYTES).enumerate() {
            let mut buffer = self.io.allocate(CHUNK_BYTES, Purpose::Data).expect("there is memory");
            buffer.copy_from_slice(chunk);
            let len = u32::try_from(CHUNK_BYTES).expect("a MiB");
            self.io.write(Token(0), DriveId(0), (number * CHUNK_BYTES) as u64, buffer, len);
            let mut events = Vec::new();
            while events.is_empty() {
                self.io.poll(None, &mut events).expect("the simulator goes on");
            }
        }
    }

    fn open(&mut self) -> Option<Arc<Layout>> {
        let identity = Identity { pool: [1; 16], cluster: [2; 16], node: [3; 16] };
        let mut format = FormatOptions::new(identity, 1, 0);
        format.segment_bytes = Some(64 << 10);
        let mut opening = PoolOpening::new(&self.io, OPENING, Some(format));
        for _ in 0..ROUNDS_MAX {
            opening.run(&mut self.io);
            if let Some(outcome) = opening.poll_outcome() {
                return outcome.ok().map(|opened| Arc::new(opened.layout));
            }
            for event in self.wait() {
                match event {
                    Event::Read { token, buffer, result } => opening.handle_read(token, buffer, result),
                    Event::Written { token, buffer, result } => opening.handle_written(token, buffer, result),
                    Event::Flushed { token, result } => opening.handle_flushed(token, result),
                    _ => unreachable!("there are only drives"),
                }
            }
        }
        panic!("the pool neither opens nor is refused");
    }

    fn recover(&mut self, layout: Arc<Layout>) -> Option<Shard<SimBuffer>> {
        self.segments = Some(Segments::new(&layout));
        let mut shard = Shard::recover(layout, ShardId(0), SHARD, ShardOptions::default());
        for _ in 0..ROUNDS_MAX {
            for output in self.round(&mut shard) {
                match output {
                    Output::Ready { segments, .. } => {
                        let pool = self.segments.as_mut().expect("set above");
                        return pool.own(ShardId(0), &segments).is_ok().then_some(shard);
                    }
                    Output::Failed(_) => return None,
                    _ => {}
                }
            }
        }
        panic!("the shard neither recovers nor is refused");
    }

    /// Asks for one thing and waits for the answer.
    fn ask(&mut self, shard: &mut Shard<SimBuffer>, block: u64, op: Op<SimBuffer>) -> (Outcome, Option<SimBuffer>) {
        let request = Request { tag: block, volume: VolumeId(1), offset: block * 4096, len: 4096, compress: block.is_multiple_of(2), op };
        assert!(shard.submit(request).is_ok(), "one request is not too many");
        for _ in 0..ROUNDS_MAX {
            for output in self.round(shard) {
                if let Output::Done { outcome, buffer, .. } = output {
                    return (outcome, buffer);
                }
            }
        }
        panic!("a request is not answered");
    }

    /// Reads a block: what was written, an error, or zeros if it may be lost.
    fn check(&mut self, shard: &mut Shard<SimBuffer>, block: u64, may_be_lost: bool) {
        let buffer = self.io.allocate(4096, Purpose::Data).expect("there is memory");
        let (outcome, buffer) = self.ask(shard, block, Op::Read { buffer });
        if outcome == Outcome::Ok {
            let buffer = buffer.expect("a read gives its buffer back");
            let first = buffer[0];
            let is_right = first == content(block) || (first == 0 && may_be_lost);
            assert!(is_right, "block {block} reads as {first}");
            assert!(buffer.iter().all(|byte| *byte == first), "block {block} is torn");
        }
    }

    /// One round of the shard: what it says, and what it waits for.
    fn round(&mut self, shard: &mut Shard<SimBuffer>) -> Vec<Output<SimBuffer>> {
        let now = io::Clock::now(&self.io);
        shard.run(&mut self.io, now);
        let mut said = Vec::new();
        while let Some(output) = shard.poll_output() {
            match (output, &mut self.segments) {
                (Output::WantSegment { cleaning }, Some(segments)) if segments.is_ready() => {
                    let purpose = if cleaning { GrantPurpose::Cleaning } else { GrantPurpose::Host };
                    shard.handle_grant(segments.grant(ShardId(0), purpose));
                }
                (Output::Release(released), Some(segments)) => {
                    segments.release(ShardId(0), &released).expect("it gives back what it was given");
                }
                (output, _) => said.push(output),
            }
        }
        if said.is_empty() {
            let deadline = shard.poll_timeout().unwrap_or(now + std::time::Duration::from_millis(1));
            let mut events = Vec::new();
            self.io.poll(Some(deadline), &mut events).expect("the simulator goes on");
            for event in events {
                match event {
                    Event::Read { token, buffer, result } => shard.handle_read(token, buffer, result),
                    Event::Written { token, buffer, result } => shard.handle_written(token, buffer, result),
                    Event::Flushed { token, result } => shard.handle_flushed(token, result),
                    _ => unreachable!("there are only drives"),
                }
            }
        }
        said
    }

    fn wait(&mut self) -> Vec<Event<SimBuffer, (), sim::SimSocket>> {
        let mut events = Vec::new();
        let deadline = io::Clock::now(&self.io) + std::time::Duration::from_millis(1);
        self.io.poll(Some(deadline), &mut events).expect("the simulator goes on");
        events
    }
}
