//! The store of a cluster: keys below a prefix in etcd, followed by a watch.
//!
//! Everything that speaks to etcd runs on a thread of its own with a runtime of its own, so that neither the protocol
//! nor an etcd that hangs costs the management thread anything. A revision is etcd's mod revision and a base that was
//! chosen when the prefix was first used: greater than any before, even if etcd has lost everything.
//!
//! | key | value |
//! | --- | --- |
//! | `<prefix>schema` | version, base, identity, and how far a move has come |
//! | `<prefix>guard` | empty; its revision is the guard's |
//! | `<prefix>records/<kind>/<key>` | a record's JSON text |

mod keys;
mod link;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use super::transfer::{Mark, Movable};
use super::{Change, EtcdArgs, EtcdLocation, Expect, Loaded, News, Pending, Silence, Store, StoreError};
use keys::Keys;
use link::Link;

/// A prefix in etcd.
#[derive(Clone)]
pub(crate) struct Etcd {
    shared: Arc<Shared>,
    runtime: Handle,
    /// The runtime's thread ends when the last of these is gone.
    _thread: Arc<oneshot::Sender<()>>,
}

/// What the store's tasks share.
struct Shared {
    location: EtcdLocation,
    access: EtcdArgs,
    keys: Keys,
    state: Mutex<State>,
}

struct State {
    /// None while there is no etcd to speak to.
    link: Option<Link>,
    /// When etcd was last heard.
    heard: Instant,
    /// What the last failure was.
    reason: String,
}

impl Etcd {
    /// A store that is not connected yet.
    pub(crate) fn new(location: EtcdLocation, access: EtcdArgs) -> Result<Self, StoreError> {
        let failed = |error| StoreError::failed("the thread for etcd cannot be started", error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (thread, ended) = oneshot::channel::<()>();
        let life = move || drop(runtime.block_on(ended));
        std::thread::Builder::new().name("etcd".to_owned()).spawn(life).map_err(failed)?;
        let keys = Keys::new(location.prefix());
        let state = State { link: None, heard: Instant::now(), reason: "not connected yet".to_owned() };
        let shared = Shared { location, access, keys, state: Mutex::new(state) };
        Ok(Self { shared: Arc::new(shared), runtime: handle, _thread: Arc::new(thread) })
    }

    /// Looks whether the store can be served from: refuses a later schema and a store that was moved.
    ///
    /// `left` is the mark of the file that was used before: if that was moved to here, everything is here, and what was
    /// cut off of the move is done now.
    pub(crate) async fn check(&self, left: Option<Mark>) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let mut link = shared.note(Link::begin(&shared).await)?;
            let Some(mark) = link.schema.mark.take() else { return Ok(()) };
            let name = shared.location.to_string();
            if !left.is_some_and(|left| mark.is_end_of(&left, &name)) {
                return Err(mark.refusal(&name));
            }
            tracing::info!(store = name, "finished a move that was cut off");
            link.write_schema(&shared.keys, None).await
        })
        .await
    }

    /// Connects without following; refuses a later schema.
    pub(crate) async fn open_any(&self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let link = shared.note(Link::begin(&shared).await)?;
            shared.keep(link);
            Ok(())
        })
        .await
    }

    /// Runs `work` on the thread for etcd.
    fn on_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Pending<'_, T> {
        let task = self.runtime.spawn(work);
        Box::pin(
            async move { task.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()))) },
        )
    }
}

impl Store for Etcd {
    fn load(&self) -> Pending<'_, Loaded> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let mut link = shared.link()?;
            let outcome = link.load(&shared.keys).await;
            Ok(shared.note(outcome)?.0)
        })
    }

    fn commit(&self, changes: Vec<Change>, guard: Option<u64>) -> Pending<'_, u64> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let mut link = shared.link()?;
            let outcome = commit(&shared.keys, &mut link, &changes, guard).await;
            shared.note(outcome)
        })
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        let (sender, receiver) = mpsc::channel(NEWS_MAX);
        self.runtime.spawn(link::follow(self.shared.clone(), sender));
        Some(receiver)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn silence(&self) -> Option<Silence> {
        let state = self.shared.state();
        let lasts = state.heard.elapsed();
        let broken = state.link.is_none() || lasts > SILENCE;
        broken.then(|| Silence { lasts, reason: format!("{}: {}", self.shared.location, state.reason) })
    }
}

impl Movable for Etcd {
    fn mark(&self) -> Pending<'_, Option<Mark>> {
        let link = self.shared.link();
        Box::pin(async move { Ok(link?.schema.mark) })
    }

    fn set_mark(&self, mark: Option<Mark>, unchanged_since: Option<u64>) -> Pending<'_, ()> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let mut link = shared.link()?;
            link.schema.mark = mark;
            let outcome = link.write_schema(&shared.keys, unchanged_since).await;
            shared.note(outcome)?;
            shared.keep(link);
            Ok(())
        })
    }

    fn raise(&self, revision: u64) -> Pending<'_, ()> {
        let shared = self.shared.clone();
        self.on_thread(async move {
            let mut link = shared.link()?;
            link.schema.base = link.schema.base.max(revision);
            let outcome = link.write_schema(&shared.keys, None).await;
            shared.note(outcome)?;
            shared.keep(link);
            Ok(())
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Result<Link, StoreError> {
        let state = self.state();
        let unavailable = || StoreError::Unavailable(format!("{}: {}", self.location, state.reason));
        state.link.clone().ok_or_else(unavailable)
    }

    /// Makes `link` the one to be used.
    fn keep(&self, link: Link) {
        let mut state = self.state();
        state.link = Some(link);
        state.heard = Instant::now();
    }

    /// Notes that etcd was heard over `link`, which is good for changes then, even if one has failed: etcd was slow, or
    /// full, or would not have that one.
    fn hear(&self, link: &Link) {
        let mut state = self.state();
        state.heard = Instant::now();
        state.link.get_or_insert_with(|| link.clone());
    }

    /// Notes how an attempt ended, and names the store in an error: with etcd gone, nothing is tried until it was heard
    /// again or there is another link.
    fn note<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let reason = match &outcome {
            Err(StoreError::Unavailable(reason)) => reason.clone(),
            Err(error @ (StoreError::Moved(_) | StoreError::Schema { .. })) => error.to_string(),
            _ => return outcome,
        };
        let named = format!("{}: {reason}", self.location);
        let mut state = self.state();
        state.link = None;
        state.reason = reason;
        match outcome {
            Err(StoreError::Unavailable(_)) => Err(StoreError::Unavailable(named)),
            outcome => outcome,
        }
    }
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("location", &self.shared.location).finish_non_exhaustive()
    }
}

