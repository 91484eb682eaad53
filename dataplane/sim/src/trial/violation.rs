//! What a trial can find.

use std::fmt;

use store::{Failure, Miscount, Outcome, SegmentId, VolumeId};

use super::Account;
use crate::model::Mismatch;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A sector holds what nobody ever wrote there.
    Garbage {
        /// The place.
        place: Place,
        /// The sector within the volume's part.
        sector: u64,
    },
    /// A read returned what the block could not hold.
    WrongRead(Place, Box<Mismatch>),
    /// After a crash a block holds what it could not.
    WrongAfterCrash(Place, Box<Mismatch>),
    /// A crash lost an answered change, but kept one that was asked for after that answer.
    LostFromTheMiddle {
        /// The shard.
        shard: usize,
        /// When the lost change was certain.
        certain_at: u64,
        /// When a surviving change was asked for.
        asked_at: u64,
    },
    /// A comparison said that equal blocks differ, or the other way round.
    WrongComparison(Place, Outcome),
    /// A request was answered with something that nothing justifies.
    UnfairAnswer {
        /// The request.
        number: u64,
        /// Its answer.
        outcome: Outcome,
    },
    /// A request that was answered as having had no effect had been seen.
    SeenAndDenied {
        /// The request.
        number: u64,
    },
    /// An answer for a request that is not open, or without its buffer.
    StrayAnswer(u64),
    /// A shard stopped although no drive failed.
    Stopped(usize, Failure),
    /// A shard released, or lists, segments that it does not own alone.
    SegmentsNotOwned(usize, Vec<SegmentId>),
    /// A shard lists a volume that nobody made.
    UnknownVolume(usize, VolumeId),
    /// Nothing can happen any more, but requests are open.
    Stuck {
        /// Open requests.
        open: usize,
    },
    /// Nothing is under way and nothing happens any more, but requests wait: of each shard in which they do, its books.
    Stalled {
        /// Free segments of the pool, and all, where these are known.
        pool: Option<(u32, u32)>,
        /// The shards.
        accounts: Vec<Account>,
    },
    /// Much virtual time has passed, and requests are still open.
    Slow {
        /// Open requests.
        open: usize,
    },
    /// Buffers did not come home.
    BuffersLost(usize),
    /// Everything was dropped, but the pool did not become free again.
    SpaceLost {
        /// The shard.
        shard: usize,
        /// Bytes that it still maps.
        mapped_bytes: u64,
        /// Segments that it still owns.
        segments: usize,
    },
    /// A shard did not count what is live as it is.
    Miscounted {
        /// The shard.
        shard: usize,
        /// Live bytes that it counted while it ran.
        ran: u64,
        /// Live bytes that it had after the next start.
        found: u64,
    },
    /// What a shard counts is not what a walk through its map finds.
    Miscount {
        /// The shard.
        shard: usize,
        /// What differs.
        what: Miscount,
    },
    /// A command that was asked for behind a fence had success.
    FenceCrossed {
        /// The command.
        number: u64,
    },
    /// A command ended with a status that nothing justifies.
    UnfairStatus {
        /// The command.
        number: u64,
        /// Its status, 15 bits.
        status: u16,
    },
    /// The target ended a host's association, or broke the protocol so that the host had to.
    ThrownOff {
        /// The host.
        host: usize,
        /// The queue on which it showed, 0 for the admin queue.
        qid: u16,
        /// What the host saw.
        failure: host::Failure,
    },
    /// A snapshot holds a change and not one that had been answered before that was asked for.
    NoCut {
        /// The snapshot.
        snapshot: u8,
        /// When the change that is missing was answered.
        certain_at: u64,
        /// When the change that is there was asked for.
        asked_at: u64,
    },
    /// A diff says of a block that it changed, or that it did not, and is wrong.
    WrongDiff {
        /// The earlier snapshot.
        base: Option<u8>,
        /// The later one.
        snapshot: u8,
        /// The block.
        block: usize,
        /// What the diff says.
        changed: bool,
    },
    /// A volume or snapshot is said to use what it does not.
    WrongUsage {
        /// Its name.
        name: String,
        /// Bytes that it is said to map.
        told: u64,
        /// Bytes that it maps.
        expected: u64,
    },
    /// A change of volumes or snapshots happened in part, or not although it was answered.
    HalfDone(&'static str),
    /// No promise at all: the moment has come at which the process was to end.
    Interrupted,
    /// The code itself gave up.
    Panicked(String),
}

