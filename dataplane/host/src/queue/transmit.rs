//! Sending: jobs become encoded PDUs, a few at a time, and leave as slices into header buffers
//! and payloads.

use std::collections::VecDeque;

use nvme::Sqe;
use nvme::pdu::{CapsuleCmd, Codec, DIGEST_LEN, H2cData, HEADER_LEN_MAX, PduType, TermReq};

use super::command::{Command, Commands};
use super::{Phase, Queue};
use crate::{Fault, crc32c};

/// PDUs encoded ahead of what has been sent.
const ENCODED_MAX: usize = 32;

/// Something to send.
#[derive(Debug)]
pub(super) enum Job {
    /// A command.
    Capsule {
        /// With its CID set.
        sqe: Sqe,
    },
    /// What is left of the data that an R2T asked for: `offset..end` of the command's data.
    Transfer { cid: u16, ttag: u16, offset: u32, end: u32 },
    /// Bytes as they are: ICReq, termination requests, and what tests like.
    Raw(Vec<u8>),
}

/// What is to be sent: at most one capsule per entry, one transfer per R2T allowed, and what was
/// sent raw.
#[derive(Debug, Default)]
pub(super) struct Transmit {
    jobs: VecDeque<Job>,
    encoded: VecDeque<Encoded>,
    /// Bytes of the first encoded PDU that have been sent.
    sent: usize,
}

/// A PDU on its way.
#[derive(Debug)]
struct Encoded {
    head: Head,
    /// Command and range of its data.
    data: Option<(u16, u32, u32)>,
    tail: [u8; DIGEST_LEN],
    tail_len: usize,
}

#[derive(Debug)]
enum Head {
    Header([u8; HEADER_LEN_MAX], usize),
    Raw(Vec<u8>),
}

impl Head {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Header(bytes, len) => &bytes[..*len],
            Self::Raw(bytes) => bytes,
        }
    }
}

impl Encoded {
    fn len(&self) -> usize {
        let data = self.data.map_or(0, |(_, start, end)| (end - start) as usize);
        self.head.bytes().len() + data + self.tail_len
    }

    /// The three parts as they lie on the wire, some of them empty.
    fn parts<'a, W: AsRef<[u8]>, R: AsMut<[u8]>>(&'a self, commands: &'a Commands<W, R>) -> [&'a [u8]; 3] {
        let data = self.data.map_or(&[][..], |(cid, start, end)| {
            let command = commands.get(cid).expect("a command outlives the PDUs that point into it");
            &command.written()[start as usize..end as usize]
        });
        [self.head.bytes(), data, &self.tail[..self.tail_len]]
    }
}

impl Transmit {
    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    pub(super) fn clear(&mut self) {
        self.jobs.clear();
        self.encoded.clear();
        self.sent = 0;
    }

    /// Drops all but a PDU of which a part has been sent. Returns the command it points into.
    pub(super) fn clear_unsent(&mut self) -> Option<u16> {
        self.jobs.clear();
        self.encoded.truncate(usize::from(self.sent > 0));
        self.encoded.front().and_then(|pdu| pdu.data).map(|(cid, ..)| cid)
    }
}

