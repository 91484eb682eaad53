//! The log-structured engine of one shard: a deterministic, single-threaded state machine over [`io::Disk`].
//!
//! Calling convention, the same in a reactor and in the simulator:
//!
//! 1. [`Shard::recover`] makes the machine; it reads nothing yet.
//! 2. After every round of events, in this order: `handle_read`, `handle_written`, `handle_flushed` for each disk
//!    event whose token has the shard's owner number (see [`owner_of`]), `handle_grant` for an answered
//!    [`Output::WantSegment`], [`Shard::submit`] for new requests; then [`Shard::run`] once, which alone starts disk
//!    operations; then [`Shard::poll_output`] until it gives `None`. Outputs may appear after any of these calls.
//! 3. [`Shard::run`] again at the latest at [`Shard::poll_timeout`]. A deadline that has passed means that work is
//!    left which was put off so that one call stays short: run again after other events were looked at.
//!
//! Requests may be submitted after [`Output::Ready`]. After [`Output::Failed`] everything is answered with
//! [`Outcome::Failed`]; disk events that are still due must be handed in all the same, they give buffers back.

mod admit;
mod ahead;
mod beyond;
mod checkpoint;
mod clean;
mod compose;
mod emit;
mod flush;
mod gather;
mod headers;
mod images;
mod live;
mod log;
mod options;
mod order;
mod pages;
#[cfg(feature = "planted")]
mod planted;
mod read;
mod recover;
mod replay;
mod request;
mod reuse;
mod rounds;
mod slab;
mod space;
mod submit;
mod summary;
mod ticket;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use io::{Buffer, Disk, DiskError, DriveId, Time, Token};

use crate::map::Map;
use crate::{Layout, SegmentId, ShardId, VolumeId};

use checkpoint::Checkpoint;
use clean::Cleaner;
use flush::Flush;
use gather::Gather;
use log::Log;
use order::Order;
use pages::Pages;
use read::Reads;
use recover::Recovery;
use replay::Replay;
use reuse::Reuse;
use slab::Slab;
use space::{Space, Want};
use summary::Summary;
use ticket::Ticket;

pub use images::{DiffEnd, DiffLimits, ImageStats, Miscount, UnreadableMap};
pub use options::{ShardOptions, ShardStats};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use request::{
    BLOCK_BYTES, DATA_BYTES_MAX, Doing, Failure, Op, Outcome, Output, Payload, Request, SECTOR_BYTES,
};

/// The owner number that a token carries in its upper 16 bits.
#[must_use]
pub fn owner_of(token: Token) -> u16 {
    u16::try_from(token.0 >> 48).expect("16 bits are left")
}

/// One shard of a pool.
#[derive(Debug)]
pub struct Shard<B: Buffer> {
    layout: Arc<Layout>,
    shard: ShardId,
    owner: u16,
    options: ShardOptions,
    phase: Phase,
    recovery: Option<Box<Recovery<B>>>,
    plan: compose::Plan,
    outputs: VecDeque<Output<B>>,
    /// Bytes that hosts have written to each image.
    written: BTreeMap<VolumeId, u64>,
    stats: ShardStats,
    /// Blocks whose checksum was wrong when read, by the drive that they lie on.
    checksum_errors: BTreeMap<DriveId, u64>,
    now: Time,
    /// When to try again what found no memory.
    memory_retry: Option<Time>,
    map: Map,
    space: Space,
    log: Log,
    summary: Summary,
    order: Order<B>,
    reads: Reads<B>,
    pages: Pages,
    flush: Flush,
    gather: Gather,
    checkpoint: Checkpoint,
    cleaner: Cleaner<B>,
    reuse: Reuse,
    tickets: Slab<Ticket>,
    /// What is given back next must be read first.
    drops_wait: bool,
    /// Replay has not come to what the manifest does not count.
    uncounted: Option<Uncounted>,
}

/// The part of replay that is in the counts of the manifest.
#[derive(Clone, Copy, Debug)]
struct Uncounted {
    /// Records before this LSN are.
    until: u64,
    /// What was cut off when the manifest was made.
    cuts: u64,
}

/// Where the machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Recovering,
    Running,
    /// Draining, then a checkpoint.
    Stopping,
    Stopped,
    Failed,
}

/// What a token's operation is; the rest of the token is the number of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Read = 1,
    Batch = 2,
    Root = 3,
    Flush = 4,
    RootFlush = 5,
    Recovery = 6,
    Summary = 7,
}

