//! One NVMe/TCP connection: from received bytes to commands with their data, from responses to gathered sends.
//!
//! The owner feeds [`Connection::on_received`], takes [`Connection::poll_arrival`] until `None`, answers each command
//! with [`Connection::respond`] (asking for data in between with [`Connection::request_data`]), and carries out what
//! [`Connection::poll_io`] says. Before each arrival it may take plain commands that came whole, by
//! [`Connection::peek_plain`] and [`Connection::take_plain`]. Nothing received is copied unless it came in
//! parts; nothing is held beyond the limits; after a fault of the host nothing is read on but the end of the
//! stream.

mod cid_set;
mod digest;
mod exchange;
mod receive;
mod transmit;

use std::collections::VecDeque;

use io::{Buffer, Memory, NetError, Purpose, SendList, Slice, Time};
use nvme::pdu::{IcReq, IcResp, PduType, R2t, Receiver, TermReq};
use nvme::{Cqe, Framer, Limits, PduError, Sqe, Status};

use crate::{Pieces, TransportStats, limits};

pub(crate) use exchange::Slot;

use digest::crc32c;
use exchange::Exchanges;
use receive::Body;
use transmit::Transmit;

/// Something that the owner of the connection must act on.
#[derive(Debug)]
pub(crate) enum Arrival<B: Buffer> {
    /// A command capsule is complete.
    Command {
        /// Names it from now on.
        slot: Slot,
        /// The command.
        sqe: Sqe,
        /// Its in-capsule data; an error is to be answered.
        data: Result<Option<Slice<B::Shared>>, Status>,
    },
    /// What [`Connection::request_data`] asked for is complete; an error is to be answered.
    Data {
        /// Whose.
        slot: Slot,
        /// The data.
        data: Result<Slice<B::Shared>, Status>,
    },
}

/// What the socket is to do.
#[derive(Debug)]
pub(crate) enum SocketOp<B: Buffer> {
    Receive,
    ReceiveInto { buffer: B, start: usize, end: usize },
    Send(SendList<B>),
    Close,
}

/// The queue that the connection carries, as Connect makes it known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueRules {
    /// Entries of the submission queue.
    pub(crate) entries: u32,
    /// False where the host disabled SQ flow control.
    pub(crate) flow_control: bool,
    /// A successful Read may be answered by the SUCCESS flag where flow control is disabled.
    pub(crate) success_flag: bool,
    /// Whose memory payloads take.
    pub(crate) purpose: Purpose,
    /// Bytes of payload that the connection may hold.
    pub(crate) bytes_max: u32,
}

/// What became of a try to grant an R2T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Nothing waits, or the connection's own quota is used up.
    Nothing,
    /// An R2T for this many bytes goes out.
    Granted(u32),
    /// The owner's budget is used up.
    OverBudget,
    /// There is no memory.
    NoMemory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing but ICReq may come, until the deadline.
    Initializing,
    /// PDUs flow.
    Open,
    /// What waits is sent, then the connection is closed; nothing is read.
    Finishing { until: Time },
    /// A termination request was sent; what comes is thrown away until the host closes or the deadline.
    Terminating { until: Time },
    /// To be closed now.
    Closing,
    /// [`SocketOp::Close`] has been given out.
    Closed,
}

/// What receive is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    Plain,
    /// Into the buffer of the capsule that is being gathered.
    IntoCapsule,
    /// Into the buffer of this command's transfer.
    IntoTransfer(Slot),
}

#[derive(Debug)]
pub(crate) struct Connection<B: Buffer> {
    phase: Phase,
    framer: Framer,
    /// What was received and not read yet: the memory and how far it is read.
    input: Option<(Slice<B::Shared>, usize)>,
    receiving: Receiving,
    body: Body<B>,
    exchanges: Exchanges<B>,
    /// Commands that wait for an R2T, with the length of their data.
    ungranted: VecDeque<(Slot, u32)>,
    transmit: Transmit<B>,
    rules: QueueRules,
    /// The submission queue's head, 0 <= head < entries.
    head: u32,
    /// Bytes charged to the quota by commands and by data that is not sent yet.
    charged_bytes: u32,
    /// Nothing is read while the owner says so.
    paused: bool,
    /// From when the host counts as connected in time; `None` once it is.
    connect_deadline: Option<Time>,
    stats: TransportStats,
}

