//! The records of the store as requests see them: held in memory, changed through the store.
//!
//! Memory follows the store: a change is seen once it is durable, and never an older one after a newer one. What other
//! servers change comes by the store's news, sooner or later than the answers to our own changes: a record that we have
//! deleted leaves its revision behind until the news have passed that, so that no older news bring it back.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::{Rc, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};
use tokio::time::timeout;

use super::{Change, Expect, Kind, Loaded, News, Silence, Store, StoreError};

/// All records.
#[derive(Debug)]
pub(crate) struct Records {
    store: Rc<dyn Store>,
    held: RefCell<BTreeMap<(Kind, String), Held>>,
    /// How often memory has changed, by kind.
    changes: RefCell<BTreeMap<Kind, u64>>,
    /// The revision up to which the store's news were taken over.
    followed: Cell<u64>,
    /// The guard's revision.
    guard: Cell<u64>,
    /// For those that must check several records before they change one.
    changing: Mutex<()>,
    /// Tells tasks that something has changed.
    told: watch::Sender<u64>,
}

/// The right to change records after a look at several: no other such change comes between look and change, in this
/// server because one waits for the other, elsewhere because the store refuses the later one.
#[derive(Debug)]
pub(crate) struct Exclusive<'a> {
    records: &'a Records,
    guard: Cell<u64>,
    _one: MutexGuard<'a, ()>,
}

/// A type of records.
pub(crate) trait Kept: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: Kind;

    /// Its key among its kind.
    fn key(&self) -> String;
}

/// A record that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    /// What it says.
    pub(crate) value: T,
    /// The commit that wrote it.
    pub(crate) revision: u64,
}

#[derive(Clone, Debug)]
struct Held {
    revision: u64,
    /// None: deleted by that revision.
    value: Option<Rc<[u8]>>,
}

impl Records {
    /// Reads everything from the store, and follows it from then on.
    pub(crate) async fn load(store: Rc<dyn Store>) -> Result<Rc<Self>, StoreError> {
        let mut news = store.news();
        // The first news are everything.
        let first = match &mut news {
            Some(news) => {
                news.recv().await.ok_or_else(|| StoreError::Unavailable("it tells nothing".to_owned()))?
            }
            None => News::All(store.load().await?),
        };
        let records = Rc::new(Self {
            store,
            held: RefCell::default(),
            changes: RefCell::default(),
            followed: Cell::new(0),
            guard: Cell::new(0),
            changing: Mutex::new(()),
            told: watch::channel(0).0,
        });
        records.take(first);
        if let Some(news) = news {
            tokio_uring::spawn(follow(Rc::downgrade(&records), news));
        }
        Ok(records)
    }

    /// Whether other servers use the store, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Since when the store has not answered; none while it does.
    pub(crate) fn silence(&self) -> Option<Silence> {
        self.store.silence()
    }

    /// One record; one that cannot be read counts as absent and is logged.
    pub(crate) fn get<T: Kept>(&self, key: &str) -> Option<Found<T>> {
        let held = self.held.borrow();
        let found = held.get(&(T::KIND, key.to_owned()))?;
        read(T::KIND, key, found)
    }

    /// The revision of a record.
    pub(crate) fn revision(&self, kind: Kind, key: &str) -> Option<u64> {
        let held = self.held.borrow();
        held.get(&(kind, key.to_owned())).filter(|held| held.value.is_some()).map(|held| held.revision)
    }

    /// All records of a type whose keys begin with `prefix`, in order of their keys.
    pub(crate) fn list<T: Kept>(&self, prefix: &str) -> Vec<Found<T>> {
        self.from(prefix, |key| key.starts_with(prefix))
    }

    /// All records of a type from key `first` on.
    pub(crate) fn list_from<T: Kept>(&self, first: &str) -> Vec<Found<T>> {
        self.from(first, |_| true)
    }

    /// Some record by its kind; one that cannot be read counts as absent and is logged.
    pub(crate) fn get_of<T: DeserializeOwned>(&self, kind: Kind, key: &str) -> Option<Found<T>> {
        let held = self.held.borrow();
        let found = held.get(&(kind, key.to_owned()))?;
        read(kind, key, found)
    }

