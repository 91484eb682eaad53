//! The receiving half: frames become commands and transferred data; the PDU that is coming in, and where its data goes.

use io::{Buffer, Memory, Slice, Time};
use nvme::command::PlainTransfer;
use nvme::pdu::{DIGEST_LEN, H2cData};
use nvme::{Event, Frame, Pdu, PduError, Sqe, Status};

use super::digest::crc32c;
use super::{Arrival, Connection, Phase, Receiving, Slot, SocketOp};
use crate::limits::{RECEIVE_INTO_BYTES_MIN, UNSENT_PER_ENTRY};

/// The PDU that is coming in.
#[derive(Debug)]
pub(crate) enum Body<B: Buffer> {
    /// None, or one without data of interest.
    None,
    /// A command capsule.
    Capsule { sqe: Sqe, len: u32, data: Gather<B> },
    /// Data that an R2T asked for: `len` bytes at `start` of the command's buffer, `have` of them here. What came all at
    /// once stays where it was received.
    Transfer { slot: Slot, start: u32, len: u32, have: u32, whole: Option<Slice<B::Shared>> },
}

/// In-capsule data. Most comes whole with its capsule and stays where it was received.
#[derive(Debug)]
pub(crate) enum Gather<B: Buffer> {
    /// Nothing yet.
    Empty,
    /// All of it, where it was received.
    Whole(Slice<B::Shared>),
    /// The first part, while there is no memory to put the parts together in.
    Held(Slice<B::Shared>),
    /// The first `have` bytes, copied, in a buffer of its own since then; the buffer is away while a receive fills it.
    Filling { buffer: Option<B>, have: u32, since: Time },
}

/// A read or write that lies whole in what was received, its data intact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainCapsule {
    pub(crate) transfer: PlainTransfer,
    /// Where its data begins in what was received, and where it ends itself.
    data_start: usize,
    end: usize,
}

/// A plain command's slot, and its data if it is a write.
pub(crate) type TakenPlain<B> = (Slot, Option<Slice<<B as Buffer>::Shared>>);

/// An event of the framer without its borrow of the input.
enum Step {
    Header(Frame),
    Data { start: usize, len: usize },
    End(Option<u32>),
    Used,
}

