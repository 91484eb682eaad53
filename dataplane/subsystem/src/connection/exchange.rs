//! The commands of a connection that have no response yet, and the data that R2Ts asked for.
//!
//! A slot is free, open (the owner has the command), or discarding: answered while its R2T is outstanding, so that its
//! transfer tag must stay valid until the host has sent what it was asked for.

use io::Buffer;
use nvme::PduError;
use nvme::pdu::H2cData;

use super::cid_set::CidSet;

/// Names a command of one connection until it is answered; also the transfer tag of its R2T.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

/// All commands of a connection.
#[derive(Debug)]
pub(crate) struct Exchanges<B> {
    slots: Vec<Option<Exchange<B>>>,
    free: Vec<u16>,
    /// CIDs of the open slots.
    cids: CidSet,
    /// Bytes of buffers that R2Ts reserve.
    reserved_bytes: u32,
}

#[derive(Debug)]
struct Exchange<B> {
    cid: u16,
    /// Another open slot has the same CID, and had it first.
    conflicts: bool,
    /// False once it is answered.
    open: bool,
    /// Bytes charged to the connection's quota.
    charge: u32,
    transfer: Option<Transfer<B>>,
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
        Self { slots: Vec::new(), free: Vec::new(), cids: CidSet::new(), reserved_bytes: 0 }
    }

    /// Opens a slot. Also tells whether the CID is in use by another open one.
    pub(crate) fn open(&mut self, cid: u16) -> (Slot, bool) {
        let conflicts = !self.cids.insert(cid);
        let exchange = Exchange { cid, conflicts, open: true, charge: 0, transfer: None };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[usize::from(index)] = Some(exchange);
                index
            }
            None => {
                self.slots.push(Some(exchange));
                u16::try_from(self.slots.len() - 1).expect("open slots are bounded by the queue's entries")
            }
        };
        (Slot(index), conflicts)
    }

    /// Ends the command. Returns its CID and what it was charged.
    pub(crate) fn close(&mut self, slot: Slot) -> (u16, u32) {
        let exchange = self.exchange_mut(slot);
        assert!(exchange.open, "a command is answered once");
        exchange.open = false;
        let (cid, charge, conflicts) = (exchange.cid, exchange.charge, exchange.conflicts);
        if let Some(transfer) = &mut exchange.transfer {
            transfer.buffer = None;
        } else {
            self.release(slot);
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
        let found = |exchange: &Option<Exchange<B>>| {
            exchange.as_ref().is_some_and(|e| e.open && e.cid == cid && !e.conflicts)
        };
        let index = self.slots.iter().position(found)?;
        u16::try_from(index).ok().map(Slot)
    }

    pub(crate) fn cid(&self, slot: Slot) -> u16 {
        self.slots[usize::from(slot.0)].as_ref().expect("the slot is in use").cid
    }

    pub(crate) fn charge(&mut self, slot: Slot, bytes: u32) {
        self.exchange_mut(slot).charge += bytes;
    }

    /// Bytes of buffers that R2Ts reserve now.
    pub(crate) const fn reserved_bytes(&self) -> u32 {
        self.reserved_bytes
    }

    /// Notes that an R2T for `buffer` goes out.
    pub(crate) fn start_transfer(&mut self, slot: Slot, buffer: B, len: u32) {
        let exchange = self.exchange_mut(slot);
        assert!(exchange.transfer.is_none(), "one R2T per command is outstanding");
        exchange.transfer = Some(Transfer { buffer: Some(buffer), len, received: 0, intact: true });
        self.reserved_bytes += len;
    }

    /// Checks an H2CData header against the R2T that it answers. Returns the slot and where the data starts.
    /// TCP transport spec 1.0, section 3.6.2.7 (H2CData).
    pub(crate) fn check(&self, pdu: &H2cData) -> Result<(Slot, u32), PduError> {
        const CCCID_AT: u32 = 8;
        const TTAG_AT: u32 = 10;
        let exchange = self.slots.get(usize::from(pdu.ttag)).and_then(Option::as_ref);
        let Some((exchange, transfer)) = exchange.and_then(|e| e.transfer.as_ref().map(|t| (e, t))) else {
            return Err(PduError::InvalidHeaderField { offset: TTAG_AT });
        };
        if exchange.cid != pdu.cid {
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
        Ok((Slot(pdu.ttag), transfer.received))
    }

    /// Bytes that the command's R2T asked for.
    pub(crate) fn transfer_len(&self, slot: Slot) -> u32 {
        let exchange = self.slots[usize::from(slot.0)].as_ref().expect("the slot is in use");
        exchange.transfer.as_ref().map_or(0, |transfer| transfer.len)
    }

    /// The buffer of a transfer, where the data is wanted and the buffer is here.
    pub(crate) fn buffer_mut(&mut self, slot: Slot) -> Option<&mut B> {
        self.exchange_mut(slot).transfer.as_mut()?.buffer.as_mut()
    }

    /// Lends the buffer to a receive; [`Self::give_back`] ends that.
    pub(crate) fn take_buffer(&mut self, slot: Slot) -> Option<B> {
        self.exchange_mut(slot).transfer.as_mut()?.buffer.take()
    }

    /// Ends a receive into a lent buffer; it is dropped where nobody wants it any more.
    pub(crate) fn give_back(&mut self, slot: Slot, buffer: B) {
        let exchange = self.exchange_mut(slot);
        if exchange.open
            && let Some(transfer) = &mut exchange.transfer
        {
            transfer.buffer = Some(buffer);
        }
    }

    /// Notes that one H2CData PDU of `len` bytes is complete. Returns the transfer if that was its last.
    pub(crate) fn end_pdu(&mut self, slot: Slot, len: u32, intact: bool) -> Option<Received<B>> {
        let exchange = self.exchange_mut(slot);
        let transfer = exchange.transfer.as_mut().expect("the header was checked against a transfer");
        transfer.received += len;
        transfer.intact &= intact;
        if transfer.received < transfer.len {
            return None;
        }
        let transfer = exchange.transfer.take()?;
        let open = exchange.open;
        self.reserved_bytes -= transfer.len;
        if !open {
            self.release(slot);
        }
        Some(Received { buffer: transfer.buffer, len: transfer.len, intact: transfer.intact })
    }

    fn release(&mut self, slot: Slot) {
        self.slots[usize::from(slot.0)] = None;
        self.free.push(slot.0);
    }

    fn exchange_mut(&mut self, slot: Slot) -> &mut Exchange<B> {
        self.slots[usize::from(slot.0)].as_mut().expect("the slot is in use")
    }
}
