//! What reactor 0 does for all: the desk's wishes, messages from the other reactors, fences.

use io::{Io, Memory, Net, ReactorId, Time};
use subsystem::{AssociationId, DeskOutput};

use crate::engine::{Engine, Notice};
use crate::lead::Lead;
use crate::message::{Backing, Message, NamespaceChange, ShardReport, StopStep};
use crate::start::{Start, StartError};

/// What waits for a fence.
#[derive(Debug)]
pub(crate) struct Fence {
    change: NamespaceChange,
    errand: Option<u32>,
}

/// The bit of a directory tag that says it notes CNTLIDs; the rest is the mark.
const CNTLID_TAG: u64 = 1 << 63;

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Runs what only reactor 0 has. True where something happened.
    pub(crate) fn run_lead(&mut self, io: &mut I, now: Time) -> bool {
        if self.lead.is_none() {
            return false;
        }
        let mut moved = self.run_start(io);
        moved |= self.run_growth(io);
        moved |= self.run_desk(io, now);
        moved |= self.run_directory(io);
        moved
    }

    /// Tells every reactor of a change of a namespace; the desk hears of it when all have taken it.
    pub(crate) fn broadcast_namespace(&mut self, change: NamespaceChange, io: &mut I) -> u64 {
        let lead = self.lead.as_mut().expect("only the lead changes namespaces");
        let fence = lead.next_fence();
        lead.fencing.insert(fence, Fence { change: change.clone(), errand: None });
        self.post.broadcast(io, || Message::Namespace { fence, change: change.clone() });
        fence
    }

    /// Messages that only reactor 0 gets.
    pub(crate) fn on_lead_message(
        &mut self,
        from: ReactorId,
        message: Message<I::Buffer, I::Socket>,
        io: &mut I,
    ) {
        let now = io.now();
        let Some(lead) = &mut self.lead else { return };
        match message {
            Message::Action { action, reply } => self.on_action(action, reply, io),
            Message::ShardReady(report) => self.on_shard_ready(*report),
            Message::ShardFailed(shard, failure) => {
                lead.health.on_shard_failed(shard, failure);
                if matches!(lead.start, Start::Recovering { .. }) {
                    self.refuse(StartError::Shard(shard, failure));
                }
            }
            Message::WantSegment { shard, cleaning } => match lead.grant(shard, cleaning) {
                Some(segment) => {
                    self.post.reply(io, from, Message::Granted { shard, segment });
                    self.tell_space(io);
                }
                None => lead.wanting.push((from, shard, cleaning)),
            },
            Message::Released(shard, released) => {
                if let Some(segments) = &mut lead.segments {
                    segments.release(shard, &released).expect("a shard gives back only what it was granted");
                }
                self.tell_space(io);
            }
            Message::QueueClosed { association, qid } => {
                lead.on_queue_gone(association, qid);
                lead.desk().on_queue_closed(association, qid);
            }
            Message::QueuesDropped(association) => {
                if lead.drops.answer(&association, false).is_some() {
                    lead.on_queues_gone(association);
                    lead.desk().on_queues_dropped(association);
                }
            }
            Message::Traffic { association, seen } => {
                if let Some(seen) = lead.traffic.answer(&association, seen) {
                    lead.desk().on_traffic(association, seen, now);
                }
            }
            Message::Aborted { token, done } => {
                if let Some(done) = lead.aborts.answer(&token, done) {
                    lead.desk().on_abort(token, done);
                }
            }
            Message::Fenced(fence) => self.on_fenced(fence, io),
            Message::Held(errand) => self.on_held(errand, io),
            Message::Placed { errand, shard } => self.on_placed(errand, shard, io),
            Message::Differs { token, shard, changed, next } => {
                self.on_differs(token, shard, &changed, next, io);
            }
            Message::Owned { image, part } => self.on_owned(image, part, io),
            Message::Counters { token, counters } => self.on_counters(token, *counters),
            Message::Mapped { token, bytes } => {
                if let Some(bytes) = lead.mapped.answer(&token, bytes) {
                    lead.desk().on_counted(token, Some(bytes));
                }
            }
            Message::Grown => self.on_grown(io),
            Message::Stopped(step) => self.on_stopped(step, io),
            _ => unreachable!("every other message is handled by the reactor that it reaches"),
        }
    }

    /// Tells every shard how much of the pool is free, so that cleaning keeps pace.
    pub(crate) fn tell_space(&mut self, io: &mut I) {
        let Some(segments) = self.lead.as_ref().and_then(|lead| lead.segments.as_ref()) else { return };
        let (free, total) = (segments.free(), segments.total());
        self.post.broadcast(io, || Message::Space { free, total });
    }

    fn on_shard_ready(&mut self, report: ShardReport) {
        if let Some(lead) = &mut self.lead
            && let Start::Recovering { reports, .. } = &mut lead.start
        {
            reports.push(report);
        }
    }

    fn on_fenced(&mut self, fence: u64, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        if lead.fences.answer(&fence, true).is_none() {
            return;
        }
        let Some(Fence { change, errand }) = lead.fencing.remove(&fence) else { return };
        match change {
            NamespaceChange::Set(shape, backing, _) => {
                let nsid = shape.nsid;
                lead.desk().set_namespace(shape);
                let exchanged = errand.is_some_and(|number| lead.rolled_back(number));
                if exchanged && matches!(backing, Backing::Volume(_)) {
                    lead.desk().tell_changed(nsid);
                }
            }
            NamespaceChange::Remove(nsid) => lead.desk().remove_namespace(nsid),
        }
        if let Start::Attaching(left) = &mut lead.start {
            *left -= 1;
        }
        if let Some(number) = errand {
            self.advance(number, io);
        }
    }

    fn on_stopped(&mut self, step: StopStep, io: &mut I) {
        self.questions.stop_left -= 1;
        if self.questions.stop_left > 0 {
            return;
        }
        self.questions.stop_left = self.reactors;
        let next = match step {
            StopStep::Drain => StopStep::Checkpoint,
            StopStep::Checkpoint => StopStep::Close,
            StopStep::Close => {
                if let Some(reply) = self.questions.stop.take() {
                    reply(Ok(crate::Outcome::Done));
                }
                self.notices.push(Notice::Stopped);
                return;
            }
        };
        self.post.broadcast(io, || Message::Stop(next));
    }

    fn run_directory(&mut self, io: &mut I) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let Some(directory) = &mut lead.directory else { return false };
        directory.run(&mut crate::gate::GatedDisk { disk: io, gate: &mut self.rack.gate });
        let mut moved = false;
        while let Some(output) = self.lead.as_mut().and_then(|lead| lead.directory.as_mut()?.poll_output()) {
            moved = true;
            self.on_directory(output, io);
        }
        moved
    }

    fn on_directory(&mut self, output: store::directory::Output, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        match output {
            store::directory::Output::Ready => {
                if let Start::Recovering { directory, .. } = &mut lead.start {
                    *directory = true;
                }
            }
            store::directory::Output::Done { tag, result } if tag & CNTLID_TAG != 0 => {
                // Where the note failed no further CNTLID is given out: the desk waits, its hosts are told to retry.
                if result.is_ok() {
                    let next = u16::try_from(tag & 0xffff).expect("sixteen bits");
                    lead.desk().on_cntlid_persisted(next);
                }
            }
            store::directory::Output::Done { tag, result } => {
                let number = u32::try_from(tag).expect("the tags of changes are their numbers");
                self.on_recorded(number, result, io);
            }
            store::directory::Output::Failed(fault) => {
                lead.health.on_directory_failed(fault);
                if matches!(lead.start, Start::Recovering { .. }) {
                    self.refuse(fault.into());
                } else {
                    self.notices.push(Notice::DirectoryFailed(fault));
                }
            }
        }
    }

    fn run_desk(&mut self, io: &mut I, now: Time) -> bool {
        let Some(desk) = self.lead.as_mut().and_then(|lead| lead.desk_mut()) else { return false };
        desk.run(now, io);
        let mut moved = false;
        while let Some(output) = self.lead.as_mut().and_then(|lead| lead.desk_mut()?.poll_output()) {
            moved = true;
            self.on_desk(output, io);
        }
        moved
    }

    fn on_desk(&mut self, output: DeskOutput<I::Buffer>, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        match output {
            DeskOutput::Socket(output) => Self::on_socket(output, io),
            DeskOutput::HandOver { connection, queue } => {
                let to = lead.least_loaded();
                lead.on_placed(queue.association(), queue.qid(), to);
                let socket = io.release(connection);
                self.post.request(io, to, Message::Adopt { socket, queue });
            }
            DeskOutput::PersistCntlid { next } => match &mut lead.directory {
                Some(directory) => directory.note_cntlid(next, CNTLID_TAG | u64::from(next)),
                // Without a pool there is nothing that could be mistaken after a restart.
                None => lead.desk().on_cntlid_persisted(next),
            },
            #[cfg(feature = "planted")]
            DeskOutput::DropQueues { association }
                if self.planted == Some(crate::Planted::KeepStaleQueues) =>
            {
                lead.desk().on_queues_dropped(association);
            }
            DeskOutput::DropQueues { association } => {
                if lead.drops.ask(association, self.reactors) {
                    self.post.broadcast(io, || Message::DropQueues(association));
                }
            }
            DeskOutput::Flush { association } => self.flush_for_shutdown(association, io),
            DeskOutput::CheckTraffic { association } => {
                if lead.traffic.ask(association, self.reactors) {
                    self.post.broadcast(io, || Message::CheckTraffic(association));
                }
            }
            DeskOutput::AbortCommand { association, qid, cid, token } => {
                self.on_abort(association, qid, cid, token, io);
            }
            DeskOutput::CountAllocated { nsid, token } => self.count_allocated(nsid, token, io),
        }
    }

    /// Asks all reactors what a volume maps; a namespace without a store is not thin.
    fn count_allocated(&mut self, nsid: u32, token: u64, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let image = match self.backings.get(nsid as usize).copied().flatten() {
            Some(Backing::Volume(volume)) => Some(volume.image),
            // While the image is exchanged the record tells.
            Some(Backing::Paused | Backing::InDoubt) => lead.image_of(nsid),
            Some(Backing::Null | Backing::Ram) | None => None,
        };
        let Some(image) = image else { return lead.desk().on_counted(token, None) };
        lead.mapped.ask(token, lead.reactors);
        self.post.broadcast(io, || Message::CountMapped { token, image });
    }

    /// Asks the one reactor that has the queue.
    fn on_abort(&mut self, association: AssociationId, qid: u16, cid: u16, token: u64, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        match lead.placed.get(&(association, qid)).copied() {
            Some(reactor) => {
                lead.aborts.ask(token, 1);
                self.post.request(io, reactor, Message::Abort { association, qid, cid, token });
            }
            None => lead.desk().on_abort(token, false),
        }
    }
}

impl<B: io::Buffer> Lead<B> {
    /// The image of the volume with this NSID, by its record.
    fn image_of(&self, nsid: u32) -> Option<store::VolumeId> {
        let mut volumes = self.directory.iter().flat_map(|directory| directory.volumes());
        volumes.find(|volume| volume.nsid == nsid).map(|volume| volume.image)
    }

    /// A change waits for a fence.
    pub(crate) fn fence_errand(&mut self, fence: u64, number: u32) {
        if let Some(fence) = self.fencing.get_mut(&fence) {
            fence.errand = Some(number);
        }
    }
}
