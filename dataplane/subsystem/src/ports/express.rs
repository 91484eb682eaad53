//! Reads and writes that came whole and wait for nothing, as nearly all do: they are given out in one step, without a way
//! through the stages of a command.
//!
//! Nothing is refused here. What is not plain, or must wait, or is wrong in any way, stays where it is and is found by the
//! general way.

use io::Buffer;
use nvme::command::{NvmOpcode, PlainTransfer};

use super::queue::Running;
use super::{Ports, join};
use crate::limits::TRANSFER_BYTES_MAX;
use crate::slab::Key;
use crate::{ByteRange, NamespaceShape, Operation, Request};

/// What has to be known of a namespace to run a plain command of it.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nsid: u32,
    shift: u8,
    size_blocks: u64,
}

impl<B: Buffer> Ports<B> {
    /// Gives out plain commands from the front of what a connection has received.
    pub(super) fn run_plain(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if self.stopping || socket.gone || !socket.state.is_clear() {
            return;
        }
        let mut bounds: Option<Bounds> = None;
        while let Some(capsule) = socket.connection.peek_plain() {
            let transfer = &capsule.transfer;
            let known = match bounds {
                Some(known) if known.nsid == transfer.nsid => known,
                Some(_) | None => {
                    let namespace = self.views.look_up(socket.state.view, transfer.nsid);
                    let Ok(namespace) = namespace else { return };
                    if self.throttle.limits(transfer.nsid) {
                        return;
                    }
                    *bounds.insert(Bounds::of(namespace))
                }
            };
            let Some(range) = known.range(transfer) else { return };
            let len_bytes = range.len_bytes as u32;
            let Some((slot, data)) = socket.connection.take_plain(&capsule, len_bytes) else { return };
            let offset_bytes = range.offset_bytes;
            let (opcode, to_host_bytes, operation) = match data {
                Some(data) => {
                    let fua = capsule.transfer.fua;
                    (NvmOpcode::Write.code(), 0, Operation::Write { offset_bytes, data, fua })
                }
                None => (NvmOpcode::Read.code(), len_bytes, Operation::Read { range }),
            };
            let nsid = known.nsid;
            let begun = self.fences.begin();
            socket.state.begin(slot, Running { begun, nsid, to_host_bytes, partner: None, opcode });
            socket.state.traffic = true;
            self.running += 1;
            self.requests.push(Request { id: join(key, slot), nsid, operation });
        }
    }
}

impl Bounds {
    fn of(namespace: &NamespaceShape) -> Self {
        let NamespaceShape { nsid, size_blocks, .. } = *namespace;
        Self { nsid, shift: namespace.sector.shift(), size_blocks }
    }

    /// Where a transfer goes; `None` where it may not go.
    fn range(&self, transfer: &PlainTransfer) -> Option<ByteRange> {
        let len_bytes = u64::from(transfer.count_blocks) << self.shift;
        let is_described = u64::from(transfer.len_bytes) >= len_bytes;
        let fits = transfer.fits(self.size_blocks) && len_bytes <= u64::from(TRANSFER_BYTES_MAX);
        let range = ByteRange { offset_bytes: transfer.slba << self.shift, len_bytes };
        (is_described && fits).then_some(range)
    }
}