impl<B: Buffer> Connection<B> {
    /// A connection that has just arrived.
    pub(crate) fn new(now: Time) -> Self {
        let bounds = Limits {
            capsule_data_max_bytes: nvme::pdu::ADMIN_CAPSULE_DATA_MAX,
            transfer_data_max_bytes: limits::H2C_DATA_BYTES_MAX,
        };
        Self {
            phase: Phase::Initializing,
            framer: Framer::new(Receiver::Controller, bounds, crc32c),
            input: None,
            receiving: Receiving::Nothing,
            body: Body::None,
            exchanges: Exchanges::new(),
            ungranted: VecDeque::new(),
            transmit: Transmit::new(),
            // Before Connect there is one command at a time.
            rules: QueueRules {
                entries: 2,
                flow_control: true,
                success_flag: false,
                purpose: Purpose::Admin,
                bytes_max: limits::ADMIN_BYTES_MAX,
            },
            head: 0,
            charged_bytes: 0,
            paused: false,
            connect_deadline: Some(now + limits::CONNECT_DEADLINE),
            stats: TransportStats { connections_opened: 1, ..TransportStats::default() },
        }
    }

    /// [`io::Event::Received`].
    pub(crate) fn on_received(&mut self, result: Result<Option<B>, NetError>) {
        self.receiving = Receiving::Nothing;
        match (result, self.phase) {
            (_, Phase::Closing | Phase::Closed | Phase::Finishing { .. }) => {}
            (Ok(Some(_)), Phase::Terminating { .. }) => {}
            (Ok(Some(buffer)), Phase::Initializing | Phase::Open) => {
                assert!(self.input.is_none(), "one receive at a time, and only once the last is read");
                self.input = Some((Slice::whole(buffer.share()), 0));
            }
            (Ok(None) | Err(_), _) => self.close_now(),
        }
    }

    /// [`io::Event::ReceivedInto`].
    pub(crate) fn on_received_into(&mut self, buffer: B, result: Result<usize, NetError>) {
        let target = std::mem::replace(&mut self.receiving, Receiving::Nothing);
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let Some(count @ 1..) = result.ok().and_then(|count| u32::try_from(count).ok()) else {
            return self.close_now();
        };
        self.framer.skip_data(count);
        self.stats.payload_received_bytes += u64::from(count);
        match target {
            Receiving::IntoCapsule => self.body.give_back(buffer, count),
            Receiving::IntoTransfer(slot) => {
                self.exchanges.give_back(slot, buffer);
                self.body.note_transferred(count);
            }
            Receiving::Nothing | Receiving::Plain => unreachable!("a receive into a buffer was under way"),
        }
    }

    /// [`io::Event::Sent`].
    pub(crate) fn on_sent(&mut self, list: SendList<B>, result: Result<(), NetError>) {
        let charge = self.transmit.on_sent(list);
        self.charged_bytes -= charge;
        if result.is_err() && self.phase != Phase::Closed {
            self.close_now();
        }
    }

    /// Applies what Connect agreed on.
    pub(crate) fn set_rules(&mut self, rules: QueueRules, capsule_bytes_max: u32) {
        self.rules = rules;
        // The Connect is the first capsule of the queue that it makes.
        self.head = 1;
        self.connect_deadline = None;
        self.framer.set_limits(Limits {
            capsule_data_max_bytes: capsule_bytes_max,
            transfer_data_max_bytes: limits::H2C_DATA_BYTES_MAX,
        });
    }

    /// While paused nothing is read.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// True if `bytes` more fit the quota; they are charged to the command then. One command always fits.
    pub(crate) fn admit(&mut self, slot: Slot, bytes: u32) -> bool {
        let admitted = self.has_room(bytes);
        if admitted {
            self.charged_bytes += bytes;
            self.exchanges.charge(slot, bytes);
        }
        admitted
    }

    /// True if `bytes` more fit the quota.
    fn has_room(&self, bytes: u32) -> bool {
        self.charged_bytes == 0 || self.charged_bytes.saturating_add(bytes) <= self.rules.bytes_max
    }

    /// Asks for the data of a command; an R2T goes out when there is memory for it.
    pub(crate) fn request_data(&mut self, slot: Slot, len: u32) {
        assert!(len > 0);
        assert!(len <= limits::TRANSFER_BYTES_MAX);
        self.ungranted.push_back((slot, len));
    }

