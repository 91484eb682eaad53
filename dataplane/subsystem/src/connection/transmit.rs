//! What waits to be sent on a connection: whole PDUs gathered into bounded lists, one of them under way at a time.

use std::collections::VecDeque;

use io::{Buffer, Segment, SendList, Time};
use nvme::Cqe;
use nvme::pdu::{C2hData, CapsuleResp, Codec, DIGEST_LEN, HEADER_LEN_MAX, R2t};

use super::digest::Crc32c;
use crate::limits::{SEND_BYTES_MAX, SEND_SEGMENTS_MAX, SEND_SEGMENTS_PER_COMMAND};
use crate::{Piece, Pieces};

/// Lists kept for reuse per connection.
const SPARE_LISTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Transmit<B: Buffer> {
    /// Whole PDUs in order; only the last list grows.
    waiting: VecDeque<Batch<B>>,
    spare: Vec<SendList<B>>,
    under_way: Option<UnderWay>,
    /// Responses that wait or are under way.
    unsent: u32,
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
    pub(crate) const fn new() -> Self {
        Self { waiting: VecDeque::new(), spare: Vec::new(), under_way: None, unsent: 0 }
    }

    /// Appends the bytes of a PDU without data.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        let batch = self.batch();
        batch.list.push_header(bytes);
        batch.bytes += bytes.len();
    }

    pub(crate) fn push_r2t(&mut self, codec: &Codec, r2t: R2t) {
        let mut header = [0; HEADER_LEN_MAX];
        let len = r2t.encode(codec, &mut header);
        self.push_bytes(&header[..len]);
    }

    /// Appends a response capsule that returns `charge` to the quota when it is sent.
    pub(crate) fn push_response(&mut self, codec: &Codec, cqe: Cqe, charge: u32) {
        let mut header = [0; HEADER_LEN_MAX];
        let len = CapsuleResp { cqe }.encode(codec, &mut header);
        let batch = self.batch();
        batch.list.push_header(&header[..len]);
        batch.bytes += len;
        batch.responses += 1;
        batch.charge += charge;
        self.unsent += 1;
    }

    /// Appends all data of a command in one C2HData PDU; with `success` it is the response too. The payload follows the
    /// header at once: Linux ignores PDO and DATAO.
    pub(crate) fn push_data(&mut self, codec: &Codec, cid: u16, data: Pieces<B>, success: Option<u32>) {
        let len_bytes = u32::try_from(data.len_bytes()).expect("a command moves at most MDTS bytes");
        let pdu = C2hData { cid, offset_bytes: 0, len_bytes, last: true, success: success.is_some() };
        let mut header = [0; HEADER_LEN_MAX];
        let header_len = pdu.encode(codec, &mut header);
        let batch = self.batch();
        batch.list.push_header(&header[..header_len]);
        let mut crc = codec.data_digest.then(Crc32c::new);
        for piece in data.into_pieces() {
            if let Some(crc) = &mut crc {
                match &piece {
                    Piece::Owned { buffer, start, len } => {
                        crc.update(&buffer[*start as usize..][..*len as usize]);
                    }
                    Piece::Shared(slice) => crc.update(slice),
                    Piece::Zeroes { len } => crc.update_zeroes(*len as usize),
                }
            }
            batch.list.segments.push(match piece {
                Piece::Owned { buffer, start, len } => Segment::Owned { buffer, start, len },
                Piece::Shared(slice) => Segment::Shared(slice),
                Piece::Zeroes { len } => Segment::Zeroes { len },
            });
        }
        batch.bytes += header_len + len_bytes as usize;
        if let Some(crc) = crc {
            batch.list.push_header(&crc.value().to_le_bytes());
            batch.bytes += DIGEST_LEN;
        }
        if let Some(charge) = success {
            batch.responses += 1;
            batch.charge += charge;
            self.unsent += 1;
        }
    }

    /// The next list to send, where none is under way.
    pub(crate) fn poll(&mut self, now: Time) -> Option<SendList<B>> {
        if self.under_way.is_some() {
            return None;
        }
        let batch = self.waiting.pop_front()?;
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
        for batch in self.waiting.drain(..) {
            self.unsent -= batch.responses;
        }
        self.spare.clear();
    }

    pub(crate) const fn unsent(&self) -> u32 {
        self.unsent
    }

    /// True when nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Since when the present send is under way.
    pub(crate) fn under_way_since(&self) -> Option<Time> {
        self.under_way.as_ref().map(|under_way| under_way.since)
    }

    /// The list that the next PDU goes to, with room for one command.
    fn batch(&mut self) -> &mut Batch<B> {
        let full = self.waiting.back().is_none_or(|batch| {
            batch.bytes >= SEND_BYTES_MAX
                || batch.list.segments.len() + SEND_SEGMENTS_PER_COMMAND > SEND_SEGMENTS_MAX
        });
        if full {
            let list = self.spare.pop().unwrap_or_default();
            self.waiting.push_back(Batch { list, bytes: 0, responses: 0, charge: 0 });
        }
        self.waiting.back_mut().expect("a list was just made sure of")
    }
}
