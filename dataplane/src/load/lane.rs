//! One I/O queue under load: keeps its commands outstanding, sends, receives, counts what completes.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use host::nvme::command::{LbaRange, NvmOpcode};
use host::nvme::{Sqe, Status};
use host::{Cid, Completion, Fault, Payload, Phase, Queue};
use io::Time;

use super::error::LoadError;
use super::histogram::Histogram;
use super::payload::{Mismatch, Payloads};
use super::plan::{Plan, Step};

/// Bytes of small PDUs that one send gathers by copying.
const STAGED_BYTES: usize = 64 << 10;
/// Most slices in a gathered send.
const SLICES: usize = 96;

/// Memory of one command, which goes down with it and comes back with its completion.
#[derive(Debug)]
pub(super) struct Block {
    slot: u16,
    bytes: Box<[u8]>,
}

/// What every command of a load has in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Which of the loads that run together.
    pub(super) load: usize,
    pub(super) nsid: u32,
    pub(super) block_bytes: usize,
    /// Logical blocks in a command.
    pub(super) unit_blocks: u32,
    pub(super) queue_depth: u16,
    /// Between two commands of a queue, where their rate is limited.
    pub(super) interval: Option<Duration>,
    pub(super) flush: bool,
    pub(super) verify: bool,
    /// Small PDUs are copied together before they are sent; else payloads are gathered without a copy.
    pub(super) staged: bool,
    /// When the measurement begins.
    pub(super) from: Time,
    /// When it ends.
    pub(super) until: Time,
}

/// A command that is outstanding.
#[derive(Clone, Copy, Debug)]
struct Slot {
    started: Time,
    step: Step,
    version: u64,
}

/// What a queue has counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Latencies of reads within the measurement.
    pub(super) reads: Histogram,
    /// Latencies of writes within the measurement.
    pub(super) writes: Histogram,
    /// Commands that succeeded, those outside of the measurement too.
    pub(super) completed: u64,
    /// Commands that failed, by status without its hints.
    pub(super) errors: BTreeMap<u16, u64>,
    /// Units read and checked.
    pub(super) checked: u64,
    /// Units read of which nothing was known.
    pub(super) unknown: u64,
    /// Units that were wrong.
    pub(super) mismatches: u64,
    /// The first that was.
    pub(super) first_mismatch: Option<Mismatch>,
    /// System calls that sent.
    pub(super) sends: u64,
    /// System calls that received.
    pub(super) receives: u64,
}

/// One queue under load.
#[derive(Debug)]
pub(super) struct Lane {
    qid: u16,
    queue: Queue<Block>,
    socket: TcpStream,
    shape: Shape,
    plan: Plan,
    payloads: Payloads,
    free: Vec<Block>,
    /// When the next command is due, where their rate is limited.
    due: Option<Time>,
    slots: Vec<Slot>,
    /// Writes that succeeded and wait for their Flush.
    flushing: Vec<(Cid, Block)>,
    staging: Vec<u8>,
    staged_sent: usize,
    /// Room for the slices of a send, empty between sends.
    slices: Vec<&'static [u8]>,
    reading_back: bool,
    tally: Tally,
}

impl Lane {
    /// A queue that is live on `socket`, which does not block.
    pub(super) fn new(
        qid: u16,
        queue: Queue<Block>,
        socket: TcpStream,
        shape: Shape,
        plan: Plan,
        payloads: Payloads,
    ) -> Self {
        let block = |slot| {
            let mut bytes = vec![0; shape.block_bytes].into_boxed_slice();
            payloads.prepare(&mut bytes, u64::from(qid) << 16 | u64::from(slot));
            Block { slot, bytes }
        };
        let idle = Slot { started: Time(0), step: Step { read: true, unit: 0 }, version: 0 };
        Self {
            free: (0..shape.queue_depth).map(block).collect(),
            slots: vec![idle; usize::from(shape.queue_depth)],
            due: None,
            flushing: Vec::with_capacity(usize::from(shape.queue_depth)),
            staging: Vec::with_capacity(STAGED_BYTES),
            staged_sent: 0,
            slices: Vec::with_capacity(SLICES),
            reading_back: false,
            tally: Tally::new(),
            qid,
            queue,
            socket,
            shape,
            plan,
            payloads,
        }
    }

    /// Says when the measurement begins and ends.
    pub(super) fn measure(&mut self, from: Time, until: Time) {
        (self.shape.from, self.shape.until) = (from, until);
    }

