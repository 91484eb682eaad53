//! Fused Compare and Write: two adjacent commands that run as one. Base spec 2.0, section 3.4.2.

use io::Buffer;
use nvme::{Fuse, Sqe, Status};

use super::Ports;
use super::command;
use super::queue::{FirstHalf, Stage};
use crate::Pieces;
use crate::connection::Slot;
use crate::slab::Key;

impl<B: Buffer> Ports<B> {
    /// Judges the position of the command that just arrived. Returns the first half that it completes to a pair.
    pub(super) fn pair_up(&mut self, key: Key, slot: Slot, fuse: Fuse) -> Result<Option<Slot>, Status> {
        let Some(socket) = self.sockets.get_mut(key) else { return Err(Status::INTERNAL_ERROR) };
        let before = std::mem::replace(&mut socket.state.fused, FirstHalf::None);
        match (fuse, before) {
            (Fuse::Second, FirstHalf::Waiting(first)) => return Ok(Some(first)),
            (Fuse::Second, FirstHalf::Failed) => return Err(Status::ABORTED_FAILED_FUSED),
            (Fuse::Second, FirstHalf::None) => return Err(Status::ABORTED_MISSING_FUSED.dnr()),
            (Fuse::None | Fuse::First | Fuse::Reserved, FirstHalf::Waiting(first)) => {
                self.fail(key, first, Status::ABORTED_MISSING_FUSED.dnr());
            }
            (Fuse::None | Fuse::First | Fuse::Reserved, FirstHalf::None | FirstHalf::Failed) => {}
        }
        if fuse == Fuse::Reserved {
            return Err(Status::INVALID_FIELD.dnr());
        }
        if fuse == Fuse::First
            && let Some(socket) = self.sockets.get_mut(key)
        {
            socket.state.fused = FirstHalf::Waiting(slot);
        }
        Ok(None)
    }

    /// Checks a pair as a whole once both halves have passed their own checks, and ties them together.
    pub(super) fn tie(&mut self, key: Key, first: Slot, second: Slot) -> Result<(), Status> {
        let socket = self.sockets.get_mut(key).ok_or(Status::INTERNAL_ERROR)?;
        let queue = &mut socket.state;
        let (Some(compare), Some(write)) = (queue.get(first), queue.get(second)) else {
            return Err(Status::ABORTED_MISSING_FUSED.dnr());
        };
        if compare.nsid != write.nsid {
            return Err(Status::INVALID_FIELD.dnr());
        }
        let namespace = self.views.look_up(queue.view, write.nsid)?;
        command::check_pair(&compare.plan, &write.plan, namespace)?;
        if let Some(compare) = queue.get_mut(first) {
            compare.partner = Some(second);
        }
        Ok(())
    }

    /// Answers a command whose own checks failed before it was taken on, and the half that waited for it.
    pub(super) fn refuse(&mut self, key: Key, slot: Slot, sqe: &Sqe, partner: Option<Slot>, status: Status) {
        if let Some(socket) = self.sockets.get_mut(key)
            && socket.state.fused == FirstHalf::Waiting(slot)
        {
            socket.state.fused = FirstHalf::Failed;
        }
        if let Some(first) = partner {
            self.fail(key, first, Status::ABORTED_FAILED_FUSED);
        }
        self.answer(key, slot, sqe.opcode, status, Pieces::none());
    }

    /// Answers both halves of a pair that ran, the first one first.
    pub(super) fn answer_pair(&mut self, key: Key, first: Slot, second: Slot, status: Status) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let (compare, write) =
            if status.is_success() { (status, status) } else { (status, Status::ABORTED_FAILED_FUSED) };
        if let Some(command) = socket.state.take(first) {
            debug_assert!(matches!(command.stage, Stage::Ready(None)));
            self.answer(key, first, command.opcode, compare, Pieces::none());
        }
        self.answer(key, second, nvme::command::NvmOpcode::Write.code(), write, Pieces::none());
    }
}
