//! The commands of a connection that have no response yet, and the data that R2Ts asked for.
//!
//! A slot is free, open (the owner has the command), or discarding: answered while its R2T is outstanding, so that its
//! transfer tag must stay valid until the host has sent what it was asked for.

use std::collections::VecDeque;

use io::{Buffer, Time};
use nvme::PduError;
use nvme::pdu::H2cData;

use super::cid_set::CidSet;

/// Names a command of one connection until it is answered; also the transfer tag of its R2T.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

/// All commands of a connection.
#[derive(Debug)]
pub(crate) struct Exchanges<B> {
    slots: Vec<Exchange>,
    /// By slot, as far as one was needed.
    transfers: Vec<Option<Transfer<B>>>,
    /// The slots whose R2Ts are outstanding, and when they were granted, in that order.
    granted: VecDeque<(Slot, Time)>,
    free: Vec<u16>,
    /// CIDs of the open slots.
    cids: CidSet,
    /// What the R2Ts of all commands asked for that have not ended.
    reserved_bytes: u32,
}

/// What every command has; few have a transfer.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Bytes charged to the connection's quota.
    charge: u32,
    /// Bytes that its R2T asked for: its buffer is not free before the command has ended.
    reserved_bytes: u32,
    cid: u16,
    state: State,
    /// Another open slot has the same CID, and had it first.
    conflicts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Open,
    /// Answered, but its transfer has not ended.
    Discarding,
}

/// The one outstanding R2T of a command.
#[derive(Debug)]
struct Transfer<B> {
    /// `None` while a receive fills it, and where the data is thrown away.
    buffer: Option<B>,
    len: u32,
    received: u32,
    /// False once a data digest did not match.
    intact: bool,
}

/// A transfer that has ended.
#[derive(Debug)]
pub(crate) struct Received<B> {
    /// The data; `None` where the command was answered before and nobody wants it.
    pub(crate) buffer: Option<B>,
    pub(crate) len: u32,
    /// Every data digest matched.
    pub(crate) intact: bool,
}