/// A block of a volume in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: usize,
    /// The volume.
    pub volume: VolumeId,
    /// The block's number in the volume's part in this shard.
    pub block: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} volume {} block {}", self.shard, self.volume.0, self.block)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage { place, sector } => write!(f, "garbage: {place} sector {sector}"),
            Self::WrongRead(place, mismatch) => write!(f, "wrong read: {place}: {mismatch}"),
            Self::WrongAfterCrash(place, mismatch) => write!(f, "wrong after a crash: {place}: {mismatch}"),
            Self::LostFromTheMiddle { shard, certain_at, asked_at } => write!(
                f,
                "lost from the middle: shard {shard} lost a change answered at {certain_at} and kept one asked for \
                 at {asked_at}"
            ),
            Self::WrongComparison(place, outcome) => write!(f, "wrong comparison: {place}: {outcome:?}"),
            Self::UnfairAnswer { number, outcome } => {
                write!(f, "unfair answer: request {number}: {outcome:?}")
            }
            Self::SeenAndDenied { number } => {
                write!(f, "request {number} had an effect, but its answer denies it")
            }
            Self::StrayAnswer(number) => write!(f, "stray answer for request {number}"),
            Self::Stopped(shard, failure) => write!(f, "shard {shard} stopped for no reason: {failure}"),
            Self::SegmentsNotOwned(shard, segments) => {
                write!(f, "shard {shard} deals in segments that are not all its own: {segments:?}")
            }
            Self::UnknownVolume(shard, volume) => {
                write!(f, "shard {shard} lists volume {}, which nobody made", volume.0)
            }
            Self::Stuck { open } => write!(f, "stuck with {open} open requests"),
            Self::Stalled { pool, accounts } => {
                write!(f, "stalled with {pool:?} segments free in the pool")?;
                accounts.iter().try_for_each(|account| write!(f, "\n  {account}"))
            }
            Self::Slow { open } => write!(f, "no end in sight with {open} open requests"),
            Self::BuffersLost(count) => write!(f, "{count} buffers did not come home"),
            Self::SpaceLost { shard, mapped_bytes, segments } => write!(
                f,
                "space lost: shard {shard} still maps {mapped_bytes} bytes and owns {segments} segments"
            ),
            Self::Miscounted { shard, ran, found } => {
                write!(f, "shard {shard} counted {ran} live bytes where {found} are live")
            }
            Self::Miscount { shard, what } => write!(f, "shard {shard}: {what}"),
            Self::FenceCrossed { number } => write!(f, "command {number} came through a fence"),
            Self::UnfairStatus { number, status } => {
                write!(f, "command {number} ended with status {:?}", nvme::Status::from_bits(*status))
            }
            Self::ThrownOff { host, qid, failure } => {
                write!(f, "host {host} was thrown off, seen on queue {qid}: {failure}")
            }
            Self::NoCut { snapshot, certain_at, asked_at } => write!(
                f,
                "snapshot {snapshot} is no cut: it has a change asked for at {asked_at}, but not one answered at \
                 {certain_at}"
            ),
            Self::WrongDiff { base, snapshot, block, changed } => {
                write!(f, "wrong diff of snapshots {base:?} and {snapshot}: block {block} changed: {changed}")
            }
            Self::WrongUsage { name, told, expected } => {
                write!(f, "{name} is said to map {told} bytes, not {expected}")
            }
            Self::HalfDone(what) => write!(f, "half done: {what}"),
            Self::Interrupted => write!(f, "interrupted"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

impl std::error::Error for Violation {}