    /// Keeps as many commands outstanding as there are blocks, then sends what is due. True if anything moved.
    pub(super) fn fill_and_send(&mut self, now: Time, stopping: bool) -> Result<bool, LoadError> {
        while !stopping && self.queue.has_room() && !self.free.is_empty() {
            let Some(begin) = self.begin(now) else { break };
            let Some(step) = self.plan.next() else { break };
            self.submit(step, begin);
        }
        let sent = if self.shape.staged { self.send_staged() } else { self.send_gathered() };
        match sent {
            Ok(count) => Ok(count > 0),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            // What the target said before it closed is still to be read.
            Err(_) if self.queue.outstanding() > 0 => Ok(false),
            Err(source) => Err(LoadError::System { action: "send to the target", source }),
        }
    }

    /// When the next command may begin, if it is time for it: now, or where the rate is limited when it was due.
    fn begin(&mut self, now: Time) -> Option<Time> {
        let Some(interval) = self.shape.interval.filter(|_| !self.reading_back) else { return Some(now) };
        let due = *self.due.get_or_insert(now);
        if due > now {
            return None;
        }
        self.due = Some(due + interval);
        Some(due)
    }

    /// How long until the next command is due, where only the rate holds it back.
    pub(super) fn idle_for(&self, now: Time) -> Option<Duration> {
        let due = self.due.filter(|_| !self.reading_back && !self.free.is_empty())?;
        Some(due.since(now))
    }

