//! Connect: its checks, and what must be over before it is answered. Base spec 2.0, section 6.3.

use io::{Buffer, Purpose, Slice, Time};
use nvme::fabrics::{
    Connect, ConnectAttributes, ConnectData, ConnectResponse, InvalidParameter, ShutdownStatus,
};
use nvme::{Nqn, Sqe, Status};

use super::cntlid::Cntlid;
use super::controller::{Controller, Kind, PathId};
use super::{Desk, DeskConfig, ListenerKind, Role};
use crate::connection::{QueueRules, Slot};
use crate::limits;
use crate::ports::QueueHandover;
use crate::slab::Key;
use crate::{AssociationId, Pieces};

/// A Connect that has passed the checks that need nothing but itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) slot: Slot,
    connect: Connect,
    data: ConnectData,
    kind: Kind,
    /// How long it waits for its QID where that is in use.
    until: Time,
}

/// Why a Connect is refused: the status, and which parameter is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: Status,
    result: u64,
}

impl Ticket {
    pub(crate) const fn qid(&self) -> u16 {
        self.connect.qid
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, result: 0 }
    }
}

impl From<InvalidParameter> for Refusal {
    /// The same Connect would fail again: do not retry.
    fn from(parameter: InvalidParameter) -> Self {
        Self { status: Status::CONNECT_INVALID_PARAMETERS.dnr(), result: parameter.result() }
    }
}

impl<B: Buffer> Desk<B> {
    /// A Connect with its data.
    pub(super) fn on_connect(&mut self, key: Key, slot: Slot, sqe: &Sqe, data: &Slice<B::Shared>, now: Time) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let ticket = match check(&self.config, socket.state.listener, slot, sqe, data, now) {
            Ok(ticket) => ticket,
            Err(refusal) => return self.refuse_connect(key, slot, refusal),
        };
        // Nothing is read before the answer: what comes may belong to another reactor.
        socket.connection.set_paused(true);
        socket.state.role = Role::Connecting(Box::new(ticket));
        self.connect(key, now);
    }

    /// Goes on with a Connect that has not been answered.
    pub(super) fn connect(&mut self, key: Key, now: Time) {
        let Some(socket) = self.sockets.get(key) else { return };
        let Role::Connecting(ticket) = &socket.state.role else { return };
        if !socket.connection.is_open() {
            return;
        }
        let ticket = **ticket;
        if ticket.connect.qid > 0 {
            self.connect_io(key, &ticket, now);
        } else {
            self.connect_admin(key, &ticket, now);
        }
    }

    /// When the first of the Connects that wait for a QID is refused.
    pub(super) fn poll_qid_wait(&self) -> Option<Time> {
        let waits = |key: &Key| match &self.sockets.get(*key)?.state.role {
            Role::Connecting(ticket) if ticket.connect.qid > 0 => Some(ticket.until),
            _ => None,
        };
        self.waiting.iter().filter_map(waits).min()
    }

    /// Answers an admin Connect, unless it must wait for the end of an earlier association or for a CNTLID.
    fn connect_admin(&mut self, key: Key, ticket: &Ticket, now: Time) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Ticket { slot, connect, data, kind, .. } = *ticket;
        let path = PathId {
            host: data.host_nqn,
            host_id: data.host_id,
            peer: socket.state.peer.ip().to_canonical(),
            local: socket.state.local,
        };
        // The host has lost what it had here. None of its commands may run after the answer.
        if kind == Kind::Io
            && let Some(&stale) = self.paths.get(&path)
        {
            self.end(stale);
            if self.paths.contains_key(&path) {
                return self.wait(key);
            }
        }
        if self.controllers.len() >= limits::CONTROLLERS_MAX {
            return self.refuse_connect(key, slot, Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let cntlid = match self.cntlids.take(|cntlid| self.by_cntlid.contains_key(&cntlid)) {
            Cntlid::Taken(cntlid) => cntlid,
            Cntlid::NotNoted => return self.wait(key),
            Cntlid::None => {
                return self.refuse_connect(key, slot, Status::CONNECT_CONTROLLER_BUSY.into());
            }
        };
        self.associations += 1;
        let association = AssociationId(self.associations);
        let (subsystem, kato_ms) = (data.subsystem_nqn, connect.kato_ms);
        let mut controller = Controller::new(association, cntlid, kind, subsystem, path, kato_ms, now);
        controller.admin = Some(key);
        self.by_cntlid.insert(cntlid, association);
        if kind == Kind::Io {
            self.paths.insert(controller.path.clone(), association);
        }
        self.controllers.insert(association, controller);
        self.arm(association);
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.state.role = Role::Admin(association);
        let rules = QueueRules {
            success_flag: false,
            purpose: Purpose::Admin,
            bytes_max: limits::ADMIN_BYTES_MAX,
            ..rules(&connect)
        };
        socket.connection.set_rules(rules, nvme::pdu::ADMIN_CAPSULE_DATA_MAX);
        socket.connection.set_paused(self.stopping);
        socket.connection.respond_connect(slot, Status::SUCCESS, response(cntlid));
        self.sockets.note(key);
    }

    /// Checks the Connect of an I/O queue against its controller, and sends the queue on its way. Where an earlier queue
    /// has its QID it waits: that may have ended without its reactor having told.
    fn connect_io(&mut self, key: Key, ticket: &Ticket, now: Time) {
        match self.admit_io(ticket) {
            Err(refusal) => self.refuse_connect(key, ticket.slot, refusal),
            Ok(association) => {
                let Some(controller) = self.controllers.get_mut(&association) else { return };
                if !controller.queues.insert(ticket.connect.qid) {
                    if now < ticket.until {
                        return self.wait(key);
                    }
                    return self.refuse_connect(key, ticket.slot, Status::COMMAND_SEQUENCE_ERROR.into());
                }
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.state.role = Role::Leaving { association, ticket: Box::new(*ticket) };
                }
                self.sockets.note(key);
            }
        }
    }

    fn admit_io(&self, ticket: &Ticket) -> Result<AssociationId, Refusal> {
        let Ticket { connect, data, .. } = ticket;
        // The association may have ended a moment ago: the host starts over, so this is no reason to give up for ever.
        let gone = Refusal {
            status: Status::CONNECT_INVALID_PARAMETERS,
            result: InvalidParameter::Data(ConnectData::CNTLID_AT).result(),
        };
        let association = self.by_cntlid.get(&data.cntlid).ok_or(gone)?;
        let controller = self.controllers.get(association).filter(|c| c.kind == Kind::Io).ok_or(gone)?;
        if controller.subsystem != data.subsystem_nqn {
            return Err(InvalidParameter::Data(ConnectData::SUBNQN_AT).into());
        }
        if controller.path.host != data.host_nqn {
            return Err(InvalidParameter::Data(ConnectData::HOSTNQN_AT).into());
        }
        if controller.path.host_id != data.host_id {
            return Err(InvalidParameter::Data(ConnectData::HOSTID_AT).into());
        }
        if !controller.is_alive() {
            return Err(gone);
        }
        if connect.qid > controller.features.queues {
            return Err(InvalidParameter::Command(Connect::QID_AT).into());
        }
        let shutting = controller.csts.shutdown != ShutdownStatus::Normal;
        if !controller.csts.ready || shutting || controller.dropping {
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        Ok(*association)
    }

    /// Hands a queue over once nothing is under way on its socket.
    pub(super) fn leave(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else { return };
        let Role::Leaving { association, ticket } = &socket.state.role else { return };
        if !socket.connection.is_open() || !socket.connection.is_quiet() {
            return;
        }
        let (association, Ticket { slot, connect, data, .. }) = (*association, **ticket);
        let Some(mut socket) = self.sockets.remove(key) else { return };
        socket.connection.set_paused(false);
        let queue = Box::new(QueueHandover {
            connection: socket.connection,
            association,
            qid: connect.qid,
            cntlid: data.cntlid,
            connect: slot,
            rules: rules(&connect),
            host: data.host_nqn,
            address: socket.state.peer.ip().to_canonical(),
        });
        self.outputs.push_back(crate::DeskOutput::HandOver { connection: socket.id, queue });
    }

    fn wait(&mut self, key: Key) {
        if !self.waiting.contains(&key) {
            self.waiting.push(key);
        }
    }

    fn refuse_connect(&mut self, key: Key, slot: Slot, refusal: Refusal) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        self.commands.count(nvme::command::FABRICS, refusal.status);
        socket.state.role = Role::Fresh;
        socket.connection.set_paused(self.stopping);
        socket.connection.respond(slot, refusal.status, refusal.result, Pieces::none());
        self.sockets.note(key);
    }
}

