//! One reactor's engine: routes events to the machines, and what the machines want to the world and to each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use io::{DiskError, DriveId, Event, EventOf, Io, Memory, Net, ReactorId, Time, Token};
use nvme::Status;
use store::{Layout, ShardOptions};
use subsystem::{Completion, Ports, PortsConfig, PortsOutput, Rates, Request, SocketOutput};

use crate::counters;
use crate::execute::Questions;
use crate::hold::Holds;
use crate::job::{Finished, Jobs, Routed, null_completion};
use crate::lead::{Lead, LeadConfig};
use crate::message::{Backing, Message, NamespaceChange, Origin, Piece, PieceDone, ShardReport, StopStep};
use crate::owner;
use crate::post::Post;
use crate::qos::{self, Buckets};
use crate::rack::{Answer, Rack, RackOutput};
use crate::stop::Stopping;

/// The reactor that has the listeners, the admin queues and the directory.
pub(crate) const LEAD: ReactorId = ReactorId(0);

/// How soon to try again what a full mailbox refused.
const MAIL_RETRY: Duration = Duration::from_micros(50);

/// The messages of an implementation `I`.
pub type MessageOf<I> = Message<<I as Memory>::Buffer, <I as Net>::Socket>;

/// How an engine is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// On reactor 0: what it leads with.
    pub lead: Option<LeadConfig>,
    /// What every shard is told; its memory for the map is that of all shards together.
    pub shard: ShardOptions,
    /// How much hosts may be asked for by R2T at once, in bytes, until the commands have ended: at most half of what
    /// the arena has for data.
    pub r2t_bytes_max: usize,
    /// What goes wrong on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<crate::Planted>,
}