    /// True if a command waits for an R2T.
    pub(crate) fn wants_grant(&self) -> bool {
        !self.ungranted.is_empty()
    }

    /// Grants the next R2T if the quota, `budget` and the memory allow it.
    pub(crate) fn grant(&mut self, budget: usize, now: Time, memory: &mut impl Memory<Buffer = B>) -> Grant {
        let Some(&(slot, len)) = self.ungranted.front() else { return Grant::Nothing };
        let reserved = self.exchanges.reserved_bytes();
        if reserved > 0 && reserved + len > limits::CONNECTION_R2T_BYTES_MAX {
            return Grant::Nothing;
        }
        if len as usize > budget {
            return Grant::OverBudget;
        }
        let Some(buffer) = memory.allocate(len as usize, self.rules.purpose) else {
            self.stats.memory_waits += 1;
            return Grant::NoMemory;
        };
        self.ungranted.pop_front();
        self.exchanges.start_transfer(slot, buffer, len, now);
        let cid = self.exchanges.cid(slot);
        self.transmit.push_r2t(R2t { cid, ttag: slot.0, offset_bytes: 0, len_bytes: len });
        Grant::Granted(len)
    }

    /// Bytes that R2Ts asked for, of commands that have not ended.
    pub(crate) const fn reserved_bytes(&self) -> u32 {
        self.exchanges.reserved_bytes()
    }

    /// Answers a command. `data` goes with success alone.
    pub(crate) fn respond(&mut self, slot: Slot, status: Status, result: u64, mut data: Pieces<B>) {
        self.respond_taking(slot, status, result, &mut data);
    }

    /// As [`Self::respond`]; takes `data` where it lies, if anybody reads it.
    pub(crate) fn respond_taking(&mut self, slot: Slot, status: Status, result: u64, data: &mut Pieces<B>) {
        if !self.ungranted.is_empty() {
            self.ungranted.retain(|(ungranted, _)| *ungranted != slot);
        }
        let (cid, charge) = self.exchanges.close(slot);
        if !self.is_open() {
            // Nobody reads it, and no list will return the charge.
            self.charged_bytes -= charge;
            return;
        }
        let mut sent_charge = charge;
        let len = data.len_bytes();
        if len == 0 {
            self.charged_bytes -= charge;
            sent_charge = 0;
        } else {
            assert!(status.is_success(), "data goes with success");
            let len_bytes = u32::try_from(len).expect("a command moves at most MDTS bytes");
            self.stats.payload_sent_bytes += u64::from(len_bytes);
            // SUCCESS stands for a response whose result is zero, and only where nobody waits for SQHD.
            // TCP transport spec 1.0, section 3.3.2.2 (C2HData).
            let flag = self.rules.success_flag && !self.rules.flow_control && result == 0;
            self.transmit.push_data(cid, len_bytes, data, flag.then_some(charge));
            if flag {
                return;
            }
        }
        let cqe = Cqe { result, sqhd: self.sqhd(), ..Cqe::new(cid, status) };
        self.transmit.push_response(cqe, sent_charge);
    }

    /// The submission queue's head as responses tell it. Base spec 2.0, section 3.3.3.2: it is reserved where SQ flow control
    /// is disabled; Connect alone says FFFFh.
    fn sqhd(&self) -> u16 {
        if !self.rules.flow_control {
            return 0;
        }
        u16::try_from(self.head).expect("below the entries of a queue, at most 65536")
    }

    /// A capsule was taken off the submission queue.
    #[inline]
    const fn advance_head(&mut self) {
        let next = self.head + 1;
        self.head = if next == self.rules.entries { 0 } else { next };
    }

    /// Forgets a command without an answer, as a controller reset does.
    pub(crate) fn abandon(&mut self, slot: Slot) {
        let (_, charge) = self.exchanges.close(slot);
        self.charged_bytes -= charge;
    }

    /// Answers a Connect, which made the queue.
    pub(crate) fn respond_connect(&mut self, slot: Slot, status: Status, result: u64) {
        if self.rules.flow_control || !status.is_success() {
            return self.respond(slot, status, result, Pieces::none());
        }
        let (cid, charge) = self.exchanges.close(slot);
        self.charged_bytes -= charge;
        if self.is_open() {
            let cqe = Cqe { result, sqhd: 0xffff, ..Cqe::new(cid, status) };
            self.transmit.push_response(cqe, 0);
        }
    }

