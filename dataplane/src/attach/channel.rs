//! The I/O queue of an attachment: runs tasks, as many at once as the queue is deep, until all have ended.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use host::nvme::Sqe;
use host::nvme::command::{IoFlags, LbaRange, NvmOpcode};
use host::{Cid, Completion, Fault, Payload, Phase, Queue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Stretch;
use crate::load::LoadError;
use crate::load::clock::Stopwatch;

/// One command to be.
#[derive(Debug)]
pub(super) enum Task {
    /// Reads a piece to a place in the caller's buffer.
    Read { piece: Stretch, place: usize },
    /// Writes a piece.
    Write { piece: Stretch, bytes: Vec<u8> },
    /// Makes a piece zero.
    WriteZeroes(Stretch),
    /// Makes what was written safe.
    Flush,
}

/// The queue and its socket, which does not block.
#[derive(Debug)]
pub(super) struct Channel {
    queue: Queue<Vec<u8>>,
    socket: TcpStream,
    clock: Stopwatch,
    nsid: u32,
    lba_bytes: u32,
    depth: usize,
    transfer_max_bytes: u64,
    buffer: Vec<u8>,
    /// Blocks of memory to read into, once used.
    spare: Vec<Vec<u8>>,
}

/// What a command under way is for.
#[derive(Clone, Copy, Debug)]
struct Flight {
    what: &'static str,
    /// Where what is read goes.
    place: usize,
}

impl Channel {
    pub(super) fn new(
        queue: Queue<Vec<u8>>,
        socket: TcpStream,
        clock: Stopwatch,
        nsid: u32,
        lba_bytes: u32,
        depth: usize,
        transfer_max_bytes: u64,
    ) -> Self {
        let (buffer, spare) = (vec![0; RECEIVE_BYTES], Vec::new());
        Self { queue, socket, clock, nsid, lba_bytes, depth, transfer_max_bytes, buffer, spare }
    }

    /// Cuts stretches into pieces of one command each; none is longer than `max_bytes`, nor, for data, than a transfer.
    pub(super) fn cut(&self, stretches: &[Stretch], max_bytes: u64) -> Vec<Stretch> {
        let longest = u64::from(self.lba_bytes) << 16;
        let max_bytes = if max_bytes == u64::MAX { self.transfer_max_bytes } else { max_bytes }.min(longest);
        let mut pieces = Vec::new();
        for stretch in stretches {
            let end = stretch.offset_bytes + stretch.len_bytes;
            let mut offset_bytes = stretch.offset_bytes;
            while offset_bytes < end {
                let len_bytes = max_bytes.min(end - offset_bytes);
                pieces.push(Stretch { offset_bytes, len_bytes });
                offset_bytes += len_bytes;
            }
        }
        pieces
    }

    /// Runs tasks to their end; what is read goes to its place in `to`.
    pub(super) fn perform(&mut self, tasks: Vec<Task>, to: &mut [u8]) -> Result<(), LoadError> {
        let mut tasks = tasks.into_iter().peekable();
        let mut flights: BTreeMap<Cid, Flight> = BTreeMap::new();
        let mut heard = self.clock.now();
        loop {
            while flights.len() < self.depth
                && self.queue.has_room()
                && let Some(task) = tasks.next()
            {
                let (cid, flight) = self.submit(task)?;
                flights.insert(cid, flight);
            }
            self.send()?;
            if self.receive()? {
                heard = self.clock.now();
            }
            while let Some(completion) = self.queue.poll_completion() {
                self.land(&mut flights, completion, to)?;
            }
            if flights.is_empty() && tasks.peek().is_none() {
                return Ok(());
            }
            if self.clock.now().since(heard) > SILENCE_MAX {
                return Err(LoadError::Timeout("an answer of the target", SILENCE_MAX.as_secs()));
            }
            if tasks.peek().is_none() || flights.len() >= self.depth || !self.queue.has_room() {
                self.sleep()?;
            }
        }
    }

    fn submit(&mut self, task: Task) -> Result<(Cid, Flight), LoadError> {
        let (sqe, payload, flight) = match task {
            Task::Read { piece, place } => {
                let mut room = self.spare.pop().unwrap_or_default();
                room.resize(piece.len_bytes as usize, 0);
                let sqe = self.range(piece).encode(NvmOpcode::Read, self.nsid);
                (sqe, Payload::Read(room), Flight { what: "Read", place })
            }
            Task::Write { piece, bytes } => {
                let sqe = self.range(piece).encode(NvmOpcode::Write, self.nsid);
                (sqe, Payload::Write(bytes), Flight { what: "Write", place: 0 })
            }
            Task::WriteZeroes(piece) => {
                let range = LbaRange { flags: IoFlags::DEAC, ..self.range(piece) };
                let sqe = range.encode(NvmOpcode::WriteZeroes, self.nsid);
                (sqe, Payload::None, Flight { what: "Write Zeroes", place: 0 })
            }
            Task::Flush => {
                let sqe = Sqe::new(NvmOpcode::Flush.code(), self.nsid);
                (sqe, Payload::None, Flight { what: "Flush", place: 0 })
            }
        };
        match self.queue.submit(sqe, payload) {
            Ok(cid) => Ok((cid, flight)),
            Err(_) => Err(self.fault()),
        }
    }

    fn range(&self, piece: Stretch) -> LbaRange {
        let lba_bytes = u64::from(self.lba_bytes);
        // Pieces have at most 65536 blocks.
        LbaRange::new(piece.offset_bytes / lba_bytes, (piece.len_bytes / lba_bytes) as u32)
    }

    /// Takes a command that has ended.
    fn land(
        &mut self,
        flights: &mut BTreeMap<Cid, Flight>,
        completion: Completion<Vec<u8>>,
        to: &mut [u8],
    ) -> Result<(), LoadError> {
        let Some(Flight { what, place }) = flights.remove(&completion.cid) else { return Ok(()) };
        let status = match completion.result {
            Ok(cqe) => cqe.status,
            Err(_) => return Err(self.fault()),
        };
        if !status.is_success() {
            return Err(LoadError::Command(what, status));
        }
        if let Payload::Read(room) = completion.payload {
            to[place..place + room.len()].copy_from_slice(&room);
            if self.spare.len() < self.depth {
                self.spare.push(room);
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), LoadError> {
        while let Some(bytes) = self.queue.poll_transmit() {
            match self.socket.write(bytes) {
                Ok(count) => self.queue.transmitted(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // What the target said before it closed is still to be read.
                Err(_) if self.queue.outstanding() > 0 => return Ok(()),
                Err(source) => return Err(LoadError::System { action: "send to the target", source }),
            }
        }
        Ok(())
    }

    /// Takes what has arrived. True if anything has.
    fn receive(&mut self) -> Result<bool, LoadError> {
        let mut any = false;
        loop {
            match self.socket.read(&mut self.buffer) {
                Ok(0) => {
                    self.queue.handle_closed();
                    return Err(self.fault());
                }
                Ok(count) => {
                    any = true;
                    if self.queue.handle_bytes(&self.buffer[..count]).is_err() {
                        return Err(self.fault());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(source) => return Err(LoadError::System { action: "receive from the target", source }),
            }
        }
    }

    /// Waits until the socket has bytes, or takes some where there are some to send.
    fn sleep(&self) -> Result<(), LoadError> {
        let interest = if self.queue.is_drained() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut sockets = [PollFd::new(&self.socket, interest)];
        match poll(&mut sockets, Some(&SLEEP_MAX)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(LoadError::System { action: "wait for a socket", source: errno.into() }),
        }
    }

    /// Why the queue is over.
    fn fault(&self) -> LoadError {
        let fault = match self.queue.phase() {
            Phase::Closed(fault) => fault.clone(),
            _ => Fault::Closed,
        };
        LoadError::Queue { qid: 1, fault }
    }
}

/// Bytes that one receive takes at most.
const RECEIVE_BYTES: usize = 256 << 10;
/// How long a target may leave the queue without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SLEEP_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
