//! Receiving: every PDU from the controller is checked against what is outstanding before it has
//! any effect.

use nvme::fabrics::ConnectResponse;
use nvme::pdu::{C2hData, IcResp, R2t, TermReq};
use nvme::{Cqe, Event, Frame, Pdu, Status};

use super::command::Command;
use super::transmit::Job;
use super::{Phase, Queue};
use crate::{Fault, Violation};

/// The PDU whose data is arriving.
#[derive(Debug, Default)]
pub(super) enum Incoming {
    /// None, or one without data.
    #[default]
    None,
    /// Data of a command that reads; the queue's digest runs over it where one follows.
    Data { pdu: C2hData, has_digest: bool },
    /// The header that a termination request quotes.
    Termination { request: TermReq, quoted: Vec<u8> },
}

/// A CRC32C over data that comes in pieces.
pub(super) struct Digest(crc_fast::Digest);

impl Digest {
    pub(super) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Digest").finish_non_exhaustive()
    }
}

impl<W: AsRef<[u8]>, R: AsMut<[u8]>> Queue<W, R> {
    /// Takes bytes from the controller. An error is final and is the same as in
    /// [`Phase::Closed`]; a termination request may be left to send.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if let Phase::Closed(fault) = &self.phase {
            return Err(fault.clone());
        }
        self.stats.received_bytes += bytes.len() as u64;
        self.read(&mut bytes).inspect_err(|fault| self.fail(fault.clone()))
    }

    fn read(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        loop {
            self.read_responses(bytes)?;
            let Some(event) = self.framer.poll(bytes).map_err(Fault::Malformed)? else { return Ok(()) };
            match event {
                Event::Header(frame) => self.on_header(frame)?,
                Event::Data(data) => self.on_data(data),
                Event::End { data_digest } => {
                    self.stats.received_pdus += 1;
                    self.on_end(data_digest)?;
                }
            }
        }
    }

    /// Takes responses that lie whole in what was received, which answer nearly all writes.
    fn read_responses(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Initialising) {
            return Ok(());
        }
        loop {
            let mut from = *bytes;
            let Some(cqe) = self.framer.take_response(bytes) else { return Ok(()) };
            if let Err(fault) = self.on_response(cqe) {
                // Read step by step, its header can be quoted in a termination request.
                let _ = self.framer.poll(&mut from);
                return Err(fault);
            }
            self.stats.received_pdus += 1;
        }
    }

    fn on_header(&mut self, frame: Frame) -> Result<(), Fault> {
        let initialising = matches!(self.phase, Phase::Initialising);
        match frame.pdu {
            Pdu::C2hTermReq(request) => {
                self.incoming = Incoming::Termination { request, quoted: Vec::new() };
            }
            Pdu::IcResp(response) if initialising => self.on_icresp(response)?,
            _ if initialising => return Err(Violation::Sequence.into()),
            Pdu::CapsuleResp(response) => self.on_response(response.cqe)?,
            Pdu::C2hData(pdu) => self.on_data_header(pdu, frame.data_digest)?,
            Pdu::R2t(r2t) => self.on_r2t(r2t)?,
            Pdu::IcReq(_) | Pdu::IcResp(_) | Pdu::H2cTermReq(_) | Pdu::CapsuleCmd(_) | Pdu::H2cData(_) => {
                return Err(Violation::Sequence.into());
            }
        }
        Ok(())
    }

    fn on_icresp(&mut self, response: IcResp) -> Result<(), Violation> {
        let asked = (self.config.header_digest, self.config.data_digest);
        if (response.header_digest, response.data_digest) != asked {
            return Err(Violation::Digests);
        }
        self.codec.header_digest = response.header_digest;
        self.codec.data_digest = response.data_digest;
        self.codec.alignment_bytes = response.alignment_bytes;
        self.framer.negotiate(response.header_digest, response.data_digest, self.config.alignment_bytes);
        self.h2c_data_max_bytes = response.h2c_data_max_bytes;
        self.phase = Phase::Initialised;
        if let Some((sqe, data)) = self.config.connect() {
            let mut command = Command::connect(data);
            let len_bytes = command.len().unwrap_or_default();
            let sqe = sqe.with_sgl(nvme::Sgl::InCapsule { offset_bytes: 0, len_bytes });
            self.admit(sqe, command, true);
            self.phase = Phase::Connecting;
        }
        Ok(())
    }

    fn on_response(&mut self, cqe: Cqe) -> Result<(), Fault> {
        let command = self.commands.find(cqe.cid).filter(|command| command.is_live());
        let command = command.ok_or(Violation::UnknownCid(cqe.cid))?;
        let is_connect = command.is_connect();
        if cqe.status.is_success() {
            check_complete(command)?;
        }
        let asked = self.config.connect.as_ref().is_some_and(|connect| connect.disable_sq_flow_control);
        if is_connect && asked && cqe.status.is_success() && cqe.sqhd == u16::MAX {
            self.submission.disable_flow_control();
        } else if !is_connect || cqe.status.is_success() {
            self.submission.on_sqhd(cqe.sqhd)?;
        }
        if is_connect {
            self.phase = if cqe.status.is_success() {
                Phase::Live(ConnectResponse::parse(cqe.result))
            } else {
                Phase::Refused(cqe)
            };
        }
        self.end(cqe);
        Ok(())
    }

    /// Ends a command that the controller has completed, now or once all that its R2Ts asked for has left: a controller
    /// that was quick to refuse it waits for that data all the same.
    fn end(&mut self, cqe: Cqe) {
        let Some(command) = self.commands.find(cqe.cid) else { return };
        if command.owes_data() {
            command.ended = Some(Ok(cqe));
        } else if let Some(command) = self.commands.remove(cqe.cid) {
            self.finish(command, Ok(cqe));
        }
    }

    fn on_data_header(&mut self, pdu: C2hData, has_digest: bool) -> Result<(), Fault> {
        let flow_control = self.submission.has_flow_control();
        let command = self.commands.find(pdu.cid).filter(|command| command.is_live());
        let command = command.ok_or(Violation::UnknownCid(pdu.cid))?;
        let Some(len) = command.room().map(|room| room.len() as u32) else {
            return Err(Violation::Direction(pdu.cid).into());
        };
        if pdu.success && flow_control {
            return Err(Violation::SuccessFlag(pdu.cid).into());
        }
        if command.last_seen {
            return Err(Violation::Last(pdu.cid).into());
        }
        check_extent(pdu.cid, pdu.offset_bytes, pdu.len_bytes, command.moved, len)?;
        self.digest.0.reset();
        self.incoming = Incoming::Data { pdu, has_digest };
        Ok(())
    }

    fn on_data(&mut self, data: &[u8]) {
        match &mut self.incoming {
            Incoming::Data { pdu, has_digest } => {
                if *has_digest {
                    self.digest.0.update(data);
                }
                // The header's extent was checked, and nothing ends a command inside a PDU.
                if let Some(command) = self.commands.find(pdu.cid) {
                    let start = command.moved as usize;
                    command.moved += data.len() as u32;
                    if !self.config.discard_reads
                        && let Some(room) = command.room()
                    {
                        room[start..start + data.len()].copy_from_slice(data);
                    }
                }
            }
            Incoming::Termination { quoted, .. } => quoted.extend_from_slice(data),
            Incoming::None => {}
        }
    }

    fn on_end(&mut self, received: Option<u32>) -> Result<(), Fault> {
        match std::mem::take(&mut self.incoming) {
            Incoming::None => Ok(()),
            Incoming::Termination { request, quoted } => Err(Fault::Terminated { request, quoted }),
            Incoming::Data { pdu, has_digest } => {
                let computed = has_digest.then(|| self.digest.0.finalize() as u32);
                let Some(command) = self.commands.find(pdu.cid) else { return Ok(()) };
                command.last_seen = pdu.last;
                if computed != received {
                    self.stats.data_digest_errors += 1;
                    command.digest_failed = true;
                }
                if pdu.success {
                    check_complete(command)?;
                    self.end(Cqe::new(pdu.cid, Status::SUCCESS));
                }
                Ok(())
            }
        }
    }

    fn on_r2t(&mut self, r2t: R2t) -> Result<(), Fault> {
        let r2t_max = self.config.r2t_max.max(1);
        let command = self.commands.find(r2t.cid).filter(|command| command.is_live());
        let command = command.ok_or(Violation::UnknownCid(r2t.cid))?;
        if !command.is_write() || command.in_capsule {
            return Err(Violation::Direction(r2t.cid).into());
        }
        if command.r2ts >= r2t_max {
            return Err(Violation::R2tLimit(r2t.cid).into());
        }
        let len = command.written().len() as u32;
        check_extent(r2t.cid, r2t.offset_bytes, r2t.len_bytes, command.moved, len)?;
        command.moved += r2t.len_bytes;
        command.r2ts += 1;
        let end = command.moved;
        self.transmit.push(Job::Transfer { cid: r2t.cid, ttag: r2t.ttag, offset: r2t.offset_bytes, end });
        Ok(())
    }
}

/// A transfer begins where the one before ended, and lies within the command's data.
fn check_extent(cid: u16, offset: u32, len_bytes: u32, expected: u32, len: u32) -> Result<(), Violation> {
    if offset != expected {
        return Err(Violation::Offset { cid, offset, expected });
    }
    if offset.checked_add(len_bytes).is_none_or(|end| end > len) {
        return Err(Violation::Range { cid, len });
    }
    Ok(())
}

/// A command that succeeds has moved all of its data, the last of it marked so.
fn check_complete<W: AsRef<[u8]>, R: AsMut<[u8]>>(command: &mut Command<W, R>) -> Result<(), Violation> {
    let (cid, moved) = (command.cid.0, command.moved);
    let len = command.len().unwrap_or_default();
    if command.is_write() {
        if !command.in_capsule && (moved != len || command.r2ts > 0) {
            return Err(Violation::Short { cid, moved, len });
        }
    } else if moved != len {
        return Err(Violation::Short { cid, moved, len });
    } else if len > 0 && !command.last_seen {
        return Err(Violation::Last(cid));
    }
    Ok(())
}