/// What can be said of a Connect without knowing the controllers.
fn check(
    config: &DeskConfig,
    listener: ListenerKind,
    slot: Slot,
    sqe: &Sqe,
    data: &[u8],
    now: Time,
) -> Result<Ticket, Refusal> {
    let connect = Connect::parse(sqe);
    if connect.record_format != 0 {
        return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.dnr().into());
    }
    let image = data.first_chunk().ok_or(Status::DATA_SGL_LENGTH_INVALID.dnr())?;
    let data = ConnectData::parse(image)?;
    let kind = kind_of(config, listener, &data.subsystem_nqn)
        .ok_or(InvalidParameter::Data(ConnectData::SUBNQN_AT))?;
    let entries_max = if connect.qid == 0 {
        // The dynamic controller model: any controller, FFFFh. There are no static ones to ask for.
        if data.cntlid != ConnectData::CNTLID_DYNAMIC {
            return Err(InvalidParameter::Data(ConnectData::CNTLID_AT).into());
        }
        limits::ADMIN_QUEUE_ENTRIES_MAX
    } else {
        if kind == Kind::Discovery {
            return Err(InvalidParameter::Command(Connect::QID_AT).into());
        }
        limits::QUEUE_ENTRIES_MAX
    };
    if connect.queue_entries < 2 || connect.queue_entries > entries_max {
        return Err(InvalidParameter::Command(Connect::SQSIZE_AT).into());
    }
    Ok(Ticket { slot, connect, data, kind, until: now + limits::QID_WAIT })
}

/// Which subsystem a name means on a listener.
fn kind_of(config: &DeskConfig, listener: ListenerKind, name: &Nqn) -> Option<Kind> {
    if name.is_discovery() || *name == config.discovery_nqn {
        return Some(Kind::Discovery);
    }
    (listener == ListenerKind::Io && *name == config.subsystem_nqn).then_some(Kind::Io)
}

fn rules(connect: &Connect) -> QueueRules {
    QueueRules {
        entries: connect.queue_entries,
        flow_control: !connect.attributes.contains(ConnectAttributes::DISABLE_SQ_FLOW_CONTROL),
        success_flag: true,
        purpose: Purpose::Data,
        bytes_max: limits::CONNECTION_BYTES_MAX,
    }
}

fn response(cntlid: u16) -> u64 {
    ConnectResponse { cntlid, authentication_required: false, secure_channel_required: false }.result()
}
