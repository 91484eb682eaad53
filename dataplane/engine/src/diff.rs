//! What differs between two snapshots: every shard walks its part of both trees, the parts are put together in the order
//! of the volume.

use std::collections::BTreeMap;
use std::fmt;

use io::{Io, Memory, Net};
use store::directory::SnapshotRecord;
use store::{ChangedLeaf, UnreadableMap, VolumeId};

use crate::action::{ActionError, Diff, DiffQuery, DiffWord, Outcome, VolumeUuid};
use crate::engine::Engine;
use crate::message::{DiffQuestion, Message, Reply};
use crate::stripe::STRIPE_BYTES;

/// Blocks of a leaf of the map, and of a word of a diff.
const WORD_BLOCKS: u64 = 64;
/// Words of a stripe.
const STRIPE_WORDS: u64 = STRIPE_BYTES / (WORD_BLOCKS * 4096);

/// Diffs under way.
#[derive(Debug, Default)]
pub(crate) struct Diffs {
    next: u64,
    open: BTreeMap<u64, Walk>,
}

/// One diff.
struct Walk {
    base: Option<VolumeId>,
    image: VolumeId,
    snapshots: (VolumeUuid, Option<VolumeUuid>),
    dealing: Dealing,
    size_blocks: u64,
    words_max: usize,
    /// Where each shard goes on.
    from: Vec<Option<u64>>,
    /// Shards that have not answered.
    left: usize,
    /// What shards have found, by number of the word.
    found: BTreeMap<u64, u64>,
    reply: Option<Reply>,
}

/// Which word of a volume lies where.
#[derive(Clone, Copy, Debug)]
struct Dealing {
    lineage: u64,
    shards: u64,
}

impl Dealing {
    /// The first leaf of shard `shard` that is word `word` of the volume or a later one.
    fn first_from(self, shard: u64, word: u64) -> u64 {
        let stripe = word / STRIPE_WORDS;
        let ahead = (shard + self.shards - (stripe % self.shards + self.lineage % self.shards) % self.shards)
            % self.shards;
        let within = if ahead == 0 { word % STRIPE_WORDS } else { 0 };
        (stripe + ahead) / self.shards * STRIPE_WORDS + within
    }

    /// The word of the volume that a shard's leaf is.
    fn word_of(self, shard: u64, leaf: u64) -> u64 {
        let turn = (shard + self.shards - self.lineage % self.shards) % self.shards;
        (leaf / STRIPE_WORDS * self.shards + turn) * STRIPE_WORDS + leaf % STRIPE_WORDS
    }
}

impl<I> Engine<I>
where
    I: Io<Message = Message<<I as Memory>::Buffer, <I as Net>::Socket>>,
{
    /// Begins a diff.
    pub(crate) fn begin_diff(&mut self, query: DiffQuery, reply: Reply, io: &mut I) {
        let Some(lead) = &self.lead else { return };
        let look_up = |uuid| lead.snapshot(uuid);
        let pair = look_up(query.snapshot)
            .and_then(|snapshot| Ok((snapshot, query.base.map(look_up).transpose()?)))
            .and_then(|(snapshot, base)| {
                check_pair(&snapshot, base.as_deref(), query.first_block).map(|()| (snapshot, base))
            });
        let (snapshot, base) = match pair {
            Ok(pair) => pair,
            Err(error) => return reply(Err(error)),
        };
        let shards = u64::from(self.shards());
        let dealing = Dealing { lineage: snapshot.lineage.0, shards };
        let first_word = query.first_block / WORD_BLOCKS;
        let walk = Walk {
            base: base.as_ref().map(|base| base.id),
            image: snapshot.id,
            snapshots: (query.snapshot, query.base),
            dealing,
            size_blocks: snapshot.size_bytes.div_ceil(4096),
            words_max: query.words_max.max(1),
            from: (0..shards).map(|shard| Some(dealing.first_from(shard, first_word))).collect(),
            left: 0,
            found: BTreeMap::new(),
            reply: Some(reply),
        };
        let Some(lead) = &mut self.lead else { return };
        lead.diffs.next += 1;
        let token = lead.diffs.next;
        lead.diffs.open.insert(token, walk);
        self.ask_diff(token, io);
    }

    /// A shard has answered.
    pub(crate) fn on_differs(
        &mut self,
        token: u64,
        shard: u16,
        changed: &[ChangedLeaf],
        next: Result<Option<u64>, UnreadableMap>,
        io: &mut I,
    ) {
        let Some(lead) = &mut self.lead else { return };
        let Some(walk) = lead.diffs.open.get_mut(&token) else { return };
        let Ok(next) = next else {
            if let Some(reply) = lead.diffs.open.remove(&token).and_then(|walk| walk.reply) {
                reply(Err(ActionError::Device));
            }
            return;
        };
        #[cfg(feature = "planted")]
        let changed =
            if shard == 0 && self.planted == Some(crate::Planted::DiffWithoutShard) { &[] } else { changed };
        for leaf in changed {
            walk.found.insert(walk.dealing.word_of(u64::from(shard), leaf.leaf), leaf.blocks);
        }
        walk.from[usize::from(shard)] = next;
        walk.left -= 1;
        if walk.left > 0 {
            return;
        }
        if let Some(diff) = walk.take() {
            let reply = walk.reply.take();
            let (snapshot, base) = walk.snapshots;
            lead.diffs.open.remove(&token);
            // One that went meanwhile has taken with it what was to be compared.
            let there = [Some(snapshot), base]
                .into_iter()
                .flatten()
                .try_for_each(|uuid| lead.snapshot(uuid).map(drop));
            if let Some(reply) = reply {
                reply(there.map(|()| Outcome::Diff(diff)));
            }
        } else {
            self.ask_diff(token, io);
        }
    }

    fn ask_diff(&mut self, token: u64, io: &mut I) {
        let Some(walk) = self.lead.as_mut().and_then(|lead| lead.diffs.open.get_mut(&token)) else { return };
        walk.left = walk.from.iter().flatten().count();
        let (base, image, from) = (walk.base, walk.image, walk.from.clone());
        let question = Box::new(DiffQuestion { token, base, image, from, leaves: walk.words_max });
        self.post.broadcast(io, || Message::ReadDiff(question.clone()));
    }
}

