//! What a volume or snapshot alone holds, which is what its deletion would give back: every shard counts its part.
//!
//! That costs a walk through what the image does not share, so it is done for one that somebody asks for, and ends where it
//! would take too long; lists tell what was counted last.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use io::{Buffer, Io, Memory, Net, Time};
use store::{Directory, VolumeId};

use crate::action::{ActionError, Outcome, VolumeUsage, VolumeUuid};
use crate::engine::Engine;
use crate::lead::Lead;
use crate::message::{Message, OwnedQuestion, Reply};

/// Counts under way, and what others came to.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    open: BTreeMap<VolumeId, Count>,
    known: BTreeMap<VolumeId, Known>,
}

/// One count.
struct Count {
    /// Where each shard goes on.
    from: Vec<Option<u64>>,
    /// What each shard has beyond that at most.
    at_most: Vec<u64>,
    /// Shards that have not answered.
    left: usize,
    rounds_left: u32,
    bytes: u64,
    began: Time,
    replies: Vec<Reply>,
}

/// What a count came to.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    /// Nobody counts again before.
    until: Time,
}

/// What one shard has counted.
#[derive(Clone, Copy, Debug)]
pub struct OwnedPart {
    /// The shard.
    pub shard: u16,
    /// Bytes that were found.
    pub bytes: u64,
    /// The leaf at which the shard goes on, `None` at the end.
    pub next: Option<u64>,
    /// What there can be beyond, at most.
    pub at_most: u64,
}

/// Times that each shard is asked: it looks at some hundred pages each time, and reads as many at most. What is left then
/// counts as if nobody shared it.
const ROUNDS_MAX: u32 = 256;
/// A figure is told again for so many times as long as it took to count: nobody can keep the shards busy by asking.
const REST: u32 = 10;

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Begins to count what a volume or snapshot alone holds.
    pub(crate) fn begin_owned(&mut self, uuid: VolumeUuid, reply: Reply, io: &mut I) {
        let image = self.lead.as_ref().and_then(|lead| lead.image_named(uuid));
        let Some(image) = image else { return reply(Err(ActionError::NotFound)) };
        let (shards, now) = (usize::from(self.shards()), io.now());
        let Some(lead) = &mut self.lead else { return };
        if let Some(known) = lead.owned.known.get(&image).filter(|known| now < known.until) {
            return reply(Ok(Outcome::Owned(known.bytes)));
        }
        match lead.owned.open.entry(image) {
            Entry::Occupied(count) => count.into_mut().replies.push(reply),
            Entry::Vacant(entry) => {
                entry.insert(Count {
                    from: vec![Some(0); shards],
                    at_most: vec![0; shards],
                    left: 0,
                    rounds_left: ROUNDS_MAX,
                    bytes: 0,
                    began: now,
                    replies: vec![reply],
                });
                self.ask_owned(image, io);
            }
        }
    }

    /// A shard has counted a part.
    pub(crate) fn on_owned(&mut self, image: VolumeId, part: OwnedPart, io: &mut I) {
        let Some(lead) = &mut self.lead else { return };
        let Some(count) = lead.owned.open.get_mut(&image) else { return };
        let place = usize::from(part.shard);
        count.bytes += part.bytes;
        (count.from[place], count.at_most[place]) = (part.next, part.at_most);
        count.left -= 1;
        if count.left > 0 {
            return;
        }
        count.rounds_left -= 1;
        let goes_on = count.from.iter().any(Option::is_some);
        if goes_on && count.rounds_left > 0 {
            return self.ask_owned(image, io);
        }
        let Some(count) = lead.owned.open.remove(&image) else { return };
        let beyond: u64 =
            count.from.iter().zip(&count.at_most).filter_map(|(from, bytes)| from.map(|_| bytes)).sum();
        let (bytes, now) = (count.bytes + beyond, io.now());
        let until = now + now.since(count.began) * REST;
        lead.owned.keep(image, Known { bytes, until }, lead.directory.as_ref());
        for reply in count.replies {
            reply(Ok(Outcome::Owned(bytes)));
        }
    }

    fn ask_owned(&mut self, image: VolumeId, io: &mut I) {
        let Some(count) = self.lead.as_mut().and_then(|lead| lead.owned.open.get_mut(&image)) else { return };
        count.left = count.from.iter().flatten().count();
        let question = Box::new(OwnedQuestion { image, from: count.from.clone() });
        self.post.broadcast(io, || Message::CountOwned(question.clone()));
    }
}

impl Owned {
    /// What was counted last stands for what nobody has counted now.
    pub(crate) fn complete(&self, image: VolumeId, usage: &mut VolumeUsage) {
        if let Some(known) = self.known.get(&image).filter(|_| usage.shares) {
            usage.owned_bytes = usage.owned_bytes.min(known.bytes);
        }
    }

    /// Keeps what a count came to, and forgets now and then what images came to that are gone.
    fn keep(&mut self, image: VolumeId, known: Known, directory: Option<&Directory>) {
        self.known.insert(image, known);
        let images = || {
            let volumes = directory.into_iter().flat_map(|directory| directory.volumes());
            let snapshots = directory.into_iter().flat_map(|directory| directory.snapshots());
            volumes.map(|volume| volume.image).chain(snapshots.map(|snapshot| snapshot.id))
        };
        if self.known.len().is_power_of_two() && self.known.len() > images().count() {
            let there: BTreeSet<VolumeId> = images().collect();
            self.known.retain(|image, _| there.contains(image));
        }
    }
}

impl<B: Buffer> Lead<B> {
    /// The image of a volume or snapshot.
    fn image_named(&self, uuid: VolumeUuid) -> Option<VolumeId> {
        let directory = self.directory.as_ref()?;
        let volume = directory.volume_by_uuid(&uuid.0).map(|volume| volume.image);
        volume.or_else(|| directory.snapshot_by_uuid(&uuid.0).map(|snapshot| snapshot.id))
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Count").field("from", &self.from).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
