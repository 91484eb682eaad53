//! Records of one kind as tokens need them: what is on its way out lets nobody in any more.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metadata::{self, Change, Expect, Kind, StoreError};

/// All records of a kind, by key.
#[derive(Debug)]
pub(super) struct Records<T> {
    kind: Kind,
    records: Rc<metadata::Records>,
    /// Those whose removal is being made durable.
    going: RefCell<BTreeSet<String>>,
    _type: PhantomData<T>,
}

/// Keeps a record from being found as long as it lives.
#[derive(Debug)]
pub(super) struct Hidden<'a> {
    going: &'a RefCell<BTreeSet<String>>,
    key: String,
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.going.borrow_mut().remove(&self.key);
    }
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    /// Those of `kind` among `records`.
    pub(super) fn of(kind: Kind, records: &Rc<metadata::Records>) -> Self {
        Self { kind, records: records.clone(), going: RefCell::default(), _type: PhantomData }
    }

    /// One.
    pub(super) fn get(&self, key: &str) -> Option<T> {
        if self.going.borrow().contains(key) {
            return None;
        }
        self.records.get_of(self.kind, key).map(|found| found.value)
    }

    /// The revision of one.
    pub(super) fn revision(&self, key: &str) -> Option<u64> {
        let revision = self.records.revision(self.kind, key)?;
        (!self.going.borrow().contains(key)).then_some(revision)
    }

    /// Whether there is one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.revision(key).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.records.count(self.kind)
    }

    /// All, in order of their keys.
    pub(super) fn all(&self) -> Vec<(String, T)> {
        let keys = self.records.keys(self.kind).into_iter();
        keys.filter_map(|key| self.get(&key).map(|value| (key, value))).collect()
    }

    /// Lets nobody in by one any more, until the answer is dropped.
    pub(super) fn hide(&self, key: &str) -> Hidden<'_> {
        self.going.borrow_mut().insert(key.to_owned());
        Hidden { going: &self.going, key: key.to_owned() }
    }

    /// Writes one. The caller makes one change at a time.
    pub(super) async fn put(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value).expect("records have string keys and no failing parts");
        let (kind, key) = (self.kind, key.to_owned());
        let change = Change { kind, key, expect: Expect::Anything, value: Some(text) };
        self.records.commit(vec![change]).await.map(drop)
    }

    /// Removes some: at once, so that nobody is let in by one that is on its way out.
    pub(super) async fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        self.going.borrow_mut().extend(keys.iter().cloned());
        let changes = keys.iter().map(|key| Change::delete(self.kind, key)).collect();
        let outcome = self.records.commit(changes).await;
        self.going.borrow_mut().retain(|key| !keys.contains(key));
        outcome.map(drop)
    }
}
