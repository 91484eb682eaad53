//! The part of the store that one reactor does: its shards, its RAM stripes, and the flushes that they share.

mod questions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use io::{Buffer, Disk, DiskError, Lasting, Purpose, ReactorId, Time, Token};
use store::{Layout, Op, Outcome, Payload, Request, SegmentId, Shard, ShardId, ShardOptions, VolumeId};
use subsystem::Pieces;

use crate::bench::{RamParts, Stored};
use crate::gate::{FlushGate, GatedDisk};
use crate::job::owned;
use crate::message::{Origin, Piece, PieceDone, Target, Work};
use crate::owner;
use crate::stripe::Stretch;
pub(crate) use questions::Answer;

/// How long to wait before asking again for a buffer that a read needs.
const MEMORY_RETRY: Duration = Duration::from_micros(200);

/// What a reactor holds of the store.
#[derive(Debug)]
pub(crate) struct Rack<B: Buffer> {
    reactors: u16,
    shards: Vec<Shard<B>>,
    /// By place: something has happened to the shard since it ran last. The others have nothing to do.
    stirred: Vec<bool>,
    failed: Vec<bool>,
    ram: RamParts<B::Shared>,
    pub(crate) gate: FlushGate,
    /// Reads for which no buffer was free, in order.
    hungry: VecDeque<Piece<B>>,
    /// By place: requests that wait for room in their shard, in order.
    crowded: Vec<VecDeque<Request<B>>>,
    answered: Vec<Token>,
    /// Failures of flushes that the other reactors have not been told.
    drives_failed: Vec<DiskError>,
    /// True once the shards were asked to stop, and how many have ended since, in order or by a failure.
    stopping: bool,
    stopped: usize,
    /// Questions about images for which shards read their maps.
    parts: Vec<questions::Part>,
}

/// Work that cannot begin yet.
#[derive(Debug)]
enum Starved<B: Buffer> {
    /// No buffer was free for what it reads.
    Piece(Piece<B>),
    /// The shard at this place holds as many requests as it takes.
    Request(usize, Request<B>),
}

/// What the shards tell.
#[derive(Debug)]
pub(crate) enum RackOutput<B: Buffer> {
    /// A piece has ended; to the reactor that asked.
    Done(ReactorId, PieceDone<B>),
    /// A fork has its place in the order of its shard; to the reactor that asked.
    Placed(ReactorId, Origin),
    /// A shard wants a segment.
    WantSegment { shard: ShardId, cleaning: bool },
    /// Segments are free.
    Release(ShardId, Vec<SegmentId>),
    /// The rest of an answer about images.
    Told(Answer),
    /// A shard has recovered.
    Ready { shard: ShardId, segments: Vec<SegmentId>, volumes: Vec<VolumeId> },
    /// A shard has failed.
    Failed(ShardId, store::Failure),
    /// Every shard has made its checkpoint and stopped.
    Stopped,
    /// A flush that somebody other than the shards asked for cannot be had.
    FlushRefused(Token, DiskError),
    /// A flush failed: no reactor may flush the drive again.
    DriveFailed(DiskError),
}

impl<B: Buffer> Rack<B> {
    /// An empty rack of one of `reactors` reactors.
    pub(crate) fn new(reactors: u16) -> Self {
        Self {
            reactors,
            shards: Vec::new(),
            stirred: Vec::new(),
            failed: Vec::new(),
            ram: RamParts::default(),
            gate: FlushGate::default(),
            hungry: VecDeque::new(),
            crowded: Vec::new(),
            answered: Vec::new(),
            drives_failed: Vec::new(),
            stopping: false,
            stopped: 0,
            parts: Vec::new(),
        }
    }

    /// Makes the shards of `layout` that belong to `reactor`; they begin to recover.
    pub(crate) fn attach(&mut self, layout: &Arc<Layout>, reactor: ReactorId, options: &ShardOptions) {
        let map_bytes_max = options.map_bytes_max / u64::from(layout.shards());
        let options = &ShardOptions { map_bytes_max, ..options.clone() };
        for number in (reactor.0..layout.shards()).step_by(usize::from(self.reactors)) {
            let owner = owner::SHARDS + number;
            self.shards.push(Shard::recover(Arc::clone(layout), ShardId(number), owner, options.clone()));
            self.stirred.push(true);
            self.failed.push(false);
            self.crowded.push(VecDeque::new());
        }
    }

