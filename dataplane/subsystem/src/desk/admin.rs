//! Commands on admin queues: who does them, and their answers.

use io::{Buffer, Memory, Purpose, Time};
use nvme::command::{Abort, AdminOpcode, FABRICS};
use nvme::fabrics::{ConnectData, FabricsType, PropertyGet, PropertySet};
use nvme::features::{GetFeatures, SetFeatures};
use nvme::identify::{IDENTIFY_LEN, Identify};
use nvme::log::GetLogPage;
use nvme::{Fuse, Sqe, Status};

use super::client::Wait;
use super::controller::AfterDrop;
use super::identify::Scene;
use super::log_page::Counters;
use super::property::Change;
use super::{Desk, Parked, Role, feature, identify, log_page, property};
use crate::connection::{Arrival, Slot};
use crate::limits::ABORTS_MAX;
use crate::pointer::{self, Supply};
use crate::slab::Key;
use crate::{AssociationId, DeskOutput, Piece, Pieces};

/// How a command is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Status(Status),
    Result(u64),
    Data(Vec<u8>),
    /// Later, once what this namespace has allocated is counted.
    Counted(u32),
    /// Later.
    Pending,
}

/// An Identify that is answered once what its namespace has allocated is counted.
#[derive(Debug)]
pub(super) struct Counting<B> {
    association: AssociationId,
    slot: Slot,
    sqe: Sqe,
    /// For the answer.
    buffer: B,
}

impl From<Result<u64, Status>> for Reply {
    fn from(result: Result<u64, Status>) -> Self {
        result.map_or_else(Self::Status, Self::Result)
    }
}

impl<B: Buffer> Desk<B> {
    pub(super) fn on_arrival(
        &mut self,
        key: Key,
        arrival: Arrival<B>,
        now: Time,
        memory: &mut impl Memory<Buffer = B>,
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if let Role::Admin(association) = &socket.state.role
            && let Some(controller) = self.controllers.get_mut(association)
        {
            controller.keep_alive.hear(now);
        }
        match arrival {
            Arrival::Data { slot, data } => {
                let Some(sqe) = socket.state.awaiting.remove(&slot) else { return };
                match data {
                    Ok(data) => self.execute(key, Parked { slot, sqe, data: Some(data) }, now, memory),
                    Err(status) => self.answer(key, slot, &sqe, status, 0),
                }
            }
            Arrival::Command { slot, sqe, data } => {
                let needed = data_needed(&sqe);
                let supply = data.and_then(|data| match needed {
                    0 => Ok(None),
                    needed => pointer::host_data(&sqe, data, needed).map(Some),
                });
                match supply {
                    Ok(Some(Supply::Ask)) => {
                        socket.connection.request_data(slot, needed);
                        socket.state.awaiting.insert(slot, sqe);
                    }
                    Ok(Some(Supply::Here(data))) => {
                        self.execute(key, Parked { slot, sqe, data: Some(data) }, now, memory);
                    }
                    Ok(None) => self.execute(key, Parked { slot, sqe, data: None }, now, memory),
                    Err(status) => self.answer(key, slot, &sqe, status, 0),
                }
            }
        }
    }