impl<B: Buffer> Connection<B> {
    /// Reads on. `None` when everything received is read, or nothing may be read at present.
    pub(crate) fn poll_arrival(
        &mut self,
        now: Time,
        memory: &mut impl Memory<Buffer = B>,
    ) -> Option<Arrival<B>> {
        if self.input.is_none() && self.framer.is_idle() {
            return None;
        }
        loop {
            if !self.may_read() || !self.gather_held(now, memory) {
                return None;
            }
            if let Some(arrival) = self.take_capsule() {
                return Some(arrival);
            }
            let step = match self.step() {
                Ok(step) => step,
                Err(error) => {
                    self.terminate(error, now);
                    return None;
                }
            };
            let outcome = match step {
                Step::Header(frame) => self.on_header(&frame).map(|()| None),
                Step::Data { start, len } => {
                    self.on_data(start, len);
                    Ok(None)
                }
                Step::End(digest) => Ok(self.on_end(digest)),
                Step::Used => {
                    self.input = None;
                    return None;
                }
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(arrival)) => return Some(arrival),
                Err(error) => self.terminate(error, now),
            }
        }
    }

    /// The receive to start, if one may be.
    pub(super) fn poll_receive(&mut self) -> Option<SocketOp<B>> {
        if self.receiving != Receiving::Nothing {
            return None;
        }
        match self.phase {
            Phase::Terminating { .. } => {
                self.receiving = Receiving::Plain;
                return Some(SocketOp::Receive);
            }
            Phase::Initializing | Phase::Open if self.may_read() && self.input.is_none() => {}
            _ => return None,
        }
        let remaining = self.framer.data_remaining();
        let mut target = None;
        match &mut self.body {
            Body::Capsule { data: Gather::Held(_), .. } => return None,
            Body::Capsule { data: Gather::Filling { buffer, have, .. }, .. }
                if remaining >= RECEIVE_INTO_BYTES_MIN =>
            {
                target = buffer.take().map(|buffer| (Receiving::IntoCapsule, buffer, *have));
            }
            Body::Transfer { slot, start, have, .. } if remaining >= RECEIVE_INTO_BYTES_MIN => {
                let at = *start + *have;
                target = self.exchanges.take_buffer(*slot).map(|b| (Receiving::IntoTransfer(*slot), b, at));
            }
            Body::None | Body::Capsule { .. } | Body::Transfer { .. } => {}
        }
        let Some((receiving, buffer, start)) = target else {
            self.receiving = Receiving::Plain;
            return Some(SocketOp::Receive);
        };
        self.receiving = receiving;
        let (start, end) = (start as usize, (start + remaining) as usize);
        Some(SocketOp::ReceiveInto { buffer, start, end })
    }

    /// False while the owner wants nothing, or the host does not take its responses.
    fn may_read(&self) -> bool {
        self.is_open() && !self.paused && self.transmit.unsent() < self.rules.entries * UNSENT_PER_ENTRY
    }

    /// A capsule that was received whole, as most are, in one step. What is wrong is left to be found step by step.
    fn take_capsule(&mut self) -> Option<Arrival<B>> {
        let is_between = matches!(self.body, Body::None) && self.phase == Phase::Open;
        if !is_between || self.exchanges.used_count() >= self.rules.entries as usize {
            return None;
        }
        let (input, used) = self.input.as_mut()?;
        let mut rest = &input[*used..];
        let capsule = self.framer.take_capsule(&mut rest)?;
        let end = input.len() - rest.len();
        let digest_len = if capsule.data_digest.is_some() { DIGEST_LEN } else { 0 };
        let (data_len, data_end) = (capsule.data.len(), end - digest_len);
        let (sqe, digest) = (Sqe::parse(capsule.entry), capsule.data_digest);
        let data = (data_len > 0).then(|| input.slice(data_end - data_len..data_end));
        *used = end;
        self.stats.pdus_received += 1;
        self.stats.payload_received_bytes += data_len as u64;
        Some(self.arrive(sqe, data, digest))
    }

    /// The capsule at the front of what was received, if it is there whole, is a plain transfer, and may be read now. It
    /// stays there until [`Self::take_plain`].
    #[inline]
    pub(crate) fn peek_plain(&self) -> Option<PlainCapsule> {
        if !matches!(self.body, Body::None) || self.phase != Phase::Open || !self.may_read() {
            return None;
        }
        if self.exchanges.used_count() >= self.rules.entries as usize {
            return None;
        }
        let (input, used) = self.input.as_ref()?;
        let mut rest = &input[*used..];
        let capsule = self.framer.take_capsule(&mut rest)?;
        let transfer = PlainTransfer::parse(capsule.entry)?;
        let expected_len = if transfer.is_write { transfer.len_bytes as usize } else { 0 };
        let intact = capsule.data_digest.is_none_or(|digest| crc32c(capsule.data) == digest);
        let end = input.len() - rest.len();
        let digest_len = if capsule.data_digest.is_some() { DIGEST_LEN } else { 0 };
        let data_start = end - digest_len - capsule.data.len();
        (intact && capsule.data.len() == expected_len).then_some(PlainCapsule { transfer, data_start, end })
    }

    /// Takes the capsule that [`Self::peek_plain`] has found, and charges what it moves: the first `bytes` of its data, if
    /// it is a write. `None`, without effect, where the quota is used up or the CID is in use.
    #[inline]
    pub(crate) fn take_plain(&mut self, capsule: &PlainCapsule, bytes: u32) -> Option<TakenPlain<B>> {
        let PlainCapsule { transfer, data_start, end } = *capsule;
        if !self.has_room(bytes) {
            return None;
        }
        let (input, used) = self.input.as_mut()?;
        let slot = self.exchanges.open_charged(transfer.cid, bytes)?;
        let data = transfer.is_write.then(|| input.slice(data_start..data_start + bytes as usize));
        *used = end;
        self.charged_bytes += bytes;
        self.advance_head();
        self.stats.pdus_received += 1;
        self.stats.payload_received_bytes +=
            if transfer.is_write { u64::from(transfer.len_bytes) } else { 0 };
        Some((slot, data))
    }

    /// A command capsule is complete.
    fn arrive(&mut self, sqe: Sqe, data: Option<Slice<B::Shared>>, digest: Option<u32>) -> Arrival<B> {
        let intact = data.as_ref().zip(digest).is_none_or(|(data, digest)| crc32c(data) == digest);
        self.advance_head();
        let (slot, in_use) = self.exchanges.open(sqe.cid);
        let data = if in_use {
            Err(Status::COMMAND_ID_CONFLICT.dnr())
        } else if intact {
            Ok(data)
        } else {
            self.stats.data_digest_errors += 1;
            // A data digest error is not fatal. TCP transport spec 1.0, section 3.3.1.1.
            Err(Status::TRANSIENT_TRANSPORT_ERROR)
        };
        Arrival::Command { slot, sqe, data }
    }

    fn step(&mut self) -> Result<Step, PduError> {
        let (bytes, used) = match &self.input {
            Some((slice, used)) => (&slice[*used..], *used),
            None => (&[][..], 0),
        };
        let mut rest = bytes;
        let event = self.framer.poll(&mut rest)?;
        let now_used = used + bytes.len() - rest.len();
        let step = match event {
            None => Step::Used,
            Some(Event::Header(frame)) => Step::Header(frame),
            Some(Event::Data(data)) => Step::Data { start: now_used - data.len(), len: data.len() },
            Some(Event::End { data_digest }) => Step::End(data_digest),
        };
        if let Some((_, used)) = &mut self.input {
            *used = now_used;
        }
        Ok(step)
    }

    fn on_header(&mut self, frame: &Frame) -> Result<(), PduError> {
        self.stats.pdus_received += 1;
        match (&frame.pdu, self.phase) {
            (Pdu::H2cTermReq(_), _) => self.close_now(),
            (Pdu::IcReq(request), Phase::Initializing) => self.initialize(request),
            (Pdu::CapsuleCmd(capsule), Phase::Open) => {
                // A host that keeps to its queue cannot have more than its entries outstanding.
                if self.exchanges.used_count() >= self.rules.entries as usize {
                    return Err(PduError::Sequence);
                }
                self.body = Body::Capsule { sqe: capsule.sqe, len: frame.data_len, data: Gather::Empty };
            }
            (Pdu::H2cData(data), Phase::Open) => self.on_transfer_header(data)?,
            _ => return Err(PduError::Sequence),
        }
        Ok(())
    }

    fn on_transfer_header(&mut self, pdu: &H2cData) -> Result<(), PduError> {
        let (slot, start) = self.exchanges.check(pdu)?;
        self.body = Body::Transfer { slot, start, len: pdu.len_bytes, have: 0, whole: None };
        Ok(())
    }

    fn on_data(&mut self, start: usize, len: usize) {
        let Some((input, _)) = &self.input else { return };
        self.stats.payload_received_bytes += len as u64;
        let count = u32::try_from(len).expect("a receive is at most 1 MiB");
        match &mut self.body {
            Body::None => {}
            Body::Capsule { len: wanted, data, .. } => match data {
                Gather::Empty if count == *wanted => {
                    *data = Gather::Whole(input.slice(start..start + len));
                }
                Gather::Empty => *data = Gather::Held(input.slice(start..start + len)),
                Gather::Filling { buffer: Some(buffer), have, .. } => {
                    buffer[*have as usize..][..len].copy_from_slice(&input[start..start + len]);
                    *have += count;
                    self.stats.payload_copied_bytes += len as u64;
                }
                Gather::Whole(_) | Gather::Held(_) | Gather::Filling { buffer: None, .. } => {
                    unreachable!("the framer gives no more data than was announced, in order")
                }
            },
            Body::Transfer { slot, start: at, have, whole, .. } => {
                if *at == 0 && count == self.exchanges.transfer_len(*slot) {
                    *whole = Some(input.slice(start..start + len));
                } else if let Some(buffer) = self.exchanges.buffer_mut(*slot) {
                    let at = (*at + *have) as usize;
                    buffer[at..at + len].copy_from_slice(&input[start..start + len]);
                    self.stats.payload_copied_bytes += len as u64;
                }
                *have += count;
            }
        }
    }

    /// Finds memory for in-capsule data that came in parts. False while there is none.
    fn gather_held(&mut self, now: Time, memory: &mut impl Memory<Buffer = B>) -> bool {
        let Body::Capsule { len, data, .. } = &mut self.body else { return true };
        let Gather::Held(part) = data else { return true };
        let Some(mut buffer) = memory.allocate(*len as usize, self.rules.purpose) else {
            self.stats.memory_waits += 1;
            return false;
        };
        buffer[..part.len()].copy_from_slice(part);
        self.stats.payload_copied_bytes += part.len() as u64;
        let have = u32::try_from(part.len()).expect("less than the capsule's data");
        *data = Gather::Filling { buffer: Some(buffer), have, since: now };
        true
    }

    /// True if in-capsule data waits for memory.
    pub(crate) fn wants_memory(&self) -> bool {
        matches!(&self.body, Body::Capsule { data: Gather::Held(_), .. })
    }

    fn on_end(&mut self, digest: Option<u32>) -> Option<Arrival<B>> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None => None,
            Body::Capsule { sqe, data, .. } => {
                let data = match data {
                    Gather::Empty => None,
                    Gather::Whole(slice) => Some(slice),
                    Gather::Filling { buffer, .. } => buffer.map(|buffer| Slice::whole(buffer.share())),
                    Gather::Held(_) => unreachable!("nothing is read while memory is awaited"),
                };
                Some(self.arrive(sqe, data, digest))
            }
            Body::Transfer { slot, start, len, whole, .. } => {
                let intact = digest.is_none_or(|digest| match (&whole, self.exchanges.buffer_mut(slot)) {
                    (Some(whole), _) => crc32c(whole) == digest,
                    (None, Some(buffer)) => crc32c(&buffer[start as usize..][..len as usize]) == digest,
                    (None, None) => true,
                });
                self.stats.data_digest_errors += u64::from(!intact);
                let received = self.exchanges.end_pdu(slot, len, intact)?;
                // Nobody waits for it where the command was answered before.
                let buffer = received.buffer?;
                let data = if received.intact {
                    let filled = || Slice::whole(buffer.share()).slice(0..received.len as usize);
                    Ok(whole.unwrap_or_else(filled))
                } else {
                    Err(Status::TRANSIENT_TRANSPORT_ERROR)
                };
                Some(Arrival::Data { slot, data })
            }
        }
    }
}

impl<B: Buffer> Body<B> {
    /// Since when in-capsule data has a buffer of its own that waits for the rest.
    pub(super) fn filling_since(&self) -> Option<Time> {
        match self {
            Self::Capsule { data: Gather::Filling { since, .. }, .. } => Some(*since),
            Self::None | Self::Capsule { .. } | Self::Transfer { .. } => None,
        }
    }

    /// A receive put `count` more bytes into the lent buffer of in-capsule data.
    pub(super) fn give_back(&mut self, lent: B, count: u32) {
        if let Self::Capsule { data: Gather::Filling { buffer, have, .. }, .. } = self {
            *buffer = Some(lent);
            *have += count;
        }
    }

    /// A receive put `count` more bytes into a transfer's buffer.
    pub(super) fn note_transferred(&mut self, count: u32) {
        if let Self::Transfer { have, .. } = self {
            *have += count;
        }
    }
}