impl Walk {
    /// The answer, once there is enough of it.
    fn take(&mut self) -> Option<Diff> {
        let ends = self.from.iter().zip(0..).filter_map(|(leaf, shard)| {
            let word = self.dealing.word_of(shard, (*leaf)?);
            (word * WORD_BLOCKS < self.size_blocks).then_some(word)
        });
        // Beyond this word some shard has not looked.
        let known = ends.min();
        let certain = self.found.range(..known.unwrap_or(u64::MAX)).count();
        if certain < self.words_max && known.is_some() {
            return None;
        }
        let mut words = Vec::with_capacity(certain.min(self.words_max));
        let mut next = known;
        for (word, blocks) in &self.found {
            let first_block = word * WORD_BLOCKS;
            let inside = self.size_blocks.saturating_sub(first_block);
            if inside == 0 || known.is_some_and(|known| *word >= known) {
                break;
            }
            if words.len() == self.words_max {
                next = Some(*word);
                break;
            }
            let mask = if inside >= WORD_BLOCKS { u64::MAX } else { (1 << inside) - 1 };
            if blocks & mask != 0 {
                words.push(DiffWord { first_block, changed: blocks & mask });
            }
        }
        Some(Diff { words, next_block: next.map(|word| word * WORD_BLOCKS) })
    }
}

fn check_pair(
    snapshot: &SnapshotRecord,
    base: Option<&SnapshotRecord>,
    first_block: u64,
) -> Result<(), ActionError> {
    if first_block >= snapshot.size_bytes.div_ceil(4096) {
        return Err(ActionError::Invalid { field: "offsetLBA", rule: "within the snapshot's size" });
    }
    let Some(base) = base else { return Ok(()) };
    if base.id == snapshot.id {
        return Err(ActionError::Invalid { field: "baseSnapshotUUID", rule: "another snapshot" });
    }
    if base.source == snapshot.source && base.id > snapshot.id {
        return Err(ActionError::Invalid { field: "baseSnapshotUUID", rule: "the older of the two" });
    }
    if !snapshot.comes_after(base) {
        let rule = "an older snapshot of the same volume, or one that the volume comes from as a clone; \
            without a base everything that was written is told";
        return Err(ActionError::Invalid { field: "baseSnapshotUUID", rule });
    }
    Ok(())
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("image", &self.image).field("from", &self.from).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod test {
    //! Goal: every word of a volume is found once, in order, wherever a diff begins and however it is cut.

    use super::*;

    #[test]
    fn leaves_and_words_are_each_others_reverse_and_agree_with_the_stripes() {
        for (lineage, shards) in [(1, 1), (5, 3), (7, 16), (33, 16)] {
            let dealing = Dealing { lineage, shards };
            let striping = crate::stripe::Striping::new(lineage, u16::try_from(shards).expect("a few"));
            for word in 0..500 {
                let at = striping.pieces(word * WORD_BLOCKS * 4096, 1).next().expect("one byte");
                let leaf = at.offset / (WORD_BLOCKS * 4096);
                assert_eq!(dealing.word_of(u64::from(at.shard), leaf), word);
                assert_eq!(dealing.first_from(u64::from(at.shard), word), leaf);
                for shard in 0..shards {
                    let first = dealing.first_from(shard, word);
                    assert!(dealing.word_of(shard, first) >= word);
                    assert!(first == 0 || dealing.word_of(shard, first - 1) < word);
                }
            }
        }
    }

    fn walk(words_max: usize, from: Vec<Option<u64>>, found: &[u64]) -> Walk {
        Walk {
            base: None,
            image: VolumeId(1),
            snapshots: (VolumeUuid([1; 16]), None),
            dealing: Dealing { lineage: 0, shards: 2 },
            size_blocks: 64 * 20 + 3,
            words_max,
            from,
            left: 0,
            found: found.iter().map(|word| (*word, u64::MAX)).collect(),
            reply: None,
        }
    }

    #[test]
    fn an_answer_ends_where_a_shard_has_not_looked_and_goes_on_there() {
        // Shard 1 stopped at its leaf 0, word 4 of the volume.
        assert_eq!(walk(9, vec![None, Some(0)], &[0, 1, 8]).take(), None, "more may be had");
        let diff = walk(2, vec![None, Some(0)], &[0, 1, 8]).take().expect("enough");
        assert_eq!(diff.words.len(), 2);
        assert_eq!(diff.next_block, Some(4 * 64));
        let diff = walk(2, vec![None, None], &[0, 1, 8]).take().expect("all");
        assert_eq!((diff.words.len(), diff.next_block), (2, Some(8 * 64)));
    }

    #[test]
    fn blocks_beyond_the_end_of_the_snapshot_are_not_told() {
        let diff = walk(9, vec![None, Some(1000)], &[19, 20, 21]).take().expect("all");
        let expected = [(19 * 64, u64::MAX), (20 * 64, 7)];
        assert_eq!(diff.words, expected.map(|(first_block, changed)| DiffWord { first_block, changed }));
        assert_eq!(diff.next_block, None);
    }
}
