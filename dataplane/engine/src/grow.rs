//! A drive joins the pool while hosts use it.
//!
//! The drive is in `io` already when management asks. Reactor 0 opens the pool's drives once more, which finds a blank one
//! behind the pool's own and lets it join; nothing else on the drives is touched by that. Then every reactor gets the new
//! layout, and only when all have it are segments of the drive given out. Drives join one at a time; one that could not is
//! taken out of `io` again, and the next has its number.

use std::fmt;
use std::sync::Arc;

use io::{Buffer, Disk, DiskError, DriveId, Io, Memory, Net, Token};
use store::Layout;
use store::pool::PoolOpening;

use crate::action::{ActionError, Outcome};
use crate::engine::Engine;
use crate::lead::Lead;
use crate::message::{Message, Reply};
use crate::owner;
use crate::rounds::Rounds;
use crate::start::Start;

/// A growth under way.
pub(crate) struct Growth {
    path: String,
    reply: Reply,
    stage: Stage,
}

enum Stage {
    /// The drives say that they belong together.
    Joining(Box<PoolOpening>),
    /// Reactors take the new layout.
    Telling(Arc<Layout>, Rounds<()>),
}

impl Growth {
    /// True while the drives are worked on.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.stage, Stage::Joining(_))
    }

    fn opening(&mut self) -> Option<&mut PoolOpening> {
        match &mut self.stage {
            Stage::Joining(opening) => Some(opening),
            Stage::Telling(..) => None,
        }
    }

    pub(crate) fn handle_read<B: Buffer>(&mut self, token: Token, buffer: B, result: Result<(), DiskError>) {
        if let Some(opening) = self.opening() {
            opening.handle_read(token, buffer, result);
        }
    }

    pub(crate) fn handle_written<B: Buffer>(
        &mut self,
        token: Token,
        buffer: B,
        result: Result<(), DiskError>,
    ) {
        if let Some(opening) = self.opening() {
            opening.handle_written(token, buffer, result);
        }
    }

    pub(crate) fn handle_flushed(&mut self, token: Token, result: Result<(), DiskError>) {
        if let Some(opening) = self.opening() {
            opening.handle_flushed(token, result);
        }
    }
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growth").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<B: Buffer> Lead<B> {
    /// Begins to let the drive at `path` join, which is the last of `disk`; which that is, unless it is refused.
    fn begin_growth(&mut self, path: String, reply: Reply, disk: &impl Disk) -> Option<DriveId> {
        match self.check_growth(disk) {
            Ok(joining) => {
                // One that had the number before may have failed.
                self.health.forget(joining);
                let opening = PoolOpening::new(disk, owner::OPENING, Some(self.config.format.clone()));
                self.growth = Some(Growth { path, reply, stage: Stage::Joining(Box::new(opening)) });
                Some(joining)
            }
            Err(error) => {
                reply(Err(error));
                None
            }
        }
    }

    /// The one drive behind the pool's own, if it may join now.
    fn check_growth(&self, disk: &impl Disk) -> Result<DriveId, ActionError> {
        let rule = |rule: &str| ActionError::Drive(rule.to_owned());
        let members = self.layout.as_ref().map_or(0, |layout| layout.drives().len());
        if members == 0 {
            return Err(rule("the server has no pool; start it with one (--pool)"));
        }
        if self.growth.is_some() || !matches!(self.start, Start::Done) {
            return Err(ActionError::Busy);
        }
        match usize::from(disk.drives()).saturating_sub(members) {
            0 => Err(ActionError::Exists),
            1 => Ok(DriveId(disk.drives() - 1)),
            // All of them would become members, and one alone would be known by its name.
            _ => Err(rule("other drives are to join as well; let them join one after the other")),
        }
    }

    /// Every reactor has the new layout: the pool is as large as it says.
    fn end_growth(&mut self, growth: Growth, layout: Arc<Layout>) {
        if let Some(segments) = &mut self.segments {
            segments.grow(&layout);
        }
        self.layout = Some(layout);
        self.config.drives.push(growth.path);
        (growth.reply)(Ok(Outcome::Done));
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Lets a drive join that management has opened.
    pub(crate) fn begin_growth(&mut self, path: String, reply: Reply, io: &mut I) {
        match &mut self.lead {
            Some(lead) => {
                if let Some(joining) = lead.begin_growth(path, reply, io) {
                    self.rack.gate.forget(joining);
                }
            }
            None => reply(Err(ActionError::Stopping)),
        }
    }

    /// Moves a growth on. True where it did.
    pub(crate) fn run_growth(&mut self, io: &mut I) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let Some(opening) = lead.growth.as_mut().and_then(Growth::opening) else { return false };
        opening.run(&mut crate::gate::GatedDisk { disk: io, gate: &mut self.rack.gate });
        match opening.poll_outcome() {
            None => false,
            Some(Ok(opened)) => {
                let layout = Arc::new(opened.layout);
                let mut answers = Rounds::new();
                answers.ask((), lead.reactors);
                #[cfg(feature = "planted")]
                if self.planted == Some(crate::Planted::GrantBeforeGrown)
                    && let Some(segments) = &mut lead.segments
                {
                    segments.grow(&layout);
                }
                if let Some(growth) = &mut lead.growth {
                    growth.stage = Stage::Telling(Arc::clone(&layout), answers);
                }
                self.post.broadcast(io, || Message::Grow(Arc::clone(&layout)));
                true
            }
            Some(Err(error)) => {
                if let Some(growth) = lead.growth.take() {
                    (growth.reply)(Err(ActionError::Drive(error.to_string())));
                }
                true
            }
        }
    }

    /// A reactor has the new layout.
    pub(crate) fn on_grown(&mut self, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let Some(Growth { stage: Stage::Telling(_, answers), .. }) = &mut lead.growth else { return };
        if answers.answer(&(), false).is_none() {
            return;
        }
        if let Some(mut growth) = lead.growth.take()
            && let Stage::Telling(layout, _) = &mut growth.stage
        {
            let layout = Arc::clone(layout);
            lead.end_growth(growth, layout);
            self.tell_space(io);
        }
    }
}