    /// How often records of some kinds have changed: another value tells that one did.
    pub(crate) fn changes(&self, kinds: &[Kind]) -> u64 {
        let changes = self.changes.borrow();
        kinds.iter().filter_map(|kind| changes.get(kind)).sum()
    }

    /// How many records of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let held = self.held.borrow();
        let first = Bound::Included((kind, String::new()));
        let own = held.range((first, Bound::Unbounded)).take_while(|((other, _), _)| *other == kind);
        own.filter(|(_, held)| held.value.is_some()).count()
    }

    /// The keys of a kind, in order.
    pub(crate) fn keys(&self, kind: Kind) -> Vec<String> {
        let held = self.held.borrow();
        let first = Bound::Included((kind, String::new()));
        let own = held.range((first, Bound::Unbounded)).take_while(|((other, _), _)| *other == kind);
        own.filter(|(_, held)| held.value.is_some()).map(|((_, key), _)| key.clone()).collect()
    }

    /// Keeps others from changing anything that is changed under this right, too.
    pub(crate) async fn exclusive(&self) -> Exclusive<'_> {
        let one = self.changing.lock().await;
        Exclusive { records: self, guard: Cell::new(self.guard.get()), _one: one }
    }

    /// Replaces the record of that revision.
    pub(crate) async fn replace<T: Kept>(&self, value: &T, revision: u64) -> Result<u64, StoreError> {
        self.commit(vec![Change::put(value, Expect::Revision(revision))]).await
    }

    /// Writes a record whatever is there.
    pub(crate) async fn write<T: Kept>(&self, value: &T) -> Result<u64, StoreError> {
        self.commit(vec![Change::put(value, Expect::Anything)]).await
    }

    /// Removes the record of that revision.
    pub(crate) async fn remove<T: Kept>(&self, value: &T, revision: u64) -> Result<u64, StoreError> {
        let expect = Expect::Revision(revision);
        self.commit(vec![Change { kind: T::KIND, key: value.key(), expect, value: None }]).await
    }

    /// Makes several changes or none of them.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<u64, StoreError> {
        self.commit_guarded(changes, None).await
    }

    async fn commit_guarded(&self, changes: Vec<Change>, guard: Option<u64>) -> Result<u64, StoreError> {
        let applied = changes.clone();
        let revision = self.store.commit(changes, guard).await?;
        if guard.is_some() {
            self.guard.set(self.guard.get().max(revision));
        }
        let shared = self.store.is_shared();
        for change in applied {
            self.apply(change.kind, change.key, revision, change.value, shared);
        }
        Ok(revision)
    }

    /// Tells each time something has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Waits for what has made a change fail to be told here, or for a moment.
    ///
    /// `before` was taken before the change was prepared.
    pub(crate) async fn catch_up(&self, before: &mut watch::Receiver<u64>) {
        drop(timeout(CATCH_UP, before.changed()).await);
    }

    /// Takes a change over. With `echoed`, news will tell of it, too.
    fn apply(&self, kind: Kind, key: String, revision: u64, value: Option<Vec<u8>>, echoed: bool) {
        if echoed && revision <= self.followed.get() {
            // The news were faster, and may have told of something later already.
            return;
        }
        let mut held = self.held.borrow_mut();
        let key = (kind, key);
        match held.get(&key).map(|known| (known.revision, known.value.is_some())) {
            Some((known, _)) if known > revision => return,
            Some((known, is_there)) if known == revision => {
                if !is_there && !echoed {
                    held.remove(&key);
                }
                return;
            }
            _ => {}
        }
        let value: Option<Rc<[u8]>> = value.map(Into::into);
        if value.is_some() || echoed {
            held.insert(key, Held { revision, value });
        } else {
            held.remove(&key);
        }
        drop(held);
        self.note(kind);
    }

    /// Makes memory what the store holds.
    fn replace_all(&self, loaded: Loaded) {
        let before = self.followed.replace(loaded.revision);
        if loaded.revision < before {
            let now = loaded.revision;
            tracing::warn!(
                before,
                now,
                "the metadata store has gone back: it was restored from an older copy"
            );
        }
        self.guard.set(loaded.guard);
        let mut fresh = BTreeMap::new();
        for record in loaded.records {
            let held = Held { revision: record.revision, value: Some(record.value.into()) };
            fresh.insert((record.kind, record.key), held);
        }
        let before = self.held.replace(fresh);
        let held = self.held.borrow();
        let mut kinds: BTreeSet<Kind> = BTreeSet::new();
        for (key, old) in &before {
            if held.get(key).is_none_or(|new| new.revision != old.revision) {
                kinds.insert(key.0);
            }
        }
        kinds.extend(held.keys().filter(|key| !before.contains_key(key)).map(|(kind, _)| *kind));
        drop(held);
        kinds.into_iter().for_each(|kind| self.note(kind));
    }

    fn note(&self, kind: Kind) {
        *self.changes.borrow_mut().entry(kind).or_default() += 1;
        self.told.send_modify(|count| *count += 1);
    }

    fn take(&self, news: News) {
        match news {
            News::All(loaded) => self.replace_all(loaded),
            News::Some { changes, guard } => {
                for change in changes {
                    self.followed.set(self.followed.get().max(change.revision));
                    self.apply(change.kind, change.key, change.revision, change.value, false);
                }
                if let Some(guard) = guard {
                    self.guard.set(if guard == 0 { 0 } else { self.guard.get().max(guard) });
                }
            }
        }
    }

    fn from<T: Kept>(&self, first: &str, admits: impl Fn(&str) -> bool) -> Vec<Found<T>> {
        let held = self.held.borrow();
        let first = Bound::Included((T::KIND, first.to_owned()));
        let own = held.range((first, Bound::Unbounded));
        let own = own.take_while(|((kind, key), _)| *kind == T::KIND && admits(key));
        own.filter_map(|((kind, key), held)| read(*kind, key, held)).collect()
    }
}

