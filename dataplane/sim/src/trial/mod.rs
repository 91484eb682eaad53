//! A trial: shards of one pool on the simulator's drives, a random load, crashes, and a model that knows what every
//! block may hold.
//!
//! One life of the process follows another: recover, check every block against the model, load, crash. In the last
//! life everything is dropped, the pool must become free again, the shards stop cleanly and every buffer is home.

mod answers;
mod away;
pub mod chain;
pub(crate) mod payload;
mod plan;
mod requests;
mod seats;
mod segments;
mod standstill;
mod verify;
mod violation;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use io::{DriveId, DriveShape, ReactorId, Time};
use store::{Layout, VolumeId};

use crate::model::{Block, Survives};
use crate::{Crash, CutStyle, Faults, MemoryLimits, Random, SimIo, World, WorldOptions};

pub use plan::{Leave, Mix, Plan};
pub(crate) use plan::{replay_blocks_max, replay_pace};
pub use standstill::Account;
pub use violation::{Place, Violation};

use away::Away;
use requests::Open;
pub(crate) use standstill::{RETRIES_MAX, Standstill};

use seats::{Phase, Seat};
use segments::Pool;

/// Turns of one life after which something must be wrong.
const TURNS_MAX: u64 = 150_000;

/// Starts in a row that drives may fail.
const FAILED_RECOVERIES_MAX: u32 = 3;

/// Virtual time that one life may take, in nanoseconds.
const LIFE_NS_MAX: u64 = 600_000_000_000;

/// Called with what the trial does.
type Tracer = fn(Time, &str);

/// One run of one plan.
pub struct Trial {
    plan: Plan,
    world: World<()>,
    io: SimIo<()>,
    layout: Arc<Layout>,
    random: Random,
    tracer: Option<Tracer>,
    // Counts what is asked and answered: the model's time.
    clock: u64,
    numbers: u64,
    // Whether what is written now is compressed, and what decides when that changes.
    compress: bool,
    switches: Random,
    seats: Vec<Seat>,
    pool: Pool,
    volumes: Vec<Volume>,
    // Volumes that were dropped and answered. A power cut may bring them back, then they are dropped again.
    dropped: BTreeSet<VolumeId>,
    volume_ids: u64,
    // Images that a crash left half made. Whoever has something of them is to drop it.
    orphans: BTreeSet<VolumeId>,
    open: BTreeMap<u64, Open>,
    // The worst of the crashes since everything was checked last.
    cut: Cut,
    // What a check waits for.
    peeked: Option<Vec<u8>>,
    // By shard: what was answered before this time is flushed.
    flushed_before: Vec<u64>,
    // Bits of the drives have turned over: shards may refuse to start, reads may fail.
    decayed: bool,
    // Starts in a row that a drive has failed.
    failed_recoveries: u32,
    away: Away,
    life_began: Time,
    turns: u64,
    still: Standstill,
    report: Report,
}

/// A volume of the model.
#[derive(Debug)]
struct Volume {
    id: VolumeId,
    // Its blocks, by shard.
    blocks: Vec<Vec<Block>>,
    // By shard: a drop is under way or was interrupted.
    dropping: Vec<bool>,
    // By shard: the drop was answered.
    gone: Vec<bool>,
    // The volume whose number the bytes carry: the one from which all of its lineage comes.
    stamp: VolumeId,
    // Of an image, how it was made.
    fork: Option<Fork>,
}

/// How an image was made.
#[derive(Clone, Copy, Debug)]
struct Fork {
    read_only: bool,
    // Shards that have not answered; until all have, the image may not be used, and a crash may leave any part of it.
    open: usize,
    // A shard has refused: the rest is dropped.
    failed: bool,
}