    /// Drives have joined: the shards will be given segments there.
    pub(crate) fn grow(&mut self, layout: &Arc<Layout>) {
        for shard in &mut self.shards {
            shard.handle_layout(Arc::clone(layout));
        }
    }

    /// Begins a piece, or puts it off until there is memory for it.
    pub(crate) fn begin(
        &mut self,
        piece: Piece<B>,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Option<RackOutput<B>> {
        // Everything of the volume waits for a fork; a fork waits for nothing but its shard.
        let urgent = matches!(piece.work, Work::Fork { .. });
        let begun = if matches!(piece.work, Work::Read) && self.awaits_memory() {
            Err(Starved::Piece(piece))
        } else {
            self.try_begin(piece, memory)
        };
        begun.unwrap_or_else(|starved| {
            match starved {
                Starved::Request(place, request) if urgent => self.crowded[place].push_front(request),
                starved => self.put_off(starved),
            }
            None
        })
    }

    /// Begins what was put off as far as that is possible now: in order, but nobody waits for what another lacks. What
    /// one shard has no room for may hold the memory for which a read waits.
    pub(crate) fn retry(&mut self, memory: &mut impl Lasting<Buffer = B>, out: &mut Vec<RackOutput<B>>) {
        for place in 0..self.crowded.len() {
            while let Some(request) = self.crowded[place].pop_front() {
                match self.submit(place, request) {
                    Ok(output) => out.extend(output),
                    Err(request) => {
                        self.crowded[place].push_front(request);
                        break;
                    }
                }
            }
        }
        while let Some(piece) = self.hungry.pop_front() {
            match self.try_begin(piece, memory) {
                Ok(output) => out.extend(output),
                Err(Starved::Piece(piece)) => {
                    self.hungry.push_front(piece);
                    break;
                }
                Err(starved) => self.put_off(starved),
            }
        }
    }

    fn put_off(&mut self, starved: Starved<B>) {
        match starved {
            Starved::Piece(piece) => self.hungry.push_back(piece),
            Starved::Request(place, request) => self.crowded[place].push_back(request),
        }
    }

    /// A disk event of one of the shards or of the gate.
    pub(crate) fn handle_read(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        self.shard_of(token).handle_read(token, buffer, result);
    }

    /// As above.
    pub(crate) fn handle_written(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        self.shard_of(token).handle_written(token, buffer, result);
    }

    /// A flush of the gate has ended: tells the shards that asked, and leaves the tokens of others in `others`.
    pub(crate) fn handle_flushed(
        &mut self,
        token: Token,
        result: Result<(), DiskError>,
        others: &mut Vec<Token>,
    ) {
        let mut answered = std::mem::take(&mut self.answered);
        self.gate.ended(token, &mut answered);
        if let Err(error) = result {
            self.gate.fail(error.drive, error);
            self.drives_failed.push(error);
        }
        for token in answered.drain(..) {
            if owner::of(token) >= owner::SHARDS {
                self.shard_of(token).handle_flushed(token, result);
            } else {
                others.push(token);
            }
        }
        self.answered = answered;
    }

    /// The pool's answer to a shard.
    pub(crate) fn handle_grant(&mut self, shard: ShardId, segment: Option<SegmentId>) {
        let number = self.local(shard);
        self.stirred[number] = true;
        self.shards[number].handle_grant(segment);
    }

    /// How much of the pool is free.
    pub(crate) fn handle_space(&mut self, free: u32, total: u32) {
        for shard in &mut self.shards {
            shard.handle_pool_space(free, total);
        }
        self.stirred.fill(true);
    }

    /// Runs once every shard to which something has happened or whose time has come, and collects what they say.
    pub(crate) fn run(&mut self, disk: &mut impl Disk<Buffer = B>, now: Time, out: &mut Vec<RackOutput<B>>) {
        out.extend(self.drives_failed.drain(..).map(RackOutput::DriveFailed));
        // Those that the shards earn by what they do now come in the next round, which is due at once.
        while let Some((token, error)) = self.gate.take_refused() {
            if owner::of(token) >= owner::SHARDS {
                self.shard_of(token).handle_flushed(token, Err(error));
            } else {
                out.push(RackOutput::FlushRefused(token, error));
            }
        }
        if !self.parts.is_empty() {
            // Before the shards run: what they have read may leave memory again at the end.
            self.ask_again(out);
        }
        let count = self.shards.len();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let is_due = shard.poll_timeout().is_some_and(|at| at <= now);
            if !std::mem::take(&mut self.stirred[number]) && !is_due {
                continue;
            }
            shard.run(&mut GatedDisk { disk, gate: &mut self.gate }, now);
            while let Some(output) = shard.poll_output() {
                match output {
                    store::Output::Done { tag, outcome, buffer } => {
                        let (from, origin) = untag(tag);
                        out.push(done(from, origin, outcome, buffer.map(owned)));
                    }
                    store::Output::Forked { tag } => {
                        let (from, origin) = untag(tag);
                        out.push(RackOutput::Placed(from, origin));
                    }
                    store::Output::WantSegment { cleaning } => {
                        out.push(RackOutput::WantSegment { shard: shard.id(), cleaning });
                    }
                    store::Output::Release(segments) => out.push(RackOutput::Release(shard.id(), segments)),
                    store::Output::Ready { segments, volumes } => {
                        out.push(RackOutput::Ready { shard: shard.id(), segments, volumes });
                    }
                    store::Output::Stopped => {
                        self.stopped += 1;
                        if self.stopped == count {
                            out.push(RackOutput::Stopped);
                        }
                    }
                    store::Output::Failed(failure) => {
                        self.failed[number] = true;
                        out.push(RackOutput::Failed(shard.id(), failure));
                        // It makes no checkpoint any more; nobody must wait for it.
                        if self.stopping {
                            self.stopped += 1;
                            if self.stopped == count {
                                out.push(RackOutput::Stopped);
                            }
                        }
                    }
                }
            }
        }
        let drives = self.gate.asked();
        if drives != 0 {
            for shard in &mut self.shards {
                shard.join_flush(&mut GatedDisk { disk, gate: &mut self.gate }, drives);
            }
        }
    }

