//! Cuts a byte stream into PDUs, incrementally and without owning any data: it keeps at most one
//! partial header (128 bytes) and one partial digest, whatever the peer sends.
//!
//! Feed received bytes to [`Framer::poll`] until it answers `None`; it advances the slice past
//! what it used and yields, for each PDU, one [`Event::Header`], any number of [`Event::Data`]
//! (slices of the input, never copied) and one [`Event::End`]. Everything in a header that can be
//! judged without the connection's state is judged before the header event: type and direction,
//! HLEN, flags against the negotiated digests, PDO, PLEN, limits, header digest. After an error
//! the framer answers the same error for ever.

use crate::layout::get;
use crate::pdu::{
    COMMON_HEADER_LEN, Codec, CommonHeader, DIGEST_LEN, HEADER_LEN_MAX, Header, Pdu, PduError, PduFlags,
    PduType, Receiver, TERM_DATA_MAX,
};
use crate::{Cqe, Sqe};

/// Bounds on what a peer may announce; a PDU beyond them is refused when its header is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of in-capsule data in a command capsule.
    pub capsule_data_max_bytes: u32,
    /// Most bytes in one data PDU: a controller's MAXH2CDATA, or what a host accepts.
    pub transfer_data_max_bytes: u32,
}

/// A PDU whose header has been read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The typed header.
    pub pdu: Pdu,
    /// Bytes of data that follow.
    pub data_len: u32,
    /// A data digest follows the data.
    pub data_digest: bool,
}

/// What [`Framer::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A header is complete.
    Header(Frame),
    /// The next bytes of the PDU's data, in order; never empty.
    Data(&'a [u8]),
    /// The PDU is complete.
    End {
        /// The data digest as received, where there is one. Whoever holds the data checks it.
        data_digest: Option<u32>,
    },
}

/// A command capsule as [`Framer::take_capsule`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeCapsule<'a> {
    /// The command's entry, where it was received.
    pub entry: &'a [u8; Sqe::LEN],
    /// Its in-capsule data; empty where there is none.
    pub data: &'a [u8],
    /// The data digest as received, where there is one. Whoever holds the data checks it.
    pub data_digest: Option<u32>,
}

/// The incremental reader of one connection's PDUs.
#[derive(Clone, Debug)]
pub struct Framer {
    receiver: Receiver,
    codec: Codec,
    limits: Limits,
    /// Capsules come without digests, and their data without padding.
    plain: bool,
    /// Response capsules come without digests.
    plain_responses: bool,
    state: State,
    /// Header bytes with digest, `header_len` of them received.
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Collecting `wanted` header bytes; the type is known once the common header is there.
    Header { wanted: usize, pdu_type: Option<PduType> },
    /// Past the header.
    Body { padding: usize, data: u32, digest: Option<Digest> },
    /// An error was found; the stream cannot be read on.
    Failed(PduError),
}

/// A digest of which `have` bytes have been received.
#[derive(Clone, Copy, Debug, Default)]
struct Digest {
    bytes: [u8; DIGEST_LEN],
    have: usize,
}

impl Framer {
    /// A reader at the start of a connection on the side of `receiver`: no digests yet.
    pub fn new(receiver: Receiver, limits: Limits, crc32c: fn(&[u8]) -> u32) -> Self {
        let codec = Codec::initial(crc32c);
        Self {
            receiver,
            codec,
            limits,
            plain: has_plain_capsules(receiver, &codec),
            plain_responses: has_plain_responses(receiver, &codec),
            state: State::header(),
            header: [0; HEADER_LEN_MAX],
            header_len: 0,
        }
    }

    /// Applies what ICReq and ICResp agreed on to the PDUs after the current one.
    /// `alignment_bytes` is what this side asked of its peer.
    pub fn negotiate(&mut self, header_digest: bool, data_digest: bool, alignment_bytes: u8) {
        self.codec.header_digest = header_digest;
        self.codec.data_digest = data_digest;
        self.codec.alignment_bytes = alignment_bytes;
        self.plain = has_plain_capsules(self.receiver, &self.codec);
        self.plain_responses = has_plain_responses(self.receiver, &self.codec);
    }