/// What a trial went through, to see that trials are worth their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests that were answered.
    pub answered: u64,
    /// Of these with Capacity Exceeded.
    pub refused_full: u64,
    /// Kills.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Crashes before recovery had ended.
    pub crashes_in_recovery: u64,
    /// Starts that a drive failed, each of which was tried again.
    pub failed_recoveries: u64,
    /// Requests that could not read what they had to.
    pub unrecovered: u64,
    /// Shards that stopped because a drive failed.
    pub failed_shards: u64,
    /// Changes that a power cut took back, all of them unflushed.
    pub taken_back: u64,
    /// Segments that were given to a shard.
    pub granted_segments: u64,
    /// Segments that came back.
    pub released_segments: u64,
    /// Blocks that cleaning moved.
    pub moved_blocks: u64,
    /// Batches that replay found in summaries of segments.
    pub summarized_batches: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Batches.
    pub batches: u64,
    /// Snapshots and clones.
    pub forks: u64,
    /// Drives that joined.
    pub joined: u64,
    /// Times that a drive stopped answering, and was back in the same life.
    pub drives_away: u64,
    /// As above.
    pub drives_back: u64,
    /// Reads and changes that had success while a drive was away.
    pub answered_beside: u64,
    /// Leaves of the map that left memory, and reads that brought some back.
    pub map_evictions: u64,
    /// As above.
    pub map_reads: u64,
}

