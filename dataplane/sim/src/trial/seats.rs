//! The shards in their places: what the engine will do between the ring and the shards, in small.

use std::sync::Arc;

use io::{Clock, DriveShape, Event, Io};
use store::{Doing, Failure, Layout, Output, Shard, ShardId, shard};

use super::plan::DRIVES_MAX;
use super::{Account, LIFE_NS_MAX, Plan, RETRIES_MAX, TURNS_MAX, Trial, Violation};
use crate::{SimBuffer, Wake};

/// One shard.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) shard: Shard<SimBuffer>,
    pub(crate) phase: Phase,
    /// Something was handed in since its last run. Without that it runs at its own deadline and never else, so that a
    /// machine that forgets to ask for another run is stuck here as it would be on an idle server.
    pub(crate) due: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Recovering,
    Ready,
    Stopping,
    Stopped,
    Failed,
}

impl Seat {
    pub(crate) fn new(layout: &Arc<Layout>, id: ShardId, plan: &Plan) -> Self {
        let shard = Shard::recover(Arc::clone(layout), id, owner(id), plan.shard_options.clone());
        Self { shard, phase: Phase::Recovering, due: true }
    }
}

/// Owner numbers are not shard numbers, so that a confusion of the two shows.
fn owner(id: ShardId) -> u16 {
    id.0 + 100
}

impl Trial {
    /// One round: events, grants, up to `requests` new requests, work, outputs.
    pub(super) fn turn(&mut self, requests: usize) -> Result<(), Violation> {
        self.turns += 1;
        let lasted = self.world.now().since(self.life_began).as_nanos();
        if self.turns > TURNS_MAX || lasted > u128::from(LIFE_NS_MAX) {
            self.trace_seats();
            return Err(Violation::Slow { open: self.open.len() });
        }
        let nothing_happens = self.world.step(&[self.deadline()], None) == Wake::Idle;
        let mut events = Vec::new();
        let now = self.io.now();
        self.io.poll(Some(now), &mut events).expect("a look at the world always succeeds");
        if !events.is_empty() {
            self.still.end(now);
        }
        for event in events {
            self.route(event);
        }
        let granted = self.answer_wants(nothing_happens);
        let mut asked = 0;
        if self.may_ask() {
            for _ in 0..requests {
                asked += usize::from(self.ask());
            }
        }
        let now = self.io.now();
        for seat in &mut self.seats {
            if std::mem::take(&mut seat.due) || seat.shard.poll_timeout().is_some_and(|time| time <= now) {
                seat.shard.run(&mut self.io, now);
            }
        }
        let answered = self.take_outputs()?;
        let moved = granted || answered || asked > 0;
        let at_work = |seat: &Seat| matches!(seat.phase, Phase::Recovering | Phase::Stopping);
        let waiting = !self.open.is_empty() || self.seats.iter().any(at_work);
        if nothing_happens && waiting && !moved && self.is_idle() {
            return Err(self.stalled());
        }
        let now = self.world.now();
        if asked > 0 || !waiting || !self.world.drives_are_idle() {
            self.still.end(now);
        }
        if self.still.has_lasted(now, self.plan.shard_options.retry * RETRIES_MAX) {
            return Err(self.stalled());
        }
        Ok(())
    }

    /// Nothing will happen any more.
    fn stalled(&self) -> Violation {
        self.trace_seats();
        let at_work = |seat: &&Seat| matches!(seat.phase, Phase::Recovering | Phase::Stopping);
        let waits = |seat: &&Seat| at_work(seat) || seat.shard.open_requests() > 0;
        let accounts = self.seats.iter().filter(waits).map(|seat| Account::of(&seat.shard)).collect();
        Violation::Stalled { pool: self.pool.is_known().then(|| self.pool.space()), accounts }
    }

    /// Says what each shard waits for.
    fn trace_seats(&self) {
        for seat in &self.seats {
            self.trace(|_| format!("shard {}: {}", seat.shard.id().0, seat.shard.describe()));
        }
    }

    /// Whether nothing will happen by itself.
    fn is_idle(&mut self) -> bool {
        let deadline = self.deadline();
        let due = self.seats.iter().any(|seat| seat.due);
        !due && self.world.step(&[deadline], None) == Wake::Idle
    }

    fn deadline(&self) -> Option<io::Time> {
        self.seats.iter().filter_map(|seat| seat.shard.poll_timeout()).min()
    }

    /// Hands an event to the shard that its token names.
    fn route(&mut self, event: io::EventOf<crate::SimIo<()>>) {
        let (Event::Read { token, .. } | Event::Written { token, .. } | Event::Flushed { token, .. }) =
            &event
        else {
            unreachable!("a trial has nothing but drives")
        };
        let token = *token;
        let seat = usize::from(shard::owner_of(token) - owner(ShardId(0)));
        self.seats[seat].due = true;
        let machine = &mut self.seats[seat].shard;
        match event {
            Event::Read { buffer, result, .. } => machine.handle_read(token, buffer, result),
            Event::Written { buffer, result, .. } => machine.handle_written(token, buffer, result),
            Event::Flushed { result, .. } => machine.handle_flushed(token, result),
            _ => {}
        }
    }

