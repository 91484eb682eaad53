//! Moves all metadata from one store to another.
//!
//! A mark in each store says how far a move has come. The target is marked first, and no server uses it until
//! everything is there. Then the source is marked, which is the point of no return: no server uses the source from then
//! on. Then the target's mark goes. Wherever a move is cut off, at most one of the two stores is used, each says which
//! it is, and the same move again goes to its end.

use serde::{Deserialize, Serialize};

use super::{Change, Expect, Loaded, Pending, Store, StoreError};

/// A store that can be moved from and to.
pub(crate) trait Movable: Store {
    /// How far a move has come.
    fn mark(&self) -> Pending<'_, Option<Mark>>;

    /// Sets the mark or takes it away. With a revision, only if no record has been changed since.
    fn set_mark(&self, mark: Option<Mark>, unchanged_since: Option<u64>) -> Pending<'_, ()>;

    /// Makes all later revisions greater than this one, so that no ETag ever means two things.
    fn raise(&self, revision: u64) -> Pending<'_, ()>;
}

/// What a store is while it is moved, and after.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// Not everything may be here yet.
    Incoming {
        /// Where it comes from.
        from: String,
        /// Which move.
        id: String,
    },
    /// Everything is elsewhere.
    Moved {
        /// Where it is.
        to: String,
        /// Which move.
        id: String,
    },
}

/// A move.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    /// The store to be emptied of its meaning, and its name.
    pub(crate) from: (&'a dyn Movable, String),
    /// The store to be filled, and its name.
    pub(crate) to: (&'a dyn Movable, String),
    /// Whether what the target holds may be thrown away.
    pub(crate) replace: bool,
}

impl Transfer<'_> {
    /// Moves everything; returns how many records there are.
    pub(crate) async fn run(&self) -> Result<usize, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(id) = self.begin().await? else { return self.finish().await };
            let revision = self.copy().await?;
            match self.retire(id, revision).await {
                // Servers that use the source have changed it meanwhile.
                Err(StoreError::Conflict { .. }) => {}
                outcome => {
                    outcome?;
                    return self.finish().await;
                }
            }
        }
        let from = &self.from.1;
        Err(StoreError::Moved(format!(
            "{from} changes all the time: stop the servers that use it, then try again"
        )))
    }

    /// Marks the target; returns the move's identity, or none if only [`Transfer::finish`] is left to be done.
    async fn begin(&self) -> Result<Option<String>, StoreError> {
        let ((source, from), (target, to)) = (&self.from, &self.to);
        let (left, here) = (source.mark().await?, target.mark().await?);
        match left {
            None => {}
            Some(Mark::Moved { to: place, id }) if place == *to => {
                if here.is_none() {
                    return Err(StoreError::Moved(format!("{from} was moved to {to} already")));
                }
                if here == Some(Mark::Incoming { from: from.clone(), id }) {
                    return Ok(None);
                }
                return Err(StoreError::Moved(format!(
                    "{from} was moved to {to}, which was moved or replaced since"
                )));
            }
            Some(mark) => return Err(mark.refusal(from)),
        }
        let count = target.load().await?.records.len();
        let ours = match here {
            None => count == 0,
            Some(Mark::Incoming { from: place, .. } | Mark::Moved { to: place, .. }) => place == *from,
        };
        if !ours && !self.replace {
            return Err(StoreError::Moved(format!(
                "{to} holds {count} records: choose an empty place, or say --replace to throw these away"
            )));
        }
        let id = uuid::Uuid::new_v4().to_string();
        target.set_mark(Some(Mark::Incoming { from: from.clone(), id: id.clone() }), None).await?;
        Ok(Some(id))
    }

    /// Makes the target hold what the source holds; returns the source's revision.
    async fn copy(&self) -> Result<u64, StoreError> {
        let Loaded { records, revision, .. } = self.from.0.load().await?;
        let target = self.to.0;
        target.raise(revision).await?;
        let mut old = target.load().await?.records;
        old.retain(|old| !records.iter().any(|new| (new.kind, &new.key) == (old.kind, &old.key)));
        let mut changes: Vec<Change> =
            old.into_iter().map(|record| Change::delete(record.kind, record.key)).collect();
        changes.extend(records.into_iter().map(|record| Change {
            kind: record.kind,
            key: record.key,
            expect: Expect::Anything,
            value: Some(record.value),
        }));
        for piece in pieces(changes) {
            target.commit(piece, None).await?;
        }
        Ok(revision)
    }

    /// Ends the use of the source.
    async fn retire(&self, id: String, revision: u64) -> Result<(), StoreError> {
        let mark = Mark::Moved { to: self.to.1.clone(), id };
        self.from.0.set_mark(Some(mark), Some(revision)).await
    }

    /// Begins the use of the target; returns how many records it has.
    async fn finish(&self) -> Result<usize, StoreError> {
        self.to.0.set_mark(None, None).await?;
        Ok(self.to.0.load().await?.records.len())
    }
}