impl Trial {
    /// A trial of a plan, before its first life.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let options = WorldOptions {
            seed: plan.seed,
            reactors: 1,
            drives: plan.drives.clone(),
            faults: plan.calm,
            memory: MemoryLimits::default(),
        };
        let mut world = World::new(&options);
        let random = world.fork_random();
        let layout = Arc::new(plan.layout());
        let shards = usize::from(layout.shards());
        let mut trial = Self {
            io: world.io(ReactorId(0)),
            world,
            pool: Pool::new(&layout),
            layout,
            random,
            tracer: None,
            clock: 1,
            numbers: 0,
            compress: plan.compress,
            switches: Random::new(plan.seed ^ 0xC0DE),
            seats: Vec::new(),
            volumes: Vec::new(),
            dropped: BTreeSet::new(),
            volume_ids: 0,
            orphans: BTreeSet::new(),
            open: BTreeMap::new(),
            cut: Cut::None,
            peeked: None,
            flushed_before: vec![0; shards],
            decayed: false,
            failed_recoveries: 0,
            away: Away::new(plan.seed),
            life_began: Time(0),
            turns: 0,
            still: Standstill::default(),
            report: Report::default(),
            plan,
        };
        while trial.volumes.len() < trial.plan.volumes {
            trial.make_volume();
        }
        trial
    }

    /// Prints what happens through `tracer`.
    pub fn set_tracer(&mut self, tracer: Tracer) {
        self.world.set_tracer(tracer);
        self.tracer = Some(tracer);
        self.trace(|trial| format!("{:#?}", trial.plan));
    }

    /// Runs all lives.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(mut self) -> Result<Report, Violation> {
        let mut crashes = self.plan.crashes;
        loop {
            self.begin_life();
            let quick = crashes > 0 && self.random.one_in(6);
            if self.recover(quick)? && self.verify()? {
                if crashes == 0 {
                    break;
                }
                self.world.set_faults(self.plan.faults);
                self.load()?;
            } else if self.has_failed() {
                self.report.failed_recoveries += 1;
            } else {
                self.report.crashes_in_recovery += 1;
            }
            self.crash();
            if self.is_drive_lost() {
                self.begin_life();
                return self.read_without_drive().map(|()| self.report);
            }
            crashes = crashes.saturating_sub(1);
        }
        self.finish()?;
        Ok(self.report)
    }

    /// Starts the process: machines that have everything still to read.
    fn begin_life(&mut self) {
        self.io = self.world.io(ReactorId(0));
        self.world.set_faults(self.plan.calm);
        self.pool = Pool::new(&self.layout);
        self.life_began = self.world.now();
        self.still.end(self.life_began);
        self.turns = 0;
        self.return_drive();
        self.seats = self.layout_shards().map(|shard| Seat::new(&self.layout, shard, &self.plan)).collect();
    }

    /// Runs until every shard is ready or a drive has failed one; with `quick`, a while at most. Says whether all are.
    fn recover(&mut self, quick: bool) -> Result<bool, Violation> {
        let may_fail = self.failed_recoveries < FAILED_RECOVERIES_MAX;
        self.world.set_faults(if may_fail { self.plan.recovery } else { self.plan.calm });
        let is_ready = self.run_recovery(quick)?;
        self.world.set_faults(self.plan.calm);
        self.failed_recoveries = if self.has_failed() { self.failed_recoveries + 1 } else { 0 };
        Ok(is_ready)
    }

    fn run_recovery(&mut self, quick: bool) -> Result<bool, Violation> {
        let most = self.random.between(1, 60);
        loop {
            if self.has_failed() {
                return Ok(false);
            }
            if self.seats.iter().all(|seat| seat.phase == Phase::Ready) {
                return Ok(true);
            }
            if quick && self.turns >= most {
                return Ok(false);
            }
            self.turn(0)?;
        }
    }

    /// Makes requests until it is time for the crash.
    fn load(&mut self) -> Result<(), Violation> {
        self.drop_again();
        let most = self.random.between(1, self.plan.requests_per_life);
        let until = self.numbers + most;
        while self.numbers < until && self.goes_on() {
            self.step_away();
            let room = self.plan.depth.saturating_sub(self.open.len());
            if self.random.one_in(self.plan.join_one_in) {
                self.join_drive();
            }
            let batch = if self.random.one_in(3) { room } else { room.min(1) };
            self.turn(batch)?;
        }
        // Some way into the silence after the load.
        let more = self.random.below(40);
        for _ in 0..more {
            if self.goes_on() {
                self.turn(0)?;
            }
        }
        if self.must_answer() { self.settle_requests() } else { Ok(()) }
    }

    /// Ends the process.
    fn crash(&mut self) {
        let failed = self.has_failed();
        for seat in &self.seats {
            let stats = seat.shard.stats();
            self.report.moved_blocks += stats.moved_blocks;
            self.report.summarized_batches += stats.summarized_batches;
            self.report.checkpoints += stats.checkpoints;
            self.report.map_evictions += stats.map_evictions;
            self.report.map_reads += stats.map_reads;
            self.report.batches += stats.batches;
        }
        self.seats.clear();
        self.open.clear();
        let is_half_made = |volume: &Volume| volume.fork.is_some_and(|fork| fork.open > 0 || fork.failed);
        self.orphans
            .extend(self.volumes.iter().filter(|volume| is_half_made(volume)).map(|volume| volume.id));
        self.volumes.retain(|volume| !is_half_made(volume));
        // After a failed flush nothing but the cut tells what is durable: a kill would leave a cache that lies.
        let cut = self.random.one_in(self.plan.power_cut_one_in)
            || failed && self.may_fail_by(|faults| faults.flush_error_one_in);
        // What cannot be read cannot be settled.
        let cut = cut && !self.is_drive_lost();
        let style = CutStyle::choose(&mut self.random);
        self.world.crash(if cut { Crash::PowerCut(style) } else { Crash::Kill });
        if cut {
            self.cut = Cut::Power;
            self.report.power_cuts += 1;
        } else {
            self.report.kills += 1;
        }
        self.tick();
    }

    /// The last life: space comes back, everything stops, nothing is left; not even a power cut finds anything more.
    fn finish(&mut self) -> Result<(), Violation> {
        self.plan.leave = None;
        self.plan.recovery = self.plan.calm;
        self.settle_requests()?;
        if self.plan.damaged_blocks > 0 {
            return self.damage();
        }
        if self.plan.decay_bits > 0 {
            return self.decay();
        }
        // Once more, without a crash, so that there is something to count.
        self.load()?;
        self.settle_requests()?;
        self.check_counts()?;
        self.drop_everything()?;
        self.check_mapped()?;
        self.stop()?;
        self.check_buffers()?;
        self.world.crash(Crash::PowerCut(CutStyle::AllLost));
        self.begin_life();
        self.recover(false)?;
        self.check_empty()?;
        self.stop()?;
        self.check_buffers()
    }

    /// Stops, lets bits of the drives turn over, and starts again: what is read is right or is refused.
    fn decay(&mut self) -> Result<(), Violation> {
        self.stop()?;
        self.seats.clear();
        self.world.crash(Crash::Kill);
        for _ in 0..self.plan.decay_bits {
            let drive = self.random.index(self.plan.drives.len());
            let offset = self.random.below(self.plan.drives[drive].size_bytes);
            let bit = u8::try_from(self.random.below(8)).expect("below 8");
            self.world.flip(DriveId(u16::try_from(drive).expect("a few drives")), offset, bit);
        }
        self.begin_life();
        self.decayed = true;
        self.read_what_is_left()
    }

    /// Blocks of the drives become unreadable under the load: what is read then and after the next start is right or is
    /// refused, and everybody is answered.
    fn damage(&mut self) -> Result<(), Violation> {
        self.decayed = true;
        for _ in 0..self.plan.damaged_blocks {
            let drive = self.random.index(self.plan.drives.len());
            let DriveShape { size_bytes, block_bytes, .. } = self.plan.drives[drive];
            let offset = self.random.below(size_bytes / u64::from(block_bytes)) * u64::from(block_bytes);
            let drive = DriveId(u16::try_from(drive).expect("a few drives"));
            self.world.damage(drive, offset, block_bytes as usize);
        }
        self.load()?;
        self.settle_requests()?;
        self.read_everything()?;
        self.seats.clear();
        self.world.crash(Crash::Kill);
        self.tick();
        self.begin_life();
        self.read_what_is_left()
    }

    /// Starts on drives that are not what they were: a shard comes up or says that it cannot, and what is read is right.
    fn read_what_is_left(&mut self) -> Result<(), Violation> {
        while self.seats.iter().any(|seat| seat.phase == Phase::Recovering) {
            self.turn(0)?;
        }
        self.read_everything()
    }

    fn make_volume(&mut self) {
        self.volume_ids += 1;
        let shards = usize::from(self.layout.shards());
        self.volumes.push(Volume {
            id: VolumeId(self.volume_ids),
            blocks: vec![vec![Block::default(); self.plan.volume_blocks]; shards],
            dropping: vec![false; shards],
            gone: vec![false; shards],
            stamp: VolumeId(self.volume_ids),
            fork: None,
        });
    }

    /// A volume that was dropped is back after a power cut; it is dropped again, everywhere, before anything else.
    fn revive(&mut self, id: VolumeId) {
        let shards = usize::from(self.layout.shards());
        self.volumes.push(Volume {
            id,
            blocks: vec![Vec::new(); shards],
            dropping: vec![true; shards],
            gone: vec![true; shards],
            stamp: id,
            fork: None,
        });
    }

    fn has_failed(&self) -> bool {
        self.seats.iter().any(|seat| seat.phase == Phase::Failed)
    }

    /// Whether something fails at some rate, during the load or during recovery.
    fn may_fail_by(&self, rate: fn(&Faults) -> u32) -> bool {
        rate(&self.plan.faults) > 0 || rate(&self.plan.recovery) > 0
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn trace(&self, line: impl FnOnce(&Self) -> String) {
        if let Some(tracer) = self.tracer {
            tracer(self.world.now(), &line(self));
        }
    }

    fn layout_shards(&self) -> impl Iterator<Item = store::ShardId> + use<> {
        (0..self.layout.shards()).map(store::ShardId)
    }
}

