//! Commands of hosts that are under way: cut into pieces, joined again.

use std::ops::Range;

use io::{Buffer, ReactorId, Slice};
use nvme::Status;
use store::{Outcome, ShardId};
use subsystem::{ByteRange, Completion, Operation, PairData, Pieces, Request, RequestId};

use crate::message::{Backing, Origin, Piece, PieceDone, Target, Work};
use crate::slab::Slab;
use crate::stripe::{Stretch, Striping};

/// The commands of one reactor's queues that the store has not answered yet.
#[derive(Debug)]
pub(crate) struct Jobs<B: Buffer> {
    reactor: ReactorId,
    reactors: u16,
    shards: u16,
    jobs: Slab<Job<B>>,
    #[cfg(feature = "planted")]
    planted: Option<crate::Planted>,
}

#[derive(Debug)]
struct Job<B: Buffer> {
    request: RequestId,
    nsid: u32,
    /// Whether it changes what is stored.
    changes: bool,
    /// Pieces that have not ended; one more while they are being made.
    left: u32,
    /// The worst result so far.
    result: Outcome,
    /// What was read, by part.
    parts: [Option<subsystem::Piece<B>>; 2],
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished<B: Buffer> {
    pub(crate) id: RequestId,
    pub(crate) nsid: u32,
    /// Whether it may have changed what is stored.
    pub(crate) changes: bool,
    pub(crate) completion: Completion<B>,
}

/// A piece and the reactor that does it.
pub(crate) type Routed<B> = (ReactorId, Piece<B>);

impl<B: Buffer> Jobs<B> {
    /// No commands, on reactor `reactor` of `reactors`.
    pub(crate) const fn new(
        reactor: ReactorId,
        reactors: u16,
        #[cfg(feature = "planted")] planted: Option<crate::Planted>,
    ) -> Self {
        Self {
            reactor,
            reactors,
            shards: 0,
            jobs: Slab::new(),
            #[cfg(feature = "planted")]
            planted,
        }
    }

    /// The pool is open and has so many shards.
    pub(crate) fn set_shards(&mut self, shards: u16) {
        self.shards = shards;
    }

    /// True where nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Begins a command: appends its pieces to `out`, or answers at once where nothing has to be done.
    pub(crate) fn begin(
        &mut self,
        request: Request<B>,
        backing: Backing,
        out: &mut Vec<Routed<B>>,
    ) -> Option<Finished<B>> {
        let Request { id, nsid, operation } = request;
        let changes = match operation {
            Operation::Write { .. }
            | Operation::WriteZeroes { .. }
            | Operation::Deallocate { .. }
            | Operation::CompareAndWrite { .. } => true,
            Operation::Read { .. }
            | Operation::Flush
            | Operation::Compare { .. }
            | Operation::Verify { .. } => false,
        };
        let job = Job { request: id, nsid, changes, left: 1, result: Outcome::Ok, parts: [None, None] };
        let number = self.jobs.insert(job);
        let before = out.len();
        self.cut(number, nsid, backing, operation, out);
        let made = u32::try_from(out.len() - before).expect("bounded by ranges times shards");
        self.jobs.value(number).left += made;
        self.finish(number)
    }

    /// A piece has ended; answers the command with the last one.
    pub(crate) fn on_piece_done(&mut self, job: u32, part: u8, done: PieceDone<B>) -> Option<Finished<B>> {
        let state = self.jobs.value(job);
        state.result = state.result.max(done.result);
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::Planted::ForgetOtherPieces) {
            state.result = done.result;
        }
        if let (Some(read), Some(place)) = (done.read, state.parts.get_mut(usize::from(part))) {
            *place = Some(read);
        }
        self.finish(job)
    }

    fn finish(&mut self, number: u32) -> Option<Finished<B>> {
        let job = self.jobs.value(number);
        job.left -= 1;
        if job.left > 0 {
            return None;
        }
        let job = self.jobs.remove(number);
        let finished = |completion| {
            let Job { request: id, nsid, changes, .. } = job;
            Some(Finished { id, nsid, changes, completion })
        };
        let status = status_of(job.result);
        if job.result != Outcome::Ok {
            return finished(Completion::of(status));
        }
        let data = match job.parts {
            [None, _] => Pieces::none(),
            [Some(first), None] => Pieces::one(first),
            [Some(first), Some(second)] => Pieces::two(first, second),
        };
        finished(Completion { status, data })
    }

    fn cut(&self, job: u32, nsid: u32, backing: Backing, operation: Operation<B>, out: &mut Vec<Routed<B>>) {
        let cutter = Cutter {
            reactor: self.reactor,
            reactors: self.reactors,
            shards: self.shards,
            job,
            nsid,
            backing,
            #[cfg(feature = "planted")]
            planted: self.planted,
        };
        match operation {
            Operation::Read { range } => cutter.pieces(range, out, |_| Work::Read),
            Operation::Verify { range } => cutter.pieces(range, out, |_| Work::Verify),
            Operation::Write { offset_bytes, data, fua } => {
                cutter.pieces(whole(offset_bytes, &data), out, |within| Work::Write {
                    data: data.slice(within),
                    fua,
                });
            }
            Operation::Compare { offset_bytes, data } => {
                cutter.pieces(whole(offset_bytes, &data), out, |within| Work::Compare {
                    data: data.slice(within),
                });
            }
            Operation::CompareAndWrite { offset_bytes, pair, fua } => {
                let PairData { compare, write } = *pair;
                cutter.pieces(whole(offset_bytes, &compare), out, |within| Work::CompareAndWrite {
                    compare: compare.slice(within.clone()),
                    write: write.slice(within),
                    fua,
                });
            }
            // The store keeps nothing for zeros, so whether the host wants them deallocated makes no difference.
            Operation::WriteZeroes { range, deallocate: _, fua } => {
                cutter.ranges(range, out, || Work::WriteZeroes { fua });
            }
            Operation::Deallocate { ranges } => {
                for range in ranges {
                    cutter.ranges(range, out, || Work::Deallocate);
                }
            }
            Operation::Flush => cutter.everywhere(out),
        }
    }
}

