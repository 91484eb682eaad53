//! Long chains of snapshots in one shard: sparse writes, forks, clones of clones, drops in any order, cleaning, kills, and
//! a model that knows which stamp every block of every image holds.
//!
//! Requests take effect in the order in which they are submitted, so the model is told at submission; what was not
//! answered before a kill may be missing afterwards. What the shard maps at the end is what the model's images hold, each
//! version of a block counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use io::{Clock, DriveShape, Event, Io, Memory, Purpose, ReactorId};
use store::{
    Geometry, Identity, Layout, Op, Outcome, Output, Payload, Request, Shard, ShardId, ShardOptions, VolumeId,
};

use super::segments::Pool;
use super::{Account, Place, RETRIES_MAX, Standstill, Violation};
use crate::{Crash, MemoryLimits, Random, SimBuffer, SimIo, World, WorldOptions};

const BLOCK: u64 = 4096;

/// Turns of one run after which something must be wrong.
const TURNS_MAX: u64 = 20_000_000;

/// Turns after which what was dropped must have been given back.
const SPACE_TURNS_MAX: u32 = 1_000_000;

/// A run.
#[derive(Clone, Debug)]
pub struct ChainPlan {
    /// The seed.
    pub seed: u64,
    /// The drive's size in bytes.
    pub drive_bytes: u64,
    /// Settings of the shard.
    pub shard_options: ShardOptions,
    /// Blocks that are written, at a distance of so many blocks.
    pub blocks: (u64, u64),
    /// Requests under way at a time.
    pub depth: usize,
    /// Snapshots that are taken before any is dropped.
    pub snapshots: u64,
    /// Writes between two snapshots.
    pub writes: u64,
    /// Steps afterwards: writes, snapshots, clones, drops.
    pub steps: u64,
    /// One in how many steps the process is killed.
    pub kill_one_in: u32,
}

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// Snapshots and clones.
    pub forks: u64,
    /// Most images at a time.
    pub images_max: usize,
    /// Blocks that cleaning moved.
    pub moved_blocks: u64,
    /// Kills.
    pub kills: u64,
}

/// An image: by block the stamps that it may hold, the newest last.
#[derive(Clone, Debug, Default)]
struct Image {
    read_only: bool,
    blocks: BTreeMap<u64, Vec<u64>>,
}

#[derive(Debug)]
enum Open {
    Write { block: u64, stamp: u64 },
    Fork { image: u64 },
    Drop { image: u64 },
    Read,
}

impl Open {
    /// The image that it makes.
    fn image(&self) -> Option<u64> {
        if let Self::Fork { image } = self { Some(*image) } else { None }
    }
}

struct Chain {
    plan: ChainPlan,
    world: World<()>,
    io: SimIo<()>,
    layout: Arc<Layout>,
    shard: Shard<SimBuffer>,
    pool: Pool,
    random: Random,
    images: BTreeMap<u64, Image>,
    dropping: BTreeSet<u64>,
    open: BTreeMap<u64, Open>,
    read: Option<Vec<u8>>,
    ready: bool,
    stopped: bool,
    numbers: u64,
    turns: u64,
    still: Standstill,
    report: ChainReport,
}

impl ChainPlan {
    /// A thousand snapshots in a row, then drops in any order on a pool that must be cleaned.
    #[must_use]
    pub fn thousand(seed: u64) -> Self {
        Self {
            seed,
            drive_bytes: 48 << 20,
            shard_options: options(2 << 20, 64 << 10),
            blocks: (96, 7),
            depth: 8,
            snapshots: 1000,
            writes: 4,
            steps: 6000,
            kill_one_in: 1500,
        }
    }

    /// Forks while many pages are logged, and kills soon after.
    #[must_use]
    pub fn busy(seed: u64) -> Self {
        Self {
            seed,
            drive_bytes: 24 << 20,
            shard_options: options(256 << 10, 32 << 10),
            blocks: (200, 64),
            depth: 6,
            snapshots: 3,
            writes: 100,
            steps: 800,
            kill_one_in: 60,
        }
    }
}

fn options(checkpoint_bytes: u64, batch_bytes_max: u32) -> ShardOptions {
    ShardOptions {
        batch_bytes_max,
        checkpoint_bytes,
        flush_bytes: 256 << 10,
        retry: Duration::from_micros(500),
        ..ShardOptions::default()
    }
}