    /// Answers questions for segments, as late as mail can be. True if one was answered.
    fn answer_wants(&mut self, at_once: bool) -> bool {
        if !self.pool.is_known() {
            return false;
        }
        let mut answered = false;
        while let Some((shard, cleaning)) = self.pool.wants.front().copied() {
            if !at_once && self.random.one_in(3) {
                break;
            }
            self.pool.wants.pop_front();
            let grant = self.pool.grant(shard, cleaning);
            self.report.granted_segments += u64::from(grant.is_some());
            if grant.is_some() {
                self.still.end(self.world.now());
            }
            self.trace(|_| format!("shard {shard} wants a segment (cleaning: {cleaning}): {grant:?}"));
            self.seats[shard].shard.handle_grant(grant);
            self.seats[shard].due = true;
            answered = true;
        }
        if answered {
            self.tell_space();
        }
        answered
    }

    /// A blank drive joins the pool, unless it has enough.
    pub(super) fn join_drive(&mut self) {
        if self.plan.drives.len() >= DRIVES_MAX {
            return;
        }
        let overhead = (1 << 20) + u64::from(self.layout.shards()) * 4096;
        let segments = self.random.between(1, 12) * u64::from(self.layout.segment_bytes());
        let size_bytes = overhead.next_multiple_of(1 << 20) + segments;
        let shape = DriveShape { size_bytes, ..self.plan.drives[0] };
        self.world.add_drive(shape);
        self.plan.drives.push(shape);
        self.plan.geometry.drive_bytes.push(size_bytes);
        self.layout = Arc::new(self.plan.layout());
        self.trace(|trial| format!("a drive joins: {} segments now", trial.layout.segments()));
        for seat in &mut self.seats {
            seat.shard.handle_layout(Arc::clone(&self.layout));
        }
        self.pool.grow(&self.layout);
        self.report.joined += 1;
        self.tell_space();
    }

    fn tell_space(&mut self) {
        let (free, total) = self.pool.space();
        for seat in &mut self.seats {
            seat.shard.handle_pool_space(free, total);
            seat.due = true;
        }
    }

    /// Takes what the shards have to say. True if that was anything.
    fn take_outputs(&mut self) -> Result<bool, Violation> {
        let mut any = false;
        for seat in 0..self.seats.len() {
            while let Some(output) = self.seats[seat].shard.poll_output() {
                any = true;
                if !matches!(output, Output::WantSegment { .. }) {
                    self.still.end(self.world.now());
                }
                self.take_output(seat, output)?;
            }
        }
        Ok(any)
    }

    fn take_output(&mut self, seat: usize, output: Output<SimBuffer>) -> Result<(), Violation> {
        match output {
            Output::Done { tag, outcome, buffer } => self.answered(seat, tag, outcome, buffer)?,
            Output::Forked { .. } => {}
            Output::WantSegment { cleaning } => self.pool.wants.push_back((seat, cleaning)),
            Output::Release(segments) => {
                self.trace(|_| format!("shard {seat} releases {segments:?}"));
                self.report.released_segments += segments.len() as u64;
                if !self.pool.release(seat, &segments) {
                    return Err(Violation::SegmentsNotOwned(seat, segments));
                }
                self.tell_space();
            }
            Output::Ready { segments, volumes } => {
                self.trace(|_| format!("shard {seat} is ready with {segments:?} and {volumes:?}"));
                if !self.pool.own(seat, &segments) {
                    return Err(Violation::SegmentsNotOwned(seat, segments));
                }
                self.meet_volumes(seat, &volumes)?;
                self.audit(seat)?;
                self.seats[seat].phase = Phase::Ready;
            }
            Output::Stopped => self.seats[seat].phase = Phase::Stopped,
            Output::Failed(failure) => {
                self.trace(|_| format!("shard {seat} failed: {failure}"));
                if !self.is_fair_failure(failure) {
                    return Err(Violation::Stopped(seat, failure));
                }
                self.report.failed_shards += 1;
                self.seats[seat].phase = Phase::Failed;
            }
        }
        Ok(())
    }

    /// Whether the drives may have made a shard stop.
    fn is_fair_failure(&self, failure: Failure) -> bool {
        match failure {
            _ if self.decayed => true,
            _ if self.is_from_away(failure) => true,
            Failure::Disk { doing: Doing::WriteLog | Doing::WriteRoot, .. } => {
                self.may_fail_by(|faults| faults.write_error_one_in)
            }
            Failure::Disk { doing: Doing::Flush, .. } => self.may_fail_by(|faults| faults.flush_error_one_in),
            Failure::Disk { doing: Doing::Recover | Doing::ReadMap, .. } => {
                self.plan.recovery.read_error_one_in > 0
            }
            _ => false,
        }
    }
}