/// Cuts one command.
struct Cutter {
    reactor: ReactorId,
    reactors: u16,
    shards: u16,
    job: u32,
    nsid: u32,
    backing: Backing,
    #[cfg(feature = "planted")]
    planted: Option<crate::Planted>,
}

impl Cutter {
    /// A piece for each stripe that a transfer touches.
    fn pieces<B: Buffer>(
        &self,
        range: ByteRange,
        out: &mut Vec<Routed<B>>,
        work: impl Fn(Range<usize>) -> Work<B>,
    ) {
        let mut within = 0;
        for (part, stretch) in self.striping().pieces(range.offset_bytes, range.len_bytes).enumerate() {
            let len = usize::try_from(stretch.len).expect("at most a stripe");
            let part = u8::try_from(part).expect("a transfer touches two stripes at most");
            #[cfg(feature = "planted")]
            if self.planted == Some(crate::Planted::RepeatFirstStripe) && len <= within {
                within = 0;
            }
            out.push(self.routed(stretch, part, work(within..within + len)));
            within += len;
        }
    }

    /// A piece for each shard that a range touches.
    fn ranges<B: Buffer>(&self, range: ByteRange, out: &mut Vec<Routed<B>>, work: impl Fn() -> Work<B>) {
        for stretch in self.striping().ranges(range.offset_bytes, range.len_bytes) {
            out.push(self.routed(stretch, 0, work()));
        }
    }

    /// A flush for each shard; memory needs none.
    fn everywhere<B: Buffer>(&self, out: &mut Vec<Routed<B>>) {
        if matches!(self.backing, Backing::Volume(_)) {
            for shard in 0..self.shards {
                #[cfg(feature = "planted")]
                if self.planted == Some(crate::Planted::FlushOneShard) && shard > 0 {
                    break;
                }
                out.push(self.routed(Stretch { shard, offset: 0, len: 0 }, 0, Work::Flush));
            }
        }
    }

    fn striping(&self) -> Striping {
        match self.backing {
            Backing::Volume(volume) => Striping::new(volume.lineage.0, self.shards),
            Backing::Ram | Backing::Null | Backing::Paused | Backing::InDoubt => {
                Striping::new(0, self.reactors)
            }
        }
    }

    fn routed<B: Buffer>(&self, stretch: Stretch, part: u8, work: Work<B>) -> Routed<B> {
        let (to, target) = match self.backing {
            Backing::Volume(volume) => {
                let shard = ShardId(stretch.shard);
                let (image, compress) = (volume.image, volume.compression);
                (reactor_of(shard, self.reactors), Target::Shard { shard, image, compress })
            }
            Backing::Ram | Backing::Null | Backing::Paused | Backing::InDoubt => {
                (ReactorId(stretch.shard), Target::Ram(self.nsid))
            }
        };
        let origin = Origin::Command { job: self.job, part };
        let Stretch { offset, len, .. } = stretch;
        (to, Piece { from: self.reactor, origin, target, offset, len, work })
    }
}

/// The reactor that owns a shard.
pub(crate) fn reactor_of(shard: ShardId, reactors: u16) -> ReactorId {
    ReactorId(shard.0 % reactors)
}

fn whole<S: io::Shared>(offset_bytes: u64, data: &Slice<S>) -> ByteRange {
    ByteRange { offset_bytes, len_bytes: data.len() as u64 }
}

/// All of a buffer as a part of an answer.
pub(crate) fn owned<B: Buffer>(buffer: B) -> subsystem::Piece<B> {
    let len = u32::try_from(buffer.len()).expect("a buffer is at most 1 MiB long");
    subsystem::Piece::Owned { buffer, start: 0, len }
}

/// The answer of a namespace that stores nothing: zeros, and every write vanishes.
#[inline]
pub(crate) fn null_completion<B: Buffer>(operation: &Operation<B>) -> Completion<B> {
    match operation {
        Operation::Read { range } => {
            let len = u32::try_from(range.len_bytes).expect("a transfer is at most 1 MiB long");
            Completion { status: Status::SUCCESS, data: Pieces::one(subsystem::Piece::Zeroes { len }) }
        }
        Operation::Compare { data, .. } => zeros_compare(data),
        Operation::CompareAndWrite { pair, .. } => zeros_compare(&pair.compare),
        Operation::Write { .. }
        | Operation::Flush
        | Operation::WriteZeroes { .. }
        | Operation::Deallocate { .. }
        | Operation::Verify { .. } => Completion::of(Status::SUCCESS),
    }
}

fn zeros_compare<B: Buffer>(expected: &[u8]) -> Completion<B> {
    let equal = expected.iter().all(|byte| *byte == 0);
    Completion::of(if equal { Status::SUCCESS } else { Status::COMPARE_FAILURE })
}

/// The NVMe status of the worst of a command's pieces.
fn status_of(result: Outcome) -> Status {
    match result {
        Outcome::Ok => Status::SUCCESS,
        Outcome::CompareFailed => Status::COMPARE_FAILURE,
        Outcome::ReadOnly => Status::NAMESPACE_WRITE_PROTECTED,
        Outcome::CapacityExceeded => Status::CAPACITY_EXCEEDED,
        Outcome::Unrecovered => Status::UNRECOVERED_READ,
        Outcome::Failed => Status::INTERNAL_ERROR,
    }
}
