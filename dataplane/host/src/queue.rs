//! One queue: its phases, what it submits and what completes. Sending and receiving are in files
//! of their own.

mod command;
mod receive;
mod submission;
mod transmit;

#[cfg(test)]
mod test;

use std::collections::VecDeque;

use nvme::fabrics::ConnectResponse;
use nvme::pdu::{ADMIN_CAPSULE_DATA_MAX, Codec, Receiver};
use nvme::{Cqe, Framer, Limits, Sgl, Sqe, Status};

use crate::{Fault, QueueConfig, crc32c};
use command::{Command, Commands};
use receive::{Digest, Incoming};
use submission::SubmissionQueue;
use transmit::{Job, Transmit};

/// Identifier of an outstanding command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cid(pub u16);

/// A command's data, owned by the queue until the command completes.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<W, R = W> {
    /// No data.
    None,
    /// Data to the controller.
    Write(W),
    /// Room for data from the controller; all of it is the length asked for.
    Read(R),
}

/// Where a queue is in its life; it only moves down this list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// ICReq is sent, or about to be.
    Initialising,
    /// The connection is initialised; the queue does not connect by itself.
    Initialised,
    /// Connect is outstanding.
    Connecting,
    /// Connected.
    Live(ConnectResponse),
    /// Connect was refused with this completion.
    Refused(Cqe),
    /// Over.
    Closed(Fault),
}

/// The end of a command.
#[derive(Debug)]
pub struct Completion<W, R = W> {
    /// The command.
    pub cid: Cid,
    /// The controller's completion. One for data that failed its digest is made here, with
    /// Transient Transport Error; one by the SUCCESS flag has SQHD 0.
    pub result: Result<Cqe, Lost>,
    /// The payload; what was read is valid only with success.
    pub payload: Payload<W, R>,
}

impl<W, R> Completion<W, R> {
    /// True if the controller completed the command with success.
    pub fn is_success(&self) -> bool {
        self.result.as_ref().is_ok_and(|cqe| cqe.status.is_success())
    }
}

/// The connection ended before the command completed; whether it took effect is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection lost before the command completed")]
pub struct Lost;

/// A command that was not taken.
#[derive(Debug)]
pub struct Rejected<W, R = W> {
    /// Why.
    pub refusal: Refusal,
    /// The payload, back.
    pub payload: Payload<W, R>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue is not yet, or no longer, open for commands.
    #[error("queue is not open")]
    NotOpen,
    /// All entries are in use; try again after a completion.
    #[error("queue is full")]
    Full,
    /// More than 4 GiB of data.
    #[error("payload is longer than a command can have")]
    TooLong,
}

/// What a queue has done, counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands submitted, Connect included.
    pub commands_submitted: u64,
    /// Commands completed or lost.
    pub commands_completed: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// PDUs received whole.
    pub received_pdus: u64,
    /// PDUs sent whole.
    pub sent_pdus: u64,
    /// PDUs whose data failed its digest.
    pub data_digest_errors: u64,
}

/// A queue of a host: one NVMe/TCP connection.
#[derive(Debug)]
pub struct Queue<W, R = W> {
    config: QueueConfig,
    phase: Phase,
    framer: Framer,
    /// How PDUs to the controller are encoded.
    codec: Codec,
    /// Most data in one H2CData PDU, in bytes; from ICResp.
    h2c_data_max_bytes: u32,
    submission: SubmissionQueue,
    commands: Commands<W, R>,
    transmit: Transmit,
    incoming: Incoming,
    digest: Digest,
    completions: VecDeque<Completion<W, R>>,
    stats: Stats,
}

impl<W: AsRef<[u8]>, R: AsMut<[u8]>> Queue<W, R> {
    /// A queue that is about to send its ICReq.
    pub fn new(config: QueueConfig) -> Self {
        let limits = Limits { capsule_data_max_bytes: 0, transfer_data_max_bytes: config.c2h_data_max_bytes };
        let entries = config.entries.clamp(2, 1 << 16);
        let mut transmit = Transmit::default();
        transmit.push(Job::Raw(config.icreq().encode().to_vec()));
        Self {
            phase: Phase::Initialising,
            framer: Framer::new(Receiver::Host, limits, crc32c),
            codec: Codec::initial(crc32c),
            h2c_data_max_bytes: 0,
            submission: SubmissionQueue::new(entries),
            commands: Commands::new(entries - 1),
            transmit,
            incoming: Incoming::default(),
            digest: Digest::new(),
            completions: VecDeque::new(),
            stats: Stats::default(),
            config: QueueConfig { entries, ..config },
        }
    }