/// Makes `changes` in one transaction.
async fn commit(
    keys: &Keys,
    link: &mut Link,
    changes: &[Change],
    guard: Option<u64>,
) -> Result<u64, StoreError> {
    let Some(first) = changes.first() else { return Ok(0) };
    let schema = Compare::mod_revision(keys.schema(), CompareOp::Equal, link.schema_revision);
    let mut compares = vec![schema];
    let only_keys = || Some(GetOptions::new().with_keys_only());
    let mut looks = vec![TxnOp::get(keys.schema(), only_keys())];
    let mut ops = Vec::new();
    if let Some(guard) = guard {
        compares.push(Compare::mod_revision(keys.guard(), CompareOp::Equal, link.own_revision(guard)));
        ops.push(TxnOp::put(keys.guard(), "", None));
    }
    let mut expected = Vec::new();
    for change in changes {
        let key = keys.record(change.kind, &change.key);
        let revision = match change.expect {
            Expect::Anything => None,
            Expect::Absent => Some(0),
            Expect::Revision(revision) => Some(link.own_revision(revision)),
        };
        if let Some(revision) = revision {
            compares.push(Compare::mod_revision(key.clone(), CompareOp::Equal, revision));
            looks.push(TxnOp::get(key.clone(), only_keys()));
            expected.push((change, revision));
        }
        ops.push(match &change.value {
            Some(value) => TxnOp::put(key, value.clone(), None),
            None => TxnOp::delete(key, None),
        });
    }
    let around = compares.len().max(looks.len());
    let txn = Txn::new().when(compares).and_then(folded(ops, around)).or_else(looks);
    let answer = link::limited(link.client.txn(txn)).await?;
    if answer.succeeded() {
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        return Ok(link.revision(revision));
    }
    let mut found = answer.op_responses().into_iter().map(|answer| match answer {
        TxnOpResponse::Get(found) => found.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => 0,
    });
    if found.next() != Some(link.schema_revision) {
        return Err(StoreError::Unavailable(
            "it was upgraded, moved or emptied, and is being looked at anew".to_owned(),
        ));
    }
    let unmet = expected.iter().zip(found).find(|((_, expected), found)| expected != found);
    // If every record is as expected, it was the guard.
    let change = unmet.map_or(first, |((change, _), _)| *change);
    Err(StoreError::Conflict { kind: change.kind, key: change.key.clone() })
}

/// Few operations as they are, many as transactions in the transaction: etcd limits the number in each. `around` is the
/// number of compares, or of what is done if they fail, whichever is greater.
fn folded(mut ops: Vec<TxnOp>, around: usize) -> Vec<TxnOp> {
    let Some(inside) = ops_inside(ops.len(), around) else { return ops };
    let mut folded = Vec::new();
    while !ops.is_empty() {
        let rest = ops.split_off(ops.len().min(inside));
        folded.push(TxnOp::txn(Txn::new().and_then(std::mem::replace(&mut ops, rest))));
    }
    folded
}

/// How many of `count` operations go into each transaction inside; none if all can stay where they are. What is most
/// around them, compares or those transactions, leaves that much less of what etcd takes (its `checkTxnRequest`).
fn ops_inside(count: usize, around: usize) -> Option<usize> {
    if count <= OPS_MAX {
        return None;
    }
    let fits = |inside: &usize| inside + count.div_ceil(*inside).max(around) <= OPS_MAX;
    // What fits in no way is etcd's to refuse.
    Some((1..OPS_MAX).rev().find(fits).unwrap_or(1))
}

/// Operations in a transaction that etcd takes: its default of `--max-txn-ops`.
const OPS_MAX: usize = 128;
/// News that wait for the management thread.
const NEWS_MAX: usize = 64;
/// Longer than two heartbeats.
const SILENCE: Duration = Duration::from_secs(6);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn no_transaction_has_more_operations_than_etcd_takes() {
        // Compares, operations: few, a full log of events with as many forgotten, and twice as many, a move.
        for (around, count) in
            [(1, 1), (1, 128), (1, 129), (2, 512), (65, 65), (65, 128), (65, 192), (100, 129), (1, 4096)]
        {
            // etcd's checkTxnRequest: a transaction inside may have what the greatest count around it leaves of 128.
            let taken = match ops_inside(count, around) {
                None => count.max(around) <= 128,
                Some(inside) => inside > 0 && inside + count.div_ceil(inside).max(around) <= 128,
            };
            assert!(taken, "{count} operations after {around} compares: {:?}", ops_inside(count, around));
        }
    }
}