impl<B: Buffer> Shard<B> {
    /// The machine of shard `shard`, about to recover. Its disk tokens carry `owner` in their upper 16 bits.
    ///
    /// # Panics
    /// If the layout has no such shard, or an option is out of its bounds.
    #[must_use]
    pub fn recover(layout: Arc<Layout>, shard: ShardId, owner: u16, options: ShardOptions) -> Self {
        assert!(shard.0 < layout.shards());
        options.check();
        #[cfg_attr(not(feature = "planted"), expect(unused_mut, reason = "changed by planted faults alone"))]
        let mut map = Map::default();
        #[cfg(feature = "planted")]
        map.plant(options.planted);
        Self {
            phase: Phase::Recovering,
            recovery: Some(Box::new(Recovery::new())),
            plan: compose::Plan::default(),
            outputs: VecDeque::new(),
            written: BTreeMap::new(),
            stats: ShardStats::default(),
            checksum_errors: BTreeMap::new(),
            now: Time::default(),
            memory_retry: None,
            map,
            space: Space::new(&layout),
            log: Log::new(),
            summary: Summary::default(),
            order: Order::new(),
            reads: Reads::new(),
            pages: Pages::new(),
            flush: Flush::new(),
            gather: Gather::default(),
            checkpoint: Checkpoint::new(),
            cleaner: Cleaner::new(),
            reuse: Reuse::default(),
            tickets: Slab::new(),
            drops_wait: false,
            uncounted: None,
            layout,
            shard,
            owner,
            options,
        }
    }

    /// A disk read ended.
    pub fn handle_read(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        match TokenKind::of(token) {
            Some(TokenKind::Recovery) => self.on_recovery_read(number_of(token), buffer, result),
            Some(TokenKind::Read) => self.on_read(number_of(token), buffer, result),
            _ => {}
        }
    }

    /// A disk write ended.
    pub fn handle_written(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        drop(buffer);
        match TokenKind::of(token) {
            Some(TokenKind::Batch) => self.on_batch_written(number_of(token), result),
            Some(TokenKind::Root) => self.on_root_written(result),
            Some(TokenKind::Recovery) => self.on_voided(result),
            Some(TokenKind::Summary) => self.on_summary_written(number_of(token)),
            _ => {}
        }
    }