    /// Submits `sqe`, whose CID and data pointer the queue sets. Data that fits goes in the
    /// capsule. Gives the payload back if the queue is full or not open.
    pub fn submit(&mut self, sqe: Sqe, payload: Payload<W, R>) -> Result<Cid, Rejected<W, R>> {
        let mut command = Command::new(payload);
        let Some(len) = command.len() else {
            return Err(command.reject(Refusal::TooLong));
        };
        let in_capsule = command.is_write() && len <= self.capsule_room(&sqe);
        let sgl = if in_capsule {
            Sgl::InCapsule { offset_bytes: 0, len_bytes: len }
        } else {
            Sgl::Transport { len_bytes: len }
        };
        self.enqueue(sqe.with_sgl(sgl), command, in_capsule)
    }

    /// The next command that ended.
    pub fn poll_completion(&mut self) -> Option<Completion<W, R>> {
        self.completions.pop_front()
    }

    /// Changes how much data goes in a capsule, once Identify Controller has told (IOCCSZ).
    pub fn set_capsule_data_max_bytes(&mut self, bytes: u32) {
        self.config.capsule_data_max_bytes = bytes;
    }

    /// The connection is gone: every outstanding command is lost. The fault that came first stays.
    pub fn handle_closed(&mut self) {
        if !matches!(self.phase, Phase::Closed(_)) {
            let fault = if self.framer.is_idle() { Fault::Closed } else { Fault::Cut };
            self.phase = Phase::Closed(fault);
        }
        self.transmit.clear();
        for mut command in self.commands.drain() {
            let result = command.ended.take().unwrap_or(Err(Lost));
            self.finish(command, result);
        }
    }

    /// Where the queue is in its life.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Commands that have not completed.
    pub fn outstanding(&self) -> usize {
        self.commands.outstanding()
    }

    /// True if [`Queue::submit`] would take a command now.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Commands that [`Queue::submit`] would take now.
    pub fn room(&self) -> usize {
        if self.is_open() { self.commands.room().min(self.submission.room()) } else { 0 }
    }

    /// What the queue was made with.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// How PDUs to the controller are encoded now; for tests that encode their own.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Initialised | Phase::Live(_) | Phase::Refused(_))
    }

    fn enqueue(&mut self, sqe: Sqe, command: Command<W, R>, in_capsule: bool) -> Result<Cid, Rejected<W, R>> {
        if !self.is_open() {
            return Err(command.reject(Refusal::NotOpen));
        }
        if !self.has_room() {
            return Err(command.reject(Refusal::Full));
        }
        Ok(self.admit(sqe, command, in_capsule))
    }

    /// Takes a command for which there is room.
    fn admit(&mut self, mut sqe: Sqe, mut command: Command<W, R>, in_capsule: bool) -> Cid {
        command.in_capsule = in_capsule;
        self.submission.advance_tail();
        self.stats.commands_submitted += 1;
        let cid = self.commands.insert(command);
        sqe.cid = cid.0;
        self.transmit.push(Job::Capsule { sqe });
        cid
    }

    /// Bytes of data that may go in the capsule of `sqe`.
    fn capsule_room(&self, sqe: &Sqe) -> u32 {
        if self.config.qid == 0 || sqe.opcode == nvme::command::FABRICS {
            self.config.capsule_data_max_bytes.max(ADMIN_CAPSULE_DATA_MAX)
        } else {
            self.config.capsule_data_max_bytes
        }
    }

    /// Ends a command that no PDU to be sent points into any more.
    fn finish(&mut self, command: Command<W, R>, result: Result<Cqe, Lost>) {
        self.stats.commands_completed += 1;
        let result = match result {
            Ok(mut cqe) if command.digest_failed && cqe.status.is_success() => {
                cqe.status = Status::TRANSIENT_TRANSPORT_ERROR;
                Ok(cqe)
            }
            other => other,
        };
        if let Some((cid, payload)) = command.into_payload() {
            self.completions.push_back(Completion { cid, result, payload });
        }
    }
}