    /// Does a command whose data is here, or parks it while there is no memory for its reply.
    pub(super) fn execute(
        &mut self,
        key: Key,
        command: Parked<B>,
        now: Time,
        memory: &mut impl Memory<Buffer = B>,
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Parked { slot, sqe, .. } = command;
        let Role::Admin(association) = socket.state.role else {
            return match (FabricsType::parse(&sqe), &command.data) {
                (Some(FabricsType::Connect), Some(data)) => self.on_connect(key, slot, &sqe, data, now),
                // Base spec 2.0, section 3.3.1: nothing but Connect comes first.
                _ => self.answer(key, slot, &sqe, Status::COMMAND_SEQUENCE_ERROR.dnr(), 0),
            };
        };
        let len = match self.reply_len(association, &sqe) {
            Ok(len) => len,
            Err(status) => return self.answer(key, slot, &sqe, status, 0),
        };
        let buffer = match self.reply_buffer(key, slot, len, memory) {
            Ok(buffer) => buffer,
            Err(wait) => return self.park(key, command, wait),
        };
        let reply = match sqe.opcode {
            FABRICS => self.fabrics(association, slot, &sqe),
            _ => self.admin(association, slot, &sqe, command.data.as_deref(), now),
        };
        match (reply, buffer) {
            (Reply::Status(status), _) => self.answer(key, slot, &sqe, status, 0),
            (Reply::Result(result), _) => self.answer(key, slot, &sqe, Status::SUCCESS, result),
            (Reply::Data(bytes), Some(buffer)) => self.answer_data(key, slot, &sqe, &bytes, buffer),
            (Reply::Counted(nsid), Some(buffer)) => {
                self.tokens += 1;
                let token = self.tokens;
                self.counts.insert(token, Counting { association, slot, sqe, buffer });
                self.outputs.push_back(DeskOutput::CountAllocated { nsid, token });
            }
            (Reply::Data(_) | Reply::Counted(_), None) => unreachable!("a reply with data has a buffer"),
            (Reply::Pending, _) => {}
        }
        self.deliver(association);
    }

    /// Memory for a reply of `len` bytes, within the queue's quota.
    fn reply_buffer(
        &mut self,
        key: Key,
        slot: Slot,
        len: usize,
        memory: &mut impl Memory<Buffer = B>,
    ) -> Result<Option<B>, Wait> {
        if len == 0 {
            return Ok(None);
        }
        let buffer = memory.allocate(len, Purpose::Admin).ok_or(Wait::ForMemory)?;
        let bytes = u32::try_from(len).expect("at most MDTS bytes");
        let admitted = self.sockets.get_mut(key).is_some_and(|socket| socket.connection.admit(slot, bytes));
        if admitted { Ok(Some(buffer)) } else { Err(Wait::ForHost) }
    }

