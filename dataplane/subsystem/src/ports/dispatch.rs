//! From arrivals to requests, from completions to responses, and the grants of R2Ts in between.

use io::{Buffer, Memory, Slice, Time};
use nvme::command::{FABRICS, NvmCommand};
use nvme::fabrics::FabricsType;
use nvme::{Fuse, Sqe, Status};

use super::command::{self, Flow, Plan};
use super::queue::{Command, FirstHalf, Running, Stage};
use super::throttle::Admission;
use super::{Ports, join};
use crate::connection::{Arrival, Grant, Slot};
use crate::pointer::{self, Supply};
use crate::slab::Key;
use crate::{ByteRange, Operation, PairData, Pieces, PortsOutput, Request};

impl<B: Buffer> Ports<B> {
    /// Reads, starts and sends what one connection has to be read, started and sent.
    pub(super) fn attend(&mut self, key: Key, now: Time, memory: &mut impl Memory<Buffer = B>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.gone {
            return self.retire(key);
        }
        loop {
            self.run_plain(key);
            let socket = self.sockets.get_mut(key);
            match socket.and_then(|socket| socket.connection.poll_arrival(now, memory)) {
                Some(Arrival::Command { slot, sqe, data }) => self.on_command(key, slot, sqe, data, now),
                Some(Arrival::Data { slot, data }) => self.on_data(key, slot, data),
                None => break,
            }
            // What is held would make everything behind it wait its turn.
            self.start(key);
        }
        self.start(key);
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if !socket.connection.is_open() {
            socket.state.drop_pending();
            self.throttle.forget_queue(key);
        }
        if socket.connection.wants_memory() {
            self.starved.push(key);
        }
        if socket.connection.wants_grant() && !socket.state.granting {
            socket.state.granting = true;
            self.granting.push_back(key);
        }
        self.count_reserved(key);
        while let Some(output) = self.sockets.poll_io(key, now) {
            self.outputs.push_back(PortsOutput::Socket(output));
        }
    }

    /// Grants R2Ts to the queues in turn, while there is memory that no capsule waits for.
    pub(super) fn grant(&mut self, now: Time, memory: &mut impl Memory<Buffer = B>) {
        if !self.starved.is_empty() || self.stopping {
            return;
        }
        for _ in 0..self.granting.len() {
            let Some(key) = self.granting.pop_front() else { return };
            let Some(socket) = self.sockets.get_mut(key) else { continue };
            let grant = loop {
                let budget = self.config.r2t_bytes_max - self.reserved_bytes;
                match socket.connection.grant(budget, now, memory) {
                    Grant::Granted(len) => {
                        socket.state.reserved_bytes += len;
                        self.reserved_bytes += len as usize;
                    }
                    other => break other,
                }
            };
            // A queue whose own quota is used up comes back when a command has ended.
            socket.state.granting = grant != Grant::Nothing;
            while let Some(output) = self.sockets.poll_io(key, now) {
                self.outputs.push_back(PortsOutput::Socket(output));
            }
            match grant {
                Grant::Nothing | Grant::Granted(_) => {}
                Grant::OverBudget => return self.granting.push_front(key),
                Grant::NoMemory => {
                    self.retry = Some(now + crate::limits::MEMORY_RETRY);
                    return self.granting.push_front(key);
                }
            }
        }
    }