/// Runs a plan; a panic of the code under test is a violation too.
///
/// # Errors
/// The first promise that was broken.
pub fn run_chain(plan: &ChainPlan) -> Result<ChainReport, Violation> {
    let plan = plan.clone();
    super::catch(move || Chain::new(plan).run())
}

impl Chain {
    fn new(plan: ChainPlan) -> Self {
        let shape = DriveShape { size_bytes: plan.drive_bytes, block_bytes: 512, volatile_cache: true };
        let mut world = World::new(&WorldOptions {
            drives: vec![shape],
            memory: MemoryLimits::default(),
            ..WorldOptions::small(plan.seed, plan.drive_bytes)
        });
        let geometry = Geometry {
            shards: 1,
            segment_bytes: 256 << 10,
            directory_half_bytes: 256 << 10,
            block_bytes: 512,
            drive_bytes: vec![plan.drive_bytes],
            founders: 1,
        };
        let identity = Identity { pool: [1; 16], cluster: [2; 16], node: [3; 16] };
        let layout = Arc::new(Layout::new(identity, geometry).expect("the drive is large enough"));
        Self {
            io: world.io(ReactorId(0)),
            random: world.fork_random(),
            world,
            shard: Shard::recover(Arc::clone(&layout), ShardId(0), 7, plan.shard_options.clone()),
            pool: Pool::new(&layout),
            layout,
            images: BTreeMap::from([(1, Image::default())]),
            dropping: BTreeSet::new(),
            open: BTreeMap::new(),
            read: None,
            ready: false,
            stopped: false,
            numbers: 1,
            turns: 0,
            still: Standstill::default(),
            report: ChainReport::default(),
            plan,
        }
    }

    fn run(mut self) -> Result<ChainReport, Violation> {
        self.until(|chain| chain.ready)?;
        for _ in 0..self.plan.snapshots {
            for _ in 0..self.plan.writes {
                self.write(1)?;
            }
            self.fork(1, true)?;
        }
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        self.until(|chain| chain.open.is_empty())?;
        self.verify()?;
        self.check_used()?;
        for image in self.image_ids() {
            self.drop_image(image)?;
        }
        self.until(|chain| chain.open.is_empty())?;
        self.check_used()?;
        Ok(self.report)
    }

    /// Something of all that can be.
    fn step(&mut self) -> Result<(), Violation> {
        if self.random.one_in(self.plan.kill_one_in) {
            return self.kill();
        }
        // An image may be used once its fork was answered.
        let open: BTreeSet<u64> = self.open.values().filter_map(Open::image).collect();
        let of = |chain: &Self, read_only: bool| -> Vec<u64> {
            let images =
                chain.images.iter().filter(|(id, image)| image.read_only == read_only && !open.contains(id));
            images.map(|(id, _)| *id).collect()
        };
        let (volumes, snapshots) = (of(self, false), of(self, true));
        let mut choose = |of: &[u64]| of.get(self.random.index(of.len().max(1))).copied();
        let volume = choose(&volumes).unwrap_or(1);
        let snapshot = choose(&snapshots);
        match (self.random.below(20), snapshot) {
            (0, _) => self.fork(volume, true),
            (1, Some(snapshot)) if volumes.len() < 8 => self.fork(snapshot, false),
            (2..5, Some(snapshot)) if snapshots.len() > 3 => self.drop_image(snapshot),
            (5, _) if volumes.len() > 3 => self.drop_image(volume),
            _ => self.write(volume),
        }
    }

    fn write(&mut self, image: u64) -> Result<(), Violation> {
        self.await_room()?;
        let block = self.random.below(self.plan.blocks.0);
        let stamp = self.numbers + 1;
        let mut buffer = self.buffer()?;
        for bytes in buffer.chunks_exact_mut(8) {
            bytes.copy_from_slice(&stamp.to_le_bytes());
        }
        let data = Payload::new(io::Slice::whole(io::Buffer::share(buffer)));
        self.submit(image, block, BLOCK, Op::Write { data, fua: false }, Open::Write { block, stamp })?;
        let blocks = &mut self.images.entry(image).or_default().blocks;
        blocks.entry(block).or_insert_with(|| vec![0]).push(stamp);
        Ok(())
    }

    fn fork(&mut self, of: u64, read_only: bool) -> Result<(), Violation> {
        self.await_room()?;
        let image = self.numbers + 1;
        self.submit(of, 0, 0, Op::Fork { image: VolumeId(image), read_only }, Open::Fork { image })?;
        let blocks = self.images.get(&of).map(|image| image.blocks.clone()).unwrap_or_default();
        self.images.insert(image, Image { read_only, blocks });
        self.report.forks += 1;
        self.report.images_max = self.report.images_max.max(self.images.len());
        Ok(())
    }

