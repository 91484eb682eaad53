//! The records of the store as requests see them: held in memory, changed through the store.
//!
//! Memory follows the store: a change is seen once it is durable, and never an older one after a newer one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::{Change, Expect, Kind, Store, StoreError};

/// All records.
#[derive(Debug)]
pub(crate) struct Records {
    store: Rc<dyn Store>,
    held: RefCell<BTreeMap<(Kind, String), Held>>,
    /// The newest revision that memory has, of each kind.
    newest: RefCell<BTreeMap<Kind, u64>>,
    /// For those that must check several records before they change one.
    changing: Mutex<()>,
    /// Tells tasks that something has changed.
    told: watch::Sender<u64>,
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
    /// Reads everything from the store.
    pub(crate) async fn load(store: Rc<dyn Store>) -> Result<Rc<Self>, StoreError> {
        let records = Self {
            store: store.clone(),
            held: RefCell::default(),
            newest: RefCell::default(),
            changing: Mutex::new(()),
            told: watch::channel(0).0,
        };
        for record in store.load().await? {
            records.apply(record.kind, record.key, record.revision, Some(record.value));
        }
        Ok(Rc::new(records))
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

    /// The newest changes of some kinds: another value tells that there was one.
    pub(crate) fn newest(&self, kinds: &[Kind]) -> Vec<Option<u64>> {
        let newest = self.newest.borrow();
        kinds.iter().map(|kind| newest.get(kind).copied()).collect()
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

    /// Keeps others from changing anything that is changed under this guard, too.
    pub(crate) async fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Makes a record that must not be there yet.
    pub(crate) async fn create<T: Kept>(&self, value: &T) -> Result<u64, StoreError> {
        self.commit(vec![Change::put(value, Expect::Absent)]).await
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
        let applied = changes.clone();
        let revision = self.store.commit(changes).await?;
        for change in applied {
            self.apply(change.kind, change.key, revision, change.value);
        }
        Ok(revision)
    }

    /// Tells each time something has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    fn apply(&self, kind: Kind, key: String, revision: u64, value: Option<Vec<u8>>) {
        let mut held = self.held.borrow_mut();
        let key = (kind, key);
        if held.get(&key).is_some_and(|known| known.revision > revision) {
            return;
        }
        match value {
            Some(value) => drop(held.insert(key, Held { revision, value: Some(value.into()) })),
            None => drop(held.remove(&key)),
        }
        drop(held);
        self.newest.borrow_mut().insert(kind, revision);
        self.told.send_replace(revision);
    }

    fn from<T: Kept>(&self, first: &str, admits: impl Fn(&str) -> bool) -> Vec<Found<T>> {
        let held = self.held.borrow();
        let first = Bound::Included((T::KIND, first.to_owned()));
        let own = held.range((first, Bound::Unbounded));
        let own = own.take_while(|((kind, key), _)| *kind == T::KIND && admits(key));
        own.filter_map(|((kind, key), held)| read(*kind, key, held)).collect()
    }
}

fn read<T: Kept>(kind: Kind, key: &str, held: &Held) -> Option<Found<T>> {
    let value = held.value.as_ref()?;
    match serde_json::from_slice(value) {
        Ok(value) => Some(Found { value, revision: held.revision }),
        Err(error) => {
            tracing::error!(%kind, key, %error, "a record cannot be read");
            None
        }
    }
}
