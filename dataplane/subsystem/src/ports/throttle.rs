//! Limited namespaces: commands wait here, before their data is asked for, until their share of the namespace's rate
//! has come. They are neither held nor running, so neighbours on the same queue pass them, and an Abort, a dropped queue
//! or a fence finds nothing that it would have to wait for.
//!
//! The rate itself is kept by one reactor for all; the others draw slices of it ([`Draw`]) and spend them here.

use std::collections::{BTreeMap, VecDeque};

use super::command::Plan;
use crate::connection::Slot;
use crate::slab::Key;

/// What is asked for is this part of a second's worth, and given where the namespace has been below its rate: few
/// messages, little that lies unused on a reactor.
const SLICES_PER_SECOND: u64 = 500;

/// What commands of one direction may do in a second; zero is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Commands.
    pub ios: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The rates of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Read, Compare and Verify.
    pub read: Rate,
    /// Write, Write Zeroes, Dataset Management and fused pairs.
    pub write: Rate,
}

/// Which of the two rates a command spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the namespace.
    Read,
    /// To the namespace.
    Write,
}

/// An amount of a namespace's rate: asked for, or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The namespace.
    pub nsid: u32,
    /// Which rate.
    pub direction: Direction,
    /// Commands: as many as can be used, of which one at least is given.
    pub ios: u64,
    /// Bytes: as many as can be used.
    pub bytes: u64,
    /// Bytes that are given at least, because the first command that waits lacks so many, 0 <= this <= `bytes`.
    pub bytes_least: u64,
}

/// The limited namespaces of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    namespaces: BTreeMap<u32, [Lane; 2]>,
}

/// One direction of a limited namespace.
#[derive(Debug, Default)]
struct Lane {
    rate: Rate,
    /// Drawn and not yet spent.
    ios: u64,
    bytes: u64,
    waiting: VecDeque<Waiter>,
    /// A draw is under way.
    asked: bool,
}

/// A command that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) key: Key,
    pub(crate) slot: Slot,
    bytes: u64,
}

impl Rates {
    /// True where nothing is limited.
    #[must_use]
    pub fn are_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// The rate of one direction.
    #[must_use]
    pub const fn of(&self, direction: Direction) -> Rate {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        }
    }
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];
}

impl Throttle {
    /// Other rates for a namespace. Where it is limited no more, its waiters are to be let go: they come from
    /// [`Throttle::take_ready`].
    pub(crate) fn set(&mut self, nsid: u32, rates: Rates) {
        if rates.are_unlimited() && !self.namespaces.contains_key(&nsid) {
            return;
        }
        let lanes = self.namespaces.entry(nsid).or_default();
        for (lane, direction) in lanes.iter_mut().zip(Direction::ALL) {
            lane.rate = rates.of(direction);
            // What was drawn by the old rate may be more than the new one gives in a long time.
            (lane.ios, lane.bytes) = (0, 0);
        }
    }

    /// True where commands of the namespace may have to wait.
    pub(crate) fn limits(&self, nsid: u32) -> bool {
        self.namespaces.contains_key(&nsid)
    }

    /// Whether a command may go on now. Where not, it waits, and the draw is what has to be asked for, if anything.
    pub(crate) fn admit(&mut self, nsid: u32, plan: &Plan, key: Key, slot: Slot) -> Admission {
        if self.namespaces.is_empty() {
            return Admission::Now;
        }
        let Some(lanes) = self.namespaces.get_mut(&nsid) else { return Admission::Now };
        let Some((direction, bytes)) = cost(plan) else { return Admission::Now };
        let lane = &mut lanes[direction as usize];
        if lane.waiting.is_empty() && lane.spend(bytes) {
            return Admission::Now;
        }
        lane.waiting.push_back(Waiter { key, slot, bytes });
        Admission::Waits(lane.ask(nsid, direction))
    }

    /// A draw was granted.
    pub(crate) fn on_granted(&mut self, draw: &Draw) {
        if let Some(lanes) = self.namespaces.get_mut(&draw.nsid) {
            let lane = &mut lanes[draw.direction as usize];
            lane.asked = false;
            lane.ios += draw.ios;
            lane.bytes += draw.bytes;
        }
    }

    /// The next command of the namespace whose share has come. Once there is none, `draw` gets what has to be asked for.
    pub(crate) fn take_ready(&mut self, nsid: u32, draw: &mut impl FnMut(Draw)) -> Option<Waiter> {
        let lanes = self.namespaces.get_mut(&nsid)?;
        for (lane, direction) in lanes.iter_mut().zip(Direction::ALL) {
            if let Some(first) = lane.waiting.front().copied() {
                if lane.spend(first.bytes) {
                    return lane.waiting.pop_front();
                }
                if let Some(wanted) = lane.ask(nsid, direction) {
                    draw(wanted);
                }
            }
        }
        if lanes.iter().all(|lane| lane.rate == Rate::default() && lane.waiting.is_empty()) {
            self.namespaces.remove(&nsid);
        }
        None
    }

    /// A command that waited was answered.
    pub(crate) fn forget(&mut self, nsid: u32, key: Key, slot: Slot) {
        self.retain(Some(nsid), |waiter| (waiter.key, waiter.slot) != (key, slot));
    }

    /// A queue is gone.
    pub(crate) fn forget_queue(&mut self, key: Key) {
        self.retain(None, |waiter| waiter.key != key);
    }

    fn retain(&mut self, nsid: Option<u32>, keep: impl Fn(&Waiter) -> bool) {
        for (_, lanes) in self.namespaces.iter_mut().filter(|(at, _)| nsid.is_none_or(|nsid| nsid == **at)) {
            for lane in lanes {
                if !lane.waiting.is_empty() {
                    lane.waiting.retain(&keep);
                }
            }
        }
    }
}

/// The answer of [`Throttle::admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    Waits(Option<Draw>),
}

impl Lane {
    fn spend(&mut self, bytes: u64) -> bool {
        let limited_ios = self.rate.ios > 0;
        let limited_bytes = self.rate.bytes > 0;
        if limited_ios && self.ios == 0 || limited_bytes && self.bytes < bytes {
            return false;
        }
        if limited_ios {
            self.ios -= 1;
        }
        if limited_bytes {
            self.bytes -= bytes;
        }
        true
    }

    /// What the first waiter lacks, at least a slice of it.
    fn ask(&mut self, nsid: u32, direction: Direction) -> Option<Draw> {
        if self.asked {
            return None;
        }
        let first = self.waiting.front()?;
        let slice = |rate: u64, lacks: u64| if lacks > 0 { lacks.max(rate / SLICES_PER_SECOND) } else { 0 };
        let ios = if self.rate.ios > 0 { slice(self.rate.ios, 1u64.saturating_sub(self.ios)) } else { 0 };
        let bytes_least = if self.rate.bytes > 0 { first.bytes.saturating_sub(self.bytes) } else { 0 };
        let bytes = slice(self.rate.bytes, bytes_least);
        self.asked = true;
        Some(Draw { nsid, direction, ios, bytes, bytes_least })
    }
}

/// What a command spends; a Flush moves nothing.
fn cost(plan: &Plan) -> Option<(Direction, u64)> {
    match plan {
        Plan::Flush => None,
        Plan::Read { range } | Plan::Compare { range } | Plan::Verify { range } => {
            Some((Direction::Read, range.len_bytes))
        }
        Plan::Write { range, .. } => Some((Direction::Write, range.len_bytes)),
        Plan::WriteZeroes { .. } | Plan::DatasetManagement(_) => Some((Direction::Write, 0)),
    }
}