impl EngineConfig {
    /// A configuration without anything out of the ordinary.
    #[must_use]
    pub const fn new(lead: Option<LeadConfig>, shard: ShardOptions, r2t_bytes_max: usize) -> Self {
        Self {
            lead,
            shard,
            r2t_bytes_max,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

/// Something that whoever drives the engine should know.
#[derive(Debug)]
pub enum Notice {
    /// Every volume is attached and the listeners are open.
    Started(Box<crate::Identity>),
    /// The start was refused; the engine does nothing any more.
    Refused(crate::StartError),
    /// A shard has failed: its volumes answer with errors.
    ShardFailed(store::ShardId, store::Failure),
    /// The directory has failed: volumes cannot be changed any more.
    DirectoryFailed(store::directory::DirectoryFault),
    /// The stop is complete, or the start was abandoned: drive the engine no more.
    Stopped,
}

/// See the crate's head for the calling convention.
#[derive(Debug)]
pub struct Engine<I: Io> {
    pub(crate) reactor: ReactorId,
    pub(crate) reactors: u16,
    pub(crate) ports: Ports<I::Buffer>,
    pub(crate) lead: Option<Box<Lead<I::Buffer>>>,
    pub(crate) rack: Rack<I::Buffer>,
    pub(crate) post: Post<MessageOf<I>>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) stopping: Stopping,
    pub(crate) questions: Questions,
    jobs: Jobs<I::Buffer>,
    pub(crate) backings: Vec<Option<Backing>>,
    buckets: Buckets,
    holds: Holds<I::Buffer>,
    /// Commands of volumes whose image is being exchanged, by NSID, in order.
    paused: BTreeMap<u32, Vec<Request<I::Buffer>>>,
    shard_options: ShardOptions,
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::Planted>,
    #[cfg(feature = "planted")]
    pub(crate) late_forks: crate::planted::LateForks<I::Buffer>,
    /// Scratch, kept for its memory.
    requests: Vec<Request<I::Buffer>>,
    routed: Vec<Routed<I::Buffer>>,
    outputs: Vec<RackOutput<I::Buffer>>,
    flushed: Vec<Token>,
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// The engine of the reactor that `io` belongs to.
    #[must_use]
    pub fn new(config: EngineConfig, io: &I) -> Self {
        let (reactor, reactors) = (io.reactor(), io.reactors());
        assert!(config.lead.is_some() == (reactor == LEAD));
        Self {
            reactor,
            reactors,
            ports: Ports::new(PortsConfig { r2t_bytes_max: config.r2t_bytes_max }),
            lead: config.lead.map(|lead| Box::new(Lead::new(lead, io, reactors))),
            rack: Rack::new(reactors),
            post: Post::new(reactor, reactors),
            notices: Vec::new(),
            stopping: Stopping::default(),
            questions: Questions::default(),
            jobs: Jobs::new(
                reactor,
                reactors,
                #[cfg(feature = "planted")]
                config.planted,
            ),
            backings: Vec::new(),
            buckets: Buckets::default(),
            holds: Holds::new(),
            paused: BTreeMap::new(),
            shard_options: config.shard,
            #[cfg(feature = "planted")]
            planted: config.planted,
            #[cfg(feature = "planted")]
            late_forks: crate::planted::LateForks::new(),
            requests: Vec::new(),
            routed: Vec::new(),
            outputs: Vec::new(),
            flushed: Vec::new(),
        }
    }

    /// Takes an event in.
    pub fn handle(&mut self, event: EventOf<I>, io: &mut I) {
        let now = io.now();
        match event {
            Event::Received { connection, result } => {
                if self.ports.owns(connection) {
                    self.ports.handle_received(connection, result);
                } else if let Some(lead) = &mut self.lead {
                    lead.desk().handle_received(connection, result);
                }
            }
            Event::ReceivedInto { connection, buffer, result } => {
                if self.ports.owns(connection) {
                    self.ports.handle_received_into(connection, buffer, result);
                } else if let Some(lead) = &mut self.lead {
                    lead.desk().handle_received_into(connection, buffer, result);
                }
            }
            Event::Sent { connection, list, result } => {
                if self.ports.owns(connection) {
                    self.ports.handle_sent(connection, list, result);
                } else if let Some(lead) = &mut self.lead {
                    lead.desk().handle_sent(connection, list, result);
                }
            }
            Event::Closed { connection } => {
                if self.ports.owns(connection) {
                    self.ports.handle_closed(connection);
                } else if let Some(lead) = &mut self.lead {
                    lead.desk().handle_closed(connection);
                }
            }
            Event::Accepted { listener, socket, local, peer } => {
                if let (Some(lead), Some(connection)) = (&mut self.lead, io.adopt(socket)) {
                    lead.on_accepted(listener, connection, local, peer, now);
                }
            }
            Event::Mail { from, message } => self.on_message(from.unwrap_or(self.reactor), message, io),
            disk @ (Event::Read { .. } | Event::Written { .. } | Event::Flushed { .. }) => self.on_disk(disk),
        }
    }

    /// Does everything that can be done now. Returns when to call it again at the latest.
    pub fn run(&mut self, io: &mut I) -> Option<Time> {
        let now = io.now();
        self.post.retry(io);
        self.buckets.begin_round();
        #[cfg(feature = "planted")]
        let late = self.run_late_forks(io, now);
        #[cfg(not(feature = "planted"))]
        let late = None;
        loop {
            // Until what was answered at once is being sent, too.
            while self.run_ports(io, now) {}
            let mut moved = self.run_lead(io, now);
            moved |= self.run_rack(io, now);
            moved |= self.run_buckets(io, now);
            while let Some(message) = self.post.take_local() {
                moved = true;
                self.on_message(self.reactor, message, io);
            }
            moved |= self.run_stop(io);
            if !moved {
                break;
            }
        }
        self.rack.gate.issue(owner::GATE, io);
        let mail = self.post.has_refused().then(|| now + MAIL_RETRY);
        let lead = self.lead.as_ref().and_then(|lead| lead.poll_timeout(now));
        let buckets = self.buckets.poll_timeout();
        [self.ports.poll_timeout(), self.rack.poll_timeout(now), buckets, lead, mail, late]
            .into_iter()
            .flatten()
            .min()
    }

    /// The shards of this reactor: for tests that look at what the store makes of the engine's work.
    pub fn own_shards(&self) -> impl Iterator<Item = &store::Shard<I::Buffer>> {
        self.rack.shards().iter()
    }

    /// The next thing to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        if self.notices.is_empty() { None } else { Some(self.notices.remove(0)) }
    }

    /// True where no command of a host is under way and nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.ports.is_idle()
            && self.jobs.is_empty()
            && self.lead.as_ref().is_none_or(|lead| lead.is_drained())
    }

    /// Carries out what a machine wants of a socket.
    pub(crate) fn on_socket(output: SocketOutput<I::Buffer>, io: &mut I) {
        match output {
            SocketOutput::Receive { connection } => io.receive(connection),
            SocketOutput::ReceiveInto { connection, buffer, start, end } => {
                io.receive_into(connection, buffer, start, end);
            }
            SocketOutput::Send { connection, list } => io.send(connection, list),
            SocketOutput::Close { connection } => io.close(connection),
        }
    }