    /// Takes what has arrived into `buffer` and through the queue. True if anything has.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, LoadError> {
        self.tally.receives += 1;
        match self.socket.read(buffer) {
            Ok(0) => {
                self.queue.handle_closed();
                Err(self.fault())
            }
            Ok(count) => match self.queue.handle_bytes(&buffer[..count]) {
                Ok(()) => Ok(true),
                Err(fault) => Err(LoadError::Queue { qid: self.qid, fault }),
            },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(source) => Err(LoadError::System { action: "receive from the target", source }),
        }
    }

    /// Counts what has completed by `now`. True if anything has.
    pub(super) fn reap(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(completion) = self.queue.poll_completion() {
            self.on_completion(completion, now);
            any = true;
        }
        any
    }

    /// Begins to read back what was written; call it with nothing outstanding. False where there is nothing to verify.
    pub(super) fn read_back(&mut self) -> bool {
        if self.shape.verify && !self.reading_back {
            self.reading_back = true;
            self.plan.read_back();
            return true;
        }
        false
    }

    /// True while what was written is read back.
    pub(super) fn is_reading_back(&self) -> bool {
        self.reading_back
    }

    /// Commands that have not completed, with their Flush.
    pub(super) fn outstanding(&self) -> usize {
        self.queue.outstanding()
    }

    /// True if there are bytes that the socket has not taken.
    pub(super) fn wants_send(&self) -> bool {
        self.staged_sent < self.staging.len() || !self.queue.is_drained()
    }

    /// The socket, to wait for it.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Which of the loads that run together it is of.
    pub(super) fn load(&self) -> usize {
        self.shape.load
    }

    /// Bytes of the commands that succeeded.
    pub(super) fn completed_bytes(&self) -> u64 {
        self.tally.completed * self.shape.block_bytes as u64
    }

    /// What was counted.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn submit(&mut self, step: Step, now: Time) {
        let Some(mut block) = self.free.pop() else { return };
        let lba = step.unit * u64::from(self.shape.unit_blocks);
        let range = LbaRange::new(lba, self.shape.unit_blocks);
        let mut version = 0;
        let slot = block.slot;
        let (opcode, payload) = if step.read {
            (NvmOpcode::Read, Payload::Read(block))
        } else {
            version = self.plan.next_version();
            self.payloads.stamp(&mut block.bytes, lba, version);
            (NvmOpcode::Write, Payload::Write(block))
        };
        self.slots[usize::from(slot)] = Slot { started: now, step, version };
        if let Err(rejected) = self.queue.submit(range.encode(opcode, self.shape.nsid), payload) {
            // Only once the queue has closed, which the next receive reports.
            if let Payload::Read(block) | Payload::Write(block) = rejected.payload {
                self.free.push(block);
            }
        }
    }

    fn on_completion(&mut self, completion: Completion<Block>, now: Time) {
        let status = completion.result.map_or(Status::TRANSIENT_TRANSPORT_ERROR, |cqe| cqe.status);
        match completion.payload {
            Payload::Write(block) if self.shape.flush && status.is_success() => self.flush(block, now),
            Payload::Read(block) | Payload::Write(block) => self.finish(block, status, now),
            Payload::None => {
                let index = self.flushing.iter().position(|(cid, _)| *cid == completion.cid);
                if let Some(index) = index {
                    let (_, block) = self.flushing.swap_remove(index);
                    self.finish(block, status, now);
                }
            }
        }
    }

    /// Sends the Flush that belongs to a write; the write has just left an entry free for it.
    fn flush(&mut self, block: Block, now: Time) {
        let sqe = Sqe::new(NvmOpcode::Flush.code(), self.shape.nsid);
        match self.queue.submit(sqe, Payload::None) {
            Ok(cid) => self.flushing.push((cid, block)),
            Err(_) => self.finish(block, Status::TRANSIENT_TRANSPORT_ERROR, now),
        }
    }

    fn finish(&mut self, block: Block, status: Status, now: Time) {
        let Slot { started, step, version } = self.slots[usize::from(block.slot)];
        if status.is_success() {
            self.tally.completed += 1;
            if now >= self.shape.from && now < self.shape.until && !self.reading_back {
                let latency = now.since(started).as_nanos() as u64;
                let histogram = if step.read { &mut self.tally.reads } else { &mut self.tally.writes };
                histogram.add(latency);
            }
        } else {
            *self.tally.errors.entry(Status::bits(status) & 0x7ff).or_default() += 1;
        }
        if !step.read {
            self.plan.on_written(step.unit, version, status.is_success());
        } else {
            if self.shape.verify && status.is_success() {
                self.check(&block, step.unit);
            }
            self.plan.on_read(step.unit);
        }
        self.free.push(block);
    }

    fn check(&mut self, block: &Block, unit: u64) {
        let expected = self.plan.expected(unit);
        let lba = unit * u64::from(self.shape.unit_blocks);
        match self.payloads.check(&block.bytes, lba, expected) {
            Ok(true) => self.tally.checked += 1,
            Ok(false) => self.tally.unknown += 1,
            Err(mismatch) => {
                self.tally.checked += 1;
                self.tally.mismatches += 1;
                self.tally.first_mismatch.get_or_insert(mismatch);
            }
        }
    }

    fn send_staged(&mut self) -> std::io::Result<usize> {
        if self.staged_sent == self.staging.len() {
            self.staging.clear();
            self.staged_sent = 0;
        }
        while self.staging.len() < STAGED_BYTES
            && let Some(bytes) = self.queue.poll_transmit()
        {
            self.staging.extend_from_slice(bytes);
            let count = bytes.len();
            self.queue.transmitted(count);
        }
        if self.staging.is_empty() {
            return Ok(0);
        }
        self.tally.sends += 1;
        let sent = self.socket.write(&self.staging[self.staged_sent..])?;
        self.staged_sent += sent;
        Ok(sent)
    }

    fn send_gathered(&mut self) -> std::io::Result<usize> {
        let mut total = 0;
        loop {
            let mut slices = recycle(std::mem::take(&mut self.slices));
            let due = self.queue.gather(&mut slices);
            if due == 0 {
                self.slices = recycle(slices);
                return Ok(total);
            }
            let mut parts = [IoSlice::new(&[]); SLICES];
            let count = slices.len().min(SLICES);
            for (part, slice) in parts.iter_mut().zip(&slices) {
                *part = IoSlice::new(slice);
            }
            let sent = self.socket.write_vectored(&parts[..count]);
            self.slices = recycle(slices);
            self.tally.sends += 1;
            let sent = sent?;
            self.queue.transmitted(sent);
            total += sent;
            if sent < due {
                return Ok(total);
            }
        }
    }

    /// Why the queue is over.
    fn fault(&self) -> LoadError {
        let fault = match self.queue.phase() {
            Phase::Closed(fault) => fault.clone(),
            _ => Fault::Closed,
        };
        LoadError::Queue { qid: self.qid, fault }
    }
}

impl Tally {
    /// Nothing counted.
    pub(super) fn new() -> Self {
        Self {
            reads: Histogram::new(),
            writes: Histogram::new(),
            completed: 0,
            errors: BTreeMap::new(),
            checked: 0,
            unknown: 0,
            mismatches: 0,
            first_mismatch: None,
            sends: 0,
            receives: 0,
        }
    }

    /// Commands that succeeded within the measurement.
    pub(super) fn ios(&self) -> u64 {
        self.reads.count() + self.writes.count()
    }

    /// Adds what another queue counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.reads.merge(&other.reads);
        self.writes.merge(&other.writes);
        self.completed += other.completed;
        for (status, count) in &other.errors {
            *self.errors.entry(*status).or_default() += count;
        }
        self.checked += other.checked;
        self.unknown += other.unknown;
        self.mismatches += other.mismatches;
        self.first_mismatch = self.first_mismatch.or(other.first_mismatch);
        self.sends += other.sends;
        self.receives += other.receives;
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// The same vector, emptied, for slices of another lifetime: its memory is kept.
fn recycle<'a>(mut slices: Vec<&[u8]>) -> Vec<&'a [u8]> {
    slices.clear();
    slices.into_iter().map(|_| &[][..]).collect()
}