    /// Makes every shard durable and ends it. A failed one has nothing left to do.
    pub(crate) fn stop(&mut self, out: &mut Vec<RackOutput<B>>) {
        self.stopping = true;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if self.failed[number] {
                self.stopped += 1;
            } else {
                shard.checkpoint_and_stop();
            }
        }
        self.stirred.fill(true);
        if self.stopped == self.shards.len() {
            out.push(RackOutput::Stopped);
        }
    }

    /// When to run again at the latest.
    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        let waits = !self.hungry.is_empty() || self.crowded.iter().any(|requests| !requests.is_empty());
        let starved = waits.then(|| now + MEMORY_RETRY);
        let refused = self.gate.has_refused().then_some(now);
        self.shards.iter().filter_map(Shard::poll_timeout).chain(starved).chain(refused).min()
    }

    /// Bytes of an image that are mapped in the shards here.
    pub(crate) fn mapped_bytes(&self, image: VolumeId) -> u64 {
        self.shards.iter().map(|shard| shard.mapped_bytes(image)).sum()
    }

    /// The shards here.
    pub(crate) fn shards(&self) -> &[Shard<B>] {
        &self.shards
    }

    /// True while a read waits for memory. A large one needs a stretch that is free as a whole: reads that come later must
    /// not take the parts of it that become free. What needs no memory goes on, for it may hold some.
    fn awaits_memory(&self) -> bool {
        !self.hungry.is_empty()
    }

    fn try_begin(
        &mut self,
        piece: Piece<B>,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Result<Option<RackOutput<B>>, Starved<B>> {
        let mut buffer = None;
        if matches!(piece.work, Work::Read) {
            if let Target::Ram(nsid) = piece.target
                && let Some(read) = self.ram.share(nsid, piece.offset, piece.len, memory)
            {
                return Ok(Some(done(piece.from, piece.origin, Outcome::Ok, Some(read))));
            }
            let len = usize::try_from(piece.len).expect("a transfer is at most 1 MiB long");
            buffer = memory.allocate(len, Purpose::Data);
            if buffer.is_none() {
                return Err(Starved::Piece(piece));
            }
        }
        match piece.target {
            Target::Ram(nsid) => Ok(Some(self.on_ram(nsid, piece, buffer, memory))),
            Target::Shard { shard, image: volume, compress } => {
                let place = self.local(shard);
                let Piece { from, origin, offset, len, work, .. } = piece;
                let request = Request {
                    tag: tag(from, origin),
                    volume,
                    offset,
                    len,
                    compress,
                    op: op_of(work, buffer),
                };
                self.submit(place, request).map_err(|request| Starved::Request(place, request))
            }
        }
    }

    /// Gives a request to its shard; the request itself where there is no room.
    fn submit(&mut self, place: usize, request: Request<B>) -> Result<Option<RackOutput<B>>, Request<B>> {
        if self.failed[place] {
            let (from, origin) = untag(request.tag);
            return Ok(Some(done(from, origin, Outcome::Failed, None)));
        }
        self.stirred[place] = true;
        self.shards[place].submit(request).map(|()| None)
    }

    /// What this reactor's part of a RAM namespace has in a stretch; `None` where it must be copied and there is no
    /// buffer now.
    pub(crate) fn read_memory(
        &mut self,
        nsid: u32,
        stretch: Stretch,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> Option<Pieces<B>> {
        if let Some(pieces) = self.ram.share_two(nsid, stretch.offset, stretch.len, memory) {
            return Some(pieces);
        }
        if self.awaits_memory() {
            return None;
        }
        let len = usize::try_from(stretch.len).expect("a transfer is at most 1 MiB long");
        let mut buffer = memory.allocate(len, Purpose::Data)?;
        self.ram.read(nsid, stretch.offset, &mut buffer);
        Some(Pieces::one(owned(buffer)))
    }

    /// True where a RAM namespace has something.
    pub(crate) fn has_memory(&self) -> bool {
        !self.ram.is_empty()
    }

    /// Has the processor fetch what a read of a RAM namespace, if this reactor has it, begins with.
    pub(crate) fn expect_read(&self, nsid: u32, stretch: Stretch) {
        self.ram.expect_read(nsid, stretch.offset);
    }

    fn on_ram(
        &mut self,
        nsid: u32,
        piece: Piece<B>,
        mut buffer: Option<B>,
        memory: &mut impl Lasting<Buffer = B>,
    ) -> RackOutput<B> {
        let Self { ram, .. } = self;
        let Piece { from, origin, offset, len, work, .. } = piece;
        let written = |stored: Stored| if stored.is_ok() { Outcome::Ok } else { Outcome::CapacityExceeded };
        let outcome = match work {
            Work::Read => {
                if let Some(buffer) = &mut buffer {
                    ram.read(nsid, offset, buffer);
                }
                Outcome::Ok
            }
            Work::Write { data, .. } => written(ram.write(nsid, offset, &data, memory)),
            Work::WriteZeroes { .. } | Work::Deallocate | Work::DropFrom => {
                written(ram.zero(nsid, offset, len, memory))
            }
            Work::Compare { data } if ram.equals(nsid, offset, &data) => Outcome::Ok,
            Work::CompareAndWrite { compare, write, .. } if ram.equals(nsid, offset, &compare) => {
                written(ram.write(nsid, offset, &write, memory))
            }
            Work::Compare { .. } | Work::CompareAndWrite { .. } => Outcome::CompareFailed,
            Work::Verify | Work::Flush | Work::DropVolume | Work::Fork { .. } => Outcome::Ok,
        };
        done(from, origin, outcome, buffer.map(owned))
    }

    fn shard_of(&mut self, token: Token) -> &mut Shard<B> {
        let number = self.local(ShardId(owner::of(token) - owner::SHARDS));
        self.stirred[number] = true;
        &mut self.shards[number]
    }

    fn local(&self, shard: ShardId) -> usize {
        usize::from(shard.0 / self.reactors)
    }
}

/// What a shard is asked to do for a piece; a read has its buffer.
fn op_of<B: Buffer>(work: Work<B>, buffer: Option<B>) -> Op<B> {
    match work {
        Work::Read => Op::Read { buffer: buffer.expect("the caller has found memory for every read") },
        Work::Write { data, fua } => Op::Write { data: Payload::new(data), fua },
        Work::WriteZeroes { fua } => Op::WriteZeroes { fua },
        Work::Deallocate => Op::Deallocate,
        Work::Compare { data } => Op::Compare { data: Payload::new(data) },
        Work::CompareAndWrite { compare, write, fua } => {
            Op::CompareAndWrite { compare: Payload::new(compare), write: Payload::new(write), fua }
        }
        Work::Verify => Op::Verify,
        Work::Flush => Op::Flush,
        Work::DropFrom => Op::DropFrom,
        Work::DropVolume => Op::DropVolume,
        Work::Fork { image, read_only } => Op::Fork { image, read_only },
    }
}

fn done<B: Buffer>(
    to: ReactorId,
    origin: Origin,
    result: Outcome,
    read: Option<subsystem::Piece<B>>,
) -> RackOutput<B> {
    RackOutput::Done(to, PieceDone { origin, result, read })
}

/// The bit of a tag that says that an errand asked.
const ERRAND: u16 = 1 << 15;

/// Packs who asked into a request's tag: reactor, part or shard, number.
fn tag(from: ReactorId, origin: Origin) -> u64 {
    let (part, number) = match origin {
        Origin::Command { job, part } => (u16::from(part), job),
        Origin::Errand { number, shard } => (ERRAND | shard, number),
    };
    u64::from(from.0) << 48 | u64::from(part) << 32 | u64::from(number)
}

/// The reverse of [`tag`].
fn untag(tag: u64) -> (ReactorId, Origin) {
    let [from_high, from_low, part_high, part, number @ ..] = tag.to_be_bytes();
    let from = ReactorId(u16::from_be_bytes([from_high, from_low]));
    let number = u32::from_be_bytes(number);
    match u16::from_be_bytes([part_high, part]) {
        shard if shard & ERRAND != 0 => (from, Origin::Errand { number, shard: shard & !ERRAND }),
        _ => (from, Origin::Command { job: number, part }),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::test_memory::{Room, Roomy};

    /// More than two chunks of a namespace in memory: it is copied.
    const SMALL: usize = 192 << 10;

    fn piece(len: u64, work: Work<Roomy>) -> Piece<Roomy> {
        let origin = Origin::Command { job: 0, part: 0 };
        Piece { target: Target::Ram(1), offset: 0, len, work, from: ReactorId(0), origin }
    }

    /// The buffer that a read has filled.
    fn filled(output: RackOutput<Roomy>) -> Roomy {
        match output {
            RackOutput::Done(_, PieceDone { read: Some(subsystem::Piece::Owned { buffer, .. }), .. }) => {
                buffer
            }
            output => panic!("not a read that was copied: {output:?}"),
        }
    }

    #[test]
    fn small_reads_do_not_pass_a_large_one_that_waits_for_memory_but_writes_do() {
        const LARGE: usize = 1 << 20;
        let mut memory = Room::of(LARGE);
        let mut rack = Rack::new(1);
        let mut sending = VecDeque::new();
        sending.extend(rack.begin(piece(SMALL as u64, Work::Read), &mut memory).map(filled));
        assert_eq!(sending.len(), 1);
        assert!(rack.begin(piece(LARGE as u64, Work::Read), &mut memory).is_none());
        let zeroes = rack.begin(piece(4096, Work::WriteZeroes { fua: false }), &mut memory);
        assert!(zeroes.is_some(), "it needs no memory, and ends what may hold some");
        assert!(
            rack.read_memory(1, Stretch { shard: 0, offset: 0, len: SMALL as u64 }, &mut memory).is_none()
        );
        for _ in 0..100 {
            // Another read has come whenever the data of one has been sent.
            let mut done: Vec<_> =
                rack.begin(piece(SMALL as u64, Work::Read), &mut memory).into_iter().collect();
            sending.pop_front();
            rack.retry(&mut memory, &mut done);
            for buffer in done.into_iter().map(filled) {
                if buffer.len() == LARGE {
                    return;
                }
                sending.push_back(buffer);
            }
        }
        panic!("it waits for ever");
    }

    #[test]
    fn what_waits_for_room_does_not_wait_for_memory() {
        let mut memory = Room::of(4096);
        let mut rack = Rack::new(1);
        assert!(rack.begin(piece(SMALL as u64, Work::Read), &mut memory).is_none(), "there is no memory");
        // A shard that has failed answers at once, and so is one that has room.
        rack.failed.push(true);
        let request =
            Request { tag: 0, volume: VolumeId(1), offset: 0, len: 4096, compress: false, op: Op::Verify };
        rack.crowded.push(VecDeque::from([request]));
        let mut done = Vec::new();
        rack.retry(&mut memory, &mut done);
        assert!(matches!(done[..], [RackOutput::Done(_, PieceDone { result: Outcome::Failed, .. })]));
        assert!(rack.awaits_memory());
    }

    #[test]
    fn a_tag_gives_back_who_asked() {
        for (from, origin) in [
            (ReactorId(0), Origin::Command { job: 0, part: 0 }),
            (ReactorId(65_535), Origin::Command { job: u32::MAX, part: 1 }),
            (ReactorId(7), Origin::Errand { number: 123_456, shard: 0x7fff }),
        ] {
            assert_eq!(untag(tag(from, origin)), (from, origin));
        }
    }
}
