//! The end of one reactor's engine, step by step with the others.

use io::{Io, Memory, Net};

use crate::engine::{Engine, LEAD, Notice};
use crate::message::{Message, StopStep};

/// Which step of the stop is under way.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    step: Option<StopStep>,
    checkpointed: bool,
}

impl Stopping {
    /// A step begins.
    pub(crate) fn begin(&mut self, step: StopStep) {
        self.step = Some(step);
    }

    /// The shards here are durable and have ended.
    pub(crate) fn on_checkpointed(&mut self) {
        self.checkpointed = true;
    }

    /// True once a stop has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.step.is_some() || self.checkpointed
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Ends the step under way if it is complete. True where it did.
    pub(crate) fn run_stop(&mut self, io: &mut I) -> bool {
        let Some(step) = self.stopping.step else { return false };
        let complete = match step {
            StopStep::Drain => self.is_drained(),
            StopStep::Checkpoint => self.stopping.checkpointed,
            // Space that was being given back may have left a record behind that is being written.
            StopStep::Close => self.lead.as_ref().is_none_or(|lead| !lead.is_recording()),
        };
        if !complete {
            return false;
        }
        self.stopping.step = None;
        self.post.reply(io, LEAD, Message::Stopped(step));
        if step == StopStep::Close && self.reactor != LEAD {
            self.notices.push(Notice::Stopped);
        }
        true
    }
}
