//! Associations: their ends, resets, keep alive timers, and what must be drained before either is told.

use io::{Buffer, Time};
use nvme::Status;
use nvme::command::{Abort, AdminOpcode};
use nvme::fabrics::ShutdownStatus;

use super::controller::{AfterDrop, Kind};
use super::feature::Features;
use super::{Desk, Role};
use crate::connection::Slot;
use crate::{AssociationId, DeskOutput, Pieces};

impl<B: Buffer> Desk<B> {
    /// Ends an association: its admin queue is closed, its I/O queues are dropped, then it is forgotten.
    pub(super) fn end(&mut self, association: AssociationId) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        if !controller.is_alive() {
            return;
        }
        controller.after_drop.push(AfterDrop::Remove);
        if let Some(key) = controller.admin.take() {
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.state.role = Role::Ended;
                socket.connection.close_now();
            }
            self.sockets.note(key);
        }
        self.drop_queues(association);
    }

    /// CC.EN was cleared: what the host had asked for is forgotten, and the answer waits for the I/O queues' end.
    /// Base spec 2.0, section 3.7.2.
    pub(super) fn reset(&mut self, association: AssociationId, slot: Slot) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        let forgotten = controller.events.reset();
        let aborts = std::mem::take(&mut controller.aborts);
        controller.changed.clear();
        controller.features = Features::new(self.now);
        controller.after_drop.push(AfterDrop::AnswerReset(slot));
        if let Some(socket) = controller.admin.and_then(|key| self.sockets.get_mut(key)) {
            for slot in forgotten.into_iter().chain(aborts.into_values()) {
                socket.connection.abandon(slot);
            }
        }
        self.drop_queues(association);
    }

    /// Ends every I/O queue, wherever it is; what waits for that goes on in [`Self::on_dropped`].
    pub(super) fn drop_queues(&mut self, association: AssociationId) {
        // Those that were not handed over yet end here.
        for key in self.sockets.keys() {
            let Some(socket) = self.sockets.get_mut(key) else { continue };
            let Role::Leaving { association: owner, ticket } = &socket.state.role else { continue };
            if *owner != association {
                continue;
            }
            let qid = ticket.qid();
            socket.state.role = Role::Ended;
            socket.connection.close_now();
            self.sockets.note(key);
            if let Some(controller) = self.controllers.get_mut(&association) {
                controller.queues.remove(&qid);
            }
        }
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        if controller.dropping {
            return;
        }
        if controller.queues.is_empty() {
            return self.on_dropped(association);
        }
        controller.dropping = true;
        self.outputs.push_back(DeskOutput::DropQueues { association });
    }

    /// No I/O queue and no request of the association is left anywhere.
    pub(super) fn on_dropped(&mut self, association: AssociationId) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        controller.dropping = false;
        controller.queues.clear();
        self.recheck = true;
        let admin = controller.admin;
        let mut remove = false;
        for action in std::mem::take(&mut controller.after_drop) {
            match action {
                AfterDrop::AnswerReset(slot) => {
                    self.commands.count(nvme::command::FABRICS, Status::SUCCESS);
                    if let Some(socket) = admin.and_then(|key| self.sockets.get_mut(key)) {
                        socket.connection.respond(slot, Status::SUCCESS, 0, Pieces::none());
                    }
                }
                // Base spec 2.0, section 3.6: once it is complete the power may go, and nothing that was answered with it.
                AfterDrop::FlushForShutdown if controller.kind == Kind::Discovery => {
                    controller.csts.shutdown = ShutdownStatus::Complete;
                }
                AfterDrop::FlushForShutdown => {
                    self.outputs.push_back(DeskOutput::Flush { association });
                }
                AfterDrop::Remove => remove = true,
            }
        }
        if let Some(key) = admin {
            self.sockets.note(key);
        }
        if remove {
            self.forget(association);
        }
    }

    /// What the controller's host was told is safe: its shutdown is complete, unless a reset has ended it meanwhile.
    pub(super) fn complete_shutdown(&mut self, association: AssociationId) {
        if let Some(controller) = self.controllers.get_mut(&association)
            && controller.csts.shutdown == ShutdownStatus::Occurring
        {
            controller.csts.shutdown = ShutdownStatus::Complete;
        }
    }

    fn forget(&mut self, association: AssociationId) {
        let Some(controller) = self.controllers.remove(&association) else { return };
        self.by_cntlid.remove(&controller.cntlid);
        if self.paths.get(&controller.path) == Some(&association) {
            self.paths.remove(&controller.path);
        }
        if let Some(alarm) = controller.alarm {
            self.alarms.remove(&(alarm, association));
        }
        self.aborts.retain(|_, owner| *owner != association);
        self.recheck = true;
    }

    /// Sets the alarm of the keep alive timer to its present deadline.
    pub(super) fn arm(&mut self, association: AssociationId) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        let alarm = if controller.is_alive() { controller.keep_alive.deadline() } else { None };
        let before = std::mem::replace(&mut controller.alarm, alarm);
        if let Some(before) = before {
            self.alarms.remove(&(before, association));
        }
        if let Some(alarm) = alarm {
            self.alarms.insert((alarm, association));
        }
    }

    /// Looks at the keep alive timers whose alarm has come.
    pub(super) fn check_alarms(&mut self, now: Time) {
        while let Some(&(alarm, association)) = self.alarms.first()
            && alarm <= now
        {
            self.alarms.pop_first();
            let Some(controller) = self.controllers.get_mut(&association) else { continue };
            controller.alarm = None;
            let late = controller.keep_alive.deadline().is_some_and(|deadline| deadline <= now);
            if !late {
                self.arm(association);
            } else if controller.queues.is_empty() {
                self.end(association);
            } else if !controller.keep_alive.asking {
                // A capsule on any queue counts, and the I/O queues are elsewhere.
                controller.keep_alive.asking = true;
                self.outputs.push_back(DeskOutput::CheckTraffic { association });
            }
        }
    }

    pub(super) fn hear_traffic(&mut self, association: AssociationId, seen: bool, now: Time) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        controller.keep_alive.asking = false;
        if seen {
            controller.keep_alive.hear(now);
        }
        if controller.keep_alive.deadline().is_some_and(|deadline| deadline <= now) {
            self.end(association);
        } else {
            self.arm(association);
        }
    }

    pub(super) fn finish_abort(&mut self, token: u64, aborted: bool) {
        let Some(association) = self.aborts.remove(&token) else { return };
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        let Some(slot) = controller.aborts.remove(&token) else { return };
        let Some(key) = controller.admin else { return };
        self.commands.count(AdminOpcode::Abort.code(), Status::SUCCESS);
        if let Some(socket) = self.sockets.get_mut(key) {
            let result = if aborted { 0 } else { Abort::NOT_ABORTED };
            socket.connection.respond(slot, Status::SUCCESS, result, Pieces::none());
        }
        self.sockets.note(key);
    }
}