    /// Ends the connection over a fault of the host: a termination request, then a bounded wait for its close.
    pub(crate) fn terminate(&mut self, error: PduError, now: Time) {
        if !self.is_open() {
            return;
        }
        let mut bytes = [0; TermReq::LEN_MAX];
        let len = TermReq::from(error).encode(PduType::C2hTermReq, self.framer.header(), &mut bytes);
        self.transmit.push_bytes(&bytes[..len]);
        self.stats.protocol_errors += 1;
        self.abandon_input();
        self.phase = Phase::Terminating { until: now + limits::LINGER };
    }

    /// Closes once everything that waits is sent.
    pub(crate) fn finish(&mut self, now: Time) {
        if self.is_open() {
            self.abandon_input();
            self.phase = Phase::Finishing { until: now + limits::LINGER };
        }
    }

    /// Closes without sending what waits.
    pub(crate) fn close_now(&mut self) {
        if !matches!(self.phase, Phase::Closing | Phase::Closed) {
            self.abandon_input();
            self.transmit.drop_waiting();
            self.phase = Phase::Closing;
        }
    }

    /// What the socket is to do next; `None` for nothing more at present.
    pub(crate) fn poll_io(&mut self, now: Time) -> Option<SocketOp<B>> {
        if matches!(self.phase, Phase::Finishing { .. }) && self.transmit.is_idle() {
            self.phase = Phase::Closing;
        }
        match self.phase {
            Phase::Closed => return None,
            Phase::Closing => {
                self.phase = Phase::Closed;
                self.stats.connections_closed += 1;
                return Some(SocketOp::Close);
            }
            Phase::Initializing | Phase::Open | Phase::Finishing { .. } | Phase::Terminating { .. } => {}
        }
        if let Some(list) = self.transmit.poll(now) {
            return Some(SocketOp::Send(list));
        }
        self.poll_receive()
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let phase = match self.phase {
            Phase::Initializing | Phase::Open => self.connect_deadline,
            Phase::Finishing { until } | Phase::Terminating { until } => Some(until),
            Phase::Closing | Phase::Closed => return None,
        };
        let send = self.transmit.under_way_since().map(|since| since + limits::SEND_DEADLINE);
        // The oldest one's: neither a trickle nor other transfers keep a buffer reserved for longer.
        let transfer = self.exchanges.oldest_grant().map(|granted| granted + limits::TRANSFER_DEADLINE);
        let capsule = self.body.filling_since().map(|since| since + limits::TRANSFER_DEADLINE);
        [phase, send, transfer, capsule].into_iter().flatten().min()
    }

    /// Closes if a deadline has passed.
    pub(crate) fn on_deadline(&mut self, now: Time) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            if !matches!(self.phase, Phase::Terminating { .. }) {
                self.stats.deadlines_missed += 1;
            }
            self.close_now();
        }
    }

    /// True while commands are read and responses are sent.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Initializing | Phase::Open)
    }

    /// True when nothing waits to be sent and nothing is being sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.transmit.is_idle()
    }

    /// True when the socket can go to another reactor: nothing is under way on it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.receiving == Receiving::Nothing && !self.transmit.is_under_way() && self.transmit.is_idle()
    }

    /// The open command with this CID.
    pub(crate) fn find(&self, cid: u16) -> Option<Slot> {
        self.exchanges.find(cid)
    }

    /// The counts since the last call.
    pub(crate) fn take_stats(&mut self) -> TransportStats {
        std::mem::take(&mut self.stats)
    }

    fn initialize(&mut self, request: &IcReq) {
        // Digests exactly as asked, no alignment asked of the host (CPDA 0).
        // TCP transport spec 1.0, section 3.6.2.2 (ICReq, ICResp).
        let response = IcResp {
            alignment_bytes: 4,
            header_digest: request.header_digest,
            data_digest: request.data_digest,
            h2c_data_max_bytes: limits::H2C_DATA_BYTES_MAX,
        };
        self.transmit.push_bytes(&response.encode());
        self.framer.negotiate(request.header_digest, request.data_digest, 4);
        self.transmit.negotiate(request.header_digest, request.data_digest, request.alignment_bytes);
        self.phase = Phase::Open;
    }

    fn abandon_input(&mut self) {
        self.input = None;
        self.body = Body::None;
        self.ungranted.clear();
    }
}