impl<B: Buffer> Exchanges<B> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            transfers: Vec::new(),
            granted: VecDeque::new(),
            free: Vec::new(),
            cids: CidSet::new(),
            reserved_bytes: 0,
        }
    }

    /// Opens a slot. Also tells whether the CID is in use by another open one.
    pub(crate) fn open(&mut self, cid: u16) -> (Slot, bool) {
        let conflicts = !self.cids.insert(cid);
        let exchange = Exchange { charge: 0, reserved_bytes: 0, cid, state: State::Open, conflicts };
        (self.place(exchange), conflicts)
    }

    /// Opens a slot that is charged at once; `None`, without effect, where the CID is in use.
    #[inline]
    pub(crate) fn open_charged(&mut self, cid: u16, charge: u32) -> Option<Slot> {
        let fresh = self.cids.insert(cid);
        let exchange = Exchange { charge, reserved_bytes: 0, cid, state: State::Open, conflicts: false };
        fresh.then(|| self.place(exchange))
    }

    /// Ends the command. Returns its CID and what it was charged.
    #[inline]
    pub(crate) fn close(&mut self, slot: Slot) -> (u16, u32) {
        let Exchange { cid, charge, state, conflicts, .. } = self.slots[usize::from(slot.0)];
        assert!(state == State::Open, "a command is answered once");
        match self.transfers.get_mut(usize::from(slot.0)) {
            Some(Some(transfer)) => {
                transfer.buffer = None;
                self.slots[usize::from(slot.0)].state = State::Discarding;
            }
            Some(None) | None => self.release(slot),
        }
        if !conflicts {
            self.cids.remove(cid);
        }
        (cid, charge)
    }

    /// All slots in use, those included whose data is only awaited to be thrown away.
    pub(crate) fn used_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The open slot with this CID.
    pub(crate) fn find(&self, cid: u16) -> Option<Slot> {
        let found =
            |exchange: &Exchange| exchange.state == State::Open && exchange.cid == cid && !exchange.conflicts;
        let index = self.slots.iter().position(found)?;
        u16::try_from(index).ok().map(Slot)
    }

    pub(crate) fn cid(&self, slot: Slot) -> u16 {
        self.slots[usize::from(slot.0)].cid
    }

    pub(crate) fn charge(&mut self, slot: Slot, bytes: u32) {
        self.slots[usize::from(slot.0)].charge += bytes;
    }

    /// What R2Ts asked for, of commands that have not ended and of those whose data is only awaited to be thrown away.
    pub(crate) const fn reserved_bytes(&self) -> u32 {
        self.reserved_bytes
    }

    /// When the oldest of the outstanding R2Ts was granted.
    pub(crate) fn oldest_grant(&self) -> Option<Time> {
        self.granted.front().map(|(_, granted_at)| *granted_at)
    }

    /// Notes that an R2T for `buffer` goes out.
    pub(crate) fn start_transfer(&mut self, slot: Slot, buffer: B, len: u32, now: Time) {
        let index = usize::from(slot.0);
        if self.transfers.len() <= index {
            self.transfers.resize_with(index + 1, || None);
        }
        assert!(self.transfers[index].is_none(), "one R2T per command is outstanding");
        self.transfers[index] = Some(Transfer { buffer: Some(buffer), len, received: 0, intact: true });
        self.granted.push_back((slot, now));
        self.slots[index].reserved_bytes = len;
        self.reserved_bytes += len;
    }

    /// Checks an H2CData header against the R2T that it answers. Returns the slot and where the data starts.
    /// TCP transport spec 1.0, section 3.6.2.7 (H2CData).
    pub(crate) fn check(&self, pdu: &H2cData) -> Result<(Slot, u32), PduError> {
        const CCCID_AT: u32 = 8;
        const TTAG_AT: u32 = 10;
        let slot = Slot(pdu.ttag);
        let Some(transfer) = self.transfer(slot) else {
            return Err(PduError::InvalidHeaderField { offset: TTAG_AT });
        };
        if self.cid(slot) != pdu.cid {
            return Err(PduError::InvalidHeaderField { offset: CCCID_AT });
        }
        if pdu.offset_bytes != transfer.received {
            return Err(PduError::DataOutOfRange);
        }
        let left = transfer.len - transfer.received;
        if pdu.len_bytes > left {
            return Err(PduError::DataLimitExceeded);
        }
        if pdu.last != (pdu.len_bytes == left) {
            return Err(PduError::InvalidHeaderField { offset: 1 });
        }
        Ok((slot, transfer.received))
    }

    /// Bytes that the command's R2T asked for.
    pub(crate) fn transfer_len(&self, slot: Slot) -> u32 {
        self.transfer(slot).map_or(0, |transfer| transfer.len)
    }

    /// The buffer of a transfer, where the data is wanted and the buffer is here.
    pub(crate) fn buffer_mut(&mut self, slot: Slot) -> Option<&mut B> {
        self.transfer_mut(slot)?.buffer.as_mut()
    }

    /// Lends the buffer to a receive; [`Self::give_back`] ends that.
    pub(crate) fn take_buffer(&mut self, slot: Slot) -> Option<B> {
        self.transfer_mut(slot)?.buffer.take()
    }

    /// Ends a receive into a lent buffer; it is dropped where nobody wants it any more.
    pub(crate) fn give_back(&mut self, slot: Slot, buffer: B) {
        if self.slots[usize::from(slot.0)].state == State::Open
            && let Some(transfer) = self.transfer_mut(slot)
        {
            transfer.buffer = Some(buffer);
        }
    }

    /// Notes that one H2CData PDU of `len` bytes is complete. Returns the transfer if that was its last.
    pub(crate) fn end_pdu(&mut self, slot: Slot, len: u32, intact: bool) -> Option<Received<B>> {
        let transfer = self.transfer_mut(slot).expect("the header was checked against a transfer");
        transfer.received += len;
        transfer.intact &= intact;
        if transfer.received < transfer.len {
            return None;
        }
        let transfer = self.transfers[usize::from(slot.0)].take()?;
        // Most end in the order of their grants.
        let at = self.granted.iter().position(|(granted, _)| *granted == slot);
        self.granted.remove(at.expect("what is transferred was granted"));
        if self.slots[usize::from(slot.0)].state == State::Discarding {
            self.release(slot);
        }
        Some(Received { buffer: transfer.buffer, len: transfer.len, intact: transfer.intact })
    }

    #[inline]
    fn place(&mut self, exchange: Exchange) -> Slot {
        match self.free.pop() {
            Some(index) => {
                self.slots[usize::from(index)] = exchange;
                Slot(index)
            }
            None => {
                self.slots.push(exchange);
                let index = u16::try_from(self.slots.len() - 1);
                Slot(index.expect("open slots are bounded by the queue's entries"))
            }
        }
    }

    fn release(&mut self, slot: Slot) {
        let exchange = &mut self.slots[usize::from(slot.0)];
        exchange.state = State::Free;
        self.reserved_bytes -= exchange.reserved_bytes;
        self.free.push(slot.0);
    }

    fn transfer(&self, slot: Slot) -> Option<&Transfer<B>> {
        self.transfers.get(usize::from(slot.0))?.as_ref()
    }

    fn transfer_mut(&mut self, slot: Slot) -> Option<&mut Transfer<B>> {
        self.transfers.get_mut(usize::from(slot.0))?.as_mut()
    }
}
