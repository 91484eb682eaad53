//! Questions about images, for which shards may have to read their maps first.

use io::{Buffer, ReactorId};
use store::{ChangedLeaf, DiffEnd, DiffLimits, UnreadableMap, VolumeId};

use super::{Rack, RackOutput};
use crate::message::{DiffQuestion, Message, OwnedQuestion};
use crate::owned::OwnedPart;

/// Map pages that one shard looks at for one question about two images, and for one about what an image alone holds, which
/// costs more a page: less than a millisecond.
const DIFF_PAGES: u32 = 1024;
const OWNED_PAGES: u32 = 512;

/// What one shard is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    to: ReactorId,
    /// The shard's place here.
    place: usize,
    /// The leaf at which to go on.
    from: u64,
    about: About,
}

#[derive(Clone, Copy, Debug)]
enum About {
    Diff { token: u64, base: Option<VolumeId>, image: VolumeId, leaves: usize },
    Owned { image: VolumeId },
}

/// What one shard says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) to: ReactorId,
    shard: u16,
    told: Told,
}

#[derive(Debug)]
enum Told {
    Differs { token: u64, changed: Vec<ChangedLeaf>, next: Result<Option<u64>, UnreadableMap> },
    Owned { image: VolumeId, bytes: u64, next: Option<u64>, at_most: u64 },
}

impl Answer {
    pub(crate) fn into_message<B: Buffer, S>(self) -> Message<B, S> {
        let shard = self.shard;
        match self.told {
            Told::Differs { token, changed, next } => Message::Differs { token, shard, changed, next },
            Told::Owned { image, bytes, next, at_most } => {
                Message::Owned { image, part: OwnedPart { shard, bytes, next, at_most } }
            }
        }
    }
}

impl<B: Buffer> Rack<B> {
    /// What differs between two images in each shard here. Where a shard must read its map first, the answer comes by
    /// [`RackOutput::Told`].
    pub(crate) fn diff(&mut self, to: ReactorId, question: &DiffQuestion) -> Vec<Answer> {
        let &DiffQuestion { token, base, image, leaves, .. } = question;
        self.ask_all(to, &question.from, About::Diff { token, base, image, leaves })
    }

    /// What an image alone holds in each shard here, by the same ways.
    pub(crate) fn owned(&mut self, to: ReactorId, question: &OwnedQuestion) -> Vec<Answer> {
        self.ask_all(to, &question.from, About::Owned { image: question.image })
    }

    fn ask_all(&mut self, to: ReactorId, from: &[Option<u64>], about: About) -> Vec<Answer> {
        let mut answers = Vec::new();
        for place in 0..self.shards.len() {
            let number = usize::from(self.shards[place].id().0);
            let Some(from) = from.get(number).copied().flatten() else { continue };
            let part = Part { to, place, from, about };
            match self.ask(part) {
                Some(told) => answers.push(self.answer(part, told)),
                None => self.parts.push(part),
            }
        }
        answers
    }

    /// Asks again what shards could not say because they were reading.
    pub(super) fn ask_again(&mut self, out: &mut Vec<RackOutput<B>>) {
        for part in std::mem::take(&mut self.parts) {
            match self.ask(part) {
                Some(told) => out.push(RackOutput::Told(self.answer(part, told))),
                None => self.parts.push(part),
            }
        }
    }

    fn answer(&self, part: Part, told: Told) -> Answer {
        Answer { to: part.to, shard: self.shards[part.place].id().0, told }
    }

    /// Asks a shard; `None` while it has nothing to say.
    fn ask(&mut self, part: Part) -> Option<Told> {
        let Part { place, from, .. } = part;
        self.stirred[place] = true;
        match part.about {
            About::Diff { token, base, image, leaves } => {
                let limits = DiffLimits { pages: DIFF_PAGES, leaves };
                let mut changed = Vec::new();
                let end = self.shards[place].diff(base, image, from, limits, &mut changed);
                let next = match end {
                    // A shard that has stopped reads no more.
                    Ok(DiffEnd::Missing(_)) if self.failed[place] => Err(UnreadableMap),
                    Ok(DiffEnd::Missing(leaf)) if leaf == from && changed.is_empty() => return None,
                    Ok(DiffEnd::Missing(leaf) | DiffEnd::Leaf(leaf)) => Ok(Some(leaf)),
                    Ok(DiffEnd::Nothing) => Ok(None),
                    Err(unreadable) => Err(unreadable),
                };
                Some(Told::Differs { token, changed, next })
            }
            About::Owned { image } => {
                let (bytes, end) = self.shards[place].owned(image, from, OWNED_PAGES);
                let at_most = |leaf| self.shards[place].owned_at_most(image, leaf);
                let (bytes, next) = match end {
                    // A shard that has stopped reads no more.
                    DiffEnd::Missing(leaf) if self.failed[place] => (bytes + at_most(leaf), None),
                    DiffEnd::Missing(leaf) if leaf == from => return None,
                    DiffEnd::Missing(leaf) | DiffEnd::Leaf(leaf) => (bytes, Some(leaf)),
                    DiffEnd::Nothing => (bytes, None),
                };
                Some(Told::Owned { image, bytes, next, at_most: next.map_or(0, at_most) })
            }
        }
    }
}