    fn drop_image(&mut self, image: u64) -> Result<(), Violation> {
        self.await_room()?;
        self.submit(image, 0, 0, Op::DropVolume, Open::Drop { image })?;
        self.images.remove(&image);
        self.dropping.insert(image);
        Ok(())
    }

    fn submit(
        &mut self,
        image: u64,
        block: u64,
        len: u64,
        op: Op<SimBuffer>,
        open: Open,
    ) -> Result<(), Violation> {
        let offset = block * self.plan.blocks.1 * BLOCK;
        self.numbers += 1;
        let tag = self.numbers;
        let mut request = Request { tag, volume: VolumeId(image), offset, len, compress: false, op };
        while let Err(back) = self.shard.submit(request) {
            request = back;
            self.turn()?;
        }
        self.open.insert(tag, open);
        Ok(())
    }

    fn await_room(&mut self) -> Result<(), Violation> {
        self.until(|chain| chain.open.len() < chain.plan.depth)
    }

    /// Lets the shard run until `done`.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while !done(self) {
            self.turn()?;
        }
        Ok(())
    }

    /// Memory for a block.
    fn buffer(&mut self) -> Result<SimBuffer, Violation> {
        loop {
            match self.io.allocate(BLOCK as usize, Purpose::Data) {
                Some(buffer) => return Ok(buffer),
                None => self.turn()?,
            }
        }
    }

    fn image_ids(&self) -> Vec<u64> {
        self.images.keys().copied().collect()
    }

    /// Ends the process and starts it again: everything that was answered is there.
    fn kill(&mut self) -> Result<(), Violation> {
        self.report.kills += 1;
        self.restart();
        let open = std::mem::take(&mut self.open);
        self.until(|chain| chain.ready)?;
        self.audit()?;
        // What is there although it was not answered is there for good.
        for open in open.into_values() {
            if let Open::Fork { image } = open
                && self.shard.image(VolumeId(image)).is_none()
            {
                self.images.remove(&image);
            }
        }
        for image in self.dropping.clone() {
            if self.shard.image(VolumeId(image)).is_some() {
                self.submit(image, 0, 0, Op::DropVolume, Open::Drop { image })?;
            }
        }
        self.verify()
    }

    fn restart(&mut self) {
        self.report.moved_blocks += self.shard.stats().moved_blocks;
        let options = self.plan.shard_options.clone();
        self.shard = Shard::recover(Arc::clone(&self.layout), ShardId(0), 7, options);
        self.world.crash(Crash::Kill);
        self.io = self.world.io(ReactorId(0));
        self.pool = Pool::new(&self.layout);
        (self.ready, self.stopped) = (false, false);
    }

    /// Reads every block of every image.
    fn verify(&mut self) -> Result<(), Violation> {
        for image in self.image_ids() {
            for block in 0..self.plan.blocks.0 {
                let stamp = self.stamp_of(image, block)?;
                let held = self.images.get_mut(&image).and_then(|image| image.blocks.get_mut(&block));
                let fair = match held {
                    None => stamp == 0,
                    Some(stamps) => {
                        let fair = stamps.contains(&stamp);
                        *stamps = vec![stamp];
                        fair
                    }
                };
                if !fair {
                    let block = usize::try_from(block).unwrap_or(usize::MAX);
                    let place = Place { shard: 0, volume: VolumeId(image), block };
                    return Err(Violation::Garbage { place, sector: stamp });
                }
            }
        }
        Ok(())
    }

    fn stamp_of(&mut self, image: u64, block: u64) -> Result<u64, Violation> {
        let buffer = self.buffer()?;
        self.submit(image, block, BLOCK, Op::Read { buffer }, Open::Read)?;
        self.until(|chain| chain.read.is_some())?;
        let bytes = self.read.take().unwrap_or_default();
        let (head, _) = bytes.split_at(8);
        let whole = bytes.chunks_exact(8).all(|word| word == head);
        Ok(if whole { u64::from_le_bytes(head.try_into().expect("8 bytes")) } else { u64::MAX })
    }

    /// Stops in order and starts again: what is live is what the images hold, each version of a block once.
    fn check_used(&mut self) -> Result<(), Violation> {
        self.shard.checkpoint_and_stop();
        self.until(|chain| chain.stopped)?;
        self.audit()?;
        self.restart();
        self.until(|chain| chain.ready)?;
        let of = |image: &Image| -> Vec<(u64, u64)> {
            let last = |(block, stamps): (&u64, &Vec<u64>)| Some((*block, stamps.last().copied()?));
            image.blocks.iter().filter_map(last).filter(|(_, stamp)| *stamp != 0).collect()
        };
        let held: BTreeSet<(u64, u64)> = self.images.values().flat_map(of).collect();
        let expected = held.len() as u64 * BLOCK;
        // What was cut off and not given back yet still counts.
        for _ in 0..SPACE_TURNS_MAX {
            if self.shard.stats().data_bytes == expected {
                return self.audit();
            }
            self.turn()?;
        }
        let told = self.shard.stats().data_bytes;
        Err(Violation::WrongUsage { name: "the pool".into(), told, expected })
    }

    /// What the shard counts is what a walk through its map finds.
    fn audit(&mut self) -> Result<(), Violation> {
        let world = &self.world;
        let audit = self.shard.audit(|drive, offset, len| world.contents(drive, offset, len));
        audit.map_err(|what| Violation::Miscount { shard: 0, what })
    }

    fn turn(&mut self) -> Result<(), Violation> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return Err(Violation::Slow { open: self.open.len() });
        }
        self.world.step(&[self.shard.poll_timeout()], None);
        let now = self.io.now();
        let mut events = Vec::new();
        self.io.poll(Some(now), &mut events).expect("a look at the world always succeeds");
        if !events.is_empty() || self.open.is_empty() || !self.world.drives_are_idle() {
            self.still.end(now);
        }
        for event in events {
            match event {
                Event::Read { token, buffer, result } => self.shard.handle_read(token, buffer, result),
                Event::Written { token, buffer, result } => self.shard.handle_written(token, buffer, result),
                Event::Flushed { token, result } => self.shard.handle_flushed(token, result),
                _ => unreachable!("there is nothing but a drive"),
            }
        }
        while self.pool.is_known()
            && let Some((_, cleaning)) = self.pool.wants.pop_front()
        {
            let grant = self.pool.grant(0, cleaning);
            if grant.is_some() {
                self.still.end(now);
            }
            self.shard.handle_grant(grant);
            self.tell_space();
        }
        self.shard.run(&mut self.io, now);
        while let Some(output) = self.shard.poll_output() {
            if !matches!(output, Output::WantSegment { .. }) {
                self.still.end(now);
            }
            self.take(output)?;
        }
        if self.still.has_lasted(now, self.plan.shard_options.retry * RETRIES_MAX) {
            let pool = self.pool.is_known().then(|| self.pool.space());
            return Err(Violation::Stalled { pool, accounts: vec![Account::of(&self.shard)] });
        }
        Ok(())
    }

    fn tell_space(&mut self) {
        let (free, total) = self.pool.space();
        self.shard.handle_pool_space(free, total);
    }

    fn take(&mut self, output: Output<SimBuffer>) -> Result<(), Violation> {
        match output {
            Output::Done { tag, outcome, buffer } => {
                let open = self.open.remove(&tag).ok_or(Violation::StrayAnswer(tag))?;
                if outcome != Outcome::Ok {
                    return Err(Violation::UnfairAnswer { number: tag, outcome });
                }
                match open {
                    Open::Write { block, stamp } => self.confirm(block, stamp),
                    Open::Drop { image } => drop(self.dropping.remove(&image)),
                    Open::Fork { .. } => {}
                    Open::Read => self.read = buffer.map(|buffer| buffer.to_vec()),
                }
            }
            Output::Forked { .. } => {}
            Output::WantSegment { cleaning } => self.pool.wants.push_back((0, cleaning)),
            Output::Release(segments) => {
                if !self.pool.release(0, &segments) {
                    return Err(Violation::SegmentsNotOwned(0, segments));
                }
                self.tell_space();
            }
            Output::Ready { segments, .. } => {
                if !self.pool.own(0, &segments) {
                    return Err(Violation::SegmentsNotOwned(0, segments));
                }
                self.ready = true;
            }
            Output::Stopped => self.stopped = true,
            Output::Failed(failure) => return Err(Violation::Stopped(0, failure)),
        }
        Ok(())
    }

    /// A write was answered: no image that has it holds anything older.
    fn confirm(&mut self, block: u64, stamp: u64) {
        for stamps in self.images.values_mut().filter_map(|image| image.blocks.get_mut(&block)) {
            if let Some(at) = stamps.iter().position(|held| *held == stamp) {
                stamps.drain(..at);
            }
        }
    }
}
