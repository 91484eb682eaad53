//! Records of one kind: held in memory for every request, changed through the metadata store.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metadata::{Change, Expect, Kind, Record, Store, StoreError};

/// All records of a kind, by key.
#[derive(Debug)]
pub(super) struct Records<T> {
    kind: Kind,
    entries: RefCell<BTreeMap<String, T>>,
}

impl<T: Clone + Serialize + DeserializeOwned> Records<T> {
    /// Those among `records`.
    pub(super) fn read(kind: Kind, records: &[Record]) -> Result<Self, StoreError> {
        let own = records.iter().filter(|record| record.kind == kind);
        let entries = own.map(|record| Ok((record.key.clone(), record.parse()?)));
        Ok(Self { kind, entries: RefCell::new(entries.collect::<Result<_, StoreError>>()?) })
    }

    /// One.
    pub(super) fn get(&self, key: &str) -> Option<T> {
        self.entries.borrow().get(key).cloned()
    }

    /// Whether there is one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.borrow().contains_key(key)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// All, in order of their keys.
    pub(super) fn all(&self) -> Vec<(String, T)> {
        self.entries.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Writes one. The caller makes one change at a time.
    pub(super) async fn put(&self, store: &dyn Store, key: &str, value: T) -> Result<(), StoreError> {
        let text = serde_json::to_vec(&value).expect("records have string keys and no failing parts");
        store.commit(vec![self.change(key, Some(text))]).await?;
        self.entries.borrow_mut().insert(key.to_owned(), value);
        Ok(())
    }

    /// Removes some: from memory at once, so that nobody is let in by one that is on its way out.
    pub(super) async fn remove(&self, store: &dyn Store, keys: Vec<String>) -> Result<(), StoreError> {
        let removed: Vec<(String, T)> = {
            let mut entries = self.entries.borrow_mut();
            keys.into_iter().filter_map(|key| entries.remove_entry(&key)).collect()
        };
        let outcome = store.commit(removed.iter().map(|(key, _)| self.change(key, None)).collect()).await;
        if outcome.is_err() {
            self.entries.borrow_mut().extend(removed);
        }
        outcome.map(drop)
    }

    fn change(&self, key: &str, value: Option<Vec<u8>>) -> Change {
        Change { kind: self.kind, key: key.to_owned(), expect: Expect::Anything, value }
    }
}