impl Exclusive<'_> {
    /// Makes a record that must not be there yet.
    pub(crate) async fn create<T: Kept>(&self, value: &T) -> Result<u64, StoreError> {
        self.commit(vec![Change::put(value, Expect::Absent)]).await
    }

    /// Replaces the record of that revision.
    pub(crate) async fn replace<T: Kept>(&self, value: &T, revision: u64) -> Result<u64, StoreError> {
        self.commit(vec![Change::put(value, Expect::Revision(revision))]).await
    }

    /// Removes the record of that revision.
    pub(crate) async fn remove<T: Kept>(&self, value: &T, revision: u64) -> Result<u64, StoreError> {
        let expect = Expect::Revision(revision);
        self.commit(vec![Change { kind: T::KIND, key: value.key(), expect, value: None }]).await
    }

    /// Makes several changes or none of them.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<u64, StoreError> {
        let revision = self.records.commit_guarded(changes, Some(self.guard.get())).await?;
        self.guard.set(revision);
        Ok(revision)
    }
}

/// Takes over what others change, as long as there is somebody to read it.
async fn follow(records: Weak<Records>, mut news: mpsc::Receiver<News>) {
    while let Some(some) = news.recv().await {
        let Some(records) = records.upgrade() else { return };
        records.take(some);
    }
}

fn read<T: DeserializeOwned>(kind: Kind, key: &str, held: &Held) -> Option<Found<T>> {
    let value = held.value.as_ref()?;
    match serde_json::from_slice(value) {
        Ok(value) => Some(Found { value, revision: held.revision }),
        Err(error) => {
            tracing::error!(%kind, key, %error, "a record cannot be read");
            None
        }
    }
}

