//! Acknowledgements that wait while a snapshot is cut.
//!
//! A write that is not acknowledged is one that no later write can have waited for. So while the shards, one after the
//! other, decide what is before the cut and what after it, no reactor acknowledges a change of the volume: whatever the
//! order in which the shards decide, a write that is in the snapshot has with it all that was acknowledged before it was
//! submitted.

use io::Buffer;
use subsystem::{Completion, RequestId};

/// What one reactor holds back.
#[derive(Debug)]
pub(crate) struct Holds<B: Buffer> {
    holds: Vec<Hold<B>>,
}

#[derive(Debug)]
struct Hold<B: Buffer> {
    errand: u32,
    nsid: u32,
    waiting: Vec<(RequestId, Completion<B>)>,
}

impl<B: Buffer> Holds<B> {
    /// Nothing is held back.
    pub(crate) const fn new() -> Self {
        Self { holds: Vec::new() }
    }

    /// From now on acknowledgements of changes of this namespace wait.
    pub(crate) fn begin(&mut self, errand: u32, nsid: u32) {
        self.holds.push(Hold { errand, nsid, waiting: Vec::new() });
    }

    /// Takes an acknowledgement of a change; gives it back where nothing holds it.
    pub(crate) fn take(
        &mut self,
        nsid: u32,
        id: RequestId,
        completion: Completion<B>,
    ) -> Option<(RequestId, Completion<B>)> {
        match self.holds.iter_mut().find(|hold| hold.nsid == nsid) {
            Some(hold) => {
                hold.waiting.push((id, completion));
                None
            }
            None => Some((id, completion)),
        }
    }

    /// The cut is made: what has waited for it, in order.
    pub(crate) fn end(&mut self, errand: u32) -> Vec<(RequestId, Completion<B>)> {
        let place = self.holds.iter().position(|hold| hold.errand == errand);
        place.map(|place| self.holds.remove(place).waiting).unwrap_or_default()
    }
}