impl Mark {
    /// Whether this is the mark of the target `name`, and `left` that of its source, when only the target's was left to
    /// be taken away.
    pub(super) fn is_end_of(&self, left: &Self, name: &str) -> bool {
        match (self, left) {
            (Self::Incoming { id, .. }, Self::Moved { to, id: last }) => id == last && to == name,
            _ => false,
        }
    }

    /// Why the store `name` is not used.
    pub(super) fn refusal(&self, name: &str) -> StoreError {
        StoreError::Moved(match self {
            Self::Incoming { from, .. } => format!(
                "{name} is not whole: a move from {from} was cut off; until that says that it was moved, it is the one to \
                 use; run ferrule move metadata --from {from} --to {name} again to finish"
            ),
            Self::Moved { to, .. } => format!(
                "{name} was moved to {to}: use that, or come back by ferrule move metadata --from {to} --to {name}"
            ),
        })
    }

    /// Its text in a store.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("plain strings")
    }

    /// Reads the text; one that cannot be read is of a move that nobody can finish.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text)
            .unwrap_or_else(|_| Self::Incoming { from: "an unknown place".to_owned(), id: String::new() })
    }
}

/// Cuts changes, in their order, into what one commit takes.
fn pieces(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut pieces = Vec::new();
    let (mut piece, mut piece_bytes) = (Vec::new(), 0);
    for change in changes {
        let bytes = change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        if piece.len() >= PIECE_MAX || !piece.is_empty() && piece_bytes + bytes > PIECE_BYTES_MAX {
            pieces.push(std::mem::take(&mut piece));
            piece_bytes = 0;
        }
        piece.push(change);
        piece_bytes += bytes;
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

const ATTEMPTS: u32 = 5;
/// Records in one commit.
const PIECE_MAX: usize = 512;
/// Bytes in one commit, of keys and values: etcd takes 1.5 MiB with all that is around them.
const PIECE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod test {
    use super::super::{Embedded, Kind};
    use super::*;
    use crate::serve::files::test::Folder;

    fn put(key: &str, value: &str) -> Change {
        let value = Some(value.as_bytes().to_vec());
        Change { kind: Kind::Project, key: key.to_owned(), expect: Expect::Anything, value }
    }

    fn open(folder: &Folder, name: &str) -> Embedded {
        Embedded::open_any(&folder.path().join(name)).unwrap()
    }

    fn transfer<'a>(from: &'a Embedded, to: &'a Embedded) -> Transfer<'a> {
        Transfer { from: (from, "A".to_owned()), to: (to, "B".to_owned()), replace: false }
    }

    async fn usable(store: &Embedded) -> bool {
        store.mark().await.unwrap().is_none()
    }

    /// Records without their revisions.
    async fn content(store: &Embedded) -> Vec<(String, Vec<u8>)> {
        let records = store.load().await.unwrap().records;
        records.into_iter().map(|record| (record.key, record.value)).collect()
    }

    #[test]
    fn a_move_takes_everything_and_leaves_one_store_in_use() {
        tokio_uring::start(async {
            let folder = Folder::new("move");
            let (a, b) = (open(&folder, "a"), open(&folder, "b"));
            for number in 0..40 {
                a.commit(vec![put(&format!("p{number}"), "{}")], None).await.unwrap();
            }
            let before = content(&a).await;
            assert_eq!(transfer(&a, &b).run().await.unwrap(), 40);
            assert_eq!(content(&b).await, before);
            assert_eq!((usable(&a).await, usable(&b).await), (false, true));
            let newer = b.commit(vec![put("p0", "[]")], None).await.unwrap();
            assert!(newer > 40, "revision {newer} was given before");
            let error = transfer(&a, &b).run().await.unwrap_err();
            assert!(error.to_string().contains("already"), "{error}");
            // And back, over what was left behind.
            let back = Transfer { from: (&b, "B".to_owned()), to: (&a, "A".to_owned()), replace: false };
            assert_eq!(back.run().await.unwrap(), 40);
            assert_eq!(content(&a).await[0].1, b"[]");
            assert_eq!((usable(&a).await, usable(&b).await), (true, false));
        });
    }

    #[test]
    fn a_move_cut_off_anywhere_leaves_at_most_one_store_in_use_and_goes_to_its_end_when_repeated() {
        tokio_uring::start(async {
            for steps in 1..=3 {
                let folder = Folder::new("cut");
                {
                    let (a, b) = (open(&folder, "a"), open(&folder, "b"));
                    a.commit(vec![put("p", "{}")], None).await.unwrap();
                    let cut = transfer(&a, &b);
                    let id = cut.begin().await.unwrap().unwrap();
                    if steps > 1 {
                        let revision = cut.copy().await.unwrap();
                        if steps > 2 {
                            cut.retire(id, revision).await.unwrap();
                        }
                    }
                    assert_eq!((usable(&a).await, usable(&b).await), (steps < 3, false));
                }
                let refusal = Embedded::open(&folder.path().join("b")).unwrap_err().to_string();
                assert!(refusal.contains("move metadata --from A"), "{refusal}");
                let (a, b) = (open(&folder, "a"), open(&folder, "b"));
                assert_eq!(transfer(&a, &b).run().await.unwrap(), 1);
                assert_eq!((usable(&a).await, usable(&b).await), (false, true));
                assert_eq!(content(&b).await.len(), 1);
            }
        });
    }

    #[test]
    fn no_commit_of_a_move_has_more_than_a_store_takes() {
        let large = "x".repeat(4096);
        let value = |number: usize| match number % 3 {
            0 => "{}",
            _ => &large,
        };
        let mut changes: Vec<Change> =
            (0..2000).map(|number| put(&number.to_string(), value(number))).collect();
        // One that is too large by itself is the store's to refuse.
        changes.insert(700, put("huge", &"x".repeat(2 * PIECE_BYTES_MAX)));
        let keys: Vec<String> = changes.iter().map(|change| change.key.clone()).collect();
        let pieces = pieces(changes);
        for piece in &pieces {
            let bytes: usize = piece.iter().filter_map(|change| Some(change.value.as_ref()?.len())).sum();
            assert!(piece.len() == 1 || piece.len() <= PIECE_MAX && bytes <= PIECE_BYTES_MAX, "{bytes}");
        }
        assert!(pieces.len() < 20 && pieces.iter().all(|piece| !piece.is_empty()), "{}", pieces.len());
        let cut: Vec<String> = pieces.into_iter().flatten().map(|change| change.key).collect();
        assert_eq!(cut, keys);
    }

    #[test]
    fn what_the_target_holds_is_kept_unless_told_otherwise() {
        tokio_uring::start(async {
            let folder = Folder::new("full");
            let (a, b) = (open(&folder, "a"), open(&folder, "b"));
            a.commit(vec![put("p", "{}")], None).await.unwrap();
            b.commit(vec![put("q", "{}")], None).await.unwrap();
            let error = transfer(&a, &b).run().await.unwrap_err();
            assert!(error.to_string().contains("--replace"), "{error}");
            assert_eq!((usable(&a).await, usable(&b).await), (true, true));
            let told = Transfer { replace: true, ..transfer(&a, &b) };
            assert_eq!(told.run().await.unwrap(), 1);
            assert_eq!(content(&b).await[0].0, "p");
        });
    }
}
