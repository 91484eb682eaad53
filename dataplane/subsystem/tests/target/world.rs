//! Everything around the machines: sockets as byte queues, a store, a clock that only tests move.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use io::{ConnectionId, NetError, NetErrorKind, Segment, SendList, Time};
use nvme::{Nqn, Status};
use subsystem::{
    AssociationId, Completion, Desk, DeskConfig, DeskOutput, Draw, HostAcl, IpAcl, ListenerKind,
    NamespaceShape, Operation, PairData, Piece, Pieces, Ports, PortsConfig, PortsOutput, Request, SectorSize,
    SocketOutput,
};

use crate::memory::{Heap, HeapBuffer};

pub(crate) const SUBSYSTEM: &str = "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress:uuid:6ba7b811-9dad-11d1-80b4-00c04fd430c8";

/// One end of a connection as the host sees it; stays the same when the target moves the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Desk,
    Ports(usize),
}

#[derive(Debug)]
enum Receive {
    Plain,
    Into { buffer: HeapBuffer, start: usize, end: usize },
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: ConnectionId,
    pub(crate) owner: Owner,
    receive: Option<Receive>,
    sending: Option<SendList<HeapBuffer>>,
    /// From the host, not received yet.
    to_target: VecDeque<u8>,
    /// To the host, not read yet.
    pub(crate) to_host: Vec<u8>,
    /// Sends do not end while this is set.
    pub(crate) host_reads: bool,
    /// The host closed its side.
    eof: bool,
    /// The target closed it.
    pub(crate) closed: bool,
    /// Bytes that one receive gives at most.
    pub(crate) chunk: usize,
    /// Buffers that were received straight into.
    pub(crate) received_into: usize,
    /// Segments of each send.
    pub(crate) sends: Vec<usize>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) heap: Heap,
    pub(crate) desk: Desk<HeapBuffer>,
    pub(crate) ports: Vec<Ports<HeapBuffer>>,
    pub(crate) sockets: Vec<Socket>,
    by_id: BTreeMap<ConnectionId, usize>,
    next_id: u64,
    /// Contents of namespaces.
    pub(crate) disks: BTreeMap<u32, Vec<u8>>,
    /// While set, requests are kept in `held` instead of being done.
    pub(crate) hold: bool,
    pub(crate) held: VecDeque<(usize, Request<HeapBuffer>)>,
    /// Names of the operations in the order in which they were asked for.
    pub(crate) operations: Vec<String>,
    pub(crate) fenced: Vec<(usize, u64)>,
    /// What ports want of the rates of limited namespaces; tests grant it.
    pub(crate) draws: VecDeque<(usize, Draw)>,
    drops: BTreeMap<AssociationId, usize>,
    pub(crate) dropped: Vec<AssociationId>,
    pub(crate) persisted: Vec<u16>,
    pub(crate) traffic_checks: usize,
    /// Flushes that the desk asked for.
    pub(crate) flushes: usize,
    /// Where the next I/O queue goes.
    pub(crate) next_port: usize,
    /// Bytes allocated in thin namespaces.
    pub(crate) allocated: BTreeMap<u32, u64>,
    /// Counts that were asked for while requests were held.
    pub(crate) counts: Vec<(u32, u64)>,
}