impl<W: AsRef<[u8]>, R: AsMut<[u8]>> Queue<W, R> {
    /// The next bytes to send, without a gap; report those sent with [`Queue::transmitted`].
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.encode_jobs();
        let pdu = self.transmit.encoded.front()?;
        let mut skip = self.transmit.sent;
        for part in pdu.parts(&self.commands) {
            if skip < part.len() {
                return Some(&part[skip..]);
            }
            skip -= part.len();
        }
        unreachable!("a PDU that was sent whole is dropped at once")
    }

    /// Appends slices to send, in order, of several PDUs. Returns their length in bytes.
    pub fn gather<'a>(&'a mut self, slices: &mut Vec<&'a [u8]>) -> usize {
        self.encode_jobs();
        let this = &*self;
        let mut skip = this.transmit.sent;
        let mut len = 0;
        for pdu in &this.transmit.encoded {
            for part in pdu.parts(&this.commands) {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() {
                    slices.push(&part[skipped..]);
                    len += part.len() - skipped;
                }
            }
        }
        len
    }

    /// Notes that the next `count` bytes were sent. Panics if that is more than was offered.
    pub fn transmitted(&mut self, count: usize) {
        self.stats.sent_bytes += count as u64;
        self.transmit.sent += count;
        while let Some(len) = self.transmit.encoded.front().map(Encoded::len) {
            if self.transmit.sent < len {
                return;
            }
            self.transmit.sent -= len;
            self.stats.sent_pdus += 1;
            let data = self.transmit.encoded.pop_front().and_then(|pdu| pdu.data);
            if let Some((cid, ..)) = data {
                self.on_pdu_sent(cid);
            }
        }
        assert_eq!(self.transmit.sent, 0, "more bytes reported as sent than were offered");
    }

    /// True if there is nothing to send now.
    pub fn is_drained(&self) -> bool {
        self.transmit.encoded.is_empty() && self.transmit.jobs.is_empty()
    }

    /// Ends the connection for `fault`: what has not begun to be sent never is, and the
    /// controller is told where the fault is its own.
    pub(super) fn fail(&mut self, fault: Fault) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let pinned = self.transmit.clear_unsent();
        if let Some(error) = fault.pdu_error() {
            let mut out = [0; TermReq::LEN_MAX];
            let len = TermReq::from(error).encode(PduType::H2cTermReq, self.framer.header(), &mut out);
            self.transmit.push(Job::Raw(out[..len].to_vec()));
        }
        self.phase = Phase::Closed(fault);
        for cid in self.commands.cids(|command| Some(command.cid.0) != pinned) {
            if let Some(command) = self.commands.remove(cid) {
                let result = command.ended.unwrap_or(Err(super::Lost));
                self.finish(command, result);
            }
        }
        if let Some(command) = pinned.and_then(|cid| self.commands.find(cid)) {
            (command.pdus, command.r2ts) = (1, 0);
            command.ended.get_or_insert(Err(super::Lost));
        }
    }

    fn on_pdu_sent(&mut self, cid: u16) {
        let command = self.commands.find(cid).expect("a command outlives the PDUs that point into it");
        command.pdus -= 1;
        if command.owes_data() {
            return;
        }
        if let Some(result) = command.ended.take()
            && let Some(command) = self.commands.remove(cid)
        {
            self.finish(command, result);
        }
    }

    fn encode_jobs(&mut self) {
        while self.transmit.encoded.len() < ENCODED_MAX
            && let Some(job) = self.transmit.jobs.pop_front()
        {
            let encoded = match job {
                Job::Raw(bytes) if bytes.is_empty() => None,
                Job::Raw(bytes) => {
                    Some(Encoded { head: Head::Raw(bytes), data: None, tail: [0; 4], tail_len: 0 })
                }
                Job::Capsule { sqe } => self.encode_capsule(sqe),
                Job::Transfer { cid, ttag, offset, end } => self.encode_transfer(cid, ttag, offset, end),
            };
            self.transmit.encoded.extend(encoded);
        }
    }

    fn encode_capsule(&mut self, sqe: Sqe) -> Option<Encoded> {
        let command = self.commands.find(sqe.cid)?;
        command.begun = true;
        let end = if command.in_capsule { command.len()? } else { 0 };
        let mut header = [0; HEADER_LEN_MAX];
        let len = CapsuleCmd { sqe }.encode(&self.codec, end, &mut header);
        Some(attach(&self.codec, command, Head::Header(header, len), 0, end))
    }

    fn encode_transfer(&mut self, cid: u16, ttag: u16, offset: u32, end: u32) -> Option<Encoded> {
        let command = self.commands.find(cid)?;
        let stop = end.min(offset.saturating_add(self.h2c_data_max_bytes));
        let last = stop == end;
        let pdu = H2cData { cid, ttag, offset_bytes: offset, len_bytes: stop - offset, last };
        let mut header = [0; HEADER_LEN_MAX];
        let len = pdu.encode(&self.codec, &mut header);
        if last {
            command.r2ts -= 1;
        } else {
            // To the back, so that a long transfer does not hold up other commands.
            self.transmit.jobs.push_back(Job::Transfer { cid, ttag, offset: stop, end });
        }
        Some(attach(&self.codec, command, Head::Header(header, len), offset, stop))
    }
}

/// Joins a header with `start..end` of the command's data and the digest over it.
fn attach<W: AsRef<[u8]>, R: AsMut<[u8]>>(
    codec: &Codec,
    command: &mut Command<W, R>,
    head: Head,
    start: u32,
    end: u32,
) -> Encoded {
    if start == end {
        return Encoded { head, data: None, tail: [0; 4], tail_len: 0 };
    }
    let mut tail = [0; DIGEST_LEN];
    let mut tail_len = 0;
    if codec.data_digest {
        tail = crc32c(&command.written()[start as usize..end as usize]).to_le_bytes();
        tail_len = DIGEST_LEN;
    }
    command.pdus += 1;
    Encoded { head, data: Some((command.cid.0, start, end)), tail, tail_len }
}