/// News come within milliseconds.
const CATCH_UP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod test {
    use std::sync::Mutex as Lock;

    use super::super::{Changed, Pending, Record};
    use super::*;
    use crate::directory::Project;

    /// A store that others share: its answers and its news come when the test says so.
    #[derive(Debug)]
    struct Shared {
        news: Lock<Option<mpsc::Receiver<News>>>,
        /// What the next commits are answered, the last first.
        answers: Lock<Vec<Result<u64, StoreError>>>,
    }

    impl Store for Shared {
        fn load(&self) -> Pending<'_, Loaded> {
            Box::pin(async { Ok(Loaded::default()) })
        }

        fn commit(&self, _: Vec<Change>, _: Option<u64>) -> Pending<'_, u64> {
            let answer = self.answers.lock().unwrap().pop().unwrap();
            Box::pin(async { answer })
        }

        fn news(&self) -> Option<mpsc::Receiver<News>> {
            self.news.lock().unwrap().take()
        }

        fn is_shared(&self) -> bool {
            true
        }
    }

    fn project(name: &str) -> Project {
        let (name, text) = (name.to_owned(), String::new());
        Project { name, uuid: text.clone(), description: text, default_policies: Vec::new() }
    }

    fn text(name: &str) -> Vec<u8> {
        serde_json::to_vec(&project(name)).unwrap()
    }

    fn all(names: &[&str], revision: u64) -> News {
        let record = |name: &&str| Record {
            kind: Kind::Project,
            key: (*name).to_owned(),
            revision,
            value: text(name),
        };
        News::All(Loaded { records: names.iter().map(record).collect(), revision, guard: revision })
    }

    fn some(name: &str, revision: u64, is_there: bool) -> News {
        let value = is_there.then(|| text(name));
        let changed = Changed { kind: Kind::Project, key: name.to_owned(), revision, value };
        News::Some { changes: vec![changed], guard: Some(revision) }
    }

    async fn records(first: News, answers: Vec<Result<u64, StoreError>>) -> Rc<Records> {
        let (sender, news) = mpsc::channel(1);
        sender.send(first).await.unwrap();
        let store = Shared { news: Lock::new(Some(news)), answers: Lock::new(answers) };
        Records::load(Rc::new(store)).await.unwrap()
    }

    #[test]
    fn older_news_bring_nothing_back_that_was_deleted_here() {
        tokio_uring::start(async {
            let records = records(all(&["a"], 5), vec![Ok(9)]).await;
            records.remove(&project("a"), 5).await.unwrap();
            assert_eq!(records.revision(Kind::Project, "a"), None);
            let before = records.changes(&[Kind::Project]);
            records.take(some("a", 7, true));
            assert_eq!(records.revision(Kind::Project, "a"), None, "it was made before it was deleted");
            records.take(some("a", 9, false));
            assert_eq!(records.changes(&[Kind::Project]), before, "nothing has changed since");
            assert!(records.held.borrow().is_empty(), "no trace is kept of what the news have passed");
            records.take(some("a", 11, true));
            assert_eq!(records.revision(Kind::Project, "a"), Some(11));
        });
    }

    #[test]
    fn an_answer_that_comes_after_its_news_changes_nothing() {
        tokio_uring::start(async {
            let records = records(all(&[], 5), vec![Ok(9), Ok(7)]).await;
            records.take(some("a", 7, true));
            records.take(some("a", 9, false));
            records.write(&project("a")).await.unwrap();
            assert_eq!(records.revision(Kind::Project, "a"), None);
            records.commit(vec![Change::delete(Kind::Project, "a")]).await.unwrap();
            assert!(records.held.borrow().is_empty());
        });
    }

    #[test]
    fn everything_anew_takes_away_what_is_no_longer_there_even_from_an_older_copy() {
        tokio_uring::start(async {
            let records = records(all(&["a", "b"], 50), Vec::new()).await;
            records.take(some("c", 60, true));
            let before = records.changes(&[Kind::Project]);
            records.take(all(&["a"], 50));
            assert_eq!(records.keys(Kind::Project), ["a"]);
            assert!(records.changes(&[Kind::Project]) > before);
            records.take(some("d", 51, true));
            assert_eq!(records.keys(Kind::Project), ["a", "d"]);
        });
    }

    #[test]
    fn a_right_that_was_outrun_is_of_use_again_after_a_fresh_look() {
        tokio_uring::start(async {
            let conflict = StoreError::Conflict { kind: Kind::Project, key: String::new() };
            let records = records(all(&[], 5), vec![Ok(8), Err(conflict)]).await;
            let one = records.exclusive().await;
            assert_eq!(one.guard.get(), 5);
            records.take(some("b", 7, true));
            assert_eq!(one.guard.get(), 5, "the look was before the news");
            assert!(one.create(&project("a")).await.is_err());
            drop(one);
            let one = records.exclusive().await;
            assert_eq!(one.guard.get(), 7);
            one.create(&project("a")).await.unwrap();
            assert_eq!((one.guard.get(), records.guard.get()), (8, 8));
        });
    }
}