    /// Puts a command aside. Nothing more is read until it is done.
    fn park(&mut self, key: Key, command: Parked<B>, wait: Wait) {
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.connection.set_paused(true);
            socket.state.parked = Some((command, wait));
        }
    }

    /// Answers a command without data.
    pub(super) fn answer(&mut self, key: Key, slot: Slot, sqe: &Sqe, status: Status, result: u64) {
        self.commands.count(sqe.opcode, status);
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if let Role::Admin(association) = &socket.state.role
            && !status.is_success()
            && let Some(controller) = self.controllers.get_mut(association)
        {
            controller.errors.push(sqe, status);
        }
        socket.connection.respond(slot, status, result, Pieces::none());
        self.sockets.note(key);
    }

    /// Answers a command with data.
    fn answer_data(&mut self, key: Key, slot: Slot, sqe: &Sqe, bytes: &[u8], mut buffer: B) {
        assert_eq!(bytes.len(), buffer.len(), "a reply has the length that was announced");
        buffer.copy_from_slice(bytes);
        let len = u32::try_from(bytes.len()).expect("at most MDTS bytes");
        self.commands.count(sqe.opcode, Status::SUCCESS);
        if let Some(socket) = self.sockets.get_mut(key) {
            let data = Pieces::one(Piece::Owned { buffer, start: 0, len });
            socket.connection.respond(slot, Status::SUCCESS, 0, data);
        }
        self.sockets.note(key);
    }

    /// Answers an Identify that has waited; as the namespace is now.
    pub(super) fn finish_count(&mut self, token: u64, allocated_bytes: Option<u64>) {
        let Some(counting) = self.counts.remove(&token) else { return };
        let Counting { association, slot, sqe, buffer } = counting;
        let Some(scene) = self.scene(association) else { return };
        let Some(key) = scene.controller.admin else { return };
        match identify::identify(&scene, &Identify::parse(&sqe), allocated_bytes) {
            Ok(image) => self.answer_data(key, slot, &sqe, &image, buffer),
            Err(status) => self.answer(key, slot, &sqe, status, 0),
        }
    }

    /// Completes Asynchronous Event Requests for which something has happened.
    pub(super) fn deliver(&mut self, association: AssociationId) {
        let Some(controller) = self.controllers.get_mut(&association) else { return };
        let Some(key) = controller.admin else { return };
        while let Some((slot, result)) = controller.events.poll() {
            self.commands.count(AdminOpcode::AsyncEventRequest.code(), Status::SUCCESS);
            if let Some(socket) = self.sockets.get_mut(key) {
                socket.connection.respond(slot, Status::SUCCESS, result, Pieces::none());
            }
            self.sockets.note(key);
        }
    }

    /// Bytes of data that the command returns if it succeeds, the host's room for them checked.
    fn reply_len(&self, association: AssociationId, sqe: &Sqe) -> Result<usize, Status> {
        let len = match AdminOpcode::parse(sqe.opcode) {
            Some(AdminOpcode::Identify) => IDENTIFY_LEN,
            Some(AdminOpcode::GetLogPage) => log_page::reply_len(&GetLogPage::parse(sqe))?,
            Some(AdminOpcode::GetFeatures) => feature::reply_len(&GetFeatures::parse(sqe)),
            _ => 0,
        };
        let ready = self.controllers.get(&association).is_some_and(|controller| controller.csts.ready);
        if len == 0 || !ready {
            return Ok(0);
        }
        pointer::host_room(sqe, u32::try_from(len).map_err(|_| Status::INVALID_FIELD.dnr())?)?;
        Ok(len)
    }

    fn fabrics(&mut self, association: AssociationId, slot: Slot, sqe: &Sqe) -> Reply {
        let Some(controller) = self.controllers.get_mut(&association) else {
            return Reply::Status(Status::INTERNAL_ERROR);
        };
        match FabricsType::parse(sqe) {
            Some(FabricsType::PropertyGet) => {
                PropertyGet::parse(sqe).and_then(|command| property::get(controller, &command)).into()
            }
            Some(FabricsType::PropertySet) => {
                match PropertySet::parse(sqe).and_then(|command| property::set(controller, &command)) {
                    Err(status) => Reply::Status(status.dnr()),
                    Ok(Change::None) => Reply::Result(0),
                    Ok(Change::Reset) => {
                        self.reset(association, slot);
                        Reply::Pending
                    }
                    Ok(Change::Shutdown) => {
                        controller.after_drop.push(AfterDrop::FlushForShutdown);
                        self.drop_queues(association);
                        Reply::Result(0)
                    }
                }
            }
            Some(FabricsType::Connect) => Reply::Status(Status::COMMAND_SEQUENCE_ERROR.dnr()),
            // Base spec 2.0, section 6.4: an admin queue ends with its controller.
            Some(FabricsType::Disconnect) => Reply::Status(Status::INVALID_QUEUE_TYPE.dnr()),
            Some(FabricsType::AuthenticationSend | FabricsType::AuthenticationReceive) | None => {
                Reply::Status(Status::INVALID_OPCODE.dnr())
            }
        }
    }

    fn admin(
        &mut self,
        association: AssociationId,
        slot: Slot,
        sqe: &Sqe,
        data: Option<&[u8]>,
        now: Time,
    ) -> Reply {
        let Some(controller) = self.controllers.get_mut(&association) else {
            return Reply::Status(Status::INTERNAL_ERROR);
        };
        if !controller.csts.ready {
            return Reply::Status(Status::COMMAND_SEQUENCE_ERROR.dnr());
        }
        if sqe.fuse != Fuse::None {
            return Reply::Status(Status::INVALID_FIELD.dnr());
        }
        match AdminOpcode::parse(sqe.opcode) {
            Some(AdminOpcode::Identify) => self.identify(association, sqe),
            Some(AdminOpcode::GetLogPage) => self.log_page(association, sqe, now),
            Some(AdminOpcode::GetFeatures) => feature::get(controller, &GetFeatures::parse(sqe), now),
            Some(AdminOpcode::SetFeatures) => {
                let reply = feature::set(controller, &SetFeatures::parse(sqe), data.unwrap_or_default(), now);
                self.arm(association);
                reply
            }
            Some(AdminOpcode::AsyncEventRequest) => match controller.events.request(slot) {
                Ok(()) => Reply::Pending,
                Err(status) => Reply::Status(status),
            },
            Some(AdminOpcode::Abort) => self.abort(association, slot, Abort::parse(sqe)),
            Some(AdminOpcode::KeepAlive) => Reply::Result(0),
            Some(_) | None => Reply::Status(Status::INVALID_OPCODE.dnr()),
        }
    }

    fn identify(&self, association: AssociationId, sqe: &Sqe) -> Reply {
        let Some(scene) = self.scene(association) else { return Reply::Status(Status::INTERNAL_ERROR) };
        let command = Identify::parse(sqe);
        if let Some(nsid) = identify::counted(&scene, &command) {
            return Reply::Counted(nsid);
        }
        match identify::identify(&scene, &command, None) {
            Ok(image) => Reply::Data(image.to_vec()),
            Err(status) => Reply::Status(status),
        }
    }

    fn log_page(&mut self, association: AssociationId, sqe: &Sqe, now: Time) -> Reply {
        let command = GetLogPage::parse(sqe);
        let counters = Counters {
            generation: self.generation,
            changes: self.changes,
            health: &self.health,
            since: self.since.unwrap_or(now),
            now,
        };
        let Some(scene) = self.scene(association) else { return Reply::Status(Status::INTERNAL_ERROR) };
        let bytes = match log_page::read(&scene, &counters, &command) {
            Ok(bytes) => bytes,
            Err(status) => return Reply::Status(status),
        };
        if !command.retain_event
            && let Some(notice) = log_page::clears(command.page)
            && let Some(controller) = self.controllers.get_mut(&association)
        {
            controller.events.clear(notice);
            if notice == super::event::Notice::Namespaces {
                controller.changed.clear();
            }
        }
        Reply::Data(bytes)
    }

    /// Aborts an event request at once, and asks the reactors about a command of an I/O queue.
    fn abort(&mut self, association: AssociationId, slot: Slot, abort: Abort) -> Reply {
        let Some(controller) = self.controllers.get_mut(&association) else {
            return Reply::Status(Status::INTERNAL_ERROR);
        };
        if abort.sqid > 0 {
            if !controller.queues.contains(&abort.sqid) {
                return Reply::Result(Abort::NOT_ABORTED);
            }
            if controller.aborts.len() >= ABORTS_MAX {
                return Reply::Status(Status::ABORT_LIMIT_EXCEEDED);
            }
            self.tokens += 1;
            let token = self.tokens;
            controller.aborts.insert(token, slot);
            self.aborts.insert(token, association);
            let (qid, cid) = (abort.sqid, abort.cid);
            self.outputs.push_back(DeskOutput::AbortCommand { association, qid, cid, token });
            return Reply::Pending;
        }
        // Everything else on the admin queue is done at once, so that only event requests can be found.
        let found = controller.admin.and_then(|key| {
            let socket = self.sockets.get_mut(key)?;
            let victim = socket.connection.find(abort.cid)?;
            controller.events.take(victim).then_some((key, victim))
        });
        let Some((key, victim)) = found else { return Reply::Result(Abort::NOT_ABORTED) };
        self.commands.count(AdminOpcode::AsyncEventRequest.code(), Status::ABORT_REQUESTED);
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.connection.respond(victim, Status::ABORT_REQUESTED, 0, Pieces::none());
        }
        Reply::Result(0)
    }

    fn scene(&self, association: AssociationId) -> Option<Scene<'_>> {
        Some(Scene {
            config: &self.config,
            namespaces: &self.namespaces,
            controllers: &self.controllers,
            controller: self.controllers.get(&association)?,
        })
    }
}

/// Bytes that a command carries to the controller.
fn data_needed(sqe: &Sqe) -> u32 {
    if FabricsType::parse(sqe) == Some(FabricsType::Connect) {
        return ConnectData::LEN as u32;
    }
    match AdminOpcode::parse(sqe.opcode) {
        Some(AdminOpcode::SetFeatures) => {
            u32::try_from(SetFeatures::parse(sqe).feature.data_len()).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}