pub(crate) fn nqn(text: &str) -> Nqn {
    Nqn::new(text).unwrap()
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn shape(nsid: u32, sector: SectorSize, size_blocks: u64) -> NamespaceShape {
    let mut uuid = [0x40; 16];
    uuid[12..].copy_from_slice(&nsid.to_be_bytes());
    NamespaceShape {
        nsid,
        uuid,
        sector,
        size_blocks,
        atomic_bytes: 64 << 10,
        hosts: HostAcl::Any,
        addresses: IpAcl::Any,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_config(|_| {})
    }

    pub(crate) fn with_config(change: impl FnOnce(&mut DeskConfig)) -> Self {
        let mut config = DeskConfig {
            subsystem_nqn: nqn(SUBSYSTEM),
            discovery_nqn: nqn(DISCOVERY),
            serial: "FE0000000001".into(),
            firmware: "0.1.0".into(),
            cntlids: 1..=0xffef,
            cntlid_next: None,
            generation: 100,
            advertised: vec![address("192.0.2.1:4420"), address("[2001:db8::1]:4420")],
        };
        change(&mut config);
        let ports = PortsConfig { r2t_bytes_max: 8 << 20 };
        Self {
            now: Time(1_000_000_000),
            heap: Heap::new(),
            desk: Desk::new(config),
            ports: vec![Ports::new(ports), Ports::new(ports)],
            sockets: Vec::new(),
            by_id: BTreeMap::new(),
            next_id: 0,
            disks: BTreeMap::new(),
            hold: false,
            held: VecDeque::new(),
            operations: Vec::new(),
            fenced: Vec::new(),
            draws: VecDeque::new(),
            drops: BTreeMap::new(),
            dropped: Vec::new(),
            persisted: Vec::new(),
            traffic_checks: 0,
            flushes: 0,
            next_port: 0,
            allocated: BTreeMap::new(),
            counts: Vec::new(),
        }
    }

    /// A world with namespace 1 (512-byte sectors) and 2 (4096-byte sectors), 4 MiB each.
    pub(crate) fn with_namespaces() -> Self {
        let mut world = Self::new();
        world.add(shape(1, SectorSize::B512, 8192));
        world.add(shape(2, SectorSize::B4096, 1024));
        world
    }

    /// Adds a namespace or changes one, everywhere, without a fence.
    pub(crate) fn add(&mut self, shape: NamespaceShape) {
        let size = (shape.size_blocks << shape.sector.shift()) as usize;
        if size <= 64 << 20 {
            self.disks.entry(shape.nsid).or_default().resize(size, 0);
        }
        let shape = Arc::new(shape);
        for ports in &mut self.ports {
            ports.set_namespace(Arc::clone(&shape), None);
        }
        self.desk.set_namespace(shape);
        self.pump();
    }

    pub(crate) fn open(&mut self, listener: ListenerKind, peer: &str) -> Line {
        let local = match listener {
            ListenerKind::Io => "192.0.2.1:4420",
            ListenerKind::Discovery => "192.0.2.1:8009",
        };
        let id = self.fresh_id();
        let line = Line(self.sockets.len());
        self.sockets.push(Socket {
            id,
            owner: Owner::Desk,
            receive: None,
            sending: None,
            to_target: VecDeque::new(),
            to_host: Vec::new(),
            host_reads: true,
            eof: false,
            closed: false,
            chunk: 64 << 10,
            received_into: 0,
            sends: Vec::new(),
        });
        self.by_id.insert(id, line.0);
        self.desk.handle_accepted(id, listener, address(local), address(peer), self.now);
        self.pump();
        line
    }

    pub(crate) fn socket(&mut self, line: Line) -> &mut Socket {
        &mut self.sockets[line.0]
    }

    /// The host sends bytes.
    pub(crate) fn send(&mut self, line: Line, bytes: &[u8]) {
        self.sockets[line.0].to_target.extend(bytes);
        self.pump();
    }

    /// The host sends bytes that stay in the network for now.
    pub(crate) fn send_later(&mut self, line: Line, bytes: &[u8]) {
        self.sockets[line.0].to_target.extend(bytes);
    }

    /// The host closes its side.
    pub(crate) fn hang_up(&mut self, line: Line) {
        self.sockets[line.0].eof = true;
        self.pump();
    }

    pub(crate) fn is_closed(&self, line: Line) -> bool {
        self.sockets[line.0].closed
    }

    /// Moves the clock, stopping at each deadline on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = self.ports.iter().filter_map(Ports::poll_timeout).chain(self.desk.poll_timeout()).min();
            match due {
                Some(due) if due <= end => self.now = due.max(self.now + Duration::from_micros(1)),
                _ => break,
            }
            self.pump();
        }
        self.now = end;
        self.pump();
    }

    /// Does everything that can be done without time passing.
    pub(crate) fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the machines never come to rest");
            let mut busy = self.deliver();
            self.desk.run(self.now, &mut self.heap);
            for index in 0..self.ports.len() {
                self.ports[index].run(self.now, &mut self.heap);
            }
            busy |= self.carry_out();
            if !busy {
                return;
            }
        }
    }

    /// Lets sockets do what was asked of them.
    fn deliver(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.sockets.len() {
            let socket = &mut self.sockets[index];
            if socket.closed {
                continue;
            }
            let (id, owner) = (socket.id, socket.owner);
            if socket.host_reads
                && let Some(list) = socket.sending.take()
            {
                socket.sends.push(list.segments.len());
                flatten(&list, &mut socket.to_host);
                match owner {
                    Owner::Desk => self.desk.handle_sent(id, list, Ok(())),
                    Owner::Ports(port) => self.ports[port].handle_sent(id, list, Ok(())),
                }
                busy = true;
            }
            let socket = &mut self.sockets[index];
            let count = socket.to_target.len().min(socket.chunk);
            if count == 0 && !socket.eof {
                continue;
            }
            match socket.receive.take() {
                None => continue,
                Some(Receive::Plain) => {
                    let bytes: Vec<u8> = socket.to_target.drain(..count).collect();
                    let result = Ok((count > 0).then(|| self.heap.buffer(bytes)));
                    match owner {
                        Owner::Desk => self.desk.handle_received(id, result),
                        Owner::Ports(port) => self.ports[port].handle_received(id, result),
                    }
                }
                Some(Receive::Into { mut buffer, start, end }) => {
                    let count = count.min(end - start);
                    for (byte, from) in buffer[start..start + count].iter_mut().zip(&socket.to_target) {
                        *byte = *from;
                    }
                    socket.to_target.drain(..count);
                    socket.received_into += 1;
                    match owner {
                        Owner::Desk => self.desk.handle_received_into(id, buffer, Ok(count)),
                        Owner::Ports(port) => {
                            self.ports[port].handle_received_into(id, buffer, Ok(count));
                        }
                    }
                }
            }
            busy = true;
        }
        busy
    }

    fn carry_out(&mut self) -> bool {
        let mut busy = false;
        while let Some(output) = self.desk.poll_output() {
            busy = true;
            self.carry_out_desk(output);
        }
        for port in 0..self.ports.len() {
            let mut requests = Vec::new();
            self.ports[port].take_requests(&mut requests);
            for request in requests {
                busy = true;
                self.operations.push(describe(&request));
                if self.hold {
                    self.held.push_back((port, request));
                } else {
                    self.serve(port, request);
                }
            }
            while let Some(output) = self.ports[port].poll_output() {
                busy = true;
                self.carry_out_ports(port, output);
            }
        }
        busy
    }

    fn carry_out_desk(&mut self, output: DeskOutput<HeapBuffer>) {
        match output {
            DeskOutput::Socket(output) => self.carry_out_socket(Owner::Desk, output),
            DeskOutput::HandOver { connection, queue } => {
                let index = self.by_id.remove(&connection).unwrap();
                let id = self.fresh_id();
                let port = self.next_port % self.ports.len();
                self.next_port += 1;
                let socket = &mut self.sockets[index];
                assert!(socket.receive.is_none(), "a released socket has no receive under way");
                assert!(socket.sending.is_none(), "a released socket has no send under way");
                socket.id = id;
                socket.owner = Owner::Ports(port);
                self.by_id.insert(id, index);
                self.ports[port].adopt(id, queue, self.now);
            }
            DeskOutput::PersistCntlid { next } => {
                self.persisted.push(next);
                self.desk.on_cntlid_persisted(next);
            }
            DeskOutput::DropQueues { association } => {
                self.drops.insert(association, self.ports.len());
                for ports in &mut self.ports {
                    ports.drop_queues(association);
                }
            }
            DeskOutput::Flush { association } => {
                self.flushes += 1;
                self.desk.on_flushed(association);
            }
            DeskOutput::CheckTraffic { association } => {
                self.traffic_checks += 1;
                let seen =
                    self.ports.iter_mut().fold(false, |seen, ports| seen | ports.take_traffic(association));
                self.desk.on_traffic(association, seen, self.now);
            }
            DeskOutput::AbortCommand { association, qid, cid, token } => {
                let aborted = self.ports.iter_mut().any(|ports| ports.abort(association, qid, cid));
                self.desk.on_abort(token, aborted);
            }
            DeskOutput::CountAllocated { nsid, token } if self.hold => self.counts.push((nsid, token)),
            DeskOutput::CountAllocated { nsid, token } => {
                self.desk.on_counted(token, self.allocated.get(&nsid).copied());
            }
        }
    }

    fn carry_out_ports(&mut self, port: usize, output: PortsOutput<HeapBuffer>) {
        match output {
            PortsOutput::Socket(output) => self.carry_out_socket(Owner::Ports(port), output),
            PortsOutput::Draw(draw) => self.draws.push_back((port, draw)),
            PortsOutput::Fenced { token } => self.fenced.push((port, token)),
            PortsOutput::QueuesDropped { association } => {
                let left = self.drops.get_mut(&association).unwrap();
                *left -= 1;
                if *left == 0 {
                    self.drops.remove(&association);
                    self.dropped.push(association);
                    self.desk.on_queues_dropped(association);
                }
            }
            PortsOutput::QueueClosed { association, qid } => self.desk.on_queue_closed(association, qid),
        }
    }

    fn carry_out_socket(&mut self, owner: Owner, output: SocketOutput<HeapBuffer>) {
        let id = match &output {
            SocketOutput::Receive { connection }
            | SocketOutput::ReceiveInto { connection, .. }
            | SocketOutput::Send { connection, .. }
            | SocketOutput::Close { connection } => *connection,
        };
        let index = self.by_id[&id];
        let socket = &mut self.sockets[index];
        assert_eq!(socket.owner, owner);
        match output {
            SocketOutput::Receive { .. } => {
                assert!(socket.receive.replace(Receive::Plain).is_none(), "one receive at a time");
            }
            SocketOutput::ReceiveInto { buffer, start, end, .. } => {
                assert!(start < end);
                assert!(end <= buffer.len());
                let receive = Receive::Into { buffer, start, end };
                assert!(socket.receive.replace(receive).is_none(), "one receive at a time");
            }
            SocketOutput::Send { list, .. } => {
                assert!(!list.is_empty());
                assert!(socket.sending.replace(list).is_none(), "one send at a time");
            }
            SocketOutput::Close { .. } => self.close(index),
        }
    }

    /// Ends a socket: what is under way ends as an error, then comes `Closed`.
    fn close(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        assert!(!socket.closed, "closed once");
        socket.closed = true;
        let (id, owner) = (socket.id, socket.owner);
        let error = NetError { kind: NetErrorKind::Cancelled, errno: 0 };
        let (receive, sending) = (socket.receive.take(), socket.sending.take());
        self.by_id.remove(&id);
        match (receive, owner) {
            (None, _) => {}
            (Some(Receive::Plain), Owner::Desk) => self.desk.handle_received(id, Err(error)),
            (Some(Receive::Plain), Owner::Ports(port)) => {
                self.ports[port].handle_received(id, Err(error));
            }
            (Some(Receive::Into { buffer, .. }), Owner::Desk) => {
                self.desk.handle_received_into(id, buffer, Err(error));
            }
            (Some(Receive::Into { buffer, .. }), Owner::Ports(port)) => {
                self.ports[port].handle_received_into(id, buffer, Err(error));
            }
        }
        match (sending, owner) {
            (None, _) => {}
            (Some(list), Owner::Desk) => self.desk.handle_sent(id, list, Err(error)),
            (Some(list), Owner::Ports(port)) => self.ports[port].handle_sent(id, list, Err(error)),
        }
        match owner {
            Owner::Desk => self.desk.handle_closed(id),
            Owner::Ports(port) => self.ports[port].handle_closed(id),
        }
    }

    /// Does the requests that were held, in order.
    pub(crate) fn release(&mut self) {
        while let Some((port, request)) = self.held.pop_front() {
            self.serve(port, request);
        }
        self.pump();
    }

    /// Does the oldest held request.
    pub(crate) fn serve_oldest(&mut self) {
        if let Some((port, request)) = self.held.pop_front() {
            self.serve(port, request);
            self.pump();
        }
    }

    /// Answers the oldest held request with a status of the test's choice.
    pub(crate) fn answer_held(&mut self, status: Status) {
        let (port, request) = self.held.pop_front().unwrap();
        self.ports[port].complete(request.id, Completion::of(status));
        self.pump();
    }

    fn serve(&mut self, port: usize, request: Request<HeapBuffer>) {
        let disk = self.disks.get_mut(&request.nsid).unwrap();
        let mut data = Pieces::none();
        let mut status = Status::SUCCESS;
        let span = |offset: u64, len: usize| offset as usize..offset as usize + len;
        match request.operation {
            Operation::Read { range } => {
                let bytes = disk[span(range.offset_bytes, range.len_bytes as usize)].to_vec();
                data = self.pieces(range.offset_bytes, bytes);
            }
            Operation::Write { offset_bytes, data, .. } => {
                disk[span(offset_bytes, data.len())].copy_from_slice(&data);
            }
            Operation::Flush | Operation::Verify { .. } => {}
            Operation::WriteZeroes { range, .. } => {
                disk[span(range.offset_bytes, range.len_bytes as usize)].fill(0);
            }
            Operation::Deallocate { ranges } => {
                for range in ranges {
                    disk[span(range.offset_bytes, range.len_bytes as usize)].fill(0);
                }
            }
            Operation::Compare { offset_bytes, data } => {
                if disk[span(offset_bytes, data.len())] != *data {
                    status = Status::COMPARE_FAILURE;
                }
            }
            Operation::CompareAndWrite { offset_bytes, pair, .. } => {
                let PairData { compare, write } = *pair;
                if disk[span(offset_bytes, compare.len())] == *compare {
                    disk[span(offset_bytes, write.len())].copy_from_slice(&write);
                } else {
                    status = Status::COMPARE_FAILURE;
                }
            }
        }
        self.ports[port].complete(request.id, Completion { status, data });
    }

    /// Data as a store would give it: zeros as such, a stripe boundary between two buffers.
    fn pieces(&mut self, offset: u64, bytes: Vec<u8>) -> Pieces<HeapBuffer> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Pieces::one(Piece::Zeroes { len: bytes.len() as u32 });
        }
        let owned = |heap: &Heap, part: &[u8]| {
            // The data lies somewhere inside its buffer.
            let mut padded = vec![0xee; 16];
            padded.extend_from_slice(part);
            Piece::Owned { buffer: heap.buffer(padded), start: 16, len: part.len() as u32 }
        };
        let to_boundary = ((1 << 20) - offset % (1 << 20)) as usize;
        if to_boundary >= bytes.len() {
            return Pieces::one(owned(&self.heap, &bytes));
        }
        let (first, second) = bytes.split_at(to_boundary);
        Pieces::two(owned(&self.heap, first), owned(&self.heap, second))
    }

    fn fresh_id(&mut self) -> ConnectionId {
        self.next_id += 1;
        ConnectionId(self.next_id)
    }
}