    /// Does a piece here or sends it to where it is done.
    pub(crate) fn route(&mut self, to: ReactorId, piece: Piece<I::Buffer>, io: &mut I) {
        if to != self.reactor {
            self.post.request(io, to, Message::Piece(piece));
        } else if let Some(output) = self.rack.begin(piece, io) {
            self.on_rack(output, io);
        }
    }

    fn on_disk(&mut self, event: EventOf<I>) {
        match event {
            Event::Read { token, buffer, result } if owner::of(token) >= owner::SHARDS => {
                self.rack.handle_read(token, buffer, result);
            }
            Event::Written { token, buffer, result } if owner::of(token) >= owner::SHARDS => {
                self.rack.handle_written(token, buffer, result);
            }
            Event::Read { token, buffer, result } => self.leading().handle_read(token, buffer, result),
            Event::Written { token, buffer, result } => self.leading().handle_written(token, buffer, result),
            Event::Flushed { token, result } => {
                let mut others = std::mem::take(&mut self.flushed);
                self.rack.handle_flushed(token, result, &mut others);
                for token in others.drain(..) {
                    self.leading().handle_flushed(token, result);
                }
                self.flushed = others;
            }
            Event::Received { .. }
            | Event::ReceivedInto { .. }
            | Event::Sent { .. }
            | Event::Closed { .. }
            | Event::Accepted { .. }
            | Event::Mail { .. } => unreachable!("the caller has looked at the kind"),
        }
    }

    fn leading(&mut self) -> &mut Lead<I::Buffer> {
        self.lead.as_mut().expect("only the lead submits disk operations beside the shards")
    }

    fn run_ports(&mut self, io: &mut I, now: Time) -> bool {
        self.ports.run(now, io);
        let mut requests = std::mem::take(&mut self.requests);
        self.ports.take_requests(&mut requests);
        let mut moved = !requests.is_empty();
        self.expect_reads(&requests);
        for request in requests.drain(..) {
            self.on_request(request, io);
        }
        self.requests = requests;
        while let Some(output) = self.ports.poll_output() {
            moved = true;
            match output {
                PortsOutput::Socket(output) => Self::on_socket(output, io),
                PortsOutput::Draw(draw) => {
                    let keeper = qos::keeper(draw.nsid, self.reactors);
                    self.post.request(io, keeper, Message::Draw(draw));
                }
                PortsOutput::Fenced { token } => self.post.reply(io, LEAD, Message::Fenced(token)),
                PortsOutput::QueuesDropped { association } => {
                    // This may overtake what a full box has refused. Told after it, the end of one of these queues would
                    // be taken for that of a later one with its QID.
                    self.post.take_back(
                        LEAD,
                        |message| matches!(message, Message::QueueClosed { association: of, .. } if *of == association),
                    );
                    self.post.reply(io, LEAD, Message::QueuesDropped(association));
                }
                PortsOutput::QueueClosed { association, qid } => {
                    self.post.request(io, LEAD, Message::QueueClosed { association, qid });
                }
            }
        }
        moved
    }

    fn on_request(&mut self, request: Request<I::Buffer>, io: &mut I) {
        let backing = match self.backings.get(request.nsid as usize) {
            None | Some(None) => {
                return self.ports.complete(request.id, Completion::of(Status::INVALID_NAMESPACE));
            }
            // It keeps nothing that a cut could have to hold back.
            Some(Some(Backing::Null)) => {
                return self.ports.complete(request.id, null_completion(&request.operation));
            }
            // What it wrote or read might not be what the next start finds.
            Some(Some(Backing::InDoubt)) => {
                return self.ports.complete(request.id, Completion::of(Status::INTERNAL_ERROR));
            }
            Some(Some(Backing::Paused)) => {
                self.paused.entry(request.nsid).or_default().push(request);
                return;
            }
            Some(Some(backing)) => *backing,
        };
        if backing == Backing::Ram
            && let Some(completion) = self.read_memory(&request, io)
        {
            return self.ports.complete(request.id, completion);
        }
        let mut routed = std::mem::take(&mut self.routed);
        if let Some(finished) = self.jobs.begin(request, backing, &mut routed) {
            self.finish(finished);
        }
        for (to, piece) in routed.drain(..) {
            self.route(to, piece, io);
        }
        self.routed = routed;
    }