    /// A flush of a drive ended.
    pub fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        if let Err(error) = result {
            // What the drive holds now is not known: nothing that follows could be answered honestly.
            self.fail(Failure::Disk { doing: Doing::Flush, error });
            return;
        }
        match TokenKind::of(token) {
            Some(TokenKind::Flush) => self.on_flushed(),
            Some(TokenKind::RootFlush) => self.on_root_flushed(),
            Some(TokenKind::Recovery) => self.on_recovery_flushed(),
            _ => {}
        }
    }

    /// The answer to [`Output::WantSegment`]; `None` where the pool has no segment to give.
    pub fn handle_grant(&mut self, grant: Option<SegmentId>) {
        if self.space.want == Want::Asked {
            self.space.on_grant(grant, self.now + self.options.retry);
        }
    }

    /// Drives have joined the pool: `layout` has all that was there, and more behind it. Segments of these may be granted
    /// from now on.
    ///
    /// # Panics
    /// If it is another pool's, or has less.
    pub fn handle_layout(&mut self, layout: Arc<Layout>) {
        assert!(layout.identity() == self.layout.identity() && layout.segments() >= self.layout.segments());
        self.layout = layout;
    }

    /// Tells the shard how many segments the pool has in all and how many are free, so that it begins to clean
    /// before the last is gone. Without it the shard cleans once a segment was refused.
    pub fn handle_pool_space(&mut self, free: u32, total: u32) {
        self.space.on_pool_space(free);
        let least = u32::from(self.layout.shards());
        self.space.pool_low = free <= (total / POOL_LOW_DIVISOR).max(least);
        self.space.pool_scarce = free <= (total / POOL_SCARCE_DIVISOR).max(least);
    }

    /// Does what can be done now.
    pub fn run<D: Disk<Buffer = B>>(&mut self, disk: &mut D, now: Time) {
        self.now = now;
        self.memory_retry = None;
        self.forgive_leaves();
        match self.phase {
            Phase::Recovering => {
                self.run_recovery(disk);
                self.read_leaves(disk);
                self.evict_leaves();
                self.step_checkpoint(disk);
                self.make_way_for_reads();
            }
            Phase::Running | Phase::Stopping => {
                self.apply_written();
                if self.may_drop() {
                    self.step_drops();
                }
                self.step_reuse();
                self.step_departures();
                self.start_reads(disk);
                self.step_guards(disk);
                self.step_cleaner(disk);
                self.step_checkpoint(disk);
                self.compose(disk);
                if self.order.needed_bytes > 0 {
                    // What has just found no room may be the first reason to make some.
                    self.step_cleaner(disk);
                    self.step_checkpoint(disk);
                    self.compose(disk);
                }
                // A partial write that was let in just now may read its edges at once, and nothing else may ever come.
                while self.memory_retry.is_none() && self.order.has_ready_guard(self.log.applied) {
                    self.step_guards(disk);
                    self.compose(disk);
                }
                self.step_wants();
                self.want_departures();
                let flushed = self.flush.flushed;
                self.step_flush(disk);
                if self.flush.flushed > flushed {
                    // Without a volatile cache nothing is under way that would bring these back.
                    self.step_departures();
                    self.step_cleaner(disk);
                    self.step_checkpoint(disk);
                    self.compose(disk);
                }
                self.read_leaves(disk);
                self.evict_leaves();
                self.step_stop();
            }
            Phase::Stopped | Phase::Failed => {}
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<B>> {
        self.outputs.pop_front()
    }

    /// When [`Shard::run`] must be called even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if matches!(self.phase, Phase::Stopped | Phase::Failed) {
            return None;
        }
        let refused = match self.space.want {
            Want::Refused(until) if self.is_short_of_space() => Some(until),
            _ => None,
        };
        let dropping = (self.map.is_dropping() && self.may_drop() && !self.drops_wait).then_some(self.now);
        let replay = self.recovery.as_ref().map(|recovery| &recovery.replay);
        let replaying = replay.is_some_and(Replay::is_stopped).then_some(self.now);
        [self.memory_retry, refused, dropping, replaying, self.gather_timeout()].into_iter().flatten().min()
    }

    /// Ends what was submitted, makes a checkpoint and stops: [`Output::Stopped`] follows. Submit nothing after it.
    pub fn checkpoint_and_stop(&mut self) {
        match self.phase {
            Phase::Running => self.phase = Phase::Stopping,
            // Nothing was begun that a stop could lose.
            Phase::Recovering => {
                self.phase = Phase::Stopped;
                self.outputs.push_back(Output::Stopped);
            }
            Phase::Stopping | Phase::Stopped | Phase::Failed => {}
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            live_bytes: self.space.live_bytes(),
            data_bytes: self.space.blocks.count * u64::from(BLOCK_BYTES),
            stored_bytes: self.space.blocks.bytes,
            mapped_bytes: self.map.mapped_blocks() * u64::from(BLOCK_BYTES),
            owned_bytes: self.space.owned() * u64::from(self.layout.segment_bytes()),
            map_bytes: self.map.bytes(),
            map_hits: self.map.lookups().saturating_sub(self.pages.missed),
            checksum_errors: self.checksum_errors.values().sum(),
            ..self.stats
        }
    }

    /// Blocks whose checksum was wrong when read, by the drive that they lie on; drives without any are left out.
    pub fn checksum_errors(&self) -> impl Iterator<Item = (DriveId, u64)> {
        self.checksum_errors.iter().map(|(drive, count)| (*drive, *count))
    }

    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shard
    }

    /// Requests that were not answered.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.tickets.len()
    }

    /// Bytes of full segments that hold nothing that is live, headers included.
    #[must_use]
    pub fn garbage_bytes(&self) -> u64 {
        let usable = self.space.usable_bytes();
        let sealed = self.space.iter().filter(|(_, segment)| segment.state == space::State::Sealed);
        sealed.map(|(_, segment)| usable.saturating_sub(segment.live_bytes)).sum()
    }

    /// What the machine waits for, in words, for people who find it waiting.
    #[must_use]
    pub fn describe(&self) -> String {
        let segments: Vec<String> = self
            .space
            .iter()
            .map(|(id, segment)| {
                let cleaned = if segment.cleaned { "*" } else { "" };
                format!("{}:{:?}{cleaned}:{}", id.0, segment.state, segment.live_bytes)
            })
            .collect();
        format!(
            "{:?}, pages {}, room {} of {} segments, {} free, floors {} {} {}, live {}, reclaimable {}, starved {}, want {:?}, dirty {}, \
             short {}, needed {} by {:?}, queue {}, in flight {}, cleaner {}, checkpoint {}, segments {}",
            self.phase,
            self.pages.describe(),
            self.room_bytes(),
            self.space.owned(),
            self.space.free_count(),
            self.floor_bytes(admit::Class::Clean),
            self.floor_bytes(admit::Class::Unmap),
            self.floor_bytes(admit::Class::Host),
            self.space.live_bytes(),
            self.space.reclaimable(),
            self.space.is_starved(),
            self.space.want,
            self.map.dirty_pages(),
            self.is_short_of_space(),
            self.order.needed_bytes,
            self.order.waiting,
            self.order.queue.len(),
            self.log.in_flight(),
            self.cleaner.describe(),
            self.checkpoint.describe(),
            segments.join(" "),
        )
    }

    /// Whether what was cut off may be given back now. Not while a checkpoint logs pages: a page that it has logged may
    /// name one that was cut off since, and giving that one back would let its segment go with this very checkpoint.
    fn may_drop(&self) -> bool {
        !self.checkpoint.is_logging_pages()
    }

    /// Gives back some of what dropped volumes and ranges held.
    fn step_drops(&mut self) {
        let mut pages = self.options.drop_pages_per_run;
        let (space, needs) = (&mut self.space, &mut self.pages.needs);
        while let Some(ticket) = self.map.drop_step(&mut pages, needs, &mut |freed| space.frees(freed)) {
            ticket::finish(&mut self.tickets, &mut self.outputs, &mut self.stats, ticket);
        }
        self.drops_wait = !needs.is_met();
        if self.drops_wait {
            self.pages.held.extend_from_slice(&self.pages.needs.leaves);
            self.want_missing();
        }
    }

    /// Ends a stop once nothing is left to do.
    fn step_stop(&mut self) {
        if matches!(self.phase, Phase::Stopping) && self.is_idle() && self.is_checkpointed() {
            self.phase = Phase::Stopped;
            self.outputs.push_back(Output::Stopped);
        }
    }

    /// Whether every request is answered and nothing is under way that a request started, what was cut off by it
    /// included.
    fn is_idle(&self) -> bool {
        self.tickets.is_empty()
            && self.reads.is_empty()
            && self.order.is_empty()
            && self.log.in_flight() == 0
            && self.summary.in_flight.is_empty()
            && self.flush.is_idle()
            && !self.map.is_dropping()
    }

    /// The shard cannot go on: answers everything that it holds. Reads under way are answered as they end.
    fn fail(&mut self, failure: Failure) {
        if matches!(self.phase, Phase::Failed | Phase::Stopped) {
            return;
        }
        self.phase = Phase::Failed;
        self.recovery = None;
        self.outputs.push_back(Output::Failed(failure));
        self.fail_reads();
        self.order.clear();
        self.flush.clear();
        for ticket in self.tickets.drain() {
            self.outputs.push_back(Output::Done { tag: ticket.tag, outcome: Outcome::Failed, buffer: None });
        }
    }

    fn is_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed)
    }

    fn token(&self, kind: TokenKind, number: u64) -> Token {
        Token(u64::from(self.owner) << 48 | (kind as u64) << 40 | number & NUMBER_MASK)
    }

    /// Remembers that memory was refused, so that the driver comes back.
    fn retry_for_memory(&mut self) {
        self.memory_retry = Some(self.now + self.options.retry);
    }

    #[cfg(feature = "planted")]
    fn is_planted(&self, planted: Planted) -> bool {
        self.options.planted == Some(planted)
    }
}

impl TokenKind {
    fn of(token: Token) -> Option<Self> {
        [Self::Read, Self::Batch, Self::Root, Self::Flush, Self::RootFlush, Self::Recovery, Self::Summary]
            .into_iter()
            .find(|&kind| token.0 >> 40 & 0xff == kind as u64)
    }
}

/// A pool is low on free segments once fewer than it divided by this are left. Cleaning that begins later finds more that
/// has died: a hundredth of the pool is worth two of what it moves.
const POOL_LOW_DIVISOR: u32 = 128;
/// With fewer than the pool divided by this even a shard that lacks nothing cleans, for the others.
const POOL_SCARCE_DIVISOR: u32 = 256;

const NUMBER_MASK: u64 = (1 << 40) - 1;

fn number_of(token: Token) -> u64 {
    token.0 & NUMBER_MASK
}

#[cfg(test)]
mod test;