fn flatten(list: &SendList<HeapBuffer>, out: &mut Vec<u8>) {
    for segment in &list.segments {
        assert!(segment.len_bytes() > 0, "no empty segment");
        match segment {
            Segment::Header { start, len } => {
                out.extend_from_slice(&list.headers[*start as usize..][..*len as usize]);
            }
            Segment::Owned { buffer, start, len } => {
                out.extend_from_slice(&buffer[*start as usize..][..*len as usize]);
            }
            Segment::Shared(slice) => out.extend_from_slice(slice),
            Segment::Zeroes { len } => out.resize(out.len() + *len as usize, 0),
        }
    }
}

fn describe(request: &Request<HeapBuffer>) -> String {
    let nsid = request.nsid;
    match &request.operation {
        Operation::Read { range } => format!("read {nsid} {}+{}", range.offset_bytes, range.len_bytes),
        Operation::Write { offset_bytes, data, fua } => {
            format!("write {nsid} {offset_bytes}+{}{}", data.len(), if *fua { " fua" } else { "" })
        }
        Operation::Flush => format!("flush {nsid}"),
        Operation::WriteZeroes { range, deallocate, .. } => {
            let how = if *deallocate { " deallocate" } else { "" };
            format!("zero {nsid} {}+{}{how}", range.offset_bytes, range.len_bytes)
        }
        Operation::Deallocate { ranges } => {
            let ranges: Vec<String> =
                ranges.iter().map(|range| format!("{}+{}", range.offset_bytes, range.len_bytes)).collect();
            format!("deallocate {nsid} {}", ranges.join(","))
        }
        Operation::Compare { offset_bytes, data } => format!("compare {nsid} {offset_bytes}+{}", data.len()),
        Operation::CompareAndWrite { offset_bytes, pair, .. } => {
            let PairData { compare, write } = &**pair;
            assert_eq!(compare.len(), write.len());
            format!("compare-and-write {nsid} {offset_bytes}+{}", write.len())
        }
        Operation::Verify { range } => format!("verify {nsid} {}+{}", range.offset_bytes, range.len_bytes),
    }
}