    /// Answers a command that was not given out, and the other half of its pair.
    pub(super) fn fail(&mut self, key: Key, slot: Slot, status: Status) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let queue = &mut socket.state;
        let Some(command) = queue.take(slot) else { return };
        // A pair waits by its second half.
        for slot in [Some(slot), command.partner].into_iter().flatten() {
            self.throttle.forget(command.nsid, key, slot);
        }
        queue.held.retain(|held| *held != slot && Some(*held) != command.partner);
        if queue.fused == FirstHalf::Waiting(slot) {
            queue.fused = FirstHalf::Failed;
        }
        let partner = command.partner.and_then(|partner| Some((partner, queue.take(partner)?)));
        self.answer(key, slot, command.opcode, status, Pieces::none());
        if let Some((partner, other)) = partner {
            self.answer(key, partner, other.opcode, Status::ABORTED_FAILED_FUSED, Pieces::none());
        }
    }

    /// Sends a response.
    pub(super) fn answer(&mut self, key: Key, slot: Slot, opcode: u8, status: Status, data: Pieces<B>) {
        self.commands.count(opcode, status);
        if let Some(socket) = self.sockets.get_mut(key)
            && !socket.gone
        {
            socket.connection.respond(slot, status, 0, data);
        }
    }

    fn on_command(
        &mut self,
        key: Key,
        slot: Slot,
        sqe: Sqe,
        data: Result<Option<Slice<B::Shared>>, Status>,
        now: Time,
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.state.traffic = true;
        let partner = match self.pair_up(key, slot, sqe.fuse) {
            Ok(partner) => partner,
            Err(status) => return self.answer(key, slot, sqe.opcode, status, Pieces::none()),
        };
        let data = match data {
            Ok(data) => data,
            Err(status) => return self.refuse(key, slot, &sqe, partner, status),
        };
        if sqe.opcode == FABRICS {
            return self.on_fabrics(key, slot, &sqe, partner, now);
        }
        let checked = self.plan(key, &sqe).and_then(|plan| {
            let supply = match plan.flow() {
                Flow::Nothing => None,
                Flow::FromHost(len) => Some((len, pointer::host_data(&sqe, data, len)?)),
                Flow::ToHost(len) => pointer::host_room(&sqe, len).map(|()| None)?,
            };
            Ok((plan, supply))
        });
        let version = self.views.version();
        let (plan, supply) = match checked {
            Ok(checked) => checked,
            Err(status) => return self.refuse(key, slot, &sqe, partner, status),
        };
        let (data, lacking) = match supply {
            None => (None, None),
            Some((_, Supply::Here(data))) => (Some(data), None),
            Some((len, Supply::Ask)) => (None, Some(len)),
        };
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Sqe { opcode, fuse, nsid, .. } = sqe;
        let stage = Stage::Limited(data, lacking);
        socket.state.insert(slot, Command { opcode, fuse, nsid, plan, version, stage, partner });
        if let Some(first) = partner
            && let Err(status) = self.tie(key, first, slot)
        {
            return self.fail(key, slot, status);
        }
        // The first half of a pair waits for the second, whatever the rates are; the second spends for the pair.
        if fuse == Fuse::First {
            return;
        }
        match self.throttle.admit(nsid, &plan, key, slot) {
            Admission::Now => self.resume(key, slot),
            Admission::Waits(draw) => self.outputs.extend(draw.map(PortsOutput::Draw)),
        }
    }

    /// A command may go on, with the first half of its pair: the data of both is asked for in a row, since one that
    /// waits for the other's would keep its share of R2Ts.
    pub(super) fn resume(&mut self, key: Key, slot: Slot) {
        let command = self.sockets.get(key).and_then(|socket| socket.state.get(slot));
        let first = command.and_then(|command| command.partner);
        for slot in first.into_iter().chain([slot]) {
            self.proceed(key, slot);
        }
    }

    /// Asks for the data of a command, or holds it ready.
    fn proceed(&mut self, key: Key, slot: Slot) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(command) = socket.state.get_mut(slot) else { return };
        let Stage::Limited(data, lacking) = &mut command.stage else { return };
        match *lacking {
            None => {
                command.stage = Stage::Ready(data.take());
                self.on_ready(key, slot);
            }
            Some(len) => {
                command.stage = Stage::Arriving;
                socket.connection.request_data(slot, len);
            }
        }
    }

    fn on_data(&mut self, key: Key, slot: Slot, data: Result<Slice<B::Shared>, Status>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        match data {
            Ok(data) => {
                if let Some(command) = socket.state.get_mut(slot) {
                    command.stage = Stage::Ready(Some(data));
                    self.on_ready(key, slot);
                }
            }
            Err(status) => self.fail(key, slot, status),
        }
    }

    /// Everything of a command is here. A pair is held by its second half once both are.
    fn on_ready(&mut self, key: Key, slot: Slot) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let queue = &mut socket.state;
        let Some(command) = queue.get(slot) else { return };
        let holder = match (command.fuse, command.partner) {
            (Fuse::First, None) => return,
            (Fuse::First, Some(second)) => second,
            (Fuse::None | Fuse::Second | Fuse::Reserved, _) => slot,
        };
        let other_ready = command.partner.is_none_or(|partner| {
            queue.get(partner).is_some_and(|other| matches!(other.stage, Stage::Ready(_)))
        });
        if other_ready {
            queue.held.push_back(holder);
        }
    }

    /// Gives out what is held, as far as the quota goes.
    fn start(&mut self, key: Key) {
        while !self.stopping {
            let Some(socket) = self.sockets.get_mut(key) else { return };
            let Some(&slot) = socket.state.held.front() else { return };
            if !socket.connection.is_open() {
                return;
            }
            let Some(command) = socket.state.get(slot) else {
                socket.state.held.pop_front();
                continue;
            };
            let (plan, nsid, version) = (command.plan, command.nsid, command.version);
            let view = socket.state.view;
            let charge = plan.charge();
            if version != self.views.version() {
                // The namespace may have shrunk or gone since the capsule arrived.
                let checked = self.views.look_up(view, nsid).and_then(|namespace| plan.recheck(namespace));
                if let Err(status) = checked {
                    self.fail(key, slot, status);
                    continue;
                }
            }
            let Some(socket) = self.sockets.get_mut(key) else { return };
            if !socket.connection.admit(slot, charge) {
                return;
            }
            socket.state.held.pop_front();
            self.begin(key, slot);
        }
    }

    /// Gives a command out.
    fn begin(&mut self, key: Key, slot: Slot) {
        let operation = match self.operation(key, slot) {
            Ok(Some(operation)) => operation,
            // Hints ask for nothing.
            Ok(None) => {
                let taken = self.sockets.get_mut(key).and_then(|socket| socket.state.take(slot));
                if let Some(command) = taken {
                    self.answer(key, slot, command.opcode, Status::SUCCESS, Pieces::none());
                }
                return;
            }
            Err(status) => return self.fail(key, slot, status),
        };
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(Command { opcode, nsid, plan, partner, .. }) = socket.state.take(slot) else { return };
        let to_host_bytes = if let Flow::ToHost(len) = plan.flow() { len } else { 0 };
        let begun = self.fences.begin();
        socket.state.begin(slot, Running { begun, nsid, to_host_bytes, partner, opcode });
        self.running += 1;
        self.requests.push(Request { id: join(key, slot), nsid, operation });
    }

    fn operation(&mut self, key: Key, slot: Slot) -> Result<Option<Operation<B>>, Status> {
        let socket = self.sockets.get_mut(key).ok_or(Status::INTERNAL_ERROR)?;
        let view = socket.state.view;
        let partner = socket.state.get(slot).and_then(|command| command.partner);
        let compare = partner.and_then(|first| socket.state.get_mut(first)).and_then(take_data);
        let command = socket.state.get_mut(slot).ok_or(Status::INTERNAL_ERROR)?;
        let (plan, nsid) = (command.plan, command.nsid);
        let data = take_data(command);
        if let Some(compare) = compare {
            let Plan::Write { range, fua } = plan else { return Err(Status::INTERNAL_ERROR) };
            let write = data.ok_or(Status::INTERNAL_ERROR)?;
            let ByteRange { offset_bytes, .. } = range;
            let pair = Box::new(PairData { compare, write });
            return Ok(Some(Operation::CompareAndWrite { offset_bytes, pair, fua }));
        }
        if let Plan::DatasetManagement(dsm) = plan {
            let list = data.ok_or(Status::INTERNAL_ERROR)?;
            let ranges = command::dsm_ranges(&list, self.views.look_up(view, nsid)?)?;
            let hints_only = !dsm.deallocate || ranges.is_empty();
            return Ok((!hints_only).then_some(Operation::Deallocate { ranges }));
        }
        plan.operation(data).map(Some).ok_or(Status::INTERNAL_ERROR)
    }

    fn plan(&self, key: Key, sqe: &Sqe) -> Result<Plan, Status> {
        let command = NvmCommand::parse(sqe).map_err(Status::dnr)?;
        let socket = self.sockets.get(key).ok_or(Status::INTERNAL_ERROR)?;
        let namespace = self.views.look_up(socket.state.view, sqe.nsid)?;
        Plan::new(sqe, command, namespace)
    }

    /// Fabrics commands on an I/O queue: Disconnect. Base spec 2.0, sections 6.2 to 6.4.
    fn on_fabrics(&mut self, key: Key, slot: Slot, sqe: &Sqe, partner: Option<Slot>, now: Time) {
        let status = match FabricsType::parse(sqe) {
            Some(FabricsType::Disconnect) if sqe.cdw10 & 0xffff != 0 => {
                Status::CONNECT_INCOMPATIBLE_FORMAT.dnr()
            }
            Some(FabricsType::Disconnect) => Status::SUCCESS,
            Some(FabricsType::Connect) => Status::COMMAND_SEQUENCE_ERROR.dnr(),
            Some(FabricsType::PropertyGet | FabricsType::PropertySet) => Status::INVALID_FIELD.dnr(),
            Some(FabricsType::AuthenticationSend | FabricsType::AuthenticationReceive) | None => {
                Status::INVALID_OPCODE.dnr()
            }
        };
        self.refuse(key, slot, sqe, partner, status);
        if status.is_success()
            && let Some(socket) = self.sockets.get_mut(key)
        {
            socket.connection.finish(now);
        }
    }

    /// A connection is gone: drops what has not begun, and the queue once what had has ended.
    fn retire(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        socket.state.drop_pending();
        self.throttle.forget_queue(key);
        let (association, dropped) = (socket.state.association, socket.state.dropped);
        if socket.state.running > 0 {
            return;
        }
        let Some(socket) = self.sockets.remove(key) else { return };
        self.reserved_bytes -= socket.state.reserved_bytes as usize;
        if !dropped {
            self.outputs.push_back(PortsOutput::QueueClosed { association, qid: socket.state.qid });
        }
        self.views.leave(socket.state.view);
    }

    fn count_reserved(&mut self, key: Key) {
        if let Some(socket) = self.sockets.get_mut(key) {
            let reserved = socket.connection.reserved_bytes();
            self.reserved_bytes -= socket.state.reserved_bytes as usize;
            self.reserved_bytes += reserved as usize;
            socket.state.reserved_bytes = reserved;
        }
    }
}

fn take_data<B: Buffer>(command: &mut Command<B>) -> Option<Slice<B::Shared>> {
    match &mut command.stage {
        Stage::Ready(data) => data.take(),
        Stage::Arriving | Stage::Limited(..) => None,
    }
}