    /// Changes the bounds for the PDUs after the current one.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Reads on. Returns `None` when `input` is used up.
    pub fn poll<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, PduError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Header { wanted, pdu_type } => {
                    if let Some(pdu_type) = self.take_whole_header(input) {
                        match self.on_header_bytes(Some(pdu_type)) {
                            Ok(frame) => return Ok(frame.map(Event::Header)),
                            Err(error) => {
                                self.state = State::Failed(error);
                                return Err(error);
                            }
                        }
                    }
                    if !self.collect(wanted, input) {
                        return Ok(None);
                    }
                    match self.on_header_bytes(pdu_type) {
                        Ok(None) => {}
                        Ok(Some(frame)) => return Ok(Some(Event::Header(frame))),
                        Err(error) => self.state = State::Failed(error),
                    }
                }
                State::Body { padding, data, digest } => {
                    return Ok(self.poll_body(padding, data, digest, input));
                }
            }
        }
    }

    /// Takes a command capsule that lies whole in `input`, digests and data included, and advances past it: what
    /// [`Framer::poll`] would tell by three events. `None`, without any effect, between other bytes, inside a PDU and
    /// where anything is wrong, which [`Framer::poll`] then finds.
    #[inline]
    pub fn take_capsule<'a>(&self, input: &mut &'a [u8]) -> Option<WholeCapsule<'a>> {
        if !self.is_idle() {
            return None;
        }
        let common = input.first_chunk()?;
        match self.plain_capsule_len(*common) {
            Some(len) => {
                let (pdu, rest) = input.split_at_checked(len)?;
                let (header, data) = pdu.split_first_chunk::<{ PduType::CapsuleCmd.hlen() }>()?;
                *input = rest;
                Some(WholeCapsule { entry: header.last_chunk()?, data, data_digest: None })
            }
            None => self.take_sealed_capsule(input),
        }
    }

    /// Takes a response capsule that lies whole in `input` and has no digest, and advances past it. `None` as with
    /// [`Framer::take_capsule`].
    #[inline]
    pub fn take_response(&self, input: &mut &[u8]) -> Option<Cqe> {
        const LEN: usize = PduType::CapsuleResp.hlen();
        const HEAD: [u8; COMMON_HEADER_LEN] =
            [PduType::CapsuleResp.code(), 0, LEN as u8, 0, LEN as u8, 0, 0, 0];
        if !self.plain_responses || !self.is_idle() {
            return None;
        }
        let (pdu, rest) = input.split_first_chunk::<LEN>()?;
        if pdu.first_chunk() != Some(&HEAD) {
            return None;
        }
        *input = rest;
        Some(Cqe::parse(pdu.last_chunk()?))
    }

    /// The length of a capsule that has neither digests nor padding, as nearly all have none, by its first eight bytes;
    /// `None` for everything else.
    #[inline]
    fn plain_capsule_len(&self, common: [u8; COMMON_HEADER_LEN]) -> Option<usize> {
        const HLEN: u32 = PduType::CapsuleCmd.hlen() as u32;
        const WITHOUT_DATA: u64 = capsule_head(0) | (HLEN as u64) << 32;
        let word = u64::from_le_bytes(common);
        if !self.plain {
            return None;
        }
        if word == WITHOUT_DATA {
            return Some(PduType::CapsuleCmd.hlen());
        }
        let (plen, head) = ((word >> 32) as u32, word & 0xffff_ffff);
        let data_len = plen.wrapping_sub(HLEN);
        let fits = data_len.wrapping_sub(1) < self.limits.capsule_data_max_bytes;
        (head == capsule_head(PduType::CapsuleCmd.hlen() as u8) && fits).then_some(plen as usize)
    }

    /// [`Framer::take_capsule`] where every field has to be looked at.
    fn take_sealed_capsule<'a>(&self, input: &mut &'a [u8]) -> Option<WholeCapsule<'a>> {
        let common = CommonHeader::parse(input.first_chunk()?);
        if self.check_common(&common).ok()? != PduType::CapsuleCmd {
            return None;
        }
        let (pdu, rest) = input.split_at_checked(common.plen as usize)?;
        let hlen = PduType::CapsuleCmd.hlen();
        let mut header_len = hlen;
        if self.codec.header_digest {
            let received = pdu.get(hlen..)?.first_chunk()?;
            if (self.codec.crc32c)(&pdu[..hlen]) != u32::from_le_bytes(*received) {
                return None;
            }
            header_len += DIGEST_LEN;
        }
        let entry = pdu.get(COMMON_HEADER_LEN..)?.first_chunk()?;
        let capsule = if pdu.len() == header_len {
            WholeCapsule { entry, data: &[], data_digest: None }
        } else {
            let (padding, data_len) = self.check_data(&common, header_len as u32).ok()?;
            if data_len > self.limits.capsule_data_max_bytes {
                return None;
            }
            let (data, digest) = pdu.get(header_len + padding..)?.split_at_checked(data_len as usize)?;
            WholeCapsule {
                entry,
                data,
                data_digest: digest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
            }
        };
        *input = rest;
        Some(capsule)
    }

    /// Bytes that must come before the next event, at least 1 inside a PDU's header, padding or
    /// digest; inside data all of what is left of it.
    pub fn wanted(&self) -> usize {
        match self.state {
            State::Header { wanted, .. } => wanted - self.header_len,
            State::Body { data, .. } if data > 0 => data as usize,
            State::Body { padding, digest, .. } => padding + digest.map_or(0, |d| DIGEST_LEN - d.have),
            State::Failed(_) => 0,
        }
    }

    /// Data bytes that could be received straight into the command's buffer now: what is left of
    /// the current PDU's data once its padding has passed, else 0.
    pub fn data_remaining(&self) -> u32 {
        match self.state {
            State::Body { padding: 0, data, .. } => data,
            State::Header { .. } | State::Body { .. } | State::Failed(_) => 0,
        }
    }

    /// Notes that `count` data bytes were received past this reader. Panics if that is more than
    /// [`Framer::data_remaining`].
    pub fn skip_data(&mut self, count: u32) {
        assert!(count <= self.data_remaining(), "more data skipped than the PDU has left");
        if let State::Body { data, .. } = &mut self.state {
            *data -= count;
        }
    }

    /// True between PDUs, where a peer may close without cutting one.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Header { .. }) && self.header_len == 0
    }

    /// Header bytes of the current, last or failed PDU, as far as received: what a termination
    /// request quotes.
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Moves a header that lies whole in `input` to the header buffer at once, as nearly all do. What is wrong with
    /// the common header is left to be found step by step.
    fn take_whole_header(&mut self, input: &mut &[u8]) -> Option<PduType> {
        if self.header_len > 0 {
            return None;
        }
        let common = CommonHeader::parse(input.first_chunk()?);
        let pdu_type = self.check_common(&common).ok()?;
        let wanted = pdu_type.hlen() + self.header_digest_len(pdu_type);
        let (head, rest) = input.split_at_checked(wanted)?;
        self.header[..wanted].copy_from_slice(head);
        self.header_len = wanted;
        *input = rest;
        Some(pdu_type)
    }

    /// Moves bytes from `input` to the header buffer. True once `wanted` are there.
    fn collect(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let count = input.len().min(wanted - self.header_len);
        let (head, rest) = input.split_at(count);
        self.header[self.header_len..self.header_len + count].copy_from_slice(head);
        self.header_len += count;
        *input = rest;
        self.header_len == wanted
    }

    fn on_header_bytes(&mut self, pdu_type: Option<PduType>) -> Result<Option<Frame>, PduError> {
        let common = CommonHeader::parse(&get(&self.header, 0));
        let Some(pdu_type) = pdu_type else {
            let pdu_type = self.check_common(&common)?;
            let wanted = pdu_type.hlen() + self.header_digest_len(pdu_type);
            self.state = State::Header { wanted, pdu_type: Some(pdu_type) };
            return Ok(None);
        };
        self.check_header_digest(pdu_type)?;
        let pdu = Pdu::parse(pdu_type, common.flags, &self.header)?;
        let (padding, data_len, data_digest) = self.check_lengths(&pdu, &common)?;
        let digest = data_digest.then(Digest::default);
        self.state = State::Body { padding, data: data_len, digest };
        Ok(Some(Frame { pdu, data_len, data_digest }))
    }

    /// What the first eight bytes must satisfy.
    fn check_common(&self, common: &CommonHeader) -> Result<PduType, PduError> {
        let pdu_type = PduType::parse(common.type_code)
            .filter(|pdu_type| pdu_type.receiver() == self.receiver)
            .ok_or(PduError::InvalidHeaderField { offset: 0 })?;
        if usize::from(common.hlen) != pdu_type.hlen() {
            return Err(PduError::InvalidHeaderField { offset: CommonHeader::HLEN_AT });
        }
        if common.flags.contains(PduFlags::HDGSTF) != (self.header_digest_len(pdu_type) > 0) {
            return Err(PduError::InvalidHeaderField { offset: 1 });
        }
        let header_len = pdu_type.hlen() + self.header_digest_len(pdu_type);
        if (common.plen as usize) < header_len {
            return Err(PduError::InvalidHeaderField { offset: CommonHeader::PLEN_AT });
        }
        Ok(pdu_type)
    }

    fn check_header_digest(&self, pdu_type: PduType) -> Result<(), PduError> {
        if self.header_digest_len(pdu_type) == 0 {
            return Ok(());
        }
        let received = get(&self.header, pdu_type.hlen());
        if (self.codec.crc32c)(&self.header[..pdu_type.hlen()]) == received {
            Ok(())
        } else {
            Err(PduError::HeaderDigest { received })
        }
    }

    /// Checks PDO and PLEN against each other, the data length and the limits. Returns bytes of
    /// padding, bytes of data, and whether a data digest follows.
    fn check_lengths(&self, pdu: &Pdu, common: &CommonHeader) -> Result<(usize, u32, bool), PduError> {
        let plen_error = PduError::InvalidHeaderField { offset: CommonHeader::PLEN_AT };
        let pdu_type = pdu.pdu_type();
        let header_len = (pdu_type.hlen() + self.header_digest_len(pdu_type)) as u32;
        let after_header = common.plen.checked_sub(header_len).ok_or(plen_error)?;
        match pdu {
            Pdu::IcReq(_) | Pdu::IcResp(_) | Pdu::CapsuleResp(_) | Pdu::R2t(_) => {
                if after_header == 0 {
                    Ok((0, 0, false))
                } else {
                    Err(plen_error)
                }
            }
            Pdu::H2cTermReq(_) | Pdu::C2hTermReq(_) => {
                if after_header <= TERM_DATA_MAX as u32 {
                    Ok((0, after_header, false))
                } else {
                    Err(plen_error)
                }
            }
            Pdu::CapsuleCmd(_) => {
                if after_header == 0 {
                    return Ok((0, 0, false));
                }
                let (padding, data_len) = self.check_data(common, header_len)?;
                if data_len > self.limits.capsule_data_max_bytes {
                    return Err(plen_error);
                }
                Ok((padding, data_len, self.codec.data_digest))
            }
            Pdu::H2cData(crate::pdu::H2cData { len_bytes, .. })
            | Pdu::C2hData(crate::pdu::C2hData { len_bytes, .. }) => {
                let (padding, data_len) = self.check_data(common, header_len)?;
                if data_len != *len_bytes {
                    return Err(plen_error);
                }
                if data_len > self.limits.transfer_data_max_bytes {
                    return Err(PduError::DataLimitExceeded);
                }
                Ok((padding, data_len, self.codec.data_digest))
            }
        }
    }

    /// Checks a PDU that carries data. Returns bytes of padding and of data, the latter not 0.
    fn check_data(&self, common: &CommonHeader, header_len: u32) -> Result<(usize, u32), PduError> {
        if common.flags.contains(PduFlags::DDGSTF) != self.codec.data_digest {
            return Err(PduError::InvalidHeaderField { offset: 1 });
        }
        let pdo = u32::from(common.pdo);
        let alignment = u32::from(self.codec.alignment_bytes.max(4));
        if pdo < header_len || !pdo.is_multiple_of(alignment) {
            return Err(PduError::InvalidHeaderField { offset: CommonHeader::PDO_AT });
        }
        let digest_len = if self.codec.data_digest { DIGEST_LEN as u32 } else { 0 };
        match common.plen.checked_sub(pdo + digest_len) {
            None | Some(0) => Err(PduError::InvalidHeaderField { offset: CommonHeader::PLEN_AT }),
            Some(data_len) => Ok(((pdo - header_len) as usize, data_len)),
        }
    }

    fn poll_body<'a>(
        &mut self,
        mut padding: usize,
        mut data: u32,
        mut digest: Option<Digest>,
        input: &mut &'a [u8],
    ) -> Option<Event<'a>> {
        let skipped = padding.min(input.len());
        *input = &input[skipped..];
        padding -= skipped;
        let mut event = None;
        if padding == 0 && data > 0 && !input.is_empty() {
            let count = input.len().min(data as usize);
            let (head, rest) = input.split_at(count);
            *input = rest;
            data -= count as u32;
            event = Some(Event::Data(head));
        } else if padding == 0 && data == 0 {
            if let Some(digest) = &mut digest {
                let count = input.len().min(DIGEST_LEN - digest.have);
                digest.bytes[digest.have..digest.have + count].copy_from_slice(&input[..count]);
                digest.have += count;
                *input = &input[count..];
            }
            if digest.is_none_or(|digest| digest.have == DIGEST_LEN) {
                self.state = State::header();
                self.header_len = 0;
                let data_digest = digest.map(|digest| u32::from_le_bytes(digest.bytes));
                return Some(Event::End { data_digest });
            }
        }
        self.state = State::Body { padding, data, digest };
        event
    }

    fn header_digest_len(&self, pdu_type: PduType) -> usize {
        if self.codec.header_digest && pdu_type.has_header_digest() { DIGEST_LEN } else { 0 }
    }
}

/// True where a capsule is its header and its data, with nothing before, between or behind.
const fn has_plain_capsules(receiver: Receiver, codec: &Codec) -> bool {
    let hlen = PduType::CapsuleCmd.hlen();
    matches!(receiver, Receiver::Controller)
        && !codec.header_digest
        && !codec.data_digest
        && codec.data_offset(PduType::CapsuleCmd) == hlen
}

/// True where a response capsule is its header alone.
const fn has_plain_responses(receiver: Receiver, codec: &Codec) -> bool {
    matches!(receiver, Receiver::Host) && !codec.header_digest
}

/// Type, flags, HLEN and PDO of a capsule without digests, as a number whose first byte is the lowest.
const fn capsule_head(pdo: u8) -> u64 {
    let type_code = PduType::CapsuleCmd.code();
    u32::from_le_bytes([type_code, 0, PduType::CapsuleCmd.hlen() as u8, pdo]) as u64
}

impl State {
    const fn header() -> Self {
        Self::Header { wanted: COMMON_HEADER_LEN, pdu_type: None }
    }
}

const _: () = {
    // The header buffer must hold every header with its digest.
    assert!(size_of::<Header>() >= 72 + DIGEST_LEN);
};

#[cfg(test)]
mod test;