/// What a crash could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nothing that was answered.
    None,
    /// What was not flushed.
    Power,
}

impl Cut {
    fn survives(self, flushed_before: u64) -> Survives {
        match self {
            Self::None => Survives::Certain,
            Self::Power => Survives::FlushedBefore(flushed_before),
        }
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trial(seed {}, {} requests asked)", self.plan.seed, self.numbers)
    }
}

/// Runs a plan; a panic of the code under test is a violation too.
///
/// # Errors
/// The first promise that was broken.
pub fn run_seed(plan: &Plan) -> Result<Report, Violation> {
    let plan = plan.clone();
    catch(move || Trial::new(plan).run())
}

/// Runs something; a panic is a violation.
pub(crate) fn catch<T>(run: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation::Panicked(text.unwrap_or_default()))
    })
}

#[cfg(test)]
mod test {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn trace_of(seed: u64) -> Vec<String> {
        let mut trial = Trial::new(Plan::new(seed));
        trial
            .set_tracer(|time, line| LINES.with_borrow_mut(|lines| lines.push(format!("{} {line}", time.0))));
        let end = format!("{:?}", trial.run());
        LINES.with_borrow_mut(|lines| lines.push(end));
        LINES.take()
    }

    #[test]
    fn a_seed_happens_the_same_way_every_time() {
        for seed in 0..5 {
            let trace = trace_of(seed);
            assert!(trace.len() > 100);
            assert!(trace == trace_of(seed), "seed {seed}");
        }
    }
}