    /// Grants what limited volumes have come to have.
    fn run_buckets(&mut self, io: &mut I, now: Time) -> bool {
        self.buckets.run(now);
        let mut moved = false;
        while let Some((to, draw)) = self.buckets.poll_granted() {
            moved = true;
            self.post.reply(io, to, Message::Drawn(draw));
        }
        moved
    }

    fn run_rack(&mut self, io: &mut I, now: Time) -> bool {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.rack.retry(io, &mut outputs);
        self.rack.run(io, now, &mut outputs);
        let moved = !outputs.is_empty();
        for output in outputs.drain(..) {
            self.on_rack(output, io);
        }
        self.outputs = outputs;
        moved
    }

    pub(crate) fn on_rack(&mut self, output: RackOutput<I::Buffer>, io: &mut I) {
        match output {
            RackOutput::Done(to, done) if to == self.reactor => self.on_piece_done(done, io),
            RackOutput::Done(to, done) => self.post.reply(io, to, Message::PieceDone(done)),
            RackOutput::Placed(to, Origin::Errand { number, shard }) if to == self.reactor => {
                self.on_placed(number, shard, io);
            }
            RackOutput::Placed(to, Origin::Errand { number, shard }) => {
                self.post.reply(io, to, Message::Placed { errand: number, shard });
            }
            RackOutput::Placed(_, Origin::Command { .. }) => unreachable!("no host's command forks"),
            RackOutput::WantSegment { shard, cleaning } => {
                self.post.request(io, LEAD, Message::WantSegment { shard, cleaning });
            }
            RackOutput::Release(shard, segments) => {
                self.post.request(io, LEAD, Message::Released(shard, segments));
            }
            RackOutput::Ready { shard, segments, volumes } => {
                let report = ShardReport { shard, segments, volumes };
                self.post.request(io, LEAD, Message::ShardReady(Box::new(report)));
            }
            RackOutput::Failed(shard, failure) => {
                self.notices.push(Notice::ShardFailed(shard, failure));
                self.post.request(io, LEAD, Message::ShardFailed(shard, failure));
            }
            RackOutput::Told(answer) => self.tell(vec![answer], io),
            RackOutput::Stopped => self.stopping.on_checkpointed(),
            RackOutput::FlushRefused(token, error) => self.leading().handle_flushed(token, Err(error)),
            RackOutput::DriveFailed(error) => self.post.broadcast(io, || Message::DriveFailed(error)),
        }
    }

    fn on_piece_done(&mut self, done: PieceDone<I::Buffer>, io: &mut I) {
        match done.origin {
            Origin::Command { job, part } => {
                if let Some(finished) = self.jobs.on_piece_done(job, part, done) {
                    self.finish(finished);
                }
            }
            Origin::Errand { number, shard } => self.on_errand_piece(number, shard, done.result, io),
        }
    }

    /// Answers a command, unless a cut holds its answer back.
    fn finish(&mut self, finished: Finished<I::Buffer>) {
        let Finished { id, nsid, changes, completion } = finished;
        let free = if changes { self.holds.take(nsid, id, completion) } else { Some((id, completion)) };
        if let Some((id, completion)) = free {
            self.ports.complete(id, completion);
        }
    }

