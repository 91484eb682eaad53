//! What waits to be sent on a connection: whole PDUs gathered into bounded lists, one of them under way at a time.

use std::collections::VecDeque;

use io::{Buffer, SendList, Time};
use nvme::Cqe;
use nvme::pdu::{C2hData, CapsuleResp, Codec, DIGEST_LEN, HEADER_LEN_MAX, PlainHeader, R2t};

use super::digest::{Crc32c, crc32c};
use crate::limits::{SEND_BYTES_MAX, SEND_SEGMENTS_MAX, SEND_SEGMENTS_PER_COMMAND};
use crate::{Piece, Pieces};

/// Lists kept for reuse per connection.
const SPARE_LISTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Transmit<B: Buffer> {
    /// Whole PDUs in order, in lists that grow no more.
    full: VecDeque<Batch<B>>,
    /// The list behind them, not empty, that the next PDU goes to.
    growing: Option<Batch<B>>,
    spare: Vec<SendList<B>>,
    under_way: Option<UnderWay>,
    /// Responses that wait or are under way.
    unsent: u32,
    codec: Codec,
    /// [`Codec::is_plain`] of it.
    plain: bool,
}

#[derive(Debug)]
struct Batch<B: Buffer> {
    list: SendList<B>,
    bytes: usize,
    responses: u32,
    /// Bytes to return to the connection's quota once this is sent.
    charge: u32,
}

#[derive(Debug)]
struct UnderWay {
    since: Time,
    responses: u32,
    charge: u32,
}

impl<B: Buffer> Transmit<B> {
    pub(crate) fn new() -> Self {
        let codec = Codec::initial(crc32c);
        Self {
            full: VecDeque::new(),
            growing: None,
            spare: Vec::new(),
            under_way: None,
            unsent: 0,
            codec,
            plain: codec.is_plain(),
        }
    }

    /// Applies what the connection's initialisation agreed on.
    pub(crate) fn negotiate(&mut self, header_digest: bool, data_digest: bool, alignment_bytes: u8) {
        self.codec = Codec { header_digest, data_digest, alignment_bytes, ..self.codec };
        self.plain = self.codec.is_plain();
    }

    /// Appends the bytes of a PDU without data.
    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        let batch = self.batch();
        batch.list.push_header(bytes);
        batch.bytes += bytes.len();
    }

    pub(crate) fn push_r2t(&mut self, r2t: R2t) {
        let mut header = [0; HEADER_LEN_MAX];
        let len = r2t.encode(&self.codec, &mut header);
        self.push_bytes(&header[..len]);
    }

    /// Appends a response capsule that returns `charge` to the quota when it is sent.
    #[inline]
    pub(crate) fn push_response(&mut self, cqe: Cqe, charge: u32) {
        let response = CapsuleResp { cqe };
        if self.plain {
            self.push_bytes(&response.encode_plain());
        } else {
            self.push_sealed_response(&response);
        }
        self.note_response(charge);
    }

    /// Appends all data of a command in one C2HData PDU; with `success` it is the response too. Unless the host asked
    /// for digests or for alignment, the payload follows the header at once: Linux ignores PDO and DATAO.
    #[inline]
    pub(crate) fn push_data(&mut self, cid: u16, len_bytes: u32, data: &mut Pieces<B>, success: Option<u32>) {
        let pdu = C2hData { cid, offset_bytes: 0, len_bytes, last: true, success: success.is_some() };
        if self.plain {
            let batch = self.batch();
            batch.list.push_header(&pdu.encode_plain());
            batch.bytes += size_of::<PlainHeader>() + len_bytes as usize;
            while let Some(piece) = data.take() {
                batch.list.segments.push(piece.into());
            }
        } else {
            self.push_sealed_data(&pdu, data);
        }
        if let Some(charge) = success {
            self.note_response(charge);
        }
    }

    fn push_sealed_response(&mut self, response: &CapsuleResp) {
        let mut header = [0; HEADER_LEN_MAX];
        let len = response.encode(&self.codec, &mut header);
        self.push_bytes(&header[..len]);
    }

    /// [`Self::push_data`] with digests or padding.
    fn push_sealed_data(&mut self, pdu: &C2hData, data: &mut Pieces<B>) {
        let mut header = [0; HEADER_LEN_MAX];
        let header_len = pdu.encode(&self.codec, &mut header);
        let mut crc = self.codec.data_digest.then(Crc32c::new);
        let batch = self.batch();
        batch.list.push_header(&header[..header_len]);
        batch.bytes += header_len + pdu.len_bytes as usize;
        while let Some(piece) = data.take() {
            if let Some(crc) = &mut crc {
                match &piece {
                    Piece::Owned { buffer, start, len } => {
                        crc.update(&buffer[*start as usize..][..*len as usize]);
                    }
                    Piece::Shared(slice) => crc.update(slice),
                    Piece::Zeroes { len } => crc.update_zeroes(*len as usize),
                }
            }
            batch.list.segments.push(piece.into());
        }
        if let Some(crc) = crc {
            batch.list.push_header(&crc.value().to_le_bytes());
            batch.bytes += DIGEST_LEN;
        }
    }

    /// The last PDU is a command's response.
    fn note_response(&mut self, charge: u32) {
        self.unsent += 1;
        if let Some(batch) = &mut self.growing {
            batch.responses += 1;
            batch.charge += charge;
        }
    }

    /// The next list to send, where none is under way.
    pub(crate) fn poll(&mut self, now: Time) -> Option<SendList<B>> {
        if self.under_way.is_some() {
            return None;
        }
        let batch = self.full.pop_front().or_else(|| self.growing.take())?;
        self.under_way = Some(UnderWay { since: now, responses: batch.responses, charge: batch.charge });
        Some(batch.list)
    }

    /// Takes a list back. Returns the bytes that return to the quota.
    pub(crate) fn on_sent(&mut self, mut list: SendList<B>) -> u32 {
        list.clear();
        if self.spare.len() < SPARE_LISTS {
            self.spare.push(list);
        }
        let Some(under_way) = self.under_way.take() else { return 0 };
        self.unsent -= under_way.responses;
        under_way.charge
    }

    /// Drops what has not been handed out.
    pub(crate) fn drop_waiting(&mut self) {
        for batch in self.full.drain(..).chain(self.growing.take()) {
            self.unsent -= batch.responses;
        }
        self.spare.clear();
    }

    pub(crate) const fn unsent(&self) -> u32 {
        self.unsent
    }

    /// True when nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.full.is_empty() && self.growing.is_none() && self.under_way.is_none()
    }

    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Since when the present send is under way.
    pub(crate) fn under_way_since(&self) -> Option<Time> {
        self.under_way.as_ref().map(|under_way| under_way.since)
    }

    /// The list that the next PDU goes to, with room for one command.
    #[inline]
    fn batch(&mut self) -> &mut Batch<B> {
        let has_room = self.growing.as_ref().is_some_and(|batch| {
            batch.bytes < SEND_BYTES_MAX
                && batch.list.segments.len() + SEND_SEGMENTS_PER_COMMAND <= SEND_SEGMENTS_MAX
        });
        if !has_room {
            self.full.extend(self.growing.take());
        }
        let spare = &mut self.spare;
        self.growing.get_or_insert_with(|| {
            let list = spare.pop().unwrap_or_default();
            Batch { list, bytes: 0, responses: 0, charge: 0 }
        })
    }
}