    fn on_message(&mut self, from: ReactorId, message: MessageOf<I>, io: &mut I) {
        match message {
            Message::Piece(piece) => {
                #[cfg(feature = "planted")]
                let Some(piece) = self.put_off(piece, io.now()) else { return };
                self.route(self.reactor, piece, io);
            }
            Message::PieceDone(done) => self.on_piece_done(done, io),
            Message::Attach(layout) => {
                self.jobs.set_shards(layout.shards());
                self.rack.attach(&layout, self.reactor, &self.shard_options);
            }
            Message::Grow(layout) => self.on_grow(from, &layout, io),
            Message::Granted { shard, segment } => self.rack.handle_grant(shard, segment),
            Message::Space { free, total } => self.rack.handle_space(free, total),
            Message::DriveFailed(error) => self.on_drive_failed(error),
            Message::Adopt { socket, queue } => {
                let (association, qid) = (queue.association(), queue.qid());
                match io.adopt(socket) {
                    Some(connection) => self.ports.adopt(connection, queue, io.now()),
                    None => self.post.request(io, LEAD, Message::QueueClosed { association, qid }),
                }
            }
            Message::DropQueues(association) => self.ports.drop_queues(association),
            Message::CheckTraffic(association) => {
                let seen = self.ports.take_traffic(association);
                self.post.reply(io, from, Message::Traffic { association, seen });
            }
            Message::Abort { association, qid, cid, token } => {
                let done = self.ports.abort(association, qid, cid);
                self.post.reply(io, from, Message::Aborted { token, done });
            }
            Message::Namespace { fence, change } => self.on_namespace(fence, change, io),
            #[cfg(feature = "planted")]
            Message::Hold { errand, .. } if self.planted == Some(crate::Planted::ForgetHold) => {
                self.post.reply(io, from, Message::Held(errand));
            }
            Message::Hold { nsid, errand } => {
                self.holds.begin(errand, nsid);
                self.post.reply(io, from, Message::Held(errand));
            }
            Message::LetGo { errand } => {
                for (id, completion) in self.holds.end(errand) {
                    self.ports.complete(id, completion);
                }
            }
            Message::ReadDiff(question) => {
                let answers = self.rack.diff(from, &question);
                self.tell(answers, io);
            }
            Message::CountOwned(question) => {
                let answers = self.rack.owned(from, &question);
                self.tell(answers, io);
            }
            Message::Draw(draw) => self.buckets.draw(from, draw),
            Message::Drawn(draw) => self.ports.on_granted(&draw),
            Message::ReadCounters { token, images } => {
                let counters = Box::new(counters::of_reactor(&self.ports, &self.rack, &images));
                self.post.reply(io, from, Message::Counters { token, counters });
            }
            Message::CountMapped { token, image } => {
                let bytes = self.rack.mapped_bytes(image);
                self.post.reply(io, from, Message::Mapped { token, bytes });
            }
            Message::Abandon => self.notices.push(Notice::Stopped),
            Message::Stop(step) => self.on_stop(step),
            to_lead => self.on_lead_message(from, to_lead, io),
        }
    }

    /// A drive has joined.
    fn on_grow(&mut self, from: ReactorId, layout: &Arc<Layout>, io: &mut I) {
        // One that could not join may have had its number.
        if let Some((joined, _)) = (0..).map(DriveId).zip(layout.drives()).last() {
            self.rack.gate.forget(joined);
        }
        self.rack.grow(layout);
        self.post.reply(io, from, Message::Grown);
    }

    /// A flush of a drive has failed, on whichever reactor.
    fn on_drive_failed(&mut self, error: DiskError) {
        self.rack.gate.fail(error.drive, error);
        if let Some(lead) = &mut self.lead {
            lead.health.on_drive_failed(&error);
        }
    }

    /// What shards here say about images.
    fn tell(&mut self, answers: Vec<Answer>, io: &mut I) {
        for answer in answers {
            self.post.reply(io, answer.to, answer.into_message());
        }
    }

    fn on_namespace(&mut self, fence: u64, change: NamespaceChange, io: &mut I) {
        let now = io.now();
        match change {
            NamespaceChange::Set(shape, backing, rates) => {
                self.set_rates(shape.nsid, rates, now);
                let place = shape.nsid as usize;
                if self.backings.len() <= place {
                    self.backings.resize(place + 1, None);
                }
                self.backings[place] = Some(backing);
                let nsid = shape.nsid;
                self.ports.set_namespace(shape, Some(fence));
                if backing != Backing::Paused {
                    // They have begun as far as the target knows: the fence waits for them as for the others.
                    for request in self.paused.remove(&nsid).unwrap_or_default() {
                        self.on_request(request, io);
                    }
                }
            }
            NamespaceChange::Remove(nsid) => {
                self.set_rates(nsid, Rates::default(), now);
                // What has begun holds its volume already; what begins later is refused by the ports.
                self.ports.remove_namespace(nsid, Some(fence));
            }
        }
    }

    fn set_rates(&mut self, nsid: u32, rates: Rates, now: Time) {
        if qos::keeper(nsid, self.reactors) == self.reactor {
            self.buckets.set(nsid, rates, now);
        }
        self.ports.set_rates(nsid, rates);
    }

    fn on_stop(&mut self, step: StopStep) {
        self.stopping.begin(step);
        match step {
            StopStep::Drain => {
                self.ports.stop();
                if let Some(lead) = &mut self.lead {
                    lead.desk().stop();
                }
            }
            StopStep::Checkpoint => {
                let mut outputs = std::mem::take(&mut self.outputs);
                self.rack.stop(&mut outputs);
                if outputs.pop().is_some() {
                    self.stopping.on_checkpointed();
                }
                self.outputs = outputs;
            }
            StopStep::Close => {
                self.ports.close_all();
                if let Some(lead) = &mut self.lead {
                    lead.desk().close_all();
                }
            }
        }
    }
}
